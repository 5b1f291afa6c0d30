//! Records that a producer encoded together: the unit of append, replication, storage and delivery.
//! Encoded once, by the producer; every later room hands on the same bytes.

use bytes::{Bytes, BytesMut};

use crate::{Malformed, ProducerId, Record};

/// The parsed header of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Records in it; at least 1.
    pub count: u32,
    /// Who made it.
    pub producer: ProducerId,
    /// The producer's epoch: a higher one fences the lower ones off.
    pub epoch: u32,
    /// The sequence of the first record; the others count on.
    pub sequence: u64,
    /// The timestamp of the first record, in microseconds since the Unix epoch.
    pub timestamp: u64,
}

/// A batch whose header, checksum and record boundaries have been verified. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Verifies everything about `bytes`, which are one whole batch: bounds, both checksums, and that
    /// exactly `count` well-formed records fill it. For what comes from a client.
    pub fn verify(_bytes: Bytes) -> Result<Self, Malformed> {
        unreachable!("skeleton")
    }

    /// Reads the header and its checksum only. For bytes that were verified when they came in and
    /// whose entry checksum has just been checked.
    pub fn trusted(_bytes: Bytes) -> Result<Self, Malformed> {
        unreachable!("skeleton")
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

    /// The records, each sharing the batch's bytes.
    #[must_use]
    pub fn records(&self) -> Records {
        Records {
            left: self.bytes.clone(),
        }
    }
}

/// The records of a batch, one after the other; fuses after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    left: Bytes,
}

impl Iterator for Records {
    type Item = Result<Record, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        let _ = &self.left;
        unreachable!("skeleton")
    }
}

/// Encodes records straight into the bytes that will travel.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: BytesMut,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(capacity),
        }
    }

    /// Adds a record, or says which bound it crosses and leaves the batch as it was.
    pub fn push(&mut self, _record: &Record) -> Result<(), Malformed> {
        unreachable!("skeleton")
    }

    /// Bytes so far, the header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        unreachable!("skeleton")
    }

    /// Whether it has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether a record that takes `bytes` more would still fit under the hard bounds.
    #[must_use]
    pub fn fits(&self, _bytes: usize) -> bool {
        unreachable!("skeleton")
    }

    /// Fills in the header. Panics if the batch is empty.
    #[must_use]
    pub fn finish(self, _producer: ProducerId, _epoch: u32, _sequence: u64) -> Batch {
        unreachable!("skeleton")
    }
}
