//! What members say to each other, in frames. Laid by hand: it carries the records.
//!
//! ```text
//!  0  head length  u32   bytes of the head, these four included
//!  4  count        u32   messages, at least 1
//!  8  messages     see message.rs
//!     bodies       of all entries, one after the other; not under the frame's checksum, each has its
//!                  own in its entry's header
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use kontiki_raft::{Body, Entry, Incarnation, Message, NodeId, NodeRef};

use crate::{
    epoch::Epoch,
    frame::{self, FRAME_HEADER_BYTES, Frame, FrameKind, encode_frame},
    ids::{ClusterId, GroupId},
    limits::{ADDRESS_BYTES_MAX, PEER_FRAME_BYTES_MAX, PEER_MESSAGES_MAX},
    malformed::Malformed,
    message::{MESSAGE_BYTES_MIN, decode_message, encode_message, message_bytes},
    scan::{Scan, within},
    version::Versions,
};

/// Which of the links between two members a stream is: they never share a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PeerLane {
    /// Beats, votes and their answers.
    Beats = 1,
    /// Appends and their answers.
    Log = 2,
    /// A log that is fetched as it lies in files; dialled for that alone.
    Bulk = 3,
}

/// First on every stream between peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerHello {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub epoch: Epoch,
    /// Who speaks.
    pub from: NodeRef,
    /// Who is meant.
    pub to: NodeRef,
    /// What the stream carries.
    pub lane: PeerLane,
    /// What the build of who speaks can do.
    pub versions: Versions,
    /// Whether this takes the place of a link of the same process that is up: then nothing else has changed.
    pub renews: bool,
    /// Where peers reach who speaks, `host:port`: who is meant may not know it yet.
    pub peer_address: String,
}

/// One group's message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMessage {
    /// The group.
    pub group: GroupId,
    /// What is said in it.
    pub message: Message,
}

/// A frame's worth of messages, of any groups: beats of a thousand groups travel as one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerFrame {
    /// In order.
    pub messages: Vec<GroupMessage>,
}

impl PeerHello {
    /// Appends its frame to `out`.
    ///
    /// # Panics
    /// If the address crosses [`ADDRESS_BYTES_MAX`].
    pub fn encode(&self, out: &mut BytesMut) {
        let length = u8::try_from(self.peer_address.len()).expect("an address is short");
        let mut payload = BytesMut::with_capacity(HELLO_BYTES + self.peer_address.len());
        payload.put_u128_le(self.cluster.0);
        payload.put_u64_le(self.epoch.number);
        payload.put_u64_le(self.epoch.mark);
        for node in [self.from, self.to] {
            payload.put_u64_le(node.id.0);
            payload.put_u64_le(node.incarnation.0);
        }
        payload.put_u8(self.lane as u8);
        payload.put_u16_le(self.versions.lowest);
        payload.put_u16_le(self.versions.highest);
        payload.put_u8(self.renews.into());
        payload.put_u8(length);
        payload.put_slice(self.peer_address.as_bytes());
        encode_frame(FrameKind::PeerHello, &payload, out);
    }

    /// Reads it.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let payload = frame.whole(FrameKind::PeerHello)?;
        let mut scan = Scan::new("a peer's hello", payload);
        let hello = Self {
            cluster: ClusterId(scan.u128()?),
            epoch: Epoch {
                number: scan.u64()?,
                mark: scan.u64()?,
            },
            from: read_node(&mut scan)?,
            to: read_node(&mut scan)?,
            lane: match scan.u8()? {
                1 => PeerLane::Beats,
                2 => PeerLane::Log,
                3 => PeerLane::Bulk,
                other => {
                    return Err(Malformed::Unknown {
                        what: "the lane of a peer's stream",
                        value: other.into(),
                    });
                }
            },
            versions: Versions {
                lowest: scan.u16()?,
                highest: scan.u16()?,
            },
            renews: scan.bool("whether a link is renewed")?,
            peer_address: read_address(&mut scan)?,
        };
        scan.end()?;
        Ok(hello)
    }
}

const HELLO_BYTES: usize = 71;
const _: () = assert!(ADDRESS_BYTES_MAX <= u8::MAX as usize);

fn read_address(scan: &mut Scan<'_>) -> Result<String, Malformed> {
    let length = scan.u8()?.into();
    let address = std::str::from_utf8(scan.take(length)?);
    let address = address.map_err(|_| Malformed::Inconsistent {
        what: "a peer's address that is no text",
    })?;
    Ok(address.to_owned())
}

fn read_node(scan: &mut Scan<'_>) -> Result<NodeRef, Malformed> {
    Ok(NodeRef {
        id: NodeId(scan.u64()?),
        incarnation: Incarnation(scan.u64()?),
    })
}

/// Encodes the messages as pieces to be written one after the other: small parts are joined, long
/// bodies of entries are handed on as they are, without a copy. One frame, or as many as the bounds of
/// a frame demand; none for no messages.
///
/// # Panics
/// If one message alone crosses the bounds of a frame, or its entries do not follow one another.
pub fn encode_peer(frame: &PeerFrame, out: &mut Vec<Bytes>) {
    let mut messages = frame.messages.as_slice();
    while !messages.is_empty() {
        let fitting = fitting(messages);
        let (now, later) = messages.split_at(fitting.messages);
        encode_one(now, &fitting, out);
        messages = later;
    }
}

