//! How the tasks are arranged: sorted, grouped, folded, narrowed; and the way from what waits to what it waits for.

use std::collections::BTreeSet;

use super::App;
use crate::{
    model::{Item, TaskRef},
    room::{State, Why, tasks::Prerequisites},
    tui::{
        layout::Pane,
        popup::Popup,
        views::tasks::{Row, RowKey, TRASH, Table},
    },
};

/// The filter that shows the dead letters.
const DEAD: &str = "is:dead";

impl App {
    pub(super) fn sort(&mut self) {
        self.table.sort = self.table.sort.next();
        self.say(&format!("by {}", self.table.sort.word()), false);
    }

    pub(super) fn group(&mut self) {
        self.table.group = self.table.group.next();
        self.table.folded.clear();
        let text =
            self.table.group.word().map_or_else(|| "no groups".to_owned(), |word| format!("in groups by {word}"));
        self.say(&text, false);
    }

    /// Folds the group under the hand, or what is behind the task of a plan; or unfolds it.
    pub(super) fn fold(&mut self, fold: bool, state: &State) {
        if matches!(self.popups.last(), Some(Popup::Plan { .. })) {
            return self.fold_planned(fold, state);
        }
        let rows = self.rows(state);
        let heading = rows.group_of(self.selected_row(&rows)).map(str::to_owned);
        let Some(name) = heading else { return self.say_told("there are no groups: <group> makes some", false) };
        if fold {
            self.row = Some(RowKey::Heading(name.clone()));
            self.table.folded.insert(name);
        } else {
            self.table.folded.remove(&name);
        }
    }

    /// Shows only the dead letters, or all tasks again.
    pub(super) fn show_dead(&mut self, state: &State) {
        self.show_only(DEAD, state.tasks.dead().len(), "there are no dead letters");
    }

    /// Shows only what was thrown away, or all tasks again.
    pub(super) fn show_trash(&mut self, state: &State) {
        self.show_only(TRASH, state.tasks.trash.len(), "the trash is empty");
    }

    fn show_only(&mut self, filter: &str, rows: usize, none: &str) {
        if self.table.filter == filter {
            return self.table.filter.clear();
        }
        if rows == 0 {
            return self.say(none, false);
        }
        self.popups.clear();
        self.row = None;
        filter.clone_into(&mut self.table.filter);
        self.look_at(Pane::Tasks);
    }

    /// What was thrown away and is under the hand.
    pub(super) fn removed_here(&self, state: &State) -> Option<Item> {
        if !self.popups.is_empty() || self.focus != Pane::Tasks {
            return None;
        }
        let rows = self.rows(state);
        match rows.get(self.selected_row(&rows))? {
            Row::Removed(removed) => Some(removed.item.clone()),
            Row::Task(..) | Row::Rejected(_) | Row::Heading { .. } => None,
        }
    }

    /// Goes to the task that the one under the hand waits for in the end.
    pub(super) fn go_to_blocker(&mut self, state: &State) {
        if matches!(self.popups.last(), Some(Popup::Plan { .. })) {
            return self.go_to_planned_blocker(state);
        }
        let Some(task) = self.subject(state) else { return self.say("no task is selected", true) };
        let why = |task: &TaskRef| state.why(task, state.now).map(|why| why.to_string()).unwrap_or_default();
        match blocker(state, &task) {
            Some(holds) => {
                let text = format!("{task} waits for {holds}: {}", why(&holds));
                self.go_to_task(&holds);
                self.say(&text, false);
            }
            None => self.say(&format!("{task}: {}", why(&task)), false),
        }
    }

    /// Puts the hand on a task; on its page where one is open.
    pub(super) fn go_to_task(&mut self, task: &TaskRef) {
        self.table = Table { sort: self.table.sort, group: self.table.group, ..Table::default() };
        self.row = Some(RowKey::Task(task.clone()));
        self.pinned = None;
        self.look_at(Pane::Tasks);
        if let Some(Popup::Task { task: shown, scroll }) = self.popups.last_mut() {
            (*shown, *scroll) = (task.clone(), 0);
        } else {
            self.popups.clear();
        }
    }
}

/// The task that this one waits for in the end: what has failed before what runs, what runs before what could; `None`
/// where no task holds it.
pub(super) fn blocker(state: &State, task: &TaskRef) -> Option<TaskRef> {
    let mut seen = BTreeSet::new();
    let mut at = task.clone();
    while seen.insert(at.clone()) {
        let entry = state.tasks.find(&at)?;
        if entry.record.outcome.is_some() {
            break;
        }
        match state.tasks.prerequisites(&entry) {
            Prerequisites::Failed(dependency) => return Some(dependency),
            Prerequisites::Open(open, _) if !open.is_empty() => {
                let phase = |task: &TaskRef| state.tasks.find(task).map(|t| state.tasks.phase(&t));
                at = open.into_iter().min_by_key(phase)?;
            }
            Prerequisites::Open(..) | Prerequisites::Met => break,
        }
    }
    if at != *task {
        return Some(at);
    }
    match state.why(task, state.now) {
        Some(Why::Next(_, _, busy)) => busy,
        Some(_) | None => None,
    }
}
