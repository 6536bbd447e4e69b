//! `podium show`: one task or goal in full.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Call, Exit, Trouble,
    ids::{self, Named},
    json, link,
    out::{Out, Paint},
    plan,
    status::{money, phase_paint, seen, task_row},
    usage::drift_row,
};
use crate::{
    config::Config,
    ledger::{
        Rows,
        usage::{self, Parts},
    },
    model::{AttemptRef, Ending, Spend, TaskRef, budget::Payer, text},
    orchestrator::pays::{self, Pays},
    room::{Goal, State, Task, tasks::Phase, why::span},
};

pub(super) async fn show(call: &Call, id: &str) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let picture = link::look(&config, &call.env).await?;
    let (state, now) = (picture.state(), link::clock().now());
    let named = ids::find(state, id).map_err(|trouble| match &state.offline {
        Some(why) => Trouble::NoRoom(format!("{trouble}; {why}")),
        None => trouble,
    })?;
    match named {
        Named::Task(task) => {
            let Some(task) = whole(&config, state, &task).await else { return Ok(Exit::Failed) };
            let parts = parts(&config, &task, now);
            if call.out.is_json() {
                call.out.json(&json::TaskDetail::new(state, &task, &parts, now));
            } else {
                print_task(&call.out, state, &task, &parts, now);
            }
        }
        Named::Goal(goal) => {
            let Some(goal) = state.goals.get(&goal) else { return Ok(Exit::Failed) };
            if call.out.is_json() {
                call.out.json(&json::GoalDetail::new(state, goal, report(state, goal), now));
            } else {
                print_goal(&call.out, state, goal, now);
            }
        }
    }
    Ok(seen(&call.out, state))
}

/// A task in full: what the room keeps in short, and the end of a long text, are read from its files.
async fn whole<'a>(config: &Config, state: &'a State, task: &TaskRef) -> Option<Cow<'a, Task>> {
    let mut found = state.tasks.find(task)?;
    if let Cow::Owned(short) = &mut found
        && let Ok(record) = link::record(config, task).await
    {
        short.record = record;
    }
    if let Ok(text) = link::description(config, task).await {
        found.to_mut().record.spec.description = text;
    }
    Some(found)
}

/// What each attempt has cost by the ledger's own files; nothing where they cannot be read.
fn parts(config: &Config, task: &Task, now: Timestamp) -> BTreeMap<u32, Parts> {
    let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let record = &task.record;
    let Some(first) = record.attempts.first() else { return BTreeMap::new() };
    let last = record.outcome.as_ref().map_or(now, |outcome| outcome.completed_at);
    let rows = Rows::new(config.layout().ledger());
    usage::attempts(&rows, record.task(), day(first.started_at), day(last)).unwrap_or_else(|error| {
        tracing::warn!(%error, "the ledger could not be read");
        BTreeMap::new()
    })
}

/// The text of a goal's report.
pub(super) fn report(state: &State, goal: &Goal) -> Option<String> {
    let text = std::fs::read_to_string(state.stage.join(goal.report.as_ref()?)).ok()?;
    Some(text::scrub(&text).into_owned())
}

