//! The way back of a member that may have forgotten votes and acknowledgements, as one does whose
//! journal was damaged or whose disk was lost: a form of recovery in Viewstamped Replication
//! Revisited (Liskov and Cowling, 2012, §4.3), with an entry of the log as the nonce.
//!
//! R, who forgot, is *recovering*: it gives no vote, answers no beat, never campaigns, and what it
//! acknowledges does not count. It does take appends, applies what is committed, and asks the leader L
//! of a term T to [`Body::Rejoin`]. L proposes an entry X that means nothing, and names it. Once R has
//! seen X committed in T and has it on its disk, it writes that it is whole, with its vote of T given
//! to L, and counts again when that is durable.
//!
//! **Why no promise is broken.** X was proposed after R began to recover, and R is not counted for it
//! before it is committed: a quorum Q without R acknowledged X in term T.
//!
//! 1. *Every leader of a later term has X.* Take the first that has not, with the quorum P that
//!    elected it. P and Q share a member M, and M is not R. M acknowledged X before it voted: its term
//!    was T then, and is later after the vote. It still had X when it voted, since every leader between
//!    had X. So the candidate's log was no older than M's: it ends in T, and then holds X because only
//!    L appends in T, or in a term between, whose leader had X before it appended anything. Either way
//!    the candidate had X.
//! 2. *R's forgotten votes elect nobody.* Let R have voted for K in T' > T. K asked with a log that has
//!    not X, because X did not exist, and takes nothing while it asks. By 1 it does not win, now or
//!    later, whatever R does in T'. A vote in T itself stays L's. In earlier terms R never acts again.
//!    If K was R itself, which asks in T' again with the log that it has now, a late grant to its first
//!    question may be counted for the second. It is of nobody in Q: who had acknowledged X refused a log
//!    without it, and who had not by then never did. So whoever of Q elects R has looked at the second
//!    log. And who granted the first held nothing committed that the first log lacked, which is of T
//!    or before and stands before X, so that R has it again by 3.
//! 3. *R again holds all it acknowledged of what is committed.* Let it have acknowledged E in term U,
//!    and E be committed then or later. U > T cannot be: the leader of U was elected before X, without
//!    it, against 1. If U = T, E stands before X in L's log, because L had sent it before R forgot. If
//!    U < T, L had E when it was elected, by the usual argument, in which R takes no part: before it
//!    forgot it obeyed the rules, and it has voted for nobody since. R holds L's log up to X.
//! 4. *Acknowledgements of R that are still under way* were true when they were sent. Until R is whole
//!    it is as good as crashed, and when it is whole, 3 holds for them too. So a leader may count them
//!    whenever they come: but never as more than they say, and what R said since it forgot not at all.
//!    Hence `counted` beside `matched` in
//!    [`crate::progress::Progress`], and no flag that a late message could turn.
//!
//! **Who does not know that it forgot**, because its disk has lost the end of its log with every trace of
//! it, is told by its leader: once it refuses what it had acknowledged, the leader says what that was
//! ([`Body::Vouched`]). The refusal may be an old one, and the word may come late; but the member sees for
//! itself. If it does not have the entry, it has forgotten, since it had it on its disk in this very term, in
//! which a log like the leader's only grows. If it has, nothing follows. From then on it is as above; it asks
//! for the way back once its disk says that it is recovering, for whoever has asked is no longer suspected.
//!
//! What lies before the leader's base it is not told of: there the leader has no term left to name.
//!
//! What it does before it is told, nobody prevents. For an election timeout after its start it gives no
//! vote, and a leader that lives has told it by then. If there is none, or one that was elected since and so
//! has heard nothing from it, it votes and acknowledges as if it were whole: then an entry may be lost whose
//! other keepers cannot be asked either.
//!
//! Several members may forget one after the other, as long as there is a quorum without those that
//! have not come back. Where there is none, as in a group of two, X is never committed and R stays
//! recovering: nobody but R could say what R has promised.

use crate::{
    effect::Effect,
    ids::{Hard, Index, Life, LogId, NodeRef, WriteSeq},
    input::Planted,
    message::{Body, Session},
    raft::Raft,
    role::State,
};

