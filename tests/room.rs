//! The room for real: `podium serve` with its worker processes in a stage of its own, driven as operators and scripts
//! drive it: through the socket, the verbs and plain files. Every test sees everything that it started gone.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[path = "room/attention.rs"]
mod attention;
mod common;
#[path = "room/permits.rs"]
mod permits;
#[path = "room/plans.rs"]
mod plans;
#[path = "room/talk.rs"]
mod talk;
#[path = "room/workflows.rs"]
mod workflows;

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    time::Duration,
};

use jiff::Timestamp;
use podium::{
    attach::socket_path,
    model::{Clock, Ending, TaskRef, TaskSpec},
    rehearsal::{self, StandIn},
    room::{Answer, Order, State},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use common::{COMMANDS, PATIENCE, Stage, assert_ended, cli::cli, eventually, files_with, is_alive, kill, reason_of};

fn clock() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
    Clock::new(Timestamp::now)
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
    assert_eq!(
        fs::read_dir(stage.path.join("results/marie")).unwrap().flatten().filter(|e| e.path().is_file()).count(),
        2
    );
    // The corrected file may take the same name.
    fs::write(inbox.join("malformed.json"), r#"{"description":"put right"}"#).unwrap();
    assert_ended(&stage.result("marie/malformed").await, "done", 1);
    stage.close().await;
}

#[tokio::test]
async fn tasks_run_after_what_they_depend_on_and_are_told_what_it_found() {
    let stage = Stage::open().await;
    // The last first: what nobody has submitted yet is waited for.
    stage.submit("anga/both", &[], &["--after", "marie/first", "fabien/third"]);
    stage.submit("fabien/third", &[], &["--after", "anga/second"]);
    stage.submit("anga/second", &[], &["--after", "marie/first"]);
    for (task, why) in [("anga/both", "after third"), ("anga/second", "marie/first, which nobody has submitted")] {
        let waiting = stage.run(&["show", task, "--json"]).exits(0).json();
        assert_eq!(waiting["state"], "waiting", "{waiting:#}");
        assert!(waiting["why"].as_str().unwrap().contains(why), "{waiting:#}");
    }
    stage.submit("marie/first", &["--print", "FOUND-ALPHA"], &[]);

    stage.run(&["wait", "anga/both", "--timeout", "30s"]).exits(0);
    let mut results = Vec::new();
    for task in ["marie/first", "anga/second", "fabien/third", "anga/both"] {
        let result = stage.result(task).await;
        assert_ended(&result, "done", 1);
        results.push(result);
    }
    let at = |result: &Value, field: &str| result[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    for pair in results.windows(2) {
        assert!(at(&pair[0], "completed_at") <= at(&pair[1], "started_at"), "{pair:#?}");
    }
    let summary = |n: usize| results[n]["summary"].as_str().unwrap().to_owned();
    assert_eq!(summary(0), "FOUND-ALPHA");
    // Without steps a task answers with its prompt.
    assert!(summary(1).contains("The text of anga/second.") && summary(1).contains("FOUND-ALPHA"), "{}", summary(1));
    assert!(summary(3).contains("marie/first") && summary(3).contains("fabien/third"), "{}", summary(3));
    stage.close().await;
}

#[tokio::test]
async fn what_depends_on_a_failed_task_is_skipped_and_says_so() {
    let stage = Stage::open().await;
    stage.submit("marie/broken", &["--err", "no music here", "--exit", "3"], &[]);
    stage.submit("anga/after", &[], &["--after", "marie/broken"]);
    stage.submit("fabien/later", &[], &["--after", "anga/after"]);
    let broken = stage.result("marie/broken").await;
    assert_ended(&broken, "dead", 2);
    assert_eq!(broken["errors"][0]["class"], "task", "{broken:#}");
    assert!(broken["errors"][0]["message"].as_str().unwrap().contains("no music here"), "{broken:#}");
    for (task, cause) in [("anga/after", "marie/broken"), ("fabien/later", "anga/after")] {
        let skipped = stage.result(task).await;
        assert_ended(&skipped, "skipped", 0);
        assert!(skipped["errors"][0]["message"].as_str().unwrap().contains(cause), "{skipped:#}");
    }
    stage.run(&["wait", "fabien/later"]).exits(1);
    stage.close().await;
}

#[tokio::test]
async fn a_killed_room_costs_no_work() {
    let mut stage = Stage::open().await;
    let gate = stage.gate();
    let steps = ["--print", "begun", "--wait-for", gate.to_str().unwrap(), "--print", "survived"];
    stage.submit("anga/long", &steps, &[]);
    stage.submit("marie/alone", &["--wait-for", stage.path.join("other").to_str().unwrap(), "--print", "alone"], &[]);
    let (child, n) = stage.child("anga/long").await;
    stage.child("marie/alone").await;
    let worker = stage.worker("anga").await;
    stage.crash();

    // Without any room: what ends is committed by its worker.
    fs::write(stage.path.join("other"), "").unwrap();
    assert_ended(&stage.result("marie/alone").await, "done", 1);
    assert!(stage.run(&["status"]).exits(4).err.contains("podium serve"));
    assert!(is_alive(child) && is_alive(worker) && n == 1);

    stage.serve().await;
    assert_eq!((stage.child("anga/long").await, stage.worker("anga").await), ((child, 1), worker));
    let alone: TaskRef = "marie/alone".parse().unwrap();
    stage.until("the result that came in between", |s| s.tasks.get(&alone)?.record.outcome.clone()).await;
    stage.open_gate();
    let result = stage.result("anga/long").await;
    assert_ended(&result, "done", 1);
    assert!(result["summary"].as_str().unwrap().ends_with("survived"), "{result:#}");
    assert_eq!(stage.attempts("anga/long"), ["1"]);
    stage.close().await;
}

#[tokio::test]
async fn a_killed_worker_takes_its_tree_with_it_and_the_task_is_done_by_the_next() {
    let stage = Stage::open().await;
    let gate = stage.gate();
    let steps = ["--fork-setsid", "--ignore-term", "--wait-for", gate.to_str().unwrap(), "--print", "at last"];
    stage.submit("fabien/hard", &steps, &[]);
    let (child, _) = stage.child("fabien/hard").await;
    let scripts = stage.some_scripts(2).await;
    assert!(scripts.contains(&child));
    let worker = stage.worker("fabien").await;
    kill(worker);
    stage
        .until("the room to say what it does about it", |s| {
            s.lines.iter().any(|l| l.text.contains("fabien") && l.text.contains("starts again in 1 s")).then_some(())
        })
        .await;
    eventually("the tree to be gone", || (!scripts.iter().any(|pid| is_alive(*pid))).then_some(())).await;
    let task: TaskRef = "fabien/hard".parse().unwrap();
    let (again, n) = stage
        .until("the second attempt", |s| {
            let held = s.agents.holder(&task)?.held.as_ref()?;
            Some((held.pid?, held.attempt?)).filter(|(_, n)| *n > 1)
        })
        .await;
    assert!(n == 2 && !scripts.contains(&i32::try_from(again).unwrap()));
    stage.open_gate();
    assert_ended(&stage.result("fabien/hard").await, "done", 2);
    let shown = stage.run(&["show", "fabien/hard", "--json"]).exits(0).json();
    assert_eq!(shown["attempts"][0]["class"], "lost", "{shown:#}");
    assert_ne!(stage.worker("fabien").await, worker);
    stage.close().await;
}

#[tokio::test]
async fn a_worker_that_somebody_started_by_hand_is_missed_when_it_is_killed() {
    let stage = Stage::open().await;
    let (mut by_hand, former) = loop {
        let former = stage.worker("marie").await;
        kill(former);
        eventually("it to be gone", || (!is_alive(former)).then_some(())).await;
        // Mostly it is quicker than the room, which waits before it starts another, longer each time.
        let mut by_hand = stage.command(&["worker", "marie"]).spawn().unwrap();
        let serves = stage.worker_but("marie", former).await;
        if u32::try_from(serves).unwrap() == by_hand.id() {
            break (by_hand, former);
        }
        by_hand.wait().unwrap();
    };
    stage.submit("marie/held", &["--wait-for", stage.gate().to_str().unwrap(), "--print", "done"], &[]);
    stage.child("marie/held").await;
    by_hand.kill().unwrap();
    by_hand.wait().unwrap();
    stage.open_gate();
    assert_ended(&stage.result("marie/held").await, "done", 2);
    assert_ne!(stage.worker("marie").await, former);
    stage.close().await;
}

#[tokio::test]
async fn a_worker_without_a_room_ends_its_child_and_itself_and_the_next_room_goes_on() {
    let mut stage = Stage::scripted(&format!("[room]\norphan_grace = \"1s\"\n{COMMANDS}"));
    stage.serve().await;
    let gate = stage.gate();
    let steps = ["--fork-setsid", "--print", "begun", "--wait-for", gate.to_str().unwrap(), "--print", "ended"];
    stage.submit("anga/orphan", &steps, &[]);
    stage.some_scripts(2).await;
    stage.crash();
    stage.gone().await;
    assert!(!stage.path.join("results/anga/orphan.json").exists());

    stage.serve().await;
    stage.open_gate();
    assert_ended(&stage.result("anga/orphan").await, "done", 2);
    stage.close().await;
}

#[tokio::test]
async fn a_second_room_on_a_stage_says_who_has_it_and_leaves() {
    let mut stage = Stage::scripted(COMMANDS);
    let pid = stage.serve().await;
    let before = stage.processes().len();
    let second = stage.run(&["serve"]).exits(3);
    assert!(second.err.contains("open") && second.err.contains(&pid.to_string()), "{second:#?}");
    let detached = stage.run(&["serve", "--detach", "--json"]).exits(0).json();
    assert_eq!((&detached["started"], &detached["pid"]), (&json!(false), &json!(pid)), "{detached:#}");
    let worker = stage.run(&["worker", "marie"]).exits(3);
    assert!(worker.err.contains("marie") && worker.err.contains("another worker"), "{worker:#?}");
    assert_eq!(stage.processes().len(), before);
    stage.submit("marie/still", &[], &[]);
    assert_ended(&stage.result("marie/still").await, "done", 1);
    stage.close().await;
}

#[tokio::test]
async fn a_stage_too_deep_for_a_socket_is_found_from_everywhere() {
    let mut stage = Stage::scripted(COMMANDS);
    let deep = stage.path.join("d".repeat(90)).join("e".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::copy(stage.path.join("podium.toml"), deep.join("podium.toml")).unwrap();
    stage.path = deep;
    stage.serve().await;
    let socket = socket_path(&stage.path);
    assert!(!socket.starts_with(&stage.path) && socket.exists(), "{}", socket.display());
    // A service and a login seldom share this one.
    stage.env.remove("TMPDIR");
    stage.submit("marie/deep", &[], &[]);
    assert_ended(&stage.result("marie/deep").await, "done", 1);
    stage.close().await;
}

#[tokio::test]
async fn a_task_is_cancelled_only_when_all_of_it_is_gone() {
    let stage = Stage::open().await;
    let stubborn = ["--ignore-term", "--fork-setsid", "--hold-pipe", "--print", "on", "--sleep", "3600"];
    stage.submit("anga/stubborn", &stubborn, &[]);
    stage.run(&["pause", "marie"]).exits(0);
    stage.submit("marie/waiting", &[], &[]);
    stage.some_scripts(3).await;
    stage.run(&["cancel", "anga/stubborn", "marie/waiting"]).exits(0);
    assert_ended(&stage.result("marie/waiting").await, "cancelled", 0);
    let result = stage.result("anga/stubborn").await;
    assert_eq!(stage.scripts(), [0; 0]);
    assert_ended(&result, "cancelled", 1);
    stage.run(&["cancel", "anga/stubborn"]).exits(3);
    stage.close().await;
}

#[tokio::test]
async fn a_cancel_holds_at_whatever_moment_it_comes() {
    let stage = Stage::open().await;
    let mut link = stage.link().await;
    for n in 0..16_u64 {
        let id = format!("fleeting-{n}");
        stage.steps(&id, &["--print", "on", "--sleep", "3600"]);
        let task: TaskRef = format!("anga/{id}").parse().unwrap();
        let spec = Box::new(TaskSpec::new(task.clone(), "Not for long."));
        let answer = link.order(Order::Task { spec, rename: false }).await.unwrap();
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
        // From before it is assigned until after its child has started.
        tokio::time::sleep(Duration::from_millis(n * 4)).await;
        let end = Instant::now() + PATIENCE;
        while let Answer::Refused { reason } = link.order(Order::Cancel { task: task.clone() }).await.unwrap() {
            // The room may not have been told of it, or somebody may just be taking it.
            assert!(Instant::now() < end, "{task}: {reason}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let result = stage.result(&task.to_string()).await;
        assert_eq!(result["state"], "cancelled", "{n}: {result:#}");
        assert_eq!(stage.scripts(), [0; 0]);
    }
    drop(link);
    stage.close().await;
}

#[tokio::test]
async fn a_task_that_takes_too_long_is_ended_and_says_how_long_it_had() {
    let stage = Stage::open().await;
    stage.submit("fabien/slow", &["--print", "slowly", "--sleep", "3600"], &["--timeout", "1s"]);
    let result = stage.result("fabien/slow").await;
    assert_eq!(stage.scripts(), [0; 0]);
    assert_ended(&result, "timed_out", 2);
    assert!(result["errors"][0]["message"].as_str().unwrap().contains("1 s"), "{result:#}");
    stage.close().await;
}

#[tokio::test]
async fn a_retry_keeps_the_former_result_and_may_bring_another_text() {
    let stage = Stage::open().await;
    stage.submit("marie/again", &["--exit", "1"], &[]);
    assert_ended(&stage.result("marie/again").await, "dead", 2);
    fs::remove_file(stage.path.join("steps/again")).unwrap();
    stage.run(&["retry", "marie/again", "--text", "The better text."]).exits(0);
    stage.run(&["wait", "marie/again", "--timeout", "30s"]).exits(0);
    let result = stage.result("marie/again").await;
    assert_eq!((&result["state"], &result["status"]), (&json!("done"), &json!("complete")), "{result:#}");
    assert!(result["summary"].as_str().unwrap().contains("The better text."), "{result:#}");
    let kept: Vec<PathBuf> =
        fs::read_dir(stage.path.join("results/marie/.superseded")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let kept: Value = serde_json::from_slice(&fs::read(&kept[0]).unwrap()).unwrap();
    assert_ended(&kept, "dead", 2);
    stage.close().await;
}

#[tokio::test]
async fn a_retry_on_another_agent_is_its_own_task_and_brings_back_what_was_skipped() {
    let stage = Stage::open().await;
    stage.submit("marie/moved", &["--exit", "1"], &[]);
    stage.submit("fabien/after", &[], &["--after", "marie/moved"]);
    assert_ended(&stage.result("fabien/after").await, "skipped", 0);
    let refused = stage.run(&["retry", "moved", "--resume"]).exits(3);
    assert!(refused.err.contains("marie's engine (command) cannot take up a session"), "{refused:?}");
    fs::remove_file(stage.path.join("steps/moved")).unwrap();
    let sent = stage.run(&["retry", "moved", "--agent", "anga", "--priority", "high"]).exits(0);
    assert!(sent.out.contains("anga/moved starts instead of marie/moved, and 1"), "{sent:?}");
    stage.run(&["wait", "anga/moved", "fabien/after", "--timeout", "30s"]).exits(0);
    assert_ended(&stage.result("anga/moved").await, "done", 1);
    assert_ended(&stage.result("marie/moved").await, "dead", 2);
    let shown = stage.run(&["show", "marie/moved", "--json"]).exits(0).json();
    assert_eq!(shown["retried_as"], "anga/moved");
    let status = stage.status();
    assert_eq!((&status["needs_you"], &status["dead"]), (&json!([]), &json!(["marie/moved"])), "{status:#}");
    stage.close().await;
}

#[tokio::test]
async fn dead_letters_start_again_and_what_was_removed_comes_back() {
    let stage = Stage::open().await;
    stage.submit("marie/one", &["--exit", "1"], &[]);
    stage.submit("anga/two", &["--exit", "1"], &[]);
    for task in ["marie/one", "anga/two"] {
        assert_ended(&stage.result(task).await, "dead", 2);
    }
    stage.run(&["wait", "marie/one", "anga/two", "--timeout", "30s"]).exits(1);
    stage.run(&["remove", "marie/one"]).exits(0);
    let status = stage.status();
    assert_eq!((&status["dead"], &status["trash"][0]["id"]), (&json!(["anga/two"]), &json!("marie/one")), "{status:#}");
    assert!(!stage.path.join("results/marie/one.json").exists(), "its result goes with it");
    stage.run(&["restore", "one"]).exits(0);
    assert_ended(&stage.result("marie/one").await, "dead", 2);
    stage.run(&["restore", "one"]).exits(2);

    for id in ["one", "two"] {
        fs::remove_file(stage.path.join("steps").join(id)).unwrap();
    }
    stage.run(&["retry", "--dead", "marie"]).exits(0);
    stage.run(&["wait", "marie/one", "--timeout", "30s"]).exits(0);
    assert_eq!(stage.status()["dead"], json!(["anga/two"]));
    stage.run(&["retry", "--dead"]).exits(0);
    stage.run(&["wait", "anga/two", "--timeout", "30s"]).exits(0);
    assert!(stage.run(&["retry", "--dead"]).exits(0).out.contains("there are no dead letters"));
    stage.close().await;
}

#[tokio::test]
async fn a_retry_without_a_room_is_noted_and_the_next_room_does_it() {
    let mut stage = Stage::open().await;
    stage.submit("marie/noted", &["--exit", "1"], &[]);
    assert_ended(&stage.result("marie/noted").await, "dead", 2);
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    fs::remove_file(stage.path.join("steps/noted")).unwrap();
    assert!(stage.run(&["retry", "noted"]).exits(0).out.contains("marie/noted: noted; the next room does it"));
    stage.run(&["retry", "nothing"]).exits(2);
    stage.run(&["retry", "noted", "--text", "Other."]).exits(4);
    stage.serve().await;
    let task = "marie/noted".parse().unwrap();
    let done =
        |state: &State| state.tasks.get(&task)?.record.outcome.as_ref().filter(|o| o.ending == Ending::Done).map(drop);
    stage.until("the retry to be done", done).await;
    let markers = fs::read_dir(stage.path.join("tasks/marie/.requests")).unwrap().count();
    assert_eq!(markers, 0, "the marker is taken away");
    stage.close().await;
}

#[tokio::test]
async fn a_paused_agent_starts_nothing_until_it_is_resumed_whatever_happens_to_the_room() {
    let mut stage = Stage::open().await;
    stage.run(&["pause", "anga"]).exits(0);
    stage.submit("anga/kept", &[], &[]);
    stage.crash();
    stage.serve().await;
    // Others work on meanwhile, so that there was time enough to start it.
    for n in 0..3 {
        let task = format!("marie/other-{n}");
        stage.submit(&task, &[], &[]);
        stage.result(&task).await;
    }
    let status = stage.status();
    let agent = status["agents"].as_array().unwrap().iter().find(|a| a["name"] == "anga").unwrap();
    assert_eq!((&agent["state"], &agent["paused"]), (&json!("paused"), &json!(true)), "{agent:#}");
    let kept = stage.run(&["show", "anga/kept", "--json"]).exits(0).json();
    assert_eq!((&kept["state"], &kept["attempt"]), (&json!("ready"), &json!(0)), "{kept:#}");
    assert!(kept["why"].as_str().unwrap().contains("paused"), "{kept:#}");
    stage.run(&["resume", "anga"]).exits(0);
    assert_ended(&stage.result("anga/kept").await, "done", 1);
    assert!(stage.run(&["pause", "anag"]).exits(2).err.contains("did you mean anga"));
    stage.close().await;
}

#[tokio::test]
async fn a_stop_ends_what_runs_and_the_next_room_takes_it_up() {
    let mut stage = Stage::open().await;
    let gate = stage.gate();
    let steps = ["--ignore-term", "--fork-setsid", "--print", "on", "--wait-for", gate.to_str().unwrap()];
    stage.submit("marie/ended", &steps, &[]);
    stage.some_scripts(2).await;
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    assert!(!stage.path.join("results/marie/ended.json").exists());
    assert!(stage.run(&["stop"]).exits(0).err.contains("no room"));

    stage.open_gate();
    stage.serve().await;
    assert_ended(&stage.result("marie/ended").await, "done", 2);
    stage.close().await;
}

#[tokio::test]
async fn one_agent_is_drained_and_started_and_stays_stopped_whatever_happens_to_the_room() {
    let mut stage = Stage::scripted(COMMANDS);
    stage.serve().await;
    stage.steps("slow", &["--sleep", "3", "--echo-stdin"]);
    stage.run(&["submit", "--agent", "marie", "--id", "slow", "Slowly."]).exits(0);
    stage.until("it runs", |s| (s.agents.running() == 1).then_some(())).await;
    stage.run(&["stop", "marie", "--drain"]).exits(0);
    stage.run(&["submit", "--agent", "marie", "--id", "next", "Next."]).exits(0);
    assert_ended(&stage.result("marie/slow").await, "done", 1);
    let word = |s: &State| s.word(s.agents.get(&"marie".parse().unwrap()).unwrap());
    stage.until("its worker has left", |s| (word(s) == "stopped").then_some(())).await;
    assert_eq!(stage.status()["agents"][0]["state"], "stopped");
    // A word that holds: the next room starts no worker for it either.
    stage.run(&["stop"]).exits(0);
    stage.serve().await;
    stage.run(&["submit", "--agent", "anga", "--id", "other", "Other."]).exits(0);
    assert_ended(&stage.result("anga/other").await, "done", 1);
    assert_eq!(stage.status()["agents"][0]["state"], "stopped");
    let why = stage.run(&["show", "marie/next"]).exits(0).out;
    assert!(why.contains("marie is stopped: a person stopped it"), "{why}");
    stage.run(&["start", "marie"]).exits(0);
    assert_ended(&stage.result("marie/next").await, "done", 1);
    let refused = stage.run(&["start", "marie"]).exits(3);
    assert!(refused.err.contains("was not stopped"), "{refused:#?}");
    // At once: what runs is taken up again, and the attempt that was cut off does not count.
    stage.steps("cut", &["--sleep", "30", "--echo-stdin"]);
    stage.run(&["submit", "--agent", "marie", "--id", "cut", "Slowly."]).exits(0);
    stage.until("it runs", |s| (s.agents.running() == 1).then_some(())).await;
    stage.run(&["stop", "marie"]).exits(0);
    stage.until("its worker has left", |s| (word(s) == "stopped").then_some(())).await;
    stage.steps("cut", &["--echo-stdin"]);
    stage.run(&["start", "marie"]).exits(0);
    let result = stage.result("marie/cut").await;
    assert_eq!(result["state"], "done", "{result:#}");
    stage.close().await;
}

#[tokio::test]
async fn a_drained_room_ends_what_runs_in_peace_and_starts_nothing_more() {
    let mut stage = Stage::open().await;
    let gate = stage.gate();
    stage.submit("anga/last", &["--wait-for", gate.to_str().unwrap(), "--print", "finished"], &[]);
    stage.submit("anga/never", &[], &[]);
    stage.child("anga/last").await;
    let mut stop = stage.command(&["stop", "--drain"]).spawn().unwrap();
    stage.until("the room to leave", |s| (s.leaving == podium::room::Leaving::Draining).then_some(())).await;
    let late = stage.run(&["submit", "--agent", "marie", "too late"]).exits(3);
    assert!(late.err.contains("closing"), "{late:#?}");
    assert!(stop.try_wait().unwrap().is_none());
    stage.open_gate();
    let status = eventually("the stop to end", || stop.try_wait().unwrap()).await;
    assert!(status.success(), "{status}");
    stage.left().await;
    assert_ended(&stage.result("anga/last").await, "done", 1);
    assert!(!stage.path.join("results/anga/never.json").exists());
}

#[tokio::test]
async fn a_room_that_is_told_to_end_by_a_signal_leaves_in_order() {
    let mut stage = Stage::scripted(COMMANDS);
    let room = stage.serve().await;
    stage.submit("fabien/busy", &["--print", "on", "--sleep", "3600"], &[]);
    stage.child("fabien/busy").await;
    kill_process(Pid::from_raw(room).unwrap(), Signal::TERM).unwrap();
    stage.left().await;
}

#[tokio::test]
async fn a_headless_rehearsal_prints_its_report_and_leaves_nothing_but_the_stage() {
    let mut stage = Stage::bare("");
    stage.path = stage.path.with_file_name("rehearsed");
    let ran = stage
        .outside(&["rehearse", "--headless", "--pace", "0", "--keep", stage.path.to_str().unwrap()])
        // One task of the sample goal fails, on purpose.
        .exits(1);
    let report = fs::read_to_string(stage.path.join("results/goals/g1.md")).unwrap();
    assert!(report.contains("**Partial: 1 of"), "{report}");
    assert_eq!(ran.out.trim(), report.trim());
    assert!(ran.err.contains("g1 partial"), "{ran:#?}");
    stage.left().await;

    let mut agents: Vec<String> = Vec::new();
    for agent in ["marie", "anga", "fabien"] {
        let results = fs::read_dir(stage.path.join("results").join(agent)).unwrap().flatten();
        agents.extend(results.filter(|e| e.path().is_file()).map(|_| agent.to_owned()));
    }
    assert_eq!(agents.len(), 9, "{agents:?}");
    agents.dedup();
    assert_eq!(agents.len(), 3, "{agents:?}");

    // The stage that was left is one like any other, and the same words play the same way.
    let mut toml = OpenOptions::new().append(true).open(stage.path.join("podium.toml")).unwrap();
    toml.write_all(b"[rehearsal]\npace = 0\n").unwrap();
    stage.serve().await;
    let shown = stage.run(&["show", "g1", "--json"]).exits(0).json();
    assert_eq!(shown["state"], "partial", "{shown:#}");
    assert!(shown["note"].as_str().unwrap().contains("8 of 9 tasks done"), "{shown:#}");
    let second = stage.run(&["rehearse", "--headless", "--pace", "0", "--keep", "."]).exits(1);
    assert!(second.err.contains("g2 partial"), "{second:#?}");
    stage.left().await;
}

/// A room whose model calls go to the stand-in, without pauses.
const REHEARSAL: &str = "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n";

const GOAL: &str = "Write a welcome letter for new students and check the sign-up page.";

#[tokio::test]
async fn a_goal_is_run_waited_for_shown_and_looked_up_by_verbs() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;

    let planned = stage.run(&["run", "--approve", "never", GOAL]).exits(0);
    assert!(!planned.out.trim().is_empty(), "{planned:#?}");
    assert_eq!(stage.run(&["show", "g1", "--json"]).exits(0).json()["state"], "planned");
    assert_eq!(fs::read_dir(stage.path.join("results/goals")).unwrap().count(), 0);

    let ran = stage.run(&["run", "--approve", "auto", GOAL]).exits(0);
    let report = fs::read_to_string(stage.path.join("results/goals/g2.md")).unwrap();
    assert_eq!(ran.out.trim(), report.trim());
    let shown = stage.run(&["show", "g2", "--json"]).exits(0).json();
    assert_eq!(shown["state"], "done", "{shown:#}");
    let task = shown["tasks"][0].as_str().unwrap().to_owned();
    assert!(shown["spent"]["cost_usd"].as_f64().unwrap() > 0.0, "{shown:#}");
    let detail = stage.run(&["show", &task, "--json"]).exits(0).json();
    assert_eq!((&detail["state"], &detail["goal_id"]), (&json!("done"), &json!("g2")), "{detail:#}");

    let all = stage.run(&["logs", "--task", &task]).exits(0);
    let some = stage.run(&["logs", "--task", &task, "--grep", "(?i)rehears"]).exits(0);
    assert!(!some.out.is_empty() && some.out.len() <= all.out.len(), "{all:#?} {some:#?}");
    assert!(some.out.lines().all(|l| l.to_lowercase().contains("rehears")), "{some:#?}");
    assert!(stage.run(&["logs", "--grep", "("]).exits(2).err.contains("regular expression"));

    // Nobody works, so nothing ends in the time given; and then it does.
    for agent in ["marie", "anga", "fabien"] {
        stage.run(&["pause", agent]).exits(0);
    }
    stage.run(&["run", "--approve", "auto", "--timeout", "300ms", GOAL]).exits(124);
    stage.run(&["wait", "g3", "--timeout", "300ms"]).exits(124);
    for agent in ["marie", "anga", "fabien"] {
        stage.run(&["resume", agent]).exits(0);
    }
    assert!(stage.run(&["wait", "g3", "--timeout", "30s"]).exits(0).out.contains("g3 done"));

    let detached = stage.run(&["run", "--detach", "--approve", "ask", GOAL]).exits(0);
    assert_eq!(detached.out.trim(), "g4");
    let goal = "g4".parse().unwrap();
    stage.until("the plan", |s| s.goals.get(&goal)?.needs_approval().then_some(())).await;
    stage.run(&["approve", "g4"]).exits(0);
    stage.run(&["wait", "g4", "--timeout", "30s"]).exits(0);
    stage.run(&["approve", "g4"]).exits(3);

    stage.run(&["run", "--detach", "--approve", "ask", GOAL]).exits(0);
    let goal = "g5".parse().unwrap();
    stage.until("the plan", |s| s.goals.get(&goal)?.needs_approval().then_some(())).await;
    stage.run(&["deny", "g5"]).exits(0);
    stage.run(&["wait", "g5", "--timeout", "30s"]).exits(1);
    assert!(!stage.path.join("results/goals/g5.md").exists());

    assert!(stage.run(&["show", "g77"]).exits(2).err.contains("g77"));
    assert!(stage.run(&["run", " "]).exits(2).err.contains("empty"));
    stage.run(&["submit", "--agent", "mari", "x"]).exits(2);
    stage.run(&["submit", "--agent", "marie", "--id", "../x", "x"]).exits(2);
    stage.close().await;
}

#[tokio::test]
async fn a_goal_comes_through_a_killed_room_to_its_report() {
    let mut stage = Stage::scripted(REHEARSAL);
    stage.serve().await;
    let gate = stage.gate();
    let tasks = ["marie/g1-write-welcome-letter", "anga/g1-check-sign-up"];
    for task in tasks {
        stage.steps(task.split_once('/').unwrap().1, &["--wait-for", gate.to_str().unwrap(), "--print", "It is done."]);
    }
    stage.run(&["run", "--detach", "--approve", "auto", GOAL]).exits(0);
    for task in tasks {
        stage.child(task).await;
    }
    stage.crash();
    // All of it ends while there is no room; the next one has to see that the report is due.
    stage.open_gate();
    for task in tasks {
        assert_ended(&stage.result(task).await, "done", 1);
    }
    stage.serve().await;
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    assert!(fs::read_to_string(stage.path.join("results/goals/g1.md")).unwrap().contains("welcome letter"));

    // What was decided is known to every later room, killed or not.
    stage.crash();
    stage.serve().await;
    let shown = stage.run(&["show", "g1", "--json"]).exits(0).json();
    assert_eq!(shown["state"], "done", "{shown:#}");
    stage.close().await;
}

#[tokio::test]
async fn without_key_and_cli_the_room_opens_and_says_what_to_do() {
    let mut stage = Stage::bare("");
    stage.serve().await;
    let status = stage.status();
    for agent in status["agents"].as_array().unwrap() {
        assert_eq!(agent["state"], "not_ready", "{agent:#}");
        assert!(agent["trouble"].as_str().unwrap().contains("--rehearse"), "{agent:#}");
    }
    let doctor = stage.run(&["doctor", "--json"]).exits(1).json();
    assert_eq!(doctor["ready"], false);
    let checks = doctor["checks"].as_array().unwrap();
    let marie = checks.iter().find(|c| c["name"] == "marie").unwrap();
    assert_eq!(marie["level"], "fail", "{marie:#}");
    assert!(marie["remedy"].as_str().unwrap().contains("MARIE_API_KEY"), "{marie:#}");
    let refused = stage.run(&["run", GOAL]).exits(3);
    assert!(refused.err.contains("ANTHROPIC_API_KEY") && refused.err.contains("--rehearse"), "{refused:#?}");
    // A task is kept until somebody can do it.
    stage.submit("marie/kept", &[], &[]);
    let kept = stage.run(&["show", "marie/kept", "--json"]).exits(0).json();
    assert!(kept["why"].as_str().unwrap().contains("not ready"), "{kept:#}");
    stage.close().await;
}

#[tokio::test]
async fn a_malformed_configuration_starts_nothing() {
    let stage = Stage::bare("[room]\nmax_runing = 3\n");
    for args in [&["serve"][..], &["serve", "--detach"], &["run", "x"], &["worker", "marie"]] {
        let ran = stage.run(args).exits(2);
        assert!(ran.err.contains("podium.toml:2:1"), "{ran:#?}");
        assert!(ran.err.contains("max_runing") && ran.err.contains("max_running"), "{ran:#?}");
    }
    assert_eq!(stage.processes(), []);
    assert!(!stage.path.join(".podium").exists() && !stage.path.join("tasks").exists(), "{}", stage.listing());
}

/// What must never be found anywhere but in the room.
const KEY: &str = "sk-ant-api03-this-is-no-key-0123456789abcdefghijklmnopqrstuvwxyz-AA";

/// The processes of this stage that know the key; the room is two, the caller's verbs are others.
fn who_knows_the_key(stage: &Stage) -> Vec<String> {
    let holds = |bytes: Vec<u8>| bytes.windows(KEY.len()).any(|w| w == KEY.as_bytes());
    let knows = |pid: i32, file: &str| fs::read(format!("/proc/{pid}/{file}")).is_ok_and(holds);
    let found = stage.processes().into_iter().filter(|(pid, _)| knows(*pid, "environ") || knows(*pid, "cmdline"));
    found.map(|(_, words)| words).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_real_clis_work_at_once_and_never_see_the_key() {
    let Some(cli) = cli() else { return };
    let listen = "127.0.0.1:0".parse().unwrap();
    let api = StandIn::start(rehearsal::Settings { seed: 1, pace: 0.0, listen, clock: clock() }).await.unwrap();
    let mut stage = Stage::bare(&format!("[upstream]\nurl = \"{}\"\n", api.url()));
    stage.env.insert("CLAUDE_COMMAND".to_owned(), cli);
    stage.env.insert("ANTHROPIC_API_KEY".to_owned(), KEY.into());
    // Everything is there before the room, so that all three begin together.
    for (task, text) in [
        ("marie/tool", "Plan a junior class. [[rehearse:tool]]"),
        ("anga/helpers", "Look at the sign-up page. [[rehearse:subagent]]"),
        ("fabien/limited", "Write the newsletter. [[rehearse:429]]"),
        ("marie/endless", "Plan a senior class. [[rehearse:hang]]"),
        ("anga/refused", "Look at the old page. [[rehearse:refuse]]"),
    ] {
        let (agent, id) = task.split_once('/').unwrap();
        let inbox = stage.path.join("tasks").join(agent);
        fs::create_dir_all(&inbox).unwrap();
        let after: &[&str] = match task {
            "marie/endless" => &["marie/tool"],
            "anga/refused" => &["anga/helpers"],
            _ => &[],
        };
        let task = json!({"description": text, "dependencies": after});
        fs::write(inbox.join(format!("{id}.json")), task.to_string()).unwrap();
    }
    stage.serve().await;
    stage.env.remove("ANTHROPIC_API_KEY");
    let engines = stage.status();
    for agent in engines["agents"].as_array().unwrap() {
        assert_eq!(agent["engine"], "claude", "{agent:#}");
    }

    stage
        .until("three children at once", |s| {
            let pids = s.agents.iter().filter_map(|a| a.slots.first()?.held.as_ref()?.pid).count();
            (pids == 3).then_some(())
        })
        .await;
    let room = who_knows_the_key(&stage);
    // The guardian keeps it for the next core.
    assert!(room.len() == 2 && room.iter().all(|words| words.contains(" serve")), "{room:#?}");
    for (task, sign) in [("marie/tool", ""), ("anga/helpers", ""), ("fabien/limited", "429")] {
        let result = stage.result(task).await;
        assert_ended(&result, "done", 1);
        assert!(result["usage"]["output_tokens"].as_u64().unwrap() > 0, "{result:#}");
        assert!(result["session_id"].is_string() && result["model"].is_string(), "{result:#}");
        let log = stage.run(&["logs", "--task", task, "--json"]).exits(0);
        assert!(log.out.contains(sign), "{}", log.out);
        let lines: Vec<Value> = log.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let kind = |kind: &str| lines.iter().any(|l| l["kind"] == kind);
        match task {
            "marie/tool" => assert!(kind("tool"), "{}", log.out),
            "anga/helpers" => assert!(kind("agent") && lines.iter().any(|l| l["depth"] == 1), "{}", log.out),
            _ => {}
        }
    }
    let refused = stage.result("anga/refused").await;
    assert_ended(&refused, "failed", 1);
    assert_eq!(refused["errors"][0]["class"], "refused", "{refused:#}");

    let (child, _) = stage.child("marie/endless").await;
    let task: TaskRef = "marie/endless".parse().unwrap();
    stage
        .until("the model to be in mid-stream", |s| {
            let doing = &s.agents.holder(&task)?.held.as_ref()?.activity.doing;
            ["waits for the model", "thinking", "writes"].contains(&doing.as_str()).then_some(())
        })
        .await;
    assert_eq!(who_knows_the_key(&stage).len(), 2);
    stage.run(&["cancel", "marie/endless"]).exits(0);
    let cancelled = stage.result("marie/endless").await;
    assert!(!is_alive(child));
    assert_ended(&cancelled, "cancelled", 1);

    // Every call went through the gateway and was counted there, for the agent that made it.
    let money = stage.status()["money"].clone();
    for agent in ["marie", "anga", "fabien"] {
        assert!(money["agents"][agent]["output_tokens"].as_u64().unwrap() > 0, "{money:#}");
    }
    let workers: Vec<_> = stage.processes();
    assert!(workers.iter().filter(|(_, words)| words.contains(" worker ")).count() == 3, "{workers:#?}");
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    let found = files_with(KEY, stage.root.path());
    assert!(found.is_empty(), "{found:#?}");
    drop(api);
}

#[tokio::test]
async fn escape_sequences_of_an_agent_are_harmless_wherever_they_are_shown() {
    let stage = Stage::open().await;
    let words = "\u{1b}]0;owned\u{7}\u{1b}[2Jclear\u{9b}31m \u{202e}sdrawkcab";
    stage.submit("marie/loud", &["--err", words, "--print", words], &[]);
    stage.submit("anga/worse", &["--err", words, "--exit", "4"], &["--after", "marie/loud"]);
    stage.result("anga/worse").await;
    let wild = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    for args in [
        &["show", "marie/loud"][..],
        &["show", "anga/worse"],
        &["status"],
        &["logs"],
        &["logs", "--json"],
        &["status", "--json"],
        &["wait", "marie/loud"],
    ] {
        let ran = stage.run(args).exits(0);
        assert!(!ran.out.contains(wild) && !ran.err.contains(wild), "{args:?}: {ran:#?}");
        assert!(args[0] == "wait" || ran.out.contains("clear"), "{args:?}: {ran:#?}");
    }
    for task in ["marie/loud", "anga/worse"] {
        let text = fs::read_to_string(stage.path.join(format!("results/{task}.json"))).unwrap();
        assert!(!text.contains(wild) && !text.contains("\\u001b"), "{text}");
    }
    stage.close().await;
}
