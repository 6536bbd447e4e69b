//! The deputy: it serves a slot of the room like any worker, and a worker on another machine does the work.
//!
//! Owns what stands between the two: the room's queue is in files and counts the attempt, the NATS server carries it, and what
//! comes back is published in the files. Must not know the room's socket. Its one surprise: to the room it *is* the worker, so
//! that retries, cancels, questions, stalls and logs need nothing of their own for other machines.

use std::{path::PathBuf, time::Duration};

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, interval},
};

use super::{Farewell, Order, Outbox, policy::Retries};
use crate::{
    attach::{
        far::{self, Hello, Says, Told, Welcome},
        wire::WorkerTell,
    },
    model::{AttemptRef, Checks, Clock, Far, MicroUsd, Report, SlotId, TaskRef},
    queue::{Claimed, Queue, nats::NatsQueue},
};

mod bring;

/// After so long without a word a worker that holds nothing is gone.
const SILENCE: Duration = Duration::from_secs(10);

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

/// The worker that does the work.
#[derive(Debug, Clone)]
pub(super) struct Partner {
    /// Its random name.
    name: String,
    pub(super) far: Far,
    heard: Instant,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Word {
    Order(Order),
    Says(Says),
    Log(async_nats::Message),
    Tick,
}

pub(super) struct Deputy<Q: Queue> {
    pub(super) settings: Settings,
    /// The room's own queue.
    pub(super) files: Q,
    pub(super) engine: NatsQueue,
    inbox: mpsc::Receiver<Order>,
    outbox: Outbox,
    /// Our name, random.
    name: String,
    hellos: Subscriber,
    says: Subscriber,
    logs: Subscriber,
    tick: Interval,
    pub(super) partner: Option<Partner>,
    /// Whether there is one, for the link to the room.
    seen: watch::Sender<bool>,
    pub(super) draining: bool,
}

/// Serves a slot until told to go.
pub async fn run<Q: Queue>(
    settings: Settings,
    files: Q,
    engine: NatsQueue,
    inbox: mpsc::Receiver<Order>,
    outbox: Outbox,
    seen: watch::Sender<bool>,
) -> anyhow::Result<Farewell> {
    let (client, agent) = (engine.client().clone(), settings.slot.agent.clone());
    let mut deputy = Deputy {
        name: far::name()?,
        hellos: client.subscribe(far::hello_subject(&agent)).await?,
        says: client.subscribe(far::says_subject(&agent, "*")).await?,
        logs: client.subscribe(far::log_subject(&agent, "*")).await?,
        tick: interval(far::BEAT),
        settings,
        files,
        engine,
        inbox,
        outbox,
        partner: None,
        seen,
        draining: false,
    };
    Ok(deputy.serve().await)
}

impl<Q: Queue> Deputy<Q> {
    async fn serve(&mut self) -> Farewell {
        loop {
            if self.draining {
                self.part("the room closes").await;
                return Farewell::Drained;
            }
            match self.next().await {
                Word::Order(Order::Assign { task, may_spend, checks }) => {
                    if let Some(farewell) = self.take(task, may_spend, checks).await {
                        self.part("the room closes").await;
                        return farewell;
                    }
                }
                Word::Order(Order::Drain) => self.draining = true,
                Word::Order(Order::Stop | Order::Quit { .. }) => {
                    self.part("the room closes").await;
                    return Farewell::Stopped;
                }
                // Of an attempt that has ended meanwhile, or of no concern here: calls go over the worker's own relay.
                Word::Order(
                    Order::Cancel { .. }
                    | Order::End { .. }
                    | Order::Extend { .. }
                    | Order::Permit { .. }
                    | Order::Room(_)
                    | Order::Know { .. }
                    | Order::Gateway { .. },
                )
                | Word::Says(_)
                | Word::Log(_)
                | Word::Tick => {}
            }
        }
    }

    /// The next thing to do. Who is there is seen to by the way.
    pub(super) async fn next(&mut self) -> Word {
        loop {
            tokio::select! {
                biased;
                order = self.inbox.recv() => {
                    return Word::Order(order.unwrap_or(Order::Quit { why: "the link to the room is gone".into() }));
                }
                Some(message) = self.says.next() => {
                    let Some(says) = far::read::<Says>(&message) else { continue };
                    if let Some(says) = self.hear(message.subject.as_str(), says).await {
                        return Word::Says(says);
                    }
                }
                Some(message) = self.logs.next() => {
                    if self.is_partner(message.subject.as_str()) {
                        return Word::Log(message);
                    }
                }
                Some(message) = self.hellos.next() => self.answer(&message).await,
                _ = self.tick.tick() => {
                    self.beat().await;
                    return Word::Tick;
                }
            }
        }
    }

    fn is_partner(&self, subject: &str) -> bool {
        let agent = &self.settings.slot.agent;
        self.partner.as_ref().is_some_and(|partner| {
            subject == far::says_subject(agent, &partner.name) || subject == far::log_subject(agent, &partner.name)
        })
    }

