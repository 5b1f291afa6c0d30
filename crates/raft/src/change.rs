//! Changing the configuration (§6): always by way of a joint one, also for a single member.
//!
//! C, which is not joint, is followed by C,C' and that by C'. Each is an entry, and in force from the
//! moment it is in a log. The leader appends C,C' when it is asked to and nothing speaks against it. It
//! appends C' when C,C' is committed: whoever leads by then does, since that is looked at after every
//! input and hangs on nothing but the log. A leader that C' does not count leads until C' is committed,
//! then hands over to one that it does count, and follows.

use crate::{
    checksum::crc32c,
    effect::{ChangeEnd, ChangeRefused, Effect, Refused},
    entry::{Entry, Kind},
    ids::{Index, LogId, Micros, NodeRef, ProposalId},
    input::{Membership, Planted},
    message::{Body, Session},
    progress::Progress,
    quorum,
    raft::Raft,
    role::{Handover, Leader, State},
};

/// Election timeouts for which a member that is no longer one is told so, from when it was left out.
const FAREWELL: u64 = 3;

impl Raft {
    /// The host wants another configuration.
    pub(crate) fn on_change(
        &mut self,
        id: ProposalId,
        expect: Index,
        target: &Membership,
        force: bool,
    ) {
        let target = Membership {
            voters: target.voters.clone(),
            learners: target.learners.clone(),
            ..Membership::default()
        };
        let refused = self.unfit(expect, &target, force);
        if let Some(refused) = refused {
            return self.end_change(id, ChangeEnd::Refused(refused));
        }
        let now = self.configs.latest();
        if target == **now {
            return self.end_change(id, ChangeEnd::Done { index: expect });
        }
        let next = match self.settings.plants(Planted::ChangeWithoutJoint) {
            true => target,
            false => now.toward(&target),
        };
        if let Some(leader) = self.state.leader_mut() {
            leader.change = Some(id);
        }
        self.push_config(next);
    }

    /// Why the configuration cannot be changed so now, if it cannot.
    fn unfit(&self, expect: Index, target: &Membership, force: bool) -> Option<ChangeRefused> {
        let leader = match &self.state {
            _ if !self.sound => return Some(ChangeRefused::Closed(Refused::Unsound)),
            State::Leader(leader) => leader,
            _ => return Some(ChangeRefused::Closed(self.not_leader())),
        };
        if let Some(Handover { to, .. }) = self.handover {
            return Some(ChangeRefused::Closed(Refused::Transferring { to }));
        }
        if self.commit < leader.noop {
            return Some(ChangeRefused::Unsettled);
        }
        let (now, index) = (self.configs.latest(), self.configs.latest_index());
        if index > self.commit || now.is_joint() || leader.change.is_some() {
            return Some(ChangeRefused::UnderWay { index });
        }
        if index != expect {
            return Some(ChangeRefused::Outdated { index });
        }
        if let Err(why) = target.check().and_then(|()| self.not_myself(target)) {
            return Some(ChangeRefused::Invalid { why });
        }
        if force || target == &**now {
            return None;
        }
        self.unready(leader, target)
            .or_else(|| too_many(now, target))
            .or_else(|| self.silent(leader, target))
    }

