//! Moving through panes, lists, pages and the log.

use super::{App, Subject, spots};
use crate::{
    model::TaskRef,
    room::State,
    tui::{
        Wish, draw,
        layout::Pane,
        popup::Popup,
        views::{
            Scene, agents, files, limits, plan,
            tasks::{Row, RowKey, Rows},
        },
    },
};

impl App {
    pub(super) fn look_at(&mut self, pane: Pane) {
        self.focus = pane;
        match pane {
            Pane::Agents => self.subject = Subject::Agent,
            Pane::Tasks => self.subject = Subject::Task,
            Pane::Limits | Pane::Log | Pane::Orchestrator => {}
        }
    }

    pub(super) fn step(&mut self, forward: bool) {
        if self.popups.is_empty() {
            self.look_at(self.focus.step(forward));
        }
    }

    pub(super) fn view(&mut self, pane: Option<Pane>) {
        self.popups.clear();
        self.composing = false;
        self.zoom = pane.is_some();
        self.look_at(pane.unwrap_or(Pane::Tasks));
    }

    pub(super) fn back(&mut self) -> Vec<Wish> {
        if self.popups.pop().is_some() {
            return Vec::new();
        }
        if self.is_reading() && self.log.end_range() {
            return Vec::new();
        }
        if self.find.is_on() {
            return self.end_search();
        }
        if self.pinned.take().is_some() {
            return Vec::new();
        }
        if !self.marked.is_empty() {
            self.marked.clear();
        } else if !self.table.filter.is_empty() {
            self.table.filter.clear();
        } else if self.zoom {
            self.zoom = false;
        } else {
            self.line = None;
            self.row = None;
            self.look_at(Pane::Tasks);
        }
        Vec::new()
    }

    pub(super) fn travel(&mut self, travel: Travel, state: &State) {
        let height = self.height(state);
        if let Some(popup) = self.popups.last() {
            let (len, scene) = (self.popup_len(popup, state), usize::from(self.size.1).saturating_sub(6));
            let rows = match popup {
                Popup::Files { task, .. } => files::of(state, task).len(),
                Popup::Inbox { .. } => self.waiting(state).len(),
                Popup::Permit { ask, reply: Some(_), .. } => {
                    state.asks.get(*ask).map_or(0, |open| spots(&open.ask.questions).len())
                }
                _ => 0,
            };
            match self.popups.last_mut() {
                Some(Popup::Plan { goal, selected }) => {
                    let rows = plan::rows(state, goal, &self.plan_view);
                    let at = plan::place(&rows, *selected);
                    *selected = rows.get(travel.from(at, rows.len(), scene)).map_or(*selected, |row| row.task);
                }
                Some(popup) => {
                    if let Some(selected) = popup.selected_mut() {
                        *selected = travel.from(*selected, rows, scene);
                    } else if let Some(scroll) = popup.scroll_mut() {
                        *scroll = travel.from(*scroll, len.saturating_sub(scene) + 1, scene);
                    }
                }
                None => {}
            }
            return;
        }
        match self.focus {
            Pane::Tasks => {
                let all = self.rows(state);
                let to = travel.from(self.selected_row(&all), all.len(), height);
                self.choose(&all, to);
            }
            Pane::Agents => {
                let names = state.agents.names();
                let to = travel.from(self.selected_agent(state), names.len(), height / agents::ROWS);
                self.agent = names.get(to).cloned();
                self.pinned = None;
            }
            Pane::Limits => {
                let rows = self.limits_page(state).len();
                self.limits_row = travel.from(self.limits_row.min(rows.saturating_sub(1)), rows, height);
            }
            Pane::Log => {
                self.pin(state);
                let (columns, height) = self.log_size(state);
                let page = isize::try_from(height.saturating_sub(1).max(1)).unwrap_or(1);
                match travel {
                    Travel::Rows(n) => self.log.scroll(n, columns, height),
                    Travel::Pages(n) => self.log.scroll(n * page, columns, height),
                    Travel::Start => self.log.to_start(columns, height),
                    Travel::End => self.log.to_end(),
                }
            }
            Pane::Orchestrator => {
                if let Some(at) = self.selected_line(state) {
                    let to = travel.from(at, state.lines.len(), height);
                    // At the end it follows what is said next.
                    self.line = state.lines.get(to).filter(|_| to + 1 < state.lines.len()).cloned();
                }
            }
        }
    }