    /// Offers this slot to a worker that asks for one.
    async fn answer(&self, message: &async_nats::Message) {
        let (Some(hello), Some(reply)) = (far::read::<Hello>(message), message.reply.clone()) else { return };
        let own = env!("CARGO_PKG_VERSION");
        let answer = if hello.version != own {
            Welcome::Bye(format!("the room is podium {own}, this worker is {}; use the same", hello.version))
        } else if self.partner.is_none() && !self.draining {
            Welcome::Free(self.name.clone())
        } else {
            return;
        };
        self.say(reply.to_string(), &answer).await;
    }

    /// What a worker says: `None` where that was about who is there.
    async fn hear(&mut self, subject: &str, says: Says) -> Option<Says> {
        let now = self.settings.clock.now();
        match says {
            Says::Here { deputy, hello } => {
                if deputy != self.name || subject != far::says_subject(&self.settings.slot.agent, &hello.worker) {
                    return None;
                }
                if self.partner.as_ref().is_some_and(|partner| partner.name != hello.worker) {
                    let bye = Told::Bye("this place was given to another worker a moment ago".into());
                    self.say(far::told_subject(&self.settings.slot.agent, &hello.worker), &bye).await;
                    return None;
                }
                let far = Far {
                    host: crate::model::text::first_line(&hello.host, 60),
                    version: hello.version,
                    pid: hello.pid,
                    offset_ms: i64::try_from(hello.at.duration_since(now).as_millis()).unwrap_or_default(),
                    load: None,
                    heard_at: now,
                };
                tracing::info!(slot = %self.settings.slot, host = far.host, offset_ms = far.offset_ms, "a worker is there");
                self.seen.send_replace(true);
                self.partner = Some(Partner { name: hello.worker, far, heard: Instant::now() });
                self.tell(&Told::Beat).await;
                // What it runs is of a deputy that is gone; its task is handed out anew.
                if let Some(attempt) = hello.running {
                    let ending = crate::model::Ending::Stopped;
                    self.tell(&Told::Tell(Box::new(WorkerTell::End { attempt, ending }))).await;
                }
                None
            }
            _ if !self.is_partner(subject) => None,
            Says::Beat { at, load } => {
                if let Some(partner) = &mut self.partner {
                    partner.heard = Instant::now();
                    partner.far.heard_at = now;
                    partner.far.offset_ms = i64::try_from(at.duration_since(now).as_millis()).unwrap_or_default();
                    partner.far.load = load;
                    let far = partner.far.clone();
                    self.post(Report::Far { far: Box::new(far) });
                }
                None
            }
            Says::Leaves(why) => {
                self.lose(&why);
                Some(Says::Leaves(why))
            }
            Says::Report(_) => {
                if let Some(partner) = &mut self.partner {
                    partner.heard = Instant::now();
                }
                Some(says)
            }
        }
    }

    /// Says that the room is there, and sees whether the worker is.
    async fn beat(&mut self) {
        self.tell(&Told::Beat).await;
        if self.partner.as_ref().is_some_and(|partner| partner.heard.elapsed() > SILENCE) {
            self.lose("it has said nothing for 10 s");
        }
    }

    pub(super) fn lose(&mut self, why: &str) {
        if let Some(partner) = self.partner.take() {
            tracing::warn!(slot = %self.settings.slot, host = partner.far.host, why, "the worker is gone");
        }
        self.seen.send_replace(false);
    }

    /// Lets the worker go: it may ask for another place.
    async fn part(&mut self, why: &str) {
        self.tell(&Told::Bye(why.to_owned())).await;
        drop(self.engine.client().flush().await);
    }

    pub(super) async fn tell(&self, told: &Told) {
        if let Some(partner) = &self.partner {
            self.say(far::told_subject(&self.settings.slot.agent, &partner.name), told).await;
        }
    }

    async fn say(&self, subject: String, message: &impl serde::Serialize) {
        if let Err(error) = self.engine.client().publish(subject, far::write(message)).await {
            tracing::warn!(%error, "a word could not be sent");
        }
    }

    pub(super) fn post(&self, report: Report) {
        // The link keeps nothing of a room that is gone: what was published is on the disk.
        let _gone = self.outbox.send(report);
    }

    async fn take(&mut self, task: TaskRef, may_spend: Option<MicroUsd>, checks: Box<Checks>) -> Option<Farewell> {
        // Nothing is counted that could not begin.
        let is_away = self.engine.client().connection_state() != async_nats::connection::State::Connected;
        let reason = match if is_away { None } else { Some(self.files.claim(&task).await) } {
            None => "the NATS server is away".to_owned(),
            Some(Ok(Claimed::Won(claim))) => return self.bring(*claim, may_spend, checks).await,
            Some(Ok(Claimed::Missed(reason))) => reason,
            Some(Err(error)) => error.to_string(),
        };
        self.post(Report::NotStarted { task, reason });
        None
    }

    pub(super) async fn forward(&self, attempt: &AttemptRef, order: Order) {
        let told = match order {
            Order::Cancel { .. } => WorkerTell::Cancel(attempt.clone()),
            Order::End { ending, .. } => WorkerTell::End { attempt: attempt.clone(), ending },
            Order::Extend { by, .. } => WorkerTell::Extend { attempt: attempt.clone(), by },
            Order::Permit { request, permit, .. } => WorkerTell::Permit { attempt: attempt.clone(), request, permit },
            _ => return,
        };
        self.tell(&Told::Tell(Box::new(told))).await;
    }
}
