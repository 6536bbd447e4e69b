//! The room among programs and people that it does not know: what they drop, what they write as results, what they do
//! to its lock and to the clock.

#![expect(clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[expect(dead_code, reason = "tests/room.rs uses the rest")]
mod common;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use podium::room::Tasks;
use rustix::{
    fs::FlockOperation,
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};

use common::{Stage, assert_ended, eventually, reason_of};

/// One file dropped whole.
fn drop_task(stage: &Stage, task: &str, content: &Value) {
    let path = stage.path.join(format!("tasks/{task}.json"));
    fs::write(path, content.to_string()).unwrap();
}

/// One task as `podium status` has it.
fn task_of(status: &Value, id: &str) -> Option<Value> {
    status["tasks"].as_array().unwrap().iter().find(|t| t["id"] == id).cloned()
}

/// Memory of a process that is in use, in MiB.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// The process that does the room's work, and the one that is the room to the outside.
async fn core(stage: &Stage) -> (i32, u32) {
    let (core, pid) = stage.until("the room", |state| Some((state.core, state.pid))).await;
    (i32::try_from(core).unwrap(), pid)
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn ten_thousand_garbage_files_hold_up_nobody_and_fill_no_screen() {
    const GARBAGE: usize = 10_000;
    let stage = Stage::open().await;
    let before = resident(core(&stage).await.0);
    for i in 0..GARBAGE {
        let garbage = match i % 4 {
            0 => format!("[{i}]"),
            1 => format!("{{\"priority\":{i}00}}"),
            2 => format!("not json {i}"),
            _ => format!("{{\"task_id\":\"../{i}\",\"description\":\"x\"}}"),
        };
        fs::write(stage.path.join(format!("tasks/marie/g{i}.json")), garbage).unwrap();
        if i % 2_000 == 0 {
            for agent in ["marie", "anga", "fabien"] {
                let id = format!("{agent}/good{i}");
                drop_task(&stage, &id, &json!({"description": format!("the text of {id}")}));
            }
        }
    }
    for i in (0..GARBAGE).step_by(2_000) {
        for agent in ["marie", "anga", "fabien"] {
            assert_ended(&stage.result(&format!("{agent}/good{i}")).await, "done", 1);
        }
    }
    stage.until("all garbage to be counted", |state| (state.tasks.rejected_in_all() == GARBAGE).then_some(())).await;
    let status = stage.status();
    assert_eq!(status["rejected_in_all"], GARBAGE);
    assert_eq!(status["rejected"].as_array().unwrap().len(), Tasks::REJECTED);
    let text = stage.run(&["status"]).exits(0).out;
    assert!(text.lines().count() < 80 && text.contains("and 9980 more"), "{text}");
    let lines =
        stage.until("the pane", |state| Some(state.lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>())).await;
    assert!(lines.iter().any(|line| line.contains("10000 files are no tasks")), "{lines:#?}");
    assert!(lines.len() < 100, "{lines:#?}");
    let grown = resident(core(&stage).await.0).saturating_sub(before);
    assert!(grown < 100, "{grown} MiB more for files that are no tasks");
    // Nothing vanished.
    let aside = fs::read_dir(stage.path.join("tasks/marie/rejected")).unwrap();
    let aside = aside.filter(|e| !e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".reason.json"));
    assert_eq!(aside.count(), GARBAGE);
    // Tidied away by a person.
    fs::remove_dir_all(stage.path.join("tasks/marie/rejected")).unwrap();
    stage.until("none to be left", |state| (state.tasks.rejected_in_all() == 0).then_some(())).await;
    stage.close().await;
}

