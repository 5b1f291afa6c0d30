//! What the log is made of.

use bytes::Bytes;

use crate::ids::{LogId, Micros};

/// What an entry's body is. Only `Noop` and `Config` mean anything to Raft.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A new leader's first entry; its body is empty.
    Noop = 0,
    /// A configuration, in the bytes of [`crate::Membership`].
    Config = 1,
    /// A batch of records, in the bytes the producer sent.
    Batch = 2,
    /// A command to the state machine.
    Command = 3,
}

/// One entry. Cloning shares the body.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Where it stands.
    pub id: LogId,
    /// What the body is.
    pub kind: Kind,
    /// The leader's wall clock when it was proposed, in microseconds since the Unix epoch; never
    /// earlier than the entry before it, whatever the clocks did.
    pub time: Micros,
    /// CRC-32C of the body, computed once where the body was made and verified wherever it arrives.
    /// Raft carries it and never looks.
    pub checksum: u32,
    /// The content.
    pub body: Bytes,
}
