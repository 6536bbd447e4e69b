//! Money: what today has cost, against what it may cost, by everybody who spends, and what was saved. What is estimated is
//! marked `~`.

use std::fmt::Write;

use jiff::SignedDuration;
use ratatui::text::Line;

use super::gauge;
use crate::{
    model::{MicroUsd, Spend, budget::Payer},
    room::why::span,
    tui::{text, theme::Role, views::Scene},
};

/// Days before this one that are shown.
const DAYS: usize = 7;

/// From here on a budget is nearly used up.
const NEARLY: f64 = 0.8;

fn part(spent: MicroUsd, of: MicroUsd) -> f64 {
    if of > MicroUsd(0) { spent.0 as f64 / of.0 as f64 } else { 1.0 }
}

fn role(part: f64) -> Role {
    match part {
        part if part >= 1.0 => Role::Bad,
        part if part >= NEARLY => Role::Warn,
        _ => Role::Good,
    }
}

/// Today in few columns: against its cap, how fast it goes, who spent it.
pub(super) fn narrow(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let money = &scene.state.money;
    let mut spans = vec![scene.span("today ", Role::Dim), scene.span(money.today.shown(), Role::Title)];
    if let Some(cap) = scene.state.budgets.caps.day {
        let part = part(money.today.cost, cap);
        spans.push(scene.span(format!(" of {cap}"), if part >= NEARLY { role(part) } else { Role::Dim }));
    }
    if let Some(rate) = money.today.usage.cache_hit_rate() {
        spans.push(scene.span(format!(" · cache {:.0}%", rate * 100.0), Role::Dim));
    }
    let mut lines = vec![Line::from(spans)];
    if let Some(burn) = burn(scene) {
        lines.push(Line::from(scene.span(text::fit(&burn, width.saturating_sub(1)), Role::Dim)));
    }
    lines.extend(spenders(scene, width));
    lines.extend(week(scene).map(|text| Line::from(scene.span(text::fit(&text, width.saturating_sub(1)), Role::Dim))));
    lines
}

/// `yesterday $3.10 · 7 days $21.40`, the days before this one; nothing before there is one.
fn week(scene: &Scene<'_>) -> Option<String> {
    let money = &scene.state.money;
    let today = money.day?;
    let first = today.saturating_sub(jiff::Span::new().days(7));
    let days = money.days.range(first..today);
    let sum = days.fold(Spend::default(), |mut sum, (_, spend)| {
        sum += *spend;
        sum
    });
    let yesterday = today.yesterday().ok().and_then(|day| money.days.get(&day)).copied().unwrap_or_default();
    (sum != Spend::default()).then(|| format!("yesterday {} · 7 days {}", yesterday.shown(), sum.shown()))
}

/// `burn $0.61/h · cap in 6 h 48 min`; nothing while nothing is spent.
fn burn(scene: &Scene<'_>) -> Option<String> {
    let burn = scene.state.money.burn(scene.now);
    (burn > MicroUsd(0)).then(|| {
        let lasts = scene.state.day_lasts().filter(|lasts| *lasts < SignedDuration::from_hours(48));
        let lasts = lasts.map(|lasts| format!(" · cap in {}", span(lasts))).unwrap_or_default();
        format!("burn {burn}/h{lasts}")
    })
}

