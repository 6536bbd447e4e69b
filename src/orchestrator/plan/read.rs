//! An answer read as a plan: `P01`, and words that are none of ours.
//!
//! Prose and fences around the one object are allowed. Its one surprise: reading goes on after a fault, so that one
//! repair can mend them all.

use serde_json::{Map, Value};

use super::{fault, shown};
use crate::model::{
    DoneWhen, Effort, Estimates, Fault, Plan, PlanTask, Spend,
    plan::{Input, ModelTier, Range, Requirement, SCHEMA_VERSION, VALIDATOR},
    task::Priority,
    text,
};

/// Bytes of an answer that are looked at.
const ANSWER: usize = 1 << 20;
/// Braces at which an object is tried.
const TRIES: usize = 256;
/// The fields of a plan, and of a task; the last three of a task are an operator's alone.
const PLAN_FIELDS: [&str; 6] = ["schema_version", "questions", "summary", "requirements", "synthesis", "tasks"];
/// Questions that are asked at once, and bytes in each.
const QUESTIONS: (usize, usize) = (5, 500);
const TASK_FIELDS: [&str; 20] = [
    "id",
    "worker",
    "title",
    "objective",
    "inputs",
    "output",
    "boundaries",
    "dependencies",
    "done_when",
    "serves",
    "effort",
    "model_tier",
    "estimates",
    "side_effects",
    "idempotent",
    "can_wait",
    "review",
    "model",
    "priority",
    "timeout",
];
/// How many of [`TASK_FIELDS`] a planner may use.
const PLANNERS: usize = 17;

/// Reads a planner's answer; it still has to pass [`super::check()`].
pub fn read(answer: &str, revision: u32, model: &str, spend: Spend) -> Result<Plan, Vec<Fault>> {
    let object = find_object(answer).map_err(|message| vec![fault("P01", "plan", message)])?;
    let mut reader = Reader { faults: Vec::new(), lenient: false };
    let plan = reader.plan(&object);
    reader.end(Plan { revision, model: model.to_owned(), spend, ..plan })
}

/// Reads what an operator wrote: fields may be missing, and those that are theirs alone may be there.
pub fn read_edited(text: &str) -> Result<Plan, Vec<Fault>> {
    let object = find_object(text).map_err(|message| vec![fault("P01", "plan", message)])?;
    read_object(&object)
}

/// The same for what is an object already.
pub fn read_object(object: &Map<String, Value>) -> Result<Plan, Vec<Fault>> {
    let mut reader = Reader { faults: Vec::new(), lenient: true };
    let plan = reader.plan(object);
    reader.end(plan)
}

