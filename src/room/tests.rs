//! Stories of the room: events in, effects out, no clock and no disk.

use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::{event::*, tasks::Phase, *};
use crate::model::*;

mod asking;
mod asks;
mod budget;
mod failure;
mod given;
mod halt;
mod limits;
mod order;
mod orders;
mod own_limits;
mod plans;
mod retry;
mod server;
mod timing;
pub(crate) mod why;

/// A room with marie, anga and fabien, one slot each, and a clock that a story moves.
pub(crate) struct Story {
    pub(crate) room: State,
    pub(crate) now: Timestamp,
    orders: u64,
}

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn task(text: &str) -> TaskRef {
    text.parse().unwrap()
}

fn slot(name: &str) -> SlotId {
    SlotId { agent: agent(name), index: 0 }
}

fn settings(name: &str) -> AgentSetup {
    let settings = AgentSettings {
        name: agent(name),
        role: "role".into(),
        engine: EngineKind::Command,
        command: vec!["true".into()],
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

/// A room of three agents with one slot each.
pub(crate) fn opened() -> Opened {
    Opened {
        name: "studio".into(),
        stage: "/stage".into(),
        rehearsal: true,
        version: "1".into(),
        pid: 1,
        core: 2,
        agents: ["marie", "anga", "fabien"].map(settings).into(),
        orchestrator: Orchestrator { model: "opus".into(), ..Orchestrator::default() },
        max_running: 6,
        attempts: 3,
        caps: crate::model::budget::Caps::default(),
        planning: Planning::default(),
        found: Vec::new(),
        offline: None,
        asking: crate::model::Asking::default(),
        accounts: AccountSetup::default(),
    }
}

impl Story {
    fn begin() -> Self {
        let mut story = Self { room: State::default(), now: Timestamp::from_second(1_700_000_000).unwrap(), orders: 0 };
        let effects = story.tell(Event::Opened(Box::new(opened())));
        assert_eq!(effects.len(), 3, "one worker each is wanted: {effects:?}");
        story
    }

    /// The same with every worker connected and idle.
    fn staffed() -> Self {
        let mut story = Self::begin();
        for (pid, name) in (100..).zip(["marie", "anga", "fabien"]) {
            story.worker(WorkerEvent::Spawned { slot: slot(name), epoch: 1, pid });
            story.worker(WorkerEvent::Connected { slot: slot(name), pid, running: None });
        }
        story
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.room.update(Stamped { at: self.now, event })
    }

    fn worker(&mut self, event: WorkerEvent) -> Vec<Effect> {
        self.tell(Event::Worker(event))
    }

    fn report(&mut self, name: &str, report: Report) -> Vec<Effect> {
        self.worker(WorkerEvent::Reported { slot: slot(name), report })
    }

    fn order(&mut self, order: Order) -> Vec<Effect> {
        self.orders += 1;
        let id = OrderId(self.orders);
        self.tell(Event::Ordered { id, order })
    }

    fn later(&mut self, seconds: i64) -> Vec<Effect> {
        self.now += SignedDuration::from_secs(seconds);
        self.tell(Event::TimeCame)
    }

    fn dropped(&mut self, name: &str, after: &[&str]) -> Vec<Effect> {
        let mut spec = TaskSpec::new(task(name), "Do it.");
        spec.dependencies = after.iter().map(|d| d.parse().unwrap()).collect();
        self.seen(TaskRecord::new(spec, self.now))
    }

    fn seen(&mut self, record: TaskRecord) -> Vec<Effect> {
        self.tell(Event::Task(TaskEvent::Changed { record: Box::new(record) }))
    }

    fn started(&mut self, name: &str, n: u32) -> Vec<Effect> {
        let attempt = task(name).attempt(n);
        let who = attempt.task.agent.to_string();
        let report = Report::Started { attempt, pid: 9, session_id: None, log: "logs/x.log".into(), at: self.now };
        self.report(&who, report)
    }

    fn outcome(&self, name: &str, state: EndState) -> Outcome {
        let ending = if state == EndState::Done {
            Ending::Done
        } else {
            Ending::Reported { message: "the image is missing".into() }
        };
        Outcome {
            attempt: 1,
            summary: "Written.".into(),
            cost_source: CostSource::Measured,
            goal: self.room.tasks.get(&task(name)).and_then(|t| t.record.spec.goal.clone()),
            ..Outcome::plain(task(name), state, ending, self.now)
        }
    }

    fn ended(&mut self, name: &str, state: EndState) -> Vec<Effect> {
        let outcome = Box::new(self.outcome(name, state));
        let who = task(name).agent.to_string();
        self.report(&who, Report::Ended { outcome, spend: Spend::default() })
    }

    /// A goal approved by itself under a ceiling, its two tasks in the queue.
    fn published(&mut self, ceiling: MicroUsd) {
        self.order(Order::Goal {
            text: "Announce.".into(),
            approval: Approval::Auto { ceiling },
            terms: Terms::default(),
        });
        let effects = self.tell(answered(1, PLAN));
        let Some(Effect::Publish { tasks, .. }) = effects.last() else { panic!("{effects:?}") };
        for spec in tasks.clone() {
            let record = TaskRecord::new(spec, self.now);
            self.seen(record);
        }
        self.tell(Event::Goal(GoalEvent::Published { id: goal_id() }));
    }

    fn why(&self, name: &str) -> String {
        self.room.why(&task(name), self.now).unwrap().to_string()
    }
}

fn assign(name: &str) -> Effect {
    let task = task(name);
    Effect::Assign { slot: slot(task.agent.as_str()), task }
}

#[test]
fn a_dropped_task_goes_to_its_idle_worker_at_once() {
    let mut story = Story::staffed();
    assert_eq!(story.dropped("marie/a", &[]), [assign("marie/a")]);
    assert_eq!(story.why("marie/a"), "starting");
    assert_eq!(story.dropped("marie/b", &[]), []);
    assert_eq!(story.why("marie/b"), "next on marie, which does a");
    assert_eq!(story.started("marie/a", 1), []);
    assert_eq!(story.ended("marie/a", EndState::Done), [assign("marie/b")]);
}

#[test]
fn a_dependent_starts_the_moment_its_prerequisite_ends_well() {
    let mut story = Story::staffed();
    story.dropped("marie/roster", &[]);
    assert_eq!(story.dropped("fabien/post", &["marie/roster", "missing"]), []);
    assert_eq!(story.why("fabien/post"), "after roster");
    story.started("marie/roster", 1);
    assert_eq!(story.ended("marie/roster", EndState::Done), []);
    assert_eq!(story.why("fabien/post"), "waiting for missing, which nobody has submitted yet");
    assert_eq!(story.dropped("fabien/missing", &[]), [assign("fabien/missing")]);
    story.started("fabien/missing", 1);
    assert_eq!(story.ended("fabien/missing", EndState::Done), [assign("fabien/post")]);
}

#[test]
fn a_failed_prerequisite_skips_its_descendants_once_and_not_its_siblings() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.dropped("anga/b", &["a"]);
    story.dropped("anga/c", &[]);
    story.started("marie/a", 1);
    let ending = Ending::DependencyFailed { dependency: "marie/a".into() };
    assert_eq!(story.ended("marie/a", EndState::Failed), [Effect::EndTask { id: None, task: task("anga/b"), ending }]);
    assert_eq!(story.later(1), [], "told once");
    assert_eq!(story.why("anga/b"), "marie/a did not end well");
    assert_eq!(story.room.tasks.phase(story.room.tasks.get(&task("anga/c")).unwrap()), Phase::Running);
}

#[test]
fn a_task_that_says_nothing_ends_at_once() {
    let mut story = Story::staffed();
    let record = TaskRecord::new(TaskSpec::new(task("marie/mute"), "  "), story.now);
    let effects = story.seen(record);
    assert!(
        matches!(&effects[..], [Effect::EndTask { ending: Ending::Malformed { message }, .. }]
        if message.contains("description")),
        "{effects:?}"
    );
}

#[test]
fn a_failed_attempt_is_tried_again_when_its_wait_is_over_and_not_before() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    let not_before = story.now + SignedDuration::from_secs(2);
    let report = Report::Failed {
        attempt: task("marie/a").attempt(1),
        ending: Ending::ExitCode { code: 1, message: "no image".into() },
        spend: Spend::default(),
        not_before,
        at: story.now,
    };
    assert_eq!(story.report("marie", report), []);
    assert_eq!(story.room.next_wake(), Some(not_before));
    assert_eq!(story.why("marie/a"), "again in 2 s: exit 1: no image");
    assert_eq!(story.later(1), []);
    assert_eq!(story.later(1), [assign("marie/a")]);
}

