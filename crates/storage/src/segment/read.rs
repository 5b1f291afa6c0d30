//! Reading segments: large contiguous reads, every header and every body that is handed on verified.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use kontiki_raft::{Entry, Index, Micros};
use kontiki_wire::{
    DeliveredBatch, GroupId, Offset, PlacedEntry,
    limits::{FOUND_BYTES_MAX, FOUND_ENTRIES_MAX},
};

use crate::{
    Error,
    disk::{Disk, File},
    layout::{
        self,
        segment::{ENTRY_BYTES, HEADER_BYTES, TRAILER_BYTES},
    },
    planted::{Planted, plants},
    segment::{
        apart,
        extent::{Extent, add_to_digest},
        frame::{EntryHeader, Footer},
        index::{self, IndexCache, Mark, Marks, mark_due},
        readers::{Readers, Since, Stopped},
        salvage::Piece,
    },
};

/// Bytes of a read that only looks for a place.
const SEEK_BYTES: usize = 128 << 10;
/// Bytes of a read when much is to be gone through.
const SCAN_BYTES: usize = 1 << 20;
/// Bytes that a system keeps in memory, or does not, together.
const FOLIO_BYTES_MAX: u64 = 2 << 20;

/// The frames of a segment, one after the other. Bodies share the buffer of one read.
#[derive(Debug)]
pub(crate) struct Frames {
    file: Box<dyn File>,
    path: PathBuf,
    group: GroupId,
    /// Where the next frame begins.
    at: u64,
    end: u64,
    /// The index that the next frame must have.
    next: Index,
    chunk: Bytes,
    chunk_at: u64,
    chunk_bytes: usize,
    /// What was given from this byte on shall not stay in the system's memory.
    drops: Option<u64>,
}

/// One entry as a segment has it.
#[derive(Debug)]
pub(crate) struct FoundEntry {
    pub(crate) header: EntryHeader,
    /// The header's checksum.
    pub(crate) checksum: u32,
    pub(crate) position: u64,
    pub(crate) body: Bytes,
}

impl Frames {
    /// Frames from `at`, where `next` begins, to `end`, read in pieces of `chunk_bytes`.
    pub(crate) fn new(
        disk: &dyn Disk,
        group: GroupId,
        first: Index,
        (at, next): (u64, Index),
        end: u64,
        chunk_bytes: usize,
    ) -> Result<Self, Error> {
        let path = layout::segment_path(group, first);
        Self::open(disk, &path, group, (at, next), end, chunk_bytes)
    }

