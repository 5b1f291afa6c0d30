//! Segments whose bodies stay in the files that the journal wrote them to: nothing about them is another than of
//! those that are in one piece, but that most of their bytes are written once.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Disk, RecoveredGroup, Settings, SimDisk, verify_on};
use kontiki_wire::GroupId;

use crate::rig::{
    byhand::{ByHand, GroupModel, records},
    configuration, entry,
};

const GROUP: GroupId = GroupId(3);
const OTHER: GroupId = GroupId(4);
const LAST: u64 = 100;

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 16 << 10,
        segment_bytes: 6 << 10,
        hot_bytes_max: 0,
        apart_bytes_min: 0,
        settle_bytes_min: 2 << 10,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

/// Of what a file costs, little is its own.
fn larger() -> Settings {
    Settings {
        journal_file_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        ..settings()
    }
}

fn body(index: u64) -> Vec<u8> {
    if records(index) == 0 {
        return configuration(index);
    }
    let mut body = vec![index as u8; 900 + 40 * (index % 14) as usize];
    body[..8].copy_from_slice(&index.to_be_bytes());
    body
}

fn term(index: u64) -> u64 {
    1 + index / 10
}

/// Adds entries of one group up to `last`, with little of another between them.
fn grow(by_hand: &mut ByHand, last: u64) {
    let next = |by_hand: &ByHand, group| {
        let known = by_hand.model.now().get(&group);
        known.map_or(0, |group| group.entries.len() as u64) + 1
    };
    for index in next(by_hand, GROUP)..=last {
        by_hand.write(GROUP, vec![entry(index, term(index), &body(index))]);
        if index % 10 == 0 {
            let between = next(by_hand, OTHER);
            by_hand.write(OTHER, vec![entry(between, term(index), b"between")]);
            by_hand.place(OTHER, between);
        }
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
}

/// A storage with a few of such segments, closed cleanly and started again.
fn grown() -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    grow(&mut by_hand, LAST);
    by_hand.hands.idle();
    by_hand.hands.idle();
    let (model, disk) = (by_hand.model.clone(), by_hand.disk.clone());
    by_hand.hands.close().unwrap();
    let (mut next, recovered) = ByHand::new(disk, settings());
    assert!(
        recovered
            .groups
            .iter()
            .all(|group| group.missing.is_empty())
    );
    next.model = model;
    next
}

fn truth(by_hand: &ByHand) -> &GroupModel {
    &by_hand.model.now()[&GROUP]
}

/// The files of a kind, with the first entry that each is named after.
fn files(disk: &SimDisk, kind: &str) -> Vec<(PathBuf, u64)> {
    let paths = disk.files().into_iter().map(|(path, _)| path);
    let first = |path: &Path| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let of_kind = paths.filter(|path| path.extension() == Some(kind.as_ref()));
    let of_group = of_kind.filter(|path| path.starts_with("groups/3"));
    of_group
        .filter_map(|path| first(&path).map(|first| (path, first)))
        .collect()
}

fn bytes(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let mut files = disk.files().into_iter();
    files.find(|(known, _)| known == path).unwrap().1
}

/// Those that are apart: where each begins and ends.
fn apart(disk: &SimDisk) -> Vec<(u64, u64)> {
    let segments = files(disk, "segment");
    let ends = segments.iter().skip(1).map(|(_, next)| next - 1);
    let ends: Vec<u64> = ends.chain([LAST]).collect();
    let ranges = segments
        .iter()
        .zip(ends)
        .map(|((_, first), last)| (*first, last));
    let bodies = files(disk, "bodies");
    let has_bodies = |first| bodies.iter().any(|(_, known)| *known == first);
    ranges.filter(|(first, _)| has_bodies(*first)).collect()
}

fn position_of(bytes: &[u8], what: &[u8]) -> usize {
    let at = bytes.windows(what.len()).position(|window| window == what);
    at.unwrap()
}

