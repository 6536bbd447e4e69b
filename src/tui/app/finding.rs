//! Searching logs: the pattern that is typed, what comes of it, from hit to hit.

use super::App;
use crate::{
    model::{
        LogPlace, LogScope,
        log::{LogHit, LogSum, TimedLine},
    },
    room::State,
    tui::{Wish, find::Finder, keymap::Chord, layout::Pane, popup::Popup},
};
use crossterm::event::{KeyCode, KeyModifiers};

impl App {
    /// Searches the logs that are shown while the pattern is typed.
    pub(super) fn search_shown(&mut self, pattern: &str) -> Vec<Wish> {
        let scope = self.log.reading().map_or(LogScope::All, |reading| reading.scope.clone());
        self.search(scope, pattern)
    }

    fn search(&mut self, scope: LogScope, pattern: &str) -> Vec<Wish> {
        self.beside_of = None;
        let (asked, marked) = self.find.search(scope, pattern);
        self.log.highlight(marked);
        vec![Wish::Search(asked)]
    }

    /// Searches all logs for what was searched for last.
    pub(super) fn search_all(&mut self) -> Vec<Wish> {
        let pattern = self.find.pattern().to_owned();
        self.search(LogScope::All, &pattern)
    }

    /// Ends the search; nothing is marked any more.
    pub(super) fn end_search(&mut self) -> Vec<Wish> {
        self.search(LogScope::All, "")
    }

    /// The pattern is whole: goes to the first hit.
    pub(super) fn search_now(&mut self, state: &State) {
        if let Some(wrong) = self.find.wrong() {
            let wrong = format!("not a pattern: {wrong}");
            self.find = Finder::default();
            return self.say(&wrong, true);
        }
        if !self.find.is_on() {
            return;
        }
        let (columns, height) = self.log_size(state);
        let place = if self.log.follows() { None } else { self.log.place(columns, height) };
        match self.find.first(place.as_ref()) {
            Some(hit) => self.jump(&hit, state),
            None if self.find.sum().is_some() => self.say("nothing matches", true),
            None => {}
        }
    }

    pub(super) fn next_hit(&mut self, forward: bool, state: &State) {
        match self.find.next(forward) {
            Some(hit) => self.jump(&hit, state),
            None => self.say("nothing matches", true),
        }
    }

    /// Hits have been found.
    pub fn found(&mut self, id: u64, hits: Vec<LogHit>, state: &State) {
        if self.find.found(id, hits)
            && let Some(hit) = self.find.next(true)
        {
            self.jump(&hit, state);
        }
    }

    /// So many bytes have been searched.
    pub fn searched(&mut self, id: u64, bytes: u64) {
        self.find.read(id, bytes);
    }

    /// A search has ended.
    pub fn search_ended(&mut self, id: u64, sum: LogSum) {
        if self.find.ended(id, sum) {
            self.say("nothing matches", true);
        }
    }

    /// The lines around a hit have been read.
    pub fn beside_read(&mut self, place: LogPlace, lines: Vec<TimedLine>, here: usize) {
        self.find.set_beside(place, lines, here);
    }

    /// What has been searched for and found.
    pub fn finder(&self) -> &Finder {
        &self.find
    }

    /// How many hits there are, while a pattern for the log is typed.
    pub fn search_count(&self) -> String {
        match self.popups.last() {
            Some(Popup::Search { tasks: false, .. }) if self.find.is_on() => self
                .find
                .wrong()
                .map_or_else(|| format!("{} · ", self.find.count()), |_| "not a pattern yet · ".to_owned()),
            Some(_) | None => String::new(),
        }
    }

    /// The hit of a list that shows the newest first.
    pub fn listed(&self, at: usize) -> Option<&LogHit> {
        self.find.hits().iter().rev().nth(at)
    }

    /// Asks for the lines around the hit under the hand of the list.
    pub(super) fn look_beside(&mut self) -> Option<Wish> {
        let Some(Popup::Find { selected, .. }) = self.popups.last() else { return None };
        let hit = self.listed(*selected)?.clone();
        if self.beside_of.as_ref() == Some(&hit.place()) {
            return None;
        }
        self.beside_of = Some(hit.place());
        Some(Wish::Beside(Box::new(hit)))
    }

    pub(super) fn find_key(&mut self, chord: Chord, state: &State) -> Vec<Wish> {
        let found = self.find.hits().len();
        let Some(Popup::Find { query, selected }) = self.popups.last_mut() else { return Vec::new() };
        let page = usize::from(self.size.1 / 3).max(1);
        match chord.code {
            KeyCode::Esc => {
                self.popups.pop();
                return Vec::new();
            }
            KeyCode::Enter if query == self.find.pattern() => {
                let selected = *selected;
                if let Some(hit) = self.listed(selected).cloned() {
                    self.popups.clear();
                    self.composing = false;
                    self.zoom = true;
                    self.focus = Pane::Log;
                    self.jump(&hit, state);
                } else if let Some(wrong) = self.find.wrong() {
                    let wrong = format!("not a pattern: {wrong}");
                    self.say(&wrong, true);
                }
                return Vec::new();
            }
            KeyCode::Up => *selected = selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Tab => *selected = (*selected + 1).min(found.saturating_sub(1)),
            KeyCode::PageUp => *selected = selected.saturating_sub(page),
            KeyCode::PageDown => *selected = (*selected + page).min(found.saturating_sub(1)),
            KeyCode::Home => *selected = 0,
            KeyCode::End => *selected = found.saturating_sub(1),
            KeyCode::Backspace => {
                query.pop();
            }
            KeyCode::Char('u') if chord.modifiers == KeyModifiers::CONTROL => query.clear(),
            KeyCode::Char(c) if chord.modifiers.is_empty() && query.len() < 500 && !c.is_control() => query.push(c),
            _ => {}
        }
        if query == self.find.pattern() {
            return Vec::new();
        }
        *selected = 0;
        let query = query.clone();
        self.search(LogScope::All, &query)
    }
}
