//! Buckets and calls on their way, as `status --json` prints them.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    model::gateway::{Cause, Dimension, Level, Waiting},
    room::State,
};

/// One bucket.
#[derive(Debug, Serialize)]
pub(super) struct LimitJson<'a> {
    group: &'a str,
    dimension: Dimension,
    limit: u64,
    burst: u64,
    level: u64,
    reserved: u64,
    learned: bool,
    /// What an operator has set.
    own: Option<u64>,
    cause: Option<Cause>,
    blocked_until: Option<Timestamp>,
    server_remaining: Option<u64>,
    server_at: Option<Timestamp>,
}

impl<'a> From<&'a Level> for LimitJson<'a> {
    fn from(level: &'a Level) -> Self {
        Self {
            group: &level.group,
            dimension: level.dimension,
            limit: level.limit,
            burst: level.burst,
            level: level.level,
            reserved: level.reserved,
            learned: level.learned,
            own: level.own,
            cause: level.cause,
            blocked_until: level.blocked_until,
            server_remaining: level.server.map(|(left, _)| left),
            server_at: level.server.map(|(_, at)| at),
        }
    }
}

/// Calls of one caller that wait for a bucket.
#[derive(Debug, Serialize)]
struct WaitingJson<'a> {
    caller: &'a str,
    group: &'a str,
    calls: u32,
    since: Timestamp,
}

impl<'a> From<&'a Waiting> for WaitingJson<'a> {
    fn from(waiting: &'a Waiting) -> Self {
        let caller = waiting.agent.as_ref().map_or("orchestrator", |agent| agent.as_str());
        Self { caller, group: &waiting.group, calls: waiting.calls, since: waiting.since }
    }
}

/// What is on its way, waits, or was turned away.
#[derive(Debug, Serialize)]
pub(super) struct CallsJson<'a> {
    in_flight: u32,
    queued: u32,
    waiting: Vec<WaitingJson<'a>>,
    throttled: u32,
    overloaded: u32,
    /// Refused in the last minute by what engines say that call past the gateway.
    observed_429: usize,
    observed_529: usize,
    at: Option<Timestamp>,
}

impl<'a> CallsJson<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Self {
        let levels = &state.levels;
        Self {
            in_flight: levels.in_flight,
            queued: levels.queued,
            waiting: levels.waiting.iter().map(WaitingJson::from).collect(),
            throttled: levels.throttled,
            overloaded: levels.overloaded,
            observed_429: state.accounts.refused(429, now),
            observed_529: state.accounts.refused(529, now),
            at: levels.at,
        }
    }
}
