//! Reading and writing tasks: what lies under a key now, and the one way to change it.
//!
//! Owns patience with a server that does not answer, and what becomes of a write whose answer was lost. Must not know what a
//! change means. Its one surprise: a write that was not answered is asked for by its name before anybody decides anything,
//! since it may have been taken.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{
    NatsQueue,
    bucket::{Bucket, Put},
    mirror, names,
    server::Buckets,
    slot::{Live, Slot},
};
use crate::{
    model::{AgentName, Dependency, Outcome, TaskRecord, TaskRef, TaskSpec},
    queue::QueueError,
};

/// The first wait before the server is asked again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait between two questions.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Leases asked for at once.
const AT_ONCE: usize = 64;

/// How long a server that does not answer is asked again.
#[derive(Debug)]
pub(super) struct Patience {
    until: Option<Instant>,
    wait: Duration,
}

impl Patience {
    /// For as long as it takes, also where there is no room: nobody else knows what is to be written.
    pub(super) fn endless() -> Self {
        Self { until: None, wait: FIRST_WAIT }
    }

    fn of(length: Duration) -> Self {
        Self { until: Some(Instant::now() + length), wait: FIRST_WAIT }
    }

    /// Whether to ask again after this error; waits a little first.
    pub(super) async fn again(&mut self, error: &QueueError) -> bool {
        let passes = match self.until {
            None => matches!(error, QueueError::Unreachable(_) | QueueError::NoSpace(_)),
            Some(until) => matches!(error, QueueError::Unreachable(_)) && Instant::now() < until,
        };
        if !passes {
            return false;
        }
        tracing::warn!(%error, "the NATS server is asked again");
        sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }
}

/// What lay under a task's key.
#[derive(Debug)]
pub(super) struct Loaded {
    key: String,
    revision: u64,
    /// When it was written, by the server.
    at: Option<Timestamp>,
    pub(super) slot: Slot,
    /// What lies there belongs to a stage that is away: nothing is written over it.
    pub(super) is_moved: bool,
}

impl Loaded {
    /// A key that nothing was ever written to, as far as anybody knows: who writes it finds out.
    pub(super) fn unread(task: &TaskRef) -> Self {
        Self { key: names::task(task), revision: 0, at: None, slot: Slot::empty(), is_moved: false }
    }

    /// The same value as it is once it was written as this revision.
    pub(super) fn written(&self, revision: u64) -> Self {
        Self { key: self.key.clone(), revision, at: None, slot: self.slot.clone(), is_moved: self.is_moved }
    }
}

/// Whether a claim that was written `at` is still a lease. A clock that was set back says that it was written in times to come,
/// and ends nothing.
fn lasts(at: Timestamp, lease: Duration, now: Timestamp) -> bool {
    at.saturating_add(lease).is_ok_and(|until| now < until)
}

/// A number that nobody else has.
pub(super) fn nonce() -> Result<String, QueueError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| QueueError::Unsafe(format!("no random numbers: {error}")))?;
    Ok(super::files::hex(&bytes))
}

impl NatsQueue {
    /// Patience as the settings have it.
    pub(super) fn patience(&self) -> Patience {
        Patience::of(self.0.settings.patience)
    }

    /// What lies under a task's key, without asking who runs it.
    pub(super) async fn load_plain(&self, task: &TaskRef) -> Result<Loaded, QueueError> {
        self.known(&task.agent)?;
        let key = names::task(task);
        let mut patience = self.patience();
        let found = loop {
            match self.0.buckets.tasks.get(&key).await {
                Ok(found) => break found,
                Err(error) => {
                    if !patience.again(&error).await {
                        return Err(error);
                    }
                }
            }
        };
        let (revision, at) = found.as_ref().map_or((0, None), |found| (found.revision, Some(found.at)));
        let slot = match found.and_then(|found| found.value) {
            Some(bytes) => Slot::read(&key, &bytes).map_err(|damage| QueueError::Unsafe(damage.to_string()))?,
            None => Slot::empty(),
        };
        let is_moved = slot.live.as_ref().is_some_and(|live| live.moved.is_some());
        Ok(Loaded { key, revision, at, slot, is_moved })
    }

    /// What somebody wrote, or knows to be new, is read only where another one wrote after it, which the next write finds out.
    pub(super) async fn known_or_read(&self, known: Option<Loaded>, task: &TaskRef) -> Result<Loaded, QueueError> {
        match known {
            Some(known) => Ok(known),
            None => self.load_plain(task).await,
        }
    }

