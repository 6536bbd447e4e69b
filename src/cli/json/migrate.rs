//! What `podium migrate` has moved, or would.

use serde::Serialize;

use crate::{model::Standing, runtime::migrate::Report};

/// The answer of `podium migrate`.
#[derive(Debug, Serialize)]
pub struct Migrated<'a> {
    /// `nats` or `files`.
    to: &'static str,
    server: &'a str,
    dry_run: bool,
    /// A move that was cut short was given up.
    given_up: bool,
    tasks: Vec<TaskJson>,
    /// How many of them an earlier try had moved.
    before: usize,
    files: usize,
    bytes: u64,
    aside: Option<String>,
    warning: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct TaskJson {
    id: String,
    standing: &'static str,
}

/// Where a task stands, in a word.
pub fn standing_word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waiting",
        Standing::Claimed => "claimed",
        Standing::Running { .. } => "running",
        Standing::Retrying { .. } => "retrying",
        Standing::Asking { .. } => "asking",
        Standing::Ended => "ended",
    }
}

impl<'a> Migrated<'a> {
    /// As JSON.
    pub fn new(report: &'a Report, comes_home: bool) -> Self {
        let task = |(task, standing): &(crate::model::TaskRef, Standing)| TaskJson {
            id: task.to_string(),
            standing: standing_word(standing),
        };
        Self {
            to: if comes_home { "files" } else { "nats" },
            server: &report.server,
            dry_run: report.dry_run,
            given_up: report.given_up,
            tasks: report.tasks.iter().map(task).collect(),
            before: report.before,
            files: report.files,
            bytes: report.bytes,
            aside: report.aside.as_ref().map(|path| path.display().to_string()),
            warning: report.warning.as_deref(),
        }
    }
}
