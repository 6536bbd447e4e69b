//! One JSON object from bytes that anyone may have written, or one sentence that says what is wrong with them.
//!
//! Knows JSON, no tasks. Its one surprise: a text that merely stops is a [`Fault`] that may mend itself, because its
//! writer may still be at work.

use std::cell::RefCell;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, error::Category};

/// How deep lists and objects may lie in each other.
const DEPTH: usize = 64;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// One sentence for a person.
    pub(super) sentence: String,
    /// The file may still be growing: judge it only when it has rested.
    pub(super) may_grow: bool,
}

impl Fault {
    /// A fault that time will not mend.
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), may_grow: false }
    }
}

/// Reads one object. A byte order mark is dropped.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Fault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or_default();
        Fault {
            sentence: format!("Not UTF-8: byte 0x{byte:02X} at offset {at}. Save the file as UTF-8."),
            may_grow: error.error_len().is_none(),
        }
    })?;
    if text.trim().is_empty() {
        return Err(Fault { sentence: "The file is empty.".into(), may_grow: true });
    }
    let seen = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = match (Node { depth: 0, fault: &seen }).deserialize(&mut reader) {
        Ok(value) => value,
        Err(error) => return Err(seen.take().map_or_else(|| syntax(text, &error), Fault::new)),
    };
    if let Err(error) = reader.end() {
        return Err(Fault::new(format!(
            "Line {} starts a second JSON value. Put one task in each file.",
            error.line()
        )));
    }
    match value {
        Value::Object(map) => Ok(map),
        other => Err(Fault::new(format!(
            "A task must be a JSON object {{ … }}, this is {}. Put one task in each file.",
            kind(&other)
        ))),
    }
}

/// What is wrong with the syntax, in words.
fn syntax(text: &str, error: &serde_json::Error) -> Fault {
    if error.classify() == Category::Eof {
        let sentence = format!(
            "The JSON stops at line {}, column {}. The file has not changed for 5 s.",
            error.line(),
            error.column()
        );
        return Fault { sentence, may_grow: true };
    }
    if let Some(word) = not_a_number(text) {
        return Fault::new(format!("{word} is not JSON (Python: json.dumps(…, allow_nan=False))."));
    }
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Fault::new(format!("Not JSON at line {}, column {}: {message}.", error.line(), error.column()))
}

/// The first bare `NaN`, `Infinity` or `-Infinity` outside of texts.
fn not_a_number(text: &str) -> Option<&'static str> {
    let mut inside = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ if inside => {}
            _ => {
                let rest = text.get(at..).unwrap_or_default();
                if let Some(word) = ["NaN", "-Infinity", "Infinity"].into_iter().find(|w| rest.starts_with(w)) {
                    return Some(word);
                }
            }
        }
    }
    None
}

/// What a value is, for a sentence: `a list of 12`.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Number(_) => "a number".into(),
        Value::String(_) => "a text".into(),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".into(),
    }
}

/// What was found, for a sentence: short values as they are, long ones by their kind.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = value.to_string();
            crate::model::text::clip(&crate::model::text::scrub(&text), 60).into_owned()
        }
    }
}

/// Builds a value while it counts the depth and refuses a key that comes twice in the outermost object.
#[derive(Clone, Copy)]
struct Node<'a> {
    depth: usize,
    fault: &'a RefCell<Option<String>>,
}

impl Node<'_> {
    fn refuse<E: serde::de::Error>(self, sentence: String) -> E {
        self.fault.replace(Some(sentence));
        E::custom("refused")
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH {
            return Err(self.refuse(format!("Lists and objects lie more than {DEPTH} deep in each other.")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = source.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(list.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = source.next_key::<String>()? {
            if self.depth == 0 && map.contains_key(&key) {
                let shown = crate::model::text::first_line(&key, 60);
                return Err(self.refuse(format!("'{shown}' appears twice.")));
            }
            let value = source.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(bytes: &[u8]) -> String {
        object(bytes).unwrap_err().sentence
    }

    #[test]
    fn each_kind_of_bad_text_has_its_own_sentence() {
        assert_eq!(sentence(b""), "The file is empty.");
        assert_eq!(sentence(b" \n"), "The file is empty.");
        assert_eq!(
            sentence(b"{\n \"a\": 1,\n \"bb\": \"x"),
            "The JSON stops at line 3, column 9. The file has not changed for 5 s."
        );
        assert_eq!(sentence(b"{}\n{}"), "Line 2 starts a second JSON value. Put one task in each file.");
        assert_eq!(
            sentence(b"[1,2,3,4,5,6,7,8,9,10,11,12]"),
            "A task must be a JSON object { … }, this is a list of 12. Put one task in each file."
        );
        assert_eq!(
            sentence(b"{\"a\": \"NaN\", \"x\": NaN}"),
            "NaN is not JSON (Python: json.dumps(…, allow_nan=False))."
        );
        assert_eq!(sentence(b"\xff\xfe{\x00"), "Not UTF-8: byte 0xFF at offset 0. Save the file as UTF-8.");
        assert_eq!(sentence(b"{\"priority\":1,\"priority\":2}"), "'priority' appears twice.");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
        assert_eq!(sentence(deep.as_bytes()), "Lists and objects lie more than 64 deep in each other.");
        assert_eq!(sentence(b"{\"a\": tru\x01e}"), "Not JSON at line 1, column 10: expected ident.");
    }

    #[test]
    fn every_true_beginning_of_an_object_may_still_grow() {
        let whole = "{\"task_id\": \"é1\", \"n\": [-1.5e3, true, null], \"s\": \"a\\u00e9\\\\\"}".as_bytes();
        for end in 0..whole.len() {
            let (head, _) = whole.split_at(end);
            assert!(object(head).unwrap_err().may_grow, "{:?}", String::from_utf8_lossy(head));
        }
        assert!(object(whole).is_ok());
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_64_levels_are_fine() {
        assert!(object(b"\xef\xbb\xbf{\"task_id\":\"a\"}").is_ok());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(63), "]".repeat(63));
        assert!(object(deep.as_bytes()).is_ok());
    }
}
