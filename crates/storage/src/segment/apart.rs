//! Segments whose bodies stay where the journal wrote them: what would be most of the bytes is not written a
//! second time. A file of the journal that is nearly all one group's gets another name beside the segment, and the
//! segment has the rest: what precedes each body, and where that is.
//!
//! Whoever reads sees the segment as if it were in one piece, byte by byte: positions, marks, footer and digest
//! are the same, and so is what is wrong with it. It is written once, sealed, and never changed; when it is
//! damaged it is written anew in one piece.

use std::{
    io::IoSlice,
    ops::Range,
    path::Path,
    sync::{Mutex, PoisonError},
};

use kontiki_raft::{Index, LogId};
use kontiki_wire::{GroupId, Offset, PlacedEntry, limits::ENTRY_BYTES_MAX};

use crate::{
    Error,
    disk::{Disk, File, Open},
    fields::{Fields, PutFields},
    layout::{
        self,
        segment::{
            APART_HEADER_BYTES, APART_MAGIC, ENTRY_BYTES, HEADER_BYTES, MAGIC, RECORD_BYTES,
            VERSION,
        },
    },
    segment::{
        extent::Extent,
        frame::{EntryHeader, SegmentHeader},
        index::{self, Marks, mark_due, outline},
        read::last_footer,
        write::sync_names,
    },
};

/// Where the first record is.
const RECORDS_AT: u64 = (APART_HEADER_BYTES + HEADER_BYTES) as u64;
/// Bytes of a frame, at most.
const FRAME_BYTES_MAX: u64 = (ENTRY_BYTES + ENTRY_BYTES_MAX) as u64;
/// Records of one read.
const WINDOW_RECORDS: u64 = 64;

/// A run of entries whose bodies are in a file of the journal, each with the byte where it begins.
#[derive(Debug)]
pub(crate) struct Apart<'a> {
    pub(crate) group: GroupId,
    /// The entry before the first.
    pub(crate) before: LogId,
    pub(crate) base_offset: Offset,
    pub(crate) entries: &'a [(PlacedEntry, u64)],
    /// The file that has the bodies, durably and for good.
    pub(crate) bodies: &'a Path,
}

/// Writes a segment of them, durably; `None`, and nothing is done, if a file of this disk has but one name. The
/// group's directory must be there.
pub(crate) fn set_apart(disk: &dyn Disk, apart: &Apart<'_>) -> Result<Option<Extent>, Error> {
    let Apart { group, before, .. } = *apart;
    let first = before.index.next();
    let bodies = layout::bodies_path(group, first);
    // What a crash left there belongs to no segment.
    remove_bodies(disk, group, first)?;
    if !disk.link(apart.bodies, &bodies)? {
        return Ok(None);
    }
    let (bytes, extent, marks) = encode(apart);
    let aside = layout::mending_path(group, first);
    let file = disk.open(&aside, Open::Create)?;
    file.set_size(0)?;
    file.write_at(0, &[IoSlice::new(&bytes)])?;
    file.sync()?;
    index::append(disk, group, first, 0, &marks)?.sync()?;
    // The bodies' name is durable before the segment's.
    disk.sync_dir(&layout::group_dir(group))?;
    disk.rename(&aside, &layout::segment_path(group, first))?;
    sync_names(disk, group)?;
    Ok(Some(extent))
}

fn encode(apart: &Apart<'_>) -> (Vec<u8>, Extent, Marks) {
    let Apart { group, before, .. } = *apart;
    let first = before.index.next();
    let header = SegmentHeader {
        group,
        first,
        term_before: before.term,
        base_offset: apart.base_offset,
    };
    let mut bytes = table_header(group, first);
    bytes.extend(header.encode());
    let mut extent = Extent::empty(first, before.term, apart.base_offset);
    let mut marks = Marks::new();
    for (placed, body_at) in apart.entries {
        let id = placed.entry.id;
        assert_eq!(id.index, extent.last.index.next(), "a run is contiguous");
        assert_eq!(placed.offset, extent.end_offset, "offsets are dense");
        let header = EntryHeader::of(group, placed);
        let due = mark_due(marks.last(), &header, extent.end, extent.digest);
        marks.extend(due);
        let (entry, checksum) = header.encode();
        Record::encode(extent.end, *body_at, &entry, &mut bytes);
        extent.push(&header, checksum);
    }
    extent.marks = u32::try_from(marks.len()).expect("marks are at least 64 bytes apart");
    bytes.extend(extent.footer(group, outline(&marks)).encode());
    (bytes, extent, marks)
}

