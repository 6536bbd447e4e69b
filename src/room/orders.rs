//! Further orders about tasks: remove and restore, more patience with silence, and what markers beside the tasks ask for.
//!
//! Its one surprise: a marker is an order that outlives the room. It is taken away only when what it asks for is done or
//! too late, so a cancel that was cut short by a crash is asked for again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Effect, OrderId, Process, State, done, refuse, why::span};
use crate::model::{Changes, Item, Request, TaskRef};

/// What markers ask for and what has become of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Not decided yet: a worker that is not connected holds the task.
    open: BTreeSet<(TaskRef, Request)>,
    /// Under way, under an order of their own.
    #[serde(with = "pairs")]
    told: BTreeMap<OrderId, (TaskRef, Request)>,
    /// How many orders were made of them; their numbers count down from the last one.
    made: u64,
}

/// A map as a list of pairs: JSON's keys are texts.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{OrderId, Request, TaskRef};

    type Told = BTreeMap<OrderId, (TaskRef, Request)>;

    pub(super) fn serialize<S: Serializer>(told: &Told, sink: S) -> Result<S::Ok, S::Error> {
        told.iter().collect::<Vec<_>>().serialize(sink)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Told, D::Error> {
        Vec::<(OrderId, (TaskRef, Request))>::deserialize(source).map(|pairs| pairs.into_iter().collect())
    }
}

impl State {
    /// The longest that one order puts an attempt's end off.
    const PATIENCE: Duration = Duration::from_hours(24);

    pub(super) fn extend(&mut self, id: OrderId, task: &TaskRef, by: Duration, effects: &mut Vec<Effect>) {
        let Some(slot) = self.agents.holder(task) else {
            let reason = match self.tasks.find(task) {
                None => format!("there is no task {task}"),
                Some(_) => format!("{task} is not running: there is nothing to wait longer for"),
            };
            return refuse(effects, id, reason);
        };
        if !matches!(slot.process, Process::Up { .. } | Process::Leaving { .. }) {
            let reason =
                format!("the worker of {} is not connected just now, so {task} got no more time: try again", slot.id);
            return refuse(effects, id, reason);
        }
        let by = by.min(Self::PATIENCE);
        let attempt = task.attempt(slot.held.as_ref().and_then(|h| h.attempt).unwrap_or(0));
        effects.push(Effect::Extend { slot: slot.id.clone(), attempt, by });
        let longer = span(jiff::SignedDuration::try_from(by).unwrap_or_default());
        done(effects, id, format!("{task} may be silent for {longer} longer"), vec![task.to_string()]);
    }

    pub(super) fn remove(&self, id: OrderId, item: Item, effects: &mut Vec<Effect>) {
        match self.no_removal(&item) {
            Some(reason) => refuse(effects, id, reason),
            None => effects.push(Effect::Remove { id, item }),
        }
    }

    fn no_removal(&self, item: &Item) -> Option<String> {
        let task = match item {
            Item::Task(task) => task,
            Item::File(path) if self.tasks.rejected.contains_key(path) => return None,
            Item::File(path) => return Some(format!("{path} is no file that was set aside")),
        };
        let Some(entry) = self.tasks.find(task) else { return Some(format!("there is no task {task}")) };
        if entry.assigned || self.agents.holder(task).is_some() || self.runs_elsewhere(task) {
            return Some(format!("{task} is running: cancel it first"));
        }
        if self.tasks.is_coming_back(task) {
            return Some(format!("{task} is about to start again"));
        }
        let goal = entry.record.spec.goal.as_ref().and_then(|g| self.goals.get(g));
        let goal = goal.filter(|g| g.tasks.contains(task) && !g.phase.is_over())?;
        Some(format!("{task} belongs to {}, which is {}: cancel it instead", goal.id, goal.phase.word()))
    }

    pub(super) fn restore(&self, id: OrderId, item: Item, effects: &mut Vec<Effect>) {
        if self.tasks.trash.iter().any(|removed| removed.item == item) {
            return effects.push(Effect::Restore { id, item });
        }
        let name = match &item {
            Item::Task(task) => task.to_string(),
            Item::File(path) => path.clone(),
        };
        refuse(effects, id, format!("{name} is not in the trash"));
    }

    /// Somebody left a marker.
    pub(super) fn requested(&mut self, task: TaskRef, request: Request) {
        let wanted = (task, request);
        if !self.requests.told.values().any(|told| *told == wanted) {
            self.requests.open.insert(wanted);
        }
    }

    /// Carries out what markers ask for, as if it had been ordered, and keeps their answers from everybody else.
    pub(super) fn settle_requests(&mut self, effects: &mut Vec<Effect>) {
        if self.opened_at.is_none() || (self.requests.open.is_empty() && self.requests.told.is_empty()) {
            return;
        }
        for (task, request) in self.requests.open.clone() {
            if request == Request::Cancel && self.runs_elsewhere(&task) {
                continue;
            }
            self.requests.open.remove(&(task.clone(), request));
            let id = OrderId(u64::MAX - self.requests.made);
            self.requests.made += 1;
            self.requests.told.insert(id, (task.clone(), request));
            match request {
                Request::Cancel => self.cancel(id, &task, effects),
                Request::Retry => self.retry(id, task, None, Changes::default(), effects),
            }
        }
        let told = &mut self.requests.told;
        let mut over = Vec::new();
        effects.retain(|effect| {
            let Effect::Answer { id, answer } = effect else { return true };
            let Some((_, request)) = told.get(id) else { return true };
            // A cancel that was accepted is not done before the task has ended.
            if *request == Request::Retry || matches!(answer, super::Answer::Refused { .. }) {
                over.extend(told.remove(id));
            }
            false
        });
        let ended = |task: &TaskRef| self.tasks.get(task).is_none_or(|t| t.record.outcome.is_some());
        let done: Vec<_> =
            told.iter().filter(|(_, (t, r))| *r == Request::Cancel && ended(t)).map(|(id, _)| *id).collect();
        over.extend(done.into_iter().filter_map(|id| told.remove(&id)));
        effects.extend(over.into_iter().map(|(task, request)| Effect::AnswerRequest { task, request }));
    }
}
