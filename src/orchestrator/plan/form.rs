//! One task of a plan as a text that a person edits: a line per short field, a paragraph per long one.
//!
//! Its one surprise: what the text does not show (requirements served, side effects, estimates) stays as it was.

use std::fmt::Write as _;

use crate::model::{
    DoneWhen, Effort, PlanTask,
    plan::{Input, ModelTier},
    task::Priority,
};

/// The long fields, each under a line of its own.
const LONG: [&str; 4] = ["objective", "output", "boundaries", "done when"];

/// The text of a task.
pub fn write(task: &PlanTask) -> String {
    let mut out = String::new();
    let or = |text: Option<String>| text.unwrap_or_default();
    for (name, value) in [
        ("id", task.id.clone()),
        ("title", task.title.clone()),
        ("agent", task.worker.clone()),
        ("after", task.dependencies.join(", ")),
        ("priority", or(task.priority.map(|priority| priority.0.to_string()))),
        ("timeout", or(task.timeout.map(|seconds| format!("{seconds}s")))),
        ("effort", or(task.effort.map(|effort| effort.word().to_owned()))),
        ("tier", or(task.model_tier.map(|tier| tier.word().to_owned()))),
        ("model", or(task.model.clone())),
    ] {
        let _ = writeln!(out, "{}", format!("{name}: {value}").trim_end());
    }
    for (name, text) in [("objective", &task.objective), ("output", &task.output), ("boundaries", &task.boundaries)] {
        let _ = write!(out, "{name}:\n{}\n", text.trim());
    }
    out.push_str("done when:\n");
    for done in &task.done_when {
        let line = match done {
            DoneWhen::Statement(text) => text.replace('\n', " "),
            DoneWhen::File { .. } | DoneWhen::Command { .. } | DoneWhen::Json { .. } => {
                serde_json::to_string(done).unwrap_or_default()
            }
        };
        let _ = writeln!(out, "- {line}");
    }
    out
}

/// Reads the text back into a task like `base`; a sentence says what is wrong. The plan's checks come later.
pub fn read(text: &str, base: &PlanTask) -> Result<PlanTask, String> {
    let mut task = base.clone();
    let mut long: [Option<String>; 4] = [None, None, None, None];
    let mut open: Option<usize> = None;
    for (n, line) in text.lines().enumerate() {
        let head = line.strip_suffix(':').map(str::trim);
        if let Some(at) = LONG.iter().position(|name| head == Some(*name)) {
            open = Some(at);
            long[at] = Some(String::new());
            continue;
        }
        if let Some(text) = open.and_then(|at| long[at].as_mut()) {
            text.push_str(line);
            text.push('\n');
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        let known = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        let (name, value) = known.ok_or_else(|| format!("line {}: should be a name, a colon and a value", n + 1))?;
        short(&mut task, name, value).map_err(|why| format!("line {}: {why}", n + 1))?;
    }
    let [objective, output, boundaries, done] = long;
    for (new, old) in [(objective, &mut task.objective), (output, &mut task.output), (boundaries, &mut task.boundaries)]
    {
        if let Some(new) = new {
            new.trim().clone_into(old);
        }
    }
    if let Some(done) = done {
        task.done_when = done.lines().map(str::trim).filter(|line| !line.is_empty()).map(done_when).collect();
    }
    task.inputs.retain(|input: &Input| input.dependency.is_empty() || task.dependencies.contains(&input.dependency));
    Ok(task)
}

/// Sets one short field; what is empty is left to the agent and the schedule.
pub fn short(task: &mut PlanTask, name: &str, value: &str) -> Result<(), String> {
    let given = !value.is_empty();
    match name {
        "id" => value.clone_into(&mut task.id),
        "title" => value.clone_into(&mut task.title),
        "agent" | "worker" => value.clone_into(&mut task.worker),
        "objective" => value.clone_into(&mut task.objective),
        "output" => value.clone_into(&mut task.output),
        "boundaries" => value.clone_into(&mut task.boundaries),
        "after" => {
            let ids = value.split([',', ' ']).map(str::trim).filter(|id| !id.is_empty());
            task.dependencies = ids.map(str::to_owned).collect();
            task.inputs.retain(|input| input.dependency.is_empty() || task.dependencies.contains(&input.dependency));
        }
        "priority" => {
            let read = Priority::parse(value);
            if given && read.is_none() {
                return Err(format!("{value} is no priority; use critical, high, normal, low, or 0 to 9"));
            }
            task.priority = read;
        }
        "timeout" => {
            let read = seconds(value);
            if given && read.is_none() {
                return Err(format!("{value} is no time; use 90s, 5m or 2h"));
            }
            task.timeout = read;
        }
        "effort" => {
            task.effort = Effort::parse(value);
            if given && task.effort.is_none() {
                return Err(format!("{value} is no effort; use low, medium or high"));
            }
        }
        "tier" => {
            task.model_tier = ModelTier::parse(value);
            if given && task.model_tier.is_none() {
                return Err(format!("{value} is no tier; use light, standard or strong"));
            }
        }
        "model" => task.model = given.then(|| value.to_owned()),
        other => return Err(format!("there is no field {other}")),
    }
    Ok(())
}

/// `90s`, `5m`, `2h`, `90`.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().next_back()? {
        (at, 's') => (text.get(..at)?, 1),
        (at, 'm') => (text.get(..at)?, 60),
        (at, 'h') => (text.get(..at)?, 3_600),
        _ => (text, 1),
    };
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

/// A line of `done when`: a probe as JSON, else a statement.
fn done_when(line: &str) -> DoneWhen {
    let line = line.strip_prefix("- ").unwrap_or(line).trim();
    match serde_json::from_str(line) {
        Ok(probe) if line.starts_with('{') => probe,
        Ok(_) | Err(_) => DoneWhen::Statement(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> PlanTask {
        PlanTask {
            id: "page".into(),
            title: "Build: the page".into(),
            worker: "anga".into(),
            objective: "Build the page.\nnote: with care".into(),
            output: "quiz.html".into(),
            boundaries: "No styles.".into(),
            dependencies: vec!["quiz".into(), "words".into()],
            inputs: vec![Input { dependency: "quiz".into(), what: "ten questions".into() }],
            done_when: vec!["it opens".into(), DoneWhen::File { path: "quiz.html".into() }],
            serves: vec!["r1".into()],
            timeout: Some(300),
            ..PlanTask::default()
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        assert_eq!(read(&write(&task()), &task()), Ok(task()));
        assert_eq!(read("", &task()), Ok(task()), "what is not said stays");
    }

    #[test]
    fn a_changed_line_changes_one_field_and_a_wrong_one_names_its_line() {
        let text = write(&task()).replace("timeout: 300s", "timeout: 5m").replace("after: quiz, words", "after: words");
        let read_back = read(&text.replace("effort:", "effort: high"), &task()).unwrap();
        assert_eq!((read_back.timeout, read_back.effort), (Some(300), Some(Effort::High)));
        assert!(read_back.inputs.is_empty(), "nothing is taken from what it does not wait for");
        assert_eq!(
            read("id: a\neffort: heroic", &task()),
            Err("line 2: heroic is no effort; use low, medium or high".into())
        );
        assert_eq!(read("hello", &task()), Err("line 1: should be a name, a colon and a value".into()));
        assert!(read("mood: good", &task()).unwrap_err().contains("no field mood"));
    }
}
