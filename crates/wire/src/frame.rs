//! The envelope of everything on a QUIC stream.
//!
//! ```text
//!  0  magic             u16  "KT"
//!  2  version           u8   1
//!  3  kind              u8   FrameKind
//!  4  length            u32  bytes of the payload
//!  8  payload checksum  u32  of the payload's head: all of it, or, where the payload ends in batches
//!                            or entries (which carry their own checksums), the part before them
//! 12  header checksum   u32  of bytes 0..12
//! 16  payload
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    malformed::Malformed,
    scan::{Scan, within},
};

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 16;

const MAGIC: u16 = u16::from_le_bytes(*b"KT");
const VERSION: u8 = 1;

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
    /// Somebody without a certificate asks for one ([`crate::Join`]).
    Join = 8,
    /// The answer to it ([`crate::Joined`]).
    Joined = 9,
    /// First on a peer's stream ([`crate::PeerHello`]).
    PeerHello = 16,
    /// Messages between peers ([`crate::PeerFrame`]).
    Peer = 17,
    /// A question for entries ([`crate::Missing`]).
    Missing = 18,
    /// The answer to it ([`crate::Found`]).
    Found = 19,
    /// A command for the leader of the cluster's own group ([`crate::Relay`]).
    Relay = 20,
    /// A question for how much there is to fetch of a group's log ([`crate::Inquiry`]).
    Inquiry = 21,
    /// The answer to it ([`crate::Stock`]).
    Stock = 22,
    /// A question for the log itself, first on a stream of bulk ([`crate::Inquiry`]).
    Ship = 23,
    /// A piece of the log, as it lies in files: who takes it verifies it.
    Shipped = 24,
    /// A request for another certificate ([`crate::Renew`]).
    Renew = 25,
    /// The answer to it ([`crate::Renewed`]).
    Renewed = 26,
    /// A member's beat for all groups that rest ([`crate::MemberBeat`]).
    Beat = 27,
}

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Open,
            Self::Request,
            Self::Response,
            Self::Produce,
            Self::Acknowledge,
            Self::Deliver,
            Self::End,
            Self::Join,
            Self::Joined,
            Self::PeerHello,
            Self::Peer,
            Self::Missing,
            Self::Found,
            Self::Relay,
            Self::Inquiry,
            Self::Stock,
            Self::Ship,
            Self::Shipped,
            Self::Renew,
            Self::Renewed,
            Self::Beat,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
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
    /// is checked against `payload_max` as soon as the header is there. Never allocates: the payload
    /// shares the buffer's memory.
    pub fn take(buffer: &mut BytesMut, payload_max: usize) -> Result<Option<Self>, Malformed> {
        let Some(header) = buffer.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let (kind, length, checksum) = read_header(header, payload_max)?;
        if buffer.len() - FRAME_HEADER_BYTES < length {
            return Ok(None);
        }
        buffer.advance(FRAME_HEADER_BYTES);
        Ok(Some(Self {
            kind,
            payload: buffer.split_to(length).freeze(),
            checksum,
        }))
    }

    /// How long the frame is that begins with these bytes, header and all; `None` if they do not tell or
    /// [`take`](Self::take) would refuse it.
    #[must_use]
    pub fn length(front: &[u8], payload_max: usize) -> Option<usize> {
        let header = front.first_chunk::<FRAME_HEADER_BYTES>()?;
        let (_, length, _) = read_header(header, payload_max).ok()?;
        Some(FRAME_HEADER_BYTES + length)
    }

    /// The payload, if it is of this kind and its checksum covers all of it.
    pub(crate) fn whole(&self, kind: FrameKind) -> Result<&Bytes, Malformed> {
        self.head(kind, self.payload.len())?;
        Ok(&self.payload)
    }

    /// The payload's first `head` bytes, if it is of this kind and its checksum covers them.
    pub(crate) fn head(&self, kind: FrameKind, head: usize) -> Result<&[u8], Malformed> {
        if self.kind != kind {
            return Err(Malformed::Unknown {
                what: "the kind of frame",
                value: self.kind as u64,
            });
        }
        let head = Scan::new("the payload of a frame", &self.payload).take(head)?;
        if crc32c::crc32c(head) == self.checksum {
            Ok(head)
        } else {
            Err(Malformed::Checksum {
                what: "the payload of a frame",
            })
        }
    }
}

