//! The queue in memory, for tests and dry runs: the same answers as the file queue, nothing kept.
//!
//! Its one surprise: attempts do get a real folder, in a temporary place, because engines write files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    Change, Claim, Claimed, Finished, Lease, Queue, QueueError, Spawned, Submitted,
    entry::{Entry, Rules, Taken},
};
use crate::model::{
    AgentName, AttemptRef, Changes, Clock, Ending, Item, Outcome, Removed, Request, Spend, Standing, TaskId,
    TaskRecord, TaskRef, TaskSpec,
};

/// Changes held for a receiver that is busy; one that is slower misses some.
const CHANNEL: usize = 65_536;

/// Waits before the second, third, … attempt, as the file queue's settings have them.
const BACKOFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// A queue that ends with the process. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    agents: Vec<AgentName>,
    clock: Clock,
    rules: Rules,
    waiting_limit: usize,
    folder: tempfile::TempDir,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tasks: BTreeMap<TaskRef, Entry>,
    /// Oldest first.
    trash: Vec<(TaskRef, Timestamp, Entry)>,
    requests: BTreeSet<(TaskRef, Request)>,
    watches: Vec<mpsc::Sender<Change>>,
}

/// A lease on an attempt in memory.
pub struct MemoryLease {
    attempt: AttemptRef,
    folder: PathBuf,
    queue: MemoryQueue,
}

impl fmt::Debug for MemoryLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryLease({})", self.attempt)
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if let Some(attempt) = state.tasks.get_mut(&self.attempt.task).and_then(|entry| entry.attempt(self.attempt.n)) {
            attempt.held = false;
        }
    }
}

impl Lease for MemoryLease {
    fn attempt(&self) -> &AttemptRef {
        &self.attempt
    }
    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
    fn log(&self) -> String {
        self.attempt.log()
    }
}

impl MemoryQueue {
    /// An empty queue for these agents; `attempts` starts per task where its file says nothing.
    pub fn new(agents: Vec<AgentName>, attempts: u32, clock: Clock) -> Result<Self, QueueError> {
        Self::with_limit(agents, attempts, clock, 100_000)
    }

