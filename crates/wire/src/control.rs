//! Requests and responses of the control plane; each a small message of its own.

use bytes::BytesMut;

use crate::{
    codec::{self, Decode, Encode},
    epoch::Recovery,
    frame::{Frame, FrameKind, encode_frame},
    ids::{ClusterId, GroupId, Offset, TopicName},
    limits::{
        CONTROL_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX, OUTDATED_MAX, PEM_BYTES_MAX,
        RECOVERIES_MAX, REQUEST_BYTES_MAX, SENTENCES_MAX, TEXT_BYTES_MAX, TOKENS_MAX, TOPICS_MAX,
        WALK_DAMAGE_MAX,
    },
    malformed::Malformed,
    member::{MemberInfo, Standing},
    refusal::Refusal,
    scan::within,
    token::{TokenId, TokenInfo, TokenSpec},
    trust::{Handover, Rotate, Successors, Trust, Turnover, Whom},
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
    /// Read committed entries of one group from the disk of this member, at its leisure, and tell
    /// whether they are sound: as many as it does at a time.
    Walk {
        /// Which group.
        group: GroupId,
        /// The first entry.
        first: u64,
        /// The last one; if it is before the first, only how far the log goes is told.
        last: u64,
        /// The running checksum of the entries before.
        digest: u32,
    },
    /// Members and topics as the leader of the cluster's own group knows them: every topic that was made
    /// before this was asked is among them.
    Topics,
    /// Ask a topic to be something else; the cluster works toward it.
    EditTopic {
        /// Which.
        name: TopicName,
        /// What it is to be.
        settings: TopicSettings,
    },
    /// Have a member leave: what it keeps is moved to others, and then it is a member no more. It may be
    /// dead.
    RemoveMember {
        /// Its name.
        name: String,
        /// Whether to do so though too few of the others answer for the cluster to go on at once, topics of one that
        /// lives would have fewer copies, or nobody could take them.
        force: bool,
    },
    /// Have the topics of a member moved to others, or its vote taken, or let it keep topics and vote again.
    SetStanding {
        /// Its name.
        name: String,
        /// What it is to be; not `Leaving`.
        standing: Standing,
        /// Whether to do so though too few of the others answer for the cluster to go on at once, its topics would
        /// have fewer copies, or nobody could take them.
        force: bool,
    },
    /// Make a token. Who asks again for the same one gets the same.
    CreateToken(TokenSpec),
    /// Forget a token, spent or not.
    RevokeToken {
        /// Which.
        id: TokenId,
    },
    /// The tokens there are, those that were spent and have not expired included.
    Tokens,
    /// How the cluster was recovered after the loss of a majority, if it was.
    Recoveries,
    /// Say whether the cluster moves topics and leaderships by itself to spread them evenly.
    SetBalance {
        /// Whether it does.
        on: bool,
    },
    /// Have the cluster come to the highest version that all members can do.
    Finalize,
    /// What the cluster has agreed on about certificates, as its leader knows it.
    Trust,
    /// Have certificates be good no more: live connections of their bearers end, and no new ones begin.
    Revoke(Whom),
    /// Another certificate for the key and the name that this connection has shown; any member that signs
    /// answers.
    Renew,
    /// Make the authorities that are to take the place of those that sign, or say which were made: whoever has
    /// the keys of those answers, and the keys of the new ones stay there, too. Nothing is agreed on by it.
    MakeSuccessors,
    /// Go on with the replacing of authorities.
    Rotate(Rotate),
    /// The clients that are connected to this member and show what an authority has signed that is being replaced.
    Outdated,
    /// The same as `RemoveMember` of one whose place another takes, which has joined for that: its copies make up for
    /// those that go, and are not more than there were.
    ReplaceMember {
        /// The name of the one that leaves.
        name: String,
        /// The name of the one that takes its place.
        with: String,
        /// As for `RemoveMember`.
        force: bool,
    },
    /// The members alone, as this member knows them: what `Metadata` says without topics, of which there may be
    /// thousands.
    Members,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[non_exhaustive]
pub enum Response {
    /// To `Metadata` and `Topics`; to `Members` without topics.
    Metadata {
        /// Which cluster this is.
        cluster: ClusterId,
        /// All members.
        members: Vec<MemberInfo>,
        /// All topics.
        topics: Vec<TopicInfo>,
        /// Whether topics are made on first use.
        auto_create: bool,
        /// Which authority of the members takes the place of another, or did, if one has.
        turnover: Option<Turnover>,
    },
    /// To `Topic` and `EditTopic`, and to `CreateTopic` when it was made.
    Topic(TopicInfo),
    /// To `CreateTopic` when it was there already.
    Exists(TopicInfo),
    /// To `DeleteTopic`, `TransferLeader`, `RevokeToken`, `SetBalance`, `Revoke` and `Rotate`.
    Done,
    /// To `Status`.
    Status(MemberStatus),
    /// To `OffsetAt`.
    Offset(Offset),
    /// It was not done, and why.
    Refused(Refusal),
    /// To `Walk`.
    Walked(Walked),
    /// To `RemoveMember` and `ReplaceMember`, which have only begun then, and `SetStanding`; and to who asks to be
    /// admitted and is a member already.
    Member(MemberInfo),
    /// To `CreateToken`; and to a client that was admitted.
    Token(TokenInfo),
    /// To `Tokens`.
    Tokens(Vec<TokenInfo>),
    /// To `Recoveries`: oldest first.
    Recoveries(Vec<Recovery>),
    /// To `Finalize`: the version that the cluster is at now.
    Version(u16),
    /// To who was admitted just now, and was no member before.
    Admitted(MemberInfo),
    /// To `Trust`.
    Trust(Trust),
    /// To `Renew`.
    Renewed {
        /// The certificate, as PEM.
        certificate: String,
        /// The authority of the members that takes the place of another, if the new one signs: whoever believes the
        /// old one sees by itself whether to believe it.
        handover: Option<Handover>,
    },
    /// To `MakeSuccessors`.
    Successors(Box<Successors>),
    /// To `Outdated`: each as `role/name`.
    Outdated(Vec<String>),
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
        request.check()?;
        Ok(request)
    }
}

