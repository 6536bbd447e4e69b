//! `podium plan`: a goal's plan as graph and list, and its changes by hand.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{
    Call, Exit, Trouble, ids, json as shapes,
    link::Link,
    orders::{edit_in, send},
    out::{Out, Paint},
};
use crate::{
    model::{AgentName, Fault, MicroUsd, Plan, PlanTask, Severity, text},
    orchestrator::plan::{self, Edit, Rules, cost, form},
    room::{Goal, Order, State},
};

/// `podium plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The goal
    id: String,
    /// Change the whole plan in $EDITOR, as JSON; it is checked whole
    #[arg(long, conflicts_with_all = ["from", "set", "drop", "merge", "add", "single"])]
    edit: bool,
    /// Take the whole plan from a file, as --json prints it under `plan`; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["set", "drop", "merge", "add", "single"])]
    from: Option<PathBuf>,
    /// Change one field: TASK.FIELD=VALUE, with title, agent, after, priority, timeout, effort, tier, model, objective, output
    /// or boundaries; an empty value leaves it to agent and schedule
    #[arg(long, value_name = "TASK.FIELD=VALUE")]
    set: Vec<String>,
    /// Leave a task out
    #[arg(long, value_name = "TASK")]
    drop: Vec<String>,
    /// What waited for a task that is left out waits for what that waited for
    #[arg(long, requires = "drop")]
    rewire: bool,
    /// Make one task of several, of the first one's agent: a,b
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',')]
    merge: Vec<String>,
    /// One more task, as JSON in a file
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// The whole goal as one task of this agent
    #[arg(long, value_name = "AGENT")]
    single: Option<String>,
}

pub(super) async fn plan(call: &Call, args: &PlanArgs) -> anyhow::Result<Exit> {
    let mut link = Link::connect(&call.config()?.stage).await?;
    let id = ids::goal(link.state(), &args.id)?;
    let goal = link.state().goals.get(&id).cloned().context("the goal is gone")?;
    let Some(now) = goal.plan.clone() else {
        return Err(Trouble::Refused(format!("{id} has no plan: it is {}", goal.phase.word())).into());
    };
    let edits = edits(call, args, link.state(), &now)?;
    if edits.is_empty() {
        show(&call.out, link.state(), &goal, &now);
        return Ok(Exit::Done);
    }
    let base = now.hash();
    let (exit, _) = send(call, &mut link, Order::EditPlan { goal: id.clone(), base: base.clone(), edits }).await?;
    if exit == Exit::Done {
        let changed =
            |state: &State| state.goals.get(&id).and_then(|g| g.plan.as_ref()).is_some_and(|p| p.hash() != base);
        super::wait::seen(&mut link, changed).await;
        if let Some((goal, plan)) = link.state().goals.get(&id).and_then(|g| Some((g, g.plan.as_ref()?)))
            && !call.out.is_json()
        {
            show(&call.out, link.state(), goal, plan);
        }
    }
    Ok(exit)
}

/// What the arguments ask to be different.
fn edits(call: &Call, args: &PlanArgs, state: &State, now: &Plan) -> anyhow::Result<Vec<Edit>> {
    let mut edits = Vec::new();
    if let Some(written) = whole(call, args, now)? {
        let plan = plan::read_edited(&written).map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Trouble::Wrong(format!("the plan cannot be read: {}", lines.join("; ")))
        })?;
        return Ok(vec![Edit::Replace { plan: Box::new(plan) }]);
    }
    let mut changed: Vec<PlanTask> = Vec::new();
    for set in &args.set {
        let parts = set.split_once('=').and_then(|(place, value)| Some((place.rsplit_once('.')?, value)));
        let Some(((id, field), value)) = parts else {
            return Err(Trouble::Wrong(format!("--set {set}: should be TASK.FIELD=VALUE")).into());
        };
        if !changed.iter().any(|task| task.id == id) {
            let known = now.task(id).ok_or_else(|| Trouble::Wrong(format!("there is no task {id} in this plan")))?;
            changed.push(known.clone());
        }
        let Some(task) = changed.iter_mut().find(|task| task.id == id) else { continue };
        if field == "id" {
            return Err(Trouble::Wrong("a task keeps its id".to_owned()).into());
        }
        form::short(task, field, value.trim()).map_err(|why| Trouble::Wrong(format!("--set {set}: {why}")))?;
    }
    edits.extend(changed.into_iter().map(|task| Edit::Change { task: task.id.clone(), to: Box::new(task) }));
    for path in &args.add {
        let read = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        let task: PlanTask =
            serde_json::from_str(&read).map_err(|error| Trouble::Wrong(format!("{}: {error}", path.display())))?;
        edits.push(Edit::Add { task: Box::new(task) });
    }
    if !args.merge.is_empty() {
        edits.push(Edit::Merge { tasks: args.merge.clone() });
    }
    edits.extend(args.drop.iter().map(|task| Edit::Drop { task: task.clone(), rewire: args.rewire }));
    if let Some(name) = &args.single {
        let agent: AgentName = ids::agent(state, name)?;
        edits.push(Edit::Single { agent });
    }
    Ok(edits)
}

