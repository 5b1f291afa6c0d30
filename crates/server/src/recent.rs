//! A topic's latest deliveries, encoded: a thousand subscribers at the same place cost one read and one
//! encoding.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use kontiki_wire::{Deliver, DeliveredBatch, Offset};

use crate::limits::{DELIVERIES_KEPT_BYTES_MAX, DELIVERIES_KEPT_MAX};

/// The latest, newest at the end.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    deliveries: VecDeque<Arc<Delivery>>,
    bytes: usize,
}

/// One stretch of a topic as it travels.
#[derive(Debug)]
pub(crate) struct Delivery {
    from: Offset,
    watermark: Offset,
    pub(crate) batches: Vec<DeliveredBatch>,
    /// The whole frame.
    pub(crate) frame: Bytes,
}

impl Recent {
    /// The delivery for exactly this stretch, which ends at the watermark.
    pub(crate) fn find(&self, from: Offset, watermark: Offset) -> Option<Arc<Delivery>> {
        let kept = self.kept.lock().expect(SOUND);
        let fits =
            |delivery: &&Arc<Delivery>| delivery.from == from && delivery.watermark == watermark;
        kept.deliveries.iter().rev().find(fits).cloned()
    }

    /// Encodes what was read of such a stretch, and keeps it.
    pub(crate) fn encode(
        &self,
        from: Offset,
        watermark: Offset,
        batches: Vec<DeliveredBatch>,
    ) -> Arc<Delivery> {
        let (batches, frame) = encode(watermark, batches);
        let delivery = Arc::new(Delivery {
            from,
            watermark,
            batches,
            frame,
        });
        let mut kept = self.kept.lock().expect(SOUND);
        kept.bytes += delivery.frame.len();
        kept.deliveries.push_back(delivery.clone());
        while kept.deliveries.len() > DELIVERIES_KEPT_MAX || kept.bytes > DELIVERIES_KEPT_BYTES_MAX
        {
            let oldest = kept.deliveries.pop_front().expect("there is one too many");
            kept.bytes -= oldest.frame.len();
        }
        delivery
    }
}

/// A delivery's frame; hands the batches back.
pub(crate) fn encode(
    watermark: Offset,
    batches: Vec<DeliveredBatch>,
) -> (Vec<DeliveredBatch>, Bytes) {
    let bytes: usize = batches
        .iter()
        .map(|batch| batch.batch.len() + BATCH_OVERHEAD)
        .sum();
    let mut out = BytesMut::with_capacity(bytes + FRAME_OVERHEAD);
    let deliver = Deliver { watermark, batches };
    deliver.encode(&mut out);
    (deliver.batches, out.freeze())
}

/// Room for what a frame says of each batch, and of itself; only to allocate once.
const BATCH_OVERHEAD: usize = 32;
const FRAME_OVERHEAD: usize = 64;
const SOUND: &str = "nothing panics while holding it";

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(offset: u64, bytes: usize) -> DeliveredBatch {
        DeliveredBatch {
            offset: Offset(offset),
            time: 1,
            batch: Bytes::from(vec![7; bytes]),
        }
    }

    #[test]
    fn delivery_is_found_again_for_its_very_stretch_only() {
        let recent = Recent::default();
        let made = recent.encode(Offset(1), Offset(3), vec![batch(1, 10)]);
        let found = recent.find(Offset(1), Offset(3)).expect("it was just made");
        assert_eq!(found.frame, made.frame);
        assert!(recent.find(Offset(1), Offset(4)).is_none());
        assert!(recent.find(Offset(2), Offset(3)).is_none());
    }

    #[test]
    fn oldest_go_when_there_are_too_many_or_too_many_bytes_of_them() {
        let recent = Recent::default();
        let kept = |at: u64| recent.find(Offset(at), Offset(at + 1)).is_some();
        let many = DELIVERIES_KEPT_MAX as u64 + 1;
        for at in 0..many {
            recent.encode(Offset(at), Offset(at + 1), vec![batch(at, 10)]);
        }
        assert!(!kept(0) && (1..many).all(kept));

        recent.encode(
            Offset(100),
            Offset(101),
            vec![batch(100, DELIVERIES_KEPT_BYTES_MAX)],
        );
        let held = recent.kept.lock().unwrap();
        assert!(held.deliveries.is_empty() && held.bytes == 0);
    }
}
