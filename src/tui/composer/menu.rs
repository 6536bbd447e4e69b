//! What can be put into the composer: texts that were sent, templates, agents, files; narrowed as one types.
//!
//! Its one surprise: a list of what was sent or of templates takes the letters, one of references leaves them to the text.

use super::Entry;
use crate::{model::text::scrub, tui::text::one_line};

/// Rows kept of one list.
const MOST: usize = 200;

/// A text to begin a goal with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Its text; `{gaps}` are for the operator to fill.
    pub text: String,
}

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Texts that were sent.
    Sent,
    /// Templates.
    Template,
    /// Agents or files.
    Reference,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What is shown.
    pub shown: String,
    /// More about it.
    pub note: String,
    /// What is put in.
    pub text: String,
}

/// A list, and the row under the hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    of: Of,
    query: String,
    items: Vec<Item>,
    selected: usize,
    touched: bool,
}

impl Menu {
    fn new(of: Of, items: Vec<Item>) -> Self {
        Self { of, query: String::new(), items, selected: 0, touched: false }
    }

    /// What was sent, the newest first.
    pub(super) fn sent(history: &[String]) -> Self {
        let item = |text: &String| Item { shown: one_line(text).into_owned(), note: String::new(), text: text.clone() };
        Self::new(Of::Sent, history.iter().rev().map(item).collect())
    }

    pub(super) fn templates(templates: Vec<Template>) -> Self {
        let item = |template: Template| Item {
            shown: one_line(&template.name).into_owned(),
            note: one_line(&template.text).into_owned(),
            text: scrub(&template.text).trim().to_owned(),
        };
        Self::new(Of::Template, templates.into_iter().take(MOST).map(item).collect())
    }

    /// Agents whose names begin so.
    pub(super) fn agents(word: &str, agents: &[&str]) -> Option<Self> {
        let fits = agents.iter().filter(|name| name.starts_with(word));
        let item = |name: &&str| Item { shown: (*name).to_owned(), note: String::new(), text: format!("{name} ") };
        Self::of_some(fits.map(item).collect())
    }

    /// Entries of a folder whose names begin as the reference ends; folders first.
    pub(super) fn files(word: &str, folder: &str, entries: &[Entry]) -> Option<Self> {
        let (of, begun) = word.rsplit_once('/').unwrap_or(("", word));
        if of != folder {
            return None;
        }
        let hidden = begun.starts_with('.');
        let fits = |entry: &&Entry| entry.name.starts_with(begun) && (hidden || !entry.name.starts_with('.'));
        let mut fitting: Vec<_> = entries.iter().filter(fits).collect();
        fitting.sort_by(|a, b| b.folder.cmp(&a.folder).then_with(|| a.name.cmp(&b.name)));
        let path = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let item = |entry: &Entry| {
            let (end, after) = if entry.folder { ("/", "/") } else { ("", " ") };
            let shown = format!("{}{end}", one_line(&entry.name));
            Item { shown, note: String::new(), text: format!("{}{after}", path(&entry.name)) }
        };
        Self::of_some(fitting.into_iter().take(MOST).map(item).collect())
    }

    fn of_some(items: Vec<Item>) -> Option<Self> {
        (!items.is_empty()).then(|| Self::new(Of::Reference, items))
    }

    /// What it is of.
    pub fn of(&self) -> Of {
        self.of
    }

    /// What was typed to narrow it.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The rows that fit.
    pub fn rows(&self) -> impl Iterator<Item = &Item> {
        let words: Vec<_> = self.query.split_whitespace().map(str::to_lowercase).collect();
        let fits = move |item: &&Item| {
            let text = format!("{} {}", item.shown, item.note).to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        self.items.iter().filter(fits)
    }

    /// Which of them is under the hand.
    pub fn selected(&self) -> usize {
        self.selected.min(self.rows().count().saturating_sub(1))
    }

    pub(super) fn chosen(&self) -> Option<&Item> {
        self.rows().nth(self.selected())
    }

    /// Whether somebody has moved in it.
    pub(super) fn was_touched(&self) -> bool {
        self.touched
    }

    pub(super) fn step(&mut self, on: bool) {
        let n = self.rows().count().max(1);
        self.selected = (self.selected() + if on { 1 } else { n - 1 }) % n;
        self.touched = true;
    }

    pub(super) fn narrow(&mut self, c: char) {
        if self.query.len() < 200 {
            self.query.push(c);
        }
        self.selected = 0;
    }

    /// Takes a letter away; false where there is none.
    pub(super) fn shorten(&mut self) -> bool {
        self.selected = 0;
        self.query.pop().is_some()
    }
}

/// The reference at the end of a text: what follows an `@` that begins a word.
pub(super) fn reference(before: &str) -> Option<&str> {
    let (head, word) = before.rsplit_once('@')?;
    let begins = head.chars().next_back().is_none_or(|c| c.is_whitespace() || "([\"'".contains(c));
    (begins && !word.contains(char::is_whitespace)).then_some(word)
}

/// Row and column, in characters, of the first `{gap}`.
pub(super) fn gap(lines: &[String]) -> Option<(usize, usize)> {
    let find = |line: &String| {
        let (head, rest) = line.split_once('{')?;
        rest.contains('}').then(|| head.chars().count())
    };
    lines.iter().enumerate().find_map(|(row, line)| Some((row, find(line)?)))
}
