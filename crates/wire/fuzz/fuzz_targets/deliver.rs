//! Deliveries, the checksums of their batches made to match where the head says that they lie.

#![no_main]

use bytes::BytesMut;
use kontiki_wire::{Batch, Deliver, FrameKind};
use kontiki_wire_fuzz::{assert_said_the_same, lie, number, seal_batch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let mut payload = payload.to_vec();
    let count = number(&payload, 8).min(payload.len());
    let head = 12 + 20 * count;
    let mut at = head;
    for place in 0..count {
        let end = at.saturating_add(number(&payload, 12 + 20 * place + 16));
        let Some(batch) = payload.get_mut(at..end) else {
            break;
        };
        seal_batch(batch);
        at = end;
    }
    let frame = lie(FrameKind::Deliver, &payload, head);
    if let Ok(delivery) = Deliver::decode(&frame) {
        for delivered in &delivery.batches {
            let batch = Batch::trusted(delivered.batch.clone()).expect("an intact batch");
            batch.records().for_each(drop);
        }
        let mut again = BytesMut::new();
        delivery.encode(&mut again);
        assert_said_the_same(&again, &payload);
    }
});
