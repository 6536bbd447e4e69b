//! Attempts as real processes: our own binary is the worker's child, with good manners and bad.

#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]
#![expect(clippy::significant_drop_tightening, reason = "a scene is held to the end of its test, on purpose")]

use std::{
    collections::HashMap,
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use podium::{
    engines::tree::{self, Grace},
    model::{
        AgentSettings, AttemptRef, Changes, Checks, Clock, EndState, Ending, EngineKind, Item, Outcome, OutputKind,
        Permissions, Removed, Report, Request, SlotId, Spend, TaskRecord, TaskRef, TaskSpec,
    },
    queue::{Change, Claim, Claimed, Finished, Lease, Queue, QueueError, Spawned, Submitted},
    worker::{self, Farewell, Order, Settings, WorkerError},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

#[path = "processes/verify.rs"]
mod verify;

const PODIUM: &str = env!("CARGO_BIN_EXE_podium");

/// A worker counts everything below its process as its attempt's, so only one may run in this one.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Held {
    attempt: AttemptRef,
    stage: PathBuf,
}

impl Lease for Held {
    fn attempt(&self) -> &AttemptRef {
        &self.attempt
    }
    fn folder(&self) -> PathBuf {
        self.stage.join("attempts").join(self.attempt.n.to_string())
    }
    fn log(&self) -> String {
        format!("logs/{}.{}.log", self.attempt.task.id, self.attempt.n)
    }
}

#[derive(Debug, Default)]
struct Entry {
    attempts: u32,
    counted: u32,
    previous: Option<(Ending, Option<String>)>,
    spawned: Vec<Spawned>,
    outcome: Option<Outcome>,
}

/// The least of a queue: it numbers attempts and remembers how they ended.
#[derive(Debug, Clone)]
struct Shelf {
    stage: PathBuf,
    tasks: Arc<Mutex<HashMap<TaskRef, (TaskSpec, Entry)>>>,
    /// The disk takes no end of an attempt while this is so.
    full: Arc<AtomicBool>,
}

impl Shelf {
    fn entry<T>(&self, task: &TaskRef, look: impl FnOnce(&mut Entry) -> T) -> T {
        look(&mut self.tasks.lock().unwrap().get_mut(task).unwrap().1)
    }

    async fn room_on_disk(&self) {
        while self.full.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Queue for Shelf {
    type Lease = Held;

    async fn submit(&self, task: TaskSpec) -> Result<Submitted, QueueError> {
        self.tasks.lock().unwrap().insert(task.task.clone(), (task, Entry::default()));
        Ok(Submitted::New)
    }
    async fn submit_many(&self, _: Vec<TaskSpec>) -> Result<Vec<Submitted>, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn claim(&self, task: &TaskRef) -> Result<Claimed<Held>, QueueError> {
        let mut tasks = self.tasks.lock().unwrap();
        let Some((spec, entry)) = tasks.get_mut(task) else { return Ok(Claimed::Missed("gone".into())) };
        if entry.outcome.is_some() {
            return Ok(Claimed::Missed("it has ended".into()));
        }
        entry.attempts += 1;
        let lease = Held { attempt: task.attempt(entry.attempts), stage: self.stage.clone() };
        let (counted, previous, n, spec) = (entry.counted, entry.previous.clone(), entry.attempts, spec.clone());
        let resume = spec.resume.clone().filter(|_| n == 1);
        drop(tasks);
        fs::create_dir_all(lease.folder()).unwrap();
        fs::create_dir_all(self.stage.join("logs")).unwrap();
        fs::write(lease.folder().join("out.log"), "").unwrap();
        fs::hard_link(lease.folder().join("out.log"), self.stage.join(lease.log())).unwrap();
        Ok(Claimed::Won(Box::new(Claim { spec, n, counted, prerequisites: Vec::new(), previous, resume, lease })))
    }
    async fn spawned(&self, lease: &Held, spawned: &Spawned) -> Result<(), QueueError> {
        self.entry(&lease.attempt.task, |e| e.spawned.push(spawned.clone()));
        Ok(())
    }
    async fn finish(&self, lease: Held, outcome: Outcome) -> Result<Finished, QueueError> {
        self.room_on_disk().await;
        self.entry(&lease.attempt.task, |e| e.outcome = Some(outcome));
        Ok(Finished::Committed)
    }
    async fn fail(&self, lease: Held, ending: Ending, _: Spend, _: Timestamp) -> Result<(), QueueError> {
        self.room_on_disk().await;
        self.entry(&lease.attempt.task, |e| {
            e.counted += u32::from(ending.counts());
            e.previous = Some((ending, None));
        });
        Ok(())
    }
    async fn end(&self, _: &TaskRef, _: Ending) -> Result<Finished, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn retry(&self, _: &TaskRef, _: Changes) -> Result<(), QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn remove(&self, _: &TaskRef) -> Result<(), QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn discard(&self, _: &str) -> Result<(), QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn restore(&self, _: &Item) -> Result<(), QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn removed(&self) -> Result<Vec<Removed>, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn purge(&self, _: Duration) -> Result<usize, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn request(&self, _: &TaskRef, _: Request) -> Result<(), QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn answered(&self, _: &TaskRef, _: Request) -> Result<(), QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn get(&self, task: &TaskRef) -> Result<TaskRecord, QueueError> {
        Err(QueueError::Unknown(task.clone()))
    }
    async fn spec(&self, _: &TaskRef) -> Result<TaskSpec, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn result(&self, _: &TaskRef) -> Result<Option<Outcome>, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn list(&self) -> Result<Vec<TaskRecord>, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn recover(&self) -> Result<Vec<TaskRef>, QueueError> {
        unimplemented!("not the worker's business")
    }
    async fn watch(&self) -> Result<mpsc::Receiver<Change>, QueueError> {
        unimplemented!("not the worker's business")
    }
}

/// A worker with its room and queue, played by the test.
struct Scene {
    stage: tempfile::TempDir,
    queue: Shelf,
    orders: mpsc::Sender<Order>,
    reports: mpsc::UnboundedReceiver<Report>,
    worker: JoinHandle<Result<Farewell, WorkerError>>,
    _one: tokio::sync::MutexGuard<'static, ()>,
}

/// The task every test runs.
fn task() -> TaskRef {
    "anga/t".parse().unwrap()
}

/// A scene whose agent is `podium __script STEPS`.
async fn scene(steps: &[&str], change: impl FnOnce(&mut Settings, &mut TaskSpec)) -> Scene {
    let mut command = vec![PODIUM.to_owned(), "__script".to_owned()];
    command.extend(steps.iter().map(|&s| s.to_owned()));
    scene_of(command, change).await
}

async fn scene_of(command: Vec<String>, change: impl FnOnce(&mut Settings, &mut TaskSpec)) -> Scene {
    scene_with(command, Checks::default(), change).await
}

/// The same, and what is looked at before its result counts.
async fn scene_with(command: Vec<String>, checks: Checks, change: impl FnOnce(&mut Settings, &mut TaskSpec)) -> Scene {
    let one = ONE.lock().await;
    let stage = tempfile::tempdir().unwrap();
    let agent = AgentSettings {
        name: "anga".parse().unwrap(),
        role: "tests".into(),
        engine: EngineKind::Command,
        command,
        output: OutputKind::Text,
        model: "none".into(),
        subagent_model: None,
        subagents: podium::model::SubagentCaps::default(),
        prompt: stage.path().join("ANGA.md"),
        workspace: stage.path().join("workspaces/coding"),
        home: stage.path().join("auth-homes/anga"),
        slots: 1,
        timeout: PATIENCE,
        permissions: Permissions::Standard,
        elsewhere: false,
    };
    let slot = SlotId { agent: agent.name.clone(), index: 0 };
    let clock = Clock::new(now);
    // Tests run side by side, and a cookie reaches over all of the machine.
    let stage_id = stage.path().display().to_string();
    let mut settings = Settings::new(slot, agent, stage.path().to_owned(), stage_id, PODIUM.into(), clock);
    settings.grace = Grace {
        interrupt: Duration::from_millis(100),
        terminate: Duration::from_millis(100),
        sweep: Duration::from_secs(10),
    };
    settings.retries.backoff = vec![Duration::ZERO];
    let mut spec = TaskSpec::new(task(), "Say hello.");
    change(&mut settings, &mut spec);
    let queue = Shelf { stage: stage.path().to_owned(), tasks: Arc::default(), full: Arc::default() };
    queue.submit(spec).await.unwrap();
    let (orders, inbox) = mpsc::channel(16);
    let (outbox, reports) = mpsc::unbounded_channel();
    let runs = worker::run(settings, queue.clone(), inbox, outbox);
    #[expect(clippy::disallowed_methods, reason = "its end is awaited by every test that needs it")]
    let worker = tokio::spawn(runs);
    let scene = Scene { stage, queue, orders, reports, worker, _one: one };
    scene.order(Order::Room(true)).await;
    scene.order(Order::Assign { task: task(), checks: Box::new(checks), may_spend: None }).await;
    scene
}

impl Scene {
    async fn order(&self, order: Order) {
        self.orders.send(order).await.unwrap();
    }

    /// The next report that `wanted` picks; the others are dropped.
    async fn until<T>(&mut self, mut wanted: impl FnMut(Report) -> Option<T>) -> T {
        let next = async {
            loop {
                let report = self.reports.recv().await.expect("the worker lives");
                if let Some(found) = wanted(report) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, next).await.expect("the report comes in time")
    }

    async fn started(&mut self) -> u32 {
        self.until(|r| if let Report::Started { pid, .. } = r { Some(pid) } else { None }).await
    }

    async fn doing(&mut self, what: &str) {
        self.until(|r| matches!(r, Report::Active { activity, .. } if activity.doing == what).then_some(())).await;
    }

    /// When it will be ended for its silence, once that is told.
    async fn countdown(&mut self) -> Timestamp {
        self.until(|r| if let Report::Active { activity, .. } = r { activity.stalls_at } else { None }).await
    }

    async fn ended(&mut self) -> Outcome {
        self.until(|r| if let Report::Ended { outcome, .. } = r { Some(*outcome) } else { None }).await
    }

    async fn failed(&mut self) -> Ending {
        self.until(|r| if let Report::Failed { ending, .. } = r { Some(ending) } else { None }).await
    }

    /// Bytes that the attempt's log takes on disk.
    fn log_on_disk(&self) -> u64 {
        fs::metadata(self.path().join("logs/t.1.log")).unwrap().blocks() * 512
    }

    async fn farewell(self) -> (Shelf, Farewell) {
        let farewell = timeout(PATIENCE, self.worker).await.expect("the worker goes in time").unwrap().unwrap();
        (self.queue, farewell)
    }

    fn path(&self) -> &Path {
        self.stage.path()
    }
}

#[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Numbers of everything that runs below this process.
fn below() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let table = tree::table();
    let mut found = vec![own];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(table.iter().filter(|p| p.parent == parent).map(|p| p.pid));
        at += 1;
    }
    found.split_off(1)
}

/// Waits until `done` holds.
#[expect(clippy::disallowed_methods, reason = "a deadline for a condition that has no event")]
async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_plain_attempt_reads_its_prompt_and_leaves_answer_log_and_file() {
    let steps = ["--echo-stdin", "--write", "made.txt", "hello", "--print", "Findings:\n- it works"];
    let mut scene = scene(&steps, |_, _| {}).await;
    let pid = scene.started().await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, &outcome.ending), (EndState::Done, &Ending::Done), "{outcome:?}");
    assert!(outcome.summary.contains("Say hello.") && outcome.summary.contains("anga/t"), "{}", outcome.summary);
    assert_eq!(outcome.findings, ["it works"]);
    assert_eq!(outcome.artifacts.len(), 1, "{:?}", outcome.artifacts);
    assert_eq!(outcome.artifacts[0].path, "workspaces/coding/made.txt");
    assert!(fs::read_to_string(scene.path().join("logs/t.1.log")).unwrap().contains("it works"));
    let times = fs::read_to_string(scene.path().join("logs/t.1.times")).unwrap();
    assert!(times.starts_with("0 "), "{times}");
    scene.queue.entry(&task(), |entry| {
        assert_eq!(entry.spawned[0].pid, pid);
        assert!(entry.spawned[0].start_ticks > 0 && !entry.spawned[0].boot_id.is_empty());
        assert_eq!(entry.outcome.as_ref().unwrap().attempt, 1);
    });
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn an_engine_that_cannot_take_up_a_session_starts_afresh_and_says_so_in_the_log() {
    let mut scene = scene(&["--print", "ok"], |_, spec| spec.resume = Some("the-session".into())).await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.summary.as_str()), (EndState::Done, "ok"));
    let log = fs::read_to_string(scene.path().join("logs/t.1.log")).unwrap();
    assert_eq!(log, "podium: this engine cannot take up session the-session; a fresh one begins\nok\n");
}

