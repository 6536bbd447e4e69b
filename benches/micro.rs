//! The inner loops: what one event, one frame, one line and one task file cost.
//!
//! `cargo bench --bench micro`; the figures of one machine are in `README.md` beside this file.

#![expect(clippy::unwrap_used, reason = "what cannot be measured must stop the measurement")]

use std::{fs, hint::black_box, path::Path, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use podium::{
    api::sse,
    attach::wire::{self, Tell},
    claude,
    model::{
        Activity, AgentName, AgentSettings, Clock, CostSource, EndState, Ending, EngineKind, Estimates, MicroUsd,
        Outcome, OutputKind, Permissions, Plan, PlanTask, Report, Severity, SlotId, Spend, Standing, TaskRecord,
        TaskRef, TaskSpec, Usage,
    },
    orchestrator::plan,
    queue::{
        Claimed, Finished, Queue, Submitted,
        file::{FileQueue, Settings},
    },
    room::{
        Effect, Event, Opened, Stamped, State, TaskEvent, WorkerEvent,
        event::{AgentSetup, Orchestrator, Planning},
    },
    tui::{self, App},
};
use ratatui::{Terminal, backend::TestBackend};

const AGENTS: [&str; 3] = ["marie", "anga", "fabien"];
const TASKS: usize = 1_000;

/// Midday, plus some milliseconds.
fn at(millis: i64) -> Timestamp {
    "2026-11-22T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(millis)
}

fn agent(name: &str) -> AgentSetup {
    let settings = AgentSettings {
        name: name.parse().unwrap(),
        role: format!("what {name} is for"),
        engine: EngineKind::Messages,
        command: Vec::new(),
        output: OutputKind::Text,
        model: "sonnet".into(),
        subagent_model: None,
        subagents: podium::model::SubagentCaps::default(),
        prompt: "/stage/prompt.md".into(),
        workspace: "/stage/work".into(),
        home: "/stage/home".into(),
        slots: 1,
        timeout: Duration::from_mins(10),
        permissions: Permissions::Standard,
        elsewhere: false,
    };
    AgentSetup { settings, trouble: None }
}

fn outcome(task: &TaskRef, millis: i64) -> Outcome {
    Outcome {
        attempt: 1,
        summary: "The class was evaluated; every point has its source in the notes. ".repeat(8),
        findings: vec!["the roster lacks two names".into()],
        started_at: at(millis - 900),
        usage: Usage { input_tokens: 3_000, output_tokens: 800, ..Usage::default() },
        cost: MicroUsd(50_000),
        cost_source: CostSource::Measured,
        model: Some("sonnet".into()),
        ..Outcome::plain(task.clone(), EndState::Done, Ending::Done, at(millis))
    }
}

/// A room, and everything it was told so far.
struct Story {
    room: State,
    told: Vec<Stamped>,
    millis: i64,
}

impl Story {
    /// Three agents, a worker each.
    fn begin() -> Self {
        let mut story = Self { room: State::default(), told: Vec::new(), millis: 0 };
        story.tell(Event::Opened(Box::new(Opened {
            name: "studio".into(),
            stage: "/stage".into(),
            rehearsal: false,
            version: "0.1.0".into(),
            pid: 1,
            core: 2,
            agents: AGENTS.map(agent).into(),
            orchestrator: Orchestrator { model: "opus".into(), ..Orchestrator::default() },
            max_running: 6,
            attempts: 3,
            caps: podium::model::budget::Caps::default(),
            planning: Planning::default(),
            found: Vec::new(),
            offline: None,
            asking: podium::model::Asking::default(),
            accounts: podium::model::AccountSetup::default(),
        })));
        for (pid, name) in (100..).zip(AGENTS) {
            let slot = SlotId { agent: name.parse().unwrap(), index: 0 };
            story.tell(Event::Worker(WorkerEvent::Connected { slot, pid, running: None }));
        }
        story
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.millis += 7;
        let stamped = Stamped { at: at(self.millis), event };
        self.told.push(stamped.clone());
        self.room.update(stamped)
    }

    fn report(&mut self, slot: &SlotId, report: Report) -> Vec<Effect> {
        self.tell(Event::Worker(WorkerEvent::Reported { slot: slot.clone(), report }))
    }

    /// Puts tasks in; every third waits for the one before it. Returns what workers were told to do.
    fn tasks(&mut self, count: usize) -> Vec<(SlotId, TaskRef)> {
        let mut assigned = Vec::new();
        for n in 0..count {
            let name = format!("{}/task-{n:04}", AGENTS[n % 3]);
            let mut spec = TaskSpec::new(name.parse().unwrap(), format!("Evaluate class {n}, with sources for each."));
            if n % 3 == 2 {
                spec.dependencies.push(format!("{}/task-{:04}", AGENTS[1], n - 1).parse().unwrap());
            }
            let record = Box::new(TaskRecord::new(spec, at(self.millis)));
            assigned.extend(assignments(self.tell(Event::Task(TaskEvent::Changed { record }))));
        }
        assigned
    }

    /// Runs what was assigned, and what follows from it, until `enough` tasks have ended.
    fn work(&mut self, mut assigned: Vec<(SlotId, TaskRef)>, enough: usize) -> Vec<(SlotId, TaskRef)> {
        for _ in 0..enough {
            let Some((slot, task)) = assigned.pop() else { break };
            let attempt = task.attempt(1);
            let log = format!("logs/{}/{}.1.log", task.agent, task.id);
            let started =
                Report::Started { attempt: attempt.clone(), pid: 4_000, session_id: None, log, at: at(self.millis) };
            assigned.extend(assignments(self.report(&slot, started)));
            for step in 0..3 {
                let doing = format!("Write classes/junior-{step}.md");
                let activity = Activity { doing, log_bytes: 4_096 * step, ..Activity::default() };
                assigned.extend(assignments(self.report(&slot, Report::Active { attempt: attempt.clone(), activity })));
            }
            let outcome = outcome(&task, self.millis);
            let mut record = self.room.tasks.get(&task).unwrap().record.clone();
            record.standing = Standing::Ended;
            record.outcome = Some(outcome.clone());
            assigned.extend(assignments(
                self.report(
                    &slot,
                    Report::Ended { outcome: Box::new(outcome), spend: podium::model::Spend::default() },
                ),
            ));
            let changed = TaskEvent::Changed { record: Box::new(record) };
            assigned.extend(assignments(self.tell(Event::Task(changed))));
        }
        assigned
    }
}

fn assignments(effects: Vec<Effect>) -> impl Iterator<Item = (SlotId, TaskRef)> {
    effects
        .into_iter()
        .filter_map(|effect| if let Effect::Assign { slot, task } = effect { Some((slot, task)) } else { None })
}

/// A room in the middle of 1,000 tasks: 600 have ended.
fn midway() -> Story {
    let mut story = Story::begin();
    let assigned = story.tasks(TASKS);
    story.work(assigned, 600);
    assert_eq!(story.room.tasks.counts().done, 600);
    story
}

fn room(bench: &mut Criterion) {
    let mut story = Story::begin();
    let assigned = story.tasks(TASKS);
    story.work(assigned, TASKS);
    assert_eq!(story.room.tasks.counts().done, TASKS);
    let mut group = bench.benchmark_group("room");
    group.sample_size(20).throughput(Throughput::Elements(story.told.len() as u64));
    group.bench_function("update, every event of 1,000 tasks from drop to result", |b| {
        b.iter_batched(
            || story.told.clone(),
            |told| {
                let mut room = State::default();
                for stamped in told {
                    black_box(room.update(stamped));
                }
                room
            },
            BatchSize::LargeInput,
        );
    });
    let half = midway();
    let slot = SlotId { agent: "marie".parse().unwrap(), index: 0 };
    let held = half.room.agents.iter().flat_map(|a| &a.slots).find(|s| s.id == slot).unwrap();
    let task = held.held.as_ref().map_or_else(|| "marie/task-0000".parse().unwrap(), |held| held.task.clone());
    let activity = Activity { doing: "thinking".into(), ..Activity::default() };
    let report = Report::Active { attempt: task.attempt(1), activity };
    let active = Stamped { at: at(9_000_000), event: Event::Worker(WorkerEvent::Reported { slot, report }) };
    group.throughput(Throughput::Elements(1));
    let mut room = half.room.clone();
    group.bench_function("update, one report among 1,000 tasks", |b| {
        b.iter_batched(|| active.clone(), |active| black_box(room.update(active)), BatchSize::SmallInput);
    });
    group.finish();
}

fn attach(bench: &mut Criterion) {
    let room = midway().room;
    let lines = wire::snapshot_lines(&room).unwrap();
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    let mut group = bench.benchmark_group("attach");
    group.sample_size(30).throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("snapshot of 1,000 tasks, written", |b| b.iter(|| wire::snapshot_lines(black_box(&room))));
    group.bench_function("snapshot of 1,000 tasks, read", |b| {
        b.iter(|| {
            let mut room = State::default();
            for line in black_box(&lines) {
                match serde_json::from_str::<Tell>(line).unwrap() {
                    Tell::Snapshot(state) => room = *state,
                    Tell::Tasks(piece) => room.add(piece),
                    Tell::Whole => room.rebuild(),
                    Tell::Event(_) | Tell::Answer(..) | Tell::Beat | Tell::Bye(_) => {}
                }
            }
            room
        });
    });
    group.finish();
}

fn screen(bench: &mut Criterion) {
    let room = midway().room;
    let mut many = Story::begin();
    many.tasks(100_000);
    let mut app = App::new(tui::Settings::default());
    app.resize(120, 40);
    let _nothing_to_read = app.observe(&room);
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    let mut draw = |room: &State| terminal.draw(|frame| tui::draw(room, &app, at(9_000_000), frame)).unwrap().count;
    let mut group = bench.benchmark_group("tui");
    group.bench_function("draw, 120x40, 1,000 tasks", |b| b.iter(|| draw(&room)));
    group.bench_function("draw, 120x40, 100,000 tasks that wait", |b| b.iter(|| draw(&many.room)));
    let mut n = 0;
    group.bench_function("one task of 100,000 that wait changes, and draw", |b| {
        b.iter(|| {
            n = (n + 7_919) % 100_000;
            let task = format!("{}/task-{n:04}", AGENTS[n % 3]).parse().unwrap();
            let record = Box::new(many.room.tasks.get(&task).unwrap().record.clone());
            many.tell(Event::Task(TaskEvent::Changed { record }));
            draw(&many.room)
        });
    });
    group.finish();
}

/// A transcript of the real CLI, repeated to about a megabyte.
fn transcript() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/claude/2.1.330/agents_parallel.jsonl");
    let once = fs::read(path).unwrap();
    once.repeat(1_000_000 / once.len() + 1)
}

