//! The engines for real: our own `__messages` and the Claude Code CLI, run by a worker on a file queue, against the
//! stand-in of the Messages API.
//!
//! The CLI is what `PODIUM_TEST_CLAUDE` names (`./test` sets it), else `CLAUDE_COMMAND`, else `claude` on `PATH`. Without
//! it its tests are skipped at a desk, and fail where `CI` is set.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]
#![expect(clippy::significant_drop_tightening, reason = "a scene is held to the end of its test, on purpose")]

#[path = "common/cli.rs"]
mod real_cli;

use std::{ffi::OsString, fs, time::Duration};

use jiff::Timestamp;
use podium::{
    engines::{self, Gateway},
    model::{
        AgentSettings, Changes, Clock, EndState, Ending, EngineKind, Outcome, OutputKind, Permissions, Report, SlotId,
        SubagentCaps, TaskRef, TaskSpec,
    },
    queue::{
        Queue,
        file::{self, FileQueue},
    },
    rehearsal::{self, StandIn},
    worker::{self, Order, Settings},
};
use real_cli::cli;
use tokio::{sync::mpsc, time::timeout};

/// A worker counts everything below its process as its attempt's, so only one may run in this one.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long an attempt may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn clock() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
    Clock::new(Timestamp::now)
}

fn task() -> TaskRef {
    "marie/t".parse().unwrap()
}

struct Scene {
    stage: tempfile::TempDir,
    queue: FileQueue,
    orders: mpsc::Sender<Order>,
    reports: mpsc::UnboundedReceiver<Report>,
    heard: Vec<Report>,
    _api: StandIn,
    _one: tokio::sync::MutexGuard<'static, ()>,
}

/// A worker of marie's with one task, on a real queue, its model calls answered by the stand-in.
async fn scene(engine: EngineKind, claude: Option<Vec<OsString>>, description: &str) -> Scene {
    scene_of(engine, claude, TaskSpec::new(task(), description)).await
}

async fn scene_of(engine: EngineKind, claude: Option<Vec<OsString>>, spec: TaskSpec) -> Scene {
    scene_with(engine, claude, spec, SubagentCaps::default()).await
}

async fn scene_with(
    engine: EngineKind,
    claude: Option<Vec<OsString>>,
    spec: TaskSpec,
    subagents: SubagentCaps,
) -> Scene {
    let one = ONE.lock().await;
    let stage = tempfile::tempdir().unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    // A sub-agent that is over before anybody looks is told by nobody.
    let pace = if subagents == SubagentCaps::default() { 0.0 } else { 1.0 };
    let api = StandIn::start(rehearsal::Settings { seed: 1, pace, listen, clock: clock() }).await.unwrap();
    fs::create_dir_all(stage.path().join("workspaces/dance")).unwrap();
    fs::write(stage.path().join("DANCE.md"), "You are marie, a dance teacher.").unwrap();
    let agent = AgentSettings {
        name: "marie".parse().unwrap(),
        role: "dance teacher".into(),
        engine,
        command: Vec::new(),
        output: OutputKind::Text,
        model: "sonnet".into(),
        subagent_model: None,
        subagents,
        prompt: stage.path().join("DANCE.md"),
        workspace: stage.path().join("workspaces/dance"),
        home: stage.path().join("homes/marie"),
        slots: 1,
        timeout: PATIENCE,
        permissions: Permissions::Standard,
        elsewhere: false,
    };
    let queue = FileQueue::open(file::Settings::new(stage.path(), vec![agent.name.clone()], clock())).unwrap();
    queue.submit(spec).await.unwrap();
    let slot = SlotId { agent: agent.name.clone(), index: 0 };
    let podium = env!("CARGO_BIN_EXE_podium").into();
    let stage_id = stage.path().display().to_string();
    let mut settings = Settings::new(slot, agent, stage.path().to_owned(), stage_id, podium, clock());
    settings.programs.claude = claude;
    settings.path = std::env::var_os("PATH").unwrap();
    settings.gateway = Some(Gateway { url: api.url(), token: "a-worker-token".into() });
    let (orders, inbox) = mpsc::channel(16);
    let (outbox, reports) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "the worker lives as long as the test's runtime")]
    drop(tokio::spawn(worker::run(settings, queue.clone(), inbox, outbox)));
    orders.send(Order::Room(true)).await.unwrap();
    orders.send(Order::Assign { task: task(), checks: Box::default(), may_spend: None }).await.unwrap();
    Scene { stage, queue, orders, reports, heard: Vec::new(), _api: api, _one: one }
}

