//! The trash: what a person threw away, whole, until it is purged.
//!
//! Owns `.trash/` of each agent's tasks and results. A removed task's attempts folder *is* its place in the trash: task
//! file and results' number move into it, and then it moves. Its one surprise: its note goes in first and comes out
//! last, so that whoever takes the task's lock next finds what was cut short and finishes it ([`Store::tidy`]).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    attempts,
    derive::Place,
    disk::{self, Stamp, failed},
    layout::{REASON, json},
    owner, results,
    store::Store,
};
use crate::{
    model::{AgentName, Item, Removed, Request, TaskId, TaskRef, text},
    queue::QueueError,
};

/// The note of a task that goes to the trash, or lies there.
const REMOVED: &str = "removed.json";
/// The same once it is on its way back.
const RESTORED: &str = "restored.json";
/// The start of the name of what is being deleted for good.
const PURGED: &str = ".purged-";

/// What is noted of a removed task.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    id: TaskId,
    title: String,
    at: Timestamp,
    /// Where its file lay, below `tasks/{agent}/`; `None` where only a result was left.
    from: Option<PathBuf>,
    /// Its number in the trash, the same for its results.
    k: u32,
}

/// `note.json` of a discarded file, which lies beside it under its own name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FileNote {
    /// Relative to the stage.
    path: String,
    reason: String,
    at: Timestamp,
}

impl Store {
    /// Throws away a task that does not run.
    pub(super) fn remove(&self, task: &TaskRef) -> Result<(), QueueError> {
        let lock = self.lock(task)?;
        let answer = self.remove_locked(task);
        drop(lock);
        self.hub.touched(task);
        answer
    }

    fn remove_locked(&self, task: &TaskRef) -> Result<(), QueueError> {
        let known = attempts::load(&self.layout, task)?;
        if let Some(current) = known.current().filter(|current| current.held) {
            let state = format!("running (attempt {})", current.n);
            return Err(QueueError::State { task: task.clone(), state });
        }
        let inbox = self.layout.inbox(&task.agent);
        let (path, from) = match self.place(task, true)? {
            Place::Inbox(name) => (inbox.join(&name), Some(PathBuf::from(name))),
            Place::Claimed => (self.layout.claimed(task), Some(Path::new(".claimed").join(json(&task.id)))),
            Place::Over(path) => (path.clone(), path.strip_prefix(&inbox).ok().map(Path::to_owned)),
            Place::Nowhere => (PathBuf::new(), None),
        };
        let title = match (&from, self.result_of(task)?) {
            (Some(_), _) => self.spec_at(&path, task)?.map(|(spec, _)| spec.title).unwrap_or_default(),
            (None, Some((outcome, _))) => text::first_line(&outcome.summary, 80),
            (None, None) => return Err(QueueError::Unknown(task.clone())),
        };
        let taken = self.in_trash(&task.agent)?.into_iter().filter(|(id, _)| *id == task.id).map(|(_, k)| k).max();
        let k = taken.unwrap_or_default() + 1;
        let note = Note { id: task.id.clone(), title, at: self.now(), from, k };
        let hint = self.layout.trash(&task.agent).join(".open").join(task.id.as_str());
        fs::write(&hint, "").map_err(failed("write", &hint))?;
        disk::sync_folder(&self.layout.trash(&task.agent).join(".open"))?;
        attempts::write(&self.layout, task, &self.layout.attempts(task).join(REMOVED), &note)?;
        self.finish_removal(task, &note)
    }

    /// Finishes what was cut short between this task and the trash. `true` where its folder has moved away by that. The
    /// task's lock is held.
    pub(super) fn tidy(&self, task: &TaskRef) -> Result<bool, QueueError> {
        let folder = self.layout.attempts(task);
        if let Some(note) = self.note(&task.agent, &folder.join(REMOVED))? {
            self.finish_removal(task, &note)?;
            return Ok(true);
        }
        if let Some(note) = self.note(&task.agent, &folder.join(RESTORED))? {
            self.finish_restoring(task, &note)?;
        }
        Ok(false)
    }

    /// Finishes what was cut short between an agent's tasks and the trash.
    pub(super) fn tidy_all(&self, agent: &AgentName) -> Result<(), QueueError> {
        let trash = self.layout.trash(agent);
        for name in disk::text_names(&trash.join(".open"))? {
            if let Ok(id) = TaskId::new(name) {
                drop(self.lock(&TaskRef::new(agent.clone(), id.clone()))?);
                self.close(&TaskRef::new(agent.clone(), id));
            }
        }
        for name in disk::text_names(&trash)? {
            if let Some(entry) = name.strip_prefix(PURGED) {
                self.delete(agent, entry)?;
            }
        }
        Ok(())
    }

