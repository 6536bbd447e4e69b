//! Help: what the marks mean and every key, from the table of verbs.

use ratatui::text::{Line, Span};

use super::{
    Page, Scene, paragraph,
    task::{fact, heading},
};
use crate::{
    room::tasks::Phase,
    tui::{
        action::{COMPOSER, Place, VERBS},
        glyph, text,
        theme::Role,
    },
};

/// What a state means, in words.
fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Failed => "did not end well and will not be tried again: look at it, then <retry>",
        Phase::Running => "an agent works on it",
        Phase::Ready => "may start as soon as its agent is free",
        Phase::Asking => "wants your word: retry or cancel it",
        Phase::Retrying => "did not end well and is tried again after a wait",
        Phase::Waiting => "others must end first",
        Phase::Paused => "paused by you, or because it was denied too often; <pause-task> or <retry> lets it go on",
        Phase::Done => "ended well; its result is in results/",
        Phase::Dropped => "cancelled by you, or skipped because something before it failed",
    }
}

/// The page.
pub fn page(scene: &Scene<'_>, columns: usize) -> Page {
    let mut lines = paragraph(
        "You write a goal, the orchestrator plans it, you approve the plan, the agents work on its tasks side by side, and one \
         report comes out. A task can also be given to one agent directly, here or as a file in tasks/.",
        columns,
        1,
        scene.style(Role::Text),
    );
    for place in Place::ALL {
        lines.extend(heading(scene, place.word()));
        for verb in VERBS.iter().filter(|v| v.place == place) {
            let keys = scene.app.settings().keys.of(verb.action);
            let margin = 19;
            for (n, row) in text::wrap(verb.help, columns.saturating_sub(margin + 2)).into_iter().enumerate() {
                let head = if n == 0 { keys.as_str() } else { "" };
                lines.push(Line::from(vec![
                    scene.span(format!("  {}", text::pad(head, margin)), Role::Accent),
                    Span::raw(row),
                ]));
            }
        }
    }
    lines.extend(heading(scene, "While a goal is written"));
    for (keys, help) in COMPOSER {
        for (n, row) in text::wrap(help, columns.saturating_sub(26)).into_iter().enumerate() {
            let head = if n == 0 { keys } else { "" };
            lines
                .push(Line::from(vec![scene.span(format!("  {}", text::pad(head, 24)), Role::Accent), Span::raw(row)]));
        }
    }
    lines.extend(heading(scene, "Tasks"));
    for phase in [
        Phase::Asking,
        Phase::Failed,
        Phase::Running,
        Phase::Ready,
        Phase::Retrying,
        Phase::Waiting,
        Phase::Paused,
        Phase::Done,
        Phase::Dropped,
    ] {
        lines.push(Line::from(vec![
            Span::styled(
                format!("  {} {}", glyph::phase(phase), text::pad(phase.word(), 10)),
                scene.theme.phase(phase),
            ),
            Span::raw(text::fit(&scene.told(meaning(phase)), columns.saturating_sub(16))),
        ]));
    }
    lines.extend(heading(scene, "Agents"));
    for (mark, word, what) in [
        ("●", "up", "its worker runs"),
        ("○", "stopped", "its worker is starting or not running"),
        ("◌", "parked", "a limit of its account holds it; its row says until when, and what follows"),
        (glyph::PAUSED, "paused", "you paused it; <pause> lets it go on"),
        (glyph::FAILED, "not ready", "something is missing: key, login or program; <open> says what to do"),
    ] {
        lines.push(Line::from(vec![
            scene.span(format!("  {mark} {}", text::pad(word, 10)), Role::Text),
            scene.span(text::fit(what, columns.saturating_sub(16)), Role::Text),
        ]));
    }
    lines.extend(heading(scene, "This room"));
    let state = scene.state;
    lines.extend(fact(scene, "stage", &state.stage.display().to_string(), columns));
    if let Some(whose) = scene.app.whose() {
        let sentence = format!("{whose}; what is ordered here is done there");
        lines.extend(fact(scene, "whose", &sentence, columns));
    }
    lines.extend(fact(scene, "version", &format!("podium {} · room process {}", state.version, state.pid), columns));
    Page { title: "Help".to_owned(), lines, focus: None, keys: "↑↓ scroll · esc back" }
}