impl Scene {
    /// The next report; all are remembered.
    async fn next(&mut self) -> Report {
        let report = timeout(PATIENCE, self.reports.recv()).await.expect("a report in time").expect("a worker");
        self.heard.push(report.clone());
        report
    }

    async fn ended(&mut self) -> Outcome {
        loop {
            match self.next().await {
                Report::Ended { outcome, .. } => return *outcome,
                Report::Failed { ending, .. } => panic!("{ending:?}\n{}", self.log()),
                Report::Started { .. }
                | Report::Active { .. }
                | Report::Asked { .. }
                | Report::Withdrawn { .. }
                | Report::Far { .. }
                | Report::Limited { .. }
                | Report::NotStarted { .. }
                | Report::Refused { .. } => {}
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.stage.path().join("logs/marie/t.1.log")).unwrap_or_default()
    }

    /// What a person would read of the log.
    fn page(&self) -> String {
        let mut reader = podium::claude::log::Reader::default();
        let lines = reader.feed(self.log().as_bytes());
        let lines: Vec<String> = lines.iter().map(|l| format!("{:?} {} {}", l.kind, l.depth, l.text)).collect();
        lines.join("\n")
    }
}

#[tokio::test]
async fn the_messages_engine_answers_through_the_whole_path() {
    let mut scene = scene(EngineKind::Messages, None, "Plan a junior class.").await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, &outcome.ending), (EndState::Done, &Ending::Done));
    assert!(!outcome.summary.is_empty() && outcome.usage.output_tokens > 0, "{outcome:?}");
    assert!(scene.stage.path().join("results/marie/t.json").is_file());
    assert!(scene.page().contains("Text 0 "), "{}", scene.page());
}

#[tokio::test]
async fn a_refusal_of_the_model_is_final() {
    let mut scene = scene(EngineKind::Messages, None, "Plan a junior class. [[rehearse:refuse]]").await;
    let outcome = scene.ended().await;
    assert_eq!(outcome.state, EndState::Failed, "{outcome:?}");
    assert!(matches!(outcome.ending, Ending::Refused { .. }), "{outcome:?}");
}

#[tokio::test]
async fn the_real_cli_uses_a_tool_and_is_done() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    let mut scene = scene(EngineKind::Claude, Some(cli), "Plan a junior class. [[rehearse:tool]]").await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, &outcome.ending), (EndState::Done, &Ending::Done), "{}", scene.page());
    assert!(outcome.usage.output_tokens > 0 && outcome.model.is_some());
    assert!(scene.page().contains("Tool 0 "), "{}", scene.page());
    assert!(scene.heard.iter().any(|r| matches!(r, Report::Active { activity, .. } if activity.rss_bytes > 0)));
    println!("{}{:?}", scene.page(), outcome.artifacts);
}

#[tokio::test]
async fn the_real_cli_starts_a_sub_agent() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    let mut scene = scene(EngineKind::Claude, Some(cli), "Plan a junior class. [[rehearse:subagent]]").await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, &outcome.ending), (EndState::Done, &Ending::Done), "{}", scene.page());
    let page = scene.page();
    assert!(page.contains("Agent 0 ") && page.lines().any(|l| l.split(' ').nth(1) == Some("1")), "{page}");
}

#[tokio::test]
async fn the_real_cli_waits_out_a_429() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    let mut scene = scene(EngineKind::Claude, Some(cli), "Plan a junior class. [[rehearse:429]]").await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, &outcome.ending), (EndState::Done, &Ending::Done), "{}", scene.page());
    assert!(scene.page().contains("waits: 429, attempt 1"), "{}", scene.page());
}

#[tokio::test]
async fn the_real_cli_is_cancelled_in_mid_stream() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    let mut scene = scene(EngineKind::Claude, Some(cli), "Plan a junior class. [[rehearse:hang]]").await;
    let pid = loop {
        if let Report::Started { pid, .. } = scene.next().await {
            break i32::try_from(pid).unwrap();
        }
    };
    loop {
        if let Report::Active { activity, .. } = scene.next().await
            && ["waits for the model", "thinking", "writes"].contains(&activity.doing.as_str())
        {
            break;
        }
    }
    let attempt = task().attempt(1);
    scene.orders.send(Order::Cancel { attempt }).await.unwrap();
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.ending), (EndState::Cancelled, Ending::Cancelled));
    assert!(engines::tree::process(pid).is_none());
}