#[tokio::test]
async fn an_exit_code_is_retried_until_the_attempts_are_used_up() {
    let mut scene =
        scene(&["--print", "half", "--err", "disk on fire", "--exit", "3"], |s, _| s.retries.attempts = 2).await;
    assert_eq!(scene.failed().await, Ending::ExitCode { code: 3, message: "disk on fire".into() });
    scene.order(Order::Assign { task: task(), checks: Box::default(), may_spend: None }).await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.attempt), (EndState::Dead, 2));
    assert_eq!(outcome.summary, "exit 3: disk on fire");
}

#[tokio::test]
async fn a_second_attempt_can_do_what_the_first_could_not() {
    let mut scene = scene(&["--fail-below", "2", "--print", "now"], |_, _| {}).await;
    assert!(matches!(scene.failed().await, Ending::ExitCode { code: 1, .. }));
    scene.order(Order::Assign { task: task(), checks: Box::default(), may_spend: None }).await;
    assert_eq!(scene.ended().await.summary, "now");
}

#[tokio::test]
async fn a_signal_is_told_from_an_exit_code() {
    let mut scene = scene(&["--print", "x", "--signal", "6"], |_, _| {}).await;
    assert_eq!(scene.failed().await, Ending::Signal { signal: 6 });
}

#[tokio::test]
async fn a_deadline_ends_what_ignores_term_and_what_ran_away_into_its_own_session() {
    let steps = ["--ignore-term", "--fork-setsid", "--hold-pipe", "--print", "ready", "--sleep", "3600"];
    let mut scene = scene(&steps, |_, spec| {
        spec.timeout = Some(Duration::from_secs(2));
        spec.max_attempts = Some(1);
    })
    .await;
    scene.doing("ready").await;
    wait_for("two grandchildren in sessions of their own", || {
        let below = below();
        tree::table().iter().filter(|p| below.contains(&p.pid) && p.session == p.pid).count() == 3
    })
    .await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, &outcome.ending), (EndState::TimedOut, &Ending::Killed { seconds: 2 }));
    assert_eq!(below(), Vec::<i32>::new(), "nothing is left when the end is reported");
}

