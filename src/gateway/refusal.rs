//! Answers of our own, in the API's shape.
//!
//! Must not know what is relayed. Its one surprise: whoever is refused for good is told so in a header that the engines
//! obey, so that they end instead of asking for minutes.

use http_body_util::{Either, Full};
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use jiff::Timestamp;

use super::{budget::Denied, relay::Answer};
use crate::{
    limiter,
    model::{
        limit::{LimitKind, LimitNews},
        text,
    },
};

/// An answer of our own, in the API's shape.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    kind: &'static str,
    message: String,
    /// Asking again may help.
    retry: bool,
    /// Seconds until then, where that is known.
    after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), retry: false, after: None }
    }

    /// What is missing may be there in a moment.
    pub(super) fn later(why: String) -> Self {
        Self { retry: true, after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", why) }
    }

    /// The call waited for its buckets as long as it may.
    pub(super) fn held(refused: limiter::Refused) -> Self {
        let seconds = refused.retry_after.as_secs();
        let why = if refused.by_server { "the server asked podium to wait" } else { "podium's own limit is used up" };
        let message = format!("{why}; try again in {seconds} s");
        let kind = "rate_limit_error";
        Self { retry: true, after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, kind, message) }
    }

    /// No budget pays for the call: asking again is pointless, unless others may still come back with less.
    pub(super) fn denied(denied: Denied) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let (message, after) = match denied {
            Denied::Reached(reached) => return Self::new(status, "billing_error", reached.refusal()),
            Denied::Busy(payer) => {
                (format!("other calls may use up the budget of the {payer}; they must end first"), 10)
            }
            Denied::Unwritable(why) => {
                (format!("podium's ledger takes no rows ({why}), and without it no budget holds"), 30)
            }
        };
        Self { retry: true, after: Some(after), ..Self::new(status, "rate_limit_error", message) }
    }

    /// The account is closed: asking again before the end is pointless, and the engine must not wait for it either.
    pub(super) fn closed(news: &LimitNews, now: Timestamp) -> Self {
        let (status, kind) = match news.kind {
            LimitKind::Auth | LimitKind::Forbidden => (StatusCode::UNAUTHORIZED, "authentication_error"),
            LimitKind::Billing => (StatusCode::PAYMENT_REQUIRED, "billing_error"),
            LimitKind::Rate
            | LimitKind::Overloaded
            | LimitKind::Throttle
            | LimitKind::Window(_)
            | LimitKind::TierCap
            | LimitKind::OwnCap => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
        };
        let ends = news.ends();
        let about = if news.estimated { "about " } else { "" };
        let when = match news.until {
            Some(_) => format!("until {about}{}", ends.strftime("%Y-%m-%d %H:%M UTC")),
            None => format!("looked at again at {}", ends.strftime("%H:%M UTC")),
        };
        let message = format!("podium holds this account's calls: {}, {when}", news.kind.words());
        let wait = ends.duration_since(now).as_secs().max(1).unsigned_abs();
        Self { after: Some(wait), ..Self::new(status, kind, message) }
    }

    pub(super) fn answer(self) -> Response<Answer> {
        let body = serde_json::json!({"type": "error", "error": {"type": self.kind, "message": self.message}});
        let mut answer = Response::new(Either::Left(Full::from(body.to_string())));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if !self.retry {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        answer
    }
}

/// What a caller hears when `whom` it is sent on to did not answer at all. Never the error's own text, which names hosts
/// and ports.
pub(super) fn unreachable(error: &reqwest::Error, whom: &str) -> Refusal {
    tracing::warn!(error = %text::chain(error), "{whom} did not answer");
    let (status, kind, message) = if error.is_timeout() {
        (StatusCode::GATEWAY_TIMEOUT, "timeout_error", format!("{whom} did not answer in time"))
    } else if error.is_connect() {
        (StatusCode::BAD_GATEWAY, "api_error", format!("{whom} could not be reached"))
    } else {
        (StatusCode::BAD_GATEWAY, "api_error", format!("{whom} broke the connection off"))
    };
    Refusal { retry: true, ..Refusal::new(status, kind, message) }
}
