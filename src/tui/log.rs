//! Logs as the screen holds them: a bounded window of lines, a place in it, a range, marks.
//!
//! Owns following, scrolling and what is asked for next. Must not know files: lines arrive through [`Log::take`]. Its one
//! surprise: places are sequence numbers of lines in the window, which never change while lines arrive and fall out, so a
//! scrolled-back view stands still whatever the agent prints; what does not fit any more is counted, not held.

mod rows;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use regex::Regex;
use serde::{Deserialize, Serialize};

use rows::Place;
pub use rows::Row;

use super::text;
pub use crate::model::log::{Kind, Show};
use crate::model::{
    LogId, LogPlace,
    log::{LogFrom, LogHit, LogPart, LogReading, TimedLine},
};

/// Lines kept.
pub const WINDOW: usize = 12_000;
/// Bytes of their text kept.
pub const WINDOW_BYTES: usize = 5 << 20;
/// So near to an end of the window, what lies beyond is asked for.
const NEAR: u64 = 200;
/// Marks kept.
const MARKS: usize = 200;

/// A part of a log that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Its number: an answer to an older one is of no interest any more.
    pub id: u64,
    /// Of which logs, read how.
    pub reading: LogReading,
    /// Where.
    pub from: LogFrom,
}

/// Where the view stands when what was asked for arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// At the end, following it.
    End,
    /// At the beginning.
    Start,
    /// The line that was asked for is the first, from this row of it on.
    Top(usize),
    /// The line that was asked for is under the hand.
    Hand,
}

/// Logs on screen.
#[derive(Debug)]
pub struct Log {
    reading: Option<LogReading>,
    asked: u64,
    stand: Option<Stand>,
    wanted: Option<LogFrom>,
    lines: VecDeque<TimedLine>,
    bytes: usize,
    /// Lines that have fallen out of the window.
    gone: u64,
    starts: bool,
    /// The window's last line is the last there is.
    ends: bool,
    /// Bytes after the window.
    below: u64,
    /// Lines that came while the view stood still.
    fresh: u64,
    files: usize,
    /// The view's first row; `None` follows the end.
    top: Option<Place>,
    /// Rows that could not be moved at the edge of what is read.
    owed: isize,
    /// The line under the hand.
    hand: Option<u64>,
    /// Where a range begins.
    range: Option<LogPlace>,
    marks: Vec<(Arc<LogId>, LogPlace, String)>,
    search: Option<Regex>,
    wrap: bool,
    shift: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            reading: None,
            asked: 0,
            stand: None,
            wanted: None,
            lines: VecDeque::new(),
            bytes: 0,
            gone: 0,
            starts: true,
            ends: true,
            below: 0,
            fresh: 0,
            files: 0,
            top: None,
            owed: 0,
            hand: None,
            range: None,
            marks: Vec::new(),
            search: None,
            wrap: true,
            shift: 0,
        }
    }
}

impl Log {
    /// What is read.
    pub fn reading(&self) -> Option<&LogReading> {
        self.reading.as_ref()
    }

    /// Turns to other logs, at their end or where `from` says; search, marks and wrapping stay.
    pub fn turn_to(&mut self, reading: Option<LogReading>, from: LogFrom) {
        *self = Self {
            wanted: reading.is_some().then_some(from),
            reading,
            asked: self.asked,
            marks: std::mem::take(&mut self.marks),
            search: self.search.take(),
            wrap: self.wrap,
            ..Self::default()
        };
    }

    /// Reads the same logs in another way, where the view stands.
    pub fn read_as(&mut self, change: impl FnOnce(&mut LogReading)) {
        let place = self.top.and_then(|top| self.get(top.line)).map(TimedLine::place);
        let Some(reading) = &mut self.reading else { return };
        change(reading);
        self.hand = None;
        self.range = None;
        self.want(place.map_or(LogFrom::End, LogFrom::Around), |_| Stand::Top(0));
    }

    fn want(&mut self, from: LogFrom, place: impl FnOnce(&Self) -> Stand) {
        let stand = match from {
            LogFrom::Start => Stand::Start,
            LogFrom::End => Stand::End,
            LogFrom::Hit(..) => Stand::Hand,
            LogFrom::Around(_) => place(self),
        };
        self.stand = Some(stand);
        self.wanted = Some(from);
    }

