//! One attempt through the deputy's hands: handed over, or taken up, and followed to its end.
//!
//! Owns what is believed while it runs elsewhere. Its one surprise: only the server says how it ended; a worker's reports say
//! when to look.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{Assigned, Deputy, Farewell, LAST_WORD, Order, Word};
use crate::{
    attach::{
        far::{Says, Told},
        wire::WorkerTell,
    },
    model::{Activity, AttemptRef, Ending, Outcome, Report, Spend, Standing, TaskRecord},
    queue::{Claim, Lease as _, Queue as _, QueueError, Spawned, file::FileLease},
    worker::heed::at,
};

/// How long a task may lie on the server before a worker takes it.
const UNCLAIMED: Duration = Duration::from_secs(20);
/// How long the worker may take to end an attempt when the room closes.
const LEAVING: Duration = Duration::from_secs(15);
/// The least time between two words about a gap in the log.
const GAPS: Duration = Duration::from_secs(1);

/// What came of an attempt elsewhere.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) ending: Ending,
    pub(super) spend: Spend,
    /// The whole result, where it wrote one.
    pub(super) outcome: Option<Box<Outcome>>,
    /// Nobody has begun it, or can; why. It is not counted.
    unbegun: Option<String>,
}

impl Came {
    pub(super) fn plain(ending: Ending) -> Self {
        Self { ending, spend: Spend::default(), outcome: None, unbegun: None }
    }

    fn unbegun(why: impl Into<String>) -> Self {
        Self { unbegun: Some(why.into()), ..Self::plain(Ending::Stopped) }
    }

    fn lost(message: impl Into<String>) -> Self {
        Self::plain(Ending::Lost { message: message.into() })
    }
}

/// The deputy turned away from an attempt before its end.
#[derive(Debug)]
pub(super) struct Left;

/// What an attempt is at, as far as the deputy knows.
pub(super) struct Course {
    attempt: AttemptRef,
    assign: Told,
    /// Since when a worker could have taken it.
    since: Instant,
    /// Why a worker did not take it, by its own word.
    refused: Option<String>,
    /// Who was told to take it.
    told: Option<String>,
    /// It may never have come to the server: the deputy before this one saw to that, or did not.
    unsure: bool,
    /// It is being handed over, and nobody was told to take it yet.
    begins: bool,
    /// Whoever comes after this deputy finds it.
    noted: bool,
    /// How it is to end, until it has, and since when.
    end: Option<(Order, Instant)>,
    /// What its engine asked for and was answered, by the engine's names for it.
    answered: BTreeSet<String>,
    leaving: Option<Instant>,
    farewell: Option<Farewell>,
    /// What the worker said last that it does.
    activity: Activity,
    /// What was said instead, since nothing was heard.
    silent: Option<String>,
    gap: Option<Instant>,
}

impl Deputy {
    /// Takes a claimed attempt to its end; says why the deputy must go, where it must.
    pub(super) async fn bring(
        &mut self,
        claim: Claim<FileLease>,
        assigned: Assigned,
        taken_up: bool,
    ) -> Option<Farewell> {
        let attempt = claim.lease.attempt().clone();
        self.in_hand = Some(attempt.clone());
        let farewell = self.bring_on(claim, &attempt, assigned, taken_up).await;
        (self.in_hand, self.begun, self.look) = (None, false, false);
        self.unheard.forget();
        farewell
    }

    async fn bring_on(
        &mut self,
        claim: Claim<FileLease>,
        attempt: &AttemptRef,
        assigned: Assigned,
        taken_up: bool,
    ) -> Option<Farewell> {
        let mut course = Course::new(&claim, attempt, &assigned, taken_up);
        let begun = if taken_up { Ok(None) } else { self.begin(&claim, attempt, &assigned, &mut course).await };
        let brought = match begun {
            Ok(left_over) => self.bring_home(&claim, &mut course, left_over).await,
            Err(left) => Err(left),
        };
        let came = match (brought, &course.end) {
            (Ok(came), _) => came,
            // Nobody was told to begin it, so it ends here and now.
            (Err(Left), Some((order, _))) if course.begins => Came::plain(ending(order)),
            // Nobody would take it up.
            (Err(Left), _) if !course.noted => Came::unbegun("its deputy was told to go"),
            (Err(Left), _) => return course.farewell,
        };
        // Before the room hears of the end: a connection that is made anew must not say that it still runs.
        self.duty.send_modify(|duty| duty.carries = None);
        if let Some(reason) = came.unbegun {
            self.give_back(claim, reason).await;
            return course.farewell;
        }
        if self.publish(claim, attempt, came).await {
            let engine = self.engine.clone();
            let why = match self.ask_by_the_way(Box::pin(engine.take_back(&attempt.task))).await {
                Some(Ok(())) => return course.farewell,
                Some(Err(error)) => error.to_string(),
                None => "the server says nothing".to_owned(),
            };
            tracing::warn!(%attempt, why, "what was brought home stays on the NATS server");
        }
        course.farewell
    }

