//! What the cluster's own group agrees on, and the small state that a checkpoint keeps.

use crate::{
    codec::{self, Decode, Encode},
    control::TopicSettings,
    epoch::Recovery,
    ids::{GroupId, Offset, ProducerId, TopicName},
    limits::CHECKPOINT_BYTES_MAX,
    member::{MemberInfo, MemberRef, Standing},
    token::{Token, TokenId, TokenSpec},
    trust::{Papers, Rotate, Trust, Whom},
    version::Versions,
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
    /// Ask a topic to be something else; the cluster works toward it.
    EditTopic {
        /// Its group.
        group: GroupId,
        /// What it is to be.
        settings: TopicSettings,
    },
    /// Have other members keep a topic. Who kept it until now leaves when the topic's group counts
    /// them no more ([`ClusterCommand::Settled`]).
    Place {
        /// Its group.
        group: GroupId,
        /// Who is to keep it, by member number.
        replicas: Vec<u64>,
        /// Who is to lead it, one of them.
        preferred: u64,
        /// [`Topic::placement`] as the proposer knew it; void if it is another.
        expect: u64,
    },
    /// A topic's group is made of exactly those who are to keep it, and its configuration is committed.
    Settled {
        /// Its group.
        group: GroupId,
        /// The placement that was reached; void if there is a later one.
        placement: u64,
    },
    /// Make a token; it lives from the time of this entry on.
    CreateToken(TokenSpec),
    /// Forget a token.
    RevokeToken {
        /// Which.
        id: TokenId,
    },
    /// Admit a client: the token admits nobody else from now on.
    SpendToken {
        /// Which.
        token: TokenId,
        /// The client's name.
        name: String,
        /// What tells it from another of that name: who spends it again is told what it was told.
        mark: u64,
    },
    /// Admit a member: the token is spent, and the member is one from here on.
    Admit(Admission),
    /// Say what the cluster is to do with a member.
    SetStanding {
        /// Its number.
        member: u64,
        /// What it is to do.
        standing: Standing,
    },
    /// A member that leaves is a member no more. Void while a topic is kept by it, or counts it still, or
    /// the cluster's own group names it.
    DropMember {
        /// Its number, which nobody gets again.
        member: u64,
    },
    /// The first word of another epoch, written by nobody but a recovery: one member goes on, alone, with
    /// what it has.
    Recover {
        /// What is remembered of it.
        recovery: Recovery,
        /// The member that goes on.
        survivor: u64,
        /// The groups of the topics that go on; all others are gone.
        topics: Vec<GroupId>,
        /// A number greater than that of every group on the survivor's disk.
        next_group: u64,
    },
    /// Say whether topics and leaderships are moved to spread them evenly.
    SetBalance {
        /// Whether they are.
        on: bool,
    },
    /// Have a topic led first by another of those who keep it; where it is kept stays as it is.
    Prefer {
        /// Its group.
        group: GroupId,
        /// Who is to lead it, one of those who are to keep it.
        preferred: u64,
        /// [`Topic::placement`] as the proposer knew it; void if it is another.
        expect: u64,
    },
    /// A member has started with a build that can do other versions than it was known to.
    StateVersions {
        /// Its number.
        member: u64,
        /// What its build can do.
        versions: Versions,
    },
    /// The cluster is at this version from here on. Void if a member cannot do it.
    Finalize {
        /// Which.
        version: u16,
    },
    /// Certificates are good no more from the time of this entry on.
    Revoke(Whom),
    /// A member says what it shows.
    Certify(Papers),
    /// Changes nothing. Who asked for it and has applied it has applied all that was agreed on before.
    Confirm {
        /// Drawn by who asks: another's says nothing about when it was asked.
        mark: u64,
    },
    /// Whoever leads a topic says how it gets on with somebody who was given it.
    ReportCopy {
        /// Its group.
        group: GroupId,
        /// [`Topic::placement`] as the leader knew it; void if it is another.
        placement: u64,
        /// Who was given it, by member number.
        member: u64,
        /// Whether nothing has been heard of it, or nothing taken by it, for long.
        stuck: bool,
    },
    /// Go on with the replacing of authorities.
    Rotate(Rotate),
}

/// A member to be admitted.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Admission {
    /// The token that admits it.
    pub token: TokenId,
    /// Its name.
    pub name: String,
    /// The birth mark of its disk. Who is admitted again with the same is told what it was told.
    pub incarnation: u64,
    /// Where clients reach it, `host:port`.
    pub address: String,
    /// Where peers reach it, `host:port`.
    pub peer_address: String,
    /// What its build can do. Nobody is admitted who cannot do the cluster's version.
    pub versions: Versions,
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
    /// Who its group was born with. Its log is read from the origin with that configuration.
    pub founders: Vec<MemberRef>,
    /// Who is to keep it, by member number.
    pub replicas: Vec<u64>,
    /// Who kept it, and may be counted by its group still.
    pub leaving: Vec<u64>,
    /// Who was given it since its group was last known to be made of those who are to keep it, and may have
    /// nothing of it yet.
    pub coming: Vec<u64>,
    /// Who of these gets nowhere, as whoever leads its group has said last.
    pub stuck: Vec<u64>,
    /// Who kept it once and dropped it: who gets it anew has forgotten what it promised.
    pub parted: Vec<u64>,
    /// Who campaigns first.
    pub preferred: u64,
    /// How often it was placed anew.
    pub placement: u64,
    /// Whether its group is known to be made of exactly those who are to keep it.
    pub settled: bool,
}

