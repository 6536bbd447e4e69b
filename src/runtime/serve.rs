//! The room's loop: everything that happens becomes an event, one after the other, and is applied by `room::State`.
//!
//! Opening: journal, gateway on its former address, workers of a former core found, what belongs to nobody ended, queue
//! mended, socket. Then the loop waits, drains what is pending, applies, and carries out. Nothing in it waits but the
//! `select!`. Its one surprise: the stage's lock is standard input, which the guardian holds too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    ask::Cli,
    effects::World,
    elsewhere,
    herald::{Heralds, Hook},
    hold::Keeper,
    known::Kept,
    lock::{self, Held, StageLock},
    migrate, money, record,
    tunnels::Door,
};
use crate::{
    attach::{
        room_pid,
        server::{ConnectionId, Outlet, Said, Server},
        wire::{self, Tell, WorkerTell},
    },
    gateway::{Gateway, Identity, Notice, Purpose, TokenHash},
    guardian,
    journal::Journal,
    ledger::{Ledger, Prices},
    model::{
        AccountSetup, Asking, Clock, EngineKind, Report, SlotId,
        budget::{Caps, Payer},
        text,
    },
    queue::{self, Change, Queue, file::FileQueue},
    rehearsal::{self, StandIn},
    room::{
        Answer, Effect, Event, GatewayEvent, Leaving, Money, Opened, Order, OrderId, Stamped, State, TaskEvent,
        WorkerEvent,
        event::{AgentSetup, Orchestrator, Planning},
    },
    supervisor::{self, Part},
};

/// What a room is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The stage's folder, absolute.
    pub stage: PathBuf,
    /// Every agent, its engine resolved.
    pub agents: Vec<AgentSetup>,
    /// How the orchestrator works.
    pub orchestrator: Orchestrator,
    /// The CLI through which the orchestrator asks; `None` where it calls the Messages API.
    pub orchestrator_cli: Option<Cli>,
    /// The orchestrator's system prompt in force.
    pub orchestrator_prompt: String,
    /// Attempts at once, over all agents.
    pub max_running: u32,
    /// Starts allowed per task.
    pub attempts: u32,
    /// Days for which copies of what attempts made are kept.
    pub copies: Option<u32>,
    /// What may be spent, where a task or goal does not say.
    pub caps: Caps,
    /// What model calls cost.
    pub prices: Prices,
    /// The model that savings are compared with.
    pub top_model: String,
    /// What plans are judged by, beside the agents.
    pub planning: Planning,
    /// The accounts, and what happens when one's limit clears.
    pub accounts: AccountSetup,
    /// How requests of agents are dealt with.
    pub asking: Asking,
    /// Who is told when something waits for a person.
    pub hook: Hook,
    /// The gateway; its upstream is replaced in a rehearsal.
    pub gateway: crate::gateway::Settings,
    /// How the stand-in behaves, in a rehearsal.
    pub rehearsal: Option<Rehearsal>,
    /// The program that workers are started from: podium itself.
    pub program: PathBuf,
    /// The NATS server for agents that work elsewhere.
    pub engine: Option<crate::queue::nats::Settings>,
    /// The room starts its workers; otherwise somebody else does, and it waits for them.
    pub start_workers: bool,
}

/// How the stand-in behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rehearsal {
    /// Chooses among equally good words.
    pub seed: u64,
    /// 1 = about half a minute for the sample goal, 0 = as fast as can be.
    pub pace: f64,
}

/// The process that starts cores, as its core knows it.
#[derive(Debug, Clone)]
pub struct Guardian {
    /// This process's parent.
    pub pid: u32,
    /// Children that it had before it was a guardian: none of the room's.
    pub strangers: Vec<i32>,
}

/// Another room holds the stage.
#[derive(Debug, thiserror::Error)]
#[error("a room is open on {stage} already{}", .pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
pub struct StageTaken {
    /// The stage.
    pub stage: PathBuf,
    /// Its process id, if it could be read.
    pub pid: Option<u32>,
}

/// What a core leaves for the next one, and for whoever finds the stage taken.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Trace {
    /// The guardian's: the process that is the room to the outside.
    pid: u32,
    #[serde(default)]
    core: u32,
    gateway: Option<SocketAddr>,
}

/// Something for the loop.
#[derive(Debug)]
enum Input {
    Event(Event),
    Said(Said),
    Notice(Notice),
}

impl From<Said> for Input {
    fn from(said: Said) -> Self {
        Self::Said(said)
    }
}

/// Inputs applied before the loop looks at signals and time again.
const BATCH: usize = 512;

/// How soon lines that the disk did not take are tried again, at the latest.
const AGAIN: Duration = Duration::from_secs(1);

