//! The command line from outside: arguments, configuration errors, `init`, and the verbs against a running room.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests; what goes wrong must stop them")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// A folder of its own with a home, and podium called inside it.
struct Place {
    dir: tempfile::TempDir,
    stage: PathBuf,
}

impl Place {
    /// A place whose stage has this file.
    fn with(text: &str) -> Self {
        let place = Self::empty();
        fs::create_dir_all(&place.stage).unwrap();
        fs::write(place.stage.join("podium.toml"), text).unwrap();
        place
    }

    fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("podium-cli-").tempdir().unwrap();
        let stage = dir.path().canonicalize().unwrap().join("stage");
        Self { dir, stage }
    }

    /// podium with an environment that holds nothing of this machine's.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
        let cwd = if self.stage.is_dir() { &self.stage } else { self.dir.path() };
        command
            .args(args)
            .current_dir(cwd)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(args, &self.command(args).output().unwrap())
    }

    /// What a verb prints with `--json`, when it does as asked.
    fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }
}

/// What came of one call.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(args: &[&str], output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let ran = Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) };
        assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{args:?} coloured a pipe: {ran:?}");
        ran
    }

    /// Ended with this code.
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Said this on standard error.
    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in {self:?}");
        self
    }
}

/// A room in the background; gone when dropped, whatever the test did.
struct Room(Place);

impl Room {
    /// Engines that need no model: one answers, one fails, one takes for ever.
    fn open() -> Self {
        let agent = |name: &str, command: &str| {
            format!("[agents.{name}]\nengine = \"command\"\ncommand = {command}\nprompt = \"prompts/ANGA.md\"\n")
        };
        let text = format!(
            "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0.0\n[retry]\nattempts = 1\n{}{}{}",
            agent("echo", "[\"cat\"]"),
            agent("bad", "[\"false\"]"),
            agent("slow", "[\"sleep\", \"600\"]"),
        );
        let room = Self(Place::with(&text));
        room.0.run(&["serve", "--detach"]).ends(0);
        room
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let stopped = self.0.run(&["stop"]);
        assert!(stopped.code == Some(0) || std::thread::panicking(), "the room did not stop: {stopped:?}");
    }
}

/// Looks again and again, for at most a minute.
fn eventually(is_so: impl Fn() -> bool) {
    for _ in 0..2_400 {
        if is_so() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "a test waits for another process between looks")]
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    panic!("it did not come to that");
}

#[test]
fn wrong_arguments_end_with_2_and_help_with_0() {
    let place = Place::empty();
    for args in [
        &["--colour"][..],
        &["dance"],
        &["wait"],
        &["submit", "text"],
        &["submit", "--agent", "marie"],
        &["run"],
        &["wait", "x", "--timeout", "10"],
        &["submit", "--agent", "marie", "x", "--priority", "asap"],
        &["submit", "--agent", "marie", "x", "--id", "../x"],
        &["submit", "--agent", "marie", "x", "--after", "a/b/c"],
        &["run", "x", "--approve", "perhaps"],
        &["retry", "x", "--edit", "--text", "y"],
        &["--rehearse", "status"],
    ] {
        place.run(args).ends(2);
    }
    place.run(&["wait", "x", "--timeout", "10"]).ends(2).says("has no unit");
    let help = place.run(&["--help"]).ends(0);
    assert!(help.out.contains("Exit codes:") && help.out.contains("rehearse"), "{help:?}");
    assert!(place.run(&["--version"]).ends(0).out.starts_with("podium "));
}

#[test]
fn a_wrong_file_ends_with_2_names_place_and_key_and_starts_nothing() {
    let place = Place::with("[agents.marie]\npromt = \"x\"\n");
    for args in [&["status"][..], &["serve"], &["serve", "--detach"], &["worker", "marie"], &["doctor"], &["logs"]] {
        let ran = place.run(args).ends(2).says("podium.toml:2:1: unknown key `promt` in [agents.marie]");
        assert!(ran.err.contains("did you mean `prompt`?") && ran.out.is_empty(), "{ran:?}");
    }
    let left: Vec<_> = fs::read_dir(&place.stage).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["podium.toml"]);
    let failure = place.json(&["status"]);
    assert_eq!(failure["exit"], 2);
    assert!(failure["error"].as_str().unwrap().contains("promt"), "{failure}");
}

