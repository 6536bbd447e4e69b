//! The worker process: it serves one slot of one agent, one attempt at a time.
//!
//! Owns the loop from an assignment to a published result, and what happens without a room. Must not know the socket:
//! orders come in and reports go out through channels. Its one surprise: it must run on the main thread of a
//! current-thread runtime, because a child's death signal follows the thread that spawned it.

use std::{collections::VecDeque, ffi::OsString, io, path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    engines::{Gateway, Programs, tree::Grace},
    gateway::Forward,
    ledger::Prices,
    model::{
        AgentSettings, AttemptRef, Checks, Clock, Ending, MicroUsd, Outcome, Permit, Report, SlotId, TaskRef, Tiers,
    },
    queue::{Claimed, Queue},
};

mod artifacts;
mod attempt;
mod commit;
mod cut;
mod deadline;
pub mod deputy;
mod end;
mod growth;
mod heed;
mod limits;
mod policy;
mod stall;
mod tail;
mod verify;
mod watch;

use deadline::Doubt;
pub use policy::Retries;

/// The least time a fresh worker looks for its room.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// What the room, or the connection to it, tells the worker.
#[derive(Debug, Clone)]
pub enum Order {
    /// Run an attempt at this task.
    Assign {
        /// Which.
        task: TaskRef,
        /// What is left of its budget, for engines that can keep to it.
        may_spend: Option<MicroUsd>,
        /// What is looked at before its result counts.
        checks: Box<Checks>,
    },
    /// What another queue knows of the task that is assigned next.
    Know {
        /// Which.
        task: TaskRef,
        /// What came of its prerequisites.
        prerequisites: Vec<Outcome>,
        /// The attempt before.
        previous: Option<(Ending, Option<String>)>,
    },
    /// End this attempt in this way.
    End {
        /// Which.
        attempt: AttemptRef,
        /// As what.
        ending: Ending,
    },
    /// A person cancelled this attempt.
    Cancel {
        /// Which.
        attempt: AttemptRef,
    },
    /// This attempt may be silent for so much longer.
    Extend {
        /// Which.
        attempt: AttemptRef,
        /// How much longer.
        by: Duration,
    },
    /// What this attempt has asked for is answered.
    Permit {
        /// Which.
        attempt: AttemptRef,
        /// The engine's name for what was asked.
        request: String,
        /// The answer.
        permit: Permit,
    },
    /// Finish what runs, then go.
    Drain,
    /// A person stopped the room: go now; what runs starts again with the next room.
    Stop,
    /// Go now for another reason, such as a signal; what runs is lost.
    Quit {
        /// Why.
        why: String,
    },
    /// The room is there, or is not. The worker starts as if it were not.
    Room(bool),
    /// Where model calls of the next attempts go.
    Gateway {
        /// `http://127.0.0.1:PORT`.
        url: String,
        /// This worker's token.
        token: SecretString,
    },
}

/// Orders, in the order given. Its end counts as [`Order::Room`]`(false)`.
pub type Inbox = mpsc::Receiver<Order>;

/// Reports; sent only while the room is there.
pub type Outbox = mpsc::UnboundedSender<Report>;

/// What a worker process is made for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its slot.
    pub slot: SlotId,
    /// Its agent.
    pub agent: AgentSettings,
    /// The stage's folder; paths in results are relative to it.
    pub stage: PathBuf,
    /// The stage's id, the first part of every cookie.
    pub stage_id: String,
    /// Programs that engines start.
    pub programs: Programs,
    /// `PATH` of children.
    pub path: OsString,
    /// `LANG` of children.
    pub lang: OsString,
    /// The time.
    pub clock: Clock,
    /// Where model calls go, if it is known from the start.
    pub gateway: Option<Gateway>,
    /// The relay that `gateway` is, on a machine from which the room's own cannot be called.
    pub relay: Option<Arc<Forward>>,
    /// How often and after what wait a task is tried again.
    pub retries: Retries,
    /// How long an attempt runs on without a room.
    pub orphan_grace: Duration,
    /// How long each step of ending a child waits.
    pub grace: Grace,
    /// How long a child may stay after its result.
    pub settle: Duration,
    /// How long a child may give no sign of life, where its task does not say; `None` = until its deadline.
    pub stall: Option<Duration>,
    /// The most bytes of logs that an attempt leaves on disk; the middle goes.
    pub log_limit: u64,
    /// The most turns, for engines that count them.
    pub max_turns: Option<u32>,
    /// The model of each tier.
    pub tiers: Tiers,
    /// What model calls cost.
    pub prices: Prices,
    /// This process runs nothing but the worker, so that everything below it belongs to the attempt.
    pub sole: bool,
}

