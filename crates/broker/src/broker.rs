//! The door.

use kontiki_raft::{Micros, NodeRef};
use kontiki_wire::{ClusterId, ClusterState, GroupId, MemberStatus, TopicInfo, TopicName};

use crate::{
    effect::Effect,
    input::{GroupBoot, Input, Now},
};

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub me: NodeRef,
    /// The bounds and periods of every group.
    pub raft: kontiki_raft::Settings,
    /// The state of the cluster's own group before its first entry.
    pub birth: ClusterState,
    /// Why this node's disk is not to be trusted, if it is not.
    pub unsound: Option<String>,
    /// All the chance it will ever see.
    pub seed: u64,
}

/// All groups of a node.
#[derive(Clone, Debug)]
pub struct Broker {
    me: NodeRef,
}

impl Broker {
    /// Starts a node from what its disk held. The cluster's own group is always among `groups`; for
    /// each topic in its state that this node keeps and that is not among them, a fresh group is born.
    pub fn new(settings: Settings, _groups: Vec<GroupBoot>, _now: Now) -> Result<Self, String> {
        Ok(Self { me: settings.me })
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, _now: Now, _input: Input) {}

    /// Moves out everything that is to be done, coalesced over all inputs since the last call.
    pub fn drain(&mut self, _now: Now, _out: &mut Vec<Effect>) {}

    /// When to come back with [`Input::Timer`] if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        None
    }

    /// A topic as this node knows it, by name.
    #[must_use]
    pub fn topic(&self, _name: &TopicName) -> Option<TopicInfo> {
        let _ = self.me;
        None
    }

    /// The state of the cluster's own group, as applied here.
    #[must_use]
    pub fn cluster(&self) -> &ClusterState {
        unreachable!("skeleton")
    }

    /// What this node knows of itself and its groups.
    #[must_use]
    pub fn status(&self, _now: Now) -> MemberStatus {
        unreachable!("skeleton")
    }

    /// The group of a topic, by name.
    #[must_use]
    pub fn group(&self, _name: &TopicName) -> Option<GroupId> {
        None
    }
}
