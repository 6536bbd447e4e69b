//! Admission: three token buckets per model group, one door in front of them.
//!
//! Owns the buckets, the queue before them and what was learned from the server. Must not know HTTP, tokens of workers
//! or prices; time is tokio's. Its one surprise: taking is two steps. [`Limiter::admit`] reserves an estimate from all
//! three buckets or none, [`Lease::settle`] corrects it; a lease that is dropped keeps its cost, so a crash errs on the
//! safe side, and only [`Lease::refund`] says that nothing was used.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use crate::model::{
    Clock,
    gateway::{Dimension, Level, Levels},
};

mod bucket;
pub mod estimate;

use bucket::Bucket;
pub use estimate::Estimator;

/// The longest retry-after a caller is told while a bucket refills: a client that is told more gives its task up.
const TOLD_AT_MOST: Duration = Duration::from_secs(30);
/// The longest hold a server can ask for.
const HELD_AT_MOST: Duration = Duration::from_hours(7 * 24);
/// How much of its size a bucket loses when the server refuses what it would have admitted, in thousandths.
const SHRINK: u64 = 800;
/// The smallest share of the limit that a bucket holds, in thousandths.
const SMALLEST: u64 = 100;
/// How much of the limit a bucket's size wins back per minute, in thousandths.
const REGROW: u64 = 50;
/// Pools at most; further groups share one per credential.
const POOLS: usize = 64;
/// How long a 429 or 529 is counted.
const REMEMBERED: Duration = Duration::from_mins(1);

/// Limits per minute. 0 counts as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests.
    pub requests: u32,
    /// Input tokens that do not come from the cache.
    pub input: u32,
    /// Output tokens.
    pub output: u32,
}

impl Default for Limit {
    /// The provider's lowest ordinary tier.
    fn default() -> Self {
        Self { requests: 1_000, input: 2_000_000, output: 400_000 }
    }
}

/// The bucket group of a model: its family, else its whole name.
pub fn group(model: &str) -> &str {
    ["opus", "sonnet", "haiku", "fable"].into_iter().find(|family| model.contains(family)).unwrap_or(model)
}

/// One set of buckets: a credential's and a model group's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    /// Which credential; empty for the usual one. Shown behind the group.
    pub credential: String,
    /// Model group.
    pub group: String,
}

impl Pool {
    /// The name on screen: `sonnet`, or `sonnet (marie)` for a credential of its own.
    fn name(&self) -> String {
        if self.credential.is_empty() { self.group.clone() } else { format!("{} ({})", self.group, self.credential) }
    }
}

/// What a call is expected to take, in tokens; one request comes on top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// Uncached input.
    pub input: u64,
    /// Output.
    pub output: u64,
}

/// The call cannot start within the time a caller may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When to ask again; whole seconds, at least one.
    pub retry_after: Duration,
    /// The server itself asked for the wait.
    pub by_server: bool,
}

/// One dimension as the server's headers tell it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// The limit per minute.
    pub limit: Option<u64>,
    /// What is left.
    pub remaining: Option<u64>,
}

/// All dimensions as the server's headers tell them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readings {
    /// Requests.
    pub requests: Reading,
    /// Uncached input tokens.
    pub input: Reading,
    /// Output tokens.
    pub output: Reading,
}

/// A bucket with what is known around it.
#[derive(Debug)]
struct Gauge {
    dimension: Dimension,
    bucket: Bucket,
    /// Held by calls in flight.
    reserved: u64,
    server: Option<(u64, Timestamp)>,
    learned: bool,
}

impl Gauge {
    fn new(dimension: Dimension, limit: u32) -> Self {
        Self { dimension, bucket: Bucket::new(limit, limit), reserved: 0, server: None, learned: false }
    }

    fn fit(&mut self, limit: u32, share: u64) {
        let burst = u32::try_from(u64::from(limit.max(1)) * share / 1_000).unwrap_or(u32::MAX).max(1);
        if self.bucket.limit() != limit.max(1) || self.bucket.burst() != burst {
            self.bucket = self.bucket.resized(limit, burst);
        }
    }
}

/// What a lease holds of each bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    requests: u32,
    input: u32,
    output: u32,
}

