//! Who goes when, and what those who wait can see.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;

/// Asks for `input` again and again until dropped; counts what it got.
fn keep_asking(calls: &mut JoinSet<()>, limiter: &Limiter, who: &str, input: u64) -> Arc<AtomicU64> {
    let got = Arc::new(AtomicU64::new(0));
    let (limiter, who, counted) = (limiter.clone(), agent(who), got.clone());
    calls.spawn(async move {
        loop {
            match limiter.admit(&pool(), &who, ask(input, 1)).await {
                Ok(lease) => {
                    lease.settle(ask(input, 1));
                    counted.fetch_add(input, Relaxed);
                }
                Err(refused) => sleep(refused.retry_after).await,
            }
        }
    });
    got
}

#[tokio::test(start_paused = true)]
async fn one_chatty_agent_takes_nothing_from_the_others() {
    let limiter = warm(100_000, 60_000, 400_000, 45).await;
    let mut calls = JoinSet::new();
    let chatty: Vec<_> = (0..40).map(|_| keep_asking(&mut calls, &limiter, "anga", 500)).collect();
    let modest = [("marie", 500), ("fabien", 2_000)].map(|(who, input)| keep_asking(&mut calls, &limiter, who, input));
    sleep(Duration::from_mins(10)).await;
    let anga: u64 = chatty.iter().map(|got| got.load(Relaxed)).sum();
    let [marie, fabien] = modest.map(|got| got.load(Relaxed));
    let all = anga + marie + fabien;
    assert!((600_000..=660_000).contains(&all), "nothing is left unused: {all}");
    for (who, got) in [("marie", marie), ("fabien", fabien), ("anga", anga)] {
        let share = got as f64 / all as f64;
        assert!((0.28..0.39).contains(&share), "{who} has {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_call_waits_less_than_a_minute_however_many_small_ones_come() {
    let limiter = warm(100_000, 60_000, 400_000, 45).await;
    let mut calls = JoinSet::new();
    for who in ["anga", "marie", "fabien", "chloe"] {
        for _ in 0..5 {
            keep_asking(&mut calls, &limiter, who, 200);
        }
    }
    for _ in 0..5 {
        // Half of what a minute brings: more than its share, until it has rested.
        sleep(Duration::from_mins(3)).await;
        let began = Instant::now();
        let lease = limiter.admit(&pool(), &agent("denis"), ask(30_000, 1)).await.expect("its turn comes");
        lease.settle(ask(30_000, 1));
        assert!(began.elapsed() <= Duration::from_secs(45), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_far_ahead_has_its_turn_after_half_a_minute_all_the_same() {
    let limiter = warm(100_000, 60_000, 400_000, 45).await;
    // One call of anga's was far dearer than guessed.
    limiter.admit(&pool(), &agent("anga"), ask(500, 1)).await.unwrap().settle(ask(60_000, 80_000));
    sleep(Duration::from_mins(2)).await;
    let mut calls = JoinSet::new();
    for who in ["marie", "fabien"] {
        for _ in 0..5 {
            keep_asking(&mut calls, &limiter, who, 500);
        }
    }
    sleep(Duration::from_mins(1)).await;
    let began = Instant::now();
    limiter.admit(&pool(), &agent("anga"), ask(500, 1)).await.expect("its turn comes").refund();
    assert!(began.elapsed() <= Duration::from_secs(32), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_wants_more_than_its_share_is_refused_now_and_then_and_starves_never() {
    let limiter = warm(100_000, 60_000, 400_000, 45).await;
    let mut calls = JoinSet::new();
    for who in ["anga", "marie", "fabien", "chloe"] {
        for _ in 0..5 {
            keep_asking(&mut calls, &limiter, who, 200);
        }
    }
    let denis = keep_asking(&mut calls, &limiter, "denis", 30_000);
    let (mut before, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    for _ in 0..1_800 {
        sleep(Duration::from_secs(1)).await;
        let got = denis.load(Relaxed);
        if got > before {
            (before, since) = (got, Instant::now());
        }
        longest = longest.max(since.elapsed());
    }
    // Half a minute until it counts as hungry, half a minute until the bucket holds as much, and a pause between.
    assert!(longest <= Duration::from_secs(95), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn who_was_away_has_saved_nothing_up() {
    let limiter = warm(100_000, 60_000, 400_000, 45).await;
    let mut calls = JoinSet::new();
    let anga = keep_asking(&mut calls, &limiter, "anga", 500);
    sleep(Duration::from_mins(10)).await;
    let before = anga.load(Relaxed);
    let marie = keep_asking(&mut calls, &limiter, "marie", 500);
    sleep(Duration::from_mins(2)).await;
    let (anga, marie) = (anga.load(Relaxed) - before, marie.load(Relaxed));
    assert!(anga.abs_diff(marie) <= 2_000, "{anga} {marie}");
}

#[tokio::test(start_paused = true)]
async fn the_orchestrator_finds_a_fifth_of_the_bucket_whatever_the_agents_took() {
    let limiter = warm(100_000, 60_000, 400_000, 45).await;
    let mut calls = JoinSet::new();
    for who in ["anga", "marie", "fabien", "chloe", "denis", "emile", "flora"] {
        for _ in 0..3 {
            keep_asking(&mut calls, &limiter, who, 500);
        }
    }
    sleep(Duration::from_mins(3)).await;
    let began = Instant::now();
    limiter.enter(ask(11_000, 1)).await.unwrap().settle(ask(11_000, 1));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // One that asks on and on has its fifth and no more.
    sleep(Duration::from_mins(2)).await;
    let mut got = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(10) {
        if let Ok(lease) = limiter.enter(ask(1_000, 1)).await {
            lease.settle(ask(1_000, 1));
            got += 1_000;
        }
    }
    let share = f64::from(got) / (10.0 * 60_000.0);
    assert!((0.17..0.25).contains(&share), "{share}");
}

#[tokio::test(start_paused = true)]
async fn a_cold_pool_lets_four_go_at_once_and_one_more_with_each_second() {
    let limiter = limiter(10_000, 1_000_000, 1_000_000, 0);
    let mut leases = Vec::new();
    let enter = async |leases: &mut Vec<Lease>| {
        let before = leases.len();
        while let Ok(lease) = limiter.admit(&pool(), &agent("anga"), ask(1, 1)).await {
            leases.push(lease);
            if leases.len() == 100 {
                break;
            }
        }
        leases.len() - before
    };
    assert_eq!(enter(&mut leases).await, 4);
    advance(Duration::from_secs(1)).await;
    assert_eq!(enter(&mut leases).await, 1);
    advance(Duration::from_secs(10)).await;
    assert_eq!(enter(&mut leases).await, 10);
    advance(Duration::from_secs(17)).await;
    assert_eq!(enter(&mut leases).await, 85, "warm");
    advance(Duration::from_mins(10)).await;
    leases.truncate(50);
    assert_eq!(enter(&mut leases).await, 50, "what is under way keeps it warm");
    leases.clear();
    advance(Duration::from_mins(5)).await;
    assert_eq!(enter(&mut leases).await, 4, "cold again");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_can_be_seen_with_what_they_wait_for() {
    let limiter = warm(1_000, 60_000, 400_000, 45).await;
    limiter.enter(ask(60_000, 1)).await.unwrap().settle(ask(60_000, 1));
    let mut calls = JoinSet::new();
    keep_asking(&mut calls, &limiter, "anga", 10_000);
    keep_asking(&mut calls, &limiter, "anga", 10_000);
    keep_asking(&mut calls, &limiter, "marie", 10_000);
    sleep(Duration::from_millis(1)).await;
    let levels = limiter.levels();
    let waiting = |name: &str, calls| Waiting {
        agent: Some(name.parse().unwrap()),
        group: "opus".to_owned(),
        calls,
        since: Timestamp::UNIX_EPOCH,
    };
    assert_eq!((levels.queued, levels.waiting), (3, vec![waiting("anga", 2), waiting("marie", 1)]));
    // 12,000 of 60,000 are the orchestrator's: 22 s.
    let input = level(&limiter, Dimension::Input);
    assert_eq!((input.cause, input.burst), (Some(Cause::Refill), 60_000));
    assert_eq!(input.blocked_until, Timestamp::from_second(22).ok());
    assert_eq!(level(&limiter, Dimension::Requests).cause, None);
    limiter.throttled(&pool(), Some(Duration::from_secs(30)));
    limiter.overloaded(&pool(), None);
    let requests = level(&limiter, Dimension::Requests);
    assert_eq!((requests.cause, requests.blocked_until), (Some(Cause::Server), Timestamp::from_second(30).ok()));
    let levels = limiter.levels();
    assert_eq!((levels.throttled, levels.overloaded), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn refusals_that_name_no_wait_are_waited_out_longer_each_time() {
    let limiter = warm(1_000, 60_000, 400_000, 45).await;
    let mut waited = Vec::new();
    for _ in 0..8 {
        limiter.throttled(&pool(), None);
        let began = Instant::now();
        match limiter.enter(ask(1, 1)).await {
            Ok(lease) => lease.refund(),
            Err(refused) => sleep(refused.retry_after).await,
        }
        waited.push(began.elapsed().as_secs_f64());
    }
    for (n, waited) in waited.iter().enumerate() {
        let most = f64::from((1_u32 << n).min(32));
        assert!((most / 2.0..=most + 1.0).contains(waited), "{n}: {waited} of {most}");
    }
    limiter.went_well(&pool());
    limiter.throttled(&pool(), None);
    let began = Instant::now();
    limiter.enter(ask(1, 1)).await.unwrap().refund();
    assert!(began.elapsed() <= Duration::from_secs(1), "a good answer begins anew");
}
