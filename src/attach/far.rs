//! What a worker on another machine and its deputy in the room say to each other, over core NATS.
//!
//! Owns the messages and their subjects. Inside them travel the same words as on the room's socket. Its one surprise: a subject
//! proves no sender. Workers' names are random and stand in no bucket, and what carries a stream's header was stored by
//! somebody and is no word of theirs.

use async_nats::Message;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::wire::WorkerTell;
use crate::model::{AgentName, AttemptRef, Ending, Outcome, Report, text};

/// The longest message that is looked at, in bytes.
const LONGEST: usize = 1024 * 1024;

/// What both must speak alike. It grows with every change of these messages, or of the words inside them, that the other side
/// would not understand; versions of podium that speak the same serve each other.
pub const PROTOCOL: u32 = 2;

/// How often both say that they are there.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(2);

/// What any version of podium can read of any other's hello. Like [`Welcome::Bye`] it stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Caller {
    /// podium's version.
    #[serde(default)]
    pub version: String,
    /// What it speaks.
    #[serde(default)]
    pub protocol: u32,
    /// Its machine.
    #[serde(default)]
    pub host: String,
    /// Its process id there.
    #[serde(default)]
    pub pid: u32,
}

impl Caller {
    /// Why it cannot be served, where that is so: one sentence for both sides.
    pub fn refusal(&self) -> Option<String> {
        let Self { version, protocol, host, pid } = self;
        let (version, host) = (text::first_line(version, 40), text::first_line(host, 60));
        let own = env!("CARGO_PKG_VERSION");
        (*protocol != PROTOCOL).then(|| {
            format!(
                "the worker on {host} (podium {version}, process {pid}) speaks protocol {protocol}, and this room (podium {own}) \
                 speaks {PROTOCOL}; install the same podium on both"
            )
        })
    }
}

/// A request: who is there, and may it serve?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// What it speaks.
    pub protocol: u32,
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
        /// The newest of this deputy's orders that it has.
        #[serde(default)]
        heard: u64,
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
    /// One of the two above that must not be lost on the way: it is told again until a beat says that it was heard.
    Order {
        /// Its number, counted by this deputy for all workers that it ever has.
        n: u64,
        /// The oldest that no worker has said to have.
        oldest: u64,
        /// What is ordered.
        told: Box<Self>,
    },
    /// Send this attempt's log again from here on: what came after it was lost on the way.
    Log {
        /// Which.
        attempt: AttemptRef,
        /// How many bytes are there.
        from: u64,
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

/// Whether a worker's word may be that it takes a place; told without reading it.
pub fn is_arrival(message: &Message) -> bool {
    message.payload.starts_with(br#"{"says":"here""#)
}

/// Writes a message.
pub fn write(message: &impl Serialize) -> bytes::Bytes {
    // What we made ourselves can be written.
    serde_json::to_vec(message).unwrap_or_default().into()
}

/// Whether a name is one of [`name`]'s: what somebody else sends becomes part of a subject.
pub fn is_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A name that nobody else has and that is written down nowhere.
pub fn name() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Activity, Checks, Permit, Spend, report::Subagent};

    #[test]
    fn who_speaks_alike_is_served_whatever_its_version_and_who_does_not_is_named() {
        let caller = |protocol| Caller { version: "9.9.9\nx".into(), protocol, host: "attic".into(), pid: 7 };
        assert_eq!(caller(PROTOCOL).refusal(), None);
        let why = caller(PROTOCOL + 1).refusal().unwrap();
        assert!(why.starts_with("the worker on attic (podium 9.9.9, process 7) speaks protocol"), "{why}");
        let oldest: Caller = serde_json::from_str(r#"{"worker":"w","version":"0.1.0"}"#).unwrap();
        assert!(oldest.refusal().is_some());
    }

    /// What is said, word for word. Where this differs, somebody else's podium may not understand it: let `PROTOCOL` grow, and
    /// keep the new words under the new number.
    #[test]
    fn the_words_of_this_protocol_are_these() {
        let attempt = "anga/t".parse::<crate::model::TaskRef>().unwrap().attempt(2);
        let at = Timestamp::UNIX_EPOCH;
        let report = |report: Report| Says::Report(Box::new(report));
        let hello = Hello {
            protocol: PROTOCOL,
            worker: "w".into(),
            version: "v".into(),
            host: "h".into(),
            pid: 7,
            at,
            running: Some(attempt.clone()),
        };
        let activity = Activity {
            doing: "thinks".into(),
            subagents: vec![Subagent { id: "a".into(), name: "b".into() }],
            stalls_at: Some(at),
            ..Activity::default()
        };
        let outcome = Outcome::plain(attempt.task.clone(), crate::model::EndState::Done, Ending::Done, at);
        let says = [
            Says::Here { deputy: "d".into(), hello: hello.clone() },
            Says::Beat { at, load: Some(12), heard: 3 },
            Says::Leaves("why".into()),
            report(Report::Started { attempt: attempt.clone(), pid: 7, session_id: None, log: "l".into(), at }),
            report(Report::Active { attempt: attempt.clone(), activity }),
            report(Report::Withdrawn { attempt: attempt.clone(), request: "r".into() }),
            report(Report::Ended { outcome: Box::new(outcome.clone()), spend: Spend::default() }),
            report(Report::NotStarted { task: attempt.task.clone(), reason: "why".into() }),
        ];
        let tell = |tell: WorkerTell| Told::Tell(Box::new(tell));
        let assign =
            WorkerTell::Assign { task: attempt.task.clone(), may_spend: None, checks: Box::<Checks>::default() };
        let permit = Permit::Denied { why: "no".into() };
        let told = [
            Told::Beat,
            Told::Assign {
                tell: Box::new(assign),
                prerequisites: vec![outcome],
                previous: Some((Ending::Stopped, Some("s".into()))),
            },
            tell(WorkerTell::Cancel(attempt.clone())),
            tell(WorkerTell::End { attempt: attempt.clone(), ending: Ending::Cancelled }),
            tell(WorkerTell::Extend { attempt: attempt.clone(), by: std::time::Duration::from_secs(1) }),
            tell(WorkerTell::Permit { attempt: attempt.clone(), request: "r".into(), permit }),
            Told::Order { n: 4, oldest: 3, told: Box::new(tell(WorkerTell::Cancel(attempt.clone()))) },
            Told::Log { attempt, from: 3 },
            Told::Bye("why".into()),
        ];
        let line = |value: serde_json::Result<String>| value.unwrap();
        let mut words = vec![line(serde_json::to_string(&hello))];
        words.extend(
            [Welcome::Free("d".into()), Welcome::Bye("why".into())].iter().map(|w| line(serde_json::to_string(w))),
        );
        words.extend(says.iter().map(|says| line(serde_json::to_string(says))));
        words.extend(told.iter().map(|told| line(serde_json::to_string(told))));
        insta::assert_snapshot!(format!("protocol_{PROTOCOL}"), words.join("\n"));
    }
}
