//! A task: what its file says, and where it stands.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AgentName, Effort, Ending, GoalId, MicroUsd, Outcome, Spend, TaskId, TaskRef, id::IdError};

/// How urgent a task is, 0 (first) to 9 (last); words map to numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// The middle.
    pub const NORMAL: Self = Self(5);

    /// Reads `critical urgent high medium normal low`, in any case, or a number 0 to 9.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "critical" => Some(Self(0)),
            "urgent" => Some(Self(1)),
            "high" => Some(Self(2)),
            "medium" | "normal" => Some(Self::NORMAL),
            "low" => Some(Self(8)),
            number => number.parse().ok().filter(|n| *n <= 9).map(Self),
        }
    }

    /// A step more urgent; `None` at the top.
    pub fn sooner(self) -> Option<Self> {
        match self.0 {
            0 => None,
            1..=3 => Some(Self(0)),
            4..=6 => Some(Self(2)),
            _ => Some(Self::NORMAL),
        }
    }

    /// A step less urgent; `None` at the bottom.
    pub fn later(self) -> Option<Self> {
        match self.0 {
            0 => Some(Self(2)),
            1..=3 => Some(Self::NORMAL),
            4..=6 => Some(Self(8)),
            _ => None,
        }
    }

    /// The word for this number's lane.
    pub fn word(self) -> &'static str {
        match self.0 {
            0 => "critical",
            1 => "urgent",
            2 | 3 => "high",
            4..=6 => "normal",
            _ => "low",
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// A task that must have ended first: `roster`, or `marie/roster` where the agent matters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dependency {
    /// The agent, when the file names it; else the task's own agent first, then any.
    pub agent: Option<AgentName>,
    /// The id.
    pub id: TaskId,
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.agent {
            Some(agent) => write!(f, "{agent}/{}", self.id),
            None => self.id.fmt(f),
        }
    }
}

impl FromStr for Dependency {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.split_once('/') {
            Some((agent, id)) => Ok(Self { agent: Some(agent.parse()?), id: id.parse()? }),
            None => Ok(Self { agent: None, id: text.parse()? }),
        }
    }
}

impl Serialize for Dependency {
    fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dependency {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        String::deserialize(source)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What happens to a task when one of its dependencies did not end well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfFailed {
    /// It ends as skipped.
    #[default]
    Skip,
    /// It runs all the same.
    Run,
}

/// What happens when an attempt's worker vanished and nobody can say how far it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLost {
    /// It is tried again.
    #[default]
    Retry,
    /// A person decides.
    Ask,
}

/// A task as its file says it, every spelling normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Whose it is and its id.
    pub task: TaskRef,
    /// A short name; the first line of the description where the file gives none.
    pub title: String,
    /// What is to be done, in full. Empty means that the task ends at once as failed.
    pub description: String,
    /// What must have ended before.
    pub dependencies: Vec<Dependency>,
    /// What happens when one of them failed.
    pub if_failed: IfFailed,
    /// How urgent.
    pub priority: Priority,
    /// Time allowed per attempt, where the file says so.
    pub timeout: Option<Duration>,
    /// Starts allowed, where the file says so.
    pub max_attempts: Option<u32>,
    /// Not started before, by the wall clock.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Expires unless its first attempt has started this long after it was first seen.
    #[serde(default)]
    pub start_by: Option<Duration>,
    /// Expires when it has not ended by then, by the wall clock.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// Time without a sign of life after which an attempt is ended, where the file says so.
    #[serde(default)]
    pub stall: Option<Duration>,
    /// Wait before the second attempt, doubling up to an hour, where the file says so.
    #[serde(default)]
    pub backoff: Option<Duration>,
    /// What happens when an attempt is lost.
    #[serde(default)]
    pub on_lost: OnLost,
    /// The engine's session that the next attempt takes up again, once.
    #[serde(default)]
    pub resume: Option<String>,
    /// The task that this one is another try of, on another agent.
    #[serde(default)]
    pub retry_of: Option<TaskRef>,
    /// Model, where the file says so.
    pub model: Option<String>,
    /// How hard the model thinks, where the file says so.
    #[serde(default)]
    pub effort: Option<Effort>,
    /// What it may cost, all attempts; nothing = without a cap, `None` = as much as any.
    #[serde(default)]
    pub budget: Option<MicroUsd>,
    /// The goal it serves.
    pub goal: Option<GoalId>,
    /// Free data for the agent; `Null` where there is none.
    pub context: serde_json::Value,
    /// Fields we do not know, passed through to the agent.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl TaskSpec {
    /// A task with nothing but a text.
    pub fn new(task: TaskRef, description: impl Into<String>) -> Self {
        let description = description.into();
        let title = super::text::first_line(&description, 80);
        Self {
            task,
            title,
            description,
            dependencies: Vec::new(),
            if_failed: IfFailed::default(),
            priority: Priority::default(),
            timeout: None,
            max_attempts: None,
            not_before: None,
            start_by: None,
            deadline: None,
            stall: None,
            backoff: None,
            on_lost: OnLost::default(),
            resume: None,
            retry_of: None,
            model: None,
            effort: None,
            budget: None,
            goal: None,
            context: serde_json::Value::Null,
            extra: serde_json::Map::new(),
        }
    }
}

