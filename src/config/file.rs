//! `podium.toml` as it is written: every key optional, unknown keys refused, every value with its place.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{
    elsewhere,
    fault::{ConfigError, Fault, Place, from_toml, position},
};
use crate::model::{
    AccountName, AgentName, EngineKind, MicroUsd, OnFailure, OutputKind, Permissions, Quiet, Resume, Tier,
    budget::{self, AtCap},
};

/// A key that may be left out, with the place of its value.
pub(super) type Key<T> = Option<Spanned<T>>;

/// One file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) room: Room,
    pub(super) gateway: elsewhere::Gateway,
    pub(super) upstream: Upstream,
    pub(super) rehearsal: Rehearsal,
    pub(super) orchestrator: Orchestrator,
    pub(super) tiers: Tiers,
    pub(super) agents: BTreeMap<Spanned<String>, Agent>,
    pub(super) retry: Retry,
    pub(super) limits: LimitTables,
    pub(super) budget: Budget,
    pub(super) attention: Attention,
    pub(super) queue: Queue,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Attention {
    pub(super) bell: Key<bool>,
    pub(super) desktop: Key<String>,
    pub(super) hook: Key<Vec<String>>,
    pub(super) quiet: Key<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Room {
    pub(super) gateway: Key<Loopback>,
    pub(super) max_running: Key<u32>,
    pub(super) start_workers: Key<bool>,
    pub(super) orphan_grace: Key<Wait>,
    pub(super) ask_timeout: Key<Wait>,
    pub(super) attended: Key<bool>,
    pub(super) keep_copies: Key<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Upstream {
    pub(super) url: Key<String>,
    pub(super) api_key_env: Key<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rehearsal {
    pub(super) pace: Key<f64>,
    pub(super) seed: Key<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Orchestrator {
    pub(super) engine: Key<EngineKind>,
    pub(super) model: Key<String>,
    pub(super) on_failure: Key<OnFailure>,
    pub(super) replans: Key<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tiers {
    pub(super) top: Key<String>,
    pub(super) middle: Key<String>,
    pub(super) small: Key<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agent {
    pub(super) role: Key<String>,
    pub(super) engine: Key<EngineKind>,
    pub(super) command: Key<Vec<String>>,
    pub(super) output: Key<OutputKind>,
    pub(super) model: Key<String>,
    pub(super) subagent_model: Key<String>,
    pub(super) subagents: Key<u32>,
    pub(super) subagents_at_once: Key<u32>,
    pub(super) subagent_depth: Key<u32>,
    pub(super) prompt: Key<PathBuf>,
    pub(super) workspace: Key<PathBuf>,
    pub(super) slots: Key<u32>,
    pub(super) timeout: Key<Wait>,
    pub(super) stall: Key<Patience>,
    pub(super) permissions: Key<Permissions>,
    pub(super) elsewhere: Key<bool>,
    pub(super) account: Key<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retry {
    pub(super) attempts: Key<u32>,
    pub(super) backoff: Key<Vec<Wait>>,
}

/// `[limits]`: what happens when a limit clears, and a table for each model group.
#[derive(Debug, Clone, Default)]
pub(super) struct LimitTables {
    pub(super) resume: Key<Resume>,
    pub(super) groups: BTreeMap<Spanned<String>, Limits>,
}

impl<'de> Deserialize<'de> for LimitTables {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = LimitTables;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`resume` and one table for each model group, such as [limits.sonnet]")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<LimitTables, A::Error> {
                let mut tables = LimitTables::default();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    if key.get_ref() == "resume" {
                        tables.resume = Some(map.next_value()?);
                    } else {
                        tables.groups.insert(key, map.next_value()?);
                    }
                }
                Ok(tables)
            }
        }
        source.deserialize_map(Visitor)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    #[serde(rename = "requests_per_minute")]
    pub(super) requests: Key<u32>,
    #[serde(rename = "input_tokens_per_minute")]
    pub(super) input_tokens: Key<u32>,
    #[serde(rename = "output_tokens_per_minute")]
    pub(super) output_tokens: Key<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Budget {
    #[serde(rename = "task_usd")]
    pub(super) task: Key<Dollars>,
    #[serde(rename = "goal_usd")]
    pub(super) goal: Key<Dollars>,
    #[serde(rename = "day_usd")]
    pub(super) day: Key<Dollars>,
    pub(super) at_cap: Key<AtCap>,
}

/// A cap in dollars; nothing is none: `2.5`, `"off"`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dollars(pub(super) MicroUsd);

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Dollars;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount of dollars such as 2.5, or \"off\"")
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Dollars, E> {
                let outside = || E::custom(format!("{number} is outside 0 to 1000000 dollars"));
                budget::cap(number).map(Dollars).ok_or_else(outside)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Dollars, E> {
                self.visit_f64(number as f64)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Dollars, E> {
                budget::parse_cap(text).map(Dollars).map_err(E::custom)
            }
        }
        source.deserialize_any(Visitor)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Queue {
    pub(super) url: Key<String>,
    pub(super) credentials: Key<PathBuf>,
    pub(super) ca: Key<PathBuf>,
    pub(super) monitor: Key<Vec<String>>,
    pub(super) replicas: Key<u32>,
}

/// A length of time with its unit: `"10m"`, `"1h 30m"`, `"PT5M"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait(pub(super) Duration);

/// Reads a length of time; a bare number is refused, because nobody can see its unit.
pub fn parse_wait(text: &str) -> Result<Duration, String> {
    let hint = "write a length of time with its unit, such as \"10m\" or \"1h 30m\"";
    if text.trim().parse::<f64>().is_ok() {
        return Err(format!("`{}` has no unit: {hint}", text.trim()));
    }
    let span: jiff::SignedDuration = text.trim().parse().map_err(|_e| format!("`{text}` is no time: {hint}"))?;
    Duration::try_from(span).map_err(|_negative| format!("`{text}` is negative"))
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Wait;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a length of time such as \"10m\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wait, E> {
                parse_wait(text).map(Wait).map_err(E::custom)
            }
        }
        source.deserialize_str(Visitor)
    }
}

/// A length of time, or never: `"10m"`, `"off"`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience(pub(super) Option<Duration>);

impl<'de> Deserialize<'de> for Patience {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Patience;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a length of time such as \"10m\", or \"off\"")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Patience, E> {
                if number == 0 { Ok(Patience(None)) } else { self.visit_str(&number.to_string()) }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Patience, E> {
                if matches!(text.trim(), "off" | "0") {
                    return Ok(Patience(None));
                }
                let wait = parse_wait(text).map_err(E::custom)?;
                Ok(Patience(Some(wait).filter(|wait| !wait.is_zero())))
            }
        }
        source.deserialize_any(Visitor)
    }
}

