//! Records that a producer encoded together: the unit of append, replication, storage and delivery.
//! Encoded once, by the producer; every later room hands on the same bytes.
//!
//! ```text
//!  0  magic             u16   "KB"
//!  2  version           u8    1
//!  3  flags             u8    0
//!  4  count             u32   records, at least 1
//!  8  records length    u32
//! 12  records checksum  u32   CRC-32C of the records
//! 16  producer          u128
//! 32  sequence          u64   of the first record
//! 40  timestamp         u64   of the first record, µs since the Unix epoch
//! 48  epoch             u32   of the producer
//! 52  reserved          u64   0
//! 60  header checksum   u32   CRC-32C of bytes 0..60, masked
//! 64  records                 see record.rs
//! ```
//!
//! The header's checksum is masked because the batch as a whole gets a checksum too
//! ([`Batch::checksum`]), which would otherwise be blind to the header.

use bytes::Bytes;

use crate::{
    checksum::{joined, masked},
    ids::ProducerId,
    limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX},
    malformed::Malformed,
    record::{Layout, Record},
    scan::{Scan, within},
};

/// Bytes of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 64;

const MAGIC: u16 = u16::from_le_bytes(*b"KB");
const VERSION: u8 = 1;
/// Length, timestamp, key and headers of one byte each.
const RECORD_BYTES_MIN: usize = 4;

/// The parsed header of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Records in it; at least 1.
    pub count: u32,
    /// Who made it.
    pub producer: ProducerId,
    /// The producer's epoch: a higher one fences the lower ones off.
    pub epoch: u32,
    /// The sequence of the first record; the others count on, and their end is a `u64` too.
    pub sequence: u64,
    /// The timestamp of the first record, in microseconds since the Unix epoch.
    pub timestamp: u64,
}

/// A batch of which at least the header is known to be good. How much more depends on which of
/// [`Batch::verify`], [`Batch::intact`] and [`Batch::trusted`] read it. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    header: BatchHeader,
    records_checksum: u32,
    bytes: Bytes,
}

impl Batch {
    /// Verifies everything about `bytes`, which are one whole batch: bounds, both checksums, and that
    /// exactly `count` well-formed records fill it, the first of them at the header's timestamp. These
    /// are the very bytes a [`BatchBuilder`] would make. For what comes from a client.
    pub fn verify(bytes: Bytes) -> Result<Self, Malformed> {
        let batch = Self::intact(bytes)?;
        let mut scan = Scan::new(RECORDS, &batch.bytes[BATCH_HEADER_BYTES..]);
        let first = Layout::read(&mut scan)?;
        if !first.is_of_the_batch_s_time() {
            return Err(Malformed::Inconsistent {
                what: "the first record of a batch is of another time than its header says",
            });
        }
        for _ in 1..batch.header.count {
            Layout::read(&mut scan)?;
        }
        scan.end()?;
        Ok(batch)
    }

    /// Checks both checksums, so that `bytes` are those that were once verified; the records are not
    /// looked into. For what comes from a server.
    pub fn intact(bytes: Bytes) -> Result<Self, Malformed> {
        let batch = Self::trusted(bytes)?;
        if crc32c::crc32c(&batch.bytes[BATCH_HEADER_BYTES..]) == batch.records_checksum {
            Ok(batch)
        } else {
            Err(Malformed::Checksum { what: RECORDS })
        }
    }

