//! Something between the gateway and the stand-in of the API that sees every request as it goes out, and answers some of
//! them itself.

use std::sync::{Arc, Mutex};

use super::stage::*;

/// A request as it reaches the API.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn is_call(&self) -> bool {
        self.head.starts_with("POST /v1/messages?") || self.head.starts_with("POST /v1/messages ")
    }
}

/// What becomes of a model call.
pub(crate) enum Does {
    /// The stand-in answers.
    Pass,
    /// The stand-in answers, and hears of it only after so long.
    PassAfter(Duration),
    /// It is answered here: status line, JSON.
    Refuse(&'static str, serde_json::Value),
}

/// Decides about model calls, which are counted from 1.
type Rule = Box<dyn FnMut(usize) -> Does + Send>;

pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _serving: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr, rule: impl FnMut(usize) -> Does + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(rule)));
        let mut serving = JoinSet::new();
        let all = seen.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(connection(socket, to, all.clone(), rule.clone()));
            }
        });
        Self { addr, seen, _serving: serving }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The model calls among them.
    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| seen.is_call()).count()
    }
}

async fn connection(mut socket: TcpStream, to: SocketAddr, all: Arc<Mutex<Vec<Seen>>>, rule: Arc<Mutex<Rule>>) {
    while let Some((head, body)) = request(&mut socket).await {
        let seen = Seen { head, body: String::from_utf8_lossy(&body).into_owned() };
        let number = {
            let mut all = all.lock().unwrap();
            all.push(seen.clone());
            all.iter().filter(|seen| seen.is_call()).count()
        };
        let does = if seen.is_call() { (rule.lock().unwrap())(number) } else { Does::Pass };
        match does {
            Does::Pass => {}
            Does::PassAfter(wait) => tokio::time::sleep(wait).await,
            Does::Refuse(status, error) => {
                let (kind, body) = ("content-type: application/json", error.to_string());
                let answer = format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                // Whoever asked may be gone: then there is nobody to answer.
                if socket.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
        }
        let Ok(mut api) = TcpStream::connect(to).await else { return };
        let head = seen.head.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        if api.write_all(&[head.as_bytes(), &body].concat()).await.is_ok() {
            drop(tokio::io::copy(&mut api, &mut socket).await);
        }
        // The stand-in has said that this was the last answer.
        return;
    }
}

/// The next request of a connection; none where it has ended.
async fn request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let at = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(at);
    let head = String::from_utf8(bytes).ok()?;
    let length = header(&head, "content-length").map_or(0, |n| n.parse().unwrap());
    while body.len() < length {
        if socket.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}
