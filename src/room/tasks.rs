//! Tasks as the room sees them: the queue's records, what is ready, what waits for what.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Effect, OrderId, State, TaskEvent, Voice, done,
    order::Orders,
    past::Pasts,
    pauses::Pause,
    ready::{Key, Ready},
    refuse,
    retry::Underway,
    timing::moments,
};
use crate::model::{
    AgentName, AttemptRecord, AttemptRef, Dependency, EndState, Ending, GoalId, IfFailed, Outcome, Past, Rejected,
    Removed, Spend, Standing, TaskId, TaskRecord, TaskRef, TaskSpec,
};

/// Every task, and what is derived from them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tasks {
    /// Not sent with the rest, but piece by piece.
    #[serde(skip)]
    pub(super) all: BTreeMap<TaskRef, Task>,
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

/// Found again from the rest by [`Tasks::rebuild`].
#[derive(Debug, Clone, Default)]
pub(super) struct Derived {
    /// What may start now, per agent.
    pub(super) ready: BTreeMap<AgentName, Ready>,
    /// Where each task stands in `ready`.
    pub(super) keys: HashMap<TaskRef, Key>,
    /// Who waits for a task with this id.
    pub(super) dependents: HashMap<TaskId, BTreeSet<TaskRef>>,
    /// What was made of a task on another agent.
    pub(super) successors: BTreeMap<TaskRef, TaskRef>,
    /// The dead letters: their attempts are used up.
    dead: BTreeSet<TaskRef>,
    /// When a task may start, or expires.
    due: BTreeSet<(Timestamp, TaskRef)>,
    /// Will never start: their dependency, named second, did not end well.
    hopeless: BTreeMap<TaskRef, TaskRef>,
    /// Their time is over; what is said about it.
    pub(super) expired: BTreeMap<TaskRef, String>,
    /// How many stand where.
    pub(super) counts: Counts,
    /// Those that have ended and are kept whole, the oldest first.
    ended: BTreeSet<(Timestamp, TaskRef)>,
    /// Agents that have or had tasks.
    agents: BTreeSet<AgentName>,
    /// Ids handed out for tasks that the queue has not shown yet.
    promised: BTreeSet<TaskRef>,
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
    /// Since when nothing of it starts until a person lets it go on; [`Tasks::paused`] says why.
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

