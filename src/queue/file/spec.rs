//! A task file's content: every spelling that was ever used is read, one is written.

use std::time::Duration;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value, json};

use super::strict::{self, Fault};
use crate::{
    model::{
        AgentName, Dependency, Effort, GoalId, IdError, IfFailed, MicroUsd, OnLost, Priority, TaskId, TaskRef,
        TaskSpec, budget, text,
    },
    queue::QueueError,
};

/// The largest task file, in bytes.
pub(super) const LIMIT: usize = 512 * 1024;

/// Reads the task that lies in `agent`'s folder under `stem`, which is its id where the content names none.
pub(super) fn read(bytes: &[u8], agent: &AgentName, stem: &str) -> Result<TaskSpec, Fault> {
    let mut map = strict::object(bytes)?;
    let mut fields = Fields(&mut map);
    let task = TaskRef::new(agent.clone(), read_id(&mut fields, stem)?);
    if let Some((name, worker)) = fields.text(&["worker", "assigned_to", "agent"])?
        && worker != agent.as_str()
    {
        let worker = text::first_line(&worker, 60);
        return Err(Fault::new(format!("The file is in tasks/{agent}/ but its {name} says {worker}.")));
    }
    let description = fields.first_text(&["description", "prompt"])?;
    let title = fields.first_text(&["title"])?;
    let dependencies = fields.dependencies()?;
    let if_failed = match fields.text(&["if_failed"])? {
        None => IfFailed::Skip,
        Some((_, word)) => match word.as_str() {
            "skip" => IfFailed::Skip,
            "run" => IfFailed::Run,
            other => return Err(wrong("if_failed", "skip or run", &Value::from(other))),
        },
    };
    let priority = fields.priority()?;
    let timeout = fields.seconds(&["timeout", "timeout_seconds", "timeout_s"])?;
    let max_attempts = fields.max_attempts()?;
    let not_before = fields.moment(&["not_before"])?;
    let start_by = fields.seconds(&["start_by", "start_by_s"])?;
    let deadline = fields.moment(&["deadline"])?;
    let stall = fields.seconds(&["stall", "stall_s"])?;
    let backoff = fields.seconds(&["backoff", "backoff_s"])?;
    let on_lost = match fields.text(&["on_lost"])? {
        None => OnLost::Retry,
        Some((_, word)) => match word.as_str() {
            "retry" => OnLost::Retry,
            "ask" => OnLost::Ask,
            other => return Err(wrong("on_lost", "retry or ask", &Value::from(other))),
        },
    };
    let resume = fields.text(&["resume_session"])?.map(|(_, session)| session);
    let retry_of = match fields.text(&["retry_of"])? {
        None => None,
        Some((name, task)) => {
            Some(task.parse().map_err(|_e| wrong(name, "a task, like marie/roster", &Value::from(task)))?)
        }
    };
    let model = fields.text(&["model"])?.map(|(_, model)| model);
    // The name was anybody's before: what is none of our words goes on to the agent as it is.
    let effort = fields.0.get("effort").and_then(Value::as_str).and_then(Effort::parse);
    if effort.is_some() {
        fields.0.remove("effort");
    }
    let budget = fields.budget()?;
    let goal = match fields.text(&["goal_id", "goal"])? {
        None => None,
        Some((name, goal)) => {
            let Ok(parsed) = goal.parse::<GoalId>() else {
                return Err(wrong(name, "a goal's id, like g1", &Value::from(goal)));
            };
            Some(parsed)
        }
    };
    let context = fields.take(&["context"]).map(|(_, value)| value).unwrap_or_default();
    Ok(TaskSpec {
        title: if title.is_empty() { text::first_line(&description, 80) } else { title },
        task,
        description,
        dependencies,
        if_failed,
        priority,
        timeout,
        max_attempts,
        not_before,
        start_by,
        deadline,
        stall,
        backoff,
        on_lost,
        resume,
        retry_of,
        model,
        effort,
        budget,
        goal,
        context,
        extra: map,
    })
}

