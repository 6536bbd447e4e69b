//! One plan out of many rows of a roster: each row is the workflow once more, with the row's values.
//!
//! Its one surprise: a row serves a requirement of its own. That tells the checks that tasks with nearly the same words are not the
//! same task, and the report what to answer for each row.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Made, Values, Workflow, fold, make};
use crate::{
    model::{Fault, Plan, plan::Requirement, text},
    orchestrator::plan::{TITLE, fault},
};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What is run for it.
    pub workflow: Workflow,
    /// Its values; those that no marker uses go along to its tasks.
    pub values: Values,
}

/// Values that name a row, the first that is there.
const KEYS: [&str; 3] = ["id", "key", "name"];

/// Makes one plan of all rows, which the whole is called `name`; `shared` are values for every row.
pub fn batch(name: &str, rows: &[Row], shared: &Values) -> Result<Made, Vec<Fault>> {
    if rows.is_empty() {
        return Err(vec![fault("P02", "roster", "has no row")]);
    }
    let mut faults = Vec::new();
    let mut keys = BTreeSet::new();
    let mut plan = Plan::default();
    for (n, row) in rows.iter().enumerate() {
        let key = key(row, n, &mut keys);
        match one(row, shared) {
            Ok(made) => join(&mut plan, made, &key),
            Err(wrong) => faults.extend(
                wrong
                    .into_iter()
                    .map(|fault| Fault { path: format!("row {} ({key}): {}", n + 1, fault.path), ..fault }),
            ),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    tell_apart(&mut plan);
    let many = if rows.len() == 1 { "1 row".to_owned() } else { format!("{} rows", rows.len()) };
    let text = format!("{name}, for {many}");
    plan.summary.clone_from(&text);
    "The results row by row, in the order of the roster.".clone_into(&mut plan.synthesis);
    Ok(Made { text, plan })
}

fn key(row: &Row, n: usize, taken: &mut BTreeSet<String>) -> String {
    let named = KEYS.iter().find_map(|name| row.values.get(*name)).map(|value| fold(value));
    let named = named.filter(|key| !key.is_empty()).unwrap_or_else(|| format!("row{}", n + 1));
    let named = text::clip(&named, 24).trim_end_matches(['…', '-']).to_owned();
    let free = (1..).map(|k| if k == 1 { named.clone() } else { format!("{named}-{k}") });
    let key = free.into_iter().find(|key| !taken.contains(key)).unwrap_or(named);
    taken.insert(key.clone());
    key
}

/// The plan of one row.
fn one(row: &Row, shared: &Values) -> Result<Made, Vec<Fault>> {
    let mut values = shared.clone();
    values.extend(row.values.clone());
    // What no marker asks for is told to each task, so that nothing of the row is lost.
    let aside: Values =
        values.iter().filter(|(name, _)| !asks_for(&row.workflow, name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    values.retain(|name, _| !aside.contains_key(name));
    let mut workflow = row.workflow.clone();
    let aside = aside.into_iter().filter(|(name, _)| !matches!(&**name, "id" | "key"));
    let aside: Vec<(String, String)> = aside.collect();
    for task in workflow.0.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(fields) = task.as_object_mut() else { continue };
        let params = fields.entry("params").or_insert_with(|| Value::Object(serde_json::Map::new()));
        let Some(params) = params.as_object_mut() else { continue };
        for (name, value) in &aside {
            params.entry(name.clone()).or_insert_with(|| super::marks::escaped(value).into());
        }
    }
    make(&workflow, &values)
}

/// Whether a marker of the workflow names this parameter.
fn asks_for(workflow: &Workflow, name: &str) -> bool {
    fn inside(value: &Value, wanted: &str) -> bool {
        match value {
            Value::String(text) => text.split("{{").skip(1).any(|rest| {
                rest.split("}}").next().is_some_and(|inside| inside.trim().strip_prefix("param.") == Some(wanted))
            }),
            Value::Array(each) => each.iter().any(|one| inside(one, wanted)),
            Value::Object(fields) => fields.values().any(|one| inside(one, wanted)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    workflow.0.values().any(|value| inside(value, name))
}

/// Adds a row's plan under names of its own.
fn join(plan: &mut Plan, made: Made, key: &str) {
    let suffixed = |id: &str, most: usize| {
        let room = most.saturating_sub(key.len() + 1);
        format!("{}-{key}", text::clip(id, room).trim_end_matches('…'))
    };
    let renamed: BTreeMap<String, String> =
        made.plan.tasks.iter().map(|task| (task.id.clone(), suffixed(&task.id, 48))).collect();
    let new = |id: &String| renamed.get(id).cloned().unwrap_or_else(|| id.clone());
    for mut task in made.plan.tasks {
        task.id = new(&task.id);
        task.dependencies = task.dependencies.iter().map(new).collect();
        for input in &mut task.inputs {
            input.dependency = new(&input.dependency);
        }
        task.serves = task.serves.iter().map(|id| suffixed(id, 200)).collect();
        plan.tasks.push(task);
    }
    for requirement in made.plan.requirements {
        let id = suffixed(&requirement.id, 200);
        plan.requirements.push(Requirement { id, text: format!("{} ({key})", requirement.text) });
    }
}

/// Gives tasks of the same title their id beside it.
fn tell_apart(plan: &mut Plan) {
    let mut titles: BTreeMap<String, usize> = BTreeMap::new();
    for task in &plan.tasks {
        *titles.entry(task.title.clone()).or_default() += 1;
    }
    for task in plan.tasks.iter_mut().filter(|task| titles.get(&task.title).is_some_and(|n| *n > 1)) {
        task.title = text::clip(&format!("{}: {}", task.title, task.id), TITLE).into_owned();
    }
}
