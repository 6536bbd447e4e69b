//! The rows of a ledger, read: by day, each once.
//!
//! Needs no room and changes nothing. Its one surprise: a row counts once even where it was written twice, known by its
//! own id and by the server's ids of request and message.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, ErrorKind},
    path::PathBuf,
};

use jiff::{Timestamp, civil::Date};
use serde::de::DeserializeOwned;

use super::{Kind, LedgerError, at, day};
use crate::model::{
    AttemptRef,
    gateway::{Call, EngineTotal},
};

/// A folder with rows.
#[derive(Debug, Clone)]
pub struct Rows {
    dir: PathBuf,
}

impl Rows {
    /// The rows in this folder, which need not be there.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub(super) fn path(&self, kind: Kind, day: Date) -> PathBuf {
        self.dir.join(kind.file(day))
    }

    pub(super) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// The days from `first` on of which there is something, the oldest first.
    pub fn days(&self, first: Date) -> Result<Vec<Date>, LedgerError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&self.dir)(error)),
        };
        let mut days = Vec::new();
        for entry in entries {
            let name = entry.map_err(at(&self.dir))?.file_name();
            let day = |name: &str| {
                let day = name.strip_prefix("calls-").or_else(|| name.strip_prefix("engines-"))?;
                day.strip_suffix(".jsonl")?.parse::<Date>().ok()
            };
            days.extend(name.to_str().and_then(day).filter(|day| *day >= first));
        }
        days.sort_unstable();
        days.dedup();
        Ok(days)
    }

    /// Every call that began on a day, in the order of their ends.
    pub fn calls(&self, day: Date, mut each: impl FnMut(Call)) -> Result<(), LedgerError> {
        let hasher = RandomState::new();
        let (mut ids, mut messages) = (HashSet::new(), HashSet::new());
        self.lines(Kind::Calls, day, |call: Call| {
            // Two halves of a hash each: the chance that two of a million rows meet is one in 10^26.
            let hash = |text: &str| (hasher.hash_one(text), hasher.hash_one((text, 1_u8)));
            let server = match (&call.request_id, &call.message_id) {
                (Some(request), Some(message)) => Some(hash(&format!("{request} {message}"))),
                (Some(_) | None, _) => None,
            };
            if ids.insert(hash(&call.id)) && server.is_none_or(|server| messages.insert(server)) {
                each(call);
            }
        })
    }

    /// What engines said on a day about attempts that ended on it; the last word of each, in the order of their ends.
    pub fn engines(&self, day: Date) -> Result<Vec<EngineTotal>, LedgerError> {
        let mut last: BTreeMap<AttemptRef, EngineTotal> = BTreeMap::new();
        self.lines(Kind::Engines, day, |total: EngineTotal| {
            last.insert(total.attempt.clone(), total);
        })?;
        let mut all: Vec<EngineTotal> = last.into_values().collect();
        all.sort_by_key(|total| total.at);
        Ok(all)
    }

    /// Every call that began at or after `since`, the oldest day first.
    pub fn read(&self, since: Timestamp) -> Result<Vec<Call>, LedgerError> {
        let mut calls = Vec::new();
        for day in self.days(day(since))? {
            self.calls(day, |call| calls.extend(Some(call).filter(|call| call.at >= since)))?;
        }
        Ok(calls)
    }

    /// Every whole row of a file. Rows that are torn or damaged are left out and counted in the log.
    fn lines<T: DeserializeOwned>(&self, kind: Kind, day: Date, mut each: impl FnMut(T)) -> Result<(), LedgerError> {
        let path = self.path(kind, day);
        let mut lines = match File::open(&path) {
            Ok(file) => BufReader::with_capacity(1 << 16, file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(&path)(error)),
        };
        let (mut line, mut damaged) = (Vec::new(), 0_u32);
        while lines.read_until(b'\n', &mut line).map_err(at(&path))? > 0 {
            match serde_json::from_slice::<T>(&line) {
                Ok(row) => each(row),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => damaged += 1,
            }
            line.clear();
        }
        if damaged > 0 {
            tracing::warn!(path = %path.display(), damaged, "ledger rows could not be read and were left out");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Ledger, sample::call},
        *,
    };

    #[test]
    fn a_row_that_was_written_twice_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let first = call("1", "2026-11-21T00:00:01Z");
        let said = |id: &str, request: &str, message: Option<&str>| {
            let mut call = call(id, "2026-11-21T00:00:02Z");
            call.request_id = Some(request.to_owned());
            call.message_id = message.map(str::to_owned);
            call
        };
        let rows = [
            first.clone(),
            first.clone(),
            said("2", "req_a", Some("msg_a")),
            said("3", "req_a", Some("msg_a")),
            // Another message, or one that nobody named, is another call.
            said("4", "req_a", Some("msg_b")),
            said("5", "req_a", None),
            said("6", "req_a", None),
        ];
        for row in &rows {
            ledger.append(row).unwrap();
        }
        let read = ledger.rows().read(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(read.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(), ["1", "2", "4", "5", "6"]);
    }

    #[test]
    fn rows_of_earlier_versions_are_read_and_new_ones_are_no_longer_than_they_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"id":"1","at":"2026-11-21T00:00:01Z","millis":12,"caller":{"caller":"worker","agent":"marie","attempt":{"task":"marie/x","n":2}},"session_id":"s","subagent":null,"model":"claude-opus-5-5","end":"complete","usage":{"input_tokens":7,"output_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"cache_creation_1h_input_tokens":0},"cost":28,"estimated":false,"request_id":"req_1"}"#;
        fs::write(dir.path().join("calls-2026-11-21.jsonl"), format!("{old}\n")).unwrap();
        let read = Rows::new(dir.path()).read(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(read[0].attempt().unwrap().to_string(), "marie/x#2");
        assert_eq!(serde_json::to_string(&read[0]).unwrap(), old);
        assert!(Rows::new(dir.path().join("nowhere")).days(Date::MIN).unwrap().is_empty());
    }
}
