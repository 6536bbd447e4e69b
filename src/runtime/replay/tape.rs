//! The events of a run, from a recording or from what a stage has kept.
//!
//! Its one surprise: a stage keeps decisions in its journal, tasks in folders and money in the ledger, so a tape of a stage
//! is put together from the three by their times. What an agent's processes did between is in a recording alone
//! (`podium record`), and a tape without it shows no slots rather than guessed ones.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use crate::{
    attach::wire::Tell,
    config::Config,
    journal::Journal,
    ledger::Rows,
    model::{Clock, Standing, TaskRecord},
    queue::Change,
    room::{Event, GatewayEvent, Stamped, State, TaskEvent},
    runtime::{open, serve},
};

/// The events of a run.
#[derive(Debug)]
pub struct Tape {
    start: State,
    events: Vec<Stamped>,
    /// When each of them had happened; never earlier than the one before.
    times: Vec<Timestamp>,
    decisions: bool,
}

impl Tape {
    /// Events upon a state.
    pub fn new(start: State, events: Vec<Stamped>) -> Self {
        let mut last = if start.now > Timestamp::UNIX_EPOCH { start.now } else { Timestamp::MIN };
        let times = events.iter().map(|event| {
            last = last.max(event.at);
            last
        });
        let times = times.collect();
        Self { start, events, times, decisions: false }
    }

    /// Reads a recording.
    pub fn recorded(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
        let (mut state, mut events, mut whole) = (State::default(), Vec::new(), false);
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = lines.read_until(b'\n', &mut line);
            // A recorder that was killed leaves a torn last line.
            if read.with_context(|| format!("could not read {}", path.display()))? == 0 || !line.ends_with(b"\n") {
                break;
            }
            let tell = serde_json::from_slice(&line)
                .with_context(|| format!("{}:{number}: this is no line of a recording", path.display()))?;
            match tell {
                Tell::Snapshot(snapshot) => state = *snapshot,
                Tell::Tasks(piece) => state.add(piece),
                Tell::Whole => {
                    state.rebuild();
                    whole = true;
                }
                Tell::Event(event) => events.push(*event),
                Tell::Answer(..) | Tell::Beat | Tell::Bye(_) => {}
            }
        }
        if !whole {
            bail!("{} holds no whole snapshot: it was recorded by nobody, or for no moment", path.display());
        }
        Ok(Self::new(state, events))
    }

    /// Puts together what a stage has kept: its journal, its tasks, its ledger.
    pub async fn of_stage(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let control = config.stage.join(".podium");
        let mut events = Journal::<Stamped>::read(&control.join("journal.jsonl"))?;
        for fact in &mut events {
            if let Event::Opened(opened) = &mut fact.event {
                for agent in &mut opened.agents {
                    agent.settings.slots = 0;
                }
                opened.found.clear();
            }
        }
        if events.is_empty() {
            bail!("{} has no journal: no room was ever open on it", config.stage.display());
        }
        let now = clock.now();
        let changes = open::reader(config, clock).view().await.context("could not read the stage's files")?;
        for change in changes {
            match change {
                Change::Task(record) => events.extend(steps(&record)),
                // What had ended long ago is known in short, from the beginning.
                found @ Change::Found(..) => {
                    let at = events.first().map_or(now, |first| first.at);
                    events.push(Stamped { at, event: Event::Task(serve::task_event(found)) });
                }
                Change::Rejected(rejected) => {
                    let at = rejected.at;
                    events.push(Stamped { at, event: Event::Task(TaskEvent::Rejected { rejected }) });
                }
                Change::Gone(_)
                | Change::Requested { .. }
                | Change::RejectedGone(_)
                | Change::Trash(_)
                | Change::Space(_)
                | Change::Polling(_) => {}
            }
        }
        let begin = events.first().map_or(now, |first| first.at);
        for call in Rows::new(control.join("ledger")).read(begin)? {
            let appraisal = config.prices.appraise(&call, crate::api::full_id(&config.tiers.top));
            let at = call.at;
            events
                .push(Stamped { at, event: Event::Gateway(GatewayEvent::Called { call: Box::new(call), appraisal }) });
        }
        // Stable: what happened at one moment stays in this order, decisions first.
        events.sort_by_key(|event| event.at);
        Ok(Self { decisions: true, ..Self::new(State::default(), events) })
    }

    /// The state before the first event.
    pub fn start(&self) -> &State {
        &self.start
    }

    /// The events.
    pub fn events(&self) -> &[Stamped] {
        &self.events
    }

    /// Whether it was put together from what a stage keeps, and knows of no processes.
    pub fn is_of_decisions(&self) -> bool {
        self.decisions
    }

    /// When it begins.
    pub fn begin(&self) -> Timestamp {
        let first = self.times.first().copied().unwrap_or(self.start.now);
        if self.start.now > Timestamp::UNIX_EPOCH { self.start.now } else { first }
    }

    /// When it ends.
    pub fn end(&self) -> Timestamp {
        self.times.last().copied().unwrap_or(self.start.now)
    }

    /// When an event had happened.
    pub fn time(&self, event: usize) -> Option<Timestamp> {
        self.times.get(event).copied()
    }

    /// How many events had happened by then.
    pub fn until(&self, at: Timestamp) -> usize {
        self.times.partition_point(|time| *time <= at)
    }
}

/// What became of a task, step by step, as its files tell.
fn steps(record: &TaskRecord) -> Vec<Stamped> {
    let mut steps = Vec::new();
    let mut then = TaskRecord { standing: Standing::Waiting, attempts: Vec::new(), outcome: None, ..record.clone() };
    let mut step = |at, record: &TaskRecord| {
        let record = Box::new(record.clone());
        steps.push(Stamped { at, event: Event::Task(TaskEvent::Changed { record }) });
    };
    step(record.seen_at, &then);
    for (nth, attempt) in record.attempts.iter().enumerate() {
        let mut begun = attempt.clone();
        (begun.ended_at, begun.ending, begun.spend) = (None, None, crate::model::Spend::default());
        then.attempts.push(begun);
        then.standing = Standing::Running { attempt: attempt.n };
        step(attempt.started_at, &then);
        let next = record.attempts.get(nth + 1).map(|next| next.started_at);
        if let (Some(ended), Some(next)) = (attempt.ended_at, next) {
            if let Some(last) = then.attempts.last_mut() {
                *last = attempt.clone();
            }
            then.standing = Standing::Retrying { attempt: attempt.n, not_before: next };
            step(ended, &then);
        }
    }
    let last = then.attempts.last().map(|attempt| attempt.started_at);
    let ended = record.attempts.last().and_then(|attempt| attempt.ended_at);
    let at = record.outcome.as_ref().map(|outcome| outcome.completed_at).or(ended).or(last);
    step(at.unwrap_or(record.seen_at), record);
    steps
}
