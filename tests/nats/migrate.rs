//! A stage's whole queue to a server and home: nothing lost, nothing twice, wherever it is cut short.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};

use serde_json::Value;

use super::{elsewhere::Place, *};

/// What the agents of the stage do: anga answers and makes a file, fails, or is slow.
const CONFIG: &str = r#"[retry]
attempts = 2
backoff = ["1h"]
[agents.anga]
engine = "command"
command = ["/bin/sh", "-c", 'words=$(cat); case "$words" in *FAIL*) echo no; exit 3;; *MAKE*) echo made > file.txt;; esac; echo "worked here"']
[agents.marie]
engine = "command"
command = ["/bin/true"]
slots = 1
[agents.fabien]
slots = 0
"#;

fn file(place: &Place, agent: &str, id: &str, task: &Value) {
    let inbox = place.stage.join("tasks").join(agent);
    fs::create_dir_all(&inbox).unwrap();
    fs::write(inbox.join(format!("{id}.json")), task.to_string()).unwrap();
}

/// A stage with tasks in every state, made by a room of its own, which has left.
async fn mixed(server: &Nats) -> Place {
    let place = Place::new(server, CONFIG);
    let words = |text: &str| serde_json::json!({ "description": text });
    file(&place, "anga", "done.1", &words("MAKE it."));
    file(&place, "anga", "dead", &words("FAIL."));
    file(&place, "anga", "retrying", &words("FAIL, and wait."));
    file(&place, "anga", "dead", &serde_json::json!({ "description": "FAIL.", "max_attempts": 1 }));
    file(
        &place,
        "marie",
        "blocked",
        &serde_json::json!({ "description": "After it.", "dependencies": ["anga/retrying"] }),
    );
    file(
        &place,
        "marie",
        "later",
        &serde_json::json!({ "description": "Not yet.", "not_before": "2099-01-01T00:00:00Z" }),
    );
    // Another program's result, in its own words.
    let theirs = place.stage.join("results/marie/theirs.json");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(
        &theirs,
        "{ \"task_id\": \"theirs\",\n  \"status\": \"success\", \"output\": \"well\", \"own\": [1, 2] }\n",
    )
    .unwrap();
    // Written a while ago: what somebody else writes is believed once it rests.
    let before = std::time::UNIX_EPOCH + Duration::from_secs(1_763_000_000);
    fs::File::options().write(true).open(&theirs).unwrap().set_modified(before).unwrap();
    let mut room = place.start(&["serve"], "room.log");
    place.result("done.1").await;
    place.result("dead").await;
    let state = |id: &str| {
        let status = place.json(&["status"])?;
        let task = status["tasks"].as_array()?.iter().find(|task| task["id"] == id)?.clone();
        task["state"].as_str().map(str::to_owned)
    };
    place.until("a task that waits for its turn", || state("anga/retrying").filter(|state| state == "retrying")).await;
    assert!(place.podium(&["stop"]).output().unwrap().status.success());
    room.wait();
    place
}

/// Every file of the queue: its bytes, and when it was written. What somebody was writing when it was killed is none of it.
fn picture(stage: &Path) -> BTreeMap<String, (Vec<u8>, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut folders =
        vec![stage.join("tasks"), stage.join("results"), stage.join("logs/anga"), stage.join(".podium/runs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, about) = (entry.path(), entry.metadata().unwrap());
            if path.ends_with(".tmp") {
                continue;
            }
            if about.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(stage).unwrap().display().to_string();
                all.insert(name, (fs::read(&path).unwrap(), about.mtime(), about.mtime_nsec()));
            }
        }
    }
    all
}

fn names(picture: &BTreeMap<String, (Vec<u8>, i64, i64)>) -> Vec<&String> {
    picture.keys().collect()
}

#[track_caller]
fn same(before: &BTreeMap<String, (Vec<u8>, i64, i64)>, after: &BTreeMap<String, (Vec<u8>, i64, i64)>) {
    assert_eq!(names(before), names(after));
    for (name, was) in before {
        let is = &after[name];
        assert_eq!(String::from_utf8_lossy(&was.0), String::from_utf8_lossy(&is.0), "{name}");
        assert_eq!((was.1, was.2), (is.1, is.2), "{name} has another time");
    }
}

