//! The relay through which every model call of every process goes: on loopback, and encrypted from other machines.
//!
//! Owns the listener, the callers' tokens, the real keys, admission and metering. Must not know rooms, screens or
//! engines: what happened leaves as a [`Notice`]. Bodies pass byte for byte and are never stored. Its one surprise: a
//! call's row is written when its *last owner* is dropped, so a client that walks away, a stream that breaks and a
//! gateway that stops each leave one row and hold no bucket. Install a rustls crypto provider before starting.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::header::HeaderValue;
use jiff::{civil::Date, tz::TimeZone};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpListener, sync::Notify, time::sleep};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    ledger::Prices,
    limiter::{Estimator, Limit, Limiter},
    model::{
        AgentName, AttemptRef, Clock, GoalId, MicroUsd, SlotId, TaskRef,
        budget::{Caps, Payer, Reached},
        gateway::{Call, Caller, Levels},
        limit::{LimitNews, OwnLimit},
    },
};

mod accounts;
mod budget;
mod cert;
mod elsewhere;
mod forward;
mod headers;
mod invite;
mod listen;
mod record;
mod refusal;
mod relay;
mod tap;
mod token;

use accounts::Accounts;
use budget::Book;
pub use cert::Pin;
use elsewhere::{Elsewhere, Running};
pub use forward::{Closed, Forward};
pub use invite::{Invitation, Invitations, Invited, check_address};
pub use listen::Within;
use relay::Here;
use token::Tokens;
pub use token::{Identity, TokenHash, token_hash};

/// The shortest time between two notices of levels.
const LEVELS_EVERY: Duration = Duration::from_millis(200);
/// The time between two notices while buckets only refill.
const REFILL_EVERY: Duration = Duration::from_secs(1);
/// Silence after which upstream counts as gone. The engines give up after as long.
const SILENCE: Duration = Duration::from_mins(5);

/// The real keys, by caller.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// For everyone without a key of their own.
    pub default: Option<SecretString>,
    /// Agents with a key of their own.
    pub agents: BTreeMap<AgentName, SecretString>,
    /// The orchestrator's own.
    pub orchestrator: Option<SecretString>,
}

/// What a gateway is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; a loopback address, port 0 for any.
    pub listen: SocketAddr,
    /// Base URL of the Messages API.
    pub upstream: String,
    /// The real keys.
    pub keys: Keys,
    /// Starting limits by model group (`opus`, `sonnet`, …); the server's headers correct them.
    pub limits: BTreeMap<String, Limit>,
    /// How long a call may wait for its buckets before it is refused with 429.
    pub hold: Duration,
    /// What may be spent where a task or goal has no cap of its own.
    pub caps: Caps,
    /// What this day has cost before.
    pub spent_today: MicroUsd,
    /// Where workers on other machines call, if they may.
    pub elsewhere: Option<Remote>,
}

/// The listener for workers on other machines.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where it listens; always encrypted.
    pub listen: SocketAddr,
    /// The certificate, and whose calls it takes.
    pub invitations: Invitations,
    /// How long connections may take.
    pub within: Within,
}

impl Settings {
    /// The hold that fits the engines: longer would look like a hang.
    pub const HOLD: Duration = Duration::from_secs(45);
}

