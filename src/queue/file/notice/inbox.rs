//! Files in an inbox, and those that are set aside: judged when they are at rest, taken once.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    time::Duration,
};

use tokio::time::Instant;

use super::{Doomed, Notice, REST, Seen};
use crate::{
    model::{AgentName, Rejected, TaskRecord, TaskRef, TaskSpec, text::scrub},
    queue::{
        Change,
        file::{
            disk::{self, Stamp},
            intake::{Unfit, Why},
            layout::json,
            objection::Objection,
            store::{Judged, Look, modified},
            watch::Folder,
        },
    },
};

/// A file that is wrong, and whose writer was not seen to close it, after this long.
pub(super) const SHORT_REST: Duration = Duration::from_secs(1);
/// A file that reads well, and whose writer was not seen to close it, is taken after this long.
const READY: Duration = Duration::from_millis(100);
/// So many files are set aside before anything else is looked at again.
const BATCH: usize = 256;

impl Notice {
    /// Sets aside a part of what is unfit: what is fit never waits for all of it.
    pub(super) fn set_some_aside(&mut self) {
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

    /// Lists an inbox, oldest first, and looks at new names; `deep` at all.
    pub(super) fn list_inbox(&mut self, agent: &AgentName, deep: bool) {
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
    pub(super) fn unlist(&mut self, is_gone: impl Fn(&str) -> bool) {
        let paths: Vec<String> = self.listed.keys().filter(|path| is_gone(path)).cloned().collect();
        for path in paths {
            self.listed.remove(&path);
            self.say(Change::RejectedGone(scrub(&path).into_owned()));
        }
    }

    /// Takes one listed file off the list, if it is on it.
    pub(super) fn unlist_one(&mut self, path: &str) {
        if self.listed.remove(path).is_some() {
            self.say(Change::RejectedGone(scrub(path).into_owned()));
        }
    }

    /// Puts a file on the list, once.
    pub(super) fn list(&mut self, rejected: Rejected) {
        let same = self.listed.get(&rejected.path).is_some_and(|known| known.reason == rejected.reason);
        if !same {
            self.listed.insert(rejected.path.clone(), rejected.clone());
            let path = scrub(&rejected.path).into_owned();
            self.say(Change::Rejected(Rejected { path, ..rejected }));
        }
    }

    /// Lists a file that stays where it is.
    pub(super) fn leave(&mut self, path: &std::path::Path, reason: String) {
        let path = self.store.layout.shown(path);
        let at = self.store.now();
        self.list(Rejected { path, reason, at, moved: false, duplicate: false });
    }

    /// Has a file set aside soon.
    pub(super) fn reject(
        &mut self,
        agent: &AgentName,
        name: &OsStr,
        judged: Option<Stamp>,
        why: Why,
        task: Option<TaskRef>,
    ) {
        self.seen.remove(&(Folder::Inbox(agent.clone()), name.to_owned()));
        self.unfit.push_back(Doomed { agent: agent.clone(), name: name.to_owned(), judged, why, task });
    }

    /// Looks at one name in an inbox. `hint` is `Some(true)` where its writer has let go of it.
    pub(super) fn inbox_name(&mut self, agent: &AgentName, name: &OsStr, hint: Option<bool>) {
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
        // At the first look it may have rested for a while.
        let age = Duration::try_from(self.store.now().duration_since(modified(&stamp))).unwrap_or_default();
        let since = now.checked_sub(age.min(READY)).unwrap_or(now);
        let whole = age >= SHORT_REST;
        let seen = self.seen.entry(key.clone()).or_insert(Seen { stamp, since, whole, task: None, told: false });
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
    pub(super) fn accept(&mut self, agent: &AgentName, name: &OsStr, spec: &TaskSpec, hinted: bool) {
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
    pub(super) fn is_new(&self, spec: &TaskSpec) -> bool {
        let task = &spec.task;
        let Some(ended) = &self.ended else { return false };
        self.said.get(task).is_none()
            && self.store.hub.twin(task).is_none()
            && self.needs.cycle(spec, &self.store.settings.agents).is_none()
            && Self::noted(self.store.is_new(task, ended)) == Some(true)
    }

    /// Compares `rejected/` with the list.
    pub(super) fn list_rejected(&mut self, agent: &AgentName) {
        let known = |path: &str| self.listed.contains_key(path);
        let Some((there, fresh)) = Self::noted(self.store.set_aside(agent, known)) else { return };
        let prefix = format!("{}/", self.store.layout.shown(&self.store.layout.rejected(agent)));
        self.unlist(|path| path.starts_with(&prefix) && !there.contains(path));
        for rejected in fresh {
            self.list(rejected);
        }
    }

    /// Lists what lies in `tasks/` and belongs to nobody.
    pub(super) fn list_root(&mut self) {
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
}
