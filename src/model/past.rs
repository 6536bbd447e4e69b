//! Ended tasks in short: what a list shows of them and what others that depend on them ask.
//!
//! Its one surprise: times are kept in microseconds and rare things behind a pointer, because a room keeps a hundred
//! thousand of these and sends them to every screen.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AttemptRecord, CostSource, Dependency, Effort, EndState, Ending, GoalId, MicroUsd, Outcome, Priority, Spend,
    Standing, TaskRecord, TaskRef, TaskSpec, Usage, text,
};

/// An ended task in short. Its name is kept beside it; the queue has the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    #[serde(rename = "t")]
    title: Box<str>,
    #[serde(rename = "s")]
    state: EndState,
    /// How it ended, where that is not [`Ending::Done`].
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    ending: Option<Box<Ending>>,
    /// The first line of what came of it.
    #[serde(rename = "w")]
    summary: Box<str>,
    #[serde(rename = "n")]
    attempt: u32,
    #[serde(rename = "p")]
    priority: Priority,
    /// Seen, started, ended; microseconds since 1970.
    #[serde(rename = "a")]
    at: [i64; 3],
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    cost: MicroUsd,
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    cost_source: CostSource,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    rest: Option<Box<Rest>>,
}

/// What few tasks have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Rest {
    goal: Option<GoalId>,
    usage: Usage,
    dependencies: Vec<Dependency>,
    timeout: Option<Duration>,
    max_attempts: Option<u32>,
    model: Option<String>,
    /// The model that was asked for.
    asked: Option<String>,
    effort: Option<Effort>,
    foreign: bool,
    retry_of: Option<TaskRef>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Past {
    /// Ended tasks that are kept whole: the newest.
    pub const WHOLE: usize = 1_000;

    /// Columns of its one line that are kept.
    const LINE: usize = 160;

    /// An ended task in short; `None` where it has no outcome.
    pub fn of(record: &TaskRecord) -> Option<Self> {
        let outcome = record.outcome.as_ref().filter(|_| record.standing == Standing::Ended)?;
        Some(Self::new(&record.spec, record.seen_at, outcome))
    }

    /// The same from its parts.
    pub fn new(spec: &TaskSpec, seen_at: Timestamp, outcome: &Outcome) -> Self {
        let rest = Rest {
            goal: spec.goal.clone().or_else(|| outcome.goal.clone()),
            usage: outcome.usage,
            dependencies: spec.dependencies.clone(),
            timeout: spec.timeout,
            max_attempts: spec.max_attempts,
            model: outcome.model.clone(),
            asked: spec.model.clone(),
            effort: spec.effort,
            foreign: outcome.foreign,
            retry_of: spec.retry_of.clone(),
        };
        let ending = (outcome.ending != Ending::Done).then(|| Box::new(outcome.ending.clone().clipped(Self::LINE)));
        Self {
            title: text::clip(&spec.title, 120).into(),
            state: outcome.state,
            // A failure's line is its ending's.
            summary: if ending.is_some() { "".into() } else { text::first_line(&outcome.summary, Self::LINE).into() },
            ending,
            attempt: outcome.attempt,
            priority: spec.priority,
            at: [seen_at, outcome.started_at, outcome.completed_at].map(Timestamp::as_microsecond),
            cost: outcome.cost,
            cost_source: outcome.cost_source,
            rest: (!is_default(&rest)).then(|| Box::new(rest)),
        }
    }

    /// How it ended.
    pub fn state(&self) -> EndState {
        self.state
    }

    /// When it ended.
    pub fn ended_at(&self) -> Timestamp {
        moment(self.at[2])
    }

    /// Its short name.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The goal it served.
    pub fn goal(&self) -> Option<&GoalId> {
        self.rest.as_ref()?.goal.as_ref()
    }

    /// The task on another agent that it is another try of.
    pub fn retry_of(&self) -> Option<&TaskRef> {
        self.rest.as_ref()?.retry_of.as_ref()
    }

    /// Tokens and money of all attempts.
    pub fn spend(&self) -> Spend {
        let usage = self.rest.as_ref().map(|rest| rest.usage).unwrap_or_default();
        Spend::of(usage, self.cost, self.cost_source)
    }

    /// The same as a record: without its text and with the attempt that decided as the only one.
    pub fn record(&self, task: &TaskRef) -> TaskRecord {
        let rest = self.rest.as_deref().cloned().unwrap_or_default();
        let [seen_at, started_at, completed_at] = self.at.map(moment);
        let ending = self.ending.as_deref().cloned().unwrap_or(Ending::Done);
        let mut spec = TaskSpec::new(task.clone(), "");
        spec.title = self.title.to_string();
        spec.dependencies = rest.dependencies;
        spec.priority = self.priority;
        spec.timeout = rest.timeout;
        spec.max_attempts = rest.max_attempts;
        spec.goal.clone_from(&rest.goal);
        spec.retry_of = rest.retry_of;
        spec.model = rest.asked;
        spec.effort = rest.effort;
        let attempt = (self.attempt > 0).then(|| AttemptRecord {
            n: self.attempt,
            started_at,
            ended_at: Some(completed_at),
            ending: Some(ending.clone()),
            session_id: None,
            spend: self.spend(),
            log: task.attempt(self.attempt).log(),
        });
        let summary = if self.ending.is_some() { ending.sentence() } else { self.summary.to_string() };
        let outcome = Outcome {
            attempt: self.attempt,
            summary,
            started_at,
            usage: rest.usage,
            cost: self.cost,
            cost_source: self.cost_source,
            model: rest.model,
            goal: rest.goal,
            foreign: rest.foreign,
            ..Outcome::plain(task.clone(), self.state, ending, completed_at)
        };
        let mut record = TaskRecord::new(spec, seen_at);
        record.standing = Standing::Ended;
        record.attempts = attempt.into_iter().collect();
        record.outcome = Some(outcome);
        record
    }
}

