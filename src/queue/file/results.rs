//! A result file's content: ours is written strictly, everybody's is read generously.
//!
//! Its one surprise: a file in `results/` may be a progress note of an older program (`status: running`); that is no
//! result, and [`read`] says so by [`Reading::NotAnEnd`].

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::strict;
use crate::model::{
    Artifact, CostSource, EndState, Ending, FailureClass, MicroUsd, Outcome, TaskId, TaskRef, Usage,
    text::{clip, scrub},
};

/// The largest result file we read, in bytes.
pub(super) const LIMIT: u64 = 8 * 1024 * 1024;

/// The longest summary we write, in bytes.
const SUMMARY_LIMIT: usize = 512 * 1024;

/// What a file in `results/` turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// A task's end.
    Result(Box<Outcome>),
    /// Well-formed, but it speaks of a task still at work.
    NotAnEnd(String),
    /// Not a result, and why.
    Bad(String),
}

/// The names a result of `id` has had.
pub(super) fn names(id: &TaskId) -> [String; 5] {
    [
        format!("{id}.json"),
        format!("{id}-result.json"),
        format!("task-{id}.json"),
        format!("result-{id}.json"),
        format!("result_{id}.json"),
    ]
}

/// The id that a result's file name speaks of, where its content names none.
fn id_of_name(stem: &str) -> Option<TaskId> {
    let stem = stem.strip_suffix("-result").unwrap_or(stem);
    let bare = ["task-", "result-", "result_"].iter().find_map(|prefix| stem.strip_prefix(prefix));
    TaskId::new(bare.unwrap_or(stem)).ok()
}

/// The state as outside programs read it.
fn state_word(state: EndState) -> Value {
    serde_json::to_value(state).unwrap_or_default()
}

/// Whether a file is JSON at all, for the right sentence about it.
pub(super) fn is_json(path: &std::path::Path) -> bool {
    match super::disk::open_regular(path, LIMIT) {
        Ok(super::disk::Opened::Whole { bytes, .. }) => strict::object(&bytes).is_ok(),
        Ok(_) | Err(_) => false,
    }
}

