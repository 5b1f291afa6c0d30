//! What a user appends, and how it lies in a batch.
//!
//! ```text
//! varint  bytes of what follows
//! varint  timestamp, as the zig-zag distance to the batch's
//! varint  key length + 1; 0 is no key          key
//! varint  headers, each: varint name length    name (utf-8)
//!                        varint value length   value
//!         value: the rest
//! ```
//!
//! A varint has seven bits a byte, lowest first, in its shortest spelling: one record, one encoding.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    limits::{HEADER_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX, VALUE_BYTES_MAX},
    malformed::Malformed,
    scan::{Scan, put_varint, varint_bytes, within},
};

/// One header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value; any bytes.
    pub value: Bytes,
}

/// A record: what a user appends and a subscriber gets. One that was read shares the memory of all
/// that arrived with it: what is to be kept long is better copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// When the producer made it, in microseconds since the Unix epoch; 0 lets the client fill it in.
    pub timestamp: u64,
    /// Its key, if any.
    pub key: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
    /// Its value.
    pub value: Bytes,
}

impl Record {
    /// The most bytes it can take in a batch; at most ten more than it will, depending on how far its
    /// timestamp is from the batch's.
    #[must_use]
    pub fn encoded_bytes_max(&self) -> usize {
        let body = self.body_bytes(u64::MAX);
        varint_bytes(body as u64) + body
    }

    /// How it would lie in a batch of this timestamp, or which bound it crosses.
    #[inline]
    pub(crate) fn measure(&self, timestamp: u64) -> Result<Measure, Malformed> {
        self.check()?;
        let distance = zig_zag(self.timestamp.wrapping_sub(timestamp).cast_signed());
        let body_bytes = self.body_bytes(distance);
        within(LENGTH, body_bytes as u64, RECORD_BYTES_MAX)?;
        Ok(Measure {
            distance,
            body_bytes,
            bytes: varint_bytes(body_bytes as u64) + body_bytes,
        })
    }

    /// Appends the record as it was measured.
    #[inline]
    pub(crate) fn encode(&self, measure: &Measure, out: &mut Vec<u8>) {
        put_varint(measure.body_bytes as u64, out);
        put_varint(measure.distance, out);
        match &self.key {
            None => out.push(0),
            Some(key) => {
                put_varint(key.len() as u64 + 1, out);
                out.extend_from_slice(key);
            }
        }
        put_varint(self.headers.len() as u64, out);
        for header in &self.headers {
            put_varint(header.name.len() as u64, out);
            out.extend_from_slice(header.name.as_bytes());
            put_varint(header.value.len() as u64, out);
            out.extend_from_slice(&header.value);
        }
        out.extend_from_slice(&self.value);
    }

    fn check(&self) -> Result<(), Malformed> {
        let key = self.key.as_ref().map_or(0, Bytes::len);
        within(KEY, key as u64, KEY_BYTES_MAX)?;
        within(HEADERS, self.headers.len() as u64, HEADERS_MAX)?;
        for header in &self.headers {
            within(NAME, header.name.len() as u64, HEADER_BYTES_MAX)?;
            within(HEADER_VALUE, header.value.len() as u64, HEADER_BYTES_MAX)?;
        }
        within(VALUE, self.value.len() as u64, VALUE_BYTES_MAX)?;
        Ok(())
    }

    /// Bytes of everything after the length.
    fn body_bytes(&self, distance: u64) -> usize {
        let key = match &self.key {
            None => 1,
            Some(key) => varint_bytes(key.len() as u64 + 1) + key.len(),
        };
        let text = |len: usize| varint_bytes(len as u64) + len;
        let headers: usize = (self.headers.iter())
            .map(|header| text(header.name.len()) + text(header.value.len()))
            .sum();
        varint_bytes(distance)
            + key
            + varint_bytes(self.headers.len() as u64)
            + headers
            + self.value.len()
    }
}

/// What a record will take.
pub(crate) struct Measure {
    distance: u64,
    body_bytes: usize,
    /// All of it, its length included.
    pub(crate) bytes: usize,
}

const LENGTH: &str = "the length of a record";
const KEY: &str = "the length of a key";
const HEADERS: &str = "the number of headers";
const NAME: &str = "the length of a header's name";
const HEADER_VALUE: &str = "the length of a header's value";
const VALUE: &str = "the length of a value";

/// Where the parts of an encoded record lie in the bytes it was read from. Existing means that they
/// are well formed.
pub(crate) struct Layout {
    distance: u64,
    key: Option<Range<usize>>,
    headers_count: usize,
    headers: Range<usize>,
    value: Range<usize>,
}

impl Layout {
    /// Reads over the next record.
    #[inline]
    pub(crate) fn read(scan: &mut Scan<'_>) -> Result<Self, Malformed> {
        let length = scan.varint_count(LENGTH, RECORD_BYTES_MAX)?;
        let start = scan.at();
        let mut body = Scan::new("a record", scan.take(length)?);
        let distance = body.varint()?;
        let key = match body.varint()? {
            0 => None,
            more => {
                let bytes = within(KEY, more - 1, KEY_BYTES_MAX)?;
                let from = start + body.at();
                body.take(bytes)?;
                Some(from..from + bytes)
            }
        };
        let headers_count = body.varint_count(HEADERS, HEADERS_MAX)?;
        let headers_from = body.at();
        for _ in 0..headers_count {
            read_header(&mut body)?;
        }
        let value = body.at();
        within(VALUE, body.left() as u64, VALUE_BYTES_MAX)?;
        Ok(Self {
            distance,
            key,
            headers_count,
            headers: start + headers_from..start + value,
            value: start + value..start + length,
        })
    }

    /// Whether its timestamp is the batch's.
    pub(crate) fn is_of_the_batch_s_time(&self) -> bool {
        self.distance == 0
    }

    /// The record, sharing `bytes`, which are those it was read from.
    pub(crate) fn record(self, timestamp: u64, bytes: &Bytes) -> Result<Record, Malformed> {
        let mut headers = Vec::with_capacity(self.headers_count);
        let mut scan = Scan::new("a record", &bytes[self.headers]);
        for _ in 0..self.headers_count {
            let (name, value) = read_header(&mut scan)?;
            headers.push(Header {
                name: name.to_owned(),
                value: bytes.slice_ref(value),
            });
        }
        Ok(Record {
            timestamp: timestamp.wrapping_add_signed(zag_zig(self.distance)),
            key: self.key.map(|range| bytes.slice(range)),
            headers,
            value: bytes.slice(self.value),
        })
    }
}

fn read_header<'a>(scan: &mut Scan<'a>) -> Result<(&'a str, &'a [u8]), Malformed> {
    let length = scan.varint_count(NAME, HEADER_BYTES_MAX)?;
    let name = str::from_utf8(scan.take(length)?).map_err(|_| Malformed::Inconsistent {
        what: "a header's name is not utf-8",
    })?;
    let length = scan.varint_count(HEADER_VALUE, HEADER_BYTES_MAX)?;
    Ok((name, scan.take(length)?))
}

/// Small distances in either direction become small numbers.
fn zig_zag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)).cast_unsigned()
}

fn zag_zig(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

impl Record {
    /// A record of this value, without key or headers.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self {
            value: value.into(),
            ..Self::default()
        }
    }

    /// The same record with this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record with one header more.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header {
            name: name.into(),
            value: value.into(),
        });
        self
    }
}
