//! One contract, all backends: what any queue promises. What only files promise is in `queue_files.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests; what goes wrong must stop them")]

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use podium::{
    model::{
        Changes, Clock, EndState, Ending, Item, MicroUsd, OnLost, Outcome, Rejected, Removed, Request, Spend, Standing,
        TaskRecord, TaskRef, TaskSpec, Usage,
    },
    queue::{
        Change, Claim, Claimed, Finished, Lease, Queue, QueueError, Spawned, Submitted,
        file::{FileLease, FileQueue, Settings},
        memory::MemoryQueue,
        nats::{self, NatsQueue},
    },
};
use tokio::{sync::mpsc, task::JoinSet};

#[path = "queue_contract/crashes.rs"]
mod crashes;
#[path = "queue_contract/guarantees.rs"]
mod guarantees;
#[path = "queue_contract/lives.rs"]
mod lives;
#[path = "common/outcome.rs"]
mod plain;
#[path = "common/queues.rs"]
mod queues;
#[path = "queue_contract/reopening.rs"]
mod reopening;
#[expect(dead_code, reason = "what is done to servers is for the tests of faults")]
#[path = "common/nats.rs"]
mod servers;

use queues::{agents, change, clock, crash, task, won};
use reopening::Reopening;

fn spec(name: &str, description: &str) -> TaskSpec {
    TaskSpec::new(task(name), description)
}

fn outcome(of: &TaskRef, state: EndState, ending: Ending) -> Outcome {
    Outcome {
        state,
        ending,
        summary: format!("about {}", of.id),
        findings: vec!["one".into()],
        usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
        cost: MicroUsd(1_000),
        model: Some("sonnet".into()),
        session_id: Some("the-session".into()),
        ..plain::plain(of, 0, clock().now())
    }
}

fn done(of: &TaskRef) -> Outcome {
    outcome(of, EndState::Done, Ending::Done)
}

async fn missed<Q: Queue>(queue: &Q, of: &TaskRef) -> String {
    match queue.claim(of).await.unwrap() {
        Claimed::Won(claim) => panic!("won attempt {}", claim.n),
        Claimed::Missed(why) => why,
    }
}

fn stands<'a>(of: &'a TaskRef, standing: &'a Standing) -> impl Fn(&Change) -> Option<TaskRecord> + 'a {
    move |change| match change {
        Change::Task(record) if record.task() == of && record.standing == *standing => Some((**record).clone()),
        Change::Task(_)
        | Change::Found(..)
        | Change::Gone(_)
        | Change::Requested { .. }
        | Change::Trash(_)
        | Change::Rejected(_)
        | Change::RejectedGone(_)
        | Change::Polling(_)
        | Change::Space(_) => None,
    }
}

/// Reads changes until both have come, in whichever order: a task's news and the trash's are told apart.
async fn both(
    changes: &mut mpsc::Receiver<Change>,
    one: impl Fn(&Change) -> Option<()>,
    other: impl Fn(&Change) -> Option<()>,
) {
    let (mut one_came, mut other_came) = (false, false);
    while !(one_came && other_came) {
        let is_one = change(changes, |change| one(change).map(|()| true).or(other(change).map(|()| false))).await;
        (one_came, other_came) = (one_came || is_one, other_came || !is_one);
    }
}

/// The record of any task.
fn any_task(change: &Change) -> Option<TaskRecord> {
    if let Change::Task(record) = change { Some((**record).clone()) } else { None }
}

fn exactly(wanted: Change) -> impl Fn(&Change) -> Option<()> {
    move |change| (*change == wanted).then_some(())
}

async fn c01_submit_get_claim_finish_result<Q: Queue>(queue: Q) {
    let t = task("marie/eval.1-a_b");
    let wanted = spec("marie/eval.1-a_b", "évaluer les juniors");
    assert_eq!(queue.submit(wanted.clone()).await.unwrap(), Submitted::New);
    let record = queue.get(&t).await.unwrap();
    assert_eq!((&record.standing, &record.spec), (&Standing::Waiting, &wanted));
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted, &claim.spec), (1, 0, &wanted));
    assert_eq!(claim.previous, None);
    assert_eq!(claim.lease.attempt(), &t.attempt(1));
    assert!(claim.lease.folder().join("out.log").is_file());
    assert_eq!(queue.get(&t).await.unwrap().standing, Standing::Running { attempt: 1 });
    let child = Spawned { pid: 1, start_ticks: 2, boot_id: "b".into(), session_id: Some("s1".into()) };
    queue.spawned(&claim.lease, &child).await.unwrap();
    assert_eq!(queue.get(&t).await.unwrap().attempts[0].session_id.as_deref(), Some("s1"));
    assert_eq!(queue.finish(claim.lease, done(&t)).await.unwrap(), Finished::Committed);
    let record = queue.get(&t).await.unwrap();
    assert_eq!(record.standing, Standing::Ended);
    let outcome = record.outcome.as_ref().unwrap();
    assert_eq!((outcome.state, outcome.attempt, outcome.summary.as_str()), (EndState::Done, 1, "about eval.1-a_b"));
    assert_eq!(record.attempts[0].ending, Some(Ending::Done));
    assert_eq!(record.spend().cost, MicroUsd(1_000));
    assert_eq!(queue.list().await.unwrap(), vec![record]);
    assert!(missed(&queue, &t).await.contains("has ended"));
}

