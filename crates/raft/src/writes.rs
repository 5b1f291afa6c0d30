//! What is on its way to the disk, and what has arrived there.

use std::collections::VecDeque;

use crate::{
    effect::Persist,
    ids::{Hard, Index, WriteSeq},
    input::Stretch,
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
    /// A stretch that the next write puts in the log's place: what stays durable until then, and it.
    install: Option<(Index, Box<Stretch>)>,
    /// The end of the last stretch, until it is there.
    installing: Option<(WriteSeq, Index)>,
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
            install: None,
            installing: None,
        }
    }

    /// Whether a stretch is on its way into the log.
    pub(crate) fn is_installing(&self) -> bool {
        self.install.is_some() || self.installing.is_some()
    }

    /// Up to here the disk has everything, be it beside the log.
    pub(crate) fn held(&self) -> Index {
        let beside = self.install.as_ref().map(|(_, stretch)| stretch.last);
        let beside = beside.or_else(|| self.installing.map(|(_, last)| last));
        self.durable.max(beside.unwrap_or_default())
    }

    /// The log is replaced by a stretch that ends at `last`. Up to `kept` it stays what it was.
    pub(crate) fn install(&mut self, kept: Index, last: Index, stretch: Box<Stretch>) {
        self.durable = self.durable.min(kept);
        self.truncate_from = None;
        self.queued_last = last;
        self.install = Some((kept, stretch));
    }

    /// The write that puts a stretch in its place, if there is one; before any other.
    pub(crate) fn form_install(&mut self) -> Option<(WriteSeq, Box<Stretch>)> {
        let (kept, stretch) = self.install.take()?;
        self.newest = WriteSeq(self.newest.0 + 1);
        self.installing = Some((self.newest, stretch.last));
        self.pending.push_back(Pending {
            seq: self.newest,
            hard: None,
            truncate_from: Some(kept.next()),
            last: stretch.last,
        });
        Some((self.newest, stretch))
    }

    /// The end of what the disk will hold of the log as it is, when every emitted write has arrived.
    pub(crate) fn queued_last(&self) -> Index {
        self.queued_last
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

    /// Counts the writes on their way from one again; see [`crate::Raft::forget_time`].
    #[cfg(feature = "planted")]
    pub(crate) fn renumber(&mut self) {
        self.newest = WriteSeq(self.pending.len() as u64);
        for (seq, write) in (1..).zip(&mut self.pending) {
            if let Some(installing) = &mut self.installing
                && installing.0 == write.seq
            {
                installing.0 = WriteSeq(seq);
            }
            write.seq = WriteSeq(seq);
        }
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
        self.installing = self.installing.filter(|(seq, _)| *seq > upto);
        let unformed = self.install.as_ref().map(|(kept, _)| kept.next());
        let replaced = self.pending.iter().filter_map(|write| write.truncate_from);
        self.durable = replaced
            .chain(self.truncate_from)
            .chain(unformed)
            .map(Index::prev)
            .fold(last, Index::min);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        entry::{Entry, Kind},
        ids::{LogId, Micros, Term},
        random::Random,
        terms::TermIndex,
    };

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            id: LogId {
                term: Term(term),
                index: Index(index),
            },
            kind: Kind::Noop,
            time: Micros(0),
            checksum: 0,
            body: Bytes::new(),
        }
    }

    /// A disk that performs writes one by one, and the log as its member sees it.
    #[derive(Default)]
    struct Model {
        disk: Vec<LogId>,
        log: Vec<LogId>,
        queue: VecDeque<Persist>,
    }

    impl Model {
        fn write(&mut self) -> Option<WriteSeq> {
            let write = self.queue.pop_front()?;
            let from = write.truncate_from;
            self.disk
                .truncate(from.map_or(usize::MAX, |i| i.0 as usize - 1));
            for entry in write.append {
                assert_eq!(entry.id.index.0, self.disk.len() as u64 + 1, "a gap");
                self.disk.push(entry.id);
            }
            Some(write.seq)
        }

        /// How far the disk equals the log, whichever of the queued writes still happen: an entry that
        /// one of them replaces does not count even if it is written again as it was.
        fn durable(&self, unformed: Option<Index>) -> u64 {
            let replaced = self.queue.iter().filter_map(|write| write.truncate_from);
            let least = replaced.chain(unformed).min().map_or(u64::MAX, |i| i.0 - 1);
            least.min(self.disk.len() as u64)
        }
    }

    #[test]
    fn durable_is_what_the_disk_has_and_no_queued_write_replaces() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let terms = TermIndex::new(LogId::ORIGIN);
            let mut log = Log::new(terms, Vec::new(), Index(0), u64::MAX);
            let mut writes = Writes::new(Hard::default(), Index(0));
            let (mut model, mut unformed, mut hard) = (Model::default(), None, Hard::default());
            for step in 1..80 {
                let last = model.log.len() as u64;
                match random.up_to(10) {
                    1..=3 => {
                        log.push(entry(last + 1, step));
                        model.log.push(entry(last + 1, step).id);
                    }
                    4 if last > 0 => {
                        let from = random.up_to(last);
                        log.truncate(Index(from));
                        writes.truncated(Index(from));
                        model.log.truncate(from as usize - 1);
                        unformed = writes.truncate_from;
                    }
                    5 => hard.term = Term(step),
                    6..=8 => {
                        let write = writes.form(hard, &log, Index(0));
                        assert_eq!(writes.form(hard, &log, Index(0)), None, "nothing is new");
                        model.queue.extend(write);
                        unformed = None;
                    }
                    _ => {
                        let count = random.up_to(3);
                        let upto = (0..count).filter_map(|_| model.write()).last();
                        let upto = upto.unwrap_or(WriteSeq(0));
                        writes.arrived(upto);
                        writes.arrived(WriteSeq(upto.0 / 2));
                    }
                }
                let durable = writes.durable().0;
                assert_eq!(durable, model.durable(unformed), "seed {seed} step {step}");
                let (held, kept) = (&model.disk[..durable as usize], &model.log);
                assert_eq!(held, &kept[..durable as usize], "seed {seed} step {step}");
            }
        }
    }

    #[test]
    fn a_completion_that_was_never_asked_for_counts_as_the_newest() {
        let terms = TermIndex::new(LogId::ORIGIN);
        let mut log = Log::new(terms, Vec::new(), Index(0), 0);
        let mut writes = Writes::new(Hard::default(), Index(0));
        log.push(entry(1, 1));
        assert!(writes.form(Hard::default(), &log, Index(0)).is_some());
        log.push(entry(2, 1));
        writes.arrived(WriteSeq(u64::MAX));
        assert_eq!(writes.durable(), Index(1), "the second was not written");
    }
}
