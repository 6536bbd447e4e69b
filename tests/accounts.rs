//! Limits of accounts, end to end: a program that prints what the CLI prints when a window is used up, and a room that
//! parks its account, counts down, and lets work go on as the operator's switch says.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[expect(dead_code, reason = "tests/room.rs uses the rest")]
mod common;

use std::{fmt::Write as _, fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use common::{Stage, assert_ended, eventually};

/// Prints one turn of the CLI. `limit` beside it holds the second at which the window opens again; before that it is
/// rejected. `refused` beside it makes the login fail. Each start is noted with its time.
const CLI: &str = r#"#!/bin/sh
here="${0%/*}"
cat >/dev/null
echo "$(date +%s.%N) $PODIUM_AGENT/$PODIUM_TASK_ID" >> "$here/starts"
[ -f "$here/hold-$PODIUM_TASK_ID" ] && while [ ! -f "$here/gate" ]; do sleep 0.05; done
echo '{"type":"system","subtype":"init","session_id":"s","model":"claude-sonnet-5-5","cwd":"/","tools":[]}'
end() {
    echo "{\"type\":\"assistant\",\"message\":{\"id\":\"m\",\"model\":\"<synthetic>\",\"content\":[{\"type\":\"text\",\"text\":\"$2\"}]},\"error\":\"$1\"}"
    echo "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":$3,\"num_turns\":1,\"result\":\"$2\",\"session_id\":\"s\",\"modelUsage\":{}}"
    exit 1
}
if [ -f "$here/refused" ]; then
    end authentication_failed "Not logged in - Please run /login" null
fi
if [ -f "$here/retry" ]; then
    echo '{"type":"system","subtype":"api_retry","attempt":3,"max_retries":10,"retry_delay_ms":30000.5,"error_status":529,"error":"server_error"}'
    while [ ! -f "$here/gate" ]; do sleep 0.05; done
fi
until=$(cat "$here/limit" 2>/dev/null || echo 0)
if [ "$(date +%s)" -lt "$until" ]; then
    echo "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":$until,\"rateLimitType\":\"five_hour\",\"unifiedWindows\":{\"five_hour\":{\"utilization\":1,\"resetsAt\":$until,\"status\":\"rejected\"},\"seven_day\":{\"utilization\":0.5,\"resetsAt\":1995609143,\"status\":\"allowed\"}}}}"
    end rate_limit "You have hit your limit" 429
fi
echo '{"type":"rate_limit_event","rate_limit_info":{"status":"allowed","resetsAt":1995349941,"rateLimitType":"five_hour","utilization":0.01}}'
echo '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"done","session_id":"s","modelUsage":{"claude-sonnet-5-5":{"inputTokens":10,"outputTokens":5}}}'
"#;

/// marie and anga on one account, fabien on his own; one attempt per task, so that a limit that cost one would end it.
fn stage(resume: &str) -> Stage {
    let stage = Stage::bare("");
    let cli = stage.path.join("cli.sh");
    fs::write(&cli, CLI).unwrap();
    let mut text = format!("[limits]\nresume = \"{resume}\"\n[retry]\nattempts = 1\n");
    for name in ["marie", "anga", "fabien"] {
        let command = json!(["sh", cli]);
        let engine = "engine = \"command\"\noutput = \"stream-json\"";
        writeln!(text, "[agents.{name}]\n{engine}\ncommand = {command}").unwrap();
        if name != "fabien" {
            text.push_str("account = \"team\"\n");
        }
    }
    fs::write(stage.path.join("podium.toml"), text).unwrap();
    stage
}

#[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Closes the window for so many seconds from now; when it opens.
fn close_window(stage: &Stage, seconds: i64) -> Timestamp {
    let until = Timestamp::from_second(now().as_second() + seconds).unwrap();
    fs::write(stage.path.join("limit"), until.as_second().to_string()).unwrap();
    until
}

/// When each task was started.
fn starts(stage: &Stage) -> Vec<(f64, String)> {
    let text = fs::read_to_string(stage.path.join("starts")).unwrap_or_default();
    let line = |line: &str| line.split_once(' ').map(|(at, task)| (at.parse().unwrap(), task.to_owned()));
    text.lines().filter_map(line).collect()
}

fn account(status: &Value, name: &str) -> Value {
    let accounts = status["accounts"].as_array().unwrap();
    accounts.iter().find(|a| a["name"] == name).cloned().unwrap_or_else(|| panic!("no account {name}: {status:#}"))
}

async fn parked(stage: &Stage) -> Value {
    eventually("the account to be parked", || {
        Some(account(&stage.status(), "team")["parked"].clone()).filter(|parked| !parked.is_null())
    })
    .await
}

fn task(status: &Value, id: &str) -> Value {
    status["tasks"].as_array().unwrap().iter().find(|t| t["id"] == id).cloned().unwrap()
}

#[tokio::test]
async fn d3_nothing_starts_on_an_account_before_its_reset_no_attempt_is_used_up_and_work_goes_on_by_itself() {
    let mut stage = stage("on");
    stage.serve().await;
    let until = close_window(&stage, 12);
    stage.submit("marie/a", &[], &[]);
    let found = parked(&stage).await;
    for task in ["marie/b", "anga/c", "fabien/d"] {
        stage.submit(task, &[], &[]);
    }
    assert_eq!(found["until"], json!(until), "{found:#}");
    assert_eq!((&found["then"], &found["estimated"]), (&json!("goes_on"), &json!(false)), "{found:#}");

    // The countdown is right to the second, and the same everywhere.
    let status = stage.status();
    let why = task(&status, "anga/c")["why"].as_str().unwrap().to_owned();
    let left: i64 = why
        .strip_prefix("anga parked for ")
        .and_then(|rest| rest.split_once(" s: five-hour limit used up"))
        .unwrap_or_else(|| panic!("{why}"))
        .0
        .parse()
        .unwrap();
    let at: Timestamp = status["now"].as_str().unwrap().parse().unwrap();
    let exact = until.duration_since(at).as_secs_f64();
    assert!((left as f64 - exact).abs() <= 1.0, "{why}, and {exact} s are left");
    assert_eq!(account(&status, "team")["windows"]["seven_day"]["used_percent"], json!(50.0));

    // fabien's account is open, and so he works meanwhile.
    let other = stage.result("fabien/d").await;
    if now() < until {
        assert_ended(&other, "done", 1);
    }
    for task in ["marie/a", "marie/b", "anga/c"] {
        assert_eq!(stage.result(task).await["state"], "done", "{task}");
    }
    let starts = starts(&stage);
    let team: Vec<_> = starts.iter().filter(|(_, task)| !task.starts_with("fabien")).collect();
    assert_eq!(team.len(), 4, "one was rejected, and each was done once: {starts:?}");
    for (at, task) in &team[1..] {
        assert!(*at >= until.as_second() as f64, "{task} started {} s too early", until.as_second() as f64 - at);
    }
    assert!(account(&stage.status(), "team")["parked"].is_null());
    stage.close().await;
}

#[tokio::test]
async fn a_reset_that_rolls_is_waited_for_again_and_says_so() {
    let mut stage = stage("on");
    stage.serve().await;
    let first = close_window(&stage, 5);
    stage.submit("marie/a", &[], &[]);
    parked(&stage).await;
    // By the time the first reset comes, the server has another one.
    let second = close_window(&stage, 11);
    let moved = eventually("the reset to move", || {
        let parked = account(&stage.status(), "team")["parked"].clone();
        (parked["until"] == json!(second)).then_some(parked)
    })
    .await;
    assert!(first < second && moved["since"].as_str().unwrap().parse::<Timestamp>().unwrap() >= first, "{moved:#}");
    assert_eq!(stage.result("marie/a").await["state"], "done");
    let starts = starts(&stage);
    assert_eq!(starts.len(), 3, "{starts:?}");
    assert!(starts[1].0 >= first.as_second() as f64 && starts[2].0 >= second.as_second() as f64, "{starts:?}");
    stage.close().await;
}

#[tokio::test]
async fn a_parked_account_survives_the_room_and_asks_at_its_reset() {
    let mut stage = stage("ask");
    stage.serve().await;
    close_window(&stage, 6);
    stage.submit("marie/a", &[], &[]);
    let before = parked(&stage).await;
    stage.submit("anga/c", &[], &[]);
    let windows = account(&stage.status(), "team")["windows"].clone();
    assert_eq!(windows["seven_day"]["used_percent"], json!(50.0));
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    // How the windows stood, and when that was said, is known without a room and to the next one.
    let offline = stage.run(&["status", "--json"]).exits(4).json();
    assert_eq!(account(&offline, "team")["windows"], windows);
    stage.serve().await;
    assert_eq!(account(&stage.status(), "team")["windows"], windows);
    let printed = stage.run(&["status"]).exits(0).out;
    let line =
        printed.lines().find(|line| line.trim_start().starts_with("team ")).unwrap_or_else(|| panic!("{printed}"));
    assert!(line.contains("parked for") && line.contains("7 d 50 %") && line.contains("said "), "{line}");
    let after = account(&stage.status(), "team")["parked"].clone();
    assert_eq!((&after["until"], &after["since"]), (&before["until"], &before["since"]));
    assert_eq!(after["then"], "asks");
    let asked = eventually("a person to be asked", || {
        let status = stage.status();
        let asks = status["needs_you"].as_array()?.contains(&json!({"kind": "account", "id": "team"}));
        asks.then_some(status)
    })
    .await;
    assert_eq!(account(&asked, "team")["parked"]["cleared"], true);
    assert!(task(&asked, "anga/c")["why"].as_str().unwrap().ends_with("cleared; `podium resume team`"), "{asked:#}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(starts(&stage).len(), 1, "nothing starts before the yes");
    stage.run(&["resume", "anga"]).exits(0);
    for task in ["marie/a", "anga/c"] {
        assert_eq!(stage.result(task).await["state"], "done", "{task}");
    }
    stage.close().await;
}

#[tokio::test]
async fn a_planned_resume_is_cancelled_by_a_pause_and_a_resume_does_not_wait_for_the_reset() {
    let mut stage = stage("on");
    stage.serve().await;
    close_window(&stage, 4);
    stage.submit("marie/a", &[], &[]);
    parked(&stage).await;
    assert!(stage.run(&["pause", "team"]).exits(0).out.contains("stays parked until it is resumed"));
    eventually("the reset to pass", || {
        let parked = account(&stage.status(), "team")["parked"].clone();
        (parked["cleared"] == true).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(starts(&stage).len(), 1);
    assert!(stage.run(&["resume", "nobody"]).exits(2).err.contains("team, fabien-own"));
    stage.run(&["resume", "team"]).exits(0);
    assert_eq!(stage.result("marie/a").await["state"], "done");

    // An hour away, and resumed by hand: it starts at once, and so does the task that met the limit.
    close_window(&stage, 3_600);
    stage.submit("marie/b", &[], &[]);
    parked(&stage).await;
    fs::remove_file(stage.path.join("limit")).unwrap();
    stage.run(&["resume", "team"]).exits(0);
    assert_eq!(stage.result("marie/b").await["state"], "done");
    stage.close().await;
}

#[tokio::test]
async fn one_login_that_fails_stops_the_fan_out_on_its_account_with_one_line() {
    let mut stage = stage("on");
    fs::write(stage.path.join("refused"), "").unwrap();
    stage.run(&["pause", "marie"]).exits(4);
    stage.serve().await;
    stage.submit("marie/t0", &[], &[]);
    let found = parked(&stage).await;
    assert_eq!((&found["kind"], &found["needs_you"]), (&json!("auth"), &json!(true)), "{found:#}");
    for n in 1..=20 {
        stage.submit(&format!("{}/t{n}", if n % 2 == 0 { "marie" } else { "anga" }), &[], &[]);
    }
    let failed = stage.result("marie/t0").await;
    assert_eq!((&failed["state"], &failed["errors"][0]["class"]), (&json!("failed"), &json!("auth")), "{failed:#}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(starts(&stage).len(), 1, "nothing more starts");
    let status = stage.status();
    let why = task(&status, "anga/t1")["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("anga parked: key or login not accepted; "), "{why}");
    let lines = stage
        .until("the line", |state| {
            let lines: Vec<_> = state.lines.iter().map(|line| line.text.clone()).collect();
            (!lines.is_empty()).then_some(lines)
        })
        .await;
    assert_eq!(lines.iter().filter(|line| line.starts_with("team: ")).count(), 1, "{lines:?}");
    fs::remove_file(stage.path.join("refused")).unwrap();
    stage.run(&["resume", "team"]).exits(0);
    for n in 1..=20 {
        let task = format!("{}/t{n}", if n % 2 == 0 { "marie" } else { "anga" });
        assert_ended(&stage.result(&task).await, "done", 1);
    }
    stage.close().await;
}

#[tokio::test]
async fn an_engine_that_asks_its_model_again_says_so_in_its_row_with_a_countdown() {
    let mut stage = stage("on");
    fs::write(stage.path.join("retry"), "").unwrap();
    stage.serve().await;
    stage.submit("marie/a", &[], &[]);
    let (why, at) = eventually("the wait to be told", || {
        let status = stage.status();
        let why = task(&status, "marie/a")["why"].as_str()?.to_owned();
        let at: Timestamp = status["now"].as_str()?.parse().ok()?;
        why.starts_with("retrying").then_some((why, at))
    })
    .await;
    let left = |why: &str| -> i64 {
        let rest = why.strip_prefix("retrying 3 of 10: 529, next in ").unwrap_or_else(|| panic!("{why}"));
        rest.strip_suffix(" s").unwrap().parse().unwrap()
    };
    assert!((20..=31).contains(&left(&why)), "{why}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = stage.status();
    let later = task(&status, "marie/a")["why"].as_str().unwrap().to_owned();
    let passed = status["now"].as_str().unwrap().parse::<Timestamp>().unwrap().duration_since(at);
    let counted = SignedDuration::from_secs(left(&why) - left(&later));
    assert!((counted - passed).abs() <= SignedDuration::from_millis(1_100), "{why}, then {later} after {passed:#}");
    assert_eq!(status["calls"]["observed_529"], json!(1), "{:#}", status["calls"]);
    fs::remove_file(stage.path.join("retry")).unwrap();
    stage.open_gate();
    assert_eq!(stage.result("marie/a").await["state"], "done");
    stage.close().await;
}