async fn c02_g9_the_same_id_twice_runs_once<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    assert_eq!(queue.submit(spec("marie/a", "x")).await.unwrap(), Submitted::New);
    let batch = vec![spec("marie/a", "x"), spec("marie/a", "y"), spec("marie/b", "x"), spec("anga/a", "y")];
    let answers = queue.submit_many(batch).await.unwrap();
    assert_eq!(answers, [Submitted::Exists, Submitted::Conflict, Submitted::New, Submitted::New]);
    let claim = won(&queue, &t).await;
    assert_eq!(queue.submit(spec("marie/a", "x")).await.unwrap(), Submitted::Exists);
    assert_eq!(queue.submit(spec("marie/a", "y")).await.unwrap(), Submitted::Conflict);
    queue.finish(claim.lease, done(&t)).await.unwrap();
    assert_eq!(queue.submit(spec("marie/a", "x")).await.unwrap(), Submitted::Exists);
    assert_eq!(queue.submit(spec("marie/a", "y")).await.unwrap(), Submitted::Conflict);
    assert!(
        matches!(queue.submit(spec("nobody/a", "x")).await, Err(QueueError::UnknownAgent(name)) if name == "nobody")
    );
}

async fn c03_a_hundred_parallel_submits_of_one_id_are_one<Q: Queue>(queue: Q) {
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let queue = queue.clone();
        all.spawn(async move { queue.submit(spec("marie/a", "x")).await.unwrap() });
    }
    let answers = all.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == Submitted::New).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Submitted::New | Submitted::Exists)), "{answers:?}");
}

async fn c04_g5_many_claimers_win_each_task_once<Q: Queue>(queue: Q) {
    const TASKS: usize = 100;
    let tasks: Vec<TaskSpec> = (0..TASKS).map(|i| spec(&format!("anga/t{i}"), "x")).collect();
    queue.submit_many(tasks).await.unwrap();
    let mut all = JoinSet::new();
    for start in 0..8 {
        let queue = queue.clone();
        all.spawn(async move {
            let mut mine = Vec::new();
            for i in 0..TASKS {
                let t = task(&format!("anga/t{}", (i + start * 7) % TASKS));
                if let Claimed::Won(claim) = queue.claim(&t).await.unwrap() {
                    assert_eq!(claim.n, 1);
                    mine.push(claim.lease);
                }
            }
            mine
        });
    }
    let leases: Vec<Q::Lease> = all.join_all().await.into_iter().flatten().collect();
    let distinct: HashSet<_> = leases.iter().map(|lease| lease.attempt().clone()).collect();
    assert_eq!((leases.len(), distinct.len()), (TASKS, TASKS));
}

async fn c05_g3_a_finish_and_an_end_leave_one_result<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    queue.submit(spec("marie/a", "x")).await.unwrap();
    let claim = won(&queue, &t).await;
    let running = queue.end(&t, Ending::Cancelled).await;
    assert!(matches!(&running, Err(QueueError::State { state, .. }) if state == "running (attempt 1)"), "{running:?}");
    assert_eq!(queue.finish(claim.lease, done(&t)).await.unwrap(), Finished::Committed);
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let (queue, t) = (queue.clone(), t.clone());
        all.spawn(async move { queue.end(&t, Ending::Cancelled).await.unwrap() });
    }
    assert!(all.join_all().await.into_iter().all(|answer| answer == Finished::AlreadyCommitted));
    assert_eq!(queue.get(&t).await.unwrap().outcome.unwrap().state, EndState::Done);
}

async fn c09_g6_lost_three_times_is_dead_after_three_starts<Q: Queue>(queue: Q) {
    let t = task("fabien/a");
    queue.submit(spec("fabien/a", "x")).await.unwrap();
    for n in 1..=3 {
        let claim = won(&queue, &t).await;
        assert_eq!((claim.n, claim.counted), (n, n - 1));
        drop(claim);
        assert_eq!(queue.recover().await.unwrap(), vec![t.clone()]);
        assert!(queue.recover().await.unwrap().is_empty(), "recovering twice is recovering once");
    }
    let record = queue.get(&t).await.unwrap();
    assert_eq!(record.outcome.as_ref().map(|o| o.state), Some(EndState::Dead));
    assert_eq!(record.attempts.len(), 3);
    assert!(matches!(record.attempts[2].ending, Some(Ending::Lost { .. })));
    missed(&queue, &t).await;
}

async fn c10_a_failed_attempt_waits_and_the_next_knows_of_it<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    queue.submit(spec("marie/a", "x")).await.unwrap();
    let claim = won(&queue, &t).await;
    let child = Spawned { pid: 1, start_ticks: 2, boot_id: "b".into(), session_id: Some("s1".into()) };
    queue.spawned(&claim.lease, &child).await.unwrap();
    let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let spend = Spend {
        usage: Usage { input_tokens: 7, ..Usage::default() },
        cost: MicroUsd(500),
        calls: 1,
        ..Spend::default()
    };
    queue.fail(claim.lease, crash(), spend, at).await.unwrap();
    let record = queue.get(&t).await.unwrap();
    assert_eq!(record.standing, Standing::Retrying { attempt: 1, not_before: at });
    assert_eq!(record.spend(), spend);
    assert!(queue.recover().await.unwrap().is_empty(), "a task that waits for its turn is not broken");
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted), (2, 1));
    assert_eq!(claim.previous, Some((crash(), Some("s1".into()))));
    queue.finish(claim.lease, done(&t)).await.unwrap();
    let record = queue.get(&t).await.unwrap();
    let outcome = record.outcome.as_ref().unwrap();
    assert_eq!((outcome.cost, outcome.usage.input_tokens), (MicroUsd(1_500), 17), "all attempts are added up");
    assert_eq!(record.spend().cost, MicroUsd(1_500));
    assert_eq!(outcome.started_at, record.attempts[0].started_at);
}

async fn c10_a_limit_costs_no_attempt<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    let mut wanted = spec("marie/a", "x");
    wanted.max_attempts = Some(1);
    queue.submit(wanted).await.unwrap();
    for n in 1..=3 {
        let claim = won(&queue, &t).await;
        assert_eq!((claim.n, claim.counted), (n, 0));
        let limit = Ending::Limit { message: "5 h".into(), until: None };
        queue.fail(claim.lease, limit, Spend::default(), clock().now()).await.unwrap();
    }
    let claim = won(&queue, &t).await;
    queue.fail(claim.lease, crash(), Spend::default(), clock().now()).await.unwrap();
    assert!(missed(&queue, &t).await.contains("attempts"));
    assert_eq!(queue.recover().await.unwrap(), vec![t.clone()], "a task that may not start again is over");
    assert_eq!(queue.get(&t).await.unwrap().outcome.unwrap().state, EndState::Dead);
}

