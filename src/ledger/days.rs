//! What a whole day has left of lasting interest, kept beside its rows so that a room with a million of them opens at once.
//!
//! Owns the summary and its file. Must not know rooms. Its one surprise: the file is nothing but a shortcut; it is believed
//! only while the rows have the length and the time that it names, and where it is gone the rows are read.

use std::{collections::BTreeMap, fs, io::Write as _, os::unix::fs::MetadataExt as _, path::PathBuf};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Kind, LedgerError, Rows};
use crate::model::{GoalId, Spend, TaskRef, gateway::Caller};

/// Sums over the calls of one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaySum {
    /// All of it.
    pub total: Spend,
    /// By task.
    pub tasks: BTreeMap<TaskRef, Spend>,
    /// By goal: the orchestrator's own calls for it.
    pub goals: BTreeMap<GoalId, Spend>,
}

/// Length and time of a file of rows: bytes, seconds, nanoseconds.
type Mark = Option<(u64, i64, i64)>;

/// The summary on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Of the calls, and of what engines said.
    of: [Mark; 2],
    sum: DaySum,
}

const VERSION: u32 = 2;

impl Rows {
    /// A day's sums; to `keep` those of a day that is over saves reading its rows again. A disk that does not take them costs
    /// nothing but that time.
    pub fn sum(&self, day: Date, keep: bool) -> Result<DaySum, LedgerError> {
        let path = self.dir().join(format!("sum-{day}.json"));
        let of = [Kind::Calls, Kind::Engines].map(|kind| mark(&self.path(kind, day)));
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        if let Some(kept) = kept.filter(|kept| kept.version == VERSION && kept.of == of) {
            return Ok(kept.sum);
        }
        let sum = self.sum_up(day)?;
        // Rows that were written meanwhile are not in it.
        if keep && of == [Kind::Calls, Kind::Engines].map(|kind| mark(&self.path(kind, day))) {
            let kept = Kept { version: VERSION, of, sum };
            if let Err(error) = write(self, &path, &kept) {
                tracing::debug!(%error, %day, "a day's sums could not be kept");
            }
            return Ok(kept.sum);
        }
        Ok(sum)
    }

    fn sum_up(&self, day: Date) -> Result<DaySum, LedgerError> {
        let mut sum = DaySum::default();
        self.calls(day, |call| {
            let spend = call.spend();
            sum.total += spend;
            match call.caller {
                Caller::Worker { attempt: Some(attempt), .. } => *sum.tasks.entry(attempt.task).or_default() += spend,
                Caller::Orchestrator { goal: Some(goal) } => *sum.goals.entry(goal).or_default() += spend,
                Caller::Worker { attempt: None, .. } | Caller::Orchestrator { goal: None } => {}
            }
        })?;
        for total in self.engines(day)? {
            // An engine counts where nobody else does.
            if sum.tasks.get(&total.attempt.task).is_none_or(|spend| spend.calls == 0) {
                let spend = Spend { calls: 0, estimated: total.spend.cost, ..total.spend };
                sum.total += spend;
                *sum.tasks.entry(total.attempt.task).or_default() += spend;
            }
        }
        Ok(sum)
    }
}

fn mark(path: &PathBuf) -> Mark {
    let found = fs::metadata(path).ok()?;
    Some((found.len(), found.mtime(), found.mtime_nsec()))
}

fn write(rows: &Rows, path: &PathBuf, kept: &Kept) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(rows.dir())?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write as _};

    use super::{
        super::{Ledger, sample},
        *,
    };
    use crate::model::{MicroUsd, gateway::EngineTotal};

    const DAY: &str = "2026-11-21";

    fn ledger(dir: &std::path::Path) -> Ledger {
        let mut ledger = Ledger::open(dir).unwrap();
        for n in 1..=3 {
            let mut call = sample::call(&n.to_string(), &format!("{DAY}T00:00:0{n}Z"));
            call.caller = if n == 3 {
                Caller::Orchestrator { goal: Some("g1".parse().unwrap()) }
            } else {
                let task: TaskRef = "marie/x".parse().unwrap();
                Caller::Worker { agent: task.agent.clone(), attempt: Some(task.attempt(1)) }
            };
            ledger.append(&call).unwrap();
        }
        for task in ["marie/x", "anga/login"] {
            let task: TaskRef = task.parse().unwrap();
            let spend = Spend { cost: MicroUsd(500), calls: 4, ..Spend::default() };
            let at = format!("{DAY}T01:00:00Z").parse().unwrap();
            ledger.append_total(&EngineTotal { at, attempt: task.attempt(1), spend }).unwrap();
        }
        ledger
    }

    #[test]
    fn a_days_sums_are_those_of_its_rows_with_and_without_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let rows = ledger(dir.path()).rows().clone();
        let day: Date = DAY.parse().unwrap();
        let file = dir.path().join(format!("sum-{DAY}.json"));
        let sum = rows.sum(day, false).unwrap();
        assert!(!file.exists());
        let costs: Vec<_> =
            sum.tasks.iter().map(|(task, s)| (task.to_string(), s.cost.0, s.estimated.0, s.calls)).collect();
        assert_eq!(costs, [("anga/login".to_owned(), 500, 500, 0), ("marie/x".to_owned(), 56, 0, 2)]);
        assert_eq!((sum.total.cost.0, sum.total.estimated.0, sum.total.calls), (584, 500, 3));
        assert_eq!(sum.goals.values().map(|s| s.cost.0).collect::<Vec<_>>(), [28]);
        assert_eq!(rows.sum(day, true).unwrap(), sum);
        assert!(file.exists());
        assert_eq!(rows.sum(day, true).unwrap(), sum);
        // It is really what is read: and only as long as the rows are the same.
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("500", "501")).unwrap();
        assert_ne!(rows.sum(day, true).unwrap(), sum);
        let path = rows.path(Kind::Calls, day);
        let line = fs::read_to_string(&path).unwrap().lines().next().unwrap().replace(r#""id":"1""#, r#""id":"9""#);
        writeln!(OpenOptions::new().append(true).open(&path).unwrap(), "{line}").unwrap();
        assert_eq!(rows.sum(day, true).unwrap().tasks[&"marie/x".parse().unwrap()].calls, 3);
        // Damaged or gone, it costs nothing.
        fs::write(&file, "{").unwrap();
        assert_eq!(rows.sum(day, true).unwrap().tasks.len(), 2);
        fs::remove_file(&file).unwrap();
        assert_eq!(rows.sum(day, true).unwrap().tasks.len(), 2);
    }
}
