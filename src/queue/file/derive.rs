//! Where a task stands, derived from where its files lie. Nothing here changes anything.
//!
//! Its one surprise: files move while we look. They move from the inbox to the end, so looking in that order sees each
//! task somewhere; only a retry moves one back, and a task seen nowhere is looked for again under its lock.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    attempts::{self, Attempts},
    disk::{self, Stamp, failed},
    layout::json,
    notice::REST,
    past::Names,
    results::Reading,
    store::{Judged, Look, Store, is_ignored, modified},
};
use crate::{
    model::{AgentName, Outcome, Standing, TaskId, TaskRecord, TaskRef, TaskSpec},
    queue::QueueError,
};

/// Where a task's file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the inbox, under this name.
    Inbox(String),
    /// In `.claimed/`.
    Claimed,
    /// In `.done/{day}/` or `.dead/`.
    Over(PathBuf),
    /// Nowhere.
    Nowhere,
}

impl Store {
    /// Where a task's file lies. `search` also looks through the inbox for another name.
    pub(super) fn place(&self, task: &TaskRef, search: bool) -> Result<Place, QueueError> {
        let inbox = match self.remembered(task)? {
            None if search => self.plain(task)?,
            known => known,
        };
        if exists(&self.layout.claimed(task))? {
            return Ok(Place::Claimed);
        }
        if let Some(path) = self.layout.over(task)? {
            return Ok(Place::Over(path));
        }
        if let Some(name) = inbox {
            return Ok(Place::Inbox(name));
        }
        // Only a file that a listing has not shown yet is left: searching costs a look at every name.
        let found = if search { self.search(task)? } else { None };
        Ok(found.map_or(Place::Nowhere, Place::Inbox))
    }

    /// A task in full, wherever its file lies now; else as its last attempt was given it. Writes nothing where there is
    /// nothing that could move it meanwhile.
    pub(super) fn spec_of(&self, task: &TaskRef) -> Result<TaskSpec, QueueError> {
        self.known(&task.agent)?;
        let mut found = self.spec_once(task, false)?;
        if found.is_none() {
            let lock = exists(&self.layout.attempts(task))?.then(|| self.lock(task)).transpose()?;
            found = self.spec_once(task, true)?;
            drop(lock);
        }
        found.ok_or_else(|| QueueError::Unknown(task.clone()))
    }

    fn spec_once(&self, task: &TaskRef, search: bool) -> Result<Option<TaskSpec>, QueueError> {
        let path = match self.place(task, search)? {
            Place::Inbox(name) => self.layout.inbox(&task.agent).join(name),
            Place::Claimed => self.layout.claimed(task),
            Place::Over(path) => path,
            Place::Nowhere if !search => return Ok(None),
            Place::Nowhere => {
                let last = attempts::load(&self.layout, task)?.last();
                self.layout.attempt(&task.attempt(last)).join("task.json")
            }
        };
        Ok(self.full_spec_at(&path, task)?.map(|(spec, _)| spec))
    }

    /// Whether nothing is known of a task but its file in the inbox. `ended` was listed after the watch began to hear.
    pub(super) fn is_new(&self, task: &TaskRef, ended: &Names) -> Result<bool, QueueError> {
        Ok(!ended.knows(task)
            && !exists(&self.layout.claimed(task))?
            && !exists(&self.layout.attempts(task))?
            && self.archived(task)?.is_none())
    }

    /// One task as it stands; `None` where there is no trace of it.
    pub(super) fn record(&self, task: &TaskRef) -> Result<Option<TaskRecord>, QueueError> {
        if let Some(record) = self.record_once(task, false)? {
            return Ok(Some(record));
        }
        if !exists(&self.layout.attempts(task))? {
            return self.record_once(task, true);
        }
        let lock = self.lock(task)?;
        let record = self.record_once(task, true);
        drop(lock);
        record
    }

    fn record_once(&self, task: &TaskRef, search: bool) -> Result<Option<TaskRecord>, QueueError> {
        let place = self.place(task, search)?;
        let attempts = attempts::load(&self.layout, task)?;
        // Last, so that a result published meanwhile is seen.
        let found = self.result_of(task)?;
        let resting = found.as_ref().and_then(|(outcome, stamp)| self.rests_until(outcome, stamp));
        let result = found.filter(|_| resting.is_none());
        let file = attempts.each.iter().rev().find_map(|a| a.start.as_ref()).and_then(|start| start.file.clone());
        let (found, file) = match &place {
            Place::Inbox(name) => {
                let other = (*name != json(&task.id)).then(|| name.clone());
                (self.spec_at(&self.layout.inbox(&task.agent).join(name), task)?, other.or(file))
            }
            Place::Claimed => (self.spec_at(&self.layout.claimed(task), task)?, file),
            Place::Over(path) => (self.spec_at(path, task)?, file),
            Place::Nowhere => (None, file),
        };
        // Moved between the look and the read, or moved back by a retry: it is read under its lock, where it lies then.
        let moves = !search && (place != Place::Nowhere || exists(&self.layout.attempts(task))?);
        if found.is_none() && (moves || result.is_none()) {
            return Ok(None);
        }
        let (spec, seen_at) = match (found, &result) {
            (Some((spec, stamp)), _) => (spec, modified(&stamp)),
            (None, Some((outcome, _))) => (spec_of_result(outcome), outcome.started_at),
            (None, None) => (TaskSpec::new(task.clone(), ""), Timestamp::UNIX_EPOCH),
        };
        let mut record = TaskRecord::new(spec, seen_at);
        record.file = file;
        record.attempts = attempts.records(task);
        record.standing = standing(&place, &attempts, result.is_some());
        if let (Some(not_before), Standing::Waiting | Standing::Claimed) = (resting, &record.standing) {
            record.standing = Standing::Retrying { attempt: attempts.last(), not_before };
        }
        record.outcome = match result {
            Some((outcome, _)) => Some(outcome),
            None if record.standing == Standing::Ended => attempts
                .current()
                .and_then(|a| a.exit.as_ref()?.outcome.clone())
                .map(|outcome| outcome.clipped(TaskRecord::TEXT_LIMIT)),
            None => None,
        };
        Ok(Some(record))
    }

