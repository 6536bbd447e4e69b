//! The policy table: what every ending costs, what follows from it, what the operator reads and can do.
//!
//! Owns one row per ending and `docs/endings.md`, which is made from the rows. Must not know attempts or queues. Its
//! one surprise: the sentences are templates; a part in square brackets goes when what it names is unknown or empty.

use super::{super::EndState, FailureClass};

/// Which ending, without what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Done,
    NeverStarted,
    ExitCode,
    Signal,
    Deadline,
    Killed,
    Cancelled,
    Stalled,
    EmptyAnswer,
    NoResult,
    Held,
    Unreadable,
    Reported,
    Unproven,
    Limit,
    Budget,
    DayBudget,
    Auth,
    Config,
    SessionGone,
    Transient,
    Overflow,
    Refused,
    Stopped,
    Paused,
    RoomLost,
    Lost,
    DependencyFailed,
    Expired,
    Malformed,
}

/// What follows from an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The task ends in this state; another attempt would not help.
    End(EndState),
    /// Another attempt after the usual wait; in this state when there are none left.
    Retry(EndState),
    /// Another attempt, however many there were.
    Again,
    /// Another attempt when the limit clears.
    Park,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// The word in files.
    pub(super) word: &'static str,
    /// What happened.
    pub(super) happened: &'static str,
    /// The class of the failure; `None` where it is none.
    pub(super) class: Option<FailureClass>,
    /// Whether it uses up one of the task's attempts.
    pub(super) counts: bool,
    /// What follows.
    pub(super) then: Then,
    /// What the operator reads: `{n}` is a number, `{message}` what was said.
    pub(super) sentence: &'static str,
    /// What the operator can do.
    pub(super) remedy: &'static str,
}

use EndState::{Cancelled, Dead, Done, Expired, Failed, Skipped, TimedOut};
use FailureClass::{Auth, Config, Limit, Lost, Overflow, Refused, Stall, Task, Transient};

impl Kind {
    /// Every kind, in the order of the table.
    #[cfg(test)]
    const ALL: [Self; 30] = [
        Self::Done,
        Self::NeverStarted,
        Self::ExitCode,
        Self::Signal,
        Self::Deadline,
        Self::Killed,
        Self::Cancelled,
        Self::Stalled,
        Self::EmptyAnswer,
        Self::NoResult,
        Self::Held,
        Self::Unreadable,
        Self::Reported,
        Self::Unproven,
        Self::Limit,
        Self::Budget,
        Self::DayBudget,
        Self::Auth,
        Self::Config,
        Self::SessionGone,
        Self::Transient,
        Self::Overflow,
        Self::Refused,
        Self::Stopped,
        Self::Paused,
        Self::RoomLost,
        Self::Lost,
        Self::DependencyFailed,
        Self::Expired,
        Self::Malformed,
    ];

