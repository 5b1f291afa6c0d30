//! What a segment is made of: its header, an entry's frame, its footer.

use kontiki_raft::{Entry, Index, Kind, LogId, Micros, Term};
use kontiki_wire::{GroupId, Offset, PlacedEntry};

use crate::{
    entry_kind::entry_kind,
    fields::{Fields, PutFields},
    layout::segment::{
        CONFIGS_VERSION, ENTRY_BYTES, ENTRY_MAGIC, FOOTER_MAGIC, HEADER_BYTES, MAGIC,
        TRAILER_BYTES, VERSION,
    },
    segment::outline::Outline,
};

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) group: GroupId,
    pub(crate) first: Index,
    /// The term of the entry before the first.
    pub(crate) term_before: Term,
    pub(crate) base_offset: Offset,
}

/// Adds the CRC-32C of what is there.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u32(checksum);
    bytes
}

/// What is before the CRC-32C at the end, if that matches.
fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (covered, checksum) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(covered) == u32::from_le_bytes(*checksum)).then_some(covered)
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_u32(MAGIC);
        bytes.put_u16(VERSION);
        bytes.put_u16(0);
        bytes.put_u64(self.group.0);
        bytes.put_u64(self.first.0);
        bytes.put_u64(self.term_before.0);
        bytes.put_u64(self.base_offset.0);
        bytes.put_zeros(HEADER_BYTES - 4 - bytes.len());
        seal(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or("its header is cut short")?;
        let covered = unseal(bytes).ok_or("its header's checksum does not match")?;
        let mut fields = Fields::new(covered);
        if fields.u32() != Some(MAGIC) {
            return Err("it is not a segment");
        }
        if fields.u16() != Some(VERSION) {
            return Err("its format's version is not known to this program");
        }
        let header = (|| {
            fields.zeros(2)?;
            Some(Self {
                group: GroupId(fields.u64()?),
                first: Index(fields.u64()?),
                term_before: Term(fields.u64()?),
                base_offset: Offset(fields.u64()?),
            })
        })();
        header.ok_or("its header is cut short")
    }
}

/// What precedes an entry's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryHeader {
    pub(crate) group: GroupId,
    pub(crate) id: LogId,
    pub(crate) kind: Kind,
    pub(crate) time: Micros,
    pub(crate) offset: Offset,
    pub(crate) count: u32,
    pub(crate) body_bytes: u32,
    pub(crate) body_checksum: u32,
}

impl EntryHeader {
    /// The header of a placed entry.
    pub(crate) fn of(group: GroupId, placed: &PlacedEntry) -> Self {
        let entry = &placed.entry;
        Self {
            group,
            id: entry.id,
            kind: entry.kind,
            time: entry.time,
            offset: placed.offset,
            count: placed.count,
            body_bytes: u32::try_from(entry.body.len()).expect("a body is far below 4 GiB"),
            body_checksum: entry.checksum,
        }
    }

    /// The header's bytes and its checksum.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut bytes = Vec::with_capacity(ENTRY_BYTES);
        bytes.put_u32(ENTRY_MAGIC);
        bytes.put_u8(self.kind as u8);
        bytes.put_zeros(3);
        bytes.put_u64(self.group.0);
        bytes.put_u64(self.id.index.0);
        bytes.put_u64(self.id.term.0);
        bytes.put_u64(self.time.0);
        bytes.put_u64(self.offset.0);
        bytes.put_u32(self.count);
        bytes.put_u32(self.body_bytes);
        bytes.put_u32(self.body_checksum);
        let checksum = crc32c::crc32c(&bytes);
        bytes.put_u32(checksum);
        (bytes, checksum)
    }

    /// Reads a header and its checksum.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32), &'static str> {
        let bytes = bytes
            .get(..ENTRY_BYTES)
            .ok_or("an entry's header is cut short")?;
        let covered = unseal(bytes).ok_or("the checksum of an entry's header does not match")?;
        let mut fields = Fields::new(covered);
        let header = (|| {
            (fields.u32()? == ENTRY_MAGIC).then_some(())?;
            let kind = entry_kind(fields.u8()?)?;
            fields.zeros(3)?;
            let group = GroupId(fields.u64()?);
            let index = Index(fields.u64()?);
            let term = Term(fields.u64()?);
            Some(Self {
                group,
                id: LogId { term, index },
                kind,
                time: Micros(fields.u64()?),
                offset: Offset(fields.u64()?),
                count: fields.u32()?,
                body_bytes: fields.u32()?,
                body_checksum: fields.u32()?,
            })
        })();
        let header = header.ok_or("no entry begins here")?;
        let checksum = bytes.last_chunk().copied().map(u32::from_le_bytes);
        Ok((header, checksum.unwrap_or_default()))
    }

    /// The entry with this body.
    pub(crate) fn entry(&self, body: bytes::Bytes) -> Entry {
        Entry {
            id: self.id,
            kind: self.kind,
            time: self.time,
            checksum: self.body_checksum,
            body,
        }
    }

    /// Bytes of the frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        ENTRY_BYTES as u64 + u64::from(self.body_bytes)
    }
}

/// What a sealed segment ends with: all that a start needs of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    pub(crate) group: GroupId,
    pub(crate) first: Index,
    pub(crate) last: LogId,
    /// The offset after its last record.
    pub(crate) end_offset: Offset,
    pub(crate) first_time: Micros,
    pub(crate) last_time: Micros,
    /// Where the footer begins.
    pub(crate) end: u64,
    /// CRC-32C of all frames' header checksums.
    pub(crate) digest: u32,
    /// Marks in its index.
    pub(crate) marks: u32,
    /// Where terms begin, and where configurations are.
    pub(crate) outline: Outline,
}

