//! What one seed stands for: graphs of tasks, the manners of their engines, and who is killed when.

use std::{fmt, time::Duration};

/// Who works.
pub(crate) const AGENTS: [&str; 3] = ["marie", "anga", "fabien"];

/// Tasks in a graph.
pub(crate) const TASKS: usize = 50;

/// `SplitMix64`: small, good enough, and the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A stream of its own per seed and purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = Self(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.next() % end).unwrap_or_default()
    }
}

/// What an engine does besides its work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manners {
    Plain,
    Slow,
    IgnoresTerm,
    LeavesChild,
    LeavesStranger,
    LeavesDaemon,
    HoldsPipe,
}

impl Manners {
    const ALL: [Self; 10] = [
        Self::Plain,
        Self::Plain,
        Self::Plain,
        Self::Slow,
        Self::Slow,
        Self::IgnoresTerm,
        Self::LeavesChild,
        Self::LeavesStranger,
        Self::LeavesDaemon,
        Self::HoldsPipe,
    ];

    /// The steps that show them.
    pub(crate) fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Slow => &[],
            Self::IgnoresTerm => &["--ignore-term"],
            Self::LeavesChild => &["--leave"],
            Self::LeavesStranger => &["--fork-setsid"],
            Self::LeavesDaemon => &["--ignore-term", "--daemon"],
            Self::HoldsPipe => &["--hold-pipe"],
        }
    }
}

/// One task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// `agent/id`.
    pub(crate) name: String,
    /// The names of those that must have ended before.
    pub(crate) after: Vec<String>,
    pub(crate) manners: Manners,
    /// How long its work takes.
    pub(crate) works: Duration,
    /// It comes through the verb and not as a file.
    pub(crate) by_verb: bool,
}

impl Task {
    pub(crate) fn agent(&self) -> &str {
        self.name.split_once('/').unwrap().0
    }

    pub(crate) fn id(&self) -> &str {
        self.name.split_once('/').unwrap().1
    }

    /// What it has to say in the end.
    pub(crate) fn answer(&self) -> String {
        format!("the answer of {}", self.name)
    }
}

/// The graph with this number: every task waits for up to three of the dozen before it, whoever's they are.
pub(crate) fn graph(seed: u64, number: usize) -> Vec<Task> {
    let mut rng = Rng::new(seed, 1 + number as u64);
    let mut tasks: Vec<Task> = Vec::with_capacity(TASKS);
    for n in 0..TASKS {
        let mut after: Vec<String> = Vec::new();
        for _ in 0..rng.below(4).min(n) {
            let name = tasks[n - 1 - rng.below(n.min(12))].name.clone();
            if !after.contains(&name) {
                after.push(name);
            }
        }
        let manners = Manners::ALL[rng.below(Manners::ALL.len())];
        let works = if matches!(manners, Manners::Slow) { 500 + rng.below(1_500) } else { 20 + rng.below(280) };
        let name = format!("{}/g{number}-t{n}", AGENTS[rng.below(AGENTS.len())]);
        let works = Duration::from_millis(works as u64);
        tasks.push(Task { name, after, manners, works, by_verb: rng.below(10) == 0 });
    }
    tasks
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    /// The process that decides.
    Core,
    /// Its parent, which starts it again.
    Guardian,
    Worker,
    Engine,
    /// All of them at once.
    All,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Core => "core",
            Self::Guardian => "guardian",
            Self::Worker => "worker",
            Self::Engine => "engine",
            Self::All => "all",
        })
    }
}

/// One kill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kill {
    /// After the kill before.
    pub(crate) wait: Duration,
    pub(crate) victim: Victim,
    /// Which one, where there are several: counted round.
    pub(crate) which: usize,
}

/// The kills of a seed, one after the other without end.
pub(crate) fn kills(seed: u64) -> impl Iterator<Item = Kill> {
    let mut rng = Rng::new(seed, 0);
    std::iter::repeat_with(move || Kill {
        wait: Duration::from_millis(5 + rng.below(396) as u64),
        victim: match rng.below(20) {
            0..5 => Victim::Core,
            5..8 => Victim::Guardian,
            8..13 => Victim::Worker,
            13..18 => Victim::Engine,
            _ => Victim::All,
        },
        which: rng.below(1_000),
    })
}
