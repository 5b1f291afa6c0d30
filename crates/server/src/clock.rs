//! The two clocks, read once for each turn.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kontiki_broker::Now;
use kontiki_raft::Micros;

/// Where this process's monotonic time begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: micros(self.origin.elapsed()),
            wall: Micros(wall_micros()),
        }
    }

    /// The moment that the deciders call `at`.
    pub(crate) fn instant(&self, at: Micros) -> Instant {
        self.origin + Duration::from_micros(at.0)
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
