//! The stand-in of the Messages API as our own client sees it, over a real socket.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::time::Duration;

use podium::{
    api::{self, ApiError, Client, Heard, Reply, Request, StopReason},
    model::{Clock, Severity},
    orchestrator::{brief, plan, synthesis},
    rehearsal::{SAMPLE_GOAL, Settings, StandIn},
};
use serde_json::Value;

async fn stand_in(seed: u64, pace: f64) -> StandIn {
    let clock = Clock::fixed("2026-11-22T12:00:00Z".parse().unwrap());
    StandIn::start(Settings { seed, pace, listen: "127.0.0.1:0".parse().unwrap(), clock }).await.unwrap()
}

fn client(stand_in: &StandIn) -> Client {
    let mut settings = api::Settings::new(stand_in.url(), "any".to_owned().into());
    settings.first_wait = Duration::from_millis(1);
    Client::new(settings).unwrap()
}

fn plan_request(goal: &str) -> Request {
    Request::new("claude-sonnet-5-5", 1000, format!("{}\n\n<goal>\n{goal}\n</goal>\n", plan::HEADING))
        .with_cached_system("The orchestrator's fixed text. ".repeat(60))
        .with_system("# Agents\n\n- `marie`: dance\n- `anga`: code\n- `fabien`: words\n")
        .with_schema(serde_json::json!({"type": "object", "properties": {"tasks": {"type": "array"}}}))
}

fn task_request(words: &str) -> Request {
    Request::new("claude-sonnet-5-5", 1000, format!("{}anga/g1-fix\n\n{words}\n\n# Your answer\n", brief::HEADING))
}

async fn say(stand_in: &StandIn, request: &Request) -> (Result<Reply, ApiError>, Vec<Option<u16>>, usize) {
    let (mut retries, mut events) = (Vec::new(), 0);
    let answer = client(stand_in)
        .stream(request, |heard| match heard {
            Heard::Retrying(retry) => retries.push(retry.error.status()),
            Heard::Event { .. } => events += 1,
        })
        .await;
    (answer, retries, events)
}

#[tokio::test]
async fn a_plan_is_json_and_the_same_streamed_or_not_and_after_a_restart() {
    let first = stand_in(7, 0.0).await;
    let whole = client(&first).message(&plan_request(SAMPLE_GOAL)).await.unwrap();
    let value: Value = serde_json::from_str(&whole.text()).unwrap();
    assert_eq!(value["tasks"].as_array().unwrap().len(), 9);
    let (streamed, ..) = say(&first, &plan_request(SAMPLE_GOAL)).await;
    assert_eq!(streamed.unwrap().text(), whole.text());
    drop(first);
    let second = stand_in(7, 0.0).await;
    let again = client(&second).message(&plan_request(SAMPLE_GOAL)).await.unwrap();
    assert_eq!((again.id, again.content, again.usage), (whole.id, whole.content, whole.usage));
}

#[tokio::test]
async fn the_same_task_gets_the_same_words_for_a_seed_and_others_for_another() {
    let ask = async |seed| say(&stand_in(seed, 0.0).await, &task_request("Fix the parser.")).await.0.unwrap().text();
    let one = ask(1).await;
    assert_eq!(one, ask(1).await);
    assert!(one.starts_with("Rehearsal. ") && one.contains("Fix the parser"), "{one}");
    let others = [ask(2).await, ask(3).await, ask(4).await];
    assert!(others.iter().any(|other| *other != one));
}

#[tokio::test]
async fn a_cached_prefix_is_written_first_and_read_afterwards() {
    let stand_in = stand_in(1, 0.0).await;
    let first = client(&stand_in).message(&plan_request("write a poem")).await.unwrap().usage;
    let second = client(&stand_in).message(&plan_request("fix a bug")).await.unwrap().usage;
    assert!(first.cache_creation_input_tokens > 256 && first.cache_read_input_tokens == 0, "{first:?}");
    assert_eq!(second.cache_read_input_tokens, first.cache_creation_input_tokens);
}