    /// The same where at most this many tasks may wait per agent.
    pub fn with_limit(
        agents: Vec<AgentName>,
        attempts: u32,
        clock: Clock,
        waiting_limit: usize,
    ) -> Result<Self, QueueError> {
        let folder = tempfile::tempdir().map_err(|source| QueueError::Io {
            action: "create a folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        let rules = Rules { attempts, backoff: BACKOFF.to_vec() };
        Ok(Self(Arc::new(Shared { agents, clock, rules, waiting_limit, folder, state: Mutex::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, agent: &AgentName) -> Result<(), QueueError> {
        if self.0.agents.contains(agent) {
            return Ok(());
        }
        Err(QueueError::UnknownAgent(agent.to_string()))
    }

    /// Changes one task and tells who watches.
    fn change<T>(
        &self,
        task: &TaskRef,
        change: impl FnOnce(&mut Entry) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        self.known(&task.agent)?;
        self.state().change(task, change)
    }

    fn accept(&self, task: TaskSpec) -> Result<Submitted, QueueError> {
        self.known(&task.task.agent)?;
        // As a file would be refused.
        super::file::task_file(&task)?;
        let now = self.0.clock.now();
        Ok(self.state().accept(task, now, self.0.waiting_limit))
    }

    /// Results of what a task depends on.
    fn prerequisites(&self, spec: &TaskSpec) -> Vec<Outcome> {
        let state = self.state();
        let of =
            |agent: &AgentName, id: &TaskId| state.tasks.get(&TaskRef::new(agent.clone(), id.clone()))?.outcome.clone();
        let one = |dependency: &crate::model::Dependency| match &dependency.agent {
            Some(agent) => of(agent, &dependency.id),
            None => of(&spec.task.agent, &dependency.id)
                .or_else(|| self.0.agents.iter().find_map(|agent| of(agent, &dependency.id))),
        };
        spec.dependencies.iter().filter_map(one).collect()
    }
}

impl State {
    /// Tells everybody who watches.
    fn tell(&mut self, change: &Change) {
        let closed = |watch: &mpsc::Sender<Change>| {
            matches!(watch.try_send(change.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        };
        self.watches.retain(|watch| !closed(watch));
    }

    fn change<T>(
        &mut self,
        task: &TaskRef,
        change: impl FnOnce(&mut Entry) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let entry = self.tasks.get_mut(task).ok_or_else(|| QueueError::Unknown(task.clone()))?;
        let before = entry.record();
        let answer = change(entry);
        let after = entry.record();
        if before != after {
            self.tell(&Change::Task(Box::new(after)));
        }
        answer
    }

    /// Whether the id is in use, in whatever capitals.
    fn is_taken(&self, task: &TaskRef) -> bool {
        let twin =
            |other: &TaskRef| other.agent == task.agent && other.id.as_str().eq_ignore_ascii_case(task.id.as_str());
        self.tasks.keys().any(twin)
    }

    fn remove(&mut self, task: &TaskRef, now: Timestamp) -> Result<(), QueueError> {
        let entry = self.tasks.remove(task).ok_or_else(|| QueueError::Unknown(task.clone()))?;
        if let Standing::Running { attempt } = entry.standing() {
            self.tasks.insert(task.clone(), entry);
            return Err(QueueError::State { task: task.clone(), state: format!("running (attempt {attempt})") });
        }
        self.requests.retain(|(of, _)| of != task);
        self.trash.push((task.clone(), now, entry));
        self.tell(&Change::Gone(task.clone()));
        self.tell(&Change::Trash(self.removed()));
        Ok(())
    }

    fn restore(&mut self, task: &TaskRef) -> Result<(), QueueError> {
        let newest = self.trash.iter().rposition(|(removed, _, _)| removed == task);
        let newest = newest.ok_or_else(|| QueueError::Unknown(task.clone()))?;
        if self.is_taken(task) {
            return Err(QueueError::State { task: task.clone(), state: "there again, under the same id".into() });
        }
        let (task, _, entry) = self.trash.remove(newest);
        self.tell(&Change::Task(Box::new(entry.record())));
        self.tell(&Change::Trash(self.removed()));
        self.tasks.insert(task, entry);
        Ok(())
    }

    /// What the trash holds, newest first.
    fn removed(&self) -> Vec<Removed> {
        let one = |(task, at, entry): &(TaskRef, Timestamp, Entry)| Removed {
            item: Item::Task(task.clone()),
            title: entry.record().spec.title,
            at: *at,
        };
        self.trash.iter().rev().map(one).collect()
    }

    fn accept(&mut self, task: TaskSpec, now: Timestamp, limit: usize) -> Submitted {
        if let Some(entry) = self.tasks.get(&task.task) {
            return if entry.spec == task { Submitted::Exists } else { Submitted::Conflict };
        }
        if self.is_taken(&task.task) {
            return Submitted::Conflict;
        }
        let waits = |(other, entry): &(&TaskRef, &Entry)| {
            other.agent == task.task.agent && entry.standing() == Standing::Waiting
        };
        let waiting = self.tasks.iter().filter(waits).count();
        if waiting >= limit {
            return Submitted::Full { waiting, limit };
        }
        let entry = Entry::new(task.clone(), now);
        let change = Change::Task(Box::new(entry.record()));
        self.tasks.insert(task.task, entry);
        self.tell(&change);
        Submitted::New
    }

    /// Tasks that were taken, have nobody who works on them, and will not start again by themselves.
    fn orphans(&self, rules: &Rules) -> Vec<TaskRef> {
        self.tasks.iter().filter(|(_, entry)| entry.is_orphan(rules)).map(|(task, _)| task.clone()).collect()
    }
}

impl Queue for MemoryQueue {
    type Lease = MemoryLease;

    async fn submit(&self, task: TaskSpec) -> Result<Submitted, QueueError> {
        self.accept(task)
    }

    async fn submit_many(&self, tasks: Vec<TaskSpec>) -> Result<Vec<Submitted>, QueueError> {
        tasks.into_iter().map(|task| self.accept(task)).collect()
    }

    async fn claim(&self, task: &TaskRef) -> Result<Claimed<MemoryLease>, QueueError> {
        let missed = |why: &str| Ok(Claimed::Missed(format!("{task} {why}")));
        let now = self.0.clock.now();
        let won =
            self.change(task, |entry| Ok(entry.claim(now, &self.0.rules).map(|taken| (entry.spec.clone(), taken))));
        let (spec, Taken { n, counted, previous, resume }) = match won {
            Ok(Ok(won)) => won,
            Ok(Err(why)) => return missed(why),
            Err(QueueError::Unknown(_)) => return missed("is not there"),
            Err(error) => return Err(error),
        };
        let folder = self.0.folder.path().join(task.agent.as_str()).join(task.id.as_str()).join(n.to_string());
        let lease = MemoryLease { attempt: task.attempt(n), folder: folder.clone(), queue: self.clone() };
        let make = || -> io::Result<()> {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("out.log"), "")?;
            std::fs::write(folder.join("err.log"), "")
        };
        make().map_err(|source| QueueError::Io { action: "create", path: folder, source })?;
        let prerequisites = self.prerequisites(&spec);
        Ok(Claimed::Won(Box::new(Claim { spec, n, counted, prerequisites, previous, resume, lease })))
    }

    async fn spawned(&self, lease: &MemoryLease, spawned: &Spawned) -> Result<(), QueueError> {
        self.change(&lease.attempt.task, |entry| {
            entry.spawned(lease.attempt.n, spawned.session_id.as_ref());
            Ok(())
        })
    }

    async fn finish(&self, lease: MemoryLease, outcome: Outcome) -> Result<Finished, QueueError> {
        let n = lease.attempt.n;
        self.change(&lease.attempt.task, |entry| Ok(Finished::committed(entry.finish(n, outcome))))
    }

    async fn fail(
        &self,
        lease: MemoryLease,
        ending: Ending,
        spend: Spend,
        not_before: Timestamp,
    ) -> Result<(), QueueError> {
        let now = self.0.clock.now();
        self.change(&lease.attempt.task, |entry| {
            entry.fail(lease.attempt.n, ending, spend, not_before, now);
            Ok(())
        })
    }

    async fn end(&self, task: &TaskRef, ending: Ending) -> Result<Finished, QueueError> {
        let now = self.0.clock.now();
        self.change(task, |entry| {
            let ended = entry.end_now(ending, now, &self.0.rules);
            ended.map(Finished::committed).map_err(|state| QueueError::State { task: task.clone(), state })
        })
    }

    async fn retry(&self, task: &TaskRef, changes: Changes) -> Result<(), QueueError> {
        let now = self.0.clock.now();
        self.change(task, |entry| {
            entry.retry(now, &self.0.rules).map_err(|state| QueueError::State { task: task.clone(), state })?;
            let mut spec = entry.spec.clone();
            entry.change(&changes, &mut spec);
            entry.spec = spec;
            Ok(())
        })?;
        let mut state = self.state();
        for request in [Request::Retry, Request::Cancel] {
            state.requests.remove(&(task.clone(), request));
        }
        drop(state);
        Ok(())
    }

    async fn remove(&self, task: &TaskRef) -> Result<(), QueueError> {
        self.known(&task.agent)?;
        let now = self.0.clock.now();
        self.state().remove(task, now)
    }

    async fn discard(&self, path: &str) -> Result<(), QueueError> {
        Err(QueueError::NoFile(path.to_owned()))
    }

    async fn restore(&self, item: &Item) -> Result<(), QueueError> {
        match item {
            Item::Task(task) => {
                self.known(&task.agent)?;
                self.state().restore(task)
            }
            Item::File(path) => Err(QueueError::NoFile(path.clone())),
        }
    }

    async fn removed(&self) -> Result<Vec<Removed>, QueueError> {
        Ok(self.state().removed())
    }

    async fn purge(&self, older: Duration) -> Result<usize, QueueError> {
        let limit = self.0.clock.now().checked_sub(older).unwrap_or(Timestamp::MIN);
        let mut state = self.state();
        let before = state.trash.len();
        state.trash.retain(|(_, at, _)| *at > limit);
        let count = before - state.trash.len();
        if count > 0 {
            let left = state.removed();
            state.tell(&Change::Trash(left));
        }
        drop(state);
        Ok(count)
    }

    async fn request(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.known(&task.agent)?;
        let mut state = self.state();
        if !state.tasks.contains_key(task) {
            return Err(QueueError::Unknown(task.clone()));
        }
        if state.requests.insert((task.clone(), request)) {
            state.tell(&Change::Requested { task: task.clone(), request });
        }
        drop(state);
        Ok(())
    }

    async fn answered(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.known(&task.agent)?;
        self.state().requests.remove(&(task.clone(), request));
        Ok(())
    }

    async fn get(&self, task: &TaskRef) -> Result<TaskRecord, QueueError> {
        self.known(&task.agent)?;
        self.state().tasks.get(task).map(Entry::record).ok_or_else(|| QueueError::Unknown(task.clone()))
    }

    async fn spec(&self, task: &TaskRef) -> Result<TaskSpec, QueueError> {
        self.known(&task.agent)?;
        self.state().tasks.get(task).map(|entry| entry.spec.clone()).ok_or_else(|| QueueError::Unknown(task.clone()))
    }

    async fn result(&self, task: &TaskRef) -> Result<Option<Outcome>, QueueError> {
        self.known(&task.agent)?;
        Ok(self.state().tasks.get(task).and_then(|entry| entry.outcome.clone()))
    }

    async fn list(&self) -> Result<Vec<TaskRecord>, QueueError> {
        Ok(self.state().tasks.values().map(Entry::record).collect())
    }

    async fn recover(&self) -> Result<Vec<TaskRef>, QueueError> {
        let now = self.0.clock.now();
        let open = self.state().orphans(&self.0.rules);
        for task in &open {
            self.change(task, |entry| {
                entry.mend(now, &self.0.rules);
                Ok(())
            })?;
        }
        Ok(open)
    }

    async fn watch(&self) -> Result<mpsc::Receiver<Change>, QueueError> {
        let (sink, receiver) = mpsc::channel(CHANNEL);
        let mut state = self.state();
        let tasks = state.tasks.values().map(|entry| Change::Task(Box::new(entry.record())));
        let asked = |(task, request): &(TaskRef, Request)| Change::Requested { task: task.clone(), request: *request };
        let requests = state.requests.iter().map(asked);
        let trash = Some(state.removed()).filter(|removed| !removed.is_empty()).map(Change::Trash);
        for change in std::iter::once(Change::Polling(None)).chain(tasks).chain(requests).chain(trash) {
            if sink.try_send(change).is_err() {
                break;
            }
        }
        state.watches.push(sink);
        drop(state);
        Ok(receiver)
    }
}
