//! The connection, and the buckets as they must be.
//!
//! Owns how a server is reached and when it is refused. Its one surprise: the answer to making a bucket is compared with what
//! was asked for, because old servers leave out what they do not know and say that all is well.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr,
    jetstream::{
        self, Context, ErrorCode,
        context::{CreateStreamErrorKind, GetStreamErrorKind},
        object_store::ObjectStore,
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
    },
};

use super::{bucket::Bucket, names};
use crate::model::AgentName;

/// The oldest server that keeps what it acknowledged: Raft logs are synced too, and no stream is lost by a kill.
pub const OLDEST: (u64, u64, u64) = (2, 10, 27);

/// How long a connection may take to be made.
const DIAL: Duration = Duration::from_secs(5);
/// How long one request may take; whoever asked asks again.
const ANSWER: Duration = Duration::from_secs(3);
/// The first wait before a lost connection is made again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often a silent connection is tried.
const PING: Duration = Duration::from_secs(10);

/// How a server is reached.
#[derive(Debug, Clone, Default)]
pub struct Address {
    /// `nats://host:4222`, several with commas; `tls://` where the connection must be encrypted.
    pub url: String,
    /// A `.creds` file.
    pub credentials: Option<PathBuf>,
    /// Certificates of authorities to trust beside the usual ones.
    pub ca: Option<PathBuf>,
    /// Addresses of the servers' monitoring, `http://host:8222`, for the check that they sync.
    pub monitor: Vec<String>,
    /// Copies of everything; `None` = three where the server has two neighbours, else one.
    pub replicas: Option<usize>,
}

/// Why an engine is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The address cannot be read.
    #[error("{0} is no address of a NATS server; write nats://host:4222")]
    Url(String),
    /// A file that was named cannot be read.
    #[error("{0}")]
    File(String),
    /// It does not take the credentials.
    #[error("the NATS server at {0} refuses these credentials")]
    Credentials(String),
    /// Nobody is there.
    #[error("the NATS server at {0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// It forgets.
    #[error(
        "the NATS server at {0} is {1}, which can lose tasks that it has acknowledged (before 2.10.27 a crash loses streams, \
         and 2.9 cannot sync what it writes); install nats-server 2.10.27 or later, for example Debian 13's"
    )]
    Old(String, String),
    /// It keeps nothing.
    #[error(
        "the NATS server at {0} keeps nothing: JetStream is not enabled (jetstream {{ store_dir: …, sync_interval: always }})"
    )]
    Forgetful(String),
    /// The room has not made it yet.
    #[error("{0} is not on the NATS server; open the room once, which makes it")]
    Missing(String),
    /// It is not as it must be.
    #[error("{0} on the NATS server has {1}, and must have {2}; delete it where it is empty, or use another account")]
    Different(String, String, String),
    /// It could not be made.
    #[error("{0} could not be made on the NATS server: {1}")]
    Unmade(String, String),
}

/// An address without what is secret in it.
pub fn shown(url: &str) -> String {
    let one = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.rsplit_once('@').map_or(rest, |(_, host)| host).trim_end_matches('/').to_owned()
    };
    url.split(',').map(|url| one(url.trim())).collect::<Vec<_>>().join(", ")
}

/// Tells the log what happens to a connection: that it was lost and is there again, and not that it was made.
fn tell() -> impl Fn(Event) -> std::future::Ready<()> + Send + Sync + 'static {
    let lost = AtomicBool::new(false);
    move |event| {
        match event {
            Event::Disconnected => {
                lost.store(true, Ordering::Relaxed);
                tracing::warn!("the connection to the NATS server was lost");
            }
            Event::Connected if lost.swap(false, Ordering::Relaxed) => {
                tracing::info!("the connection to the NATS server is there again");
            }
            Event::Connected | Event::Draining | Event::Closed => {
                tracing::debug!(%event, "the connection to the NATS server");
            }
            // It is tried again and again.
            Event::ClientError(_) if lost.load(Ordering::Relaxed) => {
                tracing::debug!(%event, "the connection to the NATS server");
            }
            Event::LameDuckMode | Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(%event, "the connection to the NATS server");
            }
        }
        std::future::ready(())
    }
}

