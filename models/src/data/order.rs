//! Shuffled order without a table: a keyed bijection that is evaluated anywhere at once.

use halite_hal::philox;

/// What a permutation is for. Different uses of one seed get unrelated permutations; the low byte
/// stays free for the round.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Order = 0x0D0E_5200,
    Split = 0x5911_7400,
}

const ROUNDS: u32 = 8;

/// A pseudo-random permutation of `0..len` as a function of a seed and an epoch.
///
/// A Feistel network (Luby and Rackoff 1988) with Philox as its round function permutes the next
/// power of four; results outside the range are fed back until they fall inside (cycle walking,
/// Black and Rogaway 2002), which takes fewer than four turns on average.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    len: u64,
    half_bits: u32,
    key: [u32; 2],
    epoch: u64,
    purpose: u32,
}

impl Permutation {
    /// The order in which an epoch visits `len` items.
    pub fn new(len: u64, seed: u64, epoch: u64) -> Self {
        Self::with_purpose(len, seed, epoch, Purpose::Order)
    }

    pub(super) fn with_purpose(len: u64, seed: u64, epoch: u64, purpose: Purpose) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        Self { len, half_bits, key: philox::key(seed), epoch, purpose: purpose as u32 }
    }

    /// The item at place `index`.
    ///
    /// # Panics
    /// If `index` is not below the length.
    pub fn at(&self, index: u64) -> u64 {
        assert!(index < self.len, "place {index} of a permutation of {}", self.len);
        let mut item = index;
        loop {
            item = self.feistel(item);
            if item < self.len {
                return item;
            }
        }
    }

    fn feistel(&self, item: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (item >> self.half_bits, item & mask);
        for round in 0..ROUNDS {
            let counter = [right as u32, self.epoch as u32, (self.epoch >> 32) as u32, self.purpose | round];
            let word = u64::from(philox::block(self.key, counter)[0]);
            (left, right) = (right, left ^ (word & mask));
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(len: u64, seed: u64, epoch: u64) -> Vec<u64> {
        let permutation = Permutation::new(len, seed, epoch);
        (0..len).map(|index| permutation.at(index)).collect()
    }

    #[test]
    fn seed_epoch_and_purpose_change_the_order() {
        let base = all(100, 1, 0);
        assert_eq!(base, all(100, 1, 0));
        for other in [all(100, 2, 0), all(100, 1, 1), all(100, 1 << 32 | 1, 0), all(100, 1, 1 << 32)] {
            assert_ne!(base, other);
        }
        let split = Permutation::with_purpose(100, 1, 0, Purpose::Split);
        assert_ne!(base, (0..100).map(|index| split.at(index)).collect::<Vec<_>>());
    }

    #[test]
    fn every_item_comes_to_every_place_equally_often() {
        for len in [2u64, 3, 5, 16, 17] {
            let epochs = 200 * len;
            let mut counts = vec![0u32; (len * len) as usize];
            for epoch in 0..epochs {
                for (place, item) in all(len, 11, epoch).into_iter().enumerate() {
                    counts[place * len as usize + item as usize] += 1;
                }
            }
            // The mean is 200; five standard deviations, as there are hundreds of counts.
            let deviation = (200.0 * (1.0 - 1.0 / len as f64)).sqrt();
            for count in counts {
                assert!((f64::from(count) - 200.0).abs() < 5.0 * deviation, "{count} for length {len}");
            }
        }
    }

    #[test]
    fn lengths_up_to_64_bits_work() {
        assert!(Permutation::new(u64::MAX, 3, 0).at(u64::MAX - 1) < u64::MAX);
        assert_eq!(Permutation::new(1, 3, 0).at(0), 0);
    }

    #[test]
    #[should_panic(expected = "place 3 of a permutation of 3")]
    fn a_place_outside_is_a_bug() {
        Permutation::new(3, 0, 0).at(3);
    }

    proptest! {
        #[test]
        fn is_a_bijection(len in 1u64..700, seed in any::<u64>(), epoch in any::<u64>()) {
            let mut items = all(len, seed, epoch);
            items.sort_unstable();
            prop_assert_eq!(items, (0..len).collect::<Vec<_>>());
        }
    }
}