impl Request {
    /// Refuses names and lists that are longer than any can be.
    fn check(&self) -> Result<(), Malformed> {
        let check_name = |name: &str| {
            within("the length of a name", name.len() as u64, NAME_BYTES_MAX)?;
            Ok(())
        };
        match self {
            Self::TransferLeader { to: name, .. }
            | Self::RemoveMember { name, .. }
            | Self::SetStanding { name, .. } => check_name(name),
            Self::ReplaceMember { name, with, .. } => {
                check_name(name)?;
                check_name(with)
            }
            Self::CreateToken(spec) => spec.check(),
            Self::Revoke(whom) => whom.check(),
            Self::Rotate(rotate) => rotate.check(),
            _ => Ok(()),
        }
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
                let build = status.build.len() as u64;
                within("the length of a text", build, TEXT_BYTES_MAX)?;
                let sentences = status.placing.len() as u64;
                within("the number of sentences", sentences, SENTENCES_MAX)?;
                for group in &status.groups {
                    members(group.replicas.len())?;
                    members(group.wanted.len())?;
                }
            }
            Self::Refused(refusal) => refusal.check()?,
            Self::Walked(walked) => walked.check()?,
            Self::Token(token) => token.check()?,
            Self::Tokens(tokens) => {
                within("the number of tokens", tokens.len() as u64, TOKENS_MAX)?;
                tokens.iter().try_for_each(TokenInfo::check)?;
            }
            Self::Recoveries(recoveries) => {
                let count = recoveries.len() as u64;
                within("the number of recoveries", count, RECOVERIES_MAX)?;
                recoveries.iter().try_for_each(Recovery::check)?;
            }
            Self::Trust(trust) => trust.check()?,
            Self::Renewed {
                certificate,
                handover,
            } => {
                let bytes = certificate.len() as u64;
                within("the length of a certificate", bytes, PEM_BYTES_MAX)?;
                handover.as_ref().map_or(Ok(()), Handover::check)?;
            }
            Self::Successors(successors) => successors.check()?,
            Self::Outdated(clients) => {
                within("the number of clients", clients.len() as u64, OUTDATED_MAX)?;
                for client in clients {
                    let bytes = client.len() as u64;
                    within("the length of a name", bytes, TEXT_BYTES_MAX)?;
                }
            }
            Self::Done
            | Self::Version(_)
            | Self::Offset(_)
            | Self::Member(_)
            | Self::Admitted(_) => {}
        }
        Ok(())
    }
}

/// How a part of a member's log was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Walked {
    /// Entries up to it are committed and applied there.
    pub placed: u64,
    /// The last entry that was looked at; the one before the first if none was.
    pub upto: u64,
    /// The running checksum up to there: the same on every replica whose entries are.
    pub digest: u32,
    /// Sound entries.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What cannot be read.
    pub damage: Vec<WalkedDamage>,
}

/// Entries of a member's log that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct WalkedDamage {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What is wrong, and what becomes of it.
    pub what: String,
}

impl Walked {
    fn check(&self) -> Result<(), Malformed> {
        let count = self.damage.len() as u64;
        within("the number of damaged stretches", count, WALK_DAMAGE_MAX)?;
        for damage in &self.damage {
            within(
                "the length of a text",
                damage.what.len() as u64,
                TEXT_BYTES_MAX,
            )?;
        }
        Ok(())
    }
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
    /// How often the cluster was recovered: offsets of one life mean nothing in another.
    pub epoch: u64,
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
    /// The names of those who are to keep it, while they are others than those who do; told by the
    /// leader.
    pub wanted: Vec<String>,
    /// What it waits for until those who are to keep it do; told by the leader.
    pub waits: Option<String>,
    /// How far this member has come with fetching its log, if it has none of it yet.
    pub fetching: Option<FetchStatus>,
}