/// Damages the disk of a storage that is closed; what a start finds missing. Whatever that is comes back, and what
/// was damaged is in one piece then.
fn missing_after(damage: impl FnOnce(&SimDisk)) -> Vec<(u64, u64)> {
    let sound = grown();
    let disk = sound.disk.copied();
    damage(&disk);
    let (mut next, recovered) = ByHand::new(disk, settings());
    assert_eq!(recovered.damage, Vec::<String>::new());
    let mut groups = recovered.groups.into_iter();
    let mut group: RecoveredGroup = groups.find(|group| group.group == GROUP).unwrap();
    let ranges = group.missing.iter().map(|(first, last)| (first.0, last.0));
    let missing = ranges.collect::<Vec<_>>();
    if !missing.is_empty() {
        group = next.mend(GROUP, truth(&sound), group.missing);
        assert!(apart(&next.disk).len() < apart(&sound.disk).len());
    }
    assert_eq!(next.try_read(&group).unwrap(), *truth(&sound));
    missing
}

#[test]
fn a_journal_file_that_is_nearly_all_one_groups_is_that_groups_segment() {
    let by_hand = grown();
    let apart = apart(&by_hand.disk);
    assert!(apart.len() >= 4, "{apart:?}");
    by_hand.read_group(GROUP);
    by_hand.read_group(OTHER);
    let tables = files(&by_hand.disk, "segment").into_iter();
    let tables = tables.filter(|(_, first)| apart.iter().any(|(known, _)| known == first));
    let table_bytes: usize = tables
        .map(|(path, _)| bytes(&by_hand.disk, &path).len())
        .sum();
    let body_bytes: usize = apart
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .map(|index| body(index).len())
        .sum();
    assert!(
        3 * table_bytes < 2 * body_bytes,
        "{table_bytes} for {body_bytes}"
    );
    assert_eq!(files(&by_hand.disk, "bodies").len(), apart.len());
}

/// Nothing is filled with zeros before, and no frame is read to find the bodies.
#[test]
fn what_becomes_a_segment_as_it_lies_is_written_once_and_not_read() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), larger());
    grow(&mut by_hand, LAST);
    let (read, written) = by_hand.disk.traffic();
    grow(&mut by_hand, 10 * LAST);
    let (read, written) = {
        let (all_read, all_written) = by_hand.disk.traffic();
        (all_read - read, all_written - written)
    };
    let bodies: u64 = (LAST + 1..=10 * LAST)
        .map(|index| body(index).len() as u64)
        .sum();
    assert!(
        bodies < written && 2 * written < 3 * bodies,
        "{written} for {bodies}"
    );
    assert!(read < bodies / 1000, "{read}");
    by_hand.read_group(GROUP);
}

/// What is cut lies there too, and what comes again after it lies elsewhere.
#[test]
fn bodies_are_found_where_what_was_not_cut_lies() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), larger());
    let mut term = 0;
    let mut append = |by_hand: &mut ByHand, from: u64, last: u64| {
        term += 1;
        let entries = (from..=last).map(|index| entry(index, term, &body(index)));
        let persist = Persist {
            truncate_from: Some(Index(from)),
            ..rig::append(entries.collect())
        };
        by_hand.queue(vec![(GROUP, persist)]);
    };
    for index in (1..=10 * LAST).step_by(20) {
        // The last of these are cut before they are written, the last of those after that.
        append(&mut by_hand, index, index + 19);
        append(&mut by_hand, index + 18, index + 19);
        by_hand.hands.write();
        by_hand.listen();
        append(&mut by_hand, index + 19, index + 19);
        by_hand.hands.write();
        by_hand.listen();
        by_hand.place(GROUP, index + 19);
        by_hand.hands.work();
    }
    assert!(files(&by_hand.disk, "bodies").len() > 5);
    by_hand.read_group(GROUP);
    by_hand.crash(|_| false);
}

