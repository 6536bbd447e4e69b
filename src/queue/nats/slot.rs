//! What a task's key holds: the task that lives there, those that were thrown away under its name, and what is asked of it.
//!
//! Owns the words in `podium-tasks`. Its one surprise: the trash lies in the same value, so that throwing away and bringing
//! back are one compare-and-set each and cannot be cut short.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::moved::Moved;
use crate::{
    model::{Ending, Item, Outcome, Removed, Request, TaskRecord, TaskRef, TaskSpec},
    queue::{QueueError, entry::Entry, file::task_file},
};

/// The shape that is written; all before it are read. Since 2 a claim holds its task for a lease's length without a key of its
/// own, and a short result lies with its task: who knows only 1 would run such a task twice.
const SCHEMA: u32 = 2;
const SCHEMAS: std::ops::RangeInclusive<u32> = 1..=SCHEMA;

/// The largest value we write, well below a server's usual limit of 1 MiB for a message.
const LIMIT: usize = 896 * 1024;

/// A key's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Slot {
    schema: u32,
    /// Names the write, so that a writer who was not answered finds out whether it was taken.
    pub(super) write: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) live: Option<Live>,
    /// Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) trash: Vec<Trashed>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) requests: BTreeSet<Request>,
}

/// A task that is there. The texts in `entry` are cut as for the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Live {
    pub(super) entry: Entry,
    /// SHA-256 of the task file, lower-case hex. It names the whole in `podium-specs`, where `entry` has it cut.
    pub(super) spec: String,
    /// Where the whole result is, in `podium-results`; `None` = there is none, or `entry` has the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
    /// Who runs, or ran, each attempt, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) holders: Vec<Holder>,
    /// It came with a stage's whole queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) moved: Option<Moved>,
}

/// Who runs, or ran, an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) n: u32,
    /// The last part of the lease's key.
    pub(super) nonce: String,
    pub(super) host: String,
    pub(super) pid: u32,
}

/// A task that was thrown away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trashed {
    pub(super) at: Timestamp,
    pub(super) live: Live,
}

/// Why a value is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// It cannot be read.
    #[error("{0} is no task of podium's: {1}")]
    Unreadable(String, String),
    /// A later podium wrote it.
    #[error("{0} was written by a newer podium (schema {1}, this one reads up to {SCHEMA})")]
    Newer(String, u32),
    /// It speaks of another task.
    #[error("{0} speaks of {1}")]
    Misplaced(String, TaskRef),
}

impl Slot {
    /// A key that nothing lies under yet.
    pub(super) fn empty() -> Self {
        Self { schema: SCHEMA, write: String::new(), live: None, trash: Vec::new(), requests: BTreeSet::new() }
    }

    /// Reads what lies under a key.
    pub(super) fn read(key: &str, bytes: &[u8]) -> Result<Self, Damage> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let slot = match serde_json::from_slice::<Self>(bytes) {
            Ok(slot) if SCHEMAS.contains(&slot.schema) => Self { schema: SCHEMA, ..slot },
            // A newer podium's words may be others; that it is newer can be read all the same.
            other => match (serde_json::from_slice(bytes), other) {
                (Ok(Version { schema }), _) if !SCHEMAS.contains(&schema) => {
                    return Err(Damage::Newer(key.to_owned(), schema));
                }
                (Err(error), _) | (_, Err(error)) => {
                    return Err(Damage::Unreadable(key.to_owned(), error.to_string()));
                }
                (Ok(_), Ok(slot)) => slot,
            },
        };
        let tasks = slot.live.iter().chain(slot.trash.iter().map(|trashed| &trashed.live)).map(Live::task);
        match tasks.into_iter().find(|task| super::names::task(task) != key) {
            Some(task) => Err(Damage::Misplaced(key.to_owned(), task.clone())),
            None => Ok(slot),
        }
    }

    /// The value to write; `None` where it would be too large.
    pub(super) fn bytes(&self) -> Result<Option<Vec<u8>>, serde_json::Error> {
        Ok(Some(serde_json::to_vec(self)?).filter(|bytes| bytes.len() <= LIMIT))
    }

    /// Whether nothing is left to say.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_none() && self.trash.is_empty()
    }

    /// The task of this very name, in its own capitals.
    pub(super) fn of(&self, task: &TaskRef) -> Option<&Live> {
        self.live.as_ref().filter(|live| live.task() == task)
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, task: &TaskRef) -> Option<&mut Live> {
        self.live.as_mut().filter(|live| live.task() == task)
    }

    /// What was thrown away.
    pub(super) fn removed(&self) -> impl Iterator<Item = Removed> {
        self.trash.iter().map(|trashed| Removed {
            item: Item::Task(trashed.live.task().clone()),
            title: trashed.live.entry.record().spec.title,
            at: trashed.at,
        })
    }
}

impl Live {
    /// A task that has just been accepted; `sha256` is its file's.
    pub(super) fn new(spec: TaskSpec, sha256: String, now: Timestamp) -> Self {
        Self { entry: Entry::new(short(spec, now), now), spec: sha256, result: None, holders: Vec::new(), moved: None }
    }

    pub(super) fn task(&self) -> &TaskRef {
        &self.entry.spec.task
    }

    /// The task file, where nothing of it was cut: then it lies here and nowhere else.
    pub(super) fn file(&self) -> Option<Vec<u8>> {
        task_file(&self.entry.spec).ok().filter(|bytes| hash(bytes) == self.spec)
    }

    /// Puts another task file in place.
    pub(super) fn respecify(&mut self, spec: TaskSpec, sha256: String) {
        let seen_at = self.entry.seen_at;
        (self.entry.spec, self.spec) = (short(spec, seen_at), sha256);
    }

