//! Checksums made to match, so that a hunter gets past them, and the claim that what is understood is
//! said in exactly one way.

use bytes::BytesMut;
use kontiki_wire::{FRAME_HEADER_BYTES, Frame, FrameKind};

/// A frame around `payload` whose checksum covers its first `head` bytes, or all there are.
pub(crate) fn lie(kind: FrameKind, payload: &[u8], head: usize) -> Frame {
    Frame {
        kind,
        checksum: crc32c::crc32c(&payload[..head.min(payload.len())]),
        payload: payload.to_vec().into(),
    }
}

/// The little-endian number at `at`, or 0.
pub(crate) fn number(bytes: &[u8], at: usize) -> usize {
    let number = bytes.get(at..).and_then(<[u8]>::first_chunk);
    number.map_or(0, |number| u32::from_le_bytes(*number) as usize)
}

/// Makes the last four of these bytes the checksum of the others.
pub(crate) fn seal(bytes: &mut [u8]) {
    if let Some(at) = bytes.len().checked_sub(4) {
        let checksum = crc32c::crc32c(&bytes[..at]);
        bytes[at..].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Makes the checksums of the one batch in `bytes` match.
pub(crate) fn seal_batch(bytes: &mut [u8]) {
    if bytes.len() >= 64 {
        let records = crc32c::crc32c(&bytes[64..]);
        bytes[12..16].copy_from_slice(&records.to_le_bytes());
        let header = crc32c::crc32c(&bytes[..60]).rotate_right(15);
        bytes[60..64].copy_from_slice(&header.wrapping_add(0xa282_ead8).to_le_bytes());
    }
}

/// Panics unless `again`, a frame, has just this payload.
pub(crate) fn assert_said_the_same(again: &BytesMut, payload: &[u8]) {
    assert_eq!(
        &again[FRAME_HEADER_BYTES..],
        payload,
        "two spellings of one thing"
    );
}
