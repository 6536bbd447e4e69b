//! A stage with a real room, shared by the tests that drive one from outside: through the socket, the verbs and plain
//! files. Every process that is started for a stage can be told by its folder, and is seen gone.

pub(crate) mod cli;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs::{self, OpenOptions},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use podium::{
    attach::{client::Link, socket_path},
    engines::tree,
    model::TaskRef,
    room::State,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

/// How long any one thing may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// How long anything may take to be gone after it was told to go.
pub(crate) const GOING: Duration = Duration::from_secs(25);

/// All three agents run [`AGENT`], whatever the task's steps are; a failed attempt is tried again almost at once.
pub(crate) const COMMANDS: &str = r#"
[retry]
attempts = 2
backoff = ["10ms"]
"#;

/// Carries out the steps that the test has laid down for the task; without any it repeats its prompt.
const AGENT: &str = r#"#!/bin/sh
steps="${0%/*}/steps/$PODIUM_TASK_ID"
if [ -f "$steps" ]; then
    eval "set -- $(cat "$steps")"
else
    set -- --echo-stdin
fi
exec "$PROGRAM" __script "$@"
"#;

/// A stage with its room, in a folder that everything it starts can be told by.
pub(crate) struct Stage {
    pub(crate) root: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) env: BTreeMap<String, OsString>,
    rooms: Vec<Child>,
}