impl Settings {
    /// Settings with the usual times, for a worker that has its process to itself.
    pub fn new(
        slot: SlotId,
        agent: AgentSettings,
        stage: PathBuf,
        stage_id: String,
        podium: PathBuf,
        clock: Clock,
    ) -> Self {
        Self {
            slot,
            agent,
            stage,
            stage_id,
            programs: Programs { podium, claude: None },
            path: "/usr/local/bin:/usr/bin:/bin".into(),
            lang: "C.UTF-8".into(),
            clock,
            gateway: None,
            relay: None,
            retries: Retries::default(),
            orphan_grace: Duration::from_mins(1),
            grace: Grace::default(),
            settle: Duration::from_secs(10),
            stall: Some(Duration::from_mins(10)),
            log_limit: 50 * 1024 * 1024,
            max_turns: None,
            tiers: Tiers::default(),
            prices: Prices::embedded(),
            sole: true,
        }
    }
}

/// Why a worker went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// It was asked to finish, and did.
    Drained,
    /// It was asked to go at once.
    Stopped,
    /// It had no room for too long.
    Orphaned,
}

/// Why a worker could not work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The kernel would not hand us our orphans.
    #[error("become the parent of orphans: {0}")]
    Subreaper(#[source] io::Error),
}

/// Serves the slot until told to go. Run it with `block_on` on the main thread of a current-thread runtime.
pub async fn run<Q: Queue>(
    settings: Settings,
    queue: Q,
    inbox: Inbox,
    outbox: Outbox,
) -> Result<Farewell, WorkerError> {
    if settings.sole {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| WorkerError::Subreaper(errno.into()))?;
    }
    let patience = settings.orphan_grace.max(FIRST_CONTACT);
    let mut worker = Worker {
        post: Post::new(outbox),
        link: Link { inbox, open: true, alone_until: Some(Instant::now() + patience) },
        doubt: Doubt::new(settings.clock.read()),
        settings,
        queue,
        draining: false,
        known: None,
    };
    Ok(worker.serve().await)
}

/// The connection to the room, as far as orders go.
struct Link {
    inbox: Inbox,
    open: bool,
    /// Without a room: when patience ends.
    alone_until: Option<Instant>,
}

/// What the link has to say.
enum Word {
    Order(Order),
    /// Patience has ended.
    Alone,
}

impl Link {
    /// The next order, or that there has been no room for too long. Safe to drop half-way.
    async fn next(&mut self) -> Word {
        let alone_until = self.alone_until;
        let patience = async {
            match alone_until {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = self.order() => Word::Order(order),
            () = patience => Word::Alone,
        }
    }

    /// The next order alone. Safe to drop half-way.
    async fn order(&mut self) -> Order {
        if !self.open {
            return std::future::pending().await;
        }
        let order = self.inbox.recv().await;
        self.open = order.is_some();
        order.unwrap_or(Order::Room(false))
    }
}

struct Worker<Q: Queue> {
    settings: Settings,
    queue: Q,
    link: Link,
    post: Post,
    doubt: Doubt,
    draining: bool,
    /// What another queue knows of the next task.
    known: Option<Known>,
}

/// What another queue knows of a task: prerequisites' results, and the attempt before.
type Known = (TaskRef, Vec<Outcome>, Option<(Ending, Option<String>)>);

impl<Q: Queue> Worker<Q> {
    async fn serve(&mut self) -> Farewell {
        loop {
            if self.draining {
                return Farewell::Drained;
            }
            let order = match self.link.next().await {
                Word::Alone => return Farewell::Orphaned,
                Word::Order(order) => order,
            };
            match order {
                Order::Assign { task, may_spend, checks } => {
                    if let Some(farewell) = self.take(task, may_spend, &checks).await {
                        return farewell;
                    }
                }
                // It has ended meanwhile; its own report says how.
                Order::Cancel { .. } | Order::End { .. } | Order::Extend { .. } | Order::Permit { .. } => {}
                Order::Drain => self.draining = true,
                Order::Stop | Order::Quit { .. } => return Farewell::Stopped,
                Order::Room(there) => self.room(there),
                Order::Know { task, prerequisites, previous } => self.known = Some((task, prerequisites, previous)),
                Order::Gateway { url, token } => self.settings.gateway = Some(Gateway { url, token }),
            }
        }
    }

    fn room(&mut self, there: bool) {
        if there {
            self.link.alone_until = None;
        } else if self.link.alone_until.is_none() {
            self.link.alone_until = Some(Instant::now() + self.settings.orphan_grace);
        }
        self.post.connect(there);
    }

