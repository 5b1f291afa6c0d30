//! A producer's batches on their way: who may be sent again, under which sequence, and what may be
//! said of those that fail. Pure: no stream, no clock.
//!
//! The rules, for exactly-once in order:
//!
//! - A batch keeps its sequence for as long as it may be in the log. What is sent again is sent with
//!   the same sequence, and brokers answer a duplicate with its first place.
//! - A batch is *ambiguous* once it was on a stream that ended without its answer, or was answered
//!   with "nobody knows". It never gets another sequence: it is acknowledged, or it fails as
//!   [`AppendError::Ambiguous`].
//! - When a batch fails for good, its sequence leaves a hole that no broker would let pass. So the
//!   epoch is raised: ambiguous batches fail with it, the others (which certainly are not in the log)
//!   are encoded anew, from sequence 0, in their order. Brokers fence the lower epoch off with the
//!   first batch of the higher one, so nothing of before can appear behind it.
//! - A refusal stops the sending. When everything on the stream is answered, or the stream is given
//!   up, sending goes back to the first batch without an acknowledgement.

use std::{collections::VecDeque, fmt, sync::Arc};

use kontiki_wire::{Acknowledged, Batch, BatchBuilder, Offset, ProducerId, Refusal, TopicName};
use tokio::time::Instant;

use crate::{
    buffer::{Gathered, Serial},
    error::AppendError,
    planted::{Planted, plants},
    ticket::{Appended, BatchFate},
};

/// One batch with its sequence.
struct Sent {
    serial: Serial,
    batch: Batch,
    fate: Arc<BatchFate>,
    since: Instant,
    charged: usize,
    /// It is on the present stream, unanswered.
    on_stream: bool,
    /// It may be in the log.
    ambiguous: bool,
    /// It has its fate, and waits for those before it.
    decided: bool,
}

/// All batches that have a sequence and no acknowledgement.
pub struct Flight {
    topic: TopicName,
    producer: ProducerId,
    epoch: u32,
    /// Of the next batch.
    sequence: u64,
    queue: VecDeque<Sent>,
    /// How many at the front have been put on the present stream.
    sent: usize,
    /// A refusal has come: nothing more is sent before all is answered.
    going_back: bool,
    /// The end of what was acknowledged in this epoch: offsets only grow.
    acknowledged: Option<Offset>,
    /// The last batch that was ever put in or passed by.
    last: Serial,
    settled: Settled,
}

/// What has its fate since the last time it was asked for.
#[derive(Default)]
pub struct Settled {
    /// Bytes of the buffer that are free again.
    pub bytes: usize,
    /// Batches that failed.
    pub failed: usize,
    /// The first failure.
    pub failure: Option<AppendError>,
}

/// What a refusal asks for, once everything on the stream is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Send again after a moment, to the same member.
    Again(String),
    /// Send again after a moment, to whoever leads then.
    Later(String),
    /// Send again elsewhere; this is the leader, if it is known.
    Elsewhere(Option<String>),
    /// The topic is not known there.
    NoSuchTopic,
    /// Give up everything: it is not permitted.
    NotPermitted(String),
    /// Give up everything: the topic lives in another epoch of the cluster, and may have lost what was
    /// acknowledged.
    Recovered(u64),
    /// Give the first batch up, for this reason.
    Reject(String),
    /// The broker knows another past of this producer than there was: begin another epoch.
    NewEpoch(String),
    /// Another producer uses the same name: take another.
    NewName(String),
}

/// An answer that cannot be: the stream is of no more use.
#[derive(PartialEq, Eq, Debug)]
pub struct Absurd(String);

impl fmt::Display for Absurd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Flight {
    /// A producer's, of one topic; nothing is on its way.
    #[must_use]
    pub fn new(topic: TopicName, producer: ProducerId) -> Self {
        Self {
            topic,
            producer,
            epoch: 0,
            sequence: 0,
            queue: VecDeque::new(),
            sent: 0,
            going_back: false,
            acknowledged: None,
            last: Serial::default(),
            settled: Settled::default(),
        }
    }

    /// Batches that have a sequence and no fate yet, and those that wait for these.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Batches on the present stream that are owed an answer.
    #[must_use]
    pub fn owed(&self) -> usize {
        let owed = |sent: &&Sent| sent.on_stream;
        self.queue.iter().take(self.sent).filter(owed).count()
    }

    /// Whether a refusal has come, after which nothing is sent before all is answered.
    #[must_use]
    pub fn is_going_back(&self) -> bool {
        self.going_back
    }

