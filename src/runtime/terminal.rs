//! A pseudo-terminal with an agent's own CLI behind it.
//!
//! Owns the process, from its start to the last of its descendants. Must not know what is drawn. Its one surprise: what is
//! typed is written by a task of its own, because a program that does not read must not stop the screen.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use pty_process::{OwnedReadPty, Size};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
};

use crate::engines::{
    tree::{COOKIE, Grace, Tree},
    visit,
};

/// The most that is taken in before keys are looked at again.
const PART: usize = 16 * 1024;
/// How long what a CLI has left behind may take to be gone.
const SWEEP: Duration = Duration::from_secs(2);

/// Tells the CLIs of one screen apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// An agent's own home, and the CLI that may be opened there.
#[derive(Debug, Clone)]
pub struct Home {
    /// The program, or why there is none.
    pub program: Result<PathBuf, String>,
    /// Where its configuration lies.
    pub folder: PathBuf,
}

/// What is heard from behind the terminal.
#[derive(Debug)]
pub(super) enum Word {
    Printed(Vec<u8>),
    /// It has ended; what is to be said of it, where it did not end well.
    Ended(Option<String>),
}

/// A CLI that runs.
pub(super) struct Terminal {
    child: Child,
    tree: Tree,
    name: String,
    output: OwnedReadPty,
    typed: mpsc::UnboundedSender<Typed>,
    writing: JoinSet<()>,
}

enum Typed {
    Bytes(Vec<u8>),
    Size(Size),
}

impl Terminal {
    /// Starts the CLI in its home, on a terminal of this many columns and rows.
    pub(super) fn open(home: Home, (columns, rows): (u16, u16)) -> anyhow::Result<Self> {
        let program = home.program.map_err(anyhow::Error::msg)?;
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let (pty, pts) = pty_process::open().context("could not open a pseudo-terminal")?;
        pty.resize(Size::new(rows.max(1), columns.max(1))).context("could not size the pseudo-terminal")?;
        let mut command = visit::command(&program, &home.folder, |name| std::env::var_os(name))
            .map_err(|ending| anyhow::anyhow!(ending.sentence()))?;
        let cookie = format!("screen-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        command.env(COOKIE, &cookie);
        let command = pty_process::Command::from(Command::from(command)).kill_on_drop(true);
        let child = command.spawn(pts).with_context(|| format!("could not start {}", program.display()))?;
        let tree = Tree::new(child.id().unwrap_or_default(), &cookie, false);
        let (output, mut input) = pty.into_split();
        let (typed, mut to_type) = mpsc::unbounded_channel();
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            while let Some(typed) = to_type.recv().await {
                let done = match typed {
                    Typed::Bytes(bytes) => input.write_all(&bytes).await.is_ok(),
                    Typed::Size(size) => input.resize(size).is_ok(),
                };
                if !done {
                    return;
                }
            }
        });
        Ok(Self { child, tree, name, output, typed, writing })
    }

    /// The next word. Safe to drop half-way.
    pub(super) async fn next(&mut self) -> Word {
        let mut part = vec![0; PART];
        tokio::select! {
            biased;
            // The end of a closed terminal arrives as an error on Linux.
            Ok(len @ 1..) = self.output.read(&mut part) => {
                part.truncate(len);
                Word::Printed(part)
            }
            status = self.child.wait() => Word::Ended(match status {
                Ok(status) if status.success() => None,
                Ok(status) => Some(format!("{} ended with {status}", self.name)),
                Err(error) => Some(format!("could not wait for {}: {error}", self.name)),
            }),
        }
    }

    /// Types this, as soon as it is read.
    pub(super) fn put(&self, bytes: Vec<u8>) {
        // A CLI that has gone is heard of by `next`.
        let _gone = self.typed.send(Typed::Bytes(bytes));
    }

    /// The terminal has this many columns and rows now.
    pub(super) fn resize(&self, (columns, rows): (u16, u16)) {
        let _gone = self.typed.send(Typed::Size(Size::new(rows.max(1), columns.max(1))));
    }

    /// Ends the CLI and whatever it has started; the numbers of those that would not go.
    pub(super) async fn end(mut self) -> Result<(), Vec<i32>> {
        // With the terminal gone a well-mannered program leaves by itself.
        self.writing.shutdown().await;
        drop(self.output);
        if let Err(error) = self.tree.end_leader(&mut self.child, Grace::short()).await {
            tracing::warn!(%error, "an agent's own CLI could not be ended");
        }
        self.tree.sweep(SWEEP).await
    }
}
