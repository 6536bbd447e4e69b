//! The log of one attempt as the screen holds it: a bounded ring, a place in it, a search through it.
//!
//! Owns following, scrolling and finding. Must not know files: entries arrive through [`Log::append`]. Its one surprise:
//! places are sequence numbers of entries, which never change while new entries arrive and old ones fall out, so a
//! scrolled-back view stands still whatever the agent prints.

use std::collections::VecDeque;

use jiff::Timestamp;
use regex::{Regex, RegexBuilder};

use super::text;
pub use crate::claude::log::Kind;
use crate::model::{AttemptRef, text::scrub};

/// Entries kept.
pub const RING: usize = 20_000;
/// Bytes of one entry kept.
const ENTRY_LIMIT: usize = 16_000;

/// Which kinds are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Show {
    /// All.
    #[default]
    All,
    /// What agents say.
    Said,
    /// What they do.
    Done,
    /// What went wrong.
    Errors,
}

impl Show {
    /// The words on screen; nothing where everything is shown.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Said => Some("only what is said"),
            Self::Done => Some("only tools"),
            Self::Errors => Some("only errors"),
        }
    }

    fn has(self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::All, _) | (Self::Said, Kind::Text) | (Self::Done, Kind::Tool | Kind::Agent) => true,
            (Self::Errors, kind) => kind == Kind::Error,
            (Self::Said | Self::Done, _) => false,
        }
    }
}

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, where the log says so.
    pub at: Option<Timestamp>,
    /// What it is.
    pub kind: Kind,
    /// Sub-agents below the agent.
    pub depth: u8,
    /// Its text, maybe with line ends.
    pub text: String,
}

/// Which log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogTarget {
    /// Of which attempt.
    pub attempt: AttemptRef,
    /// The file, relative to the stage.
    pub path: String,
}

/// A line of the view: which entry, which of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    entry: u64,
    row: usize,
}

/// One row as drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its entry.
    pub entry: &'a Entry,
    /// The entry's sequence number.
    pub number: u64,
    /// The first row of its entry.
    pub first: bool,
    /// The text of this row, indented by depth.
    pub text: String,
}

/// A log on screen.
#[derive(Debug, Default)]
pub struct Log {
    target: Option<LogTarget>,
    entries: VecDeque<Entry>,
    /// Entries that have fallen out of the ring.
    gone: u64,
    /// Bytes before the first entry that were never read.
    skipped: u64,
    /// The view's first row; `None` follows the end.
    top: Option<Place>,
    search: Option<Regex>,
    hits: VecDeque<u64>,
    hit: Option<u64>,
    show: Show,
}

impl Log {
    /// Which log this is.
    pub fn target(&self) -> Option<&LogTarget> {
        self.target.as_ref()
    }

    /// Turns to another log; the search stays.
    pub fn turn_to(&mut self, target: Option<LogTarget>) {
        let search = self.search.take();
        *self = Self { target, search, show: self.show, ..Self::default() };
    }

    /// Takes entries of the log it is turned to; cleans them.
    pub fn append(&mut self, entries: Vec<Entry>) {
        for mut entry in entries {
            let clean = scrub(&entry.text);
            entry.text = crate::model::text::clip(clean.trim_end(), ENTRY_LIMIT).into_owned();
            if self.entries.len() >= RING {
                self.entries.pop_front();
                self.gone += 1;
                if self.hits.front().is_some_and(|hit| *hit < self.gone) {
                    self.hits.pop_front();
                }
            }
            let number = self.gone + self.entries.len() as u64;
            if self.search.as_ref().is_some_and(|search| search.is_match(&entry.text)) {
                self.hits.push_back(number);
            }
            self.entries.push_back(entry);
        }
    }

    /// Notes that reading began this far into the file.
    pub fn skip(&mut self, bytes: u64) {
        self.skipped = bytes;
    }

    /// Entries seen so far, those that have fallen out included.
    pub fn len(&self) -> u64 {
        self.gone + self.entries.len() as u64
    }

