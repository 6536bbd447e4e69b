//! The line that takes the next goal: a small editor, what was sent before, and what its text means.
//!
//! Its one surprise: `@marie ...` is no goal but one task for marie.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_textarea::{CursorMove, TextArea, WrapMode};

use super::{keymap::Chord, text};
use crate::{
    model::{AgentName, Approval, TaskId, TaskRef, TaskSpec, text::scrub},
    room::{Order, State},
};

/// Texts kept that were sent.
const HISTORY: usize = 100;
/// Characters a goal may have; a paste beyond is cut.
const LIMIT: usize = 20_000;

/// The composer.
#[derive(Debug)]
pub struct Composer {
    area: TextArea<'static>,
    history: Vec<String>,
    /// Which former text is shown, and what stood there before.
    shown: Option<(usize, String)>,
}

/// What a key in the composer asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// Nothing more.
    Edited,
    /// Send it.
    Send,
    /// The keys go elsewhere.
    Leave,
    /// The keys go to the next pane, or the one before.
    Tab(bool),
}

impl Default for Composer {
    fn default() -> Self {
        Self { area: area(""), history: Vec::new(), shown: None }
    }
}

fn area(text: &str) -> TextArea<'static> {
    let mut area = TextArea::new(text.split('\n').map(str::to_owned).collect());
    area.set_wrap_mode(WrapMode::WordOrGlyph);
    area.set_cursor_line_style(ratatui::style::Style::default());
    // The terminal's own cursor is placed there, for input methods and readers.
    area.set_cursor_style(ratatui::style::Style::default());
    area.set_max_histories(500);
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

impl Composer {
    /// The text as it stands.
    pub fn text(&self) -> String {
        self.area.lines().join("\n")
    }

    /// Whether it holds nothing but blanks.
    pub fn is_empty(&self) -> bool {
        self.area.lines().iter().all(|l| l.trim().is_empty())
    }

    /// The editor, for drawing.
    pub fn area(&self) -> &TextArea<'static> {
        &self.area
    }

    /// Rows the text takes in so many columns.
    pub fn rows(&self, columns: usize) -> u16 {
        let rows: usize = self.area.lines().iter().map(|l| text::wrap(l, columns).len()).sum();
        u16::try_from(rows).unwrap_or(u16::MAX).max(1)
    }

    /// Replaces the text.
    pub fn set(&mut self, text: &str) {
        let clean: String = scrub(text).chars().take(LIMIT).collect();
        self.area = area(&clean);
    }

    /// Puts text in as text.
    pub fn insert(&mut self, text: &str) {
        let room = LIMIT.saturating_sub(self.text().chars().count());
        // A bare carriage return is how some terminals paste a line end.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let clean: String = scrub(&text).chars().take(room).collect();
        self.area.insert_str(clean);
    }

    /// Takes the text out and keeps it among what was sent.
    pub fn take(&mut self) -> String {
        let text = self.text().trim().to_owned();
        if self.history.last() != Some(&text) {
            self.history.push(text.clone());
        }
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
        self.shown = None;
        self.area = area("");
        text
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Typed {
        let chord = Chord::of(key);
        let newline = chord.is("alt-enter") || chord.is("shift-enter") || chord.is("ctrl-j");
        match chord.code {
            _ if newline => self.area.insert_newline(),
            KeyCode::Enter => return Typed::Send,
            KeyCode::Esc => return Typed::Leave,
            KeyCode::Tab => return Typed::Tab(true),
            KeyCode::BackTab => return Typed::Tab(false),
            KeyCode::Up if self.area.cursor().0 == 0 => self.recall(true),
            KeyCode::Down if self.area.cursor().0 + 1 >= self.area.lines().len() => self.recall(false),
            KeyCode::Char('u') if chord.modifiers == KeyModifiers::CONTROL => {
                self.area.delete_line_by_head();
            }
            KeyCode::Char('z') if chord.modifiers == KeyModifiers::CONTROL => {
                self.area.undo();
            }
            KeyCode::Char(c) if c.is_control() => {}
            KeyCode::Char(c) if scrub(c.encode_utf8(&mut [0; 4])).is_empty() => {}
            _ if self.text().len() > LIMIT * 2 && matches!(chord.code, KeyCode::Char(_)) => {}
            _ => {
                self.area.input(key);
            }
        }
        Typed::Edited
    }

    fn recall(&mut self, back: bool) {
        let (at, draft) = match (&self.shown, back) {
            (None, false) => return,
            (None, true) => (self.history.len(), self.text()),
            (Some((at, draft)), _) => (*at, draft.clone()),
        };
        let next = if back { at.checked_sub(1) } else { Some(at + 1) };
        let Some(next) = next else { return };
        if let Some(text) = self.history.get(next) {
            self.area = area(text);
            self.shown = Some((next, draft));
        } else if !back {
            self.area = area(&draft);
            self.shown = None;
        }
    }
}

