//! Nonsense, floods, full and emptied buckets.

use async_nats::jetstream::{self, stream::Config};
use podium::model::{Artifact, Rejected};

use super::*;

/// A stranger on the same server.
async fn stranger(server: &Nats) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

async fn say(context: &jetstream::Context, subject: &str, bytes: Vec<u8>) {
    context.publish(subject.to_owned(), bytes.into()).await.unwrap().await.unwrap();
}

fn set_aside(change: &Change) -> Option<Rejected> {
    if let Change::Rejected(rejected) = change { Some(rejected.clone()) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_g12_nonsense_in_the_buckets_is_named_and_harms_nothing() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    queue.submit(spec("marie/good")).await.unwrap();
    let mut changes = queue.watch().await.unwrap();
    let context = stranger(&server).await;
    let deep = format!("{{\"schema\":1,\"write\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let values: [(&str, Vec<u8>); 7] = [
        ("marie.bytes", vec![0xff; 10]),
        ("marie.empty", Vec::new()),
        ("marie.object", b"{}".to_vec()),
        ("marie.newer", br#"{"schema":99,"live":{"entry":"?"}}"#.to_vec()),
        ("marie.huge", vec![b'x'; 1_000_000]),
        ("marie.deep", deep.into_bytes()),
        ("nobody.a.b.c.d", b"[1,2".to_vec()),
    ];
    for (key, value) in values {
        say(&context, &format!("$KV.podium-tasks.{key}"), value).await;
        let rejected = change(&mut changes, set_aside).await;
        assert_eq!(rejected.path, format!("podium-tasks/{key}"));
        assert!(!rejected.moved && rejected.reason.len() < 300, "{rejected:?}");
    }
    for bucket in ["podium-leases", "podium-results", "podium-specs"] {
        say(&context, &format!("$KV.{bucket}.marie.good.1-0"), vec![b'}'; 100]).await;
    }
    assert_eq!(queue.list().await.unwrap().len(), 1);
    assert_eq!(queue.recover().await.unwrap(), vec![]);
    let newer = queue.claim(&task("marie/newer")).await;
    assert!(matches!(&newer, Err(QueueError::Unsafe(why)) if why.contains("newer podium")), "{newer:?}");
    let object = queue.submit(spec("marie/object")).await;
    assert!(matches!(object, Err(QueueError::Unsafe(_))), "nothing is written over what nobody can read: {object:?}");
    let claim = won(&queue, &task("marie/good")).await;
    // Somebody writes over a task that runs.
    say(&context, "$KV.podium-tasks.marie.good", b"nonsense".to_vec()).await;
    change(&mut changes, |change| set_aside(change).filter(|r| r.path == "podium-tasks/marie.good")).await;
    let end = queue.finish(claim.lease, done(&task("marie/good"))).await;
    assert!(matches!(end, Err(QueueError::Unsafe(_))), "{end:?}");
    assert_eq!(queue.submit(spec("marie/after")).await.unwrap(), Submitted::New);
    let claim = won(&queue, &task("marie/after")).await;
    assert_eq!(queue.finish(claim.lease, done(&task("marie/after"))).await.unwrap(), Finished::Committed);
}

/// A server that takes no message of that size never says yes.
#[tokio::test(flavor = "multi_thread")]
async fn g12_what_is_too_large_for_the_server_is_refused() {
    let Some(program) = servers::server() else { return };
    let server = Nats::with(&program, &Wanted { more: "max_payload: 20000".into(), ..Wanted::default() });
    let (_stage, queue) = open(&server).await;
    let mut large = spec("marie/large");
    large.description = "x".repeat(30_000);
    let refused = queue.submit(large).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { limit: 20_000, .. })), "{refused:?}");
    assert_eq!(queue.list().await.unwrap(), vec![]);
    assert_eq!(queue.submit(spec("marie/small")).await.unwrap(), Submitted::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_g12_a_full_bucket_refuses_what_is_new_finishes_what_is_there_and_goes_on() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    let context = stranger(&server).await;
    let limit = async |messages: i64| {
        let stream = context.get_stream("KV_podium-tasks").await.unwrap();
        let config = Config { max_messages: messages, ..stream.cached_info().config.clone() };
        context.update_stream(config).await.unwrap();
    };
    limit(3).await;
    for name in ["marie/a", "marie/b", "anga/c"] {
        assert_eq!(queue.submit(spec(name)).await.unwrap(), Submitted::New);
    }
    let refused = queue.submit(spec("marie/d")).await;
    assert!(matches!(&refused, Err(QueueError::NoSpace(why)) if why.contains("no room")), "{refused:?}");
    let batch = queue.submit_many(vec![spec("marie/d"), spec("marie/e")]).await;
    assert!(matches!(batch, Err(QueueError::NoSpace(_))), "{batch:?}");
    assert_eq!(queue.submit(spec("marie/a")).await.unwrap(), Submitted::Exists, "what is known is known");
    let claim = won(&queue, &task("marie/a")).await;
    assert_eq!(queue.finish(claim.lease, done(&task("marie/a"))).await.unwrap(), Finished::Committed);
    assert_eq!(queue.list().await.unwrap().len(), 3);
    limit(-1).await;
    for name in ["marie/d", "marie/e"] {
        assert_eq!(queue.submit(spec(name)).await.unwrap(), Submitted::New);
    }
    assert_eq!(queue.list().await.unwrap().len(), 5);
}

