//! What many agents would meet: the limits of their account, and the room that decides for all of them.
//!
//! The first part is the simulation of `limits.rs` with more of everything; its time is pretended, so its figures are the same on
//! every machine, but for the last column, which is processor time. The second part feeds a real `room::State`, which is pure, and
//! measures what an event costs; a debug build checks its own sums there after each, and says nothing of that.
//!
//! `cargo bench --bench growth`; `-- 1000` stops at so many agents.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "what cannot be measured must stop the measurement")]

#[expect(dead_code, reason = "benches/limits.rs uses the rest")]
#[path = "limits/simulation.rs"]
mod simulation;

use std::{collections::VecDeque, time::Duration};

use jiff::{SignedDuration, Timestamp};
use podium::{
    model::{
        AccountSetup, Activity, AgentSettings, Asking, CostSource, EndState, Ending, EngineKind, MicroUsd, Outcome,
        OutputKind, Permissions, Report, SlotId, Spend, Standing, SubagentCaps, TaskRecord, TaskRef, TaskSpec, Usage,
        budget::Caps,
    },
    room::{
        Effect, Event, Opened, Stamped, State, TaskEvent, WorkerEvent,
        event::{AgentSetup, Orchestrator, Planning},
    },
};
use rustix::time::{ClockId, clock_gettime};
use simulation::{Case, Outcome as Run, Policy, run};

/// What podium takes for an account's limit until the server says another: uncached input tokens a minute.
const ACCOUNT: u32 = 2_000_000;
/// Tasks that each agent does in the room's part.
const EACH: usize = 3;

fn main() {
    let most = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100_000);
    let sizes = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000].into_iter().filter(|agents| *agents <= most);
    let sizes: Vec<usize> = sizes.collect();

    println!("agents with a slot and a task each, all begun at once; one account of {ACCOUNT} tokens/min");
    limits(&sizes, |_| ACCOUNT);
    // What an agent takes where nothing holds it, and a quarter more.
    let alone = run(Case { tasks: 300, agents: 300, limit: u32::MAX, slots: 300, burst: 1.0 }, Policy::None, 1);
    let share = per_minute(&alone, 300) * 1.25;
    println!(
        "an agent alone: {:.1} calls a task, {:.2} calls and {:.0} tokens a minute; with {share:.0} tokens/min for each:",
        alone.calls as f64 / 300.0,
        alone.calls as f64 / alone.tokens as f64 * per_minute(&alone, 300),
        per_minute(&alone, 300),
    );
    limits(&sizes, |agents| whole(share * agents as f64));

    println!("a room of agents with a slot each, {EACH} tasks for every one, from the first event to the last result");
    println!("{:>7} {:>9} {:>10} {:>12} {:>13}", "agents", "events", "seconds", "events / s", "MB of state");
    for agents in sizes {
        room(agents);
    }
}

