//! One line of stream-json as a type.
//!
//! Owns [`Event`] and how it is picked out of a JSON object. Must not know what follows from an event. Its one
//! surprise: nothing is required; a field that is missing or of another type is absent, an unknown kind is kept whole.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

pub use super::limited::RateLimit;
use crate::model::{MicroUsd, Permit, Question, Reply, Usage, report::Retrying, text};

/// What one line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `system/init`: a turn begins.
    Init(Init),
    /// `assistant`: one content block of a message, usually.
    Assistant(Said),
    /// `user`: results of tools, or injected text.
    User(Said),
    /// `result`: a turn ended.
    Result(Box<Answer>),
    /// `stream_event`: a piece of the API's own stream.
    Stream(Delta),
    /// `system/api_retry`: the engine waits and asks again.
    Retry(Retry),
    /// `rate_limit_event`: what the subscription allows.
    RateLimit(RateLimit),
    /// `system/task_started`: a sub-agent or a background command began.
    TaskStarted(SubTask),
    /// `system/task_notification`: it ended.
    TaskEnded {
        /// Its id.
        id: String,
        /// How it ended: `completed`, `failed`, `stopped`.
        status: String,
        /// The tool call that started it.
        tool_use: Option<String>,
    },
    /// `control_request/can_use_tool`: it wants to use a tool, and waits for an answer.
    Asks(Asks),
    /// `control_cancel_request`: it takes back what it has asked for; the request's id.
    Withdraws(String),
    /// Anything else.
    Other {
        /// Its `type`.
        kind: String,
        /// Its `subtype`.
        subtype: Option<String>,
        /// All of it.
        fields: Map<String, Value>,
    },
}

/// A tool that waits for a yes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asks {
    /// The request's id; the answer carries it.
    pub request: String,
    /// The tool.
    pub tool: String,
    /// Its arguments; a yes sends them back.
    pub input: Value,
    /// What the CLI says of it.
    pub about: String,
    /// The sub-agent that wants it.
    pub agent: Option<String>,
}

/// The tool by which the model asks a person something.
pub const QUESTION: &str = "AskUserQuestion";

impl Asks {
    /// What it wants to know, where it is a question.
    pub fn questions(&self) -> Vec<Question> {
        if self.tool == QUESTION { Question::read(&self.input) } else { Vec::new() }
    }

    /// `Bash rm -rf build`.
    pub fn line(&self, cwd: Option<&str>) -> String {
        tool_line(&self.tool, &self.input, cwd)
    }

    /// The answer that the CLI reads on its standard input, one line.
    pub fn answer(&self, permit: &Permit) -> String {
        let response = match permit {
            Permit::Allowed => json!({ "behavior": "allow", "updatedInput": self.input }),
            Permit::Denied { why } => json!({ "behavior": "deny", "message": why }),
            Permit::Answered { replies } => json!({ "behavior": "allow", "updatedInput": self.answered(replies) }),
        };
        let response = json!({ "subtype": "success", "request_id": self.request, "response": response });
        format!("{}\n", json!({ "type": "control_response", "response": response }))
    }

    /// The arguments with the answers in them: by the words of the question, in the CLI's own words for its choices.
    fn answered(&self, replies: &[Reply]) -> Value {
        let mut input = self.input.clone();
        let questions = input.get("questions").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut answers = Map::new();
        for (question, reply) in questions.iter().zip(replies) {
            let Some(text) = question.get("question").and_then(Value::as_str) else { continue };
            let label = |at: &usize| question.get("options")?.get(*at)?.get("label")?.as_str();
            let words = Some(reply.words.as_str()).filter(|words| !words.is_empty());
            let said: Vec<&str> = reply.chosen.iter().filter_map(label).chain(words).collect();
            answers.insert(text.to_owned(), Value::from(said.join(", ")));
        }
        if let Some(fields) = input.as_object_mut() {
            fields.insert("answers".to_owned(), Value::Object(answers));
        }
        input
    }
}

