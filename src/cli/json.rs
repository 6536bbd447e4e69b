//! What `--json` prints. Names are stable: additions are free, changes are not. `docs/json.md` describes them.

mod accounts;
mod asks;
mod invite;
mod limits;
mod migrate;
pub mod money;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use accounts::{AccountJson, AgentParkedJson};
use asks::{AnsweredJson, AskJson};
pub use invite::{Alive, InvitationJson, InvitedJson};
use limits::{CallsJson, LimitJson};
pub use migrate::{Migrated, standing_word};
use money::{MoneyJson, PartsJson};

use crate::{
    ledger::usage::Parts,
    model::{
        AttemptRecord, CostSource, EngineKind, Far, Fault, GoalPhase, Item, MicroUsd, Permissions, Plan, Rejected,
        Removed, Resume, Spend, Standing, TaskRef,
        budget::Payer,
        limit::OwnLimit,
        plan::{Range, Revision},
        server::Server,
    },
    orchestrator::{pays::Pays, plan, schedule},
    room::{Agent, Goal, Need, Process, Slot, State, Task, tasks::Counts, tasks::Phase},
};

/// Why a verb did not do as asked.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// One sentence.
    pub error: String,
    /// The exit code.
    pub exit: u8,
}

/// What came of an order.
#[derive(Debug, Serialize)]
pub struct Done {
    /// One sentence.
    pub text: String,
    /// Ids made or touched.
    pub ids: Vec<String>,
}

/// `podium init`.
#[derive(Debug, Serialize)]
pub struct Init {
    /// The folder.
    pub stage: String,
    /// What was made, relative to it; folders end in `/`.
    pub made: Vec<String>,
    /// What was there.
    pub kept: Vec<String>,
}

/// `podium auth`.
#[derive(Debug, Serialize)]
pub struct Auth {
    /// The agent.
    pub agent: String,
    /// The home in which it is logged in.
    pub home: String,
    /// The subscription, where that is known.
    pub plan: Option<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// `podium serve --detach`.
#[derive(Debug, Serialize)]
pub struct Serving {
    /// The folder.
    pub stage: String,
    /// The room's process.
    pub pid: u32,
    /// False when it was running before.
    pub started: bool,
}

/// Tokens and money.
#[derive(Debug, Serialize)]
pub struct Spent {
    /// Dollars.
    pub cost_usd: f64,
    /// The part of it that is a guess.
    pub estimated_usd: f64,
    /// Model calls.
    pub calls: u64,
    /// Input tokens neither read from nor written to the cache.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens read from the cache.
    pub cache_read_input_tokens: u64,
    /// Input tokens written to the cache.
    pub cache_creation_input_tokens: u64,
}

impl From<Spend> for Spent {
    fn from(spend: Spend) -> Self {
        let Spend { usage, cost, calls, estimated } = spend;
        Self {
            cost_usd: cost.dollars(),
            estimated_usd: estimated.dollars(),
            calls,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
            cache_creation_input_tokens: usage.cache_creation_input_tokens,
        }
    }
}

/// `podium status`.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    name: &'a str,
    stage: String,
    rehearsal: bool,
    version: &'a str,
    pid: u32,
    core_pid: u32,
    /// Why no room is open, so that this is what the files say; `null` = one is.
    offline: Option<&'a str>,
    opened_at: Option<Timestamp>,
    now: Timestamp,
    leaving: crate::room::Leaving,
    counts: Counts,
    agents: Vec<AgentJson<'a>>,
    tasks: Vec<TaskJson>,
    goals: Vec<GoalJson<'a>>,
    dead: Vec<String>,
    trash: Vec<TrashJson<'a>>,
    rejected: Vec<&'a Rejected>,
    rejected_in_all: usize,
    needs_you: Vec<NeedJson>,
    /// What agents ask for and wait for.
    asks: Vec<AskJson<'a>>,
    /// The newest answers to such requests, newest last.
    answers: Vec<AnsweredJson<'a>>,
    /// Whether work goes on when a limit clears.
    resume: Resume,
    accounts: Vec<AccountJson>,
    limits: Vec<LimitJson<'a>>,
    /// What an operator has set, by model group.
    own_limits: &'a BTreeMap<String, OwnLimit>,
    calls: CallsJson<'a>,
    money: MoneyJson<'a>,
    /// Why files are noticed by looking now and then; `null` = the kernel tells.
    polling: Option<&'a str>,
    /// Why nothing new is started; `null` = the disk has room.
    space: Option<&'a str>,
    /// The NATS server; `null` = no agent works over one.
    server: Option<&'a Server>,
    /// Where no room is open.
    #[serde(flatten)]
    failure: Option<Failure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
enum NeedJson {
    Permission(String),
    Account(String),
    Asks(String),
    Paused(String),
    Question(String),
    Plan(String),
    Failed(String),
}

/// Something in the trash.
#[derive(Debug, Serialize)]
struct TrashJson<'a> {
    /// `task` or `file`.
    kind: &'static str,
    /// A task's id with its agent, or where the file lay.
    id: String,
    title: &'a str,
    at: Timestamp,
}

