//! An attempt's end: what still runs is ended and seen gone, the rest is read, and all of it is judged.
//!
//! Owns the order in which cause, result and exit are believed. Must not know the queue. Its one surprise: a result that
//! is in counts, whatever ended the process after it.

use std::{os::unix::process::ExitStatusExt as _, pin::pin, process::ExitStatus, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Farewell, Settings, artifacts,
    tail::end_of,
    watch::{Cause, Running, allowed},
};
use crate::{
    engines::{
        Exit, Finding, exec,
        tree::{Grace, Tree},
    },
    model::{Artifact, Ending, TaskSpec, limit::Windows},
};

/// Bytes of standard error that are looked at.
const STDERR_LIMIT: u64 = 16 * 1024;

/// How long what the engine started may take to end after it.
const AFTERWARDS: Duration = Duration::from_millis(250);

/// How often the logs are looked at while a child is being ended.
const CAP_PACE: Duration = Duration::from_millis(20);

/// No time to end by itself.
const AT_ONCE: Grace = Grace { interrupt: Duration::ZERO, terminate: Duration::ZERO, sweep: Duration::ZERO };

/// What an attempt came to, before the queue hears of it.
pub(super) struct Judged {
    pub(super) finding: Finding,
    pub(super) ending: Ending,
    pub(super) artifacts: Vec<Artifact>,
    /// What a person should know besides.
    pub(super) notes: Vec<String>,
    /// Why the worker must go, where it must.
    pub(super) farewell: Option<Farewell>,
    /// What the subscription allows, by the stream's last word, and whether the room has not heard it yet.
    pub(super) windows: Option<Windows>,
    pub(super) windows_untold: bool,
}

impl Judged {
    /// For an attempt that never ran.
    pub(super) fn only(ending: Ending) -> Self {
        let finding = Finding::plain(ending.clone(), String::new());
        Self {
            finding,
            ending,
            artifacts: Vec::new(),
            notes: Vec::new(),
            farewell: None,
            windows: None,
            windows_untold: false,
        }
    }
}

impl Running {
    /// Ends what still runs, sees it gone, reads the rest, and judges.
    pub(super) async fn end(mut self, settings: &Settings, spec: &TaskSpec, cause: Cause) -> Judged {
        let grace = match cause {
            Cause::Stopped | Cause::Quit(_) | Cause::Orphaned | Cause::Gone(_) => Grace::short(),
            _ => settings.grace,
        };
        // Of an engine that ended by itself mostly nothing is left, and then there is nobody to look for.
        let alone = matches!(cause, Cause::Exited(_)) && self.tree.is_gone();
        let (exit, held) = match &cause {
            Cause::Exited(status) if alone => (exit_of(*status), 0),
            Cause::Exited(status) => (exit_of(*status), outlived(&self.tree).await),
            _ => (self.end_leader(grace).await, 0),
        };
        let left = if alone { Ok(()) } else { self.tree.sweep(settings.grace.sweep).await };
        self.feeding.abort_all();
        // Nobody writes any more: what is over the cap goes before the rest is read.
        let _flood = self.cap();
        let reader = &mut self.reader;
        while self.tail.read(settings.clock.now(), |bytes| reader.feed(bytes)).unwrap_or(0) > 0 {}
        let newest = self.reader.take_windows().pop();
        let windows_untold = newest.is_some() && newest != self.windows;
        let windows = newest.or(self.windows);
        let farewell = match cause {
            Cause::Stopped | Cause::Quit(_) => Some(Farewell::Stopped),
            Cause::Orphaned => Some(Farewell::Orphaned),
            _ => None,
        };
        let stays = matches!(
            cause,
            Cause::Settled
                | Cause::Deadline
                | Cause::Expired(_)
                | Cause::Ended(_)
                | Cause::Stalled(_)
                | Cause::Stopped
                | Cause::Quit(_)
                | Cause::Orphaned
                | Cause::Gone(_)
        );
        // Its result was in: that counts, whatever ended the process.
        let exit = if self.reader.settled() && stays { Exit::Settled } else { exit };
        let stderr = end_of(&self.err, STDERR_LIMIT);
        let finding = self.reader.finding(exit, &stderr);
        let mut notes = Vec::new();
        if exit == Exit::Settled {
            notes.push("it stayed after its result and was ended".to_owned());
        }
        if held > 0 {
            notes.push(format!("it left {held} processes running, which were ended"));
        }
        let ending = match left {
            // What a person ended stays ended.
            Err(pids) if matches!(cause, Cause::Cancelled) => {
                tracing::error!(attempt = %self.attempt, ?pids, "processes could not be ended");
                Ending::Cancelled
            }
            Err(pids) => Ending::Lost { message: format!("processes {pids:?} could not be ended") },
            Ok(()) => judge(cause, exit, held, &finding, &stderr, settings, spec),
        };
        let (workspace, stage, since) = (settings.agent.workspace.clone(), settings.stage.clone(), self.since);
        let artifacts = tokio::task::spawn_blocking(move || artifacts::left(&workspace, &stage, since)).await;
        Judged { finding, ending, artifacts: artifacts.unwrap_or_default(), notes, farewell, windows, windows_untold }
    }

