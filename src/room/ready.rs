//! The ready tasks of one agent: three lanes, in each the oldest goal first and in that the longest way to its end.
//!
//! Its one surprise: every tenth pick is the task that has waited longest, whatever its lane, so nothing waits for ever
//! behind more urgent work that keeps coming. Whoever shares the places of all agents out picks by the same rule.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    model::{Priority, TaskRef},
    orchestrator::schedule::Urgency,
};

/// Order among the ready tasks of a lane: first seen; the tasks of a goal count as seen when its plan was approved, and
/// among them the more urgent comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// 0 high, 1 normal, 2 low.
    pub lane: usize,
    /// When it was first seen, or its goal was approved.
    pub since: Timestamp,
    /// What waits for it.
    pub urgency: Urgency,
    /// When it was first seen.
    pub seen_at: Timestamp,
    /// Which.
    pub task: TaskRef,
}

/// The same, the one that has waited longest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ByAge(Timestamp, Key);

impl From<Key> for ByAge {
    fn from(key: Key) -> Self {
        Self(key.since, key)
    }
}

/// The lane of a priority: 0 to 3 are high, 4 to 6 normal, 7 to 9 low.
pub(super) fn lane(priority: Priority) -> usize {
    match priority.0 {
        0..=3 => 0,
        4..=6 => 1,
        _ => 2,
    }
}

/// Each pick of this number is of the task that has waited longest.
const FAIR: u32 = 10;

/// Whether the pick after `picked` others goes by age.
pub(super) fn is_fair(picked: u32) -> bool {
    picked % FAIR == FAIR - 1
}

/// The ready tasks of one agent. Everything here but [`Ready::ahead`] takes logarithmic time.
#[derive(Debug, Clone, Default)]
pub(super) struct Ready {
    by_lane: BTreeSet<Key>,
    by_age: BTreeSet<ByAge>,
}

impl Ready {
    pub(super) fn insert(&mut self, key: Key) {
        self.by_age.insert(key.clone().into());
        self.by_lane.insert(key);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.by_lane.remove(key);
        self.by_age.remove(&ByAge::from(key.clone()));
    }

    /// What starts next: by lane, or by age where the pick is a fair one.
    pub(super) fn next(&self, fair: bool) -> Option<&Key> {
        if fair { self.by_age.first().map(|ByAge(_, key)| key) } else { self.by_lane.first() }
    }

    /// How many come before it, the tenth picks left aside.
    pub(super) fn ahead(&self, key: &Key) -> usize {
        self.by_lane.range(..key).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u32, priority: u8) -> Key {
        let seen_at = Timestamp::from_second(i64::from(n)).unwrap();
        let task = format!("marie/t{n}").parse().unwrap();
        Key { lane: lane(Priority(priority)), since: seen_at, urgency: Urgency::default(), seen_at, task }
    }

    proptest! {
        #[test]
        fn g10_lanes_then_first_seen_and_whatever_waits_goes_after_those_before_it(
            arrivals in proptest::collection::vec((0_u8..10, 0_u8..3), 1..120),
        ) {
            let mut ready = Ready::default();
            let mut known: Vec<Key> = Vec::new();
            // When each came, in picks, and how many older ones were there.
            let mut came: Vec<(Key, u32, u32)> = Vec::new();
            let mut picked = 0_u32;
            // Tasks arrive while others are picked; in the end urgent ones keep coming as fast as they are picked.
            for (n, (priority, picks)) in (0..).zip(arrivals).chain((1000..2500).map(|n| (n, (0, 1)))) {
                let new = key(n, priority);
                ready.insert(new.clone());
                came.push((new.clone(), picked, u32::try_from(known.len()).unwrap()));
                known.push(new);
                for _ in 0..picks {
                    let fair = is_fair(picked);
                    let Some(next) = ready.next(fair).cloned() else { break };
                    let at = known.iter().position(|k| *k == next).unwrap();
                    let taken = known.remove(at);
                    ready.remove(&taken);
                    // Within a lane nobody overtakes, and a pick by lane leaves nothing more urgent behind.
                    prop_assert!(known.iter().all(|k| k.lane != taken.lane || *k > taken));
                    prop_assert!(fair || known.iter().all(|k| k.lane >= taken.lane));
                    picked += 1;
                    came.retain(|(k, _, _)| *k != taken);
                }
                // Each older one takes at most ten picks away from it, and so does it itself.
                prop_assert!(came.iter().all(|(_, since, older)| picked - since <= (older + 1) * FAIR), "{came:?}");
            }
        }
    }
}
