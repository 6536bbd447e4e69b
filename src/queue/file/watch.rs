//! Noticing changes: the kernel hints, the directory decides.
//!
//! One thread per watch does all the looking; the kernel's messages only mark names in a [`Signal`], which therefore
//! cannot overflow. Its one surprise: a folder that does not report our own canary file is looked at now and then
//! instead, and the receiver is told so.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    ffi::OsString,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use notify::{
    Config, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    attempts, disk,
    notice::Notice,
    past::Found,
    store::{Store, lock},
};
use crate::{
    model::{AgentName, TaskId, TaskRef},
    queue::{Change, QueueError},
};

/// Changes held for a receiver that is busy.
const CHANNEL: usize = 1024;
/// Names are looked at when no further hint has come for this long.
const QUIET: Duration = Duration::from_millis(5);
/// Names are looked at no later than this after the first hint.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often folders are checked although nothing was heard.
const SAFETY: Duration = Duration::from_secs(2);
/// Checking takes at most one part in this many of the time: with very many files it is done less often.
const SHARE: u32 = 400;
/// How often they are checked where the kernel tells nothing.
const POLL: Duration = Duration::from_millis(250);
/// After how many rounds of polling the kernel is asked again.
const TRY_AGAIN: u32 = 120;
/// How often what ended long ago is let go of.
const PRUNE: Duration = Duration::from_hours(24);
/// How long a canary may take.
const CANARY: Duration = Duration::from_millis(200);
/// A canary's name.
const CANARY_NAME: &str = ".canary";

/// A folder that is watched, and what its names mean.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Folder {
    /// `tasks/` itself.
    Root,
    /// `tasks/{agent}/`.
    Inbox(AgentName),
    /// `tasks/{agent}/.attempts/`.
    Attempts(AgentName),
    /// `tasks/{agent}/rejected/`.
    Rejected(AgentName),
    /// `tasks/{agent}/.requests/`.
    Requests(AgentName),
    /// `results/{agent}/`.
    Results(AgentName),
}

/// Names that somebody hinted at. The flag says whether the last hint was that the file is whole: closed by its writer,
/// or renamed in.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pub(super) names: HashMap<(Folder, OsString), bool>,
    pub(super) tasks: HashSet<TaskRef>,
    pub(super) everything: bool,
    /// What was read of ended tasks.
    pub(super) found: Vec<Found>,
    /// When the last one was left; `None` while there is none.
    last: Option<Instant>,
    canaries: HashSet<Folder>,
}

/// Where hints are left and waited for.
#[derive(Debug, Default)]
pub(super) struct Signal {
    hints: Mutex<Hints>,
    bell: Condvar,
}

impl Signal {
    pub(super) fn leave(&self, change: impl FnOnce(&mut Hints)) {
        let mut hints = lock(&self.hints);
        change(&mut hints);
        let first = hints.last.replace(Instant::now()).is_none();
        // Whoever has heard the first lets the others settle, and is not woken for each of them.
        let rings = first || !hints.canaries.is_empty();
        drop(hints);
        if rings {
            self.bell.notify_all();
        }
    }

