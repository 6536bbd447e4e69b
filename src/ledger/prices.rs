//! The price table: dated rows per model, five rates each, whole numbers only.
//!
//! Rates are held in micro-dollars per million tokens. Must not know where a call came from. Its one surprise: a model
//! nobody has heard of is never free; it costs the dearest rate of every class and is marked as an estimate.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::model::{MicroUsd, Usage};

/// Why a price table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// Not the TOML we know.
    #[error("read the price table: {0}")]
    Toml(#[from] toml::de::Error),
    /// A rate below zero, or not a number.
    #[error("read the price table: {model} has the rate {rate}, which is not a price")]
    Rate {
        /// The row's model.
        model: String,
        /// The rate found.
        rate: f64,
    },
    /// No rows at all.
    #[error("read the price table: it has no rows")]
    Empty,
}

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priced {
    /// The cost, rounded once, to the nearest millionth of a dollar.
    pub cost: MicroUsd,
    /// The price is a guess: the model is not known, or not for that date.
    pub estimated: bool,
}

/// Five rates in micro-dollars per million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rates {
    input: i64,
    output: i64,
    write_5m: i64,
    write_1h: i64,
    read: i64,
}

impl Rates {
    fn cost(&self, usage: &Usage) -> MicroUsd {
        // A server that reports more one-hour writes than writes is believed on the sum.
        let hour = usage.cache_creation_1h_input_tokens.min(usage.cache_creation_input_tokens);
        let classes = [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_creation_input_tokens - hour, self.write_5m),
            (hour, self.write_1h),
            (usage.cache_read_input_tokens, self.read),
        ];
        let sum: i128 = classes.iter().map(|&(tokens, rate)| i128::from(tokens) * i128::from(rate)).sum();
        MicroUsd(i64::try_from((sum + 500_000) / 1_000_000).unwrap_or(i64::MAX))
    }

    fn dearest(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            write_5m: self.write_5m.max(other.write_5m),
            write_1h: self.write_1h.max(other.write_1h),
            read: self.read.max(other.read),
        }
    }
}

/// A model's rates from one day on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    from: Date,
    base: Rates,
    /// Rates for prompts longer than so many tokens, shortest first.
    bands: Vec<(u64, Rates)>,
}

impl Row {
    fn rates(&self, prompt: u64) -> &Rates {
        self.bands.iter().rev().find(|(above, _)| prompt > *above).map_or(&self.base, |(_, rates)| rates)
    }
}

/// All known prices.
#[derive(Debug, Clone)]
pub struct Prices {
    /// By model id and alias, oldest row first.
    models: BTreeMap<String, Vec<Row>>,
    /// The dearest rate of every class in the whole table.
    dearest: Rates,
}

impl Prices {
    /// The table this program was built with.
    pub fn embedded() -> Self {
        Self::parse(include_str!("../../assets/prices.toml")).expect("the embedded price table is tested")
    }

    /// Reads a table in the form of `assets/prices.toml`.
    pub fn parse(text: &str) -> Result<Self, PricesError> {
        let file: wire::File = toml::from_str(text)?;
        let mut models: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        let mut dearest = Rates::default();
        for row in file.model {
            let mut bands = Vec::new();
            for band in &row.band {
                bands.push((band.above, band.rates.checked(&row.id)?));
            }
            bands.sort_unstable_by_key(|(above, _)| *above);
            let base = row.rates.checked(&row.id)?;
            dearest = bands.iter().fold(dearest.dearest(base), |all, (_, rates)| all.dearest(*rates));
            let made = Row { from: row.effective_from, base, bands };
            for name in row.aliases.into_iter().chain([row.id]) {
                models.entry(name).or_default().push(made.clone());
            }
        }
        for rows in models.values_mut() {
            rows.sort_by_key(|row| row.from);
        }
        if models.is_empty() {
            return Err(PricesError::Empty);
        }
        Ok(Self { models, dearest })
    }