    /// Why this leader cannot lead there, if it cannot: to itself with another disk it says nothing.
    fn not_myself(&self, target: &Membership) -> Result<(), &'static str> {
        let me = self.me;
        let other = |node: &NodeRef| node.id == me.id && *node != me;
        match target.members().iter().any(other) {
            true => Err("the leader itself with another disk: another member is to lead first"),
            false => Ok(()),
        }
    }

    /// A new voter that would hold back what is to be committed, if there is one.
    fn unready(&self, leader: &Leader, target: &Membership) -> Option<ChangeRefused> {
        let last = self.log.last().index;
        let mut added = target.voters.difference(&self.configs.latest().voters);
        added.find_map(|node| match leader.peer(*node) {
            None => Some(ChangeRefused::Stranger { node: *node }),
            Some(peer) if self.has_caught_up(leader, peer) => None,
            Some(peer) => Some(ChangeRefused::Behind {
                node: *node,
                matched: peer.counted,
                last,
            }),
        })
    }

    /// Why the voters of `target` could not commit it, if they could not.
    fn silent(&self, leader: &Leader, target: &Membership) -> Option<ChangeRefused> {
        let answers = |node: &&NodeRef| **node == self.me || self.answers(leader, **node);
        let answering = target.voters.iter().filter(answers).count();
        let least = target.voters.len() / 2 + 1;
        (answering < least).then_some(ChangeRefused::Silent { answering, least })
    }

    /// Whether a peer has answered a beat within the last election timeout.
    fn answers(&self, leader: &Leader, node: NodeRef) -> bool {
        let heard = leader.peer(node).and_then(|peer| peer.heard_at);
        heard.is_some_and(|at| self.now.since(at) < self.settings.election_timeout)
    }

    /// Whether a peer has on its disk what this leader's log held an election timeout ago, so that it
    /// comes up with new entries faster than an outage would be noticed (dissertation §4.2.1).
    pub(crate) fn has_caught_up(&self, leader: &Leader, peer: &Progress) -> bool {
        if leader.rests_until.is_some() {
            return peer.has_all(self.log.last().index);
        }
        let since = self.now.0.saturating_sub(self.settings.election_timeout.0);
        let goal = leader.ends.after(Micros(since));
        let goal = goal.unwrap_or_else(|| self.log.last().index);
        peer.counts && peer.counted >= goal.max(leader.noop)
    }

    /// After every input: whatever of a change can go on now goes on.
    pub(crate) fn go_on_changing(&mut self) {
        let Some(leader) = self.state.leader() else {
            return;
        };
        let index = self.configs.latest_index();
        let early = self.settings.plants(Planted::LeaveJointUncommitted);
        if self.commit < leader.noop || (index > self.commit && !early) {
            return;
        }
        if self.configs.latest().is_joint() {
            // What is proposed during a hand-over is the next leader's to propose.
            if self.handover.is_none() {
                self.push_config(self.configs.latest().left());
            }
            return;
        }
        if let Some(leader) = self.state.leader_mut()
            && let Some(id) = leader.change.take()
        {
            self.end_change(id, ChangeEnd::Done { index });
        }
        if !self.configs.latest().is_voter(self.me) {
            self.step_out();
        }
    }

    /// The configuration, which is committed, does without this leader: it hands over, once, and leads
    /// no longer than that takes.
    fn step_out(&mut self) {
        let Some(leader) = self.state.leader() else {
            return;
        };
        let voters = self.configs.latest().voters.iter();
        let fit = voters
            .filter_map(|node| leader.peer(*node))
            .filter(|peer| peer.counts && self.answers(leader, peer.peer));
        let best = fit.max_by_key(|peer| peer.counted).map(|peer| peer.peer);
        match (leader.stepping_out, best) {
            _ if self.handover.is_some() => {}
            (false, Some(to)) => {
                let until = self.now.after(self.settings.election_timeout);
                self.handover = Some(Handover {
                    to,
                    until,
                    asked: 0,
                });
                if let Some(leader) = self.state.leader_mut() {
                    leader.stepping_out = true;
                    leader.summoned = false;
                }
            }
            _ => self.follow(self.hard.term, None, "it is no longer a voter"),
        }
    }

    /// Appends a configuration, which is in force from here on.
    fn push_config(&mut self, config: Membership) {
        let was_alone = self.is_alone();
        let body = config.encode();
        let entry = Entry {
            id: LogId {
                term: self.hard.term,
                index: self.log.last().index.next(),
            },
            kind: Kind::Config,
            time: self.log.last_time(),
            checksum: crc32c(&body),
            body,
        };
        let index = entry.id.index;
        self.proposals.push(index, None);
        self.log.push(entry);
        self.configs.push(index, config);
        self.meet_members(index);
        if was_alone && let Some(leader) = self.state.leader_mut() {
            // Until now its own word was a quorum's.
            leader.beats.quorum_sent_at = self.now;
        }
        self.try_commit();
        self.count_beats();
    }

    /// Begins a conversation with everyone who is new, and counts the days of those who are left out.
    fn meet_members(&mut self, index: Index) {
        let members = self.configs.latest().members();
        let next = self.log.last().index;
        let until = self
            .now
            .after(Micros(FAREWELL * self.settings.election_timeout.0));
        let me = self.me;
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        // Whoever was left out may have dropped what it had: nothing that it said before it is back counts.
        let is_back = |peer: &Progress| peer.leaving.is_some() && members.contains(&peer.peer);
        leader.peers.retain(|peer| !is_back(peer));
        let left_out = leader.peers.iter_mut();
        for peer in left_out.filter(|peer| !members.contains(&peer.peer)) {
            peer.leave(index, until);
        }
        for node in members.into_iter().filter(|node| node.id != me.id) {
            if let Err(at) = leader.peers.binary_search_by_key(&node, |p| p.peer) {
                leader.sessions += 1;
                let progress = Progress::new(node, Session(leader.sessions), next);
                leader.peers.insert(at, progress);
            }
        }
    }

    /// Forgets those who are no members any more and know it, or had time enough.
    pub(crate) fn take_leave(&mut self) {
        let (now, commit) = (self.now, self.commit);
        if let Some(leader) = self.state.leader_mut() {
            leader.peers.retain(|peer| !peer.has_left(commit, now));
            if leader.peers.is_empty() {
                // Whoever comes next hears at once that there is a leader.
                leader.beats.due = true;
            }
        }
    }

    /// A change whose leader is lost.
    pub(crate) fn lose_change(&mut self, change: Option<ProposalId>, leader: Option<NodeRef>) {
        if let Some(id) = change {
            self.end_change(id, ChangeEnd::Unknown { leader });
        }
    }

    fn end_change(&mut self, id: ProposalId, end: ChangeEnd) {
        self.effects.push(Effect::ChangeEnded { id, end });
    }

    /// The greatest value that a quorum of the configuration in force has reached.
    pub(crate) fn reached<T: Ord + Copy + Default>(&self, value: impl Fn(&NodeRef) -> T) -> T {
        let config = self.configs.latest();
        if self.settings.plants(Planted::CountHalvesTogether) {
            let voters = config.voters.union(&config.outgoing).copied();
            return quorum::reached(&Membership::of(voters), value);
        }
        quorum::reached(config, value)
    }

    /// Tells one that asks to be elected that it is no member, if that is certain: a configuration that
    /// is committed leaves it out, and so does the latest. That of the beginning is as good: who was to join
    /// and did not has an entry of a log that the group went on without.
    pub(crate) fn tell_removed(&mut self, node: NodeRef) {
        let (_, config) = self.configs.committed(self.commit);
        let nobody_counts = config.voters.is_empty();
        if config.names(node) || self.configs.latest().names(node) || nobody_counts {
            return;
        }
        if let Some(upto) = self.log.id_at(self.commit) {
            self.send(node, Body::Removed { upto });
        }
    }

    /// The group went on without this member when everything up to `upto` was committed. That may be long
    /// ago: see [`Raft::is_left_out`].
    pub(crate) fn on_removed(&mut self, upto: LogId) {
        let asks = matches!(self.state, State::Follower(_) | State::PreCandidate(_));
        if !asks || !upto.index.is_plausible() || self.removed >= Some(upto) {
            return;
        }
        let knew = self.is_left_out();
        self.removed = Some(upto);
        if knew || !self.is_left_out() {
            return;
        }
        self.effects.push(Effect::Removed { index: upto.index });
        if matches!(self.state, State::PreCandidate(_)) {
            self.follow(self.hard.term, None, "it is no member any more");
        }
    }

    /// Whether this member was told that the group goes on without it, and does not know better. If it
    /// lacks what was committed then, nobody would elect it, so that its silence costs nothing. If it has
    /// that, its own log says who counts since: it may be the one that nobody can do without.
    pub(crate) fn is_left_out(&self) -> bool {
        let Some(upto) = self.removed else {
            return false;
        };
        let has = upto.index <= self.log.base().index || self.log.contains(upto);
        let mut open = self.configs.since(upto.index.max(self.commit));
        !has || !open.any(|config| config.is_voter(self.me))
    }

    /// Says which configuration is in force, if that or its being committed has changed since it was
    /// last said.
    pub(crate) fn announce_config(&mut self, out: &mut Vec<Effect>) {
        let index = self.configs.latest_index();
        let committed = index <= self.commit;
        let config = self.configs.latest();
        let (known, at, was) = &self.announced_config;
        if (*at, *was) == (index, committed) && known == config {
            return;
        }
        self.announced_config = (config.clone(), index, committed);
        out.push(Effect::ConfigChanged {
            index,
            config: (**config).clone(),
            committed,
        });
    }
}

/// How many voters would go at once, if that is too many. From two to one is what nobody can do in
/// smaller steps.
fn too_many(now: &Membership, target: &Membership) -> Option<ChangeRefused> {
    let stay = now.voters.intersection(&target.voters).count();
    let least = now.voters.len().div_ceil(2);
    (stay < least).then_some(ChangeRefused::TooMany { stay, least })
}
