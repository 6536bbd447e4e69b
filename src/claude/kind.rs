//! What a line of a log is, and which kinds are wanted.

/// What a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The agent's words.
    Text,
    /// A tool call or its answer.
    Tool,
    /// A sub-agent begins or ends.
    Agent,
    /// Something failed or was refused.
    Error,
    /// The engine's own notes.
    System,
    /// What could not be read.
    Raw,
}

impl Kind {
    /// The word on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Tool => "tool",
            Self::Agent => "agent",
            Self::Error => "error",
            Self::System => "system",
            Self::Raw => "raw",
        }
    }
}

/// Which kinds are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Show {
    /// All.
    #[default]
    All,
    /// What agents say.
    Said,
    /// What they do: tools, sub-agents.
    Done,
    /// What sub-agents are for, and how they end.
    Helpers,
    /// What went wrong.
    Errors,
}

impl Show {
    /// The words on screen; nothing where everything is shown.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Said => Some("only what is said"),
            Self::Done => Some("only tools"),
            Self::Helpers => Some("only sub-agents"),
            Self::Errors => Some("only errors"),
        }
    }

    /// The next selection, going round.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::All => Self::Said,
            Self::Said => Self::Done,
            Self::Done => Self::Helpers,
            Self::Helpers => Self::Errors,
            Self::Errors => Self::All,
        }
    }

    /// Whether a line is shown; `depth` tells a sub-agent's words from the agent's own.
    pub fn has(self, kind: Kind, depth: u8) -> bool {
        match (self, kind) {
            (Self::All, _)
            | (Self::Said, Kind::Text)
            | (Self::Done, Kind::Tool | Kind::Agent)
            | (Self::Helpers, Kind::Agent)
            | (Self::Errors, Kind::Error) => true,
            (Self::Helpers, _) => depth > 0,
            (Self::Said | Self::Done | Self::Errors, _) => false,
        }
    }
}
