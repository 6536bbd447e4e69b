//! Random graphs of tasks as plans have them, run through a real room in virtual time.
//!
//! The generator is that of the design: round(√n) layers, an edge to the next layer with the given chance and to layers
//! further on with a quarter of it, agents drawn 3 : 4 : 3, minutes log-normal (μ 1.2, σ 0.7) of at most 40; what the room has
//! learned of each task is its true time times log-normal (0, 0.6). The seed is fixed, the numbers are the same everywhere.

use std::{
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use podium::{
    model::{
        AccountSetup, AgentSettings, Approval, CostSource, EndState, Ending, EngineKind, GoalPhase, Outcome,
        OutputKind, Permissions, Plan, PlanTask, Report, SlotId, Spend, Standing, TaskRecord, TaskRef, TaskSpec,
        budget::Caps,
    },
    orchestrator::{bound, learned::ENOUGH, schedule},
    room::{
        Effect, Event, GoalEvent, Opened, Order, OrderId, Stamped, State, TaskEvent, WorkerEvent,
        event::{AgentSetup, Orchestrator, Planning},
    },
};

/// The agents that tasks are drawn for.
pub(crate) const AGENTS: [&str; 3] = ["marie", "anga", "fabien"];

/// Numbers by chance: splitmix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// e to a normal number with this mean and deviation (Box and Muller).
    fn log_normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        (mean + deviation * radius * (std::f64::consts::TAU * self.unit()).cos()).exp()
    }
}

/// One size of graphs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Tasks.
    pub(crate) tasks: usize,
    /// Places per agent.
    pub(crate) slots: u32,
    /// The chance of an edge to the next layer.
    pub(crate) density: f64,
}

/// All twelve: three sizes, one or two places, sparse and dense.
pub(crate) fn shapes() -> impl Iterator<Item = Shape> {
    [1, 2].into_iter().flat_map(|slots| {
        [6, 12, 24].into_iter().flat_map(move |tasks| [0.25, 0.6].map(|density| Shape { tasks, slots, density }))
    })
}

/// A plan, what its tasks really take in minutes, and what the room thinks that they take.
pub(crate) struct Sample {
    pub(crate) plan: Plan,
    pub(crate) minutes: Vec<f64>,
    pub(crate) estimates: Vec<f64>,
}

/// Draws one.
pub(crate) fn sample(shape: Shape, chance: &mut Chance) -> Sample {
    let n = shape.tasks;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of layers")]
    let layers = ((n as f64).sqrt().round() as usize).max(1);
    let layer = |i: usize| i * layers / n;
    let mut tasks = Vec::with_capacity(n);
    let (mut minutes, mut estimates) = (Vec::new(), Vec::new());
    for i in 0..n {
        let agent = match chance.unit() {
            x if x < 0.3 => 0,
            x if x < 0.7 => 1,
            _ => 2,
        };
        let mut dependencies = Vec::new();
        for before in 0..i {
            let likely = match layer(i) - layer(before) {
                0 => 0.0,
                1 => shape.density,
                _ => shape.density / 4.0,
            };
            if chance.unit() < likely {
                dependencies.push(format!("t{before}"));
            }
        }
        minutes.push(chance.log_normal(1.2, 0.7).min(40.0));
        estimates.push(minutes[i] * chance.log_normal(0.0, 0.6));
        tasks.push(PlanTask {
            id: format!("t{i}"),
            worker: AGENTS[agent].to_owned(),
            title: format!("Part {i}"),
            objective: format!("Make part {i}."),
            dependencies,
            done_when: vec!["it is there".into()],
            // A model of its own, so that what was learned of it is its own.
            model: Some(format!("model-{i}")),
            ..PlanTask::default()
        });
    }
    Sample { plan: Plan { tasks, ..Plan::default() }, minutes, estimates }
}

fn agent(name: &str, slots: u32) -> AgentSetup {
    let settings = AgentSettings {
        name: name.parse().unwrap(),
        role: "role".into(),
        engine: EngineKind::Messages,
        command: Vec::new(),
        output: OutputKind::Text,
        model: "sonnet".into(),
        subagent_model: None,
        subagents: podium::model::SubagentCaps::default(),
        prompt: "prompt.md".into(),
        workspace: "work".into(),
        home: "home".into(),
        slots,
        timeout: Duration::from_hours(1),
        permissions: Permissions::Standard,
        elsewhere: false,
    };
    AgentSetup { settings, trouble: None }
}

fn outcome(task: &TaskRef, started_at: Timestamp, completed_at: Timestamp) -> Outcome {
    Outcome {
        attempt: 1,
        started_at,
        cost_source: CostSource::Measured,
        ..Outcome::plain(task.clone(), EndState::Done, Ending::Done, completed_at)
    }
}

fn minutes(of: f64) -> SignedDuration {
    SignedDuration::from_secs_f64(of * 60.0)
}

/// A room in virtual time.
struct Stage {
    room: State,
    start: Timestamp,
    now: Timestamp,
    /// What runs: when it ends (earliest on top), its number and its slot.
    running: BinaryHeap<std::cmp::Reverse<(Timestamp, usize)>>,
    held: BTreeMap<usize, SlotId>,
    started: BTreeMap<usize, Timestamp>,
}

