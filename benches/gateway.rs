//! What the relay adds: latency of the first byte and of every piece at 50 streams at once, calls a second of one core,
//! how soon upstream is closed when a caller leaves, and the memory of a long body. Real sockets on loopback; upstream and
//! callers are this program too.
//!
//! `cargo bench --bench gateway`; figures and machine in `benches/README.md`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use podium::{
    gateway::{Gateway, Identity, Keys, Settings},
    ledger::Prices,
    limiter::Limit,
    model::{Clock, SlotId},
};
use rustix::time::{ClockId, clock_gettime};
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
    time::Instant,
};

const STREAMS: usize = 50;
const PIECES: u32 = 40;
const BETWEEN: Duration = Duration::from_millis(25);
const ROUNDS: usize = 6;
const CALLS: usize = 20_000;
const CALLERS: usize = 32;
const ABORTS: usize = 200;
const LONG: usize = 100 << 20;
const ASK: &str =
    r#"{"model":"claude-opus-5-5","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The gateway on a thread of its own, with nothing else on it.
struct Relay {
    addr: SocketAddr,
    token: String,
    ask_cpu: UnboundedSender<oneshot::Sender<Duration>>,
}

impl Relay {
    fn start(upstream: SocketAddr) -> Fallible<Self> {
        let (ready, started) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let plenty = Limit { requests: 600_000_000, input: 600_000_000, output: 600_000_000 };
                let settings = Settings {
                    listen: ([127, 0, 0, 1], 0).into(),
                    upstream: format!("http://{upstream}"),
                    keys: Keys { default: Some("sk-bench".to_owned().into()), ..Keys::default() },
                    limits: BTreeMap::from([("opus".to_owned(), plenty)]),
                    hold: Settings::HOLD,
                    caps: podium::model::budget::Caps::default(),
                    spent_today: podium::model::MicroUsd(0),
                    elsewhere: None,
                };
                let clock = Clock::fixed("2026-11-28T12:00:00Z".parse().expect("a time"));
                let started = Gateway::start(settings, Prices::embedded(), clock, drop).await;
                let gateway = started.expect("the gateway starts");
                let slot = SlotId { agent: "marie".parse().expect("a name"), index: 0 };
                let token = gateway.issue_token(Identity::Worker(slot)).expect("a token");
                let (ask_cpu, mut asked) = unbounded_channel::<oneshot::Sender<Duration>>();
                let relay = Self { addr: gateway.addr(), token: token.expose_secret().to_owned(), ask_cpu };
                ready.send(relay).expect("somebody waits");
                while let Some(answer) = asked.recv().await {
                    answer.send(thread_time()).unwrap_or_default();
                }
            });
        });
        Ok(started.recv()?)
    }

    /// What its thread has computed so far.
    async fn cpu(&self) -> Fallible<Duration> {
        let (answer, told) = oneshot::channel();
        self.ask_cpu.send(answer)?;
        Ok(told.await?)
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Reads a head and the body it announces, by its length or in chunks; what comes after stays in `buffer`.
async fn read_message(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Fallible<Option<String>> {
    /// The last chunk, which has no bytes.
    const END: &[u8] = b"\r\n0\r\n\r\n";
    let mut head = None;
    loop {
        if head.is_none()
            && let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n")
        {
            head = Some(String::from_utf8_lossy(buffer.get(..at).unwrap_or_default()).to_ascii_lowercase());
        }
        if let Some(text) = &head {
            let end = if text.contains("transfer-encoding: chunked") {
                buffer.windows(END.len()).position(|w| w == END).map(|at| at + END.len())
            } else {
                let length = text.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(Ok(0), str::parse)?;
                Some(text.len() + 4 + length).filter(|end| *end <= buffer.len())
            };
            if let Some(end) = end {
                buffer.drain(..end);
                return Ok(head);
            }
        }
        if socket.read_buf(buffer).await? == 0 {
            return if head.is_some() { Err("closed in a body".into()) } else { Ok(None) };
        }
    }
}

/// Plays the server: answers as the header `x-bench` asks.
async fn serve(mut socket: TcpStream, base: Instant, closed: UnboundedSender<Instant>) -> Fallible<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(head) = read_message(&mut socket, &mut buffer).await? {
        let mode = head.lines().find_map(|l| l.strip_prefix("x-bench: ")).unwrap_or("short").to_owned();
        if mode == "short" {
            let body = r#"{"type":"message","model":"claude-opus-5-5","usage":{"input_tokens":10,"output_tokens":5}}"#;
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
            socket.write_all(format!("{head}{length}\r\n\r\n{body}").as_bytes()).await?;
            continue;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        if mode == "abort" {
            // One piece, and then silence until the other side is gone.
            socket.write_all(format!("{head}4\r\n: a\n\r\n").as_bytes()).await?;
            let gone = socket.read(&mut [0; 64]).await;
            closed.send(Instant::now())?;
            return gone.map(drop).map_err(Into::into);
        }
        if mode == "stream" {
            socket.write_all(head.as_bytes()).await?;
            for piece in 0..PIECES {
                if piece > 0 {
                    tokio::time::sleep(BETWEEN).await;
                }
                let sent = base.elapsed().as_nanos();
                let text = format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"word \"}},\"t\":{sent}}}\n\n"
                );
                socket.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
            }
            socket.write_all(b"0\r\n\r\n").await?;
        } else {
            socket.write_all(head.as_bytes()).await?;
            let line = format!("data: {{\"type\":\"content_block_delta\",\"x\":\"{}\"}}\n\n", "y".repeat(64 << 10));
            let piece = format!("{:x}\r\n{line}\r\n", line.len());
            for _ in 0..LONG / line.len() {
                socket.write_all(piece.as_bytes()).await?;
            }
            socket.write_all(b"0\r\n\r\n").await?;
        }
    }
    Ok(())
}

/// A caller's request.
fn request(addr: SocketAddr, token: &str, mode: &str, headers: &str) -> String {
    let length = ASK.len();
    format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {addr}\r\nx-api-key: {token}\r\nx-bench: {mode}\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{ASK}"
    )
}

