//! Every verb, found by typing parts of its name.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
    widgets::{Clear, Widget},
};

use super::{Scene, rows, window};
use crate::tui::{action::VERBS, layout, text, theme::Role};

/// Draws the window.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, query: &str, hits: &[usize], selected: usize) {
    let size = (buffer.area.width, buffer.area.height);
    let area: Rect = layout::dialog(size, 84, 18);
    Clear.render(area, buffer);
    let inner = scene.frame(buffer, area, true, "Commands", "enter does it · esc back");
    let width = usize::from(inner.width);
    let mut lines = vec![Line::from(vec![
        scene.span(" : ", Role::Focus),
        scene.span(text::fit(query, width.saturating_sub(6)), Role::Title),
        scene.span("▌", Role::Focus),
    ])];
    if hits.is_empty() {
        lines.extend(super::paragraph("No verb is called so.", width, 3, scene.style(Role::Dim)));
    }
    let height = usize::from(inner.height).saturating_sub(1);
    for n in window(hits.len(), selected, height) {
        let Some(verb) = hits.get(n).and_then(|n| VERBS.get(*n)) else { continue };
        let here = n == selected;
        let line = Line::from(vec![
            scene.mark(here),
            Span::raw(" "),
            scene.span(text::pad(verb.name, 20), Role::Title),
            scene.span(text::pad(&text::fit(&scene.app.settings().keys.of(verb.action), 14), 15), Role::Accent),
            scene.span(text::fit(verb.help, width.saturating_sub(38)), Role::Dim),
        ]);
        lines.push(if here { line.patch_style(scene.style(Role::Selected)) } else { line });
    }
    rows(buffer, inner, &lines);
}
