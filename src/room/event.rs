//! What happened: every event the room can hear of, in the past tense.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        AccountName, AccountSetup, AgentName, AgentSettings, Approval, AskId, Asking, AttemptRef, Changes, Fault,
        GoalEnd, GoalId, Item, MicroUsd, Past, Plan, Priority, Rejected, Removed, Reply, Report, Request, SlotId,
        Spend, TaskRecord, TaskRef, TaskSpec, Terms, Tiers,
        budget::{Caps, Reached},
        gateway::{Call, EngineTotal, Levels},
        limit::{LimitNews, OwnLimit},
        plan::ModelPrice,
        report::Subagent,
        savings::Appraisal,
        server::Server,
    },
    orchestrator::plan::Edit,
};

use super::{
    asks::Settled,
    failure::{Failure, Rest},
    limits::LimitEvent,
    money::Money,
    pauses::Pause,
};

/// An event and when it happened; the only way in which time enters the room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// Names an order, so that its answer finds back; 0 is nobody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "area", content = "event")]
pub enum Event {
    /// The room opened on its stage.
    Opened(Box<Opened>),
    /// A moment that [`super::State::next_wake`] asked for has come.
    TimeCame,
    /// The machine's clock was set, forward or back; the event's own time is the new one.
    ClockSet {
        /// By how much.
        by: SignedDuration,
    },
    /// Somebody ordered something.
    Ordered {
        /// Which order.
        id: OrderId,
        /// What.
        order: Order,
    },
    /// The queue's picture changed.
    Task(TaskEvent),
    /// A worker process came, spoke or went.
    Worker(WorkerEvent),
    /// The orchestrator's work went on.
    Goal(GoalEvent),
    /// The gateway counted or learned.
    Gateway(GatewayEvent),
    /// An account was parked, or goes on.
    Limit(LimitEvent),
    /// The names of an attempt's sub-agents.
    Helpers {
        /// Which attempt.
        attempt: AttemptRef,
        /// What each is and does.
        named: Vec<Subagent>,
    },
    /// What an agent asked for was answered.
    Permitted {
        /// What, and how.
        settled: Box<Settled>,
    },
    /// The NATS server stands otherwise than before.
    Server {
        /// How.
        server: Box<Server>,
    },
}

/// The configuration in force and what was found at the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// The stage's folder name.
    pub name: String,
    /// The stage's folder.
    pub stage: PathBuf,
    /// Whether the model calls go to the rehearsal stand-in.
    pub rehearsal: bool,
    /// podium's version.
    pub version: String,
    /// The room's process id: its guardian's.
    pub pid: u32,
    /// Its core's process id.
    pub core: u32,
    /// Every agent, its engine resolved.
    pub agents: Vec<AgentSetup>,
    /// How the orchestrator works.
    pub orchestrator: Orchestrator,
    /// Attempts at once, over all agents.
    pub max_running: u32,
    /// Starts allowed per task.
    pub attempts: u32,
    /// What may be spent, where a task or goal does not say.
    #[serde(default)]
    pub caps: Caps,
    /// What plans are judged by, beside the agents.
    #[serde(default)]
    pub planning: Planning,
    /// Workers of a former room that still live.
    pub found: Vec<(SlotId, u32)>,
    /// Why this is no room but what the files of its stage say; `None` = it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<String>,
    /// The accounts, and what happens when one's limit clears.
    #[serde(default)]
    pub accounts: AccountSetup,
    /// How requests of agents are dealt with.
    #[serde(default)]
    pub asking: Asking,
}

/// What plans are judged by, beside the agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Planning {
    /// The most a goal may cost; `None` where nobody said.
    pub goal_budget: Option<MicroUsd>,
    /// Prices and contexts of the models that tasks may run on, by alias or id.
    pub models: BTreeMap<String, ModelPrice>,
    /// The model of each tier.
    pub tiers: Tiers,
}

/// One agent at the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSetup {
    /// Its settings.
    pub settings: AgentSettings,
    /// What keeps it from working, with the remedy; `None` when it is ready.
    pub trouble: Option<String>,
}

/// How the orchestrator works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orchestrator {
    /// Model alias or id.
    pub model: String,
    /// What keeps it from working, with the remedy.
    pub trouble: Option<String>,
    /// How goals are configured to fail.
    #[serde(default)]
    pub failure: Failure,
}

