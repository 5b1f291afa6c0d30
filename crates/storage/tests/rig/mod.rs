//! A storage under test, driven as the server drives it.

#![allow(dead_code, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub(crate) mod byhand;
pub(crate) mod late;

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use kontiki_broker::{GroupWrite, Placed, Writes};
use kontiki_raft::{
    Entry, Hard, Incarnation, Index, Kind, LogId, Membership, Micros, NodeId, NodeRef, Persist,
    Term, WriteSeq,
};
use kontiki_storage::{Disk, Error, Event, Log, Recovered, RecoveredGroup, Settings, Storage};
use kontiki_wire::{DeliveredBatch, GroupId, Offset};

pub(crate) const GROUP: GroupId = GroupId(7);

/// Files so small that every test turns over many of them.
pub(crate) fn small() -> Settings {
    Settings {
        journal_file_bytes: 16 << 10,
        segment_bytes: 32 << 10,
        hot_bytes_max: 0,
        cached_bytes_max: 0,
        ..Settings::default()
    }
}

pub(crate) struct Rig {
    pub(crate) storage: Storage,
    events: mpsc::Receiver<Event>,
    seq: u64,
}

impl Rig {
    pub(crate) fn open(dir: &Path, settings: Settings) -> (Self, Recovered) {
        let (tell, events) = told();
        let (storage, recovered) = Storage::open(dir, settings, tell).unwrap();
        let rig = Self {
            storage,
            events,
            seq: 0,
        };
        (rig, recovered)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        settings: Settings,
    ) -> Result<(Self, Recovered), Error> {
        let (tell, events) = told();
        let (storage, recovered) = Storage::open_on(disk, settings, tell)?;
        let rig = Self {
            storage,
            events,
            seq: 0,
        };
        Ok((rig, recovered))
    }

    /// Queues a write of several groups.
    pub(crate) fn queue(&mut self, writes: Vec<GroupWrite>) -> u64 {
        self.seq += 1;
        let seq = self.seq;
        self.storage.persist(Writes { seq, writes });
        seq
    }

    /// Waits until a write is durable, or for what failed.
    pub(crate) fn wait(&mut self, seq: u64) -> Result<(), Error> {
        loop {
            match self.events.recv().unwrap() {
                Event::Persisted { upto } if upto >= seq => return Ok(()),
                Event::Persisted { .. } => {}
                Event::Failed(error) => return Err(error),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What storage said and nobody has listened to yet.
    pub(crate) fn said(&mut self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    pub(crate) fn try_write(&mut self, group: GroupId, persist: Persist) -> Result<(), Error> {
        let seq = self.queue(vec![GroupWrite { group, persist }]);
        self.wait(seq)
    }

    pub(crate) fn write(&mut self, group: GroupId, persist: Persist) {
        self.try_write(group, persist).unwrap();
    }

    pub(crate) fn log(&self, group: GroupId) -> Log {
        self.storage.log(group).unwrap()
    }

    /// Places entries `first..=last`, one record each, at the offset that is one less than the index.
    pub(crate) fn place(&self, group: GroupId, first: u64, last: u64) {
        let placed: Vec<_> = (first..=last)
            .map(|index| place(index, index - 1, 1))
            .collect();
        self.storage.applied(group, &placed);
    }

    /// Appends and places entries `first..=last` of one term, each with a body that its index gives.
    pub(crate) fn fill(&mut self, group: GroupId, first: u64, last: u64, term: u64) {
        for index in first..=last {
            self.write(group, append(vec![numbered(index, term)]));
            self.place(group, index, index);
        }
    }
}

fn told() -> (Arc<dyn Fn(Event) + Send + Sync>, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let tell = move |event| {
        // After the test has ended nobody listens.
        let _ = sender.send(event);
    };
    (Arc::new(tell), events)
}

/// A configuration's body, another for each index.
pub(crate) fn configuration(index: u64) -> Vec<u8> {
    let node = |id| NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id + 100),
    };
    let voters = index..=index + index % 3;
    Membership::of(voters.map(node)).encode().to_vec()
}

/// What an entry says, if it is a configuration.
pub(crate) fn config_of(entry: &Entry) -> Option<(Index, Membership)> {
    let config = (entry.kind == Kind::Config).then(|| Membership::decode(&entry.body));
    Some((entry.id.index, config?.unwrap()))
}

/// An entry of that kind which its body is good for: a configuration or a batch.
pub(crate) fn entry(index: u64, term: u64, body: &[u8]) -> Entry {
    Entry {
        id: LogId {
            term: Term(term),
            index: Index(index),
        },
        kind: match Membership::decode(body) {
            Some(_) => Kind::Config,
            None => Kind::Batch,
        },
        time: Micros(1000 * index),
        checksum: crc32c::crc32c(body),
        body: Bytes::copy_from_slice(body),
    }
}

/// An entry whose body tells its index, up to a few hundred bytes long.
pub(crate) fn numbered(index: u64, term: u64) -> Entry {
    let len = 20 + (index * 37 % 300) as usize;
    let mut body = index.to_be_bytes().to_vec();
    body.resize(len, index as u8);
    entry(index, term, &body)
}

pub(crate) fn append(entries: Vec<Entry>) -> Persist {
    Persist {
        seq: WriteSeq(0),
        hard: None,
        truncate_from: None,
        append: entries,
        commit: Index(0),
    }
}

pub(crate) fn hard(term: u64, vote: u64) -> Hard {
    Hard {
        term: Term(term),
        vote: Some(NodeRef {
            id: NodeId(vote),
            incarnation: Incarnation(vote + 100),
        }),
        recovering: false,
    }
}

pub(crate) fn place(index: u64, offset: u64, count: u32) -> Placed {
    Placed {
        index: Index(index),
        offset: Offset(offset),
        count,
    }
}

/// The one group that was found.
pub(crate) fn only(recovered: &Recovered) -> &RecoveredGroup {
    let [group] = &recovered.groups[..] else {
        panic!("{recovered:?}");
    };
    group
}

/// Every batch from `from` to `until`, in many reads, checked to be contiguous.
pub(crate) fn read_all(log: &Log, from: u64, until: u64, bytes_max: usize) -> Vec<DeliveredBatch> {
    let mut all = Vec::new();
    let mut next = from;
    while next < until {
        let batches = log.read(Offset(next), Offset(until), bytes_max).unwrap();
        assert!(!batches.is_empty(), "at least one batch");
        for batch in batches {
            assert_eq!(batch.offset.0, next, "no gap");
            next += 1;
            all.push(batch);
        }
    }
    all
}
