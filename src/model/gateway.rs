//! What the gateway tells the room: calls, limits, levels.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AgentName, AttemptRef, GoalId, MicroUsd, Modifiers, Spend, Usage, limit::Account};

/// Who makes a model call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "caller")]
pub enum Caller {
    /// A worker, for the attempt it runs.
    Worker {
        /// Which agent.
        agent: AgentName,
        /// Which attempt, once known.
        attempt: Option<AttemptRef>,
    },
    /// The orchestrator, for a goal.
    Orchestrator {
        /// Which goal, once known.
        goal: Option<GoalId>,
    },
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// Complete, usage known.
    Complete,
    /// Upstream answered with this error status.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The caller went away.
    Aborted,
    /// The stream broke.
    Broken,
    /// Upstream could not be reached.
    Unreachable,
}

/// One upstream call, the ledger's row. A field that is ordinary is left out of the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Unique per ledger.
    pub id: String,
    /// When it began.
    pub at: Timestamp,
    /// Milliseconds from request to last byte.
    pub millis: u64,
    /// Who made it.
    pub caller: Caller,
    /// The engine's session, from its header.
    pub session_id: Option<String>,
    /// The sub-agent, from its header.
    pub subagent: Option<String>,
    /// The model that served it, or was asked for.
    pub model: String,
    /// How it ended.
    pub end: CallEnd,
    /// Tokens.
    pub usage: Usage,
    /// Cost.
    pub cost: MicroUsd,
    /// The usage or the price is a guess.
    pub estimated: bool,
    /// Upstream's request id.
    pub request_id: Option<String>,
    /// Upstream's id of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The model asked for, where another name served the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The effort asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// The sub-agent that started this one, from its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Which try of the engine's own client, from its header: 0 the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_retry: Option<u32>,
    /// What changes the price.
    #[serde(default, skip_serializing_if = "Modifiers::is_ordinary")]
    pub modifiers: Modifiers,
    /// The goal that a worker's task serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<GoalId>,
}

impl Call {
    /// One that has just begun and of which nothing is known yet.
    pub fn new(id: String, at: Timestamp, caller: Caller) -> Self {
        Self {
            id,
            at,
            millis: 0,
            caller,
            session_id: None,
            subagent: None,
            model: "unknown".to_owned(),
            end: CallEnd::Aborted,
            usage: Usage::default(),
            cost: MicroUsd::default(),
            estimated: false,
            request_id: None,
            message_id: None,
            asked: None,
            effort: None,
            parent: None,
            client_retry: None,
            modifiers: Modifiers::default(),
            goal: None,
        }
    }

    /// What it adds to a sum.
    pub fn spend(&self) -> Spend {
        Spend::of_call(self.usage, self.cost, self.estimated)
    }

    /// The goal it was made for.
    pub fn goal(&self) -> Option<&GoalId> {
        match &self.caller {
            Caller::Worker { .. } => self.goal.as_ref(),
            Caller::Orchestrator { goal } => goal.as_ref(),
        }
    }

    /// The attempt it was made for.
    pub fn attempt(&self) -> Option<&AttemptRef> {
        match &self.caller {
            Caller::Worker { attempt, .. } => attempt.as_ref(),
            Caller::Orchestrator { .. } => None,
        }
    }
}

/// What an attempt's engine says that it has used: kept beside the rows, which win over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineTotal {
    /// When the attempt ended.
    pub at: Timestamp,
    /// Which attempt.
    pub attempt: AttemptRef,
    /// Tokens and cost by the engine's own count.
    pub spend: Spend,
}

/// What the gateway and an attempt's engine have counted. The gateway is right: it has the server's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// As the gateway counted.
    pub gateway: Spend,
    /// As the engine says.
    pub engine: Spend,
}

impl Drift {
    /// From here on somebody should know, in percent.
    const NOTABLE: i64 = 5;

    /// Gateway minus engine, in percent of the gateway's cost; `None` without one.
    pub fn cost_percent(&self) -> Option<i64> {
        share(self.gateway.cost.0, self.engine.cost.0)
    }

    /// The same for all tokens.
    pub fn token_percent(&self) -> Option<i64> {
        let all = |spend: &Spend| i64::try_from(spend.usage.total()).unwrap_or(i64::MAX);
        share(all(&self.gateway), all(&self.engine))
    }

    /// Whether they differ by more than 5 percent, in tokens or in money.
    pub fn is_notable(&self) -> bool {
        // An engine that says nothing of one of them does not contradict it.
        let cost = self.cost_percent().filter(|_| !self.engine.cost.is_zero());
        let tokens = self.token_percent().filter(|_| self.engine.usage.total() > 0);
        cost.into_iter().chain(tokens).any(|percent| percent.abs() > Self::NOTABLE)
    }
}

fn share(ours: i64, theirs: i64) -> Option<i64> {
    (ours > 0).then(|| (ours - theirs).saturating_mul(100) / ours)
}

/// What a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Requests per minute.
    Requests,
    /// Uncached input tokens per minute.
    Input,
    /// Output tokens per minute.
    Output,
}

impl Dimension {
    /// The word on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// A bucket at one moment. Levels are in the dimension's own unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Model group, such as `sonnet`.
    pub group: String,
    /// What it holds.
    pub dimension: Dimension,
    /// What it wins back per minute.
    pub limit: u64,
    /// What it holds when full: less than a minute's worth where the server was seen to allow less at once.
    #[serde(default)]
    pub burst: u64,
    /// What is left now.
    pub level: u64,
    /// Held by calls in flight.
    pub reserved: u64,
    /// What the server last said is left, and when it said so.
    pub server: Option<(u64, Timestamp)>,
    /// The server's headers have said what the limit is; else it is a guess, or what an operator has set.
    pub learned: bool,
    /// What an operator has set.
    #[serde(default)]
    pub own: Option<u64>,
    /// Why it lets the next call not pass, if it does not.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// Until when, where that is known.
    #[serde(default)]
    pub blocked_until: Option<Timestamp>,
}

/// Why calls wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The server refused and asked for silence.
    Server,
    /// The server was overloaded: fewer calls at once.
    Overloaded,
    /// A slow start after a rest.
    ColdStart,
    /// The bucket must refill.
    Refill,
}

impl Cause {
    /// The words on screen.
    pub fn words(self) -> &'static str {
        match self {
            Self::Server => "the server asked to wait",
            Self::Overloaded => "overloaded, fewer at once",
            Self::ColdStart => "slow start",
            Self::Refill => "refills",
        }
    }
}

/// Calls of one caller that wait for a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The agent; `None` is the orchestrator.
    pub agent: Option<AgentName>,
    /// The model group they wait for.
    pub group: String,
    /// How many.
    pub calls: u32,
    /// Since when the first of them.
    pub since: Timestamp,
}

/// The gateway at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Every bucket in use.
    pub buckets: Vec<Level>,
    /// Calls in flight.
    pub in_flight: u32,
    /// Calls that wait for a bucket.
    pub queued: u32,
    /// The same by caller.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// Answers 429 in the last minute.
    pub throttled: u32,
    /// Answers 529, and overload in mid-stream, in the last minute.
    #[serde(default)]
    pub overloaded: u32,
    /// Accounts of which more is known than their buckets.
    #[serde(default)]
    pub accounts: Vec<Account>,
    /// When this was taken.
    pub at: Option<Timestamp>,
}