#[tokio::test]
async fn what_ends_when_its_time_is_over_is_not_said_to_have_been_killed() {
    let mut scene = scene(&["--print", "ready", "--sleep", "3600"], |_, spec| {
        spec.timeout = Some(Duration::from_secs(1));
    })
    .await;
    assert_eq!(scene.failed().await, Ending::Deadline { seconds: 1 });
}

#[tokio::test]
async fn a_task_s_deadline_ends_what_runs_and_the_task_with_it() {
    let at = now().checked_add(Duration::from_secs(1)).unwrap();
    let steps = ["--ignore-term", "--fork-setsid", "--print", "ready", "--sleep", "3600"];
    let mut scene = scene(&steps, |_, spec| spec.deadline = Some(at)).await;
    scene.doing("ready").await;
    let outcome = scene.ended().await;
    let message = format!("its deadline, {at}, has passed");
    assert_eq!((outcome.state, &outcome.ending), (EndState::Expired, &Ending::Expired { message: message.clone() }));
    assert!(outcome.completed_at >= at && outcome.summary == message, "{outcome:?}");
    assert_eq!(below(), Vec::<i32>::new(), "nothing is left when the end is reported");
}

#[tokio::test]
async fn a_deadline_that_passes_after_the_result_takes_nothing_from_it() {
    let at = now().checked_add(Duration::from_secs(1)).unwrap();
    let mut scene = scene(&["--stream-json", "well done", "--sleep", "3600"], |settings, spec| {
        settings.agent.output = OutputKind::StreamJson;
        spec.deadline = Some(at);
    })
    .await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.summary.as_str()), (EndState::Done, "well done"));
}

