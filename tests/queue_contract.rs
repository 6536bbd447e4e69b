//! One contract, all backends: what any queue promises. What only files promise is in `queue_files.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests; what goes wrong must stop them")]

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use podium::{
    model::{
        AgentName, Changes, Clock, CostSource, EndState, Ending, MicroUsd, Outcome, Spend, Standing, TaskRecord,
        TaskRef, TaskSpec, Usage,
    },
    queue::{
        Change, Claim, Claimed, Finished, Lease, Queue, QueueError, Spawned, Submitted,
        file::{FileQueue, Settings},
        memory::MemoryQueue,
    },
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

fn agents() -> Vec<AgentName> {
    ["marie", "anga", "fabien"].map(|name| name.parse().unwrap()).to_vec()
}

#[expect(clippy::disallowed_methods, reason = "the one clock of these tests, handed to the queue as a value")]
fn clock() -> Clock {
    Clock::new(Timestamp::now)
}

fn task(text: &str) -> TaskRef {
    text.parse().unwrap()
}

fn spec(name: &str, description: &str) -> TaskSpec {
    TaskSpec::new(task(name), description)
}

fn outcome(of: &TaskRef, state: EndState, ending: Ending) -> Outcome {
    Outcome {
        task: of.clone(),
        state,
        ending,
        attempt: 0,
        summary: format!("about {}", of.id),
        findings: vec!["one".into()],
        artifacts: Vec::new(),
        started_at: clock().now(),
        completed_at: clock().now(),
        usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
        cost: MicroUsd(1_000),
        cost_source: CostSource::Measured,
        model: Some("sonnet".into()),
        session_id: Some("the-session".into()),
        goal: None,
        foreign: false,
    }
}

fn done(of: &TaskRef) -> Outcome {
    outcome(of, EndState::Done, Ending::Done)
}

fn crash() -> Ending {
    Ending::Signal { signal: 9 }
}

async fn won<Q: Queue>(queue: &Q, of: &TaskRef) -> Claim<Q::Lease> {
    match queue.claim(of).await.unwrap() {
        Claimed::Won(claim) => *claim,
        Claimed::Missed(why) => panic!("missed: {why}"),
    }
}

async fn missed<Q: Queue>(queue: &Q, of: &TaskRef) -> String {
    match queue.claim(of).await.unwrap() {
        Claimed::Won(claim) => panic!("won attempt {}", claim.n),
        Claimed::Missed(why) => why,
    }
}

/// Reads changes until one fits.
async fn change<T>(changes: &mut mpsc::Receiver<Change>, fits: impl Fn(&Change) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let change = changes.recv().await.expect("the watch ended");
            if let Some(found) = fits(&change) {
                return found;
            }
            seen.push(format!("{change:?}"));
        }
    };
    let found = timeout(PATIENCE, wait).await.ok();
    found.unwrap_or_else(|| panic!("nothing fits; seen: {seen:#?}"))
}

