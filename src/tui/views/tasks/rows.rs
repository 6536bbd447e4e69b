//! Which rows the tasks' table has, and in which order: what is narrowed, sorted, grouped and folded.
//!
//! Must not draw. Its one surprise: what was thrown away is no row of the table until it is asked for (`is:trash`); it
//! would outlive everything else there.

use std::{cell::RefCell, collections::BTreeSet, ops::Range, sync::Arc};

use super::order::{Order, Place};
use crate::{
    model::{Item, Rejected, Removed, TaskRef},
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

/// The rows of the table; each is looked up when it is asked for.
#[derive(Debug)]
pub struct Rows<'a> {
    state: &'a State,
    order: Arc<Order>,
    parts: Vec<Part<'a>>,
}

/// Rows of one kind, one below the other.
#[derive(Debug)]
struct Part<'a> {
    /// How many rows there are above.
    above: usize,
    rows: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    Heading {
        name: &'a str,
        rows: usize,
        folded: bool,
    },
    /// These of the tasks in order.
    Tasks(Range<usize>),
    Files(Vec<&'a Rejected>),
    Trash(&'a [Removed]),
}

impl Kind<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Heading { .. } => 1,
            Self::Tasks(range) => range.len(),
            Self::Files(files) => files.len(),
            Self::Trash(trash) => trash.len(),
        }
    }
}

/// Keeps the order of the rows from one look to the next.
#[derive(Debug, Default)]
pub struct Arranger(RefCell<Arc<Order>>);

impl Arranger {
    /// Every row in order.
    pub fn rows<'a>(&self, state: &'a State, table: &Table) -> Rows<'a> {
        if table.filter == TRASH {
            let mut rows = Rows { state, order: Arc::default(), parts: Vec::new() };
            rows.push(Kind::Trash(&state.tasks.trash));
            return rows;
        }
        if !self.0.borrow().is_of(state, table) {
            Arc::make_mut(&mut self.0.borrow_mut()).follow(state, table);
        }
        let order = Arc::clone(&self.0.borrow());
        let mut rows = Rows { state, order, parts: Vec::new() };
        let files = files(state, &table.filter.to_lowercase());
        if table.group == Group::None {
            // A file that is no task is a failure of somebody: after those of tasks, where those come first.
            let tasks = rows.order.sorted();
            let urgent = if table.sort == Sort::State { tasks.partition_point(Place::is_urgent) } else { 0 };
            let rest = urgent..tasks.len();
            rows.push(Kind::Tasks(0..urgent));
            rows.push(Kind::Files(files));
            rows.push(Kind::Tasks(rest));
        } else {
            rows.push_groups(files, table);
        }
        rows
    }
}

/// What is no task and is shown.
fn files<'a>(state: &'a State, filter: &str) -> Vec<&'a Rejected> {
    let shown = |file: &&Rejected| {
        let word = if file.moved { "rejected" } else { "foreign" };
        match filter.strip_prefix("is:").map(str::trim) {
            Some(is) => is == word || is == "rejected",
            None => [file.path.as_str(), &file.reason, word].iter().any(|text| text.to_lowercase().contains(filter)),
        }
    };
    state.tasks.rejected.values().filter(shown).collect()
}

