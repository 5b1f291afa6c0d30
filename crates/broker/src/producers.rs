//! What a topic remembers of its producers, so that a batch sent again is recognised and never
//! appended again. Part of the replicated state: it changes only when an entry is applied, and every
//! replica changes it alike.

use std::collections::{BTreeMap, VecDeque};

use kontiki_wire::{
    BatchHeader, Offset, ProducerId, ProducerState, Refusal,
    limits::{PRODUCER_BATCHES_IN_FLIGHT_MAX, PRODUCERS_PER_TOPIC_MAX},
};

use crate::planted::{Planted, plants};

/// What a committed batch turns out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The next of its producer: its records get offsets.
    Accepted,
    /// It was accepted before; this is where and when.
    Duplicate {
        /// The offset its first record got then.
        offset: Offset,
        /// The time of the entry that carried it then.
        time: u64,
    },
    /// It is void, and why.
    Void(Refusal),
}

/// A batch remembered, to answer its like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Remembered {
    sequence: u64,
    count: u32,
    offset: Offset,
    time: u64,
}

/// One producer.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: u32,
    next: u64,
    /// Ascending in sequence, bounded by [`PRODUCER_BATCHES_IN_FLIGHT_MAX`].
    recent: VecDeque<Remembered>,
    /// When it last spoke, as a count of all that was ever said; its key in `silent`.
    spoke: u64,
}

/// All producers of a topic.
///
/// Invariant: `silent` has exactly one entry for each of `known`, under its `spoke`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Producer>,
    /// Longest silent first.
    silent: BTreeMap<u64, ProducerId>,
    said: u64,
}

impl Producers {
    /// Takes up what a checkpoint kept, or says what does not fit.
    pub(crate) fn restore(mut states: Vec<ProducerState>) -> Result<Self, String> {
        if plants(Planted::SilenceNotKept) {
            states.sort_by_key(|state| state.producer);
        }
        if states.len() > PRODUCERS_PER_TOPIC_MAX {
            return Err(format!(
                "a checkpoint has {} producers, the limit is {PRODUCERS_PER_TOPIC_MAX}",
                states.len()
            ));
        }
        let mut producers = Self::default();
        for state in states {
            let id = state.producer;
            let recent = restore_recent(&state)?;
            producers.said += 1;
            let producer = Producer {
                epoch: state.epoch,
                next: state.next,
                recent,
                spoke: producers.said,
            };
            if producers.known.insert(id, producer).is_some() {
                return Err(format!("a checkpoint has producer {:032x} twice", id.0));
            }
            producers.silent.insert(producers.said, id);
        }
        Ok(producers)
    }

    /// What a checkpoint keeps: producers, longest silent first.
    pub(crate) fn state(&self) -> Vec<ProducerState> {
        let of = |id: &ProducerId| {
            let producer = &self.known[id];
            ProducerState {
                producer: *id,
                epoch: producer.epoch,
                next: producer.next,
                recent: producer
                    .recent
                    .iter()
                    .map(|one| (one.sequence, one.count, one.offset, one.time))
                    .collect(),
            }
        };
        self.silent.values().map(of).collect()
    }

    /// Judges a committed batch. If it is accepted, `offset` and `time` are remembered as its own.
    pub(crate) fn judge(&mut self, batch: &BatchHeader, offset: Offset, time: u64) -> Verdict {
        let Some(end) = batch.sequence.checked_add(u64::from(batch.count)) else {
            return Verdict::Void(Refusal::SequenceGap { expected: 0 });
        };
        let verdict = match self.known.get(&batch.producer) {
            None => fresh_start(batch),
            Some(known) if batch.epoch < known.epoch && !plants(Planted::EpochIgnored) => {
                Verdict::Void(Refusal::Fenced { epoch: known.epoch })
            }
            Some(known) if batch.epoch > known.epoch && !plants(Planted::EpochIgnored) => {
                fresh_start(batch)
            }
            Some(known) if batch.sequence == known.next => Verdict::Accepted,
            Some(known) if end <= known.next => known.original(batch),
            Some(known) => Verdict::Void(Refusal::SequenceGap {
                expected: known.next,
            }),
        };
        match verdict {
            Verdict::Accepted => self.accept(batch, end, offset, time),
            Verdict::Duplicate { .. } => self.hear(batch.producer),
            Verdict::Void(_) => {}
        }
        assert_eq!(
            self.known.len(),
            self.silent.len(),
            "every producer has one place in the order of silence"
        );
        verdict
    }

