//! What all members say of themselves, joined.

use kontiki_wire::{GroupId, Offset};
use serde::Serialize;

/// The state of a cluster, as its members tell it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Which cluster, in hexadecimal.
    pub cluster_id: String,
    /// Whether there is nothing to say in `reasons`.
    pub healthy: bool,
    /// What is wrong, in sentences.
    pub reasons: Vec<String>,
    /// Who leads the cluster's own group, by name.
    pub leader: Option<String>,
    /// The members, by number.
    pub members: Vec<MemberHealth>,
    /// The topics, by name.
    pub topics: Vec<TopicHealth>,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct MemberHealth {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// Where clients reach it.
    pub address: String,
    /// `up`, `down` or `damaged`.
    pub state: String,
    /// Whether it counts in the cluster's own group.
    pub voter: bool,
    /// Seconds since it started, if it answered.
    pub up_seconds: Option<u64>,
}

/// One topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct TopicHealth {
    /// Its name.
    pub name: String,
    /// Its group.
    #[serde(serialize_with = "group")]
    pub group: GroupId,
    /// The leader's name.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// The first offset there is.
    #[serde(serialize_with = "offset")]
    pub first_offset: Offset,
    /// The watermark.
    #[serde(serialize_with = "offset")]
    pub next_offset: Offset,
    /// Its replicas.
    pub replicas: Vec<ReplicaHealth>,
}

/// One replica of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ReplicaHealth {
    /// The member's name.
    pub name: String,
    /// Records below this offset are durable there.
    #[serde(serialize_with = "offset")]
    pub match_offset: Offset,
    /// Records it is behind the leader.
    pub lag: u64,
    /// `leader`, `follower`, `catching-up`, `unreachable`, `recovering` or `unknown`.
    pub state: String,
}

fn group<S: serde::Serializer>(group: &GroupId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(group.0)
}

fn offset<S: serde::Serializer>(offset: &Offset, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(offset.0)
}
