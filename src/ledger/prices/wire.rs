//! The price table as it is written: every key named, none unknown, every value with its place.

use std::ops::Range;

use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;

use super::{PricesError, Rates as Whole};
use crate::model::MicroUsd;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) model: Vec<Model>,
    pub(super) modifier: Vec<Modifier>,
    pub(super) tool: Vec<Tool>,
}

/// A model's rates from a day on, in dollars per million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) id: String,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    pub(super) effective_from: Date,
    #[expect(dead_code, reason = "every row must say where it comes from; only readers of the file look at it")]
    source: String,
    input: Rate,
    output: Rate,
    write_5m: Rate,
    write_1h: Rate,
    read: Rate,
    pub(super) min_cacheable: Option<u64>,
    #[serde(default)]
    pub(super) band: Vec<Band>,
    pub(super) fast: Option<Rates>,
}

/// The rates of a prompt that is longer than so many tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Band {
    pub(super) above: u64,
    input: Rate,
    output: Rate,
    write_5m: Rate,
    write_1h: Rate,
    read: Rate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rates {
    input: Rate,
    output: Rate,
    write_5m: Rate,
    write_1h: Rate,
    read: Rate,
}

/// A percentage of the tokens' price for calls of which the server says `field` = `value`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Modifier {
    pub(super) field: Field,
    pub(super) value: String,
    pub(super) effective_from: Date,
    #[expect(dead_code, reason = "as above")]
    source: String,
    pub(super) percent: u32,
}

#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(super) enum Field {
    ServiceTier,
    InferenceGeo,
}

/// What a tool of the server's costs, in dollars per thousand uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tool {
    pub(super) id: ToolId,
    pub(super) effective_from: Date,
    #[expect(dead_code, reason = "as above")]
    source: String,
    pub(super) per_1000: Rate,
}

#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToolId {
    WebSearch,
}

/// A price in dollars, and where it stands.
pub(super) type Rate = Spanned<f64>;

/// A price in micro-dollars.
pub(super) fn micro(rate: &Rate) -> Result<i64, PricesError> {
    let dollars = *rate.get_ref();
    if dollars.is_finite() && (0.0..1e6).contains(&dollars) {
        Ok(MicroUsd::from_dollars(dollars).0)
    } else {
        Err(PricesError::Rate { rate: dollars, span: rate.span() })
    }
}

fn whole(each: [&Rate; 5]) -> Result<Whole, PricesError> {
    let [input, output, short, hour, read] = each.map(micro);
    Ok(Whole { input: input?, output: output?, write_5m: short?, write_1h: hour?, read: read? })
}

impl Model {
    pub(super) fn base(&self) -> Result<Whole, PricesError> {
        whole([&self.input, &self.output, &self.write_5m, &self.write_1h, &self.read])
    }
}

impl Band {
    pub(super) fn rates(&self) -> Result<Whole, PricesError> {
        whole([&self.input, &self.output, &self.write_5m, &self.write_1h, &self.read])
    }
}

impl Rates {
    pub(super) fn rates(&self) -> Result<Whole, PricesError> {
        whole([&self.input, &self.output, &self.write_5m, &self.write_1h, &self.read])
    }
}

/// Reads a table.
pub(super) fn read(text: &str) -> Result<File, PricesError> {
    let file: File = toml::from_str(text)?;
    for modifier in &file.modifier {
        if modifier.percent > 10_000 {
            return Err(PricesError::Percent { percent: modifier.percent, value: modifier.value.clone() });
        }
    }
    Ok(file)
}

impl PricesError {
    /// Where in the text it lies, in bytes.
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::Toml(error) => error.span(),
            Self::Rate { span, .. } => Some(span.clone()),
            Self::Percent { .. } => None,
        }
    }
}
