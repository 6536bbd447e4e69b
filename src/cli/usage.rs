//! `podium usage`: tokens and money from the ledger's own files, with or without a room.

use clap::Args;
use jiff::{ToSpan as _, civil::Date, tz::TimeZone};

use super::{
    Call, Exit, json, link,
    out::{Out, Paint},
    status::money,
};
use crate::{
    api,
    ledger::{
        Rows,
        usage::{self, By, Usage},
    },
    model::{MicroUsd, Spend, caching::Miss, gateway::Drift, text},
};

/// `podium usage`.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// agent, model, goal, task or day
    #[arg(long, default_value = "agent", value_name = "WHAT")]
    by: By,
    /// The first day, UTC [default: 31 days ago]
    #[arg(long, value_name = "DATE")]
    since: Option<Date>,
}

/// How the figures are made, and what they do not say.
const METHOD: [&str; 6] = [
    "Sums are over the rows of the ledger, one per call, each counted once; ~ marks what is in part a guess: calls that broke off, models without a price.",
    "Saved is computed on the same recorded calls: what they would have cost without the cache, on the top model, and both. Each cause gets the mean of what it saves alone and on top of the other, so that the parts sum exactly.",
    "A stronger model may need fewer turns, and another tokenizer makes up to 30 % more or fewer tokens of the same text: the saving by cheaper models is a repricing, not an experiment.",
    "Calls whose tokens or price are a guess are left out of what is saved.",
    "Why the cache missed is inferred from the calls before in the same session; the server does not tell it.",
    "On a subscription these are the dollars that the same calls would cost by the token.",
];

/// So many rows of one kind are printed; `--json` has all.
const ROWS: usize = 40;

pub(super) fn usage(call: &Call, args: &UsageArgs) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let today = link::clock().now().to_zoned(TimeZone::UTC).date();
    let since = args.since.unwrap_or_else(|| today.saturating_sub(31.days()));
    let top = api::full_id(&config.tiers.top);
    let rows = Rows::new(config.layout().ledger());
    let usage = usage::fold(&rows, since, args.by, &config.prices, top)?;
    if call.out.is_json() {
        call.out.json(&json::money::UsageJson::new(&usage, since, args.by.word(), top, &METHOD));
    } else {
        print(&call.out, &usage, args.by, since, top);
    }
    Ok(Exit::Done)
}

fn print(out: &Out, usage: &Usage, by: By, since: Date, top: &str) {
    let many = |n: u64, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    let days = many(usage.days.len() as u64, "day");
    out.line(&format!(
        "{} since {since}: {} on {days}, {} a day",
        out.paint(Paint::Bold, &usage.total.shown()),
        many(usage.total.calls, "call"),
        usage.per_day(),
    ));
    if usage.total.calls == 0 && usage.total.cost.is_zero() {
        return out.line("no model call is in the ledger");
    }
    if !usage.by_engines.cost.is_zero() {
        let only = usage.by_engines.shown();
        out.line(&format!("{only} of it is what engines say whose calls do not pass the gateway"));
    }
    heading(out, &format!("By {}", by.word()));
    let mut groups: Vec<(&str, &Spend)> =
        usage.groups.iter().map(|(name, spend)| (name.as_deref().unwrap_or("(none)"), spend)).collect();
    if by != By::Day {
        groups.sort_by_key(|(_, spend)| std::cmp::Reverse(spend.cost));
    }
    table(out, &groups);
    if by != By::Model {
        heading(out, "By model");
        table(out, &usage.models.iter().map(|(name, spend)| (name.as_str(), spend)).collect::<Vec<_>>());
    }
    cache(out, usage);
    saved(out, usage, top);
    drifts(out, usage);
    heading(out, "How this is computed");
    for line in METHOD {
        out.line(&format!("  - {line}"));
    }
    if !usage.unpriced.is_empty() {
        let names: Vec<&str> = usage.unpriced.iter().map(String::as_str).collect();
        let names = text::scrub(&names.join(", ")).into_owned();
        out.line(&format!(
            "  - No price is known for {names}: the dearest of every class counts. Put them into prices.toml."
        ));
    }
    if usage.repriced > 0 {
        let calls = many(usage.repriced, "call");
        out.line(&format!(
            "  - The price table has changed since {calls} were made: rows keep the cost of their time."
        ));
    }
}

