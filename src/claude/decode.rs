//! Bytes to lines: a bad line is an item, never the end.
//!
//! Owns the splitting and the limit on a line's length. Must not know what an event means. Its one surprise: a plain
//! text log passes through it too, each line as [`Content::Plain`], and the hole that a cut leaves in a log is an item.

use serde_json::Value;

use super::wire::Event;
use crate::model::text;

/// The longest line kept, in bytes; a longer one is skipped and reported.
pub const LINE_LIMIT: usize = 64 * 1024 * 1024;

/// From so many zero bytes in a row on they stand for what was cut out of a log: a block of the file system.
pub const LEAST_CUT: u64 = 4_096;

/// How much of a bad line is kept, in bytes.
const BAD_KEPT: usize = 2_000;

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Where it starts, in bytes from where the decoder began.
    pub offset: u64,
    /// What it holds.
    pub content: Content,
}

/// What a line holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An object with a `type`.
    Event(Box<Event>),
    /// Text that does not try to be JSON; not cleaned.
    Plain(String),
    /// A line that starts like an object and is none, cleaned and cut.
    Bad {
        /// Its beginning.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The beginning of a line that is longer than any that is kept, cleaned and cut.
    Long(String),
    /// So many bytes are no longer there, and neither is the rest of the lines at both edges.
    Cut(u64),
}

/// Splits bytes, in whatever pieces they come, into lines.
#[derive(Debug)]
pub struct Decoder {
    held: Vec<u8>,
    scanned: usize,
    offset: u64,
    /// Zero bytes seen last, of which nobody knows yet whether more follow.
    zeros: u64,
    skipping: bool,
    limit: usize,
    raw: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::starting_at(0)
    }
}

impl Decoder {
    /// A decoder whose first byte lies at `offset` of its log.
    pub fn starting_at(offset: u64) -> Self {
        Self { held: Vec::new(), scanned: 0, offset, zeros: 0, skipping: false, limit: LINE_LIMIT, raw: false }
    }

    /// Skips lines over `limit` bytes.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Hands out every line as [`Content::Plain`], whatever it holds.
    #[must_use]
    pub fn raw(self) -> Self {
        Self { raw: true, ..self }
    }

    /// Whether a line has begun that has not ended.
    pub fn is_mid_line(&self) -> bool {
        !self.held.is_empty() || self.zeros > 0
    }

    /// Takes so many zero bytes that nobody had to read.
    pub fn hole(&mut self, bytes: u64) {
        self.zeros += bytes;
    }

    /// Takes more bytes and hands out every line they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut out = Vec::new();
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            let is_zero = *first == 0;
            // The usual piece has no zero at all, which is found out faster than where one is.
            let run = if is_zero || rest.contains(&0) {
                rest.iter().position(|b| (*b == 0) != is_zero).unwrap_or(rest.len())
            } else {
                rest.len()
            };
            let (now, later) = rest.split_at(run);
            if is_zero {
                self.zeros += run as u64;
            } else {
                out.extend(self.end_zeros());
                self.lines(now, &mut out);
            }
            rest = later;
        }
        out
    }

    /// Says what the zero bytes seen last were: a few are part of their line, many are a cut.
    fn end_zeros(&mut self) -> Option<Line> {
        let zeros = std::mem::take(&mut self.zeros);
        if zeros < LEAST_CUT {
            self.held.extend(std::iter::repeat_n(0, usize::try_from(zeros).unwrap_or(0)));
            return None;
        }
        let offset = self.offset + self.held.len() as u64;
        self.held.clear();
        self.scanned = 0;
        self.offset = offset + zeros;
        self.skipping = true;
        Some(Line { offset, content: Content::Cut(zeros) })
    }

    fn lines(&mut self, bytes: &[u8], out: &mut Vec<Line>) {
        self.held.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(found) = self.held.get(self.scanned..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
            let end = self.scanned + found;
            if let Some(line) = self.held.get(start..end) {
                if self.skipping {
                    self.skipping = false;
                } else {
                    out.extend(read(self.offset, line, self.limit, self.raw));
                }
            }
            self.offset += (end + 1 - start) as u64;
            start = end + 1;
            self.scanned = start;
        }
        self.held.drain(..start);
        self.scanned = self.held.len();
        if self.held.len() > self.limit {
            if !self.skipping {
                out.push(too_long(self.offset, &self.held));
            }
            self.skipping = true;
            self.offset += self.held.len() as u64;
            self.held = Vec::new();
            self.scanned = 0;
        }
    }

    /// Counts bytes that are left out.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    /// The line that was begun and not ended, once no more bytes follow.
    pub fn finish(&mut self) -> Option<Line> {
        if let Some(cut) = self.end_zeros() {
            return Some(cut);
        }
        let held = std::mem::take(&mut self.held);
        self.scanned = 0;
        let offset = self.offset;
        self.offset += held.len() as u64;
        if self.skipping { None } else { read(offset, &held, self.limit, self.raw) }
    }
}

