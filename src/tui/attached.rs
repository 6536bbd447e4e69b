//! An agent's own CLI in a pane: what it prints becomes cells, what is typed becomes bytes.
//!
//! Owns the picture of a terminal inside ours. Must not know the process behind it. Its one surprise: programs ask their
//! terminal questions and wait for the answer; those that matter are answered here, as a plain xterm would.

use std::num::NonZeroU16;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use crossterm::event::{Event, KeyEvent, MouseEvent, MouseEventKind};
use terminput::Encoding;
use terminput_crossterm::to_terminput;
use vt100::{Callbacks, MouseProtocolEncoding, MouseProtocolMode, Parser, Screen};

use crate::model::AgentName;

/// Rows that are kept after they have left the top.
const KEPT: usize = 2_000;
/// The most of a text for the clipboard.
const CLIPPED: usize = 64 * 1024;
/// No key and no move of the mouse makes more bytes.
const KEY: usize = 32;

/// What the program wants besides being drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// These bytes, as if typed.
    Bytes(Vec<u8>),
    /// This text in the clipboard.
    Copy(String),
}

/// A terminal inside ours.
pub struct Attached {
    agent: AgentName,
    parser: Parser<Listener>,
    /// The operator has asked to leave once.
    pub(super) leaving: bool,
    /// It has ended, and not well.
    pub(super) over: bool,
}

impl Attached {
    /// An empty terminal of this many columns and rows.
    pub fn new(agent: AgentName, size: (u16, u16)) -> Self {
        let (columns, rows) = at_least_one(size);
        let parser = Parser::new_with_callbacks(rows, columns, KEPT, Listener::default());
        Self { agent, parser, leaving: false, over: false }
    }

    /// Whose CLI it is.
    pub fn agent(&self) -> &AgentName {
        &self.agent
    }

    /// The cells.
    pub fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    pub(super) fn resize(&mut self, size: (u16, u16)) {
        let (columns, rows) = at_least_one(size);
        self.parser.set_size(rows, columns);
    }

    /// Takes in what the program has printed, and says what it asks for.
    pub(super) fn printed(&mut self, bytes: &[u8]) -> Vec<Asks> {
        self.parser.process(bytes);
        std::mem::take(&mut self.parser.callbacks_mut().asks)
    }

    /// The bytes of a key; none for one that no terminal reports.
    pub(super) fn key(&mut self, key: KeyEvent) -> Vec<u8> {
        self.parser.screen_mut().set_scrollback(0);
        match encoded(Event::Key(key)).as_slice() {
            // Cursor keys without modifiers have a second form, which programs ask for.
            [0x1b, b'[', last @ (b'A'..=b'D' | b'F' | b'H')] if self.screen().application_cursor() => {
                vec![0x1b, b'O', *last]
            }
            bytes => bytes.to_vec(),
        }
    }

    /// The bytes of the mouse, its place counted from the first cell; `None` where the program does not want it. Only
    /// the encoding that all programs of these years ask for is spoken.
    pub(super) fn mouse(&self, mouse: MouseEvent) -> Option<Vec<u8>> {
        let wants = match self.screen().mouse_protocol_mode() {
            MouseProtocolMode::None => return None,
            MouseProtocolMode::Press => {
                !matches!(mouse.kind, MouseEventKind::Up(_) | MouseEventKind::Drag(_) | MouseEventKind::Moved)
            }
            MouseProtocolMode::PressRelease => !matches!(mouse.kind, MouseEventKind::Drag(_) | MouseEventKind::Moved),
            MouseProtocolMode::ButtonMotion => !matches!(mouse.kind, MouseEventKind::Moved),
            MouseProtocolMode::AnyMotion => true,
        };
        let speaks = self.screen().mouse_protocol_encoding() == MouseProtocolEncoding::Sgr;
        speaks.then(|| if wants { encoded(Event::Mouse(mouse)) } else { Vec::new() })
    }

