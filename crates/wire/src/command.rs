//! What the cluster's own group agrees on, and the small state that a checkpoint keeps.

use crate::{
    codec::{Decode, Encode},
    control::{MemberInfo, TopicSettings},
    ids::{GroupId, Offset, ProducerId, TopicName},
};

/// The body of a `Command` entry of the cluster's own group.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum ClusterCommand {
    /// Make a topic; a no-op if the name is taken.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// What it is to be.
        settings: TopicSettings,
        /// Who keeps it, by member number; chosen by the proposer.
        replicas: Vec<u64>,
        /// Who campaigns first.
        preferred: u64,
    },
    /// Remove a topic; a no-op if there is none of that name.
    DeleteTopic {
        /// Its name.
        name: TopicName,
        /// Its group, so that a later topic of the same name is not meant.
        group: GroupId,
    },
}

/// A member as the cluster's own group knows it.
pub type Member = MemberInfo;

/// A topic as the cluster's own group knows it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its group.
    pub group: GroupId,
    /// What it was asked to be.
    pub settings: TopicSettings,
    /// Who keeps it, by member number.
    pub replicas: Vec<u64>,
    /// Who campaigns first.
    pub preferred: u64,
}

/// The state of the cluster's own group: its checkpoint, and, at index 0, its birth configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ClusterState {
    /// Members, by ascending number.
    pub members: Vec<Member>,
    /// Topics, by ascending group.
    pub topics: Vec<Topic>,
    /// The next group to be given.
    pub next_group: u64,
    /// Whether an append to an unknown topic makes it.
    pub auto_create: bool,
}

/// The state of a topic's group: its checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct TopicState {
    /// The offset of the next record.
    pub next: Offset,
    /// The first offset there is.
    pub first: Offset,
    /// Producers, longest silent first.
    pub producers: Vec<ProducerState>,
}

/// What a topic remembers of one producer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ProducerState {
    /// Which.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: u32,
    /// The sequence expected next.
    pub next: u64,
    /// Its latest batches, oldest first, at most
    /// [`crate::limits::PRODUCER_BATCHES_IN_FLIGHT_MAX`]: first sequence, count, first offset, time.
    pub recent: Vec<(u64, u32, Offset, u64)>,
}
