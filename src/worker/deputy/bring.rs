//! One attempt through the deputy's hands: handed over, followed, brought home, published.
//!
//! Owns what is believed while it runs elsewhere. Its one surprise: only the server says how it ended; a worker's reports say
//! when to look.

use std::{io, path::Path, time::Duration};

use tokio::{
    fs::{self, OpenOptions},
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    time::Instant,
};

use super::{Deputy, Farewell, Order, Word};
use crate::{
    attach::{
        far::{LOG_AT, LOG_OF, Says, Told},
        wire::WorkerTell,
    },
    model::{
        Activity, AttemptRef, Checks, CostSource, EndState, Ending, GoalId, MicroUsd, Outcome, Report, Spend, Standing,
        TaskRecord, Usage,
    },
    queue::{Claim, Lease as _, Queue, QueueError, Spawned},
    worker::commit::{After, after},
};

/// How long a task may lie on the server before a worker takes it.
const UNCLAIMED: Duration = Duration::from_secs(20);
/// How long the worker may take to end an attempt when the room closes.
const LEAVING: Duration = Duration::from_secs(15);
/// The most bytes of files that are brought home of one attempt.
const HOME: u64 = 256 * 1024 * 1024;

/// What came of an attempt elsewhere.
#[derive(Debug)]
struct Came {
    ending: Ending,
    spend: Spend,
    /// The whole result, where it wrote one.
    outcome: Option<Box<Outcome>>,
}

impl Came {
    fn lost(message: impl Into<String>) -> Self {
        Self { ending: Ending::Lost { message: message.into() }, spend: Spend::default(), outcome: None }
    }
}

/// What an attempt is at, as far as the deputy knows.
struct Course {
    since: Instant,
    started: bool,
    cancelled: bool,
    leaving: Option<Instant>,
    farewell: Option<Farewell>,
}

impl<Q: Queue> Deputy<Q> {
    /// Takes a claimed attempt to its end; says why the deputy must go, where it must.
    pub(super) async fn bring(
        &mut self,
        claim: Claim<Q::Lease>,
        may_spend: Option<MicroUsd>,
        checks: Box<Checks>,
    ) -> Option<Farewell> {
        let attempt = claim.lease.attempt().clone();
        let mut course =
            Course { since: Instant::now(), started: false, cancelled: false, leaving: None, farewell: None };
        let mut came = match self.left_over(&claim, &attempt).await {
            Ok(Some(came)) => came,
            Ok(None) => match self.hand_over(&claim, &attempt, may_spend, checks).await {
                Ok(()) => match self.follow(&claim, &attempt, &mut course).await {
                    Ok(came) => came,
                    Err(farewell) => return farewell,
                },
                Err(error) => Came::lost(error.to_string()),
            },
            Err(error) => Came::lost(error.to_string()),
        };
        self.fetch(&claim, &attempt, &mut came).await;
        let published = self.publish(claim, &attempt, came).await;
        if published && let Err(error) = self.engine.take_back(&attempt.task).await {
            tracing::warn!(%attempt, %error, "what was brought home stays on the NATS server");
        }
        course.farewell
    }

