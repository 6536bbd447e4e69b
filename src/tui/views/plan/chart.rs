//! Which tasks of a plan are shown, in which order, with which lanes.
//!
//! Must not draw. Its one surprise: a chain is kept together. Of the tasks that could come next that one does which needs
//! what was shown last, so that lanes are short and what is folded was in one place.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::lanes::{self, Lanes};
use crate::{
    model::{EndState, GoalId, Plan},
    orchestrator::{graph::Graph, schedule},
    room::State,
    tui::app::PlanView,
};

/// A task that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which of the plan's tasks.
    pub task: usize,
    /// How many are folded away behind it.
    pub behind: usize,
    /// Its lanes.
    pub(super) lanes: Lanes,
}

/// The tasks that are shown, in order.
pub fn rows(state: &State, id: &GoalId, view: &PlanView) -> Vec<Row> {
    let Some(plan) = state.goals.get(id).and_then(|goal| goal.plan.as_ref()) else { return Vec::new() };
    let Some(graph) = schedule::graph(plan) else {
        // A plan with faults may go in circles; its tasks are there all the same.
        return (0..plan.tasks.len()).map(|task| Row { task, behind: 0, lanes: Lanes::default() }).collect();
    };
    let mut shown = vec![true; graph.len()];
    let mut behind = vec![0; graph.len()];
    for (task, planned) in plan.tasks.iter().enumerate() {
        if view.folded.contains(&planned.id) {
            let after = all_after(&graph, task);
            behind[task] = after.len();
            for hidden in after {
                shown[hidden] = false;
            }
        }
        if view.hide_ended {
            let task_ref = planned.reference(id);
            let ended = task_ref.is_some_and(|task| state.tasks.end_state(&task) == Some(EndState::Done));
            shown[task] &= !ended;
        }
    }
    let critical = state.estimate(plan).map(|estimate| estimate.critical).unwrap_or_default();
    let order = order(&graph, &shown);
    let lanes = lanes::draw(&order, &graph, &critical);
    order.into_iter().zip(lanes).map(|(task, lanes)| Row { task, behind: behind[task], lanes }).collect()
}

/// Where a task stands among the rows; the first where it is not shown.
pub fn place(rows: &[Row], task: usize) -> usize {
    rows.iter().position(|row| row.task == task).unwrap_or(0)
}

/// The first of the tasks that this one waits for in the end, by the plan alone; `None` where it waits for none.
pub fn root(plan: &Plan, task: usize) -> Option<usize> {
    let graph = schedule::graph(plan)?;
    let mut at = *graph.needs(task).first()?;
    while let Some(&need) = graph.needs(at).first() {
        at = need;
    }
    Some(at)
}

/// Everything that cannot start before `task` has ended.
fn all_after(graph: &Graph, task: usize) -> Vec<usize> {
    let (mut seen, mut stack, mut after) = (vec![false; graph.len()], vec![task], Vec::new());
    while let Some(at) = stack.pop() {
        for &next in graph.dependents(at) {
            if !std::mem::replace(&mut seen[next], true) {
                after.push(next);
                stack.push(next);
            }
        }
    }
    after
}

/// The tasks that are shown, each behind all that it needs.
pub(super) fn order(graph: &Graph, shown: &[bool]) -> Vec<usize> {
    let needs = |task: usize| graph.needs(task).iter().copied().filter(|need| shown[*need]);
    let mut missing: Vec<usize> = (0..graph.len()).map(|task| needs(task).count()).collect();
    let mut placed = vec![0; graph.len()];
    let roots = (0..graph.len()).filter(|task| shown[*task] && missing[*task] == 0);
    let mut ready: BinaryHeap<(usize, Reverse<usize>)> = roots.map(|task| (0, Reverse(task))).collect();
    let mut order = Vec::new();
    while let Some((_, Reverse(task))) = ready.pop() {
        order.push(task);
        placed[task] = order.len();
        for &next in graph.dependents(task).iter().filter(|next| shown[**next]) {
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.push((needs(next).map(|need| placed[need]).max().unwrap_or(0), Reverse(next)));
            }
        }
    }
    order
}
