//! What is said to a request, and how long it takes at pace 1.

use serde_json::{Map, Value, json};

use super::{
    asked::{Asked, Kind, SUBTASK},
    fault::{Due, Fault},
    planner, prose,
    seed::{self, Dice},
};
use crate::api::StopReason;

/// One block of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// Text.
    Text(String),
    /// A tool call.
    Tool {
        /// Its id.
        id: String,
        /// Which tool.
        name: String,
        /// With what.
        input: Value,
    },
}

impl Said {
    /// The block in the pieces in which it is streamed.
    pub(super) fn pieces(&self) -> Vec<String> {
        match self {
            Self::Text(text) => {
                let words: Vec<&str> = text.split_inclusive(char::is_whitespace).collect();
                words.chunks(3).map(<[&str]>::concat).collect()
            }
            Self::Tool { input, .. } => {
                let letters: Vec<char> = input.to_string().chars().collect();
                letters.chunks(40).map(|chunk| chunk.iter().collect()).collect()
            }
        }
    }
}

/// What happens to an answer on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twist {
    /// It breaks in the middle.
    Cut,
    /// It stops, and the connection stays.
    Hang,
    /// It takes ten times as long.
    Slow,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) said: Vec<Said>,
    pub(super) stop: StopReason,
    /// At pace 1.
    pub(super) seconds: f64,
    pub(super) twist: Option<Twist>,
}

impl Script {
    /// Writes the answer; the same for the same seed, request and faults.
    pub(super) fn write(asked: &Asked, seed: u64, due: &Due) -> Self {
        // Not of the whole request: the CLI's carries dates and folders, and the words should not change with them.
        let key = seed::of(&[&seed.to_string(), asked.own_words(), &asked.steps.to_string()]);
        let mut dice = Dice::new(key);
        let mut script = Self::plainly(asked, key, &mut dice, due);
        script.twist = [(Fault::Cut, Twist::Cut), (Fault::Hang, Twist::Hang), (Fault::Slow, Twist::Slow)]
            .into_iter()
            .find_map(|(fault, twist)| due.has(fault).then_some(twist));
        if due.has(Fault::Refuse) {
            script.said.clear();
            script.stop = StopReason::Refusal;
        } else if due.has(Fault::Empty) {
            script.said.clear();
            script.stop = StopReason::EndTurn;
        } else if due.has(Fault::MaxTokens) {
            script.said.retain(|said| matches!(said, Said::Text(_)));
            if let Some(Said::Text(text)) = script.said.first_mut() {
                let words: Vec<&str> = text.split_inclusive(' ').collect();
                *text = words.iter().take(words.len().div_ceil(2)).copied().collect();
            }
            script.said.truncate(1);
            script.stop = StopReason::MaxTokens;
        }
        script
    }

