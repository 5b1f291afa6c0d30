//! Requests and responses of the control plane; each a small message of its own.

use bytes::BytesMut;

use crate::{
    codec::{self, Decode, Encode},
    frame::{Frame, FrameKind, encode_frame},
    ids::{ClusterId, GroupId, Offset, TopicName},
    limits::{CONTROL_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, REQUEST_BYTES_MAX, TOPICS_MAX},
    malformed::Malformed,
    refusal::Refusal,
    scan::within,
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

impl Request {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_frame(FrameKind::Request, &codec::encode(self), out);
    }

    /// Reads it from its frame.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::Request)?;
        let request: Self = codec::decode("a request", payload, REQUEST_BYTES_MAX)?;
        if let Self::TransferLeader { to, .. } = &request {
            within("the length of a name", to.len() as u64, NAME_BYTES_MAX)?;
        }
        Ok(request)
    }
}

impl Response {
    /// Appends its frame to `out`. A response too large for any reader becomes the refusal that says
    /// so; a refusal's texts are cut to their bound.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut payload = match self {
            Self::Refused(refusal) => codec::encode(&Self::Refused(refusal.bounded())),
            other => codec::encode(other),
        };
        if payload.len() > CONTROL_BYTES_MAX {
            payload = codec::encode(&Self::Refused(Refusal::TooLarge {
                what: "the response".to_owned(),
                limit: CONTROL_BYTES_MAX as u64,
            }));
        }
        encode_frame(FrameKind::Response, &payload, out);
    }

    /// Reads it from its frame.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::Response)?;
        let response: Self = codec::decode("a response", payload, CONTROL_BYTES_MAX)?;
        response.check()?;
        Ok(response)
    }

    /// Checks that no list is longer than a cluster could make it.
    fn check(&self) -> Result<(), Malformed> {
        let members = |len: usize| within("the number of members", len as u64, MEMBERS_MAX);
        match self {
            Self::Metadata {
                members: infos,
                topics,
                ..
            } => {
                members(infos.len())?;
                within("the number of topics", topics.len() as u64, TOPICS_MAX)?;
                for topic in topics {
                    members(topic.replicas.len())?;
                }
            }
            Self::Topic(topic) | Self::Exists(topic) => {
                members(topic.replicas.len())?;
            }
            Self::Status(status) => {
                let groups = status.groups.len() as u64;
                within("the number of groups", groups, TOPICS_MAX + 1)?;
                for group in &status.groups {
                    members(group.replicas.len())?;
                }
            }
            Self::Refused(refusal) => refusal.check()?,
            Self::Done | Self::Offset(_) => {}
        }
        Ok(())
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
