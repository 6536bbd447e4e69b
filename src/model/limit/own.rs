//! A limit that an operator has set for a model group.
//!
//! Must not know buckets. Its one surprise: it may only lower what the server says, but it takes the place of what podium
//! guesses before the server has said anything.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::gateway::Dimension;

/// Model families that have buckets of their own.
pub const FAMILIES: [&str; 4] = ["opus", "sonnet", "haiku", "fable"];

/// The bucket group of a model: its family, else its whole name.
pub fn group(model: &str) -> &str {
    FAMILIES.into_iter().find(|family| model.contains(family)).unwrap_or(model)
}

/// The most per minute, on every account; nothing = as the server says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnLimit {
    /// Requests.
    pub requests: Option<u32>,
    /// Uncached input tokens.
    pub input: Option<u32>,
    /// Output tokens.
    pub output: Option<u32>,
}

impl OwnLimit {
    /// Whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same with `others` where it says nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            requests: self.requests.or(others.requests),
            input: self.input.or(others.input),
            output: self.output.or(others.output),
        }
    }

    /// Of one dimension.
    pub fn of(&self, dimension: Dimension) -> Option<u32> {
        match dimension {
            Dimension::Requests => self.requests,
            Dimension::Input => self.input,
            Dimension::Output => self.output,
        }
    }
}

impl fmt::Display for OwnLimit {
    /// `60 requests and 200000 input tokens a minute`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = [(self.requests, "requests"), (self.input, "input tokens"), (self.output, "output tokens")];
        let parts: Vec<String> = each.into_iter().filter_map(|(n, of)| Some(format!("{} {of}", n?))).collect();
        match parts.split_last() {
            None => f.write_str("no limit"),
            Some((last, [])) => write!(f, "{last} a minute"),
            Some((last, before)) => write!(f, "{} and {last} a minute", before.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_belongs_to_its_family_and_another_one_to_itself() {
        assert_eq!(
            ["claude-opus-5-5[1m]", "sonnet", "claude-haiku-4-5-20251001", "claude-fable-5-2", "gpt-x"].map(group),
            ["opus", "sonnet", "haiku", "fable", "gpt-x"]
        );
    }

    #[test]
    fn what_is_set_later_counts_and_the_rest_stays() {
        let before = OwnLimit { requests: Some(60), input: Some(1_000), output: None };
        let after = OwnLimit { input: Some(500), ..OwnLimit::default() }.or(before);
        assert_eq!(after, OwnLimit { requests: Some(60), input: Some(500), output: None });
        assert_eq!(after.to_string(), "60 requests and 500 input tokens a minute");
        assert_eq!(
            OwnLimit { output: Some(7), ..after }.to_string(),
            "60 requests, 500 input tokens and 7 output tokens a minute"
        );
        assert_eq!(OwnLimit { requests: None, ..after }.to_string(), "500 input tokens a minute");
        assert!(OwnLimit::default().is_empty() && !after.is_empty());
    }
}
