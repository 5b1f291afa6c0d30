//! Getting missing entries from peers: whom to ask for what, one question at a time.
//!
//! A pass goes through what is missing from the first entry to the last. Whoever has the entry in front
//! gives it, with those that follow; when all have been asked for it in vain, it is passed over. After
//! the pass there is a rest, and then another one, for a peer that was down may be up, and one that is
//! damaged itself may have been mended.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{Index, Micros, NodeId, NodeRef};

/// A range of indexes, both ends included.
pub(crate) type Range = (Index, Index);

/// A peer that has not answered by then is passed over.
pub(crate) const ANSWER_MAX: Micros = Micros(2_000_000);
/// Between two passes, while they bring something: whoever has nothing yet may be about to.
const REST_FIRST: Micros = Micros(50_000);
/// It doubles with every pass in vain up to this: what nobody has, nobody needs to be asked for often.
const REST_LONGEST: Micros = Micros(1_000_000);
/// Ranges that are told apart. Of more, the last are taken for one, with what lies between: a disk ignores
/// what it has.
const RANGES_MAX: usize = 1024;

/// What is missing, and how far a pass has come.
#[derive(Clone, Debug)]
pub(crate) struct Pursuit {
    /// Ascending.
    missing: Vec<Range>,
    /// What was passed over in this pass, and by whom without a word.
    passed: Vec<(Range, BTreeSet<NodeId>)>,
    /// Who lacks the entry in front, up to which entry, and whether that was said.
    lacking: BTreeMap<NodeId, (Index, bool)>,
    waiting: Waiting,
    deadline: Micros,
    /// The next rest.
    rest: Micros,
    /// The fewest entries that were ever missing since more were.
    fewest: u64,
    /// Turns with every pass, so that not always the same peer is asked first.
    turn: usize,
    /// What the last whole pass came to.
    outcome: Outcome,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    Nothing,
    Answer(NodeRef, Range),
    NextPass,
}

/// What a pass came to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    /// There was none, or it was not in vain.
    Open,
    /// These did not say a word.
    Silent(BTreeSet<NodeId>),
    /// Each of these peers, and they were all, has said that he does not have these.
    Nowhere(Vec<Range>, BTreeSet<NodeId>),
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Ask this peer for these.
    Ask(NodeRef, Range),
    /// Wait for what was asked, or for the time.
    Wait,
}

impl Pursuit {
    pub(crate) fn new(missing: Vec<Range>) -> Self {
        let mut pursuit = Self {
            missing: Vec::new(),
            passed: Vec::new(),
            lacking: BTreeMap::new(),
            waiting: Waiting::Nothing,
            deadline: Micros(0),
            rest: REST_FIRST,
            fewest: 0,
            turn: 0,
            outcome: Outcome::Open,
        };
        pursuit.miss(missing);
        pursuit
    }

    /// This is all that is missing now.
    pub(crate) fn set_missing(&mut self, missing: Vec<Range>) {
        self.missing.clear();
        join(&mut self.missing, missing);
        self.waiting = Waiting::Nothing;
        if self.missing_count() < self.fewest {
            self.begin_anew();
        }
    }

    /// This is missing as well.
    pub(crate) fn miss(&mut self, more: Vec<Range>) {
        join(&mut self.missing, more);
        self.begin_anew();
    }

    /// What was in vain before says nothing of what is missing now.
    fn begin_anew(&mut self) {
        self.fewest = self.missing_count();
        self.rest = REST_FIRST;
    }

    /// The deadline has passed.
    pub(crate) fn wake(&mut self, now: Micros) {
        if self.deadline > now {
            return;
        }
        match self.waiting {
            Waiting::Answer(peer, (_, last)) => {
                self.lacking.insert(peer.id, (last, false));
            }
            Waiting::NextPass => {
                self.passed.clear();
                self.lacking.clear();
            }
            Waiting::Nothing => {}
        }
        self.waiting = Waiting::Nothing;
    }

    /// A link to this peer has opened: what it was asked before may never have reached it.
    pub(crate) fn opened(&mut self, peer: NodeId) {
        self.lacking.retain(|id, (_, said)| *id != peer || *said);
        match self.waiting {
            Waiting::Answer(asked, _) if asked.id == peer => self.waiting = Waiting::Nothing,
            Waiting::NextPass if self.silent().contains(&peer) => {
                self.lacking.clear();
                self.waiting = Waiting::Nothing;
            }
            _ => {}
        }
    }

