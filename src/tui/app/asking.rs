//! Answers to what agents ask for, and tasks that are paused.
//!
//! Its one surprise: a yes is given only where what is asked for is on the screen, by its number. A list that moves under
//! the hand must not decide what is allowed.

use super::App;
use crate::{
    model::{AgentName, AskId, TaskRef},
    room::{Need, Order, State},
    tui::{
        Wish,
        popup::{Popup, Replying},
        text,
    },
};

impl App {
    /// The request that is shown, or that is under the hand.
    fn asked_here(&self, state: &State) -> Option<AskId> {
        match self.popups.last() {
            Some(Popup::Permit { ask, .. }) => Some(*ask),
            Some(Popup::Inbox { selected }) => match self.waiting(state).get(*selected) {
                Some((Need::Permit(ask), _)) => Some(*ask),
                Some(_) | None => None,
            },
            Some(Popup::Task { task, .. }) => state.asks.of(task).map(|open| open.id),
            Some(_) => None,
            None if self.goal_here(state).is_some() => None,
            None => self.subject(state).and_then(|task| state.asks.of(&task).map(|open| open.id)),
        }
    }

    /// Opens what an agent asks for.
    pub(super) fn open_ask(&mut self, ask: AskId, state: &State) {
        let reply = state.asks.get(ask).and_then(|open| Replying::new(&open.ask.questions));
        self.popups.retain(|p| !matches!(p, Popup::Permit { .. }));
        self.popups.push(Popup::Permit { ask, scroll: 0, reply });
    }

    /// Answers the request that is shown; one that is only under the hand is shown first. `None` where there is none.
    pub(super) fn answer(&mut self, state: &State, answer: fn(AskId) -> Order) -> Option<Vec<Wish>> {
        let ask = self.asked_here(state)?;
        if !matches!(self.popups.last(), Some(Popup::Permit { .. })) {
            self.open_ask(ask, state);
            return Some(Vec::new());
        }
        let order = answer(ask);
        if matches!(self.popups.last(), Some(Popup::Permit { reply: Some(_), .. }))
            && matches!(order, Order::Permit { .. })
        {
            return Some(self.send_reply(state));
        }
        self.popups.pop();
        Some(vec![Wish::Order(order)])
    }

    pub(super) fn allow_always(&mut self, state: &State) -> Vec<Wish> {
        let answered = self.answer(state, |ask| Order::Permit { ask, always: true });
        answered.unwrap_or_else(|| {
            self.say("no agent asks for anything here", true);
            Vec::new()
        })
    }

    /// Starts the workers of the agent that is shown anew.
    pub(super) fn restart(&mut self) -> Vec<Wish> {
        let Some(Popup::Agent { agent, .. }) = self.popups.last() else {
            self.say("open an agent first: enter on it", true);
            return Vec::new();
        };
        vec![Wish::Order(Order::Restart { agent: agent.clone() })]
    }

    /// Ends the workers of the agent that is meant: of that which runs is asked first, unless it may end.
    pub(super) fn stop_agent(&mut self, drain: bool, state: &State) -> Vec<Wish> {
        let Some(found) = self.agent_meant(state).and_then(|name| state.agents.get(&name)) else {
            self.say("no agent is selected", true);
            return Vec::new();
        };
        let agent = found.name().clone();
        let held: Vec<_> = found.slots.iter().filter_map(|slot| Some(slot.held.as_ref()?.task.id.as_str())).collect();
        let order = Order::StopAgent { agent: agent.clone(), drain };
        if drain || held.is_empty() {
            return vec![Wish::Order(order)];
        }
        let question = format!("Stop {agent}? {} is ended, and taken up again when it starts.", held.join(", "));
        self.popups.push(Popup::Confirm { question, orders: vec![order] });
        Vec::new()
    }

    /// The login in an agent's home was looked at.
    pub fn login_read(&mut self, agent: &AgentName, read: &Result<String, String>) {
        let clean = |words: &String| text::one_line(words).into_owned();
        for popup in &mut self.popups {
            if let Popup::Agent { agent: shown, login, .. } = popup
                && shown == agent
            {
                *login = Some(read.as_ref().map(clean).map_err(clean));
            }
        }
    }

    /// Starts the workers of the agent that is meant.
    pub(super) fn start_agent(&mut self, state: &State) -> Vec<Wish> {
        let Some(agent) = self.agent_meant(state) else {
            self.say("no agent is selected", true);
            return Vec::new();
        };
        vec![Wish::Order(Order::StartAgent { agent })]
    }

    /// Pauses the task, or lets it go on.
    pub(super) fn pause_one(&mut self, state: &State) -> Vec<Wish> {
        let tasks = self.about(state);
        if tasks.is_empty() {
            self.no_task();
        }
        tasks.into_iter().map(|task| Wish::Order(paused_or_on(state, task))).collect()
    }
}

/// The order that pauses a task, or lets it go on.
fn paused_or_on(state: &State, task: TaskRef) -> Order {
    match state.tasks.paused(&task) {
        Some(_) => Order::ResumeTask { task },
        None => Order::PauseTask { task },
    }
}