/// The whole plan as a person wrote it, where that was asked for.
fn whole(call: &Call, args: &PlanArgs, now: &Plan) -> anyhow::Result<Option<String>> {
    if let Some(path) = &args.from {
        let read =
            if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { fs::read_to_string(path) };
        return Ok(Some(read.with_context(|| format!("could not read {}", path.display()))?));
    }
    if !args.edit {
        return Ok(None);
    }
    let written = serde_json::to_string_pretty(&editable(now))?;
    let edited = edit_in(call, &written, ".json")?;
    Ok(Some(edited.ok_or_else(|| Trouble::Refused("the plan stays as it is: the text is empty".to_owned()))?))
}

/// A plan without what only tells how it came about.
fn editable(plan: &Plan) -> serde_json::Value {
    json!({
        "schema_version": plan.schema_version.max(crate::model::plan::SCHEMA_VERSION), "summary": plan.summary,
        "requirements": plan.requirements, "synthesis": plan.synthesis, "tasks": plan.tasks,
    })
}

/// Shows a goal's plan as graph and list with what it takes, its warnings and its gates.
pub(super) fn show(out: &Out, state: &State, goal: &Goal, plan: &Plan) {
    let rules = state.plan_rules(Some(goal));
    if out.is_json() {
        return out.json(&shapes::PlanJson::new(state, goal, plan, &rules));
    }
    draw(out, state, plan, &rules, &goal.faults, goal.planning_cost());
}

/// The same for any plan.
pub(super) fn draw(out: &Out, state: &State, plan: &Plan, rules: &Rules, faults: &[Fault], planning: MicroUsd) {
    let clean = |text: &str| text::scrub(text).into_owned();
    out.line(&format!("{}  {}", out.paint(Paint::Bold, "Plan"), clean(&plan.summary)));
    let totals = cost::totals(plan, rules);
    let mut facts = vec![format!("revision {}", plan.revision), format!("hash {}", text::clip(&plan.hash(), 14))];
    facts.extend(state.estimate(plan).map(|estimate| estimate.to_string()));
    facts.extend(totals.tokens.map(|tokens| format!("{} tokens", cost::tokens_text(tokens))));
    facts.extend(totals.usd.map(|usd| format!("{} without a cache", cost::usd_text(usd))));
    if planning.0 > 0 {
        facts.push(format!("planning cost {planning}"));
    }
    out.line(&out.paint(Paint::Dim, &facts.join(" · ")));
    out.line("");
    for line in graph(state, plan) {
        out.line(&clean(&line));
    }
    out.line("");
    out.table(&plan.tasks.iter().map(|task| row(task, rules)).collect::<Vec<_>>());
    if !plan.synthesis.trim().is_empty() {
        out.line(&format!("then  {}", clean(&plan.synthesis)));
    }
    for fault in faults {
        let (mark, paint) = match fault.severity {
            Severity::Repair => ("wrong", Paint::Bad),
            Severity::Ask => ("needs a yes", Paint::Bad),
            Severity::Warn => ("mind", Paint::Dim),
            Severity::Suggest => ("perhaps", Paint::Dim),
        };
        out.line(&out.paint(paint, &format!("{mark}: {}", clean(&fault.to_string()))));
    }
}