/// Where the header of a table has its version.
const VERSION_AT: usize = 4;

/// Whether these are the bytes of a table's header.
fn is_sound(bytes: &[u8]) -> bool {
    let covered = bytes.split_last_chunk::<4>();
    covered.is_some_and(|(covered, checksum)| {
        covered.starts_with(&APART_MAGIC.to_le_bytes())
            && crc32c::crc32c(covered) == u32::from_le_bytes(*checksum)
    })
}

fn table_header(group: GroupId, first: Index) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(APART_HEADER_BYTES);
    bytes.put_u32(APART_MAGIC);
    bytes.put_u16(VERSION);
    bytes.put_u16(0);
    bytes.put_u64(group.0);
    bytes.put_u64(first.0);
    bytes.put_zeros(APART_HEADER_BYTES - 4 - bytes.len());
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u32(checksum);
    bytes
}

/// Opens a file for reading, and a segment whose bodies lie apart as if it were in one piece.
pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Box<dyn File>, Error> {
    match open_either(disk, path)? {
        Opened::Whole(file) => Ok(file),
        Opened::Joined(joined) => Ok(joined),
    }
}

/// A file as it was opened for reading.
pub(crate) enum Opened {
    /// As it is.
    Whole(Box<dyn File>),
    /// A segment whose bodies lie apart, as if it were in one piece.
    Joined(Box<dyn File>),
}

pub(crate) fn open_either(disk: &dyn Disk, path: &Path) -> Result<Opened, Error> {
    match open_once(disk, path)? {
        Some(opened) => Ok(opened),
        // It may have been written in one piece, or removed, between the two.
        None => Ok(match open_once(disk, path)? {
            Some(opened) => opened,
            None => joined(disk, path, disk.open(path, Open::Read)?, None)?,
        }),
    }
}

fn joined(
    disk: &dyn Disk,
    path: &Path,
    table: Box<dyn File>,
    bodies: Option<Box<dyn File>>,
) -> Result<Opened, Error> {
    let mut header = [0; APART_HEADER_BYTES];
    let is_sound = match table.read_at(0, &mut header) {
        Ok(read) => is_sound(&header[..read]),
        Err(error) if error.is_damage() => false,
        Err(error) => return Err(error),
    };
    if is_sound && header[VERSION_AT..VERSION_AT + 2] != VERSION.to_le_bytes() {
        let path = disk.full_path(path);
        let why = "its format's version is not known to this program";
        return Err(Error::Foreign(format!("{}: {why}", path.display())));
    }
    let joined = Joined::new(table, bodies, is_sound)?;
    Ok(Opened::Joined(Box::new(joined)))
}

/// `None` if it is a table without the bodies.
fn open_once(disk: &dyn Disk, path: &Path) -> Result<Option<Opened>, Error> {
    let file = disk.open(path, Open::Read)?;
    let Some(bodies) = layout::bodies_of(path) else {
        return Ok(Some(Opened::Whole(file)));
    };
    let mut magic = [0; 4];
    match file.read_at(0, &mut magic) {
        Ok(_) if magic == MAGIC.to_le_bytes() => return Ok(Some(Opened::Whole(file))),
        // Whoever reads on finds what is damaged.
        Ok(_) => {}
        Err(error) if error.is_damage() => {}
        Err(error) => return Err(error),
    }
    match disk.open(&bodies, Open::Read) {
        Ok(bodies) => Ok(Some(joined(disk, path, file, Some(bodies))?)),
        Err(error) if !error.is_missing() => Err(error),
        Err(_) if magic == APART_MAGIC.to_le_bytes() => Ok(None),
        Err(_) => Ok(Some(Opened::Whole(file))),
    }
}

