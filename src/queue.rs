//! The queue's contract, in lease words, so that a directory and a JetStream consumer both fit behind it.
//!
//! Owns [`Queue`], what goes in and comes out of it, and its errors. Must not know rooms, screens or engines. Its one
//! surprise: a [`Lease`] is a kernel lock held by this process; dropping it without ending the attempt makes the
//! attempt *lost*, and whoever recovers next will say so.

use std::{fmt, path::PathBuf, time::Duration};

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::model::{
    AttemptRef, Changes, Ending, IdError, Item, Outcome, Past, Rejected, Removed, Request, Spend, TaskRecord, TaskRef,
    TaskSpec,
};

mod entry;
pub mod file;
pub mod memory;
pub mod nats;

/// How long ended tasks and the trash are kept. Results and dead letters are kept until a person decides.
pub const KEPT: Duration = Duration::from_hours(14 * 24);

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Accepted and durable.
    New,
    /// The same id with the same content is already known.
    Exists,
    /// The same id with other content is already known.
    Conflict,
    /// Too many tasks wait.
    Full {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claimed<L> {
    /// The attempt is counted on disk and its lease is ours.
    Won(Box<Claim<L>>),
    /// Somebody else holds it, it has ended, or it is gone; the sentence says which.
    Missed(String),
}

/// An attempt that may now be started.
#[derive(Debug)]
pub struct Claim<L> {
    /// The task in full, as its file says.
    pub spec: TaskSpec,
    /// The attempt's number, from 1.
    pub n: u32,
    /// How many earlier attempts counted against `max_attempts`.
    pub counted: u32,
    /// Results of its dependencies that have ended, in the order of `spec.dependencies`.
    pub prerequisites: Vec<Outcome>,
    /// The attempt before this one, if any: how it ended and the engine's session.
    pub previous: Option<(Ending, Option<String>)>,
    /// The engine's session to take up again; `None` where the task names none, or an attempt since has tried it.
    pub resume: Option<String>,
    /// Held for as long as the attempt runs.
    pub lease: L,
}

/// A held lease: where the attempt's files lie.
pub trait Lease: Send + Sync + fmt::Debug {
    /// Which attempt.
    fn attempt(&self) -> &AttemptRef;
    /// The folder for `out.log`, `err.log` and notes of the attempt.
    fn folder(&self) -> PathBuf;
    /// The log as outsiders find it, relative to the stage.
    fn log(&self) -> String;
    /// Waits until the lease is gone although it was not given up, and says why: what runs must be ended then, since
    /// somebody else may begin. A lease that the kernel keeps is never gone.
    fn gone(&self) -> impl Future<Output = String> + Send {
        std::future::pending()
    }
}

/// What is known of an attempt once its child runs. A backend keeps the session for the next attempt; who runs is told by
/// the process table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spawned {
    /// Process id of the child.
    pub pid: u32,
    /// Its start time in clock ticks since boot, field 22 of `/proc/{pid}/stat`.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The engine's session.
    pub session_id: Option<String>,
}

/// The answer to a finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The result is published, by us.
    Committed,
    /// A result was there already; ours is kept beside the attempt.
    AlreadyCommitted,
}

impl Finished {
    fn committed(by_us: bool) -> Self {
        if by_us { Self::Committed } else { Self::AlreadyCommitted }
    }
}

/// One change of the picture. Every task's changes arrive in order; a gap is followed by a full list.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The task is new or stands elsewhere now.
    Task(Box<TaskRecord>),
    /// Tasks that ended a while ago, in short, and how many of them are still to be read. Only at the start of a watch;
    /// none of them has been told of before.
    Found(Vec<(TaskRef, Past)>, usize),
    /// The task is no longer here: somebody deleted its waiting file, or it went to the trash.
    Gone(TaskRef),
    /// Somebody left a marker that asks for this. It stays until [`Queue::answered`].
    Requested {
        /// Of which task.
        task: TaskRef,
        /// What.
        request: Request,
    },
    /// What the trash holds now, newest first.
    Trash(Vec<Removed>),
    /// A file was set aside, or is listed with a reason.
    Rejected(Rejected),
    /// A rejected or listed file is gone again.
    RejectedGone(String),
    /// Why nothing new is started although it could be: the disk is nearly full; `None` = there is room.
    Space(Option<String>),
    /// How changes are noticed: `None` = by the kernel, `Some(why)` = by looking now and then.
    Polling(Option<String>),
}

