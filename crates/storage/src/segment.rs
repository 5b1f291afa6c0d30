//! Segments: each group's committed entries, in files of their own that only ever grow.

mod apart;
mod broken;
mod configs;
mod extent;
mod frame;
mod index;
mod outline;
mod read;
mod readers;
mod recover;
mod rewrite;
mod salvage;
mod write;

pub(crate) use apart::{Apart, open as open_to_read, set_apart};
pub(crate) use broken::{Broken, Range, examine};
pub(crate) use extent::{Extent, add_to_digest};
pub(crate) use frame::{EntryHeader, Footer, SegmentHeader};
pub(crate) use index::{Mark, Marks, header as index_header, mark_due, outline};
pub(crate) use outline::Outline;
pub(crate) use read::{Recent, SegmentRead, Target, footer, frames_in_piece, placed_in_piece};
pub(crate) use recover::{Expected, GroupSegments, recover};
pub(crate) use rewrite::{Neighbours, Rewritten, rewrite};
pub(crate) use salvage::Piece;
pub(crate) use write::{append, begin, open, seal, sync_names, uncache};
