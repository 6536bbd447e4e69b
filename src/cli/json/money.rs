//! Money as `--json` prints it: of `status`, of `usage`, and of one attempt in `show`.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use serde::Serialize;

use super::Spent;
use crate::{
    ledger::usage::{Parts, Usage},
    model::{
        AttemptRef, Spend,
        caching::{Caching, Miss},
        gateway::Drift,
        savings::Savings,
    },
    room::{State, budget},
};

/// `money` of `podium status`.
#[derive(Debug, Serialize)]
pub struct MoneyJson<'a> {
    day: Option<String>,
    day_budget_usd: f64,
    today: Spent,
    /// The days before this one that had calls, oldest first.
    days: Vec<DayJson>,
    orchestrator: Spent,
    agents: BTreeMap<&'a str, Spent>,
    models: BTreeMap<&'a str, Spent>,
    estimated: bool,
    budgets: Vec<BudgetJson>,
    cache: CacheJson,
    saved: SavedJson,
    burn_usd_per_hour: f64,
    /// At that pace.
    day_lasts_seconds: Option<i64>,
    drifts: Vec<DriftJson>,
}

impl<'a> MoneyJson<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        let money = &state.money;
        let spent = |spend: &Spend| Spent::from(*spend);
        Self {
            day: money.day.map(|d| d.to_string()),
            day_budget_usd: state.budgets.caps.day.unwrap_or_default().dollars(),
            today: money.today.into(),
            days: money.days.iter().map(|(day, spend)| DayJson { day: *day, spent: (*spend).into() }).collect(),
            orchestrator: money.orchestrator.into(),
            agents: money.agents.iter().map(|(a, s)| (a.as_str(), spent(s))).collect(),
            models: money.models.iter().map(|(m, s)| (m.as_str(), spent(s))).collect(),
            estimated: !money.today.estimated.is_zero(),
            budgets: state.budgets().into_iter().map(BudgetJson::from).collect(),
            cache: CacheJson::new(&money.today, &money.caching),
            saved: SavedJson::new(&money.savings),
            burn_usd_per_hour: money.burn(state.now).dollars(),
            day_lasts_seconds: state.day_lasts().map(|lasts| lasts.as_secs()),
            drifts: money.drifts.iter().map(DriftJson::from).collect(),
        }
    }
}

/// One day, UTC.
#[derive(Debug, Serialize)]
struct DayJson {
    day: Date,
    #[serde(flatten)]
    spent: Spent,
}

/// One budget.
#[derive(Debug, Serialize)]
struct BudgetJson {
    /// `day`, `goal g1`, `task marie/x`.
    of: String,
    cap_usd: f64,
    spent_usd: f64,
    estimated_usd: f64,
    percent: i64,
    /// `ok`, `warned` from 80 % on, `reached`.
    state: &'static str,
    why: Option<String>,
    clears_at: Option<Timestamp>,
}

impl From<budget::Standing> for BudgetJson {
    fn from(standing: budget::Standing) -> Self {
        let percent = standing.percent();
        let budget::Standing { payer, spent, cap, warned, reached, clears_at } = standing;
        let state = match (&reached, warned) {
            (Some(_), _) => "reached",
            (None, true) => "warned",
            (None, false) => "ok",
        };
        Self {
            of: payer.to_string(),
            cap_usd: cap.dollars(),
            spent_usd: spent.cost.dollars(),
            estimated_usd: spent.estimated.dollars(),
            percent,
            state,
            why: reached.map(|reached| reached.to_string()),
            clears_at,
        }
    }
}

/// How the server's cache was used.
#[derive(Debug, Serialize)]
struct CacheJson {
    /// The share of input tokens that was read from the cache, 0 to 1.
    hit_rate: Option<f64>,
    calls: u64,
    hits: u64,
    /// Causes are inferred: the server does not tell them.
    misses: Vec<MissJson>,
}

#[derive(Debug, Serialize)]
struct MissJson {
    cause: Miss,
    words: &'static str,
    calls: u64,
    tokens: u64,
}

impl CacheJson {
    fn new(spend: &Spend, caching: &Caching) -> Self {
        let miss = |(cause, missed): (&Miss, &crate::model::caching::Missed)| MissJson {
            cause: *cause,
            words: cause.words(),
            calls: missed.calls,
            tokens: missed.tokens,
        };
        Self {
            hit_rate: spend.usage.cache_hit_rate(),
            calls: caching.calls(),
            hits: caching.hits,
            misses: caching.misses.iter().map(miss).collect(),
        }
    }
}

