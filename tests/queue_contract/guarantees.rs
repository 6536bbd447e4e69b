//! The table of promises in `docs/guarantees.md` names tests that exist, and none is without one that bears its number.

use std::{collections::BTreeSet, fs, path::Path};

/// Every function of the tests and of the crate.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            found.extend(text.split("fn ").skip(1).map(name));
        }
    }
}

#[test]
fn every_promise_has_a_test_that_bears_its_number_and_every_test_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    functions(&root.join("tests"), &mut known);
    functions(&root.join("src"), &mut known);
    let text = fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    let mut numbers = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        for test in &named {
            assert!(known.contains(*test), "docs/guarantees.md names {test}, and there is no such test");
        }
        let Some(number) = row.split('|').nth(1).map(str::trim).and_then(|cell| cell.strip_prefix('G')) else {
            continue;
        };
        let mark = format!("g{number}");
        let bears = |test: &&str| test.split('_').any(|part| part == mark);
        assert!(named.iter().any(bears), "no test named for G{number} bears its number");
        numbers.insert(number.parse::<u32>().unwrap());
    }
    assert_eq!(numbers, (1..=15).collect());
}
