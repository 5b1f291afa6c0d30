//! The log as far as it is in memory: the terms of all of it, the entries of its tail.

use std::collections::{VecDeque, vec_deque};

use crate::{
    entry::Entry,
    ids::{Index, LogId, Micros, Term},
    terms::TermIndex,
};

/// What an entry counts besides its body, so that empty ones are not free.
pub(crate) const ENTRY_WEIGHT: u64 = 64;

/// What an entry counts against a bound of bytes.
pub(crate) fn weight(entry: &Entry) -> u64 {
    entry.body.len() as u64 + ENTRY_WEIGHT
}

/// Entries that are kept in memory although the host has them, too, for followers that are a little behind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tail {
    /// What they take.
    pub bytes: u64,
    /// The last that is durable and applied.
    pub upto: Index,
}

/// Terms and tail.
///
/// Invariant: the tail is contiguous, ends at the end of the log, and begins no later than one after
/// `settled`; `settled_weight` is at most `settled_weight_max`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Log {
    terms: TermIndex,
    tail: VecDeque<Entry>,
    weight: u64,
    /// Up to here the tail may be forgotten: applied and durable.
    settled: Index,
    settled_weight: u64,
    settled_weight_max: u64,
    /// The time of the last entry if none is in memory, as far as it is known.
    time: Micros,
}

impl Log {
    /// A log that holds `terms`, with `tail` as its end and everything up to `settled` applied and
    /// durable. The caller has verified that they fit.
    pub(crate) fn new(
        terms: TermIndex,
        tail: Vec<Entry>,
        settled: Index,
        settled_max: u64,
    ) -> Self {
        let tail_before = Index(terms.last().index.0 - tail.len() as u64);
        let mut log = Self {
            terms,
            weight: tail.iter().map(weight).sum(),
            tail: tail.into(),
            settled: tail_before,
            settled_weight: 0,
            settled_weight_max: settled_max,
            time: Micros(0),
        };
        log.settle(settled);
        log
    }

    /// The compacted position.
    pub(crate) fn base(&self) -> LogId {
        self.terms.base()
    }

    /// The end of the log.
    pub(crate) fn last(&self) -> LogId {
        self.terms.last()
    }

    /// The time of the last entry, as far as it is known.
    pub(crate) fn last_time(&self) -> Micros {
        self.tail.back().map_or(self.time, |entry| entry.time)
    }

    /// The first index that is in memory; one after the end if none is.
    pub(crate) fn tail_first(&self) -> Index {
        Index(self.last().index.0 + 1 - self.tail.len() as u64)
    }

