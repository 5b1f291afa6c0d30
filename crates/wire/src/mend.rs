//! What members say to each other when the disk of one no longer gives what it held: which entries are
//! missing, and which of them another has. Laid by hand: it carries the records.
//!
//! ```text
//! Missing                          Found
//!  0  group  u64                    0  group   u64
//!  8  first  u64                    8  first   u64   as it was asked
//! 16  last   u64                   16  last    u64   as it was asked
//!                                  24  count   u32   entries, ascending, each one of those asked for
//!                                  28  entries, each:
//!                                       0  term      u64
//!                                       8  index     u64
//!                                      16  time      u64
//!                                      24  offset    u64   of its first record
//!                                      32  records   u32
//!                                      36  checksum  u32   CRC-32C of the body
//!                                      40  length    u32   of the body
//!                                      44  kind      u8
//!                                      bodies, one after the other; not under the frame's checksum
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use kontiki_raft::{Entry, Index, Kind, LogId, Micros, Term};

use crate::{
    frame::{self, FRAME_HEADER_BYTES, Frame, FrameKind, encode_frame},
    ids::{GroupId, Offset},
    limits::{BATCH_RECORDS_MAX, ENTRY_BYTES_MAX, FOUND_BYTES_MAX, FOUND_ENTRIES_MAX},
    malformed::Malformed,
    message::{entry_body, entry_kind},
    scan::{Scan, within},
};

/// A committed entry, and where its records went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedEntry {
    /// The entry.
    pub entry: Entry,
    /// The offset of its first record; for an entry without records, that of the next one.
    pub offset: Offset,
    /// Its records; 0 for what subscribers never see, as a batch that came twice.
    pub count: u32,
}

/// Asks for committed entries that the sender had and has no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing {
    /// Whose.
    pub group: GroupId,
    /// The first one.
    pub first: Index,
    /// The last one.
    pub last: Index,
}

/// What a peer has of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What was asked.
    pub asked: Missing,
    /// The first stretch of entries among those that this peer has, contiguous, as many as fit. It has
    /// none of those before it; none at all if it is empty.
    pub entries: Vec<PlacedEntry>,
}

impl Missing {
    /// Appends its frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut payload = BytesMut::with_capacity(MISSING_BYTES);
        self.put(&mut payload);
        encode_frame(FrameKind::Missing, &payload, out);
    }

    /// Reads it.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let mut scan = Scan::new("a question for entries", frame.whole(FrameKind::Missing)?);
        let missing = Self::read(&mut scan)?;
        scan.end()?;
        Ok(missing)
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.group.0);
        out.put_u64_le(self.first.0);
        out.put_u64_le(self.last.0);
    }

    fn read(scan: &mut Scan<'_>) -> Result<Self, Malformed> {
        let missing = Self {
            group: GroupId(scan.u64()?),
            first: Index(scan.u64()?),
            last: Index(scan.u64()?),
        };
        if missing.first.0 == 0 || missing.first > missing.last || missing.last.0 == u64::MAX {
            return Err(Malformed::Inconsistent {
                what: "a question for entries that cannot be",
            });
        }
        Ok(missing)
    }
}

