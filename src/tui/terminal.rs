//! The terminal's modes: taken, given back, given back also when something panics.
//!
//! The only part that touches the terminal itself. Its one surprise: giving back is written directly and may happen any
//! number of times, from any thread; it is also what a panic does first, so that its message can be read, and what the
//! screen's parent does ([`Modes`]) after a screen that was killed.

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
use rustix::termios::{OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

use super::{Attention, Desktop, text::one_line};

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
    leave();
    let _gone = disable_raw_mode();
}

/// Takes back what was asked of the terminal. Each on its own: a terminal that has gone must not keep the rest from
/// being tried.
fn leave() {
    let mut out = io::stdout();
    let _gone = execute!(out, DisableMouseCapture);
    let _gone = execute!(out, DisableBracketedPaste);
    let _gone = execute!(out, LeaveAlternateScreen, Show);
    let _gone = out.flush();
}

/// The terminal's modes at a moment, for whoever outlives the screen.
#[derive(Debug)]
pub struct Modes(Termios);

impl Modes {
    /// How the terminal on standard input is now.
    pub fn now() -> io::Result<Self> {
        Ok(Self(tcgetattr(io::stdin())?))
    }

    /// Puts these modes back, whatever they are now.
    pub fn set_again(&self) -> io::Result<()> {
        // A program that was drawing may have left its own screen open.
        let mut out = io::stdout();
        execute!(out, LeaveAlternateScreen, Show)?;
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &self.0)?)
    }

    /// Gives the terminal back as it was, after a screen that could not. Does nothing where nothing was taken.
    pub fn give_back(&self) {
        let taken = |now: &Termios| (now.local_modes, now.input_modes) != (self.0.local_modes, self.0.input_modes);
        if !tcgetattr(io::stdin()).is_ok_and(|now| taken(&now)) {
            return;
        }
        leave();
        // Mouse reports on their way are no words for a shell.
        let _gone = tcflush(io::stdin(), QueueSelector::IFlush);
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Lets the terminal report the mouse, or not.
pub fn mouse(on: bool) -> io::Result<()> {
    if on { execute!(io::stdout(), EnableMouseCapture) } else { execute!(io::stdout(), DisableMouseCapture) }
}

/// Rings the bell, and asks for a word on the desktop.
pub fn call(how: Attention, title: &str, text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(called(how, title, text).as_bytes())?;
    out.flush()
}

/// The bytes of it. Text may come from anywhere: nothing of it ends the sequence or begins another.
fn called(how: Attention, title: &str, text: &str) -> String {
    let plain = |text: &str| one_line(text).replace([';', '\u{9c}'], ",");
    let (title, text) = (plain(title), plain(text));
    let bell = if how.bell { "\u{7}" } else { "" };
    match how.desktop {
        Desktop::Off => bell.to_owned(),
        Desktop::Osc9 => format!("{bell}\u{1b}]9;{title}: {text}\u{1b}\\"),
        Desktop::Osc777 => format!("{bell}\u{1b}]777;notify;{title};{text}\u{1b}\\"),
    }
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
    use std::{os::fd::AsFd, time::Duration};

    use rustix::termios::LocalModes;
    use tokio::io::AsyncReadExt;

    use super::*;

    const FATE: &str = "PODIUM_TEST_TERMINAL";

    /// What the two tests below start in a terminal of its own; alone it does nothing.
    #[test]
    fn child_that_takes_a_terminal() {
        let Ok(fate) = std::env::var(FATE) else { return };
        let _guard = Guard;
        let mut screen = enter().unwrap();
        mouse(true).unwrap();
        screen.draw(|frame| frame.render_widget("the screen is ours", frame.area())).unwrap();
        assert!(fate != "panic", "it was told to panic");
    }

    /// Runs the child in a terminal: everything it printed, and the terminal's modes afterwards.
    async fn run(fate: &str) -> (Vec<u8>, LocalModes) {
        let (mut pty, pts) = pty_process::open().unwrap();
        pty.resize(pty_process::Size::new(24, 80)).unwrap();
        let before = tcgetattr(pty.as_fd()).unwrap().local_modes;
        assert!(before.contains(LocalModes::ICANON | LocalModes::ECHO));
        let mut child = pty_process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tui::terminal::tests::child_that_takes_a_terminal", "--nocapture"])
            .env(FATE, fate)
            .env("RUST_BACKTRACE", "0")
            .kill_on_drop(true)
            .spawn(pts)
            .unwrap();
        let mut printed = Vec::new();
        let read = async {
            let mut part = [0; 4096];
            // The end of a closed terminal arrives as an error on Linux.
            while let Ok(n @ 1..) = pty.read(&mut part).await {
                printed.extend_from_slice(&part[..n]);
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("the child ends");
        child.wait().await.unwrap();
        let after = tcgetattr(pty.as_fd()).unwrap().local_modes;
        (printed, after)
    }

    fn assert_given_back(printed: &[u8], modes: LocalModes) -> String {
        let text = String::from_utf8_lossy(printed);
        for taken in ["\u{1b}[?1049h", "\u{1b}[?2004h", "\u{1b}[?1000h", "ours"] {
            assert!(text.contains(taken), "{taken:?} was never there: {text:?}");
        }
        let mut terminal = vt100::Parser::default();
        terminal.process(printed);
        let screen = terminal.screen();
        assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor(), "{text:?}");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "raw mode is off again");
        screen.contents()
    }

    #[tokio::test]
    async fn the_terminal_is_given_back_at_the_end() {
        let (printed, modes) = run("quit").await;
        assert_given_back(&printed, modes);
    }

    #[tokio::test]
    async fn the_terminal_is_given_back_before_a_panic_speaks() {
        let (printed, modes) = run("panic").await;
        let left = assert_given_back(&printed, modes);
        assert!(left.contains("it was told to panic"), "the message can be read: {left}");
    }

    #[test]
    fn a_word_on_the_desktop_is_one_sequence_whatever_it_says() {
        let how = |desktop| Attention { bell: true, desktop, quiet: None };
        let nasty = "x\u{1b}\\\u{7}\u{9c};y\nz";
        for (desktop, begins, semicolons) in
            [(Desktop::Osc9, "\u{7}\u{1b}]9;podium: ", 1), (Desktop::Osc777, "\u{7}\u{1b}]777;notify;podium;", 3)]
        {
            let bytes = called(how(desktop), "podium", nasty);
            assert!(bytes.starts_with(begins) && bytes.ends_with("\u{1b}\\"), "{bytes:?}");
            let control = bytes.chars().filter(|c| c.is_control()).collect::<Vec<_>>();
            assert_eq!(control, ['\u{7}', '\u{1b}', '\u{1b}'], "{bytes:?}");
            assert_eq!(bytes.matches(';').count(), semicolons, "{bytes:?}");
        }
        assert_eq!(called(how(Desktop::Off), "podium", nasty), "\u{7}");
    }

    #[test]
    fn giving_back_what_was_never_taken_does_nothing() {
        restore();
        restore();
        assert!(!TAKEN.load(Ordering::SeqCst));
    }
}
