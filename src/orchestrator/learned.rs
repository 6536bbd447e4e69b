//! How long tasks of one kind take, learned from those that ended well.
//!
//! Owns the kinds and the samples kept of each. Must not know where results lie. Its one surprise: a kind is an agent, the
//! model and the effort that were asked for, and nothing of a task's words: those three decide how long an attempt thinks,
//! take few values, and so are known after a goal or two, while titles hardly ever come twice.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Effort, EndState, MicroUsd, Outcome, TaskSpec};

/// Samples below which nothing is believed.
pub const ENOUGH: usize = 5;
/// Samples kept of a kind: the newest.
const KEPT: usize = 21;
/// Kinds kept; what comes after them is not learned from.
const KINDS: usize = 256;

/// What tasks that take about as long have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(String);

impl Kind {
    /// Whose it is, and the model and effort that were asked for, where they were.
    pub fn new(agent: &str, model: Option<&str>, effort: Option<Effort>) -> Self {
        Self(format!("{agent} {} {}", model.unwrap_or("-"), effort.map_or("-", Effort::word)))
    }

    /// The kind of a task.
    pub fn of(spec: &TaskSpec) -> Self {
        Self::new(spec.task.agent.as_str(), spec.model.as_deref(), spec.effort)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One task that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Sample {
    /// When, in microseconds since 1970.
    at: i64,
    /// What its last attempt took, in milliseconds.
    took: u64,
    /// What it cost.
    cost: MicroUsd,
}

/// What is known of every kind. The order in which it was told makes no difference.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Learned {
    kinds: BTreeMap<Kind, Vec<Sample>>,
}

impl Learned {
    /// Hears of an ended task whose last attempt began at `started_at`; says whether anything was learned from it.
    pub fn hear(&mut self, kind: Kind, outcome: &Outcome, started_at: Timestamp) -> bool {
        // What somebody else wrote says nothing about our agents, and a failure nothing about a success.
        if outcome.state != EndState::Done || outcome.foreign || outcome.attempt == 0 {
            return false;
        }
        let took = outcome.completed_at.duration_since(started_at);
        self.add(kind, outcome.completed_at, took.try_into().unwrap_or_default(), outcome.cost)
    }

    /// The same from its parts.
    pub fn add(&mut self, kind: Kind, at: Timestamp, took: Duration, cost: MicroUsd) -> bool {
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= KINDS {
            return false;
        }
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let sample = Sample { at: at.as_microsecond(), took, cost };
        let samples = self.kinds.entry(kind).or_default();
        let place = samples.partition_point(|known| *known <= sample);
        samples.insert(place, sample);
        if samples.len() > KEPT {
            samples.remove(0);
        }
        true
    }

    /// What a task of this kind takes: the median of those kept; `None` before there are enough.
    pub fn takes(&self, kind: &Kind) -> Option<Duration> {
        let mut took: Vec<u64> = self.enough(kind)?.iter().map(|s| s.took).collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().map(Duration::from_millis)
    }

    /// What a task of this kind costs on average; `None` before there are enough.
    pub fn costs(&self, kind: &Kind) -> Option<MicroUsd> {
        let samples = self.enough(kind)?;
        let sum: MicroUsd = samples.iter().map(|s| s.cost).sum();
        Some(MicroUsd(sum.0 / i64::try_from(samples.len()).unwrap_or(1).max(1)))
    }

    fn enough(&self, kind: &Kind) -> Option<&[Sample]> {
        self.kinds.get(kind).map(Vec::as_slice).filter(|samples| samples.len() >= ENOUGH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> Kind {
        Kind::new("anga", Some("sonnet"), None)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn told(seconds: impl IntoIterator<Item = (i64, u64)>) -> Learned {
        let mut learned = Learned::default();
        for (when, took) in seconds {
            learned.add(kind(), at(when), Duration::from_secs(took), MicroUsd(10));
        }
        learned
    }

    #[test]
    fn four_samples_are_too_few_and_five_are_enough() {
        assert_eq!(told((0..4).map(|n| (n, 60))).takes(&kind()), None);
        let five = told([(1, 50), (2, 60), (3, 70), (4, 80), (5, 4_000)]);
        assert_eq!(five.takes(&kind()), Some(Duration::from_secs(70)), "one that hung changes little");
        assert_eq!(five.costs(&kind()), Some(MicroUsd(10)));
        assert_eq!(five.takes(&Kind::new("anga", None, None)), None);
    }

    #[test]
    fn the_newest_count_in_whatever_order_they_are_told() {
        let forward = told((0..60).map(|n| (n, if n < 39 { 10 } else { 90 })));
        let backward = told((0..60).rev().map(|n| (n, if n < 39 { 10 } else { 90 })));
        assert_eq!(forward, backward);
        assert_eq!(forward.takes(&kind()), Some(Duration::from_secs(90)));
    }

    #[test]
    fn only_what_our_own_agents_did_well_is_learned_from() {
        let mut outcome = crate::orchestrator::sample::outcome("anga/x", EndState::Done, "Done.");
        let mut learned = Learned::default();
        assert!(learned.hear(kind(), &outcome, outcome.started_at));
        outcome.foreign = true;
        assert!(!learned.hear(kind(), &outcome, outcome.started_at));
        outcome.foreign = false;
        outcome.state = EndState::Dead;
        assert!(!learned.hear(kind(), &outcome, outcome.started_at));
    }

    #[test]
    fn it_travels_as_json() {
        let learned = told([(1, 2)]);
        let text = serde_json::to_string(&learned).unwrap();
        assert_eq!(serde_json::from_str::<Learned>(&text).unwrap(), learned);
    }
}
