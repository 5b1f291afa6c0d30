//! Writing segments: runs of committed entries, in large writes.
//!
//! A file stays open from its first write to the sync that covers it: when the system fails to write a
//! page in the background, it tells whoever had the file open then.

use std::{io::IoSlice, ops::Range, path::Path};

use kontiki_raft::{Index, Term};
use kontiki_wire::{GroupId, Offset, PlacedEntry};

use crate::{
    Error,
    disk::{Disk, File, Open},
    gather::Gather,
    layout,
    segment::{
        apart,
        extent::Extent,
        frame::{EntryHeader, SegmentHeader},
        index::{self, Mark, mark_due},
        outline::Outline,
    },
};

/// Begins a segment, whose file is to be synced. Its name is durable after its directory is synced.
pub(crate) fn begin(
    disk: &dyn Disk,
    group: GroupId,
    first: Index,
    term_before: Term,
    base_offset: Offset,
) -> Result<(Extent, Box<dyn File>), Error> {
    let header = SegmentHeader {
        group,
        first,
        term_before,
        base_offset,
    };
    let file = disk.open(&layout::segment_path(group, first), Open::Create)?;
    file.set_size(0)?;
    file.write_at(0, &[IoSlice::new(&header.encode())])?;
    index::append(disk, group, first, 0, &[])?;
    Ok((Extent::empty(first, term_before, base_offset), file))
}

/// A segment's file, to be written and then synced.
pub(crate) fn open(disk: &dyn Disk, group: GroupId, first: Index) -> Result<Box<dyn File>, Error> {
    disk.open(&layout::segment_path(group, first), Open::Write)
}

/// Writes a run of entries behind `extent`, and their marks into the index. Gives back how far the
/// segment reaches then, and the new marks; nothing is synced.
pub(crate) fn append(
    disk: &dyn Disk,
    file: &dyn File,
    group: GroupId,
    mut extent: Extent,
    last_mark: Option<Mark>,
    run: &[PlacedEntry],
) -> Result<(Extent, Vec<Mark>), Error> {
    let from = extent.end;
    let before = extent.marks as usize;
    let mut gather = Gather::default();
    let mut marks: Vec<Mark> = Vec::new();
    for placed in run {
        let entry = &placed.entry;
        assert_eq!(
            entry.id.index,
            extent.last.index.next(),
            "a run is contiguous"
        );
        assert_eq!(placed.offset, extent.end_offset, "offsets are dense");
        let header = EntryHeader::of(group, placed);
        let last = marks.last().or(last_mark.as_ref());
        marks.extend(mark_due(last, &header, extent.end, extent.digest));
        let (bytes, checksum) = header.encode();
        gather.copy(&bytes);
        gather.share(&entry.body);
        extent.push(&header, checksum);
    }
    gather.write_to(file, from)?;
    if !marks.is_empty() {
        index::append(disk, group, extent.first, before, &marks)?;
        extent.marks += u32::try_from(marks.len()).expect("a run is far below 2^32 entries");
    }
    Ok((extent, marks))
}

/// Lets the system forget these bytes of a segment, which are durable.
pub(crate) fn uncache(disk: &dyn Disk, group: GroupId, first: Index, bytes: Range<u64>) {
    // One that was removed meanwhile has none.
    if let Ok(file) = apart::open(disk, &layout::segment_path(group, first)) {
        file.uncache(bytes);
    }
}

/// Ends a segment durably, its index with it.
pub(crate) fn seal(
    disk: &dyn Disk,
    file: &dyn File,
    group: GroupId,
    extent: &Extent,
    outline: Outline,
) -> Result<(), Error> {
    let footer = extent.footer(group, outline).encode();
    file.write_at(extent.end, &[IoSlice::new(&footer)])?;
    file.sync()?;
    let index = layout::index_path(group, extent.first);
    disk.open(&index, Open::Create)?.sync()
}

/// Makes the names of a group's segments durable, and the group's own.
pub(crate) fn sync_names(disk: &dyn Disk, group: GroupId) -> Result<(), Error> {
    disk.sync_dir(&layout::group_dir(group))?;
    disk.sync_dir(Path::new(layout::GROUPS_DIR))
}
