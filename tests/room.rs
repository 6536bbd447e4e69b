//! The room for real: `podium serve` with its worker processes in a stage of its own, driven as operators and scripts
//! drive it: through the socket, the verbs and plain files. Every test sees everything that it started gone.

#![expect(clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use podium::{
    attach::{client::Link, socket_path},
    engines::tree,
    model::{Clock, TaskRef},
    rehearsal::{self, StandIn},
    room::{Answer, Order, State},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

/// How long any one thing may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long anything may take to be gone after it was told to go.
const GOING: Duration = Duration::from_secs(25);

/// All three agents run [`AGENT`], whatever the task's steps are; a failed attempt is tried again almost at once.
const COMMANDS: &str = r#"
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
struct Stage {
    root: tempfile::TempDir,
    path: PathBuf,
    env: BTreeMap<String, OsString>,
    rooms: Vec<Child>,
}

/// How a verb ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl Stage {
    /// A stage with this `podium.toml` and nothing else.
    fn bare(toml: &str) -> Self {
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
    fn scripted(toml: &str) -> Self {
        let stage = Self::bare("");
        let agent = stage.path.join("agent.sh");
        fs::write(&agent, AGENT.replace("$PROGRAM", PODIUM)).unwrap();
        let mut text = format!("{toml}\n");
        for name in ["marie", "anga", "fabien"] {
            let command = json!(["sh", agent]);
            text.push_str(&format!("[agents.{name}]\nengine = \"command\"\ncommand = {command}\n"));
        }
        fs::write(stage.path.join("podium.toml"), text).unwrap();
        stage
    }

    /// A scripted stage whose room is open.
    async fn open() -> Self {
        let mut stage = Self::scripted(COMMANDS);
        stage.serve().await;
        stage
    }

    /// Lays down what the task with this id does.
    fn steps(&self, id: &str, steps: &[&str]) {
        let quoted: Vec<String> = steps.iter().map(|s| format!("'{}'", s.replace('\'', r"'\''"))).collect();
        fs::write(self.path.join("steps").join(id), quoted.join(" ")).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PODIUM);
        command.args(args).env_clear().envs(&self.env).current_dir(&self.path).stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    fn run(&self, args: &[&str]) -> Ran {
        let ended = assert_cmd::Command::from_std(self.command(args)).timeout(PATIENCE).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
    }

    fn status(&self) -> Value {
        self.run(&["status", "--json"]).exits(0).json()
    }

    /// Starts a room and waits until it answers. Tells its process.
    async fn serve(&mut self) -> i32 {
        let log = OpenOptions::new().create(true).append(true).open(self.root.path().join("room.log")).unwrap();
        let mut command = self.command(&["serve"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut room = command.spawn().unwrap();
        let pid = room.id();
        eventually("the room to open", || {
            assert!(room.try_wait().unwrap().is_none(), "the room ended: {}", self.logs());
            std::os::unix::net::UnixStream::connect(socket_path(&self.path)).ok()
        })
        .await;
        self.rooms.push(room);
        self.until("the workers to be up", |state| {
            (state.pid == pid && state.agents.iter().all(|a| a.slots.iter().all(|s| s.pid().is_some()))).then_some(())
        })
        .await;
        i32::try_from(pid).unwrap()
    }

    async fn link(&self) -> Link {
        Link::connect(&self.path).await.unwrap()
    }

    /// Waits until the room's state holds what is looked for.
    async fn until<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
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

    async fn order(&self, order: Order) -> Answer {
        self.link().await.order(order).await.unwrap()
    }

    /// Submits a task that has steps laid down; `steps` may be empty for one that repeats its prompt.
    fn submit(&self, task: &str, steps: &[&str], more: &[&str]) {
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
    async fn result(&self, task: &str) -> Value {
        let path = self.path.join(format!("results/{task}.json"));
        let bytes = eventually(&format!("the result of {task}"), || fs::read(&path).ok()).await;
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Waits for a task's child; tells its process and the attempt's number.
    async fn child(&self, task: &str) -> (i32, u32) {
        let task: TaskRef = task.parse().unwrap();
        self.until(&format!("{task} to run"), |state| {
            let held = state.agents.holder(&task)?.held.as_ref()?;
            Some((i32::try_from(held.pid?).unwrap(), held.attempt?))
        })
        .await
    }

    /// The worker process of an agent.
    async fn worker(&self, agent: &str) -> i32 {
        let agent = agent.parse().unwrap();
        self.until("a worker", |state| {
            let slot = state.agents.get(&agent)?.slots.first()?;
            if !matches!(slot.process, podium::room::Process::Up { .. }) {
                return None;
            }
            i32::try_from(slot.pid()?).ok()
        })
        .await
    }

    /// Every process that belongs to this stage: by its arguments, its environment or its folder.
    fn processes(&self) -> Vec<(i32, String)> {
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
            if holds(&words) || holds(&environment) || holds(folder.as_os_str().as_bytes()) {
                found.push((process.pid, String::from_utf8_lossy(&words).replace('\0', " ")));
            }
        }
        found
    }

    /// Takes the exit code of rooms that have ended.
    fn reap(&mut self) -> Vec<std::process::ExitStatus> {
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

    /// Waits until nothing of this stage is left, and tells how its rooms ended.
    async fn gone(&mut self) -> Vec<std::process::ExitStatus> {
        let end = Instant::now() + GOING;
        let mut ended = Vec::new();
        loop {
            ended.extend(self.reap());
            let left = self.processes();
            if left.is_empty() && self.rooms.is_empty() {
                assert!(!socket_path(&self.path).exists(), "the socket is still there");
                return ended;
            }
            assert!(Instant::now() < end, "still there: {left:#?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Stops the room as an operator does, and sees everything gone.
    async fn close(mut self) {
        self.run(&["stop"]).exits(0);
        for status in self.gone().await {
            assert!(status.success(), "{status}");
        }
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        let logs = fs::read_dir(self.path.join("logs")).into_iter().flatten().flatten().map(|e| e.path());
        for path in std::iter::once(self.root.path().join("room.log")).chain(logs) {
            if let Ok(words) = fs::read_to_string(&path) {
                let from = words.len().saturating_sub(6_000);
                let from = (from..=words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or(0);
                text.push_str(&format!("--- {}\n{}\n", path.display(), words.split_at(from).1));
            }
        }
        text
    }

    /// Everything below a folder, one name a line.
    fn listing(&self) -> String {
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
fn kill(pid: i32) {
    let _gone = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

#[expect(clippy::disallowed_methods, reason = "a drop cannot wait in any other way")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn is_alive(pid: i32) -> bool {
    tree::process(pid).is_some_and(|p| !p.zombie)
}

/// Waits until there is what is looked for.
async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn clock() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
    Clock::new(Timestamp::now)
}

#[track_caller]
fn assert_ended(result: &Value, state: &str, attempts: u64) {
    assert_eq!((&result["state"], &result["attempts"]), (&json!(state), &json!(attempts)), "{result:#}");
    let status = if state == "done" { "complete" } else { "failed" };
    assert_eq!(result["status"], status, "{result:#}");
}

#[tokio::test]
async fn a_file_that_arrives_in_any_of_the_four_ways_ends_in_results() {
    let mut stage = Stage::scripted(COMMANDS);
    let inbox = stage.path.join("tasks/marie");
    fs::create_dir_all(&inbox).unwrap();
    fs::write(inbox.join("before.json"), r#"{"description":"it was here before"}"#).unwrap();
    stage.serve().await;

    let mut slowly = fs::File::create(inbox.join("in-place.json")).unwrap();
    slowly.write_all(br#"{"description":"written in "#).unwrap();
    slowly.sync_all().unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    slowly.write_all(br#"two pieces"}"#).unwrap();
    drop(slowly);

    let elsewhere = stage.path.join("elsewhere.json");
    fs::write(&elsewhere, r#"{"description":"renamed in"}"#).unwrap();
    fs::rename(&elsewhere, inbox.join("renamed.json")).unwrap();

    // Edited while it waits: what was saved last is what runs.
    stage.run(&["pause", "fabien"]).exits(0);
    let edited = stage.path.join("tasks/fabien/edited.json");
    fs::write(&edited, r#"{"description":"the first thought"}"#).unwrap();
    let task: TaskRef = "fabien/edited".parse().unwrap();
    stage.until("the first thought", |s| s.tasks.get(&task).map(|_| ())).await;
    fs::write(&edited, r#"{"description":"the second thought"}"#).unwrap();
    stage
        .until("the second thought", |s| {
            (s.tasks.get(&task)?.record.spec.description == "the second thought").then_some(())
        })
        .await;
    stage.run(&["resume", "fabien"]).exits(0);

    for (task, words) in [
        ("marie/before", "it was here before"),
        ("marie/in-place", "written in two pieces"),
        ("marie/renamed", "renamed in"),
        ("fabien/edited", "the second thought"),
    ] {
        let result = stage.result(task).await;
        assert_ended(&result, "done", 1);
        assert!(result["summary"].as_str().unwrap().contains(words), "{result:#}");
    }
    stage.close().await;
}

/// The reason with which a file was set aside, or listed where it is.
fn reason_of(status: &Value, name: &str) -> Option<String> {
    let rejected = status["rejected"].as_array().unwrap();
    let found = rejected.iter().find(|r| r["path"].as_str().unwrap().contains(name))?;
    Some(found["reason"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_cannot_be_a_task_is_set_aside_with_its_reason_and_the_room_goes_on() {
    let stage = Stage::open().await;
    let inbox = stage.path.join("tasks/marie");
    fs::write(inbox.join("malformed.json"), r#"{"description": "#).unwrap();
    fs::write(inbox.join("not-utf8.json"), b"{\"description\":\"\xff\xfe\"}").unwrap();
    fs::write(inbox.join("stranger.json"), r#"{"worker":"nobody","description":"x"}"#).unwrap();
    let fifo = inbox.join("fifo.json");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    fs::write(stage.path.join("secret.json"), r#"{"description":"not to be run"}"#).unwrap();
    std::os::unix::fs::symlink(stage.path.join("secret.json"), inbox.join("symlink.json")).unwrap();
    fs::create_dir(inbox.join("folder.json")).unwrap();
    let huge = fs::File::create(inbox.join("huge.json")).unwrap();
    huge.set_len(50 * 1024 * 1024).unwrap();
    drop(huge);

    // Ids that cannot be file names.
    let long = "x".repeat(300);
    let ids = [("slash", "../../etc/passwd"), ("dot", ".hidden"), ("long", &*long), ("control", "a\u{1b}[2Jb")];
    for (name, id) in ids {
        fs::write(inbox.join(format!("{name}.json")), json!({"task_id": id, "description": "x"}).to_string()).unwrap();
    }
    fs::write(inbox.join("empty.json"), r#"{"description":"  "}"#).unwrap();
    fs::write(inbox.join("good.json"), r#"{"description":"the room goes on"}"#).unwrap();

    assert_ended(&stage.result("marie/good").await, "done", 1);
    let empty = stage.result("marie/empty").await;
    assert_eq!(empty["status"], "failed", "{empty:#}");
    assert!(empty["errors"][0]["message"].as_str().unwrap().contains("description"), "{empty:#}");

    for (name, words) in [
        ("malformed", "JSON"),
        ("not-utf8", "UTF-8"),
        ("stranger", "nobody"),
        ("fifo", ""),
        ("symlink", "link"),
        ("folder", ""),
        ("huge", ""),
        ("slash", "task_id"),
        ("dot", "task_id"),
        ("long", "task_id"),
        ("control", "task_id"),
    ] {
        let reason = eventually(name, || reason_of(&stage.status(), name)).await;
        assert!(!reason.is_empty() && reason.contains(words), "{name}: {reason}");
        assert!(!reason.contains('\u{1b}'), "{name}: {reason:?}");
    }
    // Nothing is lost: what was regular lies in rejected/ as it was, with its reason beside it.
    let rejected = inbox.join("rejected");
    assert_eq!(fs::read(rejected.join("malformed.json")).unwrap(), br#"{"description": "#);
    assert!(rejected.join("malformed.json.reason.json").is_file(), "{}", stage.listing());
    assert_eq!(fs::read_dir(stage.path.join("results/marie")).unwrap().flatten().filter(|e| e.path().is_file()).count(), 2);
    // The corrected file may take the same name.
    fs::write(inbox.join("malformed.json"), r#"{"description":"put right"}"#).unwrap();
    assert_ended(&stage.result("marie/malformed").await, "done", 1);
    stage.close().await;
}
