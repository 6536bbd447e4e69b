//! What is left when something is killed: nothing that works unseen, and no work lost. Real rooms, real workers, and
//! agents with bad manners, told by the numbers that they write down themselves and not by anything of podium's.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[expect(dead_code, reason = "tests/room.rs uses the rest")]
mod common;

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use podium::{
    engines::tree::{self, Process},
    model::{TaskRef, id::stage_id},
    room::{self, Answer, Order},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use common::{COMMANDS, PODIUM, Stage, assert_ended, eventually, is_alive, kill};

/// What ends at once without a room, and is tried as often as it takes.
const AT_ONCE: &str = "[room]\norphan_grace = \"0s\"\n[retry]\nattempts = 9\nbackoff = [\"10ms\"]\n";

/// The three manners, each with an agent of its own, and how many processes it is.
const MANNERS: [(&str, &[&str], usize); 3] = [
    ("marie/plain", &[], 1),
    ("anga/deaf", &["--ignore-term"], 1),
    ("fabien/runaway", &["--ignore-term", "--fork-setsid"], 2),
];

/// The processes that have noted themselves: word, task, attempt, process, start.
fn noted(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.split(' ').nth(3)?.parse().ok()).collect()
}

/// A stage on which all three manners are at work.
struct Scene {
    stage: Stage,
    room: i32,
    /// Everything that the agents have started, by their own account.
    noted: Vec<Process>,
}

impl Scene {
    async fn open(toml: &str) -> Self {
        let mut stage = Stage::scripted(toml);
        let room = stage.serve().await;
        let gate = stage.gate();
        for (task, manners, _) in MANNERS {
            let notes = stage.path.join("notes");
            let mut steps = vec!["--notes", notes.to_str().unwrap(), "--note", "here"];
            steps.extend(manners);
            steps.extend(["--print", "on", "--wait-for", gate.to_str().unwrap(), "--print", "well done"]);
            stage.submit(task, &steps, &[]);
        }
        let mut scene = Self { stage, room, noted: Vec::new() };
        for (task, ..) in MANNERS {
            scene.stage.child(task).await;
        }
        scene.noted = scene.all_noted(MANNERS.iter().map(|(.., count)| count).sum()).await;
        scene
    }

    /// Waits until so many processes have noted themselves.
    async fn all_noted(&self, count: usize) -> Vec<Process> {
        let notes = self.stage.path.join("notes");
        eventually("the agents to be at work", || {
            let text = fs::read_to_string(&notes).ok()?;
            let found: Vec<Process> = noted(&text).into_iter().filter_map(tree::process).collect();
            (text.lines().count() >= count).then_some(found)
        })
        .await
    }

    /// Those that were at work at the beginning and still are.
    fn survivors(&self) -> Vec<Process> {
        let is_it = |p: &&Process| tree::process(p.pid).is_some_and(|now| now.start == p.start && !now.zombie);
        self.noted.iter().filter(is_it).copied().collect()
    }

    async fn no_survivors(&self) {
        eventually("everything that was at work to be gone", || self.survivors().is_empty().then_some(())).await;
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.room).unwrap(), signal).unwrap();
    }

    /// Kills the core and waits for the next one; tells how long that took.
    async fn kill_core(&self) -> Duration {
        let former = self.stage.core();
        let begun = Instant::now();
        kill(former);
        let room = u32::try_from(self.room).unwrap();
        eventually("the guardian to start the core again", || {
            (self.stage.core() != former && self.stage.answers()).then_some(())
        })
        .await;
        let took = begun.elapsed();
        self.stage.until("the same room", |s| (s.pid == room).then_some(())).await;
        took
    }

    /// Everything has gone with the room, and the next one finishes the work, each task by its second attempt.
    async fn gone_and_taken_up(mut self) {
        self.stage.gone().await;
        assert_eq!(self.survivors(), []);
        for (task, ..) in MANNERS {
            assert!(!self.stage.path.join(format!("results/{task}.json")).exists(), "{task}");
        }
        self.room = self.stage.serve().await;
        self.finished(2).await;
    }

    /// Lets the work end well and sees that each task took so many attempts.
    async fn finished(self, attempts: u64) {
        self.finished_with([attempts; 3]).await;
    }

    /// The same, where they differ.
    async fn finished_with(self, attempts: [u64; 3]) {
        self.stage.open_gate();
        for ((task, ..), attempts) in MANNERS.into_iter().zip(attempts) {
            let result = self.stage.result(task).await;
            assert_ended(&result, "done", attempts);
            assert_eq!(result["summary"], "on\nwell done", "{result:#}");
            assert_eq!(self.stage.attempts(task).len() as u64, attempts, "{task}");
        }
        self.stage.close().await;
    }
}

