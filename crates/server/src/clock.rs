//! The two clocks, read once for each turn.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kontiki_broker::Now;
use kontiki_raft::Micros;
use tracing::warn;

use crate::limits::{LATE_MAX, LOST_AGAIN_AFTER, LOST_BEFORE_MAX, LOST_MAX, LOST_TOLD};

/// Tells the deciders the time. Short times in which this process did not run are left out of their monotonic one:
/// whoever is woken late has heard nobody in the meantime and told nobody anything, so that others' silence then says
/// nothing of them. A machine that stood still for a second goes on with the leaders that it had, and calls no election;
/// who was elected elsewhere is heard of with the next message.
///
/// Who leads and what is committed is confirmed by a quorum's answers and by no clock, and promises to elect nobody last
/// longer rather than shorter. But groups rest, and a member takes itself for one that others know, by the time; so what
/// is left out is bounded, at once and in the long run, and whoever was away for long knows it.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// What was lost since.
    lost: Duration,
    /// What was last told.
    last: Duration,
    /// What more may be lost.
    spare: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
            lost: Duration::ZERO,
            last: Duration::ZERO,
            spare: LOST_MAX,
        }
    }

    /// Now, in a turn that was to begin at `due` at the latest.
    pub(crate) fn now(&mut self, due: Option<Micros>) -> Now {
        let lost = self.lost;
        self.wake(self.origin.elapsed(), due);
        let lost = self.lost - lost;
        if lost >= LOST_TOLD {
            warn!(
                ms = lost.as_millis(),
                "this member did not come to its turn: its machine stood still, or had no processor or disk to spare"
            );
        }
        Now {
            monotonic: micros(self.last),
            wall: Micros(wall_micros()),
        }
    }

    /// So much time has passed since the origin; what of it was lost is left out.
    fn wake(&mut self, elapsed: Duration, due: Option<Micros>) {
        let now = elapsed.saturating_sub(self.lost).max(self.last);
        // What was due before the last turn is due at once.
        let due = due.map_or(now, |due| Duration::from_micros(due.0).max(self.last));
        let late = now > due + LATE_MAX;
        // Since when it has not run is not known; it may have been since the last turn. However late it always is,
        // each turn brings time forward.
        let since = due.saturating_sub(LOST_BEFORE_MAX).max(self.last);
        let lost = now.saturating_sub(since + LATE_MAX).min(self.spare);
        let lost = if late { lost } else { Duration::ZERO };
        let told = now - lost;
        let ran = told - self.last;
        self.spare = (self.spare - lost + ran / LOST_AGAIN_AFTER).min(LOST_MAX);
        self.lost += lost;
        self.last = told;
    }

    /// The moment that the deciders call `at`, if no more is lost.
    pub(crate) fn instant(&self, at: Micros) -> Instant {
        self.origin + self.lost + Duration::from_micros(at.0)
    }
}

/// Microseconds since the Unix epoch; 0 where the machine's clock stands before it.
pub(crate) fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    micros(since.unwrap_or_default()).0
}

fn micros(duration: Duration) -> Micros {
    Micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: u64 = LATE_MAX.as_micros() as u64;

    /// What it says at each of these moments, in microseconds, for turns that were due then.
    fn told(clock: &mut Clock, turns: &[(u64, Option<u64>)]) -> Vec<u64> {
        let turns = turns.iter();
        let told = turns.map(|&(elapsed, due)| {
            clock.wake(Duration::from_micros(elapsed), due.map(Micros));
            micros(clock.last).0
        });
        told.collect()
    }

    #[test]
    fn time_in_which_it_did_not_run_is_left_out() {
        let mut clock = Clock::start();
        let slept = told(
            &mut clock,
            &[
                // In time, and as late as anybody may be.
                (10, None),
                (60, Some(60)),
                (100 + LATE, Some(100)),
                // A second too late.
                (1_000_200 + 2 * LATE, Some(200 + LATE)),
                (1_000_300 + 2 * LATE, Some(1_000_000)),
            ],
        );
        let woken = 100 + 2 * LATE;
        assert_eq!(slept, [10, 60, 100 + LATE, woken, woken + 100]);
        let next = clock.instant(Micros(woken + 150)) - clock.origin;
        assert_eq!(next, Duration::from_micros(1_000_350 + 2 * LATE));
    }

    #[test]
    fn long_sleep_that_ends_late_was_sleep_but_for_its_end() {
        let (hour, before) = (3_600_000_000, LOST_BEFORE_MAX.as_micros() as u64);
        let turns = [(10, None), (hour + 1_000_000, Some(hour))];
        let woken = hour - before + LATE;
        assert_eq!(told(&mut Clock::start(), &turns), [10, woken]);
    }

    #[test]
    fn whoever_waits_for_nothing_and_is_woken_has_lost_nothing() {
        let hour = 3_600_000_000;
        let told = told(&mut Clock::start(), &[(10, None), (hour, None)]);
        assert_eq!(told, [10, hour]);
    }

    #[test]
    fn time_goes_on_however_late_each_turn_is() {
        let mut clock = Clock::start();
        let turns = [
            (10 * LATE, None),
            (11 * LATE, Some(0)),
            (13 * LATE, Some(0)),
            (20 * LATE, Some(0)),
        ];
        let told = told(&mut clock, &turns);
        assert_eq!(told, [10, 11, 12, 13].map(|turn| turn * LATE));
    }

    #[test]
    fn who_was_away_for_long_knows_it() {
        let most = LOST_MAX.as_micros() as u64;
        let minute = 60_000_000;
        let told = told(&mut Clock::start(), &[(10, None), (minute, Some(20))]);
        assert_eq!(told, [10, minute - most]);
    }

    #[test]
    fn clock_of_one_that_is_always_late_is_not_much_slower() {
        let mut clock = Clock::start();
        let turns: Vec<_> = (1..=1_000)
            .map(|turn| (turn * 10 * LATE, Some(0)))
            .collect();
        let told = told(&mut clock, &turns);
        let lost = 10_000 * LATE - told.last().unwrap();
        let most = LOST_MAX.as_micros() as u64 + 10_000 * LATE / 5;
        assert!(most - 10 * LATE < lost && lost <= most, "{lost} of {most}");
    }
}
