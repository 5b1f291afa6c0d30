//! Changes bytes in ways that readers get wrong: bits, lengths, counts, cuts, repeats, parts of others.

/// Repeatable chance.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`, or 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len());
        from.get(at)
    }
}

/// Lengths and counts next to which readers go wrong.
const TELLING: &[u64] = &[
    0,
    1,
    2,
    15,
    16,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xffff,
    0x1_0000,
    (2 << 20) - 1,
    2 << 20,
    (2 << 20) + 1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

const CHANGES_MAX: usize = 6;
const PIECE_BYTES_MAX: usize = 64;

/// `base` with some changes; some take parts of `other`.
pub(crate) fn changed(random: &mut Random, mut base: Vec<u8>, other: &[u8]) -> Vec<u8> {
    for _ in 0..1 + random.below(CHANGES_MAX) {
        change(random, &mut base, other);
    }
    base
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len());
    match random.below(12) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        3 | 4 => set_number(random, bytes, at),
        5 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte
                    .wrapping_add(1 + random.below(16) as u8)
                    .wrapping_sub(8);
            }
        }
        6 => bytes.truncate(at),
        7 => {
            let end = bytes.len().min(at + 1 + random.below(PIECE_BYTES_MAX));
            bytes.drain(at.min(end)..end);
        }
        8 => {
            let piece: Vec<u8> = (0..1 + random.below(16))
                .map(|_| random.next() as u8)
                .collect();
            bytes.splice(at..at, piece);
        }
        9 => {
            let end = bytes.len().min(at + 1 + random.below(PIECE_BYTES_MAX));
            let piece = bytes[at.min(end)..end].to_vec();
            let times = 1 + random.below(4);
            bytes.splice(at..at, piece.repeat(times));
        }
        10 => {
            let from = random.below(other.len());
            let end = other
                .len()
                .min(from + 1 + random.below(4 * PIECE_BYTES_MAX));
            let piece = other[from.min(end)..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
    }
}

/// A number of one of the usual widths, in either order of bytes: a telling one, or a true length.
fn set_number(random: &mut Random, bytes: &mut [u8], at: usize) {
    let width = [1, 2, 4, 4, 8, 8][random.below(6)];
    let left = (bytes.len() - at) as u64;
    let value = match random.below(4) {
        0 => left.saturating_sub(width as u64),
        1 => left.wrapping_add(random.below(9) as u64).wrapping_sub(4),
        _ => TELLING[random.below(TELLING.len())],
    };
    let mut said = value.to_le_bytes();
    if random.below(8) == 0 {
        said[..width].reverse();
    }
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&said[..width]);
    }
}
