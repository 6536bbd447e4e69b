//! The plain result that tests of the queue hand in; each says what is special about its own.

use jiff::Timestamp;
use podium::model::{CostSource, EndState, Ending, MicroUsd, Outcome, TaskRef};

/// Done by attempt `n`, began and ended at `at`.
pub(crate) fn plain(of: &TaskRef, n: u32, at: Timestamp) -> Outcome {
    Outcome {
        attempt: n,
        summary: format!("what attempt {n} found"),
        cost: MicroUsd(1),
        cost_source: CostSource::Measured,
        ..Outcome::plain(of.clone(), EndState::Done, Ending::Done, at)
    }
}
