//! Pure judgement: what a plan must hold, what may start first, what a dependent is told, what a report is made of.
//!
//! Owns plan checks, order, briefs and synthesis. Must not know a model client, a file or a clock: it makes prompts as
//! data and reads answers as text. Its one surprise: nothing here starts anything; code in `room` does.

pub mod bound;
pub mod brief;
pub mod cite;
pub mod graph;
pub mod learned;
pub mod pays;
pub mod plan;
pub mod prompts;
pub mod quote;
pub mod record;
pub mod replan;
pub mod review;
#[cfg(test)]
mod sample;
pub mod schedule;
pub mod synthesis;
pub mod workflow;

/// A prompt as data; the runtime turns it into a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// System text that never changes between goals of a stage: the cached prefix, byte-identical from call to call.
    pub stable: String,
    /// System text that changes with the stage (agents, limits), after the cached prefix.
    pub stage: String,
    /// The user's message.
    pub user: String,
    /// JSON schema of the answer, where one is asked for.
    pub schema: Option<serde_json::Value>,
    /// The most tokens the answer may have.
    pub max_tokens: u32,
}
