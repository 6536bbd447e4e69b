//! Two rooms on one NATS server: the second `podium` is a screen of the first room, from a stage of its own.

use podium::{
    model::{AgentName, Clock},
    queue::nats::{NatsQueue, Settings},
};

use super::{servers::Nats, *};

/// A lease that is over soon, so that a room that was killed is missed soon.
const LEASE: Duration = Duration::from_secs(3);

struct Scene {
    server: Nats,
    first: Stage,
    second: Stage,
    host: String,
}

impl Scene {
    /// A server, a room on it, and a stage elsewhere that names the same server.
    async fn new() -> Option<Self> {
        let server = Nats::start(&servers::server()?);
        // The leases' length is the bucket's.
        let folder = tempfile::tempdir().unwrap();
        let agents: Vec<AgentName> = ["marie", "anga", "fabien"].map(|name| name.parse().unwrap()).to_vec();
        #[expect(clippy::disallowed_methods, reason = "the one clock of these tests, handed to the queue as a value")]
        let clock = Clock::new(jiff::Timestamp::now);
        let settings = Settings::new(server.address(), "room", folder.path().to_owned(), agents, clock);
        drop(NatsQueue::open(Settings { makes: true, lease: LEASE, ..settings }).await.unwrap());
        let queue = format!("[queue]\nurl = \"{}\"\nmonitor = [\"{}\"]\n", server.url(), server.monitor());
        let script = json!([PODIUM, "__script", "--print", "she dances it through", "--print", "to the end"]);
        let first = Stage::new(&format!(
            "{queue}[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0.0\n[retry]\nattempts = 1\n\
             [agents.marie]\nengine = \"command\"\ncommand = {script}\n[agents.anga]\nelsewhere = true\n\
             [agents.fabien]\nslots = 0\n"
        ));
        let second = Stage::new(&format!("{queue}[agents.anga]\nelsewhere = true\n"));
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let scene = Self { server, first, second, host: host.chars().take(15).collect() };
        scene.serve().await;
        Some(scene)
    }

    async fn serve(&self) {
        let output = self.first.run(&["serve", "--detach"]).await;
        assert!(output.status.success(), "{output:?}");
        self.held().await;
    }

    async fn held(&self) {
        self.first.until("the room to have the server", |status| status["server"]["hold"] == "held").await;
    }

    /// The second `podium`, once it shows the first room.
    async fn screen(&self, size: (u16, u16)) -> Terminal {
        let mut screen = self.second.open(size, &[]);
        screen.see(&format!("ON {}", self.host)).await;
        screen
    }

