//! How one can tell that a task is done: a sentence, or something that code can look at.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One way to tell. A plain text is a [`DoneWhen::Statement`] and is written as one; the others are objects with `kind`.
#[derive(Debug, Clone, PartialEq)]
pub enum DoneWhen {
    /// True by looking at the result; a reviewer's work, not code's.
    Statement(String),
    /// A file is there and not empty; relative to the agent's workspace.
    File {
        /// Its path.
        path: String,
    },
    /// A program, started in the agent's workspace without a shell, exits 0.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// A file holds JSON that fits a schema.
    Json {
        /// Its path.
        path: String,
        /// A JSON schema.
        schema: Value,
    },
}

impl DoneWhen {
    /// Whether code can tell by itself.
    pub fn is_probe(&self) -> bool {
        match self {
            Self::Statement(_) => false,
            Self::File { .. } | Self::Command { .. } | Self::Json { .. } => true,
        }
    }

    /// The file that must be there, where one is named.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::File { path } | Self::Json { path, .. } => Some(path),
            Self::Statement(_) | Self::Command { .. } => None,
        }
    }
}

/// What is looked at before a result counts. It comes from an approved plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// How one can tell that the task is done.
    pub done_when: Vec<DoneWhen>,
    /// Somebody else looks at the result.
    pub review: bool,
}

impl From<&str> for DoneWhen {
    fn from(text: &str) -> Self {
        Self::Statement(text.to_owned())
    }
}

impl fmt::Display for DoneWhen {
    /// As a person reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(text) => f.write_str(text),
            Self::File { path } => write!(f, "the file {path} is there and not empty"),
            Self::Command { argv } => write!(f, "`{}` exits 0", argv.join(" ")),
            Self::Json { path, schema } => write!(f, "{path} holds JSON that fits {schema}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Tagged {
    Statement { text: String },
    File { path: String },
    Command { argv: Vec<String> },
    Json { path: String, schema: Value },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Tagged(Tagged),
}

impl Serialize for DoneWhen {
    fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        match self.clone() {
            Self::Statement(text) => Written::Text(text),
            Self::File { path } => Written::Tagged(Tagged::File { path }),
            Self::Command { argv } => Written::Tagged(Tagged::Command { argv }),
            Self::Json { path, schema } => Written::Tagged(Tagged::Json { path, schema }),
        }
        .serialize(sink)
    }
}

impl<'de> Deserialize<'de> for DoneWhen {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(source)? {
            Written::Text(text) | Written::Tagged(Tagged::Statement { text }) => Self::Statement(text),
            Written::Tagged(Tagged::File { path }) => Self::File { path },
            Written::Tagged(Tagged::Command { argv }) => Self::Command { argv },
            Written::Tagged(Tagged::Json { path, schema }) => {
                // Structured output cannot hold a schema as an object, so planners give it as text.
                let schema = match schema {
                    Value::String(text) => serde_json::from_str(&text).map_err(serde::de::Error::custom)?,
                    other => other,
                };
                Self::Json { path, schema }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_again() {
        let written = r#"["it reads well",{"kind":"file","path":"quiz.html"},{"argv":["cargo","test"],"kind":"command"},{"kind":"json","path":"a.json","schema":{"type":"object"}}]"#;
        let read: Vec<DoneWhen> = serde_json::from_str(written).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::from_str::<Value>(written).unwrap());
        assert_eq!(read.iter().filter(|d| d.is_probe()).count(), 3);
        let other = r#"[{"kind":"statement","text":"it reads well"},{"kind":"json","path":"a.json","schema":"{\"type\":\"object\"}"}]"#;
        let other: Vec<DoneWhen> = serde_json::from_str(other).unwrap();
        assert_eq!((&other[0], &other[1]), (&read[0], &read[3]));
        assert!(serde_json::from_str::<DoneWhen>(r#"{"kind":"prayer","text":"x"}"#).is_err());
    }
}
