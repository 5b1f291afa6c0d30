//! A subscription's stream: batches at their places, in order.
//!
//! ```text
//!  0  watermark  u64
//!  8  count      u32
//! 12  places     each: offset u64, time u64, batch length u32
//!     batches    one after the other; not under the frame's checksum, they have their own
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    batch::Batch,
    frame::{self, FRAME_HEADER_BYTES, Frame, FrameKind},
    ids::Offset,
    limits::{BATCH_BYTES_MAX, DELIVERY_BATCHES_MAX},
    malformed::Malformed,
    scan::Scan,
};

/// A stretch of batches for a subscriber, contiguous in offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deliver {
    /// The watermark when this was sent: the subscriber has caught up when it has read up to it.
    pub watermark: Offset,
    /// The batches. May be empty: a sign of life that carries the watermark.
    pub batches: Vec<DeliveredBatch>,
}

/// One batch at its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveredBatch {
    /// The offset of its first record.
    pub offset: Offset,
    /// The leader's clock when it was appended, microseconds since the Unix epoch.
    pub time: u64,
    /// Its bytes.
    pub batch: Bytes,
}

impl Deliver {
    /// Appends the frame to `out`, the batches' bytes included.
    ///
    /// # Panics
    /// If the batches cross the bounds of a delivery ([`crate::limits::DELIVERY_BYTES_MAX`] of batches,
    /// or one batch, never do).
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_head(out);
        for batch in &self.batches {
            out.put_slice(&batch.batch);
        }
    }

    /// Appends the frame to `out` as pieces to be written one after the other; the batches are handed
    /// on without a copy.
    ///
    /// # Panics
    /// As [`Deliver::encode`].
    pub fn encode_pieces(&self, out: &mut Vec<Bytes>) {
        let mut head = BytesMut::new();
        self.encode_head(&mut head);
        out.push(head.freeze());
        out.extend(self.batches.iter().map(|batch| batch.batch.clone()));
    }

    fn encode_head(&self, out: &mut BytesMut) {
        let count = self.batches.len();
        assert!(
            count <= DELIVERY_BATCHES_MAX,
            "{count} batches in one delivery"
        );
        let batches: usize = self.batches.iter().map(|batch| batch.batch.len()).sum();
        let head_bytes = DELIVER_BYTES + count * PLACE_BYTES;
        out.reserve(FRAME_HEADER_BYTES + head_bytes);
        let start = out.len();
        out.put_bytes(0, FRAME_HEADER_BYTES);
        out.put_u64_le(self.watermark.0);
        out.put_u32_le(count as u32);
        for batch in &self.batches {
            out.put_u64_le(batch.offset.0);
            out.put_u64_le(batch.time);
            out.put_u32_le(batch.batch.len() as u32);
        }
        let checksum = crc32c::crc32c(&out[start + FRAME_HEADER_BYTES..]);
        let header = frame::header(FrameKind::Deliver, head_bytes + batches, checksum);
        out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&header);
    }

    /// Reads it, verifying each batch's checksums ([`Batch::intact`]), and that the batches follow
    /// one another up to at most the watermark. They share the frame's bytes.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        let mut scan = Scan::new(DELIVERY, &frame.payload);
        scan.take(DELIVER_BYTES - 4)?;
        let count = scan.count("the number of batches", DELIVERY_BATCHES_MAX)?;
        let head = frame.head(FrameKind::Deliver, DELIVER_BYTES + count * PLACE_BYTES)?;

        let mut at = head.len();
        let mut scan = Scan::new(DELIVERY, head);
        let watermark = Offset(scan.u64()?);
        scan.u32()?;
        let mut batches = Vec::with_capacity(count);
        let mut next = None;
        for _ in 0..count {
            let (offset, time) = (Offset(scan.u64()?), scan.u64()?);
            let length = scan.count("the length of a batch", BATCH_BYTES_MAX)?;
            let mut body = Scan::new(DELIVERY, &frame.payload[at..]);
            body.take(length)?;
            let batch = frame.payload.slice(at..at + length);
            at += length;
            let end = end_of(offset, &batch)?;
            if next.is_some_and(|next| next != offset) || end > watermark {
                return Err(Malformed::Inconsistent {
                    what: "the batches of a delivery leave a gap, overlap, or pass the watermark",
                });
            }
            next = Some(end);
            batches.push(DeliveredBatch {
                offset,
                time,
                batch,
            });
        }
        match frame.payload.len() - at {
            0 => Ok(Self { watermark, batches }),
            left => Err(Malformed::Trailing {
                what: DELIVERY,
                left,
            }),
        }
    }
}

