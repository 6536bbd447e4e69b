//! Admission: three token buckets per model group, one door in front of them.
//!
//! Owns the buckets, the queue before them and what was learned from the server. Must not know HTTP, tokens of workers
//! or prices; time is tokio's. Its one surprise: [`Limiter::admit`] only sets an estimate aside, in all three buckets or
//! none; the buckets are charged when the real numbers are known ([`Lease::answered`], [`Lease::counted`],
//! [`Lease::settle`]). A lease that is dropped is charged what it had set aside, so a crash errs on the safe side.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::model::{
    Clock,
    gateway::{Cause, Level, Levels, Waiting},
    limit::OwnLimit,
};

mod bucket;
pub mod estimate;
mod queue;
mod state;

pub use estimate::Estimator;
pub use queue::Who;
use state::{Block, Held, State};

/// The longest retry-after a caller is told while a bucket refills: a client that is told more gives its task up.
const TOLD_AT_MOST: Duration = Duration::from_secs(30);
/// Pools at most; further groups share one per credential.
const POOLS: usize = 64;

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

/// One pool: its buckets, and those who wait for them.
#[derive(Debug)]
struct Group {
    state: Mutex<State>,
    /// Shared by all groups: there is something new to show.
    changed: Arc<Notify>,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not close the door for good; the numbers are whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and lets all go that may go now.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let out = change(&mut state);
        state.let_go(None);
        drop(state);
        self.changed.notify_one();
        out
    }
}

/// All pools. Cheap to clone; clones share.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug, Default)]
struct Groups {
    pools: BTreeMap<Pool, Arc<Group>>,
    /// What an operator has set, by model group, also for pools that are still to come.
    own: BTreeMap<String, OwnLimit>,
}

#[derive(Debug)]
struct Inner {
    limits: BTreeMap<String, Limit>,
    hold: Duration,
    clock: Clock,
    groups: Mutex<Groups>,
    changed: Arc<Notify>,
}

