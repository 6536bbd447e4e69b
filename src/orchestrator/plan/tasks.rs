//! A plan turned into tasks of the queue, and the goal as a plan of one task.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::{TITLE, fault, shown};
use crate::{
    model::{
        AgentName, Dependency, Fault, GoalId, Plan, PlanTask, Priority, TaskId, TaskRef, TaskSpec, plan::Requirement,
        task::OnLost, text,
    },
    orchestrator::schedule,
};

/// Turns a plan into tasks for the queue: task `x` of goal `g7` becomes `g7-x`, tasks on the critical path go a step
/// before the others. A plan that passed [`super::check()`] has no faults here.
pub fn to_tasks(plan: &Plan, goal: &GoalId) -> Result<Vec<TaskSpec>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut places: BTreeMap<&str, TaskRef> = BTreeMap::new();
    for (i, task) in plan.tasks.iter().enumerate() {
        match (AgentName::new(&*task.worker), TaskId::new(format!("{goal}-{}", task.id))) {
            (Ok(agent), Ok(id)) => {
                if places.insert(&task.id, TaskRef::new(agent, id)).is_some() {
                    faults.push(fault("P03", format!("tasks[{i}].id"), format!("{} is there twice", shown(&task.id))));
                }
            }
            (Err(error), _) => faults.push(fault("P04", format!("tasks[{i}].worker"), error.to_string())),
            (_, Err(error)) => faults.push(fault("P03", format!("tasks[{i}].id"), error.to_string())),
        }
    }
    let urgent = schedule::critical_path(plan);
    let mut out = Vec::new();
    for (i, task) in plan.tasks.iter().enumerate() {
        let Some(place) = places.get(&*task.id) else { continue };
        let mut spec = TaskSpec::new(place.clone(), text::scrub(&task.text()).into_owned());
        spec.title = text::first_line(&task.title, TITLE);
        spec.goal = Some(goal.clone());
        spec.priority = task.priority.unwrap_or(match (urgent.contains(&i), task.can_wait) {
            (true, _) => Priority(Priority::NORMAL.0 - 1),
            (false, true) => Priority(Priority::NORMAL.0 + 1),
            (false, false) => Priority::NORMAL,
        });
        spec.timeout = task.timeout.map(Duration::from_secs);
        spec.model = task.wanted_model().map(str::to_owned);
        spec.effort = task.effort;
        spec.on_lost = if task.idempotent { OnLost::Retry } else { OnLost::Ask };
        for (j, name) in task.dependencies.iter().enumerate() {
            match places.get(&**name) {
                Some(needed) => {
                    spec.dependencies.push(Dependency { agent: Some(needed.agent.clone()), id: needed.id.clone() });
                }
                None => faults.push(fault(
                    "P05",
                    format!("tasks[{i}].dependencies[{j}]"),
                    format!("there is no task {} in this plan", shown(name)),
                )),
            }
        }
        if !task.done_when.is_empty() {
            spec.context = json!({ "done_when": task.done_when });
        }
        out.push(spec);
    }
    if faults.is_empty() { Ok(out) } else { Err(faults) }
}

/// The goal as one task of `agent`; offered to the operator when no plan could be made, never taken unasked.
pub fn single_task(goal: &str, agent: &AgentName, revision: u32) -> Plan {
    let clean = text::scrub(goal);
    Plan {
        revision,
        summary: format!("One task: the whole goal goes to {agent}, because no plan passed the checks."),
        tasks: vec![PlanTask {
            id: "whole".to_owned(),
            worker: agent.to_string(),
            title: text::first_line(&clean, 80),
            objective: clean.clone().into_owned(),
            done_when: vec!["The goal as written is met, or the answer says what is missing and why.".into()],
            output: "What the goal asks for, in the form that it asks for.".to_owned(),
            boundaries: "Only what the goal asks for.".to_owned(),
            serves: vec!["goal".to_owned()],
            ..PlanTask::default()
        }],
        requirements: vec![Requirement { id: "goal".to_owned(), text: text::first_line(&clean, 200) }],
        ..Plan::default()
    }
}
