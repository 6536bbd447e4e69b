//! Ids as types: an agent's name never stands where a task's id belongs.

use std::{fmt, os::unix::ffi::OsStrExt, path::Path, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Names a stage by its absolute path: 16 hex digits, the same for every process of the stage.
pub fn stage_id(stage: &Path) -> String {
    let hash = Sha256::digest(stage.as_os_str().as_bytes());
    let short = hash.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    format!("{short:016x}")
}

/// Why a text is not an id; a fragment that names the text and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("the id is empty")]
    Empty,
    /// The text is longer than the limit, in bytes.
    #[error("the id is {len} characters long, at most {limit} are allowed")]
    TooLong {
        /// Length found.
        len: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A character the rule does not allow, at this byte offset.
    #[error("the id has {shown} at position {at}; ids use letters, digits, . _ - and start with a letter or digit")]
    Character {
        /// The character, printable.
        shown: String,
        /// Byte offset.
        at: usize,
    },
}

fn check(text: &str, limit: usize, allowed: impl Fn(usize, char) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > limit {
        return Err(IdError::TooLong { len: text.len(), limit });
    }
    match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
        Some((at, c)) => Err(IdError::Character { shown: c.escape_debug().to_string(), at }),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $limit:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The longest id allowed, in bytes.
            pub const LIMIT: usize = $limit;

            /// Checks `text` and takes it as an id.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text, Self::LIMIT, $allowed)?;
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(source)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// An agent's name, which is also a folder's name: `[a-z0-9][a-z0-9_-]{0,31}`.
    AgentName,
    32,
    |at, c| c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && matches!(c, '_' | '-'))
);
text_id!(
    /// A task's id, unique per agent: `[A-Za-z0-9][A-Za-z0-9._-]{0,119}`.
    TaskId,
    120,
    |at, c| c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '.' | '_' | '-'))
);
text_id!(
    /// An account's name: `ANTHROPIC_API_KEY`, `marie-login`.
    AccountName,
    64,
    |at, c| c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '.' | '_' | '-'))
);
text_id!(
    /// A goal's id, handed out by the room: `g1`, `g2`, …
    GoalId,
    32,
    |at, c| c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && matches!(c, '_' | '-'))
);

impl AccountName {
    /// The account of an agent whose credential nobody but its program knows.
    pub fn own(agent: &AgentName) -> Self {
        Self(format!("{agent}-own"))
    }

    /// The account behind the CLI's own login in an agent's home.
    pub fn login(agent: &AgentName) -> Self {
        Self(format!("{agent}-login"))
    }
}

impl TaskId {
    /// No id comes before this one.
    pub fn first() -> Self {
        Self("0".to_owned())
    }
}

/// One task of one agent, written `marie/eval-junior`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskRef {
    /// Whose task it is.
    pub agent: AgentName,
    /// Its id, unique per agent.
    pub id: TaskId,
}

impl TaskRef {
    /// Pairs an agent with an id.
    pub fn new(agent: AgentName, id: TaskId) -> Self {
        Self { agent, id }
    }

    /// The `n`th attempt at this task.
    pub fn attempt(&self, n: u32) -> AttemptRef {
        AttemptRef { task: self.clone(), n }
    }
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.agent, self.id)
    }
}

impl FromStr for TaskRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (agent, id) = text.split_once('/').ok_or(IdError::Empty)?;
        Ok(Self { agent: agent.parse()?, id: id.parse()? })
    }
}

impl Serialize for TaskRef {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskRef {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        String::deserialize(source)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One attempt at a task; numbers start at 1 and never repeat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    /// The task.
    pub task: TaskRef,
    /// The attempt's number, from 1.
    pub n: u32,
}

impl AttemptRef {
    /// Where outsiders find its log, relative to the stage.
    pub fn log(&self) -> String {
        format!("logs/{}/{}.{}.log", self.task.agent, self.task.id, self.n)
    }

    /// Whether an order for `named` speaks of this attempt. 0: it was given before anybody knew the attempt's number.
    pub fn is_meant_by(&self, named: &Self) -> bool {
        named.task == self.task && [0, self.n].contains(&named.n)
    }
}

impl fmt::Display for AttemptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.n)
    }
}

/// One place in which a worker process of an agent runs; `index` counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The agent.
    pub agent: AgentName,
    /// Which of its slots, from 0.
    pub index: u32,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.agent, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_leave_its_folder_is_refused_by_name() {
        for bad in ["", "../x", "a/b", ".hidden", "a b", "é", "a\u{1b}[2J", "-x"] {
            assert!(TaskId::new(bad).is_err(), "{bad:?}");
        }
        assert!(TaskId::new("a".repeat(120)).is_ok());
        assert_eq!(TaskId::new("a".repeat(300)), Err(IdError::TooLong { len: 300, limit: 120 }));
    }

    #[test]
    fn a_task_reference_survives_its_own_text() {
        let task: TaskRef = "marie/eval-1.b".parse().unwrap();
        assert_eq!(serde_json::to_string(&task).unwrap(), "\"marie/eval-1.b\"");
        assert_eq!(task.to_string().parse::<TaskRef>().unwrap(), task);
    }
}
