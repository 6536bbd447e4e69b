//! Orders that the worker has not said to have yet.
//!
//! Owns their numbers. Must not know what they mean. Its one surprise: numbers go on from worker to worker, so that one who comes
//! back in another place knows which orders it had in the former one.

use std::collections::VecDeque;

use crate::attach::far::Told;

/// Orders on their way, in the order given.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    last: u64,
    kept: VecDeque<(u64, Told)>,
}

impl Unheard {
    /// Keeps one until it is heard; gives it as it is told.
    pub(super) fn keep(&mut self, told: Told) -> Told {
        self.last += 1;
        let oldest = self.kept.front().map_or(self.last, |(n, _)| *n);
        self.kept.push_back((self.last, told.clone()));
        Told::Order { n: self.last, oldest, told: Box::new(told) }
    }

    /// The worker has all up to this one.
    pub(super) fn heard(&mut self, n: u64) {
        self.kept.retain(|(kept, _)| *kept > n);
    }

    /// Nobody has to hear of them any more.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Whether a worker has yet to hear what it is to run.
    pub(super) fn assigns(&self) -> bool {
        self.kept.iter().any(|(_, told)| matches!(told, Told::Assign { .. }))
    }

    /// All of them, to be told again.
    pub(super) fn again(&self) -> Vec<Told> {
        let oldest = self.kept.front().map_or(0, |(n, _)| *n);
        let order = |(n, told): &(u64, Told)| Told::Order { n: *n, oldest, told: Box::new(told.clone()) };
        self.kept.iter().map(order).collect()
    }
}
