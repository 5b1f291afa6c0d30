//! Rest: a group in which all is said needs no beats as long as its members live.
//!
//! A thousand idle groups would beat twenty times a second each, to say nothing. So a leader that has nothing to
//! say asks with its beat whether its followers have all of it, too ([`Body::Rest`]). Who has says so
//! ([`Body::Resting`]) and rests: it waits for no beat, because its host watches the *member* that leads, and
//! tells it with [`Input::Watched`] when that was last heard. Once all rest who answer, the leader does: it beats
//! no more, because its host watches the members that rest with it.
//!
//! **What is lost by it: nothing that is promised.** A beat that asks for rest is a beat, and an answer to it
//! is an answer; what is committed depends on neither. A read needs an answer to a beat that left after it
//! came, and so ends the rest. What hosts tell of members serves only those who would hold an election or
//! give up a leadership.
//!
//! **A rest ends** with whatever there is to say: a proposal, a read, a change, a peer that asks for votes or
//! whose link was opened. It ends when the host no longer hears who is watched ([`Input::Rouse`]), and by
//! itself after [`Settings::rest`], so that whatever was misunderstood is said again by then. A leader whose
//! rest ends has an election timeout from then on to be answered, as one has that was just elected.

use crate::{
    ids::{Index, Micros, NodeRef},
    input::{Input, Settings},
    message::Body,
    progress::Progress,
    raft::Raft,
    role::{Leader, State},
};

impl Raft {
    /// With whom this member rests: as a leader with those who said that they rest, as a follower with its
    /// leader. `None` if it does not rest. The host is to watch these members until that changes.
    #[must_use]
    pub fn rests_with(&self) -> Option<Vec<NodeRef>> {
        match &self.state {
            State::Leader(leader) => {
                leader.rests_until?;
                let resting = leader.peers.iter().filter(|peer| leader.rests(peer));
                Some(resting.map(|peer| peer.peer).collect())
            }
            State::Follower(follower) => {
                follower.rests_until?;
                follower.leader.map(|leader| vec![leader])
            }
            State::PreCandidate(_) | State::Candidate(_) => None,
        }
    }

    /// Whether a leader has nothing to say to anybody who answers, and nothing to wait for. Who does not vote cannot
    /// ask for a leader, and so is not passed over however silent it is.
    pub(crate) fn has_said_all(&self, leader: &Leader) -> bool {
        let last = self.log.last().index;
        let config = self.configs.latest();
        let told = |peer: &Progress| {
            let expects = peer.leaving.is_some() || !peer.counts;
            let silent = leader.is_silent(peer, &self.settings) && config.is_voter(peer.peer);
            !expects && (silent || peer.has_all(last))
        };
        self.settings.rest > Micros(0)
            && self.is_settled()
            && self.commit == last
            && !self.retiring
            && self.handover.is_none()
            && leader.reads.len() == 0
            && leader.change.is_none()
            && !leader.stepping_out
            && !config.is_joint()
            && self.configs.latest_index() <= self.commit
            && leader.peers.iter().all(told)
    }

    /// Whether all that this member promises is on its disk.
    fn is_settled(&self) -> bool {
        self.is_whole()
            && self.writes.durable() == self.log.last().index
            && self.writes.durable_hard() == self.hard
            && !self.writes.is_installing()
    }

    /// The leader lives, and has nothing more to say unless this member lacks something.
    pub(crate) fn on_rest(&mut self, from: NodeRef, beat: u64, commit: Index) {
        self.on_beat(from, beat, commit);
        let last = self.log.last().index;
        let settled = self.is_settled() && self.commit == last && self.handover.is_none();
        let until = self.now.after(self.settings.rest_of_followers());
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        // Who follows again without having lacked anything is in no conversation.
        let answered = follower.talk.is_none_or(|talk| !talk.answer_owed);
        let summoned = follower
            .summons
            .is_some_and(|summons| summons.until > self.now);
        let rests = self.settings.rest > Micros(0)
            && settled
            && commit == last
            && answered
            && follower.leader == Some(from)
            && follower.beat == beat
            && follower.verified == last
            && !summoned
            && follower.wanted.is_none();
        follower.rests_until = rests.then_some(until);
    }

    /// A follower rests. If all do who answer, and a quorum does, the leader rests too.
    pub(crate) fn on_resting(&mut self, from: NodeRef, beat: u64) {
        self.on_beat_reply(from, beat, true);
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        // An answer to a beat that has not been sent is none, and one to an earlier beat is overtaken.
        let last = leader.beats.last;
        if let Some(peer) = leader.peer_mut(from)
            && (peer.beat..=last).contains(&beat)
        {
            peer.rested = beat;
        }
        let Some(leader) = self.state.leader() else {
            return;
        };
        let is_silent = |peer: &Progress| leader.is_silent(peer, &self.settings);
        let quorum = self.reached(|node| {
            let peer = leader.peer(*node);
            *node == self.me || peer.is_some_and(|peer| leader.rests(peer))
        });
        let mut peers = leader.peers.iter();
        let all = peers.all(|peer| leader.rests(peer) || is_silent(peer));
        if !quorum || !all || leader.beats.due || !self.has_said_all(leader) {
            return;
        }
        // Who is silent may come back in a way that is heard with the next beat alone.
        let rest = match leader.peers.iter().any(is_silent) {
            true => self.settings.rest_beside_the_silent(),
            false => self.settings.rest,
        };
        let until = self.now.after(rest);
        if let Some(leader) = self.state.leader_mut() {
            leader.rests_until.get_or_insert(until);
        }
    }

