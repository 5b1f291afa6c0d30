//! A producer's stream: batches in, acknowledgements out, many of each under way at a time.
//!
//! Two halves run side by side. The reading half stops when the producer has as many unanswered batches
//! as it may have, or all producers together as many bytes; the writing half never waits for the reading
//! half, so what is answered always makes room.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use kontiki_broker::{Input, StreamId};
use kontiki_transport::{FrameReader, FrameWriter};
use kontiki_wire::{
    Acknowledged, Answer, AppendRefused, Batch, Frame, FrameKind, Malformed, Produced, StreamEnd,
    TopicName,
    limits::{CLIENT_FRAME_BYTES_MAX, PRODUCER_BATCHES_IN_FLIGHT_MAX},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    answers::AnswerStream,
    limits::FRAMES_PER_WAKE_MAX,
    service::{Ended, Service},
    topics::KeptTopic,
};

/// Serves the stream until the producer finishes it and has all its answers.
pub(crate) async fn serve(
    service: &Service,
    topic: &TopicName,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Ended {
    let mut answers = service.answers.open_stream();
    let unanswered = Unanswered::new();
    let mut reading = Reading {
        service,
        name: topic,
        topic: None,
        stream: answers.id(),
        unanswered: &unanswered,
    };
    let write = write_answers(&mut answers, &unanswered, writer);
    tokio::pin!(write);
    let ended = tokio::select! {
        ended = reading.run(reader) => ended,
        ended = &mut write => return ended,
    };
    // What is under way is answered before the stream ends.
    tokio::select! {
        () = unanswered.none() => ended,
        ended = &mut write => ended,
    }
}

struct Reading<'a> {
    service: &'a Service,
    name: &'a TopicName,
    topic: Option<Arc<KeptTopic>>,
    stream: StreamId,
    unanswered: &'a Unanswered,
}

impl Reading<'_> {
    /// Ends when the producer does, or between two frames when the member is going away: a batch
    /// that is counted as unanswered always reaches the driver.
    async fn run(&mut self, reader: &mut FrameReader) -> Ended {
        let service = self.service;
        let mut stopped = pin!(service.stopped());
        loop {
            let next = tokio::select! {
                biased;
                () = &mut stopped => return Ended::With(StreamEnd::Moving),
                next = reader.next(CLIENT_FRAME_BYTES_MAX) => next,
            };
            let taken = match next {
                Ok(next) => self.take_arrived(next, reader).await,
                Err(error) => return error.into(),
            };
            if let Err(ended) = taken {
                return ended;
            }
            // Whoever sends without pause does not keep the others waiting.
            tokio::task::yield_now().await;
        }
    }

    /// Takes a frame and all that have arrived with it, so that one turn sees them all.
    async fn take_arrived(
        &mut self,
        mut next: Option<Frame>,
        reader: &mut FrameReader,
    ) -> Result<(), Ended> {
        for _ in 0..FRAMES_PER_WAKE_MAX {
            let Some(frame) = next else {
                return Err(Ended::Silently);
            };
            self.take(&frame).await?;
            match reader.ready(CLIENT_FRAME_BYTES_MAX)? {
                Some(frame) => next = Some(frame),
                None => return Ok(()),
            }
        }
        match next {
            Some(frame) => self.take(&frame).await,
            None => Ok(()),
        }
    }

    async fn take(&mut self, frame: &Frame) -> Result<(), Ended> {
        if frame.kind != FrameKind::Produce {
            return Err(Ended::from(Malformed::Inconsistent {
                what: "a producer's stream carries something else",
            }));
        }
        let batch = Produced::decode(frame)?.batch;
        self.unanswered
            .add(&batch, &self.service.bytes_in_flight)
            .await;
        let sequence = batch.header().sequence;
        let Some(group) = self.group() else {
            let refusal = self.service.elsewhere(self.name).await;
            let refused = AppendRefused { sequence, refusal };
            self.service.answers.answer(self.stream, Err(refused));
            return Ok(());
        };
        let append = Input::Append {
            stream: self.stream,
            group,
            batch,
        };
        let sent = self.service.inputs.send(append).await;
        sent.map_err(|_| Ended::With(StreamEnd::Moving))
    }

    /// The group of the topic that bears the name now: it may have been made, or made anew, since the
    /// stream was opened.
    fn group(&mut self) -> Option<kontiki_wire::GroupId> {
        let stale = self
            .topic
            .as_ref()
            .is_none_or(|topic| topic.watermark.deleted());
        if stale {
            self.topic = self.service.topics.find(self.name);
        }
        self.topic.as_ref().map(|topic| topic.group)
    }
}

async fn write_answers(
    answers: &mut AnswerStream,
    unanswered: &Unanswered,
    writer: &mut FrameWriter,
) -> Ended {
    let mut got: Vec<Answer> = Vec::new();
    loop {
        answers.next(&mut got).await;
        let mut out = BytesMut::new();
        Acknowledged::encode(&got, &mut out);
        // A producer that does not take its answers keeps its own slots, and nobody else's bytes.
        let slots = unanswered.answered(&got);
        if let Err(error) = writer.write(out.freeze()).await {
            return error.into();
        }
        drop(slots);
        got.clear();
    }
}

/// The batches of one stream that have been read and not answered, with the room they take.
struct Unanswered {
    slots: Arc<Semaphore>,
    batches: Mutex<VecDeque<Pending>>,
}

struct Pending {
    sequence: u64,
    slot: OwnedSemaphorePermit,
    /// Held until the batch is answered.
    _bytes: OwnedSemaphorePermit,
}

impl Unanswered {
    fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(PRODUCER_BATCHES_IN_FLIGHT_MAX)),
            batches: Mutex::default(),
        }
    }

    /// Adds a batch once there is room for it.
    async fn add(&self, batch: &Batch, bytes_in_flight: &Arc<Semaphore>) {
        let open = "neither semaphore is ever closed";
        let slot = self.slots.clone().acquire_owned().await.expect(open);
        let bytes = u32::try_from(batch.bytes().len()).expect("bounded by BATCH_BYTES_MAX");
        let bytes = bytes_in_flight
            .clone()
            .acquire_many_owned(bytes)
            .await
            .expect(open);
        self.batches.lock().expect(SOUND).push_back(Pending {
            sequence: batch.header().sequence,
            slot,
            _bytes: bytes,
        });
    }

    /// Lets go of the bytes of what was answered, and hands out the slots.
    fn answered(&self, answers: &[Answer]) -> Vec<OwnedSemaphorePermit> {
        let mut batches = self.batches.lock().expect(SOUND);
        let slots = answers.iter().map(|answer| {
            let sequence = match answer {
                Ok(acknowledged) => acknowledged.sequence,
                Err(refused) => refused.sequence,
            };
            // Answers come in order but for refusals, so this is the front nearly always.
            let place = batches
                .iter()
                .position(|pending| pending.sequence == sequence);
            let pending = place.and_then(|place| batches.remove(place));
            pending
                .expect("every answer is to a batch that was read")
                .slot
        });
        slots.collect()
    }

    /// Resolves when every batch is answered and the producer has been told.
    async fn none(&self) {
        let all = u32::try_from(PRODUCER_BATCHES_IN_FLIGHT_MAX).expect("a small number");
        let _all = self.slots.acquire_many(all).await;
    }
}

const SOUND: &str = "nothing panics while holding it";
