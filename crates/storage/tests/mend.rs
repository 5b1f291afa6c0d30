//! What is missing after damage to segments, told exactly, and how it comes back: from whatever peers
//! give, in any order, through any crash.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use kontiki_raft::{Index, LogId, Term};
use kontiki_storage::{Disk, Event, Recovered, RecoveredGroup, Settings, SimDisk};
use kontiki_wire::{GroupId, Offset, PlacedEntry};

use crate::rig::{
    byhand::{ByHand, GroupModel, offset, records},
    config_of, configuration, entry,
};

const GROUP: GroupId = GroupId(3);
const LAST: u64 = 40;

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 16 << 10,
        segment_bytes: 3 << 10,
        hot_bytes_max: 0,
        apart_bytes_min: u64::MAX,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

fn body(index: u64) -> Vec<u8> {
    if records(index) == 0 {
        return configuration(index);
    }
    let mut body = vec![index as u8; 200 + 40 * (index % 14) as usize];
    body[..8].copy_from_slice(&index.to_be_bytes());
    body
}

fn at(index: u64) -> LogId {
    LogId {
        term: Term(1 + index / 10),
        index: Index(index),
    }
}

/// A storage whose entries are all in segments, most of them below a checkpoint, and closed cleanly.
fn grown() -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    for index in 1..=LAST {
        by_hand.write(GROUP, vec![entry(index, at(index).term.0, &body(index))]);
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    by_hand.checkpoint(GROUP, at(LAST - 3));
    by_hand.hands.idle();
    by_hand.hands.idle();
    let model = by_hand.model.clone();
    let disk = by_hand.disk.clone();
    by_hand.hands.close().unwrap();
    let (mut next, recovered) = ByHand::new(disk, settings());
    assert_eq!(recovered.groups[0].missing, []);
    next.model = model;
    next
}

fn truth(by_hand: &ByHand) -> &GroupModel {
    &by_hand.model.now()[&GROUP]
}

/// The segments' files, with the first and the last entry of each.
fn segments(disk: &SimDisk) -> Vec<(PathBuf, u64, u64)> {
    let is_segment = |path: &PathBuf| path.extension() == Some("segment".as_ref());
    let paths: Vec<PathBuf> = disk.files().into_iter().map(|(path, _)| path).collect();
    let paths: Vec<PathBuf> = paths.into_iter().filter(is_segment).collect();
    let first = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<u64>();
    let firsts: Vec<u64> = paths.iter().map(|path| first(path).unwrap()).collect();
    let ends = firsts.iter().skip(1).map(|next| next - 1).chain([LAST]);
    let firsts = firsts.iter().copied();
    let ranges = firsts.zip(ends).collect::<Vec<_>>();
    paths
        .into_iter()
        .zip(ranges)
        .map(|(path, (first, last))| (path, first, last))
        .collect()
}

/// Where an entry's frame begins.
fn position(disk: &SimDisk, index: u64) -> (PathBuf, usize) {
    let all = segments(disk);
    let (path, first, _) = all
        .into_iter()
        .rfind(|(_, first, _)| *first <= index)
        .unwrap();
    let before = (first..index).map(|index| 64 + body(index).len());
    (path, 64 + before.sum::<usize>())
}

fn groups_files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let files = disk.files().into_iter();
    files
        .filter(|(path, _)| path.starts_with("groups"))
        .collect()
}

fn only(recovered: Recovered) -> RecoveredGroup {
    assert_eq!(recovered.damage, Vec::<String>::new());
    let [group] = <[RecoveredGroup; 1]>::try_from(recovered.groups).unwrap();
    group
}

fn ranges(missing: &[(Index, Index)]) -> Vec<(u64, u64)> {
    missing
        .iter()
        .map(|(first, last)| (first.0, last.0))
        .collect()
}

/// Damages the disk of a storage that is closed; what a start finds missing, and the storage that was
/// started. Whatever is missing then comes back byte for byte.
fn missing_after(damage: impl FnOnce(&SimDisk)) -> Vec<(u64, u64)> {
    let sound = grown();
    let disk = sound.disk.copied();
    damage(&disk);
    let (mut next, recovered) = ByHand::new(disk, settings());
    let group = only(recovered);
    let missing = ranges(&group.missing);
    if !missing.is_empty() {
        let mended = next.mend(GROUP, truth(&sound), group.missing);
        assert_eq!(next.try_read(&mended).unwrap(), *truth(&sound));
    }
    assert!(groups_files(&next.disk) == groups_files(&sound.disk));
    missing
}

