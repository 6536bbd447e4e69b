//! The queue over NATS against real servers on loopback: what is promised when they are killed, stopped, full, emptied, wrong,
//! or fed with nonsense. What any queue promises is in `queue_contract.rs`, which runs over NATS too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests; what goes wrong must stop them")]

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use podium::{
    model::{EndState, Ending, Outcome, Spend, Standing, TaskRef, TaskSpec},
    queue::{
        Change, Claimed, Finished, Lease as _, Queue as _, QueueError, Submitted,
        nats::{Address, NatsQueue, Settings, Unfit},
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
#[path = "nats/lives.rs"]
mod lives;
#[path = "nats/migrate.rs"]
mod migrate;
#[path = "common/outcome.rs"]
mod plain;
#[path = "common/queues.rs"]
mod queues;
#[path = "nats/rooms.rs"]
mod rooms;
#[path = "nats/screens.rs"]
mod screens;
#[path = "common/nats.rs"]
mod servers;

use queues::{PATIENCE, agents, change, clock, crash, task, won};
use servers::{Cluster, Nats, Wanted};

fn spec(name: &str) -> TaskSpec {
    TaskSpec::new(task(name), format!("about {name}"))
}

fn done(of: &TaskRef) -> Outcome {
    plain::plain(of, 0, clock().now())
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

/// Why nothing new is started, once that is told.
async fn trouble(changes: &mut mpsc::Receiver<Change>) -> String {
    change(changes, |change| if let Change::Space(Some(why)) = change { Some(why.clone()) } else { None }).await
}