impl Topic {
    /// A topic as it is made.
    #[must_use]
    pub fn founded(
        name: TopicName,
        group: GroupId,
        settings: TopicSettings,
        founders: Vec<MemberRef>,
        preferred: u64,
    ) -> Self {
        Self {
            name,
            group,
            settings,
            replicas: founders.iter().map(|founder| founder.id).collect(),
            founders,
            leaving: Vec::new(),
            coming: Vec::new(),
            stuck: Vec::new(),
            parted: Vec::new(),
            preferred,
            placement: 0,
            settled: true,
        }
    }

    /// Everybody who keeps it, or may be counted by its group still.
    pub fn keepers(&self) -> impl Iterator<Item = u64> {
        self.replicas.iter().chain(&self.leaving).copied()
    }
}

/// The state of the cluster's own group: its checkpoint, and, at index 0, its birth configuration.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ClusterState {
    /// The version of this layout: [`ClusterState::FORMAT`].
    pub format: u16,
    /// Members, by ascending number.
    pub members: Vec<Member>,
    /// A number greater than that of every member there ever was.
    pub next_member: u64,
    /// Tokens, by ascending number.
    pub tokens: Vec<Token>,
    /// Topics, by ascending group.
    pub topics: Vec<Topic>,
    /// The next group to be given.
    pub next_group: u64,
    /// Whether an append to an unknown topic makes it.
    pub auto_create: bool,
    /// How it was recovered, oldest first; the latest [`crate::limits::RECOVERIES_MAX`] times.
    pub recoveries: Vec<Recovery>,
    /// Members that the cluster's own group is made of, by ascending number: voters, those that were until
    /// the joint configuration is left, and learners.
    pub named: Vec<u64>,
    /// Whether topics and leaderships are moved to spread them evenly.
    pub balance: bool,
    /// The version that the cluster is at: nothing is said or written that it does not have.
    pub version: u16,
    /// What is agreed on about certificates.
    pub trust: Trust,
}

impl ClusterState {
    /// The layout of version 1.
    pub const FORMAT: u16 = 1;
    /// The layout of version 2: that of version 1, and a CRC-32C of all before it.
    #[cfg(feature = "next")]
    const CHECKED_FORMAT: u16 = 2;

    /// Its bytes, in the layout of the version that the cluster is at.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        #[cfg(feature = "next")]
        if self.version >= 2 {
            let mut bytes = codec::encode(&Self {
                format: Self::CHECKED_FORMAT,
                ..self.clone()
            });
            bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
            return bytes;
        }
        codec::encode(self)
    }

    /// Reads it in any layout that this build knows; a sentence if it is none of those.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        const WHAT: &str = "the cluster's checkpoint";
        let format = bytes
            .first_chunk()
            .map(|format| u16::from_le_bytes(*format));
        let read = |bytes| {
            let read = codec::decode::<Self>(WHAT, bytes, CHECKPOINT_BYTES_MAX);
            read.map_err(|malformed| malformed.to_string())
        };
        match format {
            #[cfg(feature = "next")]
            Some(Self::CHECKED_FORMAT) => {
                let (state, sum) = bytes
                    .split_last_chunk()
                    .ok_or_else(|| format!("{WHAT} is too short"))?;
                if crc32c::crc32c(state) != u32::from_le_bytes(*sum) {
                    return Err(format!("{WHAT} does not match its checksum"));
                }
                Ok(Self {
                    format: Self::FORMAT,
                    ..read(state)?
                })
            }
            Some(format) if format > Self::FORMAT => Err(format!(
                "{WHAT} is of format {format}, which the cluster came to with a later version: this \
                 build can do {}, install one that can do a later one",
                Versions::MINE
            )),
            _ => read(bytes),
        }
    }
}

impl Default for ClusterState {
    fn default() -> Self {
        Self {
            format: Self::FORMAT,
            members: Vec::new(),
            next_member: 1,
            tokens: Vec::new(),
            topics: Vec::new(),
            next_group: 1,
            auto_create: false,
            recoveries: Vec::new(),
            version: 1,
            named: Vec::new(),
            balance: true,
            trust: Trust::default(),
        }
    }
}

/// The state of a topic's group: its checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct TopicState {
    /// The offset of the next record.
    pub next: Offset,
    /// The first offset there is.
    pub first: Offset,
    /// Bytes of the bodies of all entries from the origin of the log.
    pub bytes: u64,
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
