//! Stories of tasks that start again, and of what comes along.

use super::*;

/// The retry that an order led to.
fn retry(effects: &[Effect]) -> (OrderId, Retry) {
    let [Effect::RetryTask { id, retry }] = effects else { panic!("{effects:?}") };
    (*id, (**retry).clone())
}

pub(super) fn refusal(effects: &[Effect]) -> &str {
    let [Effect::Answer { answer: Answer::Refused { reason }, .. }] = effects else { panic!("{effects:?}") };
    reason
}

fn again(name: &str) -> Order {
    Order::Retry { task: task(name), changes: Box::default() }
}

fn on(name: &str, other: &str) -> Order {
    Order::RetryOn { task: task(name), agent: agent(other), changes: Box::default() }
}

impl Story {
    /// The queue has carried out an order; these start again.
    pub(super) fn carried_out(&mut self, id: OrderId, back: &[&str]) -> Vec<Effect> {
        let ids = back.iter().map(ToString::to_string).collect();
        let answer = Answer::Done { text: String::new(), ids };
        self.tell(Event::Task(TaskEvent::Answered { id, answer }))
    }

    /// The queue shows a task that waits again; its dependencies may be others now.
    pub(super) fn waits_again(&mut self, name: &str, after: Option<&[&str]>) -> Vec<Effect> {
        let mut record = self.room.tasks.get(&task(name)).unwrap().record.clone();
        record.standing = Standing::Waiting;
        record.outcome = None;
        if let Some(after) = after {
            record.spec.dependencies = after.iter().map(|d| d.parse().unwrap()).collect();
        }
        self.seen(record)
    }

    /// The queue shows how it ended a task that was never started.
    pub(super) fn skipped(&mut self, name: &str, because: &str) -> Vec<Effect> {
        let mut record = self.room.tasks.get(&task(name)).unwrap().record.clone();
        let mut outcome = self.outcome(name, EndState::Skipped);
        outcome.ending = Ending::DependencyFailed { dependency: because.into() };
        record.standing = Standing::Ended;
        record.outcome = Some(outcome);
        self.seen(record)
    }

    fn phase(&self, name: &str) -> Phase {
        self.room.tasks.phase(self.room.tasks.get(&task(name)).unwrap())
    }

    /// marie/a has failed; b and c after it were skipped. anga/d was skipped because of fabien/z.
    fn fallen() -> Self {
        let mut story = Self::staffed();
        story.dropped("marie/a", &[]);
        story.dropped("anga/b", &["a"]);
        story.dropped("fabien/c", &["anga/b"]);
        story.dropped("fabien/z", &[]);
        story.dropped("anga/d", &["fabien/z"]);
        story.started("marie/a", 1);
        story.started("fabien/z", 1);
        story.ended("marie/a", EndState::Failed);
        story.ended("fabien/z", EndState::Dead);
        story.skipped("anga/b", "marie/a");
        story.skipped("fabien/c", "anga/b");
        story.skipped("anga/d", "fabien/z");
        story.later(5);
        story
    }

    /// The goal of [`PLAN`] is over: marie's task is done, fabien's failed, the report says so.
    pub(super) fn reported(end: GoalEnd) -> Self {
        let mut story = Self::staffed();
        story.published(MicroUsd(1_000_000));
        story.started("marie/g1-read", 1);
        story.ended("marie/g1-read", EndState::Failed);
        story.skipped("fabien/g1-post", "marie/g1-read");
        story.report_written(end);
        story.later(5);
        story
    }

    fn report_written(&mut self, end: GoalEnd) {
        self.tell(Event::Goal(GoalEvent::Reported {
            id: goal_id(),
            path: "results/goals/g1.md".into(),
            opening: "Some of it.".into(),
            end,
            done: 0,
            plain: None,
            spend: Spend::default(),
        }));
    }

    fn goal(&self) -> &Goal {
        self.room.goals.get(&goal_id()).unwrap()
    }
}

