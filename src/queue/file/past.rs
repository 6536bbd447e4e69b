//! Reading what ended before a watch began, newest first, while the watch goes on.
//!
//! Names first, content later and on several threads: open work waits for the names only, which tell what is new. Its
//! one surprise: nothing here says anything. What was read is left with the watch's hints, and the watch decides whether
//! it is still so.

use std::{
    collections::{HashMap, HashSet},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    disk::{self, Opened, Stamp},
    layout::json,
    results::{self, Reading},
    store::{Store, display, is_ignored, modified},
    watch::Signal,
};
use crate::{
    model::{AgentName, Past, TaskId, TaskRef, TaskSpec},
    queue::QueueError,
};

/// Results that are read before the watch hears of them.
const BATCH: usize = 250;
/// Threads that read.
const THREADS: usize = 4;

/// Something read at the start.
#[derive(Debug)]
pub(super) enum Found {
    /// Results, in short, with the version of their files; this many names were looked at for them.
    Past(Vec<(TaskRef, Past, Stamp)>, usize),
    /// Names in `results/{agent}/` that the watch should look at itself.
    Results(AgentName, Vec<String>),
    /// Tasks that the watch should look at itself.
    Tasks(Vec<TaskRef>),
    /// That was all; not whether it went well.
    End,
}

/// A result's name and when it was written.
struct Name {
    agent: usize,
    stem: Box<str>,
    mtime: i128,
}

/// Everything that ended, by name: of each agent, in the order of the settings.
pub(super) struct Names(Vec<Ended>);

/// What of one agent ended.
struct Ended {
    agent: AgentName,
    /// Its results.
    results: HashSet<Box<str>>,
    /// Folders of finished tasks, and which of them holds which task.
    folders: Vec<PathBuf>,
    over: HashMap<Box<str>, usize>,
}

/// Starts to read what has these names.
pub(super) fn start(store: &Arc<Store>, signal: &Arc<Signal>, names: Names) -> std::io::Result<()> {
    let (store, ears) = (Arc::clone(store), Arc::downgrade(signal));
    let hand = move |found: Found| match ears.upgrade() {
        Some(signal) => {
            signal.leave(|hints| hints.found.push(found));
            true
        }
        None => false,
    };
    thread::Builder::new().name("queue-past".into()).spawn(move || {
        read_all(&store, names, &hand);
        hand(Found::End);
    })?;
    Ok(())
}

