//! F13: servers that are killed or stopped while work goes on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::*;

/// Takes a task's whole life, whatever is asked again meanwhile; says which attempt ended it.
async fn live(queue: &NatsQueue, name: &str) -> u32 {
    let t = task(name);
    loop {
        match queue.submit(spec(name)).await {
            Ok(Submitted::New | Submitted::Exists) => break,
            Ok(other) => panic!("{name}: {other:?}"),
            Err(QueueError::Unreachable(_)) => {}
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
    loop {
        match queue.claim(&t).await {
            Ok(Claimed::Won(claim)) => {
                let n = claim.n;
                match queue.finish(claim.lease, done(&t)).await {
                    Ok(Finished::Committed) => return n,
                    other => panic!("{name}: {other:?}"),
                }
            }
            // An answer was lost after the attempt was counted: nobody holds it, and it is found lost.
            Ok(Claimed::Missed(_)) => drop(queue.recover().await),
            Err(QueueError::Unreachable(_)) => {}
            Err(error) => panic!("{name}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every task has ended once, and the result is the attempt's that says so.
async fn all_ended(queue: &NatsQueue, count: usize) {
    let list = queue.list().await.unwrap();
    assert_eq!(list.len(), count, "nothing is lost and nothing invented");
    for record in list {
        let outcome = record.outcome.as_ref().unwrap_or_else(|| panic!("{record:?}"));
        assert_eq!((record.standing.clone(), outcome.state), (Standing::Ended, EndState::Done), "{record:?}");
        assert_eq!(outcome.attempt, record.last_attempt(), "{record:?}");
        let whole = queue.result(record.task()).await.unwrap().unwrap();
        assert_eq!(whole.summary, "what attempt 0 found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_g1_g3_g7_a_server_killed_again_and_again_loses_nothing_and_ends_everything_once() {
    const LIVES: usize = 240;
    let Some(program) = servers::server() else { return };
    let mut server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    let ended = Arc::new(AtomicUsize::new(0));
    let mut lives = JoinSet::new();
    for lane in 0..8 {
        let (queue, ended) = (queue.clone(), Arc::clone(&ended));
        lives.spawn(async move {
            for i in 0..LIVES / 8 {
                live(&queue, &format!("marie/t{lane}-{i}")).await;
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut kills = 0;
    while kills < 5 && !lives.is_empty() {
        let before = ended.load(Ordering::Relaxed);
        while ended.load(Ordering::Relaxed) < before + 20 && lives.try_join_next().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::block_in_place(|| {
            server.kill();
            server.up();
        });
        kills += 1;
    }
    timeout(PATIENCE * 4, async {
        while let Some(ended) = lives.join_next().await {
            ended.unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(kills, 5);
    all_ended(&queue, LIVES).await;
    // Another connection sees the same.
    let (_other, second) = open(&server).await;
    all_ended(&second, LIVES).await;
}

/// The name of the server that leads a stream.
async fn leader(queue: &NatsQueue, stream: &str) -> String {
    let context = async_nats::jetstream::new(queue.client().clone());
    loop {
        if let Ok(stream) = context.get_stream(stream).await
            && let Some(leader) = stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone())
        {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every copy of every stream is whole. A majority that was never one elects nobody: on a busy machine a
/// server may take seconds for its copy of a stream that was just made.
async fn all_current(queue: &NatsQueue) {
    let context = async_nats::jetstream::new(queue.client().clone());
    loop {
        let streams: Vec<_> = context.streams().try_collect().await.unwrap_or_default();
        let is_whole = |stream: &async_nats::jetstream::stream::Info| {
            let copies = stream.cluster.as_ref().map_or(&[][..], |cluster| &cluster.replicas);
            copies.len() == 2 && copies.iter().all(|copy| copy.current && !copy.offline)
        };
        if !streams.is_empty() && streams.iter().all(is_whole) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_g1_the_leader_of_three_servers_killed_stalls_for_seconds_and_loses_nothing() {
    const LIVES: usize = 120;
    let Some(program) = servers::server() else { return };
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(&program));
    let stage = tempfile::tempdir().unwrap();
    // The servers have to find each other first, and three copies of each bucket be made, beside whatever else runs.
    let queue = timeout(PATIENCE * 4, async {
        loop {
            match NatsQueue::open(settings(cluster.address(), stage.path())).await {
                Ok(queue) => return queue,
                Err(error) => eprintln!("not yet: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap();
    let report = queue.check().await;
    assert_eq!(report.copies, 3, "{report:?}");
    timeout(PATIENCE * 2, all_current(&queue)).await.expect("three whole copies of everything");
    let (started, lives) = (Arc::new(AtomicUsize::new(0)), LIVES);
    let mut worker = JoinSet::new();
    let (working, counted) = (queue.clone(), Arc::clone(&started));
    worker.spawn(async move {
        let mut longest = Duration::ZERO;
        for i in 0..lives {
            let began = Instant::now();
            live(&working, &format!("anga/t{i}")).await;
            longest = longest.max(began.elapsed());
            counted.fetch_add(1, Ordering::Relaxed);
        }
        longest
    });
    while started.load(Ordering::Relaxed) < 30 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let led = leader(&queue, "KV_podium-tasks").await;
    let at: usize = led.trim_start_matches('n').parse().unwrap();
    tokio::task::block_in_place(|| cluster.servers[at].kill());
    let Ok(ended) = timeout(PATIENCE * 4, worker.join_next()).await else {
        panic!("{} of {LIVES} have ended: {:?}", started.load(Ordering::Relaxed), queue.check().await);
    };
    let longest = ended.unwrap().unwrap();
    eprintln!("the leader {led} was killed: the longest life of a task took {longest:?}");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    all_ended(&queue, LIVES).await;
    assert!(queue.check().await.warning().is_some(), "a copy is missing, and that is said");
    tokio::task::block_in_place(|| cluster.servers[at].up());
    live(&queue, "anga/after").await;
    all_ended(&queue, LIVES + 1).await;
}

/// Slow on purpose: a stop that is shorter than a lease must cost nothing, however long it feels.
#[tokio::test(flavor = "multi_thread")]
async fn f13_g5_a_server_stopped_for_twenty_seconds_costs_no_lease() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    let t = task("marie/a");
    queue.submit(spec("marie/a")).await.unwrap();
    let claim = won(&queue, &t).await;
    server.freeze();
    let during = {
        let queue = queue.clone();
        async move { queue.submit(spec("marie/b")).await }
    };
    let (answer, ()) = tokio::join!(during, async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        server.thaw();
    });
    // Nobody was lied to: either it is there, or nobody said so.
    match answer {
        Ok(answer) => assert!(matches!(answer, Submitted::New | Submitted::Exists), "{answer:?}"),
        Err(error) => assert!(matches!(error, QueueError::Unreachable(_)), "{error:?}"),
    }
    let again = queue.submit(spec("marie/b")).await.unwrap();
    assert!(matches!(again, Submitted::New | Submitted::Exists), "{again:?}");
    assert_eq!(queue.recover().await.unwrap(), vec![]);
    assert_eq!(queue.get(&t).await.unwrap().standing, Standing::Running { attempt: 1 });
    let told = timeout(Duration::from_millis(100), claim.lease.gone()).await;
    assert!(told.is_err(), "{told:?}");
    assert_eq!(queue.finish(claim.lease, done(&t)).await.unwrap(), Finished::Committed);
}