#[tokio::test]
async fn the_real_cli_takes_up_the_session_of_the_attempt_before() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    let mut scene = scene(EngineKind::Claude, Some(cli), "Plan a junior class.").await;
    let first = scene.ended().await;
    assert_eq!(first.state, EndState::Done, "{}", scene.page());
    let again = Changes { resume: true, ..Changes::default() };
    scene.queue.retry(&task(), again).await.unwrap();
    scene.orders.send(Order::Assign { task: task(), checks: Box::default(), may_spend: None }).await.unwrap();
    // The CLI itself says in which session it works.
    let started = loop {
        if let Report::Started { session_id, .. } = scene.next().await {
            break session_id;
        }
    };
    assert!(started.is_some() && started == first.session_id, "{started:?} {first:?}");
    let second = scene.ended().await;
    assert_eq!((second.state, &second.session_id), (EndState::Done, &first.session_id), "{}", scene.page());
    let log = fs::read_to_string(scene.stage.path().join("logs/marie/t.2.log")).unwrap();
    assert!(log.contains(r#""name":"Write""#), "it came as far as a tool: {log}");
    assert!(log.starts_with("podium: session ") && log.contains(" is taken up again\n"), "{log}");
}

#[tokio::test]
async fn a_session_that_is_gone_costs_no_attempt_and_the_next_one_starts_afresh() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    let mut scene = scene(EngineKind::Claude, Some(cli), "Plan a junior class. [[rehearse:hang]]").await;
    let session_id = loop {
        if let Report::Started { session_id, .. } = scene.next().await {
            break session_id.unwrap();
        }
    };
    scene.orders.send(Order::Cancel { attempt: task().attempt(1) }).await.unwrap();
    assert_eq!(scene.ended().await.state, EndState::Cancelled);
    // What the CLI kept of it goes.
    fs::remove_dir_all(scene.stage.path().join("homes/marie")).unwrap();
    let again = Changes { resume: true, description: Some("Plan a junior class.".into()), ..Changes::default() };
    scene.queue.retry(&task(), again).await.unwrap();
    scene.orders.send(Order::Assign { task: task(), checks: Box::default(), may_spend: None }).await.unwrap();
    let ending = loop {
        if let Report::Failed { ending, .. } = scene.next().await {
            break ending;
        }
    };
    assert!(matches!(&ending, Ending::SessionGone { message } if message.contains(&session_id)), "{ending:?}");
    scene.orders.send(Order::Assign { task: task(), checks: Box::default(), may_spend: None }).await.unwrap();
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, outcome.attempt), (EndState::Done, 3));
    assert_ne!(outcome.session_id, Some(session_id));
}

#[tokio::test]
async fn the_real_cli_knows_our_sub_agents_and_starts_no_more_than_allowed() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    let prompt = "Plan a junior class. [[rehearse:subagents]]";
    let caps = SubagentCaps { most: 2, at_once: 2, depth: 1 };
    let mut scene = scene_with(EngineKind::Claude, Some(cli), TaskSpec::new(task(), prompt), caps).await;
    let outcome = scene.ended().await;
    assert_eq!((outcome.state, &outcome.ending), (EndState::Done, &Ending::Done), "{}", scene.page());
    let log = scene.log();
    let line = |wanted: &str| {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line["subtype"] == wanted).collect::<Vec<_>>()
    };
    let init = line("init");
    let known: Vec<&str> = init[0]["agents"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert!(known.contains(&"second-look") && known.contains(&"lesson-checker"), "{known:?}");
    // The third was asked for, and the hook said no.
    assert!(log.contains("no more may be: do the rest yourself"), "{}", scene.page());
    let started = line("task_started");
    assert_eq!(started.len(), 2, "{}", scene.page());
    assert!(started.iter().all(|task| task["subagent_type"] == "second-look"), "{started:#?}");
    // Each is known by the id that its model calls carry, with its name.
    let told = scene.heard.iter().filter_map(|report| match report {
        Report::Active { activity, .. } => activity.subagents.first().cloned(),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert!(told.iter().any(|one| one.name == "second-look: Second look" && !one.id.is_empty()), "{told:?}");
}

#[tokio::test]
async fn a_sub_agent_of_the_real_cli_starts_another_only_as_deep_as_allowed() {
    let Some(cli) = cli().map(|cli| vec![cli]) else { return };
    for (depth, wanted) in [(1, 1), (2, 2)] {
        let spec = TaskSpec::new(task(), "Plan a junior class. [[rehearse:nested]]");
        let caps = SubagentCaps { depth, ..SubagentCaps::default() };
        let mut scene = scene_with(EngineKind::Claude, Some(cli.clone()), spec, caps).await;
        let outcome = scene.ended().await;
        assert_eq!((outcome.state, &outcome.ending), (EndState::Done, &Ending::Done), "{}", scene.page());
        let started = scene.log().lines().filter(|line| line.contains("\"subtype\":\"task_started\"")).count();
        assert_eq!(started, wanted, "depth {depth}: {}", scene.page());
    }
}
