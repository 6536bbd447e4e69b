//! The queue over NATS against real servers on loopback: what is promised when they are killed, stopped, full, emptied, wrong,
//! or fed with nonsense. What any queue promises is in `queue_contract.rs`, which runs over NATS too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests; what goes wrong must stop them")]

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use podium::{
    model::{AgentName, Clock, EndState, Ending, Outcome, Spend, Standing, TaskRef, TaskSpec},
    queue::{
        Change, Claim, Claimed, Finished, Lease as _, Queue, QueueError, Submitted,
        nats::{Address, NatsLease, NatsQueue, Settings, Unfit},
    },
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

#[path = "nats/cut_off.rs"]
mod cut_off;
#[path = "nats/elsewhere.rs"]
mod elsewhere;
#[path = "nats/fit.rs"]
mod fit;
#[path = "nats/hostile.rs"]
mod hostile;
#[path = "nats/killed.rs"]
mod killed;
#[path = "nats/migrate.rs"]
mod migrate;
#[path = "common/outcome.rs"]
mod plain;
#[path = "nats/rooms.rs"]
mod rooms;
#[path = "common/nats.rs"]
mod servers;

use servers::{Cluster, Nats, Wanted};

const PATIENCE: Duration = Duration::from_secs(30);

fn agents() -> Vec<AgentName> {
    ["marie", "anga", "fabien"].map(|name| name.parse().unwrap()).to_vec()
}

#[expect(clippy::disallowed_methods, reason = "the one clock of these tests, handed to the queue as a value")]
fn clock() -> Clock {
    Clock::new(Timestamp::now)
}

fn task(text: &str) -> TaskRef {
    text.parse().unwrap()
}

fn spec(name: &str) -> TaskSpec {
    TaskSpec::new(task(name), format!("about {name}"))
}

fn done(of: &TaskRef) -> Outcome {
    plain::plain(of, 0, clock().now())
}

fn crash() -> Ending {
    Ending::Signal { signal: 9 }
}

/// How the room opens a server.
fn settings(address: Address, stage: &Path) -> Settings {
    Settings { makes: true, ..Settings::new(address, "room", stage.to_owned(), agents(), clock()) }
}

/// A queue on a server, and the folder of what attempts write.
async fn open(server: &Nats) -> (tempfile::TempDir, NatsQueue) {
    let stage = tempfile::tempdir().unwrap();
    let queue = NatsQueue::open(settings(server.address(), stage.path())).await.unwrap();
    (stage, queue)
}

async fn won(queue: &NatsQueue, of: &TaskRef) -> Claim<NatsLease> {
    match queue.claim(of).await.unwrap() {
        Claimed::Won(claim) => *claim,
        Claimed::Missed(why) => panic!("missed: {why}"),
    }
}

/// Reads changes until one fits.
async fn change<T>(changes: &mut mpsc::Receiver<Change>, fits: impl Fn(&Change) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let change = changes.recv().await.expect("the watch ended");
            if let Some(found) = fits(&change) {
                return found;
            }
            seen.push(format!("{change:?}"));
        }
    };
    let found = timeout(PATIENCE, wait).await.ok();
    found.unwrap_or_else(|| panic!("nothing fits; seen: {seen:#?}"))
}

/// Why nothing new is started, once that is told.
async fn trouble(changes: &mut mpsc::Receiver<Change>) -> String {
    change(changes, |change| if let Change::Space(Some(why)) = change { Some(why.clone()) } else { None }).await
}
