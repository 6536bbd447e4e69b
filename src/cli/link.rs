//! What the verbs ask of the rest of the house: a connection to the room, and the three roles.
//!
//! Owns the runtime and the log of each role, and nothing else: the roles themselves are `runtime`'s.

use std::{cell::RefCell, collections::BTreeSet, io::IsTerminal, process::Command};

use anyhow::Context;
use tokio::{runtime::Builder, task::JoinSet};
use tracing_subscriber::EnvFilter;

use super::Trouble;
use crate::{
    attach::AttachError,
    config::{Config, Env},
    gateway::Invitation,
    guardian,
    model::{AgentName, Clock, EngineKind, Request, SlotId, TaskRecord, TaskRef, text},
    queue::{
        Queue as _,
        file::{FileQueue, Unfit},
    },
    room::State,
    runtime::{
        self,
        caller::{Missed, Server},
        feed::Feed,
        hold::ServerTaken,
        migrate::{Note, QueueThere, StageMoved},
        serve::{Guardian, StageTaken},
        viewer::Viewer,
    },
    supervisor::{self, SlotLock},
    worker::Farewell,
};

pub use crate::{
    attach::client::Link,
    rehearsal::SAMPLE_GOAL,
    runtime::{
        caller::Met,
        screen::{Left, Opening, Setup},
        terminal::Home,
    },
};

/// The wall clock.
pub fn clock() -> Clock {
    runtime::clock::system()
}

/// Why a role did not begin although nothing failed.
#[derive(Debug, thiserror::Error)]
#[error("{agent} slot {index} is served by another worker already")]
pub struct SlotTaken {
    agent: AgentName,
    index: u32,
}

/// Is the room's guardian in the foreground until the room has ended; tells the core's exit code. The core is this very
/// command line once more, and [`core()`].
pub fn serve(config: &Config) -> anyhow::Result<u8> {
    log(config)?;
    let lock = RefCell::new(runtime::serve::take_lock(&config.stage)?);
    let program = runtime::open::program()?;
    let command = |strangers: &BTreeSet<i32>| {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).arg("--core").arg(std::process::id().to_string());
        for stranger in strangers {
            command.arg("--stranger").arg(stranger.to_string());
        }
        // The stage stays taken as long as one of the two lives.
        command.stdin(lock.borrow_mut().shared()?);
        Ok(command)
    };
    let workers = || supervisor::holders(&config.stage).unwrap_or_default();
    guardian::keep(command, workers).context("could not keep the room")
}

/// Is the room's core until it is told to leave.
pub fn core(config: &Config, env: &Env, guardian: Guardian) -> anyhow::Result<()> {
    log(config)?;
    let settings = runtime::open::room(config, env)?;
    // A thread per core would only cost memory on a large machine. The loop is a task like the others, so that what a
    // connection brings and what goes back out over it change no thread on the way.
    let runtime = Builder::new_multi_thread().worker_threads(3).enable_all().build()?;
    let room = runtime.spawn(runtime::serve::serve(settings, guardian, clock()));
    match runtime.block_on(room) {
        Ok(left) => left,
        Err(error) => match error.try_into_panic() {
            // As if it had happened here: the guardian starts the next core.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(error.into()),
        },
    }
}

/// Connects to the room of a stage for an order; where none can be, the order is refused.
pub async fn connect(config: &Config) -> anyhow::Result<Link> {
    match Link::connect(&config.stage).await {
        Err(AttachError::NoRoom) => match read_only(config) {
            Some(why) => Err(ReadOnly(why).into()),
            None => Err(AttachError::NoRoom.into()),
        },
        other => Ok(other?),
    }
}

/// Nothing can be ordered on a stage that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadOnly(String);

/// What there is to see of a stage.
#[derive(Debug)]
pub enum Picture {
    /// A room is open.
    Room(Box<Link>),
    /// None is: what the files say.
    Files(Box<State>),
}

