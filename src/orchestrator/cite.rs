//! Citations in a report: which tasks a text names in square brackets, and which attempt of theirs is meant.
//!
//! Owns what counts as a citation. Must not know where the text comes from. Its one surprise: `[id](address)` is a link and
//! no citation, and a bracket of which nothing is a task's name is left alone.

use super::synthesis::Ended;

/// Every name in square brackets that looks like a task's, in order; `[a, b]` names two.
fn cited(words: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (_, inside, after) in brackets(words) {
        if !after.starts_with('(') {
            found.extend(inside.split(',').map(str::trim).filter(|name| is_name(name)));
        }
    }
    found
}

/// What stands before, in and after each pair of brackets without another pair in it.
fn brackets(words: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut rest = words;
    std::iter::from_fn(move || {
        loop {
            let (before, tail) = rest.split_once('[')?;
            let (inside, after) = tail.split_once(']')?;
            if inside.contains('[') {
                rest = tail;
                continue;
            }
            rest = after;
            return Some((before, inside, after));
        }
    })
}

fn is_name(text: &str) -> bool {
    let may = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    !text.is_empty() && text.len() <= 48 && text.bytes().all(may) && text.bytes().any(|b| b.is_ascii_lowercase())
}

/// The same text with the attempt behind every task it cites: `[quiz]` becomes `[quiz#2]`.
pub fn with_attempts(words: &str, ended: &[Ended]) -> String {
    let mut out = words.to_owned();
    for (task, outcome) in ended {
        let Some(outcome) = outcome.as_ref().filter(|o| o.attempt > 0) else { continue };
        let exact = format!("{}#{}", task.id, outcome.attempt);
        for (open, close) in [("[", "]"), ("[", ","), (" ", "]"), (" ", ",")] {
            let (from, to) = (format!("{open}{}{close}", task.id), format!("{open}{exact}{close}"));
            out = replaced(&out, &from, &to);
        }
    }
    out
}

/// Replaces inside brackets that cite, and nowhere else.
fn replaced(words: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some((before, tail)) = rest.split_once('[') {
        out.push_str(before);
        let Some((inside, after)) = tail.split_once(']') else {
            out.push('[');
            rest = tail;
            continue;
        };
        if inside.contains('[') || after.starts_with('(') {
            out.push('[');
            rest = tail;
            continue;
        }
        out.push_str(&format!("[{inside}]").replace(from, to));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Tasks that ended well and are not cited.
pub fn silent(words: &str, ended: &[Ended]) -> Vec<String> {
    let cited = cited(words);
    let done = ended.iter().filter(|(_, outcome)| super::synthesis::is_done(outcome.as_ref()));
    done.map(|(task, _)| super::synthesis::name(task)).filter(|name| !cited.contains(&name.as_str())).collect()
}

/// Names that are cited and are no task's.
pub fn strange(words: &str, ended: &[Ended]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in cited(words) {
        // One word in brackets may be anybody's remark; a name of several parts is meant to be a task's.
        let looks = name.contains(['-', '_']) || name.bytes().any(|b| b.is_ascii_digit());
        if looks && ended.iter().all(|(task, _)| task.id != name) && !found.iter().any(|f| f == name) {
            found.push(name.to_owned());
        }
    }
    found
}

/// The points of the section with this heading in a report, as the model wrote them.
pub fn section(words: &str, heading: &str) -> Vec<String> {
    let mut inside = false;
    let mut found: Vec<String> = Vec::new();
    for line in words.lines() {
        if let Some(title) = line.trim_start().strip_prefix('#') {
            inside = title.trim_matches(['#', ' ', ':']).eq_ignore_ascii_case(heading);
            continue;
        }
        let line = line.trim();
        if !inside || line.is_empty() {
            continue;
        }
        match line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")) {
            Some(point) => found.push(point.trim().to_owned()),
            None => match found.last_mut() {
                Some(last) => last.extend([" ", line]),
                None => found.push(line.to_owned()),
            },
        }
    }
    found.retain(|point| !matches!(point.trim_end_matches('.').to_ascii_lowercase().as_str(), "none" | "keine"));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{EndState, PlanTask},
        orchestrator::sample::outcome,
    };

    fn ended() -> Vec<Ended> {
        let task = |id: &str| PlanTask { id: id.to_owned(), ..PlanTask::default() };
        let mut second = outcome("anga/g1-page", EndState::Done, "Done.");
        second.attempt = 2;
        vec![
            (task("quiz"), Some(outcome("marie/g1-quiz", EndState::Done, "Done."))),
            (task("page"), Some(second)),
            (task("post"), Some(outcome("fabien/g1-post", EndState::Skipped, ""))),
        ]
    }

    #[test]
    fn every_part_names_the_task_and_the_attempt_it_came_from() {
        let words = "Ten questions [quiz], on a page [page, quiz]. See [page](page.html), [Page] and [x[page]].";
        let exact = with_attempts(words, &ended());
        assert_eq!(
            exact,
            "Ten questions [quiz#1], on a page [page#2, quiz#1]. See [page](page.html), [Page] and [x[page#2]]."
        );
    }

    #[test]
    fn what_is_not_cited_and_what_is_no_task_is_named() {
        assert_eq!(silent("Only [quiz].", &ended()), ["page"]);
        assert!(silent("[quiz, page]", &ended()).is_empty());
        assert_eq!(strange("[quiz] [other-task] [sic] [other-task] [post]", &ended()), ["other-task"]);
    }

    #[test]
    fn sections_are_read_as_their_points() {
        let words = "Fine.\n\n## Gaps\n- one\n  more of it\n- two\n\n## Unverified\nNone.\n\n## Conflicts\nA says B.\n";
        assert_eq!(section(words, "gaps"), ["one more of it", "two"]);
        assert!(section(words, "Unverified").is_empty());
        assert_eq!(section(words, "Conflicts"), ["A says B."]);
    }
}