/// What a person or a script may order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum Order {
    /// Plan and run this.
    Goal {
        /// In plain words.
        text: String,
        /// Who approves the plan.
        approval: Approval,
        /// What else was said about it.
        #[serde(default)]
        terms: Terms,
    },
    /// Run this plan, which no model wrote.
    Workflow {
        /// The goal in words.
        text: String,
        /// The plan; it is judged like any other.
        plan: Box<Plan>,
        /// Who approves it.
        approval: Approval,
        /// What else was said about it.
        #[serde(default)]
        terms: Terms,
    },
    /// Run this one task.
    Task {
        /// The task; its id is a wish when `rename` is set.
        spec: Box<TaskSpec>,
        /// Take another id when this one is in use.
        rename: bool,
    },
    /// The plan is good.
    Approve {
        /// Whose plan.
        goal: GoalId,
        /// Nothing more of it starts once it has cost this.
        #[serde(default)]
        ceiling: Option<MicroUsd>,
    },
    /// Change a plan that waits for approval or runs; all of it or nothing.
    EditPlan {
        /// Whose plan.
        goal: GoalId,
        /// The hash of the plan that was looked at; another one is refused.
        base: String,
        /// What is different, in order.
        edits: Vec<Edit>,
    },
    /// What the planner wanted to know.
    Answer {
        /// Of which goal.
        goal: GoalId,
        /// In plain words.
        text: String,
    },
    /// The plan is not.
    Deny {
        /// Whose plan.
        goal: GoalId,
    },
    /// Start this task again.
    Retry {
        /// Which.
        task: TaskRef,
        /// What is different.
        changes: Box<Changes>,
    },
    /// Start this task again on another agent, as a new task of that agent.
    RetryOn {
        /// Which.
        task: TaskRef,
        /// On which agent.
        agent: AgentName,
        /// What is different.
        changes: Box<Changes>,
    },
    /// This task is so urgent from now on.
    Prioritise {
        /// Which.
        task: TaskRef,
        /// How urgent.
        priority: Priority,
    },
    /// End this task.
    Cancel {
        /// Which.
        task: TaskRef,
    },
    /// Let this task's attempt be silent for longer.
    Extend {
        /// Which.
        task: TaskRef,
        /// How much longer.
        by: Duration,
    },
    /// Throw this away: a task that does not run, or a file that was set aside.
    Remove {
        /// What.
        item: Item,
    },
    /// Bring this back from the trash.
    Restore {
        /// What.
        item: Item,
    },
    /// End this goal and all its tasks.
    CancelGoal {
        /// Which.
        goal: GoalId,
    },
    /// An agent may do what it asks for.
    Permit {
        /// Which request.
        ask: AskId,
        /// And use that tool for the rest of its task.
        #[serde(default)]
        always: bool,
    },
    /// What an agent asks a person is answered.
    Reply {
        /// Which request.
        ask: AskId,
        /// One for each of its questions.
        replies: Vec<Reply>,
    },
    /// An agent may not do what it asks for, or gets no answer.
    Forbid {
        /// Which request.
        ask: AskId,
    },
    /// Start nothing more of this task; what runs of it is ended and taken up again later.
    PauseTask {
        /// Which.
        task: TaskRef,
    },
    /// Let this task go on.
    ResumeTask {
        /// Which.
        task: TaskRef,
    },
    /// End this agent's workers; nothing more starts on it until it is started.
    StopAgent {
        /// Which.
        agent: AgentName,
        /// What runs ends first.
        #[serde(default)]
        drain: bool,
    },
    /// Start this agent's workers.
    StartAgent {
        /// Which.
        agent: AgentName,
    },
    /// Start this agent's workers anew, each when what it runs has ended.
    Restart {
        /// Which.
        agent: AgentName,
    },
    /// Start nothing more on this agent.
    Pause {
        /// Which.
        agent: AgentName,
    },
    /// Start again on this agent.
    Resume {
        /// Which.
        agent: AgentName,
    },
    /// Start nothing more on this account; where it is parked, it does not go on by itself.
    Park {
        /// Which.
        account: AccountName,
    },
    /// Let work on this account go on.
    Unpark {
        /// Which.
        account: AccountName,
        /// When its limit clears, and not now.
        when_clear: bool,
    },
    /// Let the calls of a model group have no more than this, on every account.
    Limit {
        /// Which group.
        group: String,
        /// What is set; what it does not name stays as it was set, and nothing at all takes everything back.
        own: OwnLimit,
    },
    /// End the room and its workers.
    Stop {
        /// Let running attempts end first.
        drain: bool,
    },
}

