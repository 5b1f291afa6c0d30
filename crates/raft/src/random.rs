//! The only chance a member ever sees: splitmix64 over the seed it was started with.

/// A sequence that its seed determines.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `1..=max`; 1 if `max` is 0.
    pub(crate) fn up_to(&mut self, max: u64) -> u64 {
        1 + self.next() % max.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_all_there_is() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.up_to(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn draws_stay_in_range_and_reach_both_ends() {
        let mut random = Random::new(1);
        let draws: Vec<_> = (0..200).map(|_| random.up_to(4)).collect();
        assert!(draws.iter().all(|n| (1..=4).contains(n)));
        assert!(draws.contains(&1) && draws.contains(&4));
        assert_eq!(random.up_to(0), 1);
    }
}
