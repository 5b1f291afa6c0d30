//! The only chance there is in a story: numbers that follow from a seed.

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, for a purpose of its own: what is drawn for one purpose does not move what is
    /// drawn for another.
    pub(crate) fn fork(&mut self, purpose: u64) -> Self {
        Self(self.next() ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least `from` and below `to`; `from` if there is nothing between.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % to.saturating_sub(from).max(1)
    }

    /// Below `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.between(0, count as u64) as usize
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&mut self, cases: u64) -> bool {
        self.next() % 1000 < cases
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// About as often far below `mean` as above it, rarely far above: the sum of two dice, squared.
    pub(crate) fn around(&mut self, mean: u64) -> u64 {
        let a = self.next() % 1024;
        let b = self.next() % 1024;
        // The mean of the product of two independent dice of 0 to 1023 is 2^18.
        ((u128::from(mean) * u128::from(a * b)) >> 18) as u64
    }

    /// So many different numbers below `count`, in random order.
    pub(crate) fn some_of(&mut self, count: usize, many: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        for at in 0..many.min(count) {
            let other = at + self.below(count - at);
            all.swap(at, other);
        }
        all.truncate(many);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn around_has_the_mean_that_was_asked_for() {
        let mut chance = Chance::new(1);
        let sum: u64 = (0..100_000).map(|_| chance.around(1_000)).sum();
        assert!((980..1_020).contains(&(sum / 100_000)), "{sum}");
    }

    #[test]
    fn some_are_different_ones() {
        let mut chance = Chance::new(2);
        for many in 0..6 {
            let mut some = chance.some_of(5, many);
            some.sort_unstable();
            some.dedup();
            assert_eq!(some.len(), many.min(5));
        }
    }
}
