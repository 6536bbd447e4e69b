//! Colours as they are written, and as a terminal with fewer of them shows them.

use std::str::FromStr as _;

use ratatui::style::{Color, Modifier, Style};

/// How many colours a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// None, or they are not wanted.
    None,
    /// Its own sixteen.
    Sixteen,
    /// 256.
    Many,
    /// All.
    True,
}

/// The sixteen by the names that a theme may use.
pub const NAMES: [(&str, Color); 16] = [
    ("black", Color::Black),
    ("red", Color::Red),
    ("green", Color::Green),
    ("yellow", Color::Yellow),
    ("blue", Color::Blue),
    ("magenta", Color::Magenta),
    ("cyan", Color::Cyan),
    ("gray", Color::Gray),
    ("dark-gray", Color::DarkGray),
    ("light-red", Color::LightRed),
    ("light-green", Color::LightGreen),
    ("light-yellow", Color::LightYellow),
    ("light-blue", Color::LightBlue),
    ("light-magenta", Color::LightMagenta),
    ("light-cyan", Color::LightCyan),
    ("white", Color::White),
];

/// What the sixteen look like where nobody has changed them (xterm).
const SIXTEEN: [(u8, u8, u8); 16] = [
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
    (127, 127, 127),
    (255, 0, 0),
    (0, 255, 0),
    (255, 255, 0),
    (92, 92, 255),
    (255, 0, 255),
    (0, 255, 255),
    (255, 255, 255),
];

const MODIFIERS: [(&str, Modifier); 5] = [
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underlined", Modifier::UNDERLINED),
    ("reversed", Modifier::REVERSED),
];

/// Reads `#a3d977 on black bold`; otherwise the word that is wrong, and what may stand there.
pub(super) fn style(text: &str, depth: Depth) -> Result<Style, (String, Vec<&'static str>)> {
    let mut style = Style::new();
    let mut ground = false;
    for word in text.split_whitespace() {
        if word == "on" && !ground {
            ground = true;
        } else if let Some((_, modifier)) = MODIFIERS.iter().find(|(name, _)| *name == word).filter(|_| !ground) {
            style = style.add_modifier(*modifier);
        } else if let Some(color) = color(word) {
            let color = shown(color, depth);
            style = if std::mem::take(&mut ground) { style.bg(color) } else { style.fg(color) };
        } else {
            let modifiers = MODIFIERS.iter().filter(|_| !ground).map(|(name, _)| *name);
            let known = NAMES.iter().map(|(name, _)| *name).chain(modifiers).collect();
            return Err((word.to_owned(), known));
        }
    }
    if ground { Err(("on".to_owned(), Vec::new())) } else { Ok(style) }
}

fn color(word: &str) -> Option<Color> {
    if let Some((_, color)) = NAMES.iter().find(|(name, _)| *name == word) {
        return Some(*color);
    }
    // Only what cannot be taken for a misspelt name.
    let exact = word.starts_with('#') || word.chars().all(|c| c.is_ascii_digit());
    Color::from_str(word).ok().filter(|_| exact)
}

/// The colour that a terminal of this depth can show.
pub(in crate::tui) fn shown(color: Color, depth: Depth) -> Color {
    match (color, depth) {
        (Color::Rgb(..), Depth::Many) => rgb(color).map_or(color, |rgb| Color::Indexed(indexed(rgb))),
        (Color::Rgb(..) | Color::Indexed(16..), Depth::Sixteen | Depth::None) => {
            let Some(rgb) = rgb(color) else { return color };
            let nearest = (0..16).min_by_key(|n| SIXTEEN.get(*n).map_or(u32::MAX, |known| distance(*known, rgb)));
            nearest.and_then(|n| NAMES.get(n)).map_or(color, |(_, color)| *color)
        }
        _ => color,
    }
}

/// Red, green and blue of a colour; `None` is the terminal's own ink or ground.
pub fn rgb(color: Color) -> Option<(u8, u8, u8)> {
    match color {
        Color::Reset => None,
        Color::Rgb(r, g, b) => Some((r, g, b)),
        Color::Indexed(n @ 0..16) => SIXTEEN.get(usize::from(n)).copied(),
        Color::Indexed(n @ 16..232) => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = n - 16;
            Some((level(n / 36), level(n / 6 % 6), level(n % 6)))
        }
        Color::Indexed(n) => {
            let gray = 8 + 10 * (n - 232);
            Some((gray, gray, gray))
        }
        named => NAMES.iter().position(|(_, known)| *known == named).and_then(|n| SIXTEEN.get(n)).copied(),
    }
}

/// The nearest of the 240 colours that terminals agree about.
fn indexed(to: (u8, u8, u8)) -> u8 {
    (16..=255).min_by_key(|n| rgb(Color::Indexed(*n)).map_or(u32::MAX, |known| distance(known, to))).unwrap_or(16)
}

fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> u32 {
    let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
    // Eyes tell greens apart best.
    3 * square(a.0, b.0) + 6 * square(a.1, b.1) + square(a.2, b.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_is_words_and_the_first_wrong_one_is_named() {
        let style = |text| style(text, Depth::True).map_err(|(word, _)| word);
        assert_eq!(
            style("#ff0000 on 17 bold"),
            Ok(Style::new().fg(Color::Rgb(255, 0, 0)).bg(Color::Indexed(17)).add_modifier(Modifier::BOLD))
        );
        assert_eq!(style(""), Ok(Style::new()));
        assert_eq!(style("gren bold"), Err("gren".into()));
        assert_eq!(style("red on"), Err("on".into()));
        assert_eq!(style("red on bold"), Err("bold".into()));
        assert_eq!(style("#12345"), Err("#12345".into()));
        assert_eq!(style("300"), Err("300".into()));
    }

    #[test]
    fn fewer_colours_are_the_nearest_there_are() {
        assert_eq!(shown(Color::Rgb(250, 5, 3), Depth::Sixteen), Color::LightRed);
        assert_eq!(shown(Color::Indexed(46), Depth::Sixteen), Color::LightGreen);
        assert_eq!(shown(Color::Rgb(95, 135, 175), Depth::Many), Color::Indexed(67));
        assert_eq!(shown(Color::Green, Depth::Sixteen), Color::Green);
        assert_eq!(shown(Color::Rgb(1, 2, 3), Depth::True), Color::Rgb(1, 2, 3));
    }
}
