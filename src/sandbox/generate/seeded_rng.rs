//! Random choices from a seed. Deliberately absent: floats in what is generated, and any other source
//! of randomness.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[derive(Debug)]
pub(super) struct SeededRng(StdRng);

impl SeededRng {
    pub(super) fn for_person(seed: u64, number: usize) -> Self {
        // Far apart, so that person 2 of seed 1 is not person 1 of seed 2.
        let stride = 0x9e37_79b9_7f4a_7c15_u64;
        Self(StdRng::seed_from_u64(seed ^ (number as u64).wrapping_mul(stride)))
    }

    /// Returns a number from 0 to one less than `limit`.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        self.0.random_range(0..limit.max(1))
    }

    pub(super) fn between(&mut self, least: u32, most: u32) -> u32 {
        self.0.random_range(least..=most.max(least))
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.0.random_range(0..items.len())]
    }

    /// Returns a number from 0 to one less than `limit`; half of them are in the lowest fiftieth.
    pub(super) fn mostly_low(&mut self, limit: u32) -> u32 {
        const STEPS: u32 = 10_000;
        let uniform = u64::from(self.below(STEPS));
        // Of 0 to 1, the sixth power.
        let value = (0..6).fold(u64::from(limit), |value, _| value * uniform / u64::from(STEPS));
        u32::try_from(value).unwrap_or(u32::MAX)
    }

    /// Returns letters and digits.
    pub(super) fn word(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789";
        (0..length).map(|_| char::from(*self.pick(LETTERS))).collect()
    }

    pub(super) fn digits(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(*self.pick(b"123456789"))).collect()
    }
}