/// Opens the room and runs it until it is told to leave and everything has ended.
pub async fn serve(settings: Settings, guardian: Guardian, clock: Clock) -> anyhow::Result<()> {
    let Guardian { pid: guardian, strangers } = guardian;
    let watched = watch_guardian(&settings.stage, guardian)?;
    migrate::Note::none(&settings.stage)?;
    let control = settings.stage.join(".podium");
    let mut lock = StageLock::inherited(&settings.stage)?;
    let trace_path = control.join("room.json");
    let former: Trace = fs::read(&trace_path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();

    let (journal, facts) = Journal::<Stamped>::open(&control.join("journal.jsonl"))?;
    let mut state = State::default();
    for fact in facts {
        // A replay: the effects were carried out by the room that wrote them.
        drop(state.update(fact));
    }
    let ledger = Ledger::open(control.join("ledger"))?;
    let money = money::fold(ledger.rows(), &settings.prices, &settings.top_model, true, clock.now())?;

    let stand_in = match settings.rehearsal {
        Some(Rehearsal { seed, pace }) => {
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            Some(StandIn::start(rehearsal::Settings { seed, pace, listen, clock: clock.clone() }).await?)
        }
        None => None,
    };
    let (inputs, mut pending) = mpsc::unbounded_channel();
    let gateway = open_gateway(&settings, stand_in.as_ref(), former.gateway, &money, &clock, &inputs).await?;
    let found = find_workers(&settings, &gateway)?;
    let core = std::process::id();
    let trace = Trace { pid: guardian, core, gateway: Some(gateway.addr()) };
    // A full disk keeps no room from opening: what has begun must be finished.
    if let Err(error) = record::replace(&trace_path, &trace) {
        tracing::error!(%error, path = %trace_path.display(), "the next room will not find this one's gateway");
    }

    let agents = settings.agents.iter().map(|a| a.settings.name.clone()).collect();
    let elsewhere = settings.agents.iter().map(|a| &a.settings).filter(|a| a.elsewhere && a.slots > 0);
    let elsewhere = elsewhere.filter(|_| settings.engine.is_some()).map(|a| a.name.clone()).collect();
    let of_stage =
        super::effects::queue_settings(&settings.stage, agents, settings.attempts, settings.copies, clock.clone());
    let queue = FileQueue::open(queue::file::Settings { elsewhere, ..of_stage })?;
    let mut held = None;
    if let Some(engine) = &settings.engine {
        let keeper = Box::pin(Keeper::begin(engine, guardian, clock.clone(), true)).await?;
        let server = keeper.server();
        let inputs = inputs.clone();
        let tell = move |server| drop(inputs.send(Input::Event(Event::Server { server: Box::new(server) })));
        let door = Door { address: engine.address.clone(), stage: settings.stage.clone(), queue: queue.clone() };
        let is_held = keeper.held();
        held = Some((server, keeper.spawn(tell), (door, is_held)));
    }
    let opened = Opened {
        name: settings.stage.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        stage: settings.stage.clone(),
        rehearsal: stand_in.is_some(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: guardian,
        core,
        agents: settings.agents.clone(),
        orchestrator: settings.orchestrator.clone(),
        max_running: settings.max_running,
        attempts: settings.attempts,
        caps: settings.caps,
        planning: settings.planning.clone(),
        found: found.clone(),
        offline: None,
        accounts: settings.accounts.clone(),
        asking: settings.asking,
    };
    let (folder, hook) = (settings.stage.clone(), settings.hook.clone());
    let world = Arc::new(World::new(settings, guardian, queue, gateway, clock.clone())?);
    world.workers.known(strangers);
    world.workers.known(supervisor::holders(&opened.stage).context("could not look for workers")?);
    let probing = tokio::task::spawn_blocking({
        let world = Arc::clone(&world);
        move || world.queue.probe()
    });
    // Before anything can be started again.
    let _said = world.sweep().await;
    probing.await.context("could not try the stage's folders")??;
    world.queue.recover().await?;

    let mut sources = JoinSet::new();
    sources.spawn(forward_changes(world.queue.watch().await?, inputs.clone()));
    sources.spawn(forward_signals(inputs.clone()).context("could not listen for signals")?);
    sources.spawn(leave_without_guardian(watched, inputs.clone()));
    let server = Server::bind(&opened.stage, inputs.clone())?;
    let held = held.map(|(seen, kept, (door, is_held))| (seen, kept, door.keep(is_held)));
    let gateway = world.gateway.addr();
    tracing::info!(stage = %opened.stage.display(), pid = guardian, core, %gateway, "the room is open");
    if let Some(elsewhere) = world.gateway.elsewhere() {
        tracing::info!(%elsewhere, "model calls of workers on other machines are taken");
    }
    let mut room = Room {
        state,
        journal,
        ledger,
        kept: Kept::new(&opened.stage, opened.accounts.windows.clone()),
        shift: clock.read().shift,
        clock,
        world,
        screens: HashMap::new(),
        workers: HashMap::new(),
        watched: BTreeSet::new(),
        unseen: BTreeSet::new(),
        awaited: BTreeMap::new(),
        slots: HashMap::new(),
        askers: HashMap::new(),
        orders: 0,
        tasks: JoinSet::new(),
        failures: HashMap::new(),
        disk: None,
        leaving: false,
        told: false,
    };
    room.apply(Event::Gateway(GatewayEvent::Folded { money: Box::new(money) }));
    // Before anything is started over it.
    if let Some((server, ..)) = &held {
        room.apply(Event::Server { server: Box::new(server.clone()) });
    }
    room.apply(Event::Opened(Box::new(opened)));
    for (slot, pid) in found {
        room.watch_worker(slot, pid);
    }

    let mut heralds = Heralds::new(hook);
    let mut pulse = tokio::time::interval(PULSE);
    while !room.leaving {
        let now = room.mind_the_clock();
        let wake = room.state.next_wake().map(|at| until(at, now));
        tokio::select! {
            input = pending.recv() => {
                let Some(input) = input else { break };
                room.take(input);
                for _ in 0..BATCH {
                    match pending.try_recv() {
                        Ok(input) => room.take(input),
                        Err(_empty) => break,
                    }
                }
            }
            Some(ended) = room.tasks.join_next_with_id(), if !room.tasks.is_empty() => {
                // What was said before it ended comes first: it may have ended for that.
                for _ in 0..pending.len() {
                    let Ok(input) = pending.try_recv() else { break };
                    room.take(input);
                }
                room.task_ended(ended);
            }
            () = tokio::time::sleep(wake.unwrap_or(Duration::MAX)), if wake.is_some() => room.apply(Event::TimeCame),
            () = tokio::time::sleep(AGAIN), if room.is_behind() => room.catch_up(),
            _ = pulse.tick() => {
                room.beat();
                room.kept.keep(&room.state);
                heralds.look(&room.state, room.clock.now());
                if let Some(why) = lost(&mut lock, &folder) {
                    tracing::error!(why, "the room leaves and its workers go on");
                    room.farewell(&why);
                    server.abandon();
                    let taken = StageTaken { pid: room_pid(&folder), stage: folder };
                    return Err(anyhow::Error::from(taken).context(why));
                }
            }
        }
    }
    room.kept.keep(&room.state);
    room.catch_up();
    if room.is_behind() {
        tracing::error!(facts = room.journal.kept(), calls = room.ledger.kept(), "lines that no disk took are lost");
    }
    room.farewell("the room has closed");
    let door = match held {
        Some((_, held, door)) => {
            held.give_up().await;
            Some(door)
        }
        None => None,
    };
    server.close().await;
    if let Some(door) = door {
        door.close().await;
    }
    room.tasks.shutdown().await;
    tracing::info!("the room is closed");
    Ok(())
}

/// How often the room says that it is there, and looks whether the stage is still its own.
const PULSE: Duration = Duration::from_secs(2);

/// Why the room must leave because its stage is another's, if it must.
fn lost(lock: &mut StageLock, stage: &Path) -> Option<String> {
    match lock.check() {
        Ok(Held::Still) => None,
        Ok(Held::Again) => {
            tracing::warn!("the lock of the stage was deleted or replaced, and taken again");
            None
        }
        Ok(Held::NoMore) => {
            let pid = room_pid(stage).map(|pid| format!(" (process {pid})")).unwrap_or_default();
            Some(format!("another room{pid} has taken the stage: its lock was deleted or replaced"))
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "could not look at the lock of the stage");
            None
        }
    }
}

/// How long to sleep until `at`; a moment that has passed is now.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// Takes the stage for the guardian of a room; [`StageTaken`] when another has it. The file goes to every core as its
/// standard input, so that the stage stays taken as long as either lives.
pub fn take_lock(stage: &Path) -> anyhow::Result<StageLock> {
    StageLock::take(stage)?.ok_or_else(|| StageTaken { stage: stage.to_owned(), pid: room_pid(stage) }.into())
}

/// Sees that this process was started by the guardian of the stage and shares its lock; what comes back waits for the
/// guardian's end.
fn watch_guardian(
    stage: &Path,
    guardian: u32,
) -> anyhow::Result<impl Future<Output = std::io::Result<()>> + Send + 'static> {
    let misused = || anyhow::anyhow!("a core is started by its guardian only; use `podium serve`");
    let path = lock::path(stage);
    let lock = fs::metadata(&path).with_context(|| format!("could not look at {}", path.display()))?;
    let given = rustix::fs::fstat(std::io::stdin()).context("could not look at standard input")?;
    if (given.st_dev, given.st_ino) != (lock.dev(), lock.ino()) {
        return Err(misused());
    }
    rustix::fs::flock(std::io::stdin(), rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_held| misused())?;
    let watched = supervisor::watch(guardian).context("could not watch the guardian")?;
    // Only now is the number known to be its own.
    if rustix::process::getppid().is_none_or(|p| p.as_raw_nonzero().get().unsigned_abs() != guardian) {
        return Err(misused());
    }
    Ok(watched)
}

