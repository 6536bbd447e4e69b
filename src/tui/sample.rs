//! Rooms for the tests of the screen, built from events as a real one is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{
        AccountSettings, Activity, AgentName, AgentSettings, Artifact, CostSource, Credential, Dependency, EndState,
        Ending, EngineKind, GoalEnd, GoalId, MicroUsd, Outcome, OutputKind, Permissions, Rejected, Report, SlotId,
        Spend, Standing, TaskRecord, TaskRef, TaskSpec, Usage,
        budget::Caps,
        gateway::{Call, CallEnd, Caller, Dimension, Drift, Level, Levels},
        limit::{LimitKind, LimitNews, LimitSource, OwnLimit, Window, WindowName, WindowStatus, Windows},
    },
    room::{
        Effect, Event, GatewayEvent, GoalEvent, Money, Opened, Order, OrderId, Stamped, State, TaskEvent, WorkerEvent,
        event::{AgentSetup, Orchestrator, Planning},
    },
};

/// Half past one on an afternoon, plus some seconds.
pub(crate) fn at(seconds: i64) -> Timestamp {
    "2026-11-22T13:30:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) fn agent(name: &str, slots: u32) -> AgentSettings {
    AgentSettings {
        name: name.parse().unwrap(),
        role: format!("what {name} is for"),
        engine: EngineKind::Messages,
        command: Vec::new(),
        output: OutputKind::Text,
        model: if name == "anga" { "sonnet".into() } else { "haiku".into() },
        subagent_model: None,
        subagents: crate::model::SubagentCaps::default(),
        prompt: format!("/stage/prompts/{name}.md").into(),
        workspace: format!("/stage/work/{name}").into(),
        home: format!("/stage/home/{name}").into(),
        slots,
        timeout: Duration::from_mins(20),
        permissions: Permissions::Standard,
        elsewhere: false,
    }
}

pub(crate) fn opened(agents: Vec<AgentSetup>) -> Opened {
    Opened {
        name: "recital-studio".into(),
        stage: "/stage".into(),
        rehearsal: true,
        version: "0.1.0".into(),
        pid: 4242,
        core: 4243,
        agents,
        orchestrator: Orchestrator { model: "sonnet".into(), ..Orchestrator::default() },
        max_running: 4,
        attempts: 3,
        caps: Caps { day: Some(MicroUsd(5_000_000)), ..Caps::default() },
        planning: Planning::default(),
        found: Vec::new(),
        offline: None,
        asking: crate::model::Asking::default(),
        accounts: crate::model::AccountSetup::default(),
    }
}

/// A room and the hands that tell it what happens.
pub(crate) struct Stage {
    pub(crate) state: State,
}

impl Stage {
    /// Opened, its workers connected.
    pub(crate) fn open() -> Self {
        let agents = [("marie", 1), ("anga", 2), ("fabien", 1)];
        let setups = agents.iter().map(|(n, s)| AgentSetup { settings: agent(n, *s), trouble: None }).collect();
        let mut stage = Self { state: State::default() };
        stage.tell(0, Event::Opened(Box::new(opened(setups))));
        stage.connect();
        stage
    }

    /// Its workers say hello.
    fn connect(&mut self) {
        for (n, name) in (0..).zip(self.state.agents.names()) {
            for index in 0..self.state.agents.get(&name).unwrap().settings.slots {
                let slot = SlotId { agent: name.clone(), index };
                let pid = 5000 + 10 * n + index;
                self.tell(1, Event::Worker(WorkerEvent::Connected { slot, pid, running: None }));
            }
        }
    }

    pub(crate) fn tell(&mut self, seconds: i64, event: Event) {
        for effect in self.state.update(Stamped { at: at(seconds), event }) {
            if let Effect::Keep { fact } = effect {
                self.tell(seconds, *fact);
            }
        }
    }

    pub(crate) fn order(&mut self, seconds: i64, order: Order) {
        self.tell(seconds, Event::Ordered { id: OrderId(1), order });
    }

    /// A task appears.
    pub(crate) fn task(&mut self, seconds: i64, name: &str, text: &str, after: &[&str]) {
        let mut spec = TaskSpec::new(name.parse().unwrap(), text);
        spec.dependencies = after.iter().map(|d| d.parse::<Dependency>().unwrap()).collect();
        let record = Box::new(TaskRecord::new(spec, at(seconds)));
        self.tell(seconds, Event::Task(TaskEvent::Changed { record }));
    }

