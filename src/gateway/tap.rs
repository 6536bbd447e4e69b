//! Reads usage out of an answer while it passes.
//!
//! Owns the little it must understand: the usage of `message_start` and `message_delta`, or of a whole JSON message.
//! Sees every byte after it is on its way and never changes or holds one. Its one surprise: usage is *replaced* field by
//! field, never added up, because the server's numbers are cumulative; only `usage.iterations` are summed.

use bytes::Bytes;
use serde::Deserialize;

use crate::model::{Modifiers, Usage, text};

/// The longest line of a stream, or JSON body, that is looked into, in bytes. Everything longer is only passed on.
const LOOKED_INTO: usize = 4 << 20;
/// As much of an error's body is looked into, in bytes.
const ERROR_AT_MOST: usize = 64 << 10;
/// No honest count is higher; keeps sums far from overflow.
const HIGHEST: u64 = 1 << 40;
/// Bytes of a delta event that are not text, roughly.
const ENVELOPE: usize = 90;

/// What passed, as far as it was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The last value of each class.
    pub(super) usage: Usage,
    /// Some usage was seen at all.
    pub(super) counted: bool,
    /// The model that served the call.
    pub(super) model: Option<String>,
    /// The message's id.
    pub(super) message_id: Option<String>,
    /// What changes the price.
    pub(super) modifiers: Modifiers,
    /// The answer is whole.
    pub(super) whole: bool,
    /// The error event that ended a stream, or the error that is the whole answer.
    pub(super) error: Option<Told>,
    /// Text produced so far, in bytes; for a guess when the stream breaks off.
    pub(super) produced: usize,
}

/// An error in the API's shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Such as `overloaded_error`.
    pub(super) kind: String,
    /// More of a kind, for programs.
    pub(super) code: Option<String>,
    /// For people; cleaned and short.
    pub(super) message: String,
}

/// Listens to one answer's body.
#[derive(Debug)]
pub(super) enum Tap {
    /// Server-sent events.
    Stream(Box<Lines>),
    /// One JSON document.
    Json(Vec<u8>),
    /// An answer that is no success.
    Error(Vec<u8>),
    /// An answer that is too long to look into, or compressed.
    Long,
    /// Nothing that is understood.
    Deaf,
}

/// The state between two pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Lines {
    seen: Seen,
    line: Vec<u8>,
    /// The current line outgrew [`LOOKED_INTO`].
    overlong: bool,
    /// The last byte was `\r`: a `\n` belongs to it.
    after_cr: bool,
    event: Vec<u8>,
    data: Vec<u8>,
    produced_now: usize,
}

impl Tap {
    /// Listens as fits the answer's content type and encoding.
    pub(super) fn new(content_type: &str, encoding: &str) -> Self {
        if !matches!(encoding, "" | "identity") {
            // Asked for plain text, and got something else: passed on, and charged by guess.
            Self::Long
        } else if content_type.starts_with("text/event-stream") {
            Self::Stream(Box::default())
        } else if content_type.starts_with("application/json") {
            Self::Json(Vec::new())
        } else {
            Self::Deaf
        }
    }

    /// Hears one piece.
    pub(super) fn hear(&mut self, piece: &Bytes) {
        match self {
            Self::Stream(lines) => lines.hear(piece),
            Self::Json(body) if body.len() + piece.len() <= LOOKED_INTO => body.extend_from_slice(piece),
            Self::Json(_) => *self = Self::Long,
            // What tells the meaning of an error stands at its beginning, and errors are short.
            Self::Error(body) => body.extend(piece.iter().take(ERROR_AT_MOST.saturating_sub(body.len()))),
            Self::Long | Self::Deaf => {}
        }
    }

    /// The uncached input of the call in tokens, as soon as the server has said it.
    pub(super) fn uncached_input(&self) -> Option<u64> {
        let Self::Stream(lines) = self else { return None };
        let usage = &lines.seen.usage;
        lines.seen.counted.then(|| usage.input_tokens + usage.cache_creation_input_tokens)
    }