/// Tokens a minute of one agent, while tasks run one after the other.
fn per_minute(run: &Run, agents: usize) -> f64 {
    // All begin at once and the last one ends the run: the mean task takes what its calls take.
    let mean = run.calls as f64 / agents as f64 * (14.0 + 5.0) / 60.0;
    run.tokens as f64 / agents as f64 / mean
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the largest limit")]
fn whole(number: f64) -> u32 {
    number.round() as u32
}

/// Seconds that this process has had of a processor, whatever else is at work.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn limits(sizes: &[usize], limit: impl Fn(usize) -> u32) {
    println!(
        "{:>7} {:>12} {:>8} {:>9} {:>9} {:>7} {:>8} {:>8} {:>12}",
        "agents", "limit / min", "calls", "lost", "server's", "held", "minutes", "/ bound", "µs of ours"
    );
    for &agents in sizes {
        let case = Case { tasks: agents, agents, limit: limit(agents), slots: agents, burst: 0.5 };
        let began = processor();
        let one = run(case, Policy::Learning, 1);
        let took = processor() - began;
        let percent = |n: u32| 100.0 * f64::from(n) / f64::from(one.answers.max(1));
        println!(
            "{agents:>7} {:>12} {:>8} {:>8.1}% {:>8.1}% {:>6.1}% {:>8.1} {:>8.2} {:>12.1}",
            case.limit,
            one.calls,
            100.0 * f64::from(one.lost) / agents as f64,
            percent(one.refused),
            percent(one.held),
            one.makespan,
            one.stretch(),
            took * 1e6 / f64::from(one.answers.max(1)),
        );
        if took > 60.0 {
            println!("        (more would take too long)");
            return;
        }
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_millis(millis)
}

fn agent(n: usize) -> AgentSetup {
    let settings = AgentSettings {
        name: format!("agent-{n}").parse().unwrap(),
        role: "what it is for".into(),
        engine: EngineKind::Messages,
        command: Vec::new(),
        output: OutputKind::Text,
        model: "sonnet".into(),
        subagent_model: None,
        subagents: SubagentCaps::default(),
        prompt: "prompt.md".into(),
        workspace: "work".into(),
        home: "home".into(),
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
        summary: "The class was evaluated; every point has its source in the notes.".into(),
        started_at: at(millis - 900),
        usage: Usage { input_tokens: 3_000, output_tokens: 800, ..Usage::default() },
        cost: MicroUsd(50_000),
        cost_source: CostSource::Measured,
        model: Some("sonnet".into()),
        ..Outcome::plain(task.clone(), EndState::Done, Ending::Done, at(millis))
    }
}

/// A room that is told things, and what it has told its workers to begin.
#[derive(Default)]
struct Story {
    room: State,
    millis: i64,
    events: u64,
    assigned: VecDeque<(SlotId, TaskRef)>,
}

impl Story {
    fn tell(&mut self, event: Event) {
        self.millis += 1;
        self.events += 1;
        for effect in self.room.update(Stamped { at: at(self.millis), event }) {
            if let Effect::Assign { slot, task } = effect {
                self.assigned.push_back((slot, task));
            }
        }
    }

    fn report(&mut self, slot: &SlotId, report: Report) {
        self.tell(Event::Worker(WorkerEvent::Reported { slot: slot.clone(), report }));
    }
}

fn room(agents: usize) {
    let began = processor();
    let mut story = Story::default();
    story.tell(Event::Opened(Box::new(Opened {
        name: "studio".into(),
        stage: "/stage".into(),
        rehearsal: false,
        version: "0".into(),
        pid: 1,
        core: 2,
        agents: (0..agents).map(agent).collect(),
        orchestrator: Orchestrator { model: "opus".into(), ..Orchestrator::default() },
        max_running: u32::try_from(agents).unwrap(),
        attempts: 3,
        caps: Caps::default(),
        found: Vec::new(),
        accounts: AccountSetup::default(),
        offline: None,
        asking: Asking::default(),
        planning: Planning::default(),
    })));
    for n in 0..agents {
        let slot = SlotId { agent: format!("agent-{n}").parse().unwrap(), index: 0 };
        story.tell(Event::Worker(WorkerEvent::Connected { slot, pid: 100, running: None }));
    }
    for n in 0..agents * EACH {
        let task = format!("agent-{}/task-{n}", n % agents).parse().unwrap();
        let record = Box::new(TaskRecord::new(TaskSpec::new(task, "Evaluate a class."), at(story.millis)));
        story.tell(Event::Task(TaskEvent::Changed { record }));
    }
    let mut ended = 0;
    while let Some((slot, task)) = story.assigned.pop_front() {
        let attempt = task.attempt(1);
        let at = at(story.millis);
        story.report(
            &slot,
            Report::Started { attempt: attempt.clone(), pid: 9, session_id: None, log: String::new(), at },
        );
        story.report(&slot, Report::Active { attempt, activity: Activity::default() });
        let outcome = outcome(&task, story.millis);
        let mut record = story.room.tasks.get(&task).unwrap().record.clone();
        record.standing = Standing::Ended;
        record.outcome = Some(outcome.clone());
        story.report(&slot, Report::Ended { outcome: Box::new(outcome), spend: Spend::default() });
        story.tell(Event::Task(TaskEvent::Changed { record: Box::new(record) }));
        ended += 1;
    }
    assert_eq!(ended, agents * EACH, "every task ends");
    let took = processor() - began;
    let bytes = serde_json::to_vec(&story.room).unwrap().len();
    println!(
        "{agents:>7} {:>9} {took:>10.2} {:>12.0} {:>13.1}",
        story.events,
        story.events as f64 / took,
        bytes as f64 / 1e6
    );
}
