//! Money: what a model call costs, and one durable row per call.
//!
//! Owns the price table ([`Prices`]), the rows on disk ([`Ledger`]) and how they are read ([`Rows`]). Must not know HTTP,
//! buckets or rooms. Its one surprise: a row whose writer died in the middle is skipped when reading, and closed with a
//! line end before the next row is written, so that one torn line never costs a second one. A row that the disk does not
//! take is kept and written before the next.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Serialize;

use crate::model::gateway::{Call, EngineTotal};

pub mod days;
pub mod prices;
pub mod rows;
#[cfg(test)]
pub(crate) mod sample;
pub mod usage;

pub use days::DaySum;
pub use prices::{Priced, Prices, PricesError};
pub use rows::Rows;

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

/// What a file of the ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Model calls.
    Calls,
    /// What engines said that their attempts have used.
    Engines,
}

impl Kind {
    fn file(self, day: Date) -> String {
        match self {
            Self::Calls => format!("calls-{day}.jsonl"),
            Self::Engines => format!("engines-{day}.jsonl"),
        }
    }
}

/// The rows on disk: `{dir}/calls-YYYY-MM-DD.jsonl`, one file per UTC day of the call's begin, readable by its owner only.
#[derive(Debug)]
pub struct Ledger {
    rows: Rows,
    /// The file being written, positioned at the end.
    open: Option<(Kind, Date, File)>,
    /// Rows that the disk would not take, oldest first.
    kept: VecDeque<(Kind, Date, Vec<u8>)>,
}

impl Ledger {
    /// Opens the ledger in `dir`, which is made (0700) when absent.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LedgerError> {
        let dir = dir.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(at(&dir))?;
        Ok(Self { rows: Rows::new(dir), open: None, kept: VecDeque::new() })
    }

    /// What is written.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Appends one row with one write; it survives the end of this process, not a loss of power. Where the disk does not
    /// take it, it is kept in memory and written before the next one.
    pub fn append(&mut self, call: &Call) -> Result<(), LedgerError> {
        self.line(Kind::Calls, call.at, call)
    }

    /// The same for what an engine says about its attempt.
    pub fn append_total(&mut self, total: &EngineTotal) -> Result<(), LedgerError> {
        self.line(Kind::Engines, total.at, total)
    }

    fn line(&mut self, kind: Kind, at: Timestamp, row: &impl Serialize) -> Result<(), LedgerError> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.kept.push_back((kind, day(at), line));
        self.write_kept()
    }

    /// Rows that the disk has not taken yet.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Tries again to write what was kept.
    pub fn write_kept(&mut self) -> Result<(), LedgerError> {
        while let Some((kind, day, line)) = self.kept.pop_front() {
            if let Err(error) = self.write(kind, day, &line) {
                self.kept.push_front((kind, day, line));
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&mut self, kind: Kind, day: Date, line: &[u8]) -> Result<(), LedgerError> {
        let path = self.rows.path(kind, day);
        let file = match &mut self.open {
            Some((open, of, file)) if (*open, *of) == (kind, day) => file,
            other => &mut other.insert((kind, day, open_for_append(&path).map_err(at(&path))?)).2,
        };
        let written = file.write_all(line).map_err(at(&path));
        if written.is_err() {
            // What reached the disk is unknown: look at the end again before the next row.
            self.open = None;
        }
        written
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

    use super::{sample::call, *};

    #[test]
    fn rows_come_back_in_order_by_day_and_only_since_the_asked_moment() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path().join("a/b")).unwrap();
        let rows =
            [call("1", "2026-11-20T23:59:59Z"), call("2", "2026-11-21T00:00:01Z"), call("3", "2026-11-21T12:00:00Z")];
        for row in &rows {
            ledger.append(row).unwrap();
        }
        assert_eq!(ledger.rows().read(Timestamp::UNIX_EPOCH).unwrap(), rows);
        assert_eq!(ledger.rows().read("2026-11-21T00:00:02Z".parse().unwrap()).unwrap(), rows[2..]);
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ledger.rows().path(Kind::Calls, day(rows[0].at))), 0o600);
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
    }

    #[test]
    fn a_torn_last_line_costs_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let rows = [call("1", "2026-11-21T00:00:01Z"), call("2", "2026-11-21T00:00:02Z")];
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.append(&rows[0]).unwrap();
        let path = ledger.rows().path(Kind::Calls, day(rows[0].at));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(br#"{"id":"torn","at":"2026"#).unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.rows().read(Timestamp::UNIX_EPOCH).unwrap(), rows[..1]);
        ledger.append(&rows[1]).unwrap();
        assert_eq!(ledger.rows().read(Timestamp::UNIX_EPOCH).unwrap(), rows);
    }
}