/// Connects, and refuses a server that forgets. `who` names the connection and its inboxes: `room`, or an agent.
pub async fn connect(address: &Address, who: &str) -> Result<Client, Unfit> {
    let at = shown(&address.url);
    let parsed: Result<Vec<ServerAddr>, _> =
        address.url.split(',').map(|url| url.trim().parse::<ServerAddr>()).collect();
    let servers = parsed.map_err(|_wrong| Unfit::Url(at.clone()))?;
    let mut options = ConnectOptions::new()
        .name(format!("podium {} {who}", env!("CARGO_PKG_VERSION")))
        .custom_inbox_prefix(format!("_INBOX.{who}"))
        .connection_timeout(DIAL)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING)
        .reconnect_delay_callback(|tries| FIRST_WAIT.saturating_mul(1 << tries.min(5)).min(LONGEST_WAIT))
        .event_callback(tell());
    // The client does not look there by itself.
    if let Some(named) = servers.iter().find(|server| server.has_user_pass()) {
        let name = named.username().unwrap_or_default().to_owned();
        options = match named.password() {
            Some(password) => options.user_and_password(name, password.to_owned()),
            None => options.token(name),
        };
    }
    if let Some(path) = &address.credentials {
        options = options
            .credentials_file(path)
            .await
            .map_err(|error| Unfit::File(format!("could not read the credentials {}: {error}", path.display())))?;
    }
    if let Some(path) = &address.ca {
        if let Err(error) = std::fs::metadata(path) {
            return Err(Unfit::File(format!("could not read the certificates {}: {error}", path.display())));
        }
        options = options.add_root_certificates(path.clone());
    }
    let client = options.connect(servers).await.map_err(|error| match error.kind() {
        ConnectErrorKind::ServerParse => Unfit::Url(at.clone()),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Unfit::Credentials(at.clone()),
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => Unfit::Unreachable(at.clone(), super::bucket::cause(&error)),
    })?;
    let info = client.server_info();
    if version(&info.version) < Some(OLDEST) {
        return Err(Unfit::Old(at, info.version));
    }
    if !info.jetstream {
        return Err(Unfit::Forgetful(at));
    }
    Ok(client)
}

/// A version as numbers; what follows a dash does not count.
pub(super) fn version(text: &str) -> Option<(u64, u64, u64)> {
    let plain = text.split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The API as everything here uses it.
pub(super) fn context(client: Client) -> Context {
    let mut context = jetstream::new(client);
    context.set_timeout(ANSWER);
    context
}

/// How many copies there are to be.
pub(super) fn replicas(address: &Address, client: &Client) -> usize {
    let neighbours = client.server_info().connect_urls.len();
    address.replicas.unwrap_or(if neighbours >= 3 { 3 } else { 1 })
}

/// All buckets.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    pub(super) tasks: Bucket,
    pub(super) specs: Bucket,
    pub(super) results: Bucket,
    pub(super) leases: Bucket,
    /// How long a lease lasts without a beat, as the server has it.
    pub(super) lease: Duration,
}

/// What is made where it is missing: copies, and how long a lease lasts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    pub(super) replicas: usize,
    pub(super) lease: Duration,
}

