//! The link of a worker on another machine to its deputy in the room, over NATS.
//!
//! Owns how a deputy is found and found again, the beats, and the running attempt's log as it grows. Must not know what orders
//! mean. Its one surprise: it waits for a room for ever; only what runs is ended when the room stays away.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Client, HeaderMap, Subscriber};
use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

use super::{
    patience,
    worker::{leave_on_signals, order},
};
use crate::{
    attach::{
        far::{self, BEAT, Hello, LOG_AT, LOG_OF, PROTOCOL, Says, Told, Welcome},
        wire::WorkerTell,
    },
    model::{AgentName, AttemptRef, Clock, Report},
    queue::nats,
    supervisor::SlotLock,
    worker::{self, Farewell, Order},
};

/// How long an answer to a hello may take.
const ANSWER: Duration = Duration::from_secs(3);
/// The first wait before a deputy is looked for again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two hellos.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The wait after a room that does not want this worker: somebody has to install another podium.
const UNWANTED: Duration = Duration::from_secs(15);
/// After so long without a word the deputy is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How often the log is looked at.
const LOG_PACE: Duration = Duration::from_millis(200);
/// The most bytes of log in one message.
const PIECE: usize = 64 * 1024;
/// The most of them at once, so that a log cannot keep words waiting.
const PIECES: usize = 8;

/// Serves an agent from here until told to leave, once the server is there and a room has made its buckets. Must run on the
/// main thread of a current-thread runtime.
pub async fn run(settings: worker::Settings, engine: nats::Settings, lock: SlotLock) -> anyhow::Result<Farewell> {
    let Some(queue) = patience::opened(&engine).await? else { return Ok(Farewell::Stopped) };
    let farewell = loop {
        let (orders, inbox) = mpsc::channel(64);
        let (outbox, reports) = mpsc::unbounded_channel();
        let link = Link {
            client: queue.client().clone(),
            agent: settings.slot.agent.clone(),
            stage: settings.stage.clone(),
            clock: settings.clock.clone(),
            orders,
            reports,
            running: None,
            log: None,
            heard: Heard::default(),
            refusal: None,
        };
        let (mut links, mut signals) = (JoinSet::new(), JoinSet::new());
        signals.spawn(leave_on_signals(link.orders.clone())?);
        links.spawn(link.keep());
        let farewell = Box::pin(worker::run(settings.clone(), queue.clone(), inbox, outbox)).await?;
        let _late = timeout(Duration::from_secs(2), links.join_next()).await;
        if farewell != Farewell::Orphaned {
            break farewell;
        }
        tracing::info!("there is no room; this worker waits for one");
    };
    // What was held here is free for others at once.
    let _late = timeout(Duration::from_secs(5), queue.settle()).await;
    drop(lock);
    Ok(farewell)
}

struct Link {
    client: Client,
    agent: AgentName,
    stage: PathBuf,
    clock: Clock,
    orders: mpsc::Sender<Order>,
    reports: mpsc::UnboundedReceiver<Report>,
    running: Option<AttemptRef>,
    log: Option<Growing>,
    heard: Heard,
    /// Why the room does not want this worker; said once.
    refusal: Option<String>,
}

/// The running attempt's log, and how far it was sent.
struct Growing {
    attempt: AttemptRef,
    path: PathBuf,
    at: u64,
}

/// How far one deputy's orders have come. It outlives the place: an order whose arrival that deputy has not heard of is told
/// again in the next one.
#[derive(Debug, Default)]
struct Heard {
    deputy: String,
    n: u64,
}

impl Heard {
    /// Whether this is the next order: none before it is missing, and it was not here yet.
    fn is_next(&self, n: u64, oldest: u64) -> bool {
        n == (self.n + 1).max(oldest)
    }
}

/// A place that was offered.
struct Place {
    deputy: String,
    worker: String,
    told: Subscriber,
}

/// What came of looking for a deputy.
enum Found {
    Place(Place),
    /// None is free, or there is no room.
    Nobody,
    /// The room does not want this worker; why.
    Unwanted(String),
}

/// Why a conversation with a deputy ended.
enum Parted {
    /// The worker has said everything and is leaving.
    Finished,
    /// The deputy is gone, or has another worker.
    Lost(String),
}

