//! The whole room, the real program with its workers, on a small disk that fills up, on one that is read-only, and
//! where the kernel tells of no changes.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use podium::attach::socket_path;
use serde_json::Value;

use super::{
    disks::{Mount, may_mount},
    power::eventually,
};

const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

/// How long a verb may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Reads its prompt, says what it found, and stays until it is let go.
const AGENT: &str =
    "#!/bin/sh\ncat > /dev/null\necho \"what $PODIUM_TASK_ID found\"\nwhile [ ! -e GATE ]; do sleep 0.05; done\n";

/// A stage on some disk, with a home and a gate that are not on it.
struct Stage {
    path: PathBuf,
    outside: tempfile::TempDir,
    room: Option<Child>,
}

/// How a verb ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Stage {
    fn new(path: &Path) -> Self {
        let outside = tempfile::Builder::new().prefix("podium-whole-").tempdir().unwrap();
        fs::create_dir_all(path).unwrap();
        let agent = outside.path().join("agent.sh");
        fs::write(&agent, AGENT.replace("GATE", outside.path().join("gate").to_str().unwrap())).unwrap();
        let command = serde_json::json!(["sh", agent]);
        let table = |name| format!("[agents.{name}]\nengine = \"command\"\ncommand = {command}\n");
        // With a budget no model call passes while the ledger takes no rows; tests/money.rs has that.
        let free = "[budget]\ntask_usd = 0\ngoal_usd = 0\nday_usd = 0\n";
        fs::write(path.join("podium.toml"), ["marie", "anga", "fabien"].map(table).concat() + free).unwrap();
        Self { path: path.canonicalize().unwrap(), outside, room: None }
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let home = self.outside.path();
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir(&self.path).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home);
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "CLAUDE_COMMAND"] {
            command.env(name, home.join(name));
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ended = assert_cmd::Command::from_std(self.command(PODIUM, args)).timeout(PATIENCE).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
    }

    fn status(&self) -> Value {
        let ran = self.run(&["status", "--json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Opens the room, by way of another program where one is named.
    fn serve(&mut self, program: &str, args: &[&str]) {
        let log = OpenOptions::new().create(true).append(true).open(self.outside.path().join("room.log")).unwrap();
        let mut command = self.command(program, args);
        let mut room = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        eventually("the room to open", || {
            assert!(room.try_wait().unwrap().is_none(), "the room ended: {}", self.log());
            std::os::unix::net::UnixStream::connect(socket_path(&self.path)).ok()
        });
        self.room = Some(room);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.outside.path().join("room.log")).unwrap_or_default()
    }

    fn submit(&self, agent: &str, id: &str) -> Ran {
        self.run(&["submit", "--agent", agent, "--id", id, "Do it."])
    }

    fn result(&self, task: &str) -> Value {
        let path = self.path.join(format!("results/{task}.json"));
        let bytes = eventually(&format!("the result of {task}: {}", self.log()), || fs::read(&path).ok());
        serde_json::from_slice(&bytes).unwrap()
    }

    fn open_gate(&self) {
        fs::write(self.outside.path().join("gate"), "").unwrap();
    }

    fn close(&mut self) {
        let ran = self.run(&["stop"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let mut room = self.room.take().unwrap();
        let status = eventually("the room to end", || room.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
    }

    fn lines(&self, pattern: &str) -> usize {
        let (folder, start) = pattern.rsplit_once('/').unwrap();
        let entries = fs::read_dir(self.path.join(folder)).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
        files.map(|file| fs::read_to_string(file.path()).unwrap().lines().count()).sum()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.open_gate();
        if let Some(mut room) = self.room.take() {
            if std::thread::panicking() {
                eprintln!("{}", self.log());
            }
            drop(self.run(&["stop"]));
            drop(room.kill());
            drop(room.wait());
        }
    }
}

/// F3, end to end (G3, G12, G15).
#[test]
fn a_room_on_a_full_disk_stays_says_so_finishes_what_runs_and_goes_on_when_there_is_room() {
    if !may_mount() {
        return;
    }
    let mount = Mount::memory("size=4m");
    let mut stage = Stage::new(&mount.path().join("stage"));
    let serve = ["serve", "--rehearse", "--pace", "0"];
    stage.serve(PODIUM, &serve);
    let running = [("marie", "m1"), ("anga", "a1"), ("fabien", "f1")];
    for (agent, id) in running {
        assert_eq!(stage.submit(agent, id).code, Some(0));
        let log = stage.path.join(format!("logs/{agent}/{id}.1.log"));
        eventually("the agent to speak", || fs::metadata(&log).ok().filter(|meta| meta.len() > 0));
    }
    let waiting = [("marie", "m2"), ("anga", "a2")];
    for (agent, id) in waiting {
        assert_eq!(stage.submit(agent, id).code, Some(0));
    }
    assert_eq!(stage.status()["space"], Value::Null);

    let ballast = mount.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let why = eventually("the room to say so", || stage.status()["space"].as_str().map(str::to_owned));
    assert!(why.starts_with("the disk has ") && why.contains("nothing new is started"), "{why}");
    assert!(stage.run(&["status"]).out.contains("nothing new is started"));
    let refused = stage.submit("marie", "m3");
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("nothing is accepted"), "{refused:?}");
    let doctor: Value = serde_json::from_str(&stage.run(&["doctor", "--json"]).out).unwrap();
    let disk = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "disk").unwrap();
    assert_eq!(disk["level"], "fail", "{disk}");

    // Goals are facts of the journal: what it cannot take is refused, and what follows from a yes is kept.
    let mut goals = 0;
    let refused = loop {
        let ran = stage.run(&["run", "--detach", "--approve", "never", "Look at the disk."]);
        if ran.code != Some(0) {
            break ran;
        }
        goals += 1;
        let planned = |goal: &Value| goal["state"] != "planning";
        eventually("the plan", || stage.status()["goals"].as_array().unwrap().iter().all(planned).then_some(()));
    };
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("journal") && refused.err.contains("No space left"), "{refused:?}");

    // What runs is finished, out of the reserve; what waits is not begun.
    stage.open_gate();
    for (agent, id) in running {
        let result = stage.result(&format!("{agent}/{id}"));
        assert_eq!((result["state"].as_str(), result["attempts"].as_u64()), (Some("done"), Some(1)), "{result:#}");
    }
    for (agent, id) in waiting {
        assert!(!stage.path.join(format!("tasks/{agent}/.attempts/{id}/1")).exists());
    }
    assert!(stage.room.as_mut().unwrap().try_wait().unwrap().is_none());

    fs::remove_file(&ballast).unwrap();
    eventually("room again", || stage.status()["space"].is_null().then_some(()));
    for (agent, id) in waiting {
        let result = stage.result(&format!("{agent}/{id}"));
        assert_eq!((result["state"].as_str(), result["attempts"].as_u64()), (Some("done"), Some(1)), "{result:#}");
    }
    assert_eq!(stage.submit("marie", "m3").code, Some(0));
    stage.result("marie/m3");
    let calls = stage.lines(".podium/ledger/calls-");
    assert!(calls >= goals, "{calls} calls of {goals} goals in the ledger");

    // A new room knows all that was said yes to.
    let before = stage.status();
    stage.close();
    stage.serve(PODIUM, &serve);
    let after = eventually("every task", || {
        Some(stage.status()).filter(|status| status["tasks"].as_array().unwrap().len() == 6)
    });
    assert_eq!(after["goals"].as_array().unwrap().len(), goals);
    assert_eq!(after["goals"], before["goals"]);
    assert_eq!(after["counts"]["done"], 6, "{after:#}");
    stage.close();
    println!("{goals} goals were accepted on a full disk, {calls} calls");
}

/// G15, section 7: nothing is begun where nothing can be written, and what can be read is read.
#[test]
fn a_read_only_stage_is_refused_with_a_sentence_and_can_be_read() {
    if !may_mount() {
        return;
    }
    let mount = Mount::memory("size=16m");
    let mut stage = Stage::new(&mount.path().join("stage"));
    stage.open_gate();
    stage.serve(PODIUM, &["serve"]);
    assert_eq!(stage.submit("marie", "m1").code, Some(0));
    stage.result("marie/m1");
    stage.close();
    mount.remount("ro");
    for args in [&["serve"][..], &["serve", "--detach"], &["worker", "marie"]] {
        let ran = stage.run(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.err.contains("cannot be written to (the file system is read-only)"), "{args:?}: {ran:?}");
    }
    let logs = stage.run(&["logs"]);
    assert!(logs.code == Some(0) && logs.out.contains("what m1 found"), "{logs:?}");
    let doctor = stage.run(&["doctor"]);
    assert!(doctor.code == Some(1) && doctor.out.contains("cannot be written to"), "{doctor:?}");
    let read_only = "READ-ONLY: ";
    for args in [&["status"][..], &["show", "marie/m1"]] {
        let ran = stage.run(args);
        assert_eq!(ran.code, Some(4), "{args:?}: {ran:?}");
        assert!(ran.err.starts_with(read_only) && ran.err.contains("no room is running"), "{args:?}: {ran:?}");
        assert!(ran.out.contains("marie/m1") && ran.out.contains("done"), "{args:?}: {ran:?}");
    }
    let status = stage.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert!(status["offline"].as_str().unwrap().starts_with(read_only), "{status:#}");
    assert_eq!((&status["counts"]["done"], &status["pid"]), (&1.into(), &0.into()), "{status:#}");
    for args in
        [&["cancel", "marie/m1"][..], &["retry", "marie/m1"], &["submit", "--agent", "marie", "x"], &["pause", "marie"]]
    {
        let ran = stage.run(args);
        assert_eq!(ran.code, Some(3), "{args:?}: {ran:?}");
        assert!(ran.err.contains(read_only) && ran.err.contains("nothing can be ordered"), "{args:?}: {ran:?}");
    }
    mount.remount("rw");
}

/// F8: more events than the kernel keeps.
#[test]
fn an_overflow_of_events_loses_no_file() {
    let folder = tempfile::Builder::new().prefix("podium-stage-").tempdir().unwrap();
    let mut stage = Stage::new(folder.path());
    stage.open_gate();
    stage.serve(PODIUM, &["serve"]);
    eventually("the kernel's events", || stage.status()["polling"].is_null().then_some(()));
    let room = rustix::process::Pid::from_child(stage.room.as_ref().unwrap());
    rustix::process::kill_process(room, rustix::process::Signal::STOP).unwrap();
    let inbox = stage.path.join("tasks/marie");
    // Three events each, and none like the one before it.
    for n in 0..8_000 {
        let path = inbox.join(format!(".noise-{n}"));
        drop(fs::File::create(&path).unwrap());
        fs::remove_file(&path).unwrap();
    }
    for n in 0..3 {
        fs::write(inbox.join(format!("t{n}.json")), "{\"description\": \"Do it.\"}").unwrap();
    }
    rustix::process::kill_process(room, rustix::process::Signal::CONT).unwrap();
    for n in 0..3 {
        stage.result(&format!("marie/t{n}"));
    }
    stage.close();
}

/// F8: the kernel refuses to watch, because others have used up what it allows.
#[test]
fn without_the_kernels_events_files_are_found_by_looking_and_that_is_said() {
    let unshare = Command::new("unshare").args(["-r", "true"]).status().is_ok_and(|status| status.success());
    if !unshare {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "unshare -r must work in CI");
        println!("SKIPPED: no user namespace may be made, to limit inotify in it alone");
        return;
    }
    let folder = tempfile::Builder::new().prefix("podium-stage-").tempdir().unwrap();
    let mut stage = Stage::new(folder.path());
    stage.open_gate();
    let limited = "echo 1 > /proc/sys/user/max_inotify_watches && exec \"$0\" serve";
    stage.serve("unshare", &["-r", "sh", "-c", limited, PODIUM]);
    let why = eventually("the room to say so", || stage.status()["polling"].as_str().map(str::to_owned));
    assert!(why.starts_with("the kernel refused to watch"), "{why}");
    assert!(stage.run(&["status"]).out.contains("the kernel refused to watch"));
    fs::write(stage.path.join("tasks/marie/t.json"), "{\"description\": \"Do it.\"}").unwrap();
    stage.result("marie/t");
    stage.close();
}