/// How far a member has come with a log that it fetches as it lies in another's files.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct FetchStatus {
    /// Whom from, if it is known.
    pub from: Option<String>,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes that there are to be fetched, those that are here included.
    pub of: u64,
    /// About how many bytes arrive in a second.
    pub bytes_per_second: u64,
    /// What it is doing or waiting for, in a sentence.
    pub why: String,
}

/// One replica of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ReplicaStatus {
    /// The member's name.
    pub name: String,
    /// Records below this offset are durable there.
    pub match_offset: Offset,
    /// Records it is behind the leader.
    pub lag: u64,
    /// About how many bytes of entries it lacks; exact for the latest ones.
    pub lag_bytes: u64,
    /// About how many bytes of entries it takes in a second, while it copies what it lacks.
    pub bytes_per_second: u64,
    /// Milliseconds since it last answered the leader, if it ever did.
    pub silent_ms: Option<u64>,
    /// `leader`, `follower`, `learner`, `catching-up`, `unreachable` or `recovering`.
    pub state: String,
}

/// What one member knows of itself and of the groups it has.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct MemberStatus {
    /// The member.
    pub member: MemberInfo,
    /// A sentence for each group in which it may have forgotten what it promised, so that it copies, but
    /// does not vote, acknowledge or lead until a majority without it has gone on.
    pub recovering: Vec<String>,
    /// Its groups; `replicas` is filled in where it leads.
    pub groups: Vec<GroupStatus>,
    /// Where it leads the cluster's own group: a sentence for each thing that is not as it is to be,
    /// and why not yet.
    pub placing: Vec<String>,
    /// Seconds since it started, without those in which it was kept from running.
    pub up_seconds: u64,
    /// The release that it runs.
    pub build: String,
    /// The version that the cluster is at, as it knows.
    pub version: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CLIENT_FRAME_BYTES_MAX;

    fn topics(count: usize, replicas: usize) -> Response {
        let topic = TopicInfo {
            name: "t".repeat(128).parse().unwrap(),
            group: GroupId(1),
            settings: TopicSettings::default(),
            replicas: vec!["n".repeat(NAME_BYTES_MAX); replicas],
            leader: None,
            first: Offset(0),
            next: Offset(0),
            epoch: 0,
        };
        Response::Metadata {
            cluster: ClusterId(1),
            members: Vec::new(),
            topics: vec![topic; count],
            auto_create: false,
            turnover: None,
        }
    }

    fn heard(response: &Response) -> Result<Response, Malformed> {
        let mut out = BytesMut::new();
        response.encode(&mut out);
        Response::decode(&Frame::take(&mut out, CLIENT_FRAME_BYTES_MAX)?.unwrap())
    }

    #[test]
    fn a_response_too_large_for_any_reader_becomes_a_refusal() {
        let large = topics(4_000, 3);
        assert_eq!(heard(&large).as_ref(), Ok(&large));
        let refused = heard(&topics(TOPICS_MAX, 3)).unwrap();
        assert!(matches!(
            refused,
            Response::Refused(Refusal::TooLarge { .. })
        ));
    }

    #[test]
    fn lists_longer_than_a_cluster_could_make_them_are_refused() {
        let lie = |response: &Response| {
            let mut out = BytesMut::new();
            encode_frame(FrameKind::Response, &codec::encode(response), &mut out);
            Response::decode(&Frame::take(&mut out, CLIENT_FRAME_BYTES_MAX)?.unwrap())
        };
        assert!(lie(&topics(1, MEMBERS_MAX)).is_ok());
        assert!(lie(&topics(1, MEMBERS_MAX + 1)).is_err());
        let name = "n".repeat(NAME_BYTES_MAX + 1);
        let known = vec![name; 1];
        let name = String::new();
        assert!(lie(&Response::Refused(Refusal::NoSuchMember { name, known })).is_err());
    }

    #[test]
    fn a_walk_tells_of_no_more_damage_than_it_may() {
        let walked = |count: usize, text: usize| {
            let damage = WalkedDamage {
                first: 1,
                last: 2,
                what: "w".repeat(text),
            };
            let walked = Walked {
                damage: vec![damage; count],
                ..Walked::default()
            };
            heard(&Response::Walked(walked))
        };
        assert!(walked(WALK_DAMAGE_MAX, TEXT_BYTES_MAX).is_ok());
        assert!(walked(WALK_DAMAGE_MAX + 1, 0).is_err());
        assert!(walked(1, TEXT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn a_request_that_names_nobody_s_name_is_refused() {
        let read = |to: String| {
            let mut out = BytesMut::new();
            Request::TransferLeader { topic: None, to }.encode(&mut out);
            Request::decode(&Frame::take(&mut out, CLIENT_FRAME_BYTES_MAX)?.unwrap())
        };
        assert!(read("n".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(read("n".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(read("n".repeat(REQUEST_BYTES_MAX)).is_err());
    }
}
