//! A program of the operator's that is told when something waits for a person: one start per notice, JSON on its input.
//!
//! Owns the one that runs. Its one surprise: it never holds anything up. It has ten seconds, what it prints is nobody's,
//! and what is due while it runs is told when it has ended.

use std::{process::Stdio, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command, task::JoinSet};

use crate::{
    model::Quiet,
    room::{
        State,
        attention::{Herald, Notice},
    },
};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it gets of the room's environment: where it is and how a desktop is reached, and no key.
const PASSED: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "TMPDIR",
];

/// Whom to tell, and when not.
#[derive(Debug, Clone, Default)]
pub struct Hook {
    /// The program and its arguments; empty for none.
    pub command: Vec<String>,
    /// When nobody is called.
    pub quiet: Option<Quiet>,
}

/// The room's herald.
#[derive(Debug)]
pub(super) struct Heralds {
    hook: Hook,
    zone: TimeZone,
    herald: Herald,
    running: JoinSet<()>,
}

impl Heralds {
    pub(super) fn new(hook: Hook) -> Self {
        Self { hook, zone: TimeZone::system(), herald: Herald::default(), running: JoinSet::new() }
    }

    /// Looks whether somebody must be told, and tells them.
    pub(super) fn look(&mut self, state: &State, now: Timestamp) {
        if self.hook.command.is_empty() {
            return;
        }
        while self.running.try_join_next().is_some() {}
        self.herald.look(&state.needs_you(), now);
        if !self.running.is_empty() {
            return;
        }
        if let Some(notice) = self.herald.due(state, now, self.hook.quiet, &self.zone) {
            let said = said(state, now, &notice);
            self.running.spawn(tell(self.hook.command.clone(), said));
        }
    }
}

fn said(state: &State, now: Timestamp, notice: &Notice) -> Vec<u8> {
    let mut said = json!({ "event": "needs_you", "at": now, "name": state.name, "stage": state.stage });
    if let (Some(said), Ok(serde_json::Value::Object(notice))) = (said.as_object_mut(), serde_json::to_value(notice)) {
        said.extend(notice);
    }
    format!("{said}\n").into_bytes()
}

async fn tell(command: Vec<String>, said: Vec<u8>) {
    let Some((program, args)) = command.split_first() else { return };
    let passed = PASSED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let started = Command::new(program)
        .args(args)
        .env_clear()
        .envs(passed)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return tracing::warn!(%error, program, "the attention hook could not be started"),
    };
    let input = child.stdin.take();
    let run = async {
        if let Some(mut input) = input {
            // One that does not read it says so by how it ends.
            let _unread = input.write_all(&said).await;
        }
        child.wait().await
    };
    match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(%status, program, "the attention hook failed"),
        Ok(Err(error)) => tracing::warn!(%error, program, "the attention hook is lost"),
        Err(_late) => tracing::warn!(program, "the attention hook took too long and was ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_program_that_does_not_end_is_ended_when_its_time_is_over() {
        // Nobody else sleeps for so long.
        let command = ["sleep", "98765.4321"].map(str::to_owned).to_vec();
        let runs = || {
            let table = crate::engines::tree::table();
            let words = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            table.iter().any(|process| !process.zombie && words(process.pid) == b"sleep\098765.4321\0")
        };
        let before = tokio::time::Instant::now();
        tell(command, b"{}\n".to_vec()).await;
        assert!(before.elapsed() >= PATIENCE);
        let mut looks = 0;
        while runs() {
            looks += 1;
            assert!(looks < 10_000, "it still runs");
            tokio::task::yield_now().await;
        }
    }
}
