//! What a watch has seen, and what it says about it: each change once.
//!
//! Everything runs on the watch's own thread. Its one surprise: a hint never carries news. It makes us look at a name
//! or derive a task again, and only a picture that differs from the last one sent goes out.

mod by_task;
mod finished;
mod inbox;
mod markers;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    ffi::{OsStr, OsString},
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use by_task::ByTask;
use tokio::{sync::mpsc, time::Instant};

use super::{
    attempts,
    disk::Stamp,
    intake::Why,
    layout::json,
    needs::Needs,
    past::{self, Found, Names},
    store::Store,
    watch::{Folder, Hints, Signal},
};
use crate::{
    model::{AgentName, Rejected, Removed, Standing, TaskId, TaskRecord, TaskRef},
    queue::{Change, QueueError},
};

/// A file that may still grow is set aside after this long without a change, and a result of somebody else is believed.
pub(super) const REST: Duration = Duration::from_secs(5);
/// How often it is said again how full the disk is.
const SHORT_AGAIN: Duration = Duration::from_secs(10);

/// A name in an inbox or in `results/` as last seen.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    /// Since when it has looked like this.
    since: Instant,
    /// Its writer has closed it, or it was renamed in.
    whole: bool,
    /// What it holds, once accepted.
    task: Option<TaskRef>,
    /// This content has been accepted, not only an earlier one.
    told: bool,
}

/// A marker as last seen.
#[derive(Debug)]
struct Asked {
    stamp: Stamp,
    since: Instant,
    told: bool,
}

/// A file of an inbox that will be set aside.
struct Doomed {
    agent: AgentName,
    name: OsString,
    /// The version that was judged; another one is judged anew.
    judged: Option<Stamp>,
    why: Why,
    /// The task it says it is.
    task: Option<TaskRef>,
}

/// The eyes' memory and the mouth.
pub(super) struct Notice {
    pub(super) store: Arc<Store>,
    sink: mpsc::Sender<Change>,
    gone: bool,
    /// A fingerprint of what was last said of each task.
    said: ByTask<u64>,
    /// Results that are still to be read; `Some(0)` until they were counted, `None` when all are.
    unread: Option<usize>,
    /// What each task that has not ended depends on.
    needs: Needs,
    /// Tasks that were taken and have not ended.
    open: HashSet<TaskRef>,
    seen: HashMap<(Folder, OsString), Seen>,
    /// Results under their usual name, as last seen: there may be very many.
    settled: ByTask<u64>,
    /// During the first look: what has ended.
    ended: Option<Names>,
    /// While hints are gone through: tasks to derive after that, each once however many hints speak of it.
    later: Option<HashSet<TaskRef>>,
    /// Names to look at again although nobody hints.
    due: BTreeSet<(Instant, Folder, OsString)>,
    /// Files that are listed, by path.
    listed: HashMap<String, Rejected>,
    /// What was last said of the trash.
    trash: Vec<Removed>,
    /// Markers seen, and what became of them.
    asked: HashMap<(AgentName, String), Asked>,
    /// Files of an inbox that will be set aside.
    unfit: VecDeque<Doomed>,
    /// Where a file of ours was found damaged.
    damaged: HashMap<TaskRef, String>,
    /// Each folder's time of change at the last listing, and whether a second listing has confirmed it.
    listings: HashMap<PathBuf, (i128, bool)>,
    /// When it was last said that the disk is nearly full, while it is.
    short: Option<Instant>,
    /// Changes are heard of, not looked for now and then.
    hears: bool,
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.store.hub.survey(false);
    }
}

impl Notice {
    pub(super) fn new(store: Arc<Store>, sink: mpsc::Sender<Change>) -> Self {
        Self {
            store,
            sink,
            gone: false,
            said: ByTask::default(),
            unread: None,
            needs: Needs::default(),
            open: HashSet::new(),
            seen: HashMap::new(),
            settled: ByTask::default(),
            ended: None,
            later: None,
            due: BTreeSet::new(),
            listed: HashMap::new(),
            trash: Vec::new(),
            asked: HashMap::new(),
            unfit: VecDeque::new(),
            damaged: HashMap::new(),
            listings: HashMap::new(),
            short: None,
            hears: false,
        }
    }

    /// Tells the others whether every id is known.
    fn survey(&self) {
        self.store.hub.survey(self.hears && self.unread.is_none());
    }

    /// Nobody listens any more.
    pub(super) fn is_over(&self) -> bool {
        self.gone || self.sink.is_closed()
    }

