//! Bad manners on both sides at once: every call leaves one row and holds nothing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use podium::{gateway::Opening, model::budget::Payer};

use super::stage::*;

/// What upstream does with a call: everything that it says, and whether it stays open after it.
fn upstream_manner(manner: u32) -> (&'static [&'static str], bool) {
    const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    match manner {
        0 => (&[STREAM, START, PING, DELTA, STOP], false),
        1 => (&["HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n", START], false),
        2 => (&["HTTP/1.1 200 OK\r\n"], false),
        3 => (&[], false),
        4 => (&["HTTP/1.1 529 Overloaded\r\ncontent-length: 2\r\n\r\n{}"], false),
        5 => (&["HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n"], false),
        6 => (&["\0\u{1b}nonsense\r\n\r\n"], false),
        7 => (&["HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n{\"a\":"], false),
        8 => (&["HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"], false),
        9 => (
            &[
                STREAM,
                START,
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"o\"}}\n\n",
            ],
            false,
        ),
        10 => (
            &[
                STREAM,
                "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":18446744073709551615,\"output_tokens\":18446744073709551615,\"cache_creation_input_tokens\":18446744073709551615}}}\n\n",
                STOP,
            ],
            false,
        ),
        11 => (&["HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 90\r\n\r\n{\"type\":\"error\","], false),
        // It never says a word, and it never ends.
        12 => (&[], true),
        _ => (&[STREAM, START], true),
    }
}
const UPSTREAM_MANNERS: u32 = 14;

/// Plays upstream as the call's model says (`opus-N`), and notes whose call it has seen.
async fn misbehave(socket: TcpStream, seen: Arc<Mutex<BTreeSet<String>>>) {
    let mut upstream = Upstream::new(socket);
    upstream.request().await;
    seen.lock().unwrap().insert(header(&upstream.head, "x-claude-code-session-id").unwrap().to_owned());
    let body = String::from_utf8_lossy(&upstream.body).into_owned();
    let number = body.split("opus-").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
    let (script, stays) = upstream_manner(number.unwrap_or(0));
    for piece in script {
        // The caller may be gone already, so nothing here must succeed.
        if upstream.socket.write_all(piece.as_bytes()).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    if stays {
        let mut rest = Vec::new();
        drop(upstream.socket.read_to_end(&mut rest).await);
    }
}

/// What a caller sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sends {
    /// A proper call.
    Call,
    /// No JSON.
    Nonsense,
    /// JSON without a model.
    NoModel,
    /// A model that nobody knows, with a name to be afraid of.
    Unknown,
    /// 200 MB, by its own word.
    Huge,
    /// 33 MB in pieces, without a word before.
    TooLong,
    /// Half of its body, and then nothing for ever.
    Dribbles,
    /// Half of its body, and then the end.
    BreaksOff,
}

#[derive(Debug, Clone, Copy)]
struct Manners {
    upstream: u32,
    sends: Sends,
    /// It leaves after so many bytes of the answer, or a while.
    leaves_after: Option<usize>,
}

