//! The tasks by name, and which of them have changed lately.
//!
//! Whoever keeps something that was made from all of them, a screen its order of rows, asks what has changed since and
//! looks at no other.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
};

use super::Task;
use crate::model::TaskRef;

/// Where the tasks stand in their history. No two changes have the same one, not even of different rooms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Stamp {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Every task; whatever changes one is noted.
#[derive(Debug, Clone, Default)]
pub(in crate::room) struct Entries {
    by_name: BTreeMap<TaskRef, Task>,
    /// The newest changes, oldest first.
    changes: VecDeque<(Stamp, TaskRef)>,
    /// The change before those.
    before: Stamp,
}

/// Changes do not count: the same tasks are the same, however they came.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.by_name == other.by_name
    }
}

impl Deref for Entries {
    type Target = BTreeMap<TaskRef, Task>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

impl Entries {
    /// Changes remembered: more than come between two looks of a screen.
    const CHANGES: usize = 8_192;

    pub(in crate::room) fn insert(&mut self, task: TaskRef, entry: Task) {
        self.touch(&task);
        self.by_name.insert(task, entry);
    }

    pub(in crate::room) fn remove(&mut self, task: &TaskRef) -> Option<Task> {
        let removed = self.by_name.remove(task)?;
        self.touch(task);
        Some(removed)
    }

    pub(in crate::room) fn get_mut(&mut self, task: &TaskRef) -> Option<&mut Task> {
        if self.by_name.contains_key(task) {
            self.touch(task);
        }
        self.by_name.get_mut(task)
    }

    /// Notes that a task stands elsewhere, although it is the same itself.
    pub(super) fn touch(&mut self, task: &TaskRef) {
        if self.changes.len() >= Self::CHANGES
            && let Some((stamp, _)) = self.changes.pop_front()
        {
            self.before = stamp;
        }
        self.changes.push_back((Stamp::next(), task.clone()));
    }

    /// Notes that any of them may stand elsewhere.
    pub(super) fn touch_all(&mut self) {
        self.changes.clear();
        self.before = Stamp::next();
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.changes.back().map_or(self.before, |(stamp, _)| *stamp)
    }

    pub(super) fn changed_since(&self, stamp: Stamp) -> Option<impl Iterator<Item = &TaskRef>> {
        let seen = if stamp == self.before {
            0
        } else {
            self.changes.binary_search_by_key(&stamp, |(stamp, _)| *stamp).ok()? + 1
        };
        Some(self.changes.range(seen..).map(|(_, task)| task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(entries: &Entries, stamp: Stamp) -> Option<Vec<String>> {
        Some(entries.changed_since(stamp)?.map(ToString::to_string).collect())
    }

    #[test]
    fn what_changed_since_a_look_is_told_and_what_is_not_known_any_more_is_not_guessed() {
        let name = |n: usize| -> TaskRef { format!("marie/t{n}").parse().unwrap() };
        let mut entries = Entries::default();
        let first = entries.stamp();
        entries.touch(&name(1));
        let second = entries.stamp();
        entries.touch(&name(2));
        assert_eq!(since(&entries, first).unwrap(), ["marie/t1", "marie/t2"]);
        assert_eq!(since(&entries, second).unwrap(), ["marie/t2"]);
        assert_eq!(since(&entries, entries.stamp()).unwrap(), [""; 0]);

        // A copy that went another way does not take the other's changes for its own.
        let mut copy = entries.clone();
        let here = entries.stamp();
        copy.touch(&name(3));
        entries.touch(&name(4));
        assert_eq!(since(&copy, here).unwrap(), ["marie/t3"]);
        assert_eq!(since(&copy, entries.stamp()), None);

        for n in 0..=Entries::CHANGES {
            entries.touch(&name(n));
        }
        assert_eq!(since(&entries, here), None, "too long ago");
        let seen = entries.stamp();
        entries.touch_all();
        assert_eq!(since(&entries, seen), None);
        assert_eq!(since(&entries, entries.stamp()).unwrap(), [""; 0]);
    }
}
