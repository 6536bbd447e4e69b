//! What the verbs ask of the rest of the house: a connection to the room, and the three roles.
//!
//! Owns the runtime and the log of each role, and nothing else: the roles themselves are `runtime`'s.

use std::io::IsTerminal;

use anyhow::Context;
use jiff::tz::TimeZone;
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, Env},
    model::{AgentName, Clock, EngineKind, SlotId, TaskRecord, TaskRef},
    queue::Queue as _,
    runtime::{self, serve::StageTaken},
    supervisor::SlotLock,
    tui::{self, Leave},
    worker::Farewell,
};

pub use crate::{attach::client::Link, rehearsal::SAMPLE_GOAL};

/// The wall clock.
pub fn clock() -> Clock {
    runtime::clock::system()
}

/// How the screen is opened.
#[derive(Debug, Clone, Default)]
pub struct ScreenOptions {
    /// Draw with ASCII only.
    pub ascii: bool,
    /// Text that waits in the composer.
    pub composed: Option<String>,
}

/// Why a role did not begin although nothing failed.
#[derive(Debug, thiserror::Error)]
#[error("{agent} slot {index} is served by another worker already")]
pub struct SlotTaken {
    agent: AgentName,
    index: u32,
}

/// Runs the room in the foreground until it is stopped.
pub fn serve(config: &Config, env: &Env) -> anyhow::Result<()> {
    log(config)?;
    let settings = runtime::open::room(config, env)?;
    // The loop has a thread of its own beside these; a thread per core would only cost memory on a large machine.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(runtime::serve::serve(settings, clock()))
}

/// One task as its files say.
pub async fn record(config: &Config, task: &TaskRef) -> anyhow::Result<TaskRecord> {
    Ok(runtime::open::queue(config, clock())?.get(task).await?)
}

/// Whether this error says that another process does the same already.
pub fn is_taken(error: &anyhow::Error) -> bool {
    error.is::<StageTaken>() || error.is::<SlotTaken>()
}

/// Runs the screen on the room that `connect` finds, until it is left; `None` when somebody pressed Ctrl+C before. The
/// connection that tells whether there is a room is the one that is drawn from: a snapshot is fetched once.
pub fn screen(
    config: &Config,
    options: &ScreenOptions,
    connect: impl Future<Output = anyhow::Result<Link>>,
) -> anyhow::Result<Option<Leave>> {
    let settings = tui::Settings { ascii: options.ascii, color: !config.no_color, zone: TimeZone::system() };
    let draft = options.composed.as_deref().unwrap_or_default();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let left = runtime.block_on(async {
        let link = tokio::select! {
            connected = connect => connected?,
            _pressed = tokio::signal::ctrl_c() => return Ok(None),
        };
        runtime::screen::run(link, &config.stage, settings, draft, clock()).await.map(Some)
    });
    // The key reader blocks on the terminal and would hold a waiting shutdown.
    runtime.shutdown_background();
    left
}

/// Runs one worker until it is told to leave.
pub fn worker(
    config: &Config,
    env: &Env,
    agent: AgentName,
    index: u32,
    engine: Option<EngineKind>,
) -> anyhow::Result<Farewell> {
    log(config)?;
    let slot = SlotId { agent, index };
    let lock = SlotLock::take(&config.stage, &slot).context("could not lock the slot")?;
    let lock = lock.ok_or_else(|| SlotTaken { agent: slot.agent.clone(), index })?;
    let (settings, queue) = runtime::open::worker(config, env, slot, engine, clock())?;
    // The kernel ties an attempt's life to the thread that started it: this one.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(runtime::worker::run(settings, queue, lock))
}

/// Sends podium's own log to standard error, which is a file for every role that was started by another.
fn log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&*config.log).with_context(|| format!("PODIUM_LOG: {}", *config.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!config.no_color && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| anyhow::anyhow!("could not start the log: {error}"))
}
