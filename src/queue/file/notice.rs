//! What a watch has seen, and what it says about it: each change once.
//!
//! Everything runs on the watch's own thread. Its one surprise: a hint never carries news. It makes us look at a name
//! or derive a task again, and only a picture that differs from the last one sent goes out.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    ffi::{OsStr, OsString},
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    attempts,
    disk::{self, Stamp},
    intake::{Unfit, Why},
    layout::json,
    needs::Needs,
    objection::Objection,
    past::{self, Found, Names},
    requests,
    results::{self, Reading},
    store::{Judged, Look, Store, is_ignored, modified},
    watch::{Folder, Hints, Signal},
};
use crate::{
    model::{AgentName, Rejected, Removed, Standing, TaskId, TaskRecord, TaskRef, TaskSpec, text::scrub},
    queue::{Change, QueueError},
};

/// A file that may still grow is set aside after this long without a change, and a result of somebody else is believed.
pub(super) const REST: Duration = Duration::from_secs(5);
/// A file that is wrong, and whose writer was not seen to close it, after this long.
const SHORT_REST: Duration = Duration::from_secs(1);
/// A file that reads well, and whose writer was not seen to close it, is taken after this long.
const READY: Duration = Duration::from_millis(100);
/// A marker of a task that nobody knows is removed after this long.
const FORLORN: Duration = Duration::from_mins(1);

