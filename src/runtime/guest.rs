//! A program in the screen's terminal that is not podium: a pager, an editor.
//!
//! Owns which program that is and the modes around it. Its one surprise: the program may leave the terminal in any state, or die;
//! what is put back afterwards are the modes from before the screen took it, and only then are they taken again.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::process::{Child, Command};

use crate::tui::{
    Guest,
    terminal::{self, Modes, Screen},
};

/// Programs that understand `+N` as the line to begin at.
const BEGIN_AT: [&str; 14] =
    ["less", "more", "most", "vi", "vim", "nvim", "view", "nano", "emacs", "emacsclient", "kak", "micro", "joe", "mg"];

/// Who is to get the terminal.
#[derive(Debug)]
pub(super) struct Visitor {
    /// One of the operator's own programs.
    pub(super) program: Guest,
    /// What it shows.
    pub(super) file: PathBuf,
    /// At this line, where it can.
    pub(super) line: usize,
}

/// A program that has the terminal.
#[derive(Debug)]
pub(super) struct Visit {
    child: Child,
    name: String,
    before: Modes,
}

impl Visit {
    /// Gives the terminal back and starts the program.
    pub(super) fn begin(visitor: Visitor) -> anyhow::Result<Self> {
        terminal::restore();
        let before = Modes::now().context("could not read the terminal's modes")?;
        let Visitor { program: guest, file, line } = visitor;
        let words = program(guest, |name| std::env::var_os(name));
        let name = words.first().cloned().unwrap_or_default();
        let mut command = Command::new(&name);
        command.args(words.iter().skip(1)).kill_on_drop(true);
        let short = Path::new(&name).file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if BEGIN_AT.contains(&short) && line > 1 {
            command.arg(format!("+{line}"));
        }
        let child = command.arg(file).spawn().with_context(|| format!("could not start {name}"))?;
        Ok(Self { child, name, before })
    }

    /// Waits until the program has ended; tells what is to be said about it.
    pub(super) async fn ended(&mut self) -> Option<String> {
        match self.child.wait().await {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("{} ended with {status}", self.name)),
            Err(error) => Some(format!("could not wait for {}: {error}", self.name)),
        }
    }

    /// Takes the terminal again, however it was left.
    pub(super) fn end(&self) -> io::Result<Screen> {
        self.before.set_again()?;
        terminal::enter()
    }
}

/// The program and its first arguments.
fn program(guest: Guest, env: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    let (names, usual): (&[&str], &str) = match guest {
        Guest::Pager => (&["PAGER"], "less"),
        Guest::Editor => (&["VISUAL", "EDITOR"], "vi"),
    };
    let set = names.iter().find_map(|name| env(name)?.into_string().ok().filter(|text| !text.trim().is_empty()));
    set.unwrap_or_else(|| usual.to_owned()).split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_own_program_comes_before_the_usual_one() {
        let env = |name: &str| match name {
            "PAGER" => Some("most -s".into()),
            "VISUAL" => Some("  ".into()),
            "EDITOR" => Some("ed".into()),
            _ => None,
        };
        assert_eq!(program(Guest::Pager, env), ["most", "-s"]);
        assert_eq!(program(Guest::Editor, env), ["ed"]);
        assert_eq!(
            (program(Guest::Pager, |_| None), program(Guest::Editor, |_| None)),
            (vec!["less".into()], vec!["vi".into()])
        );
    }
}
