//! Where everything lies below the stage. One resolver: no other module joins a path by hand.

use std::path::{Path, PathBuf};

use crate::model::{AgentName, AttemptRef, TaskId, TaskRef};

/// The suffix of a reason beside a rejected file.
pub(super) const REASON: &str = ".reason.json";

/// The places of one stage.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) stage: PathBuf,
}

impl Layout {
    /// `tasks/`.
    pub(super) fn all_tasks(&self) -> PathBuf {
        self.stage.join("tasks")
    }

    /// `tasks/{agent}/`, where anyone may drop files.
    pub(super) fn inbox(&self, agent: &AgentName) -> PathBuf {
        self.all_tasks().join(agent.as_str())
    }

    /// A folder of ours in the inbox.
    pub(super) fn within(&self, agent: &AgentName, folder: &str) -> PathBuf {
        self.inbox(agent).join(folder)
    }

    /// A waiting task under its own id.
    pub(super) fn waiting(&self, task: &TaskRef) -> PathBuf {
        self.inbox(&task.agent).join(json(&task.id))
    }

    /// A taken task.
    pub(super) fn claimed(&self, task: &TaskRef) -> PathBuf {
        self.within(&task.agent, ".claimed").join(json(&task.id))
    }

    /// A task that gave up.
    pub(super) fn dead(&self, task: &TaskRef) -> PathBuf {
        self.within(&task.agent, ".dead").join(json(&task.id))
    }

    /// `.done/`, which has one folder per day.
    pub(super) fn all_done(&self, agent: &AgentName) -> PathBuf {
        self.within(agent, ".done")
    }

    /// `.attempts/`, where attempts are put together before they are moved into place.
    pub(super) fn all_attempts(&self, agent: &AgentName) -> PathBuf {
        self.within(agent, ".attempts")
    }

    /// The folder of a task's attempts; it is also what a task's lock is taken on.
    pub(super) fn attempts(&self, task: &TaskRef) -> PathBuf {
        self.all_attempts(&task.agent).join(task.id.as_str())
    }

    /// The folder of one attempt.
    pub(super) fn attempt(&self, attempt: &AttemptRef) -> PathBuf {
        self.attempts(&attempt.task).join(attempt.n.to_string())
    }

    /// `.trash/`, where a removed task's attempts folder moves with everything in it.
    pub(super) fn trash(&self, agent: &AgentName) -> PathBuf {
        self.within(agent, ".trash")
    }

    /// `results/{agent}/.trash/`, the results of removed tasks.
    pub(super) fn results_trash(&self, agent: &AgentName) -> PathBuf {
        self.results(agent).join(".trash")
    }

    /// `.requests/`, where anyone may leave markers.
    pub(super) fn requests(&self, agent: &AgentName) -> PathBuf {
        self.within(agent, ".requests")
    }

    /// Files that could not become tasks.
    pub(super) fn rejected(&self, agent: &AgentName) -> PathBuf {
        self.within(agent, "rejected")
    }

    /// `results/{agent}/`.
    pub(super) fn results(&self, agent: &AgentName) -> PathBuf {
        self.stage.join("results").join(agent.as_str())
    }

    /// A task's result.
    pub(super) fn result(&self, task: &TaskRef) -> PathBuf {
        self.results(&task.agent).join(json(&task.id))
    }

    /// Half-written results.
    pub(super) fn results_temporary(&self, agent: &AgentName) -> PathBuf {
        self.results(agent).join(".tmp")
    }

    /// Results that a retry has moved aside.
    pub(super) fn superseded(&self, agent: &AgentName) -> PathBuf {
        self.results(agent).join(".superseded")
    }

    /// `path` as people write it: relative to the stage.
    pub(super) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.stage).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// Every folder one agent needs, outer ones first, and whether it is closed to others.
    pub(super) fn folders(&self, agent: &AgentName) -> Vec<(PathBuf, bool)> {
        let ours = [".tmp", ".claimed", ".attempts", ".done", ".dead", ".trash", ".trash/.open", ".trash/.files"];
        let mut folders =
            [self.inbox(agent), self.rejected(agent), self.requests(agent)].map(|path| (path, false)).to_vec();
        folders.extend(ours.map(|name| (self.within(agent, name), true)));
        folders.push((self.results(agent), false));
        let beside = [self.results_temporary(agent), self.superseded(agent), self.results_trash(agent)];
        folders.extend(beside.map(|path| (path, true)));
        folders.push((self.stage.join("logs").join(agent.as_str()), false));
        folders
    }
}

/// The file name of an id.
pub(super) fn json(id: &TaskId) -> String {
    format!("{id}.json")
}