    /// The worker that was given a task starts it and does something.
    pub(crate) fn start(&mut self, seconds: i64, name: &str, doing: &str) {
        let task: TaskRef = name.parse().unwrap();
        let slot = self.state.agents.holder(&task).expect("assigned").id.clone();
        let attempt = task.attempt(self.state.tasks.get(&task).unwrap().record.last_attempt() + 1);
        let log = format!("log/{}/{}/{}/out.log", task.agent, task.id, attempt.n);
        let report = Report::Started { attempt: attempt.clone(), pid: 6001, session_id: None, log, at: at(seconds) };
        self.tell(seconds, Event::Worker(WorkerEvent::Reported { slot: slot.clone(), report }));
        let activity = Activity {
            doing: doing.into(),
            subagents: Vec::new(),
            spend: spend(14_000, 900, 61_000),
            rss_bytes: 210_000_000,
            cpu_percent: 4.0,
            log_bytes: 41_234,
            stalls_at: None,
            retrying: None,
        };
        let report = Report::Active { attempt, activity };
        self.tell(seconds, Event::Worker(WorkerEvent::Reported { slot, report }));
    }

    /// Its attempt fails and is tried again later.
    pub(crate) fn fail(&mut self, seconds: i64, name: &str, ending: Ending, wait: i64) {
        let task: TaskRef = name.parse().unwrap();
        let slot = self.state.agents.holder(&task).expect("held").id.clone();
        let attempt = task.attempt(self.state.tasks.get(&task).unwrap().record.last_attempt());
        let report = Report::Failed {
            attempt,
            ending,
            spend: spend(2_000, 100, 20_000),
            not_before: at(seconds + wait),
            at: at(seconds),
        };
        self.tell(seconds, Event::Worker(WorkerEvent::Reported { slot, report }));
    }

    /// It ends.
    pub(crate) fn end(&mut self, seconds: i64, name: &str, state: EndState, ending: Ending, summary: &str) {
        let task: TaskRef = name.parse().unwrap();
        let slot = self.state.agents.holder(&task).expect("held").id.clone();
        let n = self.state.tasks.get(&task).unwrap().record.last_attempt();
        let outcome = Box::new(outcome(&task, n, seconds, state, ending, summary));
        self.tell(
            seconds,
            Event::Worker(WorkerEvent::Reported { slot, report: Report::Ended { outcome, spend: Spend::default() } }),
        );
    }

    /// Puts fields into the first goal. Whether a model's answer is a plan, and which tasks come of it, is the
    /// orchestrator's matter and tested there.
    pub(crate) fn patch(&mut self, fields: &serde_json::Value) {
        let mut room = serde_json::to_value(&self.state).unwrap();
        let goal = room["goals"]["all"]["1"].as_object_mut().unwrap();
        goal.extend(fields.as_object().unwrap().clone());
        // Tasks travel apart from the rest.
        let tasks = std::mem::take(&mut self.state.tasks);
        self.state = serde_json::from_value(room).unwrap();
        self.state.tasks = tasks;
        self.state.rebuild();
    }

    pub(crate) fn call(&mut self, seconds: i64, caller: Caller, model: &str, cost: f64) {
        let call = Call {
            millis: 900,
            model: model.into(),
            end: CallEnd::Complete,
            usage: spend(3_000, 800, 9_000).usage,
            cost: MicroUsd::from_dollars(cost),
            ..Call::new(format!("c{seconds}"), at(seconds), caller)
        };
        self.tell(seconds, Event::Gateway(GatewayEvent::Called { call: Box::new(call), appraisal: None }));
    }
}

fn spend(input: u64, output: u64, cached: u64) -> Spend {
    let usage =
        Usage { input_tokens: input, output_tokens: output, cache_read_input_tokens: cached, ..Usage::default() };
    Spend { usage, cost: MicroUsd::from_dollars(0.06), calls: 3, ..Spend::default() }
}

