//! Which logs there are.
//!
//! Its one surprise: the log of an attempt has two names, the one under `logs/` and the one in the attempt's folder;
//! a file is known by its inode, so that nothing is read twice and what has lost its first name is still found.

use std::{
    collections::HashSet,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::model::{AgentName, LogId, LogScope};

/// One file and what is known of it without opening it.
#[derive(Debug, Clone)]
pub struct LogFile {
    /// What it is.
    pub id: Arc<LogId>,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, in milliseconds since 1970.
    pub modified: i64,
    /// Device and inode.
    pub inode: (u64, u64),
}

/// How far a list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What agents print: `logs/`.
    Shown,
    /// Also standard error, logs whose name under `logs/` is gone, the trash, and results that a retry has moved aside.
    Everything,
}

/// The logs of `scope`, in no order.
pub fn find(stage: &Path, scope: &LogScope, extent: Extent) -> Vec<LogFile> {
    let mut found = Found { stage, files: Vec::new(), seen: HashSet::new() };
    match scope {
        LogScope::One(id) => {
            found.add(stage.join(&id.path), id.task.clone(), id.attempt, &id.agent);
            // Its name under `logs/` may be gone while the attempt's folder has it still.
            if found.files.is_empty()
                && let (Some(task), Some(n)) = (&id.task, id.attempt)
            {
                let kept = stage.join(format!("tasks/{}/.attempts/{task}/{n}/out.log", id.agent));
                found.add(kept, id.task.clone(), id.attempt, &id.agent);
            }
        }
        LogScope::Task(task) => found.agent(&task.agent, Some(task.id.as_str()), extent),
        LogScope::Agent(agent) => found.agent(agent, None, extent),
        LogScope::All => {
            for agent in agents(stage) {
                found.agent(&agent, None, extent);
            }
        }
    }
    found.files
}

/// Folders whose time changes when a log of `scope` appears.
pub(super) fn folders(stage: &Path, scope: &LogScope) -> Vec<PathBuf> {
    let logs = stage.join("logs");
    match scope {
        LogScope::One(_) => Vec::new(),
        LogScope::Task(task) => vec![logs.join(task.agent.as_str())],
        LogScope::Agent(agent) => vec![logs.join(agent.as_str())],
        LogScope::All => agents(stage).iter().map(|a| logs.join(a.as_str())).chain([logs.clone()]).collect(),
    }
}

/// Everybody who has a folder, whether the configuration still names them or not.
fn agents(stage: &Path) -> Vec<AgentName> {
    let mut names: Vec<AgentName> = ["logs", "tasks", "results"]
        .into_iter()
        .flat_map(|folder| entries(&stage.join(folder)))
        .filter(|path| path.is_dir())
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The milliseconds since 1970 at which a file was last written.
pub(super) fn modified(meta: &Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000).saturating_add(meta.mtime_nsec() / 1_000_000)
}

struct Found<'a> {
    stage: &'a Path,
    files: Vec<LogFile>,
    seen: HashSet<(u64, u64)>,
}

impl Found<'_> {
    fn add(&mut self, path: PathBuf, task: Option<String>, attempt: Option<u32>, agent: &AgentName) {
        // A link to a log is one by design; a FIFO would hold us for ever.
        let Some(meta) = fs::metadata(&path).ok().filter(Metadata::is_file) else { return };
        let inode = (meta.dev(), meta.ino());
        if !self.seen.insert(inode) {
            return;
        }
        let shown = path.strip_prefix(self.stage).unwrap_or(&path).to_string_lossy().into_owned();
        let id = LogId { agent: agent.clone(), task, attempt, path: shown };
        self.files.push(LogFile { id: Arc::new(id), path, size: meta.len(), modified: modified(&meta), inode });
    }

    fn agent(&mut self, agent: &AgentName, only: Option<&str>, extent: Extent) {
        let is_meant = |task: &str| only.is_none_or(|only| only == task);
        for path in entries(&self.stage.join("logs").join(agent.as_str())) {
            let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".log")) else { continue };
            let (task, attempt) = split(name);
            if is_meant(task) {
                let task = Some(task.to_owned());
                self.add(path.clone(), task, attempt, agent);
            }
        }
        if extent == Extent::Shown {
            return;
        }
        let inbox = self.stage.join("tasks").join(agent.as_str());
        for (folder, numbered) in [(inbox.join(".attempts"), false), (inbox.join(".trash"), true)] {
            for kept in entries(&folder) {
                let Some(name) = kept.file_name().and_then(|n| n.to_str()) else { continue };
                // In the trash a task's folder has a number behind its name.
                let task = if numbered { split(name).0 } else { name };
                if !is_meant(task) || task.starts_with('.') {
                    continue;
                }
                for attempt in entries(&kept) {
                    let Some(n) = attempt.file_name().and_then(|n| n.to_str()?.parse().ok()) else { continue };
                    for log in ["out.log", "err.log"] {
                        self.add(attempt.join(log), Some(task.to_owned()), Some(n), agent);
                    }
                }
            }
        }
        for path in entries(&self.stage.join("results").join(agent.as_str()).join(".superseded")) {
            let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".json")) else { continue };
            let task = split(name).0;
            if is_meant(task) {
                let task = Some(task.to_owned());
                self.add(path.clone(), task, None, agent);
            }
        }
    }
}

/// `eval.2` as a task and a number.
fn split(name: &str) -> (&str, Option<u32>) {
    match name.rsplit_once('.').map(|(task, n)| (task, n.parse())) {
        Some((task, Ok(n))) => (task, Some(n)),
        Some((_, Err(_))) | None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(stage: &Path, path: &str) {
        let path = stage.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x\n").unwrap();
    }

    #[test]
    fn every_log_is_found_once_under_its_first_name_and_what_has_lost_it_is_found_too() {
        let stage = tempfile::tempdir().unwrap();
        let root = stage.path();
        write(root, "tasks/marie/.attempts/a.b/1/out.log");
        write(root, "tasks/marie/.attempts/a.b/1/err.log");
        write(root, "tasks/marie/.attempts/a.b/2/out.log");
        write(root, "tasks/marie/.trash/gone.3/1/out.log");
        write(root, "tasks/marie/.trash/.open/gone");
        write(root, "results/marie/.superseded/a.b.1.json");
        write(root, "logs/anga/other.1.log");
        write(root, "logs/podium.log");
        fs::create_dir_all(root.join("logs/marie")).unwrap();
        fs::hard_link(root.join("tasks/marie/.attempts/a.b/1/out.log"), root.join("logs/marie/a.b.1.log")).unwrap();
        let names = |scope: &LogScope, extent| {
            let mut names: Vec<String> =
                find(root, scope, extent).iter().map(|f| format!("{} {}", f.id, f.id.path)).collect();
            names.sort();
            names
        };
        assert_eq!(
            names(&LogScope::All, Extent::Everything),
            [
                "anga/other#1 logs/anga/other.1.log",
                "marie/a.b results/marie/.superseded/a.b.1.json",
                "marie/a.b#1 logs/marie/a.b.1.log",
                "marie/a.b#1 tasks/marie/.attempts/a.b/1/err.log",
                "marie/a.b#2 tasks/marie/.attempts/a.b/2/out.log",
                "marie/gone#1 tasks/marie/.trash/gone.3/1/out.log",
            ]
        );
        assert_eq!(names(&LogScope::Agent("marie".parse().unwrap()), Extent::Shown).len(), 1);
        let task = LogScope::Task("marie/a.b".parse().unwrap());
        assert_eq!((names(&task, Extent::Shown).len(), names(&task, Extent::Everything).len()), (1, 4));
    }
}