/// What a planner wants to know instead of planning; nothing where it has planned.
pub fn questions(answer: &str) -> Vec<String> {
    let Ok(object) = find_object(answer) else { return Vec::new() };
    if object.get("tasks").and_then(Value::as_array).is_none_or(|tasks| !tasks.is_empty()) {
        return Vec::new();
    }
    let asked = object.get("questions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let asked = asked.map(|question| text::clip(text::scrub(question).trim(), QUESTIONS.1).replace('\n', " "));
    asked.filter(|question| !question.is_empty()).take(QUESTIONS.0).collect()
}

/// Reads an answer as version 1 did: for journals that hold such answers.
pub fn read_v1(answer: &str, revision: u32, model: &str, spend: Spend) -> Result<Plan, Vec<Fault>> {
    let object = find_object(answer).map_err(|message| vec![fault("P01", "plan", message)])?;
    let mut reader = Reader { faults: Vec::new(), lenient: false };
    let summary = reader.text(&object, "", "summary");
    let mut tasks = Vec::new();
    for (at, value) in reader.list(&object, "", "tasks") {
        let Some(fields) = reader.object(&at, &value) else { continue };
        tasks.push(PlanTask {
            id: reader.text(&fields, &at, "id"),
            worker: reader.text(&fields, &at, "worker"),
            title: reader.text(&fields, &at, "title"),
            objective: reader.text(&fields, &at, "description"),
            dependencies: reader.texts(&fields, &at, "dependencies"),
            done_when: reader.texts(&fields, &at, "done_when").into_iter().map(DoneWhen::Statement).collect(),
            estimates: Estimates::minutes(match fields.get("minutes") {
                Some(Value::Number(n)) => n.as_f64().unwrap_or(f64::NAN),
                Some(other) => {
                    reader.wrong(&format!("{at}.minutes"), "a number", other);
                    0.0
                }
                None => 0.0,
            }),
            ..PlanTask::default()
        });
    }
    let plan = Plan { summary, tasks, revision, model: model.to_owned(), spend, ..Plan::default() };
    reader.end(Plan { schema_version: 1, validator: 1, ..plan })
}

/// Finds the one object with `tasks` in an answer.
fn find_object(answer: &str) -> Result<Map<String, Value>, String> {
    if answer.trim().is_empty() {
        return Err("the answer is empty".to_owned());
    }
    if answer.len() > ANSWER {
        return Err(format!("the answer is {} bytes, at most {ANSWER} are read", answer.len()));
    }
    let mut found: Option<Map<String, Value>> = None;
    let mut first_error = None;
    let mut at = 0;
    // A text full of braces must not cost a parse of the rest for each of them.
    let mut tries = 0;
    while let Some(tail) = answer.get(at..).filter(|_| tries < TRIES) {
        let Some(open) = tail.find('{') else { break };
        at += open;
        tries += 1;
        let Some(candidate) = answer.get(at..) else { break };
        let mut stream = serde_json::Deserializer::from_str(candidate).into_iter::<Value>();
        match stream.next() {
            Some(Ok(Value::Object(object))) if object.contains_key("tasks") => {
                if found.as_ref().is_some_and(|before| *before != object) {
                    return Err("the answer holds more than one plan; give one".to_owned());
                }
                found = Some(object);
                at += stream.byte_offset();
            }
            // The plan may be wrapped in another object: look inside.
            Some(Ok(_)) | None => at += 1,
            Some(Err(error)) => {
                let cut = error.is_eof();
                if first_error.as_ref().is_none_or(|(was_cut, _)| cut && !was_cut) {
                    first_error = Some((cut, error));
                }
                at += 1;
            }
        }
    }
    if let Some(object) = found {
        return Ok(object);
    }
    Err(match first_error {
        Some((true, _)) => format!(
            "the answer ends in the middle of the plan after {} bytes; it was cut off, so make a shorter plan",
            answer.len()
        ),
        Some((false, error)) => format!("the answer is no JSON: {error}"),
        None if answer.contains('{') => "the answer holds no object with a list named `tasks`".to_owned(),
        None => "the answer holds no JSON object".to_owned(),
    })
}

/// Reads fields and keeps every fault.
struct Reader {
    faults: Vec<Fault>,
    /// A person's text: what is missing is what it was by default.
    lenient: bool,
}

impl Reader {
    fn end(self, plan: Plan) -> Result<Plan, Vec<Fault>> {
        if self.faults.is_empty() { Ok(plan) } else { Err(self.faults) }
    }

    fn wrong(&mut self, path: &str, wanted: &str, got: &Value) {
        let got = match got {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.faults.push(fault("P01", path, format!("should be {wanted}, is {got}")));
    }

    fn missing(&mut self, path: &str) {
        if !self.lenient {
            self.faults.push(fault("P01", path, "is missing"));
        }
    }

    fn object(&mut self, path: &str, value: &Value) -> Option<Map<String, Value>> {
        if let Value::Object(fields) = value {
            return Some(fields.clone());
        }
        self.wrong(path, "an object", value);
        None
    }

    fn text(&mut self, from: &Map<String, Value>, at: &str, field: &str) -> String {
        let path = join(at, field);
        match from.get(field) {
            Some(Value::String(text)) => return text.clone(),
            Some(other) => self.wrong(&path, "a text", other),
            None => self.missing(&path),
        }
        String::new()
    }

    fn flag(&mut self, from: &Map<String, Value>, at: &str, field: &str, usual: bool) -> bool {
        let path = join(at, field);
        match from.get(field) {
            Some(Value::Bool(flag)) => return *flag,
            Some(other) => self.wrong(&path, "true or false", other),
            None => self.missing(&path),
        }
        usual
    }

    /// The entries of a list, each with its path.
    fn list(&mut self, from: &Map<String, Value>, at: &str, field: &str) -> Vec<(String, Value)> {
        let path = join(at, field);
        match from.get(field) {
            Some(Value::Array(each)) => {
                return each.iter().enumerate().map(|(i, value)| (format!("{path}[{i}]"), value.clone())).collect();
            }
            Some(other) => self.wrong(&path, "a list", other),
            None => self.missing(&path),
        }
        Vec::new()
    }

    fn texts(&mut self, from: &Map<String, Value>, at: &str, field: &str) -> Vec<String> {
        let mut out = Vec::new();
        for (path, value) in self.list(from, at, field) {
            match value {
                Value::String(text) => out.push(text),
                other => self.wrong(&path, "a text", &other),
            }
        }
        out
    }

    /// A word out of a few; another one is `P04`, the fault of what is not to be had here.
    fn word<T>(
        &mut self,
        from: &Map<String, Value>,
        at: &str,
        field: &str,
        parse: fn(&str) -> Option<T>,
        words: &[&str],
    ) -> Option<T> {
        let path = join(at, field);
        match from.get(field) {
            Some(Value::String(word)) => {
                let parsed = parse(word);
                if parsed.is_none() {
                    let message =
                        format!("there is no {} {}; use {}", field.replace('_', " "), shown(word), words.join(", "));
                    self.faults.push(fault("P04", path, message));
                }
                return parsed;
            }
            Some(Value::Null) if self.lenient => {}
            Some(other) => self.wrong(&path, "a text", other),
            None => self.missing(&path),
        }
        None
    }

    fn unknown(&mut self, fields: &Map<String, Value>, at: &str, known: &[&str]) {
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let path = if at.is_empty() { "plan" } else { at };
            self.faults.push(fault("P01", path, format!("has a field {} that no plan has", shown(name))));
        }
    }

    fn plan(&mut self, fields: &Map<String, Value>) -> Plan {
        self.unknown(fields, "", &PLAN_FIELDS);
        match fields.get("schema_version") {
            Some(Value::Number(n)) if n.as_u64() == Some(SCHEMA_VERSION.into()) => {}
            Some(Value::Number(n)) => {
                let message = format!("{n} is no version of plans; this is {SCHEMA_VERSION}");
                self.faults.push(fault("P01", "schema_version", message));
            }
            Some(other) => self.wrong("schema_version", "a number", other),
            None => self.missing("schema_version"),
        }
        let summary = self.text(fields, "", "summary");
        let mut requirements = Vec::new();
        for (at, value) in self.list(fields, "", "requirements") {
            let Some(each) = self.object(&at, &value) else { continue };
            self.unknown(&each, &at, &["id", "text"]);
            requirements.push(Requirement { id: self.text(&each, &at, "id"), text: self.text(&each, &at, "text") });
        }
        let synthesis = self.text(fields, "", "synthesis");
        let mut tasks = Vec::new();
        for (at, value) in self.list(fields, "", "tasks") {
            let Some(each) = self.object(&at, &value) else { continue };
            tasks.push(self.task(&each, &at));
        }
        Plan { summary, requirements, synthesis, tasks, validator: VALIDATOR, ..Plan::default() }
    }

    fn task(&mut self, fields: &Map<String, Value>, at: &str) -> PlanTask {
        let known = if self.lenient { &TASK_FIELDS[..] } else { TASK_FIELDS.get(..PLANNERS).unwrap_or_default() };
        self.unknown(fields, at, known);
        let mut inputs = Vec::new();
        for (path, value) in self.list(fields, at, "inputs") {
            let Some(each) = self.object(&path, &value) else { continue };
            self.unknown(&each, &path, &["dependency", "what"]);
            let dependency = match each.get("dependency") {
                None | Some(Value::Null) if self.lenient => String::new(),
                _ => self.text(&each, &path, "dependency"),
            };
            inputs.push(Input { dependency, what: self.text(&each, &path, "what") });
        }
        let mut done_when = Vec::new();
        for (path, value) in self.list(fields, at, "done_when") {
            match serde_json::from_value(value) {
                Ok(done) => done_when.push(done),
                Err(_) => self.faults.push(fault(
                    "P01",
                    path,
                    "should be a text, or an object with kind statement (text), file (path), command (argv) or json (path, \
                     schema)",
                )),
            }
        }
        PlanTask {
            id: self.text(fields, at, "id"),
            worker: self.text(fields, at, "worker"),
            title: self.text(fields, at, "title"),
            objective: self.text(fields, at, "objective"),
            inputs,
            output: self.text(fields, at, "output"),
            boundaries: self.text(fields, at, "boundaries"),
            dependencies: self.texts(fields, at, "dependencies"),
            done_when,
            serves: self.texts(fields, at, "serves"),
            effort: self.word(fields, at, "effort", Effort::parse, &Effort::ALL.map(Effort::word)),
            model_tier: self.word(fields, at, "model_tier", ModelTier::parse, &ModelTier::ALL.map(ModelTier::word)),
            estimates: self.estimates(fields, at),
            side_effects: self.texts(fields, at, "side_effects"),
            idempotent: self.flag(fields, at, "idempotent", true),
            can_wait: self.flag(fields, at, "can_wait", false),
            review: self.flag(fields, at, "review", false),
            model: fields.get("model").and_then(Value::as_str).map(str::to_owned),
            priority: self.number(fields, at, "priority").and_then(|n| u8::try_from(n).ok()).map(Priority),
            timeout: self.number(fields, at, "timeout"),
        }
    }

    /// A number that only an operator writes.
    fn number(&mut self, fields: &Map<String, Value>, at: &str, field: &str) -> Option<u64> {
        match fields.get(field)? {
            Value::Null => None,
            Value::Number(n) if n.as_u64().is_some() => n.as_u64(),
            other => {
                self.wrong(&join(at, field), "a whole number", other);
                None
            }
        }
    }

    fn estimates(&mut self, fields: &Map<String, Value>, at: &str) -> Estimates {
        let path = join(at, "estimates");
        let each = match fields.get("estimates") {
            Some(Value::Object(each)) => each.clone(),
            Some(other) => {
                self.wrong(&path, "an object", other);
                return Estimates::default();
            }
            None => {
                self.missing(&path);
                return Estimates::default();
            }
        };
        self.unknown(&each, &path, &["minutes", "tokens", "usd"]);
        let mut range = |name: &str| -> Option<Range> {
            let value = each.get(name).filter(|value| !value.is_null())?;
            let read = serde_json::from_value(value.clone()).ok();
            if read.is_none() {
                self.wrong(&join(&path, name), "a number or an object with low and high", value);
            }
            read
        };
        Estimates { minutes: range("minutes"), tokens: range("tokens"), usd: range("usd") }
    }
}

fn join(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}
