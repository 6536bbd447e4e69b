//! Every way in which an attempt can end: one enum, and one table of what follows.
//!
//! Owns [`Ending`] as files and reports hold it. Must not know how an ending comes about. Its one surprise: everything
//! that is decided by an ending is decided by its row in `ending/policy.rs`.

mod policy;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EndState;
use policy::{Kind, Then};

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
    /// The time allowed was over and the tree took no notice of INT and TERM; it was killed.
    Killed {
        /// Seconds allowed.
        seconds: u64,
    },
    /// A person cancelled it; the tree was ended and seen empty.
    Cancelled,
    /// No sign of life for too long: no bytes, no CPU time, no process that came or went.
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
    /// The engine ended without an answer and left processes that held its output.
    Held {
        /// How many.
        left: u32,
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
    /// It said that it was done, and a check of the plan or its reviewer found that it was not.
    Unproven {
        /// Which check, and what was found.
        message: String,
    },
    /// A limit or quota.
    Limit {
        /// What was said.
        message: String,
        /// When it clears, if that is known.
        until: Option<Timestamp>,
    },
    /// The budget of its task or goal is used up.
    Budget {
        /// Whose, and the numbers.
        message: String,
    },
    /// The day's budget is used up.
    DayBudget {
        /// The numbers, and when it clears.
        message: String,
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
    /// The session that was to be taken up again is not there.
    SessionGone {
        /// What was said.
        message: String,
    },
    /// Network, overload or server error.
    Transient {
        /// What was said.
        message: String,
    },
    /// The prompt, the answer or the output was too large.
    Overflow {
        /// What was said.
        message: String,
    },
    /// The model refused.
    Refused {
        /// What was said.
        message: String,
    },
    /// A person stopped the room while it ran.
    Stopped,
    /// Its task was paused while it ran.
    Paused,
    /// The room was gone for longer than the worker waits for it.
    RoomLost {
        /// Seconds it waited.
        seconds: u64,
    },
    /// The attempt's process or worker vanished, or its end could not be written.
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
    fn kind(&self) -> Kind {
        match self {
            Self::Done => Kind::Done,
            Self::NeverStarted { .. } => Kind::NeverStarted,
            Self::ExitCode { .. } => Kind::ExitCode,
            Self::Signal { .. } => Kind::Signal,
            Self::Deadline { .. } => Kind::Deadline,
            Self::Killed { .. } => Kind::Killed,
            Self::Cancelled => Kind::Cancelled,
            Self::Stalled { .. } => Kind::Stalled,
            Self::EmptyAnswer => Kind::EmptyAnswer,
            Self::NoResult { .. } => Kind::NoResult,
            Self::Held { .. } => Kind::Held,
            Self::Unreadable { .. } => Kind::Unreadable,
            Self::Reported { .. } => Kind::Reported,
            Self::Unproven { .. } => Kind::Unproven,
            Self::Limit { .. } => Kind::Limit,
            Self::Budget { .. } => Kind::Budget,
            Self::DayBudget { .. } => Kind::DayBudget,
            Self::Auth { .. } => Kind::Auth,
            Self::Config { .. } => Kind::Config,
            Self::SessionGone { .. } => Kind::SessionGone,
            Self::Transient { .. } => Kind::Transient,
            Self::Overflow { .. } => Kind::Overflow,
            Self::Refused { .. } => Kind::Refused,
            Self::Stopped => Kind::Stopped,
            Self::Paused => Kind::Paused,
            Self::RoomLost { .. } => Kind::RoomLost,
            Self::Lost { .. } => Kind::Lost,
            Self::DependencyFailed { .. } => Kind::DependencyFailed,
            Self::Expired { .. } => Kind::Expired,
            Self::Malformed { .. } => Kind::Malformed,
        }
    }

    /// The number and the words that its sentence has blanks for.
    fn said(&self) -> (Option<i64>, &str) {
        match self {
            Self::Done | Self::Cancelled | Self::EmptyAnswer | Self::Stopped | Self::Paused => (None, ""),
            Self::ExitCode { code, message } => (Some(i64::from(*code)), message),
            Self::Signal { signal } => (Some(i64::from(*signal)), ""),
            Self::NoResult { code } => (code.map(i64::from), ""),
            Self::Held { left } => (Some(i64::from(*left)), ""),
            Self::Deadline { seconds }
            | Self::Killed { seconds }
            | Self::Stalled { seconds }
            | Self::RoomLost { seconds } => (Some(i64::try_from(*seconds).unwrap_or(i64::MAX)), ""),
            Self::DependencyFailed { dependency: message }
            | Self::NeverStarted { message }
            | Self::Unreadable { message }
            | Self::Reported { message }
            | Self::Unproven { message }
            | Self::Limit { message, .. }
            | Self::Budget { message }
            | Self::DayBudget { message }
            | Self::Auth { message }
            | Self::Config { message }
            | Self::SessionGone { message }
            | Self::Transient { message }
            | Self::Overflow { message }
            | Self::Refused { message }
            | Self::Lost { message }
            | Self::Expired { message }
            | Self::Malformed { message } => (None, message),
        }
    }

    /// The class of the failure; `None` for done and cancelled.
    pub fn class(&self) -> Option<FailureClass> {
        self.kind().policy().class
    }

    /// What follows when `counted` attempts (this one included) of `allowed` have been counted.
    pub fn verdict(&self, counted: u32, allowed: u32) -> Verdict {
        match (self.kind().policy().then, self) {
            (Then::Retry(_), _) if counted < allowed => Verdict::Retry,
            (Then::End(state) | Then::Retry(state), _) => Verdict::End(state),
            (Then::Again, _) => Verdict::Retry,
            (Then::Park, Self::Limit { until, .. }) => Verdict::Park(*until),
            (Then::Park, _) => Verdict::Park(None),
        }
    }

    /// Whether this ending uses up one of the task's attempts.
    pub fn counts(&self) -> bool {
        self.kind().policy().counts
    }

    /// The same with its text cut to `limit` bytes.
    #[must_use]
    pub fn clipped(mut self, limit: usize) -> Self {
        match &mut self {
            Self::NeverStarted { message }
            | Self::ExitCode { message, .. }
            | Self::Unreadable { message }
            | Self::Reported { message }
            | Self::Unproven { message }
            | Self::Limit { message, .. }
            | Self::Budget { message }
            | Self::DayBudget { message }
            | Self::Auth { message }
            | Self::Config { message }
            | Self::SessionGone { message }
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
            | Self::Killed { .. }
            | Self::Held { .. }
            | Self::Stopped
            | Self::Paused
            | Self::RoomLost { .. }
            | Self::NoResult { .. } => {}
        }
        self
    }

    /// One line for a person: what happened.
    pub fn sentence(&self) -> String {
        let (number, message) = self.said();
        self.kind().policy().say(number, message)
    }

    /// One line for a person: what to do about it.
    pub fn remedy(&self) -> &'static str {
        self.kind().policy().remedy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What yesterday's version wrote when it failed an attempt, and how each is read and judged then as now.
    #[test]
    fn exit_files_of_the_version_before_are_read_as_what_they_were() {
        let said = || "what was said".to_owned();
        let until = Some(Timestamp::from_second(1_795_349_598).unwrap());
        let old = [
            ("done", Ending::Done, "done"),
            ("never_started", Ending::NeverStarted { message: said() }, "could not start: what was said"),
            ("exit_code", Ending::ExitCode { code: 3, message: said() }, "exit 3: what was said"),
            ("signal", Ending::Signal { signal: 9 }, "ended by signal 9"),
            ("deadline", Ending::Deadline { seconds: 600 }, "not finished in 600 s"),
            ("cancelled", Ending::Cancelled, "cancelled"),
            ("stalled", Ending::Stalled { seconds: 600 }, "silent for 600 s"),
            ("empty_answer", Ending::EmptyAnswer, "the answer is empty"),
            ("no_result", Ending::NoResult { code: Some(0) }, "ended without a result (exit 0)"),
            ("unreadable", Ending::Unreadable { message: said() }, "unreadable output: what was said"),
            ("reported", Ending::Reported { message: said() }, "what was said"),
            ("limit", Ending::Limit { message: said(), until }, "limit: what was said"),
            ("auth", Ending::Auth { message: said() }, "login: what was said"),
            ("config", Ending::Config { message: said() }, "configuration: what was said"),
            ("transient", Ending::Transient { message: said() }, "what was said"),
            ("overflow", Ending::Overflow { message: said() }, "what was said"),
            ("refused", Ending::Refused { message: said() }, "what was said"),
            ("lost", Ending::Lost { message: said() }, "lost: what was said"),
            (
                "dependency_failed",
                Ending::DependencyFailed { dependency: "marie/x".into() },
                "marie/x did not end well",
            ),
            ("expired", Ending::Expired { message: said() }, "what was said"),
            ("malformed", Ending::Malformed { message: said() }, "what was said"),
        ];
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/queue/old-exits");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), old.len());
        for (kind, ending, sentence) in old {
            let file = std::fs::read(folder.join(format!("{kind}.json"))).unwrap();
            let mut exit: serde_json::Value = serde_json::from_slice(&file).unwrap();
            let read: Ending = serde_json::from_value(exit["ending"].take()).unwrap();
            assert_eq!((&read, read.sentence().as_str()), (&ending, sentence), "{kind}");
        }
    }

    #[test]
    fn a_person_s_stop_costs_no_attempt_and_a_lost_room_does() {
        assert_eq!((Ending::Stopped.counts(), Ending::Stopped.verdict(3, 3)), (false, Verdict::Retry));
        let lost = Ending::RoomLost { seconds: 60 };
        assert_eq!((lost.counts(), lost.verdict(3, 3)), (true, Verdict::End(EndState::Dead)));
        assert_eq!(lost.verdict(2, 3), Verdict::Retry);
    }

    #[test]
    fn what_runs_out_of_time_ends_as_timed_out() {
        for ending in [Ending::Deadline { seconds: 1 }, Ending::Killed { seconds: 1 }] {
            assert_eq!(ending.verdict(2, 3), Verdict::Retry);
            assert_eq!(ending.verdict(3, 3), Verdict::End(EndState::TimedOut));
        }
    }

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