#[test]
fn a_dead_worker_is_started_again_with_growing_waits_and_its_task_is_looked_up() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    let effects = story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 100, how: "signal 9".into() });
    assert_eq!(effects, [Effect::Recover { task: task("marie/a"), cancel: false }]);
    assert_eq!(story.later(1), [Effect::SpawnWorker { slot: slot("marie"), epoch: 2 }]);
    for (epoch, wait) in [(2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
        story.worker(WorkerEvent::SpawnFailed { slot: slot("marie"), epoch, message: "no memory".into() });
        assert_eq!(story.later(wait - 1), [], "start {epoch}");
        assert_eq!(story.later(1), [Effect::SpawnWorker { slot: slot("marie"), epoch: epoch + 1 }]);
    }
}

#[test]
fn an_agent_that_cannot_work_gets_no_worker() {
    let mut story = Story { room: State::default(), now: Timestamp::UNIX_EPOCH, orders: 0 };
    let mut opened = opened();
    opened.agents[0].trouble = Some("no key and no login".into());
    let effects = story.tell(Event::Opened(Box::new(opened)));
    let wanted = ["anga", "fabien"].map(|name| Effect::SpawnWorker { slot: slot(name), epoch: 1 });
    assert_eq!(effects, wanted);
    story.dropped("marie/a", &[]);
    assert_eq!(story.later(60), []);
    assert!(story.why("marie/a").contains("no key and no login"), "{}", story.why("marie/a"));
}

