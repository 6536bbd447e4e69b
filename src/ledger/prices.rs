//! The price table: dated rows per model, five rates each, whole numbers only.
//!
//! Rates are held in micro-dollars per million tokens. Must not know where a call came from. Its one surprise: a model
//! nobody has heard of is never free; it costs the dearest rate of every class and is marked as an estimate.

use std::{collections::BTreeMap, ops::Range};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::model::{
    MicroUsd, Modifiers, Spend, Usage,
    gateway::{Call, CallEnd},
    savings::Appraisal,
};

mod wire;

use wire::Field;

/// Why a price table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// Not the TOML we know.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A rate below zero, or not a number.
    #[error("{rate} is not a price from 0 to 1000000 dollars")]
    Rate {
        /// The rate found.
        rate: f64,
        /// Where, in bytes.
        span: Range<usize>,
    },
    /// A percentage that nobody can mean.
    #[error("the modifier for {value:?} has {percent} percent; at most 10000 are allowed")]
    Percent {
        /// The percentage found.
        percent: u32,
        /// Of which modifier.
        value: String,
    },
}

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priced {
    /// The cost, rounded once, to the nearest millionth of a dollar.
    pub cost: MicroUsd,
    /// The price is a guess: the model is not known, or not for that date, or not what was out of the ordinary.
    pub estimated: bool,
}

impl Priced {
    /// What a call with this usage adds to a sum.
    pub fn spend(self, usage: Usage) -> Spend {
        Spend::of_call(usage, self.cost, self.estimated)
    }
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
    /// Millionths of a micro-dollar.
    fn sum(&self, usage: &Usage) -> i128 {
        // A server that reports more one-hour writes than writes is believed on the sum.
        let hour = usage.cache_creation_1h_input_tokens.min(usage.cache_creation_input_tokens);
        let classes = [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_creation_input_tokens - hour, self.write_5m),
            (hour, self.write_1h),
            (usage.cache_read_input_tokens, self.read),
        ];
        classes.iter().map(|&(tokens, rate)| i128::from(tokens) * i128::from(rate)).sum()
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
    /// Rates in fast mode, where the model has one.
    fast: Option<Rates>,
    /// Shorter prefixes are not cached.
    min_cacheable: Option<u64>,
}

impl Row {
    fn rates(&self, prompt: u64) -> &Rates {
        self.bands.iter().rev().find(|(above, _)| prompt > *above).map_or(&self.base, |(_, rates)| rates)
    }

    fn all(&self) -> impl Iterator<Item = Rates> {
        std::iter::once(self.base).chain(self.bands.iter().map(|(_, rates)| *rates))
    }
}

/// All known prices.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    /// By model id, oldest row first.
    models: BTreeMap<String, Vec<Row>>,
    /// Other names of models.
    aliases: BTreeMap<String, String>,
    /// Percentages of the tokens' price, oldest first.
    modifiers: BTreeMap<(Field, String), Vec<(Date, u32)>>,
    /// Micro-dollars per thousand searches of the web, oldest first.
    searches: Vec<(Date, i64)>,
    /// The dearest rate of every class in the whole table, and with fast modes.
    dearest: Rates,
    dearest_fast: Rates,
    /// Rows that an operator's file has put in.
    own: usize,
}

impl Prices {
    /// The table this program was built with.
    pub fn embedded() -> Self {
        let mut prices = Self::default();
        prices.put(include_str!("../../assets/prices.toml")).expect("the embedded price table is tested");
        prices.own = 0;
        prices
    }

