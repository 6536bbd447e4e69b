//! What can be put into the composer, right above it.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
    widgets::{Clear, Widget},
};

use super::{Scene, rows, window};
use crate::tui::{composer::menu::Of, text, theme::Role};

/// Rows shown at once.
const MOST: usize = 8;

/// Draws the list over what is above the composer.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, composer: Rect) {
    let Some(menu) = scene.app.composer().menu() else { return };
    let all: Vec<_> = menu.rows().collect();
    let room = usize::from(composer.y.saturating_sub(3));
    let height = all.len().clamp(1, MOST).min(room);
    let width = composer.width.min(100);
    let (Ok(high), true) = (u16::try_from(height + 2), height > 0 && width > 20) else { return };
    let area = Rect { x: composer.x, y: composer.y - high, width, height: high };
    Clear.render(area, buffer);
    let (title, keys) = match menu.of() {
        Of::Sent => ("Sent before", "type to search · enter takes it · esc back"),
        Of::Template => ("Templates", "type to search · enter takes it · esc back"),
        Of::Reference => ("@", "tab takes it · ↑↓ choose · esc closes"),
    };
    let title = if menu.query().is_empty() { title.to_owned() } else { format!("{title}: {}", menu.query()) };
    let inner = scene.frame(buffer, area, true, &title, keys);
    let columns = usize::from(inner.width);
    let mut lines = Vec::new();
    for n in window(all.len(), menu.selected(), height) {
        let Some(item) = all.get(n) else { continue };
        let here = n == menu.selected();
        let name = text::fit(&item.shown, columns.saturating_sub(2));
        let left = columns.saturating_sub(text::width(&name) + 4);
        let line = Line::from(vec![
            scene.mark(here),
            scene.span(name, Role::Text),
            Span::raw("  "),
            scene.span(text::fit(&item.note, left), Role::Dim),
        ]);
        lines.push(if here { line.patch_style(scene.style(Role::Selected)) } else { line });
    }
    if all.is_empty() {
        let word =
            if menu.of() == Of::Sent { " Nothing like it was sent here." } else { " There is no such template." };
        lines.push(Line::from(scene.span(text::fit(word, columns), Role::Dim)));
    }
    rows(buffer, inner, &lines);
}
