//! F12: holders that were cut off, words that come late or twice, several connections at once.

use super::*;

/// A lease that is over soon.
const SHORT: Duration = Duration::from_secs(2);

async fn with_short_leases(server: &Nats) -> (tempfile::TempDir, NatsQueue) {
    let stage = tempfile::tempdir().unwrap();
    let settings = Settings { lease: SHORT, ..settings(server.address(), stage.path()) };
    (stage, NatsQueue::open(settings).await.unwrap())
}

/// Mends until something is found.
async fn mended(queue: &NatsQueue) -> Vec<TaskRef> {
    let look = async {
        loop {
            let mended = queue.recover().await.unwrap();
            if !mended.is_empty() {
                return mended;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_c06_c07_a_holder_that_was_cut_off_learns_it_keeps_its_output_and_disturbs_no_newer_attempt() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, worker) = with_short_leases(&server).await;
    let (_other, room) = with_short_leases(&server).await;
    let t = task("marie/a");
    room.submit(spec("marie/a")).await.unwrap();
    let first = won(&worker, &t).await;
    server.freeze();
    let why = timeout(PATIENCE, first.lease.gone()).await.unwrap();
    assert!(why.contains("no beat for 2 s"), "{why}");
    server.thaw();
    assert_eq!(mended(&room).await, vec![t.clone()]);
    assert!(matches!(room.get(&t).await.unwrap().attempts[0].ending, Some(Ending::Lost { .. })));
    let second = won(&room, &t).await;
    assert_eq!((second.n, second.counted), (2, 1));
    // The first comes late, with each of its words.
    let mut late = done(&t);
    late.summary = "came late".into();
    assert_eq!(worker.finish(first.lease, late).await.unwrap(), Finished::AlreadyCommitted);
    worker.settle().await;
    assert_eq!(room.get(&t).await.unwrap().standing, Standing::Running { attempt: 2 });
    assert_eq!(room.result(&t).await.unwrap(), None);
    let context = async_nats::jetstream::new(room.client().clone());
    let kept = context.get_stream("KV_podium-results").await.unwrap();
    assert_eq!(kept.cached_info().state.messages, 1, "what it found is kept beside");
    assert_eq!(room.finish(second.lease, done(&t)).await.unwrap(), Finished::Committed);
    let outcome = room.get(&t).await.unwrap().outcome.unwrap();
    assert_eq!((outcome.attempt, outcome.summary.as_str()), (2, "what attempt 0 found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_c07_a_stale_failure_does_not_end_the_attempt_that_came_after() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, worker) = with_short_leases(&server).await;
    let (_other, room) = with_short_leases(&server).await;
    let t = task("marie/a");
    room.submit(spec("marie/a")).await.unwrap();
    let first = won(&worker, &t).await;
    server.freeze();
    tokio::time::sleep(SHORT * 2).await;
    server.thaw();
    assert_eq!(mended(&room).await, vec![t.clone()]);
    let second = won(&room, &t).await;
    worker.fail(first.lease, crash(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    worker.settle().await;
    let record = room.get(&t).await.unwrap();
    assert_eq!(record.standing, Standing::Running { attempt: 2 });
    assert!(matches!(record.attempts[0].ending, Some(Ending::Lost { .. })), "what was decided stays decided");
    assert_eq!(room.finish(second.lease, done(&t)).await.unwrap(), Finished::Committed);
}

/// Who comes back before anybody took the place is welcome.
#[tokio::test(flavor = "multi_thread")]
async fn f12_g3_a_holder_that_comes_back_before_anybody_else_began_still_publishes() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, worker) = with_short_leases(&server).await;
    let t = task("marie/a");
    worker.submit(spec("marie/a")).await.unwrap();
    let claim = won(&worker, &t).await;
    server.freeze();
    timeout(PATIENCE, claim.lease.gone()).await.unwrap();
    server.thaw();
    assert_eq!(worker.finish(claim.lease, done(&t)).await.unwrap(), Finished::Committed);
    assert_eq!(worker.get(&t).await.unwrap().outcome.unwrap().attempt, 1);
}

/// A worker that beats keeps its lease for many times its length.
#[tokio::test(flavor = "multi_thread")]
async fn c08_beats_keep_a_lease_and_a_process_that_is_gone_does_not() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, worker) = with_short_leases(&server).await;
    let (_other, room) = with_short_leases(&server).await;
    room.submit_many(vec![spec("marie/held"), spec("marie/gone")]).await.unwrap();
    let held = won(&worker, &task("marie/held")).await;
    // As a process that is killed: nobody beats any more, and nobody gives the lease up.
    let address = server.address();
    let killed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let claim = runtime.block_on(async {
            let stage = tempfile::tempdir().unwrap();
            let queue = NatsQueue::open(settings(address, stage.path())).await.unwrap();
            won(&queue, &task("marie/gone")).await
        });
        runtime.shutdown_background();
        std::mem::forget(claim);
    });
    tokio::task::spawn_blocking(|| killed.join().unwrap()).await.unwrap();
    assert_eq!(room.recover().await.unwrap(), vec![], "a lease that nobody gave up lasts");
    tokio::time::sleep(SHORT * 3).await;
    assert_eq!(room.recover().await.unwrap(), vec![task("marie/gone")]);
    assert_eq!(room.get(&task("marie/held")).await.unwrap().standing, Standing::Running { attempt: 1 });
    assert_eq!(worker.finish(held.lease, done(&task("marie/held"))).await.unwrap(), Finished::Committed);
}

/// C3, C4, C18 over two connections, as two machines have them.
#[tokio::test(flavor = "multi_thread")]
async fn two_machines_submit_claim_and_watch_as_one() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_one, here) = open(&server).await;
    let (_two, there) = open(&server).await;
    let mut all = JoinSet::new();
    for i in 0..40 {
        let queue = if i % 2 == 0 { here.clone() } else { there.clone() };
        all.spawn(async move { queue.submit(spec("marie/same")).await.unwrap() });
    }
    let answers = all.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == Submitted::New).count(), 1, "{answers:?}");
    let names: Vec<String> = (0..40).map(|i| format!("anga/t{i}")).collect();
    here.submit_many(names.iter().map(|name| spec(name)).collect()).await.unwrap();
    let mut changes = there.watch().await.unwrap();
    let mut claims = JoinSet::new();
    for queue in [here.clone(), there.clone()] {
        let names = names.clone();
        claims.spawn(async move {
            let mut mine = Vec::new();
            for name in &names {
                if let Claimed::Won(claim) = queue.claim(&task(name)).await.unwrap() {
                    mine.push(*claim);
                }
            }
            mine
        });
    }
    let claims: Vec<_> = claims.join_all().await.into_iter().flatten().collect();
    assert_eq!(claims.len(), names.len());
    assert!(claims.iter().all(|claim| claim.n == 1));
    for claim in claims {
        let of = claim.spec.task.clone();
        assert_eq!(here.finish(claim.lease, done(&of)).await.unwrap(), Finished::Committed);
    }
    let mut ended = 0;
    while ended < names.len() {
        change(&mut changes, |change| match change {
            Change::Task(record) if record.standing == Standing::Ended => Some(()),
            _ => None,
        })
        .await;
        ended += 1;
    }
    assert_eq!(here.list().await.unwrap(), there.list().await.unwrap());
}