/// Removes the bodies of a segment that has its own by now.
pub(crate) fn remove_bodies(disk: &dyn Disk, group: GroupId, first: Index) -> Result<(), Error> {
    match disk.remove(&layout::bodies_path(group, first)) {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

/// One frame.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The byte of the segment where it begins.
    at: u64,
    /// The byte of the bodies' file where its body begins.
    body_at: u64,
    body_bytes: u32,
    /// What precedes the body, as it was written.
    header: [u8; ENTRY_BYTES],
}

impl Record {
    fn encode(at: u64, body_at: u64, header: &[u8], bytes: &mut Vec<u8>) {
        let from = bytes.len();
        bytes.put_u64(at);
        bytes.put_u64(body_at);
        bytes.extend_from_slice(header);
        let checksum = crc32c::crc32c(&bytes[from..]);
        bytes.put_u32(checksum);
        bytes.put_u32(0);
    }

    /// Reads a sound one.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let (at, body_at) = (fields.u64()?, fields.u64()?);
        let header: [u8; ENTRY_BYTES] = fields.take(ENTRY_BYTES)?.try_into().ok()?;
        let covered = bytes.len() - fields.rest().len();
        let checksum = fields.u32()?;
        fields.zeros(4)?;
        (crc32c::crc32c(&bytes[..covered]) == checksum).then_some(())?;
        let (entry, _) = EntryHeader::decode(&header).ok()?;
        // No sound one is elsewhere or longer, and sums with these cannot overflow.
        let fits = at < 1 << 62 && body_at < 1 << 62 && entry.frame_bytes() <= FRAME_BYTES_MAX;
        fits.then_some(Self {
            at,
            body_at,
            body_bytes: entry.body_bytes,
            header,
        })
    }

    fn end(&self) -> u64 {
        self.at + ENTRY_BYTES as u64 + u64::from(self.body_bytes)
    }
}

/// A segment whose bodies lie apart, as if it were in one piece. Where a record is damaged or a body is missing it
/// reads as zeros, which are no part of any segment.
#[derive(Debug)]
struct Joined {
    table: Box<dyn File>,
    bodies: Option<Box<dyn File>>,
    /// Whether the table's own header is. If not, the segment's is not shown: so it is known to be damaged.
    is_sound: bool,
    records: u64,
    /// The byte after the last frame.
    end: u64,
    /// Where the footer is in the table, and how long it is.
    footer_at: u64,
    footer_bytes: u64,
    window: Mutex<Window>,
}

/// Records that were read last.
#[derive(Debug, Default)]
struct Window {
    from: u64,
    records: Vec<Option<Record>>,
    /// The one that was wanted last: the next is often a neighbour.
    last: u64,
}

impl Joined {
    fn new(
        table: Box<dyn File>,
        bodies: Option<Box<dyn File>>,
        is_sound: bool,
    ) -> Result<Self, Error> {
        let size = table.size()?;
        // Of a table with so many records no segment is longer: whoever looks through it comes to an end.
        let count = |footer_at: u64| footer_at.saturating_sub(RECORDS_AT) / RECORD_BYTES as u64;
        let most = |at| HEADER_BYTES as u64 + count(at).saturating_mul(FRAME_BYTES_MAX);
        let footer = last_footer(&*table, size)?;
        let footer = footer.filter(|(footer, at)| footer.end <= most(*at));
        let (end, footer_at) = footer.map_or((0, size), |(footer, at)| (footer.end, at));
        let records = count(footer_at);
        let mut joined = Self {
            table,
            bodies,
            is_sound,
            records,
            end,
            footer_at,
            footer_bytes: size - footer_at,
            window: Mutex::default(),
        };
        if joined.footer_bytes == 0 {
            joined.end = joined.end_of_records()?.min(most(size));
        }
        Ok(joined)
    }

    /// The end of the last sound record: what there is if nothing seals it.
    fn end_of_records(&self) -> Result<u64, Error> {
        let mut window = Window::default();
        for number in (0..self.records).rev() {
            if let Some(record) = self.record(&mut window, number)? {
                return Ok(record.end());
            }
        }
        Ok(HEADER_BYTES as u64)
    }

