//! What a plan is expected to take in all, and in money.
//!
//! Its one surprise: dollars are worked out from tokens where the planner named none: the least as if nothing but input
//! were read at full price, the most as if a third of it were output. A cache makes it cheaper; this is said before.

use super::Rules;
use crate::model::{Plan, PlanTask, plan::Range};

/// Sums over all tasks; `None` where nothing was said of any.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Minutes of work, one after another.
    pub minutes: Option<Range>,
    /// Tokens of all classes.
    pub tokens: Option<Range>,
    /// Dollars.
    pub usd: Option<Range>,
    /// Tasks whose cost nobody knows.
    pub unpriced: usize,
}

/// What a task is expected to cost.
pub fn usd(task: &PlanTask, rules: &Rules) -> Option<Range> {
    task.estimates.usd.or_else(|| {
        let tokens = task.estimates.tokens.filter(|tokens| tokens.is_sound())?;
        let price = rules.price_of(task)?;
        let (input, output) = (price.input.dollars() / 1e6, price.output.dollars() / 1e6);
        Some(Range { low: tokens.low * input, high: tokens.high * (2.0 * input + output) / 3.0 })
    })
}

/// The sums.
pub fn totals(plan: &Plan, rules: &Rules) -> Totals {
    let mut totals = Totals::default();
    let add = |sum: &mut Option<Range>, more: Option<Range>| {
        if let Some(more) = more.filter(|more| more.low.is_finite() && more.high.is_finite()) {
            *sum = Some(sum.map_or(more, |sum| sum.plus(more)));
        }
    };
    for task in &plan.tasks {
        let usd = usd(task, rules);
        totals.unpriced += usize::from(usd.is_none());
        add(&mut totals.minutes, task.estimates.minutes);
        add(&mut totals.tokens, task.estimates.tokens);
        add(&mut totals.usd, usd);
    }
    totals
}

/// Tokens as people say them: `900`, `12k`, `1.4M`.
pub fn tokens_text(range: Range) -> String {
    let one = |n: f64| match n {
        n if n < 1_000.0 => format!("{n:.0}"),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    };
    let (low, high) = (one(range.low), one(range.high));
    if low == high { low } else { format!("{low}–{high}") }
}

/// Dollars as people say them: `$0.10–0.40`, `<$0.01`.
pub fn usd_text(range: Range) -> String {
    if range.high < 0.005 {
        return "<$0.01".to_owned();
    }
    let (low, high) = (format!("{:.2}", range.low), format!("{:.2}", range.high));
    if low == high { format!("${low}") } else { format!("${low}–{high}") }
}
