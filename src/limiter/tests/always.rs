//! What must hold in every story.

use super::*;

/// One step of a random story: time passes, a call is tried, and it ends some steps later with part of its guess.
#[derive(Debug, Clone)]
struct Step {
    pause: u64,
    who: u8,
    input: u64,
    output: u64,
    used: u64,
    ends_after: usize,
    way: u8,
    /// What the server does beside: nothing, refuses, is overloaded, tells what is left, changes its limits.
    server: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let call = (0_u8..3, 1_u64..700, 1_u64..300, 0_u64..=100, 0_usize..6, 0_u8..4);
    (0_u64..8_000, call, 0_u8..24).prop_map(|(pause, (who, input, output, used, ends_after, way), server)| Step {
        pause,
        who,
        input,
        output,
        used,
        ends_after,
        way,
        server,
    })
}

fn who(step: &Step) -> Who {
    match step.who {
        0 => Who::Orchestrator,
        1 => agent("marie"),
        _ => agent("anga"),
    }
}

/// A bucket as the server has it, in thousandths of a unit; told of what was spent, and of a new limit.
struct Real {
    limit: u64,
    level: i128,
    at: u128,
}

impl Real {
    fn new(limit: u64) -> Self {
        Self { limit, level: i128::from(limit) * 60_000, at: 0 }
    }

    /// Everything is counted in sixty-thousandths, so that a millisecond brings `limit` of them.
    fn pass(&mut self, now: u128) {
        let refilled = i128::from(self.limit) * i128::try_from(now - self.at).unwrap();
        self.level = (self.level + refilled).min(i128::from(self.limit) * 60_000);
        self.at = now;
    }

    fn resize(&mut self, limit: u64, now: u128) {
        self.pass(now);
        self.level += (i128::from(limit) - i128::from(self.limit)) * 60_000;
        self.limit = limit;
    }

    /// What is spent must have been there. A lower limit may leave less than nothing; spent it must not be.
    fn spend(&mut self, n: u64, now: u128) {
        self.pass(now);
        self.level -= i128::from(n) * 60_000;
        // Two units for the interval that is rounded down to whole nanoseconds, and for levels cut to one.
        assert!(n == 0 || self.level >= -2 * 60_000, "{} below empty", -self.level / 60_000);
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #[test]
    fn no_window_ever_sees_more_than_its_limit_and_one_burst(steps in prop::collection::vec(step(), 1..80)) {
        paused().block_on(async {
            let limiter = warm(30, 1_000, 400, 0).await;
            let mut real = [30, 1_000, 400].map(Real::new);
            let began = Instant::now();
            let mut open: Vec<(usize, Lease, Step)> = Vec::new();
            let mut limit = 0;
            for (at, step) in steps.iter().enumerate() {
                advance(Duration::from_millis(step.pause)).await;
                let now = began.elapsed().as_millis();
                if let Ok(lease) = limiter.admit(&pool(), &who(step), ask(step.input, step.output)).await {
                    open.push((at + step.ends_after, lease, step.clone()));
                }
                match step.server {
                    0 => limiter.throttled(&pool(), None),
                    1 => limiter.throttled(&pool(), Some(Duration::from_secs(step.input / 100))),
                    2 => limiter.overloaded(&pool(), None),
                    3 => limiter.went_well(&pool()),
                    4 => {
                        let input = Reading { limit: None, remaining: Some(step.input) };
                        limiter.learn(&pool(), &Readings { input, ..Readings::default() });
                    }
                    // Not while calls are under way: what was set aside under the old limit may be more than the new one has.
                    5 if open.is_empty() => {
                        limit = (limit + 1) % 3;
                        let told = [1_000, 700, 1_300].into_iter().nth(limit).unwrap();
                        let input = Reading { limit: Some(told), remaining: None };
                        limiter.learn(&pool(), &Readings { input, ..Readings::default() });
                        let [_, real, _] = &mut real;
                        real.resize(told, now);
                    }
                    _ => {}
                }
                let (ending, running) = open.into_iter().partition(|(end, ..)| *end <= at);
                open = running;
                for (_, mut lease, step) in ending {
                    // No more than what was set aside: what a call takes beyond its guess, no limiter can know.
                    let guess = ask(step.input.min(u64::from(lease.held.input)), step.output.min(u64::from(lease.held.output)));
                    let part = ask(guess.input * step.used / 100, guess.output * step.used / 100);
                    let used = match step.way {
                        0 => {
                            lease.refund();
                            continue;
                        }
                        1 => {
                            let held = lease.held;
                            drop(lease);
                            ask(u64::from(held.input), u64::from(held.output))
                        }
                        2 => {
                            lease.answered();
                            lease.counted(part.input);
                            lease.settle(part);
                            part
                        }
                        _ => {
                            lease.settle(part);
                            part
                        }
                    };
                    for (real, n) in real.iter_mut().zip([1, used.input, used.output]) {
                        real.spend(n, now);
                    }
                }
            }
            drop(open);
            assert_nothing_held(&limiter);
        });
    }

    #[test]
    fn every_call_is_let_in_or_refused_in_time_and_nothing_is_left_behind(steps in prop::collection::vec(step(), 1..60)) {
        paused().block_on(async {
            let limiter = limiter(60, 1_000, 400, 45);
            let mut calls = JoinSet::new();
            for step in steps {
                sleep(Duration::from_millis(step.pause / 4)).await;
                match step.server {
                    0 => limiter.throttled(&pool(), None),
                    1 => limiter.throttled(&pool(), Some(Duration::from_secs(step.input / 10))),
                    2 => limiter.overloaded(&pool(), None),
                    _ => {}
                }
                let limiter = limiter.clone();
                calls.spawn(async move {
                    let began = Instant::now();
                    let story = async {
                        match limiter.admit(&pool(), &who(&step), ask(step.input, step.output)).await {
                            Ok(lease) => {
                                assert!(began.elapsed() <= Duration::from_secs(46), "held {:?}", began.elapsed());
                                sleep(Duration::from_secs(step.ends_after as u64)).await;
                                limiter.went_well(&pool());
                                if step.way == 0 {
                                    lease.refund();
                                } else {
                                    lease.settle(ask(step.input * step.used / 50, step.output));
                                }
                            }
                            Err(_) => assert!(began.elapsed() <= Duration::from_secs(46), "held {:?}", began.elapsed()),
                        }
                    };
                    // Some leave early, waiting or working.
                    if step.way == 3 {
                        drop(tokio::time::timeout(Duration::from_millis(step.used * 300), story).await);
                    } else {
                        story.await;
                    }
                });
            }
            calls.join_all().await;
            assert_nothing_held(&limiter);
            // Whoever comes when all is over goes at once, or the door is shut for good.
            sleep(Duration::from_hours(2)).await;
            limiter.admit(&pool(), &agent("marie"), ask(100, 1)).await.expect("the door is open").refund();
        });
    }
}
