//! Workflows: plans that no model wrote, as JSON files that people and older programs write.
//!
//! Owns the file's shape, its markers, what an older file leaves unsaid, and the way back from a plan to a file. Must not
//! know who submits one or what it is approved by. Its one surprise: a marker for another task's result becomes a reference and
//! an input, never that result's words, because what an agent wrote is data and is quoted as such.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::plan::fault;
use crate::model::{Fault, Plan, text};

mod batch;
mod marks;
mod read;
mod write;

pub use batch::{Row, batch};
pub use read::make;
pub use write::write;

/// Tasks that a workflow may have: nobody writes so many by hand, and a roster is not longer.
pub const CAP: usize = 1_000;

/// Bytes of a workflow's file.
pub const LIMIT: usize = 4 << 20;

/// The shape that this version writes.
pub const VERSION: u64 = 1;

/// Values for `{{param.NAME}}`, by name.
pub type Values = BTreeMap<String, String>;

/// A workflow's file, read as far as that it is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow(pub(super) Map<String, Value>);

/// What a workflow comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The goal in words.
    pub text: String,
    /// The plan; it still has to pass [`super::plan::check()`].
    pub plan: Plan,
}

impl Workflow {
    /// Reads a file.
    pub fn read(file: &str) -> Result<Self, Vec<Fault>> {
        let wrong = |message: String| Err(vec![fault("P01", "workflow", message)]);
        match serde_json::from_str(file.trim_start_matches('\u{feff}')) {
            Ok(Value::Object(fields)) if fields.contains_key("tasks") => Ok(Self(fields)),
            Ok(Value::Object(_)) => wrong("has no list named `tasks`".to_owned()),
            Ok(_) => wrong("should be a JSON object".to_owned()),
            Err(error) => wrong(format!("is no JSON: {error}")),
        }
    }

    /// One of these tasks, each as a file would have it.
    pub fn of_tasks(name: &str, tasks: Vec<Map<String, Value>>) -> Self {
        let tasks = tasks.into_iter().map(Value::Object).collect();
        Self(Map::from_iter([("name".to_owned(), Value::from(name)), ("tasks".to_owned(), Value::Array(tasks))]))
    }

    /// A value as a text says it.
    pub fn said(value: &Value) -> String {
        read::said(value)
    }

    /// Whether a field of a task goes by this name.
    pub fn is_task_field(name: &str) -> bool {
        read::is_field(name)
    }

    /// Its name, for a person.
    pub fn name(&self) -> String {
        text::first_line(self.0.get("name").and_then(Value::as_str).unwrap_or_default(), super::plan::TITLE)
    }
}

/// An id as plans have them, out of one that somebody wrote: lower case, and `-` for what may not stand there.
pub fn fold(id: &str) -> String {
    let well_made = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if id.len() <= 48 && id.chars().all(well_made) && !id.starts_with(['-', '_']) {
        return id.to_owned();
    }
    let lower = id.trim().to_lowercase();
    let plain = lower.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' });
    let folded: String = plain.skip_while(|c| matches!(c, '-' | '_')).take(48).collect();
    folded.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests;