    /// Follows what was begun to its end, and fetches what it left.
    async fn bring_home(
        &mut self,
        claim: &Claim<FileLease>,
        course: &mut Course,
        left_over: Option<Came>,
    ) -> Result<Came, Left> {
        course.begins = false;
        let mut came = match left_over {
            Some(came) => came,
            None => self.follow(claim, course).await?,
        };
        if came.unbegun.is_none() {
            self.fetch(claim, course, &mut came).await?;
        }
        Ok(came)
    }

    /// Nobody has begun it, so nothing was counted.
    async fn give_back(&mut self, claim: Claim<FileLease>, reason: String) {
        let task = claim.lease.attempt().task.clone();
        tracing::warn!(%task, reason, "nobody has begun it; it waits again, and no attempt is counted");
        if let Err(error) = self.files.uncount(claim.lease).await {
            // Whoever recovers finds the attempt lost.
            tracing::error!(%task, %error, "it stays counted");
        }
        self.post.send(Report::NotStarted { task, reason });
    }

    /// Waits for what the server says, and does meanwhile what there is to do. A deputy that is to leave, or to end what
    /// nobody was told to begin, does not wait for a server that says nothing.
    pub(super) async fn ask<T>(
        &mut self,
        claim: &Claim<FileLease>,
        course: &mut Course,
        mut call: impl Future<Output = T> + Unpin,
    ) -> Result<T, Left> {
        let asked = Instant::now();
        loop {
            let until = course.hurries().map(|since| since.max(asked) + LAST_WORD);
            let heard = tokio::select! {
                biased;
                answer = &mut call => return Ok(answer),
                heard = self.listen() => heard,
                () = at(until) => {
                    tracing::error!(attempt = %course.attempt, "the NATS server says nothing, and is not waited for");
                    return Err(Left);
                }
            };
            if let Some(word) = self.digest(heard).await {
                self.obey(claim, course, word).await?;
            }
        }
    }

    /// Hands a fresh attempt over, unless one before it has left its result.
    async fn begin(
        &mut self,
        claim: &Claim<FileLease>,
        attempt: &AttemptRef,
        assigned: &Assigned,
        course: &mut Course,
    ) -> Result<Option<Came>, Left> {
        let begun = match self.left_over(claim, attempt, course).await? {
            // Before anybody could take it: whoever comes after this deputy finds both or neither.
            Ok(None) => match self.entrust(claim, assigned).await {
                Ok(()) => {
                    course.noted = true;
                    self.hand_over(claim, course).await?.map(|()| None)
                }
                Err(error) => Err(error),
            },
            other => other,
        };
        match begun {
            Ok(None) => {
                self.assign(course).await;
                Ok(None)
            }
            Ok(Some(came)) => Ok(Some(came)),
            Err(error) => Ok(Some(Came::unbegun(error.to_string()))),
        }
    }

    async fn entrust(&self, claim: &Claim<FileLease>, assigned: &Assigned) -> Result<(), QueueError> {
        let note = serde_json::to_value(assigned).map_err(|error| QueueError::Unsafe(error.to_string()))?;
        self.files.entrust(&claim.lease, note).await
    }