const DELIVERY: &str = "a delivery";
const DELIVER_BYTES: usize = 12;
const PLACE_BYTES: usize = 20;

/// The offset after an intact batch's last record.
fn end_of(offset: Offset, batch: &Bytes) -> Result<Offset, Malformed> {
    let count = Batch::intact(batch.clone())?.header().count;
    let end = offset.0.checked_add(count.into());
    end.map(Offset).ok_or(Malformed::Unknown {
        what: "the offset of a batch",
        value: offset.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::BatchBuilder,
        ids::ProducerId,
        limits::{CLIENT_FRAME_BYTES_MAX, DELIVERY_BYTES_MAX},
        record::Record,
    };

    /// Batches of these many records, back to back from `offset`.
    fn delivery(watermark: u64, mut offset: u64, counts: &[u64]) -> Deliver {
        let mut batches = Vec::new();
        for &count in counts {
            let mut builder = BatchBuilder::new(0);
            for _ in 0..count {
                builder.push(&Record::default()).unwrap();
            }
            batches.push(DeliveredBatch {
                offset: Offset(offset),
                time: 7,
                batch: builder.finish(ProducerId(0), 0, 0).bytes().clone(),
            });
            offset = offset.wrapping_add(count);
        }
        Deliver {
            watermark: Offset(watermark),
            batches,
        }
    }

    fn frame(delivery: &Deliver) -> Frame {
        let mut out = BytesMut::new();
        delivery.encode(&mut out);
        let frame = Frame::take(&mut out, CLIENT_FRAME_BYTES_MAX);
        assert!(out.is_empty());
        frame.unwrap().expect("a whole frame")
    }

    #[test]
    fn deliveries_round_trip_and_their_batches_share_the_frame() {
        for counts in [&[][..], &[1], &[3, 1, 2]] {
            let delivery = delivery(16, 10, counts);
            let frame = frame(&delivery);
            let read = Deliver::decode(&frame).unwrap();
            assert_eq!(read, delivery);
            for batch in read.batches {
                assert!(frame.payload.as_ptr_range().contains(&batch.batch.as_ptr()));
            }
        }
    }

    #[test]
    fn pieces_joined_are_the_frame_and_batches_are_not_copied() {
        let delivery = delivery(16, 10, &[3, 1]);
        let mut pieces = Vec::new();
        delivery.encode_pieces(&mut pieces);
        let mut whole = BytesMut::new();
        whole.put_slice(b"before");
        delivery.encode(&mut whole);
        assert_eq!(pieces.concat(), whole[6..]);
        assert_eq!(pieces[1].as_ptr(), delivery.batches[0].batch.as_ptr());
    }

    #[test]
    fn the_most_and_the_largest_batches_fit_a_frame() {
        let smallest = delivery(0, 0, &[1]).batches.remove(0);
        let count = DELIVERY_BYTES_MAX / smallest.batch.len();
        let many = delivery(count as u64, 0, &vec![1; count]);
        assert_eq!(Deliver::decode(&frame(&many)), Ok(many));
    }

    #[test]
    fn batches_that_do_not_follow_one_another_or_pass_the_watermark_are_refused() {
        let refused = |delivery: &Deliver| {
            matches!(
                Deliver::decode(&frame(delivery)),
                Err(Malformed::Inconsistent { .. })
            )
        };
        assert!(!refused(&delivery(14, 10, &[3, 1])));
        assert!(refused(&delivery(13, 10, &[3, 1])));
        for offset in [12, 14] {
            let mut delivery = delivery(20, 10, &[3, 1]);
            delivery.batches[1].offset = Offset(offset);
            assert!(refused(&delivery));
        }
        let overflowing = delivery(u64::MAX, u64::MAX, &[1]);
        assert!(matches!(
            Deliver::decode(&frame(&overflowing)),
            Err(Malformed::Unknown { .. })
        ));
    }

    #[test]
    fn damage_in_head_or_batches_is_found() {
        let sound = frame(&delivery(16, 10, &[3, 1]));
        for at in 0..sound.payload.len() {
            let mut payload = sound.payload.to_vec();
            payload[at] ^= 0x10;
            let damaged = Frame {
                payload: payload.into(),
                ..sound
            };
            assert!(Deliver::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn bytes_after_the_last_batch_are_refused() {
        let sound = frame(&delivery(16, 10, &[3]));
        let longer = Frame {
            payload: [&sound.payload[..], b"!"].concat().into(),
            ..sound
        };
        assert!(matches!(
            Deliver::decode(&longer),
            Err(Malformed::Trailing { left: 1, .. })
        ));
    }
}
