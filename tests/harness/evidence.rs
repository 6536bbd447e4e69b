//! What is known afterwards: the results as they were first seen, and the notes of the engines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    plan::{AGENTS, Task},
    stage::{ATTEMPTS, Stage, is_alive},
};

/// A promise that was not kept.
#[derive(Debug)]
pub(crate) struct Fault {
    /// About which task, where it is about one.
    pub(crate) task: Option<String>,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn general(text: impl Into<String>) -> Self {
        Self { task: None, text: text.into() }
    }

    fn of(task: &str, text: impl Into<String>) -> Self {
        Self { task: Some(task.to_owned()), text: text.into() }
    }
}

/// Results by task, as they were when they were first seen.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<String, Vec<u8>>);

impl Results {
    /// Takes in what has come since the last look.
    pub(crate) fn look(&mut self, stage: &Stage) {
        for agent in AGENTS {
            for path in files(&stage.path.join("results").join(agent)) {
                let Some(id) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".json")) else { continue };
                let read = || Sha256::digest(fs::read(&path).unwrap()).to_vec();
                self.0.entry(format!("{agent}/{id}")).or_insert_with(read);
            }
        }
    }

    pub(crate) fn has(&self, task: &str) -> bool {
        self.0.contains_key(task)
    }

    /// Every result is still what it was.
    pub(crate) fn check(&self, stage: &Stage, faults: &mut Vec<Fault>) {
        for (task, before) in &self.0 {
            match fs::read(stage.result(task)) {
                Ok(now) if Sha256::digest(&now).to_vec() == *before => {}
                Ok(now) => {
                    let now = String::from_utf8_lossy(&now).into_owned();
                    faults.push(Fault::of(task, format!("G3: its result is another now: {now}")));
                }
                Err(error) => faults.push(Fault::of(task, format!("G3: its result is gone: {error}"))),
            }
        }
    }
}

/// One line of the notes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    word: String,
    task: String,
    attempt: u32,
    pid: i32,
    start: u64,
}

/// What the engines noted.
#[derive(Debug)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn read(stage: &Stage) -> Self {
        let text = fs::read_to_string(stage.notes()).unwrap_or_default();
        Self(
            text.lines()
                .map(|line| {
                    let words: Vec<&str> = line.split(' ').collect();
                    let [word, task, attempt, pid, start] = words[..] else { panic!("a torn note: {line:?}") };
                    Note {
                        word: word.to_owned(),
                        task: task.to_owned(),
                        attempt: attempt.parse().unwrap_or_default(),
                        pid: pid.parse().unwrap(),
                        start: start.parse().unwrap(),
                    }
                })
                .collect(),
        )
    }

    /// How many attempts began.
    pub(crate) fn begun(&self) -> usize {
        self.0.iter().filter(|n| n.word == "begin").count()
    }

    /// What was noted about a task.
    pub(crate) fn about(&self, task: &str) -> Vec<String> {
        let lines = self.0.iter().filter(|n| n.task == task);
        lines.map(|n| format!("{} #{} process {} started {}", n.word, n.attempt, n.pid, n.start)).collect()
    }

    /// What no engine may ever see, and no process of theirs outlives the room.
    pub(crate) fn check(&self, faults: &mut Vec<Fault>) {
        let mut begun = BTreeSet::new();
        for note in &self.0 {
            let n = note.attempt;
            match note.word.as_str() {
                "overlap" => faults.push(Fault::of(&note.task, format!("G5: attempt {n} began beside another"))),
                "early" => faults.push(Fault::of(&note.task, format!("G10: attempt {n} began before a dependency"))),
                "begin" if !begun.insert((&note.task, n)) => {
                    faults.push(Fault::of(&note.task, format!("G5: attempt {n} began twice")));
                }
                _ => {}
            }
            if is_alive(note.pid, note.start) {
                let what = format!("process {} of attempt {n} ({}) is left", note.pid, note.word);
                faults.push(if note.task == "-/-" { Fault::general(what) } else { Fault::of(&note.task, what) });
            }
        }
    }

    /// What the notes, the attempts' folders and the result say of one task.
    pub(crate) fn check_task(&self, stage: &Stage, task: &Task, faults: &mut Vec<Fault>) {
        let name = &task.name;
        let mut fault = |text: String| faults.push(Fault::of(name, text));
        let Ok(bytes) = fs::read(stage.result(name)) else { return fault("G4: it has no result".to_owned()) };
        let result: Value = match serde_json::from_slice(&bytes) {
            Ok(result) => result,
            Err(error) => return fault(format!("G2: its result cannot be read: {error}")),
        };
        if result["state"] != "done" || result["summary"] != task.answer() {
            fault(format!("G3: its result is wrong: {result:#}"));
        }
        let folder = stage.path.join("tasks").join(task.agent()).join(".attempts").join(task.id());
        let mut numbers: Vec<u32> = names(&folder).iter().filter_map(|n| n.parse().ok()).collect();
        numbers.sort_unstable();
        let accepted = numbers.last().copied().unwrap_or_default();
        if !numbers.iter().copied().eq(1..=accepted) || result["attempts"] != accepted {
            fault(format!("G3: attempts {numbers:?}, and the result is of {}", result["attempts"]));
        }
        if accepted > ATTEMPTS {
            fault(format!("G6: {accepted} attempts"));
        }
        let said = |word: &str| self.0.iter().any(|n| n.task == *name && n.attempt == accepted && n.word == word);
        if !said("begin") || !said("end") {
            fault(format!("G3: attempt {accepted} is said to be done and was not"));
        }
    }
}

/// Nothing but whole tasks that have ended is left on the stage.
pub(crate) fn check_stage(stage: &Stage, faults: &mut Vec<Fault>) {
    for agent in AGENTS {
        let (tasks, results) = (stage.path.join("tasks").join(agent), stage.path.join("results").join(agent));
        let empty = [
            (tasks.join(".claimed"), "G4: claimed"),
            (tasks.join("rejected"), "G8: rejected"),
            (tasks.join(".dead"), "G4: dead"),
            (tasks.join(".tmp"), "half-written"),
            (results.join(".tmp"), "half-written"),
            (results.join(".superseded"), "G3: superseded"),
        ];
        for (folder, what) in empty {
            for name in names(&folder) {
                faults.push(Fault::general(format!("{what}: {}", folder.join(name).display())));
            }
        }
        for path in files(&tasks) {
            faults.push(Fault::general(format!("G4: still waiting: {}", path.display())));
        }
        let half = names(&tasks.join(".attempts")).into_iter().filter(|n| n.starts_with('.'));
        faults.extend(half.map(|name| Fault::general(format!("half-written: {agent} {name}"))));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_file()).collect()
}
