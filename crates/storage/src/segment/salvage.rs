//! What is still sound in a segment that is damaged.
//!
//! Behind a damaged frame the next sound one is looked for byte by byte, so what a record holds could
//! pass for a frame. That costs nothing: whatever is found here counts only if it stands, once all that
//! is missing is there again, on the very byte where it was found.

use std::path::Path;

use kontiki_raft::{Index, Term};
use kontiki_wire::{GroupId, limits::ENTRY_BYTES_MAX};

use crate::{
    Error,
    disk::{Disk, File},
    layout::segment::{ENTRY_BYTES, ENTRY_MAGIC, HEADER_BYTES},
    segment::{apart, frame::EntryHeader, index::Mark},
};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// After a read that fails, the next one is tried so many bytes further on.
const SKIP_BYTES: u64 = 4 << 10;
/// Stretches of one segment that are told apart; what is behind them counts as missing.
const PIECES_MAX: usize = 64 << 10;

/// Contiguous sound frames in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) first: Index,
    pub(crate) last: Index,
    /// Where the first begins.
    pub(crate) at: u64,
    /// The byte after the last.
    pub(crate) end: u64,
}

/// The sound frames of entries `first` to `last` of a group in a segment's file, in order; none if there
/// is no such file.
pub(crate) fn salvage(
    disk: &dyn Disk,
    path: &Path,
    group: GroupId,
    (first, last): (Index, Index),
) -> Result<Vec<Piece>, Error> {
    let file = match apart::open(disk, path) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut search = Search::of(file, group, (first, last))?;
    search.run();
    Ok(search.pieces)
}

/// The last sound entry of a group in a segment's file of which nothing else tells how far it goes, looked
/// for from where entry `next` is to begin; `None` if there is none. Only what stands where an entry before it ends, or where a mark leads, is taken for
/// one: what a record holds may look like any entry.
pub(crate) fn certain_last(
    disk: &dyn Disk,
    path: &Path,
    group: GroupId,
    (mut at, mut next): (u64, Index),
    marks: &[Mark],
) -> Result<Option<Index>, Error> {
    let range = (next, Index(u64::MAX));
    let mut search = Search::of(apart::open(disk, path)?, group, range)?;
    let mut marks = marks.iter();
    let mut last = None;
    loop {
        let fits = at.saturating_add(ENTRY_BYTES as u64) <= search.size;
        let header = fits.then(|| search.header(at)).flatten();
        if let Some(header) = header.filter(|header| header.id.index == next) {
            if search.has_its_body(at, &header) {
                last = Some(next);
            }
            at += header.frame_bytes();
            next = next.next();
            continue;
        }
        // Between the two, each entry that cannot be read takes a header's bytes at least.
        let leads = |mark: &&Mark| {
            mark.id.index > next
                && mark.position > at
                && (mark.id.index.0 - next.0) <= (mark.position - at) / ENTRY_BYTES as u64
        };
        let Some(mark) = marks.find(leads) else {
            return Ok(last);
        };
        (at, next) = (mark.position, mark.id.index);
        search.next = next;
    }
}

struct Search {
    file: Box<dyn File>,
    size: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
    group: GroupId,
    last: Index,
    /// The lowest index that may come.
    next: Index,
    /// The term of the last sound entry.
    term: Term,
    /// The offset after its records.
    offset: u64,
    pieces: Vec<Piece>,
}

impl Search {
    fn of(
        file: Box<dyn File>,
        group: GroupId,
        (first, last): (Index, Index),
    ) -> Result<Self, Error> {
        Ok(Self {
            size: file.size()?,
            file,
            chunk: Vec::new(),
            chunk_at: 0,
            group,
            last,
            next: first,
            term: Term(0),
            offset: 0,
            pieces: Vec::new(),
        })
    }

    fn run(&mut self) {
        let mut at = HEADER_BYTES as u64;
        while at + ENTRY_BYTES as u64 <= self.size && self.pieces.len() < PIECES_MAX {
            at = match self.header(at) {
                Some(header) => {
                    if self.has_its_body(at, &header) {
                        self.push(at, &header);
                    }
                    at + header.frame_bytes()
                }
                None => self.next_magic(at + 1),
            };
        }
    }