    /// What an attempt whose deputy vanished has left on the server: its result is as good as this one's. Anything else makes
    /// room.
    async fn left_over(&mut self, claim: &Claim<Q::Lease>, attempt: &AttemptRef) -> Result<Option<Came>, QueueError> {
        let task = &attempt.task;
        let until = Instant::now() + self.engine.lease_length() * 2;
        loop {
            let record = match self.engine.get(task).await {
                Err(QueueError::Unknown(_)) => return Ok(None),
                other => other?,
            };
            match record.standing {
                Standing::Ended => {
                    let known = self.files.get(task).await?;
                    let whole = self.engine.result(task).await?.filter(|_| is_owed(&known, &record, claim.n));
                    if let Some(outcome) = whole {
                        tracing::info!(%attempt, "an attempt whose deputy vanished had ended; its result is taken");
                        return Ok(Some(came(&record, Some(outcome))));
                    }
                }
                Standing::Running { attempt: n } if Instant::now() < until => {
                    let ending = Ending::Stopped;
                    let end = WorkerTell::End { attempt: task.attempt(n), ending };
                    self.tell(&Told::Tell(Box::new(end))).await;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                Standing::Running { .. }
                | Standing::Waiting
                | Standing::Claimed
                | Standing::Retrying { .. }
                | Standing::Asking { .. } => {}
            }
            self.engine.take_back(task).await?;
            return Ok(None);
        }
    }

    async fn hand_over(
        &self,
        claim: &Claim<Q::Lease>,
        attempt: &AttemptRef,
        may_spend: Option<MicroUsd>,
        checks: Box<Checks>,
    ) -> Result<(), QueueError> {
        let mut spec = claim.spec.clone();
        // The room's queue has judged these; on the server it is this one attempt or none.
        (spec.max_attempts, spec.not_before, spec.start_by) = (Some(1), None, None);
        spec.dependencies.clear();
        spec.resume.clone_from(&claim.resume);
        self.engine.hand_over(&spec, attempt.n).await?;
        let tell = WorkerTell::Assign { task: attempt.task.clone(), may_spend, checks };
        // They go into the prompt in short anyway.
        let short = claim.prerequisites.iter().map(|outcome| outcome.clone().clipped(64 * 1024)).collect();
        let told = Told::Assign { tell: Box::new(tell), prerequisites: short, previous: claim.previous.clone() };
        self.tell(&told).await;
        Ok(())
    }

    /// Follows an attempt until the server says how it ended; `None` when the deputy must go before that.
    async fn follow(
        &mut self,
        claim: &Claim<Q::Lease>,
        attempt: &AttemptRef,
        course: &mut Course,
    ) -> Result<Came, Option<Farewell>> {
        loop {
            let look = match self.next().await {
                Word::Says(Says::Report(report)) => self.reported(claim, attempt, course, *report).await,
                Word::Says(_) | Word::Tick => true,
                Word::Log(message) => {
                    append(claim.lease.folder().as_path(), attempt, &message).await;
                    false
                }
                Word::Order(order) => self.ordered(attempt, course, order).await,
            };
            if look && let Some(came) = self.look(attempt, course).await {
                return Ok(came);
            }
            if course.leaving.is_some_and(|since| since.elapsed() > LEAVING) {
                tracing::error!(%attempt, "the worker elsewhere does not end it; the next room finds what comes of it");
                return Err(course.farewell);
            }
        }
    }

    /// A report about this attempt; says whether to look at the server.
    async fn reported(
        &mut self,
        claim: &Claim<Q::Lease>,
        attempt: &AttemptRef,
        course: &mut Course,
        report: Report,
    ) -> bool {
        match report {
            Report::Started { attempt: of, pid, session_id, at, .. } if of == *attempt => {
                course.started = true;
                let child = Spawned { pid, start_ticks: 0, boot_id: String::new(), session_id: session_id.clone() };
                if let Err(error) = self.files.spawned(&claim.lease, &child).await {
                    tracing::warn!(%attempt, %error, "the session could not be noted");
                }
                self.post(Report::Started { attempt: of, pid, session_id, log: claim.lease.log(), at });
                false
            }
            Report::Active { attempt: ref of, .. }
            | Report::Asked { attempt: ref of, .. }
            | Report::Withdrawn { attempt: ref of, .. }
            | Report::Limited { attempt: ref of, .. } => {
                if of == attempt {
                    self.post(report);
                }
                false
            }
            Report::Started { .. } | Report::Far { .. } => false,
            Report::Failed { .. } | Report::Ended { .. } | Report::NotStarted { .. } => true,
        }
    }

    /// An order about this attempt; says whether to look at the server.
    async fn ordered(&mut self, attempt: &AttemptRef, course: &mut Course, order: Order) -> bool {
        match order {
            Order::Assign { task, .. } => {
                let reason = format!("this worker is busy with {attempt}");
                self.post(Report::NotStarted { task, reason });
                false
            }
            Order::Drain => {
                self.draining = true;
                false
            }
            Order::Stop | Order::Quit { .. } => {
                course.leaving.get_or_insert_with(Instant::now);
                course.farewell = Some(Farewell::Stopped);
                let end = Order::End { attempt: attempt.clone(), ending: Ending::Stopped };
                self.forward(attempt, end).await;
                true
            }
            Order::Room(_) | Order::Gateway { .. } | Order::Know { .. } => false,
            Order::Cancel { .. } => {
                course.cancelled = true;
                self.forward(attempt, order).await;
                true
            }
            Order::End { .. } | Order::Extend { .. } | Order::Permit { .. } => {
                self.forward(attempt, order).await;
                false
            }
        }
    }

    /// What the server says of the attempt, once it has ended.
    async fn look(&mut self, attempt: &AttemptRef, course: &Course) -> Option<Came> {
        let task = &attempt.task;
        let record = match self.engine.get(task).await {
            Ok(record) => record,
            Err(QueueError::Unreachable(why)) => {
                let activity = Activity { doing: why, ..Activity::default() };
                self.post(Report::Active { attempt: attempt.clone(), activity });
                return None;
            }
            Err(error) => return Some(Came::lost(error.to_string())),
        };
        let end = match record.standing {
            Standing::Running { .. } => return None,
            Standing::Ended => {
                let whole = self.engine.result(task).await.ok().flatten();
                return Some(came(&record, whole));
            }
            Standing::Retrying { .. } | Standing::Asking { .. } => return Some(came(&record, None)),
            Standing::Waiting if course.cancelled => Ending::Cancelled,
            Standing::Waiting if course.leaving.is_some() => Ending::Stopped,
            Standing::Waiting if course.since.elapsed() < UNCLAIMED && self.partner.is_some() => return None,
            Standing::Waiting => Ending::Lost { message: "no worker elsewhere took it".into() },
            Standing::Claimed => {
                let message = "the worker elsewhere vanished, and its lease ran out";
                self.lose(message);
                Ending::Lost { message: message.into() }
            }
        };
        match self.engine.end(task, end.clone()).await {
            Ok(_) if end == Ending::Cancelled => None,
            Ok(_) => Some(Came { ending: end, spend: Spend::default(), outcome: None }),
            // Somebody took it, or came back, at this very moment.
            Err(_) => None,
        }
    }

    /// Brings logs and files home.
    async fn fetch(&self, claim: &Claim<Q::Lease>, attempt: &AttemptRef, came: &mut Came) {
        let (task, folder) = (&attempt.task, claim.lease.folder());
        let n = came.outcome.as_ref().map_or(attempt.n, |outcome| outcome.attempt);
        for log in ["out.log", "err.log"] {
            let down = folder.join(format!(".{log}"));
            match self.engine.fetch(task, n, log, &down).await {
                // Into the same file, which is shown under another name too.
                Ok(Some(_)) => {
                    if let Err(error) = fs::copy(&down, folder.join(log)).await {
                        tracing::error!(%attempt, %error, "a log could not be written");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%attempt, log, %error, "a log stays elsewhere"),
            }
            drop(fs::remove_file(&down).await);
        }
        let Some(outcome) = &mut came.outcome else { return };
        let whose = claim.spec.goal.as_ref().map_or("tasks", GoalId::as_str);
        let place = format!(".podium/runs/{whose}");
        let mut left = HOME;
        for artifact in &mut outcome.artifacts {
            artifact.kept = None;
            let is_hash = artifact.sha256.len() == 64 && artifact.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_hash || artifact.bytes > left {
                continue;
            }
            left -= artifact.bytes;
            let (name, target) = (format!("files/{}", artifact.path), self.settings.stage.join(&place));
            let down = target.join(format!(".copy-{}", artifact.sha256));
            if fs::create_dir_all(&target).await.is_err() {
                continue;
            }
            // What is not what it says is not kept.
            let same =
                matches!(self.engine.fetch(task, n, &name, &down).await, Ok(Some(hash)) if hash == artifact.sha256);
            if same && fs::rename(&down, target.join(&artifact.sha256)).await.is_ok() {
                artifact.kept = Some(format!("{place}/{}", artifact.sha256));
            } else {
                drop(fs::remove_file(&down).await);
            }
        }
    }

    /// Publishes it in the room's own queue; false where that could not be.
    async fn publish(&self, claim: Claim<Q::Lease>, attempt: &AttemptRef, came: Came) -> bool {
        let now = self.settings.clock.now();
        let Came { ending, spend, outcome } = came;
        let Claim { spec, counted, lease, previous, .. } = claim;
        let before = previous.as_ref().map(|(ending, _)| ending);
        match after(&self.settings.retries, &spec, attempt, &ending, (counted, before), now) {
            After::End(state) => {
                let mut outcome = outcome.map_or_else(|| plain(&spec, &ending, spend, now), |outcome| *outcome);
                (outcome.task, outcome.goal, outcome.state, outcome.ending) = (spec.task, spec.goal, state, ending);
                outcome.attempt = attempt.n;
                let clipped = Box::new(outcome.clone().clipped(TaskRecord::TEXT_LIMIT));
                match self.files.finish(lease, outcome).await {
                    Ok(_) => self.post(Report::Ended { outcome: clipped, spend }),
                    Err(error) => {
                        tracing::error!(%attempt, %error, "the attempt's end could not be written");
                        return false;
                    }
                }
            }
            After::Again(not_before) => {
                if let Err(error) = self.files.fail(lease, ending.clone(), spend, not_before).await {
                    tracing::error!(%attempt, %error, "the attempt's end could not be written");
                    return false;
                }
                self.post(Report::Failed { attempt: attempt.clone(), ending, spend, not_before, at: now });
            }
        }
        true
    }
}

/// Whether a result that lies on the server was never published: since the attempt that wrote it nothing but losses came.
fn is_owed(known: &TaskRecord, there: &TaskRecord, n: u32) -> bool {
    let wrote = there.last_attempt();
    let since = known.attempts.iter().filter(|attempt| attempt.n >= wrote && attempt.n < n);
    wrote > 0 && wrote < n && since.into_iter().all(|attempt| matches!(attempt.ending, Some(Ending::Lost { .. })))
}

fn came(record: &TaskRecord, outcome: Option<Outcome>) -> Came {
    let last = record.attempts.last();
    let unknown = || Ending::Lost { message: "nobody knows how it ended".into() };
    let ending = outcome.as_ref().map(|outcome| outcome.ending.clone());
    let ending = ending.or_else(|| last.and_then(|attempt| attempt.ending.clone())).unwrap_or_else(unknown);
    let spend = last.map(|attempt| attempt.spend).unwrap_or_default();
    Came { ending, spend, outcome: outcome.map(Box::new) }
}

/// The result of an attempt that wrote none.
fn plain(spec: &crate::model::TaskSpec, ending: &Ending, spend: Spend, now: jiff::Timestamp) -> Outcome {
    Outcome {
        task: spec.task.clone(),
        state: EndState::Failed,
        ending: ending.clone(),
        attempt: 0,
        summary: ending.sentence(),
        findings: Vec::new(),
        artifacts: Vec::new(),
        started_at: now,
        completed_at: now,
        usage: Usage::default(),
        cost: spend.cost,
        cost_source: CostSource::default(),
        model: None,
        session_id: None,
        goal: spec.goal.clone(),
        foreign: false,
    }
}

/// Puts a piece of log where it belongs; a piece that was lost leaves a gap until the whole log comes.
async fn append(folder: &Path, attempt: &AttemptRef, message: &async_nats::Message) {
    let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    let is_of = header(LOG_OF).is_some_and(|of| of == attempt.n.to_string());
    let at = header(LOG_AT).and_then(|at| at.parse::<u64>().ok());
    let Some(at) = at.filter(|_| is_of) else { return };
    let write = async {
        let mut file = OpenOptions::new().write(true).open(folder.join("out.log")).await?;
        let length = file.metadata().await?.len();
        if at > length {
            return Err(io::Error::other("a piece of the log was lost"));
        }
        file.seek(io::SeekFrom::Start(at)).await?;
        file.write_all(&message.payload).await?;
        file.flush().await
    };
    if let Err(error) = write.await {
        tracing::debug!(%attempt, %error, "the log is shown in part until it has ended");
    }
}
