//! What is known of a segment without reading it.

use kontiki_raft::{Index, LogId, Micros, Term};
use kontiki_wire::{GroupId, Offset};

use crate::{
    layout::segment::HEADER_BYTES,
    segment::{
        frame::{EntryHeader, Footer},
        outline::Outline,
    },
};

/// How far a segment reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub(crate) first: Index,
    pub(crate) base_offset: Offset,
    /// Its last entry; the one before its first while it has none.
    pub(crate) last: LogId,
    /// The offset after its last record.
    pub(crate) end_offset: Offset,
    pub(crate) first_time: Micros,
    pub(crate) last_time: Micros,
    /// The byte after its last frame.
    pub(crate) end: u64,
    /// CRC-32C of all frames' header checksums.
    pub(crate) digest: u32,
    /// Marks in its index.
    pub(crate) marks: u32,
}

impl Extent {
    /// A segment without entries.
    pub(crate) fn empty(first: Index, term_before: Term, base_offset: Offset) -> Self {
        Self {
            first,
            base_offset,
            last: LogId {
                term: term_before,
                index: first.prev(),
            },
            end_offset: base_offset,
            first_time: Micros(0),
            last_time: Micros(0),
            end: HEADER_BYTES as u64,
            digest: 0,
            marks: 0,
        }
    }

    /// A sealed segment, from its footer.
    pub(crate) fn sealed(footer: &Footer, base_offset: Offset) -> Self {
        Self {
            first: footer.first,
            base_offset,
            last: footer.last,
            end_offset: footer.end_offset,
            first_time: footer.first_time,
            last_time: footer.last_time,
            end: footer.end,
            digest: footer.digest,
            marks: footer.marks,
        }
    }

    /// The footer that seals it.
    pub(crate) fn footer(&self, group: GroupId, outline: Outline) -> Footer {
        Footer {
            group,
            first: self.first,
            last: self.last,
            end_offset: self.end_offset,
            first_time: self.first_time,
            last_time: self.last_time,
            end: self.end,
            digest: self.digest,
            marks: self.marks,
            outline,
        }
    }

    /// Grows by one entry whose header has this checksum.
    pub(crate) fn push(&mut self, entry: &EntryHeader, checksum: u32) {
        if self.last.index < self.first {
            self.first_time = entry.time;
        }
        self.last = entry.id;
        self.last_time = entry.time;
        self.end_offset = Offset(entry.offset.0 + u64::from(entry.count));
        self.end += entry.frame_bytes();
        self.digest = add_to_digest(self.digest, checksum);
    }
}

/// The digest of frames with one more, whose header has this checksum.
pub(crate) fn add_to_digest(digest: u32, checksum: u32) -> u32 {
    crc32c::crc32c_append(digest, &checksum.to_le_bytes())
}