    pub(super) fn height(&self, state: &State) -> usize {
        let area = self.layout(state).and_then(|l| l.pane(self.focus)).unwrap_or_default();
        usize::from(area.height.saturating_sub(3)).max(1)
    }

    /// What the limits' pane says, row by row.
    pub(super) fn limits_page(&self, state: &State) -> Vec<limits::Row> {
        let scene = Scene { state, app: self, now: state.now, theme: &self.settings.theme };
        let width = self.layout(state).and_then(|l| l.limits).map_or(0, |area| area.width.saturating_sub(2));
        limits::page(&scene, usize::from(width))
    }

    pub(super) fn popup_len(&self, popup: &Popup, state: &State) -> usize {
        let scene = Scene { state, app: self, now: state.now, theme: &self.settings.theme };
        draw::page(&scene, popup, self.size).map_or(0, |p| p.lines.len())
    }

    pub(super) fn choose(&mut self, rows: &Rows<'_>, at: usize) {
        if let Some(row) = rows.get(at) {
            self.row = Some(row.key());
            self.row_at = at;
            self.subject = Subject::Task;
            self.pinned = None;
        }
    }

    /// Keeps what is shown where it is, although nobody chose it by hand.
    pub(super) fn pin(&mut self, state: &State) {
        if self.pinned.is_some() {
            return;
        }
        match self.subject {
            Subject::Task if self.row.is_none() => {
                let all = self.rows(state);
                let at = self.selected_row(&all);
                self.choose(&all, at);
            }
            Subject::Agent if self.agent.is_none() => {
                self.agent = state.agents.names().first().cloned();
            }
            Subject::Task | Subject::Agent => {}
        }
    }

    /// The task the log and the verbs are about.
    pub(super) fn subject(&self, state: &State) -> Option<TaskRef> {
        if let Some(task) = self.popups.iter().rev().find_map(|p| match p {
            Popup::Task { task, .. } | Popup::Files { task, .. } => Some(task),
            Popup::Help { .. }
            | Popup::Palette { .. }
            | Popup::Leave { .. }
            | Popup::Confirm { .. }
            | Popup::Plan { .. }
            | Popup::Agent { .. }
            | Popup::Document { .. }
            | Popup::Inbox { .. }
            | Popup::Permit { .. }
            | Popup::Acts { .. }
            | Popup::Retry { .. }
            | Popup::Search { .. }
            | Popup::Find { .. } => None,
        }) {
            return Some(task.clone());
        }
        match self.subject {
            Subject::Task => self.chosen_task(state),
            Subject::Agent => {
                let agent = state.agents.iter().nth(self.selected_agent(state))?;
                let held = agent.slots.iter().filter_map(|s| s.held.as_ref()).max_by_key(|h| h.since);
                held.map(|h| h.task.clone()).or_else(|| {
                    let of = state.tasks.of(agent.name());
                    let last =
                        of.filter_map(|t| Some((t.record.attempts.last()?.started_at, t))).max_by_key(|(at, _)| *at);
                    last.map(|(_, t)| t.record.task().clone())
                })
            }
        }
    }

    pub(super) fn chosen_task(&self, state: &State) -> Option<TaskRef> {
        // What is filtered away is not under the hand.
        if self.table.filter.is_empty()
            && let Some(RowKey::Task(task)) = &self.row
            && state.tasks.get(task).is_some()
        {
            return Some(task.clone());
        }
        let all = self.rows(state);
        match all.get(self.selected_row(&all))? {
            Row::Task(task, _) => Some(task.record.task().clone()),
            Row::Rejected(_) | Row::Removed(_) | Row::Heading { .. } => None,
        }
    }
}

/// A way through a list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Travel {
    Rows(isize),
    Pages(isize),
    Start,
    End,
}

impl Travel {
    pub(super) fn from(self, at: usize, len: usize, height: usize) -> usize {
        let last = len.saturating_sub(1);
        let page = isize::try_from(height.max(2) - 1).unwrap_or(1);
        match self {
            Self::Rows(n) => at.saturating_add_signed(n).min(last),
            Self::Pages(n) => at.saturating_add_signed(n * page).min(last),
            Self::Start => 0,
            Self::End => last,
        }
    }
}
