//! A disk that fails or fills up: the first failure is told once, nothing is acknowledged after it, and
//! everything acknowledged before is there after a restart.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::sync::Arc;

use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Error, Fault, Settings, SimDisk};
use kontiki_wire::{GroupId, Offset};

use crate::rig::{GROUP, Rig, append, byhand::ByHand, entry, hard, late::Late, numbered, small};

fn settings() -> Settings {
    Settings {
        journal_file_bytes: 8 << 10,
        segment_bytes: 5 << 10,
        hot_bytes_max: 1 << 10,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

/// Writes, elections, truncations, placements, checkpoints and a removal, over several journal files.
fn live(by_hand: &mut ByHand) {
    let at = |index| LogId {
        term: Term(1),
        index: Index(index),
    };
    for index in 1..=24 {
        by_hand.queue(vec![(
            GROUP,
            append(vec![entry(index, 1, &[index as u8; 900])]),
        )]);
        let again = (1..=1 + index / 3).map(|other| entry(other, index, b"again"));
        let persist = Persist {
            hard: Some(hard(index, 2)),
            truncate_from: Some(Index(1)),
            ..append(again.collect())
        };
        if index % 3 == 0 {
            by_hand.queue(vec![(GroupId(8), persist)]);
        }
        by_hand.hands.write();
        by_hand.place(GROUP, index);
        if index % 5 == 0 {
            by_hand.checkpoint(GROUP, at(index - 2));
            by_hand.hands.idle();
        }
        by_hand.hands.work();
        if index == 15 {
            by_hand.queue(vec![(
                GroupId(9),
                append(vec![entry(1, 1, b"to be removed")]),
            )]);
            by_hand.hands.write();
            by_hand.model.removed.insert(GroupId(9));
            by_hand.storage.remove(GroupId(9));
        }
    }
    by_hand.listen();
}

/// Lets each call fail in turn. Every time the process goes on to its end, then the power goes.
fn every_call_fails(fault: Fault) {
    let mut failures = 0;
    for calls in 0.. {
        let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
        by_hand.disk.fail_after(calls, fault);
        live(&mut by_hand);
        let Some(error) = by_hand.failed.take() else {
            break;
        };
        assert!(matches!(error, Error::Io { .. }), "{error}");
        failures += 1;
        let durable = by_hand.durable;
        by_hand.hands.idle();
        by_hand.hands.work();
        by_hand.listen();
        assert_eq!(
            by_hand.durable, durable,
            "nothing is acknowledged after a failure"
        );
        by_hand.crash(|_| calls % 2 == 0);
    }
    assert!(failures > 100, "{failures}");
}

#[test]
fn every_call_that_fails_costs_nothing_that_was_acknowledged() {
    every_call_fails(Fault::Broken);
}

#[test]
fn every_call_that_finds_no_room_costs_nothing_that_was_acknowledged() {
    every_call_fails(Fault::Full);
}

#[test]
fn what_a_process_left_unsynced_survives_a_power_cut_in_the_next_life() {
    let mut failures = 0;
    for calls in 0.. {
        let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
        by_hand.disk.fail_after(calls, Fault::Broken);
        live(&mut by_hand);
        if by_hand.failed.take().is_none() {
            break;
        }
        failures += 1;
        let disk = by_hand.disk.clone();
        by_hand.restart(disk);
        by_hand.hands.work();
        by_hand.crash(|_| false);
    }
    assert!(failures > 100, "{failures}");
}

#[test]
fn full_disk_is_told_and_works_again_when_there_is_room() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    by_hand.disk.limit(Some(60 << 10));
    let mut index = 0;
    while by_hand.failed.is_none() {
        index += 1;
        by_hand.queue(vec![(
            GROUP,
            append(vec![entry(index, 1, &[index as u8; 900])]),
        )]);
        by_hand.hands.write();
        by_hand.place(GROUP, index);
        by_hand.hands.work();
        by_hand.listen();
    }
    let error = by_hand.failed.take().unwrap().to_string();
    assert!(error.contains("no storage space"), "{error}");
    let log = by_hand.storage.log(GROUP).unwrap();
    assert!(
        !log.read(Offset(0), Offset(2), 100).unwrap().is_empty(),
        "reads go on"
    );
    by_hand.crash(|_| true);
    let last = by_hand.model.now()[&GROUP].entries.len() as u64;
    assert!(last > 20, "{last}");
    by_hand.write(GROUP, vec![entry(last + 1, 1, b"room again")]);
    assert_eq!(by_hand.durable, 1);
}

#[test]
fn failed_sync_is_not_tried_again() {
    let (mut by_hand, _) = ByHand::new(SimDisk::default(), settings());
    by_hand.write(GROUP, vec![numbered(1, 1)]);
    by_hand.disk.fail_after(1, Fault::Broken);
    by_hand.write(GROUP, vec![numbered(2, 1)]);
    assert!(matches!(
        by_hand.failed,
        Some(Error::Io {
            doing: "cannot sync",
            ..
        })
    ));
    let calls = by_hand.disk.calls();
    by_hand.failed = None;
    by_hand.write(GROUP, vec![numbered(3, 1)]);
    by_hand.hands.work();
    by_hand.hands.idle();
    assert_eq!(by_hand.disk.calls(), calls);
    assert_eq!(by_hand.durable, 1);
    assert!(matches!(by_hand.hands.close(), Err(Error::Poisoned)));
}

#[test]
fn segment_that_was_not_written_in_the_background_is_noticed() {
    let open = |ending| {
        let disk = Late {
            disk: SimDisk::default(),
            ending,
        };
        let (mut rig, _) = Rig::open_on(Arc::new(disk), small()).unwrap();
        rig.fill(GROUP, 1, 20, 1);
        rig.storage.close()
    };
    let failed = open(".segment").unwrap_err().to_string();
    assert!(failed.contains(".segment"), "{failed}");
    open(".of-none").unwrap();
}

#[test]
fn entry_that_does_not_match_its_checksum_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    let mut wrong = numbered(1, 1);
    wrong.checksum ^= 1;
    let error = rig.try_write(GROUP, append(vec![wrong])).unwrap_err();
    let expected = "entry 1@1 of group 7 does not match its checksum and was not written";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(rig.storage.close(), Err(Error::Poisoned)));
    let (_rig, recovered) = Rig::open(dir.path(), small());
    assert!(recovered.groups.is_empty());
}

#[test]
fn a_thousand_groups_share_one_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(
        dir.path(),
        Settings {
            journal_file_bytes: 256 << 10,
            ..small()
        },
    );
    let groups = || (0..1000).map(GroupId);
    for index in 1..=3 {
        let write = |group| kontiki_broker::GroupWrite {
            group,
            persist: Persist {
                hard: Some(hard(index, group.0)),
                ..append(vec![numbered(index, index)])
            },
        };
        let seq = rig.queue(groups().map(write).collect());
        rig.wait(seq).unwrap();
        for group in groups().filter(|group| group.0 % 2 == 0) {
            rig.place(group, index, index);
        }
    }
    rig.storage.close().unwrap();
    let (rig, recovered) = Rig::open(dir.path(), small());
    assert_eq!(recovered.groups.len(), 1000);
    assert_eq!(recovered.damage, Vec::<String>::new());
    for group in recovered.groups {
        assert_eq!(group.hard, hard(3, group.group.0));
        let log = rig.log(group.group);
        let entries = log.entries(Index(1), Index(3), u64::MAX).unwrap();
        assert_eq!(entries, [1, 2, 3].map(|index| numbered(index, index)));
    }
}