    /// Who runs the newest attempt, as far as the task knows: its end is not written.
    pub(super) fn runner(&self) -> Option<&Holder> {
        let open = self.entry.attempts.last().filter(|attempt| attempt.record.ending.is_none())?;
        self.holders.last().filter(|holder| holder.n == open.record.n && self.entry.outcome.is_none())
    }

    /// The nonce of an attempt.
    pub(super) fn nonce_of(&self, n: u32) -> Option<&str> {
        self.holders.iter().find(|holder| holder.n == n).map(|holder| holder.nonce.as_str())
    }

    /// Whether the newest attempt was taken for lost.
    pub(super) fn is_lost(&self) -> bool {
        let ending = self.entry.attempts.last().and_then(|attempt| attempt.record.ending.as_ref());
        matches!(ending, Some(Ending::Lost { .. }))
    }

    /// Says whether the newest attempt's lease is held.
    pub(super) fn held(&mut self, held: bool) {
        if let Some(attempt) = self.entry.attempts.last_mut() {
            attempt.held = held;
        }
    }

    /// Whether this very attempt is the task's newest and counts.
    pub(super) fn is_newest(&self, n: u32, nonce: &str) -> bool {
        self.holders.last().is_some_and(|holder| holder.n == n && holder.nonce == nonce)
            && n > self.entry.settled
            && self.entry.attempts.last().is_some_and(|attempt| attempt.record.n == n)
    }

    /// The whole result, where it must go to `key` because what stays here is cut.
    pub(super) fn take_outcome(&mut self, key: &str) -> Option<Outcome> {
        let whole = self.entry.outcome.as_ref()?;
        let short = whole.clone().clipped(TaskRecord::TEXT_LIMIT);
        if short == *whole {
            return None;
        }
        self.result = Some(key.to_owned());
        self.entry.outcome.replace(short)
    }

    /// Whether the newest attempt ended with this very result; a long one lies under `key`.
    pub(super) fn ended_with(&self, outcome: &Outcome, key: &str) -> bool {
        let Some(there) = &self.entry.outcome else { return false };
        match &self.result {
            Some(result) => result == key,
            None => (&there.ending, there.completed_at) == (&outcome.ending, outcome.completed_at),
        }
    }
}

/// The bytes of a task file, their hash, and whether a task's own key has room for less than the whole.
pub(super) fn file(spec: &TaskSpec) -> Result<(Vec<u8>, String, bool), QueueError> {
    let bytes = task_file(spec)?;
    let sha256 = hash(&bytes);
    Ok((bytes, sha256, short(spec.clone(), Timestamp::UNIX_EPOCH) != *spec))
}

fn hash(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    super::files::hex(&Sha256::digest(bytes))
}

/// A task as the picture has it.
fn short(spec: TaskSpec, seen_at: Timestamp) -> TaskSpec {
    TaskRecord::new(spec, seen_at).spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        let spec = TaskSpec::new("marie/a.b".parse().unwrap(), "words ".repeat(1_000));
        let live = Live::new(spec, "0f".repeat(32), Timestamp::UNIX_EPOCH);
        Slot { live: Some(live), ..Slot::empty() }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_not_ours_is_refused() {
        let slot = slot();
        let bytes = slot.bytes().unwrap().unwrap();
        assert!(bytes.len() < 4_000, "texts are cut: {}", bytes.len());
        assert_eq!(Slot::read("marie.a=2Eb", &bytes), Ok(slot.clone()));
        let misplaced = Slot::read("anga.a=2Eb", &bytes);
        assert!(matches!(misplaced, Err(Damage::Misplaced(..))), "{misplaced:?}");
        for unreadable in
            [&b"\xff\x00"[..], b"", b"[]", b"{}", br#"{"schema":1}"#, br#"{"schema":1,"write":"x","live":7}"#]
        {
            let read = Slot::read("marie.a=2Eb", unreadable);
            assert!(matches!(read, Err(Damage::Unreadable(..))), "{read:?}");
        }
        let newer = Slot::read("marie.a=2Eb", br#"{"schema":3,"live":"other"}"#);
        assert_eq!(newer, Err(Damage::Newer("marie.a=2Eb".into(), 3)));
        let older = String::from_utf8(bytes).unwrap().replace(r#""schema":2"#, r#""schema":1"#);
        assert_eq!(Slot::read("marie.a=2Eb", older.as_bytes()), Ok(slot));
    }

    #[test]
    fn a_task_file_lies_with_its_task_unless_it_was_cut_there() {
        let of = |words: String| {
            let spec = TaskSpec::new("marie/a".parse().unwrap(), words);
            let (bytes, sha256, is_cut) = file(&spec).unwrap();
            let slot = Slot { live: Some(Live::new(spec, sha256, Timestamp::UNIX_EPOCH)), ..Slot::empty() };
            let read = Slot::read("marie.a", &slot.bytes().unwrap().unwrap()).unwrap();
            (is_cut, read.live.unwrap().file().map(|there| there == bytes))
        };
        assert_eq!(of("Do it.".into()), (false, Some(true)));
        assert_eq!(of("words ".repeat(1_000)), (true, None));
    }

    #[test]
    fn a_value_that_no_server_would_take_is_not_written() {
        let mut slot = slot();
        let live = slot.live.clone().unwrap();
        slot.trash = vec![Trashed { at: Timestamp::UNIX_EPOCH, live }; 400];
        assert_eq!(slot.bytes().unwrap(), None);
    }
}
