//! A gateway, a scripted upstream on loopback, and a caller that speaks HTTP by hand.

pub(crate) use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

pub(crate) use podium::{
    gateway::{Gateway, Identity, Keys, Notice, Purpose, Settings, token_hash},
    ledger::Prices,
    limiter::Limit,
    model::{
        Clock, MicroUsd, SlotId, TaskRef, Usage,
        budget::Caps,
        gateway::{Call, CallEnd, Caller, Dimension, Level, Levels},
        limit::{LimitKind, LimitNews, WindowName},
    },
};
pub(crate) use secrecy::{ExposeSecret, SecretString};
pub(crate) use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
    time::timeout,
};

pub(crate) const REAL_KEY: &str = "sk-ant-the-real-key";
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// One connection from the gateway, played by the test.
pub(crate) struct Upstream {
    pub(crate) socket: TcpStream,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Upstream {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = timeout(SOON, listener.accept()).await.expect("the gateway connects").unwrap();
        let mut upstream = Self::new(socket);
        upstream.request().await;
        upstream
    }

    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, head: String::new(), body: Vec::new() }
    }

    pub(crate) async fn request(&mut self) {
        let (head, rest) = read_head(&mut self.socket).await;
        let length = header(&head, "content-length").map_or(0, |n| n.parse().unwrap());
        assert_eq!(header(&head, "transfer-encoding"), None, "the gateway knows the length");
        self.body = rest;
        while self.body.len() < length {
            assert!(timeout(SOON, self.socket.read_buf(&mut self.body)).await.unwrap().unwrap() > 0);
        }
        self.head = head;
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn chunk(&mut self, text: &str) {
        self.say(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    pub(crate) async fn begin_stream(&mut self, headers: &str) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
        self.say(&format!("{head}{headers}\r\n")).await;
    }

    pub(crate) async fn whole(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.say(&format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}")).await;
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn gone(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(SOON, self.socket.read_to_end(&mut rest)).await.expect("the gateway closes upstream");
        drop(read);
    }
}

pub(crate) async fn read_head(socket: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        assert!(timeout(SOON, socket.read_buf(&mut bytes)).await.expect("a head").unwrap() > 0, "closed before a head");
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return (String::from_utf8(bytes).unwrap(), rest);
        }
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

/// A gateway with one worker's token, and the scripted upstream it talks to.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) notices: UnboundedReceiver<Notice>,
    pub(crate) listener: TcpListener,
    pub(crate) token: SecretString,
}

pub(crate) fn marie() -> Identity {
    Identity::Worker(SlotId { agent: "marie".parse().unwrap(), index: 0 })
}

pub(crate) fn settings(upstream: SocketAddr) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        upstream: format!("http://{upstream}"),
        keys: Keys { default: Some(REAL_KEY.into()), ..Keys::default() },
        limits: BTreeMap::from([("opus".to_owned(), Limit { requests: 100, input: 100_000, output: 20_000 })]),
        hold: Duration::from_secs(45),
        caps: Caps::default(),
        spent_today: MicroUsd(0),
        elsewhere: None,
    }
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        // A second installation in the same process is refused; the first one serves all tests.
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(listener.local_addr().unwrap());
        change(&mut settings);
        let clock = Clock::fixed("2026-11-22T12:00:00Z".parse().unwrap());
        let (tell, notices) = unbounded_channel();
        let tell = move |notice| drop(tell.send(notice));
        let gateway = Gateway::start(settings, Prices::embedded(), clock, tell).await.unwrap();
        let token = gateway.issue_token(marie()).unwrap();
        Self { gateway, notices, listener, token }
    }

    /// Sends a request as an engine would; `headers` end with `\r\n` each.
    pub(crate) async fn post(&self, path: &str, headers: &str, body: &str) -> TcpStream {
        let token = self.token.expose_secret();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {token}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            self.gateway.addr(), body.len()
        ))
        .await
    }

    pub(crate) async fn send(&self, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.gateway.addr()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    /// Waits for the next ended call.
    pub(crate) async fn call(&mut self) -> Call {
        loop {
            match timeout(SOON, self.notices.recv()).await.expect("a call ends").expect("the gateway lives") {
                Notice::Call(call) => return *call,
                Notice::Levels(_) | Notice::Limited(_) | Notice::Opened { .. } | Notice::Budget(_) => {}
            }
        }
    }

    /// Waits for the next limit that was met.
    pub(crate) async fn limited(&mut self) -> LimitNews {
        loop {
            match timeout(SOON, self.notices.recv()).await.expect("a limit is met").expect("the gateway lives") {
                Notice::Limited(news) => return news,
                // A limit is told before its call.
                Notice::Call(_) | Notice::Levels(_) | Notice::Opened { .. } | Notice::Budget(_) => {}
            }
        }
    }

    pub(crate) fn bucket(&self, dimension: Dimension) -> Level {
        let levels = self.gateway.levels();
        levels
            .buckets
            .into_iter()
            .find(|l| l.group == "opus" && l.dimension == dimension)
            .expect("the bucket is in use")
    }

    /// Nothing is held by anybody.
    pub(crate) fn assert_nothing_held(&self) {
        let levels = self.gateway.levels();
        assert_eq!((levels.in_flight, levels.queued), (0, 0));
        assert!(levels.buckets.iter().all(|b| b.reserved == 0), "{levels:?}");
    }
}

/// Reads one chunk of a chunked answer exactly as it was framed.
pub(crate) async fn read_chunk(socket: &mut TcpStream) -> String {
    String::from_utf8(read_chunk_bytes(socket).await).unwrap()
}

async fn read_chunk_bytes(socket: &mut TcpStream) -> Vec<u8> {
    let mut size = Vec::new();
    while !size.ends_with(b"\r\n") {
        let byte = timeout(SOON, socket.read_u8()).await.expect("a chunk in time").unwrap();
        size.push(byte);
    }
    let length = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
    let mut data = vec![0; length + 2];
    timeout(SOON, socket.read_exact(&mut data)).await.unwrap().unwrap();
    assert_eq!(data.split_off(length), b"\r\n");
    data
}

pub(crate) async fn read_answer_head(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(timeout(SOON, socket.read_u8()).await.expect("an answer").unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

pub(crate) async fn read_sized(socket: &mut TcpStream) -> (String, String) {
    let (head, body) = read_sized_bytes(socket).await;
    (head, String::from_utf8(body).unwrap())
}

/// Reads an answer to its end, by its length or chunk by chunk.
pub(crate) async fn read_sized_bytes(socket: &mut TcpStream) -> (String, Vec<u8>) {
    let head = read_answer_head(socket).await;
    let mut body = Vec::new();
    if let Some(length) = header(&head, "content-length") {
        body = vec![0; length.parse().unwrap()];
        timeout(SOON, socket.read_exact(&mut body)).await.unwrap().unwrap();
    } else {
        loop {
            let chunk = read_chunk_bytes(socket).await;
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
    }
    (head, body)
}

pub(crate) const ASK: &str =
    r#"{"model":"claude-opus-5-5", "stream":true,"system":[{"type":"text","text":"x"}],  "unknown_field":[1.50,null]}"#;
pub(crate) const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-opus-5-5\",\"usage\":{\"input_tokens\":100,\"cache_creation_input_tokens\":2000,\"cache_read_input_tokens\":10000,\"output_tokens\":1}}}\n\n";
pub(crate) const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n: still here\n\n";
pub(crate) const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\u{e9}llo\"}}\n\n";
pub(crate) const STOP: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":50}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
