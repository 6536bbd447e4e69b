//! The parent that stays: of the room's core, which it starts again, and of the screen, which it cleans up after.
//!
//! Owns one child at a time and what falls to its process. Must not know rooms, tasks or sockets, and runs no runtime:
//! one thread, asleep until a signal comes. Its one surprise: a child that ends by an exit code has ended on purpose,
//! whatever the code; only a signal or a panic counts as a death.

use std::{
    collections::BTreeSet,
    io,
    os::unix::net::UnixStream,
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, Signal, WaitOptions},
};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

use crate::engines::tree::{self, Process};

/// A core that lived shorter died quickly.
const QUICK: Duration = Duration::from_secs(5);

/// Quick deaths in a row after which the room is given up.
const DEATHS: u32 = 10;

/// The longest wait before the next start.
const LONGEST: Duration = Duration::from_secs(8);

/// How long workers that were told to leave may take; longer than the whole ladder that ends an attempt.
const LEAVING: Duration = Duration::from_secs(20);

/// How long what has been killed may take to be gone.
const SWEEP: Duration = Duration::from_secs(10);

/// The exit code of a Rust program that panicked.
const PANICKED: u8 = 101;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Keeps a core alive until it ends on purpose, or is given up; tells the exit code for this process.
///
/// `command` makes the core's command line anew for every start; it is given the children that this process had before,
/// which are none of ours. `workers` tells which children are workers in their slots: those are left to the next core,
/// and whatever else falls to this process is ended at the latest when it goes.
pub fn keep(
    command: impl Fn(&BTreeSet<i32>) -> io::Result<Command>,
    workers: impl Fn() -> BTreeSet<i32>,
) -> io::Result<u8> {
    // A shell may have started something and become podium then.
    let strangers = children().iter().map(|p| p.pid).collect();
    // Whoever loses its parent below here becomes a child of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut ears = Ears::open()?;
    let mut deaths = Deaths::default();
    let code = loop {
        let began = now();
        let how = match command(&strangers).and_then(|mut c| c.spawn()) {
            Ok(core) => ears.until_ended(pid_of(&core)?)?,
            Err(error) if deaths.any => {
                tracing::error!(%error, "the core cannot be started");
                Ended::Code(1)
            }
            Err(error) => return Err(error),
        };
        match deaths.judge(how, began.elapsed()) {
            Next::Leave(code) => break code,
            Next::GiveUp(code) => {
                tracing::error!(
                    %how,
                    "the core has died {DEATHS} times within {} s of its start: the room is given up",
                    QUICK.as_secs()
                );
                break code;
            }
            Next::Again(wait) => {
                if ears.leaving {
                    tracing::warn!(%how, "the core died while it was leaving");
                    break 1;
                }
                tracing::error!(%how, quick = deaths.quick, wait_ms = wait.as_millis(), "the core died and starts again");
                ears.rest(wait)?;
                if ears.leaving {
                    break 1;
                }
            }
        }
    };
    end_children(&mut ears, &workers, &strangers)?;
    Ok(code)
}

/// The core's word to its guardian that it leaves by order: should it die over that, it is not started again.
pub fn tell_leaving(guardian: u32) -> io::Result<()> {
    match rustix::process::getppid() {
        // Otherwise the number may be anybody's by now.
        Some(parent) if parent.as_raw_nonzero().get().unsigned_abs() == guardian => {
            Ok(rustix::process::kill_process(parent, Signal::USR1)?)
        }
        Some(_) | None => Ok(()),
    }
}

/// What hangs from this process and lives.
fn children() -> Vec<Process> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    tree::children_of(own).into_iter().filter(|p| !p.zombie).collect()
}

/// Stays with a child that has the terminal until it ends; every signal is passed on to it.
pub fn accompany(mut command: Command) -> io::Result<Ended> {
    let mut ears = Ears::open()?;
    let child = command.spawn()?;
    ears.until_ended(pid_of(&child)?)
}

