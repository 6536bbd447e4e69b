//! Which rows the tasks' table has, and in which order: what is narrowed, sorted, grouped and folded.
//!
//! Must not draw. Its one surprise: what was thrown away is no row of the table until it is asked for (`is:trash`); it
//! would outlive everything else there.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use jiff::Timestamp;

use crate::{
    model::{GoalId, Item, Rejected, Removed, TaskRef},
    room::{State, Task, tasks::Phase},
};

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// A task and where it stands.
    Task(&'a Task, Phase),
    /// A file that is no task.
    Rejected(&'a Rejected),
    /// Something that was thrown away.
    Removed(&'a Removed),
    /// The head of a group.
    Heading {
        /// What its rows have in common.
        name: &'a str,
        /// How many there are.
        rows: usize,
        /// They are not shown.
        folded: bool,
    },
}

/// Names a row across changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKey {
    /// A task.
    Task(TaskRef),
    /// A file that is no task, by path.
    Rejected(String),
    /// Something that was thrown away.
    Removed(Item),
    /// The head of a group.
    Heading(String),
}

impl Row<'_> {
    /// Its name across changes.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Task(task, _) => RowKey::Task(task.record.task().clone()),
            Self::Rejected(file) => RowKey::Rejected(file.path.clone()),
            Self::Removed(removed) => RowKey::Removed(removed.item.clone()),
            Self::Heading { name, .. } => RowKey::Heading((*name).to_owned()),
        }
    }

    /// Whether it is the row of this name.
    pub fn is(&self, key: &RowKey) -> bool {
        match (self, key) {
            (Self::Task(task, _), RowKey::Task(name)) => task.record.task() == name,
            (Self::Rejected(file), RowKey::Rejected(path)) => &file.path == path,
            (Self::Removed(removed), RowKey::Removed(item)) => &removed.item == item,
            (Self::Heading { name, .. }, RowKey::Heading(heading)) => name == heading,
            (Self::Task(..) | Self::Rejected(_) | Self::Removed(_) | Self::Heading { .. }, _) => false,
        }
    }
}

/// What the rows are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// What is wrong, what runs, what is next, what waits, what is over.
    #[default]
    State,
    /// What changed last comes first.
    Changed,
    /// What came first comes first.
    Age,
    /// What cost most comes first.
    Cost,
    /// By name.
    Name,
}

impl Sort {
    /// The word on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Changed => "last change",
            Self::Age => "age",
            Self::Cost => "cost",
            Self::Name => "name",
        }
    }

    /// The next one, going round.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::State => Self::Changed,
            Self::Changed => Self::Age,
            Self::Age => Self::Cost,
            Self::Cost => Self::Name,
            Self::Name => Self::State,
        }
    }
}

/// What the groups have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Group {
    /// There are none.
    #[default]
    None,
    /// The goal, the newest first.
    Goal,
    /// The agent.
    Agent,
    /// The state.
    State,
}

impl Group {
    /// The word on screen.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Goal => Some("goal"),
            Self::Agent => Some("agent"),
            Self::State => Some("state"),
        }
    }

    /// The next one, going round.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::None => Self::Goal,
            Self::Goal => Self::Agent,
            Self::Agent => Self::State,
            Self::State => Self::None,
        }
    }
}

/// How the table is arranged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Only rows that hold this, or stand so: `is:dead`; empty for all.
    pub filter: String,
    /// What they are sorted by.
    pub sort: Sort,
    /// What they are grouped by.
    pub group: Group,
    /// Groups of which only the head is shown.
    pub folded: BTreeSet<String>,
}

/// The filter that shows the trash.
pub const TRASH: &str = "is:trash";

/// The group of tasks that belong to no goal.
const NO_GOAL: &str = "no goal";

/// The group of files that are no tasks.
const ASIDE: &str = "files set aside";

/// Every row in order.
pub fn all<'a>(state: &'a State, table: &Table) -> Vec<Row<'a>> {
    let filter = table.filter.to_lowercase();
    let is = filter.strip_prefix("is:").map(str::trim);
    let holds = |text: &str| is.is_none() && text.to_lowercase().contains(&filter);
    if table.filter == TRASH {
        return state.tasks.trash.iter().map(Row::Removed).collect();
    }
    let foreign = |task: &Task| is == Some("foreign") && task.record.outcome.as_ref().is_some_and(|o| o.foreign);
    let mut tasks: Vec<(&Task, Phase)> = state
        .tasks
        .iter()
        .map(|task| (task, state.tasks.phase(task)))
        .filter(|(task, phase)| {
            filter.is_empty()
                || is == Some(word(task, *phase))
                || foreign(task)
                || holds(&task.record.task().to_string())
                || holds(&task.record.spec.title)
                || holds(word(task, *phase))
        })
        .collect();
    sort(state, &mut tasks, table.sort);
    let shown = |file: &&Rejected| {
        let word = if file.moved { "rejected" } else { "foreign" };
        filter.is_empty()
            || is.is_some_and(|is| is == word || is == "rejected")
            || holds(&file.path)
            || holds(&file.reason)
            || holds(word)
    };
    let files: Vec<_> = state.tasks.rejected.values().filter(shown).map(Row::Rejected).collect();
    if table.group != Group::None {
        return grouped(state, tasks, files, table);
    }
    // A file that is no task is a failure of somebody: after those of tasks, where those come first.
    let failed = match table.sort {
        Sort::State => {
            let first = |(task, phase): &&(&Task, Phase)| {
                matches!(phase, Phase::Asking | Phase::Failed) || state.asks.of(task.record.task()).is_some()
            };
            tasks.iter().take_while(first).count()
        }
        Sort::Changed | Sort::Age | Sort::Cost | Sort::Name => 0,
    };
    let mut rows: Vec<Row<'a>> = tasks.into_iter().map(|(task, phase)| Row::Task(task, phase)).collect();
    rows.splice(failed..failed, files);
    rows
}

