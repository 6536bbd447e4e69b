//! A plan as a workflow's file: what older programs read, and everything else the plan says.
//!
//! Its one surprise: reading the file again gives the same plan, to the byte of its hash; what older programs want beside it
//! (`action`, `params`) is passed over then.

use serde_json::{Map, Value, json};

use super::{VERSION, marks};
use crate::{
    model::{Plan, PlanTask, text},
    orchestrator::plan::TITLE,
};

/// The file, with `goal` as its description.
pub fn write(goal: &str, plan: &Plan) -> Value {
    let mut file = json!({
        "workflow_version": VERSION,
        "name": text::first_line(goal, TITLE),
        "description": goal,
        "summary": plan.summary,
        "requirements": plan.requirements,
        "synthesis": plan.synthesis,
    });
    escape(&mut file);
    file["tasks"] = plan.tasks.iter().map(task).collect();
    file
}

fn task(task: &PlanTask) -> Value {
    let mut written = json!(task);
    let Some(fields) = written.as_object_mut() else { return written };
    let mut out = Map::new();
    let mut take = |from: &str, to: &str| {
        let mut value = fields.remove(from).unwrap_or_default();
        if !matches!(from, "id" | "worker" | "dependencies") {
            escape(&mut value);
        }
        out.insert(to.to_owned(), value);
    };
    take("id", "id");
    take("worker", "agent");
    take("objective", "description");
    let rest: Vec<String> = json!(task).as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for name in rest.iter().filter(|name| !matches!(&***name, "id" | "worker" | "objective")) {
        take(name, name);
    }
    out.retain(|_, value| !value.is_null());
    out.insert("action".to_owned(), action(&task.title, &task.id).into());
    out.insert("params".to_owned(), json!({}));
    Value::Object(out)
}

/// The name of a tool, as older files have one: `write_the_letter`.
fn action(title: &str, id: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.take(6).map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_");
    if name.is_empty() { id.to_owned() } else { name }
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = marks::escaped(text),
        Value::Array(each) => each.iter_mut().for_each(escape),
        Value::Object(fields) => fields.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
