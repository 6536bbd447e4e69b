//! What caching and cheaper models have saved, on the calls that were really made.
//!
//! Owns the sums and how a saving is split between its two causes. Must not know prices: what a call would have cost
//! otherwise comes with it, as an [`Appraisal`]. Its one surprise: a saving can be negative, and is shown so.

use serde::{Deserialize, Serialize};

use super::{MicroUsd, gateway::Call};

/// What one call would have cost otherwise, with the same tokens, and what its model needs to cache anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appraisal {
    /// Without the cache: every input token at the price of input.
    pub no_cache: MicroUsd,
    /// On the top model, cached as it was.
    pub top: MicroUsd,
    /// On the top model without the cache.
    pub top_no_cache: MicroUsd,
    /// The shortest prefix that its model caches, in tokens, where that is known.
    pub min_cacheable: Option<u64>,
}

/// Sums over calls whose tokens and prices are exactly known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Savings {
    /// What they cost.
    pub actual: MicroUsd,
    /// What they would have cost without the cache.
    pub no_cache: MicroUsd,
    /// On the top model.
    pub top: MicroUsd,
    /// On the top model without the cache.
    pub top_no_cache: MicroUsd,
    /// How many calls.
    pub calls: u64,
    /// Calls that were left out: their tokens or their price are a guess.
    pub left_out: u64,
}

/// A whole saving and its two parts, which sum to it exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// What caching saved.
    pub caching: MicroUsd,
    /// What cheaper models saved.
    pub tiering: MicroUsd,
    /// Both together.
    pub both: MicroUsd,
}

impl Savings {
    /// Adds a call.
    pub fn add(&mut self, call: &Call, appraisal: Option<&Appraisal>) {
        match appraisal {
            Some(would) => {
                self.actual += call.cost;
                self.no_cache += would.no_cache;
                self.top += would.top;
                self.top_no_cache += would.top_no_cache;
                self.calls += 1;
            }
            None if call.estimated => self.left_out += 1,
            // It cost nothing: refused, or never answered.
            None => {}
        }
    }

    /// Splits what was saved: each cause gets the mean of what it saves alone and of what it saves on top of the other,
    /// so that the order in which one looks at them does not matter.
    pub fn split(&self) -> Split {
        let [actual, no_cache, top, both] =
            [self.actual, self.no_cache, self.top, self.top_no_cache].map(|sum| i128::from(sum.0));
        let caching = (no_cache - actual) + (both - top);
        let tiering = (top - actual) + (both - no_cache);
        // Twice the parts; a half millionth goes to caching, and is missing there when it is below zero.
        let (caching, whole) = (caching.div_euclid(2) + caching.rem_euclid(2), i128::midpoint(caching, tiering));
        let micro = |sum: i128| MicroUsd(i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }));
        Split { caching: micro(caching), tiering: micro(whole - caching), both: micro(whole) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn savings(actual: i64, no_cache: i64, top: i64, top_no_cache: i64) -> Savings {
        let micro = MicroUsd;
        Savings {
            actual: micro(actual),
            no_cache: micro(no_cache),
            top: micro(top),
            top_no_cache: micro(top_no_cache),
            calls: 1,
            left_out: 0,
        }
    }

    #[test]
    fn a_saving_is_split_as_one_computes_by_hand() {
        // ½[(100−40)+(250−90)] = 110 and ½[(90−40)+(250−100)] = 100 of 210
        let split = savings(40, 100, 90, 250).split();
        assert_eq!((split.caching, split.tiering, split.both), (MicroUsd(110), MicroUsd(100), MicroUsd(210)));
        // An odd one: 59.5 and 151.5 of 211.
        let split = savings(40, 100, 192, 251).split();
        assert_eq!((split.caching, split.tiering, split.both), (MicroUsd(60), MicroUsd(151), MicroUsd(211)));
        // Written and never read again: caching has cost more than it saved.
        let split = savings(125, 100, 500, 400).split();
        assert_eq!((split.caching, split.tiering, split.both), (MicroUsd(-62), MicroUsd(337), MicroUsd(275)));
    }

    proptest::proptest! {
        #[test]
        fn the_parts_sum_exactly_whatever_the_signs(
            a in -1_000_000_000_i64..1_000_000_000, n in -1_000_000_000_i64..1_000_000_000,
            b in -1_000_000_000_i64..1_000_000_000, nb in -1_000_000_000_i64..1_000_000_000,
        ) {
            let split = savings(a, n, b, nb).split();
            proptest::prop_assert_eq!(split.caching.0 + split.tiering.0, nb - a);
            proptest::prop_assert_eq!(split.both.0, nb - a);
            let twice = (n - a) + (nb - b);
            proptest::prop_assert!((2 * split.caching.0 - twice).abs() <= 1);
        }
    }
}
