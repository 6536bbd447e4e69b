//! The log of the selected task or agent.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use regex::Regex;

use super::{Scene, rows};
use crate::tui::{
    layout::Pane,
    log::{Kind, Row},
    text,
    theme::Role,
};

/// Columns before the text: time and kind.
pub fn margin(width: usize) -> usize {
    if width >= 50 { 17 } else { 7 }
}

fn role(kind: Kind) -> Role {
    match kind {
        Kind::Text => Role::Text,
        Kind::Tool => Role::Ready,
        Kind::Agent => Role::Accent,
        Kind::Error => Role::Bad,
        Kind::System | Kind::Raw => Role::Dim,
    }
}

/// Draws the pane.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let log = scene.app.log();
    let title = match log.target() {
        Some(target) => {
            let task = &target.attempt.task;
            format!("{} · {} · attempt {}", task.agent, task.id, target.attempt.n)
        }
        None => "Log".to_owned(),
    };
    let mut right = Vec::new();
    if let Some(pattern) = log.pattern() {
        let (at, of) = log.found();
        right.push(format!("/{} {at} of {of}", text::fit(pattern.as_str(), 20)));
    }
    right.extend(log.shows().word().map(str::to_owned));
    right.extend(log.cut());
    if log.target().is_some() {
        right.push(if log.follows() { "following" } else { "standing still, f follows" }.to_owned());
        right.push(text::many(usize::try_from(log.len()).unwrap_or(usize::MAX), "line"));
    }
    let inner = scene.frame(buffer, area, scene.has_keys(Pane::Log), &title, &right.join(" · "));
    let width = usize::from(inner.width);
    if log.is_empty() {
        let text = match (log.target(), scene.state.tasks.is_empty()) {
            (Some(_), _) => "Nothing printed yet.",
            (None, true) => "What an agent says and does appears here while it works.",
            (None, false) => "What is selected has not been started: there is no log yet.",
        };
        return rows(buffer, inner, &super::paragraph(text, width, 1, scene.style(Role::Dim)));
    }
    let margin = margin(width);
    let view = log.view(width.saturating_sub(margin), usize::from(inner.height));
    let lines: Vec<_> = view.iter().map(|row| line(scene, row, margin)).collect();
    rows(buffer, inner, &lines);
}

fn line(scene: &Scene<'_>, row: &Row<'_>, margin: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let role = role(row.entry.kind);
    if row.first {
        if margin > 10 {
            let at = row.entry.at.map(|at| scene.seconds(at)).unwrap_or_default();
            spans.push(scene.span(format!(" {} ", text::pad(&at, 8)), Role::Dim));
        }
        spans.push(scene.span(text::pad(row.entry.kind.word(), 7), if role == Role::Text { Role::Dim } else { role }));
    } else {
        spans.push(Span::raw(" ".repeat(margin)));
    }
    let style = scene.style(role);
    match scene.app.log().pattern() {
        Some(pattern) => marked(scene, &row.text, pattern, style, &mut spans),
        None => spans.push(Span::styled(row.text.clone(), style)),
    }
    let line = Line::from(spans);
    if scene.app.log().hit() == Some(row.number) { line.patch_style(scene.style(Role::Title)) } else { line }
}

fn marked(
    scene: &Scene<'_>,
    text: &str,
    pattern: &Regex,
    style: ratatui::style::Style,
    spans: &mut Vec<Span<'static>>,
) {
    let mut rest = 0;
    for hit in pattern.find_iter(text).filter(|m| !m.is_empty()) {
        if let Some(before) = text.get(rest..hit.start()) {
            spans.push(Span::styled(before.to_owned(), style));
        }
        spans.push(scene.span(hit.as_str(), Role::Hit));
        rest = hit.end();
    }
    if let Some(tail) = text.get(rest..) {
        spans.push(Span::styled(tail.to_owned(), style));
    }
}
