//! The leader's half of replication: admit, send, count, commit (§5.3, §5.4.2).

use crate::{
    effect::{Effect, Fate, Refused, SendLog},
    entry::Entry,
    ids::{Index, LogId, Micros, NodeId, NodeRef, Term},
    input::{Planted, Proposal, Settings},
    log::{ENTRY_WEIGHT, Log, weight},
    message::{AppendHead, Body, Message, Session},
    progress::{Progress, Span, Step},
    raft::Raft,
    role::State,
};

impl Raft {
    /// Agrees on these from now on, or refuses. After the first that is refused the rest are too:
    /// their order is part of what was asked.
    pub(crate) fn on_propose(&mut self, time: Micros, proposals: Vec<Proposal>) {
        let mut refused = self.closed();
        for proposal in proposals {
            let bytes = proposal.body.len() as u64 + ENTRY_WEIGHT;
            refused = refused.or_else(|| self.crowded(bytes));
            match refused {
                None => self.admit(time, proposal),
                Some(refused) => self.effects.push(Effect::Fate {
                    id: proposal.id,
                    fate: Fate::Refused(refused),
                }),
            }
        }
    }

    /// Why nothing can be proposed here now, if it cannot.
    fn closed(&self) -> Option<Refused> {
        let handover = self.handover.map(|handover| handover.to);
        match &self.state {
            _ if !self.sound => Some(Refused::Unsound),
            State::Leader(_) => handover.map(|to| Refused::Transferring { to }),
            _ => Some(self.not_leader()),
        }
    }

    /// Why a proposal of this size must wait, if it must.
    fn crowded(&self, bytes: u64) -> Option<Refused> {
        let waiting = self.log.unsettled_weight();
        let few = self.log.unsettled_count() < self.settings.uncommitted_entries_max as u64;
        let small = waiting.saturating_add(bytes) <= self.settings.uncommitted_bytes_max;
        let admitted = waiting == 0 || (few && small);
        (!admitted).then_some(Refused::Busy)
    }

    fn admit(&mut self, time: Micros, proposal: Proposal) {
        let last = self.log.last().index;
        let entry = Entry {
            id: LogId {
                term: self.hard.term,
                index: last.next(),
            },
            kind: proposal.kind,
            time: time.max(self.log.last_time()),
            checksum: proposal.checksum,
            body: proposal.body,
        };
        self.proposals.push(entry.id.index, Some(proposal.id));
        self.log.push(entry);
    }

    /// The host's link to a peer opened or closed.
    pub(crate) fn on_reachable(&mut self, peer: NodeId, open: bool) {
        let now = self.now;
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        for progress in leader.peers.iter_mut().filter(|p| p.peer.id == peer) {
            leader.sessions += 1;
            progress.reachable(open, Session(leader.sessions), now);
        }
    }

    /// A follower has everything up to `matched` on its disk.
    pub(crate) fn on_appended(
        &mut self,
        from: NodeRef,
        session: Session,
        matched: Index,
        counts: bool,
    ) {
        let counts = counts || self.settings.plants(Planted::CountRecovering);
        let (now, last) = (self.now, self.log.last().index);
        let Some(peer) = self
            .state
            .leader_mut()
            .and_then(|leader| leader.peer_mut(from))
        else {
            return;
        };
        if peer.session == session && matched <= last && peer.appended(matched, counts, now) {
            self.try_commit();
        }
    }

    /// A follower does not have what an append was to follow.
    pub(crate) fn on_rejected(
        &mut self,
        from: NodeRef,
        session: Session,
        prev: LogId,
        hint: LogId,
    ) {
        let common = self.log.greatest_within(hint).index;
        let Some(peer) = self
            .state
            .leader_mut()
            .and_then(|leader| leader.peer_mut(from))
        else {
            return;
        };
        if peer.session == session {
            if peer.rejected(prev.index, common) {
                let had = self.log.id_at(peer.matched);
                if let Some(had) = had {
                    self.send(from, Body::Vouched { had });
                }
            }
        } else if session == Session::NONE {
            peer.unheard();
        }
    }

