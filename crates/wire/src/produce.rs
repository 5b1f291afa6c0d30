//! A producer's stream: batches one way, acknowledgements and refusals the other.
//!
//! A `Produce` frame is a batch, whose checksums are its own. An `Acknowledge` frame:
//!
//! ```text
//!  0  count     u32
//!  4  answers   each: sequence u64, offset u64, time u64, refusal length u32: 0 if acknowledged,
//!               otherwise offset and time are 0
//!     refusals  one after the other
//! ```

use bytes::{BufMut, BytesMut};

use crate::{
    batch::Batch,
    codec,
    frame::{self, Frame, FrameKind, encode_frame},
    ids::Offset,
    limits::{ANSWERS_MAX, CLIENT_FRAME_BYTES_MAX, REFUSAL_BYTES_MAX},
    malformed::Malformed,
    refusal::Refusal,
    scan::Scan,
};

/// A batch to append, as it travels: the payload is the batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Produced {
    /// The batch.
    pub batch: Batch,
}

/// The batch with this first sequence is on the disks of a majority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// The sequence of the batch's first record.
    pub sequence: u64,
    /// The offset of the batch's first record; the others follow densely.
    pub offset: Offset,
    /// The leader's clock when it was appended, microseconds since the Unix epoch.
    pub time: u64,
}

/// The batch with this first sequence was not appended, or nobody knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendRefused {
    /// The sequence of the batch's first record.
    pub sequence: u64,
    /// Why.
    pub refusal: Refusal,
}

impl Produced {
    /// Appends the frame's header to `out`; the batch's bytes are to follow as they are.
    pub fn encode_header(batch: &Batch, out: &mut BytesMut) {
        let nothing = crc32c::crc32c(&[]);
        out.put_slice(&frame::header(
            FrameKind::Produce,
            batch.bytes().len(),
            nothing,
        ));
    }

    /// Reads and fully verifies the batch.
    pub fn decode(frame: &Frame) -> Result<Self, Malformed> {
        frame.head(FrameKind::Produce, 0)?;
        let batch = Batch::verify(frame.payload.clone())?;
        Ok(Self { batch })
    }
}

/// An answer on a producer's stream.
pub type Answer = Result<Acknowledged, AppendRefused>;

impl AppendRefused {
    /// See [`Refusal::certainly_nothing_happened`].
    #[must_use]
    pub fn certainly_nothing_happened(&self) -> bool {
        self.refusal.certainly_nothing_happened()
    }

    /// See [`Refusal::is_retryable`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.refusal.is_retryable()
    }
}

impl Acknowledged {
    /// Appends all these answers, in order, to `out`: one frame, or several if they cross its bounds.
    pub fn encode(answers: &[Answer], out: &mut BytesMut) {
        for answers in answers.chunks(ANSWERS_MAX) {
            encode_answers(answers, out);
        }
    }

    /// Reads the answers of one frame.
    pub fn decode(frame: &Frame) -> Result<Vec<Answer>, Malformed> {
        let payload = frame.whole(FrameKind::Acknowledge)?;
        let mut scan = Scan::new("an acknowledgement", payload);
        let count = scan.count("the number of answers", ANSWERS_MAX)?;
        if count == 0 {
            return Err(Malformed::Inconsistent {
                what: "an acknowledgement without an answer",
            });
        }
        let heads = scan.take(count * ANSWER_BYTES)?;
        let answers = heads
            .chunks_exact(ANSWER_BYTES)
            .map(|head| decode_answer(head, &mut scan))
            .collect::<Result<_, _>>()?;
        scan.end()?;
        Ok(answers)
    }
}

const ANSWER_BYTES: usize = 28;

/// At most [`ANSWERS_MAX`] answers, in as many frames as their refusals need.
fn encode_answers(mut answers: &[Answer], out: &mut BytesMut) {
    while !answers.is_empty() {
        let mut heads = BytesMut::with_capacity(4 + answers.len() * ANSWER_BYTES);
        let mut refusals = Vec::new();
        heads.put_u32_le(0);
        let mut count = 0;
        for answer in answers {
            let room = CLIENT_FRAME_BYTES_MAX - heads.len() - refusals.len();
            if room < ANSWER_BYTES + REFUSAL_BYTES_MAX {
                break;
            }
            encode_answer(answer, &mut heads, &mut refusals);
            count += 1;
        }
        heads[..4].copy_from_slice(&(count as u32).to_le_bytes());
        heads.put_slice(&refusals);
        encode_frame(FrameKind::Acknowledge, &heads, out);
        answers = &answers[count..];
    }
}

fn encode_answer(answer: &Answer, heads: &mut BytesMut, refusals: &mut Vec<u8>) {
    match answer {
        Ok(acknowledged) => {
            heads.put_u64_le(acknowledged.sequence);
            heads.put_u64_le(acknowledged.offset.0);
            heads.put_u64_le(acknowledged.time);
            heads.put_u32_le(0);
        }
        Err(refused) => {
            let refusal = codec::encode(&refused.refusal.bounded());
            assert!(refusal.len() <= REFUSAL_BYTES_MAX);
            heads.put_u64_le(refused.sequence);
            heads.put_u64_le(0);
            heads.put_u64_le(0);
            heads.put_u32_le(refusal.len() as u32);
            refusals.extend_from_slice(&refusal);
        }
    }
}

