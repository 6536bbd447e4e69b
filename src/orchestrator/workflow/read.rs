//! A workflow's file made into a plan: older names understood, markers filled, what is unsaid said in its usual words.
//!
//! Its one surprise: a field that nobody knows is a fault. A `dependancies` that is passed over would run at once what was to wait.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Made, VERSION, Values, Workflow, fold, marks::Filler};
use crate::{
    model::{Fault, Priority, plan::SCHEMA_VERSION, slip::nearest, text},
    orchestrator::plan::{self, fault, shown},
};

/// What a file says of itself that is of no consequence here.
const ASIDE: [&str; 5] = ["workflow_version", "version", "author", "created_at", "metadata"];
/// The fields of a file.
const FIELDS: [&str; 7] = ["name", "description", "summary", "requirements", "synthesis", "params", "tasks"];

/// The fields of a task under every name they go by; the first is a plan's own.
const TASK: [&[&str]; 22] = [
    &["id", "task_id"],
    &["worker", "agent", "assigned_to"],
    &["title"],
    &["objective", "description", "prompt"],
    &["action"],
    &["params"],
    &["inputs"],
    &["output", "expected_output", "output_format"],
    &["boundaries"],
    &["dependencies", "depends_on", "after"],
    &["done_when"],
    &["serves"],
    &["effort"],
    &["model_tier"],
    &["model"],
    &["estimates"],
    &["side_effects"],
    &["idempotent"],
    &["can_wait"],
    &["review"],
    &["priority"],
    &["timeout", "timeout_seconds"],
];

/// What an older file does not say.
const OUTPUT: &str = "An answer that stands alone; files that are made are named with their paths.";
const BOUNDARIES: &str = "Only what this task asks for.";
const DONE_WHEN: &str = "What was asked for is there, or the answer says what is missing and why.";
const RESULT: &str = "its result";
/// The requirement of a file that names none.
const GOAL: &str = "goal";

/// Whether a task's field goes by this name.
pub(super) fn is_field(name: &str) -> bool {
    TASK.iter().any(|names| names.contains(&name))
}

