//! A log that begins later than a follower needs, and how the follower gets over the gap (§7): not entry by
//! entry, but as the log lies on the disks of others, and with a checkpoint.
//!
//! The leader, whose log was compacted beyond what a follower lacks, sends [`Body::Fetch`] instead of an
//! append. The follower asks its host to get a [`Stretch`] of committed log, from any member, in whatever
//! pieces; it tells the leader how far that has come. When all of it lies durably beside the log, the host
//! hands it in, and the core says when to put it in the log's place: in the one order of writes, so that
//! nothing which was emitted before can undo it. What is acknowledged waits for that.
//!
//! A stretch is committed, so it is true in every term and from whomever it comes: leaders may change while
//! it is on its way, and an older one than was asked for is as good if it brings anything new.

use crate::{
    boot,
    effect::{Effect, Fate},
    ids::{Index, LogId, Micros, NodeRef},
    input::{Membership, Stretch},
    message::{AppendHead, Body, Session},
    raft::Raft,
    role::{State, Wanted},
};

/// Election timeouts for which a log is kept for a follower that has fallen silent.
const PATIENCE: u64 = 10;

impl Raft {
    /// The host has dropped the log up to `upto`, or will.
    pub(crate) fn on_compacted(&mut self, upto: Index) {
        let upto = upto.min(self.handed).min(self.writes.durable());
        let Some(base) = self.log.id_at(upto) else {
            return;
        };
        // One that joined does not know who counted before its own admission, and a base is to say that.
        if self.configs.committed(upto).1.voters.is_empty() {
            return;
        }
        self.log.settle(self.handed.min(self.writes.durable()));
        self.log.compact(base);
        self.configs.compact(base.index);
    }

    /// How far the log may be dropped without making anyone fetch who has answered a beat lately; the host
    /// may drop more if it must.
    #[must_use]
    pub fn compaction_floor(&self, now: Micros) -> Index {
        let patience = PATIENCE * self.settings.election_timeout.0;
        let peers = self.state.leader().map_or(&[][..], |leader| &leader.peers);
        let active = peers
            .iter()
            .filter(|peer| peer.heard_at.is_some_and(|at| now.since(at).0 < patience));
        let floor = active.map(|peer| peer.matched).min();
        let own = self.handed.min(self.writes.durable());
        floor.unwrap_or(own).min(own)
    }

    /// The configuration in force at `index`, with where it was appended: what a checkpoint of `index` is to
    /// keep. `None` outside of the log.
    #[must_use]
    pub fn config_at(&self, index: Index) -> Option<(Index, Membership)> {
        self.log.term_at(index)?;
        let (at, config) = self.configs.committed(index);
        Some((at, (**config).clone()))
    }

    /// The leader's log begins after what this member needs.
    pub(crate) fn on_fetch(&mut self, from: NodeRef, session: Session, upto: LogId) {
        if !upto.index.is_plausible() || upto.term > self.hard.term || !self.hear(from) {
            return;
        }
        if upto.index <= self.commit || self.log.contains(upto) {
            return self.reach(session, upto.index);
        }
        let after = self
            .log
            .id_at(self.commit)
            .unwrap_or_else(|| self.log.base());
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        // It may have more than the leader thinks. That is said once: asking again would be the answer.
        let said = follower.talk.filter(|talk| talk.session == session);
        let said = said.and_then(|talk| talk.acked);
        if said < Some(after.index) && after.index.0 > 0 {
            self.reach(session, after.index);
        }
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        let known = follower.wanted.filter(|wanted| wanted.upto == upto);
        if known.is_none() {
            self.effects.push(Effect::Fetch {
                leader: from,
                after,
                upto,
            });
        }
        let arrived = follower.wanted.map_or(after.index, |wanted| wanted.arrived);
        follower.wanted = Some(Wanted {
            session,
            upto,
            arrived,
        });
        self.send(from, Body::Fetching { session, arrived });
    }

    /// The log is known to equal the leader's up to `end`, which is committed.
    fn reach(&mut self, session: Session, end: Index) {
        let head = AppendHead {
            session,
            prev: LogId::ORIGIN,
            commit: end,
        };
        self.matched(head, end);
    }