/// Finds the buckets, and makes them where `making` says so.
pub(super) async fn buckets(context: &Context, making: Option<Making>) -> Result<Buckets, Unfit> {
    let open = async |name: &str, max_age: fn(Making) -> Duration| {
        let wanted = making.map(|making| key_value(name, making.replicas, max_age(making)));
        let stream = stream(context, &format!("KV_{name}"), wanted).await?;
        Ok::<_, Unfit>(Bucket::new(name.to_owned(), context.clone(), stream))
    };
    let keeps = |_: Making| Duration::ZERO;
    let leases = open(names::LEASES, |making| making.lease).await?;
    let lease = leases.stream.cached_info().config.max_age;
    if lease < Duration::from_secs(1) {
        let wanted = "keys that go away by themselves (max_age 30s)".to_owned();
        return Err(Unfit::Different(names::LEASES.to_owned(), "keys that stay".to_owned(), wanted));
    }
    Ok(Buckets {
        tasks: open(names::TASKS, keeps).await?,
        specs: open(names::SPECS, keeps).await?,
        results: open(names::RESULTS, keeps).await?,
        leases,
        lease,
    })
}

/// The object store of an agent, made where `replicas` says how.
pub(super) async fn files(context: &Context, agent: &AgentName, replicas: Option<usize>) -> Result<ObjectStore, Unfit> {
    let bucket = names::files(agent);
    let wanted = replicas.map(|num_replicas| Config {
        name: format!("OBJ_{bucket}"),
        description: Some(format!("podium: logs and files of {agent}")),
        subjects: vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
        discard: DiscardPolicy::New,
        allow_rollup: true,
        allow_direct: true,
        num_replicas,
        ..Config::default()
    });
    stream(context, &format!("OBJ_{bucket}"), wanted).await?;
    let store = context.get_object_store(&bucket).await;
    // It was there a moment ago.
    store.map_err(|error| Unfit::Unreachable(bucket, super::bucket::cause(&error)))
}

fn key_value(bucket: &str, num_replicas: usize, max_age: Duration) -> Config {
    Config {
        name: format!("KV_{bucket}"),
        description: Some("podium: see docs/queue-nats.md".to_owned()),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        // One message with a roll-up of all would empty the bucket, from whoever may write a key.
        allow_rollup: false,
        deny_delete: true,
        num_replicas,
        max_age,
        // No longer than what it tells apart is kept.
        duplicate_window: if max_age.is_zero() { Duration::ZERO } else { max_age.min(Duration::from_mins(2)) },
        ..Config::default()
    }
}

/// Finds a stream, or makes it, and sees that it is as it must be.
async fn stream(context: &Context, name: &str, wanted: Option<Config>) -> Result<Stream, Unfit> {
    let found = match context.get_stream(name).await {
        Ok(stream) => stream,
        Err(error) => match (error.kind(), wanted.clone()) {
            (GetStreamErrorKind::JetStream(told), wanted) if told.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                let Some(wanted) = wanted else { return Err(Unfit::Missing(name.to_owned())) };
                context.create_stream(wanted).await.map_err(|error| {
                    let name = name.to_owned();
                    match error.kind() {
                        CreateStreamErrorKind::JetStream(told) => Unfit::Unmade(name, told.to_string()),
                        // It went away at this very moment.
                        gone @ (CreateStreamErrorKind::TimedOut
                        | CreateStreamErrorKind::Response
                        | CreateStreamErrorKind::JetStreamUnavailable) => Unfit::Unreachable(name, gone.to_string()),
                        other => Unfit::Unmade(name, other.to_string()),
                    }
                })?
            }
            (GetStreamErrorKind::JetStream(told), _) => return Err(Unfit::Unmade(name.to_owned(), told.to_string())),
            (other, _) => {
                let why = format!("{other}: {}", super::bucket::cause(&error));
                return Err(Unfit::Unreachable(name.to_owned(), why));
            }
        },
    };
    match difference(name, &found.cached_info().config, wanted.as_ref()) {
        Some(different) => Err(different),
        None => Ok(found),
    }
}