impl Link {
    async fn keep(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.find().await {
                Ok(Found::Place(place)) => {
                    (wait, self.refusal) = (FIRST_WAIT, None);
                    match self.converse(place).await {
                        Parted::Finished => return,
                        Parted::Lost(why) => tracing::warn!(why, "the room was lost"),
                    }
                    if self.orders.send(Order::Room(false)).await.is_err() {
                        return;
                    }
                }
                Ok(Found::Nobody) => {}
                Ok(Found::Unwanted(why)) => {
                    if self.refusal.as_ref() != Some(&why) {
                        tracing::error!("{why}");
                    }
                    self.refusal = Some(why);
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "no room answers"),
            }
            if self.orders.is_closed() {
                return;
            }
            sleep(if self.refusal.is_some() { UNWANTED } else { wait }).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Looks for a deputy that is free.
    async fn find(&self) -> anyhow::Result<Found> {
        let worker = far::name().context("no random name")?;
        let told = self.client.subscribe(far::told_subject(&self.agent, &worker)).await?;
        let hello = Hello {
            protocol: PROTOCOL,
            worker: worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            at: self.clock.now(),
            running: self.running.clone(),
        };
        let asked = self.client.request(far::hello_subject(&self.agent), far::write(&hello));
        let Ok(Ok(answer)) = timeout(ANSWER, asked).await else { return Ok(Found::Nobody) };
        match far::read::<Welcome>(&answer) {
            Some(Welcome::Free(deputy)) => {
                let here = Says::Here { deputy: deputy.clone(), hello };
                self.client.publish(far::says_subject(&self.agent, &worker), far::write(&here)).await?;
                Ok(Found::Place(Place { deputy, worker, told }))
            }
            Some(Welcome::Bye(why)) => Ok(Found::Unwanted(crate::model::text::first_line(&why, 400))),
            None => Ok(Found::Nobody),
        }
    }

    async fn converse(&mut self, mut place: Place) -> Parted {
        if self.heard.deputy != place.deputy {
            self.heard = Heard { deputy: place.deputy.clone(), n: 0 };
        }
        let (mut beat, mut growth) = (interval(BEAT), interval(LOG_PACE));
        let (mut heard, mut there) = (Instant::now(), false);
        loop {
            tokio::select! {
                message = place.told.next() => {
                    let Some(message) = message else { return Parted::Lost("the connection is closed".into()) };
                    let Some(told) = far::read::<Told>(&message) else { continue };
                    heard = Instant::now();
                    if !std::mem::replace(&mut there, true) && self.orders.send(Order::Room(true)).await.is_err() {
                        return Parted::Finished;
                    }
                    let before = self.heard.n;
                    match self.pass_on(told).await {
                        // Or it is told again.
                        Ok(true) if self.heard.n != before => self.beat(&place).await,
                        Ok(true) => {}
                        Ok(false) => return Parted::Finished,
                        Err(why) => return Parted::Lost(why),
                    }
                }
                report = self.reports.recv() => {
                    let Some(report) = report else {
                        self.say(&place, &Says::Leaves("it was told to leave".into())).await;
                        drop(self.client.flush().await);
                        return Parted::Finished;
                    };
                    self.send_log(&place).await;
                    self.note(&report);
                    self.say(&place, &Says::Report(Box::new(report))).await;
                }
                _ = growth.tick(), if self.log.is_some() => self.send_log(&place).await,
                _ = beat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Parted::Lost("its deputy has said nothing for 10 s".into());
                    }
                    self.beat(&place).await;
                }
            }
        }
    }

    /// Hands a word on; false when the worker is gone, an error when the deputy is.
    async fn pass_on(&mut self, told: Told) -> Result<bool, String> {
        let told = match told {
            Told::Order { n, oldest, told } if self.heard.is_next(n, oldest) => {
                self.heard.n = n;
                *told
            }
            other => other,
        };
        let order = match told {
            // It was here before, or one before it is missing.
            Told::Beat | Told::Order { .. } => return Ok(true),
            Told::Bye(why) => return Err(why),
            Told::Log { attempt, from } => {
                if let Some(log) = self.log.as_mut().filter(|log| log.attempt == attempt && log.at > from) {
                    log.at = from;
                }
                return Ok(true);
            }
            Told::Assign { tell, prerequisites, previous } => {
                let WorkerTell::Assign { ref task, .. } = *tell else { return Ok(true) };
                self.running = Some(task.attempt(0));
                let know = Order::Know { task: task.clone(), prerequisites, previous };
                if self.orders.send(know).await.is_err() {
                    return Ok(false);
                }
                order(*tell)
            }
            Told::Tell(tell) => order(*tell),
        };
        match order {
            Some(order) => Ok(self.orders.send(order).await.is_ok()),
            None => Ok(true),
        }
    }

    fn note(&mut self, report: &Report) {
        match report {
            Report::Started { attempt, log, .. } => {
                self.running = Some(attempt.clone());
                self.log = Some(Growing { attempt: attempt.clone(), path: self.stage.join(log), at: 0 });
            }
            Report::Failed { .. } | Report::Ended { .. } | Report::NotStarted { .. } => {
                (self.running, self.log) = (None, None);
            }
            Report::Active { .. }
            | Report::Asked { .. }
            | Report::Withdrawn { .. }
            | Report::Limited { .. }
            | Report::Far { .. }
            | Report::Refused { .. } => {}
        }
    }

    /// Sends what the log has grown by. It is for eyes: the whole follows when the attempt has ended.
    async fn send_log(&mut self, place: &Place) {
        let Some(log) = &mut self.log else { return };
        for _ in 0..PIECES {
            let Some(piece) = piece(&log.path, log.at).filter(|piece| !piece.is_empty()) else { return };
            let mut headers = HeaderMap::new();
            headers.insert(LOG_OF, log.attempt.n.to_string());
            headers.insert(LOG_AT, log.at.to_string());
            log.at += piece.len() as u64;
            let subject = far::log_subject(&self.agent, &place.worker);
            if let Err(error) = self.client.publish_with_headers(subject, headers, piece.into()).await {
                tracing::debug!(%error, "a piece of the log was not sent");
            }
        }
    }

    async fn beat(&self, place: &Place) {
        self.say(place, &Says::Beat { at: self.clock.now(), load: load(), heard: self.heard.n }).await;
    }

    async fn say(&self, place: &Place, says: &Says) {
        let subject = far::says_subject(&self.agent, &place.worker);
        if let Err(error) = self.client.publish(subject, far::write(says)).await {
            tracing::warn!(%error, "a word could not be sent");
        }
    }
}

/// What a file holds from `at` on, at most one message of it.
fn piece(path: &std::path::Path, at: u64) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(at)).ok()?;
    let mut piece = vec![0; PIECE];
    let read = file.read(&mut piece).ok()?;
    piece.truncate(read);
    Some(piece)
}

/// This machine's load of the last minute, in hundredths.
fn load() -> Option<u32> {
    // It is written with two digits after the point.
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.replace('.', "").parse().ok()
}
