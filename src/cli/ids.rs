//! Names as people type them: a task as `marie/x` or a bare `x`, a goal as `g1`, an agent by its name.

use super::Trouble;
use crate::{
    config::{Config, nearest},
    model::{AccountName, AgentName, GoalId, Item, TaskId, TaskRef, text},
    room::State,
};

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A goal.
    Goal(GoalId),
    /// A task.
    Task(TaskRef),
}

/// What can be paused and resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paused {
    /// An agent.
    Agent(AgentName),
    /// An account, with all agents that use it.
    Account(AccountName),
    /// A task.
    Task(TaskRef),
}

/// Finds the goal or task that is meant, or says what there is instead.
pub(super) fn find(state: &State, name: &str) -> Result<Named, Trouble> {
    if let Ok(goal) = name.parse::<GoalId>()
        && state.goals.get(&goal).is_some()
    {
        return Ok(Named::Goal(goal));
    }
    task(state, name).map(Named::Task)
}

/// Finds the task that is meant.
pub(super) fn task(state: &State, name: &str) -> Result<TaskRef, Trouble> {
    let shown = text::first_line(name, 160);
    if let Some((agent, id)) = name.split_once('/') {
        let agent = self::agent(state, agent)?;
        let id: TaskId = id.parse().map_err(|e| Trouble::Wrong(format!("{shown} is no task: {e}")))?;
        let task = TaskRef::new(agent, id);
        return if state.tasks.knows(&task) { Ok(task) } else { Err(unknown(state, &shown)) };
    }
    let id: TaskId = name.parse().map_err(|e| Trouble::Wrong(format!("{shown} is no task and no goal: {e}")))?;
    let found = state.tasks.with_id(&id);
    match found.as_slice() {
        [] => Err(unknown(state, &shown)),
        [one] => Ok(one.clone()),
        many => {
            let names: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(Trouble::Wrong(format!("{shown} is more than one task: {}", names.join(", "))))
        }
    }
}

/// Finds what is meant in the trash.
pub(super) fn removed(state: &State, name: &str) -> Result<Item, Trouble> {
    let means = |item: &Item| match item {
        Item::Task(task) => task.to_string() == name || task.id.as_str() == name,
        Item::File(path) => path == name,
    };
    let mut found: Vec<&Item> = state.tasks.trash.iter().map(|removed| &removed.item).filter(|i| means(i)).collect();
    found.dedup();
    let shown = text::first_line(name, 160);
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Trouble::Wrong(format!("{shown} is not in the trash: `podium status --json` lists what is"))),
        [_, ..] => Err(Trouble::Wrong(format!("{shown} is more than one thing in the trash: say which agent's"))),
    }
}

/// Finds the goal that is meant.
pub(super) fn goal(state: &State, name: &str) -> Result<GoalId, Trouble> {
    if let Ok(goal) = name.parse::<GoalId>()
        && state.goals.get(&goal).is_some()
    {
        return Ok(goal);
    }
    let known: Vec<String> = state.goals.iter().map(|g| g.id.to_string()).collect();
    Err(Trouble::Wrong(format!("there is no goal {}; {}", text::first_line(name, 60), listed("goals", &known))))
}

/// Finds the agent, the account or the task that is meant, in this order.
pub(super) fn paused(state: &State, name: &str) -> Result<Paused, Trouble> {
    if let Ok(agent) = known_agent(&state.agents.names(), name) {
        return Ok(Paused::Agent(agent));
    }
    let accounts = state.account_names();
    if let Some(account) = accounts.iter().find(|account| account.as_str() == name) {
        return Ok(Paused::Account(account.clone()));
    }
    if let Ok(task) = task(state, name) {
        return Ok(Paused::Task(task));
    }
    let known = state.agents.names().iter().map(ToString::to_string).collect::<Vec<_>>();
    let named = accounts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let close = nearest(name, &[known.as_slice(), named.as_slice()].concat());
    let close = close.map(|close| format!("; did you mean {close}?")).unwrap_or_default();
    let shown = text::first_line(name, 60);
    let (known, named) = (listed("agents", &known), listed("accounts", &named));
    Err(Trouble::Wrong(format!("there is no agent and no account {shown}; {known}; {named}{close}")))
}

/// Finds the agent that is meant in a stage whose room may not run.
pub(super) fn configured_agent(config: &Config, name: &str) -> Result<AgentName, Trouble> {
    let names: Vec<AgentName> = config.enabled().map(|agent| agent.name.clone()).collect();
    known_agent(&names, name)
}

/// Finds the agent that is meant.
pub(super) fn agent(state: &State, name: &str) -> Result<AgentName, Trouble> {
    known_agent(&state.agents.names(), name)
}

/// The agent of this name, or the names there are.
pub(super) fn known_agent(known: &[AgentName], name: &str) -> Result<AgentName, Trouble> {
    if let Some(agent) = known.iter().find(|a| a.as_str() == name) {
        return Ok(agent.clone());
    }
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    let hint = match nearest(name, &names) {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => String::new(),
    };
    let shown = text::first_line(name, 60);
    Err(Trouble::Wrong(format!("there is no agent {shown}; {}{hint}", listed("agents", &names))))
}

fn unknown(state: &State, shown: &str) -> Trouble {
    let tasks = state.tasks.iter().map(|t| t.record.task());
    let known: Vec<String> = if shown.contains('/') {
        tasks.map(ToString::to_string).collect()
    } else {
        tasks.map(|t| t.id.to_string()).chain(state.goals.iter().map(|g| g.id.to_string())).collect()
    };
    let what = if shown.contains('/') { "no task" } else { "no task and no goal" };
    match nearest(shown, &known) {
        Some(nearest) => Trouble::Wrong(format!("there is {what} {shown}; did you mean {nearest}?")),
        None => Trouble::Wrong(format!("there is {what} {shown}; {}", listed("them", &known))),
    }
}

/// The first few names there are.
fn listed(what: &str, names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names {
        [] => "there are none".to_owned(),
        names if names.len() > SHOWN => {
            let first: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
            format!("there are {}, such as {}", names.len(), first.join(", "))
        }
        names => {
            let all = names.join(", ");
            if what == "them" { format!("there are {all}") } else { format!("the {what} are {all}") }
        }
    }
}

/// An id from the first words of a text: `write-the-newsletter`.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).take(5) {
        if slug.len() + word.len() >= 40 && !slug.is_empty() {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.extend(word.chars().take(40).map(|c| c.to_ascii_lowercase()));
    }
    if slug.is_empty() { "task".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_a_short_id_that_is_valid() {
        assert_eq!(slug("Write the newsletter, please! And more"), "write-the-newsletter-please-and");
        assert_eq!(slug("Évaluer"), "valuer");
        assert_eq!(slug("日本語"), "task");
        assert!(TaskId::new(slug(&"x".repeat(500))).is_ok());
    }

    #[test]
    fn an_unknown_agent_is_answered_with_the_known_ones() {
        let known = ["marie", "anga", "fabien"].map(|n| AgentName::new(n).unwrap());
        let error = known_agent(&known, "mari").unwrap_err().to_string();
        assert_eq!(error, "there is no agent mari; the agents are marie, anga, fabien; did you mean marie?");
    }
}