async fn c13_a_waiting_task_can_be_ended_in_each_way<Q: Queue>(queue: Q) {
    let endings = [
        ("a", Ending::Cancelled, EndState::Cancelled),
        ("b", Ending::DependencyFailed { dependency: "marie/a".into() }, EndState::Skipped),
        ("c", Ending::Malformed { message: "description is empty".into() }, EndState::Failed),
    ];
    for (id, ending, state) in endings {
        let t = task(&format!("marie/{id}"));
        queue.submit(TaskSpec::new(t.clone(), "")).await.unwrap();
        assert_eq!(queue.end(&t, ending.clone()).await.unwrap(), Finished::Committed);
        let record = queue.get(&t).await.unwrap();
        let outcome = record.outcome.unwrap();
        assert_eq!((outcome.state, &outcome.ending, outcome.attempt), (state, &ending, 0));
        assert_eq!(record.standing, Standing::Ended);
        assert_eq!(queue.end(&t, Ending::Cancelled).await.unwrap(), Finished::AlreadyCommitted);
    }
    let unknown = queue.end(&task("marie/none"), Ending::Cancelled).await;
    assert!(matches!(unknown, Err(QueueError::Unknown(_))), "{unknown:?}");
}

async fn c13_a_task_between_attempts_can_be_cancelled<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    queue.submit(spec("marie/a", "x")).await.unwrap();
    let claim = won(&queue, &t).await;
    let spend = Spend { cost: MicroUsd(70), ..Spend::default() };
    queue.fail(claim.lease, crash(), spend, clock().now()).await.unwrap();
    assert_eq!(queue.end(&t, Ending::Cancelled).await.unwrap(), Finished::Committed);
    let outcome = queue.get(&t).await.unwrap().outcome.unwrap();
    assert_eq!((outcome.state, outcome.attempt, outcome.cost), (EndState::Cancelled, 1, MicroUsd(70)));
}

async fn c14_a_retry_renews_the_budget_and_numbers_go_on<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    let mut wanted = spec("marie/a", "first words");
    wanted.max_attempts = Some(1);
    wanted.context = serde_json::json!({"class": "juniors"});
    queue.submit(wanted).await.unwrap();
    let waiting = queue.retry(&t, Changes::default()).await;
    assert!(matches!(waiting, Err(QueueError::State { .. })), "{waiting:?}");
    let claim = won(&queue, &t).await;
    let running = queue.retry(&t, Changes::default()).await;
    assert!(matches!(running, Err(QueueError::State { .. })), "{running:?}");
    queue.finish(claim.lease, outcome(&t, EndState::Dead, crash())).await.unwrap();
    queue.retry(&t, Changes::default()).await.unwrap();
    let record = queue.get(&t).await.unwrap();
    assert_eq!((&record.standing, record.attempts.len(), record.outcome), (&Standing::Waiting, 1, None));
    assert!(queue.recover().await.unwrap().is_empty(), "an old ending does not come back");
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted), (2, 0));
    queue.finish(claim.lease, outcome(&t, EndState::Dead, crash())).await.unwrap();
    queue.retry(&t, Changes { description: Some("other words".into()), ..Changes::default() }).await.unwrap();
    let claim = won(&queue, &t).await;
    assert_eq!(
        (claim.n, claim.spec.description.as_str(), claim.spec.title.as_str()),
        (3, "other words", "other words")
    );
    assert_eq!(claim.spec.context["class"], "juniors");
    queue.finish(claim.lease, done(&t)).await.unwrap();
    let outcome = queue.get(&t).await.unwrap().outcome.unwrap();
    assert_eq!((outcome.state, outcome.attempt, outcome.cost), (EndState::Done, 3, MicroUsd(3_000)));
}

async fn c14_a_retry_of_a_waiting_attempt_lets_it_start_at_once<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    queue.submit(spec("marie/a", "x")).await.unwrap();
    let claim = won(&queue, &t).await;
    queue.fail(claim.lease, crash(), Spend::default(), "2030-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    queue.retry(&t, Changes::default()).await.unwrap();
    assert_eq!(queue.get(&t).await.unwrap().standing, Standing::Waiting);
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted), (2, 0));
}

async fn c14_a_task_can_be_read_in_full_while_it_waits_and_when_it_has_ended<Q: Queue>(queue: Q) {
    let of = task("marie/a");
    let mut whole = spec("marie/a", &"word ".repeat(2_000));
    whole.description = whole.description.trim().to_owned();
    whole.context = serde_json::json!({"class": "juniors"});
    whole.retry_of = Some(task("anga/a"));
    queue.submit(whole.clone()).await.unwrap();
    assert_eq!(queue.spec(&of).await.unwrap(), whole);
    let claim = won(&queue, &of).await;
    queue.finish(claim.lease, done(&of)).await.unwrap();
    assert_eq!(queue.spec(&of).await.unwrap(), whole);
    assert!(matches!(queue.spec(&task("marie/nobody")).await, Err(QueueError::Unknown(_))));
}

