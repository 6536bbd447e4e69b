//! Plans: the prompt that asks for one, its schema, and the checks before any token is spent on workers.

/// Opens the user message of a request for a plan.
pub const HEADING: &str = "# Plan this goal";

use crate::model::{AgentName, Fault, GoalId, Plan, Spend, TaskSpec};

/// Reads an answer.
pub fn parse(_text: &str, _round: u32, _model: &str, _spend: Spend) -> Result<Plan, Vec<Fault>> {
    Err(Vec::new())
}
/// Names every fault.
pub fn check(_plan: &Plan, _enabled: &[AgentName]) -> Vec<Fault> {
    Vec::new()
}
/// One task.
pub fn single_task(text: &str, _enabled: &[AgentName]) -> Plan {
    Plan { revision: 0, summary: text.to_owned(), tasks: Vec::new(), model: String::new(), spend: Spend::default() }
}
/// The queue's tasks.
pub fn to_tasks(_plan: &Plan, _goal: &GoalId) -> Vec<TaskSpec> {
    Vec::new()
}
