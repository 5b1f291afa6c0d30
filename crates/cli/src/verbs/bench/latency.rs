//! Latencies, kept with three digits from a nanosecond to an hour.

use std::time::Duration;

use hdrhistogram::Histogram;

const NANOS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// Latencies of many records.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, NANOS_MAX, DIGITS).expect("the bounds are in order"))
    }

    /// Adds one; more than an hour counts as an hour.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds those of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds, rounded up, that this share of the latencies does not exceed.
    pub(crate) fn micros_at(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share).div_ceil(1000)
    }

    /// The mean in microseconds.
    pub(crate) fn mean_micros(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    /// The largest in microseconds.
    pub(crate) fn max_micros(&self) -> u64 {
        self.0.max().div_ceil(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_to_three_digits() {
        let mut latencies = Latencies::new();
        for micros in 1..=1000 {
            latencies.add(Duration::from_micros(micros));
        }
        let mut rest = Latencies::new();
        rest.add(Duration::from_secs(10_000));
        latencies.merge(&rest);
        assert_eq!(latencies.len(), 1001);
        assert!((499..=502).contains(&latencies.micros_at(0.5)));
        assert!((989..=993).contains(&latencies.micros_at(0.99)));
        assert!(
            latencies.max_micros() >= 3_596_000_000,
            "more than an hour counts as an hour"
        );
    }
}
