//! What came of a task: the content of its result file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CostSource, Ending, GoalId, MicroUsd, TaskRef, Usage};

/// How a task ended, once and for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// A result event, no error flag, exit 0 and a non-empty answer.
    Done,
    /// The agent or its engine said no, and another attempt would not help.
    Failed,
    /// A person ended it.
    Cancelled,
    /// It ran out of time.
    TimedOut,
    /// It was not started in time.
    Expired,
    /// Something it depends on did not end well.
    Skipped,
    /// It used up its attempts.
    Dead,
}

impl EndState {
    /// The word in result files and on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
        }
    }
}

/// A file an attempt left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Path relative to the stage.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Where a copy of it as it was then is kept, relative to the stage; its file may be written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// What came of a task. [`Outcome::attempt`] is the attempt that decided, 0 when none was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which task.
    pub task: TaskRef,
    /// How it ended.
    pub state: EndState,
    /// How its last attempt ended.
    pub ending: Ending,
    /// The attempt that decided; 0 when none was started.
    pub attempt: u32,
    /// The answer, or why there is none.
    pub summary: String,
    /// Single findings, where the agent listed them.
    pub findings: Vec<String>,
    /// Files made.
    pub artifacts: Vec<Artifact>,
    /// When the first attempt started, or the task was ended.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Timestamp,
    /// Tokens of all attempts.
    pub usage: Usage,
    /// Cost of all attempts.
    pub cost: MicroUsd,
    /// Where `cost` comes from.
    pub cost_source: CostSource,
    /// The model that answered.
    pub model: Option<String>,
    /// The engine's session.
    pub session_id: Option<String>,
    /// The goal it served.
    pub goal: Option<GoalId>,
    /// Written by somebody else, not by podium.
    #[serde(default)]
    pub foreign: bool,
}

impl Outcome {
    /// The end of a task in so many words: no attempt decided it, nothing was made and nothing was spent.
    pub fn plain(task: TaskRef, state: EndState, ending: Ending, at: Timestamp) -> Self {
        Self {
            task,
            state,
            summary: ending.sentence(),
            ending,
            attempt: 0,
            findings: Vec::new(),
            artifacts: Vec::new(),
            started_at: at,
            completed_at: at,
            usage: Usage::default(),
            cost: MicroUsd::default(),
            cost_source: CostSource::default(),
            model: None,
            session_id: None,
            goal: None,
            foreign: false,
        }
    }

    /// The same with its texts cut to `limit` bytes, for a picture that must stay small.
    #[must_use]
    pub fn clipped(mut self, limit: usize) -> Self {
        self.summary = super::text::clip(&self.summary, limit).into_owned();
        self.findings.truncate(20);
        for finding in &mut self.findings {
            *finding = super::text::clip(finding, 400).into_owned();
        }
        self.artifacts.truncate(50);
        self
    }
}
