//! What must hold after every input, in release too: all of it costs a glance at each peer. A member
//! that finds itself wrong halts before anything it says can spread.

use crate::{
    ids::{Hard, Index},
    input::Planted,
    raft::Raft,
    role::{Follower, Leader, State},
};

/// What the last look has seen, to be compared with the next.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Witness {
    hard: Hard,
    commit: Index,
    handed: Index,
    settled: Index,
    quorum_beat: u64,
    /// Whether this member was told since that it has forgotten.
    told: bool,
    /// Looks since the whole tail was last walked.
    unwalked: usize,
}

impl Witness {
    /// Before the first look.
    pub(crate) fn of(hard: Hard) -> Self {
        Self {
            hard,
            ..Self::default()
        }
    }

    /// This member is told that it has forgotten: the one way in which a standing goes back.
    pub(crate) fn tell(&mut self) {
        self.told = true;
    }
}

/// Debug builds walk the whole tail once in so many looks that each look pays for this many entries.
const WALK_SHARE: usize = 16;

impl Raft {
    /// Looks once, and halts if something is wrong.
    pub(crate) fn check(&mut self) {
        let broken = self.broken();
        let unwalked = self.walk();
        if let Some(invariant) = broken {
            self.halt(format!("broken invariant: {invariant}"));
        }
        self.witness = Witness {
            hard: self.hard,
            commit: self.commit,
            handed: self.handed,
            settled: self.log.settled(),
            quorum_beat: self.state.leader().map_or(0, |leader| leader.beats.quorum),
            told: false,
            unwalked,
        };
    }

    /// In debug builds, counts the log's sums from scratch when that is due; the looks since then.
    fn walk(&self) -> usize {
        if !cfg!(debug_assertions) {
            return 0;
        }
        let looks = self.witness.unwalked + 1;
        if looks.saturating_mul(WALK_SHARE) < self.log.tail_len() {
            return looks;
        }
        assert!(self.log.adds_up(), "the log's sums are wrong");
        0
    }

    fn broken(&self) -> Option<&'static str> {
        let last = self.log.last();
        let durable = self.writes.durable();
        let settled = self.log.settled();
        let follows = matches!(self.state, State::Follower(_));
        let checks = [
            (
                self.log.base().index <= self.handed
                    && self.handed <= self.commit
                    && self.commit <= last.index,
                "base <= handed <= commit <= last",
            ),
            (durable <= last.index, "durable <= last"),
            (
                last.term <= self.hard.term || !self.sound,
                "no entry is of a later term than the member",
            ),
            (
                settled <= self.handed && settled <= self.writes.held(),
                "only what is durable and handed out is forgotten",
            ),
            (
                self.log.tail_first() <= settled.next(),
                "the tail holds all that is not settled",
            ),
            (
                self.configs.latest_index() <= last.index,
                "the configuration is in the log",
            ),
            (
                self.proposals
                    .end()
                    .is_none_or(|end| end <= last.index.next()),
                "proposals in the log",
            ),
            (
                !self.hard.recovering || (follows && !self.grant_owed),
                "who is recovering follows, and grants nothing",
            ),
            (
                !self.grant_owed || self.hard.vote.is_some(),
                "a grant owed is a vote given",
            ),
        ];
        let broken = checks
            .iter()
            .find(|(holds, _)| !holds)
            .map(|(_, name)| *name);
        broken
            .or_else(|| self.went_back())
            .or_else(|| match &self.state {
                State::Follower(follower) => self.broken_follower(follower),
                State::PreCandidate(_) => None,
                State::Candidate(_) => {
                    (self.hard.vote != Some(self.me)).then_some("a candidate votes for itself")
                }
                State::Leader(leader) => self.broken_leader(leader),
            })
    }

    fn went_back(&self) -> Option<&'static str> {
        let Witness {
            hard,
            commit,
            handed,
            settled,
            ..
        } = self.witness;
        let vote_kept =
            self.hard.term > hard.term || hard.vote.is_none() || hard.vote == self.hard.vote;
        let forgot = self.hard.recovering && !hard.recovering && !self.witness.told;
        let forward = !forgot
            && hard.term <= self.hard.term
            && commit <= self.commit
            && handed <= self.handed
            && settled <= self.log.settled();
        match (vote_kept, forward) {
            (true, true) => None,
            (false, _) => Some("one vote in a term"),
            (_, false) => Some("term, commit, handed, settled and standing never go back"),
        }
    }

    fn broken_follower(&self, follower: &Follower) -> Option<&'static str> {
        let verified = follower.verified;
        let bounds = self.commit <= verified && verified <= self.log.last().index;
        if !bounds {
            return Some("commit <= verified <= last on a follower");
        }
        let rests = follower.rests_until.is_some();
        let has_all = self.commit == self.log.last().index && follower.leader.is_some();
        (rests && !has_all).then_some("a follower that rests has all, and knows its leader")
    }

    /// Whether nothing waits to be committed that could be: what counts is counted when it comes.
    fn has_committed_all(&self, leader: &Leader) -> bool {
        let reached = self.reached(|node| match *node == self.me {
            true => self.writes.durable(),
            false => leader.peer(*node).map_or(Index(0), |peer| peer.counted),
        });
        reached <= self.commit || self.log.term_at(reached) != Some(self.hard.term)
    }

    fn broken_leader(&self, leader: &Leader) -> Option<&'static str> {
        let last = self.log.last();
        let checks = [
            (self.hard.vote == Some(self.me), "a leader voted for itself"),
            (
                self.writes.durable_hard() == self.hard
                    || self.settings.plants(Planted::LeadBeforeOwnVote),
                "a leader's own vote is durable",
            ),
            (
                last.term == self.hard.term,
                "a leader's log ends in its term",
            ),
            (
                leader.noop <= last.index
                    && (leader.noop < self.log.base().index
                        || self.log.term_at(leader.noop) == Some(last.term)),
                "a leader's first entry is in its log",
            ),
            // A follower may learn late that the first of two is committed; so may a new leader.
            (
                self.configs.after(self.commit.max(leader.noop)) <= 1
                    || self.settings.plants(Planted::LeaveJointUncommitted),
                "one uncommitted configuration of its own at most",
            ),
            (
                leader.change.is_none()
                    || self.configs.latest().is_joint()
                    || self.configs.latest_index() > self.commit,
                "a change that waits for its end is not done",
            ),
            (
                leader.beats.quorum <= leader.beats.last
                    && (self.witness.hard.term < self.hard.term
                        || self.witness.quorum_beat <= leader.beats.quorum),
                "a beat is answered after it was sent, and stays answered",
            ),
            (
                leader.peers.iter().all(|peer| peer.holds(last.index)),
                "matched < next <= last + 1, and one question at a time",
            ),
            (
                (leader.rests_until.is_none() && leader.rest_since.is_none())
                    || self.has_said_all(leader),
                "a leader that rests has said all",
            ),
            (
                leader.peers.iter().all(|peer| peer.peer != self.me),
                "a leader is not its own peer",
            ),
            (
                self.has_committed_all(leader),
                "what a quorum has of its own term, a leader has committed",
            ),
            (
                self.proposals.end() == Some(last.index.next()) || self.handed == last.index,
                "proposals end with the leader's log",
            ),
        ];
        checks
            .iter()
            .find(|(holds, _)| !holds)
            .map(|(_, name)| *name)
    }
}
