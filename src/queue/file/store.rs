//! What all parts of the file queue share: settings, places, and what was read already.
//!
//! Every function here blocks; `file.rs` keeps them off the runtime's threads.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    panic::resume_unwind,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Settings,
    disk::{self, Opened, Stamp, failed},
    layout::Layout,
    results::{self, Reading},
    space::{self, Reserve, Shortage},
    spec,
    strict::Fault,
    watch::Hub,
};
use crate::{
    model::{AgentName, AttemptRef, Outcome, TaskRecord, TaskRef, TaskSpec, text, timing},
    queue::QueueError,
};

/// The file queue without its async coat.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) settings: Settings,
    pub(super) layout: Layout,
    /// An older program left an archive here.
    pub(super) has_archive: bool,
    /// Who is told of changes made here.
    pub(super) hub: Hub,
    specs: Cache<Arc<Judged>>,
    outcomes: Cache<Arc<Reading>>,
    /// Which file of an inbox holds which task, where the names differ or a listing has shown it.
    names: Mutex<HashMap<TaskRef, String>>,
    /// How many wait per agent, as last counted.
    pub(super) waiting: Mutex<HashMap<AgentName, Count>>,
    reserve: Reserve,
}

/// Results that are remembered; what ended a while ago is read again when somebody asks.
const RESULTS: usize = 256;

/// Threads that look ahead.
const THREADS: usize = 4;
/// Names that one of them takes at a time; fewer are not worth a thread.
const FEW: usize = 64;

type Cache<T> = Mutex<HashMap<std::path::PathBuf, (Stamp, T)>>;

/// A count of waiting files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) waiting: usize,
    /// How often it was relied on.
    pub(super) uses: usize,
    /// The inbox's time of change when it was counted.
    pub(super) mtime: i128,
}

/// What a file in an inbox is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judged {
    /// A task; texts clipped and cleaned for the picture.
    Task(Box<TaskSpec>),
    /// Not whole yet, and what is missing.
    MayGrow(String),
    /// Never a task, and why.
    Bad(String),
}

/// One look at a name in an inbox.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing there, or a name that is nobody's business.
    Nothing,
    /// A file and what it is.
    File(Stamp, Arc<Judged>),
    /// Something that stays where it is, and why.
    Left(String),
    /// Something that is set aside unread, and why.
    Unfit(String),
    /// Something that could not be read now, and why, for people and for us.
    Unread(String, std::io::Error),
}

/// Locks, whoever panicked before: all guarded values are caches and whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a name in an inbox is nobody's business: dotfiles, editors' leftovers, anything but `.json`.
pub(super) fn is_ignored(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || name == "rejected" || !name.ends_with(".json")
}

impl Store {
    /// Opens the queue and makes the folders that are missing.
    pub(super) fn open(settings: Settings) -> Result<Self, QueueError> {
        let store = Self::new(settings);
        for agent in &store.settings.agents {
            store.make_folders(agent)?;
        }
        Ok(store)
    }

    /// The queue as it is.
    pub(super) fn new(settings: Settings) -> Self {
        let layout = Layout { stage: settings.stage.clone() };
        let reserve = Reserve::of(&settings.stage);
        Self {
            has_archive: layout.stage.join("archive").is_dir(),
            settings,
            layout,
            hub: Hub::default(),
            specs: Mutex::default(),
            outcomes: Mutex::default(),
            names: Mutex::default(),
            waiting: Mutex::default(),
            reserve,
        }
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }

    /// Does work that makes room or writes down what is over; gives up the reserve for it where the disk is full.
    pub(super) fn with_reserve<T>(&self, work: impl Fn() -> Result<T, QueueError>) -> Result<T, QueueError> {
        match work() {
            Err(error) if disk::is_full(&error) && self.reserve.free() => work(),
            answer => answer,
        }
    }

    /// What the file systems of an agent's folders are short of.
    pub(super) fn shortage(&self, agent: &AgentName) -> Result<Option<Shortage>, QueueError> {
        space::shortage(&[self.layout.inbox(agent), self.layout.results(agent)])
    }

    /// Why nothing new is started, where it is not; keeps the reserve meanwhile.
    pub(super) fn space(&self) -> Result<Option<String>, QueueError> {
        let agents = self.settings.agents.iter();
        let folders: Vec<_> = agents.flat_map(|agent| [self.layout.inbox(agent), self.layout.results(agent)]).collect();
        let short = space::shortage(&folders)?;
        if let Err(error) = self.reserve.keep() {
            tracing::warn!(%error, "the reserve could not be kept");
        }
        Ok(short.map(|short| short.tight_sentence()))
    }

