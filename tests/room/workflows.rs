//! Workflows for real: files that run like planned goals, rosters, the way from a goal to a file and back, and the six examples.

use std::fs;

use serde_json::{Value, json};

use crate::common::Stage;

const REHEARSAL: &str = "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n";

const OLD: &str = r#"{"name": "Demo", "tasks": [
    {"id": "1", "agent": "fabien", "action": "fabien_generate_content", "params": {"topic": "spring"}},
    {"id": "2", "agent": "fabien", "action": "social_calendar", "dependencies": ["1"]}]}"#;

fn ids(plan: &Value) -> Vec<&str> {
    plan["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_older_workflow_is_checked_approved_paid_for_and_reported_on_like_a_goal() {
    let mut stage = Stage::bare(REHEARSAL);
    fs::write(stage.path.join("demo.json"), OLD).unwrap();
    let checked = stage.run(&["workflow", "check", "demo.json", "--json"]).exits(0).json();
    assert_eq!((&checked["sound"], &checked["gated"], ids(&checked)), (&json!(true), &json!(true), vec!["1", "2"]));
    stage.serve().await;
    // Nobody estimated what it takes: a person says yes, or a budget of its own does.
    let asked = stage.run(&["workflow", "run", "demo.json"]).exits(3);
    assert!(asked.out.contains("needs a yes: P13 tasks[0].estimates"), "{asked:#?}");
    let ran = stage.run(&["workflow", "run", "demo.json", "--budget", "2"]).exits(0);
    assert!(ran.out.contains("# Report") || ran.out.contains("g2"), "{ran:#?}");
    let shown = stage.run(&["show", "g2", "--json"]).exits(0).json();
    assert_eq!(shown["plan"]["revisions"][0]["by"], "workflow", "{shown:#}");
    assert_eq!((&shown["state"], &shown["budget_usd"]), (&json!("done"), &json!(2.0)), "{shown:#}");
    let brief = fs::read_to_string(stage.path.join("tasks/fabien/g2-2.json")).unwrap_or_default();
    assert!(brief.is_empty() || brief.contains("Social calendar"), "{brief}");
    // The approval that was asked for can still be given.
    stage.run(&["approve", "g1"]).exits(0);
    stage.run(&["wait", "g1", "--timeout", "30s"]).exits(0);
    stage.run(&["submit", "--workflow", "demo.json", "--budget", "1"]).exits(0);
    stage.run(&["wait", "g3", "--timeout", "30s"]).exits(0);
    stage.close().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_workflow_is_said_in_full_and_starts_nothing() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let bad = r#"{"name": "Bad", "tasks": [
        {"id": "a", "agent": "mari", "description": "Look at {{param.nam}}.", "dependencies": ["b"]},
        {"id": "b", "agent": "anga", "description": "As above.", "dependencies": ["a"]}]}"#;
    fs::write(stage.path.join("bad.json"), bad).unwrap();
    let marker = stage.run(&["workflow", "run", "bad.json", "--param", "name=Mira"]).exits(2);
    assert!(marker.err.contains("did you mean {{param.name}}?"), "{marker:#?}");
    fs::write(stage.path.join("bad.json"), bad.replace("{{param.nam}}", "it")).unwrap();
    let said = stage.run(&["workflow", "run", "bad.json"]).exits(2);
    for code in ["P04 tasks[0].worker", "P06 tasks[", "P08 tasks[1].objective"] {
        assert!(said.err.contains(code), "{code}: {said:#?}");
    }
    let checked = stage.run(&["workflow", "check", "bad.json"]).exits(2);
    assert!(checked.out.contains("wrong: P06"), "{checked:#?}");
    assert!(stage.status()["goals"].as_array().unwrap().is_empty());
    stage.close().await;
}

#[tokio::test]
async fn any_goal_goes_into_a_file_and_the_file_gives_the_same_plan() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    stage.run(&["run", "--approve", "auto", "Write a letter, then check the page and draft a flyer."]).exits(0);
    stage.run(&["workflow", "export", "g1", "--to", "again.json"]).exits(0);
    let plan = stage.run(&["plan", "g1", "--json"]).exits(0).json();
    let checked = stage.run(&["workflow", "check", "again.json", "--json"]).exits(0).json();
    assert_eq!((&checked["hash"], &checked["tasks"]), (&plan["hash"], &plan["tasks"]));
    assert_eq!(checked["text"], "Write a letter, then check the page and draft a flyer.");
    stage.run(&["workflow", "run", "again.json", "--approve", "auto"]).exits(0);
    let again = stage.run(&["plan", "g2", "--json"]).exits(0).json();
    assert_eq!(again["hash"], plan["hash"]);
    // It is not written over anything.
    stage.run(&["workflow", "export", "g1", "--to", "again.json"]).exits(2);
    stage.close().await;
}