/// The start of a turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Init {
    /// The engine's session.
    pub session: Option<String>,
    /// The model's full id.
    pub model: Option<String>,
    /// Where it works.
    pub cwd: Option<String>,
    /// The CLI's version.
    pub version: Option<String>,
    /// The tools it offers to the model.
    pub tools: Vec<String>,
}

/// A message, or one block of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// The message's id; several lines may share it.
    pub message: Option<String>,
    /// The model, `<synthetic>` where the CLI speaks itself.
    pub model: Option<String>,
    /// What it holds.
    pub blocks: Vec<Block>,
    /// Tokens so far; the same on every line of one message.
    pub usage: Option<Usage>,
    /// The tool call this belongs to; `None` in the main loop.
    pub parent: Option<String>,
    /// The class of an API error, where the CLI made the message itself.
    pub error: Option<String>,
    /// What the sub-agent is for.
    pub task: Option<String>,
    /// The tool's answer only says that it began, in the background.
    pub launched: bool,
}

/// A content block.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Text.
    Text(String),
    /// Thinking, often empty.
    Thinking(String),
    /// A tool call.
    ToolUse {
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        input: Value,
    },
    /// The answer of a tool.
    ToolResult {
        /// The call's id.
        id: String,
        /// Its text.
        text: String,
        /// It failed.
        failed: bool,
    },
    /// Another kind, by name.
    Other(String),
}

/// The end of a turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// `success`, `error_max_turns`, …
    pub subtype: String,
    /// The flag that counts.
    pub is_error: bool,
    /// The text.
    pub text: Option<String>,
    /// What went wrong, where the subtype is an error.
    pub errors: Vec<String>,
    /// HTTP status of the API, where it said no.
    pub status: Option<u16>,
    /// The API's error type, in newer versions.
    pub api_error: Option<String>,
    /// The API's error code, in newer versions and where it gave one.
    pub api_code: Option<String>,
    /// Why the loop ended.
    pub terminal: Option<String>,
    /// Why the model stopped.
    pub stop: Option<String>,
    /// Turns taken, where it says so.
    pub turns: Option<u64>,
    /// The engine's session.
    pub session: Option<String>,
    /// Cost of this process so far, by the engine's own price table.
    pub cost: Option<MicroUsd>,
    /// Tokens of the main loop of this turn.
    pub usage: Option<Usage>,
    /// Tokens by model, sub-agents included, of this process so far.
    pub by_model: Vec<(String, Usage)>,
    /// Tools that were refused.
    pub denials: Vec<String>,
    /// The structured answer.
    pub structured: Option<Value>,
}

/// A piece of the API's stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// `message_start`, `content_block_start`, `message_delta`, …
    pub kind: String,
    /// `message_start`: the message's id.
    pub message: Option<String>,
    /// `content_block_start`: `text`, `thinking`, `tool_use`.
    pub block: Option<String>,
    /// `content_block_delta`: more of what is said.
    pub text: Option<String>,
    /// Tokens, where it says so.
    pub usage: Option<Usage>,
    /// The tool call this belongs to.
    pub parent: Option<String>,
}

/// A wait before another request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retry {
    /// Which, from 1.
    pub attempt: u64,
    /// How many there may be.
    pub max: u64,
    /// Milliseconds to wait.
    pub delay_ms: u64,
    /// HTTP status; `None` where no answer came.
    pub status: Option<u16>,
    /// The class of the error.
    pub error: Option<String>,
}

