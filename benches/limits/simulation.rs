//! Agents at work against a server with a limit, event by event, in a time that only the simulation moves.
//!
//! Owns the workload, the server and the engines' manners; the limiter and its guesses are the real ones. Must not
//! measure real time. Its one surprise: a run depends on its seed alone, so its figures are the same on every machine.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use podium::{
    limiter::{Ask, Estimator, Limit, Limiter, Pool, Reading, Readings, Who, estimate::Asker},
    model::{Clock, Usage},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// Tries of one call before an engine gives its task up.
const TRIES: u32 = 11;
/// Engines do not wait longer than this for a limit.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the server allows, and how many engines work at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// Tasks.
    pub(crate) tasks: usize,
    /// Agents; slots are theirs in turn.
    pub(crate) agents: usize,
    /// Uncached input tokens a minute.
    pub(crate) limit: u32,
    /// Engines at once.
    pub(crate) slots: usize,
    /// What the server's bucket holds, in minutes; nobody tells the limiter.
    pub(crate) burst: f64,
}

impl Case {
    /// The usual one: twelve tasks of three agents.
    pub(crate) const fn new(limit: u32, slots: usize, burst: f64) -> Self {
        Self { tasks: 12, agents: 3, limit, slots, burst }
    }
}

/// Who stands between the engines and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Nobody.
    None,
    /// The limiter with the right limit, and nothing learned.
    Fixed,
    /// The limiter as the gateway uses it.
    Learning,
}

/// What came of one run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Tasks given up.
    pub(crate) lost: u32,
    /// Answers of any kind.
    pub(crate) answers: u32,
    /// Answers 429 of the server.
    pub(crate) refused: u32,
    /// Answers 429 of the limiter, after the longest hold.
    pub(crate) held: u32,
    /// Until the last task had ended, in minutes.
    pub(crate) makespan: f64,
    /// What all tokens take at the limit, in minutes.
    pub(crate) bound: f64,
    /// Calls that all tasks need.
    pub(crate) calls: usize,
    /// Uncached input tokens of all tasks.
    pub(crate) tokens: u64,
}

impl Outcome {
    /// The share of answers that were 429.
    pub(crate) fn share_refused(&self) -> f64 {
        f64::from(self.refused + self.held) / f64::from(self.answers.max(1))
    }

    /// The makespan in fluid bounds.
    pub(crate) fn stretch(&self) -> f64 {
        self.makespan / self.bound
    }
}

/// Random numbers, the same for the same seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, from: f64, to: f64) -> f64 {
        from + self.unit() * (to - from)
    }

    fn log_normal(&mut self, mu: f64, sigma: f64) -> f64 {
        let (u, v) = (self.unit().max(1e-12), self.unit());
        (mu + sigma * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).exp()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, never large")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// One turn of an agent's loop.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Input that is not in the cache.
    tokens: u64,
    output: u64,
    model: Duration,
    tool: Duration,
}

/// A task: a cold start, then turns that each add something to the cached prefix.
fn task(random: &mut Random) -> Vec<Turn> {
    let turns = 8 + random.next() % 17;
    let turn = |n| {
        let tokens = if n == 0 {
            random.between(18e3, 32e3)
        } else if random.unit() < 0.12 {
            random.between(8e3, 20e3)
        } else {
            random.log_normal(7.8, 0.6)
        };
        let model = random.between(6.0, 22.0);
        let tool = random.between(1.0, 9.0);
        Turn {
            tokens: whole(tokens),
            output: whole(model * 60.0),
            model: Duration::from_secs_f64(model),
            tool: Duration::from_secs_f64(tool),
        }
    };
    (0..turns).map(turn).collect()
}

/// The server's bucket.
struct Server {
    case: Case,
    level: f64,
    at: Instant,
}

impl Server {
    fn new(case: Case) -> Self {
        Self { case, level: f64::from(case.limit) * case.burst, at: Instant::now() }
    }

