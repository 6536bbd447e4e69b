//! `podium status`: the whole picture, once.

mod limits;

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    Call, Exit, json, link,
    out::{Out, Paint},
};
use crate::{
    model::{Far, Spend, text},
    room::{Agent, Need, State, Task, budget::Standing, tasks::Phase, why::span},
};

/// So many files that are no tasks are named; the others are counted.
const SET_ASIDE: usize = 20;

pub(super) async fn status(call: &Call) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let picture = link::look(&config, &call.env).await?;
    let (state, now) = (picture.state(), link::clock().now());
    if call.out.is_json() {
        call.out.json(&json::Status::new(state, now));
    } else {
        print(&call.out, state, now);
    }
    Ok(seen(&call.out, state))
}

/// Says where no room is open that this is what its files say, and tells how the verb ended.
pub(super) fn seen(out: &Out, state: &State) -> Exit {
    let Some(why) = &state.offline else { return Exit::Done };
    out.note(&format!("{why}\nThis is what the stage's files say."));
    Exit::NoRoom
}

fn print(out: &Out, state: &State, now: Timestamp) {
    let counts = state.tasks.counts();
    let rehearsal = if state.rehearsal { "  REHEARSAL" } else { "" };
    let dead = match state.tasks.dead().len() {
        0 => String::new(),
        n => format!(" ({n} dead)"),
    };
    out.line(&format!(
        "{}{}  {} running, {} ready, {} waiting, {} done, {} failed{dead}  {} of {} today",
        out.paint(Paint::Bold, &state.name),
        out.paint(Paint::Warn, rehearsal),
        counts.running,
        counts.ready,
        counts.waiting,
        counts.done,
        counts.failed,
        state.money.today.shown(),
        state.budgets.caps.day.map_or_else(|| "any amount".to_owned(), |cap| cap.to_string()),
    ));
    let room = match &state.offline {
        Some(_) => format!("{} (no room is open)", state.stage.display()),
        None => format!("{} (room: process {}, core {})", state.stage.display(), state.pid, state.core),
    };
    out.line(&out.paint(Paint::Dim, &room));
    for trouble in [&state.tasks.space, &state.tasks.polling].into_iter().flatten() {
        out.line(&out.paint(Paint::Warn, &text::scrub(trouble)));
    }
    if let Some(server) = &state.server {
        let warning = server.warning.as_ref().map(|w| format!("NATS at {}: {w}", server.address));
        for trouble in server.shut().into_iter().chain(warning) {
            out.line(&out.paint(Paint::Warn, &text::scrub(&trouble)));
        }
    }
    out.line("");
    out.line(&out.paint(Paint::Bold, "Agents"));
    out.table(&state.agents.iter().map(|agent| agent_row(state, agent, now)).collect::<Vec<_>>());
    if !state.tasks.is_empty() {
        out.line("");
        out.line(&out.paint(Paint::Bold, "Tasks"));
        let mut tasks: Vec<&Task> = state.tasks.iter().collect();
        tasks.sort_by_key(|task| (state.tasks.phase(task), task.record.task().clone()));
        out.table(&tasks.iter().map(|task| task_row(state, task, now)).collect::<Vec<_>>());
        let older = state.tasks.past_len();
        if older > 0 {
            out.line(&out.paint(Paint::Dim, &format!("  … and {older} that ended earlier; --json has them all")));
        }
        if state.tasks.unread > 0 {
            out.line(&out.paint(Paint::Dim, &format!("  … and {} that are still being read", state.tasks.unread)));
        }
    }
    if state.goals.iter().next().is_some() {
        out.line("");
        out.line(&out.paint(Paint::Bold, "Goals"));
        let row = |goal: &crate::room::Goal| {
            vec![
                (Paint::Plain, goal.id.to_string()),
                (Paint::Plain, goal.phase.word().to_owned()),
                (Paint::Plain, money(&state.spend_of(goal))),
                (Paint::Plain, text::first_line(&goal.text, 80)),
            ]
        };
        out.table(&state.goals.iter().map(row).collect::<Vec<_>>());
    }
    heading(out, "Accounts", &limits::accounts(state, now));
    heading(out, "Limits", &limits::buckets(state, now));
    let budgets = state.budgets();
    if budgets.iter().any(|budget| budget.warned || budget.reached.is_some()) {
        out.line("");
        out.line(&out.paint(Paint::Bold, "Budgets"));
        let row = |budget: &Standing| {
            let (paint, word) = match (&budget.reached, budget.warned) {
                (Some(reached), _) => (Paint::Bad, reached.to_string()),
                (None, true) => (Paint::Warn, "nearly used up".to_owned()),
                (None, false) => (Paint::Plain, String::new()),
            };
            vec![
                (Paint::Plain, budget.payer.to_string()),
                (Paint::Plain, format!("{} of {}", budget.spent.shown(), budget.cap)),
                (paint, format!("{} %", budget.percent())),
                (paint, word),
            ]
        };
        out.table(&budgets.iter().map(row).collect::<Vec<_>>());
    }
    let needs = state.needs_you();
    if !needs.is_empty() {
        out.line("");
        out.line(&out.paint(Paint::Bold, "Needs you"));
        for need in needs {
            out.line(&match need {
                Need::Account(account) => {
                    let parked = state.accounts.parked(&account);
                    let words = parked.map(|parked| format!("{}: {}", parked.words(), state.mending(&account, parked)));
                    format!("  {account}: {}", text::scrub(&words.unwrap_or_default()))
                }
                Need::Asks(task) => {
                    let why = state.why(&task, now).map(|w| w.to_string()).unwrap_or_default();
                    format!("  {task}: {}: `podium retry {task}` or `podium cancel {task}`", text::scrub(&why))
                }
                Need::Permit(ask) => {
                    let open = state.asks.get(ask);
                    let asks = open.map(|open| format!("{} {}", open.attempt.task, open.ask.words()));
                    let asks = text::scrub(&asks.unwrap_or_default()).into_owned();
                    if open.is_some_and(|open| open.ask.is_question()) {
                        format!("  {ask}: {asks}: `podium answer {ask} CHOICE|TEXT` or `podium deny {ask}`")
                    } else {
                        format!("  {ask}: {asks}: `podium approve {ask} [--always]` or `podium deny {ask}`")
                    }
                }
                Need::Paused(task) => {
                    let why = state.why(&task, now).map(|w| w.to_string()).unwrap_or_default();
                    format!("  {task}: {}: `podium resume {task}` or `podium cancel {task}`", text::scrub(&why))
                }
                Need::Question(goal) => {
                    let asked = state.goals.get(&goal).map(|goal| goal.questions().join(" ")).unwrap_or_default();
                    format!("  {goal} asks: {}: `podium answer {goal} TEXT`", text::scrub(&asked))
                }
                Need::Plan(goal) => format!("  the plan of {goal}: `podium show {goal}`, then `podium approve {goal}`"),
                Need::Failed(task) => format!("  {task} failed: `podium show {task}`, then `podium retry {task}`"),
            });
        }
    }
    if state.tasks.dead().len() > 0 {
        out.line("");
        let many = state.tasks.dead().len();
        out.line(&out.paint(Paint::Bold, "Dead letters"));
        out.line(&format!("  {many} with all attempts used up: `podium retry --dead` starts them again"));
    }
    if !state.tasks.rejected.is_empty() {
        out.line("");
        out.line(&out.paint(Paint::Bold, "Set aside"));
        for rejected in state.tasks.rejected.values().take(SET_ASIDE) {
            out.line(&format!("  {}: {}", text::scrub(&rejected.path), text::scrub(&rejected.reason)));
        }
        let more = state.tasks.rejected_in_all().saturating_sub(SET_ASIDE);
        if more > 0 {
            out.line(&format!("  and {more} more; `--json` names up to {}", crate::room::Tasks::REJECTED));
        }
    }
}

