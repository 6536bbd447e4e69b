//! The queue over NATS JetStream: a key per task is the truth, a compare-and-set on it is a claim, a key that goes away by
//! itself is a lease.
//!
//! Owns what lies in the buckets of `docs/queue-nats.md`. Must not know rooms, workers or engines. Its one surprise: there
//! is no stream of waiting tasks. A claim names its task, so the task's own key is the waiting line; see
//! `docs/decisions/2026-11-28-the-task-s-key-is-the-waiting-line.md`.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{Context, object_store::ObjectStore},
};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Change, Claimed, Finished, Queue, QueueError, Spawned, Submitted, entry::Rules};
use crate::model::{
    AgentName, Changes, Clock, Ending, Item, Outcome, Removed, Request, Spend, TaskRecord, TaskRef, TaskSpec,
};

mod bucket;
pub mod check;
mod ends;
mod files;
mod hand;
mod holder;
mod keys;
mod lease;
mod mirror;
pub mod moved;
pub mod names;
mod server;
mod slot;
mod submit;
mod trash;

pub use files::TIMES;
pub use lease::NatsLease;
use mirror::Mirror;
pub use server::{Address, OLDEST, Unfit, connect, shown};
use server::{Buckets, Making};

/// What a queue over NATS is told when it is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the server is reached.
    pub address: Address,
    /// Names the connection and its inboxes: `room`, or the agent whose worker this is.
    pub who: String,
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
    /// Makes the buckets that are missing; else they must be there.
    pub makes: bool,
    /// How long a lease lasts without a beat, where the bucket is made.
    pub lease: Duration,
    /// How long a server that does not answer is asked again; the election of a leader takes up to 8 s.
    pub patience: Duration,
    /// Where attempts have their folders, on this machine.
    pub scratch: PathBuf,
    /// The folder that paths of artifacts and logs are relative to.
    pub stage: PathBuf,
    /// This machine, for people.
    pub host: String,
    /// The room that this acts for: where another room has the server, nothing is handed over or taken back.
    pub room: Option<String>,
}

impl Settings {
    /// How long a lease lasts without a beat: longer than the loss of a leader stalls writes.
    pub const LEASE: Duration = Duration::from_secs(30);

    /// The usual ones, with this stage's folder for what attempts write.
    pub fn new(address: Address, who: impl Into<String>, stage: PathBuf, agents: Vec<AgentName>, clock: Clock) -> Self {
        Self {
            address,
            who: who.into(),
            agents,
            attempts: 3,
            backoff: [1, 2, 4].map(Duration::from_secs).to_vec(),
            clock,
            waiting_limit: 100_000,
            makes: false,
            lease: Self::LEASE,
            patience: Duration::from_secs(15),
            scratch: stage.join(".podium").join("attempts"),
            stage,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            room: None,
        }
    }
}

/// A queue on a NATS server. Clones share one connection.
#[derive(Clone)]
pub struct NatsQueue(Arc<Inner>);

struct Inner {
    settings: Settings,
    rules: Rules,
    client: Client,
    context: Context,
    replicas: usize,
    buckets: Buckets,
    mirror: OnceLock<Mirror>,
    /// The newest revision that this process wrote.
    own: AtomicU64,
    /// Object stores that were opened.
    stores: Mutex<BTreeMap<AgentName, ObjectStore>>,
    /// Tasks whose leases were dropped and are not given up yet.
    given_up: Arc<watch::Sender<Vec<TaskRef>>>,
    tracker: TaskTracker,
    end: CancellationToken,
}

impl fmt::Debug for NatsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsQueue({})", shown(&self.0.settings.address.url))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl NatsQueue {
    /// Connects and opens the buckets. A server that forgets what it acknowledged is refused.
    pub async fn open(settings: Settings) -> Result<Self, Unfit> {
        let client = server::connect(&settings.address, &settings.who).await?;
        let context = server::context(client.clone());
        let replicas = server::replicas(&settings.address, &client);
        let making = settings.makes.then_some(Making { replicas, lease: settings.lease });
        let buckets = server::buckets(&context, making).await?;
        if settings.makes {
            for agent in &settings.agents {
                server::files(&context, agent, Some(replicas)).await?;
            }
        }
        let rules = Rules { attempts: settings.attempts, backoff: settings.backoff.clone() };
        Ok(Self(Arc::new(Inner {
            settings,
            rules,
            client,
            context,
            replicas,
            buckets,
            mirror: OnceLock::new(),
            own: AtomicU64::new(0),
            stores: Mutex::default(),
            given_up: Arc::new(watch::channel(Vec::new()).0),
            tracker: TaskTracker::new(),
            end: CancellationToken::new(),
        })))
    }

    /// The connection, for what is said beside the queue.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// What the server promises, and what of it could be seen.
    pub async fn check(&self) -> check::Report {
        let buckets = &self.0.buckets;
        check::report(&self.0.settings.address, &self.0.client, self.0.replicas, Some(&buckets.tasks)).await
    }

    /// How long a lease lasts without a beat.
    pub fn lease_length(&self) -> Duration {
        self.0.buckets.lease
    }

    /// Waits until leases that were dropped in this process are free on the server too.
    pub async fn settle(&self) {
        let mut open = self.0.given_up.subscribe();
        // The sender lives as long as we do.
        let _none = open.wait_for(Vec::is_empty).await;
    }

    /// The same for the leases of one task.
    async fn given_up(&self, task: &TaskRef) {
        let mut open = self.0.given_up.subscribe();
        let _none = open.wait_for(|open| !open.contains(task)).await;
    }

    /// The object store of an agent's files; it is looked at once.
    async fn files(&self, agent: &AgentName) -> Result<ObjectStore, QueueError> {
        let stores = || self.0.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores().get(agent) {
            return Ok(store.clone());
        }
        let store = server::files(&self.0.context, agent, None).await;
        let store = store.map_err(|unfit| QueueError::Unreachable(unfit.to_string()))?;
        stores().insert(agent.clone(), store.clone());
        Ok(store)
    }

    fn known(&self, agent: &AgentName) -> Result<(), QueueError> {
        if self.0.settings.agents.contains(agent) {
            return Ok(());
        }
        Err(QueueError::UnknownAgent(agent.to_string()))
    }

    /// The copy of all tasks, followed from the first time that somebody asks.
    fn mirror(&self) -> &Mirror {
        self.0.mirror.get_or_init(|| {
            let mirror = Mirror::new(self.0.buckets.tasks.clone(), self.0.settings.clock.clone());
            let (follower, end) = (mirror.clone(), self.0.end.clone());
            self.0.tracker.spawn(async move {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = follower.follow() => {}
                }
            });
            mirror
        })
    }

    /// The copy, once it holds all that this process wrote.
    async fn own_mirror(&self) -> Result<&Mirror, QueueError> {
        let mirror = self.mirror();
        mirror.wait(self.0.own.load(Ordering::Relaxed)).await?;
        Ok(mirror)
    }

    /// Why nothing may begin: tasks were taken away under us.
    fn alarm(&self) -> Result<(), QueueError> {
        self.0.mirror.get().map_or(Ok(()), Mirror::alarm)
    }
}