    /// Its row.
    #[rustfmt::skip]
    pub(super) const fn policy(self) -> Policy {
        use Then::{Again, End, Park, Retry};
        match self {
            Self::Done => row("done", None, true, End(Done),
                "A result, no error flag, exit 0, an answer that is not empty. Also when the engine stayed after its result and had to be ended.",
                "done",
                "Nothing."),
            Self::NeverStarted => row("never_started", Some(Config), true, End(Failed),
                "The engine could not be started, or what an earlier attempt left running would not go.",
                "could not start: {message}",
                "See that the program is there and may be run: podium doctor. Then retry."),
            Self::ExitCode => row("exit_code", Some(Task), true, Retry(Dead),
                "The engine ended with an exit code other than 0.",
                "exit {n}[: {message}]",
                "Read the end of the attempt's log; the reason is the last thing said."),
            Self::Signal => row("signal", Some(Lost), true, Retry(Dead),
                "A signal that podium did not send ended the engine, or a result says that it was interrupted.",
                "ended by signal {n}",
                "9 is mostly the kernel, out of memory: fewer slots, or more memory. 11 and 6 are crashes of the engine."),
            Self::Deadline => row("deadline", Some(Task), true, Retry(TimedOut),
                "The time allowed was over; its processes were asked to end, and did.",
                "not finished in {n} s",
                "Give it more time (timeout), or make the task smaller."),
            Self::Killed => row("killed", Some(Task), true, Retry(TimedOut),
                "The time allowed was over, and it took no notice of INT and TERM for the whole grace: it was killed.",
                "not finished in {n} s, and had to be killed",
                "Give it more time, or find out why it does not end when asked; what it wrote last may be half of something."),
            Self::Cancelled => row("cancelled", None, true, End(Cancelled),
                "A person cancelled it; its processes were seen gone.",
                "cancelled",
                "Nothing; retry brings it back."),
            Self::Stalled => row("stalled", Some(Stall), true, Retry(Dead),
                "No bytes in its logs, no CPU time and no process that came or went, for too long.",
                "silent for {n} s",
                "If it may be silent for so long: extend the countdown, or set stall for the task or the agent."),
            Self::EmptyAnswer => row("empty_answer", Some(Task), true, Retry(Dead),
                "It ended well and said nothing.",
                "the answer is empty",
                "Say in the task what the answer must hold."),
            Self::NoResult => row("no_result", Some(Task), true, Retry(Dead),
                "It ended well and without a result event.",
                "ended without a result[ (exit {n})]",
                "Read the end of the attempt's log. If it is always so, the engine is not what its output says."),
            Self::Held => row("held", Some(Task), true, Retry(Dead),
                "The program ended without an answer and left processes that held its output; they were ended.",
                "ended without an answer and left {n} running",
                "Run it in the foreground: what it starts must not outlive it."),
            Self::Unreadable => row("unreadable", Some(Task), true, Retry(Dead),
                "Its output is not what it was said to be.",
                "unreadable output: {message}",
                "For a command: see that output in podium.toml fits what it prints."),
            Self::Reported => row("reported", Some(Task), true, Retry(Dead),
                "The engine or the model reported an error about the task itself; subtype success with the error flag too.",
                "{message}",
                "Read what it says; edit the task and retry."),
            Self::Unproven => row("unproven", Some(Task), true, Retry(Failed),
                "It said that it was done, and a check of the plan or its reviewer found that it was not. Tried once more, with more effort or a stronger model.",
                "not done: {message}",
                "See what was found; the files lie in the workspace. Mend the task or the check, then retry."),
            Self::Limit => row("limit", Some(Limit), false, Park,
                "A rate limit or quota.",
                "limit: {message}",
                "Wait; it goes on by itself when the limit clears."),
            Self::Budget => row("budget", Some(Limit), false, End(Failed),
                "The budget of its task or goal is used up: podium ended it, or refused its calls. Another attempt would be refused too.",
                "{message}",
                "Give it more: podium retry --budget DOLLARS, or budget_usd in its file. For a goal: goal_usd, or run --budget."),
            Self::DayBudget => row("day_budget", Some(Limit), false, Again,
                "The day's budget is used up: podium ended it, or refused its calls. Nothing is started before the day is over.",
                "{message}",
                "Wait; it goes on by itself at 00:00 UTC. Or raise day_usd in podium.toml and start the room again."),
            Self::Auth => row("auth", Some(Auth), true, End(Failed),
                "No key or login, a wrong one, or an account that cannot pay.",
                "login: {message}",
                "Mend the key or login: podium doctor. Then retry."),
            Self::Config => row("config", Some(Config), true, End(Failed),
                "The configuration is wrong: a model, an argument, a file.",
                "configuration: {message}",
                "Mend podium.toml or the agent's files: podium doctor. Then retry."),
            Self::SessionGone => row("session_gone", Some(Config), false, Again,
                "The session that was to be taken up again is not there.",
                "the session is gone: {message}",
                "Nothing; the next attempt starts afresh."),
            Self::Transient => row("transient", Some(Transient), true, Retry(Dead),
                "Network, overload or an error of the server.",
                "{message}",
                "Wait and retry; podium doctor shows whether the server can be reached."),
            Self::Overflow => row("overflow", Some(Overflow), true, End(Failed),
                "The prompt or the answer was too large for the model, or the output too large for the disk.",
                "{message}",
                "Make the task smaller, or let it write to files and say less."),
            Self::Refused => row("refused", Some(Refused), true, End(Failed),
                "The model refused.",
                "{message}",
                "Word the task differently."),
            Self::Stopped => row("stopped", Some(Lost), false, Again,
                "A person stopped the room while it ran.",
                "stopped with the room",
                "Nothing; it starts again with the room."),
            Self::Paused => row("paused", Some(Lost), false, Again,
                "A person paused its task while it ran, or what it asked for was denied three times.",
                "paused",
                "Let the task go on: its session is taken up again where the engine can."),
            Self::RoomLost => row("room_lost", Some(Lost), true, Retry(Dead),
                "The room was gone for longer than a worker waits for it.",
                "the room was gone for {n} s",
                "Start the room. A longer orphan_grace lets work go on while it is away."),
            Self::Lost => row("lost", Some(Lost), true, Retry(Dead),
                "The attempt's process or worker vanished, or its end could not be written.",
                "lost: {message}",
                "If it happens again: the kernel's log (out of memory?) and .podium/log."),
            Self::DependencyFailed => row("dependency_failed", Some(Task), false, End(Skipped),
                "It was never started, because something it depends on did not end well.",
                "{message} did not end well",
                "Retry what failed, then this; or let it run all the same (if_failed)."),
            Self::Expired => row("expired", Some(Task), true, End(Expired),
                "It was not started, or not ended, by the time that its file names.",
                "{message}",
                "Submit it again with another time, or retry it."),
            Self::Malformed => row("malformed", Some(Config), false, End(Failed),
                "It was never started, because its file lacks something.",
                "{message}",
                "Mend the file and retry."),
        }
    }
}

