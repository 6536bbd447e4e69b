//! Marked tasks and files, and what is ordered about many at once.
//!
//! Its one surprise: marks are of things, not of rows. They stay while the table is sorted, grouped or narrowed, and what is
//! not shown any more is acted on all the same; the question before it says how many they are.

use super::App;
use crate::{
    model::{Changes, Item, TaskRef},
    room::{Order, State, tasks::Phase},
    tui::{
        Wish,
        layout::Pane,
        popup::{Popup, Way},
        text,
        views::tasks::Row,
    },
};

impl App {
    /// Whether it is marked.
    pub fn is_marked(&self, item: &Item) -> bool {
        self.marked.contains(item)
    }

    /// How many are marked.
    pub fn marked(&self) -> usize {
        self.marked.len()
    }

    /// Marks what is under the hand and goes on, or takes its mark away; on a heading all of its group.
    pub(super) fn toggle_mark(&mut self, state: &State) {
        let rows = self.rows(state);
        let at = self.selected_row(&rows);
        let items: Vec<Item> = match rows.get(at) {
            Some(row @ (Row::Task(..) | Row::Rejected(_))) => item(row).into_iter().collect(),
            Some(Row::Heading { .. }) => {
                let group = rows.from(at + 1).take_while(|row| !matches!(row, Row::Heading { .. }));
                group.filter_map(item).collect()
            }
            Some(Row::Removed(_)) | None => return self.say("what is in the trash is not marked", true),
        };
        self.choose(&rows, (at + items.len().max(1)).min(rows.len().saturating_sub(1)));
        self.toggle(items);
    }

    /// Marks everything that is shown, or takes all marks away.
    pub(super) fn mark_all(&mut self, state: &State) {
        if self.has_marks(state) {
            return self.marked.clear();
        }
        let items: Vec<_> = self.rows(state).iter().filter_map(item).collect();
        self.toggle(items);
        let tasks = "<retry> <retry-how> <cancel> <remove> <pause-task> <sooner> <later> act on all of them";
        let files = "<remove> discards them";
        let acts = if self.marked.iter().any(|item| matches!(item, Item::Task(_))) { tasks } else { files };
        let acts = self.settings.keys.told(&format!("{acts}, <back> unmarks"));
        self.say(&format!("{} marked; {acts}", self.marked.len()), false);
    }

    fn toggle(&mut self, items: Vec<Item>) {
        if items.iter().all(|item| self.marked.contains(item)) {
            for item in items {
                self.marked.remove(&item);
            }
        } else {
            self.marked.extend(items);
        }
    }

    /// Forgets marks of what is not there any more; whether the table has the keys and something is marked.
    fn has_marks(&mut self, state: &State) -> bool {
        self.marked.retain(|item| match item {
            Item::Task(task) => state.tasks.knows(task),
            Item::File(path) => state.tasks.rejected.contains_key(path),
        });
        self.popups.is_empty() && self.focus == Pane::Tasks && !self.marked.is_empty()
    }

    /// The tasks that a verb is about: the marked ones where the table has the keys, else the one that is selected. Where
    /// only files are marked it is about none.
    pub(super) fn about(&mut self, state: &State) -> Vec<TaskRef> {
        if self.has_marks(state) {
            let tasks = self.marked.iter().filter_map(|item| match item {
                Item::Task(task) => Some(task.clone()),
                Item::File(_) => None,
            });
            return tasks.collect();
        }
        self.subject(state).into_iter().collect()
    }

    /// Says that there is no task that a verb could be about.
    pub(super) fn no_task(&mut self) {
        if self.marked.is_empty() {
            self.say("no task is selected", true);
        } else {
            self.say_told("only files are marked: <remove> discards them, <back> unmarks", true);
        }
    }

    /// Orders for those of many tasks that they fit, after a question; a sentence where they fit none.
    pub(super) fn order_all(
        &mut self,
        verb: &str,
        tasks: &[TaskRef],
        order: impl Fn(&TaskRef) -> Option<Order>,
    ) -> Vec<Wish> {
        let orders: Vec<Order> = tasks.iter().filter_map(order).collect();
        if orders.is_empty() {
            self.say(&format!("none of {} can be {verb}", text::many(tasks.len(), "marked task")), true);
            return Vec::new();
        }
        let others = match tasks.len() - orders.len() {
            0 => String::new(),
            n => format!(" The other {n} stay as they are."),
        };
        let many = text::many(orders.len(), "marked task");
        let question = format!("{} {many}?{others}", capital(asked(verb)));
        self.popups.push(Popup::Confirm { question, orders });
        Vec::new()
    }

