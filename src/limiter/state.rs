//! The three buckets of one pool, and everything that may hold a call back.
//!
//! Owns the decision whether a call fits. Must not know how callers wait for it. Its one surprise: agents see each
//! bucket a fifth smaller than the orchestrator does, so that a plan or a report need not wait behind a burst; the rate
//! at which the bucket refills is everybody's all the same.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    Ask, Limit, Reading, Readings,
    bucket::Bucket,
    queue::{Queue, Who},
};
use crate::model::{
    gateway::{Cause, Dimension},
    limit::OwnLimit,
};

/// The longest hold a server can ask for.
pub(super) const HELD_AT_MOST: Duration = Duration::from_hours(7 * 24);
/// A bucket that holds a whole minute's worth, in the thousandths in which sizes are counted.
const WHOLE: u64 = 1_000;
/// How much of its size a bucket loses when the server refuses what it would have admitted, in thousandths.
const SHRINK: u64 = 800;
/// The smallest share of the limit that a bucket holds, in thousandths.
const SMALLEST: u64 = 100;
/// The smallest share that readings alone make of it: below lies what only another's use explains.
const LEAST_READ: u64 = 300;
/// How much of the limit a bucket's size wins back per minute, in thousandths.
const REGROW: u64 = 50;
/// A difference from the server's reading, in thousandths of the limit, that may come of its rounding and ours.
const ROUNDED: u64 = 50;
/// The part of each bucket that is kept for the orchestrator.
const KEPT_PART: u32 = 5;
/// After how many good answers an overloaded server gets one call more at once.
pub(super) const GOOD_ANSWERS: u32 = 5;
/// As many calls at once are no restriction any more.
pub(super) const ENOUGH_AT_ONCE: u32 = 32;
/// Calls at once after a time of rest; one more with every second.
const COLD_AT_ONCE: u32 = 4;
/// After so long without a call a pool is cold: the server takes a sharp rise amiss.
const COLD_AFTER: Duration = Duration::from_mins(5);
/// How long a 429 or 529 is counted.
const REMEMBERED: Duration = Duration::from_mins(1);
/// The longest wait after refusals that name none, in seconds.
const LONGEST_BACKOFF: u64 = 32;

/// A bucket with what is known around it.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) dimension: Dimension,
    pub(super) bucket: Bucket,
    pub(super) server: Option<(u64, Timestamp)>,
    pub(super) learned: bool,
    /// What an operator has set.
    pub(super) own: Option<u32>,
    /// As configured, or as the server said last.
    told: u32,
    /// Size of the full bucket in thousandths of its limit, and when that was set.
    share: (u64, Instant),
}

impl Gauge {
    fn new(dimension: Dimension, told: u32, own: Option<u32>) -> Self {
        let limit = own.unwrap_or(told);
        let share = (WHOLE, Instant::now());
        Self { dimension, bucket: Bucket::new(limit, limit), server: None, learned: false, own, told, share }
    }

    /// The limit in force. What an operator has set lowers what the server says, and takes the place of a guess.
    fn limit(&self) -> u32 {
        match self.own {
            Some(own) if self.learned => own.min(self.told),
            Some(own) => own,
            None => self.told,
        }
    }

    /// Makes the bucket as large as its share of the limit.
    fn fit(&mut self) {
        let limit = self.limit().max(1);
        let burst = u32::try_from(u64::from(limit) * self.share.0 / WHOLE).unwrap_or(u32::MAX).max(1);
        if (self.bucket.limit(), self.bucket.burst()) != (limit, burst) {
            self.bucket.resize(limit, burst);
        }
    }

    fn shrink_to(&mut self, share: u64, least: u64) {
        let share = share.max(least).min(self.share.0);
        self.share = (share, Instant::now());
        self.fit();
    }

    fn regrow(&mut self, now: Instant) {
        let (share, since) = self.share;
        let minutes = (now - since).as_secs() / 60;
        if share < WHOLE && minutes > 0 {
            self.share = ((share + minutes * REGROW).min(WHOLE), since + Duration::from_secs(minutes * 60));
            self.fit();
        }
    }

