//! Files in `results/`: ours as soon as they are there, somebody else's when they are at rest.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    sync::Arc,
};

use tokio::time::Instant;

use super::{ByTask, Notice, REST, Seen, named};
use crate::{
    model::{AgentName, TaskRef},
    queue::file::{
        disk::{self, Stamp},
        layout::json,
        results::{self, Reading},
        store::is_ignored,
        watch::Folder,
    },
};

impl Notice {
    /// Looks at everything that has ended, as far as it is new; `deep` at all.
    pub(super) fn results(&mut self, deep: bool) {
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

    /// Lists results and looks at new names; `deep` at all.
    pub(super) fn list_results(&mut self, agent: &AgentName, deep: bool) {
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
    pub(super) fn results_name(&mut self, agent: &AgentName, name: &OsStr, hinted: bool) {
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
}
