//! The two clocks, read once for each turn.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kontiki_broker::Now;
use kontiki_raft::Micros;
use tracing::warn;

use crate::limits::{LATE_MAX, LOST_BEFORE_MAX, LOST_TOLD};

/// Tells the deciders the time. Their monotonic one counts only while this process runs: whoever is woken late has
/// heard nobody in the meantime and told nobody anything, so that others' silence then says nothing of them. A machine
/// that stood still goes on with the leaders that it had, and calls no election; who was elected elsewhere is heard of
/// with the next message. Nothing is promised by this clock that others rely on: what leads and what is committed is
/// confirmed by a quorum's answers, and promises to elect nobody last longer rather than shorter.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// What was lost since.
    lost: Duration,
    /// What was last told.
    last: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
            lost: Duration::ZERO,
            last: Duration::ZERO,
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
                "this member did not run: its machine stood still, or had no processor or disk to spare"
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
        if now <= due + LATE_MAX {
            self.last = now;
            return;
        }
        // Since when it has not run is not known; it may have been since the last turn. However late it always is,
        // each turn brings time forward.
        let since = due.saturating_sub(LOST_BEFORE_MAX).max(self.last);
        self.last = since + LATE_MAX;
        self.lost += now - self.last;
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
        let turns = [(10, None), (2 * hour, Some(hour))];
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
            (99 * LATE, Some(0)),
        ];
        let told = told(&mut clock, &turns);
        assert_eq!(told, [10, 11, 12, 13].map(|turn| turn * LATE));
    }
}