#[test]
fn a_stage_that_is_not_there_is_named_with_what_named_it() {
    let place = Place::empty();
    place.run(&["status", "--stage", "nowhere"]).ends(2).says("named by --stage").says("podium init");
    let output = place.command(&["status"]).env("PODIUM_STAGE", "/nowhere").output().unwrap();
    Ran::of(&[], &output).ends(2).says("named by environment PODIUM_STAGE");
}

#[test]
fn without_a_room_clients_end_with_4_and_say_how_to_start_one() {
    let place = Place::with("");
    for args in [
        &["status"][..],
        &["show", "x"],
        &["wait", "x"],
        &["retry", "x", "--text", "y"],
        &["pause", "marie"],
        &["approve", "g1"],
        &["run", "x"],
        &["submit", "--agent", "marie", "x"],
    ] {
        place.run(args).ends(4).says("podium serve --detach");
    }
    assert_eq!(place.json(&["status"])["exit"], 4);
    // A wish about a task that is there can be left for the next room; a name that means nothing cannot.
    fs::create_dir_all(place.stage.join("tasks/marie")).unwrap();
    fs::write(place.stage.join("tasks/marie/x.json"), r#"{"task_id": "x", "description": "Wait"}"#).unwrap();
    for verb in ["cancel", "retry"] {
        assert_eq!(place.run(&[verb, "x"]).ends(0).out, "marie/x: noted; the next room does it\n");
        assert!(place.stage.join(format!("tasks/marie/.requests/x.{verb}")).is_file());
        place.run(&[verb, "y"]).ends(2).says("no room runs here, and there is no task y");
    }
    place.run(&["stop"]).ends(0);
    place.run(&["logs"]).ends(0);
}

#[test]
fn without_a_room_status_and_show_tell_what_the_files_say_and_write_nothing() {
    let place = Place::with("");
    let inbox = place.stage.join("tasks/marie");
    fs::create_dir_all(&inbox).unwrap();
    let long = format!("Wait for it{} and for its end", " and wait".repeat(1_000));
    fs::write(inbox.join("x.json"), serde_json::json!({"task_id": "x", "description": long}).to_string()).unwrap();
    fs::write(inbox.join("bad.json"), "{bad").unwrap();
    let status = place.run(&["status"]).ends(4).says("This is what the stage's files say.");
    for word in ["(no room is open)", "marie/x  ready", "tasks/marie/bad.json: ", "marie   not ready"] {
        assert!(status.out.contains(word), "{word}: {status:?}");
    }
    let shown = place.run(&["show", "x"]).ends(4).says("podium serve --detach");
    assert!(shown.out.contains("Wait for it") && shown.out.contains("no room is open"), "{shown:?}");
    let status = place.json(&["status"]);
    assert!(status["offline"].as_str().unwrap().starts_with("no room is running"), "{status:#}");
    assert_eq!((&status["counts"]["ready"], &status["opened_at"]), (&1.into(), &Value::Null), "{status:#}");
    let shown = place.json(&["show", "x"]);
    assert_eq!((&shown["state"], &shown["description"]), (&"ready".into(), &long.into()));
    place.run(&["show", "y"]).ends(4).says("there is no task and no goal y");
    let mut left: Vec<_> = fs::read_dir(&inbox).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["bad.json", "x.json"]);
    assert!(!place.stage.join(".podium").exists() && !place.stage.join("results").exists());
}

