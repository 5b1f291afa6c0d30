//! Members come and go: what a leader is asked for, who joins, and whose disk is lost for good.

use std::collections::BTreeSet;

use kontiki_raft::{
    Effect, Entry, Input, Kind, Membership, Micros, NodeRef, ProposalId, Role, Status,
};

use crate::turmoil::world::{Member, World};

/// Members beyond those that a group is founded with.
pub(crate) const GUESTS: u64 = 2;

impl World {
    /// Somebody wants another configuration.
    pub(crate) fn change(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(status) = self.status(leader) else {
            return;
        };
        let force = self.dice.percent(20);
        let target = self.target(&status);
        // A group can do away with itself, by force or because nobody knows yet who was just lost.
        if !self.has_quorum(&target, &self.impaired()) {
            return;
        }
        let stale = self.dice.percent(5);
        let mut expect = status.config_index;
        expect.0 += u64::from(stale);
        self.asked += 1;
        let id = ProposalId(self.asked);
        self.oracle.changes(id, self.members[leader].me.id);
        self.turn(
            leader,
            Input::Change {
                id,
                expect,
                target,
                force,
            },
        );
    }

    /// A configuration not too far from the one there is.
    fn target(&mut self, status: &Status) -> Membership {
        let now = &status.config;
        let mut target = Membership::of(now.voters.iter().copied());
        target.learners.clone_from(&now.learners);
        let ready: Vec<NodeRef> = status
            .peers
            .iter()
            .filter(|peer| peer.caught_up && now.learners.contains(&peer.peer))
            .map(|peer| peer.peer)
            .collect();
        for _ in 0..=self.dice.below(3) {
            let at = self.dice.below(self.members.len() as u64) as usize;
            let node = self.members[at].me;
            match self.dice.below(10) {
                0..4 if !ready.is_empty() => {
                    target.learners.retain(|node| !ready.contains(node));
                    target.voters.extend(ready.iter().copied());
                }
                0..6 if !target.voters.contains(&node) => {
                    self.join(at);
                    target.learners.insert(node);
                }
                6 if target.voters.remove(&node) => {
                    target.learners.insert(node);
                }
                7 => {
                    self.join(at);
                    target.voters.insert(node);
                    target.learners.remove(&node);
                }
                _ => {
                    target.voters.remove(&node);
                    target.learners.remove(&node);
                }
            }
            // Whoever is gone for good is left out first of all.
            let here: BTreeSet<_> = self.members.iter().map(|member| member.me).collect();
            target.voters.retain(|node| here.contains(node));
            target.learners.retain(|node| here.contains(node));
        }
        target
    }

    /// A member that never ran starts with nothing.
    fn join(&mut self, at: usize) {
        if !self.members[at].exists {
            self.members[at].exists = true;
            self.start(at, true);
        }
    }

    /// A member's disk is lost, and the member comes back as another one, if the group can do without.
    pub(crate) fn rebirth(&mut self, at: usize) {
        let mut impaired = self.impaired();
        impaired.insert(self.members[at].me);
        if !self.members[at].exists || !self.can_spare(&impaired) {
            return;
        }
        self.crash(at, 0);
        let mut me = self.members[at].me;
        me.incarnation.0 += 1;
        let boots = self.members[at].boots;
        self.members[at] = Member::new(me, Membership::default(), boots);
        self.join(at);
    }

    /// Whether every configuration that is in anybody's log has a quorum without these.
    pub(crate) fn can_spare(&self, impaired: &BTreeSet<NodeRef>) -> bool {
        let logs = self.members.iter().flat_map(|member| {
            let disk = member.disk.log.iter();
            disk.chain(&member.log).filter_map(config)
        });
        // A configuration that was replaced in every log that matters still stands in these: that asks
        // for more than it must, and never for less.
        let founding = || (0, self.config.clone());
        let (since, agreed) = self.oracle.config().unwrap_or_else(founding);
        logs.filter(|(index, _)| *index > since)
            .map(|(_, config)| config)
            .chain([agreed])
            .all(|config| self.has_quorum(&config, impaired))
    }

    /// Whether there is a majority of each half without these, and who is not there.
    fn has_quorum(&self, config: &Membership, impaired: &BTreeSet<NodeRef>) -> bool {
        let here: BTreeSet<_> = self.members.iter().map(|member| member.me).collect();
        let fit = |half: &BTreeSet<NodeRef>| {
            let fit = half
                .iter()
                .filter(|n| here.contains(n) && !impaired.contains(n));
            half.is_empty() || fit.count() * 2 > half.len()
        };
        fit(&config.voters) && fit(&config.outgoing)
    }

    /// Those who have forgotten what they promised.
    pub(crate) fn impaired(&self) -> BTreeSet<NodeRef> {
        let forgetful = self.members.iter().filter(|one| one.disk.is_forgetful());
        forgetful.map(|one| one.me).collect()
    }

    /// Each configuration follows from the one before: into a joint one, or out of it.
    pub(crate) fn follows(&self, at: usize, entry: &Entry) {
        let Some((_, next)) = config(entry) else {
            return;
        };
        let before = self.members[at].log.iter().rev().find_map(config);
        let before = before.map_or_else(|| self.config.clone(), |(_, config)| config);
        let me = self.members[at].me;
        if next.is_joint() {
            assert_eq!(before.voters, next.outgoing, "{me}: {} enters", entry.id);
            assert!(!before.is_joint(), "{me}: {} while joint", entry.id);
        } else {
            assert_eq!(before.voters, next.voters, "{me}: {} leaves", entry.id);
            assert!(before.is_joint(), "{me}: {} without being joint", entry.id);
        }
    }

    /// The members of a group at peace: those that its leader counts and sends to.
    pub(crate) fn present(&self) -> Vec<&Member> {
        let status = self.leader().and_then(|at| self.status(at));
        let config = status.expect("there is a leader at peace").config;
        let seed = self.seed;
        assert!(!config.is_joint(), "seed {seed}: it stays joint");
        let named = |member: &&Member| config.names(member.me);
        self.members.iter().filter(named).collect()
    }

    /// Nobody who was left out still asks to be elected, unless nobody whom it asks knows better.
    pub(crate) fn assert_quiet(&self) {
        let present = self.present();
        let here = |node: &NodeRef| present.iter().any(|member| member.me == *node);
        for (at, member) in self.members.iter().enumerate() {
            let Some(status) = self.status(at) else {
                continue;
            };
            let asks = matches!(status.role, Role::PreCandidate | Role::Candidate);
            let others = status.config.voters.iter().filter(|n| **n != member.me);
            let told = others.filter(|node| here(node)).count() > 0;
            let (seed, me) = (self.seed, member.me);
            assert!(!asks || !told, "seed {seed}: {me} asks to be elected");
        }
    }

    fn status(&self, at: usize) -> Option<Status> {
        let raft = self.members[at].raft.as_ref()?;
        Some(raft.status(Micros(self.now)))
    }

    /// Whether an effect was a change's end, which the oracle now knows.
    pub(crate) fn ends_change(&mut self, by: NodeRef, effect: &Effect) {
        if let Effect::ChangeEnded { id, end } = effect {
            self.oracle.changed(*id, end, by.id);
        }
    }
}

/// The configuration that an entry holds, and where.
pub(crate) fn config(entry: &Entry) -> Option<(u64, Membership)> {
    let config = (entry.kind == Kind::Config).then(|| Membership::decode(&entry.body))?;
    Some((entry.id.index.0, config.expect("a readable configuration")))
}
