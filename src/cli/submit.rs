//! `podium submit`: one task.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value};

use super::{
    Call, Exit, Trouble, ids, json, link, priority,
    run::{How, see_through},
    wait::seen,
    wait_text,
    workflow::{self, Which},
};
use crate::{
    model::{
        Dependency, MicroUsd, Priority, TaskId, TaskRef, TaskSpec,
        budget::{cap, parse_cap},
        text,
    },
    room::{Answer, Order},
};

/// The longest task text, in bytes.
const LIMIT: usize = 512 * 1024;

/// `podium submit`.
#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// What is to be done; `-` reads it from standard input
    #[arg(required_unless_present_any = ["file", "workflow"])]
    text: Vec<String>,
    /// Who does it
    #[arg(long, value_name = "AGENT", required_unless_present_any = ["file", "workflow"])]
    agent: Option<String>,
    /// Read the task from a JSON file; the other flags win over it
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Submit a workflow as a goal; `podium workflow run` has more to say about it and waits
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file", "agent", "after", "priority", "timeout", "model", "id"])]
    workflow: Option<PathBuf>,
    /// Tasks that must end well before: `x`, or `marie/x`
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    after: Vec<Dependency>,
    /// critical, urgent, high, normal, low, or 0 (first) to 9 (last)
    #[arg(long, value_parser = priority)]
    priority: Option<Priority>,
    /// Time allowed per attempt, such as 5m
    #[arg(long, value_parser = wait_text, value_name = "TIME")]
    timeout: Option<Duration>,
    /// What it may cost, all attempts, in dollars, or `off` [default: `task_usd`]
    #[arg(long, value_parser = parse_cap, value_name = "USD")]
    budget: Option<MicroUsd>,
    /// The model, or a tier: top, middle, small [default: the agent's]
    #[arg(long)]
    model: Option<String>,
    /// The task's id [default: its first words]
    #[arg(long)]
    id: Option<TaskId>,
}

pub(super) async fn submit(call: &Call, args: &SubmitArgs) -> anyhow::Result<Exit> {
    let config = call.config()?;
    if let Some(file) = &args.workflow {
        let how = How::detached(args.budget);
        let (mut link, goal) = workflow::start(call, &config, &Which::file(file, None), &how).await?;
        return see_through(call, &mut link, &goal, &how).await;
    }
    let mut draft = match &args.file {
        Some(path) => read(&call.env.cwd.join(path))?,
        None => Draft { description: words(&args.text)?, ..Draft::default() },
    };
    if let Some(agent) = &args.agent {
        draft.agent.clone_from(agent);
    }
    if draft.agent.is_empty() {
        return Err(Trouble::Wrong("the file names no worker; say --agent".to_owned()).into());
    }
    if draft.description.trim().is_empty() {
        return Err(Trouble::Wrong("description is empty: the task says nothing to do".to_owned()).into());
    }
    if draft.description.len() > LIMIT {
        let message = format!("the text is {} bytes long, at most {LIMIT} are allowed", draft.description.len());
        return Err(Trouble::Wrong(message).into());
    }
    let mut link = link::connect(&config).await?;
    let agent = ids::agent(link.state(), &draft.agent)?;
    let wish = args.id.clone().or(draft.id);
    let rename = wish.is_none();
    let id = match wish {
        Some(id) => id,
        None => TaskId::new(ids::slug(&draft.description))?,
    };
    let mut spec = TaskSpec::new(TaskRef::new(agent, id), draft.description);
    if !draft.title.is_empty() {
        spec.title = draft.title;
    }
    spec.dependencies = draft.dependencies;
    spec.dependencies.extend(args.after.iter().cloned());
    spec.priority = args.priority.or(draft.priority).unwrap_or_default();
    spec.timeout = args.timeout.or(draft.timeout);
    spec.budget = args.budget.or(draft.budget);
    spec.model = args.model.clone().or(draft.model);
    spec.context = draft.context;
    spec.extra = draft.extra;
    let order = Order::Task { spec: Box::new(spec), rename };
    match link.order(order).await? {
        Answer::Done { text, ids } => {
            for task in ids.iter().filter_map(|id| id.parse::<TaskRef>().ok()) {
                seen(&mut link, |state| state.tasks.get(&task).is_some()).await;
            }
            if call.out.is_json() {
                call.out.json(&json::Done { text, ids });
            } else {
                for id in &ids {
                    call.out.line(id);
                }
            }
            Ok(Exit::Done)
        }
        Answer::Refused { reason } => Err(Trouble::Refused(reason).into()),
    }
}

/// The text on the command line, or standard input for `-`.
fn words(args: &[String]) -> anyhow::Result<String> {
    if args.iter().map(String::as_str).eq(["-"]) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(LIMIT as u64 + 1).read_to_end(&mut bytes).context("could not read the text")?;
        return String::from_utf8(bytes).map_err(|_e| Trouble::Wrong("the text is not UTF-8".to_owned()).into());
    }
    Ok(args.join(" "))
}