    /// Prices what `model` used at `at`.
    pub fn cost(&self, model: &str, usage: &Usage, at: Timestamp) -> Priced {
        let prompt = usage
            .input_tokens
            .saturating_add(usage.cache_creation_input_tokens)
            .saturating_add(usage.cache_read_input_tokens);
        let Some(rows) = self.rows(model) else {
            return Priced { cost: self.dearest.cost(usage), estimated: true };
        };
        let day = at.to_zoned(TimeZone::UTC).date();
        let in_force = rows.iter().rev().find(|row| row.from <= day);
        let row = in_force.or_else(|| rows.first()).expect("a model has at least one row");
        Priced { cost: row.rates(prompt).cost(usage), estimated: in_force.is_none() }
    }

    /// Whether the table has a price for `model`.
    pub fn knows(&self, model: &str) -> bool {
        self.rows(model).is_some()
    }

    fn rows(&self, model: &str) -> Option<&Vec<Row>> {
        let name = model.strip_suffix("[1m]").unwrap_or(model);
        let name = name.strip_suffix("-latest").unwrap_or(name);
        self.models.get(name).or_else(|| {
            let (bare, date) = name.rsplit_once('-')?;
            (date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit())).then(|| self.models.get(bare))?
        })
    }
}

/// The table as written.
mod wire {
    use jiff::civil::Date;
    use serde::Deserialize;

    use super::{PricesError, Rates as Whole};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct File {
        pub(super) model: Vec<Model>,
    }

    // No `deny_unknown_fields` here: serde cannot combine it with `flatten`, and a missing rate is an error anyway.
    #[derive(Deserialize)]
    pub(super) struct Model {
        pub(super) id: String,
        #[serde(default)]
        pub(super) aliases: Vec<String>,
        pub(super) effective_from: Date,
        #[expect(dead_code, reason = "every row must say where it comes from; only readers of the file look at it")]
        source: String,
        #[serde(flatten)]
        pub(super) rates: Rates,
        #[serde(default)]
        pub(super) band: Vec<Band>,
    }

    #[derive(Deserialize)]
    pub(super) struct Band {
        pub(super) above: u64,
        #[serde(flatten)]
        pub(super) rates: Rates,
    }

    /// Dollars per million tokens.
    #[derive(Deserialize)]
    pub(super) struct Rates {
        input: f64,
        output: f64,
        write_5m: f64,
        write_1h: f64,
        read: f64,
    }