    fn plainly(asked: &Asked, key: u64, dice: &mut Dice, due: &Due) -> Self {
        let text = |text: String, seconds: f64| Self {
            said: vec![Said::Text(text)],
            stop: StopReason::EndTurn,
            seconds,
            twist: None,
        };
        // The CLI asks for structured answers through a tool, the API through a format.
        let tool = asked.tools.iter().find(|tool| tool.name == "StructuredOutput");
        let schema = asked.schema.as_ref().or(tool.map(|tool| &tool.schema));
        if let Some(schema) = schema {
            let is_plan = asked.kind == Kind::Plan || schema["properties"]["tasks"].is_object();
            let value = if is_plan {
                planner::answer(asked, due)
            } else if asked.kind == Kind::Review {
                verdict(due)
            } else {
                example(schema, 0)
            };
            let seconds = if asked.kind == Kind::Plan { dice.between(2.4, 3.0) } else { 2.0 };
            return match tool {
                Some(_) if asked.schema.is_none() && asked.steps == 0 => Self {
                    said: vec![call(asked, key, "StructuredOutput", value)],
                    stop: StopReason::ToolUse,
                    seconds,
                    twist: None,
                },
                Some(_) if asked.schema.is_none() => text("Rehearsal. The answer has been given.".to_owned(), 0.5),
                Some(_) | None if is_plan => text(planner::worded(&value, due), seconds),
                Some(_) | None => text(value.to_string(), seconds),
            };
        }
        match asked.kind {
            Kind::Plan => text(planner::worded(&planner::answer(asked, due), due), dice.between(2.4, 3.0)),
            Kind::Report => text(prose::report(&asked.prompt, dice), dice.between(3.2, 4.0)),
            Kind::Review => text(verdict(due).to_string(), dice.between(1.5, 2.0)),
            Kind::SubTask => {
                if asked.prompt.contains(MARKING) && asked.offers("Bash") && asked.steps == 0 {
                    let touch = json!({ "command": "touch second-look.txt", "description": "Leave a mark" });
                    let said = vec![call(asked, key, "Bash", touch)];
                    return Self { said, stop: StopReason::ToolUse, seconds: 0.5, twist: None };
                }
                let spawn = ["Agent", "Task"].into_iter().find(|name| asked.offers(name));
                match spawn.filter(|_| asked.prompt.contains(NESTED) && asked.steps == 0) {
                    Some(name) => Self {
                        said: vec![call(asked, key, name, second_look("Look once more.", "general-purpose"))],
                        stop: StopReason::ToolUse,
                        seconds: 0.5,
                        twist: None,
                    },
                    None => text(prose::second_look(dice), dice.between(1.5, 2.0)),
                }
            }
            Kind::Title => text("{\"title\": \"Rehearsal\"}".to_owned(), 0.2),
            Kind::Other => text(prose::task(asked, dice, None), dice.between(2.5, 3.5)),
            Kind::Task => Self::task(asked, key, dice, due),
        }
    }

    fn task(asked: &Asked, key: u64, dice: &mut Dice, due: &Due) -> Self {
        let (calls, file) = calls(asked, due);
        if let Some((words, name, input)) = calls.get(asked.steps) {
            return Self {
                said: vec![Said::Text((*words).to_owned()), call(asked, key, name, input.clone())],
                stop: StopReason::ToolUse,
                seconds: dice.between(1.1, 1.6),
                twist: None,
            };
        }
        let seconds = if calls.is_empty() { dice.between(4.4, 5.6) } else { dice.between(2.6, 3.4) };
        let answer = prose::task(asked, dice, file.as_deref());
        Self { said: vec![Said::Text(answer)], stop: StopReason::EndTurn, seconds, twist: None }
    }

    /// Tokens of the answer.
    pub(super) fn tokens(&self) -> u64 {
        let characters = self.said.iter().map(|said| match said {
            Said::Text(text) => text.chars().count(),
            Said::Tool { input, name, .. } => input.to_string().chars().count() + name.len() + 40,
        });
        (characters.sum::<usize>() as u64).div_ceil(4).max(1)
    }
}

/// A call with an id of its own in the whole conversation: the CLI takes two calls with one id for the same, drops the
/// second from what it sends, and would be told to make it for ever.
fn call(asked: &Asked, key: u64, name: &str, input: Value) -> Said {
    let key = seed::fold(key, &(asked.calls as u64).to_le_bytes());
    Said::Tool { id: format!("toolu_rehearsal_{key:016x}"), name: name.to_owned(), input }
}

type Call = (&'static str, &'static str, Value);

/// In the prompt of a sub-agent that is to ask another.
const NESTED: &str = "Let somebody else look at it too.";

/// In the prompt of a sub-agent that is to do something.
const MARKING: &str = "Leave a mark that you were there.";