    /// Reads the header and its checksum only. For bytes that were verified when they came in and
    /// whose entry checksum has just been checked.
    pub fn trusted(bytes: Bytes) -> Result<Self, Malformed> {
        within("the length of a batch", bytes.len() as u64, BATCH_BYTES_MAX)?;
        let (header, records_checksum) = read_header(&bytes)?;
        Ok(Self {
            header,
            records_checksum,
            bytes,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, header included, as it was sent.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What [`crate::entry_checksum`] says of [`Batch::bytes`], from the two checksums inside: a long
    /// batch is not read again.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let (header, records) = self.bytes.split_at(BATCH_HEADER_BYTES);
        let header = crc32c::crc32c(header);
        if records.len() < HASH_AGAIN_BYTES {
            crc32c::crc32c_append(header, records)
        } else {
            joined(header, self.records_checksum, records.len())
        }
    }

    /// The records, each sharing the batch's bytes.
    #[must_use]
    pub fn records(&self) -> Records {
        Records {
            bytes: self.bytes.clone(),
            at: BATCH_HEADER_BYTES,
            left: self.header.count,
            timestamp: self.header.timestamp,
            ended: false,
        }
    }
}

const RECORDS: &str = "the records of a batch";
/// Below this, reading the records again is faster than the arithmetic that spares it.
const HASH_AGAIN_BYTES: usize = 8 << 10;

fn read_header(bytes: &[u8]) -> Result<(BatchHeader, u32), Malformed> {
    const WHAT: &str = "the header of a batch";
    let mut scan = Scan::new(WHAT, bytes);
    let bytes = scan.take(BATCH_HEADER_BYTES)?;
    let records_length = scan.left();
    let mut scan = Scan::new(WHAT, bytes);
    let (magic, version, flags) = (scan.u16()?, scan.u8()?, scan.u8()?);
    let (count, length, records_checksum) = (scan.u32()?, scan.u32()?, scan.u32()?);
    let header = BatchHeader {
        count,
        producer: ProducerId(scan.u128()?),
        sequence: scan.u64()?,
        timestamp: scan.u64()?,
        epoch: scan.u32()?,
    };
    let reserved = scan.u64()?;
    if magic != MAGIC {
        return Err(unknown("the magic of a batch", magic.into()));
    }
    if version != VERSION {
        return Err(unknown("the version of a batch", version.into()));
    }
    if scan.u32()? != masked(crc32c::crc32c(&bytes[..60])) {
        return Err(Malformed::Checksum { what: WHAT });
    }
    if flags != 0 || reserved != 0 {
        let value = reserved | u64::from(flags);
        return Err(unknown("the reserved part of a batch's header", value));
    }
    if length as usize != records_length {
        return Err(Malformed::Inconsistent {
            what: "the length of a batch is not what its header says",
        });
    }
    let count_max = (records_length / RECORD_BYTES_MIN).min(BATCH_RECORDS_MAX as usize);
    if count == 0 {
        return Err(unknown("the number of records", 0));
    }
    within("the number of records", count.into(), count_max)?;
    if header.sequence.checked_add(count.into()).is_none() {
        return Err(unknown("the sequence of a batch", header.sequence));
    }
    Ok((header, records_checksum))
}

fn unknown(what: &'static str, value: u64) -> Malformed {
    Malformed::Unknown { what, value }
}

/// The records of a batch, one after the other; fuses after the first error. Records that were never
/// verified end in an error too if bytes are left over after the last.
#[derive(Clone, Debug)]
pub struct Records {
    bytes: Bytes,
    at: usize,
    left: u32,
    timestamp: u64,
    ended: bool,
}

impl Records {
    /// Passes over the next `count` records, looking at nothing but their lengths. For a subscriber
    /// that begins inside a batch.
    #[must_use]
    pub fn skip_records(mut self, count: u32) -> Self {
        let mut scan = Scan::new(RECORDS, &self.bytes[self.at..]);
        let mut at = 0;
        for _ in 0..count.min(self.left) {
            let skipped = scan
                .varint()
                .and_then(|length| scan.take(usize::try_from(length).unwrap_or(usize::MAX)));
            // What cannot be passed over stays, for `next` to say what is wrong with it.
            if skipped.is_err() {
                break;
            }
            at = scan.at();
            self.left -= 1;
        }
        self.at += at;
        self
    }

    fn read(&mut self) -> Result<Option<Record>, Malformed> {
        let mut scan = Scan::new(RECORDS, &self.bytes);
        scan.take(self.at)?;
        if self.left == 0 {
            scan.end()?;
            return Ok(None);
        }
        let layout = Layout::read(&mut scan)?;
        self.at = scan.at();
        self.left -= 1;
        layout.record(self.timestamp, &self.bytes).map(Some)
    }
}

impl Iterator for Records {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended {
            return (0, Some(0));
        }
        // One more than the records, for the error at the end.
        (0, Some(self.left as usize + 1))
    }
}

impl std::iter::FusedIterator for Records {}

/// Encodes records straight into the bytes that will travel. A record that is pushed costs no
/// allocation of its own.
#[derive(Debug)]
pub struct BatchBuilder {
    /// The header's room, then the records.
    bytes: Vec<u8>,
    count: u32,
    timestamp: u64,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes. It grows beyond them when it must.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity.clamp(BATCH_HEADER_BYTES, BATCH_BYTES_MAX));
        bytes.resize(BATCH_HEADER_BYTES, 0);
        Self {
            bytes,
            count: 0,
            timestamp: 0,
        }
    }

    /// Adds a record, or says which bound it crosses and leaves the batch as it was.
    pub fn push(&mut self, record: &Record) -> Result<(), Malformed> {
        let count = self.count + 1;
        within(
            "the number of records",
            count.into(),
            BATCH_RECORDS_MAX as usize,
        )?;
        let timestamp = if self.count == 0 {
            record.timestamp
        } else {
            self.timestamp
        };
        let measure = record.measure(timestamp)?;
        let bytes = self.bytes.len() + measure.bytes;
        within("the length of a batch", bytes as u64, BATCH_BYTES_MAX)?;
        record.encode(&measure, &mut self.bytes);
        debug_assert_eq!(self.bytes.len(), bytes);
        self.count = count;
        self.timestamp = timestamp;
        Ok(())
    }

    /// Bytes so far, the header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether it has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether a record that takes `bytes` more ([`Record::encoded_bytes_max`]) would still fit under
    /// the hard bounds.
    #[must_use]
    pub fn fits(&self, bytes: usize) -> bool {
        self.count < BATCH_RECORDS_MAX && bytes <= BATCH_BYTES_MAX - self.bytes.len()
    }

    /// Fills in the header.
    ///
    /// # Panics
    /// If the batch is empty, or its sequences do not fit a `u64`.
    #[must_use]
    pub fn finish(mut self, producer: ProducerId, epoch: u32, sequence: u64) -> Batch {
        assert!(self.count > 0, "an empty batch");
        assert!(
            sequence.checked_add(self.count.into()).is_some(),
            "sequence {sequence}"
        );
        let records = &self.bytes[BATCH_HEADER_BYTES..];
        let records_checksum = crc32c::crc32c(records);
        let header = BatchHeader {
            count: self.count,
            producer,
            epoch,
            sequence,
            timestamp: self.timestamp,
        };
        let head = encode_header(&header, records.len() as u32, records_checksum);
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&head);
        // It may wait long for its acknowledgement: a small batch must not hold a large buffer.
        if self.bytes.len() < self.bytes.capacity() / 2 {
            self.bytes.shrink_to_fit();
        }
        Batch {
            header,
            records_checksum,
            bytes: self.bytes.into(),
        }
    }
}

fn encode_header(
    header: &BatchHeader,
    records_length: u32,
    records_checksum: u32,
) -> [u8; BATCH_HEADER_BYTES] {
    let mut bytes = [0; BATCH_HEADER_BYTES];
    bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[2] = VERSION;
    bytes[4..8].copy_from_slice(&header.count.to_le_bytes());
    bytes[8..12].copy_from_slice(&records_length.to_le_bytes());
    bytes[12..16].copy_from_slice(&records_checksum.to_le_bytes());
    bytes[16..32].copy_from_slice(&header.producer.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&header.sequence.to_le_bytes());
    bytes[40..48].copy_from_slice(&header.timestamp.to_le_bytes());
    bytes[48..52].copy_from_slice(&header.epoch.to_le_bytes());
    let checksum = masked(crc32c::crc32c(&bytes[..60]));
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests;
