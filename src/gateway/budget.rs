//! Budgets at the door: what was spent, what is on its way, and whether one more call may pass.
//!
//! Owns one book of who pays, changed under one lock: check and reservation are one step. Must not know requests or
//! prices. Its one surprise: near a cap calls go one at a time. A call may pass beside others while all of them together
//! cannot come to more than the cap; after that it passes alone, if what it will probably cost still fits. So the sum
//! never exceeds a cap by more than one call's error.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::civil::Date;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::model::{
    MicroUsd,
    budget::{AtCap, Caps, Payer, Reached},
};

/// Why a call may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// A budget is used up.
    Reached(Reached),
    /// Others are on their way, and only what they come to will tell.
    Busy(Payer),
    /// Nobody could say afterwards what was spent.
    Unwritable(String),
}

/// What a call may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Guess {
    /// Probably.
    pub(super) likely: MicroUsd,
    /// At the very most.
    pub(super) most: MicroUsd,
}

#[derive(Debug, Default)]
struct Entry {
    spent: MicroUsd,
    /// Of calls on their way.
    likely: MicroUsd,
    most: MicroUsd,
    in_flight: u32,
    /// A cap of its own; nothing = without.
    cap: Option<MicroUsd>,
}

#[derive(Debug)]
struct Purses {
    caps: Caps,
    entries: BTreeMap<Payer, Entry>,
    /// The day that the day's entry is about, and how many have begun.
    day: Date,
    days: u64,
    /// Why the ledger takes no rows.
    unwritable: Option<String>,
}

/// Everybody who pays.
#[derive(Debug)]
pub(super) struct Book {
    purses: Mutex<Purses>,
    settled: Notify,
}

impl Book {
    /// With what this day has cost so far.
    pub(super) fn new(caps: Caps, day: Date, spent: MicroUsd) -> Self {
        let entries = BTreeMap::from([(Payer::Day, Entry { spent, ..Entry::default() })]);
        let purses = Purses { caps, entries, day, days: 0, unwritable: None };
        Self { purses: Mutex::new(purses), settled: Notify::new() }
    }

    fn purses(&self) -> MutexGuard<'_, Purses> {
        // A panic elsewhere leaves whole numbers: every change is one step.
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a payer with what it has spent before and a cap of its own; what is known already stays.
    pub(super) fn open(&self, payer: Payer, spent: MicroUsd, cap: Option<MicroUsd>) {
        let mut purses = self.purses();
        let entry = purses.entries.entry(payer).or_default();
        entry.spent = entry.spent.max(spent);
        entry.cap = cap;
        drop(purses);
    }

    /// What a payer may still spend, calls on their way not counted; nothing = without a cap.
    pub(super) fn left(&self, payer: &Payer, today: Date) -> Option<MicroUsd> {
        let mut purses = self.purses();
        purses.turn(today);
        let cap = purses.cap(payer)?;
        let spent = purses.entries.get(payer).map_or(0, |entry| entry.spent.0);
        drop(purses);
        Some(MicroUsd((cap.0 - spent).max(0)))
    }

    /// Adds what was spent beside the gateway.
    pub(super) fn spent(&self, of: &[Payer], cost: MicroUsd, today: Date) {
        let mut purses = self.purses();
        purses.turn(today);
        for payer in of {
            purses.entries.entry(payer.clone()).or_default().spent += cost;
        }
    }

    /// Forgets a payer that is at rest.
    pub(super) fn close(&self, payer: &Payer) {
        let mut purses = self.purses();
        if purses.entries.get(payer).is_some_and(|entry| entry.in_flight == 0) {
            purses.entries.remove(payer);
        }
    }

    /// Says whether the ledger takes rows. Where it does not, no call passes that has a cap.
    pub(super) fn unwritable(&self, why: Option<String>) {
        self.purses().unwritable = why;
        self.settled.notify_waiters();
    }

    /// The clock was set: the day goes on under another date.
    pub(super) fn call_it(&self, day: Date) {
        self.purses().day = day;
    }

