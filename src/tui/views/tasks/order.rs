//! The order of the tasks in the table, kept from frame to frame: of a hundred thousand tasks only those that have changed
//! are put in their place again.

use std::{
    cmp,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::rows::{Group, Sort, Table, word};
use crate::{
    model::TaskRef,
    room::{
        State, Task,
        tasks::{Phase, Stamp},
    },
};

/// Tasks in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    /// Where the room's tasks stood when this was made; `None` = before it was.
    stamp: Option<Stamp>,
    sort: Sort,
    group: Group,
    filter: String,
    /// Tasks that wait for a word of the operator's.
    asking: BTreeSet<TaskRef>,
    groups: Groups,
    sorted: Vec<Place>,
    places: HashMap<Arc<TaskRef>, Place>,
}

/// Where a task is in the table.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The place of its group.
    pub(super) group: u32,
    /// What it is sorted by: whether nobody is asked, where it stands, a number.
    rank: (bool, Option<Phase>, i64),
    pub(super) phase: Phase,
    pub(super) task: Arc<TaskRef>,
}

impl Place {
    /// Something went wrong with it, or somebody is asked.
    pub(super) fn is_urgent(&self) -> bool {
        !self.rank.0 || matches!(self.phase, Phase::Asking | Phase::Failed)
    }
}

/// The groups by name.
#[derive(Debug, Clone, Default)]
struct Groups {
    /// Those that the room knows, in order.
    known: Vec<String>,
    places: HashMap<String, u32>,
}

impl Groups {
    /// The place of tasks without a group.
    const NONE: u32 = u32::MAX;

    fn of(state: &State, by: Group) -> Self {
        let known: Vec<String> = Self::known(state, by).map(str::to_owned).collect();
        let mut others: BTreeSet<&str> = state.tasks.iter().filter_map(|task| name(task, by)).collect();
        for name in &known {
            others.remove(name.as_str());
        }
        let all = known.iter().map(String::as_str).chain(others);
        let places = all.zip(0..).map(|(name, place)| (name.to_owned(), place)).collect();
        Self { known, places }
    }

    /// Goals with the newest first, agents as they are listed.
    fn known(state: &State, by: Group) -> impl Iterator<Item = &str> {
        let goals = state.goals.iter().rev().map(|goal| goal.id.as_str()).filter(move |_| by == Group::Goal);
        let agents = state.agents.iter().map(|agent| agent.name().as_str()).filter(move |_| by == Group::Agent);
        goals.chain(agents)
    }

    fn are(&self, state: &State, by: Group) -> bool {
        Self::known(state, by).eq(self.known.iter().map(String::as_str))
    }
}

/// The name of a task's group, where groups have names of their own.
fn name(task: &Task, by: Group) -> Option<&str> {
    match by {
        Group::Goal => task.record.spec.goal.as_ref().map(AsRef::as_ref),
        Group::Agent => Some(task.record.task().agent.as_str()),
        Group::None | Group::State => None,
    }
}

impl Order {
    /// Whether it is the order of this state still.
    pub(super) fn is_of(&self, state: &State, table: &Table) -> bool {
        self.is_like(state, table) && self.stamp == Some(state.tasks.stamp()) && asking(state).eq(self.asking.iter())
    }

    /// Brings it up to what the state holds now.
    pub(super) fn follow(&mut self, state: &State, table: &Table) {
        if !self.is_like(state, table) || self.amend(state).is_none() {
            *self = Self::of(state, table);
        }
    }

    /// Each task from the first on.
    pub(super) fn sorted(&self) -> &[Place] {
        &self.sorted
    }

    /// How far down a task is.
    pub(super) fn position(&self, task: &TaskRef) -> Option<usize> {
        let place = self.places.get(task)?;
        self.sorted.binary_search_by(|other| self.cmp(other, place)).ok()
    }

    fn of(state: &State, table: &Table) -> Self {
        let mut order = Self {
            stamp: Some(state.tasks.stamp()),
            sort: table.sort,
            group: table.group,
            filter: table.filter.to_lowercase(),
            asking: asking(state).cloned().collect(),
            groups: Groups::of(state, table.group),
            ..Self::default()
        };
        let mut sorted: Vec<_> = state.tasks.iter().filter_map(|task| order.place(state, task)?).collect();
        sorted.sort_by(|a, b| order.cmp(a, b));
        order.places = sorted.iter().map(|place| (Arc::clone(&place.task), place.clone())).collect();
        order.sorted = sorted;
        order
    }

    /// Whether only tasks can be elsewhere than they were. What a task costs changes with each call of a model, unnoticed.
    fn is_like(&self, state: &State, table: &Table) -> bool {
        let same = (self.sort, self.group) == (table.sort, table.group) && self.filter == table.filter.to_lowercase();
        same && table.sort != Sort::Cost && self.groups.are(state, table.group)
    }

