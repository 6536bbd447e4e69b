//! What waits for a person.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::State;
use crate::model::{AccountName, AskId, GoalId, TaskRef};

/// Something that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// An account that goes on only when a person has seen to it.
    Account(AccountName),
    /// Something that an agent wants to do.
    Permit(AskId),
    /// A task that wants to know what next: retry or cancel.
    Asks(TaskRef),
    /// A task that was paused because it was denied too often.
    Paused(TaskRef),
    /// A goal whose planner wants to know something.
    Question(GoalId),
    /// A plan to approve.
    Plan(GoalId),
    /// A task that did not end well and has not been looked after.
    Failed(TaskRef),
}

impl Need {
    /// How urgent its kind is; the smaller one comes first.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Permit(_) => 0,
            Self::Account(_) => 1,
            Self::Asks(_) => 2,
            Self::Paused(_) => 3,
            Self::Question(_) | Self::Plan(_) => 4,
            Self::Failed(_) => 5,
        }
    }
}

impl State {
    /// Everything that waits for a person, the most urgent first: what agents want to do and wait for, accounts that are
    /// parked until somebody sees to them, tasks that ask or were paused, goals that ask, plans to approve, tasks that failed.
    pub fn needs_you(&self) -> Vec<Need> {
        let parked = self.accounts.all_parked().filter(|(_, parked)| self.account_needs_you(parked, self.now));
        let accounts = parked.map(|(account, _)| Need::Account(account.clone()));
        let asking = self.tasks.wanting().filter(|t| t.asks());
        let asking = asking.map(|t| Need::Asks(t.record.task().clone()));
        let questions = self.goals.iter().filter(|g| g.asks()).map(|g| Need::Question(g.id.clone()));
        let plans = self.goals.iter().filter(|g| g.needs_approval()).map(|g| Need::Plan(g.id.clone()));
        let plans = questions.chain(plans);
        let retried = |task: &TaskRef| self.tasks.retried_as(task).is_some();
        let failed = self.tasks.wanting().filter(|t| t.needs_attention()).map(|t| t.record.task());
        let failed = failed.chain(self.tasks.past.needs_attention()).filter(|task| !retried(task));
        let permits = self.asks.open().iter().map(|open| Need::Permit(open.id));
        let paused = self.tasks.all_paused().filter(|(task, pause)| pause.by_room && self.tasks.knows(task));
        let paused = paused.map(|(task, _)| Need::Paused(task.clone()));
        let first = permits.chain(accounts).chain(asking).chain(paused);
        first.chain(plans).chain(failed.map(|task| Need::Failed(task.clone()))).collect()
    }

    /// Since when it waits, where that is known.
    pub fn since(&self, need: &Need) -> Option<Timestamp> {
        match need {
            Need::Account(account) => self.accounts.parked(account).map(|parked| parked.since),
            Need::Asks(task) => {
                self.tasks.find(task)?.record.attempts.last().map(|a| a.ended_at.unwrap_or(a.started_at))
            }
            Need::Permit(ask) => self.asks.get(*ask).map(|open| open.since),
            Need::Paused(task) => self.tasks.paused(task).map(|pause| pause.since),
            Need::Question(goal) | Need::Plan(goal) => self.goals.get(goal).map(|goal| goal.submitted_at),
            Need::Failed(task) => self.tasks.ended_at(task),
        }
    }
}
