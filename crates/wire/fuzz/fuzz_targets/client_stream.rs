//! How a client opens a stream, and how a server ends one.

#![no_main]

use bytes::BytesMut;
use kontiki_wire::{ClientStream, FrameKind, StreamEnd};
use kontiki_wire_fuzz::{assert_said_the_same, lie};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let mut again = BytesMut::new();
    if let Ok(opening) = ClientStream::decode(&lie(FrameKind::Open, payload, payload.len())) {
        opening.encode(&mut again);
        assert_said_the_same(&again, payload);
        again.clear();
    }
    if let Ok(end) = StreamEnd::decode(&lie(FrameKind::End, payload, payload.len())) {
        end.encode(&mut again);
        assert_said_the_same(&again, payload);
    }
});
