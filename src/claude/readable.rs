//! All that a person may read in one line of a log, in full: what a search looks at.
//!
//! Owns which strings of an event are words and which are names for machines. Must not know files or patterns. Its one
//! surprise: [`glance`] is a cheap upper bound of [`readable`], made without decoding: a line that has nothing in the one
//! has nothing in the other, except across the border of two strings.

use memchr::memchr2;
use serde_json::Value;

use super::{
    log::Kind,
    wire::{Block, Event, Said, starts_agent, tool_line},
};
use crate::model::text::scrub;

/// Fields whose value no person reads.
const NAMES: [&[u8]; 16] = [
    b"type",
    b"subtype",
    b"uuid",
    b"session_id",
    b"parent_tool_use_id",
    b"tool_use_id",
    b"task_id",
    b"request_id",
    b"requestId",
    b"role",
    b"model",
    b"id",
    b"signature",
    b"service_tier",
    b"stop_reason",
    b"timestamp",
];

/// Whether a source line is a piece of what a later line says whole.
pub fn is_piece(line: &[u8]) -> bool {
    line.starts_with(b"{\"type\":\"stream_event\"")
}

/// Whether a source line tries to be an event.
pub fn is_object(line: &[u8]) -> bool {
    line.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
}

/// Hands out every line that a person may read in this source line, cleaned; `true` beside it says that a sub-agent
/// speaks.
pub fn readable(line: &[u8], mut take: impl FnMut(Kind, bool, &str)) {
    if !is_object(line) {
        return each(Kind::Text, false, &String::from_utf8_lossy(line), &mut take);
    }
    let event = match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(fields)) => Event::read(fields),
        Ok(_) | Err(_) => None,
    };
    let Some(event) = event else {
        return each(Kind::Raw, false, &String::from_utf8_lossy(line), &mut take);
    };
    match event {
        Event::Assistant(said) => spoken(&said, &mut take),
        Event::User(said) => answered(&said, &mut take),
        Event::Result(answer) if answer.is_error => {
            for text in answer.text.iter().chain(&answer.errors) {
                each(Kind::Error, false, text, &mut take);
            }
        }
        Event::TaskStarted(task) => each(Kind::Agent, task.tool_use.is_some(), &task.name(), &mut take),
        Event::Asks(asks) => each(Kind::System, asks.agent.is_some(), &asks.line(None), &mut take),
        Event::Other { fields, .. } => {
            for (key, value) in &fields {
                leaves(key, value, &mut |text| each(Kind::System, false, text, &mut take));
            }
        }
        Event::Init(_)
        | Event::Result(_)
        | Event::Stream(_)
        | Event::Retry(_)
        | Event::RateLimit(_)
        | Event::Withdraws(_)
        | Event::TaskEnded { .. } => {}
    }
}

fn each(kind: Kind, nested: bool, text: &str, take: &mut impl FnMut(Kind, bool, &str)) {
    let clean = scrub(text);
    for line in clean.split('\n').filter(|l| !l.trim().is_empty()) {
        take(kind, nested, line);
    }
}

fn spoken(said: &Said, take: &mut impl FnMut(Kind, bool, &str)) {
    let nested = said.parent.is_some();
    for block in &said.blocks {
        match block {
            Block::Text(text) => {
                let kind = if said.error.is_some() { Kind::Error } else { Kind::Text };
                each(kind, nested, text, take);
            }
            Block::Thinking(text) => each(Kind::System, nested, text, take),
            Block::ToolUse { name, input, .. } => {
                let kind = if starts_agent(name) { Kind::Agent } else { Kind::Tool };
                let head = tool_line(name, input, None);
                each(kind, nested, &head, take);
                leaves("", input, &mut |text| {
                    // What the first line has shown whole is not told twice.
                    if text.contains('\n') || !head.contains(text) {
                        each(kind, nested, text, take);
                    }
                });
            }
            Block::ToolResult { .. } | Block::Other(_) => {}
        }
    }
}

fn answered(said: &Said, take: &mut impl FnMut(Kind, bool, &str)) {
    let nested = said.parent.is_some();
    for block in &said.blocks {
        match block {
            Block::ToolResult { text, failed, .. } => {
                each(if *failed { Kind::Error } else { Kind::Tool }, nested, text, take);
            }
            Block::Text(text) => each(Kind::System, nested, text, take),
            Block::Thinking(_) | Block::ToolUse { .. } | Block::Other(_) => {}
        }
    }
}

