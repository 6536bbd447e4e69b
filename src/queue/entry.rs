//! One task as a value, and the rules of its life: for the backends that keep a task in one piece.
//!
//! Owns what each step makes of it. Must not know where it is kept. Its one surprise: whether the newest attempt's lease
//! is held is not the task's own knowledge; whoever loads it says so.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    AttemptRecord, Changes, EndState, Ending, OnLost, Outcome, Spend, Standing, TaskRecord, TaskSpec, Verdict, text,
    timing,
};

/// What holds for every task that says nothing else.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Starts allowed.
    pub(super) attempts: u32,
    /// Waits before the second, third, … attempt.
    pub(super) backoff: Vec<Duration>,
}

/// What a claim won.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) n: u32,
    pub(super) counted: u32,
    pub(super) previous: Option<(Ending, Option<String>)>,
    pub(super) resume: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) spec: TaskSpec,
    pub(super) seen_at: Timestamp,
    #[serde(default)]
    pub(super) claimed: bool,
    #[serde(default)]
    pub(super) attempts: Vec<Attempt>,
    /// Attempts that another queue had counted before the first one here.
    #[serde(default)]
    pub(super) before: u32,
    /// Attempts up to this number are history.
    #[serde(default)]
    pub(super) settled: u32,
    #[serde(default)]
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) record: AttemptRecord,
    /// Somebody holds its lease.
    #[serde(skip)]
    pub(super) held: bool,
    #[serde(default)]
    pub(super) not_before: Option<Timestamp>,
    /// It was lost, and a person has to say what next.
    #[serde(default)]
    pub(super) asks: bool,
    /// The engine's session that it was to take up again.
    #[serde(default)]
    pub(super) resumed: Option<String>,
}

impl Entry {
    /// A task that has just been accepted.
    pub(super) fn new(spec: TaskSpec, now: Timestamp) -> Self {
        Self { spec, seen_at: now, claimed: false, attempts: Vec::new(), before: 0, settled: 0, outcome: None }
    }

    /// A task as another queue has it; attempts up to `settled` are history there. Its result is for the caller to put in.
    pub(super) fn of_record(spec: TaskSpec, record: &TaskRecord, settled: u32) -> Self {
        let last = record.last_attempt();
        let attempt = |record: &AttemptRecord, standing: &Standing| Attempt {
            record: record.clone(),
            held: false,
            not_before: match standing {
                Standing::Retrying { not_before, .. } if record.n == last => Some(*not_before),
                Standing::Waiting
                | Standing::Claimed
                | Standing::Running { .. }
                | Standing::Retrying { .. }
                | Standing::Asking { .. }
                | Standing::Ended => None,
            },
            asks: record.n == last && matches!(standing, Standing::Asking { .. }),
            resumed: None,
        };
        Self {
            claimed: record.standing != Standing::Waiting,
            attempts: record.attempts.iter().map(|one| attempt(one, &record.standing)).collect(),
            settled,
            ..Self::new(spec, record.seen_at)
        }
    }