impl<'a> Rows<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.above + part.rows.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are without the heads of groups.
    pub fn without_headings(&self) -> usize {
        let headings = self.parts.iter().filter(|part| matches!(part.rows, Kind::Heading { .. })).count();
        self.len() - headings
    }

    /// One of them.
    pub fn get(&self, at: usize) -> Option<Row<'a>> {
        let part = self.parts.get(self.part(at)?)?;
        let at = at - part.above;
        match &part.rows {
            Kind::Heading { name, rows, folded } => Some(Row::Heading { name, rows: *rows, folded: *folded }),
            Kind::Tasks(range) => {
                let place = self.order.sorted().get(range.start + at)?;
                Some(Row::Task(self.state.tasks.get(&place.task)?, place.phase))
            }
            Kind::Files(files) => files.get(at).copied().map(Row::Rejected),
            Kind::Trash(trash) => trash.get(at).map(Row::Removed),
        }
    }

    /// From one of them on.
    pub fn from(&self, at: usize) -> impl Iterator<Item = Row<'a>> {
        (at..self.len()).filter_map(|at| self.get(at))
    }

    /// Each from the first on.
    pub fn iter(&self) -> impl Iterator<Item = Row<'a>> {
        self.from(0)
    }

    /// The group that a row belongs to, or is the head of.
    pub fn group_of(&self, at: usize) -> Option<&'a str> {
        let above = self.parts.get(..=self.part(at)?)?;
        above.iter().rev().find_map(|part| match part.rows {
            Kind::Heading { name, .. } => Some(name),
            Kind::Tasks(_) | Kind::Files(_) | Kind::Trash(_) => None,
        })
    }

    /// Which one is under the hand: the chosen one where it still is, else the first that runs, else the first that is no
    /// heading.
    pub fn selected(&self, chosen: Option<&RowKey>, last: usize) -> usize {
        if let Some(key) = chosen {
            return self.position(key).unwrap_or(last.min(self.len().saturating_sub(1)));
        }
        let runs = |part: &Part<'_>| match &part.rows {
            Kind::Tasks(range) => {
                let mut places = self.order.sorted().get(range.clone())?.iter();
                Some(part.above + places.position(|place| place.phase == Phase::Running)?)
            }
            Kind::Heading { .. } | Kind::Files(_) | Kind::Trash(_) => None,
        };
        let first = self.parts.iter().find(|part| !matches!(part.rows, Kind::Heading { .. }));
        self.parts.iter().find_map(runs).or(first.map(|part| part.above)).unwrap_or(0)
    }

    /// Where the row of this name is.
    fn position(&self, key: &RowKey) -> Option<usize> {
        let task = match key {
            RowKey::Task(task) => Some(self.order.position(task)?),
            RowKey::Rejected(_) | RowKey::Removed(_) | RowKey::Heading(_) => None,
        };
        self.parts.iter().find_map(|part| {
            let at = match (&part.rows, key) {
                (Kind::Tasks(range), _) => task.filter(|at| range.contains(at)).map(|at| at - range.start),
                (Kind::Files(files), RowKey::Rejected(path)) => files.iter().position(|file| &file.path == path),
                (Kind::Trash(trash), RowKey::Removed(item)) => trash.iter().position(|removed| &removed.item == item),
                (Kind::Heading { name, .. }, RowKey::Heading(heading)) => (name == heading).then_some(0),
                (Kind::Files(_) | Kind::Trash(_) | Kind::Heading { .. }, _) => None,
            };
            at.map(|at| part.above + at)
        })
    }

    /// Which part a row is in.
    fn part(&self, at: usize) -> Option<usize> {
        self.parts.partition_point(|part| part.above <= at).checked_sub(1).filter(|_| at < self.len())
    }

    fn push(&mut self, rows: Kind<'a>) {
        if rows.len() > 0 {
            self.parts.push(Part { above: self.len(), rows });
        }
    }

    /// Puts the tasks, and then what is none, under the heads of their groups.
    fn push_groups(&mut self, files: Vec<&'a Rejected>, table: &Table) {
        let order = Arc::clone(&self.order);
        let mut from = 0;
        while let Some((first, rest)) = order.sorted().get(from..).and_then(<[Place]>::split_first) {
            let to = from + 1 + rest.partition_point(|place| place.group == first.group);
            self.push_group(self.group(first, table.group), Kind::Tasks(from..to), table);
            from = to;
        }
        self.push_group(ASIDE, Kind::Files(files), table);
    }

    fn push_group(&mut self, name: &'a str, rows: Kind<'a>, table: &Table) {
        if rows.len() == 0 {
            return;
        }
        let folded = table.folded.contains(name);
        self.push(Kind::Heading { name, rows: rows.len(), folded });
        if !folded {
            self.push(rows);
        }
    }

    /// What the tasks of a group have in common.
    fn group(&self, first: &Place, by: Group) -> &'a str {
        let task = self.state.tasks.get(&first.task);
        match by {
            Group::Goal => task.and_then(|task| task.record.spec.goal.as_ref()).map_or(NO_GOAL, |goal| goal.as_str()),
            Group::Agent => task.map_or("", |task| task.record.task().agent.as_str()),
            Group::State => first.phase.word(),
            Group::None => "",
        }
    }
}

/// The state in a word.
pub fn word(task: &Task, phase: Phase) -> &'static str {
    match &task.record.outcome {
        Some(outcome) => outcome.state.word(),
        None => phase.word(),
    }
}
