//! Orders reach the worker, whatever is away when they are given.

use podium::{
    attach::{
        far::{Says, Told},
        wire::WorkerTell,
    },
    model::{EndState, Ending, Outcome, Report},
    queue::Lease as _,
};

use super::{stand_in::StandIn, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_told_again_until_the_worker_has_it_and_then_no_more() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let mut worker = Box::pin(StandIn::arrive(&scene, clock().now())).await;
    scene.submit("t");
    for _ in 0..2 {
        let (n, told) = worker.order().await;
        assert!(n == 1 && matches!(told, Told::Assign { .. }), "{n} {told:?}");
        worker.beats(0).await;
    }
    worker.beats(1).await;
    let claim = worker.claim("anga/t").await;
    let attempt = claim.lease.attempt().clone();
    let started =
        Report::Started { attempt: attempt.clone(), pid: 1, session_id: None, log: "l".into(), at: clock().now() };
    worker.says(Says::Report(Box::new(started))).await;
    scene.slot("the attempt", |slot| slot.held.as_ref()?.pid).await;
    // An order may be told once more than it had to be.
    let next = async |worker: &mut StandIn, after: u64| loop {
        let (n, told) = worker.order().await;
        if n > after {
            return (n, told);
        }
    };
    let is_extend = |told: &Told| matches!(told, Told::Tell(tell) if matches!(**tell, WorkerTell::Extend { .. }));
    scene.room.run(&["extend", "anga/t", "--by", "5s"]).exits(0);
    for _ in 0..2 {
        let (n, told) = next(&mut worker, 1).await;
        assert!(n == 2 && is_extend(&told), "{n} {told:?}");
        worker.beats(1).await;
    }
    worker.beats(2).await;
    worker.beats(2).await;
    scene.room.run(&["cancel", "anga/t"]).exits(0);
    let (n, told) = next(&mut worker, 2).await;
    assert!(n == 3 && told == Told::Tell(Box::new(WorkerTell::Cancel(attempt.clone()))), "{n} {told:?}");
    worker.beats(2).await;
    assert_eq!(worker.order().await.0, 3, "what it has is told no more");
    let end = Outcome::plain(attempt.task, EndState::Cancelled, Ending::Cancelled, clock().now());
    worker.queue.finish(claim.lease, end).await.unwrap();
    assert_ended(&scene.result("t").await, "cancelled", 1);
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_time_that_is_given_while_the_server_is_away_counts_when_it_is_back_and_once() {
    let Some(mut scene) = Scene::with("anga", "", Duration::from_mins(1)).await else { return };
    let config = fs::read_to_string(scene.there("podium.toml")).unwrap();
    fs::write(scene.there("podium.toml"), config.replace("[agents.anga]\n", "[agents.anga]\nstall = \"24s\"\n"))
        .unwrap();
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    let (_child, gate) = scene.running("t").await;
    let begun = clock().now();
    scene.server.kill();
    // So long that worker and deputy have given each other up.
    eventually("silence", || scene.deputy_said("it has said nothing for 10 s").then_some(())).await;
    scene.says("its deputy has said nothing for 10 s").await;
    scene.room.run(&["extend", "anga/t", "--by", "40s"]).exits(0);
    scene.server.up();
    let left = |at: Timestamp| at.duration_since(begun).as_secs_f64();
    let longer = |slot: &Slot| slot.held.as_ref()?.activity.stalls_at.map(left).filter(|left| *left > 30.0);
    let left = scene.slot("more time", longer).await;
    assert!((58.0..70.0).contains(&left), "24 s and 40 s more, and not {left} s");
    fs::write(gate, "").unwrap();
    assert_ended(&scene.result("t").await, "done", 1);
    scene.room.close().await;
}

/// How long the room may take to be obeyed by a deputy that waits for a server that says nothing.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_closes_is_heard_by_a_deputy_that_waits_for_a_frozen_server() {
    let Some(mut scene) = Scene::with("anga", "", Duration::from_mins(1)).await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    let (_child, _gate) = scene.running("t").await;
    let deputy = scene.room.worker("anga").await;
    scene.server.freeze();
    // It looks every two seconds, and waits for an answer then.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let begun = tokio::time::Instant::now();
    // It waits until the room has left, which gives up its hold first.
    let mut stop = scene.room.command(&["stop"]).spawn().unwrap();
    eventually("the deputy to leave", || (!is_alive(deputy)).then_some(())).await;
    let took = begun.elapsed();
    scene.server.thaw();
    assert!(took < SOON, "{took:?}");
    assert!(stop.wait().unwrap().success());
    scene.room.left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_heard_by_a_deputy_that_hands_over_to_a_frozen_server() {
    let Some(mut scene) = Scene::with("anga", "", Duration::from_mins(1)).await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    scene.slot("the worker", |slot| slot.far.as_ref().map(drop)).await;
    let _gate = scene.lay_down("t");
    scene.server.freeze();
    scene.submit("t");
    scene.slot("the task in its deputy's hands", |slot| slot.held.as_ref().map(drop)).await;
    let begun = tokio::time::Instant::now();
    scene.room.run(&["cancel", "anga/t"]).exits(0);
    let result = scene.result("t").await;
    let took = begun.elapsed();
    scene.server.thaw();
    assert_ended(&result, "cancelled", 1);
    assert!(took < SOON, "{took:?}");
    assert_eq!(scene.notes(), Vec::<String>::new(), "nobody began it");
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_no_worker_takes_goes_back_with_the_reason_and_costs_no_attempt() {
    let Some(mut scene) = Scene::new().await else { return };
    // One attempt, so that one that was counted would be the last.
    scene.configure("attempts = 3", "attempts = 1");
    scene.room.serve().await;
    let mut worker = Box::pin(StandIn::arrive(&scene, clock().now())).await;
    scene.submit("t");
    let next = async |worker: &mut StandIn, after: u64| {
        // Longer than a task may lie there.
        for _ in 0..20 {
            worker.beats(after).await;
            if let Some((n, told)) = worker.order_within(Duration::from_secs(2)).await
                && n > after
            {
                assert!(matches!(told, Told::Assign { .. }), "{n} {told:?}");
                return n;
            }
        }
        panic!("it is not handed over again");
    };
    let n = next(&mut worker, 0).await;
    worker.beats(n).await;
    let no = Report::NotStarted { task: "anga/t".parse().unwrap(), reason: "the cellar is full of water".into() };
    worker.says(Says::Report(Box::new(no))).await;
    let task: TaskRef = "anga/t".parse().unwrap();
    let said = |state: &State| state.why(&task, clock().now()).map(|why| why.to_string());
    let is_told = |state: &State| said(state).filter(|why| why.contains("the cellar is full of water")).map(drop);
    scene.room.until("the reason in the room", is_told).await;
    // It is handed over again; now nobody says anything for as long as a task may lie there, and the same once more.
    for _ in 0..2 {
        let n = next(&mut worker, n).await;
        worker.beats(n).await;
    }
    let n = next(&mut worker, n).await;
    worker.beats(n).await;
    let claim = worker.claim("anga/t").await;
    assert_eq!(claim.n, 1, "its number was free again");
    let end = Outcome::plain("anga/t".parse().unwrap(), EndState::Done, Ending::Done, clock().now());
    worker.queue.finish(claim.lease, end).await.unwrap();
    assert_ended(&scene.result("t").await, "done", 1);
    scene.room.close().await;
}