    /// Counts a new attempt, or says why not; a task that is found lost or expired is put right by the way.
    pub(super) fn claim(&mut self, now: Timestamp, rules: &Rules) -> Result<Taken, &'static str> {
        match self.standing() {
            Standing::Ended => return Err("has ended"),
            Standing::Running { .. } => return Err("is running"),
            Standing::Claimed if self.current().is_some() => self.mend(now, rules),
            Standing::Asking { .. } => return Err("wants a person to decide"),
            Standing::Waiting | Standing::Claimed | Standing::Retrying { .. } => {}
        }
        if self.outcome.is_some() {
            return Err("has ended");
        }
        if matches!(self.standing(), Standing::Asking { .. }) {
            return Err("wants a person to decide");
        }
        if !self.claimed && self.spec.not_before.is_some_and(|at| at > now) {
            return Err("is not to start yet");
        }
        let expiry = self.spec.expires_at(self.seen_at, !self.attempts.is_empty());
        if let Some((_, message)) = expiry.filter(|(at, _)| *at <= now) {
            self.end(Ending::Expired { message }, now);
            return Err("has expired");
        }
        let counted = self.counted();
        if counted >= self.spec.max_attempts.unwrap_or(rules.attempts) {
            return Err("has used up its attempts");
        }
        let resume = self.spec.resume.clone().filter(|session| !self.has_resumed(session));
        let last = self.attempts.last();
        let previous = last.and_then(|a| Some((a.record.ending.clone()?, a.record.session_id.clone())));
        let n = last.map_or(self.before + 1, |a| a.record.n + 1);
        self.claimed = true;
        self.attempts.push(Attempt {
            record: AttemptRecord {
                n,
                started_at: now,
                ended_at: None,
                ending: None,
                session_id: None,
                spend: Spend::default(),
                log: self.spec.task.attempt(n).log(),
            },
            held: true,
            not_before: None,
            asks: false,
            resumed: resume.clone(),
        });
        Ok(Taken { n, counted, previous, resume })
    }

    /// Notes the engine's session of an attempt.
    pub(super) fn spawned(&mut self, n: u32, session: Option<&String>) {
        if let Some(attempt) = self.attempt(n) {
            attempt.record.session_id = session.cloned();
        }
    }

    /// Attempt `n` ended its task; false where another result or another attempt came before.
    pub(super) fn finish(&mut self, n: u32, mut outcome: Outcome) -> bool {
        outcome.attempt = n;
        if let Some(attempt) = self.attempt(n) {
            attempt.held = false;
            attempt.record.ended_at = Some(outcome.completed_at);
            attempt.record.ending = Some(outcome.ending.clone());
            attempt.record.spend = Spend::of(outcome.usage, outcome.cost, outcome.cost_source);
            if outcome.session_id.is_some() {
                attempt.record.session_id.clone_from(&outcome.session_id);
            }
        }
        if self.outcome.is_some() || self.attempts.last().is_some_and(|a| a.record.n != n) {
            return false;
        }
        self.close(outcome, n);
        true
    }

    /// Puts a whole outcome in place that was written by an attempt which could not say so any more.
    pub(super) fn put_back(&mut self, outcome: Outcome) {
        let before = self.attempts.iter().filter(|a| a.record.n < outcome.attempt);
        let earlier: i64 = before.map(|a| a.record.spend.cost.0).sum();
        if let Some(attempt) = self.attempt(outcome.attempt) {
            attempt.record.ended_at = Some(outcome.completed_at);
            attempt.record.ending = Some(outcome.ending.clone());
            attempt.record.session_id = outcome.session_id.clone().or(attempt.record.session_id.take());
            attempt.record.spend = Spend::of(outcome.usage, outcome.cost, outcome.cost_source);
            // The outcome has the earlier ones added; of tokens nobody asks by attempt.
            attempt.record.spend.cost.0 -= earlier;
        }
        self.outcome = Some(outcome);
    }

    /// Attempt `n` ended and its task did not.
    pub(super) fn fail(&mut self, n: u32, ending: Ending, spend: Spend, not_before: Timestamp, now: Timestamp) {
        let asks = matches!(ending, Ending::Lost { .. }) && self.spec.on_lost == OnLost::Ask;
        if let Some(attempt) = self.attempt(n) {
            attempt.held = false;
            attempt.asks = asks;
            attempt.not_before = Some(not_before);
            attempt.record.ended_at = Some(now);
            attempt.record.ending = Some(ending);
            attempt.record.spend = spend;
        }
    }

    /// Back to the inbox with a fresh budget; says what it is where that may not be. What changes in the task itself is
    /// for the caller to put in.
    pub(super) fn retry(&mut self, now: Timestamp, rules: &Rules) -> Result<(), String> {
        match self.standing() {
            Standing::Waiting => return Err("waiting already".into()),
            Standing::Running { attempt } => return Err(format!("running (attempt {attempt})")),
            Standing::Ended | Standing::Claimed | Standing::Retrying { .. } | Standing::Asking { .. } => {}
        }
        self.note_loss(now, rules);
        self.settled = self.attempts.last().map_or(0, |a| a.record.n);
        self.claimed = false;
        self.outcome = None;
        Ok(())
    }

    /// The newest session that an attempt had.
    pub(super) fn last_session(&self) -> Option<String> {
        self.attempts.iter().rev().find_map(|a| a.record.session_id.clone())
    }

    /// Puts a person's changes into `spec`, which is this task's.
    pub(super) fn change(&self, changes: &Changes, spec: &mut TaskSpec) {
        changes.apply(spec, self.last_session());
    }

    /// Ends it while no attempt runs: true where it had not ended; says what it is where that may not be.
    pub(super) fn end_now(&mut self, ending: Ending, now: Timestamp, rules: &Rules) -> Result<bool, String> {
        match self.standing() {
            Standing::Ended => return Ok(false),
            Standing::Running { attempt } => return Err(format!("running (attempt {attempt})")),
            Standing::Waiting | Standing::Claimed | Standing::Retrying { .. } | Standing::Asking { .. } => {}
        }
        self.note_loss(now, rules);
        self.end(ending, now);
        Ok(true)
    }

    /// Whether it was taken, has nobody who works on it, and will not start again by itself.
    pub(super) fn is_orphan(&self, rules: &Rules) -> bool {
        match self.standing() {
            Standing::Claimed => true,
            Standing::Retrying { .. } => self.current().and_then(|a| a.record.ending.as_ref()).is_some_and(|ending| {
                let allowed = self.spec.max_attempts.unwrap_or(rules.attempts);
                matches!(ending.verdict(self.counted(), allowed), Verdict::End(_))
            }),
            Standing::Waiting | Standing::Running { .. } | Standing::Asking { .. } | Standing::Ended => false,
        }
    }

    pub(super) fn attempt(&mut self, n: u32) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.record.n == n)
    }

    pub(super) fn current(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.record.n > self.settled)
    }

    fn counted(&self) -> u32 {
        let counts = |a: &&Attempt| a.record.n > self.settled && a.record.ending.as_ref().is_none_or(Ending::counts);
        u32::try_from(self.attempts.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }

    fn has_resumed(&self, session: &str) -> bool {
        self.attempts.iter().any(|a| a.record.n > self.settled && a.resumed.as_deref() == Some(session))
    }

    pub(super) fn standing(&self) -> Standing {
        if self.outcome.is_some() {
            return Standing::Ended;
        }
        if !self.claimed {
            return Standing::Waiting;
        }
        match self.current() {
            None => Standing::Claimed,
            Some(attempt) if attempt.asks => Standing::Asking { attempt: attempt.record.n },
            Some(attempt) => match attempt.not_before {
                Some(not_before) => Standing::Retrying { attempt: attempt.record.n, not_before },
                None if attempt.held => Standing::Running { attempt: attempt.record.n },
                None => Standing::Claimed,
            },
        }
    }

    pub(super) fn record(&self) -> TaskRecord {
        let mut record = TaskRecord::new(self.spec.clone(), self.seen_at);
        record.spec.title = text::scrub(&record.spec.title).into_owned();
        record.spec.description = text::scrub(&record.spec.description).into_owned();
        record.attempts = self.attempts.iter().map(|attempt| attempt.record.clone()).collect();
        record.standing = self.standing();
        record.outcome = self.outcome.clone().map(|outcome| outcome.clipped(TaskRecord::TEXT_LIMIT));
        record
    }

    /// Puts an outcome in place, earlier attempts added.
    fn close(&mut self, mut outcome: Outcome, before: u32) {
        for attempt in self.attempts.iter().filter(|a| a.record.n < before) {
            outcome.usage += attempt.record.spend.usage;
            outcome.cost += attempt.record.spend.cost;
        }
        if let Some(first) = self.attempts.first() {
            outcome.started_at = first.record.started_at;
        }
        self.outcome = Some(outcome);
    }

    /// Records that the holder of the newest attempt vanished, if so.
    fn note_loss(&mut self, now: Timestamp, rules: &Rules) {
        let (settled, counted) = (self.settled, self.counted());
        let asks = self.spec.on_lost == OnLost::Ask;
        let lost = |a: &&mut Attempt| a.record.n > settled && a.record.ending.is_none() && !a.held;
        if let Some(attempt) = self.attempts.last_mut().filter(lost) {
            let message = format!("the worker of attempt {} vanished", attempt.record.n);
            attempt.record.ending = Some(Ending::Lost { message });
            attempt.record.ended_at = Some(now);
            attempt.asks = asks;
            let wait =
                timing::backoff(self.spec.backoff, &rules.backoff, &self.spec.task.attempt(attempt.record.n), counted);
            attempt.not_before = now.checked_add(wait).ok();
        }
    }

    /// Puts a taken task right that nobody works on: it waits again, waits for its next turn, or is over.
    pub(super) fn mend(&mut self, now: Timestamp, rules: &Rules) {
        self.note_loss(now, rules);
        let Some(current) = self.current() else {
            self.claimed = false;
            return;
        };
        let Some(ending) = current.record.ending.clone().filter(|_| !current.asks) else { return };
        let allowed = self.spec.max_attempts.unwrap_or(rules.attempts);
        if let Verdict::End(state) = ending.verdict(self.counted(), allowed) {
            let outcome = self.outcome_without_attempt(ending, state, now);
            self.close(outcome, u32::MAX);
        }
    }

    /// Ends it without an attempt.
    fn end(&mut self, ending: Ending, now: Timestamp) {
        let counted = self.counted().max(1);
        let state = match ending.verdict(counted, counted) {
            Verdict::End(state) => state,
            Verdict::Retry | Verdict::Park(_) => EndState::Failed,
        };
        let outcome = self.outcome_without_attempt(ending, state, now);
        self.close(outcome, u32::MAX);
    }

    /// The outcome of a task that no attempt brought to its end.
    fn outcome_without_attempt(&self, ending: Ending, state: EndState, now: Timestamp) -> Outcome {
        Outcome {
            attempt: self.attempts.last().map_or(0, |a| a.record.n),
            session_id: self.attempts.last().and_then(|a| a.record.session_id.clone()),
            goal: self.spec.goal.clone(),
            ..Outcome::plain(self.spec.task.clone(), state, ending, now)
        }
    }
}
