//! What clients and members say to each other.

use bytes::{Bytes, BytesMut};
use kontiki_wire::{
    Acknowledged, Batch, BatchBuilder, ClientStream, ClusterCommand, ClusterState, Deliver, Frame,
    FrameKind, Refusal, Request, Response, StreamEnd, TopicState, decode, encode, entry_checksum,
    limits::{CHECKPOINT_BYTES_MAX, CLIENT_FRAME_BYTES_MAX},
};

use crate::lies::{assert_said_the_same, lie, number, seal, seal_batch};

/// Frames off a buffer that holds anything.
pub(crate) fn frame(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    if let Some(header) = sealed.get_mut(..16) {
        seal(header);
    }
    for bytes in [bytes, &sealed] {
        let mut buffer = BytesMut::from(bytes);
        let mut left = buffer.len();
        while let Ok(Some(frame)) = Frame::take(&mut buffer, CLIENT_FRAME_BYTES_MAX) {
            assert_eq!(left, 16 + frame.payload.len() + buffer.len());
            left = buffer.len();
        }
    }
}

/// A batch as a producer would send it: what is verified is what a builder would make.
pub(crate) fn batch(bytes: &[u8]) {
    let _ = Batch::verify(Bytes::copy_from_slice(bytes));
    let mut bytes = bytes.to_vec();
    seal_batch(&mut bytes);
    let bytes = Bytes::from(bytes);
    let Ok(batch) = Batch::verify(bytes.clone()) else {
        return;
    };
    assert_eq!(batch.checksum(), entry_checksum(&bytes));
    let mut builder = BatchBuilder::new(bytes.len());
    for record in batch.records() {
        let record = record.expect("a verified record");
        builder.push(&record).expect("a record that was in a batch");
    }
    let header = *batch.header();
    assert_eq!(builder.count(), header.count);
    let again = builder.finish(header.producer, header.epoch, header.sequence);
    assert_eq!(again, batch, "two spellings of one batch");
}

/// Records of a batch that nobody verified, from a place that the last byte chooses.
pub(crate) fn records(bytes: &[u8]) {
    let Some((skip, bytes)) = bytes.split_last() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    seal_batch(&mut bytes);
    let Ok(batch) = Batch::trusted(Bytes::from(bytes)) else {
        return;
    };
    let count = batch.header().count as usize;
    let all: Vec<_> = batch.records().collect();
    assert!(all.iter().filter(|record| record.is_ok()).count() <= count);
    assert!(
        all.iter().rev().skip(1).all(Result::is_ok),
        "went on after an error"
    );
    let rest: Vec<_> = batch.records().skip_records((*skip).into()).collect();
    if all.iter().all(Result::is_ok) {
        assert_eq!(rest, all[all.len().min((*skip).into())..]);
    }
}

/// How a client opens a stream, and how a member ends one.
pub(crate) fn client_stream(payload: &[u8]) {
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
}

/// Answers to a producer.
pub(crate) fn acknowledge(payload: &[u8]) {
    let frame = lie(FrameKind::Acknowledge, payload, payload.len());
    if let Ok(answers) = Acknowledged::decode(&frame) {
        let mut again = BytesMut::new();
        Acknowledged::encode(&answers, &mut again);
        assert_said_the_same(&again, payload);
        for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(!refused.refusal.to_string().contains(char::is_control));
        }
    }
}

/// Deliveries, the checksums of their batches made to match where the head says that they lie.
pub(crate) fn deliver(payload: &[u8]) {
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
}

macro_rules! small {
    ($bytes:expr, $($type:ty),+) => {$(
        if let Ok(value) = decode::<$type>("a value", $bytes, CHECKPOINT_BYTES_MAX) {
            assert_eq!(encode(&value), $bytes, "two spellings of one value");
        }
    )+};
}

/// Control messages and small values.
pub(crate) fn control(payload: &[u8]) {
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
}
