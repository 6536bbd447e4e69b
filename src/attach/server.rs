//! The room's end of its socket: accepts, reads hellos, carries lines both ways.
//!
//! It keeps no state of the room. A connection that does not read fast enough is closed: its owner connects again and
//! gets a fresh snapshot, so a stopped screen never holds the room's memory.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::{
    codec::{Framed, LinesCodec},
    sync::CancellationToken,
    task::TaskTracker,
};

use super::{
    AttachError, socket_path,
    wire::{Ask, Hello, LONGEST_LINE, WorkerSays},
};
use crate::{model::SlotId, room::Order};

/// Lines that may wait for a connection that does not read.
const BACKLOG: usize = 8_192;

/// Names a connection for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a connection brought.
#[derive(Debug)]
pub enum Said {
    /// A screen or a client is there; lines for it go into the outlet.
    Screen(ConnectionId, Outlet),
    /// It ordered something.
    Ordered(ConnectionId, u64, Order),
    /// A worker is there.
    Worker(ConnectionId, Box<WorkerHello>, Outlet),
    /// It reported.
    Reported(ConnectionId, Box<WorkerSays>),
    /// The connection is gone.
    Gone(ConnectionId),
}

/// A worker's hello, as the room takes it.
#[derive(Debug)]
pub struct WorkerHello {
    /// Which slot it serves.
    pub slot: SlotId,
    /// Its process id, as the kernel says where it can.
    pub pid: u32,
    /// The gateway token a former room gave it.
    pub token: Option<String>,
    /// What it is running.
    pub running: Option<crate::model::AttemptRef>,
    /// Nobody is there to work.
    pub absent: bool,
}

/// Where lines for one connection go.
#[derive(Debug, Clone)]
pub struct Outlet(mpsc::Sender<Arc<str>>);

impl Outlet {
    /// Hands over one line; false when the connection is gone or too far behind, and should be forgotten.
    pub fn send(&self, line: Arc<str>) -> bool {
        self.0.try_send(line).is_ok()
    }
}

/// The listening socket. Dropping it removes the file and closes every connection.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// The file was made by us and is ours to remove.
    owned: bool,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Server {
    /// Listens on the stage's socket. Only the holder of the room's lock may call this: it replaces what is there. What
    /// is said goes where everything else of the room's does, so that no task stands between.
    pub fn bind<T: From<Said> + Send + 'static>(
        stage: &Path,
        said: mpsc::UnboundedSender<T>,
    ) -> Result<Self, AttachError> {
        let path = socket_path(stage);
        let fail = |source: io::Error| AttachError::Io { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(fail)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(fail)?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(fail)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(fail)?;
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        tracker.spawn(accept(listener, said, stop.clone(), tracker.clone()));
        Ok(Self { path, owned: true, stop, tracker })
    }

    /// Stops listening and leaves the file to the room that has taken the stage.
    pub fn abandon(mut self) {
        self.owned = false;
    }

    /// Stops listening and waits until every connection has written what it had.
    pub async fn close(self) {
        self.stop.cancel();
        self.tracker.close();
        // A peer that does not read must not keep the room.
        let _late = tokio::time::timeout(Duration::from_secs(1), self.tracker.wait()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.owned {
            // Nobody can be told: the next room removes what is left.
            let _gone = fs::remove_file(&self.path);
        }
    }
}

async fn accept<T: From<Said> + Send + 'static>(
    listener: UnixListener,
    said: mpsc::UnboundedSender<T>,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let mut count = 0;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                count += 1;
                tracker.spawn(serve(ConnectionId(count), stream, said.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of descriptors: wait for some to come back instead of spinning.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve<T: From<Said> + Send>(
    id: ConnectionId,
    stream: UnixStream,
    said: mpsc::UnboundedSender<T>,
    stop: CancellationToken,
) {
    let peer = stream.peer_cred().ok().and_then(|c| c.pid()).and_then(|p| u32::try_from(p).ok());
    let mut wire = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST_LINE));
    let hello = tokio::select! {
        () = stop.cancelled() => return,
        line = tokio::time::timeout(Duration::from_secs(5), wire.next()) => match line {
            Ok(Some(Ok(line))) => line,
            Ok(_) | Err(_) => return,
        },
    };
    let (outlet, mut lines) = mpsc::channel::<Arc<str>>(BACKLOG);
    let worker = match serde_json::from_str::<Hello>(&hello) {
        Ok(Hello::Screen { .. }) => {
            if said.send(Said::Screen(id, Outlet(outlet)).into()).is_err() {
                return;
            }
            false
        }
        Ok(Hello::Worker { slot, pid, token, running, absent, .. }) => {
            let hello = WorkerHello { slot, pid: peer.unwrap_or(pid), token, running, absent };
            if said.send(Said::Worker(id, Box::new(hello), Outlet(outlet)).into()).is_err() {
                return;
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "a connection began with something else than a hello");
            return;
        }
    };
    loop {
        tokio::select! {
            biased;
            line = lines.recv() => match line {
                Some(line) => {
                    if wire.feed(&*line).await.is_err() {
                        break;
                    }
                    // Everything pending goes out in one write.
                    let mut broken = false;
                    while let Ok(line) = lines.try_recv() {
                        broken |= wire.feed(&*line).await.is_err();
                    }
                    if broken || SinkExt::<&str>::flush(&mut wire).await.is_err() {
                        break;
                    }
                }
                None => break,
            },
            heard = wire.next() => match heard {
                Some(Ok(line)) => {
                    let word = if worker {
                        serde_json::from_str(&line).map(|report| Said::Reported(id, report))
                    } else {
                        serde_json::from_str::<Ask>(&line).map(|ask| Said::Ordered(id, ask.ticket, ask.order))
                    };
                    match word {
                        Ok(word) => {
                            if said.send(word.into()).is_err() {
                                return;
                            }
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a connection said something unreadable");
                            break;
                        }
                    }
                }
                Some(Err(_)) | None => break,
            },
            () = stop.cancelled() => {
                while let Ok(line) = lines.try_recv() {
                    if wire.feed(&*line).await.is_err() {
                        return;
                    }
                }
                let _closed = SinkExt::<&str>::flush(&mut wire).await;
                return;
            }
        }
    }
    // The room may be gone already; then nobody needs to know.
    let _room_gone = said.send(Said::Gone(id).into());
}