    /// What an attempt has left on the server whose end could not be told here: its result is as good as this one's. Anything
    /// else makes room.
    async fn left_over(
        &mut self,
        claim: &Claim<FileLease>,
        attempt: &AttemptRef,
        course: &mut Course,
    ) -> Result<Result<Option<Came>, QueueError>, Left> {
        let (engine, task) = (self.engine.clone(), &attempt.task);
        let until = Instant::now() + engine.lease_length() * 2;
        loop {
            let record = match self.ask(claim, course, Box::pin(engine.get(task))).await? {
                Ok(record) => record,
                Err(QueueError::Unknown(_)) => return Ok(Ok(None)),
                Err(error) => return Ok(Err(error)),
            };
            match record.standing {
                Standing::Ended => {
                    let known = self.files.get(task).await;
                    let whole = self.ask(claim, course, Box::pin(engine.result(task))).await?;
                    match known.and_then(|known| Ok(whole?.filter(|_| is_owed(&known, &record, claim.n)))) {
                        Ok(Some(outcome)) => {
                            tracing::info!(%attempt, "an attempt that was taken for lost had ended; its result is taken");
                            return Ok(Ok(Some(came(&record, Some(outcome)))));
                        }
                        Ok(None) => {}
                        Err(error) => return Ok(Err(error)),
                    }
                }
                Standing::Running { attempt: n } if Instant::now() < until && course.end.is_none() => {
                    let ending = Ending::Stopped;
                    let end = WorkerTell::End { attempt: task.attempt(n), ending };
                    self.tell(&Told::Tell(Box::new(end))).await;
                    self.ask(claim, course, Box::pin(tokio::time::sleep(Duration::from_millis(500)))).await?;
                    continue;
                }
                Standing::Running { .. }
                | Standing::Waiting
                | Standing::Claimed
                | Standing::Retrying { .. }
                | Standing::Asking { .. } => {}
            }
            return Ok(self.ask(claim, course, Box::pin(engine.take_back(task))).await?.map(|()| None));
        }
    }

    async fn hand_over(
        &mut self,
        claim: &Claim<FileLease>,
        course: &mut Course,
    ) -> Result<Result<(), QueueError>, Left> {
        let mut spec = claim.spec.clone();
        // The room's queue has judged these; on the server it is this one attempt or none.
        (spec.max_attempts, spec.not_before, spec.start_by) = (Some(1), None, None);
        spec.dependencies.clear();
        spec.resume.clone_from(&claim.resume);
        spec.deadline = spec.deadline.map(|at| self.there(at));
        let (engine, n) = (self.engine.clone(), course.attempt.n);
        self.ask(claim, course, Box::pin(engine.hand_over(&spec, n))).await
    }

    /// Tells the worker that is there to take it.
    async fn assign(&mut self, course: &mut Course) {
        let name = self.partner.as_ref().map(|partner| partner.name.clone());
        if name.is_some() && name != course.told && course.end.is_none() {
            if !self.unheard.assigns() {
                self.order(course.assign.clone()).await;
            }
            course.told = name;
        }
    }

    /// Follows an attempt until the server says how it ended; why the deputy goes, where it does before that.
    async fn follow(&mut self, claim: &Claim<FileLease>, course: &mut Course) -> Result<Came, Left> {
        loop {
            if std::mem::take(&mut self.look)
                && !self.is_away()
                && let Some(came) = self.look(claim, course).await?
            {
                return Ok(came);
            }
            // A server that is away tells nobody to end it.
            let patience = if self.is_away() { Duration::ZERO } else { LEAVING };
            if course.leaving.is_some_and(|since| since.elapsed() >= patience) {
                tracing::error!(attempt = %course.attempt, "the worker elsewhere does not end it; the next room finds it");
                return Err(Left);
            }
            if !self.look {
                let word = self.next().await;
                self.obey(claim, course, word).await?;
            }
        }
    }

    /// Does what there is to do while this is in hand.
    async fn obey(&mut self, claim: &Claim<FileLease>, course: &mut Course, word: Word) -> Result<(), Left> {
        let look = match word {
            Word::Says(Says::Report(report)) => self.reported(claim, course, *report).await,
            Word::Says(_) => true,
            Word::Tick => {
                self.mind_the_silence(course);
                true
            }
            Word::Joined(running) => {
                self.joined(claim, course, running).await;
                true
            }
            Word::Log(message) => {
                if let Some(from) = self.append(claim, &course.attempt, &message).await {
                    self.ask_for_log(course, from).await;
                }
                false
            }
            // Whoever comes after it goes on with it.
            Word::Order(Order::Quit { why }) => {
                tracing::info!(attempt = %course.attempt, why, "this deputy goes; the next one carries the attempt on");
                course.farewell = Some(Farewell::Stopped);
                return Err(Left);
            }
            Word::Order(order) => self.ordered(course, order).await,
        };
        self.look |= look;
        Ok(())
    }

    /// A worker has come while this is in hand.
    async fn joined(&mut self, claim: &Claim<FileLease>, course: &mut Course, running: Option<AttemptRef>) {
        let Some(running) = running else { return };
        if !course.attempt.is_meant_by(&running) {
            return self.end_stranger(Some(running)).await;
        }
        // It has what it is to run.
        course.told = self.partner.as_ref().map(|partner| partner.name.clone());
        let length = tokio::fs::metadata(claim.lease.folder().join("out.log")).await.map_or(0, |about| about.len());
        course.gap = None;
        self.ask_for_log(course, length).await;
    }