    /// Reads a note; one that is damaged is set aside, and what it stood for stays where it is.
    fn note(&self, agent: &AgentName, path: &Path) -> Result<Option<Note>, QueueError> {
        let answer = attempts::read::<Note>(path);
        let Some((path, sentence)) = answer.as_ref().err().and_then(attempts::damage) else { return answer };
        self.reject(agent, path, path.file_name().unwrap_or_default(), &sentence)?;
        Ok(None)
    }

    /// The task file first, so that nobody takes it; the attempts folder, on which the lock is, last.
    fn finish_removal(&self, task: &TaskRef, note: &Note) -> Result<(), QueueError> {
        let (agent, folder) = (&task.agent, self.layout.attempts(task));
        if let Some(from) = &note.from {
            let from = self.layout.inbox(agent).join(from);
            self.forget(&from);
            move_if_there(&from, &folder.join("task.json"))?;
            disk::sync_folder(&folder)?;
            sync_parent(&from)?;
        }
        let to = self.layout.results_trash(agent).join(entry_name(&task.id, note.k));
        let superseded = self.layout.superseded(agent);
        let old = disk::text_names(&superseded)?;
        let old: Vec<&String> = old.iter().filter(|name| is_superseded(name, &task.id)).collect();
        let mut current = Vec::new();
        for name in results::names(&task.id) {
            if self.is_result_of(task, &name)? {
                current.push(name);
            }
        }
        if !(old.is_empty() && current.is_empty()) {
            disk::make_folder(&to.join("superseded"), true)?;
            for name in &old {
                move_if_there(&superseded.join(name), &to.join("superseded").join(name))?;
            }
            for name in &current {
                move_if_there(&self.layout.results(agent).join(name), &to.join(name))?;
            }
            disk::sync_folder(&to.join("superseded"))?;
            disk::sync_folder(&to)?;
            disk::sync_folder(&self.layout.results_trash(agent))?;
            disk::sync_folder(&self.layout.results(agent))?;
        }
        for n in attempts::numbers(&self.layout, task)? {
            disk::remove_quietly(&self.layout.stage.join(task.attempt(n).log()));
        }
        for request in [Request::Cancel, Request::Retry] {
            self.answered(task, request)?;
        }
        let entry = self.layout.trash(agent).join(entry_name(&task.id, note.k));
        fs::rename(&folder, &entry).map_err(failed("move", &folder))?;
        disk::sync_folder(&self.layout.trash(agent))?;
        disk::sync_folder(&self.layout.all_attempts(agent))?;
        self.close(task);
        Ok(())
    }

    /// Nothing is open between this task and the trash any more.
    fn close(&self, task: &TaskRef) {
        disk::remove_quietly(&self.layout.trash(&task.agent).join(".open").join(task.id.as_str()));
    }

    /// Brings back what was thrown away last under this name.
    pub(super) fn restore(&self, item: &Item) -> Result<(), QueueError> {
        match item {
            Item::Task(task) => self.restore_task(task),
            Item::File(path) => self.restore_file(path),
        }
    }

    fn restore_task(&self, task: &TaskRef) -> Result<(), QueueError> {
        let lock = self.lock(task)?;
        let answer = self.restore_locked(task);
        drop(lock);
        self.hub.touched(task);
        answer
    }

    fn restore_locked(&self, task: &TaskRef) -> Result<(), QueueError> {
        let (agent, folder) = (&task.agent, self.layout.attempts(task));
        let ks = self.in_trash(agent)?.into_iter().filter(|(id, _)| *id == task.id).map(|(_, k)| k);
        let Some(k) = ks.max() else { return Err(QueueError::Unknown(task.clone())) };
        let there_again = self.place(task, true)? != Place::Nowhere
            || self.result_of(task)?.is_some()
            || self.hub.twin(task).is_some()
            || !disk::names(&folder)?.is_empty();
        if there_again {
            return Err(QueueError::State { task: task.clone(), state: "there again, under the same id".into() });
        }
        let entry = self.layout.trash(agent).join(entry_name(&task.id, k));
        // The lock of the task as soon as the folder is back in its place; and nobody purges it meanwhile.
        let lock = disk::lock_folder(&entry)?;
        let gone = || QueueError::Unknown(task.clone());
        let note = match self.note(agent, &entry.join(REMOVED))? {
            Some(note) => {
                fs::rename(entry.join(REMOVED), entry.join(RESTORED)).map_err(failed("move", &entry))?;
                note
            }
            None => self.note(agent, &entry.join(RESTORED))?.ok_or_else(gone)?,
        };
        let hint = self.layout.trash(agent).join(".open").join(task.id.as_str());
        fs::write(&hint, "").map_err(failed("write", &hint))?;
        disk::sync_folder(&self.layout.trash(agent).join(".open"))?;
        disk::sync_folder(&entry)?;
        fs::rename(&entry, &folder).map_err(failed("move", &entry))?;
        disk::sync_folder(&self.layout.all_attempts(agent))?;
        disk::sync_folder(&self.layout.trash(agent))?;
        self.finish_restoring(task, &note)?;
        drop(lock);
        Ok(())
    }

