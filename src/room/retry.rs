//! A task that starts again: as it was, changed, or as another agent's task. What was skipped because of it comes along.
//!
//! Its one surprise: between the order and the queue's picture of it a task is *coming back*. Its former ending no longer
//! counts then: whoever depends on it waits instead of being skipped a second time, whichever picture arrives first.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Answer, Effect, Event, GoalEvent, OrderId, State, Task, Tasks, agents::join, refuse};
use crate::model::{
    AgentName, Changes, Dependency, EndState, Ending, EngineKind, GoalEnd, GoalPhase, Standing, TaskRef,
};

/// A task that starts again, and what comes along.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Which.
    pub task: TaskRef,
    /// The new task of another agent that is made of it; `None` when it starts again itself.
    pub instead: Option<TaskRef>,
    /// What is different.
    pub changes: Changes,
    /// What was skipped because of it, and what is different there.
    pub followers: Vec<(TaskRef, Changes)>,
}

/// A retry that was ordered, until the queue's picture shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Underway {
    order: OrderId,
    task: TaskRef,
    instead: Option<TaskRef>,
    /// Coming back: the picture still shows how they ended.
    left: BTreeSet<TaskRef>,
    answered: bool,
}

impl State {
    pub(super) fn retry(
        &mut self,
        id: OrderId,
        task: TaskRef,
        agent: Option<AgentName>,
        changes: Changes,
        effects: &mut Vec<Effect>,
    ) {
        let agent = agent.filter(|agent| *agent != task.agent);
        if let Some(reason) = self.no_retry(&task, agent.as_ref(), &changes) {
            return refuse(effects, id, reason);
        }
        let mut changes = changes;
        let instead = agent.map(|agent| {
            let wish = TaskRef::new(agent, task.id.clone());
            TaskRef::new(wish.agent.clone(), self.tasks.free_id(&wish))
        });
        if instead.is_some() && changes.dependencies.is_none() {
            changes.dependencies = self.tasks.pinned(&task);
        }
        let followers = self.tasks.skipped_by(&task, instead.as_ref());
        let back = followers.iter().map(|(task, _)| task.clone());
        let left = back.chain(instead.is_none().then(|| task.clone())).filter(|t| self.tasks.has_outcome(t)).collect();
        let underway = Underway { order: id, task: task.clone(), instead: instead.clone(), left, answered: false };
        self.tasks.come_back(underway, self.now);
        effects.push(Effect::RetryTask { id, retry: Box::new(Retry { task, instead, changes, followers }) });
    }

    /// Why a task cannot start again like this; `None` when it can.
    fn no_retry(&self, task: &TaskRef, agent: Option<&AgentName>, changes: &Changes) -> Option<String> {
        let Some(entry) = self.tasks.find(task) else { return Some(format!("there is no task {task}")) };
        if entry.assigned {
            return Some(format!("{task} is running"));
        }
        if self.tasks.is_coming_back(task) {
            return Some(format!("{task} starts again already"));
        }
        if changes.description.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return Some("the text is empty: the task would say nothing to do".to_owned());
        }
        let goal = entry.record.spec.goal.as_ref().and_then(|g| self.goals.get(g));
        if let Some(goal) = goal.filter(|g| g.phase == GoalPhase::Synthesising) {
            return Some(format!("the report of {} is being written; try again when it is there", goal.id));
        }
        if changes.resume
            && let Some(reason) = self.no_resume(&entry, agent)
        {
            return Some(reason);
        }
        let agent = agent?;
        if self.agents.get(agent).is_none() {
            return Some(format!("there is no agent {agent}; there are {}", join(&self.agents.names())));
        }
        if entry.record.outcome.is_none() {
            return Some(format!("{task} has not ended: cancel it first, then it can go to {agent}"));
        }
        None
    }

    /// Why a task's session cannot be taken up again.
    fn no_resume(&self, entry: &Task, agent: Option<&AgentName>) -> Option<String> {
        let task = entry.record.task();
        if let Some(agent) = agent {
            return Some(format!("{agent} cannot take up a session of {}: it starts anew there", task.agent));
        }
        let engine = self.agents.get(&task.agent)?.settings.engine;
        if engine != EngineKind::Claude {
            return Some(format!("{}'s engine ({}) cannot take up a session", task.agent, engine.word()));
        }
        match entry.record.attempts.last() {
            None => Some(format!("{task} has not run yet: there is no session to take up")),
            Some(last) if last.session_id.is_none() => Some(format!("attempt {} of {task} left no session", last.n)),
            Some(_) => None,
        }
    }

    /// The queue has answered an order: if it was a retry, what it was about goes on.
    pub(super) fn retry_answered(&mut self, id: OrderId, answer: &Answer, effects: &mut Vec<Effect>) {
        let Some(Underway { task, instead, .. }) = self.tasks.retry_answered(id, answer, self.now) else { return };
        self.tasks.look_at(&task);
        if let Some(instead) = &instead {
            self.tasks.follow_rank(&task, instead);
        }
        let goal = self.tasks.find(&task).and_then(|t| self.goals.get(t.record.spec.goal.as_ref()?));
        if let Some(goal) = goal.filter(|g| g.tasks.contains(&task))
            && (instead.is_some() || goal.may_go_on())
        {
            let fact = Event::Goal(GoalEvent::Retried { id: goal.id.clone(), task, instead });
            effects.push(Effect::Keep { fact: Box::new(fact) });
        }
    }
}

