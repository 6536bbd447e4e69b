//! Kill anything, any time: real rooms and workers, engines with bad manners, and `kill -9` at random moments.
//!
//! A seed stands for graphs of 50 dependent tasks and for who is killed when. Whatever is killed, every task has exactly
//! one accepted result in the end, nothing ran twice at once, nothing before what it depends on, and nothing is left.
//!
//! `PODIUM_KILLS=200 PODIUM_SEED=7 cargo nextest run --test harness --no-capture` does 200 kills of seed 7; without
//! them it does as many as a check before every commit can afford.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[expect(dead_code, reason = "tests/room.rs uses the rest")]
mod common;
#[path = "harness/evidence.rs"]
mod evidence;
#[path = "harness/plan.rs"]
mod plan;
#[path = "harness/stage.rs"]
mod stage;

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt as _, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use evidence::{Fault, Notes, Results};
use plan::{Kill, Task, Victim};
use stage::{Process, Role, Stage};

/// How long nothing at all may happen that should.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often the driver looks.
const TICK: Duration = Duration::from_millis(10);

/// A new graph comes when fewer tasks than this are left, so that there is always something to hit.
const LOW: usize = 12;

/// A guardian may give up when this many cores have died in a row; one more may have died before it opened.
const GIVEN_UP: usize = 9;

