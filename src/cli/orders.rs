//! What the keys do: retry, cancel, remove, restore, extend, approve, deny, pause, resume.

use std::{io::Write, path::PathBuf, process::Command, time::Duration};

use anyhow::Context;
use clap::Args;

use super::{
    Call, Exit, Trouble,
    ids::{self, Named, Paused},
    json,
    link::{self, Link},
    priority,
    wait::seen,
    wait_text,
};
use crate::{
    attach::AttachError,
    model::{
        AskId, Changes, Choice, Effort, Item, MicroUsd, Priority, Question, Reply, Request, TaskRef, budget::parse_cap,
    },
    room::{Answer, Order, State, asks::Asks},
};

/// `podium retry`.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// Tasks
    #[arg(required_unless_present = "dead")]
    ids: Vec<String>,
    /// The dead letters instead: tasks whose attempts are used up, of all agents or of this one
    #[arg(long, value_name = "AGENT", num_args = 0..=1, conflicts_with_all = ["ids", "edit", "text", "agent", "resume"])]
    #[expect(clippy::option_option, reason = "absent, alone, or with a value: that is how clap says it")]
    dead: Option<Option<String>>,
    /// Change the text in $EDITOR first
    #[arg(long, conflicts_with = "text")]
    edit: bool,
    /// Give it another text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Do it on another agent, as a new task of that agent
    #[arg(long, value_name = "AGENT", conflicts_with = "resume")]
    agent: Option<String>,
    /// Take up the last attempt's session again, once
    #[arg(long)]
    resume: bool,
    /// critical, urgent, high, normal, low, or 0 (first) to 9 (last)
    #[arg(long, value_parser = priority)]
    priority: Option<Priority>,
    /// Time allowed per attempt, such as 5m
    #[arg(long, value_parser = wait_text, value_name = "TIME")]
    timeout: Option<Duration>,
    /// Another model, or a tier: top, middle, small
    #[arg(long)]
    model: Option<String>,
    /// How hard its model thinks: low, medium or high
    #[arg(long, value_parser = super::effort)]
    effort: Option<Effort>,
    /// Another budget in dollars, or `off`
    #[arg(long, value_parser = parse_cap, value_name = "USD")]
    budget: Option<MicroUsd>,
}

impl RetryArgs {
    fn changes(&self, description: Option<String>) -> Changes {
        Changes {
            description,
            priority: self.priority,
            timeout: self.timeout,
            model: self.model.clone(),
            effort: self.effort,
            budget: self.budget,
            dependencies: None,
            resume: self.resume,
        }
    }

    /// Whether it asks for nothing but another start of tasks.
    fn is_plain(&self) -> bool {
        self.dead.is_none() && !self.edit && self.agent.is_none() && self.changes(self.text.clone()).is_empty()
    }

    /// The tasks that are meant.
    fn tasks(&self, state: &State) -> Result<Vec<TaskRef>, Trouble> {
        let Some(agent) = &self.dead else {
            return self.ids.iter().map(|id| ids::task(state, id)).collect();
        };
        let agent = agent.as_ref().map(|name| ids::agent(state, name)).transpose()?;
        let of = |task: &&TaskRef| agent.as_ref().is_none_or(|agent| task.agent == *agent);
        // What was retried on another agent has been looked after.
        let left = |task: &&TaskRef| state.tasks.retried_as(task).is_none();
        Ok(state.tasks.dead().filter(of).filter(left).cloned().collect())
    }
}

pub(super) async fn retry(call: &Call, args: &RetryArgs) -> anyhow::Result<Exit> {
    if args.ids.len() > 1 && (args.edit || args.text.is_some()) {
        return Err(Trouble::Wrong("--edit and --text are for one task at a time".to_owned()).into());
    }
    if args.text.as_ref().is_some_and(|text| text.trim().is_empty()) {
        return Err(Trouble::Wrong("--text is empty: the task would say nothing to do".to_owned()).into());
    }
    let mut link = match connect(call).await {
        Err(error) if args.is_plain() && is_no_room(&error) => return note(call, &args.ids, Request::Retry).await,
        other => other?,
    };
    let tasks = args.tasks(link.state())?;
    let agent = args.agent.as_ref().map(|name| ids::agent(link.state(), name)).transpose()?;
    if tasks.is_empty() && !call.out.is_json() {
        call.out.line("there are no dead letters");
    }
    let mut exit = Exit::Done;
    for task in tasks {
        let description = if args.edit { Some(edited(call, &task).await?) } else { args.text.clone() };
        let ended_at = |state: &State| Some(state.tasks.find(&task)?.record.outcome.as_ref()?.completed_at);
        let before = ended_at(link.state());
        let changes = Box::new(args.changes(description));
        let order = match &agent {
            Some(agent) => Order::RetryOn { task: task.clone(), agent: agent.clone(), changes },
            None => Order::Retry { task: task.clone(), changes },
        };
        let (sent, ids) = send(call, &mut link, order).await?;
        let new = ids.first().and_then(|id| id.parse::<TaskRef>().ok()).filter(|new| *new != task);
        if let Some(new) = new {
            seen(&mut link, |state| state.tasks.get(&new).is_some()).await;
        } else if sent == Exit::Done && before.is_some() {
            seen(&mut link, |state| ended_at(state) != before).await;
        }
        exit = worse(exit, sent);
    }
    Ok(exit)
}