    fn readings(&self) -> Readings {
        // The server rounds what is left to thousands.
        let left = whole((self.level.max(0.0) / 1_000.0).round() * 1_000.0);
        let input = Reading { limit: Some(u64::from(self.case.limit)), remaining: Some(left) };
        Readings { input, ..Readings::default() }
    }

    /// Takes a call, or says how long to wait.
    fn ask(&mut self, tokens: u64) -> Result<(), Duration> {
        let (rate, size) = (f64::from(self.case.limit) / 60.0, f64::from(self.case.limit) * self.case.burst);
        self.level = (self.level + self.at.elapsed().as_secs_f64() * rate).min(size);
        self.at = Instant::now();
        // What is larger than the bucket passes when it is full.
        let needed = (tokens as f64).min(size);
        if self.level + 1e-6 < needed {
            return Err(Duration::from_secs_f64(((needed - self.level) / rate).ceil().max(1.0)));
        }
        self.level -= tokens as f64;
        Ok(())
    }
}

/// What all engines of a run share.
struct World {
    policy: Policy,
    server: Mutex<Server>,
    limiter: Limiter,
    estimator: Mutex<Estimator>,
    outcome: Mutex<Outcome>,
    random: Mutex<Random>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pool() -> Pool {
    Pool { credential: String::new(), group: "sonnet".to_owned() }
}

impl World {
    /// One call as the gateway makes it: whether it was answered, else how long the caller is told to wait.
    async fn call(&self, who: &Who, caller: &Asker, bytes: usize, prefix: u64, turn: Turn) -> Result<(), Duration> {
        if self.policy == Policy::None {
            lock(&self.server).ask(turn.tokens).inspect_err(|_| lock(&self.outcome).refused += 1)?;
            sleep(turn.model).await;
            return Ok(());
        }
        let ask = lock(&self.estimator).guess(caller, bytes);
        let admitted = self.limiter.admit(&pool(), who, ask).await;
        let mut lease = admitted.map_err(|refused| {
            lock(&self.outcome).held += 1;
            refused.retry_after
        })?;
        let (asked, readings) = {
            let mut server = lock(&self.server);
            let asked = server.ask(turn.tokens);
            (asked, server.readings())
        };
        lease.answered();
        if self.policy == Policy::Learning {
            self.limiter.learn(&pool(), &readings);
        }
        if let Err(wait) = asked {
            lock(&self.outcome).refused += 1;
            if self.policy == Policy::Learning {
                self.limiter.throttled(&pool(), Some(wait));
            }
            lease.settle(Ask::default());
            return Err(wait);
        }
        lease.counted(turn.tokens);
        sleep(turn.model).await;
        self.limiter.went_well(&pool());
        lease.settle(Ask { input: turn.tokens, output: turn.output });
        let usage = Usage {
            output_tokens: turn.output,
            cache_creation_input_tokens: turn.tokens,
            cache_read_input_tokens: prefix,
            ..Usage::default()
        };
        lock(&self.estimator).learn(caller, bytes, &usage);
        Ok(())
    }

    /// One engine with one task. Whether it came to its end.
    async fn work(&self, who: &Who, session: usize, turns: Vec<Turn>) -> bool {
        let name = match who {
            Who::Agent(agent) => agent.to_string(),
            Who::Orchestrator => String::new(),
        };
        let asker = Asker { who: name, model: "sonnet".to_owned(), session: Some(session.to_string()) };
        let mut prefix = 0;
        // Words differ in length from session to session.
        let bytes_per_token = lock(&self.random).between(2.8, 3.8);
        for turn in turns {
            let bytes = usize::try_from(whole((prefix + turn.tokens) as f64 * bytes_per_token)).unwrap_or(usize::MAX);
            let mut tries = 0;
            while let Err(told) = self.answered(who, &asker, bytes, prefix, turn).await {
                tries += 1;
                if tries >= TRIES || told > PATIENCE {
                    return false;
                }
                let own = Duration::from_secs_f64((0.5 * f64::from(1_u32 << (tries - 1).min(6))).min(32.0));
                let jitter = lock(&self.random).between(1.0, 1.25);
                sleep(told.max(own).mul_f64(jitter)).await;
            }
            prefix += turn.tokens;
            sleep(turn.tool).await;
        }
        true
    }