    /// Whether nothing has been read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the view shows the end as it grows.
    pub fn follows(&self) -> bool {
        self.top.is_none()
    }

    /// One phrase on what is not shown: the beginning of a log that is too long.
    pub fn cut(&self) -> Option<String> {
        match (self.skipped, self.gone) {
            (0, 0) => None,
            (0, gone) => Some(format!("{gone} earlier lines are in the file")),
            (skipped, _) => Some(format!("{} before this are in the file", text::bytes(skipped))),
        }
    }

    /// The rows to draw in a view of this size.
    pub fn view(&self, columns: usize, height: usize) -> Vec<Row<'_>> {
        let mut rows = Vec::with_capacity(height);
        let top = self.top_place(columns, height);
        let mut number = top.entry;
        let mut skip = top.row;
        while rows.len() < height {
            let Some(entry) = self.get(number) else { break };
            for (n, text) in self.lines(entry, columns).into_iter().enumerate().skip(skip) {
                if rows.len() == height {
                    break;
                }
                rows.push(Row { entry, number, first: n == 0, text });
            }
            skip = 0;
            number += 1;
        }
        rows
    }

    /// Moves the view by rows; following ends when it moves up and begins again at the end.
    pub fn scroll(&mut self, rows: isize, columns: usize, height: usize) {
        let top = self.top_place(columns, height);
        let last = self.last_top(columns, height);
        let moved = if rows < 0 {
            self.back(top, rows.unsigned_abs(), columns)
        } else {
            self.forth(top, rows.unsigned_abs(), columns)
        };
        self.top = (moved < last).then_some(moved);
    }

    /// Shows the beginning.
    pub fn to_start(&mut self, columns: usize, height: usize) {
        let start = Place { entry: self.gone, row: 0 };
        self.top = (start < self.last_top(columns, height)).then_some(start);
    }

    /// Shows the end and follows it.
    pub fn to_end(&mut self) {
        self.top = None;
    }

    /// Stops following where the view is, or follows again.
    pub fn toggle_follow(&mut self, columns: usize, height: usize) {
        self.top = if self.top.is_some() { None } else { Some(self.top_place(columns, height)) };
    }

    /// Which kinds are shown.
    pub fn shows(&self) -> Show {
        self.show
    }

    /// Shows the next selection of kinds.
    pub fn show_next(&mut self) {
        self.show = match self.show {
            Show::All => Show::Said,
            Show::Said => Show::Done,
            Show::Done => Show::Errors,
            Show::Errors => Show::All,
        };
        if let Some(top) = &mut self.top {
            top.row = 0;
        }
    }

    /// Searches from now on; an empty pattern ends the search. Small letters find capitals too.
    pub fn search(&mut self, pattern: &str) -> Result<(), regex::Error> {
        self.hit = None;
        self.hits.clear();
        self.search = None;
        if pattern.is_empty() {
            return Ok(());
        }
        let small = !pattern.chars().any(char::is_uppercase);
        let search = RegexBuilder::new(pattern).case_insensitive(small).size_limit(1 << 20).build()?;
        let gone = self.gone;
        let hits = self.entries.iter().enumerate().filter(|(_, e)| search.is_match(&e.text));
        self.hits = hits.map(|(n, _)| gone + n as u64).collect();
        self.search = Some(search);
        Ok(())
    }

    /// What is searched for.
    pub fn pattern(&self) -> Option<&Regex> {
        self.search.as_ref()
    }

    /// Which hit is shown, from 1, and how many there are.
    pub fn found(&self) -> (usize, usize) {
        let at = self.hit.and_then(|hit| self.hits.iter().position(|h| *h == hit));
        (at.map_or(0, |n| n + 1), self.hits.len())
    }

    /// The entry of the hit that is shown.
    pub fn hit(&self) -> Option<u64> {
        self.hit
    }

    /// Shows the next hit, or the one before, going round at the ends; false when there is none.
    pub fn next_hit(&mut self, forward: bool, columns: usize, height: usize) -> bool {
        let from = self.hit.unwrap_or_else(|| {
            let top = self.top_place(columns, height).entry;
            if forward { top.saturating_sub(1) } else { self.len() }
        });
        let next = if forward {
            let fresh = self.hit.is_none() && self.gone == from;
            self.hits.iter().find(|h| **h > from || (fresh && **h == from)).or_else(|| self.hits.front())
        } else {
            self.hits.iter().rev().find(|h| **h < from).or_else(|| self.hits.back())
        };
        let Some(next) = next.copied() else { return false };
        self.hit = Some(next);
        let place = self.back(Place { entry: next, row: 0 }, height / 3, columns);
        self.top = Some(place.min(self.last_top(columns, height)));
        true
    }

    fn get(&self, number: u64) -> Option<&Entry> {
        let index = usize::try_from(number.checked_sub(self.gone)?).ok()?;
        self.entries.get(index)
    }

    fn top_place(&self, columns: usize, height: usize) -> Place {
        match self.top {
            Some(top) if top.entry >= self.gone => top,
            Some(_) => Place { entry: self.gone, row: 0 },
            None => self.last_top(columns, height),
        }
    }

    /// The first row of the view that shows the end.
    fn last_top(&self, columns: usize, height: usize) -> Place {
        self.back(Place { entry: self.len(), row: 0 }, height, columns)
    }

    fn back(&self, from: Place, rows: usize, columns: usize) -> Place {
        let (mut place, mut left) = (from, rows);
        loop {
            if left <= place.row {
                return Place { row: place.row - left, ..place };
            }
            left -= place.row;
            let Some(before) = place.entry.checked_sub(1).filter(|n| *n >= self.gone) else {
                return Place { row: 0, ..place };
            };
            let height = self.get(before).map_or(0, |e| self.lines(e, columns).len());
            place = Place { entry: before, row: height };
        }
    }

    fn lines(&self, entry: &Entry, columns: usize) -> Vec<String> {
        if self.show.has(entry.kind) { lines(entry, columns) } else { Vec::new() }
    }

    fn forth(&self, from: Place, rows: usize, columns: usize) -> Place {
        let (mut place, mut left) = (from, rows);
        while let Some(entry) = self.get(place.entry) {
            let rest = self.lines(entry, columns).len().saturating_sub(place.row);
            if left < rest {
                return Place { row: place.row + left, ..place };
            }
            left -= rest;
            place = Place { entry: place.entry + 1, row: 0 };
        }
        place
    }
}

