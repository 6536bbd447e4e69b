//! Money and tokens, folded from model calls.
//!
//! Its one surprise: an attempt whose calls do not pass the gateway is counted by its engine's own word, as an estimate.

use std::collections::{BTreeMap, VecDeque};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::helpers::Helpers;
use crate::model::{
    AgentName, AttemptRef, GoalId, MicroUsd, Spend, TaskRef,
    caching::Caching,
    gateway::{Call, Caller, Drift, EngineTotal},
    savings::{Appraisal, Savings},
};

/// What was spent, by everything an operator asks for. Days are UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Money {
    /// The day that `today` and the maps below belong to.
    pub day: Option<Date>,
    /// This day, all callers.
    pub today: Spend,
    /// The days before this one of which there is something, at most [`Money::DAYS`].
    pub days: BTreeMap<Date, Spend>,
    /// This day, by agent.
    pub agents: BTreeMap<AgentName, Spend>,
    /// This day, the orchestrator.
    pub orchestrator: Spend,
    /// This day, by model.
    pub models: BTreeMap<String, Spend>,
    /// This day, what caching and cheaper models saved.
    pub savings: Savings,
    /// This day, how the cache was used.
    pub caching: Caching,
    /// The sub-agents of tasks.
    pub helpers: Helpers,
    /// By task, for as long as the room has seen it.
    pub tasks: BTreeMap<TaskRef, Spend>,
    /// By goal: the orchestrator's own calls for it. Its tasks are in `tasks`.
    pub goals: BTreeMap<GoalId, Spend>,
    /// Attempts on which gateway and engine do not agree, the newest last; at most [`Money::DRIFTS`].
    pub drifts: VecDeque<Drift>,
    /// The attempt that runs, by task, and what the gateway has counted of it.
    running: BTreeMap<TaskRef, (u32, Spend)>,
    /// Minutes since 1970 and what was spent in each, the last hour's.
    recent: VecDeque<(i64, MicroUsd)>,
}

impl Money {
    /// So many days are remembered.
    pub const DAYS: usize = 31;
    /// So many drifts are remembered.
    pub const DRIFTS: usize = 20;

    /// Adds one call, and what it would have cost otherwise.
    pub fn add(&mut self, call: &Call, appraisal: Option<&Appraisal>) {
        self.turn(call.at);
        let spend = call.spend();
        // A call that began before midnight is paid by the day before.
        let today = self.day == Some(day(call.at));
        if today {
            self.count(call.at, spend);
            *self.models.entry(call.model.clone()).or_default() += spend;
            self.savings.add(call, appraisal);
            self.caching.add(call, appraisal.and_then(|appraisal| appraisal.min_cacheable));
        } else {
            self.count_day(day(call.at), spend);
        }
        match &call.caller {
            Caller::Worker { agent, attempt } => {
                if today {
                    *self.agents.entry(agent.clone()).or_default() += spend;
                }
                if let Some(attempt) = attempt {
                    *self.tasks.entry(attempt.task.clone()).or_default() += spend;
                    self.helpers.called(attempt, call);
                    self.run(attempt, spend);
                }
            }
            Caller::Orchestrator { goal } => {
                if today {
                    self.orchestrator += spend;
                }
                if let Some(goal) = goal {
                    *self.goals.entry(goal.clone()).or_default() += spend;
                }
            }
        }
    }

    /// Adds what a former day has left of lasting interest.
    pub fn add_day(
        &mut self,
        day: Date,
        total: Spend,
        tasks: BTreeMap<TaskRef, Spend>,
        goals: BTreeMap<GoalId, Spend>,
    ) {
        self.count_day(day, total);
        for (task, spend) in tasks {
            *self.tasks.entry(task).or_default() += spend;
        }
        for (goal, spend) in goals {
            *self.goals.entry(goal).or_default() += spend;
        }
    }

    fn count_day(&mut self, day: Date, spend: Spend) {
        *self.days.entry(day).or_default() += spend;
        while self.days.len() > Self::DAYS {
            self.days.pop_first();
        }
    }

    fn run(&mut self, attempt: &AttemptRef, spend: Spend) {
        let (n, sum) = self.running.entry(attempt.task.clone()).or_default();
        if *n != attempt.n {
            (*n, *sum) = (attempt.n, Spend::default());
        }
        *sum += spend;
    }

    fn count(&mut self, at: Timestamp, spend: Spend) {
        self.today += spend;
        let minute = at.as_second().div_euclid(60);
        match self.recent.back_mut() {
            Some((last, sum)) if *last >= minute => *sum += spend.cost,
            Some(_) | None => self.recent.push_back((minute, spend.cost)),
        }
        while self.recent.front().is_some_and(|(first, _)| *first <= minute - 60) {
            self.recent.pop_front();
        }
    }

    /// What the last hour has cost.
    pub fn burn(&self, now: Timestamp) -> MicroUsd {
        let since = now.as_second().div_euclid(60) - 60;
        self.recent.iter().filter(|(minute, _)| *minute > since).map(|(_, cost)| *cost).sum()
    }

    /// An attempt has ended, and its engine says what it has used. Returns what that adds to the sums: all of it where no
    /// call of the task has passed the gateway, else nothing.
    pub fn engine_says(&mut self, total: &EngineTotal) -> Spend {
        let EngineTotal { at, attempt, spend } = total;
        let counted = self.tasks.get(&attempt.task).is_some_and(|known| known.calls > 0);
        let running = self.running.remove(&attempt.task).filter(|(n, _)| *n == attempt.n);
        if let Some((_, gateway)) = running {
            let drift = Drift { attempt: attempt.clone(), gateway, engine: *spend };
            if drift.is_notable() {
                self.drifts.push_back(drift);
                if self.drifts.len() > Self::DRIFTS {
                    self.drifts.pop_front();
                }
            }
        }
        if counted || (spend.cost.is_zero() && spend.usage.total() == 0) {
            return Spend::default();
        }
        self.turn(*at);
        let spend = Spend { calls: 0, estimated: spend.cost, ..*spend };
        self.count(*at, spend);
        *self.agents.entry(attempt.task.agent.clone()).or_default() += spend;
        *self.tasks.entry(attempt.task.clone()).or_default() += spend;
        spend
    }

    /// Begins a new day when `at` is on a later one; tells whether it did.
    pub(super) fn turn(&mut self, at: Timestamp) -> bool {
        let day = day(at);
        // Never back: a clock that is wrong for a moment must not forget what the day has cost.
        let later = self.day.is_none_or(|known| known < day);
        if later {
            if let Some(before) = self.day.filter(|_| self.today != Spend::default()) {
                self.count_day(before, self.today);
            }
            self.day = Some(day);
            self.today = Spend::default();
            self.agents.clear();
            self.orchestrator = Spend::default();
            self.models.clear();
            self.savings = Savings::default();
            self.caching.clear();
        }
        later
    }
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}
