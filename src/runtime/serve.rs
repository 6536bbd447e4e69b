//! The room's loop: everything that happens becomes an event, one after the other, and is applied by `room::State`.
//!
//! Opening: lock, journal, queue mended, gateway on its former address, socket, workers of a former room found. Then the
//! loop waits, drains what is pending, applies, and carries out. Nothing in it waits but the `select!`.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use jiff::{Timestamp, ToSpan as _};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::effects::World;
use crate::{
    attach::{
        server::{ConnectionId, Outlet, Said, Server},
        wire::{self, Tell, WorkerTell},
    },
    gateway::{Gateway, Identity, Notice, Purpose, TokenHash},
    journal::Journal,
    ledger::{Ledger, Prices},
    model::{Clock, EngineKind, MicroUsd, Report, SlotId},
    queue::{Change, Queue, file::FileQueue},
    rehearsal::{self, StandIn},
    room::{
        Answer, Effect, Event, GatewayEvent, Money, Opened, Order, OrderId, Stamped, State, TaskEvent, WorkerEvent,
        event::{AgentSetup, Orchestrator},
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
    /// The orchestrator's system prompt in force.
    pub orchestrator_prompt: String,
    /// Attempts at once, over all agents.
    pub max_running: u32,
    /// Starts allowed per task.
    pub attempts: u32,
    /// The most a day may cost.
    pub day_budget: MicroUsd,
    /// The gateway; its upstream is replaced in a rehearsal.
    pub gateway: crate::gateway::Settings,
    /// How the stand-in behaves, in a rehearsal.
    pub rehearsal: Option<Rehearsal>,
    /// The program that workers are started from: podium itself.
    pub program: PathBuf,
}

/// How the stand-in behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rehearsal {
    /// Chooses among equally good words.
    pub seed: u64,
    /// 1 = about half a minute for the sample goal, 0 = as fast as can be.
    pub pace: f64,
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

/// What a room leaves for the next one.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Trace {
    pid: u32,
    gateway: Option<SocketAddr>,
}

/// Something for the loop.
#[derive(Debug)]
enum Input {
    Event(Event),
    Said(Said),
    Notice(Notice),
}

/// Inputs applied before the loop looks at signals and time again.
const BATCH: usize = 512;

/// Days of the ledger that are folded at the start.
const LEDGER_DAYS: i64 = 31;

/// Opens the room and runs it until it is told to leave and everything has ended.
pub async fn serve(settings: Settings, clock: Clock) -> anyhow::Result<()> {
    let control = settings.stage.join(".podium");
    let _lock = take_lock(&settings.stage)?;
    let trace_path = control.join("room.json");
    let former: Trace = fs::read(&trace_path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();

    let (journal, facts) = Journal::<Stamped>::open(&control.join("journal.jsonl"))?;
    let mut state = State::default();
    for fact in facts {
        // A replay: the effects were carried out by the room that wrote them.
        drop(state.update(fact));
    }
    let ledger = Ledger::open(control.join("ledger"))?;
    let money = fold(&ledger, clock.now())?;

    let stand_in = match settings.rehearsal {
        Some(Rehearsal { seed, pace }) => {
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            Some(StandIn::start(rehearsal::Settings { seed, pace, listen, clock: clock.clone() }).await?)
        }
        None => None,
    };
    let (gateway, notices) = open_gateway(&settings, stand_in.as_ref(), former.gateway, &clock).await?;
    let found = find_workers(&settings, &gateway)?;
    fs::write(&trace_path, serde_json::to_vec(&Trace { pid: std::process::id(), gateway: Some(gateway.addr()) })?)
        .with_context(|| format!("could not write {}", trace_path.display()))?;

    let agents = settings.agents.iter().map(|a| a.settings.name.clone()).collect();
    let queue =
        FileQueue::open(super::effects::queue_settings(&settings.stage, agents, settings.attempts, clock.clone()))?;
    queue.recover().await?;

    let (inputs, mut pending) = mpsc::unbounded_channel();
    let mut sources = JoinSet::new();
    sources.spawn(forward_changes(queue.watch().await?, inputs.clone()));
    sources.spawn(forward_notices(notices, inputs.clone()));
    let (said, heard) = mpsc::unbounded_channel();
    sources.spawn(forward_said(heard, inputs.clone()));
    sources.spawn(forward_signals(inputs.clone()).context("could not listen for signals")?);
    let server = Server::bind(&settings.stage, said)?;

    let opened = Opened {
        name: settings.stage.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        stage: settings.stage.clone(),
        rehearsal: stand_in.is_some(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        agents: settings.agents.clone(),
        orchestrator: settings.orchestrator.clone(),
        max_running: settings.max_running,
        attempts: settings.attempts,
        day_budget: settings.day_budget,
        found: found.clone(),
    };
    tracing::info!(stage = %settings.stage.display(), pid = opened.pid, gateway = %gateway.addr(), "the room is open");
    let world = Arc::new(World::new(settings, queue, gateway, clock.clone())?);
    let mut room = Room {
        state,
        journal,
        ledger,
        clock: clock.clone(),
        world,
        screens: HashMap::new(),
        workers: HashMap::new(),
        slots: HashMap::new(),
        askers: HashMap::new(),
        orders: 0,
        tasks: JoinSet::new(),
        failures: HashMap::new(),
        leaving: false,
    };
    room.apply(Event::Gateway(GatewayEvent::Folded { money: Box::new(money) }));
    room.apply(Event::Opened(Box::new(opened)));
    for (slot, pid) in found {
        room.watch_worker(slot, pid);
    }

    while !room.leaving {
        let wake = room.state.next_wake().map(|at| until(at, clock.now()));
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
            Some(ended) = room.tasks.join_next_with_id(), if !room.tasks.is_empty() => room.task_ended(ended),
            () = tokio::time::sleep(wake.unwrap_or(Duration::MAX)), if wake.is_some() => room.apply(Event::TimeCame),
        }
    }
    room.farewell("the room has closed");
    server.close().await;
    room.tasks.shutdown().await;
    tracing::info!("the room is closed");
    Ok(())
}

/// How long to sleep until `at`; a moment that has passed is now.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

fn take_lock(stage: &Path) -> anyhow::Result<File> {
    let folder = stage.join(".podium");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let trace = fs::read(folder.join("room.json")).ok();
            let pid = trace.and_then(|b| serde_json::from_slice::<Trace>(&b).ok()).map(|t| t.pid);
            Err(StageTaken { stage: stage.to_owned(), pid }.into())
        }
        Err(error) => Err(error).with_context(|| format!("could not lock {}", path.display())),
    }
}

