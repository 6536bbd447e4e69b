//! What two tasks have in common that they should not: one file or branch (`P09`), or the whole work (`P10`).
//!
//! Its one surprise: paths are inferred from the words of the output. A path after "of" or "about" is read, not written.

use std::collections::BTreeSet;

use super::{Graph, Rules, fault, shown};
use crate::model::{Fault, Plan, PlanTask};

/// Tasks with more in common than this are the same task.
const ALIKE: f64 = 0.85;

/// Endings of names that make a word a path.
const ENDINGS: &[&str] = &[
    "md", "txt", "html", "css", "js", "mjs", "ts", "tsx", "jsx", "json", "jsonl", "csv", "tsv", "py", "rs", "go",
    "java", "rb", "php", "sh", "sql", "toml", "yaml", "yml", "xml", "ini", "cfg", "pdf", "png", "jpg", "jpeg", "gif",
    "svg", "webp", "mp3", "mp4", "wav", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "tex", "ics", "zip",
    "diff", "patch", "ipynb", "log",
];

/// Words before a path that say that it is read.
const READING: &[&str] = &[
    "of",
    "from",
    "about",
    "for",
    "against",
    "using",
    "per",
    "read",
    "see",
    "review",
    "reading",
    "reviewing",
    "like",
    "than",
    "von",
    "aus",
    "über",
    "für",
    "zu",
    "gegen",
    "de",
    "du",
    "des",
    "depuis",
    "selon",
    "sobre",
    "desde",
    "según",
    "di",
    "da",
    "dal",
    "del",
    "su",
    "per",
    "van",
    "uit",
    "over",
    "voor",
];

/// Words for a branch.
const BRANCH: &[&str] = &["branch", "branche", "rama", "ramo", "zweig", "tak", "ветка", "ветке", "ветку"];

/// Checks `P09` and `P10`.
pub(super) fn check(faults: &mut Vec<Fault>, plan: &Plan, rules: &Rules, graph: &Graph) {
    for Conflict { first, second, what } in conflicts(plan, rules, graph) {
        let (a, b) = (shown(&plan.tasks[first].id), shown(&plan.tasks[second].id));
        let message = format!(
            "{a} and {b} may run at the same time and both write {what}; let one depend on the other, or give them names of \
             their own"
        );
        faults.push(fault("P09", format!("tasks[{second}].output"), message));
    }
    duplicates(faults, &plan.tasks);
}

/// Two tasks that may run at the same time and write the same thing.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Conflict {
    pub(in super::super) first: usize,
    pub(in super::super) second: usize,
    what: String,
}

/// All conflicts, each pair once.
pub(in super::super) fn conflicts(plan: &Plan, rules: &Rules, graph: &Graph) -> Vec<Conflict> {
    let written: Vec<BTreeSet<String>> = plan.tasks.iter().map(|task| written(task, rules)).collect();
    let mut found = Vec::new();
    for (second, theirs) in written.iter().enumerate().filter(|(_, paths)| !paths.is_empty()) {
        for (first, ours) in written.iter().enumerate().take(second) {
            if let Some(what) = ours.intersection(theirs).next()
                && !graph.ordered(first, second)
            {
                found.push(Conflict { first, second, what: what.clone() });
            }
        }
    }
    found
}

/// What a task writes, as far as its words say: paths from the stage's folder, and branches.
fn written(task: &PlanTask, rules: &Rules) -> BTreeSet<String> {
    let workspace = rules.agent(&task.worker).map_or("", |agent| &agent.workspace);
    let mut found = BTreeSet::new();
    let probed = task.done_when.iter().filter_map(|done| done.path());
    found.extend(probed.filter_map(|path| resolved(workspace, path)));
    let mut before = String::new();
    let mut branch = false;
    for word in task.output.split(|c: char| c.is_whitespace() || "()[]{}\"'«»„“”‘’,;".contains(c)) {
        let quoted = word.contains('`');
        let word = word.trim_start_matches(['`', '*']).trim_end_matches(|c: char| "`.:!?*".contains(c));
        if word.is_empty() {
            continue;
        }
        let lower = word.to_lowercase();
        let named = quoted || word.contains(['/', '-']) || word.bytes().any(|b| b.is_ascii_digit());
        if branch && named {
            found.insert(format!("branch {word}"));
        } else if is_path(word, quoted) && !READING.contains(&&*before) {
            found.extend(resolved(workspace, word));
        }
        // "the branch named x", "branch called x".
        branch = BRANCH.contains(&&*lower)
            || (branch && matches!(&*lower, "named" | "called" | "namens" | "nommée" | "llamada"));
        before = lower;
    }
    found
}

