//! What older programs put away: results in `archive/{agent}/{success,failed}/`, given-up tasks in `dlq/{agent}/`.
//!
//! Nothing is ever written there. A stage without these folders pays nothing for them.

use std::{collections::HashMap, path::PathBuf};

use super::{
    disk::{self, Opened, Stamp, failed},
    results::{self, Reading},
    store::{Store, modified},
};
use crate::{
    model::{AgentName, Outcome, TaskId, TaskRef},
    queue::QueueError,
};

/// The end of a result's name in an archive.
const ENDING: &str = "-result.json";

impl Store {
    fn archives(&self, agent: &AgentName) -> [PathBuf; 2] {
        let archive = self.layout.stage.join("archive").join(agent.as_str());
        [archive.join("success"), archive.join("failed")]
    }

    /// A task's result from the archive.
    pub(super) fn archived(&self, task: &TaskRef) -> Result<Option<(Outcome, Stamp)>, QueueError> {
        if !self.has_archive {
            return Ok(None);
        }
        for folder in self.archives(&task.agent) {
            let path = folder.join(format!("{}{ENDING}", task.id));
            if let Opened::Whole { bytes, stamp, .. } =
                disk::open_regular(&path, results::LIMIT).map_err(failed("read", &path))?
                && let Reading::Result(outcome) = results::read(&bytes, &task.agent, task.id.as_str(), modified(&stamp))
                && outcome.task.id == task.id
            {
                return Ok(Some((*outcome, stamp)));
            }
        }
        Ok(None)
    }

    /// The ids of an agent's archived results.
    pub(super) fn archived_ids(&self, agent: &AgentName) -> Result<Vec<TaskId>, QueueError> {
        let mut ids = Vec::new();
        for folder in self.archives(agent) {
            let names = disk::text_names(&folder)?;
            ids.extend(names.iter().filter_map(|name| TaskId::new(name.strip_suffix(ENDING)?).ok()));
        }
        Ok(ids)
    }

    /// Folders of tasks that an older program gave up, and what a person may do about them.
    pub(super) fn dead_letters(&self) -> Result<HashMap<PathBuf, String>, QueueError> {
        let mut folders = HashMap::new();
        for agent in &self.settings.agents {
            let folder = self.layout.stage.join("dlq").join(agent.as_str());
            if let Some(sentence) = gave_up(disk::names(&folder)?.len(), &format!("tasks/{agent}/")) {
                folders.insert(folder, sentence);
            }
        }
        let folder = self.layout.all_tasks().join(".dead_letter");
        if let Some(sentence) = gave_up(disk::names(&folder)?.len(), "its worker's folder") {
            folders.insert(folder, sentence);
        }
        Ok(folders)
    }
}

fn gave_up(count: usize, whereto: &str) -> Option<String> {
    let tasks = if count == 1 { "task" } else { "tasks" };
    let sentence = format!("{count} {tasks} that an older program gave up; move one to {whereto} to run it again.");
    (count > 0).then_some(sentence)
}