#[test]
fn a_worker_that_was_healthy_for_a_minute_starts_again_after_a_second() {
    let mut story = Story::staffed();
    for round in 1..4 {
        story.later(61);
        let pid = if round == 1 { 100 } else { 200 };
        story.worker(WorkerEvent::Exited { slot: slot("marie"), pid, how: "exit 1".into() });
        assert_eq!(story.later(1).len(), 1, "round {round}");
        story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 200, running: None });
    }
}

#[test]
fn a_worker_that_lost_its_connection_just_before_it_died_was_healthy_all_the_same() {
    let mut story = Story::staffed();
    story.later(61);
    story.worker(WorkerEvent::Disconnected { slot: slot("marie"), pid: 100 });
    story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 100, how: "signal 9".into() });
    assert_eq!(story.later(1), [Effect::SpawnWorker { slot: slot("marie"), epoch: 2 }]);
    story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 200, running: None });
    story.later(61);
    story.worker(WorkerEvent::Disconnected { slot: slot("marie"), pid: 200 });
    story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 200, how: "signal 9".into() });
    assert_eq!(story.later(1), [Effect::SpawnWorker { slot: slot("marie"), epoch: 3 }], "the back-off began anew");
}

#[test]
fn a_cancel_is_not_lost_with_the_attempt_the_connection_or_the_worker() {
    let cancelled = || {
        let mut story = Story::staffed();
        story.dropped("marie/a", &[]);
        story.started("marie/a", 1);
        story.order(Order::Cancel { task: task("marie/a") });
        story
    };
    let mut story = cancelled();
    story.worker(WorkerEvent::Disconnected { slot: slot("marie"), pid: 100 });
    let attempt = task("marie/a").attempt(1);
    let running = Some(attempt.clone());
    let effects = story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 100, running });
    assert_eq!(effects, [Effect::CancelAttempt { slot: slot("marie"), attempt: attempt.clone() }]);

    let mut story = cancelled();
    let at = story.now;
    let not_before = at + SignedDuration::from_secs(1);
    let ending = Ending::Signal { signal: 9 };
    let report = Report::Failed { attempt, ending, spend: Spend::default(), not_before, at };
    let ended = Effect::EndTask { id: None, task: task("marie/a"), ending: Ending::Cancelled };
    assert_eq!(story.report("marie", report), [ended]);

    let recovered = [Effect::Recover { task: task("marie/a"), cancel: true }];
    let report = Report::NotStarted { task: task("marie/a"), reason: "busy".into() };
    assert_eq!(cancelled().report("marie", report), recovered);
    let died = WorkerEvent::Exited { slot: slot("marie"), pid: 100, how: "signal 9".into() };
    assert_eq!(cancelled().worker(died), recovered);
}

