//! A connection to a room's socket, carried over core NATS between two machines: bytes in at one end, the same bytes out at the
//! other, or the end of both.
//!
//! Owns the subjects, the greeting and the frames. Must not know what the bytes mean. Its one surprise: NATS may lose a message
//! and says nothing. A frame names the byte that it begins with, as an empty one does that only says that somebody is there;
//! whoever misses a byte ends the tunnel, and its owner connects again and gets a fresh snapshot.

use std::{collections::VecDeque, time::Duration};

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, interval, timeout},
};

use super::far::BEAT;
use crate::model::{server::Holder, text};

/// Where a screen asks for the room of a server. Only the room that holds the server listens.
pub const HELLO: &str = "podium.screen.hello";

/// After so long without a word the other end is gone.
pub const SILENCE: Duration = Duration::from_secs(10);

/// The most bytes in one frame, well below what a server takes.
const PIECE: usize = 64 * 1024;
/// Bytes that may be on their way. Whoever does not read holds up the other end after so many, as a socket does.
const WINDOW: u64 = 4 * 1024 * 1024;
/// How long what has arrived may take to be read when the other end has gone.
const LAST: Duration = Duration::from_secs(1);

/// The headers of a frame: with which byte it begins.
const AT: &str = "Podium-At";
/// How many bytes of the other direction have been passed on.
const GOT: &str = "Podium-Got";
/// It is the last one; why.
const END: &str = "Podium-End";

/// What a tunnel leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// The room's socket.
    Room,
    /// Whoever reads the files of its stage.
    Files,
}

/// A request for a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// podium's version: both must have the same, as on the socket.
    pub version: String,
    /// The name of the way back, random.
    pub screen: String,
    /// What is wanted.
    pub to: To,
    /// Its machine.
    pub host: String,
    /// Its process there.
    pub pid: u32,
}

/// What any version of podium can read of any other's hello.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// podium's version.
    #[serde(default)]
    pub version: String,
    /// Its machine.
    #[serde(default)]
    pub host: String,
}

impl Caller {
    /// Why it cannot be served, where that is so: one sentence for both sides.
    pub fn refusal(&self, room: &Holder) -> Option<String> {
        let own = env!("CARGO_PKG_VERSION");
        (self.version != own).then(|| {
            let (version, host) = (text::first_line(&self.version, 40), text::first_line(&self.host, 60));
            format!(
                "the room on {} is podium {own}, and the screen on {host} is podium {version}; install the same podium on both",
                room.host
            )
        })
    }
}

/// The answer. `Bye` stays as it is, so that any version understands it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer", content = "it")]
pub enum Welcome {
    /// The way is open.
    Open {
        /// The name of the way there, random.
        way: String,
        /// Whose room it is.
        room: Holder,
    },
    /// It is not; why.
    Bye(String),
}

/// Where a way of this name goes. Names are random: a subject proves no sender.
pub fn subject(name: &str) -> String {
    format!("podium.screen.{name}")
}

/// Whether a message was stored by somebody, and is no word of a room or a screen.
fn is_stored(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get("Nats-Stream").is_some())
}

/// Why a tunnel ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Parted {
    /// The stream at this end was closed.
    #[error("the stream was closed")]
    Here,
    /// The other end said so; why.
    #[error("the other end has closed: {0}")]
    There(String),
    /// Nothing was heard.
    #[error("the other end has said nothing for {} s", SILENCE.as_secs())]
    Silent,
    /// Something was lost on the way.
    #[error("{0} bytes were lost on the way")]
    Lost(i128),
    /// More came than was allowed.
    #[error("the other end sends more than is taken")]
    Flooded,
    /// The connection to the server is gone.
    #[error("the connection to the server is closed")]
    Closed,
}

/// One end of a tunnel.
#[derive(Debug)]
pub struct Lane {
    client: Client,
    /// Where the other end hears us.
    to: String,
    from: Subscriber,
}

/// What is on its way.
#[derive(Debug)]
struct Flow {
    /// Bytes sent, and how many of them were passed on there.
    sent: u64,
    acked: u64,
    /// Bytes received, passed on here, and told to have been.
    received: u64,
    got: u64,
    told: u64,
    /// What has been received and not been passed on.
    waiting: VecDeque<Bytes>,
    heard: Instant,
}

impl Lane {
    /// `from` is subscribed to already, so that the first word is not missed.
    pub fn new(client: Client, to: String, from: Subscriber) -> Self {
        Self { client, to, from }
    }

