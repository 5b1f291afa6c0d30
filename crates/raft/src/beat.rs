//! Beats and their answers, check-quorum, and reads, which ride on them (dissertation §6.2, §6.4).
//!
//! Beats never wait for appends or for any disk, so that a slow disk costs no leadership.

use crate::{
    effect::{Effect, Refused},
    ids::{Index, Micros, NodeRef, ReadId},
    input::Planted,
    message::{Body, Message, Session},
    progress::Progress,
    pulse::{Read, Reads},
    raft::Raft,
    role::{Leader, State},
};

impl Raft {
    /// When a leader must act next. Alone in its group it never must.
    pub(crate) fn leader_deadline(&self, leader: &Leader) -> Option<Micros> {
        if leader.peers.is_empty() {
            return None;
        }
        if leader.rests_until.is_some() {
            return leader.rests_until;
        }
        let quorum_lost_at = leader
            .beats
            .quorum_sent_at
            .after(self.settings.election_timeout);
        let endless = self.is_alone() || self.settings.plants(Planted::LeadWithoutQuorum);
        let quorum_lost_at = (!endless).then_some(quorum_lost_at);
        let news = |peer: &Progress| peer.notice_at(self.commit, &self.settings);
        let noticed_at = leader.peers.iter().filter_map(news);
        let due = noticed_at.chain(quorum_lost_at);
        Some(due.fold(leader.beats.next_at, Micros::min))
    }

    /// Steps down without a quorum's answers, and stops beating: a leader that only refused to work
    /// would keep others from electing one that can.
    pub(crate) fn on_leader_timer(&mut self) {
        let endless = self.is_alone() || self.settings.plants(Planted::LeadWithoutQuorum);
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        if leader.rests_until.is_some_and(|until| self.now < until) {
            return;
        }
        leader.rouse(self.now);
        let silence = self.now.since(leader.beats.quorum_sent_at);
        if silence >= self.settings.election_timeout && !endless {
            return self.follow(self.hard.term, None, "no quorum answered its beats");
        }
        if self.now >= leader.beats.next_at {
            leader.beats.due = true;
            leader.summoned = false;
            for peer in &mut leader.peers {
                peer.on_beat(self.now, &self.settings);
            }
            self.take_leave();
        }
    }

    /// A linearizable read was asked for.
    pub(crate) fn on_read(&mut self, id: ReadId) {
        let alone = self.is_alone() || self.settings.plants(Planted::ReadUnconfirmed);
        let refused = match &mut self.state {
            _ if !self.sound => Refused::Unsound,
            State::Leader(leader) if leader.reads.len() < self.settings.reads_max => {
                // Before the first own entry is committed, an earlier leader's commits may not be
                // known here yet; but all of them are before that entry.
                let index = match self.settings.plants(Planted::ReadBeforeNoop) {
                    true => self.commit,
                    false => self.commit.max(leader.noop),
                };
                if alone {
                    self.effects.push(Effect::ReadReady { id, index });
                } else {
                    leader.reads.push(Read { id, index });
                }
                return;
            }
            State::Leader(_) => Refused::Busy,
            _ => self.not_leader(),
        };
        self.effects.push(Effect::ReadFailed { id, refused });
    }

    /// Leadership is lost, and with it the reads that waited.
    pub(crate) fn fail_reads(&mut self, reads: &mut Reads) {
        let refused = if self.sound {
            self.not_leader()
        } else {
            Refused::Unsound
        };
        for Read { id, .. } in reads.drain() {
            self.effects.push(Effect::ReadFailed { id, refused });
        }
    }

    /// Sends a beat to everyone, if its time has come or reads want one.
    pub(crate) fn send_beats(&mut self, out: &mut Vec<Effect>) {
        let (now, term, commit, alone) = (self.now, self.hard.term, self.commit, self.is_alone());
        let last = self.log.last().index;
        let Some(leader) = self.state.leader() else {
            return;
        };
        if leader.peers.is_empty() || !(leader.beats.due || leader.reads.want_beat()) {
            return;
        }
        let rests = self.has_said_all(leader);
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        leader.beats.send(now, self.settings.beat_interval);
        let beat = leader.beats.last;
        leader.rest_since = rests.then(|| leader.rest_since.unwrap_or(beat));
        if alone {
            leader.beats.answered(beat);
        }
        leader.reads.beat_sent(beat);
        leader.ends.note(now, last, &self.settings);
        for peer in &mut leader.peers {
            peer.beaten(commit);
            peer.bid_farewell(beat, commit);
            out.push(Effect::Send {
                to: peer.peer,
                message: Message {
                    term,
                    body: match rests {
                        true => Body::Rest { beat, commit },
                        false => Body::Beat { beat, commit },
                    },
                },
            });
        }
    }

    /// The leader lives. Its commit index counts as far as the own log is known to equal its log.
    pub(crate) fn on_beat(&mut self, from: NodeRef, beat: u64, commit: Index) {
        if !self.hear(from) {
            return;
        }
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        let first = follower.beat == 0;
        if beat > follower.beat {
            follower.beat = beat;
            follower.beat_owed = true;
        }
        // After a restart, or after it asked for votes, the leader may believe that all is said, and so
        // say nothing; an append that comes late then brings no more than it brought before. A new
        // leader's first beat comes just before its first append, which needs no asking for.
        let lacks = commit > follower.verified && !first;
        let stays = follower.lacked == Some(follower.verified);
        let unheard = lacks && (follower.talk.is_none() || stays);
        follower.lacked = lacks.then_some(follower.verified);
        let known = match self.settings.plants(Planted::CommitUnverified) {
            true => self.log.last().index,
            false => follower.verified,
        };
        self.commit_to(commit.min(known));
        if unheard {
            let last = self.log.last();
            self.reject(from, Session::NONE, last, last);
        }
    }

    /// A follower lives and still follows, and rests or waits for more beats.
    pub(crate) fn on_beat_reply(&mut self, from: NodeRef, beat: u64, rests: bool) {
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let last = leader.beats.last;
        let Some(peer) = leader.peer_mut(from) else {
            return;
        };
        if beat > last {
            return;
        }
        peer.heard_at = Some(self.now);
        if beat <= peer.beat {
            return;
        }
        peer.beat = beat;
        if !rests {
            peer.rested = 0;
        }
        if peer.leaving.is_some() {
            self.take_leave();
        }
        self.count_beats();
    }

    /// Counts what a quorum has answered, and gives the reads that waited for it.
    pub(crate) fn count_beats(&mut self) {
        let Some(leader) = self.state.leader() else {
            return;
        };
        let last = leader.beats.last;
        let answered = self.reached(|node| match *node == self.me {
            true => last,
            false => leader.peer(*node).map_or(0, |peer| peer.beat),
        });
        let alone = self.is_alone();
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        leader.beats.answered(answered);
        let quorum = leader.beats.quorum;
        // Who has just become alone needs nobody's answer, not even to a beat that is still to leave.
        while let Some(Read { id, index }) = match alone {
            true => leader.reads.next(),
            false => leader.reads.confirmed(quorum),
        } {
            self.effects.push(Effect::ReadReady { id, index });
        }
    }
}
