//! Trivial tasks over two worker machines: network namespaces on one machine, a real server that syncs every write.
//!
//! What is measured is the queue itself: this process hands the tasks over, as a room's deputies do, and tells each machine which
//! one is there; a process on each machine claims and ends it. Beside it, in the same run and in the same places, the engine's own
//! rate for such a life, without anything of ours: it waits, it runs, its result, it is over; a write each. Its two
//! surprises: it starts itself again on the machines, and the folders of their attempts lie in memory, because the one disk
//! that there is here is the server's.
//!
//! Needs root and `ip`; `PODIUM_TEST_NATS` names the server's program. `cargo bench --bench hosts [-- TASKS]`; figures and
//! machine in `benches/README.md`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the benchmark")]

#[path = "hosts/network.rs"]
mod network;
#[path = "../tests/common/outcome.rs"]
mod plain;
#[path = "../tests/common/nats.rs"]
#[expect(dead_code, reason = "clusters, kills and stops are for the tests")]
mod servers;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{
        self, Context,
        kv::{Config, Store},
    },
};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use network::{Network, ROOM, on, worker};
use podium::{
    model::{Clock, TaskRef, TaskSpec, server::Holder},
    queue::{
        Claimed, Finished, Queue as _,
        nats::{Address, NatsQueue, Settings},
    },
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

/// Tasks of a round, where nothing else is asked for.
const TASKS: usize = 10_000;
/// An agent for each machine.
const AGENTS: [&str; 2] = ["anga", "marie"];
/// Lives at once on each machine, and submissions at once.
const AT_ONCE: [usize; 2] = [16, 64];
/// What a value has by hand: as much as ours have on average.
const BYTES: usize = 1_200;
/// How often each is measured, in turn.
const ROUNDS: usize = 2;

fn clock() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the one clock of this program")]
    Clock::new(Timestamp::now)
}

fn settings(url: String, who: &str, stage: &std::path::Path) -> Settings {
    let agents = AGENTS.map(|agent| agent.parse().unwrap()).to_vec();
    Settings::new(Address { url, ..Address::default() }, who, stage.to_owned(), agents, clock())
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, kind, url, agent, at_once, count] = &words[..]
        && first == "--machine"
    {
        Box::pin(machine(kind, url, agent, at_once.parse().unwrap(), count.parse().unwrap())).await;
        return ExitCode::SUCCESS;
    }
    if let [first, machine, tasks] = &words[..]
        && first == "--room"
    {
        Box::pin(room(machine, tasks.parse().unwrap())).await;
        return ExitCode::SUCCESS;
    }
    let tasks = words.iter().find_map(|word| word.parse().ok()).unwrap_or(TASKS);
    let (Some(_program), Some(network)) = (servers::server(), Network::new(AGENTS.len())) else {
        return ExitCode::FAILURE;
    };
    let mut room = on(network.name(), &std::env::current_exe().unwrap());
    let ended = room.args(["--room", network.name(), &tasks.to_string()]).status().unwrap();
    if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// On the room's machine, where the server is too.
async fn room(machine: &str, tasks: usize) {
    let program = servers::server().unwrap();
    let wanted = servers::Wanted { host: ROOM.to_owned(), ..servers::Wanted::default() };
    let server = servers::Nats::with(&program, &wanted);
    let stage = tempfile::tempdir().unwrap();
    let own = settings(server.url(), "room", stage.path());
    let queue = NatsQueue::open(Settings { makes: true, room: Some(machine.to_owned()), ..own }).await.unwrap();
    let mut holding = JoinSet::new();
    holding.spawn(hold(queue.clone(), machine.to_owned()));

    println!("{tasks} tasks over {} machines, load {}", AGENTS.len(), load());
    for at_once in AT_ONCE {
        for round in 0..ROUNDS {
            let hand = hand(machine, &server.url(), &queue, round, at_once, tasks).await;
            let ours = ours(machine, &server.url(), &queue, round, at_once, tasks).await;
            println!(
                "{at_once} at once on each: {ours:.0} lives/s; the engine's own: {hand:.0}/s; share {:.2}; load {}",
                ours / hand,
                load()
            );
        }
    }
}

/// Holds the server, as a room does: whoever hands a task over asks whose it is.
async fn hold(queue: NatsQueue, room: String) {
    let holder =
        Holder { room, host: "bench".into(), stage: "bench".into(), pid: std::process::id(), since: clock().now() };
    let mut revision = 0;
    loop {
        revision = queue.hold(&holder, revision).await.unwrap().unwrap();
        tokio::time::sleep(queue.lease_length() / 6).await;
    }
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().to_owned()
}

/// Processes on all machines, each of which has said that it listens.
struct Machines(Vec<(Child, BufReader<std::process::ChildStdout>)>);

