//! One request, from its head to its answer.
//!
//! Refuses what may not pass, waits for admission, puts the key on, and hands the answer through piece by piece. Must
//! not store a body. Its one surprise: the answer's body carries the call's [`Record`] along, so that whoever drops it
//! ends the call.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{self, HeaderValue},
    http::request::Parts,
};
use tokio::time::timeout;

use super::{
    Identity, Shared, headers,
    listen::{Connection, Serve},
    lock,
    record::{Asked, Ended, Record},
    refusal::{Refusal, unreachable},
    tap::Tap,
};
use crate::{
    limiter::{Ask, Lease, Pool, Who, estimate},
    model::{limit, text},
};

/// The longest request body, in bytes; the API's own limit.
const BODY_AT_MOST: usize = 32 << 20;
/// How long a request's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_mins(1);

pub(super) type Answer = Either<Full<Bytes>, Relay>;

/// Where model calls go.
pub(super) const MESSAGES: &str = "/v1/messages";

/// Who answers calls of this machine.
#[derive(Debug, Clone)]
pub(super) struct Here(pub(super) Arc<Shared>);

impl Serve for Here {
    async fn serve(&self, _connection: Arc<Connection>, request: Request<Incoming>) -> Response<Answer> {
        if let Some(refused) = foreign(request.headers()) {
            return refused.answer();
        }
        if is_greeting(&request) {
            return greeted();
        }
        let identity = headers::token(request.headers()).and_then(|token| lock(&self.0.tokens).find(token));
        let Some(identity) = identity else { return unknown(request.uri().path()) };
        answer(self.0.clone(), identity, request).await
    }
}

/// A browser sends `Origin`; no engine does.
pub(super) fn browsed(headers: &HeaderMap) -> Option<Refusal> {
    let refusal =
        || Refusal::new(StatusCode::FORBIDDEN, "permission_error", "this gateway serves podium's engines only");
    headers.contains_key(header::ORIGIN).then(refusal)
}

/// The same, and what was meant for a host of another name: one of the browser's choosing.
pub(super) fn foreign(headers: &HeaderMap) -> Option<Refusal> {
    let what = "this gateway serves programs of this machine only";
    let refusal = || Refusal::new(StatusCode::FORBIDDEN, "permission_error", what);
    browsed(headers).or_else(|| (!headers::is_local_host(headers.get(header::HOST))).then(refusal))
}

/// The engine asks whether anybody is there, without a key; the answer needs no upstream.
pub(super) fn is_greeting(request: &Request<Incoming>) -> bool {
    request.method() == Method::HEAD && matches!(request.uri().path(), "/" | "/api/hello")
}

pub(super) fn greeted() -> Response<Answer> {
    Response::new(Either::Left(Full::default()))
}

/// Refuses a caller of this machine without a valid token.
pub(super) fn unknown(path: &str) -> Response<Answer> {
    tracing::warn!(path = %text::clip(path, 60), "the gateway refused a call without a valid token");
    no_token()
}

pub(super) fn no_token() -> Response<Answer> {
    refuse(StatusCode::UNAUTHORIZED, "authentication_error", "invalid x-api-key")
}

/// Answers a request of somebody who is known.
pub(super) async fn answer(shared: Arc<Shared>, identity: Identity, request: Request<Incoming>) -> Response<Answer> {
    let path = request.uri().path();
    let models = path == "/v1/models" || path.starts_with("/v1/models/");
    let takes = if models { Method::GET } else { Method::POST };
    let counted = path == MESSAGES;
    if !counted && !models && path != "/v1/messages/count_tokens" {
        let what = "this gateway relays /v1/messages and /v1/models only";
        return refuse(StatusCode::NOT_FOUND, "not_found_error", what);
    }
    if *request.method() != takes {
        let what = format!("this path takes {takes} only");
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", &what);
    }
    if counted { call(shared, identity, request).await } else { pass(shared, &identity, request).await }
}

/// Sends a request on, with `key` in place of the caller's token.
pub(super) async fn onward(
    client: &reqwest::Client,
    upstream: &str,
    head: Parts,
    body: Bytes,
    key: HeaderValue,
) -> reqwest::Result<reqwest::Response> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let sent = client.request(head.method, format!("{upstream}{path}"));
    sent.headers(headers::upstream(head.headers, key)).body(body).send().await
}

