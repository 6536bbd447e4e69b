//! The queue as it lies on disk, for whoever may only read it.
//!
//! Owns the one look at everything that changes nothing: no folder is made, nothing is tried, mended or set aside. Its
//! one surprise: what the watch would set aside is listed where it lies.

use super::{
    disk,
    store::{Judged, Look, Store},
};
use crate::{
    model::{AgentName, Rejected, TaskRef},
    queue::{Change, QueueError},
};

impl Store {
    /// Everything there is, as a watch tells it at its start.
    pub(super) fn view(&self) -> Result<Vec<Change>, QueueError> {
        let mut changes = Vec::new();
        let mut list = |path: &std::path::Path, reason: String| {
            let path = self.layout.shown(path);
            changes.push(Change::Rejected(Rejected { path, reason, at: self.now(), moved: false, duplicate: false }));
        };
        for agent in &self.settings.agents {
            self.unfit(agent, &mut list)?;
        }
        for (path, reason) in self.strays()? {
            list(&path, reason);
        }
        for agent in &self.settings.agents {
            for id in self.ids(agent)? {
                let task = TaskRef::new(agent.clone(), id);
                match self.record(&task) {
                    Ok(record) => changes.extend(record.map(|record| Change::Task(Box::new(record)))),
                    Err(error) => {
                        let path = self.layout.shown(&self.layout.attempts(&task));
                        let reason = format!("{task} cannot be read: {error}");
                        let at = self.now();
                        changes.push(Change::Rejected(Rejected { path, reason, at, moved: false, duplicate: false }));
                    }
                }
            }
            let (_, aside) = self.set_aside(agent, |_| false)?;
            changes.extend(aside.into_iter().map(Change::Rejected));
        }
        changes.push(Change::Trash(self.removed()?));
        Ok(changes)
    }

    /// Lists what lies in an inbox and is no task.
    fn unfit(&self, agent: &AgentName, list: &mut impl FnMut(&std::path::Path, String)) -> Result<(), QueueError> {
        let inbox = self.layout.inbox(agent);
        for name in disk::names(&inbox)? {
            let reason = match self.look(agent, &name) {
                Look::Left(reason) | Look::Unfit(reason) | Look::Unread(reason, _) => reason,
                Look::File(_, judged) => match &*judged {
                    Judged::MayGrow(reason) | Judged::Bad(reason) => reason.clone(),
                    Judged::Task(_) => continue,
                },
                Look::Nothing => continue,
            };
            list(&inbox.join(&name), reason);
        }
        Ok(())
    }
}
