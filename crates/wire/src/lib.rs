//! Says everything in bytes: the vocabulary of client and peer, declared once, and its layout.
//!
//! Frames, batches and records have a fixed layout laid by hand, little-endian, with explicit bounds
//! ([`limits`]); small control messages and small state go through `codec.rs` alone. Decoding never
//! panics, allocates no more than in proportion to the bytes it was given, and refuses what is left
//! over.

#![forbid(unsafe_code)]

mod batch;
mod beat;
mod checksum;
mod codec;
mod command;
mod control;
mod deliver;
mod epoch;
mod fetch;
mod frame;
#[cfg(test)]
mod golden;
mod ids;
mod join;
pub mod limits;
mod malformed;
mod member;
mod mend;
mod message;
mod parse_error;
mod pattern;
mod peer;
mod produce;
mod record;
mod refusal;
mod relay;
mod renewal;
mod role;
mod scan;
mod stream;
mod token;
mod trust;
mod version;

pub use batch::{BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchHeader, Records};
pub use beat::MemberBeat;
pub use checksum::entry_checksum;
pub use codec::{decode, encode};
pub use command::{
    Admission, ClusterCommand, ClusterState, Member, ProducerState, Topic, TopicState,
};
pub use control::{
    FetchStatus, GroupStatus, MemberStatus, ReplicaStatus, Request, Response, TopicInfo,
    TopicSettings, Walked, WalkedDamage,
};
pub use deliver::{Deliver, DeliveredBatch};
pub use epoch::{Epoch, Recovery};
pub use fetch::{Inquiry, SHIPPED_BYTES_MAX, Stock};
pub use frame::{FRAME_HEADER_BYTES, Frame, FrameKind, encode_frame};
pub use ids::{ClusterId, GroupId, Offset, ProducerId, TopicName, Watermark};
pub use join::{Birth, Claim, Join, Joined, Seat, Welcome};
pub use malformed::Malformed;
pub use member::{MemberInfo, MemberRef, Standing};
pub use mend::{Found, Missing, PlacedEntry};
pub use parse_error::ParseError;
pub use pattern::TopicPattern;
pub use peer::{GroupMessage, PeerFrame, PeerHello, PeerLane, decode_peer, encode_peer};
pub use produce::{Acknowledged, Answer, AppendRefused, Produced};
pub use record::{Header, Record};
pub use refusal::Refusal;
pub use relay::Relay;
pub use renewal::{Renew, Renewed};
pub use role::Role;
pub use stream::{ClientStream, From, StreamEnd, Subscribe, Until};
pub use token::{Spent, Token, TokenId, TokenInfo, TokenSpec};
pub use trust::{
    Handover, Papers, Revocation, Rotate, Rotation, RotationStage, Successors, Trust, Turnover,
    Whom,
};
pub use version::Versions;
