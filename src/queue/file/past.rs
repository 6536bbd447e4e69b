//! Reading what ended before a watch began, newest first, while the watch goes on.
//!
//! Names first, content later and on several threads: open work never waits for it. Its one surprise: nothing here
//! says anything. What was read is left with the watch's hints, and the watch decides whether it is still so.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
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
    /// This many results are still to be read.
    Unread(usize),
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

/// Everything that ended, by name.
struct Names {
    agents: Vec<AgentName>,
    results: Vec<Name>,
    /// Folders of finished tasks, and which of them holds which task.
    folders: Vec<PathBuf>,
    over: Vec<HashMap<Box<str>, usize>>,
}

/// Starts to list; reading begins when the sender returned is dropped.
pub(super) fn start(store: &Arc<Store>, signal: &Arc<Signal>) -> std::io::Result<Sender<()>> {
    let (go, wait) = channel();
    let (store, ears) = (Arc::clone(store), Arc::downgrade(signal));
    let hand = move |found: Found| match ears.upgrade() {
        Some(signal) => {
            signal.leave(|hints| hints.found.push(found));
            true
        }
        None => false,
    };
    thread::Builder::new().name("queue-past".into()).spawn(move || {
        if let Err(error) = read_all(&store, &wait, &hand) {
            tracing::warn!(%error, "could not list what has ended");
        }
        hand(Found::End);
    })?;
    Ok(go)
}

fn read_all(store: &Arc<Store>, wait: &Receiver<()>, hand: &(impl Fn(Found) -> bool + Sync)) -> Result<(), QueueError> {
    let names = Names::list(store)?;
    hand(Found::Unread(names.results.len()));
    // Nothing is ever sent: this waits for the other end to be dropped.
    let _begun = wait.recv();
    let (newest, older) = names.results.split_at(names.results.len().min(Past::WHOLE));
    for (at, agent) in names.agents.iter().enumerate() {
        let of = newest.iter().filter(|name| name.agent == at).map(|name| format!("{}.json", name.stem)).collect();
        hand(Found::Results(agent.clone(), of));
        hand(Found::Tasks(names.without_result(at)));
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
        if let Some(agent) = names.agents.get(agent) {
            hand(Found::Results(agent.clone(), vec![name]));
        }
    }
    Ok(())
}

impl Names {
    fn list(store: &Store) -> Result<Self, QueueError> {
        let agents = store.settings.agents.clone();
        let (mut results, mut folders, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for (at, agent) in agents.iter().enumerate() {
            let folder = store.layout.results(agent);
            for name in disk::text_names(&folder)? {
                if let Some(stem) = name.strip_suffix(".json").filter(|_| !is_ignored(name.as_ref())) {
                    let mtime = Stamp::at(&folder.join(&name)).ok().flatten().map_or(0, |stamp| stamp.mtime);
                    results.push(Name { agent: at, stem: stem.into(), mtime });
                }
            }
            let done = store.layout.all_done(agent);
            let mut days = disk::text_names(&done)?;
            days.sort_unstable();
            let mut of = HashMap::new();
            // As everywhere: a later day hides an earlier one, and `.dead` hides both.
            let each = days.iter().map(|day| done.join(day)).chain([store.layout.within(agent, ".dead")]);
            for folder in each {
                for name in disk::text_names(&folder)? {
                    if let Some(stem) = name.strip_suffix(".json") {
                        of.insert(stem.into(), folders.len());
                    }
                }
                folders.push(folder);
            }
            over.push(of);
        }
        results.sort_unstable_by(|a, b| (b.mtime, &a.stem).cmp(&(a.mtime, &b.stem)));
        Ok(Self { agents, results, folders, over })
    }

    /// Tasks of an agent that are over and whose result is not there under its usual name.
    fn without_result(&self, agent: usize) -> Vec<TaskRef> {
        let (Some(over), Some(name)) = (self.over.get(agent), self.agents.get(agent)) else { return Vec::new() };
        let there: std::collections::HashSet<&str> =
            self.results.iter().filter(|result| result.agent == agent).map(|result| &*result.stem).collect();
        let missing = over.keys().filter(|stem| !there.contains(&***stem));
        missing.filter_map(|stem| Some(TaskRef::new(name.clone(), TaskId::new(&**stem).ok()?))).collect()
    }

    /// Reads one result; `None` where it is nothing usual.
    fn read(&self, store: &Store, name: &Name) -> Option<(TaskRef, Past, Stamp)> {
        let agent = self.agents.get(name.agent)?;
        let task = TaskRef::new(agent.clone(), TaskId::new(&*name.stem).ok()?);
        let path = store.layout.result(&task);
        let Opened::Whole { bytes, stamp, .. } = disk::open_regular(&path, results::LIMIT).ok()? else { return None };
        let Reading::Result(outcome) = results::read(&bytes, agent, &name.stem, modified(&stamp)) else { return None };
        if outcome.task != task {
            return None;
        }
        let folder = self.over.get(name.agent)?.get(&name.stem).and_then(|at| self.folders.get(*at));
        let (spec, seen_at) = match folder.and_then(|folder| spec_in(store, folder, &task)) {
            Some((spec, stamp)) => (spec, modified(&stamp)),
            None => (super::derive::spec_of_result(&outcome), outcome.started_at),
        };
        let past = Past::new(&spec, seen_at, &outcome);
        Some((task, past, stamp))
    }
}

fn spec_in(store: &Store, folder: &Path, task: &TaskRef) -> Option<(TaskSpec, Stamp)> {
    let (spec, stamp) = store.full_spec_at(&folder.join(json(&task.id)), task).ok()??;
    Some((display(spec), stamp))
}