#[tokio::test]
async fn refusals_of_the_server_come_as_often_as_asked() {
    let stand_in = stand_in(1, 0.0).await;
    let (answer, retries, _) = say(&stand_in, &task_request("Fix it. [[rehearse:529]] [[rehearse:500]]")).await;
    assert!(answer.unwrap().text().starts_with("Rehearsal."));
    assert_eq!(retries, [Some(529), Some(500)]);
    let (answer, retries, _) = say(&stand_in, &task_request("Fix it. [[rehearse:529]] [[rehearse:500]]")).await;
    assert!(answer.is_ok() && retries.is_empty(), "the same task again is served at once");
    let before = tokio::time::Instant::now();
    let (answer, retries, _) = say(&stand_in, &task_request("Wait. [[rehearse:429]]")).await;
    assert!(answer.is_ok() && retries == [Some(429)] && before.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_cut_stream_breaks_once_in_the_middle() {
    let stand_in = stand_in(1, 0.0).await;
    let request = task_request("Fix it. [[rehearse:cut]]");
    let (answer, _, events) = say(&stand_in, &request).await;
    assert!(matches!(answer, Err(ApiError::Cut(_))), "{answer:?}");
    assert!(events > 3, "{events}");
    assert!(say(&stand_in, &request).await.0.is_ok());
}

#[tokio::test]
async fn refusal_silence_and_a_full_answer_look_as_they_do_on_the_real_api() {
    let stand_in = stand_in(1, 0.0).await;
    let ask = async |words: &str| say(&stand_in, &task_request(words)).await.0.unwrap();
    let refused = ask("x [[rehearse:refuse]]").await;
    assert_eq!((refused.stop_reason, refused.text().as_str()), (Some(StopReason::Refusal), ""));
    let empty = ask("x [[rehearse:empty]]").await;
    assert_eq!((empty.stop_reason, empty.text().as_str()), (Some(StopReason::EndTurn), ""));
    let full = ask("x [[rehearse:max_tokens]]").await;
    assert_eq!(full.stop_reason, Some(StopReason::MaxTokens));
    assert!(!full.text().is_empty());
}

#[tokio::test]
async fn a_hanging_answer_begins_and_never_ends() {
    let stand_in = stand_in(1, 0.0).await;
    let request = task_request("x [[rehearse:hang]]");
    let waiting = tokio::time::timeout(Duration::from_millis(300), say(&stand_in, &request)).await;
    assert!(waiting.is_err());
}

#[tokio::test]
async fn pace_spreads_an_answer_over_time() {
    let stand_in = stand_in(1, 0.05).await;
    let before = tokio::time::Instant::now();
    say(&stand_in, &task_request("Fix it.")).await.0.unwrap();
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
}

#[tokio::test]
async fn a_report_cites_the_tasks_of_its_request() {
    let stand_in = stand_in(1, 0.0).await;
    let text = format!(
        "{}\n\n<goal>\nx\n</goal>\n\n## [fix-it] Fix it (anga)\n\n<result task=\"fix-it\" state=\"done\" \
         attempts=\"1\">\nIt is fixed.\n</result>\n",
        synthesis::HEADING
    );
    let report = client(&stand_in).message(&Request::new("m", 100, text)).await.unwrap().text();
    assert!(report.contains("It is fixed. [fix-it]"), "{report}");
}

/// A request as a program of another make sends it.
async fn post(stand_in: &StandIn, path: &str, body: String) -> (u16, reqwest::header::HeaderMap, String) {
    // Building our client installs the TLS provider that every other client needs too.
    drop(client(stand_in));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = http.post(format!("{}{path}", stand_in.url())).body(body).send().await.unwrap();
    (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
}

fn with_tools(folder: &str, turns: &[Value]) -> String {
    let tool = |name: &str| serde_json::json!({"name": name, "input_schema": {"type": "object"}});
    let mut messages = vec![serde_json::json!({"role": "user", "content": [
        {"type": "text", "text": "# Task marie/g1-notes\n\nEvaluate the class. [[rehearse:subagent]]"}]})];
    messages.extend_from_slice(turns);
    serde_json::json!({
        "model": "m", "max_tokens": 100, "messages": messages,
        "system": [{"type": "text", "text": format!("Working directory: {folder}")}],
        "tools": [tool("Agent"), tool("Write"), tool("Bash")],
    })
    .to_string()
}

#[tokio::test]
async fn with_tools_on_offer_a_task_asks_a_subagent_writes_a_file_and_then_answers() {
    let stand_in = stand_in(1, 0.0).await;
    let mut turns: Vec<Value> = Vec::new();
    let mut called = Vec::new();
    loop {
        let (status, headers, body) = post(&stand_in, "/v1/messages?beta=true", with_tools("/w/marie", &turns)).await;
        assert_eq!(status, 200, "{body}");
        for name in ["request-id", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-input-tokens-reset"] {
            assert!(headers.contains_key(name), "{name} is missing");
        }
        let message: Value = serde_json::from_str(&body).unwrap();
        turns.push(serde_json::json!({"role": "assistant", "content": message["content"]}));
        if message["stop_reason"] == "end_turn" {
            assert!(body.contains("g1-notes.md"), "{body}");
            break;
        }
        let call = &message["content"][1];
        called.push(call["name"].as_str().unwrap().to_owned());
        let input = &call["input"];
        match called.len() {
            1 => assert!(input["prompt"].as_str().unwrap().starts_with("# Second look")),
            _ => assert_eq!(input["file_path"], "/w/marie/g1-notes.md"),
        }
        turns.push(serde_json::json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call["id"], "content": "ok"}]}));
        assert!(turns.len() < 10);
    }
    assert_eq!(called, ["Agent", "Write"]);
}