#[derive(Debug)]
struct State {
    requests: Gauge,
    input: Gauge,
    output: Gauge,
    /// Of what is reserved, the part of calls whose answer has not begun: the server may not have counted it yet.
    unanswered: Held,
    in_flight: u32,
    queued: u32,
    /// The server asked for silence until then.
    held_until: Option<Instant>,
    /// Size of a full bucket in thousandths of its limit, and when that was set.
    share: (u64, Instant),
    throttled: VecDeque<Instant>,
}

impl State {
    fn new(limit: Limit) -> Self {
        Self {
            requests: Gauge::new(Dimension::Requests, limit.requests),
            input: Gauge::new(Dimension::Input, limit.input),
            output: Gauge::new(Dimension::Output, limit.output),
            unanswered: Held::default(),
            in_flight: 0,
            queued: 0,
            held_until: None,
            share: (1_000, Instant::now()),
            throttled: VecDeque::new(),
        }
    }

    fn gauges(&self) -> [&Gauge; 3] {
        [&self.requests, &self.input, &self.output]
    }

    /// Takes everything or nothing; else the longest wait of the four, and whether the server asked for it.
    fn take(&mut self, ask: Ask) -> Result<Held, (Duration, bool)> {
        let now = Instant::now();
        if let Some(until) = self.held_until {
            if until > now {
                return Err((until - now, true));
            }
            self.held_until = None;
        }
        self.regrow(now);
        let least = |tokens: u64, gauge: &Gauge| {
            // Never nothing, or the limiter would be off; never more than a full bucket, or the call would be stuck.
            u32::try_from(tokens).unwrap_or(u32::MAX).clamp(1, gauge.bucket.burst())
        };
        let held = Held { requests: 1, input: least(ask.input, &self.input), output: least(ask.output, &self.output) };
        let each = [(&self.requests, held.requests), (&self.input, held.input), (&self.output, held.output)];
        let wait = each.iter().filter_map(|(gauge, n)| gauge.bucket.probe(*n).err()).max();
        if let Some(wait) = wait {
            return Err((wait, false));
        }
        for (gauge, _) in each {
            gauge.bucket.commit();
        }
        self.requests.reserved += u64::from(held.requests);
        self.input.reserved += u64::from(held.input);
        self.output.reserved += u64::from(held.output);
        self.unanswered.add(held);
        self.in_flight += 1;
        Ok(held)
    }

    fn regrow(&mut self, now: Instant) {
        let (share, since) = self.share;
        if share >= 1_000 {
            return;
        }
        let minutes = (now - since).as_secs() / 60;
        if minutes > 0 {
            self.share = ((share + minutes * REGROW).min(1_000), since + Duration::from_secs(minutes * 60));
            self.fit();
        }
    }

    fn fit(&mut self) {
        let share = self.share.0;
        for gauge in [&mut self.requests, &mut self.input, &mut self.output] {
            gauge.fit(gauge.bucket.limit(), share);
        }
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        while self.throttled.front().is_some_and(|at| now - *at >= REMEMBERED) {
            self.throttled.pop_front();
        }
    }
}

impl Held {
    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
    }

    fn remove(&mut self, other: Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.input = self.input.saturating_sub(other.input);
        self.output = self.output.saturating_sub(other.output);
    }
}

/// One pool: its buckets, and the door in front of them.
#[derive(Debug)]
struct Group {
    state: Mutex<State>,
    /// Held while waiting for the buckets: first come, first served, and nobody overtakes a large call.
    turn: tokio::sync::Mutex<()>,
    /// Something came back: whoever holds the turn looks again.
    freed: Notify,
    /// Shared by all groups: there is something new to show.
    changed: Arc<Notify>,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not close the door for good; the numbers are whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stirred(&self) {
        self.freed.notify_one();
        self.changed.notify_one();
    }
}

/// All pools. Cheap to clone; clones share.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: BTreeMap<String, Limit>,
    hold: Duration,
    groups: Mutex<BTreeMap<Pool, Arc<Group>>>,
    changed: Arc<Notify>,
}

impl Limiter {
    /// Starts with `limits` per model group (others get [`Limit::default`]); a call waits at most `hold`.
    pub fn new(limits: BTreeMap<String, Limit>, hold: Duration) -> Self {
        Self(Arc::new(Inner { limits, hold, groups: Mutex::default(), changed: Arc::default() }))
    }

