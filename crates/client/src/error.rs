//! One narrow error for each surface, as sentences that say what to do, with two predicates:
//! whether trying again may help, and whether what was asked certainly left no trace.

use std::sync::Arc;

use kontiki_wire::{Malformed, Offset, TopicName};
use thiserror::Error;

use crate::{context::ContextError, options::InvalidOption};

/// Why there is no connection to the cluster.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The context file cannot be used.
    #[error(transparent)]
    Context(#[from] Arc<ContextError>),
    /// An option has a value that cannot be.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// The certificate, the key or the authorities cannot be used.
    #[error("the certificate, key or ca cannot be used: {why}")]
    Credentials {
        /// What is wrong with them.
        why: Arc<str>,
    },
    /// The certificate is of another cluster than the context.
    #[error(
        "the certificate belongs to cluster {certificate}, the context to {context}: use the certificate that this cluster issued"
    )]
    OtherCluster {
        /// The certificate's cluster.
        certificate: kontiki_wire::ClusterId,
        /// The context's cluster.
        context: kontiki_wire::ClusterId,
    },
    /// Somebody answers at the addresses, but they and this client are not of one cluster.
    #[error("{why}: check that the addresses, the certificate and the ca are those of one cluster")]
    Strangers {
        /// Who was found where, and which side's certificate was refused.
        why: Arc<str>,
    },
    /// It was not called within a tokio runtime.
    #[error("a client needs a tokio runtime: connect within one")]
    NoRuntime,
    /// No member answered within the deadline.
    #[error(
        "no member answered within {waited_ms} ms ({last}): check that one of {addresses} is up"
    )]
    Unreachable {
        /// The deadline.
        waited_ms: u64,
        /// The addresses tried.
        addresses: String,
        /// The last failure.
        last: Arc<str>,
    },
}

impl ConnectError {
    /// Whether trying again may help without changing anything here.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Always: connecting changes nothing.
    #[must_use]
    pub fn has_no_side_effects(&self) -> bool {
        true
    }
}

impl From<ContextError> for ConnectError {
    fn from(error: ContextError) -> Self {
        Self::Context(Arc::new(error))
    }
}

impl From<std::convert::Infallible> for ConnectError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Why a record was not appended, or is not known to be.
///
/// All but [`AppendError::Ambiguous`] promise that the record is not in the topic and never will be.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// It was not acknowledged in time, and certainly was not appended.
    #[error("a record was not appended to {topic} ({why}): it can safely be appended again")]
    NotAppended {
        /// To which topic.
        topic: TopicName,
        /// The last failure.
        why: Arc<str>,
    },
    /// It was sent and not acknowledged in time: it may be in the topic, at most once.
    #[error(
        "a record may or may not have been appended to {topic} ({why}): read the topic to find out; appending it again may double it"
    )]
    Ambiguous {
        /// To which topic.
        topic: TopicName,
        /// The last failure.
        why: Arc<str>,
    },
    /// The record crosses a bound of the protocol.
    #[error("the record cannot be appended: {0}")]
    Refused(Malformed),
    /// The cluster does not take it, whenever it is asked.
    #[error("the cluster does not take a record for {topic}: {why}")]
    Rejected {
        /// To which topic.
        topic: TopicName,
        /// Why.
        why: Arc<str>,
    },
    /// The producer's buffer is full (from `try_submit` only).
    #[error("the producer's buffer is full: wait for acknowledgements, or raise buffer_bytes")]
    BufferFull,
    /// There is no such topic, and the cluster does not make topics on first use.
    #[error("there is no topic {topic}: create it first")]
    NoSuchTopic {
        /// Which.
        topic: TopicName,
    },
    /// The certificate does not permit it.
    #[error("the certificate in use does not permit to append to {topic} ({what})")]
    NotPermitted {
        /// To which topic.
        topic: TopicName,
        /// What was refused.
        what: Arc<str>,
    },
    /// The producer was closed before.
    #[error("the producer was closed: make another one")]
    Closed,
    /// The cluster was recovered after the loss of a majority since the producer began: records that were
    /// acknowledged before may be gone.
    #[error(
        "the cluster was recovered after a majority was lost for good (epoch {epoch}): records of {topic} that were acknowledged before may be gone, see what is there and make another producer"
    )]
    Recovered {
        /// To which topic.
        topic: TopicName,
        /// How often it was recovered.
        epoch: u64,
    },
}