/// What is not as it must be. Limits that an operator set are no difference: a full bucket refuses, and loses nothing.
pub(super) fn difference(name: &str, found: &Config, wanted: Option<&Config>) -> Option<Unfit> {
    let different = |has: String, must: &str| Some(Unfit::Different(name.to_owned(), has, must.to_owned()));
    let is_bucket = name.starts_with("KV_");
    if found.storage != StorageType::File {
        return different(format!("storage {:?}", found.storage), "File");
    }
    if found.retention != RetentionPolicy::Limits {
        return different(format!("retention {:?}", found.retention), "Limits");
    }
    if found.discard != DiscardPolicy::New {
        return different("discard Old, which throws away what is old when it is full".into(), "discard New");
    }
    if found.no_ack {
        return different("no_ack".into(), "acknowledgements");
    }
    if found.mirror.is_some() || found.sources.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return different("another stream as its source".into(), "writers alone");
    }
    if found.subject_transform.is_some() {
        return different("a subject_transform".into(), "its subjects as they are");
    }
    if found.sealed {
        return different("been sealed".into(), "room for more");
    }
    if is_bucket && found.allow_rollup {
        return different("roll-ups, with which whoever may write one key can take all away".into(), "none");
    }
    if is_bucket && found.max_messages_per_subject != 1 {
        return different(format!("{} values per key", found.max_messages_per_subject), "1");
    }
    if !found.max_age.is_zero() && found.name != format!("KV_{}", names::LEASES) {
        return different(format!("max_age {:?}, which forgets", found.max_age), "none");
    }
    let wanted = wanted?;
    if found.subjects != wanted.subjects {
        return different(format!("subjects {:?}", found.subjects), &format!("{:?}", wanted.subjects));
    }
    if found.num_replicas < wanted.num_replicas {
        return different(format!("{} copies", found.num_replicas), &wanted.num_replicas.to_string());
    }
    if found.deny_delete != wanted.deny_delete {
        return different(format!("deny_delete {}", found.deny_delete), &wanted.deny_delete.to_string());
    }
    if found.max_age.is_zero() != wanted.max_age.is_zero() {
        return different(format!("max_age {:?}", found.max_age), &format!("{:?}", wanted.max_age));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for old in ["2.9.10", "2.10.26", "2.10.3", "1.99.99", "2.10.7-RC.1"] {
            assert!(version(old) < Some(OLDEST), "{old}");
        }
        for fit in ["2.10.27", "2.11.0", "2.15.1", "2.12.3-dev", "10.0.0"] {
            assert!(version(fit) >= Some(OLDEST), "{fit}");
        }
        assert_eq!(version("dev"), None);
        assert!(version("dev") < Some(OLDEST), "what has no version is refused");
    }

    #[test]
    fn what_is_secret_in_an_address_is_not_shown() {
        assert_eq!(shown("nats://marie:secret@host:4222/"), "host:4222");
        assert_eq!(shown("tls://a:1, token@b:2"), "a:1, b:2");
    }

    #[test]
    fn a_bucket_that_forgets_is_told_from_one_that_is_full() {
        let good = key_value(names::TASKS, 1, Duration::ZERO);
        assert_eq!(difference("KV_podium-tasks", &good, Some(&good)), None);
        let limited = Config { max_messages: 10, max_bytes: 1 << 20, ..good.clone() };
        assert_eq!(difference("KV_podium-tasks", &limited, Some(&good)), None);
        let bad = [
            Config { storage: StorageType::Memory, ..good.clone() },
            Config { discard: DiscardPolicy::Old, ..good.clone() },
            Config { max_messages_per_subject: 5, ..good.clone() },
            Config { max_age: Duration::from_hours(1), ..good.clone() },
            Config { no_ack: true, ..good.clone() },
            Config { deny_delete: false, ..good.clone() },
            Config { allow_rollup: true, ..good.clone() },
            Config { subjects: vec!["$KV.other.>".into()], ..good.clone() },
        ];
        for bad in bad {
            assert!(difference("KV_podium-tasks", &bad, Some(&good)).is_some(), "{bad:?}");
        }
        let three = key_value(names::TASKS, 3, Duration::ZERO);
        assert!(difference("KV_podium-tasks", &good, Some(&three)).is_some());
    }
}
