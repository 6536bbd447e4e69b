//! The state of the control room and the one pure function that changes it.
//!
//! Owns [`State`], the events that change it and the effects it asks for. Must not know tokio, files, processes or the
//! clock: time arrives inside events. Its one surprise: the screen runs the same function on the same events and drops
//! the effects, so nothing here may depend on who is asking.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod agents;
mod asking;
pub mod asks;
pub mod attention;
pub mod budget;
mod checks;
mod cycle;
pub mod effect;
pub mod event;
pub mod failure;
mod given;
pub mod goals;
pub mod halt;
pub mod helpers;
pub mod limits;
pub mod money;
mod needs;
mod order;
pub mod orders;
pub mod past;
pub mod pauses;
mod pays;
pub mod plans;
pub mod pulse;
mod ready;
mod rejected;
mod restart;
pub mod retry;
mod server;
pub mod tasks;
mod time;
mod timing;
pub mod why;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use asks::By;

pub use agents::{Agent, Agents, Held, Process, Slot};
pub use asks::Asks;
pub use budget::Budgets;
pub use effect::Effect;
pub use event::{Answer, Event, GatewayEvent, GoalEvent, Opened, Order, OrderId, Stamped, TaskEvent, WorkerEvent};
pub use goals::{Goal, Goals};
use halt::Halt;
pub use limits::{Accounts, LimitEvent, Parked, Plan};
pub use money::Money;
pub use needs::Need;
pub use orders::Requests;
pub use past::Piece;
pub use retry::Retry;
pub use tasks::{Task, Tasks};
pub use why::Why;

use crate::model::{
    GoalId, Spend, TaskRef,
    budget::Payer,
    gateway::Levels,
    limit::{LimitNews, OwnLimit},
    server::Server,
};

/// Who speaks in the orchestrator's pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voice {
    /// The operator.
    You,
    /// The planner.
    Plan,
    /// The report.
    Report,
    /// The room itself: something needs attention.
    Room,
}

/// One line of the orchestrator's pane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub voice: Voice,
    /// About which goal.
    pub goal: Option<GoalId>,
    /// What.
    pub text: String,
}

/// Whether the room is on its way out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// It stays.
    #[default]
    No,
    /// It leaves when the running attempts have ended.
    Draining,
    /// It ends them and leaves.
    Stopping,
}

/// Everything the room knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The stage's name.
    pub name: String,
    /// The stage's folder.
    pub stage: PathBuf,
    /// Whether this is a rehearsal.
    pub rehearsal: bool,
    /// podium's version.
    pub version: String,
    /// The room's process id: its guardian's, the same for as long as the room is open.
    pub pid: u32,
    /// The process id of its core, which the guardian starts again when it dies.
    pub core: u32,
    /// Why no room is open: this is what the stage's files say, and every order is refused with it.
    pub offline: Option<String>,
    /// When the room opened.
    pub opened_at: Option<Timestamp>,
    /// When the last event happened.
    pub now: Timestamp,
    /// The agents and their workers.
    pub agents: Agents,
    /// The tasks.
    pub tasks: Tasks,
    /// The goals.
    pub goals: Goals,
    /// What was spent.
    pub money: Money,
    /// What may be spent.
    pub budgets: Budgets,
    /// The buckets.
    pub levels: Levels,
    /// What an operator has set for model groups.
    pub own_limits: BTreeMap<String, OwnLimit>,
    /// The latest limit that each account has met, of each kind and model group.
    pub limits: Vec<LimitNews>,
    /// The orchestrator's pane, oldest first, at most [`State::LINES`].
    pub lines: VecDeque<Line>,
    /// Whether the room is on its way out.
    pub leaving: Leaving,
    /// The clock was set lately: nothing expires before this.
    pub doubted_until: Option<Timestamp>,
    /// What markers beside the tasks ask for.
    pub requests: Requests,
    /// What plans are judged by, beside the agents.
    pub planning: event::Planning,
    /// The accounts and their limits.
    pub accounts: Accounts,
    /// What agents ask a person for.
    pub asks: Asks,
    /// The NATS server, where agents work over one.
    pub server: Option<Server>,
}

impl State {
    /// Lines kept for the orchestrator's pane.
    pub const LINES: usize = 500;
    /// The most tries on other agents that a task's cost is followed through.
    const FORMER: usize = 100;

