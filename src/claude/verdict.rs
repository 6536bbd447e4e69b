//! What a stream says about its attempt: what it does now, and in the end how it went.
//!
//! Owns the order in which the signs are believed. Must not know processes. Its one surprise: only the *last* result
//! counts, and its `is_error` flag, never its subtype; the exit code is a cross-check.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    decode::{Content, Line},
    limited::Refused,
    wire::{Answer, Asks, Block, Event, Init, Retry, Said, tool_line},
};
use crate::model::{
    Ending, MicroUsd, Spend, Usage,
    budget::Reached,
    limit::{WindowStatus, Windows},
    report::Subagent,
    text,
};

/// What is said of a key that the API does not take.
const REFUSED: &str = "the key or login was refused (401)";

/// The longest silence that an engine is believed to announce.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// How the engine's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal, which we did not send.
    Signal(i32),
    /// By us, because it stayed after its result.
    Settled,
}

/// What an attempt is doing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// One line, cleaned.
    pub doing: String,
    /// Sub-agents at work, cleaned.
    pub subagents: Vec<Subagent>,
    /// Tokens and cost so far.
    pub spend: Spend,
    /// It waits before it asks its model again.
    pub retry: Option<Retry>,
}

/// What an attempt came to, as its engine tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How it ended.
    pub ending: Ending,
    /// The answer, cleaned; empty where there is none.
    pub summary: String,
    /// The structured answer.
    pub structured: Option<serde_json::Value>,
    /// Tokens and cost, sub-agents included.
    pub spend: Spend,
    /// The engine itself named the cost.
    pub cost_reported: bool,
    /// The model that answered.
    pub model: Option<String>,
    /// The engine's session.
    pub session_id: Option<String>,
    /// Tools that were refused to the model.
    pub permission_denials: Vec<String>,
    /// Turns taken.
    pub num_turns: u64,
    /// The engine's version.
    pub version: Option<String>,
    /// Why the API said no, where that ended it.
    pub refused: Option<Refused>,
}

impl Finding {
    /// An ending and an answer, of an engine that tells nothing else.
    pub fn plain(ending: Ending, summary: String) -> Self {
        Self {
            ending,
            summary,
            structured: None,
            spend: Spend::default(),
            cost_reported: false,
            model: None,
            session_id: None,
            permission_denials: Vec::new(),
            num_turns: 0,
            version: None,
            refused: None,
        }
    }
}

/// Listens to one attempt's stream.
#[derive(Debug, Default)]
pub struct Listener {
    init: Option<Init>,
    last: Option<Box<Answer>>,
    last_error: Option<String>,
    /// What the subscription allows by its last word, and the words that nobody has taken yet.
    windows: Option<Windows>,
    told: Vec<Windows>,
    /// The last wait before another request, and whether it was the last thing said.
    retry: Option<Retry>,
    retrying: bool,
    /// The wait that the last line announced.
    announced: Duration,
    settled: bool,
    events: u64,
    unreadable: Option<String>,
    doing: String,
    /// Sub-agents at work by the tool call or task that started them.
    agents: BTreeMap<String, Subagent>,
    /// The most seen of each message's usage.
    messages: BTreeMap<String, Usage>,
    open_message: BTreeMap<Option<String>, String>,
    denied: HashSet<String>,
    /// What it asks for and nobody has taken yet.
    asked: Vec<Asks>,
    /// What it has taken back, in the same way.
    withdrawn: Vec<String>,
    /// The answer must be structured.
    wants_structure: bool,
}

impl Listener {
    /// A listener for a stream that must end in a structured answer.
    pub fn structured() -> Self {
        Self { wants_structure: true, ..Self::default() }
    }

    /// Takes one line.
    pub fn hear(&mut self, line: &Line) {
        self.announced = Duration::ZERO;
        self.retrying = false;
        match &line.content {
            Content::Event(event) => {
                self.events += 1;
                self.event(event);
            }
            Content::Plain(text) | Content::Bad { text, .. } | Content::Long(text) => self.unread(text),
            Content::Cut(_) => {}
        }
    }

