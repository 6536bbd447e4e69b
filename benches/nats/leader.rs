//! The leader of three servers is killed while tasks begin and end: how long nothing new starts, and what is lost.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream;
use podium::{
    model::{Standing, TaskSpec},
    queue::{
        Claimed, Finished, Queue as _, QueueError, Submitted,
        nats::{NatsQueue, Settings},
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{clock, plain, servers::Cluster, task};

/// Lives at once.
const AT_ONCE: usize = 8;
/// Tasks are begun for so long before the kill, and after it.
const BEFORE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(20);

/// What all lives of a round share.
#[derive(Default)]
struct Seen {
    /// When attempts were started.
    starts: Mutex<Vec<Instant>>,
    /// Submissions that were said yes to, and how many attempts each task was given out as.
    accepted: Mutex<BTreeMap<usize, usize>>,
    over: AtomicBool,
}

/// One line of what was seen.
pub(crate) async fn killed(program: &Path, round: usize) -> String {
    let mut cluster = Cluster::start(program);
    let stage = tempfile::tempdir().unwrap();
    let queue = loop {
        let agents = vec!["anga".parse().unwrap()];
        let settings = Settings::new(cluster.address(), "room", stage.path().to_owned(), agents, clock());
        // The servers have to find each other first.
        match NatsQueue::open(Settings { makes: true, ..settings }).await {
            Ok(queue) => break queue,
            Err(_not_yet) => sleep(Duration::from_millis(200)).await,
        }
    };
    let seen = Arc::new(Seen::default());
    let mut lanes = JoinSet::new();
    for lane in 0..AT_ONCE {
        let (queue, seen) = (queue.clone(), Arc::clone(&seen));
        lanes.spawn(async move {
            for n in (lane..).step_by(AT_ONCE) {
                if seen.over.load(Ordering::Relaxed) {
                    break;
                }
                Box::pin(live(&queue, &seen, round, n)).await;
            }
        });
    }
    sleep(BEFORE).await;
    let led = leader(&queue).await;
    let at: usize = led.trim_start_matches('n').parse().unwrap();
    let killed = Instant::now();
    cluster.servers[at].kill();
    sleep(AFTER).await;
    seen.over.store(true, Ordering::Relaxed);
    while let Some(ended) = lanes.join_next().await {
        ended.unwrap();
    }
    // The killed one comes back, and has the same to say.
    cluster.servers[at].up();
    let records = queue.list().await.unwrap();
    let accepted = seen.accepted.lock().unwrap().clone();
    let ended = records.iter().filter(|record| record.standing == Standing::Ended && record.outcome.is_some()).count();
    let again = records.iter().filter(|record| record.attempts.len() > 1).count();
    let twice = accepted.values().filter(|finished| **finished > 1).count();
    assert_eq!((records.len(), ended, twice), (accepted.len(), accepted.len(), 0), "nothing is lost, nothing is twice");
    let starts = seen.starts.lock().unwrap().clone();
    let before = starts.iter().filter(|at| **at < killed).count();
    let mut times: Vec<Instant> = starts.iter().copied().filter(|at| *at >= killed).collect();
    times.insert(0, killed);
    times.sort_unstable();
    let stall = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    format!(
        "no start for {:.2} s; {:.0} starts/s before, {:.0}/s in the whole time after; {} tasks accepted, {ended} ended, 0 lost, \
         0 twice, {again} tried again",
        stall.as_secs_f64(),
        before as f64 / BEFORE.as_secs_f64(),
        (starts.len() - before) as f64 / AFTER.as_secs_f64(),
        accepted.len(),
    )
}

/// A task's whole life, whatever has to be asked again.
async fn live(queue: &NatsQueue, seen: &Seen, round: usize, n: usize) {
    let of = task(1_000 + round, n);
    loop {
        match queue.submit(TaskSpec::new(of.clone(), "Do it.")).await {
            Ok(Submitted::New | Submitted::Exists) => break,
            Err(QueueError::Unreachable(_)) => {}
            other => panic!("{of}: {other:?}"),
        }
    }
    seen.accepted.lock().unwrap().insert(n, 0);
    loop {
        match queue.claim(&of).await {
            Ok(Claimed::Won(claim)) => {
                seen.starts.lock().unwrap().push(Instant::now());
                match queue.finish(claim.lease, plain::plain(&of, 0, clock().now())).await {
                    Ok(Finished::Committed) => *seen.accepted.lock().unwrap().entry(n).or_default() += 1,
                    other => panic!("{of}: {other:?}"),
                }
                return;
            }
            // An answer was lost after the attempt was counted: nobody holds it, and it is found lost.
            Ok(Claimed::Missed(_)) => drop(queue.recover().await),
            Err(QueueError::Unreachable(_)) => {}
            Err(error) => panic!("{of}: {error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The name of the server that leads the tasks.
async fn leader(queue: &NatsQueue) -> String {
    let context = jetstream::new(queue.client().clone());
    loop {
        if let Ok(stream) = context.get_stream("KV_podium-tasks").await
            && let Some(leader) = stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone())
        {
            return leader;
        }
        sleep(Duration::from_millis(100)).await;
    }
}