/// Why the gateway could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Asked to listen where others could reach it.
    #[error("listen on {0}: the gateway serves this machine only, use 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// The address is not free.
    #[error("listen on {addr}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The base URL is none.
    #[error("use {url:?} as the upstream URL: {why}")]
    Upstream {
        /// As configured.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// A key with characters that no header can carry.
    #[error("use the API key of {0}: it holds characters that no key has")]
    Key(String),
    /// The HTTP client did not start.
    #[error("start the HTTP client")]
    Client(#[source] reqwest::Error),
    /// The system gave no random numbers.
    #[error("get random numbers for a token: {0}")]
    Random(getrandom::Error),
    /// The certificate for other machines cannot be read or made.
    #[error("use the gateway's certificate {path}: {why}")]
    Certificate {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Not a certificate's fingerprint.
    #[error("read a certificate's fingerprint: sha256: and 64 hex digits are expected")]
    Pin,
    /// Encryption did not come about.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// The folder of invitations.
    #[error("use the invitations in {path}")]
    Invitations {
        /// Where they lie.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An invitation that cannot be used.
    #[error("use the invitation {path}: {why}")]
    Invitation {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Not a token's hash.
    #[error("read a token's hash: 64 hex digits are expected")]
    TokenHash,
}

/// What the gateway has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A call ended; the ledger's row.
    Call(Box<Call>),
    /// Levels changed; at most five a second, none at rest.
    Levels(Levels),
    /// A call met a limit; told for every such call.
    Limited(LimitNews),
    /// An account that was closed is open again: by the operator, or because a call of it was answered well.
    Opened {
        /// Its label.
        account: String,
    },
    /// A call was refused because of a budget.
    Budget(Reached),
}

/// What a session's calls are made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// A worker's attempt.
    Attempt(AttemptRef),
    /// The orchestrator's work on a goal.
    Goal(GoalId),
}

/// What the worker in a slot works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// Which task.
    pub task: TaskRef,
    /// The goal it serves.
    pub goal: Option<GoalId>,
    /// Which attempt, once it has begun.
    pub attempt: Option<u32>,
}

/// Who pays, as the room knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Whose.
    pub payer: Payer,
    /// What it has cost before.
    pub spent: MicroUsd,
    /// A cap of its own; nothing = without.
    pub cap: Option<MicroUsd>,
}

/// A key ready for use, and the name of its buckets.
#[derive(Debug, Clone)]
struct Credential {
    /// Empty for the default key.
    label: String,
    key: HeaderValue,
}

#[derive(Debug, Default)]
struct Credentials {
    default: Option<Credential>,
    agents: BTreeMap<AgentName, Credential>,
    orchestrator: Option<Credential>,
}

impl Credentials {
    fn new(keys: &Keys) -> Result<Self, GatewayError> {
        let mut known: Vec<Credential> = Vec::new();
        // Equal keys share their buckets, whoever holds them: the server counts them together.
        let mut take = |label: &str, who: &str, key: &SecretString| {
            let bad = || GatewayError::Key(who.to_owned());
            let mut key = HeaderValue::from_str(key.expose_secret().trim()).ok().filter(|k| !k.is_empty());
            let key = key.as_mut().ok_or_else(bad)?;
            key.set_sensitive(true);
            if let Some(same) = known.iter().find(|other| other.key == *key) {
                return Ok(same.clone());
            }
            let made = Credential { label: label.to_owned(), key: key.clone() };
            known.push(made.clone());
            Ok(made)
        };
        let default = keys.default.as_ref().map(|key| take("", "everyone", key)).transpose()?;
        let orchestrator =
            keys.orchestrator.as_ref().map(|key| take("orchestrator", "the orchestrator", key)).transpose()?;
        let mut agents = BTreeMap::new();
        for (agent, key) in &keys.agents {
            agents.insert(agent.clone(), take(agent.as_str(), agent.as_str(), key)?);
        }
        Ok(Self { default, agents, orchestrator })
    }

    fn of(&self, identity: &Identity) -> Option<&Credential> {
        let own = match identity {
            Identity::Worker(slot) => self.agents.get(&slot.agent),
            Identity::Elsewhere { agent, .. } => self.agents.get(agent),
            Identity::Orchestrator => self.orchestrator.as_ref(),
        };
        own.or(self.default.as_ref())
    }
}

/// Who hears what happens.
struct Listener(Box<dyn Fn(Notice) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    /// Base URL without a slash at its end.
    upstream: String,
    client: reqwest::Client,
    credentials: Credentials,
    tokens: Mutex<Tokens>,
    purposes: Mutex<HashMap<String, Purpose>>,
    duties: Mutex<HashMap<SlotId, Duty>>,
    running: Running,
    book: Arc<Book>,
    estimator: Mutex<Estimator>,
    limiter: Limiter,
    accounts: Mutex<Accounts>,
    /// Some account was closed.
    closed: Notify,
    /// How long a call may wait for a budget.
    patience: Duration,
    prices: Prices,
    clock: Clock,
    notices: Listener,
}

