//! A stage of its own with a real room, and the processes that belong to it.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use podium::{attach::socket_path, engines::tree};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    common::{self, PODIUM, kill},
    plan::{AGENTS, Task},
};

/// How long anything may take to be gone after it was told to go.
const GOING: Duration = Duration::from_secs(40);

/// The exit code of a room that found the stage taken.
pub(crate) const TAKEN: i32 = 3;

/// How long the driver waits before it tries again.
const REST: Duration = Duration::from_millis(200);

/// Starts that a task may have; every kill that hits it costs one.
pub(crate) const ATTEMPTS: u32 = 60;

/// What a process of the stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Guardian,
    Core,
    Worker,
    /// An engine, or what it has started.
    Engine,
    /// A verb on behalf of the driver.
    Verb,
}

/// A process, told from any later one by its start.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) start: u64,
    pub(crate) role: Role,
    pub(crate) words: String,
}

impl Process {
    /// Ends it as a crash would, if it is still there.
    pub(crate) fn kill(&self) {
        if is_alive(self.pid, self.start) {
            kill(self.pid);
        }
    }
}

/// Whether the process that started then still runs.
pub(crate) fn is_alive(pid: i32, start: u64) -> bool {
    tree::process(pid).is_some_and(|p| p.start == start && !p.zombie)
}

/// What every agent has besides its command.
const SLOTS: &str = "slots = 2\nengine =";