    fn unread(&mut self, text: &str) {
        if self.unreadable.is_none() {
            self.unreadable = Some(text::first_line(text, 120));
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Init(init) => {
                self.init = Some(init.clone());
                self.settled = false;
                "starts".clone_into(&mut self.doing);
            }
            Event::Assistant(said) => self.said(said),
            Event::User(said) => {
                // A sub-agent in the background answers at once; its own notification ends it.
                for block in said.blocks.iter().filter(|_| !said.launched) {
                    if let Block::ToolResult { id, .. } = block {
                        self.agents.remove(id);
                    }
                }
            }
            Event::Result(answer) => {
                self.last = Some(answer.clone());
                self.settled = true;
                "ends".clone_into(&mut self.doing);
            }
            Event::Stream(delta) => {
                if let Some(message) = &delta.message {
                    self.open_message.insert(delta.parent.clone(), message.clone());
                }
                if let (Some(usage), Some(message)) = (delta.usage, self.open_message.get(&delta.parent).cloned()) {
                    self.used(&message, usage);
                }
                match delta.block.as_deref() {
                    Some("thinking") => "thinking".clone_into(&mut self.doing),
                    Some("text") => "writes".clone_into(&mut self.doing),
                    Some(_) | None => {}
                }
            }
            Event::Retry(retry) => {
                self.announced = Duration::from_millis(retry.delay_ms).min(LONGEST_WAIT);
                self.doing = retry.line();
                self.retry = Some(retry.clone());
                self.retrying = true;
            }
            Event::RateLimit(limit) => {
                self.windows = Some(limit.windows.clone());
                self.told.push(limit.windows.clone());
            }
            Event::TaskStarted(task) => {
                if task.is_agent() {
                    let key = task.tool_use.clone().unwrap_or_else(|| task.id.clone());
                    self.agents.insert(key, Subagent { id: task.id.clone(), name: task.name() });
                }
            }
            Event::TaskEnded { id, tool_use, .. } => {
                self.agents.remove(tool_use.as_ref().unwrap_or(id));
                self.agents.remove(id);
            }
            Event::Asks(asks) => {
                let cwd = self.init.as_ref().and_then(|i| i.cwd.as_deref());
                self.doing = text::fit(&format!("asks: {}", asks.line(cwd)), 100);
                self.asked.push(asks.clone());
            }
            Event::Withdraws(request) => self.withdrawn.push(request.clone()),
            Event::Other { kind, subtype, fields } => match (kind.as_str(), subtype.as_deref()) {
                ("system", Some("status")) => {
                    if fields.get("status").and_then(|s| s.as_str()) == Some("compacting") {
                        "compacts its context".clone_into(&mut self.doing);
                    } else if self.doing == "starts" {
                        "waits for the model".clone_into(&mut self.doing);
                    }
                }
                ("system", Some("thinking_tokens")) => "thinking".clone_into(&mut self.doing),
                ("system", Some("permission_denied")) => {
                    if let Some(tool) = fields.get("tool_name").and_then(|t| t.as_str()) {
                        self.denied.insert(tool.to_owned());
                    }
                }
                _ => {}
            },
        }
    }

    fn said(&mut self, said: &Said) {
        if let Some(error) = &said.error {
            self.last_error = Some(error.clone());
        } else if said.parent.is_none() {
            self.last_error = None;
        }
        if let (Some(message), Some(usage)) = (&said.message, said.usage)
            && said.model.as_deref() != Some("<synthetic>")
        {
            self.used(message, usage);
        }
        let cwd = self.init.as_ref().and_then(|i| i.cwd.clone());
        for block in &said.blocks {
            match block {
                Block::Text(_) => "writes".clone_into(&mut self.doing),
                Block::Thinking(_) => "thinking".clone_into(&mut self.doing),
                Block::ToolUse { name, input, .. } => {
                    self.doing = text::fit(&tool_line(name, input, cwd.as_deref()), 100);
                }
                Block::ToolResult { .. } | Block::Other(_) => {}
            }
        }
    }

    fn used(&mut self, message: &str, usage: Usage) {
        let known = self.messages.entry(message.to_owned()).or_default();
        known.input_tokens = known.input_tokens.max(usage.input_tokens);
        known.output_tokens = known.output_tokens.max(usage.output_tokens);
        known.cache_read_input_tokens = known.cache_read_input_tokens.max(usage.cache_read_input_tokens);
        known.cache_creation_input_tokens = known.cache_creation_input_tokens.max(usage.cache_creation_input_tokens);
        known.cache_creation_1h_input_tokens =
            known.cache_creation_1h_input_tokens.max(usage.cache_creation_1h_input_tokens);
    }

    /// Whether a result was heard, no further turn began, and no sub-agent works on.
    pub fn settled(&self) -> bool {
        self.settled && self.agents.is_empty()
    }

    /// What is going on now.
    pub fn progress(&self) -> Progress {
        Progress {
            doing: self.doing.clone(),
            subagents: self.agents.values().take(20).cloned().collect(),
            spend: self.spend(),
            retry: self.retry.clone().filter(|_| self.retrying),
        }
    }

    /// Takes what was said about the subscription since this was last asked.
    pub fn take_windows(&mut self) -> Vec<Windows> {
        std::mem::take(&mut self.told)
    }

