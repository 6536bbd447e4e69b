mod always;
mod fairness;
mod known;
mod own;

use proptest::prelude::*;
use tokio::{task::JoinSet, time::advance};

use super::{
    state::{ENOUGH_AT_ONCE, GOOD_ANSWERS, HELD_AT_MOST},
    *,
};
use crate::model::gateway::Dimension;
use jiff::Timestamp;

fn pool() -> Pool {
    Pool { credential: String::new(), group: "opus".to_owned() }
}

fn limiter(requests: u32, input: u32, output: u32, hold: u64) -> Limiter {
    let limits = BTreeMap::from([("opus".to_owned(), Limit { requests, input, output })]);
    Limiter::new(limits, Duration::from_secs(hold), Clock::fixed(Timestamp::UNIX_EPOCH))
}

/// The same one after a while of use.
async fn warm(requests: u32, input: u32, output: u32, hold: u64) -> Limiter {
    let limiter = limiter(requests, input, output, hold);
    limiter.admit(&pool(), &Who::Orchestrator, ask(1, 1)).await.unwrap().refund();
    advance(Duration::from_secs(30)).await;
    limiter
}

fn agent(name: &str) -> Who {
    Who::Agent(name.parse().unwrap())
}

impl Limiter {
    /// What the orchestrator may: it sees the buckets as large as they are.
    async fn enter(&self, ask: Ask) -> Result<Lease, Refused> {
        self.admit(&pool(), &Who::Orchestrator, ask).await
    }
}

fn ask(input: u64, output: u64) -> Ask {
    Ask { input, output }
}

fn level(limiter: &Limiter, dimension: Dimension) -> Level {
    limiter.levels().buckets.into_iter().find(|l| l.dimension == dimension).unwrap()
}

fn left(limiter: &Limiter) -> [u64; 3] {
    [Dimension::Requests, Dimension::Input, Dimension::Output].map(|d| level(limiter, d).level)
}

