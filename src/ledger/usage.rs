//! What was used, what it cost and what was saved: one fold over the rows, for a person who asks.
//!
//! Needs no room. Must not print. Its one surprise: what engines say about attempts whose calls did not pass the gateway
//! is added as an estimate, and kept apart as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use jiff::civil::Date;

use super::{LedgerError, Prices, Rows, day};
use crate::model::{
    AttemptRef, MicroUsd, Spend, TaskRef,
    caching::Caching,
    gateway::{Call, Caller, Drift, EngineTotal},
    savings::Savings,
};

/// What the sums are told by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum By {
    /// Who made the call.
    #[default]
    Agent,
    /// The model that served it.
    Model,
    /// The goal it was made for.
    Goal,
    /// The task it was made for.
    Task,
    /// The day it began, UTC.
    Day,
}

impl By {
    /// Every way.
    pub const ALL: [Self; 5] = [Self::Agent, Self::Model, Self::Goal, Self::Task, Self::Day];

    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Goal => "goal",
            Self::Task => "task",
            Self::Day => "day",
        }
    }

    fn of_call(self, call: &Call) -> Option<String> {
        match self {
            Self::Agent => Some(match &call.caller {
                Caller::Worker { agent, .. } => agent.to_string(),
                Caller::Orchestrator { .. } => "orchestrator".to_owned(),
            }),
            Self::Model => Some(call.model.clone()),
            Self::Goal => call.goal().map(ToString::to_string),
            Self::Task => call.attempt().map(|attempt| attempt.task.to_string()),
            Self::Day => Some(day(call.at).to_string()),
        }
    }

    fn of_total(self, total: &EngineTotal) -> Option<String> {
        match self {
            Self::Agent => Some(total.attempt.task.agent.to_string()),
            Self::Model | Self::Goal => None,
            Self::Task => Some(total.attempt.task.to_string()),
            Self::Day => Some(day(total.at).to_string()),
        }
    }
}

impl FromStr for By {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|by| by.word() == text);
        known.ok_or_else(|| "agent, model, goal, task or day".to_owned())
    }
}

/// Everything about a stretch of days.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// The days with calls.
    pub days: BTreeSet<Date>,
    /// All of it.
    pub total: Spend,
    /// The part that only engines told of.
    pub by_engines: Spend,
    /// By what was asked for; `None` where a call has none.
    pub groups: BTreeMap<Option<String>, Spend>,
    /// By model.
    pub models: BTreeMap<String, Spend>,
    /// What was saved.
    pub savings: Savings,
    /// How the cache was used.
    pub caching: Caching,
    /// Models that have no price.
    pub unpriced: BTreeSet<String>,
    /// Calls whose price was another one when they were made.
    pub repriced: u64,
    /// Attempts of which both gateway and engine told.
    pub compared: u64,
    /// Those on which they do not agree.
    pub drifts: Vec<Drift>,
}

/// Folds everything from `since` on. `top` is the model that savings are compared with.
pub fn fold(rows: &Rows, since: Date, by: By, prices: &Prices, top: &str) -> Result<Usage, LedgerError> {
    let mut usage = Usage::default();
    // A session may have begun the day before.
    let before = since.yesterday().unwrap_or(since);
    let mut attempts: BTreeMap<AttemptRef, Spend> = BTreeMap::new();
    let mut tasks: BTreeSet<TaskRef> = BTreeSet::new();
    let mut totals: BTreeMap<AttemptRef, EngineTotal> = BTreeMap::new();
    let mut begun = false;
    for day in rows.days(before)? {
        if day >= since && !std::mem::replace(&mut begun, true) {
            usage.caching.clear();
        }
        rows.calls(day, |call| {
            let appraisal = prices.appraise(&call, top);
            usage.caching.add(&call, appraisal.and_then(|appraisal| appraisal.min_cacheable));
            if let Some(attempt) = call.attempt() {
                tasks.insert(attempt.task.clone());
                // Begun the day before, an attempt may end in these days: it is compared as a whole.
                *attempts.entry(attempt.clone()).or_default() += call.spend();
            }
            if day < since {
                return;
            }
            usage.count(&call, by);
            usage.savings.add(&call, appraisal.as_ref());
            if !prices.knows(&call.model) && call.usage.total() > 0 {
                usage.unpriced.insert(call.model.clone());
            }
            if appraisal.is_some() {
                let now = prices.cost(&call.model, &call.usage, &call.modifiers, call.at);
                usage.repriced += u64::from(now.cost != call.cost);
            }
        })?;
        if day >= since {
            totals.extend(rows.engines(day)?.into_iter().map(|total| (total.attempt.clone(), total)));
        }
    }
    if !begun {
        usage.caching.clear();
    }
    for (attempt, total) in totals {
        if let Some(gateway) = attempts.get(&attempt).copied() {
            usage.compared += 1;
            usage.drifts.extend(Some(Drift { attempt, gateway, engine: total.spend }).filter(Drift::is_notable));
        } else if !tasks.contains(&attempt.task) {
            usage.count_total(&total, by);
        }
    }
    Ok(usage)
}

