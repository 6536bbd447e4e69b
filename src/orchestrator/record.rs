//! A report as data: `results/goals/{goal}.json`, for programs that must not read Markdown.
//!
//! Owns its shape, which is a promise (`docs/json.md`): additions are free, changes are not. Must not know where it is kept. Its
//! one surprise: conflicts, gaps and unverified claims are the model's words where it gave any, and code's own beside them.

use serde_json::{Value, json};

use super::{
    cite,
    pays::Pays,
    synthesis::{Ended, is_done, name},
};
use crate::model::{DoneWhen, GoalEnd, GoalId, Outcome, Plan, text};

/// The version of the shape.
pub const VERSION: u32 = 1;

/// The whole of it, as text with a line end.
pub fn record(
    goal: &GoalId,
    goal_text: &str,
    plan: &Plan,
    words: Option<&str>,
    ended: &[Ended],
    pays: Option<&Pays>,
    end: GoalEnd,
) -> String {
    let words = words.map(|w| text::scrub(w).trim().to_owned()).filter(|w| !w.is_empty());
    let said = |heading: &str| words.as_deref().map(|w| cite::section(w, heading)).unwrap_or_default();
    let silent = words.as_deref().map(|w| cite::silent(w, ended)).unwrap_or_default();
    let missing: Vec<Value> = ended
        .iter()
        .filter(|(_, outcome)| !is_done(outcome.as_ref()))
        .map(|(task, outcome)| json!({ "id": name(task), "why": why(outcome.as_ref()) }))
        .collect();
    let mut unverified: Vec<Value> =
        said("Unverified").into_iter().map(|claim| json!({ "by": "report", "claim": claim })).collect();
    for (task, _) in ended.iter().filter(|(task, outcome)| is_done(outcome.as_ref()) && !is_checked(task)) {
        let claim = "reported as done; nothing that code can look at, and no reviewer, was asked for";
        unverified.push(json!({ "by": "podium", "id": name(task), "claim": claim }));
    }
    let tasks: Vec<Value> = ended
        .iter()
        .map(|(task, outcome)| {
            let mut row = json!({
                "id": name(task),
                "agent": task.worker,
                "title": text::first_line(&task.title, 120),
                "state": outcome.as_ref().map_or("no_result".to_owned(), |o| o.state.word().replace(' ', "_")),
                "cited": words.is_some() && !silent.contains(&name(task)),
            });
            if let (Value::Object(row), Some(o)) = (&mut row, outcome) {
                let rest = json!({
                    "task": o.task.to_string(),
                    "attempt": o.attempt,
                    "ending": o.ending.sentence(),
                    "summary": text::clip(&text::scrub(&o.summary), 8_000),
                    "findings": o.findings,
                    "artifacts": o.artifacts,
                    "cost_usd": o.cost.dollars(),
                    "cost_source": o.cost_source,
                    "result": format!("results/{}/{}.json", o.task.agent, o.task.id),
                });
                if let Value::Object(rest) = rest {
                    row.extend(rest);
                }
            }
            row
        })
        .collect();
    let whole = json!({
        "schema_version": VERSION,
        "goal_id": goal,
        "goal": text::clip(&text::scrub(goal_text), 64 * 1024),
        "state": end,
        "plan_revision": plan.revision,
        "text": words.as_deref().map(|w| cite::with_attempts(w, ended)),
        "tasks": tasks,
        "missing": missing,
        "conflicts": said("Conflicts"),
        "gaps": said("Gaps"),
        "unverified": unverified,
        "uncited": silent,
        "strange_citations": words.as_deref().map(|w| cite::strange(w, ended)).unwrap_or_default(),
        "parallel": pays,
    });
    let mut out = serde_json::to_string_pretty(&whole).unwrap_or_else(|_| whole.to_string());
    out.push('\n');
    out
}

fn is_checked(task: &crate::model::PlanTask) -> bool {
    task.review || task.done_when.iter().any(DoneWhen::is_probe)
}

fn why(outcome: Option<&Outcome>) -> String {
    outcome.map_or_else(|| "no result".to_owned(), |o| format!("{}: {}", o.state.word(), o.ending.sentence()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{EndState, PlanTask},
        orchestrator::sample::{outcome, with_files},
    };

    #[test]
    fn a_partial_report_says_in_data_what_is_missing_cited_and_unverified() {
        let task = |id: &str, done: Vec<DoneWhen>| PlanTask {
            id: id.to_owned(),
            worker: "marie".to_owned(),
            title: format!("The {id}"),
            done_when: done,
            ..PlanTask::default()
        };
        let ended = vec![
            (task("quiz", vec!["ten".into()]), Some(with_files(outcome("marie/g7-quiz", EndState::Done, "Ten.")))),
            (
                task("page", vec![DoneWhen::File { path: "page.html".into() }]),
                Some(outcome("marie/g7-page", EndState::Done, "A page.")),
            ),
            (task("post", Vec::new()), Some(outcome("fabien/g7-post", EndState::Skipped, ""))),
            (task("check", Vec::new()), None),
        ];
        let words = "Ready [quiz], and [no-such].\n\n## Gaps\n- no post\n\n## Unverified\n- the rights";
        let goal = "g7".parse().unwrap();
        let text = record(&goal, "Make", &Plan::default(), Some(words), &ended, None, GoalEnd::Partial);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&read["schema_version"], &read["state"]), (&1.into(), &"partial".into()));
        assert_eq!(read["text"].as_str().unwrap().lines().next().unwrap(), "Ready [quiz#1], and [no-such].");
        assert_eq!(read["missing"][0]["id"], "post");
        assert_eq!(read["missing"][1], json!({"id": "check", "why": "no result"}));
        assert_eq!((&read["gaps"], &read["uncited"]), (&json!(["no post"]), &json!(["page"])));
        assert_eq!(read["strange_citations"], json!(["no-such"]));
        assert_eq!(read["unverified"][0], json!({"by": "report", "claim": "the rights"}));
        assert_eq!(
            (read["unverified"][1]["id"].as_str(), read["unverified"].as_array().unwrap().len()),
            (Some("quiz"), 2)
        );
        assert_eq!(read["tasks"][0]["artifacts"][0]["path"], "workspaces/dance/quiz.md");
        assert_eq!((&read["tasks"][3]["state"], &read["tasks"][0]["attempt"]), (&"no_result".into(), &1.into()));
    }
}