fn shown(line: &[u8]) -> String {
    let head = line.get(..line.len().min(BAD_KEPT * 2)).unwrap_or_default();
    let lossy = String::from_utf8_lossy(head);
    text::clip(&text::scrub(&lossy), BAD_KEPT).into_owned()
}

fn too_long(offset: u64, line: &[u8]) -> Line {
    Line { offset, content: Content::Long(shown(line)) }
}

fn read(offset: u64, line: &[u8], limit: usize, raw: bool) -> Option<Line> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > limit {
        return Some(too_long(offset, line));
    }
    let first = line.iter().find(|b| !b.is_ascii_whitespace());
    let content = if first == Some(&b'{') && !raw {
        let bad = |why: String| Content::Bad { text: shown(line), why };
        match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(fields)) => match Event::read(fields) {
                Some(event) => Content::Event(Box::new(event)),
                None => bad("the object has no known shape".to_owned()),
            },
            Ok(_) => bad("not an object".to_owned()),
            Err(error) => bad(error.to_string()),
        }
    } else if first.is_none() {
        return None;
    } else {
        Content::Plain(String::from_utf8_lossy(line).into_owned())
    };
    Some(Line { offset, content })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bad_line_is_an_item_and_the_next_line_is_read() {
        let mut decoder = Decoder::default();
        let lines = decoder.feed(b"{\"type\":\"x\",\"a\":1}\n{broken\nplain \xff\n\n{\"type\":\"result\"}\n{\"half");
        let offsets: Vec<u64> = lines.iter().map(|l| l.offset).collect();
        assert_eq!(offsets, [0, 19, 27, 36]);
        assert!(
            matches!(&lines[0].content, Content::Event(e) if matches!(&**e, Event::Other { kind, .. } if kind == "x"))
        );
        assert!(matches!(lines[1].content, Content::Bad { .. }));
        assert_eq!(lines[2].content, Content::Plain("plain \u{fffd}".to_owned()));
        assert!(matches!(&lines[3].content, Content::Event(e) if matches!(**e, Event::Result(_))));
        assert!(matches!(decoder.finish(), Some(Line { offset: 54, content: Content::Bad { .. } })));
    }

    #[test]
    fn an_endless_line_is_skipped_once_and_reading_goes_on() {
        let mut decoder = Decoder::default().with_limit(10);
        let mut lines = decoder.feed(b"aaaaaaaaaaaaaaaaaaaa");
        lines.extend(decoder.feed(b"bbbbbbbbbbbbbbbbbbbb"));
        lines.extend(decoder.feed(b"c\nok\n"));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(matches!(lines[0].content, Content::Long(_)));
        assert_eq!(lines[1], Line { offset: 42, content: Content::Plain("ok".to_owned()) });
    }

    #[test]
    fn a_hole_in_a_log_is_an_item_and_takes_the_broken_lines_at_its_edges_with_it() {
        for piece in [1, 1_000, 100_000] {
            let mut bytes = b"one\nbegun and ne".to_vec();
            bytes.resize(bytes.len() + 10_000, 0);
            bytes.extend(b"ver ended\ntwo\0\0\n");
            let mut decoder = Decoder::default();
            let lines: Vec<Line> = bytes.chunks(piece).flat_map(|chunk| decoder.feed(chunk)).collect();
            let plain = |text: &str| Content::Plain(text.to_owned());
            let expected = [(0, plain("one")), (16, Content::Cut(10_000)), (10_026, plain("two\0\0"))];
            assert_eq!(lines, expected.map(|(offset, content)| Line { offset, content }), "in pieces of {piece}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "([a-z{}\":\\n]|é){0,80}", cut in 0usize..80) {
            let bytes = text.as_bytes();
            let mut whole = Decoder::default();
            let mut expected = whole.feed(bytes);
            expected.extend(whole.finish());
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut pieces = Decoder::default();
            let mut found = pieces.feed(head);
            found.extend(pieces.feed(tail));
            found.extend(pieces.finish());
            prop_assert_eq!(found, expected);
        }
    }
}
