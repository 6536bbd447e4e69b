//! What the verbs ask of the rest of the house: a connection to the room, and the three roles.
//!
//! Owns nothing: each function hands over. A connection keeps a replica of the room's state by the same `update`.

use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use crate::{
    attach::{self, AttachError, wire},
    config::{Config, Env},
    model::{AgentName, Clock, EngineKind},
    room::{Answer, Order, State},
};

/// The goal that a rehearsal starts with.
pub const SAMPLE_GOAL: &str = "Evaluate Saturday's beginner hip-hop class, fix the sign-up API that takes double \
    bookings, and announce recital week";

/// A client's connection to the room of a stage.
#[derive(Debug)]
pub struct Link {
    stream: Framed<UnixStream, LinesCodec>,
    path: std::path::PathBuf,
    state: State,
    ticket: u64,
}

impl Link {
    /// Connects and takes the snapshot.
    pub async fn connect(stage: &Path) -> Result<Self, AttachError> {
        let path = attach::socket_path(stage);
        let socket = UnixStream::connect(&path).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => AttachError::NoRoom,
            _ => AttachError::Io { path: path.clone(), source },
        })?;
        let stream = Framed::new(socket, LinesCodec::new_with_max_length(wire::LONGEST_LINE));
        let mut link = Self { stream, path, state: State::default(), ticket: 0 };
        link.send(&wire::Hello::Screen { version: env!("CARGO_PKG_VERSION").to_owned() }).await?;
        loop {
            match link.hear().await? {
                wire::Tell::Snapshot(snapshot) => {
                    link.state = *snapshot;
                    link.state.rebuild();
                    return Ok(link);
                }
                wire::Tell::Bye(why) => return Err(AttachError::Unreadable(why)),
                wire::Tell::Event(_) | wire::Tell::Answer(..) => {}
            }
        }
    }

    /// The room as it is known here.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Orders something and waits for the answer; events that come first are applied.
    pub async fn order(&mut self, order: Order) -> Result<Answer, AttachError> {
        self.ticket += 1;
        let ticket = self.ticket;
        self.send(&wire::Ask { ticket, order }).await?;
        loop {
            match self.hear().await? {
                wire::Tell::Answer(known, answer) if known == ticket => return Ok(answer),
                other => self.apply(other)?,
            }
        }
    }

    /// Waits for the next change and applies it.
    pub async fn next(&mut self) -> Result<(), AttachError> {
        let tell = self.hear().await?;
        self.apply(tell)
    }

    fn apply(&mut self, tell: wire::Tell) -> Result<(), AttachError> {
        match tell {
            wire::Tell::Snapshot(state) => {
                self.state = *state;
                self.state.rebuild();
            }
            // Effects are the room's business; a replica drops them.
            wire::Tell::Event(event) => drop(self.state.update(*event)),
            wire::Tell::Answer(..) => {}
            wire::Tell::Bye(_) => return Err(AttachError::Closed),
        }
        Ok(())
    }

    async fn send(&mut self, message: &impl serde::Serialize) -> Result<(), AttachError> {
        let line = serde_json::to_string(message).map_err(|e| AttachError::Unreadable(e.to_string()))?;
        self.stream.send(line).await.map_err(|e| self.broken(e))
    }

    async fn hear(&mut self) -> Result<wire::Tell, AttachError> {
        match self.stream.next().await {
            None => Err(AttachError::Closed),
            Some(Err(error)) => Err(self.broken(error)),
            Some(Ok(line)) => serde_json::from_str(&line).map_err(|e| AttachError::Unreadable(e.to_string())),
        }
    }

    fn broken(&self, error: LinesCodecError) -> AttachError {
        match error {
            LinesCodecError::MaxLineLengthExceeded => AttachError::Unreadable("a line over the limit".to_owned()),
            LinesCodecError::Io(source) => match source.kind() {
                std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => AttachError::Closed,
                _ => AttachError::Io { path: self.path.clone(), source },
            },
        }
    }
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "the program's one look at the wall clock outside the room")]
pub fn clock() -> Clock {
    Clock::new(jiff::Timestamp::now)
}

/// How the screen is opened.
#[derive(Debug, Clone, Default)]
pub struct ScreenOptions {
    /// Draw with ASCII only.
    pub ascii: bool,
    /// Text that waits in the composer.
    pub composed: Option<String>,
}

/// Runs the room in the foreground until it is stopped.
pub fn serve(_config: Config, _env: Env) -> anyhow::Result<u8> {
    anyhow::bail!("this build has no room yet")
}

/// Runs the screen on a room that is up.
pub fn screen(_config: Config, _env: Env, _options: ScreenOptions) -> anyhow::Result<u8> {
    anyhow::bail!("this build has no screen yet")
}

/// Runs one worker until it is told to leave.
pub fn worker(
    _config: Config,
    _env: Env,
    _agent: AgentName,
    _slot: u32,
    _engine: Option<EngineKind>,
) -> anyhow::Result<u8> {
    anyhow::bail!("this build has no worker yet")
}
