//! Chance that is none: numbers that follow from a seed. Each concern draws from a stream of its own, so that one fault left
//! out does not change when the others strike.

/// A stream of numbers (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of a seed for one concern.
    pub(crate) fn new(seed: u64, concern: u64) -> Random {
        let mut random = Random(seed ^ concern.wrapping_mul(0xd6e8_feb8_6659_fd93));
        random.next();
        Random(random.next() ^ concern)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Below `bound`; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < u64::from(per_mille)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Around `mean`: mostly shorter, now and then up to eight times as long.
    pub(crate) fn around(&mut self, mean: u64) -> u64 {
        let spread = self.below(1_000);
        let long = if spread >= 950 { 8 } else { 2 };
        self.below(mean.saturating_mul(long).max(1)) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |concern| {
            let mut random = Random::new(7, concern);
            [random.next(), random.next(), random.below(10)]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((0..100).all(|_| Random::new(1, 1).between(3, 5) >= 3));
    }
}
