//! Keys in what is said: they are the operator's, wherever they are named.

use super::*;
use crate::tui::action::VERBS;

fn changed(changes: &[(&str, &str)]) -> Settings {
    let changes = (1..).zip(changes).map(|(n, (verb, key))| (n, (*verb).to_owned(), Some(vec![(*key).to_owned()])));
    let (keys, wrong) = Keys::changed(changes.collect());
    assert_eq!(wrong, []);
    Settings { keys, ..Settings::default() }
}

#[test]
fn what_is_said_names_the_keys_that_are_in_force() {
    let stage = sample::running();
    let settings = changed(&[
        ("group", "f2"),
        ("next-mark", "f3"),
        ("plan", "f4"),
        ("undo", "f5"),
        ("retry", "f6"),
        ("show-what-was-put-off", "f7"),
        ("needs-you", "f8"),
        ("inbox", "f9"),
        ("leave", "f10"),
        ("choose", "f11"),
        ("trash", "ctrl-t"),
        ("copy", "ctrl-y"),
        ("extend", "ctrl-e"),
    ]);
    let mut app = App::new(settings);
    app.resize(WIDE.0, WIDE.1);
    let said = |app: &App| app.message().map(|m| m.text.clone()).unwrap_or_default();
    press(&mut app, &stage.state, "2 left");
    assert_eq!(said(&app), "there are no groups: f2 makes some");
    press(&mut app, &stage.state, "x");
    assert!(
        matches!(app.popups().last(), Some(Popup::Confirm { question, .. }) if question.ends_with("; f5 brings it back."))
    );
    press(&mut app, &stage.state, "esc *");
    assert!(said(&app).contains(" marked; f6 R c x P + - act on all of them, esc unmarks"), "{}", said(&app));
    press(&mut app, &stage.state, "esc f9 z");
    assert_eq!(said(&app), "put off for 15 min; f7 shows it again");
    press(&mut app, &stage.state, "esc ?");
    let help = screen(&stage.state, &app, at(120), (120, 250));
    assert!(help.contains("look at it, then f6"), "{help}");
    // Below the floor too.
    app.resize(40, 10);
    press(&mut app, &stage.state, "esc");
    let small = screen(&stage.state, &app, at(120), (40, 10));
    assert!(small.replace('\n', " ").contains("f10 leaves."), "{small}");
}

#[test]
fn every_key_in_a_text_is_asked_for_by_the_name_of_its_verb() {
    let keys = Keys::default();
    assert_eq!(keys.told("a <retry> b <no-such-verb> c < d <copy>"), "a r b <no-such-verb> c < d y");
    for (file, line, text) in texts() {
        for (_, tail) in text.match_indices('<').map(|(at, _)| text.split_at(at)) {
            let Some(name) = tail.strip_prefix('<').and_then(|tail| Some(tail.split_once('>')?.0)) else { continue };
            let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            assert!(!named || VERBS.iter().any(|verb| verb.id() == name), "{file}:{line}: there is no verb `{name}`");
        }
    }
}

/// A letter that is a key, before a word that it does: `r brings it back`, `3 shows the newest`.
fn names_a_key(text: &str) -> Option<char> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).enumerate().find_map(|(n, pair)| {
        let [key, does] = pair else { return None };
        let mut letters = key.trim_start_matches(['(', '"']).chars();
        let (letter, None) = (letters.next()?, letters.next()) else { return None };
        // A count, a unit, an article: `at 5 h`, `{left} s`, `a range`.
        let before = n.checked_sub(1).and_then(|n| words.get(n)).copied().unwrap_or_default();
        let unit = before.ends_with('}') || before.ends_with(|c: char| c.is_ascii_digit());
        let article = letter == 'a' && !DOES.contains(&does.trim_end_matches([',', '.', ';']));
        let is_key = VERBS.iter().any(|verb| verb.keys.contains(&letter.to_string().as_str()));
        let sentence = matches!(letter, 'A' | 'I') && (n == 0 || before.ends_with(['.', '?', '!']));
        let word = does.len() > 1 && does.starts_with(|c: char| c.is_ascii_lowercase());
        // Figures and signs are more often no keys: only before what is said of a key.
        let word = word && (letter.is_ascii_alphabetic() || (does.ends_with('s') && *does != "miss"));
        (is_key && word && !unit && !article && !sentence).then_some(letter)
    })
}

/// What `a` would do if it were no article.
const DOES: [&str; 6] = ["allow", "allows", "answers", "approves", "plans", "answer"];

/// Whether every part of it is a key with what it does: those are told with the keys in force (`Keys::retold`).
fn is_hints(text: &str) -> bool {
    let parts: Vec<&str> = text.split(" · ").collect();
    parts.len() > 1
        && parts.iter().filter(|part| part.split(' ').next().is_some_and(|key| key.chars().count() <= 5)).count() * 3
            > parts.len() * 2
}

#[test]
fn no_text_outside_the_table_names_a_fixed_letter() {
    assert_eq!(names_a_key("it is in the trash already; r brings it back"), Some('r'));
    assert_eq!(names_a_key("open a plan first: 3 shows the newest"), Some('3'));
    assert_eq!(names_a_key("{} failed in part: a plans anew"), Some('a'));
    assert_eq!(names_a_key("a range begins; {left} s more, in 5 h at most"), None);
    let mut found = Vec::new();
    for (file, line, text) in texts() {
        if let Some(letter) = names_a_key(&text).filter(|_| !is_hints(&text)) {
            found.push(format!("{file}:{line}: `{letter}` in {text:?}"));
        }
    }
    assert!(found.is_empty(), "say them with `<verb>`: {found:#?}");
}

/// Every text in the sources of screen and room, but for tests, the table itself and the composer's own keys.
fn texts() -> Vec<(String, usize, String)> {
    let mut out = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_string_lossy().into_owned();
            let of_screen = ["src/tui", "src/room", "src/runtime"].iter().any(|place| name.starts_with(place));
            let not_said =
                ["tests", "action", "sample.rs", "scripts.rs", "fuzz.rs"].iter().any(|part| name.contains(part));
            if path.is_dir() {
                folders.push(path);
            } else if of_screen && !not_said && path.extension().is_some_and(|kind| kind == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                let source = source.split("#[cfg(test)]").next().unwrap_or_default();
                for (n, line) in source.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                    let parts: Vec<&str> = line.split('"').collect();
                    out.extend(parts.iter().skip(1).step_by(2).map(|text| (name.clone(), n + 1, (*text).to_owned())));
                }
            }
        }
    }
    assert!(out.len() > 1_000, "{}", out.len());
    out
}