#[test]
fn an_assignment_that_came_to_nothing_is_made_again_after_a_rest_not_at_once() {
    let mut story = Story::staffed();
    assert_eq!(story.dropped("marie/a", &[]), [assign("marie/a")]);
    let report = || Report::NotStarted { task: task("marie/a"), reason: "the disk is broken".into() };
    for _ in 0..3 {
        assert_eq!(story.report("marie", report()), []);
        assert_eq!(story.why("marie/a"), "the disk is broken; again in 1 s");
        // Also where the queue says only now that it waits.
        assert_eq!(story.seen(TaskRecord::new(TaskSpec::new(task("marie/a"), "Do it."), story.now)), []);
        assert_eq!(story.why("marie/a"), "the disk is broken; again in 1 s");
        assert_eq!(story.room.next_wake(), Some(story.now + SignedDuration::from_secs(1)));
        assert_eq!(story.later(1), [assign("marie/a")]);
    }
}

#[test]
fn nothing_is_assigned_while_the_disk_is_nearly_full() {
    let mut story = Story::staffed();
    let space = |why: Option<&str>| Event::Task(TaskEvent::Space { why: why.map(str::to_owned) });
    assert_eq!(story.tell(space(Some("the disk has 3 MiB left"))), []);
    assert_eq!(story.dropped("marie/a", &[]), []);
    assert_eq!(story.why("marie/a"), "the disk has 3 MiB left");
    assert_eq!(story.tell(space(None)), [assign("marie/a")]);
}

#[test]
fn a_late_word_about_an_older_start_is_ignored() {
    let mut story = Story::staffed();
    let before = story.room.clone();
    story.worker(WorkerEvent::SpawnFailed { slot: slot("marie"), epoch: 0, message: "old".into() });
    story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 4242, how: "signal 9".into() });
    assert_eq!(story.room.agents, before.agents);
}

#[test]
fn a_running_attempt_is_adopted_by_a_new_room() {
    let mut story = Story::begin();
    let mut record = TaskRecord::new(TaskSpec::new(task("marie/a"), "Do it."), story.now);
    record.standing = Standing::Running { attempt: 2 };
    story.seen(record);
    assert_eq!(story.why("marie/a"), "marie's worker is not connected");
    let running = Some(task("marie/a").attempt(2));
    assert_eq!(story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 77, running }), []);
    assert_eq!(story.room.agents.holder(&task("marie/a")).unwrap().held.as_ref().unwrap().attempt, Some(2));
    assert_eq!(story.room.tasks.counts().running, 1);
}

#[test]
fn an_assignment_that_a_worker_never_heard_is_looked_up_when_it_connects_again() {
    let mut story = Story::staffed();
    assert_eq!(story.dropped("marie/a", &[]), [assign("marie/a")]);
    story.worker(WorkerEvent::Disconnected { slot: slot("marie"), pid: 100 });
    let effects = story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 100, running: None });
    assert_eq!(effects, [Effect::Recover { task: task("marie/a"), cancel: false }]);
    let record = story.room.tasks.get(&task("marie/a")).unwrap().record.clone();
    assert_eq!(story.seen(record), [assign("marie/a")]);
}

#[test]
fn an_assignment_that_finds_nobody_goes_to_whoever_comes_next_and_not_round_in_circles() {
    let mut story = Story::staffed();
    assert_eq!(story.dropped("marie/a", &[]), [assign("marie/a")]);
    assert_eq!(story.worker(WorkerEvent::Unreached { slot: slot("marie"), task: task("marie/a") }), []);
    assert_eq!(story.why("marie/a"), "the worker of marie-0 is not connected");
    assert_eq!(story.worker(WorkerEvent::Disconnected { slot: slot("marie"), pid: 100 }), [], "noticed late");
    let back = WorkerEvent::Connected { slot: slot("marie"), pid: 100, running: None };
    assert_eq!(story.worker(back), [assign("marie/a")]);
}

#[test]
fn cancel_reaches_the_worker_and_waits_for_its_word() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    let effects = story.order(Order::Cancel { task: task("marie/a") });
    assert!(
        matches!(&effects[..], [
        Effect::CancelAttempt { attempt, .. },
        Effect::Answer { answer: Answer::Done { .. }, .. }
    ] if *attempt == task("marie/a").attempt(1)),
        "{effects:?}"
    );
    assert_eq!(story.why("marie/a"), "being ended");
    story.ended("marie/a", EndState::Cancelled);
    let effects = story.order(Order::Cancel { task: task("marie/a") });
    assert!(
        matches!(&effects[..], [Effect::Answer { answer: Answer::Refused { reason }, .. }]
        if reason.contains("ended already")),
        "{effects:?}"
    );
}