    /// The bytes of a paste: in brackets where the program wants them, and nothing in it closes them.
    pub(super) fn paste(&mut self, text: &str) -> Vec<u8> {
        self.parser.screen_mut().set_scrollback(0);
        let text = text.replace("\u{1b}[201~", "").replace('\n', "\r");
        if self.screen().bracketed_paste() {
            format!("\u{1b}[200~{text}\u{1b}[201~").into_bytes()
        } else {
            text.into_bytes()
        }
    }

    /// Looks back, or forward again, by so many rows.
    pub(super) fn scroll(&mut self, rows: isize) {
        let at = self.screen().scrollback().saturating_add_signed(rows);
        self.parser.screen_mut().set_scrollback(at);
    }

    /// Rows on screen.
    pub(super) fn rows(&self) -> isize {
        isize::try_from(self.screen().size().0.get()).unwrap_or(1)
    }
}

/// An event as a plain xterm sends it; empty for one that none sends.
fn encoded(event: Event) -> Vec<u8> {
    let mut bytes = [0; KEY];
    let len = to_terminput(event).ok().and_then(|event| event.encode(&mut bytes, Encoding::Xterm).ok());
    bytes.get(..len.unwrap_or_default()).unwrap_or_default().to_vec()
}

fn at_least_one((columns, rows): (u16, u16)) -> (NonZeroU16, NonZeroU16) {
    let one = |n| NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN);
    (one(columns), one(rows))
}

/// Hears what is no drawing.
#[derive(Default)]
struct Listener {
    asks: Vec<Asks>,
}

impl Listener {
    fn answer(&mut self, bytes: String) {
        self.asks.push(Asks::Bytes(bytes.into_bytes()));
    }
}

impl Callbacks for Listener {
    fn unhandled_csi(&mut self, screen: &mut Screen, i1: Option<u8>, i2: Option<u8>, params: &[&[u16]], last: char) {
        let first = params.first().and_then(|p| p.first()).copied().unwrap_or_default();
        match (i1, i2, last, first) {
            // Is it well?
            (None, None, 'n', 5) => self.answer("\u{1b}[0n".to_owned()),
            // Where is the cursor?
            (None, None, 'n', 6) => {
                let (row, column) = screen.cursor_position();
                self.answer(format!("\u{1b}[{};{}R", row + 1, column + 1));
            }
            // What is it? A VT100 with advanced video.
            (None, None, 'c', 0) => self.answer("\u{1b}[?1;2c".to_owned()),
            _ => {}
        }
    }