#[test]
fn segment_that_is_gone_is_missing_from_its_first_entry_to_its_last() {
    let sound = grown();
    let all = segments(&sound.disk);
    assert!(all.len() > 4, "{all:?}");
    for (path, first, last) in &all {
        assert_eq!(
            missing_after(|disk| disk.remove(path).unwrap()),
            [(*first, *last)]
        );
    }
    let (path, first, _) = &all[1];
    let (next, _, last) = &all[2];
    let both = missing_after(|disk| {
        disk.remove(path).unwrap();
        disk.remove(next).unwrap();
    });
    // Their indexes still tell where one ended.
    assert_eq!(both, [(*first, all[1].2), (all[2].1, *last)]);
}

#[test]
fn segment_that_holds_another_is_missing() {
    let sound = grown();
    let all = segments(&sound.disk);
    let bytes = |path: &Path| {
        let mut files = sound.disk.files().into_iter();
        files.find(|(known, _)| known == path).unwrap().1
    };
    let (one, first, last) = &all[1];
    let (other, other_first, other_last) = &all[3];
    let swapped = missing_after(|disk| {
        disk.edit(one, |held| *held = bytes(other)).unwrap();
        disk.edit(other, |held| *held = bytes(one)).unwrap();
    });
    assert_eq!(swapped, [(*first, *last), (*other_first, *other_last)]);
}

#[test]
fn lost_header_or_footer_is_written_anew_without_anybodys_help() {
    let sound = grown();
    for (path, ..) in segments(&sound.disk) {
        let header = missing_after(|disk| {
            disk.edit(&path, |bytes| bytes[20] ^= 1).unwrap();
        });
        assert_eq!(header, []);
        let end = missing_after(|disk| {
            disk.edit(&path, |bytes| *bytes.last_mut().unwrap() ^= 1)
                .unwrap();
        });
        let is_tail = Some(&path) == segments(&sound.disk).last().map(|(path, ..)| path);
        assert!(end.is_empty() || is_tail, "{end:?}");
    }
}

#[test]
fn lost_index_is_made_anew_when_it_is_needed() {
    let sound = grown();
    let indexes = groups_files(&sound.disk).into_iter();
    let indexes = indexes.filter(|(path, _)| path.extension() == Some("index".as_ref()));
    for (path, _) in indexes {
        let disk = sound.disk.copied();
        disk.remove(&path).unwrap();
        let (next, recovered) = ByHand::new(disk, settings());
        let group = only(recovered);
        assert_eq!(group.missing, []);
        assert_eq!(next.try_read(&group).unwrap(), *truth(&sound));
        assert!(groups_files(&next.disk) == groups_files(&sound.disk));
    }
}

