//! The deputy: it serves a slot of the room like any worker, and a worker on another machine does the work.
//!
//! Owns what stands between the two: the room's queue is in files and counts the attempt, the NATS server carries it, and what
//! comes back is published in the files. Must not know the room's socket. Its one surprise: to the room it *is* the worker, so
//! that retries, cancels, questions, stalls and logs need nothing of their own for other machines. And it may be replaced while
//! an attempt runs: the next deputy takes that up and carries it on.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    time::Duration,
};

use async_nats::{Subscriber, connection::State};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, interval},
};

use super::{Farewell, Order, Outbox, Post, heed::at, policy::Retries};
use crate::{
    attach::{
        far::{self, Caller, Says, Told},
        wire::WorkerTell,
    },
    model::{AttemptRef, Checks, Clock, MicroUsd, Report, SlotId, TaskRef},
    queue::{Claimed, Lease as _, Queue as _, file::FileQueue, nats::NatsQueue},
};

mod bring;
mod home;
mod partner;
mod unheard;
mod voices;

use partner::Partner;
use unheard::Unheard;
use voices::Voices;

/// Ticks at which a fresh deputy looks for what another has left: its lease may just be asked for by somebody.
const EAGER: u32 = 5;
/// After those, one in so many: another deputy may have died without being replaced.
const NOW_AND_THEN: u32 = 8;
/// How long a server that says nothing is waited for by somebody who is to end what runs, or to leave.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a deputy is made for.
#[derive(Debug)]
pub struct Settings {
    /// Its slot.
    pub slot: SlotId,
    /// The stage's folder.
    pub stage: PathBuf,
    /// The time.
    pub clock: Clock,
    /// How often and after what wait a task is tried again.
    pub retries: Retries,
}

/// What the room must know of a deputy before it hands it anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duty {
    /// A worker is there.
    pub partner: bool,
    /// The attempt that it has taken up from a deputy that is gone.
    pub carries: Option<AttemptRef>,
}

impl Duty {
    /// Whether there is anything that the room could hand something to, or take something from.
    pub fn is_there(&self) -> bool {
        self.partner || self.carries.is_some()
    }
}

/// What is kept beside an attempt for a deputy that has to take it up.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Assigned {
    may_spend: Option<MicroUsd>,
    #[serde(default)]
    checks: Box<Checks>,
}

/// What there is to do.
#[derive(Debug)]
enum Word {
    Order(Order),
    Says(Says),
    /// A worker has taken the place; what it runs.
    Joined(Option<AttemptRef>),
    Log(async_nats::Message),
    Tick,
}

/// What has come, before anybody has looked at it.
enum Heard {
    Order(Order),
    Says(async_nats::Message),
    Log(async_nats::Message),
    Hello(async_nats::Message),
    Tick,
}

struct Deputy {
    settings: Settings,
    /// The room's own queue.
    files: FileQueue,
    engine: NatsQueue,
    inbox: mpsc::Receiver<Order>,
    /// Orders that came while what was asked of the server had to be heard first.
    put_off: VecDeque<Order>,
    post: Post,
    /// Our name, random.
    name: String,
    hellos: Subscriber,
    voices: Voices,
    /// The partner's alone: logs are long, and an agent may have many workers.
    logs: Option<Subscriber>,
    tick: Interval,
    partner: Option<Partner>,
    unheard: Unheard,
    /// How much later the clock of the worker is that was here last, in milliseconds.
    offset_ms: i64,
    /// The attempt in hand: nobody but its own worker gets this place.
    in_hand: Option<AttemptRef>,
    /// The server says that somebody runs it.
    begun: bool,
    /// There is a reason to look there how it is.
    look: bool,
    /// Workers that were refused, so that each is told of once.
    refused: BTreeSet<Caller>,
    duty: watch::Sender<Duty>,
    /// Ticks without anything in hand.
    idle: u32,
    draining: bool,
}

