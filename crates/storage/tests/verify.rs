//! A walk over a directory finds whatever is damaged in it, says where, and changes nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Disk, Finding, Outlook, Settings, SimDisk, Verified, verify_on};
use kontiki_wire::{GroupId, Offset};

use crate::rig::{
    append,
    byhand::{self, ByHand, records},
    configuration, entry, hard,
};

const GROUP: GroupId = GroupId(3);
const QUIET: GroupId = GroupId(4);

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 16 << 10,
        segment_bytes: 3 << 10,
        hot_bytes_max: 0,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

/// Mostly zeros, so that few bytes tell much.
fn body(index: u64) -> Vec<u8> {
    if records(index) == 0 {
        return configuration(index);
    }
    let mut body = vec![0; 600 + 40 * (index % 14) as usize];
    body[..8].copy_from_slice(&index.to_be_bytes());
    body
}

/// Two groups, several sealed segments and one that is not, a checkpoint, a mark after the last write.
fn grown() -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    let persist = Persist {
        hard: Some(hard(2, 9)),
        ..append(vec![entry(1, 1, &[9; 60]), entry(2, 2, &[8; 60])])
    };
    by_hand.queue(vec![(QUIET, persist)]);
    by_hand.hands.write();
    for index in 1..=30 {
        by_hand.write(GROUP, vec![entry(index, 1 + index / 10, &body(index))]);
        by_hand.place(GROUP, index - 1);
        by_hand.hands.work();
        if index == 20 {
            let at = LogId {
                term: Term(1),
                index: Index(9),
            };
            by_hand.checkpoint(GROUP, at);
        }
    }
    by_hand.hands.idle();
    by_hand.hands.idle();
    by_hand
}

fn verify(disk: &SimDisk) -> Verified {
    verify_on(Arc::new(disk.clone()), Arc::new(|_, _| {})).unwrap()
}

/// Whether anything that was promised is not there any more, or is read differently.
fn hurts(disk: SimDisk, by_hand: &ByHand) -> bool {
    let Ok((next, recovered)) = ByHand::try_new(disk, settings()) else {
        return true;
    };
    !recovered.damage.is_empty()
        || recovered
            .groups
            .iter()
            .any(|group| !group.missing.is_empty())
        || !matches!(next.try_found(&recovered), Ok(found) if found == *by_hand.model.now())
}

/// The bytes of a file that say something, and some of those that do not; a third of them.
fn telling(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let tells = |at: &usize| bytes[*at] != 0 || at.is_multiple_of(61);
    (0..bytes.len()).filter(tells).step_by(3)
}

fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files()
}

const INDEX_HEADER_BYTES: usize = 32;
const MARK_BYTES: usize = 56;

fn indexes(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files(disk).into_iter();
    let is_index = |path: &PathBuf| path.extension() == Some("index".as_ref());
    let indexes: Vec<_> = files.filter(|(path, _)| is_index(path)).collect();
    assert!(indexes.len() > 3);
    indexes
}

#[test]
fn whole_directory_is_sound() {
    let by_hand = grown();
    let verified = verify(&by_hand.disk);
    assert_eq!(verified.findings, []);
    assert!(verified.is_sound());
    assert_eq!(verified.groups.len(), 2);
    let walked = &verified.groups[0];
    assert_eq!((walked.group, walked.last), (GROUP, Index(30)));
    assert!(walked.segments > 3 && walked.entries > 10, "{walked:?}");
}

/// A start goes on from the last mark of the index, whose entry has one already: also if that is a configuration.
#[test]
fn segments_that_grow_over_many_starts_are_marked_like_others() {
    let settings = Settings {
        settle_bytes_min: 1,
        apart_bytes_min: u64::MAX,
        ..settings()
    };
    let mut disk = SimDisk::default();
    let mut model = None;
    for index in 1..=30 {
        let (mut by_hand, _) = ByHand::new(disk, settings.clone());
        by_hand.model = model.take().unwrap_or(by_hand.model);
        by_hand.write(GROUP, vec![entry(index, 1, &body(index))]);
        by_hand.place(GROUP, index);
        let at = LogId {
            term: Term(1),
            index: Index(index),
        };
        by_hand.checkpoint(GROUP, at);
        by_hand.hands.work();
        disk = by_hand.disk.clone();
        model = Some(by_hand.model);
        by_hand.hands.close().unwrap();
    }
    let verified = verify(&disk);
    assert_eq!(verified.findings, []);
    assert!(verified.groups[0].segments > 3, "{:?}", verified.groups);
    // Two equal marks are read as one.
    for (path, bytes) in indexes(&disk) {
        let marks: Vec<_> = bytes[INDEX_HEADER_BYTES..].chunks(MARK_BYTES).collect();
        let twice = marks.windows(2).any(|two| two[0] == two[1]);
        assert!(!twice, "{}", path.display());
    }
}