#[tokio::test]
async fn g11_g15_a_worker_that_waits_for_the_disk_obeys() {
    let full = async |steps: &[&str]| {
        let mut scene = scene(steps, |_, _| {}).await;
        scene.doing("x").await;
        scene.queue.full.store(true, Ordering::Relaxed);
        fs::write(scene.path().join("workspaces/coding/go"), "").unwrap();
        scene.doing("has ended; waits for room on the disk to write how").await;
        scene
    };
    let steps = ["--print", "x", "--wait-for", "go"];

    // A drain and an extension change nothing; another task is refused; then there is room, and it goes.
    let mut waits = full(&steps).await;
    waits.order(Order::Drain).await;
    waits.order(Order::Extend { attempt: task().attempt(1), by: Duration::from_mins(1) }).await;
    waits.order(Order::Assign { task: "anga/other".parse().unwrap(), checks: Box::default(), may_spend: None }).await;
    let reason = waits.until(|r| if let Report::NotStarted { reason, .. } = r { Some(reason) } else { None }).await;
    assert_eq!(reason, "this worker is busy with anga/t#1");
    waits.queue.full.store(false, Ordering::Relaxed);
    assert_eq!(waits.ended().await.summary, "x");
    assert_eq!(waits.farewell().await.1, Farewell::Drained);

    // A stop ends the wait; the attempt is lost, and that is said.
    let mut waits = full(&steps).await;
    waits.order(Order::Stop).await;
    let lost = "its end could not be written: there was no room on the disk, and the worker had to go";
    assert_eq!(waits.failed().await, Ending::Lost { message: lost.into() });
    let (queue, farewell) = waits.farewell().await;
    assert_eq!(farewell, Farewell::Stopped);
    queue.entry(&task(), |entry| assert!(entry.outcome.is_none()));

    // A cancellation comes too late: the attempt has ended, and exactly one outcome is published.
    let mut waits = full(&steps).await;
    waits.order(Order::Cancel { attempt: task().attempt(1) }).await;
    waits.order(Order::Drain).await;
    waits.queue.full.store(false, Ordering::Relaxed);
    assert_eq!(waits.ended().await.state, EndState::Done);
    assert_eq!(waits.farewell().await.1, Farewell::Drained);
}

