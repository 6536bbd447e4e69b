//! Where a task's own file lies now, for whoever wants to read it. Nothing here changes anything.

use std::path::{Path, PathBuf};

use super::layout::{Layout, json};
use crate::model::TaskRef;

/// A task's own file, wherever it lies: in the inbox (under `file`, where that is not the task's id), taken, or over.
pub fn lies(stage: &Path, task: &TaskRef, file: Option<&str>) -> Option<PathBuf> {
    let layout = Layout { stage: stage.to_owned() };
    let inbox = file.map_or_else(|| layout.waiting(task), |name| layout.inbox(&task.agent).join(name));
    let days = std::fs::read_dir(layout.all_done(&task.agent)).into_iter().flatten().flatten();
    let mut over: Vec<PathBuf> =
        days.map(|day| day.path().join(json(&task.id))).filter(|path| path.is_file()).collect();
    // A day's name sorts by its date.
    over.sort();
    let newest = over.pop();
    [inbox, layout.claimed(task), layout.dead(task)].into_iter().find(|path| path.is_file()).or(newest)
}