    /// Waits until `done`, at most until `deadline`.
    fn wait(&self, deadline: Instant, mut done: impl FnMut(&Hints) -> bool) {
        let left = deadline.saturating_duration_since(Instant::now());
        let guard = lock(&self.hints);
        drop(self.bell.wait_timeout_while(guard, left, |hints| !done(hints)).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for hints until `deadline`, lets them settle, and takes them.
    fn take(&self, deadline: Instant) -> Hints {
        self.wait(deadline, |hints| hints.last.is_some());
        let latest = Instant::now() + PATIENCE;
        loop {
            let mut hints = lock(&self.hints);
            let settled = hints.last.map(|last| (last + QUIET).min(latest));
            match settled.filter(|settled| *settled > Instant::now()) {
                None => return std::mem::take(&mut *hints),
                Some(settled) => {
                    drop(hints);
                    self.wait(settled, |_| false);
                }
            }
        }
    }
}

/// Tells every watch of one queue value of changes made through it, and keeps what they know of ids.
#[derive(Debug, Default)]
pub(super) struct Hub {
    signals: Mutex<Vec<Weak<Signal>>>,
    /// By agent and a hash of the id in lower case: there may be very many.
    ids: Mutex<HashMap<AgentName, HashMap<u64, TaskId>>>,
    /// A watch has looked at everything and hears what changes.
    surveyed: AtomicBool,
}

impl Hub {
    /// A task was changed by us.
    pub(super) fn touched(&self, task: &TaskRef) {
        lock(&self.signals).retain(|signal| {
            let Some(signal) = signal.upgrade() else { return false };
            signal.leave(|hints| {
                hints.tasks.insert(task.clone());
            });
            true
        });
    }

    /// Notes whether a watch knows all ids.
    pub(super) fn survey(&self, whole: bool) {
        self.surveyed.store(whole, Ordering::Release);
    }

    /// Whether a watch knows all ids, and not this one. A file dropped under it in the last moments may not be known yet.
    pub(super) fn is_news(&self, task: &TaskRef) -> bool {
        self.surveyed.load(Ordering::Acquire)
            && !lock(&self.ids).get(&task.agent).is_some_and(|of| of.contains_key(&caseless(&task.id)))
    }

    /// Notes that an id is in use.
    pub(super) fn used(&self, task: &TaskRef) {
        let mut ids = lock(&self.ids);
        if !ids.contains_key(&task.agent) {
            ids.insert(task.agent.clone(), HashMap::new());
        }
        if let Some(of) = ids.get_mut(&task.agent) {
            of.entry(caseless(&task.id)).or_insert_with(|| task.id.clone());
        }
    }

    /// Notes that an id is free again.
    pub(super) fn unused(&self, task: &TaskRef) {
        if let Some(of) = lock(&self.ids).get_mut(&task.agent)
            && let Entry::Occupied(known) = of.entry(caseless(&task.id))
            && *known.get() == task.id
        {
            known.remove();
        }
    }

    /// The id that differs from this one in capitals only.
    pub(super) fn twin(&self, task: &TaskRef) -> Option<TaskId> {
        let known = lock(&self.ids).get(&task.agent)?.get(&caseless(&task.id))?.clone();
        // Equal hashes are no proof.
        let twins = known != task.id && known.as_str().eq_ignore_ascii_case(task.id.as_str());
        twins.then_some(known)
    }
}

/// The same for ids that differ in capitals only.
fn caseless(id: &TaskId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.as_str().to_ascii_lowercase().hash(&mut hasher);
    hasher.finish()
}

/// Starts a watch; it ends when the receiver is dropped.
pub(super) fn start(store: &Arc<Store>) -> Result<mpsc::Receiver<Change>, QueueError> {
    let (sink, receiver) = mpsc::channel(CHANNEL);
    let signal = Arc::new(Signal::default());
    lock(&store.hub.signals).push(Arc::downgrade(&signal));
    let eyes = Eyes::open(store, &signal);
    let notice = Notice::new(Arc::clone(store), sink);
    thread::Builder::new()
        .name("queue-watch".into())
        .spawn(move || run(notice, &signal, eyes))
        .map_err(|source| QueueError::Io { action: "start a thread to watch", path: PathBuf::new(), source })?;
    Ok(receiver)
}

fn run(mut notice: Notice, signal: &Arc<Signal>, mut eyes: Eyes) {
    notice.polling(eyes.blind.clone());
    notice.space();
    notice.begin(signal);
    let mut checked = Instant::now();
    let mut pruned = checked;
    let mut took = Duration::ZERO;
    let mut rounds: u32 = 0;
    while !notice.is_over() {
        let pace = if eyes.blind.is_some() { POLL.max(took * 3) } else { SAFETY.max(took * SHARE) };
        let due = checked + pace;
        let hints = signal.take(notice.next_due().map_or(due, |at| at.min(due)));
        let all = hints.everything;
        notice.hints(hints);
        notice.due();
        if Instant::now() < due && !all {
            continue;
        }
        let began = Instant::now();
        rounds += 1;
        notice.space();
        if checked.duration_since(pruned) > PRUNE {
            pruned = checked;
            if let Err(error) = notice.store.prune() {
                tracing::error!(%error, "could not let go of old tasks");
            }
        }
        // A busy machine may have kept the canaries waiting; eyes that were asked to stay shut are not tried again.
        let try_again = eyes.blind.is_some() && !notice.store.settings.polling && rounds.is_multiple_of(TRY_AGAIN);
        if eyes.replaced(&notice.store) || try_again {
            eyes = Eyes::open(&notice.store, signal);
            notice.polling(eyes.blind.clone());
            notice.everything();
            checked = Instant::now();
            continue;
        }
        // Every minute by events, every two seconds by polling: also files that were edited in place.
        let deep = all || rounds.is_multiple_of(if eyes.blind.is_some() { 8 } else { 30 });
        notice.safety(deep);
        checked = Instant::now();
        took = checked - began;
    }
}

/// The kernel's watch on every folder, as far as it works.
struct Eyes {
    /// Dropping it ends the watch.
    _watcher: Option<RecommendedWatcher>,
    folders: Vec<(PathBuf, Option<Identity>)>,
    /// Why folders are looked at now and then, where they are.
    blind: Option<String>,
}

/// Every folder of a stage that matters.
fn folders(store: &Store) -> HashMap<PathBuf, Folder> {
    let mut all = HashMap::from([(store.layout.all_tasks(), Folder::Root)]);
    for agent in &store.settings.agents {
        all.insert(store.layout.inbox(agent), Folder::Inbox(agent.clone()));
        all.insert(store.layout.all_attempts(agent), Folder::Attempts(agent.clone()));
        all.insert(store.layout.rejected(agent), Folder::Rejected(agent.clone()));
        all.insert(store.layout.requests(agent), Folder::Requests(agent.clone()));
        all.insert(store.layout.results(agent), Folder::Results(agent.clone()));
    }
    all
}

/// Which folder lies at a path, if it is one: its number may be given to the next one at once, its birth is its own.
type Identity = (u64, Option<SystemTime>);

fn identity(path: &Path) -> Option<Identity> {
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some((meta.ino(), meta.created().ok()))
}

impl Eyes {
    fn open(store: &Store, signal: &Arc<Signal>) -> Self {
        for agent in &store.settings.agents {
            if let Err(error) = store.make_folders(agent) {
                tracing::error!(%error, "could not make the queue's folders");
            }
        }
        let map = folders(store);
        let paths: Vec<PathBuf> = map.keys().cloned().collect();
        let (watcher, blind) = if store.settings.polling {
            (None, Some("asked to look now and then".to_owned()))
        } else {
            match Self::watch(&paths, &map, signal) {
                Ok((watcher, blind)) => (Some(watcher), blind),
                Err(error) => (None, Some(format!("the kernel refused to watch: {error}"))),
            }
        };
        let folders =
            paths.into_iter().map(|path| (identity(&path), path)).map(|(known, path)| (path, known)).collect();
        Self { _watcher: watcher, folders, blind }
    }

    fn watch(
        paths: &[PathBuf],
        map: &HashMap<PathBuf, Folder>,
        signal: &Arc<Signal>,
    ) -> notify::Result<(RecommendedWatcher, Option<String>)> {
        let ears = Arc::downgrade(signal);
        let known = map.clone();
        let mut watcher = RecommendedWatcher::new(
            move |event: notify::Result<Event>| {
                if let Some(signal) = ears.upgrade() {
                    heard(&signal, &known, event);
                }
            },
            // Not of opens and reads: those are our own looking, and a hundred thousand of them would drown the rest.
            Config::default().with_event_kinds(EventKindMask::CORE | EventKindMask::ACCESS_CLOSE),
        )?;
        for path in paths {
            watcher.watch(path, RecursiveMode::NonRecursive)?;
        }
        for path in paths {
            sing(&path.join(CANARY_NAME))?;
        }
        signal.wait(Instant::now() + CANARY, |hints| hints.canaries.len() == paths.len());
        let hints = lock(&signal.hints);
        let deaf: Vec<String> = paths
            .iter()
            .filter(|path| map.get(*path).is_none_or(|folder| !hints.canaries.contains(folder)))
            .map(|path| path.display().to_string())
            .collect();
        drop(hints);
        let blind = (!deaf.is_empty()).then(|| format!("no events from {}", deaf.join(", ")));
        Ok((watcher, blind))
    }

    /// Whether a watched folder was removed or replaced, so that the watch hangs in the air.
    fn replaced(&self, store: &Store) -> bool {
        let lost: Vec<&PathBuf> =
            self.folders.iter().filter(|(path, known)| identity(path) != *known).map(|(path, _)| path).collect();
        for path in &lost {
            tracing::warn!(path = store.layout.shown(path), "a folder of the queue was removed or replaced");
        }
        !lost.is_empty()
    }
}

/// Makes a file and removes it. The next one removes what a crash in between leaves: hence one name for all, and a file
/// that somebody else makes just now is as good.
fn sing(canary: &Path) -> std::io::Result<()> {
    disk::remove_quietly(canary);
    match std::fs::File::create_new(canary) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        made => drop(made),
    }
    disk::remove_quietly(canary);
    Ok(())
}

/// Turns one message of the kernel into hints.
fn heard(signal: &Signal, folders: &HashMap<PathBuf, Folder>, event: notify::Result<Event>) {
    let event = match event {
        Ok(event) if event.need_rescan() => return signal.leave(|hints| hints.everything = true),
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "the kernel's watch reported an error");
            return signal.leave(|hints| hints.everything = true);
        }
    };
    let from = matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::From)));
    let whole = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => true,
        // Our own looking makes these; and a rename within one folder is told three times.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => false,
    };
    for path in &event.paths {
        let (Some(folder), Some(name)) = (path.parent().and_then(|parent| folders.get(parent)), path.file_name())
        else {
            continue;
        };
        let text = name.to_string_lossy();
        if text == CANARY_NAME {
            signal.leave(|hints| {
                hints.canaries.insert(folder.clone());
            });
            continue;
        }
        match folder {
            Folder::Attempts(agent) => {
                let id = attempts::task_of_name(&text).filter(|_| from).and_then(|id| TaskId::new(id).ok());
                if let Some(id) = id {
                    let task = TaskRef::new(agent.clone(), id);
                    signal.leave(|hints| {
                        hints.tasks.insert(task);
                    });
                }
            }
            Folder::Root | Folder::Inbox(_) | Folder::Rejected(_) | Folder::Requests(_) | Folder::Results(_) => {
                if text.starts_with('.') {
                    continue;
                }
                let keeps = matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_)));
                signal.leave(|hints| {
                    let known = hints.names.entry((folder.clone(), name.to_owned())).or_insert(whole);
                    *known = whole || (keeps && *known);
                });
            }
        }
    }
}
