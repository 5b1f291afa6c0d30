//! How fast something is copied, from how far it was at a few moments.

use kontiki_raft::Micros;

/// The latest reading, and the speed that came of it and those before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meter {
    at: Micros,
    bytes: u64,
    /// Smoothed over the last few readings.
    pub(crate) bytes_per_second: u64,
}

impl Meter {
    /// So much is there to begin with.
    pub(crate) fn new(at: Micros, bytes: u64) -> Self {
        Self {
            at,
            bytes,
            bytes_per_second: 0,
        }
    }

    /// So much is there now. What comes sooner than it can be measured is counted with the next reading.
    pub(crate) fn read(self, now: Micros, bytes: u64) -> Self {
        let passed = now.since(self.at);
        if passed < READING_LEAST {
            return self;
        }
        let more = u128::from(bytes.saturating_sub(self.bytes));
        let lately = more * 1_000_000 / u128::from(passed.0);
        let before = u128::from(self.bytes_per_second);
        let smooth = match before {
            0 => lately,
            _ => (before * (WEIGHT - 1) + lately) / WEIGHT,
        };
        Self {
            at: now,
            bytes,
            bytes_per_second: u64::try_from(smooth).unwrap_or(u64::MAX),
        }
    }
}

/// Between two readings.
const READING_LEAST: Micros = Micros(200_000);
/// One reading counts for one part of so many.
const WEIGHT: u128 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_copy_has_its_speed_and_one_that_stands_still_comes_to_none() {
        let mut meter = Meter::new(Micros(0), 500);
        for tenth in 1..=10 {
            meter = meter.read(Micros(tenth * 300_000), 500 + tenth * 3_000);
        }
        assert_eq!(meter.bytes_per_second, 10_000);
        for tenth in 11..=60 {
            meter = meter.read(Micros(tenth * 300_000), 30_500);
        }
        assert_eq!(meter.bytes_per_second, 0);
    }

    #[test]
    fn readings_that_follow_at_once_are_one_and_a_copy_that_begins_anew_is_none() {
        let meter = Meter::new(Micros(0), 0);
        assert_eq!(meter.read(Micros(10), 1 << 40), meter);
        assert_eq!(meter.read(Micros(1_000_000), 0).bytes_per_second, 0);
        let behind = Meter::new(Micros(0), 10).read(Micros(1_000_000), 5);
        assert_eq!(behind.bytes_per_second, 0);
    }
}
