//! From a key event to a verb.
//!
//! Its one surprise: terminals disagree about shift. A letter is known by the letter alone (`G`, not shift-g), and
//! shift-tab arrives as a key of its own.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::{Action, Place, VERBS, Verb};
use crate::model::slip::nearest;

const FUNCTIONS: [&str; 12] = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12"];

/// A key with its modifiers, normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chord {
    /// The key.
    pub code: KeyCode,
    /// Control and alt; shift only where the key has no other form.
    pub modifiers: KeyModifiers,
}

impl Chord {
    /// Normalises what the terminal reported.
    pub fn of(key: KeyEvent) -> Self {
        let known = KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT;
        let mut modifiers = key.modifiers & known;
        let code = match key.code {
            KeyCode::Char(c) => {
                let shift = modifiers.contains(KeyModifiers::SHIFT);
                modifiers.remove(KeyModifiers::SHIFT);
                if modifiers.contains(KeyModifiers::CONTROL) {
                    KeyCode::Char(c.to_ascii_lowercase())
                } else if shift {
                    KeyCode::Char(c.to_ascii_uppercase())
                } else {
                    KeyCode::Char(c)
                }
            }
            KeyCode::BackTab => {
                modifiers.remove(KeyModifiers::SHIFT);
                KeyCode::BackTab
            }
            KeyCode::Tab if modifiers.contains(KeyModifiers::SHIFT) => {
                modifiers.remove(KeyModifiers::SHIFT);
                KeyCode::BackTab
            }
            code => code,
        };
        Self { code, modifiers }
    }

    /// Reads `ctrl-c`, `shift-tab`, `pgup`, `G`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text;
        loop {
            if let Some(tail) = rest.strip_prefix("ctrl-") {
                modifiers |= KeyModifiers::CONTROL;
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix("alt-") {
                modifiers |= KeyModifiers::ALT;
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix("shift-") {
                modifiers |= KeyModifiers::SHIFT;
                rest = tail;
            } else {
                break;
            }
        }
        let code = match rest {
            "tab" => KeyCode::Tab,
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "pgup" => KeyCode::PageUp,
            "pgdn" => KeyCode::PageDown,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "backspace" => KeyCode::Backspace,
            "delete" => KeyCode::Delete,
            "space" => KeyCode::Char(' '),
            "insert" => KeyCode::Insert,
            _ if FUNCTIONS.contains(&rest) => KeyCode::F(rest.strip_prefix('f')?.parse().ok()?),
            _ => {
                let mut letters = rest.chars();
                let letter = letters.next()?;
                if letters.next().is_some() {
                    return None;
                }
                KeyCode::Char(letter)
            }
        };
        Some(Self::of(KeyEvent::new(code, modifiers)))
    }

    /// Keys that have a name.
    fn names() -> Vec<&'static str> {
        let named = ["tab", "enter", "esc", "up", "down", "left", "right", "pgup", "pgdn", "home", "end", "backspace"];
        named.into_iter().chain(["delete", "space", "insert"]).chain(FUNCTIONS).collect()
    }

    /// Whether it is this key, as [`Chord::parse`] reads it.
    pub fn is(self, text: &str) -> bool {
        Self::parse(text) == Some(self)
    }
}

/// The place of a verb where that has keys of its own; all others share theirs.
fn own(place: Place) -> Option<Place> {
    place.has_keys_of_its_own().then_some(place)
}

/// The keys of every verb: the table's, and what the operator has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// By row of [`VERBS`].
    of: Vec<Vec<(Chord, String)>>,
}

/// What is wrong with the keys of a verb: its line, its name, the sentence, the word that was probably meant.
pub type Wrong = (usize, String, String, Option<String>);

impl Default for Keys {
    fn default() -> Self {
        let chords = |verb: &Verb| verb.keys.iter().filter_map(|k| Some((Chord::parse(k)?, (*k).to_owned()))).collect();
        Self { of: VERBS.iter().map(chords).collect() }
    }
}

