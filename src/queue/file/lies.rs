//! Where a task's own file lies now. Nothing here changes anything.

use std::path::{Path, PathBuf};

use super::{
    derive::exists,
    disk,
    layout::{Layout, json},
};
use crate::{model::TaskRef, queue::QueueError};

/// A task's own file, wherever it lies: in the inbox (under `file`, where that is not the task's id), taken, or over.
pub fn lies(stage: &Path, task: &TaskRef, file: Option<&str>) -> Option<PathBuf> {
    let layout = Layout { stage: stage.to_owned() };
    let inbox = file.map_or_else(|| layout.waiting(task), |name| layout.inbox(&task.agent).join(name));
    let open = [inbox, layout.claimed(task)].into_iter().find(|path| path.is_file());
    open.or_else(|| layout.over(task).ok().flatten())
}

impl Layout {
    /// The file of a task that is over, from the newest day that has one.
    pub(super) fn over(&self, task: &TaskRef) -> Result<Option<PathBuf>, QueueError> {
        let dead = self.dead(task);
        if exists(&dead)? {
            return Ok(Some(dead));
        }
        let done = self.all_done(&task.agent);
        let mut days = disk::text_names(&done)?;
        // A day's name sorts by its date.
        days.sort_unstable_by(|a, b| b.cmp(a));
        for day in days {
            let path = done.join(day).join(json(&task.id));
            if exists(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}