/// How a verb ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl Stage {
    /// A stage with this `podium.toml` and nothing else.
    pub(crate) fn bare(toml: &str) -> Self {
        let root = tempfile::Builder::new().prefix("podium-room-").tempdir().unwrap();
        let path = root.path().canonicalize().unwrap().join("stage");
        fs::create_dir_all(path.join("steps")).unwrap();
        fs::write(path.join("podium.toml"), toml).unwrap();
        let home = root.path().join("home");
        fs::create_dir_all(home.join("tmp")).unwrap();
        let mut env: BTreeMap<String, OsString> = [
            ("HOME", home.clone()),
            ("XDG_DATA_HOME", home.join("data")),
            ("XDG_CONFIG_HOME", home.join("config")),
            ("TMPDIR", home.join("tmp")),
            // No CLI, unless a test brings one.
            ("CLAUDE_COMMAND", home.join("no-such-program")),
        ]
        .into_iter()
        .map(|(name, path)| (name.to_owned(), path.into_os_string()))
        .collect();
        env.insert("PATH".to_owned(), std::env::var_os("PATH").unwrap());
        Self { root, path, env, rooms: Vec::new() }
    }

    /// A stage whose agents carry out the steps that are laid down for each task.
    pub(crate) fn scripted(toml: &str) -> Self {
        let stage = Self::bare("");
        let agent = stage.path.join("agent.sh");
        fs::write(&agent, AGENT.replace("$PROGRAM", PODIUM)).unwrap();
        let mut text = format!("{toml}\n");
        for name in ["marie", "anga", "fabien"] {
            let command = json!(["sh", agent]);
            writeln!(text, "[agents.{name}]\nengine = \"command\"\ncommand = {command}").unwrap();
        }
        fs::write(stage.path.join("podium.toml"), text).unwrap();
        stage
    }

    /// A scripted stage whose room is open.
    pub(crate) async fn open() -> Self {
        let mut stage = Self::scripted(COMMANDS);
        stage.serve().await;
        stage
    }

    /// Lays down what the task with this id does.
    pub(crate) fn steps(&self, id: &str, steps: &[&str]) {
        let quoted: Vec<String> = steps.iter().map(|s| format!("'{}'", s.replace('\'', r"'\''"))).collect();
        fs::write(self.path.join("steps").join(id), quoted.join(" ")).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PODIUM);
        command.args(args).env_clear().envs(&self.env).current_dir(&self.path).stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Self::ended(self.command(args))
    }

    /// Runs a verb outside of the stage.
    pub(crate) fn outside(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(PODIUM);
        command.args(args).env_clear().envs(&self.env).current_dir(self.root.path()).stdin(Stdio::null());
        Self::ended(command)
    }

    fn ended(command: Command) -> Ran {
        let ended = assert_cmd::Command::from_std(command).timeout(PATIENCE).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
    }

    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--json"]).exits(0).json()
    }

    /// Starts a room and waits until it answers. Tells its process.
    pub(crate) async fn serve(&mut self) -> i32 {
        let mut command = self.command(&["serve"]);
        self.serve_with(&mut command).await
    }

    /// Starts a room by other means.
    pub(crate) async fn serve_with(&mut self, command: &mut Command) -> i32 {
        let log = OpenOptions::new().create(true).append(true).open(self.root.path().join("room.log")).unwrap();
        command.env_clear().envs(&self.env).current_dir(&self.path).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut room = command.spawn().unwrap();
        let pid = room.id();
        eventually("the room to open", || {
            assert!(room.try_wait().unwrap().is_none(), "the room ended: {}", self.logs());
            self.answers().then_some(())
        })
        .await;
        self.rooms.push(room);
        self.until("the workers to be up", |state| {
            let mut wanted = state.agents.iter().filter(|a| a.halted.is_none() && a.trouble.is_none());
            (state.pid == pid && wanted.all(|a| a.slots.iter().all(|s| s.pid().is_some()))).then_some(())
        })
        .await;
        i32::try_from(pid).unwrap()
    }

    /// Whether there is a room behind the socket.
    pub(crate) fn answers(&self) -> bool {
        std::os::unix::net::UnixStream::connect(socket_path(&self.path)).is_ok()
    }

    pub(crate) async fn link(&self) -> Link {
        Link::connect(&self.path).await.unwrap()
    }

    /// Waits until the room's state holds what is looked for.
    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let waited = tokio::time::timeout(PATIENCE, async {
            let mut link = self.link().await;
            loop {
                if let Some(found) = look(link.state()) {
                    return found;
                }
                link.next().await.unwrap();
            }
        });
        waited.await.unwrap_or_else(|_late| panic!("waited in vain for {what}"))
    }

    /// Submits a task that has steps laid down; `steps` may be empty for one that repeats its prompt.
    pub(crate) fn submit(&self, task: &str, steps: &[&str], more: &[&str]) {
        let (agent, id) = task.split_once('/').unwrap();
        if !steps.is_empty() {
            self.steps(id, steps);
        }
        let text = format!("The text of {task}.");
        let mut args = vec!["submit", "--agent", agent, "--id", id, &text];
        args.extend(more);
        assert_eq!(self.run(&args).exits(0).out.trim(), task);
    }

    /// Waits for a task's result file.
    pub(crate) async fn result(&self, task: &str) -> Value {
        let path = self.path.join(format!("results/{task}.json"));
        let bytes = eventually(&format!("the result of {task}"), || fs::read(&path).ok()).await;
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Waits for a task's child; tells its process and the attempt's number.
    pub(crate) async fn child(&self, task: &str) -> (i32, u32) {
        let task: TaskRef = task.parse().unwrap();
        self.until(&format!("{task} to run"), |state| {
            let held = state.agents.holder(&task)?.held.as_ref()?;
            Some((i32::try_from(held.pid?).unwrap(), held.attempt?))
        })
        .await
    }

    /// The worker process of an agent.
    pub(crate) async fn worker(&self, agent: &str) -> i32 {
        self.worker_but(agent, 0).await
    }

    /// The worker process of an agent, once it is another than this one.
    pub(crate) async fn worker_but(&self, agent: &str, former: i32) -> i32 {
        let agent = agent.parse().unwrap();
        self.until("a worker", |state| {
            let slot = state.agents.get(&agent)?.slots.first()?;
            if !matches!(slot.process, podium::room::Process::Up { .. }) {
                return None;
            }
            i32::try_from(slot.pid()?).ok().filter(|pid| *pid != former)
        })
        .await
    }

    /// Every process that belongs to this stage: by its folder or its environment. What it was called with does not
    /// count: somebody may just be looking at the stage.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let mark = self.root.path().file_name().unwrap().as_bytes();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let holds = |bytes: &[u8]| bytes.windows(mark.len()).any(|w| w == mark);
        let mut found = Vec::new();
        for process in tree::table() {
            if process.zombie || process.pid == own {
                continue;
            }
            let place = PathBuf::from(format!("/proc/{}", process.pid));
            let words = fs::read(place.join("cmdline")).unwrap_or_default();
            let folder = fs::read_link(place.join("cwd")).unwrap_or_default();
            let environment = fs::read(place.join("environ")).unwrap_or_default();
            if holds(&environment) || holds(folder.as_os_str().as_bytes()) {
                found.push((process.pid, String::from_utf8_lossy(&words).replace('\0', " ")));
            }
        }
        found
    }

    /// Takes the exit code of rooms that have ended.
    pub(crate) fn reap(&mut self) -> Vec<std::process::ExitStatus> {
        let mut ended = Vec::new();
        self.rooms.retain_mut(|room| match room.try_wait().unwrap() {
            Some(status) => {
                ended.push(status);
                false
            }
            None => true,
        });
        ended
    }

    /// A file that does not exist yet, for `--wait-for`.
    pub(crate) fn gate(&self) -> PathBuf {
        self.path.join("gate")
    }

    pub(crate) fn open_gate(&self) {
        fs::write(self.gate(), "").unwrap();
    }

    /// The core's process; the room's own is its guardian's.
    pub(crate) fn core(&self) -> i32 {
        self.last_core().unwrap()
    }

    /// The newest core that got as far as opening.
    fn last_core(&self) -> Option<i32> {
        let trace: Value = serde_json::from_slice(&fs::read(self.path.join(".podium/room.json")).ok()?).unwrap();
        Some(i32::try_from(trace["core"].as_i64()?).unwrap())
    }

    /// Kills all of the newest room at once: its guardian, which would start its core again, and its core, which would
    /// leave in order.
    pub(crate) fn crash(&mut self) {
        let mut room = self.rooms.pop().unwrap();
        let guardian = Pid::from_raw(i32::try_from(room.id()).unwrap()).unwrap();
        kill_process(guardian, Signal::STOP).unwrap();
        let core = self.core();
        kill(core);
        room.kill().unwrap();
        room.wait().unwrap();
        // The stage is free when both are gone.
        while is_alive(core) || is_corpse(core) {
            pause();
        }
    }

    /// The processes that run steps for a task.
    pub(crate) fn scripts(&self) -> Vec<i32> {
        self.processes().into_iter().filter(|(_, words)| words.contains("__script")).map(|(pid, _)| pid).collect()
    }

    /// Waits for this many of them.
    pub(crate) async fn some_scripts(&self, count: usize) -> Vec<i32> {
        eventually("the scripts to run", || Some(self.scripts()).filter(|s| s.len() == count)).await
    }

    /// The numbers of a task's attempts, as their folders say.
    pub(crate) fn attempts(&self, task: &str) -> Vec<String> {
        let (agent, id) = task.split_once('/').unwrap();
        let folder = self.path.join(format!("tasks/{agent}/.attempts/{id}"));
        let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| n.parse::<u32>().is_ok()).collect();
        names.sort();
        names
    }

    /// Waits until nothing of this stage is left, and tells how its rooms ended.
    pub(crate) async fn gone(&mut self) -> Vec<std::process::ExitStatus> {
        let end = Instant::now() + GOING;
        let mut ended = Vec::new();
        loop {
            ended.extend(self.reap());
            let left = self.processes();
            // Only now is the stage free.
            let free = !self.last_core().is_some_and(is_corpse);
            if left.is_empty() && self.rooms.is_empty() && free {
                return ended;
            }
            assert!(Instant::now() < end, "still there: {left:#?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Stops the room as an operator does, and sees everything gone.
    pub(crate) async fn close(mut self) {
        self.run(&["stop"]).exits(0);
        self.left().await;
    }

    /// Sees that the room has left in order, and everything with it.
    pub(crate) async fn left(&mut self) {
        for status in self.gone().await {
            assert!(status.success(), "{status}");
        }
        assert!(!socket_path(&self.path).exists(), "the socket is still there");
        assert!(self.run(&["status"]).exits(4).err.contains("no room"));
    }

    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        let logs = fs::read_dir(self.path.join("logs")).into_iter().flatten().flatten().map(|e| e.path());
        for path in std::iter::once(self.root.path().join("room.log")).chain(logs) {
            if let Ok(words) = fs::read_to_string(&path) {
                let from = words.len().saturating_sub(6_000);
                let from = (from..=words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or(0);
                writeln!(text, "--- {}\n{}", path.display(), words.split_at(from).1).unwrap();
            }
        }
        text
    }

    /// Everything below a folder, one name a line.
    pub(crate) fn listing(&self) -> String {
        let mut folders = vec![self.path.join("tasks"), self.path.join("results")];
        let mut names = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    names.push(entry.path().strip_prefix(&self.path).unwrap().display().to_string());
                }
            }
        }
        names.sort();
        names.join("\n")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("=== what there is\n{}", self.listing());
            eprintln!("=== status\n{}", self.run(&["status"]).out);
            eprintln!("=== logs\n{}", self.logs());
        }
        // Workers come again as long as their room lives, so the rooms go first.
        for room in &mut self.rooms {
            drop(room.kill());
            drop(room.wait());
        }
        let end = Instant::now() + GOING;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() >= end {
                break;
            }
            for (pid, _) in left {
                kill(pid);
            }
            pause();
        }
    }
}

