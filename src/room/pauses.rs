//! Tasks that a person, or too many denials, have paused: none of their attempts starts until a person lets them go on.
//!
//! Its one surprise: what runs is ended. Its session is taken up again afterwards where the engine can, and the attempt
//! does not count.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Effect, Event, OrderId, State, TaskEvent, Tasks, done, refuse};
use crate::model::{Ending, TaskRef};

/// Why a task is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The reason; empty where a person did it.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// The room did it, and wants a person to look.
    pub by_room: bool,
}

impl Tasks {
    /// Whether and why a task is paused.
    pub fn paused(&self, task: &TaskRef) -> Option<&Pause> {
        self.paused.get(task)
    }

    /// Every paused task.
    pub fn all_paused(&self) -> impl Iterator<Item = (&TaskRef, &Pause)> {
        self.paused.iter()
    }
}

impl State {
    pub(super) fn pause_task(&mut self, id: OrderId, task: &TaskRef, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.find(task) else {
            return refuse(effects, id, format!("there is no task {task}"));
        };
        if let Some(outcome) = &entry.record.outcome {
            return refuse(effects, id, format!("{task} has ended already: {}", outcome.state.word()));
        }
        if self.tasks.paused(task).is_some() {
            return refuse(effects, id, format!("{task} is paused already"));
        }
        let runs = self.agents.holder(task).is_some();
        let then = if runs { "; its attempt is ended and taken up again later" } else { "" };
        let pause = Some(Pause { why: String::new(), since: self.now, by_room: false });
        keep(task, pause, effects);
        done(effects, id, format!("{task} is paused{then}"), vec![task.to_string()]);
    }

    pub(super) fn resume_task(&mut self, id: OrderId, task: &TaskRef, effects: &mut Vec<Effect>) {
        if self.tasks.paused(task).is_none() {
            return refuse(effects, id, format!("{task} is not paused"));
        }
        keep(task, None, effects);
        done(effects, id, format!("{task} goes on"), vec![task.to_string()]);
    }

    /// Pauses a task, or lets it go on; also in a replay, where nobody knows it yet.
    pub(super) fn pause_now(&mut self, task: &TaskRef, pause: Option<Pause>, effects: &mut Vec<Effect>) {
        if let Some(pause) = pause {
            self.tasks.paused.insert(task.clone(), pause);
        } else {
            self.tasks.paused.remove(task);
            self.asks.forgive(task);
        }
        self.tasks.amend(task, self.now, |_| {});
        if self.tasks.paused(task).is_some()
            && let Some(slot) = self.agents.holder(task)
        {
            let attempt = task.attempt(slot.held.as_ref().and_then(|held| held.attempt).unwrap_or(0));
            effects.push(Effect::EndAttempt { slot: slot.id.clone(), attempt, ending: Ending::Paused });
        }
    }
}

fn keep(task: &TaskRef, pause: Option<Pause>, effects: &mut Vec<Effect>) {
    let fact = Event::Task(TaskEvent::Paused { task: task.clone(), pause });
    effects.push(Effect::Keep { fact: Box::new(fact) });
}