fn decode(bench: &mut Criterion) {
    let log = transcript();
    let mut group = bench.benchmark_group("decode");
    group.sample_size(30).throughput(Throughput::Bytes(log.len() as u64));
    group.bench_function("stream-json of the CLI, 64 KiB at a time", |b| {
        b.iter(|| {
            let mut decoder = claude::Decoder::default();
            log.chunks(65_536).map(|chunk| black_box(decoder.feed(chunk)).len()).sum::<usize>()
        });
    });
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a few words "}}"#;
    let stream = format!("event: content_block_delta\ndata: {delta}\n\n").repeat(8_000).into_bytes();
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("server-sent events, 1,400 bytes at a time", |b| {
        b.iter(|| {
            let mut decoder = sse::Decoder::new();
            stream.chunks(1_400).map(|chunk| black_box(decoder.push(chunk).unwrap()).len()).sum::<usize>()
        });
    });
    group.finish();
}

/// A plan as a planner would answer it: without what podium and operators add.
fn answer_of(mut plan: serde_json::Value) -> String {
    for name in ["revision", "model", "spend", "validator"] {
        plan.as_object_mut().unwrap().remove(name);
    }
    for task in plan["tasks"].as_array_mut().unwrap() {
        for name in ["model", "priority", "timeout"] {
            task.as_object_mut().unwrap().remove(name);
        }
        task["effort"] = "medium".into();
        task["model_tier"] = "standard".into();
    }
    plan.to_string()
}