/// A task as its file says it.
#[derive(Debug, Default, PartialEq)]
struct Draft {
    agent: String,
    id: Option<TaskId>,
    title: String,
    description: String,
    dependencies: Vec<Dependency>,
    priority: Option<Priority>,
    timeout: Option<Duration>,
    budget: Option<MicroUsd>,
    model: Option<String>,
    context: Value,
    extra: Map<String, Value>,
}

fn read(path: &Path) -> anyhow::Result<Draft> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|e| Trouble::Wrong(format!("could not open {shown}: {e}")))?;
    let mut bytes = Vec::new();
    file.take(LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Trouble::Wrong(format!("could not read {shown}: {e}")))?;
    if bytes.len() > LIMIT {
        return Err(Trouble::Wrong(format!("{shown} is longer than {LIMIT} bytes")).into());
    }
    parse(&bytes).map_err(|why| Trouble::Wrong(format!("{shown}: {why}")).into())
}

/// Reads the field names of task files, the older ones too; unknown fields go along to the agent.
fn parse(bytes: &[u8]) -> Result<Draft, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("this is no JSON: {e}"))?;
    let Value::Object(mut map) = value else { return Err("this is no JSON object".to_owned()) };
    let mut take = |names: &[&str]| names.iter().find_map(|name| map.remove(*name).map(|v| ((*name).to_owned(), v)));
    let mut word = |names: &[&str]| match take(names) {
        None | Some((_, Value::Null)) => Ok(String::new()),
        Some((_, Value::String(text))) => Ok(text),
        Some((name, _)) => Err(format!("{name} is no text")),
    };
    let agent = word(&["worker", "assigned_to", "agent"])?;
    let id = word(&["task_id", "id"])?;
    let title = word(&["title"])?;
    let model = Some(word(&["model"])?).filter(|model| !model.is_empty());
    let description = word(&["description", "prompt"])?;
    let id = if id.is_empty() { None } else { Some(TaskId::new(id).map_err(|e| format!("task_id: {e}"))?) };
    let priority = match take(&["priority"]) {
        None | Some((_, Value::Null)) => None,
        Some((_, value)) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some(Priority::parse(&text).ok_or_else(|| format!("priority {} is none", text::first_line(&text, 40)))?)
        }
    };
    let timeout = match take(&["timeout", "timeout_seconds", "timeout_s"]) {
        None | Some((_, Value::Null)) => None,
        Some((name, value)) => {
            let seconds = value.as_f64().filter(|s| (1.0..=86_400.0).contains(s));
            Some(Duration::from_secs_f64(
                seconds.ok_or_else(|| format!("{name} is no number of seconds from 1 to 86400"))?,
            ))
        }
    };
    let budget = match take(&["budget_usd"]) {
        None | Some((_, Value::Null)) => None,
        Some((name, value)) => {
            let parsed = match &value {
                Value::String(text) => parse_cap(text).ok(),
                other => other.as_f64().and_then(cap),
            };
            Some(parsed.ok_or_else(|| format!("{name} is no amount of dollars, nor off"))?)
        }
    };
    let dependencies = match take(&["dependencies", "after", "depends_on"]) {
        None | Some((_, Value::Null)) => Vec::new(),
        Some((name, Value::Array(all))) => all
            .iter()
            .map(|value| value.as_str().ok_or_else(|| format!("{name} holds something that is no text")))
            .map(|text| text.and_then(|t| t.parse().map_err(|e| format!("{name}: {e}"))))
            .collect::<Result<_, _>>()?,
        Some((name, _)) => return Err(format!("{name} is no list")),
    };
    let context = take(&["context"]).map(|(_, value)| value).unwrap_or_default();
    Ok(Draft { agent, id, title, description, dependencies, priority, timeout, budget, model, context, extra: map })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_file_is_read_in_its_older_spellings_too() {
        let new = br#"{"task_id":"eval","worker":"marie","description":"look","dependencies":["anga/roster"],
            "priority":"high","timeout":300,"context":{"class":"juniors"},"colour":"red"}"#;
        let old = br#"{"id":"eval","assigned_to":"marie","prompt":"look","dependencies":["anga/roster"],
            "priority":2,"timeout_seconds":300,"context":{"class":"juniors"},"colour":"red"}"#;
        let new = parse(new).unwrap();
        assert_eq!(new, parse(old).unwrap());
        assert_eq!(new.timeout, Some(Duration::from_mins(5)));
        assert_eq!(new.extra.get("colour"), Some(&Value::from("red")));
    }

    #[test]
    fn what_cannot_be_is_named_by_its_field() {
        for (text, expected) in [
            ("[]", "no JSON object"),
            ("{", "this is no JSON"),
            (r#"{"task_id":"../x"}"#, "task_id: "),
            (r#"{"priority":"asap"}"#, "priority asap"),
            (r#"{"timeout":-1}"#, "timeout is no number"),
            (r#"{"dependencies":"x"}"#, "dependencies is no list"),
            (r#"{"dependencies":[1]}"#, "dependencies holds"),
            (r#"{"description":7}"#, "description is no text"),
            (r#"{"budget_usd":-1}"#, "budget_usd is no amount"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