#[test]
fn a_paused_agent_starts_nothing_and_stays_paused_in_the_next_room() {
    let mut story = Story::staffed();
    story.order(Order::Pause { agent: agent("marie") });
    assert_eq!(story.dropped("marie/a", &[]), []);
    assert_eq!(story.why("marie/a"), "marie is paused");
    let effects = story.order(Order::Resume { agent: agent("marie") });
    assert!(effects.contains(&assign("marie/a")), "{effects:?}");

    let mut next = State::default();
    let at = story.now;
    next.update(Stamped {
        at,
        event: Event::Ordered { id: OrderId(1), order: Order::Pause { agent: agent("marie") } },
    });
    story.room = next;
    let opened = Story::begin().room;
    let setup = opened.agents.iter().map(|a| AgentSetup { settings: a.settings.clone(), trouble: None }).collect();
    story.room.agents.open(setup, 6, &[], at);
    assert!(story.room.agents.get(&agent("marie")).unwrap().paused);
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let mut story = Story::staffed();
    let spec = Box::new(TaskSpec::new(task("nobody/a"), "Do it."));
    let effects = story.order(Order::Task { spec, rename: false });
    assert!(
        matches!(&effects[..], [Effect::Answer { answer: Answer::Refused { reason }, .. }]
        if reason == "there is no agent nobody; there are marie, anga, fabien"),
        "{effects:?}"
    );
}

const PLAN: &str = r#"{"schema_version":2,"summary":"Two steps.","synthesis":"","requirements":[{"id":"r1","text":"A post about the notes"}],
    "tasks":[
    {"id":"read","worker":"marie","title":"Read","objective":"Read the notes of the class and list what stands out.","inputs":[],
     "output":"A list of at most ten lines.","boundaries":"No judgement of pupils.","dependencies":[],"done_when":["a list"],
     "serves":["r1"],"effort":"low","model_tier":"standard","side_effects":[],"idempotent":true,"can_wait":false,"review":false,
     "estimates":{"minutes":{"low":1,"high":3},"tokens":{"low":2000,"high":9000}}},
    {"id":"post","worker":"fabien","title":"Post","objective":"Write one post about what marie found in the notes.",
     "inputs":[{"dependency":"read","what":"the list"}],"output":"A text of 100 words.","boundaries":"No names.",
     "dependencies":["read"],"done_when":["a text"],"serves":["r1"],"effort":"medium","model_tier":"standard","side_effects":[],
     "idempotent":true,"can_wait":false,"review":false,
     "estimates":{"minutes":{"low":2,"high":4},"tokens":{"low":3000,"high":9000}}}]}"#;

#[test]
fn the_same_words_twice_in_a_row_are_two_tasks() {
    let mut story = Story::staffed();
    let mut submitted = Vec::new();
    for _ in 0..3 {
        let spec = Box::new(TaskSpec::new(task("marie/note"), "write a note"));
        for effect in story.order(Order::Task { spec, rename: true }) {
            if let Effect::Submit { spec, .. } = effect {
                submitted.push(spec.task.to_string());
            }
        }
    }
    assert_eq!(submitted, ["marie/note", "marie/note-2", "marie/note-3"]);
}

fn goal_id() -> GoalId {
    "g1".parse().unwrap()
}

fn answered(round: u32, text: &str) -> Event {
    Event::Goal(GoalEvent::Answered {
        id: goal_id(),
        round,
        text: text.into(),
        model: "opus".into(),
        spend: Spend::default(),
        validator: crate::model::plan::VALIDATOR,
    })
}