    /// What has to be read now, once.
    pub fn ask(&mut self) -> Option<Ask> {
        let from = self.wanted.take()?;
        let reading = self.reading.clone()?;
        self.asked += 1;
        self.stand.get_or_insert(match from {
            LogFrom::Start => Stand::Start,
            LogFrom::End => Stand::End,
            LogFrom::Around(_) | LogFrom::Hit(..) => Stand::Hand,
        });
        Some(Ask { id: self.asked, reading, from })
    }

    /// Takes what was read for an ask, in a view of this size; false when nobody waits for it any more.
    pub fn take(&mut self, ask: u64, part: LogPart, columns: usize, height: usize) -> bool {
        if ask != self.asked || self.wanted.is_some() {
            return false;
        }
        self.files = part.files;
        if part.whole {
            let stand = self.stand.take();
            if stand.is_none() && self.top.is_some() {
                // The end was read anew while somebody reads elsewhere.
                self.ends = false;
                self.below = part.below.max(1);
                return true;
            }
            let hand = self.hand.and_then(|n| self.get(n)).map(TimedLine::place);
            // Where somebody has moved to since it was asked for.
            let moved = self.top.filter(|_| matches!(stand, Some(Stand::Top(_))));
            let moved = moved.and_then(|top| Some((self.get(top.line)?.place(), top.row)));
            self.empty();
            self.starts = part.starts;
            self.ends = part.below == 0;
            self.below = part.below;
            let first = self.gone;
            let here = part.here.map(|n| first + n as u64);
            self.top = None;
            self.push(part.lines);
            self.hand = hand.and_then(|place| self.find(&place));
            let moved = moved.and_then(|(place, row)| Some((self.find(&place)?, row)));
            match moved.filter(|(line, _)| here != Some(*line)) {
                Some((line, row)) => self.stand_as(Stand::Top(row), Some(line), columns, height),
                None => self.stand_as(stand.unwrap_or(Stand::End), here, columns, height),
            }
            let owed = std::mem::take(&mut self.owed);
            if owed != 0 && matches!(stand, Some(Stand::Top(_))) {
                self.scroll(owed, columns, height);
            }
        } else if self.top.is_none() {
            if part.skipped > 0 {
                self.empty();
                self.starts = false;
            }
            self.below = part.below;
            self.push(part.lines);
        } else {
            self.fresh += part.lines.len() as u64;
            let passed = if self.ends { part.skipped } else { self.below.saturating_add(part.skipped) };
            self.below = passed.max(part.below);
            // Nothing that is looked at falls out: what has no room is read again when somebody goes there.
            let keep = self.top.map_or(0, |top| top.line.saturating_sub(self.gone).saturating_sub(NEAR));
            let room = self.lines.len() + part.lines.len() <= WINDOW + usize::try_from(keep).unwrap_or(0);
            if part.skipped == 0 && self.ends && room && self.bytes < WINDOW_BYTES {
                self.push(part.lines);
            } else {
                self.ends &= part.lines.is_empty() && part.skipped == 0;
            }
        }
        true
    }

    /// Forgets all lines; their numbers are not given again.
    fn empty(&mut self) {
        self.gone += self.lines.len() as u64 + 1;
        self.lines.clear();
        self.bytes = 0;
    }

    fn push(&mut self, lines: Vec<TimedLine>) {
        for line in lines {
            self.bytes += line.line.text.len();
            self.lines.push_back(line);
        }
        while self.lines.len() > WINDOW || self.bytes > WINDOW_BYTES {
            let Some(line) = self.lines.pop_front() else { break };
            self.bytes -= line.line.text.len();
            self.gone += 1;
            self.starts = false;
        }
    }

