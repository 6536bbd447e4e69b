//! A stage of its own with a real room, and the processes that belong to it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs::{self, OpenOptions},
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use podium::{attach::socket_path, engines::tree};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::plan::{AGENTS, Task};

const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

/// How long anything may take to be gone after it was told to go.
const GOING: Duration = Duration::from_secs(40);

/// The exit code of a room that found the stage taken.
pub(crate) const TAKEN: i32 = 3;

/// How long the driver waits before it tries again.
const REST: Duration = Duration::from_millis(200);

/// Starts that a task may have; every kill that hits it costs one.
pub(crate) const ATTEMPTS: u32 = 60;

/// Carries out the steps that are laid down for the task.
const AGENT: &str = r#"#!/bin/sh
eval "set -- $(cat "${0%/*}/steps/$PODIUM_TASK_ID")"
exec "$PROGRAM" __script "$@"
"#;

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
            let _gone = kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL);
        }
    }
}

/// Whether the process that started then still runs.
pub(crate) fn is_alive(pid: i32, start: u64) -> bool {
    tree::process(pid).is_some_and(|p| p.start == start && !p.zombie)
}

/// The stage and everything around it.
#[derive(Debug)]
pub(crate) struct Stage {
    root: tempfile::TempDir,
    pub(crate) path: PathBuf,
    env: BTreeMap<String, OsString>,
    room: Option<Child>,
    not_before: Instant,
    /// Rooms started.
    pub(crate) rooms: usize,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("podium-harness-").tempdir().unwrap();
        let path = root.path().canonicalize().unwrap().join("stage");
        let home = root.path().join("home");
        for folder in [path.join("steps"), path.join("locks"), home.join("tmp")] {
            fs::create_dir_all(folder).unwrap();
        }
        let agent = path.join("agent.sh");
        fs::write(&agent, AGENT.replace("$PROGRAM", PODIUM)).unwrap();
        let mut toml = "[room]\nmax_running = 6\n[retry]\nbackoff = [\"10ms\", \"20ms\", \"50ms\"]\n".to_owned();
        for name in AGENTS {
            let command = json!(["sh", agent]);
            writeln!(toml, "[agents.{name}]\nengine = \"command\"\nslots = 2\ncommand = {command}").unwrap();
            fs::create_dir_all(path.join("tasks").join(name)).unwrap();
        }
        fs::write(path.join("podium.toml"), toml).unwrap();
        let mut env: BTreeMap<String, OsString> = [
            ("HOME", home.clone()),
            ("XDG_DATA_HOME", home.join("data")),
            ("XDG_CONFIG_HOME", home.join("config")),
            ("TMPDIR", home.join("tmp")),
            ("CLAUDE_COMMAND", home.join("no-such-program")),
        ]
        .into_iter()
        .map(|(name, path)| (name.to_owned(), path.into_os_string()))
        .collect();
        env.insert("PATH".to_owned(), std::env::var_os("PATH").unwrap());
        Self { root, path, env, room: None, not_before: Instant::now(), rooms: 0 }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PODIUM);
        command.args(args).env_clear().envs(&self.env).current_dir(&self.path).stdin(Stdio::null());
        command
    }

    /// Where the engines make their notes.
    pub(crate) fn notes(&self) -> PathBuf {
        self.root.path().join("notes")
    }

    /// Where a task's result appears.
    pub(crate) fn result(&self, task: &str) -> PathBuf {
        self.path.join(format!("results/{task}.json"))
    }

    /// Lays down what the tasks do, and drops those that come as files.
    pub(crate) fn lay_down(&self, graph: &[Task]) {
        for task in graph {
            let (notes, lock) = (self.notes().display().to_string(), self.path.join("locks").join(task.id()));
            let mut steps = vec!["--notes".to_owned(), notes];
            steps.extend(["--alone".to_owned(), lock.display().to_string()]);
            steps.extend(["--note", "begin"].map(str::to_owned));
            for name in &task.after {
                steps.extend(["--after".to_owned(), self.result(name).display().to_string()]);
            }
            steps.extend(task.manners.steps().iter().map(|s| (*s).to_owned()));
            steps.extend(["--sleep".to_owned(), format!("{:.3}", task.works as f64 / 1000.0)]);
            steps.extend(["--print".to_owned(), task.answer()]);
            steps.extend(["--note", "end"].map(str::to_owned));
            let quoted: Vec<String> = steps.iter().map(|s| format!("'{s}'")).collect();
            fs::write(self.path.join("steps").join(task.id()), quoted.join(" ")).unwrap();
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
        let file = self.root.path().join(format!("{}.json", task.id()));
        fs::write(&file, file_of(task)).unwrap();
        let mut command = tokio::process::Command::from(self.command(&["submit", "--file", file.to_str().unwrap()]));
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
        let log = OpenOptions::new().create(true).append(true).open(self.root.path().join("room.log")).unwrap();
        let mut command = self.command(&["serve"]);
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
        let ended = assert_cmd::Command::from_std(self.command(&["stop"])).timeout(GOING).output().unwrap();
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

    /// Every process that belongs to this stage: by its words, its environment or its folder.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mark = self.root.path().file_name().unwrap().as_bytes();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let holds = |bytes: &[u8]| bytes.windows(mark.len()).any(|w| w == mark);
        let mut found = Vec::new();
        for process in tree::table().into_iter().filter(|p| !p.zombie && p.pid != own) {
            let place = PathBuf::from(format!("/proc/{}", process.pid));
            let words = fs::read(place.join("cmdline")).unwrap_or_default();
            let folder = fs::read_link(place.join("cwd")).unwrap_or_default();
            if holds(&words)
                || holds(folder.as_os_str().as_bytes())
                || holds(&fs::read(place.join("environ")).unwrap_or_default())
            {
                let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
                let role = match words.strip_prefix(PODIUM).and_then(|rest| rest.split_ascii_whitespace().next()) {
                    Some("serve") if words.contains(" --core ") => Role::Core,
                    Some("serve") => Role::Guardian,
                    Some("worker") => Role::Worker,
                    Some("submit" | "stop") => Role::Verb,
                    _ => Role::Engine,
                };
                found.push(Process { pid: process.pid, start: process.start, role, words });
            }
        }
        found.sort_by_key(|p| (p.start, p.pid));
        found
    }

    /// The ends of all logs, and every line that names `word`.
    pub(crate) fn logs(&self, word: Option<&str>) -> String {
        let logs = fs::read_dir(self.path.join("logs")).into_iter().flatten().flatten().map(|e| e.path());
        let mut text = String::new();
        for path in std::iter::once(self.root.path().join("room.log")).chain(logs) {
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
        self.root.disable_cleanup(true);
        self.root.path()
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

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(room) = &mut self.room {
            drop(room.kill());
            drop(room.wait());
        }
        #[expect(clippy::disallowed_methods, reason = "a deadline where nothing can be awaited")]
        let (now, pause) = (std::time::Instant::now, std::thread::sleep);
        let end = now() + GOING;
        loop {
            let left = self.processes();
            if left.is_empty() || now() >= end {
                break;
            }
            // Those first that start others again.
            for process in left.iter().filter(|p| matches!(p.role, Role::Guardian | Role::Core)).chain(&left) {
                process.kill();
            }
            pause(Duration::from_millis(20));
        }
    }
}
