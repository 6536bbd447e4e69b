//! The log of the selected task or agent, or of more at once.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};
use regex::Regex;

use super::{Scene, rows};
use crate::{
    model::{
        LogScope,
        log::{Kind, LogReading, TimedLine},
    },
    tui::{glyph, layout::Pane, log::Row, text, theme::Role},
};

/// Columns before the text: a mark, the time where there is room, whose line it is where there are several logs, the kind.
pub fn margin(width: usize, reading: Option<&LogReading>) -> usize {
    1 + if has_time(width) { 9 } else { 0 } + label(width, reading) + 7
}

fn has_time(width: usize) -> bool {
    width >= 50
}

/// Columns of whose line it is, with the blank behind it.
fn label(width: usize, reading: Option<&LogReading>) -> usize {
    match reading.map(|reading| &reading.scope) {
        Some(LogScope::One(_)) | None => 0,
        Some(LogScope::Task(_)) => 4,
        Some(LogScope::Agent(_) | LogScope::All) => match width {
            100.. => 21,
            70.. => 14,
            _ => 9,
        },
    }
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
    let reading = log.reading();
    let inner = scene.frame(buffer, area, scene.has_keys(Pane::Log), &title(reading, log.files()), &state(scene, area));
    let width = usize::from(inner.width);
    if log.is_empty() {
        let text = match (reading, scene.state.tasks.is_empty()) {
            (Some(_), _) if log.waits() => "Reading…",
            (Some(reading), _) if reading.show.word().is_some() => "Nothing of this kind; <kinds> shows other kinds.",
            (Some(_), _) => "Nothing printed yet.",
            (None, true) => "What an agent says and does appears here while it works.",
            (None, false) => "What is selected has not been started: there is no log yet.",
        };
        return rows(buffer, inner, &super::paragraph(&scene.told(text), width, 1, scene.style(Role::Dim)));
    }
    let margin = margin(width, reading);
    let view = log.view(width.saturating_sub(margin), usize::from(inner.height));
    let lines: Vec<_> = view.iter().map(|row| line(scene, row, width)).collect();
    rows(buffer, inner, &lines);
}

fn title(reading: Option<&LogReading>, files: usize) -> String {
    match reading.map(|reading| &reading.scope) {
        Some(LogScope::One(log)) => {
            let task = log.task.as_deref().map(|task| format!(" · {task}")).unwrap_or_default();
            let attempt = log.attempt.map(|n| format!(" · attempt {n}")).unwrap_or_default();
            format!("{}{task}{attempt}", log.agent)
        }
        Some(LogScope::Task(task)) => format!("{} · {} · {}", task.agent, task.id, text::many(files, "attempt")),
        Some(LogScope::Agent(agent)) => format!("{agent} · {} by time", text::many(files, "log")),
        Some(LogScope::All) => format!("all agents · {} by time", text::many(files, "log")),
        None => "Log".to_owned(),
    }
}

/// What is special about what is seen; the most important last, because a narrow frame drops what comes first.
fn state(scene: &Scene<'_>, area: Rect) -> String {
    let (log, finder) = (scene.app.log(), scene.app.finder());
    let Some(reading) = log.reading() else { return String::new() };
    let mut words = Vec::new();
    if log.is_cut() {
        words.push("there is more above".to_owned());
    }
    words.push(format!("{}{}", text::many(log.len(), "line"), if log.is_cut() { " here" } else { "" }));
    if !log.wraps() {
        words.push("not wrapped".to_owned());
    }
    if reading.raw {
        words.push("raw".to_owned());
    }
    words.extend(reading.show.word().map(str::to_owned));
    if finder.is_on() {
        words.push(format!("/{} {}", text::fit(finder.pattern(), 20), finder.count()));
    }
    if log.has_range() {
        words.push(scene.told("a range, <copy> copies"));
    }
    words.push(scene.told(if log.follows() { "following" } else { "standing still, <follow> follows" }));
    words.extend(log.ahead());
    let room = usize::from(area.width).saturating_sub(text::width(&title(Some(reading), log.files())) + 8);
    while words.len() > 1 && text::width(&words.join(" · ")) > room {
        words.remove(0);
    }
    words.join(" · ")
}

fn line(scene: &Scene<'_>, row: &Row<'_>, width: usize) -> Line<'static> {
    let log = scene.app.log();
    let role = role(row.entry.line.kind);
    let chosen = log.is_chosen(row.number);
    let hand = log.hand() == Some(row.number);
    let mark = if chosen || hand {
        glyph::SELECTED
    } else if row.first && log.is_marked(row.number) {
        "+"
    } else {
        " "
    };
    let mut spans = vec![scene.span(mark, Role::Focus)];
    if row.first {
        if has_time(width) {
            let at = row.entry.at.map(|at| scene.seconds(at)).unwrap_or_default();
            spans.push(scene.span(format!("{} ", text::pad(&at, 8)), Role::Dim));
        }
        let room = label(width, log.reading());
        if room > 0 {
            spans.push(scene.span(format!("{} ", text::pad(&whose(row.entry, log.reading()), room - 1)), Role::Accent));
        }
        let kind = if role == Role::Text { Role::Dim } else { role };
        spans.push(scene.span(text::pad(row.entry.line.kind.word(), 7), kind));
    } else {
        spans.push(Span::raw(" ".repeat(margin(width, log.reading()) - 1)));
    }
    let style = scene.style(role);
    match log.pattern() {
        Some(pattern) => marked(scene, &row.text, pattern, style, &mut spans),
        None => spans.push(Span::styled(row.text.clone(), style)),
    }
    let line = Line::from(spans);
    if chosen {
        line.patch_style(scene.style(Role::Selected))
    } else if hand {
        line.patch_style(scene.style(Role::Title))
    } else {
        line
    }
}

/// Whose line it is, where that is not said by the title.
fn whose(line: &TimedLine, reading: Option<&LogReading>) -> String {
    let log = &line.log;
    let attempt = log.attempt.map(|n| format!("#{n}")).unwrap_or_default();
    let task = log.task.as_deref().unwrap_or_default();
    match reading.map(|reading| &reading.scope) {
        Some(LogScope::Task(_)) => attempt,
        Some(LogScope::Agent(_)) => format!("{task}{attempt}"),
        Some(LogScope::All | LogScope::One(_)) | None => format!("{}/{task}{attempt}", log.agent),
    }
}

/// A text in which what matches is marked.
pub fn marked(scene: &Scene<'_>, text: &str, pattern: &Regex, style: Style, spans: &mut Vec<Span<'static>>) {
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
