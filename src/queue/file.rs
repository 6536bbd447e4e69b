//! The file queue: directories are the truth, a rename is a claim, a kernel lock is a lease.
//!
//! Owns `tasks/`, `results/` and the attempts' logs of one stage. Must not know rooms, workers or engines. Its one
//! surprise: it keeps no list of its own. Where a task's file lies *is* its state, so anything may be killed at any
//! time, and whoever looks next sees the same.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Change, Changes, Claimed, Finished, Queue, QueueError, Spawned, Submitted};
use crate::model::{AgentName, Clock, Ending, Outcome, Spend, TaskRecord, TaskRef, TaskSpec};

mod attempts;
mod derive;
mod disk;
mod ears;
mod intake;
mod layout;
mod needs;
mod notice;
mod objection;
mod past;
mod recover;
mod results;
mod spec;
mod steps;
mod store;
mod strict;
mod submit;
mod watch;

pub use attempts::FileLease;
use store::Store;

/// What a file queue is told when it is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The stage's folder.
    pub stage: PathBuf,
    /// The agents there are.
    pub agents: Vec<AgentName>,
    /// Starts a task may have, where its file says nothing.
    pub attempts: u32,
    /// Waits before the second, third, … attempt; the last one repeats. Jittered by a fifth.
    pub backoff: Vec<Duration>,
    /// Tells the time.
    pub clock: Clock,
    /// How many tasks may wait per agent before submissions are refused.
    pub waiting_limit: usize,
    /// Looks now and then instead of asking the kernel, for folders that tell of no changes.
    pub polling: bool,
}

impl Settings {
    /// The usual ones.
    pub fn new(stage: impl Into<PathBuf>, agents: Vec<AgentName>, clock: Clock) -> Self {
        Self {
            stage: stage.into(),
            agents,
            attempts: 3,
            backoff: [1, 2, 4].map(Duration::from_secs).to_vec(),
            clock,
            waiting_limit: 100_000,
            polling: false,
        }
    }
}

/// A queue in the folders of one stage. Clones share what was read; several processes may open the same stage.
#[derive(Debug, Clone)]
pub struct FileQueue(Arc<Store>);

impl FileQueue {
    /// Opens the queue of a stage and makes the folders that are missing. Blocks for a few system calls.
    pub fn open(settings: Settings) -> Result<Self, QueueError> {
        Store::open(settings).map(|store| Self(Arc::new(store)))
    }

    /// Does file work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Store>) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let store = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(store)).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(QueueError::Unsafe(format!("the file work was given up: {error}"))),
            },
        }
    }
}

impl Queue for FileQueue {
    type Lease = FileLease;

    async fn submit(&self, task: TaskSpec) -> Result<Submitted, QueueError> {
        self.blocking(move |store| store.submit(&task)).await
    }

    async fn submit_many(&self, tasks: Vec<TaskSpec>) -> Result<Vec<Submitted>, QueueError> {
        self.blocking(move |store| store.submit_many(&tasks)).await
    }

    async fn claim(&self, task: &TaskRef) -> Result<Claimed<FileLease>, QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.claim(&task)).await
    }

    async fn spawned(&self, lease: &FileLease, spawned: &Spawned) -> Result<(), QueueError> {
        let (attempt, spawned) = (lease.attempt.clone(), spawned.clone());
        self.blocking(move |store| store.spawned(&attempt, &spawned)).await
    }

    async fn finish(&self, lease: FileLease, outcome: Outcome) -> Result<Finished, QueueError> {
        self.blocking(move |store| store.finish(lease, outcome)).await
    }

    async fn fail(
        &self,
        lease: FileLease,
        ending: Ending,
        spend: Spend,
        not_before: Timestamp,
    ) -> Result<(), QueueError> {
        self.blocking(move |store| store.fail(lease, ending, spend, not_before)).await
    }

    async fn end(&self, task: &TaskRef, ending: Ending) -> Result<Finished, QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.end(&task, ending)).await
    }

    async fn retry(&self, task: &TaskRef, changes: Changes) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.retry(&task, &changes)).await
    }

    async fn result(&self, task: &TaskRef) -> Result<Option<Outcome>, QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.full_result_of(&task)).await
    }

    async fn get(&self, task: &TaskRef) -> Result<TaskRecord, QueueError> {
        let task = task.clone();
        self.blocking(move |store| {
            store.known(&task.agent)?;
            store.record(&task)?.ok_or(QueueError::Unknown(task))
        })
        .await
    }

    async fn list(&self) -> Result<Vec<TaskRecord>, QueueError> {
        self.blocking(|store| store.list()).await
    }

    async fn recover(&self) -> Result<Vec<TaskRef>, QueueError> {
        self.blocking(|store| store.recover()).await
    }

    async fn watch(&self) -> Result<mpsc::Receiver<Change>, QueueError> {
        self.blocking(|store| watch::start(&store)).await
    }
}
