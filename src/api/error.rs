//! Every way in which a call can fail, and the [`Ending`] each of them is.

use std::time::Duration;

use jiff::Timestamp;

use super::types::ErrorDetail;
use crate::model::{
    Ending,
    budget::Reached,
    limit::{self, LimitKind, Meaning},
};

/// Why there is no answer; follows "could not".
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The HTTP client could not be made.
    #[error("set up an HTTP client: {0}")]
    Setup(#[source] reqwest::Error),
    /// The token has characters that no header may hold.
    #[error("put the {0} into a header: it holds a character that no header may hold")]
    Header(&'static str),
    /// No answer at all: refused, reset, timed out, no such host.
    #[error("reach {url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why, with the causes below it.
        reason: String,
    },
    /// An answer, and it is no.
    #[error("get an answer: {status} {}: {}", detail.kind, detail.message)]
    Status {
        /// The HTTP status.
        status: u16,
        /// What the body said.
        detail: ErrorDetail,
        /// How long the server asked us to wait.
        retry_after: Option<Duration>,
        /// The server's id of the request.
        request_id: Option<String>,
    },
    /// An error event in a stream that began well.
    #[error("get the whole answer: {}: {}", .0.kind, .0.message)]
    InStream(ErrorDetail),
    /// The stream or the body ended early.
    #[error("get the whole answer: {0}")]
    Cut(String),
    /// The answer is not what the API is known to send.
    #[error("read the answer: {0}")]
    Unreadable(String),
}