    /// Results and logs first, the task file last: before that nobody can take it.
    fn finish_restoring(&self, task: &TaskRef, note: &Note) -> Result<(), QueueError> {
        let (agent, folder) = (&task.agent, self.layout.attempts(task));
        let from = self.layout.results_trash(agent).join(entry_name(&task.id, note.k));
        for name in disk::text_names(&from.join("superseded"))? {
            move_if_there(&from.join("superseded").join(&name), &self.layout.superseded(agent).join(&name))?;
        }
        for name in disk::text_names(&from)?.iter().filter(|name| *name != "superseded") {
            move_if_there(&from.join(name), &self.layout.results(agent).join(name))?;
        }
        disk::sync_folder(&self.layout.results(agent))?;
        disk::absent_as_none(fs::remove_dir_all(&from)).map_err(failed("remove", &from))?;
        for n in attempts::numbers(&self.layout, task)? {
            let attempt = task.attempt(n);
            let log = self.layout.stage.join(attempt.log());
            attempts::show_log(&self.layout.attempt(&attempt).join("out.log"), &log);
        }
        if let Some(place) = &note.from {
            let file = folder.join("task.json");
            // Where somebody else's file has its name now, it comes back as taken, and may be claimed from there.
            for to in [self.layout.inbox(agent).join(place), self.layout.claimed(task)] {
                if let Some(parent) = to.parent().filter(|parent| *parent != self.layout.inbox(agent)) {
                    disk::make_folder(parent, true)?;
                }
                self.forget(&to);
                move_if_there(&file, &to)?;
                sync_parent(&to)?;
            }
        }
        let noted = folder.join(RESTORED);
        disk::absent_as_none(fs::remove_file(&noted)).map_err(failed("remove", &noted))?;
        disk::sync_folder(&folder)?;
        self.close(task);
        Ok(())
    }

    /// Throws away a file that had been set aside.
    pub(super) fn discard(&self, path: &str) -> Result<(), QueueError> {
        let (agent, name) = self.set_aside_at(path)?;
        let folder = self.layout.rejected(&agent);
        let known = self.set_aside(&agent, |other| other != path)?.1.into_iter().next();
        let known = known.ok_or_else(|| QueueError::NoFile(path.to_owned()))?;
        let note = FileNote { path: path.to_owned(), reason: known.reason, at: self.now() };
        let bytes = serde_json::to_vec(&note).map_err(|error| failed("write", &folder)(error.into()))?;
        let files = self.layout.trash(&agent).join(".files");
        let entry = files.join(owner::temporary(&name));
        disk::make_folder(&entry, true)?;
        disk::write_synced(&entry.join("note.json"), &bytes, true)?;
        // The file first: a reason left alone means nothing.
        move_if_there(&folder.join(&name), &entry.join("file"))?;
        move_if_there(&folder.join(format!("{name}{REASON}")), &entry.join("reason"))?;
        disk::sync_folder(&entry)?;
        disk::sync_folder(&files)?;
        disk::sync_folder(&folder)
    }

    fn restore_file(&self, path: &str) -> Result<(), QueueError> {
        let (agent, name) = self.set_aside_at(path)?;
        let folder = self.layout.rejected(&agent);
        let newest =
            self.discarded(&agent)?.into_iter().filter(|(_, note)| note.path == path).max_by_key(|(_, n)| n.at);
        let Some((entry, _)) = newest else { return Err(QueueError::NoFile(path.to_owned())) };
        let to = folder.join(&name);
        if Stamp::at(&to).map_err(failed("look at", &to))?.is_some() {
            return Err(QueueError::Unsafe(format!("{path} is there again")));
        }
        move_if_there(&entry.join("reason"), &folder.join(format!("{name}{REASON}")))?;
        move_if_there(&entry.join("file"), &to)?;
        disk::sync_folder(&folder)?;
        disk::absent_as_none(fs::remove_dir_all(&entry)).map_err(failed("remove", &entry)).map(drop)
    }