/// Every string below a value that is no name.
fn leaves(key: &str, value: &Value, take: &mut impl FnMut(&str)) {
    if NAMES.contains(&key.as_bytes()) {
        return;
    }
    match value {
        Value::String(text) => take(text),
        Value::Array(items) => items.iter().for_each(|item| leaves(key, item, take)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| leaves(key, value, take)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Puts the strings of a JSON line that may be words into `words`, unescaped, each on lines of its own. False when this
/// is no JSON line after all.
pub fn glance(line: &[u8], words: &mut Vec<u8>) -> bool {
    words.clear();
    let mut named = false;
    let mut rest = line;
    let mut key: &[u8] = b"";
    while let Some(open) = memchr::memchr(b'"', rest) {
        let (_, string) = rest.split_at(open + 1);
        let Some(end) = string_end(string) else { break };
        let (inside, after) = string.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        if rest.first() == Some(&b':') || rest.starts_with(b" :") {
            key = inside;
            named = true;
        } else if !NAMES.contains(&key) {
            unescape(inside, words);
            words.push(b'\n');
        }
    }
    named && line.trim_ascii_end().ends_with(b"}")
}

/// Where a JSON string that has begun ends: at its closing quote.
fn string_end(string: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let found = at + memchr2(b'"', b'\\', string.get(at..)?)?;
        if string.get(found) == Some(&b'"') {
            return Some(found);
        }
        at = found + 2;
    }
}

fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', text) {
        let (plain, escape) = text.split_at(at);
        out.extend_from_slice(plain);
        let used = match escape.get(1) {
            Some(b'n' | b'r') => {
                out.push(b'\n');
                2
            }
            Some(b't') => {
                out.extend_from_slice(b"  ");
                2
            }
            Some(b'u') => unescape_unit(escape, out),
            Some(b'b' | b'f') => 2,
            Some(other) => {
                out.push(*other);
                2
            }
            None => 1,
        };
        text = escape.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(text);
}

/// One `\uXXXX`, or two that belong together.
fn unescape_unit(escape: &[u8], out: &mut Vec<u8>) -> usize {
    let unit = |from: usize| {
        let digits = escape.get(from + 2..from + 6).filter(|_| escape.get(from..from + 2) == Some(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let Some(first) = unit(0) else { return 2 };
    let both = [Some(first), unit(6)];
    let decoded = char::decode_utf16(both.into_iter().flatten()).next();
    let letter = decoded.and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    if letter.len_utf16() == 2 { 12 } else { 6 }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn all(line: &str) -> Vec<String> {
        let mut out = Vec::new();
        readable(line.as_bytes(), |kind, nested, text| {
            out.push(format!("{}{} {text}", kind.word(), if nested { "+" } else { "" }));
        });
        out
    }

    #[test]
    fn words_are_told_in_full_and_names_for_machines_are_not() {
        let tool = serde_json::json!({"type": "assistant", "parent_tool_use_id": "toolu_1", "session_id": "words",
            "message": {"id": "words", "content": [{"type": "tool_use", "id": "toolu_2", "name": "Write",
            "input": {"file_path": "a/notes.md", "content": "first\nsecond \"quoted\""}}]}});
        assert_eq!(all(&tool.to_string()), ["tool+ Write a/notes.md", "tool+ first", "tool+ second \"quoted\""]);
        let answer = serde_json::json!({"type": "user", "message": {"content": [{"type": "tool_result",
            "tool_use_id": "x", "is_error": true, "content": "one\n\u{1b}[31mtwo\u{1b}[0m\nthree"}]}});
        assert_eq!(all(&answer.to_string()), ["error one", "error two", "error three"]);
        assert_eq!(all("plain \u{1b}[1mtext"), ["text plain text"]);
        assert_eq!(all("{broken"), ["raw {broken"]);
        assert!(is_piece(b"{\"type\":\"stream_event\",\"event\":{}}"));
    }

    #[test]
    fn a_glance_sees_every_word_that_reading_finds() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/claude/2.1.330");
        let mut lines = 0;
        for entry in fs::read_dir(folder).unwrap() {
            for line in fs::read(entry.unwrap().path()).unwrap().split(|b| *b == b'\n').filter(|l| is_object(l)) {
                let mut words = Vec::new();
                glance(line, &mut words);
                let seen = String::from_utf8_lossy(&words).into_owned();
                readable(line, |kind, _, text| {
                    if kind == Kind::Raw {
                        return;
                    }
                    lines += 1;
                    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
                        let is_key = || memchr::memmem::find(line, format!("\"{word}\"").as_bytes()).is_some();
                        assert!(seen.contains(word) || is_key(), "{word:?} of {text:?} in {seen:?}");
                    }
                });
            }
        }
        assert!(lines > 50, "{lines}");
    }

    #[test]
    fn escapes_are_read_as_what_they_stand_for() {
        let mut words = Vec::new();
        glance(br#"{"type":"x","text":"a\"b\\c\nd\u00e9\ud83d\ude00\t!","k" : "v"}"#, &mut words);
        assert_eq!(String::from_utf8(words).unwrap(), "a\"b\\c\ndé😀  !\nv\n");
        for broken in [&br#"{"text":"a\"#[..], br#"{"text":"a"#, br#"{"a":"\u12"}"#, b"{\"a\":\"\\ud800\"}"] {
            glance(broken, &mut Vec::new());
        }
    }
}
