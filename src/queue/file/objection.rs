//! Whether a well-formed file may become a task, and the ids that are taken already.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use jiff::SignedDuration;

use super::{
    derive::Place,
    disk::{self, Stamp},
    intake::Why,
    store::{Store, is_ignored, modified},
};
use crate::{
    model::{AgentName, Standing, TaskId, TaskRecord, TaskRef, TaskSpec, text::scrub},
    queue::QueueError,
};

/// How long a name that ends in something else than `.json` may lie in an inbox before it is mentioned.
const LEFT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// So many files that lie in `tasks/` itself are listed one by one.
const STRAYS: usize = 100;

/// What stands against a well-formed file.
#[derive(Debug)]
pub(super) enum Objection {
    /// It is set aside.
    Unfit(Why),
    /// It counts, and the older file of its id is set aside.
    Newer {
        /// That file's name.
        older: OsString,
        /// Its version.
        stamp: Stamp,
        /// Why it is.
        why: Why,
    },
}

/// Whether a name is nobody's business and not one of those that programs leave for a moment.
fn is_leftover(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let passing = ["~", ".tmp", ".part", ".swp", ".crdownload", ".lock", ".json"];
    !name.starts_with('.') && name != "rejected" && !passing.iter().any(|end| name.ends_with(end))
}

impl Store {
    /// What stands against a well-formed file, if anything does.
    pub(super) fn objection(
        &self,
        name: &OsStr,
        spec: &TaskSpec,
        stamp: &Stamp,
    ) -> Result<Option<Objection>, QueueError> {
        let task = &spec.task;
        let unfit = |sentence: String| Ok(Some(Objection::Unfit(Why { sentence, duplicate: false })));
        if let Some(twin) = self.hub.twin(task) {
            return unfit(format!("{} and {twin} would collide.", task.id));
        }
        let place = self.place(task, false)?;
        let first = match &place {
            Place::Inbox(other) if other.as_str() != name => self.layout.inbox(&task.agent).join(other),
            Place::Claimed => self.layout.claimed(task),
            Place::Over(path) => {
                let result = self.layout.result(task);
                if result.exists() {
                    return unfit(self.result_there(&result));
                }
                path.clone()
            }
            Place::Inbox(_) | Place::Nowhere => {
                // A result older than the file is another task's; a newer one is this task's, done by somebody else.
                return match self.result_of(task)?.filter(|(_, result)| result.mtime < stamp.ctime) {
                    Some(_) => unfit(self.result_there(&self.layout.result(task))),
                    None => Ok(None),
                };
            }
        };
        let path = self.layout.inbox(&task.agent).join(name);
        let (Some((mine, _)), Some((theirs, other))) =
            (self.full_spec_at(&path, task)?, self.full_spec_at(&first, task)?)
        else {
            return Ok(None);
        };
        if mine == theirs {
            let state = self.record(task)?.map_or_else(|| "over".to_owned(), |record| standing_words(&record));
            let sentence = format!("Already accepted; it is {state}.");
            return Ok(Some(Objection::Unfit(Why { sentence, duplicate: true })));
        }
        // Of two that wait the one that came last counts, as if it had the same name.
        if let Place::Inbox(older) = place
            && (other.ctime, older.as_str()) <= (stamp.ctime, name.to_str().unwrap_or_default())
        {
            let newer = scrub(&name.to_string_lossy()).into_owned();
            let sentence = format!("{} says something else in {newer}, which is newer.", task.id);
            let why = Why { sentence, duplicate: false };
            return Ok(Some(Objection::Newer { older: older.into(), stamp: other, why }));
        }
        unfit(format!("{} was already accepted with other content. Use a new id.", task.id))
    }

    fn result_there(&self, result: &Path) -> String {
        format!("{} exists. Use a new id or ask for a retry.", self.layout.shown(result))
    }

    /// Names in an inbox that mean nothing to us and have lain there for long, as one sentence.
    pub(super) fn leftovers(&self, agent: &AgentName, names: &HashSet<OsString>) -> Option<String> {
        let inbox = self.layout.inbox(agent);
        let now = self.now();
        let mut old: Vec<String> = names
            .iter()
            .filter(|name| is_leftover(name))
            .filter(|name| {
                let stamp = Stamp::at(&inbox.join(name)).ok().flatten();
                stamp.is_some_and(|stamp| now.duration_since(modified(&stamp)) >= LEFT_FOR)
            })
            .map(|name| scrub(&name.to_string_lossy()).into_owned())
            .collect();
        old.sort_unstable();
        let first = old.first()?;
        let more = match old.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let verb = if old.len() == 1 { "has" } else { "have" };
        Some(format!("{first}{more} {verb} lain here for over an hour; only names ending in .json are tasks."))
    }