fn heading(out: &Out, words: &str) {
    out.line("");
    out.line(&out.paint(Paint::Bold, words));
}

fn percent(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.0} %", rate * 100.0))
}

fn table(out: &Out, groups: &[(&str, &Spend)]) {
    let cell = |text: &str| (Paint::Plain, text.to_owned());
    let head = ["", "cost", "calls", "input", "output", "from cache", "to cache", "cache hits"];
    let mut rows = vec![head.map(|word| (Paint::Dim, word.to_owned())).to_vec()];
    rows.extend(groups.iter().take(ROWS).map(|(name, spend)| {
        let used = &spend.usage;
        vec![
            cell(&text::first_line(name, 60)),
            cell(&money(spend)),
            cell(&spend.calls.to_string()),
            cell(&used.input_tokens.to_string()),
            cell(&used.output_tokens.to_string()),
            cell(&used.cache_read_input_tokens.to_string()),
            cell(&used.cache_creation_input_tokens.to_string()),
            cell(&percent(used.cache_hit_rate())),
        ]
    }));
    out.table(&rows);
    if groups.len() > ROWS {
        out.line(&out.paint(Paint::Dim, &format!("  … and {} more; --json has them all", groups.len() - ROWS)));
    }
}

fn cache(out: &Out, usage: &Usage) {
    heading(out, "Cache");
    let rate = percent(usage.total.usage.cache_hit_rate());
    let (hits, calls) = (usage.caching.hits, usage.caching.calls());
    out.line(&format!("  {rate} of all input tokens were read from it; {hits} of {calls} calls found what they could"));
    let rows = Miss::ALL.into_iter().filter_map(|miss| {
        let missed = usage.caching.misses.get(&miss)?;
        let tokens = format!("{} tokens paid as new", missed.tokens);
        Some(vec![
            (Paint::Plain, missed.calls.to_string()),
            (Paint::Plain, miss.words().to_owned()),
            (Paint::Dim, tokens),
        ])
    });
    out.table(&rows.collect::<Vec<_>>());
}

fn saved(out: &Out, usage: &Usage, top: &str) {
    let savings = &usage.savings;
    let split = savings.split();
    heading(out, "Saved");
    let share = |saved: MicroUsd, of: MicroUsd| {
        if of.0 > 0 { format!("{:.0} % of {of}", saved.0 as f64 * 100.0 / of.0 as f64) } else { "-".to_owned() }
    };
    let row = |name: &str, saved: MicroUsd, detail: String| {
        vec![(Paint::Plain, name.to_owned()), (Paint::Plain, saved.to_string()), (Paint::Dim, detail)]
    };
    let alone = |name: &str, would: MicroUsd| format!("{name} these calls would have cost {would}");
    out.table(&[
        row("by caching", split.caching, alone("without the cache", savings.no_cache)),
        row("by cheaper models", split.tiering, alone(&format!("on {top}"), savings.top)),
        row("both", split.both, share(split.both, savings.top_no_cache)),
    ]);
    let left = if savings.left_out > 0 { format!(", {} left out", savings.left_out) } else { String::new() };
    let days = usage.days.len();
    out.line(
        &out.paint(Paint::Dim, &format!("  n = {} calls on {days} days, {} paid{left}", savings.calls, savings.actual)),
    );
}

fn drifts(out: &Out, usage: &Usage) {
    if usage.compared == 0 {
        return;
    }
    heading(out, "Gateway and engines");
    let (apart, all) = (usage.drifts.len(), usage.compared);
    out.line(&format!(
        "  {apart} of {all} attempts differ by more than 5 %; the gateway's count is the one that counts"
    ));
    out.table(&usage.drifts.iter().take(ROWS).map(drift_row).collect::<Vec<_>>());
}

/// Gateway and engine of one attempt, on one line.
pub(super) fn drift_row(drift: &Drift) -> Vec<(Paint, String)> {
    let sign = |percent: Option<i64>| percent.map_or_else(|| "-".to_owned(), |n| format!("{n:+} %"));
    vec![
        (Paint::Plain, drift.attempt.to_string()),
        (Paint::Plain, format!("gateway {}", drift.gateway.shown())),
        (Paint::Plain, format!("engine {}", drift.engine.cost)),
        (Paint::Warn, format!("cost {}", sign(drift.cost_percent()))),
        (Paint::Warn, format!("tokens {}", sign(drift.token_percent()))),
    ]
}
