//! A start whose checkpoint is older or lost holds a bounded part of a topic's log in memory.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::{fs, sync::Arc};

use kontiki_broker::Rebuild;
use kontiki_raft::{Entry, Index, Kind, Membership, NodeId, NodeRef};
use kontiki_storage::{Error, Recovered, RecoveredGroup, Settings, Storage};
use kontiki_wire::{BatchBuilder, GroupId, ProducerId, Record};

use crate::rig::{GROUP, Rig, append, entry, numbered, only, place, small};

/// Bytes that a start may hold.
const HELD_BYTES_MAX: u64 = 4 << 10;
const BODY_BYTES: usize = 200;

fn settings() -> Settings {
    Settings {
        unapplied_bytes_max: HELD_BYTES_MAX,
        ..small()
    }
}

/// A batch of one record, the next of one of three producers.
fn batch(index: u64) -> Entry {
    let mut builder = BatchBuilder::new(1024);
    let record = Record {
        value: vec![index as u8; BODY_BYTES].into(),
        ..Record::default()
    };
    builder.push(&record).unwrap();
    let (producer, sequence) = (ProducerId(u128::from(index % 3)), (index - 1) / 3);
    let batch = builder.finish(producer, 0, sequence);
    entry(index, 1, batch.bytes())
}

fn write(rig: &mut Rig, entries: &[Entry]) {
    write_of(rig, GROUP, entries);
}

fn write_of(rig: &mut Rig, group: GroupId, entries: &[Entry]) {
    for some in entries.chunks(25) {
        rig.write(group, append(some.to_vec()));
        let index = |entry: &Entry| entry.id.index.0;
        rig.place(group, index(&some[0]), index(&some[some.len() - 1]));
    }
}

/// What a broker would keep of entries up to this one.
fn kept_of(entries: &[Entry], upto: Index) -> Rebuild {
    let mut rebuild = Rebuild::new(None).unwrap();
    for entry in entries.iter().filter(|entry| entry.id.index <= upto) {
        rebuild.apply(entry).unwrap();
    }
    rebuild
}

fn held_by(group: &RecoveredGroup) -> u64 {
    group.tail.iter().map(|entry| entry.body.len() as u64).sum()
}

fn assert_bounded(group: &RecoveredGroup, entries: &[Entry]) {
    let held = held_by(group);
    assert!(
        held <= HELD_BYTES_MAX + BODY_BYTES as u64,
        "{held} bytes are held"
    );
    let (at, state) = group.checkpoint.clone().unwrap();
    assert_eq!(kept_of(entries, at.index).checkpoint(), (at, state));
    let from = at.index.0 as usize - 1;
    assert_eq!(group.tail, entries[from..], "all that follows, and its own");
}

#[test]
fn topic_without_a_checkpoint_is_held_in_part_and_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (1..=300).map(batch).collect();
    let (mut rig, _) = Rig::open(dir.path(), settings());
    write(&mut rig, &entries);
    rig.storage.close().unwrap();
    fs::remove_dir_all(dir.path().join("state")).unwrap();

    let (rig, recovered) = Rig::open(dir.path(), settings());
    assert_bounded(only(&recovered), &entries);
    let made = only(&recovered).checkpoint.clone();
    let log = rig.log(GROUP);
    assert_eq!(log.entries(Index(1), Index(1), 1).unwrap(), entries[..1]);
    drop(rig);
    // Also after a crash it is there, and nothing has to be made again.
    let (_rig, recovered) = Rig::open(
        dir.path(),
        Settings {
            unapplied_bytes_max: u64::MAX,
            ..settings()
        },
    );
    assert_eq!(only(&recovered).checkpoint, made);
}

/// Each topic held as much as one alone may: a member with a thousand took a gigabyte to start.
#[test]
fn topics_share_what_a_start_may_hold() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (1..=100).map(batch).collect();
    // More than are kept with one sync.
    let topics: Vec<_> = (1..=70).map(GroupId).collect();
    let (mut rig, _) = Rig::open(dir.path(), settings());
    for topic in &topics {
        write_of(&mut rig, *topic, &entries);
    }
    rig.storage.close().unwrap();

    let (rig, recovered) = Rig::open(dir.path(), settings());
    assert_eq!(recovered.groups.len(), topics.len());
    let held: u64 = recovered.groups.iter().map(held_by).sum();
    let last_of_each = (topics.len() * entries[99].body.len()) as u64;
    assert!(held <= HELD_BYTES_MAX + last_of_each, "{held} bytes");
    drop(rig);
    let all = Settings {
        unapplied_bytes_max: u64::MAX,
        ..settings()
    };
    let (_rig, again) = Rig::open(dir.path(), all);
    let made = |recovered: &Recovered| {
        let groups = recovered.groups.iter();
        let made: Vec<_> = groups.map(|group| group.checkpoint.clone()).collect();
        assert!(made.iter().all(Option::is_some));
        made
    };
    assert_eq!(made(&again), made(&recovered), "they were kept");
}