impl<'a> From<&'a Removed> for TrashJson<'a> {
    fn from(removed: &'a Removed) -> Self {
        let (kind, id) = match &removed.item {
            Item::Task(task) => ("task", task.to_string()),
            Item::File(path) => ("file", path.clone()),
        };
        Self { kind, id, title: &removed.title, at: removed.at }
    }
}

/// One agent.
#[derive(Debug, Serialize)]
pub struct AgentJson<'a> {
    name: &'a str,
    role: &'a str,
    state: String,
    trouble: Option<String>,
    paused: bool,
    parked: Option<AgentParkedJson>,
    engine: EngineKind,
    model: &'a str,
    permissions: Permissions,
    slots: Vec<SlotJson>,
}

#[derive(Debug, Serialize)]
struct SlotJson {
    index: u32,
    process: &'static str,
    pid: Option<u32>,
    /// When a dead worker starts again, and how it died.
    restart_at: Option<Timestamp>,
    restart_why: Option<String>,
    task: Option<TaskRef>,
    attempt: Option<u32>,
    since: Option<Timestamp>,
    child_pid: Option<u32>,
    cancelling: bool,
    doing: Option<String>,
    /// When it will be ended for its silence, once that is near.
    stalls_at: Option<Timestamp>,
    subagents: Vec<String>,
    log: Option<String>,
    /// The worker on another machine.
    far: Option<Far>,
    /// Since when nothing was heard of it, because the NATS server is away; `null` = all of this is fresh.
    stale_since: Option<Timestamp>,
}

impl SlotJson {
    fn new(slot: &Slot, stale_since: Option<Timestamp>) -> Self {
        let (process, restart_at, restart_why) = match &slot.process {
            Process::Off => ("off", None, None),
            Process::Starting { .. } => ("starting", None, None),
            Process::Up { .. } => ("up", None, None),
            Process::Backoff { until, why } => ("backoff", Some(*until), Some(why.clone())),
            Process::Leaving { .. } => ("leaving", None, None),
        };
        let held = slot.held.as_ref();
        Self {
            index: slot.id.index,
            process,
            pid: slot.pid(),
            restart_at,
            restart_why,
            task: held.map(|h| h.task.clone()),
            attempt: held.and_then(|h| h.attempt),
            since: held.map(|h| h.since),
            child_pid: held.and_then(|h| h.pid),
            cancelling: held.is_some_and(|h| h.cancelling),
            doing: held.map(|h| h.activity.doing.clone()),
            stalls_at: held.and_then(|h| h.activity.stalls_at),
            subagents: held
                .map(|h| h.activity.subagents.iter().map(|one| one.name.clone()).collect())
                .unwrap_or_default(),
            log: held.and_then(|h| h.log.clone()),
            far: slot.far.clone(),
            stale_since,
        }
    }
}

/// One task.
#[derive(Debug, Serialize)]
pub struct TaskJson {
    id: String,
    task_id: String,
    agent: String,
    title: String,
    /// `asking running ready retrying waiting`, or how it ended.
    state: String,
    why: String,
    attempt: u32,
    attempts_allowed: u32,
    priority: u8,
    dependencies: Vec<String>,
    goal_id: Option<String>,
    timeout_seconds: Option<u64>,
    not_before: Option<Timestamp>,
    deadline: Option<Timestamp>,
    seen_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    spent: Spent,
    budget_usd: Option<f64>,
    cost_source: Option<CostSource>,
    file: Option<String>,
    /// The task on another agent that it is another try of.
    retry_of: Option<String>,
    /// The task on another agent that was made of it.
    retried_as: Option<String>,
    needs_attention: bool,
}

