//! A segment that is to be written anew: what is sound of it, and what was fetched for the rest.

use std::path::PathBuf;

use kontiki_raft::Index;
use kontiki_wire::{GroupId, PlacedEntry};

use crate::{
    Error,
    disk::{Disk, Open},
    gather::Gather,
    layout::{self, segment::HEADER_BYTES},
    segment::{
        apart,
        extent::Extent,
        frame::{EntryHeader, Footer, SegmentHeader},
        read::footer,
        salvage::{Piece, salvage},
    },
};

/// A range of indexes, both ends included.
pub(crate) type Range = (Index, Index);

/// A segment that is damaged or not there at all.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) group: GroupId,
    /// The entries that belong there.
    pub(crate) first: Index,
    pub(crate) last: Index,
    /// Whether it is to end with a footer.
    pub(crate) sealed: bool,
    /// Its footer, if it has a sound one.
    pub(crate) footer: Option<Footer>,
    /// Nothing tells where one segment ended and the next began.
    pub(crate) unbounded: bool,
    /// What is wrong with it.
    pub(crate) damage: String,
    /// What is sound in its file.
    pieces: Vec<Piece>,
    /// What has been fetched, in the order it came.
    fetched: Vec<Piece>,
}

/// Looks at every byte of a segment that is known to have been whole; what is wrong with it, if anything
/// is.
pub(crate) fn examine(
    disk: &dyn Disk,
    group: GroupId,
    extent: &Extent,
    sealed: bool,
) -> Result<Option<Broken>, Error> {
    let path = layout::segment_path(group, extent.first);
    let range = (extent.first, extent.last.index);
    let mut pieces = salvage(disk, &path, group, range)?;
    pieces.retain(|piece| piece.end <= extent.end);
    let whole = Piece {
        first: extent.first,
        last: extent.last.index,
        at: HEADER_BYTES as u64,
        end: extent.end,
    };
    let is_whole = pieces == [whole];
    let ends = ends(disk, group, extent, sealed)?;
    if is_whole && ends.is_ok() {
        return Ok(None);
    }
    let what = match (ends, pieces.first()) {
        (Err(what), _) if is_whole => what,
        (_, Some(piece)) if piece.first == extent.first => {
            format!("entry {} cannot be read", piece.last.next())
        }
        _ => format!("entry {} cannot be read", extent.first),
    };
    let at = if is_whole {
        0
    } else {
        first_damaged(&pieces, extent)
    };
    let path = disk.full_path(&path);
    let damage = Error::Damaged { path, at, what }.to_string();
    let mut broken = Broken::new(group, range, pieces, damage);
    broken.sealed = sealed;
    Ok(Some(broken))
}

/// The first byte behind what is sound from the beginning on.
fn first_damaged(pieces: &[Piece], extent: &Extent) -> u64 {
    let begin = pieces.first().filter(|piece| piece.first == extent.first);
    begin.map_or(HEADER_BYTES as u64, |piece| piece.end)
}

/// What is wrong with a segment's header or footer, if anything is.
fn ends(
    disk: &dyn Disk,
    group: GroupId,
    extent: &Extent,
    sealed: bool,
) -> Result<Result<(), String>, Error> {
    let path = layout::segment_path(group, extent.first);
    let file = match apart::open(disk, &path) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Err("it is missing".to_owned())),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; HEADER_BYTES];
    // What cannot be read is not sound.
    let read = file.read_at(0, &mut bytes).unwrap_or(0);
    let header = SegmentHeader::decode(&bytes[..read]);
    let header = match header {
        Ok(header) => header,
        Err(what) => return Ok(Err(what.to_owned())),
    };
    if (header.group, header.first, header.base_offset) != (group, extent.first, extent.base_offset)
    {
        return Ok(Err("its header is another segment's".to_owned()));
    }
    let footer = footer(&*file, file.size()?)?;
    let same = footer.is_some_and(|footer| footer == extent.footer(group, footer.outline.clone()));
    if sealed && !same {
        return Ok(Err("its footer is damaged".to_owned()));
    }
    Ok(Ok(()))
}