    /// Waits until a call may pass, at most until `until`, and notes that it is on its way.
    pub(super) async fn hold(
        self: &Arc<Self>,
        of: Vec<Payer>,
        guess: Guess,
        today: Date,
        until: Instant,
    ) -> Result<Hold, Denied> {
        loop {
            let settled = self.settled.notified();
            let denied = match self.purses().enter(&of, guess, today) {
                Ok(days) => return Ok(Hold { book: self.clone(), of, guess, days, open: true }),
                Err(denied @ Denied::Reached(_)) => return Err(denied),
                Err(denied @ (Denied::Busy(_) | Denied::Unwritable(_))) => denied,
            };
            if timeout_at(until, settled).await.is_err() {
                return Err(denied);
            }
        }
    }
}

impl Purses {
    /// Begins a new day where one has come. Never back.
    fn turn(&mut self, today: Date) {
        if self.day < today {
            self.day = today;
            self.days += 1;
            self.entries.entry(Payer::Day).or_default().spent = MicroUsd::default();
        }
    }

    fn cap(&self, payer: &Payer) -> Option<MicroUsd> {
        let own = self.entries.get(payer).and_then(|entry| entry.cap);
        let usual = match payer {
            Payer::Day => self.caps.day,
            Payer::Goal(_) => self.caps.goal,
            Payer::Task(_) => self.caps.task,
        };
        Caps::or(own, usual)
    }

    /// Checks every payer and notes the call in all or none.
    fn enter(&mut self, of: &[Payer], guess: Guess, today: Date) -> Result<u64, Denied> {
        self.turn(today);
        let capped = of.iter().filter_map(|payer| Some((payer, self.cap(payer)?)));
        let mut busy = None;
        for (payer, cap) in capped {
            if let Some(why) = &self.unwritable {
                return Err(Denied::Unwritable(why.clone()));
            }
            match self.caps.at_cap {
                AtCap::End => {}
                AtCap::Finish => continue,
            }
            let none = Entry::default();
            let entry = self.entries.get(payer).unwrap_or(&none);
            let sum = |each: [MicroUsd; 3]| each.into_iter().fold(0_i64, |sum, one| sum.saturating_add(one.0));
            let likely = sum([entry.spent, entry.likely, guess.likely]);
            if entry.spent >= cap || likely > cap.0 {
                let next = Some(guess.likely);
                return Err(Denied::Reached(Reached { payer: payer.clone(), spent: entry.spent, cap, next }));
            }
            if entry.in_flight > 0 && sum([entry.spent, entry.most, guess.most]) > cap.0 {
                busy = Some(Denied::Busy(payer.clone()));
            }
        }
        if let Some(denied) = busy {
            return Err(denied);
        }
        for payer in of {
            let entry = self.entries.entry(payer.clone()).or_default();
            entry.likely += guess.likely;
            entry.most += guess.most;
            entry.in_flight += 1;
        }
        Ok(self.days)
    }
}

/// A call on its way. Dropping it says that it cost nothing.
#[derive(Debug)]
pub(super) struct Hold {
    book: Arc<Book>,
    of: Vec<Payer>,
    guess: Guess,
    /// The day that pays for it.
    days: u64,
    open: bool,
}

impl Hold {
    /// Ends the call with what it has cost.
    pub(super) fn settle(mut self, cost: MicroUsd) {
        self.close(cost);
    }

    fn close(&mut self, cost: MicroUsd) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let mut purses = self.book.purses();
        let same_day = purses.days == self.days;
        for payer in &self.of {
            let Some(entry) = purses.entries.get_mut(payer) else { continue };
            entry.likely.0 -= self.guess.likely.0;
            entry.most.0 -= self.guess.most.0;
            entry.in_flight -= 1;
            // A call that began before midnight is paid by the day before.
            if *payer != Payer::Day || same_day {
                entry.spent += cost;
            }
        }
        drop(purses);
        self.book.settled.notify_waiters();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.close(MicroUsd::default());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::{task::JoinSet, time::advance};

    use super::*;

    fn caps(task: i64, day: i64) -> Caps {
        let some = |cap| Some(MicroUsd(cap)).filter(|cap| cap.0 > 0);
        Caps { task: some(task), goal: None, day: some(day), at_cap: AtCap::End }
    }

