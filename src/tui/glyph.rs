//! Marks that carry a state without colour, and their ASCII twins.
//!
//! Its one surprise: views always draw the Unicode set; one last pass over the finished buffer turns everything into
//! ASCII where the terminal cannot show more ([`ascii`]), so no view can forget.

use ratatui::buffer::Buffer;

use crate::room::{Agent, Process, tasks::Phase};

/// Needs a person.
pub const NEEDS: &str = "?";
/// Failed.
pub const FAILED: &str = "!";
/// Paused.
pub const PAUSED: &str = "‖";
/// A file that is no task.
pub const REJECTED: &str = "!";
/// The mark beside a selected row.
pub const SELECTED: &str = "▌";

/// The mark of a task.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Failed => FAILED,
        Phase::Running => "▶",
        Phase::Ready => "◇",
        Phase::Retrying => "↻",
        Phase::Waiting => "·",
        Phase::Done => "✓",
        Phase::Dropped => "×",
    }
}

/// The mark of an agent.
pub fn agent(agent: &Agent) -> &'static str {
    if agent.trouble.is_some() {
        return FAILED;
    }
    if agent.paused {
        return PAUSED;
    }
    if agent.parked.is_some() {
        return "◌";
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
        "▶" | "›" | "→" | "»" => ">",
        "◇" | "○" => "o",
        "·" | "•" | "░" | "…" => ".",
        "‖" => "=",
        "✓" | "↓" => "v",
        "×" => "x",
        "↻" => "r",
        "◌" | "─" | "━" | "—" | "–" => "-",
        "●" => "*",
        "█" | "▌" => "#",
        "│" | "┃" => "|",
        "┌" | "┐" | "└" | "┘" | "├" | "┤" | "┬" | "┴" | "┼" | "┏" | "┓" | "┗" | "┛" => "+",
        "’" | "‘" => "'",
        "“" | "”" | "„" => "\"",
        "↑" => "^",
        "←" | "‹" => "<",
        "≈" => "~",
        _ => "?",
    }
}