/// Damages the frames of some entries; what readers find missing.
fn found_by_reading(indexes: &[u64], byte: usize) -> Vec<(u64, u64)> {
    let sound = grown();
    let disk = sound.disk.copied();
    for &index in indexes {
        let (path, at) = position(&disk, index);
        disk.edit(&path, |bytes| bytes[at + byte] ^= 1).unwrap();
    }
    let (mut next, recovered) = ByHand::new(disk, settings());
    let group = only(recovered);
    assert_eq!(
        group.missing,
        [],
        "a start reads nothing but configurations of what is sealed"
    );
    let mut missing = Vec::new();
    let mut mended = group;
    loop {
        let read = next.try_read(&mended);
        next.hands.work();
        next.listen();
        match (read, next.said.pop()) {
            (Ok(model), None) => {
                assert_eq!(model, *truth(&sound));
                break;
            }
            (Err(_), Some(Event::Damaged { missing: more, .. })) => {
                missing.extend(ranges(&more));
                mended = next.mend(GROUP, truth(&sound), more);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(groups_files(&next.disk) == groups_files(&sound.disk));
    missing
}

#[test]
fn one_damaged_entry_is_missing_and_its_neighbours_are_not() {
    // In the header, and in the body.
    for byte in [0, 30, 64, 150] {
        assert_eq!(found_by_reading(&[7], byte), [(7, 7)]);
        assert_eq!(found_by_reading(&[1], byte), [(1, 1)]);
        assert_eq!(found_by_reading(&[7, 8, 31], byte), [(7, 8), (31, 31)]);
    }
}

#[test]
fn damage_at_run_time_leaves_what_is_not_in_segments_where_it_is() {
    let mut by_hand = grown();
    let sound = by_hand.disk.copied();
    let (path, at) = position(&by_hand.disk, 7);
    by_hand
        .disk
        .edit(&path, |bytes| bytes[at + 70] ^= 1)
        .unwrap();
    by_hand.write(GROUP, vec![entry(LAST + 1, 9, b"durable")]);
    let log = by_hand.storage.log(GROUP).unwrap();
    let reading = log.read(Offset(offset(7)), Offset(offset(8)), 10);
    assert!(reading.unwrap_err().to_string().contains("entry 7"));
    assert!(log.read(Offset(offset(9)), Offset(offset(10)), 10).is_ok());
    by_hand.hands.work();
    by_hand.listen();
    let Some(Event::Damaged {
        group,
        missing,
        what,
    }) = by_hand.said.pop()
    else {
        panic!("nothing was said");
    };
    assert_eq!((group, ranges(&missing)), (GROUP, vec![(7, 7)]));
    assert!(what.contains(path.to_str().unwrap()), "{what}");
    // What was on its way when the damage was found.
    by_hand.write(GROUP, vec![entry(LAST + 2, 9, b"too")]);
    by_hand.place(GROUP, LAST + 1);
    by_hand.hands.work();

    let model = truth(&by_hand).clone();
    let mended = by_hand.mend(GROUP, &model, missing);
    assert_eq!(by_hand.try_read(&mended).unwrap(), model);
    assert_eq!(mended.checkpoint.unwrap().0, at_checkpoint());
    assert!(groups_files(&by_hand.disk) == groups_files(&sound));

    // It goes on as if nothing had been.
    by_hand.write(GROUP, vec![entry(LAST + 3, 9, &[1; 900])]);
    by_hand.place(GROUP, LAST + 3);
    by_hand.hands.work();
    by_hand.read_group(GROUP);
    let disk = by_hand.disk.clone();
    let model = by_hand.model.clone();
    by_hand.hands.close().unwrap();
    let (mut next, recovered) = ByHand::new(disk, settings());
    assert_eq!(recovered.groups[0].missing, []);
    next.model = model;
    next.read_group(GROUP);
}

#[test]
fn damage_found_while_a_mending_ends_is_told_after_its_end() {
    let mut by_hand = grown();
    let sound = by_hand.disk.copied();
    let [first, second] = [7, 29].map(|index| {
        let (path, at) = position(&by_hand.disk, index);
        let damage = |bytes: &mut Vec<u8>| bytes[at + 70] ^= 1;
        by_hand.disk.edit(&path, damage).unwrap();
        path
    });
    assert_ne!(first, second, "each is in a segment of its own");
    let log = by_hand.storage.log(GROUP).unwrap();
    let read = |index| log.read(Offset(offset(index)), Offset(offset(index + 1)), 10);
    read(7).unwrap_err();
    by_hand.hands.work();
    let model = truth(&by_hand).clone();
    by_hand.storage.mend(GROUP, vec![model.placed(7)]);
    // The journal's thread is busy elsewhere.
    while by_hand.hands.settle() {}
    read(29).unwrap_err();
    while by_hand.hands.settle() {}
    by_hand.hands.work();
    by_hand.listen();
    let [
        Event::Damaged { .. },
        Event::Mended(whole),
        Event::Damaged { missing, .. },
    ] = &by_hand.said[..]
    else {
        panic!("{:?}", by_hand.said);
    };
    assert_eq!(whole.missing, []);
    assert_eq!(ranges(missing), [(29, 29)]);
    let missing = missing.clone();
    by_hand.mend(GROUP, &model, missing);
    assert!(groups_files(&by_hand.disk) == groups_files(&sound));
}

fn at_checkpoint() -> LogId {
    at(LAST - 3)
}

#[test]
fn crash_at_any_call_of_a_mending_leaves_what_can_be_mended() {
    let sound = grown();
    let all = segments(&sound.disk);
    let damaged = sound.disk.copied();
    damaged.remove(&all[1].0).unwrap();
    damaged
        .edit(&all[3].0, |bytes| bytes[30..900].fill(0))
        .unwrap();
    let mut crashes = 0;
    for calls in 0.. {
        let disk = damaged.copied();
        let (mut next, recovered) = ByHand::new(disk.clone(), settings());
        let mut missing = only(recovered).missing;
        disk.end_after(calls);
        while !missing.is_empty() && next.failed.is_none() {
            let (first, last) = missing[0];
            let entries = (first.0..=last.0).map(|index| truth(&sound).placed(index));
            next.storage.mend(GROUP, entries.collect());
            next.hands.work();
            next.listen();
            missing = match next.said.pop() {
                Some(Event::Mending { missing, .. }) => missing,
                _ => Vec::new(),
            };
        }
        if !disk.has_ended() {
            break;
        }
        crashes += 1;
        for keeps in 0..4 {
            let mut asked = 0;
            let after = disk.after_crash(|_| {
                asked += 1;
                match keeps {
                    0 => false,
                    1 => true,
                    parity => asked % 2 == parity % 2,
                }
            });
            let (mut again, recovered) = ByHand::new(after, settings());
            let mut group = only(recovered);
            if !group.missing.is_empty() {
                group = again.mend(GROUP, truth(&sound), group.missing);
            }
            assert_eq!(again.try_read(&group).unwrap(), *truth(&sound));
            assert!(groups_files(&again.disk) == groups_files(&sound.disk));
        }
    }
    assert!(crashes > 15, "{crashes}");
}

/// A storage of which entries 5 to 9 are damaged where they are.
fn started_without_some() -> (ByHand, ByHand, Vec<(Index, Index)>) {
    let sound = grown();
    let disk = sound.disk.copied();
    let (path, first, last) = segments(&disk).swap_remove(1);
    let (_, from) = position(&disk, first + 1);
    disk.edit(&path, |bytes| {
        bytes[from..from + 100].fill(0);
        // So that the start looks.
        bytes[10] ^= 1;
    })
    .unwrap();
    let (next, recovered) = ByHand::new(disk, settings());
    let missing = only(recovered).missing;
    assert_eq!(ranges(&missing), [(first + 1, first + 1)]);
    assert!(last > first + 2);
    (sound, next, missing)
}

fn said(by_hand: &mut ByHand, entries: Vec<PlacedEntry>) -> Event {
    by_hand.storage.mend(GROUP, entries);
    by_hand.hands.work();
    by_hand.listen();
    by_hand.said.pop().unwrap()
}

#[test]
fn what_is_not_missing_or_not_what_it_says_is_not_taken() {
    let (sound, mut next, missing) = started_without_some();
    let index = missing[0].0.0;
    let still_missing = |event| match event {
        Event::Mending {
            missing,
            refused: None,
            ..
        } => ranges(&missing),
        other => panic!("{other:?}"),
    };
    let others = [index - 1, index + 1, 39].map(|index| truth(&sound).placed(index));
    assert_eq!(
        still_missing(said(&mut next, others.into())),
        ranges(&missing)
    );
    let mut altered = truth(&sound).placed(index);
    altered.entry.body = Bytes::from_static(b"altered");
    assert_eq!(
        still_missing(said(&mut next, vec![altered])),
        ranges(&missing)
    );
    let mended = said(&mut next, vec![truth(&sound).placed(index)]);
    assert!(matches!(mended, Event::Mended(_)), "{mended:?}");
    assert!(groups_files(&next.disk) == groups_files(&sound.disk));
}

#[test]
fn entry_that_contradicts_its_neighbours_is_refused_and_fetched_again() {
    let sound_entry = |sound: &ByHand, index| truth(sound).placed(index);
    type Change = fn(&mut PlacedEntry);
    let changes: [Change; 5] = [
        |placed| placed.offset = Offset(placed.offset.0 + 1),
        |placed| placed.count += 1,
        |placed| placed.entry.id.term = Term(99),
        |placed| placed.entry.time.0 += 1,
        |placed| {
            placed.entry.body = Bytes::from_static(b"another");
            placed.entry.checksum = crc32c::crc32c(b"another");
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let (sound, mut next, missing) = started_without_some();
        let mut wrong = sound_entry(&sound, missing[0].0.0);
        change(&mut wrong);
        let before = groups_files(&next.disk);
        let event = said(&mut next, vec![wrong]);
        let Event::Mending {
            missing, refused, ..
        } = event
        else {
            panic!("change {at}: {event:?}");
        };
        assert!(refused.is_some(), "change {at}");
        let segments = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
            let is_segment = |path: &Path| path.extension() == Some("segment".as_ref());
            files
                .into_iter()
                .filter(|(path, _)| is_segment(path))
                .collect()
        };
        assert!(
            segments(groups_files(&next.disk)) == segments(before),
            "change {at}"
        );
        let model = truth(&sound).clone();
        let mended = next.mend(GROUP, &model, missing);
        assert_eq!(next.try_read(&mended).unwrap(), model);
        assert!(groups_files(&next.disk) == groups_files(&sound.disk));
    }
}

#[test]
fn member_that_is_damaged_itself_gives_what_is_sound() {
    let (sound, next, missing) = started_without_some();
    let lost = missing[0].0;
    let log = next.storage.log(GROUP).unwrap();
    let mut index = Index(1);
    let mut given = Vec::new();
    loop {
        let found = log.placed(index, Index(LAST)).unwrap();
        let Some(last) = found.last() else { break };
        index = last.entry.id.index.next();
        given.extend(found);
    }
    let expected: Vec<_> = (1..=LAST)
        .filter(|index| *index != lost.0)
        .map(|index| truth(&sound).placed(index))
        .collect();
    assert!(given == expected);
    assert_eq!(log.placed(lost, lost).unwrap(), []);
    assert_eq!(log.placed(Index(LAST + 1), Index(LAST + 5)).unwrap(), []);
}

#[test]
fn member_that_meets_its_own_damage_does_not_say_that_it_has_nothing() {
    let mut sound = grown();
    let (path, at_byte) = position(&sound.disk, 20);
    let (_, first, last) = segments(&sound.disk)
        .into_iter()
        .find(|(one, ..)| *one == path)
        .unwrap();
    assert!(first < 20 && 20 < last, "it has neighbours on both sides");
    sound
        .disk
        .edit(&path, |bytes| bytes[at_byte + 70] ^= 1)
        .unwrap();
    let log = sound.storage.log(GROUP).unwrap();
    let met = log.placed(Index(20), Index(last)).unwrap_err();
    assert!(met.is_damage(), "{met}");
    sound.hands.work();
    let found = log.placed(Index(20), Index(last)).unwrap();
    assert_eq!(found[0].entry.id.index, Index(21), "the rest is sound");
    assert_eq!(log.placed(Index(20), Index(20)).unwrap(), []);
}

#[test]
fn record_that_holds_frames_passes_for_none() {
    // Entry 2 holds a frame of entry 3 that never was.
    let forged = {
        let (mut other, _) = ByHand::new(SimDisk::default(), settings());
        for index in 1..=3 {
            let body = if index == 3 {
                b"forged".to_vec()
            } else {
                body(index)
            };
            other.write(GROUP, vec![entry(index, 1, &body)]);
            other.place(GROUP, index);
        }
        let disk = other.disk.clone();
        other.hands.close().unwrap();
        let (path, at) = position(&disk, 3);
        let files = disk.files();
        let (_, bytes) = files.iter().find(|(known, _)| *known == path).unwrap();
        bytes[at..at + 64 + 6].to_vec()
    };
    let bodies = [body(1), [&[1; 50][..], &forged].concat(), body(3), body(4)];
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    for (index, body) in (1..).zip(&bodies) {
        by_hand.write(GROUP, vec![entry(index, 1, body)]);
        by_hand.place(GROUP, index);
    }
    let model = by_hand.model.now()[&GROUP].clone();
    let disk = by_hand.disk.clone();
    by_hand.hands.close().unwrap();
    // From the next start on, the journal has none of it.
    drop(ByHand::new(disk.clone(), settings()));
    let sound = disk.copied();
    let path = segments(&disk).swap_remove(0).0;
    disk.edit(&path, |bytes| bytes[64 + 64 + bodies[0].len() + 5] ^= 1)
        .unwrap();
    let (mut next, recovered) = ByHand::new(disk, settings());
    let group = only(recovered);
    assert_eq!(ranges(&group.missing), [(2, 2)], "it seems to be there");
    let mended = next.mend(GROUP, &model, group.missing);
    assert_eq!(next.try_read(&mended).unwrap(), model);
    assert!(groups_files(&next.disk) == groups_files(&sound));
    assert!(records(2) == 0 && records(3) == 3);
}

#[test]
fn directory_that_is_gone_comes_back_in_segments_of_their_usual_size() {
    let sound = grown();
    let disk = sound.disk.copied();
    disk.remove_dir(Path::new("groups/3")).unwrap();
    let (mut next, recovered) = ByHand::new(disk, settings());
    let mut missing = only(recovered).missing;
    assert_eq!(ranges(&missing), [(1, LAST)]);
    let mended = loop {
        let (first, last) = missing[0];
        let entries = (first.0..=last.0.min(first.0 + 2)).map(|at| truth(&sound).placed(at));
        match said(&mut next, entries.collect()) {
            Event::Mending {
                missing: left,
                refused,
                ..
            } => {
                assert_eq!(refused, None);
                missing = left;
            }
            Event::Mended(mended) => break mended,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(next.try_read(&mended).unwrap(), *truth(&sound));
    let sizes = groups_files(&next.disk)
        .into_iter()
        .map(|(_, bytes)| bytes.len() as u64);
    assert!(sizes.max() < Some(2 * settings().segment_bytes));
    let (again, recovered) = ByHand::new(next.disk.copied(), settings());
    let group = only(recovered);
    assert_eq!(group.missing, []);
    assert_eq!(again.try_read(&group).unwrap(), *truth(&sound));
}

#[test]
fn group_that_is_removed_while_it_is_mended_is_gone() {
    let (sound, mut next, missing) = started_without_some();
    next.storage.remove(GROUP);
    let entries = vec![truth(&sound).placed(missing[0].0.0)];
    next.storage.mend(GROUP, entries);
    next.hands.work();
    next.listen();
    assert!(next.failed.is_none(), "{:?}", next.failed);
    assert_eq!(groups_files(&next.disk), []);
}

/// Segments had kept all of it, but are cut where the journal has the rest still: so far the small state
/// must not reach, or nobody places what lies between.
#[test]
fn checkpoint_beyond_what_is_mended_is_not_told() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    let grow = |by_hand: &mut ByHand, group, upto: u64| {
        let from = by_hand.model.placed.get(&group).copied().unwrap_or(0) + 1;
        for index in from..=upto {
            by_hand.write(group, vec![entry(index, at(index).term.0, &body(index))]);
            by_hand.place(group, index);
            by_hand.hands.work();
        }
    };
    let (other, holding) = (GroupId(7), GroupId(9));
    grow(&mut by_hand, GROUP, 3);
    grow(&mut by_hand, other, 60);
    by_hand.write(holding, vec![entry(1, 1, &body(1))]);
    grow(&mut by_hand, GROUP, 6);
    by_hand.checkpoint(GROUP, at(5));
    // The next journal file tells that all of it is kept; this one stays, for the sake of one entry.
    grow(&mut by_hand, other, 110);
    let truth = truth(&by_hand).clone();
    let disk = by_hand.disk.after_crash(|_| true);
    let path = segments(&disk).swap_remove(0).0;
    let is_damaged = |bytes: &mut Vec<u8>| {
        // So that the start looks.
        bytes[10] ^= 1;
        bytes[64 + 64 + body(1).len()..].fill(0);
    };
    disk.edit(&path, is_damaged).unwrap();
    let (mut next, recovered) = ByHand::new(disk, settings());
    let groups = recovered.groups.into_iter();
    let found = groups.filter(|group| group.group == GROUP).last().unwrap();
    assert_eq!(ranges(&found.missing), [(2, 3)]);
    assert_eq!((found.last, found.checkpoint), (Index(6), None));
    let group = next.mend(GROUP, &truth, found.missing);
    assert_eq!(next.try_read(&group).unwrap(), truth);
}

/// All entries in one segment that is not sealed, with room for marks between them.
fn open_segment(body: impl Fn(u64) -> Vec<u8>) -> ByHand {
    let settings = Settings {
        segment_bytes: 1 << 20,
        ..settings()
    };
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings);
    for index in 1..=LAST {
        by_hand.write(GROUP, vec![entry(index, 1, &body(index))]);
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    let (disk, model, settings) = (
        by_hand.disk.clone(),
        by_hand.model.clone(),
        by_hand.settings.clone(),
    );
    by_hand.hands.close().unwrap();
    let (mut next, _) = ByHand::new(disk, settings);
    next.model = model;
    next
}

/// Loses the journal and damages the segment; what a start finds missing, and the last entry that it finds.
/// Whatever is missing comes back byte for byte.
fn missing_without_a_journal(
    sound: &ByHand,
    damage: impl FnOnce(&SimDisk),
) -> (Vec<(u64, u64)>, u64) {
    let disk = sound.disk.copied();
    damage(&disk);
    for (path, _) in disk.files() {
        if path.starts_with("journal") || path.starts_with("state") {
            disk.remove(&path).unwrap();
        }
    }
    let begun = Settings {
        begun: true,
        ..sound.settings.clone()
    };
    let (mut next, recovered) = ByHand::new(disk, begun);
    assert!(!recovered.damage.is_empty());
    let [group] = <[RecoveredGroup; 1]>::try_from(recovered.groups).unwrap();
    assert!(group.hard.recovering);
    let (missing, last) = (ranges(&group.missing), group.last.0);
    let mended = match missing.is_empty() {
        true => group,
        false => next.mend(GROUP, truth(sound), group.missing),
    };
    let entries = next.try_read(&mended).unwrap().entries;
    assert_eq!(entries, truth(sound).entries[..entries.len()]);
    assert_eq!(entries.len() as u64, last);
    (missing, last)
}

/// Entries of 5 KiB, so that a mark stands before every thirteenth or so.
fn long(index: u64) -> Vec<u8> {
    vec![index as u8; LONG_BYTES]
}

const LONG_BYTES: usize = 5 << 10;

/// Where the frame of one of those begins.
fn long_position(disk: &SimDisk, index: u64) -> (PathBuf, usize) {
    let (path, ..) = segments(disk).remove(0);
    (path, 64 + (index as usize - 1) * (64 + LONG_BYTES))
}

#[test]
fn what_stands_behind_damage_is_kept_when_the_journal_is_lost_as_well() {
    let sound = open_segment(long);
    let flip = |disk: &SimDisk, index: u64, byte: usize| {
        let (path, at) = long_position(disk, index);
        disk.edit(&path, |bytes| bytes[at + byte] ^= 1).unwrap();
    };
    let index_path = |disk: &SimDisk| long_position(disk, 1).0.with_extension("index");
    let bodies = missing_without_a_journal(&sound, |disk| {
        flip(disk, 7, 100);
        flip(disk, 20, 100);
        disk.remove(&index_path(disk)).unwrap();
    });
    assert_eq!(bodies, (vec![(7, 7), (20, 20)], LAST));
    let headers = missing_without_a_journal(&sound, |disk| {
        flip(disk, 7, 20);
        flip(disk, 8, 20);
        flip(disk, 20, 20);
    });
    assert_eq!(headers, (vec![(7, 8), (20, 20)], LAST));
    let first = missing_without_a_journal(&sound, |disk| {
        let (path, at) = long_position(disk, 1);
        disk.edit(&path, |bytes| bytes[..at + 80].fill(0)).unwrap();
    });
    assert_eq!(first, (vec![(1, 1)], LAST));
    // Nothing but a mark tells where an entry begins behind a header that cannot be read.
    let unmarked = missing_without_a_journal(&sound, |disk| {
        flip(disk, 20, 20);
        disk.remove(&index_path(disk)).unwrap();
    });
    assert_eq!(unmarked, (vec![], 19));
}

#[test]
fn records_that_look_like_entries_do_not_make_a_segment_longer() {
    let pattern = open_segment(long);
    let (path, at) = long_position(&pattern.disk, 21);
    let files = pattern.disk.files();
    let frame = &files.iter().find(|(known, _)| *known == path).unwrap().1[at..at + 64];
    // A sound frame without a body, of whatever entry.
    let forged = |index: u64| {
        let mut frame = frame.to_vec();
        frame[16..24].copy_from_slice(&index.to_le_bytes());
        frame[52..56].fill(0);
        frame[56..60].copy_from_slice(&crc32c::crc32c(&[]).to_le_bytes());
        let checksum = crc32c::crc32c(&frame[..60]);
        frame[60..64].copy_from_slice(&checksum.to_le_bytes());
        frame
    };
    let with_forgeries = |index| {
        let mut body = long(index);
        if index == 20 {
            body[100..164].copy_from_slice(&forged(21));
            body[164..228].copy_from_slice(&forged(1 << 40));
            body[300..364].copy_from_slice(&forged(30));
        }
        body
    };
    let sound = open_segment(with_forgeries);
    let (missing, last) = missing_without_a_journal(&sound, |disk| {
        let (path, at) = long_position(disk, 20);
        disk.edit(&path, |bytes| bytes[at + 20] ^= 1).unwrap();
    });
    assert_eq!(last, LAST);
    assert_eq!(missing[0].0, 20);
    assert!(missing.iter().all(|(_, last)| *last <= LAST), "{missing:?}");
}

#[test]
fn configurations_are_told_whatever_of_indexes_and_small_state_is_lost() {
    let sound = grown();
    let all = truth(&sound).entries.iter().filter_map(config_of);
    let all: BTreeMap<_, _> = all.collect();
    assert!(all.len() > 8, "{all:?}");
    for lost in ["", "index", "checkpoint"] {
        let disk = sound.disk.copied();
        let files = disk.files().into_iter().map(|(path, _)| path);
        for path in files.filter(|path| path.extension() == Some(lost.as_ref())) {
            disk.remove(&path).unwrap();
        }
        let (next, recovered) = ByHand::new(disk, settings());
        let group = only(recovered);
        assert_eq!(group.checkpoint.is_some(), lost != "checkpoint");
        assert_eq!(next.try_read(&group).unwrap(), *truth(&sound));
        let tail = group.tail.iter().filter_map(config_of);
        let told: BTreeMap<_, _> = tail.chain(group.configs.clone()).collect();
        assert_eq!(told, all, "without any {lost}");
    }
}

#[test]
fn configuration_that_is_damaged_is_missing_and_comes_back() {
    let sound = grown();
    for index in (2..LAST).step_by(4) {
        let (path, at) = position(&sound.disk, index);
        for byte in [at + 20, at + 64, at + 64 + body(index).len() - 1] {
            let disk = sound.disk.copied();
            disk.edit(&path, |bytes| bytes[byte] ^= 4).unwrap();
            let (mut next, recovered) = ByHand::new(disk, settings());
            let group = only(recovered);
            assert_eq!(ranges(&group.missing), [(index, index)]);
            let mended = next.mend(GROUP, truth(&sound), group.missing);
            assert_eq!(next.try_read(&mended).unwrap(), *truth(&sound));
            assert!(groups_files(&next.disk) == groups_files(&sound.disk));
        }
    }
}

#[test]
fn configurations_are_given_to_peers_and_to_no_reader() {
    let mut sound = grown();
    sound.model.placed.insert(GROUP, LAST);
    sound.read_group(GROUP);
    let log = sound.storage.log(GROUP).unwrap();
    let mut given = Vec::new();
    while given.len() < LAST as usize {
        let first = Index(given.len() as u64 + 1);
        given.extend(log.placed(first, Index(LAST)).unwrap());
    }
    let all = (1..=LAST).map(|index| truth(&sound).placed(index));
    assert_eq!(given, all.collect::<Vec<_>>());
}
