//! Whatever happens to the bytes of a disk behind storage's back, it is noticed at the start or when
//! they are read, or it changes nothing. No byte is ever wrong, nothing is forgotten in silence, and a
//! segment becomes what it was from what a peer has.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::path::{Path, PathBuf};

use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Disk, Error, Event, Settings, SimDisk};
use kontiki_wire::GroupId;

use crate::rig::{
    append,
    byhand::{ByHand, State},
    entry, hard, numbered,
};

const GROUP: GroupId = GroupId(3);
/// What a disk may lose at a time.
const BLOCK_BYTES: usize = 4096;
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

/// The same for a host that knows that the directory was opened before.
fn begun() -> Settings {
    Settings {
        begun: true,
        ..settings()
    }
}

/// A storage with sealed segments and one that is not, two groups, several journal files, and a mark
/// after the last write.
fn grown() -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    let persist = Persist {
        hard: Some(hard(2, 9)),
        ..append(vec![entry(1, 1, &[9; 60]), entry(2, 2, &[8; 60])])
    };
    by_hand.queue(vec![(QUIET, persist)]);
    by_hand.hands.write();
    grow(&mut by_hand, 30);
    by_hand
}

/// The bytes of a file that say something, and some of those that do not.
fn telling(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..bytes.len()).filter(|&at| bytes[at] != 0 || at % 61 == 0)
}

/// Mostly zeros, so that few bytes tell much.
fn body(index: u64) -> Vec<u8> {
    let mut body = vec![0; 600 + 40 * (index % 14) as usize];
    body[..8].copy_from_slice(&index.to_be_bytes());
    body
}

fn grow(by_hand: &mut ByHand, last: u64) {
    let first = by_hand
        .model
        .now()
        .get(&GROUP)
        .map_or(1, |group| group.entries.len() as u64 + 1);
    for index in first..=last {
        by_hand.write(GROUP, vec![entry(index, 1 + index / 10, &body(index))]);
        by_hand.place(GROUP, index - 1);
        by_hand.hands.work();
    }
    by_hand.hands.idle();
    by_hand.hands.idle();
}

/// A storage that is closed cleanly, whose first group is in segments alone.
fn settled() -> ByHand {
    let mut by_hand = grown();
    by_hand.place(GROUP, 30);
    let (disk, model) = (by_hand.disk.clone(), by_hand.model.clone());
    by_hand.hands.close().unwrap();
    let (mut next, _) = ByHand::new(disk, settings());
    next.model = model;
    next
}

/// A path and what is in it.
type FileBytes = (PathBuf, Vec<u8>);

/// Files to be damaged: everything where the journal has much, segments where it has nothing.
fn victims() -> [(ByHand, Vec<FileBytes>); 2] {
    let (grown, settled) = (grown(), settled());
    let all = grown.disk.files();
    let mut segments = settled.disk.files();
    segments.retain(|(path, _)| path.starts_with("groups"));
    [(grown, all), (settled, segments)]
}

/// What became of a disk that was meddled with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Harmless,
    /// The journal is damaged, and says so.
    ReportedAtStart,
    /// Segments were damaged, and are as they were.
    Mended,
}

/// Starts on a disk that was sound before, reads everything, and has everything mended that is damaged.
/// Panics if something is wrong or missing in silence, or does not become what it was.
fn judge(disk: SimDisk, sound: &ByHand, what: &str) -> Verdict {
    let (mut next, recovered) = match ByHand::try_new(disk, settings()) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: {error}"),
    };
    if !recovered.damage.is_empty() {
        return Verdict::ReportedAtStart;
    }
    let truth = sound.model.now();
    let mut found = State::new();
    let mut verdict = Verdict::Harmless;
    for mut group in recovered.groups {
        let id = group.group;
        if !group.missing.is_empty() {
            verdict = Verdict::Mended;
            group = next.mend(id, &truth[&id], group.missing);
        }
        let model = loop {
            match next.try_read(&group) {
                Ok(model) => break model,
                Err(Error::Damaged { .. }) => verdict = Verdict::Mended,
                Err(error) => panic!("{what}: {error}"),
            }
            next.hands.work();
            next.listen();
            if let Some(Event::Damaged { missing, .. }) = next.said.pop() {
                group = next.mend(id, &truth[&id], missing);
            }
        };
        found.insert(id, model);
    }
    assert!(found == *truth, "{what}");
    assert_same_segments(&next.disk, &sound.disk, what);
    verdict
}