/// A model call: admitted, relayed, metered, booked.
async fn call(shared: Arc<Shared>, identity: Identity, request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let mut record = Record::new(shared.clone(), &identity, &head.headers);
    let body = match read(body).await {
        Ok(body) => body,
        Err(refused) => return record.refuse(refused),
    };
    let asked = match serde_json::from_slice::<Asked>(&body) {
        Ok(asked) => asked,
        Err(error) => {
            let why = format!("the body is not a JSON object with a model: {error}");
            return record.refuse(Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", why));
        }
    };
    let Some(credential) = shared.credentials.of(&identity) else {
        let why = format!("podium has no API key for {identity}");
        return record.refuse(Refusal::new(StatusCode::UNAUTHORIZED, "authentication_error", why));
    };
    let model = text::clip(&text::scrub(&asked.model), 100).into_owned();
    let pool = Pool { credential: credential.label.clone(), group: limit::group(&model).to_owned() };
    record.begin(model, &asked, estimate::weight(&body), pool.clone());
    if let Err(denied) = record.reserve(&asked).await {
        return record.deny(denied);
    }
    match admitted(&shared, &pool, &who(&identity), record.ask()).await {
        Ok(lease) => record.go(lease),
        Err(refused) => return record.refuse(refused),
    }
    let response = match onward(&shared.client, &shared.upstream, head, body, credential.key.clone()).await {
        Ok(response) => response,
        Err(error) => {
            record.unanswered(!error.is_connect());
            return unreachable(&error, "podium's upstream").answer();
        }
    };
    record.answered(&response);
    let text = |name| headers::text(response.headers(), name).unwrap_or_default().to_ascii_lowercase();
    let success = response.status().is_success();
    let tap = if success { Tap::new(&text("content-type"), &text("content-encoding")) } else { Tap::Error(Vec::new()) };
    hand_through(response, Some((tap, record)))
}

/// Waits until the account is open and the limiter lets the call pass.
async fn admitted(shared: &Shared, pool: &Pool, who: &Who, ask: Ask) -> Result<Lease, Refusal> {
    let admit = shared.limiter.admit(pool, who, ask);
    tokio::pin!(admit);
    loop {
        let closed = shared.closed.notified();
        tokio::pin!(closed);
        // From here on no closing is missed.
        closed.as_mut().enable();
        open(shared, &pool.credential)?;
        tokio::select! {
            lease = &mut admit => return lease.map_err(Refusal::held),
            () = closed => {}
        }
    }
}

/// Whose share of the buckets a call takes from.
fn who(identity: &Identity) -> Who {
    match identity {
        Identity::Worker(slot) => Who::Agent(slot.agent.clone()),
        Identity::Elsewhere { agent, .. } => Who::Agent(agent.clone()),
        Identity::Orchestrator => Who::Orchestrator,
    }
}

/// Whether calls of an account may pass.
fn open(shared: &Shared, account: &str) -> Result<(), Refusal> {
    let now = shared.clock.now();
    lock(&shared.accounts).closed(account, now).map_or(Ok(()), |news| Err(Refusal::closed(news, now)))
}

/// A count of tokens or a list of models: free, outside of the limits of calls, and no row of the ledger.
async fn pass(shared: Arc<Shared>, identity: &Identity, request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(refused) => return refused.answer(),
    };
    let Some(credential) = shared.credentials.of(identity) else {
        let why = format!("podium has no API key for {identity}");
        return Refusal::new(StatusCode::UNAUTHORIZED, "authentication_error", why).answer();
    };
    if let Err(refused) = open(&shared, &credential.label) {
        return refused.answer();
    }
    match onward(&shared.client, &shared.upstream, head, body, credential.key.clone()).await {
        Ok(response) => hand_through(response, None),
        Err(error) => unreachable(&error, "podium's upstream").answer(),
    }
}

pub(super) async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let too_large =
        || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "the body is larger than 32 MB");
    if body.size_hint().lower() > BODY_AT_MOST as u64 {
        return Err(too_large());
    }
    match timeout(BODY_WITHIN, Limited::new(body, BODY_AT_MOST).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", "the body broke off")),
        Err(_) => {
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout_error", "the body did not arrive within a minute"))
        }
    }
}

fn refuse(status: StatusCode, kind: &'static str, message: &str) -> Response<Answer> {
    Refusal::new(status, kind, message).answer()
}

pub(super) fn hand_through(response: reqwest::Response, meter: Option<(Tap, Record)>) -> Response<Answer> {
    let (status, head) = (response.status(), headers::downstream(response.headers().clone()));
    let mut answer = Response::new(Either::Right(Relay { source: Box::pin(response.bytes_stream()), meter }));
    *answer.status_mut() = status;
    *answer.headers_mut() = head;
    answer
}

/// An answer's body on its way: polled by the connection, so a slow reader slows upstream, and a reader that is gone
/// drops it, which closes upstream at once.
pub(super) struct Relay {
    source: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    meter: Option<(Tap, Record)>,
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = self.source.as_mut().poll_next(context);
        polled.map(|next| match next {
            Some(Ok(piece)) => {
                if let Some((tap, record)) = &mut self.meter {
                    tap.hear(&piece);
                    record.counted(tap);
                }
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => {
                tracing::debug!(error = %text::chain(&error), "upstream broke off in an answer");
                self.end(Ended::Broke);
                Some(Err(error.into()))
            }
            None => {
                self.end(Ended::Itself);
                None
            }
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end(Ended::Left);
    }
}

impl Relay {
    fn end(&mut self, ended: Ended) {
        if let Some((tap, record)) = self.meter.take() {
            record.end(ended, &tap.seen(ended == Ended::Itself));
        }
    }
}
