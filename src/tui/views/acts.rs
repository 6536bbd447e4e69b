//! What the operator has ordered lately, and what became of it.

use ratatui::text::Line;

use super::{Page, Scene, paragraph};
use crate::tui::{app::Stands, glyph, text, theme::Role};

/// The page.
pub fn page(scene: &Scene<'_>, columns: usize) -> Page {
    let acts = scene.app.acts().newest();
    let mut lines = Vec::with_capacity(acts.len());
    for act in acts {
        let (mark, role, word) = match &act.stands {
            Stands::Sent => ("·", Role::Dim, "sent".to_owned()),
            Stands::Accepted => ("◇", Role::Ready, "accepted".to_owned()),
            Stands::Started => ("▶", Role::Running, "started".to_owned()),
            Stands::Done(how) if how.is_empty() || how == "done" => ("✓", Role::Good, "done".to_owned()),
            Stands::Done(how) => ("✓", Role::Good, format!("done: {how}")),
            Stands::Refused(why) => (glyph::FAILED, Role::Bad, format!("refused: {why}")),
        };
        let what = (columns * 2 / 5).clamp(20, 44);
        lines.push(Line::from(vec![
            scene.span(format!(" {mark} "), role),
            scene.span(format!("{}  ", scene.seconds(act.at)), Role::Dim),
            scene.span(format!("{}  ", text::pad(&act.what, what)), Role::Text),
            scene.span(text::fit(&word, columns.saturating_sub(what + 17)), role),
        ]));
    }
    if lines.is_empty() {
        lines = paragraph("Nothing was ordered here yet.", columns, 1, scene.style(Role::Dim));
    }
    Page {
        title: "What you have ordered".to_owned(),
        lines,
        focus: None,
        keys: "u undo the last · ↑↓ scroll · esc back",
    }
}
