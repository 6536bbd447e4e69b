//! Calls of workers on other machines: over the worker's own relay and pinned TLS, and everything that is no such call.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use podium::{
    gateway::{Closed, Duty, Forward, Invitation, Invitations, Opening, Pin, Remote, Within},
    model::{AgentName, AttemptRef, budget::Payer},
};
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::stage::*;

/// Quick enough for a test, slow enough for a busy machine.
const WITHIN: Within = Within { handshake: Duration::from_millis(1_500), head: Duration::from_millis(1_500) };

/// A gateway that also listens for other machines, and where its certificate and invitations lie.
async fn set() -> (Stage, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let invitations = Invitations::new(&folder.path().join("gateway"));
    let remote = Remote { listen: "127.0.0.1:0".parse().unwrap(), invitations, within: WITHIN };
    (Stage::with(|settings| settings.elsewhere = Some(remote)).await, folder)
}

fn anga() -> AgentName {
    "anga".parse().unwrap()
}

fn attempt() -> AttemptRef {
    "anga/code".parse::<TaskRef>().unwrap().attempt(2)
}

/// Invites a worker of anga's; also the invitation's name.
fn invite(stage: &Stage, folder: &Path) -> (Invitation, String) {
    let invitations = Invitations::new(&folder.join("gateway"));
    #[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
    let (invited, token) = invitations.make(anga(), jiff::Timestamp::now()).unwrap();
    let address = stage.gateway.elsewhere().unwrap().to_string();
    (Invitation { agent: anga(), address, pin: invitations.pin().unwrap(), token }, invited.id)
}

/// The room has heard that the attempt runs, for a goal.
fn runs(stage: &Stage) {
    let attempt = attempt();
    let duty = Duty { task: attempt.task, goal: Some("g1".parse().unwrap()), attempt: Some(attempt.n) };
    stage.gateway.runs(duty, Vec::new());
}

/// A request as an engine on the other machine makes it.
async fn near(relay: &Forward, path: &str, body: &str) -> TcpStream {
    let (token, length) = (relay.token().expose_secret(), body.len());
    let host = relay.url().strip_prefix("http://").unwrap().to_owned();
    let mut socket = TcpStream::connect(&host).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nx-api-key: {token}\r\nx-podium-attempt: marie/forged#1\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// Who takes any certificate, as an attacker would.
#[derive(Debug)]
struct Anything(rustls::crypto::CryptoProvider);

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn shake(addr: SocketAddr) -> TlsStream<TcpStream> {
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider)))
        .with_no_client_auth();
    let socket = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("podium").unwrap();
    timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap().unwrap()
}

