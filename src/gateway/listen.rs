//! The listeners: connections in, requests on to whoever answers.
//!
//! Owns accepting, the handshake, and how long a connection may take. Must not know what a request means. Its one surprise:
//! whoever calls from another machine and has proven nothing yet takes one of a few places, so that strangers can hold up
//! one another and nobody else; this machine's own listener has no part in it.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{lock, relay::Answer};

/// How long an idle or slow connection of this machine may take to send the head of a request.
const HEAD_WITHIN: Duration = Duration::from_mins(5);
/// The longest head of a request from elsewhere, in bytes.
const FAR_HEAD_AT_MOST: usize = 64 * 1024;
/// Connections from elsewhere that have proven nothing.
const UNPROVEN: usize = 256;
/// Silence after which the other machine is asked whether it is still there.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Without a sign of the other machine for so long, the connection is over.
const GONE_AFTER: Duration = Duration::from_mins(1);

/// How long a connection from elsewhere may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// For its handshake.
    pub handshake: Duration,
    /// For the head of a request, also for the time before the next one.
    pub head: Duration,
}

impl Default for Within {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(10), head: Duration::from_secs(30) }
    }
}

/// Whoever answers requests.
pub(super) trait Serve: Clone + Send + 'static {
    /// Answers one.
    fn serve(
        &self,
        connection: Arc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Answer>> + Send;
}

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    unproven: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Connection {
    /// A request on it came with a good token.
    pub(super) fn proven(&self) {
        drop(lock(&self.unproven).take());
    }
}

/// Serves plain connections until `stop`.
pub(super) async fn plain(listener: TcpListener, answers: impl Serve, tasks: TaskTracker, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    while let Some(socket) = accept(&listener, &stop).await {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "small pieces of streams may be delayed");
        }
        tasks.spawn(converse(http.clone(), socket, Arc::default(), answers.clone(), stop.clone()));
    }
}

/// Serves encrypted connections until `stop`.
pub(super) async fn encrypted(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    within: Within,
    answers: impl Serve,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(within.head).max_buf_size(FAR_HEAD_AT_MOST);
    let (tls, places) = (TlsAcceptor::from(config), Arc::new(Semaphore::new(UNPROVEN)));
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.ok(),
            () = stop.cancelled() => return,
        };
        let Some(socket) = accept(&listener, &stop).await else { return };
        if let Err(error) = tune(&socket) {
            tracing::debug!(%error, "a machine that is gone may be noticed late");
        }
        let connection = Arc::new(Connection { unproven: Mutex::new(place) });
        let (tls, http, answers, stop) = (tls.clone(), http.clone(), answers.clone(), stop.clone());
        tasks.spawn(async move {
            let shaken = tokio::select! {
                shaken = timeout(within.handshake, tls.accept(socket)) => shaken,
                () = stop.cancelled() => return,
            };
            match shaken {
                Ok(Ok(stream)) => converse(http, stream, connection, answers, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "a connection from elsewhere broke off in its handshake"),
                Err(_elapsed) => tracing::debug!("a connection from elsewhere did not finish its handshake"),
            }
        });
    }
}

/// The next connection; nothing once it is over.
async fn accept(listener: &TcpListener, stop: &CancellationToken) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((socket, _)) => return Some(socket),
            Err(error) => {
                // Out of descriptors, or a client gone already: neither ends the listener.
                tracing::warn!(%error, "the gateway could not accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(
    http: http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: Arc<Connection>,
    answers: impl Serve,
    stop: CancellationToken,
) {
    let served = http.serve_connection(
        TokioIo::new(stream),
        service_fn(move |request| {
            let (answers, connection) = (answers.clone(), connection.clone());
            async move { Ok::<_, Infallible>(answers.serve(connection, request).await) }
        }),
    );
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!(%error, "a connection to the gateway ended early");
        },
        () = stop.cancelled() => {}
    }
}

/// Between machines a connection can be half gone: without this nobody would notice for hours.
fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE)?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(socket, u32::try_from(GONE_AFTER.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}
