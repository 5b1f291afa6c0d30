//! What a client's streams carry: one long-lived stream for a producer, one for each subscription,
//! one for requests.

use bytes::{Bytes, BytesMut};

use crate::{
    Batch, Frame, GroupId, Malformed, Offset, Refusal, TopicName,
    codec::{Decode, Encode},
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
    },
    /// One subscription; the server sends `Deliver` frames until an `End`.
    Subscribe(Subscribe),
}

/// A subscription.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Subscribe {
    /// To which topic.
    pub topic: TopicName,
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

/// A batch to append, as it travels: the payload is the batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Produced {
    /// The batch.
    pub batch: Batch,
}

/// The batch with this first sequence is on the disks of a majority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// The sequence of the batch's first record.
    pub sequence: u64,
    /// The offset of the batch's first record; the others follow densely.
    pub offset: Offset,
    /// The leader's clock when it was appended, microseconds since the Unix epoch.
    pub time: u64,
}

/// The batch with this first sequence was not appended, or nobody knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendRefused {
    /// The sequence of the batch's first record.
    pub sequence: u64,
    /// Why.
    pub refusal: Refusal,
}

/// A stretch of batches for a subscriber, contiguous in offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deliver {
    /// The watermark when this was sent: the subscriber has caught up when it has read up to it.
    pub watermark: Offset,
    /// The batches. May be empty: a sign of life that carries the watermark.
    pub batches: Vec<DeliveredBatch>,
}

/// One batch at its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveredBatch {
    /// The offset of its first record.
    pub offset: Offset,
    /// The leader's clock when it was appended, microseconds since the Unix epoch.
    pub time: u64,
    /// Its bytes.
    pub batch: Bytes,
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
}

impl ClientStream {
    /// Appends its frame to `out`.
    pub fn encode(&self, _out: &mut BytesMut) {
        unreachable!("skeleton")
    }
    /// Reads it from its frame.
    pub fn decode(_frame: &Frame) -> Result<Self, Malformed> {
        unreachable!("skeleton")
    }
}

impl Produced {
    /// Appends the frame's header to `out`; the batch's bytes are to follow as they are.
    pub fn encode_header(_batch: &Batch, _out: &mut BytesMut) {
        unreachable!("skeleton")
    }
    /// Reads and fully verifies the batch.
    pub fn decode(_frame: &Frame) -> Result<Self, Malformed> {
        unreachable!("skeleton")
    }
}

/// An answer on a producer's stream.
pub type Answer = Result<Acknowledged, AppendRefused>;

impl Acknowledged {
    /// Appends one frame with all these answers, in order, to `out`.
    pub fn encode(_answers: &[Answer], _out: &mut BytesMut) {
        unreachable!("skeleton")
    }
    /// Reads them.
    pub fn decode(_frame: &Frame) -> Result<Vec<Answer>, Malformed> {
        unreachable!("skeleton")
    }
}

impl Deliver {
    /// Appends the frame to `out`, the batches' bytes included.
    pub fn encode(&self, _out: &mut BytesMut) {
        unreachable!("skeleton")
    }
    /// Reads it, verifying each batch's checksums; the batches share the frame's bytes.
    pub fn decode(_frame: &Frame) -> Result<Self, Malformed> {
        unreachable!("skeleton")
    }
}

impl StreamEnd {
    /// Appends its frame to `out`.
    pub fn encode(&self, _out: &mut BytesMut) {
        unreachable!("skeleton")
    }
    /// Reads it.
    pub fn decode(_frame: &Frame) -> Result<Self, Malformed> {
        unreachable!("skeleton")
    }
}
