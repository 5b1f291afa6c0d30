//! The sparse index beside a segment: a mark every so many bytes, wherever a term begins, and at every
//! configuration. It can always be made again from the segment.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::{Arc, Mutex, PoisonError},
};

use kontiki_raft::{Index, Kind, LogId, Micros, Term};
use kontiki_wire::{GroupId, Offset};

use crate::{
    Error,
    disk::{Disk, File, Open, read_whole},
    entry_kind::entry_kind,
    fields::{Fields, PutFields},
    layout::{
        self,
        segment::{HEADER_BYTES, INDEX_HEADER_BYTES, INDEX_MAGIC, MARK_BYTES, VERSION},
    },
    segment::{frame::EntryHeader, outline::Outline},
};

/// Bytes of frames after which a mark is due.
const MARK_EVERY: u64 = 64 << 10;
/// Indexes of sealed segments that are kept in memory, over all groups.
const LOADED_MAX: usize = 64;

/// One entry's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) id: LogId,
    pub(crate) offset: Offset,
    pub(crate) time: Micros,
    /// The byte of the segment where the entry's frame begins.
    pub(crate) position: u64,
    /// CRC-32C of the header checksums of all frames before.
    pub(crate) digest: u32,
    pub(crate) kind: Kind,
}

impl Mark {
    fn encode(&self, bytes: &mut Vec<u8>) {
        let from = bytes.len();
        bytes.put_u64(self.id.index.0);
        bytes.put_u64(self.id.term.0);
        bytes.put_u64(self.offset.0);
        bytes.put_u64(self.time.0);
        bytes.put_u64(self.position);
        bytes.put_u32(self.digest);
        bytes.put_u8(self.kind as u8);
        bytes.put_zeros(7);
        let checksum = crc32c::crc32c(&bytes[from..]);
        bytes.put_u32(checksum);
    }

    /// Reads a sound mark.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut fields = Fields::new(covered);
        let index = Index(fields.u64()?);
        let term = Term(fields.u64()?);
        Some(Self {
            id: LogId { term, index },
            offset: Offset(fields.u64()?),
            time: Micros(fields.u64()?),
            position: fields.u64()?,
            digest: fields.u32()?,
            kind: entry_kind(fields.u8()?)?,
        })
    }
}

/// The marks of one segment, in order.
pub(crate) type Marks = Vec<Mark>;

/// The mark that an entry at `position` gets, if it gets one and has none yet.
pub(crate) fn mark_due(
    last: Option<&Mark>,
    entry: &EntryHeader,
    position: u64,
    digest: u32,
) -> Option<Mark> {
    let due = last.is_none_or(|last| {
        let is_new = position > last.position;
        let matters = position - last.position >= MARK_EVERY
            || last.id.term != entry.id.term
            || entry.kind == Kind::Config;
        is_new && matters
    });
    due.then_some(Mark {
        id: entry.id,
        offset: entry.offset,
        time: entry.time,
        position,
        digest,
        kind: entry.kind,
    })
}

/// What the marks tell: every entry that matters for it has one.
pub(crate) fn outline(marks: &[Mark]) -> Outline {
    let mut outline = Outline::default();
    for mark in marks {
        outline.push(mark.id, mark.kind, mark.position);
    }
    outline
}

/// What the index of a segment begins with.
pub(crate) fn header(group: GroupId, first: Index) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(INDEX_HEADER_BYTES);
    bytes.put_u32(INDEX_MAGIC);
    bytes.put_u16(VERSION);
    bytes.put_u16(0);
    bytes.put_u64(group.0);
    bytes.put_u64(first.0);
    bytes.put_u32(0);
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u32(checksum);
    bytes
}

/// The sound marks that the file begins with; none if the file is missing or foreign.
pub(crate) fn load(disk: &dyn Disk, group: GroupId, first: Index) -> Result<Marks, Error> {
    let bytes = read_whole(disk, &layout::index_path(group, first))?.unwrap_or_default();
    let mut marks = Marks::new();
    if let Some(rest) = bytes.strip_prefix(&header(group, first)[..]) {
        for bytes in rest.chunks_exact(MARK_BYTES) {
            let Some(mark) = Mark::decode(bytes) else {
                break;
            };
            let follows = match marks.last() {
                None => mark.position == HEADER_BYTES as u64 && mark.id.index == first,
                Some(last) => last.position < mark.position && last.id.index < mark.id.index,
            };
            if !follows {
                break;
            }
            marks.push(mark);
        }
    }
    Ok(marks)
}

/// Writes `marks` behind the `before` that the file has already, and the header if those are none.
pub(crate) fn append(
    disk: &dyn Disk,
    group: GroupId,
    first: Index,
    before: usize,
    marks: &[Mark],
) -> Result<Box<dyn File>, Error> {
    let file = disk.open(&layout::index_path(group, first), Open::Create)?;
    let mut at = 0;
    let mut bytes = Vec::with_capacity(INDEX_HEADER_BYTES + marks.len() * MARK_BYTES);
    if before == 0 {
        bytes.extend(header(group, first));
    } else {
        at = (INDEX_HEADER_BYTES + before * MARK_BYTES) as u64;
    }
    for mark in marks {
        mark.encode(&mut bytes);
    }
    if !bytes.is_empty() {
        file.write_at(at, &[IoSlice::new(&bytes)])?;
    }
    let size = (INDEX_HEADER_BYTES + (before + marks.len()) * MARK_BYTES) as u64;
    if file.size()? > size {
        file.set_size(size)?;
    }
    Ok(file)
}

/// A segment: its group and its first entry.
type Key = (GroupId, Index);

/// Indexes of sealed segments that were read lately, the latest last.
#[derive(Debug, Default)]
pub(crate) struct IndexCache {
    loaded: Mutex<VecDeque<(Key, Arc<Marks>)>>,
}

impl IndexCache {
    /// The marks of a segment, made by `load` if they are not here.
    pub(crate) fn get(
        &self,
        group: GroupId,
        first: Index,
        load: impl FnOnce() -> Result<Marks, Error>,
    ) -> Result<Arc<Marks>, Error> {
        let key = (group, first);
        if let Some(marks) = self.take(key) {
            self.put(key, &marks);
            return Ok(marks);
        }
        let marks = Arc::new(load()?);
        self.put(key, &marks);
        Ok(marks)
    }

    /// Forgets the marks of a group's segments.
    pub(crate) fn forget(&self, group: GroupId) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|((known, _), _)| *known != group);
    }

    fn take(&self, key: Key) -> Option<Arc<Marks>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let at = loaded.iter().position(|(known, _)| *known == key)?;
        loaded.remove(at).map(|(_, marks)| marks)
    }

    fn put(&self, key: Key, marks: &Arc<Marks>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.len() == LOADED_MAX {
            loaded.pop_front();
        }
        loaded.push_back((key, Arc::clone(marks)));
    }
}