async fn c15_g10_a_claim_brings_the_results_of_its_dependencies_in_order<Q: Queue>(queue: Q) {
    for name in ["marie/roster", "anga/roster", "anga/code", "fabien/copy"] {
        queue.submit(spec(name, "x")).await.unwrap();
        let t = task(name);
        let claim = won(&queue, &t).await;
        let mut result = done(&t);
        result.summary = format!("{name}: {}", "long ".repeat(2_000).trim_end());
        queue.finish(claim.lease, result).await.unwrap();
    }
    let mut wanted = spec("marie/report", "x");
    wanted.dependencies = ["code", "roster", "anga/roster", "open"].iter().map(|text| text.parse().unwrap()).collect();
    queue.submit(wanted).await.unwrap();
    let claim = won(&queue, &task("marie/report")).await;
    let names: Vec<String> = claim.prerequisites.iter().map(|o| o.task.to_string()).collect();
    assert_eq!(names, ["anga/code", "marie/roster", "anga/roster"], "its own agent's first, then any");
    assert!(claim.prerequisites.iter().all(|o| o.summary.len() > 9_000), "whole, not clipped for the picture");
}

async fn c18_a_watch_tells_every_step<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    queue.submit(spec("marie/before", "x")).await.unwrap();
    let mut changes = queue.watch().await.unwrap();
    change(&mut changes, stands(&task("marie/before"), &Standing::Waiting)).await;
    queue.submit(spec("marie/a", "x")).await.unwrap();
    change(&mut changes, stands(&t, &Standing::Waiting)).await;
    let claim = won(&queue, &t).await;
    change(&mut changes, stands(&t, &Standing::Running { attempt: 1 })).await;
    let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    queue.fail(claim.lease, crash(), Spend::default(), at).await.unwrap();
    change(&mut changes, stands(&t, &Standing::Retrying { attempt: 1, not_before: at })).await;
    let claim = won(&queue, &t).await;
    change(&mut changes, stands(&t, &Standing::Running { attempt: 2 })).await;
    queue.finish(claim.lease, done(&t)).await.unwrap();
    let record = change(&mut changes, stands(&t, &Standing::Ended)).await;
    assert_eq!(record.outcome.unwrap().state, EndState::Done);
    queue.retry(&t, Changes::default()).await.unwrap();
    change(&mut changes, stands(&t, &Standing::Waiting)).await;
    queue.end(&t, Ending::Cancelled).await.unwrap();
    change(&mut changes, stands(&t, &Standing::Ended)).await;
    // A second watch starts with everything there is, and it is what the list says.
    let mut changes = queue.watch().await.unwrap();
    let mut told = BTreeMap::new();
    while told.len() < 2 {
        let record = change(&mut changes, any_task).await;
        told.insert(record.task().clone(), record);
    }
    let list: BTreeMap<TaskRef, TaskRecord> =
        queue.list().await.unwrap().into_iter().map(|record| (record.task().clone(), record)).collect();
    assert_eq!(told, list);
}

async fn c21_ids_over_the_whole_alphabet<Q: Queue>(queue: Q) {
    let alphabet = "0Aa1b-C_d.E2f..g--h__i.json";
    let long = "x".repeat(120);
    for id in [alphabet, &long, "7", "a.1.2.3", "x-result", "task-x"] {
        let t = task(&format!("marie/{id}"));
        queue.submit(TaskSpec::new(t.clone(), "x")).await.unwrap();
        let claim = won(&queue, &t).await;
        assert_eq!(queue.finish(claim.lease, done(&t)).await.unwrap(), Finished::Committed, "{id}");
        assert_eq!(queue.get(&t).await.unwrap().outcome.unwrap().task, t);
    }
    assert_eq!(queue.submit(spec("marie/X", "x")).await.unwrap(), Submitted::New);
    assert_eq!(queue.submit(spec("marie/X-Result", "x")).await.unwrap(), Submitted::Conflict, "capitals do not differ");
}

async fn c22_g7_recovery_leaves_held_attempts_alone<Q: Queue>(queue: Q) {
    let (held, lost) = (task("marie/held"), task("marie/lost"));
    queue.submit_many(vec![spec("marie/held", "x"), spec("marie/lost", "x")]).await.unwrap();
    let claim = won(&queue, &held).await;
    drop(won(&queue, &lost).await);
    assert_eq!(queue.recover().await.unwrap(), vec![lost.clone()]);
    assert_eq!(queue.get(&held).await.unwrap().standing, Standing::Running { attempt: 1 });
    assert!(matches!(queue.get(&lost).await.unwrap().standing, Standing::Retrying { attempt: 1, .. }));
    assert!(queue.recover().await.unwrap().is_empty());
    assert_eq!(queue.finish(claim.lease, done(&held)).await.unwrap(), Finished::Committed);
}

async fn c08_a_lost_attempt_is_followed_by_the_second_and_a_held_one_is_not<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    let mut wanted = spec("marie/a", "x");
    wanted.backoff = Some(Duration::from_secs(1_000));
    queue.submit(wanted).await.unwrap();
    let claim = won(&queue, &t).await;
    assert!(queue.recover().await.unwrap().is_empty());
    missed(&queue, &t).await;
    drop(claim);
    let before = clock().now();
    assert_eq!(queue.recover().await.unwrap(), vec![t.clone()]);
    let Standing::Retrying { attempt: 1, not_before } = queue.get(&t).await.unwrap().standing else { panic!() };
    let wait = not_before.duration_since(before).as_secs();
    assert!((799..=1_260).contains(&wait), "its own wait, jittered by a fifth: {wait}");
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted), (2, 1));
    assert!(matches!(claim.previous, Some((Ending::Lost { .. }, None))), "{:?}", claim.previous);
}

