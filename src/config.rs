//! The configuration in force: flag over environment over stage file over user file over default.
//!
//! Owns `podium.toml`, the environment's names, how a stage is found and laid out, and which engine runs an agent. Must
//! not know rooms, sockets or screens, and starts nothing. Its one surprise: every value is a [`Setting`] that remembers
//! where it came from, and keys are [`SecretString`]s that no `Debug` shows.

pub mod accounts;
mod elsewhere;
pub mod env;
pub mod fault;
mod file;
pub mod login;
mod prices;
pub mod prompts;
mod queue;
pub mod resolve;
pub mod stage;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use toml::Spanned;

pub use elsewhere::Elsewhere;
pub use env::Env;
pub use fault::{ConfigError, Fault, Place, nearest};
pub use file::parse_wait;
pub use queue::QueueSettings;
pub use resolve::Facts;
pub use stage::{Laid, Layout};

use crate::{
    ledger::Prices,
    model::{
        AccountName, AgentName, AgentSettings, Asking, EngineKind, MicroUsd, OnFailure, OutputKind, Permissions, Quiet,
        Resume, SubagentCaps, Tiers,
        budget::{AtCap, Caps},
    },
};
use file::{File, Layer, Patience, Wait};

/// The upstream that stands for the rehearsal stand-in.
pub const REHEARSAL_URL: &str = "rehearsal:";