/// The queue's picture changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum TaskEvent {
    /// A task is new or stands elsewhere.
    Changed {
        /// The whole of it.
        record: Box<TaskRecord>,
    },
    /// Tasks that ended a while ago were read, in short.
    Found {
        /// Each with its name.
        tasks: Vec<(TaskRef, Past)>,
        /// How many are still to be read.
        unread: usize,
    },
    /// It is no longer here: its waiting file was deleted by somebody, or it went to the trash.
    Withdrawn {
        /// Which.
        task: TaskRef,
    },
    /// An operator has changed how urgent it is.
    Prioritised {
        /// Which.
        task: TaskRef,
        /// How urgent.
        priority: Priority,
    },
    /// It was paused, or goes on.
    Paused {
        /// Which.
        task: TaskRef,
        /// Why; `None` = it goes on.
        pause: Option<Pause>,
    },
    /// Somebody left a marker that asks for this.
    Requested {
        /// Of which task.
        task: TaskRef,
        /// What.
        request: Request,
    },
    /// What the trash holds now.
    Trash {
        /// Newest first.
        removed: Vec<Removed>,
    },
    /// A file was set aside or is listed with a reason.
    Rejected {
        /// Which and why.
        rejected: Rejected,
    },
    /// Such a file is gone.
    RejectedGone {
        /// Its path, relative to the stage.
        path: String,
    },
    /// How much room the disk has.
    Space {
        /// Why nothing new is started; `None` = there is room.
        why: Option<String>,
    },
    /// How changes are noticed now.
    Polling {
        /// `None` = by the kernel.
        why: Option<String>,
    },
    /// An order about tasks was carried out, or could not be.
    Answered {
        /// Which order.
        id: OrderId,
        /// What came of it.
        answer: Answer,
    },
}

/// A worker process came, spoke or went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "did")]
pub enum WorkerEvent {
    /// It was started.
    Spawned {
        /// For which slot.
        slot: SlotId,
        /// Which start of this slot.
        epoch: u64,
        /// Its process id.
        pid: u32,
    },
    /// It could not be started.
    SpawnFailed {
        /// For which slot.
        slot: SlotId,
        /// Which start of this slot.
        epoch: u64,
        /// Why.
        message: String,
    },
    /// It said hello on the socket.
    Connected {
        /// Which slot it serves.
        slot: SlotId,
        /// Its process id.
        pid: u32,
        /// What it is running.
        running: Option<AttemptRef>,
    },
    /// Its connection ended.
    Disconnected {
        /// Which slot it serves.
        slot: SlotId,
        /// Its process id.
        pid: u32,
    },
    /// Its process ended, and what it left behind was ended too.
    Exited {
        /// Which slot it served.
        slot: SlotId,
        /// Its process id.
        pid: u32,
        /// `exit 0`, `signal 9`.
        how: String,
    },
    /// It reported.
    Reported {
        /// Which slot it serves.
        slot: SlotId,
        /// What it said.
        report: Report,
    },
    /// A task could not be handed to it: its connection had just gone.
    Unreached {
        /// Which slot it serves.
        slot: SlotId,
        /// The task that was meant for it.
        task: TaskRef,
    },
}

/// The orchestrator's work went on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum GoalEvent {
    /// The model answered a request for a plan.
    Answered {
        /// Which goal.
        id: GoalId,
        /// Which round was asked.
        round: u32,
        /// The answer as it came.
        text: String,
        /// The model that gave it.
        model: String,
        /// What it cost.
        spend: Spend,
        /// The rules to judge it by; a journal of the first version does not say.
        #[serde(default = "first_rules")]
        validator: u32,
    },
    /// A person changed the plan, and it passed the checks.
    Edited {
        /// Which goal.
        id: GoalId,
        /// The hash of the plan before.
        base: String,
        /// The plan now.
        plan: Box<Plan>,
        /// What is to be said of it.
        faults: Vec<Fault>,
    },
    /// The queue is in line with the edited plan.
    Amended {
        /// Which goal.
        id: GoalId,
    },
    /// The queue could not be brought in line with the edited plan, and is as it was.
    AmendFailed {
        /// Which goal.
        id: GoalId,
        /// Why.
        message: String,
    },
    /// There was no answer.
    PlanFailed {
        /// Which goal.
        id: GoalId,
        /// Which round was asked.
        round: u32,
        /// Why.
        message: String,
    },
    /// Its tasks are in the queue.
    Published {
        /// Which goal.
        id: GoalId,
    },
    /// Its tasks could not be put into the queue.
    PublishFailed {
        /// Which goal.
        id: GoalId,
        /// Why.
        message: String,
    },
    /// Its report is on disk.
    Reported {
        /// Which goal.
        id: GoalId,
        /// Where, relative to the stage.
        path: String,
        /// The first lines.
        opening: String,
        /// How the goal ends with it.
        end: GoalEnd,
        /// How many of its tasks are done; a replay has no other way to know.
        #[serde(default)]
        done: usize,
        /// Why code wrote it, where the model could not.
        plain: Option<String>,
        /// What it cost.
        spend: Spend,
    },
    /// One of its tasks starts again: a goal that was over goes on, and a task that is another agent's now is followed.
    Retried {
        /// Which goal.
        id: GoalId,
        /// Which task.
        task: TaskRef,
        /// Another agent's task in its place.
        instead: Option<TaskRef>,
    },
    /// Tasks of it failed, and what is missing is to be planned anew.
    Replanning {
        /// Which goal.
        id: GoalId,
        /// What stays and what failed.
        rest: Rest,
    },
    /// The order for it was refused for a reason that a replay does not know: it is no goal.
    NotTaken {
        /// Which it would have been.
        id: GoalId,
    },
    /// The report could not be written to disk.
    ReportFailed {
        /// Which goal.
        id: GoalId,
        /// Why.
        message: String,
    },
}

