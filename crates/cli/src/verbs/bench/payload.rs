//! Payloads that say who sent them, as which, and when, and that nothing can compress.
//!
//! ```text
//! 0  magic     u32   "KTBQ"
//! 4  producer  u32
//! 8  run       u64   drawn once for each bench
//! 16 sequence  u64   counted by the producer, from 0
//! 24 sent      u64   nanoseconds since the run began: when it was to be sent
//! 32 noise           one block of noise after the other, each turned into another by a key from the four
//!                    numbers and its place: whoever makes the load has to be cheaper than who bears it
//! ```

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the smallest payload.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 32;
/// Bytes taken from the allocator at a time.
const ARENA_BYTES: usize = 1 << 20;
/// Words of noise before the key changes.
const BLOCK_WORDS: usize = 512;
static BLOCK: [u64; BLOCK_WORDS] = block();
const WORD_BYTES: usize = 8;
const MAGIC: u32 = u32::from_be_bytes(*b"KTBQ");

/// What a payload says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Which producer of the run.
    pub(crate) producer: u32,
    /// Which run.
    pub(crate) run: u64,
    /// Which of the producer's records.
    pub(crate) sequence: u64,
    /// When it was to be sent, since the run began.
    pub(crate) sent: Duration,
}

/// Why bytes are no payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    /// Something else wrote this record.
    Foreign,
    /// It begins as a payload of this run, but its noise is not what its numbers make.
    Altered(u64),
}

/// Makes payloads of one size.
pub(crate) struct Payloads {
    size: usize,
    arena: BytesMut,
}

impl Payloads {
    /// Of `size` bytes, at least [`PAYLOAD_BYTES_MIN`].
    pub(crate) fn new(size: usize) -> Self {
        assert!(size >= PAYLOAD_BYTES_MIN, "the stamp fits");
        Self {
            size,
            arena: BytesMut::new(),
        }
    }

    /// The payload that says this.
    pub(crate) fn make(&mut self, stamp: Stamp) -> Bytes {
        if self.arena.capacity() < self.size {
            self.arena = BytesMut::with_capacity(ARENA_BYTES.max(self.size));
        }
        let sent = nanos(stamp.sent);
        self.arena.put_u32(MAGIC);
        self.arena.put_u32(stamp.producer);
        self.arena.put_u64(stamp.run);
        self.arena.put_u64(stamp.sequence);
        self.arena.put_u64(sent);
        self.arena.resize(self.size, 0);
        let mut keys = Noise::of(stamp, sent);
        for block in self.arena[PAYLOAD_BYTES_MIN..].chunks_mut(BLOCK_WORDS * WORD_BYTES) {
            let key = keys.next();
            let (words, rest) = block.as_chunks_mut();
            for (word, noise) in words.iter_mut().zip(&BLOCK) {
                *word = (noise ^ key).to_le_bytes();
            }
            rest.copy_from_slice(&rest_of(words.len(), key)[..rest.len()]);
        }
        self.arena.split().freeze()
    }
}

impl Stamp {
    /// What `payload` says, if it is whole.
    pub(crate) fn verify(payload: &[u8]) -> Result<Self, Wrong> {
        let (stamp, sent, noise_bytes) = Self::read(payload)?;
        let mut keys = Noise::of(stamp, sent);
        let same = noise_bytes.chunks(BLOCK_WORDS * WORD_BYTES).all(|block| {
            let key = keys.next();
            let (words, rest) = block.as_chunks();
            let differing = words
                .iter()
                .zip(&BLOCK)
                .fold(0, |differing, (word, noise)| {
                    differing | (u64::from_le_bytes(*word) ^ noise ^ key)
                });
            differing == 0 && *rest == rest_of(words.len(), key)[..rest.len()]
        });
        if same {
            Ok(stamp)
        } else {
            Err(Wrong::Altered(stamp.run))
        }
    }