    /// What lies under a task's key, and whether somebody runs it.
    pub(super) async fn load(&self, task: &TaskRef) -> Result<Loaded, QueueError> {
        // What was dropped in this process is free for it at once.
        self.given_up(task).await;
        let mut loaded = self.load_plain(task).await?;
        let at = loaded.at;
        if let Some(live) = loaded.slot.of_mut(task) {
            let held = self.is_held(live, at).await?;
            live.held(held);
        }
        Ok(loaded)
    }

    /// Whether somebody holds the newest attempt, of a task that was read before and written `at`. A lease that was beaten, or
    /// given up, has a key that says so. Until its first beat the claim itself is the lease, for as long as one lasts.
    async fn is_held(&self, live: &Live, at: Option<Timestamp>) -> Result<bool, QueueError> {
        let Some(holder) = live.runner() else { return Ok(false) };
        let key = names::attempt(live.task(), holder.n, &holder.nonce);
        let Buckets { leases, tasks, lease, .. } = &self.0.buckets;
        let mut patience = self.patience();
        loop {
            let held = match (leases.get(&key).await, at) {
                (Ok(Some(found)), _) => return Ok(found.value.is_some()),
                (Ok(None), None) => return Ok(false),
                (Ok(None), Some(at)) => tasks.now().await.map(|now| lasts(at, *lease, now)),
                (Err(error), _) => Err(error),
            };
            match held {
                Ok(held) => return Ok(held),
                Err(error) => {
                    if !patience.again(&error).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Writes a task's key where nobody wrote before us.
    pub(super) async fn store(&self, loaded: Loaded, patience: &mut Patience) -> Result<Put, QueueError> {
        let Loaded { key, revision, mut slot, is_moved, at: _ } = loaded;
        if is_moved {
            return Err(QueueError::Unsafe(format!("{key} belongs to a queue that `podium migrate` has put there")));
        }
        slot.write = nonce()?;
        let tasks = &self.0.buckets.tasks;
        let bytes = slot.bytes().map_err(|error| QueueError::Unsafe(error.to_string()))?;
        let too_large = || QueueError::Unsafe(format!("{key} holds too much; empty the trash"));
        let bytes = Bytes::from(bytes.ok_or_else(too_large)?);
        let mut doubt = false;
        let put = loop {
            let answer = if slot.is_empty() {
                tasks.delete(&key, revision).await
            } else {
                tasks.put(&key, bytes.clone(), revision).await
            };
            let answer = match answer {
                Ok(Put::Moved) if doubt => self.was_ours(&key, &slot).await,
                other => other,
            };
            match answer {
                Ok(put) => break put,
                Err(error) => {
                    doubt |= matches!(error, QueueError::Unreachable(_));
                    if !patience.again(&error).await {
                        return Err(error);
                    }
                }
            }
        };
        if let Put::Stored(revision) = put {
            self.0.own.fetch_max(revision, Ordering::Relaxed);
        }
        Ok(put)
    }

    /// Whether what lies under a key is a write of ours that was not answered.
    async fn was_ours(&self, key: &str, slot: &Slot) -> Result<Put, QueueError> {
        let Some(found) = self.0.buckets.tasks.get(key).await? else { return Ok(Put::Moved) };
        let ours = match &found.value {
            Some(bytes) => Slot::read(key, bytes).is_ok_and(|there| there.write == slot.write),
            None => slot.is_empty(),
        };
        Ok(if ours { Put::Stored(found.revision) } else { Put::Moved })
    }

    /// Puts something there that is never written twice; what is there already is the same.
    pub(super) async fn create(
        &self,
        bucket: &Bucket,
        key: &str,
        bytes: Vec<u8>,
        patience: &mut Patience,
    ) -> Result<(), QueueError> {
        let (bytes, mut expected) = (Bytes::from(bytes), 0);
        loop {
            let answer = match bucket.put(key, bytes.clone(), expected).await {
                Ok(Put::Stored(_)) => return Ok(()),
                Ok(Put::Moved) => bucket.get(key).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(Some(found)) if found.value.is_some() => return Ok(()),
                // It was there once and was taken away.
                Ok(found) => expected = found.map_or(0, |found| found.revision),
                Err(error) => {
                    if !patience.again(&error).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The task file, whole.
    pub(super) async fn whole_spec(&self, live: &Live) -> Result<TaskSpec, QueueError> {
        let (task, key) = (live.task(), names::spec(live.task(), &live.spec));
        let bytes = match live.file() {
            Some(bytes) => Bytes::from(bytes),
            None => self.whole(&self.0.buckets.specs, &key).await?,
        };
        crate::queue::file::task_of_file(&bytes, &task.agent, task.id.as_str())
            .map_err(|fault| QueueError::Unsafe(format!("{key} in {} is damaged: {fault}", names::SPECS)))
    }

    /// The result, whole; `None` while there is none.
    pub(super) async fn whole_result(&self, live: &Live) -> Result<Option<Outcome>, QueueError> {
        let Some(short) = &live.entry.outcome else { return Ok(None) };
        let Some(key) = &live.result else { return Ok(Some(short.clone())) };
        let bytes = self.whole(&self.0.buckets.results, key).await?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|fault| QueueError::Unsafe(format!("{key} in {} is damaged: {fault}", names::RESULTS)))
    }

    /// What must be there, because a task says so.
    async fn whole(&self, bucket: &Bucket, key: &str) -> Result<Bytes, QueueError> {
        let mut patience = self.patience();
        loop {
            match bucket.get(key).await {
                Ok(found) => {
                    let gone =
                        || format!("{key} is gone from {} on the NATS server; somebody took it away", bucket.name());
                    return found.and_then(|found| found.value).ok_or_else(|| QueueError::Unsafe(gone()));
                }
                Err(error) => {
                    if !patience.again(&error).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// What an attempt left whose end was not written any more.
    pub(super) async fn unpublished(&self, live: &Live) -> Result<Option<Outcome>, QueueError> {
        let Some(holder) = live.runner() else { return Ok(None) };
        let key = names::attempt(live.task(), holder.n, &holder.nonce);
        let found = self.0.buckets.results.get(&key).await?.and_then(|found| found.value);
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Results of what a task depends on: its own agent's first, then any.
    pub(super) async fn prerequisites(&self, spec: &TaskSpec) -> Result<Vec<Outcome>, QueueError> {
        let mut results = Vec::new();
        for Dependency { agent, id } in &spec.dependencies {
            let agents: Vec<&AgentName> = match agent {
                Some(agent) => vec![agent],
                None => std::iter::once(&spec.task.agent).chain(&self.0.settings.agents).collect(),
            };
            for agent in agents {
                let of = TaskRef::new(agent.clone(), id.clone());
                let loaded = match self.load_plain(&of).await {
                    Err(QueueError::UnknownAgent(_)) => continue,
                    other => other?,
                };
                if let Some(live) = loaded.slot.of(&of)
                    && let Some(result) = self.whole_result(live).await?
                {
                    results.push(result);
                    break;
                }
            }
        }
        Ok(results)
    }

    /// Every task.
    pub(super) async fn all(&self) -> Result<Vec<TaskRecord>, QueueError> {
        self.settle().await;
        let mirror = self.mirror();
        mirror.catch_up().await?;
        let record = async |slot: Slot| {
            let live = slot.live.as_ref()?;
            let loaded = match live.runner() {
                Some(_) => self.load(live.task()).await.ok().and_then(|loaded| loaded.slot.live),
                None => None,
            };
            // What cannot be asked, or was taken away under us, is shown as it was known.
            loaded.map(|live| live.entry.record()).or_else(|| mirror::record(&slot))
        };
        let records = stream::iter(mirror.slots()).map(record).buffer_unordered(AT_ONCE);
        let mut records: Vec<TaskRecord> = records.filter_map(std::future::ready).collect().await;
        records.sort_by(|a, b| a.task().cmp(b.task()));
        Ok(records)
    }

    /// Leaves a marker, or takes it away.
    pub(super) async fn mark(
        &self,
        task: &TaskRef,
        request: crate::model::Request,
        asked: bool,
    ) -> Result<(), QueueError> {
        loop {
            let mut loaded = self.load_plain(task).await?;
            if loaded.slot.of(task).is_none() {
                return if asked { Err(QueueError::Unknown(task.clone())) } else { Ok(()) };
            }
            let requests = &mut loaded.slot.requests;
            let changed = if asked { requests.insert(request) } else { requests.remove(&request) };
            if !changed || matches!(self.store(loaded, &mut self.patience()).await?, Put::Stored(_)) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_claim_lasts_a_lease_and_outlives_a_clock_that_is_set_back() {
        let (at, lease) = (Timestamp::UNIX_EPOCH, Duration::from_secs(30));
        let after = |seconds| lasts(at, lease, at + SignedDuration::from_secs(seconds));
        assert_eq!([0, 29, 30, 3_600].map(after), [true, true, false, false]);
        assert!(after(-3_600), "the server's clock was set back by an hour");
    }
}