    /// Takes over what the server says; `counted_there` is charged there and only set aside here. Whether the level is
    /// lower for it.
    fn learn(&mut self, reading: Reading, counted_there: u64, at: Timestamp) -> bool {
        if let Some(limit) = reading.limit.filter(|n| *n > 0) {
            self.told = u32::try_from(limit).unwrap_or(u32::MAX);
            self.learned = true;
            self.fit();
        }
        let Some(left) = reading.remaining else { return false };
        self.server = Some((left, at));
        let left = left.saturating_add(counted_there);
        // Ours is fuller: the server's has run over in the meantime, so it holds less. Or somebody else takes from it,
        // which is as good a reason to keep less in hand.
        let ours = self.bucket.level().saturating_add(self.bucket.reserved());
        let missing = ours.saturating_sub(left).saturating_mul(WHOLE) / u64::from(self.bucket.limit());
        if missing > ROUNDED {
            self.shrink_to(self.share.0.saturating_sub(missing), LEAST_READ);
        }
        self.bucket.lower_to(left)
    }

    /// What a caller must leave in the bucket.
    fn kept(&self, who: &Who) -> u32 {
        match who {
            Who::Orchestrator => 0,
            Who::Agent(_) => self.bucket.burst() / KEPT_PART,
        }
    }

    /// What is set aside for a call that expects `n`.
    fn share(&self, who: &Who, n: u64) -> u32 {
        self.bucket.fit(n).min(self.bucket.burst() - self.kept(who)).max(1)
    }
}

/// What a lease has set aside in each bucket; what is charged already is 0 here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) requests: u32,
    pub(super) input: u32,
    pub(super) output: u32,
}

/// Why a call cannot go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) wait: Duration,
    pub(super) cause: Cause,
    /// The bucket that lacks something; `None` if it is none of them.
    pub(super) dimension: Option<Dimension>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) requests: Gauge,
    pub(super) input: Gauge,
    pub(super) output: Gauge,
    /// Input set aside by calls whose answer has begun: the server has counted it, we have not.
    pub(super) answered_input: u64,
    /// Counts the server's readings that lowered the input's level.
    pub(super) lowered: u64,
    pub(super) in_flight: u32,
    pub(super) queue: Queue,
    /// The server asked for silence until then.
    held_until: Option<(Instant, Timestamp)>,
    /// Refusals without a wait since the last good answer.
    setbacks: u32,
    /// Calls at once, while the server is overloaded, and good answers since that was set.
    at_once: Option<(u32, u32)>,
    /// When the pool was last cold, and when a call was last seen to go or to end.
    warm: Option<(Instant, Instant)>,
    throttled: VecDeque<Instant>,
    overloaded: VecDeque<Instant>,
}

impl State {
    pub(super) fn new(limit: Limit, own: OwnLimit) -> Self {
        Self {
            requests: Gauge::new(Dimension::Requests, limit.requests, own.requests),
            input: Gauge::new(Dimension::Input, limit.input, own.input),
            output: Gauge::new(Dimension::Output, limit.output, own.output),
            answered_input: 0,
            lowered: 0,
            in_flight: 0,
            queue: Queue::default(),
            held_until: None,
            setbacks: 0,
            at_once: None,
            warm: None,
            throttled: VecDeque::new(),
            overloaded: VecDeque::new(),
        }
    }

    pub(super) fn gauges(&self) -> [&Gauge; 3] {
        [&self.requests, &self.input, &self.output]
    }

    /// Looks at everything that can hold a call back: what may be set aside for it, or what holds it back longest.
    pub(super) fn probe(&mut self, who: &Who, ask: Ask) -> Result<Held, Block> {
        let now = Instant::now();
        let none = |wait, cause| Err(Block { wait, cause, dimension: None });
        if let Some((until, _)) = self.held_until.filter(|(until, _)| *until > now) {
            return none(until - now, Cause::Server);
        }
        self.held_until = None;
        self.regrow(now);
        // At least one may always go.
        let kept = |most: u32| if *who == Who::Orchestrator { most } else { most - most / KEPT_PART };
        if self.at_once.is_some_and(|(most, _)| self.in_flight >= kept(most)) {
            return none(Duration::from_secs(1), Cause::Overloaded);
        }
        if let Some((_, more_after)) = self.cold(now).filter(|(most, _)| self.in_flight >= *most) {
            return none(more_after, Cause::ColdStart);
        }
        let held = Held {
            requests: self.requests.share(who, 1),
            input: self.input.share(who, ask.input),
            output: self.output.share(who, ask.output),
        };
        let each = [(&self.requests, held.requests), (&self.input, held.input), (&self.output, held.output)];
        let short = each.iter().filter_map(|(gauge, n)| {
            let wait = gauge.bucket.probe(n.saturating_add(gauge.kept(who))).err()?;
            Some(Block { wait, cause: Cause::Refill, dimension: Some(gauge.dimension) })
        });
        short.max_by_key(|block| block.wait).map_or(Ok(held), Err)
    }

