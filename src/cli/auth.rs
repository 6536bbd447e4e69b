//! `podium auth` and `podium attach`: the CLI's own login, and the CLI itself, in an agent's home.
//!
//! Owns how it is started and what is said of it. Must not see what is typed or what comes back: terminal and browser are
//! the CLI's. Its one surprise: an account that was parked for its login goes on by itself afterwards, because logging in
//! was what it waited for.

use std::{ffi::OsStr, io::IsTerminal as _, path::Path};

use anyhow::Context as _;

use super::{Call, Exit, Trouble, json, link::Link};
use crate::{
    config::{
        Config,
        accounts::{Found, shared},
        login::Login,
    },
    engines,
    model::{AccountName, AgentName, text},
    room::{Answer, Order},
};

pub(super) async fn auth(call: &Call, name: &str) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let agent = super::ids::configured_agent(&config, name)?;
    if config.is_rehearsal() {
        return Err(Trouble::Wrong("this stage is a rehearsal: nothing in it needs a login".to_owned()).into());
    }
    let Some(program) = config.find_claude(&call.env) else {
        return Err(Trouble::Wrong(no_cli(&config)).into());
    };
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let text = "a login needs a terminal: run `podium auth` where you can type and read".to_owned();
        return Err(Trouble::Wrong(text).into());
    }
    let home = config.home(agent.as_str());
    let command = own_cli(call, &program, &home)?;
    if !call.out.is_json() {
        call.out.line(&format!("{} auth login, in {}", program.display(), home.display()));
    }
    let mut command = tokio::process::Command::from(command);
    command.args(["auth", "login"]);
    let status = command.status().await.with_context(|| format!("could not start {}", program.display()))?;
    let found = Login::read(&home).with_context(|| format!("could not read the login in {}", home.display()))?;
    let Some(login) = found else {
        let text = format!("{agent} is not logged in: {} ended with {status}", program.display());
        return Err(Trouble::Refused(text).into());
    };
    let plan = login.plan.clone();
    let mut notes = notes(&config, call, &agent, Found { agent: agent.clone(), home: home.clone(), login });
    notes.extend(go_on(&config, &agent).await);
    if call.out.is_json() {
        call.out.json(&json::Auth { agent: agent.to_string(), home: home.display().to_string(), plan, notes });
    } else {
        let plan = plan.map(|plan| format!(" ({plan})")).unwrap_or_default();
        call.out.line(&format!(
            "{agent} is logged in{plan}. The login is the CLI's own: podium neither keeps nor sends it."
        ));
        for note in notes {
            call.out.line(&text::scrub(&note));
        }
    }
    Ok(Exit::Done)
}

/// `podium attach`: the CLI itself in an agent's home, in this terminal.
pub(super) async fn attach(call: &Call, name: &str) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let agent = super::ids::configured_agent(&config, name)?;
    let program = config.find_claude(&call.env).ok_or_else(|| Trouble::Wrong(no_cli(&config)))?;
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Trouble::Wrong("this needs a terminal: run it where you can type and read".to_owned()).into());
    }
    let mut command = tokio::process::Command::from(own_cli(call, &program, &config.home(agent.as_str()))?);
    let status = command.status().await.with_context(|| format!("could not start {}", program.display()))?;
    Ok(if status.success() { Exit::Done } else { Exit::Failed })
}

/// The CLI as a person uses it, in this home.
fn own_cli(call: &Call, program: &Path, home: &Path) -> anyhow::Result<std::process::Command> {
    let command = engines::visit::command(program, home, |name| call.env.os(name).map(OsStr::to_owned));
    command.map_err(|ending| anyhow::anyhow!(ending.sentence()))
}

pub(super) fn no_cli(config: &Config) -> String {
    let name = config.claude.display();
    format!("the Claude CLI ({name}) is not found; install it, or name it with CLAUDE_COMMAND")
}

/// What a person should know of this login.
fn notes(config: &Config, call: &Call, agent: &AgentName, mine: Found) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(key) = config.key_for(agent) {
        notes.push(format!("{agent} works with the key in {}; the login is used when that is not set", key.variable));
    }
    let others = config.logins(&config.resolved(&call.env)).into_iter().filter(|other| other.agent != *agent);
    let mut all: Vec<Found> = others.collect();
    all.push(mine);
    let about_it = shared(&all).into_iter().filter(|pair| pair.agents.contains(agent));
    notes.extend(about_it.map(|pair| format!("{}: {}", pair.found(), pair.remedy())));
    notes
}

/// Lets a room that runs go on with the login, where it waited for it.
async fn go_on(config: &Config, agent: &AgentName) -> Option<String> {
    let mut link = Link::connect(&config.stage).await.ok()?;
    let state = link.state();
    if state.agents.get(agent).is_some_and(|a| a.trouble.is_some()) {
        let text = "the room that runs has not seen this login: `podium stop --drain`, then `podium serve --detach`";
        return Some(text.to_owned());
    }
    let account: AccountName = state.accounts.of(agent);
    state.accounts.parked(&account).filter(|parked| parked.needs_mending())?;
    Some(match link.order(Order::Unpark { account, when_clear: false }).await {
        Ok(Answer::Done { text, .. } | Answer::Refused { reason: text }) => text,
        Err(error) => format!("the room could not be told: {error}"),
    })
}