    fn copy_to_clipboard(&mut self, _: &mut Screen, _ty: &[u8], data: &[u8]) {
        let text = BASE64_STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(text) = text.filter(|text| text.len() <= CLIPPED) {
            self.asks.push(Asks::Copy(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyModifiers, MouseButton};

    use super::*;

    fn attached() -> Attached {
        Attached::new("anga".parse().unwrap(), (20, 4))
    }

    fn bytes(of: &mut Attached, code: KeyCode, modifiers: KeyModifiers) -> String {
        String::from_utf8(of.key(KeyEvent::new(code, modifiers))).unwrap()
    }

    #[test]
    fn keys_become_the_bytes_that_a_terminal_sends() {
        let mut cli = attached();
        let none = KeyModifiers::NONE;
        for (code, modifiers, wanted) in [
            (KeyCode::Char('é'), none, "é"),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, "\u{3}"),
            (KeyCode::Char('b'), KeyModifiers::ALT, "\u{1b}b"),
            (KeyCode::Enter, none, "\r"),
            (KeyCode::Backspace, none, "\u{7f}"),
            (KeyCode::Esc, none, "\u{1b}"),
            (KeyCode::Up, none, "\u{1b}[A"),
            (KeyCode::Left, KeyModifiers::CONTROL, "\u{1b}[1;5D"),
            (KeyCode::BackTab, KeyModifiers::SHIFT, "\u{1b}[Z"),
            (KeyCode::Delete, none, "\u{1b}[3~"),
        ] {
            assert_eq!(bytes(&mut cli, code, modifiers), wanted, "{code:?} {modifiers:?}");
        }
        assert!(cli.printed(b"\x1b[?1h").is_empty());
        assert_eq!(bytes(&mut cli, KeyCode::Up, none), "\u{1b}OA", "as the program has asked");
        assert_eq!(bytes(&mut cli, KeyCode::Up, KeyModifiers::SHIFT), "\u{1b}[1;2A");
    }

    #[test]
    fn a_program_that_asks_its_terminal_is_answered() {
        let mut cli = attached();
        let answers =
            cli.printed(b"ab\r\ncd\x1b[6n\x1b[5n\x1b[c\x1b[>c\x1b[?u\x1b]52;c;aGkgdGhlcmU=\x07\x1b]52;c;%%%\x07");
        let told: Vec<_> = answers
            .iter()
            .map(|ask| match ask {
                Asks::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Asks::Copy(text) => format!("copy {text}"),
            })
            .collect();
        assert_eq!(told, ["\u{1b}[2;3R", "\u{1b}[0n", "\u{1b}[?1;2c", "copy hi there"]);
    }

    #[test]
    fn the_mouse_reaches_a_program_that_asks_for_it_and_as_much_of_it_as_it_asks_for() {
        let mut cli = attached();
        let at = |kind| MouseEvent { kind, column: 4, row: 2, modifiers: KeyModifiers::NONE };
        let told = |cli: &Attached, kind| cli.mouse(at(kind)).map(|bytes| String::from_utf8(bytes).unwrap());
        let (press, release) = (MouseEventKind::Down(MouseButton::Left), MouseEventKind::Up(MouseButton::Left));
        let drag = MouseEventKind::Drag(MouseButton::Left);
        assert_eq!(told(&cli, press), None);
        assert!(cli.printed(b"\x1b[?1000h").is_empty());
        assert_eq!(told(&cli, press), None, "an encoding that is not spoken");
        assert!(cli.printed(b"\x1b[?1006h").is_empty());
        for (kind, wanted) in [
            (press, "\u{1b}[<0;5;3M"),
            (release, "\u{1b}[<0;5;3m"),
            (MouseEventKind::ScrollDown, "\u{1b}[<65;5;3M"),
            (drag, ""),
            (MouseEventKind::Moved, ""),
        ] {
            assert_eq!(told(&cli, kind).as_deref(), Some(wanted), "{kind:?}");
        }
        assert!(cli.printed(b"\x1b[?1002h").is_empty());
        assert_eq!(told(&cli, drag).as_deref(), Some("\u{1b}[<32;5;3M"));
        assert_eq!(told(&cli, MouseEventKind::Moved).as_deref(), Some(""));
        assert!(cli.printed(b"\x1b[?1003h").is_empty());
        assert_eq!(told(&cli, MouseEventKind::Moved).as_deref(), Some("\u{1b}[<35;5;3M"));
    }

    #[test]
    fn nothing_in_a_paste_ends_it() {
        let mut cli = attached();
        assert_eq!(cli.paste("a\nb"), b"a\rb");
        assert!(cli.printed(b"\x1b[?2004h").is_empty());
        assert_eq!(cli.paste("a\u{1b}[201~rm"), b"\x1b[200~arm\x1b[201~");
    }

    #[test]
    fn what_left_the_top_can_be_looked_at_until_something_is_typed() {
        let mut cli = attached();
        for n in 0..20 {
            assert!(cli.printed(format!("line {n}\r\n").as_bytes()).is_empty());
        }
        cli.scroll(10);
        assert!(cli.screen().contents().starts_with("line 7\n"), "{}", cli.screen().contents());
        cli.scroll(-100);
        cli.scroll(1_000_000);
        assert!(cli.screen().contents().starts_with("line 0\n"));
        cli.key(KeyEvent::new(KeyCode::Char('x'), KeyModifiers::NONE));
        assert!(cli.screen().contents().starts_with("line 17\n"));
    }
}