/// The task's text as the operator's editor leaves it.
async fn edited(call: &Call, task: &TaskRef) -> anyhow::Result<String> {
    // The room knows the beginning of a long one.
    let known = link::description(&call.config()?, task).await?;
    let text = edit_in(call, &known, ".md")?;
    text.ok_or_else(|| Trouble::Refused(format!("{task} is not retried: the text is empty")).into())
}

pub(super) async fn cancel(call: &Call, ids: &[String]) -> anyhow::Result<Exit> {
    let mut link = match connect(call).await {
        Err(error) if is_no_room(&error) => return note(call, ids, Request::Cancel).await,
        other => other?,
    };
    let named = ids.iter().map(|id| ids::find(link.state(), id)).collect::<Result<Vec<_>, _>>()?;
    let mut exit = Exit::Done;
    for name in named {
        let order = match name {
            Named::Goal(goal) => Order::CancelGoal { goal },
            Named::Task(task) => Order::Cancel { task },
        };
        exit = worse(exit, send(call, &mut link, order).await?.0);
    }
    Ok(exit)
}

pub(super) async fn extend(call: &Call, id: &str, by: Duration) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let task = ids::task(link.state(), id)?;
    Ok(send(call, &mut link, Order::Extend { task, by }).await?.0)
}

pub(super) async fn prioritise(call: &Call, ids: &[String], priority: Priority) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let tasks = ids.iter().map(|id| ids::task(link.state(), id)).collect::<Result<Vec<_>, _>>()?;
    let mut exit = Exit::Done;
    for task in tasks {
        exit = worse(exit, send(call, &mut link, Order::Prioritise { task, priority }).await?.0);
    }
    Ok(exit)
}

pub(super) async fn remove(call: &Call, ids: &[String]) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let item = |id: &String| {
        if link.state().tasks.rejected.contains_key(id) {
            Ok(Item::File(id.clone()))
        } else {
            ids::task(link.state(), id).map(Item::Task)
        }
    };
    let items = ids.iter().map(item).collect::<Result<Vec<_>, _>>()?;
    let mut exit = Exit::Done;
    for item in items {
        let (sent, _) = send(call, &mut link, Order::Remove { item: item.clone() }).await?;
        if sent == Exit::Done {
            seen(&mut link, |state| state.tasks.trash.iter().any(|removed| removed.item == item)).await;
        }
        exit = worse(exit, sent);
    }
    Ok(exit)
}

pub(super) async fn restore(call: &Call, ids: &[String]) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let items = ids.iter().map(|id| ids::removed(link.state(), id)).collect::<Result<Vec<_>, _>>()?;
    let mut exit = Exit::Done;
    for item in items {
        let (sent, _) = send(call, &mut link, Order::Restore { item: item.clone() }).await?;
        if sent == Exit::Done {
            seen(&mut link, |state| match &item {
                Item::Task(task) => state.tasks.get(task).is_some(),
                Item::File(path) => state.tasks.rejected.contains_key(path),
            })
            .await;
        }
        exit = worse(exit, sent);
    }
    Ok(exit)
}

pub(super) async fn approve(call: &Call, name: &str, always: bool, ceiling: Option<MicroUsd>) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    if let Ok(ask) = name.parse::<AskId>() {
        return Ok(send(call, &mut link, Order::Permit { ask, always }).await?.0);
    }
    if always {
        return Err(Trouble::Wrong("--always is for what an agent asks for, such as p1".to_owned()).into());
    }
    let goal = ids::goal(link.state(), name)?;
    Ok(send(call, &mut link, Order::Approve { goal, ceiling }).await?.0)
}

pub(super) async fn answer(call: &Call, name: &str, words: &[String]) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    if let Ok(ask) = name.parse::<AskId>() {
        let replies = replies(&link.state().asks, ask, words);
        return Ok(send(call, &mut link, Order::Reply { ask, replies }).await?.0);
    }
    let goal = ids::goal(link.state(), name)?;
    Ok(send(call, &mut link, Order::Answer { goal, text: words.join(" ") }).await?.0)
}

