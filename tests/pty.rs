//! The whole program in a real terminal: start, see, press, leave. What is looked at is what an operator would see.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]
#![expect(clippy::significant_drop_tightening, reason = "the screen is locked to look at it, and for no longer")]

use std::{
    fs,
    num::NonZeroU16,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use pty_process::OwnedWritePty;
use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{Termios, tcgetattr},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

/// How long anything may take on a machine that has a lot to do.
const PATIENCE: Duration = Duration::from_secs(30);

const WIDE: (u16, u16) = (120, 40);
const SMALL: (u16, u16) = (80, 24);

const CTRL_C: &str = "\u{3}";
const CTRL_U: &str = "\u{15}";
const ENTER: &str = "\r";
const ESC: &str = "\u{1b}";
const TAB: &str = "\t";

// The harness: a stage of its own, and terminals on it.

/// A stage in a folder of its own. Whatever was started for it is gone when it is dropped.
struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    fn new(toml: &str) -> Self {
        let stage = Self { dir: tempfile::Builder::new().prefix("podium-pty-").tempdir().unwrap() };
        fs::create_dir(stage.root()).unwrap();
        fs::create_dir(stage.dir.path().join("bin")).unwrap();
        fs::write(stage.root().join("podium.toml"), toml).unwrap();
        stage
    }

    /// A rehearsal whose agents run these steps of the bad-mannered worker.
    fn scripted(marie: &[&str], anga: &[&str], fabien: &[&str]) -> Self {
        let agent = |name: &str, steps: &[&str]| {
            let mut argv = vec![PODIUM, "__script"];
            argv.extend(steps);
            format!("[agents.{name}]\nengine = \"command\"\ncommand = {}\n", json!(argv))
        };
        let agents = [agent("marie", marie), agent("anga", anga), agent("fabien", fabien)].concat();
        Self::new(&format!(
            "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0.0\n[retry]\nattempts = 1\n{agents}"
        ))
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("stage")
    }

    /// An environment without any agent's program and without anything of the caller's.
    fn vars(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("HOME", self.dir.path().to_owned()),
            ("PATH", self.dir.path().join("bin")),
            ("TERM", "xterm-256color".into()),
            ("LANG", "C.UTF-8".into()),
            ("TZ", "UTC".into()),
            ("RUST_BACKTRACE", "0".into()),
        ]
    }

    /// Opens `podium ARGS --stage …` in a terminal of this size.
    fn open(&self, size: (u16, u16), args: &[&str]) -> Terminal {
        self.open_with(size, args, &[])
    }

    fn open_with(&self, (columns, rows): (u16, u16), args: &[&str], vars: &[(&str, &str)]) -> Terminal {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(pty_process::Size::new(rows, columns)).unwrap();
        let line = pty.as_fd().try_clone_to_owned().unwrap();
        let before = tcgetattr(&line).unwrap();
        let child = pty_process::Command::new(PODIUM)
            .args(args)
            .arg("--stage")
            .arg(self.root())
            .env_clear()
            .envs(self.vars())
            .envs(vars.iter().copied())
            .current_dir(self.dir.path())
            .kill_on_drop(true)
            .spawn(pts)
            .unwrap();
        let (mut from, keys) = pty.into_split();
        let parser = vt100::Parser::new(wide(rows), wide(columns), 0);
        let seen = Arc::new(Mutex::new(Seen { parser, raw: Vec::new() }));
        let (tell, changed) = watch::channel(());
        let eyes = seen.clone();
        let reader = tokio::spawn(async move {
            let mut part = [0; 8192];
            // The end of a closed terminal arrives as an error on Linux.
            while let Ok(n @ 1..) = from.read(&mut part).await {
                let mut seen = eyes.lock().unwrap();
                seen.parser.process(&part[..n]);
                seen.raw.extend_from_slice(&part[..n]);
                drop(seen);
                tell.send_replace(());
            }
        });
        Terminal { child, keys, seen, changed, reader, line, before }
    }

    /// Runs a verb to its end, without a terminal.
    async fn run(&self, args: &[&str]) -> Output {
        let run = tokio::process::Command::new(PODIUM)
            .args(args)
            .arg("--stage")
            .arg(self.root())
            .env_clear()
            .envs(self.vars())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        timeout(PATIENCE, run).await.expect("the verb ends").unwrap()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {output:?}"))
    }

    /// `podium status`, without what changes by itself.
    async fn settled(&self) -> Value {
        let mut status = self.json(&["status", "--json"]).await;
        for ages in ["now", "limits", "calls"] {
            status.as_object_mut().unwrap().remove(ages).unwrap();
        }
        status
    }

    /// Waits until the room says so.
    async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let last = Mutex::new(Value::Null);
        let wait = async {
            loop {
                let status = self.json(&["status", "--json"]).await;
                if is(&status) {
                    return status;
                }
                *last.lock().unwrap() = status;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(status) => status,
            Err(_late) => panic!("never: {what}\n{:#}", last.lock().unwrap()),
        }
    }

    async fn room(&self) -> Pid {
        let status = self.json(&["status", "--json"]).await;
        pid(status["pid"].as_i64().unwrap())
    }

    /// Drops a task as an outsider would: under another name, then renamed.
    fn drop_task(&self, agent: &str, id: &str, description: &str) {
        let folder = self.root().join("tasks").join(agent);
        let text = json!({"task_id": id, "worker": agent, "description": description}).to_string();
        fs::write(folder.join(format!(".{id}.tmp")), text).unwrap();
        fs::rename(folder.join(format!(".{id}.tmp")), folder.join(format!("{id}.json"))).unwrap();
    }

    /// Every process that was started for this stage: it carries the folder's name in its arguments or environment.
    fn processes(&self) -> Vec<(Pid, String)> {
        let mark = self.dir.path().as_os_str().as_bytes();
        let holds = |file: String| fs::read(file).is_ok_and(|text| text.windows(mark.len()).any(|part| part == mark));
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers
            .filter(|n| *n != i64::from(std::process::id()))
            .filter(|n| holds(format!("/proc/{n}/cmdline")) || holds(format!("/proc/{n}/environ")))
            .map(|n| (pid(n), fs::read_to_string(format!("/proc/{n}/cmdline")).unwrap_or_default().replace('\0', " ")))
            .collect()
    }

    /// Waits until nothing is left.
    async fn nothing_left(&self) {
        let wait = async {
            while !self.processes().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "left behind: {:?}", self.processes());
    }

    /// What room and workers wrote for themselves holds no panic.
    fn assert_nobody_panicked(&self) {
        for entry in fs::read_dir(self.root().join("logs")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                assert!(!text.contains("panicked at"), "{}: {text}", path.display());
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _stopped = std::process::Command::new(PODIUM)
            .args(["stop", "--stage"])
            .arg(self.root())
            .env_clear()
            .envs(self.vars())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        for (pid, _) in self.processes() {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

fn pid(number: i64) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn wide(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

/// What arrived at the terminal.
struct Seen {
    parser: vt100::Parser,
    raw: Vec<u8>,
}

/// A terminal with podium in it.
struct Terminal {
    child: tokio::process::Child,
    keys: OwnedWritePty,
    seen: Arc<Mutex<Seen>>,
    changed: watch::Receiver<()>,
    reader: JoinHandle<()>,
    line: OwnedFd,
    before: Termios,
}

impl Terminal {
    async fn press(&mut self, keys: &str) {
        let all = self.keys.write_all(keys.as_bytes());
        timeout(PATIENCE, all).await.expect("the keys are read").unwrap();
    }

    fn text(&self) -> String {
        self.seen.lock().unwrap().parser.screen().contents()
    }

    fn raw(&self) -> Vec<u8> {
        self.seen.lock().unwrap().raw.clone()
    }

    /// Waits until the screen is as wanted.
    async fn until_within(&mut self, patience: Duration, what: &str, is: impl Fn(&str) -> bool) {
        let wait = async {
            loop {
                self.changed.borrow_and_update();
                if is(&self.text()) || self.changed.changed().await.is_err() {
                    return is(&self.text());
                }
            }
        };
        let seen = timeout(patience, wait).await.unwrap_or(false);
        assert!(seen, "not on screen: {what}\n{}", self.text());
    }

    async fn until(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        self.until_within(PATIENCE, what, is).await;
    }

    async fn see(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text)).await;
    }

    async fn see_no(&mut self, text: &str) {
        self.until(&format!("no {text}"), |screen| !screen.contains(text)).await;
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        self.seen.lock().unwrap().parser.screen_mut().set_size(wide(rows), wide(columns));
        self.keys.resize(pty_process::Size::new(rows, columns)).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(i64::from(self.child.id().unwrap())), signal).unwrap();
    }

    /// Waits until podium has ended, and checks that the terminal is as it was; returns what is left on it.
    async fn ended(mut self) -> (ExitStatus, String) {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else { panic!("still open:\n{}", self.text()) };
        timeout(PATIENCE, &mut self.reader).await.expect("nobody holds the terminal").unwrap();
        let seen = self.seen.lock().unwrap();
        let screen = seen.parser.screen();
        let left = screen.contents();
        assert!(!screen.alternate_screen(), "the alternate screen is left: {left}");
        assert!(!screen.bracketed_paste() && !screen.hide_cursor(), "paste and cursor are as before: {left}");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        let after = tcgetattr(&self.line).unwrap();
        let modes = |t: &Termios| (t.input_modes, t.output_modes, t.control_modes, t.local_modes);
        assert_eq!(modes(&after), modes(&self.before), "the line discipline is as before");
        assert!(!left.contains("panicked"), "{left}");
        (status.unwrap(), left)
    }
}

// A rehearsal, from the first key to the last process.

#[tokio::test]
async fn a_rehearsal_goes_from_enter_to_the_report_and_leaving_leaves_the_work() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open(WIDE, &["rehearse", "--pace", "0"]);
    screen.see("REHEARSAL").await;
    screen.see("enter send").await;
    for agent in ["marie", "anga", "fabien"] {
        screen.see(agent).await;
    }
    let sample = podium::rehearsal::SAMPLE_GOAL.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    screen.see(&sample).await;
    screen.press(ENTER).await;
    screen.see("? plan for g1").await;
    screen.see("booking-cause").await;
    assert!(!stage.root().join("tasks/anga/g1-booking-fix.json").exists(), "nothing runs before it is approved");
    screen.press("a").await;
    screen.see("o reads the report").await;
    screen.see("8 done").await;
    screen.press("o").await;
    screen.see("Report on g1").await;
    screen.press(ESC).await;
    screen.see_no("Report on g1").await;
    screen.press("q").await;
    screen.see("stop everything").await;
    screen.press(ENTER).await;
    let (status, left) = screen.ended().await;
    assert!(status.success(), "{left}");
    assert!(left.contains("podium stop"), "it says how to end the rest: {left}");
    let goals = stage.json(&["status", "--json"]).await["goals"].clone();
    assert_eq!(goals[0]["state"], "partial", "the sample holds a task that fails: {goals}");
    assert!(stage.run(&["stop"]).await.status.success());
    stage.nothing_left().await;
    stage.assert_nobody_panicked();
}

