//! What an agent wants to know: its questions with the choices, which of them are taken, and own words.

use ratatui::text::Line;

use super::{
    Page, Scene, paragraph,
    task::{fact, heading},
};
use crate::{
    model::{Question, Reply},
    room::{asks::OpenAsk, why::span},
    tui::{app::spots, glyph, popup::Replying, text, theme::Role},
};

/// The page.
pub(super) fn page(scene: &Scene<'_>, open: &OpenAsk, reply: &Replying, columns: usize) -> Page {
    let task = &open.attempt.task;
    let left = open.until.duration_since(scene.now);
    let what = text::many(open.ask.questions.len(), "thing");
    let mut lines = vec![Line::from(vec![
        scene.span(format!(" {} {task} asks you {what}", glyph::NEEDS), Role::Warn),
        scene.span(format!("  goes on without in {}", span(left)), Role::Dim),
    ])];
    if !open.ask.helper.is_empty() {
        lines.extend(fact(scene, "asked by", &open.ask.helper, columns));
    }
    let mut focus = 0;
    let mut at = 0;
    for (n, question) in open.ask.questions.iter().enumerate() {
        let head = if question.header.is_empty() { format!("Question {}", n + 1) } else { question.header.clone() };
        let many = if question.many { " · more than one may be taken" } else { "" };
        lines.extend(heading(scene, &text::fit(&format!("{head}{many}"), columns.saturating_sub(2))));
        for row in question.text.lines() {
            lines.extend(paragraph(row, columns.saturating_sub(1), 2, scene.style(Role::Text)));
        }
        let given = reply.replies.get(n).cloned().unwrap_or_default();
        for _ in spots(std::slice::from_ref(question)) {
            let here = at == reply.row;
            if here {
                focus = lines.len();
            }
            let choice = at.saturating_sub(first(open, n));
            lines.extend(row(scene, question, &given, choice, here, columns));
            at += 1;
        }
    }
    let keys = "space choose · enter take, go on · o own words · a send · d leave · esc back";
    Page { title: format!("Question {}", open.id), lines, focus: Some(focus), keys }
}

/// The row of a question's first choice, of all rows that can be under the hand.
fn first(open: &OpenAsk, question: usize) -> usize {
    open.ask.questions.iter().take(question).map(|question| question.choices.len() + 1).sum()
}

/// A choice, or the row for own words, which is behind the last choice.
fn row(
    scene: &Scene<'_>,
    question: &Question,
    reply: &Reply,
    choice: usize,
    here: bool,
    columns: usize,
) -> Vec<Line<'static>> {
    let offered = question.choices.get(choice);
    let taken = if offered.is_some() { reply.chosen.contains(&choice) } else { !reply.words.is_empty() };
    let mark = match (question.many, taken) {
        (true, true) => "[x]",
        (true, false) => "[ ]",
        (false, true) => "(x)",
        (false, false) => "( )",
    };
    let label = match offered {
        Some(choice) => text::one_line(&choice.label).into_owned(),
        None if reply.words.is_empty() => "in your own words …".to_owned(),
        None => text::one_line(&reply.words).into_owned(),
    };
    let role = if taken { Role::Good } else { Role::Text };
    let line = Line::from(vec![
        scene.mark(here),
        scene.span(format!(" {mark} "), role),
        scene.span(text::fit(&label, columns.saturating_sub(7)), role),
    ]);
    let mut lines = vec![if here { line.patch_style(scene.style(Role::Selected)) } else { line }];
    if let Some(about) = offered.map(|choice| &choice.about).filter(|about| !about.is_empty()) {
        lines.extend(paragraph(about, columns.saturating_sub(1), 6, scene.style(Role::Dim)));
    }
    lines
}