impl Machines {
    fn start(room: &str, kind: &str, url: &str, at_once: usize, tasks: usize) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut all = Vec::new();
        for (n, agent) in AGENTS.iter().enumerate() {
            let count = (tasks - n).div_ceil(AGENTS.len());
            let mut child = on(&worker(room, n), &own)
                .args(["--machine", kind, url, agent, &at_once.to_string(), &count.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let said = BufReader::new(child.stdout.take().unwrap());
            all.push((child, said));
        }
        let mut machines = Self(all);
        machines.hear("listens");
        machines
    }

    /// Waits until each has said this.
    fn hear(&mut self, word: &str) {
        for (_, said) in &mut self.0 {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            assert_eq!(line.trim(), word, "a machine said something else");
        }
    }

    /// Waits until each has ended all its tasks.
    async fn ended(mut self) {
        tokio::task::spawn_blocking(move || {
            self.hear("ended");
            for (child, _) in &mut self.0 {
                assert!(child.wait().unwrap().success());
            }
        })
        .await
        .unwrap();
    }
}

/// On one of the machines: takes each task that it is told of to its end.
async fn machine(kind: &str, url: &str, agent: &str, at_once: usize, count: usize) {
    // Attempts have folders for their logs, which lie on the worker's own disk. Here that would be the server's.
    let stage = tempfile::tempdir_in("/dev/shm").unwrap();
    let queue = NatsQueue::open(settings(url.to_owned(), agent, stage.path())).await.unwrap();
    let by_hand = match kind {
        "ours" => None,
        round => Some(buckets(&jetstream::new(queue.client().clone()), round).await),
    };
    let mut told = queue.client().subscribe(format!("bench.{agent}")).await.unwrap();
    queue.client().flush().await.unwrap();
    println!("listens");
    let (slots, mut lives) = (Arc::new(Semaphore::new(at_once)), JoinSet::new());
    for _ in 0..count {
        let message = told.next().await.unwrap();
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        let (queue, by_hand) = (queue.clone(), by_hand.clone());
        lives.spawn(async move {
            let text = String::from_utf8(message.payload.to_vec()).unwrap();
            match by_hand {
                None => end(&queue, &text.parse().unwrap()).await,
                Some(buckets) => end_by_hand(&buckets, &text).await,
            }
            drop(slot);
        });
    }
    while let Some(ended) = lives.join_next().await {
        ended.unwrap();
    }
    println!("ended");
}

async fn end(queue: &NatsQueue, of: &TaskRef) {
    let Claimed::Won(claim) = queue.claim(of).await.unwrap() else { panic!("{of} was missed") };
    let finished = queue.finish(claim.lease, plain::plain(of, 0, clock().now())).await.unwrap();
    assert_eq!(finished, Finished::Committed);
}

async fn end_by_hand((tasks, results): &(Store, Store), told: &str) {
    let (key, waits) = told.split_once(' ').unwrap();
    let value = vec![b'x'; BYTES];
    let runs = tasks.update(key, value.clone().into(), waits.parse().unwrap()).await.unwrap();
    results.create(key, value.clone().into()).await.unwrap();
    tasks.update(key, value.into(), runs).await.unwrap();
}

/// The buckets of a round by hand.
async fn buckets(context: &Context, round: &str) -> (Store, Store) {
    let make = async |name: String| {
        let config = Config { bucket: name, history: 1, ..Config::default() };
        context.create_key_value(config).await.unwrap()
    };
    (make(format!("hand-{round}")).await, make(format!("hand-{round}-results")).await)
}

async fn tell(client: &Client, agent: &str, text: String) {
    client.publish(format!("bench.{agent}"), text.into()).await.unwrap();
}

fn per_second(tasks: usize, took: Duration) -> f64 {
    tasks as f64 / took.as_secs_f64()
}

async fn ours(room: &str, url: &str, queue: &NatsQueue, round: usize, at_once: usize, tasks: usize) -> f64 {
    let machines = Machines::start(room, "ours", url, at_once, tasks);
    let began = Instant::now();
    stream::iter(0..tasks)
        .for_each_concurrent(at_once, async |n| {
            let agent = AGENTS[n % AGENTS.len()];
            let of: TaskRef = format!("{agent}/r{at_once}-{round}-{n}").parse().unwrap();
            queue.hand_over(&TaskSpec::new(of.clone(), "Do it."), 1).await.unwrap();
            tell(queue.client(), agent, of.to_string()).await;
        })
        .await;
    machines.ended().await;
    per_second(tasks, began.elapsed())
}

async fn hand(room: &str, url: &str, queue: &NatsQueue, round: usize, at_once: usize, tasks: usize) -> f64 {
    let client = queue.client();
    let name = format!("{at_once}-{round}");
    let (waiting, _) = buckets(&jetstream::new(client.clone()), &name).await;
    let machines = Machines::start(room, &name, url, at_once, tasks);
    let began = Instant::now();
    stream::iter(0..tasks)
        .for_each_concurrent(at_once, async |n| {
            let agent = AGENTS[n % AGENTS.len()];
            let key = format!("{agent}.{n}");
            let revision = waiting.create(&key, vec![b'x'; BYTES].into()).await.unwrap();
            tell(client, agent, format!("{key} {revision}")).await;
        })
        .await;
    machines.ended().await;
    per_second(tasks, began.elapsed())
}
