//! A child at work: what it says, what it does, and what the room wants of it.
//!
//! Owns the loop from the first byte to the reason why watching ends. Must not know how an ending is judged. Its one
//! surprise: the child is never slowed down; whoever writes faster than anybody reads has the middle of its log cut.

use std::{fs, io, path::PathBuf, pin::pin, process::ExitStatus, time::Duration};

use tokio::{
    process::Child,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Order, Settings, Word, Worker,
    artifacts::Moment,
    cut::Capped,
    growth::Growth,
    limits,
    stall::Silence,
    tail::{AT_ONCE, Tail},
};
use crate::{
    engines::{
        self, Reader,
        tree::{Load, Tree},
    },
    model::{Activity, AttemptRef, Ending, Report, TaskSpec, limit::Windows},
    queue::{Lease as _, Queue},
};

/// The shortest time between two reports of activity.
pub(super) const REPORT_PACE: Duration = Duration::from_millis(250);

/// How often memory, CPU and the log's size are looked at.
const LOAD_PACE: Duration = Duration::from_secs(1);

/// Why watching a child ended.
#[derive(Debug)]
pub(super) enum Cause {
    Exited(ExitStatus),
    Cancelled,
    /// The room ends it, as this.
    Ended(Ending),
    Deadline,
    /// The task's own deadline has passed; the sentence about it.
    Expired(String),
    Stalled(Duration),
    /// It stays after its result.
    Settled,
    /// The engine waits for what cannot come.
    Hopeless(Ending),
    /// A person stopped the room.
    Stopped,
    /// The worker itself must go; why.
    Quit(String),
    Orphaned,
    /// Its lease is gone; why.
    Gone(String),
    /// It printed so many bytes that nobody is meant to read them.
    Flood(u64),
    /// The operating system would not tell how it is.
    Unknown(io::Error),
}

/// A child at work.
pub(super) struct Running {
    pub(super) attempt: AttemptRef,
    pub(super) child: Child,
    pub(super) tree: Tree,
    pub(super) tail: Tail,
    /// Hears when the tail's log grows, or the other one.
    pub(super) growth: Growth,
    /// Standard output and standard error.
    pub(super) logs: [Capped; 2],
    pub(super) reader: Box<dyn Reader>,
    pub(super) err: PathBuf,
    /// Bytes in `err`.
    pub(super) errors: u64,
    pub(super) since: Moment,
    pub(super) feeding: JoinSet<()>,
    /// Lines for the child's input; `None` where it reads no more.
    pub(super) answers: Option<mpsc::UnboundedSender<String>>,
    pub(super) activity: Activity,
    pub(super) silence: Silence,
    /// What was last seen of the tree and the log's size, and when both are looked at again.
    pub(super) load: Load,
    pub(super) log_bytes: u64,
    pub(super) look: Instant,
    /// What the room was told of the subscription.
    pub(super) windows: Option<Windows>,
}

impl Running {
    /// Follows the child until something ends the attempt.
    pub(super) async fn watch<Q: Queue>(&mut self, worker: &mut Worker<Q>, spec: &TaskSpec, lease: &Q::Lease) -> Cause {
        let mut gone = pin!(lease.gone());
        let mut deadline = Instant::now() + allowed(&worker.settings, spec);
        let mut looked = Instant::now();
        let mut more = false;
        let mut told = Instant::now();
        let mut settled_since: Option<Instant> = None;
        loop {
            let rest = self.rest(told, settled_since.map(|since| since + worker.settings.settle));
            let word = tokio::select! {
                biased;
                status = self.child.wait() => return status.map_or_else(Cause::Unknown, Cause::Exited),
                word = worker.link.next() => Some(word),
                () = sleep_until(deadline) => return Cause::Deadline,
                why = &mut gone => return Cause::Gone(why),
                () = self.growth.wait(rest), if !more => None,
                () = std::future::ready(()), if more => None,
            };
            match word {
                Some(Word::Alone) => return Cause::Orphaned,
                Some(Word::Order(order)) => {
                    if let Some(cause) = self.obey(worker, order) {
                        return cause;
                    }
                    continue;
                }
                None => {}
            }
            if let Err(size) = self.cap() {
                return Cause::Flood(size);
            }
            let reader = &mut self.reader;
            let read = self.tail.read(worker.settings.clock.now(), |bytes| reader.feed(bytes)).unwrap_or(0);
            let now = Instant::now();
            // Only who can hear an answer may ask, and may wait for it.
            let asked = if self.answers.is_some() { self.reader.take_asked() } else { Vec::new() };
            for ask in asked {
                worker.post.send(Report::Asked { attempt: self.attempt.clone(), ask: Box::new(ask) });
            }
            for request in self.reader.take_withdrawn() {
                worker.post.send(Report::Withdrawn { attempt: self.attempt.clone(), request });
            }
            if self.answers.is_some() && self.reader.waits_for_a_person() {
                // It is a person who takes the time, and not the engine.
                deadline += now.duration_since(looked);
                self.silence.heard(now, Duration::ZERO);
            }
            looked = now;
            more = read >= AT_ONCE;
            if read > 0 {
                self.silence.heard(now, self.reader.announced());
                let (windows, clock) = (self.reader.take_windows(), worker.settings.clock.now());
                limits::heard(&mut worker.post, &self.attempt, &mut self.windows, windows, clock);
                if let Some(ending) = self.reader.hopeless() {
                    return Cause::Hopeless(ending);
                }
            }
            if self.reader.settled() {
                self.answers = None;
                let since = *settled_since.get_or_insert(now);
                if now.duration_since(since) >= worker.settings.settle {
                    return Cause::Settled;
                }
            } else {
                settled_since = None;
            }
            if now >= self.look {
                self.look = now + LOAD_PACE;
                self.look_around(now);
            }
            if let Some(message) = worker.doubt.expired(spec, worker.settings.clock.read(), now) {
                return Cause::Expired(message);
            }
            if self.is_stalled(now) {
                return Cause::Stalled(self.silence.allowed());
            }
            if now >= told + REPORT_PACE && self.report(worker, now, deadline) {
                told = now;
            }
        }
    }