    /// Applies one event and returns what the world is asked to do about it.
    pub fn update(&mut self, stamped: Stamped) -> Vec<Effect> {
        let Stamped { at, event } = stamped;
        // Only a room that opens and a clock that was set may turn the time back.
        let turns = matches!(event, Event::Opened(_) | Event::ClockSet { .. });
        self.now = if turns { at } else { at.max(self.now) };
        let mut effects = Vec::new();
        match event {
            Event::Opened(opened) => self.open(*opened, &mut effects),
            Event::TimeCame => self.wake(&mut effects),
            Event::ClockSet { by } => self.clock_set(by),
            Event::Ordered { id, order } => self.order(id, order, &mut effects),
            Event::Task(event) => self.task_event(event, &mut effects),
            Event::Worker(event) => self.worker_event(event, &mut effects),
            Event::Goal(event) => self.goal_event(event, &mut effects),
            Event::Gateway(event) => self.gateway_event(event, &mut effects),
            Event::Limit(event) => self.limit_event(event),
            Event::Helpers { attempt, named } => {
                self.money.helpers.named(&attempt, &named);
            }
            Event::Permitted { settled } => self.settled(*settled, &mut effects),
            Event::Server { server } => self.server_event(*server, &mut effects),
        }
        if self.offline.is_some() {
            return effects;
        }
        self.settle_limits(&mut effects);
        self.settle_asks(&mut effects);
        self.settle_requests(&mut effects);
        self.settle_expired(&mut effects);
        self.settle_skipped(&mut effects);
        self.drive_goals(&mut effects);
        self.rank_anew();
        self.dispatch(&mut effects);
        effects
    }

    /// The next moment at which the room wants to hear [`Event::TimeCame`].
    pub fn next_wake(&self) -> Option<Timestamp> {
        // What expired in a time of doubt is ended after it.
        let doubt = self.doubted_until.filter(|until| *until > self.now && self.tasks.has_expired());
        let limits = self.accounts.next_wake();
        let asks = self.asks.next_wake();
        let wakes = [self.tasks.next_wake(), self.agents.next_wake(), limits, doubt, self.day_ends(), asks];
        wakes.into_iter().flatten().min()
    }

    /// Rebuilds what is derived and not sent in a snapshot.
    pub fn rebuild(&mut self) {
        self.tasks.rebuild(self.now);
    }

    /// What a goal has cost so far, planning and report included.
    pub fn spend_of(&self, goal: &Goal) -> Spend {
        let mut sum = self.money.goals.get(&goal.id).copied().unwrap_or_default();
        for task in goal.tasks.iter().chain(&goal.mending.former) {
            // What was tried on another agent before has been paid for too.
            let mut next = Some(task);
            for _ in 0..Self::FORMER {
                let Some(task) = next else { break };
                sum += self.spend_of_task(task);
                next = self.tasks.get(task).and_then(|t| t.record.spec.retry_of.as_ref());
            }
        }
        sum
    }

    /// What a task has cost so far: as the gateway counted, else as its engine has said up to now.
    pub fn spend_of_task(&self, task: &TaskRef) -> Spend {
        if let Some(counted) = self.money.tasks.get(task).filter(|counted| counted.calls > 0) {
            return *counted;
        }
        let Some(entry) = self.tasks.find(task) else {
            return self.money.tasks.get(task).copied().unwrap_or_default();
        };
        let mut spend = match &entry.record.outcome {
            Some(outcome) => Spend::of(outcome.usage, outcome.cost, outcome.cost_source),
            None => entry.record.spend(),
        };
        // What came before a retry is in no record of the task any more.
        if let Some(told) = self.money.tasks.get(task).filter(|told| told.cost > spend.cost) {
            spend = *told;
        }
        if let Some(held) = self.agents.holder(task).and_then(|slot| slot.held.as_ref()) {
            spend += held.activity.spend;
        }
        spend
    }