#[tokio::test]
async fn on_a_small_screen_the_same_keys_lead_to_the_report() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open(SMALL, &["rehearse", "--pace", "0", "Mend the sign-up page and announce it."]);
    screen.see("REHEARSAL").await;
    screen.see("Mend the sign-up page").await;
    screen.press(ENTER).await;
    screen.see("? plan for g1").await;
    screen.press("3").await;
    screen.see("Plan of g1").await;
    screen.press("a").await;
    screen.see("o reads the report").await;
    screen.press("o").await;
    screen.see("Report on g1").await;
    screen.press("q").await;
    screen.see_no("Report on g1").await;
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    screen.press("s").await;
    let (status, left) = screen.ended().await;
    assert!(status.success(), "{left}");
    stage.nothing_left().await;
    stage.assert_nobody_panicked();
}

const REHEARSAL: &str = "[upstream]\nurl = \"rehearsal:\"\n";

// Room and screens.

#[tokio::test]
async fn two_screens_share_one_room_and_both_may_leave_it() {
    let stage = Stage::scripted(&["--print", "well"], &["--sleep", "60"], &["--print", "well"]);
    let mut first = stage.open(WIDE, &[]);
    first.see("@marie").await;
    let room = stage.room().await;
    let mut second = stage.open(SMALL, &[]);
    second.see("REHEARSAL").await;
    first.press("g@anga hold the long note").await;
    first.press(ENTER).await;
    first.see("1 running").await;
    second.see("hold-the-long-note").await;
    second.see("1 running").await;
    for mut screen in [first, second] {
        screen.press("q").await;
        screen.see("1 attempt").await;
        screen.press(ENTER).await;
        assert!(screen.ended().await.0.success());
    }
    let status = stage.json(&["status", "--json"]).await;
    assert_eq!(status["counts"]["running"], 1, "{status}");
    assert_eq!(stage.room().await, room, "the same room all along");
}

