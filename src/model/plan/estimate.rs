//! What a task is expected to take: ranges, because nobody knows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// From the least to the most that is expected. Read from a number, a pair, or `{"low": …, "high": …}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Range {
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Point(f64),
    Pair(f64, f64),
    Named { low: f64, high: f64 },
}

impl From<Written> for Range {
    fn from(written: Written) -> Self {
        match written {
            Written::Point(at) => Self::point(at),
            Written::Pair(low, high) | Written::Named { low, high } => Self { low, high },
        }
    }
}

impl Range {
    /// Exactly this.
    pub fn point(at: f64) -> Self {
        Self { low: at, high: at }
    }

    /// Half way between both ends.
    pub fn middle(self) -> f64 {
        f64::midpoint(self.low, self.high)
    }

    /// Whether it is two finite numbers that are not negative, in order, and something more than nothing.
    pub fn is_sound(self) -> bool {
        self.low.is_finite() && self.high.is_finite() && 0.0 <= self.low && self.low <= self.high && self.high > 0.0
    }

    /// Both ends together with another's.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    /// Both ends times `factor`.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { low: self.low * factor, high: self.high * factor }
    }
}

impl fmt::Display for Range {
    /// `4`, or `3–6`; whole numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (format!("{:.0}", self.low), format!("{:.0}", self.high));
        f.pad(&if low == high { low } else { format!("{low}–{high}") })
    }
}

/// What a task is expected to take; what nobody said is `None`. Version 1 of plans had a number of minutes in its place,
/// 0 for "not said".
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenEstimates")]
pub struct Estimates {
    /// Minutes of an agent working alone.
    pub minutes: Option<Range>,
    /// Tokens of all classes together.
    pub tokens: Option<Range>,
    /// Dollars; code works them out from the tokens where the model's price is known.
    pub usd: Option<Range>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenEstimates {
    Minutes(f64),
    Each {
        #[serde(default)]
        minutes: Option<Range>,
        #[serde(default)]
        tokens: Option<Range>,
        #[serde(default)]
        usd: Option<Range>,
    },
}

impl From<WrittenEstimates> for Estimates {
    fn from(written: WrittenEstimates) -> Self {
        match written {
            WrittenEstimates::Minutes(minutes) => Self::minutes(minutes),
            WrittenEstimates::Each { minutes, tokens, usd } => Self { minutes, tokens, usd },
        }
    }
}

impl Estimates {
    /// So many minutes and nothing more; 0 for "not said".
    pub fn minutes(minutes: f64) -> Self {
        Self { minutes: (minutes != 0.0).then(|| Range::point(minutes)), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_points_pairs_or_by_name() {
        let read = |text: &str| serde_json::from_str::<Estimates>(text).unwrap();
        let whole = read(r#"{"minutes": 4, "tokens": [1000, 2000], "usd": {"low": 0.1, "high": 0.3}}"#);
        assert_eq!(whole.minutes, Some(Range::point(4.0)));
        assert_eq!(whole.tokens, Some(Range { low: 1000.0, high: 2000.0 }));
        assert_eq!(whole.usd, Some(Range { low: 0.1, high: 0.3 }));
        assert_eq!(read("4.0"), Estimates::minutes(4.0));
        assert_eq!(read("0"), Estimates::default());
        assert_eq!(read("{}"), Estimates::default());
    }

    #[test]
    fn a_range_shows_both_ends_where_they_differ() {
        assert_eq!(Range { low: 3.0, high: 6.0 }.to_string(), "3–6");
        assert_eq!(Range { low: 3.1, high: 3.2 }.to_string(), "3");
    }
}
