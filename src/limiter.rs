//! Admission: three token buckets per model group, one door in front of them.
//!
//! Owns the buckets, the queue before them and what was learned from the server. Must not know HTTP, tokens of workers
//! or prices; time is tokio's. Its one surprise: [`Limiter::admit`] only sets an estimate aside, in all three buckets or
//! none; the buckets are charged when the real numbers are known ([`Lease::answered`], [`Lease::counted`],
//! [`Lease::settle`]). A lease that is dropped is charged what it had set aside, so a crash errs on the safe side.

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
/// After how many good answers an overloaded server gets one call more at once.
const GOOD_ANSWERS: u32 = 5;
/// As many calls at once are no restriction any more.
const ENOUGH_AT_ONCE: u32 = 32;
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
    server: Option<(u64, Timestamp)>,
    learned: bool,
}

impl Gauge {
    fn new(dimension: Dimension, limit: u32) -> Self {
        Self { dimension, bucket: Bucket::new(limit, limit), server: None, learned: false }
    }

    /// Makes the bucket `share` thousandths of `limit` large.
    fn fit(&mut self, limit: u32, share: u64) {
        let limit = limit.max(1);
        let burst = u32::try_from(u64::from(limit) * share / 1_000).unwrap_or(u32::MAX).max(1);
        if (self.bucket.limit(), self.bucket.burst()) != (limit, burst) {
            self.bucket.resize(limit, burst);
        }
    }
}

/// What a lease has set aside in each bucket; what is charged already is 0 here.
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
    /// Input set aside by calls whose answer has begun: the server has counted it, we have not.
    answered_input: u64,
    /// Counts the server's readings that lowered the input's level.
    lowered: u64,
    in_flight: u32,
    queued: u32,
    /// The server asked for silence until then.
    held_until: Option<Instant>,
    /// Size of a full bucket in thousandths of its limit, and when that was set.
    share: (u64, Instant),
    /// Calls at once, while the server is overloaded, and good answers since that was set.
    at_once: Option<(u32, u32)>,
    throttled: VecDeque<Instant>,
}

impl State {
    fn new(limit: Limit) -> Self {
        Self {
            requests: Gauge::new(Dimension::Requests, limit.requests),
            input: Gauge::new(Dimension::Input, limit.input),
            output: Gauge::new(Dimension::Output, limit.output),
            answered_input: 0,
            lowered: 0,
            in_flight: 0,
            queued: 0,
            held_until: None,
            share: (1_000, Instant::now()),
            at_once: None,
            throttled: VecDeque::new(),
        }
    }

    fn gauges(&self) -> [&Gauge; 3] {
        [&self.requests, &self.input, &self.output]
    }

    /// Looks at everything that can hold a call back: what may be set aside for it, or the longest wait and whether the
    /// server asked for it.
    fn probe(&mut self, ask: Ask) -> Result<Held, (Duration, bool)> {
        let now = Instant::now();
        if let Some(until) = self.held_until {
            if until > now {
                return Err((until - now, true));
            }
            self.held_until = None;
        }
        self.regrow(now);
        if self.at_once.is_some_and(|(most, _)| self.in_flight >= most) {
            return Err((Duration::from_secs(1), false));
        }
        let held =
            Held { requests: 1, input: self.input.bucket.fit(ask.input), output: self.output.bucket.fit(ask.output) };
        let each = [(&self.requests, held.requests), (&self.input, held.input), (&self.output, held.output)];
        match each.iter().filter_map(|(gauge, n)| gauge.bucket.probe(*n).err()).max() {
            Some(wait) => Err((wait, false)),
            None => Ok(held),
        }
    }

    /// Sets aside in all three buckets or none.
    fn take(&mut self, ask: Ask) -> Result<Held, (Duration, bool)> {
        let held = self.probe(ask)?;
        self.requests.bucket.reserve(held.requests);
        self.input.bucket.reserve(held.input);
        self.output.bucket.reserve(held.output);
        self.in_flight += 1;
        Ok(held)
    }