    fn group(&self, pool: &Pool) -> Arc<Group> {
        let mut groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(pool) {
            return group.clone();
        }
        // Callers choose model names: whoever invents them shares what is left.
        let pool = if groups.len() < POOLS {
            pool.clone()
        } else {
            Pool { credential: pool.credential.clone(), group: "other".to_owned() }
        };
        if let Some(group) = groups.get(&pool) {
            return group.clone();
        }
        let limit = self.0.limits.get(&pool.group).copied().unwrap_or_default();
        let made = Arc::new(Group {
            state: Mutex::new(State::new(limit)),
            turn: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            changed: self.0.changed.clone(),
        });
        groups.insert(pool, made.clone());
        made
    }

    fn all(&self) -> Vec<(Pool, Arc<Group>)> {
        let groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.iter().map(|(pool, group)| (pool.clone(), group.clone())).collect()
    }

    /// Waits for its turn and for all three buckets, then reserves. Dropping the future leaves nothing behind.
    pub async fn admit(&self, pool: &Pool, ask: Ask) -> Result<Lease, Refused> {
        let group = self.group(pool);
        let until = Instant::now() + self.0.hold;
        let queued = Queued::new(&group);
        let Ok(turn) = timeout_at(until, group.turn.lock()).await else {
            let (wait, by_server) = group.state().take_nothing(ask);
            return Err(refuse(wait, by_server));
        };
        loop {
            let freed = group.freed.notified();
            let taken = group.state().take(ask);
            let (wait, by_server) = match taken {
                Ok(held) => {
                    drop(turn);
                    drop(queued);
                    return Ok(Lease { group: group.clone(), held, answered: false, open: true });
                }
                Err(wait) => wait,
            };
            let now = Instant::now();
            // A bucket may be refunded earlier than it says; the server's own word is final.
            if now >= until || (by_server && now + wait > until) {
                return Err(refuse(wait, by_server));
            }
            tokio::select! {
                () = freed => {}
                () = sleep(wait.min(until - now)) => {}
            }
        }
    }

    /// Takes over what the server says about a pool.
    pub fn learn(&self, pool: &Pool, readings: &Readings, at: Timestamp) {
        let group = self.group(pool);
        let mut state = group.state();
        let share = state.share.0;
        let State { requests, input, output, unanswered, .. } = &mut *state;
        // Requests and input are counted by the server when a call arrives, output while it is produced.
        let in_flight = [u64::from(unanswered.requests), u64::from(unanswered.input), output.reserved]
            .map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let each = [(requests, readings.requests), (input, readings.input), (output, readings.output)];
        for ((gauge, reading), in_flight) in each.into_iter().zip(in_flight) {
            if let Some(limit) = reading.limit.filter(|n| *n > 0) {
                gauge.fit(u32::try_from(limit).unwrap_or(u32::MAX), share);
                gauge.learned = true;
            }
            if let Some(left) = reading.remaining {
                gauge.bucket.lower_to(i64::try_from(left).unwrap_or(i64::MAX).saturating_sub(in_flight));
                gauge.server = Some((left, at));
            }
        }
        drop(state);
        group.stirred();
    }

    /// The server refused with 429: silence for `retry_after` where it said so, and smaller buckets where ours would
    /// have admitted the call.
    pub fn throttled(&self, pool: &Pool, retry_after: Option<Duration>) {
        let group = self.group(pool);
        let mut state = group.state();
        let now = Instant::now();
        state.throttled.push_back(now);
        state.forget_old();
        if let Some(wait) = retry_after {
            let until = now + wait.min(HELD_AT_MOST);
            state.held_until = Some(state.held_until.map_or(until, |held| held.max(until)));
        }
        if state.gauges().iter().all(|gauge| gauge.bucket.level() > 0) {
            // One refusal of a volley says as much as all of it: shrink at most once a second.
            let (share, since) = state.share;
            if share >= 1_000 || now - since >= Duration::from_secs(1) {
                state.share = ((share * SHRINK / 1_000).max(SMALLEST), now);
                state.fit();
            }
        }
        drop(state);
        group.stirred();
    }

    /// The server said 529, or the like in mid-stream: counted, nothing else.
    pub fn overloaded(&self, pool: &Pool) {
        let group = self.group(pool);
        let mut state = group.state();
        state.throttled.push_back(Instant::now());
        state.forget_old();
        drop(state);
        group.stirred();
    }

