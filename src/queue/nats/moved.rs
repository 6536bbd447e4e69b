//! A stage's whole queue that lies here for a while: `podium migrate`.
//!
//! Owns the key `move` in `podium-specs`, which says whose queue it is, and what is kept of each task: where it stands, as of any
//! task, and its parcel, from which its folders are made again. Its one surprise: nobody may change such a task here. It belongs
//! to a stage that is away, and comes home as it went.

use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    NatsQueue,
    bucket::Put,
    files,
    keys::{Loaded, nonce},
    names,
    slot::{Live, Trashed},
};
use crate::{
    model::{Outcome, Standing, TaskRecord, TaskRef, TaskSpec},
    queue::{QueueError, entry::Entry},
};

/// The key. A task file's has three parts.
const KEY: &str = "move";

/// Whose queue lies here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Names it; random.
    pub id: String,
    /// The machine it came from.
    pub host: String,
    /// The stage there.
    pub stage: String,
    /// When it came.
    pub at: Timestamp,
    /// All of it is here.
    pub whole: bool,
    /// It has been brought home; where and when.
    #[serde(default)]
    pub home: Option<Home>,
}

/// Where a queue was brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The machine.
    pub host: String,
    /// The stage there.
    pub stage: String,
    /// When.
    pub at: Timestamp,
}

/// That a task came with a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    by: String,
    /// Its parcel's name in the object store, and what it must hash to.
    parcel: String,
    sha256: String,
}

/// A task that lies here.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Which.
    pub task: TaskRef,
    /// The move it came with; `None` = a room handed it over.
    pub by: Option<String>,
    /// When its queue first saw it.
    pub seen_at: Timestamp,
    /// Where it stands.
    pub standing: Standing,
}

/// A task as it comes.
#[derive(Debug)]
pub struct Coming<'a> {
    /// Its file, whole.
    pub spec: TaskSpec,
    /// Where it stands.
    pub record: TaskRecord,
    /// Its result, whole.
    pub outcome: Option<Outcome>,
    /// Attempts up to this number are history.
    pub settled: u32,
    /// All that its folders hold.
    pub parcel: &'a Path,
}

impl NatsQueue {
    /// Whose queue lies here, or lay here last, and the revision to write over.
    pub async fn the_move(&self) -> Result<(Option<Move>, u64), QueueError> {
        let Some(found) = self.0.buckets.specs.get(KEY).await? else { return Ok((None, 0)) };
        let read = found.value.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        let read =
            read.map_err(|error| QueueError::Unsafe(format!("{KEY} in {} is damaged: {error}", names::SPECS)))?;
        Ok((read, found.revision))
    }