/// Makes the plan, with these values for parameters; every fault at once.
pub fn make(workflow: &Workflow, given: &Values) -> Result<Made, Vec<Fault>> {
    let mut faults = Vec::new();
    let fields = &workflow.0;
    let known: Vec<&str> = FIELDS.iter().chain(&ASIDE).copied().collect();
    unknown(&mut faults, "workflow", fields, &known);
    if let Some(version) = fields.get("workflow_version").filter(|version| **version != json!(VERSION)) {
        let message = format!("{version} is no version of workflows; this is {VERSION}");
        faults.push(fault("P01", "workflow_version", message));
    }
    let usual = params(&mut faults, "params", fields.get("params"));
    let listed = fields.get("tasks").and_then(Value::as_array);
    if listed.is_none() {
        faults.push(fault("P01", "tasks", "should be a list"));
    }
    let tasks = listed.map(Vec::as_slice).unwrap_or_default();
    let ids: Vec<String> = tasks.iter().map(id_of).collect();

    let mut filler = Filler::new(vec![given, &usual], &[], "");
    let mut own = |name: &str| {
        let mut value = fields.get(name).cloned()?;
        filler.value(name, &mut value);
        Some(value)
    };
    let (name, words, summary) = (own("name"), own("description"), own("summary"));
    let (requirements, synthesis) = (own("requirements"), own("synthesis"));
    let (mut used, wrong) = filler.end();
    faults.extend(wrong);
    let said = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let name = Some(said(&name)).filter(|name| !name.is_empty()).unwrap_or_else(|| "Workflow".to_owned());
    let text = Some(said(&words)).filter(|words| !words.is_empty()).unwrap_or_else(|| name.clone());

    let mut made = Vec::new();
    for (i, value) in tasks.iter().enumerate() {
        let at = format!("tasks[{i}]");
        let Value::Object(raw) = value else {
            faults.push(fault("P01", at, "should be an object"));
            continue;
        };
        let mut task = Task { at, own: &ids[i], ids: &ids, faults: &mut faults, out: Map::new() };
        used.extend(task.read(raw, [given, &usual]));
        made.push(Value::Object(task.out));
    }
    unused(&mut faults, given, &used);

    let sinks = ids.iter().filter(|id| !made.iter().any(|task| holds(&task["dependencies"], id))).count();
    let usual_synthesis = if sinks > 1 { "The results side by side, in the order of the tasks." } else { "" };
    let object = Map::from_iter(
        [
            ("schema_version", json!(SCHEMA_VERSION)),
            ("summary", summary.unwrap_or_else(|| json!(text::clip(&text, plan::SUMMARY)))),
            (
                "requirements",
                requirements.unwrap_or_else(|| json!([{"id": GOAL, "text": text::first_line(&text, 200)}])),
            ),
            ("synthesis", synthesis.unwrap_or_else(|| json!(usual_synthesis))),
            ("tasks", Value::Array(made)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    match plan::read_object(&object) {
        Ok(plan) if faults.is_empty() => Ok(Made { text, plan }),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

fn holds(list: &Value, id: &str) -> bool {
    list.as_array().is_some_and(|each| each.iter().any(|one| one == id))
}

/// The id of a task as the plan will have it; empty where it has none.
fn id_of(task: &Value) -> String {
    match task.get("id").or_else(|| task.get("task_id")) {
        Some(Value::String(id)) => fold(id),
        Some(Value::Number(n)) => fold(&n.to_string()),
        _ => String::new(),
    }
}

fn unknown(faults: &mut Vec<Fault>, at: &str, fields: &Map<String, Value>, known: &[&str]) {
    for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
        let hint = nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        faults.push(fault("P01", at, format!("has a field {} that no workflow has{hint}", shown(name))));
    }
}

/// Values that nothing asked for: a slip of whoever gave them.
fn unused(faults: &mut Vec<Fault>, given: &Values, used: &BTreeSet<String>) {
    for name in given.keys().filter(|name| !used.contains(*name)) {
        faults.push(fault("W02", "params", format!("nothing uses the value of {}", shown(name))));
    }
}

/// Parameters as texts.
fn params(faults: &mut Vec<Fault>, at: &str, value: Option<&Value>) -> Values {
    match value {
        None | Some(Value::Null) => Values::new(),
        Some(Value::Object(fields)) => fields.iter().map(|(name, value)| (name.clone(), said(value))).collect(),
        Some(_) => {
            faults.push(fault("P01", at, "should be an object"));
            Values::new()
        }
    }
}

/// A value as a text says it.
pub(super) fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One task on its way from the file into the plan's own words.
struct Task<'a> {
    at: String,
    own: &'a str,
    ids: &'a [String],
    faults: &'a mut Vec<Fault>,
    out: Map<String, Value>,
}

impl Task<'_> {
    /// Reads it, and tells which parameters it used.
    fn read(&mut self, raw: &Map<String, Value>, outer: [&Values; 2]) -> BTreeSet<String> {
        let known: Vec<&str> = TASK.iter().flat_map(|names| names.iter().copied()).collect();
        unknown(self.faults, &self.at, raw, &known);
        let field = |ours: &str| {
            let names = TASK.iter().find(|names| names[0] == ours).copied().unwrap_or_default();
            names.iter().find_map(|name| raw.get(*name)).filter(|value| !value.is_null()).cloned()
        };
        // A parameter of the task may be made of those around it, and not of itself.
        let mut around = Filler::new(outer.to_vec(), &[], "");
        let mut own = field("params").unwrap_or_else(|| json!({}));
        around.value(&format!("{}.params", self.at), &mut own);
        let own = params(self.faults, &format!("{}.params", self.at), Some(&own));
        let (mut used, wrong) = around.end();
        self.faults.extend(wrong);

        let mut filler = Filler::new(std::iter::once(&own).chain(outer).collect(), self.ids, self.own);
        for names in
            TASK.iter().filter(|names| !matches!(names[0], "id" | "dependencies" | "inputs" | "action" | "params"))
        {
            let Some(mut value) = field(names[0]) else { continue };
            filler.value(&format!("{}.{}", self.at, names[0]), &mut value);
            self.out.insert(names[0].to_owned(), value);
        }
        let mut inputs = field("inputs");
        if let Some(inputs) = &mut inputs {
            filler.value(&format!("{}.inputs", self.at), inputs);
        }
        let worker = self.out.get("worker").map(said).unwrap_or_default();
        let action = field("action").map(|action| in_words(&said(&action), &worker)).unwrap_or_default();
        self.words(&action, &own, &filler);
        self.edges(field("dependencies"), inputs, &filler);
        let (more, wrong) = filler.end();
        self.faults.extend(wrong);
        self.rest();
        used.extend(more.into_iter().filter(|name| !own.contains_key(name)));
        used
    }

    /// Title and objective, out of the tool that older files name.
    fn words(&mut self, action: &str, own: &Values, filler: &Filler<'_>) {
        let mut objective = self.out.get("objective").map(said).unwrap_or_default();
        if objective.trim().is_empty() {
            objective = if action.is_empty() { String::new() } else { format!("{action}.") };
        }
        let unsaid: Vec<String> = own
            .iter()
            .filter(|(name, _)| !filler.is_used(name))
            .map(|(name, value)| format!("- {name}: {value}"))
            .collect();
        if !unsaid.is_empty() {
            objective = format!("{}\n\nParameters:\n{}", objective.trim_end(), unsaid.join("\n"));
        }
        if self.out.get("title").is_none_or(|title| said(title).trim().is_empty()) {
            let title = if action.is_empty() { text::first_line(&objective, 70) } else { action.to_owned() };
            self.out.insert("title".to_owned(), title.trim_end_matches('.').into());
        }
        self.out.insert("objective".to_owned(), objective.into());
        self.out.insert("id".to_owned(), self.own.into());
        if let Some(Value::Object(wanted)) = self.out.get("output") {
            let format = wanted.get("format").map_or_else(|| "text".to_owned(), said);
            let files = wanted.get("artifacts").and_then(Value::as_array).into_iter().flatten().map(said);
            let files = files.collect::<Vec<_>>().join(", ");
            let files = if files.is_empty() { String::new() } else { format!("; files: {files}") };
            self.out.insert("output".to_owned(), format!("A result in {format}{files}").into());
        }
    }

    /// What it waits for, and what it takes from there.
    fn edges(&mut self, dependencies: Option<Value>, inputs: Option<Value>, filler: &Filler<'_>) {
        let mut needs: Vec<Value> = Vec::new();
        match dependencies {
            None => {}
            Some(Value::Array(each)) => {
                for (j, one) in each.iter().enumerate() {
                    needs.push(self.named(&format!("dependencies[{j}]"), one));
                }
            }
            Some(_) => self.faults.push(fault("P05", format!("{}.dependencies", self.at), "should be a list of ids")),
        }
        let mut takes: Vec<Value> = Vec::new();
        let is_said = inputs.is_some();
        for (j, one) in inputs.iter().filter_map(Value::as_array).flatten().enumerate() {
            if matches!(one, Value::String(_) | Value::Number(_)) {
                let id = self.named(&format!("inputs[{j}]"), one);
                takes.push(json!({"dependency": id, "what": RESULT}));
            } else {
                takes.push(one.clone());
            }
        }
        if inputs.is_some_and(|inputs| !inputs.is_array()) {
            self.faults.push(fault("P01", format!("{}.inputs", self.at), "should be a list"));
        }
        for (id, what) in filler.inputs() {
            takes.push(json!({"dependency": id, "what": what}));
        }
        for id in takes.iter().filter_map(|input| input["dependency"].as_str()).filter(|id| !id.is_empty()) {
            if !needs.iter().any(|known| known == id) {
                needs.push(id.into());
            }
        }
        if !is_said {
            // In older files whoever waits gets what it waited for.
            for id in &needs {
                if !takes.iter().any(|input| input["dependency"] == *id) {
                    takes.push(json!({"dependency": id, "what": RESULT}));
                }
            }
        }
        self.out.insert("dependencies".to_owned(), Value::Array(needs));
        self.out.insert("inputs".to_owned(), Value::Array(takes));
    }

    /// The id of a task of this file, as its plan has it.
    fn named(&mut self, place: &str, value: &Value) -> Value {
        let id = fold(&said(value));
        if !self.ids.contains(&id) {
            let hint = nearest(&id, self.ids).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let message = format!("there is no task {} in this workflow{hint}", shown(&said(value)));
            self.faults.push(fault("P05", format!("{}.{place}", self.at), message));
        }
        id.into()
    }

    /// What the file leaves unsaid.
    fn rest(&mut self) {
        let usual = [
            ("output", json!(OUTPUT)),
            ("boundaries", json!(BOUNDARIES)),
            ("done_when", json!([DONE_WHEN])),
            ("serves", json!([GOAL])),
        ];
        for (name, value) in usual {
            self.out.entry(name).or_insert(value);
        }
        if let Some(priority) = self.out.get("priority").filter(|value| value.is_string()) {
            if let Some(priority) = Priority::parse(&said(priority)) {
                self.out.insert("priority".to_owned(), priority.0.into());
            } else {
                let message =
                    format!("{} is no priority; use critical, high, normal, low, or 0 to 9", shown(&said(priority)));
                self.faults.push(fault("P01", format!("{}.priority", self.at), message));
                self.out.remove("priority");
            }
        }
    }
}

/// `marie_create_student_evaluation` as "Create student evaluation".
fn in_words(action: &str, agent: &str) -> String {
    let bare = action.trim();
    let bare =
        bare.strip_prefix(agent).filter(|_| !agent.is_empty()).and_then(|rest| rest.strip_prefix('_')).unwrap_or(bare);
    let words: Vec<&str> =
        bare.split(|c: char| c == '_' || c == '-' || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
    let words = words.join(" ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