#[tokio::test]
async fn a_child_that_ends_well_takes_what_it_left_behind_with_it() {
    let mut scene = scene(&["--fork-setsid", "--hold-pipe", "--print", "ok"], |_, _| {}).await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.summary.as_str()), (EndState::Done, "ok"));
    assert_eq!(outcome.findings, ["it left 2 processes running, which were ended"]);
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn no_answer_and_processes_that_hold_the_output_are_told_from_an_empty_answer() {
    let mut scene = scene(&["--hold-pipe"], |_, _| {}).await;
    assert_eq!(scene.failed().await, Ending::Held { left: 1 });
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn f11_a_flood_that_will_not_end_is_ended_and_its_log_stays_within_its_cap() {
    let limit = 8 * 1024 * 1024;
    let steps = ["--ignore-term", "--fork-setsid", "--flood", "1000000"];
    let mut scene = scene(&steps, |s, _| s.log_limit = limit).await;
    let outcome = scene.ended().await;
    assert_eq!(outcome.state, EndState::Failed);
    assert!(
        matches!(&outcome.ending, Ending::Overflow { message } if message.starts_with("it printed ")),
        "{outcome:?}"
    );
    assert_eq!(below(), Vec::<i32>::new());
    assert!(scene.log_on_disk() <= limit, "{} bytes on disk", scene.log_on_disk());
}

#[tokio::test]
async fn a_long_log_keeps_its_head_and_its_tail_and_says_what_is_cut() {
    let limit = 8 * 1024 * 1024;
    let steps = ["--print", "the beginning", "--flood", "60", "--print", "the end"];
    let mut scene = scene(&steps, |s, _| s.log_limit = limit).await;
    let outcome = scene.ended().await;
    assert_eq!(outcome.state, EndState::Done, "{outcome:?}");
    assert!(outcome.summary.starts_with("the beginning"));
    let whole = scene.queue.entry(&task(), |e| e.outcome.as_ref().unwrap().summary.clone());
    assert!(whole.ends_with("the end"));
    assert!(scene.log_on_disk() <= limit, "{} bytes on disk", scene.log_on_disk());
    let log = fs::read(scene.path().join("logs/t.1.log")).unwrap();
    let mut reader = podium::claude::log::Reader::default();
    let lines: Vec<String> = log.chunks(65_536).flat_map(|piece| reader.feed(piece)).map(|line| line.text).collect();
    assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("the beginning", "the end"));
    let cuts: Vec<&String> = lines.iter().filter(|line| line.starts_with("[…")).collect();
    assert!(matches!(cuts.as_slice(), [cut] if cut.ends_with(" MB cut …]")), "{cuts:?}");
}