impl Usage {
    fn count(&mut self, call: &Call, by: By) {
        let spend = call.spend();
        self.days.insert(day(call.at));
        self.total += spend;
        *self.models.entry(call.model.clone()).or_default() += spend;
        *self.groups.entry(by.of_call(call)).or_default() += spend;
    }

    fn count_total(&mut self, total: &EngineTotal, by: By) {
        let spend = Spend { calls: 0, estimated: total.spend.cost, ..total.spend };
        self.days.insert(day(total.at));
        self.total += spend;
        self.by_engines += spend;
        *self.groups.entry(by.of_total(total)).or_default() += spend;
    }

    /// What a day costs in the mean.
    pub fn per_day(&self) -> MicroUsd {
        let days = i64::try_from(self.days.len()).unwrap_or(i64::MAX);
        MicroUsd(self.total.cost.0.checked_div(days).unwrap_or_default())
    }
}

/// What one attempt has cost, by who asked within it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parts {
    /// All calls of it.
    pub all: Spend,
    /// Those of its sub-agents, by their ids; with the one that started it, where that was a sub-agent too.
    pub subagents: BTreeMap<String, (Option<String>, Spend)>,
    /// What its engine says.
    pub engine: Option<Spend>,
}

impl Parts {
    /// How far gateway and engine are apart.
    pub fn drift(&self, attempt: &AttemptRef) -> Option<Drift> {
        let engine = self.engine.filter(|_| self.all.calls > 0)?;
        Some(Drift { attempt: attempt.clone(), gateway: self.all, engine })
    }
}

