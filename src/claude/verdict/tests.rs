//! Every recorded run of the CLI gets the ending it had.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::*;
use crate::claude::Decoder;

/// Every recorded run and the ending it had.
#[rustfmt::skip]
const RECORDED: [(&str, &str); 90] = [
    ("agent_background", "done"),
    ("agent_custom", "done"),
    ("agent_foreground", "done"),
    ("agents_parallel", "done"),
    ("ask_question_stdio", "done"),
    ("bad_tool_json", "done"),
    ("bash", "done"),
    ("bash_allowed", "done"),
    ("bash_background_done", "done"),
    ("bash_background_killed", "done"),
    ("bash_big_output", "done"),
    ("bash_denied", "done"),
    ("bash_timeout", "done"),
    ("bash_two_calls", "done"),
    ("bypass_is_sandbox", "done"),
    ("bypass_root_refused", "config"),
    ("cache_1h", "done"),
    ("control_requests", "done"),
    ("error_400", "reported"),
    ("error_401", "auth"),
    ("error_403", "auth"),
    ("error_404_model", "config"),
    ("error_413", "overflow"),
    ("error_429_exhausted", "limit"),
    ("error_429_long_retry_after", "limit"),
    ("error_429_spend_cap", "limit"),
    ("error_429_then_ok", "done"),
    ("error_500_exhausted", "transient"),
    ("error_529_exhausted", "transient"),
    ("error_529_fallback_model", "done"),
    ("error_bad_flag", "config"),
    ("error_credit", "auth"),
    ("error_cut_midstream", "done"),
    ("error_cut_midstream_partial", "done"),
    ("error_no_credentials", "auth"),
    ("error_no_verbose", "config"),
    ("error_prompt_too_long", "overflow"),
    ("error_refused_connection", "transient"),
    ("error_sse_overloaded", "done"),
    ("hooks", "done"),
    ("interrupt_bash", "signal"),
    ("interrupt_stream", "done"),
    ("long_text", "done"),
    ("max_budget", "budget"),
    ("max_turns", "reported"),
    ("mcp_broken_server", "done"),
    ("multi_turn", "done"),
    ("multi_turn_queued", "done"),
    ("partial_text", "done"),
    ("partial_thinking", "done"),
    ("partial_tool", "done"),
    ("permission_allow_stdio", "done"),
    ("permission_deny_stdio", "done"),
    ("rate_limit_event_allowed", "done"),
    ("rate_limit_event_rejected", "limit"),
    ("rate_limit_event_warning", "done"),
    ("rate_limit_headers_api_key", "done"),
    ("session_fork", "done"),
    ("session_in_use", "config"),
    ("session_missing", "session_gone"),
    ("session_resume", "done"),
    ("session_start", "done"),
    ("session_state_events", "done"),
    ("sigint_bash", "signal"),
    ("sigint_before_headers", "no_result"),
    ("sigint_stream", "signal"),
    ("sigkill_bash", "signal"),
    ("sigterm_bash", "signal"),
    ("slash_command", "reported"),
    ("stdin_closed_midturn", "done"),
    ("stdin_malformed", "exit_code"),
    ("stdout_truncated", "no_result"),
    ("stop_empty", "empty_answer"),
    ("stop_max_tokens", "done"),
    ("stop_refusal", "refused"),
    ("structured_bad_schema", "config"),
    ("structured_exhausted", "reported"),
    ("structured_never_called", "reported"),
    ("structured_ok", "done"),
    ("structured_retry", "done"),
    ("text", "done"),
    ("text_output_json", "done"),
    ("text_output_json_verbose", "unreadable"),
    ("thinking", "done"),
    ("usage_numbers", "done"),
    ("worker", "done"),
    ("write_accept_edits", "done"),
    ("write_denied", "done"),
    ("write_dont_ask", "done"),
    ("write_plan_mode", "done"),
];

/// The older version takes a schema that is none, and then answers without it.
const OTHERWISE: [(&str, &str, &str); 1] = [("2.1.197", "structured_bad_schema", "reported")];