    /// Completes when something changed since it last completed; for one listener.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Every bucket in use, by group, as of now.
    pub fn levels(&self, clock: &Clock) -> Levels {
        let mut levels = Levels { at: Some(clock.now()), ..Levels::default() };
        for (pool, group) in self.all() {
            let mut state = group.state();
            state.forget_old();
            state.regrow(Instant::now());
            levels.in_flight += state.in_flight;
            levels.queued += state.queued;
            levels.throttled += u32::try_from(state.throttled.len()).unwrap_or(u32::MAX);
            levels.buckets.extend(state.gauges().map(|gauge| Level {
                group: pool.name(),
                dimension: gauge.dimension,
                limit: u64::from(gauge.bucket.limit()),
                level: u64::from(gauge.bucket.level()),
                reserved: gauge.reserved,
                server: gauge.server,
                learned: gauge.learned,
            }));
        }
        levels
    }

    /// Nothing is in flight, queued, throttled or refilling: the levels stay as they are until the next call.
    pub fn is_at_rest(&self) -> bool {
        self.all().iter().all(|(_, group)| {
            let mut state = group.state();
            state.forget_old();
            state.in_flight == 0
                && state.queued == 0
                && state.throttled.is_empty()
                && state.share.0 >= 1_000
                && state.gauges().iter().all(|gauge| gauge.bucket.level() == gauge.bucket.burst())
        })
    }
}

impl State {
    /// How long the call would have to wait, without taking.
    fn take_nothing(&self, ask: Ask) -> (Duration, bool) {
        if let Some(until) = self.held_until {
            let wait = until.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return (wait, true);
            }
        }
        let n = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let waits = [(&self.requests, 1), (&self.input, n(ask.input)), (&self.output, n(ask.output))];
        (waits.iter().filter_map(|(gauge, n)| gauge.bucket.probe(*n).err()).max().unwrap_or_default(), false)
    }
}

fn refuse(wait: Duration, by_server: bool) -> Refused {
    let told = if by_server { wait } else { wait.min(TOLD_AT_MOST) };
    let whole = told.as_secs() + u64::from(told.subsec_nanos() > 0);
    Refused { retry_after: Duration::from_secs(whole.max(1)), by_server }
}

/// Counts a call as waiting for as long as it lives.
struct Queued(Arc<Group>);

impl Queued {
    fn new(group: &Arc<Group>) -> Self {
        group.state().queued += 1;
        group.changed.notify_one();
        Self(group.clone())
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.state().queued -= 1;
        self.0.changed.notify_one();
    }
}

/// What an admitted call holds until it ends. Dropping it ends the call and keeps what was reserved as spent.
#[derive(Debug)]
pub struct Lease {
    group: Arc<Group>,
    held: Held,
    answered: bool,
    open: bool,
}

impl Lease {
    /// The answer has begun: from now on the server's readings include this call.
    pub fn answered(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            let mut state = self.group.state();
            state.unanswered.remove(self.held);
        }
    }

    /// Ends the call with what it really used, in tokens.
    pub fn settle(mut self, used: Ask) {
        self.close(|state, held| {
            for (gauge, held, used) in
                [(&state.input, held.input, used.input), (&state.output, held.output, used.output)]
            {
                let used = u32::try_from(used).unwrap_or(u32::MAX);
                if used > held {
                    gauge.bucket.overrun(used - held);
                } else {
                    gauge.bucket.refund(held - used);
                }
            }
        });
    }

    /// Ends a call that never reached the server, which counted nothing.
    pub fn refund(mut self) {
        self.close(|state, held| {
            state.requests.bucket.refund(held.requests);
            state.input.bucket.refund(held.input);
            state.output.bucket.refund(held.output);
        });
    }

    fn close(&mut self, correct: impl FnOnce(&State, Held)) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        self.answered();
        let mut state = self.group.state();
        correct(&state, self.held);
        state.requests.reserved -= u64::from(self.held.requests);
        state.input.reserved -= u64::from(self.held.input);
        state.output.reserved -= u64::from(self.held.output);
        state.in_flight -= 1;
        drop(state);
        self.group.stirred();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close(|_, _| {});
    }
}
