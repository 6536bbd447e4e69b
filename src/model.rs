//! The nouns: plain data that every part of podium speaks.
//!
//! Owns ids, tasks, attempts, endings, outcomes, goals, plans, agents, usage, limits and the reports of workers. Must not
//! know tokio, files, processes, ratatui or the wall clock: time comes in as a [`Clock`] or as a value. Its one
//! surprise: text from outside is cleaned here ([`text::scrub`]), because every door needs the same rule.

pub mod account;
pub mod agent;
pub mod budget;
pub mod caching;
pub mod clock;
pub mod ending;
pub mod fnv;
pub mod gateway;
pub mod goal;
pub mod id;
pub mod limit;
pub mod log;
pub mod outcome;
pub mod past;
pub mod permit;
pub mod plan;
pub mod question;
pub mod quiet;
pub mod report;
pub mod savings;
pub mod server;
pub mod slip;
pub mod task;
pub mod text;
pub mod timing;
pub mod trash;
pub mod usage;

pub use account::{AccountSettings, AccountSetup, Credential, Resume};
pub use agent::{AgentSettings, EngineKind, OutputKind, Permissions, SubagentCaps, Tier, Tiers};
pub use clock::Clock;
pub use ending::{Ending, FailureClass, Verdict};
pub use goal::{Approval, Exchange, GoalEnd, GoalPhase, OnFailure, Terms};
pub use id::{AccountName, AgentName, AttemptRef, GoalId, IdError, SlotId, TaskId, TaskRef};
pub use log::{LogId, LogPlace, LogScope};
pub use outcome::{Artifact, EndState, Outcome};
pub use past::Past;
pub use permit::{Ask, AskId, Asking, Permit};
pub use plan::{Checks, DoneWhen, Effort, Estimates, Fault, Plan, PlanTask, Severity};
pub use question::{Choice, Question, Reply};
pub use quiet::Quiet;
pub use report::{Activity, Far, Report};
pub use task::{
    AttemptRecord, Changes, Dependency, IfFailed, OnLost, Priority, Rejected, Standing, TaskRecord, TaskSpec,
};
pub use trash::{Item, Removed, Request};
pub use usage::{CostSource, MicroUsd, Modifiers, Spend, Usage};
