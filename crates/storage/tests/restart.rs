//! What is acknowledged is there after a restart.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use kontiki_broker::{GroupWrite, Placed, Writes};
use kontiki_raft::{
    Entry, Hard, Incarnation, Index, Kind, LogId, Micros, NodeId, NodeRef, Persist, Term, WriteSeq,
};
use kontiki_storage::{Event, Recovered, Settings, Storage};
use kontiki_wire::{GroupId, Offset};

const GROUP: GroupId = GroupId(7);

struct Node {
    storage: Storage,
    events: mpsc::Receiver<Event>,
    seq: u64,
}

fn open(dir: &Path) -> (Node, Recovered) {
    let (sender, events) = mpsc::channel();
    let settings = Settings {
        journal_file_bytes: 64 << 10,
        ..Settings::default()
    };
    let tell = Arc::new(move |event| {
        // After the test has ended nobody listens.
        let _ = sender.send(event);
    });
    let (storage, recovered) = Storage::open(dir, settings, tell).unwrap();
    let node = Node {
        storage,
        events,
        seq: 0,
    };
    (node, recovered)
}

fn entry(index: u64, term: u64, body: &[u8]) -> Entry {
    Entry {
        id: LogId {
            term: Term(term),
            index: Index(index),
        },
        kind: Kind::Batch,
        time: Micros(1000 + index),
        checksum: crc32c::crc32c(body),
        body: Bytes::copy_from_slice(body),
    }
}

fn persist(append: Vec<Entry>) -> Persist {
    Persist {
        seq: WriteSeq(0),
        hard: None,
        truncate_from: None,
        append,
        commit: Index(0),
    }
}

impl Node {
    fn write(&mut self, persist: Persist) {
        self.seq += 1;
        self.storage.persist(Writes {
            seq: self.seq,
            writes: vec![GroupWrite {
                group: GROUP,
                persist,
            }],
        });
        loop {
            match self.events.recv().unwrap() {
                Event::Persisted { upto } if upto == self.seq => return,
                Event::Persisted { .. } => {}
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn term_vote_and_entries_survive_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, recovered) = open(dir.path());
    assert!(recovered.groups.is_empty());
    let hard = Hard {
        term: Term(3),
        vote: Some(NodeRef {
            id: NodeId(2),
            incarnation: Incarnation(9),
        }),
    };
    node.write(Persist {
        hard: Some(hard),
        ..persist(vec![entry(1, 3, b"one"), entry(2, 3, b"two")])
    });
    node.storage.close().unwrap();

    let (node, recovered) = open(dir.path());
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(recovered.torn, None);
    let [group] = &recovered.groups[..] else {
        panic!("{recovered:?}");
    };
    assert_eq!(group.hard, hard);
    assert_eq!(group.tail, [entry(1, 3, b"one"), entry(2, 3, b"two")]);
    assert_eq!(group.last, Index(2));
    assert_eq!(group.terms, [(Index(1), Term(3))]);
    let log = node.storage.log(GROUP).unwrap();
    let entries = log.entries(Index(1), Index(2), u64::MAX).unwrap();
    assert_eq!(entries, group.tail);
}

#[test]
fn truncated_entries_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, _) = open(dir.path());
    node.write(persist(vec![
        entry(1, 1, b"a"),
        entry(2, 1, b"b"),
        entry(3, 1, b"c"),
    ]));
    node.write(Persist {
        truncate_from: Some(Index(2)),
        ..persist(vec![entry(2, 2, b"B")])
    });
    node.storage.close().unwrap();
    let (_node, recovered) = open(dir.path());
    assert_eq!(
        recovered.groups[0].tail,
        [entry(1, 1, b"a"), entry(2, 2, b"B")]
    );
}

#[test]
fn writes_go_on_over_many_journal_files() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, _) = open(dir.path());
    let body = vec![7; 10_000];
    for index in 1..=40 {
        node.write(persist(vec![entry(index, 1, &body)]));
    }
    drop(node);
    let (_node, recovered) = open(dir.path());
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(recovered.groups[0].last, Index(40));
}

#[test]
fn readers_see_placed_batches_only() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, _) = open(dir.path());
    node.write(persist(vec![
        entry(1, 1, b"one"),
        entry(2, 1, b"two"),
        entry(3, 1, b"three"),
    ]));
    let log = node.storage.log(GROUP).unwrap();
    assert_eq!(log.read_hot(Offset(0), Offset(9), 1000), Some(vec![]));
    let place = |index, offset, count| Placed {
        index: Index(index),
        offset: Offset(offset),
        count,
    };
    node.storage
        .applied(GROUP, &[place(1, 0, 5), place(2, 5, 0)]);
    let batches = log.read_hot(Offset(3), Offset(5), 1000).unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].offset, Offset(0));
    assert_eq!(batches[0].batch, &b"one"[..]);
}

#[test]
fn second_process_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, _) = open(dir.path());
    let error = Storage::open(dir.path(), Settings::default(), Arc::new(|_| {})).unwrap_err();
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
}