fn sort(state: &State, tasks: &mut [(&Task, Phase)], by: Sort) {
    match by {
        // What waits for a word of the operator's is on top, whatever else it does.
        Sort::State => {
            tasks
                .sort_by_cached_key(|(task, phase)| (state.asks.of(task.record.task()).is_none(), order(task, *phase)));
        }
        Sort::Changed => tasks.sort_by_cached_key(|(task, _)| Reverse(changed(task))),
        Sort::Age => tasks.sort_by_key(|(task, _)| task.record.seen_at),
        Sort::Cost => tasks.sort_by_cached_key(|(task, _)| Reverse(state.spend_of_task(task.record.task()).cost)),
        Sort::Name => tasks.sort_by(|(a, _), (b, _)| a.record.task().id.cmp(&b.record.task().id)),
    }
}

/// Puts sorted rows under the heads of their groups.
fn grouped<'a>(state: &'a State, tasks: Vec<(&'a Task, Phase)>, files: Vec<Row<'a>>, table: &Table) -> Vec<Row<'a>> {
    let goals: HashMap<&GoalId, usize> = state.goals.iter().enumerate().map(|(n, goal)| (&goal.id, n)).collect();
    let names = state.agents.names();
    // The place of a group, and its name.
    let group = |task: &'a Task, phase: Phase| -> (usize, &'a str) {
        match (table.group, &task.record.spec.goal) {
            (Group::Goal, Some(goal)) => {
                (goals.len().saturating_sub(goals.get(goal).map_or(0, |n| n + 1)), goal.as_str())
            }
            (Group::Goal | Group::None, _) => (usize::MAX, NO_GOAL),
            (Group::Agent, _) => {
                let agent = &task.record.task().agent;
                (names.iter().position(|name| name == agent).unwrap_or(usize::MAX), agent.as_str())
            }
            (Group::State, _) => (phase as usize, phase.word()),
        }
    };
    let mut keyed: Vec<((usize, &str), Row<'a>)> =
        tasks.into_iter().map(|(task, phase)| (group(task, phase), Row::Task(task, phase))).collect();
    keyed.sort_by_key(|(key, _)| *key);
    let mut rows = Vec::with_capacity(keyed.len() + files.len() + 8);
    let mut rest = keyed.as_slice();
    while let Some(((_, name), _)) = rest.first() {
        let len = rest.iter().take_while(|((_, other), _)| other == name).count();
        let (here, next) = rest.split_at(len);
        push(&mut rows, name, here.iter().map(|(_, row)| *row), table);
        rest = next;
    }
    push(&mut rows, ASIDE, files.into_iter(), table);
    rows
}

fn push<'a>(rows: &mut Vec<Row<'a>>, name: &'a str, of: impl ExactSizeIterator<Item = Row<'a>>, table: &Table) {
    if of.len() == 0 {
        return;
    }
    let folded = table.folded.contains(name);
    rows.push(Row::Heading { name, rows: of.len(), folded });
    if !folded {
        rows.extend(of);
    }
}

/// Failed and done tasks newest first, the others in the order they came.
fn order(task: &Task, phase: Phase) -> (Phase, i64) {
    let record = &task.record;
    let millis = |at: Timestamp| at.as_millisecond();
    let at = match phase {
        Phase::Failed | Phase::Done | Phase::Dropped => {
            -record.outcome.as_ref().map_or(i64::MAX, |o| millis(o.completed_at))
        }
        Phase::Running => record.attempts.last().map_or(millis(record.seen_at), |a| millis(a.started_at)),
        Phase::Asking | Phase::Ready | Phase::Waiting | Phase::Paused => millis(record.seen_at),
        Phase::Retrying => record.attempts.last().and_then(|a| a.ended_at).map_or(0, millis),
    };
    (phase, at)
}

/// When something last happened to it.
fn changed(task: &Task) -> Timestamp {
    let record = &task.record;
    let attempt = record.attempts.last().map(|a| a.ended_at.unwrap_or(a.started_at));
    let ended = record.outcome.as_ref().map(|o| o.completed_at);
    [Some(record.seen_at), attempt, ended].into_iter().flatten().max().unwrap_or(record.seen_at)
}

/// The state in a word.
pub fn word(task: &Task, phase: Phase) -> &'static str {
    match &task.record.outcome {
        Some(outcome) => outcome.state.word(),
        None => phase.word(),
    }
}

/// Which row is under the hand: the chosen one where it still is, else the first that runs, else the first that is no
/// heading.
pub fn selected(rows: &[Row<'_>], chosen: Option<&RowKey>, last: usize) -> usize {
    if let Some(key) = chosen {
        return rows.iter().position(|r| r.is(key)).unwrap_or(last.min(rows.len().saturating_sub(1)));
    }
    let runs = rows.iter().position(|r| matches!(r, Row::Task(_, Phase::Running)));
    runs.or_else(|| rows.iter().position(|r| !matches!(r, Row::Heading { .. }))).unwrap_or(0)
}