    /// Ended badly and nobody has acted on it. One that was retried elsewhere is left out by [`State::needs_you`].
    pub fn needs_attention(&self) -> bool {
        !self.looked_at && self.record.outcome.as_ref().is_some_and(|o| State::is_bad(o.state))
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

    /// How many stand where.
    pub fn counts(&self) -> Counts {
        self.derived.counts
    }

    /// Where a task stands for an operator.
    pub fn phase(&self, task: &Task) -> Phase {
        if task.assigned {
            return Phase::Running;
        }
        match (&task.record.standing, &task.record.outcome) {
            (Standing::Ended, Some(outcome)) => match outcome.state {
                EndState::Done => Phase::Done,
                EndState::Cancelled | EndState::Skipped => Phase::Dropped,
                EndState::Failed | EndState::TimedOut | EndState::Expired | EndState::Dead => Phase::Failed,
            },
            (Standing::Ended, None) => Phase::Done,
            (Standing::Running { .. }, _) => Phase::Running,
            (Standing::Waiting | Standing::Claimed | Standing::Retrying { .. }, _) if task.paused_since.is_some() => {
                Phase::Paused
            }
            (Standing::Waiting | Standing::Claimed | Standing::Retrying { .. }, _)
                if self.derived.keys.contains_key(task.record.task()) =>
            {
                Phase::Ready
            }
            (Standing::Retrying { .. }, _) => Phase::Retrying,
            (Standing::Asking { .. }, _) => Phase::Asking,
            (Standing::Waiting | Standing::Claimed, _) => Phase::Waiting,
        }
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
        let (hindrance, given_up, rests_until, paused_since) = (None, false, None, None);
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

    fn index_past(&mut self, task: &TaskRef, past: &Past) {
        self.derived.counts.add(Pasts::phase(past));
        if past.state() == EndState::Dead {
            self.derived.dead.insert(task.clone());
        }
        if let Some(former) = past.retry_of() {
            self.derived.successors.insert(former.clone(), task.clone());
        }
    }

    fn forget_past(&mut self, task: &TaskRef, past: &Past) {
        self.derived.counts.sub(Pasts::phase(past));
        self.derived.dead.remove(task);
    }

    fn meet(&mut self, agent: &AgentName) {
        if !self.derived.agents.contains(agent) {
            self.derived.agents.insert(agent.clone());
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
        }
        self.past.look_at(task);
    }

    /// Finds everything that is derived again.
    pub(super) fn rebuild(&mut self, now: Timestamp) {
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
    }

    fn put(&mut self, mut entry: Task, now: Timestamp) {
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
    fn independent(&mut self, task: &TaskRef, of: &TaskId) {
        if let Some(waiting) = self.derived.dependents.get_mut(of) {
            waiting.remove(task);
            if waiting.is_empty() {
                self.derived.dependents.remove(of);
            }
        }
    }

    /// Notes what is looked up by more than its name.
    fn index(&mut self, entry: &Task) {
        let task = entry.record.task();
        if let Some(former) = &entry.record.spec.retry_of {
            self.derived.successors.insert(former.clone(), task.clone());
        }
        if entry.record.outcome.as_ref().is_some_and(|o| o.state == EndState::Dead) {
            self.derived.dead.insert(task.clone());
        }
    }

    pub(super) fn wake_dependents(&mut self, id: &TaskId, now: Timestamp) {
        let waiting = self.derived.dependents.get(id).cloned().unwrap_or_default();
        for dependent in waiting {
            self.refresh(&dependent, now);
        }
    }

    /// Takes a task out of everything derived.
    fn forget(&mut self, entry: &Task) {
        let task = entry.record.task();
        let ready = self.derived.keys.contains_key(task);
        self.derived.counts.sub(phase_of(entry, ready));
        self.unready(task);
        self.derived.dead.remove(task);
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

    pub(super) fn unready(&mut self, task: &TaskRef) {
        if let Some(key) = self.derived.keys.remove(task)
            && let Some(ready) = self.derived.ready.get_mut(&task.agent)
        {
            ready.remove(&key);
        }
    }

    /// Decides anew whether a task may start.
    fn refresh(&mut self, task: &TaskRef, now: Timestamp) {
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
    }
}

/// Where an ended task that may be shortened stands among those.
fn ended(entry: &Task) -> Option<(Timestamp, TaskRef)> {
    let outcome =
        entry.record.outcome.as_ref().filter(|_| entry.record.standing == Standing::Ended && !entry.assigned)?;
    Some((outcome.completed_at, entry.record.task().clone()))
}

/// Where a task stands when it is known whether it is ready.
pub(super) fn phase_of(task: &Task, ready: bool) -> Phase {
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

    pub(super) fn add(&mut self, phase: Phase) {
        *self.of(phase) += 1;
    }

    pub(super) fn sub(&mut self, phase: Phase) {
        let count = self.of(phase);
        *count = count.saturating_sub(1);
    }
}

impl State {
    pub(super) fn task_event(&mut self, event: TaskEvent, effects: &mut Vec<Effect>) {
        let now = self.now;
        match event {
            TaskEvent::Changed { record } => {
                let task = record.task().clone();
                let goal = record.spec.goal.clone();
                let known = self.tasks.get(&task);
                let news = record.outcome.is_some() && self.tasks.end_state(&task).is_none();
                // A worker's word travels faster than the directory's: an older picture never undoes it.
                let stale = known.is_some_and(|t| {
                    t.record.outcome.is_some()
                        && record.outcome.is_none()
                        && record.last_attempt() > 0
                        && record.last_attempt() <= t.record.last_attempt()
                        && !matches!(record.standing, Standing::Waiting | Standing::Claimed)
                });
                if stale {
                    return;
                }
                let held = self.agents.holder(&task).is_some();
                self.tasks.changed(*record, held, now);
                if news {
                    self.announce(&task);
                }
                if !held && self.tasks.get(&task).is_some_and(Task::is_lost) {
                    effects.push(Effect::Recover { task: task.clone(), cancel: false });
                }
                self.settle(&task, effects);
                if let Some(goal) = goal {
                    self.goals.found(&goal, &task);
                    self.goals.touch(goal);
                }
            }
            TaskEvent::Found { tasks, unread } => {
                let goals: BTreeSet<GoalId> = tasks.iter().filter_map(|(_, past)| past.goal().cloned()).collect();
                self.tasks.found(tasks, unread, now);
                for goal in goals {
                    self.goals.touch(goal);
                }
            }
            TaskEvent::Withdrawn { task } => {
                self.tasks.withdrawn(&task, now);
                self.goals.lost(&task);
            }
            TaskEvent::Prioritised { task, priority } => self.tasks.prioritised(&task, priority),
            TaskEvent::Paused { task, pause } => self.pause_now(&task, pause, effects),
            TaskEvent::Requested { task, request } => self.requested(task, request),
            TaskEvent::Trash { removed } => self.tasks.trash = removed,
            TaskEvent::Rejected { rejected } => self.rejected(rejected),
            TaskEvent::RejectedGone { path } => self.rejected_gone(&path),
            TaskEvent::Polling { why } => self.tasks.polling = why,
            TaskEvent::Space { why } => {
                if self.tasks.space.is_some() != why.is_some() {
                    let text = why.clone().unwrap_or_else(|| "the disk has room again; work goes on".to_owned());
                    self.say(Voice::Room, None, text);
                }
                self.tasks.space = why;
            }
            TaskEvent::Answered { id, answer } => {
                self.retry_answered(id, &answer, effects);
                effects.push(Effect::Answer { id, answer });
            }
        }
    }

    /// A worker reported a result.
    pub(super) fn task_ended(&mut self, outcome: Outcome) {
        let now = self.now;
        let task = outcome.task.clone();
        self.tasks.ended(outcome, now);
        self.announce(&task);
        if let Some(goal) = self.tasks.get(&task).and_then(|t| t.record.spec.goal.clone()) {
            self.goals.touch(goal);
        }
    }

    fn announce(&mut self, task: &TaskRef) {
        if let Some(outcome) = self.tasks.get(task).and_then(|t| t.record.outcome.as_ref())
            && Self::is_bad(outcome.state)
            && self.opened_at.is_some_and(|opened| outcome.completed_at >= opened)
        {
            let mut text = format!("{task} {}: {}", outcome.state.word(), outcome.ending.sentence());
            let goal = outcome.goal.clone();
            if let Some(then) = self.consequence(task) {
                // It ends in the middle of this one.
                text.truncate(text.trim_end_matches('.').len());
                text.extend(["; ", &then]);
            }
            self.say(Voice::Room, goal, text);
        }
    }

    /// Ends a task that can never start.
    fn settle(&self, task: &TaskRef, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.get(task) else { return };
        if entry.assigned || !matches!(entry.record.standing, Standing::Waiting | Standing::Claimed) {
            return;
        }
        if entry.record.spec.description.trim().is_empty() {
            let message = "description is empty: the task says nothing to do".to_owned();
            effects.push(Effect::EndTask { id: None, task: task.clone(), ending: Ending::Malformed { message } });
        }
    }

    /// Ends tasks whose dependency did not end well, each once.
    pub(super) fn settle_skipped(&mut self, effects: &mut Vec<Effect>) {
        for (task, dependency) in self.tasks.take_hopeless() {
            effects.push(Effect::EndTask {
                id: None,
                task,
                ending: Ending::DependencyFailed { dependency: dependency.to_string() },
            });
        }
    }

    pub(super) fn submit_task(
        &mut self,
        id: OrderId,
        mut spec: Box<TaskSpec>,
        rename: bool,
        effects: &mut Vec<Effect>,
    ) {
        if self.agents.get(&spec.task.agent).is_none() {
            let names = super::agents::join(&self.agents.names());
            return refuse(effects, id, format!("there is no agent {}; there are {names}", spec.task.agent));
        }
        if spec.description.trim().is_empty() {
            return refuse(effects, id, "description is empty: the task says nothing to do");
        }
        if rename {
            spec.task.id = self.tasks.free_id(&spec.task);
        }
        if let Some(cycle) = self.tasks.cycle(&spec) {
            return refuse(effects, id, cycle);
        }
        effects.push(Effect::Submit { id, spec });
    }

    pub(super) fn cancel(&mut self, id: OrderId, task: &TaskRef, effects: &mut Vec<Effect>) {
        let Some(entry) = self.tasks.find(task) else {
            return refuse(effects, id, format!("there is no task {task}"));
        };
        if let Some(outcome) = &entry.record.outcome {
            let reason = format!("{task} has ended already: {}", outcome.state.word());
            return refuse(effects, id, reason);
        }
        if self.cancel_held(task, effects) {
            done(effects, id, format!("{task} is being ended"), vec![task.to_string()]);
        } else if self.runs_elsewhere(task) {
            refuse(effects, id, format!("{task} is held by a worker that is not connected; try again in a moment"));
        } else {
            effects.push(Effect::EndTask { id: Some(id), task: task.clone(), ending: Ending::Cancelled });
        }
    }
}

impl Tasks {
    /// Tasks whose dependency did not end well and that nobody was told to end yet.
    fn take_hopeless(&mut self) -> Vec<(TaskRef, TaskRef)> {
        let hopeless: Vec<_> = std::mem::take(&mut self.derived.hopeless).into_iter().collect();
        for (task, dependency) in &hopeless {
            if let Some(entry) = self.all.get_mut(task) {
                entry.hindrance = Some(format!("{dependency} did not end well"));
            }
        }
        hopeless
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
