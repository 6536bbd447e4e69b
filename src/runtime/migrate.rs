//! A stage's whole queue to a NATS server, and home from there.
//!
//! Owns the order of the steps and the note in the stage that says how far they are. Must not know how a task lies on either
//! side. Its one surprise: each step may be done again. Whoever is killed begins anew with the step that the note names, and the
//! stage takes no room until the last one.

mod home;
mod note;
mod out;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub use note::{Note, Phase, StageMoved};

use super::{
    hold::{self, Keeper},
    lock::{self, StageLock},
    open,
};
use crate::{
    config::Config,
    model::{
        Clock, Standing, TaskRef,
        server::{Hold, Server},
    },
    queue::{
        QueueError,
        file::FileQueue,
        nats::{
            self, NatsQueue, Unfit,
            check::{self, Durable},
        },
    },
};

pub use home::home;
pub use out::out;

/// Tasks on their way at once.
const AT_ONCE: usize = 8;

/// Why a queue is not moved: the state of things does not allow it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

fn refuse<T>(why: impl Into<String>) -> anyhow::Result<T> {
    Err(Refused(why.into()).into())
}

/// The server does not keep what it is given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnsafeServer(String);

/// What was moved, or would be.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The server, as a person writes it.
    pub server: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Each task and where it stands.
    pub tasks: Vec<(TaskRef, Standing)>,
    /// How many of them an earlier try had moved.
    pub before: usize,
    /// Files, and their bytes; 0 in a dry run.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Where what left the folders lies now.
    pub aside: Option<PathBuf>,
    /// What a person should know of the server.
    pub warning: Option<String>,
    /// A move that was cut short was given up.
    pub given_up: bool,
}

impl Report {
    fn new(server: String, dry_run: bool, warning: Option<String>) -> Self {
        Self {
            server,
            dry_run,
            tasks: Vec::new(),
            before: 0,
            files: 0,
            bytes: 0,
            aside: None,
            warning,
            given_up: false,
        }
    }
}

/// An address as a person writes it, without what is secret in it.
pub fn written(url: &str) -> String {
    let one = |url: &str| {
        let scheme = if url.trim().starts_with("tls://") { "tls" } else { "nats" };
        format!("{scheme}://{}", nats::shown(url))
    };
    url.split(',').map(one).collect::<Vec<_>>().join(",")
}

/// What the whole of it works with: the stage's lock, its queue, and the server as this stage's.
struct Hands {
    _lock: StageLock,
    files: FileQueue,
    queue: NatsQueue,
    held: hold::Kept,
}

impl Hands {
    /// Takes everything that a room would.
    async fn take(config: &Config, engine: nats::Settings, clock: Clock) -> anyhow::Result<Self> {
        let Some(lock) = StageLock::take(&config.stage)? else { return refuse(is_open(&config.stage)) };
        let files = open::queue(config, clock.clone())?;
        files.probe()?;
        let (keeper, queue) = hold(&engine, clock).await?;
        Ok(Self { _lock: lock, files, queue, held: keeper.spawn(|_server: Server| {}) })
    }
}

/// Takes the server; another room's is refused.
async fn hold(engine: &nats::Settings, clock: Clock) -> anyhow::Result<(Keeper, NatsQueue)> {
    let keeper = Box::pin(Keeper::begin(engine, std::process::id(), clock, false)).await?;
    let server = keeper.server();
    match (&server.hold, keeper.queue()) {
        (Hold::Held, Some(queue)) => Ok((keeper, queue)),
        _ => refuse(server.shut().unwrap_or_else(|| "the NATS server is not this stage's".to_owned())),
    }
}

fn is_open(stage: &Path) -> String {
    let pid = crate::attach::room_pid(stage).map(|pid| format!(" (process {pid})")).unwrap_or_default();
    format!("a room is open on {}{pid}; `podium stop` first", stage.display())
}

/// Sees whether the server keeps what it is given, without changing anything on it; what is to be known of it.
async fn fit(engine: &nats::Settings) -> anyhow::Result<Option<String>> {
    let (report, trouble) = check::look(&engine.address).await?;
    match trouble {
        None | Some(Unfit::Missing(_)) => {}
        Some(unfit) => return Err(unfit.into()),
    }
    match &report.durable {
        Durable::Unsafe(why) => Err(UnsafeServer(why.clone()).into()),
        Durable::Verified | Durable::Unverified(_) => Ok(report.warning()),
    }
}

/// A queue for looking alone; `None` where no room has ever made anything on the server.
async fn look(engine: &nats::Settings) -> anyhow::Result<Option<NatsQueue>> {
    match NatsQueue::open(nats::Settings { makes: false, ..engine.clone() }).await {
        Ok(queue) => Ok(Some(queue)),
        Err(Unfit::Missing(_)) => Ok(None),
        Err(unfit) => Err(unfit.into()),
    }
}

/// A stage's whole queue lies on the server that a room would work over.
#[derive(Debug, thiserror::Error)]
#[error(
    "the queue of {} on {} lies on that NATS server since {:.0}; bring it home with `podium migrate --to files`, there or on \
     another machine, before a room works over it", .0.stage, .0.host, .0.at
)]
pub struct QueueThere(nats::moved::Move);

/// A stage's whole queue on a server, where one lies there: no room works over it then.
pub(super) async fn what_lies_there(queue: &NatsQueue) -> Result<Option<QueueThere>, QueueError> {
    let (found, _) = queue.the_move().await?;
    Ok(found.filter(|it| it.home.is_none()).map(QueueThere))
}

/// How the server is used, by `[queue]` or the note of a move.
fn engine(config: &Config, clock: Clock) -> anyhow::Result<nats::Settings> {
    open::engine(config, "room", clock).context("[queue] url names no NATS server")
}

/// Refuses where a room is open; takes nothing.
fn is_free(stage: &Path) -> anyhow::Result<()> {
    if lock::is_held(stage) { refuse(is_open(stage)) } else { Ok(()) }
}

/// The first few names, and how many more there are.
fn some(tasks: &[TaskRef]) -> String {
    let names: Vec<String> = tasks.iter().take(3).map(ToString::to_string).collect();
    let more = tasks.len().saturating_sub(3);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}
