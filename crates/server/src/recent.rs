//! A topic's latest deliveries, encoded: a thousand subscribers at the same place cost one read and one
//! encoding.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use kontiki_wire::{Deliver, DeliveredBatch, Offset};

use crate::limits::{
    DELIVERIES_KEPT_BYTES_IN_ALL_MAX, DELIVERIES_KEPT_BYTES_MAX, DELIVERIES_KEPT_MAX,
};

/// The latest, newest at the end.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kept: Mutex<Kept>,
    in_all: KeptBytes,
}

/// Bytes that all topics keep. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptBytes(Arc<AtomicUsize>);

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
    /// None yet; what is kept counts into what all topics keep.
    pub(crate) fn new(in_all: KeptBytes) -> Self {
        Self {
            in_all,
            kept: Mutex::default(),
        }
    }

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
        let before = kept.bytes;
        kept.bytes += delivery.frame.len();
        kept.deliveries.push_back(delivery.clone());
        while kept.deliveries.len() > DELIVERIES_KEPT_MAX || kept.bytes > DELIVERIES_KEPT_BYTES_MAX
        {
            let oldest = kept.deliveries.pop_front().expect("there is one too many");
            kept.bytes -= oldest.frame.len();
        }
        if self.in_all.change(before, kept.bytes) > DELIVERIES_KEPT_BYTES_IN_ALL_MAX {
            self.forget(&mut kept);
        }
        delivery
    }

    /// Keeps none of them any more: there is nobody to share with.
    pub(crate) fn clear(&self) {
        self.forget(&mut self.kept.lock().expect(SOUND));
    }

    fn forget(&self, kept: &mut Kept) {
        self.in_all.change(kept.bytes, 0);
        *kept = Kept::default();
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        self.clear();
    }
}

impl KeptBytes {
    /// One topic keeps so many where it kept so many before; says how many all do.
    fn change(&self, before: usize, now: usize) -> usize {
        self.0.fetch_add(now, Ordering::Relaxed);
        self.0.fetch_sub(before, Ordering::Relaxed) - before
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

    #[test]
    fn topic_that_finds_too_much_kept_over_all_keeps_nothing_until_others_do_not() {
        let in_all = KeptBytes::default();
        let large = DELIVERIES_KEPT_BYTES_MAX - 100;
        let fitting = DELIVERIES_KEPT_BYTES_IN_ALL_MAX / large;
        let many: Vec<_> = (0..=fitting).map(|_| Recent::new(in_all.clone())).collect();
        let encode = |recent: &Recent| recent.encode(Offset(0), Offset(1), vec![batch(0, large)]);
        let kept = |recent: &Recent| recent.find(Offset(0), Offset(1)).is_some();
        for recent in &many {
            encode(recent);
        }
        assert!(many[..fitting].iter().all(kept) && !kept(&many[fitting]));

        many[0].clear();
        encode(&many[fitting]);
        assert!(!kept(&many[0]) && kept(&many[fitting]));
        drop(many);
        assert_eq!(in_all.0.load(Ordering::Relaxed), 0);
    }
}