    /// Until when a result that somebody else wrote is not believed yet: its writer may be about to say more. Our own,
    /// and one that a clock cannot place, is believed at once.
    fn rests_until(&self, outcome: &Outcome, stamp: &Stamp) -> Option<Timestamp> {
        let age = self.now().duration_since(modified(stamp));
        let rest = SignedDuration::try_from(REST).unwrap_or(SignedDuration::MAX);
        let young = outcome.foreign && !age.is_negative() && age < rest;
        young.then(|| modified(stamp).saturating_add(rest).unwrap_or(Timestamp::MAX))
    }

    /// The ids of every task of an agent that left a trace.
    pub(super) fn ids(&self, agent: &AgentName) -> Result<BTreeSet<TaskId>, QueueError> {
        let mut ids = BTreeSet::new();
        for name in disk::names(&self.layout.inbox(agent))? {
            if is_ignored(&name) {
                continue;
            }
            match self.look(agent, &name) {
                Look::File(_, judged) => {
                    if let Judged::Task(spec) = &*judged {
                        ids.insert(spec.task.id.clone());
                    }
                }
                Look::Unread(_, error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
                    return Err(failed("read", &self.layout.inbox(agent).join(name))(error));
                }
                Look::Nothing | Look::Left(_) | Look::Unfit(_) | Look::Unread(..) => {}
            }
        }
        let mut take = |names: Vec<String>| {
            ids.extend(names.iter().filter_map(|name| TaskId::new(name.strip_suffix(".json")?).ok()));
        };
        take(disk::text_names(&self.layout.within(agent, ".claimed"))?);
        take(disk::text_names(&self.layout.within(agent, ".dead"))?);
        let done = self.layout.all_done(agent);
        for day in disk::text_names(&done)? {
            take(disk::text_names(&done.join(day))?);
        }
        ids.extend(self.archived_ids(agent)?);
        for name in disk::text_names(&self.layout.results(agent))? {
            if is_ignored(name.as_ref()) {
                continue;
            }
            if let Some((reading, _)) = self.reading(agent, &name)?
                && let Reading::Result(outcome) = &*reading
            {
                ids.insert(outcome.task.id.clone());
            }
        }
        Ok(ids)
    }

    /// Every task known.
    pub(super) fn list(&self) -> Result<Vec<TaskRecord>, QueueError> {
        let mut records = Vec::new();
        for agent in &self.settings.agents {
            for id in self.ids(agent)? {
                records.extend(self.record(&TaskRef::new(agent.clone(), id))?);
            }
        }
        Ok(records)
    }
}

/// Whether anything lies at `path`; an error is never taken for "no".
pub(super) fn exists(path: &Path) -> Result<bool, QueueError> {
    Ok(Stamp::at(path).map_err(failed("look at", path))?.is_some())
}

/// The table of the design, in its order.
fn standing(place: &Place, attempts: &Attempts, has_result: bool) -> Standing {
    if has_result {
        return Standing::Ended;
    }
    match place {
        Place::Over(_) | Place::Nowhere => Standing::Ended,
        Place::Inbox(_) => Standing::Waiting,
        Place::Claimed => match attempts.current() {
            None => Standing::Claimed,
            Some(attempt) if attempt.held => Standing::Running { attempt: attempt.n },
            Some(attempt) if attempt.exit.as_ref().is_some_and(|exit| exit.asks) => {
                Standing::Asking { attempt: attempt.n }
            }
            Some(attempt) => match attempt.exit.as_ref().and_then(|exit| exit.not_before) {
                Some(not_before) => Standing::Retrying { attempt: attempt.n, not_before },
                // Lost and not yet recovered, or ended and not yet published.
                None => Standing::Claimed,
            },
        },
    }
}

/// What can be said of a task of which only the result is left.
pub(super) fn spec_of_result(outcome: &Outcome) -> TaskSpec {
    let mut spec = TaskSpec::new(outcome.task.clone(), "");
    spec.title = crate::model::text::first_line(&outcome.summary, 80);
    spec.goal.clone_from(&outcome.goal);
    spec
}