/// The recordings of each version: the copy in this repository, and where `PODIUM_FIXTURES` says that there are more.
fn recordings() -> Vec<(&'static str, PathBuf)> {
    let copies = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/claude");
    let mut all = vec![("2.1.197", copies.join("2.1.197")), ("2.1.330", copies.join("2.1.330"))];
    if let Some(shared) = std::env::var_os("PODIUM_FIXTURES").map(PathBuf::from) {
        all.extend([("2.1.330", shared.join("v2.1.330")), ("2.1.197", shared)]);
    }
    all
}

fn listen(path: &Path, structured: bool) -> Listener {
    let mut listener = if structured { Listener::structured() } else { Listener::default() };
    let mut decoder = Decoder::default();
    for piece in fs::read(path).unwrap().chunks(777) {
        for line in decoder.feed(piece) {
            listener.hear(&line);
        }
    }
    if let Some(line) = decoder.finish() {
        listener.hear(&line);
    }
    listener
}

fn manifest(folder: &Path) -> serde_json::Map<String, Value> {
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    manifest["scenarios"].as_object().unwrap().clone()
}

fn recorded(version: &str, name: &str) -> PathBuf {
    let (_, folder) = recordings().into_iter().find(|(of, _)| *of == version).unwrap();
    folder.join(name).with_added_extension("jsonl")
}

#[test]
fn every_recorded_run_is_in_the_table_and_every_row_has_its_file() {
    let rows: BTreeSet<String> = RECORDED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(rows.len(), RECORDED.len(), "a row twice");
    for (_, folder) in recordings() {
        let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = names.filter_map(|n| n.strip_suffix(".jsonl").map(str::to_owned)).collect();
        assert_eq!(files, rows, "{}", folder.display());
        let listed: BTreeSet<String> = manifest(&folder).keys().cloned().collect();
        assert_eq!(listed, rows, "{}", folder.display());
    }
}