    fn regrow(&mut self, now: Instant) {
        let (share, since) = self.share;
        let minutes = (now - since).as_secs() / 60;
        if share < 1_000 && minutes > 0 {
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

    /// Counts an answer 429 or 529.
    fn count_throttled(&mut self) {
        self.throttled.push_back(Instant::now());
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        while self.throttled.front().is_some_and(|at| now - *at >= REMEMBERED) {
            self.throttled.pop_front();
        }
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
            let (wait, by_server) = group.state().probe(ask).err().unwrap_or_default();
            return Err(refuse(wait, by_server));
        };
        loop {
            let freed = group.freed.notified();
            let taken = group.state().take(ask);
            let (wait, by_server) = match taken {
                Ok(held) => {
                    drop(turn);
                    drop(queued);
                    return Ok(Lease { group: group.clone(), held, input: 0, lowered: 0, open: true });
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

    /// Takes over what the server says about a pool, in the head of an answer whose lease knows that it is answered.
    pub fn learn(&self, pool: &Pool, readings: &Readings, at: Timestamp) {
        let group = self.group(pool);
        let mut state = group.state();
        let share = state.share.0;
        let State { requests, input, output, answered_input, lowered, .. } = &mut *state;
        // The server counts a request and its input when it arrives, and output while it is produced. So input of
        // answered calls, which we still have to charge, is missing from what it says is left.
        let each =
            [(requests, readings.requests, 0), (input, readings.input, *answered_input), (output, readings.output, 0)];
        for (gauge, reading, counted_there) in each {
            if let Some(limit) = reading.limit.filter(|n| *n > 0) {
                gauge.fit(u32::try_from(limit).unwrap_or(u32::MAX), share);
                gauge.learned = true;
            }
            if let Some(left) = reading.remaining {
                let news = gauge.bucket.lower_to(left.saturating_add(counted_there));
                *lowered += u64::from(news && counted_there > 0);
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
        state.count_throttled();
        if let Some(wait) = retry_after {
            let until = now + wait.min(HELD_AT_MOST);
            state.held_until = Some(state.held_until.map_or(until, |held| held.max(until)));
        }
        // One refusal of a volley says as much as all of it: shrink at most once a second.
        let (share, since) = state.share;
        let shrunk_just_now = share < 1_000 && now - since < Duration::from_secs(1);
        if !shrunk_just_now && state.gauges().iter().all(|gauge| gauge.bucket.level() > 0) {
            state.share = ((share * SHRINK / 1_000).max(SMALLEST), now);
            state.fit();
        }
        drop(state);
        group.stirred();
    }

    /// The server is overloaded (529, or the like in mid-stream): half as many calls at once, one more after every
    /// fifth good answer.
    pub fn overloaded(&self, pool: &Pool) {
        let group = self.group(pool);
        let mut state = group.state();
        state.count_throttled();
        let most = state.at_once.map_or(state.in_flight, |(most, _)| most.min(state.in_flight));
        state.at_once = Some(((most / 2).max(1), 0));
        drop(state);
        group.stirred();
    }

    /// A call was answered well.
    pub fn went_well(&self, pool: &Pool) {
        let group = self.group(pool);
        let mut state = group.state();
        if state.at_once.is_none() {
            return;
        }
        state.at_once = state.at_once.and_then(|(most, good)| match good + 1 {
            GOOD_ANSWERS if most >= ENOUGH_AT_ONCE => None,
            GOOD_ANSWERS => Some((most + 1, 0)),
            good => Some((most, good)),
        });
        drop(state);
        group.stirred();
    }

    /// Something changed that is shown beside the levels.
    pub fn stirred(&self) {
        self.0.changed.notify_one();
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
                level: gauge.bucket.level(),
                reserved: gauge.bucket.reserved(),
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
                && state.gauges().iter().all(|gauge| gauge.bucket.is_full())
        })
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

/// What an admitted call holds until it ends. Dropping it ends the call and charges what it still had set aside.
#[derive(Debug)]
pub struct Lease {
    group: Arc<Group>,
    held: Held,
    /// Input charged so far.
    input: u64,
    /// [`State::lowered`] when the answer began.
    lowered: u64,
    open: bool,
}

impl Lease {
    /// The answer has begun: the request is charged, and the server's readings include this call from now on.
    pub fn answered(&mut self) {
        let requests = std::mem::take(&mut self.held.requests);
        if requests > 0 {
            let mut state = self.group.state();
            state.requests.bucket.release(requests);
            state.requests.bucket.spend(u64::from(requests));
            state.answered_input += u64::from(self.held.input);
            self.lowered = state.lowered;
        }
    }

    /// The server says how much uncached input this call has: charged at once, since a stream may last for minutes.
    pub fn counted(&mut self, input: u64) {
        self.answered();
        let held = std::mem::take(&mut self.held.input);
        let mut state = self.group.state();
        state.input.bucket.release(held);
        state.answered_input = state.answered_input.saturating_sub(u64::from(held));
        // Where a reading has lowered the level with this call's guess added back, that guess is what must go again.
        let input = if state.lowered > self.lowered { input.max(u64::from(held)) } else { input };
        // A later number replaces the earlier one; only what came on top is new.
        state.input.bucket.spend(input.saturating_sub(self.input));
        drop(state);
        self.input = self.input.max(input);
        self.group.stirred();
    }

    /// Ends the call with what it really used, in tokens.
    pub fn settle(mut self, used: Ask) {
        self.counted(used.input);
        self.close(used.output);
    }

    /// Ends a call that never reached the server, which counted nothing.
    pub fn refund(mut self) {
        let Held { requests, input, output } = std::mem::take(&mut self.held);
        let mut state = self.group.state();
        state.requests.bucket.release(requests);
        state.input.bucket.release(input);
        state.output.bucket.release(output);
        drop(state);
        self.close(0);
    }

    fn close(&mut self, output: u64) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let held = std::mem::take(&mut self.held.output);
        let mut state = self.group.state();
        state.output.bucket.release(held);
        state.output.bucket.spend(output);
        state.in_flight -= 1;
        drop(state);
        self.group.stirred();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.open {
            self.counted(u64::from(self.held.input));
            self.close(u64::from(self.held.output));
        }
    }
}

#[cfg(test)]
mod tests;