impl Keys {
    /// The table with these changes: each the line, the verb and its keys (`None` is neither a key nor a list). One that
    /// cannot be leaves that verb its defaults.
    pub fn changed(changes: Vec<(usize, String, Option<Vec<String>>)>) -> (Self, Vec<Wrong>) {
        let (mut keys, mut wrong) = (Self::default(), Vec::new());
        let mut own: Vec<(usize, usize)> = Vec::new();
        for (line, name, wanted) in changes {
            let Some(row) = VERBS.iter().position(|verb| verb.id() == name) else {
                let known: Vec<_> = VERBS.iter().map(Verb::id).collect();
                let meant = nearest(&name, &known);
                wrong.push((line, name, "there is no such verb".to_owned(), meant));
                continue;
            };
            let Some(wanted) = wanted else {
                wrong.push((line, name, "is a key, a list of keys, or [] for none".to_owned(), None));
                continue;
            };
            let chords: Result<Vec<_>, _> =
                wanted.into_iter().map(|key| Chord::parse(&key).map(|chord| (chord, key.clone())).ok_or(key)).collect();
            match chords {
                Ok(chords) => {
                    if let Some(place) = keys.of.get_mut(row) {
                        *place = chords;
                        own.push((row, line));
                    }
                }
                Err(key) => {
                    let meant = nearest(&key, &Chord::names());
                    wrong.push((line, name, format!("`{key}` is no key"), meant));
                }
            }
        }
        // A verb whose key is another's gets its defaults back; that may meet a third one.
        while let Some((at, (key, other))) = (0..own.len()).rev().find_map(|at| Some((at, keys.taken(own.get(at)?.0)?)))
        {
            let (row, line) = own.remove(at);
            let name = VERBS.get(row).map(Verb::id).unwrap_or_default();
            let message = format!("`{key}` is already the key of {other}; give that another one first");
            wrong.push((line, name, message, None));
            if let (Some(place), Some(back)) = (keys.of.get_mut(row), Self::default().of.into_iter().nth(row)) {
                *place = back;
            }
        }
        wrong.sort_by_key(|(line, ..)| *line);
        (keys, wrong)
    }

    /// A key of this row that is another verb's too, or podium's own, and whose.
    fn taken(&self, row: usize) -> Option<(String, String)> {
        let place = own(VERBS.get(row)?.place);
        let mine = self.of.get(row)?;
        let leave = VERBS.get(row).is_some_and(|verb| verb.action == Action::Leave);
        if let Some((_, key)) = mine.iter().find(|(chord, _)| chord.is("ctrl-c") && !leave) {
            return Some((key.clone(), "leave, always".to_owned()));
        }
        VERBS.iter().zip(&self.of).enumerate().find_map(|(n, (verb, keys))| {
            let shared = |(chord, _): &&(Chord, String)| n != row && keys.iter().any(|(other, _)| other == chord);
            let (_, key) = mine.iter().find(shared).filter(|_| own(verb.place) == place)?;
            Some((key.clone(), verb.id()))
        })
    }

    /// The action of a key of a place that has keys of its own.
    pub fn action_in(&self, chord: Chord, place: Place) -> Option<Action> {
        let mut rows = VERBS.iter().zip(&self.of).filter(|(verb, _)| verb.place == place);
        rows.find(|(_, keys)| keys.iter().any(|(key, _)| *key == chord)).map(|(verb, _)| verb.action)
    }

    /// The action of a key: of the places that have keys of their own those in `here` are asked first, in this order.
    pub fn action(&self, chord: Chord, here: &[Place]) -> Option<Action> {
        let at = |place: Option<Place>| {
            let mut rows = VERBS.iter().zip(&self.of).filter(|(verb, _)| own(verb.place) == place);
            rows.find(|(_, keys)| keys.iter().any(|(key, _)| *key == chord)).map(|(verb, _)| verb.action)
        };
        here.iter().find_map(|place| at(Some(*place))).or_else(|| at(None))
    }

