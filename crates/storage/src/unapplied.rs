//! The entries of a group that its checkpoint does not include, as a start holds them: of more than it
//! may hold, it makes a later checkpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_broker::Rebuild;
use kontiki_raft::{Entry, Index, Kind, Membership};
use kontiki_wire::GroupId;

use crate::{
    planted::{Planted, plants},
    state::Checkpoint,
};

/// What a start has read of a group's log so far. Everything given to it is committed.
#[derive(Debug)]
pub(crate) struct Unapplied {
    group: GroupId,
    bytes_max: u64,
    /// Bytes of the entries held, with what each of them takes itself.
    bytes: u64,
    entries: Vec<Entry>,
    /// The one that the host has.
    checkpoint: Option<Checkpoint>,
    /// What those that are not held any more come to, after it.
    rebuild: Option<Rebuild>,
    /// Configurations among them.
    configs: BTreeMap<Index, Membership>,
    /// Why that could not go on.
    unfit: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Held {
    /// Every entry after the checkpoint, and the one that it ends with.
    pub(crate) entries: Vec<Entry>,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Configurations up to the checkpoint, as far as they are known.
    pub(crate) configs: BTreeMap<Index, Membership>,
    /// Whether the checkpoint was made now.
    pub(crate) is_rebuilt: bool,
}

impl Held {
    /// Nothing but the checkpoint.
    pub(crate) fn none(checkpoint: Option<Checkpoint>) -> Self {
        Self {
            entries: Vec::new(),
            checkpoint,
            configs: BTreeMap::new(),
            is_rebuilt: false,
        }
    }
}

impl Unapplied {
    /// Holds at most `bytes_max` of what follows the checkpoint. The cluster's own group is held whole:
    /// its commands are small and few, and what they come to depends on how this member was born.
    pub(crate) fn new(group: GroupId, checkpoint: Option<Checkpoint>, bytes_max: u64) -> Self {
        Self {
            group,
            bytes_max: match group == GroupId::CLUSTER {
                true => u64::MAX,
                false => bytes_max,
            },
            bytes: 0,
            entries: Vec::new(),
            checkpoint,
            rebuild: None,
            configs: BTreeMap::new(),
            unfit: None,
        }
    }

    /// Takes the next entry, beginning with the one that the checkpoint ends with. What was read again
    /// is ignored.
    pub(crate) fn push(&mut self, entry: Entry) {
        let known = self.entries.last();
        if known.is_some_and(|known| entry.id.index <= known.id.index) {
            return;
        }
        self.bytes += weight(&entry);
        self.entries.push(entry);
        if self.bytes > self.bytes_max && self.unfit.is_none() {
            self.unfit = self.fold().err();
        }
        if self.unfit.is_some() {
            // It is told when all is read; until then nothing is to grow.
            self.let_go();
        }
    }

    /// Makes a checkpoint of everything held. The last entry stays: it may be the end of the log, whose
    /// time a leader must know.
    fn fold(&mut self) -> Result<(), String> {
        let mut rebuild = match self.rebuild.take() {
            Some(rebuild) => rebuild,
            None => Rebuild::new(self.checkpoint.as_ref())?,
        };
        let applied = rebuild.applied();
        for entry in &self.entries {
            // The one that the checkpoint ends with is not held from now on either.
            let is_told = entry.id != applied || !plants(Planted::CheckpointsConfigForgotten);
            if entry.kind == Kind::Config && is_told {
                let config = Membership::decode(&entry.body);
                let config =
                    config.ok_or_else(|| format!("entry {} is no configuration", entry.id))?;
                self.configs.insert(entry.id.index, config);
            }
            if entry.id != applied {
                rebuild.apply(entry)?;
            }
        }
        self.rebuild = Some(rebuild);
        self.let_go();
        Ok(())
    }

    fn let_go(&mut self) {
        let last = self.entries.pop();
        self.entries.clear();
        self.bytes = last.as_ref().map_or(0, weight);
        self.entries.extend(last);
    }

    /// All was read, and belongs to the log; or what in it is not what it should be.
    pub(crate) fn held(self) -> Result<Held, String> {
        if let Some(why) = self.unfit {
            return Err(format!(
                "group {} cannot be made again from its log: {why}",
                self.group
            ));
        }
        let rebuilt = self.rebuild.map(|rebuild| rebuild.checkpoint());
        let mut entries = self.entries;
        for entry in &mut entries {
            // What was read at once with it is not to stay for as long as it does: the last one of a topic that
            // nobody appends to stays for long.
            entry.body = Bytes::copy_from_slice(&entry.body);
        }
        Ok(Held {
            entries,
            is_rebuilt: rebuilt.is_some(),
            checkpoint: rebuilt.or(self.checkpoint),
            configs: self.configs,
        })
    }
}

fn weight(entry: &Entry) -> u64 {
    (entry.body.len() + size_of::<Entry>()) as u64
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{LogId, Micros, Term};

    use super::*;

    /// A topic's last entry kept a mebibyte of its segment.
    #[test]
    fn what_is_held_keeps_nothing_else_of_what_was_read() {
        let read = Bytes::from(vec![7; 1 << 20]);
        let mut unapplied = Unapplied::new(GroupId(1), None, 1 << 20);
        for index in 1..=3 {
            unapplied.push(Entry {
                id: LogId {
                    term: Term(1),
                    index: Index(index),
                },
                kind: Kind::Batch,
                time: Micros(0),
                checksum: 0,
                body: read.slice(..100),
            });
        }
        let held = unapplied.held().unwrap();
        assert_eq!(held.entries.len(), 3);
        assert!(held.entries.iter().all(|entry| entry.body == read[..100]));
        assert!(read.is_unique());
    }
}
