//! Logs of attempts elsewhere: as they grow, with their times, and in the end byte for byte what the worker wrote.

use super::*;

/// The text of a file on one of the machines.
fn text(stage: &Stage, name: &str) -> String {
    fs::read_to_string(stage.path.join(name)).unwrap_or_default()
}

/// Offsets and milliseconds.
fn marks(text: &str) -> Vec<(u64, i64)> {
    let mark = |line: &str| {
        let (offset, at) = line.split_once(' ')?;
        Some((offset.parse().ok()?, at.parse().ok()?))
    };
    text.lines().map(|line| mark(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_an_attempt_elsewhere_have_their_times_while_it_runs_and_after() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    let (one, two) = (scene.there("one"), scene.there("two"));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    scene
        .far
        .steps("t", &["--print", "first", "--wait-for", one, "--print", "second", "--wait-for", two, "--print", "é"]);
    scene.submit("t");
    let log = || text(&scene.room, "logs/anga/t.1.log");
    eventually("the first line", || (log() == "first\n").then_some(())).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    fs::write(one, "").unwrap();
    eventually("the second line", || (log() == "first\nsecond\n").then_some(())).await;
    let live = eventually("its times", || {
        Some(marks(&text(&scene.room, "logs/anga/t.1.times"))).filter(|marks| marks.len() == 2)
    })
    .await;
    assert_eq!((live[0].0, live[1].0), (0, 6));
    assert!(live[1].1 - live[0].1 >= 600, "{live:?}");
    // As a person sees them.
    let shown = scene.room.run(&["logs", "anga", "--task", "t", "--json"]).exits(0).out;
    let times: Vec<Value> =
        shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["at"].clone()).collect();
    assert!(times.len() >= 2 && times.iter().all(Value::is_string), "{shown}");
    fs::write(two, "").unwrap();
    assert_ended(&scene.result("t").await, "done", 1);
    assert_eq!(log(), text(&scene.far, "logs/anga/t.1.log"));
    let (here, there) = (text(&scene.room, "logs/anga/t.1.times"), text(&scene.far, "logs/anga/t.1.times"));
    let (here, there) = (marks(&here), marks(&there));
    assert_eq!(here.len(), there.len(), "{here:?} {there:?}");
    assert!(here.iter().zip(&there).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 500), "{here:?} {there:?}");
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_attempt_wrote_comes_home_also_where_the_server_was_away_when_it_ended() {
    let Some(mut scene) = Scene::with("anga", "", Duration::from_mins(1)).await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    let (_child, gate) = scene.running("t").await;
    scene.server.kill();
    fs::write(gate, "").unwrap();
    eventually("its end", || scene.notes().contains(&"end anga/t 1".to_owned()).then_some(())).await;
    // Longer than one request is waited for.
    scene.says("logs and files wait for the NATS server").await;
    scene.server.up();
    assert_ended(&scene.result("t").await, "done", 1);
    assert!(!scene.said().contains("on this machine"), "{}", scene.said());
    assert_eq!(text(&scene.room, "logs/anga/t.1.log"), text(&scene.far, "logs/anga/t.1.log"));
    let (here, there) = (text(&scene.room, "logs/anga/t.1.times"), text(&scene.far, "logs/anga/t.1.times"));
    assert_eq!(marks(&here).len(), marks(&there).len(), "{here:?} {there:?}");
    scene.is_clean().await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_byte_for_byte_the_same_also_where_a_deputy_was_lost_on_the_way() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    let gate = scene.there("gate");
    scene.far.steps(
        "t",
        &[
            "--flood",
            "4",
            "--wait-for",
            gate.to_str().unwrap(),
            "--err",
            "a mishap",
            "--flood",
            "1",
            "--print",
            "the end",
        ],
    );
    scene.submit("t");
    scene.room.child("anga/t").await;
    let (here, there) = (scene.room.path.join("logs/anga/t.1.log"), scene.there("logs/anga/t.1.log"));
    let length = |path: &Path| fs::metadata(path).map_or(0, |about| about.len());
    eventually("some of it", || (length(&here) > 100_000).then_some(())).await;
    let deputy = scene.room.worker("anga").await;
    kill(deputy);
    scene.room.worker_but("anga", deputy).await;
    eventually("all of it so far", || (length(&here) >= 4_000_000 && length(&here) == length(&there)).then_some(()))
        .await;
    assert_eq!(fs::read(&here).unwrap(), fs::read(&there).unwrap(), "what was lost was sent again");
    fs::write(gate, "").unwrap();
    assert_ended(&scene.result("t").await, "done", 1);
    assert_eq!(fs::read(&here).unwrap(), fs::read(&there).unwrap());
    let err = scene.room.path.join("tasks/anga/.attempts/t/1/err.log");
    assert_eq!(fs::read_to_string(err).unwrap_or_default(), "a mishap\n");
    scene.room.close().await;
}
