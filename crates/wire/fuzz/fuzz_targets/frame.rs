//! Frames off a buffer that holds anything.

#![no_main]

use bytes::BytesMut;
use kontiki_wire::{Frame, limits::CLIENT_FRAME_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut sealed = bytes.to_vec();
    if sealed.len() >= 16 {
        let header = crc32c::crc32c(&sealed[..12]);
        sealed[12..16].copy_from_slice(&header.to_le_bytes());
    }
    for bytes in [bytes, &sealed] {
        let mut buffer = BytesMut::from(bytes);
        let mut left = buffer.len();
        while let Ok(Some(frame)) = Frame::take(&mut buffer, CLIENT_FRAME_BYTES_MAX) {
            assert_eq!(left, 16 + frame.payload.len() + buffer.len());
            left = buffer.len();
        }
    }
});
