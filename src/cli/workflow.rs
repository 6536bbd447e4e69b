//! `podium workflow`: plans in files, which no model wrote; alone, or once for every row of a roster.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Call, Exit, Trouble, ids, json,
    link::{self, Link},
    plan::draw,
    run::{How, see_through, submit},
};
use crate::{
    config::Config,
    model::{Fault, GoalId, MicroUsd, Plan, Severity, Terms, text},
    orchestrator::workflow::{self, Made, Values, Workflow},
    room::Order,
};

mod roster;

/// `podium workflow`.
#[derive(Debug, Subcommand)]
pub(super) enum WorkflowVerb {
    /// Run a workflow like a planned goal: it is judged, approved, paid for and reported on in the same way
    Run {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Show what a workflow comes to and everything that is wrong with it; starts nothing, needs no room
    Check {
        #[command(flatten)]
        which: Which,
    },
    /// Write a goal's plan as a workflow
    Export {
        /// The goal
        id: String,
        /// Where to [default: standard output]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Which workflow, and with what.
#[derive(Debug, Default, Args)]
pub(super) struct Which {
    /// The workflow's file; - is standard input
    #[arg(required_unless_present = "roster")]
    file: Option<PathBuf>,
    /// The value of {{param.NAME}}
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,
    /// Once for each row: csv or tsv with a head, JSON lines, or a name per line; without a workflow each row is a task, or
    /// names its workflow
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
}

impl Which {
    /// This file alone.
    pub(super) fn file(file: &Path, roster: Option<&Path>) -> Self {
        Self { file: Some(file.to_owned()), param: Vec::new(), roster: roster.map(Path::to_owned) }
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("should be NAME=VALUE")?;
    let name = name.trim();
    if name.is_empty() { Err("should be NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}

pub(super) async fn workflow(call: &Call, verb: &WorkflowVerb) -> anyhow::Result<Exit> {
    match verb {
        WorkflowVerb::Run { which, how } => {
            let config = call.config()?;
            let (mut link, goal) = start(call, &config, which, how).await?;
            see_through(call, &mut link, &goal, how).await
        }
        WorkflowVerb::Check { which } => check(call, which).await,
        WorkflowVerb::Export { id, to } => export(call, id, to.as_deref()).await,
    }
}

/// Submits a workflow, and tells its goal.
pub(super) async fn start(call: &Call, config: &Config, which: &Which, how: &How) -> anyhow::Result<(Link, GoalId)> {
    let made = made(call, which)?;
    let mut link = link::connect(config).await?;
    let terms = how.terms();
    let bad: Vec<Fault> = link.state().judge_workflow(&made.plan, &terms);
    let bad: Vec<Fault> = bad.into_iter().filter(|fault| fault.severity == Severity::Repair).collect();
    if !bad.is_empty() {
        return Err(wrong(&bad).into());
    }
    let approval = how.approval(call, config);
    let order = Order::Workflow { text: made.text, plan: Box::new(made.plan), approval, terms };
    let goal = submit(&mut link, order).await?;
    Ok((link, goal))
}

/// What the files come to.
fn made(call: &Call, which: &Which) -> anyhow::Result<Made> {
    let mut given = Values::new();
    for (name, value) in &which.param {
        if given.insert(name.clone(), text::scrub(value).into_owned()).is_some() {
            return Err(Trouble::Wrong(format!("--param {name} is given twice")).into());
        }
    }
    let base = which.file.as_ref().map(|path| read_workflow(call, path)).transpose()?;
    let made = match (&which.roster, base) {
        (None, Some(base)) => workflow::make(&base, &given),
        (None, None) => return Err(Trouble::Wrong("name a workflow, a roster, or both".to_owned()).into()),
        (Some(path), base) => {
            let rows = roster::read(&call.env.cwd.join(path))?;
            let name = base.as_ref().map(Workflow::name).filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| stem(path));
            match roster::rows(rows, base.as_ref(), |named| {
                let folder = call.env.cwd.join(path);
                read_workflow(call, &folder.parent().unwrap_or(Path::new(".")).join(named))
            })? {
                roster::Rows::Tasks(tasks) => workflow::make(&Workflow::of_tasks(&name, tasks), &given),
                roster::Rows::Workflows(rows) => workflow::batch(&name, &rows, &given),
            }
        }
    };
    made.map_err(|faults| wrong(&faults).into())
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "Roster".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn read_workflow(call: &Call, path: &Path) -> anyhow::Result<Workflow> {
    let file = if path.as_os_str() == "-" {
        read_text(std::io::stdin().lock(), "standard input")?
    } else {
        read_file(&call.env.cwd.join(path))?
    };
    Workflow::read(&file).map_err(|faults| {
        let Trouble::Wrong(why) = wrong(&faults) else { return wrong(&faults).into() };
        Trouble::Wrong(format!("{}: {why}", path.display())).into()
    })
}

/// A file as text, up to the size of a workflow.
fn read_file(path: &Path) -> anyhow::Result<String> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| Trouble::Wrong(format!("could not open {shown}: {error}")))?;
    read_text(file, &shown)
}

fn read_text(from: impl std::io::Read, shown: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.take(workflow::LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Trouble::Wrong(format!("could not read {shown}: {error}")))?;
    if bytes.len() > workflow::LIMIT {
        return Err(Trouble::Wrong(format!("{shown} is longer than {} bytes", workflow::LIMIT)).into());
    }
    String::from_utf8(bytes).map_err(|_e| Trouble::Wrong(format!("{shown} is not UTF-8")).into())
}

/// Every fault, one a line.
fn wrong(faults: &[Fault]) -> Trouble {
    match faults {
        [one] => Trouble::Wrong(format!("the workflow is wrong: {one}")),
        many => {
            let lines: Vec<String> = many.iter().map(|fault| format!("\n  {fault}")).collect();
            Trouble::Wrong(format!("the workflow has {} faults:{}", many.len(), lines.concat()))
        }
    }
}

/// What `check` prints with `--json`.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    /// It can run.
    sound: bool,
    /// Something in it waits for a person, whatever was allowed before.
    gated: bool,
    text: &'a str,
    hash: String,
    #[serde(flatten)]
    plan: &'a Plan,
    estimate: json::PlanEstimate,
    steps: Vec<Vec<&'a str>>,
    faults: &'a [Fault],
}

async fn check(call: &Call, which: &Which) -> anyhow::Result<Exit> {
    let made = made(call, which)?;
    let picture = link::look(&call.config()?, &call.env).await?;
    let (state, terms) = (picture.state(), Terms::default());
    let (rules, faults) = (state.workflow_rules(&terms), state.judge_workflow(&made.plan, &terms));
    let sound = !faults.iter().any(|fault| fault.severity == Severity::Repair);
    if call.out.is_json() {
        call.out.json(&Checked {
            sound,
            gated: faults.iter().any(|fault| fault.severity == Severity::Ask),
            text: &made.text,
            hash: made.plan.hash(),
            plan: &made.plan,
            estimate: json::PlanEstimate::new(state, &made.plan, &rules, MicroUsd(0)),
            steps: json::steps(&made.plan),
            faults: &faults,
        });
    } else {
        draw(&call.out, state, &made.plan, &rules, &faults, MicroUsd(0));
    }
    Ok(if sound { Exit::Done } else { Exit::Wrong })
}

async fn export(call: &Call, id: &str, to: Option<&Path>) -> anyhow::Result<Exit> {
    let picture = link::look(&call.config()?, &call.env).await?;
    let id = ids::goal(picture.state(), id)?;
    let goal = picture.state().goals.get(&id).context("the goal is gone")?;
    let Some(plan) = &goal.plan else {
        return Err(Trouble::Refused(format!("{id} has no plan: it is {}", goal.phase.word())).into());
    };
    let written = workflow::write(&goal.text, plan);
    match to {
        None => call.out.json(&written),
        Some(path) => {
            let path = call.env.cwd.join(path);
            let file = File::create_new(&path)
                .map_err(|error| Trouble::Wrong(format!("could not make {}: {error}", path.display())))?;
            serde_json::to_writer_pretty(file, &written)
                .with_context(|| format!("could not write {}", path.display()))?;
            call.out.note(&format!("{id} is written to {}", path.display()));
        }
    }
    Ok(Exit::Done)
}