fn ran(place: &Place, words: &[&str]) -> (Option<i32>, String, String) {
    let output = place.podium(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn refused(place: &Place, words: &[&str], with: &str) {
    let (code, _, said) = ran(place, words);
    assert_eq!(code, Some(3), "{words:?}: {said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(with), "{words:?} says {last:?}, not {with:?}");
}

/// What podium says of every task, the moment left out.
fn told(place: &Place) -> Vec<Value> {
    let status = place.json(&["status"]).unwrap();
    status["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| {
            let mut task = task.clone();
            task.as_object_mut().unwrap().remove("why");
            task
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_mixed_states_goes_to_a_server_and_comes_home_byte_for_byte() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let place = mixed(&server).await;
    let (before, tasks) = (picture(&place.stage), told(&place));
    assert!(tasks.len() >= 5, "{tasks:#?}");
    let url = server.url();
    // What it would do, and that nothing is changed by saying so.
    let dry: Value = place.json(&["migrate", "--to", &url, "--dry-run"]).unwrap();
    let mut ids: Vec<String> =
        dry["tasks"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().into()).collect();
    ids.sort();
    assert_eq!(ids, ["anga/dead", "anga/done.1", "anga/retrying", "marie/blocked", "marie/later", "marie/theirs"]);
    assert_eq!((&dry["dry_run"], &dry["warning"], &dry["aside"]), (&true.into(), &Value::Null, &Value::Null));
    same(&before, &picture(&place.stage));
    assert!(!place.stage.join(".podium/moved.json").exists());
    let context = async_nats::jetstream::new(async_nats::connect(&url).await.unwrap());
    assert!(context.get_stream("KV_podium-tasks").await.is_err(), "a dry run makes nothing on the server");
    // There.
    let moved: Value = place.json(&["migrate", "--to", &url]).unwrap();
    assert_eq!(moved["tasks"].as_array().map(Vec::len), Some(6), "{moved:#}");
    let left = picture(&place.stage);
    assert!(left.keys().all(|name| name.starts_with(".podium/runs")), "{:?}", names(&left));
    let aside = std::path::PathBuf::from(moved["aside"].as_str().unwrap());
    let kept = picture(&aside);
    for (name, was) in before.iter().filter(|(name, _)| name.starts_with("tasks") || name.starts_with("results")) {
        assert_eq!(kept.get(name), Some(was), "{name} is not kept aside");
    }
    // On the server it is a queue like any other, which nobody may change.
    let (_folder, queue) = open(&server).await;
    let there = queue.list().await.unwrap();
    assert_eq!(there.len(), 6);
    let done = queue.result(&task("anga/done.1")).await.unwrap().unwrap();
    assert!(done.summary.contains("worked here"), "{done:?}");
    assert_eq!(queue.get(&task("anga/retrying")).await.unwrap().attempts.len(), 1);
    assert!(queue.spec(&task("marie/blocked")).await.unwrap().description.contains("After it."));
    assert!(
        matches!(queue.claim(&task("marie/later")).await.unwrap(), Claimed::Missed(why) if why.contains("migrate"))
    );
    assert!(matches!(queue.remove(&task("anga/dead")).await, Err(QueueError::Unsafe(_))));
    assert!(matches!(queue.take_back(&task("anga/dead")).await, Err(QueueError::Unsafe(_))));
    assert_eq!(queue.recover().await.unwrap(), []);
    refused(&place, &["serve"], "`podium migrate --to files` brings it home");
    assert!(place.json(&["status"]).unwrap()["offline"].as_str().unwrap().contains("queue lies on nats://"));
    refused(&place, &["migrate", "--to", &url], "already, since");
    // A room that works over this server would be in its way.
    let other =
        Place::new(&server, "[agents.anga]\nelsewhere = true\n[agents.marie]\nslots = 0\n[agents.fabien]\nslots = 0\n");
    refused(&other, &["serve"], "lies on that NATS server since");
    // Home.
    let dry: Value = place.json(&["migrate", "--to", "files", "--dry-run"]).unwrap();
    assert_eq!(dry["tasks"].as_array().map(Vec::len), Some(6));
    assert_eq!(picture(&place.stage), left);
    let home: Value = place.json(&["migrate", "--to", "files"]).unwrap();
    assert_eq!(home["tasks"].as_array().map(Vec::len), Some(6), "{home:#}");
    same(&before, &picture(&place.stage));
    assert_eq!(told(&place), tasks);
    refused(&place, &["migrate", "--to", "files"], "was brought home to");
    assert_eq!(queue.list().await.unwrap(), []);
    assert_eq!(queue.removed().await.unwrap().len(), 6, "there it is set aside, not gone");
    // And it is a stage as before: what waits is worked on.
    let mut room = place.start(&["serve"], "room.log");
    place.until("the room", || place.json(&["status"])).await;
    place.drop_task("new", "MAKE it.");
    assert_eq!(place.result("new").await["state"], "done");
    refused(&place, &["migrate", "--to", &url], "a room is open on");
    assert!(place.podium(&["stop"]).output().unwrap().status.success());
    room.wait();
    // Once more, and to another machine.
    assert!(place.json(&["migrate", "--to", &url]).unwrap()["tasks"].as_array().is_some_and(|tasks| tasks.len() == 7));
    let far = Place::new(&server, CONFIG);
    assert!(far.json(&["migrate", "--to", "files"]).unwrap()["tasks"].as_array().is_some_and(|tasks| tasks.len() == 7));
    for (name, was) in before.iter().filter(|(name, _)| name.starts_with("results")) {
        assert_eq!(picture(&far.stage).get(name).map(|is| &is.0), Some(&was.0), "{name}");
    }
    refused(&place, &["migrate", "--to", "files"], "was brought home to");
}

/// A stage with many small tasks, some of them over.
fn many(server: &Nats, count: usize) -> Place {
    let place = Place::new(server, CONFIG);
    for n in 0..count {
        let id = format!("t{n:03}");
        file(
            &place,
            "anga",
            &id,
            &serde_json::json!({ "description": format!("Number {n}. {}", "words ".repeat(2_000)) }),
        );
    }
    place
}

/// Runs a verb and kills it after so long; true where it had ended before.
async fn cut_short(place: &Place, words: &[&str], after: Duration) -> bool {
    let mut child =
        place.podium(words).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    tokio::time::sleep(after).await;
    if child.try_wait().unwrap().is_some() {
        return true;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_and_begun_again_it_comes_to_the_same_end_with_nothing_twice() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let place = many(&server, 60);
    let url = server.url();
    drop(ran(&place, &["migrate", "--to", &url, "--dry-run"]));
    let before = picture(&place.stage);
    assert_eq!(before.len(), 60);
    for way in [&["migrate", "--to", &url][..], &["migrate", "--to", "files"]] {
        let (mut cut, mut wait) = (0, Duration::from_millis(20));
        // Each try gets further into it.
        while !cut_short(&place, way, wait).await {
            cut += 1;
            wait += Duration::from_millis(15);
        }
        assert!(cut >= 3, "it was cut short only {cut} times");
        eprintln!("{way:?} was cut short {cut} times");
        // The last try may have been told no because all was done already.
        let (code, _, said) = ran(&place, way);
        assert!(code == Some(0) || said.contains("already") || said.contains("was brought home"), "{code:?} {said}");
    }
    same(&before, &picture(&place.stage));
    assert!(!place.stage.join(".podium/moved.json").exists());
    let (_folder, queue) = open(&server).await;
    assert_eq!((queue.list().await.unwrap().len(), queue.removed().await.unwrap().len()), (0, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_cut_short_keeps_rooms_away_and_can_be_given_up() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let place = many(&server, 60);
    let url = server.url();
    let mut wait = Duration::from_millis(50);
    let sending = || place.log(".podium/moved.json").contains("sending");
    while !sending() {
        assert!(!cut_short(&place, &["migrate", "--to", &url], wait).await, "it was over at once");
        wait += Duration::from_millis(10);
    }
    let before = picture(&place.stage);
    assert_eq!(before.keys().filter(|name| name.starts_with("tasks")).count(), 60);
    refused(&place, &["serve"], "was cut short");
    let given: Value = place.json(&["migrate", "--to", "files"]).unwrap();
    assert_eq!(given["given_up"], true);
    same(&before, &picture(&place.stage));
    let (_folder, queue) = open(&server).await;
    assert_eq!((queue.list().await.unwrap().len(), queue.removed().await.unwrap().len()), (0, 0));
    assert!(!place.stage.join(".podium/moved.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_costs_nothing_but_another_try() {
    let Some(program) = servers::server() else { return };
    let mut server = Nats::start(&program);
    let place = many(&server, 60);
    let url = server.url();
    let before = picture(&place.stage);
    for way in [&["migrate", "--to", &url][..], &["migrate", "--to", "files"]] {
        let child =
            place.podium(way).stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.up();
        // It may have waited for the server, or have given up with a sentence.
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            assert!(said.contains("the same command goes on with it") || said.contains("cannot be reached"), "{said}");
            let (code, _, said) = ran(&place, way);
            assert_eq!(code, Some(0), "{said}");
        }
    }
    same(&before, &picture(&place.stage));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_and_a_queue_of_which_something_runs_are_refused_with_a_sentence() {
    let Some(program) = servers::server() else { return };
    let forgetful = Nats::with(&program, &Wanted { sync: false, ..Wanted::default() });
    let place = many(&forgetful, 1);
    let (code, _, said) = ran(&place, &["migrate", "--to", &forgetful.url()]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("acknowledges before it writes to the disk"), "{said}");
    assert!(!place.stage.join(".podium/moved.json").exists());
    let server = Nats::start(&program);
    let place = many(&server, 1);
    let settings = podium::queue::file::Settings::new(place.stage.clone(), agents(), clock());
    let files = podium::queue::file::FileQueue::open(settings).unwrap();
    let Claimed::Won(_claim) = files.claim(&task("anga/t000")).await.unwrap() else { panic!("not won") };
    refused(&place, &["migrate", "--to", &server.url()], "attempt 1 of anga/t000 runs");
    refused(&place, &["migrate", "--to", "files"], "no stage's queue lies on");
}
