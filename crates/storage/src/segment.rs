//! Segments: each group's committed entries, in files of their own that only ever grow.

mod extent;
mod frame;
mod index;
mod read;
mod recover;
mod write;

pub(crate) use extent::Extent;
pub(crate) use index::{IndexCache, Mark, Marks, terms};
pub(crate) use read::{SegmentRead, Target};
pub(crate) use recover::{Expected, GroupSegments, recover};
pub(crate) use write::{PlacedEntry, append, begin, seal, sync, sync_names};
