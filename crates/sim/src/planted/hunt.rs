//! Looking for a planted mistake: seeds 1, 2, 3 and so on of the ordinary campaign, until one finds
//! something.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    campaign::tell_guarded,
    plan::{Choice, Plan},
    planted::Mistake,
};

/// How a mistake is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// The first seed.
    pub first: u64,
    /// How much of a processor's time it may take.
    pub cpu_max: Duration,
    /// How many mistakes are looked for at the same time.
    pub threads: usize,
}

/// What came of looking for one.
#[derive(Clone, Debug)]
pub struct Hunted {
    /// For what.
    pub mistake: &'static Mistake,
    /// What found it, if it was found.
    pub found: Option<Found>,
    /// Stories told.
    pub stories: u64,
    /// How long they lasted together, in microseconds of their own time.
    pub simulated: u64,
    /// What they took of a processor.
    pub cpu: Duration,
}

/// A finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The story's seed.
    pub seed: u64,
    /// When in it, in microseconds.
    pub at: u64,
    /// What was found to be wrong.
    pub what: String,
}

/// Looks for all of these; tells of each when it has come to an end, in any order.
pub fn hunt(mistakes: &[&'static Mistake], hunt: Hunt, tell: impl Fn(Hunted) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..hunt.threads.clamp(1, mistakes.len().max(1)) {
            scope.spawn(|| {
                while let Some(mistake) = mistakes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    tell(hunt.one(mistake));
                }
            });
        }
    });
}

impl Hunt {
    fn one(&self, mistake: &'static Mistake) -> Hunted {
        let began = cpu_time();
        let mut hunted = Hunted {
            mistake,
            found: None,
            stories: 0,
            simulated: 0,
            cpu: Duration::ZERO,
        };
        let mut seed = self.first;
        while hunted.found.is_none() && hunted.cpu < self.cpu_max {
            let (lasted, what) = tell(seed, Some(mistake));
            hunted.stories += 1;
            hunted.simulated += lasted;
            hunted.cpu = cpu_time().saturating_sub(began);
            hunted.found = what.map(|what| Found {
                seed,
                at: lasted,
                what,
            });
            seed += 1;
        }
        hunted
    }
}

/// Tells one story, with a mistake in it or none: how long it lasted, and what was wrong.
#[must_use]
pub fn tell(seed: u64, mistake: Option<&Mistake>) -> (u64, Option<String>) {
    let choice = Choice {
        changes: mistake.is_some_and(Mistake::is_of_changes),
        ..Choice::default()
    };
    let mut plan = Plan::draw(seed, choice);
    let _planting = mistake.map(|mistake| mistake.plant(&mut plan));
    match tell_guarded(&plan, false) {
        Ok(told) => (told.lasted, told.finding),
        Err(panic) => (0, Some(panic)),
    }
}

/// What this thread has had of a processor.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
