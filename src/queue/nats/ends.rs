//! A task's steps: taken, ended, tried again, mended.
//!
//! Owns in which order things are written. Its one surprise: a short result is one write with its task's end. A long one is
//! written under the attempt's own name before the task says that it has ended; whoever comes too late keeps what they found
//! there, and what was found by somebody who died right then is published instead of being run again.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::connection::State;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::{fs, task::spawn_blocking, time::sleep};

use super::{
    NatsQueue,
    bucket::Put,
    files,
    keys::{Patience, nonce},
    lease::{Keeper, NatsLease},
    names,
    slot::{self, Holder, Live},
};
use crate::{
    model::{Artifact, Changes, Ending, Outcome, Spend, TaskRef, TaskSpec},
    queue::{Claim, Claimed, Finished, QueueError, entry::Taken, file::show_log},
};

/// Logs of an attempt.
const LOGS: [&str; 2] = ["out.log", "err.log"];
/// How often it is seen whether a server that is away is back.
const LOOK: Duration = Duration::from_millis(200);
/// The largest result, well below what a server takes in one message.
const LARGEST: usize = 896 * 1024;

impl NatsQueue {
    /// Takes a task: the task counts the attempt, which is its lease until the first beat, and only then may it run.
    pub(super) async fn take(&self, task: &TaskRef) -> Result<Claimed<NatsLease>, QueueError> {
        let missed = |why: &str| Ok(Claimed::Missed(format!("{task} {why}")));
        let mut patience = self.patience();
        loop {
            let mut loaded = self.load(task).await?;
            self.alarm()?;
            let now = self.0.settings.clock.now();
            if loaded.is_moved {
                return missed("belongs to a queue that `podium migrate` has put here");
            }
            let Some(live) = loaded.slot.of_mut(task) else { return missed("is not there") };
            let before = live.clone();
            if is_free(live) && self.unpublished(live).await?.is_some() {
                // It was done, and whoever did it could not say so any more.
                self.mend(task).await?;
                continue;
            }
            let Taken { n, counted, previous, resume } = match live.entry.claim(now, &self.0.rules) {
                Ok(taken) => taken,
                Err(why) if *live == before => return missed(why),
                Err(why) => {
                    // It was put right by the way.
                    self.publish_new(live, &mut patience).await?;
                    match self.store(loaded, &mut patience).await? {
                        Put::Stored(_) => return missed(why),
                        Put::Moved => continue,
                    }
                }
            };
            // What may fail comes before anything is counted.
            let spec = self.whole_spec(live).await?;
            let prerequisites = self.prerequisites(&spec).await?;
            let keeper = self.keeper(task, n)?;
            live.holders.push(self.holder(n, keeper.nonce()));
            let counted_as = loaded.written(0);
            let revision = match self.store(loaded, &mut patience).await {
                Ok(Put::Stored(revision)) => revision,
                Ok(Put::Moved) => continue,
                Err(error) => {
                    // It may have been written all the same.
                    keeper.give_up().await;
                    return Err(error);
                }
            };
            // One folder below the agent's, or those of ended tasks would stay.
            let folder = format!("{}.{n}-{}", task.id, keeper.nonce());
            let folder = self.0.settings.scratch.join(task.agent.as_str()).join(folder);
            let (lease, end) = keeper.lease(folder.clone(), counted_as.written(revision));
            self.0.tracker.spawn(keeper.keep(end));
            self.make_folder(&lease, folder).await?;
            return Ok(Claimed::Won(Box::new(Claim { spec, n, counted, prerequisites, previous, resume, lease })));
        }
    }

    fn holder(&self, n: u32, nonce: &str) -> Holder {
        let host = self.0.settings.host.clone();
        Holder { n, nonce: nonce.to_owned(), host, pid: std::process::id() }
    }

    /// Who beats for an attempt that is about to be counted.
    fn keeper(&self, task: &TaskRef, n: u32) -> Result<Keeper, QueueError> {
        let nonce = nonce()?;
        let value =
            serde_json::to_vec(&self.holder(n, &nonce)).map_err(|error| QueueError::Unsafe(error.to_string()))?;
        Ok(Keeper::new(task.attempt(n), nonce, Bytes::from(value), &self.0.buckets, &self.0.given_up))
    }

