//! Reads fields off the front of bytes from outside: never beyond their end, never allocating.

use crate::malformed::Malformed;

/// A position in bytes that nobody vouches for.
#[derive(Clone, Debug)]
pub(crate) struct Scan<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    /// Starts at the front of `bytes`, which are to be a `what`.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, _)) = self.bytes[self.at..].split_at_checked(count) else {
            return Err(self.short(count));
        };
        self.at += count;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(taken) = self.bytes[self.at..].first_chunk() else {
            return Err(self.short(N));
        };
        self.at += N;
        Ok(*taken)
    }

    #[cold]
    fn short(&self, count: usize) -> Malformed {
        Malformed::Short {
            what: self.what,
            have: self.bytes.len(),
            need: self.at.saturating_add(count),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Unknown {
                what,
                value: other.into(),
            }),
        }
    }

    /// A `u32` that says how much of `what` follows, at most `limit`.
    pub(crate) fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, Malformed> {
        let count = self.u32()?;
        within(what, u64::from(count), limit)
    }

    /// A varint of at most ten bytes.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for group in 0..10 {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << (7 * group);
            if byte >= 0x80 {
                continue;
            }
            // A last group of zero, or bits beyond the 64th, would spell one number in two ways.
            let spilled = group == 9 && byte > 1;
            let padded = group > 0 && byte == 0;
            if spilled || padded {
                break;
            }
            return Ok(value);
        }
        Err(Malformed::Inconsistent {
            what: "a varint is not the shortest spelling of 64 bits",
        })
    }

    /// A varint that says how much of `what` follows, at most `limit`, itself at most five bytes.
    #[inline]
    pub(crate) fn varint_count(
        &mut self,
        what: &'static str,
        limit: usize,
    ) -> Result<usize, Malformed> {
        let count = self.varint()?;
        within(what, count, limit)
    }

    /// Refuses what is left over.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        match self.left() {
            0 => Ok(()),
            left => Err(Malformed::Trailing {
                what: self.what,
                left,
            }),
        }
    }
}

/// `have`, if it does not cross `limit`.
#[inline]
pub(crate) fn within(what: &'static str, have: u64, limit: usize) -> Result<usize, Malformed> {
    match usize::try_from(have) {
        Ok(have) if have <= limit => Ok(have),
        _ => Err(Malformed::TooLarge {
            what,
            have,
            limit: limit as u64,
        }),
    }
}

/// Bytes of `value` as a varint.
#[inline]
pub(crate) fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends `value` as a varint: seven bits a byte, lowest first, the high bit set on all but the last.
#[inline]
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_of_varint_round_trips_in_as_many_bytes_as_foretold() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(value, &mut bytes);
                assert_eq!(bytes.len(), varint_bytes(value), "{value}");
                let mut scan = Scan::new("test", &bytes);
                assert_eq!(scan.varint(), Ok(value));
                assert_eq!(scan.end(), Ok(()));
            }
        }
    }

    #[test]
    fn a_varint_in_any_but_its_shortest_spelling_is_refused() {
        let long = |last| [[0xff; 9].as_slice(), &[last]].concat();
        assert_eq!(Scan::new("test", &long(1)).varint(), Ok(u64::MAX));
        for bytes in [
            vec![0x80, 0],
            vec![0xff, 0x80, 0],
            long(2),
            long(0x81),
            long(0),
        ] {
            assert!(
                matches!(
                    Scan::new("test", &bytes).varint(),
                    Err(Malformed::Inconsistent { .. })
                ),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn a_count_is_refused_at_one_above_its_limit_and_never_truncated() {
        assert_eq!(within("test", 7, 7), Ok(7));
        for have in [8, 1 << 32, u64::MAX] {
            assert_eq!(
                within("test", have, 7),
                Err(Malformed::TooLarge {
                    what: "test",
                    have,
                    limit: 7
                })
            );
        }
    }
}