/// Words as answers: each names choices by their label or number, separated by commas where several may be taken; anything
/// else is a person's own words. All words are of the one question, or each of one of several.
fn replies(asks: &Asks, ask: AskId, words: &[String]) -> Vec<Reply> {
    // What does not wait is refused by the room, which knows why.
    let Some(open) = asks.get(ask) else { return Vec::new() };
    let questions = &open.ask.questions;
    let words: Vec<String> = if questions.len() == 1 { vec![words.join(" ")] } else { words.to_vec() };
    let choice = |question: &Question, said: &str| {
        let label = |choice: &Choice| choice.label.eq_ignore_ascii_case(said.trim());
        let number = said.trim().parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let by_number = number.filter(|at| *at < question.choices.len());
        question.choices.iter().position(label).or(by_number)
    };
    let reply = |(n, said): (usize, &String)| {
        let Some(question) = questions.get(n) else { return Reply::words(said) };
        if let Some(at) = choice(question, said) {
            return Reply { chosen: vec![at], words: String::new() };
        }
        let several: Option<Vec<usize>> = said.split(',').map(|part| choice(question, part)).collect();
        match several.filter(|_| question.many) {
            Some(chosen) => Reply { chosen, words: String::new() },
            None => Reply::words(said),
        }
    };
    words.iter().enumerate().map(reply).collect()
}

pub(super) async fn deny(call: &Call, name: &str) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    if let Ok(ask) = name.parse::<AskId>() {
        return Ok(send(call, &mut link, Order::Forbid { ask }).await?.0);
    }
    let goal = ids::goal(link.state(), name)?;
    Ok(send(call, &mut link, Order::Deny { goal }).await?.0)
}

pub(super) async fn restart(call: &Call, name: &str) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let agent = ids::agent(link.state(), name)?;
    Ok(send(call, &mut link, Order::Restart { agent }).await?.0)
}

pub(super) async fn stop_agent(call: &Call, name: &str, drain: bool) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let agent = ids::agent(link.state(), name)?;
    Ok(send(call, &mut link, Order::StopAgent { agent, drain }).await?.0)
}

pub(super) async fn start_agent(call: &Call, name: &str) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let agent = ids::agent(link.state(), name)?;
    Ok(send(call, &mut link, Order::StartAgent { agent }).await?.0)
}

pub(super) async fn pause(call: &Call, name: &str) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let order = match ids::paused(link.state(), name)? {
        Paused::Task(task) => Order::PauseTask { task },
        Paused::Agent(agent) => Order::Pause { agent },
        Paused::Account(account) => Order::Park { account },
    };
    Ok(send(call, &mut link, order).await?.0)
}

pub(super) async fn resume(call: &Call, name: &str, when_clear: bool) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let order = match ids::paused(link.state(), name)? {
        Paused::Task(task) => Order::ResumeTask { task },
        Paused::Agent(agent) if when_clear => Order::Unpark { account: link.state().accounts.of(&agent), when_clear },
        Paused::Agent(agent) => Order::Resume { agent },
        Paused::Account(account) => Order::Unpark { account, when_clear },
    };
    Ok(send(call, &mut link, order).await?.0)
}

fn is_no_room(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AttachError::NoRoom))
}

/// Leaves markers for the next room.
async fn note(call: &Call, ids: &[String], request: Request) -> anyhow::Result<Exit> {
    let noted = link::note(&call.config()?, ids, request).await;
    for task in noted.map_err(|error| Trouble::Wrong(format!("{error:#}")))? {
        let text = format!("{task}: noted; the next room does it");
        if call.out.is_json() {
            call.out.json_line(&json::Done { text, ids: vec![task.to_string()] });
        } else {
            call.out.line(&text);
        }
    }
    Ok(Exit::Done)
}

async fn connect(call: &Call) -> anyhow::Result<Link> {
    link::connect(&call.config()?).await
}

/// Sends one order and says what came of it, one line of JSON per order; also the ids made or touched.
pub(super) async fn send(call: &Call, link: &mut Link, order: Order) -> anyhow::Result<(Exit, Vec<String>)> {
    match link.order(order).await? {
        Answer::Done { text, ids } => {
            if call.out.is_json() {
                call.out.json_line(&json::Done { text, ids: ids.clone() });
            } else {
                call.out.line(&crate::model::text::scrub(&text));
            }
            Ok((Exit::Done, ids))
        }
        Answer::Refused { reason } => {
            if call.out.is_json() {
                call.out.json_line(&json::Failure { error: reason, exit: Exit::Refused as u8 });
            } else {
                call.out.error(&reason);
            }
            Ok((Exit::Refused, Vec::new()))
        }
    }
}

fn worse(a: Exit, b: Exit) -> Exit {
    if a as u8 >= b as u8 { a } else { b }
}

/// Hands a text to the operator's editor; `None` when nothing is left of it.
pub(super) fn edit_in(call: &Call, text: &str, suffix: &str) -> anyhow::Result<Option<String>> {
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| call.env.text(name)).unwrap_or("vi");
    // People put arguments into the variable (`code -w`); nothing here passes through a shell.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let mut file = tempfile::Builder::new().prefix("podium-").suffix(suffix).tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    let path: PathBuf = file.path().to_owned();
    let status = Command::new(program)
        .args(words)
        .arg(&path)
        .status()
        .with_context(|| format!("could not start the editor {program}; set EDITOR"))?;
    if !status.success() {
        return Err(Trouble::Refused(format!("{program} ended with {status}; nothing was changed")).into());
    }
    let edited = std::fs::read_to_string(&path).context("could not read the edited text")?;
    Ok((!edited.trim().is_empty()).then_some(edited))
}
