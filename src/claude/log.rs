//! A log as a person reads it: what was said, which tools ran, what went wrong.
//!
//! Owns the wording and the indentation of sub-agents. Must not know files or the screen. Its one surprise: it decodes
//! any engine's log; text that is no JSON becomes [`Kind::Text`], line by line. What arrives in pieces is told sentence by
//! sentence as it comes, and not a second time when it is whole. Everything it hands out is cleaned.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    decode::{Content, Decoder, Line},
    pretty,
    wire::{Answer, Block, Delta, Event, Said, starts_agent, tool_arguments, tool_line},
};
pub use crate::model::log::{Kind, LogLine, Show};
use crate::model::{Usage, text};

/// The longest line handed out, in bytes.
const TEXT_LIMIT: usize = 4_000;

/// Lines of a tool's failure that are shown.
const FAILURE_LINES: usize = 6;

/// Turns a log's bytes into lines for a person.
#[derive(Debug, Default)]
pub struct Reader {
    decoder: Decoder,
    drop_first: bool,
    raw: bool,
    most: Most,
    cwd: Option<String>,
    depths: HashMap<String, u8>,
    names: HashMap<String, String>,
    /// What was asked for, by the request's name.
    asked: HashMap<String, String>,
    /// What is being said, by the tool call it belongs to.
    live: HashMap<Option<String>, Vec<Live>>,
}

/// The longest line handed out, in bytes.
#[derive(Debug)]
struct Most(usize);

impl Default for Most {
    fn default() -> Self {
        Self(TEXT_LIMIT)
    }
}

/// Sub-agents whose depth and name are remembered; with more, all are forgotten and told as if they were direct ones.
const HELPERS: usize = 4_096;

/// Bytes of a text in pieces that are held; what is longer is told when it is whole.
const LIVE: usize = 1 << 20;

/// A block of text that arrives in pieces.
#[derive(Debug, Default)]
struct Live {
    text: String,
    /// Bytes of it that have been told.
    told: usize,
    /// Bytes of it that have been looked at.
    seen: usize,
}

/// A sentence shorter than this waits for the next one.
const SENTENCE: usize = 40;

impl Live {
    /// What can be told now: whole lines and whole sentences.
    fn whole(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        let from = self.seen;
        let mut letters = self.text.get(from..).unwrap_or_default().char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            let end = from + at + letter.len_utf8();
            let next = letters.peek().map(|(_, next)| *next);
            let ends = matches!(letter, '.' | '!' | '?' | ':') && end - self.told >= SENTENCE;
            if ends && next.is_none() {
                // Whether a sentence ends here is known with the next letter.
                return out;
            }
            self.seen = end;
            let sentence = ends && next == Some(' ');
            if letter == '\n' || sentence {
                let line = self.text.get(self.told..end).unwrap_or_default();
                out.push(line.trim_end_matches('\n').to_owned());
                // The space after a sentence belongs to nobody; it is passed over as the next letter.
                self.told = end + usize::from(sentence);
            }
        }
        out
    }
}

/// `812 MB`, `64 kB`.
fn size(bytes: u64) -> String {
    if bytes >= 1_000_000 { format!("{} MB", bytes / 1_000_000) } else { format!("{} kB", bytes / 1_000) }
}

impl Reader {
    /// A reader whose first byte lies at `offset` of the log; a line begun before that is dropped.
    ///
    /// To begin at a known start of a line, pass its offset and `mid_line = false`.
    pub fn starting_at(offset: u64, mid_line: bool) -> Self {
        Self { decoder: Decoder::starting_at(offset), drop_first: mid_line && offset > 0, ..Self::default() }
    }

    /// Lines are handed out as they lie on disk.
    #[must_use]
    pub fn raw(self) -> Self {
        Self { decoder: self.decoder.raw(), raw: true, ..self }
    }

    /// Source lines over `source` bytes are skipped, and what is handed out has at most `told` bytes.
    #[must_use]
    pub fn with_limits(self, source: usize, told: usize) -> Self {
        Self { decoder: self.decoder.with_limit(source), most: Most(told), ..self }
    }