pub(crate) fn outcome(task: &TaskRef, n: u32, seconds: i64, state: EndState, ending: Ending, summary: &str) -> Outcome {
    Outcome {
        attempt: n,
        summary: summary.into(),
        artifacts: if state == EndState::Done {
            vec![Artifact { path: "work/notes/evaluation.md".into(), bytes: 4_211, sha256: "0".repeat(64), kept: None }]
        } else {
            Vec::new()
        },
        started_at: at(seconds - 58),
        cost: MicroUsd::from_dollars(0.05),
        cost_source: CostSource::Measured,
        model: Some("haiku".into()),
        ..Outcome::plain(task.clone(), state, ending, at(seconds))
    }
}

fn level(group: &str, dimension: Dimension, limit: u64, level: u64, seen: Option<i64>) -> Level {
    let server = seen.map(|s| (level, at(s)));
    Level {
        group: group.into(),
        dimension,
        limit,
        burst: limit,
        level,
        reserved: 0,
        server,
        learned: seen.is_some(),
        own: None,
        cause: None,
        blocked_until: None,
    }
}

/// A room in the middle of its work: something of every kind.
pub(crate) fn running() -> Stage {
    let mut stage = Stage::open();
    fill(&mut stage);
    stage
}

/// The same with marie's work on another machine.
pub(crate) fn elsewhere() -> Stage {
    let mut stage = Stage { state: State::default() };
    let setups =
        [("marie", 1), ("anga", 2), ("fabien", 1)].map(|(n, s)| AgentSetup { settings: agent(n, s), trouble: None });
    let mut opened = opened(setups.into());
    opened.agents[0].settings.elsewhere = true;
    stage.tell(0, Event::Opened(Box::new(opened)));
    stage.connect();
    fill(&mut stage);
    stage
}

fn fill(stage: &mut Stage) {
    let goal = "Evaluate the hip-hop class, fix the sign-up page and announce recital week.";
    stage.order(
        2,
        Order::Goal { text: goal.into(), approval: crate::model::Approval::Ask, terms: crate::model::Terms::default() },
    );
    let goal: GoalId = "g1".parse().unwrap();
    stage.task(4, "marie/eval-mini", "Write down how the minis did", &[]);
    stage.start(5, "marie/eval-mini", "thinking");
    stage.task(6, "fabien/post-teaser", "Post the teaser", &[]);
    stage.start(7, "fabien/post-teaser", "thinking");
    stage.end(63, "marie/eval-mini", EndState::Done, Ending::Done, "Total 87 of 100.\nMore in the notes.");
    let ending = Ending::ExitCode { code: 1, message: "image not found".into() };
    stage.end(65, "fabien/post-teaser", EndState::Failed, ending, "");
    stage.task(70, "marie/eval-junior", "Write down how the juniors did\n\nUse last term's notes.", &[]);
    stage.start(71, "marie/eval-junior", "Write evaluations/junior.md");
    stage.task(72, "marie/eval-senior", "Write down how the seniors did", &[]);
    stage.task(73, "anga/api-tests", "Test the sign-up page", &[]);
    stage.start(74, "anga/api-tests", "Bash cargo test");
    stage.task(75, "anga/api-docs", "Describe the sign-up page", &[]);
    stage.start(76, "anga/api-docs", "thinking");
    stage.fail(90, "anga/api-docs", Ending::Transient { message: "overloaded (529)".into() }, 60);
    stage.task(91, "fabien/announce", "Announce the week", &["marie/eval-junior", "marie/eval-senior"]);
    stage.task(92, "fabien/newsletter", "Write the newsletter", &["announce"]);
    stage.task(93, "fabien/post-dates", "Post the dates", &[]);
    stage.start(94, "fabien/post-dates", "thinking");
    let until = Some(at(2_400));
    stage.fail(96, "fabien/post-dates", Ending::Limit { message: "5 h window".into(), until }, 2_304);
    let path = "tasks/anga/broken.json".to_owned();
    let reason = "line 3, column 9: expected a comma".to_owned();
    stage.tell(
        97,
        Event::Task(TaskEvent::Rejected {
            rejected: Rejected { path, reason, at: at(97), moved: true, duplicate: false },
        }),
    );
    for (n, (name, model)) in [("marie", "haiku"), ("anga", "sonnet"), ("fabien", "haiku")].iter().enumerate() {
        let caller = Caller::Worker { agent: name.parse::<AgentName>().unwrap(), attempt: None };
        stage.call(100 + i64::try_from(n).unwrap(), caller, model, 0.13);
    }
    stage.call(104, Caller::Orchestrator { goal: Some(goal) }, "sonnet", 0.02);
    let buckets = vec![
        level("haiku", Dimension::Requests, 50, 44, Some(105)),
        level("haiku", Dimension::Input, 50_000, 25_500, Some(105)),
        level("haiku", Dimension::Output, 10_000, 7_400, Some(105)),
        level("sonnet", Dimension::Requests, 50, 49, Some(60)),
        level("sonnet", Dimension::Input, 30_000, 1_800, None),
        level("sonnet", Dimension::Output, 8_000, 1_500, None),
    ];
    let levels = Levels { buckets, in_flight: 2, queued: 1, throttled: 1, at: Some(at(105)), ..Levels::default() };
    stage.tell(105, Event::Gateway(GatewayEvent::Levels { levels }));
    let tasks: Vec<_> = stage.state.tasks.iter().map(|t| t.record.task().to_string()).collect();
    stage.patch(&serde_json::json!({
        "phase": { "phase": "running" }, "published": true, "approved_at": at(4), "tasks": tasks,
    }));
}

