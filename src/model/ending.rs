//! Every way in which an attempt can end, and what follows from it: one enum, one table.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EndState;

/// The class of a failure, as result files name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// A rate limit, quota or budget.
    Limit,
    /// No or a wrong key or login.
    Auth,
    /// The configuration is wrong: unknown model, program not found.
    Config,
    /// Network, overload, server error.
    Transient,
    /// Silence.
    Stall,
    /// The task itself failed.
    Task,
    /// Too much text for the model or for us.
    Overflow,
    /// The model or a policy refused.
    Refused,
    /// The attempt was lost with its process, its worker or the room.
    Lost,
}

impl FailureClass {
    /// The word in result files and on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Auth => "auth",
            Self::Config => "config",
            Self::Transient => "transient",
            Self::Stall => "stall",
            Self::Task => "task",
            Self::Overflow => "overflow",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ending {
    /// A result event, no error flag, exit 0, a non-empty answer.
    Done,
    /// The engine could not be started.
    NeverStarted {
        /// Why.
        message: String,
    },
    /// The engine ended with this exit code and no result that counts.
    ExitCode {
        /// The code.
        code: i32,
        /// The end of its standard error.
        message: String,
    },
    /// A signal that we did not send ended the engine.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The time allowed was over; the tree was ended.
    Deadline {
        /// Seconds allowed.
        seconds: u64,
    },
    /// A person cancelled it; the tree was ended and seen empty.
    Cancelled,
    /// The engine said nothing for too long.
    Stalled {
        /// Seconds of silence.
        seconds: u64,
    },
    /// The engine ended well and said nothing that counts as an answer.
    EmptyAnswer,
    /// The engine ended without a result event.
    NoResult {
        /// Its exit code, where there was one.
        code: Option<i32>,
    },
    /// The engine's output could not be read as what it was said to be.
    Unreadable {
        /// What was found.
        message: String,
    },
    /// The engine or the model reported an error about the task itself.
    Reported {
        /// What it said.
        message: String,
    },
    /// A limit or quota.
    Limit {
        /// What was said.
        message: String,
        /// When it clears, if that is known.
        until: Option<Timestamp>,
    },
    /// Key or login.
    Auth {
        /// What was said.
        message: String,
    },
    /// Configuration.
    Config {
        /// What was said.
        message: String,
    },
    /// Network, overload or server error.
    Transient {
        /// What was said.
        message: String,
    },
    /// The prompt or the answer was too large.
    Overflow {
        /// What was said.
        message: String,
    },
    /// The model refused, or a budget did.
    Refused {
        /// What was said.
        message: String,
    },
    /// The attempt's process, worker or room vanished.
    Lost {
        /// What vanished.
        message: String,
    },
    /// Never started: a dependency did not end well.
    DependencyFailed {
        /// Which.
        dependency: String,
    },
    /// Not started, or not ended, by the time that its file names.
    Expired {
        /// Which time has passed.
        message: String,
    },
    /// Never started: the file is missing a field.
    Malformed {
        /// Which field, and what is wrong.
        message: String,
    },
}

/// What follows from an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The task ends in this state.
    End(EndState),
    /// Another attempt follows after the usual wait.
    Retry,
    /// Another attempt follows when the limit clears; this one is not counted.
    Park(Option<Timestamp>),
}