/// Who would do what, why, and what it would cost; starts nothing.
pub(super) fn who(out: &Out, state: &State, goal: &Goal, plan: &Plan) {
    let rules = state.plan_rules(Some(goal));
    let role = |worker: &str| {
        let agent = AgentName::new(worker).ok().and_then(|name| state.agents.get(&name));
        agent.map(|agent| text::first_line(&agent.settings.role, 100)).unwrap_or_default()
    };
    if out.is_json() {
        let tasks: Vec<_> = plan
            .tasks
            .iter()
            .map(|task| {
                json!({
                    "id": task.id, "agent": task.worker, "title": task.title, "role": role(&task.worker),
                    "model": rules.model_of(task), "minutes": task.estimates.minutes, "usd": cost::usd(task, &rules),
                })
            })
            .collect();
        let (totals, planning) = (cost::totals(plan, &rules), goal.planning_cost().dollars());
        return out.json(&json!({
            "goal": goal.id.as_str(), "why": plan.summary, "tasks": tasks, "minutes": totals.minutes, "usd": totals.usd,
            "planning_cost_usd": planning,
        }));
    }
    let clean = |text: &str| text::scrub(text).into_owned();
    let rows = plan.tasks.iter().map(|task| {
        let mut takes: Vec<String> =
            task.estimates.minutes.map(|minutes| format!("{minutes} min")).into_iter().collect();
        takes.extend(cost::usd(task, &rules).map(cost::usd_text));
        vec![
            (Paint::Bold, text::first_line(&task.worker, 32)),
            (Paint::Plain, text::first_line(&task.title, 60)),
            (Paint::Dim, text::first_line(rules.model_of(task), 30)),
            (Paint::Plain, takes.join(" ")),
        ]
    });
    out.table(&rows.collect::<Vec<_>>());
    out.line(&format!("why  {}", clean(&plan.summary)));
    let workers: std::collections::BTreeSet<&str> = plan.tasks.iter().map(|task| &*task.worker).collect();
    for worker in workers {
        out.line(&out.paint(Paint::Dim, &format!("     {}: {}", clean(worker), role(worker))));
    }
    let mut facts: Vec<String> = state.estimate(plan).map(|estimate| estimate.to_string()).into_iter().collect();
    facts.extend(cost::totals(plan, &rules).usd.map(|usd| format!("{} without a cache", cost::usd_text(usd))));
    facts.push(format!("asking cost {}", goal.planning_cost()));
    out.line(&out.paint(Paint::Dim, &facts.join(" · ")));
    let again = format!("nothing was started; `podium workflow export {0} | podium workflow run -` starts it", goal.id);
    out.note(&again);
}

/// The steps of a plan: what may start together stands in one line; `*` marks the longest chain.
fn graph(state: &State, plan: &Plan) -> Vec<String> {
    let critical = state.estimate(plan).map(|estimate| estimate.critical).unwrap_or_default();
    let levels = plan::levels(plan);
    let rows = levels.iter().enumerate().map(|(n, level)| {
        let names = level.iter().filter_map(|&i| {
            let mark = if critical.contains(&i) && plan.tasks.len() > 1 { "*" } else { "" };
            Some(format!("{}{mark}", plan.tasks.get(i)?.id))
        });
        let arrow = if n == 0 { "  " } else { "→ " };
        format!("{arrow}{}", names.collect::<Vec<_>>().join("  "))
    });
    rows.collect()
}

fn row(task: &PlanTask, rules: &Rules) -> Vec<(Paint, String)> {
    let after =
        if task.dependencies.is_empty() { String::new() } else { format!("after {}", task.dependencies.join(", ")) };
    let mut takes = Vec::new();
    takes.extend(task.estimates.minutes.map(|minutes| format!("{minutes} min")));
    takes.extend(task.estimates.tokens.map(|tokens| format!("{} tok", cost::tokens_text(tokens))));
    takes.extend(cost::usd(task, rules).map(cost::usd_text));
    let mut how = vec![rules.model_of(task).to_owned()];
    how.extend(task.effort.map(|effort| effort.word().to_owned()));
    how.extend(task.priority.map(|priority| format!("priority {}", priority.0)));
    how.extend(task.timeout.map(|seconds| format!("{seconds} s")));
    vec![
        (Paint::Plain, text::first_line(&task.id, 48)),
        (Paint::Plain, text::first_line(&task.worker, 32)),
        (Paint::Plain, text::first_line(&task.title, 60)),
        (Paint::Dim, text::first_line(&how.join(" "), 40)),
        (Paint::Dim, takes.join(" ")),
        (Paint::Dim, text::first_line(&after, 120)),
    ]
}