/// What the engine of this agent's task tells of its account.
pub(crate) fn limited(stage: &mut Stage, seconds: i64, name: &str, used: [u32; 2], resets: [i64; 2], rejected: bool) {
    let task: TaskRef = name.parse().unwrap();
    let status = if rejected { WindowStatus::Rejected } else { WindowStatus::Allowed };
    let window =
        |used, resets, status| Some(Window { used: Some(used), resets_at: Some(at(resets)), status: Some(status) });
    let windows = Windows {
        status: Some(status),
        claim: Some(WindowName::FiveHour),
        resets_at: Some(at(resets[0])),
        five_hour: window(used[0], resets[0], status),
        seven_day: window(used[1], resets[1], WindowStatus::Allowed),
        at: Some(at(seconds)),
    };
    let news = rejected.then(|| {
        Box::new(LimitNews {
            account: String::new(),
            group: None,
            kind: LimitKind::Window(WindowName::FiveHour),
            until: Some(at(resets[0])),
            estimated: false,
            source: LimitSource::Engine,
            message: "You've hit your limit".into(),
            at: at(seconds),
        })
    });
    let slot = SlotId { agent: task.agent.clone(), index: 0 };
    let report = Report::Limited { attempt: task.attempt(1), windows: Some(Box::new(windows)), news };
    stage.tell(seconds, Event::Worker(WorkerEvent::Reported { slot, report }));
}

/// The running room with accounts of every kind: a key, a login whose window is used up and whose reset has moved, and
/// one whose login is refused.
pub(crate) fn accounts() -> Stage {
    let account = |name: &str, credential, agent: &str| AccountSettings {
        name: name.parse().unwrap(),
        credential,
        agents: vec![agent.parse().unwrap()],
        label: None,
    };
    let mut stage = Stage { state: State::default() };
    let setups =
        [("marie", 1), ("anga", 2), ("fabien", 1)].map(|(n, s)| AgentSetup { settings: agent(n, s), trouble: None });
    let mut opened = opened(setups.into());
    opened.rehearsal = false;
    opened.accounts.accounts = vec![
        account("marie-login", Credential::Login, "marie"),
        account("ANTHROPIC_API_KEY", Credential::Key, "anga"),
        account("fabien-login", Credential::Login, "fabien"),
    ];
    opened.accounts.notes = vec![
        "marie and fabien carry the same login, copied: the first of them that renews it locks the other one out: \
         `podium auth fabien` gives it its own"
            .into(),
    ];
    stage.tell(0, Event::Opened(Box::new(opened)));
    stage.connect();
    let days = [("2026-11-20", 3.104), ("2026-11-21", 1.27)];
    let spent = |cost| Spend { cost: MicroUsd::from_dollars(cost), calls: 212, ..spend(90_000, 24_000, 700_000) };
    let mut money = Money::default();
    money.days = days.map(|(day, cost)| (day.parse().unwrap(), spent(cost))).into();
    stage.tell(1, Event::Gateway(GatewayEvent::Folded { money: Box::new(money) }));
    fill(&mut stage);
    // The operator keeps room for others on the same key.
    let own = |requests, input| OwnLimit { requests, input, output: None };
    stage.order(105, Order::Limit { group: "sonnet".into(), own: own(None, Some(30_000)) });
    stage.order(105, Order::Limit { group: "fable".into(), own: own(Some(30), None) });
    stage.state.levels.buckets[4].own = Some(30_000);
    let drift = Drift {
        attempt: "marie/eval-mini".parse::<TaskRef>().unwrap().attempt(1),
        gateway: spend(3_000, 800, 9_000),
        engine: Spend { cost: MicroUsd::from_dollars(0.09), ..spend(3_000, 800, 9_000) },
    };
    stage.state.money.drifts.push_back(drift);
    limited(&mut stage, 106, "marie/eval-junior", [580, 305], [9_000, 250_000], false);
    limited(&mut stage, 107, "fabien/post-dates", [1_000, 920], [2_400, 300_000], true);
    limited(&mut stage, 111, "fabien/post-dates", [1_000, 920], [4_200, 300_000], true);
    stage
}

