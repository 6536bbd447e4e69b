//! The shapes of a request and of an answer, read leniently: unknown fields, blocks and events are passed over.

use serde::{Deserialize, Serialize};

use crate::model;

/// Short names of models and what the API calls them, as in version 2.1.330 of the Claude Code CLI.
const ALIASES: [(&str, &str); 4] = [
    ("opus", "claude-opus-5-5"),
    ("sonnet", "claude-sonnet-5-5"),
    ("haiku", "claude-haiku-5-5"),
    ("fable", "claude-fable-5-2"),
];

/// The id behind a short name; the API knows ids only. What is no short name stays as it is.
pub fn full_id(model: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == model).map_or(model, |(_, id)| id)
}

/// A call to `/v1/messages`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    /// Full model id.
    pub model: String,
    /// The most tokens the answer may have.
    pub max_tokens: u32,
    /// System text, the part that never changes first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<SystemBlock>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// What the answer must look like, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_config: Option<OutputConfig>,
    /// Set by the client: whether the answer comes as a stream.
    pub stream: bool,
}

impl Request {
    /// A call with one user message and nothing else.
    pub fn new(model: impl Into<String>, max_tokens: u32, user: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            max_tokens,
            system: Vec::new(),
            messages: vec![Message { role: Role::User, content: user.into() }],
            output_config: None,
            stream: false,
        }
    }

    /// Adds system text that is kept in the cache together with everything before it.
    #[must_use]
    pub fn with_cached_system(mut self, text: impl Into<String>) -> Self {
        self.system.push(SystemBlock::new(text, Some(CacheControl::ephemeral())));
        self
    }

    /// Adds system text that is sent anew each time.
    #[must_use]
    pub fn with_system(mut self, text: impl Into<String>) -> Self {
        self.system.push(SystemBlock::new(text, None));
        self
    }

    /// Asks for an answer that is JSON of this schema.
    #[must_use]
    pub fn with_schema(mut self, schema: serde_json::Value) -> Self {
        self.output_config.get_or_insert_default().format = Some(Format { kind: "json_schema", schema });
        self
    }

    /// Says how hard the model thinks: `low`, `medium`, `high`.
    #[must_use]
    pub fn with_effort(mut self, effort: &'static str) -> Self {
        self.output_config.get_or_insert_default().effort = Some(effort);
        self
    }
}

/// One block of system text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SystemBlock {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The text.
    pub text: String,
    /// Where the cached prefix ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
}

impl SystemBlock {
    /// A block of text.
    pub fn new(text: impl Into<String>, cache_control: Option<CacheControl>) -> Self {
        Self { kind: "text", text: text.into(), cache_control }
    }
}

/// Marks the end of a prefix that the server keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
    /// `1h`; five minutes where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl CacheControl {
    /// Kept for five minutes after its last use.
    pub fn ephemeral() -> Self {
        Self { kind: "ephemeral", ttl: None }
    }

    /// Kept for one hour after its last use, at a higher price to write.
    pub fn hour() -> Self {
        Self { kind: "ephemeral", ttl: Some("1h") }
    }
}

/// Whose turn a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The caller.
    User,
    /// The model.
    Assistant,
}

/// One turn of the conversation, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Whose turn.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// What the answer must look like.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OutputConfig {
    /// How hard the model thinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<&'static str>,
    /// The format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// A JSON schema for the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Format {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The schema.
    pub schema: serde_json::Value,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It had said what it wanted to say.
    EndTurn,
    /// It ran into `max_tokens`.
    MaxTokens,
    /// It met a stop sequence.
    StopSequence,
    /// It wants a tool.
    ToolUse,
    /// The server paused a long turn.
    PauseTurn,
    /// It refused.
    Refusal,
    /// The conversation filled the model's window.
    ModelContextWindowExceeded,
    /// A word we do not know.
    #[serde(other)]
    Unknown,
}

impl StopReason {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::EndTurn => "end_turn",
            Self::MaxTokens => "max_tokens",
            Self::StopSequence => "stop_sequence",
            Self::ToolUse => "tool_use",
            Self::PauseTurn => "pause_turn",
            Self::Refusal => "refusal",
            Self::ModelContextWindowExceeded => "model_context_window_exceeded",
            Self::Unknown => "unknown",
        }
    }
}

/// One block of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Text.
    Text {
        /// The text so far.
        #[serde(default)]
        text: String,
    },
    /// Anything else; we offer no tools, so nothing here needs an answer.
    #[serde(other)]
    Other,
}

/// Token counts as the server sends them: any of them may be missing, and later ones replace earlier ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<Lifetimes>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Lifetimes {
    ephemeral_1h_input_tokens: Option<u64>,
}

impl Counts {
    /// Replaces in `usage` what these counts say; what they leave out stays.
    pub fn apply(&self, usage: &mut model::Usage) {
        let pairs = [
            (self.input_tokens, &mut usage.input_tokens),
            (self.output_tokens, &mut usage.output_tokens),
            (self.cache_read_input_tokens, &mut usage.cache_read_input_tokens),
            (self.cache_creation_input_tokens, &mut usage.cache_creation_input_tokens),
            (self.cache_creation.and_then(|l| l.ephemeral_1h_input_tokens), &mut usage.cache_creation_1h_input_tokens),
        ];
        for (count, place) in pairs {
            if let Some(count) = count {
                *place = count;
            }
        }
    }
}

