//! The hidden verb `podium __exec --parent PID --signal KILL|INT -- PROGRAM ARG…`: the last step before an engine.
//!
//! Owns what a child does to itself before it becomes the engine: a session of its own, and an end when its parent
//! ends. Must not know what it starts. Its one surprise: the death signal follows the parent's *thread*, so the worker
//! spawns from its main thread.

use std::{ffi::OsString, io::Write as _, os::unix::process::CommandExt as _, process::ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};

/// Starts the line on standard error that says why nothing was started.
pub const REFUSAL: &str = "podium __exec: ";

/// The exit code that goes with it.
pub const NOT_STARTED: u8 = 127;

/// The words before the program's own.
pub fn arguments(parent: u32, interruptible: bool) -> Vec<OsString> {
    let signal = if interruptible { "INT" } else { "KILL" };
    let parent = parent.to_string();
    ["__exec", "--parent", &parent, "--signal", signal, "--"].map(OsString::from).to_vec()
}

/// Why nothing was started, when `code` and `stderr` are this verb's own.
pub fn refusal(code: i32, stderr: &str) -> Option<String> {
    if code != i32::from(NOT_STARTED) {
        return None;
    }
    stderr.lines().find_map(|line| line.strip_prefix(REFUSAL)).map(str::to_owned)
}

/// Runs the verb with the words after it; returns only when nothing was started.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let message = become_program(args);
    // Nobody reads the answer if even this fails; the exit code remains.
    let _ignored = writeln!(std::io::stderr(), "{REFUSAL}{message}");
    ExitCode::from(NOT_STARTED)
}

fn become_program(mut args: impl Iterator<Item = OsString>) -> String {
    let mut parent = None;
    let mut signal = Signal::KILL;
    loop {
        let word = args.next();
        match word.as_ref().and_then(|w| w.to_str()) {
            Some("--parent") => parent = args.next().and_then(|w| w.to_str()?.parse::<i32>().ok()),
            Some("--signal") => {
                if args.next().is_some_and(|w| w == "INT") {
                    signal = Signal::INT;
                }
            }
            Some("--") => break,
            Some(_) | None => return "usage: --parent PID --signal KILL|INT -- PROGRAM ARG…".to_owned(),
        }
    }
    let Some(program) = args.next() else { return "no program was named".to_owned() };
    if let Err(error) = setsid() {
        return format!("could not open a session: {error}");
    }
    if let Err(error) = set_parent_process_death_signal(Some(signal)) {
        return format!("could not arm the death signal: {error}");
    }
    // The parent may have died before the signal was armed.
    if getppid().map(|p| p.as_raw_nonzero().get()) != parent {
        return "the parent is gone".to_owned();
    }
    let error = std::process::Command::new(&program).args(args).exec();
    format!("could not start {}: {error}", program.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_line_and_code_mean_that_nothing_was_started() {
        assert_eq!(refusal(127, "podium __exec: could not start x: gone\n"), Some("could not start x: gone".into()));
        assert_eq!(refusal(127, "sh: x: not found\n"), None);
        assert_eq!(refusal(1, "podium __exec: lies\n"), None);
    }
}