    impl Rates {
        pub(super) fn checked(&self, model: &str) -> Result<Whole, PricesError> {
            let whole = |rate: f64| {
                if rate.is_finite() && (0.0..1e6).contains(&rate) {
                    Ok(crate::model::MicroUsd::from_dollars(rate).0)
                } else {
                    Err(PricesError::Rate { model: model.to_owned(), rate })
                }
            };
            Ok(Whole {
                input: whole(self.input)?,
                output: whole(self.output)?,
                write_5m: whole(self.write_5m)?,
                write_1h: whole(self.write_1h)?,
                read: whole(self.read)?,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, read: u64, write: u64, hour: u64) -> Usage {
        Usage {
            input_tokens: input,
            output_tokens: output,
            cache_read_input_tokens: read,
            cache_creation_input_tokens: write,
            cache_creation_1h_input_tokens: hour,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const NOW: &str = "2026-11-22T12:00:00Z";

    #[test]
    fn a_call_costs_what_one_computes_by_hand() {
        let prices = Prices::embedded();
        let cost = |model: &str, usage: Usage| {
            let found = prices.cost(model, &usage, at(NOW));
            assert!(!found.estimated, "{model}");
            found.cost.0
        };
        // 1,000 × 4 + 500 × 20 + 10,000 × 0.20 + 1,500 × 5 + 500 × 8 = 4,000 + 10,000 + 2,000 + 7,500 + 4,000
        assert_eq!(cost("claude-opus-5-5", usage(1_000, 500, 10_000, 2_000, 500)), 27_500);
        // 3 × 2 + 7 × 10 + 26,000 × 0.10 + 713 × 2.5 = 6 + 70 + 2,600 + 1,782.5, rounded up
        assert_eq!(cost("claude-sonnet-5-5", usage(3, 7, 26_000, 713, 0)), 4_459);
        // 1 × 1 + 1 × 5
        assert_eq!(cost("claude-haiku-4-5-20251001", usage(1, 1, 0, 0, 0)), 6);
        assert_eq!(cost("claude-opus-4-8[1m]", usage(1_000_000, 0, 0, 0, 0)), 5_000_000);
        assert_eq!(cost("sonnet", usage(1_000_000, 1_000_000, 0, 0, 0)), 12_000_000);
        assert_eq!(cost("claude-fable-5-2", usage(0, 0, 0, 3, 3)), 48);
        assert_eq!(cost("claude-opus-5", Usage::default()), 0);
    }

    #[test]
    fn the_long_band_takes_the_whole_prompt_and_every_token() {
        let prices = Prices::embedded();
        let cost = |usage| prices.cost("claude-haiku-5-5", &usage, at(NOW)).cost.0;
        // 100,000 tokens of prompt: 20,000 × 0.10 + 50,000 × 0.01 + 30,000 × 0.125 + 1,000 × 0.50
        assert_eq!(cost(usage(20_000, 1_000, 50_000, 30_000, 0)), 2_000 + 500 + 3_750 + 500);
        // one more: five times as much on each
        assert_eq!(cost(usage(20_002, 1_000, 50_000, 30_000, 0)), 10_001 + 2_500 + 18_750 + 2_500);
    }

    #[test]
    fn a_price_that_changes_on_a_date_leaves_older_calls_alone() {
        let prices = Prices::embedded();
        let read = usage(0, 0, 1_000_000, 0, 0);
        let on = |text| prices.cost("claude-sonnet-5-5", &read, at(text));
        assert_eq!(on("2026-10-06T23:59:59Z"), Priced { cost: MicroUsd(200_000), estimated: false });
        assert_eq!(on("2026-10-07T00:00:00Z"), Priced { cost: MicroUsd(100_000), estimated: false });
        assert_eq!(on("2020-01-01T00:00:00Z"), Priced { cost: MicroUsd(200_000), estimated: true });
    }

    #[test]
    fn an_unknown_model_is_never_free() {
        let prices = Prices::embedded();
        let all = usage(1_000_000, 1_000_000, 1_000_000, 2_000_000, 1_000_000);
        let found = prices.cost("claude-novel-9", &all, at(NOW));
        // the dearest of each class: 10 + 50 + 1 + 12.5 + 20
        assert_eq!(found, Priced { cost: MicroUsd(93_500_000), estimated: true });
        assert!(!prices.knows("claude-novel-9") && prices.knows("opus"));
    }

    #[test]
    fn a_price_below_nothing_is_refused_by_name() {
        let row = "[[model]]\nid='m'\neffective_from='2026-01-01'\nsource='s'\ninput=-1\noutput=1\nwrite_5m=1\nwrite_1h=1\nread=1";
        assert!(matches!(Prices::parse(row), Err(PricesError::Rate { model, .. }) if model == "m"));
        assert!(Prices::parse("model = []").is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_dearer_use_never_costs_less(input in 0_u64..50_000, output in 0_u64..50_000, more in 0_u64..10_000) {
            let prices = Prices::embedded();
            for model in ["opus", "haiku", "unheard-of"] {
                let less = prices.cost(model, &usage(input, output, 0, 0, 0), at(NOW)).cost;
                let dearer = prices.cost(model, &usage(input, output + more, more, 0, 0), at(NOW)).cost;
                proptest::prop_assert!(less <= dearer);
            }
        }
    }
}
