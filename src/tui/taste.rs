//! How the operator wants the screen: theme, keys, mouse, ASCII; and what the terminal can show.
//!
//! Owns what those files and variables mean. Must not read them: text comes in. Its one surprise: nothing in here is an
//! error; what is wrong is a [`Slip`] with its line, and its default stays in force.

pub mod colour;
pub mod terminal;
pub mod theme;

use toml::de::{DeTable, DeValue};

pub use colour::Depth;
pub(super) use colour::shown;
pub use terminal::Powers;

use super::keymap::Keys;
use crate::model::slip::{Slip, nearest, position};

/// What `screen.toml` says.
#[derive(Debug, Clone, Default)]
pub struct Taste {
    /// The theme's name and the line that names it; `None` = as the terminal suggests.
    pub theme: Option<(String, usize)>,
    /// Whether only ASCII is drawn; `None` = as the locale suggests.
    pub ascii: Option<bool>,
    /// Whether the mouse works from the start.
    pub mouse: bool,
    /// The keys.
    pub keys: Keys,
}

impl Taste {
    /// Reads `screen.toml`.
    pub fn read(file: &str, text: &str) -> (Self, Vec<Slip>) {
        let mut taste = Self::default();
        let mut slips = Vec::new();
        let Some(table) = table(file, text, &mut slips) else { return (taste, slips) };
        let at = |offset: usize| position(text, offset).0;
        let mut slip = |line, key: &str, message: String, nearest| {
            slips.push(Slip { file: file.to_owned(), line, key: key.to_owned(), message, nearest });
        };
        for (name, value) in table.get_ref() {
            let (key, line) = (name.get_ref().as_ref(), at(name.span().start));
            match (key, value.get_ref()) {
                ("theme", DeValue::String(name)) => {
                    taste.theme = Some((name.to_string(), line)).filter(|(name, _)| name != "auto");
                }
                ("ascii", DeValue::Boolean(on)) => taste.ascii = Some(*on),
                ("mouse", DeValue::Boolean(on)) => taste.mouse = *on,
                ("keys", DeValue::Table(table)) => {
                    let changes = table
                        .iter()
                        .map(|(verb, keys)| (at(verb.span().start), verb.get_ref().to_string(), words(keys.get_ref())))
                        .collect();
                    let (keys, wrong) = Keys::changed(changes);
                    taste.keys = keys;
                    for (line, verb, message, nearest) in wrong {
                        slip(line, &format!("keys.{verb}"), message, nearest);
                    }
                }
                ("theme" | "ascii" | "mouse" | "keys", other) => {
                    let wanted = match key {
                        "theme" => "the name of a theme",
                        "keys" => "a table of keys",
                        _ => "true or false",
                    };
                    slip(line, key, format!("is {wanted}, not {}", kind(other)), None);
                }
                _ => {
                    let known = ["theme", "ascii", "mouse", "keys"];
                    slip(
                        line,
                        key,
                        format!("there is no such key; known are {}", known.join(", ")),
                        nearest(key, &known),
                    );
                }
            }
        }
        slips.sort_by_key(|slip| slip.line);
        (taste, slips)
    }
}

/// What a value is, in words.
fn kind(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    format!("{} {name}", if name.starts_with(['a', 'i']) { "an" } else { "a" })
}

/// A text or a list of texts; `None` is neither.
fn words(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::String(one) => Some(vec![one.to_string()]),
        DeValue::Array(many) => many.iter().map(|one| one.get_ref().as_str().map(str::to_owned)).collect(),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            None
        }
    }
}

/// The file as a table; where it is no TOML, that is the slip, and nothing in it counts.
fn table<'a>(file: &str, text: &'a str, slips: &mut Vec<Slip>) -> Option<toml::Spanned<DeTable<'a>>> {
    match DeTable::parse(text) {
        Ok(table) => Some(table),
        Err(error) => {
            let line = position(text, error.span().unwrap_or_default().start).0;
            let said = error.message().lines().next().unwrap_or_default();
            let message = format!("{said}; nothing in this file is in force");
            slips.push(Slip { file: file.to_owned(), line, key: String::new(), message, nearest: None });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::action::Action;

    fn said(text: &str) -> (Taste, Vec<String>) {
        let (taste, slips) = Taste::read("screen.toml", text);
        (taste, slips.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_right_is_in_force_whatever_is_wrong_beside_it() {
        let (taste, slips) = said(
            "theme = \"dark\"\nasci = true\nmouse = \"yes\"\n[keys]\nretry = \"f5\"\nretyr = \"x\"\nhelp = \"f-1\"\n\
             follow = 7\n",
        );
        assert_eq!((taste.theme, taste.ascii, taste.mouse), (Some(("dark".to_owned(), 1)), None, false));
        assert_eq!(taste.keys.first(Action::Retry), "f5");
        assert_eq!(taste.keys.first(Action::Help), "?", "its default stays");
        assert_eq!(
            slips,
            [
                "screen.toml:2: asci: there is no such key; known are theme, ascii, mouse, keys; did you mean `ascii`?",
                "screen.toml:3: mouse: is true or false, not a string",
                "screen.toml:6: keys.retyr: there is no such verb; did you mean `retry`?",
                "screen.toml:7: keys.help: `f-1` is no key; did you mean `f1`?",
                "screen.toml:8: keys.follow: is a key, a list of keys, or [] for none",
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_toml_is_named_with_its_line_and_changes_nothing() {
        let (taste, slips) = said("mouse = true\n[keys\nretry = \"x\"\n");
        assert!(!taste.mouse);
        assert!(slips.len() == 1 && slips[0].starts_with("screen.toml:2: "), "{slips:?}");
    }

    #[test]
    fn the_file_that_is_shown_to_be_copied_says_the_defaults() {
        let text = include_str!("../../assets/screen.toml");
        let (_, slips) = said(text);
        assert!(slips.is_empty(), "{slips:?}");
        let all = text.lines().filter_map(|l| l.strip_prefix("# ")).filter(|l| {
            l.split_once(" = ")
                .is_some_and(|(key, _)| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        });
        let (top, keys): (Vec<_>, Vec<_>) =
            all.partition(|l| ["theme", "ascii", "mouse"].iter().any(|k| l.starts_with(k)));
        assert!(top.len() == 3 && keys.len() == 3, "{top:?} {keys:?}");
        let (taste, slips) = said(&format!("{}\n[keys]\n{}\n", top.join("\n"), keys.join("\n")));
        assert!(slips.is_empty(), "{slips:?}");
        assert_eq!((taste.theme, taste.ascii, taste.mouse), (None, Some(false), false));
        assert_eq!(taste.keys, Keys::default());
    }
}