    /// Takes what it has asked for since this was last asked.
    pub fn take_asked(&mut self) -> Vec<Asks> {
        std::mem::take(&mut self.asked)
    }

    /// Takes the names of what it has taken back since this was last asked.
    pub fn take_withdrawn(&mut self) -> Vec<String> {
        std::mem::take(&mut self.withdrawn)
    }

    /// What a sub-agent at work is and does, by its id.
    pub fn helper(&self, id: &str) -> Option<&str> {
        self.agents.values().find(|agent| agent.id == id).map(|agent| agent.name.as_str())
    }

    /// Where it works, by its own word.
    pub fn cwd(&self) -> Option<&str> {
        self.init.as_ref().and_then(|init| init.cwd.as_deref())
    }

    /// How long it will be silent by its own word: it waits before it asks the model again.
    pub fn announced(&self) -> Duration {
        self.announced
    }

    /// Why waiting is pointless, where it is: the engine would ask for minutes with a key that is refused.
    pub fn hopeless(&self) -> Option<Ending> {
        let refused = self.retry.as_ref().is_some_and(|retry| retry.status == Some(401));
        refused.then(|| Ending::Auth { message: REFUSED.to_owned() })
    }

    /// Tokens by the last result's `modelUsage`, else summed over the messages heard.
    fn spend(&self) -> Spend {
        let mut heard = Usage::default();
        for usage in self.messages.values() {
            heard += *usage;
        }
        let mut reported = Usage::default();
        if let Some(last) = &self.last {
            for (_, usage) in &last.by_model {
                reported += *usage;
            }
            if reported.cache_creation_1h_input_tokens == 0 {
                // Older versions tell the lifetime only here.
                let hour = last.usage.map_or(0, |u| u.cache_creation_1h_input_tokens);
                reported.cache_creation_1h_input_tokens = hour.min(reported.cache_creation_input_tokens);
            }
        }
        // A turn may have begun after the last result.
        let usage =
            if reported.total() >= heard.total() || (self.settled && reported.total() > 0) { reported } else { heard };
        let cost = self.last.as_ref().and_then(|l| l.cost).unwrap_or_default();
        Spend { usage, cost, calls: self.messages.len() as u64, ..Spend::default() }
    }

    /// What it all came to.
    pub fn finding(&self, exit: Exit, stderr: &str) -> Finding {
        let last = self.last.as_deref();
        let ending = match last {
            None => self.without_result(exit, stderr),
            Some(last) if last.is_error => self.classify(last),
            Some(last) => self.success(last, exit, stderr),
        };
        let structured = last.and_then(|l| l.structured.clone());
        let text = last.and_then(|l| l.text.as_deref()).unwrap_or_default();
        let mut summary = text::scrub(text).trim().to_owned();
        if let (true, Some(value)) = (summary.is_empty(), &structured) {
            summary = value.to_string();
        }
        let mut permission_denials = last.map(|l| l.denials.clone()).unwrap_or_default();
        permission_denials.extend(self.denied.iter().cloned());
        permission_denials.sort();
        permission_denials.dedup();
        let model = self.init.as_ref().and_then(|i| i.model.clone());
        Finding {
            ending,
            summary,
            structured,
            spend: self.spend(),
            cost_reported: last.is_some_and(|l| l.cost.is_some_and(|c| c > MicroUsd(0))),
            model: model.or_else(|| last.and_then(|l| l.by_model.first().map(|(m, _)| m.clone()))),
            session_id: last
                .and_then(|l| l.session.clone())
                .or_else(|| self.init.as_ref().and_then(|i| i.session.clone())),
            permission_denials,
            num_turns: last.and_then(|l| l.turns).unwrap_or(0),
            version: self.init.as_ref().and_then(|i| i.version.clone()),
            refused: self.refused(last),
        }
    }

    /// Why the API said no for good; a key that it refuses is not asked with to the end.
    fn refused(&self, last: Option<&Answer>) -> Option<Refused> {
        let Some(last) = last else {
            let kind = "authentication_error".to_owned();
            return self.hopeless().map(|_| Refused {
                status: Some(401),
                kind,
                code: None,
                message: REFUSED.to_owned(),
            });
        };
        let kind = last.api_error.as_ref().or(self.last_error.as_ref());
        // The CLI's own word is the better one where the API only speaks of an invalid request.
        let kind = self.last_error.as_ref().filter(|error| *error == "billing_error").or(kind);
        (last.is_error && (last.status.is_some() || kind.is_some())).then(|| Refused {
            status: last.status,
            kind: kind.cloned().unwrap_or_default(),
            code: last.api_code.clone(),
            message: text::first_line(last.text.as_deref().unwrap_or_default(), 300),
        })
    }