    /// How long nothing needs to be looked at while the log is silent.
    fn rest(&self, told: Instant, settled: Option<Instant>) -> Duration {
        let now = Instant::now();
        // What was read too soon after the last report is told of when it may be.
        let report = Some(told + REPORT_PACE).filter(|at| *at > now);
        let next = [report, settled].into_iter().flatten().fold(self.look, Instant::min);
        next.saturating_duration_since(now)
    }

    /// Looks at the processes and the other log.
    fn look_around(&mut self, now: Instant) {
        self.load = self.tree.load();
        self.silence.saw(&self.load, now);
        self.log_bytes = self.tail.offset();
        let errors = fs::metadata(&self.err).map_or(self.errors, |m| m.len());
        if errors != self.errors {
            self.errors = errors;
            self.silence.heard(now, Duration::ZERO);
        }
    }

    /// Keeps both logs within their caps; `Err` with the size of one that is a flood.
    pub(super) fn cap(&mut self) -> Result<(), u64> {
        self.logs.iter_mut().try_for_each(|log| log.keep().map(drop))
    }

    /// Whether it has been silent for too long; judged by what is there now, however late this is asked.
    fn is_stalled(&mut self, now: Instant) -> bool {
        let over = |silence: &Silence| silence.ends().is_some_and(|end| now >= end);
        if over(&self.silence) {
            self.look_around(now);
        }
        over(&self.silence)
    }

    fn obey<Q: Queue>(&mut self, worker: &mut Worker<Q>, order: Order) -> Option<Cause> {
        match order {
            Order::Assign { task, .. } => {
                let reason = format!("this worker is busy with {}", self.attempt);
                worker.post.send(Report::NotStarted { task, reason });
            }
            Order::Cancel { attempt } if self.attempt.is_meant_by(&attempt) => return Some(Cause::Cancelled),
            Order::End { attempt, ending } if self.attempt.is_meant_by(&attempt) => {
                return Some(Cause::Ended(ending));
            }
            Order::Extend { attempt, by } if self.attempt.is_meant_by(&attempt) => self.silence.extend(by),
            Order::Permit { attempt, request, permit } if self.attempt.is_meant_by(&attempt) => {
                worker.post.answered(&request);
                if let Some(line) = self.reader.answer_to(&request, &permit)
                    && let Some(answers) = &self.answers
                {
                    // A child that has gone needs no answer.
                    let _gone = answers.send(line);
                }
            }
            // Meant for an attempt that has ended.
            Order::Cancel { .. }
            | Order::End { .. }
            | Order::Extend { .. }
            | Order::Permit { .. }
            | Order::Know { .. } => {}
            Order::Drain => worker.draining = true,
            Order::Stop => return Some(Cause::Stopped),
            Order::Quit { why } => return Some(Cause::Quit(why)),
            Order::Room(there) => worker.room(there),
            Order::Gateway { url, token } => worker.settings.gateway = Some(engines::Gateway { url, token }),
        }
        None
    }

    /// Tells the room what a person would see change; false when that is nothing.
    fn report<Q: Queue>(&mut self, worker: &mut Worker<Q>, now: Instant, deadline: Instant) -> bool {
        let progress = self.reader.progress();
        // What ends at its deadline before is not ended for its silence.
        let stalls = self.silence.ends().is_some_and(|end| end < deadline);
        let clock = worker.settings.clock.now();
        let countdown = self.silence.countdown(now, clock);
        // The moment is worked out once, when it is heard first.
        let told = self.activity.retrying.clone();
        let retrying = progress.retry.map(|retry| Box::new(retry.told(clock))).map(|new| match told {
            Some(told) if (told.n, told.of) == (new.n, new.of) && told.why == new.why => told,
            _ => new,
        });
        let next = Activity {
            doing: progress.doing,
            subagents: progress.subagents,
            spend: progress.spend,
            rss_bytes: self.load.rss_bytes,
            cpu_percent: self.load.cpu_percent,
            log_bytes: self.log_bytes,
            stalls_at: countdown.filter(|_| stalls),
            retrying,
        };
        let worth = worth_telling(&self.activity, &next);
        if worth {
            self.activity = next.clone();
            worker.post.send(Report::Active { attempt: self.attempt.clone(), activity: next });
        }
        worth
    }
}

/// Whether a person would see the difference.
fn worth_telling(told: &Activity, now: &Activity) -> bool {
    let more = |a: u64, b: u64| a.abs_diff(b) > a / 20;
    told.doing != now.doing
        || told.subagents != now.subagents
        || told.spend != now.spend
        || told.log_bytes != now.log_bytes
        || told.stalls_at != now.stalls_at
        || told.retrying != now.retrying
        || more(told.rss_bytes, now.rss_bytes)
        || (told.cpu_percent - now.cpu_percent).abs() > 5.0
}

pub(super) fn allowed(settings: &Settings, spec: &TaskSpec) -> Duration {
    spec.timeout.unwrap_or(settings.agent.timeout)
}