fn read_all(store: &Store, mut names: Names, hand: &(impl Fn(Found) -> bool + Sync)) {
    let missing: Vec<Vec<TaskRef>> = names.0.iter().map(Ended::without_result).collect();
    let results = names.take_results(store);
    let (newest, older) = results.split_at(results.len().min(Past::WHOLE));
    for ((at, of), missing) in names.0.iter().enumerate().zip(missing) {
        let own = newest.iter().filter(|name| name.agent == at).map(|name| format!("{}.json", name.stem)).collect();
        hand(Found::Results(of.agent.clone(), own));
        hand(Found::Tasks(missing));
    }
    hand(Found::Past(Vec::new(), newest.len()));
    let next = AtomicUsize::new(0);
    let batches: Vec<&[Name]> = older.chunks(BATCH).collect();
    let strange = Mutex::new(Vec::new());
    let work = || {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut past = Vec::with_capacity(batch.len());
            for name in *batch {
                match names.read(store, name) {
                    Some(read) => past.push(read),
                    None => super::store::lock(&strange).push((name.agent, format!("{}.json", name.stem))),
                }
            }
            if !hand(Found::Past(past, batch.len())) {
                return;
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    for (agent, name) in std::mem::take(&mut *super::store::lock(&strange)) {
        if let Some(of) = names.0.get(agent) {
            hand(Found::Results(of.agent.clone(), vec![name]));
        }
    }
}

impl Names {
    /// Lists them, each agent's on a thread of its own.
    pub(super) fn list(store: &Store) -> Result<Self, QueueError> {
        let agents = &store.settings.agents;
        let list = |agent| Ended::list(store, agent);
        thread::scope(|scope| {
            let threads: Vec<_> = agents.iter().map(|agent| scope.spawn(move || list(agent))).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            ended.collect::<Result<_, _>>().map(Self)
        })
    }

    /// How many results there are.
    pub(super) fn results(&self) -> usize {
        self.0.iter().map(|of| of.results.len()).sum()
    }

    /// Whether a task has a result, or its file rests where what is over does.
    pub(super) fn knows(&self, task: &TaskRef) -> bool {
        let Some(of) = self.0.iter().find(|of| of.agent == task.agent) else { return false };
        let is_result = |name: String| name.strip_suffix(".json").is_some_and(|stem| of.results.contains(stem));
        of.over.contains_key(task.id.as_str()) || results::names(&task.id).into_iter().any(is_result)
    }

    /// The results, newest first.
    fn take_results(&mut self, store: &Store) -> Vec<Name> {
        let mut all = Vec::with_capacity(self.results());
        for (at, of) in self.0.iter_mut().enumerate() {
            let folder = store.layout.results(&of.agent);
            for stem in std::mem::take(&mut of.results) {
                let mtime = Stamp::at(&folder.join(format!("{stem}.json"))).ok().flatten();
                all.push(Name { agent: at, stem, mtime: mtime.map_or(0, |stamp| stamp.mtime) });
            }
        }
        all.sort_unstable_by(|a, b| (b.mtime, &a.stem).cmp(&(a.mtime, &b.stem)));
        all
    }

    /// Reads one result; `None` where it is nothing usual.
    fn read(&self, store: &Store, name: &Name) -> Option<(TaskRef, Past, Stamp)> {
        let of = self.0.get(name.agent)?;
        let agent = &of.agent;
        let task = TaskRef::new(agent.clone(), TaskId::new(&*name.stem).ok()?);
        let path = store.layout.result(&task);
        let Opened::Whole { bytes, stamp, .. } = disk::open_regular(&path, results::LIMIT).ok()? else { return None };
        let Reading::Result(outcome) = results::read(&bytes, agent, &name.stem, modified(&stamp)) else { return None };
        if outcome.task != task {
            return None;
        }
        let folder = of.over.get(&name.stem).and_then(|at| of.folders.get(*at));
        let (spec, seen_at) = match folder.and_then(|folder| spec_in(store, folder, &task)) {
            Some((spec, stamp)) => (spec, modified(&stamp)),
            None => (super::derive::spec_of_result(&outcome), outcome.started_at),
        };
        let past = Past::new(&spec, seen_at, &outcome);
        Some((task, past, stamp))
    }
}

impl Ended {
    fn list(store: &Store, agent: &AgentName) -> Result<Self, QueueError> {
        let mut results = HashSet::new();
        for name in disk::text_names(&store.layout.results(agent))? {
            results.extend(name.strip_suffix(".json").filter(|_| !is_ignored(name.as_ref())).map(Box::from));
        }
        let done = store.layout.all_done(agent);
        let mut days = disk::text_names(&done)?;
        days.sort_unstable();
        let (mut folders, mut over) = (Vec::new(), HashMap::new());
        // As everywhere: a later day hides an earlier one, and `.dead` hides both.
        for folder in days.iter().map(|day| done.join(day)).chain([store.layout.within(agent, ".dead")]) {
            for name in disk::text_names(&folder)? {
                if let Some(stem) = name.strip_suffix(".json") {
                    over.insert(stem.into(), folders.len());
                }
            }
            folders.push(folder);
        }
        Ok(Self { agent: agent.clone(), results, folders, over })
    }

    /// Tasks that are over and whose result is not there under its usual name.
    fn without_result(&self) -> Vec<TaskRef> {
        let missing = self.over.keys().filter(|stem| !self.results.contains(*stem));
        missing.filter_map(|stem| Some(TaskRef::new(self.agent.clone(), TaskId::new(&**stem).ok()?))).collect()
    }
}

fn spec_in(store: &Store, folder: &Path, task: &TaskRef) -> Option<(TaskSpec, Stamp)> {
    let (spec, stamp) = store.full_spec_at(&folder.join(json(&task.id)), task).ok()??;
    Some((display(spec), stamp))
}
