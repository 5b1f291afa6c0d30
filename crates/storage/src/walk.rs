//! Reading a log only to see whether it is still what it was.

use kontiki_raft::{Entry, Index};
use kontiki_wire::Offset;

/// What a walk over a part of a log found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Walked {
    /// The last entry that was looked at, or known to be missing.
    pub upto: Index,
    /// The running checksum: that of the entries before, which was given, with each sound one here.
    pub digest: u32,
    /// Sound entries.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Entries that cannot be read, the first and the last one, ascending.
    pub missing: Vec<(Index, Index)>,
    /// Damage that nobody knew of and that ended the walk: the entry behind `upto` cannot be read. It is
    /// looked into.
    pub met: Option<String>,
}

impl Walked {
    /// Goes on to a sound entry. What goes into the digest is the same on every replica.
    pub(crate) fn add(&mut self, entry: &Entry, offset: Offset, count: u32) {
        let id = entry.id;
        let mut digest = self.digest;
        for number in [id.index.0, id.term.0, entry.time.0, offset.0] {
            digest = crc32c::crc32c_append(digest, &number.to_le_bytes());
        }
        for number in [entry.kind as u32, count, entry.checksum] {
            digest = crc32c::crc32c_append(digest, &number.to_le_bytes());
        }
        self.digest = digest;
        self.upto = id.index;
        self.entries += 1;
        self.bytes += entry.body.len() as u64;
    }

    /// Passes over entries that are missing.
    pub(crate) fn skip(&mut self, first: Index, last: Index) {
        self.missing.push((first, last));
        self.upto = last;
    }
}
