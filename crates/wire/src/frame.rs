//! The envelope of everything on a QUIC stream.
//!
//! ```text
//! 0  magic    u16   "KT"
//! 2  version  u8    1
//! 3  kind     u8    FrameKind
//! 4  length   u32   bytes of the payload
//! 8  payload checksum u32   CRC-32C of the payload's head: all of it, or, where the payload ends in
//!                           batches (which carry their own checksums), the part before them
//! 12 header checksum  u32   CRC-32C of bytes 0..12
//! 16 payload
//! ```

use bytes::{Bytes, BytesMut};

use crate::Malformed;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 16;

/// What a frame's payload is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// First on a client's stream: what it is for ([`crate::ClientStream`]).
    Open = 1,
    /// A [`crate::Request`].
    Request = 2,
    /// A [`crate::Response`].
    Response = 3,
    /// A batch to append ([`crate::Produced`]).
    Produce = 4,
    /// An acknowledgement or refusal of batches ([`crate::Acknowledged`], [`crate::AppendRefused`]).
    Acknowledge = 5,
    /// Batches for a subscriber ([`crate::Deliver`]).
    Deliver = 6,
    /// The last frame of a server's stream: why it ends ([`crate::StreamEnd`]).
    End = 7,
    /// First on a peer's stream ([`crate::PeerHello`]).
    PeerHello = 16,
    /// Messages between peers ([`crate::PeerFrame`]).
    Peer = 17,
}

/// A frame that has arrived whole and whose header has been checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// The payload.
    pub payload: Bytes,
    /// The checksum the header gives for the payload's head; the decoder of `kind` verifies it.
    pub checksum: u32,
}

impl Frame {
    /// Takes one whole frame off the front of `buffer`, or `None` if it is not there yet. The length
    /// is checked against `payload_max` as soon as the header is there, before anything is allocated.
    pub fn take(_buffer: &mut BytesMut, _payload_max: usize) -> Result<Option<Self>, Malformed> {
        unreachable!("skeleton")
    }
}

/// Appends a frame whose whole payload is `payload` to `out`.
pub fn encode_frame(_kind: FrameKind, _payload: &[u8], _out: &mut BytesMut) {
    unreachable!("skeleton")
}