impl Footer {
    /// The footer and the trailer by which it is found.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(FOOTER_MAGIC);
        let configs = &self.outline.configs;
        bytes.put_u16(match configs.is_empty() {
            true => VERSION,
            false => CONFIGS_VERSION,
        });
        bytes.put_u16(0);
        bytes.put_u64(self.group.0);
        bytes.put_u64(self.first.0);
        bytes.put_u64(self.last.index.0);
        bytes.put_u64(self.last.term.0);
        bytes.put_u64(self.end_offset.0);
        bytes.put_u64(self.first_time.0);
        bytes.put_u64(self.last_time.0);
        bytes.put_u64(self.end);
        bytes.put_u32(self.digest);
        bytes.put_u32(self.marks);
        if !configs.is_empty() {
            bytes.put_u32(u32::try_from(configs.len()).expect("a segment has far fewer entries"));
            bytes.put_u32(0);
        }
        for (index, position) in configs {
            bytes.put_u64(index.0);
            bytes.put_u64(*position);
        }
        for (index, term) in &self.outline.terms {
            bytes.put_u64(index.0);
            bytes.put_u64(term.0);
        }
        let mut trailer = Vec::new();
        let len = u32::try_from(bytes.len()).expect("a segment has far fewer terms");
        trailer.put_u32(len);
        trailer.put_u32(FOOTER_MAGIC);
        trailer.put_u32(crc32c::crc32c(&bytes));
        bytes.extend(seal(trailer));
        bytes
    }

    /// Bytes of the footer that a trailer, the last bytes of a file, tells of.
    pub(crate) fn bytes_before(trailer: &[u8; TRAILER_BYTES]) -> Option<u32> {
        let mut fields = Fields::new(unseal(trailer)?);
        let len = fields.u32()?;
        (fields.u32()? == FOOTER_MAGIC).then_some(len)
    }

    /// Reads what [`Footer::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (footer, trailer) = bytes.split_last_chunk::<TRAILER_BYTES>()?;
        let checksum = Fields::new(&trailer[8..]).u32()?;
        if crc32c::crc32c(footer) != checksum {
            return None;
        }
        let mut fields = Fields::new(footer);
        (fields.u32()? == FOOTER_MAGIC).then_some(())?;
        let has_configs = match fields.u16()? {
            VERSION => false,
            CONFIGS_VERSION => true,
            _ => return None,
        };
        fields.zeros(2)?;
        let mut footer = Self {
            group: GroupId(fields.u64()?),
            first: Index(fields.u64()?),
            last: LogId {
                index: Index(fields.u64()?),
                term: Term(fields.u64()?),
            },
            end_offset: Offset(fields.u64()?),
            first_time: Micros(fields.u64()?),
            last_time: Micros(fields.u64()?),
            end: fields.u64()?,
            digest: fields.u32()?,
            marks: fields.u32()?,
            outline: Outline::default(),
        };
        let outline = &mut footer.outline;
        if has_configs {
            let count = fields.u32()?;
            fields.zeros(4)?;
            for _ in 0..count {
                let config = (Index(fields.u64()?), fields.u64()?);
                if outline.configs.last() == Some(&config) {
                    // An earlier build marked an entry twice where a start went on from it.
                    footer.marks = footer.marks.saturating_sub(1);
                } else {
                    outline.configs.push(config);
                }
            }
        }
        while !fields.is_empty() {
            let term = (Index(fields.u64()?), Term(fields.u64()?));
            outline.terms.push(term);
        }
        Some(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer(configs: &[(u64, u64)]) -> Footer {
        let configs = configs.iter().map(|&(index, at)| (Index(index), at));
        Footer {
            group: GroupId(1),
            first: Index(2),
            last: LogId {
                term: Term(3),
                index: Index(4),
            },
            end_offset: Offset(5),
            first_time: Micros(6),
            last_time: Micros(7),
            end: 8,
            digest: 9,
            marks: 10,
            outline: Outline {
                terms: vec![(Index(2), Term(3))],
                configs: configs.collect(),
            },
        }
    }

    #[test]
    fn footer_without_configurations_is_as_it_always_was() {
        let (plain, with) = (footer(&[]).encode(), footer(&[(3, 64)]).encode());
        assert_eq!((plain[4], with[4]), (1, 2));
        assert_eq!(with.len(), plain.len() + 8 + 16);
        for footer in [footer(&[]), footer(&[(3, 64), (4, 200)])] {
            assert_eq!(Footer::decode(&footer.encode()), Some(footer));
        }
    }

    #[test]
    fn configuration_that_was_marked_twice_counts_once() {
        let twice = footer(&[(3, 64), (3, 64), (4, 200), (4, 200)]);
        let once = Footer {
            marks: twice.marks - 2,
            ..footer(&[(3, 64), (4, 200)])
        };
        assert_eq!(Footer::decode(&twice.encode()), Some(once));
    }

    #[test]
    fn footer_that_tells_of_more_configurations_than_it_has_is_none() {
        let mut bytes = footer(&[(3, 64)]).encode();
        let count = bytes.len() - TRAILER_BYTES - 16 - 16 - 8;
        assert_eq!(bytes[count], 1);
        bytes[count] = 9;
        let (body, trailer) = bytes.split_at(bytes.len() - TRAILER_BYTES);
        let checksum = crc32c::crc32c(body).to_le_bytes();
        let sealed = [body, &trailer[..8], &checksum, &trailer[12..]].concat();
        assert_eq!(Footer::decode(&sealed), None);
    }
}