    /// What lies in `tasks/` and belongs to nobody, and why.
    pub(super) fn strays(&self) -> Result<HashMap<PathBuf, String>, QueueError> {
        let root = self.layout.all_tasks();
        let mut names = disk::names(&root)?;
        names.sort_unstable();
        let agents: Vec<&str> = self.settings.agents.iter().map(AgentName::as_str).collect();
        let mut strays = self.dead_letters()?;
        let mut files = 0_usize;
        for name in names {
            let text = name.to_string_lossy().into_owned();
            let path = root.join(&name);
            if text.starts_with('.') || agents.contains(&text.as_str()) {
                continue;
            }
            let text = scrub(&text).into_owned();
            if !path.is_dir() {
                files += 1;
                if files <= STRAYS {
                    strays.insert(path, format!("tasks/{text} is not in a worker's folder ({}).", agents.join(", ")));
                }
                continue;
            }
            let inside = disk::names(&path).unwrap_or_default();
            let count = inside.iter().filter(|name| !is_ignored(name)).count();
            if count > 0 {
                let tasks = if count == 1 { "task" } else { "tasks" };
                strays.insert(path, format!("{count} {tasks} waiting for '{text}', no such worker"));
            }
        }
        if files > STRAYS {
            strays.insert(
                root,
                format!("{files} files lie in tasks/ and in no worker's folder ({}).", agents.join(", ")),
            );
        }
        Ok(strays)
    }

    /// The ids in `.claimed/`.
    pub(super) fn claimed_ids(&self, agent: &AgentName) -> Result<Vec<TaskId>, QueueError> {
        let names = disk::text_names(&self.layout.within(agent, ".claimed"))?;
        Ok(names.iter().filter_map(|name| TaskId::new(name.strip_suffix(".json")?).ok()).collect())
    }

    /// Every id that was taken once: open, ended, given up.
    pub(super) fn taken_ids(&self, agent: &AgentName) -> Result<Vec<TaskId>, QueueError> {
        let mut ids = self.claimed_ids(agent)?;
        ids.extend(self.archived_ids(agent)?);
        let done = self.layout.all_done(agent);
        let mut folders = vec![self.layout.within(agent, ".dead")];
        folders.extend(disk::text_names(&done)?.into_iter().map(|day| done.join(day)));
        for folder in folders {
            let names = disk::text_names(&folder)?;
            ids.extend(names.iter().filter_map(|name| TaskId::new(name.strip_suffix(".json")?).ok()));
        }
        Ok(ids)
    }

    /// Puts a waiting file to rest whose result somebody else has written.
    pub(super) fn rest_waiting(&self, task: &TaskRef) -> Result<(), QueueError> {
        let Some(name) = self.remembered(task)? else { return Ok(()) };
        let lock = self.lock(task)?;
        let path = self.layout.inbox(&task.agent).join(name);
        if let Some((outcome, result)) = self.result_of(task)?
            && let Some(stamp) = Stamp::at(&path).map_err(disk::failed("look at", &path))?
            && stamp.ctime <= result.mtime
            && disk::rename_new(&path, &self.layout.claimed(task)).map_err(disk::failed("move", &path))?
        {
            self.put_to_rest(task, outcome.state)?;
        }
        drop(lock);
        Ok(())
    }
}

/// Where a task stands, after "it is".
fn standing_words(record: &TaskRecord) -> String {
    match (&record.standing, &record.outcome) {
        (Standing::Waiting, _) => "waiting".into(),
        (Standing::Claimed, _) => "claimed".into(),
        (Standing::Running { attempt }, _) => format!("running (attempt {attempt})"),
        (Standing::Retrying { attempt, .. }, _) => format!("waiting for attempt {}", attempt + 1),
        (Standing::Asking { attempt }, _) => format!("waiting for a decision (attempt {attempt} was lost)"),
        (Standing::Ended, Some(outcome)) => outcome.state.word().into(),
        (Standing::Ended, None) => "over".into(),
    }
}
