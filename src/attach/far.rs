//! What a worker on another machine and its deputy in the room say to each other, over core NATS.
//!
//! Owns the messages and their subjects. Inside them travel the same words as on the room's socket. Its one surprise: a subject
//! proves no sender. Workers' names are random and stand in no bucket, and what carries a stream's header was stored by
//! somebody and is no word of theirs.

use async_nats::Message;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::wire::WorkerTell;
use crate::model::{AgentName, AttemptRef, Ending, Outcome, Report};

/// The longest message that is looked at, in bytes.
const LONGEST: usize = 1024 * 1024;

/// How often both say that they are there.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(2);

/// A request: who is there, and may it serve?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name for this connection, random.
    pub worker: String,
    /// podium's version.
    pub version: String,
    /// Its machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// What time it is there.
    pub at: Timestamp,
    /// What it is running.
    pub running: Option<AttemptRef>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer", content = "it")]
pub enum Welcome {
    /// A deputy is free; its name.
    Free(String),
    /// The room does not want this worker; why.
    Bye(String),
}

/// From a worker to its deputy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "says", content = "it")]
pub enum Says {
    /// It takes this deputy's offer.
    Here {
        /// Whose.
        deputy: String,
        /// Who it is.
        hello: Hello,
    },
    /// It is there.
    Beat {
        /// What time it is there.
        at: Timestamp,
        /// Its machine's load of the last minute, in hundredths.
        load: Option<u32>,
    },
    /// It reports.
    Report(Box<Report>),
    /// It goes.
    Leaves(String),
}

/// From a deputy to its worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "told", content = "it")]
pub enum Told {
    /// The room is there.
    Beat,
    /// The room's word, as on its socket.
    Tell(Box<WorkerTell>),
    /// Run this, with what the room's own queue knows of it.
    Assign {
        /// As on the socket.
        tell: Box<WorkerTell>,
        /// What came of its prerequisites.
        prerequisites: Vec<Outcome>,
        /// The attempt before this one.
        previous: Option<(Ending, Option<String>)>,
    },
    /// This deputy serves another worker, or goes.
    Bye(String),
}

/// Where an agent's workers ask for a place.
pub fn hello_subject(agent: &AgentName) -> String {
    format!("podium.room.{agent}.hello")
}

/// Where a worker speaks; `*` = any.
pub fn says_subject(agent: &AgentName, worker: &str) -> String {
    format!("podium.worker.{agent}.{worker}.says")
}

/// Where a worker is told.
pub fn told_subject(agent: &AgentName, worker: &str) -> String {
    format!("podium.worker.{agent}.{worker}.told")
}

/// Where a running attempt's log goes as it grows.
pub fn log_subject(agent: &AgentName, worker: &str) -> String {
    format!("podium.log.{agent}.{worker}")
}

/// The headers of a piece of log.
pub const LOG_OF: &str = "Podium-Attempt";
/// Where in the log it begins.
pub const LOG_AT: &str = "Podium-At";

/// Reads a message; `None` where it is none of ours.
pub fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    let stored = message.headers.as_ref().is_some_and(|headers| headers.get("Nats-Stream").is_some());
    if stored || message.payload.len() > LONGEST {
        tracing::warn!(subject = %message.subject, "a message is none of a worker's");
        return None;
    }
    match serde_json::from_slice(&message.payload) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::warn!(subject = %message.subject, %error, "a message could not be read");
            None
        }
    }
}

/// Writes a message.
pub fn write(message: &impl Serialize) -> bytes::Bytes {
    // What we made ourselves can be written.
    serde_json::to_vec(message).unwrap_or_default().into()
}

/// A name that nobody else has and that is written down nowhere.
pub fn name() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