/// Starts the gateway on the address that a former room's workers still call, else on any.
async fn open_gateway(
    settings: &Settings,
    stand_in: Option<&StandIn>,
    former: Option<SocketAddr>,
    money: &Money,
    clock: &Clock,
    inputs: &mpsc::UnboundedSender<Input>,
) -> anyhow::Result<Gateway> {
    let tell = || {
        let inputs = inputs.clone();
        // Nobody listens any more: the room is on its way out.
        move |notice| inputs.send(Input::Notice(notice)).unwrap_or_default()
    };
    let mut wanted = settings.gateway.clone();
    if money.day == Some(clock.now().to_zoned(TimeZone::UTC).date()) {
        wanted.spent_today = money.today.cost;
    }
    if let Some(stand_in) = stand_in {
        wanted.upstream = stand_in.url();
        // The stand-in takes any key; the gateway wants one to put on.
        wanted.keys = crate::gateway::Keys { default: Some("rehearsal".to_owned().into()), ..Default::default() };
    }
    if wanted.listen.port() == 0
        && let Some(former) = former
    {
        let again = crate::gateway::Settings { listen: former, ..wanted.clone() };
        match Gateway::start(again, settings.prices.clone(), clock.clone(), tell()).await {
            Ok(started) => return Ok(started),
            Err(error) => tracing::warn!(%error, "the gateway's former address is taken, running attempts may fail"),
        }
    }
    Ok(Gateway::start(wanted, settings.prices.clone(), clock.clone(), tell()).await?)
}

