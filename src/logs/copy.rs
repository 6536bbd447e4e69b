//! A range of a log as a text file: what the clipboard, a pager or an editor gets.
//!
//! Its one surprise: nobody is ever given a log itself. What is handed on is cleaned, as on screen, and a copy.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Stream;
use crate::model::{
    LogPlace, LogScope,
    log::{LogFrom, LogRange},
    text,
};

/// Bytes of a copy at most.
const MOST: usize = 64 << 20;

/// Text that is kept for the clipboard: terminals take little more.
const CLIPBOARD: usize = 74_000;

/// Copies kept; the oldest go.
const KEPT: usize = 20;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Where it lies.
    pub path: PathBuf,
    /// Its lines.
    pub lines: usize,
    /// Its bytes.
    pub bytes: u64,
    /// The text, where it is short enough for a clipboard.
    pub text: Option<String>,
    /// In which of its lines the place that is looked at is, from 1.
    pub here: usize,
    /// There is more than a copy may hold.
    pub cut: bool,
}

/// Writes a range into a new file of `folder`.
pub fn copy(stage: &Path, range: &LogRange, folder: &Path, stop: &dyn Fn() -> bool) -> io::Result<Copied> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (path, file) = fresh(folder, &name(range))?;
    let mut out = BufWriter::new(file);
    let mut stream = Stream::open(stage, range.reading.clone());
    let mut copied = Copied { path, lines: 0, bytes: 0, text: Some(String::new()), here: 1, cut: false };
    let from = range.from.clone().map_or(LogFrom::Start, LogFrom::Around);
    let many = !matches!(range.reading.scope, LogScope::One(_));
    let mut wrote = Ok(());
    let mut begun = range.from.is_none();
    stream.everything(&from, true, stop, &mut |line| {
        let reached =
            |place: &LogPlace| line.log.path == place.path && (line.line.offset, line.nth) >= (place.offset, place.nth);
        begun |= range.from.as_ref().is_some_and(reached);
        if !begun {
            return true;
        }
        let is_last = range.to.as_ref().is_some_and(reached);
        let indent = "  ".repeat(usize::from(line.line.depth));
        let head = if range.headed {
            let at = line.at.map(|at| at.strftime("%F %T").to_string()).unwrap_or_default();
            let log = if many { format!("{:<28} ", line.log.to_string()) } else { String::new() };
            format!("{at:<19} {log}{:<6} ", line.line.kind.word())
        } else {
            String::new()
        };
        let text = format!("{head}{indent}{}\n", line.line.text);
        if copied.bytes + text.len() as u64 > MOST as u64 {
            copied.cut = true;
            return false;
        }
        copied.lines += 1;
        copied.bytes += text.len() as u64;
        if range
            .here
            .as_ref()
            .is_some_and(|here| line.log.path == here.path && (line.line.offset, line.nth) <= (here.offset, here.nth))
        {
            copied.here = copied.lines;
        }
        if let Some(all) = &mut copied.text {
            all.push_str(&text);
        }
        if copied.text.as_ref().is_some_and(|all| all.len() > CLIPBOARD) {
            copied.text = None;
        }
        wrote = out.write_all(text.as_bytes());
        wrote.is_ok() && !is_last
    });
    wrote?;
    out.flush()?;
    Ok(copied)
}

/// `eval-junior.2`.
fn name(range: &LogRange) -> String {
    match &range.reading.scope {
        LogScope::One(id) => {
            let task = id.task.as_deref().unwrap_or(id.agent.as_str());
            id.attempt.map_or_else(|| task.to_owned(), |n| format!("{task}.{n}"))
        }
        LogScope::Task(task) => task.id.to_string(),
        LogScope::Agent(agent) => agent.to_string(),
        LogScope::All => "all".to_owned(),
    }
}

/// A new file; where there are many the oldest goes.
fn fresh(folder: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let name: String =
        text::clip(name, 80).chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let mut copies: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    copies.sort();
    for (_, old) in copies.iter().take(copies.len().saturating_sub(KEPT - 1)) {
        // One that stays takes a little room; it keeps nobody from copying.
        let _stays = fs::remove_file(old);
    }
    for n in 1_u32.. {
        let path = folder.join(format!("{name}-{n}.txt"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
