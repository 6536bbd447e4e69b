//! What a life writes to the server, and where.

use async_nats::jetstream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::*;

/// A bucket's values that are there, and how often it was ever written.
async fn bucket(queue: &NatsQueue, name: &str) -> (Vec<String>, u64) {
    let context = jetstream::new(queue.client().clone());
    let store = context.get_key_value(name).await.unwrap();
    let keys: Vec<String> = store.keys().await.unwrap().try_collect().await.unwrap();
    let values = futures_util::stream::iter(keys)
        .then(async |key| String::from_utf8(store.get(key).await.unwrap().unwrap().to_vec()).unwrap());
    let written = store.stream.get_info().await.unwrap().state.last_sequence;
    (values.collect().await, written)
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_a_short_life_is_three_writes_and_a_long_result_one_more() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    queue.submit_many(vec![spec("marie/short"), spec("marie/long")]).await.unwrap();
    let (short, long) = (won(&queue, &task("marie/short")).await, won(&queue, &task("marie/long")).await);
    assert_eq!(queue.finish(short.lease, done(&task("marie/short"))).await.unwrap(), Finished::Committed);
    let written = async |name| bucket(&queue, name).await.1;
    assert_eq!((written("podium-tasks").await, written("podium-results").await), (5, 0));

    let outcome = Outcome { summary: "words ".repeat(2_000), ..done(&task("marie/long")) };
    assert_eq!(queue.finish(long.lease, outcome.clone()).await.unwrap(), Finished::Committed);
    assert_eq!((written("podium-tasks").await, written("podium-results").await), (6, 1));
    assert_eq!(written("podium-leases").await, 0, "neither lasted until its first beat");
    let results = [queue.result(&task("marie/short")).await.unwrap(), queue.result(&task("marie/long")).await.unwrap()];
    assert_eq!(results.map(|result| result.unwrap().summary), [done(&task("marie/short")).summary, outcome.summary]);
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_a_result_that_a_retry_replaces_stays_on_the_server() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    let t = task("marie/t");
    queue.submit(spec("marie/t")).await.unwrap();
    let first = won(&queue, &t).await;
    let outcome = Outcome { summary: "the first answer".to_owned(), ..done(&t) };
    assert_eq!(queue.finish(first.lease, outcome).await.unwrap(), Finished::Committed);
    queue.retry(&t, podium::model::Changes::default()).await.unwrap();
    assert_eq!(queue.result(&t).await.unwrap(), None);
    let (kept, _) = bucket(&queue, "podium-results").await;
    assert!(matches!(&kept[..], [only] if only.contains("the first answer")), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c08_an_attempt_that_is_given_up_before_its_first_beat_is_free_at_once() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let ((_stage, worker), (_other, room)) = (open(&server).await, open(&server).await);
    let t = task("marie/t");
    room.submit(spec("marie/t")).await.unwrap();
    let claim = won(&worker, &t).await;
    assert_eq!(room.recover().await.unwrap(), vec![], "the claim is the lease");
    assert!(matches!(room.claim(&t).await.unwrap(), Claimed::Missed(why) if why.contains("running")));
    drop(claim);
    worker.settle().await;
    assert_eq!(room.recover().await.unwrap(), vec![t.clone()]);
    assert!(matches!(room.get(&t).await.unwrap().standing, Standing::Retrying { .. }));
}