    async fn make_folder(&self, lease: &NatsLease, folder: PathBuf) -> Result<(), QueueError> {
        let shown = self.0.settings.stage.join(lease.attempt.log());
        let path = folder.clone();
        let made = spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            for log in LOGS {
                std::fs::write(folder.join(log), "")?;
            }
            if let Some(parent) = shown.parent() {
                std::fs::create_dir_all(parent)?;
            }
            show_log(&folder.join("out.log"), &shown);
            Ok(())
        });
        let made = made.await.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
        made.map_err(|source| QueueError::Io { action: "create", path, source })
    }

    /// Notes the session of a held attempt.
    pub(super) async fn note_session(&self, lease: &NatsLease, session: Option<&String>) -> Result<(), QueueError> {
        let task = &lease.attempt.task;
        loop {
            let mut loaded = self.load_plain(task).await?;
            let live = loaded.slot.of_mut(task).filter(|live| live.is_newest(lease.attempt.n, &lease.nonce));
            let Some(live) = live else { return Ok(()) };
            live.entry.spawned(lease.attempt.n, session);
            if let Put::Stored(_) = self.store(loaded, &mut self.patience()).await? {
                return Ok(());
            }
        }
    }

    /// Ends a held attempt and its task: logs, files, the result, then the task says so.
    pub(super) async fn finish_attempt(&self, lease: &mut NatsLease, outcome: Outcome) -> Result<Finished, QueueError> {
        let mut known = lease.counted_as.take().map(|known| *known);
        let lease = &*lease;
        let (task, n) = (&lease.attempt.task, lease.attempt.n);
        let mut patience = Patience::endless();
        self.send_up(lease, &outcome.artifacts).await;
        let key = names::attempt(task, n, &lease.nonce);
        let mut kept = false;
        loop {
            let mut loaded = match self.known_or_read(known.take(), task).await {
                Ok(loaded) => loaded,
                Err(error) if patience.again(&error).await => continue,
                Err(error) => {
                    // The task cannot be read any more; what was found is kept all the same.
                    self.keep(&key, outcome, &mut self.patience()).await?;
                    return Err(error);
                }
            };
            let newest = loaded.slot.of_mut(task).filter(|live| live.is_newest(n, &lease.nonce));
            let Some(live) = newest else {
                if !kept {
                    self.keep(&key, outcome, &mut patience).await?;
                }
                self.clear(lease).await;
                return Ok(Finished::AlreadyCommitted);
            };
            if live.ended_with(&outcome, &key) {
                // An answer was lost, and the write was not.
                return Ok(Finished::Committed);
            }
            let first = live.entry.finish(n, outcome.clone());
            if !first {
                self.keep(&key, outcome, &mut patience).await?;
                self.clear(lease).await;
                return Ok(Finished::AlreadyCommitted);
            }
            self.publish(live, &key, &mut patience).await?;
            kept = live.result.is_some();
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                self.clear(lease).await;
                return Ok(Finished::Committed);
            }
        }
    }

    /// Ends a held attempt but not its task.
    pub(super) async fn fail_attempt(
        &self,
        lease: &mut NatsLease,
        ending: &Ending,
        spend: Spend,
        not_before: Timestamp,
    ) -> Result<(), QueueError> {
        let mut known = lease.counted_as.take().map(|known| *known);
        let lease = &*lease;
        let (task, n) = (&lease.attempt.task, lease.attempt.n);
        let mut patience = Patience::endless();
        self.send_up(lease, &[]).await;
        loop {
            let mut loaded = match self.known_or_read(known.take(), task).await {
                Err(error) if patience.again(&error).await => continue,
                other => other?,
            };
            let newest = loaded.slot.of_mut(task).filter(|live| live.is_newest(n, &lease.nonce));
            let Some(live) = newest.filter(|live| live.entry.outcome.is_none()) else {
                // It was taken for lost, and that counts.
                self.clear(lease).await;
                return Ok(());
            };
            live.entry.fail(n, ending.clone(), spend, not_before, self.0.settings.clock.now());
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                self.clear(lease).await;
                return Ok(());
            }
        }
    }

    /// Ends a task that nobody runs.
    pub(super) async fn end_task(&self, task: &TaskRef, ending: &Ending) -> Result<Finished, QueueError> {
        self.is_ours().await?;
        let mut patience = self.patience();
        loop {
            let mut loaded = self.load(task).await?;
            let live = loaded.slot.of_mut(task).ok_or_else(|| QueueError::Unknown(task.clone()))?;
            let ended = live.entry.end_now(ending.clone(), self.0.settings.clock.now(), &self.0.rules);
            match ended {
                Ok(true) => {}
                Ok(false) => return Ok(Finished::AlreadyCommitted),
                Err(state) => return Err(QueueError::State { task: task.clone(), state }),
            }
            self.publish_new(live, &mut patience).await?;
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                return Ok(Finished::Committed);
            }
        }
    }

    /// Brings a task back to the inbox.
    pub(super) async fn bring_back(&self, task: &TaskRef, changes: &Changes) -> Result<(), QueueError> {
        let mut patience = self.patience();
        loop {
            let mut loaded = self.load(task).await?;
            let live = loaded.slot.of_mut(task).ok_or_else(|| QueueError::Unknown(task.clone()))?;
            let old = live.entry.outcome.clone().filter(|_| live.result.is_none());
            live.entry
                .retry(self.0.settings.clock.now(), &self.0.rules)
                .map_err(|state| QueueError::State { task: task.clone(), state })?;
            let mut spec = self.whole_spec(live).await?;
            live.entry.change(changes, &mut spec);
            let sha256 = self.put_spec(&spec, &mut patience).await?;
            live.respecify(spec, sha256);
            if let Some(old) = old {
                self.keep(&result_key(live)?, old, &mut patience).await?;
            }
            live.result = None;
            loaded.slot.requests.clear();
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                return Ok(());
            }
        }
    }

    /// Sends a task file up, unless the task's own key has the whole of it; gives its hash.
    pub(super) async fn put_spec(&self, spec: &TaskSpec, patience: &mut Patience) -> Result<String, QueueError> {
        let (bytes, sha256, is_cut) = slot::file(spec)?;
        if is_cut {
            self.create(&self.0.buckets.specs, &names::spec(&spec.task, &sha256), bytes, patience).await?;
        }
        Ok(sha256)
    }

    /// Puts right what was left by those who vanished; says which tasks that were.
    pub(super) async fn mend_all(&self) -> Result<Vec<TaskRef>, QueueError> {
        self.settle().await;
        let mirror = self.mirror();
        mirror.catch_up().await?;
        // Of a bucket that somebody emptied nothing is mended: what is missing is not invented.
        mirror.alarm()?;
        let open = mirror.slots().into_iter().filter_map(|slot| slot.live).filter(|live| live.moved.is_none());
        let open = open.filter(|live| live.runner().is_some() || live.entry.is_orphan(&self.0.rules));
        let mut mended = Vec::new();
        for live in open {
            if self.mend(live.task()).await? {
                mended.push(live.task().clone());
            }
        }
        mended.sort();
        Ok(mended)
    }

    async fn mend(&self, task: &TaskRef) -> Result<bool, QueueError> {
        let mut patience = self.patience();
        loop {
            let mut loaded = self.load(task).await?;
            let Some(live) = loaded.slot.of_mut(task) else { return Ok(false) };
            if !live.entry.is_orphan(&self.0.rules) {
                return Ok(false);
            }
            if let Some(outcome) = self.unpublished(live).await? {
                // The whole is there already, under the attempt's own name.
                let key = live.runner().map(|holder| names::attempt(task, holder.n, &holder.nonce));
                live.entry.put_back(outcome);
                if let Some(key) = key {
                    let _there = live.take_outcome(&key);
                }
            } else {
                live.entry.mend(self.0.settings.clock.now(), &self.0.rules);
                self.publish_new(live, &mut patience).await?;
            }
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                return Ok(true);
            }
        }
    }

    /// Puts the result of a task in place that no attempt brought to its end, if it has one now.
    async fn publish_new(&self, live: &mut Live, patience: &mut Patience) -> Result<(), QueueError> {
        if live.entry.outcome.is_none() || live.result.is_some() {
            return Ok(());
        }
        let key = result_key(live)?;
        self.publish(live, &key, patience).await
    }

    /// Writes a result that is too long for its task to its own key, and leaves a short one with the task.
    pub(super) async fn publish(&self, live: &mut Live, key: &str, patience: &mut Patience) -> Result<(), QueueError> {
        match live.take_outcome(key) {
            Some(whole) => self.keep(key, whole, patience).await,
            None => Ok(()),
        }
    }

    async fn keep(&self, key: &str, outcome: Outcome, patience: &mut Patience) -> Result<(), QueueError> {
        let bytes = fitted(outcome).map_err(|error| QueueError::Unsafe(error.to_string()))?;
        self.create(&self.0.buckets.results, key, bytes, patience).await
    }

    /// Sends an attempt's logs and files up, for which a server that is away is waited for: so does the result. For any
    /// other reason a result is not held up for the lack of one: it is said.
    async fn send_up(&self, lease: &NatsLease, artifacts: &[Artifact]) {
        let mut all: Vec<(String, PathBuf)> = Vec::new();
        for log in LOGS {
            let path = lease.folder.join(log);
            if fs::metadata(&path).await.is_ok_and(|about| about.len() > 0) {
                all.push((log.to_owned(), path));
            }
        }
        let times = self.0.settings.stage.join(lease.attempt.log()).with_extension("times");
        if fs::metadata(&times).await.is_ok() {
            all.push((files::TIMES.to_owned(), times));
        }
        for artifact in artifacts {
            let path = artifact.kept.as_ref().unwrap_or(&artifact.path);
            all.push((format!("files/{}", artifact.path), self.0.settings.stage.join(path)));
        }
        if all.is_empty() {
            return;
        }
        let attempt = &lease.attempt;
        let mut patience = self.patience();
        let store = loop {
            match self.files(&attempt.task.agent).await {
                Ok(store) => break store,
                Err(error) if self.may_come(&mut patience, &error).await => {}
                Err(error) => {
                    tracing::error!(%attempt, %error, "logs and files stay on this machine");
                    return;
                }
            }
        };
        for (name, path) in all {
            let name = names::file(&attempt.task, attempt.n, &lease.nonce, &name);
            let mut patience = self.patience();
            while let Err(error) = files::put(&store, &name, &path).await {
                if !self.may_come(&mut patience, &error).await {
                    tracing::error!(%attempt, name, %error, "a file stays on this machine");
                    break;
                }
            }
        }
    }

    /// Whether to try again: for as long as the server is away, and then for as long as a server that is there is asked.
    async fn may_come(&self, patience: &mut Patience, error: &QueueError) -> bool {
        if self.client().connection_state() != State::Connected {
            tracing::warn!("logs and files wait for the NATS server");
            while self.client().connection_state() != State::Connected {
                sleep(LOOK).await;
            }
            *patience = self.patience();
        }
        patience.again(error).await
    }

    /// Brings a file of an attempt down to `to`, as the attempt's holder sent it up; its SHA-256, `None` where there is none.
    pub async fn fetch(&self, task: &TaskRef, n: u32, name: &str, to: &Path) -> Result<Option<String>, QueueError> {
        let loaded = self.load_plain(task).await?;
        let live = loaded.slot.of(task).ok_or_else(|| QueueError::Unknown(task.clone()))?;
        let Some(nonce) = live.nonce_of(n) else { return Ok(None) };
        let store = self.files(&task.agent).await?;
        files::get(&store, &names::file(task, n, nonce, name), to).await
    }

    /// Takes an attempt's folder away; its log stays where outsiders find it.
    async fn clear(&self, lease: &NatsLease) {
        if let Err(error) = fs::remove_dir_all(&lease.folder).await {
            tracing::warn!(attempt = %lease.attempt, %error, "the attempt's folder stays");
        }
    }
}

/// Where a result goes that no attempt wrote itself.
fn result_key(live: &Live) -> Result<String, QueueError> {
    let n = live.entry.attempts.last().map_or(0, |attempt| attempt.record.n);
    Ok(names::attempt(live.task(), n, &nonce()?))
}

/// Whether the newest attempt's end is not written and nobody holds it.
fn is_free(live: &Live) -> bool {
    live.runner().is_some() && live.entry.attempts.last().is_some_and(|attempt| !attempt.held)
}

/// A result as it fits into one message: of very many files the last are left out, and that is said.
fn fitted(mut outcome: Outcome) -> Result<Vec<u8>, serde_json::Error> {
    let all = outcome.artifacts.len();
    loop {
        let bytes = serde_json::to_vec(&outcome)?;
        if bytes.len() <= LARGEST || outcome.artifacts.is_empty() {
            return Ok(bytes);
        }
        if outcome.artifacts.len() == all {
            outcome.findings.push(String::new());
        }
        outcome.artifacts.truncate(outcome.artifacts.len() / 2);
        if let Some(said) = outcome.findings.last_mut() {
            *said = format!("{} more files are not listed", all - outcome.artifacts.len());
        }
    }
}
