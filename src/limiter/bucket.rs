//! One token bucket: governor decides and measures, our own store remembers.
//!
//! Must not know groups, queues or servers' header names. Its one surprise: governor's store writes only a *staged*
//! value, so every check is a peek until [`Bucket::commit`]; that is what makes refunds, debts, server readings and
//! three buckets in one step possible at all.

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

/// The theoretical arrival time, in nanoseconds since the bucket was made, and the one a check would make of it.
#[derive(Debug, Clone, Default)]
struct Slot(Arc<(AtomicU64, AtomicU64)>);

impl Slot {
    fn tat(&self) -> u64 {
        self.0.0.load(Relaxed)
    }

    fn set(&self, tat: u64) {
        self.0.0.store(tat, Relaxed);
    }
}

impl StateStore for Slot {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (out, next) = f(Some(Nanos::new(self.tat())))?;
        self.0.1.store(next.as_u64(), Relaxed);
        Ok(out)
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
        Self { limit, burst, quota, slot, clock, limiter }
    }

    /// Units a minute.
    pub(super) fn limit(&self) -> u32 {
        self.limit.get()
    }

    /// Units held when full.
    pub(super) fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// Units left; 0 also while in debt.
    pub(super) fn level(&self) -> u32 {
        self.limiter
            .check()
            .map_or(0, |snapshot| snapshot.remaining_burst_capacity().saturating_add(1).min(self.burst()))
    }

    /// Looks whether `n` units are there, which the next [`Bucket::commit`] then takes; else how long until they are.
    /// More than the bucket can hold counts as all of it.
    pub(super) fn probe(&self, n: u32) -> Result<(), Duration> {
        let Some(n) = NonZeroU32::new(n.min(self.burst())) else {
            self.slot.0.1.store(self.slot.tat(), Relaxed);
            return Ok(());
        };
        match self.limiter.check_n(n) {
            Ok(Ok(_)) => Ok(()),
            // A whole nanosecond more, or a wait that was rounded down would probe again without any time passed.
            Ok(Err(not)) => Err(not.wait_time_from(self.clock.now()) + Duration::from_nanos(1)),
            Err(_) => Err(Duration::from_mins(1)),
        }
    }

    /// Takes what the last probe, which must have succeeded, looked at.
    pub(super) fn commit(&self) {
        self.slot.set(self.slot.0.1.load(Relaxed));
    }

    /// Gives `n` units back; never more than the bucket holds.
    pub(super) fn refund(&self, n: u32) {
        self.slot.set(self.slot.tat().saturating_sub(self.nanos(u64::from(n))));
    }

    /// Takes `n` units whether they are there or not; what is missing is debt that time pays.
    pub(super) fn overrun(&self, n: u32) {
        self.slot.set(self.slot.tat().max(self.now()).saturating_add(self.nanos(u64::from(n))));
    }

    /// Lowers the level to at most `left`; below zero it is debt. Never raises it.
    pub(super) fn lower_to(&self, left: i64) {
        let spent = u64::try_from(i64::from(self.burst()) - left).unwrap_or(0);
        self.slot.set(self.slot.tat().max(self.now().saturating_add(self.nanos(spent))));
    }

    /// The same bucket under another limit and size: what was spent stays spent.
    pub(super) fn resized(&self, limit: u32, burst: u32) -> Self {
        let ahead = self.slot.tat().saturating_sub(self.now());
        let spent = ahead.div_ceil(self.interval());
        let new = Self::new(limit, burst);
        new.slot.set(new.nanos(spent));
        new
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

    fn take(bucket: &Bucket, n: u32) -> bool {
        bucket.probe(n).map(|()| bucket.commit()).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_takes_nothing_and_a_commit_takes_all() {
        let bucket = Bucket::new(60, 60);
        assert_eq!(bucket.level(), 60);
        assert!(bucket.probe(50).is_ok());
        assert_eq!(bucket.level(), 60);
        assert!(take(&bucket, 50));
        assert_eq!(bucket.level(), 10);
        let wait = bucket.probe(12).unwrap_err();
        assert!(wait > Duration::from_secs(1) && wait <= Duration::from_millis(2_001), "{wait:?}");
        advance(wait).await;
        assert!(take(&bucket, 12));
        assert_eq!(bucket.level(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_never_overfills_and_debt_is_paid_by_time() {
        let bucket = Bucket::new(60, 60);
        assert!(take(&bucket, 20));
        bucket.refund(500);
        assert_eq!(bucket.level(), 60);
        bucket.overrun(90);
        assert_eq!(bucket.level(), 0);
        advance(Duration::from_millis(30_500)).await;
        assert_eq!(bucket.level(), 0);
        advance(Duration::from_secs(10)).await;
        assert_eq!(bucket.level(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_lowers_a_level_and_never_raises_it() {
        let bucket = Bucket::new(60, 60);
        bucket.lower_to(25);
        assert_eq!(bucket.level(), 25);
        bucket.lower_to(55);
        assert_eq!(bucket.level(), 25);
        bucket.lower_to(-5);
        advance(Duration::from_millis(5_500)).await;
        assert_eq!(bucket.level(), 0);
        advance(Duration::from_millis(600)).await;
        assert_eq!(bucket.level(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_limit_keeps_what_was_spent() {
        let bucket = Bucket::new(100, 100);
        assert!(take(&bucket, 40));
        assert_eq!(bucket.resized(1_000, 1_000).level(), 960);
        assert_eq!(bucket.resized(50, 50).level(), 10);
        assert_eq!(bucket.resized(20, 20).level(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_bucket_holds_waits_for_a_full_one_and_is_not_stuck() {
        let bucket = Bucket::new(60, 60);
        assert!(take(&bucket, 1));
        let wait = bucket.probe(5_000).unwrap_err();
        advance(wait).await;
        assert!(take(&bucket, 5_000));
        assert_eq!(bucket.level(), 0);
        assert!(take(&bucket, 0), "nothing is always there");
        assert_eq!(Bucket::new(0, 0).limit(), 1);
    }
}