/// Ends this process in order when `parent`, which accompanies it, dies. Called before there is any other thread.
pub fn end_with(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have died before the signal was armed.
    if rustix::process::getppid().map(|p| p.as_raw_nonzero().get()) == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other("the process that started this one is gone"))
    }
}

/// A child that was just started and that nobody has reaped.
fn pid_of(child: &std::process::Child) -> io::Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("a child without a number"))
}

#[expect(clippy::disallowed_methods, reason = "a process without a runtime measures how long its child lived")]
fn now() -> Instant {
    Instant::now()
}

/// What follows a core's end.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It ended on purpose: so does this process, with this code.
    Leave(u8),
    /// It dies again and again.
    GiveUp(u8),
    /// It is started again after this wait.
    Again(Duration),
}

/// The deaths so far.
#[derive(Debug, Default)]
struct Deaths {
    /// A core has died before.
    any: bool,
    /// How many quick ones in a row.
    quick: u32,
}

impl Deaths {
    fn judge(&mut self, how: Ended, lived: Duration) -> Next {
        let code = match how {
            Ended::Code(0) => return Next::Leave(0),
            // The first one that cannot open has said why. After a death it may be that same trouble: try again.
            Ended::Code(code) if code != PANICKED && !self.any => return Next::Leave(code),
            Ended::Code(code) => code,
            Ended::Signal(_) => 1,
        };
        self.any = true;
        self.quick = if lived < QUICK { self.quick + 1 } else { 1 };
        if self.quick >= DEATHS {
            return Next::GiveUp(code);
        }
        // 0, 100 ms, 200 ms, … 8 s
        let doubled = 1_u32.checked_shl(self.quick.saturating_sub(2)).unwrap_or(u32::MAX);
        let wait = if self.quick <= 1 { Duration::ZERO } else { Duration::from_millis(100).saturating_mul(doubled) };
        Next::Again(wait.min(LONGEST))
    }
}

/// Where signals arrive.
struct Ears {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    /// This process was told to leave.
    leaving: bool,
}

impl Ears {
    fn open() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, [SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        Ok(Self { delivery, leaving: false })
    }

    /// Waits for signals, at most so long; hands on those that are for `child`.
    fn wait(&mut self, patience: Option<Duration>, child: Option<Pid>) -> io::Result<()> {
        let limit = patience.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match rustix::event::poll(&mut [PollFd::new(self.delivery.get_read(), PollFlags::IN)], limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for number in self.delivery.pending().filter(|number| *number != SIGCHLD) {
            self.leaving = true;
            // USR1 is the child's own word.
            let passed_on = Signal::from_named_raw(number).filter(|signal| *signal != Signal::USR1);
            if let (Some(child), Some(signal)) = (child, passed_on) {
                // It may have ended; that is seen next.
                let _gone = rustix::process::kill_process(child, signal);
            }
        }
        Ok(())
    }

    /// Waits until `child` has ended, and takes the exit status of whatever else falls to this process.
    fn until_ended(&mut self, child: Pid) -> io::Result<Ended> {
        loop {
            if let Some(how) = reap(Some(child)) {
                return Ok(how);
            }
            self.wait(None, Some(child))?;
        }
    }

    /// Lets time pass, unless this process is told to leave.
    fn rest(&mut self, wait: Duration) -> io::Result<()> {
        let end = now() + wait;
        while let Some(left) = end.checked_duration_since(now()).filter(|left| !left.is_zero() && !self.leaving) {
            self.wait(Some(left), None)?;
            let _nobody = reap(None);
        }
        Ok(())
    }
}

/// Takes the exit status of every child that has ended; tells that of `awaited`.
fn reap(awaited: Option<Pid>) -> Option<Ended> {
    let mut found = None;
    while let Ok(Some((pid, status))) = rustix::process::waitpid(None, WaitOptions::NOHANG) {
        if Some(pid) == awaited {
            found = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Some(Ended::Code(u8::try_from(code).unwrap_or(u8::MAX))),
                (None, Some(number)) => Some(Ended::Signal(number)),
                (None, None) => None,
            };
        }
    }
    found
}