/// Serves a slot until told to go.
pub async fn run(
    settings: Settings,
    files: FileQueue,
    engine: NatsQueue,
    inbox: mpsc::Receiver<Order>,
    outbox: Outbox,
    duty: watch::Sender<Duty>,
) -> anyhow::Result<Farewell> {
    let (client, agent) = (engine.client().clone(), settings.slot.agent.clone());
    let mut deputy = Deputy {
        name: far::name()?,
        hellos: client.subscribe(far::hello_subject(&agent)).await?,
        voices: Voices::new(client, agent),
        logs: None,
        tick: interval(far::BEAT),
        settings,
        files,
        engine,
        inbox,
        put_off: VecDeque::new(),
        post: Post::new(outbox),
        partner: None,
        unheard: Unheard::default(),
        offset_ms: 0,
        in_hand: None,
        begun: false,
        look: false,
        refused: BTreeSet::new(),
        duty,
        idle: 0,
        draining: false,
    };
    let farewell = deputy.serve().await;
    deputy.part("the room closes, or its deputy does").await;
    Ok(farewell)
}

impl Deputy {
    async fn serve(&mut self) -> Farewell {
        loop {
            if self.draining {
                return Farewell::Drained;
            }
            let farewell = match self.next().await {
                Word::Order(Order::Assign { task, may_spend, checks }) => {
                    self.take(task, Assigned { may_spend, checks }).await
                }
                Word::Order(Order::Drain) => {
                    self.draining = true;
                    None
                }
                Word::Order(Order::Stop | Order::Quit { .. }) => Some(Farewell::Stopped),
                Word::Order(Order::Room(there)) => {
                    self.post.connect(there);
                    None
                }
                // Of an attempt that has ended meanwhile, or of no concern here: calls go over the worker's own relay.
                Word::Order(
                    Order::Cancel { .. }
                    | Order::End { .. }
                    | Order::Extend { .. }
                    | Order::Permit { .. }
                    | Order::Know { .. }
                    | Order::Gateway { .. },
                )
                | Word::Says(_)
                | Word::Log(_) => None,
                Word::Joined(running) => {
                    self.end_stranger(running).await;
                    None
                }
                Word::Tick => {
                    self.idle = self.idle.wrapping_add(1);
                    if self.idle <= EAGER || self.idle.is_multiple_of(NOW_AND_THEN) {
                        self.take_up().await
                    } else {
                        None
                    }
                }
            };
            if let Some(farewell) = farewell {
                return farewell;
            }
        }
    }

    /// The next thing to do.
    async fn next(&mut self) -> Word {
        loop {
            let heard = self.listen().await;
            if let Some(word) = self.digest(heard).await {
                return word;
            }
        }
    }

    /// What comes next. Safe to drop half-way.
    async fn listen(&mut self) -> Heard {
        if let Some(order) = self.put_off.pop_front() {
            return Heard::Order(order);
        }
        tokio::select! {
            biased;
            order = self.inbox.recv() => Heard::Order(order.unwrap_or_else(gone)),
            message = self.voices.next() => Heard::Says(message),
            Some(message) = piece(&mut self.logs) => Heard::Log(message),
            Some(message) = self.hellos.next() => Heard::Hello(message),
            _ = self.tick.tick() => Heard::Tick,
        }
    }

    /// What there is to do about it. Who is there is seen to by the way. It must not be dropped half-way.
    async fn digest(&mut self, heard: Heard) -> Option<Word> {
        match heard {
            Heard::Order(order) => Some(Word::Order(order)),
            Heard::Says(message) => {
                let subject = message.subject.as_str();
                if !self.is_partner(subject) && !far::is_arrival(&message) {
                    return None;
                }
                self.hear(subject, far::read::<Says>(&message)?).await
            }
            Heard::Log(message) => Some(Word::Log(message)),
            Heard::Hello(message) => {
                self.answer(&message).await;
                None
            }
            Heard::Tick => {
                self.voices.tidy();
                self.beat().await;
                Some(Word::Tick)
            }
        }
    }

