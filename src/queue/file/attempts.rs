//! Attempts on disk: a numbered folder per attempt, and the lock that says whether somebody works on it.
//!
//! Owns `start.json`, `spawn.json`, `exit.json`, the lease and the mark a person's retry leaves. Its one surprise:
//! everything is put together in `.attempts/` itself and renamed into the attempt's folder, so that whoever watches
//! that one folder hears of every step, and the temporary's name says of which task.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    afar,
    disk::{self, Draft, failed},
    layout::Layout,
    owner,
};
use crate::{
    model::{AttemptRecord, AttemptRef, Ending, Outcome, Spend, TaskRef},
    queue::{Lease, QueueError, Spawned},
};

/// `start.json`: what was known when the attempt was counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) n: u32,
    pub(super) started_at: Timestamp,
    /// The worker process.
    pub(super) pid: u32,
    /// `/proc/sys/kernel/random/boot_id`, empty where there is none.
    pub(super) boot_id: String,
    /// SHA-256 of the task file, lower-case hex; the file itself lies beside as `task.json`.
    pub(super) task_sha256: String,
    /// The name the task file arrived under, where it is not its id's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// The engine's session that this attempt was to take up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resumed: Option<String>,
}

/// `exit.json`: how the attempt ended. With `outcome` it ended its task too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Exit {
    pub(super) ending: Ending,
    pub(super) spend: Spend,
    pub(super) ended_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_before: Option<Timestamp>,
    /// It was lost, and a person has to say what next.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) asks: bool,
    /// The whole result to be published, earlier attempts added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
}

/// `budget.json`: a person's retry. Attempts up to `settled` are history.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Budget {
    settled: u32,
}

/// One attempt as it lies on disk.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) n: u32,
    pub(super) start: Option<Start>,
    pub(super) spawned: Option<Spawned>,
    pub(super) exit: Option<Exit>,
    /// Somebody holds its lease, or carries it elsewhere; only asked where there is no exit.
    pub(super) held: bool,
}

/// All attempts at one task, oldest first, and how many of them a retry has made history.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    pub(super) each: Vec<Attempt>,
    pub(super) settled: u32,
}

impl Attempts {
    /// The newest attempt that is not history.
    pub(super) fn current(&self) -> Option<&Attempt> {
        self.each.last().filter(|attempt| attempt.n > self.settled)
    }

    /// The highest number used.
    pub(super) fn last(&self) -> u32 {
        self.each.last().map_or(0, |attempt| attempt.n)
    }