async fn call(addr: SocketAddr, token: String, session: String, manners: Manners) {
    let model = if manners.sends == Sends::Unknown { "\\u001b]0;gpt-x" } else { "opus" };
    let body = match manners.sends {
        Sends::Nonsense => "{\"model\":\"opus\"".to_owned(),
        Sends::NoModel => "{\"max_tokens\":1}".to_owned(),
        _ => format!(r#"{{"model":"{model}-{}","max_tokens":1}}"#, manners.upstream),
    };
    let framing = match manners.sends {
        Sends::Huge => "content-length: 200000000".to_owned(),
        Sends::TooLong => "transfer-encoding: chunked".to_owned(),
        _ => format!("content-length: {}", body.len()),
    };
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {addr}\r\nx-api-key: {token}\r\nx-claude-code-session-id: {session}\r\nconnection: close\r\n{framing}\r\n\r\n"
    );
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let half = body.len() / 2;
    // The gateway may have refused and closed before all is sent.
    match manners.sends {
        Sends::TooLong => {
            let piece = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
            for _ in 0..33 {
                if socket.write_all(piece.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
        Sends::Dribbles | Sends::BreaksOff => drop(socket.write_all(&body.as_bytes()[..half]).await),
        _ => drop(socket.write_all(body.as_bytes()).await),
    }
    let mut got = Vec::new();
    match manners.leaves_after {
        Some(bytes) => {
            while got.len() < bytes
                && matches!(timeout(Duration::from_millis(50), socket.read_buf(&mut got)).await, Ok(Ok(1..)))
            {
            }
        }
        // A stream that upstream cut must end as well, if with an error. Hundreds at once on a loaded machine take a
        // while; what hangs would take for ever.
        None => {
            timeout(6 * SOON, socket.read_to_end(&mut got)).await.expect("every answer ends").unwrap_or_default();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_both_sides_do_every_call_leaves_one_row_and_holds_nothing() {
    let mut stage = Stage::with(|s| {
        s.limits.values_mut().for_each(|l| *l = Limit { requests: 1_000_000, input: 400_000, output: 400_000 });
        s.hold = Duration::from_millis(700);
    })
    .await;
    let listener = std::mem::replace(&mut stage.listener, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (mut server, noted) = (JoinSet::new(), seen.clone());
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            connections.spawn(misbehave(socket, noted.clone()));
        }
    });
    let mut clients = JoinSet::new();
    let mut number = 7_u32;
    let mut random = move |below: u32| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 8) % below
    };
    let mut stayed = BTreeSet::new();
    for n in 0..400 {
        let upstream = random(UPSTREAM_MANNERS);
        let sends = match random(16) {
            0 => Sends::Nonsense,
            1 => Sends::NoModel,
            2 => Sends::Unknown,
            3 => Sends::Huge,
            4 if n % 7 == 0 => Sends::TooLong,
            5 => Sends::Dribbles,
            6 => Sends::BreaksOff,
            _ => Sends::Call,
        };
        // Who waits for what never comes leaves one day.
        let endless = upstream >= 12 || matches!(sends, Sends::Dribbles | Sends::BreaksOff);
        let leaves_after = (endless || random(3) == 0).then(|| random(400) as usize);
        let session = format!("s{n}");
        if leaves_after.is_none() {
            stayed.insert(session.clone());
        }
        let (addr, token) = (stage.gateway.addr(), stage.token.expose_secret().to_owned());
        clients.spawn(call(addr, token, session, Manners { upstream, sends, leaves_after }));
        if n % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    clients.join_all().await;
    // The last calls of those who left may still be ending.
    let at_rest = async {
        while stage.gateway.levels().in_flight + stage.gateway.levels().queued > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, at_rest).await.expect("every call ends");
    stage.assert_nothing_held();
    // Nor of a budget: so near to a cap a call passes only while no other one is on its way. It is of another model, since
    // what upstream has claimed of the first one is paid for hours.
    let spent = MicroUsd(1_000_000_000_000_000);
    stage.gateway.open(Opening { payer: Payer::Day, spent, cap: Some(MicroUsd(spent.0 + 100_000)) });
    let mut last =
        stage.post("/v1/messages", "x-claude-code-session-id: last\r\n", r#"{"model":"claude-sonnet-5-5"}"#).await;
    let (head, body) = read_sized(&mut last).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}{body}");
    stayed.insert("last".to_owned());
    drop(server);
    let Stage { gateway, mut notices, .. } = stage;
    gateway.stop().await;
    let mut rows = BTreeMap::<String, u32>::new();
    while let Some(notice) = notices.recv().await {
        if let Notice::Call(call) = notice {
            assert!(call.cost >= MicroUsd(0) && !call.model.contains('\u{1b}'), "{call:?}");
            *rows.entry(call.session_id.clone().expect("each call has its session")).or_default() += 1;
        }
    }
    let twice: Vec<_> = rows.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "more than one row: {twice:?}");
    // Who left before the gateway had looked at the request has none; whoever stayed, or was seen upstream, has one.
    let seen = seen.lock().unwrap().clone();
    let missing: Vec<_> = stayed.union(&seen).filter(|session| !rows.contains_key(*session)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert!(rows.len() > 200, "{} rows", rows.len());
}