/// How a task stands, in one word of JSON.
pub fn task_state(state: &State, task: &Task) -> String {
    match &task.record.outcome {
        Some(outcome) => outcome.state.word().replace(' ', "_"),
        None => match state.tasks.phase(task) {
            Phase::Asking => "asking",
            Phase::Failed => "failed",
            Phase::Running => "running",
            Phase::Ready => "ready",
            Phase::Retrying => "retrying",
            Phase::Waiting => "waiting",
            Phase::Paused => "paused",
            Phase::Done => "done",
            Phase::Dropped => "dropped",
        }
        .to_owned(),
    }
}

impl TaskJson {
    fn new(state: &State, task: &Task, now: Timestamp) -> Self {
        let record = &task.record;
        let spec = &record.spec;
        Self {
            id: spec.task.to_string(),
            task_id: spec.task.id.to_string(),
            agent: spec.task.agent.to_string(),
            title: spec.title.clone(),
            state: task_state(state, task),
            why: state.why(&spec.task, now).map(|w| w.to_string()).unwrap_or_default(),
            attempt: record.last_attempt(),
            attempts_allowed: spec.max_attempts.unwrap_or(state.tasks.attempts_allowed),
            priority: state.tasks.priority(spec).0,
            dependencies: spec.dependencies.iter().map(ToString::to_string).collect(),
            goal_id: spec.goal.as_ref().map(ToString::to_string),
            timeout_seconds: spec.timeout.map(|t| t.as_secs()),
            not_before: match &record.standing {
                Standing::Retrying { not_before, .. } => Some(*not_before),
                Standing::Waiting | Standing::Claimed => spec.not_before,
                Standing::Running { .. } | Standing::Asking { .. } | Standing::Ended => None,
            },
            deadline: spec.deadline,
            seen_at: record.seen_at,
            started_at: record.attempts.first().map(|a| a.started_at),
            ended_at: record.outcome.as_ref().map(|o| o.completed_at),
            spent: state.spend_of_task(&spec.task).into(),
            budget_usd: state.cap_of(&Payer::Task(spec.task.clone())).map(crate::model::MicroUsd::dollars),
            cost_source: record.outcome.as_ref().map(|o| o.cost_source),
            file: record.file.clone(),
            retry_of: spec.retry_of.as_ref().map(ToString::to_string),
            retried_as: state.tasks.retried_as(&spec.task).map(ToString::to_string),
            needs_attention: task.needs_attention(),
        }
    }
}

/// One goal.
#[derive(Debug, Serialize)]
pub struct GoalJson<'a> {
    id: &'a str,
    text: &'a str,
    /// `planning needs_answer needs_approval running needs_decision writing_report done partial failed cancelled planned`.
    state: String,
    note: Option<&'a str>,
    /// What its planner wants to know before it plans.
    questions: &'a [String],
    submitted_at: Timestamp,
    approved_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    tasks: Vec<String>,
    report: Option<&'a str>,
    /// `stop continue ask`: what happens when a task fails for good.
    on_failure: &'static str,
    /// How often what was missing was planned anew.
    replans: u32,
    /// The agent that does all of it alone, as one task.
    solo: Option<String>,
    /// The goal that it follows up on.
    follows: Option<String>,
    spent: Spent,
    budget_usd: Option<f64>,
}

impl<'a> GoalJson<'a> {
    fn new(state: &State, goal: &'a Goal) -> Self {
        let note = match &goal.phase {
            GoalPhase::Ended { note, .. } => Some(note.as_str()),
            GoalPhase::Planning { .. }
            | GoalPhase::Asking { .. }
            | GoalPhase::AwaitingApproval
            | GoalPhase::Running
            | GoalPhase::Deciding
            | GoalPhase::Synthesising => None,
        };
        Self {
            id: goal.id.as_str(),
            text: &goal.text,
            state: goal.phase.word().replace(' ', "_"),
            note,
            questions: goal.questions(),
            submitted_at: goal.submitted_at,
            approved_at: goal.approved_at,
            ended_at: goal.ended_at,
            tasks: goal.tasks.iter().map(ToString::to_string).collect(),
            report: goal.report.as_deref(),
            on_failure: state.on_failure(goal).word(),
            replans: goal.mending.replans,
            solo: goal.terms.solo.as_ref().map(ToString::to_string),
            follows: goal.terms.follows.as_ref().map(ToString::to_string),
            spent: state.spend_of(goal).into(),
            budget_usd: state.cap_of(&Payer::Goal(goal.id.clone())).map(crate::model::MicroUsd::dollars),
        }
    }
}

