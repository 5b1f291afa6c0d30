//! What is on its way to the disk, and what has arrived there.

use std::collections::VecDeque;

use crate::{
    effect::{Hard, Persist},
    ids::{Index, WriteSeq},
    log::Log,
};

/// A write that was emitted and has not come back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Pending {
    seq: WriteSeq,
    hard: Option<Hard>,
    truncate_from: Option<Index>,
    last: Index,
}

/// The one ordered stream of a group's writes.
///
/// `durable` never counts what a write still on its way will replace, so that equal positions of
/// different terms cannot be mistaken for each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Writes {
    newest: WriteSeq,
    /// What the disk will hold when every emitted write has arrived.
    queued_hard: Hard,
    queued_last: Index,
    /// The lowest index that the next write replaces.
    truncate_from: Option<Index>,
    pending: VecDeque<Pending>,
    durable_hard: Hard,
    durable: Index,
}

impl Writes {
    /// Nothing is on its way, and the disk holds this.
    pub(crate) fn new(hard: Hard, last: Index) -> Self {
        Self {
            newest: WriteSeq(0),
            queued_hard: hard,
            queued_last: last,
            truncate_from: None,
            pending: VecDeque::new(),
            durable_hard: hard,
            durable: last,
        }
    }

    /// The end of what is on the disk and stays there.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The term and vote that are on the disk.
    pub(crate) fn durable_hard(&self) -> Hard {
        self.durable_hard
    }

    /// The log was cut: the entries at and after `from` are gone.
    pub(crate) fn truncated(&mut self, from: Index) {
        self.durable = self.durable.min(from.prev());
        if from <= self.queued_last {
            self.queued_last = from.prev();
            self.truncate_from = Some(self.truncate_from.map_or(from, |lowest| lowest.min(from)));
        }
    }

    /// The next write: everything that changed since the last one.
    pub(crate) fn form(&mut self, hard: Hard, log: &Log, commit: Index) -> Option<Persist> {
        let last = log.last().index;
        let hard = (hard != self.queued_hard).then_some(hard);
        if hard.is_none() && self.truncate_from.is_none() && last == self.queued_last {
            return None;
        }
        let append = log.range(self.queued_last.next(), last).cloned().collect();
        let truncate_from = self.truncate_from.take();
        self.newest = WriteSeq(self.newest.0 + 1);
        self.queued_hard = hard.unwrap_or(self.queued_hard);
        self.queued_last = last;
        self.pending.push_back(Pending {
            seq: self.newest,
            hard,
            truncate_from,
            last,
        });
        Some(Persist {
            seq: self.newest,
            hard,
            truncate_from,
            append,
            commit: commit.min(last),
        })
    }

    /// Everything up to `upto` has arrived. A lower one than before changes nothing; one that was never
    /// emitted counts as the newest.
    pub(crate) fn arrived(&mut self, upto: WriteSeq) {
        let mut last = None;
        while self.pending.front().is_some_and(|write| write.seq <= upto) {
            let write = self.pending.pop_front().expect("the loop has seen it");
            self.durable_hard = write.hard.unwrap_or(self.durable_hard);
            last = Some(write.last);
        }
        let Some(last) = last else { return };
        let replaced = self.pending.iter().filter_map(|write| write.truncate_from);
        self.durable = replaced
            .chain(self.truncate_from)
            .map(Index::prev)
            .fold(last, Index::min);
    }
}
