//! What an agent asks for: the tool and its arguments as data, who asks, how long there is to answer.

use ratatui::text::Line;

use super::{
    Page, Scene, paragraph, question,
    task::{fact, heading},
};
use crate::{
    model::AskId,
    room::{asks::By, why::span},
    tui::{glyph, popup::Replying, text, theme::Role},
};

/// The page.
pub fn page(scene: &Scene<'_>, ask: AskId, reply: Option<&Replying>, columns: usize) -> Page {
    let keys = "a allow · d deny · A always for this task · 4 log · ↑↓ scroll · esc back";
    let title = format!("Request {ask}");
    let Some(open) = scene.state.asks.get(ask) else {
        let text = "It does not wait any more: it was answered, its engine has taken it back, or its attempt is over.";
        let lines = paragraph(text, columns, 1, scene.style(Role::Dim));
        return Page { title, lines, focus: None, keys: "esc back" };
    };
    if let Some(reply) = reply {
        return question::page(scene, open, reply, columns);
    }
    let task = &open.attempt.task;
    let left = open.until.duration_since(scene.now);
    let mut lines = vec![Line::from(vec![
        scene.span(format!(" {} {task} wants to use {}", glyph::NEEDS, open.ask.tool), Role::Warn),
        scene.span(format!("  denied in {}", span(left)), Role::Dim),
    ])];
    lines.extend(fact(scene, "wants", &open.ask.line, columns));
    if !open.ask.helper.is_empty() {
        lines.extend(fact(scene, "sub-agent", &open.ask.helper, columns));
    }
    if !open.ask.about.is_empty() {
        lines.extend(fact(scene, "it says", &open.ask.about, columns));
    }
    let title_of = scene.state.tasks.find(task).map(|t| t.record.spec.title.clone()).unwrap_or_default();
    lines.extend(fact(scene, "its task", &title_of, columns));
    lines.extend(heading(scene, "Arguments"));
    for row in open.ask.input.lines() {
        lines.extend(paragraph(row, columns.saturating_sub(1), 2, scene.style(Role::Text)));
    }
    let before: Vec<_> = scene.state.asks.record().filter(|(_, settled)| settled.attempt.task == *task).collect();
    if !before.is_empty() {
        lines.extend(heading(scene, "Before"));
    }
    for (at, settled) in before.iter().rev().take(8) {
        let by = match settled.by {
            By::Person => "by you",
            By::Always => "by you, always for this task",
            By::Rule => "as you said",
            By::Nobody => "nobody answered",
            By::Unattended => "nobody was there",
        };
        let (word, role) = if settled.permit.is_allowed() { ("allowed", Role::Good) } else { ("denied", Role::Bad) };
        lines.push(Line::from(vec![
            scene.span(format!("  {}  ", scene.seconds(*at)), Role::Dim),
            scene.span(text::pad(word, 8), role),
            scene.span(text::fit(&format!("{} · {by}", settled.ask.line), columns.saturating_sub(22)), Role::Text),
        ]));
    }
    Page { title, lines, focus: None, keys }
}