impl AppendError {
    /// Whether trying again may help. When doubling matters, try again only if
    /// [`has_no_side_effects`](Self::has_no_side_effects) says so too.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotAppended { .. } | Self::Ambiguous { .. } | Self::BufferFull
        )
    }

    /// Whether the record is certainly not in the topic and never will be.
    #[must_use]
    pub fn has_no_side_effects(&self) -> bool {
        !matches!(self, Self::Ambiguous { .. })
    }
}

/// Why a subscription cannot begin or go on.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There is no such topic.
    #[error("there is no topic {topic}: create it, or append to it, first")]
    NoSuchTopic {
        /// Which.
        topic: TopicName,
    },
    /// The topic was deleted while it was read.
    #[error("the topic {topic} was deleted")]
    Deleted {
        /// Which.
        topic: TopicName,
    },
    /// The cluster was recovered after the loss of a majority since the subscription began: records that were
    /// delivered before may be gone, and their offsets given to others.
    #[error(
        "the cluster was recovered after a majority was lost for good (epoch {epoch}): records of {topic} that were read before may be gone, and their offsets given to others; subscribe anew"
    )]
    Recovered {
        /// Which topic.
        topic: TopicName,
        /// How often it was recovered.
        epoch: u64,
    },
    /// The records at the position are not there any more, or never were.
    #[error(
        "offset {wanted} of {topic} is not available, the topic has {first} to {next}: subscribe from the earliest to go on with what is left"
    )]
    OffsetOutOfRange {
        /// Which topic.
        topic: TopicName,
        /// The offset wanted.
        wanted: Offset,
        /// The first offset there is.
        first: Offset,
        /// The next offset to be given.
        next: Offset,
    },
    /// The certificate does not permit it.
    #[error("the certificate in use does not permit to read {topic} ({what})")]
    NotPermitted {
        /// Which topic.
        topic: TopicName,
        /// What was refused.
        what: Arc<str>,
    },
    /// No member could serve it within the deadline. Polling again goes on trying.
    #[error(
        "no member serves {topic} at the moment ({why}): the subscription goes on when it is polled again"
    )]
    Unavailable {
        /// Which topic.
        topic: TopicName,
        /// The last failure.
        why: Arc<str>,
    },
    /// The client was closed.
    #[error("the client was closed: make another one")]
    Closed,
    /// A member broke the order of offsets; nothing of what it sent there was handed out.
    #[error(
        "{member} delivered offset {found} of {topic} where {expected} was due: this is a fault of the cluster, please report it"
    )]
    Discontinuity {
        /// Which topic.
        topic: TopicName,
        /// Who sent it.
        member: Arc<str>,
        /// The offset due.
        expected: Offset,
        /// The offset sent.
        found: Offset,
    },
    /// A record arrived whose bytes do not make sense though their checksum holds.
    #[error("a record of {topic} at or after offset {offset} cannot be read: {why}")]
    Unreadable {
        /// Which topic.
        topic: TopicName,
        /// Where.
        offset: Offset,
        /// What is wrong.
        why: Malformed,
    },
}

impl SubscribeError {
    /// Whether polling on, or subscribing again from the same position, may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Always: reading changes nothing.
    #[must_use]
    pub fn has_no_side_effects(&self) -> bool {
        true
    }
}

/// Why an administrative request was not done.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The client was closed.
    #[error("the client was closed: make another one")]
    Closed,
    /// No member, or no leader, answered within the deadline.
    #[error(
        "no quorum or leader answered within {waited_ms} ms ({last}): look at the cluster's status"
    )]
    Unavailable {
        /// The deadline.
        waited_ms: u64,
        /// The last failure.
        last: Arc<str>,
        /// Whether the request was sent and may yet be done.
        may_have_happened: bool,
    },
    /// There is no such topic.
    #[error("there is no topic {topic}")]
    NoSuchTopic {
        /// Which.
        topic: String,
    },
    /// There is a topic of that name already.
    #[error("there is a topic {topic} already")]
    TopicExists {
        /// Which.
        topic: TopicName,
    },
    /// There is no such member.
    #[error("there is no member {member}, the members are {}", known.join(", "))]
    NoSuchMember {
        /// Which.
        member: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The certificate does not permit it.
    #[error("the certificate in use does not permit it ({what}): use an operator's")]
    NotPermitted {
        /// What was refused.
        what: Arc<str>,
    },
    /// It was refused for another reason.
    #[error("refused: {why}")]
    Refused {
        /// Why.
        why: Arc<str>,
    },
}

impl AdminError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether certainly nothing was changed.
    #[must_use]
    pub fn has_no_side_effects(&self) -> bool {
        !matches!(
            self,
            Self::Unavailable {
                may_have_happened: true,
                ..
            }
        )
    }
}