/// An address that only this machine can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loopback(pub(super) SocketAddr);

impl<'de> Deserialize<'de> for Loopback {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        let address: SocketAddr = text
            .replace("localhost:", "127.0.0.1:")
            .parse()
            .map_err(|_e| de::Error::custom(format!("\"{text}\" is no address such as \"127.0.0.1:0\"")))?;
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err(de::Error::custom(format!(
                "\"{text}\" can be reached from outside, and here calls are plain: only loopback is allowed, such as \
                 \"127.0.0.1:0\"; for workers on other machines there is [gateway] listen, which is encrypted"
            )))
        }
    }
}

/// A file that has been read, with its text for line numbers.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) file: File,
    pub(super) path: PathBuf,
    text: String,
}

impl Layer {
    /// Reads and checks one file; `None` when there is none.
    pub(super) fn read(path: PathBuf) -> Result<Option<Self>, ConfigError> {
        match std::fs::read(&path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::parse(path, text).map(Some),
                Err(error) => {
                    let good = String::from_utf8_lossy(
                        error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default(),
                    )
                    .into_owned();
                    let (line, column) = position(&good, good.len());
                    let message = "the file is not UTF-8 from here on".to_owned();
                    Err(ConfigError::Invalid(vec![Fault {
                        place: Place::File { path, line, column },
                        message,
                        nearest: None,
                    }]))
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Io { path, source }),
        }
    }