/// One stream: nanoseconds from request to first byte, and from the server's write of each piece to ours.
async fn stream(addr: SocketAddr, token: Arc<str>, base: Instant) -> Fallible<(u64, Vec<u64>)> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    let began = Instant::now();
    socket.write_all(request(addr, &token, "stream", "").as_bytes()).await?;
    let (mut buffer, mut from, mut first, mut took) = (Vec::with_capacity(64 << 10), 0, None, Vec::new());
    loop {
        let read = socket.read_buf(&mut buffer).await?;
        let now = base.elapsed().as_nanos();
        first.get_or_insert(began.elapsed());
        let fresh = String::from_utf8_lossy(buffer.get(from..).unwrap_or_default()).into_owned();
        for sent in fresh.split("\"t\":").skip(1).filter_map(|t| t.split_once('}')) {
            took.push(u64::try_from(now - sent.0.parse::<u128>()?)?);
        }
        // A piece that is cut in two is looked at again from its beginning.
        from += fresh.rfind("\n\n").map_or(0, |at| at + 2);
        if read == 0 || buffer.ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
    }
    if took.len() != PIECES as usize {
        return Err(format!("{} pieces of {PIECES}", took.len()).into());
    }
    Ok((u64::try_from(first.unwrap_or_default().as_nanos())?, took))
}

/// The value below which `share` of them are, in milliseconds.
fn quantile(values: &mut [u64], share: f64) -> f64 {
    values.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a slice")]
    let at = ((values.len() - 1) as f64 * share).round() as usize;
    values.get(at).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
}

async fn latency(direct: SocketAddr, relay: &Relay, base: Instant) -> Fallible<()> {
    let mut all = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for _ in 0..ROUNDS {
        for ((first, pieces), (addr, token)) in all.iter_mut().zip([(direct, ""), (relay.addr, relay.token.as_str())]) {
            let mut streams = JoinSet::new();
            for _ in 0..STREAMS {
                streams.spawn(stream(addr, token.into(), base));
                // Spread over the interval, as callers are.
                tokio::time::sleep(BETWEEN / 50).await;
            }
            for one in streams.join_all().await {
                let (to_first, took) = one?;
                first.push(to_first);
                pieces.extend(took);
            }
        }
    }
    let [(mut direct_first, mut direct), (mut first, mut pieces)] = all;
    for (what, direct, through) in
        [("first byte", &mut direct_first, &mut first), ("each piece", &mut direct, &mut pieces)]
    {
        for share in [0.5, 0.99] {
            let (without, with) = (quantile(direct, share), quantile(through, share));
            println!(
                "{what}, p{:.0}: {without:.3} ms direct, {with:.3} ms through the gateway, {:.3} ms added (n = {})",
                share * 100.0,
                with - without,
                through.len()
            );
        }
    }
    Ok(())
}

