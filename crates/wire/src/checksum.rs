//! CRC-32C (Castagnoli), and the two things about it that are easy to get wrong: joining the checksums
//! of two parts without reading them again, and storing a checksum inside bytes that get another.

/// The checksum of an entry's body, computed once where the body is made and verified wherever it
/// arrives.
#[must_use]
pub fn entry_checksum(body: &[u8]) -> u32 {
    crc32c::crc32c(body)
}

/// The checksum of `a` followed by `b`, from the checksum of each and the length of `b`.
///
/// Takes a third of a microsecond; `crc32c::crc32c_combine` squares matrices and takes seven, about as
/// long as reading 200 KiB again would.
pub(crate) fn joined(a: u32, b: u32, b_bytes: usize) -> u32 {
    // Appending n zero bytes multiplies by x^8n; the exponents of 2 start at 3 because of the 8.
    let mut shift = ONE;
    let mut left = b_bytes;
    let mut power = 3;
    while left > 0 {
        if left & 1 == 1 {
            shift = product(POWERS[power & 31], shift);
        }
        left >>= 1;
        power += 1;
    }
    product(shift, a) ^ b
}

/// How a checksum is stored right behind the bytes it covers, when both are to be covered by another
/// CRC: over bytes that end in their own plain CRC, every CRC has the same value, whatever they say.
pub(crate) fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The polynomial, bit-reversed as CRC-32C has it: the highest bit is x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;

/// x^(2^n) modulo the polynomial.
const POWERS: [u32; 32] = {
    let mut powers = [0; 32];
    powers[0] = 1 << 30;
    let mut n = 1;
    while n < powers.len() {
        powers[n] = product(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
};

/// The product modulo the polynomial.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    let mut bit = ONE;
    while bit > 0 {
        if a & bit != 0 {
            sum ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_checksums_are_those_of_the_joined_bytes() {
        let bytes: Vec<u8> = (0..70_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        for cut in [0, 1, 7, 64, 65, 4095, 32_768, 69_999, 70_000] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(
                joined(crc32c::crc32c(a), crc32c::crc32c(b), b.len()),
                crc32c::crc32c(&bytes),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_masked_checksum_keeps_the_bytes_visible_to_an_outer_one() {
        let outer = |text: &[u8], store: fn(u32) -> u32| {
            let inner = store(crc32c::crc32c(text));
            crc32c::crc32c(&[text, &inner.to_le_bytes()].concat())
        };
        assert_eq!(outer(b"left", |c| c), outer(b"rite", |c| c), "the trap");
        assert_ne!(outer(b"left", masked), outer(b"rite", masked));
    }
}
