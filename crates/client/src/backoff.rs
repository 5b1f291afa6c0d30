//! Waiting between attempts: longer each time up to a bound, and never in step with other clients.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Delays that double from the first to the last, each drawn from its upper half.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
    /// How many more are as long as the first.
    steady: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            next: first,
            steady: 0,
        }
    }

    /// The same, but only after so many of the first length do the delays begin to double.
    pub(crate) const fn steady_for(self, delays: u32) -> Self {
        Self {
            steady: delays,
            ..self
        }
    }

    /// Something went well: the next delay is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to wait this time.
    pub(crate) fn delay(&mut self) -> Duration {
        let whole = self.next;
        match self.steady.checked_sub(1) {
            Some(steady) => self.steady = steady,
            None => self.next = self.next.saturating_mul(2).min(self.last),
        }
        jittered(whole, chance())
    }

    /// Waits, but not beyond `deadline`.
    pub(crate) async fn wait(&mut self, deadline: Instant) {
        let until = Instant::now() + self.delay();
        sleep_until(until.min(deadline)).await;
    }
}

/// Between half of `whole` and all of it, as `chance` has it.
fn jittered(whole: Duration, chance: u64) -> Duration {
    let share = f64::from(chance as u32) / f64::from(u32::MAX);
    whole.mul_f64(0.5 + share / 2.0)
}

/// A random number. Without entropy, one that is the same each time: what depends on it here is
/// only how evenly clients spread.
pub(crate) fn chance() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 3)
}

/// Brings `list` into random order.
pub(crate) fn shuffle<T>(list: &mut [T]) {
    for at in (1..list.len()).rev() {
        list.swap(at, (chance() % (at as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const LAST: Duration = Duration::from_millis(70);

    #[test]
    fn delays_double_up_to_their_bound_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(FIRST, LAST);
        for whole in [10, 20, 40, 70, 70, 70] {
            let whole = Duration::from_millis(whole);
            let delay = backoff.delay();
            assert!(
                delay >= whole / 2 && delay <= whole,
                "{delay:?} of {whole:?}"
            );
        }
        backoff.reset();
        assert!(backoff.delay() <= FIRST);
    }

    #[test]
    fn steady_delays_come_before_those_that_double() {
        let mut backoff = Backoff::new(FIRST, LAST).steady_for(2);
        for whole in [10, 10, 10, 20, 40] {
            let whole = Duration::from_millis(whole);
            let delay = backoff.delay();
            assert!(
                delay >= whole / 2 && delay <= whole,
                "{delay:?} of {whole:?}"
            );
        }
    }

    #[test]
    fn jitter_covers_the_upper_half_whatever_the_chance() {
        assert_eq!(jittered(LAST, 0), LAST / 2);
        assert_eq!(jittered(LAST, u64::MAX), LAST);
        let middle = jittered(LAST, u64::from(u32::MAX / 2));
        assert!(middle > LAST * 7 / 10 && middle < LAST * 8 / 10);
    }

    #[test]
    fn shuffling_loses_nothing_and_moves_something() {
        let sorted: Vec<u32> = (0..64).collect();
        let mut shuffled = sorted.clone();
        shuffle(&mut shuffled);
        assert_ne!(shuffled, sorted);
        shuffled.sort_unstable();
        assert_eq!(shuffled, sorted);
    }
}