#[test]
fn init_makes_a_stage_once_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::empty();
    let first = place.json(&["init", "stage"]);
    assert_eq!(first["stage"], place.stage.display().to_string());
    for path in
        ["podium.toml", "prompts/DANCE.md", "tasks/marie", "results/goals", "workspaces/coding", "logs", ".podium"]
    {
        assert!(place.stage.join(path).exists(), "{path}");
    }
    let private = fs::metadata(place.stage.join(".podium")).unwrap().permissions().mode();
    assert_eq!(private & 0o777, 0o700);
    fs::write(place.stage.join("podium.toml"), "[room]\nmax_running = 2\n").unwrap();
    let again = place.json(&["init", place.stage.to_str().unwrap()]);
    assert_eq!(again["made"], Value::Array(Vec::new()));
    assert!(fs::read_to_string(place.stage.join("podium.toml")).unwrap().contains("max_running = 2"));
    // A file where a folder should be is named and left alone.
    let blocked = place.dir.path().join("blocked");
    fs::create_dir_all(&blocked).unwrap();
    fs::write(blocked.join("tasks"), "mine").unwrap();
    place.run(&["init", blocked.to_str().unwrap()]).ends(1).says("tasks");
    assert_eq!(fs::read_to_string(blocked.join("tasks")).unwrap(), "mine");
}

#[test]
fn doctor_names_what_is_missing_with_its_remedy_and_is_content_with_a_rehearsal() {
    let place = Place::with("");
    let doctor = place.json(&["doctor"]);
    assert_eq!(doctor["ready"], false);
    let check = |doctor: &Value, name: &str| {
        let all = doctor["checks"].as_array().unwrap();
        all.iter().find(|c| c["name"] == name).cloned().unwrap_or_else(|| panic!("no {name} in {doctor}"))
    };
    let marie = check(&doctor, "marie");
    assert_eq!(marie["level"], "fail");
    assert!(marie["remedy"].as_str().unwrap().contains("MARIE_API_KEY"), "{marie}");
    place.run(&["doctor"]).ends(1);
    fs::write(place.stage.join("podium.toml"), "[upstream]\nurl = \"rehearsal:\"\n").unwrap();
    place.run(&["doctor"]).ends(0);
    let doctor = place.json(&["doctor"]);
    assert_eq!((&doctor["ready"], &check(&doctor, "marie")["level"]), (&Value::from(true), &Value::from("ok")));
    let settings = doctor["settings"].as_array().unwrap();
    let url = settings.iter().find(|s| s["key"] == "upstream.url").unwrap();
    assert_eq!(url["source"], "podium.toml, line 2");
}

#[test]
fn doctor_asks_the_cli_for_its_version_and_shows_no_key() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with("");
    let program = place.dir.path().join("cli");
    fs::write(&program, "#!/bin/sh\n[ -z \"$ANTHROPIC_API_KEY\" ] && echo '9.9.9 (a CLI)'\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = place
        .command(&["doctor", "--settings"])
        .env("CLAUDE_COMMAND", &program)
        .env("ANTHROPIC_API_KEY", "sk-very-secret")
        .output()
        .unwrap();
    let ran = Ran::of(&[], &output).ends(0);
    assert!(ran.out.contains("9.9.9 (a CLI)") && ran.out.contains("claude engine, sonnet, key from ANTHROPIC_API_KEY"));
    assert!(!ran.out.contains("secret") && !ran.err.contains("secret"), "{ran:?}");
}

#[test]
fn a_worker_of_nobody_is_refused_by_name() {
    let place = Place::with("");
    place.run(&["worker", "mari"]).ends(2).says("the agents are marie, anga, fabien").says("did you mean marie?");
    place.run(&["worker", "marie", "--slot", "7"]).ends(2).says("there is no slot 7");
    place.run(&["worker", "marie", "--queue", "redis:"]).ends(2).says("--queue: \"file:\"");
}

