//! Text from outside: cleaned once at the door, cut without breaking a character.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// Whether a character may reach a terminal: no control character, no bidirectional override, no invisible tag.
fn is_harmless(c: char) -> bool {
    match c {
        '\n' => true,
        '\u{200e}'
        | '\u{200f}'
        | '\u{061c}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => false,
        c => !c.is_control(),
    }
}

/// What survives cleaning, and where the current line starts in it.
struct Keep(String, usize);
impl vte::Perform for Keep {
    fn print(&mut self, c: char) {
        if is_harmless(c) {
            self.0.push(c);
        }
    }
    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.0.push('\n');
                self.1 = self.0.len();
            }
            b'\t' => self.0.push_str("  "),
            b'\r' => self.0.truncate(self.1),
            _ => {}
        }
    }
}

/// Makes text from an agent, a file or a server harmless: escape sequences, control and bidirectional characters are
/// dropped, tabs become two spaces, `\r\n` becomes `\n`, a bare `\r` starts its line again.
pub fn scrub(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut keep = Keep(String::with_capacity(text.len()), 0);
    vte::Parser::new().advance(&mut keep, text.replace("\r\n", "\n").as_bytes());
    Cow::Owned(keep.0)
}

/// Cuts to at most `limit` bytes at a character's edge, marking the cut with `…`.
pub fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (head, _) = text.split_at(end);
    Cow::Owned(format!("{head}…"))
}

/// The first line that is not blank, cleaned and cut to `columns` terminal columns.
pub fn first_line(text: &str, columns: usize) -> String {
    let clean = scrub(text);
    let line = clean.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    fit(line, columns)
}

/// Cuts a line to `columns` terminal columns, marking the cut with `…`.
pub fn fit(line: &str, columns: usize) -> String {
    let width = |c: char| c.width().unwrap_or(0);
    if line.chars().map(width).sum::<usize>() <= columns {
        return line.to_owned();
    }
    let mut used = 1;
    let mut out = String::new();
    for c in line.chars() {
        used += width(c);
        if used > columns {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// An error with all its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_become_nothing_and_their_text_stays() {
        assert_eq!(scrub("\u{1b}[31mred\u{1b}[0m \u{1b}]52;c;aGk=\u{7}ok"), "red ok");
        assert_eq!(scrub("50 %\r100 %\nend\r\n"), "100 %\nend\n");
        // In UTF-8 a C1 control opens no sequence; what stands behind it is plain text.
        assert_eq!(scrub("\u{9b}2Ja\u{202e}b\u{7f}"), "2Jab");
    }

    #[test]
    fn a_cut_never_breaks_a_character() {
        assert_eq!(clip("ééé", 5), "é…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(first_line("\n  \n hello \u{1b}[2J there\nmore", 40), "hello  there");
    }

    proptest! {
        #[test]
        fn no_control_character_leaves(text in "\\PC*|[\\x00-\\x7f\\u{80}-\\u{9f}\\u{202e}]*") {
            prop_assert!(scrub(&text).chars().all(is_harmless));
        }
    }
}