impl Raft {
    /// Whether this member may have forgotten promises, or its disk still says so.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.hard.recovering || self.writes.durable_hard().recovering
    }

    /// Whether what this member promises counts.
    pub(crate) fn is_whole(&self) -> bool {
        self.sound && !self.is_recovering()
    }

    /// Whether it takes notice of such a message: while it is recovering, of nobody but a leader.
    pub(crate) fn listens(&self, body: &Body) -> bool {
        !self.is_recovering()
            || matches!(
                body,
                Body::Append { .. }
                    | Body::Beat { .. }
                    | Body::Rest { .. }
                    | Body::Fetch { .. }
                    | Body::RejoinAt { .. }
            )
    }

    /// The entry after which it counts again, if it is recovering and was told.
    pub(crate) fn home(&self) -> Option<Index> {
        match &self.state {
            State::Follower(follower) if self.is_recovering() => follower.way.home,
            _ => None,
        }
    }

    /// A leader was heard: if it has not said yet how to come back, it is asked, once a beat.
    pub(crate) fn ask_home(&mut self, leader: NodeRef) {
        let (now, life) = (self.now, self.life);
        let again_at = now.after(self.settings.beat_interval);
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        // A life that ends before its disk says so leaves one that does not know.
        let knows = self.hard.recovering && self.writes.durable_hard().recovering;
        if knows && follower.way.home.is_none() && now >= follower.way.ask_at {
            follower.way.ask_at = again_at;
            self.send(leader, Body::Rejoin { life });
        }
    }

    /// The leader says what this member has acknowledged to it in this term.
    pub(crate) fn on_vouched(&mut self, from: NodeRef, had: LogId) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        let has = had.index <= self.log.base().index || self.log.contains(had);
        if follower.leader == Some(from) && !has {
            self.forget("it does not have what it had acknowledged");
            self.effects.push(Effect::Forgot);
        }
    }

    /// From now on this member is recovering.
    pub(crate) fn forget(&mut self, why: &'static str) {
        if self.hard.recovering {
            return;
        }
        let leader = match &self.state {
            State::Follower(follower) => follower.leader,
            _ => None,
        };
        self.hard.recovering = true;
        self.grant_owed = false;
        self.witness.tell();
        self.follow(self.hard.term, leader, why);
    }

    /// A recovering member asks the leader how to come back. The same run gets the same answer; for
    /// another, the entry of the one before must be committed first, so that one at most waits.
    pub(crate) fn on_rejoin(&mut self, from: NodeRef, life: Life) {
        let (commit, next) = (self.commit, self.log.last().index.next());
        let at_once = self.settings.plants(Planted::RejoinAtOnce);
        let busy = self.handover.is_some();
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        if busy || commit < leader.noop {
            return;
        }
        let session = Session(leader.sessions + 1);
        let Some(peer) = leader.peer_mut(from) else {
            return;
        };
        let index = match peer.rejoin {
            Some((known, index)) if known == life => index,
            Some((_, index)) if index > commit => return,
            _ => {
                peer.forgot(life, next, session);
                leader.sessions += 1;
                self.push_noop();
                next
            }
        };
        let index = if at_once { commit } else { index };
        self.send(from, Body::RejoinAt { life, index });
    }

    /// The leader says after which entry this member counts again.
    pub(crate) fn on_rejoin_at(&mut self, from: NodeRef, life: Life, index: Index) {
        let ours = life == self.life;
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        if ours && follower.leader == Some(from) {
            follower.way.home = follower.way.home.max(Some(index));
        }
    }

    /// Becomes whole once the entry is committed and durable here, and handed out: what the host makes
    /// of the entries up to it, it makes of them for a member that is still recovering, and what it
    /// writes about that it writes before this.
    pub(crate) fn try_rejoin(&mut self) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        let (Some(leader), Some(home)) = (follower.leader, follower.way.home) else {
            return;
        };
        let there = self.handed >= home
            && self.writes.durable() >= home
            && (home < self.log.base().index || self.log.term_at(home) == Some(self.hard.term));
        if self.hard.recovering && there {
            self.hard = Hard {
                vote: self.hard.vote.or(Some(leader)),
                recovering: false,
                ..self.hard
            };
        }
    }

    /// More is durable. If it is that this member is whole, the leader is told.
    pub(crate) fn on_persisted(&mut self, upto: WriteSeq) {
        let was_recovering = self.is_recovering();
        self.writes.arrived(upto);
        if was_recovering && !self.is_recovering() {
            self.why = "it counts again";
            // While it did not stand for election it did not wait, either.
            self.wait_for_leader();
            if let State::Follower(follower) = &mut self.state
                && let Some(talk) = &mut follower.talk
            {
                talk.answer_owed = true;
            }
        }
    }
}