/// What a person is asked.
fn question() -> Value {
    let option = |label: &str, about: &str| json!({ "label": label, "description": about });
    json!({ "questions": [
        { "question": "Which room is the class in?", "header": "Room", "multiSelect": false, "options": [
            option("Large hall", "Room for 30, and a sprung floor"), option("Studio 2", "Room for 14, and mirrors") ] },
        { "question": "What goes into the plan?", "header": "Parts", "multiSelect": true, "options": [
            option("Warm-up", "Ten minutes"), option("Routine, first half", "Eight counts of eight"),
            option("Stretching", "Five minutes") ] },
    ] })
}

/// What the tool that starts sub-agents is given.
fn second_look(words: &str, kind: &str) -> Value {
    json!({
        "description": "Second look", "prompt": format!("{SUBTASK}\n\n{words}"), "subagent_type": kind,
        "run_in_background": false,
    })
}

/// What a reviewer says.
fn verdict(due: &Due) -> Value {
    let problems: &[&str] = if due.has(Fault::Reject) { &["the rehearsal was asked to reject this"] } else { &[] };
    json!({ "accepted": problems.is_empty(), "problems": problems })
}

/// The tool calls that suit a task, in order, and the file that is left behind.
fn calls(asked: &Asked, due: &Due) -> (Vec<Call>, Option<String>) {
    let (agent, id) = asked.reference().unwrap_or(("", "task"));
    let mut calls: Vec<Call> = Vec::new();
    let spawn = ["Agent", "Task"].into_iter().find(|name| asked.offers(name));
    // Told by the words and not by the count, so that every step of one task sees the same list.
    let nested = due.has(Fault::Nested);
    let acting = due.has(Fault::Acting);
    let one = due.has(Fault::Subagent) || nested || acting;
    let wanted = if due.has(Fault::Subagents) { 3 } else { usize::from(one) };
    let wants_subagent = wanted > 0;
    if let (true, Some(name)) = (wants_subagent, spawn) {
        for _ in 0..wanted {
            let more = match (nested, acting) {
                (true, _) => format!(" {NESTED}"),
                (false, true) => format!(" {MARKING}"),
                (false, false) => String::new(),
            };
            let words = format!(
                "Look at the work for {agent}/{id} with fresh eyes. Say in three sentences whether anything is missing.{more}"
            );
            // One that is made for it has no tool to ask another.
            let kind = if asked.has_second_look && !nested && !acting { "second-look" } else { "general-purpose" };
            calls.push(("I let somebody else look at it before I go on.", name, second_look(&words, kind)));
        }
    }
    if due.has(Fault::Question) && asked.offers("AskUserQuestion") {
        calls.push(("I ask before I begin.", "AskUserQuestion", question()));
    }
    if due.has(Fault::Insist) && asked.offers("Bash") {
        for n in 1..=5 {
            let touch = json!({ "command": format!("touch again-{n}.txt"), "description": "Leave a mark" });
            calls.push(("I try it this way.", "Bash", touch));
        }
        return (calls, None);
    }
    let shows = json!({ "command": "echo \"rehearsal: looking around\" && ls", "description": "Look around" });
    let name = format!("{id}.md");
    let mut file = None;
    match agent {
        "anga" if asked.offers("Bash") && !wants_subagent => {
            calls.push(("I look at what is there first.", "Bash", shows));
        }
        "marie" | "fabien" | "anga" if asked.offers("Write") => {
            let path = match &asked.folder {
                Some(folder) => format!("{folder}/{name}"),
                None => name.clone(),
            };
            let content = format!("# {id}\n\nNotes of a rehearsal; the answer has the rest.\n");
            calls.push(("I write it down.", "Write", json!({ "file_path": path, "content": content })));
            file = Some(name);
        }
        _ if due.has(Fault::Tool) && asked.offers("Bash") => calls.push(("I look around.", "Bash", shows)),
        _ => {}
    }
    (calls, file)
}