/// Every segment is what it was, byte for byte, but that what is in the journal may not be in a segment
/// yet; and nothing else is there.
fn assert_same_segments(disk: &SimDisk, sound: &SimDisk, what: &str) {
    let segments = |disk: &SimDisk| -> Vec<FileBytes> {
        let files = disk.files().into_iter();
        files
            .filter(|(path, _)| path.starts_with("groups"))
            .collect()
    };
    let sound = segments(sound);
    let found = segments(disk);
    let last_of = |dir: &Path, kind: &str| {
        let of_dir = found
            .iter()
            .filter(|(path, _)| path.starts_with(dir) && path.extension() == Some(kind.as_ref()));
        of_dir.map(|(path, _)| path.clone()).max()
    };
    for (path, bytes) in &found {
        let before = sound.iter().find(|(known, _)| known == path);
        let Some((_, before)) = before else {
            panic!("{what}: {} is new", path.display());
        };
        let kind = path.extension().unwrap().to_string_lossy();
        let is_last = last_of(path.parent().unwrap(), &kind).as_ref() == Some(path);
        assert!(
            bytes == before || is_last && before.starts_with(bytes),
            "{what}: {} is not what it was",
            path.display()
        );
    }
}

fn is_journal(path: &Path) -> bool {
    path.extension() == Some("journal".as_ref())
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let (mut noticed, mut mended) = (0, 0);
    for (by_hand, files) in victims() {
        for (path, bytes) in files {
            for at in telling(&bytes) {
                let disk = by_hand.disk.copied();
                disk.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8))
                    .unwrap();
                let what = format!(
                    "{} with byte {at} of {} flipped",
                    path.display(),
                    bytes.len()
                );
                let verdict = judge(disk, &by_hand, &what);
                noticed += u32::from(verdict != Verdict::Harmless);
                mended += u32::from(verdict == Verdict::Mended);
            }
        }
    }
    assert!(noticed > 1000, "{noticed}");
    assert!(mended > 500, "{mended}");
}

#[test]
fn every_zeroed_block_is_noticed_or_harmless() {
    for (by_hand, files) in victims() {
        for (path, bytes) in files {
            for at in (0..bytes.len()).step_by(BLOCK_BYTES / 16) {
                let disk = by_hand.disk.copied();
                let end = bytes.len().min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
                disk.edit(&path, |bytes| bytes[at..end].fill(0)).unwrap();
                judge(
                    disk,
                    &by_hand,
                    &format!("{} zeroed from {at} to {end}", path.display()),
                );
            }
        }
    }
}

#[test]
fn every_cut_file_is_noticed_or_harmless() {
    for (by_hand, files) in victims() {
        for (path, bytes) in files {
            for size in (0..bytes.len()).step_by(101) {
                let disk = by_hand.disk.copied();
                disk.edit(&path, |bytes| bytes.truncate(size)).unwrap();
                judge(disk, &by_hand, &format!("{} cut to {size}", path.display()));
            }
        }
    }
}

#[test]
fn every_missing_file_is_noticed_or_harmless() {
    use kontiki_storage::Disk;
    let mut verdicts = Vec::new();
    for (by_hand, files) in victims() {
        for (path, _) in files {
            let disk = by_hand.disk.copied();
            disk.remove(&path).unwrap();
            verdicts.push(judge(
                disk,
                &by_hand,
                &format!("{} missing", path.display()),
            ));
        }
    }
    let count = |verdict| verdicts.iter().filter(|one| **one == verdict).count();
    assert!(count(Verdict::ReportedAtStart) >= 2, "{verdicts:?}");
    assert!(count(Verdict::Mended) >= 2, "{verdicts:?}");
}

