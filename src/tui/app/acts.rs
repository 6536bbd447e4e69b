//! What was ordered here, and what became of it: sent, accepted or refused, started, done.
//!
//! Owns what one key has ordered together, so that it is told and taken back as one. Its one surprise: how to take an
//! order back is worked out when it is sent; afterwards the state no longer says how things were.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::{App, Undo};
use crate::{
    model::{AgentName, Changes, EndState, TaskRef},
    room::{Answer, Order, Process, State, tasks::Phase},
    tui::{Wish, text},
};

/// Orders that are remembered.
const KEPT: usize = 500;

/// How far an order has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// On its way to the room.
    Sent,
    /// The room has it, and it is durable.
    Accepted,
    /// An attempt of it runs.
    Started,
    /// It is done; how it ended.
    Done(String),
    /// The room said no; why.
    Refused(String),
}

/// One order.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// What was ordered, in words.
    pub what: String,
    /// When.
    pub at: Timestamp,
    /// How far it has come.
    pub stands: Stands,
    order: Order,
    back: Option<Order>,
    together: u64,
}

/// Everything that was ordered lately, the newest last.
#[derive(Debug, Default)]
pub struct Acts {
    all: VecDeque<Act>,
    keys: u64,
    /// Tasks that go to another agent as soon as they have ended here.
    moving: Vec<(TaskRef, AgentName)>,
}

impl Acts {
    /// The newest first.
    pub fn newest(&self) -> impl ExactSizeIterator<Item = &Act> {
        self.all.iter().rev()
    }

    /// Notes what one key orders.
    fn sent(&mut self, orders: &[Order], state: &State) {
        self.keys += 1;
        for order in orders {
            if self.all.len() >= KEPT {
                self.all.pop_front();
            }
            self.all.push_back(Act {
                what: words(order),
                at: state.now,
                stands: Stands::Sent,
                order: order.clone(),
                back: opposite(order, state),
                together: self.keys,
            });
        }
    }

    fn find(&mut self, order: &Order) -> Option<&mut Act> {
        let at = self.all.iter().position(|act| act.order == *order && act.stands == Stands::Sent);
        let at = at.or_else(|| self.all.iter().rposition(|act| act.order == *order))?;
        self.all.get_mut(at)
    }
}

/// What several orders of one key have come to.
struct Sum {
    done: usize,
    refused: Vec<String>,
    back: Vec<Order>,
    what: String,
}

impl App {
    /// Notes orders that are on their way.
    pub(super) fn note_sent(&mut self, wishes: &[Wish], state: &State) {
        let orders: Vec<Order> =
            wishes.iter().filter_map(|w| if let Wish::Order(order) = w { Some(order.clone()) } else { None }).collect();
        if !orders.is_empty() {
            self.acts.sent(&orders, state);
        }
    }

    /// What was ordered lately.
    pub fn acts(&self) -> &Acts {
        &self.acts
    }

    /// An order was answered: tells it, alone or with those that were ordered by the same key.
    pub(super) fn told(&mut self, order: &Order, answer: &Answer) {
        let stands = match answer {
            Answer::Done { .. } => Stands::Accepted,
            Answer::Refused { reason } => Stands::Refused(text::one_line(reason).into_owned()),
        };
        let Some(act) = self.acts.find(order) else {
            return match answer {
                Answer::Done { text, .. } => self.say(text, false),
                Answer::Refused { reason } => self.say(reason, true),
            };
        };
        act.stands = stands;
        let together = act.together;
        let mut same = self.acts.all.iter().filter(|act| act.together == together);
        let alone = same.clone().nth(1).is_none();
        let back = same.clone().filter(|act| act.stands == Stands::Accepted).filter_map(|act| act.back.clone());
        let back: Vec<Order> = back.collect();
        if alone {
            return match answer {
                Answer::Done { text, .. } if !back.is_empty() => self.can_undo(text, back),
                Answer::Done { text, .. } => self.say(text, false),
                Answer::Refused { reason } => self.say(reason, true),
            };
        }
        if same.any(|act| act.stands == Stands::Sent) {
            return;
        }
        let same = self.acts.all.iter().filter(|act| act.together == together);
        let mut sum = Sum { done: 0, refused: Vec::new(), back, what: String::new() };
        for act in same {
            sum.what.clone_from(&act.what);
            match &act.stands {
                Stands::Refused(reason) => sum.refused.push(reason.clone()),
                Stands::Sent | Stands::Accepted | Stands::Started | Stands::Done(_) => sum.done += 1,
            }
        }
        self.sum_up(sum);
    }

    fn sum_up(&mut self, sum: Sum) {
        let verb = sum.what.split(' ').next().unwrap_or_default();
        let done = format!("{verb}: {} accepted", sum.done);
        match sum.refused.first() {
            Some(reason) => {
                let text = format!("{done}, {} refused: {reason}", sum.refused.len());
                self.undo = (!sum.back.is_empty()).then(|| Undo { done: done.clone(), orders: sum.back, since: None });
                self.say(&text, true);
            }
            None if sum.back.is_empty() => self.say(&done, false),
            None => self.can_undo(&done, sum.back),
        }
    }