/// Ends what hangs from this process, until twice in a row nothing is seen. Workers in their slots are asked when this
/// process was told to leave; otherwise a next room takes them over, or they leave by themselves.
fn end_children(ears: &mut Ears, workers: &impl Fn() -> BTreeSet<i32>, strangers: &BTreeSet<i32>) -> io::Result<()> {
    let begun = now();
    let (mut asked, mut empty) = (BTreeSet::new(), 0);
    while empty < 2 {
        let _nobody = reap(None);
        let children: Vec<_> = children().into_iter().filter(|p| !strangers.contains(&p.pid)).collect();
        let workers = if children.is_empty() { BTreeSet::new() } else { workers() };
        let late = begun.elapsed() >= LEAVING;
        let mut left = Vec::new();
        for child in &children {
            let in_order = workers.contains(&child.pid) && !late;
            if !in_order {
                tree::signal(child, Signal::KILL);
            } else if !ears.leaving {
                continue;
            } else if asked.insert(child.pid) {
                tree::signal(child, Signal::TERM);
            }
            left.push(child.pid);
        }
        // What forks and ends while the table is read can slip through one look, not two.
        empty = if left.is_empty() { empty + 1 } else { 0 };
        if begun.elapsed() >= LEAVING + SWEEP {
            tracing::error!(?left, "processes do not end");
            break;
        }
        ears.wait(Some(Duration::from_millis(if empty == 0 { 20 } else { 2 })), None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn what_ends_on_purpose_is_not_started_again() {
        for code in [0, 1, 2, 3] {
            assert_eq!(Deaths::default().judge(Ended::Code(code), SHORT), Next::Leave(code));
        }
    }

    #[test]
    fn a_signal_or_a_panic_is_a_death_and_the_first_start_after_it_does_not_wait() {
        for how in [Ended::Signal(9), Ended::Signal(6), Ended::Code(PANICKED)] {
            assert_eq!(Deaths::default().judge(how, SHORT), Next::Again(Duration::ZERO), "{how}");
        }
    }

    #[test]
    fn quick_deaths_wait_longer_each_time_and_are_given_up_at_the_tenth() {
        let mut deaths = Deaths::default();
        let mut waited = Duration::ZERO;
        for n in 1..DEATHS {
            let Next::Again(wait) = deaths.judge(Ended::Signal(11), SHORT) else { panic!("given up at {n}") };
            assert!(wait >= waited && wait <= LONGEST, "{n}: {wait:?}");
            waited = wait;
        }
        assert_eq!(waited, LONGEST);
        assert_eq!(deaths.judge(Ended::Signal(11), SHORT), Next::GiveUp(1));
    }

    #[test]
    fn a_core_that_lived_begins_the_count_anew() {
        let mut deaths = Deaths::default();
        for _ in 2..DEATHS {
            deaths.judge(Ended::Signal(9), SHORT);
        }
        assert_eq!(deaths.judge(Ended::Signal(9), LONG), Next::Again(Duration::ZERO));
        assert_eq!(deaths.quick, 1);
    }

    #[test]
    fn after_a_death_trouble_at_the_start_is_tried_again_and_its_code_is_kept() {
        let mut deaths = Deaths::default();
        deaths.judge(Ended::Signal(9), LONG);
        for _ in 2..DEATHS {
            assert!(matches!(deaths.judge(Ended::Code(2), SHORT), Next::Again(_)));
        }
        assert_eq!(deaths.judge(Ended::Code(2), SHORT), Next::GiveUp(2));
        assert_eq!(deaths.judge(Ended::Code(0), SHORT), Next::Leave(0));
    }
}