#[test]
fn every_two_files_that_changed_places_are_noticed_or_harmless() {
    let by_hand = grown();
    let files = by_hand.disk.files();
    for (at, (one, one_bytes)) in files.iter().enumerate() {
        for (other, other_bytes) in &files[at + 1..] {
            let disk = by_hand.disk.copied();
            disk.edit(one, |bytes| bytes.clone_from(other_bytes))
                .unwrap();
            disk.edit(other, |bytes| bytes.clone_from(one_bytes))
                .unwrap();
            let what = format!("{} and {} swapped", one.display(), other.display());
            judge(disk, &by_hand, &what);
        }
    }
}

#[test]
fn every_file_from_an_old_copy_is_noticed_or_harmless() {
    let mut by_hand = grown();
    let old = by_hand.disk.files();
    grow(&mut by_hand, 45);
    let newest = newest_journal(&by_hand.disk);
    for (path, old_bytes) in old.into_iter().filter(|(path, _)| *path != newest) {
        let disk = by_hand.disk.copied();
        // A file that is not there any more is not restored: only its contents could be.
        if disk.edit(&path, |bytes| *bytes = old_bytes).is_ok() {
            judge(disk, &by_hand, &format!("an old {}", path.display()));
        }
    }
}

/// The journal file that is written: the last one whose first frame was written for its place.
fn newest_journal(disk: &SimDisk) -> PathBuf {
    let begun = |(path, bytes): &(PathBuf, Vec<u8>)| {
        let number = path.file_stem().unwrap().to_string_lossy().parse::<u32>();
        number.is_ok()
            && is_journal(path)
            && bytes.get(8..12) == Some(&number.unwrap().to_le_bytes())
    };
    disk.files().into_iter().rfind(begun).unwrap().0
}

#[test]
fn damage_to_the_last_write_is_reported_once_a_mark_tells_of_it() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    by_hand.write(GROUP, vec![entry(1, 1, b"first")]);
    let before = by_hand.disk.files();
    by_hand.write(GROUP, vec![entry(2, 1, b"second")]);
    let after = by_hand.disk.files();
    let ((path, before), (_, after)) = before.iter().zip(&after).find(|(a, b)| a != b).unwrap();
    let at = (0..after.len())
        .find(|&at| before[at] != after[at])
        .unwrap();
    let flip = |disk: SimDisk| {
        disk.edit(path, |bytes| bytes[at] ^= 1).unwrap();
        ByHand::new(disk, settings()).1
    };
    let unmarked = flip(by_hand.disk.copied());
    assert_eq!(unmarked.damage, Vec::<String>::new());
    assert_eq!(
        unmarked.groups[0].last,
        Index(1),
        "it cannot be told from a torn write"
    );

    by_hand.hands.idle();
    let [sentence] = &flip(by_hand.disk.copied()).damage[..] else {
        panic!("one damage, one sentence");
    };
    let expected = format!(
        "{} is damaged at byte {at}: no frame begins here",
        path.display()
    );
    assert!(sentence.starts_with(&expected), "{sentence}");
}

/// The ways in which a disk loses a file, or what says that it is one.
const LOSSES: [fn(&SimDisk, &Path); 4] = [
    |disk, path| disk.remove(path).unwrap(),
    |disk, path| disk.edit(path, |bytes| bytes.fill(0)).unwrap(),
    |disk, path| disk.edit(path, Vec::clear).unwrap(),
    |disk, path| disk.edit(path, |bytes| bytes[20] ^= 1).unwrap(),
];

/// The disk without its small state, which knew of the newest journal file, and without that.
fn bereft(disk: &SimDisk, lose: fn(&SimDisk, &Path)) -> SimDisk {
    let disk = disk.copied();
    let newest = newest_journal(&disk);
    for (path, _) in disk.files() {
        if path == newest {
            lose(&disk, &path);
        } else if path.starts_with("state") {
            disk.remove(&path).unwrap();
        }
    }
    disk
}

