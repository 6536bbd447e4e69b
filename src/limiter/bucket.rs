//! One token bucket: governor measures, our own store remembers.
//!
//! Must not know groups, queues or servers' header names. Its one surprise: nothing is ever given back. What a call
//! reserves is only *set aside* and lowers the level; the bucket itself is charged once, when the real number is known.
//! A refund would be wrong as soon as the bucket has overflowed in between: the server never saw the cost, so its own
//! bucket is full and holds nothing more.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::StateInformationMiddleware, nanos::Nanos, state::NotKeyed,
    state::StateStore,
};
use tokio::time::Instant;

/// How long to wait for calls in flight, which say themselves when they end.
const UNTIL_FREED: Duration = Duration::from_secs(1);

/// The longest debt, as time until the bucket is full again: no count of a server may close the door for ever.
const DEBT_AT_MOST: Duration = Duration::from_hours(1);

/// The theoretical arrival time in nanoseconds since the bucket was made: the bucket is full from then on.
///
/// A check never writes it, so every check is a peek.
#[derive(Debug, Clone, Default)]
struct Slot(Arc<AtomicU64>);

impl Slot {
    fn tat(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl StateStore for Slot {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        f(Some(Nanos::new(self.tat()))).map(|(out, _)| out)
    }
}

/// Tokio's time, so that a test which pauses it owns the buckets too. Starts at zero when the bucket is made.
#[derive(Debug, Clone, Copy)]
struct Since(Instant);

impl Clock for Since {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

type Limiter = RateLimiter<NotKeyed, Slot, Since, StateInformationMiddleware>;

/// A bucket that holds up to `burst` units and refills with `limit` units a minute.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: NonZeroU32,
    burst: NonZeroU32,
    quota: Quota,
    slot: Slot,
    clock: Since,
    limiter: Limiter,
    /// Set aside for calls in flight, in units.
    reserved: u64,
}

impl Bucket {
    /// A full bucket. A limit of 0 counts as 1: no limit may switch the limiter off.
    pub(super) fn new(limit: u32, burst: u32) -> Self {
        let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(limit).allow_burst(burst);
        let slot = Slot::default();
        let clock = Since(Instant::now());
        let limiter = Limiter::new(quota, slot.clone(), clock);
        Self { limit, burst, quota, slot, clock, limiter, reserved: 0 }
    }

    /// Units a minute.
    pub(super) fn limit(&self) -> u32 {
        self.limit.get()
    }

    /// Units held when full.
    pub(super) fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// Units set aside for calls in flight.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Units neither spent nor set aside; 0 also while in debt.
    pub(super) fn level(&self) -> u64 {
        let held = self.limiter.check().map_or(0, |s| s.remaining_burst_capacity().saturating_add(1).min(self.burst()));
        u64::from(held).saturating_sub(self.reserved)
    }

    /// Whether nothing is spent or set aside.
    pub(super) fn is_full(&self) -> bool {
        self.level() == u64::from(self.burst())
    }

    /// What may be set aside at most for a call that expects `n` units: never nothing, or the limiter would be off, and
    /// never more than a full bucket, or the call would be stuck.
    pub(super) fn fit(&self, n: u64) -> u32 {
        u32::try_from(n).unwrap_or(u32::MAX).clamp(1, self.burst())
    }

    /// Looks whether `n` units are there; else how long until they may be.
    pub(super) fn probe(&self, n: u32) -> Result<(), Duration> {
        let all = u32::try_from(self.reserved.saturating_add(u64::from(n))).unwrap_or(u32::MAX);
        let Some(all) = NonZeroU32::new(all) else { return Ok(()) };
        match self.limiter.check_n(all) {
            Ok(Ok(_)) => Ok(()),
            // A nanosecond more, or a wait that was rounded down would probe again without any time passed.
            Ok(Err(not)) => Err(not.wait_time_from(self.clock.now()) + Duration::from_nanos(1)),
            Err(_) => Err(UNTIL_FREED),
        }
    }

    /// Sets `n` units aside; only after a probe for as many.
    pub(super) fn reserve(&mut self, n: u32) {
        self.reserved += u64::from(n);
    }

    /// Ends a reservation.
    pub(super) fn release(&mut self, n: u32) {
        self.reserved = self.reserved.saturating_sub(u64::from(n));
    }

