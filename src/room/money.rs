//! Money and tokens, folded from model calls.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::model::{
    AgentName, GoalId, Spend, TaskRef,
    gateway::{Call, Caller},
};

/// What was spent, by everything an operator asks for. Days are UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Money {
    /// The day that `today` and the maps below belong to.
    pub day: Option<Date>,
    /// This day, all callers.
    pub today: Spend,
    /// This day, by agent.
    pub agents: BTreeMap<AgentName, Spend>,
    /// This day, the orchestrator.
    pub orchestrator: Spend,
    /// This day, by model.
    pub models: BTreeMap<String, Spend>,
    /// By task, for as long as the room has seen it.
    pub tasks: BTreeMap<TaskRef, Spend>,
    /// By goal: the orchestrator's own calls for it. Its tasks are in `tasks`.
    pub goals: BTreeMap<GoalId, Spend>,
    /// Whether any of it is a guess.
    pub estimated: bool,
}

impl Money {
    /// Adds one call.
    pub fn add(&mut self, call: &Call) {
        self.turn(call.at);
        let spend = Spend { usage: call.usage, cost: call.cost, calls: 1 };
        self.today += spend;
        self.estimated |= call.estimated;
        *self.models.entry(call.model.clone()).or_default() += spend;
        match &call.caller {
            Caller::Worker { agent, attempt } => {
                *self.agents.entry(agent.clone()).or_default() += spend;
                if let Some(attempt) = attempt {
                    *self.tasks.entry(attempt.task.clone()).or_default() += spend;
                }
            }
            Caller::Orchestrator { goal } => {
                self.orchestrator += spend;
                if let Some(goal) = goal {
                    *self.goals.entry(goal.clone()).or_default() += spend;
                }
            }
        }
    }

    /// Begins a new day when `at` is on a later one.
    fn turn(&mut self, at: Timestamp) {
        let day = at.to_zoned(TimeZone::UTC).date();
        // Never back: a clock that is wrong for a moment must not forget what the day has cost.
        if self.day.is_none_or(|known| known < day) {
            self.day = Some(day);
            self.today = Spend::default();
            self.agents.clear();
            self.orchestrator = Spend::default();
            self.models.clear();
        }
    }
}