#[test]
fn newest_journal_file_that_is_lost_with_the_small_state_is_missed() {
    let at_once = {
        let (mut by_hand, _) = ByHand::new(grown().disk, settings());
        by_hand.hands.idle();
        by_hand.hands.idle();
        by_hand
    };
    let begun_again = {
        let (mut by_hand, _) = ByHand::new(grown().disk, settings());
        by_hand.write(QUIET, vec![entry(3, 2, b"third")]);
        by_hand
    };
    let closed = {
        let by_hand = grown();
        let disk = by_hand.disk.clone();
        by_hand.hands.close().unwrap();
        ByHand::new(disk, settings()).0
    };
    for by_hand in [grown(), settled(), at_once, begun_again, closed] {
        for lose in LOSSES {
            let disk = bereft(&by_hand.disk, lose);
            let newest = newest_journal(&by_hand.disk);
            let (_, recovered) = ByHand::new(disk, begun());
            let [sentence] = &recovered.damage[..] else {
                panic!("{:?}", recovered.damage)
            };
            // Where no other file is left, it is the directory that is empty.
            let name = newest.display().to_string();
            let names_it = sentence.starts_with(&name) || sentence.starts_with("journal is empty");
            assert!(names_it, "{sentence}");
            assert!(recovered.groups.iter().all(|group| group.hard.recovering));
        }
    }
}

#[test]
fn newest_journal_file_is_missed_from_the_moment_that_anything_in_it_is_promised() {
    for calls in 0.. {
        let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
        let disk = by_hand.disk.clone();
        grow(&mut by_hand, 12);
        disk.end_after(calls);
        // Three files at once, and then some more.
        let writes = (3..=40).map(|index| (QUIET, append(vec![entry(index, 2, &[8; 900])])));
        let first = append(vec![entry(1, 1, b"first"), entry(2, 2, b"second")]);
        by_hand.queue(vec![(QUIET, first)]);
        writes.for_each(|write| by_hand.queue(vec![write]));
        by_hand.hands.write();
        grow(&mut by_hand, 20);
        by_hand.listen();
        let promised = by_hand.model.states[by_hand.durable].clone();
        let disk_after = disk.after_crash(|_| true);
        let sound = ByHand::new(disk_after.copied(), settings()).1;
        assert_eq!(sound.damage, Vec::<String>::new(), "after {calls} calls");
        for lose in LOSSES {
            let (next, recovered) = ByHand::new(bereft(&disk_after, lose), begun());
            if !recovered.damage.is_empty() {
                continue;
            }
            let found = next.found(&recovered);
            for (id, group) in &promised {
                let found = found.get(id).map_or(&[][..], |group| &group.entries);
                assert!(found.starts_with(&group.entries), "after {calls} calls");
            }
        }
        if !disk.has_ended() {
            assert!(calls > 30, "{calls}");
            return;
        }
    }
}

/// The newest journal file, damaged below what was synced.
fn with_a_damaged_journal() -> (ByHand, PathBuf) {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    by_hand.write(GroupId::CLUSTER, vec![entry(1, 1, b"a command")]);
    by_hand.write(QUIET, vec![entry(1, 1, &[9; 60])]);
    grow(&mut by_hand, 33);
    let path = newest_journal(&by_hand.disk);
    let harms = |at: &usize| {
        let disk = by_hand.disk.copied();
        disk.edit(&path, |bytes| bytes[*at] ^= 4).unwrap();
        !ByHand::new(disk, settings()).1.damage.is_empty()
    };
    let at = (128..8 << 10).find(harms).unwrap();
    by_hand.disk.edit(&path, |bytes| bytes[at] ^= 4).unwrap();
    (by_hand, path)
}

/// What a group writes when it counts again.
fn rejoined(group: &kontiki_storage::RecoveredGroup) -> Persist {
    Persist {
        hard: Some(kontiki_raft::Hard {
            recovering: false,
            ..group.hard
        }),
        ..append(Vec::new())
    }
}

fn set_aside(disk: &SimDisk) -> Vec<FileBytes> {
    let mut files = disk.files();
    files.retain(|(path, _)| path.extension() == Some("damaged".as_ref()));
    files
}

