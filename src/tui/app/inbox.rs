//! What waits for a person: the list of it, and the way there.

use jiff::Timestamp;

use super::App;
use crate::{
    room::{Need, State},
    tui::{
        layout::Pane,
        popup::Popup,
        views::{limits, tasks::RowKey},
    },
};

impl App {
    /// What waits for a person and since when, the most urgent kind first, within a kind the oldest.
    pub fn waiting(&self, state: &State) -> Vec<(Need, Option<Timestamp>)> {
        let mut waiting: Vec<_> =
            self.unsnoozed(state, state.now).map(|need| (need.rank(), state.since(&need), need)).collect();
        waiting.sort_by_key(|(rank, since, _)| (*rank, *since));
        waiting.into_iter().map(|(_, since, need)| (need, since)).collect()
    }

    /// What waits for a person, the most urgent kind first; what was put off comes back by itself.
    pub fn unsnoozed(&self, state: &State, now: Timestamp) -> impl Iterator<Item = Need> {
        state.needs_you().into_iter().filter(move |need| !self.is_snoozed(need, now))
    }

    pub(super) fn open_inbox(&mut self, state: &State) {
        self.popups.retain(|p| !matches!(p, Popup::Inbox { .. }));
        if self.waiting(state).is_empty() {
            return self.say("nothing waits for you", false);
        }
        self.popups.push(Popup::Inbox { selected: 0 });
    }

    pub(super) fn next_need(&mut self, state: &State) {
        let waiting = self.waiting(state);
        let at = self.need.as_ref().and_then(|need| waiting.iter().position(|(n, _)| n == need));
        let next = at.map_or(0, |at| (at + 1) % waiting.len().max(1));
        let Some((need, _)) = waiting.into_iter().nth(next) else {
            return self.say("nothing waits for you", false);
        };
        self.go_to_need(&need, state);
        self.need = Some(need);
    }

    /// Shows what waits where it can be answered.
    pub(super) fn go_to_need(&mut self, need: &Need, state: &State) {
        self.popups.clear();
        self.composing = false;
        match need {
            Need::Account(account) => {
                self.view(Some(Pane::Limits));
                let rows = self.limits_page(state);
                let wanted = limits::Item::Account(account.clone());
                self.limits_row = rows.iter().position(|row| row.item.as_ref() == Some(&wanted)).unwrap_or_default();
            }
            Need::Plan(goal) | Need::Question(goal) => self.open_plan(goal.clone(), state),
            Need::Permit(ask) => {
                if let Some(open) = state.asks.get(*ask) {
                    self.table.filter.clear();
                    self.row = Some(RowKey::Task(open.attempt.task.clone()));
                    self.look_at(Pane::Tasks);
                }
                self.open_ask(*ask, state);
            }
            Need::Asks(task) | Need::Paused(task) | Need::Failed(task) => {
                self.table.filter.clear();
                self.row = Some(RowKey::Task(task.clone()));
                self.look_at(Pane::Tasks);
                self.popups.push(Popup::Task { task: task.clone(), scroll: 0 });
            }
        }
    }
}