    /// Nothing but screens was made on the second stage.
    async fn is_no_room(&self) {
        assert!(!self.second.root().join(".podium/room.json").exists(), "no room was opened there");
        let status = self.second.run(&["status"]).await;
        assert_eq!(status.status.code(), Some(4), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_server_that_another_room_has_podium_is_a_screen_of_that_room() {
    let Some(scene) = Scene::new().await else { return };
    let mut screen = scene.screen(WIDE).await;
    screen.see(&format!("stage on {}", scene.host)).await;
    scene.is_no_room().await;
    // What is ordered here is done there, by those who work there.
    fs::create_dir_all(scene.first.root().join("notes")).unwrap();
    fs::write(scene.first.root().join("notes/week.md"), "").unwrap();
    screen.press("g@marie Dance what @notes/week.md says.\r").await;
    scene.first.until("the task", |status| status["counts"]["done"] == 1).await;
    screen.see("1 done").await;
    let tasks = scene.first.json(&["status", "--json"]).await["tasks"].clone();
    let id = tasks[0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("marie/"), "{tasks}");
    // The log, which lies there alone.
    screen.press("4").await;
    screen.see("she dances it through").await;
    screen.press("/to the end\r").await;
    screen.see("1 of 1").await;
    screen.press(ESC).await;
    screen.press("1").await;
    // The task's own file and its result.
    screen.press("2\r").await;
    screen.press("o").await;
    screen.see("as it lies on disk").await;
    screen.press("\r").await;
    let path = scene.first.root().join("notes/week.md").display().to_string();
    let end = path.chars().skip(path.len() - 20).collect::<String>();
    screen.see("\"description\"").await;
    screen.until("the reference as a path there", |text| text.replace(['\n', ' ', '│'], "").contains(&end)).await;
    screen.press(ESC).await;
    screen.see_no("\"description\"").await;
    screen.see("Files of").await;
    screen.press("j").await;
    screen.quiet().await;
    screen.press("\r").await;
    screen.see("\"summary\"").await;
    screen.press(ESC).await;
    screen.see_no("\"summary\"").await;
    // Files, or the task's page: whichever lies above.
    while screen.text().contains("esc back") {
        screen.press(ESC).await;
        screen.quiet().await;
    }
    // A task again, by a key.
    screen.press("r").await;
    screen.see("Run marie/").await;
    screen.press("y").await;
    let former = scene.first.root().join("results/marie/.superseded");
    let moved = || fs::read_dir(&former).map_or(0, Iterator::count);
    scene.first.until("the retry", |status| moved() > 0 && status["counts"]["done"] == 1).await;
    screen.see_no("Run marie/").await;
    // It is left, and there is nothing to stop.
    screen.press("q").await;
    let (status, left) = screen.ended().await;
    assert!(status.success() && left.contains("it goes on"), "{left}");
    scene.is_no_room().await;
    let goes_on = |status: &Value| status["server"]["hold"] == "held" && status["counts"]["done"] == 1;
    scene.first.until("the first room to go on", goes_on).await;
    let output = scene.second.run(&["serve"]).await;
    assert_eq!(output.status.code(), Some(3), "a room without a screen is refused as ever: {output:?}");
    scene.second.nothing_left().await;
    scene.second.assert_nobody_panicked();
    scene.first.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_end_of_a_screen_elsewhere_is_killed_the_other_notices_and_nothing_is_left() {
    let Some(scene) = Scene::new().await else { return };
    let log = || fs::read_to_string(scene.first.root().join("logs/room.log")).unwrap_or_default();
    let mut screen = scene.screen(SMALL).await;
    // The room's core: the next one answers.
    let status = scene.first.json(&["status", "--json"]).await;
    kill_process(pid(status["core_pid"].as_i64().unwrap()), Signal::KILL).unwrap();
    screen.see("no word from the room").await;
    screen.see_no("no word from the room").await;
    screen.press("g@marie One more.\r").await;
    scene.first.until("the task", |status| status["counts"]["done"] == 1).await;
    screen.see("1 done").await;
    // The screen: the room lets it go.
    let gone = || log().matches("a screen on another machine has gone").count();
    let before = gone();
    kill_process(screen.screen(), Signal::KILL).unwrap();
    let (status, _) = screen.given_back().await;
    assert_eq!(status.code(), Some(137));
    scene.first.until("the room to let it go", |_| gone() >= before + 2).await;
    scene.is_no_room().await;
    scene.second.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_shows_the_room_again_and_a_room_that_leaves_makes_room_for_another() {
    let Some(mut scene) = Scene::new().await else { return };
    let mut screen = scene.screen(WIDE).await;
    scene.server.kill();
    screen.see("no word from the room").await;
    screen.see("is away").await;
    // What cannot be sent comes back.
    screen.press("g@marie Later.\r").await;
    screen.see("Later.").await;
    scene.server.up();
    screen.see_no("no word from the room").await;
    scene.held().await;
    screen.press("g\r").await;
    scene.first.until("the task", |status| status["counts"]["done"] == 1).await;
    screen.see("1 done").await;
    screen.press(ESC).await;
    assert!(scene.first.run(&["stop"]).await.status.success());
    screen.see("the room has left").await;
    screen.press("q").await;
    assert!(screen.ended().await.0.success());
    scene.is_no_room().await;
    // The server is free: now it is this stage's.
    let mut screen = scene.second.open(WIDE, &[]);
    screen.see("┌ Agents").await;
    scene.second.until("its own room", |status| status["server"]["hold"] == "held").await;
    screen.see_no("OPENING").await;
    assert!(!screen.text().contains(" ON "), "{}", screen.text());
    screen.press("qs").await;
    assert!(screen.ended().await.0.success());
    scene.second.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_be_named_on_the_command_line() {
    let Some(scene) = Scene::new().await else { return };
    fs::write(scene.second.root().join("podium.toml"), "").unwrap();
    let mut screen = scene.second.open(SMALL, &["--queue", &scene.server.url()]);
    screen.see(&format!("ON {}", scene.host)).await;
    screen.press("q").await;
    assert!(screen.ended().await.0.success());
    scene.is_no_room().await;
}