#[test]
fn what_was_skipped_because_of_a_task_comes_back_with_it_and_nothing_else_does() {
    let mut story = Story::fallen();
    let (id, retry) = retry(&story.order(again("marie/a")));
    let followers: Vec<String> = retry.followers.iter().map(|(task, _)| task.to_string()).collect();
    assert_eq!((retry.task, retry.instead), (task("marie/a"), None));
    assert_eq!(followers, ["anga/b", "fabien/c"]);
    assert!(retry.followers.iter().all(|(_, changes)| changes.is_empty()));
    let answer = story.carried_out(id, &["marie/a", "anga/b", "fabien/c"]);
    assert!(matches!(&answer[..], [Effect::Answer { answer: Answer::Done { .. }, .. }]), "{answer:?}");
    assert_eq!(story.waits_again("anga/b", None), [], "the picture of the first may come last");
    assert_eq!(story.waits_again("fabien/c", None), []);
    assert_eq!(story.why("anga/b"), "after a");
    assert_eq!(story.waits_again("marie/a", None), [assign("marie/a")]);
    story.started("marie/a", 2);
    assert_eq!(story.ended("marie/a", EndState::Done), [assign("anga/b")]);
    assert_eq!(story.phase("anga/d"), Phase::Dropped);
    assert_eq!(story.room.tasks.retries, [], "nothing is left of it");
}

#[test]
fn a_retry_that_the_queue_refused_changes_nothing_and_the_failure_still_needs_you() {
    let mut story = Story::fallen();
    let needs = story.room.needs_you();
    let (id, _) = retry(&story.order(again("marie/a")));
    assert_eq!(refusal(&story.order(again("marie/a"))), "marie/a starts again already");
    // Its follower came back before the queue said no.
    story.waits_again("anga/b", None);
    let answer = Answer::Refused { reason: "could not rename".into() };
    let effects = story.tell(Event::Task(TaskEvent::Answered { id, answer }));
    let ending = Ending::DependencyFailed { dependency: "marie/a".into() };
    assert!(effects.contains(&Effect::EndTask { id: None, task: task("anga/b"), ending }), "{effects:?}");
    assert_eq!(story.room.needs_you(), needs);
}

#[test]
fn a_task_goes_to_another_agent_as_a_new_task_and_what_waits_for_it_follows() {
    let mut story = Story::fallen();
    story.dropped("fabien/a", &[]);
    let (id, retry) = retry(&story.order(on("marie/a", "fabien")));
    assert_eq!(retry.instead, Some(task("fabien/a-2")), "ids are unique per agent");
    let [(b, changes), (c, same)] = &retry.followers[..] else { panic!("{retry:?}") };
    assert_eq!((b.to_string(), c.to_string()), ("anga/b".into(), "fabien/c".into()));
    assert_eq!(changes.dependencies, Some(vec!["fabien/a-2".parse().unwrap()]));
    assert!(same.is_empty());
    story.carried_out(id, &["fabien/a-2", "anga/b", "fabien/c"]);
    story.waits_again("anga/b", Some(&["fabien/a-2"]));
    assert_eq!(story.why("anga/b"), "waiting for fabien/a-2, which nobody has submitted yet");
    let mut spec = TaskSpec::new(task("fabien/a-2"), "Do it.");
    spec.retry_of = Some(task("marie/a"));
    let record = TaskRecord::new(spec, story.now);
    story.seen(record);
    assert_eq!(story.why("anga/b"), "after a-2");
    assert_eq!(story.phase("marie/a"), Phase::Failed, "it stays as it ended");
    assert_eq!(story.room.tasks.retried_as(&task("marie/a")), Some(&task("fabien/a-2")));
    assert_eq!(story.room.needs_you(), [Need::Failed(task("fabien/z"))]);
}

#[test]
fn a_task_on_another_agent_keeps_waiting_for_the_same_tasks() {
    let mut story = Story::staffed();
    story.dropped("marie/roster", &[]);
    story.dropped("anga/roster", &[]);
    story.dropped("marie/a", &["roster"]);
    story.skipped("marie/a", "marie/roster");
    let (_, retry) = retry(&story.order(on("marie/a", "anga")));
    assert_eq!(retry.instead, Some(task("anga/a")));
    assert_eq!(retry.changes.dependencies, Some(vec!["marie/roster".parse().unwrap()]));
}

