//! The whole program in a real terminal: start, see, press, leave. What is looked at is what an operator would see.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test's own set-up may fail loudly")]
#![expect(clippy::significant_drop_tightening, reason = "the screen is locked to look at it, and for no longer")]

#[path = "pty/abroad.rs"]
mod abroad;
#[path = "pty/attention.rs"]
mod attention;
#[path = "pty/permits.rs"]
mod permits;

use std::{
    fs,
    num::NonZeroU16,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use pty_process::OwnedWritePty;
use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{LocalModes, Termios, tcgetattr},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

#[path = "pty/attach.rs"]
mod attach;
#[path = "common/cli.rs"]
mod real_cli;
#[path = "pty/replay.rs"]
mod replay;
#[path = "common/nats.rs"]
#[expect(dead_code, reason = "tests/nats.rs uses the rest")]
mod servers;
#[path = "pty/taste.rs"]
mod taste;

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

    /// A bell on the terminal is then somebody else's.
    fn rings_no_bell(&self) {
        let file = self.root().join("podium.toml");
        let toml = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("[attention]\nbell = false\n{toml}")).unwrap();
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
        #[expect(clippy::disallowed_methods, reason = "it ends with the terminal, which waits for it")]
        let reader = tokio::spawn(async move {
            let mut part = [0; 8192];
            let mut plain = Vec::new();
            // The end of a closed terminal arrives as an error on Linux.
            while let Ok(n @ 1..) = from.read(&mut part).await {
                let mut seen = eyes.lock().unwrap();
                seen.raw.extend_from_slice(&part[..n]);
                plain.extend_from_slice(&part[..n]);
                seen.parser.process(&drawable(&mut plain));
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
        let seen = timeout(PATIENCE, wait).await.ok();
        seen.unwrap_or_else(|| panic!("never: {what}\n{:#}", last.lock().unwrap()))
    }

    async fn room(&self) -> Pid {
        let status = self.json(&["status", "--json"]).await;
        pid(status["pid"].as_i64().unwrap())
    }

    /// Kills the whole room at once: its guardian, which would start its core again, and its core, which would leave.
    async fn crash(&self) {
        let status = self.json(&["status", "--json"]).await;
        let [guardian, core] = ["pid", "core_pid"].map(|name| pid(status[name].as_i64().unwrap()));
        kill_process(guardian, Signal::STOP).unwrap();
        kill_process(core, Signal::KILL).unwrap();
        kill_process(guardian, Signal::KILL).unwrap();
        let wait = async {
            // The guardian's corpse waits for whoever started it; the core's is nobody's.
            while podium::engines::tree::process(core.as_raw_nonzero().get()).is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the room is gone");
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

/// Takes from these bytes what can be drawn now. This terminal ignores U+FFFD, real ones draw it in one column: so does
/// a question mark.
fn drawable(bytes: &mut Vec<u8>) -> Vec<u8> {
    const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
    let begun = [2, 1].into_iter().find(|n| bytes.ends_with(&REPLACEMENT[..*n])).unwrap_or(0);
    let rest = bytes.split_off(bytes.len() - begun);
    let mut whole = std::mem::replace(bytes, rest);
    while let Some(at) = whole.windows(3).position(|part| part == REPLACEMENT) {
        whole.splice(at..at + 3, *b"?");
    }
    whole
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

    /// Drawing everything anew changes nothing: no cell is left of an earlier frame, none is where it should not be.
    async fn assert_drawn_whole(&mut self) {
        // The first row holds the time.
        let rows =
            |text: String| text.lines().skip(1).map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
        self.quiet().await;
        let before = rows(self.text());
        self.press("\u{c}").await;
        self.quiet().await;
        let anew = rows(self.text());
        let differ = before.lines().zip(anew.lines()).filter(|(old, new)| old != new).collect::<Vec<_>>();
        assert!(before == anew, "drawn anew it looks different: {differ:#?}");
    }

    /// Waits until nothing has changed on screen for a moment.
    async fn quiet(&mut self) {
        let wait = async { while timeout(Duration::from_millis(800), self.changed.changed()).await.is_ok() {} };
        timeout(PATIENCE, wait).await.expect("the screen comes to rest");
    }

    async fn see_no(&mut self, text: &str) {
        self.until(&format!("no {text}"), |screen| !screen.contains(text)).await;
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        self.seen.lock().unwrap().parser.screen_mut().set_size(wide(rows), wide(columns));
        self.keys.resize(pty_process::Size::new(rows, columns)).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// What was started in the terminal: the screen's parent.
    fn pid(&self) -> Pid {
        pid(i64::from(self.child.id().unwrap()))
    }

    /// The process that draws.
    fn screen(&self) -> Pid {
        let parent = self.pid().as_raw_nonzero().get();
        let screen = podium::engines::tree::table().into_iter().find(|p| p.parent == parent && !p.zombie);
        pid(i64::from(screen.expect("the screen runs").pid))
    }

    /// Waits until podium has ended well, and checks that the terminal is as it was; returns what is left on it.
    async fn ended(self) -> (ExitStatus, String) {
        let (status, left) = self.given_back().await;
        assert!(!left.contains("panicked"), "{left}");
        (status, left)
    }

    /// The same, however it has ended.
    async fn given_back(mut self) -> (ExitStatus, String) {
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
async fn the_first_picture_does_not_wait_for_the_room_and_what_is_ordered_meanwhile_is_kept() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("● marie").await;
    screen.press("g@marie Plan a class.\r").await;
    stage.until("the task", |status| status["counts"]["done"] == 1).await;
    screen.see("1 done").await;
    let raw = String::from_utf8_lossy(&screen.raw()).into_owned();
    assert!(raw.contains("OPENING") && raw.contains("has not answered yet"), "{raw}");
    screen.see_no("OPENING").await;
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

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
    stage.crash().await;
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

#[tokio::test]
async fn the_terminal_is_given_back_after_kill_9_of_the_screen_and_the_room_stays() {
    let stage = Stage::new(REHEARSAL);
    for (signal, code) in [(Signal::KILL, 137), (Signal::ABORT, 134)] {
        let mut screen = stage.open(WIDE, &[]);
        screen.see("@marie").await;
        screen.press("m").await;
        screen.see("the mouse moves focus").await;
        let modes = tcgetattr(&screen.line).unwrap().local_modes;
        assert!(!modes.contains(LocalModes::ICANON), "the screen has taken the terminal");
        kill_process(screen.screen(), signal).unwrap();
        let (status, left) = screen.ended().await;
        assert_eq!(status.code(), Some(code), "{left}");
        assert!(left.contains("was ended by signal") && left.contains("go on"), "{left}");
    }
    // What comes next in the same stage is as ever, its exit code included.
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    screen.press("qs").await;
    assert_eq!(screen.ended().await.0.code(), Some(0));
    stage.nothing_left().await;
    let wrong = stage.open(WIDE, &["--seed", "1", "--rehearse", "--pace", "x"]).ended().await;
    assert_eq!(wrong.0.code(), Some(2), "{}", wrong.1);
    let wrong = stage.open(WIDE, &["rehearse", " "]).ended().await;
    assert_eq!(wrong.0.code(), Some(2), "{}", wrong.1);
    assert!(wrong.1.contains("the goal is empty"), "{}", wrong.1);
}

/// No memory for the stack of a new thread, which the next key asks for: one way to make the real program panic.
#[tokio::test]
async fn a_panic_can_be_read_on_a_terminal_that_is_as_before_and_the_room_stays() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    screen.press("m").await;
    screen.see("the mouse moves focus").await;
    screen.quiet().await;
    let drawing = screen.screen();
    let status = fs::read_to_string(format!("/proc/{}/status", drawing.as_raw_nonzero())).unwrap();
    let size =
        status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB")?.trim().parse::<u64>().ok());
    let bytes = size.map(|kib| (kib + 256) * 1024);
    let limit = rustix::process::Rlimit { current: bytes, maximum: bytes };
    rustix::process::prlimit(Some(drawing), rustix::process::Resource::As, limit).unwrap();
    screen.press("gsee @").await;
    let (ended, left) = screen.given_back().await;
    assert_eq!(ended.code(), Some(101), "{left}");
    assert!(left.contains("panicked at") && !left.contains("Agents"), "{left}");
    assert_eq!(stage.json(&["status", "--json"]).await["counts"]["failed"], 0, "the room is there");
}

#[tokio::test]
async fn a_screen_ends_with_its_parent_and_gives_the_terminal_back_itself() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    let drawing = screen.screen();
    screen.signal(Signal::KILL);
    let (status, _) = screen.ended().await;
    assert_eq!(status.signal(), Some(9));
    let gone = || !stage.processes().iter().any(|(pid, _)| *pid == drawing);
    assert!(gone(), "the terminal was closed by the last who had it");
    assert_eq!(stage.json(&["status", "--json"]).await["counts"]["failed"], 0);
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
    screen
        .until_within(soon, "an ending without words", |s| s.contains("the answer is empty") && s.contains("1 dead"))
        .await;
}

// Logs.

/// A script engine's steps that print so many numbered lines.
const NUMBERS: &str = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo number $i; done; echo ready";

impl Stage {
    /// A rehearsal in which marie runs this in a shell.
    fn shell(script: &str) -> Self {
        let command = json!(["/bin/sh", "-c", script]);
        Self::new(&format!(
            "[upstream]\nurl = \"rehearsal:\"\n[retry]\nattempts = 1\n[agents.marie]\nengine = \"command\"\ncommand = {command}\n"
        ))
    }
}

#[tokio::test]
async fn a_log_is_searched_jumped_into_copied_and_shown_in_the_pager_that_gives_the_screen_back() {
    let stage = Stage::shell(NUMBERS);
    let pager = stage.dir.path().join("bin/pager");
    let script = "#!/bin/sh\necho; echo the pager has $(/usr/bin/wc -l < \"$1\") lines\n/bin/stty raw -echo\n/usr/bin/head -c1 > /dev/null\nkill -9 $$\n";
    fs::write(&pager, script).unwrap();
    fs::set_permissions(&pager, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut screen = stage.open_with(WIDE, &[], &[("PAGER", pager.to_str().unwrap())]);
    screen.see("@marie").await;
    stage.drop_task("marie", "count", "Count");
    screen.see("1 done").await;
    screen.press("j4").await;
    screen.see("number 3000").await;
    // Everything on disk, while it is typed.
    screen.press("S").await;
    screen.see("Search all logs").await;
    screen.press("number 17.3$").await;
    screen.see("10 hits").await;
    screen.see("number 1793").await;
    screen.press("\u{1b}[B\u{1b}[B").await;
    screen.press(ENTER).await;
    screen.see_no("Search all logs").await;
    screen.see("number 1774").await;
    screen.see("8 of 10").await;
    // From hit to hit, a mark, a range.
    screen.press("n").await;
    screen.see("9 of 10").await;
    screen.press("bvjj").await;
    screen.see("a range, y copies").await;
    screen.press("y").await;
    screen.see("copied 3 lines").await;
    let copies: Vec<_> = fs::read_dir(stage.root().join(".podium/copies")).unwrap().collect();
    let text = fs::read_to_string(copies[0].as_ref().unwrap().path()).unwrap();
    assert_eq!(text, "number 1783\nnumber 1784\nnumber 1785\n");
    let clipboard = screen.raw().windows(7).any(|part| part == b"\x1b]52;c;");
    assert!(clipboard, "it is in the clipboard too");
    // The pager has the terminal, dies in the middle of its own modes, and the screen is whole.
    screen.press("o").await;
    screen.see("the pager has 3001 lines").await;
    screen.press("x").await;
    screen.see("ended with signal: 9").await;
    screen.see("number 1783").await;
    // The next key takes the message away.
    screen.press("\u{c}").await;
    screen.see_no("SIGKILL").await;
    screen.assert_drawn_whole().await;
    screen.press("1").await;
    screen.see("┌ Agents").await;
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    stage.nothing_left().await;
}

#[tokio::test]
async fn whoever_closes_the_screen_and_comes_back_finds_every_line() {
    let stage = Stage::shell(
        "i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo number $i; [ $((i % 100)) = 0 ] && /bin/sleep 0.06; done; exec /bin/sleep 60",
    );
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    stage.drop_task("marie", "count", "Count");
    screen.press("4").await;
    screen.see("number 1").await;
    screen.press("q").await;
    screen.see("stop everything").await;
    screen.press(ENTER).await;
    assert!(screen.ended().await.0.success());
    let log = stage.root().join("logs/marie/count.1.log");
    let wait = async {
        while !fs::read_to_string(&log).unwrap_or_default().contains("number 9000\n") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it counts on");
    let mut screen = stage.open(WIDE, &[]);
    screen.see("count").await;
    screen.press("4").await;
    screen.see("number 9000").await;
    // Back by pages to the beginning: every number is seen, in its order.
    let numbers = |text: &str| -> Vec<u32> {
        text.lines().filter_map(|l| l.split("number ").nth(1)?.split(' ').next()?.parse().ok()).collect()
    };
    let in_order = |seen: &[u32]| !seen.is_empty() && seen.windows(2).all(|w| w[1] == w[0] + 1);
    let mut lowest = 9_001;
    while lowest > 1 {
        // A frame may be seen while it is written.
        screen.until("a page", |s| in_order(&numbers(s)) && numbers(s)[0] < lowest).await;
        let seen = numbers(&screen.text());
        assert!(*seen.last().unwrap() + 1 >= lowest, "a gap: {seen:?} after {lowest}");
        lowest = seen[0];
        if lowest > 1 {
            screen.press("\u{1b}[5~").await;
        }
    }
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
}

/// What must never reach the terminal, whatever an agent prints, and the text between it that must.
const CORPUS: [(&str, &str); 14] = [
    ("clipboard", r"a\033]52;c;aGFjaw==\007one"),
    ("link", r"a\033]8;;http://evil.example\033\\two\033]8;;\033\\"),
    ("title", r"a\033]0;owned\007three"),
    ("dcs", r"a\033P1$r0m\033\\four"),
    ("apc", r"a\033_Gi=31;\033\\five"),
    ("clear", r"a\033[2J\033[Hsix"),
    ("alternate", r"a\033[?1049l\033[?25hseven"),
    ("mouse", r"a\033[?1003h\033[?2004leight"),
    ("report", r"a\033[6n\033[c\033[>qnine"),
    ("c1", r"a\302\233 2J\302\235ten"),
    ("raw c1", r"a\233\237\220eleven"),
    ("bidi", r"a\342\200\256\342\201\246twelve"),
    ("bell", r"a\007\010\016\017\032thirteen"),
    ("scroll", r"a\033[5;6r\033M\033Dfourteen"),
];

#[tokio::test]
async fn what_an_agent_prints_is_text_and_nothing_else_at_the_terminals_end() {
    let prints = CORPUS.map(|(name, bytes)| format!("printf '{name}: {bytes} end\\n'; "));
    let mut script = prints.concat();
    // An escape that never ends swallows its own line at most.
    script += r"printf 'open \033]0;never\n'; echo after-all; exec /bin/sleep 60";
    let stage = Stage::shell(&script);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    screen.press("4").await;
    screen.quiet().await;
    let before = screen.raw().len();
    stage.drop_task("marie", "evil", "Print it");
    screen.see("after-all").await;
    screen.press("J").await;
    screen.see("raw").await;
    screen.press("wJS").await;
    screen.press("end").await;
    screen.see("14 hits").await;
    screen.press(ENTER).await;
    screen.quiet().await;
    let raw = screen.raw().split_off(before);
    // What a frame is made of: moves, colours, and modes of the cursor and of a frame's edges.
    let mut rest = raw.as_slice();
    while let Some(at) = rest.iter().position(|b| *b == 0x1b) {
        let after = &rest[at + 1..];
        assert_eq!(
            after.first(),
            Some(&b'['),
            "an escape that no frame is made of: {:?}",
            String::from_utf8_lossy(&after[..after.len().min(40)])
        );
        let end = after.iter().skip(1).position(|b| (0x40..=0x7e).contains(b)).unwrap() + 1;
        let (body, last) = (&after[1..end], after[end]);
        let ours = match last {
            b'H' | b'm' | b'K' | b'X' => true,
            b'J' => body == b"2",
            b'h' | b'l' => [&b"?25"[..], b"?2026"].contains(&body),
            _ => false,
        };
        assert!(ours, "{:?}{}", String::from_utf8_lossy(body), char::from(last));
        rest = &after[end + 1..];
    }
    let text = String::from_utf8(raw).expect("what is drawn is UTF-8");
    let strange = |c: char| {
        (c.is_control() && !matches!(c, '\u{1b}' | '\r' | '\n'))
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    assert_eq!(text.chars().find(|c| strange(*c)), None);
    let shown = screen.text();
    for (n, word) in [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
        "fourteen",
    ]
    .iter()
    .enumerate()
    {
        assert!(shown.contains(&format!("{word} end")), "{}: {shown}", CORPUS[n].0);
    }
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
}

// Keys through the whole program.

#[tokio::test]
async fn looking_changes_nothing_in_the_room() {
    let stage = Stage::scripted(&["--print", "the first waltz", "--print", "the last tango"], &["--exit", "3"], &[]);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    stage.drop_task("marie", "dances", "Name two dances");
    stage.drop_task("anga", "broken", "Fail");
    screen.see("1 done").await;
    screen.see("1 dead").await;
    let before = stage.settled().await;
    // Search in the log of the task that is done: one row below the failed one.
    screen.press("j4").await;
    screen.see("the last tango").await;
    screen.press("/wal").await;
    screen.see("/wal").await;
    screen.press("tz\r").await;
    screen.see("1 of 1").await;
    screen.press(ESC).await;
    screen.see_no("1 of 1").await;
    screen.press("/no such words\r").await;
    screen.see("nothing matches").await;
    screen.press("/*\r").await;
    screen.see("not a pattern").await;
    screen.press("1").await;
    // The palette finds a verb by its name and does it.
    screen.press(":limi").await;
    screen.see("Limits and money alone").await;
    screen.press(ENTER).await;
    screen.see_no("Limits and money alone").await;
    screen.see_no("┌ Agents").await;
    screen.press("1").await;
    screen.see("┌ Agents").await;
    screen.press("?").await;
    screen.see("Everywhere").await;
    screen.press("q").await;
    screen.see_no("Everywhere").await;
    // Every other key that only looks.
    for key in
        [TAB, TAB, "k", "j", "G", "\u{6}", "\u{2}", "z", "z", "2", "3", "1", "f", "t", "n", "m", "m", "y", "\u{c}"]
    {
        screen.press(key).await;
    }
    screen.press(ENTER).await;
    screen.press("q").await;
    for keys in ["gan unsent goal", CTRL_U] {
        screen.press(keys).await;
    }
    screen.press(ESC).await;
    // An escape and what follows at once would be one key.
    screen.quiet().await;
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    screen.press(ESC).await;
    screen.see_no("stop everything").await;
    assert_eq!(stage.settled().await, before);
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    // Ctrl+C again takes the default, and that is never the end of the work.
    screen.press(CTRL_C).await;
    assert!(screen.ended().await.0.success());
    assert_eq!(stage.settled().await, before);
}

#[tokio::test]
async fn cancel_asks_retry_starts_again_and_pause_holds() {
    let stage =
        Stage::scripted(&["--sleep", "60"], &["--fail-below", "2", "--print", "mended now"], &["--print", "said"]);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    stage.drop_task("marie", "long", "A long dance");
    screen.see("1 running").await;
    screen.press("c").await;
    screen.see("Cancel marie/long?").await;
    screen.press("n").await;
    screen.see_no("Cancel marie/long?").await;
    screen.see("1 running").await;
    let begun = stage.until("begun", |s| s["agents"][0]["slots"][0]["child_pid"].is_i64()).await;
    let child = &begun["agents"][0]["slots"][0]["child_pid"];
    screen.press("c").await;
    screen.see("Cancel marie/long?").await;
    screen.press("y").await;
    screen.see("0 running").await;
    let status = stage.until("cancelled", |s| s["tasks"][0]["state"] == "cancelled").await;
    assert!(!Path::new(&format!("/proc/{child}")).exists(), "its process is gone before it is said: {status}");

    stage.drop_task("anga", "shaky", "Fail once");
    screen.see("1 dead").await;
    screen.press("n").await;
    screen.press("r").await;
    screen.see("mended now").await;
    screen.see("1 done").await;
    screen.see_no("1 dead").await;

    stage.drop_task("fabien", "first", "Say it");
    screen.see("2 done").await;
    screen.press("2/first\r1").await;
    screen.see("fabien · first").await;
    screen.press("p").await;
    stage.until("paused", |s| s["agents"][2]["paused"] == true).await;
    stage.drop_task("fabien", "second", "Say it again");
    screen.press(ESC).await;
    screen.see("1 ready").await;
    screen.see("paused").await;
    screen.press("2/first\r1").await;
    screen.see("fabien · first").await;
    screen.press("p").await;
    screen.see("3 done").await;
}

// What agents print, and what the terminal gets.

/// What podium itself may say to a terminal; everything else is refused and kept.
#[derive(Default)]
struct Repertoire {
    refused: Vec<String>,
    colors: usize,
    text: String,
}

impl vte::Perform for Repertoire {
    fn print(&mut self, c: char) {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            self.refused.push(format!("{c:?}"));
        }
        self.text.push(c);
    }
    fn execute(&mut self, byte: u8) {
        // Lines end so after the screen has been left.
        if !matches!(byte, b'\r' | b'\n') {
            self.refused.push(format!("byte {byte:#x}"));
        }
    }
    fn csi_dispatch(&mut self, params: &vte::Params, marks: &[u8], _: bool, action: char) {
        let numbers: Vec<u16> = params.iter().flatten().copied().collect();
        let ours = match (marks, action) {
            (b"", 'm') => {
                let color = |n: &u16| matches!(n, 30..=38 | 40..=48 | 90..=97 | 100..=107);
                self.colors += usize::from(numbers.iter().any(color));
                true
            }
            (b"", 'H') => true,
            (b"", 'J') => numbers == [2],
            (b"?", 'h' | 'l') => {
                numbers.iter().all(|n| matches!(n, 25 | 1000 | 1002 | 1003 | 1006 | 1015 | 1049 | 2004))
            }
            _ => false,
        };
        if !ours {
            self.refused.push(format!("CSI {marks:?} {numbers:?} {action}"));
        }
    }
    fn esc_dispatch(&mut self, marks: &[u8], _: bool, byte: u8) {
        // The end of what was refused already.
        if byte == b'\\' {
            return;
        }
        self.refused.push(format!("ESC {marks:?} {byte:#x}"));
    }
    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        self.refused.push(format!("OSC {params:?}"));
    }
    fn hook(&mut self, _: &vte::Params, marks: &[u8], _: bool, action: char) {
        self.refused.push(format!("DCS {marks:?} {action}"));
    }
}

fn repertoire(raw: &[u8]) -> Repertoire {
    assert!(std::str::from_utf8(raw).is_ok(), "it is all UTF-8");
    let mut heard = Repertoire::default();
    vte::Parser::new().advance(&mut heard, raw);
    heard
}

/// Sequences that move the cursor, read and write the clipboard, set titles, ask questions, switch modes, or break off.
const HOSTILE: &[u8] = b"visible-begin \x1b]52;c;cm0gLXJm\x07\x1b]0;owned\x07\x1b]8;;http://127.0.0.1\x1b\\link\x1b]8;;\x1b\\ \
    \x1b[2J\x1b[H\x1b[31;1mred\x1b[0m\x1b[?1049l\x1b[?25l\x1b[6n\x1b[c\x1b[5n\x1bP$q\"p\x1b\\\x1b_Gi=1\x1b\\\x1b^pm\x1b\\\x1bc\x1b7\x1b8\n\
    \xc2\x9b31mC1\xc2\x9d0;t\xc2\x9c \x90\x9b\x9d bell\x07 back\x08\x08 \x0e\x0f \x7f\x00 tab\there\n\
    over\rwritten \xff\xfe\xc3\x28 \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x80\xae turned \xe2\x81\xa6 \n\
    \x1b[999999999999999999999m \x1b[38;2;1;2;3;4;5;6;7;8;9m \x1b[?9999h\n\
    {\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"json \\u001b]0;owned\\u0007 end\"}]}}\n\
    visible-end \x1b]52;c;";

#[tokio::test]
async fn nothing_an_agent_or_a_file_says_reaches_the_terminal_as_more_than_text() {
    let stage = Stage::new("");
    let rubbish = stage.root().join("rubbish");
    let mut bytes = HOSTILE.to_vec();
    let mut random = Random(7);
    bytes.extend((0..20_000).map(|_| random.byte()));
    bytes.extend(b"\nvisible-last\n");
    fs::write(&rubbish, bytes).unwrap();
    let cat = json!(["/bin/cat", rubbish]);
    fs::write(
        stage.root().join("podium.toml"),
        format!(
            "[upstream]\nurl = \"rehearsal:\"\n[retry]\nattempts = 1\n[attention]\nbell = false\n\
             [agents.marie]\nengine = \"command\"\ncommand = {cat}\n\
             [agents.anga]\nengine = \"command\"\noutput = \"stream-json\"\ncommand = {cat}\n\
             [agents.fabien]\nengine = \"command\"\ncommand = {}\n",
            json!([PODIUM, "__script", "--err", "\u{1b}]0;owned\u{7}complaint", "--exit", "1"])
        ),
    )
    .unwrap();
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    let evil = String::from_utf8_lossy(HOSTILE).into_owned();
    for agent in ["marie", "anga", "fabien"] {
        stage.drop_task(agent, &format!("evil-{agent}"), &evil);
        screen.see(&format!("evil-{agent}")).await;
    }
    fs::write(stage.root().join("tasks/marie/\u{1b}]0;owned\u{7}\u{1b}[2Jname.json"), "{\u{1b}[31m}").unwrap();
    fs::write(stage.root().join("tasks/marie/latin.json"), b"{\"task_id\": \"\xff\xfe\"}").unwrap();
    screen.until("both files", |s| s.matches("… rejected ").count() == 2).await;
    stage.until("all ended", |s| s["counts"]["running"] == 0 && s["tasks"].as_array().unwrap().len() == 3).await;
    // Every place where their words are shown: the rows, the log, the pages.
    for agent in ["marie", "anga", "fabien"] {
        screen.press("2").await;
        screen.see("why / doing").await;
        screen.press(&format!("/{CTRL_U}evil-{agent}\r")).await;
        screen.see(&format!("Tasks holding \"evil-{agent}\"")).await;
        screen.press("4").await;
        screen.see(&format!("{agent} · evil-{agent}")).await;
        if agent == "marie" {
            screen.see("visible-last").await;
        }
        for key in ["f", "\u{2}", "\u{2}", "\u{1b}[H"] {
            screen.press(key).await;
        }
        if agent == "marie" {
            screen.see("visible-begin").await;
            screen.assert_drawn_whole().await;
        }
        screen.press("2").await;
        screen.press(ENTER).await;
        screen.see("What is to be done").await;
        screen.press("q").await;
        screen.see_no("What is to be done").await;
    }
    // Pasted text is text as well.
    screen.press("g").await;
    screen.press(&format!("\u{1b}[200~pasted {}\u{1b}[201~", "\u{9b}31m \u{7} \u{202e} done")).await;
    screen.see("pasted").await;
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    screen.press("s").await;
    let seen = screen.seen.clone();
    assert!(screen.ended().await.0.success());
    let heard = repertoire(&seen.lock().unwrap().raw);
    assert!(heard.refused.is_empty(), "{:?}", heard.refused);
    assert!(heard.text.contains("visible-begin") && heard.text.contains("complaint"));
    stage.nothing_left().await;
    stage.assert_nobody_panicked();
}

#[tokio::test]
async fn wide_characters_do_not_break_a_border() {
    let mixed = "混ぜた文字 and 👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 🇩🇪 ☕️ e\u{301} 한국어 👍🏽 ".repeat(6);
    let stage = Stage::scripted(&["--print", &mixed, "--print", "the end"], &[], &[]);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    stage.drop_task("marie", "wide", &mixed);
    screen.see("1 done").await;
    screen.see("the end").await;
    screen.press("4").await;
    screen.see("marie · wide").await;
    screen.press("1").await;
    screen.see("┌ Agents").await;
    screen.assert_drawn_whole().await;
    for (columns, rows) in [WIDE, (119, 40), (101, 31), WIDE] {
        screen.resize(columns, rows);
        // Drawn anew in its new size: the last column of the first row holds nothing, the frame ends below it.
        let seen = screen.seen.clone();
        screen
            .until("whole borders", |_| {
                let seen = seen.lock().unwrap();
                let cell = |row, column| seen.parser.screen().cell(row, column).map_or("", |c| c.contents()).to_owned();
                (1..rows - 1)
                    .all(|row| "│┌└┐┘├┤".contains(&cell(row, 0)) && "│┌└┐┘├┤".contains(&cell(row, columns - 1)))
                    && (1..rows - 10).all(|row| "│┌└".contains(&cell(row, 36)) && !cell(row, 36).is_empty())
            })
            .await;
    }
}

/// A small generator, the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

#[tokio::test]
async fn any_size_and_any_keys_are_survived() {
    let stage = Stage::scripted(
        &["--print", "one", "--sleep", "0.2", "--print", "two"],
        &["--flood", "2"],
        &["--fail-below", "3", "--print", "three"],
    );
    stage.rings_no_bell();
    let keys: Vec<String> = "abcdefghijklmnoprtuvwxyzGN?:/ 12345.*(\t\u{2}\u{6}\u{c}\u{1a}"
        .chars()
        .map(String::from)
        .chain(
            ["\r", "\u{1b}[A", "\u{1b}[B", "\u{1b}[C", "\u{1b}[5~", "\u{1b}[6~", "\u{1b}[H", "\u{1b}[F"]
                .map(Into::into),
        )
        .chain(["\u{1b}[Z", "\u{7f}", "\u{1b}\r", "ü", "漢", "\u{1b}[200~a\nb\u{1b}[201~"].map(Into::into))
        .chain(["\u{1b}[<0;0;0M", "\u{1b}[<64;300;300M", "\u{1b}[<0;5;5M", "\u{1b}[I", "\u{1b}[M !!"].map(Into::into))
        .collect();
    let mut random = Random(42);
    let mut screen = stage.open(WIDE, &[]);
    screen.see("@marie").await;
    for n in 0..8 {
        stage.drop_task(["marie", "anga", "fabien"][n % 3], &format!("t{n}"), "Anything");
    }
    let mut opened = 1;
    for _ in 0..400 {
        let key = &keys[usize::try_from(random.below(keys.len() as u64)).unwrap()];
        // Some keys leave: then the terminal must be whole, and the next screen opens.
        let alive = screen.child.try_wait().unwrap().is_none() && screen.keys.write_all(key.as_bytes()).await.is_ok();
        if !alive {
            let (status, left) = screen.ended().await;
            assert!(status.success(), "{left}");
            opened += 1;
            assert!(opened < 20, "it leaves all the time");
            screen = stage.open(WIDE, &[]);
            screen.until("anything", |s| !s.trim().is_empty()).await;
        }
        if random.below(4) == 0 {
            let (columns, rows) = (1 + random.below(200), 1 + random.below(60));
            screen.resize(u16::try_from(columns).unwrap(), u16::try_from(rows).unwrap());
        }
        tokio::time::sleep(Duration::from_millis(random.below(12))).await;
    }
    // It is still in its right mind.
    screen.resize(WIDE.0, WIDE.1);
    if screen.child.try_wait().unwrap().is_none() {
        for _ in 0..6 {
            screen.press(ESC).await;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        // Read together with the last Esc it would be another key.
        tokio::time::sleep(Duration::from_millis(500)).await;
        screen.press(CTRL_C).await;
        screen.see("stop everything").await;
        screen.press("s").await;
    }
    let seen = screen.seen.clone();
    let (status, left) = screen.ended().await;
    assert!(status.success(), "{left}");
    let _stopped = stage.run(&["stop"]).await;
    stage.nothing_left().await;
    stage.assert_nobody_panicked();
    let mut refused = repertoire(&seen.lock().unwrap().raw).refused;
    // `y` copies: that one is podium's own.
    refused.retain(|what| !what.starts_with("OSC [[53, 50]"));
    assert!(refused.is_empty(), "{refused:?}");
}

// Poor terminals.

#[tokio::test]
async fn a_terminal_that_is_too_small_gets_a_sentence_and_can_be_left() {
    let stage = Stage::new(REHEARSAL);
    let mut screen = stage.open((59, 16), &[]);
    screen.see("podium needs 60 columns").await;
    screen.resize(60, 16);
    screen.see("REHEARSAL").await;
    screen.resize(60, 15);
    screen.see("podium needs 60 columns").await;
    screen.press("q").await;
    screen.see("the agents go on").await;
    screen.press(ENTER).await;
    assert!(screen.ended().await.0.success());
}

#[tokio::test]
async fn no_color_means_no_colour_and_ascii_means_ascii() {
    let stage = Stage::new(REHEARSAL);
    let goal = "Mend the sign-up page and announce it";
    let colorful = {
        let mut screen = stage.open(WIDE, &["rehearse", "--pace", "0", goal]);
        screen.see("REHEARSAL").await;
        screen.press("\u{1b}").await;
        screen.see("g goal").await;
        screen.press("q\r").await;
        let seen = screen.seen.clone();
        assert!(screen.ended().await.0.success());
        repertoire(&seen.lock().unwrap().raw).colors
    };
    assert!(colorful > 0, "the check can see colours");
    let mut screen = stage.open_with(SMALL, &["rehearse", "--ascii", goal], &[("NO_COLOR", "1")]);
    screen.see("REHEARSAL").await;
    screen.press(ENTER).await;
    screen.see("? plan for g1").await;
    screen.press("3").await;
    screen.see("Plan of g1").await;
    screen.press("a").await;
    screen.see("o reads the report").await;
    for (key, sign) in [("o", "Report on g1"), ("?", "Everywhere"), (":", "Commands")] {
        screen.press(key).await;
        screen.see(sign).await;
        screen.press(ESC).await;
        screen.see_no(sign).await;
    }
    for key in ["4", "5", "2", TAB, TAB, "1"] {
        screen.press(key).await;
    }
    screen.quiet().await;
    screen.resize(WIDE.0, WIDE.1);
    screen.see("+ Agents").await;
    screen.press(CTRL_C).await;
    screen.see("stop everything").await;
    let raw = screen.raw();
    let strange = String::from_utf8_lossy(&raw).chars().filter(|c| !c.is_ascii()).collect::<String>();
    assert!(strange.is_empty(), "not ASCII: {strange:?}");
    assert_eq!(repertoire(&raw).colors, 0, "no colour");
    screen.press("s").await;
    assert!(screen.ended().await.0.success());
}
