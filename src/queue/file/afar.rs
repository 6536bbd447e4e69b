//! Attempts that are carried on another machine: they outlive whoever holds their lease here, who then is replaced.
//!
//! Owns the note beside such an attempt. Must not know what the note says. Its one surprise: an attempt with a note counts as
//! running whether or not its lease is held, until somebody takes the lease up again or the room finds that nobody will.

use std::fs;

use serde_json::Value;

use super::{
    FileQueue,
    attempts::{self, FileLease},
    disk::{self, failed},
    steps::previous,
    store::{Store, full_spec},
};
use crate::{
    model::{AgentName, TaskId, TaskRef},
    queue::{Claim, QueueError},
};

/// The note's name in the attempt's folder.
pub(super) const NOTE: &str = "elsewhere.json";

impl FileQueue {
    /// Notes that a held attempt is carried elsewhere, and what its next holder must know.
    pub async fn entrust(&self, lease: &FileLease, note: Value) -> Result<(), QueueError> {
        let attempt = lease.attempt.clone();
        let path = lease.folder.join(NOTE);
        self.blocking(move |store| attempts::write(&store.layout, &attempt.task, &path, &note).map(drop)).await
    }

    /// Takes back a held attempt that nobody has begun, as if it had never been counted. Its task waits as before.
    pub async fn uncount(&self, lease: FileLease) -> Result<(), QueueError> {
        self.blocking(move |store| store.uncount(&lease)).await
    }

    /// Takes up the lease of an attempt of this agent that is carried elsewhere and whose holder here is gone; `None` where
    /// there is none. One that somebody looks at just now is found the next time.
    pub async fn take_up(&self, agent: &AgentName) -> Result<Option<(Claim<FileLease>, Value)>, QueueError> {
        let agent = agent.clone();
        self.blocking(move |store| store.take_up(&agent)).await
    }
}

impl Store {
    fn take_up(&self, agent: &AgentName) -> Result<Option<(Claim<FileLease>, Value)>, QueueError> {
        for task in self.taken(agent)? {
            let lock = self.lock(&task)?;
            let found = self.take_up_locked(&task);
            drop(lock);
            // One that cannot be read keeps nobody from the others; whoever recovers says what is wrong with it.
            match found {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => tracing::error!(%task, %error, "an attempt elsewhere could not be taken up"),
            }
        }
        Ok(None)
    }

    fn uncount(&self, lease: &FileLease) -> Result<(), QueueError> {
        let task = &lease.attempt.task;
        let lock = self.lock(task)?;
        // Cut short after the first step, it is as if its holder had died before it counted anything.
        let answer = attempts::take_away(&self.layout, lease).and_then(|()| {
            if attempts::load(&self.layout, task)?.current().is_none() { self.give_back_taken(task) } else { Ok(()) }
        });
        drop(lock);
        self.hub.touched(task);
        answer
    }

    /// Every task of an agent that has left the inbox and has not ended.
    fn taken(&self, agent: &AgentName) -> Result<Vec<TaskRef>, QueueError> {
        let names = disk::text_names(&self.layout.within(agent, ".claimed"))?;
        let ids = names.iter().filter_map(|name| TaskId::new(name.strip_suffix(".json")?).ok());
        Ok(ids.map(|id| TaskRef::new(agent.clone(), id)).collect())
    }

    fn take_up_locked(&self, task: &TaskRef) -> Result<Option<(Claim<FileLease>, Value)>, QueueError> {
        if self.result_of(task)?.is_some() {
            return Ok(None);
        }
        let Some(n) = attempts::numbers(&self.layout, task)?.pop() else { return Ok(None) };
        let attempt = task.attempt(n);
        let folder = self.layout.attempt(&attempt);
        if disk::is_there(&folder.join("exit.json")) {
            return Ok(None);
        }
        let Some(note) = attempts::read::<Value>(&folder.join(NOTE))? else { return Ok(None) };
        let Some(lease) = disk::take_lease(&folder.join("lease"))? else { return Ok(None) };
        let known = attempts::load(&self.layout, task)?;
        let Some(current) = known.current().filter(|current| current.n == n && current.exit.is_none()) else {
            return Ok(None);
        };
        let path = self.layout.claimed(task);
        let Some((bytes, _)) = self.bytes_at(&path)? else { return Ok(None) };
        let spec = full_spec(&bytes, &path, task);
        let resume = current.start.as_ref().and_then(|start| start.resumed.clone());
        let before: Vec<_> = known.each.iter().filter(|attempt| attempt.n < n).cloned().collect();
        let previous = before.last().and_then(previous);
        let counted = attempts::Attempts { each: before, settled: known.settled }.counted();
        let prerequisites = self.prerequisites(&spec)?;
        let lease = FileLease { log: attempt.log(), attempt, folder, _lock: lease };
        Ok(Some((Claim { spec, n, counted, prerequisites, previous, resume, lease }, note)))
    }

    /// Of an agent that works here the attempts are carried by whoever holds their leases.
    pub(super) fn forget_notes(&self, agent: &AgentName) -> Result<(), QueueError> {
        for task in self.taken(agent)? {
            let Some(n) = attempts::numbers(&self.layout, &task)?.pop() else { continue };
            let path = self.layout.attempt(&task.attempt(n)).join(NOTE);
            disk::absent_as_none(fs::remove_file(&path)).map_err(failed("remove", &path))?;
        }
        Ok(())
    }
}
