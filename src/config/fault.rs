//! What is wrong with a configuration: where, which key, and what was probably meant.

use std::{fmt, io, ops::Range, path::PathBuf};

use super::Source;
pub use crate::model::slip::nearest;
pub(super) use crate::model::slip::position;

/// Why there is no configuration. Nothing is started with one that has a fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or an environment variable says something that cannot be.
    #[error("{}", list(.0))]
    Invalid(Vec<Fault>),
    /// A file is there and could not be read.
    #[error("could not read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The stage that was named is no folder.
    #[error("there is no folder {path} (named by {named_by}); `podium init {path}` makes a stage")]
    NoStage {
        /// What was named.
        path: PathBuf,
        /// By what.
        named_by: Source,
    },
    /// No home folder, so there is no place for the default stage.
    #[error("no home folder is known, so there is no default stage; name one with --stage")]
    NoHome,
}

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which file or variable.
    pub place: Place,
    /// What is wrong, a sentence that names the key.
    pub message: String,
    /// The key or word that was probably meant.
    pub nearest: Option<String>,
}

/// Where a fault lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// On the command line.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Turns what serde says about a file into a fault with its place, its section and the nearest known word.
pub(super) fn from_toml(path: PathBuf, text: &str, error: &toml::de::Error) -> Fault {
    let span: Range<usize> = error.span().unwrap_or_default();
    let (line, column) = position(text, span.start);
    let place = Place::File { path, line, column };
    let said = error.message().lines().next().unwrap_or_default();
    let quoted: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
    let (first, known) = match quoted.split_first() {
        Some((first, known)) => (*first, known),
        None => ("", [].as_slice()),
    };
    let section = section(text, span.start);
    let inside = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
    if said.starts_with("unknown field") {
        let message = match known {
            known if line_at(text, span.start).starts_with('[') => {
                format!("unknown section [{first}]; known are {}", known.join(", "))
            }
            [] => format!("unknown key `{first}`{inside}"),
            known => format!("unknown key `{first}`{inside}; known are {}", known.join(", ")),
        };
        return Fault { place, message, nearest: nearest(first, known) };
    }
    if said.starts_with("unknown variant") {
        let key = key(text, span.start);
        let message = format!("{key} = \"{first}\"{inside} is none of {}", known.join(", "));
        return Fault { place, message, nearest: nearest(first, known) };
    }
    let key = key(text, span.start);
    let message = if key.is_empty() { said.to_owned() } else { format!("{key}{inside}: {said}") };
    Fault { place, message, nearest: None }
}

/// The header above an offset: `agents.marie`; empty at the top.
fn section(text: &str, offset: usize) -> String {
    let mut at = 0;
    let mut found = String::new();
    for line in text.split_inclusive('\n') {
        if at > offset {
            break;
        }
        at += line.len();
        if let Some(name) = line.trim().strip_prefix('[').and_then(|l| l.split(']').next()) {
            // A value may be a list that starts its line; a header is a bare or dotted key.
            if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._-\"".contains(c)) {
                name.trim_matches('[').clone_into(&mut found);
            }
        }
    }
    found
}

/// The line an offset lies on.
fn line_at(text: &str, offset: usize) -> &str {
    text.lines().nth(position(text, offset).0 - 1).unwrap_or_default()
}

/// The key on the line of an offset; empty when the line is no `key = value`.
fn key(text: &str, offset: usize) -> String {
    line_at(text, offset)
        .split_once('=')
        .map(|(key, _)| key.trim().to_owned())
        .filter(|key| !key.starts_with('#'))
        .unwrap_or_default()
}