#[tokio::test]
async fn a_cancelled_attempt_is_gone_before_its_end_is_reported() {
    let mut scene = scene(&["--ignore-term", "--print", "ready", "--sleep", "3600"], |_, _| {}).await;
    scene.doing("ready").await;
    scene.order(Order::Cancel { attempt: task().attempt(7) }).await;
    scene.order(Order::Cancel { attempt: task().attempt(1) }).await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.ending), (EndState::Cancelled, Ending::Cancelled));
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn a_missing_program_was_never_started() {
    let mut scene = scene_of(vec!["/nonexistent/agent".into()], |_, _| {}).await;
    let outcome = scene.ended().await;
    assert_eq!(outcome.state, EndState::Failed);
    assert!(
        matches!(&outcome.ending, Ending::NeverStarted { message } if message.contains("/nonexistent/agent")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_program_s_own_127_is_its_exit_code() {
    let mut scene = scene(&["--exit", "127"], |_, _| {}).await;
    assert!(matches!(scene.failed().await, Ending::ExitCode { code: 127, .. }));
}

#[tokio::test]
async fn a_half_line_is_no_result() {
    let steps = ["--init", "--say", "hello", "--half-line"];
    let mut scene = scene(&steps, |s, _| s.agent.output = OutputKind::StreamJson).await;
    assert_eq!(scene.failed().await, Ending::NoResult { code: Some(0) });
}

#[tokio::test]
async fn stream_json_tells_what_is_done_and_what_it_used() {
    let steps = ["--init", "--tool", "Bash", "cargo test", "--sleep", "0.5", "--stream-json", "all green"];
    let mut scene = scene(&steps, |s, _| s.agent.output = OutputKind::StreamJson).await;
    scene.doing("Bash cargo test").await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.summary.as_str()), (EndState::Done, "all green"));
    assert_eq!((outcome.usage.input_tokens, outcome.usage.output_tokens, outcome.cost.0), (10, 5, 10_000));
    assert_eq!(outcome.session_id.as_deref(), Some("script"));
}

#[tokio::test]
async fn a_child_that_stays_after_its_result_is_ended_and_its_result_counts() {
    let steps = ["--ignore-term", "--stream-json", "done", "--sleep", "3600"];
    let mut scene = scene(&steps, |s, _| {
        s.agent.output = OutputKind::StreamJson;
        s.settle = Duration::from_millis(200);
    })
    .await;
    assert_eq!(scene.ended().await.state, EndState::Done);
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn silence_is_a_stall_after_a_countdown() {
    let steps = ["--ignore-term", "--fork-setsid", "--print", "ready", "--sleep", "3600"];
    let mut scene = scene(&steps, |_, spec| spec.stall = Some(Duration::from_secs(2))).await;
    let stalls_at = scene.countdown().await;
    assert_eq!(scene.failed().await, Ending::Stalled { seconds: 2 });
    assert!(now() >= stalls_at, "not before its time");
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn an_operator_s_extension_puts_the_end_off() {
    let mut scene = scene(&["--sleep", "3600"], |s, spec| {
        s.stall = Some(Duration::from_secs(3));
        spec.timeout = Some(Duration::from_hours(1));
    })
    .await;
    let first = scene.countdown().await;
    scene.order(Order::Extend { attempt: task().attempt(9), by: Duration::from_hours(9) }).await;
    scene.order(Order::Extend { attempt: task().attempt(1), by: Duration::from_mins(1) }).await;
    let stalls_at = |r| match r {
        Report::Active { activity, .. } => activity.stalls_at.filter(|at| *at != first),
        _ => None,
    };
    let second = scene.until(stalls_at).await;
    let put_off = second.duration_since(first).as_secs();
    assert!((58..=62).contains(&put_off), "put off by {put_off} s");
    scene.order(Order::Cancel { attempt: task().attempt(1) }).await;
    assert_eq!(scene.ended().await.state, EndState::Cancelled);
}

#[tokio::test]
async fn work_without_a_word_is_no_stall() {
    // Three seconds of nothing but CPU time, then of nothing but children that come and go, then of words on standard
    // error alone.
    let script = "timeout 3 sh -c 'while :; do :; done'; for i in 1 2 3 4 5 6; do sleep 0.5; done; \
        for i in 1 2 3 4 5 6; do echo more >&2; sleep 0.5; done; echo good";
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let mut scene = scene_of(argv, |s, _| s.stall = Some(Duration::from_millis(2_500))).await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.summary.as_str()), (EndState::Done, "good"), "{outcome:?}");
}

#[tokio::test]
async fn an_announced_wait_is_no_stall() {
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":4,"retry_delay_ms":4000,"error_status":429}"#;
    let steps = ["--init", "--print", retry, "--sleep", "4", "--stream-json", "good"];
    let mut scene = scene(&steps, |s, _| {
        s.agent.output = OutputKind::StreamJson;
        s.stall = Some(Duration::from_secs(2));
    })
    .await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.summary.as_str()), (EndState::Done, "good"), "{outcome:?}");
}

