//! `podium doctor`: what is ready and what is not, each with its remedy.

use std::{path::Path, process::Stdio, time::Duration};

mod engine;
mod logins;

use super::{
    Call, Exit,
    json::{self, Check, Level},
    link::{self, Link},
    out::Paint,
    taste,
};
use crate::{
    attach::AttachError,
    config::{Config, Env, Resolved, prompts},
    model::{AgentSettings, EngineKind, Permissions, text},
    queue::file::{FileQueue, FileSystem, Measure, Unfit},
    tui::taste::Depth,
};

/// How long the CLI may take to tell its version.
const VERSION: Duration = Duration::from_secs(20);

pub(super) async fn doctor(call: &Call, settings: bool) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let checks = look(&config, &call.env).await;
    let ready = checks.iter().all(|c| c.level != Level::Fail);
    if call.out.is_json() {
        let settings = config
            .listing()
            .into_iter()
            .map(|(key, value, source)| json::SettingJson { key, value, source: source.to_string() })
            .collect();
        call.out.json(&json::Doctor { ready, stage: config.stage.display().to_string(), checks, settings });
    } else {
        print(call, &config, &checks, settings);
    }
    Ok(if ready { Exit::Done } else { Exit::Failed })
}

fn print(call: &Call, config: &Config, checks: &[Check], settings: bool) {
    let out = &call.out;
    let mut rows = Vec::new();
    for check in checks {
        let (paint, word) = match check.level {
            Level::Ok => (Paint::Good, "ok"),
            Level::Warn => (Paint::Warn, "warn"),
            Level::Fail => (Paint::Bad, "fail"),
        };
        rows.push(vec![
            (paint, word.to_owned()),
            (Paint::Bold, check.name.clone()),
            (Paint::Plain, text::scrub(&check.found).into_owned()),
        ]);
        if let Some(remedy) = &check.remedy {
            rows.push(vec![
                (Paint::Plain, String::new()),
                (Paint::Plain, String::new()),
                (Paint::Plain, format!("→ {}", text::scrub(remedy))),
            ]);
        }
    }
    out.table(&rows);
    if settings {
        out.line("");
        let row = |(key, value, source): (String, String, crate::config::Source)| {
            vec![(Paint::Plain, key), (Paint::Plain, value), (Paint::Dim, source.to_string())]
        };
        out.table(&config.listing().into_iter().map(row).collect::<Vec<_>>());
    }
    let (warn, fail) = (count(checks, Level::Warn), count(checks, Level::Fail));
    out.line("");
    out.line(&match (fail, warn) {
        (0, 0) => "ready".to_owned(),
        (0, warn) => format!("ready, with {warn} to know about"),
        (fail, _) => format!("{fail} not ready"),
    });
}

fn count(checks: &[Check], level: Level) -> usize {
    checks.iter().filter(|c| c.level == level).count()
}

fn check(level: Level, name: impl Into<String>, found: impl Into<String>, remedy: Option<&str>) -> Check {
    Check { level, name: name.into(), found: found.into(), remedy: remedy.map(str::to_owned) }
}

/// Looks at everything, in the order in which one would put it right.
async fn look(config: &Config, env: &Env) -> Vec<Check> {
    let mut checks = vec![stage(config)];
    for note in &config.notes {
        checks.push(check(Level::Warn, "environment", note.clone(), None));
    }
    checks.push(model_calls(config));
    checks.extend(elsewhere(config));
    let resolved = config.resolved(env);
    checks.push(cli(config, env, &resolved).await);
    checks.extend(resolved.iter().map(|r| agent(config, r)));
    checks.extend(logins::checks(config, &resolved, link::clock().now()));
    checks.push(match config.resolved_orchestrator(env) {
        Ok(engine) => {
            let found = format!(
                "{} engine, {}{}",
                engine.word(),
                *config.orchestrator.model,
                credential(config, config.orchestrator_key())
            );
            check(Level::Ok, "orchestrator", found, None)
        }
        Err(trouble) => troubled("orchestrator", &trouble),
    });
    checks.extend(resolved.iter().map(|r| prompt(config, &r.settings)));
    checks.extend(folders(config, &resolved));
    if let Some(check) = file_system(&config.stage) {
        checks.push(check);
    }
    if let Some(check) = disk(&config.stage) {
        checks.push(check);
    }
    checks.extend(resolved.iter().filter_map(|r| home(&r.settings)));
    checks.extend(engine::checks(config).await);
    checks.push(room(config).await);
    checks.extend(screen(env));
    checks
}

/// The operator's files about the screen.
fn screen(env: &Env) -> Vec<Check> {
    let files = taste::files(env, Depth::True, false);
    let path = files
        .path
        .as_deref()
        .map_or_else(|| "no folder of the user is known".to_owned(), |path| path.display().to_string());
    let found = format!("theme {} ({path}{})", files.name, if files.exists { "" } else { " is not there" });
    let slips =
        files.slips.iter().map(|slip| check(Level::Warn, "screen", slip.to_string(), Some("its default is in force")));
    std::iter::once(check(Level::Ok, "screen", found, None)).chain(slips).collect()
}