#[test]
fn entry_that_an_earlier_build_marked_twice_is_no_damage() {
    let by_hand = grown();
    for (path, bytes) in indexes(&by_hand.disk) {
        let last = bytes[bytes.len() - MARK_BYTES..].to_vec();
        by_hand
            .disk
            .edit(&path, |bytes| bytes.extend(last))
            .unwrap();
    }
    assert_eq!(verify(&by_hand.disk).findings, []);
}

#[test]
fn every_flipped_bit_that_hurts_is_found() {
    let by_hand = grown();
    let mut found = 0;
    for (path, bytes) in files(&by_hand.disk) {
        for at in telling(&bytes) {
            let disk = by_hand.disk.copied();
            disk.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8))
                .unwrap();
            let before = files(&disk);
            let verified = verify(&disk);
            assert!(files(&disk) == before, "it changes nothing");
            found += u32::from(!verified.is_sound());
            if hurts(disk, &by_hand) {
                assert!(!verified.is_sound(), "byte {at} of {}", path.display());
            }
        }
    }
    assert!(found > 600, "{found}");
}

/// Whatever hurts is found, whatever is called sound does not hurt, and nothing is changed.
fn judge(disk: &SimDisk, by_hand: &ByHand, what: &str) -> Verified {
    let before = files(disk);
    let verified = verify(disk);
    assert!(files(disk) == before, "{what}: it changes nothing");
    if verified.is_sound() {
        assert!(!hurts(disk.copied(), by_hand), "{what}");
    }
    verified
}

#[test]
fn every_cut_zeroed_missing_or_swapped_file_that_hurts_is_found() {
    let by_hand = grown();
    let all = files(&by_hand.disk);
    let mut found = 0;
    let mut changed = |path: &Path, what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let disk = by_hand.disk.copied();
        disk.edit(path, change).unwrap();
        let what = format!("{} {what}", path.display());
        found += u32::from(!judge(&disk, &by_hand, &what).is_sound());
    };
    for (path, bytes) in &all {
        for at in (0..bytes.len()).step_by(307) {
            changed(path, &format!("cut to {at}"), &|bytes| bytes.truncate(at));
        }
        for at in (0..bytes.len()).step_by(512) {
            let end = bytes.len().min(at + 512);
            changed(path, &format!("zeroed from {at}"), &|bytes| {
                bytes[at..end].fill(0);
            });
        }
        for (other, content) in &all {
            let what = format!("with what {} has", other.display());
            changed(path, &what, &|bytes| bytes.clone_from(content));
        }
    }
    for (path, _) in &all {
        let disk = by_hand.disk.copied();
        disk.remove(path).unwrap();
        let what = format!("{} missing", path.display());
        found += u32::from(!judge(&disk, &by_hand, &what).is_sound());
    }
    assert!(found > 150, "{found}");
}

/// Writes to a disk until its power goes, after so many calls; false if it did not go.
fn until_the_power_goes(disk: &SimDisk, calls: u64) -> bool {
    disk.end_after(calls);
    let Ok((mut by_hand, _)) = ByHand::try_new(disk.clone(), settings()) else {
        return true;
    };
    for index in 1..=24 {
        by_hand.write(GROUP, vec![entry(index, 1 + index / 10, &body(index))]);
        if disk.has_ended() {
            return true;
        }
        by_hand.place(GROUP, index - 1);
        by_hand.hands.work();
    }
    by_hand.hands.idle();
    disk.has_ended()
}

#[test]
fn no_crash_is_taken_for_damage() {
    let mut calls = 0;
    loop {
        let disk = SimDisk::default();
        let ended = until_the_power_goes(&disk, calls);
        for keeps in 1..4_u64 {
            let mut asked = calls;
            let disk = disk.after_crash(|_| {
                asked += 1;
                ((asked * 2_654_435_761) >> 7).is_multiple_of(keeps)
            });
            let verified = verify(&disk);
            let damage: Vec<_> = verified.findings.iter().filter(|one| one.damage).collect();
            assert!(damage.is_empty(), "after {calls} calls: {damage:#?}");
        }
        if !ended {
            break;
        }
        calls += 1;
    }
    assert!(calls > 100, "{calls}");
}

/// The first sealed segment, its bytes, and where each of its frames begins.
fn first_segment(by_hand: &ByHand) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let is_segment = |path: &Path| path.extension() == Some("segment".as_ref());
    let mut all = files(&by_hand.disk).into_iter();
    let (path, bytes) = all.find(|(path, _)| is_segment(path)).unwrap();
    let mut frames = vec![64];
    while let Some(&at) = frames.last()
        && &bytes[at..at + 4] == b"KTKE"
    {
        let len = u32::from_le_bytes(bytes[at + 52..at + 56].try_into().unwrap());
        frames.push(at + 64 + len as usize);
    }
    frames.pop();
    (path, bytes, frames)
}

