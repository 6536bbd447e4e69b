//! The file queue: directories are the truth, a rename is a claim, a kernel lock is a lease.
//!
//! Owns `tasks/`, `results/` and the attempts' logs of one stage. Must not know rooms, workers or engines. Its one
//! surprise: it keeps no list of its own. Where a task's file lies *is* its state, so anything may be killed at any
//! time, and whoever looks next sees the same.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Change, Changes, Claimed, Finished, Queue, QueueError, Spawned, Submitted};
use crate::model::{AgentName, Clock, Ending, Item, Outcome, Removed, Request, Spend, TaskRecord, TaskRef, TaskSpec};

mod afar;
mod archive;
mod attempts;
mod derive;
mod disk;
mod folders;
mod intake;
mod layout;
mod lies;
mod needs;
mod notice;
mod objection;
mod owner;
mod parcel;
mod past;
mod probe;
mod prune;
mod recover;
mod requests;
mod results;
mod space;
mod spec;
mod steps;
mod store;
mod strict;
mod submit;
mod trash;
mod view;
mod watch;

pub use attempts::FileLease;
pub(super) use attempts::show_log;
pub use lies::lies;
pub use parcel::Parcel;
pub use probe::{FileSystem, Unfit};
pub use space::Measure;
pub(super) use spec::write as task_file;
use store::Store;

/// What a task file says that would lie in `agent`'s folder under `stem`, or what is wrong with it.
pub(super) fn task_of_file(bytes: &[u8], agent: &AgentName, stem: &str) -> Result<TaskSpec, String> {
    spec::read(bytes, agent, stem).map_err(|fault| fault.sentence)
}

/// How often a broken disk is asked to take the end of an attempt.
const TRIES: u32 = 5;
/// The first wait between two of them, and between two looks at a full disk; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Folders of a stage in which a room has to write.
const FOLDERS: [&str; 4] = ["", "tasks", "results", ".podium"];

/// What one of them is called.
fn shown(stage: &Path, folder: &str) -> String {
    if folder.is_empty() { stage.display().to_string() } else { folder.to_owned() }
}

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
    /// Days for which copies of what attempts made are kept; `None` = for ever.
    pub copies: Option<u32>,
    /// Agents whose attempts another machine carries, also while nobody holds their leases here.
    pub elsewhere: Vec<AgentName>,
    /// Looks now and then instead of asking the kernel, for folders that tell of no changes.
    pub polling: bool,
}

impl Settings {
    /// Days for which copies are kept where nobody says.
    pub const COPIES: u32 = 30;