    /// Lets all go that may, the next one first. Whoever is next and may not go yet is woken to watch the time, unless
    /// it is `asking` just now. Why that one may not go.
    pub(super) fn let_go(&mut self, asking: Option<u64>) -> Option<Block> {
        loop {
            let next = self.queue.head()?;
            let (id, who, ask) = (next.id, next.who.clone(), next.ask);
            match self.probe(&who, ask) {
                Ok(held) => {
                    self.requests.bucket.reserve(held.requests);
                    self.input.bucket.reserve(held.input);
                    self.output.bucket.reserve(held.output);
                    let now = Instant::now();
                    self.warm = Some((self.warm().map_or(now, |(since, _)| since), now));
                    self.in_flight += 1;
                    self.queue.grant(id, held);
                }
                Err(block) => {
                    if asking != Some(id)
                        && let Some(next) = self.queue.head()
                    {
                        next.wake();
                    }
                    return Some(block);
                }
            }
        }
    }

    /// Gives back what was set aside for a call that has not gone.
    pub(super) fn give_back(&mut self, held: Held) {
        self.requests.bucket.release(held.requests);
        self.input.bucket.release(held.input);
        self.output.bucket.release(held.output);
        self.ended();
    }

    /// A call is no longer under way.
    pub(super) fn ended(&mut self) {
        self.in_flight -= 1;
        if let Some((_, used)) = &mut self.warm {
            *used = Instant::now();
        }
    }

    /// Since when calls have followed one another, and when the last one was seen; `None` after a rest.
    fn warm(&self) -> Option<(Instant, Instant)> {
        self.warm.filter(|(_, used)| self.in_flight > 0 || used.elapsed() < COLD_AFTER)
    }

    /// How many calls may be under way at once after a rest, and after how long one more; `None` when warm.
    fn cold(&self, now: Instant) -> Option<(u32, Duration)> {
        let Some((since, _)) = self.warm() else {
            return Some((COLD_AT_ONCE, Duration::from_secs(1)));
        };
        let passed = now - since;
        let most = COLD_AT_ONCE.saturating_add(u32::try_from(passed.as_secs()).unwrap_or(u32::MAX));
        let more_after = Duration::from_secs(1).saturating_sub(Duration::from_nanos(passed.subsec_nanos().into()));
        (most < ENOUGH_AT_ONCE).then_some((most, more_after))
    }

    /// Lets the buckets' size grow back.
    pub(super) fn regrow(&mut self, now: Instant) {
        self.each().into_iter().for_each(|gauge| gauge.regrow(now));
    }

    fn each(&mut self) -> [&mut Gauge; 3] {
        [&mut self.requests, &mut self.input, &mut self.output]
    }

    /// Takes over what an operator has set; what was spent stays spent.
    pub(super) fn set(&mut self, own: OwnLimit) {
        for gauge in self.each() {
            gauge.own = own.of(gauge.dimension);
            gauge.fit();
        }
    }

    /// Takes over what the server says in the head of an answer whose lease knows that it is answered.
    pub(super) fn learn(&mut self, readings: &Readings, at: Timestamp) {
        // The server counts a request and its input when it arrives, and output while it is produced. So input of
        // answered calls, which we still have to charge, is missing from what it says is left.
        let counted_there = self.answered_input;
        self.requests.learn(readings.requests, 0, at);
        self.output.learn(readings.output, 0, at);
        let news = self.input.learn(readings.input, counted_there, at);
        self.lowered += u64::from(news && counted_there > 0);
    }

