//! Tasks as the room sees them: the queue's records, and what workers say of them before the queue does.

mod derived;
mod entries;
mod entry;
mod happening;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{order::Orders, past::Pasts, pauses::Pause, retry::Underway};
use crate::model::{
    AgentName, AttemptRecord, AttemptRef, Dependency, EndState, Ending, IfFailed, Outcome, Past, Rejected, Removed,
    Spend, Standing, TaskId, TaskRecord, TaskRef,
};
pub use derived::Counts;
use derived::Derived;
use entries::Entries;
pub use entries::Stamp;
pub(super) use entry::phase_of;
pub use entry::{Phase, Prerequisites, Task};

/// Every task, and what is derived from them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tasks {
    /// Not sent with the rest, but piece by piece.
    #[serde(skip)]
    pub(super) all: Entries,
    /// Ended tasks beyond the newest [`Past::WHOLE`].
    #[serde(skip)]
    pub(super) past: Pasts,
    /// Ended tasks that the queue has found and not read yet.
    pub unread: usize,
    /// Files that are no tasks, by path.
    pub rejected: BTreeMap<String, Rejected>,
    /// How many more there are than `rejected` holds.
    pub rejected_more: usize,
    /// What was thrown away, newest first.
    pub trash: Vec<Removed>,
    /// Why changes are noticed by looking now and then; `None` = the kernel tells.
    pub polling: Option<String>,
    /// Why nothing new is started: the disk is nearly full; `None` = there is room.
    pub space: Option<String>,
    /// Starts allowed per task, where the task does not say.
    pub attempts_allowed: u32,
    /// What is paused, and why.
    pub(super) paused: BTreeMap<TaskRef, Pause>,
    /// What orders those that are ready.
    pub(super) orders: Orders,
    /// Retries that were ordered and are not in the picture yet.
    pub(super) retries: Vec<Underway>,
    #[serde(skip)]
    pub(super) derived: Derived,
}

impl PartialEq for Tasks {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
            && self.past == other.past
            && self.unread == other.unread
            && self.rejected == other.rejected
            && self.trash == other.trash
            && self.polling == other.polling
            && self.orders == other.orders
            && self.retries == other.retries
            && self.space == other.space
            && self.rejected_more == other.rejected_more
            && self.paused == other.paused
    }
}