#[tokio::test]
async fn a_task_file_that_changes_while_it_is_claimed_runs_whole() {
    let stage = Stage::open().await;
    for round in 0..3 {
        let id = format!("changing{round}");
        let path = stage.path.join(format!("tasks/marie/{id}.json"));
        let result = stage.path.join(format!("results/marie/{id}.json"));
        // In place, as `open(path, "w")` does, until the task has ended.
        for n in 0.. {
            if result.exists() {
                break;
            }
            let whole = json!({"task_id": id, "description": format!("version{n} ").repeat(400)}).to_string();
            let (head, tail) = whole.split_at(whole.len() / 2);
            let aside = stage.path.join(format!("tasks/marie/rejected/{id}.json"));
            // Set aside as it was, because it was never the same for long enough: whoever wrote it writes it again.
            if n > 0 && !path.exists() && fs::remove_file(&aside).is_err() {
                // It has been taken; whoever writes on, writes to a file of that name again.
                tokio::task::yield_now().await;
                continue;
            }
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(head.as_bytes()).unwrap();
            tokio::task::yield_now().await;
            file.write_all(tail.as_bytes()).unwrap();
            drop(file);
            tokio::time::sleep(Duration::from_millis(n % 7)).await;
        }
        let result = stage.result(&format!("marie/{id}")).await;
        assert_ended(&result, "done", 1);
        let said = result["summary"].as_str().unwrap();
        let versions: std::collections::BTreeSet<&str> =
            said.split_whitespace().filter(|word| word.starts_with("version") && word.is_ascii()).collect();
        assert_eq!(versions.len(), 1, "{said}");
        assert_eq!(stage.attempts(&format!("marie/{id}")), ["1"]);
    }
    stage.close().await;
}

#[tokio::test]
async fn a_result_put_there_by_somebody_else_counts_once_whenever_it_comes() {
    let stage = Stage::open().await;
    let write = |task: &str, text: &str| {
        let result = json!({"task_id": task.split('/').nth(1).unwrap(), "status": "complete", "summary": text});
        fs::write(stage.path.join(format!("results/{task}.json")), result.to_string()).unwrap();
    };
    // Before the task was there at all: the id is taken, and the file is told so.
    write("marie/early", "theirs");
    stage.until("their result", |s| s.tasks.get(&"marie/early".parse().unwrap())?.record.outcome.clone()).await;
    drop_task(&stage, "marie/early", &json!({"description": "x"}));
    let reason = eventually("early", || reason_of(&stage.status(), "rejected/early.json")).await;
    assert_eq!(reason, "results/marie/early.json exists. Use a new id or ask for a retry.");

    // Before its attempt: it never starts.
    stage.run(&["pause", "marie"]).exits(0);
    stage.submit("marie/before", &[], &[]);
    stage.submit("anga/after-it", &[], &["--after", "marie/before"]);
    write("marie/before", "theirs");
    assert_ended(&stage.result("anga/after-it").await, "done", 1);
    stage.run(&["resume", "marie"]).exits(0);
    let before = task_of(&stage.status(), "marie/before").unwrap();
    assert_eq!((&before["state"], &before["attempt"]), (&json!("done"), &json!(0)), "{before:#}");

    // During its attempt: the attempt ends, and theirs stays.
    let gate = stage.gate();
    stage.submit("marie/during", &["--wait-for", gate.to_str().unwrap(), "--print", "ours"], &[]);
    stage.child("marie/during").await;
    write("marie/during", "theirs");
    stage
        .until("their result to be believed", |s| s.tasks.get(&"marie/during".parse().unwrap())?.record.outcome.clone())
        .await;
    stage.open_gate();
    stage.submit("marie/next", &[], &[]);
    assert_ended(&stage.result("marie/next").await, "done", 1);
    assert_eq!(stage.result("marie/during").await["summary"], "theirs");
    assert_eq!(stage.attempts("marie/during"), ["1"]);
    let theirs = eventually("their result on screen", || {
        task_of(&stage.status(), "marie/during").filter(|t| t["why"] == "theirs")
    });
    assert_eq!(theirs.await["state"], "done");

    // After its attempt, under another of the names: ours was there first.
    stage.submit("marie/after", &["--print", "ours"], &[]);
    assert_eq!(stage.result("marie/after").await["summary"], "ours");
    let other = json!({"task_id": "after", "status": "failed", "error": "theirs"}).to_string();
    fs::write(stage.path.join("results/marie/after-result.json"), other).unwrap();
    stage.submit("marie/then", &[], &["--after", "marie/after"]);
    assert_ended(&stage.result("marie/then").await, "done", 1);
    assert_eq!(task_of(&stage.status(), "marie/after").unwrap()["state"], "done");
    stage.close().await;
}

