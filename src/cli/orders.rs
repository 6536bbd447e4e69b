//! What the keys do: retry, cancel, approve, deny, pause, resume.

use std::{io::Write, path::PathBuf, process::Command};

use anyhow::Context;
use clap::Args;

use super::{
    Call, Exit, Trouble,
    ids::{self, Named},
    json,
    link::Link,
    show::whole,
    wait::seen,
};
use crate::{
    model::{Changes, TaskRecord},
    room::{Answer, Order, State},
};

/// `podium retry`.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// Tasks
    #[arg(required = true)]
    ids: Vec<String>,
    /// Change the text in $EDITOR first
    #[arg(long, conflicts_with = "text")]
    edit: bool,
    /// Give it another text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

pub(super) async fn retry(call: &Call, args: &RetryArgs) -> anyhow::Result<Exit> {
    if args.ids.len() > 1 && (args.edit || args.text.is_some()) {
        return Err(Trouble::Wrong("--edit and --text are for one task at a time".to_owned()).into());
    }
    if args.text.as_ref().is_some_and(|text| text.trim().is_empty()) {
        return Err(Trouble::Wrong("--text is empty: the task would say nothing to do".to_owned()).into());
    }
    let mut link = connect(call).await?;
    let tasks = args.ids.iter().map(|id| ids::task(link.state(), id)).collect::<Result<Vec<_>, _>>()?;
    let mut exit = Exit::Done;
    for task in tasks {
        let description = if args.edit {
            let known =
                whole(call, link.state(), &task).await.map(|t| t.record.spec.description.clone()).unwrap_or_default();
            if known.len() >= TaskRecord::TEXT_LIMIT - '…'.len_utf8() {
                let message =
                    format!("the text of {task} is too long to edit here; give the whole new one with --text");
                return Err(Trouble::Wrong(message).into());
            }
            match edit(call, &known)? {
                Some(text) => Some(text),
                None => return Err(Trouble::Refused(format!("{task} is not retried: the text is empty")).into()),
            }
        } else {
            args.text.clone()
        };
        let ended_at = |state: &State| Some(state.tasks.find(&task)?.record.outcome.as_ref()?.completed_at);
        let before = ended_at(link.state());
        let sent = send(
            call,
            &mut link,
            Order::Retry { task: task.clone(), changes: Box::new(Changes { description, ..Changes::default() }) },
        )
        .await?;
        if sent == Exit::Done && before.is_some() {
            seen(&mut link, |state| ended_at(state) != before).await;
        }
        exit = worse(exit, sent);
    }
    Ok(exit)
}

pub(super) async fn cancel(call: &Call, ids: &[String]) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let named = ids.iter().map(|id| ids::find(link.state(), id)).collect::<Result<Vec<_>, _>>()?;
    let mut exit = Exit::Done;
    for name in named {
        let order = match name {
            Named::Goal(goal) => Order::CancelGoal { goal },
            Named::Task(task) => Order::Cancel { task },
        };
        exit = worse(exit, send(call, &mut link, order).await?);
    }
    Ok(exit)
}

pub(super) async fn decide(call: &Call, name: &str, yes: bool) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let goal = ids::goal(link.state(), name)?;
    let order = if yes { Order::Approve { goal } } else { Order::Deny { goal } };
    send(call, &mut link, order).await
}

pub(super) async fn pause(call: &Call, name: &str, yes: bool) -> anyhow::Result<Exit> {
    let mut link = connect(call).await?;
    let agent = ids::agent(link.state(), name)?;
    let order = if yes { Order::Pause { agent } } else { Order::Resume { agent } };
    send(call, &mut link, order).await
}

async fn connect(call: &Call) -> anyhow::Result<Link> {
    Ok(Link::connect(&call.config()?.stage).await?)
}

/// Sends one order and says what came of it; one line of JSON per order.
async fn send(call: &Call, link: &mut Link, order: Order) -> anyhow::Result<Exit> {
    match link.order(order).await? {
        Answer::Done { text, ids } => {
            if call.out.is_json() {
                call.out.json_line(&json::Done { text, ids });
            } else {
                call.out.line(&crate::model::text::scrub(&text));
            }
            Ok(Exit::Done)
        }
        Answer::Refused { reason } => {
            if call.out.is_json() {
                call.out.json_line(&json::Failure { error: reason, exit: Exit::Refused as u8 });
            } else {
                call.out.error(&reason);
            }
            Ok(Exit::Refused)
        }
    }
}

fn worse(a: Exit, b: Exit) -> Exit {
    if a as u8 >= b as u8 { a } else { b }
}

/// Hands a text to the operator's editor; `None` when nothing is left of it.
fn edit(call: &Call, text: &str) -> anyhow::Result<Option<String>> {
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| call.env.text(name)).unwrap_or("vi");
    // People put arguments into the variable (`code -w`); nothing here passes through a shell.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let mut file = tempfile::Builder::new().prefix("podium-").suffix(".md").tempfile()?;
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