    /// A peer has answered to `asked`; `first` is the first entry that it has. False if that was not
    /// what is waited for.
    pub(crate) fn answered(&mut self, from: NodeRef, asked: Range, first: Option<Index>) -> bool {
        if self.waiting != Waiting::Answer(from, asked) {
            return false;
        }
        self.waiting = Waiting::Nothing;
        if first == Some(asked.0) {
            self.outcome = Outcome::Open;
        } else {
            let until = first.map_or(asked.1, Index::prev);
            self.lacking.insert(from.id, (until, true));
        }
        true
    }

    /// What came was of no use: the next pass begins with another peer.
    pub(crate) fn rest(&mut self, now: Micros) {
        self.passed.clear();
        self.lacking.clear();
        self.put_off(now);
    }

    fn put_off(&mut self, now: Micros) {
        self.turn += 1;
        self.waiting = Waiting::NextPass;
        self.deadline = Micros(now.0 + self.rest.0);
        self.rest = Micros(2 * self.rest.0).min(REST_LONGEST);
    }

    /// What is next, if nothing is waited for.
    pub(crate) fn next(&mut self, peers: &[NodeRef], now: Micros) -> Next {
        while self.waiting == Waiting::Nothing {
            let Some((first, last)) = self.front() else {
                self.end_pass(peers, now);
                break;
            };
            self.lacking.retain(|_, (until, _)| *until >= first);
            let turned = peers.iter().cycle().skip(self.turn).take(peers.len());
            let able = |peer: &&NodeRef| !self.lacking.contains_key(&peer.id);
            if let Some(&peer) = turned.clone().find(able) {
                self.waiting = Waiting::Answer(peer, (first, last));
                self.deadline = Micros(now.0 + ANSWER_MAX.0);
                return Next::Ask(peer, (first, last));
            }
            let until = self.lacking.values().map(|(until, _)| *until).min();
            let until = until.map_or(last, |until| until.min(last));
            let silent = self.lacking.iter().filter(|(_, (_, said))| !said);
            let silent = silent.map(|(id, _)| *id).collect();
            self.passed.push(((first, until), silent));
        }
        Next::Wait
    }

    /// When to come back.
    pub(crate) fn deadline(&self) -> Micros {
        self.deadline
    }

    /// The first stretch of what is missing that was not passed over.
    fn front(&self) -> Option<Range> {
        let passed = self.passed.last().map(|((_, last), _)| *last);
        let mut left = self.missing.iter().filter_map(|&(first, last)| {
            let first = passed.map_or(first, |passed| first.max(passed.next()));
            (first <= last).then_some((first, last))
        });
        left.next()
    }

    fn end_pass(&mut self, peers: &[NodeRef], now: Micros) {
        let passed = std::mem::take(&mut self.passed);
        let silent: BTreeSet<NodeId> = passed
            .iter()
            .flat_map(|(_, silent)| silent)
            .copied()
            .collect();
        self.outcome = match (passed.is_empty(), silent.is_empty()) {
            (true, _) => Outcome::Open,
            (false, false) => Outcome::Silent(silent),
            (false, true) => {
                let ranges = passed.into_iter().map(|(range, _)| range);
                let peers = peers.iter().map(|peer| peer.id);
                Outcome::Nowhere(ranges.collect(), peers.collect())
            }
        };
        self.put_off(now);
    }

    /// How many entries are missing.
    pub(crate) fn missing_count(&self) -> u64 {
        let count = |(first, last): &Range| last.0 - first.0 + 1;
        self.missing.iter().map(count).sum()
    }

