//! A copy of `podium-tasks` that follows the server, for whoever lists, watches and counts.
//!
//! Owns what was last heard of each task, who watches, and the alarm. Must not write. Its one surprise: it is made when it is
//! first asked for, because a worker never needs it; and what it knows it goes on showing when the server is away or
//! somebody emptied the bucket, but then says so, and nothing is started or accepted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    consumer::{DeliverPolicy, push},
    stream::Info,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::{bucket::Bucket, slot::Slot};
use crate::{
    model::{AgentName, Clock, Rejected, Removed, Request, Standing, TaskRecord},
    queue::{Change, QueueError},
};

/// How often the bucket is compared with what is known of it.
const LOOK: Duration = Duration::from_secs(5);
/// Waits before the server is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long whoever asks waits for the copy to catch up.
const PATIENCE: Duration = Duration::from_secs(15);
/// Changes held for a receiver that is busy.
const CHANNEL: usize = 1_024;

/// The copy. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Mirror(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tasks: Bucket,
    clock: Clock,
    known: Mutex<Known>,
    /// The newest revision heard, and whether everything from before the start was.
    heard: watch::Sender<(u64, bool)>,
}

#[derive(Debug, Default)]
struct Known {
    slots: BTreeMap<String, Slot>,
    /// How many of them wait.
    waiting: BTreeMap<AgentName, usize>,
    /// Values that are none of ours.
    damaged: BTreeMap<String, Rejected>,
    /// Keys that were ever written, those taken away included: as many as the stream has messages.
    keys: BTreeMap<String, u64>,
    /// When the stream was made, by the server.
    made: Option<i128>,
    alarm: Option<String>,
    away: Option<String>,
    watches: Vec<mpsc::UnboundedSender<Change>>,
}

impl Known {
    fn tell(&mut self, change: &Change) {
        self.watches.retain(|watch| watch.send(change.clone()).is_ok());
    }

    fn removed(&self) -> Vec<Removed> {
        let mut removed: Vec<Removed> = self.slots.values().flat_map(Slot::removed).collect();
        // Newest first; of one moment the one that was thrown away last comes last in its slot.
        removed.reverse();
        removed.sort_by_key(|removed| std::cmp::Reverse(removed.at));
        removed
    }

    fn trouble(&self) -> Option<&String> {
        self.alarm.as_ref().or(self.away.as_ref())
    }

    fn tell_trouble(&mut self) {
        let trouble = self.trouble().cloned();
        self.tell(&Change::Space(trouble));
    }
}

/// What the watch shows of a slot; an open attempt is taken as held until somebody says otherwise.
pub(super) fn record(slot: &Slot) -> Option<TaskRecord> {
    let mut live = slot.live.clone()?;
    if live.runner().is_some() {
        live.held(true);
    }
    Some(live.entry.record())
}

/// Whose task waits there, if one does.
fn waits(slot: &Slot) -> Option<AgentName> {
    let live = slot.live.as_ref()?;
    (live.entry.standing() == Standing::Waiting).then(|| live.task().agent.clone())
}

