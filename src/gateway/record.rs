//! A call's row in the making, from the request's head to the ledger.
//!
//! Owns what a call has set aside (buckets, budgets), what its answer teaches, and what it came to. Must not know sockets.
//! Its one surprise: it ends in `Drop`; every way out, also a future that is dropped because the client went away, goes
//! through it, so each call leaves one row and holds nothing.

use std::{sync::Arc, time::Duration};

use hyper::{Response, header::HeaderMap};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Identity, Notice, Shared,
    budget::{Denied, Guess, Hold},
    headers, lock,
    refusal::Refusal,
    relay::Answer,
    tap::{Seen, Tap},
};
use crate::{
    limiter::{Ask, Lease, Pool, Readings, estimate::Asker},
    model::{
        Modifiers, Usage,
        gateway::{Call, CallEnd, Caller},
        limit::{self, LimitNews, LimitSource, Remedy, Windows},
        text,
    },
};

/// Bytes of text per output token, for calls that broke off.
const BYTES_PER_OUTPUT_TOKEN: u64 = 4;
/// Output tokens that a call may ask for at most, where it does not say.
const OUTPUT_AT_MOST: u64 = 32_000;
/// No model gives more.
const OUTPUT_EVER: u64 = 128_000;
/// The fewest bytes of text per token, for a bound on what a call may cost.
const BYTES_PER_TOKEN_AT_LEAST: u64 = 2;
/// Bytes of text per token, for what it probably costs.
const BYTES_PER_TOKEN: u64 = 3;

/// What must be known of a request's body. What is of another type than expected is upstream's matter.
#[derive(Deserialize)]
pub(super) struct Asked {
    pub(super) model: String,
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

/// How an answer's body came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Upstream finished it.
    Itself,
    /// Upstream broke off.
    Broke,
    /// The caller went away.
    Left,
}

/// A call's row in the making. Dropped unfinished, it becomes an aborted call.
pub(super) struct Record {
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
    pub(super) fn new(shared: Arc<Shared>, identity: &Identity, headers: &HeaderMap) -> Self {
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
    pub(super) fn begin(&mut self, model: String, asked: &Asked, bytes: usize, pool: Pool) {
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
    pub(super) async fn reserve(&mut self, asked: &Asked) -> Result<(), Denied> {
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
    pub(super) fn deny(self, denied: Denied) -> Response<Answer> {
        if let Denied::Reached(reached) = &denied {
            self.shared.tell(Notice::Budget(reached.clone()));
        }
        self.refuse(Refusal::denied(denied))
    }

    /// Answers by ourselves and writes the row.
    pub(super) fn refuse(mut self, refusal: Refusal) -> Response<Answer> {
        self.finish(CallEnd::Refused { status: refusal.status.as_u16() }, &Seen::default());
        refusal.answer()
    }

    /// What it is expected to take of its buckets.
    pub(super) fn ask(&self) -> Ask {
        self.ask
    }

    /// It may go, and does.
    pub(super) fn go(&mut self, lease: Lease) {
        self.lease = Some(lease);
        self.sent = true;
    }

    /// Upstream has not answered, whether it was `reached` or not.
    pub(super) fn unanswered(mut self, reached: bool) {
        self.sent = reached;
        self.finish(if reached { CallEnd::Broken } else { CallEnd::Unreachable }, &Seen::default());
    }

    /// The answer's body is over.
    pub(super) fn end(mut self, ended: Ended, seen: &Seen) {
        let end = match (&self.refused, ended) {
            (Some(refused), _) => CallEnd::Refused { status: refused.status },
            (None, _) if seen.error.is_some() => CallEnd::Broken,
            (None, _) if seen.whole => CallEnd::Complete,
            (None, Ended::Itself | Ended::Broke) => CallEnd::Broken,
            (None, Ended::Left) => CallEnd::Aborted,
        };
        self.finish(end, seen);
    }

    /// The head of the answer is here: learns what it says about limits.
    pub(super) fn answered(&mut self, response: &reqwest::Response) {
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
    pub(super) fn counted(&mut self, tap: &Tap) {
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
