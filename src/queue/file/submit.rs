//! Tasks that come through us rather than through the folder: written whole, synced, renamed in.
//!
//! A batch costs one sync of the file system instead of one per file.

use std::path::{Path, PathBuf};

use super::{
    derive::{self, Place},
    disk::{self, FileSystem, Stamp, failed},
    owner,
    space::Shortage,
    spec,
    store::{Count, Store, lock},
};
use crate::{
    model::{AgentName, TaskId, TaskRef, TaskSpec},
    queue::{QueueError, Submitted},
};

/// After how many submissions the inbox is counted anew: others drop files too.
const RECOUNT: usize = 1_000;

/// What is known of an id before it is published.
enum Standing {
    Free,
    Answered(Submitted),
}

/// A batch on its way in: what was written and not published is removed with it.
struct Batch(Vec<Result<(PathBuf, Vec<u8>), Submitted>>);

impl Drop for Batch {
    fn drop(&mut self) {
        for (temporary, _) in self.0.iter().flatten() {
            disk::remove_quietly(temporary);
        }
    }
}

impl Store {
    /// Accepts one task.
    pub(super) fn submit(&self, task: &TaskSpec) -> Result<Submitted, QueueError> {
        self.known(&task.task.agent)?;
        let bytes = spec::write(task)?;
        if let Standing::Answered(answer) = self.weigh(&task.task, &bytes)? {
            return Ok(answer);
        }
        let temporary = self.temporary(&task.task);
        disk::write_synced(&temporary, &bytes, false)?;
        let answer = self.put_in(&task.task, &temporary, &bytes)?;
        if answer == Submitted::New {
            disk::sync_folder(&self.layout.inbox(&task.task.agent))?;
            self.hub.touched(&task.task);
        }
        Ok(answer)
    }

    /// Accepts several: all temporaries, one sync of the file system, all renames, one sync per folder.
    pub(super) fn submit_many(&self, tasks: &[TaskSpec]) -> Result<Vec<Submitted>, QueueError> {
        let mut touched: Vec<&AgentName> = Vec::new();
        for task in tasks {
            self.known(&task.task.agent)?;
            if !touched.contains(&&task.task.agent) {
                touched.push(&task.task.agent);
            }
        }
        let inboxes: Vec<PathBuf> = touched.iter().map(|agent| self.layout.inbox(agent)).collect();
        let disks = inboxes.iter().map(|inbox| FileSystem::of(inbox)).collect::<Result<Vec<_>, _>>()?;
        let mut written = Batch(Vec::with_capacity(tasks.len()));
        for task in tasks {
            let bytes = spec::write(task)?;
            written.0.push(match self.weigh(&task.task, &bytes)? {
                Standing::Answered(answer) => Err(answer),
                Standing::Free => {
                    let temporary = self.temporary(&task.task);
                    drop(disk::write_unsynced(&temporary, &bytes, false)?);
                    Ok((temporary, bytes))
                }
            });
        }
        if written.0.iter().any(Result::is_ok) {
            disks.iter().try_for_each(FileSystem::sync)?;
        }
        let mut answers = Vec::with_capacity(tasks.len());
        for (task, written) in tasks.iter().zip(&mut written.0) {
            let answer = match written {
                Err(answer) => answer.clone(),
                Ok((temporary, bytes)) => self.put_in(&task.task, temporary, bytes)?,
            };
            // Published or gone: either way its temporary is no more.
            *written = Err(answer.clone());
            answers.push(answer);
        }
        inboxes.iter().try_for_each(|inbox| disk::sync_folder(inbox))?;
        for task in tasks {
            self.hub.touched(&task.task);
        }
        Ok(answers)
    }

    pub(super) fn temporary(&self, task: &TaskRef) -> PathBuf {
        self.layout.within(&task.agent, ".tmp").join(owner::temporary(task.id.as_str()))
    }

