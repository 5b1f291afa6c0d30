//! Many stories, on all cores.

use std::{
    cell::Cell,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    checker::Report,
    faults::Counts,
    plan::{Choice, Plan},
    story::{Told, tell},
};

/// What many stories came to.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Stories told to their end.
    pub stories: u64,
    /// Simulated time, in microseconds.
    pub lasted: u64,
    /// Things that happened.
    pub events: u64,
    /// Faults that came about.
    pub counts: Counts,
    /// The figures of what was asked for.
    pub report: Report,
    /// Equal for two campaigns of the same stories, in whatever order they were told; of one story
    /// alone it is another number than its trace's.
    pub hash: u64,
    /// Stories in which something was found, by seed.
    pub failures: Vec<Failure>,
}

/// A story in which something was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What.
    pub finding: String,
}

thread_local! {
    static TELLING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The seed of the story that this thread is telling: for a panic's last words, where a panic ends the
/// process.
#[must_use]
pub fn telling() -> Option<u64> {
    TELLING.get()
}

/// The seeds from `first` on that suffer for so many microseconds together.
#[must_use]
pub fn seeds(first: u64, choice: Choice, micros: u64) -> Vec<u64> {
    let mut left = micros;
    let mut seeds = Vec::new();
    for seed in first.. {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(Plan::draw(seed, choice).suffers);
        seeds.push(seed);
    }
    seeds
}

/// Tells a story; a panic in it is a finding.
pub fn tell_guarded(plan: &Plan, keeps_lines: bool) -> Result<Told, String> {
    TELLING.set(Some(plan.seed));
    let told = catch_unwind(AssertUnwindSafe(|| tell(plan.clone(), keeps_lines)));
    TELLING.set(None);
    told.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("it panics: {}", text.unwrap_or("without a word"))
    })
}

/// Tells these stories with so many threads. `progress` is called after each, by whichever thread told
/// it; once it says [`ControlFlow::Break`], no more are begun.
pub fn run(
    seeds: &[u64],
    choice: Choice,
    threads: usize,
    progress: impl Fn(&Sum) -> ControlFlow<()> + Sync,
) -> Sum {
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Sum::default());
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let told = tell_guarded(&Plan::draw(*seed, choice), false);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(*seed, told);
            if progress(&sum).is_break() {
                next.store(seeds.len(), Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort_by_key(|failure| failure.seed);
    sum
}

impl Sum {
    /// Adds a story.
    pub fn add(&mut self, seed: u64, told: Result<Told, String>) {
        self.stories += 1;
        let finding = match told {
            Ok(told) => {
                self.lasted += told.lasted;
                self.events += told.trace.events();
                self.report.merge(&told.report);
                for (kind, count) in told.counts {
                    *self.counts.entry(kind).or_default() += count;
                }
                let hash = told.trace.hash() ^ seed.rotate_left(32);
                self.hash = self
                    .hash
                    .wrapping_add(hash.wrapping_mul(0x9fb2_1c65_1e98_df25));
                told.finding
            }
            Err(panic) => Some(panic),
        };
        if let Some(finding) = finding {
            self.failures.push(Failure { seed, finding });
        }
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_the_same_on_one_thread_and_on_many() {
        let choice = Choice {
            suffers: Some(6_000_000),
            ..Choice::default()
        };
        let seeds = seeds(40, choice, 36_000_000);
        assert_eq!(seeds.len(), 6);
        let one = run(&seeds, choice, 1, |_| ControlFlow::Continue(()));
        let many = run(&seeds, choice, 3, |_| ControlFlow::Continue(()));
        assert_eq!((one.hash, one.lasted), (many.hash, many.lasted));
        assert_eq!(one.counts, many.counts);
        assert_eq!(one.failures, []);
    }

    #[test]
    fn a_campaign_that_is_stopped_tells_of_what_it_has_done() {
        let choice = Choice {
            suffers: Some(4_000_000),
            ..Choice::default()
        };
        let enough = |sum: &Sum| match sum.stories {
            0..2 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        };
        let sum = run(&seeds(40, choice, 40_000_000), choice, 1, enough);
        assert_eq!(sum.stories, 2);
        assert!(sum.report.attempted > 0);
    }
}