/// What a person wants different in a retry; what is `None` stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Another text.
    pub description: Option<String>,
    /// Another priority.
    pub priority: Option<Priority>,
    /// Another time allowed per attempt.
    pub timeout: Option<Duration>,
    /// Another model.
    pub model: Option<String>,
    /// Another effort.
    pub effort: Option<Effort>,
    /// Another budget; nothing = without a cap.
    pub budget: Option<MicroUsd>,
    /// Other dependencies.
    pub dependencies: Option<Vec<Dependency>>,
    /// Take up the last attempt's session again, once.
    pub resume: bool,
}

impl Changes {
    /// Whether everything stays as it was.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts the changes into a task. `session` is the last attempt's, for a retry that takes it up again.
    pub fn apply(&self, spec: &mut TaskSpec, session: Option<String>) {
        if let Some(description) = &self.description {
            // A title that only repeated the text goes with it.
            if spec.title == super::text::first_line(&spec.description, 80) {
                spec.title = super::text::first_line(description, 80);
            }
            spec.description.clone_from(description);
        }
        if let Some(priority) = self.priority {
            spec.priority = priority;
        }
        if let Some(timeout) = self.timeout {
            spec.timeout = Some(timeout);
        }
        if let Some(model) = &self.model {
            spec.model = Some(model.clone());
        }
        if let Some(effort) = self.effort {
            spec.effort = Some(effort);
        }
        if let Some(budget) = self.budget {
            spec.budget = Some(budget);
        }
        if let Some(dependencies) = &self.dependencies {
            spec.dependencies.clone_from(dependencies);
        }
        spec.resume = session.filter(|_| self.resume);
    }
}

/// Where a task stands, as the queue's storage says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "at")]
pub enum Standing {
    /// In the inbox; nobody has taken it.
    Waiting,
    /// Taken, no attempt started.
    Claimed,
    /// An attempt's lease is held.
    Running {
        /// Its number.
        attempt: u32,
    },
    /// The last attempt failed; the next may start at `not_before`.
    Retrying {
        /// The attempt that failed.
        attempt: u32,
        /// When the next may start.
        not_before: Timestamp,
    },
    /// The last attempt was lost and the task wants a person to say what next.
    Asking {
        /// The attempt that was lost.
        attempt: u32,
    },
    /// A result has been published.
    Ended,
}

/// One attempt, as far as it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Its number, from 1.
    pub n: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// The engine's session id, chosen by us.
    pub session_id: Option<String>,
    /// Tokens and money.
    pub spend: Spend,
    /// The log, relative to the stage.
    pub log: String,
}

/// A task and everything the room knows of it. Texts are clipped to [`TaskRecord::TEXT_LIMIT`]; the file has the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// What it is, its texts clipped and `context` and `extra` left out.
    pub spec: TaskSpec,
    /// The file it arrived in, below `tasks/{agent}/`, where its name differs from the id.
    pub file: Option<String>,
    /// When the queue first saw it.
    pub seen_at: Timestamp,
    /// Where it stands.
    pub standing: Standing,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// Its result, texts clipped, once there is one.
    pub outcome: Option<Outcome>,
}

impl TaskRecord {
    /// Bytes of text kept per field; the file on disk has the whole.
    pub const TEXT_LIMIT: usize = 2_000;

    /// A task that has just arrived.
    pub fn new(mut spec: TaskSpec, seen_at: Timestamp) -> Self {
        spec.title = super::text::clip(&spec.title, 120).into_owned();
        spec.description = super::text::clip(&spec.description, Self::TEXT_LIMIT).into_owned();
        spec.context = serde_json::Value::Null;
        spec.extra = serde_json::Map::new();
        Self { spec, file: None, seen_at, standing: Standing::Waiting, attempts: Vec::new(), outcome: None }
    }

    /// Which task.
    pub fn task(&self) -> &TaskRef {
        &self.spec.task
    }

    /// The newest attempt's number; 0 before the first.
    pub fn last_attempt(&self) -> u32 {
        self.attempts.last().map_or(0, |a| a.n)
    }

    /// Tokens and money of all attempts.
    pub fn spend(&self) -> Spend {
        let mut sum = Spend::default();
        for attempt in &self.attempts {
            sum += attempt.spend;
        }
        sum
    }
}

/// A file that could not become a task, and where it lies now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejected {
    /// Where it lies now, relative to the stage.
    pub path: String,
    /// What is wrong, one sentence.
    pub reason: String,
    /// When this was found.
    pub at: Timestamp,
    /// Moved to `rejected/`; otherwise left where it was.
    pub moved: bool,
    /// It says what an accepted task says already: nothing is missing, nobody needs to look.
    #[serde(default)]
    pub duplicate: bool,
}