    /// How many ended attempts count against the task's budget.
    pub(super) fn counted(&self) -> u32 {
        let counts = |a: &&Attempt| a.n > self.settled && a.exit.as_ref().is_none_or(|exit| exit.ending.counts());
        u32::try_from(self.each.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }

    /// Whether an attempt that counts has tried to take up this session.
    pub(super) fn has_resumed(&self, session: &str) -> bool {
        let tried = |a: &Attempt| a.start.as_ref().and_then(|start| start.resumed.as_deref()) == Some(session);
        self.each.iter().any(|a| a.n > self.settled && tried(a))
    }

    /// What the attempts before `n` used.
    pub(super) fn spent_before(&self, n: u32) -> Spend {
        let mut sum = Spend::default();
        for exit in self.each.iter().filter(|a| a.n < n).filter_map(|a| a.exit.as_ref()) {
            sum += exit.spend;
        }
        sum
    }

    /// When the first attempt started.
    pub(super) fn first_start(&self) -> Option<Timestamp> {
        self.each.iter().find_map(|a| a.start.as_ref()).map(|start| start.started_at)
    }

    /// The same for the picture.
    pub(super) fn records(&self, task: &TaskRef) -> Vec<AttemptRecord> {
        let record = |a: &Attempt| AttemptRecord {
            n: a.n,
            started_at: a.start.as_ref().map_or(Timestamp::UNIX_EPOCH, |start| start.started_at),
            ended_at: a.exit.as_ref().map(|exit| exit.ended_at),
            ending: a.exit.as_ref().map(|exit| exit.ending.clone()),
            session_id: a.session(),
            spend: a.exit.as_ref().map(|exit| exit.spend).unwrap_or_default(),
            log: task.attempt(a.n).log(),
        };
        self.each.iter().map(record).collect()
    }
}

impl Attempt {
    /// The engine's session, as far as it was noted.
    pub(super) fn session(&self) -> Option<String> {
        let ended = self.exit.as_ref().and_then(|exit| exit.outcome.as_ref()?.session_id.clone());
        ended.or_else(|| self.spawned.as_ref()?.session_id.clone())
    }
}

/// A held lease of the file queue.
#[derive(Debug)]
pub struct FileLease {
    pub(super) attempt: AttemptRef,
    pub(super) folder: PathBuf,
    pub(super) log: String,
    /// Closing it frees the lock.
    pub(super) _lock: File,
}

impl Lease for FileLease {
    fn attempt(&self) -> &AttemptRef {
        &self.attempt
    }
    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
    fn log(&self) -> String {
        self.log.clone()
    }
}

/// Reads one of our JSON files; `None` where it is absent.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, QueueError> {
    let Some(bytes) = disk::absent_as_none(fs::read(path)).map_err(failed("read", path))? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        tracing::warn!(path = %path.display(), %error, "damaged");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let attempt = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let sentence = format!("{name} of attempt {attempt} is damaged ({} bytes).", bytes.len());
        failed("read", path)(io::Error::new(io::ErrorKind::InvalidData, sentence))
    })
}

/// The sentence about a damaged file of ours, and the file, where that is what went wrong.
pub(super) fn damage(error: &QueueError) -> Option<(&Path, String)> {
    match error {
        QueueError::Io { path, source, .. } if source.kind() == io::ErrorKind::InvalidData => {
            Some((path, source.to_string()))
        }
        QueueError::Io { .. }
        | QueueError::Unknown(_)
        | QueueError::NoFile(_)
        | QueueError::UnknownAgent(_)
        | QueueError::Id(_)
        | QueueError::State { .. }
        | QueueError::TooLarge { .. }
        | QueueError::NoSpace(_)
        | QueueError::Unsafe(_)
        | QueueError::Unreachable(_) => None,
    }
}

/// Writes one of our JSON files: whole, synced, and never over another. Says whether it was first.
pub(super) fn write<T: Serialize>(layout: &Layout, task: &TaskRef, path: &Path, value: &T) -> Result<bool, QueueError> {
    publish(draft(layout, task, value)?, path)
}

/// Begins to write one of our JSON files.
fn draft<T: Serialize>(layout: &Layout, task: &TaskRef, value: &T) -> Result<Draft, QueueError> {
    let name = owner::temporary(&format!(".exit-{}", task.id));
    let temporary = layout.all_attempts(&task.agent).join(name);
    let bytes = serde_json::to_vec(value).map_err(|error| failed("write", &temporary)(error.into()))?;
    Draft::begin(temporary, bytes, true)
}

/// Gives a file of ours its name, durably; says whether it was first.
fn publish(draft: Draft, path: &Path) -> Result<bool, QueueError> {
    let first = draft.publish(path)?;
    // Also where it was there: whoever wrote it may have failed to make it last.
    if let Some(folder) = path.parent() {
        disk::sync_folder(folder)?;
    }
    Ok(first)
}

/// The task that a name in `.attempts/` belongs to: a temporary's, or a folder's.
pub(super) fn task_of_name(name: &str) -> Option<&str> {
    let Some(rest) = name.strip_prefix(".exit-").or_else(|| name.strip_prefix(".new-")) else {
        return (!name.starts_with('.')).then_some(name);
    };
    let (rest, _) = rest.rsplit_once('.')?;
    rest.rsplit_once('.').map(|(id, _)| id)
}

