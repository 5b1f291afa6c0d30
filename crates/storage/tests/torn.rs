//! A write that a power cut tears is cut off, however its pieces reached the disk, and never taken for
//! damage.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::path::PathBuf;

use kontiki_raft::{Index, Persist};
use kontiki_storage::{Fault, Settings, SimDisk};
use kontiki_wire::GroupId;

use crate::rig::{append, byhand::ByHand, entry, hard};

const GROUP: GroupId = GroupId(3);

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 8 << 10,
        segment_bytes: 6 << 10,
        hot_bytes_max: 0,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

/// A storage whose journal has used its files many times over.
fn worn() -> ByHand {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    for index in 1..=60 {
        by_hand.write(GROUP, vec![entry(index, 1, &[index as u8; 700])]);
        by_hand.place(GROUP, index);
        by_hand.hands.work();
    }
    by_hand
}

/// Queues three operations of which the last replaces what the first appended, writes them, and lets
/// the sync fail.
fn tear(by_hand: &mut ByHand) {
    let last = by_hand.model.now()[&GROUP].entries.len() as u64;
    by_hand.queue(vec![(GROUP, append(vec![entry(last + 1, 1, &[1; 900])]))]);
    by_hand.queue(vec![(GroupId(4), append(vec![entry(1, 2, &[2; 900])]))]);
    let replacing = Persist {
        hard: Some(hard(5, 1)),
        truncate_from: Some(Index(last + 1)),
        ..append(vec![
            entry(last + 1, 5, &[5; 900]),
            entry(last + 2, 5, &[6; 200]),
        ])
    };
    by_hand.queue(vec![(GROUP, replacing)]);
    by_hand.disk.fail_after(1, Fault::Broken);
    by_hand.hands.write();
    by_hand.listen();
    assert!(by_hand.failed.is_some());
}

/// Every choice of what survives of an unsynced write.
fn every_crash(by_hand: &ByHand) -> (u32, u32) {
    let mut pieces = 0;
    let _ = by_hand.disk.after_crash(|_| {
        pieces += 1;
        true
    });
    assert!(pieces <= 12, "{pieces}");
    let mut torn = 0;
    for mask in 0..1_u32 << pieces {
        let mut piece = 0;
        let disk = by_hand.disk.after_crash(|_| {
            piece += 1;
            mask >> (piece - 1) & 1 == 1
        });
        let mut next = ByHand::new(SimDisk::default(), settings()).0;
        next.model = by_hand.model.clone();
        next.durable = by_hand.durable;
        torn += u32::from(next.restart(disk).torn.is_some());
    }
    (torn, 1 << pieces)
}

#[test]
fn torn_write_is_cut_whichever_of_its_sectors_survive() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    by_hand.write(GROUP, vec![entry(1, 1, &[7; 300])]);
    tear(&mut by_hand);
    let (torn, crashes) = every_crash(&by_hand);
    assert!(torn > crashes / 3, "{torn} of {crashes}");
}

#[test]
fn torn_write_over_an_old_file_is_cut_whichever_of_its_sectors_survive() {
    let mut by_hand = worn();
    tear(&mut by_hand);
    let (torn, crashes) = every_crash(&by_hand);
    assert!(torn > crashes / 3, "{torn} of {crashes}");
}

#[test]
fn torn_start_of_a_file_is_cut_whatever_fails_and_survives() {
    let mut failures = 0;
    for calls in 0.. {
        let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
        by_hand.hands.work();
        by_hand.write(GROUP, vec![entry(1, 1, &[7; 5000])]);
        by_hand.queue(vec![(GROUP, append(vec![entry(2, 1, &[1; 4100])]))]);
        by_hand.disk.fail_after(calls, Fault::Broken);
        by_hand.hands.write();
        by_hand.listen();
        if by_hand.failed.is_none() {
            break;
        }
        failures += 1;
        every_crash(&by_hand);
    }
    assert!(failures >= 4, "two files are written and synced");
}

#[test]
fn journal_cut_at_any_byte_ends_with_the_last_whole_frame() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    let journal = |disk: &SimDisk| {
        let is_journal = |file: &(PathBuf, Vec<u8>)| file.0.extension() == Some("journal".as_ref());
        disk.files().into_iter().find(is_journal).unwrap()
    };
    let (path, before) = journal(&by_hand.disk);
    let used = |bytes: &[u8]| {
        (0..bytes.len())
            .rfind(|&at| bytes[at] != before[at])
            .map_or(0, |at| at + 1)
    };
    let mut ends = vec![0];
    for index in 1..=6 {
        by_hand.write(
            GROUP,
            vec![entry(index, 1, &vec![index as u8; 40 * index as usize])],
        );
        ends.push(used(&journal(&by_hand.disk).1));
    }
    let (_, after) = journal(&by_hand.disk);
    let first = (0..after.len())
        .find(|&at| before[at] != after[at])
        .unwrap();
    for cut in first..=used(&after) {
        let disk = by_hand.disk.copied();
        disk.edit(&path, |bytes| bytes[cut..].copy_from_slice(&before[cut..]))
            .unwrap();
        let (next, recovered) = ByHand::new(disk, settings());
        assert_eq!(recovered.damage, Vec::<String>::new(), "cut at {cut}");
        let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
        assert_eq!(
            next.found(&recovered),
            by_hand.model.states[whole],
            "cut at {cut}"
        );
    }
}

#[test]
fn what_is_queued_after_a_write_was_taken_is_of_the_next_one() {
    let disk = SimDisk::seeded(3);
    let (mut by_hand, _) = ByHand::new(disk.clone(), Settings::default());
    assert!(!by_hand.hands.take());
    by_hand.queue(vec![(GROUP, append(vec![entry(1, 1, b"first")]))]);
    assert!(by_hand.hands.take());
    by_hand.queue(vec![(GROUP, append(vec![entry(2, 1, b"second")]))]);
    assert!(by_hand.hands.write());
    by_hand.listen();
    assert_eq!(by_hand.durable, 1);
    // Nothing of the second is on the disk: not even a cut that keeps everything has it.
    let recovered = by_hand.crash(|_| true);
    assert_eq!(recovered.groups[0].last, Index(1));
}

#[test]
fn a_disk_knows_where_its_last_write_began() {
    let disk = SimDisk::seeded(3);
    let (mut by_hand, _) = ByHand::new(disk.clone(), Settings::default());
    let journal = || {
        let files = disk.files().into_iter();
        let mut journals =
            files.filter(|(path, _)| path.extension().is_some_and(|it| it == "journal"));
        journals.next().unwrap().0
    };
    let before = disk.last_write(&journal());
    by_hand.write(GROUP, vec![entry(1, 1, b"first")]);
    let first = disk.last_write(&journal());
    by_hand.write(GROUP, vec![entry(2, 1, b"second")]);
    assert!(before < first && first < disk.last_write(&journal()));
    // All of it, in however many pieces it came.
    by_hand.write(GROUP, vec![entry(3, 1, b"third"), entry(4, 1, b"fourth")]);
    let (_, bytes) = disk
        .files()
        .into_iter()
        .find(|(path, _)| *path == journal())
        .unwrap();
    let last = &bytes[disk.last_write(&journal())..];
    let has = |what: &[u8]| last.windows(what.len()).any(|bytes| bytes == what);
    assert!(has(b"third") && has(b"fourth") && !has(b"second"));
    assert_eq!(disk.last_write(std::path::Path::new("nowhere")), 0);
}