    fn stand_as(&mut self, stand: Stand, here: Option<u64>, columns: usize, height: usize) {
        let last = self.last_top(columns, height);
        self.fresh = 0;
        match stand {
            Stand::End => {
                self.top = (!self.ends).then_some(last);
                self.pull_hand((self.gone + self.lines.len() as u64).saturating_sub(1));
            }
            Stand::Start => {
                self.pull_hand(self.gone);
                let start = Place { line: self.gone, row: 0 };
                self.top = (start < last || !self.ends).then_some(start);
            }
            Stand::Top(row) => {
                let top = here.map_or(last, |line| Place { line, row }).min(last);
                self.top = (top < last || !self.ends).then_some(top);
            }
            Stand::Hand => {
                self.hand = here.or(self.hand);
                if let Some(line) = here {
                    self.show(line, columns, height);
                }
            }
        }
    }

    /// The other end of a range goes where the view goes.
    fn pull_hand(&mut self, to: u64) {
        if self.range.is_some() {
            self.hand = Some(to);
        }
    }

    /// Moves the view so that a line is seen, in its upper third.
    fn show(&mut self, line: u64, columns: usize, height: usize) {
        let place = self.back(Place { line, row: 0 }, height / 3, columns);
        self.top = Some(place.min(self.last_top(columns, height)));
    }

    /// Lines in the window.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing has been read.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether what was asked for has not come yet.
    pub fn waits(&self) -> bool {
        self.stand.is_some() || self.wanted.is_some()
    }

    /// Whether the view shows the end as it grows.
    pub fn follows(&self) -> bool {
        self.top.is_none()
    }

    /// Whether lines are wrapped.
    pub fn wraps(&self) -> bool {
        self.wrap
    }

    /// Files that are read together.
    pub fn files(&self) -> usize {
        self.files
    }

    /// One phrase on what lies after the view and came since it stands still.
    pub fn ahead(&self) -> Option<String> {
        match (self.fresh, self.ends, self.below) {
            _ if self.follows() => None,
            (0, true, _) => None,
            (fresh, false, 0) | (fresh, true, _) => Some(format!("{fresh} new")),
            (0, false, below) => Some(format!("{} further on", text::bytes(below))),
            (fresh, false, below) => Some(format!("{fresh} new, {} further on", text::bytes(below))),
        }
    }

    /// Whether there is more before the window.
    pub fn is_cut(&self) -> bool {
        !self.starts
    }

    /// Shows the end and follows it.
    pub fn to_end(&mut self) {
        self.fresh = 0;
        self.hand = self.hand.filter(|_| self.range.is_some());
        if self.ends {
            self.top = None;
            self.pull_hand((self.gone + self.lines.len() as u64).saturating_sub(1));
        } else {
            self.want(LogFrom::End, |_| Stand::End);
        }
    }

    /// Shows the beginning.
    pub fn to_start(&mut self, columns: usize, height: usize) {
        if self.starts {
            self.stand_as(Stand::Start, None, columns, height);
        } else {
            self.want(LogFrom::Start, |_| Stand::Start);
        }
    }

    /// Stops following where the view is, or follows again.
    pub fn toggle_follow(&mut self, columns: usize, height: usize) {
        if self.top.is_some() {
            self.to_end();
        } else {
            self.top = Some(self.top_place(columns, height));
            self.fresh = 0;
        }
    }

    /// Moves the view by rows, or the hand by lines while there is a range. Following ends when it moves up and begins
    /// again at the end.
    pub fn scroll(&mut self, rows: isize, columns: usize, height: usize) {
        if self.range.is_some() {
            return self.move_hand(rows, columns, height);
        }
        let top = self.top_place(columns, height);
        let last = self.last_top(columns, height);
        let moved = if rows < 0 {
            self.back(top, rows.unsigned_abs(), columns)
        } else {
            self.forth(top, rows.unsigned_abs(), columns).min(last)
        };
        if self.top.is_none() {
            self.fresh = 0;
        }
        // At the edge of what is read: it is done once there is more.
        let edge = if rows < 0 { !self.starts } else { !self.ends };
        self.owed = if moved == top && edge { rows } else { 0 };
        self.top = (moved < last || !self.ends).then_some(moved);
        self.look_beyond(rows, columns, height);
    }

