//! What is ordered, about what, and what is asked before.

use super::App;
use crate::{
    model::{EndState, GoalId, GoalPhase},
    room::{Order, State, tasks::Phase},
    tui::{Wish, layout::Pane, popup::Popup, text},
};

impl App {
    /// The goal the verbs are about, if the operator looks at one.
    pub(super) fn goal_here(&self, state: &State) -> Option<GoalId> {
        match self.popups.last() {
            Some(Popup::Plan { goal, .. } | Popup::Report { goal, .. }) => return Some(goal.clone()),
            Some(_) => return None,
            None => {}
        }
        if self.focus == Pane::Orchestrator {
            let line = self.selected_line(state).and_then(|at| state.lines.get(at));
            return line.and_then(|l| l.goal.clone());
        }
        None
    }

    pub(super) fn plan_here(&mut self, state: &State) -> Option<GoalId> {
        let here = self.goal_here(state).filter(|g| state.goals.get(g).is_some_and(crate::room::Goal::needs_approval));
        if here.is_some() {
            return here;
        }
        let mut waiting = state.goals.iter().filter(|g| g.needs_approval());
        match (waiting.next(), waiting.next()) {
            (None, _) => {
                self.say("no plan waits for approval", true);
                None
            }
            (Some(goal), None) => Some(goal.id.clone()),
            (Some(goal), Some(_)) => {
                // Several wait: show which one before saying yes to it.
                self.open_plan(goal.id.clone());
                None
            }
        }
    }

    pub(super) fn approve(&mut self, state: &State) -> Vec<Wish> {
        let Some(goal) = self.plan_here(state) else { return Vec::new() };
        self.popups.retain(|p| !matches!(p, Popup::Plan { .. }));
        vec![Wish::Order(Order::Approve { goal })]
    }

    pub(super) fn deny(&mut self, state: &State) {
        if let Some(goal) = self.plan_here(state) {
            let question = format!("Deny the plan of {goal}? The goal ends there.");
            self.popups.push(Popup::Confirm { question, order: Order::Deny { goal } });
        }
    }

    pub(super) fn retry(&mut self, state: &State) -> Vec<Wish> {
        let Some(task) = self.subject(state) else {
            self.say("no task is selected", true);
            return Vec::new();
        };
        let Some(entry) = state.tasks.find(&task) else { return Vec::new() };
        let order = Order::Retry { task: task.clone(), changes: Box::default() };
        match state.tasks.phase(&entry) {
            Phase::Failed | Phase::Dropped | Phase::Retrying => return vec![Wish::Order(order)],
            Phase::Done => {
                let question = format!("Run {task} again? It is done; its result makes room for a new one.");
                self.popups.push(Popup::Confirm { question, order });
            }
            phase @ (Phase::Running | Phase::Ready | Phase::Waiting) => {
                self.say(&format!("{task} is {}: there is nothing to retry", phase.word()), true);
            }
        }
        Vec::new()
    }

    pub(super) fn cancel(&mut self, state: &State) {
        if let Some(goal) = self.goal_here(state).and_then(|g| state.goals.get(&g)) {
            return match &goal.phase {
                GoalPhase::Ended { .. } => self.say(&format!("{} is over: {}", goal.id, goal.phase.word()), true),
                GoalPhase::Planning { .. }
                | GoalPhase::AwaitingApproval
                | GoalPhase::Running
                | GoalPhase::Synthesising => {
                    let open = goal.tasks.iter().filter(|t| state.tasks.knows(t) && state.tasks.end_state(t).is_none());
                    let open = open.count();
                    let tasks = text::many(open, "task");
                    let question = format!("End goal {} and {tasks} that have not ended?", goal.id);
                    self.popups.push(Popup::Confirm { question, order: Order::CancelGoal { goal: goal.id.clone() } });
                }
            };
        }
        let Some(task) = self.subject(state) else { return self.say("no task is selected", true) };
        let Some(entry) = state.tasks.find(&task) else { return };
        if let Some(outcome) = &entry.record.outcome {
            let word = if outcome.state == EndState::Done { "done" } else { outcome.state.word() };
            return self.say(&format!("{task} has ended already: {word}"), true);
        }
        let what = match state.tasks.phase(&entry) {
            Phase::Running => "Its attempt is ended with everything it started.",
            Phase::Failed | Phase::Ready | Phase::Retrying | Phase::Waiting | Phase::Done | Phase::Dropped => {
                "It will not start; what depends on it is skipped."
            }
        };
        let question = format!("Cancel {task}? {what}");
        self.popups.push(Popup::Confirm { question, order: Order::Cancel { task } });
    }

    pub(super) fn pause(&mut self, state: &State) -> Vec<Wish> {
        let name = match self.popups.last() {
            Some(Popup::Agent { agent, .. }) => Some(agent.clone()),
            Some(_) | None if self.focus == Pane::Agents => {
                state.agents.iter().nth(self.selected_agent(state)).map(|a| a.name().clone())
            }
            Some(_) | None => self.subject(state).map(|t| t.agent),
        };
        match name.and_then(|n| state.agents.get(&n)) {
            Some(agent) if agent.paused => vec![Wish::Order(Order::Resume { agent: agent.name().clone() })],
            Some(agent) => vec![Wish::Order(Order::Pause { agent: agent.name().clone() })],
            None => {
                self.say("no agent is selected", true);
                Vec::new()
            }
        }
    }
}
