//! A member's two clocks: one that only runs, at a speed of its own, and one that people set.

use kontiki_broker::Now;
use kontiki_raft::Micros;

/// Of one machine. It outlives the processes on it.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Parts per million by which it is fast.
    drift: i64,
    /// A moment of the story, and what the clock showed then.
    since: (u64, u64),
    /// What the wall clock is ahead of the story by.
    ahead: i64,
}

/// The story's beginning: in the year 2023.
const EPOCH: u64 = 1_700_000_000_000_000;

impl Clock {
    pub(crate) fn new(origin: u64, drift: i64, ahead: i64) -> Self {
        Self {
            drift,
            since: (0, origin),
            ahead,
        }
    }

    /// What both show.
    pub(crate) fn now(&self, at: u64) -> Now {
        Now {
            monotonic: Micros(self.monotonic(at)),
            wall: Micros((EPOCH + at).saturating_add_signed(self.ahead)),
        }
    }

    fn monotonic(&self, at: u64) -> u64 {
        let elapsed = u128::from(at - self.since.0);
        let speed = u128::from(1_000_000_u64.saturating_add_signed(self.drift));
        self.since.1 + (elapsed * speed / 1_000_000) as u64
    }

    /// The first moment of the story at which it shows `monotonic`, or has shown more.
    pub(crate) fn moment(&self, monotonic: u64) -> u64 {
        let elapsed = u128::from(monotonic.saturating_sub(self.since.1));
        let speed = u128::from(1_000_000_u64.saturating_add_signed(self.drift));
        self.since.0 + (elapsed * 1_000_000).div_ceil(speed) as u64
    }

    /// It runs at another speed from now on.
    pub(crate) fn drift(&mut self, at: u64, drift: i64) {
        self.since = (at, self.monotonic(at));
        self.drift = drift;
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump(&mut self, by: i64) {
        self.ahead = self.ahead.saturating_add(by).clamp(-AHEAD_MAX, AHEAD_MAX);
    }
}

/// Twenty years.
const AHEAD_MAX: i64 = 20 * 365 * 86_400 * 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_first_that_shows_it() {
        for drift in [-100_000, -3, 0, 7, 100_000] {
            let mut clock = Clock::new(500, 0, 0);
            clock.drift(1_000, drift);
            for shown in [1_500, 1_501, 2_000, 77_777] {
                let moment = clock.moment(shown);
                assert!(clock.monotonic(moment) >= shown);
                assert!(moment == 1_000 || clock.monotonic(moment - 1) < shown);
            }
        }
    }

    #[test]
    fn a_wall_clock_may_be_set_back_and_the_other_runs_on() {
        let mut clock = Clock::new(0, 0, 0);
        let before = clock.now(10);
        clock.jump(-3_600_000_000);
        let after = clock.now(11);
        assert!(after.wall < before.wall && after.monotonic > before.monotonic);
    }
}