/// Writes a result file.
pub(super) fn write(outcome: &Outcome) -> Vec<u8> {
    let done = outcome.state == EndState::Done;
    let seconds = outcome.completed_at.duration_since(outcome.started_at).as_secs_f64().max(0.0);
    let class = outcome.ending.class().map(FailureClass::word);
    let errors = if done {
        json!([])
    } else {
        json!([{"class": class.unwrap_or(outcome.state.word()), "message": outcome.ending.sentence()}])
    };
    let mut value = json!({
        "schema_version": 1,
        "task_id": outcome.task.id,
        "worker": outcome.task.agent,
        "status": if done { "complete" } else { "failed" },
        "state": state_word(outcome.state),
        "attempts": outcome.attempt,
        "summary": clip(&outcome.summary, SUMMARY_LIMIT),
        "findings": outcome.findings,
        "artifacts": outcome.artifacts,
        "errors": errors,
        "ending": outcome.ending,
        "execution_time": (seconds * 1000.0).round() / 1000.0,
        "started_at": outcome.started_at,
        "completed_at": outcome.completed_at,
        "usage": outcome.usage,
        "cost_usd": outcome.cost.dollars(),
        "cost_source": outcome.cost_source,
    });
    if let Value::Object(map) = &mut value {
        let optional = [
            ("model", outcome.model.clone()),
            ("session_id", outcome.session_id.clone()),
            ("goal_id", outcome.goal.as_ref().map(ToString::to_string)),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                map.insert(name.to_owned(), text.into());
            }
        }
    }
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// Reads the file `{stem}.json` of `results/{agent}/`; `modified` stands in for a time the file does not tell.
pub(super) fn read(bytes: &[u8], agent: &crate::model::AgentName, stem: &str, modified: Timestamp) -> Reading {
    let map = match strict::object(bytes) {
        Ok(mut map) => {
            map.values_mut().for_each(clean_all);
            Source(map)
        }
        Err(fault) => return Reading::Bad(fault.sentence),
    };
    let id = match map.text(&["task_id", "id"]) {
        Some(id) => TaskId::new(id).ok(),
        None => id_of_name(stem),
    };
    let Some(id) = id else { return Reading::Bad("Its task_id is not an id.".into()) };
    let state = match map.state() {
        Ok(state) => state,
        Err(Some(word)) => return Reading::NotAnEnd(word),
        Err(None) => return Reading::Bad("It has neither a status nor an exit code.".into()),
    };
    let ours = map.0.get("schema_version").is_some();
    let completed_at = map.time(&["completed_at", "timestamp_complete", "timestamp"]).unwrap_or(modified);
    let message = map.error();
    let summary = map.summary().or_else(|| message.clone()).unwrap_or_default();
    let known: Option<Ending> = map.0.get("ending").and_then(|v| serde_json::from_value(v.clone()).ok());
    let ending = known.unwrap_or_else(|| map.ending(state, message.as_deref().unwrap_or(&summary)));
    Reading::Result(Box::new(Outcome {
        task: TaskRef::new(agent.clone(), id),
        state,
        ending,
        attempt: map.whole(&["attempts", "attempt"]).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        summary,
        findings: map.findings(),
        artifacts: map.artifacts(),
        started_at: map.time(&["started_at", "timestamp_start"]).unwrap_or(completed_at),
        completed_at,
        usage: map.0.get("usage").map(usage).unwrap_or_default(),
        cost: map.number(&["cost_usd", "total_cost_usd"]).map(MicroUsd::from_dollars).unwrap_or_default(),
        cost_source: map
            .0
            .get("cost_source")
            .and_then(|v| serde_json::from_value(v.clone()).ok())
            .unwrap_or(CostSource::Estimated),
        model: map.text(&["model"]),
        session_id: map.text(&["session_id"]),
        goal: map.text(&["goal_id"]).and_then(|goal| goal.parse().ok()),
        foreign: !ours,
    }))
}

