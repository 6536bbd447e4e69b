//! One frame: the stage, what lies over it, the cursor.

use jiff::Timestamp;
use ratatui::{Frame, buffer::Buffer, layout::Position, text::Line};

use super::{
    Action, App, glyph,
    layout::{self, FLOOR},
    popup::Popup,
    theme::Role,
    views::{
        Page, Scene, acts, agent, document, files, find, help, inbox, leave, menu, palette, paragraph, permit, plan,
        rows, stage, task,
    },
};
use crate::room::State;

/// Draws one frame. Nothing is written back.
pub fn draw(state: &State, app: &App, now: Timestamp, frame: &mut Frame<'_>) {
    let scene = Scene { state, app, now, theme: &app.settings().theme };
    let cursor = paint(&scene, frame.buffer_mut());
    if let Some((x, y)) = cursor {
        frame.set_cursor_position(Position { x, y });
    }
}

fn paint(scene: &Scene<'_>, buffer: &mut Buffer) -> Option<(u16, u16)> {
    let size = (buffer.area.width, buffer.area.height);
    let layout = layout::of(size, scene.app.wanted_layout(scene.state, size));
    let mut cursor = None;
    if let Some(attached) = scene.app.attached() {
        cursor = stage::attached(scene, buffer, attached);
    } else if let Some(layout) = layout {
        cursor = stage::draw(scene, buffer, &layout);
        if scene.app.is_composing() && scene.app.popups().is_empty() {
            menu::draw(scene, buffer, layout.composer);
        }
        for popup in scene.app.popups() {
            over(scene, buffer, popup);
            cursor = None;
        }
    } else {
        too_small(scene, buffer);
    }
    scene.theme.ground(buffer);
    if scene.app.settings().ascii {
        glyph::ascii(buffer);
    } else {
        glyph::steady(buffer);
    }
    cursor
}

fn over(scene: &Scene<'_>, buffer: &mut Buffer, popup: &Popup) {
    let size = (buffer.area.width, buffer.area.height);
    match popup {
        Popup::Help { scroll }
        | Popup::Task { scroll, .. }
        | Popup::Agent { scroll, .. }
        | Popup::Permit { scroll, .. }
        | Popup::Acts { scroll }
        | Popup::Document { scroll, .. } => {
            if let Some(page) = page(scene, popup, size) {
                scene.page(buffer, layout::page(size), &page, *scroll);
            }
        }
        Popup::Plan { .. } | Popup::Files { .. } | Popup::Inbox { .. } => {
            if let Some(page) = page(scene, popup, size) {
                scene.page(buffer, layout::page(size), &page, 0);
            }
        }
        Popup::Palette { query, hits, selected } => palette::draw(scene, buffer, query, hits, *selected),
        Popup::Leave { stop } => leave::draw(scene, buffer, *stop),
        Popup::Confirm { question, .. } => leave::confirm(scene, buffer, question),
        Popup::Retry { tasks, ways, selected } => leave::retry(scene, buffer, tasks, ways, *selected),
        // Typed in the hint line.
        Popup::Search { .. } => {}
        Popup::Find { query, selected } => find::draw(scene, buffer, query, *selected),
    }
}

/// The page of a popup that is one.
pub fn page(scene: &Scene<'_>, popup: &Popup, size: (u16, u16)) -> Option<Page> {
    let columns = usize::from(layout::page(size).width.saturating_sub(2));
    match popup {
        Popup::Help { .. } => Some(help::page(scene, columns)),
        Popup::Task { task: name, .. } => Some(task::page(scene, name, columns)),
        Popup::Agent { agent: name, login, .. } => Some(agent::page(scene, name, login.as_ref(), columns)),
        Popup::Plan { goal, selected } => Some(plan::page(scene, goal, Some(*selected), columns)),
        Popup::Document { title, text, .. } => Some(document::page(scene, title, text.as_ref(), columns)),
        Popup::Acts { .. } => Some(acts::page(scene, columns)),
        Popup::Permit { ask, reply, .. } => Some(permit::page(scene, *ask, reply.as_ref(), columns)),
        Popup::Files { task, selected } => Some(files::page(scene, task, *selected, columns)),
        Popup::Inbox { selected } => Some(inbox::page(scene, *selected, columns)),
        Popup::Palette { .. }
        | Popup::Leave { .. }
        | Popup::Confirm { .. }
        | Popup::Retry { .. }
        | Popup::Search { .. }
        | Popup::Find { .. } => None,
    }
}

fn too_small(scene: &Scene<'_>, buffer: &mut Buffer) {
    let area = buffer.area;
    let text = format!(
        "podium needs {} columns and {} rows; there are {} and {}. The agents go on. {} leaves.",
        FLOOR.0,
        FLOOR.1,
        area.width,
        area.height,
        scene.key(Action::Leave)
    );
    let leaving = scene.app.popups().iter().any(|p| matches!(p, Popup::Leave { .. }));
    let text =
        if leaving { "Leave? enter or d: the agents go on. s: everything stops. esc: stay.".to_owned() } else { text };
    let lines: Vec<Line<'_>> = paragraph(&text, usize::from(area.width), 0, scene.style(Role::Text));
    rows(buffer, area, &lines);
}
