//! The worker's link to its room: orders in, reports out, found again after every interruption.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::codec::{Framed, LinesCodec};

use crate::{
    attach::{
        AttachError,
        client::{dial, encode},
        wire::{Door, Hello, WorkerTell},
    },
    engines::Gateway,
    gateway::{Closed, Forward, Invitation},
    model::{AttemptRef, Report, SlotId},
    queue::Queue,
    supervisor::SlotLock,
    worker::{self, Farewell, Order, deputy::Duty},
};

/// The first wait before the room is called again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait between two calls.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Serves a slot until told to leave. Must run on the main thread of a current-thread runtime.
pub async fn run<Q: Queue>(settings: worker::Settings, queue: Q, lock: SlotLock) -> anyhow::Result<Farewell> {
    let (orders, inbox) = mpsc::channel(64);
    let (outbox, reports) = mpsc::unbounded_channel();
    let mut link = Link::new(settings.stage.clone(), settings.slot.clone(), lock, orders, reports);
    link.has_relay = settings.relay.is_some();
    let mut links = JoinSet::new();
    let mut signals = JoinSet::new();
    signals.spawn(leave_on_signals(link.orders.clone())?);
    links.spawn(link.keep());
    let farewell = worker::run(settings, queue, inbox, outbox).await?;
    // The last reports are still on their way; the results behind them are on disk already.
    let _late = tokio::time::timeout(Duration::from_secs(2), links.join_next()).await;
    Ok(farewell)
}

/// Sends model calls to the room's gateway on another machine. A room that does not answer yet is waited for by each call.
pub async fn call_elsewhere(settings: &mut worker::Settings, invitation: &Invitation) -> anyhow::Result<()> {
    let relay = Forward::start(invitation).await?;
    match relay.knock().await {
        Ok(()) => tracing::info!(room = %invitation, "model calls go to the room's gateway elsewhere"),
        Err(error @ Closed::Unreachable { .. }) => tracing::warn!("{error}"),
        Err(error @ (Closed::Strange(_) | Closed::Unknown(_))) => return Err(error.into()),
    }
    settings.gateway = Some(Gateway { url: relay.url(), token: relay.token().clone() });
    settings.relay = Some(Arc::new(relay));
    Ok(())
}

/// TERM, INT and HUP end the attempt and the worker. It is the room that knows when a person stops it.
pub(super) fn leave_on_signals(
    orders: mpsc::Sender<Order>,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let listen = |kind| signal(kind).context("could not listen for signals");
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hup = listen(SignalKind::hangup())?;
    Ok(async move {
        loop {
            let signal = tokio::select! {
                _ = term.recv() => "TERM",
                _ = int.recv() => "INT",
                _ = hup.recv() => "HUP",
            };
            let why = format!("the worker was ended by {signal}");
            if orders.send(Order::Quit { why }).await.is_err() {
                return;
            }
        }
    })
}

pub(super) struct Link {
    stage: PathBuf,
    slot: SlotId,
    lock: SlotLock,
    pub(super) orders: mpsc::Sender<Order>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// What this worker holds; number 0 from the order until the attempt is counted.
    running: Option<AttemptRef>,
    token: Option<String>,
    /// Model calls go over a relay of its own, whatever the room says.
    has_relay: bool,
    /// What a deputy has to do; a worker of this machine is there itself.
    duty: Option<watch::Receiver<Duty>>,
    /// There is a room at the other end.
    hears: watch::Sender<bool>,
}

/// Why a conversation with the room ended.
enum Parted {
    /// The worker has said everything and is leaving.
    Finished,
    /// The connection broke.
    Lost,
}

impl Link {
    pub(super) fn new(
        stage: PathBuf,
        slot: SlotId,
        lock: SlotLock,
        orders: mpsc::Sender<Order>,
        reports: mpsc::UnboundedReceiver<Report>,
    ) -> Self {
        let hears = watch::Sender::new(false);
        Self { stage, slot, lock, orders, reports, running: None, token: None, has_relay: false, duty: None, hears }
    }

    /// Speaks for a deputy: the room hands it something only while there is somebody to work.
    pub(super) fn for_deputy(self, duty: watch::Receiver<Duty>) -> Self {
        Self { duty: Some(duty), has_relay: true, ..self }
    }

    /// Whether there is a room at the other end.
    pub(super) fn hears(&self) -> watch::Receiver<bool> {
        self.hears.subscribe()
    }

