//! Money: what a model call costs, and one durable row per call.
//!
//! Owns the price table ([`Prices`]) and the rows on disk ([`Ledger`]). Must not know HTTP, buckets or rooms. Its one
//! surprise: a row whose writer died in the middle is skipped when reading, and closed with a line end before the next
//! row is written, so that one torn line never costs a second one. A row that the disk does not take is kept and
//! written before the next.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::model::gateway::Call;

pub mod prices;

pub use prices::{Priced, Prices, PricesError};

/// Why the ledger could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file or folder did not let itself be opened, read or written.
    #[error("use the ledger file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A row that does not become JSON.
    #[error("write a call as JSON")]
    Row(#[from] serde_json::Error),
}

/// The rows on disk: `{dir}/calls-YYYY-MM-DD.jsonl`, one file per UTC day of the call's begin, readable by its owner only.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    /// The day being written and its file, positioned at the end.
    open: Option<(Date, File)>,
    /// Rows that the disk would not take, oldest first.
    kept: VecDeque<(Date, Vec<u8>)>,
}

impl Ledger {
    /// Opens the ledger in `dir`, which is made (0700) when absent.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LedgerError> {
        let dir = dir.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(at(&dir))?;
        Ok(Self::of(dir))
    }

    /// The ledger in `dir` for whoever only reads it; empty where there is no such folder.
    pub fn of(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), open: None, kept: VecDeque::new() }
    }

    /// Appends one row with one write; it survives the end of this process, not a loss of power. Where the disk does not
    /// take it, it is kept in memory and written before the next one.
    pub fn append(&mut self, call: &Call) -> Result<(), LedgerError> {
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        self.kept.push_back((day(call.at), line));
        self.write_kept()
    }

    /// Rows that the disk has not taken yet.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Tries again to write what was kept.
    pub fn write_kept(&mut self) -> Result<(), LedgerError> {
        while let Some((day, line)) = self.kept.pop_front() {
            if let Err(error) = self.write(day, &line) {
                self.kept.push_front((day, line));
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&mut self, day: Date, line: &[u8]) -> Result<(), LedgerError> {
        let path = self.path(day);
        let file = match &mut self.open {
            Some((open, file)) if *open == day => file,
            other => &mut other.insert((day, open_for_append(&path).map_err(at(&path))?)).1,
        };
        let written = file.write_all(line).map_err(at(&path));
        if written.is_err() {
            // What reached the disk is unknown: look at the end again before the next row.
            self.open = None;
        }
        written
    }

    /// Reads every whole row of calls that began at or after `since`, oldest file first. Rows that are torn or damaged
    /// are left out and counted in the log.
    pub fn read(&self, since: Timestamp) -> Result<Vec<Call>, LedgerError> {
        let first = day(since);
        let mut days: Vec<Date> = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&self.dir))?,
        };
        for entry in entries {
            let name = entry.map_err(at(&self.dir))?.file_name();
            let day = |name: &str| name.strip_prefix("calls-")?.strip_suffix(".jsonl")?.parse::<Date>().ok();
            let found = name.to_str().and_then(day);
            days.extend(found.filter(|day| *day >= first));
        }
        days.sort_unstable();
        let mut calls = Vec::new();
        for day in days {
            let path = self.path(day);
            let mut lines = BufReader::new(File::open(&path).map_err(at(&path))?);
            let (mut line, mut damaged) = (Vec::new(), 0_u32);
            while lines.read_until(b'\n', &mut line).map_err(at(&path))? > 0 {
                match serde_json::from_slice::<Call>(&line) {
                    Ok(call) if call.at >= since => calls.push(call),
                    Ok(_) => {}
                    Err(_) if line.trim_ascii().is_empty() => {}
                    Err(_) => damaged += 1,
                }
                line.clear();
            }
            if damaged > 0 {
                tracing::warn!(path = %path.display(), damaged, "ledger rows could not be read and were left out");
            }
        }
        Ok(calls)
    }

    fn path(&self, day: Date) -> PathBuf {
        self.dir.join(format!("calls-{day}.jsonl"))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::File { path, source }
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Opens a day's file; a torn last line gets its line end.
fn open_for_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::{
        MicroUsd, Usage,
        gateway::{CallEnd, Caller},
    };

    fn call(id: &str, at: &str) -> Call {
        Call {
            id: id.to_owned(),
            at: at.parse().unwrap(),
            millis: 12,
            caller: Caller::Orchestrator { goal: None },
            session_id: Some("s".to_owned()),
            subagent: None,
            model: "claude-opus-5-5".to_owned(),
            end: CallEnd::Complete,
            usage: Usage { input_tokens: 7, ..Usage::default() },
            cost: MicroUsd(28),
            estimated: false,
            request_id: Some("req_1".to_owned()),
        }
    }

    #[test]
    fn rows_come_back_in_order_by_day_and_only_since_the_asked_moment() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path().join("a/b")).unwrap();
        let rows =
            [call("1", "2026-11-20T23:59:59Z"), call("2", "2026-11-21T00:00:01Z"), call("3", "2026-11-21T12:00:00Z")];
        for row in &rows {
            ledger.append(row).unwrap();
        }
        assert_eq!(ledger.read(Timestamp::UNIX_EPOCH).unwrap(), rows);
        assert_eq!(ledger.read("2026-11-21T00:00:02Z".parse().unwrap()).unwrap(), rows[2..]);
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ledger.path(day(rows[0].at))), 0o600);
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
    }

    #[test]
    fn a_torn_last_line_costs_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let rows = [call("1", "2026-11-21T00:00:01Z"), call("2", "2026-11-21T00:00:02Z")];
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.append(&rows[0]).unwrap();
        let path = ledger.path(day(rows[0].at));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(br#"{"id":"torn","at":"2026"#).unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.read(Timestamp::UNIX_EPOCH).unwrap(), rows[..1]);
        ledger.append(&rows[1]).unwrap();
        assert_eq!(ledger.read(Timestamp::UNIX_EPOCH).unwrap(), rows);
    }
}
