//! What is found again from the tasks: which are ready, when others may be, who waits for whom, how many stand where.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Tasks,
    entry::{Phase, Prerequisites, Task, ended, phase_of},
};
use crate::{
    model::{AgentName, EndState, Past, Standing, TaskId, TaskRef},
    room::{
        past::Pasts,
        ready::{Key, Ready},
        timing::moments,
    },
};

/// Found again from the rest by [`Tasks::rebuild`].
#[derive(Debug, Clone, Default)]
pub(in crate::room) struct Derived {
    /// What may start now, per agent.
    pub(in crate::room) ready: BTreeMap<AgentName, Ready>,
    /// Where each task stands in `ready`.
    pub(in crate::room) keys: HashMap<TaskRef, Key>,
    /// Who waits for a task with this id.
    pub(in crate::room) dependents: HashMap<TaskId, BTreeSet<TaskRef>>,
    /// What was made of a task on another agent.
    pub(in crate::room) successors: BTreeMap<TaskRef, TaskRef>,
    /// The dead letters: their attempts are used up.
    pub(super) dead: BTreeSet<TaskRef>,
    /// Those that want a person: asked what next, or ended badly with nobody having acted on it.
    pub(super) wanting: BTreeSet<TaskRef>,
    /// When a task may start, or expires.
    pub(super) due: BTreeSet<(Timestamp, TaskRef)>,
    /// Will never start: their dependency, named second, did not end well.
    pub(super) hopeless: BTreeMap<TaskRef, TaskRef>,
    /// Their time is over; what is said about it.
    pub(in crate::room) expired: BTreeMap<TaskRef, String>,
    /// How many stand where.
    pub(in crate::room) counts: Counts,
    /// Those that have ended and are kept whole, the oldest first.
    pub(super) ended: BTreeSet<(Timestamp, TaskRef)>,
    /// Agents that have or had tasks.
    pub(super) agents: BTreeSet<AgentName>,
    /// Ids handed out for tasks that the queue has not shown yet.
    pub(super) promised: BTreeSet<TaskRef>,
}

/// How many tasks stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Wait for a person's word.
    #[serde(default)]
    pub asking: usize,
    /// With an attempt running.
    pub running: usize,
    /// May start now.
    pub ready: usize,
    /// Wait for something.
    pub waiting: usize,
    /// Wait until a person lets them go on.
    #[serde(default)]
    pub paused: usize,
    /// Ended well.
    pub done: usize,
    /// Ended badly.
    pub failed: usize,
    /// Cancelled or skipped.
    pub dropped: usize,
}

impl Counts {
    fn of(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::Asking => &mut self.asking,
            Phase::Failed => &mut self.failed,
            Phase::Running => &mut self.running,
            Phase::Ready => &mut self.ready,
            Phase::Retrying | Phase::Waiting => &mut self.waiting,
            Phase::Paused => &mut self.paused,
            Phase::Done => &mut self.done,
            Phase::Dropped => &mut self.dropped,
        }
    }

    pub(in crate::room) fn add(&mut self, phase: Phase) {
        *self.of(phase) += 1;
    }

    pub(in crate::room) fn sub(&mut self, phase: Phase) {
        let count = self.of(phase);
        *count = count.saturating_sub(1);
    }
}

impl Tasks {
    /// Finds everything that is derived again.
    pub(in crate::room) fn rebuild(&mut self, now: Timestamp) {
        self.derived = Derived::default();
        let all = std::mem::take(&mut self.all);
        for task in all.values() {
            self.index(task);
            for dependency in &task.record.spec.dependencies {
                self.derived.dependents.entry(dependency.id.clone()).or_default().insert(task.record.task().clone());
            }
        }
        self.all = all;
        let names: Vec<_> = self.all.keys().cloned().collect();
        let past = std::mem::take(&mut self.past);
        for (task, past) in past.iter() {
            self.meet(&task.agent);
            self.index_past(&task, past);
        }
        self.past = past;
        for task in &names {
            self.meet(&task.agent);
        }
        for task in names {
            if let Some(entry) = self.all.get(&task) {
                self.derived.counts.add(phase_of(entry, false));
                self.derived.ended.extend(ended(entry));
            }
            self.refresh(&task, now);
        }
        self.all.touch_all();
    }

    pub(super) fn put(&mut self, mut entry: Task, now: Timestamp) {
        let task = entry.record.task().clone();
        if entry.record.outcome.is_some() {
            self.paused.remove(&task);
        }
        entry.paused_since = self.paused.get(&task).map(|pause| pause.since);
        for dependency in &entry.record.spec.dependencies {
            self.derived.dependents.entry(dependency.id.clone()).or_default().insert(task.clone());
        }
        self.derived.counts.add(phase_of(&entry, false));
        self.index(&entry);
        self.derived.ended.extend(ended(&entry));
        self.meet(&task.agent);
        self.all.insert(task.clone(), entry);
        self.refresh(&task, now);
        self.wake_dependents(&task.id, now);
        self.shorten();
    }

