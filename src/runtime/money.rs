//! Between ledger, gateway and room: what was spent before, whose money a worker spends, and what an engine says.
//!
//! Owns no state. Its one surprise: days that are over come from their kept sums; only this day's rows are read.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use crate::{
    gateway::{Duty, Opening},
    ledger::{LedgerError, Prices, Rows},
    model::{AttemptRef, MicroUsd, Report, Spend, TaskRef, budget::Payer, gateway::EngineTotal},
    room::{Money, State},
};

/// Days of the ledger that are folded at the start.
const DAYS: i64 = 31;

/// What was spent in the last [`DAYS`] days. Whoever only looks does not `keep` the sums of days that are over.
pub(super) fn fold(rows: &Rows, prices: &Prices, top: &str, keep: bool, now: Timestamp) -> Result<Money, LedgerError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let first = today.saturating_sub(DAYS.days());
    let mut money = Money::default();
    for day in rows.days(first)? {
        if day < today {
            let sum = rows.sum(day, keep)?;
            money.add_day(day, sum.total, sum.tasks, sum.goals);
            continue;
        }
        rows.calls(day, |call| money.add(&call, prices.appraise(&call, top).as_ref()))?;
        for total in rows.engines(day)? {
            money.engine_says(&total);
        }
    }
    Ok(money)
}

/// A payer as the room knows it, for the gateway.
pub(super) fn opening(state: &State, payer: Payer) -> Opening {
    let cap = state.cap_of(&payer).unwrap_or_default();
    Opening { spent: state.spent_of(&payer).cost, cap: Some(cap), payer }
}

/// What a worker with this task works for, and whose money it spends.
pub(super) fn duty(state: &State, task: &TaskRef, attempt: Option<u32>) -> (Duty, Vec<Opening>) {
    let payers = state.payers_of(task);
    let goal = payers.iter().find_map(|payer| match payer {
        Payer::Goal(goal) => Some(goal.clone()),
        Payer::Task(_) | Payer::Day => None,
    });
    let openings = payers.into_iter().map(|payer| opening(state, payer)).collect();
    (Duty { task: task.clone(), goal, attempt: attempt.filter(|n| *n > 0) }, openings)
}

/// What is left of a task's budget.
pub(super) fn may_spend(state: &State, task: &TaskRef) -> Option<MicroUsd> {
    let payer = Payer::Task(task.clone());
    let cap = state.cap_of(&payer)?;
    Some(MicroUsd((cap.0 - state.spent_of(&payer).cost.0).max(1)))
}

/// What a report says about tokens and money of an attempt that has ended.
pub(super) fn total(report: &Report, now: Timestamp) -> Option<EngineTotal> {
    let said = |attempt: AttemptRef, spend: Spend, at| {
        (spend.usage.total() > 0 || !spend.cost.is_zero()).then_some(EngineTotal { at, attempt, spend })
    };
    match report {
        Report::Failed { attempt, spend, at, .. } => said(attempt.clone(), *spend, *at),
        Report::Ended { outcome, spend } => said(outcome.task.attempt(outcome.attempt), *spend, now),
        Report::Started { .. }
        | Report::Active { .. }
        | Report::Asked { .. }
        | Report::Withdrawn { .. }
        | Report::Far { .. }
        | Report::Refused { .. }
        | Report::Limited { .. }
        | Report::NotStarted { .. } => None,
    }
}