    /// The same of any file.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        group: GroupId,
        (at, next): (u64, Index),
        end: u64,
        chunk_bytes: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            file: apart::open(disk, path)?,
            path: disk.full_path(path),
            group,
            at,
            end,
            next,
            chunk: Bytes::new(),
            chunk_at: at,
            chunk_bytes,
            drops: None,
        })
    }

    /// All frames of a segment from its first.
    pub(crate) fn all(
        disk: &dyn Disk,
        group: GroupId,
        first: Index,
        end: u64,
    ) -> Result<Self, Error> {
        let from = (HEADER_BYTES as u64, first);
        Self::new(disk, group, first, from, end, SCAN_BYTES)
    }

    /// The next entry; its body is not verified yet. `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<FoundEntry>, Error> {
        if self.at >= self.end {
            self.drop_given();
            return Ok(None);
        }
        let header = self.peek(ENTRY_BYTES)?;
        let (header, checksum) = EntryHeader::decode(&header).map_err(|what| self.damaged(what))?;
        if header.group != self.group || header.id.index != self.next {
            let what = format!(
                "entry {} of group {} is there instead of entry {} of group {}",
                header.id.index, header.group, self.next, self.group
            );
            return Err(self.damaged(&what));
        }
        let frame_bytes = header.frame_bytes();
        if frame_bytes > self.end - self.at {
            return Err(self.damaged("the file ends inside an entry"));
        }
        let frame = self.peek(frame_bytes as usize)?;
        let found = FoundEntry {
            header,
            checksum,
            position: self.at,
            body: frame.slice(ENTRY_BYTES..),
        };
        self.at += frame_bytes;
        self.next = self.next.next();
        Ok(Some(found))
    }

    /// Checks a body against its header.
    pub(crate) fn verify(&self, found: &FoundEntry) -> Result<(), Error> {
        if crc32c::crc32c(&found.body) == found.header.body_checksum
            || plants(Planted::ReadsUnverified)
        {
            return Ok(());
        }
        let index = found.header.id.index;
        Err(Error::Damaged {
            path: self.path.clone(),
            at: found.position,
            what: format!("the checksum of entry {index} does not match its body"),
        })
    }

    /// What to say of an entry whose offset is not the one after the entry before it.
    pub(crate) fn misplaced(&self, found: &FoundEntry) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            at: found.position,
            what: "an entry's offset does not follow the one before it".to_owned(),
        }
    }

    /// The next `count` bytes, read together with what follows them.
    fn peek(&mut self, count: usize) -> Result<Bytes, Error> {
        let from = (self.at - self.chunk_at) as usize;
        if from + count <= self.chunk.len() {
            return Ok(self.chunk.slice(from..from + count));
        }
        self.drop_given();
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let mut bytes = vec![0; self.chunk_bytes.max(count).min(left)];
        let held = self.chunk.get(from..).unwrap_or_default();
        let (known, unknown) = bytes.split_at_mut(held.len());
        known.copy_from_slice(held);
        let read = held.len() + self.file.read_at(self.at + held.len() as u64, unknown)?;
        bytes.truncate(read);
        self.chunk = Bytes::from(bytes);
        self.chunk_at = self.at;
        if self.chunk.len() < count {
            return Err(self.damaged("the file ends inside an entry"));
        }
        Ok(self.chunk.slice(..count))
    }

    /// Stops before an entry that was the last to be read.
    fn stop_before(mut self, found: &FoundEntry, first: Index) -> Stopped {
        let EntryHeader { id, offset, .. } = found.header;
        (self.at, self.next) = (found.position, id.index);
        if self.chunk.len() > Stopped::BYTES_MAX {
            self.chunk = Bytes::new();
            self.chunk_at = self.at;
        }
        Stopped {
            group: self.group,
            first,
            index: id.index,
            offset,
            frames: self,
        }
    }

    /// Goes on, as far as `end` at least, with what others read too or with what nobody else does.
    pub(crate) fn read_on(&mut self, end: u64, is_shared: bool) {
        self.end = self.end.max(end);
        // Who comes back is likely to read all.
        self.chunk_bytes = SCAN_BYTES;
        self.drops = self.drops.filter(|_| !is_shared);
    }

    /// Bytes that were read and not given yet.
    #[cfg(test)]
    pub(crate) fn ahead(&self) -> usize {
        self.chunk.len()
    }

    /// From now on lets go of what is given.
    fn drop_from_here(&mut self) {
        self.drops = Some(self.at / FOLIO_BYTES_MAX * FOLIO_BYTES_MAX);
    }

    /// Lets the system use the pages again of what was given since this began. It lets go of whole folios only, and so
    /// left a part of what was dropped before.
    fn drop_given(&self) {
        if let Some(from) = self.drops {
            self.file.uncache(from..self.at);
        }
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            at: self.at,
            what: what.to_owned(),
        }
    }
}

/// What of segments was read lately, for whoever reads next.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    indexes: IndexCache,
    readers: Readers,
}

impl Recent {
    #[cfg(test)]
    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// The segments of a group are others from now on, or gone.
    pub(crate) fn forget(&self, group: GroupId) {
        self.indexes.forget(group);
        self.readers.forget(group);
    }
}

/// A segment to be read from, as the group's lock showed it.
#[derive(Debug)]
pub(crate) struct SegmentRead {
    pub(crate) group: GroupId,
    pub(crate) extent: Extent,
    /// The last mark before what is looked for, if the segment is not sealed.
    pub(crate) mark: Option<Mark>,
    pub(crate) sealed: bool,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Index(Index),
    Offset(Offset),
    Time(Micros),
}

impl Target {
    /// The last of these marks from which on the target is found by going forward.
    pub(crate) fn mark_in(self, marks: &[Mark]) -> Option<Mark> {
        let after = match self {
            Self::Index(index) => marks.partition_point(|mark| mark.id.index <= index),
            Self::Offset(offset) => marks.partition_point(|mark| mark.offset <= offset),
            // Entries of one time may begin before their mark.
            Self::Time(time) => marks.partition_point(|mark| mark.time < time),
        };
        after.checked_sub(1).map(|at| marks[at])
    }
}

