//! What an agent is: its engine, model, prompt and place of work.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::AgentName;

/// How an agent's attempts are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// The Claude Code CLI where it is found and has a key or a login, else the Messages API.
    Auto,
    /// The Claude Code CLI, headless.
    Claude,
    /// The Messages API, without tools.
    Messages,
    /// Any program; the prompt arrives on its standard input.
    Command,
}

impl EngineKind {
    /// The word used in files and on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Claude => "claude",
            Self::Messages => "messages",
            Self::Command => "command",
        }
    }
}

/// What a `command` engine prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputKind {
    /// Plain text; the whole of it is the answer.
    #[default]
    Text,
    /// One JSON object per line, as the Claude Code CLI prints it.
    StreamJson,
}

/// What an agent may do without being asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permissions {
    /// Reads and searches.
    ReadOnly,
    /// Also writes in its workspace and runs commands there.
    #[default]
    Standard,
    /// Reads and searches; a person is asked for everything else.
    Ask,
    /// Everything; shown as a warning.
    Full,
}

/// How capable, and how dear, a model is to be. Which model that is says the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Plans and reports.
    Top,
    /// The work of agents.
    Middle,
    /// The work of sub-agents.
    Small,
}

impl Tier {
    /// Reads `top`, `middle` or `small`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "top" => Some(Self::Top),
            "middle" => Some(Self::Middle),
            "small" => Some(Self::Small),
            _ => None,
        }
    }
}

/// The model of each tier, alias or full id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiers {
    /// For plans and reports; savings are compared with it.
    pub top: String,
    /// For agents.
    pub middle: String,
    /// For sub-agents.
    pub small: String,
}

impl Default for Tiers {
    fn default() -> Self {
        Self { top: "opus".to_owned(), middle: "sonnet".to_owned(), small: "haiku".to_owned() }
    }
}

impl Tiers {
    /// The model that is meant by a tier's word, or by its own name.
    pub fn model<'a>(&'a self, named: &'a str) -> &'a str {
        match Tier::parse(named) {
            Some(Tier::Top) => &self.top,
            Some(Tier::Middle) => &self.middle,
            Some(Tier::Small) => &self.small,
            None => named,
        }
    }
}

/// How many sub-agents an attempt may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubagentCaps {
    /// In all; 0 = none.
    pub most: u32,
    /// At the same time.
    pub at_once: u32,
    /// How deep: 1 = a sub-agent starts no other.
    pub depth: u32,
}

impl Default for SubagentCaps {
    fn default() -> Self {
        Self { most: 12, at_once: 4, depth: 1 }
    }
}

/// One agent as configured. Paths are absolute; `engine` is resolved (never [`EngineKind::Auto`]) once the room runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSettings {
    /// Its name.
    pub name: AgentName,
    /// One line that says what it is for; the planner reads it too.
    pub role: String,
    /// How its attempts are run.
    pub engine: EngineKind,
    /// `command` engine: program and arguments.
    pub command: Vec<String>,
    /// `command` engine: what it prints.
    pub output: OutputKind,
    /// Model alias or full id.
    pub model: String,
    /// Model alias or full id of its sub-agents; `None` = the agent's own.
    #[serde(default)]
    pub subagent_model: Option<String>,
    /// How many sub-agents its attempts may have.
    #[serde(default)]
    pub subagents: SubagentCaps,
    /// System prompt file.
    pub prompt: PathBuf,
    /// Where it works.
    pub workspace: PathBuf,
    /// `CLAUDE_CONFIG_DIR` and HOME live below this folder.
    pub home: PathBuf,
    /// Worker processes at once.
    pub slots: u32,
    /// Default time allowed per attempt.
    pub timeout: Duration,
    /// What it may do unasked.
    pub permissions: Permissions,
    /// Its attempts run on other machines.
    #[serde(default)]
    pub elsewhere: bool,
}
