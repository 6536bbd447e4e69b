//! Whether a well-formed file may become a task, and the ids that are taken already.

use std::{collections::HashMap, ffi::OsStr, path::PathBuf};

use super::{
    derive::Place,
    disk::{self, Stamp},
    store::{Store, is_ignored},
};
use crate::{
    model::{AgentName, Standing, TaskId, TaskRecord, TaskRef, TaskSpec, text::scrub},
    queue::QueueError,
};

impl Store {
    /// Why a well-formed file cannot be accepted, if so.
    pub(super) fn objection(&self, name: &OsStr, spec: &TaskSpec, stamp: &Stamp) -> Result<Option<String>, QueueError> {
        let task = &spec.task;
        if let Some(twin) = self.hub.twin(task) {
            return Ok(Some(format!("{} and {twin} would collide.", task.id)));
        }
        let first = match self.place(task, false)? {
            Place::Inbox(other) if other.as_str() != name => self.layout.inbox(&task.agent).join(other),
            Place::Claimed => self.layout.claimed(task),
            Place::Over(path) => {
                let result = self.layout.result(task);
                if result.exists() {
                    let shown = self.layout.shown(&result);
                    return Ok(Some(format!("{shown} exists. Use a new id or ask for a retry.")));
                }
                path
            }
            Place::Inbox(_) | Place::Nowhere => {
                // A result older than the file is another task's; a newer one is this task's, done by somebody else.
                return Ok(self.result_of(task)?.filter(|(_, result)| result.mtime < stamp.ctime).map(|_| {
                    let shown = self.layout.shown(&self.layout.result(task));
                    format!("{shown} exists. Use a new id or ask for a retry.")
                }));
            }
        };
        let path = self.layout.inbox(&task.agent).join(name);
        let same = match (self.full_spec_at(&path, task)?, self.full_spec_at(&first, task)?) {
            (Some((mine, _)), Some((theirs, _))) => mine == theirs,
            (None, _) | (_, None) => return Ok(None),
        };
        if !same {
            return Ok(Some(format!("{} was already accepted with other content. Use a new id.", task.id)));
        }
        let state = self.record(task)?.map_or_else(|| "over".to_owned(), |record| standing_words(&record));
        Ok(Some(format!("Already accepted; it is {state}.")))
    }

    /// What lies in `tasks/` and belongs to nobody, and why.
    pub(super) fn strays(&self) -> Result<HashMap<PathBuf, String>, QueueError> {
        let root = self.layout.all_tasks();
        let names = disk::names(&root)?;
        let agents: Vec<&str> = self.settings.agents.iter().map(AgentName::as_str).collect();
        let mut strays = HashMap::new();
        for name in names {
            let text = name.to_string_lossy().into_owned();
            let path = root.join(&name);
            if text.starts_with('.') || agents.contains(&text.as_str()) {
                continue;
            }
            let text = scrub(&text).into_owned();
            if !path.is_dir() {
                strays.insert(path, format!("tasks/{text} is not in a worker's folder ({}).", agents.join(", ")));
                continue;
            }
            let inside = disk::names(&path).unwrap_or_default();
            let count = inside.iter().filter(|name| !is_ignored(name)).count();
            if count > 0 {
                let tasks = if count == 1 { "task" } else { "tasks" };
                strays.insert(path, format!("{count} {tasks} waiting for '{text}', no such worker"));
            }
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