/// A message as the server sends it, whole or as the head of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WireMessage {
    /// The server's id of the message.
    #[serde(default)]
    pub id: String,
    /// The model that answers.
    #[serde(default)]
    pub model: String,
    /// Its blocks; none yet at the head of a stream.
    #[serde(default)]
    pub content: Vec<Block>,
    /// Why it stopped, once it has.
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// Tokens so far.
    #[serde(default)]
    pub usage: Option<Counts>,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The head of the answer.
    MessageStart {
        /// Its id, model and first counts.
        message: WireMessage,
    },
    /// A block opens.
    ContentBlockStart {
        /// Its place in the answer.
        index: usize,
        /// What it is.
        content_block: Block,
    },
    /// A block grows.
    ContentBlockDelta {
        /// Its place in the answer.
        index: usize,
        /// By what.
        delta: Delta,
    },
    /// A block is complete.
    ContentBlockStop {
        /// Its place in the answer.
        index: usize,
    },
    /// The answer as a whole changes: stop reason, final counts.
    MessageDelta {
        /// The change.
        delta: MessageDelta,
        /// Counts, cumulative.
        #[serde(default)]
        usage: Option<Counts>,
    },
    /// The answer is complete.
    MessageStop,
    /// A sign of life.
    Ping,
    /// An error after the status line said 200.
    Error {
        /// What is wrong.
        error: ErrorDetail,
    },
    /// An event we do not know.
    #[serde(other)]
    Unknown,
}

/// What a block grows by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Delta {
    /// Text.
    TextDelta {
        /// The new text.
        text: String,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// What changes at the end of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MessageDelta {
    /// Why the model stopped.
    pub stop_reason: Option<StopReason>,
}

/// The inside of an error body or of an `error` event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// `rate_limit_error`, `overloaded_error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// For a person.
    pub message: String,
    /// More, where there is more.
    pub details: Option<ErrorMore>,
}

/// The part of an error that tells a spend cap from a rate limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ErrorMore {
    /// `enforced_spend_limit_reached`, …
    pub error_code: Option<String>,
}

/// An error body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// Its inside.
    pub error: ErrorDetail,
}

/// A complete answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The server's id of the message.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// Its blocks, in order.
    pub content: Vec<Block>,
    /// Why the model stopped.
    pub stop_reason: Option<StopReason>,
    /// Tokens.
    pub usage: model::Usage,
    /// The server's id of the request, for its support.
    pub request_id: Option<String>,
}

impl Reply {
    /// The text of all text blocks, joined as they came.
    pub fn text(&self) -> String {
        self.content
            .iter()
            .filter_map(|block| match block {
                Block::Text { text } => Some(text.as_str()),
                Block::Other => None,
            })
            .collect()
    }

    /// Takes in one event; events that do not fit change nothing.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::MessageStart { message } => self.start(message.clone()),
            Event::ContentBlockStart { index, content_block } => {
                // An answer's blocks come in order; an index far beyond them would only reserve memory.
                if *index == self.content.len() {
                    self.content.push(content_block.clone());
                }
            }
            Event::ContentBlockDelta { index, delta } => {
                if let (Some(Block::Text { text }), Delta::TextDelta { text: more }) =
                    (self.content.get_mut(*index), delta)
                {
                    text.push_str(more);
                }
            }
            Event::MessageDelta { delta, usage } => {
                self.stop_reason = delta.stop_reason.or(self.stop_reason);
                if let Some(counts) = usage {
                    counts.apply(&mut self.usage);
                }
            }
            Event::ContentBlockStop { .. }
            | Event::MessageStop
            | Event::Ping
            | Event::Error { .. }
            | Event::Unknown => {}
        }
    }

    /// Takes a message over whole; the request's id stays.
    pub(crate) fn start(&mut self, message: WireMessage) {
        self.id = message.id;
        self.model = message.model;
        self.content = message.content;
        self.stop_reason = message.stop_reason;
        if let Some(counts) = message.usage {
            counts.apply(&mut self.usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_the_cached_prefix_first_and_the_schema_where_the_api_looks_for_it() {
        let request = Request::new("m", 100, "hello")
            .with_cached_system("fixed")
            .with_system("today")
            .with_schema(json!({"type": "object"}));
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({
                "model": "m", "max_tokens": 100, "stream": false,
                "system": [
                    {"type": "text", "text": "fixed", "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": "today"},
                ],
                "messages": [{"role": "user", "content": "hello"}],
                "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            })
        );
    }

    #[test]
    fn unknown_blocks_events_reasons_and_fields_are_passed_over() {
        let read = |value: serde_json::Value| serde_json::from_value::<Event>(value).unwrap();
        assert_eq!(read(json!({"type": "brand_new", "x": 1})), Event::Unknown);
        let block =
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}});
        assert_eq!(read(block), Event::ContentBlockStart { index: 0, content_block: Block::Other });
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": "moon", "new": {}}, "usage": null});
        let Event::MessageDelta { delta, usage: None } = read(delta) else { panic!() };
        assert_eq!(delta.stop_reason, Some(StopReason::Unknown));
    }

    #[test]
    fn later_counts_replace_earlier_ones_and_missing_ones_change_nothing() {
        let mut usage = model::Usage::default();
        let counts = |value| serde_json::from_value::<Counts>(value).unwrap();
        counts(json!({"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 700,
            "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 200}}))
        .apply(&mut usage);
        counts(json!({"output_tokens": 42, "cache_read_input_tokens": null})).apply(&mut usage);
        assert_eq!(usage.input_tokens, 5);
        assert_eq!(usage.output_tokens, 42);
        assert_eq!(usage.cache_creation_1h_input_tokens, 200);
        assert_eq!(usage.total(), 747);
    }

    #[test]
    fn a_block_with_an_absurd_index_reserves_nothing() {
        let mut reply = Reply::default();
        reply.apply(&Event::ContentBlockStart { index: usize::MAX, content_block: Block::Other });
        reply.apply(&Event::ContentBlockDelta { index: 7, delta: Delta::TextDelta { text: "x".into() } });
        assert_eq!(reply.content, []);
    }
}
