//! A plan: data that the model proposes and code checks, shows and runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AgentName, GoalId, Spend, TaskId, TaskRef};

/// One task of a plan. `id` is unique within the plan; in the queue it becomes `{goal}-{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanTask {
    /// Unique within the plan: `^[a-z0-9][a-z0-9_-]{0,47}$`.
    pub id: String,
    /// The agent that does it.
    pub worker: String,
    /// A few words.
    pub title: String,
    /// Objective, inputs, output and boundaries, self-contained.
    pub description: String,
    /// Ids of plan tasks that must end first.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// How one can tell that it is done.
    #[serde(default)]
    pub done_when: Vec<String>,
    /// Minutes the planner expects; 0 when it did not say.
    #[serde(default)]
    pub minutes: f64,
}

impl PlanTask {
    /// The task's place in the queue, for a plan that passed its checks.
    pub fn reference(&self, goal: &GoalId) -> Option<TaskRef> {
        Some(TaskRef {
            agent: AgentName::new(&*self.worker).ok()?,
            id: TaskId::new(format!("{goal}-{}", self.id)).ok()?,
        })
    }
}

/// A plan as proposed, with what it cost to make it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Counts up with every edit and repair.
    pub revision: u32,
    /// What the planner understood, in a sentence or two.
    pub summary: String,
    /// The tasks.
    pub tasks: Vec<PlanTask>,
    /// The model that made it.
    pub model: String,
    /// What making it cost.
    pub spend: Spend,
}

/// One thing wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// `P01` to `P15`.
    pub code: String,
    /// Where, as a path into the plan: `tasks[2].worker`.
    pub path: String,
    /// What is wrong, one sentence.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.path, self.message)
    }
}
