//! Says everything in bytes: the vocabulary of client and peer, declared once, and its layout.
//!
//! Frames, batches and records have a fixed layout laid by hand, little-endian, with explicit bounds
//! ([`limits`]); small control messages are bincode, in `codec.rs` alone. Decoding never panics,
//! never allocates more than the bytes it was given, and refuses what is left over.

mod batch;
mod codec;
mod command;
mod control;
mod frame;
mod ids;
pub mod limits;
mod malformed;
mod peer;
mod record;
mod stream;

pub use batch::{Batch, BatchBuilder, BatchHeader, Records};
pub use codec::{decode, encode};
pub use command::{ClusterCommand, ClusterState, Member, ProducerState, Topic, TopicState};
pub use control::{
    GroupStatus, MemberInfo, MemberStatus, Refusal, ReplicaStatus, Request, Response, TopicInfo,
    TopicSettings,
};
pub use frame::{FRAME_HEADER_BYTES, Frame, FrameKind, encode_frame};
pub use ids::{ClusterId, GroupId, Offset, ProducerId, TopicName, Watermark};
pub use malformed::Malformed;
pub use peer::{GroupMessage, PeerFrame, PeerHello, PeerLane, decode_peer, encode_peer};
pub use record::{Header, Record};
pub use stream::{
    Acknowledged, Answer, AppendRefused, ClientStream, Deliver, DeliveredBatch, From, Produced,
    StreamEnd, Subscribe, Until,
};
