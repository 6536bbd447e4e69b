//! `assets/nats/server.conf` on a real server on loopback: who is let in, and what a worker's credentials open.
//!
//! The server is what `PODIUM_TEST_NATS` names (`./test` sets it). Without it the tests are skipped at a desk, and fail where
//! `CI` is set. It is spoken to word by word, so that each yes and no is the server's own.

#![expect(clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[path = "common/outcome.rs"]
mod outcome;
#[path = "common/ports.rs"]
mod ports;

use std::{
    collections::VecDeque,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use outcome::plain;
use podium::{
    model::{Clock, Ending, TaskRef, TaskSpec},
    queue::{
        Claimed, Finished, Queue as _, Submitted,
        nats::{Address, NatsQueue, Settings},
    },
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const SOON: Duration = Duration::from_secs(10);

/// A server with the example configuration, and its users' passwords, which are their names.
struct Server {
    child: Child,
    addr: SocketAddr,
    place: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free_port()))
}

impl Server {
    async fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("PODIUM_TEST_NATS") else {
            assert!(std::env::var_os("CI").is_none(), "a nats-server must be there in CI");
            eprintln!("SKIPPED: there is no nats-server; run ./test, or set PODIUM_TEST_NATS");
            return None;
        };
        let place = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(place.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(place.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let (addr, monitor) = (free(), free());
        let file = |name: &str| place.path().join(name).into_os_string();
        let mut command = Command::new(program);
        command.env_clear().arg("-c").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nats/server.conf"));
        command.env("PODIUM_NATS_LISTEN", addr.to_string()).env("PODIUM_NATS_MONITOR", monitor.to_string());
        command.env("PODIUM_NATS_STORE", file("store")).env("PODIUM_NATS_DISK", "100MB");
        command.env("PODIUM_NATS_CERT", file("cert.pem")).env("PODIUM_NATS_KEY", file("key.pem"));
        for user in ["room", "marie", "anga", "fabien", "watch"] {
            command.env(format!("PODIUM_NATS_{}", user.to_uppercase()), user);
        }
        let log = fs::File::create(place.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let server = Self { child, addr, place };
        let end = Instant::now() + SOON;
        while TcpStream::connect(addr).await.is_err() {
            let log = fs::read_to_string(server.place.path().join("log")).unwrap();
            assert!(Instant::now() < end, "the server does not start: {log}");
            sleep(Duration::from_millis(20)).await;
        }
        Some(server)
    }

    fn certificate(&self) -> PathBuf {
        self.place.path().join("cert.pem")
    }

    async fn user(&self, name: &str) -> Client {
        Client::connect(self, name, name).await.unwrap()
    }
}

/// One connection that says one thing at a time and hears whether that was allowed.
struct Client {
    wire: BufReader<TlsStream<TcpStream>>,
    name: String,
    heard: VecDeque<(String, String)>,
    asked: u32,
}

impl Client {
    async fn connect(server: &Server, user: &str, password: &str) -> Result<Self, String> {
        let mut plain = BufReader::new(TcpStream::connect(server.addr).await.unwrap());
        let mut info = String::new();
        plain.read_line(&mut info).await.unwrap();
        assert!(info.contains("\"tls_required\":true"), "{info}");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.certificate()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(config).connect(name, plain.into_inner()).await.unwrap();
        let wire = BufReader::new(stream);
        let mut client = Self { wire, name: user.to_owned(), heard: VecDeque::new(), asked: 0 };
        let who = json!({"verbose": true, "pedantic": false, "headers": true, "lang": "test", "version": "0",
            "protocol": 1, "user": user, "pass": password});
        client.say(&format!("CONNECT {who}\r\n")).await.map(|()| client)
    }

    /// Says something; what the server has against it.
    async fn say(&mut self, words: &str) -> Result<(), String> {
        self.wire.get_mut().write_all(words.as_bytes()).await.map_err(|error| error.to_string())?;
        self.wire.get_mut().flush().await.map_err(|error| error.to_string())?;
        loop {
            let line = self.line().await?;
            if line == "+OK" {
                return Ok(());
            }
            if let Some(error) = line.strip_prefix("-ERR ") {
                return Err(error.trim_matches('\'').to_owned());
            }
        }
    }

    /// The next line that is no message; messages are kept.
    async fn line(&mut self) -> Result<String, String> {
        loop {
            let mut line = String::new();
            let read = timeout(SOON, self.wire.read_line(&mut line)).await.map_err(|_late| "silence".to_owned())?;
            if read.map_err(|error| error.to_string())? == 0 {
                return Err("closed".to_owned());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let whole: usize = words.last().and_then(|n| n.parse().ok()).unwrap_or(0);
            match words.first().copied() {
                Some("MSG" | "HMSG") => {
                    let mut body = vec![0; whole + 2];
                    self.wire.read_exact(&mut body).await.unwrap();
                    body.truncate(whole);
                    self.heard.push_back((words[1].to_owned(), String::from_utf8_lossy(&body).into_owned()));
                    return Ok(String::new());
                }
                Some("PING") => self.wire.get_mut().write_all(b"PONG\r\n").await.unwrap(),
                Some("INFO") => {}
                _ => return Ok(line.trim_end().to_owned()),
            }
        }
    }

    async fn publish(&mut self, subject: &str, body: &str) -> Result<(), String> {
        self.say(&format!("PUB {subject} {}\r\n{body}\r\n", body.len())).await
    }

    async fn subscribe(&mut self, subject: &str) -> Result<(), String> {
        self.asked += 1;
        self.say(&format!("SUB {subject} {}\r\n", self.asked)).await
    }

    /// The next message, if one comes soon.
    async fn message(&mut self, within: Duration) -> Option<(String, String)> {
        let end = Instant::now() + within;
        while self.heard.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let _said = timeout(left, self.line()).await.ok()?.ok()?;
        }
        self.heard.pop_front()
    }

    /// Asks and hears the answer; `header` is one line, or none.
    async fn request(&mut self, subject: &str, header: &str, body: &str) -> Result<Value, String> {
        self.heard.clear();
        let inbox = format!("_INBOX.{}.{}", self.name, self.asked);
        self.subscribe(&inbox).await?;
        let said = if header.is_empty() {
            format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len())
        } else {
            let head = format!("NATS/1.0\r\n{header}\r\n\r\n");
            format!("HPUB {subject} {inbox} {} {}\r\n{head}{body}\r\n", head.len(), head.len() + body.len())
        };
        self.say(&said).await?;
        let (_, answer) = self.message(SOON).await.ok_or("no answer")?;
        // What a direct get answers has headers first.
        let json = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
        Ok(serde_json::from_str(json).unwrap_or_else(|_text| json!({"text": answer})))
    }
}

/// The buckets as the room makes them, with a task, a result, a lease and a log of marie's.
async fn furnished(server: &Server) -> Client {
    let mut room = server.user("room").await;
    for bucket in ["podium-tasks", "podium-specs", "podium-results", "podium-leases"] {
        let stream = json!({"name": format!("KV_{bucket}"), "subjects": [format!("$KV.{bucket}.>")], "storage": "file",
            "retention": "limits", "max_msgs_per_subject": 1, "discard": "new", "deny_delete": true, "num_replicas": 1,
            "allow_direct": true});
        let made = room.request(&format!("$JS.API.STREAM.CREATE.KV_{bucket}"), "", &stream.to_string()).await.unwrap();
        assert!(made["error"].is_null(), "{made}");
    }
    for agent in ["marie", "anga"] {
        let stream = json!({"name": format!("OBJ_podium-files-{agent}"), "storage": "file", "discard": "new",
            "subjects": [format!("$O.podium-files-{agent}.C.>"), format!("$O.podium-files-{agent}.M.>")],
            "retention": "limits", "num_replicas": 1, "allow_direct": true, "allow_rollup_hdrs": true});
        let subject = format!("$JS.API.STREAM.CREATE.OBJ_podium-files-{agent}");
        let made = room.request(&subject, "", &stream.to_string()).await.unwrap();
        assert!(made["error"].is_null(), "{made}");
    }
    for (subject, body) in MARIES {
        let kept = room.request(subject, "", body).await.unwrap();
        assert!(kept["error"].is_null(), "{subject}: {kept}");
    }
    room
}

const MARIES: [(&str, &str); 4] = [
    ("$KV.podium-tasks.marie.roster", r#"{"of": "marie"}"#),
    ("$KV.podium-results.marie.roster.1-ab", r#"{"of": "marie"}"#),
    ("$KV.podium-leases.marie.roster.1-ab", r#"{"of": "marie"}"#),
    ("$O.podium-files-marie.C.log", r#"{"of": "marie"}"#),
];

#[tokio::test]
async fn nobody_is_let_in_without_encryption_and_a_password() {
    let Some(server) = Server::start().await else { return };
    for (user, password) in [("anga", "wrong"), ("", ""), ("anga", ""), ("root", "root"), ("anga", "marie")] {
        let refused = Client::connect(&server, user, password).await.map(|_| ());
        assert!(refused.as_ref().is_err_and(|why| why.contains("Authorization Violation")), "{user}: {refused:?}");
    }
    // Plain words on a port that wants TLS.
    let mut plain = BufReader::new(TcpStream::connect(server.addr).await.unwrap());
    plain.write_all(b"CONNECT {\"user\":\"anga\",\"pass\":\"anga\"}\r\nPING\r\n").await.unwrap();
    let mut said = Vec::new();
    drop(timeout(SOON, plain.read_to_end(&mut said)).await.expect("the server hangs up"));
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.starts_with("INFO") && !said.contains("PONG"), "{said}");
    // The one that watches the server sees no task.
    let mut watch = server.user("watch").await;
    let answer = watch.request("$JS.API.STREAM.NAMES", "", "").await;
    assert!(answer.is_err() || answer.as_ref().is_ok_and(|a| a["streams"].is_null()), "{answer:?}");
}

#[tokio::test]
async fn a_worker_writes_what_is_its_agents_and_nothing_else() {
    let Some(server) = Server::start().await else { return };
    let mut room = furnished(&server).await;
    let mut anga = server.user("anga").await;
    for subject in [
        "$KV.podium-tasks.anga.code",
        "$KV.podium-results.anga.code.1-cd",
        "$KV.podium-leases.anga.code.1-cd",
        "$O.podium-files-anga.C.x",
        "$O.podium-files-anga.M.x",
    ] {
        let kept = anga.request(subject, "", r#"{"of": "anga"}"#).await;
        assert!(kept.as_ref().is_ok_and(|kept| kept["error"].is_null() && kept["seq"].is_u64()), "{subject}: {kept:?}");
    }
    for subject in ["podium.room.anga.hello", "podium.worker.anga.w1.says", "podium.log.anga.w1"] {
        assert_eq!(anga.publish(subject, "x").await, Ok(()), "{subject}");
    }
    for subject in [
        "$KV.podium-tasks.marie.roster",
        "$KV.podium-tasks.marie.new",
        "$KV.podium-results.marie.roster.1-ab",
        "$KV.podium-results.marie.roster.2-ef",
        "$KV.podium-leases.marie.roster.1-ab",
        "$KV.podium-leases.room",
        "$KV.podium-specs.anga.code.0123",
        "$KV.podium-specs.marie.roster.0123",
        "$KV.other.anga.x",
        "$O.podium-files-marie.C.log",
        "$O.podium-files-marie.M.log",
        "podium.room.marie.hello",
        "podium.worker.marie.w1.says",
        "podium.worker.anga.w1.told",
        "podium.worker.marie.w1.told",
        "podium.log.marie.w1",
        "podium.screen.hello",
        "podium.screen.0123",
        "_INBOX.marie.1",
        "_INBOX.room.1",
        "$JS.API.STREAM.CREATE.mine",
        "$JS.API.STREAM.UPDATE.KV_podium-tasks",
        "$JS.API.STREAM.DELETE.KV_podium-tasks",
        "$JS.API.STREAM.PURGE.KV_podium-tasks",
        "$JS.API.STREAM.PURGE.OBJ_podium-files-anga",
        "$JS.API.STREAM.MSG.DELETE.KV_podium-tasks",
        "$JS.API.STREAM.SNAPSHOT.KV_podium-tasks",
        "$JS.API.STREAM.RESTORE.KV_podium-tasks",
        "$JS.API.CONSUMER.CREATE.KV_podium-tasks",
        "$JS.API.CONSUMER.DURABLE.CREATE.KV_podium-tasks.x",
        "$JS.ACK.KV_podium-tasks.x.1.1.1.1.0",
        "$SYS.REQ.SERVER.PING",
        "anything",
    ] {
        let refused = anga.publish(subject, "{}").await;
        assert!(
            refused.as_ref().is_err_and(|why| why.contains("Permissions Violation for Publish")),
            "{subject}: {refused:?}"
        );
    }
    // A roll-up of all would empty the bucket for everyone; podium's buckets take none.
    let rolled = anga.request("$KV.podium-tasks.anga.code", "Nats-Rollup: all", "{}").await.unwrap();
    assert!(
        rolled["error"]["description"].as_str().is_some_and(|why| why.contains("rollup not permitted")),
        "{rolled}"
    );
    // And what is marie's is as it was.
    for (subject, body) in MARIES {
        let stream = match subject.split('.').collect::<Vec<_>>()[..] {
            ["$KV", bucket, ..] => format!("KV_{bucket}"),
            ["$O", bucket, ..] => format!("OBJ_{bucket}"),
            _ => panic!("{subject}"),
        };
        let found = room.request(&format!("$JS.API.DIRECT.GET.{stream}.{subject}"), "", "").await.unwrap();
        assert_eq!(found, serde_json::from_str::<Value>(body).unwrap(), "{subject}");
    }
}

#[tokio::test]
async fn a_worker_reads_what_tasks_build_on_and_neither_logs_nor_words_of_others() {
    let Some(server) = Server::start().await else { return };
    let mut room = furnished(&server).await;
    let mut anga = server.user("anga").await;
    for subject in ["$KV.podium-tasks.marie.roster", "$KV.podium-results.marie.roster.1-ab"] {
        let bucket = subject.split('.').nth(1).unwrap();
        let found = anga.request(&format!("$JS.API.DIRECT.GET.KV_{bucket}.{subject}"), "", "").await.unwrap();
        assert_eq!(found["of"], "marie", "{subject}");
    }
    for subject in [
        "$JS.API.STREAM.INFO.OBJ_podium-files-marie",
        "$JS.API.STREAM.MSG.GET.OBJ_podium-files-marie",
        "$JS.API.DIRECT.GET.OBJ_podium-files-marie",
        "$JS.API.DIRECT.GET.OBJ_podium-files-marie.$O.podium-files-marie.C.log",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.INFO",
        "$JS.API.CONSUMER.CREATE.KV_podium-results.w.$KV.podium-results.marie.>",
        "$JS.API.CONSUMER.CREATE.OBJ_podium-files-marie",
    ] {
        let refused = anga.publish(subject, "{}").await;
        assert!(
            refused.as_ref().is_err_and(|why| why.contains("Permissions Violation for Publish")),
            "{subject}: {refused:?}"
        );
    }
    for subject in ["_INBOX.anga.>", "podium.worker.anga.w1.told", "podium.worker.anga.*.told"] {
        assert_eq!(anga.subscribe(subject).await, Ok(()), "{subject}");
    }
    for subject in [
        ">",
        "podium.>",
        "podium.log.>",
        "podium.log.marie.*",
        "podium.log.anga.*",
        "podium.room.>",
        "podium.screen.>",
        "podium.screen.hello",
        "podium.screen.0123",
        "podium.worker.*.*.told",
        "podium.worker.marie.w1.told",
        "podium.worker.marie.*.says",
        "_INBOX.>",
        "_INBOX.*.1",
        "_INBOX.marie.>",
        "_INBOX.room.>",
        "$KV.>",
        "$KV.podium-tasks.marie.>",
        "$O.podium-files-marie.>",
        "$JS.EVENT.>",
        "$SYS.>",
    ] {
        let refused = anga.subscribe(subject).await;
        let no = refused.as_ref().is_err_and(|why| why.contains("Permissions Violation for Subscription"));
        assert!(no, "{subject}: {refused:?}");
    }
    // What is said to marie and by marie reaches the room, and not anga.
    room.subscribe("podium.log.*.*").await.unwrap();
    let mut marie = server.user("marie").await;
    marie.subscribe("podium.worker.marie.w1.told").await.unwrap();
    marie.publish("podium.log.marie.w1", "a secret step").await.unwrap();
    room.publish("podium.worker.marie.w1.told", "an order").await.unwrap();
    assert_eq!(room.message(SOON).await.unwrap().1, "a secret step");
    assert_eq!(marie.message(SOON).await.unwrap().1, "an order");
    assert_eq!(anga.message(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn the_server_answers_wherever_it_is_told_so_a_subject_proves_no_sender() {
    let Some(server) = Server::start().await else { return };
    let _room = furnished(&server).await;
    let (mut anga, mut marie) = (server.user("anga").await, server.user("marie").await);
    marie.subscribe("podium.worker.marie.w1.told").await.unwrap();
    anga.request("$KV.podium-tasks.anga.code", "", r#"{"tell":"forged"}"#).await.unwrap();
    // Anga may not publish there; the server may, and whoever asks it chooses where its answer goes.
    let get = "$JS.API.DIRECT.GET.KV_podium-tasks.$KV.podium-tasks.anga.code";
    anga.say(&format!("PUB {get} podium.worker.marie.w1.told 0\r\n\r\n")).await.unwrap();
    let (subject, forged) = marie.message(SOON).await.unwrap();
    assert_eq!(subject, "podium.worker.marie.w1.told");
    // By this header whoever listens can tell; and by a name in the subject that nobody else knows it does not come at all.
    assert!(forged.contains("\r\nNats-Stream: KV_podium-tasks\r\n") && forged.contains("forged"), "{forged}");
}

#[tokio::test]
async fn the_queue_of_room_and_worker_needs_no_more_than_this() {
    let Some(server) = Server::start().await else { return };
    drop(rustls::crypto::ring::default_provider().install_default());
    let place = tempfile::tempdir().unwrap();
    let open = async |user: &str, makes| {
        let address = Address {
            url: format!("tls://{user}:{user}@{}", server.addr),
            ca: Some(server.certificate()),
            ..Address::default()
        };
        let agents = ["marie", "anga"].map(|name| name.parse().unwrap()).to_vec();
        #[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
        let clock = Clock::new(Timestamp::now);
        let settings = Settings::new(address, user, place.path().join(user), agents, clock);
        NatsQueue::open(Settings { makes, patience: Duration::from_secs(3), ..settings }).await
    };
    let room = open("room", true).await.unwrap();
    let [own, other] = ["anga/code", "marie/roster"].map(|task| task.parse::<TaskRef>().unwrap());
    for task in [&own, &other] {
        assert_eq!(room.submit(TaskSpec::new(task.clone(), "Say what it is.")).await.unwrap(), Submitted::New);
    }
    let worker = open("anga", false).await.unwrap();
    let Claimed::Won(claim) = worker.claim(&own).await.unwrap() else { panic!("anga's worker has not won its task") };
    let outcome = plain(&own, 1, Timestamp::UNIX_EPOCH);
    assert_eq!(worker.finish(claim.lease, outcome).await.unwrap(), Finished::Committed);
    assert!(room.result(&own).await.unwrap().is_some());
    // It reads what its tasks build on, and takes nothing that is another agent's.
    assert_eq!(worker.get(&other).await.unwrap().last_attempt(), 0);
    let taken = worker.claim(&other).await;
    assert!(!matches!(taken, Ok(Claimed::Won(_))), "{taken:?}");
    assert!(!matches!(worker.end(&other, Ending::Cancelled).await, Ok(Finished::Committed)));
    assert_eq!(room.get(&other).await.unwrap().last_attempt(), 0);
    assert!(room.result(&other).await.unwrap().is_none());
    assert!(open("nobody", false).await.is_err());
}