    fn accept(&mut self, batch: &BatchHeader, end: u64, offset: Offset, time: u64) {
        if !self.known.contains_key(&batch.producer) {
            self.make_room();
        }
        let producer = self
            .known
            .entry(batch.producer)
            .or_insert_with(|| Producer {
                epoch: batch.epoch,
                next: 0,
                recent: VecDeque::new(),
                spoke: 0,
            });
        if batch.epoch > producer.epoch {
            producer.epoch = batch.epoch;
            producer.recent.clear();
        }
        producer.next = end;
        if producer.recent.len() == PRODUCER_BATCHES_IN_FLIGHT_MAX {
            producer.recent.pop_front();
        }
        producer.recent.push_back(Remembered {
            sequence: batch.sequence,
            count: batch.count,
            offset,
            time,
        });
        self.hear(batch.producer);
    }

    /// Puts a known producer at the end of the order of silence.
    fn hear(&mut self, id: ProducerId) {
        let Some(producer) = self.known.get_mut(&id) else {
            return;
        };
        self.silent.remove(&producer.spoke);
        self.said += 1;
        producer.spoke = self.said;
        self.silent.insert(self.said, id);
    }

    fn make_room(&mut self) {
        while self.known.len() >= PRODUCERS_PER_TOPIC_MAX {
            let Some((_, longest_silent)) = self.silent.pop_first() else {
                return;
            };
            self.known.remove(&longest_silent);
        }
    }
}

impl Producer {
    /// The answer to a batch that lies wholly below `next`.
    fn original(&self, batch: &BatchHeader) -> Verdict {
        let found = self
            .recent
            .binary_search_by_key(&batch.sequence, |one| one.sequence)
            .ok()
            .map(|at| self.recent[at])
            .filter(|one| one.count == batch.count);
        match found {
            Some(one) => Verdict::Duplicate {
                offset: one.offset,
                time: one.time,
            },
            None => Verdict::Void(Refusal::SequenceGap {
                expected: self.next,
            }),
        }
    }
}

/// A producer that is not known, or that starts a new epoch, starts at 0.
fn fresh_start(batch: &BatchHeader) -> Verdict {
    if batch.sequence == 0 {
        Verdict::Accepted
    } else {
        Verdict::Void(Refusal::SequenceGap { expected: 0 })
    }
}