/// What a text asks the room for; the error is a sentence for the operator.
pub fn order(text: &str, state: &State) -> Result<Order, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("nothing to send: write what you want done".to_owned());
    }
    let Some(rest) = text.strip_prefix('@') else {
        return Ok(Order::Goal { text: text.to_owned(), approval: Approval::Ask, budget: None });
    };
    let (name, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let names: Vec<_> = state.agents.iter().map(|a| a.name().as_str()).collect();
    let agent = AgentName::new(name).ok().filter(|a| state.agents.get(a).is_some());
    let Some(agent) = agent else {
        return Err(format!("there is no agent {}; there are {}", text::fit(name, 40), names.join(", ")));
    };
    let words = words.trim();
    if words.is_empty() {
        return Err(format!("what should {agent} do? write it after @{agent}"));
    }
    let id = slug(words).ok_or_else(|| "no id can be made of this text".to_owned())?;
    Ok(Order::Task { spec: Box::new(TaskSpec::new(TaskRef::new(agent, id), words)), rename: true })
}

/// An id from the first words of a text.
fn slug(text: &str) -> Option<TaskId> {
    let mut id = String::new();
    for c in text.lines().next().unwrap_or_default().chars() {
        if c.is_ascii_alphanumeric() {
            id.push(c.to_ascii_lowercase());
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
        if id.len() >= 40 {
            break;
        }
    }
    let id = id.trim_end_matches('-');
    TaskId::new(if id.is_empty() { "task" } else { id }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(composer: &mut Composer, key: &str) -> Typed {
        let chord = Chord::parse(key).unwrap();
        composer.key(KeyEvent::new(chord.code, chord.modifiers))
    }

    #[test]
    fn enter_sends_and_two_other_keys_break_the_line() {
        let mut composer = Composer::default();
        composer.insert("one");
        assert_eq!(press(&mut composer, "alt-enter"), Typed::Edited);
        composer.insert("two");
        assert_eq!(press(&mut composer, "ctrl-j"), Typed::Edited);
        assert_eq!(composer.text(), "one\ntwo\n");
        assert_eq!(press(&mut composer, "enter"), Typed::Send);
        assert_eq!(press(&mut composer, "ctrl-enter"), Typed::Send);
    }

    #[test]
    fn what_was_sent_comes_back_and_the_draft_is_kept() {
        let mut composer = Composer::default();
        composer.set("first");
        composer.take();
        composer.set("second");
        composer.take();
        composer.set("draft");
        press(&mut composer, "up");
        assert_eq!(composer.text(), "second");
        press(&mut composer, "up");
        press(&mut composer, "up");
        assert_eq!(composer.text(), "first");
        press(&mut composer, "down");
        press(&mut composer, "down");
        assert_eq!(composer.text(), "draft");
    }

    #[test]
    fn a_paste_is_text_and_nothing_else() {
        let mut composer = Composer::default();
        composer.insert("a\u{1b}[31mb\rc\u{7}");
        assert_eq!(composer.text(), "ab\nc");
    }

    #[test]
    fn a_slug_is_an_id_whatever_the_text() {
        assert_eq!(slug("Write the juniors' report, please!").unwrap().as_str(), "write-the-juniors-report-please");
        assert_eq!(slug("日本語").unwrap().as_str(), "task");
        assert!(slug(&"x".repeat(500)).unwrap().as_str().len() <= 41);
    }
}
