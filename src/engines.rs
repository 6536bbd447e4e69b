//! How an attempt is run: which program, with which arguments and environment, and how its output is read.
//!
//! Owns [`Engine`], its three kinds, the hidden verbs that start and imitate children, and the process tree. Must not
//! know queues, rooms or the worker's loop. Its one surprise: a [`Launch`] is complete; the child gets nothing else, no
//! variable, no descriptor, no argument.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

pub use crate::claude::{Exit, Finding, Progress, args::Session};
use crate::model::{AgentSettings, Ask, AttemptRef, Effort, Ending, EngineKind, Permit, limit::Windows};

mod cap;
pub mod claude;
pub mod command;
pub mod exec;
mod helpers;
pub mod messages;
pub mod script;
pub mod tree;
pub mod visit;

pub use cap::main as count_subagent;

/// The loopback relay for model calls, and this worker's token for it.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Opens it for one worker; never the real key.
    pub token: SecretString,
}

/// One attempt, as an engine needs to know it.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// Which.
    pub attempt: &'a AttemptRef,
    /// Whose.
    pub agent: &'a AgentSettings,
    /// Model alias or full id, passed on as it is.
    pub model: &'a str,
    /// What goes in on standard input.
    pub prompt: &'a str,
    /// The stage's id, the first part of the cookie.
    pub stage_id: &'a str,
    /// The conversation.
    pub session: Session,
    /// Where model calls go; `None` where the engine has a login of its own.
    pub gateway: Option<&'a Gateway>,
    /// `PATH` of the child.
    pub path: &'a OsStr,
    /// `LANG` of the child.
    pub lang: &'a OsStr,
    /// The most turns, for engines that count them.
    pub max_turns: Option<u32>,
    /// The most it may spend, in dollars, for engines that count it.
    pub max_budget_usd: Option<f64>,
    /// JSON schema of the answer, for engines that know it.
    pub schema: Option<&'a serde_json::Value>,
    /// How hard the model thinks, for engines that know it.
    pub effort: Option<Effort>,
}

impl Job<'_> {
    /// What marks every process of the attempt, in the environment as `PODIUM_COOKIE`.
    pub fn cookie(&self) -> String {
        cookie(self.stage_id, self.attempt)
    }

    /// The variables every child gets.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let task = &self.attempt.task;
        let n = self.attempt.n.to_string();
        vec![
            ("PATH".into(), self.path.into()),
            ("LANG".into(), self.lang.into()),
            (tree::COOKIE.into(), self.cookie().into()),
            ("PODIUM_AGENT".into(), task.agent.as_str().into()),
            ("PODIUM_TASK_ID".into(), task.id.as_str().into()),
            ("PODIUM_ATTEMPT".into(), n.clone().into()),
            ("TASK_ID".into(), task.id.as_str().into()),
            ("ATTEMPT".into(), n.into()),
        ]
    }

    /// The variables that lead to the gateway.
    fn gateway_environment(&self) -> Vec<(OsString, OsString)> {
        self.gateway.map_or_else(Vec::new, |gateway| {
            vec![
                ("ANTHROPIC_BASE_URL".into(), gateway.url.clone().into()),
                ("ANTHROPIC_API_KEY".into(), gateway.token.expose_secret().into()),
            ]
        })
    }
}

/// `{stage id}:{agent}/{id}#{n}`.
pub fn cookie(stage_id: &str, attempt: &AttemptRef) -> String {
    format!("{stage_id}:{attempt}")
}

/// Everything about a child before it is started.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program; a name without a slash is looked up in the child's own `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// What it reads on standard input.
    pub stdin: Vec<u8>,
    /// It asks, and reads answers there until it has its result; otherwise that was all.
    pub dialogue: bool,
    /// The engine's session, where there is one.
    pub session_id: Option<String>,
    /// It ends its own tools on an interrupt, so a dead parent should send that and not a kill.
    pub interruptible: bool,
}

impl fmt::Debug for Launch {
    /// Names of variables only: values hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Launch")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("stdin_bytes", &self.stdin.len())
            .finish_non_exhaustive()
    }
}

/// A way to run attempts.
pub trait Engine: Send + Sync + fmt::Debug {
    /// What to start; an ending where that is known to be impossible.
    fn launch(&self, job: &Job<'_>) -> Result<Launch, Ending>;
    /// Whether it can take up a session again.
    fn resumes(&self) -> bool {
        false
    }
    /// A fresh reader for one attempt's output.
    fn reader(&self) -> Box<dyn Reader>;
}

/// Reads one attempt's output.
pub trait Reader: Send + fmt::Debug {
    /// Takes more bytes of `out.log`.
    fn feed(&mut self, bytes: &[u8]);
    /// Whether the result is in and nothing more is expected.
    fn settled(&self) -> bool;
    /// Why waiting is pointless, where it is.
    fn hopeless(&self) -> Option<Ending>;
    /// How long the engine said, with its last word, that it would be silent.
    fn announced(&self) -> Duration;
    /// What is going on now.
    fn progress(&self) -> Progress;
    /// Takes what was said about the subscription's limits since this was last asked.
    fn take_windows(&mut self) -> Vec<Windows> {
        Vec::new()
    }
    /// Takes what it has asked a person for since this was last asked.
    fn take_asked(&mut self) -> Vec<Ask> {
        Vec::new()
    }
    /// Takes the names of what it has taken back of that since this was last asked.
    fn take_withdrawn(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// The line that answers a request, as its engine reads it; `None` where it is answered already.
    fn answer_to(&mut self, _request: &str, _permit: &Permit) -> Option<String> {
        None
    }
    /// Whether it waits for an answer of a person, so that its silence and the time mean nothing.
    fn waits_for_a_person(&self) -> bool {
        false
    }
    /// What it came to, once the output has ended; `stderr` is its end.
    fn finding(&mut self, exit: Exit, stderr: &str) -> Finding;
}

/// Programs that engines start.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Our own binary.
    pub podium: PathBuf,
    /// The Claude Code CLI, with leading arguments if it needs any; `None` where it was not found.
    pub claude: Option<Vec<OsString>>,
}

/// The engine of an agent.
pub fn of(agent: &AgentSettings, programs: &Programs) -> Box<dyn Engine> {
    match agent.engine {
        EngineKind::Claude => Box::new(claude::Claude::new(programs.claude.clone(), programs.podium.clone())),
        EngineKind::Auto if programs.claude.is_some() => {
            Box::new(claude::Claude::new(programs.claude.clone(), programs.podium.clone()))
        }
        EngineKind::Auto | EngineKind::Messages => Box::new(claude::Messages::new(programs.podium.clone())),
        EngineKind::Command => Box::new(command::Command::new(agent.command.clone(), agent.output)),
    }
}

/// Makes the folders below an agent's home that children write to, for their owner alone.
pub fn prepare_home(home: &Path) -> Result<(), Ending> {
    use std::os::unix::fs::DirBuilderExt as _;
    for folder in ["home", "config", "tmp"] {
        let folder = home.join(folder);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| Ending::Config {
            message: format!("the agent's home {} cannot be made: {error}", folder.display()),
        })?;
    }
    Ok(())
}

/// A fresh session id, a random UUID.
pub fn new_session_id() -> String {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => uuid::Builder::from_random_bytes(bytes).into_uuid(),
        // Without a source of randomness the time has to do.
        Err(_) => uuid::Uuid::now_v7(),
    }
    .to_string()
}