/// A frame has what several groups wrote.
#[test]
fn bodies_are_found_behind_those_of_other_groups() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), larger());
    for index in 1..=5 * LAST {
        let small = rig::append(vec![entry(index, 1, b"between")]);
        let large = rig::append(vec![entry(index, 1, &body(index))]);
        by_hand.queue(vec![(OTHER, small), (GROUP, large)]);
        by_hand.hands.write();
        by_hand.listen();
        by_hand.place(OTHER, index);
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    assert!(files(&by_hand.disk, "bodies").len() > 5);
    by_hand.read_group(GROUP);
    by_hand.crash(|_| false);
}

/// What is on its way at the end is the first thing in the file that the next start begins.
#[test]
fn file_that_a_start_began_becomes_a_segment_too() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), larger());
    grow(&mut by_hand, LAST);
    let on_its_way = entry(LAST + 1, term(LAST + 1), &body(LAST + 1));
    by_hand.write(GROUP, vec![on_its_way]);
    let (model, disk) = (by_hand.model.clone(), by_hand.disk.clone());
    by_hand.hands.close().unwrap();
    let (mut by_hand, _) = ByHand::new(disk, larger());
    by_hand.model = model;
    by_hand.place(GROUP, LAST + 1);
    grow(&mut by_hand, 2 * LAST);
    let mut begins = files(&by_hand.disk, "bodies").into_iter();
    assert!(begins.any(|(_, first)| first == LAST + 1));
    by_hand.read_group(GROUP);
    by_hand.crash(|_| false);
}

/// What is committed late is written once more, in the file that the journal has come to.
#[test]
fn what_was_written_again_is_found_where_it_is_now() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), larger());
    let late = (1..=2).map(|index| entry(index, 1, &body(index)));
    by_hand.write(GROUP, late.collect());
    let is_others = |(path, _): &(PathBuf, _)| {
        path.starts_with("groups/4") && path.extension() == Some("bodies".as_ref())
    };
    let mut others = 0;
    // As many files as a group may hold back.
    while by_hand
        .disk
        .files()
        .iter()
        .filter(|file| is_others(file))
        .count()
        < 4
    {
        others += 1;
        by_hand.write(OTHER, vec![entry(others, 1, &body(others))]);
        by_hand.place(OTHER, others);
        by_hand.hands.work();
    }
    for index in 3..=2 * LAST {
        by_hand.write(GROUP, vec![entry(index, 1, &body(index))]);
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    let begins = files(&by_hand.disk, "bodies");
    assert!(begins.iter().any(|(_, first)| *first == 1), "{begins:?}");
    by_hand.read_group(GROUP);
    by_hand.read_group(OTHER);
    by_hand.crash(|_| false);
}

#[test]
fn no_journal_file_is_written_again_that_a_segment_needs() {
    let mut by_hand = grown();
    let before = files(&by_hand.disk, "bodies");
    let before: Vec<_> = before
        .into_iter()
        .map(|(path, _)| (bytes(&by_hand.disk, &path), path))
        .collect();
    by_hand.model.placed.insert(GROUP, LAST);
    grow(&mut by_hand, 4 * LAST);
    by_hand.read_group(GROUP);
    for (known, path) in before {
        assert!(bytes(&by_hand.disk, &path) == known, "{}", path.display());
    }
    let journal = by_hand.disk.list(Path::new("journal")).unwrap();
    assert!(journal.len() < 8, "{journal:?}");
}

#[test]
fn damage_to_a_body_is_found_and_mended() {
    let (first, last) = apart(&grown().disk)[1];
    for index in [first, first + 1, last] {
        let missing = missing_after(|disk| {
            let (path, _) = files(disk, "bodies").remove(1);
            let at = position_of(&bytes(disk, &path), &body(index));
            disk.edit(&path, |bytes| bytes[at + 11] ^= 1).unwrap();
        });
        assert_eq!(missing, [(index, index)]);
    }
}

#[test]
fn bodies_that_are_lost_are_all_missing() {
    let (first, last) = apart(&grown().disk)[1];
    let missing = missing_after(|disk| {
        let (path, _) = files(disk, "bodies").remove(1);
        disk.remove(&path).unwrap();
    });
    assert_eq!(missing, [(first, last)]);
    let cut = missing_after(|disk| {
        let (path, _) = files(disk, "bodies").remove(1);
        let at = position_of(&bytes(disk, &path), &body(first + 3));
        disk.edit(&path, |bytes| bytes.truncate(at)).unwrap();
    });
    assert_eq!(cut, [(first + 3, last)]);
}