const fn row(
    word: &'static str,
    class: Option<FailureClass>,
    counts: bool,
    then: Then,
    happened: &'static str,
    sentence: &'static str,
    remedy: &'static str,
) -> Policy {
    Policy { word, happened, class, counts, then, sentence, remedy }
}

impl Policy {
    /// The sentence with its blanks filled.
    pub(super) fn say(&self, number: Option<i64>, message: &str) -> String {
        let mut out = String::new();
        let mut rest = self.sentence;
        while let Some((before, inside)) = rest.split_once('[') {
            let (part, after) = inside.split_once(']').unwrap_or((inside, ""));
            fill(&mut out, before, number, message);
            let known =
                (!part.contains("{n}") || number.is_some()) && (!part.contains("{message}") || !message.is_empty());
            if known {
                fill(&mut out, part, number, message);
            }
            rest = after;
        }
        fill(&mut out, rest, number, message);
        out
    }
}

fn fill(out: &mut String, part: &str, number: Option<i64>, message: &str) {
    let number = number.map(|n| n.to_string()).unwrap_or_default();
    // What was said may hold anything, so it goes in last.
    out.push_str(&part.replace("{n}", &number).replace("{message}", message));
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn markdown() -> String {
        let mut out = String::from(
            "# How an attempt can end\n\nMade from the table in `src/model/ending/policy.rs`; a test compares. \
            `UPDATE_DOCS=1 cargo nextest run endings_md` writes it.\n",
        );
        out.push_str(include_str!("preface.md"));
        out.push_str("\n| Ending | What happened | Class | Costs an attempt | What follows | The operator reads | What to do |\n");
        out.push_str("|---|---|---|---|---|---|---|\n");
        for policy in Kind::ALL.map(Kind::policy) {
            let Policy { word, happened, class, counts, then, sentence, remedy } = policy;
            let class = class.map_or("", FailureClass::word);
            let counts = if counts { "yes" } else { "no" };
            let then = match then {
                Then::End(state) => format!("ends: {}", state.word()),
                Then::Retry(state) => format!("tried again; at the last: {}", state.word()),
                Then::Again => "tried again".to_owned(),
                Then::Park => "tried again when the limit clears".to_owned(),
            };
            let _ok = writeln!(out, "| `{word}` | {happened} | {class} | {counts} | {then} | {sentence} | {remedy} |");
        }
        out
    }

    #[test]
    fn endings_md_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/endings.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == markdown(), "docs/endings.md differs: UPDATE_DOCS=1 cargo nextest run endings_md");
    }

    #[test]
    fn the_table_has_a_row_for_every_ending_that_a_file_can_hold() {
        let unknown = serde_json::from_str::<super::super::Ending>(r#"{"kind":"?"}"#).unwrap_err().to_string();
        let known: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, Kind::ALL.map(|kind| kind.policy().word));
    }

    #[test]
    fn what_costs_no_attempt_is_a_limit_a_person_or_happens_once() {
        let free: Vec<Kind> =
            Kind::ALL.into_iter().filter(|k| !k.policy().counts && !matches!(k.policy().then, Then::End(_))).collect();
        assert_eq!(
            free,
            [Kind::Limit, Kind::DayBudget, Kind::SessionGone, Kind::Stopped, Kind::Paused],
            "each needs its own reason not to break G6"
        );
        let endless = |k: &Kind| matches!(k.policy().then, Then::Again | Then::Park);
        assert_eq!(Kind::ALL.into_iter().filter(endless).collect::<Vec<_>>(), free);
    }

    #[test]
    fn parts_of_a_sentence_go_when_nothing_is_known_of_them() {
        let exit = Kind::ExitCode.policy();
        assert_eq!(exit.say(Some(3), "{n} [x] disk full"), "exit 3: {n} [x] disk full");
        assert_eq!(exit.say(Some(-1), ""), "exit -1");
        assert_eq!(Kind::NoResult.policy().say(None, ""), "ended without a result");
        assert_eq!(Kind::NoResult.policy().say(Some(0), ""), "ended without a result (exit 0)");
    }
}