/// Finds the workers of a former room and lets their tokens in before they knock.
fn find_workers(settings: &Settings, gateway: &Gateway) -> anyhow::Result<Vec<(SlotId, u32)>> {
    let mut found = Vec::new();
    for agent in &settings.agents {
        for index in 0..agent.settings.slots {
            let slot = SlotId { agent: agent.settings.name.clone(), index };
            let record = supervisor::find(&settings.stage, &slot)
                .with_context(|| format!("could not look for the worker of {slot}"))?;
            if let Some(record) = record {
                if let Some(hash) = record.token_hash.and_then(|h| h.parse::<TokenHash>().ok()) {
                    gateway.adopt_token(hash, Identity::Worker(slot.clone()));
                }
                found.push((slot, record.pid));
            }
        }
    }
    Ok(found)
}

async fn forward_changes(mut changes: mpsc::Receiver<Change>, inputs: mpsc::UnboundedSender<Input>) {
    while let Some(change) = changes.recv().await {
        if inputs.send(Input::Event(Event::Task(task_event(change)))).is_err() {
            return;
        }
    }
}

/// The queue's word as the room's.
pub(super) fn task_event(change: Change) -> TaskEvent {
    match change {
        Change::Task(record) => TaskEvent::Changed { record },
        Change::Found(tasks, unread) => TaskEvent::Found { tasks, unread },
        Change::Gone(task) => TaskEvent::Withdrawn { task },
        Change::Rejected(rejected) => TaskEvent::Rejected { rejected },
        Change::RejectedGone(path) => TaskEvent::RejectedGone { path },
        Change::Polling(why) => TaskEvent::Polling { why },
        Change::Requested { task, request } => TaskEvent::Requested { task, request },
        Change::Trash(removed) => TaskEvent::Trash { removed },
        Change::Space(why) => TaskEvent::Space { why },
    }
}

/// TERM, INT and HUP end the room in order.
fn forward_signals(inputs: mpsc::UnboundedSender<Input>) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = term.recv() => "TERM",
                _ = int.recv() => "INT",
                _ = hup.recv() => "HUP",
            };
            tracing::info!(signal = name, "the room was told to leave");
            let order = Event::Ordered { id: OrderId(0), order: Order::Stop { drain: false } };
            if inputs.send(Input::Event(order)).is_err() {
                return;
            }
        }
    })
}