// The matrix: every manner at once in each row.

#[tokio::test]
async fn nothing_survives_kill_9_of_the_core_and_the_next_core_takes_the_work_up() {
    let scene = Scene::open(AT_ONCE).await;
    scene.kill_core().await;
    scene.no_survivors().await;
    scene.finished(2).await;
}

#[tokio::test]
async fn nothing_survives_kill_9_of_the_guardian() {
    let scene = Scene::open(AT_ONCE).await;
    scene.signal(Signal::KILL);
    scene.gone_and_taken_up().await;
}

#[tokio::test]
async fn nothing_survives_kill_9_of_both_at_once() {
    let mut scene = Scene::open(AT_ONCE).await;
    scene.stage.crash();
    scene.gone_and_taken_up().await;
}

#[tokio::test]
async fn nothing_survives_term() {
    let scene = Scene::open(AT_ONCE).await;
    scene.signal(Signal::TERM);
    scene.gone_and_taken_up().await;
}

#[tokio::test]
async fn nothing_survives_hup() {
    let scene = Scene::open(AT_ONCE).await;
    scene.signal(Signal::HUP);
    scene.gone_and_taken_up().await;
}

#[tokio::test]
async fn nothing_survives_quit() {
    let scene = Scene::open(AT_ONCE).await;
    let mut link = scene.stage.link().await;
    let answer = link.order(Order::Stop { drain: false }).await.unwrap();
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    scene.gone_and_taken_up().await;
}

#[tokio::test]
async fn nothing_survives_podium_stop_not_even_until_it_returns() {
    let scene = Scene::open(AT_ONCE).await;
    scene.stage.run(&["stop"]).exits(0);
    assert_eq!(scene.survivors(), []);
    assert_eq!(scene.stage.processes(), []);
    scene.gone_and_taken_up().await;
}

// Work goes on.

#[tokio::test]
async fn a_killed_core_comes_back_on_its_own_and_the_attempts_never_notice() {
    let scene = Scene::open(COMMANDS).await;
    let workers = [scene.stage.worker("marie").await, scene.stage.worker("anga").await];
    let gateway = || fs::read_to_string(scene.stage.path.join(".podium/room.json")).unwrap();
    let address = |text: &str| text.split("\"gateway\"").nth(1).unwrap().to_owned();
    let before = address(&gateway());
    for _ in 0..3 {
        let took = scene.kill_core().await;
        eprintln!("the core was back after {} ms", took.as_millis());
        for (task, ..) in MANNERS {
            assert_eq!(scene.stage.child(task).await.1, 1, "{task}");
        }
    }
    assert_eq!(address(&gateway()), before);
    assert_eq!([scene.stage.worker("marie").await, scene.stage.worker("anga").await], workers);
    assert_eq!(scene.survivors().len(), scene.noted.len());
    scene.finished(1).await;
}

#[tokio::test]
async fn a_worker_that_was_adopted_leaves_nothing_behind_when_it_is_killed_too() {
    let scene = Scene::open(COMMANDS).await;
    scene.kill_core().await;
    let worker = scene.stage.worker("fabien").await;
    kill(worker);
    let agent = "fabien".parse().unwrap();
    scene
        .stage
        .until("the worker's end to be told", |s| {
            let slot = s.agents.get(&agent)?.slots.first()?;
            (slot.pid() != u32::try_from(worker).ok()).then_some(())
        })
        .await;
    // Only its own are gone, and they were gone before anybody was told.
    assert_eq!(scene.survivors().len(), 2);
    scene.finished_with([1, 1, 2]).await;
}