    /// The host tells how lately it has heard the members that it watches for this one: a leader is told when
    /// the last of what they have answered left here, a follower when it heard its leader's.
    pub(crate) fn on_watched(&mut self, heard: &[(NodeRef, Micros)]) {
        let (now, patience) = (self.now, self.patience);
        let at = |node: &NodeRef| {
            let heard = heard.iter().find(|(one, _)| one == node);
            heard.map(|(_, at)| (*at).min(now))
        };
        match &mut self.state {
            State::Follower(follower) if follower.rests_until.is_some() => {
                if let Some(at) = follower.leader.as_ref().and_then(at) {
                    self.heard_at = self.heard_at.max(Some(at));
                    self.election_at = self.election_at.max(at.after(patience));
                }
            }
            State::Leader(leader) if leader.rests_until.is_some() => {
                for peer in &mut leader.peers {
                    peer.heard_at = peer.heard_at.max(at(&peer.peer));
                }
            }
            _ => {}
        }
    }

    /// Before an input: whether it ends a leader's rest, because somebody does not rest with it.
    pub(crate) fn stir(&mut self, input: &Input) {
        let now = self.now;
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let rests = |node: &NodeRef| leader.peer(*node).is_some_and(|peer| leader.rests(peer));
        let stirs = match input {
            Input::Rouse => true,
            Input::Reachable { peer, open } => {
                let mut peers = leader.peers.iter();
                *open && peers.any(|known| known.peer.id == *peer)
            }
            Input::Message { from, message } => match message.body {
                // Who rests may have said other things before that.
                Body::Resting { beat } => !rests(from) && leader.rest_since > Some(beat),
                Body::BeatReply { beat } => {
                    let known = leader.peer(*from);
                    !rests(from) || known.is_some_and(|peer| beat > peer.rested)
                }
                Body::Appended { .. } => !rests(from),
                _ => true,
            },
            _ => false,
        };
        if stirs {
            leader.rouse(now);
        }
    }

    /// After an input: a leader that has something to say rests no more, and takes nobody's word that came before.
    pub(crate) fn stay_at_rest(&mut self) {
        let Some(leader) = self.state.leader() else {
            return;
        };
        let ends = leader.rest_since.is_some() && !self.has_said_all(leader);
        let now = self.now;
        let next_at = now.after(self.settings.beat_interval);
        if let Some(leader) = self.state.leader_mut()
            && ends
        {
            leader.rest_since = None;
            if leader.rests_until.take().is_some() {
                // What there is to say says that it leads; the next beat is due in its time.
                leader.beats.quorum_sent_at = now;
                leader.beats.next_at = next_at;
            }
        }
    }

    /// When the time of a follower's rest is over it waits for beats again.
    pub(crate) fn end_rest(&mut self) {
        let now = self.now;
        if let State::Follower(follower) = &mut self.state {
            follower.rests_until = follower.rests_until.filter(|until| *until > now);
        }
    }

    /// The host does not hear the members that it watches any longer: a follower waits for beats again, and may
    /// have waited for long enough.
    pub(crate) fn on_rouse(&mut self) {
        if let State::Follower(follower) = &mut self.state {
            follower.rests_until = None;
        }
    }
}

impl Settings {
    /// How long a follower rests at most: the leader's rest ends before, and another begins with the same beat.
    #[must_use]
    pub fn rest_of_followers(&self) -> Micros {
        self.rest.after(self.rest)
    }

    /// How long a leader rests while somebody does not answer.
    fn rest_beside_the_silent(&self) -> Micros {
        self.election_timeout.max(Micros(self.rest.0 / 10))
    }
}

impl Leader {
    /// Whether this peer has answered that it rests, and there was nothing to say since it was asked.
    pub(crate) fn rests(&self, peer: &Progress) -> bool {
        self.rest_since.is_some_and(|since| since <= peer.rested)
    }

    /// Whether this peer has answered none of the beats of an election timeout.
    fn is_silent(&self, peer: &Progress, settings: &Settings) -> bool {
        let beats = settings.election_timeout.0 / settings.beat_interval.0.max(1);
        self.beats.last.saturating_sub(peer.beat) > beats
    }

    /// Ends a rest, if it is one, with a beat at once, and time to answer it.
    pub(crate) fn rouse(&mut self, now: Micros) {
        if self.rests_until.take().is_some() {
            self.rest_since = None;
            self.beats.due = true;
            self.beats.quorum_sent_at = now;
        }
    }
}
