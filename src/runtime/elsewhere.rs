//! What the gateway must know for calls from other machines: which attempts run, and who pays for them.
//!
//! Its one surprise: it listens to the queue's word alone. A worker elsewhere has claimed its task there before it calls,
//! and nothing that it says of itself counts.

use super::money;
use crate::{
    gateway::Gateway,
    model::{TaskRef, task::Standing},
    room::{Event, State, TaskEvent},
};

/// The task that an event moves, and the attempt that runs of it then.
pub(super) fn moved(event: &Event) -> Option<(TaskRef, Option<u32>)> {
    let Event::Task(event) = event else { return None };
    match event {
        TaskEvent::Changed { record } => {
            let attempt = match record.standing {
                Standing::Running { attempt } => Some(attempt),
                Standing::Waiting
                | Standing::Claimed
                | Standing::Retrying { .. }
                | Standing::Asking { .. }
                | Standing::Ended => None,
            };
            Some((record.task().clone(), attempt))
        }
        TaskEvent::Withdrawn { task } => Some((task.clone(), None)),
        TaskEvent::Found { .. }
        | TaskEvent::Prioritised { .. }
        | TaskEvent::Paused { .. }
        | TaskEvent::Requested { .. }
        | TaskEvent::Trash { .. }
        | TaskEvent::Rejected { .. }
        | TaskEvent::RejectedGone { .. }
        | TaskEvent::Polling { .. }
        | TaskEvent::Space { .. }
        | TaskEvent::Answered { .. } => None,
    }
}

/// Tells the gateway, once the state knows of it.
pub(super) fn tell(gateway: &Gateway, state: &State, (task, attempt): (TaskRef, Option<u32>)) {
    match attempt {
        Some(n) => {
            let (duty, payers) = money::duty(state, &task, Some(n));
            gateway.runs(duty, payers);
        }
        None => gateway.rests(&task),
    }
}
