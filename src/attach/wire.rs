//! The messages, one JSON object per line.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    model::{AttemptRef, Checks, Ending, MicroUsd, Permit, Report, SlotId, TaskRef},
    room::{Answer, Order, Piece, Stamped, State},
};

/// The longest line either side accepts, in bytes.
pub const LONGEST_LINE: usize = 64 * 1024 * 1024;

/// The first line of a connection, sent by whoever connects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "hello")]
pub enum Hello {
    /// A screen or a client: wants the snapshot and all events.
    Screen {
        /// podium's version.
        version: String,
    },
    /// A worker.
    Worker {
        /// podium's version.
        version: String,
        /// Which slot it serves.
        slot: SlotId,
        /// Its process id.
        pid: u32,
        /// The gateway token a former room gave it.
        token: Option<String>,
        /// What it is running.
        running: Option<AttemptRef>,
        /// Nobody is there to work: it stands for a worker on another machine, and that is away.
        #[serde(default)]
        absent: bool,
    },
}

/// From a screen or a client to the room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Chosen by the asker; the answer carries it.
    pub ticket: u64,
    /// What is ordered.
    pub order: Order,
}

/// From the room to a screen or a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "tell", content = "it")]
pub enum Tell {
    /// The state without its tasks, once, first.
    Snapshot(Box<State>),
    /// Some of its tasks.
    Tasks(Piece<'static>),
    /// That were all tasks: the snapshot is whole.
    Whole,
    /// One event that happened after the snapshot.
    Event(Box<Stamped>),
    /// What came of an order.
    Answer(u64, Answer),
    /// The room is there and nothing else has happened.
    Beat,
    /// The room leaves, or does not want this connection; why.
    Bye(String),
}

/// The lines of a whole snapshot, without a copy of the state.
pub fn snapshot_lines(state: &State) -> Result<Vec<Arc<str>>, serde_json::Error> {
    let mut lines = vec![line("snapshot", state)?];
    for piece in state.pieces() {
        lines.push(line("tasks", &piece)?);
    }
    lines.push(serde_json::to_string(&Tell::Whole)?.into());
    Ok(lines)
}

/// The line of a [`Tell::Event`], without a copy of the event.
pub fn event_line(stamped: &Stamped) -> Result<Arc<str>, serde_json::Error> {
    line("event", stamped)
}

fn line(tell: &str, it: &impl Serialize) -> Result<Arc<str>, serde_json::Error> {
    Ok(format!(r#"{{"tell":"{tell}","it":{}}}"#, serde_json::to_string(it)?).into())
}

/// From the room to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "tell", content = "it")]
pub enum WorkerTell {
    /// Where model calls go; `None` = the engine's own login, and not through the gateway.
    Welcome(Option<Door>),
    /// Claim and run this.
    Assign {
        /// Which task.
        task: TaskRef,
        /// What is left of its budget, for an engine that can keep to it.
        may_spend: Option<MicroUsd>,
        /// What is looked at before its result counts.
        #[serde(default)]
        checks: Box<Checks>,
    },
    /// End this attempt; number 0 means whatever runs of this task.
    Cancel(AttemptRef),
    /// End this attempt in this way; number 0 means whatever runs of this task.
    End {
        /// Which.
        attempt: AttemptRef,
        /// As what.
        ending: Ending,
    },
    /// Let this attempt be silent for so much longer; number 0 means whatever runs of this task.
    Extend {
        /// Which.
        attempt: AttemptRef,
        /// How much longer.
        by: Duration,
    },
    /// What this attempt asked for is answered.
    Permit {
        /// Which.
        attempt: AttemptRef,
        /// The engine's name for what was asked.
        request: String,
        /// The answer.
        permit: Permit,
    },
    /// Leave after the attempt, or now.
    Leave {
        /// After the attempt.
        drain: bool,
    },
    /// The room does not want this worker; why.
    Bye(String),
}

/// The gateway, for one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Door {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// This worker's token.
    pub token: String,
}

/// From a worker to the room, after its hello.
pub type WorkerSays = Report;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Event;

    #[test]
    fn the_lines_made_without_a_copy_are_read_as_what_they_are() {
        let state = State { name: "studio".into(), ..State::default() };
        let lines = snapshot_lines(&state).unwrap();
        let told: Vec<Tell> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(told, [Tell::Snapshot(Box::new(state)), Tell::Whole]);
        let stamped = Stamped { at: jiff::Timestamp::UNIX_EPOCH, event: Event::TimeCame };
        let line = event_line(&stamped).unwrap();
        assert_eq!(serde_json::from_str::<Tell>(&line).unwrap(), Tell::Event(Box::new(stamped)));
    }
}