fn fold(ledger: &Ledger, now: Timestamp) -> anyhow::Result<Money> {
    let since = now.checked_sub((LEDGER_DAYS * 24).hours()).unwrap_or(Timestamp::MIN);
    let mut money = Money::default();
    for call in ledger.read(since)? {
        money.add(&call);
    }
    Ok(money)
}

/// Starts the gateway on the address that a former room's workers still call, else on any.
async fn open_gateway(
    settings: &Settings,
    stand_in: Option<&StandIn>,
    former: Option<SocketAddr>,
    clock: &Clock,
) -> anyhow::Result<(Gateway, mpsc::UnboundedReceiver<Notice>)> {
    let mut wanted = settings.gateway.clone();
    if let Some(stand_in) = stand_in {
        wanted.upstream = stand_in.url();
        // The stand-in takes any key; the gateway wants one to put on.
        wanted.keys = crate::gateway::Keys { default: Some("rehearsal".to_owned().into()), ..Default::default() };
    }
    if wanted.listen.port() == 0
        && let Some(former) = former
    {
        let again = crate::gateway::Settings { listen: former, ..wanted.clone() };
        match Gateway::start(again, Prices::embedded(), clock.clone()).await {
            Ok(started) => return Ok(started),
            Err(error) => tracing::warn!(%error, "the gateway's former address is taken, running attempts may fail"),
        }
    }
    Ok(Gateway::start(wanted, Prices::embedded(), clock.clone()).await?)
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
        let event = match change {
            Change::Task(record) => TaskEvent::Changed { record },
            Change::Found(tasks, unread) => TaskEvent::Found { tasks, unread },
            Change::Gone(task) => TaskEvent::Withdrawn { task },
            Change::Rejected(rejected) => TaskEvent::Rejected { rejected },
            Change::RejectedGone(path) => TaskEvent::RejectedGone { path },
            Change::Polling(why) => TaskEvent::Polling { why },
        };
        if inputs.send(Input::Event(Event::Task(event))).is_err() {
            return;
        }
    }
}

async fn forward_notices(mut notices: mpsc::UnboundedReceiver<Notice>, inputs: mpsc::UnboundedSender<Input>) {
    while let Some(notice) = notices.recv().await {
        if inputs.send(Input::Notice(notice)).is_err() {
            return;
        }
    }
}

