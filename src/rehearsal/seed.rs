//! Numbers that depend on a seed and on texts, and on nothing else: the same on every machine and in every release.

use crate::model::fnv::START;
pub(super) use crate::model::fnv::fold;

/// FNV-1a over the parts, each closed by a byte that no UTF-8 text holds.
pub(super) fn of(parts: &[&str]) -> u64 {
    parts.iter().fold(START, |hash, part| fold(fold(hash, part.as_bytes()), &[0xff]))
}

/// A row of numbers from one start (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// Starts at `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `choices`, which must not be empty.
    pub(super) fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let at = self.roll() % choices.len().max(1) as u64;
        usize::try_from(at).ok().and_then(|at| choices.get(at)).copied().unwrap_or_default()
    }

    /// A number from `low` up to and without `high`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.roll() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