    async fn ask_for_log(&self, course: &mut Course, from: u64) {
        if course.gap.is_none_or(|at| at.elapsed() > GAPS) {
            course.gap = Some(Instant::now());
            self.tell(&Told::Log { attempt: course.attempt.clone(), from }).await;
        }
    }

    /// Says why nothing is heard, once, and what it does when it is heard again.
    fn mind_the_silence(&mut self, course: &mut Course) {
        // Of a server that is away the room tells.
        let why = self.partner.is_none().then(|| {
            let seconds = self.engine.lease_length().as_secs();
            format!("nothing is heard of its worker; it counts as lost {seconds} s after its last beat")
        });
        if why == course.silent {
            return;
        }
        let mut activity = course.activity.clone();
        if let Some(why) = &why {
            activity.doing.clone_from(why);
        }
        course.silent = why;
        self.post.send(Report::Active { attempt: course.attempt.clone(), activity });
    }

    /// A report about this attempt; says whether to look at the server.
    async fn reported(&mut self, claim: &Claim<FileLease>, course: &mut Course, report: Report) -> bool {
        let attempt = &course.attempt;
        match report {
            Report::Started { attempt: of, pid, session_id, at, .. } if of == *attempt => {
                self.begun = true;
                let child = Spawned { pid, start_ticks: 0, boot_id: String::new(), session_id: session_id.clone() };
                if let Err(error) = self.files.spawned(&claim.lease, &child).await {
                    tracing::warn!(%attempt, %error, "the session could not be noted");
                }
                let at = self.here(at);
                self.post.send(Report::Started { attempt: of, pid, session_id, log: claim.lease.log(), at });
                false
            }
            Report::Active { attempt: of, mut activity } if of == *attempt => {
                activity.stalls_at = activity.stalls_at.map(|at| self.here(at));
                if let Some(retrying) = &mut activity.retrying {
                    retrying.at = self.here(retrying.at);
                }
                course.activity = activity.clone();
                course.silent = None;
                self.post.send(Report::Active { attempt: of, activity });
                false
            }
            // It was away when this was answered, and asks again; the answer is on its way.
            Report::Asked { attempt: ref of, ref ask } if of == attempt && course.answered.contains(&ask.request) => {
                false
            }
            Report::Asked { attempt: ref of, .. }
            | Report::Withdrawn { attempt: ref of, .. }
            | Report::Limited { attempt: ref of, .. } => {
                if of == attempt {
                    self.post.send(report);
                }
                false
            }
            Report::Started { .. } | Report::Active { .. } | Report::Far { .. } | Report::Refused { .. } => false,
            Report::NotStarted { task, reason } => {
                course.refused = Some(reason).filter(|_| task == attempt.task);
                true
            }
            Report::Failed { .. } | Report::Ended { .. } => true,
        }
    }

    /// An order about this attempt; says whether to look at the server.
    async fn ordered(&mut self, course: &mut Course, order: Order) -> bool {
        let attempt = course.attempt.clone();
        match order {
            Order::Assign { task, .. } => {
                let reason = format!("this worker is busy with {attempt}");
                self.post.send(Report::NotStarted { task, reason });
                false
            }
            Order::Drain => {
                self.draining = true;
                false
            }
            Order::Stop | Order::Quit { .. } => {
                course.leaving.get_or_insert_with(Instant::now);
                course.farewell = Some(Farewell::Stopped);
                self.end(course, Order::End { attempt, ending: Ending::Stopped }).await;
                true
            }
            Order::Room(there) => {
                self.post.connect(there);
                false
            }
            Order::Gateway { .. } | Order::Know { .. } => false,
            Order::Cancel { .. } | Order::End { .. } => {
                self.end(course, order).await;
                true
            }
            Order::Permit { ref request, .. } => {
                self.post.answered(request);
                course.answered.insert(request.clone());
                self.forward(&attempt, &order).await;
                false
            }
            Order::Extend { .. } => {
                self.forward(&attempt, &order).await;
                false
            }
        }
    }

    async fn end(&mut self, course: &mut Course, order: Order) {
        self.forward(&course.attempt, &order).await;
        // What a person cancelled stays so.
        if !matches!(course.end, Some((Order::Cancel { .. }, _))) {
            course.end = Some((order, Instant::now()));
        }
    }

