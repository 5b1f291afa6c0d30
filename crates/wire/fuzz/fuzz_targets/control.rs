//! Control messages and small states.

#![no_main]

use bytes::BytesMut;
use kontiki_wire::{
    ClusterCommand, ClusterState, FrameKind, Refusal, Request, Response, TopicState, decode,
    encode, limits::CHECKPOINT_BYTES_MAX,
};
use kontiki_wire_fuzz::{assert_said_the_same, lie};
use libfuzzer_sys::fuzz_target;

macro_rules! small {
    ($bytes:expr, $($type:ty),+) => {$(
        if let Ok(value) = decode::<$type>("a value", $bytes, CHECKPOINT_BYTES_MAX) {
            assert_eq!(encode(&value), $bytes, "two spellings of one value");
        }
    )+};
}

fuzz_target!(|payload: &[u8]| {
    let mut again = BytesMut::new();
    if let Ok(request) = Request::decode(&lie(FrameKind::Request, payload, payload.len())) {
        request.encode(&mut again);
        assert_said_the_same(&again, payload);
        again.clear();
    }
    if let Ok(response) = Response::decode(&lie(FrameKind::Response, payload, payload.len())) {
        response.encode(&mut again);
        assert_said_the_same(&again, payload);
    }
    small!(payload, Refusal, ClusterCommand, ClusterState, TopicState);
});
