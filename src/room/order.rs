//! In which order ready tasks start: what was learned, what their goals wait for, and what an operator changed.
//!
//! Owns everything that a task's place among the ready ones is made of, and the sharing out of free places. Must not
//! know plans: `goals` says how urgent their tasks are. Its one surprise: a changed priority is the room's own fact and not
//! in the task's file, which may be somebody else's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Effect, Event, OrderId, State, TaskEvent, Tasks, done,
    ready::{Key, is_fair, lane},
    refuse,
    tasks::{Phase, phase_of},
};
use crate::{
    model::{AgentName, GoalId, Outcome, Past, Priority, TaskRecord, TaskRef, TaskSpec},
    orchestrator::{
        learned::{Kind, Learned},
        schedule::{self, Urgency},
    },
};

/// What orders the ready tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Orders {
    /// What tasks of each kind take.
    pub(super) learned: Learned,
    /// Something was learned that the goals have not heard of yet.
    #[serde(skip)]
    news: bool,
    /// How urgent the tasks of running goals are, and when those were approved.
    goals: BTreeMap<TaskRef, (Urgency, Timestamp)>,
    /// Priorities that an operator changed, of tasks that have not ended.
    changed: BTreeMap<TaskRef, Priority>,
    /// How many tasks each agent was given.
    picks: BTreeMap<AgentName, u32>,
    /// How many were given in all.
    starts: u32,
}

impl Orders {
    /// Where a task stands among the ready ones of its agent.
    pub(super) fn key(&self, record: &TaskRecord) -> Key {
        let (task, seen_at) = (record.task(), record.seen_at);
        let (urgency, since) = self.goals.get(task).copied().unwrap_or((Urgency::default(), seen_at));
        Key { lane: lane(self.priority(&record.spec)), since, urgency, seen_at, task: task.clone() }
    }

    fn priority(&self, spec: &TaskSpec) -> Priority {
        self.changed.get(&spec.task).copied().unwrap_or(spec.priority)
    }
}

impl Tasks {
    /// How urgent a task is: as an operator said last, else as its file says.
    pub fn priority(&self, spec: &TaskSpec) -> Priority {
        self.orders.priority(spec)
    }

    /// What tasks of each kind take.
    pub fn learned(&self) -> &Learned {
        &self.orders.learned
    }

    /// Learns from a result that was not known before.
    pub(super) fn learn(&mut self, record: &TaskRecord, outcome: &Outcome) {
        self.orders.changed.remove(record.task());
        // A result tells when the first attempt began; what is learned is what the last one took.
        let started_at = match record.attempts.iter().find(|attempt| attempt.n == outcome.attempt) {
            Some(attempt) => attempt.started_at,
            None if outcome.attempt == 1 => outcome.started_at,
            None => return,
        };
        self.orders.news |= self.orders.learned.hear(Kind::of(&record.spec), outcome, started_at);
    }

    /// Learns from a result that was found in short: of one with several attempts nobody knows what the last one took.
    pub(super) fn learn_past(&mut self, task: &TaskRef, past: &Past) {
        let record = past.record(task);
        if let Some(outcome) = record.outcome.as_ref().filter(|outcome| outcome.attempt == 1) {
            self.learn(&record, outcome);
        }
    }

    /// Another agent's task takes a planned one's place.
    pub(super) fn follow_rank(&mut self, task: &TaskRef, instead: &TaskRef) {
        if let Some(rank) = self.orders.goals.get(task) {
            self.orders.goals.insert(instead.clone(), *rank);
        }
    }

    /// An operator has changed how urgent a task is; in a replay it is not known yet.
    pub(super) fn prioritised(&mut self, task: &TaskRef, priority: Priority) {
        self.orders.changed.insert(task.clone(), priority);
        self.place(task);
    }

