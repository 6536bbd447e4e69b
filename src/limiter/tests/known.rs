//! Four faults of a widely used limiter, as its users reported them: numbers are of BerriAI/litellm's issues.

use super::*;

#[tokio::test(start_paused = true)]
async fn n18730_five_calls_at_once_cannot_spend_663_on_a_limit_of_100() {
    // Check and charge apart from each other let all five through.
    let limiter = limiter(100, 100, 100, 0);
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let limiter = limiter.clone();
        calls.spawn(async move {
            let lease = limiter.enter(ask(60, 1)).await.ok()?;
            sleep(Duration::from_secs(1)).await;
            lease.settle(ask(132, 1));
            Some(132)
        });
    }
    let spent: u64 = calls.join_all().await.into_iter().flatten().sum();
    assert_eq!(spent, 132, "one call, which was dearer than it looked");
    assert!(limiter.enter(ask(60, 1)).await.is_err(), "and its debt is paid first");
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn n29191_a_reservation_larger_than_the_bucket_does_not_refuse_every_first_call() {
    for who in [Who::Orchestrator, agent("marie")] {
        let limiter = limiter(100, 1_000, 100, 0);
        let lease = limiter.admit(&pool(), &who, ask(1_000_000, u64::MAX)).await.expect("passes when it is full");
        lease.settle(ask(300, 10));
        advance(Duration::from_mins(1)).await;
        limiter.admit(&pool(), &who, ask(1_000_000, u64::MAX)).await.expect("and again").refund();
        assert_nothing_held(&limiter);
    }
}

#[tokio::test(start_paused = true)]
async fn n35422_a_guess_of_nothing_does_not_switch_the_limit_off() {
    // 2,130 were served in a minute of 1,000.
    let limiter = warm(1_000, 1_000, 1_000, 0).await;
    let mut spent = 0;
    for _ in 0..30 {
        if let Ok(lease) = limiter.enter(ask(0, 0)).await {
            lease.settle(ask(71, 0));
            spent += 71;
        }
    }
    assert!((1_000..=1_071).contains(&spent), "{spent}");
    assert_nothing_held(&limiter);
}

#[tokio::test(start_paused = true)]
async fn n17323_permits_come_back_on_every_way_out() {
    let limiter = warm(100_000_000, 1_000_000_000, 1_000_000_000, 45).await;
    for round in 0..1_000_u32 {
        let who = if round % 2 == 0 { Who::Orchestrator } else { agent("marie") };
        let mut lease = limiter.admit(&pool(), &who, ask(100, 10)).await.expect("room for one");
        match round % 5 {
            0 => lease.settle(ask(50, 5)),
            1 => lease.refund(),
            2 => drop(lease),
            3 => {
                lease.answered();
                lease.counted(70);
                drop(lease);
            }
            _ => {
                // One that waits is dropped before its turn, and one just when its turn has come.
                limiter.throttled(&pool(), Some(Duration::from_secs(1)));
                let mut waiting = JoinSet::new();
                for _ in 0..2 {
                    let (limiter, who) = (limiter.clone(), who.clone());
                    waiting.spawn(async move { drop(limiter.admit(&pool(), &who, ask(1, 1)).await) });
                }
                tokio::task::yield_now().await;
                lease.settle(ask(1, 1));
                advance(Duration::from_millis(u64::from(round % 3) * 700)).await;
                waiting.abort_all();
                while waiting.join_next().await.is_some() {}
                advance(Duration::from_secs(1)).await;
            }
        }
    }
    assert_nothing_held(&limiter);
}