    /// Whether a line has begun that has not ended.
    pub fn is_mid_line(&self) -> bool {
        self.decoder.is_mid_line()
    }

    /// So many zero bytes follow that nobody had to read.
    pub fn hole(&mut self, bytes: u64) {
        self.decoder.hole(bytes);
    }

    /// Learns from a line that lies before the part that is read: which sub-agents there are, where it works.
    pub fn learn(&mut self, line: &[u8]) {
        let mut before = Decoder::default();
        for line in before.feed(line).into_iter().chain(before.finish()) {
            let _told = self.told(&line);
        }
    }

    /// Takes more bytes and hands out the lines they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<LogLine> {
        let bytes = if self.drop_first {
            let end = bytes.iter().position(|b| *b == b'\n');
            self.drop_first = end.is_none();
            let (dropped, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
            self.decoder.skip(dropped.len());
            rest
        } else {
            bytes
        };
        let lines = self.decoder.feed(bytes);
        lines.into_iter().flat_map(|line| self.told(&line)).collect()
    }

    /// The line that was begun and not ended, once no more bytes follow.
    pub fn finish(&mut self) -> Vec<LogLine> {
        self.decoder.finish().map(|line| self.told(&line)).unwrap_or_default()
    }

    fn told(&mut self, line: &Line) -> Vec<LogLine> {
        let mut page = Page { offset: line.offset, lines: Vec::new(), most: self.most.0 };
        if self.depths.len() > HELPERS || self.names.len() > HELPERS || self.asked.len() > HELPERS {
            self.depths.clear();
            self.names.clear();
            self.asked.clear();
        }
        match &line.content {
            Content::Event(event) => self.event(event, &mut page),
            Content::Plain(text) if self.raw => {
                pretty::lines(text, |depth, line| page.line(Kind::Raw, depth, line));
            }
            Content::Plain(text) => match binary(text) {
                Some(told) => page.line(Kind::Raw, 0, &told),
                None => page.all(Kind::Text, 0, text),
            },
            Content::Bad { text, .. } => page.line(Kind::Raw, 0, text),
            Content::Long(text) => page.line(Kind::Raw, 0, &format!("[a line too long to be shown whole] {text}")),
            Content::Cut(bytes) => page.line(Kind::System, 0, &format!("[… {} cut …]", size(*bytes))),
        }
        page.lines
    }

    fn depth(&self, parent: Option<&str>) -> u8 {
        parent.map_or(0, |id| self.depths.get(id).copied().unwrap_or(1))
    }

    fn event(&mut self, event: &Event, page: &mut Page) {
        match event {
            Event::Init(init) => {
                self.cwd.clone_from(&init.cwd);
                let model = init.model.as_deref().unwrap_or("unknown model");
                let version = init.version.as_ref().map(|v| format!(" · engine {v}")).unwrap_or_default();
                page.line(Kind::System, 0, &format!("a turn begins · {model}{version}"));
            }
            Event::Assistant(said) => self.said(said, page),
            Event::User(said) => self.answered(said, page),
            Event::Result(answer) => ended(answer, page),
            Event::Retry(retry) => page.line(Kind::System, 0, &retry.line()),
            Event::RateLimit(limit) => {
                if let Some((bad, line)) = limit.line() {
                    page.line(if bad { Kind::Error } else { Kind::System }, 0, &line);
                }
            }
            Event::TaskStarted(task) => {
                let depth = self.depth(task.tool_use.as_deref());
                let (kind, word) =
                    if task.is_agent() { (Kind::Agent, "begins") } else { (Kind::System, "runs beside") };
                page.line(kind, depth, &format!("{} {word}", task.name()));
                self.names.insert(task.id.clone(), task.name());
            }
            Event::TaskEnded { id, status, tool_use } => {
                let name = self.names.get(id).cloned().unwrap_or_else(|| id.clone());
                let kind = if status == "completed" { Kind::Agent } else { Kind::Error };
                page.line(kind, self.depth(tool_use.as_deref()), &format!("{name}: {status}"));
            }
            Event::Stream(delta) => self.piece(delta, page),
            Event::Asks(asks) => {
                let line = asks.line(self.cwd.as_deref());
                let of = asks.agent.as_ref().and_then(|id| self.names.get(id));
                let of = of.map(|name| format!(" · of {name}")).unwrap_or_default();
                page.line(Kind::System, u8::from(asks.agent.is_some()), &format!("asks: {line}{of}"));
                self.asked.insert(asks.request.clone(), line);
            }
            Event::Withdraws(request) => {
                let line = self.asked.remove(request).unwrap_or_else(|| request.clone());
                page.line(Kind::System, 0, &format!("takes back what it asked for: {line}"));
            }
            Event::Other { kind, subtype, fields } => other(kind, subtype.as_deref(), fields, page),
        }
    }