    /// Checks one file's text.
    pub(super) fn parse(path: PathBuf, text: String) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(&text)
            .map_err(|error| ConfigError::Invalid(vec![from_toml(path.clone(), &text, &error)]))?;
        let layer = Self { file, path, text };
        let faults = layer.check();
        if faults.is_empty() { Ok(layer) } else { Err(ConfigError::Invalid(faults)) }
    }

    /// The line of a value, from 1.
    pub(super) fn line<T>(&self, value: &Spanned<T>) -> usize {
        position(&self.text, value.span().start).0
    }

    fn fault<T>(&self, value: &Spanned<T>, message: String) -> Fault {
        let (line, column) = position(&self.text, value.span().start);
        Fault { place: Place::File { path: self.path.clone(), line, column }, message, nearest: None }
    }

    /// Everything that is well-formed and still cannot be.
    fn check(&self) -> Vec<Fault> {
        let mut check = Check { layer: self, faults: Vec::new() };
        let File { room, upstream, rehearsal, orchestrator, tiers, agents, retry, limits, attention, queue, .. } =
            &self.file;
        check.within("room.max_running", room.max_running.as_ref(), 1, 64);
        check.wait("room.orphan_grace", room.orphan_grace.as_ref(), 0, 3600);
        check.wait("room.ask_timeout", room.ask_timeout.as_ref(), 1, 24 * 3600);
        check.with("attention.desktop", attention.desktop.as_ref(), |word| match word.as_str() {
            "off" | "osc9" | "osc777" => Ok(()),
            other => Err(format!("`{}` is none of off, osc9, osc777", crate::model::text::first_line(other, 20))),
        });
        check.with("attention.quiet", attention.quiet.as_ref(), |text| match text.as_str() {
            "off" => Ok(()),
            hours => Quiet::parse(hours).map(drop),
        });
        check.within("room.keep_copies", room.keep_copies.as_ref(), 0, 3650);
        check.with("upstream.url", upstream.url.as_ref(), |url| check_upstream(url));
        check.with("upstream.api_key_env", upstream.api_key_env.as_ref(), |name| check_variable(name));
        check.with("rehearsal.pace", rehearsal.pace.as_ref(), |pace| check_pace(*pace));
        check.with("orchestrator.engine", orchestrator.engine.as_ref(), |engine| match engine {
            EngineKind::Command => Err("the orchestrator needs a model: auto, messages or claude".to_owned()),
            EngineKind::Auto | EngineKind::Claude | EngineKind::Messages => Ok(()),
        });
        check.with("orchestrator.model", orchestrator.model.as_ref(), |model| check_model(model));
        check.within("orchestrator.replans", orchestrator.replans.as_ref(), 0, 2);
        for (key, model) in [("top", &tiers.top), ("middle", &tiers.middle), ("small", &tiers.small)] {
            check.with(&format!("tiers.{key}"), model.as_ref(), |model| match Tier::parse(model) {
                Some(_) => Err("a tier is made of a model, such as \"sonnet\"".to_owned()),
                None => check_model(model),
            });
        }
        for (name, agent) in agents {
            check.agent(name, agent);
        }
        check.within("retry.attempts", retry.attempts.as_ref(), 1, 20);
        check.with("retry.backoff", retry.backoff.as_ref(), |waits| match waits.as_slice() {
            [] => Err("the list is empty; one wait at least, such as [\"1s\"]".to_owned()),
            waits if waits.len() > 10 => Err(format!("{} waits; at most 10 are allowed", waits.len())),
            waits if waits.iter().any(|w| w.0 > Duration::from_hours(1)) => {
                Err("a wait is longer than 1 h, the longest allowed".to_owned())
            }
            _ => Ok(()),
        });
        for (group, limit) in &limits.groups {
            let name = group.get_ref();
            let Limits { requests, input_tokens, output_tokens } = limit;
            let most = 1_000_000_000_u32;
            check.within(&format!("limits.{name}.requests_per_minute"), requests.as_ref(), 1, most);
            check.within(&format!("limits.{name}.input_tokens_per_minute"), input_tokens.as_ref(), 1, most);
            check.within(&format!("limits.{name}.output_tokens_per_minute"), output_tokens.as_ref(), 1, most);
        }
        check.with("queue.url", queue.url.as_ref(), |url| super::queue::check(url));
        check.with("queue.monitor", queue.monitor.as_ref(), |urls| super::queue::check_monitor(urls));
        check.within("queue.replicas", queue.replicas.as_ref(), 0, 5);
        check.faults
    }
}

