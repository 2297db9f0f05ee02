//! Random numbers that are the same again from the same seed (SplitMix64).

/// A source of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of `from..to`; `from` if there is none.
    pub(super) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % to.saturating_sub(from).max(1)
    }

    /// One of the items, unless there are none.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.range(0, items.len() as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn a_seed_gives_the_same_numbers_and_every_number_comes() {
        let roll = |seed| -> Vec<u64> {
            let mut dice = Dice::new(seed);
            (0..200).map(|_| dice.range(3, 9)).collect()
        };
        assert_eq!(roll(7), roll(7));
        assert_ne!(roll(7), roll(8));
        let seen: std::collections::BTreeSet<u64> = roll(7).into_iter().collect();
        assert_eq!(seen, (3..9).collect());
        assert_eq!(Dice::new(1).pick::<u8>(&[]), None);
    }
}