/// A lock whose holder panicked still holds whole data: every change here is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Who a call is booked on. A session is believed only if it belongs to the caller.
    fn caller(&self, identity: &Identity, session: Option<&str>) -> Caller {
        let purpose = session.and_then(|session| lock(&self.purposes).get(session).cloned());
        match (identity, purpose) {
            (Identity::Worker(slot), Some(Purpose::Attempt(attempt))) if attempt.task.agent == slot.agent => {
                Caller::Worker { agent: slot.agent.clone(), attempt: Some(attempt) }
            }
            (Identity::Worker(slot), _) => {
                // Not every engine names its session; a worker runs one attempt at a time.
                let duty = lock(&self.duties).get(slot).cloned();
                let attempt = duty.and_then(|duty| Some(duty.task.attempt(duty.attempt?)));
                Caller::Worker { agent: slot.agent.clone(), attempt }
            }
            (Identity::Elsewhere { agent, duty }, _) => {
                let attempt = duty.as_ref().and_then(|duty| Some(duty.task.attempt(duty.attempt?)));
                Caller::Worker { agent: agent.clone(), attempt }
            }
            (Identity::Orchestrator, Some(Purpose::Goal(goal))) => Caller::Orchestrator { goal: Some(goal) },
            (Identity::Orchestrator, _) => Caller::Orchestrator { goal: None },
        }
    }

    fn levels(&self) -> Levels {
        Levels { accounts: lock(&self.accounts).all(self.clock.now()), ..self.limiter.levels() }
    }

    /// Lets nobody of this account pass before the end of what it met.
    fn close(&self, news: &mut LimitNews) {
        lock(&self.accounts).close(news);
        self.closed.notify_waiters();
        self.limiter.stirred();
    }

    /// The task and goal that a worker's call is for, also before its attempt has a number.
    fn duty(&self, identity: &Identity, caller: &Caller) -> Option<Duty> {
        let slot = match identity {
            Identity::Worker(slot) => slot,
            Identity::Elsewhere { duty, .. } => return duty.clone(),
            Identity::Orchestrator => return None,
        };
        let duties = lock(&self.duties);
        match caller {
            Caller::Worker { attempt: Some(attempt), .. } => {
                let known = duties.values().find(|duty| duty.task == attempt.task);
                let goal = known.and_then(|duty| duty.goal.clone());
                Some(Duty { task: attempt.task.clone(), goal, attempt: Some(attempt.n) })
            }
            Caller::Worker { attempt: None, .. } => duties.get(slot).cloned(),
            Caller::Orchestrator { .. } => None,
        }
    }

    /// Whose money a call is.
    fn payers(&self, identity: &Identity, caller: &Caller) -> Vec<Payer> {
        let (task, goal) = match caller {
            Caller::Orchestrator { goal } => (None, goal.clone()),
            Caller::Worker { .. } => match self.duty(identity, caller) {
                Some(duty) => (Some(duty.task), duty.goal),
                None => (None, None),
            },
        };
        task.map(Payer::Task).into_iter().chain(goal.map(Payer::Goal)).chain([Payer::Day]).collect()
    }

    fn today(&self) -> Date {
        self.clock.now().to_zoned(TimeZone::UTC).date()
    }

    fn tell(&self, notice: Notice) {
        (self.notices.0)(notice);
    }
}