struct Check<'a> {
    layer: &'a Layer,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn with<T>(&mut self, key: &str, value: Option<&Spanned<T>>, rule: impl Fn(&T) -> Result<(), String>) {
        if let Some(value) = value
            && let Err(message) = rule(value.get_ref())
        {
            self.faults.push(self.layer.fault(value, format!("{key}: {message}")));
        }
    }

    fn within<T: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        key: &str,
        value: Option<&Spanned<T>>,
        low: T,
        high: T,
    ) {
        self.with(key, value, |v| {
            if *v < low || *v > high { Err(format!("{v} is outside {low} to {high}")) } else { Ok(()) }
        });
    }

    fn wait(&mut self, key: &str, value: Option<&Spanned<Wait>>, low: u64, high: u64) {
        self.with(key, value, |wait| check_wait(wait.0, low, high));
    }

    fn agent(&mut self, name: &Spanned<String>, agent: &Agent) {
        let shown = crate::model::text::first_line(name.get_ref(), 40);
        if let Err(error) = check_agent_name(name.get_ref()) {
            self.faults.push(self.layer.fault(name, format!("[agents.{shown}]: {error}")));
        }
        let key = |what: &str| format!("agents.{shown}.{what}");
        self.within(&key("slots"), agent.slots.as_ref(), 0, 16);
        self.within(&key("subagents"), agent.subagents.as_ref(), 0, 100);
        self.within(&key("subagents_at_once"), agent.subagents_at_once.as_ref(), 1, 20);
        self.within(&key("subagent_depth"), agent.subagent_depth.as_ref(), 1, 5);
        self.wait(&key("timeout"), agent.timeout.as_ref(), 1, 24 * 3600);
        self.with(&key("stall"), agent.stall.as_ref(), |stall| {
            stall.0.map_or(Ok(()), |wait| check_wait(wait, 1, 24 * 3600))
        });
        self.with(&key("model"), agent.model.as_ref(), |model| check_model(model));
        self.with(&key("subagent_model"), agent.subagent_model.as_ref(), |model| check_model(model));
        self.with(&key("account"), agent.account.as_ref(), |account| {
            AccountName::new(account.as_str()).map(drop).map_err(|error| error.to_string())
        });
        for (what, path) in [("prompt", &agent.prompt), ("workspace", &agent.workspace)] {
            self.with(&key(what), path.as_ref(), |path| {
                if path.as_os_str().is_empty() { Err("the path is empty".to_owned()) } else { Ok(()) }
            });
        }
        self.with(&key("command"), agent.command.as_ref(), |argv| match argv.first() {
            Some(program) if program.trim().is_empty() => Err("the program's name is empty".to_owned()),
            Some(_) | None => Ok(()),
        });
        if let Some(engine) = &agent.engine
            && *engine.get_ref() == EngineKind::Command
            && agent.command.as_ref().is_none_or(|argv| argv.get_ref().is_empty())
        {
            let message = format!("{}: engine = \"command\" needs command = [\"program\", …]", key("engine"));
            self.faults.push(self.layer.fault(engine, message));
        }
    }
}

/// Checks an agent's name; two names are folders and variables of podium's own.
pub(super) fn check_agent_name(name: &str) -> Result<AgentName, String> {
    match name {
        "goals" | "orchestrator" => Err(format!("the name {name} is podium's own; choose another")),
        name => AgentName::new(name).map_err(|error| {
            format!("{error}; an agent's name is also a folder: small letters, digits, _ and -, at most 32")
        }),
    }
}

/// Checks a length of time against bounds in seconds.
pub(super) fn check_wait(wait: Duration, low: u64, high: u64) -> Result<(), String> {
    if wait < Duration::from_secs(low) || wait > Duration::from_secs(high) {
        return Err(format!("{} s is outside {low} s to {high} s", wait.as_secs_f64()));
    }
    Ok(())
}

/// Checks a rehearsal's pace.
pub(super) fn check_pace(pace: f64) -> Result<(), String> {
    if pace.is_finite() && (0.0..=100.0).contains(&pace) {
        Ok(())
    } else {
        Err(format!("{pace} is outside 0 to 100 (0 = as fast as it can, 1 = made for watching)"))
    }
}

/// Checks where model calls go.
pub(super) fn check_upstream(url: &str) -> Result<(), String> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match host {
        _ if url == super::REHEARSAL_URL => Ok(()),
        Some(host) if host.split('/').next().is_some_and(|h| h.contains('@')) => {
            Err("the address holds a user or a key; keys come from the environment".to_owned())
        }
        Some(host) if !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace) => {
            let name = host.split(['/', ':']).next().unwrap_or_default();
            if url.starts_with("https://") || matches!(name, "localhost" | "127.0.0.1") || host.starts_with("[::1]") {
                Ok(())
            } else {
                Err("plain http would send the key readable over the network; use https".to_owned())
            }
        }
        Some(_) | None => Err("an address such as \"https://api.anthropic.com\", or \"rehearsal:\"".to_owned()),
    }
}

/// Checks the name of a variable; the text itself is never repeated, because a key pasted here by mistake is a secret.
fn check_variable(name: &str) -> Result<(), String> {
    let good = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if good {
        Ok(())
    } else {
        Err("this is the name of a variable, such as ANTHROPIC_API_KEY, and never the key itself".to_owned())
    }
}

fn check_model(model: &str) -> Result<(), String> {
    if model.is_empty() || model.starts_with('-') || model.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a model's alias or id, such as \"sonnet\"".to_owned());
    }
    Ok(())
}
