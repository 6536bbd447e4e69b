//! Limits that an operator sets while calls go.

use super::*;

fn own(requests: Option<u32>, input: Option<u32>) -> OwnLimit {
    OwnLimit { requests, input, output: None }
}

fn limits(limiter: &Limiter) -> [(u64, Option<u64>); 2] {
    [Dimension::Requests, Dimension::Input].map(|d| level(limiter, d)).map(|level| (level.limit, level.own))
}

#[tokio::test(start_paused = true)]
async fn what_is_set_holds_at_once_for_pools_in_use_and_for_those_to_come() {
    let limiter = warm(100, 1_000, 1_000, 0).await;
    limiter.enter(ask(600, 1)).await.unwrap().settle(ask(600, 1));
    limiter.set("opus", own(Some(50), Some(500)));
    assert_eq!(limits(&limiter), [(50, Some(50)), (500, Some(500))]);
    assert_eq!(left(&limiter)[1], 0, "what was spent stays spent");
    assert!(limiter.enter(ask(1, 1)).await.is_err());
    // 100 of debt and 50 more, at 500 a minute.
    advance(Duration::from_secs(19)).await;
    limiter.enter(ask(50, 1)).await.unwrap().refund();
    limiter.set("haiku", own(Some(7), None));
    let haiku = Pool { credential: "marie".to_owned(), group: "haiku".to_owned() };
    limiter.admit(&haiku, &Who::Orchestrator, ask(1, 1)).await.unwrap().refund();
    let haiku = limiter.levels().buckets.into_iter().find(|l| l.group == "haiku (marie)").unwrap();
    assert_eq!((haiku.limit, haiku.own), (7, Some(7)));
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn it_takes_the_place_of_a_guess_and_only_lowers_what_the_server_says() {
    let limiter = warm(100, 1_000, 1_000, 0).await;
    limiter.set("opus", own(Some(400), Some(500)));
    assert_eq!(limits(&limiter), [(400, Some(400)), (500, Some(500))], "the server has said nothing yet");
    let said = |n| Reading { limit: Some(n), remaining: None };
    limiter.learn(&pool(), &Readings { requests: said(300), input: said(2_000), ..Readings::default() });
    assert_eq!(limits(&limiter), [(300, Some(400)), (500, Some(500))]);
    // Taken back, the server's word alone holds, also what it said meanwhile.
    limiter.set("opus", OwnLimit::default());
    assert_eq!(limits(&limiter), [(300, None), (2_000, None)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_goes_at_once_when_more_is_allowed() {
    let limiter = warm(100, 1_000, 1_000, 45).await;
    limiter.set("opus", own(None, Some(10)));
    limiter.enter(ask(10, 1)).await.unwrap().settle(ask(10, 1));
    let waiting = limiter.clone();
    let mut calls = JoinSet::new();
    calls.spawn(async move { waiting.enter(ask(10, 1)).await.map(Lease::refund) });
    advance(Duration::from_secs(5)).await;
    assert!(calls.try_join_next().is_none());
    limiter.set("opus", own(None, Some(1_000)));
    advance(Duration::from_millis(1)).await;
    calls.join_next().await.unwrap().unwrap().unwrap();
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn however_often_it_is_changed_no_more_passes_than_the_highest_allows() {
    let limiter = warm(1_000_000, 6_000, 1_000_000, 0).await;
    let began = Instant::now();
    let mut spent = 0;
    for round in 0..600_u32 {
        limiter.set("opus", own(None, Some(if round % 2 == 0 { 600 } else { 6_000 })));
        if let Ok(lease) = limiter.enter(ask(100, 1)).await {
            lease.settle(ask(100, 1));
            spent += 100;
        }
        advance(Duration::from_millis(100)).await;
    }
    let most = 6_000 + began.elapsed().as_secs() * 100 + 100;
    assert!(spent <= most, "{spent} of {most}");
    assert!(spent >= 600, "{spent}: the lowest alone would let that much pass");
}