#[test]
fn damage_to_a_table_costs_only_what_it_hides() {
    const RECORDS_AT: usize = 128;
    const RECORD: usize = 88;
    let (first, last) = apart(&grown().disk)[1];
    let table = |disk: &SimDisk| {
        let mut segments = files(disk, "segment").into_iter();
        segments.find(|(_, known)| *known == first).unwrap().0
    };
    let flip = |at: usize| {
        missing_after(|disk| {
            let path = table(disk);
            disk.edit(&path, |bytes| bytes[at] ^= 1).unwrap();
        })
    };
    // What tells that it is one, and the segment's own header.
    for at in [0, 5, 20, 70] {
        assert_eq!(flip(at), [], "{at}");
    }
    for index in [first, first + 1, last] {
        let record = RECORDS_AT + (index - first) as usize * RECORD;
        for at in [0, 9, 30, 81] {
            assert_eq!(flip(record + at), [(index, index)], "{at}");
        }
    }
    // The footer, without anybody's help.
    let footer = missing_after(|disk| {
        let path = table(disk);
        disk.edit(&path, |bytes| *bytes.last_mut().unwrap() ^= 1)
            .unwrap();
    });
    assert_eq!(footer, []);
    let gone = missing_after(|disk| disk.remove(&table(disk)).unwrap());
    assert_eq!(gone, [(first, last)]);
}

#[test]
fn damage_that_a_reader_meets_is_looked_into() {
    let mut by_hand = grown();
    let (first, _) = apart(&by_hand.disk)[1];
    let index = first + 1;
    let (path, _) = files(&by_hand.disk, "bodies").remove(1);
    let at = position_of(&bytes(&by_hand.disk, &path), &body(index));
    by_hand
        .disk
        .edit(&path, |bytes| bytes[at + 9] ^= 1)
        .unwrap();
    let log = by_hand.storage.log(GROUP).unwrap();
    assert!(log.entries(Index(index), Index(index), 1).is_err());
    by_hand.hands.work();
    by_hand.listen();
    let missing = vec![(Index(index), Index(index))];
    let told = format!("{:?}", by_hand.said.pop().unwrap());
    assert!(told.contains("Damaged"), "{told}");
    let sound = by_hand.model.now()[&GROUP].clone();
    let mended = by_hand.mend(GROUP, &sound, missing);
    assert_eq!(by_hand.try_read(&mended).unwrap(), sound);
}

#[test]
fn what_was_on_its_way_when_its_file_ended_is_waited_for() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    for index in 1..=LAST {
        by_hand.write(GROUP, vec![entry(index, term(index), &body(index))]);
        // What is committed lags behind by one entry.
        by_hand.place(GROUP, index - 1);
        by_hand.hands.work();
    }
    by_hand.place(GROUP, LAST);
    by_hand.hands.work();
    let found = apart(&by_hand.disk);
    assert!(found.len() >= 3, "{found:?}");
    by_hand.read_group(GROUP);
    by_hand.crash(|_| false);
}

#[test]
fn what_stays_is_written_when_nothing_comes_any_more() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    grow(&mut by_hand, 9);
    assert_eq!(
        files(&by_hand.disk, "segment"),
        [],
        "it waits for its file's end"
    );
    by_hand.hands.look_again();
    assert!(!files(&by_hand.disk, "segment").is_empty());
    assert_eq!(files(&by_hand.disk, "bodies"), []);
    grow(&mut by_hand, LAST);
    assert!(files(&by_hand.disk, "bodies").len() > 3);
    by_hand.read_group(GROUP);
    by_hand.crash(|_| false);
}