impl Mirror {
    pub(super) fn new(tasks: Bucket, clock: Clock) -> Self {
        let (heard, _) = watch::channel((0, false));
        Self(Arc::new(Shared { tasks, clock, known: Mutex::default(), heard }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the server for ever.
    pub(super) async fn follow(self) {
        loop {
            let why = match self.listen().await {
                Ok(()) => "the watch of the NATS server ended".to_owned(),
                Err(error) => error,
            };
            tracing::warn!(why, "the tasks on the NATS server cannot be followed");
            self.away(Some(why));
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Reads everything there is, then each change, until something goes wrong.
    async fn listen(&self) -> Result<(), String> {
        let info = self.info().await.map_err(|error| error.to_string())?;
        let stream = &self.0.tasks.stream;
        let config = push::OrderedConfig {
            deliver_subject: self.0.tasks.context().client().new_inbox(),
            filter_subject: self.0.tasks.subject(">"),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..push::OrderedConfig::default()
        };
        let wrong = |error: &(dyn std::error::Error + 'static)| super::bucket::cause(error);
        let consumer = stream.create_consumer(config).await.map_err(|error| wrong(&error))?;
        let mut messages = consumer.messages().await.map_err(|error| wrong(&error))?;
        self.judge(&info);
        self.away(None);
        if info.state.messages == 0 {
            self.reached(info.state.last_sequence, true);
        }
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or("the watch of the NATS server ended")?.map_err(|error| wrong(&error))?;
                    let about = message.info().map_err(|error| error.to_string())?;
                    let (sequence, pending) = (about.stream_sequence, about.pending);
                    let gone = message.headers.as_ref().is_some_and(|headers| headers.get("KV-Operation").is_some());
                    let prefix = self.0.tasks.subject("");
                    if let Some(key) = message.subject.as_str().strip_prefix(&prefix) {
                        self.hear(key, sequence, (!gone).then_some(&message.payload));
                    }
                    self.reached(sequence, pending == 0);
                }
                _ = look.tick() => match self.info().await {
                    Ok(info) => {
                        self.judge(&info);
                        self.away(None);
                    }
                    Err(error) => self.away(Some(error.to_string())),
                },
            }
        }
    }

    async fn info(&self) -> Result<Info, QueueError> {
        self.0.tasks.info().await
    }

    /// Takes one message in.
    fn hear(&self, key: &str, revision: u64, value: Option<&Bytes>) {
        let read = value.map(|bytes| Slot::read(key, bytes));
        let mut known = self.known();
        if known.keys.get(key).is_some_and(|last| *last >= revision) {
            return;
        }
        known.keys.insert(key.to_owned(), revision);
        let shown = format!("{}/{key}", self.0.tasks.name());
        if known.damaged.remove(key).is_some() {
            known.tell(&Change::RejectedGone(shown.clone()));
        }
        let new = match read {
            None => None,
            Some(Ok(slot)) => Some(slot),
            Some(Err(damage)) => {
                let rejected = Rejected {
                    path: shown,
                    reason: format!("{damage}."),
                    at: self.0.clock.now(),
                    moved: false,
                    duplicate: false,
                };
                known.damaged.insert(key.to_owned(), rejected.clone());
                known.tell(&Change::Rejected(rejected));
                // What was there is shown on; nothing is made of what nobody can read.
                return;
            }
        };
        let old = match &new {
            Some(slot) => known.slots.insert(key.to_owned(), slot.clone()),
            None => known.slots.remove(key),
        };
        if let Some(agent) = old.as_ref().and_then(waits) {
            known.waiting.entry(agent).and_modify(|count| *count = count.saturating_sub(1));
        }
        if let Some(agent) = new.as_ref().and_then(waits) {
            *known.waiting.entry(agent).or_default() += 1;
        }
        if !known.watches.is_empty() {
            for change in differences(old.as_ref(), new.as_ref()) {
                known.tell(&change);
            }
        }
        let trash = |slot: Option<&Slot>| slot.map(|slot| slot.trash.len()).unwrap_or_default();
        if trash(old.as_ref()) != trash(new.as_ref()) {
            let removed = known.removed();
            known.tell(&Change::Trash(removed));
        }
    }

    /// Compares the stream with what is known of it: what nobody here took away must be there.
    fn judge(&self, info: &Info) {
        let mut known = self.known();
        let made = info.created.unix_timestamp_nanos();
        let newest = known.keys.values().max().copied().unwrap_or_default();
        let (heard, _) = *self.0.heard.borrow();
        let keys = known.keys.len() as u64;
        let name = self.0.tasks.name();
        let alarm = if known.made.is_some_and(|before| before != made) {
            Some(format!("somebody deleted {name} on the NATS server and made it again"))
        } else if info.state.last_sequence < newest.max(heard) {
            let last = info.state.last_sequence;
            Some(format!(
                "{name} on the NATS server ends at {last} where {} was heard of: writes are lost",
                newest.max(heard)
            ))
        } else if info.state.messages < keys {
            let gone = keys - info.state.messages;
            Some(format!("somebody took {gone} of {keys} tasks out of {name} on the NATS server"))
        } else {
            None
        };
        known.made.get_or_insert(made);
        // Once seen it stays: nobody but a person can say what is to be believed.
        if let Some(alarm) = alarm.filter(|_| known.alarm.is_none()) {
            let alarm = format!("{alarm}. Nothing is started or accepted; see docs/queue-nats.md");
            tracing::error!(alarm, "the engine's tasks are not what they were");
            known.alarm = Some(alarm);
            known.tell_trouble();
        }
    }

    fn away(&self, why: Option<String>) {
        let mut known = self.known();
        if known.away.is_some() != why.is_some() {
            let since = self.0.clock.now();
            known.away = why.map(|why| since_when(since, &why));
            known.tell_trouble();
        }
    }

    fn reached(&self, revision: u64, all: bool) {
        self.0.heard.send_if_modified(|(last, whole)| {
            let before = (*last, *whole);
            *last = revision.max(*last);
            *whole |= all;
            before != (*last, *whole)
        });
    }

    /// Why nothing may be started or accepted: tasks were taken away under us.
    pub(super) fn alarm(&self) -> Result<(), QueueError> {
        self.known().alarm.clone().map_or(Ok(()), |alarm| Err(QueueError::Unsafe(alarm)))
    }

    /// Waits until everything that was written before now has been heard.
    pub(super) async fn catch_up(&self) -> Result<(), QueueError> {
        let info = self.info().await?;
        self.judge(&info);
        // Of a bucket that was emptied nothing more will be heard than is known.
        let wanted = if info.state.messages == 0 { 0 } else { info.state.last_sequence };
        self.wait(wanted).await
    }

    /// Waits until this revision has been heard.
    pub(super) async fn wait(&self, revision: u64) -> Result<(), QueueError> {
        let mut heard = self.0.heard.subscribe();
        let reached = heard.wait_for(|(last, whole)| *whole && *last >= revision);
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, reached).await {
            return Ok(());
        }
        let name = self.0.tasks.name();
        Err(QueueError::Unreachable(format!("the NATS server has not told all of {name} in time")))
    }

    /// How many of an agent's tasks wait.
    pub(super) fn waiting(&self, agent: &AgentName) -> usize {
        self.known().waiting.get(agent).copied().unwrap_or_default()
    }

    /// As many as wait at most once everything up to this revision has been heard; `None` before all was heard once.
    pub(super) fn waiting_at_most(&self, agent: &AgentName, revision: u64) -> Option<usize> {
        let (last, whole) = *self.0.heard.borrow();
        let unheard = usize::try_from(revision.saturating_sub(last)).unwrap_or(usize::MAX);
        whole.then(|| self.waiting(agent).saturating_add(unheard))
    }

    /// Every key with a task.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.known().slots.values().filter(|slot| slot.live.is_some()).cloned().collect()
    }

    /// What was thrown away, newest first.
    pub(super) fn removed(&self) -> Vec<Removed> {
        self.known().removed()
    }

    /// Everything there is, and what follows.
    pub(super) fn watch(&self) -> (Vec<Change>, mpsc::UnboundedReceiver<Change>) {
        let (sink, news) = mpsc::unbounded_channel();
        let mut known = self.known();
        let mut all = vec![Change::Polling(None)];
        all.extend(known.trouble().cloned().map(|trouble| Change::Space(Some(trouble))));
        all.extend(known.slots.values().flat_map(|slot| differences(None, Some(slot))));
        all.extend(known.damaged.values().cloned().map(Change::Rejected));
        all.extend(Some(known.removed()).filter(|removed| !removed.is_empty()).map(Change::Trash));
        known.watches.push(sink);
        drop(known);
        (all, news)
    }
}

/// Hands changes on until nobody listens.
pub(super) async fn forward(all: Vec<Change>, mut news: mpsc::UnboundedReceiver<Change>, sink: mpsc::Sender<Change>) {
    for change in all {
        if sink.send(change).await.is_err() {
            return;
        }
    }
    loop {
        tokio::select! {
            change = news.recv() => {
                let Some(change) = change else { return };
                if sink.send(change).await.is_err() {
                    return;
                }
            }
            () = sink.closed() => return,
        }
    }
}

/// A channel for [`forward`].
pub(super) fn channel() -> (mpsc::Sender<Change>, mpsc::Receiver<Change>) {
    mpsc::channel(CHANNEL)
}

/// What is new between two values of a key.
fn differences(old: Option<&Slot>, new: Option<&Slot>) -> Vec<Change> {
    let shown = |slot: Option<&Slot>| slot.and_then(record);
    let (before, after) = (shown(old), shown(new));
    let mut changes = Vec::new();
    match (before, after) {
        (before, Some(after)) => {
            // The name was given again within one step, in other capitals.
            if let Some(other) = before.as_ref().filter(|before| before.task() != after.task()) {
                changes.push(Change::Gone(other.task().clone()));
            }
            if before.as_ref() != Some(&after) {
                changes.push(Change::Task(Box::new(after)));
            }
        }
        (Some(before), None) => changes.push(Change::Gone(before.task().clone())),
        (None, None) => {}
    }
    if let Some(new) = new
        && let Some(live) = &new.live
    {
        let asked = |request: &Request| old.is_none_or(|old| !old.requests.contains(request));
        let requested = |request: &Request| Change::Requested { task: live.task().clone(), request: *request };
        changes.extend(new.requests.iter().filter(|request| asked(request)).map(requested));
    }
    changes
}

/// A sentence about a server that is away.
fn since_when(since: Timestamp, why: &str) -> String {
    format!("the NATS server has been away since {since:.0}: {why}")
}
