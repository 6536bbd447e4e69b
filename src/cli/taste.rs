//! How this operator's screen is to look: their files beside `podium.toml`, and what the terminal says of itself.
//!
//! Owns where those files lie. Must not know what they mean: `tui::taste` does. Its one surprise: a file that cannot be
//! read or is wrong is told of and otherwise as if it said nothing; a control room is not kept closed for a colour.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;

use super::Trouble;
use crate::{
    config::Env,
    model::slip::{Slip, nearest},
    tui::{
        self, Theme,
        taste::{Depth, Powers, Taste},
        theme::BUILT_IN,
    },
};

/// The file that says how the screen looks.
const FILE: &str = "screen.toml";

/// What the operator's files say.
pub(super) struct Files {
    /// Where the file is, or would be.
    pub(super) path: Option<PathBuf>,
    /// Whether it is there.
    pub(super) exists: bool,
    taste: Taste,
    theme: Theme,
    /// The name of the theme in force.
    pub(super) name: String,
    /// What is wrong, each with its line.
    pub(super) slips: Vec<Slip>,
}

/// The screen as this operator wants it in this terminal.
pub(super) fn settings(env: &Env, ascii: bool) -> Result<tui::Settings, Trouble> {
    let powers = Powers::read(|name| env.text(name).map(str::to_owned)).map_err(Trouble::Wrong)?;
    let files = files(env, powers.depth, powers.light);
    let mut words = Vec::new();
    if let Some(first) = files.slips.first() {
        let more = files.slips.len() - 1;
        words.push(if more == 0 { first.to_string() } else { format!("{first} (and {more} more: `podium doctor`)") });
    }
    // Whoever chose ASCII knows.
    let chosen = ascii || files.taste.ascii.is_some();
    words.extend(powers.words.into_iter().filter(|word| !(chosen && word.starts_with("in ASCII"))));
    Ok(tui::Settings {
        ascii: ascii || files.taste.ascii.unwrap_or(!powers.unicode),
        theme: files.theme,
        keys: files.taste.keys,
        mouse: files.taste.mouse,
        zone: TimeZone::system(),
        words,
        attention: tui::Attention::default(),
    })
}

/// Reads the operator's files.
pub(super) fn files(env: &Env, depth: Depth, light: bool) -> Files {
    let path = env.config_dir.as_ref().map(|dir| dir.join(FILE));
    let mut slips = Vec::new();
    let text = path.as_deref().and_then(|path| read(path, &mut slips));
    let exists = text.is_some();
    let file = path.as_deref().map_or_else(|| FILE.to_owned(), |path| path.display().to_string());
    let (said, wrong) = Taste::read(&file, text.as_deref().unwrap_or_default());
    slips.extend(wrong);
    let usual = if light { "light" } else { "terminal" };
    let (name, line) = said.theme.clone().unwrap_or((usual.to_owned(), 0));
    let (theme, name) = if let Some(found) = theme(env.config_dir.as_deref(), &name, depth, &mut slips) {
        (found, name)
    } else {
        let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).chain(own(env)).collect();
        let message = format!("there is no theme {name}; there are {}", known.join(", "));
        slips.push(Slip { file, line, key: "theme".to_owned(), message, nearest: nearest(&name, &known) });
        (Theme::built_in(usual, depth).unwrap_or_default(), usual.to_owned())
    };
    Files { path, exists, taste: said, theme, name, slips }
}

/// A theme by its name: built in, or the operator's own.
pub(super) fn theme(folder: Option<&Path>, name: &str, depth: Depth, slips: &mut Vec<Slip>) -> Option<Theme> {
    if let Some(theme) = Theme::built_in(name, depth) {
        return Some(theme);
    }
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    let path = folder.filter(|_| plain)?.join("themes").join(name).with_added_extension("toml");
    let text = read(&path, slips)?;
    let (theme, wrong) = Theme::read(&path.display().to_string(), &text, depth);
    slips.extend(wrong);
    Some(theme)
}

/// The names of the operator's own themes.
fn own(env: &Env) -> Vec<String> {
    let folder = env.config_dir.as_ref().map(|dir| dir.join("themes"));
    let entries = folder.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn read(path: &Path, slips: &mut Vec<Slip>) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let (file, message) = (path.display().to_string(), format!("could not be read: {error}"));
            slips.push(Slip { file, line: 1, key: String::new(), message, nearest: None });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::Role;

    fn env(root: &Path, screen: &str, vars: &[(&str, &str)]) -> Env {
        let env = Env::at(root, vars);
        let folder = env.config_dir.clone().unwrap();
        fs::create_dir_all(folder.join("themes")).unwrap();
        fs::write(folder.join(FILE), screen).unwrap();
        fs::write(folder.join("themes/dusk.toml"), "base = \"dark\"\nrunning = \"#123456\"\nbda = \"red\"\n").unwrap();
        env
    }

    const RICH: [(&str, &str); 3] = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("LANG", "C.UTF-8")];

    #[test]
    fn a_theme_of_their_own_is_in_force_and_its_slip_is_said_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&env(dir.path(), "theme = \"dusk\"\nmouse = true\n", &RICH), false).unwrap();
        assert!(settings.mouse && !settings.ascii);
        let running = settings.theme.style(Role::Running).fg.unwrap();
        assert_eq!(running.to_string(), "#123456");
        assert_eq!(settings.theme.style(Role::Bad), Theme::built_in("dark", Depth::True).unwrap().style(Role::Bad));
        let words = settings.words.concat();
        assert!(words.contains("themes/dusk.toml:3: bda: ") && words.contains("did you mean `bad`?"), "{words}");
    }

    #[test]
    fn a_theme_that_is_not_there_is_named_with_the_nearest_and_the_usual_one_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        for (name, meant) in [("dusc", "dusk"), ("lihgt", "light")] {
            let env = env(dir.path(), &format!("# mine\ntheme = \"{name}\"\n"), &RICH);
            let settings = settings(&env, false).unwrap();
            assert_eq!(settings.theme, Theme::built_in("terminal", Depth::True).unwrap());
            let words = settings.words.concat();
            assert!(words.contains("screen.toml:2: theme: there is no theme"), "{words}");
            assert!(words.contains(&format!("did you mean `{meant}`?")), "{words}");
        }
        let outside = env(dir.path(), "theme = \"../screen\"\n", &RICH);
        assert!(settings(&outside, false).unwrap().words.concat().contains("there is no theme"));
    }

    #[test]
    fn what_the_terminal_lacks_is_drawn_without_and_said_unless_it_was_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let poor = [("TERM", "vt100"), ("LANG", "C")];
        let told = settings(&env(dir.path(), "", &poor), false).unwrap();
        assert!(told.ascii && told.theme == Theme::plain());
        assert_eq!(told.words, ["without colours: TERM=vt100", "in ASCII: LANG=C names no UTF-8"]);
        let chosen = settings(&env(dir.path(), "ascii = false\n", &poor), false).unwrap();
        assert!(!chosen.ascii && chosen.words == ["without colours: TERM=vt100"]);
        let light = [RICH.as_slice(), &[("COLORFGBG", "0;15")]].concat();
        assert_eq!(
            settings(&env(dir.path(), "", &light), false).unwrap().theme,
            Theme::built_in("light", Depth::True).unwrap()
        );
        assert!(settings(&env(dir.path(), "", &[("TERM", "dumb")]), false).is_err());
    }
}