/// A table under its name; nothing where it has no rows.
fn heading(out: &Out, name: &str, rows: &[Vec<(Paint, String)>]) {
    if !rows.is_empty() {
        out.line("");
        out.line(&out.paint(Paint::Bold, name));
        out.table(rows);
    }
}

fn agent_row(state: &State, agent: &Agent, now: Timestamp) -> Vec<(Paint, String)> {
    let paint = match state.word(agent) {
        "running" => Paint::Good,
        "not ready" | "restarting" => Paint::Bad,
        "parked" | "paused" => Paint::Warn,
        _ => Paint::Plain,
    };
    let doing = |held: &crate::room::Held| {
        let why = state.why(&held.task, now).map(|why| why.to_string()).unwrap_or_default();
        format!("{} ({}) {why}", held.task.id, span(now.duration_since(held.since)))
    };
    let doing: Vec<String> = agent.slots.iter().filter_map(|slot| slot.held.as_ref()).map(doing).collect();
    let cut_off = state.cut_off(agent).filter(|_| doing.is_empty());
    let detail = if let Some(trouble) = agent.trouble.clone().or(cut_off) {
        trouble
    } else if let Some(shut) = state.shut(agent.name(), now) {
        shut.to_string().trim_start_matches([':', ' ']).to_owned()
    } else {
        doing.join(" · ")
    };
    let mut hosts: Vec<(String, usize)> = Vec::new();
    for host in agent.slots.iter().filter_map(|slot| Some(far(slot.far.as_ref()?, now))) {
        match hosts.iter_mut().find(|(known, _)| *known == host) {
            Some((_, count)) => *count += 1,
            None => hosts.push((host, 1)),
        }
    }
    let times = |(host, count): (String, usize)| if count == 1 { host } else { format!("{host} ×{count}") };
    let hosts: Vec<String> = hosts.into_iter().map(times).collect();
    let detail = if hosts.is_empty() { detail } else { format!("on {} {detail}", hosts.join(", ")) };
    let spent = state.money.agents.get(agent.name()).copied().unwrap_or_default();
    vec![
        (Paint::Bold, agent.name().to_string()),
        (paint, state.word(agent).to_owned()),
        (Paint::Plain, format!("{}/{}", agent.running(), agent.slots.len())),
        (Paint::Dim, format!("{} {}", agent.settings.engine.word(), agent.settings.model)),
        (Paint::Plain, money(&spent)),
        (Paint::Plain, text::first_line(&detail, 120)),
    ]
}