/// Without its guardian the room ends in order: nobody would start it again.
async fn leave_without_guardian(
    watched: impl Future<Output = std::io::Result<()>>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    match watched.await {
        Ok(()) => tracing::error!("the guardian is gone: the room leaves"),
        Err(error) => return tracing::error!(%error, "the guardian cannot be watched"),
    }
    let order = Event::Ordered { id: OrderId(0), order: Order::Stop { drain: false } };
    let _room_gone = inputs.send(Input::Event(order));
}

/// The loop's own memory: the state, and who is connected.
struct Room {
    state: State,
    journal: Journal<Stamped>,
    ledger: Ledger,
    /// What the next room is to know of accounts.
    kept: Kept,
    clock: Clock,
    /// How far the clock had been set when the state was last told.
    shift: SignedDuration,
    world: Arc<World>,
    screens: HashMap<ConnectionId, Outlet>,
    workers: HashMap<ConnectionId, (SlotId, u32)>,
    /// Worker processes whose end will be told.
    watched: BTreeSet<u32>,
    /// The same of workers in other containers, by what they serve.
    unseen: BTreeSet<SlotId>,
    /// Slots whose worker somebody else is to start, with the count of the room's wishes.
    awaited: BTreeMap<SlotId, u64>,
    slots: HashMap<SlotId, Outlet>,
    /// Who asked for what.
    askers: HashMap<OrderId, (ConnectionId, u64)>,
    orders: u64,
    tasks: JoinSet<Option<Event>>,
    /// What it means when a task panics.
    failures: HashMap<tokio::task::Id, Event>,
    /// How full the disk is, where that matters.
    disk: Option<String>,
    leaving: bool,
    /// The guardian knows that this core is not to come back.
    told: bool,
}

