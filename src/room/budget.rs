//! Budgets as the room sees them: who is warned, what is used up, and what that ends.
//!
//! Must not know the gateway, which holds the caps call by call. Its one surprise: a budget counts as used up from the
//! first call that was refused for it, although a little may be left.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{Effect, State, Voice};
use crate::model::{
    Approval, GoalPhase, MicroUsd, Spend, TaskRef,
    budget::{AtCap, Caps, Payer, Reached},
};

/// The caps in force, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budgets {
    /// Where a task or goal has none of its own.
    pub caps: Caps,
    /// A person has been told that these are nearly used up.
    warned: BTreeSet<Payer>,
    /// These are used up.
    reached: BTreeMap<Payer, Reached>,
}

/// One budget at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub payer: Payer,
    /// What was spent.
    pub spent: Spend,
    /// The cap.
    pub cap: MicroUsd,
    /// Nearly used up.
    pub warned: bool,
    /// Used up: the sentence.
    pub reached: Option<Reached>,
    /// When it clears by itself.
    pub clears_at: Option<Timestamp>,
}

impl Standing {
    /// The share that was spent, in whole percent.
    pub fn percent(&self) -> i64 {
        percent(self.spent.cost, self.cap)
    }
}

fn percent(spent: MicroUsd, cap: MicroUsd) -> i64 {
    spent.0.saturating_mul(100).checked_div(cap.0).unwrap_or_default()
}