#[tokio::test]
async fn a_grandchild_without_environment_does_not_outlive_worker_and_core() {
    let scene = Scene::open(COMMANDS).await;
    // The core cannot do anything about its worker's end any more.
    let core = Pid::from_raw(scene.stage.core()).unwrap();
    let workers =
        [scene.stage.worker("marie").await, scene.stage.worker("anga").await, scene.stage.worker("fabien").await];
    kill_process(core, Signal::STOP).unwrap();
    for worker in workers {
        kill(worker);
    }
    eventually("the children to go with their workers", || (scene.survivors().len() == 1).then_some(())).await;
    scene.kill_core().await;
    scene.no_survivors().await;
    scene.finished(2).await;
}

#[tokio::test]
async fn an_agent_is_said_to_have_stopped_only_when_all_of_its_attempt_is_gone() {
    let scene = Scene::open(COMMANDS).await;
    let agent = "fabien".parse().unwrap();
    kill(scene.stage.worker("fabien").await);
    scene
        .stage
        .until("the row to change", |s| {
            let slot = s.agents.get(&agent)?.slots.first()?;
            matches!(slot.process, room::Process::Backoff { .. }).then_some(())
        })
        .await;
    assert_eq!(scene.survivors().len(), 2, "{:?}", scene.survivors());
    scene.finished_with([1, 1, 2]).await;
}

/// C34: whoever holds a lock or a lease decides for others; an engine, or what it starts, never does.
#[tokio::test]
async fn c34_what_an_agent_starts_holds_no_lock_and_no_lease() {
    let scene = Scene::open(COMMANDS).await;
    let folder = scene.stage.path.canonicalize().unwrap();
    for process in &scene.noted {
        for entry in fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap() {
            let open = fs::read_link(entry.unwrap().path()).unwrap();
            // Its output goes into its logs; everything else of the stage is the worker's and the room's.
            let ours = open.strip_prefix(&folder).is_ok_and(|within| {
                within.extension().is_none_or(|kind| kind != "log") && !within.starts_with("notes")
            });
            assert!(!ours, "{} holds {}", process.pid, open.display());
        }
    }
    scene.finished(1).await;
}

// The guardian's own judgement.

#[tokio::test]
async fn a_core_that_cannot_start_after_a_death_is_tried_again_until_it_can() {
    let mut stage = Stage::scripted(COMMANDS);
    stage.serve().await;
    let (file, kept) = (stage.path.join("podium.toml"), stage.path.join("kept.toml"));
    fs::copy(&file, &kept).unwrap();
    let core = stage.core();
    // Whole at once: a worker that is just starting would take an empty file for one that says nothing.
    let wrong = stage.path.join("wrong.toml");
    fs::write(&wrong, "[room]\nmax_runing = 3\n").unwrap();
    fs::rename(&wrong, &file).unwrap();
    kill(core);
    eventually("the guardian to say so twice", || {
        let log = fs::read_to_string(stage.root.path().join("room.log")).unwrap();
        (log.matches("the core died and starts again").count() >= 2 && log.contains("exit 2")).then_some(())
    })
    .await;
    // Nobody else may have the stage meanwhile.
    fs::rename(&kept, &file).unwrap();
    let second = stage.run(&["serve"]).exits(3);
    assert!(second.err.contains("open"), "{second:#?}");
    eventually("the core to open", || stage.answers().then_some(())).await;
    stage.submit("marie/again", &[], &[]);
    assert_ended(&stage.result("marie/again").await, "done", 1);
    stage.close().await;
}