    /// Adds a line to the orchestrator's pane.
    fn say(&mut self, voice: Voice, goal: Option<GoalId>, text: impl Into<String>) {
        if self.lines.len() >= Self::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at: self.now, voice, goal, text: text.into() });
    }

    fn open(&mut self, opened: Opened, effects: &mut Vec<Effect>) {
        self.name = opened.name;
        self.stage = opened.stage;
        self.rehearsal = opened.rehearsal;
        self.version = opened.version;
        // A look at the files changes nothing.
        self.open_accounts(opened.accounts, self.pid == opened.pid || opened.offline.is_some());
        self.pid = opened.pid;
        self.core = opened.core;
        self.offline = opened.offline;
        self.opened_at = Some(self.now).filter(|_| self.offline.is_none());
        self.planning = opened.planning;
        self.budgets.caps = opened.caps;
        self.knows_what_was_spent();
        self.leaving = Leaving::No;
        self.tasks.attempts_allowed = opened.attempts;
        self.goals.orchestrator = opened.orchestrator;
        self.asks.asking = opened.asking;
        self.agents.open(opened.agents, opened.max_running, &opened.found, self.now);
        if self.offline.is_some() {
            return;
        }
        self.limit_again(effects);
        self.start_workers(effects);
        self.resume_goals(effects);
    }

    fn wake(&mut self, effects: &mut Vec<Effect>) {
        self.new_day();
        self.tasks.wake(self.now);
        self.start_workers(effects);
    }

    fn order(&mut self, id: OrderId, order: Order, effects: &mut Vec<Effect>) {
        if let Some(why) = &self.offline {
            return refuse(effects, id, why.clone());
        }
        if self.leaving != Leaving::No && !matches!(order, Order::Stop { .. }) {
            if matches!(order, Order::Goal { .. } | Order::Workflow { .. }) {
                effects.extend(self.not_taken());
            }
            return refuse(effects, id, "the room is closing");
        }
        match order {
            Order::Goal { text, approval, terms } => self.submit_goal(id, &text, approval, terms, effects),
            Order::Workflow { text, plan, approval, terms } => {
                self.give_plan(id, &text, *plan, approval, terms, effects);
            }
            Order::Task { spec, rename } => self.submit_task(id, spec, rename, effects),
            Order::Approve { goal, ceiling } => self.approve(id, &goal, ceiling, effects),
            Order::EditPlan { goal, base, edits } => self.edit_plan(id, &goal, &base, &edits, effects),
            Order::Answer { goal, text } => self.answer_questions(id, &goal, &text, effects),
            Order::Deny { goal } => self.deny(id, &goal, effects),
            Order::Retry { task, changes } => self.retry(id, task, None, *changes, effects),
            Order::RetryOn { task, agent, changes } => self.retry(id, task, Some(agent), *changes, effects),
            Order::Prioritise { task, priority } => self.prioritise(id, &task, priority, effects),
            Order::Cancel { task } => self.cancel(id, &task, effects),
            Order::Extend { task, by } => self.extend(id, &task, by, effects),
            Order::Remove { item } => self.remove(id, item, effects),
            Order::Restore { item } => self.restore(id, item, effects),
            Order::CancelGoal { goal } => self.cancel_goal(id, &goal, effects),
            Order::Permit { ask, always: true } => self.permit(id, ask, By::Always, true, effects),
            Order::Permit { ask, always: false } => self.permit(id, ask, By::Person, true, effects),
            Order::Reply { ask, replies } => self.reply(id, ask, replies, effects),
            Order::Forbid { ask } => self.permit(id, ask, By::Person, false, effects),
            Order::PauseTask { task } => self.pause_task(id, &task, effects),
            Order::ResumeTask { task } => self.resume_task(id, &task, effects),
            Order::Restart { agent } => self.restart(id, &agent, effects),
            Order::StopAgent { agent, drain: true } => self.halt(id, &agent, Halt::Drain, effects),
            Order::StopAgent { agent, drain: false } => self.halt(id, &agent, Halt::Stop, effects),
            Order::StartAgent { agent } => self.start_agent(id, &agent, effects),
            Order::Pause { agent } => self.pause(id, &agent, true, effects),
            Order::Resume { agent } => self.pause(id, &agent, false, effects),
            Order::Park { account } => self.park_account(id, &account, effects),
            Order::Unpark { account, when_clear } => self.resume_account(id, &account, when_clear, effects),
            Order::Limit { group, own } => self.set_limit(id, &group, own, effects),
            Order::Stop { drain } => self.stop(id, drain, effects),
        }
    }

    fn gateway_event(&mut self, event: GatewayEvent, effects: &mut Vec<Effect>) {
        match event {
            GatewayEvent::Called { call, appraisal } => {
                self.money.add(&call, appraisal.as_ref());
                let mut payers = vec![Payer::Day];
                if let Some(attempt) = call.attempt() {
                    payers.extend(self.payers_of(&attempt.task));
                } else {
                    payers.extend(call.goal().cloned().map(Payer::Goal));
                }
                for payer in &payers {
                    if let Payer::Goal(goal) = payer {
                        self.goals.touch(goal.clone());
                    }
                }
                self.paid(payers, effects);
            }
            GatewayEvent::EngineSaid { total } => {
                if !self.money.engine_says(&total).cost.is_zero() {
                    let mut payers = self.payers_of(&total.attempt.task);
                    payers.push(Payer::Day);
                    self.paid(payers, effects);
                }
            }
            GatewayEvent::Refused { reached } => self.use_up(&reached, effects),
            GatewayEvent::Folded { money } => {
                self.money = *money;
                self.knows_what_was_spent();
            }
            GatewayEvent::Limited { limit } => {
                if let Some(account) = self.accounts.labelled(&limit.account) {
                    self.limit_met(account, &limit, None, effects);
                }
                let same = |n: &LimitNews| n.account == limit.account && n.kind == limit.kind && n.group == limit.group;
                self.limits.retain(|known| !same(known) && known.ends() > self.now);
                self.limits.push(limit);
            }
            GatewayEvent::Opened { account } => {
                self.account_works(&account, effects);
                self.limits.retain(|known| known.account != account || !known.kind.closes_account());
            }
            GatewayEvent::Levels { levels } => {
                for account in &levels.accounts {
                    if let (Some(name), Some(windows)) = (self.accounts.labelled(&account.label), &account.windows) {
                        self.accounts.hear_windows(name, windows.clone());
                    }
                }
                self.levels = levels;
            }
        }
    }
}

fn refuse(effects: &mut Vec<Effect>, id: OrderId, reason: impl Into<String>) {
    effects.push(Effect::Answer { id, answer: Answer::Refused { reason: reason.into() } });
}

fn done(effects: &mut Vec<Effect>, id: OrderId, text: impl Into<String>, ids: Vec<String>) {
    effects.push(Effect::Answer { id, answer: Answer::Done { text: text.into(), ids } });
}

#[cfg(test)]
pub(crate) mod tests;