impl Stage {
    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.room.update(Stamped { at: self.now, event })
    }

    fn assigned(&mut self, effects: Vec<Effect>, sample: &Sample) {
        for effect in effects {
            let Effect::Assign { slot, task } = effect else { continue };
            let i: usize = task.id.as_str().strip_prefix("g1-t").and_then(|n| n.parse().ok()).unwrap();
            let attempt = task.attempt(1);
            let report = Report::Started { attempt, pid: 9, session_id: None, log: "x.log".into(), at: self.now };
            self.tell(Event::Worker(WorkerEvent::Reported { slot: slot.clone(), report }));
            self.running.push(std::cmp::Reverse((self.now + minutes(sample.minutes[i]), i)));
            self.held.insert(i, slot);
            self.started.insert(i, self.now);
        }
    }
}

/// Runs a plan through a room as it is, from its approval to its last result; when each task began, in minutes.
pub(crate) fn run(sample: &Sample, slots: u32) -> Vec<f64> {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    // A plan of any size, as it stands when it waits for its approval.
    let goal = serde_json::json!({
        "id": "g1", "text": "All of it.", "submitted_at": start, "approval": Approval::Ask,
        "phase": GoalPhase::AwaitingApproval, "plan": sample.plan, "faults": [], "tasks": [], "published": false,
        "approved_at": null, "report": null, "ended_at": null,
    });
    let goals = serde_json::json!({ "all": { "1": goal } });
    let room = State { goals: serde_json::from_value(goals).unwrap(), ..State::default() };
    let mut stage =
        Stage { room, start, now: start, running: BinaryHeap::new(), held: BTreeMap::new(), started: BTreeMap::new() };
    stage.tell(Event::Opened(Box::new(Opened {
        name: "studio".into(),
        stage: "/stage".into(),
        rehearsal: false,
        version: "0".into(),
        pid: 1,
        core: 2,
        agents: AGENTS.map(|name| agent(name, slots)).into(),
        orchestrator: Orchestrator { model: "opus".into(), ..Orchestrator::default() },
        max_running: slots * 3,
        attempts: 3,
        caps: Caps::default(),
        found: Vec::new(),
        accounts: AccountSetup::default(),
        offline: None,
        asking: podium::model::Asking::default(),
        planning: Planning::default(),
    })));
    for (name, index) in AGENTS.iter().flat_map(|name| (0..slots).map(move |index| (name, index))) {
        let slot = SlotId { agent: name.parse().unwrap(), index };
        stage.tell(Event::Worker(WorkerEvent::Connected { slot, pid: 100, running: None }));
    }
    for (task, estimate) in sample.plan.tasks.iter().zip(&sample.estimates) {
        for n in 0..ENOUGH {
            let mut spec = TaskSpec::new(format!("{}/before-{}-{n}", task.worker, task.id).parse().unwrap(), "x");
            spec.model.clone_from(&task.model);
            let outcome = outcome(&spec.task, start - minutes(*estimate), start);
            let past = podium::model::Past::new(&spec, start, &outcome);
            stage.tell(Event::Task(TaskEvent::Found { tasks: vec![(spec.task, past)], unread: 0 }));
        }
    }
    let effects = stage
        .tell(Event::Ordered { id: OrderId(1), order: Order::Approve { goal: "g1".parse().unwrap(), ceiling: None } });
    let published =
        effects.into_iter().find_map(|e| if let Effect::Publish { tasks, .. } = e { Some(tasks) } else { None });
    // All of a plan is there before anything of it starts, as it is where one batch is published.
    for name in AGENTS {
        let order = Order::Pause { agent: name.parse().unwrap() };
        stage.tell(Event::Ordered { id: OrderId(2), order });
    }
    for spec in published.unwrap() {
        let record = Box::new(TaskRecord::new(spec, stage.now));
        stage.tell(Event::Task(TaskEvent::Changed { record }));
    }
    stage.tell(Event::Goal(GoalEvent::Published { id: "g1".parse().unwrap() }));
    for name in AGENTS {
        let order = Order::Resume { agent: name.parse().unwrap() };
        let effects = stage.tell(Event::Ordered { id: OrderId(3), order });
        stage.assigned(effects, sample);
    }
    while let Some(std::cmp::Reverse((at, i))) = stage.running.pop() {
        stage.now = at;
        let slot = stage.held.remove(&i).unwrap();
        let task: TaskRef = format!("{}/g1-t{i}", slot.agent).parse().unwrap();
        let outcome = outcome(&task, stage.started[&i], at);
        let mut record = stage.room.tasks.get(&task).unwrap().record.clone();
        record.standing = Standing::Ended;
        record.outcome = Some(outcome.clone());
        let report = Report::Ended { outcome: Box::new(outcome), spend: Spend::default() };
        let effects = stage.tell(Event::Worker(WorkerEvent::Reported { slot, report }));
        stage.assigned(effects, sample);
    }
    let began = |i: usize| stage.started[&i].duration_since(stage.start).as_secs_f64() / 60.0;
    (0..sample.plan.tasks.len()).map(began).collect()
}

/// What the room took over what no order could have beaten.
pub(crate) fn ratio(shape: Shape, sample: &Sample) -> f64 {
    let graph = schedule::graph(&sample.plan).unwrap();
    let slots = AGENTS.iter().map(|name| ((*name).to_owned(), shape.slots)).collect();
    let places = schedule::places(&sample.plan, &slots, shape.slots * 3);
    let starts = run(sample, shape.slots);
    bound::makespan(&starts, &sample.minutes) / bound::lower_bound(&graph, &sample.minutes, &places)
}

/// Mean and 95th percentile.
pub(crate) fn spread(ratios: &mut [f64]) -> (f64, f64) {
    ratios.sort_unstable_by(f64::total_cmp);
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    (mean, ratios[ratios.len() * 95 / 100])
}
