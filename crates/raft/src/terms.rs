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

    /// Forgets everything before `base`, which is retained.
    pub(crate) fn compact(&mut self, base: LogId) {
        assert!(
            self.contains(base),
            "what is not retained cannot become the base"
        );
        let gone = self.runs.partition_point(|run| run.0 <= base.index);
        // The last of these goes on behind the base, if anything does.
        let goes_on = self
            .runs
            .get(gone)
            .map_or_else(|| self.last.next(), |run| run.0)
            > base.index.next();
        self.runs.drain(..gone);
        if goes_on && base.index < self.last {
            self.runs.insert(0, (base.index.next(), base.term));
        }
        self.base = base;
    }

    /// Takes `after`, whose base is retained here, for everything behind that base.
    pub(crate) fn replace(&mut self, after: &Self) {
        assert!(
            self.contains(after.base),
            "what does not join cannot replace"
        );
        if after.base.index < self.last {
            self.truncate(after.base.index.next());
        }
        let ends = after.runs.iter().skip(1).map(|run| run.0);
        for ((first, term), end) in after.runs.iter().zip(ends.chain([after.last.next()])) {
            self.extend(*term, end.0 - first.0);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn id(index: u64, term: u64) -> LogId {
        LogId {
            term: Term(term),
            index: Index(index),
        }
    }

    /// A log after `base` whose entries have these terms.
    fn log(base: LogId, terms: &[u64]) -> TermIndex {
        let mut log = TermIndex::new(base);
        for term in terms {
            log.extend(Term(*term), 1);
        }
        log
    }

    /// The same as a plain list, the base first.
    fn plain(base: LogId, terms: &[u64]) -> Vec<LogId> {
        let entries = (base.index.0 + 1..).zip(terms);
        let entries = entries.map(|(index, term)| id(index, *term));
        [base].into_iter().chain(entries).collect()
    }

    fn assert_same(log: &TermIndex, plain: &[LogId]) {
        assert_eq!(log.last(), plain[plain.len() - 1]);
        for index in 0..=log.last.0 + 2 {
            let held = plain.iter().find(|held| held.index.0 == index);
            assert_eq!(log.term_at(Index(index)), held.map(|held| held.term));
            for term in 0..=log.last().term.0 + 2 {
                let limit = id(index, term);
                assert_eq!(log.contains(limit), plain.contains(&limit));
                let within = |held: &&LogId| held.index.0 <= index && held.term.0 <= term;
                let expected = plain.iter().rfind(within).copied();
                let expected = expected.unwrap_or(LogId::ORIGIN);
                assert_eq!(log.greatest_within(limit), expected, "{plain:?} {limit}");
            }
        }
    }

    #[test]
    fn runs_say_what_a_plain_list_says() {
        for seed in 0..60 {
            let mut random = Random::new(seed);
            let base = match random.up_to(3) {
                1 => LogId::ORIGIN,
                n => id(n * 2, n),
            };
            let (mut log, mut terms) = (TermIndex::new(base), Vec::new());
            let mut term = base.term.0.max(1);
            for _ in 0..25 {
                match random.up_to(5) {
                    1..=3 => {
                        term += random.up_to(3) - 1;
                        let count = random.up_to(4) - 1;
                        log.extend(Term(term), count);
                        terms.extend((0..count).map(|_| term));
                    }
                    _ => {
                        let kept = random.up_to(terms.len() as u64 + 2) - 1;
                        log.truncate(Index(base.index.0 + 1 + kept));
                        terms.truncate(kept as usize);
                    }
                }
                assert_same(&log, &plain(base, &terms));
                let distinct = terms.chunk_by(|a, b| a == b).count();
                assert_eq!(log.runs.len(), distinct, "a run for each term, no more");
            }
        }
    }

    #[test]
    fn what_is_compacted_or_replaced_leaves_what_was_never_there_otherwise() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut run = |from: u64, count: u64| {
                let mut term = from;
                let mut next = || {
                    term += random.up_to(3) / 2 % 2;
                    term
                };
                (0..count).map(|_| next()).collect::<Vec<_>>()
            };
            let terms = run(1, 12);
            let all = plain(LogId::ORIGIN, &terms);
            for base in &all {
                let at = base.index.0 as usize;
                let mut compacted = log(LogId::ORIGIN, &terms);
                compacted.compact(*base);
                assert_eq!(compacted, log(*base, &terms[at..]), "{terms:?} {base}");
                let other = run(base.term.0.max(1), 5);
                let mut replaced = log(LogId::ORIGIN, &terms);
                replaced.replace(&log(*base, &other));
                let joined = [&terms[..at], &other].concat();
                assert_eq!(replaced, log(LogId::ORIGIN, &joined), "{terms:?} {base}");
            }
        }
    }

    /// The logs of figure 7, the leader's first.
    const FIGURE_7: [&[u64]; 7] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];

    #[test]
    fn the_logs_of_figure_7_meet_in_a_step_for_each_term_at_most() {
        for (leader, follower) in FIGURE_7.iter().flat_map(|a| FIGURE_7.map(|b| (*a, b))) {
            let (ours, theirs) = (log(LogId::ORIGIN, leader), log(LogId::ORIGIN, follower));
            let common = leader.iter().zip(follower).take_while(|(a, b)| a == b);
            let mut prev = ours.last();
            let mut refusals = 0;
            while !theirs.contains(prev) {
                refusals += 1;
                let hint = theirs.greatest_within(prev);
                prev = ours.greatest_within(hint);
            }
            let distinct = leader.chunk_by(|a, b| a == b).count();
            assert!(refusals <= distinct, "{leader:?} {follower:?}: {refusals}");
            assert_eq!(prev.index.0, common.count() as u64, "the last common entry");
        }
    }

    #[test]
    #[should_panic(expected = "the compacted prefix cannot be cut")]
    fn what_is_compacted_cannot_be_cut() {
        TermIndex::new(id(5, 2)).truncate(Index(5));
    }
}