impl SegmentRead {
    /// Frames from the target on, or from some entry before it, read in pieces of at least `bytes`.
    pub(crate) fn frames(
        &self,
        disk: &dyn Disk,
        recent: &Recent,
        target: Target,
        bytes: usize,
    ) -> Result<Frames, Error> {
        let first = self.extent.first;
        let mark = if self.sealed {
            let load = || self.load_marks(disk);
            target.mark_in(&recent.indexes.get(self.group, first, load)?)
        } else {
            self.mark
        };
        let from = mark.map_or((HEADER_BYTES as u64, first), |m| (m.position, m.id.index));
        let chunk_bytes = SEEK_BYTES.saturating_add(bytes);
        Frames::new(disk, self.group, first, from, self.extent.end, chunk_bytes)
    }

    /// The same from where another reader stopped, if one did there.
    fn reader(
        &self,
        disk: &dyn Disk,
        recent: &Recent,
        target: Target,
        bytes: usize,
    ) -> Result<(Since, Frames), Error> {
        let now = Instant::now();
        let (since, resumed) = recent.readers.resume(self.group, &self.extent, target, now);
        if let Some(frames) = resumed {
            return Ok((since, frames));
        }
        let mut frames = self.frames(disk, recent, target, bytes)?;
        let is_shared = recent.readers.begin(self.group, self.extent.first, now);
        if self.sealed && !is_shared {
            frames.drop_from_here();
        }
        Ok((since, frames))
    }

    /// Keeps a reader, for whoever goes on with the entry that it found last.
    fn keep(&self, recent: &Recent, since: Since, frames: Frames, found: &FoundEntry) {
        let stopped = frames.stop_before(found, self.extent.first);
        recent.readers.keep(since, stopped, Instant::now());
    }

    /// The index of a sealed segment, made again if it is not whole.
    fn load_marks(&self, disk: &dyn Disk) -> Result<Marks, Error> {
        let (group, first) = (self.group, self.extent.first);
        let marks = index::load(disk, group, first)?;
        if marks.len() == self.extent.marks as usize {
            return Ok(marks);
        }
        tracing::warn!(%group, %first, "the index of a segment is incomplete and is made again");
        let mut frames = Frames::all(disk, group, first, self.extent.end)?;
        let mut marks = Marks::new();
        let mut digest = 0;
        while let Some(found) = frames.next()? {
            marks.extend(mark_due(
                marks.last(),
                &found.header,
                found.position,
                digest,
            ));
            digest = add_to_digest(digest, found.checksum);
        }
        index::append(disk, group, first, 0, &marks)?.sync()?;
        Ok(marks)
    }

    /// Batches from `from` to `until`, as much as `bytes_max`, at least one unless the segment has no
    /// record there.
    pub(crate) fn batches(
        &self,
        disk: &dyn Disk,
        recent: &Recent,
        (from, until): (Offset, Offset),
        bytes_max: usize,
    ) -> Result<Vec<DeliveredBatch>, Error> {
        let target = Target::Offset(from);
        let (since, mut frames) = self.reader(disk, recent, target, bytes_max)?;
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(found) = frames.next()? {
            let header = found.header;
            let end = header.offset.0.saturating_add(u64::from(header.count));
            if header.offset >= until {
                self.keep(recent, since, frames, &found);
                break;
            }
            let before = match plants(Planted::BatchReadTwice) {
                true => end < from.0,
                false => end <= from.0,
            };
            if header.count == 0 || before {
                continue;
            }
            bytes += found.body.len();
            if bytes > bytes_max && !batches.is_empty() {
                self.keep(recent, since, frames, &found);
                break;
            }
            frames.verify(&found)?;
            batches.push(DeliveredBatch {
                offset: header.offset,
                time: header.time.0,
                batch: found.body,
            });
        }
        Ok(batches)
    }

    /// Entries from `first` to at most `last`, as much as `bytes_max`, at least one.
    pub(crate) fn entries(
        &self,
        disk: &dyn Disk,
        recent: &Recent,
        (first, last): (Index, Index),
        bytes_max: u64,
    ) -> Result<Vec<Entry>, Error> {
        let bytes_hint = usize::try_from(bytes_max.min(4 << 20)).unwrap_or(SCAN_BYTES);
        let target = Target::Index(first);
        let (since, mut frames) = self.reader(disk, recent, target, bytes_hint)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(found) = frames.next()? {
            let index = found.header.id.index;
            if index < first {
                continue;
            }
            bytes += found.body.len() as u64;
            if index > last || (bytes > bytes_max && !entries.is_empty()) {
                self.keep(recent, since, frames, &found);
                break;
            }
            frames.verify(&found)?;
            entries.push(found.header.entry(found.body));
        }
        Ok(entries)
    }