/// How much of some messages one frame takes.
struct Fitting {
    messages: usize,
    head_bytes: usize,
    body_bytes: usize,
    /// The part of `body_bytes` that is copied.
    joined_bytes: usize,
}

fn fitting(messages: &[GroupMessage]) -> Fitting {
    let mut fitting = Fitting {
        messages: 0,
        head_bytes: HEAD_BYTES,
        body_bytes: 0,
        joined_bytes: 0,
    };
    for message in messages.iter().take(PEER_MESSAGES_MAX) {
        let head = message_bytes(&message.message);
        let body: usize = bodies(message).map(Bytes::len).sum();
        let bytes = fitting.head_bytes + head + fitting.body_bytes + body;
        if fitting.messages > 0 && bytes > PEER_FRAME_BYTES_MAX {
            break;
        }
        fitting.messages += 1;
        fitting.head_bytes += head;
        fitting.body_bytes += body;
        let joined = bodies(message).filter(|body| is_joined(body));
        fitting.joined_bytes += joined.map(Bytes::len).sum::<usize>();
    }
    fitting
}

const HEAD_BYTES: usize = 8;
/// Writing one more piece costs about as much as copying this much.
const JOINED_BYTES_MAX: usize = 512;

fn is_joined(body: &Bytes) -> bool {
    body.len() < JOINED_BYTES_MAX
}

fn entries(message: &GroupMessage) -> &[Entry] {
    match &message.message.body {
        Body::Append { entries, .. } => entries,
        _ => &[],
    }
}

fn bodies(message: &GroupMessage) -> impl Iterator<Item = &Bytes> {
    entries(message).iter().map(|entry| &entry.body)
}

fn encode_one(messages: &[GroupMessage], fitting: &Fitting, out: &mut Vec<Bytes>) {
    let room = FRAME_HEADER_BYTES + fitting.head_bytes + fitting.joined_bytes;
    let mut joined = BytesMut::with_capacity(room);
    joined.put_bytes(0, FRAME_HEADER_BYTES);
    joined.put_u32_le(fitting.head_bytes as u32);
    joined.put_u32_le(messages.len() as u32);
    for message in messages {
        joined.put_u64_le(message.group.0);
        encode_message(&message.message, &mut joined);
    }
    assert_eq!(joined.len(), FRAME_HEADER_BYTES + fitting.head_bytes);
    let checksum = crc32c::crc32c(&joined[FRAME_HEADER_BYTES..]);
    let length = fitting.head_bytes + fitting.body_bytes;
    let header = frame::header(FrameKind::Peer, length, checksum);
    joined[..FRAME_HEADER_BYTES].copy_from_slice(&header);

    for body in messages.iter().flat_map(bodies) {
        if is_joined(body) {
            joined.put_slice(body);
        } else {
            if !joined.is_empty() {
                out.push(joined.split().freeze());
            }
            out.push(body.clone());
        }
    }
    if !joined.is_empty() {
        out.push(joined.freeze());
    }
}

/// Reads a frame; bodies that are an eighth of it or more share its bytes. Verifies all checksums, that
/// entries are contiguous from `prev`, that terms do not decrease or exceed the message's, that every count
/// and length is within [`crate::limits`], and that nothing is left over.
pub fn decode_peer(frame: &Frame) -> Result<PeerFrame, Malformed> {
    let head_bytes = Scan::new(WHAT, &frame.payload).u32()? as usize;
    let head = frame.head(FrameKind::Peer, head_bytes)?;
    let mut scan = Scan::new(WHAT, head);
    scan.u32()?;
    let count = scan.count("the number of messages", PEER_MESSAGES_MAX)?;
    if count == 0 {
        return Err(Malformed::Inconsistent {
            what: "a frame between peers without a message",
        });
    }
    let count_max = scan.left() / (8 + MESSAGE_BYTES_MIN);
    within("the number of messages", count as u64, count_max)?;
    let mut messages = Vec::with_capacity(count);
    let mut bodies = frame.payload.slice(head_bytes..);
    for _ in 0..count {
        let mut message = GroupMessage {
            group: GroupId(scan.u64()?),
            message: decode_message(&mut scan, &mut bodies)?,
        };
        set_apart(&mut message, frame.payload.len());
        messages.push(message);
    }
    scan.end()?;
    match bodies.len() {
        0 => Ok(PeerFrame { messages }),
        left => Err(Malformed::Trailing { what: WHAT, left }),
    }
}

/// Gives bodies memory of their own that are little of that which is kept as long as one of them: the
/// frame's, or that of the frames that arrived with it. A group that is seldom appended to keeps its last
/// entries for long.
fn set_apart(message: &mut GroupMessage, frame_bytes: usize) {
    let shared = frame_bytes.max(ARRIVE_TOGETHER_BYTES);
    if let Body::Append { entries, .. } = &mut message.message.body {
        for entry in entries {
            if entry.body.len() < shared / KEPT_FOR_EACH_MAX {
                entry.body = Bytes::copy_from_slice(&entry.body);
            }
        }
    }
}

/// Bytes that are kept for each byte of a body, at most.
const KEPT_FOR_EACH_MAX: usize = 8;
/// What small frames that arrive together share of memory, about.
const ARRIVE_TOGETHER_BYTES: usize = 256 << 10;
const WHAT: &str = "a frame between peers";

#[cfg(test)]
mod tests;