    /// A task no longer cares how this one stands.
    pub(super) fn independent(&mut self, task: &TaskRef, of: &TaskId) {
        if let Some(waiting) = self.derived.dependents.get_mut(of) {
            waiting.remove(task);
            if waiting.is_empty() {
                self.derived.dependents.remove(of);
            }
        }
    }

    /// Notes what is looked up by more than its name.
    pub(super) fn index(&mut self, entry: &Task) {
        let task = entry.record.task();
        if let Some(former) = &entry.record.spec.retry_of {
            self.derived.successors.insert(former.clone(), task.clone());
        }
        if entry.record.outcome.as_ref().is_some_and(|o| o.state == EndState::Dead) {
            self.derived.dead.insert(task.clone());
        }
        if entry.wants_a_person() {
            self.derived.wanting.insert(task.clone());
        }
    }

    pub(in crate::room) fn wake_dependents(&mut self, id: &TaskId, now: Timestamp) {
        let waiting = self.derived.dependents.get(id).cloned().unwrap_or_default();
        for dependent in waiting {
            self.refresh(&dependent, now);
        }
    }

    /// Takes a task out of everything derived.
    pub(super) fn forget(&mut self, entry: &Task) {
        let task = entry.record.task();
        let ready = self.derived.keys.contains_key(task);
        self.derived.counts.sub(phase_of(entry, ready));
        self.unready(task);
        self.derived.dead.remove(task);
        self.derived.wanting.remove(task);
        for at in moments(&entry.record) {
            self.derived.due.remove(&(at, task.clone()));
        }
        if let Some(at) = entry.rests_until {
            self.derived.due.remove(&(at, task.clone()));
        }
        if let Some(key) = ended(entry) {
            self.derived.ended.remove(&key);
            for dependency in &entry.record.spec.dependencies {
                self.independent(task, &dependency.id);
            }
        }
    }

    pub(in crate::room) fn unready(&mut self, task: &TaskRef) {
        if let Some(key) = self.derived.keys.remove(task)
            && let Some(ready) = self.derived.ready.get_mut(&task.agent)
        {
            ready.remove(&key);
        }
    }

    /// Decides anew whether a task may start.
    pub(super) fn refresh(&mut self, task: &TaskRef, now: Timestamp) {
        let Some(entry) = self.all.get(task) else { return };
        let was = self.derived.keys.contains_key(task);
        for at in moments(&entry.record).filter(|at| *at > now) {
            self.derived.due.insert((at, task.clone()));
        }
        let expired = entry.expired(now);
        let startable = match &entry.record.standing {
            _ if entry.record.startable_at().is_some_and(|at| at > now) => false,
            Standing::Waiting | Standing::Retrying { .. } => true,
            Standing::Claimed => !entry.is_lost(),
            Standing::Running { .. } | Standing::Asking { .. } | Standing::Ended => false,
        };
        let resting = entry.rests_until.filter(|at| startable && *at > now);
        if let Some(at) = resting {
            self.derived.due.insert((at, task.clone()));
        }
        let is = startable
            && resting.is_none()
            && expired.is_none()
            && !entry.assigned
            && !entry.given_up
            && entry.paused_since.is_none()
            && !entry.record.spec.description.trim().is_empty()
            && match self.prerequisites(entry) {
                Prerequisites::Met => true,
                Prerequisites::Open(..) => false,
                Prerequisites::Failed(dependency) => {
                    if entry.hindrance.is_none() {
                        self.derived.hopeless.insert(task.clone(), dependency);
                    }
                    false
                }
            };
        if let Some(message) = expired {
            self.derived.expired.insert(task.clone(), message);
        }
        if was == is {
            return;
        }
        self.derived.counts.sub(phase_of(entry, was));
        self.derived.counts.add(phase_of(entry, is));
        if is {
            let key = self.orders.key(&entry.record);
            self.derived.ready.entry(task.agent.clone()).or_default().insert(key.clone());
            self.derived.keys.insert(task.clone(), key);
        } else {
            self.unready(task);
        }
        self.all.touch(task);
    }

    pub(super) fn index_past(&mut self, task: &TaskRef, past: &Past) {
        self.derived.counts.add(Pasts::phase(past));
        if past.state() == EndState::Dead {
            self.derived.dead.insert(task.clone());
        }
        if let Some(former) = past.retry_of() {
            self.derived.successors.insert(former.clone(), task.clone());
        }
    }

    pub(super) fn forget_past(&mut self, task: &TaskRef, past: &Past) {
        self.derived.counts.sub(Pasts::phase(past));
        self.derived.dead.remove(task);
    }

    pub(super) fn meet(&mut self, agent: &AgentName) {
        if !self.derived.agents.contains(agent) {
            self.derived.agents.insert(agent.clone());
        }
    }

    /// Tasks whose dependency did not end well and that nobody was told to end yet.
    pub(super) fn take_hopeless(&mut self) -> Vec<(TaskRef, TaskRef)> {
        let hopeless: Vec<_> = std::mem::take(&mut self.derived.hopeless).into_iter().collect();
        for (task, dependency) in &hopeless {
            if let Some(entry) = self.all.get_mut(task) {
                entry.hindrance = Some(format!("{dependency} did not end well"));
            }
        }
        hopeless
    }
}