/// What comes back over TLS for this request, until the gateway closes or has nothing more to say.
async fn far(addr: SocketAddr, request: &str) -> String {
    let mut stream = shake(addr).await;
    // The answer may come before all of the request was taken.
    drop(stream.write_all(request.as_bytes()).await);
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        match timeout(SOON, stream.read_buf(&mut answer)).await.expect("an answer") {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(token: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/messages HTTP/1.1\r\nhost: podium\r\nx-api-key: {token}\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_call_from_another_machine_streams_both_ways_and_is_booked_on_its_attempt_and_goal() {
    let (mut stage, folder) = set().await;
    let (invitation, _) = invite(&stage, folder.path());
    let relay = Forward::start(&invitation).await.unwrap();
    assert_eq!(relay.knock().await, Ok(()));
    relay.begin(&attempt());
    // The room hears of the attempt after its first call: the call waits for it.
    let mut client = near(&relay, "/v1/messages?beta=true", ASK).await;
    let quiet = timeout(Duration::from_millis(300), stage.listener.accept()).await;
    assert!(quiet.is_err(), "a call of an attempt that nobody knows went on");
    runs(&stage);
    let mut upstream = Upstream::accept(&stage.listener).await;
    assert!(upstream.head.starts_with("POST /v1/messages?beta=true HTTP/1.1"), "{}", upstream.head);
    assert_eq!((header(&upstream.head, "x-api-key"), upstream.body.as_slice()), (Some(REAL_KEY), ASK.as_bytes()));
    assert_eq!(header(&upstream.head, "x-podium-attempt"), None);
    assert!(!upstream.head.contains(invitation.token.expose_secret()), "{}", upstream.head);
    upstream.begin_stream("request-id: req_7\r\n").await;
    let head = read_answer_head(&mut client).await;
    assert_eq!(header(&head, "request-id"), Some("req_7"));
    for piece in [START, DELTA, STOP] {
        // The next piece is only sent once this one has come out at the other end.
        upstream.chunk(piece).await;
        assert_eq!(read_chunk(&mut client).await, piece);
    }
    upstream.say("0\r\n\r\n").await;
    assert_eq!(read_chunk(&mut client).await, "");
    let call = stage.call().await;
    assert_eq!(call.caller, Caller::Worker { agent: anga(), attempt: Some(attempt()) });
    assert_eq!((call.goal.as_ref().map(ToString::to_string).as_deref(), call.end), (Some("g1"), CallEnd::Complete));
    assert_eq!((call.usage.input_tokens, call.usage.output_tokens), (100, 50));
    stage.assert_nothing_held();

    // An engine that is ended takes its call along, all the way.
    let client = near(&relay, "/v1/messages", ASK).await;
    upstream.request().await;
    drop(client);
    upstream.gone().await;
    // The room has seen the attempt end before it writes the row.
    stage.gateway.rests(&attempt().task);
    let call = stage.call().await;
    assert_eq!((call.end, call.goal.is_some()), (CallEnd::Aborted, true));
    stage.assert_nothing_held();
}

#[tokio::test]
async fn a_tasks_budget_holds_wherever_its_attempt_runs() {
    let (mut stage, folder) = set().await;
    let relay = Forward::start(&invite(&stage, folder.path()).0).await.unwrap();
    relay.begin(&attempt());
    let payer = Payer::Task(attempt().task);
    let duty = Duty { task: attempt().task, goal: None, attempt: Some(2) };
    stage.gateway.runs(duty, vec![Opening { payer, spent: MicroUsd(500), cap: Some(MicroUsd(400)) }]);
    let (head, body) = read_sized(&mut near(&relay, "/v1/messages", ASK).await).await;
    assert!(head.starts_with("HTTP/1.1 429") && body.contains("billing_error"), "{head}{body}");
    assert_eq!(header(&head, "x-should-retry"), Some("false"));
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 429 });
}

#[tokio::test]
async fn nobody_calls_from_elsewhere_without_an_invitation_of_this_room() {
    let (mut stage, folder) = set().await;
    let (invitation, id) = invite(&stage, folder.path());
    let addr = stage.gateway.elsewhere().unwrap();
    runs(&stage);
    let good = invitation.token.expose_secret().to_owned();
    let own = stage.token.expose_secret().to_owned();
    let named = format!("x-podium-attempt: {}\r\n", attempt());
    for (what, request, status) in [
        ("no token", request("", &named, ASK), "401"),
        ("a wrong token", request(&format!("{good}0"), &named, ASK), "401"),
        ("a token of this machine's worker", request(&own, &named, ASK), "401"),
        ("the real key", request(REAL_KEY, &named, ASK), "401"),
        ("no greeting for strangers", "HEAD / HTTP/1.1\r\nhost: podium\r\nconnection: close\r\n\r\n".to_owned(), "401"),
        ("a browser", request(&good, &format!("{named}origin: https://x\r\n"), ASK), "403"),
        ("another agent's attempt", request(&good, "x-podium-attempt: marie/x#1\r\n", ASK), "403"),
        ("no attempt", request(&good, "", ASK), "400"),
        ("garbage for an attempt", request(&good, "x-podium-attempt: ../#1\r\n", ASK), "400"),
        ("not JSON", request(&good, &named, "hi!"), "400"),
        ("an attempt that is over", request(&good, "x-podium-attempt: anga/code#1\r\n", ASK), "503"),
    ] {
        let answer = far(addr, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(!answer.contains(&good) && !answer.contains(REAL_KEY), "{what}: {answer}");
    }
    // What was invited for elsewhere opens nothing here.
    stage.token = good.clone().into();
    let (head, _) = read_sized(&mut stage.post("/v1/messages", "", ASK).await).await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    // It holds until it is taken back, and not a moment longer, also on a connection that is open.
    let relay = Forward::start(&invitation).await.unwrap();
    assert_eq!(relay.knock().await, Ok(()));
    assert!(Invitations::new(&folder.path().join("gateway")).revoke(&id).unwrap());
    assert_eq!(relay.knock().await, Err(Closed::Unknown(addr.to_string())));
    // Only the one whose body was looked at has a row.
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 400 });
    stage.assert_nothing_held();
}

