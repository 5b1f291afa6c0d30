//! How a client's stream begins and ends. There is one long-lived stream for a producer, one for each
//! subscription, one for requests.

use bytes::BytesMut;

use crate::{
    codec::{self, Decode, Encode},
    frame::{Frame, FrameKind, encode_frame},
    ids::{GroupId, Offset, TopicName},
    limits::{REFUSAL_BYTES_MAX, REQUEST_BYTES_MAX},
    malformed::Malformed,
    refusal::Refusal,
};

/// What a client's stream is for: the payload of its first frame.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum ClientStream {
    /// `Request`s, each answered by one `Response`, in order.
    Requests,
    /// `Produce` frames to one topic, answered by `Acknowledge` frames.
    Produce {
        /// To which topic.
        topic: TopicName,
        /// As for [`Subscribe::epoch`].
        epoch: Option<u64>,
    },
    /// One subscription; the server sends `Deliver` frames until an `End`.
    Subscribe(Subscribe),
    /// The same, but by somebody who may as well be served by another replica: a member that has
    /// several subscribers of the topic already ends it with [`StreamEnd::Crowded`].
    SubscribeIfFew(Subscribe),
}

/// A subscription.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Subscribe {
    /// To which topic.
    pub topic: TopicName,
    /// Only if the topic of that name is this group: one that was deleted and made anew has another,
    /// and offsets of one mean nothing in the other. `None` for whichever bears the name.
    pub group: Option<GroupId>,
    /// Only in this life of the cluster ([`crate::TopicInfo::epoch`]): after the loss of a majority,
    /// offsets may have been given anew. `None` for whichever it is.
    pub epoch: Option<u64>,
    /// Where to begin.
    pub from: From,
    /// Where to end.
    pub until: Until,
}

/// Where a subscription begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum From {
    /// The first record there is.
    Earliest,
    /// The next record to be committed.
    Latest,
    /// This offset. Beyond the watermark it means *not yet*.
    Offset(Offset),
    /// This many records before the watermark.
    Last(u64),
    /// The first record appended at or after this time, microseconds since the Unix epoch.
    Time(u64),
}

/// Where a subscription ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Until {
    /// Never: history, then live.
    Forever,
    /// Before this offset.
    Offset(Offset),
    /// At the watermark as it was when the subscription began.
    End,
    /// Before the first record appended at or after this time.
    Time(u64),
}

/// Why a server ends a stream.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum StreamEnd {
    /// The subscription's end was reached.
    Reached,
    /// The member is going away; go on elsewhere from where you are.
    Moving,
    /// The topic was deleted.
    Deleted {
        /// Its group.
        group: GroupId,
    },
    /// It was refused.
    Refused(Refusal),
    /// There are several subscribers of the topic here: go on with [`ClientStream::Subscribe`], at any
    /// replica.
    Crowded,
}

impl ClientStream {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_frame(FrameKind::Open, &codec::encode(self), out);
    }

    /// Reads it from its frame.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::Open)?;
        codec::decode("the opening of a stream", payload, REQUEST_BYTES_MAX)
    }
}

impl StreamEnd {
    /// Appends its frame to `out`; a refusal's texts are cut to their bound.
    pub fn encode(&self, out: &mut BytesMut) {
        let payload = match self {
            Self::Refused(refusal) => codec::encode(&Self::Refused(refusal.bounded())),
            other => codec::encode(other),
        };
        encode_frame(FrameKind::End, &payload, out);
    }

    /// Reads it.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::End)?;
        let end: Self = codec::decode("the end of a stream", payload, 4 + REFUSAL_BYTES_MAX)?;
        if let Self::Refused(refusal) = &end {
            refusal.check()?;
        }
        Ok(end)
    }
}