    async fn answered(&self, who: &Who, caller: &Asker, bytes: usize, prefix: u64, turn: Turn) -> Result<(), Duration> {
        let answer = self.call(who, caller, bytes, prefix, turn).await;
        lock(&self.outcome).answers += 1;
        answer
    }
}

/// Runs one case once.
pub(crate) fn run(case: Case, policy: Policy, seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads or files").block_on(simulate(case, policy, seed))
}

async fn simulate(case: Case, policy: Policy, seed: u64) -> Outcome {
    let mut random = Random(seed);
    let tasks: VecDeque<_> = (0..case.tasks).map(|_| task(&mut random)).collect();
    let tokens: u64 = tasks.iter().flatten().map(|turn| turn.tokens).sum();
    let calls = tasks.iter().map(Vec::len).sum();
    // Only the input binds: the others are as far above what twelve tasks need, whatever their number.
    let more = u32::try_from(case.tasks.div_ceil(12)).unwrap_or(u32::MAX);
    let limit =
        Limit { requests: 1_000_u32.saturating_mul(more), input: case.limit, output: 400_000_u32.saturating_mul(more) };
    let clock = Clock::fixed(jiff::Timestamp::UNIX_EPOCH);
    let world = Arc::new(World {
        policy,
        server: Mutex::new(Server::new(case)),
        limiter: Limiter::new(BTreeMap::from([("sonnet".to_owned(), limit)]), Duration::from_secs(45), clock),
        estimator: Mutex::default(),
        outcome: Mutex::default(),
        random: Mutex::new(random),
    });
    let waiting = Arc::new(Mutex::new(tasks.into_iter().enumerate().collect::<VecDeque<_>>()));
    let began = Instant::now();
    let mut slots = JoinSet::new();
    for slot in 0..case.slots {
        let (world, waiting) = (world.clone(), waiting.clone());
        let agent = format!("agent-{}", slot % case.agents).parse().expect("a name of ours");
        slots.spawn(async move {
            let who = Who::Agent(agent);
            loop {
                let Some((session, turns)) = lock(&waiting).pop_front() else { return };
                if !world.work(&who, session, turns).await {
                    lock(&world.outcome).lost += 1;
                }
            }
        });
    }
    slots.join_all().await;
    let levels = world.limiter.levels();
    assert!(levels.in_flight + levels.queued == 0, "the limiter holds something: {levels:?}");
    let makespan = began.elapsed().as_secs_f64() / 60.0;
    let outcome = *lock(&world.outcome);
    Outcome { makespan, bound: tokens as f64 / f64::from(case.limit), calls, tokens, ..outcome }
}

/// Sums of tasks and answers over `seeds` runs, means of times, and the worst of each.
pub(crate) fn mean(case: Case, policy: Policy, seeds: u32) -> (Outcome, Worst) {
    let mut all = Outcome::default();
    let mut worst = Worst::default();
    for seed in 1..=seeds {
        let one = run(case, policy, u64::from(seed));
        all.lost += one.lost;
        all.answers += one.answers;
        all.refused += one.refused;
        all.held += one.held;
        all.makespan += one.makespan / f64::from(seeds);
        all.bound += one.bound / f64::from(seeds);
        all.calls += one.calls;
        all.tokens += one.tokens;
        worst.refused = worst.refused.max(one.share_refused());
        worst.stretch = worst.stretch.max(one.stretch());
    }
    (all, worst)
}

/// The worst of several runs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Worst {
    /// The highest share of 429s.
    pub(crate) refused: f64,
    /// The longest makespan in fluid bounds.
    pub(crate) stretch: f64,
}