/// A server without any room keeps the result in the worker's hands until there is some.
#[tokio::test(flavor = "multi_thread")]
async fn g15_a_result_waits_for_room_and_is_not_lost() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    let context = stranger(&server).await;
    // A short result goes to the task's own key, a long one to one of its own.
    for (name, bucket, words) in [("marie/short", "KV_podium-tasks", 1), ("marie/long", "KV_podium-results", 5_000)] {
        let t = task(name);
        queue.submit(spec(name)).await.unwrap();
        let claim = won(&queue, &t).await;
        let config = context.get_stream(bucket).await.unwrap().cached_info().config.clone();
        context.update_stream(Config { max_bytes: 1, ..config.clone() }).await.unwrap();
        let mut finishing = JoinSet::new();
        let (finisher, outcome) = (queue.clone(), Outcome { summary: "words ".repeat(words), ..done(&t) });
        finishing.spawn(async move { finisher.finish(claim.lease, outcome).await.unwrap() });
        assert!(timeout(Duration::from_secs(2), finishing.join_next()).await.is_err(), "there is no room: {bucket}");
        assert_eq!(queue.get(&t).await.unwrap().standing, Standing::Running { attempt: 1 });
        context.update_stream(config).await.unwrap();
        let ended = timeout(PATIENCE, finishing.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(ended, Finished::Committed);
        assert_eq!(queue.result(&t).await.unwrap().unwrap().summary, "words ".repeat(words));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_somebody_purged_is_an_alarm_and_nothing_is_invented() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    let names = ["marie/a", "marie/b", "anga/c"];
    queue.submit_many(names.iter().map(|name| spec(name)).collect()).await.unwrap();
    let claim = won(&queue, &task("marie/a")).await;
    let mut changes = queue.watch().await.unwrap();
    let context = stranger(&server).await;
    let stream = context.get_stream("KV_podium-tasks").await.unwrap();
    stream.purge().await.unwrap();
    let why = trouble(&mut changes).await;
    assert!(why.contains("somebody took 3 of 3 tasks out of podium-tasks"), "{why}");
    let refused = queue.submit(spec("marie/d")).await;
    assert!(matches!(&refused, Err(QueueError::Unsafe(said)) if *said == why), "{refused:?}");
    let mended = queue.recover().await;
    assert!(matches!(mended, Err(QueueError::Unsafe(_))), "{mended:?}");
    assert_eq!(queue.list().await.unwrap().len(), 3, "what is known is shown");
    assert_eq!(queue.finish(claim.lease, done(&task("marie/a"))).await.unwrap(), Finished::AlreadyCommitted);
    assert_eq!(stream.get_info().await.unwrap().state.messages, 0, "and nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_somebody_made_anew_is_an_alarm() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    queue.submit(spec("marie/a")).await.unwrap();
    let mut changes = queue.watch().await.unwrap();
    let context = stranger(&server).await;
    let config = context.get_stream("KV_podium-tasks").await.unwrap().cached_info().config.clone();
    context.delete_stream("KV_podium-tasks").await.unwrap();
    context.create_stream(config).await.unwrap();
    change(&mut changes, |change| match change {
        Change::Space(Some(why)) if why.contains("made it again") => Some(()),
        _ => None,
    })
    .await;
    assert!(matches!(queue.submit(spec("marie/b")).await, Err(QueueError::Unsafe(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told_with_the_time_and_what_is_known_stays() {
    let Some(program) = servers::server() else { return };
    let mut server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    queue.submit(spec("marie/a")).await.unwrap();
    let mut changes = queue.watch().await.unwrap();
    tokio::task::block_in_place(|| server.kill());
    let why = trouble(&mut changes).await;
    assert!(why.starts_with("the NATS server has been away since 20"), "{why}");
    tokio::task::block_in_place(|| server.up());
    change(&mut changes, |change| (*change == Change::Space(None)).then_some(())).await;
    queue.submit(spec("marie/b")).await.unwrap();
    change(&mut changes, |change| match change {
        Change::Task(record) if *record.task() == task("marie/b") => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c19_logs_and_files_of_any_size_come_back_as_they_were() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (stage, queue) = open(&server).await;
    let t = task("marie/a.b");
    queue.submit(spec("marie/a.b")).await.unwrap();
    let claim = won(&queue, &t).await;
    std::fs::write(claim.lease.folder().join("out.log"), "said\n").unwrap();
    let mut outcome = done(&t);
    let sizes = [0_usize, 1, 50 * 1024 * 1024];
    for (at, size) in sizes.into_iter().enumerate() {
        let path = format!("made/é {at}.bin");
        std::fs::create_dir_all(stage.path().join("made")).unwrap();
        let bytes: Vec<u8> = (0..size).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
        std::fs::write(stage.path().join(&path), bytes).unwrap();
        let bytes = u64::try_from(size).unwrap();
        outcome.artifacts.push(Artifact { path, bytes, sha256: String::new(), kept: None });
    }
    assert_eq!(queue.finish(claim.lease, outcome.clone()).await.unwrap(), Finished::Committed);
    let (other, room) = open(&server).await;
    let to = other.path().join("down");
    assert!(room.fetch(&t, 1, "out.log", &to).await.unwrap().is_some());
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "said\n");
    assert_eq!(room.fetch(&t, 1, "err.log", &to).await.unwrap(), None, "what is empty is not sent");
    for artifact in &outcome.artifacts {
        let hash = room.fetch(&t, 1, &format!("files/{}", artifact.path), &to).await.unwrap();
        assert!(hash.is_some_and(|hash| hash.len() == 64), "{artifact:?}");
        assert!(std::fs::read(&to).unwrap() == std::fs::read(stage.path().join(&artifact.path)).unwrap());
    }
    assert!(stage.path().join("logs/marie/a.b.1.log").is_file(), "the worker's own machine keeps its log");
    assert_eq!(queue.result(&t).await.unwrap().unwrap().artifacts, outcome.artifacts);
}