impl<'a> Status<'a> {
    /// The whole picture.
    pub fn new(state: &'a State, now: Timestamp) -> Self {
        Self {
            name: &state.name,
            stage: state.stage.display().to_string(),
            rehearsal: state.rehearsal,
            version: &state.version,
            pid: state.pid,
            core_pid: state.core,
            offline: state.offline.as_deref(),
            opened_at: state.opened_at,
            now,
            leaving: state.leaving,
            counts: state.tasks.counts(),
            agents: state.agents.iter().map(|a| agent(state, a, now)).collect(),
            resume: state.accounts.resume,
            accounts: accounts::all(state, now),
            tasks: state.tasks.each().map(|task| TaskJson::new(state, &task, now)).collect(),
            goals: state.goals.iter().map(|goal| GoalJson::new(state, goal)).collect(),
            dead: state.tasks.dead().map(ToString::to_string).collect(),
            trash: state.tasks.trash.iter().map(TrashJson::from).collect(),
            rejected: state.tasks.rejected.values().collect(),
            rejected_in_all: state.tasks.rejected_in_all(),
            asks: state.asks.open().iter().map(AskJson::from).collect(),
            answers: state.asks.record().map(AnsweredJson::from).collect(),
            needs_you: state
                .needs_you()
                .into_iter()
                .map(|need| match need {
                    Need::Permit(ask) => NeedJson::Permission(ask.to_string()),
                    Need::Paused(task) => NeedJson::Paused(task.to_string()),
                    Need::Account(account) => NeedJson::Account(account.to_string()),
                    Need::Asks(task) => NeedJson::Asks(task.to_string()),
                    Need::Question(goal) => NeedJson::Question(goal.to_string()),
                    Need::Plan(goal) => NeedJson::Plan(goal.to_string()),
                    Need::Failed(task) => NeedJson::Failed(task.to_string()),
                })
                .collect(),
            limits: state.levels.buckets.iter().map(LimitJson::from).collect(),
            own_limits: &state.own_limits,
            calls: CallsJson::new(state, now),
            money: MoneyJson::new(state),
            polling: state.tasks.polling.as_deref(),
            space: state.tasks.space.as_deref(),
            server: state.server.as_ref(),
            failure: state.offline.clone().map(|error| Failure { error, exit: super::Exit::NoRoom as u8 }),
        }
    }
}

fn agent<'a>(state: &State, agent: &'a Agent, now: Timestamp) -> AgentJson<'a> {
    AgentJson {
        name: agent.name().as_str(),
        role: &agent.settings.role,
        state: state.word(agent).replace(' ', "_"),
        trouble: agent.trouble.clone().or_else(|| state.cut_off(agent)),
        paused: agent.paused,
        parked: AgentParkedJson::of(state, agent.name(), now),
        engine: agent.settings.engine,
        model: &agent.settings.model,
        permissions: agent.settings.permissions,
        slots: agent.slots.iter().map(|slot| SlotJson::new(slot, state.stale_since(agent))).collect(),
    }
}

/// `podium show` of a task.
#[derive(Debug, Serialize)]
pub struct TaskDetail<'a> {
    #[serde(flatten)]
    task: TaskJson,
    description: &'a str,
    attempts: Vec<AttemptJson<'a>>,
    /// The result's texts, clipped; the file has the whole.
    result: Option<ResultJson<'a>>,
}

#[derive(Debug, Serialize)]
struct AttemptJson<'a> {
    n: u32,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    ending: Option<String>,
    class: Option<crate::model::FailureClass>,
    session_id: Option<&'a str>,
    spent: Spent,
    log: &'a str,
    /// By the rows of the ledger; `null` where no call has passed the gateway.
    ledger: Option<PartsJson>,
}

impl<'a> AttemptJson<'a> {
    fn new(task: &TaskRef, attempt: &'a AttemptRecord, parts: Option<&Parts>) -> Self {
        let ending = attempt.ending.as_ref();
        Self {
            n: attempt.n,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            ending: ending.map(crate::model::Ending::sentence),
            class: ending.and_then(crate::model::Ending::class),
            session_id: attempt.session_id.as_deref(),
            spent: attempt.spend.into(),
            log: &attempt.log,
            ledger: parts.map(|parts| PartsJson::new(&task.attempt(attempt.n), parts)),
        }
    }
}