fn usage(value: &Value) -> Usage {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

/// A text from outside, harmless.
fn clean(text: &str) -> String {
    scrub(text.trim()).into_owned()
}

/// Makes every text within a value harmless.
fn clean_all(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let std::borrow::Cow::Owned(clean) = scrub(text) {
                *text = clean;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(clean_all),
        Value::Object(map) => map.values_mut().for_each(clean_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Anything as one line of text: texts as they are, the rest as JSON.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        Value::Object(map) => ["message", "summary", "description", "title"]
            .iter()
            .find_map(|name| map.get(*name).and_then(Value::as_str))
            .map_or_else(|| value.to_string(), clean),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

struct Source(Map<String, Value>);

impl Source {
    fn text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.0.get(*name).and_then(Value::as_str)).map(clean).filter(|t| !t.is_empty())
    }

    fn number(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.0.get(*name).and_then(Value::as_f64))
    }

    fn whole(&self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|name| self.0.get(*name).and_then(Value::as_i64))
    }

    /// Times without a zone are taken as UTC, also the compact `20251122T101500`.
    fn time(&self, names: &[&str]) -> Option<Timestamp> {
        names.iter().find_map(|name| self.0.get(*name).and_then(Value::as_str)).and_then(|text| {
            let naive = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
            text.parse().ok().or_else(|| naive().map(|zoned| zoned.timestamp()))
        })
    }

    /// How it ended; `Err` with the word of a task still at work, or without where nothing is said.
    fn state(&self) -> Result<EndState, Option<String>> {
        let known = self.0.get("state").and_then(|v| serde_json::from_value(v.clone()).ok());
        if let Some(state) = known {
            return Ok(state);
        }
        let Some(word) = self.text(&["status"]) else {
            return match self.whole(&["exit_code"]) {
                Some(0) => Ok(EndState::Done),
                Some(_) => Ok(EndState::Failed),
                None => Err(None),
            };
        };
        match word.to_ascii_lowercase().as_str() {
            "complete" | "completed" | "success" | "done" | "ok" => Ok(EndState::Done),
            "failed" | "error" | "partial" => Ok(EndState::Failed),
            "timeout" | "timed_out" => Ok(EndState::TimedOut),
            "dead_letter_queue" | "dead" => Ok(EndState::Dead),
            "cancelled" | "canceled" => Ok(EndState::Cancelled),
            "expired" => Ok(EndState::Expired),
            "skipped" => Ok(EndState::Skipped),
            _ => Err(Some(word)),
        }
    }

    fn error(&self) -> Option<String> {
        let value = match self.0.get("errors") {
            Some(Value::Array(list)) => list.first(),
            other => other,
        };
        value.or_else(|| self.0.get("error")).filter(|v| !v.is_null()).map(said).or_else(|| self.text(&["stderr"]))
    }

    fn ending(&self, state: EndState, message: &str) -> Ending {
        let message = clip(message, 2_000).into_owned();
        match state {
            EndState::Done => Ending::Done,
            EndState::Cancelled => Ending::Cancelled,
            EndState::Skipped => Ending::DependencyFailed { dependency: message },
            EndState::TimedOut => {
                let seconds = self.number(&["execution_time", "execution_time_seconds", "duration_seconds"]);
                let whole = std::time::Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default();
                Ending::Deadline { seconds: whole.as_secs() }
            }
            EndState::Failed | EndState::Expired | EndState::Dead => Ending::Reported { message },
        }
    }

    fn summary(&self) -> Option<String> {
        self.text(&["summary", "message", "output", "notes"]).or_else(|| {
            match self.0.get("findings") {
                Some(Value::String(text)) => Some(clean(text)),
                Some(Value::Object(map)) => map.get("summary").map(said),
                Some(Value::Null | Value::Bool(_) | Value::Number(_)) | None => None,
                Some(Value::Array(list)) => list.first().map(said),
            }
            .or_else(|| self.text(&["stdout"]))
        })
    }

    fn findings(&self) -> Vec<String> {
        match self.0.get("findings") {
            Some(Value::Array(list)) => list.iter().map(said).collect(),
            Some(Value::Object(map)) => match map.get("details") {
                Some(Value::Array(list)) => list.iter().map(said).collect(),
                Some(value) => vec![said(value)],
                None => Vec::new(),
            },
            Some(Value::String(text)) if !text.trim().is_empty() => vec![clean(text)],
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => Vec::new(),
        }
    }

    fn artifacts(&self) -> Vec<Artifact> {
        let lists = ["artifacts", "deliverables"].into_iter().filter_map(|name| self.0.get(name)?.as_array());
        let one = |value: &Value| -> Option<Artifact> {
            let (path, rest) = match value {
                Value::String(path) => (path.as_str(), None),
                Value::Object(map) => (map.get("path")?.as_str()?, Some(map)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
            };
            let bytes = rest.and_then(|map| map.get("bytes")?.as_u64()).unwrap_or_default();
            let sha256 = rest.and_then(|map| map.get("sha256")?.as_str()).unwrap_or_default();
            let kept = rest.and_then(|map| map.get("kept")?.as_str()).map(clean);
            Some(Artifact { path: clean(path), bytes, sha256: clean(sha256), kept })
        };
        lists.flatten().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            task: "marie/eval-1".parse().unwrap(),
            state: EndState::Dead,
            ending: Ending::ExitCode { code: 2, message: "no".into() },
            attempt: 3,
            summary: "exit 2: no".into(),
            findings: vec!["one".into()],
            artifacts: vec![Artifact {
                path: "workspaces/dance/a.md".into(),
                bytes: 3,
                sha256: "ab".into(),
                kept: Some(".podium/runs/g1/ab".into()),
            }],
            started_at: "2026-11-22T10:00:00Z".parse().unwrap(),
            completed_at: "2026-11-22T10:00:45.25Z".parse().unwrap(),
            usage: Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() },
            cost: MicroUsd(12_300),
            cost_source: CostSource::Measured,
            model: Some("sonnet".into()),
            session_id: Some("s".into()),
            goal: Some("g1".parse().unwrap()),
            foreign: false,
        }
    }

    fn reading(text: &str) -> Reading {
        read(text.as_bytes(), &"marie".parse().unwrap(), "task-sec-001", Timestamp::UNIX_EPOCH)
    }

    fn result(text: &str) -> Outcome {
        match reading(text) {
            Reading::Result(outcome) => *outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same_and_says_what_outsiders_expect() {
        let bytes = write(&outcome());
        let Reading::Result(read) = read(&bytes, &"marie".parse().unwrap(), "x", Timestamp::UNIX_EPOCH) else {
            panic!("not a result")
        };
        assert_eq!(*read, outcome());
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["status"], "failed");
        assert_eq!(value["state"], "dead");
        assert_eq!(value["errors"][0], json!({"class": "task", "message": "exit 2: no"}));
        assert_eq!(value["execution_time"], 45.25);
        assert_eq!(value["cost_usd"], 0.0123);
    }

    #[test]
    fn every_word_for_an_end_is_known_and_the_rest_is_no_end() {
        for (word, state) in [
            ("complete", EndState::Done),
            ("Completed", EndState::Done),
            ("success", EndState::Done),
            ("done", EndState::Done),
            ("ERROR", EndState::Failed),
            ("partial", EndState::Failed),
            ("timeout", EndState::TimedOut),
            ("dead_letter_queue", EndState::Dead),
        ] {
            assert_eq!(result(&format!(r#"{{"status":"{word}"}}"#)).state, state, "{word}");
        }
        for word in ["running", "processing", "pending", "needs_clarification", "in_progress", "retry"] {
            assert_eq!(reading(&format!(r#"{{"status":"{word}"}}"#)), Reading::NotAnEnd(word.into()));
        }
        assert!(matches!(reading("{}"), Reading::Bad(_)));
        assert!(matches!(reading("{\"status\":"), Reading::Bad(_)));
    }

    #[test]
    fn the_three_shapes_of_findings_and_both_of_artifacts_are_read() {
        let list = result(
            r#"{"task_id":"sec-001","status":"complete","findings":["a",{"message":"b"}],
                "artifacts":["results/r.md",{"type":"code","path":"w/x.py"}],"execution_time":45.2,
                "completed_at":"2025-11-22T10:00:00.123456"}"#,
        );
        assert_eq!((list.task.id.as_str(), list.summary.as_str(), list.foreign), ("sec-001", "a", true));
        assert_eq!(list.findings, ["a", "b"]);
        assert_eq!(list.artifacts.iter().map(|a| a.path.as_str()).collect::<Vec<_>>(), ["results/r.md", "w/x.py"]);
        assert_eq!(list.completed_at.to_string(), "2025-11-22T10:00:00.123456Z");
        let object = result(r#"{"status":"success","findings":{"summary":"all well","details":["x"]}}"#);
        assert_eq!((object.summary.as_str(), object.findings.as_slice()), ("all well", &["x".to_owned()][..]));
        assert_eq!(object.task.id.as_str(), "sec-001");
        let text = result("{\"status\":\"done\",\"findings\":\"plain \\u001b[31mred\"}");
        assert_eq!(text.summary, "plain red");
    }

    #[test]
    fn escape_sequences_leave_no_field() {
        let text = "{\"status\":\"failed\",\"ending\":{\"kind\":\"reported\",\"message\":\"\\u001b[2Jno\"},\"model\":\"a\\u0007b\"}";
        let read = result(text);
        assert_eq!(read.ending, Ending::Reported { message: "no".into() });
        assert_eq!(read.model.as_deref(), Some("ab"));
    }

    #[test]
    fn a_failure_of_an_older_wrapper_keeps_its_message() {
        let failed = result(r#"{"status":"failed","stdout":"","stderr":"no input","exit_code":1}"#);
        assert_eq!(failed.ending, Ending::Reported { message: "no input".into() });
        assert_eq!(failed.summary, "no input");
    }
}