impl ApiError {
    /// The HTTP status, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Setup(_)
            | Self::Header(_)
            | Self::Unreachable { .. }
            | Self::InStream(_)
            | Self::Cut(_)
            | Self::Unreadable(_) => None,
        }
    }

    /// How long the server asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Setup(_)
            | Self::Header(_)
            | Self::Unreachable { .. }
            | Self::InStream(_)
            | Self::Cut(_)
            | Self::Unreadable(_) => None,
        }
    }

    /// Whether the same request may fare better in a while.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Setup(_) | Self::Header(_) | Self::Unreadable(_) => false,
            Self::Unreachable { .. } | Self::Cut(_) => true,
            Self::Status { status: 429, detail, .. } if detail.kind == "billing_error" => false,
            Self::Status { status, .. } => match self.limit() {
                Some(kind) => matches!(kind, LimitKind::Rate | LimitKind::Throttle | LimitKind::Overloaded),
                None => matches!(status, 408 | 500..),
            },
            Self::InStream(detail) => {
                matches!(&*detail.kind, "rate_limit_error" | "overloaded_error" | "api_error" | "timeout_error")
            }
        }
    }

    /// The word that the Claude Code CLI uses for an error of this kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Setup(_) | Self::Header(_) | Self::Unreadable(_) => "unknown",
            Self::Unreachable { .. } | Self::Cut(_) => "server_error",
            Self::Status { status, .. } => match status {
                _ if self.limit() == Some(LimitKind::Billing) => "billing_error",
                _ if matches!(self.limit(), Some(LimitKind::OwnCap | LimitKind::TierCap)) => "rate_limit",
                401 | 403 => "authentication_failed",
                404 => "model_not_found",
                429 => "rate_limit",
                400..=499 => "invalid_request",
                _ => "server_error",
            },
            Self::InStream(detail) => match &*detail.kind {
                "rate_limit_error" => "rate_limit",
                "overloaded_error" | "api_error" | "timeout_error" => "server_error",
                "invalid_request_error" => "invalid_request",
                _ => "unknown",
            },
        }
    }

    /// Whether prompt and answer are too large for the model or for the API.
    pub fn is_overflow(&self) -> bool {
        match self {
            Self::Status { status, detail, .. } => *status == 413 || detail.message.contains("prompt is too long"),
            Self::Setup(_)
            | Self::Header(_)
            | Self::Unreachable { .. }
            | Self::InStream(_)
            | Self::Cut(_)
            | Self::Unreadable(_) => false,
        }
    }

    /// The ending of an attempt that failed for this reason at `now`.
    pub fn ending(&self, now: Timestamp) -> Ending {
        let message = format!("could not {self}");
        if let Self::Status { detail, .. } = self
            && let Some(ending) = Reached::ending_in(&detail.message)
        {
            return ending;
        }
        if self.is_overflow() {
            return Ending::Overflow { message };
        }
        if let Some(Meaning { kind, until, .. }) = self.meaning(now) {
            return match kind {
                LimitKind::Rate
                | LimitKind::Throttle
                | LimitKind::Window(_)
                | LimitKind::TierCap
                | LimitKind::OwnCap
                | LimitKind::Billing => Ending::Limit { message, until },
                LimitKind::Overloaded => Ending::Transient { message },
                LimitKind::Auth | LimitKind::Forbidden => Ending::Auth { message },
            };
        }
        match self {
            Self::Setup(_) | Self::Header(_) => Ending::Config { message },
            Self::Unreachable { .. } | Self::Cut(_) => Ending::Transient { message },
            Self::Unreadable(_) => Ending::Unreadable { message },
            Self::InStream(_) if self.is_passing() => Ending::Transient { message },
            Self::InStream(_) => Ending::Reported { message },
            Self::Status { status, .. } => match status {
                408 | 409 | 500.. => Ending::Transient { message },
                _ => Ending::Config { message },
            },
        }
    }

    /// The limit that was met at `now`, if it was one.
    fn meaning(&self, now: Timestamp) -> Option<Meaning> {
        let (status, detail, retry_after) = match self {
            Self::Status { status, detail, retry_after, .. } => (Some(*status), detail, *retry_after),
            Self::InStream(detail) => (None, detail, None),
            Self::Setup(_) | Self::Header(_) | Self::Unreachable { .. } | Self::Cut(_) | Self::Unreadable(_) => {
                return None;
            }
        };
        let refusal = limit::Refusal {
            status,
            kind: &detail.kind,
            code: detail.details.as_ref().and_then(|d| d.error_code.as_deref()),
            message: &detail.message,
            retry_after,
            ..limit::Refusal::default()
        };
        limit::meaning(&refusal, now)
    }

    /// Its kind, which is the same at any time.
    fn limit(&self) -> Option<LimitKind> {
        self.meaning(Timestamp::UNIX_EPOCH).map(|meaning| meaning.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::types::ErrorMore, *};

    fn status(status: u16, kind: &str, message: &str) -> ApiError {
        let detail = ErrorDetail { kind: kind.into(), message: message.into(), details: None };
        ApiError::Status { status, detail, retry_after: None, request_id: None }
    }

    #[test]
    fn each_status_ends_an_attempt_in_its_own_way() {
        use crate::model::FailureClass::{Auth, Config, Limit, Overflow, Transient};
        let table = [
            (status(401, "authentication_error", "invalid x-api-key"), Auth, false),
            (status(403, "permission_error", ""), Auth, false),
            (status(404, "not_found_error", "model: x"), Config, false),
            (status(400, "invalid_request_error", "max_tokens: required"), Config, false),
            (status(400, "invalid_request_error", "prompt is too long: 210000 tokens"), Overflow, false),
            (status(400, "invalid_request_error", "Your credit balance is too low"), Limit, false),
            (status(400, "invalid_request_error", "You have reached your specified API usage limits."), Limit, false),
            (status(402, "billing_error", ""), Limit, false),
            (status(413, "request_too_large", ""), Overflow, false),
            (status(429, "rate_limit_error", ""), Limit, true),
            (status(500, "api_error", ""), Transient, true),
            (status(529, "overloaded_error", ""), Transient, true),
        ];
        for (error, class, passing) in table {
            assert_eq!(error.ending(Timestamp::UNIX_EPOCH).class(), Some(class), "{error}");
            assert_eq!(error.is_passing(), passing, "{error}");
        }
    }

    #[test]
    fn a_limit_ends_when_the_server_said_and_a_spend_cap_is_not_waited_out() {
        let detail = ErrorDetail { kind: "rate_limit_error".into(), message: "slow down".into(), details: None };
        let wait = Some(Duration::from_secs(90));
        let limit = ApiError::Status { status: 429, detail: detail.clone(), retry_after: wait, request_id: None };
        let Ending::Limit { until: Some(until), .. } = limit.ending(Timestamp::UNIX_EPOCH) else { panic!() };
        assert_eq!(until.as_second(), 90);
        let details = Some(ErrorMore { error_code: Some("enforced_spend_limit_reached".into()) });
        let cap = ErrorDetail { details, ..detail };
        assert!(!ApiError::Status { status: 429, detail: cap, retry_after: None, request_id: None }.is_passing());
    }
}