impl Limiter {
    /// Starts with `limits` per model group (others get [`Limit::default`]); a call waits at most `hold`.
    pub fn new(limits: BTreeMap<String, Limit>, hold: Duration, clock: Clock) -> Self {
        Self(Arc::new(Inner { limits, hold, clock, groups: Mutex::default(), changed: Arc::default() }))
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(&self, pool: &Pool) -> Arc<Group> {
        let mut groups = self.groups();
        if let Some(group) = groups.pools.get(pool) {
            return group.clone();
        }
        // Callers choose model names: whoever invents them shares what is left.
        let pool = if groups.pools.len() < POOLS {
            pool.clone()
        } else {
            Pool { credential: pool.credential.clone(), group: "other".to_owned() }
        };
        if let Some(group) = groups.pools.get(&pool) {
            return group.clone();
        }
        let limit = self.0.limits.get(&pool.group).copied().unwrap_or_default();
        let own = groups.own.get(&pool.group).copied().unwrap_or_default();
        let made = Arc::new(Group { state: Mutex::new(State::new(limit, own)), changed: self.0.changed.clone() });
        groups.pools.insert(pool, made.clone());
        made
    }

    fn all(&self) -> Vec<(Pool, Arc<Group>)> {
        self.groups().pools.iter().map(|(pool, group)| (pool.clone(), group.clone())).collect()
    }

    /// Takes over what an operator has set for a model group, on every credential; nothing takes it back.
    pub fn set(&self, group: &str, own: OwnLimit) {
        self.groups().own.insert(group.to_owned(), own);
        for (_, known) in self.all().into_iter().filter(|(pool, _)| pool.group == group) {
            known.change(|state| state.set(own));
        }
    }

    /// Waits for its turn and for all three buckets, then reserves. Dropping the future leaves nothing behind.
    pub async fn admit(&self, pool: &Pool, who: &Who, ask: Ask) -> Result<Lease, Refused> {
        let group = self.group(pool);
        let until = Instant::now() + self.0.hold;
        let (id, door) = group.state().queue.join(who.clone(), ask, self.0.clock.now());
        let place = Place { group: &group, id };
        loop {
            let look = place.look();
            let Some(block) = look.block.filter(|_| !look.may_go) else {
                return place.go(who.clone(), ask).ok_or(refuse(Duration::ZERO, false));
            };
            let (now, by_server) = (Instant::now(), block.cause == Cause::Server);
            // A bucket may be refunded earlier than it says; the server's own word is final.
            if now >= until || (by_server && now + block.wait > until) {
                return Err(refuse(block.wait, by_server));
            }
            group.changed.notify_one();
            // Only the next one watches the time; the others are woken by it.
            let pause = if look.is_next { block.wait.min(until - now) } else { until - now };
            tokio::select! {
                () = door.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Takes over what the server says about a pool, in the head of an answer whose lease knows that it is answered.
    pub fn learn(&self, pool: &Pool, readings: &Readings) {
        let at = self.0.clock.now();
        self.group(pool).change(|state| state.learn(readings, at));
    }

    /// The server refused with 429: silence for `retry_after`, or where it named none, longer each time; and smaller
    /// buckets where ours would have admitted the call.
    pub fn throttled(&self, pool: &Pool, retry_after: Option<Duration>) {
        let at = self.0.clock.now();
        self.group(pool).change(|state| state.throttled(retry_after, at));
    }

    /// The server is overloaded (529, or the like in mid-stream): half as many calls at once, one more after every
    /// fifth good answer; silence for `retry_after` where it asked for it.
    pub fn overloaded(&self, pool: &Pool, retry_after: Option<Duration>) {
        let at = self.0.clock.now();
        self.group(pool).change(|state| state.overloaded(retry_after, at));
    }

    /// A call was answered well.
    pub fn went_well(&self, pool: &Pool) {
        self.group(pool).change(State::went_well);
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
    pub fn levels(&self) -> Levels {
        let now = self.0.clock.now();
        let mut levels = Levels { at: Some(now), ..Levels::default() };
        for (pool, group) in self.all() {
            let mut state = group.state();
            state.regrow(Instant::now());
            let (throttled, overloaded) = state.refusals();
            let blocked = state.blocked(now);
            let group = pool.name();
            levels.in_flight += state.in_flight;
            levels.throttled += throttled;
            levels.overloaded += overloaded;
            levels.waiting.extend(state.queue.by_caller().into_iter().map(|(who, (calls, since))| {
                levels.queued += calls;
                let agent = match who {
                    Who::Orchestrator => None,
                    Who::Agent(agent) => Some(agent),
                };
                Waiting { agent, group: group.clone(), calls, since }
            }));
            levels.buckets.extend(state.gauges().map(|gauge| {
                let here = |block: &Block| block.dimension.is_none_or(|dimension| dimension == gauge.dimension);
                let blocked = blocked.filter(|(block, _)| here(block));
                Level {
                    group: group.clone(),
                    dimension: gauge.dimension,
                    limit: u64::from(gauge.bucket.limit()),
                    burst: u64::from(gauge.bucket.burst()),
                    level: gauge.bucket.level(),
                    reserved: gauge.bucket.reserved(),
                    server: gauge.server,
                    learned: gauge.learned,
                    own: gauge.own.map(u64::from),
                    blocked_until: blocked.and_then(|(_, until)| until),
                    cause: blocked.map(|(block, _)| block.cause),
                }
            }));
        }
        levels
    }

    /// Nothing is in flight, queued, throttled or refilling: the levels stay as they are until the next call.
    pub fn is_at_rest(&self) -> bool {
        self.all().iter().all(|(_, group)| group.state().is_at_rest())
    }
}

fn refuse(wait: Duration, by_server: bool) -> Refused {
    let told = if by_server { wait } else { wait.min(TOLD_AT_MOST) };
    let whole = told.as_secs() + u64::from(told.subsec_nanos() > 0);
    Refused { retry_after: Duration::from_secs(whole.max(1)), by_server }
}

/// A call's place among those who wait. Dropped, it is free again, and so is what had been set aside.
struct Place<'a> {
    group: &'a Arc<Group>,
    id: u64,
}

/// What a waiting call sees.
struct Look {
    may_go: bool,
    is_next: bool,
    /// Why the next one may not go.
    block: Option<Block>,
}

impl Place<'_> {
    /// Lets all go that may, and looks how this one stands.
    fn look(&self) -> Look {
        let mut state = self.group.state();
        let block = state.let_go(Some(self.id));
        let is_next = state.queue.head().is_some_and(|head| head.id == self.id);
        Look { may_go: state.queue.may_go(self.id), is_next, block }
    }

    /// Takes what was set aside along.
    fn go(self, who: Who, ask: Ask) -> Option<Lease> {
        let held = self.group.state().queue.leave(self.id)?;
        let guess = queue::cost(ask);
        Some(Lease { group: self.group.clone(), who, guess, held, input: 0, lowered: 0, open: true })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.group.change(|state| {
            if let Some(held) = state.queue.leave(self.id) {
                state.give_back(held);
            }
        });
    }
}

/// What an admitted call holds until it ends. Dropping it ends the call and charges what it still had set aside.
#[derive(Debug)]
pub struct Lease {
    group: Arc<Group>,
    who: Who,
    /// What its caller's share was charged.
    guess: u64,
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
        let (lowered, known) = (self.lowered, self.input);
        self.input = self.group.change(|state| {
            state.input.bucket.release(held);
            state.answered_input = state.answered_input.saturating_sub(u64::from(held));
            // Where a reading has lowered the level with this call's guess added back, that guess is what must go again.
            let input = if state.lowered > lowered { input.max(u64::from(held)) } else { input };
            // A later number replaces the earlier one; only what came on top is new.
            state.input.bucket.spend(input.saturating_sub(known));
            known.max(input)
        });
    }

    /// Ends the call with what it really used, in tokens.
    pub fn settle(mut self, used: Ask) {
        self.counted(used.input);
        self.close(used.output, queue::cost(used));
    }

    /// Ends a call that never reached the server, which counted nothing.
    pub fn refund(mut self) {
        let held = std::mem::take(&mut self.held);
        {
            let mut state = self.group.state();
            state.requests.bucket.release(held.requests);
            state.input.bucket.release(held.input);
            state.output.bucket.release(held.output);
        }
        self.close(0, 0);
    }

    fn close(&mut self, output: u64, cost: u64) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let held = std::mem::take(&mut self.held.output);
        let (who, guess) = (&self.who, self.guess);
        self.group.change(|state| {
            state.output.bucket.release(held);
            state.output.bucket.spend(output);
            state.queue.correct(who, guess, cost);
            state.ended();
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.open {
            self.counted(u64::from(self.held.input));
            self.close(u64::from(self.held.output), self.guess);
        }
    }
}

#[cfg(test)]
mod tests;