#[tokio::test]
async fn a_worker_calls_only_whom_its_invitation_names() {
    let (stage, folder) = set().await;
    let (good, _) = invite(&stage, folder.path());
    runs(&stage);
    // Another room with another certificate answers at the address.
    let (other, others) = set().await;
    let strange = Invitation { address: other.gateway.elsewhere().unwrap().to_string(), ..good.clone() };
    let relay = Forward::start(&strange).await.unwrap();
    assert_eq!(relay.knock().await, Err(Closed::Strange(strange.address.clone())));
    relay.begin(&attempt());
    let (head, body) = read_sized(&mut near(&relay, "/v1/messages", ASK).await).await;
    assert!(head.starts_with("HTTP/1.1 502") && body.contains("another certificate"), "{head}{body}");
    assert_eq!(header(&head, "x-should-retry"), Some("false"));
    drop((other, others));
    // Somebody who knows the certificate and not its key.
    let thief = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = Invitation { address: thief.local_addr().unwrap().to_string(), ..good.clone() };
    let stolen = stolen_certificate(&folder.path().join("gateway/certificate.pem"));
    let mut served = JoinSet::new();
    served.spawn(async move {
        let (socket, _) = thief.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(stolen).accept(socket).await.is_ok()
    });
    let relay = Forward::start(&here).await.unwrap();
    assert!(relay.knock().await.is_err());
    assert!(!served.join_next().await.unwrap().unwrap(), "the handshake of a thief came about");
    // Nobody at all.
    let relay = Forward::start(&here).await.unwrap();
    assert!(matches!(relay.knock().await, Err(Closed::Unreachable { .. })));
    let (head, body) = read_sized(&mut near(&relay, "/v1/messages", ASK).await).await;
    assert!(head.starts_with("HTTP/1.1 502") && body.contains("the room's gateway could not be reached"), "{body}");
    // The relay itself is nobody's but its engines'.
    let host = relay.url().strip_prefix("http://").unwrap().to_owned();
    for (token, origin, status) in [("wrong", "", "401"), ("", "origin: http://x\r\n", "403")] {
        let mut socket = TcpStream::connect(&host).await.unwrap();
        let request = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nx-api-key: {token}\r\n{origin}content-length: 2\r\n\r\n{{}}"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = read_sized(&mut socket).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
}

/// A server that shows this certificate and signs with a key of its own.
fn stolen_certificate(path: &Path) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let certificate = CertificateDer::from_pem_file(path).unwrap();
    let key = PrivateKeyDer::try_from(rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![certificate], key);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let resolver = rustls::sign::SingleCertAndKey::from(shown);
    Arc::new(config.unwrap().with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
}

#[tokio::test]
async fn hostile_connections_harm_nobody_else() {
    let (mut stage, folder) = set().await;
    let (invitation, _) = invite(&stage, folder.path());
    let addr = stage.gateway.elsewhere().unwrap();
    runs(&stage);
    // Half-open: more than there are places for, silent; and some that speak plain HTTP or nonsense.
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        match n % 10 {
            0 => socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap(),
            1 => socket.write_all(&[0x16, 0x03, 0x01, 0xff, 0xff]).await.unwrap(),
            2 => socket.write_all(&[0; 512]).await.unwrap_or_default(),
            _ => {}
        }
        silent.push(socket);
    }
    // This machine's workers notice nothing.
    let began = Instant::now();
    let client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.whole("200 OK", "content-type: application/json\r\nconnection: close\r\n", "{}").await;
    assert_eq!(stage.call().await.end, CallEnd::Complete);
    assert!(began.elapsed() < WITHIN.handshake, "{:?}", began.elapsed());
    drop(client);
    // And those elsewhere get their turn as soon as the silent ones have had their time.
    let relay = Forward::start(&invitation).await.unwrap();
    assert_eq!(timeout(SOON, relay.knock()).await.expect("a turn"), Ok(()));
    drop(silent);

    // A head without an end, and one that comes a byte at a time: both are closed in time.
    let mut slow = shake(addr).await;
    slow.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: podium\r\n").await.unwrap();
    let began = Instant::now();
    let mut sent = 0;
    let closed = loop {
        let mut answer = Vec::new();
        match timeout(Duration::from_millis(100), slow.read_to_end(&mut answer)).await {
            Err(_) if slow.write_all(b"x").await.is_ok() && slow.flush().await.is_ok() => sent += 1,
            Ok(_) | Err(_) => break began.elapsed(),
        }
        assert!(began.elapsed() < SOON, "a slow head was waited for");
    };
    assert!(sent > 3 && closed < WITHIN.head + Duration::from_secs(3), "{sent} bytes, {closed:?}");
    // A huge head, many headers, a body that is too large: answered or closed, and not kept.
    let token = invitation.token.expose_secret();
    let many = "x-one: y\r\n".repeat(500);
    for (what, more) in [("a huge header", format!("x-huge: {}\r\n", "y".repeat(1 << 20))), ("many", many)] {
        let answer = far(addr, &request(token, &more, ASK)).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{what}: {answer}");
    }
    let large = "POST /v1/messages HTTP/1.1\r\nhost: podium\r\n";
    let named =
        format!("{large}x-api-key: {token}\r\nx-podium-attempt: {}\r\ncontent-length: 99999999\r\n\r\n", attempt());
    assert!(far(addr, &named).await.starts_with("HTTP/1.1 413"));
    // One that only the newest could break: older protocols are not spoken.
    let old = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(rustls::crypto::ring::default_provider())))
        .with_no_client_auth();
    let socket = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("podium").unwrap();
    assert!(TlsConnector::from(Arc::new(old)).connect(name, socket).await.is_err());
    assert_eq!(relay.knock().await, Ok(()));
    stage.assert_nothing_held();
}