impl Broken {
    pub(crate) fn new(
        group: GroupId,
        (first, last): Range,
        pieces: Vec<Piece>,
        damage: String,
    ) -> Self {
        Self {
            group,
            first,
            last,
            sealed: true,
            footer: None,
            unbounded: false,
            damage,
            pieces,
            fetched: Vec::new(),
        }
    }

    /// What neither the file has nor was fetched, ascending.
    pub(crate) fn missing(&self) -> Vec<Range> {
        let mut missing = Vec::new();
        let mut next = self.first;
        for (piece, _) in self.sources() {
            if piece.first > next {
                missing.push((next, piece.first.prev()));
            }
            next = piece.last.next();
        }
        if next <= self.last {
            missing.push((next, self.last));
        }
        missing
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.missing().is_empty()
    }

    /// All there is, in order of index, each with the file that has it.
    pub(crate) fn sources(&self) -> Vec<(Piece, PathBuf)> {
        let path = layout::segment_path(self.group, self.first);
        let fetched = self.fetched_path();
        let own = self.pieces.iter().map(|piece| (*piece, path.clone()));
        let others = self.fetched.iter().map(|piece| (*piece, fetched.clone()));
        let mut sources: Vec<_> = own.chain(others).collect();
        sources.sort_by_key(|(piece, _)| piece.first);
        sources
    }

    /// What is sound in its file.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    fn fetched_path(&self) -> PathBuf {
        layout::fetched_path(self.group, self.first)
    }

    /// Bytes fetched.
    pub(crate) fn fetched_bytes(&self) -> u64 {
        self.fetched.last().map_or(0, |piece| piece.end)
    }

    /// The last entry of what was fetched, if that is one stretch from the first entry on.
    pub(crate) fn fetched_from_first(&self) -> Option<Index> {
        match &self.fetched[..] {
            [piece] if piece.first == self.first => Some(piece.last),
            _ => None,
        }
    }

    /// Keeps those of these contiguous entries that are missing here, beside the segment.
    pub(crate) fn fetch(&mut self, disk: &dyn Disk, entries: &[PlacedEntry]) -> Result<(), Error> {
        for (first, last) in self.missing() {
            let wanted = |placed: &&PlacedEntry| (first..=last).contains(&placed.entry.id.index);
            let wanted: Vec<&PlacedEntry> = entries.iter().filter(wanted).collect();
            if !wanted.is_empty() {
                self.append(disk, &wanted)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, disk: &dyn Disk, entries: &[&PlacedEntry]) -> Result<(), Error> {
        let from = self.fetched_bytes();
        let mut gather = Gather::default();
        let mut end = from;
        for placed in entries {
            let header = EntryHeader::of(self.group, placed);
            gather.copy(&header.encode().0);
            gather.share(&placed.entry.body);
            end += header.frame_bytes();
        }
        if self.unbounded && from == 0 {
            // The directory may have been lost with what was in it.
            disk.make_dir(&layout::group_dir(self.group))?;
        }
        let file = disk.open(&self.fetched_path(), Open::Create)?;
        if from == 0 {
            file.set_size(0)?;
        }
        gather.write_to(&*file, from)?;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let (first, last) = (first.entry.id.index, last.entry.id.index);
        match self.fetched.last_mut() {
            Some(piece) if piece.last.next() == first => {
                piece.last = last;
                piece.end = end;
            }
            _ => self.fetched.push(Piece {
                first,
                last,
                at: from,
                end,
            }),
        }
        Ok(())
    }

    /// Lets go of what is sound in the file, as it does not fit what was fetched, and of that as well.
    pub(crate) fn start_over(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        self.pieces.clear();
        self.discard(disk)
    }

    /// Removes what was fetched.
    pub(crate) fn discard(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        if std::mem::take(&mut self.fetched).is_empty() {
            return Ok(());
        }
        disk.remove(&self.fetched_path())
    }

    /// Cuts off the entries up to `last`, which have a segment of their own now.
    pub(crate) fn go_on_after(&mut self, disk: &dyn Disk, last: Index) -> Result<(), Error> {
        self.discard(disk)?;
        self.first = last.next();
        Ok(())
    }
}