impl Retry {
    /// `429`, `no answer`.
    fn why(&self) -> String {
        match (self.status, &self.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) if error != "unknown" => text::first_line(error, 40),
            (None, _) => "no answer".to_owned(),
        }
    }

    /// `waits: 429, attempt 2 of 4`.
    pub fn line(&self) -> String {
        format!("waits: {}, attempt {} of {}", self.why(), self.attempt, self.max)
    }

    /// The same as a worker tells it, heard at `now`.
    pub fn told(&self, now: Timestamp) -> Retrying {
        let wait = SignedDuration::from_millis(i64::try_from(self.delay_ms).unwrap_or(i64::MAX));
        let at = now.checked_add(wait.min(SignedDuration::from_hours(24))).unwrap_or(now);
        Retrying { n: self.attempt, of: self.max, why: self.why(), status: self.status, at }
    }
}

/// Work beside the main loop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubTask {
    /// Its id.
    pub id: String,
    /// The tool call that started it.
    pub tool_use: Option<String>,
    /// `local_agent`, `local_bash`, …
    pub kind: String,
    /// The sub-agent's type.
    pub agent: Option<String>,
    /// What it is for.
    pub description: String,
}

impl SubTask {
    /// Whether a model works in it.
    pub fn is_agent(&self) -> bool {
        self.kind == "local_agent" || self.agent.is_some()
    }

    /// `general-purpose: reads the roster`.
    pub fn name(&self) -> String {
        let description = text::first_line(&self.description, 80);
        match self.agent.as_deref() {
            Some(agent) if !description.is_empty() => format!("{}: {description}", text::first_line(agent, 40)),
            Some(agent) => text::first_line(agent, 40),
            None => description,
        }
    }
}

fn string(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key)?.as_str().map(str::to_owned)
}

fn number(map: &Map<String, Value>, key: &str) -> Option<u64> {
    let value = map.get(key)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
    value.as_u64().or_else(|| value.as_f64().map(|f| f as u64))
}

fn status(map: &Map<String, Value>, key: &str) -> Option<u16> {
    number(map, key).and_then(|n| u16::try_from(n).ok())
}

fn strings(map: &Map<String, Value>, key: &str) -> Vec<String> {
    let items = map.get(key).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Tokens as the API writes them.
fn api_usage(value: Option<&Value>) -> Option<Usage> {
    let map = value?.as_object()?;
    let n = |key| number(map, key).unwrap_or(0);
    let hour = map.get("cache_creation").and_then(Value::as_object);
    Some(Usage {
        input_tokens: n("input_tokens"),
        output_tokens: n("output_tokens"),
        cache_read_input_tokens: n("cache_read_input_tokens"),
        cache_creation_input_tokens: n("cache_creation_input_tokens"),
        cache_creation_1h_input_tokens: hour.and_then(|m| number(m, "ephemeral_1h_input_tokens")).unwrap_or(0),
    })
}

/// Tokens as `modelUsage` writes them.
fn model_usage(map: &Map<String, Value>) -> Usage {
    let n = |key| number(map, key).unwrap_or(0);
    Usage {
        input_tokens: n("inputTokens"),
        output_tokens: n("outputTokens"),
        cache_read_input_tokens: n("cacheReadInputTokens"),
        cache_creation_input_tokens: n("cacheCreationInputTokens"),
        cache_creation_1h_input_tokens: n("cacheCreationEphemeral1hInputTokens"),
    }
}

/// The text of a tool's answer: a string, or text blocks.
fn result_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let texts: Vec<&str> = blocks.iter().filter_map(|b| b.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    }
}

fn block(value: &Value) -> Option<Block> {
    let map = value.as_object()?;
    let kind = string(map, "type")?;
    Some(match kind.as_str() {
        "text" => Block::Text(string(map, "text").unwrap_or_default()),
        "thinking" => Block::Thinking(string(map, "thinking").unwrap_or_default()),
        "tool_use" => Block::ToolUse {
            id: string(map, "id").unwrap_or_default(),
            name: string(map, "name").unwrap_or_default(),
            input: map.get("input").cloned().unwrap_or_default(),
        },
        "tool_result" => Block::ToolResult {
            id: string(map, "tool_use_id").unwrap_or_default(),
            text: result_text(map.get("content")),
            failed: map.get("is_error").and_then(Value::as_bool).unwrap_or(false),
        },
        _ => Block::Other(kind),
    })
}