fn plans(bench: &mut Criterion) {
    let task = |n: usize| PlanTask {
        id: format!("task-{n}"),
        worker: AGENTS[n % 3].to_owned(),
        title: format!("Part {n}"),
        objective: "Use what lies in the workspace, change nothing else, and say what is missing. ".repeat(20),
        dependencies: (n.saturating_sub(3)..n).filter(|_| n.is_multiple_of(3)).map(|d| format!("task-{d}")).collect(),
        done_when: vec!["the file is there and names its sources".into(); 3],
        estimates: Estimates::minutes(3.0),
        ..PlanTask::default()
    };
    let tasks: Vec<PlanTask> = (0..plan::CAP).map(task).collect();
    let made = Plan { summary: "All of it.".into(), tasks, model: "opus".into(), ..Plan::default() };
    let rules = plan::Rules::new(AGENTS.map(|name| name.parse::<AgentName>().unwrap()));
    let bad: Vec<_> = plan::check(&made, &rules).into_iter().filter(|f| f.severity == Severity::Repair).collect();
    assert!(bad.is_empty(), "{bad:?}");
    let answer = serde_json::to_value(&made).map(answer_of).unwrap();
    let mut group = bench.benchmark_group("plan");
    group.bench_function("read, 12 tasks", |b| {
        b.iter(|| plan::read(black_box(&answer), 1, "opus", Spend::default()));
    });
    group.bench_function("check, 12 tasks", |b| b.iter(|| plan::check(black_box(&made), &rules)));
    group.finish();
}