fn moment(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> TaskRecord {
        let mut spec = TaskSpec::new("marie/a".parse().unwrap(), "Look at it.\nThen write.");
        spec.dependencies = vec!["b".parse().unwrap()];
        spec.goal = Some("g1".parse().unwrap());
        spec.priority = Priority(7);
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let outcome = Outcome {
            task: spec.task.clone(),
            state: EndState::Dead,
            ending: Ending::ExitCode { code: 2, message: "no".into() },
            attempt: 3,
            summary: "exit 2: no".into(),
            findings: vec!["one".into()],
            artifacts: Vec::new(),
            started_at: at(20),
            completed_at: at(30),
            usage: Usage { input_tokens: 3, ..Usage::default() },
            cost: MicroUsd(12),
            cost_source: CostSource::Measured,
            model: Some("sonnet".into()),
            session_id: None,
            goal: None,
            foreign: false,
        };
        let mut record = TaskRecord::new(spec, at(10));
        record.standing = Standing::Ended;
        record.outcome = Some(outcome);
        record
    }

    #[test]
    fn what_a_list_shows_of_an_ended_task_outlives_its_shortening() {
        let long = record();
        let past = Past::of(&long).unwrap();
        let short = past.record(long.task());
        assert_eq!(short.spec.title, "Look at it.");
        assert_eq!((short.spec.priority, &short.spec.dependencies), (Priority(7), &long.spec.dependencies));
        assert_eq!((short.seen_at, short.spec.goal.clone()), (long.seen_at, long.spec.goal.clone()));
        let (before, after) = (long.outcome.unwrap(), short.outcome.unwrap());
        assert_eq!((after.state, &after.ending, after.attempt), (before.state, &before.ending, 3));
        assert_eq!((after.started_at, after.completed_at), (before.started_at, before.completed_at));
        assert_eq!((after.usage, after.cost, after.summary), (before.usage, before.cost, before.summary));
        assert_eq!(short.attempts[0].log, "logs/marie/a.3.log");
        assert_eq!(Past::of(&TaskRecord::new(long.spec, long.seen_at)), None);
    }

    #[test]
    fn it_travels_as_json_and_stays_small() {
        let past = Past::of(&record()).unwrap();
        let line = serde_json::to_string(&past).unwrap();
        assert_eq!(serde_json::from_str::<Past>(&line).unwrap(), past);
        assert!(size_of::<Past>() <= 96, "{} bytes each", size_of::<Past>());
    }
}
