//! Money in a real room against the stand-in: rows, budgets and `podium usage`.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[expect(dead_code, reason = "tests/room.rs uses the rest")]
mod common;

use std::{fs, time::Duration};

use jiff::{ToSpan as _, civil::Date};
use podium::{
    ledger::{Ledger, Rows},
    model::{
        MicroUsd, TaskRef,
        gateway::{Call, Caller},
    },
};
use serde_json::{Value, json};

use common::{Stage, eventually, kill};

const REHEARSAL: &str = "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n";

fn rows(stage: &Stage) -> Vec<Call> {
    Rows::new(stage.path.join(".podium/ledger")).read(jiff::Timestamp::UNIX_EPOCH).unwrap()
}

fn sum(rows: &[Call]) -> MicroUsd {
    rows.iter().map(|row| row.cost).sum()
}

/// Dollars of JSON, to the micro-dollar.
fn micro(value: &Value) -> i64 {
    MicroUsd::from_dollars(value.as_f64().unwrap()).0
}

fn today() -> String {
    #[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

#[tokio::test]
async fn a_days_budget_warns_once_ends_what_runs_and_holds_to_one_calls_error() {
    let mut stage = Stage::bare(&format!("{REHEARSAL}[budget]\nday_usd = 0.15\n"));
    for n in 0..90 {
        let agent = ["marie", "anga", "fabien"][n % 3];
        let folder = stage.path.join("tasks").join(agent);
        fs::create_dir_all(&folder).unwrap();
        let text = json!({"description": format!("Write down what class {n} has learnt this term.")});
        fs::write(folder.join(format!("class-{n:02}.json")), text.to_string()).unwrap();
    }
    stage.serve().await;
    let said = "the day's budget is used up";
    stage.until(said, |s| s.lines.iter().any(|line| line.text.contains(said)).then_some(())).await;
    stage.until("nothing runs", |s| (s.agents.running() == 0 && s.levels.in_flight == 0).then_some(())).await;
    // Whatever might still start would by now.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let lines = stage
        .until("the room's lines", |s| Some(s.lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>()))
        .await;
    let warned: Vec<_> = lines.iter().filter(|line| line.contains("of $0.15 spent (")).collect();
    assert_eq!(warned.len(), 1, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains(said)).count(), 1, "{lines:#?}");
    let status = stage.status();
    let day = &status["money"]["budgets"][0];
    assert_eq!((&day["of"], &day["state"]), (&json!("day"), &json!("reached")), "{day:#}");
    assert!(day["clears_at"].as_str().unwrap().ends_with("T00:00:00Z"), "{day:#}");
    let waiting: Vec<_> = status["tasks"].as_array().unwrap().iter().filter(|t| t["state"] == "ready").collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|t| t["why"].as_str().unwrap().contains(said)), "{waiting:#?}");
    assert_eq!(status["counts"]["failed"], 0, "the day's end is nobody's failure: {status:#}");

    let rows = rows(&stage);
    let (spent, dearest) = (sum(&rows).0, rows.iter().map(|row| row.cost.0).max().unwrap());
    assert!(spent <= 150_000 + dearest, "{spent} and {dearest}");
    assert_eq!(micro(&status["money"]["today"]["cost_usd"]), spent);
    let refused = stage.run(&["run", "--approve", "auto", "One more."]).exits(3);
    assert!(refused.err.contains(said), "{refused:#?}");
    let printed = stage.run(&["status"]).exits(0).out;
    assert!(printed.contains("Budgets") && printed.contains("it clears at 00:00 UTC"), "{printed}");

    // The same from the files alone, in every way it can be told.
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    for by in ["agent", "model", "goal", "task", "day"] {
        let usage = stage.run(&["usage", "--by", by, "--json"]).exits(0).json();
        assert_eq!(micro(&usage["total"]["cost_usd"]), spent, "{usage:#}");
        let groups = usage["groups"].as_array().unwrap();
        assert_eq!(groups.iter().map(|group| micro(&group["cost_usd"])).sum::<i64>(), spent, "{usage:#}");
        let saved = &usage["saved"];
        assert_eq!(micro(&saved["caching_usd"]) + micro(&saved["tiering_usd"]), micro(&saved["both_usd"]));
    }
    let told = stage.run(&["usage", "--since", &today()]).exits(0).out;
    for words in ["By agent", "By model", "Cache", "Saved", "n = ", "How this is computed", "marie", "inferred"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test]
