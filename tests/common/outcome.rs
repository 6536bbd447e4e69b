//! The plain result that tests of the queue hand in; each says what is special about its own.

use jiff::Timestamp;
use podium::model::{CostSource, EndState, Ending, MicroUsd, Outcome, TaskRef, Usage};

/// Done by attempt `n`, began and ended at `at`.
pub(crate) fn plain(of: &TaskRef, n: u32, at: Timestamp) -> Outcome {
    Outcome {
        task: of.clone(),
        state: EndState::Done,
        ending: Ending::Done,
        attempt: n,
        summary: format!("what attempt {n} found"),
        findings: Vec::new(),
        artifacts: Vec::new(),
        started_at: at,
        completed_at: at,
        usage: Usage::default(),
        cost: MicroUsd(1),
        cost_source: CostSource::Measured,
        model: None,
        session_id: None,
        goal: None,
        foreign: false,
    }
}
