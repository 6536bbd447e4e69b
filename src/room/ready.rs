//! The ready tasks of one agent: three lanes, each in the order in which its tasks were first seen.
//!
//! Its one surprise: every tenth pick comes from the lowest lane that holds anything, so nothing waits for ever behind
//! more urgent work that keeps coming.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::Timestamp;

use crate::model::{Priority, TaskRef};

/// Order among the ready tasks of a lane: first seen; the tasks of a goal count as seen when its plan was approved, and
/// among them the longer way to the goal's end comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// 0 high, 1 normal, 2 low.
    pub lane: usize,
    /// When it was first seen, or its goal was approved.
    pub since: Timestamp,
    /// Seconds from its start to the goal's end.
    pub rank: Reverse<u64>,
    /// When it was first seen.
    pub seen_at: Timestamp,
    /// Which.
    pub task: TaskRef,
}

/// The lane of a priority: 0 to 3 are high, 4 to 6 normal, 7 to 9 low.
pub(super) fn lane(priority: Priority) -> usize {
    match priority.0 {
        0..=3 => 0,
        4..=6 => 1,
        _ => 2,
    }
}

/// Each pick of this number comes from the lowest lane that holds anything.
pub(super) const FAIR: u32 = 10;

/// The ready tasks of one agent.
#[derive(Debug, Clone, Default)]
pub(super) struct Ready {
    lanes: [BTreeSet<Key>; 3],
}

impl Ready {
    pub(super) fn insert(&mut self, key: Key) {
        if let Some(lane) = self.lanes.get_mut(key.lane) {
            lane.insert(key);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(key.lane) {
            lane.remove(key);
        }
    }

    /// What starts next when `picked` have been picked before.
    pub(super) fn next(&self, picked: u32) -> Option<&TaskRef> {
        let fair = picked % FAIR == FAIR - 1;
        let lane = if fair { self.lanes.iter().rev().find_map(BTreeSet::first) } else { None };
        lane.or_else(|| self.lanes.iter().find_map(BTreeSet::first)).map(|key| &key.task)
    }

    /// How many come before it, the tenth picks left aside.
    pub(super) fn ahead(&self, key: &Key) -> usize {
        let lane = self.lanes.get(key.lane).map_or(0, |lane| lane.range(..key).count());
        self.lanes.iter().take(key.lane).map(BTreeSet::len).sum::<usize>() + lane
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u32, priority: u8) -> Key {
        let seen_at = Timestamp::from_second(i64::from(n)).unwrap();
        let task = format!("marie/t{n}").parse().unwrap();
        Key { lane: lane(Priority(priority)), since: seen_at, rank: Reverse(0), seen_at, task }
    }

    proptest! {
        #[test]
        fn g10_lanes_then_first_seen_and_the_lowest_lane_is_never_starved(
            arrivals in proptest::collection::vec((0_u8..10, 0_u8..3), 1..120),
        ) {
            let mut ready = Ready::default();
            let mut known: Vec<Key> = Vec::new();
            let mut waited: Vec<(Key, u32)> = Vec::new();
            let mut picked = 0;
            // Tasks arrive while others are picked; in the end everything has been.
            for (n, (priority, picks)) in (0..).zip(arrivals).chain((1000..1200).map(|n| (n, (0, 1)))) {
                let new = key(n, priority);
                ready.insert(new.clone());
                known.push(new);
                for _ in 0..picks {
                    let Some(next) = ready.next(picked).cloned() else { break };
                    let at = known.iter().position(|k| k.task == next).unwrap();
                    let taken = known.remove(at);
                    ready.remove(&taken);
                    // Within a lane nobody overtakes.
                    prop_assert!(known.iter().all(|k| k.lane != taken.lane || *k > taken));
                    let fair = picked % FAIR == FAIR - 1;
                    let better = if fair { |a: &Key, b: &Key| a.lane > b.lane } else { |a: &Key, b: &Key| a.lane < b.lane };
                    prop_assert!(!known.iter().any(|k| better(k, &taken)), "{} at pick {}", taken.task, picked);
                    picked += 1;
                    waited.retain(|(k, _)| *k != taken);
                }
                // Whatever stands first in the lowest lane goes within ten picks.
                let lowest = known.iter().max_by(|a, b| a.lane.cmp(&b.lane).then(b.cmp(a))).cloned();
                waited.retain(|(k, _)| Some(k) == lowest.as_ref());
                if let Some(lowest) = lowest && waited.is_empty() {
                    waited.push((lowest, picked));
                }
                prop_assert!(waited.iter().all(|(_, since)| picked - since < FAIR + 3), "{waited:?}");
            }
        }
    }
}
