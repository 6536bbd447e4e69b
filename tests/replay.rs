//! Runs that are over: recorded, shown again, put into pictures; and the pictures that are committed.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets")
}

/// A machine: a home, and what its operator has set.
struct Machine {
    home: tempfile::TempDir,
    vars: Vec<(&'static str, &'static str)>,
}

impl Machine {
    fn new(vars: &[(&'static str, &'static str)]) -> Self {
        Self { home: tempfile::Builder::new().prefix("podium-replay-test-").tempdir().unwrap(), vars: vars.to_vec() }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PODIUM);
        command.args(args).env_clear().env("HOME", self.home.path()).env("PATH", "/nonexistent");
        command.envs(self.vars.iter().copied()).current_dir(self.home.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn the_committed_pictures_are_what_the_script_makes() {
    let out = tempfile::tempdir().unwrap();
    let status = Command::new(assets().join("make-pictures")).arg(out.path()).env("PODIUM", PODIUM).status().unwrap();
    assert!(status.success());
    let mut made = 0;
    for entry in fs::read_dir(out.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let committed = fs::read_to_string(assets().join(&name)).unwrap_or_default();
        assert!(committed == fs::read_to_string(&path).unwrap(), "assets/{name} differs: run assets/make-pictures");
        made += 1;
    }
    let there =
        fs::read_dir(assets()).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "svg"));
    assert_eq!((made, there.count()), (made.max(3), made), "none is missing and none is left over");
    let readme = fs::read_to_string(assets().join("../README.md")).unwrap();
    assert!(readme.contains("assets/stage.svg"), "the README shows them");
}

#[test]
fn two_machines_draw_the_same_bytes() {
    let one = Machine::new(&[("TZ", "Asia/Tokyo"), ("TERM", "xterm-256color"), ("LANG", "C.UTF-8")]);
    let two = Machine::new(&[
        ("TZ", "America/Lima"),
        ("TERM", "dumb"),
        ("LANG", "C"),
        ("NO_COLOR", "1"),
        ("COLORFGBG", "0;15"),
    ]);
    // The second operator has another taste; a picture of a recording does not.
    let own = two.home.path().join(".config/podium");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("screen.toml"), "theme = \"contrast\"\nascii = true\n[keys]\nhelp = \"f5\"\n").unwrap();
    let recording = assets().join("rehearsal");
    let recording = recording.to_str().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for at in ["0s", "6s", "13s", "25s", "10m"] {
        for view in ["stage", "tasks", "plan", "log", "limits", "help"] {
            let args = ["snapshot", "--svg", "--replay", recording, "--at", at, "--view", view];
            let (first, second) = (one.said(&args), two.said(&args));
            assert!(first == second, "{view} at {at} differs");
            seen.insert(first);
        }
    }
    assert!(seen.len() > 20, "{} different pictures: the moments differ", seen.len());
}

#[test]
fn a_stages_own_past_is_shown_again_from_what_it_has_kept() {
    let machine = Machine::new(&[("TZ", "UTC"), ("LANG", "C.UTF-8")]);
    let stage = machine.home.path().join("stage");
    let stage = stage.to_str().unwrap();
    machine.run(&["rehearse", "--headless", "--keep", stage, "Write the running order and announce the week"]);
    let status: Value = serde_json::from_slice(&machine.run(&["status", "--json", "--stage", stage]).stdout).unwrap();
    let done = status["counts"]["done"].as_u64().unwrap();
    assert!(done > 0, "{status}");
    let at = |moment: &str| machine.said(&["snapshot", "--replay", stage, "--at", moment]);
    let (begin, end) = (at("0s"), at("1h"));
    assert!(begin.contains("REPLAY") && !begin.contains(&format!("{done} done")), "{begin}");
    assert!(end.contains(&format!("{done} done")) && end.contains("reads the report"), "{end}");
    // The journal itself is as good a name, and a moment that is a time too.
    let journal = format!("{stage}/.podium/journal.jsonl");
    assert_eq!(machine.said(&["snapshot", "--replay", &journal, "--at", "2100-01-01T00:00:00Z"]), end);
    for wrong in [
        &["snapshot", "--replay", stage, "--at", "soon"][..],
        &["snapshot", "--view", "taks"],
        &["snapshot", "--size", "9"],
    ] {
        let output = machine.run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
    }
    let said = String::from_utf8(machine.run(&["snapshot", "--view", "taks"]).stderr).unwrap();
    assert!(said.contains("did you mean tasks?"), "{said}");
}

#[test]
fn a_recording_holds_the_run_with_its_logs() {
    let machine = Machine::new(&[("TZ", "UTC"), ("LANG", "C.UTF-8")]);
    let stage = machine.home.path().join("stage");
    fs::create_dir(&stage).unwrap();
    fs::write(stage.join("podium.toml"), "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0.0\n").unwrap();
    let stage = stage.to_str().unwrap();
    let there = ["--stage", stage];
    machine.said(&[&["serve", "--detach"], &there[..]].concat());
    let tape = machine.home.path().join("tape");
    let mut recorder = Command::new(PODIUM)
        .args(["record", tape.to_str().unwrap()])
        .args(there)
        .env_clear()
        .env("HOME", machine.home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..500 {
        if fs::metadata(tape.join("run.jsonl")).is_ok_and(|meta| meta.len() > 0) {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "it looks again for what another process writes")]
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = machine.said(&[&["submit", "--agent", "marie", "Say which dances there are"], &there[..]].concat());
    machine.run(&[&["wait", id.trim()], &there[..]].concat());
    machine.said(&[&["stop"], &there[..]].concat());
    assert!(recorder.wait().unwrap().success(), "it ends with the room");
    let tape = tape.to_str().unwrap();
    let end = machine.said(&["snapshot", "--replay", tape, "--view", "log"]);
    assert!(end.contains("say-which-dances") || end.contains("marie ·"), "{end}");
    assert!(end.contains("Rehearsal."), "what it said is there: {end}");
    let begin = machine.said(&["snapshot", "--replay", tape, "--at", "0s", "--view", "log"]);
    assert!(!begin.contains("Rehearsal."), "and was not yet there: {begin}");
    // A torn last line is no harm, a torn one in the middle is named.
    let run = Path::new(tape).join("run.jsonl");
    let text = fs::read_to_string(&run).unwrap();
    fs::write(&run, text.get(..text.len() - 40).unwrap()).unwrap();
    machine.said(&["snapshot", "--replay", tape]);
    fs::write(&run, text.replacen("\"tell\":\"event\"", "\"tell\":\"evnet\"", 1)).unwrap();
    let output = machine.run(&["snapshot", "--replay", tape]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("run.jsonl:") && said.contains("no line of a recording"), "{said}");
}