#[tokio::test]
async fn other_requests_are_counted_refused_or_greeted() {
    let stand_in = stand_in(1, 0.0).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hello hello hello"}]}"#;
    let (status, _, counted) = post(&stand_in, "/v1/messages/count_tokens", body.to_owned()).await;
    assert_eq!((status, counted.as_str()), (200, r#"{"input_tokens":11}"#));
    for (path, body, wanted) in [
        ("/v1/messages", "not json", 400),
        ("/v1/messages", "{}", 400),
        ("/v1/messages", r#"{"model":"m","messages":[]}"#, 400),
        ("/v1/other", "{}", 404),
    ] {
        let (status, _, said) = post(&stand_in, path, body.to_owned()).await;
        assert_eq!(status, wanted, "{said}");
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["type"], "error");
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(http.head(format!("{}/api/hello", stand_in.url())).send().await.unwrap().status(), 200);
}

fn prompt_request(prompt: podium::orchestrator::Prompt) -> Request {
    let request = Request::new("m", prompt.max_tokens, prompt.user).with_cached_system(prompt.stable);
    let request = if prompt.stage.is_empty() { request } else { request.with_system(prompt.stage) };
    match prompt.schema {
        Some(schema) => request.with_schema(schema),
        None => request,
    }
}

#[tokio::test]
async fn the_orchestrator_accepts_the_plans_and_finds_its_citations_in_the_report() {
    let stand_in = stand_in(1, 0.0).await;
    let agents: Vec<plan::Candidate> = ["marie", "anga", "fabien"]
        .map(|name| (name.parse().unwrap(), format!("does {name}'s work"), "sonnet".to_owned()))
        .to_vec();
    let names: Vec<_> = agents.iter().map(|(name, ..)| name.clone()).collect();
    for goal in
        [SAMPLE_GOAL, "Write a haiku", "Review the API, then fix it and announce it. Draw a plan of the studio."]
    {
        let request = prompt_request(plan::prompt(goal, &agents, "You are the orchestrator.", None, None));
        let answer = client(&stand_in).message(&request).await.unwrap().text();
        let made = plan::read(&answer, 1, "m", podium::model::Spend::default()).unwrap();
        let faults = plan::check(&made, &plan::Rules::new(names.clone()));
        assert!(faults.iter().all(|f| f.severity == Severity::Suggest), "{goal}: {faults:?}");

        let ended: Vec<synthesis::Ended> = made.tasks.iter().map(|task| (task.clone(), None)).collect();
        let request = prompt_request(synthesis::prompt(goal, &made, &ended, "You are the orchestrator."));
        let report = client(&stand_in).message(&request).await.unwrap().text();
        for task in &made.tasks {
            assert!(report.contains(&format!("[{}]", task.id)), "{report}");
        }
    }
}

#[tokio::test]
async fn the_messages_engine_reads_like_the_cli_to_its_reader() {
    use podium::{
        engines::{Exit, Reader, claude::Stream, messages},
        model::Ending,
    };
    let stand_in = stand_in(1, 0.0).await;
    for (words, wanted, code) in [
        ("Fix the parser. [[rehearse:529]]", "done", 0),
        ("x [[rehearse:refuse]]", "refused", 1),
        ("x [[rehearse:500*9]]", "transient", 1),
        ("x [[rehearse:cut]]", "transient", 1),
        ("x [[rehearse:max_tokens]]", "overflow", 1),
        ("x [[rehearse:empty]]", "empty", 0),
    ] {
        let mut api = api::Settings::new(stand_in.url(), "any".to_owned().into());
        api.first_wait = Duration::from_millis(1);
        let settings = messages::Settings {
            api,
            model: "sonnet".into(),
            session_id: "s-1".into(),
            system: None,
            schema: None,
            effort: None,
            cwd: "/w".into(),
            clock: Clock::fixed("2026-11-22T12:00:00Z".parse().unwrap()),
        };
        let prompt = format!("{}anga/g1-x\n\n{words}\n", brief::HEADING);
        let mut out = Vec::new();
        let ended = messages::converse(&settings, &prompt, &mut out, std::future::pending()).await.unwrap();
        assert_eq!(ended, code, "{words}");
        let mut reader = Stream::default();
        reader.feed(&out);
        let finding = reader.finding(Exit::Code(code.into()), "");
        let got = match &finding.ending {
            Ending::Done => "done",
            Ending::EmptyAnswer => "empty",
            other => other.class().map_or("none", podium::model::FailureClass::word),
        };
        assert_eq!(got, wanted, "{words}: {:?}", finding.ending);
        assert_eq!(finding.session_id.as_deref(), Some("s-1"));
        assert!(wanted == "transient" || finding.spend.usage.total() > 0, "{words}: {:?}", finding.spend);
    }
}
