//! What is acknowledged is there after a restart.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rig;

use std::sync::Arc;

use bytes::Bytes;
use kontiki_raft::{Index, LogId, Persist, Term};
use kontiki_storage::{Settings, Storage};
use kontiki_wire::{GroupId, Offset};

use crate::rig::{GROUP, Rig, append, entry, hard, numbered, only, place, read_all, small};

fn at(index: u64, term: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

#[test]
fn term_vote_and_entries_survive_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, recovered) = Rig::open(dir.path(), small());
    assert!(recovered.groups.is_empty());
    let written = vec![entry(1, 3, b"one"), entry(2, 3, b"two")];
    rig.write(
        GROUP,
        Persist {
            hard: Some(hard(3, 2)),
            ..append(written.clone())
        },
    );
    rig.storage.close().unwrap();

    let (rig, recovered) = Rig::open(dir.path(), small());
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(recovered.torn, None);
    let group = only(&recovered);
    assert_eq!(group.hard, hard(3, 2));
    assert_eq!(group.tail, written);
    assert_eq!(group.last, Index(2));
    assert_eq!(group.terms, [(Index(1), Term(3))]);
    let entries = rig
        .log(GROUP)
        .entries(Index(1), Index(2), u64::MAX)
        .unwrap();
    assert_eq!(entries, written);
}

#[test]
fn truncated_entries_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    let first = vec![entry(1, 1, b"a"), entry(2, 1, b"b"), entry(3, 1, b"c")];
    rig.write(GROUP, append(first));
    rig.write(
        GROUP,
        Persist {
            truncate_from: Some(Index(2)),
            ..append(vec![entry(2, 2, b"B")])
        },
    );
    drop(rig);
    let (_rig, recovered) = Rig::open(dir.path(), small());
    assert_eq!(
        only(&recovered).tail,
        [entry(1, 1, b"a"), entry(2, 2, b"B")]
    );
}

#[test]
fn entries_without_a_commit_survive_many_journal_files() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    let written: Vec<_> = (1..=200).map(|index| numbered(index, 1)).collect();
    for entry in &written {
        rig.write(GROUP, append(vec![entry.clone()]));
    }
    drop(rig);
    let (_rig, recovered) = Rig::open(dir.path(), small());
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(only(&recovered).tail, written);
}

#[test]
fn committed_entries_are_read_from_segments_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    rig.fill(GROUP, 1, 500, 1);
    rig.storage
        .checkpoint(GROUP, at(400, 1), Bytes::from_static(b"state"));
    rig.storage.close().unwrap();

    let (rig, recovered) = Rig::open(dir.path(), small());
    let group = only(&recovered);
    assert_eq!(
        group.checkpoint,
        Some((at(400, 1), Bytes::from_static(b"state")))
    );
    let tail: Vec<_> = (400..=500).map(|index| numbered(index, 1)).collect();
    assert_eq!(group.tail, tail);
    assert_eq!(group.commit, Index(500));
    let log = rig.log(GROUP);
    assert_eq!(log.read_hot(Offset(3), Offset(9), 100), None);
    for (index, batch) in (1..).zip(read_all(&log, 0, 500, 1000)) {
        assert_eq!(batch.batch, numbered(index, 1).body);
        assert_eq!(batch.time, 1000 * index);
    }
    let entries = log.entries(Index(77), Index(79), u64::MAX).unwrap();
    assert_eq!(entries, [77, 78, 79].map(|index| numbered(index, 1)));
    assert_eq!(log.offset_at(0).unwrap(), Some(Offset(0)));
    assert_eq!(log.offset_at(77_001).unwrap(), Some(Offset(77)));
    assert_eq!(log.offset_at(500_000).unwrap(), Some(Offset(499)));
    assert_eq!(log.offset_at(500_001).unwrap(), None);
}

#[test]
fn committed_entries_free_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    rig.fill(GROUP, 1, 2000, 1);
    let bytes = |dir: &str| {
        let files = std::fs::read_dir(dir).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    rig.storage.close().unwrap();
    let journal = dir.path().join("journal");
    let left = bytes(journal.to_str().unwrap());
    assert!(left <= 10 * small().journal_file_bytes, "{left}");
}

#[test]
fn one_group_that_does_not_commit_does_not_hold_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    let stuck = GroupId(8);
    rig.write(
        stuck,
        Persist {
            hard: Some(hard(5, 1)),
            ..append(vec![numbered(1, 5), numbered(2, 5)])
        },
    );
    rig.fill(GROUP, 1, 2000, 1);
    drop(rig);
    let files = std::fs::read_dir(dir.path().join("journal"))
        .unwrap()
        .count();
    assert!(files <= 12, "{files}");
    let (_rig, recovered) = Rig::open(dir.path(), small());
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(recovered.groups[1].tail, [numbered(1, 5), numbered(2, 5)]);
    assert_eq!(recovered.groups[1].hard, hard(5, 1));
}

#[test]
fn readers_see_placed_batches_only() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    rig.write(
        GROUP,
        append(vec![
            entry(1, 1, b"one"),
            entry(2, 1, b"two"),
            entry(3, 1, b"three"),
        ]),
    );
    let log = rig.log(GROUP);
    assert_eq!(log.read_hot(Offset(0), Offset(9), 1000), Some(vec![]));
    rig.storage
        .applied(GROUP, &[place(1, 0, 5), place(2, 5, 0)]);
    let batches = log.read_hot(Offset(3), Offset(5), 1000).unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].offset, Offset(0));
    assert_eq!(batches[0].batch, &b"one"[..]);
    let entries = log.entries(Index(3), Index(3), 1000).unwrap();
    assert_eq!(entries, [entry(3, 1, b"three")]);
}

#[test]
fn removed_group_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    rig.fill(GROUP, 1, 100, 1);
    rig.fill(GroupId(8), 1, 100, 1);
    rig.storage
        .checkpoint(GROUP, at(50, 1), Bytes::from_static(b"x"));
    rig.storage.remove(GROUP);
    assert!(rig.storage.log(GROUP).is_none());
    rig.storage.close().unwrap();
    let (_rig, recovered) = Rig::open(dir.path(), small());
    assert_eq!(only(&recovered).group, GroupId(8));
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert!(!dir.path().join("groups").join("7").exists());
}

#[test]
fn state_that_does_not_open_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::open(dir.path(), small());
    rig.fill(GROUP, 1, 100, 1);
    rig.storage
        .checkpoint(GROUP, at(50, 1), Bytes::from_static(b"x"));
    rig.storage.close().unwrap();
    let state = dir.path().join("state");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    for name in ["version", "lock", "0.jnl"] {
        std::fs::write(state.join(name), b"nonsense").unwrap();
    }
    let (_rig, recovered) = Rig::open(dir.path(), small());
    let group = only(&recovered);
    assert_eq!(group.checkpoint, None);
    assert_eq!(group.tail.len(), 100);
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert!(dir.path().join("state.unreadable-1").exists());
}

#[test]
fn second_process_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (_rig, _) = Rig::open(dir.path(), small());
    let error = Storage::open(dir.path(), Settings::default(), Arc::new(|_| {})).unwrap_err();
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
}
