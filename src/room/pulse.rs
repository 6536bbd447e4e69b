//! How much an attempt has written lately, in steps of a few seconds: what its picture is drawn from.
//!
//! Its one surprise: it is told totals, and only when something changed; silence is told by the time that has passed.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Seconds of a step.
const STEP: i64 = 5;

/// Steps that are kept.
pub const STEPS: usize = 8;

/// Bytes per step, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pulse {
    step: i64,
    total: u64,
    bytes: VecDeque<u64>,
}

impl Pulse {
    /// So many bytes have been written in all by now.
    pub(super) fn beat(&mut self, now: Timestamp, total: u64) {
        let written = self.at(now);
        self.step = now.as_second() / STEP;
        self.bytes = written.into();
        if let Some(last) = self.bytes.back_mut() {
            *last += total.saturating_sub(self.total);
        }
        self.total = total;
    }

    /// The steps as they are at `now`; those in which nothing was heard are empty.
    pub fn at(&self, now: Timestamp) -> Vec<u64> {
        let passed = now.as_second() / STEP - self.step;
        let passed = if self.bytes.is_empty() { 1 } else { usize::try_from(passed).unwrap_or(0) };
        let mut steps: Vec<u64> = self.bytes.iter().copied().collect();
        steps.extend(std::iter::repeat_n(0, passed.min(STEPS)));
        let over = steps.len().saturating_sub(STEPS);
        steps.drain(..over);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_moves_to_the_left_as_time_passes() {
        let at = |s: i64| Timestamp::from_second(1_000_000 + s).unwrap();
        let mut pulse = Pulse::default();
        pulse.beat(at(0), 100);
        pulse.beat(at(3), 150);
        assert_eq!(pulse.at(at(4)), [150]);
        pulse.beat(at(11), 400);
        assert_eq!(pulse.at(at(11)), [150, 0, 250]);
        assert_eq!(pulse.at(at(21)), [150, 0, 250, 0, 0]);
        assert_eq!(pulse.at(at(900)), [0; STEPS]);
        // A log that was cut is no writing, and a clock that goes back is no step.
        pulse.beat(at(10), 10);
        assert_eq!(pulse.at(at(10)), [150, 0, 250]);
    }
}