#[tokio::test]
async fn a_roster_runs_one_task_for_each_row() {
    let mut stage = Stage::bare(REHEARSAL);
    let rows = "id,agent,description,dependencies\n";
    let lines = [
        r#"{"id": "one", "agent": "marie", "description": "Evaluate the first class.", "colour": "red"}"#,
        r#"{"id": "two", "agent": "anga", "description": "Check the second page.", "dependencies": ["one"]}"#,
    ];
    fs::write(stage.path.join("tasks.jsonl"), lines.join("\n")).unwrap();
    fs::write(stage.path.join("empty.csv"), rows).unwrap();
    fs::write(stage.path.join("demo.json"), OLD).unwrap();
    fs::write(stage.path.join("names.txt"), "# who\nmira-sol\ntom-reed\n").unwrap();
    stage.serve().await;
    stage.run(&["workflow", "run", "--roster", "tasks.jsonl", "--budget", "2"]).exits(0);
    let plan = stage.run(&["plan", "g1", "--json"]).exits(0).json();
    assert_eq!(ids(&plan), ["one", "two"]);
    assert!(plan["tasks"][0]["objective"].as_str().unwrap().ends_with("- colour: red"), "{plan:#}");
    stage.run(&["workflow", "run", "demo.json", "--roster", "names.txt", "--budget", "2"]).exits(0);
    let plan = stage.run(&["plan", "g2", "--json"]).exits(0).json();
    assert_eq!(ids(&plan), ["1-mira-sol", "2-mira-sol", "1-tom-reed", "2-tom-reed"]);
    assert!(stage.run(&["workflow", "run", "--roster", "empty.csv"]).exits(2).err.contains("has no row"));
    stage.close().await;
}

/// One example, headless, to its end.
fn example(name: &str, code: i32) -> Value {
    let stage = Stage::bare("");
    let keep = stage.root.path().join("rehearsal");
    let keep = keep.to_str().unwrap();
    let ran = stage.outside(&["rehearse", "--headless", "--json", "--example", name, "--keep", keep]).exits(code);
    let mut shown = ran.json();
    let states: Vec<Value> = shown["task_states"].as_array().unwrap().iter().map(|t| t["state"].clone()).collect();
    shown["states"] = Value::Array(states);
    assert!(fs::exists(format!("{keep}/examples/roster.csv")).unwrap());
    shown
}

fn states(shown: &Value) -> Vec<&str> {
    shown["states"].as_array().unwrap().iter().map(|state| state.as_str().unwrap()).collect()
}

#[test]
fn the_example_of_a_single_task() {
    let shown = example("single", 0);
    assert_eq!((ids(&shown["plan"]), states(&shown)), (vec!["warm-up"], vec!["done"]), "{shown:#}");
}

#[test]
fn the_example_of_a_goal_with_a_plan() {
    let shown = example("goal", 0);
    assert_eq!(
        (&shown["plan"]["revisions"][0]["by"], states(&shown)),
        (&json!("planner"), vec!["done"; 3]),
        "{shown:#}"
    );
}

#[test]
fn the_example_of_a_fan_out() {
    let shown = example("fan-out", 0);
    assert_eq!((&shown["plan"]["steps"], states(&shown)), (&json!([["show", "page", "guests"]]), vec!["done"; 3]));
}

#[test]
fn the_example_of_a_chain() {
    let shown = example("chain", 0);
    let steps = json!([["facts"], ["form"], ["invitation"]]);
    assert_eq!((&shown["plan"]["steps"], states(&shown)), (&steps, vec!["done"; 3]), "{shown:#}");
    assert_eq!(shown["plan"]["tasks"][2]["inputs"][1], json!({"dependency": "form", "what": "its summary"}));
}

#[test]
fn the_example_of_a_mixed_graph_with_a_failure() {
    let shown = example("mixed", 1);
    assert_eq!(shown["state"], "partial", "{shown:#}");
    let mut states = states(&shown);
    states.sort_unstable();
    assert_eq!(states, ["done", "done", "done", "done", "failed", "skipped"], "{shown:#}");
}

#[test]
fn the_example_of_a_batch_from_a_roster() {
    let shown = example("roster", 0);
    assert_eq!(states(&shown), ["done"; 4]);
    assert!(ids(&shown["plan"]).contains(&"evaluate-first-row"), "{shown:#}");
}

#[test]
fn an_unknown_example_is_answered_with_the_six() {
    let stage = Stage::bare("");
    let said = stage.outside(&["rehearse", "--headless", "--example", "fanout"]).exits(2);
    assert!(said.err.contains("single, goal, fan-out, chain, mixed, roster"), "{said:#?}");
}