async fn forward_said(mut heard: mpsc::UnboundedReceiver<Said>, inputs: mpsc::UnboundedSender<Input>) {
    while let Some(said) = heard.recv().await {
        if inputs.send(Input::Said(said)).is_err() {
            return;
        }
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

/// The loop's own memory: the state, and who is connected.
struct Room {
    state: State,
    journal: Journal<Stamped>,
    ledger: Ledger,
    clock: Clock,
    world: Arc<World>,
    screens: HashMap<ConnectionId, Outlet>,
    workers: HashMap<ConnectionId, (SlotId, u32)>,
    slots: HashMap<SlotId, Outlet>,
    /// Who asked for what.
    askers: HashMap<OrderId, (ConnectionId, u64)>,
    orders: u64,
    tasks: JoinSet<Option<Event>>,
    /// What it means when a task panics.
    failures: HashMap<tokio::task::Id, Event>,
    leaving: bool,
}

impl Room {
    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.apply(event),
            Input::Notice(Notice::Levels(levels)) => self.apply(Event::Gateway(GatewayEvent::Levels { levels })),
            Input::Notice(Notice::Call(call)) => {
                if let Err(error) = self.ledger.append(&call) {
                    tracing::error!(%error, "a model call is missing in the ledger");
                }
                self.apply(Event::Gateway(GatewayEvent::Called { call }));
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
                self.workers.insert(id, (slot.clone(), hello.pid));
                self.slots.insert(slot.clone(), outlet);
                self.apply(Event::Worker(WorkerEvent::Connected { slot, pid: hello.pid, running: hello.running }));
            }
            Said::Reported(id, report) => {
                if let Some((slot, _)) = self.workers.get(&id).cloned() {
                    if let Report::Started { attempt, session_id: Some(session), .. } = &*report {
                        self.world.gateway.attribute(session.clone(), Purpose::Attempt(attempt.clone()));
                    }
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

    fn apply(&mut self, event: Event) {
        let stamped = Stamped { at: self.clock.now(), event };
        if stamped.event.is_fact()
            && let Err(error) = self.journal.append(&stamped)
        {
            tracing::error!(%error, "a fact could not be kept");
            if let Event::Ordered { id, .. } = stamped.event {
                return self.answer(id, Answer::Refused { reason: format!("could not: {error}") });
            }
        }
        if !self.screens.is_empty() {
            match wire::event_line(&stamped) {
                Ok(line) => self.screens.retain(|_, outlet| outlet.send(Arc::clone(&line))),
                Err(error) => tracing::error!(%error, "an event could not be sent"),
            }
        }
        for effect in self.state.update(stamped) {
            self.carry_out(effect);
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
                let reason = format!("the worker of {slot} is not connected");
                if !self.tell(&slot, &WorkerTell::Assign(task.clone())) {
                    let report = Report::NotStarted { task, reason };
                    self.apply(Event::Worker(WorkerEvent::Reported { slot, report }));
                }
            }
            Effect::CancelAttempt { slot, attempt } => {
                if !self.tell(&slot, &WorkerTell::Cancel(attempt.clone())) {
                    tracing::warn!(%slot, %attempt, "a cancel could not be delivered");
                }
            }
            Effect::StopWorker { slot, drain } => self.stop_worker(slot, drain),
            Effect::SpawnWorker { slot, epoch } => self.spawn_worker(slot, epoch),
            Effect::Shutdown => self.leaving = true,
            Effect::Recover { .. }
            | Effect::Submit { .. }
            | Effect::EndTask { .. }
            | Effect::RetryTask { .. }
            | Effect::Plan { .. }
            | Effect::Publish { .. }
            | Effect::Synthesise { .. } => {
                let failure = World::failure(&effect);
                let world = Arc::clone(&self.world);
                self.start(failure, world.carry_out(effect));
            }
        }
    }

    fn start(&mut self, failure: Option<Event>, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let handle = self.tasks.spawn(work);
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
            if let Event::Worker(WorkerEvent::Exited { slot, .. }) = &event {
                self.world.gateway.revoke(&Identity::Worker(slot.clone()));
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
        let engine = self.state.agents.get(&slot.agent).map_or(EngineKind::Auto, |a| a.settings.engine);
        let settings = &self.world.settings;
        let part = Part { engine, rehearse: settings.rehearsal.is_some() };
        match self.world.children.start(&settings.program, &settings.stage, &slot, part) {
            Ok(mut child) => {
                let pid = child.id().unwrap_or_default();
                tracing::info!(%slot, pid, "a worker was started");
                self.apply(Event::Worker(WorkerEvent::Spawned { slot: slot.clone(), epoch, pid }));
                let failure = Event::Worker(WorkerEvent::Exited { slot: slot.clone(), pid, how: "unseen".to_owned() });
                let world = Arc::clone(&self.world);
                self.start(Some(failure), async move {
                    let how = match child.wait().await {
                        Ok(status) => super::effects::how(status),
                        Err(error) => error.to_string(),
                    };
                    world.children.ended(pid);
                    tracing::info!(%slot, pid, how, "a worker ended");
                    Some(Event::Worker(WorkerEvent::Exited { slot, pid, how }))
                });
            }
            Err(error) => {
                let message = format!("could not start: {error}");
                self.apply(Event::Worker(WorkerEvent::SpawnFailed { slot, epoch, message }));
            }
        }
    }

    /// Sees the end of a worker that a former room started.
    fn watch_worker(&mut self, slot: SlotId, pid: u32) {
        let event = Event::Worker(WorkerEvent::Exited { slot, pid, how: "ended".to_owned() });
        self.start(Some(event.clone()), async move {
            if let Err(error) = supervisor::gone(pid).await {
                tracing::error!(%error, pid, "a worker cannot be watched");
            }
            Some(event)
        });
    }

    fn stop_worker(&mut self, slot: SlotId, drain: bool) {
        let pid = self.state.agents.get(&slot.agent).and_then(|a| a.slots.iter().find(|s| s.id == slot)?.pid());
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