/// What was saved on exactly known calls; `caching_usd` and `tiering_usd` sum to `both_usd`.
#[derive(Debug, Serialize)]
struct SavedJson {
    calls: u64,
    left_out: u64,
    actual_usd: f64,
    no_cache_usd: f64,
    top_model_usd: f64,
    top_model_no_cache_usd: f64,
    caching_usd: f64,
    tiering_usd: f64,
    both_usd: f64,
}

impl SavedJson {
    fn new(savings: &Savings) -> Self {
        let split = savings.split();
        Self {
            calls: savings.calls,
            left_out: savings.left_out,
            actual_usd: savings.actual.dollars(),
            no_cache_usd: savings.no_cache.dollars(),
            top_model_usd: savings.top.dollars(),
            top_model_no_cache_usd: savings.top_no_cache.dollars(),
            caching_usd: split.caching.dollars(),
            tiering_usd: split.tiering.dollars(),
            both_usd: split.both.dollars(),
        }
    }
}

/// What gateway and engine have counted of one attempt.
#[derive(Debug, Serialize)]
pub struct DriftJson {
    task: String,
    attempt: u32,
    gateway: Spent,
    engine: Spent,
    cost_percent: Option<i64>,
    token_percent: Option<i64>,
}

impl From<&Drift> for DriftJson {
    fn from(drift: &Drift) -> Self {
        Self {
            task: drift.attempt.task.to_string(),
            attempt: drift.attempt.n,
            gateway: drift.gateway.into(),
            engine: drift.engine.into(),
            cost_percent: drift.cost_percent(),
            token_percent: drift.token_percent(),
        }
    }
}

/// An attempt by the rows of the ledger.
#[derive(Debug, Serialize)]
pub struct PartsJson {
    gateway: Spent,
    subagents: Vec<SubagentJson>,
    drift: Option<DriftJson>,
}

#[derive(Debug, Serialize)]
struct SubagentJson {
    id: String,
    parent: Option<String>,
    spent: Spent,
}

impl PartsJson {
    pub(super) fn new(attempt: &AttemptRef, parts: &Parts) -> Self {
        let subagents = parts.subagents.iter().map(|(id, (parent, spend))| SubagentJson {
            id: id.clone(),
            parent: parent.clone(),
            spent: (*spend).into(),
        });
        Self {
            gateway: parts.all.into(),
            subagents: subagents.collect(),
            drift: parts.drift(attempt).as_ref().map(DriftJson::from),
        }
    }
}

/// `podium usage`.
#[derive(Debug, Serialize)]
pub struct UsageJson<'a> {
    since: Date,
    by: &'static str,
    days: Vec<String>,
    total: Spent,
    /// The part that only engines told of.
    by_engines: Spent,
    per_day_usd: f64,
    groups: Vec<GroupJson<'a>>,
    models: Vec<GroupJson<'a>>,
    cache: CacheJson,
    top_model: &'a str,
    saved: SavedJson,
    unpriced_models: Vec<&'a str>,
    repriced_calls: u64,
    compared_attempts: u64,
    drifts: Vec<DriftJson>,
    method: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct GroupJson<'a> {
    name: Option<&'a str>,
    cache_hit_rate: Option<f64>,
    #[serde(flatten)]
    spent: Spent,
}

impl<'a> GroupJson<'a> {
    fn new(name: Option<&'a str>, spend: &Spend) -> Self {
        Self { name, cache_hit_rate: spend.usage.cache_hit_rate(), spent: (*spend).into() }
    }
}

impl<'a> UsageJson<'a> {
    /// The whole report.
    pub fn new(
        usage: &'a Usage,
        since: Date,
        by: &'static str,
        top_model: &'a str,
        method: &'static [&'static str],
    ) -> Self {
        Self {
            since,
            by,
            days: usage.days.iter().map(ToString::to_string).collect(),
            total: usage.total.into(),
            by_engines: usage.by_engines.into(),
            per_day_usd: usage.per_day().dollars(),
            groups: usage.groups.iter().map(|(name, spend)| GroupJson::new(name.as_deref(), spend)).collect(),
            models: usage.models.iter().map(|(name, spend)| GroupJson::new(Some(name), spend)).collect(),
            cache: CacheJson::new(&usage.total, &usage.caching),
            top_model,
            saved: SavedJson::new(&usage.savings),
            unpriced_models: usage.unpriced.iter().map(String::as_str).collect(),
            repriced_calls: usage.repriced,
            compared_attempts: usage.compared,
            drifts: usage.drifts.iter().map(DriftJson::from).collect(),
            method,
        }
    }
}
