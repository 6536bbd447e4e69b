//! Where a screen's room is called, and called again when it was lost: on this stage, or over the NATS server on which it acts.
//!
//! Owns the screen's end of the tunnels. Must not know what is said over them. Its one surprise: whoever answers is the room of
//! that server, also where it is another one than before; only its own answer says whose it is.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::connection::State;
use tokio::{net::UnixStream, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    attach::{
        AttachError,
        client::Link,
        far,
        tunnel::{self, Hello, Lane, To, Welcome},
    },
    model::{server::Holder, text},
    queue::nats::{self, NatsQueue, shown},
};

/// How often a lost room is called again.
const CALL: Duration = Duration::from_millis(300);
/// The same over a server, where each call is three requests.
const CALL_FAR: Duration = Duration::from_secs(1);
/// How long an answer to a hello may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a server may take to be reached before a room is opened without having asked it.
const LOOK: Duration = Duration::from_secs(8);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Where a room is called.
#[derive(Debug, Clone)]
pub enum Caller {
    /// On the socket of a stage.
    Here(PathBuf),
    /// Over the server on which it acts.
    There(Server),
}

/// A room that has answered.
#[derive(Debug)]
pub struct Met {
    /// The room.
    pub link: Link,
    /// Whoever reads its files, where they do not lie here.
    pub files: Option<UnixStream>,
    /// Whose it is, where it is not this stage's.
    pub whose: Option<Holder>,
    /// Where it is called again.
    pub caller: Caller,
}

/// Why no room has answered.
#[derive(Debug, thiserror::Error)]
pub enum Missed {
    /// Nobody acts on the server any more.
    #[error("no room acts on the NATS server at {0}; `podium` opens one here")]
    Free(String),
    /// Whoever acts on it says nothing.
    #[error("{0} does not answer")]
    Quiet(Holder),
    /// It is not reached.
    #[error("NATS at {0} is away")]
    Away(String),
    /// The room does not want this screen; why.
    #[error("{0}")]
    Refused(String),
    /// The connection was not kept.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

impl Caller {
    /// How long to wait before a room that was lost is called again.
    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::Here(_) => CALL,
            Self::There(_) => CALL_FAR,
        }
    }

    /// Calls once.
    pub async fn call(self) -> Result<Met, Missed> {
        match &self {
            Self::Here(stage) => {
                let link = Link::connect(stage).await?;
                Ok(Met::here(link, stage))
            }
            Self::There(server) => server.call().await,
        }
    }

    /// Lets the other ends know that this screen has gone.
    pub(super) async fn goodbye(&self) {
        if let Self::There(server) = self {
            server.tunnels.close();
            let _late = timeout(GOODBYE, server.tunnels.wait()).await;
        }
    }
}

impl Met {
    /// The room of a stage on this machine.
    pub fn here(link: Link, stage: &Path) -> Self {
        Self { link, files: None, whose: None, caller: Caller::Here(stage.to_owned()) }
    }
}

/// A server that a room may act on.
#[derive(Debug, Clone)]
pub struct Server {
    queue: NatsQueue,
    address: String,
    tunnels: TaskTracker,
}

impl Server {
    /// The room that acts on a server, where one answers. What keeps a server from being asked keeps nobody from opening a
    /// room, who then says what it is.
    pub async fn room(settings: nats::Settings) -> Result<Option<Met>, Missed> {
        let address = shown(&settings.address.url);
        let queue = match timeout(LOOK, NatsQueue::open(nats::Settings { makes: false, ..settings })).await {
            Ok(Ok(queue)) => queue,
            Ok(Err(unfit)) => {
                tracing::debug!(%unfit, "nobody can be asked for a room");
                return Ok(None);
            }
            Err(_late) => return Ok(None),
        };
        match (Self { queue, address, tunnels: TaskTracker::new() }).call().await {
            Ok(met) => Ok(Some(met)),
            Err(Missed::Free(_) | Missed::Quiet(_) | Missed::Away(_)) => Ok(None),
            Err(refused @ (Missed::Refused(_) | Missed::Attach(_))) => Err(refused),
        }
    }

    async fn call(&self) -> Result<Met, Missed> {
        let (stream, whose) = self.reach(To::Room).await?;
        let link = Link::over(stream).await?;
        let (files, _) = self.reach(To::Files).await?;
        Ok(Met { link, files: Some(files), whose: Some(whose), caller: Caller::There(self.clone()) })
    }

    /// A stream through a tunnel of its own, which ends with it.
    async fn reach(&self, to: To) -> Result<(UnixStream, Holder), Missed> {
        let away = || Missed::Away(self.address.clone());
        let client = self.queue.client();
        if client.connection_state() != State::Connected {
            return Err(away());
        }
        let screen = far::name().map_err(|error| Missed::Refused(format!("no random name: {error}")))?;
        let told = client.subscribe(tunnel::subject(&screen)).await.map_err(|_closed| away())?;
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            screen,
            to,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
        };
        let Ok(Ok(answer)) = timeout(ANSWER, client.request(tunnel::HELLO, far::write(&hello))).await else {
            return Err(self.nobody().await);
        };
        match tunnel::read::<Welcome>(&answer) {
            Some(Welcome::Open { way, room }) if far::is_name(&way) => {
                let pair = UnixStream::pair();
                let (ours, theirs) = pair.map_err(|error| Missed::Refused(format!("no pair of sockets: {error}")))?;
                let lane = Lane::new(client.clone(), tunnel::subject(&way), told);
                self.tunnels.spawn(async move {
                    let parted = lane.carry(theirs).await;
                    tracing::debug!(%parted, "a tunnel ended");
                });
                // It is shown as it is.
                let clean = |words: &str| text::first_line(words, 400);
                Ok((ours, Holder { host: clean(&room.host), stage: clean(&room.stage), ..room }))
            }
            Some(Welcome::Bye(why)) => Err(Missed::Refused(text::first_line(&why, 400))),
            Some(Welcome::Open { .. }) | None => Err(Missed::Refused("a room's answer could not be read".to_owned())),
        }
    }

    /// Why nobody has answered.
    async fn nobody(&self) -> Missed {
        match self.queue.owner().await {
            Ok((Some(holder), _)) => Missed::Quiet(holder),
            Ok((None, _)) => Missed::Free(self.address.clone()),
            Err(_) => Missed::Away(self.address.clone()),
        }
    }
}