    fn move_hand(&mut self, by: isize, columns: usize, height: usize) {
        let Some(last) = (self.gone + self.lines.len() as u64).checked_sub(1) else { return };
        let hand = self.hand.unwrap_or(last);
        let hand = hand.saturating_add_signed(i64::try_from(by).unwrap_or(0)).clamp(self.gone, last);
        self.hand = Some(hand);
        let (top, bottom) = self.seen(columns, height);
        if hand < top {
            self.top = Some(Place { line: hand, row: 0 });
        } else if hand > bottom {
            self.top = Some(self.back(Place { line: hand + 1, row: 0 }, height, columns));
        } else if self.top.is_none() {
            self.top = Some(self.top_place(columns, height));
        }
        self.look_beyond(by, columns, height);
    }

    /// Asks for what lies beyond the window when the view comes near to its end.
    fn look_beyond(&mut self, moved: isize, columns: usize, height: usize) {
        if self.waits() {
            return;
        }
        let top = self.top_place(columns, height);
        let end = self.gone + self.lines.len() as u64;
        let up = moved < 0 && !self.starts && top.line < self.gone + NEAR;
        let down = moved > 0 && !self.ends && top.line + height as u64 + NEAR > end;
        if (up || down)
            && let Some(line) = self.get(top.line)
        {
            let place = line.place();
            self.want(LogFrom::Around(place), |_| Stand::Top(top.row));
        }
    }

    /// Wraps lines, or cuts them at the edge.
    pub fn toggle_wrap(&mut self) {
        self.wrap = !self.wrap;
        self.shift = 0;
        if let Some(top) = &mut self.top {
            top.row = 0;
        }
    }

    /// Moves cut lines sideways; false where lines are wrapped.
    pub fn sideways(&mut self, right: bool) -> bool {
        self.shift = if right { (self.shift + 16).min(4_000) } else { self.shift.saturating_sub(16) };
        !self.wrap
    }

    /// Marks what matches in the view.
    pub fn highlight(&mut self, search: Option<Regex>) {
        self.search = search;
    }

    /// What is marked.
    pub fn pattern(&self) -> Option<&Regex> {
        self.search.as_ref()
    }

    /// The line under the hand.
    pub fn hand(&self) -> Option<u64> {
        self.hand
    }

    /// Goes to a line that was found; it is read if it is not there.
    pub fn go_to(&mut self, hit: &LogHit, columns: usize, height: usize) {
        let is_it = |line: &TimedLine| {
            line.log.path == hit.log.path && line.line.offset == hit.offset && line.line.text.trim() == hit.text.trim()
        };
        if let Some(at) = self.lines.iter().position(is_it).filter(|_| !self.waits()) {
            let line = self.gone + at as u64;
            self.hand = Some(line);
            self.fresh = 0;
            return self.show(line, columns, height);
        }
        self.want(LogFrom::Hit(hit.place(), hit.text.clone()), |_| Stand::Hand);
    }

    /// Goes to a line that was marked.
    fn go_to_place(&mut self, place: &LogPlace, columns: usize, height: usize) {
        if let Some(line) = self.find(place).filter(|_| !self.waits()) {
            self.hand = Some(line);
            return self.show(line, columns, height);
        }
        self.stand = Some(Stand::Hand);
        self.wanted = Some(LogFrom::Around(place.clone()));
    }

    /// Begins a range at the line that is looked at, or ends it.
    pub fn toggle_range(&mut self, columns: usize, height: usize) {
        if self.range.take().is_some() {
            return;
        }
        let here = self.here(columns, height);
        self.top = Some(self.top_place(columns, height));
        self.hand = here;
        self.range = here.and_then(|n| self.get(n)).map(TimedLine::place);
    }

    /// Whether there is a range.
    pub fn has_range(&self) -> bool {
        self.range.is_some()
    }

    /// Gives the range up; false when there is none.
    pub fn end_range(&mut self) -> bool {
        self.range.take().is_some()
    }

    /// The first and last line of the range, or of the line under the hand, or of what is seen; and how it is called.
    pub fn chosen(&self, columns: usize, height: usize) -> Option<(LogPlace, LogPlace)> {
        let (top, bottom) = self.seen(columns, height);
        let place = |n| self.get(n).map(TimedLine::place);
        if let Some(from) = &self.range {
            let to = place(self.hand?)?;
            let from_line = self.find(from);
            let before = from_line.map_or_else(|| from.offset <= to.offset, |from| Some(from) <= self.hand);
            return Some(if before { (from.clone(), to) } else { (to, from.clone()) });
        }
        match self.hand.filter(|hand| (top..=bottom).contains(hand)) {
            Some(hand) => Some((place(hand)?, place(hand)?)),
            None => Some((place(top)?, place(bottom)?)),
        }
    }

