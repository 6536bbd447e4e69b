//! Throwing tasks away, bringing them back, and forgetting them for good.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    NatsQueue,
    bucket::{Bucket, Put},
    names,
    slot::{Slot, Trashed},
};
use crate::{
    model::{Standing, TaskRef},
    queue::QueueError,
};

impl NatsQueue {
    /// Throws a task away that does not run.
    pub(super) async fn throw_away(&self, task: &TaskRef) -> Result<(), QueueError> {
        loop {
            let mut loaded = self.load(task).await?;
            let standing = loaded.slot.of(task).map(|live| live.entry.standing());
            match standing {
                None => return Err(QueueError::Unknown(task.clone())),
                Some(Standing::Running { attempt }) => {
                    return Err(QueueError::State {
                        task: task.clone(),
                        state: format!("running (attempt {attempt})"),
                    });
                }
                Some(_) => {}
            }
            let at = self.0.settings.clock.now();
            loaded.slot.trash.extend(loaded.slot.live.take().map(|live| Trashed { at, live }));
            loaded.slot.requests.clear();
            if let Put::Stored(_) = self.store(loaded, &mut self.patience()).await? {
                return Ok(());
            }
        }
    }

    /// Brings back what was thrown away last under this name.
    pub(super) async fn fetch_back(&self, task: &TaskRef) -> Result<(), QueueError> {
        loop {
            let mut loaded = self.load_plain(task).await?;
            let newest = loaded.slot.trash.iter().rposition(|trashed| trashed.live.task() == task);
            let newest = newest.ok_or_else(|| QueueError::Unknown(task.clone()))?;
            if loaded.slot.live.is_some() {
                let state = "there again, under the same id".into();
                return Err(QueueError::State { task: task.clone(), state });
            }
            loaded.slot.live = Some(loaded.slot.trash.remove(newest).live);
            if let Put::Stored(_) = self.store(loaded, &mut self.patience()).await? {
                return Ok(());
            }
        }
    }

    /// Forgets what has been in the trash for longer than this; says how many.
    pub(super) async fn empty_trash(&self, older: Duration) -> Result<usize, QueueError> {
        let limit = self.0.settings.clock.now().checked_sub(older).unwrap_or(Timestamp::MIN);
        self.mirror().catch_up().await?;
        let mut count = 0;
        for task in self.mirror().removed().into_iter().filter_map(|removed| match removed.item {
            crate::model::Item::Task(task) => Some(task),
            crate::model::Item::File(_) => None,
        }) {
            loop {
                let mut loaded = self.load_plain(&task).await?;
                let before = loaded.slot.trash.len();
                loaded.slot.trash.retain(|trashed| trashed.at > limit);
                let gone = before - loaded.slot.trash.len();
                let left = loaded.slot.clone();
                if gone == 0 {
                    break;
                }
                if let Put::Stored(_) = self.store(loaded, &mut self.patience()).await? {
                    count += gone;
                    self.forget(&task, &left, true).await;
                    break;
                }
            }
        }
        Ok(count)
    }

    /// Takes what no task speaks of any more out of the other buckets; `has_files` = its task file may lie there. What is left lying costs room and nothing else.
    pub(super) async fn forget(&self, task: &TaskRef, left: &Slot, has_files: bool) {
        if !left.is_empty() {
            return;
        }
        let below = format!("{}.>", names::task(task));
        let purge = async |bucket: &Bucket| bucket.stream.purge().filter(bucket.subject(&below)).await;
        let specs = has_files.then_some(&self.0.buckets.specs);
        for bucket in specs.into_iter().chain([&self.0.buckets.results]) {
            if let Err(error) = purge(bucket).await {
                tracing::warn!(%task, bucket = bucket.name(), %error, "what is forgotten stays on the NATS server");
            }
        }
    }
}
