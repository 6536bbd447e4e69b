//! One client per caller: sends, waits as asked, repeats while nothing has been heard yet.

use std::{error::Error as _, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    error::ApiError,
    sse::Decoder,
    types::{ErrorBody, ErrorDetail, Event, Reply, Request, WireMessage},
};

/// The version of the API that we speak.
pub const VERSION: &str = "2023-06-01";

/// Where to call, as whom, and how patiently.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Scheme, host and port, without `/v1/messages`.
    pub base_url: String,
    /// The key, or the gateway's token for this caller.
    pub token: SecretString,
    /// Sent as `x-claude-code-session-id`, by which the gateway joins a call to an attempt.
    pub session_id: Option<String>,
    /// Repeats allowed after the first try.
    pub retries: usize,
    /// The first wait; each later one is twice as long, up to half a minute.
    pub first_wait: Duration,
    /// A server that asks for more than this gets no second try: the caller has better things to do.
    pub longest_wait: Duration,
    /// The longest silence before a connection counts as dead.
    pub silence: Duration,
}

impl Settings {
    /// Two repeats, waits from half a second, silence of five minutes.
    pub fn new(base_url: impl Into<String>, token: SecretString) -> Self {
        Self {
            base_url: base_url.into(),
            token,
            session_id: None,
            retries: 2,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_mins(1),
            silence: Duration::from_mins(5),
        }
    }
}

/// What a caller hears while an answer is on its way.
#[derive(Debug)]
pub enum Heard<'a> {
    /// A try has failed; another follows after the wait.
    Retrying(Retry<'a>),
    /// One event, read and as it came.
    Event {
        /// The event.
        event: &'a Event,
        /// Its data, unchanged.
        data: &'a str,
        /// The server's id of the request.
        request_id: Option<&'a str>,
    },
}

/// A failed try that will be repeated.
#[derive(Debug)]
pub struct Retry<'a> {
    /// Its number, from 1.
    pub attempt: usize,
    /// Repeats allowed.
    pub allowed: usize,
    /// The wait before the next.
    pub wait: Duration,
    /// Why it failed.
    pub error: &'a ApiError,
}

/// What is left of a caller's patience: the waits that may still be taken.
struct Patience {
    waits: ExponentialBackoff,
    longest: Duration,
    tries: usize,
}

/// Another try is worth it.
struct Again {
    tries: usize,
    wait: Duration,
    error: ApiError,
}

impl Patience {
    /// The wait before the next try; the error itself when it will not pass, an event was handed on, the server asks for
    /// too long a wait, or no try is left.
    fn after(&mut self, error: ApiError, heard: bool) -> Result<Again, ApiError> {
        self.tries += 1;
        let asked = error.retry_after().unwrap_or_default();
        if heard || !error.is_passing() || asked > self.longest {
            return Err(error);
        }
        let Some(wait) = self.waits.next().map(|wait| wait.max(asked)) else { return Err(error) };
        tracing::debug!(tries = self.tries, ?wait, %error, "the call is repeated");
        Ok(Again { tries: self.tries, wait, error })
    }
}

/// A client of the Messages API.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    settings: Settings,
}

impl Client {
    /// Prepares a client; nothing is sent yet.
    pub fn new(settings: Settings) -> Result<Self, ApiError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error means that somebody else was faster, which is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let mut headers = HeaderMap::new();
        let mut token = HeaderValue::from_str(settings.token.expose_secret()).or(Err(ApiError::Header("API key")))?;
        token.set_sensitive(true);
        headers.insert("x-api-key", token);
        headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
        if let Some(session) = &settings.session_id {
            let session = HeaderValue::from_str(session).or(Err(ApiError::Header("session id")))?;
            headers.insert(HeaderName::from_static("x-claude-code-session-id"), session);
        }
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("podium/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(15))
            .read_timeout(settings.silence)
            .tcp_keepalive(Duration::from_secs(30));
        let base = settings.base_url.trim_end_matches('/');
        if is_loopback(base) {
            builder = builder.no_proxy();
        }
        Ok(Self { http: builder.build().map_err(ApiError::Setup)?, url: format!("{base}/v1/messages"), settings })
    }

    /// Asks for an answer in one piece.
    pub async fn message(&self, request: &Request) -> Result<Reply, ApiError> {
        let request = Request { stream: false, ..request.clone() };
        let mut patience = self.patience();
        loop {
            match self.whole(&request).await {
                Ok(reply) => return Ok(reply),
                Err(error) => tokio::time::sleep(patience.after(error, false)?.wait).await,
            }
        }
    }

