//! A stand-in of the Messages API on loopback, for a room without a key and for tests.
//!
//! Owns what a rehearsal answers: plans, tasks with and without tools, sub-agents, reports, token counts, limits, and
//! faults on request. Must not know queues, workers or screens; it sees requests and nothing else. Its one surprise: what
//! it says depends on the seed and the request alone, so a restarted stand-in goes on as if it had never been away; only
//! fault counters, the pretended cache and the pretended limits are memory.
//!
//! `[[rehearse:WORD]]` or `[[rehearse:WORD*N]]` in the text of a task makes a fault, N times for that task:
//! `429`, `529`, `500`, `cut` (the stream breaks) and `max_tokens` (once without N); `refuse`, `empty`, `hang`, `slow`,
//! `tool`, `subagent`, `subagents` (three of them) and `nested` (one that asks another; every time without N). In the text of a goal, `plan-prose`, `plan-cut`, `plan-circle` and the other
//! words of `fault.rs` make the plan bad, once without N, so that its repair can be watched.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{Method, Request, Response, body::Incoming, header::RETRY_AFTER, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};

use jiff::Timestamp;

use crate::model::Clock;

mod asked;
mod fault;
mod meter;
mod planner;
mod prose;
mod sample;
mod script;
mod seed;
mod wire;

pub use sample::SAMPLE_GOAL;

/// The most bytes a request may have, as the real API allows.
const LARGEST_REQUEST: usize = 32 * 1024 * 1024;

/// How a stand-in behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Chooses among equally good words and durations.
    pub seed: u64,
    /// 1 takes about half a minute for the sample goal, 0 is as fast as can be.
    pub pace: f64,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The time, for the pretended limits and the pretended cache.
    pub clock: Clock,
}

/// Why there is no stand-in; follows "could not".
#[derive(Debug, thiserror::Error)]
#[error("listen on {addr} for the rehearsal: {source}")]
pub struct ListenError {
    addr: SocketAddr,
    source: io::Error,
}

/// A running stand-in; it ends when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    addr: SocketAddr,
    _server: JoinSet<()>,
}

impl StandIn {
    /// Listens and serves until dropped.
    pub async fn start(settings: Settings) -> Result<Self, ListenError> {
        let failed = |source| ListenError { addr: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let stage = Arc::new(Stage {
            memory: Mutex::new(Memory { faults: fault::Counters::default(), meter: meter::Meter::new(settings.pace) }),
            began: settings.clock.now(),
            settings,
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, stage));
        Ok(Self { addr, _server: server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

struct Memory {
    faults: fault::Counters,
    meter: meter::Meter,
}

struct Stage {
    settings: Settings,
    began: Timestamp,
    memory: Mutex<Memory>,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn serve(listener: TcpListener, stage: Arc<Stage>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: those in use come back.
                tracing::warn!(%error, "the rehearsal could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small pieces may wait for each other");
        }
        let stage = Arc::clone(&stage);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let stage = Arc::clone(&stage);
                async move { Ok::<_, Infallible>(stage.answer(request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a rehearsal connection ended early");
            }
        });
    }
}

impl Stage {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.method() == Method::HEAD {
            return Response::new(wire::empty());
        }
        let path = request.uri().path().to_owned();
        if request.method() != Method::POST || !matches!(&*path, "/v1/messages" | "/v1/messages/count_tokens") {
            return refusal(
                404,
                "not_found_error",
                &format!("{} {path} is not rehearsed", request.method()),
                "req_none",
            );
        }
        let body = match Limited::new(request.into_body(), LARGEST_REQUEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return refusal(413, "request_too_large", &error.to_string(), "req_none"),
        };
        let asked = match asked::Asked::read(&body) {
            Ok(asked) => asked,
            Err(reason) => return refusal(400, "invalid_request_error", &reason, "req_none"),
        };
        if path == "/v1/messages/count_tokens" {
            let body = serde_json::json!({ "input_tokens": asked.tokens() });
            return reply(200, &body, "req_rehearsal_count");
        }
        self.message(&asked)
    }

    fn message(&self, asked: &asked::Asked) -> Response<Body> {
        let now = self.settings.clock.now();
        let directives = asked.directives();
        let key = seed::of(&[&self.settings.seed.to_string(), &asked.task_key()]);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let request_id = memory.meter.next_request_id(self.settings.seed, self.began);
        let due = memory.faults.take(key, &directives);
        if let Some(status) = due.status {
            let headers = memory.meter.headers(&asked.model, now);
            drop(memory);
            let (kind, message) = match status {
                429 => ("rate_limit_error", "This request would exceed the rehearsal's rate limit."),
                529 => ("overloaded_error", "Overloaded"),
                _ => ("api_error", "Internal server error"),
            };
            let mut response = refusal(status, kind, message, &request_id);
            if status == 429 {
                response.headers_mut().insert(RETRY_AFTER, 1.into());
            }
            meter::put(&mut response, headers);
            return response;
        }
        let script = script::Script::write(asked, self.settings.seed, &due);
        let output_tokens = script.tokens();
        let usage = memory.meter.count(asked, output_tokens, now);
        let headers = memory.meter.headers(&asked.model, now);
        drop(memory);
        let performance = wire::Performance {
            id: format!("msg_rehearsal_{:016x}", asked.hash(self.settings.seed)),
            model: asked.model.clone(),
            script,
            usage,
            length: Duration::ZERO,
        };
        let mut response = performance.at(self.settings.pace).perform(asked.stream);
        set(&mut response, "request-id", &request_id);
        meter::put(&mut response, headers);
        response
    }
}

fn set(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

fn reply(status: u16, body: &serde_json::Value, request_id: &str) -> Response<Body> {
    let mut response = Response::new(Full::from(body.to_string()).map_err(io::Error::other).boxed_unsync());
    if let Ok(status) = status.try_into() {
        *response.status_mut() = status;
    }
    set(&mut response, "content-type", "application/json");
    set(&mut response, "request-id", request_id);
    response
}

fn refusal(status: u16, kind: &str, message: &str, request_id: &str) -> Response<Body> {
    let error = serde_json::json!({ "type": kind, "message": message });
    reply(status, &serde_json::json!({ "type": "error", "error": error, "request_id": request_id }), request_id)
}