/// The rules before they were numbered.
fn first_rules() -> u32 {
    1
}

/// The gateway counted or learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "news")]
pub enum GatewayEvent {
    /// A model call ended.
    Called {
        /// Its row.
        call: Box<Call>,
        /// What it would have cost otherwise.
        #[serde(default)]
        appraisal: Option<Appraisal>,
    },
    /// An attempt has ended; what its engine says that it has used.
    EngineSaid {
        /// That.
        total: EngineTotal,
    },
    /// A call was refused because a budget is used up.
    Refused {
        /// Which, and the numbers.
        reached: Reached,
    },
    /// What was spent before, folded from the ledger.
    Folded {
        /// All of it.
        money: Box<Money>,
    },
    /// An account met a limit.
    Limited {
        /// Which, and until when.
        limit: LimitNews,
    },
    /// An account that a limit had closed is open again.
    Opened {
        /// Its label.
        account: String,
    },
    /// The buckets stand at these levels.
    Levels {
        /// All of them.
        levels: Levels,
    },
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// It is done, or accepted and durable.
    Done {
        /// One line for a person.
        text: String,
        /// Ids made or touched.
        ids: Vec<String>,
    },
    /// It was not done, and why.
    Refused {
        /// One line for a person.
        reason: String,
    },
}

impl Event {
    /// Whether it says no more than that a worker elsewhere is there, as each does every two seconds.
    pub fn is_sign(&self) -> bool {
        matches!(self, Self::Worker(WorkerEvent::Reported { report: Report::Far { .. }, .. }))
    }

    /// Whether this is a decision that a new room must hear again: kept in the journal. Everything else is read from
    /// the queue, the process table, the ledger or the configuration.
    pub fn is_fact(&self) -> bool {
        match self {
            Self::Ordered { order, .. } => match order {
                Order::Goal { .. }
                | Order::Workflow { .. }
                | Order::Approve { .. }
                | Order::Answer { .. }
                | Order::Deny { .. }
                | Order::CancelGoal { .. }
                | Order::Pause { .. }
                | Order::Resume { .. }
                | Order::StopAgent { .. }
                | Order::StartAgent { .. }
                | Order::Park { .. }
                | Order::Unpark { .. }
                | Order::Limit { .. } => true,
                Order::Task { .. }
                | Order::Retry { .. }
                | Order::RetryOn { .. }
                // What comes of it is a fact of its own: it depends on what runs just then.
                | Order::EditPlan { .. }
                | Order::Cancel { .. }
                | Order::Extend { .. }
                | Order::Prioritise { .. }
                | Order::Remove { .. }
                | Order::Restore { .. }
                | Order::Permit { .. }
                | Order::Reply { .. }
                | Order::Forbid { .. }
                | Order::PauseTask { .. }
                | Order::ResumeTask { .. }
                | Order::Restart { .. }
                | Order::Stop { .. } => false,
            },
            // What a plan is checked against: without it a replay would judge otherwise.
            Self::Opened(_) | Self::Goal(_) | Self::Limit(_) | Self::Permitted { .. } | Self::Helpers { .. } => true,
            Self::Task(task) => match task {
                TaskEvent::Withdrawn { .. } | TaskEvent::Prioritised { .. } | TaskEvent::Paused { .. } => true,
                TaskEvent::Changed { .. }
                | TaskEvent::Requested { .. }
                | TaskEvent::Trash { .. }
                | TaskEvent::Found { .. }
                | TaskEvent::Rejected { .. }
                | TaskEvent::RejectedGone { .. }
                | TaskEvent::Polling { .. }
                | TaskEvent::Space { .. }
                | TaskEvent::Answered { .. } => false,
            },
            Self::TimeCame | Self::ClockSet { .. } | Self::Worker(_) | Self::Gateway(_) | Self::Server { .. } => false,
        }
    }
}
