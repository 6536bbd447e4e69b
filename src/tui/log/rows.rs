//! Lines of a log as rows of a view: where they break, and how far it is from one place to another.

use super::{Log, TimedLine};
use crate::tui::text;

/// A row of the view: which line, which of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) row: usize,
}

/// One row as drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its line.
    pub entry: &'a TimedLine,
    /// The line's sequence number.
    pub number: u64,
    /// The first row of its line.
    pub first: bool,
    /// The text of this row, indented by depth.
    pub text: String,
}

impl Log {
    /// The rows to draw in a view of this size.
    pub fn view(&self, columns: usize, height: usize) -> Vec<Row<'_>> {
        let mut rows = Vec::with_capacity(height);
        let top = self.top_place(columns, height);
        let (mut number, mut skip) = (top.line, top.row);
        while rows.len() < height {
            let Some(entry) = self.get(number) else { break };
            for (n, text) in lines(self, entry, columns).into_iter().enumerate().skip(skip) {
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

    /// The first and the last line that is seen.
    pub(super) fn seen(&self, columns: usize, height: usize) -> (u64, u64) {
        let top = self.top_place(columns, height);
        let last = self.view(columns, height).last().map_or(top.line, |row| row.number);
        (top.line, last)
    }

    pub(super) fn top_place(&self, columns: usize, height: usize) -> Place {
        match self.top {
            // What was taller before, as lines that are no longer wrapped, leaves no empty rows.
            Some(top) => top.max(Place { line: self.gone, row: 0 }).min(self.last_top(columns, height)),
            None => self.last_top(columns, height),
        }
    }

    /// The first row of the view that shows the end.
    pub(super) fn last_top(&self, columns: usize, height: usize) -> Place {
        self.back(Place { line: self.gone + self.lines.len() as u64, row: 0 }, height, columns)
    }

    pub(super) fn back(&self, from: Place, rows: usize, columns: usize) -> Place {
        let (mut place, mut left) = (from, rows);
        loop {
            if left <= place.row {
                return Place { row: place.row - left, ..place };
            }
            left -= place.row;
            let Some(before) = place.line.checked_sub(1).filter(|n| *n >= self.gone) else {
                return Place { row: 0, ..place };
            };
            let height = self.get(before).map_or(0, |line| lines(self, line, columns).len());
            place = Place { line: before, row: height };
        }
    }

    pub(super) fn forth(&self, from: Place, rows: usize, columns: usize) -> Place {
        let (mut place, mut left) = (from, rows);
        while let Some(line) = self.get(place.line) {
            let rest = lines(self, line, columns).len().saturating_sub(place.row);
            if left < rest {
                return Place { row: place.row + left, ..place };
            }
            left -= rest;
            place = Place { line: place.line + 1, row: 0 };
        }
        place
    }
}

/// The rows of one line.
pub(super) fn lines(log: &Log, line: &TimedLine, columns: usize) -> Vec<String> {
    let indent = (usize::from(line.line.depth) * 2).min(columns / 2);
    let room = columns.saturating_sub(indent);
    let mut lines = if log.wrap {
        text::wrap(&line.line.text, room)
    } else {
        let all = text::one_line(&line.line.text);
        vec![if log.shift == 0 { text::fit(&all, room) } else { text::fit(&text::after(&all, log.shift), room) }]
    };
    if indent > 0 {
        for line in &mut lines {
            line.insert_str(0, &" ".repeat(indent));
        }
    }
    lines
}
