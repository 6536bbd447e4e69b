//! One request, from its head to its row.
//!
//! Refuses what may not pass, waits for admission, puts the key on, and hands the answer through piece by piece. Must
//! not store a body. Its one surprise: [`Record`] ends in `Drop`; every way out, also a future that is dropped because
//! the client went away, goes through it.

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
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header,
};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    Identity, Notice, Shared,
    budget::{Denied, Guess, Hold},
    headers, lock,
    refusal::{Refusal, unreachable},
    tap::{Seen, Tap},
};
use crate::{
    limiter::{
        self, Ask, Lease, Pool, Readings, Who,
        estimate::{self, Asker},
    },
    model::{
        Modifiers, Usage,
        gateway::{Call, CallEnd, Caller},
        limit::{self, LimitNews, LimitSource, Remedy, Windows},
        text,
    },
};

/// The longest request body, in bytes; the API's own limit.
const BODY_AT_MOST: usize = 32 << 20;
/// How long a request's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_mins(1);
/// Bytes of text per output token, for calls that broke off.
const BYTES_PER_OUTPUT_TOKEN: u64 = 4;

pub(super) type Answer = Either<Full<Bytes>, Relay>;

/// Output tokens that a call may ask for at most, where it does not say.
const OUTPUT_AT_MOST: u64 = 32_000;
/// No model gives more.
const OUTPUT_EVER: u64 = 128_000;
/// The fewest bytes of text per token, for a bound on what a call may cost.
const BYTES_PER_TOKEN_AT_LEAST: u64 = 2;
/// Bytes of text per token, for what it probably costs.
const BYTES_PER_TOKEN: u64 = 3;

/// What the relay must know of a request's body. What is of another type than expected is upstream's matter.
#[derive(Deserialize)]
struct Head {
    model: String,
    #[serde(default, deserialize_with = "lenient")]
    max_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    speed: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    inference_geo: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    output_config: Option<OutputConfig>,
}

#[derive(Deserialize)]
struct OutputConfig {
    effort: Option<String>,
}

fn lenient<'de, D: serde::Deserializer<'de>, T: serde::de::DeserializeOwned>(source: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(source)?).ok())
}