#[tokio::test]
async fn nothing_is_inherited_from_the_environment() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "this process has more than it hands on");
    let mut scene = scene(&["--env"], |_, _| {}).await;
    let summary = scene.ended().await.summary;
    let names: Vec<&str> = summary.lines().filter_map(|l| l.split_once('=')).map(|(name, _)| name).collect();
    let expected = [
        "ATTEMPT",
        "HOME",
        "LANG",
        "PATH",
        "PODIUM_AGENT",
        "PODIUM_ATTEMPT",
        "PODIUM_COOKIE",
        "PODIUM_TASK_ID",
        "TASK_ID",
    ];
    assert_eq!(names, expected);
    assert!(summary.contains(&format!("PODIUM_COOKIE={}:anga/t#1", scene.path().display())), "{summary}");
}

#[tokio::test]
async fn a_prompt_that_nobody_reads_does_not_hang_the_attempt() {
    let mut scene = scene(&["--print", "ok"], |_, spec| spec.description = "x".repeat(1024 * 1024)).await;
    assert_eq!(scene.ended().await.summary, "ok");
}

#[tokio::test]
async fn a_flood_is_read_to_its_end() {
    let mut scene = scene(&["--flood", "20", "--print", "the end"], |_, _| {}).await;
    let outcome = scene.ended().await;
    assert_eq!(outcome.state, EndState::Done);
    let whole = scene.queue.entry(&task(), |e| e.outcome.as_ref().unwrap().summary.clone());
    assert!(whole.ends_with("the end") && whole.contains("bytes left out"), "{}", whole.len());
}