fn said(map: &Map<String, Value>) -> Said {
    let empty = Map::new();
    let message = map.get("message").and_then(Value::as_object).unwrap_or(&empty);
    let blocks = match message.get("content") {
        Some(Value::String(text)) => vec![Block::Text(text.clone())],
        Some(Value::Array(blocks)) => blocks.iter().filter_map(block).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    };
    Said {
        message: string(message, "id"),
        model: string(message, "model"),
        blocks,
        usage: api_usage(message.get("usage")),
        parent: string(map, "parent_tool_use_id"),
        error: string(map, "error"),
        task: string(map, "task_description"),
        launched: map.get("tool_use_result").and_then(|r| r.get("isAsync")?.as_bool()).unwrap_or(false),
    }
}

fn answer(map: &Map<String, Value>) -> Answer {
    let by_model = map.get("modelUsage").and_then(Value::as_object);
    let denials = map.get("permission_denials").and_then(Value::as_array);
    Answer {
        subtype: string(map, "subtype").unwrap_or_default(),
        is_error: map.get("is_error").and_then(Value::as_bool).unwrap_or(false),
        text: string(map, "result"),
        errors: strings(map, "errors"),
        status: status(map, "api_error_status"),
        api_error: string(map, "api_error_type"),
        api_code: string(map, "api_error_code"),
        terminal: string(map, "terminal_reason"),
        stop: string(map, "stop_reason"),
        turns: number(map, "num_turns"),
        session: string(map, "session_id"),
        cost: map.get("total_cost_usd").and_then(Value::as_f64).map(MicroUsd::from_dollars),
        usage: api_usage(map.get("usage")),
        by_model: by_model
            .into_iter()
            .flatten()
            .filter_map(|(model, usage)| Some((model.clone(), model_usage(usage.as_object()?))))
            .collect(),
        denials: denials.into_iter().flatten().filter_map(|d| string(d.as_object()?, "tool_name")).collect(),
        structured: map.get("structured_output").filter(|v| !v.is_null()).cloned(),
    }
}

fn delta(map: &Map<String, Value>) -> Delta {
    let empty = Map::new();
    let event = map.get("event").and_then(Value::as_object).unwrap_or(&empty);
    let message = event.get("message").and_then(Value::as_object);
    Delta {
        kind: string(event, "type").unwrap_or_default(),
        message: message.and_then(|m| string(m, "id")),
        block: event.get("content_block").and_then(Value::as_object).and_then(|b| string(b, "type")),
        text: event.get("delta").and_then(Value::as_object).and_then(|d| string(d, "text")),
        usage: api_usage(event.get("usage").or_else(|| message?.get("usage"))),
        parent: string(map, "parent_tool_use_id"),
    }
}