fn print_task(out: &Out, state: &State, task: &Task, parts: &BTreeMap<u32, Parts>, now: Timestamp) {
    let record = &task.record;
    let spec = &record.spec;
    let word = record.outcome.as_ref().map_or_else(|| state.tasks.phase(task).word(), |o| o.state.word());
    out.line(&format!(
        "{}  {}  {}",
        out.paint(Paint::Bold, &spec.task.to_string()),
        out.paint(phase_paint(state.tasks.phase(task)), word),
        text::scrub(&spec.title),
    ));
    let row = |name: &str, value: String| {
        if !value.is_empty() {
            out.line(&format!("  {:<13}{}", name, text::scrub(&value)));
        }
    };
    row("why", state.why(&spec.task, now).map(|w| w.to_string()).unwrap_or_default());
    let ending = record.outcome.as_ref().filter(|_| state.tasks.phase(task) == Phase::Failed).map(|o| &o.ending);
    row("what to do", ending.map(Ending::remedy).unwrap_or_default().to_owned());
    row("goal", spec.goal.as_ref().map(ToString::to_string).unwrap_or_default());
    row("after", spec.dependencies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    row("retry of", spec.retry_of.as_ref().map(ToString::to_string).unwrap_or_default());
    row("retried as", state.tasks.retried_as(&spec.task).map(ToString::to_string).unwrap_or_default());
    let priority = state.tasks.priority(spec);
    row("priority", format!("{} ({})", priority.0, priority.word()));
    row("time allowed", spec.timeout.map(crate::config::shown_wait).unwrap_or_default());
    let cap = state.cap_of(&Payer::Task(spec.task.clone())).map(|cap| format!(" of {cap}")).unwrap_or_default();
    row("cost", money(&state.spend_of_task(&spec.task)) + &cap);
    row("file", record.file.clone().unwrap_or_default());
    out.line("");
    out.text(&text::scrub(&spec.description));
    for attempt in &record.attempts {
        out.line("");
        let lasted = attempt.ended_at.unwrap_or(now).duration_since(attempt.started_at);
        let ending = attempt.ending.as_ref().map_or_else(|| "running".to_owned(), Ending::sentence);
        out.line(&format!(
            "{}  {}  {}  {}",
            out.paint(Paint::Bold, &format!("Attempt {}", attempt.n)),
            span(lasted),
            money(&parts.get(&attempt.n).filter(|parts| parts.all.calls > 0).map_or(attempt.spend, |parts| parts.all)),
            text::first_line(&ending, 200)
        ));
        if let Some(parts) = parts.get(&attempt.n) {
            print_parts(out, parts, &spec.task.attempt(attempt.n));
        }
        out.line(&out.paint(Paint::Dim, &format!("  {}", attempt.log)));
    }
    if let Some(outcome) = &record.outcome {
        out.line("");
        out.line(&out.paint(Paint::Bold, "Result"));
        out.text(&text::scrub(&outcome.summary));
        for finding in &outcome.findings {
            out.line(&format!("  - {}", text::scrub(finding)));
        }
        for artifact in &outcome.artifacts {
            out.line(&format!("  {} ({} bytes)", text::scrub(&artifact.path), artifact.bytes));
        }
        out.line(&out.paint(Paint::Dim, &format!("  {}", json::result_file(&outcome.task))));
    }
}

/// An attempt's sub-agents, and how far gateway and engine are apart.
fn print_parts(out: &Out, parts: &Parts, attempt: &AttemptRef) {
    let row = |(id, (parent, spend)): (&String, &(Option<String>, Spend))| {
        let used = &spend.usage;
        let below = parent.as_ref().map(|parent| format!(" of {parent}")).unwrap_or_default();
        vec![
            (Paint::Plain, text::first_line(&format!("sub-agent {id}{below}"), 60)),
            (Paint::Plain, money(spend)),
            (
                Paint::Dim,
                format!(
                    "{} calls, {} tokens in, {} out",
                    spend.calls,
                    used.total() - used.output_tokens,
                    used.output_tokens
                ),
            ),
        ]
    };
    out.table(&parts.subagents.iter().map(row).collect::<Vec<_>>());
    if let Some(drift) = parts.drift(attempt) {
        out.table(&[drift_row(&drift)]);
    }
}

fn print_goal(out: &Out, state: &State, goal: &Goal, now: Timestamp) {
    out.line(&format!("{}  {}", out.paint(Paint::Bold, goal.id.as_str()), goal.phase.word()));
    let cap = state.cap_of(&Payer::Goal(goal.id.clone())).map(|cap| format!(" of {cap}")).unwrap_or_default();
    out.line(&out.paint(Paint::Dim, &format!("cost {}{cap}", money(&state.spend_of(goal)))));
    out.text(&text::scrub(&goal.text));
    if goal.plan.is_none() {
        for fault in &goal.faults {
            out.line(&out.paint(Paint::Bad, &text::scrub(&fault.to_string())));
        }
    }
    if let Some(plan) = &goal.plan {
        out.line("");
        plan::show(out, state, goal, plan);
    }
    if !goal.tasks.is_empty() {
        out.line("");
        out.line(&out.paint(Paint::Bold, "Tasks"));
        let rows = goal.tasks.iter().filter_map(|t| state.tasks.find(t)).map(|t| task_row(state, &t, now));
        out.table(&rows.collect::<Vec<_>>());
    }
    if let Some(pays) = state.pays(goal) {
        out.line("");
        print_pays(out, state, goal, &pays);
    }
    if goal.asks() {
        out.line("");
        for question in goal.questions() {
            out.line(&format!("asks  {}", text::scrub(question)));
        }
        out.line(&format!("waits for you: `podium answer {0} TEXT` or `podium deny {0}`", goal.id));
    }
    if goal.needs_approval() {
        out.line("");
        out.line(&format!("waits for you: `podium approve {0}` or `podium deny {0}`", goal.id));
    }
    if let Some(report) = report(state, goal) {
        out.line("");
        out.text(&report);
    }
}

/// What working side by side gained; beside the same goal the other way, where both have run.
fn print_pays(out: &Out, state: &State, goal: &Goal, pays: &Pays) {
    out.line(&format!("{}  {pays}", out.paint(Paint::Bold, "Side by side")));
    let Some((other, theirs)) = state.counterpart(goal).and_then(|other| Some((other, state.pays(other)?))) else {
        return;
    };
    let row = |goal: &Goal, pays: &Pays| {
        let who =
            goal.terms.solo.as_ref().map_or_else(|| format!("{} tasks", pays.tasks), |solo| format!("{solo} alone"));
        [
            goal.id.to_string(),
            who,
            pays::shown(pays.makespan_seconds),
            format!("{} tokens", pays.tokens),
            money(&state.spend_of(goal)),
            goal.phase.word().to_owned(),
        ]
        .map(|cell| (Paint::Plain, cell))
        .to_vec()
    };
    out.table(&[row(goal, pays), row(other, &theirs)]);
}
