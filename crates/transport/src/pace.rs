//! Lets so many through in a second, evenly after a first burst.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Time slots, each given once, in the order in which they are asked for; unused ones are kept for a
/// burst.
#[derive(Debug)]
pub struct Pace {
    gap: Duration,
    burst: Duration,
    /// The first slot that has not been given.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many in a second, and so many at once after a pause.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let gap = Duration::from_secs(1) / per_second.max(1);
        Self {
            gap,
            burst: gap * burst,
            next: Mutex::default(),
        }
    }

    /// Waits for the next slot. Cancel-safe, though the slot is lost.
    pub async fn turn(&self) {
        self.turn_within(Duration::MAX).await;
    }

    /// Waits for the next slot if it comes that soon; `false`, at once and without taking it, if not.
    /// Cancel-safe, though the slot is lost.
    pub async fn turn_within(&self, longest: Duration) -> bool {
        let now = Instant::now();
        let slot = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            // Slots older than a burst have lapsed. Near the origin of the clock none have.
            let oldest = now.checked_sub(self.burst).unwrap_or(now);
            let slot = next.map_or(oldest, |next| next.max(oldest));
            if slot.saturating_duration_since(now) > longest {
                return false;
            }
            *next = Some(slot + self.gap);
            slot
        };
        if slot > now {
            sleep_until(slot).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_the_rest_comes_evenly_and_a_pause_makes_room_for_another() {
        let pace = Pace::new(10, 5);
        let since = Instant::now() + Duration::from_secs(1);
        sleep_until(since).await;
        for _ in 0..5 {
            pace.turn().await;
        }
        assert_eq!(since.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            pace.turn().await;
        }
        let took = since.elapsed().as_millis();
        assert!((900..=1_010).contains(&took), "{took} ms");
        sleep_until(Instant::now() + Duration::from_secs(60)).await;
        let since = Instant::now();
        for _ in 0..5 {
            pace.turn().await;
        }
        assert_eq!(since.elapsed(), Duration::ZERO);
    }
    #[tokio::test(start_paused = true)]
    async fn whoever_would_wait_too_long_is_turned_away_and_takes_no_slot() {
        let pace = Pace::new(10, 0);
        let gap = Duration::from_millis(100);
        assert!(pace.turn_within(Duration::ZERO).await);
        for _ in 0..1_000 {
            assert!(!pace.turn_within(gap / 2).await);
        }
        let since = Instant::now();
        assert!(pace.turn_within(gap).await);
        assert!(since.elapsed() <= gap + Duration::from_millis(1));
    }
}