/// The one thing that is found once a segment was changed so.
fn only_finding(change: impl FnOnce(&mut Vec<u8>, &[usize])) -> Finding {
    // After a start, the journal has nothing of what segments keep.
    let (by_hand, _) = ByHand::new(grown().disk, settings());
    let (path, _, frames) = first_segment(&by_hand);
    let disk = by_hand.disk.copied();
    disk.edit(&path, |bytes| change(bytes, &frames)).unwrap();
    let mut findings = verify(&disk).findings;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.remove(0)
}

#[test]
fn exactly_what_cannot_be_read_is_named() {
    let body = only_finding(|bytes, frames| bytes[frames[2] + 70] ^= 1);
    assert_eq!(body.entries, Some((Index(3), Index(3))));
    let offset = |index| Offset(byhand::offset(index));
    assert_eq!(body.offsets, Some((offset(3), offset(4))));
    assert_eq!(body.what, "an entry's checksum does not match its body");
    assert_eq!((body.group, body.outlook), (Some(GROUP), Outlook::Mended));

    let header = only_finding(|bytes, frames| bytes[frames[2] + 20] ^= 1);
    assert_eq!(header.entries, body.entries);
    assert_eq!(header.offsets, body.offsets);
    assert_eq!(header.at, body.at);

    let two = only_finding(|bytes, frames| bytes[frames[0]..frames[1] + 30].fill(0));
    assert_eq!(two.entries, Some((Index(1), Index(2))));
    assert_eq!(two.at, Some(64));

    let footer = only_finding(|bytes, _| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(footer.what, "its footer is missing or not valid");
    assert_eq!((footer.entries, footer.outlook), (None, Outlook::Rebuilt));

    let header = only_finding(|bytes, _| bytes[20] ^= 1);
    assert_eq!((header.at, header.entries), (Some(0), None));
}

#[test]
fn journal_damage_is_named_with_its_file_and_byte() {
    let by_hand = grown();
    let mut named = 0;
    for (path, bytes) in files(&by_hand.disk) {
        let is_journal = path.extension() == Some("journal".as_ref());
        let begins = |at: &usize| is_journal && bytes[*at..].starts_with(b"KTKJ");
        for at in (64..bytes.len()).step_by(8).filter(begins) {
            let disk = by_hand.disk.copied();
            disk.edit(&path, |bytes| bytes[at + 20] ^= 1).unwrap();
            let findings = verify(&disk).findings;
            let Some(found) = findings.iter().find(|found| found.damage) else {
                // A frame of an earlier life of the file.
                continue;
            };
            assert_eq!((&found.path, found.at), (&path, Some(at as u64)));
            assert_eq!(found.outlook, Outlook::Rejoins, "{findings:?}");
            for lost in findings.iter().filter(|found| found.group == Some(GROUP)) {
                assert_eq!(
                    lost.entries.map(|(_, last)| last),
                    Some(Index(30)),
                    "{lost:?}"
                );
            }
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn a_walk_over_a_log_that_is_open_finds_what_is_missing() {
    let by_hand = grown();
    let (path, _, frames) = first_segment(&by_hand);
    let log = by_hand.storage.log(GROUP).unwrap();
    let walk = |first, last| log.walk(Index(first), Index(last), 0, u64::MAX);
    let whole = walk(1, 29).unwrap();
    assert_eq!((whole.upto, whole.entries), (Index(29), 29));
    assert_eq!(log.placed_upto(), Index(29));
    // Piece by piece it comes to the same.
    let mut digest = 0;
    let mut next = Index(1);
    while next <= Index(29) {
        let piece = log.walk(next, Index(29), digest, 1).unwrap();
        assert_eq!((piece.upto, piece.missing), (next, Vec::new()));
        (digest, next) = (piece.digest, next.next());
    }
    assert_eq!(digest, whole.digest);

    by_hand
        .disk
        .edit(&path, |bytes| bytes[frames[2] + 70] ^= 1)
        .unwrap();
    let before = walk(1, 29).unwrap();
    assert_eq!((before.upto, before.entries), (Index(2), 2));
    assert!(before.met.is_some());
    assert!(walk(3, 29).unwrap_err().is_damage());
    let mut by_hand = by_hand;
    by_hand.hands.work();
    let after = walk(2, 29).unwrap();
    assert_eq!(after.missing, [(Index(3), Index(3))]);
    assert_eq!((after.upto, after.entries), (Index(29), 27));
}