    /// Says whose queue lies here, over what was read; false where somebody wrote before us.
    pub async fn note_move(&self, it: &Move, expected: u64) -> Result<bool, QueueError> {
        let bytes = serde_json::to_vec(it).map_err(|error| QueueError::Unsafe(error.to_string()))?;
        let mut patience = self.patience();
        loop {
            match self.0.buckets.specs.put(KEY, Bytes::from(bytes.clone()), expected).await {
                Ok(Put::Stored(_)) => return Ok(true),
                // Perhaps by ourselves, unanswered.
                Ok(Put::Moved) => return Ok(self.the_move().await?.0.as_ref() == Some(it)),
                Err(error) if patience.again(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the note away that a queue lies here.
    pub async fn forget_move(&self, expected: u64) -> Result<(), QueueError> {
        self.0.buckets.specs.delete(KEY, expected).await.map(drop)
    }

    /// Every task that lies here, the oldest first.
    pub async fn kept(&self) -> Result<Vec<Kept>, QueueError> {
        let mirror = self.mirror();
        mirror.catch_up().await?;
        mirror.alarm()?;
        let mut all: Vec<Kept> = mirror.slots().into_iter().filter_map(|slot| slot.live.as_ref().map(kept)).collect();
        all.sort_by(|a, b| (a.seen_at, &a.task).cmp(&(b.seen_at, &b.task)));
        Ok(all)
    }

    /// Keeps a task that came with a move: its parcel, file and result first, so that a task which is there is whole.
    pub async fn keep_moved(&self, by: &str, coming: Coming<'_>) -> Result<(), QueueError> {
        let Coming { spec, record, outcome, settled, parcel } = coming;
        let task = spec.task.clone();
        let store = self.files(&task.agent).await?;
        let name = format!("{}/moved-{by}", task.id);
        let mut patience = self.patience();
        loop {
            let mut loaded = self.load_plain(&task).await?;
            if let Some(live) = &loaded.slot.live {
                return if live.moved.as_ref().is_some_and(|moved| moved.by == by) {
                    Ok(())
                } else {
                    Err(there(&task))
                };
            }
            // What was left of an earlier try may be older.
            drop(store.delete(&name).await);
            let sha256 = loop {
                match files::put_anew(&store, &name, parcel).await {
                    Ok(sha256) => break sha256,
                    Err(error) if patience.again(&error).await => {}
                    Err(error) => return Err(error),
                }
            };
            let file = self.put_spec(&spec, &mut patience).await?;
            let mut live = Live::new(spec.clone(), file, record.seen_at);
            live.entry = Entry::of_record(live.entry.spec, &record, settled);
            live.entry.outcome.clone_from(&outcome);
            if live.entry.outcome.is_some() {
                let key = names::attempt(&task, record.last_attempt(), &nonce()?);
                self.publish(&mut live, &key, &mut patience).await?;
            }
            live.moved = Some(Moved { by: by.to_owned(), parcel: name.clone(), sha256 });
            loaded.slot.live = Some(live);
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                return Ok(());
            }
        }
    }

    /// Brings a task's parcel down to `to`.
    pub async fn fetch_parcel(&self, task: &TaskRef, to: &Path) -> Result<(), QueueError> {
        let loaded = self.load_plain(task).await?;
        let moved = loaded.slot.of(task).and_then(|live| live.moved.as_ref());
        let moved = moved.ok_or_else(|| QueueError::Unknown(task.clone()))?;
        let store = self.files(&task.agent).await?;
        let mut patience = self.patience();
        loop {
            match files::get(&store, &moved.parcel, to).await {
                Ok(Some(hash)) if hash == moved.sha256 => return Ok(()),
                Ok(Some(_)) => return Err(QueueError::Unsafe(format!("the parcel of {task} is not what was sent"))),
                Ok(None) => {
                    let gone = format!("the parcel of {task} is gone from the NATS server; somebody took it away");
                    return Err(QueueError::Unsafe(gone));
                }
                Err(error) if patience.again(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts a task that went home into the trash here, with all that it came with.
    pub async fn part_with(&self, task: &TaskRef, by: &str) -> Result<(), QueueError> {
        self.change_moved(task, by, |loaded, at| {
            loaded.slot.trash.extend(loaded.slot.live.take().map(|live| Trashed { at, live }));
        })
        .await
        .map(drop)
    }

    /// Forgets a task of a move that was given up, with all that came.
    pub async fn forget_moved(&self, task: &TaskRef, by: &str) -> Result<(), QueueError> {
        let gone = self.change_moved(task, by, |loaded, _| loaded.slot.live = None).await?;
        let Some(Moved { parcel, .. }) = gone else { return Ok(()) };
        if let Ok(store) = self.files(&task.agent).await {
            // What stays costs room and nothing else.
            drop(store.delete(&parcel).await);
        }
        let left = self.load_plain(task).await?.slot;
        self.forget(task, &left, true).await;
        Ok(())
    }

    async fn change_moved(
        &self,
        task: &TaskRef,
        by: &str,
        change: impl Fn(&mut Loaded, Timestamp),
    ) -> Result<Option<Moved>, QueueError> {
        loop {
            let mut loaded = self.load_plain(task).await?;
            let moved = loaded.slot.of(task).and_then(|live| live.moved.clone()).filter(|moved| moved.by == by);
            let Some(moved) = moved else { return Ok(None) };
            loaded.is_moved = false;
            change(&mut loaded, self.0.settings.clock.now());
            if let Put::Stored(_) = self.store(loaded, &mut self.patience()).await? {
                return Ok(Some(moved));
            }
        }
    }
}

fn kept(live: &Live) -> Kept {
    Kept {
        task: live.task().clone(),
        by: live.moved.as_ref().map(|moved| moved.by.clone()),
        seen_at: live.entry.seen_at,
        standing: live.entry.standing(),
    }
}

/// Why a task that came with a move is not changed here.
pub(super) fn there(task: &TaskRef) -> QueueError {
    QueueError::State { task: task.clone(), state: "on the NATS server already".into() }
}