#[test]
fn a_goal_goes_from_words_over_an_approved_plan_to_its_report() {
    let mut story = Story::staffed();
    let effects = story.order(Order::Goal {
        text: "Announce the class.".into(),
        approval: Approval::Ask,
        terms: Terms::default(),
    });
    assert!(matches!(&effects[..], [Effect::Answer { .. }, Effect::Plan { round: 1, .. }]), "{effects:?}");
    assert_eq!(story.tell(answered(1, PLAN)), [], "nothing runs before somebody says yes");
    assert!(story.room.goals.get(&goal_id()).unwrap().needs_approval());
    assert_eq!(story.room.needs_you(), [Need::Plan(goal_id())]);
    let effects = story.order(Order::Approve { goal: goal_id(), ceiling: None });
    let Some(Effect::Publish { tasks, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(tasks.len(), 2);
    for spec in tasks.clone() {
        let record = TaskRecord::new(spec, story.now);
        story.seen(record);
    }
    story.tell(Event::Goal(GoalEvent::Published { id: goal_id() }));
    story.started("marie/g1-read", 1);
    assert_eq!(story.ended("marie/g1-read", EndState::Done), [assign("fabien/g1-post")]);
    story.started("fabien/g1-post", 1);
    let effects = story.ended("fabien/g1-post", EndState::Done);
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
    assert_eq!(story.later(5), [], "the report is asked for once");
    story.tell(Event::Goal(GoalEvent::Reported {
        id: goal_id(),
        path: "results/goals/g1.md".into(),
        opening: "All is announced.".into(),
        end: GoalEnd::Done,
        done: 2,
        plain: None,
        spend: Spend::default(),
    }));
    let goal = story.room.goals.get(&goal_id()).unwrap();
    assert!(matches!(goal.phase, GoalPhase::Ended { end: GoalEnd::Done, .. }), "{:?}", goal.phase);
}

#[test]
fn a_failed_task_still_brings_a_report_and_calls_it_partial() {
    let mut story = Story::staffed();
    story.published(MicroUsd(1_000_000));
    story.started("marie/g1-read", 1);
    story.ended("marie/g1-read", EndState::Done);
    story.started("fabien/g1-post", 1);
    let effects = story.ended("fabien/g1-post", EndState::Dead);
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
    story.tell(Event::Goal(GoalEvent::Reported {
        id: goal_id(),
        path: "results/goals/g1.md".into(),
        opening: "Half of it.".into(),
        end: GoalEnd::Partial,
        done: 1,
        plain: None,
        spend: Spend::default(),
    }));
    let goal = story.room.goals.get(&goal_id()).unwrap();
    assert!(matches!(goal.phase, GoalPhase::Ended { end: GoalEnd::Partial, .. }), "{:?}", goal.phase);
}

#[test]
fn a_goal_over_its_stated_ceiling_starts_nothing_more_and_still_reports() {
    use crate::model::gateway::{Call, CallEnd, Caller};
    let mut story = Story::staffed();
    story.published(MicroUsd(1_000));
    story.started("marie/g1-read", 1);
    let attempt = Some(task("marie/g1-read").attempt(1));
    let call = Box::new(Call {
        millis: 1,
        model: "claude-sonnet-5-5".into(),
        end: CallEnd::Complete,
        cost: MicroUsd(1_000),
        ..Call::new("1".into(), story.now, Caller::Worker { agent: agent("marie"), attempt })
    });
    let effects = story.tell(Event::Gateway(GatewayEvent::Called { call, appraisal: None }));
    assert!(
        matches!(&effects[..], [Effect::EndTask { task, ending: Ending::Budget { message }, .. }, Effect::EndAttempt { .. }]
        if task.to_string() == "fabien/g1-post" && message.ends_with("goal g1 is used up: $0.001 of $0.001")),
        "{effects:?}"
    );
    assert_eq!(story.ended("marie/g1-read", EndState::Done), [], "its dependent is given up, whatever it waits for");
    let mut record = story.room.tasks.get(&task("fabien/g1-post")).unwrap().record.clone();
    record.standing = Standing::Ended;
    record.outcome = Some(story.outcome("fabien/g1-post", EndState::Failed));
    let effects = story.seen(record);
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
}

#[test]
fn a_plan_dearer_than_its_ceiling_waits_for_a_person() {
    let mut story = Story::staffed();
    story.order(Order::Goal {
        text: "Announce.".into(),
        approval: Approval::Auto { ceiling: MicroUsd(1) },
        terms: Terms::default(),
    });
    let mut event = answered(1, PLAN);
    let Event::Goal(GoalEvent::Answered { spend, .. }) = &mut event else { panic!("{event:?}") };
    spend.cost = MicroUsd(2);
    assert_eq!(story.tell(event), []);
    assert!(story.room.goals.get(&goal_id()).unwrap().needs_approval());
}

#[test]
fn a_room_that_stops_asks_its_workers_and_leaves_when_they_are_gone() {
    let mut story = Story::staffed();
    let effects = story.order(Order::Stop { drain: true });
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::StopWorker { drain: true, .. })).count(), 3);
    assert_eq!(story.dropped("marie/late", &[]), [], "nothing starts any more");
    for (pid, name) in (100..).zip(["marie", "anga", "fabien"]) {
        let effects = story.worker(WorkerEvent::Exited { slot: slot(name), pid, how: "exit 0".into() });
        assert_eq!(effects.contains(&Effect::Shutdown), name == "fabien");
    }
}