/// A room with a plan that waits for a yes.
pub(crate) fn planned() -> Stage {
    let mut stage = Stage::open();
    let text = "Evaluate the hip-hop class, fix the sign-up page and announce recital week.";
    stage.order(
        2,
        Order::Goal { text: text.into(), approval: crate::model::Approval::Ask, terms: crate::model::Terms::default() },
    );
    let task = |id: &str, worker: &str, title: &str, after: &[&str], minutes: f64| {
        serde_json::json!({
            "id": id, "worker": worker, "title": title, "minutes": minutes, "dependencies": after,
            "description": format!("{title}. Use what lies in the workspace, change nothing else, and say what is missing."),
            "done_when": ["the file is there and names its sources"],
        })
    };
    stage.patch(&serde_json::json!({ "phase": { "phase": "awaiting_approval" }, "plan": {
        "revision": 1,
        "summary": "Three evaluations and the page fix run side by side; the announcement waits for both.",
        "model": "sonnet",
        "spend": spend(2_000, 700, 0),
        "tasks": [
            task("eval-mini", "marie", "Evaluate the minis", &[], 3.0),
            task("eval-junior", "marie", "Evaluate the juniors", &[], 4.0),
            task("api-tests", "anga", "Test the sign-up page", &[], 6.0),
            task("api-fix", "anga", "Mend the sign-up page", &["api-tests"], 8.0),
            task("announce", "fabien", "Announce the week", &["eval-mini", "eval-junior", "api-fix"], 3.0),
        ],
    }}));
    stage
}

/// A goal that is over, its report written.
pub(crate) fn reported() -> Stage {
    let mut stage = planned();
    let tasks =
        ["marie/g1-eval-mini", "marie/g1-eval-junior", "anga/g1-api-tests", "anga/g1-api-fix", "fabien/g1-announce"];
    let fields = |phase: &str| serde_json::json!({ "phase": { "phase": phase }, "published": true, "approved_at": at(20), "tasks": tasks });
    stage.patch(&fields("running"));
    for (n, name) in tasks.into_iter().enumerate() {
        let n = 21 + i64::try_from(n).unwrap() * 8;
        stage.task(n, name, "Do your part", &[]);
        stage.start(n + 1, name, "thinking");
        stage.end(n + 7, name, EndState::Done, Ending::Done, "Well.");
    }
    stage.patch(&fields("synthesising"));
    stage.tell(
        90,
        Event::Goal(GoalEvent::Reported {
            id: "g1".parse().unwrap(),
            path: "results/goals/g1.md".into(),
            end: GoalEnd::Done,
            opening: "The week is announced; all three classes are evaluated.".into(),
            done: 5,
            plain: None,
            spend: Spend::default(),
        }),
    );
    stage
}

/// A thousand tasks.
pub(crate) fn thousand() -> Stage {
    let mut stage = Stage::open();
    for n in 0..1_000 {
        let agent = ["marie", "anga", "fabien"][n % 3];
        let record = {
            let mut record = TaskRecord::new(
                TaskSpec::new(format!("{agent}/task-{n:04}").parse().unwrap(), format!("Number {n}")),
                at(i64::try_from(n).unwrap() / 50),
            );
            if n % 2 == 0 {
                record.standing = Standing::Ended;
                let task = record.task().clone();
                record.outcome = Some(outcome(&task, 1, 20, EndState::Done, Ending::Done, "Well."));
            }
            record
        };
        stage.tell(20, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    }
    stage
}
