//! The times that a task's file names: not before, a first start by, an end by.
//!
//! Its one surprise: a deadline ends nothing that runs. The attempt goes on; only if it fails does the task expire.

use jiff::Timestamp;

use super::{Effect, State, Task, Tasks, why::span};
use crate::model::{Ending, Standing, TaskRecord, TaskRef};

/// When something happens to a task by itself: it may start, or it expires.
pub(super) fn moments(record: &TaskRecord) -> impl Iterator<Item = Timestamp> {
    let retry = match record.standing {
        Standing::Retrying { not_before, .. } => Some(not_before),
        Standing::Waiting
        | Standing::Claimed
        | Standing::Running { .. }
        | Standing::Asking { .. }
        | Standing::Ended => None,
    };
    let open = record.outcome.is_none();
    let expires = expiry(record).map(|(at, _)| at);
    [retry, startable_at(record), expires].into_iter().flatten().filter(move |_| open)
}

/// When a task that has not been tried may start, where its file says so.
pub(super) fn startable_at(record: &TaskRecord) -> Option<Timestamp> {
    record.spec.not_before.filter(|_| matches!(record.standing, Standing::Waiting | Standing::Claimed))
}

/// When a task expires if it is not running then, and what is said about it.
fn expiry(record: &TaskRecord) -> Option<(Timestamp, String)> {
    let spec = &record.spec;
    let start = spec.start_by.filter(|_| record.attempts.is_empty()).and_then(|allowed| {
        let allowed = jiff::SignedDuration::try_from(allowed).ok()?;
        let at = record.seen_at.checked_add(allowed).ok()?;
        Some((at, format!("not started within {}", span(allowed))))
    });
    let end = spec.deadline.map(|at| (at, format!("its deadline, {at}, has passed")));
    start.into_iter().chain(end).min()
}

impl Task {
    /// What is said about it where its time is over and nobody holds it.
    pub(super) fn expired(&self, now: Timestamp) -> Option<String> {
        let idle = match self.record.standing {
            Standing::Waiting | Standing::Claimed | Standing::Retrying { .. } | Standing::Asking { .. } => true,
            Standing::Running { .. } | Standing::Ended => false,
        };
        let idle = idle && !self.assigned && !self.given_up && self.record.outcome.is_none();
        expiry(&self.record).filter(|(at, _)| idle && *at <= now).map(|(_, message)| message)
    }
}

impl Tasks {
    /// Tasks whose time is over and that nobody was told to end yet.
    fn take_expired(&mut self) -> Vec<(TaskRef, String)> {
        let expired = std::mem::take(&mut self.derived.expired);
        expired.into_iter().filter(|(task, message)| self.stop(task, message)).collect()
    }
}

impl State {
    /// Ends tasks whose time is over, each once.
    pub(super) fn settle_expired(&mut self, effects: &mut Vec<Effect>) {
        if self.opened_at.is_none() {
            return;
        }
        for (task, message) in self.tasks.take_expired() {
            effects.push(Effect::EndTask { id: None, task, ending: Ending::Expired { message } });
        }
    }
}
