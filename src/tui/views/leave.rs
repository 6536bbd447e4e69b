//! Three questions: how to leave, whether something may be destroyed, and how a task starts again.

use ratatui::{
    buffer::Buffer,
    text::{Line, Span},
    widgets::{Clear, Widget},
};

use super::{Scene, paragraph, rows};
use crate::{
    model::TaskRef,
    tui::{layout, popup::Way, text, theme::Role},
};

/// Draws how to leave.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, stop: bool) {
    let running = scene.state.agents.running();
    let fate = match running {
        0 => "nothing runs now".to_owned(),
        n => format!("ends {}", text::many(n, "running attempt")),
    };
    let open = scene.state.goals.iter().filter(|g| !g.phase.is_over()).count();
    let goes_on = match (running, open) {
        (0, 0) => "the room stays ready for files and scripts".to_owned(),
        _ => format!("{} and {} go on", text::many(running, "attempt"), text::many(open, "goal")),
    };
    let choice = |here: bool, key: &str, name: &str, what: &str| {
        let line = Line::from(vec![
            scene.mark(here),
            Span::raw(" "),
            scene.span(text::pad(key, 4), Role::Accent),
            scene.span(text::pad(name, 18), Role::Title),
            scene.span(what.to_owned(), Role::Text),
        ]);
        if here { line.patch_style(scene.style(Role::Selected)) } else { line }
    };
    let lines = [
        Line::default(),
        choice(!stop, "d", "detach", &goes_on),
        choice(stop, "s", "stop everything", &fate),
        Line::default(),
        Line::from(scene.span(" enter chooses · esc stays", Role::Dim)),
    ];
    let area = layout::dialog((buffer.area.width, buffer.area.height), 68, 7);
    Clear.render(area, buffer);
    let inner = scene.frame(buffer, area, true, "Leave", "");
    rows(buffer, inner, &lines);
}

/// Draws how a task can start again.
pub fn retry(scene: &Scene<'_>, buffer: &mut Buffer, tasks: &[TaskRef], ways: &[Way], selected: usize) {
    let mut lines = vec![Line::default()];
    for (n, way) in ways.iter().enumerate() {
        let (key, name, what) = match way {
            Way::Same => ("r", "the same".to_owned(), "once more, as it is".to_owned()),
            Way::Edit => ("e", "another text".to_owned(), "opens it below; enter starts it".to_owned()),
            Way::Resume => ("s", "its session".to_owned(), "taken up again once, else anew".to_owned()),
            Way::On(agent) => {
                ("", format!("on {agent}"), format!("a new task of {agent}; what has not ended is ended here"))
            }
        };
        let here = n == selected;
        let line = Line::from(vec![
            scene.mark(here),
            Span::raw(" "),
            scene.span(text::pad(key, 3), Role::Accent),
            scene.span(text::pad(&name, 15), Role::Title),
            scene.span(text::fit(&what, 50), Role::Text),
        ]);
        lines.push(if here { line.patch_style(scene.style(Role::Selected)) } else { line });
    }
    lines.push(Line::default());
    lines.push(Line::from(scene.span(" enter chooses · esc back", Role::Dim)));
    let title = match tasks {
        [task] => format!("Retry {task}"),
        many => format!("Retry {}", text::many(many.len(), "marked task")),
    };
    let rows_wanted = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let area = layout::dialog((buffer.area.width, buffer.area.height), 76, rows_wanted);
    Clear.render(area, buffer);
    let inner = scene.frame(buffer, area, true, &title, "");
    rows(buffer, inner, &lines);
}

/// Draws a question.
pub fn confirm(scene: &Scene<'_>, buffer: &mut Buffer, question: &str) {
    let mut lines = vec![Line::default()];
    lines.extend(paragraph(question, 56, 1, scene.style(Role::Title)));
    lines.push(Line::default());
    lines.push(Line::from(vec![
        scene.span(" y", Role::Accent),
        scene.span(" yes · ", Role::Dim),
        scene.span("n", Role::Accent),
        scene.span(" no", Role::Dim),
    ]));
    let rows_wanted = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let area = layout::dialog((buffer.area.width, buffer.area.height), 60, rows_wanted);
    Clear.render(area, buffer);
    let inner = scene.frame(buffer, area, true, "Sure?", "");
    rows(buffer, inner, &lines);
}
