//! The JSON schema of a plan, as structured output allows it.
//!
//! Every field is required and closed; no lengths, no recursion. The same bytes every time: another schema would cost
//! the cached prefix.

use serde_json::{Value, json};

use crate::model::{
    Effort,
    plan::{ModelTier, SCHEMA_VERSION},
};

fn object(fields: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({"type": "object", "additionalProperties": false, "required": names, "properties": properties})
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

/// The JSON schema of a plan, for structured output.
pub fn schema() -> Value {
    let (text, number, flag) = (json!({"type": "string"}), json!({"type": "number"}), json!({"type": "boolean"}));
    let texts = list(&text);
    let range = object(&[("low", number.clone()), ("high", number)]);
    let kind = |word: &str| json!({"type": "string", "enum": [word]});
    // A schema as text: structured output knows no object without its fields.
    let done = json!({"anyOf": [
        object(&[("kind", kind("statement")), ("text", text.clone())]),
        object(&[("kind", kind("file")), ("path", text.clone())]),
        object(&[("kind", kind("command")), ("argv", texts.clone())]),
        object(&[("kind", kind("json")), ("path", text.clone()), ("schema", text.clone())]),
    ]});
    let task = object(&[
        ("id", text.clone()),
        ("worker", text.clone()),
        ("title", text.clone()),
        ("objective", text.clone()),
        ("inputs", list(&object(&[("dependency", text.clone()), ("what", text.clone())]))),
        ("output", text.clone()),
        ("boundaries", text.clone()),
        ("dependencies", texts.clone()),
        ("done_when", list(&done)),
        ("serves", texts.clone()),
        ("effort", json!({"type": "string", "enum": Effort::ALL.map(Effort::word)})),
        ("model_tier", json!({"type": "string", "enum": ModelTier::ALL.map(ModelTier::word)})),
        ("estimates", object(&[("minutes", range.clone()), ("tokens", range)])),
        ("side_effects", texts),
        ("idempotent", flag.clone()),
        ("can_wait", flag.clone()),
        ("review", flag),
    ]);
    object(&[
        ("schema_version", json!({"type": "integer", "enum": [SCHEMA_VERSION]})),
        ("questions", list(&text)),
        ("summary", text.clone()),
        ("requirements", list(&object(&[("id", text.clone()), ("text", text.clone())]))),
        ("synthesis", text),
        ("tasks", list(&task)),
    ])
}