#[test]
fn older_checkpoint_is_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (1..=300).map(batch).collect();
    let (mut rig, _) = Rig::open(dir.path(), settings());
    write(&mut rig, &entries[..100]);
    let (at, state) = kept_of(&entries, Index(100)).checkpoint();
    rig.storage.checkpoint(GROUP, at, state);
    write(&mut rig, &entries[100..]);
    rig.storage.close().unwrap();

    let (_rig, recovered) = Rig::open(dir.path(), settings());
    assert_bounded(only(&recovered), &entries);
    assert!(only(&recovered).checkpoint.as_ref().unwrap().0.index > at.index);
}

/// A log with configurations at these entries, of which a start holds a part after a checkpoint up to
/// `checkpoint`.
fn assert_told(configs: &[u64], checkpoint: Option<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let config = |index| {
        Membership::of([NodeRef {
            id: NodeId(index),
            ..NodeRef::default()
        }])
    };
    let entries: Vec<_> = (1..=100)
        .map(|index| match configs.contains(&index) {
            true => Entry {
                kind: Kind::Config,
                ..entry(index, 1, &config(index).encode())
            },
            false => Entry {
                kind: Kind::Noop,
                ..entry(index, 1, &[0; BODY_BYTES])
            },
        })
        .collect();
    let (mut rig, _) = Rig::open(dir.path(), settings());
    rig.write(GROUP, append(entries.clone()));
    let placed: Vec<_> = (1..=100).map(|index| place(index, 0, 0)).collect();
    rig.storage.applied(GROUP, &placed);
    if let Some(upto) = checkpoint {
        let (at, state) = kept_of(&entries, Index(upto)).checkpoint();
        rig.storage.checkpoint(GROUP, at, state);
    }
    rig.storage.close().unwrap();

    let (_rig, recovered) = Rig::open(dir.path(), settings());
    assert_bounded(only(&recovered), &entries);
    let told = configs.iter().map(|&index| (Index(index), config(index)));
    assert_eq!(only(&recovered).configs, told.collect(), "{checkpoint:?}");
}

#[test]
fn configurations_that_are_not_held_are_told() {
    assert_told(&[1], None);
    assert_told(&[1, 2, 7], Some(3));
}

#[test]
fn configuration_that_the_checkpoint_ends_with_is_told() {
    assert_told(&[2], Some(2));
    assert_told(&[1, 2, 3, 4], Some(3));
}

#[test]
fn nothing_is_made_of_a_log_that_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (1..=300).map(batch).collect();
    let (mut rig, _) = Rig::open(dir.path(), settings());
    write(&mut rig, &entries);
    rig.storage.close().unwrap();
    let group = fs::read_dir(dir.path().join("groups")).unwrap().next();
    let files = fs::read_dir(group.unwrap().unwrap().path()).unwrap();
    let segments = files.map(|file| file.unwrap().path());
    let segments = segments.filter(|path| path.extension().is_some_and(|end| end == "segment"));
    // What the last ones hold the journal may hold as well.
    let first = segments.min().unwrap();
    let mut bytes = fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&first, bytes).unwrap();

    let (_rig, recovered) = Rig::open(dir.path(), settings());
    let group = only(&recovered);
    assert!(!group.missing.is_empty());
    assert_eq!((&group.checkpoint, group.tail.len()), (&None, 0));
}

#[test]
fn log_that_means_nothing_is_refused_with_a_reason_and_only_if_it_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), settings());
    let entries: Vec<_> = (1..=300).map(|index| numbered(index, 1)).collect();
    write(&mut rig, &entries);
    rig.storage.close().unwrap();

    let opened = Storage::open(dir.path(), settings(), Arc::new(|_| ()));
    let Err(Error::Unfit(why)) = opened else {
        panic!("{opened:?}");
    };
    assert!(
        why.starts_with("group 7 cannot be made again from its log: entry "),
        "{why}"
    );
    let all = Settings {
        unapplied_bytes_max: u64::MAX,
        ..settings()
    };
    let (_rig, recovered) = Rig::open(dir.path(), all);
    assert_eq!(only(&recovered).tail.len(), 300);
}