    /// Puts the rows of another table in, in the form of `assets/prices.toml`: a whole row takes the place of the one
    /// with the same name and day.
    pub fn put(&mut self, text: &str) -> Result<(), PricesError> {
        let file = wire::read(text)?;
        for row in file.model {
            let mut bands = Vec::new();
            for band in &row.band {
                bands.push((band.above, band.rates()?));
            }
            bands.sort_unstable_by_key(|(above, _)| *above);
            let fast = row.fast.as_ref().map(wire::Rates::rates).transpose()?;
            let made =
                Row { from: row.effective_from, base: row.base()?, bands, fast, min_cacheable: row.min_cacheable };
            for alias in row.aliases {
                self.aliases.insert(alias, row.id.clone());
            }
            let rows = self.models.entry(row.id).or_default();
            rows.retain(|known| known.from != made.from);
            rows.push(made);
            rows.sort_by_key(|row| row.from);
            self.own += 1;
        }
        for modifier in file.modifier {
            let dated = self.modifiers.entry((modifier.field, modifier.value)).or_default();
            put_dated(dated, modifier.effective_from, modifier.percent);
            self.own += 1;
        }
        for tool in file.tool {
            match tool.id {
                wire::ToolId::WebSearch => {
                    put_dated(&mut self.searches, tool.effective_from, wire::micro(&tool.per_1000)?);
                }
            }
            self.own += 1;
        }
        let rows = || self.models.values().flatten();
        self.dearest = rows().flat_map(Row::all).fold(Rates::default(), Rates::dearest);
        self.dearest_fast = rows().filter_map(|row| row.fast).fold(self.dearest, Rates::dearest);
        Ok(())
    }

    /// Rows that an operator's file has put in.
    pub fn own(&self) -> usize {
        self.own
    }

    /// Prices what `model` used at `at`.
    pub fn cost(&self, model: &str, usage: &Usage, modifiers: &Modifiers, at: Timestamp) -> Priced {
        let day = at.to_zoned(TimeZone::UTC).date();
        let row = self.row(model, day);
        let mut estimated = row.is_none_or(|(_, in_force)| !in_force);
        let rates = match (&modifiers.speed, row) {
            (None, Some((row, _))) => row.rates(prompt(usage)),
            (None, None) => &self.dearest,
            (Some(_), row) => {
                let fast = row.and_then(|(row, _)| row.fast.as_ref());
                estimated |= fast.is_none();
                fast.unwrap_or(&self.dearest_fast)
            }
        };
        let (mut sum, mut of) = (rates.sum(usage), 1_000_000);
        for (field, value) in
            [(Field::ServiceTier, &modifiers.service_tier), (Field::InferenceGeo, &modifiers.inference_geo)]
        {
            let Some(value) = value else { continue };
            let (percent, known) = self.percent(field, value, day);
            estimated |= !known;
            sum *= i128::from(percent);
            of *= 100;
        }
        let (search, known) = in_force(&self.searches, day).unwrap_or_default();
        estimated |= !known && modifiers.web_searches > 0;
        // Per thousand, and of the same denominator.
        sum += i128::from(modifiers.web_searches) * i128::from(search) * (of / 1_000);
        Priced { cost: MicroUsd(i64::try_from((sum + of / 2) / of).unwrap_or(i64::MAX)), estimated }
    }

    /// What a call would have cost otherwise, and what a prefix must have to be cached.
    pub fn appraise(&self, call: &Call, top: &str) -> Option<Appraisal> {
        let counts = match call.end {
            CallEnd::Complete | CallEnd::Aborted | CallEnd::Broken => call.usage.total() > 0 && !call.estimated,
            CallEnd::Refused { .. } | CallEnd::Unreachable => false,
        };
        if !counts {
            return None;
        }
        let bare =
            Usage { input_tokens: prompt(&call.usage), output_tokens: call.usage.output_tokens, ..Usage::default() };
        let day = call.at.to_zoned(TimeZone::UTC).date();
        let mut modifiers = call.modifiers.clone();
        let no_cache = self.cost(&call.model, &bare, &modifiers, call.at).cost;
        if self.row(top, day).is_none_or(|(row, _)| row.fast.is_none()) {
            // What it does not have, it would not have cost.
            modifiers.speed = None;
        }
        Some(Appraisal {
            no_cache,
            top: self.cost(top, &call.usage, &modifiers, call.at).cost,
            top_no_cache: self.cost(top, &bare, &modifiers, call.at).cost,
            min_cacheable: self.row(&call.model, day).and_then(|(row, _)| row.min_cacheable),
        })
    }

