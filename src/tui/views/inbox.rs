//! Everything that waits for a person: what, since when, and what it wants.

use ratatui::text::Line;

use super::{Page, Scene, paragraph};
use crate::{
    model::TaskRef,
    room::Need,
    tui::{glyph, text, theme::Role},
};

/// The page.
pub fn page(scene: &Scene<'_>, selected: usize, columns: usize) -> Page {
    let keys = "enter go there · a allow · d deny · A always · z put off · Z show all · ↑↓ · esc back";
    let waiting = scene.app.waiting(scene.state);
    let later = match scene.app.snoozed(scene.now) {
        0 => String::new(),
        n => format!(" · {n} put off"),
    };
    if waiting.is_empty() {
        let lines = paragraph("Nothing waits for you any more.", columns, 1, scene.style(Role::Dim));
        return Page { title: format!("Inbox{later}"), lines, focus: None, keys };
    }
    let lines = waiting.iter().enumerate().map(|(n, (need, since))| {
        let here = n == selected;
        let (mark, role, kind, name, reason) = said(scene, need);
        let age = since.map(|at| text::age(scene.now.duration_since(at))).unwrap_or_default();
        let wide = (columns / 3).clamp(14, 40);
        let line = Line::from(vec![
            scene.mark(here),
            scene.span(format!("{mark} "), role),
            scene.span(text::pad_left(&age, 7), Role::Dim),
            scene.span(format!("  {} ", text::pad(kind, 8)), role),
            scene.span(format!("{} ", text::pad(&name, wide)), Role::Title),
            scene.span(text::fit(&reason, columns.saturating_sub(wide + 23)), Role::Text),
        ]);
        if here { line.patch_style(scene.style(Role::Selected)) } else { line }
    });
    Page {
        title: format!("Inbox · {}{later}", text::many(waiting.len(), "thing")),
        lines: lines.collect(),
        focus: Some(selected.min(waiting.len() - 1)),
        keys,
    }
}

/// Mark, kind, name and reason of one thing that waits.
fn said(scene: &Scene<'_>, need: &Need) -> (&'static str, Role, &'static str, String, String) {
    let why = |task: &TaskRef| scene.state.why(task, scene.now).map(|why| why.to_string()).unwrap_or_default();
    match need {
        Need::Account(account) => {
            let parked = scene.state.accounts.parked(account);
            let words = parked.map(|parked| parked.words().to_owned()).unwrap_or_default();
            (glyph::PARKED, Role::Warn, "account", account.to_string(), words)
        }
        Need::Asks(task) => (glyph::NEEDS, Role::Warn, "asks", task.to_string(), why(task)),
        Need::Permit(ask) => {
            let open = scene.state.asks.get(*ask);
            let task = open.map(|open| open.attempt.task.to_string()).unwrap_or_default();
            let (kind, what) = match open.map(|open| &open.ask) {
                Some(ask) if ask.is_question() => ("asks you", ask.words()),
                Some(ask) if ask.helper.is_empty() => ("may it", ask.line.clone()),
                Some(ask) => ("may it", format!("{} · {}", ask.line, ask.helper)),
                None => ("may it", String::new()),
            };
            (glyph::NEEDS, Role::Warn, kind, task, what.trim_start_matches("asks: ").to_owned())
        }
        Need::Paused(task) => (glyph::PAUSED, Role::Warn, "paused", task.to_string(), why(task)),
        Need::Question(goal) => {
            let asked = scene.state.goals.get(goal).map(|goal| goal.questions().join(" ")).unwrap_or_default();
            (glyph::NEEDS, Role::Warn, "question", goal.to_string(), asked)
        }
        Need::Plan(goal) => {
            let text = scene.state.goals.get(goal).map(|goal| goal.text.clone()).unwrap_or_default();
            (glyph::NEEDS, Role::Warn, "plan", goal.to_string(), text)
        }
        Need::Failed(task) => (glyph::FAILED, Role::Bad, "failed", task.to_string(), why(task)),
    }
}