    fn can_undo(&mut self, done: &str, orders: Vec<Order>) {
        self.undo = Some(Undo { done: text::one_line(done).into_owned(), orders, since: None });
        self.message = None;
    }

    /// Gives tasks to another agent: what has ended starts there at once, what has not is ended here first.
    pub(super) fn reassign(&mut self, tasks: Vec<TaskRef>, agent: &AgentName, state: &State) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for task in tasks.into_iter().filter(|task| task.agent != *agent) {
            let ended = state.tasks.find(&task).is_some_and(|t| t.record.outcome.is_some());
            if ended {
                wishes.push(Wish::Order(Order::RetryOn { task, agent: agent.clone(), changes: Box::default() }));
            } else {
                self.acts.moving.push((task.clone(), agent.clone()));
                wishes.push(Wish::Order(Order::Cancel { task }));
            }
        }
        wishes
    }

    /// Looks how far what was ordered has come; what was only waiting for an end here goes on.
    pub(super) fn follow_acts(&mut self, state: &State) -> Vec<Wish> {
        for act in &mut self.acts.all {
            if matches!(act.stands, Stands::Accepted | Stands::Started)
                && let Some(now) = stands(&act.order, act.at, state)
            {
                act.stands = now;
            }
        }
        let refused = |task: &TaskRef| {
            let cancel = Order::Cancel { task: task.clone() };
            self.acts
                .all
                .iter()
                .rev()
                .find(|a| a.order == cancel)
                .is_some_and(|a| matches!(a.stands, Stands::Refused(_)))
        };
        let (over, rest) = std::mem::take(&mut self.acts.moving).into_iter().partition::<Vec<_>, _>(|(task, _)| {
            refused(task) || state.tasks.find(task).is_none_or(|t| t.record.outcome.is_some())
        });
        let cancelled = |task: &TaskRef| {
            let outcome = state.tasks.find(task).and_then(|t| t.record.outcome.as_ref().map(|o| o.state));
            outcome == Some(EndState::Cancelled)
        };
        let moves: Vec<Wish> = over
            .into_iter()
            .filter(|(task, _)| cancelled(task))
            .map(|(task, agent)| Wish::Order(Order::RetryOn { task, agent, changes: Box::default() }))
            .collect();
        self.acts.moving = rest;
        self.note_sent(&moves, state);
        moves
    }
}

/// How far an accepted order has come; `None` where nothing more is known.
fn stands(order: &Order, at: Timestamp, state: &State) -> Option<Stands> {
    let done = |word: &str| Some(Stands::Done(word.to_owned()));
    let of_task = |task: &TaskRef| {
        let found = state.tasks.find(task)?;
        if let Some(outcome) = &found.record.outcome {
            return if outcome.completed_at > at { done(outcome.state.word()) } else { None };
        }
        let held = state.agents.holder(task).and_then(|slot| slot.held.as_ref());
        held.is_some_and(|held| held.attempt.is_some()).then_some(Stands::Started)
    };
    let of_goal = |goal| {
        let goal = state.goals.get(goal)?;
        if goal.phase.is_over() { done(goal.phase.word()) } else { goal.is_running().then_some(Stands::Started) }
    };
    match order {
        Order::Retry { task, .. } | Order::ResumeTask { task } => of_task(task),
        Order::RetryOn { task, .. } => of_task(state.tasks.retried_as(task)?),
        Order::Task { spec, .. } => of_task(&spec.task),
        Order::Cancel { task } => {
            let found = state.tasks.find(task)?;
            found.record.outcome.as_ref().and_then(|outcome| done(outcome.state.word()))
        }
        Order::PauseTask { task } => (state.tasks.paused(task).is_some() && state.agents.holder(task).is_none())
            .then(|| Stands::Done("paused".into())),
        Order::Approve { goal, .. } => of_goal(goal),
        Order::CancelGoal { goal } | Order::Deny { goal } => {
            let goal = state.goals.get(goal)?;
            goal.phase.is_over().then(|| Stands::Done(goal.phase.word().to_owned()))
        }
        Order::StopAgent { agent, .. } => match state.word(state.agents.get(agent)?) {
            "stopped" => done("stopped"),
            _ => Some(Stands::Started),
        },
        Order::StartAgent { agent } => {
            let mut slots = state.agents.get(agent)?.slots.iter();
            let up = slots.any(|slot| matches!(slot.process, Process::Up { .. }));
            if up { done("up") } else { Some(Stands::Started) }
        }
        Order::Stop { .. } => None,
        // The answer says that it has been done.
        Order::Goal { .. }
        | Order::Workflow { .. }
        | Order::Answer { .. }
        | Order::EditPlan { .. }
        | Order::Permit { .. }
        | Order::Reply { .. }
        | Order::Forbid { .. }
        | Order::Extend { .. }
        | Order::Prioritise { .. }
        | Order::Remove { .. }
        | Order::Restore { .. }
        | Order::Restart { .. }
        | Order::Pause { .. }
        | Order::Resume { .. }
        | Order::Park { .. }
        | Order::Unpark { .. }
        | Order::Limit { .. } => done(""),
    }
}