    /// Agent and name of a file below some `rejected/`.
    fn set_aside_at(&self, path: &str) -> Result<(AgentName, String), QueueError> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["tasks", agent, "rejected", name] if !name.is_empty() && !name.starts_with('.') => {
                let agent = agent.parse::<AgentName>()?;
                self.known(&agent)?;
                Ok((agent, name.to_owned()))
            }
            _ => Err(QueueError::NoFile(path.to_owned())),
        }
    }

    /// What the trash holds, newest first.
    pub(super) fn removed(&self) -> Result<Vec<Removed>, QueueError> {
        let mut all = Vec::new();
        for agent in &self.settings.agents {
            for (id, k) in self.in_trash(agent)? {
                let entry = self.layout.trash(agent).join(entry_name(&id, k));
                if let Some(note) = noted(&entry) {
                    let item = Item::Task(TaskRef::new(agent.clone(), id));
                    all.push(Removed { item, title: note.title, at: note.at });
                }
            }
            let file = |(_, note): (PathBuf, FileNote)| Removed {
                item: Item::File(note.path),
                title: note.reason,
                at: note.at,
            };
            all.extend(self.discarded(agent)?.into_iter().map(file));
        }
        all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.item.cmp(&b.item)));
        Ok(all)
    }

    /// Deletes for good what was thrown away longer ago than this.
    pub(super) fn purge(&self, older: Duration) -> Result<usize, QueueError> {
        let limit = self.now().checked_sub(older).unwrap_or(Timestamp::MIN);
        let mut count = 0;
        for agent in &self.settings.agents {
            let trash = self.layout.trash(agent);
            for (id, k) in self.in_trash(agent)? {
                let name = entry_name(&id, k);
                let entry = trash.join(&name);
                let is_old = || noted(&entry).is_some_and(|note| note.at <= limit);
                if !is_old() {
                    continue;
                }
                let Ok(lock) = disk::lock_folder(&entry) else { continue };
                if !is_old() {
                    continue;
                }
                let moved = fs::rename(&entry, trash.join(format!("{PURGED}{name}")));
                drop(lock);
                // Somebody brought it back meanwhile.
                if disk::absent_as_none(moved).map_err(failed("move", &entry))?.is_some() {
                    self.delete(agent, &name)?;
                    count += 1;
                }
            }
            for (entry, note) in self.discarded(agent)? {
                if note.at <= limit {
                    disk::absent_as_none(fs::remove_dir_all(&entry)).map_err(failed("remove", &entry))?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    /// Deletes the attempts of a task; its lock is held, and with its folder it goes.
    pub(super) fn give_up_attempts(&self, task: &TaskRef) -> Result<(), QueueError> {
        let (folder, name) = (self.layout.attempts(task), entry_name(&task.id, 0));
        let away = self.layout.trash(&task.agent).join(format!("{PURGED}{name}"));
        fs::rename(&folder, away).map_err(failed("move", &folder))?;
        self.delete(&task.agent, &name)
    }

    /// Deletes a task of the trash whose folder was given up: its results, then the folder.
    fn delete(&self, agent: &AgentName, entry: &str) -> Result<(), QueueError> {
        let both =
            [self.layout.results_trash(agent).join(entry), self.layout.trash(agent).join(format!("{PURGED}{entry}"))];
        for path in both {
            disk::absent_as_none(fs::remove_dir_all(&path)).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    /// Tasks in an agent's trash and their numbers.
    fn in_trash(&self, agent: &AgentName) -> Result<Vec<(TaskId, u32)>, QueueError> {
        let parse = |name: &String| {
            let (id, k) = name.rsplit_once('.')?;
            Some((TaskId::new(id).ok()?, k.parse().ok()?))
        };
        Ok(disk::text_names(&self.layout.trash(agent))?.iter().filter_map(parse).collect())
    }

    /// Files in an agent's trash.
    fn discarded(&self, agent: &AgentName) -> Result<Vec<(PathBuf, FileNote)>, QueueError> {
        let files = self.layout.trash(agent).join(".files");
        let one = |name: String| {
            let entry = files.join(name);
            let note = serde_json::from_slice(&fs::read(entry.join("note.json")).ok()?).ok()?;
            fs::symlink_metadata(entry.join("file")).is_ok().then_some((entry, note))
        };
        Ok(disk::text_names(&files)?.into_iter().filter_map(one).collect())
    }
}

/// The note of an entry in the trash.
fn noted(entry: &Path) -> Option<Note> {
    let read = |name: &str| serde_json::from_slice(&fs::read(entry.join(name)).ok()?).ok();
    read(REMOVED).or_else(|| read(RESTORED))
}

/// The name of a task's entry in the trash.
fn entry_name(id: &TaskId, k: u32) -> String {
    format!("{id}.{k}")
}

/// Whether this is a result of `id` that a retry has moved aside: `{id}.{number}.json`.
pub(super) fn is_superseded(name: &str, id: &TaskId) -> bool {
    let number = name.strip_prefix(id.as_str()).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".json"));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Moves a file if it is there and its new place is free; both is decided already where a crash cut this short.
fn move_if_there(from: &Path, to: &Path) -> Result<(), QueueError> {
    match disk::rename_new(from, to) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("move", from)(error)),
    }
}

/// Makes the names around a file durable.
fn sync_parent(path: &Path) -> Result<(), QueueError> {
    path.parent().map_or(Ok(()), disk::sync_folder)
}