#[tokio::test]
async fn a_room_that_cannot_open_at_all_says_why_once_and_leaves() {
    let mut stage = Stage::scripted(COMMANDS);
    // The journal is where nothing can be appended.
    fs::create_dir_all(stage.path.join(".podium/journal.jsonl")).unwrap();
    let ran = stage.run(&["serve"]).exits(1);
    assert_eq!(ran.err.matches("could not open the journal").count(), 1, "{ran:#?}");
    let detached = stage.run(&["serve", "--detach"]).exits(1);
    assert!(detached.err.contains("did not open") && detached.err.contains("journal"), "{detached:#?}");
    stage.gone().await;
}

#[tokio::test]
async fn a_core_that_is_killed_while_it_stops_everything_does_not_come_back() {
    let mut scene = Scene::open(COMMANDS).await;
    let mut link = scene.stage.link().await;
    link.order(Order::Stop { drain: false }).await.unwrap();
    // What is deaf holds the room for two seconds.
    assert!(!scene.survivors().is_empty());
    kill(scene.stage.core());
    let ended = scene.stage.gone().await;
    assert_eq!(ended.iter().map(std::process::ExitStatus::code).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(scene.survivors(), []);
    scene.gone_and_taken_up().await;
}

#[tokio::test]
async fn what_the_guardian_had_started_before_it_was_one_is_left_alone() {
    let mut stage = Stage::scripted(COMMANDS);
    let stranger = stage.path.join("stranger");
    // The shell becomes podium, and its child podium's.
    let script =
        format!("{PODIUM} __script --notes {} --note here --sleep 3600 & exec {PODIUM} serve", stranger.display());
    stage.serve_with(Command::new("sh").args(["-c", &script])).await;
    let pid = eventually("the stranger", || noted(&fs::read_to_string(&stranger).ok()?).first().copied()).await;
    let before = stage.core();
    kill(before);
    eventually("the next core", || (stage.core() != before && stage.answers()).then_some(())).await;
    kill(stage.worker("marie").await);
    stage.submit("marie/next", &[], &[]);
    assert_ended(&stage.result("marie/next").await, "done", 1);
    stage.run(&["stop"]).exits(0);
    assert!(is_alive(pid));
    kill(pid);
    stage.left().await;
}

#[tokio::test]
async fn a_core_is_started_by_its_guardian_only() {
    let mut stage = Stage::scripted(COMMANDS);
    let room = stage.serve().await;
    let ran = stage.run(&["serve", "--core", &room.to_string()]).exits(1);
    assert!(ran.err.contains("use `podium serve`"), "{ran:#?}");
    stage.close().await;
}

// What an earlier room left.

/// A process that stands in for what an attempt left behind: it carries this cookie and hangs from this test.
fn left_behind(cookie: &str) -> Child {
    let mut command = Command::new(PODIUM);
    command.args(["__script", "--setsid", "--ignore-term", "--sleep", "3600"]);
    command.env_clear().env(tree::COOKIE, cookie).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_room_that_opens_ends_what_carries_a_cookie_of_its_stage_and_nothing_else() {
    let mut stage = Stage::scripted(COMMANDS);
    let own = stage_id(&stage.path);
    let mut ours = [left_behind(&format!("{own}:marie/x#1")), left_behind(&format!("{own}:nobody/y#7"))];
    let mut others = [left_behind("another-stage:marie/x#1"), left_behind(&own), left_behind("")];
    stage.serve().await;
    for child in &mut ours {
        let status = eventually("what was left to be ended", || child.try_wait().unwrap()).await;
        assert!(!status.success());
    }
    for child in &mut others {
        assert!(is_alive(i32::try_from(child.id()).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // And never what a living worker is at.
    let task: TaskRef = "anga/busy".parse().unwrap();
    stage.submit("anga/busy", &["--wait-for", stage.gate().to_str().unwrap(), "--print", "never disturbed"], &[]);
    let (child, _) = stage.child("anga/busy").await;
    stage.crash();
    stage.serve().await;
    assert_eq!(stage.child(&task.to_string()).await, (child, 1));
    stage.open_gate();
    assert_ended(&stage.result("anga/busy").await, "done", 1);
    stage.close().await;
}
