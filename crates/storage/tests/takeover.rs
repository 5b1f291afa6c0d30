//! A member's disk on which it is taken down that the member goes on alone: whatever of that a power cut lets
//! through, it can be done again, and comes to the same.

#![allow(clippy::unwrap_used, reason = "what is not there fails the test")]

mod rig;

use std::sync::Arc;

use kontiki_broker::{GroupWrite, Remains, remains};
use kontiki_raft::{Entry, Incarnation, Kind, Membership, Micros, NodeId, NodeRef, Persist};
use kontiki_storage::{SimDisk, rehearse_on};
use kontiki_wire::{
    ClusterCommand, ClusterState, Epoch, GroupId, Member, Recovery, TopicSettings, encode,
};
use rig::{Rig, append, entry, hard, small};

const ME: NodeRef = NodeRef {
    id: NodeId(1),
    incarnation: Incarnation(10),
};

fn birth() -> ClusterState {
    let member = |id: u64| Member {
        id,
        incarnation: id * 10,
        name: format!("n{id}"),
        ..Member::default()
    };
    ClusterState {
        members: (1..=3).map(member).collect(),
        next_member: 4,
        ..ClusterState::default()
    }
}

/// What a start would find, with nothing written.
fn left(disk: &SimDisk) -> Remains {
    let recovered = rehearse_on(Arc::new(disk.copied()), &small()).unwrap();
    remains(&birth(), ME, &recovered.into_boots(ME, true)).unwrap()
}

fn recovery() -> Recovery {
    Recovery {
        epoch: Epoch { number: 1, mark: 7 },
        ..Recovery::default()
    }
}

/// A disk with twenty topics of three.
fn three() -> SimDisk {
    let disk = SimDisk::seeded(5);
    let (mut rig, _) = Rig::open_on(Arc::new(disk.clone()), small()).unwrap();
    for group in 1..=20 {
        let create = ClusterCommand::CreateTopic {
            name: format!("t{group}").parse().unwrap(),
            settings: TopicSettings::default(),
            replicas: vec![2, 1, 3],
            preferred: 2,
        };
        let made = Entry {
            kind: Kind::Command,
            ..entry(group, 3, &encode(&create))
        };
        rig.write(GroupId::CLUSTER, in_term(append(vec![made])));
        let noop = Entry {
            kind: Kind::Noop,
            ..entry(1, 3, &[])
        };
        rig.write(GroupId(group), in_term(append(vec![noop])));
    }
    rig.storage.close().unwrap();
    disk
}

fn in_term(persist: Persist) -> Persist {
    Persist {
        hard: Some(hard(3, 2)),
        ..persist
    }
}

fn take_over(disk: &SimDisk, writes: Vec<GroupWrite>) -> bool {
    let Ok((mut rig, _)) = Rig::open_on(Arc::new(disk.clone()), small()) else {
        return false;
    };
    let seq = rig.queue(writes);
    rig.wait(seq).is_ok() && rig.storage.close().is_ok()
}

#[test]
fn a_takeover_that_a_power_cut_interrupts_anywhere_can_be_done_again() {
    let origin = three();
    let whole = origin.copied();
    let planned = left(&origin);
    assert!(planned.obstacles.is_empty(), "{planned:?}");
    let before = whole.calls();
    assert!(take_over(&whole, planned.takeover(&recovery(), Micros(9))));
    let calls = whole.calls() - before;
    let wanted = left(&whole);
    assert!(wanted.groups.iter().all(|group| group.is_alive(ME)));
    assert_eq!(wanted.groups.len(), 21);
    assert!(calls > 5, "{calls} calls");
    let mut cut_short = 0;
    for at in 0..calls {
        for kept in 0..3_u64 {
            let disk = origin.copied();
            disk.end_after(at);
            let done = take_over(&disk, planned.takeover(&recovery(), Micros(9)));
            let mut sectors = 0;
            let disk = disk.after_crash(|_| {
                sectors += 1;
                (sectors + kept) % 3 > 0
            });
            let seen = left(&disk);
            assert!(!done || seen.groups.iter().all(|group| group.is_alive(ME)));
            if seen.obstacles.is_empty() {
                cut_short += 1;
                assert!(take_over(&disk, seen.takeover(&recovery(), Micros(9))));
            }
            let now = left(&disk);
            assert_eq!(now.state, wanted.state);
            for group in &now.groups {
                assert_eq!(group.config, Membership::of([ME]), "{group:?}");
            }
        }
    }
    assert!(cut_short > 0);
}