/// So many files are set aside before anything else is looked at again.
const BATCH: usize = 256;

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

    /// Looks at everything that has ended, as far as it is new; `deep` at all.
    fn results(&mut self, deep: bool) {
        let store = Arc::clone(&self.store);
        for agent in &store.settings.agents {
            self.list_results(agent, deep);
            for id in Self::noted(store.taken_ids(agent)).unwrap_or_default() {
                let task = TaskRef::new(agent.clone(), id);
                // The others' results were just looked at.
                if self.settled.get(&task).is_none() {
                    self.task(&task);
                }
            }
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

    /// Sets aside a part of what is unfit: what is fit never waits for all of it.
    fn set_some_aside(&mut self) {
        let mut batches: HashMap<AgentName, Vec<Unfit>> = HashMap::new();
        let mut tasks = Vec::new();
        for _ in 0..BATCH {
            let Some(Doomed { agent, name, judged, why, task }) = self.unfit.pop_front() else { break };
            let path = self.store.layout.inbox(&agent).join(&name);
            if judged.is_some() && Stamp::at(&path).ok().flatten() != judged {
                self.inbox_name(&agent, &name, None);
                continue;
            }
            tasks.extend(task);
            batches.entry(agent).or_default().push(Unfit { path, name, why });
        }
        for (agent, files) in batches {
            match self.store.reject_all(&agent, &files) {
                Ok(answers) => answers.into_iter().flatten().for_each(|rejected| self.list(rejected)),
                Err(error) => {
                    Self::noted::<()>(Err(error));
                    for file in files {
                        self.leave(&file.path, file.why.sentence);
                    }
                }
            }
        }
        for task in tasks {
            self.task(&task);
        }
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

    /// Tells what markers ask for, each once. What nobody can be asked for is listed, and removed after a while.
    fn list_requests(&mut self) {
        let store = Arc::clone(&self.store);
        for agent in &store.settings.agents {
            let folder = store.layout.requests(agent);
            let open = self.asked.iter().any(|((of, _), asked)| of == agent && !asked.told);
            if !self.has_changed(folder.clone()) && !open {
                continue;
            }
            let Some(names) = Self::noted(disk::text_names(&folder)) else { continue };
            let prefix = format!("{}/", store.layout.shown(&folder));
            self.asked.retain(|(of, name), _| of != agent || names.contains(name));
            self.unlist(|path| path.strip_prefix(&prefix).is_some_and(|name| !names.iter().any(|known| known == name)));
            for name in names {
                self.request(agent, name);
            }
        }
    }

    /// Looks at one marker.
    fn request(&mut self, agent: &AgentName, name: String) {
        let path = self.store.layout.requests(agent).join(&name);
        let Ok(Some(stamp)) = Stamp::at(&path) else { return };
        let Some((id, request)) = requests::asked(&name) else {
            return self.leave(&path, "A request is named ID.cancel or ID.retry.".to_owned());
        };
        let task = TaskRef::new(agent.clone(), id);
        let now = Instant::now();
        let asked = self.asked.entry((agent.clone(), name)).or_insert(Asked { stamp, since: now, told: false });
        if asked.stamp != stamp {
            *asked = Asked { stamp, since: now, told: false };
        }
        if asked.told {
            return;
        }
        if self.said.get(&task).is_some() {
            asked.told = true;
            let shown = self.store.layout.shown(&path);
            self.unlist(|listed| listed == shown);
            self.say(Change::Requested { task, request });
        } else if now.duration_since(asked.since) < SHORT_REST {
            // Its task may just be arriving.
        } else if now.duration_since(asked.since) < FORLORN {
            self.leave(&path, format!("Nobody knows a task {task}; the request is removed after a minute."));
        } else {
            Self::noted(self.store.answered(&task, request));
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

    /// Lists an inbox, oldest first, and looks at new names; `deep` at all.
    fn list_inbox(&mut self, agent: &AgentName, deep: bool) {
        let folder = Folder::Inbox(agent.clone());
        let path = self.store.layout.inbox(agent);
        let Some(names) = Self::noted(disk::names(&path)) else { return };
        let names: HashSet<OsString> = names.into_iter().collect();
        let known = |name: &OsString| self.seen.contains_key(&(folder.clone(), name.clone()));
        let fresh = names.iter().filter(|name| deep || !known(name)).cloned().collect();
        let fresh = self.store.look_ahead(agent, fresh);
        let absent: Vec<OsString> = self
            .seen
            .keys()
            .filter(|(place, name)| *place == folder && !names.contains(name))
            .map(|(_, name)| name.clone())
            .collect();
        for name in absent.into_iter().chain(fresh) {
            self.inbox_name(agent, &name, None);
        }
        let texts = names.iter().filter_map(|name| name.to_str().map(str::to_owned)).collect();
        self.store.forget_absent(agent, &texts);
        if deep {
            let shown = self.store.layout.shown(&path);
            match self.store.leftovers(agent, &names) {
                Some(reason) => self.leave(&path, reason),
                None => self.unlist_one(&shown),
            }
        }
        // Folders and links that were listed and are gone again.
        let prefix = format!("{}/", self.store.layout.shown(&path));
        self.unlist(|path| {
            path.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/') && !names.contains(OsStr::new(rest)))
        });
    }

    /// Takes listed files that match off the list.
    fn unlist(&mut self, is_gone: impl Fn(&str) -> bool) {
        let paths: Vec<String> = self.listed.keys().filter(|path| is_gone(path)).cloned().collect();
        for path in paths {
            self.listed.remove(&path);
            self.say(Change::RejectedGone(scrub(&path).into_owned()));
        }
    }

    /// Takes one listed file off the list, if it is on it.
    fn unlist_one(&mut self, path: &str) {
        if self.listed.remove(path).is_some() {
            self.say(Change::RejectedGone(scrub(path).into_owned()));
        }
    }

    /// Puts a file on the list, once.
    fn list(&mut self, rejected: Rejected) {
        let same = self.listed.get(&rejected.path).is_some_and(|known| known.reason == rejected.reason);
        if !same {
            self.listed.insert(rejected.path.clone(), rejected.clone());
            let path = scrub(&rejected.path).into_owned();
            self.say(Change::Rejected(Rejected { path, ..rejected }));
        }
    }

    /// Lists a file that stays where it is.
    fn leave(&mut self, path: &std::path::Path, reason: String) {
        let path = self.store.layout.shown(path);
        let at = self.store.now();
        self.list(Rejected { path, reason, at, moved: false, duplicate: false });
    }

    /// Has a file set aside soon.
    fn reject(&mut self, agent: &AgentName, name: &OsStr, judged: Option<Stamp>, why: Why, task: Option<TaskRef>) {
        self.seen.remove(&(Folder::Inbox(agent.clone()), name.to_owned()));
        self.unfit.push_back(Doomed { agent: agent.clone(), name: name.to_owned(), judged, why, task });
    }

    /// Looks at one name in an inbox. `hint` is `Some(true)` where its writer has let go of it.
    fn inbox_name(&mut self, agent: &AgentName, name: &OsStr, hint: Option<bool>) {
        let key = (Folder::Inbox(agent.clone()), name.to_owned());
        let path = self.store.layout.inbox(agent).join(name);
        let shown = self.store.layout.shown(&path);
        let look = self.store.look(agent, name);
        if !matches!(look, Look::Left(_) | Look::Unread(..)) {
            self.unlist_one(&shown);
        }
        let (stamp, judged) = match look {
            Look::Nothing => {
                if let Some(task) = self.seen.remove(&key).and_then(|seen| seen.task) {
                    self.soon(&task);
                }
                return;
            }
            Look::Left(reason) | Look::Unread(reason, _) => return self.leave(&path, reason),
            Look::Unfit(reason) => return self.reject(agent, name, None, Why::from(reason.as_str()), None),
            Look::File(stamp, judged) => (stamp, judged),
        };
        let now = Instant::now();
        let old = self.store.now().duration_since(modified(&stamp)).as_secs() >= 1;
        let seen =
            self.seen.entry(key.clone()).or_insert(Seen { stamp, since: now, whole: old, task: None, told: false });
        if seen.stamp != stamp {
            (seen.stamp, seen.since, seen.whole, seen.told) = (stamp, now, false, false);
        }
        if let Some(whole) = hint {
            seen.whole = whole;
        }
        let (rest, since) = (now.duration_since(seen.since), seen.since);
        let whole = seen.whole;
        let due = &mut self.due;
        let later = |wait: Duration| {
            due.insert((since + wait, key.0, key.1));
        };
        match &*judged {
            Judged::Task(_) if !whole && rest < READY => later(READY),
            Judged::Task(spec) => self.accept(agent, name, spec, hint.is_some()),
            Judged::MayGrow(_) if rest < REST => later(REST),
            Judged::Bad(_) if !whole && rest < SHORT_REST => later(SHORT_REST),
            Judged::MayGrow(reason) | Judged::Bad(reason) => {
                self.reject(agent, name, Some(stamp), Why::from(reason.as_str()), None);
            }
        }
    }

    /// Takes a well-formed file as a task, unless the id is known already.
    fn accept(&mut self, agent: &AgentName, name: &OsStr, spec: &TaskSpec, hinted: bool) {
        let key = (Folder::Inbox(agent.clone()), name.to_owned());
        let Some(seen) = self.seen.get_mut(&key) else { return };
        let (before, stamp) = (seen.task.replace(spec.task.clone()), seen.stamp);
        if std::mem::replace(&mut seen.told, true) {
            // A rescan of many known files must stay cheap.
            if hinted {
                self.task(&spec.task);
            }
            return;
        }
        if before.is_none() && self.is_new(spec) {
            let mut record = TaskRecord::new(spec.clone(), modified(&stamp));
            record.file = name.to_str().filter(|name| *name != json(&spec.task.id)).map(str::to_owned);
            self.needs.insert(spec);
            return self.tell(record);
        }
        let unfit = match Self::noted(self.store.objection(name, spec, &stamp)).flatten() {
            Some(Objection::Unfit(why)) => Some(why),
            Some(Objection::Newer { older, stamp, why }) => {
                // Somebody may claim the older one first; so this one is judged again when that is settled.
                if let Some(seen) = self.seen.get_mut(&key) {
                    seen.told = false;
                }
                self.due.insert((Instant::now() + READY, key.0, key.1));
                return self.reject(agent, &older, Some(stamp), why, Some(spec.task.clone()));
            }
            None => self.needs.cycle(spec, &self.store.settings.agents).map(|cycle| Why::from(cycle.as_str())),
        };
        if let Some(before) = before.filter(|before| *before != spec.task) {
            self.task(&before);
        }
        match unfit {
            Some(why) => self.reject(agent, name, Some(stamp), why, Some(spec.task.clone())),
            None => self.task(&spec.task),
        }
    }

    /// At the first look: whether there is nothing to be said of a task but what its file says.
    fn is_new(&self, spec: &TaskSpec) -> bool {
        let task = &spec.task;
        let Some(ended) = &self.ended else { return false };
        self.said.get(task).is_none()
            && self.store.hub.twin(task).is_none()
            && self.needs.cycle(spec, &self.store.settings.agents).is_none()
            && Self::noted(self.store.is_new(task, ended)) == Some(true)
    }

    /// Lists results and looks at new names; `deep` at all.
    fn list_results(&mut self, agent: &AgentName, deep: bool) {
        let folder = Folder::Results(agent.clone());
        let Some(names) = Self::noted(disk::names(&self.store.layout.results(agent))) else { return };
        let names: HashSet<OsString> = names.into_iter().collect();
        let absent: Vec<OsString> = self
            .seen
            .keys()
            .filter(|(place, name)| *place == folder && !names.contains(name))
            .map(|(_, name)| name.clone())
            .chain(self.settled.ids(agent).map(|id| json(id).into()).filter(|name| !names.contains(name)))
            .collect();
        for name in absent {
            self.results_name(agent, &name, false);
        }
        let is_settled = |settled: &ByTask<u64>, name: &OsString| {
            named(agent, name).is_some_and(|task| settled.get(&task).is_some())
        };
        for name in names {
            if deep || !(is_settled(&self.settled, &name) || self.seen.contains_key(&(folder.clone(), name.clone()))) {
                self.results_name(agent, &name, false);
            }
        }
    }

    /// Looks at one name in `results/{agent}/`.
    fn results_name(&mut self, agent: &AgentName, name: &OsStr, hinted: bool) {
        let Some(text) = name.to_str().filter(|_| !is_ignored(name)) else { return };
        let key = (Folder::Results(agent.clone()), name.to_owned());
        let path = self.store.layout.results(agent).join(name);
        if let Some(task) = named(agent, name)
            && let Some(known) = self.settled.get(&task).copied()
        {
            let stamp = Stamp::at(&path).ok().flatten();
            if stamp.is_some_and(|stamp| stamp.print() == known) {
                if hinted {
                    self.soon(&task);
                }
                return;
            }
            self.settled.remove(&task);
            self.soon(&task);
        }
        let shown = self.store.layout.shown(&path);
        let Some(reading) = Self::noted(self.store.reading(agent, text)) else { return };
        let Some((reading, stamp)) = reading else {
            self.unlist_one(&shown);
            if let Some(task) = self.seen.remove(&key).and_then(|seen| seen.task) {
                self.soon(&task);
            }
            return;
        };
        let now = Instant::now();
        let seen =
            self.seen.entry(key.clone()).or_insert(Seen { stamp, since: now, whole: true, task: None, told: false });
        let edited = seen.stamp != stamp;
        if edited {
            (seen.stamp, seen.since) = (stamp, now);
        }
        match &*reading {
            Reading::Result(outcome) => {
                let task = outcome.task.clone();
                let known = seen.task.replace(task.clone()).is_some_and(|known| known == task);
                let rested = !outcome.foreign || now.duration_since(seen.since) >= REST;
                if !rested {
                    self.due.insert((seen.since + REST, key.0.clone(), key.1.clone()));
                }
                if rested && named(agent, name).is_some_and(|named| named == task) {
                    self.seen.remove(&key);
                    self.settled.insert(&task, stamp.print());
                }
                if hinted || edited || !known || outcome.foreign {
                    self.unlist_one(&shown);
                    self.soon(&task);
                }
            }
            Reading::NotAnEnd(_) => {}
            Reading::Bad(_) if now.duration_since(seen.since) < REST => {
                self.due.insert((seen.since + REST, key.0, key.1));
            }
            Reading::Bad(sentence) => {
                let reason = if results::is_json(&path) {
                    format!("{shown} was not written by the control room and is not a result: {sentence}")
                } else {
                    format!("{shown} was not written by the control room and is not valid JSON.")
                };
                self.leave(&path, reason);
            }
        }
    }

    /// Compares `rejected/` with the list.
    fn list_rejected(&mut self, agent: &AgentName) {
        let known = |path: &str| self.listed.contains_key(path);
        let Some((there, fresh)) = Self::noted(self.store.set_aside(agent, known)) else { return };
        let prefix = format!("{}/", self.store.layout.shown(&self.store.layout.rejected(agent)));
        self.unlist(|path| path.starts_with(&prefix) && !there.contains(path));
        for rejected in fresh {
            self.list(rejected);
        }
    }

    /// Lists what lies in `tasks/` and belongs to nobody.
    fn list_root(&mut self) {
        let root = self.store.layout.all_tasks();
        let Some(strays) = Self::noted(self.store.strays()) else { return };
        let prefix = format!("{}/", self.store.layout.shown(&root));
        let shown: HashSet<String> = strays.keys().map(|path| self.store.layout.shown(path)).collect();
        let inboxes: HashSet<String> =
            self.store.settings.agents.iter().map(|a| self.store.layout.shown(&self.store.layout.inbox(a))).collect();
        self.unlist(|path| {
            let here = path == "tasks"
                || path.starts_with("dlq/")
                || path.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/'));
            here && !shown.contains(path) && !inboxes.contains(path)
        });
        for (path, reason) in strays {
            self.leave(&path, reason);
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

/// Something about very many tasks: an agent's name is kept once.
#[derive(Debug)]
struct ByTask<T>(HashMap<AgentName, HashMap<TaskId, T>>);

impl<T> Default for ByTask<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> ByTask<T> {
    fn get(&self, task: &TaskRef) -> Option<&T> {
        self.0.get(&task.agent)?.get(&task.id)
    }

    fn insert(&mut self, task: &TaskRef, value: T) -> Option<T> {
        if let Some(of) = self.0.get_mut(&task.agent) {
            return of.insert(task.id.clone(), value);
        }
        self.0.entry(task.agent.clone()).or_default().insert(task.id.clone(), value)
    }

    fn remove(&mut self, task: &TaskRef) -> Option<T> {
        self.0.get_mut(&task.agent)?.remove(&task.id)
    }

    fn ids(&self, agent: &AgentName) -> impl Iterator<Item = &TaskId> {
        self.0.get(agent).into_iter().flat_map(HashMap::keys)
    }
}

/// A record's fingerprint, small enough to keep a hundred thousand.
fn fingerprint(record: &TaskRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(record).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