    /// The header at `at`, if it can be one of those looked for.
    fn header(&mut self, at: u64) -> Option<EntryHeader> {
        let (header, _) = EntryHeader::decode(self.bytes(at, ENTRY_BYTES)?).ok()?;
        let index = header.id.index;
        let known = self.pieces.last();
        let follows = known.is_some_and(|piece| piece.last.next() == index);
        let fits = header.group == self.group
            && (self.next..=self.last).contains(&index)
            && header.id.term >= self.term
            && header.offset.0 >= self.offset
            && (!follows || header.offset.0 == self.offset)
            && header.body_bytes as usize <= ENTRY_BYTES_MAX
            && header.frame_bytes() <= self.size - at;
        fits.then_some(header)
    }

    fn has_its_body(&mut self, at: u64, header: &EntryHeader) -> bool {
        let bytes = self.bytes(at + ENTRY_BYTES as u64, header.body_bytes as usize);
        bytes.is_some_and(|body| crc32c::crc32c(body) == header.body_checksum)
    }

    fn push(&mut self, at: u64, header: &EntryHeader) {
        let index = header.id.index;
        let end = at + header.frame_bytes();
        self.next = index.next();
        self.term = header.id.term;
        self.offset = header.offset.0.saturating_add(u64::from(header.count));
        match self.pieces.last_mut() {
            Some(piece) if piece.end == at && piece.last.next() == index => {
                piece.last = index;
                piece.end = end;
            }
            _ => self.pieces.push(Piece {
                first: index,
                last: index,
                at,
                end,
            }),
        }
    }

    /// Where a frame's magic next stands, or the end.
    fn next_magic(&mut self, mut at: u64) -> u64 {
        let magic = ENTRY_MAGIC.to_le_bytes();
        while at + (magic.len() as u64) <= self.size {
            let Some(bytes) = self.bytes_from(at, magic.len(), SKIP_BYTES as usize) else {
                at = (at / SKIP_BYTES + 1) * SKIP_BYTES;
                continue;
            };
            if let Some(found) = bytes.windows(magic.len()).position(|four| four == magic) {
                return at + found as u64;
            }
            at += (bytes.len() - (magic.len() - 1)) as u64;
        }
        self.size
    }

    /// The `count` bytes from `at`, which are within the file; `None` if they cannot be read.
    fn bytes(&mut self, at: u64, count: usize) -> Option<&[u8]> {
        self.bytes_from(at, count, count)?.get(..count)
    }

