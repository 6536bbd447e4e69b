//! What the terminal can show, as its variables say.
//!
//! Its one surprise: what is missing is said in words once, because an operator who sees no colours wonders why.

use super::Depth;

/// What a terminal can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Powers {
    /// Its colours.
    pub depth: Depth,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
    /// Whether its ground is light, where it says so.
    pub light: bool,
    /// What is missing, and why that is believed.
    pub words: Vec<String>,
}

/// Terminals that show every colour and do not say so in their name.
const TRUE: [&str; 7] = ["kitty", "alacritty", "foot", "wezterm", "ghostty", "direct", "contour"];

impl Powers {
    /// Reads `TERM`, `COLORTERM`, `COLORFGBG`, `NO_COLOR` and the locale. The error is a sentence: nothing can be drawn.
    pub fn read(env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        if term.is_empty() || term == "dumb" {
            let is = if term.is_empty() { "TERM is not set".to_owned() } else { format!("TERM={term}") };
            return Err(format!(
                "{is}: this terminal cannot place text; `podium status` and `podium logs` need no screen"
            ));
        }
        let mut words = Vec::new();
        let colourless = term.starts_with("vt") || term.ends_with("-m") || term.ends_with("-mono");
        let depth = if set("NO_COLOR").is_some() {
            Depth::None
        } else if colourless {
            words.push(format!("without colours: TERM={term}"));
            Depth::None
        } else if set("COLORTERM").is_some_and(|name| name == "truecolor" || name == "24bit")
            || TRUE.iter().any(|name| term.contains(name))
        {
            Depth::True
        } else if term.contains("256color") {
            Depth::Many
        } else {
            Depth::Sixteen
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| Some((name, set(name)?)));
        let unicode = locale.as_ref().is_some_and(|(_, value)| {
            let value = value.to_ascii_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        });
        if !unicode {
            let is = locale.map_or_else(|| "LANG is not set".to_owned(), |(name, value)| format!("{name}={value}"));
            words.push(format!("in ASCII: {is} names no UTF-8"));
        }
        // Ink and ground as numbers of the sixteen: `0;15`, `15;default;0`.
        let ground = set("COLORFGBG").and_then(|value| value.rsplit(';').next()?.parse::<u8>().ok());
        let light = ground.is_some_and(|n| n == 7 || (9..=15).contains(&n));
        Ok(Self { depth, unicode, light, words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Powers, String> {
        Powers::read(|name| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn colours_are_as_many_as_the_terminal_says() {
        for (vars, depth) in [
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")][..], Depth::True),
            (&[("TERM", "xterm-kitty")], Depth::True),
            (&[("TERM", "screen-256color")], Depth::Many),
            (&[("TERM", "linux")], Depth::Sixteen),
            (&[("TERM", "vt220")], Depth::None),
            (&[("TERM", "xterm-mono")], Depth::None),
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], Depth::None),
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "")], Depth::Many),
        ] {
            assert_eq!(read(vars).unwrap().depth, depth, "{vars:?}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_its_reason() {
        let poor = read(&[("TERM", "vt100"), ("LANG", "C")]).unwrap();
        assert_eq!(poor.words, ["without colours: TERM=vt100", "in ASCII: LANG=C names no UTF-8"]);
        let odd = read(&[("TERM", "xterm"), ("LC_ALL", "POSIX"), ("LANG", "C.UTF-8")]).unwrap();
        assert!(!odd.unicode && odd.words == ["in ASCII: LC_ALL=POSIX names no UTF-8"]);
        let rich = read(&[("TERM", "xterm"), ("LANG", "fr_FR.utf8")]).unwrap();
        assert!(rich.unicode && rich.words.is_empty());
        assert!(read(&[("TERM", "dumb")]).unwrap_err().contains("podium status"));
        assert!(read(&[]).unwrap_err().contains("TERM is not set"));
    }

    #[test]
    fn a_light_ground_is_believed_where_it_is_said() {
        let light = |value| read(&[("TERM", "xterm"), ("COLORFGBG", value)]).unwrap().light;
        assert!(light("0;15") && light("0;default;15") && light("0;7"));
        assert!(!light("15;0") && !light("7;8") && !light("default") && !light(""));
    }
}
