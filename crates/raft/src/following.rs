//! The follower's half of replication: check, take, acknowledge (§5.3).

use crate::{
    effect::Effect,
    entry::{Entry, Kind},
    ids::{Index, LogId, NUMBER_MAX, NodeRef},
    input::{Membership, Planted},
    message::{AppendHead, Body, Message, Session},
    raft::Raft,
    role::{State, Talk},
};

impl Raft {
    /// A leader of an earlier term still speaks: it learns of the later one, but from no answer to a beat
    /// that one gives who is recovering.
    pub(crate) fn refuse_stale(&mut self, from: NodeRef, body: Body) {
        match body {
            Body::Append { head, .. } => self.reject(from, head.session, head.prev, LogId::ORIGIN),
            Body::Beat { beat, .. } | Body::Rest { beat, .. } if self.is_whole() => {
                self.send(from, Body::BeatReply { beat });
            }
            _ => {}
        }
    }

    /// Refuses what was to follow `prev`.
    pub(crate) fn reject(&mut self, to: NodeRef, session: Session, prev: LogId, hint: LogId) {
        self.send(
            to,
            Body::AppendRejected {
                session,
                prev,
                hint,
            },
        );
    }

    /// The leader of the current term sent entries.
    pub(crate) fn on_append(&mut self, from: NodeRef, head: AppendHead, entries: Vec<Entry>) {
        if !self.hear(from) {
            return;
        }
        let Some(end) = self.end_of(head.prev, &entries) else {
            return;
        };
        let prev = head.prev;
        let compacted = prev.index < self.log.base().index;
        let unchecked =
            self.settings.plants(Planted::AppendUnchecked) && prev.index <= self.log.last().index;
        if !compacted && !unchecked && !self.log.contains(prev) {
            if prev.index <= self.commit {
                // Who has forgotten a term may hear a leader that it knew to be deposed.
                if self.hard.recovering {
                    return;
                }
                let commit = self.commit;
                return self.halt(format!(
                    "leader {from} has no {prev}, which is below {commit}"
                ));
            }
            let hint = self.log.greatest_within(prev);
            return self.reject(from, head.session, prev, hint);
        }
        if self.take(from, entries) {
            self.matched(head, end);
        }
    }

    /// Where the entries end; `None` if they are not what any leader of this term can have sent.
    fn end_of(&self, prev: LogId, entries: &[Entry]) -> Option<Index> {
        let mut last = prev;
        if prev.index.0 > NUMBER_MAX || (prev.index.0 == 0) != (prev.term.0 == 0) {
            return None;
        }
        for entry in entries {
            let follows = entry.id.index == last.index.next()
                && entry.id.term >= last.term
                && entry.id.term.0 > 0;
            if !follows {
                return None;
            }
            last = entry.id;
        }
        (last.term <= self.hard.term && last.index.0 <= NUMBER_MAX).then_some(last.index)
    }

    /// Makes the log hold these entries, whose predecessor it holds. Only what conflicts is cut: a
    /// late and shorter append must not take away what a longer one has brought. Whether all is well.
    fn take(&mut self, from: NodeRef, entries: Vec<Entry>) -> bool {
        let held = self.held(&entries);
        if let Some(end) = entries.last()
            && end.id.index < self.log.last().index
            && self.settings.plants(Planted::CutBeyondConflict)
        {
            self.cut(end.id.index.next());
        }
        let Some(first) = entries.get(held).map(|entry| entry.id.index) else {
            return true;
        };
        for entry in &entries[held..] {
            if entry.kind == Kind::Config && Membership::decode(&entry.body).is_none() {
                let id = entry.id;
                self.halt(format!(
                    "leader {from} sent an unreadable configuration at {id}"
                ));
                return false;
            }
        }
        if first <= self.log.last().index {
            let kept = match &self.state {
                State::Follower(follower) => follower.verified.max(self.commit),
                _ => self.commit,
            };
            if first <= kept && self.hard.recovering {
                return false;
            }
            if first <= kept {
                self.halt(format!(
                    "leader {from} replaces {first}, but {kept} was agreed"
                ));
                return false;
            }
            self.cut(first);
        }
        for entry in entries.into_iter().skip(held) {
            if entry.kind == Kind::Config
                && let Some(config) = Membership::decode(&entry.body)
            {
                self.configs.push(entry.id.index, config);
            }
            self.log.push(entry);
        }
        true
    }

    /// Takes away the entries at and after `from`.
    fn cut(&mut self, from: Index) {
        self.log.truncate(from);
        self.writes.truncated(from);
        self.configs.truncate(from);
    }

    /// How many of the entries the log already holds. If it holds one, it holds all before.
    fn held(&self, entries: &[Entry]) -> usize {
        let last = self.log.last().index;
        let overlap = entries.partition_point(|entry| entry.id.index <= last);
        let base = self.log.base().index;
        let kept = self.settings.plants(Planted::KeepConflict);
        let differs =
            |entry: &Entry| !kept && entry.id.index > base && !self.log.contains(entry.id);
        match entries[..overlap].last() {
            Some(end) if differs(end) => entries[..overlap].partition_point(|e| !differs(e)),
            _ => overlap,
        }
    }

    /// Everything up to `end` equals the leader's log.
    pub(crate) fn matched(&mut self, head: AppendHead, end: Index) {
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        follower.verified = follower.verified.max(end);
        let commit = head.commit.min(follower.verified);
        match &mut follower.talk {
            // A late message of an earlier conversation is true, but the later one is answered.
            Some(talk) if talk.session > head.session => {}
            Some(talk) if talk.session == head.session => talk.answer_owed = true,
            _ => {
                follower.talk = Some(Talk {
                    session: head.session,
                    acked: None,
                    answer_owed: true,
                });
            }
        }
        self.commit_to(commit);
    }

    /// Answers beats at once, unless it is recovering, and appends as far as they are durable: the first
    /// one in a conversation when all of it is, later ones as the disk goes along.
    pub(crate) fn send_answers(&mut self, out: &mut Vec<Effect>) {
        let term = self.hard.term;
        let gated = !self.settings.plants(Planted::UngatedAppended);
        let term_durable = self.writes.durable_hard().term == term;
        let counts = self.is_whole();
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        let Some(to) = follower.leader else { return };
        let mut send = |body| {
            let message = Message { term, body };
            out.push(Effect::Send { to, message });
        };
        if follower.beat_owed && counts {
            follower.beat_owed = false;
            let beat = follower.beat;
            send(match follower.rests_until {
                Some(_) => Body::Resting { beat },
                None => Body::BeatReply { beat },
            });
        }
        let Some(talk) = follower.talk.as_mut().filter(|_| term_durable || !gated) else {
            return;
        };
        let verified = match self.settings.plants(Planted::AcknowledgeUnverified) {
            true => self.log.last().index,
            false => follower.verified,
        };
        let durable = if gated {
            self.writes.durable()
        } else {
            verified
        };
        let matched = verified.min(durable);
        let whole = matched == verified;
        let news = talk.acked.is_some_and(|acked| matched > acked);
        if (talk.answer_owed && whole) || news {
            talk.acked = Some(matched);
            talk.answer_owed &= !whole;
            send(Body::Appended {
                session: talk.session,
                matched,
                counts,
            });
        }
    }
}
