//! Segments: each group's committed entries, in files of their own that only ever grow.

mod extent;
mod frame;
mod index;
mod read;
mod recover;
mod write;

pub(crate) use extent::{Extent, add_to_digest};
pub(crate) use frame::{EntryHeader, Footer, SegmentHeader};
pub(crate) use index::{IndexCache, Mark, Marks, header as index_header, mark_due, terms};
pub(crate) use read::{SegmentRead, Target};
pub(crate) use recover::{Expected, GroupSegments, footer, recover};
pub(crate) use write::{PlacedEntry, append, begin, seal, sync, sync_names};
