//! The byte that stands for an entry's kind, in the journal and in segments.

use kontiki_raft::Kind;

const ALL: [Kind; 4] = [Kind::Noop, Kind::Config, Kind::Batch, Kind::Command];

/// The kind that a byte stands for; the byte of a kind is its number.
pub(crate) fn entry_kind(byte: u8) -> Option<Kind> {
    ALL.into_iter().find(|&kind| kind as u8 == byte)
}
