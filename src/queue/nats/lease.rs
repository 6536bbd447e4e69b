//! Leases: a key that goes away by itself unless its holder beats.
//!
//! Owns the beats and how a lease is given up. Must not know what runs under it. Its one surprise: there is no key before the
//! first beat. Until then the claim is the lease, and most attempts are over by then. A beat is a compare-and-set on the
//! lease's own key, where an acknowledgement that comes late could touch a newer delivery; and each beat also looks whether the
//! task still says that the attempt is ours, so that nobody runs on whose place was taken.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    bucket::{Bucket, Put},
    keys::Loaded,
    names,
    server::Buckets,
    slot::Slot,
};
use crate::{
    model::{AttemptRef, TaskRef},
    queue::{Lease, QueueError},
};

/// Beats per lease: as many may be missed but one.
const BEATS: u32 = 6;

/// How long giving a lease up may take; after that it runs out by itself.
const GIVING_UP: Duration = Duration::from_secs(5);

/// A held lease.
pub struct NatsLease {
    pub(super) attempt: AttemptRef,
    pub(super) nonce: String,
    pub(super) folder: PathBuf,
    gone: watch::Receiver<Option<String>>,
    /// The task as it was when the attempt was counted.
    pub(super) counted_as: Option<Box<Loaded>>,
    /// Ends the beats: with a word the lease runs out, without one it is given up.
    end: Option<oneshot::Sender<()>>,
    given_up: Arc<watch::Sender<Vec<TaskRef>>>,
}

impl fmt::Debug for NatsLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsLease({} {})", self.attempt, self.nonce)
    }
}

impl Drop for NatsLease {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // Said before anybody can ask: whoever calls the queue next in this process finds the lease free.
            self.given_up.send_modify(|open| open.push(self.attempt.task.clone()));
            drop(end);
        }
    }
}

impl NatsLease {
    /// Lets go of a lease whose attempt has ended: nobody asks for it any more, so it need not be taken away.
    pub(super) fn run_out(mut self) {
        if let Some(end) = self.end.take() {
            // Nobody listens where the lease was gone before.
            let _gone = end.send(());
        }
    }
}

impl Lease for NatsLease {
    fn attempt(&self) -> &AttemptRef {
        &self.attempt
    }
    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
    fn log(&self) -> String {
        self.attempt.log()
    }
    async fn gone(&self) -> String {
        let mut gone = self.gone.clone();
        let why = gone.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // Nobody beats any more; the queue is being closed, and this process with it.
            None => std::future::pending().await,
        }
    }
}

/// Who beats for one lease.
pub(super) struct Keeper {
    attempt: AttemptRef,
    nonce: String,
    key: String,
    value: Bytes,
    revision: u64,
    leases: Bucket,
    tasks: Bucket,
    length: Duration,
    confirmed: Instant,
    gone: watch::Sender<Option<String>>,
    given_up: Arc<watch::Sender<Vec<TaskRef>>>,
}

/// What a beat found.
enum Beat {
    Ours,
    Taken(String),
}

impl Keeper {
    /// Who will beat for an attempt that is about to be counted: its lease lasts from now on.
    pub(super) fn new(
        attempt: AttemptRef,
        nonce: String,
        value: Bytes,
        Buckets { leases, tasks, lease, .. }: &Buckets,
        given_up: &Arc<watch::Sender<Vec<TaskRef>>>,
    ) -> Self {
        Self {
            key: names::attempt(&attempt.task, attempt.n, &nonce),
            attempt,
            nonce,
            value,
            revision: 0,
            leases: leases.clone(),
            tasks: tasks.clone(),
            length: *lease,
            confirmed: Instant::now(),
            gone: watch::channel(None).0,
            given_up: Arc::clone(given_up),
        }
    }

