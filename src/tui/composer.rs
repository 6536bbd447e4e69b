//! The line that takes the next goal: a small editor, what was sent before, what can be put in, and what its text means.
//!
//! Its one surprise: `@marie ...` is no goal but one task for marie, `? ...` asks who would do it and no more, and `@` anywhere
//! later is a file of the stage.

pub mod menu;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui_textarea::{CursorMove, TextArea, WrapMode};
use serde::{Deserialize, Serialize};

pub use menu::{Menu, Template};
use menu::{Of, reference};

use super::{keymap::Chord, text};
use crate::{
    model::{AgentName, Approval, TaskId, TaskRef, TaskSpec, Terms, text::scrub},
    room::{Order, State},
};

/// Texts kept that were sent.
const HISTORY: usize = 100;
/// Characters a text may have; a paste beyond is cut, and said to be.
pub const LIMIT: usize = 200_000;
/// Rows that are counted of a text: no screen gives it more.
const ROWS: usize = 120;

/// The composer.
#[derive(Debug)]
pub struct Composer {
    area: TextArea<'static>,
    history: Vec<String>,
    /// Which former text is shown, and what stood there before.
    shown: Option<(usize, String)>,
    /// What can be put in.
    menu: Option<Menu>,
    /// A folder's entries, and which folder's.
    folder: Option<(String, Vec<Entry>)>,
    /// What the menu of references was closed on; typing more opens it again.
    closed: Option<String>,
}

/// A file or a folder of the stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
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
    /// Read the templates; [`Composer::templates_read`] is told.
    Templates,
}

impl Default for Composer {
    fn default() -> Self {
        Self { area: area(""), history: Vec::new(), shown: None, menu: None, folder: None, closed: None }
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
        let mut rows = 0;
        for line in self.area.lines() {
            // What is that long is not wrapped to be counted. A character has four bytes at most.
            rows += if line.len() > columns * ROWS * 4 { ROWS } else { text::wrap(line, columns).len() };
            if rows >= ROWS {
                break;
            }
        }
        u16::try_from(rows.clamp(1, ROWS)).unwrap_or(u16::MAX)
    }

    /// Replaces the text.
    pub fn set(&mut self, text: &str) {
        let clean: String = scrub(text).chars().take(LIMIT).collect();
        self.area = area(&clean);
    }

    /// Puts text in as text; whether all of it had room.
    pub fn insert(&mut self, text: &str) -> bool {
        let room = LIMIT.saturating_sub(self.text().chars().count());
        // A bare carriage return is how some terminals paste a line end.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let whole = scrub(&text);
        let clean: String = whole.chars().take(room).collect();
        let fits = clean.len() == whole.len();
        self.area.insert_str(clean);
        fits
    }

    /// What was sent, oldest first.
    pub fn sent(&self) -> &[String] {
        &self.history
    }

    /// What was sent by former screens, oldest first.
    pub fn remember(&mut self, sent: Vec<String>) {
        let skip = sent.len().saturating_sub(HISTORY);
        self.history = sent.into_iter().skip(skip).map(|text| scrub(&text).chars().take(LIMIT).collect()).collect();
    }

    /// Takes the text out and keeps it among what was sent.
    pub fn take(&mut self) -> String {
        let text = self.text().trim().to_owned();
        self.history.retain(|known| *known != text);
        self.history.push(text.clone());
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
        (self.shown, self.menu) = (None, None);
        self.area = area("");
        text
    }

    /// Takes a key. `agents` are those that a task can be given to.
    pub fn key(&mut self, key: KeyEvent, agents: &[&str]) -> Typed {
        let chord = Chord::of(key);
        if let Some(typed) = self.menu_key(chord) {
            return typed;
        }
        let typed = self.write(key, chord);
        self.refer(agents);
        typed
    }