    /// Whether the table has a price for `model`.
    pub fn knows(&self, model: &str) -> bool {
        !self.rows(model).is_empty()
    }

    /// The row in force on a day, else the oldest; and whether it is in force.
    fn row(&self, model: &str, day: Date) -> Option<(&Row, bool)> {
        let rows = self.rows(model);
        // A model's own row wins over its alias's of the same day.
        let newest = rows.iter().copied().filter_map(|rows| rows.iter().rev().find(|row| row.from <= day));
        let in_force = newest.reduce(|best, row| if row.from > best.from { row } else { best });
        in_force.map(|row| (row, true)).or_else(|| Some((rows.first()?.first()?, false)))
    }

    /// The rows of a model, and those of the one that it is another name of.
    fn rows(&self, model: &str) -> Vec<&Vec<Row>> {
        let name = model.strip_suffix("[1m]").unwrap_or(model);
        let name = name.strip_suffix("-latest").unwrap_or(name);
        let named = |name: &str| {
            let aliased = self.aliases.get(name).and_then(|id| self.models.get(id));
            self.models.get(name).into_iter().chain(aliased).collect::<Vec<_>>()
        };
        let found = named(name);
        match name.rsplit_once('-') {
            Some((bare, date)) if found.is_empty() && date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) => {
                named(bare)
            }
            Some(_) | None => found,
        }
    }

    /// A percentage, and whether it is known.
    fn percent(&self, field: Field, value: &str, day: Date) -> (u32, bool) {
        let known = self.modifiers.get(&(field, value.to_owned())).and_then(|dated| in_force(dated, day));
        known.unwrap_or_else(|| {
            let all = self.modifiers.values().flatten().map(|(_, percent)| *percent);
            (all.max().unwrap_or(100).max(100), false)
        })
    }
}

/// Everything that goes in.
fn prompt(usage: &Usage) -> u64 {
    usage.input_tokens.saturating_add(usage.cache_creation_input_tokens).saturating_add(usage.cache_read_input_tokens)
}

/// A value from a day on, in the place of one of the same day.
fn put_dated<T>(dated: &mut Vec<(Date, T)>, from: Date, value: T) {
    dated.retain(|(known, _)| *known != from);
    dated.push((from, value));
    dated.sort_by_key(|(from, _)| *from);
}