/// Ends a process at once, as a crash would.
pub(crate) fn kill(pid: i32) {
    let _gone = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

#[expect(clippy::disallowed_methods, reason = "a drop and a crash cannot wait in any other way")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// A process whose first thread has ended; others may still have its files open.
fn is_corpse(pid: i32) -> bool {
    tree::process(pid).is_some_and(|p| p.zombie)
}

pub(crate) fn is_alive(pid: i32) -> bool {
    tree::process(pid).is_some_and(|p| !p.zombie)
}

/// Waits until there is what is looked for.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A result is in this state after this many attempts.
#[track_caller]
pub(crate) fn assert_ended(result: &Value, state: &str, attempts: u64) {
    assert_eq!((&result["state"], &result["attempts"]), (&json!(state), &json!(attempts)), "{result:#}");
    let status = if state == "done" { "complete" } else { "failed" };
    assert_eq!(result["status"], status, "{result:#}");
}

/// The reason with which a file was set aside, or listed where it is.
pub(crate) fn reason_of(status: &Value, name: &str) -> Option<String> {
    let rejected = status["rejected"].as_array().unwrap();
    let found = rejected.iter().find(|r| r["path"].as_str().unwrap().contains(name))?;
    Some(found["reason"].as_str().unwrap().to_owned())
}

/// Every file below a folder that holds these words.
pub(crate) fn files_with(words: &str, folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                found.extend(bytes.windows(words.len()).any(|w| w == words.as_bytes()).then(|| entry.path()));
            }
        }
    }
    found
}
