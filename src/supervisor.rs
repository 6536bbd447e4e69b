//! Worker processes as the room sees them: how one is started, how a former room's is found, how its end is seen.
//!
//! Owns the slot locks and worker records in `.podium/workers/`. Must not know tasks or what a worker does. Its one
//! surprise: a worker outlives its room on purpose; the slot's lock, held by the worker itself, is what tells a new room
//! that the slot is served.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::FlockOperation,
    process::{Pid, PidfdFlags, Signal},
};
use serde::{Deserialize, Serialize};
use tokio::{
    process::{Child, Command},
    sync::oneshot,
};

use crate::model::{EngineKind, SlotId};

/// What is known of the worker in a slot; written by the worker while it holds the slot's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its process id.
    pub pid: u32,
    /// SHA-256 of its gateway token in lower-case hex, once it has one.
    pub token_hash: Option<String>,
    /// The process ids that its own is one of: those of its container.
    #[serde(default)]
    pub pids: Option<String>,
}

/// What tells the process ids of one container from those of another.
fn own_pids() -> Option<String> {
    Some(fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned())
}

/// The right to serve a slot, for as long as this value lives.
#[derive(Debug)]
pub struct SlotLock {
    _file: File,
    record: PathBuf,
}

/// Variables that a worker inherits from the room; everything else stays behind, keys above all.
const INHERITED: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "PODIUM_LOG",
    "CLAUDE_COMMAND",
    "TASK_TIMEOUT",
    "MAX_RETRIES",
];

/// What a deputy inherits besides.
const DEPUTY: [&str; 2] = ["PODIUM_QUEUE", "PODIUM_QUEUE_CREDENTIALS"];

fn folder(stage: &Path) -> PathBuf {
    stage.join(".podium").join("workers")
}