/// The value in force on a day, else the oldest; and whether it is in force.
fn in_force<T: Copy>(dated: &[(Date, T)], day: Date) -> Option<(T, bool)> {
    let now = dated.iter().rev().find(|(from, _)| *from <= day).map(|(_, value)| (*value, true));
    now.or_else(|| dated.first().map(|(_, value)| (*value, false)))
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
            let found = prices.cost(model, &usage, &Modifiers::default(), at(NOW));
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
        let cost = |usage| prices.cost("claude-haiku-5-5", &usage, &Modifiers::default(), at(NOW)).cost.0;
        // 100,000 tokens of prompt: 20,000 × 0.10 + 50,000 × 0.01 + 30,000 × 0.125 + 1,000 × 0.50
        assert_eq!(cost(usage(20_000, 1_000, 50_000, 30_000, 0)), 2_000 + 500 + 3_750 + 500);
        // one more: five times as much on each
        assert_eq!(cost(usage(20_002, 1_000, 50_000, 30_000, 0)), 10_001 + 2_500 + 18_750 + 2_500);
    }

    #[test]
    fn a_price_that_changes_on_a_date_leaves_older_calls_alone() {
        let prices = Prices::embedded();
        let read = usage(0, 0, 1_000_000, 0, 0);
        let on = |text| prices.cost("claude-sonnet-5-5", &read, &Modifiers::default(), at(text));
        assert_eq!(on("2026-10-06T23:59:59Z"), Priced { cost: MicroUsd(200_000), estimated: false });
        assert_eq!(on("2026-10-07T00:00:00Z"), Priced { cost: MicroUsd(100_000), estimated: false });
        assert_eq!(on("2020-01-01T00:00:00Z"), Priced { cost: MicroUsd(200_000), estimated: true });
    }

    #[test]
    fn an_unknown_model_is_never_free() {
        let prices = Prices::embedded();
        let all = usage(1_000_000, 1_000_000, 1_000_000, 2_000_000, 1_000_000);
        let found = prices.cost("claude-novel-9", &all, &Modifiers::default(), at(NOW));
        // the dearest of each class: 10 + 50 + 1 + 12.5 + 20
        assert_eq!(found, Priced { cost: MicroUsd(93_500_000), estimated: true });
        assert!(!prices.knows("claude-novel-9") && prices.knows("opus"));
    }

    #[test]
    fn what_is_out_of_the_ordinary_has_its_own_price_and_the_factors_stack() {
        let prices = Prices::embedded();
        let cost = |model: &str, usage: Usage, modifiers: Modifiers| {
            let found = prices.cost(model, &usage, &modifiers, at(NOW));
            assert!(!found.estimated, "{model} {modifiers:?}");
            found.cost.0
        };
        let some = |word: &str| Some(word.to_owned());
        let batch = Modifiers { service_tier: some("batch"), ..Modifiers::default() };
        let american = Modifiers { inference_geo: some("us"), ..Modifiers::default() };
        let fast = Modifiers { speed: some("fast"), ..Modifiers::default() };
        let call = usage(1_000, 500, 10_000, 2_000, 500);
        // 27,500 as above, the half of it, and a tenth more.
        assert_eq!(cost("claude-opus-5-5", call, batch.clone()), 13_750);
        assert_eq!(cost("claude-opus-5-5", call, american.clone()), 30_250);
        let both = Modifiers { inference_geo: some("us"), ..batch };
        assert_eq!(cost("claude-opus-5-5", call, both.clone()), 15_125);
        // 1 token at 4, half, a tenth more: 2.2 → 2. And 3 tokens: 6.6 → 7. Rounded once, at the end.
        assert_eq!(cost("claude-opus-5-5", usage(1, 0, 0, 0, 0), both.clone()), 2);
        assert_eq!(cost("claude-opus-5-5", usage(3, 0, 0, 0, 0), both.clone()), 7);
        // 1,000 × 10 + 500 × 50 + 10,000 × 1 + 1,500 × 12.5 + 500 × 20 = 10,000 + 25,000 + 10,000 + 18,750 + 10,000
        assert_eq!(cost("claude-opus-5", call, fast.clone()), 73_750);
        assert_eq!(cost("claude-opus-4-8", call, Modifiers { inference_geo: some("us"), ..fast.clone() }), 81_125);
        // Three searches at $10 a thousand; no factor touches them.
        let searched = Modifiers { web_searches: 3, ..both };
        assert_eq!(cost("claude-opus-5-5", call, searched), 15_125 + 30_000);
        let plain = Modifiers { inference_geo: some("global"), ..Modifiers::default() };
        assert_eq!(cost("claude-opus-5-5", call, plain), 27_500);
        // Nobody knows a fast haiku, nor that place: dear, and marked.
        let odd = prices.cost("claude-haiku-4-5", &call, &fast, at(NOW));
        assert_eq!(odd, Priced { cost: MicroUsd(73_750), estimated: true });
        let moon = Modifiers { inference_geo: some("moon"), ..Modifiers::default() };
        let odd = prices.cost("claude-opus-5-5", &call, &moon, at(NOW));
        assert_eq!(odd, Priced { cost: MicroUsd(30_250), estimated: true });
    }

    const OWN: &str = "effective_from='2026-08-01'\nsource='s'\ninput=1\noutput=1\nwrite_5m=1\nwrite_1h=1\nread=1\n";

    #[test]
    fn an_operators_row_takes_the_place_of_the_whole_row_of_its_day_and_leaves_the_others() {
        let mut prices = Prices::embedded();
        prices.put(&format!("[[model]]\nid='claude-sonnet-5-5'\n{OWN}")).unwrap();
        let all = usage(1, 1, 1, 2, 1);
        let on = |model: &str, text| prices.cost(model, &all, &Modifiers::default(), at(text)).cost.0;
        assert_eq!(on("claude-sonnet-5-5", "2026-09-01T00:00:00Z"), 5);
        // Its alias still finds it, and the row of a later day is the built-in one.
        assert_eq!(on("sonnet", "2026-09-01T00:00:00Z"), 5);
        assert_eq!(on("sonnet", NOW), 2 + 10 + 3 + 4);
        // A model that was only another name gets rows of its own.
        prices.put(&format!("[[model]]\nid='claude-opus-4-8'\n{OWN}").replace("2026-08", "2026-11")).unwrap();
        let on = |model: &str, text| prices.cost(model, &all, &Modifiers::default(), at(text)).cost.0;
        assert_eq!((on("claude-opus-4-8", NOW), on("claude-opus-5", NOW)), (5, 5 + 25 + 7 + 10));
        assert_eq!(on("claude-opus-4-8", "2026-09-01T00:00:00Z"), 47);
        assert_eq!(prices.own(), 2);
    }

    #[test]
    fn a_wrong_table_is_refused_with_its_place() {
        let at = |text: &str| {
            let error = Prices::embedded().put(text).unwrap_err();
            let text = text.get(error.span().unwrap_or_default()).unwrap_or_default().to_owned();
            (error.to_string().lines().last().unwrap_or_default().to_owned(), text)
        };
        let row = format!("[[model]]\nid='m'\n{OWN}");
        assert_eq!(at(&row.replace("read=1", "read=-1")).1, "-1");
        assert_eq!(at(&row.replace("read=1", "read='free'")).1, "'free'");
        let (said, place) = at(&row.replace("read=1", "reed=1"));
        assert!(said.contains("unknown field `reed`") && place == "reed", "{said} {place}");
        assert!(
            at("[[modifier]]\nfield='service_tier'\nvalue='x'\neffective_from='2026-01-01'\nsource='s'\npercent=10001")
                .0
                .contains("10001")
        );
    }

    #[test]
    fn what_a_call_would_have_cost_is_computed_on_the_same_tokens() {
        let prices = Prices::embedded();
        let mut call = crate::ledger::sample::call("1", NOW);
        call.model = "claude-haiku-4-5".into();
        call.usage = usage(100, 50, 10_000, 2_000, 0);
        // 100 × 1 + 50 × 5 + 10,000 × 0.1 + 2,000 × 1.25
        call.cost = MicroUsd(100 + 250 + 1_000 + 2_500);
        let made = prices.appraise(&call, "opus").unwrap();
        // 12,100 × 1 + 250; 100 × 4 + 50 × 20 + 10,000 × 0.2 + 2,000 × 5; 12,100 × 4 + 1,000
        let expected = Appraisal {
            no_cache: MicroUsd(12_350),
            top: MicroUsd(400 + 1_000 + 2_000 + 10_000),
            top_no_cache: MicroUsd(49_400),
            min_cacheable: Some(4_096),
        };
        assert_eq!(made, expected);
        call.estimated = true;
        assert_eq!(prices.appraise(&call, "opus"), None);
    }

    proptest::proptest! {
        #[test]
        fn a_dearer_use_never_costs_less(input in 0_u64..50_000, output in 0_u64..50_000, more in 0_u64..10_000) {
            let prices = Prices::embedded();
            for model in ["opus", "haiku", "unheard-of"] {
                let less = prices.cost(model, &usage(input, output, 0, 0, 0), &Modifiers::default(), at(NOW)).cost;
                let dearer = prices.cost(model, &usage(input, output + more, more, 0, 0), &Modifiers::default(), at(NOW)).cost;
                proptest::prop_assert!(less <= dearer);
            }
        }
    }
}