    fn piece(&mut self, delta: &Delta, page: &mut Page) {
        let depth = self.depth(delta.parent.as_deref());
        let live = self.live.entry(delta.parent.clone()).or_default();
        match (delta.kind.as_str(), &delta.block, &delta.text) {
            ("message_start", ..) => live.clear(),
            ("content_block_start", Some(block), _) if block == "text" => live.push(Live::default()),
            ("content_block_delta", _, Some(text)) => {
                // Without its beginning, which is then before the part that is read, it is told when it is whole.
                if let Some(last) = live.last_mut()
                    && last.text.len() < LIVE
                {
                    last.text.push_str(text);
                    for line in last.whole() {
                        page.line(Kind::Text, depth, &line);
                    }
                }
            }
            _ => {}
        }
    }

    /// The part of a text that has not been told while it arrived.
    fn untold<'a>(&mut self, parent: Option<&String>, text: &'a str) -> Option<&'a str> {
        let Some(live) = self.live.get_mut(&parent.cloned()) else { return Some(text) };
        let same = |l: &Live| l.told > 0 && l.text.get(..l.told).is_some_and(|told| text.starts_with(told));
        let Some(at) = live.iter().position(same) else { return Some(text) };
        let rest = text.get(live.remove(at).told..).unwrap_or_default();
        Some(rest).filter(|rest| !rest.trim().is_empty())
    }

    fn said(&mut self, said: &Said, page: &mut Page) {
        let depth = self.depth(said.parent.as_deref());
        for block in &said.blocks {
            match block {
                Block::Text(text) if said.error.is_some() => page.all(Kind::Error, depth, text),
                Block::Text(text) => {
                    if let Some(rest) = self.untold(said.parent.as_ref(), text) {
                        page.all(Kind::Text, depth, rest);
                    }
                }
                Block::Thinking(text) if text.trim().is_empty() => page.line(Kind::System, depth, "thinking"),
                Block::Thinking(text) => {
                    page.line(Kind::System, depth, &format!("thinking: {}", text::first_line(text, 300)));
                }
                Block::ToolUse { id, name, input } => {
                    let line = tool_line(name, input, self.cwd.as_deref());
                    if starts_agent(name) {
                        self.depths.insert(id.clone(), depth.saturating_add(1));
                        page.line(Kind::Agent, depth, &line);
                    } else {
                        let more = tool_arguments(input);
                        let line = if more.is_empty() { line } else { format!("{line}  {more}") };
                        page.line(Kind::Tool, depth, &line);
                    }
                }
                Block::ToolResult { .. } | Block::Other(_) => {}
            }
        }
    }

    fn answered(&self, said: &Said, page: &mut Page) {
        let depth = self.depth(said.parent.as_deref());
        for block in &said.blocks {
            match block {
                Block::ToolResult { text, failed: true, .. } => {
                    let clean = text::scrub(text);
                    for line in clean.lines().filter(|l| !l.trim().is_empty()).take(FAILURE_LINES) {
                        page.line(Kind::Error, depth.saturating_add(1), line);
                    }
                }
                Block::ToolResult { text, failed: false, .. } => {
                    let first = text::first_line(text, 200);
                    let more = text.lines().filter(|l| !l.trim().is_empty()).count().saturating_sub(1);
                    let line = match (first.is_empty(), more) {
                        (true, _) => "→ ok".to_owned(),
                        (false, 0) => format!("→ {first}"),
                        (false, more) => format!("→ {first}  (+{more} lines)"),
                    };
                    page.line(Kind::Tool, depth.saturating_add(1), &line);
                }
                Block::Text(text) => page.line(Kind::System, depth, &text::first_line(text, 300)),
                Block::Thinking(_) | Block::ToolUse { .. } | Block::Other(_) => {}
            }
        }
    }
}