    /// Puts what has changed where it belongs; `None` where that is not enough.
    fn amend(&mut self, state: &State) -> Option<()> {
        let now: BTreeSet<TaskRef> = asking(state).cloned().collect();
        let changed = state.tasks.changed_since(self.stamp?)?;
        let changed: BTreeSet<&TaskRef> = changed.chain(self.asking.symmetric_difference(&now)).collect();
        let mut gone: Vec<usize> = changed.iter().filter_map(|task| self.position(task)).collect();
        gone.sort_unstable();
        for task in &changed {
            self.places.remove(*task);
        }
        let changed: Vec<&Task> = changed.into_iter().filter_map(|task| state.tasks.get(task)).collect();
        self.asking = now;
        self.stamp = Some(state.tasks.stamp());
        let mut come = Vec::with_capacity(changed.len());
        for task in changed {
            come.extend(self.place(state, task)?);
        }
        come.sort_by(|a, b| self.cmp(a, b));
        self.places.extend(come.iter().map(|place| (Arc::clone(&place.task), place.clone())));
        self.merge(&gone, come);
        Some(())
    }

    fn merge(&mut self, gone: &[usize], come: Vec<Place>) {
        if gone.is_empty() && come.is_empty() {
            return;
        }
        let mut sorted = Vec::with_capacity((self.sorted.len() + come.len()).saturating_sub(gone.len()));
        let (mut gone, mut come) = (gone.iter().peekable(), come.into_iter().peekable());
        for (n, place) in std::mem::take(&mut self.sorted).into_iter().enumerate() {
            if gone.next_if_eq(&&n).is_some() {
                continue;
            }
            while let Some(new) = come.next_if(|new| self.cmp(new, &place).is_lt()) {
                sorted.push(new);
            }
            sorted.push(place);
        }
        sorted.extend(come);
        self.sorted = sorted;
    }

    fn cmp(&self, a: &Place, b: &Place) -> cmp::Ordering {
        let by_name = || if self.sort == Sort::Name { a.task.id.cmp(&b.task.id) } else { cmp::Ordering::Equal };
        (a.group, a.rank).cmp(&(b.group, b.rank)).then_with(by_name).then_with(|| a.task.cmp(&b.task))
    }

    /// Where a task belongs: nowhere where it is not shown; `None` when its group is a new one.
    #[expect(clippy::option_option, reason = "a task that is not shown is no reason to begin anew")]
    fn place(&self, state: &State, task: &Task) -> Option<Option<Place>> {
        let phase = state.tasks.phase(task);
        if !self.shows(task, phase) {
            return Some(None);
        }
        let group = match self.group {
            Group::None => 0,
            Group::State => phase as u32,
            Group::Goal | Group::Agent => match name(task, self.group) {
                Some(name) => *self.groups.places.get(name)?,
                None => Groups::NONE,
            },
        };
        let name = task.record.task();
        let rank = match self.sort {
            // What waits for a word of the operator's is on top, whatever else it does.
            Sort::State => (!self.asking.contains(name), Some(phase), moment(task, phase)),
            Sort::Changed => (true, None, -changed(task).as_microsecond()),
            Sort::Age => (true, None, task.record.seen_at.as_microsecond()),
            Sort::Cost => (true, None, -state.spend_of_task(name).cost.0),
            Sort::Name => (true, None, 0),
        };
        Some(Some(Place { group, rank, phase, task: Arc::new(name.clone()) }))
    }

    fn shows(&self, task: &Task, phase: Phase) -> bool {
        let filter = self.filter.as_str();
        let word = word(task, phase);
        let Some(is) = filter.strip_prefix("is:").map(str::trim) else {
            let holds = |text: &str| text.to_lowercase().contains(filter);
            return filter.is_empty()
                || holds(&task.record.task().to_string())
                || holds(&task.record.spec.title)
                || holds(word);
        };
        is == word || (is == "foreign" && task.record.outcome.as_ref().is_some_and(|o| o.foreign))
    }
}

/// What waits for a word of the operator's, by name.
fn asking(state: &State) -> impl Iterator<Item = &TaskRef> {
    let asking: BTreeSet<&TaskRef> = state.asks.open().iter().map(|open| &open.attempt.task).collect();
    asking.into_iter()
}

/// Failed and done tasks newest first, the others in the order they came.
fn moment(task: &Task, phase: Phase) -> i64 {
    let record = &task.record;
    let millis = |at: Timestamp| at.as_millisecond();
    match phase {
        Phase::Failed | Phase::Done | Phase::Dropped => {
            -record.outcome.as_ref().map_or(i64::MAX, |o| millis(o.completed_at))
        }
        Phase::Running => record.attempts.last().map_or(millis(record.seen_at), |a| millis(a.started_at)),
        Phase::Asking | Phase::Ready | Phase::Waiting | Phase::Paused => millis(record.seen_at),
        Phase::Retrying => record.attempts.last().and_then(|a| a.ended_at).map_or(0, millis),
    }
}

