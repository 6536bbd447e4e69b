//! What a goal gained by working side by side, from the attempts as they ran; and the same goal done by one agent alone.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Goal, State, Task};
use crate::model::Plan;
use crate::orchestrator::{
    pays::{self, Pays, Ran},
    schedule,
};

impl State {
    /// What a goal gained and paid so far; `None` before anything of it has run.
    pub fn pays(&self, goal: &Goal) -> Option<Pays> {
        let plan = goal.plan.as_ref()?;
        let graph = schedule::graph(plan)?;
        let places = schedule::places(plan, &self.slots(), self.agents.max_running);
        let mut span: Option<(Timestamp, Timestamp)> = None;
        let mut ran = Vec::with_capacity(plan.tasks.len());
        for planned in &plan.tasks {
            let task = planned.reference(&goal.id).filter(|task| goal.tasks.contains(task));
            let Some(task) = task.and_then(|task| self.tasks.find(&task)) else {
                ran.push(Ran::default());
                continue;
            };
            let (mut took, tokens) = (Duration::ZERO, self.spend_of_task(task.record.task()).usage.total());
            for (start, end) in runs(&task, self.now) {
                took += Duration::try_from(end.duration_since(start)).unwrap_or_default();
                span = Some(span.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
            }
            ran.push(Ran { took, tokens });
        }
        let (first, last) = span?;
        let makespan = Duration::try_from(last.duration_since(first)).unwrap_or_default();
        pays::pays(&graph, &places, &ran, makespan, self.spend_of(goal).usage.total())
    }

    /// The plan run on paper with what its tasks are expected to take: when each begins, and how long it takes, in minutes
    /// or steps. `None` in a circle.
    pub fn on_paper(&self, plan: &Plan) -> Option<Vec<(f64, f64)>> {
        schedule::on_paper(plan, &self.slots(), self.agents.max_running, self.tasks.learned())
    }

    /// Places per agent.
    pub(super) fn slots(&self) -> BTreeMap<String, u32> {
        self.agents.iter().map(|a| (a.name().to_string(), a.settings.slots)).collect()
    }

    /// The same goal the other way: of one that was planned the newest that one agent does alone, and the other way round.
    pub fn counterpart(&self, goal: &Goal) -> Option<&Goal> {
        let is_solo = |g: &Goal| g.terms.solo.is_some();
        self.goals.iter().rev().find(|other| other.text == goal.text && is_solo(other) != is_solo(goal))
    }
}

/// Start and end of every attempt.
fn runs(task: &Task, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    task.record.attempts.iter().map(move |attempt| (attempt.started_at, attempt.ended_at.unwrap_or(now)))
}
