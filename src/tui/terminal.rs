//! The terminal's modes: taken, given back, given back also when something panics.
//!
//! The only part that touches the terminal itself. Its one surprise: giving back is written directly and may happen any
//! number of times, from any thread; it is also what a panic does first, so that its message can be read.

use std::{
    io::{self, Stdout, Write},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    clipboard::CopyToClipboard,
    cursor::Show,
    event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};

/// The terminal as drawing sees it.
pub type Screen = Terminal<CrosstermBackend<Stdout>>;

/// Whether the modes are ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Takes the terminal: raw mode, alternate screen, bracketed paste.
pub fn enter() -> io::Result<Screen> {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let entered = execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
        .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
    if entered.is_err() {
        restore();
    }
    entered
}

/// Gives the terminal back as it was; again and again does no harm.
pub fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // Each on its own: a terminal that has gone must not keep the rest from being tried.
    let mut out = io::stdout();
    let _gone = execute!(out, DisableMouseCapture);
    let _gone = execute!(out, DisableBracketedPaste);
    let _gone = execute!(out, LeaveAlternateScreen, Show);
    let _gone = disable_raw_mode();
    let _gone = out.flush();
}

/// Lets the terminal report the mouse, or not.
pub fn mouse(on: bool) -> io::Result<()> {
    if on { execute!(io::stdout(), EnableMouseCapture) } else { execute!(io::stdout(), DisableMouseCapture) }
}

/// Puts text into the clipboard of the operator's own machine (OSC 52).
pub fn copy(text: &str) -> io::Result<()> {
    execute!(io::stdout(), CopyToClipboard::to_clipboard_from(text))
}

/// Gives the terminal back when it is dropped.
#[derive(Debug)]
pub struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_back_what_was_never_taken_does_nothing() {
        restore();
        restore();
        assert!(!TAKEN.load(Ordering::SeqCst));
    }
}