/// The next 00:00 UTC.
fn midnight(now: Timestamp) -> Option<Timestamp> {
    let tomorrow = now.to_zoned(TimeZone::UTC).date().tomorrow().ok()?;
    Some(tomorrow.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

impl State {
    /// The cap of a payer; `None` = without.
    pub fn cap_of(&self, payer: &Payer) -> Option<MicroUsd> {
        let caps = &self.budgets.caps;
        match payer {
            Payer::Day => caps.day,
            Payer::Task(task) => Caps::or(self.tasks.get(task).and_then(|task| task.record.spec.budget), caps.task),
            Payer::Goal(id) => {
                let goal = self.goals.get(id);
                let cap = Caps::or(goal.and_then(|goal| goal.terms.budget), caps.goal);
                let ceiling = goal.and_then(|goal| match goal.approval {
                    Approval::Auto { ceiling } => Some(ceiling).filter(|ceiling| *ceiling < MicroUsd(i64::MAX)),
                    Approval::Ask | Approval::Never => None,
                });
                cap.into_iter().chain(ceiling).min()
            }
        }
    }

    /// What a payer has spent.
    pub fn spent_of(&self, payer: &Payer) -> Spend {
        match payer {
            Payer::Day => self.money.today,
            Payer::Task(task) => self.spend_of_task(task),
            Payer::Goal(id) => self.goals.get(id).map(|goal| self.spend_of(goal)).unwrap_or_default(),
        }
    }

    /// The sentence of a payer that is used up.
    pub fn reached(&self, payer: &Payer) -> Option<Reached> {
        let cap = self.cap_of(payer)?;
        let spent = self.spent_of(payer).cost;
        if spent >= cap {
            return Some(Reached { payer: payer.clone(), spent, cap, next: None });
        }
        // A cap that was raised since is another one.
        self.budgets.reached.get(payer).filter(|reached| reached.cap == cap).cloned()
    }

    /// What keeps a task from starting: a budget that is used up.
    pub fn over_budget(&self, task: &TaskRef) -> Option<Reached> {
        self.reached(&Payer::Day).or_else(|| self.payers_of(task).iter().find_map(|payer| self.reached(payer)))
    }

    /// A task's own budgets: its goal's first.
    pub fn payers_of(&self, task: &TaskRef) -> Vec<Payer> {
        let goal = self.tasks.get(task).and_then(|task| task.record.spec.goal.clone());
        goal.map(Payer::Goal).into_iter().chain([Payer::Task(task.clone())]).collect()
    }

    /// Every budget that one may want to see: the day's, those of goals that are not over, and of tasks and goals that
    /// were warned about.
    pub fn budgets(&self) -> Vec<Standing> {
        let goals = self.goals.iter().filter(|goal| !goal.phase.is_over()).map(|goal| Payer::Goal(goal.id.clone()));
        let told = self.budgets.warned.iter().chain(self.budgets.reached.keys()).cloned();
        let payers: BTreeSet<Payer> = goals.chain(told).chain([Payer::Day]).collect();
        payers
            .into_iter()
            .filter(|payer| !self.is_over(payer))
            .filter_map(|payer| {
                let cap = self.cap_of(&payer)?;
                let reached = self.reached(&payer);
                let clears_at = reached.as_ref().and_then(|reached| match reached.payer {
                    Payer::Day => midnight(self.now),
                    Payer::Goal(_) | Payer::Task(_) => None,
                });
                let warned = self.budgets.warned.contains(&payer);
                Some(Standing { spent: self.spent_of(&payer), cap, warned, reached, clears_at, payer })
            })
            .collect()
    }

    /// How long the day's budget lasts at the pace of the last hour.
    pub fn day_lasts(&self) -> Option<SignedDuration> {
        let left = self.budgets.caps.day?.0 - self.money.today.cost.0;
        let burn = self.money.burn(self.now).0;
        (burn > 0 && left > 0).then(|| SignedDuration::from_secs(left.saturating_mul(3_600) / burn))
    }

    /// The next 00:00 UTC, where a day has begun that ends with it.
    pub(super) fn day_ends(&self) -> Option<Timestamp> {
        self.money.day.filter(|_| self.money.today.calls > 0 || self.budgets.reached.contains_key(&Payer::Day))?;
        midnight(self.now)
    }

    /// A new day has come: its budget is whole again.
    pub(super) fn new_day(&mut self) {
        if self.money.turn(self.now) {
            self.budgets.warned.remove(&Payer::Day);
            if self.budgets.reached.remove(&Payer::Day).is_some() {
                self.say(Voice::Room, None, "a new day: its budget is whole, work goes on");
            }
        }
    }

    /// What was spent before this room opened is known: nobody is warned of it again.
    pub(super) fn knows_what_was_spent(&mut self) {
        let nearly = |state: &Self, payer: &Payer| {
            state.cap_of(payer).is_some_and(|cap| percent(state.spent_of(payer).cost, cap) >= Caps::WARN_AT)
        };
        let goals = self.goals.iter().filter(|goal| !goal.phase.is_over()).map(|goal| Payer::Goal(goal.id.clone()));
        let payers: Vec<Payer> = goals.chain([Payer::Day]).collect();
        let told: Vec<Payer> = payers.into_iter().filter(|payer| nearly(self, payer)).collect();
        self.budgets.warned.extend(told);
    }

    /// Something was spent: a person is warned once, and at the cap it is over.
    pub(super) fn paid(&mut self, payers: Vec<Payer>, effects: &mut Vec<Effect>) {
        for payer in payers {
            let Some(cap) = self.cap_of(&payer) else { continue };
            let spent = self.spent_of(&payer);
            if spent.cost >= cap {
                self.use_up(&Reached { payer, spent: spent.cost, cap, next: None }, effects);
            } else if percent(spent.cost, cap) >= Caps::WARN_AT && self.budgets.warned.insert(payer.clone()) {
                let whose = match &payer {
                    Payer::Day => "the day's budget".to_owned(),
                    Payer::Goal(_) | Payer::Task(_) => format!("the budget of {payer}"),
                };
                self.forget_ended();
                let text = format!("{whose}: {} of {cap} spent ({} %)", spent.shown(), percent(spent.cost, cap));
                self.say(Voice::Room, goal_of(&payer), text);
            }
        }
    }

    /// A budget is used up: nothing more starts for it, and what runs is ended where that is the policy.
    pub(super) fn use_up(&mut self, reached: &Reached, effects: &mut Vec<Effect>) {
        let payer = reached.payer.clone();
        if self.is_over(&payer) {
            return;
        }
        let before = self.budgets.reached.insert(payer.clone(), reached.clone());
        if before.is_some_and(|before| before.cap == reached.cap) {
            return;
        }
        self.budgets.warned.insert(payer.clone());
        self.say(Voice::Room, goal_of(&payer), reached.to_string());
        let tasks = match &payer {
            // What waits may start tomorrow.
            Payer::Day => Vec::new(),
            Payer::Task(task) => vec![task.clone()],
            Payer::Goal(id) => self.goals.get(id).map(|goal| goal.tasks.clone()).unwrap_or_default(),
        };
        for task in tasks {
            if self.tasks.give_up(&task, &reached.to_string()) {
                effects.push(Effect::EndTask { id: None, task, ending: reached.ending() });
            }
        }
        self.end_running(reached, effects);
    }

    /// Ends the attempts that run on a used-up budget, where that is the policy.
    fn end_running(&self, reached: &Reached, effects: &mut Vec<Effect>) {
        match self.budgets.caps.at_cap {
            AtCap::Finish => return,
            AtCap::End => {}
        }
        for slot in self.agents.iter().flat_map(|agent| &agent.slots) {
            let Some(held) = &slot.held else { continue };
            let pays = reached.payer == Payer::Day || self.payers_of(&held.task).contains(&reached.payer);
            if pays {
                let attempt = held.task.attempt(held.attempt.unwrap_or(0));
                effects.push(Effect::EndAttempt { slot: slot.id.clone(), attempt, ending: reached.ending() });
            }
        }
    }

    /// A worker is back: what it runs may have been to be ended meanwhile.
    pub(super) fn end_if_over_budget(&self, task: &TaskRef, effects: &mut Vec<Effect>) {
        if let Some(reached) = self.over_budget(task) {
            self.end_running(&reached, effects);
        }
    }

    /// Budgets of what has ended interest nobody.
    fn forget_ended(&mut self) {
        let over: Vec<Payer> = self.budgets.warned.iter().filter(|payer| self.is_over(payer)).cloned().collect();
        for payer in over {
            self.budgets.warned.remove(&payer);
            self.budgets.reached.remove(&payer);
        }
    }

    /// Nothing more can be spent on it.
    fn is_over(&self, payer: &Payer) -> bool {
        match payer {
            Payer::Day => false,
            Payer::Task(task) => self.tasks.get(task).is_none_or(|task| task.record.outcome.is_some()),
            Payer::Goal(id) => self.goals.get(id).is_none_or(|goal| match goal.phase {
                GoalPhase::Ended { .. } => true,
                GoalPhase::Planning { .. }
                | GoalPhase::Asking { .. }
                | GoalPhase::AwaitingApproval
                | GoalPhase::Running
                | GoalPhase::Deciding
                | GoalPhase::Synthesising => false,
            }),
        }
    }
}

fn goal_of(payer: &Payer) -> Option<crate::model::GoalId> {
    match payer {
        Payer::Goal(goal) => Some(goal.clone()),
        Payer::Day | Payer::Task(_) => None,
    }
}