    /// Asks for an answer as a stream and tells `on_heard` of every event and every wait.
    ///
    /// The answer comes back complete. Once an event has been handed on, nothing is repeated.
    pub async fn stream(&self, request: &Request, mut on_heard: impl FnMut(Heard<'_>)) -> Result<Reply, ApiError> {
        let request = Request { stream: true, ..request.clone() };
        let mut patience = self.patience();
        loop {
            let mut heard = false;
            let mut note = |one: Heard<'_>| {
                heard = true;
                on_heard(one);
            };
            match self.streamed(&request, &mut note).await {
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    let again = patience.after(error, heard)?;
                    on_heard(Heard::Retrying(Retry {
                        attempt: again.tries,
                        allowed: self.settings.retries,
                        wait: again.wait,
                        error: &again.error,
                    }));
                    tokio::time::sleep(again.wait).await;
                }
            }
        }
    }

    fn patience(&self) -> Patience {
        let waits = ExponentialBuilder::new()
            .with_min_delay(self.settings.first_wait)
            .with_max_delay(Duration::from_secs(32))
            .with_max_times(self.settings.retries)
            .with_jitter()
            .build();
        Patience { waits, longest: self.settings.longest_wait, tries: 0 }
    }

    async fn whole(&self, request: &Request) -> Result<Reply, ApiError> {
        let response = self.send(request, "application/json").await?;
        let request_id = header(&response, "request-id");
        let body = response.bytes().await.map_err(|e| ApiError::Cut(causes(&e)))?;
        let message: WireMessage =
            serde_json::from_slice(&body).map_err(|error| ApiError::Unreadable(error.to_string()))?;
        let mut reply = Reply { request_id, ..Reply::default() };
        reply.start(message);
        Ok(reply)
    }

    async fn streamed(&self, request: &Request, note: &mut impl FnMut(Heard<'_>)) -> Result<Reply, ApiError> {
        let mut response = self.send(request, "text/event-stream").await?;
        let mut reply = Reply { request_id: header(&response, "request-id"), ..Reply::default() };
        let mut decoder = Decoder::new();
        while let Some(bytes) = response.chunk().await.map_err(|e| ApiError::Cut(causes(&e)))? {
            let frames = decoder.push(&bytes).map_err(|error| ApiError::Unreadable(error.to_string()))?;
            for frame in frames {
                let event = serde_json::from_str(&frame.data)
                    .map_err(|error| ApiError::Unreadable(format!("event {}: {error}", frame.event)))?;
                if let Event::Error { error } = event {
                    return Err(ApiError::InStream(error));
                }
                reply.apply(&event);
                note(Heard::Event { event: &event, data: &frame.data, request_id: reply.request_id.as_deref() });
                if event == Event::MessageStop {
                    return Ok(reply);
                }
            }
        }
        Err(ApiError::Cut("the stream ended before message_stop".to_owned()))
    }

    async fn send(&self, request: &Request, accept: &'static str) -> Result<Response, ApiError> {
        let sent = self.http.post(&self.url).header(ACCEPT, accept).json(request).send().await;
        let response = sent.map_err(|error| ApiError::Unreachable { url: self.url.clone(), reason: causes(&error) })?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let retry_after = header(&response, "retry-after").and_then(|text| seconds(&text));
        let request_id = header(&response, "request-id");
        let body = response.bytes().await.unwrap_or_default();
        let detail = serde_json::from_slice::<ErrorBody>(&body).map_or_else(
            |_| {
                let text = String::from_utf8_lossy(&body);
                ErrorDetail { message: crate::model::text::first_line(&text, 200), ..ErrorDetail::default() }
            },
            |body| body.error,
        );
        Err(ApiError::Status { status, detail, retry_after, request_id })
    }
}

/// Seconds as `retry-after` gives them; a date is passed over, no server of this API sends one.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// An error with everything below it, which is where reqwest keeps the part that helps; without the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { "no connection".to_owned() };
    if error.is_body() || error.is_decode() {
        "the connection broke".clone_into(&mut text);
    }
    let mut below = error.source();
    while let Some(cause) = below {
        let line = cause.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        below = cause.source();
    }
    text
}

/// Whether a base URL points at this machine, so that no proxy must be asked.
fn is_loopback(base: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(base) else { return false };
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|a| a.is_loopback()),
        None => false,
    }
}