fn stage(config: &Config) -> Check {
    let found = format!("{} ({})", config.stage.display(), config.stage_source);
    if config.layout().file().is_file() {
        check(Level::Ok, "stage", found, None)
    } else {
        check(
            Level::Warn,
            "stage",
            format!("{found}, without a podium.toml"),
            Some("`podium init` writes one, all defaults"),
        )
    }
}

fn model_calls(config: &Config) -> Check {
    if config.is_rehearsal() {
        let found = "REHEARSAL: the built-in stand-in answers; nothing is real and nothing costs";
        check(Level::Warn, "model calls", found, Some("remove url = \"rehearsal:\" from [upstream] for real work"))
    } else {
        check(Level::Ok, "model calls", config.upstream.value.clone(), None)
    }
}

/// The listener for workers on other machines, where there is one.
fn elsewhere(config: &Config) -> Option<Check> {
    let listen = (*config.elsewhere.listen)?;
    Some(match (config.elsewhere.called(), config.invitations().list()) {
        (Ok(called), Ok(invited)) => {
            let found = format!("they call {called} ({listen}); invited: {}", invited.len());
            check(Level::Ok, "workers elsewhere", found, None)
        }
        (Err(why), _) => check(Level::Warn, "workers elsewhere", format!("listens on {listen}"), Some(&why)),
        (Ok(_), Err(error)) => check(Level::Fail, "workers elsewhere", text::chain(&error), None),
    })
}

async fn cli(config: &Config, env: &Env, resolved: &[Resolved]) -> Check {
    let needed = resolved.iter().any(|r| r.settings.engine == EngineKind::Claude);
    let Some(path) = config.find_claude(env) else {
        let name = config.claude.display();
        let level = if needed { Level::Fail } else { Level::Warn };
        let remedy =
            "npm install -g @anthropic-ai/claude-code, or name it with CLAUDE_COMMAND; without it agents have no tools";
        return check(level, "claude CLI", format!("{name} is not found"), Some(remedy));
    };
    match version(&path, env).await {
        Ok(version) => check(Level::Ok, "claude CLI", format!("{version} ({})", path.display()), None),
        Err(why) => {
            let found = format!("{} does not tell its version: {why}", path.display());
            check(Level::Fail, "claude CLI", found, Some("install it again, or name another with CLAUDE_COMMAND"))
        }
    }
}

/// Asks the CLI for its version, in an environment of its own, so that it leaves nothing in anybody's home.
async fn version(path: &Path, env: &Env) -> Result<String, String> {
    let home = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut command = tokio::process::Command::new(path);
    command
        .arg("--version")
        .env_clear()
        .env("HOME", home.path())
        .env("CLAUDE_CONFIG_DIR", home.path())
        .env("PATH", env.os("PATH").unwrap_or_default())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(VERSION, command.output())
        .await
        .map_err(|_elapsed| format!("no answer in {} s", VERSION.as_secs()))?
        .map_err(|e| e.to_string())?;
    let said = text::first_line(&String::from_utf8_lossy(&output.stdout), 80);
    if output.status.success() && !said.is_empty() {
        Ok(said)
    } else {
        Err(format!("{} {}", output.status, text::first_line(&String::from_utf8_lossy(&output.stderr), 160)))
    }
}

fn agent(config: &Config, resolved: &Resolved) -> Check {
    let Resolved { settings, trouble } = resolved;
    if let Some(trouble) = trouble {
        return troubled(settings.name.as_str(), trouble);
    }
    let slots = if settings.slots == 1 { String::new() } else { format!(", {} slots", settings.slots) };
    let credential = match settings.engine {
        EngineKind::Command => String::new(),
        EngineKind::Auto | EngineKind::Claude | EngineKind::Messages => {
            credential(config, config.key_for(&settings.name))
        }
    };
    let found = format!("{} engine, {}{slots}{credential}", settings.engine.word(), settings.model);
    match settings.permissions {
        Permissions::Full => {
            let remedy = "permissions = \"standard\" keeps it to its workspace";
            check(Level::Warn, settings.name.as_str(), format!("{found}; may do EVERYTHING unasked"), Some(remedy))
        }
        Permissions::ReadOnly | Permissions::Standard | Permissions::Ask => {
            check(Level::Ok, settings.name.as_str(), found, None)
        }
    }
}

/// How model calls are paid for, in words; never the key.
fn credential(config: &Config, key: Option<&crate::config::ApiKey>) -> String {
    match key {
        _ if config.is_rehearsal() => ", no key needed".to_owned(),
        Some(key) => format!(", key from {}", key.variable),
        None => ", login in its own home".to_owned(),
    }
}

/// Trouble ends with its remedy behind a colon or semicolon.
fn troubled(name: &str, trouble: &str) -> Check {
    let (found, remedy) = match trouble.split_once(": ").or_else(|| trouble.split_once("; ")) {
        Some((found, remedy)) => (found, Some(remedy)),
        None => (trouble, None),
    };
    check(Level::Fail, name, found, remedy)
}

