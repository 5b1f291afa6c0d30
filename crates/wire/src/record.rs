//! What a user appends.

use bytes::Bytes;

/// One header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value; any bytes.
    pub value: Bytes,
}

/// A record: what a user appends and a subscriber gets.
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
