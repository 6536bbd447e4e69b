//! Calls of workers on other machines: who may make them, and what they are for.
//!
//! Owns which tasks are known to run. Must not know how a call is admitted or booked: that is the same for all. Its one
//! surprise: nothing is believed of another machine but its token; a call that says which attempt it is for waits until the
//! room knows of that attempt, so that task, goal and day pay for it as for any other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::{Request, Response, StatusCode, body::Incoming};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    Duty, Identity, Shared, headers,
    invite::Invitations,
    listen::{Connection, Serve},
    lock,
    refusal::Refusal,
    relay::{self, Answer},
};
use crate::model::{AttemptRef, TaskRef, text};

/// How long the room may take to hear of an attempt that calls already.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// Refusals of strangers are told at most so often: they must not fill a disk.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What runs, wherever it does.
#[derive(Debug, Default)]
pub(super) struct Running {
    tasks: Mutex<HashMap<TaskRef, Duty>>,
    begun: Notify,
}

impl Running {
    pub(super) fn begin(&self, duty: Duty) {
        lock(&self.tasks).insert(duty.task.clone(), duty);
        self.begun.notify_waiters();
    }

    pub(super) fn end(&self, task: &TaskRef) -> bool {
        lock(&self.tasks).remove(task).is_some()
    }

    fn get(&self, attempt: &AttemptRef) -> Option<Duty> {
        lock(&self.tasks).get(&attempt.task).filter(|duty| duty.attempt == Some(attempt.n)).cloned()
    }

    /// What an attempt is for, as soon as that is known.
    async fn find(&self, attempt: &AttemptRef) -> Option<Duty> {
        let end = Instant::now() + HEARD_WITHIN;
        loop {
            let begun = self.begun.notified();
            tokio::pin!(begun);
            // From here on no beginning is missed.
            begun.as_mut().enable();
            let found = self.get(attempt);
            if found.is_some() || timeout_at(end, begun).await.is_err() {
                return found;
            }
        }
    }
}

/// Who answers calls from elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Elsewhere {
    shared: Arc<Shared>,
    invitations: Invitations,
    strangers: Arc<Mutex<Strangers>>,
}

#[derive(Debug, Default)]
struct Strangers {
    told: Option<Instant>,
    since: u64,
}

impl Elsewhere {
    pub(super) fn new(shared: Arc<Shared>, invitations: Invitations) -> Self {
        Self { shared, invitations, strangers: Arc::default() }
    }

    fn note_stranger(&self) {
        let mut strangers = lock(&self.strangers);
        strangers.since += 1;
        let now = Instant::now();
        if strangers.told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            tracing::warn!(refused = strangers.since, "the gateway refused calls from elsewhere without an invitation");
            *strangers = Strangers { told: Some(now), since: 0 };
        }
    }
}

impl Serve for Elsewhere {
    async fn serve(&self, connection: Arc<Connection>, mut request: Request<Incoming>) -> Response<Answer> {
        if let Some(refused) = relay::browsed(request.headers()) {
            return refused.answer();
        }
        let Some(agent) = headers::token(request.headers()).and_then(|token| self.invitations.find(token)) else {
            self.note_stranger();
            return relay::no_token();
        };
        connection.proven();
        if relay::is_greeting(&request) {
            return relay::greeted();
        }
        let said = request.headers_mut().remove(headers::ATTEMPT);
        let attempt = said.as_ref().and_then(headers::attempt);
        let duty = match attempt {
            Some(attempt) if attempt.task.agent != agent => {
                let why = format!("this invitation is for {agent} only");
                return Refusal::new(StatusCode::FORBIDDEN, "permission_error", why).answer();
            }
            Some(attempt) => {
                let Some(duty) = self.shared.running.find(&attempt).await else {
                    let attempt = attempt.to_string();
                    let why = format!("the room does not know that {} runs", text::clip(&attempt, 200));
                    return Refusal::later(why).answer();
                };
                Some(duty)
            }
            None if request.uri().path() == relay::MESSAGES => {
                let why = "a call from another machine says which attempt it is for";
                return Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", why).answer();
            }
            None => None,
        };
        relay::answer(self.shared.clone(), Identity::Elsewhere { agent, duty }, request).await
    }
}
