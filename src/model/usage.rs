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

/// What changes the price of a call beside its tokens, in the server's own words; `None` is the ordinary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Modifiers {
    /// `batch`, `priority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// `us`, `global`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_geo: Option<String>,
    /// `fast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// Searches of the web that the server made for the call.
    #[serde(skip_serializing_if = "is_zero")]
    pub web_searches: u64,
}

impl Modifiers {
    /// Whether nothing is out of the ordinary.
    pub fn is_ordinary(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// Up to four decimals, for a sentence about a cap.
    pub fn exact(self) -> String {
        let tenths = (self.0.unsigned_abs() + 50) / 100;
        let text = format!("{}.{:04}", tenths / 10_000, tenths % 10_000);
        let short = text.strip_suffix("00").unwrap_or_else(|| text.strip_suffix('0').unwrap_or(&text));
        format!("{}${short}", if self.0 < 0 { "-" } else { "" })
    }

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
    /// Two decimals: `$0.84`, `-$0.84`, and `<$0.01` for what would read as nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            1..=4_999 => "<$0.01".to_owned(),
            -4_999..=-1 => "-<$0.01".to_owned(),
            n => {
                let cents = (n.unsigned_abs() + 5_000) / 10_000;
                format!("{}${}.{:02}", if n < 0 { "-" } else { "" }, cents / 100, cents % 100)
            }
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
    /// The part of the cost that is a guess.
    #[serde(default, skip_serializing_if = "MicroUsd::is_zero")]
    pub estimated: MicroUsd,
}

impl Spend {
    /// What an attempt or task has come to, without a count of its calls.
    pub fn of(usage: Usage, cost: MicroUsd, source: CostSource) -> Self {
        let estimated = if source == CostSource::Estimated { cost } else { MicroUsd::default() };
        Self { usage, cost, calls: 0, estimated }
    }

    /// What one call adds to a sum; `guessed` marks all of its cost.
    pub fn of_call(usage: Usage, cost: MicroUsd, guessed: bool) -> Self {
        let estimated = if guessed { cost } else { MicroUsd::default() };
        Self { usage, cost, calls: 1, estimated }
    }

    /// The cost as people read it; `~` before it where a part is a guess.
    pub fn shown(&self) -> String {
        let mark = if self.estimated.is_zero() { "" } else { "~" };
        format!("{mark}{}", self.cost)
    }
}

impl AddAssign for Spend {
    fn add_assign(&mut self, other: Self) {
        self.usage += other.usage;
        self.cost += other.cost;
        self.calls += other.calls;
        self.estimated += other.estimated;
    }
}