#[test]
fn what_cannot_start_again_is_refused_with_the_reason() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    assert_eq!(refusal(&story.order(again("marie/x"))), "there is no task marie/x");
    assert_eq!(refusal(&story.order(again("marie/a"))), "marie/a is running");
    story.dropped("marie/b", &[]);
    assert_eq!(
        refusal(&story.order(on("marie/b", "anga"))),
        "marie/b has not ended: cancel it first, then it can go to anga"
    );
    story.started("marie/a", 1);
    story.ended("marie/a", EndState::Failed);
    assert_eq!(
        refusal(&story.order(on("marie/a", "nobody"))),
        "there is no agent nobody; there are marie, anga, fabien"
    );
    let changes = Box::new(Changes { description: Some(" ".into()), ..Changes::default() });
    let effects = story.order(Order::Retry { task: task("marie/a"), changes });
    assert_eq!(refusal(&effects), "the text is empty: the task would say nothing to do");
}

#[test]
fn a_session_is_taken_up_only_where_there_is_one_and_the_engine_can() {
    let resume = || Box::new(Changes { resume: true, ..Changes::default() });
    let mut story = Story::begin();
    let mut record = TaskRecord::new(TaskSpec::new(task("marie/a"), "Do it."), story.now);
    record.standing = Standing::Ended;
    record.outcome = Some(story.outcome("marie/a", EndState::Failed));
    story.seen(record.clone());
    let order = || Order::Retry { task: task("marie/a"), changes: resume() };
    assert_eq!(refusal(&story.order(order())), "marie's engine (command) cannot take up a session");
    let mut setups = ["marie", "anga", "fabien"].map(settings);
    setups[0].settings.engine = EngineKind::Claude;
    story.room.agents.open(setups.into(), 6, &[], story.now);
    assert_eq!(refusal(&story.order(order())), "marie/a has not run yet: there is no session to take up");
    record.attempts.push(AttemptRecord {
        n: 1,
        started_at: story.now,
        ended_at: Some(story.now),
        ending: Some(Ending::Signal { signal: 9 }),
        session_id: None,
        spend: Spend::default(),
        log: "logs/x.log".into(),
    });
    story.seen(record.clone());
    assert_eq!(refusal(&story.order(order())), "attempt 1 of marie/a left no session");
    record.attempts[0].session_id = Some("0b7c".into());
    story.seen(record);
    let effects = story.order(Order::RetryOn { task: task("marie/a"), agent: agent("anga"), changes: resume() });
    assert_eq!(refusal(&effects), "anga cannot take up a session of marie: it starts anew there");
    assert!(retry(&story.order(order())).1.changes.resume);
}