    fn read(payload: &[u8]) -> Result<(Self, u64, &[u8]), Wrong> {
        let (head, noise) = payload
            .split_at_checked(PAYLOAD_BYTES_MIN)
            .ok_or(Wrong::Foreign)?;
        let u32_at =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        if u32_at(0) != MAGIC {
            return Err(Wrong::Foreign);
        }
        let sent = u64_at(24);
        let stamp = Self {
            producer: u32_at(4),
            run: u64_at(8),
            sequence: u64_at(16),
            sent: Duration::from_nanos(sent),
        };
        Ok((stamp, sent, noise))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The word after so many of a block, of which a payload may have the beginning only.
fn rest_of(words: usize, key: u64) -> [u8; WORD_BYTES] {
    (BLOCK[words % BLOCK_WORDS] ^ key).to_le_bytes()
}

const fn block() -> [u64; BLOCK_WORDS] {
    let mut words = [0; BLOCK_WORDS];
    let mut noise = Noise(0);
    let mut at = 0;
    while at < BLOCK_WORDS {
        words[at] = noise.next();
        at += 1;
    }
    words
}

/// splitmix64.
struct Noise(u64);

impl Noise {
    fn of(stamp: Stamp, sent: u64) -> Self {
        let seed = Self(stamp.run ^ u64::from(stamp.producer).rotate_left(32)).next();
        Self(Self(seed ^ stamp.sequence).next() ^ sent)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64) -> Stamp {
        Stamp {
            producer: 3,
            run: 7,
            sequence,
            sent: Duration::from_nanos(123_456_789),
        }
    }

    #[test]
    fn a_payload_of_every_size_says_what_it_was_made_from() {
        let block_end = PAYLOAD_BYTES_MIN + BLOCK_WORDS * WORD_BYTES;
        for size in (PAYLOAD_BYTES_MIN..PAYLOAD_BYTES_MIN + 40).chain(block_end - 9..block_end + 9)
        {
            let payload = Payloads::new(size).make(stamp(9));
            assert_eq!(payload.len(), size);
            assert_eq!(Stamp::verify(&payload), Ok(stamp(9)));
        }
    }

    #[test]
    fn one_changed_byte_anywhere_is_noticed() {
        let payload =
            Payloads::new(PAYLOAD_BYTES_MIN + 2 * BLOCK_WORDS * WORD_BYTES + 13).make(stamp(9));
        for at in (0..200).chain(payload.len() - 4_200..payload.len()) {
            let mut changed = payload.to_vec();
            changed[at] ^= 1;
            let expected = match at {
                0..4 => Wrong::Foreign,
                8..16 => Wrong::Altered(7 ^ 1 << (8 * (15 - at))),
                _ => Wrong::Altered(7),
            };
            assert_eq!(Stamp::verify(&changed), Err(expected), "byte {at}");
        }
    }

    #[test]
    fn what_something_else_wrote_is_foreign() {
        assert_eq!(Stamp::verify(b"hello"), Err(Wrong::Foreign));
        assert_eq!(Stamp::verify(&[0; 100]), Err(Wrong::Foreign));
    }

    #[test]
    fn neighbours_and_blocks_share_no_noise() {
        const BLOCK_BYTES: usize = BLOCK_WORDS * WORD_BYTES;
        let same = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a == b).count();
        let mut payloads = Payloads::new(PAYLOAD_BYTES_MIN + 2 * BLOCK_BYTES);
        let first = payloads.make(stamp(1)).split_off(PAYLOAD_BYTES_MIN);
        let second = payloads.make(stamp(2)).split_off(PAYLOAD_BYTES_MIN);
        // One of eight bytes of a key may happen to be that of another.
        assert!(same(&first[..BLOCK_BYTES], &second[..BLOCK_BYTES]) <= BLOCK_BYTES / 8);
        assert!(same(&first[..BLOCK_BYTES], &first[BLOCK_BYTES..]) <= BLOCK_BYTES / 8);
    }
}
