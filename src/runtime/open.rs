//! From the configuration to what each role is started with.

use std::{ffi::OsString, fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use super::{
    ask::Cli,
    herald::Hook,
    known,
    serve::{self, Rehearsal},
};
use crate::{
    api,
    config::{Config, Env, Resolved},
    engines::Programs,
    gateway, limiter,
    model::{AccountSetup, Clock, EngineKind, MicroUsd, Modifiers, SlotId, Usage, id::stage_id, plan::ModelPrice},
    queue::{self, QueueError, file::FileQueue, nats},
    room::{
        Event, Opened, Stamped, State,
        event::{AgentSetup, Orchestrator, Planning},
        failure::Failure,
    },
    worker::{self, Retries, deputy},
};

/// What the room is opened with.
pub fn room(config: &Config, env: &Env) -> anyhow::Result<serve::Settings> {
    let prompt = config.orchestrator_prompt();
    let orchestrator_prompt =
        fs::read_to_string(&prompt).with_context(|| format!("could not read {}", prompt.display()))?;
    Ok(serve::Settings {
        stage: config.stage.clone(),
        agents: agents(config, env),
        orchestrator: orchestrator(config, env),
        orchestrator_cli: orchestrator_cli(config, env),
        orchestrator_prompt,
        max_running: *config.max_running,
        attempts: *config.attempts,
        copies: config.copies(),
        caps: config.budget.caps(),
        prices: config.prices.value.clone(),
        top_model: api::full_id(&config.tiers.top).to_owned(),
        planning: planning(config),
        accounts: accounts(config, env),
        asking: config.asking(),
        hook: Hook { command: config.attention.hook.value.clone(), quiet: *config.attention.quiet },
        gateway: gateway::Settings {
            listen: *config.gateway,
            upstream: config.upstream.value.clone(),
            keys: keys(config),
            limits: limits(config),
            hold: gateway::Settings::HOLD,
            caps: config.budget.caps(),
            spent_today: MicroUsd::default(),
            elsewhere: config.elsewhere.listen.map(|listen| gateway::Remote {
                listen,
                invitations: config.invitations(),
                within: gateway::Within::default(),
            }),
        },
        rehearsal: config.is_rehearsal().then(|| Rehearsal { seed: *config.seed, pace: *config.pace }),
        program: program()?,
        start_workers: *config.start_workers,
        engine: engine(config, "room", super::clock::system()).filter(|_| config.enabled().any(|a| *a.elsewhere)),
    })
}

/// How the NATS server is used, where there is one: by the room and its deputies, or by a worker of this agent.
pub fn engine(config: &Config, who: &str, clock: Clock) -> Option<nats::Settings> {
    let address = config.queue.server(&config.stage)?;
    let agents = config.agents().into_iter().map(|a| a.name).collect();
    let makes = who == "room";
    let settings = nats::Settings::new(address, who, config.stage.clone(), agents, clock);
    Some(nats::Settings { makes, attempts: *config.attempts, backoff: config.backoff.value.clone(), ..settings })
}

/// What the configuration alone says of a room; `offline` is why none can be open.
pub(super) fn picture(config: &Config, env: &Env, offline: Option<String>) -> Opened {
    Opened {
        name: config.stage.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        stage: config.stage.clone(),
        rehearsal: config.is_rehearsal(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: 0,
        core: 0,
        agents: agents(config, env),
        orchestrator: orchestrator(config, env),
        max_running: *config.max_running,
        attempts: *config.attempts,
        caps: config.budget.caps(),
        planning: planning(config),
        found: Vec::new(),
        offline,
        accounts: accounts(config, env),
        asking: config.asking(),
    }
}

/// A stage as its screen shows it until its room has answered.
pub fn before(config: &Config, env: &Env) -> State {
    let mut state = State::default();
    let at = super::clock::system().now();
    // Nobody is there to carry anything out.
    drop(state.update(Stamped { at, event: Event::Opened(Box::new(picture(config, env, None))) }));
    state
}

/// Every agent, its engine resolved.
pub(super) fn agents(config: &Config, env: &Env) -> Vec<AgentSetup> {
    let has_server = config.queue.server(&config.stage).is_some();
    let resolved = config.resolved(env).into_iter();
    let setup = resolved.map(|Resolved { settings, trouble }| {
        // What its engine needs is for its workers' machines to have.
        let trouble = match settings.elsewhere {
            false => trouble,
            true if has_server => None,
            true => Some("works elsewhere; name the NATS server: [queue] url = \"nats://host:4222\"".to_owned()),
        };
        AgentSetup { settings, trouble }
    });
    setup.collect()
}

/// Every account, and what happens when one's limit clears.
pub(super) fn accounts(config: &Config, env: &Env) -> AccountSetup {
    let windows = known::read(&config.stage, super::clock::system().now());
    AccountSetup { windows, ..config.accounts(&config.resolved(env)) }
}

/// How the orchestrator works.
pub(super) fn orchestrator(config: &Config, env: &Env) -> Orchestrator {
    Orchestrator {
        model: config.orchestrator.model.value.clone(),
        trouble: config.resolved_orchestrator(env).err(),
        failure: Failure { on_failure: *config.orchestrator.on_failure, replans: *config.orchestrator.replans },
    }
}

/// The CLI, where the orchestrator goes through it.
fn orchestrator_cli(config: &Config, env: &Env) -> Option<Cli> {
    if config.resolved_orchestrator(env) != Ok(EngineKind::Claude) {
        return None;
    }
    let variable = |name: &str, usual: &str| env.os(name).map_or_else(|| usual.into(), std::ffi::OsStr::to_owned);
    Some(Cli {
        program: config.find_claude(env)?,
        home: config.orchestrator_home(),
        path: variable("PATH", "/usr/local/bin:/usr/bin:/bin"),
        lang: variable("LANG", "C.UTF-8"),
    })
}

/// What plans are judged by: the goal's budget, and what the models that tasks may run on cost today.
pub(super) fn planning(config: &Config) -> Planning {
    let prices = &config.prices;
    let now = super::clock::system().now();
    let own = config.enabled().map(|agent| agent.model.value.clone());
    let tiers = config.tiers.models();
    let of_tiers = [&tiers.top, &tiers.middle, &tiers.small].map(String::clone);
    let models = own.chain(of_tiers).map(|model| {
        // A thousandth, so that no rate for long prompts is meant.
        let cost = |usage: Usage| {
            MicroUsd(prices.cost(api::full_id(&model), &usage, &Modifiers::default(), now).cost.0 * 1_000)
        };
        let context = if model.ends_with("[1m]") { 1_000_000 } else { 200_000 };
        let price = ModelPrice {
            input: cost(Usage { input_tokens: 1_000, ..Usage::default() }),
            output: cost(Usage { output_tokens: 1_000, ..Usage::default() }),
            context,
        };
        (model, price)
    });
    Planning { goal_budget: config.budget.caps().goal, models: models.collect(), tiers }
}

fn keys(config: &Config) -> gateway::Keys {
    let common = config.orchestrator_key().filter(|k| k.variable == config.api_key_env.value);
    let own = |key: &crate::config::ApiKey| key.variable != config.api_key_env.value;
    gateway::Keys {
        default: common
            .or_else(|| config.agents.iter().find_map(|a| config.key_for(&a.name).filter(|k| !own(k))))
            .map(|k| k.secret.expose_secret().to_owned().into()),
        agents: config
            .agents
            .iter()
            .filter_map(|a| {
                let key = config.key_for(&a.name).filter(|k| own(k))?;
                Some((a.name.clone(), key.secret.expose_secret().to_owned().into()))
            })
            .collect(),
        orchestrator: config.orchestrator_key().filter(|k| own(k)).map(|k| k.secret.clone()),
    }
}

fn limits(config: &Config) -> std::collections::BTreeMap<String, limiter::Limit> {
    let limit = |l: &crate::config::Limits| limiter::Limit {
        requests: *l.requests,
        input: *l.input_tokens,
        output: *l.output_tokens,
    };
    config.limits.iter().map(|(group, limits)| (group.clone(), limit(limits))).collect()
}

/// The stage's queue as it lies on disk, for whoever works on it beside the room.
pub fn queue(config: &Config, clock: Clock) -> Result<FileQueue, QueueError> {
    FileQueue::open(queue_settings(config, clock))
}

/// The same for whoever only reads it.
pub fn reader(config: &Config, clock: Clock) -> FileQueue {
    FileQueue::reader(queue_settings(config, clock))
}

fn queue_settings(config: &Config, clock: Clock) -> queue::file::Settings {
    let agents = config.agents().into_iter().map(|a| a.name).collect();
    super::effects::queue_settings(&config.stage, agents, *config.attempts, config.copies(), clock)
}

/// What the deputy of a slot is started with: its settings, the room's queue, the server.
pub fn deputy(
    config: &Config,
    slot: SlotId,
    clock: Clock,
) -> anyhow::Result<(deputy::Settings, FileQueue, nats::Settings)> {
    let mut engine = engine(config, "room", clock.clone()).context("[queue] url names no NATS server")?;
    engine.room = Some(super::hold::room_name(&config.stage)?);
    let queue = queue(config, clock.clone())?;
    Ok((deputy::Settings { slot, stage: config.stage.clone(), clock, retries: retries(config) }, queue, engine))
}

fn retries(config: &Config) -> Retries {
    Retries { attempts: *config.attempts, backoff: config.backoff.value.clone(), limit: Duration::from_secs(30) }
}

/// What a worker of this slot is started with. `engine` comes from the room, which knows the keys.
pub fn worker(
    config: &Config,
    env: &Env,
    slot: SlotId,
    engine: Option<EngineKind>,
    clock: Clock,
) -> anyhow::Result<worker::Settings> {
    let stall = config.enabled().find(|a| a.name == slot.agent).and_then(|a| *a.stall);
    let mut agent = config
        .agents()
        .into_iter()
        .find(|a| a.name == slot.agent)
        .with_context(|| format!("there is no agent {}", slot.agent))?;
    if let Some(engine) = engine {
        agent.engine = engine;
    }
    // Somebody may be writing the file just now. Started again, this worker reads it again.
    anyhow::ensure!(
        agent.engine != EngineKind::Command || !agent.command.is_empty(),
        "the room says that {} runs a command, and podium.toml names none now",
        agent.name
    );
    let mut settings =
        worker::Settings::new(slot, agent, config.stage.clone(), stage_id(&config.stage), program()?, clock);
    settings.programs =
        Programs { podium: program()?, claude: config.find_claude(env).map(|path| vec![path.into_os_string()]) };
    if let Some(path) = env.os("PATH") {
        path.clone_into(&mut settings.path);
    }
    if let Some(lang) = env.os("LANG") {
        settings.lang = OsString::from(lang);
    }
    settings.retries = retries(config);
    settings.tiers = config.tiers.models();
    settings.prices = config.prices.value.clone();
    settings.orphan_grace = *config.orphan_grace;
    settings.stall = stall;
    Ok(settings)
}

/// podium's own binary.
pub fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("could not find podium's own program")
}