impl Event {
    /// Reads one object; `None` when it has no `type`.
    pub fn read(fields: Map<String, Value>) -> Option<Self> {
        let kind = string(&fields, "type")?;
        let subtype = string(&fields, "subtype");
        let map = &fields;
        Some(match (kind.as_str(), subtype.as_deref().unwrap_or_default()) {
            ("assistant", _) => Self::Assistant(said(map)),
            ("user", _) => Self::User(said(map)),
            ("result", _) => Self::Result(Box::new(answer(map))),
            ("stream_event", _) => Self::Stream(delta(map)),
            ("rate_limit_event", _) => {
                let info = map.get("rate_limit_info").and_then(Value::as_object)?;
                Self::RateLimit(RateLimit::read(info))
            }
            ("control_request", _) if asked(map, "subtype").as_deref() == Some("can_use_tool") => Self::Asks(Asks {
                request: string(map, "request_id").unwrap_or_default(),
                tool: asked(map, "tool_name").unwrap_or_default(),
                input: map.get("request").and_then(|r| r.get("input")).cloned().unwrap_or_default(),
                about: asked(map, "description").unwrap_or_default(),
                agent: asked(map, "agent_id"),
            }),
            ("control_cancel_request", _) => Self::Withdraws(string(map, "request_id").unwrap_or_default()),
            ("system", "init") => Self::Init(Init {
                session: string(map, "session_id"),
                model: string(map, "model"),
                cwd: string(map, "cwd"),
                version: string(map, "claude_code_version"),
                tools: strings(map, "tools"),
            }),
            ("system", "api_retry") => Self::Retry(Retry {
                attempt: number(map, "attempt").unwrap_or(0),
                max: number(map, "max_retries").unwrap_or(0),
                delay_ms: number(map, "retry_delay_ms").unwrap_or(0),
                status: status(map, "error_status"),
                error: string(map, "error"),
            }),
            ("system", "task_started") => Self::TaskStarted(SubTask {
                id: string(map, "task_id").unwrap_or_default(),
                tool_use: string(map, "tool_use_id"),
                kind: string(map, "task_type").unwrap_or_default(),
                agent: string(map, "subagent_type"),
                description: string(map, "description").unwrap_or_default(),
            }),
            ("system", "task_notification") => Self::TaskEnded {
                id: string(map, "task_id").unwrap_or_default(),
                status: string(map, "status").unwrap_or_default(),
                tool_use: string(map, "tool_use_id"),
            },
            _ => Self::Other { kind, subtype, fields },
        })
    }
}

/// A word of what a control request asks for.
fn asked(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get("request")?.get(key)?.as_str().map(str::to_owned)
}

/// Whether a tool call starts a sub-agent; the tool has two names.
pub fn starts_agent(tool: &str) -> bool {
    matches!(tool, "Agent" | "Task")
}

/// The arguments that are worth a line of their own, best first.
const TELLING: [&str; 9] =
    ["file_path", "notebook_path", "command", "pattern", "url", "query", "path", "description", "prompt"];

/// The arguments of a tool call that [`tool_line`] leaves out: `timeout=5000 content="# Notes…"`.
pub fn tool_arguments(input: &Value) -> String {
    let Some(fields) = input.as_object() else { return String::new() };
    let told = TELLING.iter().find(|key| fields.get(**key).is_some_and(Value::is_string));
    let each = fields.iter().filter(|(key, _)| Some(&key.as_str()) != told).take(8).map(|(key, value)| {
        let value =
            value.as_str().map_or_else(|| value.to_string(), |text| format!("{:?}", text::first_line(text, 60)));
        format!("{}={}", text::first_line(key, 30), text::first_line(&value, 70))
    });
    each.collect::<Vec<_>>().join(" ")
}

/// One line for a tool call: `Write classes/junior.md`, paths relative to `cwd` where they lie below it.
pub fn tool_line(name: &str, input: &Value, cwd: Option<&str>) -> String {
    let said = TELLING.iter().find_map(|key| input.get(key)?.as_str()).unwrap_or_default();
    let said = match cwd.and_then(|cwd| said.strip_prefix(cwd)?.strip_prefix('/')) {
        Some(inside) => inside,
        None => said,
    };
    let name = text::first_line(name, 40);
    if starts_agent(&name) {
        let kind = input.get("subagent_type").and_then(Value::as_str).unwrap_or("sub-agent");
        let description = input.get("description").and_then(Value::as_str).unwrap_or(said);
        return format!("{name} {}: {}", text::first_line(kind, 40), text::first_line(description, 120));
    }
    if name == QUESTION {
        let asked = input.get("questions").and_then(|all| all.get(0)?.get("question")?.as_str()).unwrap_or_default();
        return format!("{name} {}", text::first_line(asked, 200)).trim_end().to_owned();
    }
    let said = text::first_line(said, 200);
    if said.is_empty() { name } else { format!("{name} {said}") }
}