fn stands<'a>(of: &'a TaskRef, standing: &'a Standing) -> impl Fn(&Change) -> Option<TaskRecord> + 'a {
    move |change| match change {
        Change::Task(record) if record.task() == of && record.standing == *standing => Some((**record).clone()),
        Change::Task(_)
        | Change::Found(..)
        | Change::Gone(_)
        | Change::Rejected(_)
        | Change::RejectedGone(_)
        | Change::Polling(_) => None,
    }
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

async fn c02_the_same_id_twice_runs_once<Q: Queue>(queue: Q) {
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

async fn c04_many_claimers_win_each_task_once<Q: Queue>(queue: Q) {
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

async fn c05_a_finish_and_an_end_leave_one_result<Q: Queue>(queue: Q) {
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

async fn c09_lost_three_times_is_dead_after_three_starts<Q: Queue>(queue: Q) {
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
    let spend = Spend { usage: Usage { input_tokens: 7, ..Usage::default() }, cost: MicroUsd(500), calls: 1 };
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

async fn c15_a_claim_brings_the_results_of_its_dependencies_in_order<Q: Queue>(queue: Q) {
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
        let record = change(&mut changes, |change| match change {
            Change::Task(record) => Some((**record).clone()),
            Change::Found(..)
            | Change::Gone(_)
            | Change::Rejected(_)
            | Change::RejectedGone(_)
            | Change::Polling(_) => None,
        })
        .await;
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

async fn c22_recovery_leaves_held_attempts_alone<Q: Queue>(queue: Q) {
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

macro_rules! for_every_backend {
    ($($name:ident)*) => {
        mod files {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let stage = tempfile::tempdir().unwrap();
                let queue = FileQueue::open(Settings::new(stage.path(), agents(), clock())).unwrap();
                super::$name(queue).await;
            })*
        }
        mod polled_files {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let stage = tempfile::tempdir().unwrap();
                let mut settings = Settings::new(stage.path(), agents(), clock());
                settings.polling = true;
                super::$name(FileQueue::open(settings).unwrap()).await;
            })*
        }
        mod memory {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(MemoryQueue::new(agents(), 3, clock()).unwrap()).await;
            })*
        }
    };
}

for_every_backend! {
    c01_submit_get_claim_finish_result
    c02_the_same_id_twice_runs_once
    c03_a_hundred_parallel_submits_of_one_id_are_one
    c04_many_claimers_win_each_task_once
    c05_a_finish_and_an_end_leave_one_result
    c09_lost_three_times_is_dead_after_three_starts
    c10_a_failed_attempt_waits_and_the_next_knows_of_it
    c10_a_limit_costs_no_attempt
    c13_a_waiting_task_can_be_ended_in_each_way
    c13_a_task_between_attempts_can_be_cancelled
    c14_a_retry_renews_the_budget_and_numbers_go_on
    c14_a_retry_of_a_waiting_attempt_lets_it_start_at_once
    c15_a_claim_brings_the_results_of_its_dependencies_in_order
    c18_a_watch_tells_every_step
    c21_ids_over_the_whole_alphabet
    c22_recovery_leaves_held_attempts_alone
}

/// One step of a random life; the number picks the task.
#[derive(Debug, Clone, Copy)]
enum Step {
    Submit(u8),
    Claim(u8),
    Vanish(u8),
    Fail(u8),
    Limit(u8),
    Finish(u8),
    End(u8),
    Retry(u8),
    Recover,
}

/// Takes a step and says what came of it, in words that both backends share.
async fn step<Q: Queue>(queue: &Q, leases: &mut BTreeMap<u8, Q::Lease>, step: Step) -> String {
    let of = |id: u8| task(&format!("marie/t{id}"));
    let error = |error: QueueError| match error {
        QueueError::Unknown(_) => "unknown".to_owned(),
        QueueError::State { .. } => "state".to_owned(),
        other => panic!("{other:?}"),
    };
    match step {
        Step::Submit(id) => format!("{:?}", queue.submit(TaskSpec::new(of(id), "x")).await.unwrap()),
        Step::Claim(id) => match queue.claim(&of(id)).await.unwrap() {
            Claimed::Won(claim) => {
                let words = format!("{} {} {:?}", claim.n, claim.counted, claim.previous);
                leases.insert(id, claim.lease);
                words
            }
            Claimed::Missed(_) => "missed".into(),
        },
        Step::Vanish(id) => format!("{}", leases.remove(&id).is_some()),
        Step::Fail(id) | Step::Limit(id) => {
            let Some(lease) = leases.remove(&id) else { return String::new() };
            let limit = Ending::Limit { message: "l".into(), until: None };
            let ending = if matches!(step, Step::Limit(_)) { limit } else { crash() };
            let spend = Spend { cost: MicroUsd(7), ..Spend::default() };
            format!("{:?}", queue.fail(lease, ending, spend, Timestamp::UNIX_EPOCH).await.map_err(error))
        }
        Step::Finish(id) => {
            let Some(lease) = leases.remove(&id) else { return String::new() };
            format!("{:?}", queue.finish(lease, done(&of(id))).await.map_err(error))
        }
        Step::End(id) => format!("{:?}", queue.end(&of(id), Ending::Cancelled).await.map_err(error)),
        Step::Retry(id) => format!("{:?}", queue.retry(&of(id), Changes::default()).await.map_err(error)),
        Step::Recover => format!("{:?}", queue.recover().await.unwrap()),
    }
}

/// The list without what differs by nature: times and paths.
async fn picture<Q: Queue>(queue: &Q) -> Vec<String> {
    let mut list = queue.list().await.unwrap();
    list.sort_by(|a, b| a.task().cmp(b.task()));
    let one = |record: &TaskRecord| {
        let standing = match &record.standing {
            Standing::Retrying { attempt, .. } => format!("retrying {attempt}"),
            Standing::Waiting
            | Standing::Claimed
            | Standing::Running { .. }
            | Standing::Asking { .. }
            | Standing::Ended => {
                format!("{:?}", record.standing)
            }
        };
        let attempts: Vec<_> = record.attempts.iter().map(|a| (a.n, a.ending.clone(), a.spend.cost)).collect();
        let outcome = record.outcome.as_ref().map(|o| (o.state, o.attempt, o.cost));
        format!("{} {standing} {attempts:?} {outcome:?}", record.task())
    };
    list.iter().map(one).collect()
}

/// C25: any sequence of calls has the same answers and leaves the same picture in files as in memory.
#[test]
fn c25_files_and_memory_agree_on_random_lives() {
    use proptest::prelude::*;
    let id = 0..2_u8;
    let steps = prop_oneof![
        id.clone().prop_map(Step::Submit),
        id.clone().prop_map(Step::Claim),
        id.clone().prop_map(Step::Claim),
        id.clone().prop_map(Step::Vanish),
        id.clone().prop_map(Step::Fail),
        id.clone().prop_map(Step::Limit),
        id.clone().prop_map(Step::Finish),
        id.clone().prop_map(Step::End),
        id.prop_map(Step::Retry),
        Just(Step::Recover),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(life in prop::collection::vec(steps, 1..30))| {
        runtime.block_on(async {
            let stage = tempfile::tempdir().unwrap();
            let files = FileQueue::open(Settings::new(stage.path(), agents(), clock())).unwrap();
            let memory = MemoryQueue::new(agents(), 3, clock()).unwrap();
            let (mut held, mut held_in_memory) = (BTreeMap::new(), BTreeMap::new());
            for next in life {
                let left = step(&files, &mut held, next).await;
                let right = step(&memory, &mut held_in_memory, next).await;
                assert_eq!(left, right, "{next:?}");
                assert_eq!(picture(&files).await, picture(&memory).await, "after {next:?}");
            }
        });
    });
}