    /// Who did not say a word in the last pass.
    pub(crate) fn silent(&self) -> BTreeSet<NodeId> {
        match &self.outcome {
            Outcome::Silent(silent) => silent.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// What none of these peers has, if each of them has said so.
    pub(crate) fn nowhere(&self, peers: &[NodeRef]) -> Option<Vec<Range>> {
        let Outcome::Nowhere(ranges, asked) = &self.outcome else {
            return None;
        };
        let all = peers.iter().all(|peer| asked.contains(&peer.id));
        all.then(|| Self::new(ranges.clone()).missing)
    }

    /// A word for what the last pass came to, to tell a change.
    pub(crate) fn kind(&self) -> &'static str {
        match self.outcome {
            Outcome::Open => "open",
            Outcome::Silent(_) => "silent",
            Outcome::Nowhere(..) => "nowhere",
        }
    }
}

/// Adds ranges to some that are ascending and apart.
pub(crate) fn join(ranges: &mut Vec<Range>, more: Vec<Range>) {
    let mut all = std::mem::take(ranges);
    all.extend(more);
    all.sort_unstable();
    for (first, last) in all {
        let full = ranges.len() == RANGES_MAX;
        match ranges.last_mut() {
            Some(known) if full || first <= known.1.next() => known.1 = known.1.max(last),
            _ => ranges.push((first, last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::Incarnation;

    use super::*;

    fn peer(id: u64) -> NodeRef {
        NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(1),
        }
    }

    fn range(first: u64, last: u64) -> Range {
        (Index(first), Index(last))
    }

    const NOW: Micros = Micros(0);

    #[test]
    fn first_entry_is_asked_of_one_after_the_other_until_one_has_it() {
        let peers = [peer(2), peer(3)];
        let mut pursuit = Pursuit::new(vec![range(5, 9)]);
        assert_eq!(pursuit.next(&peers, NOW), Next::Ask(peer(2), range(5, 9)));
        assert_eq!(
            pursuit.next(&peers, NOW),
            Next::Wait,
            "one question at a time"
        );
        // It has only what is from 8 on.
        assert!(pursuit.answered(peer(2), range(5, 9), Some(Index(8))));
        assert_eq!(pursuit.next(&peers, NOW), Next::Ask(peer(3), range(5, 9)));
        assert!(pursuit.answered(peer(3), range(5, 9), Some(Index(5))));
        pursuit.set_missing(vec![range(7, 9)]);
        assert_eq!(pursuit.next(&peers, NOW), Next::Ask(peer(3), range(7, 9)));
        assert!(pursuit.answered(peer(3), range(7, 9), None));
        // Nobody has 7; the one has 8.
        assert_eq!(pursuit.next(&peers, NOW), Next::Ask(peer(2), range(8, 9)));
        assert!(pursuit.answered(peer(2), range(8, 9), Some(Index(8))));
        pursuit.set_missing(vec![range(7, 7)]);
        assert_eq!(pursuit.next(&peers, NOW), Next::Wait);
        assert_eq!(pursuit.nowhere(&peers), Some(vec![range(7, 7)]));
        let more = [peer(2), peer(3), peer(4)];
        assert_eq!(pursuit.nowhere(&more), None, "one was not asked");
        assert_eq!(pursuit.missing_count(), 1);
        // After a rest, others may have it.
        pursuit.wake(Micros(REST_FIRST.0 - 1));
        assert_eq!(pursuit.next(&peers, NOW), Next::Wait);
        pursuit.wake(REST_FIRST);
        assert_eq!(
            pursuit.next(&peers, REST_FIRST),
            Next::Ask(peer(3), range(7, 7))
        );
        assert!(pursuit.answered(peer(3), range(7, 7), Some(Index(7))));
        assert_eq!(pursuit.nowhere(&peers), None, "one has it after all");
    }

    #[test]
    fn who_does_not_answer_is_passed_over_and_does_not_count_as_one_who_has_nothing() {
        let peers = [peer(2), peer(3)];
        let mut pursuit = Pursuit::new(vec![range(1, 4)]);
        pursuit.next(&peers, NOW);
        assert!(pursuit.answered(peer(2), range(1, 4), None));
        pursuit.next(&peers, NOW);
        pursuit.wake(ANSWER_MAX);
        assert_eq!(pursuit.next(&peers, ANSWER_MAX), Next::Wait);
        assert!(
            !pursuit.answered(peer(3), range(1, 4), Some(Index(1))),
            "too late"
        );
        assert_eq!(pursuit.nowhere(&peers), None);
        assert_eq!(pursuit.silent(), BTreeSet::from([NodeId(3)]));
        assert_eq!(pursuit.kind(), "silent");
    }

    #[test]
    fn who_is_reached_at_last_is_asked_at_once() {
        let peers = [peer(2), peer(3)];
        let mut pursuit = Pursuit::new(vec![range(1, 4)]);
        assert_eq!(pursuit.next(&peers, NOW), Next::Ask(peer(2), range(1, 4)));
        pursuit.opened(NodeId(3));
        assert_eq!(
            pursuit.next(&peers, NOW),
            Next::Wait,
            "another is waited for"
        );
        pursuit.opened(NodeId(2));
        assert_eq!(pursuit.next(&peers, NOW), Next::Ask(peer(2), range(1, 4)));
        assert!(pursuit.answered(peer(2), range(1, 4), None));
        assert_eq!(pursuit.next(&peers, NOW), Next::Ask(peer(3), range(1, 4)));
        pursuit.wake(ANSWER_MAX);
        assert_eq!(pursuit.next(&peers, ANSWER_MAX), Next::Wait, "it rests");
        pursuit.opened(NodeId(2));
        assert_eq!(
            pursuit.next(&peers, ANSWER_MAX),
            Next::Wait,
            "it has answered"
        );
        pursuit.opened(NodeId(3));
        assert!(matches!(pursuit.next(&peers, ANSWER_MAX), Next::Ask(..)));
    }

    #[test]
    fn without_peers_everything_is_nowhere() {
        let mut pursuit = Pursuit::new(vec![range(1, 4), range(9, 9)]);
        assert_eq!(pursuit.next(&[], NOW), Next::Wait);
        assert_eq!(pursuit.nowhere(&[]), Some(vec![range(1, 4), range(9, 9)]));
    }

    #[test]
    fn answer_to_another_question_or_of_another_is_none() {
        let mut pursuit = Pursuit::new(vec![range(1, 4)]);
        pursuit.next(&[peer(2)], NOW);
        assert!(!pursuit.answered(peer(3), range(1, 4), Some(Index(1))));
        assert!(!pursuit.answered(peer(2), range(1, 3), Some(Index(1))));
        assert!(pursuit.answered(peer(2), range(1, 4), Some(Index(1))));
    }

    #[test]
    fn rests_grow_while_nothing_comes_and_are_short_again_when_something_has() {
        let peers = [peer(2)];
        let mut pursuit = Pursuit::new(vec![range(1, 4)]);
        let mut now = NOW;
        let mut rests = Vec::new();
        for _ in 0..7 {
            assert_eq!(pursuit.next(&peers, now), Next::Ask(peer(2), range(1, 4)));
            assert!(pursuit.answered(peer(2), range(1, 4), None));
            assert_eq!(pursuit.next(&peers, now), Next::Wait);
            rests.push(pursuit.deadline().0 - now.0);
            now = pursuit.deadline();
            pursuit.wake(now);
        }
        let in_ms = rests.iter().map(|rest| rest / 1000).collect::<Vec<_>>();
        assert_eq!(in_ms, [50, 100, 200, 400, 800, 1000, 1000]);
        // What was given and does not fit after all is no progress.
        for (left, rest) in [(range(1, 4), 1_000_000), (range(3, 4), REST_FIRST.0)] {
            pursuit.next(&peers, now);
            assert!(pursuit.answered(peer(2), range(1, 4), Some(Index(1))));
            pursuit.set_missing(vec![left]);
            pursuit.rest(now);
            assert_eq!(pursuit.deadline().0 - now.0, rest);
            now = pursuit.deadline();
            pursuit.wake(now);
        }
    }

    #[test]
    fn ranges_beyond_the_bound_are_taken_for_one() {
        let apart = (0..2 * RANGES_MAX as u64).map(|at| range(1 + 3 * at, 1 + 3 * at));
        let mut ranges = Vec::new();
        join(&mut ranges, apart.collect());
        assert_eq!(ranges.len(), RANGES_MAX);
        let end = 6 * RANGES_MAX as u64 - 2;
        assert_eq!(ranges.last(), Some(&range(3 * RANGES_MAX as u64 - 2, end)));
        join(&mut ranges, vec![range(2, 3), range(end, end + 9)]);
        assert_eq!(ranges[0], range(1, 4));
        assert_eq!(ranges.last().unwrap().1, Index(end + 9));
    }

    #[test]
    fn what_is_missing_too_is_joined() {
        let mut pursuit = Pursuit::new(vec![range(4, 6)]);
        pursuit.miss(vec![range(1, 2), range(7, 9), range(5, 5), range(20, 21)]);
        assert_eq!(pursuit.missing, [range(1, 2), range(4, 9), range(20, 21)]);
        assert_eq!(pursuit.missing_count(), 10);
        let found = vec![range(7, 9), range(4, 6), range(4, 6)];
        assert_eq!(Pursuit::new(found).missing, [range(4, 9)]);
    }
}
