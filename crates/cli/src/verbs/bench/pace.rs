//! A steady rate: a thread of its own says when the next record is due, more finely than the
//! runtime's timers can, and goes on counting while everything else stalls.

use std::{
    num::{NonZeroU32, NonZeroU64},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::exit::Failure;

/// Moments that may wait to be taken up; when so many are late, the pacer waits too, but the moments
/// it then sends are still those at which records were due.
const DUE_WAITING_MAX: usize = 64 << 10;

/// Starts pacing: `rate` moments a second from `start` until `end`, dealt out to `producers` in turn.
pub(crate) fn start(
    rate: NonZeroU32,
    start: Instant,
    end: Instant,
    producers: usize,
) -> Result<Vec<mpsc::Receiver<Instant>>, Failure> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..producers)
        .map(|_| mpsc::channel(DUE_WAITING_MAX))
        .unzip();
    thread::Builder::new()
        .name("pace".into())
        .spawn(move || {
            // The kernel's default lets a sleep end 50 µs late. If it refuses, moments come that late.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            for (count, to) in (0_u64..).zip(senders.iter().cycle()) {
                let due = start + due_after(count, rate);
                if due >= end {
                    break;
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.blocking_send(due).is_err() {
                    break;
                }
            }
        })
        .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
    Ok(receivers)
}

fn due_after(count: u64, rate: NonZeroU32) -> Duration {
    let rate = u64::from(rate.get());
    let seconds = Duration::from_secs(count / rate);
    seconds + Duration::from_nanos((count % rate) * 1_000_000_000 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU32 = NonZeroU32::new(3).unwrap();

    #[test]
    fn moments_do_not_drift() {
        assert_eq!(due_after(0, RATE), Duration::ZERO);
        assert_eq!(due_after(1, RATE), Duration::from_nanos(333_333_333));
        assert_eq!(
            due_after(3_000_000_000, RATE),
            Duration::from_secs(1_000_000_000)
        );
    }

    #[tokio::test]
    async fn moments_are_dealt_out_in_turn_and_never_come_early() {
        let rate = NonZeroU32::new(1000).unwrap();
        let from = Instant::now();
        let mut receivers = start(rate, from, from + Duration::from_millis(10), 2).unwrap();
        let mut all = Vec::new();
        for receiver in &mut receivers {
            while let Some(due) = receiver.recv().await {
                assert!(Instant::now() >= due);
                all.push((due - from).as_millis());
            }
        }
        assert_eq!(all, [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]);
    }
}
