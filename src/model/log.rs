//! Logs as data: which there are, places in them, lines as they are read, what is asked for and what comes of it.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AgentName, AttemptRef, TaskRef};

/// What a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The agent's words.
    Text,
    /// A tool call or its answer.
    Tool,
    /// A sub-agent begins or ends.
    Agent,
    /// Something failed or was refused.
    Error,
    /// The engine's own notes.
    System,
    /// What could not be read.
    Raw,
}

impl Kind {
    /// The word on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Tool => "tool",
            Self::Agent => "agent",
            Self::Error => "error",
            Self::System => "system",
            Self::Raw => "raw",
        }
    }
}

/// Which kinds are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Show {
    /// All.
    #[default]
    All,
    /// What agents say.
    Said,
    /// What they do: tools, sub-agents.
    Done,
    /// What sub-agents are for, and how they end.
    Helpers,
    /// What went wrong.
    Errors,
}

impl Show {
    /// The words on screen; nothing where everything is shown.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Said => Some("only what is said"),
            Self::Done => Some("only tools"),
            Self::Helpers => Some("only sub-agents"),
            Self::Errors => Some("only errors"),
        }
    }

    /// The next selection, going round.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::All => Self::Said,
            Self::Said => Self::Done,
            Self::Done => Self::Helpers,
            Self::Helpers => Self::Errors,
            Self::Errors => Self::All,
        }
    }

    /// Whether a line is shown; `depth` tells a sub-agent's words from the agent's own.
    pub fn has(self, kind: Kind, depth: u8) -> bool {
        match (self, kind) {
            (Self::All, _)
            | (Self::Said, Kind::Text)
            | (Self::Done, Kind::Tool | Kind::Agent)
            | (Self::Helpers, Kind::Agent)
            | (Self::Errors, Kind::Error) => true,
            (Self::Helpers, _) => depth > 0,
            (Self::Said | Self::Done | Self::Errors, _) => false,
        }
    }
}

/// One log on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogPlace {
    /// The file, relative to the stage.
    pub path: String,
    /// Where the source line starts, in bytes.
    pub offset: u64,
    /// Which of the lines made of it, from 0.
    pub nth: u32,
}

/// What of which logs is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReading {
    /// Which logs.
    pub scope: LogScope,
    /// As it lies on disk.
    pub raw: bool,
    /// Which kinds.
    pub show: Show,
}

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFrom {
    /// At the beginning.
    Start,
    /// So that the place lies in the middle.
    Around(LogPlace),
    /// The same for a line that a search has found, with its text.
    Hit(LogPlace, String),
    /// At the end, and go on as more is written.
    End,
}

/// One line for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// What it is.
    pub kind: Kind,
    /// Indentation: 0 in the main loop, 1 in a sub-agent, and so on.
    pub depth: u8,
    /// Cleaned, without line breaks, at most 4,000 bytes unless more was asked for.
    pub text: String,
    /// Where its source line starts in the log, in bytes.
    pub offset: u64,
}

/// A line, whose it is and when it was written, where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedLine {
    /// The log.
    #[serde(with = "shared")]
    pub log: Arc<LogId>,
    /// When.
    pub at: Option<Timestamp>,
    /// Which of the lines of its source line.
    pub nth: u32,
    /// The line.
    pub line: LogLine,
}

impl TimedLine {
    /// Where it is.
    pub fn place(&self) -> LogPlace {
        LogPlace { path: self.log.path.clone(), offset: self.line.offset, nth: self.nth }
    }
}

/// Some lines in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// In their order.
    pub lines: Vec<TimedLine>,
    /// It replaces what was read before.
    pub whole: bool,
    /// Which of the lines was asked for.
    pub here: Option<usize>,
    /// There is nothing before it.
    pub starts: bool,
    /// Bytes between the part before and this one that were passed over.
    pub skipped: u64,
    /// Bytes after it that were not read.
    pub below: u64,
    /// Files it is about.
    pub files: usize,
}

/// A line that a search has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHit {
    /// In which log.
    #[serde(with = "shared")]
    pub log: Arc<LogId>,
    /// When it was written, where that is known.
    pub at: Option<Timestamp>,
    /// What it is.
    pub kind: Kind,
    /// A sub-agent's.
    pub nested: bool,
    /// Where its source line starts, in bytes.
    pub offset: u64,
    /// Which of the lines of that source line that match, from 0.
    pub nth: u32,
    /// The line as it is read, cut around the match.
    pub text: String,
}

impl LogHit {
    /// Where it is.
    pub fn place(&self) -> LogPlace {
        LogPlace { path: self.log.path.clone(), offset: self.offset, nth: self.nth }
    }

    /// The line as the log shows it.
    pub fn line(&self) -> TimedLine {
        let depth = u8::from(self.nested);
        let line = LogLine { kind: self.kind, depth, text: self.text.clone(), offset: self.offset };
        TimedLine { log: self.log.clone(), at: self.at, nth: self.nth, line }
    }
}

/// What a search has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSum {
    /// Files looked at.
    pub files: usize,
    /// Bytes looked at.
    pub bytes: u64,
    /// Lines that match.
    pub hits: usize,
    /// It ended at the most hits that were wanted, or because it was stopped.
    pub cut: bool,
}

/// A range of lines to be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRange {
    /// Of which logs, read how.
    pub reading: LogReading,
    /// The first line; `None` begins at the beginning.
    pub from: Option<LogPlace>,
    /// The last line; `None` goes on to the end.
    pub to: Option<LogPlace>,
    /// The line that is looked at.
    pub here: Option<LogPlace>,
    /// With time and kind before each line.
    pub headed: bool,
}

/// A log that many lines share, written as if each had its own.
mod shared {
    use super::{Arc, Deserialize, LogId, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(log: &Arc<LogId>, to: S) -> Result<S::Ok, S::Error> {
        log.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<LogId>, D::Error> {
        LogId::deserialize(from).map(Arc::new)
    }
}
