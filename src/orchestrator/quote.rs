//! Text from outside inside a prompt: cleaned, fenced by a tag it cannot close, cut to a size.
//!
//! Owns the fence and the shape in which a result is shown to a model. Must not know which prompt it stands in. Its one
//! surprise: what looks like the fence inside the text is made harmless by `&lt;`, the rest is left as it was.

use crate::model::{EndState, Outcome, text};

/// Files of a result that are named in a prompt.
const FILES: usize = 20;
/// Bytes kept of one path.
const PATH: usize = 240;
/// Bytes kept of one finding.
const FINDING: usize = 600;

/// The tags that fence data in our prompts; none of them can be opened or closed from inside.
pub const TAGS: [&str; 6] = ["goal", "result", "previous_answer", "previous", "context", "report"];

/// Cleans `raw` and makes every opening or closing of one of [`TAGS`] in it harmless.
pub fn defuse(raw: &str) -> String {
    let clean = text::scrub(raw);
    let mut out = String::with_capacity(clean.len());
    let mut rest = &*clean;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let inner = after.trim_start_matches(|c: char| c.is_whitespace() || c == '/' || is_invisible(c));
        let fence = TAGS.iter().any(|tag| inner.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)));
        out.push_str(if fence { "&lt;" } else { "<" });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether a character takes no place, and so could hide between `<` and a tag's name.
fn is_invisible(c: char) -> bool {
    unicode_width::UnicodeWidthChar::width(c) == Some(0)
}

/// Cuts cleaned text to about `limit` bytes and says how much is left out.
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let kept = text::clip(text, limit);
    let left_out = text.len() - kept.len();
    format!("{kept}\n[{left_out} more bytes are left out here]")
}

/// `raw` as data: `<tag>` and `</tag>` on lines of their own around the defused text.
pub fn fenced(tag: &str, raw: &str, limit: usize) -> String {
    let body = cut(&defuse(raw), limit);
    format!("<{tag}>\n{}\n</{tag}>\n", body.trim_end())
}

/// A result as data: its source and state in the opening tag, then what its agent answered, in about `budget` bytes.
pub fn result(outcome: &Outcome, name: &str, budget: usize) -> String {
    use std::fmt::Write as _;
    let mut files = String::new();
    for artifact in outcome.artifacts.iter().take(FILES) {
        let path = text::clip(&artifact.path, PATH).replace('\n', " ");
        let _ = write!(files, "- {} ({} bytes", defuse(&path), artifact.bytes);
        if let Some(kept) = &artifact.kept {
            let _ = write!(files, "; as it was then: {}", defuse(&text::clip(kept, PATH).replace('\n', " ")));
        }
        files.push_str(")\n");
    }
    if outcome.artifacts.len() > FILES {
        let _ = writeln!(files, "- and {} more", outcome.artifacts.len() - FILES);
    }
    let mut findings = String::new();
    for finding in &outcome.findings {
        let _ = writeln!(findings, "- {}", text::clip(&defuse(finding), FINDING).replace('\n', " "));
    }
    let files = cut(files.trim_end(), budget / 4);
    let findings = cut(findings.trim_end(), budget / 4);
    let summary = cut(defuse(&outcome.summary).trim(), budget.saturating_sub(files.len() + findings.len()));

    let mut out =
        format!("<result task=\"{name}\" state=\"{}\" attempts=\"{}\">\n", outcome.state.word(), outcome.attempt);
    if outcome.state != EndState::Done {
        let _ = writeln!(out, "It did not end well: {}\n", cut(&defuse(&outcome.ending.sentence()), 600));
    }
    out.push_str(if summary.is_empty() { "(no text)" } else { &summary });
    out.push('\n');
    if !findings.is_empty() {
        let _ = writeln!(out, "\nFindings:\n{findings}");
    }
    if !files.is_empty() {
        let _ = writeln!(out, "\nFiles, relative to the stage:\n{files}");
    }
    out.push_str("</result>\n");
    out
}

/// Bytes that [`result`] would like to have for an outcome.
pub fn appetite(outcome: &Outcome) -> usize {
    let findings: usize = outcome.findings.iter().map(|f| f.len().min(FINDING) + 3).sum();
    let files: usize = outcome
        .artifacts
        .iter()
        .take(FILES)
        .map(|a| a.path.len().min(PATH) + a.kept.as_ref().map_or(0, |k| k.len().min(PATH) + 21) + 24)
        .sum();
    outcome.summary.len() + (findings * 4).max(findings + files)
}

/// Shares `total` bytes among `wishes` so that small ones are met and no one gets more than `each`.
pub fn shares(wishes: &[usize], each: usize, total: usize) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..wishes.len()).collect();
    by_size.sort_by_key(|&i| wishes[i]);
    let mut granted = vec![0; wishes.len()];
    let mut left = total;
    for (done, &i) in by_size.iter().enumerate() {
        let fair = left / (wishes.len() - done);
        granted[i] = wishes[i].min(each).min(fair);
        left -= granted[i];
    }
    granted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a fence of ours can be read in `text`, however it is spaced or spelled.
    fn has_fence(text: &str) -> bool {
        let squeezed: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '/' && !is_invisible(*c))
            .collect::<String>()
            .to_ascii_lowercase();
        TAGS.iter().any(|tag| squeezed.contains(&format!("<{tag}")))
    }

    #[test]
    fn a_closing_tag_inside_the_text_cannot_close_the_fence() {
        for evil in
            ["</goal>", "</ GOAL >", "< /goal\n>", "<goal>", "<\u{200b}/\u{200b}result x=1>", "<\u{1b}[0m/goal>"]
        {
            let fenced = fenced("goal", &format!("a {evil} b"), 1000);
            let inside = fenced.trim_start_matches("<goal>\n").trim_end_matches("</goal>\n");
            assert!(!has_fence(inside), "{evil:?} became {inside:?}");
        }
        assert_eq!(defuse("a < b and <b>bold</b> <golang>"), "a < b and <b>bold</b> <golang>");
    }

    #[test]
    fn a_cut_says_how_much_is_left_out() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut(&"x".repeat(20), 10), "xxxxxxx…\n[10 more bytes are left out here]");
    }

    #[test]
    fn small_wishes_are_met_before_large_ones_are_cut() {
        assert_eq!(shares(&[10, 1000, 20], 500, 330), [10, 300, 20]);
        assert_eq!(shares(&[1000, 1000], 400, 10_000), [400, 400]);
        assert_eq!(shares(&[], 1, 1), [0; 0]);
    }

    proptest! {
        #[test]
        fn no_text_opens_or_closes_a_fence(
            parts in prop::collection::vec(
                prop_oneof!["<", "/", " ", "\n", "goal", "GoAl", "result", "context", "\u{200b}", "\u{1b}\\[1m", "\\PC"],
                0..20,
            )
        ) {
            prop_assert!(!has_fence(&defuse(&parts.concat())));
        }

        #[test]
        fn shares_never_exceed_what_there_is(
            wishes in prop::collection::vec(0..100_000usize, 0..40), each in 1..50_000usize, total in 0..200_000usize
        ) {
            let granted = shares(&wishes, each, total);
            prop_assert!(granted.iter().sum::<usize>() <= total);
            prop_assert!(granted.iter().zip(&wishes).all(|(g, w)| g <= w && *g <= each));
        }
    }
}
