//! What agents ask for, and what was answered.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    model::{Permit, Question},
    room::asks::{By, OpenAsk, Settled},
};

/// A request that waits.
#[derive(Debug, Serialize)]
pub(super) struct AskJson<'a> {
    id: String,
    task: String,
    attempt: u32,
    tool: &'a str,
    /// The tool and its telling argument.
    line: &'a str,
    /// Every argument, as JSON in a text, cut.
    input: &'a str,
    about: &'a str,
    /// The sub-agent that wants it; absent where it is the agent itself.
    #[serde(skip_serializing_if = "str::is_empty")]
    subagent: &'a str,
    /// What it wants to know; absent where it wants to do something.
    #[serde(skip_serializing_if = "<[Question]>::is_empty")]
    questions: &'a [Question],
    since: Timestamp,
    /// When it is denied.
    until: Timestamp,
}

impl<'a> From<&'a OpenAsk> for AskJson<'a> {
    fn from(open: &'a OpenAsk) -> Self {
        Self {
            id: open.id.to_string(),
            task: open.attempt.task.to_string(),
            attempt: open.attempt.n,
            tool: &open.ask.tool,
            line: &open.ask.line,
            input: &open.ask.input,
            about: &open.ask.about,
            subagent: &open.ask.helper,
            questions: &open.ask.questions,
            since: open.since,
            until: open.until,
        }
    }
}

/// A request and its answer.
#[derive(Debug, Serialize)]
pub(super) struct AnsweredJson<'a> {
    at: Timestamp,
    task: String,
    attempt: u32,
    tool: &'a str,
    line: &'a str,
    allowed: bool,
    /// What the model was told with a no.
    why: Option<&'a str>,
    /// What was answered to each question, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<String>,
    by: By,
}

impl<'a> From<&'a (Timestamp, Settled)> for AnsweredJson<'a> {
    fn from((at, settled): &'a (Timestamp, Settled)) -> Self {
        let (why, replies) = match &settled.permit {
            Permit::Allowed => (None, &[][..]),
            Permit::Denied { why } => (Some(why.as_str()), &[][..]),
            Permit::Answered { replies } => (None, replies.as_slice()),
        };
        let answers = settled.ask.questions.iter().zip(replies).map(|(question, reply)| question.told(reply));
        Self {
            at: *at,
            task: settled.attempt.task.to_string(),
            attempt: settled.attempt.n,
            tool: &settled.ask.tool,
            line: &settled.ask.line,
            allowed: settled.permit.is_allowed(),
            why,
            answers: answers.collect(),
            by: settled.by,
        }
    }
}
