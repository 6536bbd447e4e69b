//! From a key event to a verb.
//!
//! Its one surprise: terminals disagree about shift. A letter is known by the letter alone (`G`, not shift-g), and
//! shift-tab arrives as a key of its own.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::{Action, Place, VERBS, Verb};

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
            "f1" => KeyCode::F(1),
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

    /// Whether it is this key, as [`Chord::parse`] reads it.
    pub fn is(self, text: &str) -> bool {
        Self::parse(text) == Some(self)
    }
}

/// The action of a key: of the places that have keys of their own those in `here` are asked first, in this order.
pub fn action(chord: Chord, here: &[Place]) -> Option<Action> {
    let at = |place: Option<Place>| {
        let of = |v: &&Verb| place.map_or(!v.place.has_keys_of_its_own(), |place| v.place == place);
        VERBS.iter().filter(of).find(|v| v.keys.iter().any(|k| chord.is(k))).map(|v| v.action)
    };
    here.iter().find_map(|place| at(Some(*place))).or_else(|| at(None))
}

#[cfg(test)]
mod tests {
    use super::*;

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