/// The id inside wins over the file's name.
fn read_id(fields: &mut Fields<'_>, stem: &str) -> Result<TaskId, Fault> {
    let id = fields.text(&["task_id", "id"])?.map_or_else(|| stem.to_owned(), |(_, id)| id);
    TaskId::new(id).map_err(|error| match error {
        IdError::Empty => Fault::new("Task ids use letters, digits, . _ -; this task_id is empty."),
        IdError::TooLong { len, limit } => Fault::new(format!(
            "Task ids are at most {limit} characters long; this task_id has {len}."
        )),
        IdError::Character { shown, at } => Fault::new(format!(
            "Task ids use letters, digits, . _ - and start with a letter or digit; this task_id has {shown} at position {at}."
        )),
    })
}

fn wrong(name: &str, wanted: &str, value: &Value) -> Fault {
    Fault::new(format!("{name} must be {wanted}, found {}.", strict::found(value)))
}

/// The fields not yet read; what is left over is passed through.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    /// Takes the first of these that is there and not null.
    fn take(&mut self, names: &[&'static str]) -> Option<(&'static str, Value)> {
        let mut first = None;
        for name in names {
            match self.0.remove(*name) {
                None | Some(Value::Null) => {}
                Some(value) if first.is_none() => first = Some((*name, value)),
                Some(_) => {}
            }
        }
        first
    }

    /// Takes a text, trimmed.
    fn text(&mut self, names: &[&'static str]) -> Result<Option<(&'static str, String)>, Fault> {
        match self.take(names) {
            None => Ok(None),
            Some((name, Value::String(text))) => Ok(Some((name, text.trim().to_owned()))),
            Some((name, value)) => Err(wrong(name, "a text", &value)),
        }
    }

    /// Takes the first text of these that says anything; empty where none does.
    fn first_text(&mut self, names: &[&'static str]) -> Result<String, Fault> {
        let mut best = String::new();
        for name in names {
            let text = self.text(&[name])?.map(|(_, text)| text).unwrap_or_default();
            if best.is_empty() {
                best = text;
            }
        }
        Ok(best)
    }

    fn dependencies(&mut self) -> Result<Vec<Dependency>, Fault> {
        let Some((name, value)) = self.take(&["dependencies", "after"]) else { return Ok(Vec::new()) };
        let list = match value {
            Value::Array(list) => list,
            one @ Value::String(_) => vec![one],
            other => return Err(wrong(name, "a list of task ids", &other)),
        };
        let mut out: Vec<Dependency> = Vec::with_capacity(list.len());
        for item in list {
            let parsed = item.as_str().and_then(|text| text.parse::<Dependency>().ok());
            let Some(dependency) = parsed else { return Err(wrong(name, "a list of task ids", &item)) };
            if !out.contains(&dependency) {
                out.push(dependency);
            }
        }
        Ok(out)
    }

    fn priority(&mut self) -> Result<Priority, Fault> {
        const WANTED: &str = "a whole number from 0 to 9";
        let Some((name, value)) = self.take(&["priority"]) else { return Ok(Priority::NORMAL) };
        let parsed = match &value {
            Value::String(word) => Priority::parse(word.trim()),
            Value::Number(number) => {
                number.as_u64().and_then(|n| u8::try_from(n).ok()).filter(|n| *n <= 9).map(Priority)
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        parsed.ok_or_else(|| wrong(name, WANTED, &value))
    }

    /// Takes a length of time in seconds.
    fn seconds(&mut self, names: &[&'static str]) -> Result<Option<Duration>, Fault> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        let seconds = value.as_f64().filter(|s| *s > 0.0);
        let parsed = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
        parsed.map(Some).ok_or_else(|| wrong(name, "a number of seconds above 0", &value))
    }

    /// Takes a moment; one without a zone is UTC, as older programs meant it.
    fn moment(&mut self, names: &[&'static str]) -> Result<Option<Timestamp>, Fault> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        let parsed = value.as_str().map(str::trim).and_then(|text| {
            let zoned = text.parse::<Timestamp>().ok();
            zoned.or_else(|| Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()))
        });
        parsed.map(Some).ok_or_else(|| wrong(name, "a time like 2025-11-22T18:00:00Z", &value))
    }

    /// Takes an amount of dollars, or `off`.
    fn budget(&mut self) -> Result<Option<MicroUsd>, Fault> {
        let Some((name, value)) = self.take(&["budget_usd"]) else { return Ok(None) };
        let parsed = match &value {
            Value::String(text) => budget::parse_cap(text).ok(),
            other => other.as_f64().and_then(budget::cap),
        };
        parsed.map(Some).ok_or_else(|| wrong(name, "an amount of dollars, or off", &value))
    }

    fn max_attempts(&mut self) -> Result<Option<u32>, Fault> {
        let Some((name, value)) = self.take(&["max_attempts"]) else { return Ok(None) };
        let parsed = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=100).contains(n));
        parsed.map(Some).ok_or_else(|| wrong(name, "a whole number from 1 to 100", &value))
    }
}

/// Writes a task file.
pub(in crate::queue) fn write(spec: &TaskSpec) -> Result<Vec<u8>, QueueError> {
    let mut map = spec.extra.clone();
    let mut put = |name: &str, value: Value| {
        map.insert(name.to_owned(), value);
    };
    put("task_id", json!(spec.task.id));
    put("worker", json!(spec.task.agent));
    put("description", json!(spec.description));
    if !spec.title.is_empty() && spec.title != text::first_line(&spec.description, 80) {
        put("title", json!(spec.title));
    }
    put("dependencies", json!(spec.dependencies));
    if spec.if_failed != IfFailed::Skip {
        put("if_failed", json!(spec.if_failed));
    }
    let word = spec.priority.word();
    let exact = Priority::parse(word) == Some(spec.priority);
    put("priority", if exact { json!(word) } else { json!(spec.priority) });
    let lengths =
        [("timeout", spec.timeout), ("start_by", spec.start_by), ("stall", spec.stall), ("backoff", spec.backoff)];
    for (name, length) in lengths {
        if let Some(length) = length {
            let whole = length.subsec_nanos() == 0;
            put(name, if whole { json!(length.as_secs()) } else { json!(length.as_secs_f64()) });
        }
    }
    for (name, moment) in [("not_before", spec.not_before), ("deadline", spec.deadline)] {
        if let Some(moment) = moment {
            put(name, json!(moment));
        }
    }
    if spec.on_lost != OnLost::Retry {
        put("on_lost", json!(spec.on_lost));
    }
    if let Some(session) = &spec.resume {
        put("resume_session", json!(session));
    }
    if let Some(task) = &spec.retry_of {
        put("retry_of", json!(task));
    }
    if let Some(attempts) = spec.max_attempts {
        put("max_attempts", json!(attempts));
    }
    if let Some(model) = &spec.model {
        put("model", json!(model));
    }
    if let Some(effort) = spec.effort {
        put("effort", json!(effort));
    }
    if let Some(budget) = spec.budget {
        put("budget_usd", if budget.is_zero() { json!("off") } else { json!(budget.dollars()) });
    }
    if let Some(goal) = &spec.goal {
        put("goal_id", json!(goal));
    }
    if !spec.context.is_null() {
        put("context", spec.context.clone());
    }
    let mut bytes = Value::Object(map).to_string().into_bytes();
    bytes.push(b'\n');
    if bytes.len() > LIMIT {
        return Err(QueueError::TooLarge { bytes: bytes.len(), limit: LIMIT });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marie() -> AgentName {
        "marie".parse().unwrap()
    }

    fn sentence(text: &str) -> String {
        read(text.as_bytes(), &marie(), "t").unwrap_err().sentence
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let mut spec = TaskSpec::new("marie/eval-1".parse().unwrap(), "Évaluer\nles juniors");
        assert_eq!(read(&write(&spec).unwrap(), &marie(), "other").unwrap(), spec);
        spec.title = "Evaluation".into();
        spec.dependencies = vec!["roster".parse().unwrap(), "anga/x".parse().unwrap()];
        spec.if_failed = IfFailed::Run;
        spec.priority = Priority(7);
        spec.timeout = Some(Duration::from_millis(1500));
        spec.max_attempts = Some(2);
        spec.not_before = Some("2025-11-22T18:00:00Z".parse().unwrap());
        spec.start_by = Some(Duration::from_mins(1));
        spec.deadline = Some("2025-11-23T18:00:00.5Z".parse().unwrap());
        spec.stall = Some(Duration::from_secs(90));
        spec.backoff = Some(Duration::from_millis(250));
        spec.on_lost = OnLost::Ask;
        spec.resume = Some("0b7c".into());
        spec.retry_of = Some("anga/eval".parse().unwrap());
        spec.model = Some("haiku".into());
        spec.effort = Some(Effort::High);
        spec.budget = Some(MicroUsd(500_000));
        spec.goal = Some("g1".parse().unwrap());
        spec.context = json!({"class": "juniors"});
        spec.extra.insert("requirements".into(), json!(["a"]));
        assert_eq!(read(&write(&spec).unwrap(), &marie(), "other").unwrap(), spec);
    }

    #[test]
    fn older_spellings_are_read() {
        let spec = read(
            br#"{"id":"sec-001","assigned_to":"marie","prompt":" do it ","after":"a","timeout_seconds":300,
                "priority":"URGENT","status":"pending","from":"orchestrator","context":null,"title":null}"#,
            &marie(),
            "task-001",
        )
        .unwrap();
        assert_eq!(spec.task.to_string(), "marie/sec-001");
        assert_eq!((spec.description.as_str(), spec.title.as_str()), ("do it", "do it"));
        assert_eq!(spec.dependencies, vec!["a".parse().unwrap()]);
        assert_eq!(spec.timeout, Some(Duration::from_mins(5)));
        assert_eq!(spec.priority, Priority(1));
        assert_eq!(spec.extra.keys().collect::<Vec<_>>(), ["from", "status"]);
    }

    #[test]
    fn a_task_without_text_is_a_task() {
        let spec = read(br#"{"task_id":"t1"}"#, &marie(), "x").unwrap();
        assert_eq!((spec.task.id.as_str(), spec.description.as_str()), ("t1", ""));
    }

    #[test]
    fn a_wrong_field_is_named_with_what_was_found() {
        assert_eq!(sentence(r#"{"priority":"hi"}"#), "priority must be a whole number from 0 to 9, found \"hi\".");
        assert_eq!(sentence(r#"{"priority":10}"#), "priority must be a whole number from 0 to 9, found 10.");
        assert_eq!(sentence(r#"{"description":[1,2]}"#), "description must be a text, found a list of 2.");
        assert_eq!(sentence(r#"{"timeout":-1}"#), "timeout must be a number of seconds above 0, found -1.");
        assert_eq!(sentence(r#"{"stall":"x"}"#), "stall must be a number of seconds above 0, found \"x\".");
        assert_eq!(
            sentence(r#"{"deadline":"soon"}"#),
            "deadline must be a time like 2025-11-22T18:00:00Z, found \"soon\"."
        );
        assert_eq!(
            sentence(r#"{"retry_of":"roster"}"#),
            "retry_of must be a task, like marie/roster, found \"roster\"."
        );
        assert_eq!(sentence(r#"{"budget_usd":-1}"#), "budget_usd must be an amount of dollars, or off, found -1.");
        assert_eq!(sentence(r#"{"on_lost":"cry"}"#), "on_lost must be retry or ask, found \"cry\".");
        assert_eq!(sentence(r#"{"worker":"nobody"}"#), "The file is in tasks/marie/ but its worker says nobody.");
        assert_eq!(
            sentence(r#"{"dependencies":["../x"]}"#),
            "dependencies must be a list of task ids, found \"../x\"."
        );
        assert!(sentence(r#"{"task_id":"a/b"}"#).ends_with("this task_id has / at position 1."));
        assert!(sentence(&format!(r#"{{"task_id":"{}"}}"#, "a".repeat(300))).ends_with("this task_id has 300."));
    }
}