async fn a_task_beyond_its_own_budget_ends_and_starts_with_a_larger_one() {
    let mut stage = Stage::bare(&format!("{REHEARSAL}[budget]\ntask_usd = \"off\"\n"));
    stage.serve().await;
    let text = "Write a letter to the parents.";
    stage.run(&["submit", "--agent", "marie", "--id", "dear", "--budget", "0.001", text]).exits(0);
    let result = stage.result("marie/dear").await;
    assert_eq!((&result["state"], &result["errors"][0]["class"]), (&json!("failed"), &json!("limit")), "{result:#}");
    let said = result["errors"][0]["message"].as_str().unwrap();
    assert!(
        said.starts_with("the budget of task marie/dear is used up: $0.00 of $0.001, and the next call may"),
        "{said}"
    );
    assert_eq!(result["attempts"], 1, "{result:#}");
    let shown = stage.run(&["show", "dear", "--json"]).exits(0).json();
    assert_eq!(shown["budget_usd"], 0.001, "{shown:#}");
    stage.run(&["retry", "dear", "--budget", "2"]).exits(0);
    stage.run(&["wait", "dear", "--timeout", "30s"]).exits(0);
    let shown = stage.run(&["show", "dear", "--json"]).exits(0).json();
    assert_eq!((&shown["state"], shown["budget_usd"].as_f64()), (&json!("done"), Some(2.0)), "{shown:#}");
    let gateway = &shown["attempts"].as_array().unwrap().last().unwrap()["ledger"]["gateway"];
    assert_eq!(micro(&gateway["cost_usd"]), sum(&rows(&stage)).0, "{shown:#}");

    // Where planning alone is dearer than the goal may be, nothing is asked at all.
    let ran = stage.run(&["run", "--budget", "0.001", "--approve", "auto", text]).exits(3);
    assert!(ran.err.contains("the budget of goal g1 is used up"), "{ran:#?}");
    stage.close().await;
}

#[tokio::test]
async fn while_the_ledger_cannot_be_written_no_call_with_a_cap_passes_and_then_work_goes_on() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let file = stage.path.join(format!(".podium/ledger/calls-{}.jsonl", today()));
    fs::create_dir_all(&file).unwrap();
    for n in 0..4 {
        let id = format!("note-{n}");
        stage.run(&["submit", "--agent", "marie", "--id", &id, "Write a note."]).exits(0);
    }
    let why = eventually("the room says so", || stage.status()["space"].as_str().map(str::to_owned)).await;
    assert!(why.contains("wait to be written") && why.contains("model calls wait"), "{why}");
    let passed = stage.status()["money"]["today"]["calls"].as_u64().unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stage.status()["money"]["today"]["calls"].as_u64().unwrap(), passed);
    fs::remove_dir(&file).unwrap();
    stage.run(&["wait", "note-0", "note-1", "note-2", "note-3", "--timeout", "60s"]).exits(0);
    assert_eq!(stage.status()["space"], Value::Null);
    let status = stage.status();
    assert_eq!(micro(&status["money"]["today"]["cost_usd"]), sum(&rows(&stage)).0, "every row is there");
    stage.close().await;
}

/// The bucket of this group's requests.
fn requests(status: &Value, group: &str) -> Option<Value> {
    let limits = status["limits"].as_array().unwrap();
    limits.iter().find(|limit| limit["group"] == group && limit["dimension"] == "requests").cloned()
}