    pub(super) async fn keep(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            let duty = self.duty.as_ref().map(|duty| duty.borrow().clone());
            if self.running.is_none() {
                self.running = duty.as_ref().and_then(|duty| duty.carries.clone());
            }
            let absent = duty.is_some_and(|duty| !duty.is_there()) && self.running.is_none();
            let hello = Hello::Worker {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                slot: self.slot.clone(),
                pid: std::process::id(),
                token: self.token.clone(),
                running: self.running.clone(),
                absent,
            };
            match dial(&self.stage, &hello).await {
                Ok(wire) => {
                    wait = FIRST_WAIT;
                    self.hears.send_replace(true);
                    let parted = self.converse(wire, absent).await;
                    self.hears.send_replace(false);
                    match parted {
                        Ok(Parted::Finished) => return,
                        Ok(Parted::Lost) => {}
                        Err(error) => tracing::warn!(%error, "the room was lost"),
                    }
                    if self.orders.send(Order::Room(false)).await.is_err() {
                        return;
                    }
                }
                Err(AttachError::NoRoom) => {}
                Err(error) => tracing::warn!(%error, "the room cannot be reached"),
            }
            if self.orders.is_closed() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn converse(
        &mut self,
        mut wire: Framed<UnixStream, LinesCodec>,
        absent: bool,
    ) -> Result<Parted, AttachError> {
        loop {
            // What is held is seen to its end, whoever is there.
            let watched = self.duty.as_mut().filter(|_| self.running.is_none());
            let other = async {
                match watched {
                    Some(duty) => drop(duty.wait_for(|duty| duty.is_there() == absent).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Who is there, a connection says once, when it begins.
                () = other => return Ok(Parted::Lost),
                line = wire.next() => {
                    let line = match line {
                        None | Some(Err(_)) => return Ok(Parted::Lost),
                        Some(Ok(line)) => line,
                    };
                    let told = serde_json::from_str(&line).map_err(|e| AttachError::Unreadable(e.to_string()))?;
                    if !self.pass_on(told).await {
                        return Ok(Parted::Finished);
                    }
                }
                report = self.reports.recv() => {
                    let Some(report) = report else { return Ok(Parted::Finished) };
                    self.note(&report);
                    if wire.send(encode(&report)?).await.is_err() {
                        // What it said is on disk; the next room reads it there.
                        return Ok(Parted::Lost);
                    }
                }
            }
        }
    }

    /// Hands the room's word to the worker; false when the worker is gone.
    async fn pass_on(&mut self, told: WorkerTell) -> bool {
        if let WorkerTell::Welcome(door) = &told {
            if let Some(Door { url, token }) = door.clone().filter(|_| !self.has_relay) {
                let hash = crate::gateway::TokenHash::of(token.as_bytes()).to_string();
                if let Err(error) = self.lock.note(Some(hash)) {
                    tracing::warn!(%error, "the token's hash could not be noted; a new room will not know it");
                }
                self.token = Some(token.clone());
                let door = Order::Gateway { url, token: token.into() };
                if self.orders.send(door).await.is_err() {
                    return false;
                }
            }
            return self.orders.send(Order::Room(true)).await.is_ok();
        }
        if let WorkerTell::Assign { task, .. } = &told {
            self.running = Some(task.attempt(0));
        }
        let Some(order) = order(told) else { return true };
        self.orders.send(order).await.is_ok()
    }

    fn note(&mut self, report: &Report) {
        match report {
            Report::Started { attempt, .. } => self.running = Some(attempt.clone()),
            Report::Active { .. }
            | Report::Limited { .. }
            | Report::Asked { .. }
            | Report::Withdrawn { .. }
            | Report::Far { .. }
            | Report::Refused { .. } => {}
            Report::Failed { .. } | Report::Ended { .. } | Report::NotStarted { .. } => self.running = None,
        }
    }
}

/// The room's word as the worker's order; `None` for a welcome.
pub(super) fn order(told: WorkerTell) -> Option<Order> {
    Some(match told {
        WorkerTell::Welcome(_) => return None,
        WorkerTell::Assign { task, may_spend, checks } => Order::Assign { task, may_spend, checks },
        WorkerTell::End { attempt, ending } => Order::End { attempt, ending },
        WorkerTell::Cancel(attempt) => Order::Cancel { attempt },
        WorkerTell::Extend { attempt, by } => Order::Extend { attempt, by },
        WorkerTell::Permit { attempt, request, permit } => Order::Permit { attempt, request, permit },
        WorkerTell::Leave { drain: true } => Order::Drain,
        WorkerTell::Leave { drain: false } => Order::Stop,
        WorkerTell::Bye(why) => {
            tracing::error!(why, "the room does not want this worker");
            Order::Quit { why: format!("the room did not want the worker: {why}") }
        }
    })
}