impl Found {
    /// Encodes it as pieces to be written one after the other; bodies are handed on without a copy.
    ///
    /// # Panics
    /// If it crosses [`FOUND_ENTRIES_MAX`] or, with more than one entry, [`FOUND_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<Bytes>) {
        assert!(self.entries.len() <= FOUND_ENTRIES_MAX, "too many entries");
        let bodies = self.entries.iter().map(|placed| placed.entry.body.len());
        let body_bytes: usize = bodies.sum();
        assert!(
            body_bytes <= FOUND_BYTES_MAX || self.entries.len() == 1,
            "{body_bytes} bytes of bodies"
        );
        let head_bytes = MISSING_BYTES + 4 + self.entries.len() * ENTRY_BYTES;
        let mut head = BytesMut::with_capacity(FRAME_HEADER_BYTES + head_bytes);
        head.put_bytes(0, FRAME_HEADER_BYTES);
        self.asked.put(&mut head);
        head.put_u32_le(self.entries.len() as u32);
        for PlacedEntry {
            entry,
            offset,
            count,
        } in &self.entries
        {
            head.put_u64_le(entry.id.term.0);
            head.put_u64_le(entry.id.index.0);
            head.put_u64_le(entry.time.0);
            head.put_u64_le(offset.0);
            head.put_u32_le(*count);
            head.put_u32_le(entry.checksum);
            head.put_u32_le(entry.body.len() as u32);
            head.put_u8(entry.kind as u8);
        }
        let checksum = crc32c::crc32c(&head[FRAME_HEADER_BYTES..]);
        let header = frame::header(FrameKind::Found, head_bytes + body_bytes, checksum);
        head[..FRAME_HEADER_BYTES].copy_from_slice(&header);
        out.push(head.freeze());
        let bodies = self.entries.iter().map(|placed| &placed.entry.body);
        out.extend(bodies.filter(|body| !body.is_empty()).cloned());
    }

    /// Reads it; bodies share the frame's bytes. Verifies all checksums, that the entries are among
    /// those asked for and contiguous, that terms and offsets do not go back, that only batches have
    /// records, that every count and length is within its bound, and that nothing is left over.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let count = frame.payload.get(MISSING_BYTES..MISSING_BYTES + 4);
        let count = Scan::new(WHAT, count.unwrap_or_default())
            .count("the number of entries found", FOUND_ENTRIES_MAX)?;
        let head_bytes = MISSING_BYTES + 4 + count * ENTRY_BYTES;
        let mut scan = Scan::new(WHAT, frame.head(FrameKind::Found, head_bytes)?);
        let asked = Missing::read(&mut scan)?;
        scan.u32()?;
        let mut bodies = frame.payload.slice(head_bytes..);
        let bytes_max = match count {
            0 | 1 => ENTRY_BYTES_MAX,
            _ => FOUND_BYTES_MAX,
        };
        let bytes = bodies.len() as u64;
        within("the bytes of the entries found", bytes, bytes_max)?;
        let mut entries: Vec<PlacedEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let placed = entry(&mut scan, &mut bodies)?;
            check(&asked, entries.last(), &placed)?;
            entries.push(placed);
        }
        scan.end()?;
        match bodies.len() {
            0 => Ok(Self { asked, entries }),
            left => Err(Malformed::Trailing { what: WHAT, left }),
        }
    }
}

fn entry(scan: &mut Scan<'_>, bodies: &mut Bytes) -> Result<PlacedEntry, Malformed> {
    let term = Term(scan.u64()?);
    let index = Index(scan.u64()?);
    let time = Micros(scan.u64()?);
    let offset = Offset(scan.u64()?);
    let count = scan.count("the number of records", BATCH_RECORDS_MAX as usize)?;
    let checksum = scan.u32()?;
    let length = scan.count("the length of an entry", ENTRY_BYTES_MAX)?;
    let kind = entry_kind(scan.u8()?)?;
    let body = entry_body(bodies, length, checksum)?;
    let entry = Entry {
        id: LogId { term, index },
        kind,
        time,
        checksum,
        body,
    };
    Ok(PlacedEntry {
        entry,
        offset,
        count: count as u32,
    })
}

fn check(
    asked: &Missing,
    before: Option<&PlacedEntry>,
    placed: &PlacedEntry,
) -> Result<(), Malformed> {
    let wrong = |what| Err(Malformed::Inconsistent { what });
    let id = placed.entry.id;
    if !(asked.first..=asked.last).contains(&id.index) {
        return wrong("an entry that was not asked for");
    }
    if placed.count > 0 && placed.entry.kind != Kind::Batch {
        return wrong("an entry with records that is no batch");
    }
    let end = placed.offset.0.checked_add(u64::from(placed.count));
    if end.is_none() {
        return wrong("an entry's records have offsets that cannot be");
    }
    let Some(before) = before else { return Ok(()) };
    if id.index != before.entry.id.index.next() {
        return wrong("an entry does not follow the one before it");
    }
    if id.term < before.entry.id.term {
        return wrong("an entry is of an earlier term than the one before it");
    }
    if placed.offset.0 != before.offset.0 + u64::from(before.count) {
        return wrong("an entry's offset does not follow the one before it");
    }
    Ok(())
}

const MISSING_BYTES: usize = 24;
const ENTRY_BYTES: usize = 45;
const WHAT: &str = "entries that were asked for";

#[cfg(test)]
mod tests;