/// The file `podium init` writes: every key, its default, commented out.
pub const SAMPLE: &str = include_str!("../assets/podium.toml");

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Compiled in.
    Default,
    /// The nearest parent folder with a `podium.toml`.
    Found,
    /// The user's file, at this line.
    User(usize),
    /// The stage's file, at this line.
    Stage(usize),
    /// This environment variable.
    Env(String),
    /// This flag.
    Flag(&'static str),
    /// A `prices.toml`; whose.
    Prices(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Found => f.write_str("the nearest parent with a podium.toml"),
            Self::User(line) => write!(f, "the user's podium.toml, line {line}"),
            Self::Stage(line) => write!(f, "podium.toml, line {line}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => f.write_str(name),
            Self::Prices(whose) => write!(f, "{whose} prices.toml"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value in force.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Deref for Setting<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Setting<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Setting<U> {
        Setting { value: change(self.value), source: self.source }
    }

    fn or(self, over: Option<Self>) -> Self {
        over.unwrap_or(self)
    }
}

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// `--stage`.
    pub stage: Option<PathBuf>,
    /// `--rehearse`.
    pub rehearse: bool,
    /// `--pace`.
    pub pace: Option<f64>,
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--queue`.
    pub queue: Option<String>,
}

/// One agent as configured; paths as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// What it is for, one line.
    pub role: Setting<String>,
    /// How its attempts are run; may be [`EngineKind::Auto`].
    pub engine: Setting<EngineKind>,
    /// `command` engine: program and arguments.
    pub command: Setting<Vec<String>>,
    /// `command` engine: what it prints.
    pub output: Setting<OutputKind>,
    /// Model alias or id.
    pub model: Setting<String>,
    /// The model of its sub-agents; `inherit` = the agent's own.
    pub subagent_model: Setting<String>,
    /// Sub-agents per attempt; 0 = none.
    pub subagents: Setting<u32>,
    /// Of them at the same time.
    pub subagents_at_once: Setting<u32>,
    /// How deep they may start others.
    pub subagent_depth: Setting<u32>,
    /// System prompt, relative to the stage or absolute.
    pub prompt: Setting<PathBuf>,
    /// Where it works, relative to the stage or absolute.
    pub workspace: Setting<PathBuf>,
    /// Worker processes; 0 = the agent is off.
    pub slots: Setting<u32>,
    /// Time allowed per attempt.
    pub timeout: Setting<Duration>,
    /// Time without a sign of life after which an attempt is ended; `None` = never.
    pub stall: Setting<Option<Duration>>,
    /// What it may do unasked.
    pub permissions: Setting<Permissions>,
    /// Its attempts run on other machines, by workers that somebody starts there.
    pub elsewhere: Setting<bool>,
    /// The account it works on, where that is not told by its key or login.
    pub account: Setting<Option<AccountName>>,
}

/// How the orchestrator works.
#[derive(Debug, Clone, PartialEq)]
pub struct Orchestrator {
    /// May be [`EngineKind::Auto`].
    pub engine: Setting<EngineKind>,
    /// Model alias or id.
    pub model: Setting<String>,
    /// What happens to a goal when a task of it has failed for good.
    pub on_failure: Setting<OnFailure>,
    /// How often a goal may be planned anew.
    pub replans: Setting<u32>,
}

/// Starting values of one model group's buckets, per minute; the server's headers correct them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: Setting<u32>,
    /// Input tokens that are not read from the cache.
    pub input_tokens: Setting<u32>,
    /// Output tokens.
    pub output_tokens: Setting<u32>,
}

/// What may be spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// On one task.
    pub task: Setting<MicroUsd>,
    /// On one goal; also the ceiling under which a plan is approved by itself.
    pub goal: Setting<MicroUsd>,
    /// On one day (UTC).
    pub day: Setting<MicroUsd>,
    /// What becomes of attempts that run when one is used up.
    pub at_cap: Setting<AtCap>,
}

impl Budget {
    /// As the room takes them: nothing is no cap.
    pub fn caps(&self) -> Caps {
        let cap = |setting: &Setting<MicroUsd>| Caps::or(Some(setting.value), None);
        Caps { task: cap(&self.task), goal: cap(&self.goal), day: cap(&self.day), at_cap: *self.at_cap }
    }
}

/// The model of each tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierSettings {
    /// For plans and reports.
    pub top: Setting<String>,
    /// For agents.
    pub middle: Setting<String>,
    /// For sub-agents.
    pub small: Setting<String>,
}

impl TierSettings {
    /// As the others take them.
    pub fn models(&self) -> Tiers {
        let model = |setting: &Setting<String>| setting.value.clone();
        Tiers { top: model(&self.top), middle: model(&self.middle), small: model(&self.small) }
    }
}

/// How a person is called when something waits for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// The terminal's bell rings.
    pub bell: Setting<bool>,
    /// The terminal is asked for a word on the desktop: `off`, `osc9`, `osc777`.
    pub desktop: Setting<String>,
    /// A program that is told, with JSON on its input; empty for none.
    pub hook: Setting<Vec<String>>,
    /// When nobody is called.
    pub quiet: Setting<Option<Quiet>>,
}

/// A key and the variable it came from.
#[derive(Clone)]
pub struct ApiKey {
    /// The key.
    pub secret: SecretString,
    /// Which variable held it.
    pub variable: String,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(from {})", self.variable)
    }
}

/// An agent ready for the room: its engine resolved, or what keeps it from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its settings; with trouble, the engine is the one that was wished for.
    pub settings: AgentSettings,
    /// What keeps it from working, with the remedy.
    pub trouble: Option<String>,
}

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The stage's folder, absolute.
    pub stage: PathBuf,
    /// How the stage was chosen.
    pub stage_source: Source,
    /// The gateway's address, loopback.
    pub gateway: Setting<SocketAddr>,
    /// The gateway's listener for workers on other machines.
    pub elsewhere: Elsewhere,
    /// Attempts at once, over all agents.
    pub max_running: Setting<u32>,
    /// The room starts its workers; otherwise somebody else does.
    pub start_workers: Setting<bool>,
    /// How long a worker keeps its attempt without a room.
    pub orphan_grace: Setting<Duration>,
    /// How long a person has to answer what an agent asks for.
    pub ask_timeout: Setting<Duration>,
    /// There is a person to be asked.
    pub attended: Setting<bool>,
    /// Days for which copies of what attempts made are kept; 0 = for ever.
    pub keep_copies: Setting<u32>,
    /// Where model calls go; [`REHEARSAL_URL`] = the stand-in.
    pub upstream: Setting<String>,
    /// The variable that holds the common key.
    pub api_key_env: Setting<String>,
    /// How slowly a rehearsal plays: 0 = as fast as it can, 1 = made for watching.
    pub pace: Setting<f64>,
    /// The rehearsal's seed.
    pub seed: Setting<u64>,
    /// The model of each tier.
    pub tiers: TierSettings,
    /// What model calls cost: the built-in table and the operator's rows.
    pub prices: Setting<Prices>,
    /// The orchestrator.
    pub orchestrator: Orchestrator,
    /// Every agent, also the ones that are off: marie, anga, fabien, then others by name.
    pub agents: Vec<Agent>,
    /// Starts allowed per task.
    pub attempts: Setting<u32>,
    /// Waits before the second, third … start; the last one repeats. Jittered by whoever waits.
    pub backoff: Setting<Vec<Duration>>,
    /// Whether work goes on when an account's limit clears.
    pub resume: Setting<Resume>,
    /// By model group, such as `sonnet`.
    pub limits: BTreeMap<String, Limits>,
    /// What may be spent.
    pub budget: Budget,
    /// How a person is called.
    pub attention: Attention,
    /// Where tasks wait.
    pub queue: QueueSettings,
    /// The filter of podium's own log.
    pub log: Setting<String>,
    /// `NO_COLOR` is set.
    pub no_color: bool,
    /// The program that is the Claude Code CLI: a name or a path.
    pub claude: Setting<PathBuf>,
    /// What was understood but has no effect, for `doctor`.
    pub notes: Vec<String>,
    keys: BTreeMap<String, ApiKey>,
    homes: Option<PathBuf>,
}

/// The agents that are there without being configured: name, role, prompt, workspace.
const BUILT_IN: [(&str, &str, &str, &str); 3] = [
    (
        "marie",
        "Dance teacher: students' evaluations and progress, class notes, choreography, recitals, notes to parents",
        "prompts/DANCE.md",
        "workspaces/dance",
    ),
    (
        "anga",
        "Software engineer: builds, reviews, debugs, designs, tests and speeds up software, and explains it",
        "prompts/ANGA.md",
        "workspaces/coding",
    ),
    (
        "fabien",
        "Marketing: campaigns, copy, social media, email, search, brand and figures",
        "prompts/FABIEN.md",
        "workspaces/marketing",
    ),
];

/// The orchestrator's own key variable.
const ORCHESTRATOR_KEY: &str = "ORCHESTRATOR_API_KEY";

/// The files in force, the stage's first.
struct Layers {
    stage: Option<Layer>,
    user: Option<Layer>,
}

impl Layers {
    fn get<T: Clone>(&self, key: impl Fn(&File) -> Option<&Spanned<T>>, default: T) -> Setting<T> {
        if let Some(layer) = &self.stage
            && let Some(value) = key(&layer.file)
        {
            return Setting { value: value.get_ref().clone(), source: Source::Stage(layer.line(value)) };
        }
        if let Some(layer) = &self.user
            && let Some(value) = key(&layer.file)
        {
            return Setting { value: value.get_ref().clone(), source: Source::User(layer.line(value)) };
        }
        Setting { value: default, source: Source::Default }
    }

    fn names<T>(&self, table: impl Fn(&File) -> &BTreeMap<Spanned<String>, T>) -> BTreeSet<String> {
        [&self.stage, &self.user]
            .into_iter()
            .flatten()
            .flat_map(|layer| table(&layer.file).keys().map(|k| k.get_ref().clone()))
            .collect()
    }
}

impl Config {
    /// How requests of agents are dealt with.
    pub fn asking(&self) -> Asking {
        Asking { patience: *self.ask_timeout, attended: *self.attended }
    }

    /// Finds the stage and loads its configuration.
    pub fn find(env: &Env, flags: &Flags) -> Result<Self, ConfigError> {
        let (stage, source) = stage::discover(flags.stage.as_deref(), env)?;
        let mut config = Self::load(&stage, env, flags)?;
        config.stage_source = source;
        Ok(config)
    }

    /// Loads the configuration of the stage at `stage`, which need not have a file.
    pub fn load(stage: &Path, env: &Env, flags: &Flags) -> Result<Self, ConfigError> {
        let stage_layer = Layer::read(stage.join(stage::FILE))?;
        let user = match &env.config_dir {
            Some(dir) => Layer::read(dir.join(stage::FILE))?,
            None => None,
        };
        let layers = Layers { stage: stage_layer, user };
        let mut faults = Vec::new();
        let over = Overrides::read(env, flags, &mut faults);
        if !faults.is_empty() {
            return Err(ConfigError::Invalid(faults));
        }
        let wait = |seconds| Wait(Duration::from_secs(seconds));
        let usd = |s: Setting<file::Dollars>| s.map(|dollars| dollars.0);
        let dollars = |n: i64| file::Dollars(MicroUsd(n * 1_000_000));
        let tiers = tiers(&layers);
        let models = tiers.models();
        let model = |s: Setting<String>| s.map(|named| models.model(&named).to_owned());
        let mut config = Self {
            stage: stage.to_owned(),
            stage_source: Source::Default,
            gateway: layers
                .get(|f| f.room.gateway.as_ref(), file::Loopback((Ipv4Addr::LOCALHOST, 0).into()))
                .map(|address| address.0),
            elsewhere: Elsewhere {
                listen: layers.get(|f| f.gateway.listen.as_ref(), elsewhere::Listen(None)).map(|l| l.0),
                address: layers.get(|f| f.gateway.address.as_ref(), elsewhere::Address(None)).map(|a| a.0),
            },
            max_running: layers.get(|f| f.room.max_running.as_ref(), 6),
            start_workers: layers.get(|f| f.room.start_workers.as_ref(), true),
            orphan_grace: layers.get(|f| f.room.orphan_grace.as_ref(), wait(60)).map(|w| w.0),
            ask_timeout: layers.get(|f| f.room.ask_timeout.as_ref(), wait(300)).map(|w| w.0),
            attended: layers.get(|f| f.room.attended.as_ref(), true),
            keep_copies: layers.get(|f| f.room.keep_copies.as_ref(), crate::queue::file::Settings::COPIES),
            upstream: layers.get(|f| f.upstream.url.as_ref(), "https://api.anthropic.com".to_owned()).or(over.upstream),
            api_key_env: layers.get(|f| f.upstream.api_key_env.as_ref(), "ANTHROPIC_API_KEY".to_owned()),
            pace: layers.get(|f| f.rehearsal.pace.as_ref(), 1.0).or(over.pace),
            seed: layers.get(|f| f.rehearsal.seed.as_ref(), 7).or(over.seed),
            orchestrator: Orchestrator {
                engine: layers.get(|f| f.orchestrator.engine.as_ref(), EngineKind::Auto),
                model: model(layers.get(|f| f.orchestrator.model.as_ref(), "top".to_owned())),
                on_failure: layers.get(|f| f.orchestrator.on_failure.as_ref(), OnFailure::Continue),
                replans: layers.get(|f| f.orchestrator.replans.as_ref(), 2),
            },
            agents: agents(&layers, &models, over.timeout.as_ref()),
            prices: prices::read(stage, env.config_dir.as_deref())?,
            tiers,
            attempts: layers.get(|f| f.retry.attempts.as_ref(), 3).or(over.attempts),
            backoff: layers
                .get(|f| f.retry.backoff.as_ref(), vec![wait(1), wait(2), wait(4)])
                .map(|waits| waits.into_iter().map(|w| w.0).collect()),
            resume: layers.get(|f| f.limits.resume.as_ref(), Resume::default()),
            limits: limits(&layers),
            budget: Budget {
                task: usd(layers.get(|f| f.budget.task.as_ref(), dollars(2))),
                goal: usd(layers.get(|f| f.budget.goal.as_ref(), dollars(10))),
                day: usd(layers.get(|f| f.budget.day.as_ref(), dollars(50))),
                at_cap: layers.get(|f| f.budget.at_cap.as_ref(), AtCap::End),
            },
            attention: Attention {
                bell: layers.get(|f| f.attention.bell.as_ref(), true),
                desktop: layers.get(|f| f.attention.desktop.as_ref(), "off".to_owned()),
                hook: layers.get(|f| f.attention.hook.as_ref(), Vec::new()),
                quiet: layers
                    .get(|f| f.attention.quiet.as_ref(), "off".to_owned())
                    .map(|text| Quiet::parse(&text).ok()),
            },
            queue: QueueSettings::read(&layers, env, over.queue),
            log: over.log,
            no_color: env.os("NO_COLOR").is_some(),
            claude: over.claude,
            notes: over.notes,
            keys: BTreeMap::new(),
            homes: env.data_dir.as_ref().map(|dir| dir.join("auth-homes")),
        };
        config.read_keys(env);
        Ok(config)
    }

    /// Where everything lies.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.stage)
    }

    /// Whether model calls go to the rehearsal stand-in.
    pub fn is_rehearsal(&self) -> bool {
        self.upstream.value == REHEARSAL_URL
    }

    /// The stage's folder name, as the screen shows it.
    pub fn name(&self) -> String {
        self.stage.file_name().map_or_else(|| "stage".to_owned(), |n| n.to_string_lossy().into_owned())
    }

    /// The agents that are on.
    pub fn enabled(&self) -> impl Iterator<Item = &Agent> {
        self.agents.iter().filter(|a| *a.slots > 0)
    }

    /// The settings of every agent that is on, with absolute paths; the engine may still be [`EngineKind::Auto`].
    pub fn agents(&self) -> Vec<AgentSettings> {
        self.enabled().map(|agent| self.settings(agent)).collect()
    }

    /// Every agent that is on, its engine resolved by what is found on this machine.
    pub fn resolved(&self, env: &Env) -> Vec<Resolved> {
        self.enabled()
            .map(|agent| {
                let mut settings = self.settings(agent);
                let facts = self.facts(&settings, env);
                let trouble = match self.resolve(&settings, &facts) {
                    Ok(engine) => {
                        settings.engine = engine;
                        self.prompt_trouble(agent)
                    }
                    Err(trouble) => Some(trouble),
                };
                Resolved { settings, trouble }
            })
            .collect()
    }

    /// The orchestrator's engine, or what keeps it from working.
    pub fn resolved_orchestrator(&self, env: &Env) -> Result<EngineKind, String> {
        let facts = Facts {
            cli: self.find_claude(env).is_some(),
            key: self.orchestrator_key().is_some(),
            login: has_login(&self.home("orchestrator")),
            rehearsal: self.is_rehearsal(),
            program: false,
        };
        let keys = [ORCHESTRATOR_KEY.to_owned(), self.api_key_env.value.clone()];
        resolve::orchestrator(*self.orchestrator.engine, &facts, self.names(&keys, "", "orchestrator"))
    }

    /// What is found for one agent.
    pub fn facts(&self, settings: &AgentSettings, env: &Env) -> Facts {
        Facts {
            cli: self.find_claude(env).is_some(),
            key: self.key_for(&settings.name).is_some(),
            login: has_login(&settings.home),
            rehearsal: self.is_rehearsal(),
            program: settings.command.first().is_some_and(|program| env.find_program(program.as_ref()).is_some()),
        }
    }

    /// The engine in force for one agent under these facts.
    pub fn resolve(&self, settings: &AgentSettings, facts: &Facts) -> Result<EngineKind, String> {
        let keys = [agent_key(&settings.name), self.api_key_env.value.clone()];
        let program = settings.command.first().map_or("", String::as_str);
        resolve::agent(settings.engine, facts, self.names(&keys, program, settings.name.as_str()))
    }

    /// The Claude Code CLI, where it is found.
    pub fn find_claude(&self, env: &Env) -> Option<PathBuf> {
        env.find_program(self.claude.as_os_str())
    }

    /// An agent's key: its own, else the common one.
    pub fn key_for(&self, agent: &AgentName) -> Option<&ApiKey> {
        self.keys.get(agent.as_str()).or_else(|| self.keys.get(""))
    }

    /// The orchestrator's key: its own, else the common one.
    pub fn orchestrator_key(&self) -> Option<&ApiKey> {
        self.keys.get("orchestrator").or_else(|| self.keys.get(""))
    }

    /// Every key there is, for redaction.
    pub fn keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.keys.values()
    }

    /// Where the orchestrator's login of the CLI lies.
    pub fn orchestrator_home(&self) -> PathBuf {
        self.home("orchestrator")
    }

    /// The orchestrator's prompt.
    pub fn orchestrator_prompt(&self) -> PathBuf {
        self.prompt(Path::new("prompts/orchestrator.md"))
    }

    /// Makes the stage's folders and podium's own copies of the prompts; nothing of the operator's is touched.
    pub fn prepare(&self) -> io::Result<Laid> {
        let mut laid = Laid::default();
        laid.folder(&self.stage, ".podium", 0o700)?;
        laid.folder(&self.stage, ".podium/prompts", 0o700)?;
        // A stage may lie in a repository; what is private stays out of its history.
        laid.file(&self.stage, ".podium/.gitignore", "*\n")?;
        for (name, text) in prompts::ALL {
            let path = self.stage.join(".podium").join(name);
            if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                std::fs::write(&path, text)?;
            }
        }
        for agent in self.enabled() {
            laid.folder(&self.stage, &format!("tasks/{}", agent.name), 0o755)?;
            laid.folder(&self.stage, &format!("results/{}", agent.name), 0o755)?;
            laid.folder(&self.stage, &format!("logs/{}", agent.name), 0o755)?;
            laid.folder(&self.stage, &agent.workspace.to_string_lossy(), 0o755)?;
            let home = self.home(agent.name.as_str());
            let shown = home.strip_prefix(&self.stage).unwrap_or(&home).to_string_lossy();
            laid.folder(&self.stage, &shown, 0o700)?;
        }
        laid.folder(&self.stage, "results/goals", 0o755)?;
        Ok(laid)
    }

    /// Makes a stage: the commented file, the prompts to edit, the folders. Nothing that is there is touched.
    pub fn init(&self) -> io::Result<Laid> {
        let mut laid = Laid::default();
        std::fs::create_dir_all(&self.stage)?;
        laid.file(&self.stage, stage::FILE, SAMPLE)?;
        laid.folder(&self.stage, "prompts", 0o755)?;
        for (name, text) in prompts::ALL {
            laid.file(&self.stage, name, text)?;
        }
        let more = self.prepare()?;
        laid.made.extend(more.made);
        laid.kept.extend(more.kept);
        Ok(laid)
    }

    /// Every key with its value and where it came from, in the order of the file. No secrets: keys are named only.
    pub fn listing(&self) -> Vec<(String, String, Source)> {
        let mut rows = Vec::new();
        let mut row = |key: &str, value: String, source: &Source| rows.push((key.to_owned(), value, source.clone()));
        row("stage", self.stage.display().to_string(), &self.stage_source);
        row("room.gateway", self.gateway.to_string(), &self.gateway.source);
        let Elsewhere { listen, address } = &self.elsewhere;
        let word = |set: Option<String>, without: &str| set.unwrap_or_else(|| without.to_owned());
        row("gateway.listen", word(listen.value.map(|l| l.to_string()), "off"), &listen.source);
        row("gateway.address", word(address.value.clone(), "auto"), &address.source);
        row("room.max_running", self.max_running.to_string(), &self.max_running.source);
        row("room.start_workers", self.start_workers.to_string(), &self.start_workers.source);
        row("room.orphan_grace", shown_wait(*self.orphan_grace), &self.orphan_grace.source);
        row("room.ask_timeout", shown_wait(*self.ask_timeout), &self.ask_timeout.source);
        row("room.attended", self.attended.to_string(), &self.attended.source);
        row("room.keep_copies", self.keep_copies.to_string(), &self.keep_copies.source);
        row("upstream.url", self.upstream.value.clone(), &self.upstream.source);
        row("upstream.api_key_env", self.api_key_env.value.clone(), &self.api_key_env.source);
        row("rehearsal.pace", self.pace.to_string(), &self.pace.source);
        row("rehearsal.seed", self.seed.to_string(), &self.seed.source);
        row("orchestrator.engine", self.orchestrator.engine.word().to_owned(), &self.orchestrator.engine.source);
        row("orchestrator.model", self.orchestrator.model.value.clone(), &self.orchestrator.model.source);
        let on_failure = &self.orchestrator.on_failure;
        row("orchestrator.on_failure", on_failure.word().to_owned(), &on_failure.source);
        row("orchestrator.replans", self.orchestrator.replans.to_string(), &self.orchestrator.replans.source);
        let TierSettings { top, middle, small } = &self.tiers;
        for (name, tier) in [("top", top), ("middle", middle), ("small", small)] {
            row(&format!("tiers.{name}"), tier.value.clone(), &tier.source);
        }
        for agent in &self.agents {
            let name = &agent.name;
            row(&format!("agents.{name}.engine"), agent.engine.word().to_owned(), &agent.engine.source);
            row(&format!("agents.{name}.model"), agent.model.value.clone(), &agent.model.source);
            let subagents = &agent.subagent_model;
            row(&format!("agents.{name}.subagent_model"), subagents.value.clone(), &subagents.source);
            for (what, cap) in [
                ("subagents", &agent.subagents),
                ("subagents_at_once", &agent.subagents_at_once),
                ("subagent_depth", &agent.subagent_depth),
            ] {
                row(&format!("agents.{name}.{what}"), cap.to_string(), &cap.source);
            }
            row(&format!("agents.{name}.prompt"), agent.prompt.display().to_string(), &agent.prompt.source);
            row(&format!("agents.{name}.workspace"), agent.workspace.display().to_string(), &agent.workspace.source);
            row(&format!("agents.{name}.slots"), agent.slots.to_string(), &agent.slots.source);
            row(&format!("agents.{name}.timeout"), shown_wait(*agent.timeout), &agent.timeout.source);
            let stall = agent.stall.map_or_else(|| "off".to_owned(), shown_wait);
            row(&format!("agents.{name}.stall"), stall, &agent.stall.source);
            let permissions = match *agent.permissions {
                Permissions::ReadOnly => "read-only",
                Permissions::Standard => "standard",
                Permissions::Ask => "ask",
                Permissions::Full => "full",
            };
            row(&format!("agents.{name}.permissions"), permissions.to_owned(), &agent.permissions.source);
            row(&format!("agents.{name}.elsewhere"), agent.elsewhere.to_string(), &agent.elsewhere.source);
            let account = agent.account.as_ref().map_or_else(|| "by its key or login".to_owned(), ToString::to_string);
            row(&format!("agents.{name}.account"), account, &agent.account.source);
        }
        row("retry.attempts", self.attempts.to_string(), &self.attempts.source);
        let waits: Vec<String> = self.backoff.iter().map(|w| shown_wait(*w)).collect();
        row("retry.backoff", waits.join(", "), &self.backoff.source);
        row("limits.resume", self.resume.word().to_owned(), &self.resume.source);
        for (group, limits) in &self.limits {
            let Limits { requests, input_tokens, output_tokens } = limits;
            row(&format!("limits.{group}.requests_per_minute"), requests.to_string(), &requests.source);
            row(&format!("limits.{group}.input_tokens_per_minute"), input_tokens.to_string(), &input_tokens.source);
            row(&format!("limits.{group}.output_tokens_per_minute"), output_tokens.to_string(), &output_tokens.source);
        }
        let cap = |cap: MicroUsd| if cap.is_zero() { "off".to_owned() } else { cap.to_string() };
        row("budget.task_usd", cap(*self.budget.task), &self.budget.task.source);
        row("budget.goal_usd", cap(*self.budget.goal), &self.budget.goal.source);
        row("budget.day_usd", cap(*self.budget.day), &self.budget.day.source);
        row("budget.at_cap", self.budget.at_cap.word().to_owned(), &self.budget.at_cap.source);
        let own = match self.prices.own() {
            0 => "the built-in table".to_owned(),
            rows => format!("the built-in table and {rows} rows of your own"),
        };
        row("prices", own, &self.prices.source);
        let attention = &self.attention;
        row("attention.bell", attention.bell.to_string(), &attention.bell.source);
        row("attention.desktop", attention.desktop.value.clone(), &attention.desktop.source);
        row("attention.hook", attention.hook.join(" "), &attention.hook.source);
        let quiet = attention.quiet.map_or_else(|| "off".to_owned(), |quiet| quiet.to_string());
        row("attention.quiet", quiet, &attention.quiet.source);
        for (key, value, source) in self.queue.rows() {
            row(key, value, &source);
        }
        row("log", self.log.value.clone(), &self.log.source);
        row("claude", self.claude.display().to_string(), &self.claude.source);
        rows
    }

    /// Days for which copies of what attempts made are kept; `None` = for ever.
    pub fn copies(&self) -> Option<u32> {
        Some(*self.keep_copies).filter(|days| *days > 0)
    }

    /// An agent's settings, its paths made absolute.
    pub fn settings(&self, agent: &Agent) -> AgentSettings {
        AgentSettings {
            name: agent.name.clone(),
            role: agent.role.value.clone(),
            engine: *agent.engine,
            command: agent.command.value.clone(),
            output: *agent.output,
            model: agent.model.value.clone(),
            subagent_model: Some(agent.subagent_model.value.clone()).filter(|model| model != INHERIT),
            subagents: SubagentCaps {
                most: *agent.subagents,
                at_once: *agent.subagents_at_once,
                depth: *agent.subagent_depth,
            },
            prompt: self.prompt(&agent.prompt),
            workspace: self.stage.join(&*agent.workspace),
            home: self.home(agent.name.as_str()),
            slots: *agent.slots,
            timeout: *agent.timeout,
            permissions: *agent.permissions,
            elsewhere: *agent.elsewhere,
        }
    }

    /// The prompt as written where it is there, else podium's own copy of the built-in text of that name.
    fn prompt(&self, written: &Path) -> PathBuf {
        let path = self.stage.join(written);
        let built_in = prompts::ALL.iter().any(|(name, _)| Path::new(name) == written);
        if built_in && !path.exists() { self.stage.join(".podium").join(written) } else { path }
    }

    fn prompt_trouble(&self, agent: &Agent) -> Option<String> {
        let path = self.stage.join(&*agent.prompt);
        let built_in = prompts::ALL.iter().any(|(name, _)| Path::new(name) == agent.prompt.as_path());
        (!built_in && !path.is_file()).then(|| format!("its prompt {} is missing; write it", agent.prompt.display()))
    }

    /// Where an agent's home lies: outside of the stage, because a login may be in it.
    pub fn home(&self, who: &str) -> PathBuf {
        match &self.homes {
            Some(homes) if !self.is_rehearsal() => homes.join(who),
            Some(_) | None => self.stage.join(".podium/homes").join(who),
        }
    }

    fn names<'a>(&'a self, keys: &'a [String], program: &'a str, who: &'a str) -> resolve::Names<'a> {
        resolve::Names { cli: self.claude.to_str().unwrap_or("claude"), keys, program, who }
    }

    fn read_keys(&mut self, env: &Env) {
        let agents = self.agents.iter().map(|a| (a.name.to_string(), agent_key(&a.name)));
        let rest =
            [("orchestrator".to_owned(), ORCHESTRATOR_KEY.to_owned()), (String::new(), self.api_key_env.value.clone())];
        self.keys = agents
            .chain(rest)
            .filter_map(|(who, variable)| {
                let secret = SecretString::from(env.text(&variable)?.trim().to_owned());
                Some((who, ApiKey { secret, variable }))
            })
            .collect();
    }
}

/// The variable that holds an agent's own key: `MARIE_API_KEY`.
pub fn agent_key(agent: &AgentName) -> String {
    format!("{}_API_KEY", agent.as_str().to_ascii_uppercase().replace('-', "_"))
}

/// Whether the CLI has been logged in within this home. What cannot be read is for the CLI itself to complain of.
fn has_login(home: &Path) -> bool {
    login::Login::read(home).map_or(true, |login| login.is_some())
}

/// A length of time as the file writes it.
pub fn shown_wait(wait: Duration) -> String {
    jiff::SignedDuration::try_from(wait).map_or_else(|_| format!("{}s", wait.as_secs()), |d| format!("{d:#}"))
}

/// Says that sub-agents use the model of their agent.
const INHERIT: &str = "inherit";

fn tiers(layers: &Layers) -> TierSettings {
    let Tiers { top, middle, small } = Tiers::default();
    TierSettings {
        top: layers.get(|f| f.tiers.top.as_ref(), top),
        middle: layers.get(|f| f.tiers.middle.as_ref(), middle),
        small: layers.get(|f| f.tiers.small.as_ref(), small),
    }
}

fn agents(layers: &Layers, tiers: &Tiers, timeout: Option<&Setting<Duration>>) -> Vec<Agent> {
    let mut names = layers.names(|f| &f.agents);
    let mut all = Vec::new();
    for (name, role, prompt, workspace) in BUILT_IN {
        names.remove(name);
        all.extend(agent(layers, tiers, name, [role, prompt, workspace], timeout));
    }
    for name in names {
        let (prompt, workspace) = (format!("prompts/{}.md", name.to_ascii_uppercase()), format!("workspaces/{name}"));
        all.extend(agent(layers, tiers, &name, ["", &prompt, &workspace], timeout));
    }
    all
}

fn agent(
    layers: &Layers,
    tiers: &Tiers,
    name: &str,
    defaults: [&str; 3],
    timeout: Option<&Setting<Duration>>,
) -> Option<Agent> {
    let [role, prompt, workspace] = defaults;
    let model = |s: Setting<String>| s.map(|named| tiers.model(&named).to_owned());
    let caps = SubagentCaps::default();
    Some(Agent {
        name: file::check_agent_name(name).ok()?,
        role: layers.get(|f| f.agents.get(name)?.role.as_ref(), role.to_owned()),
        engine: layers.get(|f| f.agents.get(name)?.engine.as_ref(), EngineKind::Auto),
        command: layers.get(|f| f.agents.get(name)?.command.as_ref(), Vec::new()),
        output: layers.get(|f| f.agents.get(name)?.output.as_ref(), OutputKind::Text),
        model: model(layers.get(|f| f.agents.get(name)?.model.as_ref(), "middle".to_owned())),
        subagent_model: model(layers.get(|f| f.agents.get(name)?.subagent_model.as_ref(), "small".to_owned())),
        subagents: layers.get(|f| f.agents.get(name)?.subagents.as_ref(), caps.most),
        subagents_at_once: layers.get(|f| f.agents.get(name)?.subagents_at_once.as_ref(), caps.at_once),
        subagent_depth: layers.get(|f| f.agents.get(name)?.subagent_depth.as_ref(), caps.depth),
        prompt: layers.get(|f| f.agents.get(name)?.prompt.as_ref(), PathBuf::from(prompt)),
        workspace: layers.get(|f| f.agents.get(name)?.workspace.as_ref(), PathBuf::from(workspace)),
        slots: layers.get(|f| f.agents.get(name)?.slots.as_ref(), 1),
        timeout: layers
            .get(|f| f.agents.get(name)?.timeout.as_ref(), Wait(Duration::from_mins(10)))
            .map(|w| w.0)
            .or(timeout.cloned()),
        stall: layers
            .get(|f| f.agents.get(name)?.stall.as_ref(), Patience(Some(Duration::from_mins(10))))
            .map(|patience| patience.0),
        permissions: layers.get(|f| f.agents.get(name)?.permissions.as_ref(), Permissions::Standard),
        elsewhere: layers.get(|f| f.agents.get(name)?.elsewhere.as_ref(), false),
        account: layers
            .get(|f| f.agents.get(name)?.account.as_ref(), String::new())
            .map(|account| AccountName::new(account).ok()),
    })
}

fn limits(layers: &Layers) -> BTreeMap<String, Limits> {
    layers
        .names(|f| &f.limits.groups)
        .into_iter()
        .map(|group| {
            let limits = Limits {
                requests: layers.get(|f| f.limits.groups.get(group.as_str())?.requests.as_ref(), 1_000),
                input_tokens: layers.get(|f| f.limits.groups.get(group.as_str())?.input_tokens.as_ref(), 2_000_000),
                output_tokens: layers.get(|f| f.limits.groups.get(group.as_str())?.output_tokens.as_ref(), 400_000),
            };
            (group, limits)
        })
        .collect()
}

/// What environment and flags say.
struct Overrides {
    upstream: Option<Setting<String>>,
    pace: Option<Setting<f64>>,
    seed: Option<Setting<u64>>,
    queue: Option<Setting<String>>,
    timeout: Option<Setting<Duration>>,
    attempts: Option<Setting<u32>>,
    log: Setting<String>,
    claude: Setting<PathBuf>,
    notes: Vec<String>,
}

impl Overrides {
    fn read(env: &Env, flags: &Flags, faults: &mut Vec<Fault>) -> Self {
        let flag = |name: &'static str| Source::Flag(name);
        let from = |name: &str| Source::Env(name.to_owned());
        let mut wrong = |place: Place, message: String| faults.push(Fault { place, message, nearest: None });
        let timeout = env.text("TASK_TIMEOUT").and_then(|text| {
            // Older programs write bare seconds here.
            let wait = match text.trim().parse::<u64>() {
                Ok(seconds) => Ok(Duration::from_secs(seconds)),
                Err(_) => parse_wait(text),
            };
            match wait.and_then(|wait| file::check_wait(wait, 1, 24 * 3600).map(|()| wait)) {
                Ok(value) => Some(Setting { value, source: from("TASK_TIMEOUT") }),
                Err(message) => {
                    wrong(Place::Variable("TASK_TIMEOUT".to_owned()), message);
                    None
                }
            }
        });
        // The older name counts what follows the first start.
        let attempts = env.text("MAX_RETRIES").and_then(|text| match text.trim().parse::<u32>() {
            Ok(retries) if retries <= 19 => Some(Setting { value: retries + 1, source: from("MAX_RETRIES") }),
            Ok(_) | Err(_) => {
                let message = format!("`{text}` is no number from 0 to 19");
                wrong(Place::Variable("MAX_RETRIES".to_owned()), message);
                None
            }
        });
        if let Some(pace) = flags.pace
            && let Err(message) = file::check_pace(pace)
        {
            wrong(Place::Flag("--pace"), message);
        }
        if let Some(queue) = &flags.queue
            && let Err(message) = queue::check(queue)
        {
            wrong(Place::Flag("--queue"), message);
        }
        let notes = [("TASK_DIR", "tasks/"), ("RESULT_DIR", "results/")]
            .into_iter()
            .filter(|(name, _)| env.os(name).is_some())
            .map(|(name, place)| format!("{name} is set and has no effect: the stage's own {place} is used"))
            .collect();
        Self {
            upstream: flags.rehearse.then(|| Setting { value: REHEARSAL_URL.to_owned(), source: flag("--rehearse") }),
            pace: flags.pace.map(|value| Setting { value, source: flag("--pace") }),
            seed: flags.seed.map(|value| Setting { value, source: flag("--seed") }),
            queue: flags.queue.clone().map(|value| Setting { value, source: flag("--queue") }),
            timeout,
            attempts,
            log: match env.text("PODIUM_LOG") {
                Some(value) => Setting { value: value.to_owned(), source: from("PODIUM_LOG") },
                None => Setting { value: "info".to_owned(), source: Source::Default },
            },
            claude: match env.os("CLAUDE_COMMAND") {
                Some(value) => Setting { value: value.into(), source: from("CLAUDE_COMMAND") },
                None => Setting { value: "claude".into(), source: Source::Default },
            },
            notes,
        }
    }
}

#[cfg(test)]
mod tests;
