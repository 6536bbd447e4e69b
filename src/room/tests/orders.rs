//! Stories of what is thrown away and brought back, of patience with silence, and of markers.

use super::{retry::refusal, *};

fn removal(name: &str) -> Order {
    Order::Remove { item: Item::Task(task(name)) }
}

fn accepted(effects: &[Effect]) -> &str {
    let Some(Effect::Answer { answer: Answer::Done { text, .. }, .. }) = effects.last() else { panic!("{effects:?}") };
    text
}

impl Story {
    fn asked_for(&mut self, name: &str, request: Request) -> Vec<Effect> {
        self.tell(Event::Task(TaskEvent::Requested { task: task(name), request }))
    }
}

fn answered_marker(name: &str, request: Request) -> Effect {
    Effect::AnswerRequest { task: task(name), request }
}

#[test]
fn what_does_not_run_can_be_thrown_away_and_brought_back() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.dropped("marie/b", &["later"]);
    assert_eq!(refusal(&story.order(removal("marie/a"))), "marie/a is running: cancel it first");
    assert_eq!(refusal(&story.order(removal("marie/x"))), "there is no task marie/x");
    let item = Item::Task(task("marie/b"));
    let effects = story.order(removal("marie/b"));
    assert_eq!(effects, [Effect::Remove { id: OrderId(3), item: item.clone() }]);
    let record = story.room.tasks.get(&task("marie/b")).unwrap().record.clone();
    let back = || Order::Restore { item: item.clone() };
    assert_eq!(refusal(&story.order(back())), "marie/b is not in the trash");
    story.tell(Event::Task(TaskEvent::Withdrawn { task: task("marie/b") }));
    let removed = Removed { item: item.clone(), title: "Do it.".into(), at: story.now };
    story.tell(Event::Task(TaskEvent::Trash { removed: vec![removed] }));
    assert_eq!(story.order(back()), [Effect::Restore { id: OrderId(5), item: item.clone() }]);
    story.seen(record);
    assert_eq!(story.why("marie/b"), "waiting for later, which nobody has submitted yet");
}

#[test]
fn a_file_that_was_set_aside_can_be_thrown_away_and_no_other_file() {
    let mut story = Story::staffed();
    let path = "tasks/marie/broken.json".to_owned();
    let rejected =
        Rejected { path: path.clone(), reason: "no JSON".into(), at: story.now, moved: false, duplicate: false };
    story.tell(Event::Task(TaskEvent::Rejected { rejected }));
    let item = Item::File(path);
    let effects = story.order(Order::Remove { item: item.clone() });
    assert_eq!(effects, [Effect::Remove { id: OrderId(1), item }]);
    let effects = story.order(Order::Remove { item: Item::File("podium.toml".into()) });
    assert_eq!(refusal(&effects), "podium.toml is no file that was set aside");
}

#[test]
fn a_goal_loses_no_task_while_it_runs_and_gets_back_what_was_thrown_away_after() {
    let mut story = Story::staffed();
    story.published(MicroUsd(1_000_000));
    assert_eq!(
        refusal(&story.order(removal("fabien/g1-post"))),
        "fabien/g1-post belongs to g1, which is running: cancel it instead"
    );
    let mut story = Story::reported(GoalEnd::Partial);
    let record = story.room.tasks.get(&task("marie/g1-read")).unwrap().record.clone();
    let effects = story.order(removal("marie/g1-read"));
    assert!(matches!(&effects[..], [Effect::Remove { .. }]), "{effects:?}");
    story.tell(Event::Task(TaskEvent::Withdrawn { task: task("marie/g1-read") }));
    let tasks = |story: &Story| story.room.goals.get(&goal_id()).unwrap().tasks.clone();
    assert_eq!(tasks(&story), [task("fabien/g1-post")]);
    story.seen(record);
    assert_eq!(tasks(&story), [task("marie/g1-read"), task("fabien/g1-post")]);
}

#[test]
fn silence_is_shown_with_its_countdown_and_can_be_given_more_time() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    let extend = |name: &str| Order::Extend { task: task(name), by: Duration::from_mins(10) };
    story.started("marie/a", 1);
    let attempt = task("marie/a").attempt(1);
    let activity = Activity { stalls_at: Some(story.now + SignedDuration::from_secs(299)), ..Activity::default() };
    story.report("marie", Report::Active { attempt: attempt.clone(), activity });
    assert_eq!(story.why("marie/a"), "silent, ended in 4:59");
    let effects = story.order(extend("marie/a"));
    let by = Duration::from_mins(10);
    assert_eq!(effects.first(), Some(&Effect::Extend { slot: slot("marie"), attempt, by }));
    assert_eq!(accepted(&effects), "marie/a may be silent for 10 min longer");
    // Who gives it must not think that it was heard.
    story.worker(WorkerEvent::Disconnected { slot: slot("marie"), pid: 100 });
    let reason = "the worker of marie-0 is not connected just now, so marie/a got no more time: try again";
    assert_eq!(refusal(&story.order(extend("marie/a"))), reason);
    story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 100, running: Some(task("marie/a").attempt(1)) });
    story.ended("marie/a", EndState::Done);
    let reason = "marie/a is not running: there is nothing to wait longer for";
    assert_eq!(refusal(&story.order(extend("marie/a"))), reason);
    assert_eq!(refusal(&story.order(extend("marie/x"))), "there is no task marie/x");
}

#[test]
fn a_marker_that_asks_for_a_cancel_is_taken_away_when_the_task_has_ended_and_not_sooner() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    let effects = story.asked_for("marie/a", Request::Cancel);
    assert!(matches!(&effects[..], [Effect::CancelAttempt { .. }]), "nobody else is answered: {effects:?}");
    assert_eq!(story.asked_for("marie/a", Request::Cancel), [], "a second look at the marker asks for nothing more");
    assert_eq!(story.ended("marie/a", EndState::Cancelled), [answered_marker("marie/a", Request::Cancel)]);
    let effects = story.asked_for("marie/a", Request::Cancel);
    assert_eq!(effects, [answered_marker("marie/a", Request::Cancel)], "too late is an answer too");
}

#[test]
fn a_marker_waits_for_the_worker_that_holds_its_task() {
    let mut story = Story::begin();
    let mut record = TaskRecord::new(TaskSpec::new(task("marie/a"), "Do it."), story.now);
    record.standing = Standing::Running { attempt: 2 };
    story.seen(record);
    assert_eq!(story.asked_for("marie/a", Request::Cancel), [], "its worker has not found this room yet");
    let attempt = task("marie/a").attempt(2);
    let running = Some(attempt.clone());
    let effects = story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 77, running });
    assert_eq!(effects, [Effect::CancelAttempt { slot: slot("marie"), attempt }]);
}

#[test]
fn a_marker_that_asks_for_a_retry_is_taken_away_with_the_queue_s_word() {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    story.ended("marie/a", EndState::Failed);
    let effects = story.asked_for("marie/a", Request::Retry);
    let [Effect::RetryTask { id, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(story.carried_out(*id, &["marie/a"]), [answered_marker("marie/a", Request::Retry)]);
    assert_eq!(story.waits_again("marie/a", None), [assign("marie/a")]);
    let effects = story.asked_for("marie/a", Request::Retry);
    assert_eq!(effects, [answered_marker("marie/a", Request::Retry)], "it runs: there is nothing to retry");
}
