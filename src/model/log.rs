//! Which log, and where in it.

use std::fmt;

use super::{AgentName, AttemptRef, TaskRef};

/// One log on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Whose.
    pub agent: AgentName,
    /// The task's id, where the file's place tells it.
    pub task: Option<String>,
    /// The attempt, where the file's place tells it.
    pub attempt: Option<u32>,
    /// The file, relative to the stage.
    pub path: String,
}

impl LogId {
    /// The log of an attempt, at `path`.
    pub fn of(attempt: &AttemptRef, path: &str) -> Self {
        Self {
            agent: attempt.task.agent.clone(),
            task: Some(attempt.task.id.to_string()),
            attempt: Some(attempt.n),
            path: path.to_owned(),
        }
    }
}

/// `marie/eval-junior#2`.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.agent)?;
        if let Some(task) = &self.task {
            write!(f, "/{task}")?;
        }
        if let Some(n) = self.attempt {
            write!(f, "#{n}")?;
        }
        Ok(())
    }
}

/// Which logs are read together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogScope {
    /// One log.
    One(LogId),
    /// All attempts of a task.
    Task(TaskRef),
    /// Everything of an agent.
    Agent(AgentName),
    /// Everything.
    All,
}

/// A line of a log. It stays what it is whatever is written later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogPlace {
    /// The file, relative to the stage.
    pub path: String,
    /// Where the source line starts, in bytes.
    pub offset: u64,
    /// Which of the lines made of it, from 0.
    pub nth: u32,
}
