//! Requests, responses and refusals of the control plane; each a small bincode message.

use std::fmt;

use crate::{
    ClusterId, GroupId, Offset, TopicName,
    codec::{Decode, Encode},
};

/// What a topic is asked to be.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TopicSettings {
    /// Members that keep it; fewer if the cluster has fewer.
    pub replicas: u8,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self { replicas: 3 }
    }
}

/// What a client asks on its requests stream.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum Request {
    /// Members, and where every topic's leader is, as this member knows it.
    Metadata,
    /// Where one topic's leader is and where its log begins and ends, here.
    Topic {
        /// Which.
        name: TopicName,
    },
    /// Make a topic. The one of that name, if there is one, is answered with `Response::Exists`.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// What it is to be.
        settings: TopicSettings,
    },
    /// Remove a topic and all its records.
    DeleteTopic {
        /// Which.
        name: TopicName,
    },
    /// What this member knows of itself and its groups; a client asks all and joins the answers.
    Status,
    /// Hand a topic's leadership (the cluster's own group when `topic` is `None`) to a member.
    TransferLeader {
        /// Which topic.
        topic: Option<TopicName>,
        /// To whom, by name.
        to: String,
    },
    /// The first offset whose record was appended at or after this time (microseconds since the Unix
    /// epoch, the leader's clock), or the watermark.
    OffsetAt {
        /// Which topic.
        topic: TopicName,
        /// When.
        time: u64,
    },
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum Response {
    /// To `Metadata`.
    Metadata {
        /// Which cluster this is.
        cluster: ClusterId,
        /// All members.
        members: Vec<MemberInfo>,
        /// All topics.
        topics: Vec<TopicInfo>,
        /// Whether topics are made on first use.
        auto_create: bool,
    },
    /// To `Topic`, and to `CreateTopic` when it was made.
    Topic(TopicInfo),
    /// To `CreateTopic` when it was there already.
    Exists(TopicInfo),
    /// To `DeleteTopic` and `TransferLeader`.
    Done,
    /// To `Status`.
    Status(MemberStatus),
    /// To `OffsetAt`.
    Offset(Offset),
    /// It was not done, and why.
    Refused(Refusal),
}

/// Every "no", with what to do next. Numbers are stable: variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum Refusal {
    /// Another member leads; certainly nothing happened. Ask there.
    NotLeader {
        /// Its name, if known.
        leader: Option<String>,
    },
    /// There is no such topic.
    NoSuchTopic {
        /// The name asked for.
        name: String,
    },
    /// There is no such member.
    NoSuchMember {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The certificate's role does not permit it.
    NotPermitted {
        /// What was asked.
        what: String,
    },
    /// Too much is waiting; certainly nothing happened. Try again in a moment.
    Busy,
    /// No quorum confirmed it in time; it may still happen.
    Unknown,
    /// A bound was crossed; certainly nothing happened.
    TooLarge {
        /// Which.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// A producer's batch does not continue its sequence; certainly nothing happened.
    SequenceGap {
        /// The sequence expected next.
        expected: u64,
    },
    /// A newer epoch of the same producer is at work; certainly nothing happened.
    Fenced {
        /// The epoch at work.
        epoch: u32,
    },
    /// The offset asked for was trimmed, or lies beyond what this topic will ever have had.
    OffsetOutOfRange {
        /// The first offset there is.
        first: u64,
        /// The next offset to be given.
        next: u64,
    },
    /// The bytes meant nothing.
    Malformed {
        /// What was wrong.
        what: String,
    },
    /// This member cannot do it now, and why.
    Unavailable {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A member, as clients and peers find it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MemberInfo {
    /// Its number.
    pub id: u64,
    /// The birth mark of its disk.
    pub incarnation: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it, `host:port`.
    pub address: String,
    /// Where peers reach it, `host:port`.
    pub peer_address: String,
}

/// A topic, as clients find it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TopicInfo {
    /// Its name.
    pub name: TopicName,
    /// Its group.
    pub group: GroupId,
    /// What it was asked to be.
    pub settings: TopicSettings,
    /// The members that keep it, by name.
    pub replicas: Vec<String>,
    /// The name of its leader, if the answering member knows it.
    pub leader: Option<String>,
    /// The first offset there is.
    pub first: Offset,
    /// The watermark, as the answering member knows it.
    pub next: Offset,
}

/// One group, as its leader knows it (or any replica, if there is no leader).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct GroupStatus {
    /// Which.
    pub group: GroupId,
    /// The leader's name.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// The first offset there is.
    pub first: Offset,
    /// The watermark.
    pub next: Offset,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica of a group.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ReplicaStatus {
    /// The member's name.
    pub name: String,
    /// Records below this offset are durable there.
    pub match_offset: Offset,
    /// Records it is behind the leader.
    pub lag: u64,
    /// `leader`, `follower`, `catching-up`, `unreachable` or `recovering`.
    pub state: String,
}

/// What one member knows of itself and of the groups it has.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MemberStatus {
    /// The member.
    pub member: MemberInfo,
    /// Why its disk is not to be trusted: then it does not vote, acknowledge or lead.
    pub unsound: Option<String>,
    /// Its groups; `replicas` is filled in where it leads.
    pub groups: Vec<GroupStatus>,
    /// Seconds since it started.
    pub up_seconds: u64,
}