/// What is told of a line that is no text: how much of it there is, and what can be read in it.
fn binary(text: &str) -> Option<String> {
    let head = text.chars().take(2_000);
    let strange = head.filter(|c| *c == '\u{fffd}' || (c.is_control() && !matches!(c, '\t' | '\r' | '\u{1b}'))).count();
    if strange < 4 || strange * 10 < text.chars().take(2_000).count() {
        return None;
    }
    let legible: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(60).collect();
    Some(format!("[binary, {} bytes] {legible}", text.len()))
}

/// The lines made of one source line.
struct Page {
    offset: u64,
    lines: Vec<LogLine>,
    most: usize,
}

impl Page {
    fn all(&mut self, kind: Kind, depth: u8, text: &str) {
        let clean = text::scrub(text);
        for line in clean.trim_end().split('\n') {
            self.line(kind, depth, line);
        }
    }

    fn line(&mut self, kind: Kind, depth: u8, text: &str) {
        let clean = text::scrub(text).replace('\n', " ");
        let text = text::clip(&clean, self.most).into_owned();
        self.lines.push(LogLine { kind, depth, text, offset: self.offset });
    }
}

fn ended(answer: &Answer, page: &mut Page) {
    if answer.is_error {
        let said = answer.text.as_deref().filter(|t| !t.trim().is_empty());
        let said = said.or_else(|| answer.errors.first().map(String::as_str)).unwrap_or(&answer.subtype);
        page.line(Kind::Error, 0, &format!("ended with an error: {}", text::first_line(said, 300)));
        return;
    }
    let mut usage = Usage::default();
    for (_, model) in &answer.by_model {
        usage += *model;
    }
    let cost = answer.cost.map(|c| format!(" · {c}")).unwrap_or_default();
    let turns = match answer.turns {
        None => String::new(),
        Some(1) => " · 1 turn".to_owned(),
        Some(turns) => format!(" · {turns} turns"),
    };
    page.line(Kind::System, 0, &format!("the turn ends{turns} · {} tokens{cost}", usage.total()));
}