/// The numbers of a task's attempts, in order.
pub(super) fn numbers(layout: &Layout, task: &TaskRef) -> Result<Vec<u32>, QueueError> {
    let mut numbers: Vec<u32> =
        disk::text_names(&layout.attempts(task))?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Everything known of a task's attempts.
pub(super) fn load(layout: &Layout, task: &TaskRef) -> Result<Attempts, QueueError> {
    let numbers = numbers(layout, task)?;
    if numbers.is_empty() {
        return Ok(Attempts::default());
    }
    let settled = read::<Budget>(&layout.attempts(task).join("budget.json"))?.unwrap_or_default().settled;
    let mut each = Vec::with_capacity(numbers.len());
    for n in numbers {
        let folder = layout.attempt(&task.attempt(n));
        // The lease first: it is freed after exit.json is there, so "free and no exit" is never seen of a living one.
        let held = disk::is_held(&folder.join("lease"))?;
        let exit = read::<Exit>(&folder.join("exit.json"))?;
        let held = exit.is_none() && (held || disk::is_there(&folder.join(afar::NOTE)));
        each.push(Attempt {
            n,
            start: read(&folder.join("start.json"))?,
            spawned: read(&folder.join("spawn.json"))?,
            held,
            exit,
        });
    }
    Ok(Attempts { each, settled })
}

/// Marks all attempts up to `settled` as history, durably.
pub(super) fn settle(layout: &Layout, task: &TaskRef, settled: u32) -> Result<(), QueueError> {
    let folder = layout.attempts(task);
    draft(layout, task, &Budget { settled })?.replace(&folder.join("budget.json"))?;
    disk::sync_folder(&folder)
}

/// Counts a new attempt on disk and returns its lease. `task_file` is kept beside it, once `settle` has made it so that
/// it may be; what that writes goes to the disk together with what the attempt begins with.
pub(super) fn begin(
    layout: &Layout,
    task: &TaskRef,
    start: &Start,
    task_file: &Path,
    settle: impl FnOnce() -> Result<(), QueueError>,
) -> Result<FileLease, QueueError> {
    let attempt = task.attempt(start.n);
    let new = layout.all_attempts(&task.agent).join(owner::temporary(&format!(".new-{}", task.id)));
    let lock = put_together(&new, start, task_file, settle)
        .and_then(|lock| put_in_place(layout, &attempt, &new).map(|()| lock))
        .inspect_err(|_| {
            // Half an attempt counts for nothing, and a process that lives long must not leave it lying.
            if let Err(error) = disk::absent_as_none(fs::remove_dir_all(&new)) {
                tracing::warn!(path = %new.display(), %error, "could not remove half an attempt");
            }
        })?;
    let folder = layout.attempt(&attempt);
    let log = attempt.log();
    show_log(&folder.join("out.log"), &layout.stage.join(&log));
    Ok(FileLease { attempt, folder, log, _lock: lock })
}

/// Writes all that an attempt begins with into `new`.
fn put_together(
    new: &Path,
    start: &Start,
    task_file: &Path,
    settle: impl FnOnce() -> Result<(), QueueError>,
) -> Result<File, QueueError> {
    disk::make_folder(new, true)?;
    let lock = disk::new_lease(&new.join("lease"))?;
    drop(disk::write_unsynced(&new.join("out.log"), b"", true)?);
    drop(disk::write_unsynced(&new.join("err.log"), b"", true)?);
    let bytes = serde_json::to_vec(start).map_err(|error| failed("write", new)(error.into()))?;
    let mut start = Draft::begin(new.join("start.json"), bytes, true)?;
    settle()?;
    let copy = new.join("task.json");
    // A link costs nothing; a file of another user may not be linked, a copy always works.
    if fs::hard_link(task_file, &copy).is_err() {
        let bytes = fs::read(task_file).map_err(failed("read", task_file))?;
        disk::write_synced(&copy, &bytes, true)?;
    }
    start.sync()?;
    start.stays();
    disk::sync_folder(new)?;
    Ok(lock)
}

/// Gives an attempt its number, durably; takes it back where that cannot be made to last.
fn put_in_place(layout: &Layout, attempt: &AttemptRef, new: &Path) -> Result<(), QueueError> {
    let folder = layout.attempt(attempt);
    if !disk::rename_new(new, &folder).map_err(failed("publish", &folder))? {
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(failed("publish", &folder)(taken));
    }
    disk::sync_folder(&layout.attempts(&attempt.task)).inspect_err(|_| {
        // Where even this fails it is found lost.
        if let Err(error) = fs::rename(&folder, new) {
            tracing::warn!(%attempt, %error, "an attempt that never started stays counted");
        }
    })
}

/// Takes an attempt away that nobody has begun, durably; its number is free again.
pub(super) fn take_away(layout: &Layout, lease: &FileLease) -> Result<(), QueueError> {
    let task = &lease.attempt.task;
    let gone = layout.all_attempts(&task.agent).join(owner::temporary(&format!(".new-{}", task.id)));
    fs::rename(&lease.folder, &gone).map_err(failed("take back", &lease.folder))?;
    disk::sync_folder(&layout.attempts(task))?;
    disk::remove_quietly(&layout.stage.join(&lease.log));
    if let Err(error) = fs::remove_dir_all(&gone) {
        tracing::warn!(path = %gone.display(), %error, "could not remove an attempt that nobody began");
    }
    Ok(())
}

/// Makes the attempt's output visible under `logs/`. An attempt is not refused for the lack of it.
pub(in crate::queue) fn show_log(out: &Path, shown: &Path) {
    disk::remove_quietly(shown);
    let answer = fs::hard_link(out, shown).or_else(|_| std::os::unix::fs::symlink(out, shown));
    if let Err(error) = answer {
        tracing::warn!(path = %shown.display(), %error, "could not show the log");
    }
}

/// Notes the attempt's child.
pub(super) fn spawned(layout: &Layout, attempt: &AttemptRef, spawned: &Spawned) -> Result<(), QueueError> {
    let task = &attempt.task;
    let folder = layout.attempt(attempt);
    draft(layout, task, spawned)?.replace(&folder.join("spawn.json"))?;
    disk::sync_folder(&folder)
}

/// Records how an attempt ended; says whether it was the first to say so.
pub(super) fn end(layout: &Layout, attempt: &AttemptRef, exit: &Exit) -> Result<bool, QueueError> {
    EndDraft::begin(layout, attempt, exit)?.record()
}

/// An attempt's end that is on its way to the disk.
pub(super) struct EndDraft {
    draft: Draft,
    path: PathBuf,
}

impl EndDraft {
    /// Begins to write how an attempt ended.
    pub(super) fn begin(layout: &Layout, attempt: &AttemptRef, exit: &Exit) -> Result<Self, QueueError> {
        let path = layout.attempt(attempt).join("exit.json");
        Ok(Self { draft: draft(layout, &attempt.task, exit)?, path })
    }

    /// Makes it last; says whether it was the first to say so.
    pub(super) fn record(self) -> Result<bool, QueueError> {
        publish(self.draft, &self.path)
    }
}

/// Makes what the child wrote durable before the attempt is said to have ended. Nobody has these bytes in memory, so a
/// log that does not last is told of and does not hold the result up.
pub(super) fn sync_logs(folder: &Path) {
    // One that is empty is durable: it came with its folder.
    let sync = |file: File| if file.metadata()?.len() == 0 { Ok(()) } else { file.sync_data() };
    for name in ["out.log", "err.log"] {
        let path = folder.join(name);
        let synced = disk::absent_as_none(File::open(&path)).and_then(|file| file.map_or(Ok(()), sync));
        if let Err(error) = synced {
            tracing::error!(path = %path.display(), %error, "a log could not be made to last");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_task_also_with_dots_in_the_id() {
        let name = owner::temporary(".exit-a.b-1.x");
        assert_eq!(task_of_name(&name), Some("a.b-1.x"));
        assert_eq!(task_of_name(".new-t.12.0"), Some("t"));
        assert_eq!((task_of_name("t.1"), task_of_name(".canary")), (Some("t.1"), None));
    }
}
