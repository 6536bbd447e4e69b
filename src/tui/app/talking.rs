//! Talk with the orchestrator: its questions answered, a goal that has ended followed up on.

use super::{App, Editing};
use crate::{
    model::{Approval, GoalId, Terms},
    room::{Goal, Order, State},
    tui::Wish,
};

impl App {
    /// Opens the composer for the answer, where the goal asks something; otherwise false.
    pub(super) fn answer_here(&mut self, id: &GoalId, state: &State) -> bool {
        let asks = state.goals.get(id).is_some_and(Goal::asks);
        if asks {
            self.write(Editing::Answer(id.clone()), "");
        }
        asks
    }

    /// Opens the composer for what follows from a goal: the one that is looked at, else the newest with a report.
    pub(super) fn follow_up(&mut self, state: &State) {
        let here = self.goal_here(state).and_then(|id| state.goals.get(&id));
        let newest = || state.goals.iter().rev().find(|goal| goal.report.is_some());
        match here.filter(|goal| goal.report.is_some()).or_else(newest) {
            Some(goal) => self.write(Editing::FollowUp(goal.id.clone()), ""),
            None => self.say("no goal has a report yet that one could follow up on", true),
        }
    }

    /// What a text is as a word with the orchestrator; `None` where it is of something else.
    pub(super) fn talked(editing: &Editing, text: &str) -> Option<Wish> {
        let text = text.to_owned();
        let order = match editing {
            Editing::Answer(goal) => Order::Answer { goal: goal.clone(), text },
            Editing::FollowUp(goal) => {
                let terms = Terms { follows: Some(goal.clone()), ..Terms::default() };
                Order::Goal { text, approval: Approval::Ask, terms }
            }
            Editing::Task(_) | Editing::Planned { .. } | Editing::Ceiling(_) | Editing::Reply { .. } => return None,
        };
        Some(Wish::Order(order))
    }
}
