//! Changes of a plan by hand: applied all together or not at all.
//!
//! Owns what each change does to the tasks around it. Must not know which tasks run already. Its one surprise: an edited
//! plan is a new revision and goes through the same checks as a model's.

use serde::{Deserialize, Serialize};

use super::{shown, single_task};
use crate::model::{
    AgentName, Estimates, Plan, PlanTask, Spend,
    plan::{Input, SCHEMA_VERSION, VALIDATOR},
};

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "edit")]
pub enum Edit {
    /// Another content of a task: text, agent, dependencies, priority, timeout, effort, model.
    Change {
        /// Which task.
        task: String,
        /// The whole of it; under another id its dependents follow.
        to: Box<PlanTask>,
    },
    /// The task goes.
    Drop {
        /// Which.
        task: String,
        /// What waited for it waits for what it waited for; otherwise it must have no dependents.
        rewire: bool,
    },
    /// One more task.
    Add {
        /// The whole of it.
        task: Box<PlanTask>,
    },
    /// Several tasks become one: the first of them, of its agent.
    Merge {
        /// Which.
        tasks: Vec<String>,
    },
    /// The whole goal as one task.
    Single {
        /// Of which agent.
        agent: AgentName,
    },
    /// The whole plan as written by hand.
    Replace {
        /// The plan; its revision, model and cost do not count.
        plan: Box<Plan>,
    },
}

/// Applies changes in order; a sentence says why not. The result still has to pass the checks.
pub fn apply(plan: &Plan, edits: &[Edit], goal: &str) -> Result<Plan, String> {
    let mut edited = Plan {
        schema_version: SCHEMA_VERSION,
        validator: VALIDATOR,
        revision: plan.revision + 1,
        model: String::new(),
        spend: Spend::default(),
        ..plan.clone()
    };
    for edit in edits {
        one(&mut edited, edit, goal)?;
    }
    Ok(edited)
}

fn one(plan: &mut Plan, edit: &Edit, goal: &str) -> Result<(), String> {
    match edit {
        Edit::Change { task, to } => change(plan, task, to)?,
        Edit::Drop { task, rewire } => drop_task(plan, task, *rewire)?,
        Edit::Add { task } => plan.tasks.push((**task).clone()),
        Edit::Merge { tasks } => merge(plan, tasks)?,
        Edit::Single { agent } => {
            let single = single_task(goal, agent, plan.revision);
            (plan.tasks, plan.requirements) = (single.tasks, single.requirements);
            plan.synthesis.clear();
            plan.summary = format!("One task: the operator gives the whole goal to {agent}.");
        }
        Edit::Replace { plan: new } => {
            (plan.summary, plan.synthesis) = (new.summary.clone(), new.synthesis.clone());
            (plan.requirements, plan.tasks) = (new.requirements.clone(), new.tasks.clone());
        }
    }
    Ok(())
}

fn change(plan: &mut Plan, id: &str, to: &PlanTask) -> Result<(), String> {
    let at = plan.tasks.iter().position(|task| task.id == id).ok_or_else(|| unknown(id))?;
    plan.tasks[at] = to.clone();
    let inputs = &mut plan.tasks[at].inputs;
    inputs.retain(|input| input.dependency.is_empty() || to.dependencies.contains(&input.dependency));
    if to.id != id {
        for task in &mut plan.tasks {
            redirect(task, id, std::slice::from_ref(&to.id));
            for input in task.inputs.iter_mut().filter(|input| input.dependency == id) {
                input.dependency.clone_from(&to.id);
            }
        }
    }
    Ok(())
}

fn unknown(id: &str) -> String {
    format!("there is no task {} in this plan", shown(id))
}