/// Why a queue could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The operating system said no.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried: `read`, `rename`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no such task.
    #[error("there is no task {0}")]
    Unknown(TaskRef),
    /// There is no such file among those set aside.
    #[error("{0} is no file that was set aside")]
    NoFile(String),
    /// There is no such agent's folder.
    #[error("there is no agent {0}")]
    UnknownAgent(String),
    /// The id breaks the rule.
    #[error("{0}")]
    Id(#[from] IdError),
    /// The task is in a state that does not allow this.
    #[error("{task} is {state}")]
    State {
        /// Which.
        task: TaskRef,
        /// What it is.
        state: String,
    },
    /// The task's text is over the limit.
    #[error("the task is {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Size found.
        bytes: usize,
        /// Size allowed.
        limit: usize,
    },
    /// The disk is too full for anything new; the sentence says how full.
    #[error("{0}")]
    NoSpace(String),
    /// The storage cannot keep its promises here.
    #[error("{0}")]
    Unsafe(String),
    /// The engine cannot be reached, or does not answer in time; whether it took what it was asked is then unknown.
    #[error("{0}")]
    Unreachable(String),
}

/// Where tasks wait, are leased and end. Clones share one queue.
pub trait Queue: Clone + Send + Sync + 'static {
    /// What a claim hands out.
    type Lease: Lease + 'static;

    /// Accepts one task; durable when it returns [`Submitted::New`].
    fn submit(&self, task: TaskSpec) -> impl Future<Output = Result<Submitted, QueueError>> + Send;

    /// Accepts several in one batch; all answers in the order given.
    fn submit_many(&self, tasks: Vec<TaskSpec>) -> impl Future<Output = Result<Vec<Submitted>, QueueError>> + Send;

    /// Takes a task that waits or retries and counts a new attempt; only then may a child be started.
    fn claim(&self, task: &TaskRef) -> impl Future<Output = Result<Claimed<Self::Lease>, QueueError>> + Send;

    /// Notes the child of a held attempt, before or right after it runs.
    fn spawned(&self, lease: &Self::Lease, spawned: &Spawned) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Ends a held attempt and its task: exit record, then the result, then the lease is free. `outcome` speaks of
    /// this attempt alone; the queue puts in the first attempt's start and adds what earlier attempts used.
    fn finish(&self, lease: Self::Lease, outcome: Outcome)
    -> impl Future<Output = Result<Finished, QueueError>> + Send;

    /// Ends a held attempt but not its task, which may start again at `not_before`.
    fn fail(
        &self,
        lease: Self::Lease,
        ending: Ending,
        spend: Spend,
        not_before: Timestamp,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Ends a task that has no attempt running: cancelled, skipped, expired, malformed.
    fn end(&self, task: &TaskRef, ending: Ending) -> impl Future<Output = Result<Finished, QueueError>> + Send;

    /// Brings a task that has ended back to the inbox with a fresh budget; the old result is kept aside. A task that
    /// waits for its next attempt may start at once.
    fn retry(&self, task: &TaskRef, changes: Changes) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Throws away a task that does not run, with its attempts and its result, as one; [`Queue::restore`] brings it back.
    fn remove(&self, task: &TaskRef) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Throws away a file that had been set aside, and its reason; `path` is relative to the stage.
    fn discard(&self, path: &str) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Brings back what was thrown away last under this name, exactly as it was. Refused where its place is taken.
    fn restore(&self, item: &Item) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// What the trash holds, newest first.
    fn removed(&self) -> impl Future<Output = Result<Vec<Removed>, QueueError>> + Send;

    /// Deletes for good what has been in the trash for longer than this; says how many.
    fn purge(&self, older: Duration) -> impl Future<Output = Result<usize, QueueError>> + Send;

    /// Leaves a marker that asks for something, for the room that runs or the next one.
    fn request(&self, task: &TaskRef, request: Request) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Takes the marker away: what it asks for was done, or is too late. No error where there is none.
    fn answered(&self, task: &TaskRef, request: Request) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// One task with all its attempts.
    fn get(&self, task: &TaskRef) -> impl Future<Output = Result<TaskRecord, QueueError>> + Send;

    /// A task in full, as its file says it; ended ones too.
    fn spec(&self, task: &TaskRef) -> impl Future<Output = Result<TaskSpec, QueueError>> + Send;

    /// A task's result in full, whoever wrote it; `None` while there is none.
    fn result(&self, task: &TaskRef) -> impl Future<Output = Result<Option<Outcome>, QueueError>> + Send;

    /// Every task known, ended ones included.
    fn list(&self) -> impl Future<Output = Result<Vec<TaskRecord>, QueueError>> + Send;

    /// Mends what a crash left: attempts without a holder become lost (counted), finished work is published.
    /// Attempts whose lease is held are left alone. Idempotent.
    fn recover(&self) -> impl Future<Output = Result<Vec<TaskRef>, QueueError>> + Send;

    /// Everything there is as [`Change`]s, then each further change, until the receiver is dropped.
    fn watch(&self) -> impl Future<Output = Result<mpsc::Receiver<Change>, QueueError>> + Send;
}
