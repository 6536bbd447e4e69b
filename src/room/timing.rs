//! The times that a task's file names: not before, a first start by, an end by.
//!
//! Its one surprise: nothing here ends what runs. Its worker knows the deadline too and ends the attempt.

use jiff::Timestamp;

use super::{Effect, State, Task, Tasks};
use crate::model::{Ending, TaskRecord, TaskRef};

/// When something happens to a task by itself: it may start, or it expires.
pub(super) fn moments(record: &TaskRecord) -> impl Iterator<Item = Timestamp> {
    let open = record.outcome.is_none();
    let expires = record.expires_at().map(|(at, _)| at);
    [record.startable_at(), expires].into_iter().flatten().filter(move |_| open)
}

impl Task {
    /// What is said about it where its time is over and nobody holds it.
    pub(super) fn expired(&self, now: Timestamp) -> Option<String> {
        let idle = !self.assigned && !self.given_up && self.record.outcome.is_none();
        self.record.expires_at().filter(|(at, _)| idle && *at <= now).map(|(_, message)| message)
    }
}

impl Tasks {
    /// Whether there are tasks whose time is over and that nobody was told to end yet.
    pub(super) fn has_expired(&self) -> bool {
        !self.derived.expired.is_empty()
    }

    /// Takes them.
    fn take_expired(&mut self) -> Vec<(TaskRef, String)> {
        let expired = std::mem::take(&mut self.derived.expired);
        expired.into_iter().filter(|(task, message)| self.stop(task, message)).collect()
    }
}

impl State {
    /// Ends tasks whose time is over, each once.
    pub(super) fn settle_expired(&mut self, effects: &mut Vec<Effect>) {
        if self.opened_at.is_none() || !self.may_expire() {
            return;
        }
        for (task, message) in self.tasks.take_expired() {
            effects.push(Effect::EndTask { id: None, task, ending: Ending::Expired { message } });
        }
    }
}