/// The stage, and the room that is kept alive on it.
pub(crate) struct Stage {
    inner: common::Stage,
    pub(crate) path: PathBuf,
    room: Option<Child>,
    not_before: Instant,
    /// Rooms started.
    pub(crate) rooms: usize,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let toml = "[room]\nmax_running = 6\n[retry]\nbackoff = [\"10ms\", \"20ms\", \"50ms\"]\n";
        let inner = common::Stage::scripted(toml);
        let path = inner.path.clone();
        let settings = path.join("podium.toml");
        fs::write(&settings, fs::read_to_string(&settings).unwrap().replace("engine =", SLOTS)).unwrap();
        fs::create_dir(path.join("locks")).unwrap();
        for name in AGENTS {
            fs::create_dir_all(path.join("tasks").join(name)).unwrap();
        }
        Self { inner, path, room: None, not_before: Instant::now(), rooms: 0 }
    }

    fn root(&self) -> &Path {
        self.inner.root.path()
    }

    /// Where the engines make their notes.
    pub(crate) fn notes(&self) -> PathBuf {
        self.root().join("notes")
    }

    /// Where a task's result appears.
    pub(crate) fn result(&self, task: &str) -> PathBuf {
        self.path.join(format!("results/{task}.json"))
    }

    /// Lays down what the tasks do, and drops those that come as files.
    pub(crate) fn lay_down(&self, graph: &[Task]) {
        for task in graph {
            let (notes, lock) = (self.notes().display().to_string(), self.path.join("locks").join(task.id()));
            let (lock, works, answer) =
                (lock.display().to_string(), task.works.as_secs_f64().to_string(), task.answer());
            let results: Vec<String> = task.after.iter().map(|name| self.result(name).display().to_string()).collect();
            let mut steps = vec!["--notes", &notes, "--alone", &lock, "--note", "begin"];
            steps.extend(results.iter().flat_map(|path| ["--after", path]));
            steps.extend(task.manners.steps());
            steps.extend(["--sleep", &works, "--print", &answer, "--note", "end"]);
            self.inner.steps(task.id(), &steps);
        }
        // The last first: what it depends on is not there yet.
        for task in graph.iter().rev().filter(|t| !t.by_verb) {
            let inbox = self.path.join("tasks").join(task.agent());
            let half = inbox.join(format!(".{}.tmp", task.id()));
            fs::write(&half, file_of(task)).unwrap();
            fs::rename(half, inbox.join(format!("{}.json", task.id()))).unwrap();
        }
    }

    /// Submits a task by the verb until it says that it has: whatever room there is may be killed meanwhile.
    pub(crate) fn submit(&self, task: &Task) -> impl Future<Output = ()> + Send + use<> {
        let file = self.root().join(format!("{}.json", task.id()));
        fs::write(&file, file_of(task)).unwrap();
        let mut command =
            tokio::process::Command::from(self.inner.command(&["submit", "--file", file.to_str().unwrap()]));
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        async move {
            while !command.status().await.unwrap().success() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Starts a room if there was none or it has ended; tells how that was.
    pub(crate) fn keep_room(&mut self) -> Option<ExitStatus> {
        let ended = match &mut self.room {
            None => None,
            Some(room) => Some(room.try_wait().unwrap()?),
        };
        if ended.is_some_and(|status| status.code() == Some(TAKEN)) {
            self.not_before = Instant::now() + REST;
        }
        if Instant::now() < self.not_before {
            self.room = None;
            return ended;
        }
        let log = OpenOptions::new().create(true).append(true).open(self.root().join("room.log")).unwrap();
        let mut command = self.inner.command(&["serve"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.room = Some(command.spawn().unwrap());
        self.rooms += 1;
        ended
    }

    /// Whether the newest room is there and answers.
    pub(crate) fn is_open(&self) -> bool {
        let trace = fs::read(self.path.join(".podium/room.json")).ok();
        let trace: Option<Value> = trace.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let newest = self.room.as_ref().map(Child::id);
        trace.is_some_and(|t| t["pid"].as_u64() == newest.map(u64::from))
            && UnixStream::connect(socket_path(&self.path)).is_ok()
    }

    /// Stops the room as an operator does, and tells what is left of it and of all that it started.
    pub(crate) async fn close(&mut self) -> Result<(), String> {
        let ended = assert_cmd::Command::from_std(self.inner.command(&["stop"])).timeout(GOING).output().unwrap();
        if !ended.status.success() {
            return Err(format!("the stop: {} {}", ended.status, String::from_utf8_lossy(&ended.stderr)));
        }
        let end = Instant::now() + GOING;
        let mut status = None;
        loop {
            if let Some(room) = &mut self.room {
                status = status.or(room.try_wait().unwrap());
            }
            let left = self.processes();
            if left.is_empty() && status.is_some() {
                break;
            }
            if Instant::now() >= end {
                return Err(format!("still there after the stop: {left:#?}"));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        self.room = None;
        status.filter(|s| !s.success()).map_or(Ok(()), |s| Err(format!("the room left with {s}")))
    }

    /// Every process that belongs to this stage, the oldest first.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let role = |words: &str| match words.strip_prefix(PODIUM).and_then(|rest| rest.split_ascii_whitespace().next())
        {
            Some("serve") if words.contains(" --core ") => Role::Core,
            Some("serve") => Role::Guardian,
            Some("worker") => Role::Worker,
            Some("submit" | "stop") => Role::Verb,
            _ => Role::Engine,
        };
        let found = self.inner.processes().into_iter();
        let known = |(pid, words): (i32, String)| {
            let start = tree::process(pid)?.start;
            Some(Process { pid, start, role: role(&words), words })
        };
        let mut found: Vec<Process> = found.filter_map(known).collect();
        found.sort_by_key(|p| (p.start, p.pid));
        found
    }

    /// The ends of all logs, and every line that names `word`.
    pub(crate) fn logs(&self, word: Option<&str>) -> String {
        let logs = fs::read_dir(self.path.join("logs")).into_iter().flatten().flatten().map(|e| e.path());
        let mut text = String::new();
        for path in std::iter::once(self.root().join("room.log")).chain(logs) {
            let Ok(words) = fs::read_to_string(&path) else { continue };
            let mut lines: Vec<&str> = words.lines().filter(|l| word.is_none_or(|w| l.contains(w))).collect();
            let skipped = lines.len().saturating_sub(40);
            lines.drain(..skipped);
            if !lines.is_empty() {
                writeln!(text, "--- {}, {skipped} lines before\n{}", path.display(), lines.join("\n")).unwrap();
            }
        }
        text
    }

    /// Everything on disk about a task, small files with their content.
    pub(crate) fn traces(&self, task: &str) -> String {
        let (agent, id) = task.split_once('/').unwrap();
        let mut text = String::new();
        let mut folders = vec![self.path.join("tasks").join(agent), self.path.join("results").join(agent)];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if concerns(&path, id) {
                    let shown = path.strip_prefix(&self.path).unwrap_or(&path).display().to_string();
                    let content = fs::read_to_string(&path).unwrap_or_default();
                    let content: String = content.chars().take(600).collect();
                    writeln!(text, "{shown}: {}", content.trim_end()).unwrap();
                }
            }
        }
        text
    }

    /// Keeps the folder after the test, and tells where it is.
    pub(crate) fn keep(&mut self) -> &Path {
        self.inner.root.disable_cleanup(true);
        self.root()
    }
}

/// What stands in the task's file.
fn file_of(task: &Task) -> String {
    let text = format!("Say {}.", task.answer());
    json!({
        "task_id": task.id(), "worker": task.agent(), "description": text, "dependencies": task.after,
        "max_attempts": ATTEMPTS,
    })
    .to_string()
}

/// Whether a part of the path is the id, or begins with it and a dot.
fn concerns(path: &Path, id: &str) -> bool {
    path.iter().any(|part| {
        let part = part.to_string_lossy();
        let rest = part.trim_start_matches('.').trim_start_matches("new-").trim_start_matches("exit-").strip_prefix(id);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