/// The order that takes another back, as things are before it; `None` where none does.
pub(super) fn opposite(order: &Order, state: &State) -> Option<Order> {
    match order {
        Order::Remove { item } => Some(Order::Restore { item: item.clone() }),
        // An attempt that was ended cannot be taken back; a task that waited starts anew as it would have.
        Order::Cancel { task } => {
            let found = state.tasks.find(task)?;
            let idle = state.tasks.phase(&found) != Phase::Running;
            idle.then(|| Order::Retry { task: task.clone(), changes: Box::new(Changes::default()) })
        }
        Order::Prioritise { task, .. } => {
            let priority = state.tasks.priority(&state.tasks.find(task)?.record.spec);
            Some(Order::Prioritise { task: task.clone(), priority })
        }
        Order::PauseTask { task } => Some(Order::ResumeTask { task: task.clone() }),
        Order::StopAgent { agent, .. } => Some(Order::StartAgent { agent: agent.clone() }),
        Order::Pause { agent } => Some(Order::Resume { agent: agent.clone() }),
        Order::Goal { .. }
        | Order::Workflow { .. }
        | Order::Answer { .. }
        | Order::Task { .. }
        | Order::Approve { .. }
        | Order::EditPlan { .. }
        | Order::Deny { .. }
        | Order::Retry { .. }
        | Order::RetryOn { .. }
        | Order::Extend { .. }
        | Order::Restore { .. }
        | Order::Permit { .. }
        | Order::Reply { .. }
        | Order::Forbid { .. }
        | Order::ResumeTask { .. }
        | Order::Restart { .. }
        | Order::StartAgent { .. }
        | Order::CancelGoal { .. }
        | Order::Resume { .. }
        | Order::Park { .. }
        | Order::Unpark { .. }
        | Order::Limit { .. }
        | Order::Stop { .. } => None,
    }
}

/// What is ordered, the verb first.
fn words(order: &Order) -> String {
    match order {
        Order::Goal { text, .. } => format!("goal {}", text::fit(text, 60)),
        Order::Workflow { text, .. } => format!("workflow {}", text::fit(text, 60)),
        Order::Answer { goal, .. } => format!("answer {goal}"),
        Order::Task { spec, .. } => format!("task {}", spec.task),
        Order::Approve { goal, .. } => format!("approve {goal}"),
        Order::EditPlan { goal, .. } => format!("edit the plan of {goal}"),
        Order::Deny { goal } => format!("deny {goal}"),
        Order::Retry { task, changes } if changes.resume => format!("retry {task} in its session"),
        Order::Retry { task, changes } if changes.is_empty() => format!("retry {task}"),
        Order::Retry { task, .. } => format!("retry {task} with changes"),
        Order::RetryOn { task, agent, .. } => format!("reassign {task} to {agent}"),
        Order::Prioritise { task, priority } => format!("priority of {task}: {}", priority.word()),
        Order::Cancel { task } => format!("cancel {task}"),
        Order::Extend { task, .. } => format!("extend {task}"),
        Order::Permit { ask, always: true } => format!("allow {ask} always"),
        Order::Permit { ask, always: false } => format!("allow {ask}"),
        Order::Reply { ask, .. } => format!("answer {ask}"),
        Order::Forbid { ask } => format!("deny {ask}"),
        Order::PauseTask { task } => format!("pause {task}"),
        Order::ResumeTask { task } => format!("resume {task}"),
        Order::Remove { item } => format!("remove {}", named(item)),
        Order::Restore { item } => format!("restore {}", named(item)),
        Order::CancelGoal { goal } => format!("cancel {goal}"),
        Order::StopAgent { agent, drain: true } => format!("drain {agent}"),
        Order::StopAgent { agent, drain: false } => format!("stop {agent}"),
        Order::StartAgent { agent } => format!("start {agent}"),
        Order::Restart { agent } => format!("restart {agent}"),
        Order::Pause { agent } => format!("pause {agent}"),
        Order::Resume { agent } => format!("resume {agent}"),
        Order::Park { account } => format!("park {account}"),
        Order::Unpark { account, .. } => format!("resume {account}"),
        Order::Limit { group, .. } => format!("limits of {group}"),
        Order::Stop { .. } => "stop the room".to_owned(),
    }
}

fn named(item: &crate::model::Item) -> String {
    match item {
        crate::model::Item::Task(task) => task.to_string(),
        crate::model::Item::File(path) => path.clone(),
    }
}