    /// More of what this member fetches is on its disk.
    pub(crate) fn on_fetched(&mut self, upto: Index) {
        if let State::Follower(follower) = &mut self.state
            && let Some(wanted) = &mut follower.wanted
        {
            wanted.arrived = wanted.arrived.max(upto);
        }
    }

    /// A follower says how far it has come with what it fetches.
    pub(crate) fn on_fetching(&mut self, from: NodeRef, session: Session, arrived: Index) {
        let leader = self.state.leader_mut();
        if let Some(peer) = leader.and_then(|leader| leader.peer_mut(from))
            && peer.session == session
        {
            peer.fetched = Some(arrived);
        }
    }

    /// A stretch of committed log lies beside the own one.
    pub(crate) fn on_arrived(&mut self, stretch: Box<Stretch>) {
        match self.fits(&stretch) {
            Err(why) => {
                // When the leader says again what it lacks, another is asked for.
                if let State::Follower(follower) = &mut self.state {
                    follower.wanted = None;
                }
                self.effects.push(Effect::StretchRefused { why });
            }
            Ok(held) => self.install(stretch, held),
        }
    }

    /// What the stretch holds, or why it is of no use.
    fn fits(&mut self, stretch: &Stretch) -> Result<boot::Held, String> {
        if !self.sound || self.state.leader().is_some() || self.writes.is_installing() {
            return Err("this member takes none now".to_owned());
        }
        let mut held = boot::verify_stretch(stretch)?;
        let (own, last) = (self.log.base(), held.terms.last());
        if last.index <= self.commit {
            return Err(format!(
                "it ends at {last}, and {} is committed",
                self.commit
            ));
        }
        if self.log.contains(last) {
            // What stands behind it may have been acknowledged, and stays.
            if let State::Follower(follower) = &mut self.state {
                follower.verified = follower.verified.max(last.index);
            }
            self.commit_to(last.index);
            return Err(format!("all up to {last} is here"));
        }
        if stretch.base.index < own.index && held.terms.contains(own) {
            held.terms.compact(own);
            held.configs.compact(own.index);
        }
        let base = held.terms.base();
        if base.index <= self.commit && !self.log.contains(base) {
            self.halt(format!(
                "{base} precedes what is committed, and is another here"
            ));
            return Err("it contradicts what is committed".to_owned());
        }
        Ok(held)
    }

    /// Takes the stretch for the log from its base on. Nothing of it is on the disk until the host says so.
    fn install(&mut self, stretch: Box<Stretch>, held: boot::Held) {
        let (base, last) = (held.terms.base(), held.terms.last());
        let term = self.hard.term.max(last.term);
        if term > self.hard.term || !matches!(self.state, State::Follower(_)) {
            self.follow(term, None, "it takes its log from others");
        }
        for id in self.proposals.abandon_after(Index(0)) {
            let fate = Fate::Unknown { leader: None };
            self.effects.push(Effect::Fate { id, fate });
        }
        // What was not given to the disk yet never will be: there the stretch has nothing to join.
        let joins = self.log.contains(base) && base.index <= self.writes.queued_last();
        // What is committed here is the same there, and so stays durable whatever becomes of the rest.
        let kept = if joins {
            self.commit.max(base.index)
        } else {
            self.commit
        };
        self.handed = self.handed.max(stretch.applied);
        let tail = stretch.tail.iter().filter(|e| e.id.index > base.index);
        let tail = (tail.cloned().collect(), stretch.time);
        self.log.replace(held.terms, joins, tail, self.handed);
        if joins {
            self.configs.truncate(base.index.next());
            self.configs.append(&held.configs);
        } else {
            self.configs = held.configs;
        }
        self.writes.install(kept, last.index, stretch);
        self.commit_to(last.index);
        if let State::Follower(follower) = &mut self.state {
            follower.verified = follower.verified.max(last.index);
            if let Some(wanted) = follower.wanted.take() {
                self.reach(wanted.session, last.index);
            }
        }
    }
}