    /// Refuses an agent that is not configured.
    pub(super) fn known(&self, agent: &AgentName) -> Result<(), QueueError> {
        if self.settings.agents.contains(agent) {
            return Ok(());
        }
        Err(QueueError::UnknownAgent(agent.to_string()))
    }

    /// Takes a task's lock, which every step that moves its files holds.
    pub(super) fn lock(&self, task: &TaskRef) -> Result<File, QueueError> {
        self.known(&task.agent)?;
        let folder = self.layout.attempts(task);
        loop {
            disk::make_folder(&folder, true)?;
            let lock = disk::lock_folder(&folder)?;
            let locked = lock.metadata().map_err(failed("look at", &folder))?;
            let there = Stamp::at(&folder).map_err(failed("look at", &folder))?;
            // It went to the trash, or came from there, while we waited.
            let is_it = there.is_some_and(|there| there.inode == Stamp::of(&locked).inode);
            if is_it && !self.tidy(task)? {
                return Ok(lock);
            }
        }
    }

    /// Starts a task may have.
    pub(super) fn allowed(&self, spec: &TaskSpec) -> u32 {
        spec.max_attempts.unwrap_or(self.settings.attempts).max(1)
    }

    /// How long to wait after a lost attempt, the `counted`th that counts.
    pub(super) fn backoff(&self, spec: &TaskSpec, attempt: &AttemptRef, counted: u32) -> Duration {
        timing::backoff(spec.backoff, &self.settings.backoff, attempt, counted)
    }

