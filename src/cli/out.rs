//! The one door for what verbs print.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    rc::Rc,
};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::model::text;

/// What a piece of text means; a terminal shows it as colour, anything else not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// Good.
    Good,
    /// Needs a look.
    Warn,
    /// Bad.
    Bad,
}

/// Standard output and standard error. Somebody who stops reading ends nothing: what cannot be written is dropped.
#[derive(Debug, Clone)]
pub(super) struct Out {
    json: bool,
    colour: bool,
    closed: Rc<Cell<bool>>,
}

impl Out {
    pub(super) fn new(json: bool, colour: bool) -> Self {
        Self { json, colour: colour && !json && io::stdout().is_terminal(), closed: Rc::default() }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// One line on standard output.
    pub(super) fn line(&self, line: &str) {
        if !write(&mut io::stdout().lock(), line) {
            self.closed.set(true);
        }
    }

    /// Whether nobody reads any more (`podium logs -f | head`).
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// A text that may end in line breaks, on standard output.
    pub(super) fn text(&self, text: &str) {
        self.line(text.trim_end_matches('\n'));
    }

    /// One line for a person beside the output proper; nothing with `--json`.
    pub(super) fn note(&self, line: &str) {
        if !self.json {
            write(&mut io::stderr().lock(), line);
        }
    }

    /// What went wrong.
    pub(super) fn error(&self, message: &str) {
        let name = if io::stderr().is_terminal() { self.paint(Paint::Bad, "podium:") } else { "podium:".to_owned() };
        write(&mut io::stderr().lock(), &format!("{name} {}", text::scrub(message)));
    }

    /// One JSON document.
    pub(super) fn json(&self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.error(&format!("could not write JSON: {error}")),
        }
    }

    /// One JSON line of a stream.
    pub(super) fn json_line(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.error(&format!("could not write JSON: {error}")),
        }
    }

    /// The text as a terminal shows it.
    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            _ if !self.colour => return text.to_owned(),
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Rows in columns as wide as their widest cell; the last column keeps its length.
    pub(super) fn table(&self, rows: &[Vec<(Paint, String)>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let width =
            |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|(_, t)| t.width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let mut line = String::from(" ");
            for (n, (paint, text)) in row.iter().enumerate() {
                line.push(' ');
                line.push_str(&self.paint(*paint, text));
                if n + 1 < row.len() {
                    let missing = widths.get(n).copied().unwrap_or_default().saturating_sub(text.width());
                    line.push_str(&" ".repeat(missing + 1));
                }
            }
            self.line(line.trim_end());
        }
    }
}

/// Writes a line; false when nobody reads, which is no failure of ours.
fn write(to: &mut impl Write, line: &str) -> bool {
    writeln!(to, "{line}").and_then(|()| to.flush()).is_ok()
}