#[test]
fn two_topics_that_share_the_journal_wait_for_little() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    for index in 1..=LAST {
        for group in [GROUP, OTHER] {
            by_hand.write(group, vec![entry(index, term(index), &body(index))]);
            by_hand.place(group, index);
            by_hand.hands.work();
        }
        let waits: u64 = files(&by_hand.disk, "segment").len() as u64;
        assert!(index < 4 || waits > 0, "{index}");
    }
    assert_eq!(files(&by_hand.disk, "bodies"), []);
    by_hand.read_group(GROUP);
    by_hand.read_group(OTHER);
}

#[test]
fn where_files_have_one_name_everything_is_copied() {
    let disk = SimDisk::default();
    disk.refuse_links();
    let (mut by_hand, _) = ByHand::new(disk, settings());
    grow(&mut by_hand, LAST);
    assert_eq!(files(&by_hand.disk, "bodies"), []);
    assert!(files(&by_hand.disk, "segment").len() > 3);
    by_hand.read_group(GROUP);
    by_hand.crash(|_| false);
}

/// The power goes with each call: also when a segment was only begun and nothing was written to it.
#[test]
fn whatever_a_crash_leaves_the_next_journal_file_becomes_a_segment() {
    for calls in 0..1_000 {
        let copies = Settings {
            apart_bytes_min: if calls % 3 == 0 { 0 } else { u64::MAX },
            ..settings()
        };
        let (mut by_hand, _) = ByHand::new(SimDisk::default(), copies);
        by_hand.disk.end_after(calls);
        for index in 1..=LAST / 3 {
            let entries = vec![entry(index, term(index), &body(index))];
            by_hand.queue(vec![(GROUP, rig::append(entries))]);
            by_hand.hands.write();
            by_hand.listen();
            if by_hand.failed.is_some() {
                break;
            }
            by_hand.place(GROUP, index);
            by_hand.hands.work();
            by_hand.listen();
        }
        let has_ended = by_hand.disk.has_ended();
        by_hand.settings = settings();
        by_hand.crash(|_| calls % 2 == 0);
        let here = by_hand.model.now().get(&GROUP);
        by_hand.place(GROUP, here.map_or(0, |group| group.entries.len() as u64));
        grow(&mut by_hand, LAST);
        assert!(files(&by_hand.disk, "bodies").len() > 2);
        by_hand.read_group(GROUP);
        by_hand.crash(|_| false);
        if !has_ended {
            assert!(calls > 50, "{calls}");
            return;
        }
    }
    panic!("it never comes to an end");
}

#[test]
fn a_group_that_is_removed_takes_its_bodies_along() {
    let by_hand = &mut grown();
    by_hand.storage.remove(GROUP);
    by_hand.hands.work();
    by_hand.hands.idle();
    by_hand.hands.work();
    assert_eq!(files(&by_hand.disk, "bodies"), []);
}

#[test]
fn a_checkpoint_is_kept_with_them() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    grow(&mut by_hand, LAST / 2);
    let at = LogId {
        term: Term(term(5)),
        index: Index(5),
    };
    by_hand.checkpoint(GROUP, at);
    grow(&mut by_hand, LAST);
    let recovered = by_hand.crash(|_| false);
    let mut groups = recovered.groups.iter();
    let group = groups.find(|group| group.group == GROUP).unwrap();
    assert_eq!(group.checkpoint.as_ref().map(|(at, _)| *at), Some(at));
}

#[test]
fn verify_finds_nothing_where_nothing_is_and_names_what_is() {
    let by_hand = grown();
    let verify = |disk: &SimDisk| verify_on(Arc::new(disk.clone()), Arc::new(|_, _| {})).unwrap();
    let sound = verify(&by_hand.disk);
    assert!(sound.findings.is_empty(), "{:?}", sound.findings);
    let (first, _) = apart(&by_hand.disk)[1];
    let (path, _) = files(&by_hand.disk, "bodies").remove(1);
    let at = position_of(&bytes(&by_hand.disk, &path), &body(first + 1));
    by_hand
        .disk
        .edit(&path, |bytes| bytes[at + 9] ^= 1)
        .unwrap();
    let found = verify(&by_hand.disk).findings;
    let [finding] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(finding.entries, Some((Index(first + 1), Index(first + 1))));
}
