//! Markers that anyone may leave: `tasks/{agent}/.requests/{id}.cancel` and `.retry`.
//!
//! Its one surprise: a marker is a wish, not a fact. The room that runs does what it asks and takes it away; the queue
//! takes a retry's away itself, in the middle of the retry, so that no crash lets it happen twice.

use std::fs;

use super::{
    disk::{self, failed},
    store::Store,
};
use crate::{
    model::{Request, TaskId, TaskRef},
    queue::QueueError,
};

/// What a marker's name asks for.
pub(super) fn asked(name: &str) -> Option<(TaskId, Request)> {
    let (id, word) = name.rsplit_once('.')?;
    let request = [Request::Cancel, Request::Retry].into_iter().find(|request| request.word() == word)?;
    Some((TaskId::new(id).ok()?, request))
}

impl Store {
    /// Leaves a marker, durably.
    pub(super) fn request(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.known(&task.agent)?;
        if self.record(task)?.is_none() {
            return Err(QueueError::Unknown(task.clone()));
        }
        let path = self.marker(task, request);
        fs::write(&path, "").map_err(failed("write", &path))?;
        disk::sync_folder(&self.layout.requests(&task.agent))?;
        self.hub.touched(task);
        Ok(())
    }

    /// Takes a marker away.
    pub(super) fn answered(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.known(&task.agent)?;
        let path = self.marker(task, request);
        disk::absent_as_none(fs::remove_file(&path)).map_err(failed("remove", &path)).map(drop)
    }

    pub(super) fn marker(&self, task: &TaskRef, request: Request) -> std::path::PathBuf {
        self.layout.requests(&task.agent).join(format!("{}.{}", task.id, request.word()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_s_name_tells_the_task_also_with_dots_in_the_id() {
        let asks = |name| asked(name).map(|(id, request)| (id.to_string(), request));
        assert_eq!(asks("a.retry.cancel"), Some(("a.retry".into(), Request::Cancel)));
        assert_eq!(asks("a.retry"), Some(("a".into(), Request::Retry)));
        for other in ["a.json", "retry", ".retry", "a b.cancel"] {
            assert_eq!(asks(other), None, "{other}");
        }
    }
}
