//! The search through all logs: what is typed, what is found, the newest first, and the lines around the one under the hand.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::{Clear, Widget},
};

use super::{Scene, log::marked, rows, window};
use crate::tui::{layout, text, theme::Role};

/// Draws the window.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, query: &str, selected: usize) {
    let area = layout::page((buffer.area.width, buffer.area.height));
    Clear.render(area, buffer);
    let finder = scene.app.finder();
    let count = if finder.is_on() && finder.wrong().is_none() {
        format!("{} hits", finder.hits().len())
    } else {
        String::new()
    };
    let inner = scene.frame(buffer, area, true, "Search all logs", &count);
    let width = usize::from(inner.width);
    let mut head = vec![Line::from(vec![
        scene.span(" / ", Role::Focus),
        scene.span(text::fit(query, width.saturating_sub(6)), Role::Text),
        scene.span("▌", Role::Focus),
    ])];
    head.push(Line::from(status(scene, width)));
    rows(buffer, Rect { height: inner.height.min(2), ..inner }, &head);
    let keys = text::hints("↑↓ choose · enter opens the log there · esc back", width.saturating_sub(1));
    let foot = Rect { y: inner.bottom().saturating_sub(1), height: 1, ..inner };
    rows(buffer, foot, &[Line::from(scene.span(format!(" {keys}"), Role::Dim))]);
    let body = Rect { y: inner.y + 2, height: inner.height.saturating_sub(3), ..inner };
    // The lines around a hit are worth a third where there is room for both.
    let beside = if body.height >= 12 { (body.height / 3).min(11) } else { 0 };
    let list = Rect { height: body.height - beside, ..body };
    let shown = window(finder.hits().len(), selected, usize::from(list.height));
    let lines: Vec<Line<'_>> = shown.filter_map(|at| hit(scene, at, at == selected, width)).collect();
    rows(buffer, list, &lines);
    if beside > 1 {
        let area = Rect { y: list.bottom(), height: beside, ..body };
        rows(buffer, area, &around(scene, selected, usize::from(beside), width));
    }
}

fn status(scene: &Scene<'_>, width: usize) -> Span<'static> {
    let finder = scene.app.finder();
    let read = text::bytes(finder.bytes());
    let (said, role) = match (finder.wrong(), finder.sum()) {
        (Some(wrong), _) => (format!("not a pattern: {wrong}"), Role::Bad),
        (None, _) if !finder.is_on() => {
            ("a regular expression, through every log on disk; small letters find capitals too".to_owned(), Role::Dim)
        }
        (None, None) => (format!("searching, {read} so far"), Role::Warn),
        (None, Some(sum)) if sum.cut => {
            (format!("the first {}: say more of it to find the others", sum.hits), Role::Warn)
        }
        (None, Some(sum)) => (format!("{} searched, {read}", text::many(sum.files, "file")), Role::Dim),
    };
    scene.span(text::fit(&format!("   {said}"), width), role)
}

fn hit(scene: &Scene<'_>, at: usize, selected: bool, width: usize) -> Option<Line<'static>> {
    let hit = scene.app.listed(at)?;
    let time = hit.at.map(|at| scene.seconds(at)).unwrap_or_default();
    let name = (width / 4).clamp(12, 30);
    let mut spans = vec![
        scene.mark(selected),
        scene.span(format!("{} ", text::pad(&time, 8)), Role::Dim),
        scene.span(format!("{} ", text::pad(&hit.log.to_string(), name)), Role::Accent),
        scene.span(text::pad(hit.kind.word(), 7), Role::Dim),
    ];
    let room = width.saturating_sub(name + 18);
    piece(scene, &text::fit(hit.text.trim_start(), room), scene.style(Role::Text), &mut spans);
    let line = Line::from(spans);
    Some(if selected { line.patch_style(scene.style(Role::Title)) } else { line })
}

fn around(scene: &Scene<'_>, selected: usize, height: usize, width: usize) -> Vec<Line<'static>> {
    let line_above = Line::from(scene.span("─".repeat(width), Role::Dim));
    let Some((lines, here)) = scene.app.listed(selected).and_then(|hit| scene.app.finder().beside(hit)) else {
        return vec![line_above];
    };
    let shown = window(lines.len(), here, height.saturating_sub(1));
    let each = shown.filter_map(|at| {
        let line = lines.get(at)?;
        let role = if at == here { Role::Text } else { Role::Dim };
        let mut spans = vec![scene.mark(at == here), scene.span(text::pad(line.line.kind.word(), 7), Role::Dim)];
        let indent = " ".repeat((usize::from(line.line.depth) * 2).min(width / 4));
        let said = text::fit(&format!("{indent}{}", line.line.text), width.saturating_sub(8));
        piece(scene, &said, scene.style(role), &mut spans);
        Some(Line::from(spans))
    });
    std::iter::once(line_above).chain(each).collect()
}

fn piece(scene: &Scene<'_>, said: &str, style: Style, spans: &mut Vec<Span<'static>>) {
    match scene.app.log().pattern() {
        Some(pattern) => marked(scene, said, pattern, style, spans),
        None => spans.push(Span::styled(said.to_owned(), style)),
    }
}