    fn record(&self, window: &mut Window, number: u64) -> Result<Option<Record>, Error> {
        let known = window.from..window.from + window.records.len() as u64;
        if !known.contains(&number) {
            self.fill(window, number)?;
        }
        let slot = usize::try_from(number - window.from).unwrap_or(usize::MAX);
        Ok(window.records.get(slot).copied().flatten())
    }

    /// Moves the window so that it has this record, and more behind it than before.
    fn fill(&self, window: &mut Window, number: u64) -> Result<(), Error> {
        let from = number.saturating_sub(WINDOW_RECORDS / 4);
        let count = (self.records - from).min(WINDOW_RECORDS);
        let mut bytes = vec![0; count as usize * RECORD_BYTES];
        let at = RECORDS_AT + from * RECORD_BYTES as u64;
        match self.table.read_at(at, &mut bytes) {
            Ok(read) => bytes[read..].fill(0),
            // What cannot be read is not sound.
            Err(error) if error.is_damage() => bytes.fill(0),
            Err(error) => return Err(error),
        }
        window.from = from;
        window.records = bytes
            .chunks_exact(RECORD_BYTES)
            .map(Record::decode)
            .collect();
        Ok(())
    }

    /// The last sound record that begins at or before this byte, and a byte before which no other does.
    fn find(&self, window: &mut Window, at: u64) -> Result<(Option<Record>, u64), Error> {
        for number in window.last.saturating_sub(1)..(window.last + 2).min(self.records) {
            if let Some(record) = self.record(window, number)?
                && (record.at..record.end()).contains(&at)
            {
                window.last = number;
                return Ok((Some(record), record.end()));
            }
        }
        let (mut low, mut high) = (0, self.records);
        // Most frames are about as long as the others.
        let guess = u128::from(at) * u128::from(self.records) / u128::from(self.end.max(1));
        let mut guess = u64::try_from(guess).ok();
        let mut found = None;
        let mut next_at = self.end;
        // What lies before `low` begins at or before it, and what is sound from `high` on after it.
        while low < high {
            let middle = guess.take().unwrap_or(low + (high - low) / 2);
            let middle = middle.clamp(low, high - 1);
            let mut number = middle;
            let record = loop {
                match self.record(window, number)? {
                    Some(record) => break Some(record),
                    None if number + 1 < high => number += 1,
                    None => break None,
                }
            };
            match record {
                Some(record) if record.at <= at => {
                    found = Some(record);
                    window.last = number;
                    low = number + 1;
                }
                Some(record) => {
                    next_at = record.at;
                    high = middle;
                }
                None => high = middle,
            }
        }
        Ok((found, next_at.min(self.end)))
    }

    /// Fills as much of `buf` as comes from one place, from the byte `at` on, which is before the end.
    fn read_part(
        &self,
        window: &mut Window,
        at: u64,
        buf: &mut [u8],
    ) -> Result<(usize, Option<Record>), Error> {
        if at < HEADER_BYTES as u64 {
            let count = buf.len().min(HEADER_BYTES - at as usize);
            let from = APART_HEADER_BYTES as u64 + at;
            if !self.is_sound {
                buf[..count].fill(0);
                return Ok((count, None));
            }
            return Ok((fill(&*self.table, from, &mut buf[..count])?, None));
        }
        if at >= self.end {
            let from = self.footer_at + (at - self.end);
            let left = (self.footer_bytes - (at - self.end)) as usize;
            let count = buf.len().min(left);
            return Ok((fill(&*self.table, from, &mut buf[..count])?, None));
        }
        let (record, next_at) = self.find(window, at)?;
        let record = record.filter(|record| at < record.end().min(next_at));
        let Some(record) = record else {
            let count = buf.len().min((next_at - at) as usize);
            buf[..count].fill(0);
            return Ok((count, None));
        };
        let count = self.read_frame(&record, at, buf)?;
        Ok((count, Some(record)))
    }

