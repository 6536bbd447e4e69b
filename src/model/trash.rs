//! What a person asks of a task from outside the room, and what they threw away.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TaskRef;

/// What anyone may ask for by leaving a marker beside the tasks, also while no room runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// End the task.
    Cancel,
    /// Start it again.
    Retry,
}

impl Request {
    /// The word, also the ending of the marker's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }
}

/// What can be thrown away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A task with its attempts and its result.
    Task(TaskRef),
    /// A file that had been set aside; where it lay, relative to the stage.
    File(String),
}

/// Something in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What it is.
    pub item: Item,
    /// A task's title, or why a file had been set aside.
    pub title: String,
    /// When it was thrown away.
    pub at: Timestamp,
}
