//! Whose server it is: two rooms on one, a room that was killed, one that loses it, and a server that goes away and comes back.

use rustix::process::{Pid, Signal, kill_process};

use super::{
    elsewhere::{LEASE, Place, Process, scene, with_lease},
    *,
};

/// A room of its own on the same server.
pub(super) fn other_room(server: &Nats) -> Place {
    Place::new(server, "[agents.anga]\nelsewhere = true\n[agents.marie]\nslots = 0\n[agents.fabien]\nslots = 0\n")
}

/// How the room has the server.
fn hold(place: &Place) -> Option<String> {
    place.json(&["status"])?["server"]["hold"].as_str().map(str::to_owned)
}

pub(super) async fn held(place: &Place) {
    place.until("the room to have the server", || hold(place).filter(|hold| hold == "held")).await;
}

/// A room and a worker elsewhere, in the middle of an attempt that lingers.
async fn working(room: &Place, far: &Place) -> [Process; 2] {
    let serves = room.start(&["serve"], "room.log");
    held(room).await;
    let works = far.start(&["worker", "anga"], "worker.log");
    room.drop_task("t", "LINGER, please.");
    room.until("the attempt", || room.slot().filter(|slot| slot["attempt"] == 1)).await;
    // Ended in this order.
    [works, serves]
}