    /// Asks the server for what nobody waits for any more. Orders are heard after that, and do not wait long for it.
    async fn ask_by_the_way<T>(&mut self, mut call: impl Future<Output = T> + Unpin) -> Option<T> {
        let mut until = None;
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return Some(answer),
                order = self.inbox.recv() => {
                    let order = order.unwrap_or_else(gone);
                    let goes = matches!(order, Order::Quit { .. });
                    self.put_off.push_back(order);
                    if goes {
                        return None;
                    }
                    until.get_or_insert_with(|| Instant::now() + LAST_WORD);
                }
                () = at(until) => return None,
            }
        }
    }

    /// Lets the worker go: it may ask for another place. What it runs, it goes on with for a while.
    async fn part(&mut self, why: &str) {
        self.tell(&Told::Bye(why.to_owned())).await;
        drop(tokio::time::timeout(far::BEAT, self.engine.client().flush()).await);
    }

    /// What a worker runs that has just come, and that nobody waits for: its task is handed out anew.
    async fn end_stranger(&mut self, running: Option<AttemptRef>) {
        if let Some(attempt) = running {
            let ending = crate::model::Ending::Stopped;
            self.order(Told::Tell(Box::new(WorkerTell::End { attempt, ending }))).await;
        }
    }

    fn is_away(&self) -> bool {
        self.engine.client().connection_state() != State::Connected
    }

    async fn take(&mut self, task: TaskRef, assigned: Assigned) -> Option<Farewell> {
        // Nothing is counted that could not begin.
        let reason = if self.is_away() {
            "the NATS server is away".to_owned()
        } else if self.partner.is_none() {
            "no worker elsewhere is there".to_owned()
        } else {
            match self.files.claim(&task).await {
                Ok(Claimed::Won(claim)) => return self.bring(*claim, assigned, false).await,
                Ok(Claimed::Missed(reason)) => reason,
                Err(error) => error.to_string(),
            }
        };
        self.post.send(Report::NotStarted { task, reason });
        None
    }

    /// Carries on what a deputy before this one had in hand.
    async fn take_up(&mut self) -> Option<Farewell> {
        let (claim, note) = match self.files.take_up(&self.settings.slot.agent).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::error!(%error, "what runs elsewhere could not be looked for");
                return None;
            }
        };
        let assigned = serde_json::from_value(note).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was assigned cannot be read; it goes on without");
            Assigned { may_spend: None, checks: Box::default() }
        });
        let attempt = claim.lease.attempt().clone();
        tracing::info!(%attempt, "an attempt elsewhere whose deputy is gone is carried on");
        self.duty.send_modify(|duty| duty.carries = Some(attempt));
        self.bring(claim, assigned, true).await
    }

    async fn forward(&mut self, attempt: &AttemptRef, order: &Order) {
        let told = match order.clone() {
            Order::Cancel { .. } => WorkerTell::Cancel(attempt.clone()),
            Order::End { ending, .. } => WorkerTell::End { attempt: attempt.clone(), ending },
            Order::Extend { by, .. } => WorkerTell::Extend { attempt: attempt.clone(), by },
            Order::Permit { request, permit, .. } => WorkerTell::Permit { attempt: attempt.clone(), request, permit },
            _ => return,
        };
        self.order(Told::Tell(Box::new(told))).await;
    }
}

/// The order that stands for a room's link that is closed.
fn gone() -> Order {
    Order::Quit { why: "the link to the room is gone".into() }
}

/// The next piece of the partner's log. Safe to drop half-way.
async fn piece(logs: &mut Option<Subscriber>) -> Option<async_nats::Message> {
    match logs {
        Some(logs) => logs.next().await,
        None => std::future::pending().await,
    }
}