impl Room {
    fn take(&mut self, input: Input) {
        match input {
            Input::Event(Event::Task(TaskEvent::Space { why })) => {
                self.disk = why;
                self.catch_up();
            }
            Input::Event(event) => self.apply(event),
            Input::Notice(Notice::Levels(levels)) => self.apply(Event::Gateway(GatewayEvent::Levels { levels })),
            Input::Notice(Notice::Limited(limit)) => self.apply(Event::Gateway(GatewayEvent::Limited { limit })),
            Input::Notice(Notice::Opened { account }) => self.apply(Event::Gateway(GatewayEvent::Opened { account })),
            Input::Notice(Notice::Call(call)) => {
                if let Err(error) = self.ledger.append(&call) {
                    tracing::error!(error = text::chain(&error), "a model call waits to be written to the ledger");
                    self.catch_up();
                }
                let settings = &self.world.settings;
                let appraisal = settings.prices.appraise(&call, &settings.top_model);
                self.apply(Event::Gateway(GatewayEvent::Called { call, appraisal }));
            }
            Input::Notice(Notice::Budget(reached)) => {
                self.apply(Event::Gateway(GatewayEvent::Refused { reached }));
            }
            Input::Said(said) => self.hear(said),
        }
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Screen(id, outlet) => match wire::snapshot_lines(&self.state) {
                Ok(lines) => {
                    if lines.into_iter().all(|line| outlet.send(line)) {
                        self.screens.insert(id, outlet);
                    }
                }
                Err(error) => tracing::error!(%error, "the state could not be sent"),
            },
            Said::Ordered(connection, ticket, order) => {
                self.orders += 1;
                let id = OrderId(self.orders);
                self.askers.insert(id, (connection, ticket));
                self.apply(Event::Ordered { id, order });
            }
            Said::Worker(id, hello, outlet) => {
                let slot = hello.slot.clone();
                let known = self.state.agents.get(&slot.agent).is_some_and(|a| slot.index < a.settings.slots);
                let welcome = if known {
                    self.world.welcome(&slot, hello.token.as_deref())
                } else {
                    Err(format!("this room has no slot {slot}"))
                };
                let line = match &welcome {
                    Ok(welcome) => tell_line(welcome),
                    Err(why) => tell_line(&WorkerTell::Bye(why.clone())),
                };
                if !outlet.send(line) || welcome.is_err() {
                    return;
                }
                if let Some(attempt) = &hello.running {
                    tracing::info!(%slot, %attempt, "a worker with a running attempt was adopted");
                }
                self.world.workers.known(i32::try_from(hello.pid).ok());
                self.workers.insert(id, (slot.clone(), hello.pid));
                self.slots.insert(slot.clone(), outlet);
                self.watch_worker(slot.clone(), hello.pid);
                if hello.absent {
                    return;
                }
                self.awaited.remove(&slot);
                if let Some(attempt) = &hello.running {
                    let (duty, accounts) = money::duty(&self.state, &attempt.task, Some(attempt.n));
                    self.world.gateway.assign(slot.clone(), duty, accounts);
                }
                self.apply(Event::Worker(WorkerEvent::Connected { slot, pid: hello.pid, running: hello.running }));
            }
            Said::Reported(id, report) => {
                if let Some((slot, _)) = self.workers.get(&id).cloned() {
                    if let Report::Started { attempt, session_id, .. } = &*report {
                        self.world.gateway.begun(&slot, attempt);
                        if let Some(session) = session_id {
                            self.world.gateway.attribute(session.clone(), Purpose::Attempt(attempt.clone()));
                        }
                    }
                    self.note_total(&report);
                    self.apply(Event::Worker(WorkerEvent::Reported { slot, report: *report }));
                }
            }
            Said::Gone(id) => {
                self.screens.remove(&id);
                if let Some((slot, pid)) = self.workers.remove(&id) {
                    // A worker that connected anew has a newer connection, which stays.
                    if !self.workers.values().any(|(other, _)| *other == slot) {
                        self.slots.remove(&slot);
                        self.apply(Event::Worker(WorkerEvent::Disconnected { slot, pid }));
                    }
                }
            }
        }
    }

    /// Tells the state when the clock was set. The time now.
    fn mind_the_clock(&mut self) -> Timestamp {
        let reading = self.clock.read();
        let by = reading.shift.saturating_sub(self.shift);
        if !by.is_zero() {
            tracing::warn!(seconds = by.as_secs(), "the machine's clock was set");
            self.shift = reading.shift;
            self.world.gateway.clock_set();
            self.happened(Stamped { at: reading.now, event: Event::ClockSet { by } });
        }
        reading.now
    }

    /// Says to everybody that the room is there, also while nothing happens.
    fn beat(&mut self) {
        let line = tell_line(&Tell::Beat);
        self.screens.retain(|_, outlet| outlet.send(Arc::clone(&line)));
    }

    fn apply(&mut self, event: Event) {
        let at = self.mind_the_clock();
        self.happened(Stamped { at, event });
    }

    fn happened(&mut self, stamped: Stamped) {
        if stamped.event.is_fact() {
            // An order can be refused; everything else has happened.
            if let Event::Ordered { id, .. } = stamped.event {
                if let Err(error) = self.journal.append(&stamped) {
                    return self.answer(id, Answer::Refused { reason: text::chain(&error) });
                }
            } else if let Err(error) = self.journal.keep(&stamped) {
                tracing::error!(error = text::chain(&error), "a fact waits to be written to the journal");
            }
        }
        if !self.screens.is_empty() {
            match wire::event_line(&stamped) {
                Ok(line) => self.screens.retain(|_, outlet| outlet.send(Arc::clone(&line))),
                Err(error) => tracing::error!(%error, "an event could not be sent"),
            }
        }
        let moved = elsewhere::moved(&stamped.event).filter(|_| self.world.settings.gateway.elsewhere.is_some());
        let effects = self.state.update(stamped);
        if let Some(moved) = moved {
            elsewhere::tell(&self.world.gateway, &self.state, moved);
        }
        if self.state.leaving == Leaving::Stopping && !self.told {
            self.told = true;
            if let Err(error) = guardian::tell_leaving(self.state.pid) {
                tracing::warn!(%error, "the guardian could not be told");
            }
        }
        for effect in effects {
            self.carry_out(effect);
        }
        // Who has not come until now is waited for no longer.
        while self.state.leaving != Leaving::No
            && let Some((slot, epoch)) = self.awaited.pop_first()
        {
            self.apply(Event::Worker(WorkerEvent::SpawnFailed {
                slot,
                epoch,
                message: "nobody started it".to_owned(),
            }));
        }
    }

    /// Keeps what an engine says that its attempt has used.
    fn note_total(&mut self, report: &Report) {
        let Some(total) = money::total(report, self.clock.now()) else { return };
        if let Err(error) = self.ledger.append_total(&total) {
            tracing::error!(error = text::chain(&error), "an engine's count waits to be written to the ledger");
            self.catch_up();
        }
        self.apply(Event::Gateway(GatewayEvent::EngineSaid { total }));
    }

    /// Whether lines wait for the disk to take them.
    fn is_behind(&self) -> bool {
        self.journal.kept() + self.ledger.kept() > 0
    }

    /// Tries again to write what the disk did not take, and shows how the disk is.
    fn catch_up(&mut self) {
        let journal = self.journal.write_kept().map_err(|error| text::chain(&error));
        let ledger = self.ledger.write_kept().map_err(|error| text::chain(&error));
        // Where nobody can say afterwards what was spent, no budget holds.
        self.world.gateway.unwritable(ledger.clone().err());
        let lines = self.journal.kept() + self.ledger.kept();
        let caps = &self.state.budgets.caps;
        let is_capped = [caps.task, caps.goal, caps.day].iter().any(Option::is_some);
        let waits = if ledger.is_err() && is_capped { "; model calls wait, because budgets are set" } else { "" };
        let behind = journal.and(ledger).err().map(|error| format!("{lines} lines wait to be written{waits}: {error}"));
        let why = self.disk.clone().or(behind);
        if why != self.state.tasks.space {
            self.apply(Event::Task(TaskEvent::Space { why }));
        }
    }

    fn answer(&mut self, id: OrderId, answer: Answer) {
        if let Some((connection, ticket)) = self.askers.remove(&id)
            && let Some(outlet) = self.screens.get(&connection)
            && !outlet.send(tell_line(&Tell::Answer(ticket, answer)))
        {
            self.screens.remove(&connection);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { id, answer } => self.answer(id, answer),
            Effect::Assign { slot, task } => {
                let (duty, accounts) = money::duty(&self.state, &task, None);
                self.world.gateway.assign(slot.clone(), duty, accounts);
                let may_spend = money::may_spend(&self.state, &task);
                let checks = Box::new(self.state.checks(&task));
                if !self.tell(&slot, &WorkerTell::Assign { task: task.clone(), may_spend, checks }) {
                    self.apply(Event::Worker(WorkerEvent::Unreached { slot, task }));
                }
            }
            Effect::CancelAttempt { slot, attempt } => {
                if !self.tell(&slot, &WorkerTell::Cancel(attempt.clone())) {
                    tracing::warn!(%slot, %attempt, "a cancel could not be delivered");
                }
            }
            Effect::EndAttempt { slot, attempt, ending } => {
                if !self.tell(&slot, &WorkerTell::End { attempt: attempt.clone(), ending }) {
                    tracing::warn!(%slot, %attempt, "the end of an attempt could not be ordered");
                }
            }
            Effect::Extend { slot, attempt, by } => {
                if !self.tell(&slot, &WorkerTell::Extend { attempt: attempt.clone(), by }) {
                    tracing::warn!(%slot, %attempt, "more time could not be given");
                }
            }
            Effect::Permit { slot, attempt, request, permit } => {
                if !self.tell(&slot, &WorkerTell::Permit { attempt: attempt.clone(), request, permit }) {
                    tracing::warn!(%slot, %attempt, "an answer could not be given; its worker asks again");
                }
            }
            Effect::StopWorker { slot, drain } => self.stop_worker(slot, drain),
            Effect::SpawnWorker { slot, epoch } => self.spawn_worker(slot, epoch),
            Effect::Shutdown => self.leaving = true,
            Effect::Keep { fact } => self.apply(*fact),
            Effect::Submit { id, ref spec } => {
                let (failure, world, spec) = (World::failure(&effect), Arc::clone(&self.world), spec.clone());
                let handle = self.tasks.spawn_blocking(move || Some(world.submit(id, &spec)));
                self.means(&handle, failure);
            }
            Effect::Reopen { label } => self.world.gateway.release(&label),
            Effect::Limit { group, own } => self.world.gateway.limit(&group, own),
            Effect::Recover { .. }
            | Effect::EndTask { .. }
            | Effect::RetryTask { .. }
            | Effect::Remove { .. }
            | Effect::Restore { .. }
            | Effect::AnswerRequest { .. }
            | Effect::Plan { .. }
            | Effect::Publish { .. }
            | Effect::Amend { .. }
            | Effect::Replan { .. }
            | Effect::Synthesise { .. } => {
                if let Effect::Plan { goal, .. } | Effect::Replan { goal, .. } | Effect::Synthesise { goal, .. } =
                    &effect
                {
                    self.world.gateway.open(money::opening(&self.state, Payer::Goal(goal.clone())));
                }
                let failure = World::failure(&effect);
                let world = Arc::clone(&self.world);
                self.start(failure, world.carry_out(effect));
            }
        }
    }

    fn start(&mut self, failure: Option<Event>, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let handle = self.tasks.spawn(work);
        self.means(&handle, failure);
    }

    /// Notes what it means when a task panics.
    fn means(&mut self, handle: &AbortHandle, failure: Option<Event>) {
        if let Some(failure) = failure {
            self.failures.insert(handle.id(), failure);
        }
    }

    fn task_ended(&mut self, ended: Result<(tokio::task::Id, Option<Event>), tokio::task::JoinError>) {
        let event = match ended {
            Ok((id, event)) => {
                self.failures.remove(&id);
                event
            }
            Err(error) => {
                tracing::error!(%error, "an effect panicked");
                self.failures.remove(&error.id())
            }
        };
        if let Some(event) = event {
            if let Event::Worker(WorkerEvent::Exited { slot, pid, .. }) = &event {
                self.watched.remove(pid);
                if *pid == 0 {
                    self.unseen.remove(slot);
                }
                // One that found its slot taken must not shut the gateway for the one that has it.
                if self.pid_in(slot).is_none_or(|serves| serves == *pid) {
                    self.world.gateway.revoke(&Identity::Worker(slot.clone()));
                }
            }
            self.apply(event);
        }
    }

    fn tell(&mut self, slot: &SlotId, tell: &WorkerTell) -> bool {
        let sent = self.slots.get(slot).is_some_and(|outlet| outlet.send(tell_line(tell)));
        if !sent {
            self.slots.remove(slot);
        }
        sent
    }

    fn spawn_worker(&mut self, slot: SlotId, epoch: u64) {
        if !self.world.settings.start_workers {
            self.awaited.insert(slot, epoch);
            return;
        }
        let engine = self.state.agents.get(&slot.agent).map_or(EngineKind::Auto, |a| a.settings.engine);
        let settings = &self.world.settings;
        let deputy = self.state.agents.get(&slot.agent).is_some_and(|agent| agent.settings.elsewhere);
        let part = Part { engine, rehearse: settings.rehearsal.is_some(), deputy };
        match self.world.workers.start(&settings.program, &settings.stage, &slot, part) {
            Ok(mut child) => {
                let pid = child.id().unwrap_or_default();
                tracing::info!(%slot, pid, "a worker was started");
                self.watched.insert(pid);
                self.apply(Event::Worker(WorkerEvent::Spawned { slot: slot.clone(), epoch, pid }));
                let failure = Event::Worker(WorkerEvent::Exited { slot: slot.clone(), pid, how: "unseen".to_owned() });
                let world = Arc::clone(&self.world);
                self.start(Some(failure), async move {
                    let how = match child.wait().await {
                        Ok(status) => super::effects::how(status),
                        Err(error) => error.to_string(),
                    };
                    tracing::info!(%slot, pid, how, "a worker ended");
                    Some(world.worker_ended(slot, pid, how).await)
                });
            }
            Err(error) => {
                let message = format!("could not start: {error}");
                self.apply(Event::Worker(WorkerEvent::SpawnFailed { slot, epoch, message }));
            }
        }
    }

    /// Sees the end of a worker that this core has not started: a former core did, or a person.
    fn watch_worker(&mut self, slot: SlotId, pid: u32) {
        // 0: it lives where this process cannot see it, and holds its slot's lock for as long.
        let is_new = if pid == 0 { self.unseen.insert(slot.clone()) } else { self.watched.insert(pid) };
        if !is_new {
            return;
        }
        let event = Event::Worker(WorkerEvent::Exited { slot: slot.clone(), pid, how: "ended".to_owned() });
        let world = Arc::clone(&self.world);
        self.start(Some(event), async move {
            let stage = &world.settings.stage;
            let gone = if pid == 0 { supervisor::free(stage, &slot).await } else { supervisor::gone(pid).await };
            if let Err(error) = gone {
                tracing::error!(%error, %slot, pid, "a worker cannot be watched");
            }
            Some(world.worker_ended(slot, pid, "ended".to_owned()).await)
        });
    }

    fn pid_in(&self, slot: &SlotId) -> Option<u32> {
        self.state.agents.get(&slot.agent)?.slots.iter().find(|s| s.id == *slot)?.pid()
    }

    fn stop_worker(&mut self, slot: SlotId, drain: bool) {
        let pid = self.pid_in(&slot);
        let told = self.tell(&slot, &WorkerTell::Leave { drain });
        let Some(pid) = pid else { return };
        if !told {
            supervisor::signal(pid, false);
        }
        if !drain {
            self.start(None, async move {
                // Longer than the whole ladder that ends an attempt.
                tokio::time::sleep(Duration::from_secs(20)).await;
                tracing::warn!(%slot, pid, "a worker did not leave and is killed");
                supervisor::signal(pid, true);
                None
            });
        }
    }

    fn farewell(&self, why: &str) {
        let line = tell_line(&Tell::Bye(why.to_owned()));
        for outlet in self.screens.values() {
            let _gone = outlet.send(Arc::clone(&line));
        }
    }
}

fn tell_line(tell: &impl Serialize) -> Arc<str> {
    match serde_json::to_string(tell) {
        Ok(line) => line.into(),
        Err(error) => {
            tracing::error!(%error, "a word could not be written");
            "null".into()
        }
    }
}