    fn without_result(&self, exit: Exit, stderr: &str) -> Ending {
        let said = stderr_line(stderr);
        match exit {
            Exit::Signal(signal) => Ending::Signal { signal },
            // The CLI turns these two signals into exit codes.
            Exit::Code(143) => Ending::Signal { signal: 15 },
            Exit::Code(129) => Ending::Signal { signal: 1 },
            Exit::Code(0) | Exit::Settled if self.events == 0 => match &self.unreadable {
                Some(found) => Ending::Unreadable { message: format!("not stream-json: {found}") },
                None => Ending::NoResult { code: Some(0) },
            },
            Exit::Code(0) | Exit::Settled => Ending::NoResult { code: Some(0) },
            Exit::Code(1) if self.events == 0 && refuses_its_flags(stderr) => Ending::Config { message: said },
            Exit::Code(code) => Ending::ExitCode { code, message: said },
        }
    }

    fn success(&self, last: &Answer, exit: Exit, stderr: &str) -> Ending {
        match exit {
            Exit::Code(0) | Exit::Settled => {}
            Exit::Code(code) => return Ending::ExitCode { code, message: stderr_line(stderr) },
            Exit::Signal(signal) => return Ending::Signal { signal },
        }
        if self.wants_structure && last.structured.is_none() {
            return Ending::Reported { message: "the structured answer is missing".to_owned() };
        }
        let text = last.text.as_deref().unwrap_or_default();
        if text.trim().is_empty() && last.structured.is_none() {
            return Ending::EmptyAnswer;
        }
        if last.turns == Some(0) && last.by_model.is_empty() {
            return Ending::Reported { message: "no model was asked: the prompt was taken for a command".to_owned() };
        }
        Ending::Done
    }

    fn classify(&self, last: &Answer) -> Ending {
        let said = last.text.as_deref().filter(|t| !t.trim().is_empty());
        let said = said.or_else(|| last.errors.first().map(String::as_str)).unwrap_or(&last.subtype);
        let message = text::first_line(said, 300);
        let terminal = last.terminal.as_deref().unwrap_or_default();
        if let Some(ending) = Reached::ending_in(said) {
            return ending;
        }
        if last.stop.as_deref() == Some("refusal") {
            return Ending::Refused { message };
        }
        match terminal {
            "prompt_too_long" | "image_error" => return Ending::Overflow { message },
            "aborted_streaming" | "aborted_tools" => return Ending::Signal { signal: 2 },
            "budget_exhausted" => return Ending::Budget { message },
            _ => {}
        }
        match last.subtype.as_str() {
            "error_max_budget_usd" => return Ending::Budget { message },
            "error_max_turns" | "error_max_structured_output_retries" => return Ending::Reported { message },
            "error_during_execution" if message.starts_with("No conversation found") => {
                return Ending::SessionGone { message };
            }
            _ => {}
        }
        let kind = last.api_error.as_deref().unwrap_or_default();
        let error = self.last_error.as_deref().unwrap_or_default();
        match (error, kind, last.status) {
            ("max_output_tokens", _, _) | (_, "request_too_large", _) | (_, _, Some(413)) => {
                Ending::Overflow { message }
            }
            ("billing_error" | "authentication_failed" | "oauth_org_not_allowed", _, _)
            | (_, "billing_error" | "authentication_error" | "permission_error", _)
            | (_, _, Some(401..=403)) => Ending::Auth { message },
            ("model_not_found", _, _) | (_, _, Some(404)) => Ending::Config { message },
            ("rate_limit", _, _) | (_, "rate_limit_error", _) | (_, _, Some(429)) => {
                Ending::Limit { message, until: self.clears_at() }
            }
            ("overloaded" | "server_error", _, _)
            | (_, "overloaded_error" | "api_error" | "timeout_error", _)
            | (_, _, Some(500..)) => Ending::Transient { message },
            _ => Ending::Reported { message },
        }
    }

    /// When a rejected window opens again.
    fn clears_at(&self) -> Option<Timestamp> {
        self.windows.as_ref().filter(|w| w.status == Some(WindowStatus::Rejected))?.resets_at
    }
}

/// The last line of standard error that says something, cleaned.
pub fn stderr_line(stderr: &str) -> String {
    let clean = text::scrub(stderr);
    let line = clean.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    text::fit(line, 300)
}

/// Whether the CLI ended over its own arguments, which no further attempt mends.
fn refuses_its_flags(stderr: &str) -> bool {
    let first = text::first_line(stderr, 200);
    first.to_ascii_lowercase().starts_with("error:") || first.contains("cannot be used with root")
}

#[cfg(test)]
mod tests;
