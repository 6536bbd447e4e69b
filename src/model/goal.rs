//! A goal: what the operator typed, and how far it has come.

use serde::{Deserialize, Serialize};

use super::{AgentName, GoalId, MicroUsd};

/// Who says yes to a goal's plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Approval {
    /// A person, each time.
    Ask,
    /// Nobody, while what its plan has cost stays under the ceiling.
    Auto {
        /// The most it may cost.
        ceiling: MicroUsd,
    },
    /// Nobody: the plan is made and shown, and the goal ends there.
    Never,
}

/// What happens to a goal when one of its tasks has failed for good. What needed that task never starts in any case, and
/// what does not need it is never skipped because of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing more of the goal starts; the report says what is missing.
    Stop,
    /// The rest goes on; then what is missing is planned anew, or the report says that it is missing.
    #[default]
    Continue,
    /// The rest goes on; then a person says whether what is missing is planned anew.
    Ask,
}

impl OnFailure {
    /// The word in files, flags and on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Continue => "continue",
            Self::Ask => "ask",
        }
    }
}

/// What was said about a goal besides its words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// What happens when a task fails; `None` is as the stage is configured.
    pub on_failure: Option<OnFailure>,
    /// This agent does all of it as one task, without a plan.
    pub solo: Option<AgentName>,
    /// What it may cost; nothing = without a cap, `None` = as much as any.
    pub budget: Option<MicroUsd>,
    /// It follows up on this goal, which has ended: the planner is shown its report.
    pub follows: Option<GoalId>,
}

/// What the planner wanted to know, and what the operator said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// One sentence each.
    pub questions: Vec<String>,
    /// `None` as long as nobody has answered.
    pub answer: Option<String>,
}

/// How a goal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalEnd {
    /// Every task done, the report written.
    Done,
    /// The report is written and says what is missing.
    Partial,
    /// No report could be written, or nothing was done.
    Failed,
    /// A person ended it.
    Cancelled,
    /// The plan was denied, or only a plan was asked for.
    Planned,
}

/// How far a goal has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum GoalPhase {
    /// The orchestrator is asked for a plan; round 1 is the first, round 2 the repair.
    Planning {
        /// Which round.
        round: u32,
    },
    /// The orchestrator has asked something instead of planning.
    Asking {
        /// The round that goes on with the answer.
        round: u32,
    },
    /// A plan waits for a person.
    AwaitingApproval,
    /// Its tasks are in the queue.
    Running,
    /// Everything that could run has ended and something failed: a person says whether what is missing is planned anew.
    Deciding,
    /// All tasks have ended; the report is being written.
    Synthesising,
    /// It is over.
    Ended {
        /// How.
        end: GoalEnd,
        /// One sentence.
        note: String,
    },
}

impl GoalPhase {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// The word on screen and in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Planning { .. } => "planning",
            Self::Asking { .. } => "needs answer",
            Self::AwaitingApproval => "needs approval",
            Self::Running => "running",
            Self::Deciding => "needs decision",
            Self::Synthesising => "writing report",
            Self::Ended { end, .. } => match end {
                GoalEnd::Done => "done",
                GoalEnd::Partial => "partial",
                GoalEnd::Failed => "failed",
                GoalEnd::Cancelled => "cancelled",
                GoalEnd::Planned => "planned",
            },
        }
    }
}