/// What a run is about.
struct Run {
    seed: u64,
    stage: Stage,
    results: Results,
    tasks: Vec<Task>,
    graphs: usize,
    submitting: JoinSet<()>,
    kills: Vec<String>,
    counts: BTreeMap<Victim, usize>,
    /// Cores killed since the guardian was started.
    cores: usize,
    begun: Instant,
    faults: Vec<Fault>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            seed,
            stage: Stage::new(),
            results: Results::default(),
            tasks: Vec::new(),
            graphs: 0,
            submitting: JoinSet::new(),
            kills: Vec::new(),
            counts: BTreeMap::new(),
            cores: 0,
            begun: Instant::now(),
            faults: Vec::new(),
        };
        run.look();
        run
    }

    /// One look at everything; starts what is missing.
    fn look(&mut self) {
        if let Some(status) = self.stage.keep_room() {
            let dead = std::mem::take(&mut self.cores);
            // Killed by us; or what is left of the one before still has the stage, and the next try finds it free.
            let known = status.signal() == Some(9) || status.code() == Some(stage::TAKEN);
            if !known && dead < GIVEN_UP {
                self.faults.push(Fault::general(format!("a room ended by itself, after {dead} cores: {status}")));
            }
        }
        self.results.look(&self.stage);
        while let Some(ended) = self.submitting.try_join_next() {
            ended.unwrap();
        }
    }

    fn open_tasks(&self) -> usize {
        self.tasks.iter().filter(|t| !self.results.has(&t.name)).count()
    }

    fn add_graph(&mut self) {
        let graph = plan::graph(self.seed, self.graphs);
        self.graphs += 1;
        self.stage.lay_down(&graph);
        for task in graph.iter().filter(|t| t.by_verb) {
            self.submitting.spawn(self.stage.submit(task));
        }
        self.tasks.extend(graph);
    }

    /// Looks on for as long as this, or until there is what is looked for.
    async fn until<T>(&mut self, patience: Duration, mut there: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        loop {
            self.look();
            if let Some(found) = there(self) {
                return Some(found);
            }
            let now = Instant::now();
            if now >= end {
                return None;
            }
            tokio::time::sleep_until(end.min(now + TICK)).await;
        }
    }

    /// Waits for a victim of this kind, and kills it.
    async fn strike(&mut self, kill: Kill) {
        let wanted = |process: &Process| match kill.victim {
            Victim::Core => process.role == Role::Core,
            Victim::Guardian => process.role == Role::Guardian,
            Victim::Worker => process.role == Role::Worker,
            Victim::Engine => process.role == Role::Engine,
            Victim::All => process.role != Role::Verb,
        };
        let found = self
            .until(PATIENCE, |run| {
                let found: Vec<Process> = run.stage.processes().into_iter().filter(|p| wanted(p)).collect();
                (!found.is_empty()).then_some(found)
            })
            .await;
        let Some(found) = found else {
            return self.faults.push(Fault::general(format!("there was no {} to kill", kill.victim)));
        };
        let victims = if kill.victim == Victim::All { &found[..] } else { &found[kill.which % found.len()..][..1] };
        let at = self.begun.elapsed().as_millis();
        for victim in victims {
            victim.kill();
            self.kills.push(format!("{at} ms: {} {} {}", kill.victim, victim.pid, victim.words));
        }
        self.cores += usize::from(kill.victim == Victim::Core);
        *self.counts.entry(kill.victim).or_default() += 1;
    }

    /// Kills as often as asked while there is work, then lets everything end.
    async fn drive(&mut self, kills: usize) {
        self.add_graph();
        for kill in plan::kills(self.seed).take(kills) {
            self.until(kill.wait, |_| None::<()>).await;
            if self.open_tasks() < LOW {
                self.add_graph();
            }
            self.strike(kill).await;
            if !self.faults.is_empty() {
                return;
            }
        }
        // It goes on for as long as anything ends.
        let mut open = self.open_tasks();
        while open > 0 || !self.submitting.is_empty() {
            let before = open;
            let fewer = |run: &Self| {
                let now = run.open_tasks();
                (now < before || now == 0 && run.submitting.is_empty()).then_some(now)
            };
            let Some(now) = self.until(PATIENCE, fewer).await else {
                return self.faults.push(Fault::general(format!("G4: {before} tasks do not end")));
            };
            open = now;
        }
    }

    /// Closes the room and holds everything against the promises.
    async fn check(&mut self) {
        if self.until(PATIENCE, |run| run.stage.is_open().then_some(())).await.is_none() {
            self.faults.push(Fault::general("no room opened any more"));
        } else if let Err(left) = self.stage.close().await {
            self.faults.push(Fault::general(left));
        }
        let notes = Notes::read(&self.stage);
        self.results.check(&self.stage, &mut self.faults);
        notes.check(&mut self.faults);
        for task in &self.tasks {
            notes.check_task(&self.stage, task, &mut self.faults);
        }
        evidence::check_stage(&self.stage, &mut self.faults);
        eprintln!(
            "seed {}: {:?} kills, {} graphs, {} tasks, {} attempts begun, {} rooms, {:.1} s",
            self.seed,
            self.counts,
            self.graphs,
            self.tasks.len(),
            notes.begun(),
            self.stage.rooms,
            self.begun.elapsed().as_secs_f64()
        );
    }

    /// Tells everything that may explain what went wrong.
    fn explain(&mut self) {
        let notes = Notes::read(&self.stage);
        eprintln!("=== seed {}, kills\n{}", self.seed, self.kills.join("\n"));
        eprintln!("=== logs\n{}", self.stage.logs(None));
        let mut names: Vec<&String> = self.faults.iter().filter_map(|f| f.task.as_ref()).collect();
        names.sort();
        names.dedup();
        for name in names.into_iter().take(5) {
            let id = name.split_once('/').unwrap().1;
            eprintln!("=== {name}\n{}\n{}", notes.about(name).join("\n"), self.stage.traces(name));
            eprintln!("{}", self.stage.logs(Some(&format!("{id}#"))));
        }
        eprintln!("=== the stage is kept at {}", self.stage.keep().display());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}")))
}

#[tokio::test]
async fn f6_whatever_is_killed_every_task_ends_once_and_nothing_is_left() {
    let kills = usize::try_from(number("PODIUM_KILLS", 20)).unwrap();
    let mut run = Run::new(number("PODIUM_SEED", 1));
    run.drive(kills).await;
    run.check().await;
    for fault in run.faults.iter().take(30) {
        eprintln!("--- {} {}", fault.task.as_deref().unwrap_or(""), fault.text);
    }
    assert!(run.faults.is_empty(), "{} promises were not kept; see above", run.faults.len());
}