/// A worker on another machine, in short: where, and what is not as it should be.
fn far(far: &Far, now: Timestamp) -> String {
    let mut text = far.host.clone();
    if far.offset_ms.abs() >= 1_000 {
        // Writing into a string cannot fail.
        let _ok = write!(text, " (clock {:+.1} s)", far.offset_ms as f64 / 1_000.0);
    }
    let silent = now.duration_since(far.heard_at);
    if silent.as_secs() >= 10 {
        let _ok = write!(text, " (last heard {} ago)", span(silent));
    }
    text
}

/// A task on one line: id, state, attempts, cost, why.
pub(super) fn task_row(state: &State, task: &Task, now: Timestamp) -> Vec<(Paint, String)> {
    let record = &task.record;
    let word = record.outcome.as_ref().map_or_else(|| state.tasks.phase(task).word(), |o| o.state.word());
    let allowed = record.spec.max_attempts.unwrap_or(state.tasks.attempts_allowed);
    let tries = match record.last_attempt() {
        0 => "-".to_owned(),
        n => format!("{n}/{allowed}"),
    };
    let why = state.why(record.task(), now).map(|w| w.to_string()).unwrap_or_default();
    vec![
        (Paint::Plain, record.task().to_string()),
        (phase_paint(state.tasks.phase(task)), word.to_owned()),
        (Paint::Plain, tries),
        (Paint::Plain, money(&state.spend_of_task(record.task()))),
        (Paint::Plain, text::first_line(&why, 120)),
    ]
}

/// The colour of a phase.
pub(super) fn phase_paint(phase: Phase) -> Paint {
    match phase {
        Phase::Asking | Phase::Paused => Paint::Warn,
        Phase::Failed => Paint::Bad,
        Phase::Running => Paint::Good,
        Phase::Ready | Phase::Retrying => Paint::Plain,
        Phase::Waiting | Phase::Dropped | Phase::Done => Paint::Dim,
    }
}

/// Money, or a dash for none.
pub(super) fn money(spend: &Spend) -> String {
    if spend.cost.is_zero() { "-".to_owned() } else { spend.shown() }
}
