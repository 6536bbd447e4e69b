//! What belongs to nobody: found by where it hangs and by what it carries, ended, and seen gone.
//!
//! Owns the rule of who is nobody's. Must not know how workers end their own attempts. Its one surprise: nothing here
//! remembers anything; a new core comes to the same answer as the one before it.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    engines::tree::{self, Process},
    model::{AttemptRef, Standing, TaskRef},
    queue::{Queue, QueueError},
};

/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is not to be touched, and where to look.
#[derive(Debug)]
pub struct Kin {
    /// The first part of every cookie.
    pub stage_id: String,
    /// The parent of this process, to which orphans fall.
    pub guardian: u32,
    /// Workers that live; what is below them is theirs to end.
    pub workers: BTreeSet<i32>,
}

/// Ends everything that hangs from the guardian and is neither core nor worker, and everything with a cookie of the
/// stage whose attempt nobody holds, each with all that is below it, until twice in a row nothing is seen. Otherwise the
/// numbers of those that would not go in time.
pub async fn end_strays<Q: Queue>(queue: &Q, kin: &Kin) -> Result<(), Vec<i32>> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(2);
    let mut empty = 0;
    loop {
        let strays = strays(queue, kin).await;
        for stray in &strays {
            tree::signal(stray, rustix::process::Signal::KILL);
        }
        // What forks and ends while the table is read can slip through one look, not two.
        empty = if strays.is_empty() { empty + 1 } else { 0 };
        if empty == 2 {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(strays.iter().map(|p| p.pid).collect());
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

async fn strays<Q: Queue>(queue: &Q, kin: &Kin) -> Vec<Process> {
    let mut held = HashMap::new();
    let mut unheld = Vec::new();
    let table = tree::table();
    for (process, name) in tree::marked(&table, &kin.stage_id) {
        let is_held = if let Some(known) = held.get(&name) {
            *known
        } else {
            let is_held = is_held(queue, &name).await;
            held.insert(name, is_held);
            is_held
        };
        if !is_held {
            unheld.push((process.pid, process.start));
        }
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let guardian = i32::try_from(kin.guardian).unwrap_or_default();
    let is_root = |p: &&Process| p.parent == guardian || unheld.contains(&(p.pid, p.start));
    let mut spared = kin.workers.clone();
    spared.extend([own, guardian]);
    let inside = tree::with_descendants(&table, table.iter().filter(is_root).map(|p| p.pid), &spared);
    table.into_iter().filter(|p| !p.zombie && inside.contains(&p.pid)).collect()
}

/// Whether somebody works on the attempt that a cookie names; also when that cannot be found out.
async fn is_held<Q: Queue>(queue: &Q, name: &str) -> bool {
    let Some(AttemptRef { task, n }) = attempt(name) else { return false };
    match queue.get(&task).await {
        Ok(record) => record.standing == Standing::Running { attempt: n },
        Err(QueueError::Unknown(_) | QueueError::UnknownAgent(_)) => false,
        Err(error) => {
            tracing::warn!(%error, %task, "whether an attempt is held cannot be told");
            true
        }
    }
}

/// `{agent}/{id}#{n}`.
fn attempt(name: &str) -> Option<AttemptRef> {
    let (task, n) = name.rsplit_once('#')?;
    Some(task.parse::<TaskRef>().ok()?.attempt(n.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_names_its_attempt() {
        let task: TaskRef = "marie/x.1".parse().unwrap();
        assert_eq!(attempt(&task.attempt(3).to_string()), Some(task.attempt(3)));
        for bad in ["", "marie/x", "marie#1", "marie/x#", "marie/x#one", "../x/y#1"] {
            assert_eq!(attempt(bad), None, "{bad:?}");
        }
    }
}
