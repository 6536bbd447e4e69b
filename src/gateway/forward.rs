//! The worker's own relay on another machine: plain on its loopback, pinned TLS to the room's gateway.
//!
//! Owns the way there and what a caller hears when it is closed. Must not admit, meter or book: the room does. Its one
//! surprise: the room is told with every call which attempt it is for, because it cannot see whose process calls here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hyper::{Request, Response, StatusCode, body::Incoming, header::HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    GatewayError,
    cert::pinned,
    client, headers,
    invite::Invitation,
    listen::{self, Connection, Serve, Within},
    lock,
    refusal::{Refusal, unreachable},
    relay::{self, Answer},
    token::{self, TokenHash},
};
use crate::model::AttemptRef;

/// Why the room's gateway cannot be used from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// Somebody else answers there, or the room has a new certificate.
    #[error("what answers at {0} shows another certificate than the invitation says; ask for a new invitation")]
    Strange(String),
    /// The invitation was taken back, or belongs to another room.
    #[error("the room at {0} does not know this invitation (any more); ask for a new one")]
    Unknown(String),
    /// Nobody answers.
    #[error("the room's gateway at {address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// As the system says.
        why: String,
    },
}

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct Forward {
    way: Arc<Way>,
    addr: SocketAddr,
    token: SecretString,
    _stop: DropGuard,
}

/// The way to the room.
#[derive(Debug)]
struct Way {
    address: String,
    client: reqwest::Client,
    /// The last certificate seen was another than the pinned one.
    strange: Arc<AtomicBool>,
    /// Opens the room's gateway.
    key: HeaderValue,
    /// Opens this relay.
    hash: TokenHash,
    /// What is worked on here.
    attempt: Mutex<Option<AttemptRef>>,
}

impl Forward {
    /// Starts a relay on a free loopback port.
    pub async fn start(invitation: &Invitation) -> Result<Self, GatewayError> {
        let address = invitation.address.clone();
        let mut key = HeaderValue::from_str(invitation.token.expose_secret())
            .map_err(|_unfit| GatewayError::Key(format!("the invitation to {address}")))?;
        key.set_sensitive(true);
        let strange = Arc::new(AtomicBool::new(false));
        let tls = pinned(invitation.pin, strange.clone()).map_err(GatewayError::Tls)?;
        let host = address.rsplit_once(':').map_or("", |(host, _)| host);
        // Shorter than the room keeps an idle connection.
        let client = client(host)
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .http1_only()
            .pool_idle_timeout(Within::default().head / 2)
            .tcp_keepalive(listen::KEEP_ALIVE)
            .build()
            .map_err(GatewayError::Client)?;
        let token = format!("podium-{}", token::random()?);
        let hash = TokenHash::of(token.as_bytes());
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let fail = |source| GatewayError::Listen { addr: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let addr = listener.local_addr().map_err(fail)?;
        let way = Arc::new(Way { address, client, strange, key, hash, attempt: Mutex::default() });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(listen::plain(listener, Near(way.clone()), tasks.clone(), stop.clone()));
        tasks.close();
        Ok(Self { way, addr, token: token.into(), _stop: stop.drop_guard() })
    }

    /// The base URL for engines.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What engines present.
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// From now on calls are for this attempt.
    pub fn begin(&self, attempt: &AttemptRef) {
        *lock(&self.way.attempt) = Some(attempt.clone());
    }

    /// Asks the room whether calls would be let in.
    pub async fn knock(&self) -> Result<(), Closed> {
        let address = || self.way.address.clone();
        let url = format!("https://{}/api/hello", self.way.address);
        let sent = self.way.client.head(url).header(headers::API_KEY, self.way.key.clone()).send().await;
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(_refused) => Err(Closed::Unknown(address())),
            Err(error) => Err(self.way.closed(&error)),
        }
    }
}

impl Way {
    fn closed(&self, error: &reqwest::Error) -> Closed {
        let address = self.address.clone();
        if error.is_connect() && self.strange.load(Ordering::Relaxed) {
            return Closed::Strange(address);
        }
        // Its own text repeats the address.
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Closed::Unreachable { address, why: cause.to_string() }
    }
}

#[derive(Clone)]
struct Near(Arc<Way>);

impl Serve for Near {
    async fn serve(&self, _connection: Arc<Connection>, request: Request<Incoming>) -> Response<Answer> {
        let way = &self.0;
        if let Some(refused) = relay::foreign(request.headers()) {
            return refused.answer();
        }
        if relay::is_greeting(&request) {
            return relay::greeted();
        }
        if headers::token(request.headers()).is_none_or(|token| TokenHash::of(token) != way.hash) {
            return relay::unknown(request.uri().path());
        }
        let (mut head, body) = request.into_parts();
        let body = match relay::read(body).await {
            Ok(body) => body,
            Err(refused) => return refused.answer(),
        };
        head.headers.remove(headers::ATTEMPT);
        if let Some(attempt) = &*lock(&way.attempt)
            && let Ok(attempt) = HeaderValue::from_str(&attempt.to_string())
        {
            head.headers.insert(headers::ATTEMPT, attempt);
        }
        let upstream = format!("https://{}", way.address);
        match relay::onward(&way.client, &upstream, head, body, way.key.clone()).await {
            Ok(response) => relay::hand_through(response, None),
            Err(error) => match way.closed(&error) {
                // Asking again would meet the same.
                strange @ Closed::Strange(_) => {
                    tracing::error!(%strange, "no model call leaves this machine");
                    Refusal::new(StatusCode::BAD_GATEWAY, "api_error", strange.to_string()).answer()
                }
                Closed::Unknown(_) | Closed::Unreachable { .. } => unreachable(&error, "the room's gateway").answer(),
            },
        }
    }
}