impl super::Goal {
    /// Whether it is over in a way that a retry of one of its tasks takes back.
    pub(super) fn may_go_on(&self) -> bool {
        match &self.phase {
            GoalPhase::Ended { end, .. } => {
                self.published && matches!(end, GoalEnd::Done | GoalEnd::Partial | GoalEnd::Failed)
            }
            GoalPhase::Deciding => true,
            GoalPhase::Planning { .. }
            | GoalPhase::Asking { .. }
            | GoalPhase::AwaitingApproval
            | GoalPhase::Running
            | GoalPhase::Synthesising => false,
        }
    }
}

impl Tasks {
    /// Whether it was told to start again and the picture still shows how it ended.
    pub fn is_coming_back(&self, task: &TaskRef) -> bool {
        self.retries.iter().any(|r| r.left.contains(task))
    }

    /// The task that was made of this one on another agent.
    pub fn retried_as(&self, task: &TaskRef) -> Option<&TaskRef> {
        self.derived.successors.get(task)
    }

    /// Whether it has ended for good as far as anybody knows.
    pub(super) fn has_ended(&self, task: &TaskRef) -> bool {
        self.has_outcome(task) && !self.is_coming_back(task)
    }

    fn has_outcome(&self, task: &TaskRef) -> bool {
        self.end_state(task).is_some()
    }

    /// Its dependencies, each with the agent that is meant now: another agent would mean its own first.
    fn pinned(&self, task: &TaskRef) -> Option<Vec<Dependency>> {
        let spec = &self.get(task)?.record.spec;
        let pin = |dependency: &Dependency| {
            let agent = self.resolve(task, dependency).map(|found| found.agent);
            Dependency { agent: agent.or_else(|| dependency.agent.clone()), id: dependency.id.clone() }
        };
        Some(spec.dependencies.iter().map(pin).collect())
    }

    /// What was skipped because of this task, directly or not, and how its dependencies change when `instead` takes over.
    fn skipped_by(&self, task: &TaskRef, instead: Option<&TaskRef>) -> Vec<(TaskRef, Changes)> {
        let mut found: Vec<(TaskRef, Changes)> = Vec::new();
        let mut causes = VecDeque::from([task.clone()]);
        while let Some(cause) = causes.pop_front() {
            let waiting = self.derived.dependents.get(&cause.id).into_iter().flatten();
            for entry in waiting.filter_map(|name| self.get(name)) {
                let name = entry.record.task();
                if entry.was_skipped_by(&cause) && found.iter().all(|(known, _)| known != name) {
                    let moved = instead.filter(|_| cause == *task);
                    let dependencies = moved.map(|to| turned(&entry.record.spec.dependencies, &cause, to));
                    found.push((name.clone(), Changes { dependencies, ..Changes::default() }));
                    causes.push_back(name.clone());
                }
            }
        }
        found
    }

    fn come_back(&mut self, underway: Underway, now: Timestamp) {
        let left = underway.left.clone();
        self.retries.push(underway);
        self.waken(&left, now);
    }

    /// The retry that this order was, if it was carried out.
    fn retry_answered(&mut self, id: OrderId, answer: &Answer, now: Timestamp) -> Option<Underway> {
        let at = self.retries.iter().position(|r| r.order == id && !r.answered)?;
        let mut underway = self.retries.remove(at);
        let before = underway.left.clone();
        match answer {
            Answer::Refused { .. } => {
                self.waken(&before, now);
                return None;
            }
            Answer::Done { ids, .. } => underway.left.retain(|task| ids.contains(&task.to_string())),
        }
        underway.answered = true;
        if !underway.left.is_empty() {
            self.retries.push(underway.clone());
        }
        self.waken(&before, now);
        Some(underway)
    }

    /// The picture of a task has changed: is it back?
    pub(super) fn came_back(&mut self, ended_at: Option<Timestamp>, new: &crate::model::TaskRecord) {
        // Tasks kept in short know it to the microsecond.
        let before = ended_at.map(Timestamp::as_microsecond);
        let now = new.outcome.as_ref().map(|o| o.completed_at.as_microsecond());
        if self.retries.is_empty() || before == now {
            return;
        }
        for underway in &mut self.retries {
            underway.left.remove(new.task());
        }
        self.retries.retain(|r| !(r.answered && r.left.is_empty()));
    }

    fn waken(&mut self, tasks: &BTreeSet<TaskRef>, now: Timestamp) {
        for task in tasks {
            self.wake_dependents(&task.id, now);
        }
    }
}

/// Dependencies with one task in another's place. One without an agent meant it, whatever it would mean by now: its task
/// was skipped because of it.
fn turned(dependencies: &[Dependency], from: &TaskRef, to: &TaskRef) -> Vec<Dependency> {
    let meant = |d: &Dependency| d.id == from.id && d.agent.as_ref().is_none_or(|agent| *agent == from.agent);
    let turn = |d: &Dependency| {
        if meant(d) { Dependency { agent: Some(to.agent.clone()), id: to.id.clone() } } else { d.clone() }
    };
    dependencies.iter().map(turn).collect()
}

impl Task {
    fn was_skipped_by(&self, cause: &TaskRef) -> bool {
        self.record.standing == Standing::Ended
            && self.record.outcome.as_ref().is_some_and(|o| {
                o.state == EndState::Skipped
                    && matches!(&o.ending, Ending::DependencyFailed { dependency } if *dependency == cause.to_string())
            })
    }
}