fn lines(entry: &Entry, columns: usize) -> Vec<String> {
    let indent = (usize::from(entry.depth) * 2).min(columns / 2);
    let mut lines = text::wrap(&entry.text, columns.saturating_sub(indent));
    if indent > 0 {
        for line in &mut lines {
            line.insert_str(0, &" ".repeat(indent));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(text: impl Into<String>) -> Entry {
        Entry { at: None, kind: Kind::Text, depth: 0, text: text.into() }
    }

    fn shown(log: &Log, height: usize) -> Vec<String> {
        log.view(20, height).into_iter().map(|r| r.text).collect()
    }

    #[test]
    fn a_view_that_follows_shows_the_end_as_it_grows() {
        let mut log = Log::default();
        log.append((1..=5).map(|n| entry(format!("line {n}"))).collect());
        assert_eq!(shown(&log, 2), ["line 4", "line 5"]);
        log.append(vec![entry("line 6")]);
        assert_eq!(shown(&log, 2), ["line 5", "line 6"]);
    }

    #[test]
    fn a_scrolled_back_view_stands_still_whatever_is_printed() {
        let mut log = Log::default();
        log.append((1..=9).map(|n| entry(format!("line {n}"))).collect());
        log.scroll(-3, 20, 3);
        assert!(!log.follows());
        assert_eq!(shown(&log, 3), ["line 4", "line 5", "line 6"]);
        log.append((10..=500).map(|n| entry(format!("line {n}"))).collect());
        assert_eq!(shown(&log, 3), ["line 4", "line 5", "line 6"]);
        log.scroll(10_000, 20, 3);
        assert!(log.follows(), "the end was reached by hand");
    }

    #[test]
    fn the_ring_stays_bounded_and_the_view_moves_to_what_is_left() {
        let mut log = Log::default();
        log.append((0..10).map(|n| entry(format!("line {n}"))).collect());
        log.to_start(20, 3);
        log.append((10..RING as u64 + 5).map(|n| entry(format!("line {n}"))).collect());
        assert_eq!(log.entries.len(), RING);
        assert_eq!(shown(&log, 1), ["line 5"]);
        assert!(log.cut().is_some());
    }

    #[test]
    fn long_entries_wrap_and_scroll_by_row() {
        let mut log = Log::default();
        log.append(vec![entry("first\nsecond\nthird"), entry("fourth")]);
        assert_eq!(shown(&log, 2), ["third", "fourth"]);
        log.scroll(-1, 20, 2);
        assert_eq!(shown(&log, 2), ["second", "third"]);
        log.scroll(-100, 20, 2);
        assert_eq!(shown(&log, 2), ["first", "second"]);
    }

    #[test]
    fn a_search_goes_round_and_knows_what_arrives_later() {
        let mut log = Log::default();
        log.append((0..50).map(|n| entry(format!("line {n}"))).collect());
        log.search("LINE 1$|line 7").unwrap();
        assert_eq!(log.found(), (0, 1), "capitals ask for capitals");
        log.search("line [17]$").unwrap();
        assert!(log.next_hit(true, 20, 5));
        assert_eq!(log.found(), (1, 2));
        log.append(vec![entry("line 7")]);
        assert!(log.next_hit(false, 20, 5));
        assert_eq!(log.found(), (3, 3));
        assert!(log.search("(").is_err());
    }

    #[test]
    fn kinds_can_be_left_out_and_the_end_is_still_the_end() {
        let mut log = Log::default();
        let of = |n: u64, kind| Entry { kind, ..entry(format!("line {n}")) };
        log.append((0..100).map(|n| of(n, if n % 10 == 0 { Kind::Error } else { Kind::Tool })).collect());
        log.show_next();
        assert_eq!(shown(&log, 3), Vec::<String>::new(), "nothing was said");
        log.show_next();
        log.show_next();
        assert_eq!(shown(&log, 2), ["line 80", "line 90"]);
        log.scroll(-1, 20, 2);
        assert_eq!(shown(&log, 2), ["line 70", "line 80"]);
    }

    proptest! {
        #[test]
        fn the_view_is_full_wherever_it_stands(
            texts in proptest::collection::vec("[a-z日 \n]{0,60}", 0..30),
            moves in proptest::collection::vec((0..9, -40_isize..40), 0..30),
            columns in 1_usize..50, height in 0_usize..20,
        ) {
            let mut log = Log::default();
            let mut more = texts.iter().cycle();
            log.append(texts.iter().map(entry).collect());
            log.search("a").unwrap();
            for (what, n) in moves {
                match what {
                    0 => log.to_start(columns, height),
                    1 => log.to_end(),
                    2 => log.toggle_follow(columns, height),
                    3 => { log.next_hit(n > 0, columns, height); }
                    4 => log.append(more.next().map(entry).into_iter().collect()),
                    _ => log.scroll(n, columns, height),
                }
                let all: usize = log.entries.iter().map(|e| lines(e, columns).len()).sum();
                prop_assert_eq!(log.view(columns, height).len(), all.min(height));
            }
        }
    }

    #[test]
    fn what_arrives_is_cleaned() {
        let mut log = Log::default();
        log.append(vec![entry("\u{1b}[2Jhello\u{7}\u{202e}")]);
        assert_eq!(shown(&log, 1), ["hello"]);
    }
}