#[track_caller]
fn assert_nothing_held(limiter: &Limiter) {
    let levels = limiter.levels();
    assert_eq!((levels.in_flight, levels.queued), (0, 0));
    assert!(levels.buckets.iter().all(|b| b.reserved == 0), "{levels:?}");
    assert!(limiter.all().iter().all(|(_, group)| group.state().answered_input == 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_from_all_three_or_from_none() {
    let limiter = limiter(100, 1_000, 100, 0);
    let lease = limiter.enter(ask(600, 30)).await.unwrap();
    assert_eq!(left(&limiter), [99, 400, 70]);
    // Input is short: requests and output stay untouched.
    let refused = limiter.enter(ask(600, 30)).await.unwrap_err();
    assert!(!refused.by_server && refused.retry_after >= Duration::from_secs(1));
    assert_eq!(left(&limiter), [99, 400, 70]);
    lease.settle(ask(100, 60));
    assert_eq!(left(&limiter), [99, 900, 40]);
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn every_way_out_of_a_call_gives_its_reservation_back() {
    let limiter = limiter(100, 1_000, 100, 0);
    limiter.enter(ask(600, 30)).await.unwrap().refund();
    assert_eq!(left(&limiter), [100, 1_000, 100], "never reached the server");
    assert!(limiter.is_at_rest());
    drop(limiter.enter(ask(600, 30)).await.unwrap());
    assert_eq!(left(&limiter), [99, 400, 70], "a crash is charged what it had set aside");
    assert_nothing_held(&limiter);
    let mut lease = limiter.enter(ask(300, 30)).await.unwrap();
    lease.answered();
    lease.counted(100);
    assert_eq!(left(&limiter), [98, 300, 40], "input is charged while the stream still runs");
    lease.counted(150);
    lease.settle(ask(150, 0));
    assert_eq!(left(&limiter), [98, 250, 70], "a later number replaces the earlier one");
    assert_nothing_held(&limiter);
    assert!(!limiter.is_at_rest());
    advance(Duration::from_mins(1)).await;
    assert!(limiter.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn a_guess_larger_than_the_bucket_still_passes_and_a_guess_of_nothing_still_counts() {
    let limiter = limiter(100, 100, 100, 0);
    let lease = limiter.enter(ask(1_000_000, u64::MAX)).await.unwrap();
    assert_eq!(left(&limiter), [99, 0, 0]);
    // What it really used is charged in full, and the next call waits for it.
    lease.settle(ask(250, 1));
    advance(Duration::from_secs(89)).await;
    assert_eq!(left(&limiter)[1], 0);
    advance(Duration::from_secs(2)).await;
    assert_eq!(left(&limiter)[1], 1);
    advance(Duration::from_mins(1)).await;
    let nothing = limiter.enter(ask(0, 0)).await.unwrap();
    assert_eq!(left(&limiter), [99, 99, 99]);
    drop(nothing);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_refill_and_no_longer_than_the_hold() {
    let limiter = limiter(100, 600, 600, 45);
    limiter.enter(ask(600, 1)).await.unwrap().settle(ask(600, 1));
    let began = Instant::now();
    limiter.enter(ask(300, 1)).await.unwrap().settle(ask(300, 1));
    assert_eq!(began.elapsed().as_secs(), 30);
    limiter.enter(ask(1, 1)).await.unwrap().settle(ask(1_200, 1));
    let began = Instant::now();
    let refused = limiter.enter(ask(300, 1)).await.unwrap_err();
    assert_eq!((began.elapsed().as_secs(), refused.by_server), (45, false));
    assert_eq!(refused.retry_after, TOLD_AT_MOST);
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_lets_the_next_one_in_at_once() {
    let limiter = limiter(100, 600, 600, 45);
    let first = limiter.enter(ask(500, 1)).await.unwrap();
    let mut waiting = JoinSet::new();
    let next = limiter.clone();
    waiting.spawn(async move { next.enter(ask(500, 1)).await.unwrap().settle(ask(0, 0)) });
    while limiter.levels().queued == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    first.settle(ask(0, 0));
    waiting.join_all().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn first_come_first_served_even_when_the_first_is_large() {
    let limiter = limiter(1_000, 600, 600, 45);
    limiter.enter(ask(600, 1)).await.unwrap().settle(ask(600, 1));
    let mut calls = JoinSet::new();
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    for (n, input) in [(1, 300), (2, 10), (3, 10)] {
        let (limiter, sender) = (limiter.clone(), sender.clone());
        calls.spawn(async move {
            let lease = limiter.enter(ask(input, 1)).await.unwrap();
            sender.send(n).unwrap();
            lease.settle(ask(input, 1));
        });
        tokio::task::yield_now().await;
    }
    calls.join_all().await;
    assert_eq!([order.recv().await, order.recv().await, order.recv().await], [Some(1), Some(2), Some(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_that_is_dropped_frees_its_place() {
    let limiter = limiter(100, 600, 600, 45);
    limiter.enter(ask(600, 1)).await.unwrap().settle(ask(600, 1));
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let limiter = limiter.clone();
        calls.spawn(async move { limiter.enter(ask(600, 1)).await.is_ok() });
    }
    while limiter.levels().queued < 3 {
        tokio::task::yield_now().await;
    }
    calls.shutdown().await;
    assert_nothing_held(&limiter);
    assert!(limiter.enter(ask(10, 1)).await.is_ok(), "the door is free");
}

#[tokio::test(start_paused = true)]
async fn the_servers_wait_is_obeyed_and_told_on() {
    let limiter = limiter(100, 600, 600, 45);
    limiter.throttled(&pool(), Some(Duration::from_secs(20)));
    let began = Instant::now();
    limiter.enter(ask(1, 1)).await.unwrap().settle(ask(1, 1));
    assert_eq!(began.elapsed().as_secs(), 20);
    // Longer than anybody may be held: refused at once, with the honest wait; a shorter one does not shorten it.
    limiter.throttled(&pool(), Some(Duration::from_mins(10)));
    limiter.throttled(&pool(), Some(Duration::from_secs(1)));
    let began = Instant::now();
    let refused = limiter.enter(ask(1, 1)).await.unwrap_err();
    assert_eq!(refused, Refused { retry_after: Duration::from_mins(10), by_server: true });
    assert_eq!(began.elapsed(), Duration::ZERO);
    // Another group goes on.
    let other = Pool { group: "sonnet".to_owned(), ..pool() };
    assert!(limiter.admit(&other, &Who::Orchestrator, ask(1, 1)).await.is_ok());
    assert_eq!(limiter.levels().throttled, 3);
    advance(Duration::from_mins(1)).await;
    assert_eq!(limiter.levels().throttled, 0);
    limiter.throttled(&pool(), Some(Duration::MAX));
    assert!(limiter.enter(ask(1, 1)).await.unwrap_err().retry_after <= HELD_AT_MOST);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_ours_would_have_admitted_shrinks_the_buckets_for_a_while() {
    let limiter = limiter(100, 1_000, 1_000, 0);
    drop(limiter.enter(ask(1, 1)).await.unwrap());
    for _ in 0..5 {
        limiter.throttled(&pool(), None);
    }
    advance(Duration::from_secs(2)).await;
    assert_eq!(left(&limiter), [80, 800, 800], "one volley, one step");
    assert_eq!(level(&limiter, Dimension::Input).limit, 1_000);
    limiter.throttled(&pool(), None);
    assert_eq!(left(&limiter), [64, 640, 640]);
    advance(Duration::from_mins(2)).await;
    assert_eq!(left(&limiter), [74, 740, 740]);
    advance(Duration::from_mins(10)).await;
    assert_eq!(left(&limiter), [100, 1_000, 1_000]);
    // Empty buckets of our own explain a refusal: nothing to learn.
    limiter.enter(ask(1_000, 1)).await.unwrap().settle(ask(1_000, 1));
    limiter.throttled(&pool(), None);
    advance(Duration::from_mins(1)).await;
    assert_eq!(left(&limiter)[1], 1_000);
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_gets_half_as_many_calls_and_more_again_as_it_recovers() {
    let limiter = warm(1_000, 100_000, 100_000, 0).await;
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(limiter.enter(ask(1, 1)).await.unwrap());
    }
    limiter.overloaded(&pool(), None);
    assert!(limiter.enter(ask(1, 1)).await.is_err());
    leases.truncate(4);
    assert!(limiter.enter(ask(1, 1)).await.is_err());
    for _ in 0..GOOD_ANSWERS {
        limiter.went_well(&pool());
    }
    leases.push(limiter.enter(ask(1, 1)).await.unwrap());
    assert!(limiter.enter(ask(1, 1)).await.is_err());
    for _ in 0..GOOD_ANSWERS * ENOUGH_AT_ONCE {
        limiter.went_well(&pool());
    }
    for _ in 0..50 {
        leases.push(limiter.enter(ask(1, 1)).await.unwrap());
    }
    leases.clear();
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn the_servers_readings_correct_limit_and_level() {
    let limiter = limiter(100, 1_000, 1_000, 0);
    let mut first = limiter.enter(ask(200, 100)).await.unwrap();
    let second = limiter.enter(ask(50, 100)).await.unwrap();
    first.answered();
    let reading = |limit, remaining| Reading { limit: Some(limit), remaining: Some(remaining) };
    // The server has seen the first call's 200 and not the second one's 50.
    let readings = Readings { requests: reading(50, 40), input: reading(2_000, 500), output: reading(1_000, 900) };
    limiter.learn(&pool(), &readings);
    assert_eq!(left(&limiter), [39, 450, 700]);
    let input = level(&limiter, Dimension::Input);
    assert_eq!((input.limit, input.learned, input.server), (2_000, true, Some((500, Timestamp::UNIX_EPOCH))));
    // Charging the first call changes nothing: the server had said it already.
    first.settle(ask(200, 10));
    assert_eq!(left(&limiter), [39, 450, 790]);
    second.settle(ask(50, 10));
    // Better news than our own does not raise a level.
    limiter.learn(&pool(), &Readings { input: reading(2_000, 2_000), ..Readings::default() });
    assert_eq!(left(&limiter)[1], 450);
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn a_guess_that_was_too_high_does_not_make_us_richer_than_the_server_says() {
    let limiter = limiter(100, 20_000, 1_000, 0);
    let mut lease = limiter.enter(ask(15_000, 1)).await.unwrap();
    lease.answered();
    let input = Reading { limit: Some(20_000), remaining: Some(4_000) };
    limiter.learn(&pool(), &Readings { input, ..Readings::default() });
    lease.settle(ask(2_000, 1));
    assert_eq!(left(&limiter)[1], 4_000);
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn invented_models_share_one_pool_in_the_end() {
    let limiter = limiter(100, 1_000, 1_000, 0);
    for n in 0..1_000 {
        drop(limiter.admit(&Pool { group: format!("m{n}"), ..pool() }, &Who::Orchestrator, ask(1, 1)).await.unwrap());
    }
    assert!(limiter.all().len() <= POOLS + 1);
}
