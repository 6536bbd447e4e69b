//! Accounts: what a limit of the server belongs to. Several agents may share one.
//!
//! Owns the words. Must not know keys or logins: an account is known by its name alone. Its one surprise: where nothing
//! is known of an agent's credential, the agent has an account to itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AccountName, AgentName, limit::Windows};

/// What an account is paid by, which decides where its numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// A key, which the gateway puts on: every call is counted there.
    Key,
    /// The CLI's own login in the agent's home: podium only reads what the CLI prints.
    Login,
    /// Whatever the agent's program has: podium only reads what it prints.
    Own,
}

impl Credential {
    /// The word on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Login => "login",
            Self::Own => "its own",
        }
    }

    /// Whether what is known of it is read from what the engine prints, so that sums are estimates.
    pub fn is_observed(self) -> bool {
        match self {
            Self::Key => false,
            Self::Login | Self::Own => true,
        }
    }
}

/// Whether work on a parked account goes on when its limit clears.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resume {
    /// No: it stays parked until a person resumes it.
    Off,
    /// A person is asked then.
    #[default]
    Ask,
    /// By itself.
    On,
}

impl Resume {
    /// The word in files and on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Ask => "ask",
            Self::On => "on",
        }
    }
}

/// An account as it is found at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSettings {
    /// Its name.
    pub name: AccountName,
    /// What it is paid by.
    pub credential: Credential,
    /// Who uses it.
    pub agents: Vec<AgentName>,
    /// The gateway's name for it, where its calls pass there.
    pub label: Option<String>,
}

/// What the room needs to know of accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountSetup {
    /// Whether work goes on when a limit clears.
    pub resume: Resume,
    /// Every account that is known.
    pub accounts: Vec<AccountSettings>,
    /// What a person should know of them.
    pub notes: Vec<String>,
    /// How their windows stood when they were last heard of.
    pub windows: BTreeMap<AccountName, Windows>,
}