fn other(kind: &str, subtype: Option<&str>, fields: &Map<String, Value>, page: &mut Page) {
    let field = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    match (kind, subtype.unwrap_or_default()) {
        (
            "system",
            "status"
            | "thinking_tokens"
            | "session_state_changed"
            | "hook_started"
            | "background_tasks_changed"
            | "task_progress"
            | "task_updated",
        )
        | ("control_request" | "control_response", _) => {}
        ("system", "informational" | "model_fallback") => page.line(Kind::System, 0, field("content")),
        ("system", "model_refusal_no_fallback") => page.line(Kind::Error, 0, "the model refused"),
        ("system", "permission_denied") => {
            let why = text::first_line(field("message"), 300);
            page.line(Kind::Error, 0, &format!("{} was not allowed: {why}", field("tool_name")));
        }
        ("system", "hook_response") => {
            page.line(Kind::System, 0, &format!("hook {}: {}", field("hook_name"), field("outcome")));
        }
        (kind, "") => page.line(Kind::Raw, 0, kind),
        (kind, subtype) => page.line(Kind::Raw, 0, &format!("{kind}/{subtype}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/claude")
    }

    fn lines(path: &str) -> Vec<LogLine> {
        let mut reader = Reader::default();
        let mut out = reader.feed(&fs::read(folder().join(path)).unwrap());
        out.extend(reader.finish());
        out
    }

    fn drawn(lines: &[LogLine]) -> String {
        let each = lines.iter().map(|l| format!("{:?} {}{}", l.kind, "  ".repeat(l.depth.into()), l.text));
        each.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_run_with_a_sub_agent_reads_as_an_indented_tree() {
        let drawn = drawn(&lines("2.1.197/agent_foreground.jsonl"));
        assert_eq!(
            drawn,
            "System a turn begins · claude-sonnet-5 · engine 2.1.197\n\
             Agent Agent general-purpose: sub task 0\n\
             Agent   general-purpose: sub task 0 begins\n\
             System   Part 0. [[fake:bash]]\n\
             Tool   Bash echo hi  description=\"Run a command\"\n\
             Tool     → hi\n\
             Agent   general-purpose: sub task 0: completed\n\
             Tool   → OK from the fake API.  (+4 lines)\n\
             Text OK from the fake API.\n\
             System the turn ends · 2 turns · 89956 tokens · $0.12"
        );
    }

    fn streamed(pieces: &[&str], whole: &str) -> Vec<u8> {
        let stream = |event: Value| serde_json::json!({"type": "stream_event", "event": event});
        let mut out = vec![
            stream(serde_json::json!({"type": "message_start", "message": {"id": "m"}})),
            stream(serde_json::json!({"type": "content_block_start", "content_block": {"type": "text", "text": ""}})),
        ];
        out.extend(pieces.iter().map(|piece| {
            stream(serde_json::json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}}))
        }));
        out.push(serde_json::json!({"type": "assistant", "message": {"content": [{"type": "text", "text": whole}]}}));
        out.into_iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
    }

    #[test]
    fn what_arrives_in_pieces_is_told_by_the_sentence_and_only_once() {
        let whole = "The minis found the beat in the second eight. Well done!\n\n- arms: 3.5 of 5\n- e.g. the end";
        let expected = "Text The minis found the beat in the second eight.\nText Well done!\nText \n\
                        Text - arms: 3.5 of 5\nText - e.g. the end";
        for size in 1..whole.len() {
            let letters: Vec<char> = whole.chars().collect();
            let pieces: Vec<String> = letters.chunks(size).map(|c| c.iter().collect()).collect();
            let bytes = streamed(&pieces.iter().map(String::as_str).collect::<Vec<_>>(), whole);
            let mut reader = Reader::default();
            let (before, last) =
                bytes.split_at(bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1);
            let live = reader.feed(before);

            assert!(!live.is_empty(), "something is told before it is whole");
            let mut all = live;
            all.extend(reader.feed(last));
            assert_eq!(drawn(&all), expected, "pieces of {size}");
        }
    }

    #[test]
    fn a_message_that_is_cut_and_sent_again_is_told_as_it_is_in_the_end() {
        let first = "This sentence is long enough to be told at once. And then";
        let mut bytes = streamed(&[first], "x");
        bytes.truncate(bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1);
        bytes.extend(streamed(&["Short."], "Short."));
        assert_eq!(
            drawn(&Reader::default().feed(&bytes)),
            "Text This sentence is long enough to be told at once.\nText Short."
        );
    }

    #[test]
    fn a_plain_log_is_text_and_its_escapes_are_gone() {
        let mut reader = Reader::default();
        let found = reader.feed(b"\x1b[31mred\x1b[0m\nsecond\n{\"broken\n");
        assert_eq!(drawn(&found), "Text red\nText second\nRaw {\"broken");
        assert_eq!(found[1].offset, 13);
    }

    #[test]
    fn reading_from_the_middle_drops_the_line_begun_before() {
        let whole = lines("2.1.197/bash.jsonl");
        let bytes = fs::read(folder().join("2.1.197/bash.jsonl")).unwrap();
        let cut = 100;
        let mut reader = Reader::starting_at(cut as u64, true);
        let mut found = Vec::new();
        for piece in bytes[cut..].chunks(50) {
            found.extend(reader.feed(piece));
        }
        assert_eq!(found.first().map(|l| l.offset), whole.get(1).map(|l| l.offset));
        assert_eq!(found.len(), whole.len() - 1);
    }

    #[test]
    fn no_recorded_line_is_lost_or_breaks_the_screen() {
        for version in ["2.1.197", "2.1.330"] {
            for entry in fs::read_dir(folder().join(version)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                for line in lines(&format!("{version}/{name}")) {
                    assert!(!line.text.chars().any(char::is_control), "{name}: {line:?}");
                    assert!(line.text.len() <= TEXT_LIMIT);
                }
            }
        }
    }
}