    /// When the next name is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if !self.unfit.is_empty() {
            return Some(Instant::now());
        }
        self.due.first().map(|(at, _, _)| *at)
    }

    /// Says how changes are noticed.
    pub(super) fn polling(&mut self, why: Option<String>) {
        self.hears = why.is_none();
        self.survey();
        self.say(Change::Polling(why));
    }

    /// Looks at how much room the disk has, and says so where that is news.
    pub(super) fn space(&mut self) {
        let Some(why) = Self::noted(self.store.space()) else { return };
        // The numbers change with every file; the picture only when it begins and ends, and now and then.
        let news = match (&self.short, &why) {
            (Some(told), Some(_)) => told.elapsed() >= SHORT_AGAIN,
            (known, why) => known.is_some() != why.is_some(),
        };
        if news {
            self.short = why.is_some().then(Instant::now);
            self.say(Change::Space(why));
        }
    }

    fn say(&mut self, change: Change) {
        self.gone |= self.sink.blocking_send(change).is_err();
    }

    /// An error while looking never ends the watch; the next look comes soon.
    fn noted<T>(answer: Result<T, QueueError>) -> Option<T> {
        answer
            .inspect_err(|error| {
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "could not look");
            })
            .ok()
    }

    /// Looks at everything for the first time: open work at once, what has ended from now on.
    pub(super) fn begin(&mut self, signal: &Arc<Signal>) {
        let store = Arc::clone(&self.store);
        self.ended = Self::noted(Names::list(&store));
        self.unread = self.ended.as_ref().map(Names::results);
        if let Some(unread) = self.unread.filter(|unread| *unread > 0) {
            self.say(Change::Found(Vec::new(), unread));
        }
        self.open_work();
        let started = match self.ended.take() {
            Some(ended) => past::start(&store, signal, ended)
                .inspect_err(|error| tracing::warn!(%error, "no thread to read what has ended")),
            None => Err(std::io::ErrorKind::Other.into()),
        };
        if started.is_err() {
            self.unread = None;
            self.results(true);
            self.survey();
        }
    }

    /// Looks at everything that has not ended, and at what is no task.
    fn open_work(&mut self) {
        let store = Arc::clone(&self.store);
        for agent in &store.settings.agents {
            self.list_inbox(agent, true);
            self.list_claimed(agent);
            self.list_rejected(agent);
        }
        self.list_requests();
        self.list_root();
        self.trash();
    }

    /// Takes in what was read of ended tasks.
    fn found(&mut self, found: Found) {
        match found {
            Found::Past(each, looked_at) => {
                let unread = self.unread.map_or(0, |unread| unread.saturating_sub(looked_at));
                self.unread = Some(unread);
                let mut news = Vec::with_capacity(each.len());
                for (task, past, stamp) in each {
                    self.settled.insert(&task, stamp.print());
                    // Heard of meanwhile, or it waits again: then there is more to it than its result.
                    if self.said.get(&task).is_some() {
                        self.task(&task);
                    } else {
                        self.said.insert(&task, 0);
                        self.store.hub.used(&task);
                        news.push((task, past));
                    }
                }
                if looked_at > 0 {
                    self.say(Change::Found(news, unread));
                }
            }
            Found::Results(agent, names) => {
                for name in names {
                    self.results_name(&agent, name.as_ref(), false);
                }
            }
            Found::Tasks(tasks) => {
                for task in tasks {
                    self.task(&task);
                }
            }
            Found::End => {
                if self.unread.take().is_some_and(|unread| unread > 0) {
                    self.say(Change::Found(Vec::new(), 0));
                }
                self.results(false);
                self.survey();
            }
        }
    }

    fn list_claimed(&mut self, agent: &AgentName) {
        for id in Self::noted(self.store.claimed_ids(agent)).unwrap_or_default() {
            self.task(&TaskRef::new(agent.clone(), id));
        }
    }

    /// Looks at everything there is.
    pub(super) fn everything(&mut self) {
        self.open_work();
        if self.unread.is_none() {
            self.results(true);
        }
    }

    /// Looks where somebody hinted.
    pub(super) fn hints(&mut self, hints: Hints) {
        for found in hints.found {
            self.found(found);
        }
        self.later = Some(HashSet::new());
        // These are listed as a whole, however many names were hinted at.
        let mut listings = HashSet::new();
        for ((folder, name), whole) in hints.names {
            match &folder {
                Folder::Inbox(agent) => self.inbox_name(agent, &name, Some(whole)),
                Folder::Results(agent) => self.results_name(agent, &name, true),
                Folder::Rejected(_) | Folder::Root => drop(listings.insert(folder)),
                Folder::Requests(agent) => {
                    if let Some(name) = name.to_str() {
                        self.request(agent, name.to_owned());
                    }
                }
                Folder::Attempts(_) => {}
            }
        }
        for folder in listings {
            match folder {
                Folder::Rejected(agent) => self.list_rejected(&agent),
                Folder::Root => self.list_root(),
                Folder::Inbox(_) | Folder::Results(_) | Folder::Attempts(_) | Folder::Requests(_) => {}
            }
        }
        for task in hints.tasks {
            if let Some(name) = Self::noted(self.store.remembered(&task)).flatten() {
                self.inbox_name(&task.agent, name.as_ref(), Some(true));
            } else if self.store.layout.waiting(&task).exists() {
                self.inbox_name(&task.agent, json(&task.id).as_ref(), Some(true));
            }
            self.soon(&task);
        }
        for task in self.later.take().unwrap_or_default() {
            self.task(&task);
        }
        self.list_requests();
        self.trash();
    }

    /// Looks at the names that are due.
    pub(super) fn due(&mut self) {
        let now = Instant::now();
        while self.due.first().is_some_and(|(at, _, _)| *at <= now) {
            let Some((_, folder, name)) = self.due.pop_first() else { break };
            match &folder {
                Folder::Inbox(agent) => self.inbox_name(agent, &name, None),
                Folder::Results(agent) => self.results_name(agent, &name, false),
                Folder::Root | Folder::Attempts(_) | Folder::Rejected(_) | Folder::Requests(_) => {}
            }
        }
        self.set_some_aside();
        self.list_requests();
    }

    /// Checks everything that may have changed unheard; `deep` also looks at files that keep their names.
    pub(super) fn safety(&mut self, deep: bool) {
        let store = Arc::clone(&self.store);
        for agent in &store.settings.agents {
            if self.has_changed(store.layout.inbox(agent)) || deep {
                self.list_inbox(agent, deep);
            }
            // What is being read anyway is not read twice.
            if self.unread.is_none() && (self.has_changed(store.layout.results(agent)) || deep) {
                self.list_results(agent, deep);
            }
            if self.has_changed(store.layout.rejected(agent)) {
                self.list_rejected(agent);
            }
            if self.has_changed(store.layout.within(agent, ".claimed")) {
                self.list_claimed(agent);
            }
        }
        for task in self.open.clone() {
            self.task(&task);
        }
        self.list_requests();
        self.list_root();
        self.trash();
    }

    /// Tells what the trash holds, where that may have changed.
    fn trash(&mut self) {
        let store = Arc::clone(&self.store);
        let folders = |agent| [store.layout.trash(agent), store.layout.trash(agent).join(".files")];
        let folders: Vec<PathBuf> = store.settings.agents.iter().flat_map(folders).collect();
        let changed = folders.into_iter().filter(|folder| self.has_changed(folder.clone())).count();
        if changed > 0
            && let Some(removed) = Self::noted(store.removed())
            && removed != self.trash
        {
            self.trash.clone_from(&removed);
            self.say(Change::Trash(removed));
        }
    }

    /// Whether a folder's names may have changed since it was last asked. Asked twice after a change: clocks of file
    /// systems tick slowly.
    fn has_changed(&mut self, path: PathBuf) -> bool {
        let Ok(Some(stamp)) = Stamp::at(&path) else { return true };
        match self.listings.get_mut(&path) {
            Some((mtime, confirmed)) if *mtime == stamp.mtime => !std::mem::replace(confirmed, true),
            Some(_) | None => {
                self.listings.insert(path, (stamp.mtime, false));
                true
            }
        }
    }

    /// Derives a task again once all hints that came together have been gone through.
    fn soon(&mut self, task: &TaskRef) {
        match &mut self.later {
            Some(later) => drop(later.insert(task.clone())),
            None => self.task(task),
        }
    }

    /// Derives a task again and says so if the picture changed.
    fn task(&mut self, task: &TaskRef) {
        let answer = self.store.record(task);
        if let Some((path, sentence)) = answer.as_ref().err().and_then(attempts::damage) {
            self.damaged.insert(task.clone(), self.store.layout.shown(path));
            self.leave(path, sentence);
        }
        let Some(record) = Self::noted(answer) else {
            self.open.insert(task.clone());
            return;
        };
        if let Some(path) = self.damaged.remove(task) {
            self.unlist_one(&path);
        }
        let Some(record) = record else {
            self.open.remove(task);
            self.needs.remove(task);
            self.store.hub.unused(task);
            if self.said.remove(task).is_some() {
                self.say(Change::Gone(task.clone()));
            }
            return;
        };
        let is_open = match record.standing {
            Standing::Claimed | Standing::Running { .. } | Standing::Retrying { .. } | Standing::Asking { .. } => true,
            Standing::Waiting => false,
            Standing::Ended => {
                Self::noted(self.store.rest_waiting(task));
                false
            }
        };
        if record.standing == Standing::Ended {
            self.needs.remove(task);
        } else {
            self.needs.insert(&record.spec);
        }
        if is_open {
            self.open.insert(task.clone());
        } else {
            self.open.remove(task);
        }
        self.tell(record);
    }

    /// Says how a task stands, if that is news.
    fn tell(&mut self, record: TaskRecord) {
        let print = fingerprint(&record);
        let task = record.task();
        if self.said.insert(task, print) != Some(print) {
            self.store.hub.used(task);
            self.say(Change::Task(Box::new(record)));
        }
    }
}

/// The task that a result of this name usually belongs to.
fn named(agent: &AgentName, name: &OsStr) -> Option<TaskRef> {
    let id = TaskId::new(name.to_str()?.strip_suffix(".json")?).ok()?;
    Some(TaskRef::new(agent.clone(), id))
}

/// A record's fingerprint, small enough to keep a hundred thousand.
fn fingerprint(record: &TaskRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(record).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
