//! C25: random lives, the same in files, over NATS, and in memory.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

/// How many lives are tried, where `PODIUM_TEST_LIVES` does not say.
const LIVES: u32 = 2_000;
/// The most steps of a life.
const LONGEST: usize = 10;
/// Tasks of a life: one that is tried again when it is lost, one that asks.
const TASKS: u8 = 2;
/// Lives on one stage.
const PER_STAGE: usize = 50;

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
    Remove(u8),
    Restore(u8),
    Recover,
}

/// Takes a step and says what came of it, in words that both backends share.
async fn step<Q: Queue>(queue: &Q, case: usize, leases: &mut BTreeMap<u8, Q::Lease>, step: Step) -> String {
    let of = |id: u8| task(&format!("marie/{case}-{id}"));
    let error = |error: QueueError| match error {
        QueueError::Unknown(_) => "unknown".to_owned(),
        QueueError::State { .. } => "state".to_owned(),
        other => panic!("{other:?}"),
    };
    match step {
        Step::Submit(id) => {
            let mut spec = TaskSpec::new(of(id), "x");
            spec.on_lost = if id == 0 { OnLost::Retry } else { OnLost::Ask };
            format!("{:?}", queue.submit(spec).await.unwrap())
        }
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
        Step::Remove(id) => format!("{:?}", queue.remove(&of(id)).await.map_err(error)),
        Step::Restore(id) => format!("{:?}", queue.restore(&Item::Task(of(id))).await.map_err(error)),
        Step::Recover => format!("{:?}", queue.recover().await.unwrap()),
    }
}

/// What is known of a case's tasks, without what differs by nature: times and paths.
async fn picture<Q: Queue>(queue: &Q, case: usize) -> Vec<String> {
    let mut picture = Vec::new();
    for id in 0..TASKS {
        let t = task(&format!("marie/{case}-{id}"));
        let record = match queue.get(&t).await {
            Ok(record) => record,
            Err(QueueError::Unknown(_)) => {
                picture.push("unknown".to_owned());
                continue;
            }
            Err(error) => panic!("{error:?}"),
        };
        let standing = match &record.standing {
            Standing::Retrying { attempt, .. } => format!("retrying {attempt}"),
            Standing::Waiting
            | Standing::Claimed
            | Standing::Running { .. }
            | Standing::Asking { .. }
            | Standing::Ended => format!("{:?}", record.standing),
        };
        let attempts: Vec<_> = record.attempts.iter().map(|a| (a.n, a.ending.clone(), a.spend.cost)).collect();
        let outcome = record.outcome.as_ref().map(|o| (o.state, o.attempt, o.cost));
        picture.push(format!("{t} {standing} {attempts:?} {outcome:?}"));
    }
    picture
}

/// A clock that jumps by up to three hours, forward and back, each time it is asked.
fn jumping_clock() -> Clock {
    let asked = AtomicI64::new(0);
    let clock = clock();
    Clock::new(move || {
        let jump = asked.fetch_add(1, Ordering::Relaxed) * 7_919 % 21_601 - 10_800;
        clock.now() + jiff::SignedDuration::from_secs(jump)
    })
}

/// A backend beside the one in memory, and how many cases they have served: a stage grows, and each case has its own ids.
struct Pair<G, Q> {
    _stage: G,
    queue: Q,
    memory: MemoryQueue,
    cases: usize,
}

/// In memory where the machine has such a place: this is about answers, not about disks.
fn stage() -> tempfile::TempDir {
    let fast = std::path::Path::new("/dev/shm");
    if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() }.unwrap()
}

fn jumping_files() -> (tempfile::TempDir, FileQueue) {
    let stage = stage();
    let files = FileQueue::open(Settings::new(stage.path(), agents(), jumping_clock())).unwrap();
    (stage, files)
}

impl<G, Q: Queue> Pair<G, Q> {
    fn new((stage, queue): (G, Q)) -> Self {
        let memory = MemoryQueue::new(agents(), 3, jumping_clock()).unwrap();
        Self { _stage: stage, queue, memory, cases: 0 }
    }

    async fn live(&mut self, life: &[Step]) {
        self.cases += 1;
        let case = self.cases;
        let (mut held, mut held_in_memory) = (BTreeMap::new(), BTreeMap::new());
        for next in life {
            let left = step(&self.queue, case, &mut held, *next).await;
            let right = step(&self.memory, case, &mut held_in_memory, *next).await;
            assert_eq!(left, right, "{next:?}");
        }
        assert_eq!(picture(&self.queue, case).await, picture(&self.memory, case).await);
        // What is left open would be recovered in a later case.
        for id in 0..TASKS {
            held.remove(&id);
            held_in_memory.remove(&id);
            let t = task(&format!("marie/{case}-{id}"));
            assert_eq!(self.queue.remove(&t).await.is_ok(), self.memory.remove(&t).await.is_ok());
        }
    }
}

fn lives_wanted(usual: u32) -> u32 {
    std::env::var("PODIUM_TEST_LIVES").map_or(usual, |lives| lives.parse().expect("PODIUM_TEST_LIVES is a number"))
}

/// Random lives of a backend beside the same lives in memory; `open` makes a new stage when one has grown.
fn lives<G, Q: Queue>(runtime: &tokio::runtime::Runtime, wanted: u32, open: impl Fn() -> (G, Q)) {
    use proptest::prelude::*;
    let id = 0..TASKS;
    let steps = prop_oneof![
        id.clone().prop_map(Step::Submit),
        id.clone().prop_map(Step::Claim),
        id.clone().prop_map(Step::Claim),
        id.clone().prop_map(Step::Vanish),
        id.clone().prop_map(Step::Fail),
        id.clone().prop_map(Step::Limit),
        id.clone().prop_map(Step::Finish),
        id.clone().prop_map(Step::End),
        id.clone().prop_map(Step::Retry),
        id.clone().prop_map(Step::Remove),
        id.prop_map(Step::Restore),
        Just(Step::Recover),
    ];
    let lives = prop::collection::vec(steps, 1..LONGEST);
    let config = ProptestConfig { cases: wanted, failure_persistence: None, ..ProptestConfig::default() };
    let pair = std::cell::RefCell::new(Pair::new(open()));
    proptest!(config, |(life in lives)| {
        let mut pair = pair.borrow_mut();
        if pair.cases >= PER_STAGE {
            *pair = Pair::new(open());
        }
        // Both tasks are there from the start; what comes first is then never refused.
        let life: Vec<Step> = (0..TASKS).map(Step::Submit).chain(life).collect();
        runtime.block_on(pair.live(&life));
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// C25: any sequence of calls has the same answers and leaves the same picture in files as in memory, whatever the
/// clock does. A failure prints the shortest life that shows it.
#[test]
fn c25_g13_files_and_memory_agree_on_random_lives() {
    lives(&runtime(), lives_wanted(LIVES), jumping_files);
}

/// The same over NATS. A life there costs some dozens of synced writes, so fewer are tried.
#[test]
fn c25_g13_nats_and_memory_agree_on_random_lives() {
    let Some(program) = servers::server() else { return };
    let runtime = runtime();
    let open = || {
        let server = servers::Nats::start(&program);
        let stage = stage();
        let queue = runtime.block_on(over_nats(&server, stage.path(), 100_000, jumping_clock()));
        ((server, stage), queue)
    };
    lives(&runtime, lives_wanted(LIVES / 8), open);
}
