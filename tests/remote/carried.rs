//! Whatever ends while an attempt runs elsewhere, the attempt is carried on and ends once, or is lost and said to be.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_elsewhere_that_failed_is_retried_and_one_that_is_cancelled_ends() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.configure("attempts = 3", "attempts = 1");
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    scene.far.steps("bad", &["--print", "no", "--exit", "1"]);
    scene.submit("bad");
    assert_ended(&scene.result("bad").await, "dead", 1);
    scene.far.steps("bad", &["--print", "yes"]);
    scene.room.run(&["retry", "anga/bad"]).exits(0);
    let path = scene.room.path.join("results/anga/bad.json");
    let good = || Some(fs::read_to_string(&path).ok()?).filter(|text| text.contains("\"done\""));
    let result: Value = serde_json::from_str(&eventually("the second result", good).await).unwrap();
    assert!(result["summary"].as_str().unwrap().contains("yes"), "{result:#}");
    let (child, _gate) = scene.running("slow").await;
    scene.room.run(&["cancel", "anga/slow"]).exits(0);
    assert_ended(&scene.result("slow").await, "cancelled", 1);
    assert!(!is_alive(child));
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_is_missed_and_the_next_attempt_runs_on_another_machine() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let mut first = scene.worker(&[]);
    let (child, gate) = scene.running("t").await;
    first.kill();
    let other = Stage::scripted(&scene.queue);
    other.steps("t", &["--print", "done by another"]);
    let _second = start(&other, "anga", &[]);
    let result = scene.result("t").await;
    assert_ended(&result, "done", 2);
    assert!(result["summary"].as_str().unwrap().contains("done by another"), "{result:#}");
    let shown = scene.room.run(&["show", "anga/t", "--json"]).exits(0).json();
    assert!(shown["attempts"][0]["ending"].to_string().contains("lease ran out"), "{shown:#}");
    assert!(!is_alive(child), "the child of a worker that was killed dies with it");
    assert!(!gate.exists());
    scene.room.close().await;
}

/// Kills what is named, and sees the attempt carried on by what comes after.
async fn carried(scene: &mut Scene, id: &str, mut end: impl AsyncFnMut(&mut Scene)) {
    let (child, gate) = scene.running(id).await;
    end(scene).await;
    assert!(is_alive(child), "it goes on all the while");
    scene.slot("the attempt in the hands of the next", |slot| slot.held.as_ref()?.pid).await;
    fs::write(gate, "").unwrap();
    let result = scene.result(id).await;
    assert_ended(&result, "done", 1);
    let log = fs::read_to_string(scene.room.path.join(format!("logs/anga/{id}.1.log"))).unwrap();
    assert_eq!(log, "one\ntwo\n");
    let mine: Vec<String> = scene.notes().into_iter().filter(|note| note.contains(&format!("anga/{id} "))).collect();
    assert_eq!(mine, [format!("begin anga/{id} 1"), format!("end anga/{id} 1")], "it ran once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deputy_that_is_killed_is_replaced_and_the_attempt_goes_on() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    carried(&mut scene, "one", async |scene| {
        let deputy = scene.room.worker("anga").await;
        kill(deputy);
        scene.room.worker_but("anga", deputy).await;
    })
    .await;
    // Also where it was asked to go.
    carried(&mut scene, "two", async |scene| {
        let deputy = scene.room.worker("anga").await;
        let pid = rustix::process::Pid::from_raw(deputy).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        scene.room.worker_but("anga", deputy).await;
    })
    .await;
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_killed_finds_what_runs_elsewhere_with_its_deputy_or_without() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    carried(&mut scene, "core", async |scene| {
        let core = scene.room.core();
        kill(core);
        eventually("the next core", || Some(scene.room.core()).filter(|next| *next != core)).await;
        eventually("its socket", || scene.room.answers().then_some(())).await;
        scene.slot("the deputy", |slot| matches!(slot.process, Process::Up { .. }).then_some(())).await;
    })
    .await;
    carried(&mut scene, "room", async |scene| {
        scene.room.crash();
        scene.room.serve().await;
    })
    .await;
    carried(&mut scene, "all", async |scene| {
        let deputy = scene.room.worker("anga").await;
        scene.room.crash();
        kill(deputy);
        scene.room.serve().await;
    })
    .await;
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_there_was_no_room_is_published_by_the_next() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    let (_child, gate) = scene.running("t").await;
    let deputy = scene.room.worker("anga").await;
    scene.room.crash();
    kill(deputy);
    fs::write(gate, "").unwrap();
    eventually("its end", || scene.notes().contains(&"end anga/t 1".to_owned()).then_some(())).await;
    scene.room.serve().await;
    let result = scene.result("t").await;
    assert_ended(&result, "done", 1);
    assert!(result["summary"].as_str().unwrap().contains("two"), "{result:#}");
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_is_given_between_two_deputies_is_not_forgotten() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    let (child, _gate) = scene.running("t").await;
    let deputy = scene.room.worker("anga").await;
    // The deputy cannot hear it any more.
    let pid = rustix::process::Pid::from_raw(deputy).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    scene.room.run(&["cancel", "anga/t"]).exits(0);
    kill(deputy);
    assert_ended(&scene.result("t").await, "cancelled", 1);
    assert!(!is_alive(child));
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_costs_nothing() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    carried(&mut scene, "t", async |scene| {
        scene.server.kill();
        scene.room.until("the room to say so", |state| state.server.as_ref()?.away.as_ref().map(drop)).await;
        scene.server.up();
    })
    .await;
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_a_server_for_longer_than_its_lease_ends_its_attempt_says_so_and_is_welcome_again() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let worker = scene.worker(&[]);
    let (child, gate) = scene.running("t").await;
    scene.server.kill();
    eventually("its end", || (!is_alive(child)).then_some(())).await;
    scene.says(&format!("has confirmed no beat for {} s, so the lease is gone", LEASE.as_secs())).await;
    fs::write(gate, "").unwrap();
    scene.server.up();
    let result = scene.result("t").await;
    assert_ended(&result, "done", 2);
    assert!(is_alive(worker.pid()), "the same worker");
    assert_eq!(scene.notes(), ["begin anga/t 1", "begin anga/t 2", "end anga/t 2"]);
    let shown = scene.room.run(&["show", "anga/t", "--json"]).exits(0).json();
    let first = shown["attempts"][0]["ending"].to_string();
    assert!(first.contains("lease"), "{shown:#}");
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deputy_without_a_room_leaves_and_a_worker_without_one_waits() {
    let Some(mut scene) = Scene::with("anga", "[room]\norphan_grace = \"2s\"\n", LEASE).await else { return };
    scene.room.serve().await;
    let worker = scene.worker(&[]);
    scene.slot("the worker", |slot| slot.far.as_ref().map(drop)).await;
    let deputy = scene.room.worker("anga").await;
    scene.room.crash();
    eventually("the deputy to leave", || (!is_alive(deputy)).then_some(())).await;
    assert!(is_alive(worker.pid()));
    scene.room.serve().await;
    let gate = scene.lay_down("t");
    fs::write(gate, "").unwrap();
    scene.submit("t");
    assert_ended(&scene.result("t").await, "done", 1);
    scene.room.close().await;
}