async fn calls(relay: &Relay, count: usize) -> Fallible<()> {
    let cpu = relay.cpu().await?;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (addr, ask) = (relay.addr, request(relay.addr, &relay.token, "short", ""));
        callers.spawn(async move {
            let mut socket = TcpStream::connect(addr).await?;
            socket.set_nodelay(true)?;
            let mut buffer = Vec::new();
            for _ in 0..count / CALLERS {
                socket.write_all(ask.as_bytes()).await?;
                let head = read_message(&mut socket, &mut buffer).await?.unwrap_or_default();
                if !head.starts_with("http/1.1 200") {
                    return Err(head.into());
                }
            }
            Fallible::Ok(())
        });
    }
    for one in callers.join_all().await {
        one?;
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), relay.cpu().await?.saturating_sub(cpu).as_secs_f64());
    let count = (count / CALLERS * CALLERS) as f64;
    println!(
        "calls: {:.0} a second by the clock, {:.0} for each second of one core ({:.0} µs each, n = {count})",
        count / took,
        count / cpu,
        cpu / count * 1e6
    );
    Ok(())
}

/// From the moment a caller closes its connection until upstream sees its own closed.
async fn aborts(relay: &Relay, closed: &mut UnboundedReceiver<Instant>) -> Fallible<()> {
    let mut took = Vec::new();
    for _ in 0..ABORTS {
        let mut socket = TcpStream::connect(relay.addr).await?;
        socket.write_all(request(relay.addr, &relay.token, "abort", "").as_bytes()).await?;
        let mut got = Vec::new();
        while !got.ends_with(b": a\n\r\n") {
            if socket.read_buf(&mut got).await? == 0 {
                return Err("closed too early".into());
            }
        }
        let left = Instant::now();
        drop(socket);
        let seen = closed.recv().await.ok_or("the server is gone")?;
        took.push(u64::try_from(seen.duration_since(left).as_nanos())?);
    }
    let (half, most) = (quantile(&mut took, 0.5), quantile(&mut took, 1.0));
    println!(
        "a caller that leaves: upstream is closed after {half:.3} ms, p50, and {most:.3} ms at most (n = {ABORTS})"
    );
    Ok(())
}

/// A line of `/proc/self/status` in kB.
fn status(name: &str) -> Fallible<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim_matches(|c: char| !c.is_ascii_digit()).parse()?)
}

async fn long_body(relay: &Relay) -> Fallible<()> {
    // The peak begins anew.
    fs::write("/proc/self/clear_refs", "5")?;
    let before = status("VmRSS:")?;
    let mut socket = TcpStream::connect(relay.addr).await?;
    let began = Instant::now();
    let cpu = relay.cpu().await?;
    socket.write_all(request(relay.addr, &relay.token, "long", "connection: close\r\n").as_bytes()).await?;
    let (mut buffer, mut got) = (vec![0; 64 << 10], 0);
    loop {
        match socket.read(&mut buffer).await? {
            0 => break,
            n => got += n,
        }
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), relay.cpu().await?.saturating_sub(cpu).as_secs_f64());
    let grown = status("VmHWM:")?.saturating_sub(before);
    let megabytes = got as f64 / f64::from(1 << 20);
    println!(
        "a body of {megabytes:.0} MB: {:.0} MB/s by the clock, {:.0} MB for each second of one core, memory grew by {:.1} MB at most",
        megabytes / took,
        megabytes / cpu,
        grown as f64 / 1024.0
    );
    Ok(())
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[tokio::main]
async fn main() -> Fallible<()> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let base = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = listener.local_addr()?;
    let (closed, mut told) = unbounded_channel();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(serve(socket, base, closed.clone()));
        }
    });
    let relay = Relay::start(upstream)?;
    println!("load {} at the start", load());
    // A cold pool lets calls go slowly; figures are those of a warm one.
    calls(&relay, CALLERS).await?;
    tokio::time::sleep(Duration::from_secs(30)).await;
    latency(upstream, &relay, base).await?;
    calls(&relay, CALLS).await?;
    aborts(&relay, &mut told).await?;
    long_body(&relay).await?;
    println!("load {} at the end", load());
    Ok(())
}
