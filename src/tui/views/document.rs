//! A file as text: a report, a result, what an agent made.

use ratatui::text::Line;

use super::{Page, Scene, paragraph};
use crate::tui::{text, theme::Role};

/// The page.
pub fn page(scene: &Scene<'_>, title: &str, text: Option<&Result<String, String>>, columns: usize) -> Page {
    let lines = match text {
        None => paragraph("Reading…", columns, 1, scene.style(Role::Dim)),
        Some(Err(why)) => paragraph(&format!("It could not be read: {why}"), columns, 1, scene.style(Role::Bad)),
        Some(Ok(text)) => text
            .lines()
            .flat_map(|line| {
                let role = if line.starts_with('#') { Role::Title } else { Role::Text };
                text::wrap(line, columns.saturating_sub(2)).into_iter().map(move |row| (row, role))
            })
            .map(|(row, role)| Line::from(scene.span(format!(" {row}"), role)))
            .collect(),
    };
    Page { title: title.to_owned(), lines, focus: None, keys: "↑↓ scroll · y copy · esc back" }
}
