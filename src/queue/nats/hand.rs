//! Tasks that another queue hands over, one attempt at a time, and takes back when that is over.
//!
//! Its one surprise: the attempt keeps the number that it has in the other queue, because model calls are paid for by it.

use super::{
    NatsQueue,
    bucket::Put,
    files,
    keys::Loaded,
    names,
    slot::{Live, Slot},
};
use crate::{
    model::{Standing, TaskRef, TaskSpec},
    queue::QueueError,
};

impl NatsQueue {
    /// Puts a task here for attempt `n` alone.
    pub async fn hand_over(&self, spec: &TaskSpec, n: u32) -> Result<(), QueueError> {
        let task = &spec.task;
        self.is_ours().await?;
        let mut patience = self.patience();
        // A first attempt's key was most likely never written: then the one write says so.
        let mut unread = (n <= 1).then(|| Loaded::unread(task));
        loop {
            let mut loaded = self.known_or_read(unread.take(), task).await?;
            if loaded.slot.live.is_some() {
                return Err(QueueError::State { task: task.clone(), state: "on the NATS server already".into() });
            }
            let sha256 = self.put_spec(spec, &mut patience).await?;
            let mut live = Live::new(spec.clone(), sha256, self.0.settings.clock.now());
            live.entry.before = n.saturating_sub(1);
            loaded.slot.live = Some(live);
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                return Ok(());
            }
        }
    }

    /// Takes a task away that was handed over and does not run, with all that lies here of it.
    pub async fn take_back(&self, task: &TaskRef) -> Result<(), QueueError> {
        self.take_away(task, false).await.map(drop)
    }

    /// The same for a task that nobody has begun, and from now on nobody can; false where somebody has, and then it stays.
    pub async fn withdraw(&self, task: &TaskRef) -> Result<bool, QueueError> {
        self.take_away(task, true).await
    }

    async fn take_away(&self, task: &TaskRef, is_fresh: bool) -> Result<bool, QueueError> {
        self.is_ours().await?;
        loop {
            let mut loaded = self.load(task).await?;
            let Some(live) = loaded.slot.of(task) else { return Ok(true) };
            if is_fresh && !(live.entry.attempts.is_empty() && live.entry.outcome.is_none()) {
                return Ok(false);
            }
            if let Standing::Running { attempt } = live.entry.standing() {
                return Err(QueueError::State { task: task.clone(), state: format!("running (attempt {attempt})") });
            }
            let live = loaded.slot.live.take();
            loaded.slot.requests.clear();
            let left = loaded.slot.clone();
            if let Put::Stored(_) = self.store(loaded, &mut self.patience()).await? {
                let is_cut = live.as_ref().is_none_or(|live| live.file().is_none());
                self.forget(task, &left, is_cut).await;
                self.forget_files(live.as_ref(), &left).await;
                return Ok(true);
            }
        }
    }

    /// Takes the logs and files of all attempts away.
    async fn forget_files(&self, live: Option<&Live>, left: &Slot) {
        let Some(live) = live.filter(|_| left.is_empty()) else { return };
        let task = live.task();
        let Ok(store) = self.files(&task.agent).await else { return };
        let made = live.entry.outcome.iter().flat_map(|outcome| &outcome.artifacts);
        let made: Vec<String> = made.map(|artifact| format!("files/{}", artifact.path)).collect();
        for holder in &live.holders {
            for name in ["out.log", "err.log", files::TIMES].iter().map(ToString::to_string).chain(made.iter().cloned())
            {
                // What was never sent is not there; what stays costs room and nothing else.
                drop(store.delete(names::file(task, holder.n, &holder.nonce, &name)).await);
            }
        }
    }
}
