//! Limits and money: what is left before somebody has to wait, and what it has cost.

use std::fmt::Write;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{Scene, rows};
use crate::{
    model::{Spend, gateway::Level},
    tui::{glyph, layout::Pane, text, theme::Role},
};

fn share(level: &Level) -> f64 {
    if level.limit == 0 { 0.0 } else { (level.level as f64 / level.limit as f64).clamp(0.0, 1.0) }
}

fn role(share: f64) -> Role {
    match share {
        s if s < 0.10 => Role::Bad,
        s if s < 0.25 => Role::Warn,
        _ => Role::Good,
    }
}

/// Where a level comes from: how old the server's word is, or that it is our own guess.
fn source(scene: &Scene<'_>, level: &Level) -> String {
    match (&level.server, level.learned) {
        (Some((_, at)), _) => text::age(scene.now.duration_since(*at)).replace(' ', ""),
        (None, true) => "known".to_owned(),
        (None, false) => "guess".to_owned(),
    }
}

/// Draws the pane.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let inner = scene.frame(buffer, area, scene.has_keys(Pane::Limits), "Limits · money", "what is left");
    let width = usize::from(inner.width);
    let mut lines = if width >= 70 { wide(scene, width) } else { narrow(scene, width) };
    let rest = usize::from(inner.height).saturating_sub(lines.len());
    lines.extend(money(scene, width, rest));
    let scroll = scene.app.limits_scroll().min(lines.len().saturating_sub(usize::from(inner.height)));
    rows(buffer, inner, lines.get(scroll..).unwrap_or_default());
}

fn silent(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let text = "No model call yet: the limits are learned from the first answers.";
    super::paragraph(text, width, 1, scene.style(Role::Dim))
}

fn narrow(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let levels = &scene.state.levels;
    if levels.buckets.is_empty() {
        return silent(scene, width);
    }
    let mut lines = Vec::new();
    let mut group = "";
    for level in &levels.buckets {
        let name = if group == level.group { "" } else { level.group.as_str() };
        group = &level.group;
        let share = share(level);
        let gauge = width.saturating_sub(1 + 6 + 1 + 8 + 1 + 5 + 1 + 6);
        lines.push(Line::from(vec![
            scene.span(format!(" {} ", text::pad(name, 6)), Role::Title),
            scene.span(format!("{} ", text::pad(level.dimension.word(), 8)), Role::Text),
            scene.span(glyph::gauge(share, gauge), role(share)),
            scene.span(format!("{:>4.0}%", share * 100.0), role(share)),
            scene.span(format!(" {}", text::fit(&source(scene, level), 6)), Role::Dim),
        ]));
    }
    lines.extend(traffic(scene));
    lines
}

fn wide(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let levels = &scene.state.levels;
    if levels.buckets.is_empty() {
        return silent(scene, width);
    }
    let head = "model group  per minute  left                   of  in flight  server said";
    let mut lines = vec![Line::from(scene.span(format!(" {head}"), Role::Dim))];
    for level in &levels.buckets {
        let share = share(level);
        let server = match &level.server {
            Some((left, at)) => format!("{}, {} ago", text::tokens(*left), text::age(scene.now.duration_since(*at))),
            None => "nothing yet".to_owned(),
        };
        let limit = if level.learned { "" } else { "; the limit is a guess" };
        lines.push(Line::from(vec![
            scene.span(format!(" {} ", text::pad(&level.group, 12)), Role::Title),
            Span::raw(format!("{} ", text::pad(level.dimension.word(), 11))),
            scene.span(glyph::gauge(share, 10), role(share)),
            Span::raw(format!(
                " {:>7} {:>8} {:>9}  ",
                text::tokens(level.level),
                text::tokens(level.limit),
                text::tokens(level.reserved)
            )),
            scene.span(text::fit(&format!("{server}{limit}"), width.saturating_sub(63)), Role::Dim),
        ]));
    }
    lines.extend(traffic(scene));
    lines
}

/// What is on its way, waits, or was turned away; nothing while all is quiet.
fn traffic(scene: &Scene<'_>) -> Option<Line<'static>> {
    let levels = &scene.state.levels;
    let mut parts = Vec::new();
    if levels.in_flight > 0 {
        parts.push(scene.span(format!(" {} in flight", levels.in_flight), Role::Text));
    }
    if levels.queued > 0 {
        parts.push(scene.span(format!(" {} waits", levels.queued), Role::Warn));
    }
    if levels.throttled > 0 {
        parts.push(scene.span(format!(" {} throttled", levels.throttled), Role::Bad));
    }
    (!parts.is_empty()).then(|| Line::from(parts))
}

fn money(scene: &Scene<'_>, width: usize, rest: usize) -> Vec<Line<'static>> {
    let money = &scene.state.money;
    let mut lines = Vec::new();
    let mut spans = vec![scene.span(" today ", Role::Dim), scene.span(money.today.shown(), Role::Title)];
    if let Some(cap) = scene.state.budgets.caps.day {
        spans.push(scene.span(format!(" of {cap}"), Role::Dim));
    }
    if let Some(rate) = money.today.usage.cache_hit_rate() {
        spans.push(scene.span(format!(" · cache {:.0}%", rate * 100.0), Role::Dim));
    }
    lines.push(Line::from(spans));
    let row = |name: &str, spend: &Spend| {
        let calls = text::many(usize::try_from(spend.calls).unwrap_or(usize::MAX), "call");
        let usage = &spend.usage;
        let input = usage.total() - usage.output_tokens;
        let mut line = format!("   {} {:>7}  {calls}", text::pad(name, 12), spend.shown());
        if width >= 60 {
            // Writing into a string cannot fail.
            let _ok = write!(line, " · {} in, {} out", text::tokens(input), text::tokens(usage.output_tokens));
        }
        Line::from(scene.span(text::fit(&line, width), Role::Dim))
    };
    if rest > lines.len() + 1 && money.today.calls > 0 {
        for (agent, spend) in &money.agents {
            lines.push(row(agent.as_str(), spend));
        }
        if money.orchestrator.calls > 0 {
            lines.push(row("orchestrator", &money.orchestrator));
        }
        for (model, spend) in money.models.iter().filter(|_| width >= 70) {
            lines.push(row(model, spend));
        }
    }
    lines
}

/// One line of the tightest limits, for a small screen.
pub fn strip(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let mut tight: Vec<_> = scene.state.levels.buckets.iter().collect();
    tight.sort_by(|a, b| share(a).total_cmp(&share(b)));
    let mut spans = Vec::new();
    for level in tight.into_iter().take(2) {
        let share = share(level);
        spans.push(scene.span(format!(" {} {} ", text::fit(&level.group, 10), level.dimension.word()), Role::Dim));
        spans.push(scene.span(glyph::gauge(share, 6), role(share)));
        spans.push(scene.span(format!(" {:.0}%", share * 100.0), role(share)));
    }
    if spans.is_empty() {
        spans.push(scene.span(" limits: no model call yet", Role::Dim));
    }
    if let Some(rate) = scene.state.money.today.usage.cache_hit_rate() {
        spans.push(scene.span(format!(" · cache {:.0}%", rate * 100.0), Role::Dim));
    }
    if let Some(traffic) = traffic(scene) {
        spans.push(scene.span(" ·", Role::Dim));
        spans.extend(traffic.spans);
    }
    rows(buffer, area, &[Line::from(spans)]);
}