/// The attempts of a task, by number, from the rows of these days.
pub fn attempts(rows: &Rows, task: &TaskRef, from: Date, to: Date) -> Result<BTreeMap<u32, Parts>, LedgerError> {
    let mut found: BTreeMap<u32, Parts> = BTreeMap::new();
    for day in rows.days(from)?.into_iter().filter(|day| *day <= to) {
        rows.calls(day, |call| {
            let Some(attempt) = call.attempt().filter(|attempt| attempt.task == *task) else { return };
            let parts = found.entry(attempt.n).or_default();
            parts.all += call.spend();
            if let Some(id) = &call.subagent {
                let (parent, spend) = parts.subagents.entry(id.clone()).or_default();
                *spend += call.spend();
                parent.clone_from(&call.parent);
            }
        })?;
        for total in rows.engines(day)?.into_iter().filter(|total| total.attempt.task == *task) {
            found.entry(total.attempt.n).or_default().engine = Some(total.spend);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Ledger, sample},
        *,
    };
    use crate::model::{self, CostSource};

    fn call(id: &str, at: &str, task: Option<&str>, model: &str, tokens: [u64; 4]) -> Call {
        let [input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens] = tokens;
        let mut call = sample::call(id, at);
        call.model = model.into();
        call.usage = model::Usage {
            input_tokens,
            output_tokens,
            cache_read_input_tokens,
            cache_creation_input_tokens,
            ..model::Usage::default()
        };
        let priced = Prices::embedded().cost(model, &call.usage, &call.modifiers, call.at);
        (call.cost, call.estimated) = (priced.cost, priced.estimated);
        if let Some(task) = task {
            let task: TaskRef = task.parse().unwrap();
            call.caller = Caller::Worker { agent: task.agent.clone(), attempt: Some(task.attempt(1)) };
            call.session_id = Some(task.to_string());
            call.goal = Some("g1".parse().unwrap());
        }
        call
    }

    fn ledger(dir: &std::path::Path) -> Rows {
        let mut ledger = Ledger::open(dir).unwrap();
        let mut sub = call("4", "2026-11-22T10:00:20Z", Some("anga/y"), "claude-haiku-4-5", [500, 10, 0, 0]);
        sub.subagent = Some("sub-1".into());
        let rows = [
            call("1", "2026-11-21T23:59:00Z", Some("marie/x"), "claude-sonnet-5-5", [100, 50, 0, 9_000]),
            call("2", "2026-11-22T00:00:30Z", Some("marie/x"), "claude-sonnet-5-5", [100, 50, 9_000, 100]),
            call("3", "2026-11-22T10:00:00Z", None, "claude-opus-5-5", [2_000, 900, 0, 0]),
            sub,
            call("5", "2026-11-23T10:00:00Z", Some("anga/y"), "claude-novel-9", [10, 10, 0, 0]),
        ];
        for row in &rows {
            ledger.append(row).unwrap();
        }
        for (task, cost, input) in [("marie/x", 40_000, 18_400), ("anga/login", 7_000, 300)] {
            let task: TaskRef = task.parse().unwrap();
            let tokens = model::Usage { input_tokens: input, ..model::Usage::default() };
            let spend = Spend::of(tokens, MicroUsd(cost), CostSource::Reported);
            let at = "2026-11-22T00:01:00Z".parse().unwrap();
            ledger.append_total(&EngineTotal { at, attempt: task.attempt(1), spend }).unwrap();
        }
        ledger.rows().clone()
    }

    #[test]
    fn the_sums_are_those_of_the_rows_to_the_micro_dollar_however_they_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let rows = ledger(dir.path());
        let since: Date = "2026-11-22".parse().unwrap();
        let prices = Prices::embedded();
        let fold = |by| fold(&rows, since, by, &prices, "opus").unwrap();
        // 100×2 + 50×10 + 9,000×0.1 + 100×2.5; 2,000×4 + 900×20; 500×1 + 10×5; 10×10 + 10×50 of a model nobody knows
        let (second, third, fourth, fifth) = (200 + 500 + 900 + 250, 8_000 + 18_000, 550, 600);
        let engine = 7_000;
        for by in By::ALL {
            let usage = fold(by);
            assert_eq!(usage.total.cost.0, second + third + fourth + fifth + engine, "{by:?}");
            assert_eq!(usage.groups.values().map(|spend| spend.cost.0).sum::<i64>(), usage.total.cost.0, "{by:?}");
            assert_eq!((usage.total.estimated.0, usage.by_engines.cost.0), (fifth + engine, engine));
            assert_eq!(usage.days.len(), 2);
        }
        let named = |by, name: &str| fold(by).groups[&Some(name.to_owned())].cost.0;
        assert_eq!(named(By::Agent, "anga"), fourth + fifth + engine);
        assert_eq!(named(By::Goal, "g1"), second + fourth + fifth);
        assert_eq!(named(By::Task, "anga/y"), fourth + fifth);
        assert_eq!(named(By::Day, "2026-11-22"), second + third + fourth + engine);
        assert_eq!(named(By::Model, "claude-opus-5-5"), third);
    }

    #[test]
    fn savings_misses_and_drift_come_from_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        let rows = ledger(dir.path());
        let prices = Prices::embedded();
        let usage = fold(&rows, "2026-11-22".parse().unwrap(), By::Agent, &prices, "opus").unwrap();
        // Three exact calls. Without the cache: 9,200×2 + 500; the others as they were.
        let savings = usage.savings;
        assert_eq!((savings.calls, savings.left_out), (3, 1));
        assert_eq!(savings.actual.0, 1_850 + 26_000 + 550);
        assert_eq!(savings.no_cache.0, 18_900 + 26_000 + 550);
        // On the top model: 100×4 + 50×20 + 9,000×0.2 + 100×5; 26,000; 500×4 + 10×20
        assert_eq!(savings.top.0, 400 + 1_000 + 1_800 + 500 + 26_000 + 2_200);
        assert_eq!(savings.top_no_cache.0, 36_800 + 1_000 + 26_000 + 2_200);
        // The call of the day before is remembered and not counted.
        assert_eq!((usage.caching.hits, usage.caching.calls()), (1, 3));
        assert_eq!(usage.unpriced.iter().collect::<Vec<_>>(), ["claude-novel-9"]);
        assert_eq!(usage.repriced, 0);
        // The attempt as a whole, both days of it: 200 + 500 + 22,500 and 1,850 against 40,000.
        assert_eq!(usage.compared, 1);
        let drift = &usage.drifts[0];
        assert_eq!((drift.gateway.cost.0, drift.engine.cost.0), (23_200 + 1_850, 40_000));
        assert_eq!((drift.cost_percent(), drift.token_percent()), (Some(-59), Some(0)));
        let empty = fold(&rows, "2027-01-01".parse().unwrap(), By::Agent, &prices, "opus").unwrap();
        assert_eq!(empty, Usage::default());
    }

    #[test]
    fn a_tasks_attempts_are_told_apart_with_their_sub_agents() {
        let dir = tempfile::tempdir().unwrap();
        let rows = ledger(dir.path());
        let (from, to): (Date, Date) = ("2026-11-21".parse().unwrap(), "2026-11-23".parse().unwrap());
        let found = attempts(&rows, &"anga/y".parse().unwrap(), from, to).unwrap();
        let parts = &found[&1];
        assert_eq!((parts.all.calls, parts.engine), (2, None));
        assert_eq!(parts.subagents["sub-1"].1.cost.0, 550);
        let task: TaskRef = "marie/x".parse().unwrap();
        let parts = &attempts(&rows, &task, from, to).unwrap()[&1];
        assert_eq!(parts.drift(&task.attempt(1)).unwrap().cost_percent(), Some(-59));
    }
}