#[derive(Debug, Serialize)]
struct ResultJson<'a> {
    file: String,
    summary: &'a str,
    findings: &'a [String],
    artifacts: &'a [crate::model::Artifact],
    ending: String,
    class: Option<crate::model::FailureClass>,
    model: Option<&'a str>,
    foreign: bool,
}

impl<'a> TaskDetail<'a> {
    /// Everything about one task.
    pub fn new(state: &'a State, task: &'a Task, parts: &BTreeMap<u32, Parts>, now: Timestamp) -> Self {
        let record = &task.record;
        let attempt = |attempt: &'a AttemptRecord| AttemptJson::new(record.task(), attempt, parts.get(&attempt.n));
        Self {
            task: TaskJson::new(state, task, now),
            description: &record.spec.description,
            attempts: record.attempts.iter().map(attempt).collect(),
            result: record.outcome.as_ref().map(|outcome| ResultJson {
                file: result_file(&outcome.task),
                summary: &outcome.summary,
                findings: &outcome.findings,
                artifacts: &outcome.artifacts,
                ending: outcome.ending.sentence(),
                class: outcome.ending.class(),
                model: outcome.model.as_deref(),
                foreign: outcome.foreign,
            }),
        }
    }
}

/// Where a task's result lies, relative to the stage.
pub fn result_file(task: &TaskRef) -> String {
    format!("results/{}/{}.json", task.agent, task.id)
}

/// A plan, what it is expected to take, what is to be said of it, and every revision before.
#[derive(Debug, Serialize)]
pub struct PlanJson<'a> {
    goal: &'a str,
    state: String,
    hash: String,
    #[serde(flatten)]
    plan: &'a Plan,
    estimate: PlanEstimate,
    /// Ids by step; what stands in one step may run at the same time.
    steps: Vec<Vec<&'a str>>,
    faults: &'a [Fault],
    /// Something in it waits for a person, whatever was allowed before.
    gated: bool,
    revisions: &'a [Revision],
}

/// What a plan is expected to take. Dollars are without a cache.
#[derive(Debug, Serialize)]
pub struct PlanEstimate {
    minutes_of_work: Option<Range>,
    tokens: Option<Range>,
    usd: Option<Range>,
    task_usd: BTreeMap<String, Option<Range>>,
    task_model: BTreeMap<String, String>,
    makespan_minutes: Option<f64>,
    speedup: Option<f64>,
    speedup_ceiling: Option<f64>,
    critical: Vec<String>,
    planning_cost_usd: f64,
}

impl PlanEstimate {
    /// For a plan that cost so much to make.
    pub fn new(state: &State, plan: &Plan, rules: &plan::Rules, planning: MicroUsd) -> Self {
        let totals = plan::cost::totals(plan, rules);
        let made = state.estimate(plan);
        let measured = made.as_ref().filter(|estimate| !estimate.guessed);
        let id = |i: &usize| plan.tasks.get(*i).map(|task| task.id.clone());
        Self {
            minutes_of_work: totals.minutes,
            tokens: totals.tokens,
            usd: totals.usd,
            task_usd: plan.tasks.iter().map(|task| (task.id.clone(), plan::cost::usd(task, rules))).collect(),
            task_model: plan.tasks.iter().map(|t| (t.id.clone(), rules.model_of(t).to_owned())).collect(),
            makespan_minutes: measured.map(|estimate| estimate.makespan),
            speedup: made.as_ref().map(schedule::Estimate::speedup),
            speedup_ceiling: made.as_ref().map(schedule::Estimate::ceiling),
            critical: made.iter().flat_map(|e| &e.critical).filter_map(id).collect(),
            planning_cost_usd: planning.dollars(),
        }
    }
}

/// Ids by step; what stands in one step may run at the same time.
pub fn steps(plan: &Plan) -> Vec<Vec<&str>> {
    let id = |i: &usize| plan.tasks.get(*i).map(|task| task.id.as_str());
    plan::levels(plan).iter().map(|level| level.iter().filter_map(id).collect()).collect()
}

impl<'a> PlanJson<'a> {
    /// A goal's plan.
    pub fn new(state: &State, goal: &'a Goal, plan: &'a Plan, rules: &plan::Rules) -> Self {
        Self {
            goal: goal.id.as_str(),
            state: goal.phase.word().replace(' ', "_"),
            hash: plan.hash(),
            plan,
            estimate: PlanEstimate::new(state, plan, rules, goal.planning_cost()),
            steps: steps(plan),
            faults: &goal.faults,
            gated: goal.gates().next().is_some(),
            revisions: &goal.revisions,
        }
    }
}

