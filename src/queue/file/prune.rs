//! Letting go of what has been over for long: task files, attempts and logs. A result is never touched.
//!
//! Its one surprise: the task's file goes last. While it is there the id is known, and a pruning cut short goes on.

use std::{fs, time::Duration};

use jiff::{SignedDuration, civil::Date, tz::TimeZone};

use super::{
    attempts,
    disk::{self, failed},
    store::Store,
};
use crate::{
    model::{AgentName, TaskId, TaskRef},
    queue::{KEPT, QueueError},
};

/// Where workers keep copies of what attempts made, a folder for each goal or task.
const COPIES: &str = ".podium/runs";

impl Store {
    /// Lets go of every agent's tasks that ended more than 14 days ago, and of what was thrown away before that.
    pub(super) fn prune(&self) -> Result<(), QueueError> {
        let today = self.now().to_zoned(TimeZone::UTC).date();
        for agent in &self.settings.agents {
            for day in disk::text_names(&self.layout.all_done(agent))? {
                let is_old = |date: Date| today.since(date).is_ok_and(|age| i64::from(age.get_days()) > days(KEPT));
                if day.parse().is_ok_and(is_old) {
                    self.prune_day(agent, &day)?;
                }
            }
        }
        self.prune_copies()?;
        self.purge(KEPT).map(drop)
    }

    /// Lets go of copies of what attempts made, when they are as old as that.
    fn prune_copies(&self) -> Result<(), QueueError> {
        let Some(days) = self.settings.copies else { return Ok(()) };
        let oldest = self.now() - SignedDuration::from_hours(24 * i64::from(days));
        let all = self.layout.stage.join(COPIES);
        for name in disk::text_names(&all)? {
            let folder = all.join(name);
            for name in disk::text_names(&folder)? {
                let path = folder.join(name);
                let kept = fs::symlink_metadata(&path).and_then(|there| there.modified());
                let Some(kept) = disk::absent_as_none(kept).map_err(failed("look at", &path))? else { continue };
                if jiff::Timestamp::try_from(kept).is_ok_and(|at| at < oldest) {
                    disk::absent_as_none(fs::remove_file(&path)).map_err(failed("remove", &path))?;
                }
            }
            // Not empty where something of it is kept.
            let _kept = fs::remove_dir(&folder);
        }
        Ok(())
    }

    fn prune_day(&self, agent: &AgentName, day: &str) -> Result<(), QueueError> {
        let folder = self.layout.all_done(agent).join(day);
        for name in disk::text_names(&folder)? {
            let Some(id) = name.strip_suffix(".json").and_then(|stem| TaskId::new(stem).ok()) else { continue };
            let (task, path) = (TaskRef::new(agent.clone(), id), folder.join(&name));
            let lock = self.lock(&task)?;
            // Brought back meanwhile.
            if !path.exists() {
                continue;
            }
            for n in attempts::numbers(&self.layout, &task)? {
                disk::remove_quietly(&self.layout.stage.join(task.attempt(n).log()));
            }
            self.give_up_attempts(&task)?;
            drop(lock);
            self.forget(&path);
            disk::absent_as_none(fs::remove_file(&path)).map_err(failed("remove", &path))?;
            self.hub.touched(&task);
        }
        disk::absent_as_none(fs::remove_dir(&folder)).map_err(failed("remove", &folder)).map(drop)
    }
}

fn days(length: Duration) -> i64 {
    i64::try_from(length.as_secs() / 86_400).unwrap_or(i64::MAX)
}