/// A running gateway. Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    addr: SocketAddr,
    elsewhere: Option<SocketAddr>,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Gateway {
    /// Starts listening. `notices` hears what happens until the gateway has stopped and its last call has ended: of a call
    /// that is refused, before its caller does.
    pub async fn start(
        settings: Settings,
        prices: Prices,
        clock: Clock,
        notices: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, GatewayError> {
        if !settings.listen.ip().is_loopback() {
            return Err(GatewayError::NotLoopback(settings.listen));
        }
        let upstream = |why: &str| GatewayError::Upstream { url: settings.upstream.clone(), why: why.to_owned() };
        let url = Url::parse(&settings.upstream).map_err(|e| upstream(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(upstream("it must begin with https:// or http://"));
        }
        let host = url.host_str().unwrap_or_default();
        if url.scheme() == "http" && !is_here(host) {
            tracing::warn!(%url, "the upstream is reached without encryption, keys included");
        }
        let credentials = Credentials::new(&settings.keys)?;
        let (listener, addr) = bind(settings.listen).await?;
        let far = match settings.elsewhere {
            Some(Remote { listen, invitations, within }) => {
                Some((invitations.certificate()?.server, bind(listen).await?, within, invitations))
            }
            None => None,
        };
        let today = clock.now().to_zoned(TimeZone::UTC).date();
        let shared = Arc::new(Shared {
            upstream: settings.upstream.trim_end_matches('/').to_owned(),
            client: client(host).build().map_err(GatewayError::Client)?,
            credentials,
            tokens: Mutex::default(),
            purposes: Mutex::default(),
            duties: Mutex::default(),
            running: Running::default(),
            book: Arc::new(Book::new(settings.caps, today, settings.spent_today)),
            estimator: Mutex::default(),
            limiter: Limiter::new(settings.limits, settings.hold, clock.clone()),
            accounts: Mutex::default(),
            closed: Notify::new(),
            patience: settings.hold,
            prices,
            clock,
            notices: Listener(Box::new(notices)),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(listen::plain(listener, Here(shared.clone()), tasks.clone(), stop.clone()));
        let mut elsewhere = None;
        if let Some((config, (listener, addr), within, invitations)) = far {
            elsewhere = Some(addr);
            let answers = Elsewhere::new(shared.clone(), invitations);
            tasks.spawn(listen::encrypted(listener, config, within, answers, tasks.clone(), stop.clone()));
        }
        tasks.spawn(watch(shared.clone(), stop.clone()));
        tasks.close();
        Ok(Self { shared, addr, elsewhere, tasks, stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens for other machines, if it does.
    pub fn elsewhere(&self) -> Option<SocketAddr> {
        self.elsewhere
    }

    /// The base URL for engines.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Makes a token for a caller; earlier ones of the same caller end.
    pub fn issue_token(&self, identity: Identity) -> Result<SecretString, GatewayError> {
        lock(&self.shared.tokens).issue(identity)
    }

    /// Accepts a token that another run of the room has issued, by its hash.
    pub fn adopt_token(&self, hash: TokenHash, identity: Identity) {
        lock(&self.shared.tokens).adopt(hash, identity);
    }

    /// Ends a caller's tokens. Calls in flight end by themselves.
    pub fn revoke(&self, identity: &Identity) {
        lock(&self.shared.tokens).revoke(identity);
    }

    /// Whether there is a real key for this caller.
    pub fn has_key(&self, identity: &Identity) -> bool {
        self.shared.credentials.of(identity).is_some()
    }

    /// Books the calls of an engine's session on an attempt or a goal, also those that run already. Kept until
    /// [`Gateway::forget`].
    pub fn attribute(&self, session_id: impl Into<String>, purpose: Purpose) {
        lock(&self.shared.purposes).insert(session_id.into(), purpose);
    }

    /// Forgets a session that has ended.
    pub fn forget(&self, session_id: &str) {
        lock(&self.shared.purposes).remove(session_id);
    }

    /// Books the calls of a slot's worker on a task, and says who pays for it.
    pub fn assign(&self, slot: SlotId, duty: Duty, payers: Vec<Opening>) {
        for Opening { payer, spent, cap } in payers {
            self.shared.book.open(payer, spent, cap);
        }
        let task = duty.task.clone();
        let former = lock(&self.shared.duties).insert(slot, duty);
        if let Some(former) = former.filter(|former| former.task != task) {
            self.shared.book.close(&Payer::Task(former.task));
        }
    }

    /// The attempt of a slot's worker has begun.
    pub fn begun(&self, slot: &SlotId, attempt: &AttemptRef) {
        if let Some(duty) = lock(&self.shared.duties).get_mut(slot).filter(|duty| duty.task == attempt.task) {
            duty.attempt = Some(attempt.n);
        }
    }

    /// An attempt has begun, wherever: calls from elsewhere that name it are let in, and this is who pays for them.
    pub fn runs(&self, duty: Duty, payers: Vec<Opening>) {
        for Opening { payer, spent, cap } in payers {
            self.shared.book.open(payer, spent, cap);
        }
        self.shared.running.begin(duty);
    }

    /// Nothing runs of this task any more.
    pub fn rests(&self, task: &TaskRef) {
        let of_a_slot = lock(&self.shared.duties).values().any(|duty| duty.task == *task);
        if self.shared.running.end(task) && !of_a_slot {
            self.shared.book.close(&Payer::Task(task.clone()));
        }
    }

    /// Says what somebody who pays has spent before, and their cap; what is counted already stays.
    pub fn open(&self, opening: Opening) {
        let Opening { payer, spent, cap } = opening;
        self.shared.book.open(payer, spent, cap);
    }

    /// What may still be spent for a goal: of its own budget and of the day's; nothing = without.
    pub fn left(&self, goal: &GoalId) -> Option<MicroUsd> {
        let (book, today) = (&self.shared.book, self.shared.today());
        [Payer::Goal(goal.clone()), Payer::Day].iter().filter_map(|payer| book.left(payer, today)).min()
    }

    /// Books what an orchestrator says that it has used whose calls do not pass here.
    pub fn book(&self, call: Call) {
        let payers: Vec<Payer> = call.goal().cloned().map(Payer::Goal).into_iter().chain([Payer::Day]).collect();
        self.shared.book.spent(&payers, call.cost, self.shared.today());
        self.shared.tell(Notice::Call(Box::new(call)));
    }

    /// Says why the ledger takes no rows, or that it does: without it no call passes that has a cap.
    pub fn unwritable(&self, why: Option<String>) {
        self.shared.book.unwritable(why);
    }

    /// The clock was set: the day's budget goes on under the new date.
    pub fn clock_set(&self) {
        self.shared.book.call_it(self.shared.today());
    }

    /// The account whose key is put on this caller's calls: its label, empty for the usual one.
    pub fn account(&self, identity: &Identity) -> Option<&str> {
        self.shared.credentials.of(identity).map(|credential| credential.label.as_str())
    }

    /// Opens an account that a limit has closed, before the limit's end: the next call asks the server again.
    pub fn release(&self, account: &str) {
        if lock(&self.shared.accounts).open(account) {
            self.shared.tell(Notice::Opened { account: account.to_owned() });
            self.shared.limiter.stirred();
        }
    }

    /// Takes over what an operator has set for a model group.
    pub fn limit(&self, group: &str, own: OwnLimit) {
        self.shared.limiter.set(group, own);
    }

    /// All buckets and accounts as of now.
    pub fn levels(&self) -> Levels {
        self.shared.levels()
    }

    /// Stops listening, breaks off calls in flight (each still gets its row) and waits until all is quiet.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.wait().await;
    }
}

async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let fail = |source| GatewayError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    Ok((listener, addr))
}

/// Whether a host's name is this machine's own loopback.
fn is_here(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// How calls go out: once, to where they are sent, and not for longer than the engines wait.
fn client(host: &str) -> reqwest::ClientBuilder {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(SILENCE);
    // A proxy of the environment cannot know what is on our loopback.
    if is_here(host) { client.no_proxy() } else { client }
}

/// Tells levels when they change: soon after something happened, slowly while buckets refill, not at rest.
async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut last = Levels::default();
    loop {
        let at_rest = shared.limiter.is_at_rest();
        tokio::select! {
            () = shared.limiter.changed() => {}
            () = sleep(REFILL_EVERY), if !at_rest => {}
            () = stop.cancelled() => return,
        }
        let levels = shared.levels();
        // All but the time.
        last.at = levels.at;
        if levels != last {
            last = levels.clone();
            shared.tell(Notice::Levels(levels));
        }
        tokio::select! {
            () = sleep(LEVELS_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