#[test]
fn damage_to_the_journal_makes_every_group_recover_however_often_it_starts() {
    let (by_hand, path) = with_a_damaged_journal();
    let bytes = by_hand.disk.files();
    let (_, damaged) = bytes.into_iter().find(|file| file.0 == path).unwrap();
    let mut aside = None;
    for start in 0..4 {
        let (mut next, recovered) = ByHand::new(by_hand.disk.clone(), settings());
        assert_eq!(recovered.damage.len(), 1, "{start}: {:?}", recovered.damage);
        for group in &recovered.groups {
            assert!(group.hard.recovering, "start {start}, {}", group.group);
        }
        let kept = set_aside(&by_hand.disk);
        assert!(kept.iter().any(|(_, bytes)| *bytes == damaged), "{start}");
        assert_eq!(aside.get_or_insert_with(|| kept.clone()), &kept, "{start}");
        next.model.states[0] = next.found(&recovered);
        let last = next.model.now()[&QUIET].entries.len() as u64;
        for index in last + 1..=last + 20 {
            next.write(QUIET, vec![entry(index, 9, &[3; 900])]);
            next.hands.work();
        }
    }
}

#[test]
fn damage_is_forgotten_when_the_last_group_counts_again() {
    let (by_hand, _) = with_a_damaged_journal();
    let (mut next, recovered) = ByHand::new(by_hand.disk.clone(), settings());
    let last = recovered.groups.len() - 1;
    for (at, group) in recovered.groups.iter().enumerate() {
        assert!(!set_aside(&by_hand.disk).is_empty());
        next.queue(vec![(group.group, rejoined(group))]);
        next.hands.work();
        let (_, again) = ByHand::new(by_hand.disk.copied(), settings());
        let recovering = again.groups.iter().filter(|one| one.hard.recovering);
        assert_eq!(recovering.count(), last - at);
        assert_eq!(again.damage.is_empty(), at == last);
    }
    assert!(set_aside(&by_hand.disk).is_empty());
}

#[test]
fn damage_is_forgotten_when_the_last_group_that_recovers_is_removed() {
    let (by_hand, _) = with_a_damaged_journal();
    let (mut next, recovered) = ByHand::new(by_hand.disk.clone(), settings());
    for group in recovered.groups.iter().filter(|one| one.group != QUIET) {
        next.queue(vec![(group.group, rejoined(group))]);
    }
    next.hands.work();
    assert!(!set_aside(&by_hand.disk).is_empty());
    next.storage.remove(QUIET);
    next.hands.work();
    assert!(set_aside(&by_hand.disk).is_empty());
}

#[test]
fn what_a_damaged_journal_has_of_a_past_that_was_replaced_does_not_follow_what_segments_have() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    by_hand.write(GROUP, (1..=3).map(|index| numbered(index, 1)).collect());
    by_hand.write(GROUP, (4..=6).map(|index| numbered(index, 5)).collect());
    let replacement = b"what was agreed on";
    let persist = Persist {
        truncate_from: Some(Index(4)),
        ..append(vec![entry(4, 4, replacement), numbered(5, 6)])
    };
    by_hand.queue(vec![(GROUP, persist)]);
    by_hand.hands.write();
    by_hand.listen();
    by_hand.place(GROUP, 5);
    let ByHand {
        disk,
        storage,
        hands,
        ..
    } = by_hand;
    hands.close().unwrap();
    drop(storage);
    let harmed = disk.files().into_iter().find_map(|(path, bytes)| {
        let found = bytes
            .windows(replacement.len())
            .position(|bytes| bytes == replacement);
        found.filter(|_| is_journal(&path)).map(|at| (path, at))
    });
    let (path, at) = harmed.unwrap();
    disk.edit(&path, |bytes| bytes[at] ^= 4).unwrap();
    for start in 0..2 {
        let (_, recovered) = ByHand::new(disk.clone(), settings());
        let [group] = &recovered.groups[..] else {
            panic!("{recovered:?}")
        };
        assert!(group.hard.recovering, "start {start}");
        let terms = group.terms.iter().map(|(first, term)| (first.0, term.0));
        assert_eq!(terms.collect::<Vec<_>>(), [(1, 1), (4, 4), (5, 6)]);
        assert_eq!(group.last, Index(5));
    }
}

