//! What the composer names on disk: folders to complete a reference from, templates, and references as they are sent.
//!
//! Owns how `@notes/week.md` becomes a path that an agent can open. Its one surprise: a reference that is no file of the
//! stage stays as it was written; it may be an address, or a name.

use std::{
    fs,
    path::{Component, Path},
};

use crate::{
    room::Order,
    tui::composer::{Entry, Template},
};

/// Entries of a folder that are shown at most.
const MOST: usize = 2_000;
/// The longest template.
const LONGEST: u64 = 64 << 10;

/// Templates that are there by themselves.
const BUILT_IN: [(&str, &str); 3] = [
    ("announce", include_str!("../../assets/templates/announce.md")),
    ("evaluate", include_str!("../../assets/templates/evaluate.md")),
    ("mend", include_str!("../../assets/templates/mend.md")),
];

/// The entries of a folder of the stage; none where there is no such folder.
pub(super) fn list(stage: &Path, folder: &str) -> Vec<Entry> {
    if !is_inside(folder) {
        return Vec::new();
    }
    let entries = fs::read_dir(stage.join(folder)).into_iter().flatten().flatten().take(MOST);
    let entry = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        // A blank would end the reference.
        let usable = !name.contains(char::is_whitespace) && !name.contains(char::is_control);
        usable.then(|| Entry { folder: entry.path().is_dir(), name })
    };
    entries.filter_map(entry).collect()
}

/// The templates of these folders and the built-in ones; the first of a name counts.
pub(super) fn templates(folders: &[&Path]) -> Vec<Template> {
    let mut found: Vec<Template> = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST);
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().to_str()?.strip_suffix(".md")?.to_owned();
            let small = entry.metadata().is_ok_and(|meta| meta.len() <= LONGEST);
            let text = fs::read_to_string(entry.path()).ok().filter(|_| small)?;
            Some(Template { name, text })
        };
        let mut these: Vec<_> = entries.filter_map(read).collect();
        these.sort_by(|a, b| a.name.cmp(&b.name));
        found.extend(these);
    }
    found.extend(BUILT_IN.map(|(name, text)| Template { name: name.to_owned(), text: text.to_owned() }));
    let mut seen = std::collections::HashSet::new();
    found.retain(|template| seen.insert(template.name.clone()));
    found
}

/// Whether an order may name a file.
pub(super) fn has_references(order: &Order) -> bool {
    let names = |text: &str| text.contains('@');
    matches!(order, Order::Goal { text, .. } if names(text))
        || matches!(order, Order::Task { spec, .. } if names(&spec.description))
}

/// The order with its references as paths.
pub(super) fn resolve(stage: &Path, order: Order) -> Order {
    match order {
        Order::Goal { text, approval, terms } => Order::Goal { text: paths(stage, &text), approval, terms },
        Order::Task { mut spec, rename } => {
            spec.description = paths(stage, &spec.description);
            Order::Task { spec, rename }
        }
        other => other,
    }
}

fn paths(stage: &Path, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('@') {
        out.push_str(head);
        let before_it = head.chars().next_back().or(before);
        let begins = before_it.is_none_or(|c| c.is_whitespace() || "([\"'".contains(c));
        let end = tail.find(char::is_whitespace).unwrap_or(tail.len());
        let word = tail.get(..end).unwrap_or_default();
        // A sentence may end behind it.
        let named = [word, word.trim_end_matches(|c: char| ".,;:!?)]\"'".contains(c))];
        let file = named.into_iter().find(|path| !path.is_empty() && is_inside(path) && stage.join(path).exists());
        if let Some(path) = file.filter(|_| begins) {
            out.push_str(&stage.join(path).display().to_string());
            before = path.chars().next_back();
            rest = tail.get(path.len()..).unwrap_or_default();
        } else {
            out.push('@');
            before = Some('@');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

/// Whether a path leads nowhere but down.
pub(super) fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_to_a_file_becomes_its_path_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let stage = dir.path();
        fs::create_dir_all(stage.join("notes")).unwrap();
        fs::write(stage.join("notes/week.md"), "").unwrap();
        let at = stage.display();
        for (text, sent) in [
            ("Read @notes/week.md.", format!("Read {at}/notes/week.md.")),
            ("(@notes/week.md) and @notes/", format!("({at}/notes/week.md) and {at}/notes/")),
            (
                "write to a@notes, @nobody and @../x @/etc/passwd @",
                "write to a@notes, @nobody and @../x @/etc/passwd @".into(),
            ),
            ("@@notes", "@@notes".into()),
            ("", String::new()),
        ] {
            assert_eq!(paths(stage, text), sent, "{text}");
        }
    }

    #[test]
    fn a_stages_own_template_comes_before_one_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mend.md"), "Mend it our way.").unwrap();
        fs::write(dir.path().join("no-template.txt"), "").unwrap();
        let names = |all: &[Template]| all.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        let all = templates(&[dir.path(), &dir.path().join("gone")]);
        assert_eq!(names(&all), ["mend", "announce", "evaluate"]);
        assert_eq!(all[0].text, "Mend it our way.");
    }

    #[test]
    fn a_folder_is_listed_without_what_cannot_be_written_as_a_reference() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("notes")).unwrap();
        fs::write(dir.path().join("two words.md"), "").unwrap();
        let entries = list(dir.path(), "");
        assert_eq!(entries, [Entry { name: "notes".into(), folder: true }]);
        assert_eq!(list(dir.path(), "../"), []);
        assert_eq!(list(dir.path(), "gone"), []);
    }
}
