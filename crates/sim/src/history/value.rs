//! What writers write: values that are unique in a story and certify themselves, so that whoever finds
//! one, anywhere, knows whose it is and whether a byte of it was changed.

use std::fmt;

use bytes::Bytes;
use kontiki_wire::entry_checksum;

/// One value: the `number`-th that a writer was given. Values of a writer stand in a log in the order
/// of their numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value {
    /// Whose it is; counted from 0 in each story.
    pub writer: u32,
    /// Counted from 0 for each writer, without a gap.
    pub number: u32,
}

/// What stood where a value was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Seen {
    /// An intact value.
    Value(Value),
    /// Something that nobody wrote.
    Garbled {
        /// Of the bytes, to tell them from other such bytes.
        checksum: u32,
    },
}

impl Value {
    /// The bytes to be written: printable, one line, `filling` bytes longer than they need be.
    #[must_use]
    pub fn bytes(self, filling: usize) -> Bytes {
        let mut text = format!("w{}.{} ", self.writer, self.number).into_bytes();
        let letter = b'a' + (self.number % 26) as u8;
        text.resize(text.len() + filling, letter);
        let checksum = entry_checksum(&text);
        text.extend_from_slice(format!(" {checksum:08x}").as_bytes());
        Bytes::from(text)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (text, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        let checksum = std::str::from_utf8(checksum).ok()?.strip_prefix(' ')?;
        if u32::from_str_radix(checksum, 16).ok()? != entry_checksum(text) {
            return None;
        }
        let head = text.split(|byte| *byte == b' ').next()?;
        let head = std::str::from_utf8(head).ok()?.strip_prefix('w')?;
        let (writer, number) = head.split_once('.')?;
        Some(Self {
            writer: writer.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// A space and eight hexadecimal digits.
const CHECKSUM_BYTES: usize = 9;

impl Seen {
    /// What these bytes are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match Value::parse(bytes) {
            Some(value) => Self::Value(value),
            None => Self::Garbled {
                checksum: entry_checksum(bytes),
            },
        }
    }
}

impl From<Value> for Seen {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}.{}", self.writer, self.number)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Garbled { checksum } => write!(f, "bytes nobody wrote ({checksum:08x})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        for (writer, number, filling) in [(0, 0, 0), (3, 77, 1), (u32::MAX, u32::MAX, 1000)] {
            let value = Value { writer, number };
            let bytes = value.bytes(filling);
            assert_eq!(Seen::of(&bytes), Seen::Value(value));
            assert!(bytes.iter().all(|byte| (b' '..=b'~').contains(byte)));
        }
    }

    #[test]
    fn a_value_with_any_byte_changed_cut_or_added_is_nobody_s() {
        let value = Value {
            writer: 12,
            number: 345,
        };
        let bytes = value.bytes(20);
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(matches!(Seen::of(&changed), Seen::Garbled { .. }), "{at}");
            assert!(matches!(Seen::of(&bytes[..at]), Seen::Garbled { .. }));
        }
        let longer = [&bytes[..], b"0"].concat();
        assert!(matches!(Seen::of(&longer), Seen::Garbled { .. }));
    }
}