impl Ending {
    /// The class of the failure; `None` for done and cancelled.
    pub fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Done | Self::Cancelled => None,
            Self::NeverStarted { .. } | Self::Config { .. } | Self::Malformed { .. } => Some(FailureClass::Config),
            Self::ExitCode { .. }
            | Self::EmptyAnswer
            | Self::NoResult { .. }
            | Self::Unreadable { .. }
            | Self::Reported { .. }
            | Self::Deadline { .. }
            | Self::Expired { .. }
            | Self::DependencyFailed { .. } => Some(FailureClass::Task),
            Self::Signal { .. } | Self::Lost { .. } => Some(FailureClass::Lost),
            Self::Stalled { .. } => Some(FailureClass::Stall),
            Self::Limit { .. } => Some(FailureClass::Limit),
            Self::Auth { .. } => Some(FailureClass::Auth),
            Self::Transient { .. } => Some(FailureClass::Transient),
            Self::Overflow { .. } => Some(FailureClass::Overflow),
            Self::Refused { .. } => Some(FailureClass::Refused),
        }
    }

    /// What follows when `counted` attempts (this one included) of `allowed` have been counted.
    pub fn verdict(&self, counted: u32, allowed: u32) -> Verdict {
        let retry = if counted < allowed { Verdict::Retry } else { Verdict::End(EndState::Dead) };
        match self {
            Self::Done => Verdict::End(EndState::Done),
            Self::Cancelled => Verdict::End(EndState::Cancelled),
            Self::DependencyFailed { .. } => Verdict::End(EndState::Skipped),
            Self::Expired { .. } => Verdict::End(EndState::Expired),
            Self::Deadline { .. } => match retry {
                Verdict::Retry => Verdict::Retry,
                Verdict::End(_) | Verdict::Park(_) => Verdict::End(EndState::TimedOut),
            },
            Self::Limit { until, .. } => Verdict::Park(*until),
            Self::Auth { .. }
            | Self::Config { .. }
            | Self::Malformed { .. }
            | Self::NeverStarted { .. }
            | Self::Overflow { .. }
            | Self::Refused { .. } => Verdict::End(EndState::Failed),
            Self::ExitCode { .. }
            | Self::Signal { .. }
            | Self::Stalled { .. }
            | Self::EmptyAnswer
            | Self::NoResult { .. }
            | Self::Unreadable { .. }
            | Self::Reported { .. }
            | Self::Transient { .. }
            | Self::Lost { .. } => retry,
        }
    }

    /// Whether this ending uses up one of the task's attempts; a limit does not.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Limit { .. })
    }

    /// The same with its text cut to `limit` bytes.
    #[must_use]
    pub fn clipped(mut self, limit: usize) -> Self {
        match &mut self {
            Self::NeverStarted { message }
            | Self::ExitCode { message, .. }
            | Self::Unreadable { message }
            | Self::Reported { message }
            | Self::Limit { message, .. }
            | Self::Auth { message }
            | Self::Config { message }
            | Self::Transient { message }
            | Self::Overflow { message }
            | Self::Refused { message }
            | Self::Lost { message }
            | Self::DependencyFailed { dependency: message }
            | Self::Expired { message }
            | Self::Malformed { message } => {
                if message.len() > limit {
                    *message = super::text::clip(message, limit).into_owned();
                }
            }
            Self::Done
            | Self::Signal { .. }
            | Self::Deadline { .. }
            | Self::Cancelled
            | Self::Stalled { .. }
            | Self::EmptyAnswer
            | Self::NoResult { .. } => {}
        }
        self
    }

    /// One line for a person.
    pub fn sentence(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Cancelled => "cancelled".to_owned(),
            Self::NeverStarted { message } => format!("could not start: {message}"),
            Self::ExitCode { code, message } if message.is_empty() => format!("exit {code}"),
            Self::ExitCode { code, message } => format!("exit {code}: {message}"),
            Self::Signal { signal } => format!("ended by signal {signal}"),
            Self::Deadline { seconds } => format!("not finished in {seconds} s"),
            Self::Stalled { seconds } => format!("silent for {seconds} s"),
            Self::EmptyAnswer => "the answer is empty".to_owned(),
            Self::NoResult { code: Some(code) } => format!("ended without a result (exit {code})"),
            Self::NoResult { code: None } => "ended without a result".to_owned(),
            Self::Unreadable { message } => format!("unreadable output: {message}"),
            Self::Limit { message, .. } => format!("limit: {message}"),
            Self::Auth { message } => format!("login: {message}"),
            Self::Config { message } => format!("configuration: {message}"),
            Self::DependencyFailed { dependency } => format!("{dependency} did not end well"),
            Self::Lost { message } => format!("lost: {message}"),
            Self::Reported { message }
            | Self::Transient { message }
            | Self::Overflow { message }
            | Self::Refused { message }
            | Self::Expired { message }
            | Self::Malformed { message } => message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_costs_no_attempt_and_never_ends_a_task() {
        let limit = Ending::Limit { message: "5 h window".into(), until: None };
        assert!(!limit.counts());
        assert_eq!(limit.verdict(9, 3), Verdict::Park(None));
    }

    #[test]
    fn the_last_attempt_makes_a_task_dead_and_not_sooner() {
        let crash = Ending::Signal { signal: 9 };
        assert_eq!(crash.verdict(2, 3), Verdict::Retry);
        assert_eq!(crash.verdict(3, 3), Verdict::End(EndState::Dead));
    }

    #[test]
    fn what_another_attempt_cannot_mend_fails_at_once() {
        for ending in [
            Ending::Auth { message: String::new() },
            Ending::Config { message: String::new() },
            Ending::Refused { message: String::new() },
        ] {
            assert_eq!(ending.verdict(1, 3), Verdict::End(EndState::Failed));
        }
    }
}