fn is_path(word: &str, quoted: bool) -> bool {
    if word.contains("://") || word.contains('@') || word.starts_with('-') {
        return false;
    }
    let name = word.rsplit('/').next().unwrap_or(word);
    let ending = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending.to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&&*ending)) || (quoted && word.contains('/'))
}

/// A path from the stage's folder; `None` where it has no name.
fn resolved(workspace: &str, path: &str) -> Option<String> {
    let whole = match path {
        path if path.starts_with(['/', '~']) || path.starts_with("workspaces/") => path.to_owned(),
        path => format!("{workspace}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/").to_lowercase())
}

/// `P10`: tasks of one agent whose words are nearly the same, unless something tells them apart.
fn duplicates(faults: &mut Vec<Fault>, tasks: &[PlanTask]) {
    let words: Vec<Vec<u64>> = tasks.iter().map(tokens).collect();
    for (j, second) in tasks.iter().enumerate() {
        for (i, first) in tasks.iter().enumerate().take(j) {
            if first.worker == second.worker && jaccard(&words[i], &words[j]) > ALIKE && !told_apart(first, second) {
                let message =
                    format!("does nearly the same as {}; merge them, or say what is different", shown(&first.id));
                faults.push(fault("P10", format!("tasks[{j}]"), message));
                break;
            }
        }
    }
}

/// Hashes of the words of a task, sorted.
fn tokens(task: &PlanTask) -> Vec<u64> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut all = Vec::new();
    let mut keep = |word: &str| {
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        all.push(hasher.finish());
    };
    for text in [&task.title, &task.objective, &task.output, &task.boundaries] {
        for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            // Scripts without blanks between words: each letter is one.
            if word.chars().any(|c| c > '\u{2e7f}') {
                word.chars().for_each(|c| keep(c.encode_utf8(&mut [0; 4])));
            } else {
                keep(word);
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (short, long) = (a.len().min(b.len()), a.len().max(b.len()));
    // Even if all of the shorter were in the longer, it would not do.
    if short == 0 || (short as f64) <= ALIKE * long as f64 {
        return 0.0;
    }
    let mut shared = 0_u32;
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Equal => {
                shared += 1;
                i += 1;
                j += 1;
            }
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
        }
    }
    f64::from(shared) / ((a.len() + b.len()) as f64 - f64::from(shared))
}

/// Whether two tasks with nearly the same words are about different things: other requirements, other inputs, other
/// numbers, or other files.
fn told_apart(a: &PlanTask, b: &PlanTask) -> bool {
    let apart = |a: BTreeSet<String>, b: BTreeSet<String>| !a.is_empty() && !b.is_empty() && a.is_disjoint(&b);
    let serves = |task: &PlanTask| task.serves.iter().cloned().collect();
    let inputs = |task: &PlanTask| task.inputs.iter().map(|input| input.what.to_lowercase()).collect();
    let marks = |task: &PlanTask| -> BTreeSet<String> {
        let text = [&*task.title, &task.objective, &task.output].join(" ").to_lowercase();
        let words = text.split(|c: char| c.is_whitespace() || ",;()`\"".contains(c));
        let marks =
            words.filter(|word| word.chars().any(char::is_numeric) || is_path(word.trim_end_matches('.'), false));
        marks.map(str::to_owned).collect()
    };
    apart(serves(a), serves(b)) || apart(inputs(a), inputs(b)) || {
        let (ours, theirs) = (marks(a), marks(b));
        ours != theirs && !ours.is_subset(&theirs) && !theirs.is_subset(&ours)
    }
}
