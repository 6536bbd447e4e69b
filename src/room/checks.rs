//! What is looked at before a task's result counts: only what stands in a plan that was approved.

use super::State;
use crate::model::{Checks, TaskRef};

impl State {
    /// The checks of a task. A task's file may say what it likes; programs are started because a plan says so that somebody, or a
    /// ceiling that somebody set, said yes to.
    pub fn checks(&self, task: &TaskRef) -> Checks {
        let goal = self.tasks.get(task).and_then(|t| self.goals.get(t.record.spec.goal.as_ref()?));
        let Some(goal) = goal.filter(|g| g.approved_at.is_some() && g.tasks.contains(task)) else {
            return Checks::default();
        };
        let planned = goal.plan.iter().flat_map(|plan| &plan.tasks);
        let planned = planned.into_iter().find(|t| t.reference(&goal.id).as_ref() == Some(task));
        planned.map_or_else(Checks::default, |t| Checks { done_when: t.done_when.clone(), review: t.review })
    }
}