    /// Charges `n` units, whether they are there or not; what is missing is debt that time pays.
    pub(super) fn spend(&self, n: u64) {
        self.set(self.slot.tat().max(self.now()).saturating_add(self.nanos(n)));
    }

    /// Believes the server that only `left` units are left, before reservations, and says whether that is news. Never
    /// raises the level.
    pub(super) fn lower_to(&self, left: u64) -> bool {
        let spent = u64::from(self.burst()).saturating_sub(left);
        let (ours, theirs) = (self.slot.tat().max(self.now()), self.now().saturating_add(self.nanos(spent)));
        self.set(ours.max(theirs));
        theirs > ours
    }

    /// Changes limit and size; what was spent stays spent, what is set aside stays so.
    pub(super) fn resize(&mut self, limit: u32, burst: u32) {
        let ahead = self.slot.tat().saturating_sub(self.now());
        let spent = ahead.div_ceil(self.interval());
        let reserved = self.reserved;
        *self = Self::new(limit, burst);
        self.reserved = reserved;
        self.set(self.nanos(spent));
    }

    /// Bounded, since governor adds to it without looking.
    fn set(&self, tat: u64) {
        let most = self.clock.now() + DEBT_AT_MOST;
        self.slot.0.store(tat.min(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds a unit takes to come back, at least 1.
    fn interval(&self) -> u64 {
        u64::try_from(self.quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn nanos(&self, units: u64) -> u64 {
        units.saturating_mul(self.interval())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_probe_takes_nothing_and_what_is_set_aside_is_not_there_twice() {
        let mut bucket = Bucket::new(60, 60);
        assert_eq!(bucket.level(), 60);
        assert!(bucket.probe(50).is_ok());
        assert_eq!(bucket.level(), 60);
        bucket.reserve(50);
        assert_eq!((bucket.level(), bucket.reserved()), (10, 50));
        assert_eq!(bucket.probe(12), Err(UNTIL_FREED), "no time will help, only the end of a call");
        bucket.release(50);
        bucket.spend(50);
        let wait = bucket.probe(12).unwrap_err();
        assert!(wait > Duration::from_secs(1) && wait <= Duration::from_millis(2_001), "{wait:?}");
        advance(wait).await;
        assert!(bucket.probe(12).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn debt_is_paid_by_time() {
        let bucket = Bucket::new(60, 60);
        bucket.spend(90);
        assert_eq!(bucket.level(), 0);
        advance(Duration::from_millis(30_500)).await;
        assert_eq!(bucket.level(), 0);
        advance(Duration::from_secs(10)).await;
        assert_eq!(bucket.level(), 10);
        bucket.spend(u64::MAX);
        assert!(bucket.probe(60).is_err());
        advance(DEBT_AT_MOST).await;
        assert!(bucket.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_lowers_a_level_and_never_raises_it() {
        let mut bucket = Bucket::new(60, 60);
        assert!(bucket.lower_to(25));
        assert_eq!(bucket.level(), 25);
        assert!(!bucket.lower_to(55));
        assert_eq!(bucket.level(), 25);
        bucket.reserve(5);
        assert_eq!(bucket.level(), 20);
        assert!(bucket.lower_to(0));
        bucket.release(5);
        advance(Duration::from_millis(1_500)).await;
        assert_eq!(bucket.level(), 1);
        assert!(!bucket.lower_to(u64::MAX));
        assert_eq!(bucket.level(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_limit_keeps_what_was_spent_and_set_aside() {
        let resized = |limit| {
            let mut bucket = Bucket::new(100, 100);
            bucket.spend(40);
            bucket.reserve(10);
            bucket.resize(limit, limit);
            bucket.level()
        };
        assert_eq!((resized(1_000), resized(100), resized(60), resized(20)), (950, 50, 10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_bucket_holds_is_cut_to_a_full_one_and_nothing_to_one() {
        let bucket = Bucket::new(60, 30);
        assert_eq!((bucket.fit(0), bucket.fit(7), bucket.fit(5_000), bucket.fit(u64::MAX)), (1, 7, 30, 30));
        assert_eq!((Bucket::new(0, 0).limit(), Bucket::new(0, 0).burst()), (1, 1));
    }
}