/// Answers one request.
pub(super) async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Answer> {
    // A browser sends `Origin` and a host name of its own choosing; no engine does.
    if request.headers().contains_key(header::ORIGIN) || !headers::is_local_host(request.headers().get(header::HOST)) {
        return refuse(StatusCode::FORBIDDEN, "permission_error", "this gateway serves programs of this machine only");
    }
    let path = request.uri().path();
    if request.method() == Method::HEAD && matches!(path, "/" | "/api/hello") {
        // The engine asks whether anybody is there, without a key; the answer needs no upstream.
        return Response::new(Either::Left(Full::default()));
    }
    let identity = headers::token(request.headers()).and_then(|token| lock(&shared.tokens).find(token));
    let Some(identity) = identity else {
        tracing::warn!(path = %text::clip(path, 60), "the gateway refused a call without a valid token");
        return refuse(StatusCode::UNAUTHORIZED, "authentication_error", "invalid x-api-key");
    };
    let models = path == "/v1/models" || path.starts_with("/v1/models/");
    let takes = if models { Method::GET } else { Method::POST };
    let counted = path == "/v1/messages";
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

/// A model call: admitted, relayed, metered, booked.
async fn call(shared: Arc<Shared>, identity: Identity, request: Request<Incoming>) -> Response<Answer> {
    let (head, body) = request.into_parts();
    let mut record = Record::new(shared.clone(), &identity, &head.headers);
    let body = match read(body).await {
        Ok(body) => body,
        Err(refused) => return record.refuse(refused),
    };
    let asked = match serde_json::from_slice::<Head>(&body) {
        Ok(head) => head,
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
    let pool = Pool { credential: credential.label.clone(), group: limiter::group(&model).to_owned() };
    record.begin(model, &asked, estimate::weight(&body), pool.clone());
    if let Err(denied) = record.reserve(&asked).await {
        return record.deny(denied);
    }
    match admitted(&shared, &pool, &who(&identity), record.ask).await {
        Ok(lease) => record.lease = Some(lease),
        Err(refused) => return record.refuse(refused),
    }
    record.sent = true;
    let path = head.uri.path_and_query().map_or("/v1/messages", |p| p.as_str());
    let sent = shared.client.post(format!("{}{path}", shared.upstream));
    let sent = sent.headers(headers::upstream(head.headers, credential.key.clone())).body(body).send().await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            let refused = unreachable(&error);
            record.sent = !error.is_connect();
            let answer = refused.answer();
            record.finish(if record.sent { CallEnd::Broken } else { CallEnd::Unreachable }, &Seen::default());
            return answer;
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
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    let sent = shared.client.request(head.method, format!("{}{path}", shared.upstream));
    match sent.headers(headers::upstream(head.headers, credential.key.clone())).body(body).send().await {
        Ok(response) => hand_through(response, None),
        Err(error) => unreachable(&error).answer(),
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
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

fn hand_through(response: reqwest::Response, meter: Option<(Tap, Record)>) -> Response<Answer> {
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

/// How an answer's body came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Upstream finished it.
    Itself,
    /// Upstream broke off.
    Broke,
    /// The caller went away.
    Left,
}

impl Relay {
    fn end(&mut self, ended: Ended) {
        let Some((tap, mut record)) = self.meter.take() else { return };
        let seen = tap.seen(ended == Ended::Itself);
        let end = match (&record.refused, ended) {
            (Some(refused), _) => CallEnd::Refused { status: refused.status },
            (None, _) if seen.error.is_some() => CallEnd::Broken,
            (None, _) if seen.whole => CallEnd::Complete,
            (None, Ended::Itself | Ended::Broke) => CallEnd::Broken,
            (None, Ended::Left) => CallEnd::Aborted,
        };
        record.finish(end, &seen);
    }
}

/// A call's row in the making. Dropped unfinished, it becomes an aborted call.
struct Record {
    shared: Arc<Shared>,
    identity: Identity,
    began: Instant,
    /// `None` once the row is written.
    call: Option<Call>,
    pool: Option<Pool>,
    asker: Asker,
    /// Weight of the request's body in bytes of text.
    bytes: usize,
    ask: Ask,
    lease: Option<Lease>,
    /// What is set aside of the budgets.
    hold: Option<Hold>,
    /// Upstream may have begun to work.
    sent: bool,
    /// The input is charged already.
    counted: bool,
    /// The head of upstream's answer, when it was no success.
    refused: Option<Refused>,
}

/// What the head of an answer says about a refusal.
struct Refused {
    status: u16,
    retry_after: Option<Duration>,
    windows: Option<Windows>,
}

impl Record {
    fn new(shared: Arc<Shared>, identity: &Identity, headers: &header::HeaderMap) -> Self {
        let word = |name| headers::text(headers, name).map(str::to_owned);
        let (session_id, subagent) = (word("x-claude-code-session-id"), word("x-claude-code-agent-id"));
        let caller = shared.caller(identity, session_id.as_deref());
        let who = match &caller {
            Caller::Worker { agent, .. } => agent.to_string(),
            Caller::Orchestrator { .. } => String::new(),
        };
        let session = session_id.as_ref().map(|session| format!("{session} {}", subagent.as_deref().unwrap_or("")));
        let call = Call {
            session_id,
            subagent,
            parent: word("x-claude-code-parent-agent-id"),
            client_retry: word("x-stainless-retry-count").and_then(|n| n.parse().ok()).filter(|n| *n > 0),
            ..Call::new(Uuid::now_v7().to_string(), shared.clock.now(), caller)
        };
        Self {
            shared,
            identity: identity.clone(),
            began: Instant::now(),
            call: Some(call),
            pool: None,
            asker: Asker { who, model: String::new(), session },
            bytes: 0,
            ask: Ask::default(),
            lease: None,
            hold: None,
            sent: false,
            counted: false,
            refused: None,
        }
    }

    /// The request is known: what will it take?
    fn begin(&mut self, model: String, asked: &Head, bytes: usize, pool: Pool) {
        self.asker.model.clone_from(&model);
        self.bytes = bytes;
        self.pool = Some(pool);
        self.ask = lock(&self.shared.estimator).guess(&self.asker, bytes);
        if let Some(call) = &mut self.call {
            call.model = model;
            let effort = asked.output_config.as_ref().and_then(|config| config.effort.as_deref());
            call.effort = effort.map(|word| text::clip(&text::scrub(word), 40).into_owned());
        }
    }

    /// Sets aside what the call may cost, in every budget that pays for it. Waits where others must come back first.
    async fn reserve(&mut self, asked: &Head) -> Result<(), Denied> {
        let Some(call) = &self.call else { return Ok(()) };
        let modifiers = Modifiers {
            speed: asked.speed.clone().filter(|word| word != "standard"),
            inference_geo: asked.inference_geo.clone(),
            ..Modifiers::default()
        };
        let price = |usage| self.shared.prices.cost(&call.model, &usage, &modifiers, call.at).cost;
        let bytes = self.bytes as u64;
        let likely = price(Usage {
            input_tokens: self.ask.input,
            output_tokens: self.ask.output,
            cache_read_input_tokens: (bytes / BYTES_PER_TOKEN).saturating_sub(self.ask.input),
            ..Usage::default()
        });
        let written = bytes / BYTES_PER_TOKEN_AT_LEAST;
        let most = price(Usage {
            output_tokens: asked.max_tokens.unwrap_or(OUTPUT_AT_MOST).min(OUTPUT_EVER),
            cache_creation_input_tokens: written,
            cache_creation_1h_input_tokens: written,
            ..Usage::default()
        });
        let payers = self.shared.payers(&self.identity, &call.caller);
        let (guess, until) = (Guess { likely, most: most.max(likely) }, self.began + self.shared.patience);
        self.hold = Some(self.shared.book.hold(payers, guess, self.shared.today(), until).await?);
        Ok(())
    }

    /// Answers a call that no budget pays for.
    fn deny(self, denied: Denied) -> Response<Answer> {
        if let Denied::Reached(reached) = &denied {
            self.shared.tell(Notice::Budget(reached.clone()));
        }
        self.refuse(Refusal::denied(denied))
    }

    /// Answers by ourselves and writes the row.
    fn refuse(mut self, refusal: Refusal) -> Response<Answer> {
        self.finish(CallEnd::Refused { status: refusal.status.as_u16() }, &Seen::default());
        refusal.answer()
    }

    /// The head of the answer is here: learns what it says about limits.
    fn answered(&mut self, response: &reqwest::Response) {
        let (status, head) = (response.status(), response.headers());
        if let Some(lease) = &mut self.lease {
            lease.answered();
        }
        if let Some(call) = &mut self.call {
            call.request_id = headers::text(head, "request-id").map(str::to_owned);
        }
        let now = self.shared.clock.now();
        let windows = headers::windows(head, now);
        if !status.is_success() {
            let retry_after = headers::retry_after(head);
            self.refused = Some(Refused { status: status.as_u16(), retry_after, windows: windows.clone() });
        }
        let Some(pool) = &self.pool else { return };
        if let Some(windows) = windows {
            lock(&self.shared.accounts).learn(&pool.credential, windows);
        }
        let readings = headers::readings(head);
        if readings != Readings::default() {
            self.shared.limiter.learn(pool, &readings);
        }
    }

    /// Does what is right about a limit that this call has met, and tells it.
    fn met(&self, seen: &Seen) {
        let Some(pool) = &self.pool else { return };
        let (now, told) = (self.shared.clock.now(), seen.error.clone().unwrap_or_default());
        if self.refused.is_none() && seen.error.is_none() {
            return;
        }
        let refusal = limit::Refusal {
            status: self.refused.as_ref().map(|refused| refused.status),
            kind: &told.kind,
            code: told.code.as_deref(),
            message: &told.message,
            retry_after: self.refused.as_ref().and_then(|refused| refused.retry_after),
            windows: self.refused.as_ref().and_then(|refused| refused.windows.as_ref()),
            subscription: lock(&self.shared.accounts).is_subscription(&pool.credential),
        };
        let Some(meaning) = limit::meaning(&refusal, now) else { return };
        let mut news = LimitNews {
            account: pool.credential.clone(),
            group: (!meaning.kind.closes_account()).then(|| pool.group.clone()),
            kind: meaning.kind,
            until: meaning.until,
            estimated: meaning.estimated,
            source: LimitSource::Gateway,
            message: told.message.clone(),
            at: now,
        };
        match meaning.kind.remedy() {
            Remedy::HoldGroup | Remedy::BackOff => self.shared.limiter.throttled(pool, refusal.retry_after),
            Remedy::FewerAtOnce => self.shared.limiter.overloaded(pool, refusal.retry_after),
            Remedy::ParkAccount | Remedy::StopAccount => self.shared.close(&mut news),
            Remedy::NeverRetry => {}
        }
        self.shared.tell(Notice::Limited(news));
    }

    /// Charges the input as soon as the stream has named it.
    fn counted(&mut self, tap: &Tap) {
        if let (false, Some(lease), Some(input)) = (self.counted, &mut self.lease, tap.uncached_input()) {
            lease.counted(input);
            self.counted = true;
        }
    }

    /// Settles the buckets and writes the row; only the first time counts.
    fn finish(&mut self, end: CallEnd, seen: &Seen) {
        let Some(mut call) = self.call.take() else { return };
        self.met(seen);
        let exact = seen.whole && seen.counted;
        let used = match end {
            CallEnd::Complete | CallEnd::Broken | CallEnd::Aborted => self.sent,
            CallEnd::Refused { .. } | CallEnd::Unreachable => false,
        };
        let mut usage = if used { seen.usage } else { Usage::default() };
        if used && !exact {
            if !seen.counted {
                usage.input_tokens = self.ask.input;
            }
            usage.output_tokens = usage.output_tokens.max(seen.produced as u64 / BYTES_PER_OUTPUT_TOKEN);
        }
        if let (CallEnd::Complete, Some(pool)) = (end, &self.pool) {
            self.shared.limiter.went_well(pool);
            if lock(&self.shared.accounts).worked(&pool.credential, call.at) {
                self.shared.tell(Notice::Opened { account: pool.credential.clone() });
            }
        }
        if let Some(lease) = self.lease.take() {
            if self.sent {
                let input = usage.input_tokens.saturating_add(usage.cache_creation_input_tokens);
                lease.settle(Ask { input, output: usage.output_tokens });
            } else {
                lease.refund();
            }
        }
        if exact {
            lock(&self.shared.estimator).learn(&self.asker, self.bytes, &usage);
        }
        // The room may have heard of the session only after the call began, or have forgotten it since.
        match self.shared.caller(&self.identity, call.session_id.as_deref()) {
            Caller::Worker { attempt: None, .. } | Caller::Orchestrator { goal: None } => {}
            known @ (Caller::Worker { .. } | Caller::Orchestrator { .. }) => call.caller = known,
        }
        call.goal = self.shared.duty(&self.identity, &call.caller).and_then(|duty| duty.goal);
        if let Some(model) = seen.model.clone() {
            let asked = std::mem::replace(&mut call.model, model);
            call.asked = Some(asked).filter(|asked| *asked != call.model);
        }
        call.message_id.clone_from(&seen.message_id);
        call.modifiers = seen.modifiers.clone();
        let priced = self.shared.prices.cost(&call.model, &usage, &call.modifiers, call.at);
        call.estimated = used && (!exact || priced.estimated);
        call.cost = priced.cost;
        if let Some(hold) = self.hold.take() {
            hold.settle(call.cost);
        }
        call.usage = usage;
        call.end = end;
        call.millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.tell(Notice::Call(Box::new(call)));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish(CallEnd::Aborted, &Seen::default());
    }
}