fn drop_task(plan: &mut Plan, id: &str, rewire: bool) -> Result<(), String> {
    let at = plan.tasks.iter().position(|task| task.id == id).ok_or_else(|| unknown(id))?;
    let waiting: Vec<&str> =
        plan.tasks.iter().filter(|t| t.dependencies.iter().any(|d| d == id)).map(|t| &*t.id).collect();
    if !rewire && !waiting.is_empty() {
        return Err(format!(
            "{} cannot be dropped: {} waits for it; rewire, or drop that too",
            shown(id),
            waiting.join(", ")
        ));
    }
    let dropped = plan.tasks.remove(at);
    for task in plan.tasks.iter_mut().filter(|task| task.dependencies.contains(&dropped.id)) {
        redirect(task, &dropped.id, &dropped.dependencies);
        task.inputs.retain(|input| input.dependency != dropped.id);
        // What came through the dropped task is taken from where it came from.
        for input in dropped.inputs.iter().filter(|input| !input.dependency.is_empty()) {
            if !task.inputs.iter().any(|known| known.dependency == input.dependency) {
                task.inputs.push(input.clone());
            }
        }
    }
    Ok(())
}

/// Puts `instead` where a task named `id` among its dependencies.
fn redirect(task: &mut PlanTask, id: &str, instead: &[String]) {
    let mut kept: Vec<String> = Vec::new();
    for dependency in std::mem::take(&mut task.dependencies) {
        let new = if dependency == id { instead.to_vec() } else { vec![dependency] };
        for name in new {
            if name != task.id && !kept.contains(&name) {
                kept.push(name);
            }
        }
    }
    task.dependencies = kept;
}

fn merge(plan: &mut Plan, ids: &[String]) -> Result<(), String> {
    let Some((head, rest)) = ids.split_first().filter(|(head, rest)| !rest.is_empty() && !rest.contains(head)) else {
        return Err("two different tasks at least are merged".to_owned());
    };
    let mut merged = plan.task(head).cloned().ok_or_else(|| unknown(head))?;
    for id in rest {
        let other = plan.task(id).cloned().ok_or_else(|| unknown(id))?;
        for (own, more) in [
            (&mut merged.objective, &other.objective),
            (&mut merged.output, &other.output),
            (&mut merged.boundaries, &other.boundaries),
        ] {
            if !more.trim().is_empty() && own != more {
                own.extend(["\n", more]);
            }
        }
        union(&mut merged.dependencies, other.dependencies);
        union(&mut merged.inputs, other.inputs);
        union(&mut merged.done_when, other.done_when);
        union(&mut merged.serves, other.serves);
        union(&mut merged.side_effects, other.side_effects);
        merged.estimates = sum(merged.estimates, other.estimates);
        merged.effort = merged.effort.max(other.effort);
        merged.model_tier = merged.model_tier.max(other.model_tier);
        merged.idempotent &= other.idempotent;
        merged.can_wait &= other.can_wait;
        merged.review |= other.review;
    }
    merged.dependencies.retain(|id| !ids.contains(id));
    merged.inputs.retain(|input: &Input| !ids.contains(&input.dependency));
    plan.tasks.retain(|task| !rest.contains(&task.id));
    let head = std::slice::from_ref(head);
    for task in &mut plan.tasks {
        for id in rest {
            if task.dependencies.contains(id) {
                redirect(task, id, head);
            }
            for input in task.inputs.iter_mut().filter(|input| input.dependency == *id) {
                input.dependency.clone_from(&merged.id);
            }
        }
        if task.id == merged.id {
            *task = merged.clone();
        }
    }
    Ok(())
}

fn union<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

fn sum(a: Estimates, b: Estimates) -> Estimates {
    let add = |a: Option<crate::model::plan::Range>, b: Option<crate::model::plan::Range>| match (a, b) {
        (Some(a), Some(b)) => Some(a.plus(b)),
        (one, other) => one.or(other),
    };
    Estimates { minutes: add(a.minutes, b.minutes), tokens: add(a.tokens, b.tokens), usd: add(a.usd, b.usd) }
}

#[cfg(test)]
mod tests;