    /// What was understood; `ended` says that the body came to its own end.
    pub(super) fn seen(&self, ended: bool) -> Seen {
        match self {
            Self::Stream(lines) => lines.seen.clone(),
            Self::Json(body) if ended => json(body),
            Self::Json(body) => Seen { produced: body.len(), ..Seen::default() },
            Self::Error(body) => Seen { error: error(body), ..Seen::default() },
            Self::Long => Seen { whole: ended, ..Seen::default() },
            Self::Deaf => Seen::default(),
        }
    }
}

impl Lines {
    fn hear(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(at) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            let (head, tail) = rest.split_at(at);
            let (end, tail) = tail.split_at(1);
            if end == b"\n" && self.after_cr && head.is_empty() {
                self.after_cr = false;
            } else {
                self.grow(head);
                self.after_cr = end == b"\r";
                self.line();
            }
            rest = tail;
        }
        if !rest.is_empty() {
            self.after_cr = false;
            self.grow(rest);
        }
    }

    fn grow(&mut self, bytes: &[u8]) {
        if self.overlong || self.line.len() + bytes.len() > LOOKED_INTO {
            self.overlong = true;
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.overlong) {
            return;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if text.is_empty() {
            self.dispatch();
        } else if let Some(name) = field(text, b"event:") {
            self.event = name.to_vec();
        } else if let Some(data) = field(text, b"data:") {
            if self.event.starts_with(b"content_block_") {
                self.produced_now += data.len();
            } else if self.data.len() + data.len() <= LOOKED_INTO {
                self.data.extend_from_slice(data);
            }
        }
        // Keeps the memory of the line for the next one.
        self.line = line;
        self.line.clear();
    }

    fn dispatch(&mut self) {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        let produced = std::mem::take(&mut self.produced_now);
        if event == b"content_block_delta" {
            self.seen.produced += produced.saturating_sub(ENVELOPE);
        }
        if data.is_empty() {
            return;
        }
        let Ok(event) = serde_json::from_slice::<Event>(&data) else { return };
        match event.kind.as_str() {
            "message_start" => {
                if let Some(message) = event.message {
                    self.seen.message(message);
                }
            }
            "message_delta" => self.seen.count(event.usage),
            "message_stop" => self.seen.whole = true,
            "content_block_delta" => self.seen.produced += data.len().saturating_sub(ENVELOPE),
            "error" => self.seen.error = Some(event.error.map_or_else(Told::default, WireError::told)),
            _ => {}
        }
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

fn json(body: &[u8]) -> Seen {
    let mut seen = Seen::default();
    if let Ok(message) = serde_json::from_slice::<Message>(body) {
        seen.whole = true;
        seen.message(message);
    }
    seen
}

fn error(body: &[u8]) -> Option<Told> {
    let event = serde_json::from_slice::<Event>(body).ok()?;
    event.error.map(WireError::told)
}

impl Seen {
    fn message(&mut self, message: Message) {
        let short = |word: String| text::clip(&text::scrub(&word), 100).into_owned();
        self.model = message.model.map(short).or(self.model.take());
        self.message_id = message.id.map(short).or(self.message_id.take());
        self.count(message.usage);
    }

    fn count(&mut self, usage: Option<WireUsage>) {
        let Some(wire) = usage else { return };
        self.counted = true;
        wire.replace(&mut self.usage);
        wire.modify(&mut self.modifiers);
        if !wire.iterations.is_empty() {
            let mut sum = Usage::default();
            for iteration in &wire.iterations {
                let mut one = Usage::default();
                iteration.replace(&mut one);
                sum += one;
            }
            self.usage = sum;
        }
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    message: Option<Message>,
    usage: Option<WireUsage>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Message {
    id: Option<String>,
    model: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireError {
    #[serde(rename = "type")]
    kind: String,
    message: String,
    details: Option<WireDetails>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireDetails {
    error_code: Option<String>,
}

impl WireError {
    fn told(self) -> Told {
        let code = self.details.and_then(|details| details.error_code);
        Told { kind: self.kind, code, message: text::first_line(&self.message, 300) }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<WireCreation>,
    service_tier: Option<String>,
    inference_geo: Option<String>,
    speed: Option<String>,
    server_tool_use: Option<WireTools>,
    #[serde(deserialize_with = "or_none")]
    iterations: Vec<Self>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireTools {
    web_search_requests: Option<u64>,
}

/// Reads `null` as nothing.
fn or_none<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<WireUsage>, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

impl WireUsage {
    /// Puts what is given in the place of what was known.
    fn replace(&self, usage: &mut Usage) {
        let put = |slot: &mut u64, value: Option<u64>| {
            if let Some(value) = value {
                *slot = value.min(HIGHEST);
            }
        };
        put(&mut usage.input_tokens, self.input_tokens);
        put(&mut usage.output_tokens, self.output_tokens);
        put(&mut usage.cache_read_input_tokens, self.cache_read_input_tokens);
        put(&mut usage.cache_creation_input_tokens, self.cache_creation_input_tokens);
        let hour = self.cache_creation.as_ref().and_then(|c| c.ephemeral_1h_input_tokens);
        put(&mut usage.cache_creation_1h_input_tokens, hour);
    }

    /// The same for what changes the price. These words say that nothing does.
    fn modify(&self, modifiers: &mut Modifiers) {
        let put = |slot: &mut Option<String>, value: &Option<String>| {
            if let Some(value) = value {
                let value = text::clip(&text::scrub(value), 40).into_owned();
                *slot = Some(value).filter(|word| !matches!(&**word, "" | "standard" | "not_available"));
            }
        };
        put(&mut modifiers.service_tier, &self.service_tier);
        put(&mut modifiers.inference_geo, &self.inference_geo);
        put(&mut modifiers.speed, &self.speed);
        if let Some(searches) = self.server_tool_use.as_ref().and_then(|tools| tools.web_search_requests) {
            modifiers.web_searches = searches.min(HIGHEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-opus-5-5\",\"usage\":{\"input_tokens\":10,\"cache_creation_input_tokens\":30,\"cache_read_input_tokens\":400,\"cache_creation\":{\"ephemeral_5m_input_tokens\":10,\"ephemeral_1h_input_tokens\":20},\"output_tokens\":1}}}\n\n: a comment\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße ____________________________\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":55,\"input_tokens\":12}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    fn expected() -> Usage {
        Usage {
            input_tokens: 12,
            output_tokens: 55,
            cache_read_input_tokens: 400,
            cache_creation_input_tokens: 30,
            cache_creation_1h_input_tokens: 20,
        }
    }

    fn hear(pieces: &[&[u8]]) -> Seen {
        let mut tap = Tap::new("text/event-stream; charset=utf-8", "");
        for piece in pieces {
            tap.hear(&Bytes::copy_from_slice(piece));
        }
        tap.seen(true)
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_usage() {
        for text in
            [STREAM.to_owned(), STREAM.replace('\n', "\r\n"), STREAM.replace('\n', "\r"), format!("\u{feff}{STREAM}")]
        {
            let whole = hear(&[text.as_bytes()]);
            assert_eq!((whole.usage, whole.whole, whole.counted), (expected(), true, true), "{text:?}");
            assert_eq!(whole.model.as_deref(), Some("claude-opus-5-5"));
            assert!(whole.produced > 10 && whole.produced < 60, "{}", whole.produced);
            for at in 0..text.len() {
                let (head, tail) = text.as_bytes().split_at(at);
                assert_eq!(hear(&[head, tail]), whole, "cut at {at}");
            }
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(hear(&bytes), whole);
        }
    }

    #[test]
    fn a_stream_without_event_lines_is_understood_by_its_data() {
        let bare: String = STREAM.split_inclusive('\n').filter(|l| !l.starts_with("event:")).collect();
        let seen = hear(&[bare.as_bytes()]);
        assert_eq!((seen.usage, seen.whole), (expected(), true));
    }

    #[test]
    fn an_error_event_and_a_missing_end_are_told_apart_from_a_whole_answer() {
        let (head, _) = STREAM.split_once("event: message_delta").unwrap();
        let cut = hear(&[head.as_bytes()]);
        assert!(!cut.whole && cut.error.is_none() && cut.usage.input_tokens == 10);
        let error =
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
        let told = Told { kind: "overloaded_error".to_owned(), code: None, message: "x".to_owned() };
        assert_eq!(hear(&[head.as_bytes(), error.as_bytes()]).error, Some(told));
    }

    #[test]
    fn an_error_is_read_whole_and_anything_else_is_none() {
        let read = |body: &[u8]| {
            let mut tap = Tap::Error(Vec::new());
            for piece in body.chunks(5) {
                tap.hear(&Bytes::copy_from_slice(piece));
            }
            tap.seen(false).error
        };
        let body = br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow\u001b[2J down","details":{"error_code":"enforced_spend_limit_reached"}},"request_id":"r"}"#;
        let told = read(body).unwrap();
        assert_eq!(
            (told.kind.as_str(), told.code.as_deref()),
            ("rate_limit_error", Some("enforced_spend_limit_reached"))
        );
        assert!(told.message.starts_with("slow") && !told.message.contains('\u{1b}'), "{told:?}");
        for other in ["", "<html>", "[]", "{\"error\":7}", "{\"type\":\"error\"}"] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
        let mut long = Tap::Error(Vec::new());
        (0..100).for_each(|_| long.hear(&Bytes::from(vec![b'x'; 10_000])));
        assert!(matches!(long, Tap::Error(body) if body.len() == ERROR_AT_MOST));
    }

    #[test]
    fn a_json_answer_is_read_at_its_end_and_iterations_are_summed() {
        let mut tap = Tap::new("application/json", "identity");
        let body = br#"{"type":"message","model":"m","usage":{"input_tokens":1,"output_tokens":2,"iterations":[{"input_tokens":5,"output_tokens":6},{"input_tokens":1,"output_tokens":2}]}}"#;
        for piece in body.chunks(7) {
            tap.hear(&Bytes::copy_from_slice(piece));
        }
        assert!(!tap.seen(false).counted);
        let seen = tap.seen(true);
        assert_eq!((seen.usage.input_tokens, seen.usage.output_tokens, seen.whole), (6, 8, true));
        assert_eq!(seen.model.as_deref(), Some("m"));
    }

    #[test]
    fn what_changes_the_price_is_kept_in_the_servers_words_and_the_ordinary_is_nothing() {
        let stream = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"service_tier\":\"standard\",\"inference_geo\":\"us\",\"speed\":\"standard\"}}}\n\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9,\"speed\":\"fast\",\"server_tool_use\":{\"web_search_requests\":2,\"web_fetch_requests\":1}}}\n\n";
        let seen = hear(&[stream.as_bytes()]);
        let some = |word: &str| Some(word.to_owned());
        let expected =
            Modifiers { service_tier: None, inference_geo: some("us"), speed: some("fast"), web_searches: 2 };
        assert_eq!((seen.message_id.as_deref(), seen.modifiers), (Some("msg_1"), expected));
        assert!(hear(&[STREAM.as_bytes()]).modifiers.is_ordinary());
    }

    #[test]
    fn garbage_counts_nothing_and_takes_no_memory() {
        let mut tap = Tap::new("text/event-stream", "");
        for _ in 0..20 {
            tap.hear(&Bytes::from(vec![b'x'; 1 << 20]));
        }
        let Tap::Stream(lines) = &tap else { panic!("a stream") };
        assert!(lines.line.len() <= LOOKED_INTO);
        tap.hear(&Bytes::from(format!("\n{STREAM}")));
        assert_eq!(tap.seen(true).usage, expected());
        let mut json = Tap::new("application/json", "identity");
        json.hear(&Bytes::from(vec![b'['; LOOKED_INTO + 1]));
        assert!(matches!(Tap::new("text/event-stream", "gzip"), Tap::Long));
        assert!(matches!(json, Tap::Long) && !json.seen(true).counted);
        assert!(
            !hear(&[b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":-4}}}\n\n"]).counted
        );
    }
}