#[tokio::test]
async fn dependencies_that_cannot_be_met_say_so_and_hold_up_nobody() {
    let stage = Stage::open().await;
    // On itself.
    drop_task(&stage, "marie/self", &json!({"description": "x", "dependencies": ["self"]}));
    let reason = eventually("self", || reason_of(&stage.status(), "rejected/self.json")).await;
    assert_eq!(reason, "Cycle: self → self.");
    let refused = stage.run(&["submit", "--agent", "marie", "--id", "ring", "x", "--after", "ring"]).exits(3);
    assert!(refused.err.contains("cycle: ring → ring"), "{refused:#?}");

    // On tasks that nobody has submitted yet; two of them wait for the one that closes the ring.
    drop_task(&stage, "marie/a", &json!({"description": "x", "dependencies": ["anga/b"]}));
    let why = eventually("a", || task_of(&stage.status(), "marie/a").filter(|t| t["state"] == "waiting")).await;
    assert_eq!(why["why"], "waiting for anga/b, which nobody has submitted yet");
    stage.submit("anga/b", &[], &["--after", "fabien/c"]);
    drop_task(&stage, "fabien/c", &json!({"description": "x", "dependencies": ["marie/a"]}));
    let reason = eventually("c", || reason_of(&stage.status(), "rejected/c.json")).await;
    assert_eq!(reason, "Cycle: c → a → b → c.");
    let refused = stage.run(&["submit", "--agent", "fabien", "--id", "c", "x", "--after", "marie/a"]).exits(3);
    assert!(refused.err.contains("cycle: c → a → b → c"), "{refused:#?}");

    // A ring in files that are there before anybody looks is broken at its last file.
    let others = ["marie", "anga", "fabien"];
    for agent in others {
        drop_task(&stage, &format!("{agent}/free"), &json!({"description": "x"}));
        assert_ended(&stage.result(&format!("{agent}/free")).await, "done", 1);
    }
    let waiting = task_of(&stage.status(), "anga/b").unwrap();
    assert_eq!(waiting["why"], "waiting for fabien/c, which nobody has submitted yet");

    // The missing one comes, and all of them run.
    drop_task(&stage, "fabien/c", &json!({"description": "x"}));
    for task in ["fabien/c", "anga/b", "marie/a"] {
        assert_ended(&stage.result(task).await, "done", 1);
    }
    // An agent that nobody has.
    fs::create_dir(stage.path.join("tasks/bob")).unwrap();
    for i in 0..3 {
        drop_task(&stage, &format!("bob/{i}"), &json!({"description": "x"}));
    }
    eventually("bob", || {
        reason_of(&stage.status(), "tasks/bob").filter(|r| r == "3 tasks waiting for 'bob', no such worker")
    })
    .await;
    stage.close().await;
}

#[tokio::test]
async fn f9_a_stopped_room_is_named_by_verbs_and_goes_on_when_it_is_let() {
    let stage = Stage::open().await;
    let gate = stage.gate();
    stage.submit("marie/long", &["--wait-for", gate.to_str().unwrap(), "--print", "well"], &[]);
    stage.child("marie/long").await;
    let (core, pid) = core(&stage).await;
    let mut link = stage.link().await;
    signal(core, Signal::STOP);
    let said = format!("control room {pid} not responding for 15 s");
    let verbs = [&["status"][..], &["submit", "--agent", "marie", "x"], &["wait", "marie/long"], &["stop"]];
    std::thread::scope(|scope| {
        for verb in verbs {
            let (stage, said) = (&stage, &said);
            scope.spawn(move || {
                let ran = stage.run(verb).exits(4);
                assert!(ran.err.contains(said), "{verb:?}: {ran:#?}");
            });
        }
    });
    // So does one that was connected before.
    let silent = loop {
        if let Err(error) = link.next().await {
            break error;
        }
    };
    assert_eq!(silent.to_string(), said);
    assert!(stage.run(&["serve"]).exits(3).err.contains(&pid.to_string()), "no second room beside a stopped one");
    // The work goes on without it, and it is told when it comes back.
    stage.open_gate();
    assert_ended(&stage.result("marie/long").await, "done", 1);
    signal(core, Signal::CONT);
    let done = |status: &Value| task_of(status, "marie/long").is_some_and(|t| t["state"] == "done");
    eventually("the room to see it", || done(&stage.status()).then_some(())).await;
    stage.close().await;
}

#[tokio::test]
async fn f9_a_deleted_lock_is_taken_again_before_anybody_else_has_the_stage() {
    let stage = Stage::open().await;
    let path = stage.path.join(".podium/lock");
    let inode = |path: &Path| fs::metadata(path).map(|meta| meta.ino()).ok();
    let first = inode(&path);
    for _ in 0..2 {
        // Another file of that name, and none at all.
        fs::write(path.with_extension("new"), "").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        fs::remove_file(&path).unwrap();
        eventually("the lock to be there again", || inode(&path)).await;
        stage.run(&["serve"]).exits(3);
    }
    assert_ne!((first, inode(&path)), (None, None));
    stage.submit("marie/a", &[], &[]);
    assert_ended(&stage.result("marie/a").await, "done", 1);
    stage.close().await;
}