#[tokio::test]
async fn a_limit_that_an_operator_sets_holds_at_once_is_shown_and_outlives_the_room() {
    let mut stage = Stage::bare(REHEARSAL);
    stage.serve().await;
    let said = stage.run(&["limit", "claude-sonnet-5-5", "--requests", "30", "--input", "40k"]).exits(0).out;
    assert!(said.contains("sonnet: at most 30 requests and 40000 input tokens a minute"), "{said}");
    assert!(stage.run(&["status"]).exits(0).out.contains("at most 40000 per minute"), "before any call");
    let work = |stage: &Stage, id: &str| {
        stage.run(&["submit", "--agent", "marie", "--id", id, "Write a note."]).exits(0);
        stage.run(&["wait", id, "--timeout", "30s"]).exits(0);
        requests(&stage.status(), "sonnet").unwrap()
    };
    // The stand-in's headers say 1,000.
    work(&stage, "one");
    let learned = || requests(&stage.status(), "sonnet").filter(|bucket| bucket["learned"] == true);
    let bucket = eventually("the headers to be known", learned).await;
    assert_eq!((&bucket["limit"], &bucket["own"]), (&json!(30), &json!(30)));
    let printed = stage.run(&["status"]).exits(0).out;
    assert!(printed.contains("of 30 per minute") && printed.contains("set by you"), "{printed}");
    assert!(
        stage.run(&["limit", "sonet", "--output", "3"]).exits(3).err.contains("groups are fable, haiku, opus, sonnet")
    );
    stage.run(&["limit", "sonnet"]).exits(2);
    stage.run(&["limit", "sonnet", "--requests", "0"]).exits(2);

    // A core that dies, and a room that is closed and opened, know it all the same.
    let core = stage.core();
    kill(core);
    eventually("the next core", || (stage.core() != core && stage.answers()).then_some(())).await;
    assert_eq!(work(&stage, "two")["limit"], 30);
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    let offline = stage.run(&["status", "--json"]).exits(4).json();
    assert_eq!(offline["own_limits"]["sonnet"], json!({"requests": 30, "input": 40_000, "output": null}));
    stage.serve().await;
    assert_eq!(work(&stage, "three")["limit"], 30);
    stage.run(&["limit", "sonnet", "--off"]).exits(0);
    let freed = || requests(&stage.status(), "sonnet").filter(|bucket| bucket["own"].is_null());
    assert_eq!(eventually("the server's own limit", freed).await["limit"], 1_000);
    assert_eq!(stage.status()["own_limits"], json!({}));
    stage.close().await;
}

#[tokio::test]
async fn days_that_are_over_are_told_one_by_one_with_and_without_a_room() {
    let mut stage = Stage::bare(REHEARSAL);
    let today: Date = today().parse().unwrap();
    let folder = stage.path.join(".podium/ledger");
    let mut ledger = Ledger::open(&folder).unwrap();
    let task: TaskRef = "marie/old".parse().unwrap();
    for (ago, cost) in [(3, 700_000), (1, 20_000), (1, 5)] {
        let at =
            today.saturating_sub(ago.days()).at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        let caller = Caller::Worker { agent: task.agent.clone(), attempt: Some(task.attempt(1)) };
        ledger.append(&Call { cost: MicroUsd(cost), ..Call::new(format!("{ago} {cost}"), at, caller) }).unwrap();
    }
    let told = |status: &Value| {
        let days = status["money"]["days"].as_array().unwrap();
        days.iter().map(|day| (day["day"].as_str().unwrap().to_owned(), micro(&day["cost_usd"]))).collect::<Vec<_>>()
    };
    let expected = [(3, 700_000), (1, 20_005)].map(|(ago, cost)| (today.saturating_sub(ago.days()).to_string(), cost));
    assert_eq!(told(&stage.run(&["status", "--json"]).exits(4).json()), expected);
    stage.serve().await;
    assert_eq!(told(&stage.status()), expected);
    assert_eq!(stage.status()["money"]["today"]["calls"], 0);
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    // What a room leaves behind for the next one says the same.
    let kept = fs::read_dir(&folder).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("sum-"));
    assert_eq!(kept.count(), 2);
    stage.serve().await;
    assert_eq!(told(&stage.status()), expected);
    stage.close().await;
}