impl Queue for NatsQueue {
    type Lease = NatsLease;

    async fn submit(&self, task: TaskSpec) -> Result<Submitted, QueueError> {
        self.accept(&task).await
    }

    async fn submit_many(&self, tasks: Vec<TaskSpec>) -> Result<Vec<Submitted>, QueueError> {
        self.accept_many(tasks).await
    }

    async fn claim(&self, task: &TaskRef) -> Result<Claimed<NatsLease>, QueueError> {
        Box::pin(self.take(task)).await
    }

    async fn spawned(&self, lease: &NatsLease, spawned: &Spawned) -> Result<(), QueueError> {
        // Who runs is told by the worker's own machine; only a session outlives it.
        if spawned.session_id.is_none() {
            return Ok(());
        }
        self.note_session(lease, spawned.session_id.as_ref()).await
    }

    async fn finish(&self, mut lease: NatsLease, outcome: Outcome) -> Result<Finished, QueueError> {
        let finished = Box::pin(self.finish_attempt(&mut lease, outcome)).await?;
        lease.run_out();
        Ok(finished)
    }

    async fn fail(
        &self,
        mut lease: NatsLease,
        ending: Ending,
        spend: Spend,
        not_before: Timestamp,
    ) -> Result<(), QueueError> {
        self.fail_attempt(&mut lease, &ending, spend, not_before).await?;
        lease.run_out();
        Ok(())
    }

    async fn end(&self, task: &TaskRef, ending: Ending) -> Result<Finished, QueueError> {
        self.end_task(task, &ending).await
    }

    async fn retry(&self, task: &TaskRef, changes: Changes) -> Result<(), QueueError> {
        self.bring_back(task, &changes).await
    }

    async fn remove(&self, task: &TaskRef) -> Result<(), QueueError> {
        self.throw_away(task).await
    }

    async fn discard(&self, path: &str) -> Result<(), QueueError> {
        Err(QueueError::NoFile(path.to_owned()))
    }

    async fn restore(&self, item: &Item) -> Result<(), QueueError> {
        match item {
            Item::Task(task) => self.fetch_back(task).await,
            Item::File(path) => Err(QueueError::NoFile(path.clone())),
        }
    }

    async fn removed(&self) -> Result<Vec<Removed>, QueueError> {
        self.mirror().catch_up().await?;
        Ok(self.mirror().removed())
    }

    async fn purge(&self, older: Duration) -> Result<usize, QueueError> {
        self.empty_trash(older).await
    }

    async fn request(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.mark(task, request, true).await
    }

    async fn answered(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.mark(task, request, false).await
    }

    async fn get(&self, task: &TaskRef) -> Result<TaskRecord, QueueError> {
        let loaded = self.load(task).await?;
        loaded.slot.of(task).map(|live| live.entry.record()).ok_or_else(|| QueueError::Unknown(task.clone()))
    }

    async fn spec(&self, task: &TaskRef) -> Result<TaskSpec, QueueError> {
        let loaded = self.load_plain(task).await?;
        let live = loaded.slot.of(task).ok_or_else(|| QueueError::Unknown(task.clone()))?;
        self.whole_spec(live).await
    }

    async fn result(&self, task: &TaskRef) -> Result<Option<Outcome>, QueueError> {
        let loaded = self.load_plain(task).await?;
        match loaded.slot.of(task) {
            Some(live) => self.whole_result(live).await,
            None => Ok(None),
        }
    }

    async fn list(&self) -> Result<Vec<TaskRecord>, QueueError> {
        self.all().await
    }

    async fn recover(&self) -> Result<Vec<TaskRef>, QueueError> {
        self.mend_all().await
    }

    async fn watch(&self) -> Result<mpsc::Receiver<Change>, QueueError> {
        let mirror = self.own_mirror().await?;
        let (all, news) = mirror.watch();
        let (sink, changes) = mirror::channel();
        self.0.tracker.spawn(mirror::forward(all, news, sink));
        Ok(changes)
    }
}
