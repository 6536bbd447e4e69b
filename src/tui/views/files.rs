//! What lies on the disk of a task: its own file, its result, what it made.

use ratatui::text::Line;

use super::{Page, Scene, paragraph};
use crate::{
    model::TaskRef,
    room::State,
    tui::{popup::Document, text, theme::Role},
};

/// One file that can be read.
pub struct File {
    /// What it is, also the heading when it is read.
    pub title: String,
    /// What else is known of it.
    pub note: String,
    /// Where it is.
    pub document: Document,
}

/// The files of a task, its own first.
pub fn of(state: &State, task: &TaskRef) -> Vec<File> {
    let Some(found) = state.tasks.find(task) else { return Vec::new() };
    let record = &found.record;
    let mut files = vec![File {
        title: format!("The task {task} as it lies on disk"),
        note: String::new(),
        document: Document::Task { task: task.clone(), file: record.file.clone() },
    }];
    if let Some(outcome) = &record.outcome {
        let path = format!("results/{}/{}.json", task.agent, task.id);
        files.push(File {
            title: format!("Its result {path}"),
            note: outcome.state.word().to_owned(),
            document: Document::Path(path),
        });
        files.extend(outcome.artifacts.iter().map(|made| File {
            title: made.path.clone(),
            note: text::bytes(made.bytes),
            // What was kept is what was told of; the file itself may have changed since.
            document: Document::Path(made.kept.clone().unwrap_or_else(|| made.path.clone())),
        }));
    }
    files
}

/// The page.
pub fn page(scene: &Scene<'_>, task: &TaskRef, selected: usize, columns: usize) -> Page {
    let title = format!("Files of {task}");
    let keys = "enter read · ↑↓ · esc back";
    let files = of(scene.state, task);
    if files.is_empty() {
        let lines = paragraph("This task is gone.", columns, 1, scene.style(Role::Dim));
        return Page { title, lines, focus: None, keys };
    }
    let lines = files.iter().enumerate().map(|(n, file)| {
        let here = n == selected;
        let note = text::width(&file.note) + 2;
        let line = Line::from(vec![
            scene.mark(here),
            scene.span(format!(" {}", text::pad(&file.title, columns.saturating_sub(note + 4))), Role::Text),
            scene.span(format!("  {}", file.note), Role::Dim),
        ]);
        if here { line.patch_style(scene.style(Role::Selected)) } else { line }
    });
    Page { title, lines: lines.collect(), focus: Some(selected), keys }
}