/// Kills a room as a power cut does: guardian and core, which have no time to say anything.
async fn crash(place: &Place, room: &mut Process) {
    let trace: serde_json::Value = serde_json::from_str(&place.log(".podium/room.json")).unwrap();
    let pid = |name: &str| Pid::from_raw(i32::try_from(trace[name].as_i64().unwrap()).unwrap()).unwrap();
    kill_process(pid("pid"), Signal::STOP).unwrap();
    kill_process(pid("core"), Signal::KILL).unwrap();
    room.kill();
    // The stage is free when both are gone.
    place.until("the stage to be free", || (!podium::runtime::lock::is_held(&place.stage)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rooms_on_one_server_the_second_names_the_first_in_one_sentence_and_exits_3() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    // Longer than a busy machine takes to open a room.
    let lease = LEASE * 4;
    with_lease(&server, lease).await;
    let (first, second) = (other_room(&server), other_room(&server));
    let mut room = first.start(&["serve"], "room.log");
    held(&first).await;
    let output = second.podium(&["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    let sentence = said.lines().find(|line| line.starts_with("podium: ")).unwrap_or_else(|| panic!("{said}"));
    let stage = first.stage.display().to_string();
    for words in [
        "belongs to the room on ",
        "open since ",
        &format!("its screen opens there with `podium --stage {stage}`"),
        "`podium` here opens its screen",
    ] {
        assert!(sentence.contains(words), "{words} is not in {sentence}");
    }
    let output = second.podium(&["serve", "--detach"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(3), 1), "{said}");
    assert!(said.contains(&stage), "{said}");
    assert!(hold(&first).is_some_and(|hold| hold == "held"), "the first does not notice");
    // One that leaves gives the server up at once.
    assert!(first.podium(&["stop"]).output().unwrap().status.success());
    room.wait();
    let begun = tokio::time::Instant::now();
    let _room = second.start(&["serve"], "room.log");
    held(&second).await;
    assert!(begun.elapsed() < lease, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_opens_while_the_server_is_away_does_not_work_over_a_queue_that_was_moved_there() {
    let Some(program) = servers::server() else { return };
    let mut server = Nats::start(&program);
    with_lease(&server, LEASE).await;
    let away = Place::new(&server, "");
    away.drop_task("t", "MAKE it.");
    assert!(away.podium(&["migrate", "--to", &server.url()]).output().unwrap().status.success());
    server.kill();
    let place = other_room(&server);
    let _room = place.start(&["serve"], "room.log");
    place.until("the room without its server", || hold(&place).filter(|hold| hold == "unknown")).await;
    server.up();
    place.until("the room to see the queue", || hold(&place).filter(|hold| hold == "occupied")).await;
    let status = place.json(&["status"]).unwrap();
    assert!(status["server"]["why"].as_str().unwrap().contains("lies on that NATS server since"), "{status:#}");
    place.drop_task("mine", "MAKE it.");
    place
        .until("the task to wait for that", || {
            place.json(&["status"])?.to_string().contains("podium migrate --to files").then_some(())
        })
        .await;
    assert!(place.slot().unwrap()["pid"].is_null(), "no deputy acts on it");
    // When the queue is home the server is the room's.
    let home = away.podium(&["migrate", "--to", "files"]).output().unwrap();
    assert!(home.status.success(), "{}", String::from_utf8_lossy(&home.stderr));
    held(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_was_killed_is_followed_at_once_on_its_own_stage_and_elsewhere_when_its_lease_is_over() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    // So long that nobody could have waited for it.
    with_lease(&server, Duration::from_secs(18)).await;
    let (own, other) = (other_room(&server), other_room(&server));
    let mut room = own.start(&["serve"], "room.log");
    held(&own).await;
    crash(&own, &mut room).await;
    let begun = tokio::time::Instant::now();
    let mut room = own.start(&["serve"], "room.log");
    held(&own).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    crash(&own, &mut room).await;
    let _room = other.start(&["serve"], "room.log");
    let open = || other.json(&["status"]).filter(|status| !status["server"].is_null());
    let seen = other.until("the other room", open).await;
    assert_eq!(seen["server"]["hold"], "quiet", "{:#}", seen["server"]);
    assert_eq!(seen["server"]["by"]["stage"], own.stage.display().to_string());
    assert_eq!(seen["agents"].as_array().unwrap().iter().find(|a| a["name"] == "anga").unwrap()["state"], "not_ready");
    held(&other).await;
    other.until("its deputy", || other.slot().filter(|slot| !slot["pid"].is_null())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_loses_the_server_stops_acting_says_whose_it_is_and_goes_on_when_it_has_it_again() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (room, far) = scene(&server).await;
    let _working = working(&room, &far).await;
    let (_stage, queue) = open(&server).await;
    let by = podium::model::server::Holder {
        room: "another".into(),
        host: "studio-2".into(),
        stage: "/srv/dance".into(),
        pid: 812,
        since: clock().now(),
    };
    // Somebody who thought that its lease was over.
    let mut revision = loop {
        let (_, revision) = queue.owner().await.unwrap();
        if let Some(revision) = queue.hold(&by, revision).await.unwrap() {
            break revision;
        }
    };
    let end = async {
        loop {
            tokio::time::sleep(LEASE / 6).await;
            revision = queue.hold(&by, revision).await.unwrap().expect("the room writes over another's hold");
        }
    };
    let looks = async {
        room.until("the room to know", || hold(&room).filter(|hold| hold == "taken")).await;
        room.until("its deputy to be gone", || room.slot().filter(|slot| slot["pid"].is_null())).await;
        let status = room.json(&["status"]).unwrap();
        let anga = status["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == "anga").unwrap();
        assert_eq!(anga["state"], "not_ready", "{anga:#}");
        let trouble = anga["trouble"].as_str().unwrap();
        assert!(trouble.contains("belongs to the room on studio-2 (process 812, stage /srv/dance)"), "{trouble}");
        // It stays so.
        tokio::time::sleep(LEASE * 2).await;
        assert_eq!(hold(&room).as_deref(), Some("taken"));
    };
    tokio::select! {
        () = end => {}
        () = looks => {}
    }
    // The other one was killed.
    held(&room).await;
    room.until("the next attempt", || room.slot().filter(|slot| slot["attempt"] == 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_the_room_says_since_when_shows_what_it_knows_as_old_and_goes_on_when_it_is_back() {
    let Some(program) = servers::server() else { return };
    let mut server = Nats::start(&program);
    let (room, far) = scene(&server).await;
    let _working = working(&room, &far).await;
    server.kill();
    let status = room
        .until("the room to know", || room.json(&["status"]).filter(|status| !status["server"]["away"].is_null()))
        .await;
    let since = status["server"]["away"]["since"].as_str().unwrap().to_owned();
    let slot = room.slot().unwrap();
    assert_eq!(
        (slot["task"].as_str(), slot["stale_since"].as_str()),
        (Some("anga/t"), Some(since.as_str())),
        "{slot:#}"
    );
    let task = |status: &serde_json::Value| status["tasks"].as_array().unwrap()[0]["why"].as_str().unwrap().to_owned();
    assert!(task(&status).contains("the NATS server is away"), "{status:#}");
    let shown = room.podium(&["status"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("has been away since 20"), "{shown}");
    room.drop_task("later", "MAKE it.");
    server.up();
    room.until("the server to be back", || {
        room.json(&["status"]).filter(|status| status["server"]["away"].is_null() && status["server"]["hold"] == "held")
    })
    .await;
    assert!(room.podium(&["cancel", "t"]).output().unwrap().status.success());
    assert_eq!(room.result("t").await["attempts"], 1);
    assert_eq!(room.result("later").await["state"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_sync_interval_cannot_be_read_is_said_to_be_unverified_in_status() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let place = other_room(&server);
    let config = place.log("podium.toml");
    let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("monitor")).collect();
    std::fs::write(place.stage.join("podium.toml"), config.join("\n")).unwrap();
    let _room = place.start(&["serve"], "room.log");
    held(&place).await;
    let status = place.json(&["status"]).unwrap();
    let warning = status["server"]["warning"].as_str().unwrap_or_else(|| panic!("{:#}", status["server"]));
    assert!(warning.starts_with("durability not verified: "), "{warning}");
    let shown = place.podium(&["status"]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("durability not verified"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_before_server_and_room_waits_for_both_with_one_line_each_and_then_works() {
    let Some(program) = servers::server() else { return };
    let mut server = Nats::start(&program);
    let idle = "[agents.marie]\nslots = 0\n[agents.fabien]\nslots = 0\n";
    let room = Place::new(&server, &format!("[agents.anga]\nelsewhere = true\n{idle}"));
    let far = Place::new(
        &server,
        &format!(
            "[agents.anga]\nengine = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"cat > /dev/null; echo worked here\"]\n{idle}"
        ),
    );
    server.kill();
    let mut worker = far.start(&["worker", "anga"], "worker.log");
    let lines = |words: &str| far.log("worker.log").lines().filter(|line| line.contains(words)).count();
    far.until("it to wait for the server", || (lines("cannot be reached") > 0).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.up();
    far.until("it to wait for the room", || (lines("the room is waited for") > 0).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(worker.is_alive(), "{}", far.log("worker.log"));
    let _room = room.start(&["serve"], "room.log");
    room.drop_task("t", "Work.");
    assert_eq!(room.result("t").await["state"], "done");
    assert_eq!((lines("cannot be reached"), lines("the room is waited for")), (1, 1), "{}", far.log("worker.log"));
}