    /// Carries bytes both ways until one end is closed or lost. The stream is closed afterwards.
    pub async fn carry(mut self, stream: UnixStream) -> Parted {
        let (mut reads, mut writes) = stream.into_split();
        let mut flow =
            Flow { sent: 0, acked: 0, received: 0, got: 0, told: 0, waiting: VecDeque::new(), heard: Instant::now() };
        let mut beat = interval(BEAT);
        // Copied out of here, so that a short piece holds no more than itself.
        let mut piece = vec![0; PIECE];
        let parted = loop {
            tokio::select! {
                message = self.from.next() => match message {
                    None => break Parted::Closed,
                    Some(message) => if let Err(parted) = flow.take(message) {
                        break parted;
                    },
                },
                read = reads.read(&mut piece), if flow.sent - flow.acked < WINDOW => match read {
                    Ok(bytes @ 1..) => {
                        let piece = Bytes::copy_from_slice(piece.get(..bytes).unwrap_or_default());
                        if self.send(&mut flow, piece, None).await.is_err() {
                            break Parted::Closed;
                        }
                    }
                    Ok(0) | Err(_) => break Parted::Here,
                },
                wrote = write_some(&mut writes, &mut flow.waiting), if !flow.waiting.is_empty() => match wrote {
                    Ok(bytes) => {
                        flow.got += bytes;
                        if flow.got - flow.told > WINDOW / 4 && self.send(&mut flow, Bytes::new(), None).await.is_err() {
                            break Parted::Closed;
                        }
                    }
                    Err(_gone) => break Parted::Here,
                },
                _ = beat.tick() => {
                    if flow.heard.elapsed() > SILENCE {
                        break Parted::Silent;
                    }
                    if self.send(&mut flow, Bytes::new(), None).await.is_err() {
                        break Parted::Closed;
                    }
                }
            }
        };
        if !matches!(parted, Parted::There(_) | Parted::Closed) {
            let why = parted.to_string();
            // An end that is not heard is missed all the same.
            let told = async {
                self.send(&mut flow, Bytes::new(), Some(&why)).await.is_ok() && self.client.flush().await.is_ok()
            };
            let _told = timeout(LAST, told).await;
        }
        if matches!(parted, Parted::There(_)) {
            // The last words of a room that leaves.
            let last =
                async { while !flow.waiting.is_empty() && write_some(&mut writes, &mut flow.waiting).await.is_ok() {} };
            let _late = timeout(LAST, last).await;
        }
        parted
    }

    async fn send(&self, flow: &mut Flow, piece: Bytes, end: Option<&str>) -> Result<(), async_nats::PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(AT, flow.sent.to_string());
        headers.insert(GOT, flow.got.to_string());
        if let Some(why) = end {
            headers.insert(END, why);
        }
        flow.sent += piece.len() as u64;
        flow.told = flow.got;
        self.client.publish_with_headers(self.to.clone(), headers, piece).await
    }
}

/// Writes as much as the stream takes now.
async fn write_some(
    writes: &mut tokio::net::unix::OwnedWriteHalf,
    waiting: &mut VecDeque<Bytes>,
) -> std::io::Result<u64> {
    let Some(first) = waiting.front_mut() else { return Ok(0) };
    let bytes = writes.write(first).await?;
    first.advance(bytes);
    if first.is_empty() {
        waiting.pop_front();
    }
    Ok(bytes as u64)
}

impl Flow {
    /// Takes one message. What is no frame is nobody's word and changes nothing.
    fn take(&mut self, message: Message) -> Result<(), Parted> {
        let Some(headers) = message.headers.as_ref().filter(|_| !is_stored(&message)) else { return Ok(()) };
        let number = |name| headers.get(name)?.as_str().parse::<u64>().ok();
        let (Some(at), Some(got)) = (number(AT), number(GOT)) else { return Ok(()) };
        if at != self.received {
            return Err(Parted::Lost(i128::from(at) - i128::from(self.received)));
        }
        if got > self.sent || message.payload.len() as u64 + self.received - self.got > WINDOW + PIECE as u64 {
            return Err(Parted::Flooded);
        }
        self.heard = Instant::now();
        self.acked = self.acked.max(got);
        let end = headers.get(END).map(|why| text::first_line(why.as_str(), 200));
        if !message.payload.is_empty() {
            self.received += message.payload.len() as u64;
            self.waiting.push_back(message.payload);
        }
        end.map_or(Ok(()), |why| Err(Parted::There(why)))
    }
}

/// Reads a hello or its answer; `None` where it is none.
pub fn read<T: serde::de::DeserializeOwned>(message: &Message) -> Option<T> {
    (!is_stored(message) && message.payload.len() <= PIECE).then(|| serde_json::from_slice(&message.payload).ok())?
}