    fn write(&mut self, key: KeyEvent, chord: Chord) -> Typed {
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
            KeyCode::Char('z') if chord.modifiers == KeyModifiers::ALT => {
                self.area.redo();
            }
            KeyCode::Char('r') if chord.modifiers == KeyModifiers::CONTROL => {
                self.menu = Some(Menu::sent(&self.history));
            }
            KeyCode::Char('t') if chord.modifiers == KeyModifiers::CONTROL => return Typed::Templates,
            KeyCode::Char(c) if c.is_control() => {}
            KeyCode::Char(c) if scrub(c.encode_utf8(&mut [0; 4])).is_empty() => {}
            _ if self.text().len() > LIMIT * 2 && matches!(chord.code, KeyCode::Char(_)) => {}
            _ => {
                self.area.input(key);
            }
        }
        Typed::Edited
    }

    /// What can be put in.
    pub fn menu(&self) -> Option<&Menu> {
        self.menu.as_ref()
    }

    /// The templates were read: they are shown to choose from.
    pub fn templates_read(&mut self, templates: Vec<Template>) {
        self.menu = Some(Menu::templates(templates));
    }

    /// The folder of the stage whose entries are wanted: of the reference that is being written. Empty = the stage itself.
    pub fn wants(&self) -> Option<String> {
        let (first, word) = self.reference()?;
        let folder = word.rsplit_once('/').map_or("", |(folder, _)| folder);
        let known = self.folder.as_ref().is_some_and(|(known, _)| known == folder);
        let inside = !folder.starts_with('/') && folder.split('/').all(|part| part != "..");
        (!first && !known && inside).then(|| folder.to_owned())
    }

    /// A folder's entries were read.
    pub fn listed(&mut self, folder: String, entries: Vec<Entry>, agents: &[&str]) {
        self.folder = Some((folder, entries));
        self.refer(agents);
    }

    /// The reference before the cursor, without its `@`; whether it is the text's first word.
    fn reference(&self) -> Option<(bool, String)> {
        let cursor = self.area.cursor();
        let line = self.area.lines().get(cursor.0)?;
        let before: String = line.chars().take(cursor.1).collect();
        let word = reference(&before)?.to_owned();
        let first = cursor.0 == 0 && before.trim_start().strip_prefix('@') == Some(word.as_str());
        Some((first, word))
    }

    /// Shows what the reference before the cursor may become.
    fn refer(&mut self, agents: &[&str]) {
        if self.menu.as_ref().is_some_and(|menu| menu.of() != Of::Reference) {
            return;
        }
        self.menu = None;
        let Some((first, word)) = self.reference() else {
            self.closed = None;
            return;
        };
        if self.closed.as_ref() == Some(&word) {
            return;
        }
        self.closed = None;
        let menu = if first {
            Menu::agents(&word, agents)
        } else {
            let folder = self.folder.as_ref();
            folder.and_then(|(folder, entries)| Menu::files(&word, folder, entries))
        };
        self.menu = menu;
    }

    /// What a key does while there is a menu; `None` where it goes on to the text.
    fn menu_key(&mut self, chord: Chord) -> Option<Typed> {
        let menu = self.menu.as_mut()?;
        let takes_letters = menu.of() != Of::Reference;
        match chord.code {
            KeyCode::Up => menu.step(false),
            KeyCode::Down => menu.step(true),
            KeyCode::Char('r') if takes_letters && chord.modifiers == KeyModifiers::CONTROL => menu.step(true),
            KeyCode::Esc => {
                self.closed = self.reference().map(|(_, word)| word);
                self.menu = None;
            }
            // Enter sends, unless somebody has chosen here.
            KeyCode::Enter if !takes_letters && !menu.was_touched() => return None,
            KeyCode::Tab | KeyCode::Enter if chord.modifiers.is_empty() => {
                let chosen = menu.chosen().cloned();
                let of = menu.of();
                self.menu = None;
                if let Some(chosen) = chosen {
                    self.put(of, &chosen);
                }
            }
            KeyCode::Backspace if takes_letters => {
                if !menu.shorten() {
                    self.menu = None;
                }
            }
            KeyCode::Char(c) if takes_letters && chord.modifiers.is_empty() && !c.is_control() => menu.narrow(c),
            _ if takes_letters => {}
            _ => return None,
        }
        Some(Typed::Edited)
    }

    fn put(&mut self, of: Of, chosen: &menu::Item) {
        match of {
            Of::Sent => {
                let draft = self.text();
                let at = self.history.iter().position(|text| *text == chosen.text);
                self.area = area(&chosen.text);
                self.shown = at.map(|at| (at, draft));
            }
            Of::Template => {
                if self.is_empty() {
                    self.set(&chosen.text);
                } else {
                    let _fits = self.insert(&chosen.text);
                }
                // The first gap is where one begins to write.
                if let Some((row, col)) = menu::gap(self.area.lines()) {
                    let [row, col] = [row, col].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
                    self.area.move_cursor(CursorMove::Jump(row, col));
                }
            }
            Of::Reference => {
                let written = self.reference().map_or(0, |(_, word)| word.chars().count());
                for _ in 0..written {
                    self.area.delete_char();
                }
                let _fits = self.insert(&chosen.text);
            }
        }
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
    if let Some(words) = text.strip_prefix('?') {
        let words = words.trim();
        if words.is_empty() {
            return Err("ask who would do what? write it after the ?".to_owned());
        }
        return Ok(Order::Goal { text: words.to_owned(), approval: Approval::Never, terms: Terms::default() });
    }
    let Some(rest) = text.strip_prefix('@') else {
        return Ok(Order::Goal { text: text.to_owned(), approval: Approval::Ask, terms: Terms::default() });
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
        composer.key(KeyEvent::new(chord.code, chord.modifiers), &["marie", "anga", "fabien"])
    }

    fn write(composer: &mut Composer, text: &str) {
        for c in text.chars() {
            composer.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE), &["marie", "anga", "fabien"]);
        }
    }

    fn shown(composer: &Composer) -> Vec<&str> {
        composer.menu().map(|menu| menu.rows().map(|item| item.shown.as_str()).collect()).unwrap_or_default()
    }

    fn entries(names: &[&str]) -> Vec<Entry> {
        let entry = |name: &&str| Entry { name: name.trim_end_matches('/').to_owned(), folder: name.ends_with('/') };
        names.iter().map(entry).collect()
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
    fn what_was_sent_is_searched_as_it_is_typed() {
        let mut composer = Composer::default();
        composer.remember(vec!["Mend the sign-up".into(), "Announce the week".into(), "Mend the poster".into()]);
        composer.set("a draft");
        press(&mut composer, "ctrl-r");
        assert_eq!(shown(&composer), ["Mend the poster", "Announce the week", "Mend the sign-up"]);
        write(&mut composer, "mend");
        assert_eq!(shown(&composer), ["Mend the poster", "Mend the sign-up"]);
        press(&mut composer, "ctrl-r");
        assert_eq!(press(&mut composer, "enter"), Typed::Edited);
        assert_eq!((composer.text().as_str(), shown(&composer).len()), ("Mend the sign-up", 0));
        // The draft is where it was: below what was sent last.
        for _ in 0..3 {
            press(&mut composer, "down");
        }
        assert_eq!(composer.text(), "a draft");
        press(&mut composer, "ctrl-r");
        write(&mut composer, "nothing so");
        assert_eq!(press(&mut composer, "enter"), Typed::Edited);
        assert_eq!(composer.text(), "a draft");
        press(&mut composer, "ctrl-r");
        assert_eq!(press(&mut composer, "esc"), Typed::Edited, "closes the list, not the composer");
        assert_eq!(press(&mut composer, "esc"), Typed::Leave);
    }

    #[test]
    fn a_file_is_referred_to_by_completing_its_path() {
        let mut composer = Composer::default();
        write(&mut composer, "Read @");
        assert_eq!(composer.wants().as_deref(), Some(""));
        composer.listed(String::new(), entries(&["podium.toml", "workspaces/", ".podium/"]), &[]);
        assert_eq!(shown(&composer), ["workspaces/", "podium.toml"]);
        write(&mut composer, "wo");
        assert_eq!(shown(&composer), ["workspaces/"]);
        press(&mut composer, "tab");
        assert_eq!(composer.text(), "Read @workspaces/");
        assert_eq!(composer.wants().as_deref(), Some("workspaces"));
        composer.listed("workspaces".into(), entries(&["notes.md", "next.md"]), &[]);
        press(&mut composer, "down");
        assert_eq!(press(&mut composer, "enter"), Typed::Edited, "a chosen one is taken");
        assert_eq!(composer.text(), "Read @workspaces/notes.md ");
        assert_eq!(press(&mut composer, "enter"), Typed::Send);
        // Enter sends where nobody has chosen, and a closed list stays closed.
        write(&mut composer, "@wo");
        composer.listed(String::new(), entries(&["workspaces/"]), &[]);
        press(&mut composer, "esc");
        assert_eq!(shown(&composer).len(), 0);
        assert_eq!(press(&mut composer, "enter"), Typed::Send);
    }

    #[test]
    fn the_first_word_names_an_agent_and_an_address_is_no_reference() {
        let mut composer = Composer::default();
        write(&mut composer, "@a");
        assert_eq!(shown(&composer), ["anga"]);
        press(&mut composer, "tab");
        assert_eq!(composer.text(), "@anga ");
        write(&mut composer, "write to a@b");
        assert_eq!((composer.wants(), shown(&composer).len()), (None, 0));
        assert_eq!(press(&mut composer, "tab"), Typed::Tab(true));
    }

    #[test]
    fn a_template_is_put_in_with_the_cursor_at_its_first_gap() {
        let mut composer = Composer::default();
        assert_eq!(press(&mut composer, "ctrl-t"), Typed::Templates);
        let template = |name: &str, text: &str| Template { name: name.into(), text: text.into() };
        composer
            .templates_read(vec![template("mend", "Mend {what} and test it."), template("announce", "Announce it.")]);
        write(&mut composer, "men");
        assert_eq!(shown(&composer), ["mend"]);
        press(&mut composer, "enter");
        assert_eq!(composer.text(), "Mend {what} and test it.");
        write(&mut composer, "X");
        assert_eq!(composer.text(), "Mend X{what} and test it.");
        press(&mut composer, "ctrl-z");
        press(&mut composer, "alt-z");
        assert_eq!(composer.text(), "Mend X{what} and test it.");
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