#[test]
fn start_that_crashes_anywhere_after_damage_still_leaves_all_groups_recovering() {
    let (by_hand, _) = with_a_damaged_journal();
    for writes in 0..40 {
        let disk = by_hand.disk.copied();
        disk.end_after(writes);
        let done = ByHand::try_new(disk.clone(), settings()).is_ok();
        let (_, recovered) = ByHand::new(disk.after_crash(|_| false), settings());
        assert!(!recovered.damage.is_empty(), "after {writes} writes");
        assert!(recovered.groups.len() >= 3, "after {writes} writes");
        for group in &recovered.groups {
            assert!(group.hard.recovering, "{} after {writes}", group.group);
        }
        if done {
            return;
        }
    }
    panic!("a start writes less than that");
}

#[test]
fn empty_directory_that_had_begun_is_a_loss_until_the_clusters_own_group_counts_again() {
    let disk = SimDisk::default();
    for _ in 0..2 {
        let (_, recovered) = ByHand::new(disk.clone(), begun());
        assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
    }
    let (mut next, _) = ByHand::new(disk.clone(), begun());
    for (recovering, sentences) in [(true, 1), (false, 0)] {
        let hard = kontiki_raft::Hard {
            recovering,
            ..hard(1, 1)
        };
        let persist = Persist {
            hard: Some(hard),
            ..append(Vec::new())
        };
        next.queue(vec![(GroupId::CLUSTER, persist)]);
        next.hands.work();
        let (_, recovered) = ByHand::new(disk.copied(), begun());
        assert_eq!(recovered.damage.len(), sentences);
    }
}

#[test]
fn vote_beyond_damage_is_not_forgotten() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    by_hand.write(GROUP, vec![entry(1, 1, b"first")]);
    let before = by_hand.disk.files();
    by_hand.write(GROUP, vec![entry(2, 1, b"second")]);
    let after = by_hand.disk.files();
    let persist = Persist {
        hard: Some(hard(7, 2)),
        ..append(vec![])
    };
    by_hand.queue(vec![(GROUP, persist)]);
    by_hand.hands.write();
    let ((path, before), (_, after)) = before.iter().zip(&after).find(|(a, b)| a != b).unwrap();
    let at = (0..after.len())
        .find(|&at| before[at] != after[at])
        .unwrap();
    by_hand
        .disk
        .edit(path, |bytes| bytes[at + 70] ^= 1)
        .unwrap();
    let (_, recovered) = ByHand::new(by_hand.disk.copied(), settings());
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.groups[0].last, Index(1));
    let expected = kontiki_raft::Hard {
        recovering: true,
        ..hard(7, 2)
    };
    assert_eq!(recovered.groups[0].hard, expected);
}

#[test]
fn segment_damage_below_a_checkpoint_is_found_by_its_readers() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    grow(&mut by_hand, 20);
    let at = LogId {
        term: Term(1),
        index: Index(9),
    };
    by_hand.checkpoint(GROUP, at);
    grow(&mut by_hand, 45);
    let segment = |(path, _): &(PathBuf, Vec<u8>)| path.extension() == Some("segment".as_ref());
    let (path, bytes) = by_hand.disk.files().into_iter().find(segment).unwrap();
    by_hand.disk.edit(&path, |bytes| bytes[150] ^= 1).unwrap();
    assert!(bytes.len() > 300);
    let (next, recovered) = ByHand::new(by_hand.disk.copied(), settings());
    assert_eq!(recovered.damage, Vec::<String>::new());
    let log = next.storage.log(GROUP).unwrap();
    let error = log.entries(Index(1), Index(1), 100).unwrap_err();
    let expected = format!(
        "{} is damaged at byte 64: the checksum of entry 1 does not match its body",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        log.entries(Index(9), Index(9), 100).unwrap(),
        [entry(9, 1, &body(9))]
    );
}