    /// The same within one frame.
    fn read_frame(&self, record: &Record, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let within = (at - record.at) as usize;
        if within < ENTRY_BYTES {
            let left = ENTRY_BYTES - within;
            let count = buf.len().min(left.min((self.end - at) as usize));
            buf[..count].copy_from_slice(&record.header[within..within + count]);
            return Ok(count);
        }
        let end = record.end().min(self.end);
        let count = buf.len().min((end - at) as usize);
        let from = record.body_at + (within - ENTRY_BYTES) as u64;
        match &self.bodies {
            Some(bodies) => fill(&**bodies, from, &mut buf[..count]),
            None => {
                buf[..count].fill(0);
                Ok(count)
            }
        }
    }
}

fn read_only() -> Error {
    Error::Unfit("a segment whose bodies lie apart is never written to".to_owned())
}

/// Fills `buf`, with zeros where the file ends before.
fn fill(file: &dyn File, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
    let read = file.read_at(at, buf)?;
    buf[read..].fill(0);
    Ok(buf.len())
}

impl File for Joined {
    fn size(&self) -> Result<u64, Error> {
        Ok(self.end + self.footer_bytes)
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let size = self.end + self.footer_bytes;
        let count = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
        let count = count.min(buf.len());
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < count {
            let left = &mut buf[done..count];
            let (read, record) = self.read_part(&mut window, at + done as u64, left)?;
            done += read;
            // What follows in the same frame needs no looking for.
            if let Some(record) = record
                && done < count
                && at + (done as u64) < record.end().min(self.end)
            {
                done += self.read_frame(&record, at + done as u64, &mut buf[done..count])?;
            }
        }
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[IoSlice<'_>]) -> Result<(), Error> {
        Err(read_only())
    }

    fn sync(&self) -> Result<(), Error> {
        Err(read_only())
    }

    fn set_size(&self, _: u64) -> Result<(), Error> {
        Err(read_only())
    }

    fn allocate(&self, _: u64) -> Result<(), Error> {
        Err(read_only())
    }

    fn uncache(&self, bytes: Range<u64>) {
        let body_at = |window: &mut Window, at| {
            let (record, _) = self.find(window, at).ok()?;
            let bytes = |record: Record| u64::from(record.body_bytes);
            record.map(|record| (record.body_at, record.body_at + bytes(record)))
        };
        // The end is near what was read last, and who reads on finds the window there.
        let mut aside = Window::default();
        let first = (bytes.start >= HEADER_BYTES as u64)
            .then(|| body_at(&mut aside, bytes.start))
            .flatten();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let last = body_at(&mut window, bytes.end.saturating_sub(1));
        drop(window);
        if let (Some(bodies), Some((_, to))) = (&self.bodies, last) {
            bodies.uncache(first.map_or(0, |(from, _)| from)..to);
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Entry, Kind, Micros, Term};

    use super::*;
    use crate::{
        SimDisk,
        segment::{self, read::Frames},
    };

    const APART: GroupId = GroupId(1);
    const WHOLE: GroupId = GroupId(2);
    const LAST: u64 = 300;

    fn placed() -> Vec<PlacedEntry> {
        let placed = |index: u64| {
            // Some have no byte at all.
            let bytes = match index.is_multiple_of(9) {
                true => 0,
                false => index * index * 7 % 1_000,
            };
            let body = vec![index as u8; bytes as usize];
            PlacedEntry {
                offset: Offset(index - 1),
                count: 1,
                entry: Entry {
                    id: LogId {
                        term: Term(1 + index / 100),
                        index: Index(index),
                    },
                    kind: Kind::Batch,
                    time: Micros(index),
                    checksum: crc32c::crc32c(&body),
                    body: body.into(),
                },
            }
        };
        (1..=LAST).map(placed).collect()
    }

    /// The same entries in a segment with and in one without bodies of its own.
    fn both() -> (SimDisk, Box<dyn File>, Vec<u8>) {
        let disk = SimDisk::seeded(1);
        for group in [APART, WHOLE] {
            disk.make_dir(&layout::group_dir(group)).unwrap();
        }
        disk.make_dir(Path::new("journal")).unwrap();
        let journal = Path::new("journal/1");
        let file = disk.open(journal, Open::Create).unwrap();
        let mut at = 5;
        let place = |placed: PlacedEntry| {
            let here = at;
            file.write_at(here, &[IoSlice::new(&placed.entry.body)])
                .unwrap();
            at += placed.entry.body.len() as u64 + placed.entry.id.index.0 % 3;
            (placed, here)
        };
        let entries: Vec<_> = placed().into_iter().map(place).collect();
        let before = LogId::ORIGIN;
        let apart = Apart {
            group: APART,
            before,
            base_offset: Offset(0),
            entries: &entries,
            bodies: journal,
        };
        let extent = set_apart(&disk, &apart).unwrap().unwrap();
        let begun = segment::begin(&disk, WHOLE, Index(1), before.term, Offset(0)).unwrap();
        let run = placed();
        let (whole, marks) = segment::append(&disk, &*begun.1, WHOLE, begun.0, None, &run).unwrap();
        segment::seal(&disk, &*begun.1, WHOLE, &whole, outline(&marks)).unwrap();
        assert_eq!((extent.end, extent.marks), (whole.end, whole.marks));
        let joined = open(&disk, &layout::segment_path(APART, Index(1))).unwrap();
        let mut bytes = vec![0; joined.size().unwrap() as usize];
        assert_eq!(joined.read_at(0, &mut bytes).unwrap(), bytes.len());
        let path = layout::segment_path(WHOLE, Index(1));
        let whole = disk.files().into_iter().find(|(known, _)| *known == path);
        (disk, joined, same_group(whole.unwrap().1, &bytes))
    }

    /// What a segment in one piece is where it does not tell its group, and what `other` is where it does.
    fn same_group(mut whole: Vec<u8>, other: &[u8]) -> Vec<u8> {
        assert_eq!(whole.len(), other.len());
        let mut at = HEADER_BYTES;
        whole[..at].copy_from_slice(&other[..at]);
        for placed in placed() {
            let (group, body) = (at + 8, at + ENTRY_BYTES);
            whole[group..group + 8].copy_from_slice(&APART.0.to_le_bytes());
            whole[body - 4..body].copy_from_slice(&other[body - 4..body]);
            at = body + placed.entry.body.len();
        }
        whole[at..].copy_from_slice(&other[at..]);
        whole
    }

    #[test]
    fn reads_as_if_it_were_in_one_piece_from_anywhere() {
        let (disk, joined, whole) = both();
        let size = whole.len();
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % (size + 9);
            let mut buf = vec![0xaa; (seed >> 20) as usize % 2_000];
            let read = joined.read_at(at as u64, &mut buf).unwrap();
            let expected = whole.get(at..).unwrap_or_default();
            assert_eq!(read, expected.len().min(buf.len()));
            assert!(buf[..read] == expected[..read], "{read} from {at}");
        }
        let footer = segment::footer(&*joined, size as u64).unwrap().unwrap();
        assert_eq!(footer.last.index, Index(LAST));
        let mut frames = Frames::all(&disk, APART, Index(1), footer.end).unwrap();
        for placed in placed() {
            let found = frames.next().unwrap().unwrap();
            frames.verify(&found).unwrap();
            assert_eq!(found.header.entry(found.body), placed.entry);
        }
    }

    #[test]
    fn damaged_record_hides_its_own_frame_alone() {
        let (disk, _, whole) = both();
        let path = layout::segment_path(APART, Index(1));
        let third = RECORDS_AT as usize + 2 * RECORD_BYTES;
        disk.edit(&path, |bytes| bytes[third + 20] ^= 1).unwrap();
        let joined = open(&disk, &path).unwrap();
        let mut bytes = vec![0; whole.len()];
        joined.read_at(0, &mut bytes).unwrap();
        let lengths = placed()
            .into_iter()
            .map(|placed| ENTRY_BYTES + placed.entry.body.len());
        let lengths: Vec<usize> = lengths.collect();
        let from = HEADER_BYTES + lengths[0] + lengths[1];
        let to = from + lengths[2];
        assert!(bytes[..from] == whole[..from] && bytes[to..] == whole[to..]);
        assert!(bytes[from..to].iter().all(|byte| *byte == 0));
    }
}