    /// Puts names of an inbox in order, the oldest first. New files are read on several threads, for whoever looks at
    /// them next.
    pub(super) fn look_ahead(&self, agent: &AgentName, names: Vec<OsString>) -> Vec<OsString> {
        let look = |name: OsString| match self.look_at(agent, &name, false) {
            Look::File(stamp, judged) => (stamp.ctime, name, Some(judged)),
            Look::Nothing | Look::Left(_) | Look::Unfit(_) | Look::Unread(..) => {
                let stamp = Stamp::at(&self.layout.inbox(agent).join(&name));
                (stamp.ok().flatten().map_or(0, |stamp| stamp.ctime), name, None)
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(names.len() / FEW + 1);
        let next = Mutex::new(names.into_iter());
        let work = || {
            let mut seen = Vec::new();
            loop {
                let some: Vec<OsString> = lock(&next).by_ref().take(FEW).collect();
                if some.is_empty() {
                    return seen;
                }
                seen.extend(some.into_iter().map(look));
            }
        };
        let mut seen = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut seen = work();
            for other in others {
                seen.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            seen
        });
        seen.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let in_order = |(_, name, judged): (i128, OsString, Option<Arc<Judged>>)| {
            if let (Some(Judged::Task(spec)), Some(name)) = (judged.as_deref(), name.to_str()) {
                self.remember(&spec.task, name);
            }
            name
        };
        seen.into_iter().map(in_order).collect()
    }

    /// Looks at one name in an inbox without changing anything.
    pub(super) fn look(&self, agent: &AgentName, name: &OsStr) -> Look {
        self.look_at(agent, name, true)
    }

    /// The same; `remembers` says whether a file that is read for the first time is noted as its task's.
    fn look_at(&self, agent: &AgentName, name: &OsStr, remembers: bool) -> Look {
        let path = self.layout.inbox(agent).join(name);
        if is_ignored(name) {
            let folder = !name.to_string_lossy().starts_with('.') && name != "rejected" && path.is_dir();
            return if folder { Look::Left(folder_sentence(agent, name)) } else { Look::Nothing };
        }
        let stamp = match Stamp::at(&path) {
            Ok(Some(stamp)) => stamp,
            Ok(None) => return Look::Nothing,
            Err(error) => return Look::Unread(unreadable(name, &path, &error), error),
        };
        if let Some((known, judged)) = lock(&self.specs).get(&path)
            && *known == stamp
        {
            return Look::File(stamp, Arc::clone(judged));
        }
        let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
        match disk::open_regular(&path, spec::LIMIT as u64) {
            Ok(Opened::Absent) => Look::Nothing,
            Ok(Opened::Folder) => Look::Left(folder_sentence(agent, name)),
            Ok(Opened::Special(what)) => Look::Unfit(format!("Not a regular file ({what}).")),
            Ok(Opened::TooLarge(bytes)) => Look::Unfit(format!(
                "{:.1} MB is over the 512 KiB limit. Put the data in a file and pass its path.",
                bytes as f64 / 1e6
            )),
            Err(error) => Look::Unread(unreadable(name, &path, &error), error),
            Ok(Opened::Whole { bytes, stamp, .. }) => {
                let judged = match (bad_name(name), stem) {
                    (Some(sentence), _) => Judged::Bad(sentence),
                    (None, None) => return Look::Nothing,
                    (None, Some(stem)) => match spec::read(&bytes, agent, stem) {
                        Ok(spec) => Judged::Task(Box::new(display(spec))),
                        Err(fault) if fault.may_grow => Judged::MayGrow(fault.sentence),
                        Err(fault) => Judged::Bad(fault.sentence),
                    },
                };
                let judged = Arc::new(judged);
                if let (Judged::Task(spec), Some(name), true) = (&*judged, name.to_str(), remembers) {
                    self.remember(&spec.task, name);
                }
                lock(&self.specs).insert(path, (stamp, Arc::clone(&judged)));
                Look::File(stamp, judged)
            }
        }
    }

    /// Notes under which name a waiting task lies; the first file of an id keeps it.
    fn remember(&self, task: &TaskRef, name: &str) {
        let known = lock(&self.names).entry(task.clone()).or_insert_with(|| name.to_owned()).clone();
        if known != name && !self.layout.inbox(&task.agent).join(known).exists() {
            lock(&self.names).insert(task.clone(), name.to_owned());
        }
    }

    /// The obvious name of a task, if it waits under it.
    pub(super) fn plain(&self, task: &TaskRef) -> Result<Option<String>, QueueError> {
        let plain = super::layout::json(&task.id);
        Ok(self.is_task(task, &plain)?.then_some(plain))
    }

    /// The name under which a task waits, looked for in the whole inbox: it may have been dropped under another one
    /// since the last listing.
    pub(super) fn search(&self, task: &TaskRef) -> Result<Option<String>, QueueError> {
        for name in disk::names(&self.layout.inbox(&task.agent))? {
            if let Some(text) = name.to_str()
                && !is_ignored(&name)
                && self.is_task(task, text)?
            {
                self.remember(task, text);
                return Ok(Some(text.to_owned()));
            }
        }
        Ok(None)
    }

    /// The name a listing has shown for a task, if it is still so.
    pub(super) fn remembered(&self, task: &TaskRef) -> Result<Option<String>, QueueError> {
        let Some(name) = lock(&self.names).get(task).cloned() else { return Ok(None) };
        if self.is_task(task, &name)? {
            return Ok(Some(name));
        }
        lock(&self.names).remove(task);
        Ok(None)
    }

    /// Whether the file `name` of `results/` is this task's result.
    pub(super) fn is_result_of(&self, task: &TaskRef, name: &str) -> Result<bool, QueueError> {
        Ok(self
            .reading(&task.agent, name)?
            .is_some_and(|(reading, _)| matches!(&*reading, Reading::Result(outcome) if outcome.task == *task)))
    }

    /// Whether the file `name` holds this task. A file that is closed to us holds nobody's; one that cannot be read for
    /// another reason may hold any.
    fn is_task(&self, task: &TaskRef, name: &str) -> Result<bool, QueueError> {
        match self.look(&task.agent, OsStr::new(name)) {
            Look::File(_, judged) => Ok(matches!(&*judged, Judged::Task(spec) if spec.task == *task)),
            Look::Unread(_, error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
                Err(failed("read", &self.layout.inbox(&task.agent).join(name))(error))
            }
            Look::Nothing | Look::Left(_) | Look::Unfit(_) | Look::Unread(..) => Ok(false),
        }
    }

    /// The picture's spec of a task file of ours, and when it was written; `None` where it is absent.
    pub(super) fn spec_at(&self, path: &Path, task: &TaskRef) -> Result<Option<(TaskSpec, Stamp)>, QueueError> {
        let Some(stamp) = Stamp::at(path).map_err(failed("look at", path))? else { return Ok(None) };
        if let Some((known, judged)) = lock(&self.specs).get(path)
            && *known == stamp
            && let Judged::Task(spec) = &**judged
        {
            return Ok(Some(((**spec).clone(), stamp)));
        }
        let Some((bytes, stamp)) = self.bytes_at(path)? else { return Ok(None) };
        let Some(spec) = self.whole(&bytes, path, task) else {
            // What it said before stands until its writer is done.
            let known = lock(&self.specs).get(path).cloned();
            return Ok(known.and_then(|(stamp, judged)| match &*judged {
                Judged::Task(spec) if spec.task == *task => Some(((**spec).clone(), stamp)),
                Judged::Task(_) | Judged::MayGrow(_) | Judged::Bad(_) => None,
            }));
        };
        let spec = display(spec);
        // What is over is hardly asked for again, and there is a lot of it.
        if path.parent() == Some(&self.layout.within(&task.agent, ".claimed")) {
            lock(&self.specs).insert(path.to_owned(), (stamp, Arc::new(Judged::Task(Box::new(spec.clone())))));
        }
        Ok(Some((spec, stamp)))
    }

    /// The whole spec of a task file; `None` where it is absent, or says nothing yet.
    pub(super) fn full_spec_at(&self, path: &Path, task: &TaskRef) -> Result<Option<(TaskSpec, Stamp)>, QueueError> {
        let Some((bytes, stamp)) = self.bytes_at(path)? else { return Ok(None) };
        Ok(self.whole(&bytes, path, task).map(|spec| (spec, stamp)))
    }

    /// What the bytes of a task file say. One of ours that is damaged is a task without text; one in the inbox is being
    /// written anew by whoever dropped it, and says nothing until that is done.
    fn whole(&self, bytes: &[u8], path: &Path, task: &TaskRef) -> Option<TaskSpec> {
        if path.parent() == Some(&self.layout.inbox(&task.agent)) {
            return said_of(bytes, task).ok();
        }
        Some(full_spec(bytes, path, task))
    }

    /// The bytes of a task file of ours.
    pub(super) fn bytes_at(&self, path: &Path) -> Result<Option<(Vec<u8>, Stamp)>, QueueError> {
        match disk::open_regular(path, spec::LIMIT as u64).map_err(failed("read", path))? {
            Opened::Absent => Ok(None),
            Opened::Whole { bytes, stamp, .. } => Ok(Some((bytes, stamp))),
            Opened::TooLarge(_) | Opened::Folder | Opened::Special(_) => {
                Err(QueueError::Unsafe(format!("{} is no longer a task file", self.layout.shown(path))))
            }
        }
    }

    /// Reads one file of `results/{agent}/`; `None` where it is absent.
    pub(super) fn reading(&self, agent: &AgentName, name: &str) -> Result<Option<(Arc<Reading>, Stamp)>, QueueError> {
        let path = self.layout.results(agent).join(name);
        let Some(stamp) = Stamp::at(&path).map_err(failed("look at", &path))? else { return Ok(None) };
        if let Some((known, reading)) = lock(&self.outcomes).get(&path)
            && *known == stamp
        {
            return Ok(Some((Arc::clone(reading), stamp)));
        }
        let (reading, stamp) = match disk::open_regular(&path, results::LIMIT).map_err(failed("read", &path))? {
            Opened::Absent | Opened::Folder => return Ok(None),
            Opened::Whole { bytes, stamp, .. } => {
                let stem = name.strip_suffix(".json").unwrap_or(name);
                (results::read(&bytes, agent, stem, modified(&stamp)), stamp)
            }
            Opened::TooLarge(bytes) => (Reading::Bad(format!("It is {bytes} bytes long.")), stamp),
            Opened::Special(what) => (Reading::Bad(format!("Not a regular file ({what}).")), stamp),
        };
        let reading = match reading {
            Reading::Result(outcome) => Reading::Result(Box::new(outcome.clipped(TaskRecord::TEXT_LIMIT))),
            other @ (Reading::NotAnEnd(_) | Reading::Bad(_)) => other,
        };
        let reading = Arc::new(reading);
        let mut outcomes = lock(&self.outcomes);
        if outcomes.len() >= RESULTS {
            outcomes.clear();
        }
        outcomes.insert(path, (stamp, Arc::clone(&reading)));
        drop(outcomes);
        Ok(Some((reading, stamp)))
    }

    /// A task's result, whatever name its file has, texts clipped; and the file's version.
    pub(super) fn result_of(&self, task: &TaskRef) -> Result<Option<(Outcome, Stamp)>, QueueError> {
        for name in results::names(&task.id) {
            if let Some((reading, stamp)) = self.reading(&task.agent, &name)?
                && let Reading::Result(outcome) = &*reading
                && outcome.task.id == task.id
            {
                return Ok(Some(((**outcome).clone(), stamp)));
            }
        }
        self.archived(task)
    }

    /// The same with its texts whole, for an agent that builds on it.
    pub(super) fn full_result_of(&self, task: &TaskRef) -> Result<Option<Outcome>, QueueError> {
        for name in results::names(&task.id) {
            let path = self.layout.results(&task.agent).join(&name);
            let opened = disk::open_regular(&path, results::LIMIT).map_err(failed("read", &path))?;
            let Opened::Whole { bytes, stamp, .. } = opened else { continue };
            let stem = name.strip_suffix(".json").unwrap_or(&name);
            if let Reading::Result(outcome) = results::read(&bytes, &task.agent, stem, modified(&stamp))
                && outcome.task.id == task.id
            {
                return Ok(Some(*outcome));
            }
        }
        Ok(self.archived(task)?.map(|(outcome, _)| outcome))
    }

    /// Forgets what was read of a file of ours that has moved on.
    pub(super) fn forget(&self, path: &Path) {
        lock(&self.specs).remove(path);
    }

    /// Forgets what was read of files that are gone.
    pub(super) fn forget_absent(&self, agent: &AgentName, names: &HashSet<String>) {
        let inbox = self.layout.inbox(agent);
        lock(&self.specs).retain(|path, _| {
            path.parent() != Some(&inbox)
                || path.file_name().and_then(OsStr::to_str).is_some_and(|name| names.contains(name))
        });
    }
}

/// The whole spec that these bytes of a task file of ours say; a task without text where they are damaged.
pub(super) fn full_spec(bytes: &[u8], path: &Path, task: &TaskRef) -> TaskSpec {
    said_of(bytes, task).unwrap_or_else(|fault| {
        tracing::warn!(path = %path.display(), reason = fault.sentence, "a taken task file is damaged");
        TaskSpec::new(task.clone(), "")
    })
}

/// What these bytes say of this task.
fn said_of(bytes: &[u8], task: &TaskRef) -> Result<TaskSpec, Fault> {
    let spec = spec::read(bytes, &task.agent, task.id.as_str())?;
    Ok(TaskSpec { task: task.clone(), ..spec })
}

/// When a file's content was last written.
pub(super) fn modified(stamp: &Stamp) -> Timestamp {
    Timestamp::from_nanosecond(stamp.mtime).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A spec for the picture: clipped and cleaned.
pub(super) fn display(spec: TaskSpec) -> TaskSpec {
    let mut spec = TaskRecord::new(spec, Timestamp::UNIX_EPOCH).spec;
    spec.title = text::scrub(&spec.title).into_owned();
    spec.description = text::scrub(&spec.description).into_owned();
    spec.model = spec.model.map(|model| text::first_line(&model, 80));
    spec
}

fn folder_sentence(agent: &AgentName, name: &OsStr) -> String {
    format!("tasks/{agent}/{}/ is a folder and is ignored.", text::scrub(&name.to_string_lossy()))
}

/// Why a file could not be read, with its owner and mode where that may be the reason.
fn unreadable(name: &OsStr, path: &Path, error: &std::io::Error) -> String {
    use std::os::unix::fs::MetadataExt;
    let name = name.to_string_lossy();
    match (error.kind(), path.symlink_metadata()) {
        (std::io::ErrorKind::PermissionDenied, Ok(meta)) => format!(
            "Cannot read {}: permission denied (owner {}, mode {:o}).",
            text::scrub(&name),
            if meta.uid() == 0 { "root".to_owned() } else { meta.uid().to_string() },
            meta.mode() & 0o7777
        ),
        _ => format!("Cannot read {}: {error}.", text::scrub(&name)),
    }
}

/// Why a file's name cannot be a task's.
fn bad_name(name: &OsStr) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_bytes();
    let stem = bytes.strip_suffix(b".json").unwrap_or(bytes);
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if let Some(byte) = stem.iter().find(|byte| !allowed(byte)) {
        return Some(format!("Task ids use letters, digits, . _ -; this name has byte 0x{byte:02X}."));
    }
    if stem.len() > crate::model::TaskId::LIMIT {
        return Some(format!("Task ids are at most 120 characters long; this name has {}.", stem.len()));
    }
    if !stem.first().is_some_and(u8::is_ascii_alphanumeric) {
        return Some("Task ids start with a letter or digit; this name does not.".to_owned());
    }
    None
}