fn queue(bench: &mut Criterion) {
    let stage = tempfile::tempdir().unwrap();
    let agents = AGENTS.map(|name| name.parse().unwrap()).to_vec();
    let clock = Clock::fixed(at(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let queue = FileQueue::open(Settings::new(stage.path(), agents, clock)).unwrap();
    let mut count = 0;
    let mut fresh = || {
        count += 1;
        format!("marie/t{count}").parse::<TaskRef>().unwrap()
    };
    let submit = async |task: &TaskRef| {
        let spec = TaskSpec::new(task.clone(), "Evaluate the juniors.");
        assert_eq!(queue.submit(spec).await.unwrap(), Submitted::New);
    };
    let claim = async |task: &TaskRef| match queue.claim(task).await.unwrap() {
        Claimed::Won(claim) => *claim,
        Claimed::Missed(why) => unreachable!("{why}"),
    };
    let finish = async |task: &TaskRef, claim: podium::queue::Claim<_>| {
        assert_eq!(queue.finish(claim.lease, outcome(task, 900)).await.unwrap(), Finished::Committed);
    };
    let mut group = bench.benchmark_group("file queue");
    group.sample_size(20).throughput(Throughput::Elements(1));
    group.bench_function("submit", |b| {
        b.iter_batched(&mut fresh, |task| runtime.block_on(submit(&task)), BatchSize::SmallInput);
    });
    group.bench_function("claim", |b| {
        b.iter_batched(
            || {
                let task = fresh();
                runtime.block_on(submit(&task));
                task
            },
            |task| runtime.block_on(claim(&task)),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("finish", |b| {
        b.iter_batched(
            || {
                let task = fresh();
                runtime.block_on(submit(&task));
                let claim = runtime.block_on(claim(&task));
                (task, claim)
            },
            |(task, claim)| runtime.block_on(finish(&task, claim)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default().without_plots();
    targets = room, attach, screen, decode, plans, queue
}
criterion_main!(all);
