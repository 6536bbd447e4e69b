//! A regular expression, and what must stand in a line's bytes where it matches in the line's words.
//!
//! Its one surprise: the words of a JSON line are escaped in the file, so only runs of ASCII letters and digits are
//! relied on; they stand there as they are read. A pattern without any is tried on every line.

use regex::{Regex, RegexBuilder, bytes};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};

/// The longest pattern.
const LONGEST: usize = 4_096;

/// The most that a compiled pattern may take, in bytes.
const SIZE: usize = 4 << 20;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// Matches one line as it is read.
    text: Regex,
    /// The same on bytes, where `^` and `$` are at line ends.
    lines: bytes::Regex,
    /// What a source line must hold.
    needed: Option<bytes::Regex>,
}

impl Pattern {
    /// Compiles a pattern. Without `exact` small letters find capitals too, as long as there are no capitals in it.
    pub fn new(pattern: &str, exact: bool) -> Result<Self, String> {
        if pattern.len() > LONGEST {
            return Err(format!("the pattern has more than {LONGEST} bytes"));
        }
        let small = !exact && !pattern.chars().any(char::is_uppercase);
        let brief = |error: regex::Error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
        };
        let text = RegexBuilder::new(pattern).case_insensitive(small).size_limit(SIZE).build().map_err(brief)?;
        let lines = bytes::RegexBuilder::new(pattern)
            .case_insensitive(small)
            .multi_line(true)
            .size_limit(SIZE)
            .build()
            .map_err(brief)?;
        // Read with its capitals as they are: the letters are looked for in both cases anyway.
        let needed = ParserBuilder::new().build().parse(pattern).ok().and_then(|hir| needed(&hir));
        let needed = needed.and_then(|words| {
            let any = words.join("|");
            bytes::RegexBuilder::new(&any).case_insensitive(true).unicode(false).build().ok()
        });
        Ok(Self { text, lines, needed })
    }

    /// The expression that lines as they are read are tried with.
    pub fn text(&self) -> &Regex {
        &self.text
    }

    /// The same on bytes of one or of many lines.
    pub(super) fn lines(&self) -> &bytes::Regex {
        &self.lines
    }

    /// What a source line must hold where the pattern matches in it.
    pub(super) fn needed(&self) -> Option<&bytes::Regex> {
        self.needed.as_ref()
    }
}

/// Words of which one stands in whatever matches; `None` where that cannot be said.
fn needed(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(_) | HirKind::Class(_) => best(&[letters(hir)?]),
        HirKind::Repetition(repeated) if repeated.min > 0 => needed(&repeated.sub),
        HirKind::Capture(capture) => needed(&capture.sub),
        HirKind::Concat(parts) => {
            let mut runs = vec![String::new()];
            let mut others = Vec::new();
            for part in parts {
                if let Some(text) = letters(part) {
                    if let Some(run) = runs.last_mut() {
                        run.push_str(&text);
                    }
                } else {
                    others.extend(needed(part));
                    runs.push(String::new());
                }
            }
            let shortest = |words: &[String]| words.iter().map(String::len).min().unwrap_or(0);
            others.into_iter().chain(best(&runs)).max_by_key(|words| shortest(words))
        }
        HirKind::Alternation(ways) => {
            let each: Option<Vec<Vec<String>>> = ways.iter().map(needed).collect();
            each.map(|each| each.concat()).filter(|words| words.len() <= 64)
        }
        HirKind::Empty | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

/// The text of a part that is nothing but letters; a letter in both its cases is one.
fn letters(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(str::to_owned),
        HirKind::Class(Class::Unicode(class)) => {
            let mut ascii = String::new();
            for range in class.iter().filter(|range| range.start().is_ascii()) {
                if range.len() > 1 {
                    return None;
                }
                ascii.push(range.start());
            }
            let mut cases = ascii.chars();
            let (first, second) = (cases.next()?, cases.next()?);
            (cases.next().is_none() && first.is_ascii_alphabetic() && first.eq_ignore_ascii_case(&second))
                .then(|| second.to_string())
        }
        _ => None,
    }
}

/// The longest run of letters and digits, which a file holds as they are read.
fn best(runs: &[String]) -> Option<Vec<String>> {
    let all = runs.iter().flat_map(|run| run.split(|c: char| !c.is_ascii_alphanumeric()));
    all.max_by_key(|word| word.len()).filter(|word| word.len() >= 2).map(|word| vec![word.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pattern: &str) -> Option<Vec<String>> {
        needed(&ParserBuilder::new().build().parse(pattern).unwrap())
    }

    #[test]
    fn what_a_line_must_hold_is_known_before_it_is_read() {
        let one = |word: &str| Some(vec![word.to_owned()]);
        assert_eq!(words("needle"), one("needle"));
        assert_eq!(words(r#"say "hello" there"#), one("there"));
        assert_eq!(words("(?i)needle|(pin)+"), Some(vec!["needle".into(), "pin".into()]));
        assert_eq!(words("^error: .*timeout$"), one("timeout"));
        assert_eq!(words("colou?r"), one("colo"));
        assert_eq!(words("x(alpha|beta)y"), Some(vec!["alpha".into(), "beta".into()]));
        for nothing in ["", ".", r"\d+", "a|", "(needle)?", "é", "a", "[ab][cd]"] {
            assert_eq!(words(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn capitals_ask_for_capitals_unless_everything_is_exact() {
        let found = |pattern, exact, text| Pattern::new(pattern, exact).unwrap().text().is_match(text);
        assert!(found("needle", false, "a Needle") && !found("needle", true, "a Needle"));
        assert!(!found("Needle", false, "a needle"));
        assert!(Pattern::new("(", false).unwrap_err().contains("unclosed group"));
        assert!(Pattern::new(&"x".repeat(5_000), false).is_err());
    }
}