fn decode_answer(head: &[u8], refusals: &mut Scan<'_>) -> Result<Answer, Malformed> {
    let mut scan = Scan::new("an answer", head);
    let (sequence, offset, time) = (scan.u64()?, Offset(scan.u64()?), scan.u64()?);
    let length = scan.count("the length of a refusal", REFUSAL_BYTES_MAX)?;
    if length == 0 {
        return Ok(Ok(Acknowledged {
            sequence,
            offset,
            time,
        }));
    }
    if offset != Offset(0) || time != 0 {
        return Err(Malformed::Inconsistent {
            what: "a refused batch has an offset or a time",
        });
    }
    let bytes = refusals.take(length)?;
    let refusal: Refusal = codec::decode("a refusal", bytes, REFUSAL_BYTES_MAX)?;
    refusal.check()?;
    Ok(Err(AppendRefused { sequence, refusal }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{batch::BatchBuilder, ids::ProducerId, limits::MEMBERS_MAX, record::Record};

    fn frames(mut bytes: BytesMut) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = Frame::take(&mut bytes, CLIENT_FRAME_BYTES_MAX).unwrap() {
            frames.push(frame);
        }
        assert!(bytes.is_empty());
        frames
    }

    fn read(bytes: BytesMut) -> Vec<Answer> {
        let answers = |frame| Acknowledged::decode(&frame).unwrap();
        frames(bytes).into_iter().flat_map(answers).collect()
    }

    fn acknowledged(sequence: u64) -> Answer {
        Ok(Acknowledged {
            sequence,
            offset: Offset(sequence * 2),
            time: 9,
        })
    }

    fn refused(sequence: u64, refusal: Refusal) -> Answer {
        Err(AppendRefused { sequence, refusal })
    }

    #[test]
    fn a_produced_batch_is_the_frame_s_payload_as_it_is() {
        let mut builder = BatchBuilder::new(0);
        builder.push(&Record::default()).unwrap();
        let batch = builder.finish(ProducerId(1), 2, 3);
        let mut out = BytesMut::new();
        Produced::encode_header(&batch, &mut out);
        out.put_slice(batch.bytes());
        let frame = frames(out).remove(0);
        assert_eq!(frame.payload, batch.bytes());
        assert_eq!(Produced::decode(&frame), Ok(Produced { batch }));
        let lying = Frame {
            checksum: 1,
            ..frame
        };
        assert!(Produced::decode(&lying).is_err());
    }

    #[test]
    fn answers_of_both_kinds_keep_their_order() {
        let answers = [
            refused(1, Refusal::Busy),
            acknowledged(2),
            refused(3, Refusal::SequenceGap { expected: 2 }),
            acknowledged(4),
        ];
        let mut out = BytesMut::new();
        Acknowledged::encode(&answers, &mut out);
        assert_eq!(read(out), answers);
    }

    #[test]
    fn more_answers_than_one_frame_holds_go_in_several() {
        let many: Vec<_> = (0..ANSWERS_MAX as u64 + 1).map(acknowledged).collect();
        let mut out = BytesMut::new();
        Acknowledged::encode(&many, &mut out);
        assert_eq!(frames(out.clone()).len(), 2);
        assert_eq!(read(out), many);

        let large = Refusal::NoSuchMember {
            name: "n".repeat(1024),
            known: vec!["m".repeat(64); MEMBERS_MAX],
        };
        let many: Vec<_> = (0..600).map(|n| refused(n, large.clone())).collect();
        let mut out = BytesMut::new();
        Acknowledged::encode(&many, &mut out);
        assert_eq!(frames(out.clone()).len(), 2);
        assert_eq!(read(out), many);
    }

    #[test]
    fn a_refusal_s_long_text_is_cut_rather_than_refused() {
        let why = "w".repeat(100_000);
        let mut out = BytesMut::new();
        Acknowledged::encode(&[refused(1, Refusal::Unavailable { why })], &mut out);
        let [Err(AppendRefused { refusal, .. })] = &read(out)[..] else {
            panic!("not one refusal")
        };
        let why = "w".repeat(1024);
        assert_eq!(*refusal, Refusal::Unavailable { why });
    }

    #[test]
    fn answers_that_contradict_themselves_are_refused() {
        let answer = |payload: &[u8]| {
            let mut out = BytesMut::new();
            encode_frame(FrameKind::Acknowledge, payload, &mut out);
            Acknowledged::decode(&frames(out)[0])
        };
        let one = |offset: u64, length: u32, rest: &[u8]| {
            let mut payload = BytesMut::new();
            payload.put_u32_le(1);
            payload.put_u64_le(1);
            payload.put_u64_le(offset);
            payload.put_u64_le(0);
            payload.put_u32_le(length);
            payload.put_slice(rest);
            answer(&payload)
        };
        let busy = codec::encode(&Refusal::Busy);
        assert!(one(0, 4, &busy).is_ok());
        assert!(one(1, 0, &[]).is_ok());
        assert!(one(1, 4, &busy).is_err(), "refused at an offset");
        assert!(one(0, 5, &busy).is_err(), "refusal missing");
        assert!(one(0, 3, &busy[..3]).is_err(), "refusal cut");
        assert!(one(0, u32::MAX, &busy).is_err(), "refusal too large");
        assert!(one(1, 0, &busy).is_err(), "refusal of nothing");
        assert!(answer(&0u32.to_le_bytes()).is_err(), "nothing");
        assert!(answer(&u32::MAX.to_le_bytes()).is_err(), "too many");
        assert!(answer(&2u32.to_le_bytes()).is_err(), "missing");
        assert_eq!(answer(&Bytes::new()).ok(), None);
    }
}