fn restore_recent(state: &ProducerState) -> Result<VecDeque<Remembered>, String> {
    let wrong = |what: &str| format!("producer {:032x} {what}", state.producer.0);
    if state.recent.len() > PRODUCER_BATCHES_IN_FLIGHT_MAX {
        return Err(wrong("has more remembered batches than the limit"));
    }
    let mut end = 0;
    let mut recent = VecDeque::with_capacity(state.recent.len());
    for &(sequence, count, offset, time) in &state.recent {
        let after = sequence.checked_add(u64::from(count));
        match after {
            Some(after) if sequence >= end && after <= state.next => end = after,
            _ => return Err(wrong("has remembered batches out of order")),
        }
        recent.push_back(Remembered {
            sequence,
            count,
            offset,
            time,
        });
    }
    Ok(recent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer: u128, epoch: u32, sequence: u64, count: u32) -> BatchHeader {
        BatchHeader {
            count,
            producer: ProducerId(producer),
            epoch,
            sequence,
            timestamp: 0,
        }
    }

    /// Judges batches one after the other, giving offsets densely.
    struct Log {
        producers: Producers,
        next: u64,
    }

    impl Log {
        fn new() -> Self {
            Self {
                producers: Producers::default(),
                next: 0,
            }
        }

        fn put(&mut self, header: BatchHeader) -> Verdict {
            let offset = Offset(self.next);
            let verdict = self.producers.judge(&header, offset, 1000 + self.next);
            if verdict == Verdict::Accepted {
                self.next += u64::from(header.count);
            }
            verdict
        }
    }

    fn gap(expected: u64) -> Verdict {
        Verdict::Void(Refusal::SequenceGap { expected })
    }

    #[test]
    fn unknown_producer_starts_at_zero_and_nowhere_else() {
        let mut log = Log::new();
        assert_eq!(log.put(batch(1, 0, 3, 1)), gap(0));
        assert_eq!(log.put(batch(1, 0, 0, 3)), Verdict::Accepted);
        assert_eq!(log.put(batch(1, 0, 3, 1)), Verdict::Accepted);
    }

    #[test]
    fn batch_sent_again_is_answered_with_its_first_place_and_time() {
        let mut log = Log::new();
        log.put(batch(9, 0, 0, 5));
        log.put(batch(1, 0, 0, 2));
        log.put(batch(1, 0, 2, 2));
        let offset = Offset(5);
        assert_eq!(
            log.put(batch(1, 0, 0, 2)),
            Verdict::Duplicate { offset, time: 1005 }
        );
        assert_eq!(log.next, 9);
    }

    #[test]
    fn resent_records_under_other_boundaries_are_void() {
        let mut log = Log::new();
        log.put(batch(1, 0, 0, 4));
        assert_eq!(log.put(batch(1, 0, 0, 2)), gap(4));
        assert_eq!(log.put(batch(1, 0, 2, 2)), gap(4));
        assert_eq!(log.put(batch(1, 0, 2, 4)), gap(4));
    }

    #[test]
    fn lower_epoch_is_fenced_and_higher_one_starts_over() {
        let mut log = Log::new();
        log.put(batch(1, 1, 0, 4));
        assert_eq!(
            log.put(batch(1, 0, 4, 1)),
            Verdict::Void(Refusal::Fenced { epoch: 1 })
        );
        assert_eq!(log.put(batch(1, 2, 4, 1)), gap(0));
        assert_eq!(log.put(batch(1, 1, 4, 1)), Verdict::Accepted);
        assert_eq!(log.put(batch(1, 2, 0, 1)), Verdict::Accepted);
        assert_eq!(
            log.put(batch(1, 1, 5, 1)),
            Verdict::Void(Refusal::Fenced { epoch: 2 })
        );
    }

    #[test]
    fn duplicate_beyond_memory_is_void() {
        let mut log = Log::new();
        let remembered = PRODUCER_BATCHES_IN_FLIGHT_MAX as u64;
        for sequence in 0..=remembered {
            log.put(batch(1, 0, sequence, 1));
        }
        assert_eq!(log.put(batch(1, 0, 0, 1)), gap(remembered + 1));
        assert!(matches!(
            log.put(batch(1, 0, 1, 1)),
            Verdict::Duplicate { .. }
        ));
    }

    #[test]
    fn sequence_that_would_wrap_is_void() {
        let mut log = Log::new();
        log.put(batch(1, 0, 0, 1));
        assert_eq!(log.put(batch(1, 0, u64::MAX, 2)), gap(0));
        assert_eq!(log.put(batch(1, 0, u64::MAX - 2, 2)), gap(1));
    }

    #[test]
    fn longest_silent_producer_is_forgotten_first() {
        let mut log = Log::new();
        for producer in 0..PRODUCERS_PER_TOPIC_MAX as u128 {
            log.put(batch(producer, 0, 0, 1));
        }
        // Hearing the oldest again, even in a duplicate, makes the second the longest silent.
        log.put(batch(0, 0, 0, 1));
        log.put(batch(u128::MAX, 0, 0, 1));
        assert_eq!(log.put(batch(1, 0, 1, 1)), gap(0));
        assert_eq!(log.put(batch(0, 0, 1, 1)), Verdict::Accepted);
        assert_eq!(log.producers.known.len(), PRODUCERS_PER_TOPIC_MAX);
    }

    #[test]
    fn restored_producers_judge_as_the_originals_do() {
        let mut log = Log::new();
        for round in 0..70 {
            for producer in 0..5 {
                log.put(batch(producer, 0, round, 1));
            }
        }
        let state = log.producers.state();
        let mut restored = Producers::restore(state.clone()).unwrap();
        assert_eq!(restored.state(), state);
        for header in [
            batch(0, 0, 3, 1),
            batch(0, 0, 69, 1),
            batch(4, 1, 0, 1),
            batch(2, 0, 70, 9),
        ] {
            let next = Offset(log.next);
            assert_eq!(
                restored.judge(&header, next, 7),
                log.producers.judge(&header, next, 7)
            );
        }
        assert_eq!(restored.state(), log.producers.state());
    }

    #[test]
    fn checkpoint_that_does_not_fit_together_is_refused() {
        let state = |recent| ProducerState {
            producer: ProducerId(1),
            epoch: 0,
            next: 4,
            recent,
        };
        let place = |sequence, count| (sequence, count, Offset(0), 0);
        assert!(Producers::restore(vec![state(vec![place(0, 4)])]).is_ok());
        assert!(Producers::restore(vec![state(vec![place(0, 5)])]).is_err());
        assert!(Producers::restore(vec![state(vec![place(2, 2), place(0, 2)])]).is_err());
        assert!(Producers::restore(vec![state(vec![place(u64::MAX, 2)])]).is_err());
        assert!(Producers::restore(vec![state(vec![]), state(vec![])]).is_err());
    }
}