/// C11: a worker that says no and dies before it can say so to the queue's result leaves no second attempt.
async fn c11_what_no_second_attempt_could_mend_ends_at_once<Q: Queue>(queue: Q) {
    let message = || "no".to_owned();
    let endings = [
        Ending::Refused { message: message() },
        Ending::Auth { message: message() },
        Ending::Config { message: message() },
        Ending::Overflow { message: message() },
        Ending::NeverStarted { message: message() },
    ];
    for (i, ending) in endings.into_iter().enumerate() {
        let t = task(&format!("marie/t{i}"));
        queue.submit(TaskSpec::new(t.clone(), "x")).await.unwrap();
        let claim = won(&queue, &t).await;
        queue.fail(claim.lease, ending.clone(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(queue.recover().await.unwrap(), vec![t.clone()]);
        let record = queue.get(&t).await.unwrap();
        let outcome = record.outcome.unwrap();
        assert_eq!((outcome.state, outcome.ending, record.attempts.len()), (EndState::Failed, ending, 1));
        missed(&queue, &t).await;
    }
}

async fn c12_timeouts_and_silence_end_a_task_that_used_up_its_attempts<Q: Queue>(queue: Q) {
    let endings = [
        ("marie/a", Ending::Deadline { seconds: 1 }, EndState::TimedOut),
        ("marie/b", Ending::Stalled { seconds: 1 }, EndState::Dead),
    ];
    for (name, ending, state) in endings {
        let t = task(name);
        queue.submit(spec(name, "x")).await.unwrap();
        for n in 1..=3 {
            let claim = won(&queue, &t).await;
            assert_eq!(claim.n, n);
            queue.fail(claim.lease, ending.clone(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
        }
        assert_eq!(queue.recover().await.unwrap(), vec![t.clone()]);
        assert_eq!(queue.get(&t).await.unwrap().outcome.map(|outcome| outcome.state), Some(state));
    }
}

async fn c12_a_task_starts_neither_too_early_nor_too_late<Q: Queue>(queue: Q) {
    let early: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    let late: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
    let mut not_yet = spec("marie/not-yet", "x");
    not_yet.not_before = Some(late);
    let mut now = spec("marie/now", "x");
    (now.not_before, now.deadline, now.start_by) = (Some(early), Some(late), Some(Duration::from_hours(1)));
    let mut too_late = spec("marie/too-late", "x");
    too_late.deadline = Some(early);
    let mut not_started = spec("marie/not-started", "x");
    not_started.start_by = Some(Duration::from_nanos(1));
    for spec in [&not_yet, &now, &too_late, &not_started] {
        assert_eq!(queue.submit(spec.clone()).await.unwrap(), Submitted::New);
    }
    missed(&queue, &not_yet.task).await;
    let record = queue.get(&not_yet.task).await.unwrap();
    assert_eq!((&record.standing, record.startable_at(), record.expires_at()), (&Standing::Waiting, Some(late), None));
    assert_eq!(won(&queue, &now.task).await.n, 1);
    for (spec, why) in [(too_late, "its deadline, "), (not_started, "not started within ")] {
        let (_, told) = queue.get(&spec.task).await.unwrap().expires_at().unwrap();
        assert!(told.starts_with(why), "{told}");
        assert!(missed(&queue, &spec.task).await.contains("expired"));
        let outcome = queue.get(&spec.task).await.unwrap().outcome.unwrap();
        assert_eq!((outcome.state, outcome.ending), (EndState::Expired, Ending::Expired { message: told }));
    }
    // A retry after `start_by` has passed starts: the first attempt, not this one, had to be in time.
    let mut again = spec("marie/again", "x");
    again.start_by = Some(Duration::from_hours(1));
    queue.submit(again.clone()).await.unwrap();
    drop(won(&queue, &again.task).await);
    queue.recover().await.unwrap();
    assert_eq!(queue.get(&again.task).await.unwrap().expires_at(), None);
}

async fn c13_g11_a_cancel_against_a_finish_leaves_exactly_one_outcome<Q: Queue>(queue: Q) {
    for i in 0..50 {
        let t = task(&format!("marie/t{i}"));
        queue.submit(TaskSpec::new(t.clone(), "x")).await.unwrap();
        let claim = won(&queue, &t).await;
        let (finisher, ender) = (queue.clone(), queue.clone());
        let (of, end_of) = (t.clone(), t.clone());
        let mut both = JoinSet::new();
        both.spawn(async move { Some(finisher.finish(claim.lease, done(&of)).await.unwrap()) });
        both.spawn(async move {
            match ender.end(&end_of, Ending::Cancelled).await {
                Ok(answer) => Some(answer),
                Err(QueueError::State { .. }) => None,
                Err(error) => panic!("{error:?}"),
            }
        });
        let answers = both.join_all().await;
        let committed = answers.iter().filter(|answer| **answer == Some(Finished::Committed)).count();
        assert_eq!(committed, 1, "{answers:?}");
        let state = queue.get(&t).await.unwrap().outcome.unwrap().state;
        assert!(matches!(state, EndState::Done | EndState::Cancelled));
    }
}

/// C17, with a queue that takes three.
async fn full<Q: Queue>(queue: Q) {
    let names = ["marie/a", "marie/b", "marie/c"];
    for name in names {
        assert_eq!(queue.submit(spec(name, "x")).await.unwrap(), Submitted::New);
    }
    let refused = Submitted::Full { waiting: 3, limit: 3 };
    assert_eq!(queue.submit(spec("marie/d", "x")).await.unwrap(), refused);
    assert_eq!(queue.submit(spec("marie/a", "x")).await.unwrap(), Submitted::Exists, "what is known is known");
    assert_eq!(queue.submit(spec("anga/d", "x")).await.unwrap(), Submitted::New, "another agent has room");
    let claim = won(&queue, &task("marie/b")).await;
    assert_eq!(queue.submit(spec("marie/d", "x")).await.unwrap(), Submitted::New);
    queue.finish(claim.lease, done(&task("marie/b"))).await.unwrap();
    assert_eq!(queue.submit(spec("marie/e", "x")).await.unwrap(), refused);
    for name in ["marie/a", "marie/c", "marie/d", "anga/d"] {
        won(&queue, &task(name)).await;
    }
}

async fn c19_g12_a_task_may_be_as_large_as_the_limit_and_no_larger<Q: Queue>(queue: Q) {
    let of = |length: usize| spec("marie/a", &"x".repeat(length));
    let Err(QueueError::TooLarge { bytes, limit }) = queue.submit(of(1 << 20)).await else { panic!("not too large") };
    let most = limit - (bytes - (1 << 20));
    let over = queue.submit(of(most + 1)).await;
    assert!(matches!(&over, Err(QueueError::TooLarge { bytes, .. }) if *bytes == limit + 1), "{over:?}");
    for length in [most, most - 1] {
        assert_eq!(queue.submit(of(length)).await.unwrap(), Submitted::New);
        let claim = won(&queue, &task("marie/a")).await;
        assert_eq!(claim.spec.description.len(), length);
        drop(claim);
        queue.remove(&task("marie/a")).await.unwrap();
    }
}

async fn c20_g4_many_runners_with_failures_end_every_task_and_the_counts_add_up<Q: Queue>(queue: Q) {
    const TASKS: usize = 120;
    let tasks: Vec<TaskRef> = (0..TASKS).map(|i| task(&format!("anga/t{i}"))).collect();
    let specs = tasks.iter().map(|t| TaskSpec::new(t.clone(), "x")).collect();
    queue.submit_many(specs).await.unwrap();
    let mut runners = JoinSet::new();
    for runner in 0..16_usize {
        let (queue, tasks) = (queue.clone(), tasks.clone());
        runners.spawn(async move {
            let mut starts = 0_usize;
            for round in 0..4 {
                for i in 0..TASKS {
                    let t = &tasks[(i * 7 + runner * 11 + round) % TASKS];
                    let Claimed::Won(claim) = queue.claim(t).await.unwrap() else { continue };
                    starts += 1;
                    // One in ten fails, by task and attempt.
                    if (i * 31 + usize::try_from(claim.n).unwrap() * 17).is_multiple_of(10) {
                        let spend = Spend { cost: MicroUsd(1_000), ..Spend::default() };
                        queue.fail(claim.lease, crash(), spend, Timestamp::UNIX_EPOCH).await.unwrap();
                    } else {
                        queue.finish(claim.lease, done(t)).await.unwrap();
                    }
                }
            }
            starts
        });
    }
    let starts: usize = runners.join_all().await.into_iter().sum();
    queue.recover().await.unwrap();
    let list = queue.list().await.unwrap();
    assert_eq!(list.len(), TASKS);
    assert_eq!(list.iter().map(|record| record.attempts.len()).sum::<usize>(), starts);
    assert!(starts > TASKS, "some were tried again");
    for record in list {
        let outcome = record.outcome.as_ref().unwrap();
        assert!(matches!(outcome.state, EndState::Done | EndState::Dead), "{record:?}");
        let numbers: Vec<u32> = record.attempts.iter().map(|a| a.n).collect();
        assert_eq!(numbers, (1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
        assert_eq!(record.spend().cost, MicroUsd(1_000 * i64::try_from(numbers.len()).unwrap()));
        assert_eq!(outcome.cost, record.spend().cost);
    }
}

async fn c24_a_task_that_asks_waits_for_a_person<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    let mut wanted = spec("marie/a", "x");
    (wanted.on_lost, wanted.max_attempts) = (OnLost::Ask, Some(1));
    queue.submit(wanted).await.unwrap();
    let mut changes = queue.watch().await.unwrap();
    drop(won(&queue, &t).await);
    assert_eq!(queue.recover().await.unwrap(), vec![t.clone()]);
    assert!(queue.recover().await.unwrap().is_empty());
    let record = change(&mut changes, stands(&t, &Standing::Asking { attempt: 1 })).await;
    assert_eq!(record.startable_at(), None);
    assert!(missed(&queue, &t).await.contains("person"));
    queue.retry(&t, Changes::default()).await.unwrap();
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted), (2, 0));
    let gone = Ending::Lost { message: "the worker was told to go".into() };
    queue.fail(claim.lease, gone, Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(queue.get(&t).await.unwrap().standing, Standing::Asking { attempt: 2 });
    assert_eq!(queue.end(&t, Ending::Cancelled).await.unwrap(), Finished::Committed);
    assert_eq!(queue.get(&t).await.unwrap().outcome.unwrap().state, EndState::Cancelled);
    // Any other ending is tried again as ever.
    let mut other = spec("marie/b", "x");
    other.on_lost = OnLost::Ask;
    queue.submit(other).await.unwrap();
    let claim = won(&queue, &task("marie/b")).await;
    queue.fail(claim.lease, crash(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(won(&queue, &task("marie/b")).await.n, 2);
}

/// One task of each kind that may be removed.
async fn one_of_each<Q: Queue>(queue: &Q) -> Vec<TaskRef> {
    let names = ["waiting", "retrying", "done", "dead", "retried", "lost"];
    let tasks: Vec<TaskRef> = names.iter().map(|id| task(&format!("marie/{id}"))).collect();
    for t in &tasks {
        queue.submit(TaskSpec::new(t.clone(), format!("about {t}"))).await.unwrap();
    }
    let claim = won(queue, &tasks[1]).await;
    queue.fail(claim.lease, crash(), Spend::default(), "2030-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    let claim = won(queue, &tasks[2]).await;
    queue.finish(claim.lease, done(&tasks[2])).await.unwrap();
    let claim = won(queue, &tasks[3]).await;
    queue.finish(claim.lease, outcome(&tasks[3], EndState::Dead, crash())).await.unwrap();
    let claim = won(queue, &tasks[4]).await;
    queue.finish(claim.lease, done(&tasks[4])).await.unwrap();
    queue.retry(&tasks[4], Changes::default()).await.unwrap();
    drop(won(queue, &tasks[5]).await);
    tasks
}

async fn undo_brings_a_removed_task_back_exactly_as_it_was<Q: Queue>(queue: Q) {
    let tasks = one_of_each(&queue).await;
    let before = queue.list().await.unwrap();
    for t in &tasks {
        queue.remove(t).await.unwrap();
        assert!(matches!(queue.get(t).await, Err(QueueError::Unknown(_))), "{t}");
        assert_eq!(queue.result(t).await.unwrap(), None);
        missed(&queue, t).await;
        assert!(matches!(queue.remove(t).await, Err(QueueError::Unknown(_))), "{t}");
    }
    assert!(queue.recover().await.unwrap().is_empty());
    assert_eq!(queue.list().await.unwrap(), vec![]);
    let trash = queue.removed().await.unwrap();
    let newest_first: Vec<Item> = tasks.iter().rev().cloned().map(Item::Task).collect();
    assert_eq!(trash.iter().map(|removed| removed.item.clone()).collect::<Vec<_>>(), newest_first);
    assert_eq!(trash[5].title, "about marie/waiting");
    for t in &tasks {
        queue.restore(&Item::Task(t.clone())).await.unwrap();
    }
    assert_eq!(queue.list().await.unwrap(), before);
    assert_eq!(queue.removed().await.unwrap(), vec![]);
    assert_eq!(queue.recover().await.unwrap(), [tasks[5].clone()], "what was lost is still lost");
    let claim = won(&queue, &tasks[1]).await;
    assert_eq!((claim.n, claim.counted), (2, 1), "a life goes on where it was");
    let claim = won(&queue, &tasks[4]).await;
    assert_eq!((claim.n, claim.counted), (2, 0));
    assert_eq!(queue.submit(spec("marie/done", "about marie/done")).await.unwrap(), Submitted::Exists);
}

async fn undo_does_not_touch_what_runs_or_came_after<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    let item = Item::Task(t.clone());
    assert!(matches!(queue.remove(&t).await, Err(QueueError::Unknown(_))));
    assert!(matches!(queue.restore(&item).await, Err(QueueError::Unknown(_))));
    queue.submit(spec("marie/a", "first")).await.unwrap();
    let claim = won(&queue, &t).await;
    assert!(matches!(queue.remove(&t).await, Err(QueueError::State { .. })));
    queue.finish(claim.lease, done(&t)).await.unwrap();
    queue.remove(&t).await.unwrap();
    assert_eq!(queue.submit(spec("marie/a", "second")).await.unwrap(), Submitted::New);
    assert!(matches!(queue.restore(&item).await, Err(QueueError::State { .. })));
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.previous, claim.spec.description.as_str()), (1, None, "second"));
    drop(claim.lease);
    queue.remove(&t).await.unwrap();
    queue.restore(&item).await.unwrap();
    assert_eq!(queue.get(&t).await.unwrap().spec.description, "second", "the newest comes back");
    queue.remove(&t).await.unwrap();
    assert_eq!(queue.purge(Duration::from_hours(1)).await.unwrap(), 0);
    assert_eq!(queue.purge(Duration::ZERO).await.unwrap(), 2);
    assert_eq!(queue.removed().await.unwrap(), vec![]);
    assert!(matches!(queue.restore(&item).await, Err(QueueError::Unknown(_))));
    let file = queue.discard("tasks/marie/rejected/x.json").await;
    assert!(matches!(file, Err(QueueError::NoFile(_))), "{file:?}");
}

async fn undo_is_told_to_who_watches<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    queue.submit(spec("marie/a", "x")).await.unwrap();
    let mut changes = queue.watch().await.unwrap();
    change(&mut changes, stands(&t, &Standing::Waiting)).await;
    queue.remove(&t).await.unwrap();
    let trash = queue.removed().await.unwrap();
    assert_eq!(trash.len(), 1);
    both(&mut changes, exactly(Change::Gone(t.clone())), exactly(Change::Trash(trash.clone()))).await;
    let mut later = queue.watch().await.unwrap();
    change(&mut later, exactly(Change::Trash(trash))).await;
    queue.restore(&Item::Task(t.clone())).await.unwrap();
    let is_back = |change: &Change| stands(&t, &Standing::Waiting)(change).map(drop);
    both(&mut changes, is_back, exactly(Change::Trash(Vec::new()))).await;
}

async fn g11_a_request_is_told_until_it_is_answered<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    let unknown = queue.request(&t, Request::Cancel).await;
    assert!(matches!(unknown, Err(QueueError::Unknown(_))), "{unknown:?}");
    queue.submit(spec("marie/a", "x")).await.unwrap();
    let asks = |request| exactly(Change::Requested { task: task("marie/a"), request });
    let mut changes = queue.watch().await.unwrap();
    change(&mut changes, stands(&t, &Standing::Waiting)).await;
    queue.request(&t, Request::Cancel).await.unwrap();
    change(&mut changes, asks(Request::Cancel)).await;
    let mut later = queue.watch().await.unwrap();
    change(&mut later, asks(Request::Cancel)).await;
    queue.end(&t, Ending::Cancelled).await.unwrap();
    queue.answered(&t, Request::Cancel).await.unwrap();
    queue.answered(&t, Request::Cancel).await.unwrap();
    queue.request(&t, Request::Retry).await.unwrap();
    change(&mut changes, asks(Request::Retry)).await;
    queue.retry(&t, Changes::default()).await.unwrap();
    // A retry takes its marker away itself: the next room does not do it again.
    let mut later = queue.watch().await.unwrap();
    let mut told = Vec::new();
    while told.last() != Some(&Change::Gone(t.clone())) {
        if told.is_empty() {
            change(&mut later, stands(&t, &Standing::Waiting)).await;
            queue.remove(&t).await.unwrap();
        }
        told.push(change(&mut later, |change| Some(change.clone())).await);
    }
    assert!(!told.iter().any(|change| matches!(change, Change::Requested { .. })), "{told:?}");
}

async fn c14_a_session_is_taken_up_again_once<Q: Queue>(queue: Q) {
    let t = task("marie/a");
    queue.submit(spec("marie/a", "x")).await.unwrap();
    let child = Spawned { pid: 1, start_ticks: 2, boot_id: "b".into(), session_id: Some("s1".into()) };
    let again = Changes { resume: true, ..Changes::default() };
    let claim = won(&queue, &t).await;
    assert_eq!(claim.resume, None);
    queue.spawned(&claim.lease, &child).await.unwrap();
    queue.finish(claim.lease, outcome(&t, EndState::Dead, crash())).await.unwrap();
    queue.retry(&t, again.clone()).await.unwrap();
    for resume in [Some("the-session".to_owned()), None] {
        let claim = won(&queue, &t).await;
        assert_eq!(claim.resume, resume, "attempt {}", claim.n);
        queue.fail(claim.lease, crash(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    }
    // A person may ask for the same session once more, and a retry without that asks for none.
    queue.retry(&t, again).await.unwrap();
    let claim = won(&queue, &t).await;
    assert_eq!(claim.resume.as_deref(), Some("the-session"));
    queue.fail(claim.lease, crash(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    queue.retry(&t, Changes { description: Some("y".into()), ..Changes::default() }).await.unwrap();
    assert_eq!(won(&queue, &t).await.resume, None);
}

/// The usual settings with another limit on waiting tasks.
fn settings(stage: &std::path::Path, limit: usize) -> Settings {
    Settings { waiting_limit: limit, ..Settings::new(stage, agents(), clock()) }
}

fn files(limit: usize) -> (tempfile::TempDir, FileQueue) {
    let stage = tempfile::tempdir().unwrap();
    let queue = FileQueue::open(settings(stage.path(), limit)).unwrap();
    (stage, queue)
}

fn polled_files(limit: usize) -> (tempfile::TempDir, FileQueue) {
    let stage = tempfile::tempdir().unwrap();
    let queue = FileQueue::open(Settings { polling: true, ..settings(stage.path(), limit) }).unwrap();
    (stage, queue)
}

fn reopened_files(limit: usize) -> (tempfile::TempDir, Reopening) {
    let stage = tempfile::tempdir().unwrap();
    let queue = Reopening(settings(stage.path(), limit));
    (stage, queue)
}

fn memory(limit: usize) -> ((), MemoryQueue) {
    ((), MemoryQueue::with_limit(agents(), 3, clock(), limit).unwrap())
}

/// A server of its own for each test, and the folder of what attempts write.
async fn on_nats(limit: usize) -> Option<((servers::Nats, tempfile::TempDir), NatsQueue)> {
    let server = servers::Nats::start(&servers::server()?);
    let stage = tempfile::tempdir().unwrap();
    let queue = over_nats(&server, stage.path(), limit, clock()).await;
    Some(((server, stage), queue))
}

async fn over_nats(server: &servers::Nats, stage: &std::path::Path, limit: usize, clock: Clock) -> NatsQueue {
    let settings = nats::Settings::new(server.address(), "room", stage.to_owned(), agents(), clock);
    let settings = nats::Settings { makes: true, waiting_limit: limit, ..settings };
    NatsQueue::open(settings).await.unwrap()
}

macro_rules! for_every_backend {
    ($($name:ident)*) => {
        for_backend! { files, |limit| Some(super::files(limit)); $($name)* }
        for_backend! { polled_files, |limit| Some(super::polled_files(limit)); $($name)* }
        for_backend! { reopened_files, |limit| Some(super::reopened_files(limit)); $($name)* }
        for_backend! { memory, |limit| Some(super::memory(limit)); $($name)* }
        for_backend! { on_nats, |limit| super::on_nats(limit).await; $($name)* }
    };
}

macro_rules! for_backend {
    ($backend:ident, |$limit:ident| $open:expr; $($name:ident)*) => {
        mod $backend {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let $limit = 100_000;
                let Some((_stage, queue)) = $open else { return };
                super::$name(queue).await;
            })*
            #[tokio::test(flavor = "multi_thread")]
            async fn c17_g12_full_is_refused_and_later_accepted() {
                let $limit = 3;
                let Some((_stage, queue)) = $open else { return };
                super::full(queue).await;
            }
        }
    };
}

for_every_backend! {
    c01_submit_get_claim_finish_result
    c02_g9_the_same_id_twice_runs_once
    c03_a_hundred_parallel_submits_of_one_id_are_one
    c04_g5_many_claimers_win_each_task_once
    c05_g3_a_finish_and_an_end_leave_one_result
    c09_g6_lost_three_times_is_dead_after_three_starts
    c10_a_failed_attempt_waits_and_the_next_knows_of_it
    c10_a_limit_costs_no_attempt
    c13_a_waiting_task_can_be_ended_in_each_way
    c13_a_task_between_attempts_can_be_cancelled
    c14_a_retry_renews_the_budget_and_numbers_go_on
    c14_a_retry_of_a_waiting_attempt_lets_it_start_at_once
    c14_a_task_can_be_read_in_full_while_it_waits_and_when_it_has_ended
    c15_g10_a_claim_brings_the_results_of_its_dependencies_in_order
    c18_a_watch_tells_every_step
    c21_ids_over_the_whole_alphabet
    c22_g7_recovery_leaves_held_attempts_alone
    c08_a_lost_attempt_is_followed_by_the_second_and_a_held_one_is_not
    c11_what_no_second_attempt_could_mend_ends_at_once
    c12_timeouts_and_silence_end_a_task_that_used_up_its_attempts
    c12_a_task_starts_neither_too_early_nor_too_late
    c13_g11_a_cancel_against_a_finish_leaves_exactly_one_outcome
    c14_a_session_is_taken_up_again_once
    c19_g12_a_task_may_be_as_large_as_the_limit_and_no_larger
    c20_g4_many_runners_with_failures_end_every_task_and_the_counts_add_up
    c24_a_task_that_asks_waits_for_a_person
    undo_brings_a_removed_task_back_exactly_as_it_was
    undo_does_not_touch_what_runs_or_came_after
    undo_is_told_to_who_watches
    g11_a_request_is_told_until_it_is_answered
}
