//! The NATS server that work elsewhere goes over, as its room sees it.
//!
//! Owns whose server it is, since when it is away, and the sentences about both. Its one surprise: a server that is away may
//! still be this room's; whether it is, only the server can say when it is back.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A room that acts on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Names the room; random.
    pub room: String,
    /// Its machine.
    pub host: String,
    /// Its stage's folder there.
    pub stage: String,
    /// Its process there.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, stage, pid, since, .. } = self;
        write!(f, "the room on {host} (process {pid}, stage {stage}), open since {since:.0}")
    }
}

/// Whose server it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "hold")]
pub enum Hold {
    /// It has not said so yet.
    #[default]
    Unknown,
    /// This room's.
    Held,
    /// A room's that says nothing any more: it is this room's when that one's lease has run out.
    Quiet {
        /// Whose.
        by: Holder,
    },
    /// Another room's.
    Taken {
        /// Whose.
        by: Holder,
    },
    /// Nobody's for now: a stage's whole queue lies there.
    Occupied {
        /// Whose, and what to do.
        why: String,
    },
}

/// A server that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// Since when.
    pub since: Timestamp,
    /// What was seen.
    pub why: String,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Where it is, without what is secret.
    pub address: String,
    /// Whose it is.
    #[serde(flatten)]
    pub hold: Hold,
    /// Whether it is away.
    pub away: Option<Away>,
    /// What of its promises was not seen, or is not kept.
    pub warning: Option<String>,
}

impl Server {
    /// One that nobody has asked yet.
    pub fn new(address: String) -> Self {
        Self { address, hold: Hold::Unknown, away: None, warning: None }
    }

    /// Why nothing is started over it, in few words; when it went away, where that is why, is for the caller to write.
    pub fn brief(&self, clock: impl Fn(Timestamp) -> String) -> Option<String> {
        match (&self.hold, &self.away) {
            (Hold::Taken { by }, _) => Some(format!("NATS: the room on {} has it", by.host)),
            (_, Some(away)) => Some(format!("NATS: away since {}", clock(away.since))),
            (Hold::Occupied { .. }, None) => Some("NATS: a moved queue lies there".to_owned()),
            (Hold::Quiet { by }, None) => Some(format!("NATS: waits for the room on {}", by.host)),
            (Hold::Unknown, None) => Some("NATS: no answer yet".to_owned()),
            (Hold::Held, None) => None,
        }
    }

    /// Why nothing is started over it, in a sentence; `None` = it may be.
    pub fn shut(&self) -> Option<String> {
        let at = &self.address;
        match (&self.hold, &self.away) {
            (Hold::Taken { by }, _) => Some(taken(at, by)),
            (_, Some(Away { since, why })) => {
                Some(format!("the NATS server at {at} has been away since {since:.0}: {why}"))
            }
            (Hold::Occupied { why }, None) => Some(why.clone()),
            (Hold::Quiet { by }, None) => {
                Some(format!("the NATS server at {at} was held by {by}; it says nothing any more and is waited for"))
            }
            (Hold::Unknown, None) => Some(format!("the NATS server at {at} has not answered yet")),
            (Hold::Held, None) => None,
        }
    }
}

/// What is said of a server that another room has.
pub fn taken(address: &str, by: &Holder) -> String {
    format!(
        "the NATS server at {address} belongs to {by}; its screen opens there with `podium --stage {}`; for two rooms give \
         each an account of the server",
        by.stage
    )
}