    /// The keys of a verb, as they are written; empty where it has none.
    pub fn of(&self, action: Action) -> String {
        let row = VERBS.iter().position(|verb| verb.action == action);
        let keys = row.and_then(|row| self.of.get(row)).into_iter().flatten();
        keys.map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The first key of a verb; without any, the way to it through the palette.
    pub fn first(&self, action: Action) -> &str {
        let row = VERBS.iter().position(|verb| verb.action == action);
        let first = row.and_then(|row| self.of.get(row)?.first());
        first.map_or(":", |(_, key)| key.as_str())
    }

    /// A text of ours in which `<verb-id>` stands for the key of that verb: `<group> makes some`.
    pub fn told(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('<') {
            out.push_str(before);
            let named = tail.split_once('>').and_then(|(id, after)| {
                let verb = VERBS.iter().find(|verb| verb.id() == id)?;
                Some((self.first(verb.action), after))
            });
            let (key, after) = named.unwrap_or(("<", tail));
            out.push_str(key);
            rest = after;
        }
        out + rest
    }

    /// A line of hints, `r retry · 4 log`, with the keys that are in force here.
    pub fn retold(&self, hints: &str, here: &[Place]) -> String {
        let usual = |place: Option<Place>, key: &str| {
            VERBS.iter().find(|verb| own(verb.place) == place && verb.keys.contains(&key))
        };
        let told = hints.split(" · ").map(|hint| {
            let (key, rest) = hint.split_once(' ').unwrap_or((hint, ""));
            let verb = here.iter().find_map(|place| usual(Some(*place), key)).or_else(|| usual(None, key));
            let key = verb.map_or(key, |verb| self.first(verb.action));
            if rest.is_empty() { key.to_owned() } else { format!("{key} {rest}") }
        });
        told.collect::<Vec<_>>().join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(chord: Chord, here: &[Place]) -> Option<Action> {
        Keys::default().action(chord, here)
    }

    fn changed(changes: &[(&str, &[&str])]) -> (Keys, Vec<String>) {
        let own = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect());
        let changes = (1..).zip(changes).map(|(line, (verb, keys))| (line, (*verb).to_owned(), own(keys))).collect();
        let (keys, wrong) = Keys::changed(changes);
        (keys, wrong.into_iter().map(|(line, verb, message, _)| format!("{line} {verb}: {message}")).collect())
    }

    #[test]
    fn a_key_goes_to_another_verb_and_its_own_is_free() {
        let (keys, wrong) = changed(&[("retry", &["f5", "ctrl-r"]), ("palette", &[]), ("commands", &[";"])]);
        assert_eq!(wrong, ["2 palette: there is no such verb"]);
        let does = |key: &str| keys.action(Chord::parse(key).unwrap(), &[]);
        assert_eq!((does("f5"), does("ctrl-r"), does("r")), (Some(Action::Retry), Some(Action::Retry), None));
        assert_eq!((does(";"), does(":")), (Some(Action::Palette), None));
        assert_eq!(keys.of(Action::Retry), "f5 ctrl-r");
        assert_eq!(
            keys.retold("r retry · 4 log · esc back · ↑↓ scroll", &[]),
            "f5 retry · 4 log · esc back · ↑↓ scroll"
        );
    }

    #[test]
    fn two_verbs_may_change_keys_and_one_may_not_take_anothers() {
        let (keys, wrong) = changed(&[("retry", &["p"]), ("pause", &["r"])]);
        assert_eq!(wrong, [] as [&str; 0]);
        assert_eq!((keys.first(Action::Retry), keys.first(Action::Pause)), ("p", "r"));
        let (keys, wrong) = changed(&[("retry", &["p"]), ("cancel", &["ctrl-c"])]);
        assert_eq!(
            wrong,
            [
                "1 retry: `p` is already the key of pause; give that another one first",
                "2 cancel: `ctrl-c` is already the key of leave, always; give that another one first"
            ]
        );
        assert_eq!(keys, Keys::default());
    }

    #[test]
    fn every_verb_can_be_named_in_a_file() {
        let ids: std::collections::BTreeSet<_> = VERBS.iter().map(Verb::id).collect();
        assert_eq!(ids.len(), VERBS.len(), "two verbs of one name");
        assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{ids:?}");
    }

    #[test]
    fn shift_is_read_alike_from_every_terminal() {
        for key in [
            KeyEvent::new(KeyCode::Char('G'), KeyModifiers::NONE),
            KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT),
            KeyEvent::new(KeyCode::Char('g'), KeyModifiers::SHIFT),
        ] {
            assert_eq!(action(Chord::of(key), &[]), Some(Action::Bottom));
        }
        for key in
            [KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT), KeyEvent::new(KeyCode::Tab, KeyModifiers::SHIFT)]
        {
            assert_eq!(action(Chord::of(key), &[]), Some(Action::FocusPrevious));
        }
    }

    #[test]
    fn n_is_the_next_hit_only_while_there_is_a_search() {
        let n = Chord::parse("n").unwrap();
        assert_eq!(action(n, &[Place::Found, Place::Reading]), Some(Action::SearchNext));
        assert_eq!(action(n, &[Place::Reading]), Some(Action::NextNeed));
        let o = Chord::parse("o").unwrap();
        assert_eq!(action(o, &[Place::Reading]), Some(Action::Pager));
        assert_eq!(action(o, &[]), Some(Action::Report));
    }
}