/// When something last happened to it.
fn changed(task: &Task) -> Timestamp {
    let record = &task.record;
    let attempt = record.attempts.last().map(|a| a.ended_at.unwrap_or(a.started_at));
    let ended = record.outcome.as_ref().map(|o| o.completed_at);
    [Some(record.seen_at), attempt, ended].into_iter().flatten().max().unwrap_or(record.seen_at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{Ask, EndState, Ending, GoalId, Report, TaskRecord, TaskSpec},
        room::{Event, TaskEvent, WorkerEvent},
        tui::sample::{self, Stage},
    };

    const SORTS: [Sort; 5] = [Sort::State, Sort::Changed, Sort::Age, Sort::Cost, Sort::Name];
    const GROUPS: [Group; 4] = [Group::None, Group::Goal, Group::Agent, Group::State];
    const FILTERS: [&str; 4] = ["", "is:failed", "is:running", "T1"];

    /// Something that can happen to one of a few tasks.
    fn happens(stage: &mut Stage, seconds: i64, what: u8, n: u8) {
        let agent = ["marie", "anga", "stranger"][usize::from(n) % 3];
        let name = format!("{agent}/t{n}");
        let task: TaskRef = name.parse().unwrap();
        let holder = stage.state.agents.holder(&task).map(|slot| slot.id.clone());
        let runs = stage
            .state
            .agents
            .holder(&task)
            .is_some_and(|slot| slot.held.as_ref().is_some_and(|held| held.attempt.is_some()));
        match (what, holder) {
            (0..3, _) => {
                let mut spec = TaskSpec::new(task, format!("Text {seconds}."));
                spec.goal = [None, Some("g7"), Some("g8")][usize::from(n) % 3].map(|id| GoalId::new(id).unwrap());
                let record = Box::new(TaskRecord::new(spec, sample::at(seconds)));
                stage.tell(seconds, Event::Task(TaskEvent::Changed { record }));
            }
            (3..5, Some(_)) if !runs => stage.start(seconds, &name, "works"),
            (5, Some(_)) if runs => stage.end(seconds, &name, EndState::Done, Ending::Done, "It is done."),
            (6, Some(_)) if runs => stage.end(seconds, &name, EndState::Failed, Ending::Stalled { seconds: 9 }, "No."),
            (7, Some(_)) if runs => stage.fail(seconds, &name, Ending::Stalled { seconds: 9 }, 30),
            (8, Some(slot)) if runs => {
                let attempt = task.attempt(stage.state.tasks.get(&task).unwrap().record.last_attempt());
                let ask = Ask::new(&name, "Bash", "Bash rm -rf build", &serde_json::json!({}), "Clean up");
                let report = Report::Asked { attempt, ask: Box::new(ask) };
                stage.tell(seconds, Event::Worker(WorkerEvent::Reported { slot, report }));
            }
            (9, None) => stage.tell(seconds, Event::Task(TaskEvent::Withdrawn { task })),
            _ => stage.tell(seconds, Event::TimeCame),
        }
    }

    /// Each task and whether a group begins with it; how groups are numbered is nobody's business.
    fn rows(order: &Order) -> Vec<String> {
        let mut above = None;
        let rows = order.sorted.iter().map(|place| {
            let begins = above.replace(place.group) != Some(place.group);
            format!("{begins} {} {:?}", place.task, place.phase)
        });
        rows.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn an_order_that_follows_is_the_order_made_anew(
            steps in proptest::collection::vec((0_u8..11, 0_u8..24, any::<bool>()), 1..120)
        ) {
            let mut stage = Stage::open();
            let mut tables = Vec::new();
            for (sort, group) in SORTS.iter().flat_map(|sort| GROUPS.map(|group| (*sort, group))) {
                for filter in FILTERS {
                    let filter = filter.to_owned();
                    tables.push((Table { filter, sort, group, ..Table::default() }, Order::default()));
                }
            }
            for ((what, n, looks), seconds) in steps.into_iter().zip(2..) {
                happens(&mut stage, seconds, what, n);
                for (table, order) in tables.iter_mut().filter(|_| looks) {
                    order.follow(&stage.state, table);
                    let anew = Order::of(&stage.state, table);
                    prop_assert_eq!(rows(order), rows(&anew), "{:?}", table);
                    for (n, place) in order.sorted.iter().enumerate() {
                        prop_assert_eq!(order.position(&place.task), Some(n));
                    }
                    prop_assert_eq!(order.places.len(), order.sorted.len());
                }
            }
        }
    }
}