#[test]
fn a_worker_whose_room_knows_of_a_command_that_the_file_no_longer_names_leaves_to_be_started_again() {
    let place = Place::with("");
    let ran = place.run(&["worker", "marie", "--engine", "command"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    ran.says("the room says that marie runs a command, and podium.toml names none now");
}

#[test]
fn tasks_are_submitted_waited_for_shown_and_retried() {
    let room = Room::open();
    let place = &room.0;
    let submitted = place.run(&["submit", "--agent", "echo", "say", "hello"]).ends(0);
    assert_eq!(submitted.out, "echo/say-hello\n");
    // The same words again are another task; the same id again is refused.
    assert_eq!(place.run(&["submit", "--agent", "echo", "say hello"]).ends(0).out, "echo/say-hello-2\n");
    place.run(&["wait", "say-hello", "say-hello-2", "--timeout", "1m"]).ends(0);
    let shown = place.json(&["show", "say-hello"]);
    assert_eq!((&shown["id"], &shown["state"]), (&Value::from("echo/say-hello"), &Value::from("done")));
    assert!(shown["result"]["summary"].as_str().unwrap().contains("say hello"), "{shown}");
    assert!(place.stage.join(shown["result"]["file"].as_str().unwrap()).is_file());

    place.run(&["submit", "--agent", "bad", "--id", "wrong", "go wrong"]).ends(0);
    place.run(&["wait", "bad/wrong", "--timeout", "1m"]).ends(1);
    assert_eq!(place.json(&["show", "wrong"])["result"]["class"], "task");
    let shown = place.run(&["show", "wrong"]).ends(0);
    assert!(shown.out.contains("what to do   Read the end of the attempt's log"), "{shown:?}");
    assert!(!place.run(&["show", "say-hello"]).ends(0).out.contains("what to do"));
    let needs = place.json(&["status"])["needs_you"].clone();
    assert_eq!(needs[0], serde_json::json!({ "kind": "failed", "id": "bad/wrong" }));
    place.run(&["retry", "wrong", "--text", "go right"]).ends(0);
    place.run(&["wait", "wrong", "--timeout", "1m"]).ends(1);
    assert_eq!(place.json(&["show", "wrong"])["description"], "go right");

    let logs = place.run(&["logs", "--task", "say-hello", "--grep", "^say h"]).ends(0);
    assert_eq!(logs.out.lines().count(), 1, "{logs:?}");
    let line = place.json(&["logs", "echo", "--task", "say-hello", "--grep", "^say h"]);
    assert_eq!((&line["agent"], &line["attempt"], &line["text"]), (&"echo".into(), &1.into(), &"say hello".into()));
}

#[test]
fn a_search_goes_through_every_log_there_is_and_says_whether_there_was_anything() {
    let place = Place::with("");
    for (path, text) in [
        (
            "logs/marie/a.1.log",
            "zero\none\n{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"say \\\"yes\\\" now\"}]}}\nthree\nfour\n",
        ),
        ("tasks/marie/.attempts/b/1/err.log", "panic: Say nothing\n"),
        ("tasks/gone/.trash/c.1/2/out.log", "they say it\n"),
    ] {
        let path = place.stage.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let all = place.run(&["logs", "--grep", "say"]).ends(0);
    assert_eq!(all.out.lines().count(), 2, "{all:?}");
    assert_eq!(place.run(&["logs", "-i", "--grep", "say"]).ends(0).out.lines().count(), 3);
    place.run(&["logs", "--grep", "never said"]).ends(1);
    place.run(&["logs", "marie", "--grep", "they"]).ends(1);
    let near = place.run(&["logs", "--task", "marie/a", "--grep", "\"yes\"", "--context", "1", "--json"]).ends(0);
    let lines: Vec<Value> = near.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|l| (l["text"].as_str().unwrap(), l["context"] == true)).collect();
    assert_eq!(told, [("one", true), ("say \"yes\" now", false), ("three", true)]);
    assert_eq!((lines[1]["offset"].as_u64(), lines[1]["log"].as_str()), (Some(9), Some("logs/marie/a.1.log")));
}

#[test]
fn an_editor_changes_the_text_of_a_retry_and_an_emptied_text_is_refused() {
    let room = Room::open();
    let place = &room.0;
    place.run(&["submit", "--agent", "bad", "--id", "wrong", "go wrong"]).ends(0);
    place.run(&["wait", "wrong", "--timeout", "1m"]).ends(1);
    let edit = |editor: &str| {
        let args = ["retry", "wrong", "--edit"];
        Ran::of(&args, &place.command(&args).env("EDITOR", editor).output().unwrap())
    };
    edit("sed -i s/wrong/better/").ends(0);
    place.run(&["wait", "wrong", "--timeout", "1m"]).ends(1);
    assert_eq!(place.json(&["show", "wrong"])["description"], "go better");
    // Also one that is longer than what the room keeps of it: to its last word.
    let long = format!("go {}\nlast wrong", "on and on ".repeat(2_000));
    place.run(&["retry", "wrong", "--text", &long]).ends(0);
    place.run(&["wait", "wrong", "--timeout", "1m"]).ends(1);
    edit("sed -i s/wrong/better/").ends(0);
    place.run(&["wait", "wrong", "--timeout", "1m"]).ends(1);
    assert_eq!(place.json(&["show", "wrong"])["description"], long.replace("wrong", "better"));
    edit("truncate -s 0").ends(3).says("the text is empty");
    edit("false").ends(3).says("nothing was changed");
    edit("no-such-editor").ends(1).says("set EDITOR");
}

#[test]
fn names_that_mean_nothing_or_too_much_are_answered_with_what_there_is() {
    let room = Room::open();
    let place = &room.0;
    for agent in ["echo", "bad"] {
        place.run(&["submit", "--agent", agent, "--id", "twin", "x"]).ends(0);
    }
    place.run(&["wait", "echo/twin", "bad/twin", "--timeout", "1m"]).ends(1);
    place.run(&["show", "twin"]).ends(2).says("more than one task: bad/twin, echo/twin");
    place.run(&["show", "twim"]).ends(2).says("did you mean twin?");
    place.run(&["show", "ecko/twin"]).ends(2).says("did you mean echo?");
    place.run(&["approve", "g7"]).ends(2).says("there is no goal g7");
    place.run(&["pause", "mari"]).ends(2).says("did you mean marie?");
    place.run(&["submit", "--agent", "painter", "x"]).ends(2).says("there is no agent painter");
    place.run(&["submit", "--agent", "echo", "  "]).ends(2).says("description is empty");
    place.run(&["cancel", "echo/twin"]).ends(3).says("has ended already");
    place.run(&["logs", "--grep", "("]).ends(2).says("no regular expression");
    place.run(&["serve"]).ends(3).says("open on");
}

#[test]
fn waiting_ends_with_124_in_time_with_130_by_ctrl_c_and_the_work_goes_on() {
    use rustix::process::{Pid, Signal, kill_process};
    let room = Room::open();
    let place = &room.0;
    place.run(&["submit", "--agent", "slow", "--id", "long", "take long"]).ends(0);
    place.run(&["wait", "long", "--timeout", "200ms"]).ends(124).says("the work goes on");
    let mut waiting = place.command(&["wait", "long"]).spawn().unwrap();
    let pid = Pid::from_child(&waiting);
    // Before it listens, the signal would end it in the system's own way.
    eventually(|| {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        catches_interrupt(&status)
    });
    kill_process(pid, Signal::INT).unwrap();
    let code = waiting.wait().unwrap().code();
    assert_eq!(code, Some(130));
    assert_eq!(place.json(&["show", "long"])["state"], "running");
    place.run(&["cancel", "long"]).ends(0);
    place.run(&["wait", "long", "--timeout", "1m"]).ends(1);
    assert_eq!(place.json(&["show", "long"])["state"], "cancelled");
}

/// Whether a process has a handler for the interrupt signal, number 2.
fn catches_interrupt(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 0b10 != 0)
}

#[test]
fn a_paused_agent_starts_nothing_until_it_may_go_on() {
    let room = Room::open();
    let place = &room.0;
    place.run(&["pause", "echo"]).ends(0);
    place.run(&["submit", "--agent", "echo", "--id", "later", "x"]).ends(0);
    place.run(&["wait", "later", "--timeout", "300ms"]).ends(124);
    assert_eq!(place.json(&["show", "later"])["why"], "echo is paused");
    place.run(&["resume", "echo"]).ends(0);
    place.run(&["wait", "later", "--timeout", "1m"]).ends(0);
}

#[test]
fn a_task_file_is_submitted_with_its_fields_and_flags_win() {
    let room = Room::open();
    let place = &room.0;
    let file = place.stage.join("task.json");
    fs::write(&file, r#"{"task_id":"from-file","worker":"echo","prompt":"read me","priority":"low"}"#).unwrap();
    let args = ["submit", "--file", "task.json", "--priority", "high", "--after", "first"];
    assert_eq!(place.run(&args).ends(0).out, "echo/from-file\n");
    let shown = place.json(&["show", "from-file"]);
    assert_eq!((&shown["priority"], &shown["dependencies"][0]), (&Value::from(2), &Value::from("first")));
    assert_eq!(shown["state"], "waiting");
    place.run(&["submit", "--agent", "echo", "--id", "first", "x"]).ends(0);
    place.run(&["wait", "from-file", "--timeout", "1m"]).ends(0);
    // Dropped by hand, and waited for at once.
    fs::write(place.stage.join("tasks/echo/dropped.json"), r#"{"description":"x","dependencies":["first"]}"#).unwrap();
    place.run(&["wait", "dropped", "--timeout", "1m"]).ends(0);
    fs::write(&file, "{").unwrap();
    place.run(&["submit", "--file", "task.json"]).ends(2).says("task.json: this is no JSON");
    place.run(&["submit", "--file", "gone.json"]).ends(2).says("could not open");
}

#[test]
fn a_goal_runs_to_its_report_or_stops_at_its_plan() {
    let room = Room::open();
    let place = &room.0;
    let run = place.run(&["run", "Write a short note about recital week", "--timeout", "1m"]).ends(0);
    assert!(run.out.starts_with("# ") && run.err.contains("g1 done"), "{run:?}");
    let planned = place.json(&["run", "--approve", "never", "Write a short note about recital week"]);
    assert_eq!((&planned["state"], planned["tasks"].as_array().map(Vec::len)), (&"planned".into(), Some(0)));
    assert!(!planned["plan"]["tasks"].as_array().unwrap().is_empty(), "{planned}");
    let asked = ["run", "--approve", "ask", "--detach", "Write a short note about recital week"];
    assert_eq!(place.run(&asked).ends(0).out, "g3\n");
    place.run(&["wait", "g3", "--timeout", "300ms"]).ends(124);
    eventually(|| place.json(&["show", "g3"])["state"] == "needs_approval");
    place.run(&["deny", "g3"]).ends(0);
    place.run(&["wait", "g3", "--timeout", "1m"]).ends(1);
    place.run(&["approve", "g3"]).ends(3).says("no plan to approve");
    place.run(&["run", " "]).ends(2).says("the goal is empty");
}

#[test]
fn a_headless_rehearsal_prints_its_report_leaves_its_stage_and_no_process() {
    let place = Place::empty();
    let keep = place.dir.path().join("kept");
    let args = ["rehearse", "--headless", "--keep", keep.to_str().unwrap()];
    // One task of the sample goal fails by design, and the exit code says so.
    let ran = place.run(&args).ends(1).says("the stage is left in");
    assert!(ran.out.contains("## Tasks") && ran.out.contains("Partial"), "{ran:?}");
    assert!(keep.join("results/goals/g1.md").is_file());
    assert!(!processes_name(&keep), "a process of the rehearsal is left");
    let real = Place::with("");
    let args = ["rehearse", "--headless", "--keep", real.stage.to_str().unwrap()];
    real.run(&args).ends(2).says("is a real stage");
}

/// Whether any process has this path among its arguments.
fn processes_name(path: &Path) -> bool {
    let own = std::process::id().to_string();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        entry.file_name().to_str() != Some(own.as_str())
            && fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(path.to_str().unwrap()))
    })
}