/// `podium show` of a goal, and what `podium run` prints.
#[derive(Debug, Serialize)]
pub struct GoalDetail<'a> {
    #[serde(flatten)]
    goal: GoalJson<'a>,
    plan: Option<PlanJson<'a>>,
    faults: &'a [Fault],
    task_states: Vec<TaskJson>,
    /// What working side by side gained, once something has run.
    parallel: Option<Pays>,
    /// The same goal the other way: planned, or by one agent alone.
    compared_with: Option<Compared<'a>>,
    /// The report's text, where it is written and could be read.
    report_text: Option<String>,
}

/// The same goal, done the other way.
#[derive(Debug, Serialize)]
struct Compared<'a> {
    goal_id: &'a str,
    /// The agent that did it alone; `null` where it was planned.
    solo: Option<String>,
    state: String,
    spent: Spent,
    parallel: Option<Pays>,
}

impl<'a> Compared<'a> {
    fn new(state: &State, goal: &'a Goal) -> Self {
        Self {
            goal_id: goal.id.as_str(),
            solo: goal.terms.solo.as_ref().map(ToString::to_string),
            state: goal.phase.word().replace(' ', "_"),
            spent: state.spend_of(goal).into(),
            parallel: state.pays(goal),
        }
    }
}

impl<'a> GoalDetail<'a> {
    /// Everything about one goal.
    pub fn new(state: &'a State, goal: &'a Goal, report_text: Option<String>, now: Timestamp) -> Self {
        Self {
            goal: GoalJson::new(state, goal),
            plan: goal.plan.as_ref().map(|plan| PlanJson::new(state, goal, plan, &state.plan_rules(Some(goal)))),
            faults: &goal.faults,
            task_states: goal
                .tasks
                .iter()
                .filter_map(|t| state.tasks.find(t))
                .map(|task| TaskJson::new(state, &task, now))
                .collect(),
            parallel: state.pays(goal),
            compared_with: state.counterpart(goal).map(|other| Compared::new(state, other)),
            report_text,
        }
    }
}

/// One line of `podium logs`.
#[derive(Debug, Serialize)]
pub struct LogLine<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The task's id and the attempt, where the file's name says them.
    pub task_id: Option<&'a str>,
    /// The attempt's number.
    pub attempt: Option<u32>,
    /// `text tool agent error system raw`.
    pub kind: &'static str,
    /// 0 in the main loop, 1 in a sub-agent.
    pub depth: u8,
    /// The line.
    pub text: &'a str,
    /// The file, relative to the stage.
    pub log: &'a str,
    /// Where its source line starts, in bytes.
    pub offset: u64,
    /// When it was written, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// It stands beside a line that matches.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub context: bool,
}

/// `podium record`.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Where it lies.
    pub dir: String,
    /// Events that were written down.
    pub events: usize,
    /// Logs and reports that were copied.
    pub files: usize,
}

/// `podium snapshot`.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
    /// Whether the picture is SVG and not text.
    pub svg: bool,
    /// The frame.
    pub picture: String,
}

/// `podium doctor`.
#[derive(Debug, Serialize)]
pub struct Doctor {
    /// Whether nothing failed.
    pub ready: bool,
    /// The stage.
    pub stage: String,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// Every setting and where it came from.
    pub settings: Vec<SettingJson>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `ok warn fail`.
    pub level: Level,
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Ready.
    Ok,
    /// Works, and one should know.
    Warn,
    /// Does not work.
    Fail,
}

/// One setting.
#[derive(Debug, Serialize)]
pub struct SettingJson {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it came from.
    pub source: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::tests::why::{Fixture, fixtures};

    #[test]
    fn status_and_show_say_why_in_the_same_sentence_as_the_room() {
        for Fixture { cause, story, task, sentence } in fixtures() {
            let status = serde_json::to_value(Status::new(&story.room, story.now)).unwrap();
            let of = status["tasks"].as_array().unwrap().iter().find(|t| t["id"] == task.to_string().as_str());
            assert_eq!(of.map(|t| &t["why"]), Some(&sentence.into()), "{cause}");
            let entry = story.room.tasks.find(&task).unwrap();
            let parts = BTreeMap::new();
            let detail = serde_json::to_value(TaskDetail::new(&story.room, &entry, &parts, story.now)).unwrap();
            assert_eq!(detail["why"], sentence, "{cause}");
        }
    }
}