#[test]
fn every_recorded_run_gets_the_ending_it_had() {
    let mut wrong = Vec::new();
    for (version, folder) in recordings() {
        let scenarios = manifest(&folder);
        for (name, usual) in RECORDED {
            let other = OTHERWISE.iter().find(|(of, which, _)| (*of, *which) == (version, name));
            let expected = other.map_or(usual, |(_, _, kind)| kind);
            let scenario = &scenarios[name];
            let structured = scenario["args"].as_array().unwrap().iter().any(|a| a == "--json-schema");
            let listener = listen(&folder.join(scenario["file"].as_str().unwrap()), structured);
            let exit = match scenario["exit"].as_i64() {
                Some(code @ ..0) => Exit::Signal(i32::try_from(-code).unwrap()),
                Some(code) => Exit::Code(i32::try_from(code).unwrap()),
                None => Exit::Settled,
            };
            let finding = listener.finding(exit, scenario["stderr"].as_str().unwrap());
            let kind = serde_json::to_value(&finding.ending).unwrap()["kind"].as_str().unwrap().to_owned();
            if kind != expected {
                wrong.push(format!("{version} {name}: {:?}, not {expected}", finding.ending));
            }
            if kind == "done" {
                assert!(!finding.summary.is_empty(), "{version} {name}");
                assert!(finding.spend.usage.total() > 0, "{version} {name}: no usage");
                assert!(finding.session_id.is_some() && finding.model.is_some(), "{version} {name}");
                assert!(listener.settled(), "{version} {name}: {:?}", listener.progress());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_false_done_a_success_with_the_error_flag_is_a_failure_whatever_else_it_says() {
    let flags = |error: bool| {
        let mut listener = Listener::default();
        let line = format!(
            r#"{{"type":"result","subtype":"success","is_error":{error},"result":"All good.","num_turns":1,"modelUsage":{{"m":{{"outputTokens":5}}}}}}"#
        );
        for line in Decoder::default().feed(format!("{line}\n").as_bytes()) {
            listener.hear(&line);
        }
        listener.finding(Exit::Code(0), "").ending
    };
    assert_eq!(flags(false), Ending::Done);
    assert_eq!(flags(true), Ending::Reported { message: "All good.".to_owned() });
    // And as it was recorded: the CLI calls a failed call of the model a success.
    let text = fs::read_to_string(recorded("2.1.330", "error_529_exhausted")).unwrap();
    assert!(text.contains(r#""subtype":"success","is_error":true"#) || text.contains(r#""is_error":true"#));
}

#[test]
fn a_rejected_window_says_when_it_opens() {
    for (version, second) in [("2.1.197", 1_795_349_598), ("2.1.330", 1_795_349_943)] {
        let finding = listen(&recorded(version, "rate_limit_event_rejected"), false).finding(Exit::Code(1), "");
        let until = Some(Timestamp::from_second(second).unwrap());
        assert!(matches!(finding.ending, Ending::Limit { until: found, .. } if found == until), "{finding:?}");
    }
}

#[test]
fn usage_is_that_of_all_models_of_the_last_result() {
    let version = "2.1.197";
    let listener = listen(&recorded(version, "agent_custom"), false);
    let models = &listener.last.as_ref().unwrap().by_model;
    assert!(models.len() > 1, "the sub-agent has its own model");
    let finding = listener.finding(Exit::Code(0), "");
    assert_eq!(finding.spend.usage.output_tokens, models.iter().map(|(_, u)| u.output_tokens).sum::<u64>());
    assert!(finding.cost_reported && finding.spend.cost > MicroUsd(0));
}

#[test]
fn a_killed_run_still_tells_what_it_used() {
    let version = "2.1.330";
    let finding = listen(&recorded(version, "sigkill_bash"), false).finding(Exit::Signal(9), "");
    assert!(finding.spend.usage.cache_creation_input_tokens + finding.spend.usage.input_tokens > 0, "{finding:?}");
}

#[test]
fn a_refused_key_is_hopeless_at_the_first_retry() {
    let version = "2.1.330";
    assert!(matches!(listen(&recorded(version, "error_401"), false).hopeless(), Some(Ending::Auth { .. })));
    assert_eq!(listen(&recorded(version, "error_429_then_ok"), false).hopeless(), None);
}

#[test]
fn sub_agents_are_named_while_they_work() {
    let version = "2.1.330";
    let text = fs::read_to_string(recorded(version, "agents_parallel")).unwrap();
    let mut listener = Listener::default();
    let mut most = Vec::new();
    let mut decoder = Decoder::default();
    for line in text.lines() {
        for line in decoder.feed(format!("{line}\n").as_bytes()) {
            listener.hear(&line);
        }
        let now = listener.progress().subagents;
        if now.len() > most.len() {
            most = now;
        }
    }
    let most: Vec<(&str, usize)> = most.iter().map(|one| (&*one.name, one.id.len())).collect();
    assert_eq!(most, [("general-purpose: sub task 0", 17), ("general-purpose: sub task 1", 17)]);
    assert!(listener.progress().subagents.is_empty() && listener.settled());
}

#[test]
fn a_result_does_not_settle_a_run_whose_sub_agent_works_on() {
    let mut listener = Listener::default();
    let mut decoder = Decoder::default();
    let mut say = |listener: &mut Listener, line: &str| {
        for line in decoder.feed(format!("{line}\n").as_bytes()) {
            listener.hear(&line);
        }
    };
    say(
        &mut listener,
        r#"{"type":"system","subtype":"task_started","task_id":"t","tool_use_id":"u","task_type":"local_agent","description":"reads"}"#,
    );
    say(
        &mut listener,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"u"}]},"tool_use_result":{"isAsync":true}}"#,
    );
    say(&mut listener, r#"{"type":"result","subtype":"success","is_error":false,"result":"so far"}"#);
    assert!(!listener.settled());
    say(
        &mut listener,
        r#"{"type":"system","subtype":"task_notification","task_id":"t","tool_use_id":"u","status":"completed"}"#,
    );
    assert!(listener.settled());
}

#[test]
fn denials_are_flagged_and_the_run_is_done() {
    let version = "2.1.330";
    let finding = listen(&recorded(version, "write_dont_ask"), false).finding(Exit::Code(0), "");
    assert_eq!(finding.ending, Ending::Done);
    assert_eq!(finding.permission_denials, ["Write"]);
}