    /// Ends the engine, its logs kept within their caps meanwhile: it may print on for all of the grace.
    async fn end_leader(&mut self, grace: Grace) -> Exit {
        let Self { tree, child, logs, .. } = self;
        {
            let mut ended = pin!(tree.end_leader(child, grace));
            while logs.iter_mut().all(|log| log.keep().is_ok()) {
                tokio::select! {
                    status = &mut ended => return status.map_or(Exit::Signal(9), exit_of),
                    () = sleep(CAP_PACE) => {}
                }
            }
        }
        tree.end_leader(child, AT_ONCE).await.map_or(Exit::Signal(9), exit_of)
    }
}

/// How many processes still run a moment after the engine has ended by itself.
async fn outlived(tree: &Tree) -> u32 {
    let end = Instant::now() + AFTERWARDS;
    loop {
        let alive = tree.alive().len();
        if alive == 0 || Instant::now() >= end {
            return u32::try_from(alive).unwrap_or(u32::MAX);
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Which ending it is, by why watching ended, then by what the engine said.
fn judge(
    cause: Cause,
    exit: Exit,
    held: u32,
    finding: &Finding,
    stderr: &str,
    settings: &Settings,
    spec: &TaskSpec,
) -> Ending {
    match cause {
        Cause::Cancelled => Ending::Cancelled,
        Cause::Hopeless(ending) => ending,
        Cause::Unknown(error) => Ending::Lost { message: format!("the child's end is unknown: {error}") },
        Cause::Flood(bytes) => Ending::Overflow { message: format!("it printed {} MB", bytes / 1_000_000) },
        _ if exit == Exit::Settled => finding.ending.clone(),
        Cause::Ended(ending) => ending,
        Cause::Deadline => {
            let seconds = allowed(settings, spec).as_secs();
            // Only the last step of the ladder sends this.
            if exit == Exit::Signal(9) { Ending::Killed { seconds } } else { Ending::Deadline { seconds } }
        }
        Cause::Expired(message) => Ending::Expired { message },
        Cause::Stalled(silence) => Ending::Stalled { seconds: silence.as_secs() },
        Cause::Stopped => Ending::Stopped,
        Cause::Quit(message) | Cause::Gone(message) => Ending::Lost { message },
        Cause::Orphaned => Ending::RoomLost { seconds: settings.orphan_grace.as_secs() },
        Cause::Exited(_) | Cause::Settled => match (exit, &finding.ending) {
            (_, Ending::EmptyAnswer | Ending::NoResult { .. }) if held > 0 => Ending::Held { left: held },
            (Exit::Code(code), ending) => {
                exec::refusal(code, stderr).map_or_else(|| ending.clone(), |message| Ending::NeverStarted { message })
            }
            (Exit::Signal(_) | Exit::Settled, ending) => ending.clone(),
        },
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}
