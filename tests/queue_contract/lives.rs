//! C25: random lives, the same in files and in memory.

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

/// Both backends, and how many cases they have served: a stage grows, and each case has its own ids.
struct Pair {
    _stage: tempfile::TempDir,
    files: FileQueue,
    memory: MemoryQueue,
    cases: usize,
}

impl Pair {
    /// In memory where the machine has such a place: this is about answers, not about disks.
    fn new() -> Self {
        let fast = std::path::Path::new("/dev/shm");
        let stage = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() }.unwrap();
        let files = FileQueue::open(Settings::new(stage.path(), agents(), jumping_clock())).unwrap();
        let memory = MemoryQueue::new(agents(), 3, jumping_clock()).unwrap();
        Self { _stage: stage, files, memory, cases: 0 }
    }

    async fn live(&mut self, life: &[Step]) {
        self.cases += 1;
        let case = self.cases;
        let (mut held, mut held_in_memory) = (BTreeMap::new(), BTreeMap::new());
        for next in life {
            let left = step(&self.files, case, &mut held, *next).await;
            let right = step(&self.memory, case, &mut held_in_memory, *next).await;
            assert_eq!(left, right, "{next:?}");
        }
        assert_eq!(picture(&self.files, case).await, picture(&self.memory, case).await);
        // What is left open would be recovered in a later case.
        for id in 0..TASKS {
            held.remove(&id);
            held_in_memory.remove(&id);
            let t = task(&format!("marie/{case}-{id}"));
            assert_eq!(self.files.remove(&t).await.is_ok(), self.memory.remove(&t).await.is_ok());
        }
    }
}

fn lives_wanted() -> u32 {
    std::env::var("PODIUM_TEST_LIVES").map_or(LIVES, |lives| lives.parse().expect("PODIUM_TEST_LIVES is a number"))
}

/// C25: any sequence of calls has the same answers and leaves the same picture in files as in memory, whatever the
/// clock does. A failure prints the shortest life that shows it.
#[test]
fn c25_g13_files_and_memory_agree_on_random_lives() {
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: lives_wanted(), failure_persistence: None, ..ProptestConfig::default() };
    let pair = std::cell::RefCell::new(Pair::new());
    proptest!(config, |(life in lives)| {
        let mut pair = pair.borrow_mut();
        if pair.cases >= PER_STAGE {
            *pair = Pair::new();
        }
        // Both tasks are there from the start; what comes first is then never refused.
        let life: Vec<Step> = (0..TASKS).map(Step::Submit).chain(life).collect();
        runtime.block_on(pair.live(&life));
    });
}
