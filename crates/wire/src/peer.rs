//! What members say to each other. Hand-laid: it carries the records.

use bytes::{Bytes, BytesMut};
use kontiki_raft::{Message, NodeRef};

use crate::{
    frame::Frame,
    ids::{ClusterId, GroupId},
    malformed::Malformed,
};

/// Which of the links between two members a stream is: they never share a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PeerLane {
    /// Beats, votes and their answers.
    Beats = 1,
    /// Appends and their answers.
    Log = 2,
}

/// First on every stream between peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerHello {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who speaks.
    pub from: NodeRef,
    /// Who is meant.
    pub to: NodeRef,
    /// What the stream carries.
    pub lane: PeerLane,
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
    pub fn encode(&self, _out: &mut BytesMut) {
        unreachable!("skeleton")
    }
    /// Reads it.
    pub fn decode(_frame: &Frame) -> Result<Self, Malformed> {
        unreachable!("skeleton")
    }
}

/// Encodes one frame as pieces to be written one after the other: small parts are joined, bodies of
/// entries are handed on as they are, without a copy.
pub fn encode_peer(_frame: &PeerFrame, _out: &mut Vec<Bytes>) {
    unreachable!("skeleton")
}

/// Reads a frame; bodies share its bytes. Verifies all checksums, that entries are contiguous from
/// `prev`, that terms do not decrease or exceed the message's, that every count and length is within
/// [`crate::limits`], and that nothing is left over.
pub fn decode_peer(_frame: &Frame) -> Result<PeerFrame, Malformed> {
    unreachable!("skeleton")
}