    /// As many bytes from `at` as were read before, if those are `least`, which are within the file; or
    /// else what one read gives, or `wanted` of it if not all can be read. `None` if they cannot be read.
    /// A record can hold a magic in every four of its bytes: none of them may cost a read.
    fn bytes_from(&mut self, at: u64, least: usize, wanted: usize) -> Option<&[u8]> {
        let known = at
            .checked_sub(self.chunk_at)
            .and_then(|from| usize::try_from(from).ok())
            .filter(|from| from + least <= self.chunk.len());
        if let Some(from) = known {
            return self.chunk.get(from..);
        }
        let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        self.chunk.resize(READ_BYTES.max(wanted).min(left), 0);
        self.chunk_at = at;
        let mut read = self.file.read_at(at, &mut self.chunk);
        if read.is_err() && self.chunk.len() > wanted {
            // Something behind them may be what cannot be read.
            self.chunk.truncate(wanted);
            read = self.file.read_at(at, &mut self.chunk);
        }
        self.chunk.truncate(read.unwrap_or(0));
        (self.chunk.len() >= least).then_some(&self.chunk[..])
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::IoSlice,
        ops::Range,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use kontiki_raft::{Entry, Kind, LogId, Micros};
    use kontiki_wire::{Offset, PlacedEntry};

    use super::*;

    /// A file of which some bytes cannot be read, and that counts what is read of it.
    #[derive(Debug)]
    struct Worn {
        bytes: Vec<u8>,
        bad: Range<u64>,
        read: Arc<AtomicUsize>,
    }

    impl File for Worn {
        fn size(&self) -> Result<u64, Error> {
            Ok(self.bytes.len() as u64)
        }

        fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
            if at < self.bad.end && at + buf.len() as u64 > self.bad.start {
                return Err(Error::Unfit("a bad sector".to_owned()));
            }
            let from = &self.bytes[at as usize..];
            let count = from.len().min(buf.len());
            buf[..count].copy_from_slice(&from[..count]);
            self.read.fetch_add(count, Ordering::Relaxed);
            Ok(count)
        }

        fn write_at(&self, _: u64, _: &[IoSlice<'_>]) -> Result<(), Error> {
            unreachable!("a search writes nothing")
        }

        fn sync(&self) -> Result<(), Error> {
            unreachable!("a search writes nothing")
        }

        fn set_size(&self, _: u64) -> Result<(), Error> {
            unreachable!("a search writes nothing")
        }

        fn allocate(&self, _: u64) -> Result<(), Error> {
            unreachable!("a search writes nothing")
        }
    }

    /// What is found in these bytes, and how many were read.
    fn found(bytes: Vec<u8>, bad: Range<u64>) -> (Vec<Piece>, usize) {
        let read = Arc::new(AtomicUsize::new(0));
        let mut search = Search {
            size: bytes.len() as u64,
            file: Box::new(Worn {
                bytes,
                bad,
                read: Arc::clone(&read),
            }),
            chunk: Vec::new(),
            chunk_at: 0,
            group: GROUP,
            last: Index(1 << 20),
            next: Index(1),
            term: Term(0),
            offset: 0,
            pieces: Vec::new(),
        };
        search.run();
        (search.pieces, read.load(Ordering::Relaxed))
    }

    const GROUP: GroupId = GroupId(1);

    fn frame(index: u64) -> Vec<u8> {
        let body = vec![7; 1_000];
        let entry = Entry {
            id: LogId {
                term: Term(1),
                index: Index(index),
            },
            kind: Kind::Batch,
            time: Micros(index),
            checksum: crc32c::crc32c(&body),
            body: body.into(),
        };
        let placed = PlacedEntry {
            offset: Offset(index),
            count: 1,
            entry,
        };
        let header = EntryHeader::of(GROUP, &placed).encode().0;
        [&header[..], &placed.entry.body].concat()
    }

    #[test]
    fn records_full_of_what_frames_begin_with_are_read_about_once() {
        let size = READ_BYTES + (64 << 10);
        let (pieces, read) = found(ENTRY_MAGIC.to_le_bytes().repeat(size / 4), 0..0);
        assert_eq!(pieces, []);
        assert!(read < 3 * size, "{read} bytes of a file of {size}");
    }

    #[test]
    fn sector_that_cannot_be_read_hides_only_what_is_about_it() {
        let mut bytes = vec![0; HEADER_BYTES];
        (1..=600).for_each(|index| bytes.extend(frame(index)));
        let frame_bytes = ((bytes.len() - HEADER_BYTES) / 600) as u64;
        // The second frame, so that the third has to be looked for.
        bytes[HEADER_BYTES + frame_bytes as usize] ^= 4;
        let bad = 400 << 10;
        let (pieces, _) = found(bytes, bad..bad + 512);
        let hidden = 1 + (bad - HEADER_BYTES as u64) / frame_bytes;
        let about = |index: Index, at: u64| index.0.abs_diff(at) <= 2 + SKIP_BYTES / frame_bytes;
        let ranges: Vec<_> = pieces.iter().map(|one| (one.first, one.last)).collect();
        let [first, (third, before), (after, last)] = ranges[..] else {
            panic!("{ranges:?}");
        };
        assert_eq!((first, third), ((Index(1), Index(1)), Index(3)));
        assert!(about(before, hidden) && about(after, hidden), "{ranges:?}");
        assert_eq!(last, Index(600));
    }
}
