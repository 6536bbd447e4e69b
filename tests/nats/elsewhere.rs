//! A room, a real server, and workers in folders of their own, as on other machines: the folder stays the front door.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::*;

/// A lease that is over soon, so that a worker that was killed is missed soon.
pub(super) const LEASE: Duration = Duration::from_secs(3);

pub(super) struct Place {
    _root: tempfile::TempDir,
    pub(super) stage: PathBuf,
    home: PathBuf,
}

/// A process that ends with this value.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn kill(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Place {
    pub(super) fn new(server: &Nats, config: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (stage, home) = (root.path().join("stage"), root.path().join("home"));
        fs::create_dir_all(&stage).unwrap();
        fs::create_dir_all(&home).unwrap();
        let config = format!("[queue]\nurl = \"{}\"\nmonitor = [\"{}\"]\n{config}", server.url(), server.monitor());
        fs::write(stage.join("podium.toml"), config).unwrap();
        Self { _root: root, stage, home }
    }

    pub(super) fn podium(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podium"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("PODIUM_LOG", "info")
            .args(words)
            .arg("--stage")
            .arg(&self.stage)
            .stdin(Stdio::null());
        command
    }

    pub(super) fn start(&self, words: &[&str], log: &str) -> Process {
        let file = fs::File::create(self.stage.join(log)).unwrap();
        Process(self.podium(words).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap())
    }

    pub(super) fn json(&self, words: &[&str]) -> Option<Value> {
        let output = self.podium(words).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    pub(super) fn drop_task(&self, id: &str, text: &str) {
        let inbox = self.stage.join("tasks/anga");
        fs::create_dir_all(&inbox).unwrap();
        fs::write(inbox.join(format!("{id}.json")), serde_json::json!({ "description": text }).to_string()).unwrap();
    }

    pub(super) async fn result(&self, id: &str) -> Value {
        let path = self.stage.join(format!("results/anga/{id}.json"));
        self.until(&format!("the result of {id}"), || serde_json::from_slice(&fs::read(&path).ok()?).ok()).await
    }

    pub(super) async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut said = String::new();
        for log in ["room.log", "logs/worker-anga#0.log", "logs/worker-anga-0.log", "logs/podium.log"] {
            said.extend(["--- ", log, "\n", &self.log(log), "\n"]);
        }
        panic!("waited in vain for {what}\n{said}");
    }

    /// The one slot of anga, as the room shows it.
    pub(super) fn slot(&self) -> Option<Value> {
        let status = self.json(&["status"])?;
        let agents = status["agents"].as_array()?;
        let anga = agents.iter().find(|agent| agent["name"] == "anga")?;
        Some(anga["slots"][0].clone())
    }

    pub(super) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.stage.join(name)).unwrap_or_default()
    }
}

/// Makes the buckets with leases of this length: it is the bucket's.
pub(super) async fn with_lease(server: &Nats, lease: Duration) {
    let folder = tempfile::tempdir().unwrap();
    drop(NatsQueue::open(Settings { lease, ..settings(server.address(), folder.path()) }).await.unwrap());
}

/// A room on one machine and a worker's folder on another. What the agent is told to do is a script.
pub(super) async fn scene(server: &Nats) -> (Place, Place) {
    with_lease(server, LEASE).await;
    let idle = "[agents.marie]\nslots = 0\n[agents.fabien]\nslots = 0\n[retry]\nbackoff = [\"1s\"]\n";
    let room = Place::new(server, &format!("[agents.anga]\nelsewhere = true\n{idle}"));
    let script = r#"words=$(cat); case "$words" in *LINGER*) echo lingering; sleep 300;; *MAKE*) echo made > file.txt;; esac; echo "worked here""#;
    let script = serde_json::to_string(script).unwrap();
    let worker = format!("[agents.anga]\nengine = \"command\"\ncommand = [\"/bin/sh\", \"-c\", {script}]\n{idle}");
    (room, Place::new(server, &worker))
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_g4_a_file_dropped_in_the_room_s_folder_is_worked_on_elsewhere_and_its_result_comes_back() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (room, far) = scene(&server).await;
    room.drop_task("before", "MAKE it.");
    let _room = room.start(&["serve"], "room.log");
    room.until("the room", || room.json(&["status"])).await;
    let _worker = far.start(&["worker", "anga"], "worker.log");
    let result = room.result("before").await;
    assert_eq!(
        (&result["state"], &result["attempts"]),
        (&"done".into(), &1.into()),
        "{result:#}\n{}",
        far.log("worker.log")
    );
    assert!(result["summary"].as_str().unwrap().contains("worked here"), "{result:#}");
    assert!(room.log("logs/anga/before.1.log").contains("worked here"), "the log is in the room's folder");
    let kept = result["artifacts"][0]["kept"].as_str().unwrap_or_else(|| panic!("{result:#}"));
    assert_eq!(room.log(kept), "made\n", "what it made is kept at home");
    // What it says while it runs, where, and what a cancel does.
    room.drop_task("slow", "LINGER, please.");
    let slot = room.until("the worker in the room", || room.slot().filter(|slot| slot["attempt"] == 1)).await;
    assert!(!slot["far"]["host"].as_str().unwrap_or_default().is_empty(), "{slot:#}");
    assert!(slot["far"]["offset_ms"].as_i64().is_some_and(|offset| offset.abs() < 5_000), "{slot:#}");
    room.until("its log", || room.log("logs/anga/slow.1.log").contains("lingering").then_some(())).await;
    assert!(room.podium(&["cancel", "slow"]).output().unwrap().status.success());
    let result = room.result("slow").await;
    assert_eq!(result["state"], "cancelled", "{result:#}");
    // Everything handed over was taken back.
    let left = NatsQueue::open(settings(server.address(), &far.stage)).await.unwrap();
    for _ in 0..50 {
        if left.list().await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:#?}", left.list().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_g7_a_worker_elsewhere_that_is_killed_is_missed_and_another_takes_its_task() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (room, far) = scene(&server).await;
    let _room = room.start(&["serve"], "room.log");
    room.until("the room", || room.json(&["status"])).await;
    let mut first = far.start(&["worker", "anga"], "worker.log");
    room.drop_task("t", "LINGER first.");
    room.until("the first attempt", || room.slot().filter(|slot| slot["attempt"] == 1)).await;
    first.kill();
    // The second machine does not linger.
    let config = far.log("podium.toml").replace("sleep 300", "true");
    fs::write(far.stage.join("podium.toml"), config).unwrap();
    let _second = far.start(&["worker", "anga"], "second.log");
    let result = room.result("t").await;
    assert_eq!((&result["state"], &result["attempts"]), (&"done".into(), &2.into()), "{result:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_and_a_worker_with_wrong_credentials_say_so_in_one_sentence_and_exit_2() {
    let Some(program) = servers::server() else { return };
    let locked = Wanted { more: "authorization { user: room, password: sesame }".into(), ..Wanted::default() };
    let server = Nats::with(&program, &locked);
    let place = Place::new(&server, "[agents.anga]\nelsewhere = true\n");
    for words in [&["worker", "anga"][..], &["serve"][..]] {
        let output = place.podium(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains("refuses these credentials"), "{words:?}: {said}");
    }
}
