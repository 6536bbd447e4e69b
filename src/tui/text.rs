//! Text as columns: cut, padded and wrapped by the widths the terminal buffer measures with.
//!
//! Owns every width calculation of the screen. Its one surprise: ratatui's own wrapping is never used, because it
//! panics on some mixes of wide and zero-width characters.

use std::borrow::Cow;

use jiff::SignedDuration;
use ratatui::buffer::CellWidth;
use unicode_segmentation::UnicodeSegmentation;

use crate::model::text::scrub;

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.graphemes(true).map(columns_of).sum()
}

/// Columns that one grapheme takes in ratatui's buffer, which is not always what its characters add up to.
fn columns_of(grapheme: &str) -> usize {
    if grapheme.contains(char::is_control) { 0 } else { usize::from(grapheme.cell_width()) }
}

/// Text from outside on one line: cleaned again, line ends become spaces.
pub fn one_line(text: &str) -> Cow<'_, str> {
    let clean = scrub(text);
    if clean.contains('\n') {
        Cow::Owned(clean.split('\n').map(str::trim).collect::<Vec<_>>().join(" "))
    } else {
        clean
    }
}

/// Cuts to `columns`, marking the cut with `…`.
pub fn fit(text: &str, columns: usize) -> String {
    let text = one_line(text);
    if width(&text) <= columns {
        return text.into_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for grapheme in text.graphemes(true) {
        used += columns_of(grapheme);
        if used > columns {
            break;
        }
        out.push_str(grapheme);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// Cuts to `columns` at the front, marking the cut with `…`: the end of a path tells more than its beginning.
pub fn fit_end(text: &str, columns: usize) -> String {
    let text = one_line(text);
    let wide = width(&text);
    if wide <= columns {
        return text.into_owned();
    }
    let rest = after(&text, wide + 1 - columns.max(1));
    if columns > 0 { format!("…{rest}") } else { rest }
}

/// Joins as many of the parts as fit whole, those before first; with `last` the last one is kept in any case it can be.
pub fn whole(parts: &[impl AsRef<str>], between: &str, columns: usize, last: bool) -> String {
    let wide = |part: &str| width(part) + width(between);
    let kept = parts.last().map(AsRef::as_ref).filter(|part| last && width(part) <= columns);
    let mut left = (columns + width(between)).saturating_sub(kept.map_or(0, wide));
    let mut out: Vec<&str> = Vec::new();
    let others = if kept.is_some() { parts.split_last().map_or(parts, |(_, rest)| rest) } else { parts };
    for part in others.iter().map(AsRef::as_ref) {
        let Some(rest) = left.checked_sub(wide(part)) else { break };
        left = rest;
        out.push(part);
    }
    out.extend(kept);
    out.join(between)
}

/// What the keys do, in so many columns: hints are left out whole, from the end, and the way back stays.
pub fn hints(keys: &str, columns: usize) -> String {
    whole(&keys.split(" · ").collect::<Vec<_>>(), " · ", columns, true)
}

/// What is left of a line after its first `columns`.
pub fn after(text: &str, columns: usize) -> String {
    let mut passed = 0;
    let from = text.grapheme_indices(true).find(|(_, grapheme)| {
        let here = passed;
        passed += columns_of(grapheme);
        here >= columns
    });
    from.and_then(|(at, _)| text.get(at..)).unwrap_or_default().to_owned()
}

/// Exactly `columns` wide: cut or filled on the right.
pub fn pad(text: &str, columns: usize) -> String {
    let mut out = fit(text, columns);
    let used = width(&out);
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

/// Exactly `columns` wide: cut or filled on the left.
pub fn pad_left(text: &str, columns: usize) -> String {
    let cut = fit(text, columns);
    let mut out = " ".repeat(columns.saturating_sub(width(&cut)));
    out.push_str(&cut);
    out
}

/// Breaks text into lines of at most `columns`, at spaces where there are any; never empty.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for line in scrub(text).split('\n') {
        wrap_line(line, columns, &mut lines);
    }
    lines
}

fn wrap_line(line: &str, columns: usize, lines: &mut Vec<String>) {
    let mut current = String::new();
    let mut used = 0;
    for word in words(line) {
        let wide = width(word);
        if used + wide <= columns {
            current.push_str(word);
            used += wide;
            continue;
        }
        if word.chars().all(char::is_whitespace) {
            // The break eats the space it happens at.
            lines.push(std::mem::take(&mut current));
            used = 0;
            continue;
        }
        if used > 0 && wide <= columns {
            current.truncate(current.trim_end().len());
            lines.push(std::mem::take(&mut current));
            current.push_str(word);
            used = wide;
            continue;
        }
        for grapheme in word.graphemes(true) {
            let wide = columns_of(grapheme);
            if wide > columns {
                continue;
            }
            if used + wide > columns {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push_str(grapheme);
            used += wide;
        }
    }
    lines.push(current);
}

/// Runs of blanks and runs of anything else, in turn.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let blank = rest.chars().next()?.is_whitespace();
        let end = rest.find(|c: char| c.is_whitespace() != blank).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail;
        Some(word)
    })
}

/// A running time: `0:31`, `12:05`, `1:02:33`.
pub fn elapsed(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// An age: `4 s`, `12 min`, `3 h`.
pub fn age(time: SignedDuration) -> String {
    match time.as_secs().max(0) {
        s @ 0..=99 => format!("{s} s"),
        s @ 100..=5999 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// A size: `812 B`, `14 kB`, `210 MB`, `1.2 GB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", n / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", n / 1_000_000),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// A count of tokens: `812`, `14.2k`, `3.1M`.
pub fn tokens(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1}k", n as f64 / 1e3),
        _ => format!("{:.1}M", n as f64 / 1e6),
    }
}

/// `1 task`, `2 tasks`.
pub fn many(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_counts_columns_and_not_characters() {
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(pad("日本語", 4), "日… ");
        assert_eq!(pad_left("ab", 4), "  ab");
        assert_eq!(fit("a\nb", 9), "a b");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(
            (after("日本語", 2), after("日本語", 3), after("ab", 9)),
            ("本語".into(), "語".into(), String::new())
        );
    }

    #[test]
    fn words_stay_whole_where_they_fit_and_are_cut_where_they_do_not() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("a\n\nb", 3), ["a", "", "b"]);
        assert_eq!(wrap("see in tasks/.", 13), ["see in", "tasks/."], "a full stop stays with its word");
    }

    #[test]
    fn times_read_like_a_stopwatch() {
        assert_eq!(elapsed(SignedDuration::from_secs(72)), "1:12");
        assert_eq!(elapsed(SignedDuration::from_secs(3_753)), "1:02:33");
        assert_eq!(elapsed(SignedDuration::from_secs(-3)), "0:00");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_asked(text in "\\PC*", columns in 1_usize..40) {
            for line in wrap(&text, columns) {
                prop_assert!(width(&line) <= columns, "{line:?}");
            }
            prop_assert!(width(&fit(&text, columns)) <= columns);
            prop_assert_eq!(width(&pad(&text, columns)), columns);
            prop_assert_eq!(width(&pad_left(&text, columns)), columns);
        }
    }
}
