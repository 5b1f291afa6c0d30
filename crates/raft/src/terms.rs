//! The term of every retained index, as runs: a few words for millions of entries.

use crate::ids::{Index, LogId, Term};

/// Which term wrote each entry after `base`, up to the end of the log.
///
/// Invariant: runs begin after `base`, and their indexes and terms both increase strictly.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TermIndex {
    base: LogId,
    last: Index,
    runs: Vec<(Index, Term)>,
}

impl TermIndex {
    /// An empty log after `base`.
    pub(crate) fn new(base: LogId) -> Self {
        Self {
            base,
            last: base.index,
            runs: Vec::new(),
        }
    }

    /// The compacted position.
    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    /// The end of the log; the base if the log is empty.
    pub(crate) fn last(&self) -> LogId {
        LogId {
            term: self.runs.last().map_or(self.base.term, |run| run.1),
            index: self.last,
        }
    }

    /// Lengthens the log by `count` entries of `term`, which is at least the last entry's.
    pub(crate) fn extend(&mut self, term: Term, count: u64) {
        let last = self.last();
        assert!(
            last.term <= term,
            "an entry's term is below its predecessor's"
        );
        if count == 0 {
            return;
        }
        if self.runs.last().is_none_or(|run| run.1 != term) {
            self.runs.push((self.last.next(), term));
        }
        self.last = Index(self.last.0 + count);
    }

    /// Removes the entries at and after `from`.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.base.index, "the compacted prefix cannot be cut");
        if from > self.last {
            return;
        }
        self.last = from.prev();
        while self.runs.last().is_some_and(|run| run.0 >= from) {
            self.runs.pop();
        }
    }

    /// The term of the entry at `index`; `None` before the base and after the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index < self.base.index || index > self.last {
            return None;
        }
        let runs = self.runs.partition_point(|run| run.0 <= index);
        Some(match runs.checked_sub(1) {
            Some(run) => self.runs[run].1,
            None => self.base.term,
        })
    }

    /// Whether the entry at `id` is in this log, as far as the log is retained.
    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The greatest retained position with neither index nor term beyond `limit`, the base included;
    /// the common origin if there is none. Two logs that exchange these find their last common entry
    /// in at most one step for each term in which they differ.
    pub(crate) fn greatest_within(&self, limit: LogId) -> LogId {
        if limit.index < self.base.index || limit.term < self.base.term {
            return LogId::ORIGIN;
        }
        let by_index = self.runs.partition_point(|run| run.0 <= limit.index);
        let by_term = self.runs.partition_point(|run| run.1 <= limit.term);
        let runs = by_index.min(by_term);
        let end = self.runs.get(runs).map_or(self.last, |run| run.0.prev());
        LogId {
            term: runs
                .checked_sub(1)
                .map_or(self.base.term, |run| self.runs[run].1),
            index: end.min(limit.index),
        }
    }
}