impl Tasks {
    /// Every task, by agent and id.
    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.all.values()
    }

    /// One task.
    pub fn get(&self, task: &TaskRef) -> Option<&Task> {
        self.all.get(task)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len() + self.past.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dead letters: tasks whose attempts are used up, by agent and id.
    pub fn dead(&self) -> impl ExactSizeIterator<Item = &TaskRef> {
        self.derived.dead.iter()
    }

    /// The tasks of one agent, by id.
    pub fn of<'a>(&'a self, agent: &AgentName) -> impl Iterator<Item = &'a Task> + use<'a> {
        let (first, agent) = (TaskRef::new(agent.clone(), TaskId::first()), agent.clone());
        self.all.range(first..).take_while(move |(task, _)| task.agent == agent).map(|(_, task)| task)
    }

    /// Those that want a person, by agent and id: asked what next, or ended badly with nobody having acted on it.
    pub(super) fn wanting(&self) -> impl Iterator<Item = &Task> {
        self.derived.wanting.iter().filter_map(|task| self.all.get(task))
    }

    /// How many stand where.
    pub fn counts(&self) -> Counts {
        self.derived.counts
    }

    /// Where a task stands for an operator.
    pub fn phase(&self, task: &Task) -> Phase {
        // What has ended is never ready, and most have.
        let may_be_ready = task.record.standing != Standing::Ended;
        phase_of(task, may_be_ready && self.derived.keys.contains_key(task.record.task()))
    }

    /// Where they stand in their history: as long as it is the same, so are they and their phases.
    pub fn stamp(&self) -> Stamp {
        self.all.stamp()
    }

    /// The tasks that changed, came or went since then, some of them more than once; `None` when that is not known any more.
    pub fn changed_since(&self, stamp: Stamp) -> Option<impl Iterator<Item = &TaskRef>> {
        self.all.changed_since(stamp)
    }

    /// Whether nothing of it has begun: it can be taken out of the queue, or is not in it yet.
    pub(super) fn may_move(&self, task: &TaskRef) -> bool {
        let untouched = |t: &Task| {
            !t.assigned
                && t.record.standing == Standing::Waiting
                && t.record.attempts.is_empty()
                && t.record.outcome.is_none()
        };
        self.find(task).is_none_or(|t| untouched(&t))
    }

    /// The tasks ahead of `task` on its agent, and itself not among them; `None` when it is not ready.
    pub fn ahead(&self, task: &TaskRef) -> Option<usize> {
        let key = self.derived.keys.get(task)?;
        Some(self.derived.ready.get(&task.agent)?.ahead(key))
    }

    /// Agents that have or had tasks.
    pub(super) fn agents(&self) -> impl Iterator<Item = &AgentName> {
        self.derived.agents.iter()
    }

    /// The task a dependency means: the task's own agent first, then any.
    pub fn resolve(&self, of: &TaskRef, dependency: &Dependency) -> Option<TaskRef> {
        let at = |agent: &AgentName| {
            Some(TaskRef::new(agent.clone(), dependency.id.clone())).filter(|task| self.knows(task))
        };
        match &dependency.agent {
            Some(agent) => at(agent),
            None => at(&of.agent).or_else(|| self.agents().find_map(at)),
        }
    }

    /// How a task's dependencies stand.
    pub fn prerequisites(&self, task: &Task) -> Prerequisites {
        let spec = &task.record.spec;
        let (mut open, mut unknown) = (Vec::new(), Vec::new());
        for dependency in &spec.dependencies {
            match self.resolve(&spec.task, dependency) {
                None => unknown.push(dependency.clone()),
                Some(found) if self.is_coming_back(&found) => open.push(found),
                Some(found) => match self.end_state(&found) {
                    Some(state) if state == EndState::Done || spec.if_failed == IfFailed::Run => {}
                    Some(_) => return Prerequisites::Failed(found),
                    None => open.push(found),
                },
            }
        }
        if open.is_empty() && unknown.is_empty() { Prerequisites::Met } else { Prerequisites::Open(open, unknown) }
    }

    /// What waits for a task, by agent and id.
    pub fn waits_for(&self, task: &TaskRef) -> Vec<TaskRef> {
        let named = self.derived.dependents.get(&task.id).into_iter().flatten();
        let means = |of: &&TaskRef| {
            self.all.get(of).is_some_and(|entry| {
                let mut needs = entry.record.spec.dependencies.iter();
                needs.any(|dependency| self.resolve(of, dependency).as_ref() == Some(task))
            })
        };
        named.filter(means).cloned().collect()
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.derived.due.first().map(|(at, _)| *at)
    }

    /// Moves tasks whose wait is over to the ready ones.
    pub(super) fn wake(&mut self, now: Timestamp) {
        while let Some((at, task)) = self.derived.due.first().cloned()
            && at <= now
        {
            self.derived.due.remove(&(at, task.clone()));
            self.refresh(&task, now);
        }
    }

    pub(super) fn release(&mut self, task: &TaskRef) {
        // What became of the attempt is read from the queue; until then nobody else may have it.
        if let Some(entry) = self.all.get_mut(task) {
            entry.hindrance = Some("its worker ended".to_owned());
        }
    }

    /// Keeps a task that nobody holds and nobody was told to end from ever starting; false for all others.
    pub(super) fn give_up(&mut self, task: &TaskRef, why: &str) -> bool {
        let Some(entry) = self.all.get(task) else { return false };
        if entry.assigned || entry.hindrance.is_some() || entry.record.outcome.is_some() {
            return false;
        }
        self.stop(task, why)
    }

    /// Keeps a task from ever starting; false where it is gone.
    pub(super) fn stop(&mut self, task: &TaskRef, why: &str) -> bool {
        if let Some(mut entry) = self.all.remove(task) {
            self.forget(&entry);
            entry.hindrance = Some(why.to_owned());
            entry.given_up = true;
            let now = entry.record.seen_at;
            self.put(entry, now);
            return true;
        }
        false
    }

    /// A former room's worker runs this task.
    pub(super) fn adopt(&mut self, task: &TaskRef, now: Timestamp) {
        if let Some(mut entry) = self.all.remove(task) {
            self.forget(&entry);
            entry.assigned = true;
            self.put(entry, now);
        }
    }

    pub(super) fn started(&mut self, attempt: &AttemptRef, at: Timestamp, session_id: Option<String>, log: String) {
        let Some(mut entry) = self.all.remove(&attempt.task) else { return };
        self.forget(&entry);
        if entry.record.outcome.is_none() && entry.record.last_attempt() < attempt.n {
            entry.record.attempts.push(AttemptRecord {
                n: attempt.n,
                started_at: at,
                ended_at: None,
                ending: None,
                session_id,
                spend: Spend::default(),
                log,
            });
            entry.record.standing = Standing::Running { attempt: attempt.n };
        }
        entry.assigned = true;
        self.put(entry, at);
    }

    pub(super) fn failed(
        &mut self,
        attempt: &AttemptRef,
        ending: Ending,
        spend: Spend,
        not_before: Timestamp,
        at: Timestamp,
    ) {
        let Some(mut entry) = self.all.remove(&attempt.task) else { return };
        self.forget(&entry);
        entry.assigned = false;
        if let Some(last) = entry.record.attempts.iter_mut().find(|a| a.n == attempt.n) {
            last.ended_at = Some(at);
            last.ending = Some(ending);
            last.spend = spend;
        }
        if entry.record.outcome.is_none() {
            entry.record.standing = Standing::Retrying { attempt: attempt.n, not_before };
        }
        self.put(entry, at);
    }

    pub(super) fn ended(&mut self, outcome: Outcome, now: Timestamp) {
        let Some(mut entry) = self.all.remove(&outcome.task) else { return };
        self.forget(&entry);
        entry.assigned = false;
        if let Some(last) = entry.record.attempts.iter_mut().find(|a| a.n == outcome.attempt) {
            last.ended_at.get_or_insert(outcome.completed_at);
            last.ending.get_or_insert_with(|| outcome.ending.clone());
        }
        entry.record.standing = Standing::Ended;
        if entry.record.outcome.is_none() {
            self.learn(&entry.record, &outcome);
        }
        // A result that somebody else put there first is the one on disk: the attempt's own lies beside the attempt.
        if entry.record.outcome.as_ref().is_none_or(|known| !known.foreign) {
            entry.record.outcome = Some(outcome.clipped(TaskRecord::TEXT_LIMIT));
        }
        self.put(entry, now);
    }

    pub(super) fn not_started(
        &mut self,
        task: &TaskRef,
        reason: String,
        rests_until: Option<Timestamp>,
        now: Timestamp,
    ) {
        let Some(mut entry) = self.all.remove(task) else { return };
        self.forget(&entry);
        entry.assigned = false;
        entry.hindrance = Some(reason);
        entry.rests_until = rests_until;
        self.put(entry, now);
    }

    pub(super) fn changed(&mut self, mut record: TaskRecord, held: bool, now: Timestamp) {
        let old = self.all.remove(record.task());
        super::time::bound_wait(&mut record, old.as_ref().map(|old| &old.record), now);
        let known =
            old.as_ref().is_some_and(|old| old.record.outcome.is_some()) || self.past.get(record.task()).is_some();
        if let Some(outcome) = record.outcome.clone().filter(|_| !known) {
            self.learn(&record, &outcome);
        }
        let seen = !self.past.wants_attention(record.task());
        let past = self.past.remove(record.task());
        if let Some(past) = &past {
            self.forget_past(record.task(), past);
        }
        self.derived.promised.remove(record.task());
        let (assigned, looked_at) = if let Some(old) = &old {
            self.forget(old);
            self.came_back(old.record.outcome.as_ref().map(|o| o.completed_at), &record);
            (old.assigned && held, old.looked_at && record.outcome.is_some())
        } else {
            if let Some(past) = &past {
                self.came_back(Some(past.ended_at()), &record);
            }
            (held, past.is_some() && seen && record.outcome.is_some())
        };
        // The queue may say after the worker that it waits again.
        let resting = old.filter(|old| old.rests_until.is_some_and(|at| at > now));
        let (hindrance, rests_until) = resting.map_or((None, None), |old| (old.hindrance, old.rests_until));
        let (given_up, paused_since) = (false, None);
        self.put(Task { record, assigned, hindrance, looked_at, given_up, rests_until, paused_since }, now);
    }

    /// Changes what is known of a task.
    pub(super) fn amend(&mut self, task: &TaskRef, now: Timestamp, change: impl FnOnce(&mut Task)) {
        if let Some(mut entry) = self.all.remove(task) {
            self.forget(&entry);
            change(&mut entry);
            self.put(entry, now);
        }
    }

    /// Ended tasks, read in short; `unread` more are to come. What is known whole is newer.
    pub(super) fn found(&mut self, found: Vec<(TaskRef, Past)>, unread: usize, now: Timestamp) {
        self.unread = unread;
        for (task, past) in found {
            if self.all.contains_key(&task) {
                continue;
            }
            if self.past.get(&task).is_none() {
                self.learn_past(&task, &past);
            }
            self.keep(task.clone(), past, false);
            self.wake_dependents(&task.id, now);
        }
    }

    /// Keeps an ended task in short.
    fn keep(&mut self, task: TaskRef, past: Past, looked_at: bool) {
        self.derived.promised.remove(&task);
        self.meet(&task.agent);
        self.index_past(&task, &past);
        if let Some(before) = self.past.insert(task, past, looked_at) {
            self.derived.counts.sub(Pasts::phase(&before));
        }
    }

    /// Shortens the oldest of the ended tasks where there are too many whole ones.
    fn shorten(&mut self) {
        while self.derived.ended.len() > Past::WHOLE {
            let Some((_, task)) = self.derived.ended.first().cloned() else { return };
            let Some(entry) = self.all.remove(&task) else { return };
            self.forget(&entry);
            match Past::of(&entry.record) {
                Some(past) => self.keep(task, past, entry.looked_at),
                None => return,
            }
        }
    }

    pub(super) fn withdrawn(&mut self, task: &TaskRef, now: Timestamp) {
        if let Some(past) = self.past.remove(task) {
            self.forget_past(task, &past);
            if let Some(former) = past.retry_of() {
                self.derived.successors.remove(former);
            }
            self.wake_dependents(&task.id, now);
        }
        if let Some(old) = self.all.remove(task) {
            self.forget(&old);
            if let Some(former) = &old.record.spec.retry_of {
                self.derived.successors.remove(former);
            }
            for dependency in &old.record.spec.dependencies {
                self.independent(task, &dependency.id);
            }
            self.wake_dependents(&task.id, now);
        }
    }

    pub(super) fn look_at(&mut self, task: &TaskRef) {
        if let Some(entry) = self.all.get_mut(task) {
            entry.looked_at = true;
            if !entry.wants_a_person() {
                self.derived.wanting.remove(task);
            }
        }
        self.past.look_at(task);
    }

    /// The wished id, or the wished id with a number that nobody has.
    pub(super) fn free_id(&mut self, wish: &TaskRef) -> TaskId {
        let base: String = wish.id.as_str().chars().take(TaskId::LIMIT - 8).collect();
        // The same words twice in a row are two tasks, also before the queue has shown the first; ids that differ in
        // capitals only are the same id.
        let begins = |id: &str| id.get(..base.len()).is_some_and(|head| head.eq_ignore_ascii_case(&base));
        let known = self.all.keys().chain(&self.derived.promised).filter(|task| task.agent == wish.agent);
        let known = known.map(|task| &task.id).chain(self.past.ids(&wish.agent));
        let taken: BTreeSet<String> =
            known.filter(|id| begins(id.as_str())).map(|id| id.as_str().to_ascii_lowercase()).collect();
        let is_free = |id: &TaskId| !taken.contains(&id.as_str().to_ascii_lowercase());
        let numbered = (2_u32..=u32::MAX).filter_map(|n| TaskId::new(format!("{base}-{n}")).ok());
        let id = std::iter::once(wish.id.clone()).chain(numbered).find(is_free).unwrap_or_else(|| wish.id.clone());
        self.derived.promised.insert(TaskRef::new(wish.agent.clone(), id.clone()));
        id
    }
}