/// Notes its arguments and answers like the CLI.
const CLI: &str = r#"#!/bin/sh
echo "$*" >> "${0%/*}/argv"
cat >/dev/null
echo '{"type":"system","subtype":"init","session_id":"s","model":"claude-sonnet-5-5","cwd":"/","tools":[]}'
echo '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"done","structured_output":{"tasks":[]},"session_id":"s","total_cost_usd":0.25,"modelUsage":{"claude-sonnet-5-5":{"inputTokens":10,"outputTokens":5}}}'
"#;

/// A stage with that CLI.
fn with_cli(toml: &str) -> Stage {
    let mut stage = Stage::bare(toml);
    let cli = stage.path.join("cli.sh");
    fs::write(&cli, CLI).unwrap();
    fs::set_permissions(&cli, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    stage.env.insert("CLAUDE_COMMAND".to_owned(), cli.into_os_string());
    stage
}

/// What it was told each time that it may spend.
fn told(stage: &Stage) -> Vec<String> {
    let argv = fs::read_to_string(stage.path.join("argv")).unwrap_or_default();
    let budget =
        |line: &str| line.split_once("--max-budget-usd ").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned());
    argv.lines().map(|line| budget(line).unwrap_or_else(|| panic!("no budget in {line}"))).collect()
}

#[tokio::test]
async fn an_orchestrators_login_is_counted_as_an_estimate_and_against_its_goal() {
    let mut stage = with_cli("");
    // No key anywhere: its CLI has a login of its own, and its calls pass no gateway.
    let home = stage.root.path().join("home/data/podium/auth-homes/orchestrator/config");
    fs::create_dir_all(&home).unwrap();
    let login = json!({"claudeAiOauth": {"accessToken": "a", "refreshToken": "r"}});
    fs::write(home.join(".credentials.json"), login.to_string()).unwrap();
    stage.serve().await;
    // Its answers are no plan, so it is asked again, as long as there is money.
    let ran = stage.run(&["run", "--budget", "0.6", "--approve", "never", "Write a letter."]).exits(1);
    let told = told(&stage);
    assert!(told.starts_with(&["0.6".to_owned(), "0.35".to_owned()]), "{told:?} {ran:#?}");
    let spent = i64::try_from(told.len()).unwrap() * 250_000;
    let orchestrator = eventually("all of it to be counted", || {
        let orchestrator = stage.status()["money"]["orchestrator"].clone();
        (micro(&orchestrator["cost_usd"]) == spent).then_some(orchestrator)
    })
    .await;
    assert_eq!(micro(&orchestrator["estimated_usd"]), spent);
    assert!(rows(&stage).iter().all(|row| row.estimated && row.goal().is_some_and(|goal| goal.to_string() == "g1")));
    assert_eq!(micro(&stage.run(&["show", "g1", "--json"]).exits(0).json()["spent"]["cost_usd"]), spent);
    stage.close().await;
}

#[tokio::test]
async fn every_cli_is_told_what_is_left_of_the_budget_that_pays_for_it() {
    let mut stage = with_cli("[orchestrator]\nengine = \"claude\"\n[budget]\nday_usd = 40\n");
    stage.env.insert("ANTHROPIC_API_KEY".to_owned(), "sk-ant-no-key".into());
    stage.serve().await;
    let told = || told(&stage).pop().unwrap();
    stage.run(&["submit", "--agent", "marie", "--id", "one", "--budget", "1.5", "Write a note."]).exits(0);
    stage.run(&["wait", "one", "--timeout", "30s"]).exits(0);
    assert_eq!(told(), "1.5");
    // What its first attempt has cost is gone.
    stage.run(&["retry", "one"]).exits(0);
    eventually("the second start", || {
        (fs::read_to_string(stage.path.join("argv")).unwrap().lines().count() == 2).then_some(())
    })
    .await;
    assert_eq!(told(), "1.25");
    // This is no plan, so the goal fails: but the planner was told too.
    stage.run(&["run", "--budget", "3", "--approve", "never", "Write a letter."]).exits(1);
    assert_eq!(told(), "3");
    // The day has less than the goal.
    stage.run(&["run", "--budget", "100", "--approve", "never", "Write another letter."]).exits(1);
    assert!((39.0..40.0).contains(&told().parse::<f64>().unwrap()) || told() == "40", "{}", told());
    stage.close().await;
}
