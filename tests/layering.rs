//! Imports point inward only. The rules are the table in `src/lib.rs`; this reads the table, then every source file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Crates and parts of std that a pure module must not name.
const IMPURE: [&str; 14] = [
    "tokio",
    "std::fs",
    "std::process",
    "std::net",
    "std::thread",
    "std::os",
    "std::env",
    "ratatui",
    "crossterm",
    "reqwest",
    "hyper",
    "rustix",
    "tempfile",
    "notify",
];

/// The table of `src/lib.rs`.
struct Table {
    /// What each module may import, itself included.
    allowed: BTreeMap<String, BTreeSet<String>>,
    /// Modules that are pure.
    pure: BTreeSet<String>,
}

/// Words between backticks.
fn ticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Reads the table: rows of `| [name] | owns | may import |`, and the sentence that names the doors.
fn table(lib: &str) -> Table {
    let doc: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let doors: Vec<String> =
        doc.iter().filter_map(|line| line.strip_prefix("The doors are ")).flat_map(ticked).collect();
    let mut table = Table { allowed: BTreeMap::new(), pure: BTreeSet::new() };
    for row in doc.iter().filter(|line| line.starts_with("| [`")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, owns, imports, _] = cells[..] else { continue };
        let Some(name) = ticked(name).pop() else { continue };
        let mut may: BTreeSet<String> = ticked(imports).into_iter().collect();
        if imports.contains("doors") {
            may.extend(doors.iter().cloned());
        }
        if imports.contains("everything above") {
            may.extend(table.allowed.keys().cloned());
        }
        may.insert(name.clone());
        if owns.starts_with("pure") {
            table.pure.insert(name.clone());
        }
        table.allowed.insert(name, may);
    }
    table
}

/// The code of a file without its comment lines.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that a text names: `crate::x`, and each member of `crate::{x::…, y}`.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            names.insert(word(after));
            continue;
        };
        let mut depth = 1;
        let mut member = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && c == ',') {
                names.insert(word(member.trim()));
                member.clear();
            } else {
                member.push(c);
            }
            if depth == 0 {
                break;
            }
        }
    }
    // `crate::Thing` is a re-export of the root, which has none; `crate::macro!` is no module.
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
}

/// Whether a text climbs out of its module by `super::`. `depth` is how deep the file lies: 1 for `src/x.rs`.
fn climbs_out(code: &str, depth: usize) -> bool {
    // Inside `mod tests { … }` one more step is needed.
    let (body, tests) = code.split_once("mod tests {").unwrap_or((code, ""));
    body.contains(&"super::".repeat(depth)) || tests.contains(&"super::".repeat(depth + 1))
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// What one file of `module` does against the table, one sentence each.
fn faults(table: &Table, module: &str, text: &str, depth: usize) -> Vec<String> {
    let code = code(text);
    let nothing = BTreeSet::new();
    let may = table.allowed.get(module).unwrap_or(&nothing);
    let mut out: Vec<String> = named(&code).difference(may).map(|other| format!("imports {other}")).collect();
    if climbs_out(&code, depth) {
        out.push("climbs out of its module with super::".to_owned());
    }
    if table.pure.contains(module) {
        // What checks a pure module may read files: `mod tests { … }` is not part of it, and is the last thing in a file.
        let code = code.split_once("mod tests {").map_or(code.as_str(), |(body, _)| body);
        for what in IMPURE {
            let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            let path = format!("{what}::");
            let found = code
                .match_indices(&path)
                .any(|(at, _)| !word(code.get(..at).and_then(|before| before.chars().next_back())));
            if found {
                out.push(format!("is pure and names {what}"));
            }
        }
    }
    out
}

#[test]
fn every_import_points_inward() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let table = table(&lib);
    let mut wrong = Vec::new();
    for path in rust_files(&source()).unwrap() {
        let inside = path.strip_prefix(source()).unwrap();
        let depth = inside.components().count();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") && depth == 1 {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        wrong.extend(
            faults(&table, module, &text, depth).iter().map(|f| format!("{} of `{module}` {f}", inside.display())),
        );
    }
    assert!(wrong.is_empty(), "against the table in src/lib.rs:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_names_every_module_and_nothing_else() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let table = table(&lib);
    let declared: BTreeSet<String> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    assert_eq!(table.allowed.keys().cloned().collect::<BTreeSet<_>>(), declared);
    for (module, may) in &table.allowed {
        let unknown: Vec<_> = may.difference(&declared).collect();
        assert!(unknown.is_empty(), "the row of {module} names {unknown:?}");
    }
    for pure in ["model", "orchestrator", "room"] {
        assert!(table.pure.contains(pure), "{pure} must be pure");
    }
}

#[test]
fn modules_lie_beside_their_folders() {
    let strays: Vec<_> = rust_files(&source()).unwrap().into_iter().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(strays.is_empty(), "use foo.rs beside foo/: {strays:?}");
}

#[test]
fn an_import_that_points_outward_is_found_however_it_is_written() {
    let table = table(
        "//! The doors are `queue`, `api`.\n//! | [`model`] | pure: nouns | nothing of ours |\n//! | [`queue`] | tasks | `model` |\n\
         //! | [`api`] | client | `model` |\n//! | [`worker`] | work | `model`, doors |\n//! | [`cli`] | verbs | everything above |\n",
    );
    let found = |module: &str, text: &str, depth| faults(&table, module, text, depth).join("; ");
    assert_eq!(
        found("queue", "use crate::{\n    api::{sse::Event, Client},\n    model::TaskId,\n};", 1),
        "imports api"
    );
    assert_eq!(found("queue", "fn f() { crate::cli::run(); crate::model::x(); }", 1), "imports cli");
    assert_eq!(found("queue", "use super::api;", 1), "climbs out of its module with super::");
    assert_eq!(found("queue", "use super::super::api;", 2), "climbs out of its module with super::");
    assert_eq!(found("queue", "use super::Queue;\nmod tests {\n    use super::super::file;\n}", 2), "");
    assert_eq!(found("model", "use tokio::time;\nlet mytokio::x;", 1), "is pure and names tokio");
    assert_eq!(found("model", "fn f() { std::fs::read(p) }", 2), "is pure and names std::fs");
    assert_eq!(found("model", "fn f() {}\nmod tests {\n    use std::fs::read;\n}", 1), "");
    assert_eq!(found("model", "use std::fs::read;\nmod tests {\n}", 1), "is pure and names std::fs");
    assert_eq!(found("model", "// crate::api is not for us\n//! tokio::x", 1), "");
    assert_eq!(found("worker", "use crate::{api, queue::Queue, worker::x};", 1), "");
    assert_eq!(found("cli", "use crate::{worker, api};", 1), "");
    assert_eq!(found("stranger", "use crate::model;", 1), "imports model");
}