    /// When the first batch was begun.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.queue.front().map(|first| first.since)
    }

    /// Takes up a batch and gives it its sequence.
    pub fn push(&mut self, gathered: Gathered) {
        assert!(gathered.serial > self.last, "batches come in order");
        let count = gathered.builder.count();
        let batch = gathered
            .builder
            .finish(self.producer, self.epoch, self.sequence);
        self.sequence += u64::from(count);
        self.last = gathered.serial;
        self.queue.push_back(Sent {
            serial: gathered.serial,
            batch,
            fate: gathered.fate,
            since: gathered.since,
            charged: gathered.charged,
            on_stream: false,
            ambiguous: false,
            decided: false,
        });
    }

    /// Fails a batch that never got a sequence.
    pub fn pass_by(&mut self, gathered: &Gathered, verdict: &AppendError) {
        assert!(gathered.serial > self.last, "batches come in order");
        self.last = gathered.serial;
        self.settled
            .fail(&gathered.fate, gathered.charged, verdict.clone());
    }

    /// The next batch to put on the stream; counts it as put there.
    pub fn send_next(&mut self) -> Option<Batch> {
        if self.going_back {
            return None;
        }
        while let Some(next) = self.queue.get_mut(self.sent) {
            self.sent += 1;
            if !next.decided {
                next.on_stream = true;
                return Some(next.batch.clone());
            }
        }
        None
    }

    /// The stream is gone, and with it the answers it owed.
    pub fn stream_ended(&mut self) {
        for sent in &mut self.queue {
            sent.ambiguous |= sent.on_stream;
            sent.on_stream = false;
        }
        self.go_back();
    }

    /// Begins again with the first batch.
    pub fn go_back(&mut self) {
        assert_eq!(self.owed(), 0, "an answer may still come");
        self.sent = 0;
        self.going_back = false;
    }

    /// A batch is in the log.
    pub fn acknowledge(&mut self, answer: &Acknowledged) -> Result<(), Absurd> {
        let at = self.find(answer.sequence)?;
        let sent = &mut self.queue[at];
        let count = u64::from(sent.batch.header().count);
        let Some(end) = answer.offset.0.checked_add(count) else {
            return Err(Absurd(format!("offset {} for a batch", answer.offset)));
        };
        if let Some(before) = self.acknowledged.filter(|before| answer.offset < *before) {
            return Err(Absurd(format!(
                "offset {} for a batch after one that ends at {before}",
                answer.offset
            )));
        }
        // Only what all before it are acknowledged up to is a bound for the next.
        if at == 0 {
            self.acknowledged = Some(Offset(end));
        }
        sent.on_stream = false;
        sent.decided = true;
        sent.fate.decide(Ok(Appended {
            offset: answer.offset,
            timestamp: answer.time,
        }));
        self.pop_decided();
        Ok(())
    }

    /// A batch was refused, or nobody knows. Says what is to be done when nothing is owed any more.
    pub fn refuse(&mut self, sequence: u64, refusal: &Refusal) -> Result<Remedy, Absurd> {
        let at = self.find(sequence)?;
        let sent = &mut self.queue[at];
        sent.on_stream = false;
        sent.ambiguous |= !refusal.certainly_nothing_happened();
        self.going_back = true;
        Ok(match refusal {
            Refusal::NotLeader { leader } => Remedy::Elsewhere(leader.clone()),
            Refusal::NoSuchTopic { .. } => Remedy::NoSuchTopic,
            Refusal::NotPermitted { what } => Remedy::NotPermitted(what.clone()),
            Refusal::Recovered { epoch } => Remedy::Recovered(*epoch),
            Refusal::SequenceGap { expected } => self.out_of_sequence(at, *expected),
            Refusal::Fenced { .. } => Remedy::NewName(refusal.to_string()),
            Refusal::Busy => Remedy::Again(refusal.to_string()),
            _ if refusal.is_retryable() => Remedy::Later(refusal.to_string()),
            // Only the first can be given up: whatever is before this one is to be told first.
            _ if at == 0 => Remedy::Reject(refusal.to_string()),
            _ => Remedy::Again(refusal.to_string()),
        })
    }

    /// What the broker expects instead of the batch at `at`.
    fn out_of_sequence(&self, at: usize, expected: u64) -> Remedy {
        let sequence = |sent: &Sent| sent.batch.header().sequence;
        let earlier = self.queue.iter().take(at);
        if earlier.into_iter().any(|sent| sequence(sent) == expected) {
            // One before it was not taken: the usual consequence.
            return Remedy::Again("a batch before was not taken".to_owned());
        }
        Remedy::NewEpoch(format!(
            "the topic expects sequence {expected} of this producer where {} was due",
            sequence(&self.queue[at])
        ))
    }

    fn find(&self, sequence: u64) -> Result<usize, Absurd> {
        if plants(Planted::AnsweredByCount)
            && let Some(at) = self.queue.iter().position(|sent| sent.on_stream)
        {
            return Ok(at);
        }
        self.queue
            .binary_search_by_key(&sequence, |sent| sent.batch.header().sequence)
            .ok()
            .filter(|&at| self.queue[at].on_stream)
            .ok_or_else(|| {
                Absurd(format!(
                    "an answer to sequence {sequence}, which is not owed"
                ))
            })
    }

    /// Gives the first batch up, with all that may be in the log, and begins another epoch with the
    /// rest. The stream must be gone.
    pub fn fail_first(&mut self, why: &str, verdict: &AppendError) {
        let ambiguous = self.ambiguous(why);
        if let Some(first) = self.queue.front_mut() {
            let verdict = match first.ambiguous {
                true => &ambiguous,
                false => verdict,
            };
            first.decided = true;
            self.settled
                .fail(&first.fate, first.charged, verdict.clone());
            first.charged = 0;
        }
        self.next_epoch(why);
    }

    /// Begins another epoch: what may be in the log fails as ambiguous, the rest is encoded anew.
    pub fn next_epoch(&mut self, why: &str) {
        let more = u32::from(!plants(Planted::EpochNotRaised));
        match self.epoch.checked_add(more) {
            Some(epoch) => self.begin(self.producer, epoch, why),
            None => self.begin(ProducerId(self.producer.0.wrapping_add(1)), 0, why),
        }
    }

    /// Goes on as another producer.
    pub fn rename(&mut self, producer: ProducerId, why: &str) {
        self.begin(producer, 0, why);
    }

    fn begin(&mut self, producer: ProducerId, epoch: u32, why: &str) {
        self.stream_ended();
        (self.producer, self.epoch, self.sequence) = (producer, epoch, 0);
        self.acknowledged = None;
        let ambiguous = self.ambiguous(why);
        for mut sent in std::mem::take(&mut self.queue) {
            if sent.decided {
                self.settled.bytes += sent.charged;
            } else if sent.ambiguous && !plants(Planted::AmbiguousSentAnew) {
                self.settled
                    .fail(&sent.fate, sent.charged, ambiguous.clone());
            } else {
                sent.batch = encode_anew(&sent.batch, producer, epoch, self.sequence);
                self.sequence += u64::from(sent.batch.header().count);
                self.queue.push_back(sent);
            }
        }
    }

    /// What is said of a batch that may be in the log.
    fn ambiguous(&self, why: &str) -> AppendError {
        let (topic, why) = (self.topic.clone(), why.into());
        match plants(Planted::UnknownToldAsFailed) {
            true => AppendError::NotAppended { topic, why },
            false => AppendError::Ambiguous { topic, why },
        }
    }

    /// What is on the stream certainly was not taken: the stream was refused as a whole.
    pub fn untouched(&mut self) {
        for sent in &mut self.queue {
            sent.on_stream = false;
        }
        self.go_back();
    }

    /// Fails everything. The stream must be gone.
    pub fn fail_all(&mut self, why: &str, verdict: &AppendError) {
        self.stream_ended();
        for sent in &mut self.queue {
            if !sent.decided && !sent.ambiguous {
                sent.decided = true;
                self.settled.fail(&sent.fate, sent.charged, verdict.clone());
                sent.charged = 0;
            }
        }
        if !self.queue.is_empty() {
            self.next_epoch(why);
        }
    }

    fn pop_decided(&mut self) {
        while self.queue.front().is_some_and(|first| first.decided) {
            let first = self.queue.pop_front();
            self.settled.bytes += first.map_or(0, |first| first.charged);
            // One decided on an earlier stream may not have been passed yet on this one.
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// What has its fate since the last call, and the batch up to which all have.
    pub fn settled(&mut self) -> (Settled, Serial) {
        let upto = match self.queue.front() {
            Some(first) => Serial(first.serial.0 - 1),
            None => self.last,
        };
        (std::mem::take(&mut self.settled), upto)
    }
}

impl Remedy {
    /// Of two, the one that says more.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let rank = |remedy: &Self| match remedy {
            Self::Again(_) => 0,
            Self::Later(_) => 1,
            Self::Elsewhere(None) => 2,
            Self::Elsewhere(Some(_)) => 3,
            Self::NoSuchTopic => 4,
            Self::Reject(_) => 5,
            Self::NewEpoch(_) => 6,
            Self::NewName(_) => 7,
            Self::NotPermitted(_) => 8,
            Self::Recovered(_) => 9,
        };
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }
}

impl Settled {
    fn fail(&mut self, fate: &BatchFate, charged: usize, why: AppendError) {
        fate.decide(Err(why.clone()));
        self.bytes += charged;
        self.failed += 1;
        self.failure.get_or_insert(why);
    }
}

/// The same records under another sequence.
fn encode_anew(batch: &Batch, producer: ProducerId, epoch: u32, sequence: u64) -> Batch {
    let mut builder = BatchBuilder::new(batch.bytes().len());
    for record in batch.records() {
        let record = record.expect("the batch was encoded here");
        builder.push(&record).expect("it fitted before");
    }
    builder.finish(producer, epoch, sequence)
}

#[cfg(test)]
mod tests;
