//! Two versions of podium: who speaks alike is served, who does not is named and refused, on both sides in one sentence.

use futures_util::StreamExt as _;
use podium::{
    attach::far::{self, Caller, Hello, PROTOCOL, Says, Told, Welcome},
    model::{Activity, EndState, Ending, Outcome, Report},
    queue::Lease as _,
};

use super::{
    stand_in::{StandIn, agent},
    *,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_speaks_otherwise_is_refused_by_name_and_another_version_that_speaks_alike_is_served() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    scene.slot("the deputy", Slot::pid).await;
    let client = async_nats::connect(scene.server.url()).await.unwrap();
    // As a podium to come might say it, and one from before there was a number.
    let strange = [
        json!({ "version": "9.9.9", "protocol": PROTOCOL + 1, "host": "attic", "pid": 7, "and": ["more"] }),
        json!({ "version": "0.0.1", "host": "cellar", "pid": 8, "worker": "w", "at": "2026-01-01T00:00:00Z" }),
    ];
    for hello in strange {
        let caller: Caller = serde_json::from_value(hello.clone()).unwrap();
        let why = eventually_refused(&client, &hello).await;
        assert_eq!(Some(&why), caller.refusal().as_ref());
        assert!(why.contains(&format!("(podium {}, process {})", caller.version, caller.pid)), "{why}");
        assert!(why.contains(&format!("this room (podium {}) speaks {PROTOCOL}", env!("CARGO_PKG_VERSION"))), "{why}");
        // The room's own people see it too, once.
        let pane = |state: &State| state.lines.iter().filter(|line| line.text.contains(&why)).count();
        scene.room.until("the sentence in the room", |state| (pane(state) == 1).then_some(())).await;
    }
    let hello = Hello {
        protocol: PROTOCOL,
        worker: far::name().unwrap(),
        version: "9.9.9".into(),
        host: "loft".into(),
        pid: 9,
        at: clock().now(),
        running: None,
    };
    let answer = client.request(far::hello_subject(&agent()), far::write(&hello)).await.unwrap();
    assert!(matches!(far::read(&answer), Some(Welcome::Free(_))), "{answer:?}");
    scene.room.close().await;
}

/// Asks until somebody answers, which must be a no; why.
async fn eventually_refused(client: &async_nats::Client, hello: &Value) -> String {
    for _ in 0..100 {
        if let Ok(answer) = client.request(far::hello_subject(&agent()), far::write(hello)).await {
            match far::read(&answer) {
                Some(Welcome::Bye(why)) => return why,
                other => panic!("{other:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_refused_says_why_once_and_is_served_when_the_room_is_another() {
    let Some(mut scene) = Scene::new().await else { return };
    // A room of another version, as far as a worker can tell.
    let client = async_nats::connect(scene.server.url()).await.unwrap();
    let mut hellos = client.subscribe(far::hello_subject(&agent())).await.unwrap();
    client.flush().await.unwrap();
    // The buckets are there, the object store is not needed yet.
    let worker = scene.worker(&[]);
    let message = tokio::time::timeout(Duration::from_secs(30), hellos.next()).await.unwrap().unwrap();
    let caller: Caller = far::read(&message).unwrap();
    assert_eq!((caller.protocol, caller.version.as_str()), (PROTOCOL, env!("CARGO_PKG_VERSION")));
    let why = Caller { protocol: PROTOCOL + 7, ..caller }.refusal().unwrap();
    let bye = far::write(&Welcome::Bye(why.clone()));
    client.publish(message.reply.unwrap(), bye).await.unwrap();
    scene.says(&why).await;
    drop(hellos);
    assert!(is_alive(worker.pid()));
    scene.room.serve().await;
    scene.slot("the worker", |slot| slot.far.as_ref().map(drop)).await;
    assert_eq!(scene.said().matches(&why).count(), 1, "{}", scene.said());
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moments_that_a_clock_an_hour_ahead_tells_are_put_on_the_room_s() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let ahead = || clock().now() + jiff::SignedDuration::from_hours(1);
    // A worker whose clock is wrong, by its own words: what it does is done by the test.
    let mut worker = Box::pin(StandIn::arrive(&scene, ahead())).await;
    let is_ahead = |slot: &Slot| slot.far.as_ref().filter(|far| (far.offset_ms - 3_600_000).abs() < 5_000).map(drop);
    scene.slot("the worker's clock", is_ahead).await;
    scene.submit("t");
    assert!(matches!(worker.order().await, (1, Told::Assign { .. })));
    let claim = worker.claim("anga/t").await;
    let attempt = claim.lease.attempt().clone();
    let report = |report: Report| Says::Report(Box::new(report));
    worker
        .says(report(Report::Started {
            attempt: attempt.clone(),
            pid: 1,
            session_id: None,
            log: "l".into(),
            at: ahead(),
        }))
        .await;
    let stalls_at = Some(ahead() + jiff::SignedDuration::from_mins(5));
    worker
        .says(report(Report::Active {
            attempt: attempt.clone(),
            activity: Activity { stalls_at, ..Activity::default() },
        }))
        .await;
    let held =
        scene.slot("its countdown", |slot| slot.held.clone().filter(|held| held.activity.stalls_at.is_some())).await;
    let now = clock().now();
    assert!(held.since.duration_since(now).as_secs().abs() < 60, "{held:#?}");
    assert!((200..400).contains(&held.activity.stalls_at.unwrap().duration_since(now).as_secs()), "{held:#?}");
    let outcome =
        Outcome { summary: "told".into(), ..Outcome::plain(attempt.task, EndState::Done, Ending::Done, ahead()) };
    worker.queue.finish(claim.lease, outcome).await.unwrap();
    let result = scene.result("t").await;
    assert_ended(&result, "done", 1);
    let completed: Timestamp = result["completed_at"].as_str().unwrap().parse().unwrap();
    assert!(completed.duration_since(clock().now()).as_secs().abs() < 60, "{result:#}");
    scene.room.close().await;
}
