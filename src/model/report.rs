//! What a worker tells its room. Shapes only; the wire is `attach`, the worker's loop is `worker`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Ask, AttemptRef, Ending, Outcome, Spend, TaskRef,
    limit::{LimitNews, Windows},
};

/// The engine waits before it asks its model again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrying {
    /// Which time, from 1.
    pub n: u64,
    /// How many there may be.
    pub of: u64,
    /// Why: `529`, `no answer`.
    pub why: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// When it asks again.
    pub at: Timestamp,
}

/// A sub-agent at work. A worker of an earlier version told its name alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Subagent {
    /// By which its model calls name it; empty where that is not known.
    pub id: String,
    /// What it is and does, as the engine describes it.
    pub name: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Name(String),
    Whole { id: String, name: String },
}

impl From<Written> for Subagent {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(name) => Self { id: String::new(), name },
            Written::Whole { id, name } => Self { id, name },
        }
    }
}

/// What an attempt is doing, sent at most four times a second and only when it changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// One line: `Write classes/junior.md`, `thinking`, `waits for the limit`.
    pub doing: String,
    /// Sub-agents at work.
    pub subagents: Vec<Subagent>,
    /// Tokens and cost as the engine has reported them so far.
    pub spend: Spend,
    /// Resident memory of the attempt's tree, in bytes.
    pub rss_bytes: u64,
    /// CPU use of the attempt's tree since the last report, in percent of one core.
    pub cpu_percent: f32,
    /// Bytes in the attempt's log.
    pub log_bytes: u64,
    /// When it will be ended for its silence unless it stirs; told once half of the time allowed has passed.
    #[serde(default)]
    pub stalls_at: Option<Timestamp>,
    /// The engine waits before it asks its model again.
    #[serde(default)]
    pub retrying: Option<Box<Retrying>>,
}

/// A worker on another machine, as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Far {
    /// Its machine.
    pub host: String,
    /// podium's version there.
    pub version: String,
    /// Its process id there.
    pub pid: u32,
    /// How much later its clock is, in milliseconds; the way of the message is in it.
    pub offset_ms: i64,
    /// Its machine's load of the last minute, in hundredths.
    pub load: Option<u32>,
    /// When it was last heard.
    pub heard_at: Timestamp,
}

/// A worker's word to its room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report")]
pub enum Report {
    /// An attempt has begun: counted on disk, its child started.
    Started {
        /// Which.
        attempt: AttemptRef,
        /// Process id of the child.
        pid: u32,
        /// The engine's session id.
        session_id: Option<String>,
        /// The log, relative to the stage.
        log: String,
        /// When.
        at: Timestamp,
    },
    /// Something about it changed.
    Active {
        /// Which.
        attempt: AttemptRef,
        /// What.
        activity: Activity,
    },
    /// Its engine wants to do something that a person must allow.
    Asked {
        /// Which attempt.
        attempt: AttemptRef,
        /// What.
        ask: Box<Ask>,
    },
    /// Its engine takes back what it has asked for.
    Withdrawn {
        /// Which attempt.
        attempt: AttemptRef,
        /// The engine's own name for what was asked.
        request: String,
    },
    /// Its engine's stream told of limits.
    Limited {
        /// Which attempt.
        attempt: AttemptRef,
        /// What the subscription allows, where that was told.
        #[serde(default)]
        windows: Option<Box<Windows>>,
        /// The limit that was met, where one was; the account is for the room to know.
        #[serde(default)]
        news: Option<Box<LimitNews>>,
    },
    /// An attempt ended and its tree was seen empty; another follows at `not_before`.
    Failed {
        /// Which.
        attempt: AttemptRef,
        /// How.
        ending: Ending,
        /// What it used.
        spend: Spend,
        /// When the next may start.
        not_before: Timestamp,
        /// When.
        at: Timestamp,
    },
    /// The task's result is on disk (texts clipped).
    Ended {
        /// What came of it.
        outcome: Box<Outcome>,
        /// What its last attempt has used, by its engine's own word.
        #[serde(default)]
        spend: Spend,
    },
    /// The worker is on another machine; how that is.
    Far {
        /// As last heard.
        far: Box<Far>,
    },
    /// A worker on another machine asked for work and cannot have it.
    Refused {
        /// Why, one sentence.
        why: String,
    },
    /// An assigned task was not started: somebody else has it, it is gone, or the disk said no.
    NotStarted {
        /// Which.
        task: TaskRef,
        /// Why, one sentence.
        reason: String,
    },
}