    /// Placed entries of this range, as many as one answer to a peer takes. What is damaged behind the
    /// first of them ends them.
    pub(crate) fn placed(
        &self,
        disk: &dyn Disk,
        recent: &Recent,
        range: (Index, Index),
    ) -> Result<Vec<PlacedEntry>, Error> {
        let target = Target::Index(range.0);
        let mut frames = self.frames(disk, recent, target, FOUND_BYTES_MAX)?;
        placed(&mut frames, range)
    }

    /// The offset of the first batch that is not older than `time`.
    pub(crate) fn offset_at(
        &self,
        disk: &dyn Disk,
        recent: &Recent,
        time: Micros,
    ) -> Result<Option<Offset>, Error> {
        let mut frames = self.frames(disk, recent, Target::Time(time), 0)?;
        while let Some(found) = frames.next()? {
            if found.header.time >= time && found.header.count > 0 {
                return Ok(Some(found.header.offset));
            }
        }
        Ok(None)
    }
}

/// Placed entries of this range from a sound stretch of the damaged segment that begins with `first`.
pub(crate) fn placed_in_piece(
    disk: &dyn Disk,
    group: GroupId,
    first: Index,
    piece: &Piece,
    range: (Index, Index),
) -> Result<Vec<PlacedEntry>, Error> {
    placed(
        &mut frames_in_piece(disk, group, first, piece, range.0)?,
        range,
    )
}

/// Frames of a sound stretch of the damaged segment that begins with `first`, from `target` on or from
/// some entry before it.
pub(crate) fn frames_in_piece(
    disk: &dyn Disk,
    group: GroupId,
    first: Index,
    piece: &Piece,
    target: Index,
) -> Result<Frames, Error> {
    let marks = index::load(disk, group, first)?;
    let mark = Target::Index(target).mark_in(&marks);
    let mark = mark.filter(|mark| {
        (piece.first..=piece.last).contains(&mark.id.index)
            && (piece.at..piece.end).contains(&mark.position)
    });
    let from = mark.map_or((piece.at, piece.first), |m| (m.position, m.id.index));
    Frames::new(disk, group, first, from, piece.end, SCAN_BYTES)
}

fn placed(frames: &mut Frames, (first, last): (Index, Index)) -> Result<Vec<PlacedEntry>, Error> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    loop {
        let found = match frames.next() {
            Ok(Some(found)) => found,
            Err(error) if entries.is_empty() => return Err(error),
            Ok(None) | Err(_) => return Ok(entries),
        };
        let index = found.header.id.index;
        if index < first {
            continue;
        }
        bytes += found.body.len();
        let full =
            (bytes > FOUND_BYTES_MAX && !entries.is_empty()) || entries.len() == FOUND_ENTRIES_MAX;
        if index > last || full {
            return Ok(entries);
        }
        match frames.verify(&found) {
            Err(error) if entries.is_empty() => return Err(error),
            Err(_) => return Ok(entries),
            Ok(()) => entries.push(PlacedEntry {
                offset: found.header.offset,
                count: found.header.count,
                entry: found.header.entry(found.body),
            }),
        }
    }
}

/// The footer of a segment, if it has a sound one that can be read.
pub(crate) fn footer(file: &dyn File, size: u64) -> Result<Option<Footer>, Error> {
    let footer = last_footer(file, size)?.filter(|(footer, at)| footer.end == *at);
    Ok(footer.map(|(footer, _)| footer))
}

/// The sound footer that a file ends with, if it does, and the byte where it begins.
pub(crate) fn last_footer(file: &dyn File, size: u64) -> Result<Option<(Footer, u64)>, Error> {
    match sound_footer(file, size) {
        Err(error) if error.is_damage() => Ok(None),
        footer => footer,
    }
}

fn sound_footer(file: &dyn File, size: u64) -> Result<Option<(Footer, u64)>, Error> {
    let mut trailer = [0; TRAILER_BYTES];
    let Some(at) = size.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    if file.read_at(at, &mut trailer)? < TRAILER_BYTES {
        return Ok(None);
    }
    let len = Footer::bytes_before(&trailer).map(u64::from);
    let Some(from) = len.and_then(|len| at.checked_sub(len)) else {
        return Ok(None);
    };
    let mut bytes = vec![0; (size - from) as usize];
    let read = file.read_at(from, &mut bytes)?;
    let footer = Footer::decode(&bytes[..read]);
    Ok(footer.map(|footer| (footer, from)))
}
