//! One task as the room sees it, and where it stands for an operator.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Dependency, EndState, Standing, TaskRecord, TaskRef},
    room::State,
};

/// One task as the room sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What the queue says.
    pub record: TaskRecord,
    /// In a worker's hands, or on its way there.
    pub assigned: bool,
    /// Why the last assignment came to nothing.
    pub hindrance: Option<String>,
    /// A person has seen its bad ending and acted on it.
    pub looked_at: bool,
    /// It must not start any more: the queue was told to end it.
    #[serde(default)]
    pub given_up: bool,
    /// Not handed out again before: a worker could not begin it.
    #[serde(default)]
    pub rests_until: Option<Timestamp>,
    /// Since when nothing of it starts until a person lets it go on; [`super::Tasks::paused`] says why.
    #[serde(default)]
    pub paused_since: Option<Timestamp>,
}

/// Where a task stands for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Wants a person to say what next: first on screen.
    Asking,
    /// Ended badly.
    Failed,
    /// An attempt runs, or is about to.
    Running,
    /// May start now.
    Ready,
    /// Waits for the next attempt.
    Retrying,
    /// Waits for something else.
    Waiting,
    /// Waits until a person lets it go on.
    Paused,
    /// Ended well.
    Done,
    /// Cancelled or skipped.
    Dropped,
}

impl Phase {
    /// The word on screen, where the ending does not say more.
    pub fn word(self) -> &'static str {
        match self {
            Self::Asking => "asks",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Dropped => "dropped",
        }
    }
}

/// How the dependencies of a task stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prerequisites {
    /// All have ended well, or the task runs all the same.
    Met,
    /// These have not ended; the first list is known, the second nobody has submitted.
    Open(Vec<TaskRef>, Vec<Dependency>),
    /// This one did not end well.
    Failed(TaskRef),
}

impl Task {
    /// Its last attempt has neither a holder nor an ending: the queue must be mended first.
    pub fn is_lost(&self) -> bool {
        self.record.standing == Standing::Claimed && self.record.attempts.last().is_some_and(|a| a.ended_at.is_none())
    }

    /// It is asked what to do with it next.
    pub(in crate::room) fn asks(&self) -> bool {
        matches!(self.record.standing, Standing::Asking { .. })
    }

    pub(super) fn wants_a_person(&self) -> bool {
        self.asks() || self.needs_attention()
    }

    /// Ended badly and nobody has acted on it. One that was retried elsewhere is left out by [`State::needs_you`].
    pub fn needs_attention(&self) -> bool {
        !self.looked_at && self.record.outcome.as_ref().is_some_and(|o| State::is_bad(o.state))
    }
}

/// Where an ended task that may be shortened stands among those.
pub(super) fn ended(entry: &Task) -> Option<(Timestamp, TaskRef)> {
    let outcome =
        entry.record.outcome.as_ref().filter(|_| entry.record.standing == Standing::Ended && !entry.assigned)?;
    Some((outcome.completed_at, entry.record.task().clone()))
}

/// Where a task stands when it is known whether it is ready.
pub(in crate::room) fn phase_of(task: &Task, ready: bool) -> Phase {
    match (&task.record.standing, &task.record.outcome) {
        _ if task.assigned => Phase::Running,
        (Standing::Ended, Some(outcome)) if State::is_bad(outcome.state) => Phase::Failed,
        (Standing::Ended, Some(outcome)) if outcome.state != EndState::Done => Phase::Dropped,
        (Standing::Ended, _) => Phase::Done,
        (Standing::Running { .. }, _) => Phase::Running,
        (Standing::Waiting | Standing::Claimed | Standing::Retrying { .. }, _) if task.paused_since.is_some() => {
            Phase::Paused
        }
        (Standing::Waiting | Standing::Claimed | Standing::Retrying { .. }, _) if ready => Phase::Ready,
        (Standing::Retrying { .. }, _) => Phase::Retrying,
        (Standing::Asking { .. }, _) => Phase::Asking,
        (Standing::Waiting | Standing::Claimed, _) => Phase::Waiting,
    }
}