fn lock_file(stage: &Path, slot: &SlotId) -> io::Result<File> {
    let folder = folder(stage);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(format!("{slot}.lock"));
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

impl SlotLock {
    /// Takes a slot for this process; `None` when another worker serves it.
    pub fn take(stage: &Path, slot: &SlotId) -> io::Result<Option<Self>> {
        let file = lock_file(stage, slot)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let lock = Self { _file: file, record: folder(stage).join(format!("{slot}.json")) };
                lock.note(None)?;
                Ok(Some(lock))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes this process and its token's hash for the next room.
    pub fn note(&self, token_hash: Option<String>) -> io::Result<()> {
        let record = Record { pid: std::process::id(), token_hash, pids: own_pids() };
        let fresh = self.record.with_extension("tmp");
        fs::write(&fresh, serde_json::to_vec(&record)?)?;
        fs::rename(fresh, &self.record)
    }
}

/// The worker that serves a slot right now, if any.
pub fn find(stage: &Path, slot: &SlotId) -> io::Result<Option<Record>> {
    holder(&lock_file(stage, slot)?, &folder(stage).join(format!("{slot}.json")))
}

/// Who holds this lock, as the record beside it says. The process is 0 where it is in another container: its number may be
/// somebody else's here.
fn holder(lock: &File, record: &Path) -> io::Result<Option<Record>> {
    match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let record = serde_json::from_slice(&fs::read(record)?).ok();
            Ok(record.map(|record: Record| {
                let is_here = record.pids.is_none() || record.pids == own_pids();
                Record { pid: if is_here { record.pid } else { 0 }, ..record }
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Every worker that holds a slot of this stage right now, also of agents that are no longer configured.
pub fn holders(stage: &Path) -> io::Result<BTreeSet<i32>> {
    let entries = match fs::read_dir(folder(stage)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut pids = BTreeSet::new();
    for path in entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "lock")) {
        if let Some(record) = holder(&OpenOptions::new().write(true).open(&path)?, &path.with_extension("json"))? {
            pids.extend(i32::try_from(record.pid).ok().filter(|pid| *pid > 0));
        }
    }
    Ok(pids)
}

/// The workers that are known to live, started by this room or adopted, and strangers among the guardian's children.
///
/// Everything below them is theirs to end. What hangs from the guardian, is none of them and not the core, is nobody's.
#[derive(Debug, Default)]
pub struct Workers(Mutex<BTreeSet<i32>>);

impl Workers {
    /// These live.
    pub fn known(&self, pids: impl IntoIterator<Item = i32>) {
        self.lock().extend(pids);
    }

    /// Its end was seen.
    pub fn ended(&self, pid: u32) {
        if let Ok(pid) = i32::try_from(pid) {
            self.lock().remove(&pid);
        }
    }

    /// Starts a worker; nobody sees its process before it is known as one.
    #[expect(clippy::significant_drop_tightening, reason = "held until the new process is known, on purpose")]
    pub fn start(&self, program: &Path, stage: &Path, slot: &SlotId, part: Part) -> io::Result<Child> {
        let mut known = self.lock();
        let child = start(program, stage, slot, part)?;
        known.extend(child.id().and_then(|pid| i32::try_from(pid).ok()));
        Ok(child)
    }

    /// All of them.
    pub fn all(&self) -> BTreeSet<i32> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a worker is told because it cannot find it out: it does not see the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its agent's engine.
    pub engine: EngineKind,
    /// The room is a rehearsal.
    pub rehearse: bool,
    /// It stands for a worker on another machine.
    pub deputy: bool,
}

/// Starts a worker process for a slot. Its own words go to `logs/worker-{slot}.log`.
fn start(program: &Path, stage: &Path, slot: &SlotId, part: Part) -> io::Result<Child> {
    let logs = stage.join("logs");
    fs::create_dir_all(&logs)?;
    let log = OpenOptions::new().create(true).append(true).open(logs.join(format!("worker-{slot}.log")))?;
    let mut command = Command::new(program);
    command
        .arg("worker")
        .arg(slot.agent.as_str())
        .arg("--slot")
        .arg(slot.index.to_string())
        .args(part.rehearse.then_some("--rehearse"))
        .arg("--stage")
        .arg(stage)
        // What its engine is, the other machine knows.
        .args(if part.deputy { vec!["--deputy"] } else { vec!["--engine", part.engine.word()] })
        .env_clear()
        .current_dir(stage)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // Only who speaks to the server needs to know how.
    let named = if part.deputy { &DEPUTY[..] } else { &[] };
    for name in INHERITED.iter().chain(named) {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.spawn()
}

/// How often the lock of a worker in another container is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until nobody serves a slot: the end of a worker whose process cannot be seen from here.
pub async fn free(stage: &Path, slot: &SlotId) -> io::Result<()> {
    while find(stage, slot)?.is_some() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until a process that is not our child has ended.
pub async fn gone(pid: u32) -> io::Result<()> {
    watch(pid)?.await
}

/// Looks at a process now; what comes back waits until that very process has ended. One thread waits per process: the
/// guardian, and as many as there are slots after a core was replaced.
pub fn watch(pid: u32) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
    let (ended, seen) = oneshot::channel();
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let descriptor = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
    match (pid, descriptor) {
        (Some(pid), Some(Ok(descriptor))) => {
            let name = format!("pid-{}", pid.as_raw_nonzero());
            std::thread::Builder::new().name(name).stack_size(64 * 1024).spawn(move || {
                let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
                let waited = loop {
                    match rustix::event::poll(&mut watched, None) {
                        Err(rustix::io::Errno::INTR) => {}
                        Err(error) => break Err(io::Error::from(error)),
                        Ok(_) => break Ok(()),
                    }
                };
                // The room may have left meanwhile.
                let _room_gone = ended.send(waited);
            })?;
        }
        // Nobody sends: that counts as gone.
        (None, _) | (_, None | Some(Err(rustix::io::Errno::SRCH))) => drop(ended),
        (_, Some(Err(error))) => return Err(error.into()),
    }
    Ok(async move { seen.await.unwrap_or(Ok(())) })
}

/// Ends a worker that does not answer on its socket: asks with TERM, or insists with KILL.
pub fn signal(pid: u32, kill: bool) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let signal = if kill { Signal::KILL } else { Signal::TERM };
        // It may have ended meanwhile, which is what was wanted.
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_that_is_not_ours_is_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().unwrap();
        let (seen, ended) = tokio::join!(gone(pid), async {
            child.start_kill().unwrap();
            child.wait().await
        });
        seen.unwrap();
        ended.unwrap();
        gone(pid).await.expect("a process that is gone already counts as gone");
    }

    #[test]
    fn a_slot_is_served_by_one_worker_and_found_by_its_lock() {
        let stage = tempfile::tempdir().unwrap();
        let slot = SlotId { agent: "marie".parse().unwrap(), index: 0 };
        assert_eq!(find(stage.path(), &slot).unwrap(), None);
        let lock = SlotLock::take(stage.path(), &slot).unwrap().expect("nobody has it");
        assert!(SlotLock::take(stage.path(), &slot).unwrap().is_none());
        lock.note(Some("ab".into())).unwrap();
        let found = find(stage.path(), &slot).unwrap().expect("the lock is held");
        assert_eq!(found, Record { pid: std::process::id(), token_hash: Some("ab".into()), pids: own_pids() });
        // Its number counts where it was given, and older records do not say where that was.
        let path = folder(stage.path()).join("marie-0.json");
        fs::write(&path, r#"{"pid":1,"token_hash":null,"pids":"pid:[1]"}"#).unwrap();
        assert_eq!(find(stage.path(), &slot).unwrap().map(|record| record.pid), Some(0));
        assert_eq!(holders(stage.path()).unwrap(), BTreeSet::new());
        fs::write(&path, r#"{"pid":1,"token_hash":null}"#).unwrap();
        assert_eq!(find(stage.path(), &slot).unwrap().map(|record| record.pid), Some(1));
        drop(lock);
        assert_eq!(find(stage.path(), &slot).unwrap(), None);
    }
}
