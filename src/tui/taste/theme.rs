//! A theme as it is written: roles, each with its words.

use toml::de::{DeTable, DeValue};

use super::{
    colour::{self, Depth},
    kind, table,
};
use crate::{
    model::slip::{Slip, nearest, position},
    tui::theme::{BUILT_IN, Role, Theme},
};

/// Puts into `theme` what the file says; a role that is wrong stays as it is.
pub(in crate::tui) fn read(file: &str, text: &str, depth: Depth, theme: &mut Theme) -> Vec<Slip> {
    let mut slips = Vec::new();
    let Some(table) = table(file, text, &mut slips) else { return slips };
    let mut reading = Reading { file, text, depth, slips };
    let table = table.get_ref();
    // The base comes first and the sixteen last, wherever they stand.
    if let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == "base") {
        let base = value.get_ref().as_str();
        if let Some(base) = base.and_then(|base| Theme::built_in(base, depth)) {
            *theme = base;
        } else {
            let known = BUILT_IN.map(|(name, _)| name);
            let meant = base.and_then(|base| nearest(base, &known));
            reading.slip(name.span().start, "base", format!("is one of {}", known.join(", ")), meant);
        }
    }
    reading.roles("", table, theme, true);
    if let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == "sixteen") {
        match value.get_ref() {
            DeValue::Table(sixteen) => reading.roles("sixteen.", sixteen, theme, depth <= Depth::Sixteen),
            other => {
                let message = format!("is a table of roles, not {}", kind(other));
                reading.slip(name.span().start, "sixteen", message, None);
            }
        }
    }
    reading.slips.sort_by_key(|slip| slip.line);
    reading.slips
}

struct Reading<'a> {
    file: &'a str,
    text: &'a str,
    depth: Depth,
    slips: Vec<Slip>,
}