#[test]
fn a_goal_that_was_over_goes_on_with_its_retried_task_and_is_reported_anew() {
    let mut story = Story::reported(GoalEnd::Partial);
    let (id, _) = retry(&story.order(again("marie/g1-read")));
    let effects = story.carried_out(id, &["marie/g1-read", "fabien/g1-post"]);
    let [Effect::Keep { fact }, Effect::Answer { .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(fact.is_fact());
    assert_eq!(story.tell((**fact).clone()), [], "nothing has ended anew yet");
    assert_eq!(story.goal().phase, GoalPhase::Running);
    story.waits_again("fabien/g1-post", None);
    assert_eq!(story.waits_again("marie/g1-read", None), [assign("marie/g1-read")]);
    story.started("marie/g1-read", 2);
    assert_eq!(story.ended("marie/g1-read", EndState::Done), [assign("fabien/g1-post")]);
    story.started("fabien/g1-post", 1);
    let effects = story.ended("fabien/g1-post", EndState::Done);
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
    let refused = story.order(again("fabien/g1-post"));
    assert_eq!(refusal(&refused), "the report of g1 is being written; try again when it is there");
    story.report_written(GoalEnd::Done);
    assert!(matches!(story.goal().phase, GoalPhase::Ended { end: GoalEnd::Done, .. }));
}

#[test]
fn a_goal_follows_its_task_to_another_agent_in_the_plan_and_in_what_it_cost() {
    let mut story = Story::reported(GoalEnd::Partial);
    let (id, retry) = retry(&story.order(on("marie/g1-read", "anga")));
    assert_eq!(retry.instead, Some(task("anga/g1-read")));
    let effects = story.carried_out(id, &["anga/g1-read", "fabien/g1-post"]);
    let Some(Effect::Keep { fact }) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(story.tell((**fact).clone()), []);
    assert_eq!(story.goal().tasks, [task("anga/g1-read"), task("fabien/g1-post")]);
    let plan = story.goal().plan.clone().unwrap();
    assert_eq!((plan.tasks[0].worker.as_str(), plan.tasks[0].id.as_str()), ("anga", "read"));
    assert_eq!(plan.tasks[1].dependencies, ["read"]);

    let mut spec = TaskSpec::new(task("anga/g1-read"), "Read.");
    spec.retry_of = Some(task("marie/g1-read"));
    spec.goal = Some(goal_id());
    let record = TaskRecord::new(spec, story.now);
    assert_eq!(story.seen(record), [assign("anga/g1-read")]);
    for (name, cost) in [("marie/g1-read", 3), ("anga/g1-read", 4)] {
        story.room.money.tasks.insert(task(name), Spend { cost: MicroUsd(cost), calls: 1, ..Spend::default() });
    }
    assert_eq!(story.room.spend_of(story.goal()).cost, MicroUsd(7));

    // And once more, where its id is taken: the plan still names the task that is meant.
    story.started("anga/g1-read", 1);
    story.ended("anga/g1-read", EndState::Failed);
    story.later(1);
    let effects = story.order(on("anga/g1-read", "marie"));
    let Some(Effect::RetryTask { id, retry }) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(retry.instead, Some(task("marie/g1-read-2")));
    let effects = story.carried_out(*id, &["marie/g1-read-2"]);
    let Some(Effect::Keep { fact }) = effects.first() else { panic!("{effects:?}") };
    story.tell((**fact).clone());
    let plan = story.goal().plan.clone().unwrap();
    assert_eq!(plan.tasks[0].reference(&goal_id()), Some(task("marie/g1-read-2")));
    assert_eq!(plan.tasks[1].dependencies, ["read-2"]);
}

#[test]
fn a_cancelled_goal_stays_cancelled_whatever_is_retried() {
    let mut story = Story::staffed();
    story.published(MicroUsd(1_000_000));
    story.started("marie/g1-read", 1);
    story.order(Order::CancelGoal { goal: goal_id() });
    story.ended("marie/g1-read", EndState::Cancelled);
    let effects = story.order(again("marie/g1-read"));
    let Some(Effect::RetryTask { id, .. }) = effects.first() else { panic!("{effects:?}") };
    let effects = story.carried_out(*id, &["marie/g1-read"]);
    assert!(matches!(&effects[..], [Effect::Answer { .. }]), "{effects:?}");
    assert!(story.goal().phase.is_over());
}

#[test]
fn a_goal_that_goes_on_goes_on_in_the_next_room_too() {
    let mut story = Story::reported(GoalEnd::Partial);
    let mut facts = vec![
        Event::Ordered {
            id: OrderId(1),
            order: Order::Goal {
                text: "Announce.".into(),
                approval: Approval::Auto { ceiling: MicroUsd(1_000_000) },
                terms: Terms::default(),
            },
        },
        answered(1, PLAN),
        Event::Goal(GoalEvent::Published { id: goal_id() }),
    ];
    facts.push(Event::Goal(GoalEvent::Reported {
        id: goal_id(),
        path: "results/goals/g1.md".into(),
        opening: "Some of it.".into(),
        end: GoalEnd::Partial,
        done: 0,
        plain: None,
        spend: Spend::default(),
    }));
    let (task, instead) = (task("marie/g1-read"), Some(super::task("anga/g1-read")));
    facts.push(Event::Goal(GoalEvent::Retried { id: goal_id(), task, instead }));
    let mut again = Story::begin();
    for event in facts {
        assert!(event.is_fact());
        again.tell(event);
    }
    let effects = again.tell(Event::Opened(Box::new(opened())));
    assert!(effects.iter().all(|e| matches!(e, Effect::SpawnWorker { .. })), "no second report yet: {effects:?}");
    assert_eq!(again.goal().phase, GoalPhase::Running);
    assert_eq!(again.goal().tasks[0], super::task("anga/g1-read"));
    story.room = again.room;
    let mut post = TaskRecord::new(TaskSpec::new(super::task("fabien/g1-post"), "Post."), story.now);
    post.spec.goal = Some(goal_id());
    post.standing = Standing::Ended;
    post.outcome = Some(story.outcome("fabien/g1-post", EndState::Done));
    assert_eq!(story.seen(post), []);
    let mut read = TaskRecord::new(TaskSpec::new(super::task("anga/g1-read"), "Read."), story.now);
    read.spec.goal = Some(goal_id());
    read.standing = Standing::Ended;
    read.outcome = Some(story.outcome("anga/g1-read", EndState::Done));
    let effects = story.seen(read);
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
}

#[test]
fn a_task_that_asks_is_the_first_to_need_you_and_starts_only_on_your_word() {
    let mut story = Story::fallen();
    let mut record = TaskRecord::new(TaskSpec::new(task("marie/q"), "Do it."), story.now);
    record.standing = Standing::Asking { attempt: 1 };
    assert_eq!(story.seen(record), []);
    assert_eq!(story.why("marie/q"), "attempt 1 was lost: retry or cancel it");
    assert_eq!(story.phase("marie/q"), Phase::Asking);
    assert_eq!(story.room.tasks.counts().asking, 1);
    assert_eq!(story.room.needs_you()[0], Need::Asks(task("marie/q")));
    let (id, _) = retry(&story.order(again("marie/q")));
    story.carried_out(id, &["marie/q"]);
    assert_eq!(story.waits_again("marie/q", None), [assign("marie/q")]);
}

#[test]
fn dead_letters_are_counted_until_they_start_again() {
    let mut story = Story::fallen();
    assert_eq!(story.room.tasks.dead().collect::<Vec<_>>(), [&task("fabien/z")]);
    let (id, _) = retry(&story.order(again("fabien/z")));
    story.carried_out(id, &["fabien/z", "anga/d"]);
    story.waits_again("fabien/z", None);
    assert_eq!(story.room.tasks.dead().len(), 0);
}

#[test]
fn g10_one_pick_in_ten_is_of_what_has_waited_longest_however_much_urgent_work_comes() {
    let mut story = Story::staffed();
    let mut spec = TaskSpec::new(task("marie/low"), "Do it.");
    spec.priority = Priority(8);
    story.order(Order::Pause { agent: agent("marie") });
    let record = TaskRecord::new(spec, story.now);
    story.seen(record);
    let mut given = Vec::new();
    for n in 0..30 {
        let mut spec = TaskSpec::new(task(&format!("marie/urgent-{n}")), "Do it.");
        spec.priority = Priority(1);
        story.later(1);
        let record = TaskRecord::new(spec, story.now);
        story.seen(record);
    }
    let mut effects = story.order(Order::Resume { agent: agent("marie") });
    while let Some(Effect::Assign { task, .. }) = effects.iter().find(|e| matches!(e, Effect::Assign { .. })) {
        let name = task.to_string();
        given.push(name.clone());
        story.started(&name, 1);
        effects = story.ended(&name, EndState::Done);
    }
    assert_eq!(given.len(), 31);
    assert_eq!(given.iter().position(|name| name == "marie/low"), Some(9));
    let urgent: Vec<_> = given.iter().filter(|name| *name != "marie/low").cloned().collect();
    assert_eq!(urgent, (0..30).map(|n| format!("marie/urgent-{n}")).collect::<Vec<_>>(), "first seen, first started");
}
