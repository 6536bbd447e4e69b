//! What the room asks of the world: orders as data. The runtime carries them out; a replica drops them.

use std::time::Duration;

use crate::model::{
    AttemptRef, Ending, Fault, GoalId, Item, Permit, Plan, Request, SlotId, TaskRef, TaskSpec, limit::OwnLimit,
};
use crate::orchestrator::pays::Pays;

use super::{
    event::{Answer, Event, OrderId},
    retry::Retry,
};

/// One thing to be done. Each that can end answers exactly once, well or badly, with an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell whoever ordered; no event follows.
    Answer {
        /// Which order.
        id: OrderId,
        /// What came of it.
        answer: Answer,
    },
    /// Start a worker process; `Spawned` or `SpawnFailed` follows.
    SpawnWorker {
        /// For which slot.
        slot: SlotId,
        /// Which start of this slot.
        epoch: u64,
    },
    /// Tell a worker to claim and run a task; `Started` or `NotStarted` follows, or its process ends.
    Assign {
        /// Which worker.
        slot: SlotId,
        /// Which task.
        task: TaskRef,
    },
    /// Tell a worker to end its attempt; an ending follows.
    CancelAttempt {
        /// Which worker.
        slot: SlotId,
        /// Which attempt.
        attempt: AttemptRef,
    },
    /// Tell a worker to end its attempt in this way; it follows.
    EndAttempt {
        /// Which worker.
        slot: SlotId,
        /// Which attempt; number 0 means whatever it runs of this task.
        attempt: AttemptRef,
        /// As what.
        ending: Ending,
    },
    /// Tell a worker to let its attempt be silent for longer.
    Extend {
        /// Which worker.
        slot: SlotId,
        /// Which attempt; number 0 means whatever it runs of this task.
        attempt: AttemptRef,
        /// How much longer.
        by: Duration,
    },
    /// Tell a worker what its engine may do.
    Permit {
        /// Which worker.
        slot: SlotId,
        /// Which attempt.
        attempt: AttemptRef,
        /// The engine's name for what it asked for.
        request: String,
        /// The answer.
        permit: Permit,
    },
    /// Throw something away; the queue's changes and `Answered` follow.
    Remove {
        /// Whose order.
        id: OrderId,
        /// What.
        item: Item,
    },
    /// Bring something back from the trash; the queue's changes and `Answered` follow.
    Restore {
        /// Whose order.
        id: OrderId,
        /// What.
        item: Item,
    },
    /// Take a marker away: what it asks for is done, or too late. No event follows.
    AnswerRequest {
        /// Of which task.
        task: TaskRef,
        /// What it asked for.
        request: Request,
    },
    /// Tell a worker to leave, after its attempt or at once; `Exited` follows.
    StopWorker {
        /// Which worker.
        slot: SlotId,
        /// After its attempt.
        drain: bool,
    },
    /// End what a dead worker left of this task's attempt, mend the queue, and look where the task stands; the queue's
    /// change follows.
    Recover {
        /// Which task.
        task: TaskRef,
        /// A person has cancelled it meanwhile: it starts no more.
        cancel: bool,
    },
    /// Put one task into the queue; `Answered` follows.
    Submit {
        /// Whose order.
        id: OrderId,
        /// The task.
        spec: Box<TaskSpec>,
    },
    /// End a task that has no attempt; the queue's change follows, and `Answered` where an order is named.
    EndTask {
        /// Whose order, if anybody's.
        id: Option<OrderId>,
        /// Which.
        task: TaskRef,
        /// As what.
        ending: Ending,
    },
    /// Bring a task back, or make another agent's task of it, and bring back what was skipped because of it; the
    /// queue's changes and `Answered` follow, which names those that start again.
    RetryTask {
        /// Whose order.
        id: OrderId,
        /// Which, and how.
        retry: Box<Retry>,
    },
    /// Keep this as a fact; it follows as an event at once.
    Keep {
        /// What.
        fact: Box<Event>,
    },
    /// Let the gateway pass an account's calls again.
    Reopen {
        /// The gateway's name for it.
        label: String,
    },
    /// Tell the gateway what an operator has set for a model group.
    Limit {
        /// Which group.
        group: String,
        /// All of it; nothing = as the server says.
        own: OwnLimit,
    },
    /// Ask the orchestrator's model for a plan; `goal::Answered` or `PlanFailed` follows.
    Plan {
        /// For which goal.
        goal: GoalId,
        /// Its text.
        text: String,
        /// Which round.
        round: u32,
        /// The former answer and what was wrong with it.
        repair: Option<(String, Vec<Fault>)>,
        /// The goal that it follows up on.
        follows: Option<GoalId>,
    },
    /// Ask the orchestrator's model for a plan of what is missing; `goal::Answered` or `PlanFailed` follows.
    Replan {
        /// For which goal.
        goal: GoalId,
        /// Its text.
        text: String,
        /// Which round.
        round: u32,
        /// The former answer and what was wrong with it.
        repair: Option<(String, Vec<Fault>)>,
        /// The plan that was run in part.
        plan: Box<Plan>,
    },
    /// Put a plan's tasks into the queue; `Published` or `PublishFailed` follows.
    Publish {
        /// For which goal.
        goal: GoalId,
        /// All of them.
        tasks: Vec<TaskSpec>,
    },
    /// Bring the queue in line with an edited plan: first all of these go, then the others come; `Amended` follows, or
    /// `AmendFailed` with the queue as it was.
    Amend {
        /// For which goal.
        goal: GoalId,
        /// Tasks that go, or come back changed.
        withdraw: Vec<TaskRef>,
        /// Tasks that come.
        publish: Vec<TaskSpec>,
    },
    /// Write a goal's report from the results on disk; `goal::Reported` or `ReportFailed` follows.
    Synthesise {
        /// For which goal.
        goal: GoalId,
        /// Its text.
        text: String,
        /// Its plan.
        plan: Box<Plan>,
        /// What working side by side gained.
        pays: Option<Box<Pays>>,
    },
    /// Everything has ended; close the socket and leave.
    Shutdown,
}