impl Reading<'_> {
    fn slip(&mut self, at: usize, key: &str, message: String, nearest: Option<String>) {
        let line = position(self.text, at).0;
        self.slips.push(Slip { file: self.file.to_owned(), line, key: key.to_owned(), message, nearest });
    }

    fn roles(&mut self, within: &str, table: &DeTable<'_>, theme: &mut Theme, counts: bool) {
        for (name, value) in table {
            let (at, word) = (name.span().start, name.get_ref().as_ref());
            if within.is_empty() && ["base", "sixteen"].contains(&word) {
                continue;
            }
            let key = format!("{within}{word}");
            let Some((role, _)) = Role::ALL.iter().find(|(_, known)| *known == word) else {
                let known = Role::ALL.map(|(_, name)| name);
                let message = format!("there is no such role; known are {}", known.join(", "));
                self.slip(at, &key, message, nearest(word, &known));
                continue;
            };
            match value.get_ref().as_str().map(|words| colour::style(words, self.depth)) {
                Some(Ok(style)) if counts => theme.set(*role, style),
                Some(Ok(_)) => {}
                Some(Err((wrong, known))) => {
                    let message = format!("`{wrong}` is no colour and no style here");
                    self.slip(at, &key, message, nearest(&wrong, &known));
                }
                None => {
                    let message = format!("is words such as \"green bold\", not {}", kind(value.get_ref()));
                    self.slip(at, &key, message, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::{Color, Modifier, Style};

    use super::*;

    const DEPTHS: [Depth; 4] = [Depth::None, Depth::Sixteen, Depth::Many, Depth::True];

    #[test]
    fn what_is_built_in_says_every_role_and_has_no_slip() {
        for (name, text) in BUILT_IN {
            for depth in DEPTHS {
                assert_eq!(read(name, text, depth, &mut Theme::bare()), [], "{name}");
            }
            for (_, role) in Role::ALL {
                assert!(text.contains(&format!("\n{role} = ")), "{name} does not say {role}");
            }
        }
    }

    /// How much brighter one colour is than another, from 1 to 21, as the guidelines for readable pages count.
    fn contrast(a: Color, b: Color) -> f64 {
        let luminance = |color| {
            let (r, g, b) = colour::rgb(color).unwrap();
            let [r, g, b] = [r, g, b].map(|part| {
                let part = f64::from(part) / 255.0;
                if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
            });
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_role_of_a_theme_with_a_ground_can_be_read_on_it() {
        for (name, least) in [("dark", 4.5), ("light", 4.5), ("contrast", 7.0)] {
            for depth in [Depth::Many, Depth::True] {
                let theme = Theme::built_in(name, depth).unwrap();
                let text = theme.written(Role::Text);
                let selected = theme.style(Role::Selected);
                assert!(selected.fg.is_none(), "{name}: a row under the hand keeps its inks");
                for (role, word) in Role::ALL {
                    let style = theme.style(role);
                    let (ink, ground) = (style.fg.or(text.fg).unwrap(), style.bg.or(text.bg).unwrap());
                    assert!(contrast(ink, ground) >= least, "{name}: {word}: {:.1}", contrast(ink, ground));
                    if let Some(under) = selected.bg.filter(|_| style.bg.is_none()) {
                        // The row under the hand is read as well as any other; 240 colours come only so near.
                        let least = if depth == Depth::True { 4.5 } else { 3.0 };
                        assert!(
                            contrast(ink, under) >= least,
                            "{name}: {word} under the hand: {:.1}",
                            contrast(ink, under)
                        );
                    }
                }
            }
        }
    }

    /// Where sixteen colours are not the operator's own, ink and ground are known too: a row under the hand swaps them.
    #[test]
    fn sixteen_colours_can_be_read_also_on_the_row_under_the_hand() {
        for name in ["dark", "light", "contrast"] {
            let theme = Theme::built_in(name, Depth::Sixteen).unwrap();
            let text = theme.written(Role::Text);
            let selected = theme.style(Role::Selected);
            assert!(selected.add_modifier.contains(Modifier::REVERSED) && selected.bg.is_none(), "{name}");
            for (role, word) in Role::ALL {
                let style = theme.style(role);
                let (ink, ground) = (style.fg.or(text.fg).unwrap(), style.bg.or(text.bg).unwrap());
                assert!(contrast(ink, ground) >= 3.0, "{name}: {word}: {:.1}", contrast(ink, ground));
                assert!(
                    !style.add_modifier.contains(Modifier::DIM),
                    "{name}: {word} is dimmed below what was measured"
                );
            }
        }
    }

    #[test]
    fn the_row_under_the_hand_is_told_from_the_others() {
        for (name, _) in BUILT_IN {
            for depth in [Depth::Sixteen, Depth::Many, Depth::True] {
                let theme = Theme::built_in(name, depth).unwrap();
                let selected = theme.style(Role::Selected);
                let swapped = selected.add_modifier.contains(Modifier::REVERSED);
                let ground = theme.written(Role::Text).bg;
                let apart = selected.bg.zip(ground).is_some_and(|(a, b)| contrast(a, b) >= 1.1);
                assert!(swapped || apart, "{name} {depth:?}: {selected:?} on {ground:?}");
            }
        }
    }

    #[test]
    fn a_theme_with_slips_is_its_base_where_it_is_wrong() {
        let text = "base = \"drak\"\nrunning = \"gren bold\"\nraedy = \"cyan\"\nbad = 7\n[sixteen]\nwarn = \"blue\"\n";
        let (theme, slips) = Theme::read("mine.toml", text, Depth::Sixteen);
        let said: Vec<_> = slips.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "mine.toml:1: base: is one of terminal, dark, light, contrast; did you mean `dark`?",
                "mine.toml:2: running: `gren` is no colour and no style here; did you mean `green`?",
                "mine.toml:3: raedy: there is no such role; known are text, dim, running, ready, good, warn, bad, focus, accent, selected, title, badge, hit; did you mean `ready`?",
                "mine.toml:4: bad: is words such as \"green bold\", not an integer",
            ]
        );
        assert_eq!(theme.style(Role::Running), Theme::default().style(Role::Running));
        assert_eq!(theme.style(Role::Warn), Style::new().fg(Color::Blue), "the sixteen are in force");
        assert_eq!(Theme::read("mine.toml", text, Depth::True).0.style(Role::Warn), Theme::default().style(Role::Warn));
    }

    #[test]
    fn without_colours_every_theme_is_the_plain_one() {
        for (name, _) in BUILT_IN {
            assert_eq!(Theme::built_in(name, Depth::None), Some(Theme::plain()));
        }
        let (mine, _) = Theme::read("mine.toml", "selected = \"on blue\"", Depth::None);
        assert_eq!(mine.style(Role::Selected).add_modifier, Modifier::REVERSED);
    }
}