    /// How many entries are in memory.
    pub(crate) fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// See [`TermIndex::term_at`].
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        self.terms.term_at(index)
    }

    /// See [`TermIndex::contains`].
    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.terms.contains(id)
    }

    /// See [`TermIndex::greatest_within`].
    pub(crate) fn greatest_within(&self, limit: LogId) -> LogId {
        self.terms.greatest_within(limit)
    }

    /// The position at `index`, if it is retained.
    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        let term = self.term_at(index)?;
        Some(LogId { term, index })
    }

    /// Bytes that must stay in memory: not yet applied, or not yet durable.
    pub(crate) fn unsettled_weight(&self) -> u64 {
        self.weight - self.settled_weight
    }

    /// Entries that must stay in memory.
    pub(crate) fn unsettled_count(&self) -> u64 {
        self.last().index.0 - self.settled.0
    }

    /// Up to here everything is applied and durable.
    pub(crate) fn settled(&self) -> Index {
        self.settled
    }

    /// Appends the entry that follows the end.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert_eq!(
            entry.id.index,
            self.last().index.next(),
            "an entry out of place"
        );
        self.terms.extend(entry.id.term, 1);
        self.weight += weight(&entry);
        self.tail.push_back(entry);
    }

    /// Removes the entries at and after `from`, none of which is settled.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.settled, "a settled entry cannot be cut");
        while self.tail.back().is_some_and(|entry| entry.id.index >= from) {
            let entry = self.tail.pop_back().expect("the loop has seen it");
            self.weight -= weight(&entry);
        }
        self.terms.truncate(from);
    }

    /// Forgets everything before `base`, all of which is settled.
    pub(crate) fn compact(&mut self, base: LogId) {
        self.terms.compact(base);
        while self.tail.front().is_some_and(|e| e.id.index < base.index) {
            self.forget_first();
        }
    }

    /// Takes these terms and this tail for the log: of all of it, or of what is behind their base if they
    /// join. Up to `settled` it is applied.
    pub(crate) fn replace(
        &mut self,
        terms: TermIndex,
        joins: bool,
        (tail, time): (Vec<Entry>, Micros),
        settled: Index,
    ) {
        let mut all = match joins {
            true => self.terms.clone(),
            false => TermIndex::new(terms.base()),
        };
        all.replace(&terms);
        *self = Self::new(all, tail, settled, self.settled_weight_max);
        self.time = time;
    }

    /// The entries `first..=last`, all of which are in memory.
    pub(crate) fn range(&self, first: Index, last: Index) -> vec_deque::Iter<'_, Entry> {
        let tail_first = self.tail_first();
        assert!(tail_first <= first, "entries that are no longer in memory");
        let from = (first.0 - tail_first.0) as usize;
        let to = (last.0 + 1).saturating_sub(tail_first.0) as usize;
        self.tail.range(from..to.max(from))
    }

    /// Everything up to `upto` is applied and durable: forgets the oldest beyond what may be kept.
    pub(crate) fn settle(&mut self, upto: Index) {
        let upto = upto.min(self.last().index);
        if upto > self.settled {
            let more: u64 = self.range(self.settled.next(), upto).map(weight).sum();
            self.settled_weight += more;
            self.settled = upto;
        }
        while self.settled_weight > self.settled_weight_max {
            self.forget_first();
        }
    }

    /// What is settled and still in memory.
    pub(crate) fn settled_tail(&self) -> Tail {
        Tail {
            bytes: self.settled_weight,
            upto: self.settled,
        }
    }

    /// Forgets all of that.
    pub(crate) fn forget_settled(&mut self) {
        while self.settled_weight > 0 {
            self.forget_first();
        }
    }

    /// Forgets the first entry in memory, which is settled.
    fn forget_first(&mut self) {
        let entry = self.tail.pop_front();
        let entry = entry.expect("what is settled and weighs something is in the tail");
        let weight = weight(&entry);
        self.weight -= weight;
        self.settled_weight -= weight;
        self.time = entry.time;
    }

    /// Whether the sums and the tail are what a count from scratch gives. Walks the whole tail.
    pub(crate) fn adds_up(&self) -> bool {
        let settled = self.tail.iter().take_while(|e| e.id.index <= self.settled);
        let first = self.tail_first();
        self.weight == self.tail.iter().map(weight).sum::<u64>()
            && self.settled_weight == settled.map(weight).sum::<u64>()
            && self.settled_weight <= self.settled_weight_max
            && (0..).zip(&self.tail).all(|(i, e)| {
                e.id.index.0 == first.0 + i && self.term_at(e.id.index) == Some(e.id.term)
            })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{entry::Kind, ids::Term};

    fn log(entries: u64, settled_max: u64) -> Log {
        let origin = LogId::default();
        let mut log = Log::new(TermIndex::new(origin), Vec::new(), Index(0), settled_max);
        for index in 1..=entries {
            log.push(Entry {
                id: LogId {
                    term: Term(1),
                    index: Index(index),
                },
                kind: Kind::Batch,
                time: Micros(index * 10),
                checksum: 0,
                body: Bytes::from_static(b"one that counts"),
            });
        }
        log
    }

    #[test]
    fn what_is_settled_is_forgotten_beyond_what_may_be_kept_and_nothing_else() {
        let mut log = log(9, u64::MAX);
        let each = log.range(Index(1), Index(1)).map(weight).sum::<u64>();
        log.settle(Index(6));
        assert_eq!(log.tail_first(), Index(1));
        assert_eq!(log.settled_tail().bytes, 6 * each);
        log.forget_settled();
        assert_eq!(log.tail_first(), Index(7), "three are not settled");
        assert!(log.adds_up());
        let mut log = self::log(9, 3 * each - 1);
        log.settle(Index(6));
        assert_eq!(log.tail_first(), Index(5), "two of six");
        assert!(log.adds_up());
    }

    #[test]
    fn the_time_of_the_last_entry_outlives_it() {
        let mut log = log(3, 0);
        log.settle(Index(2));
        log.truncate(Index(3));
        assert_eq!((log.last_time(), log.tail_len()), (Micros(20), 0));
        assert_eq!(log.tail_first(), Index(3));
        assert!(log.adds_up());
        let mut log = self::log(3, 0);
        log.settle(Index(3));
        assert_eq!((log.last_time(), log.tail_len()), (Micros(30), 0));
    }
}