#[tokio::test]
async fn f9_a_room_whose_stage_was_taken_leaves_and_says_to_whom() {
    let mut stage = Stage::open().await;
    let mut link = stage.link().await;
    // What a second room does first, once the lock of the first one guards nothing.
    let path = stage.path.join(".podium/lock");
    fs::remove_file(&path).unwrap();
    let lock = fs::File::create(&path).unwrap();
    let taken = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
    if taken.is_err() {
        // The room was quicker; it has its lock again, which the test above is about.
        return stage.close().await;
    }
    let ended: Vec<ExitStatus> = eventually("the room to leave", || Some(stage.reap()).filter(|e| !e.is_empty())).await;
    assert!(ended.iter().all(|status| !status.success()), "{ended:?}");
    while link.next().await.is_ok() {}
    assert!(stage.logs().contains("another room"), "{}", stage.logs());
    drop(lock);
    // The next room finds the workers of the former one and goes on with them.
    stage.serve().await;
    stage.submit("marie/a", &[], &[]);
    assert_ended(&stage.result("marie/a").await, "done", 1);
    stage.close().await;
}

/// The library that tells a process another wall time, or the reason to skip.
fn faketime() -> Option<PathBuf> {
    let found = ["x86_64", "aarch64"].iter().find_map(|arch| {
        let path = PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1"));
        path.exists().then_some(path)
    });
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "libfaketime must be there in CI");
        println!("SKIPPED: there is no libfaketime; apt-get install faketime");
    }
    found
}

/// F7 and G13, from outside: only the room is lied to about the time, its workers are not.
#[tokio::test]
async fn f7_a_room_whose_clock_is_set_loses_nothing_runs_nothing_twice_and_hangs_nowhere() {
    let Some(library) = faketime() else { return };
    let mut stage = Stage::scripted("[retry]\nattempts = 9\nbackoff = [\"2s\"]\n");
    let offset = stage.root.path().join("offset");
    let set = |text: &str| {
        // Whole at once: a room that reads half of it would be told another time.
        fs::write(offset.with_extension("new"), text).unwrap();
        fs::rename(offset.with_extension("new"), &offset).unwrap();
    };
    set("+0");
    for (name, value) in [
        ("LD_PRELOAD", library.as_os_str()),
        ("FAKETIME_TIMESTAMP_FILE", offset.as_os_str()),
        ("FAKETIME_NO_CACHE", "1".as_ref()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
        ("NO_FAKE_STAT", "1".as_ref()),
    ] {
        stage.env.insert(name.to_owned(), value.to_owned());
    }
    stage.serve().await;
    for name in ["LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE"] {
        stage.env.remove(name);
    }
    let told = async |words: &'static str| {
        stage.until(words, |state| state.lines.iter().any(|line| line.text.contains(words)).then_some(())).await;
    };
    // Each task waits for its second attempt while the clock is set.
    for (n, (offset, words)) in
        [("+3h", "forward by 3 h"), ("-3h", "back by 6 h"), ("+0", "forward by 3 h"), ("-490000h", "back by 49")]
            .into_iter()
            .enumerate()
    {
        let id = format!("marie/t{n}");
        stage.submit(&id, &["--fail-below", "2", "--print", "well"], &[]);
        stage
            .until("the wait", |state| {
                let task = state.tasks.get(&id.parse().unwrap())?;
                (task.record.last_attempt() == 1 && task.record.attempts[0].ended_at.is_some()).then_some(())
            })
            .await;
        set(offset);
        told(words).await;
        assert_ended(&stage.result(&id).await, "done", 2);
        assert_eq!(stage.attempts(&id), ["1", "2"]);
    }
    // Killed while it is wrong, so that the next one begins with a wrong clock and old files.
    stage.submit("anga/last", &["--fail-below", "2", "--print", "well"], &[]);
    stage.submit("anga/after", &[], &["--after", "marie/t0", "anga/last"]);
    assert_ended(&stage.result("anga/after").await, "done", 1);
    stage.close().await;
}