#[test]
fn goals_are_replayed_from_facts_alone_and_asked_for_again() {
    let mut story = Story::begin();
    let mut facts = Vec::new();
    let opened = Event::Opened(Box::new(opened()));
    let order = Order::Goal { text: "Announce.".into(), approval: Approval::Ask, terms: Terms::default() };
    let approve = Order::Approve { goal: goal_id(), ceiling: None };
    for event in [
        opened.clone(),
        Event::Ordered { id: OrderId(1), order },
        answered(1, PLAN),
        Event::Ordered { id: OrderId(2), order: approve },
    ] {
        assert!(event.is_fact());
        facts.push(Stamped { at: story.now, event });
    }
    let mut again = State::default();
    for fact in facts {
        again.update(fact);
    }
    story.room = again;
    let effects = story.tell(opened);
    assert!(effects.iter().any(|e| matches!(e, Effect::Publish { tasks, .. } if tasks.len() == 2)), "{effects:?}");
}

/// Random happenings for the properties below, within what a world could say.
fn happening() -> impl Strategy<Value = (u8, u8, u8)> {
    (0_u8..10, 0_u8..6, 0_u8..3)
}

fn play(story: &mut Story, (what, which, who): (u8, u8, u8)) {
    let name = ["marie", "anga", "fabien"][usize::from(who)];
    let id = format!("{name}/t{which}");
    let known = story.room.tasks.get(&task(&id)).is_some();
    let held = story.room.agents.holder(&task(&id)).is_some();
    match what {
        0 | 1 if !known => {
            let after = format!("t{}", (which + 1) % 6);
            let after: &[&str] = if what == 1 { &[&after] } else { &[] };
            story.dropped(&id, after);
        }
        2 if held => {
            let n = story.room.tasks.get(&task(&id)).unwrap().record.last_attempt() + 1;
            story.started(&id, n);
        }
        3 if held => {
            story.ended(&id, EndState::Done);
        }
        4 if held => {
            story.ended(&id, EndState::Failed);
        }
        5 if held => {
            let n = story.room.tasks.get(&task(&id)).unwrap().record.last_attempt().max(1);
            let report = Report::Failed {
                attempt: task(&id).attempt(n),
                ending: Ending::NoResult { code: None },
                spend: Spend::default(),
                not_before: story.now + SignedDuration::from_secs(i64::from(which)),
                at: story.now,
            };
            story.report(name, report);
        }
        6 => {
            let pid = story.room.agents.get(&agent(name)).unwrap().slots[0].pid().unwrap_or(1);
            story.worker(WorkerEvent::Exited { slot: slot(name), pid, how: "signal 9".into() });
        }
        7 => {
            let running = story.room.agents.get(&agent(name)).unwrap().slots[0]
                .held
                .as_ref()
                .and_then(|h| h.attempt.map(|n| h.task.attempt(n)));
            story.worker(WorkerEvent::Connected { slot: slot(name), pid: 500, running });
        }
        8 => {
            story.later(i64::from(which));
        }
        9 if known => {
            let mut record = story.room.tasks.get(&task(&id)).unwrap().record.clone();
            if held {
                record.standing = Standing::Running { attempt: record.last_attempt().max(1) };
            }
            story.seen(record);
        }
        _ => {}
    }
}

/// A state as a screen gets it: without its tasks, then those piece by piece, all as JSON.
fn copy(room: &State) -> State {
    let mut fresh: State = serde_json::from_str(&serde_json::to_string(room).unwrap()).unwrap();
    for piece in room.pieces() {
        fresh.add(serde_json::from_str(&serde_json::to_string(&piece).unwrap()).unwrap());
    }
    fresh.rebuild();
    fresh
}

