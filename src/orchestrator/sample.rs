//! Outcomes for tests.

use jiff::Timestamp;

use crate::model::{Artifact, CostSource, EndState, Ending, MicroUsd, Outcome};

/// An outcome with this state and summary; the ending fits the state.
pub(crate) fn outcome(task: &str, state: EndState, summary: &str) -> Outcome {
    let ending = match state {
        EndState::Done => Ending::Done,
        EndState::Cancelled => Ending::Cancelled,
        EndState::TimedOut | EndState::Expired => Ending::Deadline { seconds: 60 },
        EndState::Skipped => Ending::DependencyFailed { dependency: "marie/g7-quiz".to_owned() },
        EndState::Failed => Ending::Refused { message: "not | this".to_owned() },
        EndState::Dead => Ending::ExitCode { code: 1, message: "boom".to_owned() },
    };
    Outcome {
        attempt: u32::from(state != EndState::Skipped),
        summary: summary.to_owned(),
        cost: MicroUsd(if state == EndState::Skipped { 0 } else { 120_000 }),
        cost_source: CostSource::Measured,
        ..Outcome::plain(task.parse().unwrap(), state, ending, Timestamp::UNIX_EPOCH)
    }
}

/// The same with two findings and a file.
pub(crate) fn with_files(mut outcome: Outcome) -> Outcome {
    outcome.findings = vec!["question 7 is hard".to_owned(), "sources: two books".to_owned()];
    outcome.artifacts =
        vec![Artifact { path: "workspaces/dance/quiz.md".to_owned(), bytes: 812, sha256: "ab".repeat(32), kept: None }];
    outcome
}