    fn day(n: i8) -> Date {
        Date::constant(2026, 11, n)
    }

    fn task() -> Payer {
        "task marie/x".parse().unwrap()
    }

    fn guess(likely: i64, most: i64) -> Guess {
        Guess { likely: MicroUsd(likely), most: MicroUsd(most) }
    }

    async fn hold(book: &Arc<Book>, likely: i64, most: i64) -> Result<Hold, Denied> {
        let until = Instant::now() + Duration::from_secs(45);
        book.hold(vec![task(), Payer::Day], guess(likely, most), day(22), until).await
    }

    fn spent(book: &Book, payer: &Payer) -> i64 {
        book.purses().entries.get(payer).map_or(0, |entry| entry.spent.0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_does_not_fit_is_refused_with_the_numbers_and_reserves_nothing() {
        let book = Arc::new(Book::new(caps(100, 1_000), day(22), MicroUsd(0)));
        hold(&book, 60, 60).await.unwrap().settle(MicroUsd(90));
        let Err(Denied::Reached(reached)) = hold(&book, 20, 20).await else { panic!("it passed") };
        let numbers = (reached.payer, reached.spent.0, reached.cap.0, reached.next);
        assert_eq!(numbers, (task(), 90, 100, Some(MicroUsd(20))));
        // A smaller one still fits; and nothing of the refused one is left.
        drop(hold(&book, 10, 10).await.unwrap());
        assert_eq!((spent(&book, &task()), spent(&book, &Payer::Day)), (90, 90));
        // More was given.
        book.open(task(), MicroUsd(0), Some(MicroUsd(200)));
        hold(&book, 20, 20).await.unwrap().settle(MicroUsd(20));
        book.open(task(), MicroUsd(0), Some(MicroUsd(0)));
        hold(&book, 500, 500).await.unwrap().settle(MicroUsd(500));
        assert_eq!(spent(&book, &task()), 610);
    }

    #[tokio::test(start_paused = true)]
    async fn near_the_cap_calls_go_one_at_a_time() {
        let book = Arc::new(Book::new(caps(100, 0), day(22), MicroUsd(0)));
        let (first, second) = (hold(&book, 10, 50).await.unwrap(), hold(&book, 10, 50).await.unwrap());
        // All three could come to 150: the third waits for what the others come to.
        let mut waiting = spawned(&book, 10, 50);
        advance(Duration::from_secs(1)).await;
        assert!(waiting.try_join_next().is_none());
        first.settle(MicroUsd(0));
        advance(Duration::from_secs(1)).await;
        let third = waiting.join_next().await.unwrap().unwrap().unwrap();
        second.settle(MicroUsd(50));
        third.settle(MicroUsd(30));
        // Alone it may pass although it could cost more than is left.
        let alone = hold(&book, 10, 50).await.unwrap();
        let mut waiting = spawned(&book, 0, 50);
        advance(Duration::from_secs(46)).await;
        assert_eq!(waiting.join_next().await.unwrap().unwrap().unwrap_err(), Denied::Busy(task()));
        alone.settle(MicroUsd(45));
        assert_eq!(spent(&book, &task()), 125);
    }

    #[test]
    fn what_is_left_is_the_caps_rest_and_never_less_than_nothing() {
        let book = Book::new(caps(100, 1_000), day(22), MicroUsd(400));
        let left = |payer: &Payer, today| book.left(payer, today).map(|left| left.0);
        assert_eq!((left(&task(), day(22)), left(&Payer::Day, day(22))), (Some(100), Some(600)));
        book.open(task(), MicroUsd(130), None);
        assert_eq!(left(&task(), day(22)), Some(0));
        book.spent(&[Payer::Day], MicroUsd(50), day(22));
        assert_eq!(left(&Payer::Day, day(22)), Some(550));
        book.open(task(), MicroUsd(130), Some(MicroUsd(0)));
        assert_eq!((left(&task(), day(22)), left(&Payer::Day, day(23))), (None, Some(1_000)));
    }

    fn spawned(book: &Arc<Book>, likely: i64, most: i64) -> JoinSet<Result<Hold, Denied>> {
        let book = book.clone();
        let mut set = JoinSet::new();
        set.spawn(async move { hold(&book, likely, most).await });
        set
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_begins_anew_at_midnight_and_not_because_the_clock_was_set() {
        let book = Arc::new(Book::new(caps(0, 100), day(22), MicroUsd(95)));
        let until = Instant::now();
        let ask = async |likely, today| book.hold(vec![Payer::Day], guess(likely, likely), today, until).await;
        assert!(matches!(ask(10, day(22)).await, Err(Denied::Reached(_))));
        book.call_it(day(23));
        assert!(matches!(ask(10, day(23)).await, Err(Denied::Reached(_))));
        let late = ask(5, day(23)).await.unwrap();
        let next = ask(10, day(24)).await.unwrap();
        late.settle(MicroUsd(50));
        next.settle(MicroUsd(10));
        assert_eq!(spent(&book, &Payer::Day), 10);
        // A clock that is wrong for a moment changes nothing.
        ask(10, day(2)).await.unwrap().settle(MicroUsd(1));
        assert_eq!(spent(&book, &Payer::Day), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_ledger_only_calls_without_a_cap_pass() {
        let book = Arc::new(Book::new(caps(100, 0), day(22), MicroUsd(0)));
        book.unwritable(Some("no space left on device".into()));
        let until = Instant::now() + Duration::from_secs(45);
        book.hold(vec![Payer::Day], guess(9, 9), day(22), until).await.unwrap().settle(MicroUsd(9));
        let mut waiting = spawned(&book, 1, 1);
        advance(Duration::from_secs(5)).await;
        assert!(waiting.try_join_next().is_none());
        book.unwritable(None);
        waiting.join_next().await.unwrap().unwrap().unwrap().settle(MicroUsd(1));
        book.unwritable(Some("no space left on device".into()));
        let mut waiting = spawned(&book, 1, 1);
        advance(Duration::from_secs(46)).await;
        assert!(matches!(waiting.join_next().await.unwrap().unwrap(), Err(Denied::Unwritable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_may_finish_where_that_is_the_policy() {
        let finish = Caps { at_cap: AtCap::Finish, ..caps(100, 0) };
        let book = Arc::new(Book::new(finish, day(22), MicroUsd(0)));
        hold(&book, 60, 60).await.unwrap().settle(MicroUsd(160));
        hold(&book, 60, 60).await.unwrap().settle(MicroUsd(60));
        assert_eq!(spent(&book, &task()), 220);
    }

    proptest! {
        /// Calls come and go at random, up to eight at once; each costs what it likes up to its bound.
        #[test]
        fn the_sum_never_exceeds_a_cap_by_more_than_one_calls_error(
            cap in 1_000_i64..20_000,
            calls in proptest::collection::vec((1_i64..400, 1_i64..20, 0_i64..101, 0_usize..8), 1..200),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let book = Arc::new(Book::new(caps(cap, 0), day(22), MicroUsd(0)));
                let mut open: Vec<(Hold, i64, i64)> = Vec::new();
                let (mut total, mut worst) = (0, 0_i64);
                let settle = |(hold, cost, likely): (Hold, i64, i64), total: &mut i64, worst: &mut i64| {
                    *worst = (*worst).max(cost - likely);
                    *total += cost;
                    hold.settle(MicroUsd(cost));
                };
                for (likely, spread, percent, at) in calls {
                    let most = likely * spread;
                    let asked = book.hold(vec![task()], guess(likely, most), day(22), Instant::now()).await;
                    if let Ok(hold) = asked {
                        open.push((hold, most * percent / 100, likely));
                    }
                    if open.len() > at {
                        settle(open.swap_remove(at), &mut total, &mut worst);
                    }
                }
                for one in open {
                    settle(one, &mut total, &mut worst);
                }
                let of = |entry: &Entry| (entry.spent.0, entry.most.0, entry.in_flight);
                let left = book.purses().entries.get(&task()).map(of);
                prop_assert_eq!(left.unwrap_or_default(), (total, 0, 0));
                prop_assert!(total <= cap + worst, "{} of {}, the greatest error is {}", total, cap, worst);
                Ok(())
            })?;
        }
    }
}
