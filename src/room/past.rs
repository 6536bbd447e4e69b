//! Tasks that ended a while ago, in short.
//!
//! The room keeps its newest ended tasks whole and the rest as [`Past`], so that a hundred thousand of them cost
//! little. Its one surprise: which is which says nothing about a task; whoever asks with [`Tasks::find`] sees no
//! difference but the missing text.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{State, Task, Tasks, tasks::Phase};
use crate::model::{AgentName, EndState, Past, TaskId, TaskRef};

/// Ended tasks in short.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pasts {
    all: BTreeMap<AgentName, BTreeMap<TaskId, Past>>,
    /// Those that ended badly and that nobody has looked at.
    open: BTreeSet<TaskRef>,
}

impl Pasts {
    pub(super) fn get(&self, task: &TaskRef) -> Option<&Past> {
        self.all.get(&task.agent)?.get(&task.id)
    }

    /// Adds one; the one of that name that was there before.
    pub(super) fn insert(&mut self, task: TaskRef, past: Past, looked_at: bool) -> Option<Past> {
        if looked_at || !State::is_bad(past.state()) {
            self.open.remove(&task);
        } else {
            self.open.insert(task.clone());
        }
        let TaskRef { agent, id } = task;
        match self.all.get_mut(&agent) {
            Some(of) => of.insert(id, past),
            None => self.all.entry(agent).or_default().insert(id, past),
        }
    }

    pub(super) fn remove(&mut self, task: &TaskRef) -> Option<Past> {
        self.open.remove(task);
        self.all.get_mut(&task.agent)?.remove(&task.id)
    }

    pub(super) fn look_at(&mut self, task: &TaskRef) {
        self.open.remove(task);
    }

    /// Those that ended badly and that nobody has looked at.
    pub(super) fn needs_attention(&self) -> impl Iterator<Item = &TaskRef> {
        self.open.iter()
    }

    pub(super) fn wants_attention(&self, task: &TaskRef) -> bool {
        self.open.contains(task)
    }

    pub(super) fn len(&self) -> usize {
        self.all.values().map(BTreeMap::len).sum()
    }

    /// Each with its name, by agent and id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskRef, &Past)> {
        self.all
            .iter()
            .flat_map(|(agent, of)| of.iter().map(|(id, past)| (TaskRef::new(agent.clone(), id.clone()), past)))
    }

    /// The ids of one agent's.
    pub(super) fn ids(&self, agent: &AgentName) -> impl Iterator<Item = &TaskId> {
        self.all.get(agent).into_iter().flat_map(BTreeMap::keys)
    }

    /// Where a past task stands.
    pub(super) fn phase(past: &Past) -> Phase {
        match past.state() {
            EndState::Done => Phase::Done,
            EndState::Cancelled | EndState::Skipped => Phase::Dropped,
            EndState::Failed | EndState::TimedOut | EndState::Expired | EndState::Dead => Phase::Failed,
        }
    }

    fn task(&self, name: &TaskRef, past: &Past) -> Task {
        Task {
            record: past.record(name),
            assigned: false,
            hindrance: None,
            looked_at: !self.open.contains(name),
            given_up: false,
            rests_until: None,
            paused_since: None,
        }
    }
}

impl Tasks {
    /// One task, whole or in short.
    pub fn find(&self, task: &TaskRef) -> Option<Cow<'_, Task>> {
        match self.get(task) {
            Some(found) => Some(Cow::Borrowed(found)),
            None => self.past.get(task).map(|past| Cow::Owned(self.past.task(task, past))),
        }
    }

    /// Every task, whole or in short: the whole ones first.
    pub fn each(&self) -> impl Iterator<Item = Cow<'_, Task>> {
        let past = self.past.iter().map(|(name, past)| Cow::Owned(self.past.task(&name, past)));
        self.iter().map(Cow::Borrowed).chain(past)
    }

    /// How many ended tasks are kept in short.
    pub fn past_len(&self) -> usize {
        self.past.len()
    }

    /// How a task ended; `None` where it has not, or is not known.
    pub fn end_state(&self, task: &TaskRef) -> Option<EndState> {
        match self.get(task) {
            Some(found) => found.record.outcome.as_ref().map(|outcome| outcome.state),
            None => self.past.get(task).map(Past::state),
        }
    }

    /// When a task ended; `None` where it has not, or is not known.
    pub fn ended_at(&self, task: &TaskRef) -> Option<Timestamp> {
        match self.get(task) {
            Some(found) => found.record.outcome.as_ref().map(|outcome| outcome.completed_at),
            None => self.past.get(task).map(Past::ended_at),
        }
    }

    /// Whether there is such a task.
    pub fn knows(&self, task: &TaskRef) -> bool {
        self.get(task).is_some() || self.past.get(task).is_some()
    }

    /// The names of the tasks with this id, whoever's they are.
    pub fn with_id(&self, id: &TaskId) -> Vec<TaskRef> {
        self.agents().map(|agent| TaskRef::new(agent.clone(), id.clone())).filter(|task| self.knows(task)).collect()
    }
}

/// A part of the room's tasks: a picture of a hundred thousand does not go over a wire in one breath.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "are", content = "these")]
pub enum Piece<'a> {
    /// Tasks.
    Whole(Vec<Cow<'a, Task>>),
    /// Tasks that ended a while ago; each with its name and whether somebody has looked at its bad ending.
    Past(Vec<(TaskRef, Cow<'a, Past>, bool)>),
}

impl Piece<'_> {
    /// Tasks in one piece.
    const SIZE: usize = 500;
}

impl State {
    /// The tasks, in pieces; serialised, a state has all but these.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut whole = self.tasks.iter().map(Cow::Borrowed).peekable();
        let mut past = self.tasks.past.iter().peekable();
        std::iter::from_fn(move || {
            if whole.peek().is_some() {
                return Some(Piece::Whole(whole.by_ref().take(Piece::SIZE).collect()));
            }
            past.peek()?;
            let each = past.by_ref().take(Piece::SIZE).map(|(task, past)| {
                let looked_at = !self.tasks.past.wants_attention(&task);
                (task, Cow::Borrowed(past), looked_at)
            });
            Some(Piece::Past(each.collect()))
        })
    }

    /// Takes a piece in; [`State::rebuild`] makes the state whole again after the last one.
    pub fn add(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Whole(tasks) => {
                for task in tasks {
                    self.tasks.all.insert(task.record.task().clone(), task.into_owned());
                }
            }
            Piece::Past(tasks) => {
                for (task, past, looked_at) in tasks {
                    self.tasks.past.insert(task, past.into_owned(), looked_at);
                }
            }
        }
    }
}