#[tokio::test]
async fn a_lost_room_is_said_and_a_new_one_is_found_by_itself() {
    let stage = Stage::scripted(&["--print", "well"], &["--sleep", "60"], &["--print", "well"]);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    screen.press("g@anga hold the long note").await;
    screen.press(ENTER).await;
    screen.see("1 running").await;
    let former = stage.room().await;
    kill_process(former, Signal::KILL).unwrap();
    screen.see("no word from the room").await;
    screen.see("hold-the-long-note").await;
    // Looking goes on without a room; an order is not lost silently.
    screen.press("?").await;
    screen.see("Everywhere").await;
    screen.press(ESC).await;
    screen.see_no("Everywhere").await;
    assert!(stage.run(&["serve", "--detach"]).await.status.success());
    screen.see_no("no word from the room").await;
    assert_ne!(stage.room().await, former);
    screen.see("1 running").await;
    screen.press("g@marie and another one").await;
    screen.press(ENTER).await;
    screen.see("1 done").await;
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn the_terminal_is_given_back_after_term_and_hup_and_the_room_stays() {
    let stage = Stage::new(REHEARSAL);
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut screen = stage.open(WIDE, &[]);
        screen.see("@marie").await;
        // Every mode that can be on is on.
        screen.press("m").await;
        screen.see("the mouse moves focus").await;
        screen.signal(signal);
        let (_, left) = screen.ended().await;
        assert!(!left.contains("Agents"), "{signal:?}: {left}");
    }
    let mut screen = stage.open(SMALL, &[]);
    screen.see("REHEARSAL").await;
    // The window is closed: master gone, hang-up, and nobody to talk to.
    let Terminal { mut child, keys, reader, line, .. } = screen;
    drop((keys, line));
    reader.abort();
    let _aborted = reader.await;
    timeout(PATIENCE, child.wait()).await.expect("it ends with its window").unwrap();
    assert_eq!(stage.json(&["status", "--json"]).await["counts"]["failed"], 0);
    stage.assert_nobody_panicked();
}

// Files.

#[tokio::test]
async fn dropped_files_and_what_is_wrong_with_them_are_on_screen_soon() {
    let stage = Stage::scripted(&["--print", "the minis danced well"], &[], &[]);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    let soon = Duration::from_secs(5);
    stage.drop_task("marie", "eval-mini", "Evaluate the minis");
    screen.until_within(soon, "the task", |s| s.contains("eval-mini")).await;
    screen.until_within(soon, "its result", |s| s.contains("1 done") && s.contains("danced well")).await;
    fs::write(stage.root().join("tasks/marie/broken.json"), "{\"task_id\": \"broken\",\n  oops}").unwrap();
    screen.until_within(soon, "the reason", |s| s.contains("broken.js") && s.contains("line 2")).await;
    stage.drop_task("marie", "nothing", "");
    screen.until_within(soon, "the field", |s| s.contains("nothing") && s.contains("description")).await;
    stage.drop_task("anga", "quiet", "Say nothing");
    screen.until_within(soon, "an ending without words", |s| s.contains("quiet") && s.contains("1 failed")).await;
}
