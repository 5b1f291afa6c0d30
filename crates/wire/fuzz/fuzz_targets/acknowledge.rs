//! Answers to a producer.

#![no_main]

use bytes::BytesMut;
use kontiki_wire::{Acknowledged, FrameKind};
use kontiki_wire_fuzz::{assert_said_the_same, lie};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let frame = lie(FrameKind::Acknowledge, payload, payload.len());
    if let Ok(answers) = Acknowledged::decode(&frame) {
        let mut again = BytesMut::new();
        Acknowledged::encode(&answers, &mut again);
        assert_said_the_same(&again, payload);
        for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(!refused.refusal.to_string().contains(char::is_control));
        }
    }
});