    /// What is already known of this id.
    fn weigh(&self, task: &TaskRef, bytes: &[u8]) -> Result<Standing, QueueError> {
        // What the watch has not heard of can only lie in the inbox since a moment ago; then the renaming finds it.
        if !self.hub.is_news(task)
            && let Some(answer) = self.compare(task, bytes)?
        {
            return Ok(Standing::Answered(answer));
        }
        if let Some(short) = self.shortage(&task.agent)?.filter(Shortage::is_full) {
            return Err(QueueError::NoSpace(short.full_sentence()));
        }
        let limit = self.settings.waiting_limit;
        let waiting = self.count_waiting(&task.agent)?;
        if waiting >= limit {
            return Ok(Standing::Answered(Submitted::Full { waiting, limit }));
        }
        Ok(Standing::Free)
    }

    /// Compares with a known task of the same id; `None` where there is none.
    fn compare(&self, task: &TaskRef, bytes: &[u8]) -> Result<Option<Submitted>, QueueError> {
        // The inbox is not searched for other names here: a listing or the watch has shown them, and the intake settles
        // what slips through.
        let path = match self.place(task, false)? {
            Place::Inbox(name) => self.layout.inbox(&task.agent).join(name),
            Place::Claimed => self.layout.claimed(task),
            Place::Over(path) => path,
            Place::Nowhere => {
                let plain = self.layout.waiting(task);
                if derive::exists(&plain)? {
                    plain
                } else if self.result_of(task)?.is_some() || self.other_case(task)? {
                    return Ok(Some(Submitted::Conflict));
                } else {
                    return Ok(None);
                }
            }
        };
        let Some((known, _)) = self.full_spec_at(&path, task)? else { return Ok(None) };
        // Both as a file would say it, so that what cannot be written makes no difference.
        let wanted = spec::read(bytes, &task.agent, task.id.as_str());
        if wanted.is_ok_and(|wanted| wanted == known) {
            // "Exists" is a yes too, and whoever put it there may have been told that it could not be kept.
            disk::make_last(&path)?;
            return Ok(Some(Submitted::Exists));
        }
        Ok(Some(Submitted::Conflict))
    }

    /// Whether the id is known in other capitals.
    fn other_case(&self, task: &TaskRef) -> Result<bool, QueueError> {
        Ok(self.hub.twin(task).is_some() || {
            let lower = task.id.as_str().to_ascii_lowercase();
            lower != task.id.as_str() && {
                let twin = TaskRef::new(task.agent.clone(), TaskId::new(lower)?);
                self.place(&twin, false)? != Place::Nowhere || derive::exists(&self.layout.waiting(&twin))?
            }
        })
    }

    /// Renames a written temporary into the inbox.
    fn put_in(&self, task: &TaskRef, temporary: &Path, bytes: &[u8]) -> Result<Submitted, QueueError> {
        if disk::publish(temporary, &self.layout.waiting(task))? {
            if let Some(count) = lock(&self.waiting).get_mut(&task.agent) {
                count.waiting += 1;
            }
            self.hub.used(task);
            return Ok(Submitted::New);
        }
        Ok(self.compare(task, bytes)?.unwrap_or(Submitted::Conflict))
    }

    /// How many wait. Counted anew now and then, and whenever it seems to be too many.
    fn count_waiting(&self, agent: &AgentName) -> Result<usize, QueueError> {
        let limit = self.settings.waiting_limit;
        let fits = |count: &&mut Count| count.uses < RECOUNT && count.waiting < limit;
        if let Some(count) = lock(&self.waiting).get_mut(agent).filter(fits) {
            count.uses += 1;
            return Ok(count.waiting);
        }
        let inbox = self.layout.inbox(agent);
        let mtime = Stamp::at(&inbox).map_err(failed("look at", &inbox))?.map_or(0, |stamp| stamp.mtime);
        if let Some(count) = lock(&self.waiting).get_mut(agent).filter(|count| count.mtime == mtime) {
            count.uses += 1;
            return Ok(count.waiting);
        }
        let waiting = disk::names(&inbox)?.iter().filter(|name| !super::store::is_ignored(name)).count();
        lock(&self.waiting).insert(agent.clone(), Count { waiting, uses: 0, mtime });
        Ok(waiting)
    }
}