#[tokio::test]
async fn without_a_room_the_attempt_is_ended_after_the_grace_and_the_worker_goes() {
    let steps = ["--print", "ready", "--sleep", "3600"];
    let mut scene = scene(&steps, |s, _| s.orphan_grace = Duration::from_millis(300)).await;
    scene.doing("ready").await;
    scene.order(Order::Room(false)).await;
    let (queue, farewell) = scene.farewell().await;
    assert_eq!(farewell, Farewell::Orphaned);
    queue.entry(&task(), |e| {
        assert!(matches!(e.previous, Some((Ending::RoomLost { seconds: 0 }, _))), "{e:?}");
        assert_eq!(e.counted, 1, "a task that takes the room down with it must not do so for ever");
    });
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn a_result_made_without_a_room_is_committed_and_told_when_the_room_is_back() {
    let mut scene = scene(&["--print", "ready", "--sleep", "0.5"], |_, _| {}).await;
    scene.doing("ready").await;
    scene.order(Order::Room(false)).await;
    let queue = scene.queue.clone();
    wait_for("the result is committed", || queue.entry(&task(), |e| e.outcome.is_some())).await;
    assert!(scene.reports.try_recv().is_err(), "nobody was there to hear it");
    scene.order(Order::Room(true)).await;
    assert_eq!(scene.ended().await.state, EndState::Done);
}

#[tokio::test]
async fn a_drained_worker_finishes_what_runs_and_takes_nothing_more() {
    let mut scene = scene(&["--print", "ready", "--sleep", "1"], |_, _| {}).await;
    scene.doing("ready").await;
    scene.order(Order::Assign { task: "anga/other".parse().unwrap(), checks: Box::default(), may_spend: None }).await;
    scene.until(|r| matches!(r, Report::NotStarted { .. }).then_some(())).await;
    scene.order(Order::Drain).await;
    assert_eq!(scene.ended().await.state, EndState::Done);
    assert_eq!(scene.farewell().await.1, Farewell::Drained);
}

#[tokio::test]
async fn a_person_s_stop_costs_no_attempt_and_the_task_may_start_at_once() {
    let mut scene = scene(&["--print", "ready", "--sleep", "3600"], |_, spec| spec.max_attempts = Some(1)).await;
    scene.doing("ready").await;
    scene.order(Order::Stop).await;
    let (ending, not_before) = scene
        .until(|r| if let Report::Failed { ending, not_before, .. } = r { Some((ending, not_before)) } else { None })
        .await;
    assert_eq!(ending, Ending::Stopped);
    assert!(not_before <= now());
    let (queue, farewell) = scene.farewell().await;
    assert_eq!(farewell, Farewell::Stopped);
    queue.entry(&task(), |e| assert_eq!((e.counted, e.outcome.is_none()), (0, true)));
    assert_eq!(below(), Vec::<i32>::new());
}

#[tokio::test]
async fn g6_a_worker_that_is_told_to_go_by_anybody_else_costs_an_attempt() {
    let mut scene = scene(&["--print", "ready", "--sleep", "3600"], |_, spec| spec.max_attempts = Some(1)).await;
    scene.doing("ready").await;
    scene.order(Order::Quit { why: "the worker was ended by TERM".to_owned() }).await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.summary.as_str()), (EndState::Dead, "lost: the worker was ended by TERM"));
    assert_eq!(scene.farewell().await.1, Farewell::Stopped);
}

#[tokio::test]
async fn a_child_ends_when_its_parent_is_killed() {
    let _one = ONE.lock().await;
    let script = "\"$0\" __exec --parent $$ --signal KILL -- \"$0\" __script --ignore-term --sleep 3600 & wait";
    let mut shell = Command::new("/bin/sh").args(["-c", script, PODIUM]).stdin(Stdio::null()).spawn().unwrap();
    let parent = i32::try_from(shell.id()).unwrap();
    let mut child = None;
    wait_for("the child is in its own session", || {
        child = tree::table().into_iter().find(|p| p.parent == parent && p.session == p.pid);
        child.is_some()
    })
    .await;
    let child = child.unwrap();
    // The signal is armed right after the session opens; the program's name changes after both.
    wait_for("the program runs", || {
        let line = fs::read(format!("/proc/{}/cmdline", child.pid)).unwrap_or_default();
        !line.windows(6).any(|w| w == b"__exec")
    })
    .await;
    shell.kill().unwrap();
    assert_eq!(shell.wait().unwrap().signal(), Some(9));
    wait_for("the child is gone", || tree::process(child.pid).is_none_or(|p| p.zombie || p.start != child.start)).await;
}

#[test]
fn a_child_whose_parent_is_already_gone_does_not_start() {
    let output = Command::new(PODIUM)
        .args(["__exec", "--parent", "1", "--signal", "KILL", "--", PODIUM, "__script", "--print", "no"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("the parent is gone"));
}
