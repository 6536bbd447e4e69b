//! Tokens and money, in whole numbers.

use std::{fmt, iter::Sum, ops::AddAssign};

use serde::{Deserialize, Serialize};

/// Tokens of one or more model calls, by class. All counts are tokens as the server reported them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input tokens neither read from nor written to the cache.
    pub input_tokens: u64,
    /// Tokens the model produced.
    pub output_tokens: u64,
    /// Input tokens read from the cache.
    pub cache_read_input_tokens: u64,
    /// Input tokens written to the cache, all lifetimes together.
    pub cache_creation_input_tokens: u64,
    /// The part of `cache_creation_input_tokens` written for one hour.
    pub cache_creation_1h_input_tokens: u64,
}

impl Usage {
    /// All tokens of all classes.
    pub fn total(&self) -> u64 {
        self.input_tokens + self.output_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens
    }

    /// The share of input read from the cache, 0.0 to 1.0; `None` without input.
    pub fn cache_hit_rate(&self) -> Option<f64> {
        let input = self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens;
        (input > 0).then(|| self.cache_read_input_tokens as f64 / input as f64)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cache_read_input_tokens += other.cache_read_input_tokens;
        self.cache_creation_input_tokens += other.cache_creation_input_tokens;
        self.cache_creation_1h_input_tokens += other.cache_creation_1h_input_tokens;
    }
}

/// Money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// Dollars as a float, for JSON that outsiders read; never for sums.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Takes dollars from a configuration or an outsider's JSON, rounded to the millionth.
    #[expect(clippy::cast_possible_truncation, reason = "a float saturates, and no sum of money here comes near")]
    pub fn from_dollars(dollars: f64) -> Self {
        Self((dollars * 1e6).round() as i64)
    }
}

impl AddAssign for MicroUsd {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        Self(each.map(|m| m.0).sum())
    }
}

impl fmt::Display for MicroUsd {
    /// Two decimals: `$0.84`, and `<$0.01` for what would read as nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            1..5_000 => "<$0.01".to_owned(),
            n => format!("${:.2}", n as f64 / 1e6),
        };
        f.pad(&text)
    }
}

/// Where a cost comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// From the server's own counts and a known price.
    Measured,
    /// From the engine's own report.
    Reported,
    /// Guessed from bytes or an unknown model's price.
    #[default]
    Estimated,
}

/// Tokens and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// Tokens by class.
    pub usage: Usage,
    /// Their cost.
    pub cost: MicroUsd,
    /// Model calls.
    pub calls: u64,
}

impl AddAssign for Spend {
    fn add_assign(&mut self, other: Self) {
        self.usage += other.usage;
        self.cost += other.cost;
        self.calls += other.calls;
    }
}
