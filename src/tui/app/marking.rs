//! Marked tasks, and what is ordered about many at once.
//!
//! Its one surprise: marks are of tasks, not of rows. They stay while the table is sorted, grouped or narrowed, and what is
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
    /// Whether a task is marked.
    pub fn is_marked(&self, task: &TaskRef) -> bool {
        self.marked.contains(task)
    }

    /// How many are marked.
    pub fn marked(&self) -> usize {
        self.marked.len()
    }

    /// Marks the task under the hand and goes on, or takes its mark away; on a heading all of its group.
    pub(super) fn toggle_mark(&mut self, state: &State) {
        let rows = self.rows(state);
        let at = self.selected_row(&rows);
        let tasks: Vec<TaskRef> = match rows.get(at) {
            Some(Row::Task(task, _)) => vec![task.record.task().clone()],
            Some(Row::Heading { .. }) => {
                let group = rows.iter().skip(at + 1).take_while(|row| !matches!(row, Row::Heading { .. }));
                group.filter_map(tasked).collect()
            }
            Some(Row::Rejected(_) | Row::Removed(_)) | None => return self.say("only tasks are marked", true),
        };
        self.choose(&rows, (at + tasks.len().max(1)).min(rows.len().saturating_sub(1)));
        self.toggle(tasks);
    }

    /// Marks every task that is shown, or takes all marks away.
    pub(super) fn mark_all(&mut self, state: &State) {
        if !self.marked.is_empty() {
            return self.marked.clear();
        }
        let tasks: Vec<_> = self.rows(state).iter().filter_map(tasked).collect();
        self.toggle(tasks);
        self.say(&format!("{} marked; r R c x P + - act on all of them, esc unmarks", self.marked.len()), false);
    }

    fn toggle(&mut self, tasks: Vec<TaskRef>) {
        if tasks.iter().all(|task| self.marked.contains(task)) {
            for task in tasks {
                self.marked.remove(&task);
            }
        } else {
            self.marked.extend(tasks);
        }
    }

    /// The tasks that a verb is about: the marked ones where the table has the keys, else the one that is selected.
    pub(super) fn about(&mut self, state: &State) -> Vec<TaskRef> {
        self.marked.retain(|task| state.tasks.knows(task));
        if self.popups.is_empty() && self.focus == Pane::Tasks && !self.marked.is_empty() {
            return self.marked.iter().cloned().collect();
        }
        self.subject(state).into_iter().collect()
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

    /// Throws many away.
    pub(super) fn remove_all(&mut self, tasks: &[TaskRef], state: &State) -> Vec<Wish> {
        self.order_all("removed", tasks, |task| {
            let runs = phase(state, task)? == Phase::Running;
            (!runs).then(|| Order::Remove { item: Item::Task(task.clone()) })
        })
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

fn tasked(row: &Row<'_>) -> Option<TaskRef> {
    match row {
        Row::Task(task, _) => Some(task.record.task().clone()),
        Row::Rejected(_) | Row::Removed(_) | Row::Heading { .. } => None,
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
        "removed" => "remove",
        "resumed" => "take up the sessions of",
        other => other,
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
