//! What is counted while a load runs: what became of records, how long they took, and how long it was
//! silent.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kontiki_client::{AppendError, Appended};

use crate::{
    exit::Failure,
    verbs::bench::{latency::Latencies, worker::GRACE},
};

/// The times of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// When the first record may be sent; payloads count from here.
    pub(crate) start: Instant,
    /// When the warm-up is over.
    pub(crate) from: Instant,
    /// When measuring ends.
    pub(crate) until: Instant,
}

impl Window {
    pub(crate) fn contains(&self, moment: Instant) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// What became of the records of one or more producers.
pub(crate) struct Outcome {
    /// Acknowledged inside the window.
    pub(crate) records: u64,
    /// Acknowledged at all.
    pub(crate) acknowledged: u64,
    /// Not acknowledged, or not known to be.
    pub(crate) failed: u64,
    /// Which those are.
    pub(crate) open: Open,
    /// One of the failures.
    pub(crate) failure: Option<AppendError>,
    /// How long those inside the window took.
    pub(crate) latencies: Latencies,
}

impl Outcome {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            records: 0,
            acknowledged: 0,
            failed: 0,
            open: Open::default(),
            failure: None,
            latencies: Latencies::new(),
        }
    }

    /// Adds that of another producer.
    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.open.0.extend(other.open.0);
        self.failure = self.failure.take().or(other.failure);
        self.latencies.merge(&other.latencies);
    }

    /// Counts one answer, which came `now`, to a producer's record that was `due` then.
    pub(crate) fn count(
        &mut self,
        (producer, sequence): (u32, u64),
        answer: Result<Appended, AppendError>,
        due: Instant,
        now: Instant,
        window: Window,
    ) {
        match answer {
            Ok(_) => {
                self.acknowledged += 1;
                if window.contains(now) {
                    self.records += 1;
                    self.latencies.add(now.saturating_duration_since(due));
                }
            }
            Err(error) => {
                self.fail((producer, sequence));
                self.failure.get_or_insert(error);
            }
        }
    }

    /// Fails if a record was not acknowledged, and says why.
    pub(crate) fn all_acknowledged(self) -> Result<(), Failure> {
        let failed = self.failed;
        match self.failure {
            Some(error) => Err(Failure::from(error)
                .within(|error| format!("{failed} records were not acknowledged: {error}"))),
            None if failed > 0 => Err(Failure::new(format!(
                "{failed} records were not acknowledged within {} s of the end: more was asked for than the cluster \
                 takes",
                GRACE.as_secs()
            ))),
            None => Ok(()),
        }
    }

    /// Counts a record that was not acknowledged.
    pub(crate) fn fail(&mut self, (producer, sequence): (u32, u64)) {
        self.failed += 1;
        self.open.add(producer, sequence);
    }
}

/// Records that were sent and not acknowledged: whether they are in the log is open.
#[derive(Default)]
pub(crate) struct Open(BTreeMap<u32, Vec<Range<u64>>>);

impl Open {
    /// One more; a producer's come in their order.
    fn add(&mut self, producer: u32, sequence: u64) {
        let ranges = self.0.entry(producer).or_default();
        match ranges.last_mut() {
            Some(last) if last.end == sequence => last.end += 1,
            _ => ranges.push(sequence..sequence + 1),
        }
    }

    /// Whether a record is one of them.
    pub(crate) fn has(&self, producer: u32, sequence: u64) -> bool {
        let ranges = self.0.get(&producer).map_or(&[][..], Vec::as_slice);
        let at = ranges.partition_point(|range| range.end <= sequence);
        ranges
            .get(at)
            .is_some_and(|range| range.contains(&sequence))
    }
}

/// The longest silence over all producers.
#[derive(Clone)]
pub(crate) struct Gaps(Arc<Mutex<Silence>>);

struct Silence {
    since: Instant,
    longest: Duration,
    until: Instant,
}

impl Gaps {
    /// None so far.
    pub(crate) fn new(window: Window) -> Self {
        let silence = Silence {
            since: window.from,
            longest: Duration::ZERO,
            until: window.until,
        };
        Self(Arc::new(Mutex::new(silence)))
    }

    fn lock(&self) -> MutexGuard<'_, Silence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was acknowledged.
    pub(crate) fn acknowledged(&self, now: Instant) {
        let mut silence = self.lock();
        let now = now.min(silence.until);
        silence.longest = silence
            .longest
            .max(now.saturating_duration_since(silence.since));
        silence.since = silence.since.max(now);
    }

    /// The longest inside the window, up to its end.
    pub(crate) fn longest(&self) -> Duration {
        let until = self.lock().until;
        self.acknowledged(until);
        self.lock().longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_inside_the_window_alone() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let window = Window {
            start,
            from: at(1000),
            until: at(2000),
        };
        let gaps = Gaps::new(window);
        for millis in [10, 900, 1100, 1400, 1450, 9000] {
            gaps.acknowledged(at(millis));
        }
        assert_eq!(gaps.longest(), Duration::from_millis(550));
        assert_eq!(Gaps::new(window).longest(), Duration::from_secs(1));
    }

    #[test]
    fn only_answers_inside_the_window_are_measured() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let window = Window {
            start,
            from: at(1000),
            until: at(2000),
        };
        let mut outcome = Outcome::new();
        let ok = || {
            Ok(Appended {
                offset: kontiki_client::Offset(0),
                timestamp: 0,
            })
        };
        outcome.count((0, 0), ok(), at(0), at(999), window);
        outcome.count((0, 1), ok(), at(0), at(1000), window);
        outcome.count((0, 2), ok(), at(0), at(2000), window);
        outcome.count((0, 3), Err(AppendError::Closed), at(0), at(1500), window);
        outcome.fail((0, 4));
        outcome.fail((0, 9));
        let open = [2, 3, 4, 5, 8, 9, 10].map(|sequence| outcome.open.has(0, sequence));
        assert_eq!(open, [false, true, true, false, false, true, false]);
        assert!(!outcome.open.has(1, 3));
        assert_eq!(
            (outcome.records, outcome.acknowledged, outcome.failed),
            (1, 3, 3)
        );
        assert_eq!(outcome.latencies.len(), 1);
    }
}