    /// Retries many.
    pub(super) fn retry_all(&mut self, tasks: &[TaskRef], state: &State) -> Vec<Wish> {
        self.order_all("retried", tasks, |task| match phase(state, task)? {
            Phase::Asking | Phase::Failed | Phase::Dropped | Phase::Retrying | Phase::Done => {
                Some(Order::Retry { task: task.clone(), changes: Box::default() })
            }
            Phase::Paused => Some(Order::ResumeTask { task: task.clone() }),
            Phase::Running | Phase::Ready | Phase::Waiting => None,
        })
    }

    /// Cancels many.
    pub(super) fn cancel_all(&mut self, tasks: &[TaskRef], state: &State) -> Vec<Wish> {
        self.order_all("cancelled", tasks, |task| {
            let open = state.tasks.find(task).is_some_and(|t| t.record.outcome.is_none());
            open.then(|| Order::Cancel { task: task.clone() })
        })
    }

    /// Asks whether what is marked shall be thrown away; `None` where nothing is.
    pub(super) fn remove_marked(&mut self, state: &State) -> Option<Vec<Wish>> {
        if !self.has_marks(state) {
            return None;
        }
        let (mut orders, mut tasks, mut files) = (Vec::new(), 0, 0);
        for item in &self.marked {
            match item {
                Item::Task(task) if phase(state, task).is_none_or(|phase| phase == Phase::Running) => continue,
                Item::Task(_) => tasks += 1,
                Item::File(_) => files += 1,
            }
            orders.push(Order::Remove { item: item.clone() });
        }
        if orders.is_empty() {
            self.say(&format!("none of {} can be removed", text::many(self.marked.len(), "marked task")), true);
            return Some(Vec::new());
        }
        let what = match (tasks, files) {
            (tasks, 0) => text::many(tasks, "marked task"),
            (0, files) => text::many(files, "marked file"),
            (tasks, files) => format!("{} and {}", text::many(tasks, "marked task"), text::many(files, "marked file")),
        };
        let others = match self.marked.len() - orders.len() {
            0 => String::new(),
            n => format!(" The other {n} stay as they are."),
        };
        self.popups.push(Popup::Confirm { question: format!("Remove {what}?{others}"), orders });
        Some(Vec::new())
    }

    /// Starts one or many again in this way.
    pub(super) fn retry_many_in(&mut self, tasks: Vec<TaskRef>, way: &Way, state: &State) -> Vec<Wish> {
        match way {
            Way::On(agent) => self.reassign(tasks, agent, state),
            Way::Same | Way::Edit => self.retry_all(&tasks, state),
            Way::Resume => {
                let resumes = |task: &TaskRef| {
                    let found = state.tasks.find(task)?;
                    let over = !matches!(state.tasks.phase(&found), Phase::Running | Phase::Ready | Phase::Waiting);
                    let session = found.record.attempts.last().is_some_and(|a| a.session_id.is_some());
                    let changes = Box::new(Changes { resume: true, ..Changes::default() });
                    (over && session).then(|| Order::Retry { task: task.clone(), changes })
                };
                self.order_all("resumed", &tasks, resumes)
            }
        }
    }
}

/// What can be marked of a row.
fn item(row: Row<'_>) -> Option<Item> {
    match row {
        Row::Task(task, _) => Some(Item::Task(task.record.task().clone())),
        Row::Rejected(file) => Some(Item::File(file.path.clone())),
        Row::Removed(_) | Row::Heading { .. } => None,
    }
}

fn phase(state: &State, task: &TaskRef) -> Option<Phase> {
    state.tasks.find(task).map(|found| state.tasks.phase(&found))
}

/// `retried` as it is asked for: `retry`.
fn asked(verb: &str) -> &str {
    match verb {
        "retried" => "retry",
        "cancelled" => "cancel",
        "resumed" => "take up the sessions of",
        other => other,
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
