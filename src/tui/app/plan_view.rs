//! How a plan is looked at: as a graph or over time, what is folded, what has ended left out.

use std::collections::BTreeSet;

use super::{App, listing};
use crate::{
    model::{GoalId, TaskRef},
    room::{State, tasks::Phase},
    tui::{popup::Popup, views::plan},
};

/// How plans are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanView {
    /// Over time, not as a graph.
    pub timeline: bool,
    /// The graph takes the width, and of each task only its name is there.
    pub wide: bool,
    /// Without what has ended well.
    pub hide_ended: bool,
    /// Tasks behind which nothing is shown.
    pub folded: BTreeSet<String>,
}

impl App {
    /// Opens a plan: what is behind a failure is folded, and the hand is on what matters most.
    pub(super) fn open_plan(&mut self, goal: GoalId, state: &State) {
        let phases = phases(state, &goal);
        let stuck = phases.iter().filter(|(_, phase)| matches!(phase, Some(Phase::Failed | Phase::Asking)));
        self.plan_view.folded = stuck.map(|(id, _)| id.clone()).collect();
        let rows = plan::rows(state, &goal, &self.plan_view);
        let first = rows.iter().map(|row| row.task).min_by_key(|task| {
            let phase = phases.get(*task).and_then(|(_, phase)| *phase);
            (phase.is_none_or(|phase| phase > Phase::Running), phase)
        });
        self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
        self.popups.push(Popup::Plan { goal, selected: first.unwrap_or_default() });
    }

    /// Opens a plan again that was left for a moment, as it was looked at.
    pub(super) fn reopen_plan(&mut self, goal: GoalId) {
        self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
        self.popups.push(Popup::Plan { goal, selected: 0 });
    }

    pub(super) fn hide_ended(&mut self) {
        self.plan_view.hide_ended = !self.plan_view.hide_ended;
    }

    pub(super) fn fold_planned(&mut self, fold: bool, state: &State) {
        let Some(Popup::Plan { goal, selected }) = self.popups.last() else { return };
        let Some(task) = state.goals.get(goal).and_then(|g| g.plan.as_ref()?.tasks.get(*selected)) else { return };
        if fold {
            self.plan_view.folded.insert(task.id.clone());
        } else {
            self.plan_view.folded.remove(&task.id);
        }
    }

    /// Goes to what the task under the hand waits for in the end.
    pub(super) fn go_to_planned_blocker(&mut self, state: &State) {
        let Some(Popup::Plan { goal, selected }) = self.popups.last() else { return };
        let (goal, selected) = (goal.clone(), *selected);
        let Some(plan) = state.goals.get(&goal).and_then(|g| g.plan.as_ref()) else { return };
        let Some(task) = plan.tasks.get(selected) else { return };
        let known = task.reference(&goal).filter(|task| state.tasks.knows(task));
        let holds = match &known {
            Some(known) => {
                let holds = listing::blocker(state, known);
                holds.and_then(|holds| plan.tasks.iter().position(|t| t.reference(&goal).as_ref() == Some(&holds)))
            }
            None => plan::root(plan, selected),
        };
        let Some(holds) = holds.filter(|holds| *holds != selected) else {
            let why = known.and_then(|known: TaskRef| state.why(&known, state.now)).map(|why| why.to_string());
            return self.say(&why.unwrap_or_else(|| "it waits for no other task".to_owned()), false);
        };
        if let Some(Popup::Plan { selected, .. }) = self.popups.last_mut() {
            *selected = holds;
        }
        // It must be seen, whatever was folded or left out.
        if !plan::rows(state, &goal, &self.plan_view).iter().any(|row| row.task == holds) {
            self.plan_view = PlanView { folded: BTreeSet::new(), hide_ended: false, ..self.plan_view };
        }
    }
}

/// The tasks of a plan, and where each stands once it is in the queue.
fn phases(state: &State, goal: &GoalId) -> Vec<(String, Option<Phase>)> {
    let plan = state.goals.get(goal).and_then(|g| g.plan.as_ref());
    let phase = |task: &crate::model::PlanTask| {
        let known = task.reference(goal).and_then(|task| state.tasks.find(&task))?;
        Some(state.tasks.phase(&known))
    };
    plan.iter().flat_map(|plan| &plan.tasks).map(|task| (task.id.clone(), phase(task))).collect()
}
