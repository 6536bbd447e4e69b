//! What the queue over NATS costs: lives of tasks (submitted, claimed, finished) beside the same promises written to the
//! server by hand, one at a time and many at once, how soon a submitted task is claimed by somebody who waits, and how long
//! nothing starts when the leader of three servers is killed.
//!
//! Real servers on loopback that sync every write; `PODIUM_TEST_NATS` names their program (`./test` prepares one).
//! `cargo bench --bench nats [-- leader]`; figures and machine in `benches/README.md`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the benchmark")]

#[path = "nats/leader.rs"]
mod leader;
#[path = "../tests/common/outcome.rs"]
mod plain;
#[path = "../tests/common/nats.rs"]
#[expect(dead_code, reason = "stops and old servers are for the tests")]
mod servers;

use async_nats::jetstream::{self, kv::Store};
use jiff::Timestamp;
use podium::{
    model::{Clock, Standing, TaskRef, TaskSpec},
    queue::{
        Change, Claimed, Finished, Queue as _, Submitted,
        nats::{NatsQueue, Settings},
    },
};
use tokio::{task::JoinSet, time::Instant};

/// Tasks of one round.
const LIVES: usize = 2_000;
/// Lives at once.
const AT_ONCE: [usize; 3] = [1, 16, 64];
/// Tasks whose claim is waited for.
const WAITED: usize = 500;
/// Leaders that are killed.
const KILLS: usize = 3;

fn clock() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the one clock of this program")]
    Clock::new(Timestamp::now)
}

fn task(round: usize, n: usize) -> TaskRef {
    format!("anga/r{round}-{n}").parse().unwrap()
}

#[tokio::main]
async fn main() {
    let Some(program) = servers::server() else { return };
    if !std::env::args().any(|word| word == "leader") {
        one_server(&program).await;
    }
    for round in 0..KILLS {
        println!("the leader of three servers is killed: {}", Box::pin(leader::killed(&program, round)).await);
    }
}

async fn one_server(program: &std::path::Path) {
    let server = servers::Nats::start(program);
    let stage = tempfile::tempdir().unwrap();
    let agents = vec!["anga".parse().unwrap()];
    let settings = Settings::new(server.address(), "room", stage.path().to_owned(), agents, clock());
    let queue = NatsQueue::open(Settings { makes: true, ..settings }).await.unwrap();

    for (round, at_once) in AT_ONCE.into_iter().enumerate() {
        let by_hand = rate(at_once, by_hand(&queue, round).await).await;
        let ours = rate(at_once, |n| {
            let (queue, of) = (queue.clone(), task(round, n));
            async move { Box::pin(live(&queue, &of)).await }
        })
        .await;
        println!(
            "{at_once} at once: {ours:.0} lives/s; the same promises by hand, four writes: {by_hand:.0}/s; share {:.2}",
            ours / by_hand
        );
    }
    println!("submitted → claimed by somebody who watches: {}", Box::pin(waits(&queue)).await);
}

/// Lives a second.
async fn rate<F: Future<Output = ()> + Send + 'static>(at_once: usize, life: impl Fn(usize) -> F) -> f64 {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for n in 0..LIVES {
        if running.len() == at_once {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(life(n));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let lives = LIVES as f64;
    lives / begun.elapsed().as_secs_f64()
}

/// The least that keeps a task: it waits, it runs, its result, it is over; each a write that nobody else has made.
async fn by_hand(
    queue: &NatsQueue,
    round: usize,
) -> impl Fn(usize) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    let context = jetstream::new(queue.client().clone());
    let bucket = |name: String| jetstream::kv::Config { bucket: name, history: 1, ..Default::default() };
    let tasks: Store = context.create_key_value(bucket(format!("by-hand-{round}"))).await.unwrap();
    let results: Store = context.create_key_value(bucket(format!("by-hand-{round}-results"))).await.unwrap();
    move |n| {
        let (tasks, results) = (tasks.clone(), results.clone());
        Box::pin(async move {
            let (key, value) = (format!("anga.{n}"), vec![b'x'; 300]);
            let waits = tasks.create(&key, value.clone().into()).await.unwrap();
            let runs = tasks.update(&key, value.clone().into(), waits).await.unwrap();
            results.create(&key, value.clone().into()).await.unwrap();
            tasks.update(&key, value.into(), runs).await.unwrap();
        })
    }
}

async fn live(queue: &NatsQueue, of: &TaskRef) {
    let spec = TaskSpec::new(of.clone(), "Do it.");
    assert_eq!(queue.submit(spec).await.unwrap(), Submitted::New);
    end(queue, of).await;
}

async fn end(queue: &NatsQueue, of: &TaskRef) {
    let Claimed::Won(claim) = queue.claim(of).await.unwrap() else { panic!("{of} was missed") };
    let finished = queue.finish(claim.lease, plain::plain(of, 0, clock().now())).await.unwrap();
    assert_eq!(finished, Finished::Committed);
}

/// From the submission to the claim of somebody who hears of it by the watch.
async fn waits(queue: &NatsQueue) -> String {
    let mut changes = queue.watch().await.unwrap();
    let mut took = Vec::with_capacity(WAITED);
    for n in 0..WAITED {
        let of = task(AT_ONCE.len(), n);
        let begun = Instant::now();
        let spec = TaskSpec::new(of.clone(), "Do it.");
        let claimed = async {
            loop {
                match changes.recv().await.unwrap() {
                    Change::Task(record) if *record.task() == of && record.standing == Standing::Waiting => break,
                    _ => {}
                }
            }
            let Claimed::Won(claim) = queue.claim(&of).await.unwrap() else { panic!("{of} was missed") };
            (claim, begun.elapsed())
        };
        let (submitted, (claim, after)) = tokio::join!(queue.submit(spec), claimed);
        assert_eq!(submitted.unwrap(), Submitted::New);
        took.push(after);
        queue.finish(claim.lease, plain::plain(&of, 0, clock().now())).await.unwrap();
    }
    took.sort_unstable();
    let at = |share: usize| took[WAITED * share / 100].as_secs_f64() * 1_000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms, n = {WAITED}", at(50), at(99))
}