    /// Whether a line belongs to the range.
    pub fn is_chosen(&self, number: u64) -> bool {
        let (Some(from), Some(hand)) = (&self.range, self.hand) else { return false };
        let Some(line) = self.get(number) else { return false };
        let from = self.find(from).unwrap_or_else(|| {
            // It has fallen out of the window, at one of its ends.
            if line.log.path == from.path && line.line.offset < from.offset { u64::MAX } else { 0 }
        });
        (from.min(hand)..=from.max(hand)).contains(&number)
    }

    /// The line that is looked at: under the hand, or the last that is seen.
    fn here(&self, columns: usize, height: usize) -> Option<u64> {
        let (top, bottom) = self.seen(columns, height);
        let hand = self.hand.filter(|hand| (top..=bottom).contains(hand));
        hand.or_else(|| self.get(bottom).map(|_| bottom))
    }

    /// The line that is looked at.
    pub fn place(&self, columns: usize, height: usize) -> Option<LogPlace> {
        self.here(columns, height).and_then(|n| self.get(n)).map(TimedLine::place)
    }

    /// Marks the line that is looked at, or takes its mark away; tells which.
    pub fn toggle_mark(&mut self, columns: usize, height: usize) -> Option<bool> {
        let here = self.here(columns, height)?;
        let line = self.get(here)?;
        let (log, place, text) = (line.log.clone(), line.place(), line.line.text.clone());
        if let Some(at) = self.marks.iter().position(|(_, mark, _)| *mark == place) {
            self.marks.remove(at);
            return Some(false);
        }
        if self.marks.len() == MARKS {
            self.marks.remove(0);
        }
        self.marks.push((log, place, crate::model::text::clip(&text, 400).into_owned()));
        self.hand = Some(here);
        Some(true)
    }

    /// Whether a line has a mark.
    pub fn is_marked(&self, number: u64) -> bool {
        !self.marks.is_empty()
            && self.get(number).is_some_and(|line| {
                self.marks.iter().any(|(log, mark, _)| {
                    log.path == line.log.path && mark.offset == line.line.offset && mark.nth == line.nth
                })
            })
    }

    /// Goes to the mark after the one that is looked at; its log, where that is another one than is read. `None` when
    /// there is no mark.
    pub fn next_mark(&mut self, columns: usize, height: usize) -> Option<(Arc<LogId>, LogPlace)> {
        let here = self.place(columns, height);
        let at = here.and_then(|here| self.marks.iter().position(|(_, mark, _)| *mark == here));
        let (log, place, _) = self.marks.get(at.map_or(0, |at| (at + 1) % self.marks.len()))?.clone();
        if self.reads(&log) {
            self.go_to_place(&place, columns, height);
        }
        Some((log, place))
    }

    /// Whether a log is among those that are read.
    pub fn reads(&self, log: &LogId) -> bool {
        use crate::model::LogScope;
        self.reading.as_ref().is_some_and(|reading| match &reading.scope {
            LogScope::One(one) => one.path == log.path,
            LogScope::Task(task) => {
                log.agent == task.agent
                    && log.task.as_deref() == Some(task.id.as_str())
                    && log.path.starts_with("logs/")
            }
            LogScope::Agent(agent) => log.agent == *agent && log.path.starts_with("logs/"),
            LogScope::All => log.path.starts_with("logs/"),
        })
    }

    fn find(&self, place: &LogPlace) -> Option<u64> {
        let is_it =
            |line: &TimedLine| line.log.path == place.path && line.line.offset == place.offset && line.nth == place.nth;
        self.lines.iter().position(is_it).map(|at| self.gone + at as u64)
    }

    fn get(&self, number: u64) -> Option<&TimedLine> {
        let index = usize::try_from(number.checked_sub(self.gone)?).ok()?;
        self.lines.get(index)
    }
}
