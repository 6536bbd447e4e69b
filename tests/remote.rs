//! A room and workers on other machines: the real binary at both ends, in folders of their own, a real NATS server between.
//! What is shown here is that work elsewhere survives whatever ends in between, and looks to the room like its own.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[expect(dead_code, reason = "tests/room.rs uses the rest")]
mod common;

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use podium::{
    model::{AgentName, TaskRef},
    queue::{
        Queue as _,
        nats::{NatsQueue, Settings},
    },
    room::{Process, Slot, State},
};
use serde_json::{Value, json};

use common::{Stage, assert_ended, cli::cli, eventually, is_alive, kill};

#[path = "remote/answers.rs"]
mod answers;
#[path = "remote/calls.rs"]
mod calls;
#[path = "remote/carried.rs"]
mod carried;
#[path = "remote/logs.rs"]
mod logs;
#[path = "remote/orders.rs"]
mod orders;
#[path = "common/queues.rs"]
#[expect(dead_code, reason = "tests/nats.rs uses the rest")]
mod queues;
#[path = "common/nats.rs"]
#[expect(dead_code, reason = "tests/nats.rs uses the rest")]
mod servers;
#[path = "remote/skew.rs"]
mod skew;
#[path = "remote/stand_in.rs"]
mod stand_in;

use queues::{agents, clock};
use servers::Nats;

/// A lease that is over soon, so that who is gone is missed soon.
const LEASE: Duration = Duration::from_secs(6);

/// The room's machine: one agent works elsewhere, nobody else works.
fn room(agent: &str) -> String {
    let others = ["marie", "anga", "fabien"].into_iter().filter(|other| *other != agent);
    let idle = others.map(|other| format!("[agents.{other}]\nslots = 0\n")).collect::<Vec<_>>().concat();
    format!("[agents.{agent}]\nelsewhere = true\n{idle}[retry]\nattempts = 3\nbackoff = [\"10ms\"]\n")
}

/// A process that ends with this value.
struct Worker(Child);

impl Worker {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn kill(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Scene {
    room: Stage,
    /// The other machine.
    far: Stage,
    /// What both say of the server.
    queue: String,
    /// Who works there.
    agent: &'static str,
    server: Nats,
}

impl Scene {
    /// A server, a room that is not open yet, and another machine on which anga carries out steps.
    async fn new() -> Option<Self> {
        Self::with("anga", "", LEASE).await
    }

    /// The same for any agent, with more lines for the room and leases of this length.
    async fn with(agent: &'static str, more: &str, lease: Duration) -> Option<Self> {
        let server = Nats::start(&servers::server()?);
        // The leases' length is the bucket's.
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(server.address(), "room", folder.path().to_owned(), agents(), clock());
        drop(NatsQueue::open(Settings { makes: true, lease, ..settings }).await.unwrap());
        let queue = format!("[queue]\nurl = \"{}\"\nmonitor = [\"{}\"]\n", server.url(), server.monitor());
        let room = Stage::bare(&format!("{queue}{}{more}", room(agent)));
        let far = Stage::scripted(&queue);
        Some(Self { room, far, queue, agent, server })
    }

    /// Starts a worker on the other machine.
    fn worker(&self, more: &[&str]) -> Worker {
        start(&self.far, self.agent, more)
    }

    /// Its name as the room has it.
    fn task(&self, id: &str) -> String {
        format!("{}/{id}", self.agent)
    }

    /// Changes what the room is told before it opens.
    fn configure(&self, from: &str, to: &str) {
        let path = self.room.path.join("podium.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
    }

    /// A file of the other machine's.
    fn there(&self, name: &str) -> PathBuf {
        self.far.path.join(name)
    }

    /// Lays down that a task begins, waits for its gate, and ends; each noted.
    fn lay_down(&self, id: &str) -> PathBuf {
        let (notes, gate) = (self.there("notes"), self.there(&format!("gate-{id}")));
        let (notes, way) = (notes.to_str().unwrap(), gate.to_str().unwrap());
        self.far.steps(
            id,
            &[
                "--notes",
                notes,
                "--note",
                "begin",
                "--print",
                "one",
                "--wait-for",
                way,
                "--print",
                "two",
                "--note",
                "end",
            ],
        );
        gate
    }

    fn submit(&self, id: &str) {
        let words = format!("The text of {id}.");
        self.room.run(&["submit", "--agent", self.agent, "--id", id, &words]).exits(0);
    }

    /// `begin anga/t 1`, without the processes.
    fn notes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.there("notes")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect()
    }

    /// Submits a task that waits for its gate, and waits until its child runs; its process and the gate.
    async fn running(&self, id: &str) -> (i32, PathBuf) {
        let gate = self.lay_down(id);
        self.submit(id);
        let (child, _) = self.room.child(&self.task(id)).await;
        (child, gate)
    }

    async fn result(&self, id: &str) -> Value {
        self.room.result(&self.task(id)).await
    }

    /// Waits until the agent's first slot is as wanted.
    async fn slot<T>(&self, what: &str, look: impl Fn(&Slot) -> Option<T>) -> T {
        let agent: AgentName = self.agent.parse().unwrap();
        self.room.until(what, |state| look(state.agents.get(&agent)?.slots.first()?)).await
    }

    /// What a worker has said.
    fn said(&self) -> String {
        fs::read_to_string(self.far.root.path().join("worker.log")).unwrap_or_default()
    }

    async fn says(&self, words: &str) {
        eventually(&format!("{words:?} in the worker's log"), || self.said().contains(words).then_some(())).await;
    }

    /// Whether a deputy has said this.
    fn deputy_said(&self, words: &str) -> bool {
        let log = self.room.path.join(format!("logs/worker-{}-0.log", self.agent));
        fs::read_to_string(log).unwrap_or_default().contains(words)
    }

    /// Everything that was handed over was taken back.
    async fn is_clean(&self) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(self.server.address(), "room", folder.path().to_owned(), agents(), clock());
        let queue = NatsQueue::open(settings).await.unwrap();
        for _ in 0..100 {
            if queue.list().await.unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:#?}", queue.list().await.unwrap());
    }
}

fn start(far: &Stage, agent: &str, more: &[&str]) -> Worker {
    let log = OpenOptions::new().create(true).append(true).open(far.root.path().join("worker.log")).unwrap();
    let mut command = far.command(&[&["worker", agent], more].concat());
    command.env("PODIUM_LOG", "info").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Worker(command.spawn().unwrap())
}
