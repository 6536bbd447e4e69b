//! Marks that carry a state without colour, and their ASCII twins.
//!
//! Its one surprise: views always draw the Unicode set; one last pass over the finished buffer turns everything into
//! ASCII where the terminal cannot show more ([`ascii`]), so no view can forget.

use ratatui::buffer::Buffer;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::room::{Agent, Process, State, tasks::Phase};

/// Needs a person.
pub const NEEDS: &str = "?";
/// Failed.
pub const FAILED: &str = "!";
/// Paused.
pub const PAUSED: &str = "‖";
/// Held by a limit.
pub const PARKED: &str = "◌";
/// A file that is no task.
pub const REJECTED: &str = "!";
/// Something in the trash.
pub const REMOVED: &str = "×";
/// A group of which only the head is shown.
pub const FOLDED: &str = "▸";
/// A group that is shown.
pub const OPEN: &str = "▾";
/// The mark beside a selected row.
pub const SELECTED: &str = "▌";

/// The mark of a task.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Asking => NEEDS,
        Phase::Failed => FAILED,
        Phase::Running => "▶",
        Phase::Ready => "◇",
        Phase::Retrying => "↻",
        Phase::Waiting => "·",
        Phase::Paused => PAUSED,
        Phase::Done => "✓",
        Phase::Dropped => "×",
    }
}

/// The mark of an agent.
pub fn agent(state: &State, agent: &Agent) -> &'static str {
    if agent.trouble.is_some() {
        return FAILED;
    }
    if agent.paused {
        return PAUSED;
    }
    if state.parked(agent.name()).is_some() {
        return PARKED;
    }
    let up = agent.slots.iter().any(|s| match s.process {
        Process::Up { .. } => true,
        Process::Off | Process::Starting { .. } | Process::Backoff { .. } | Process::Leaving { .. } => false,
    });
    if up { "●" } else { "○" }
}

/// A gauge of `cells` cells, `share` of them full.
pub fn gauge(share: f64, cells: usize) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the number of cells")]
    let full = (share.clamp(0.0, 1.0) * cells as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(cells.saturating_sub(full))
}

/// The newest of these as bars, one cell each, the highest of all as high as a cell.
pub fn spark(values: &[u64], cells: usize) -> String {
    const BARS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: u64| {
        let share = (value as f64 / most as f64 * 7.0).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
        BARS.get(share as usize).copied().unwrap_or("▁")
    };
    let shown = values.get(values.len().saturating_sub(cells)..).unwrap_or_default();
    let before = cells.saturating_sub(shown.len());
    "▁".repeat(before) + &shown.iter().map(|value| bar(*value)).collect::<String>()
}

/// Makes every cell hold what any terminal draws in as many columns as are counted here: one character, maybe with marks
/// that take no room. Terminals disagree about characters that are joined or varied (families, flags, keycaps); one that
/// is drawn wider than it was counted moves everything after it, and one that is two there leaves a half behind.
pub fn steady(buffer: &mut Buffer) {
    for at in 0..buffer.content.len() {
        let Some(cell) = buffer.content.get(at) else { return };
        let mut letters = cell.symbol().chars();
        if letters.next().is_none() || letters.next().is_none() {
            continue;
        }
        let (columns, style) = (cell.symbol().width(), cell.style());
        let parts = parts(cell.symbol());
        let taken: usize = parts.iter().map(|(_, wide)| wide).sum();
        if taken == columns {
            // Each in its own cell: a terminal that joins them still can.
            let mut to = at;
            for (part, wide) in parts {
                if let Some(cell) = buffer.content.get_mut(to) {
                    cell.set_symbol(&part).set_style(style);
                }
                to += wide;
            }
        } else if let Some(cell) = buffer.content.get_mut(at) {
            // The first stands for all.
            let first = parts.first().filter(|(_, wide)| *wide <= columns).and_then(|(part, wide)| {
                let letter = part.chars().next()?;
                Some(format!("{letter}{}", " ".repeat(columns - wide)))
            });
            cell.set_symbol(first.as_deref().unwrap_or("?"));
        }
    }
}

/// Characters that take room, each with the marks that follow it, and their columns. Without variation selectors: some
/// terminals make room for them and some do not.
fn parts(symbol: &str) -> Vec<(String, usize)> {
    let mut parts: Vec<(String, usize)> = Vec::new();
    for letter in symbol.chars().filter(|c| !matches!(c, '\u{fe00}'..='\u{fe0f}')) {
        match (letter.width().unwrap_or(0), parts.last_mut()) {
            (0, Some((last, _))) => last.push(letter),
            (wide, _) => parts.push((letter.to_string(), wide)),
        }
    }
    parts
}

/// Turns every cell into ASCII.
pub fn ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let twin = twin(cell.symbol());
            cell.set_symbol(twin);
        }
    }
}

fn twin(symbol: &str) -> &'static str {
    match symbol {
        "▶" | "▸" | "›" | "→" | "»" => ">",
        "◇" | "○" => "o",
        "·" | "•" | "░" | "…" | "▂" | "▃" => ".",
        "‖" | "▒" | "▆" | "▇" => "=",
        "✓" | "↓" | "▾" => "v",
        "×" => "x",
        "↻" => "r",
        "◌" | "─" | "━" | "—" | "–" | "▄" | "▅" => "-",
        "●" => "*",
        "▁" => "_",
        "█" | "▌" => "#",
        "│" | "┃" => "|",
        "┌" | "┐" | "└" | "┘" | "├" | "┤" | "┬" | "┴" | "┼" | "┏" | "┓" | "┗" | "┛" => "+",
        "╯" | "╰" | "’" | "‘" => "'",
        "“" | "”" | "„" => "\"",
        "↑" => "^",
        "←" | "‹" => "<",
        "≈" => "~",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{layout::Rect, style::Style};

    use super::*;

    #[test]
    fn every_cell_is_one_character_as_wide_as_it_was_counted() {
        let text = "👩‍👩‍👧‍👦|🏳️‍🌈|❤️|1️⃣|👍🏽|🇩🇪|☕️|e\u{301}|漢|क्ष|ﻼ|ｶﾞﾊﾟ|";
        let mut buffer = Buffer::empty(Rect::new(0, 0, 60, 1));
        buffer.set_string(0, 0, text, Style::new());
        let ends = |buffer: &Buffer| {
            let numbered = buffer.content.iter().enumerate();
            numbered.filter(|(_, c)| c.symbol() == "|").map(|(n, _)| n).collect::<Vec<_>>()
        };
        let before = ends(&buffer);
        steady(&mut buffer);
        assert_eq!(ends(&buffer), before);
        for cell in &buffer.content {
            let parts = parts(cell.symbol().trim_end());
            assert!(parts.len() <= 1, "{:?}", cell.symbol());
            let wide = cell.symbol().chars().filter_map(UnicodeWidthChar::width).sum::<usize>();
            assert_eq!(wide, cell.symbol().width(), "{:?}", cell.symbol());
        }
        let drawn: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert!(drawn.starts_with('👩') && drawn.contains("e\u{301}") && drawn.contains("क्ष"), "{drawn}");
        assert!(drawn.contains("🇩🇪") && drawn.contains("ｶﾞ"), "{drawn}");
    }
}