#[tokio::test]
async fn many_calls_from_elsewhere_at_once_each_have_their_row() {
    let plenty = Limit { requests: 600_000_000, input: 600_000_000, output: 600_000_000 };
    let folder = tempfile::tempdir().unwrap();
    let invitations = Invitations::new(&folder.path().join("gateway"));
    let remote = Remote { listen: "127.0.0.1:0".parse().unwrap(), invitations, within: WITHIN };
    let mut stage = Stage::with(|settings| {
        settings.elsewhere = Some(remote);
        settings.limits.values_mut().for_each(|limit| *limit = plenty);
    })
    .await;
    let relay = Arc::new(Forward::start(&invite(&stage, folder.path()).0).await.unwrap());
    relay.begin(&attempt());
    runs(&stage);
    let listener = std::mem::replace(&mut stage.listener, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let mut upstream = Upstream::accept(&listener).await;
            let body = r#"{"model":"claude-opus-5-5","usage":{"input_tokens":1,"output_tokens":1}}"#;
            upstream.whole("200 OK", "content-type: application/json\r\nconnection: close\r\n", body).await;
        }
    });
    let (answered, mut callers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..20 {
        let (relay, answered) = (relay.clone(), answered.clone());
        callers.spawn(async move {
            for _ in 0..5 {
                let (head, _) = read_sized(&mut near(&relay, "/v1/messages", ASK).await).await;
                answered.fetch_add(usize::from(head.starts_with("HTTP/1.1 200")), Ordering::Relaxed);
            }
        });
    }
    callers.join_all().await;
    assert_eq!(answered.load(Ordering::Relaxed), 100);
    for _ in 0..100 {
        let call = stage.call().await;
        assert_eq!((call.end, call.usage.output_tokens), (CallEnd::Complete, 1));
    }
    stage.assert_nothing_held();
}

#[test]
fn a_pin_is_not_read_from_anything_else() {
    assert!("ab".repeat(32).parse::<Pin>().is_err());
}
