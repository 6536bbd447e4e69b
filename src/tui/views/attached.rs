//! An agent's own CLI between our first line and our last: cell by cell, with no frame, so that its lines can be selected
//! and copied whole.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use super::Scene;
use crate::tui::attached::Attached;

/// Draws it and says where its cursor is.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect, attached: &Attached) -> Option<(u16, u16)> {
    let screen = attached.screen();
    for y in 0..area.height {
        for x in 0..area.width {
            let (Some(cell), Some(to)) = (screen.cell(y, x), buffer.cell_mut((area.x + x, area.y + y))) else {
                continue;
            };
            to.reset();
            // The second half of a wide letter stays blank: the letter covers it.
            if cell.has_contents() && !cell.is_wide_continuation() {
                to.set_symbol(cell.contents());
            }
            to.set_style(style(scene, cell));
        }
    }
    let (y, x) = screen.cursor_position();
    let seen = !screen.hide_cursor() && screen.scrollback() == 0 && x < area.width && y < area.height;
    seen.then_some((area.x + x, area.y + y))
}

fn style(scene: &Scene<'_>, cell: &vt100::Cell) -> Style {
    let manners = [
        (cell.bold(), Modifier::BOLD),
        (cell.dim(), Modifier::DIM),
        (cell.italic(), Modifier::ITALIC),
        (cell.underline(), Modifier::UNDERLINED),
        (cell.inverse(), Modifier::REVERSED),
    ];
    let manner = manners.iter().filter(|(on, _)| *on).map(|(_, manner)| *manner).collect();
    let color = |color| {
        scene.theme.shown(match color {
            vt100::Color::Default => Color::Reset,
            vt100::Color::Idx(n) => Color::Indexed(n),
            vt100::Color::Rgb(r, g, b) => Color::Rgb(r, g, b),
        })
    };
    Style::new().fg(color(cell.fgcolor())).bg(color(cell.bgcolor())).add_modifier(manner)
}