    /// Commits what a quorum has on disk, if the last of it is of the current term: an entry of an
    /// earlier term on a quorum may still be replaced (§5.4.2). The own disk is one among equals.
    pub(crate) fn try_commit(&mut self) {
        let Some(leader) = self.state.leader() else {
            return;
        };
        let own = match self.settings.plants(Planted::CountSelfBeforeDurable) {
            true => self.log.last().index,
            false => self.writes.durable(),
        };
        let reached = self.reached(|node| match *node == self.me {
            true => own,
            false => leader.peer(*node).map_or(Index(0), |peer| peer.counted),
        });
        let reached = match self.settings.plants(Planted::CommitWithoutQuorum) {
            true => own,
            false => reached,
        };
        if reached > self.commit
            && (self.log.term_at(reached) == Some(self.hard.term)
                || self.settings.plants(Planted::CommitOldTermByCount))
        {
            self.commit_to(reached);
        }
    }

    /// Sends every follower what its progress asks for. Nothing waits for the own disk: the term is
    /// durable since the election, and entries promise nothing.
    pub(crate) fn send_appends(&mut self, out: &mut Vec<Effect>) {
        let State::Leader(leader) = &mut self.state else {
            return;
        };
        let mut sender = Sender {
            log: &self.log,
            settings: &self.settings,
            term: self.hard.term,
            commit: self.commit,
            beat: leader.beats.last,
            now: self.now,
            out,
        };
        for peer in &mut leader.peers {
            sender.feed(peer);
        }
    }
}

/// What sending to a follower takes.
struct Sender<'a> {
    log: &'a Log,
    settings: &'a Settings,
    term: Term,
    commit: Index,
    beat: u64,
    now: Micros,
    out: &'a mut Vec<Effect>,
}

impl Sender<'_> {
    fn feed(&mut self, peer: &mut Progress) {
        let span = Span {
            base: self.log.base().index,
            tail_first: self.log.tail_first(),
            last: self.log.last().index,
        };
        loop {
            match peer.step(span, self.commit, self.now, self.settings) {
                Step::Rest => return,
                Step::Ask => {
                    self.append(peer, Vec::new());
                    peer.asked(self.now);
                }
                Step::Append => {
                    let (entries, bytes) = self.entries(peer);
                    let last = Index(peer.next.prev().0 + entries.len() as u64);
                    self.append(peer, entries);
                    if peer.is_streaming() {
                        peer.sent(last, bytes, self.commit, self.now, self.settings);
                    } else {
                        peer.asked(self.now);
                    }
                }
                Step::Read => {
                    self.out.push(Effect::SendLog(SendLog {
                        to: peer.peer,
                        term: self.term,
                        head: self.head(peer),
                        last: span.tail_first.prev(),
                        bytes_max: self.settings.append_bytes_max,
                    }));
                    peer.reading(self.now);
                }
                Step::Fetch => {
                    let upto = self.log.id_at(self.commit);
                    let upto = upto.expect("what is committed last is retained");
                    let session = peer.session;
                    self.send(peer, Body::Fetch { session, upto });
                    peer.told_to_fetch(self.now);
                }
                // A beat that was sent before needs no answer, and so costs one message.
                Step::Notice => {
                    let (beat, commit) = (self.beat, self.commit);
                    self.send(peer, Body::Beat { beat, commit });
                    peer.beaten(commit);
                }
            }
        }
    }

    /// The entries of the next append: what fits into a message and the window, at least one.
    fn entries(&self, peer: &Progress) -> (Vec<Entry>, u64) {
        let room = peer.room(self.settings).min(self.settings.append_bytes_max);
        let mut bytes = 0;
        let entries = self.log.range(peer.next, self.log.last().index);
        let fits = entries.clone().take_while(|entry| {
            let more = bytes + weight(entry);
            let fits = bytes == 0 || more <= room;
            bytes = if fits { more } else { bytes };
            fits
        });
        let count = fits.count();
        (entries.take(count).cloned().collect(), bytes)
    }

    fn append(&mut self, peer: &Progress, entries: Vec<Entry>) {
        let head = self.head(peer);
        self.send(peer, Body::Append { head, entries });
    }

    fn head(&self, peer: &Progress) -> AppendHead {
        let prev = self.log.id_at(peer.next.prev());
        AppendHead {
            session: peer.session,
            prev: prev.expect("nothing is sent from before the base, and next is at most last + 1"),
            commit: self.commit,
        }
    }

    fn send(&mut self, peer: &Progress, body: Body) {
        self.out.push(Effect::Send {
            to: peer.peer,
            message: Message {
                term: self.term,
                body,
            },
        });
    }
}