    async fn take(&mut self, task: TaskRef, may_spend: Option<MicroUsd>, checks: &Checks) -> Option<Farewell> {
        if task.agent != self.settings.slot.agent {
            let reason = format!("this worker serves {}", self.settings.slot.agent);
            self.post.send(Report::NotStarted { task, reason });
            return None;
        }
        match self.queue.claim(&task).await {
            Ok(Claimed::Won(mut claim)) => {
                if let Some((_, prerequisites, previous)) = self.known.take().filter(|(of, ..)| *of == task) {
                    (claim.prerequisites, claim.previous) = (prerequisites, previous);
                }
                attempt::run(self, *claim, may_spend, checks).await
            }
            Ok(Claimed::Missed(reason)) => {
                self.post.send(Report::NotStarted { task, reason });
                None
            }
            Err(error) => {
                self.post.send(Report::NotStarted { task, reason: error.to_string() });
                None
            }
        }
    }
}

/// Reports on their way out: kept in order while there is no room to hear them.
struct Post {
    outbox: Outbox,
    connected: bool,
    kept: VecDeque<Report>,
    /// The running attempt's start and last activity, for a room that has just come.
    running: [Option<Report>; 2],
    /// What it asks for and nobody has answered.
    asked: Vec<Report>,
}

impl Post {
    fn new(outbox: Outbox) -> Self {
        Self { outbox, connected: false, kept: VecDeque::new(), running: [None, None], asked: Vec::new() }
    }

    fn send(&mut self, report: Report) {
        match &report {
            Report::Started { .. } => {
                self.running = [Some(report.clone()), None];
                self.asked.clear();
            }
            Report::Asked { .. } => self.asked.push(report.clone()),
            Report::Withdrawn { request, .. } => self.answered(request),
            Report::Active { .. } => self.running[1] = Some(report.clone()),
            Report::Failed { .. } | Report::Ended { .. } => {
                self.running = [None, None];
                self.asked.clear();
            }
            Report::Limited { .. } | Report::NotStarted { .. } | Report::Far { .. } | Report::Refused { .. } => {}
        }
        if !self.connected {
            self.keep(report);
        } else if let Err(unsent) = self.outbox.send(report) {
            self.keep(unsent.0);
        }
    }

    /// This was answered: the next room need not hear of it.
    fn answered(&mut self, request: &str) {
        let is = |report: &Report| matches!(report, Report::Asked { ask, .. } if ask.request == request);
        self.asked.retain(|report| !is(report));
        self.kept.retain(|report| !is(report));
    }

    fn keep(&mut self, report: Report) {
        match &report {
            Report::Active { attempt, .. } => {
                self.kept.retain(|k| !matches!(k, Report::Active { attempt: of, .. } if of == attempt));
            }
            Report::Far { .. } => self.kept.retain(|k| !matches!(k, Report::Far { .. })),
            _ => {}
        }
        self.kept.push_back(report);
    }

    /// A room that comes back may be a new one: it hears what was kept, then what runs now.
    fn connect(&mut self, there: bool) {
        let came_back = there && !self.connected;
        self.connected = there;
        if !came_back {
            return;
        }
        let kept = std::mem::take(&mut self.kept);
        let running = self.running.iter().flatten().chain(&self.asked);
        let said: Vec<Report> = running.filter(|r| !kept.contains(r)).cloned().collect();
        for report in kept.into_iter().chain(said) {
            if let Err(unsent) = self.outbox.send(report) {
                self.keep(unsent.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Activity;

    fn active(doing: &str) -> Report {
        let attempt = "anga/t".parse::<TaskRef>().unwrap().attempt(1);
        Report::Active { attempt, activity: Activity { doing: doing.to_owned(), ..Activity::default() } }
    }

    fn started() -> Report {
        let attempt = "anga/t".parse::<TaskRef>().unwrap().attempt(1);
        Report::Started { attempt, pid: 7, session_id: None, log: String::new(), at: jiff::Timestamp::UNIX_EPOCH }
    }

    fn heard(out: &mut mpsc::UnboundedReceiver<Report>) -> Vec<Report> {
        std::iter::from_fn(|| out.try_recv().ok()).collect()
    }

    #[test]
    fn without_a_room_reports_are_kept_in_order_with_only_the_newest_activity() {
        let (send, mut out) = mpsc::unbounded_channel();
        let mut post = Post::new(send);
        post.send(started());
        post.send(active("one"));
        post.send(active("two"));
        assert!(heard(&mut out).is_empty());
        post.connect(true);
        assert_eq!(heard(&mut out), [started(), active("two")]);
    }

    #[test]
    fn a_room_that_comes_back_hears_what_runs() {
        let (send, mut out) = mpsc::unbounded_channel();
        let mut post = Post::new(send);
        post.connect(true);
        post.send(started());
        post.send(active("one"));
        post.connect(false);
        let _before = heard(&mut out);
        post.connect(true);
        assert_eq!(heard(&mut out), [started(), active("one")]);
    }
}