    /// Puts a ready task where it belongs now.
    fn place(&mut self, task: &TaskRef) {
        let Some(entry) = self.all.get(task) else { return };
        let key = self.orders.key(&entry.record);
        let Some(former) = self.derived.keys.get(task).filter(|former| **former != key).cloned() else { return };
        if let Some(ready) = self.derived.ready.get_mut(&task.agent) {
            ready.remove(&former);
            ready.insert(key.clone());
        }
        self.derived.keys.insert(task.clone(), key);
    }

    /// What starts next among the ready tasks of `agents`: of each the most urgent or, every tenth time, the one that
    /// has waited longest; and of those again by the same rule, because they may have to share the places that are left.
    pub(super) fn next_of<'a>(&self, agents: impl Iterator<Item = &'a AgentName>) -> Option<TaskRef> {
        let fair = is_fair(self.orders.starts);
        let heads = agents.filter_map(|agent| {
            let picked = self.orders.picks.get(agent).copied().unwrap_or_default();
            self.derived.ready.get(agent)?.next(fair || is_fair(picked))
        });
        let next = if fair { heads.min_by_key(|key| (key.since, *key)) } else { heads.min() };
        next.map(|key| key.task.clone())
    }

    /// Hands a ready task out.
    pub(super) fn take(&mut self, task: &TaskRef) {
        let picked = self.orders.picks.entry(task.agent.clone()).or_default();
        *picked = picked.wrapping_add(1);
        self.orders.starts = self.orders.starts.wrapping_add(1);
        let Some(entry) = self.all.get_mut(task) else { return };
        self.derived.counts.sub(phase_of(entry, true));
        entry.assigned = true;
        entry.hindrance = None;
        self.derived.counts.add(Phase::Running);
        self.unready(task);
    }
}

impl State {
    /// Ranks the tasks of a goal, by what is known now.
    pub(super) fn rank(&mut self, id: &GoalId) {
        let Some(goal) = self.goals.get(id) else { return };
        let (Some(plan), Some(approved_at)) = (&goal.plan, goal.approved_at) else { return };
        let Some(urgencies) = schedule::urgencies(plan, &self.tasks.orders.learned) else { return };
        let tasks: Vec<_> = plan.tasks.iter().map(|task| task.reference(id)).zip(urgencies).collect();
        for (task, urgency) in tasks {
            if let Some(task) = task {
                self.tasks.orders.goals.insert(task.clone(), (urgency, approved_at));
                self.tasks.place(&task);
            }
        }
    }

    /// Forgets the order among the tasks of a goal that is over.
    pub(super) fn unrank(&mut self, id: &GoalId) {
        let Some(plan) = self.goals.get(id).and_then(|goal| goal.plan.as_ref()) else { return };
        let tasks: Vec<_> = plan.tasks.iter().filter_map(|task| task.reference(id)).collect();
        for task in tasks {
            self.tasks.orders.goals.remove(&task);
        }
    }

    /// Ranks all goals anew where something was learned since.
    pub(super) fn rank_anew(&mut self) {
        if std::mem::take(&mut self.tasks.orders.news) {
            let running: Vec<GoalId> = self.goals.iter().filter(|g| g.is_running()).map(|g| g.id.clone()).collect();
            for id in running {
                self.rank(&id);
            }
        }
    }

    /// An operator says how urgent a task is.
    pub(super) fn prioritise(&mut self, id: OrderId, task: &TaskRef, priority: Priority, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.find(task) else {
            return refuse(effects, id, format!("there is no task {task}"));
        };
        if let Some(outcome) = &entry.record.outcome {
            return refuse(effects, id, format!("{task} has ended already: {}", outcome.state.word()));
        }
        let text = format!("{task} is {} now ({})", priority.word(), priority.0);
        let fact = Event::Task(TaskEvent::Prioritised { task: task.clone(), priority });
        effects.push(Effect::Keep { fact: Box::new(fact) });
        done(effects, id, text, vec![task.to_string()]);
    }
}