fn prompt(config: &Config, settings: &AgentSettings) -> Check {
    let name = format!("{} prompt", settings.name);
    let shown = settings.prompt.strip_prefix(&config.stage).unwrap_or(&settings.prompt).display().to_string();
    match std::fs::read_to_string(&settings.prompt) {
        Ok(text) if text.trim().is_empty() => check(Level::Fail, name, format!("{shown} is empty"), Some("write it")),
        Ok(text) => check(Level::Ok, name, format!("{shown}, {} bytes", text.len()), None),
        // podium's own copy is written when the room opens.
        Err(_) if shown.starts_with(".podium/") => {
            let built_in =
                prompts::ALL.iter().find(|(name, _)| shown.ends_with(name)).map_or(0, |(_, text)| text.len());
            check(Level::Ok, name, format!("built in, {built_in} bytes"), None)
        }
        Err(error) => {
            check(Level::Fail, name, format!("{shown}: {error}"), Some("write it, or correct `prompt` in podium.toml"))
        }
    }
}

/// Writes and removes a file in every folder that must be written to.
fn folders(config: &Config, resolved: &[Resolved]) -> Vec<Check> {
    let mut folders = vec![config.layout().private(), config.layout().reports()];
    for Resolved { settings, .. } in resolved {
        let name = settings.name.as_str();
        folders.extend(["tasks", "results", "logs"].map(|folder| config.stage.join(folder).join(name)));
        folders.push(settings.workspace.clone());
        folders.push(settings.home.clone());
    }
    let (mut missing, mut bad) = (Vec::new(), Vec::new());
    for folder in &folders {
        let shown = folder.strip_prefix(&config.stage).unwrap_or(folder).display().to_string();
        if !folder.exists() {
            missing.push(shown);
        } else if let Err(error) = tempfile::Builder::new().prefix(".podium-probe-").tempfile_in(folder) {
            bad.push(format!("{shown}: {error}"));
        }
    }
    if !bad.is_empty() {
        let remedy = "make them writable for the user that runs podium";
        return vec![check(Level::Fail, "folders", bad.join(", "), Some(remedy))];
    }
    let found = match missing.len() {
        0 => format!("{} writable", folders.len()),
        n => format!("{} writable, {n} will be made", folders.len() - n),
    };
    vec![check(Level::Ok, "folders", found, None)]
}

/// The nearest folder that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"))
}

/// Names the file system, and what a room would not be opened on.
fn file_system(stage: &Path) -> Option<Check> {
    let folder = existing(stage);
    if let Err(unfit) = FileQueue::fits(stage) {
        let remedy = match &unfit {
            Unfit::ReadOnly(..) => "make it writable for the user that runs podium; `podium logs` works as it is",
            Unfit::Network(..) => {
                "keep the stage on a local disk: locks and events over a network are not to be trusted"
            }
            Unfit::Weak(..) | Unfit::Unknown { .. } => "keep the stage on another disk",
        };
        return Some(check(Level::Fail, "file system", unfit.to_string(), Some(remedy)));
    }
    let kind = FileSystem::of(folder).ok()?;
    Some(match &kind {
        FileSystem::Volatile(name) => {
            check(Level::Warn, "file system", *name, Some("everything here is gone when the machine restarts"))
        }
        FileSystem::Local(_) | FileSystem::Network(_) => check(Level::Ok, "file system", kind.to_string(), None),
    })
}

fn disk(stage: &Path) -> Option<Check> {
    let measure = Measure::of(existing(stage)).ok()?;
    let mib = measure.free_bytes / (1024 * 1024);
    let found = if mib >= 10 * 1024 { format!("{} GiB free", mib / 1024) } else { format!("{mib} MiB free") };
    Some(if let Some(full) = measure.full {
        check(Level::Fail, "disk", full, Some("make room; what runs is finished from a reserve"))
    } else if let Some(tight) = measure.tight {
        check(Level::Warn, "disk", tight, Some("make room; what runs is finished"))
    } else {
        check(Level::Ok, "disk", found, None)
    })
}

/// A login inside a repository is a login in its history sooner or later.
fn home(settings: &AgentSettings) -> Option<Check> {
    if settings.home.components().any(|c| c.as_os_str() == ".podium") {
        return None;
    }
    let repository = settings.home.ancestors().find(|dir| dir.join(".git").exists())?;
    let found = format!("{} lies inside the repository {}", settings.home.display(), repository.display());
    Some(check(
        Level::Warn,
        format!("{} home", settings.name),
        found,
        Some("keep logins out of repositories; move XDG_DATA_HOME"),
    ))
}

async fn room(config: &Config) -> Check {
    match Link::connect(&config.stage).await {
        Ok(link) => {
            let found = format!("open, process {} with its core {}", link.state().pid, link.state().core);
            check(Level::Ok, "room", found, None)
        }
        Err(AttachError::NoRoom) => {
            check(Level::Ok, "room", "none running; `podium` opens one where it can write", None)
        }
        Err(error) => check(
            Level::Fail,
            "room",
            error.to_string(),
            Some("`podium stop`, or end the process that holds the socket"),
        ),
    }
}