    /// The server refused with 429: silence for as long as it said, or longer with each refusal that names no time; and
    /// smaller buckets where ours would have admitted the call.
    pub(super) fn throttled(&mut self, retry_after: Option<Duration>, at: Timestamp) {
        let now = Instant::now();
        self.throttled.push_back(now);
        self.forget_old();
        let wait = retry_after.unwrap_or_else(|| {
            let most = 1_000 * (1_u64 << self.setbacks.min(5)).min(LONGEST_BACKOFF);
            self.setbacks += 1;
            // Rooms that share an account must not come back together.
            Duration::from_millis(most / 2 + RandomState::new().hash_one(self.setbacks) % (most / 2))
        });
        self.hold(wait, at);
        // One refusal of a volley says as much as all of it: shrink at most once a second.
        let shrunk_just_now = |gauge: &Gauge| gauge.share.0 < WHOLE && now - gauge.share.1 < Duration::from_secs(1);
        if self.gauges().iter().all(|gauge| gauge.bucket.level() > 0 && !shrunk_just_now(gauge)) {
            for gauge in self.each() {
                gauge.shrink_to(gauge.share.0 * SHRINK / WHOLE, SMALLEST);
            }
        }
    }

    /// The server is overloaded: half as many calls at once.
    pub(super) fn overloaded(&mut self, retry_after: Option<Duration>, at: Timestamp) {
        self.overloaded.push_back(Instant::now());
        self.forget_old();
        if let Some(wait) = retry_after {
            self.hold(wait, at);
        }
        let most = self.at_once.map_or(self.in_flight, |(most, _)| most.min(self.in_flight));
        self.at_once = Some(((most / 2).max(1), 0));
    }

    fn hold(&mut self, wait: Duration, at: Timestamp) {
        let wait = wait.min(HELD_AT_MOST);
        let until = Instant::now() + wait;
        if self.held_until.is_none_or(|(held, _)| held < until) {
            let told = SignedDuration::try_from(wait).ok().and_then(|wait| at.checked_add(wait).ok());
            self.held_until = Some((until, told.unwrap_or(at)));
        }
    }

    /// A call was answered well. Whether that changes anything.
    pub(super) fn went_well(&mut self) {
        self.setbacks = 0;
        self.at_once = self.at_once.and_then(|(most, good)| match good + 1 {
            GOOD_ANSWERS if most >= ENOUGH_AT_ONCE => None,
            GOOD_ANSWERS => Some((most + 1, 0)),
            good => Some((most, good)),
        });
    }

    /// Answers 429 and 529 in the last minute.
    pub(super) fn refusals(&mut self) -> (u32, u32) {
        self.forget_old();
        let count = |times: &VecDeque<Instant>| u32::try_from(times.len()).unwrap_or(u32::MAX);
        (count(&self.throttled), count(&self.overloaded))
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        for times in [&mut self.throttled, &mut self.overloaded] {
            while times.front().is_some_and(|at| now - *at >= REMEMBERED) {
                times.pop_front();
            }
        }
    }

    /// What lets nobody pass, or not the next one; for the eye. The end is rounded up to a second, or it would be news
    /// with every look.
    pub(super) fn blocked(&mut self, now: Timestamp) -> Option<(Block, Option<Timestamp>)> {
        if let Some((until, told)) = self.held_until.filter(|(until, _)| *until > Instant::now()) {
            let wait = until - Instant::now();
            return Some((Block { wait, cause: Cause::Server, dimension: None }, Some(told)));
        }
        let head = self.queue.head()?;
        let (who, ask) = (head.who.clone(), head.ask);
        let block = self.probe(&who, ask).err()?;
        let end = SignedDuration::try_from(block.wait).ok().and_then(|wait| now.checked_add(wait).ok());
        let end = end.and_then(|end| Timestamp::from_second(end.as_second() + 1).ok());
        Some((block, end.filter(|_| block.cause == Cause::Refill)))
    }

    /// Nothing is in flight, queued, throttled or refilling.
    pub(super) fn is_at_rest(&mut self) -> bool {
        self.refusals() == (0, 0)
            && self.in_flight == 0
            && self.queue.len() == 0
            && self.gauges().iter().all(|gauge| gauge.share.0 >= WHOLE)
            && self.held_until.is_none_or(|(until, _)| until <= Instant::now())
            && self.gauges().iter().all(|gauge| gauge.bucket.is_full())
    }
}