    /// The lease that this keeps, whose files lie in `folder`, and what ends the beats.
    pub(super) fn lease(&self, folder: PathBuf, counted_as: Loaded) -> (NatsLease, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let lease = NatsLease {
            attempt: self.attempt.clone(),
            nonce: self.nonce.clone(),
            folder,
            gone: self.gone.subscribe(),
            counted_as: Some(Box::new(counted_as)),
            end: Some(end),
            given_up: Arc::clone(&self.given_up),
        };
        (lease, ended)
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Beats until the lease is given up, runs out, or is gone.
    pub(super) async fn keep(mut self, end: oneshot::Receiver<()>) {
        if self.beats(end).await {
            return;
        }
        self.give_up().await;
        self.given_up.send_modify(|open| {
            if let Some(at) = open.iter().position(|task| *task == self.attempt.task) {
                open.swap_remove(at);
            }
        });
    }

    /// Beats until the holder lets go; whether the lease may run out by itself.
    async fn beats(&mut self, mut end: oneshot::Receiver<()>) -> bool {
        loop {
            tokio::select! {
                ended = &mut end => return ended.is_ok(),
                () = tokio::time::sleep(self.length / BEATS) => {}
            }
            let (sent, last) = (Instant::now(), self.confirmed + self.length);
            // One beat may take no longer than the lease has left, nor than till the next but one.
            let until = last.min(sent + self.length / BEATS * 2);
            let beat = tokio::select! {
                ended = &mut end => return ended.is_ok(),
                beat = tokio::time::timeout_at(until, self.beat()) => beat,
            };
            match beat {
                Ok(Ok(Beat::Ours)) => self.confirmed = sent,
                Ok(Ok(Beat::Taken(why))) => {
                    self.tell(why);
                    return end.await.is_ok();
                }
                Ok(Err(error)) => tracing::warn!(attempt = %self.attempt, %error, "a beat was not confirmed"),
                Err(_late) => tracing::warn!(attempt = %self.attempt, "a beat was not confirmed in time"),
            }
            if Instant::now() >= last {
                let seconds = self.length.as_secs();
                self.tell(format!("the NATS server has confirmed no beat for {seconds} s, so the lease is gone"));
                return end.await.is_ok();
            }
        }
    }

    fn tell(&self, why: String) {
        tracing::error!(attempt = %self.attempt, why, "the lease is gone");
        // Nobody may be listening.
        let _unheard = self.gone.send_replace(Some(why));
    }

    async fn beat(&mut self) -> Result<Beat, QueueError> {
        match self.leases.put(&self.key, self.value.clone(), self.revision).await? {
            Put::Stored(revision) => self.revision = revision,
            Put::Moved => {
                // It ran out while the server could not hear us, or an answer was lost. Whether it is still ours, the task
                // says.
                let newest = self.leases.get(&self.key).await?.map_or(0, |found| found.revision);
                if let Put::Stored(revision) = self.leases.put(&self.key, self.value.clone(), newest).await? {
                    self.revision = revision;
                }
            }
        }
        let key = names::task(&self.attempt.task);
        let value = self.tasks.get(&key).await?.and_then(|found| found.value);
        let slot = value.and_then(|value| Slot::read(&key, &value).ok());
        let live = slot.as_ref().and_then(|slot| slot.of(&self.attempt.task));
        Ok(match live {
            Some(live) if live.is_newest(self.attempt.n, &self.nonce) && !live.is_lost() => Beat::Ours,
            Some(live) => {
                let standing = live.entry.attempts.last().map_or(0, |attempt| attempt.record.n);
                Beat::Taken(format!("{} was taken for lost; attempt {standing} is the newest", self.attempt))
            }
            None => Beat::Taken(format!("{} is not on the NATS server any more", self.attempt.task)),
        })
    }

    /// Says that nobody runs this attempt, if it was counted.
    pub(super) async fn give_up(&self) {
        let gone = async {
            if let Ok(Put::Moved) = self.leases.delete(&self.key, self.revision).await
                && let Ok(Some(found)) = self.leases.get(&self.key).await
            {
                // A beat was on its way when we were told to stop.
                drop(self.leases.delete(&self.key, found.revision).await);
            }
        };
        if tokio::time::timeout(GIVING_UP, gone).await.is_err() {
            tracing::warn!(attempt = %self.attempt, "the lease could not be given up and runs out by itself");
        }
    }
}
