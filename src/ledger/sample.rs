//! A row for tests.

use crate::model::{
    MicroUsd, Usage,
    gateway::{Call, CallEnd, Caller},
};

/// A complete call of the orchestrator's.
pub(crate) fn call(id: &str, at: &str) -> Call {
    Call {
        millis: 12,
        session_id: Some("s".to_owned()),
        model: "claude-opus-5-5".to_owned(),
        end: CallEnd::Complete,
        usage: Usage { input_tokens: 7, ..Usage::default() },
        cost: MicroUsd(28),
        request_id: Some(format!("req_{id}")),
        ..Call::new(id.to_owned(), at.parse().unwrap(), Caller::Orchestrator { goal: None })
    }
}