fn read_header(
    header: &[u8; FRAME_HEADER_BYTES],
    payload_max: usize,
) -> Result<(FrameKind, usize, u32), Malformed> {
    const WHAT: &str = "the header of a frame";
    let mut scan = Scan::new(WHAT, header);
    let (magic, version, kind) = (scan.u16()?, scan.u8()?, scan.u8()?);
    let (length, checksum) = (scan.u32()?, scan.u32()?);
    if magic != MAGIC {
        return Err(Malformed::Unknown {
            what: "the magic of a frame",
            value: magic.into(),
        });
    }
    if version != VERSION {
        return Err(Malformed::Unknown {
            what: "the version of a frame",
            value: version.into(),
        });
    }
    if scan.u32()? != crc32c::crc32c(&header[..12]) {
        return Err(Malformed::Checksum { what: WHAT });
    }
    let kind = FrameKind::of(kind).ok_or_else(|| Malformed::Unknown {
        what: "the kind of frame",
        value: kind.into(),
    })?;
    let length = within("the length of a frame", length.into(), payload_max)?;
    Ok((kind, length, checksum))
}

/// Appends a frame whose whole payload is `payload` to `out`.
///
/// # Panics
/// If the payload is longer than any reader would take.
pub fn encode_frame(kind: FrameKind, payload: &[u8], out: &mut BytesMut) {
    out.reserve(FRAME_HEADER_BYTES + payload.len());
    out.put_slice(&header(kind, payload.len(), crc32c::crc32c(payload)));
    out.put_slice(payload);
}

/// The header of a frame of `length` bytes whose head has this checksum.
pub(crate) fn header(kind: FrameKind, length: usize, checksum: u32) -> [u8; FRAME_HEADER_BYTES] {
    let bound = match kind {
        FrameKind::PeerHello | FrameKind::Peer | FrameKind::Missing | FrameKind::Found => {
            crate::limits::PEER_FRAME_BYTES_MAX
        }
        _ => crate::limits::CLIENT_FRAME_BYTES_MAX,
    };
    assert!(length <= bound, "a {kind:?} frame of {length} bytes");
    let mut header = [0; FRAME_HEADER_BYTES];
    header[0..2].copy_from_slice(&MAGIC.to_le_bytes());
    header[2] = VERSION;
    header[3] = kind as u8;
    header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    header[8..12].copy_from_slice(&checksum.to_le_bytes());
    let own = crc32c::crc32c(&header[..12]);
    header[12..16].copy_from_slice(&own.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CLIENT_FRAME_BYTES_MAX;

    /// A header with these fields and checksums that match.
    fn sealed(magic: &[u8; 2], version: u8, kind: u8, length: u32) -> BytesMut {
        let mut bytes = BytesMut::new();
        bytes.put_slice(magic);
        bytes.put_slice(&[version, kind]);
        bytes.put_u32_le(length);
        bytes.put_u32_le(0);
        let checksum = crc32c::crc32c(&bytes);
        bytes.put_u32_le(checksum);
        bytes
    }

    #[test]
    fn frames_come_off_a_buffer_one_by_one_and_only_when_whole() {
        let mut sent = BytesMut::new();
        encode_frame(FrameKind::Request, b"one", &mut sent);
        encode_frame(FrameKind::Response, b"", &mut sent);
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for byte in sent {
            buffer.put_u8(byte);
            while let Some(frame) = Frame::take(&mut buffer, 16).unwrap() {
                got.push((frame.kind, frame.payload));
            }
        }
        assert!(buffer.is_empty());
        let one = Bytes::from_static(b"one");
        assert_eq!(
            got,
            [
                (FrameKind::Request, one),
                (FrameKind::Response, Bytes::new())
            ]
        );
    }

    #[test]
    fn a_payload_shares_the_memory_it_arrived_in() {
        let mut buffer = BytesMut::new();
        encode_frame(FrameKind::Request, b"payload", &mut buffer);
        let place = buffer[FRAME_HEADER_BYTES..].as_ptr();
        let frame = Frame::take(&mut buffer, 16).unwrap().unwrap();
        assert_eq!(frame.payload.as_ptr(), place);
    }

    #[test]
    fn a_header_with_unknown_fields_is_refused_although_its_checksum_matches() {
        let what = |mut bytes: BytesMut| match Frame::take(&mut bytes, 16) {
            Err(Malformed::Unknown { what, .. } | Malformed::TooLarge { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(sealed(b"TK", 1, 2, 0)), "the magic of a frame");
        assert_eq!(what(sealed(b"KT", 2, 2, 0)), "the version of a frame");
        for kind in [0, 10, 15, 28, 255] {
            assert_eq!(what(sealed(b"KT", 1, kind, 0)), "the kind of frame");
        }
        for length in [17, 1 << 31, u32::MAX] {
            assert_eq!(what(sealed(b"KT", 1, 2, length)), "the length of a frame");
        }
        assert_eq!(Frame::take(&mut sealed(b"KT", 1, 2, 16), 16), Ok(None));
    }

    #[test]
    fn a_length_is_judged_before_any_room_is_made_for_it() {
        let mut header = sealed(b"KT", 1, 4, CLIENT_FRAME_BYTES_MAX as u32);
        let capacity = header.capacity();
        assert_eq!(Frame::take(&mut header, CLIENT_FRAME_BYTES_MAX), Ok(None));
        assert_eq!(header.capacity(), capacity);
    }
}
