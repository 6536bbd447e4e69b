//! One task in memory, and the rules of its life.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    AttemptRecord, CostSource, EndState, Ending, MicroUsd, OnLost, Outcome, Standing, TaskRecord, TaskSpec, Usage,
    Verdict, text, timing,
};

/// Waits before the second, third, … attempt, as the file queue's settings have them.
const BACKOFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: TaskSpec,
    pub(super) seen_at: Timestamp,
    pub(super) claimed: bool,
    pub(super) attempts: Vec<Attempt>,
    /// Attempts up to this number are history.
    pub(super) settled: u32,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) record: AttemptRecord,
    pub(super) held: bool,
    pub(super) not_before: Option<Timestamp>,
    /// It was lost, and a person has to say what next.
    pub(super) asks: bool,
    /// The engine's session that it was to take up again.
    pub(super) resumed: Option<String>,
}

impl Entry {
    pub(super) fn attempt(&mut self, n: u32) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.record.n == n)
    }

    pub(super) fn current(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.record.n > self.settled)
    }

    pub(super) fn counted(&self) -> u32 {
        let counts = |a: &&Attempt| a.record.n > self.settled && a.record.ending.as_ref().is_none_or(Ending::counts);
        u32::try_from(self.attempts.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn has_resumed(&self, session: &str) -> bool {
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
    pub(super) fn close(&mut self, mut outcome: Outcome, before: u32) {
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
    pub(super) fn note_loss(&mut self, now: Timestamp) {
        let (settled, counted) = (self.settled, self.counted());
        let asks = self.spec.on_lost == OnLost::Ask;
        let lost = |a: &&mut Attempt| a.record.n > settled && a.record.ending.is_none() && !a.held;
        if let Some(attempt) = self.attempts.last_mut().filter(lost) {
            let message = format!("the worker of attempt {} vanished", attempt.record.n);
            attempt.record.ending = Some(Ending::Lost { message });
            attempt.record.ended_at = Some(now);
            attempt.asks = asks;
            let wait = timing::backoff(self.spec.backoff, &BACKOFF, &self.spec.task.attempt(attempt.record.n), counted);
            attempt.not_before = now.checked_add(wait).ok();
        }
    }

    /// Puts a taken task right that nobody works on: it waits again, waits for its next turn, or is over.
    pub(super) fn mend(&mut self, now: Timestamp, limit: u32) {
        self.note_loss(now);
        let Some(current) = self.current() else {
            self.claimed = false;
            return;
        };
        let Some(ending) = current.record.ending.clone().filter(|_| !current.asks) else { return };
        let allowed = self.spec.max_attempts.unwrap_or(limit);
        if let Verdict::End(state) = ending.verdict(self.counted(), allowed) {
            let outcome = self.outcome_without_attempt(ending, state, now);
            self.close(outcome, u32::MAX);
        }
    }

    /// Ends it without an attempt.
    pub(super) fn end(&mut self, ending: Ending, now: Timestamp) {
        let counted = self.counted().max(1);
        let state = match ending.verdict(counted, counted) {
            Verdict::End(state) => state,
            Verdict::Retry | Verdict::Park(_) => EndState::Failed,
        };
        let outcome = self.outcome_without_attempt(ending, state, now);
        self.close(outcome, u32::MAX);
    }

    /// The outcome of a task that no attempt brought to its end.
    pub(super) fn outcome_without_attempt(&self, ending: Ending, state: EndState, now: Timestamp) -> Outcome {
        Outcome {
            task: self.spec.task.clone(),
            state,
            summary: ending.sentence(),
            ending,
            attempt: self.attempts.last().map_or(0, |a| a.record.n),
            findings: Vec::new(),
            artifacts: Vec::new(),
            started_at: now,
            completed_at: now,
            usage: Usage::default(),
            cost: MicroUsd::default(),
            cost_source: CostSource::default(),
            model: None,
            session_id: self.attempts.last().and_then(|a| a.record.session_id.clone()),
            goal: self.spec.goal.clone(),
            foreign: false,
        }
    }
}
