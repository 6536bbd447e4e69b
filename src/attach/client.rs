//! The asking end of a connection: a replica of the room, and orders with their answers.

use std::{collections::HashMap, path::Path, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{net::UnixStream, time::Instant};
use tokio_util::codec::{Framed, LinesCodec};

use super::{
    AttachError, socket_path,
    wire::{Ask, Hello, LONGEST_LINE, Tell},
};
use crate::room::{Answer, Order, State};

/// A connection of a screen or a client, with its replica of the room's state.
#[derive(Debug)]
pub struct Link {
    wire: Framed<UnixStream, LinesCodec>,
    state: State,
    tickets: u64,
    /// Answers that came while another one was awaited.
    answers: HashMap<u64, Answer>,
    /// When the room was last heard.
    heard: Instant,
    /// Whether silence is an error.
    strict: bool,
}

/// How long a room may say nothing, not even that it is there, before a verb gives up on it.
pub const SILENCE: Duration = Duration::from_secs(15);

/// What the room said.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The replica has changed.
    Changed,
    /// A worker elsewhere was heard of again; nothing else has changed.
    Sign,
    /// The room is there; nothing has changed.
    Beat,
    /// An order was answered.
    Answered(u64, Answer),
}

impl Link {
    /// Connects to the room of the stage and waits for the snapshot.
    pub async fn connect(stage: &Path) -> Result<Self, AttachError> {
        Self::read(dial(stage, &hello()).await?).await.map_err(|error| match error {
            AttachError::Silent { .. } => AttachError::Silent { pid: super::room_pid(stage) },
            other => other,
        })
    }

    /// The same over a connection that is there already.
    pub async fn over(stream: UnixStream) -> Result<Self, AttachError> {
        Self::read(greet(stream, &hello()).await?).await
    }

    /// Waits for the snapshot.
    async fn read(wire: Framed<UnixStream, LinesCodec>) -> Result<Self, AttachError> {
        let mut link = Self {
            wire,
            state: State::default(),
            tickets: 0,
            answers: HashMap::new(),
            heard: Instant::now(),
            strict: true,
        };
        match link.hear().await? {
            Tell::Snapshot(snapshot) => link.state = *snapshot,
            Tell::Bye(why) => return Err(AttachError::Unreadable(why)),
            Tell::Tasks(_) | Tell::Whole | Tell::Event(_) | Tell::Answer(..) | Tell::Beat => {
                return Err(AttachError::Unreadable("no snapshot came first".to_owned()));
            }
        }
        if link.state.version != env!("CARGO_PKG_VERSION") {
            return Err(AttachError::Version { room: link.state.version, own: env!("CARGO_PKG_VERSION").to_owned() });
        }
        loop {
            match link.hear().await? {
                Tell::Tasks(piece) => link.state.add(piece),
                Tell::Whole => break,
                Tell::Beat => {}
                Tell::Bye(why) => return Err(AttachError::Unreadable(why)),
                Tell::Snapshot(_) | Tell::Event(_) | Tell::Answer(..) => {
                    return Err(AttachError::Unreadable("the snapshot is cut short".to_owned()));
                }
            }
        }
        link.state.rebuild();
        Ok(link)
    }

    /// The replica.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Sends an order and gives the ticket that its answer will carry.
    pub async fn send(&mut self, order: Order) -> Result<u64, AttachError> {
        self.tickets += 1;
        let ask = Ask { ticket: self.tickets, order };
        self.wire.send(encode(&ask)?).await.map_err(|_closed| AttachError::Closed)?;
        Ok(self.tickets)
    }

    /// Sends an order and waits for its answer; the replica is kept up meanwhile.
    pub async fn order(&mut self, order: Order) -> Result<Answer, AttachError> {
        let ticket = self.send(order).await?;
        loop {
            if let Some(answer) = self.answers.remove(&ticket) {
                return Ok(answer);
            }
            match self.next().await? {
                News::Answered(of, answer) if of == ticket => return Ok(answer),
                News::Answered(of, answer) => drop(self.answers.insert(of, answer)),
                News::Changed | News::Sign | News::Beat => {}
            }
        }
    }

    /// Waits for ever from now on; [`Link::silent_for`] says how long the room has said nothing.
    pub fn be_patient(&mut self) {
        self.strict = false;
    }

    /// How long the room has said nothing.
    pub fn silent_for(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Waits for the next word of the room and applies it to the replica.
    pub async fn next(&mut self) -> Result<News, AttachError> {
        match self.hear().await? {
            Tell::Event(stamped) => {
                // A replica drops the effects: only the room acts.
                let is_sign = stamped.event.is_sign();
                drop(self.state.update(*stamped));
                Ok(if is_sign { News::Sign } else { News::Changed })
            }
            Tell::Answer(ticket, answer) => Ok(News::Answered(ticket, answer)),
            Tell::Beat => Ok(News::Beat),
            Tell::Bye(_) => Err(AttachError::Closed),
            Tell::Snapshot(_) | Tell::Tasks(_) | Tell::Whole => {
                Err(AttachError::Unreadable("a second snapshot came".to_owned()))
            }
        }
    }

    async fn hear(&mut self) -> Result<Tell, AttachError> {
        let line = if self.strict {
            let heard = tokio::time::timeout_at(self.heard + SILENCE, self.wire.next()).await;
            let pid = (self.state.pid > 0).then_some(self.state.pid);
            heard.map_err(|_late| AttachError::Silent { pid })?
        } else {
            self.wire.next().await
        };
        self.heard = Instant::now();
        match line {
            None => Err(AttachError::Closed),
            Some(Err(error)) => Err(AttachError::Unreadable(error.to_string())),
            Some(Ok(line)) => serde_json::from_str(&line).map_err(|error| {
                // The last line of a room that left while it wrote.
                if error.is_eof() { AttachError::Closed } else { AttachError::Unreadable(error.to_string()) }
            }),
        }
    }
}

/// Opens the socket of a stage and says hello.
pub async fn dial(stage: &Path, hello: &Hello) -> Result<Framed<UnixStream, LinesCodec>, AttachError> {
    let path = socket_path(stage);
    let dialled = tokio::time::timeout(Duration::from_secs(5), UnixStream::connect(&path)).await;
    let stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => AttachError::NoRoom,
                _ => AttachError::Io { path, source: error },
            });
        }
        Err(_elapsed) => return Err(AttachError::Silent { pid: super::room_pid(stage) }),
    };
    greet(stream, hello).await
}

/// What a screen or a client says first.
fn hello() -> Hello {
    Hello::Screen { version: env!("CARGO_PKG_VERSION").to_owned() }
}

async fn greet(stream: UnixStream, hello: &Hello) -> Result<Framed<UnixStream, LinesCodec>, AttachError> {
    let mut wire = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST_LINE));
    wire.send(encode(hello)?).await.map_err(|_closed| AttachError::Closed)?;
    Ok(wire)
}

/// One message as its line.
pub fn encode(message: &impl serde::Serialize) -> Result<String, AttachError> {
    serde_json::to_string(message).map_err(|error| AttachError::Unreadable(error.to_string()))
}