impl Picture {
    /// What there is.
    pub fn state(&self) -> &State {
        match self {
            Self::Room(link) => link.state(),
            Self::Files(state) => state,
        }
    }
}

/// Asks the room of a stage, and reads its files where none is open.
pub async fn look(config: &Config, env: &Env) -> anyhow::Result<Picture> {
    match Link::connect(&config.stage).await {
        Ok(link) => Ok(Picture::Room(Box::new(link))),
        Err(AttachError::NoRoom) => {
            let why = no_room(config);
            let viewer = Viewer::open(config, env, why, clock()).await?;
            Ok(Picture::Files(Box::new(viewer.into_state())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why no room is open on a stage where none answers.
fn no_room(config: &Config) -> String {
    match (read_only(config), Note::read(&config.stage)) {
        (Some(why), _) => why,
        (None, Ok(Some(note))) => format!("{}; {}", AttachError::NoRoom, note.sentence()),
        (None, _) => format!("{}; {HOW_TO_OPEN}", AttachError::NoRoom),
    }
}

/// How a room comes to be.
pub const HOW_TO_OPEN: &str = "start one with `podium serve --detach`, or open it with `podium`";

/// Why nothing can be ordered on a stage that cannot be written to; `None` where it can.
pub fn read_only(config: &Config) -> Option<String> {
    let unfit = FileQueue::read_only(&config.stage)?;
    let (folder, why) = match &unfit {
        Unfit::ReadOnly(folder, why) => (folder.as_str(), *why),
        Unfit::Network(..) | Unfit::Weak(..) | Unfit::Unknown { .. } => return None,
    };
    Some(format!("READ-ONLY: {folder}/ cannot be written to ({why}); no room is running and nothing can be ordered"))
}

/// Leaves markers that ask for something of these tasks, where no room runs; tells which tasks were meant.
pub async fn note(config: &Config, names: &[String], request: Request) -> anyhow::Result<Vec<TaskRef>> {
    let queue = runtime::open::queue(config, clock())?;
    let mut tasks = Vec::new();
    for name in names {
        let mut found = Vec::new();
        for agent in config.agents() {
            let task = match name.split_once('/') {
                Some((of, _)) if of != agent.name.as_str() => continue,
                Some((_, id)) => id.parse().ok(),
                None => name.parse().ok(),
            };
            if let Some(id) = task {
                let task = TaskRef::new(agent.name, id);
                found.extend(queue.get(&task).await.ok().map(|_record| task));
            }
        }
        match found.as_slice() {
            [one] => tasks.push(one.clone()),
            [] => anyhow::bail!("no room runs here, and there is no task {}", text::first_line(name, 60)),
            [_, ..] => anyhow::bail!("{} is more than one task: say whose", text::first_line(name, 60)),
        }
    }
    for task in &tasks {
        queue.request(task, request).await?;
    }
    Ok(tasks)
}

/// One task as its files say.
pub async fn record(config: &Config, task: &TaskRef) -> anyhow::Result<TaskRecord> {
    Ok(runtime::open::reader(config, clock()).get(task).await?)
}

/// A task's whole text, as its file says.
pub async fn description(config: &Config, task: &TaskRef) -> anyhow::Result<String> {
    Ok(reader(config).spec(task).await?.description)
}

/// The room that acts on the server which this stage names, where one answers.
pub async fn elsewhere(config: &Config) -> anyhow::Result<Option<Met>> {
    let Some(settings) = runtime::open::engine(config, "room", clock()) else { return Ok(None) };
    Box::pin(Server::room(settings)).await.map_err(|missed| match missed {
        Missed::Attach(error) => error.into(),
        missed => Trouble::Refused(missed.to_string()).into(),
    })
}

/// The stage's tasks, for whoever only reads them.
pub fn reader(config: &Config) -> FileQueue {
    runtime::open::reader(config, clock())
}

pub use runtime::lock::is_held;

/// Whether this error says that another process does the same already.
pub fn is_taken(error: &anyhow::Error) -> bool {
    let is_moved = error.is::<StageMoved>() || error.is::<QueueThere>();
    is_moved || error.is::<StageTaken>() || error.is::<SlotTaken>() || error.is::<ServerTaken>()
}

/// What a screen is drawn from.
pub struct Shown {
    /// The first picture.
    pub feed: Feed,
    /// Who reads the files of a stage, where the picture is made of those.
    pub reading: Option<JoinSet<()>>,
    /// What waits for the room, where it is being opened.
    pub opening: Option<Opening>,
}

impl From<Feed> for Shown {
    fn from(feed: Feed) -> Self {
        Self { feed, reading: None, opening: None }
    }
}

/// A stage as its screen shows it until its room has answered.
pub fn before(config: &Config, env: &Env) -> State {
    runtime::open::before(config, env)
}

/// The room of a stage that cannot be written to, or its files where none is open.
pub async fn shown(config: &Config, env: &Env) -> anyhow::Result<Shown> {
    match Link::connect(&config.stage).await {
        Ok(link) => Ok(Feed::room(link).into()),
        Err(AttachError::NoRoom) => {
            let viewer = Viewer::open(config, env, no_room(config), clock()).await?;
            let (link, reading) = viewer.link().await?;
            Ok(Shown { reading: Some(reading), ..Feed::room(link).into() })
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs the screen on what `connect` finds, until it is left; `None` when somebody pressed Ctrl+C before. The
/// connection that tells whether there is a room is the one that is drawn from: a snapshot is fetched once.
pub fn screen(setup: Setup, connect: impl Future<Output = anyhow::Result<Shown>>) -> anyhow::Result<Option<Left>> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let left = runtime.block_on(async {
        let shown = tokio::select! {
            connected = connect => connected?,
            _pressed = tokio::signal::ctrl_c() => return Ok(None),
        };
        let _reading = shown.reading;
        Box::pin(runtime::screen::run(shown.feed, shown.opening, setup, clock())).await.map(Some)
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
    invitation: Option<Invitation>,
    deputy: bool,
) -> anyhow::Result<Farewell> {
    log(config)?;
    let slot = SlotId { agent, index };
    let lock = SlotLock::take(&config.stage, &slot).context("could not lock the slot")?;
    let lock = lock.ok_or_else(|| SlotTaken { agent: slot.agent.clone(), index })?;
    // The kernel ties an attempt's life to the thread that started it: this one.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    if deputy {
        let (settings, files, engine) = runtime::open::deputy(config, slot, clock())?;
        return runtime.block_on(runtime::deputy::run(settings, files, engine, lock, *config.orphan_grace));
    }
    let mut settings = runtime::open::worker(config, env, slot.clone(), engine, clock())?;
    let far = runtime::open::engine(config, slot.agent.as_str(), clock()).filter(|_| engine.is_none());
    let files = if far.is_none() { Some(runtime::open::queue(config, clock())?) } else { None };
    runtime.block_on(async {
        if let Some(invitation) = invitation {
            runtime::worker::call_elsewhere(&mut settings, &invitation).await?;
        }
        match (far, files) {
            (Some(far), _) => Box::pin(runtime::remote::run(settings, far, lock)).await,
            (None, Some(files)) => Box::pin(runtime::worker::run(settings, files, lock)).await,
            (None, None) => anyhow::bail!("there is no queue to work on"),
        }
    })
}

/// Sends podium's own log to standard error, which is a file for every role that was started by another.
fn log(config: &Config) -> anyhow::Result<()> {
    // What its client tells of every try, the queue tells in its own words.
    let wanted = format!("async_nats=warn,{}", *config.log);
    let filter = EnvFilter::try_new(wanted).with_context(|| format!("PODIUM_LOG: {}", *config.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!config.no_color && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // A line that a full disk does not take is lost; telling of it on the same disk would end the process.
        .log_internal_errors(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("could not start the log: {error}"))
}
