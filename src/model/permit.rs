//! What an engine wants to do and asks for, and what is said to it.
//!
//! Its one surprise: what it wants to do is text from outside like any other. It is cleaned and cut here, once, and shown
//! as data everywhere.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Question, Reply, text};

/// What an engine asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The engine's own name for it.
    pub request: String,
    /// The tool.
    pub tool: String,
    /// One line: the tool and its telling argument.
    pub line: String,
    /// Every argument, as JSON.
    pub input: String,
    /// What the engine says of it.
    pub about: String,
    /// The sub-agent that wants it; empty where it is the agent itself.
    #[serde(default)]
    pub helper: String,
    /// What it wants to know, where it is a question.
    #[serde(default)]
    pub questions: Vec<Question>,
}

impl Ask {
    /// Bytes of arguments that are kept.
    const INPUT_LIMIT: usize = 8_000;

    /// Cleans and cuts what an engine says.
    pub fn new(request: &str, tool: &str, line: &str, input: &serde_json::Value, about: &str) -> Self {
        let shown = serde_json::to_string_pretty(input).unwrap_or_default();
        Self {
            request: request.to_owned(),
            tool: text::first_line(tool, 60),
            line: text::first_line(line, 300),
            input: text::clip(&text::scrub(&shown), Self::INPUT_LIMIT).into_owned(),
            about: text::first_line(about, 300),
            helper: String::new(),
            questions: Vec::new(),
        }
    }

    /// Asked for by a sub-agent.
    #[must_use]
    pub fn by(self, helper: &str) -> Self {
        Self { helper: text::first_line(helper, 120), ..self }
    }

    /// It is a question, or several.
    #[must_use]
    pub fn asking(self, questions: Vec<Question>) -> Self {
        Self { questions, ..self }
    }

    /// `asks for Bash touch x`, `asks: Which one?`; of a sub-agent with its name.
    pub fn words(&self) -> String {
        let asked = self.questions.iter().map(|question| text::first_line(&question.text, 200));
        let said = match asked.collect::<Vec<_>>().as_slice() {
            [] => format!("asks for {}", self.line),
            questions => format!("asks: {}", questions.join(" ")),
        };
        if self.helper.is_empty() { said } else { format!("{said} · {}", self.helper) }
    }

    /// Whether it wants to know something, and not to do something.
    pub fn is_question(&self) -> bool {
        !self.questions.is_empty()
    }
}

/// What is said to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Permit {
    /// Do it.
    Allowed,
    /// Do not.
    Denied {
        /// Why, for the model.
        why: String,
    },
    /// What it wanted to know.
    Answered {
        /// One for each question.
        replies: Vec<Reply>,
    },
}

impl Permit {
    /// Whether it is a yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed | Self::Answered { .. })
    }
}

/// Names a request for a person: `p7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskId(pub u64);

impl fmt::Display for AskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

impl FromStr for AskId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        text.strip_prefix('p').and_then(|n| n.parse().ok()).map(Self).ok_or(())
    }
}

/// How requests are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asking {
    /// How long a person has to answer; then it is denied.
    pub patience: Duration,
    /// There is a person; otherwise everything that is asked is denied at once.
    pub attended: bool,
}

impl Default for Asking {
    fn default() -> Self {
        Self { patience: Duration::from_mins(5), attended: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_data_and_nothing_else() {
        let input = serde_json::json!({ "command": "printf '\u{1b}[2J\u{9b}1m\u{202e}gnp'", "timeout": 5 });
        let ask = Ask::new("r1", "Bash\u{1b}]0;x\u{7}", "Bash printf \u{1b}[2J", &input, "runs\na thing");
        for text in [&ask.tool, &ask.line, &ask.input, &ask.about] {
            assert_eq!(&*text::scrub(text), text, "clean as it is");
            assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{7}', '\u{202e}']), "{text:?}");
        }
        assert!(ask.input.contains("\"timeout\": 5"), "{}", ask.input);
        assert_eq!((AskId(7).to_string(), "p7".parse()), ("p7".to_owned(), Ok(AskId(7))));
        assert!("g7".parse::<AskId>().is_err());
    }
}