    /// The usual ones.
    pub fn new(stage: impl Into<PathBuf>, agents: Vec<AgentName>, clock: Clock) -> Self {
        Self {
            stage: stage.into(),
            agents,
            attempts: 3,
            backoff: [1, 2, 4].map(Duration::from_secs).to_vec(),
            clock,
            waiting_limit: 100_000,
            copies: Some(Self::COPIES),
            elsewhere: Vec::new(),
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

    /// The queue of a stage for whoever only reads it, by [`FileQueue::view`] and the trait's own reading functions:
    /// nothing is made.
    pub fn reader(settings: Settings) -> Self {
        Self(Arc::new(Store::new(settings)))
    }

    /// Everything there is, as a watch tells it at its start. Changes nothing.
    pub async fn view(&self) -> Result<Vec<Change>, QueueError> {
        self.blocking(|store| store.view()).await
    }

    /// Why nothing can be written on a stage, where that is so; found out without writing.
    pub fn read_only(stage: &Path) -> Option<Unfit> {
        FOLDERS.iter().find_map(|name| {
            let folder = stage.join(name);
            let denied = rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK).err()?;
            probe::unwritable(&shown(stage, name), &denied.into())
        })
    }

    /// Tries in every folder of the queue what it relies on, so that nothing is promised that the disk does not keep.
    /// Blocks for some tens of system calls.
    pub fn probe(&self) -> Result<(), Unfit> {
        let layout = &self.0.layout;
        for agent in &self.0.settings.agents {
            for (path, of) in [
                (layout.within(agent, ".tmp"), layout.inbox(agent)),
                (layout.results_temporary(agent), layout.results(agent)),
            ] {
                probe::folder(&path, &layout.shown(&of))?;
            }
        }
        Ok(())
    }

    /// Whether a room could be opened on this stage, found out before anything is made in it: its folder can be written
    /// to and is of this machine. A folder that is not there yet is no trouble.
    pub fn fits(stage: &Path) -> Result<(), Unfit> {
        for name in FOLDERS {
            let folder = stage.join(name);
            let shown = shown(stage, name);
            if folder.is_dir() {
                if let Ok(FileSystem::Network(name)) = FileSystem::of(&folder) {
                    return Err(Unfit::Network(shown, name));
                }
                probe::writable(&folder, &shown)?;
            }
        }
        Ok(())
    }

    /// [`Queue::submit`] for a thread that may block.
    pub fn submit_blocking(&self, task: &TaskSpec) -> Result<Submitted, QueueError> {
        self.0.submit(task)
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

impl FileQueue {
    /// Ends an attempt whose outcome only this process knows: the lease is held and the disk asked again until it takes
    /// it. A full one is asked for as long as it is full, a broken one [`TRIES`] times.
    async fn end_attempt<T: Send + 'static>(
        &self,
        lease: FileLease,
        work: impl Fn(&Store, &FileLease) -> Result<T, QueueError> + Send + Sync + 'static,
    ) -> Result<T, QueueError> {
        let held = Arc::new((lease, work));
        let (mut wait, mut broken) = (FIRST_WAIT, 0);
        let answer = loop {
            let again = Arc::clone(&held);
            let answer = self.blocking(move |store| store.with_reserve(|| (again.1)(&store, &again.0))).await;
            let Err(error) = &answer else { break answer };
            let full = disk::is_full(error);
            broken += u32::from(!full);
            if !(full || disk::is_broken(error) && broken < TRIES) {
                break answer;
            }
            let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(attempt = %held.0.attempt, %error, source, "an end could not be written and is kept");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        };
        let task = held.0.attempt.task.clone();
        drop(held);
        self.0.hub.touched(&task);
        answer
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
        // Who runs is told by the process table; only a session outlives it, and is written down for the next attempt.
        if spawned.session_id.is_none() {
            return Ok(());
        }
        let (attempt, spawned) = (lease.attempt.clone(), spawned.clone());
        self.blocking(move |store| store.with_reserve(|| store.spawned(&attempt, &spawned))).await
    }

    async fn finish(&self, lease: FileLease, outcome: Outcome) -> Result<Finished, QueueError> {
        self.end_attempt(lease, move |store, lease| store.finish(lease, &outcome)).await
    }

    async fn fail(
        &self,
        lease: FileLease,
        ending: Ending,
        spend: Spend,
        not_before: Timestamp,
    ) -> Result<(), QueueError> {
        self.end_attempt(lease, move |store, lease| store.fail(lease, ending.clone(), spend, not_before)).await
    }

    async fn end(&self, task: &TaskRef, ending: Ending) -> Result<Finished, QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.with_reserve(|| store.end(&task, ending.clone()))).await
    }

    async fn retry(&self, task: &TaskRef, changes: Changes) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.with_reserve(|| store.retry(&task, &changes))).await
    }

    async fn spec(&self, task: &TaskRef) -> Result<TaskSpec, QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.spec_of(&task)).await
    }

    async fn remove(&self, task: &TaskRef) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.remove(&task)).await
    }

    async fn discard(&self, path: &str) -> Result<(), QueueError> {
        let path = path.to_owned();
        self.blocking(move |store| store.discard(&path)).await
    }

    async fn restore(&self, item: &Item) -> Result<(), QueueError> {
        let item = item.clone();
        self.blocking(move |store| store.restore(&item)).await
    }

    async fn removed(&self) -> Result<Vec<Removed>, QueueError> {
        self.blocking(|store| store.removed()).await
    }

    async fn purge(&self, older: Duration) -> Result<usize, QueueError> {
        self.blocking(move |store| store.purge(older)).await
    }

    async fn request(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.request(&task, request)).await
    }

    async fn answered(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.answered(&task, request)).await
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
        self.blocking(|store| store.with_reserve(|| store.recover())).await
    }

    async fn watch(&self) -> Result<mpsc::Receiver<Change>, QueueError> {
        self.blocking(|store| watch::start(&store)).await
    }
}