/// The smallest value that fits a schema, as far as schemas of this kind go.
fn example(schema: &Value, depth: usize) -> Value {
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    if let Some(one) = schema["anyOf"].get(0).or_else(|| schema["oneOf"].get(0)) {
        return example(one, depth + 1);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        // No schema of the API may refer to itself; one that is deeper than this is not meant for us.
        _ if depth > 32 => Value::Null,
        Some("array") => json!([example(&schema["items"], depth + 1)]),
        Some("string") => json!("rehearsal"),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some(_) | None => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            Value::Object(fields.map(|(name, field)| (name.clone(), example(field, depth + 1))).collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        model::{GoalId, PlanTask, TaskSpec},
        orchestrator::brief,
        rehearsal::{fault::Counters, sample},
    };

    /// Seconds of a task from its prompt to its last word, over all steps and waits.
    fn seconds(task: &PlanTask, tools: &[&str]) -> f64 {
        let reference = task.reference(&GoalId::new("g1").unwrap()).unwrap();
        let prompt = brief::compose(&TaskSpec::new(reference, task.text()), &[], None);
        let tools: Vec<Value> = tools.iter().map(|name| json!({ "name": name, "input_schema": {} })).collect();
        let mut messages = vec![json!({ "role": "user", "content": prompt })];
        let mut counters = Counters::default();
        let mut sum = 0.0;
        loop {
            let body = json!({ "model": "m", "tools": tools, "messages": messages });
            let asked = Asked::read(body.to_string().as_bytes()).unwrap();
            let due = counters.take(1, &asked.directives());
            if due.status.is_some() {
                sum += 1.0;
                continue;
            }
            let script = Script::write(&asked, 7, &due);
            sum += script.seconds;
            if script.stop != StopReason::ToolUse {
                return sum;
            }
            // A sub-agent's own answer takes its time too.
            sum += if script.said.iter().any(|s| matches!(s, Said::Tool { name, .. } if name == "Agent")) {
                1.8
            } else {
                0.0
            };
            messages.push(json!({ "role": "assistant", "content": [{ "type": "tool_use" }] }));
        }
    }

    /// Seconds until the last of the sample's tasks has ended, one at a time per agent, in the order of the plan.
    fn makespan(tools: &[&str], start: f64) -> f64 {
        let mut free: HashMap<String, f64> = HashMap::new();
        let mut ended: HashMap<String, f64> = HashMap::new();
        let mut open = sample::plan();
        while !open.is_empty() {
            let ready = |task: &PlanTask| {
                let mut before = task.dependencies.iter().map(|d| ended.get(d).copied());
                before.try_fold(0.0_f64, |all, one| Some(all.max(one?)))
            };
            let begin = |task: &PlanTask| ready(task).map(|at| at.max(free.get(&task.worker).copied().unwrap_or(0.0)));
            let (at, begin) = open
                .iter()
                .enumerate()
                .filter_map(|(at, task)| Some((at, begin(task)?)))
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .unwrap();
            let task = open.remove(at);
            let end = begin + start + seconds(&task, tools);
            free.insert(task.worker.clone(), end);
            ended.insert(task.id, end);
        }
        ended.values().copied().fold(0.0, f64::max)
    }

    #[test]
    fn the_sample_goal_takes_about_half_a_minute_at_pace_one() {
        // Plan and report come on top; the CLI needs a second to start.
        for (tools, start) in [(&[][..], 0.1), (&["Agent", "Bash", "Write"][..], 1.0)] {
            let all = 2.7 + makespan(tools, start) + 3.6;
            assert!((25.0..36.0).contains(&all), "{all:.1} s with tools {tools:?}");
        }
    }

    #[test]
    fn a_schema_that_nobody_scripted_gets_a_value_that_fits() {
        let schema = json!({ "type": "object", "properties": {
            "verdict": { "enum": ["good", "bad"] }, "list": { "type": "array", "items": { "type": "integer" } },
            "either": { "anyOf": [{ "type": "string" }, { "type": "null" }] } } });
        assert_eq!(example(&schema, 0), json!({ "verdict": "good", "list": [1], "either": "rehearsal" }));
    }
}