    /// What the server says of the attempt, once it has ended.
    async fn look(&mut self, claim: &Claim<FileLease>, course: &mut Course) -> Result<Option<Came>, Left> {
        let (engine, task) = (self.engine.clone(), course.attempt.task.clone());
        let record = match self.ask(claim, course, Box::pin(engine.get(&task))).await? {
            Ok(record) => record,
            Err(QueueError::Unreachable(why)) => {
                tracing::warn!(attempt = %course.attempt, why, "the NATS server does not say how it is");
                return Ok(None);
            }
            Err(QueueError::Unknown(_)) if course.unsure => {
                course.unsure = false;
                course.since = Instant::now();
                let handed_over = self.hand_over(claim, course).await?;
                return Ok(handed_over.err().map(|error| Came::unbegun(error.to_string())));
            }
            Err(error) => return Ok(Some(Came::lost(error.to_string()))),
        };
        course.unsure = false;
        let end = match record.standing {
            Standing::Running { .. } => {
                self.begun = true;
                return Ok(None);
            }
            Standing::Ended => {
                let whole = self.ask(claim, course, Box::pin(engine.result(&task))).await?;
                return Ok(Some(came(&record, whole.ok().flatten())));
            }
            Standing::Retrying { .. } | Standing::Asking { .. } => return Ok(Some(came(&record, None))),
            Standing::Waiting => match &course.end {
                Some((order, _)) => ending(order),
                None if course.refused.is_none() && course.since.elapsed() < UNCLAIMED => {
                    self.assign(course).await;
                    return Ok(None);
                }
                None => return self.withdraw(claim, course).await,
            },
            Standing::Claimed => {
                let message = "the worker elsewhere vanished, and its lease ran out";
                self.lose(message);
                match &course.end {
                    Some((order @ Order::Cancel { .. }, _)) => ending(order),
                    Some(_) | None => Ending::Lost { message: message.into() },
                }
            }
        };
        Ok(match self.ask(claim, course, Box::pin(engine.end(&task, end.clone()))).await? {
            Ok(_) if end == Ending::Cancelled => None,
            Ok(_) => Some(Came::plain(end)),
            // Somebody took it, or came back, at this very moment.
            Err(_) => None,
        })
    }
}

impl Deputy {
    /// Takes back what nobody takes. That nobody has begun it, the server says in one step with taking it away.
    async fn withdraw(&mut self, claim: &Claim<FileLease>, course: &mut Course) -> Result<Option<Came>, Left> {
        let (engine, task) = (self.engine.clone(), course.attempt.task.clone());
        Ok(match self.ask(claim, course, Box::pin(engine.withdraw(&task))).await? {
            Ok(true) => {
                Some(Came::unbegun(course.refused.take().unwrap_or_else(|| "no worker elsewhere took it".to_owned())))
            }
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(attempt = %course.attempt, %error, "it could not be taken back");
                // What was not answered may have been done.
                course.unsure = true;
                None
            }
        })
    }
}

impl Course {
    fn new(claim: &Claim<FileLease>, attempt: &AttemptRef, assigned: &Assigned, taken_up: bool) -> Self {
        let Assigned { may_spend, checks } = assigned.clone();
        let tell = WorkerTell::Assign { task: attempt.task.clone(), may_spend, checks };
        // They go into the prompt in short anyway.
        let short = claim.prerequisites.iter().map(|outcome| outcome.clone().clipped(64 * 1024)).collect();
        Self {
            attempt: attempt.clone(),
            assign: Told::Assign { tell: Box::new(tell), prerequisites: short, previous: claim.previous.clone() },
            since: Instant::now(),
            refused: None,
            told: None,
            unsure: taken_up,
            begins: !taken_up,
            noted: taken_up,
            end: None,
            answered: BTreeSet::new(),
            leaving: None,
            farewell: None,
            activity: Activity::default(),
            silent: None,
            gap: None,
        }
    }

    /// Since when a server that says nothing is in the way.
    fn hurries(&self) -> Option<Instant> {
        self.leaving.or_else(|| self.end.as_ref().filter(|_| self.begins).map(|(_, since)| *since))
    }
}

/// How an attempt ends that is ordered to.
fn ending(order: &Order) -> Ending {
    match order {
        Order::End { ending, .. } => ending.clone(),
        _ => Ending::Cancelled,
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
    Came { ending, spend, outcome: outcome.map(Box::new), unbegun: None }
}