#[test]
fn the_newest_ended_tasks_are_kept_whole_and_older_ones_in_short_with_nothing_lost_but_their_text() {
    let mut story = Story::staffed();
    let n = Past::WHOLE + 20;
    for i in 0..n {
        let id = format!("marie/t{i:04}");
        let mut record = TaskRecord::new(TaskSpec::new(task(&id), "Do it.\nThen rest."), story.now);
        record.standing = Standing::Ended;
        let state = if i % 2 == 0 { EndState::Done } else { EndState::Failed };
        record.outcome = Some(story.outcome(&id, state));
        story.later(1);
        story.seen(record);
    }
    let room = &story.room;
    assert_eq!((room.tasks.len(), room.tasks.past_len()), (n, 20));
    assert_eq!((room.tasks.counts().done, room.tasks.counts().failed), (n / 2, n / 2));
    assert_eq!(room.needs_you().len(), n / 2, "what failed needs somebody, however old");
    let old = room.tasks.find(&task("marie/t0001")).unwrap();
    assert_eq!((old.record.spec.title.as_str(), old.record.spec.description.as_str()), ("Do it.", ""));
    assert!(old.needs_attention());
    assert_eq!(room.tasks.each().count(), n);
    assert_eq!(room.tasks.with_id(&"t0001".parse().unwrap()), [task("marie/t0001")]);
    assert_eq!(&copy(room), room);

    // What depends on an old one starts, or is skipped, as if it were new.
    let effects = story.dropped("anga/after-done", &["t0000"]);
    assert!(effects.iter().any(|e| matches!(e, Effect::Assign { task: t, .. } if *t == task("anga/after-done"))));
    let effects = story.dropped("fabien/after-failed", &["t0001"]);
    assert!(effects.iter().any(|e| matches!(e, Effect::EndTask { task: t, .. } if *t == task("fabien/after-failed"))));

    // A retry of an old one is an order like any other, and makes it whole again.
    let order = Order::Retry { task: task("marie/t0001"), changes: Box::default() };
    let effects = story.tell(Event::Ordered { id: OrderId(9), order });
    assert!(effects.iter().any(|e| matches!(e, Effect::RetryTask { retry, .. } if retry.task == task("marie/t0001"))));
    assert!(story.room.tasks.is_coming_back(&task("marie/t0001")));
    let answer = Answer::Done { text: "marie/t0001 starts again".into(), ids: Vec::new() };
    story.tell(Event::Task(TaskEvent::Answered { id: OrderId(9), answer }));
    assert_eq!(story.room.needs_you().len(), n / 2 - 1);
    story.dropped("marie/t0001", &[]);
    assert!(!story.room.tasks.is_coming_back(&task("marie/t0001")));
    assert_eq!((story.room.tasks.past_len(), story.room.tasks.len()), (19, n + 2));
    assert_eq!(copy(&story.room), story.room);
}

#[test]
fn tasks_found_in_short_count_at_once_and_release_those_that_wait_for_them() {
    let mut story = Story::staffed();
    story.dropped("anga/after", &["early"]);
    assert_eq!(story.room.tasks.counts().waiting, 1);
    let mut record = TaskRecord::new(TaskSpec::new(task("marie/early"), "Do it."), story.now);
    record.standing = Standing::Ended;
    record.outcome = Some(story.outcome("marie/early", EndState::Done));
    let tasks = vec![(task("marie/early"), Past::of(&record).unwrap())];
    let effects = story.tell(Event::Task(TaskEvent::Found { tasks, unread: 7 }));
    assert!(effects.iter().any(|e| matches!(e, Effect::Assign { task: t, .. } if *t == task("anga/after"))));
    assert_eq!((story.room.tasks.unread, story.room.tasks.counts().done), (7, 1));
    assert_eq!(copy(&story.room), story.room);
    story.tell(Event::Task(TaskEvent::Withdrawn { task: task("marie/early") }));
    assert_eq!((story.room.tasks.counts().done, story.room.tasks.past_len()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_task_is_in_one_pair_of_hands_and_a_replica_agrees(steps in proptest::collection::vec(happening(), 1..80)) {
        let mut story = Story::staffed();
        for step in steps {
            play(&mut story, step);
            let mut hands = std::collections::BTreeSet::new();
            for slot in story.room.agents.iter().flat_map(|a| &a.slots) {
                if let Some(held) = &slot.held {
                    prop_assert!(hands.insert(held.task.clone()), "{} is held twice", held.task);
                }
            }
            // What is kept up event by event is what a fresh look finds.
            let fresh = copy(&story.room);
            prop_assert_eq!(fresh.tasks.counts(), story.room.tasks.counts());
            for task in story.room.tasks.iter() {
                let name = task.record.task();
                prop_assert_eq!(
                    story.room.tasks.phase(task), fresh.tasks.phase(fresh.tasks.get(name).unwrap()), "{}", name
                );
            }
            prop_assert_eq!(&fresh, &story.room);
        }
    }
}