/// Today with every cap, what was saved, and who spent it, on which models, for which goals.
pub(super) fn wide(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let money = &scene.state.money;
    let day = money.day.map(|day| format!("  today, {day} UTC")).unwrap_or_default();
    let burn = burn(scene).map(|burn| format!("  {burn}, by the last hour"));
    let mut lines = vec![Line::from(vec![
        scene.span("Money", Role::Title),
        scene.span(format!("{day}  "), Role::Dim),
        scene.span(money.today.shown(), Role::Title),
    ])];
    lines.extend(burn.map(|burn| Line::from(scene.span(burn, Role::Dim))));
    for budget in scene.state.budgets() {
        let of = match &budget.payer {
            Payer::Day => "day".to_owned(),
            Payer::Goal(goal) => format!("goal {goal}"),
            Payer::Task(task) => task.to_string(),
        };
        let part = part(budget.spent.cost, budget.cap);
        let mut spans = vec![
            scene.span(format!("  {} ", text::pad(&of, 20)), Role::Text),
            scene.span(gauge(part, 0.0, Some(NEARLY), 20), role(part)),
            scene.span(format!(" {:>3.0}%", part * 100.0), role(part)),
            scene.span(format!("  {} of {}", budget.spent.shown(), budget.cap), Role::Dim),
        ];
        if let Some(reached) = &budget.reached {
            spans.push(scene.span(format!("  {}", text::fit(&reached.to_string(), 60)), Role::Bad));
        }
        lines.push(Line::from(spans));
    }
    lines.extend(saved(scene, width));
    lines.extend(apart(scene, width));
    lines.extend(spenders(scene, width));
    lines.extend(money.models.iter().map(|(model, spend)| row(scene, model, spend, None, width)));
    for goal in scene.state.goals.iter().rev().take(8) {
        let spend = scene.state.spend_of(goal);
        if spend.cost > MicroUsd(0) {
            lines.push(row(scene, goal.id.as_str(), &spend, Some(&goal.text), width));
        }
    }
    lines.extend(
        money.days.iter().rev().take(DAYS).map(|(day, spend)| row(scene, &day.to_string(), spend, None, width)),
    );
    lines
}

/// Where gateway and engine have counted otherwise; the gateway is right.
fn apart(scene: &Scene<'_>, width: usize) -> Option<Line<'static>> {
    let drifts = &scene.state.money.drifts;
    let drift = drifts.back()?;
    let more = match drifts.len() {
        1 => String::new(),
        n => format!(" · {} more", n - 1),
    };
    let (ours, theirs) = (drift.gateway.cost, drift.engine.cost);
    let text = format!("  engines count otherwise: {} {theirs}, {ours} by the gateway{more}", drift.attempt);
    Some(Line::from(scene.span(text::fit(&text, width.saturating_sub(1)), Role::Warn)))
}

/// How the cache was used, and what that and cheaper models saved, with how it was computed.
fn saved(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let money = &scene.state.money;
    let mut lines = Vec::new();
    let whole = |text: &str| crate::tui::views::paragraph(text, width.saturating_sub(1), 2, scene.style(Role::Dim));
    if let Some(rate) = money.today.usage.cache_hit_rate() {
        let mut said = format!("cache: {:.0}% of input read from it", rate * 100.0);
        for (cause, missed) in &money.caching.misses {
            let calls = if missed.calls == 1 { "1 miss".to_owned() } else { format!("{} misses", missed.calls) };
            // Writing into a string cannot fail.
            let _ok = write!(said, " · {calls}: {}", cause.words());
        }
        lines.extend(whole(&said));
    }
    let savings = &money.savings;
    if savings.calls > 0 {
        let split = savings.split();
        let mut said = format!(
            "saved: {} by caching, {} by cheaper models, against the top model without cache, n = {}",
            split.caching, split.tiering, savings.calls
        );
        if savings.left_out > 0 {
            let _ok = write!(said, "; {} not exactly known left out", savings.left_out);
        }
        lines.extend(whole(&said));
    }
    lines
}

fn spenders(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let money = &scene.state.money;
    let mut lines: Vec<_> = money.agents.iter().map(|(a, spend)| row(scene, a.as_str(), spend, None, width)).collect();
    if money.orchestrator.calls > 0 {
        lines.push(row(scene, "orchestrator", &money.orchestrator, None, width));
    }
    lines
}

fn row(scene: &Scene<'_>, name: &str, spend: &Spend, says: Option<&str>, width: usize) -> Line<'static> {
    let calls = text::many(usize::try_from(spend.calls).unwrap_or(usize::MAX), "call");
    let usage = &spend.usage;
    let input = usage.total() - usage.output_tokens;
    let columns = if width >= super::WIDE { 20 } else { 12 };
    let mut line = format!("  {} {:>7}  {calls}", text::pad(name, columns), spend.shown());
    if width >= 60 {
        // Writing into a string cannot fail.
        let _ok = write!(line, " · {} in, {} out", text::tokens(input), text::tokens(usage.output_tokens));
    }
    if let Some(says) = says {
        let _ok = write!(line, " · {says}");
    }
    Line::from(scene.span(text::fit(&line, width.saturating_sub(1)), Role::Dim))
}
