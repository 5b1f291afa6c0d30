//! The checksum of the one body that is made here: a configuration's. All others come with theirs.

/// CRC-32C, bit by bit: a configuration is short, and rare.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (carry * POLYNOMIAL);
        }
    }
    !crc
}

/// Castagnoli's, bit-reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_standard_says() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0, "as an entry without a body has it");
    }
}
