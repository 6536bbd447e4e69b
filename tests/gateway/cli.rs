//! The real Claude Code CLI behind the gateway: what it makes of each no, whose calls are whose, and who may make them.
//!
//! The CLI is what `PODIUM_TEST_CLAUDE` names (`./test` sets it), else `CLAUDE_COMMAND`, else `claude` on `PATH`. Without
//! it its tests are skipped at a desk, and fail where `CI` is set.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use jiff::Timestamp;
use podium::{
    claude::{
        Decoder, Exit, Finding, Listener,
        args::{self, Session},
    },
    engines,
    gateway::Opening,
    model::{Ending, Permissions, TaskSpec, budget::Payer},
    orchestrator::brief,
    rehearsal::{self, StandIn},
};
use serde_json::{Value, json};

use super::{
    common::{self, cli::cli, eventually, files_with},
    proxy::{Does, Proxy, Seen},
    stage::*,
};

/// What must be known to the API and to nobody else.
const KEY: &str = "sk-ant-api03-this-is-no-key-0123456789abcdefghijklmnopqrstuvwxyz-AA";
const SESSION: &str = "11111111-2222-4333-8444-555555555555";

async fn stand_in() -> StandIn {
    #[expect(clippy::disallowed_methods, reason = "the test is the runtime here")]
    let clock = Clock::new(Timestamp::now);
    let listen = "127.0.0.1:0".parse().unwrap();
    StandIn::start(rehearsal::Settings { seed: 1, pace: 0.0, listen, clock }).await.unwrap()
}

/// Runs the CLI once as a worker does, its calls going through this gateway.
async fn run(cli: &OsString, stage: &Stage, prompt: &str, max_budget_usd: Option<f64>) -> (Finding, Duration) {
    let root = tempfile::tempdir().unwrap();
    let (home, system) = (root.path().join("home"), root.path().join("DANCE.md"));
    engines::prepare_home(&home).unwrap();
    fs::write(&system, "You are marie, a dance teacher.").unwrap();
    let session = Session::New(SESSION.to_owned());
    let request = args::Request {
        settings: None,
        subagents: podium::model::SubagentCaps::default(),
        model: "sonnet",
        session: &session,
        prompt: &system,
        permissions: Permissions::Standard,
        max_turns: None,
        max_budget_usd,
        schema: None,
        effort: None,
        tools: true,
        subagent_model: None,
        root: rustix::process::geteuid().is_root(),
    };
    let mut command = tokio::process::Command::new(cli);
    command.args(args::arguments(&request)).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(args::environment(&home, &request)).current_dir(root.path());
    command.env("ANTHROPIC_BASE_URL", stage.gateway.url()).env("ANTHROPIC_API_KEY", stage.token.expose_secret());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let began = tokio::time::Instant::now();
    let mut child = command.spawn().unwrap();
    let prompt = brief::compose(&TaskSpec::new("marie/class".parse().unwrap(), prompt), &[], None);
    child.stdin.take().unwrap().write_all(prompt.as_bytes()).await.unwrap();
    let output = timeout(common::PATIENCE, child.wait_with_output()).await.expect("the CLI ends").unwrap();
    let took = began.elapsed();
    let (mut decoder, mut listener) = (Decoder::default(), Listener::default());
    for line in decoder.feed(&output.stdout).into_iter().chain(decoder.finish()) {
        listener.hear(&line);
    }
    let exit = output.status.code().map_or(Exit::Signal(9), Exit::Code);
    (listener.finding(exit, &String::from_utf8_lossy(&output.stderr)), took)
}

/// All calls that have ended so far.
fn ended(stage: &mut Stage) -> Vec<Call> {
    let mut calls = Vec::new();
    while let Ok(notice) = stage.notices.try_recv() {
        if let Notice::Call(call) = notice {
            calls.push(*call);
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_cli_ends_at_once_when_a_budget_is_used_up_in_mid_run() {
    let Some(cli) = cli() else { return };
    let api = stand_in().await;
    // When the first call arrives, the day has no more to spend: the second one is refused.
    let (first, mut came) = tokio::sync::mpsc::unbounded_channel();
    let proxy = Proxy::start(api.addr(), move |_| {
        first.send(()).unwrap_or_default();
        Does::PassAfter(Duration::from_millis(400))
    })
    .await;
    let mut stage = Stage::with(|s| s.upstream = format!("http://{}", proxy.addr)).await;
    let lowered = async {
        came.recv().await.expect("a first call");
        stage.gateway.open(Opening { payer: Payer::Day, spent: MicroUsd(0), cap: Some(MicroUsd(1)) });
    };
    let ((finding, took), ()) =
        tokio::join!(run(&cli, &stage, "Plan a junior class. [[rehearse:tool]]", None), lowered);
    let Ending::DayBudget { message } = &finding.ending else { panic!("{finding:?}") };
    assert!(message.starts_with("the day's budget is used up: $"), "{message}");
    assert_eq!(proxy.calls(), 1, "no call passes beyond the cap");
    let ends: Vec<_> = ended(&mut stage).into_iter().map(|call| call.end).collect();
    // One refusal each for what it asks at the same time, and none for a second try: it was told not to wait.
    let refused = ends.iter().filter(|end| **end == CallEnd::Refused { status: 429 }).count();
    assert_eq!(
        (ends.len(), ends.iter().filter(|end| **end == CallEnd::Complete).count()),
        (refused + 1, 1),
        "{ends:?}"
    );
    assert_eq!(refused, 1, "{ends:?}");
    assert!(took < Duration::from_secs(20), "{took:?}: retries alone would take longer");
    stage.assert_nothing_held();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_cli_keeps_to_its_own_budget_where_nobody_else_does() {
    let Some(cli) = cli() else { return };
    let api = stand_in().await;
    let proxy = Proxy::start(api.addr(), |_| Does::Pass).await;
    let mut stage = Stage::with(|s| s.upstream = format!("http://{}", proxy.addr)).await;
    let (finding, _) = run(&cli, &stage, "Plan a junior class. [[rehearse:tool]]", Some(0.000_001)).await;
    assert!(matches!(finding.ending, Ending::Budget { .. }), "{finding:?}");
    // It looks after each answer: the first one it pays, a second one it does not ask for.
    assert_eq!((proxy.calls(), ended(&mut stage).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_clis_sub_agents_are_told_apart_and_counted_with_their_attempt() {
    let Some(cli) = cli() else { return };
    let api = stand_in().await;
    let proxy = Proxy::start(api.addr(), |_| Does::Pass).await;
    let mut stage = Stage::with(|s| s.upstream = format!("http://{}", proxy.addr)).await;
    let task: TaskRef = "marie/eval".parse().unwrap();
    stage.gateway.attribute(SESSION, Purpose::Attempt(task.attempt(3)));
    let (finding, _) = run(&cli, &stage, "Plan a junior class. [[rehearse:subagent]]", None).await;
    assert_eq!(finding.ending, Ending::Done, "{finding:?}");
    let calls = ended(&mut stage);
    let whose: Vec<_> = calls.iter().filter_map(|call| call.subagent.clone()).collect();
    assert!(!whose.is_empty() && whose.len() < calls.len(), "some are the sub-agent's: {calls:#?}");
    assert!(calls.iter().all(|call| call.session_id.as_deref() == Some(SESSION)), "{calls:#?}");
    assert!(calls.iter().all(|call| call.attempt() == Some(&task.attempt(3))), "{calls:#?}");
    // The headers go on to the API as they came.
    let heads: Vec<_> = proxy.seen().into_iter().filter(Seen::is_call).map(|seen| seen.head).collect();
    let named: Vec<_> = heads.iter().filter_map(|head| header(head, "x-claude-code-agent-id")).collect();
    assert_eq!(named, whose, "{heads:#?}");
    assert!(heads.iter().all(|head| header(head, "x-claude-code-session-id") == Some(SESSION)), "{heads:#?}");
    // What the CLI itself counts, and what we do.
    let ours: u64 = calls.iter().map(|call| call.usage.total()).sum();
    assert_eq!(finding.spend.usage.total(), ours, "{finding:?}");
}

/// A stage whose agents are real CLIs with a key, and whose calls end at this address.
fn room(cli: OsString, api: SocketAddr, toml: &str) -> common::Stage {
    let mut stage = common::Stage::bare(&format!("[upstream]\nurl = \"http://{api}\"\n{toml}"));
    stage.env.insert("CLAUDE_COMMAND".to_owned(), cli);
    stage.env.insert("ANTHROPIC_API_KEY".to_owned(), KEY.into());
    stage
}

fn account(stage: &common::Stage) -> Value {
    let status = stage.status();
    let accounts = status["accounts"].as_array().unwrap();
    accounts.iter().find(|a| a["name"] == "ANTHROPIC_API_KEY").cloned().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_that_is_reached_in_mid_run_parks_the_account_and_costs_the_real_cli_no_attempt() {
    let Some(cli) = cli() else { return };
    let api = stand_in().await;
    let proxy = Proxy::start(api.addr(), |number| {
        // Like any 429, but without a word of a wait: the account's tier has spent what it may this month.
        let error = json!({"type": "error", "error": {
            "type": "rate_limit_error", "message": "You have crossed your monthly threshold.",
            "details": {"error_code": "enforced_spend_limit_reached"},
        }});
        if number == 2 { Does::Refuse("429 Too Many Requests", error) } else { Does::Pass }
    })
    .await;
    // A repository that would lead its agent's calls, and its key, elsewhere.
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}", trap.local_addr().unwrap());
    let mut stage = room(cli, proxy.addr, "[retry]\nattempts = 1\n[limits]\nresume = \"ask\"\n");
    let settings = stage.path.join("workspaces/dance/.claude");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("settings.json"), json!({"env": {"ANTHROPIC_BASE_URL": elsewhere}}).to_string()).unwrap();
    stage.serve().await;
    let text = "Plan a junior class. [[rehearse:tool]]";
    stage.run(&["submit", "--agent", "marie", "--id", "class", text]).exits(0);
    let parked = eventually("the account to be parked", || {
        Some(account(&stage)["parked"].clone()).filter(|parked| !parked.is_null())
    })
    .await;
    assert_eq!((&parked["kind"], &parked["then"]), (&json!("tier_cap"), &json!("asks")), "{parked:#}");
    let waits = eventually("the attempt to end", || {
        let task = stage.run(&["show", "class", "--json"]).exits(0).json();
        (task["state"] == "retrying" || task["state"] == "ready").then_some(task)
    })
    .await;
    assert!(waits["why"].as_str().unwrap().contains("monthly cap of the account's tier reached"), "{waits:#}");
    assert_eq!(waits["attempts"][0]["class"], "limit", "{waits:#}");
    // Nothing more is asked for on this account, whoever would.
    stage.run(&["submit", "--agent", "anga", "--id", "page", "Look at the page."]).exits(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(proxy.calls(), 2, "the CLI's own second try was answered by podium");
    let status = stage.status();
    assert!(status["needs_you"].as_array().unwrap().is_empty(), "its end is known, nobody is asked yet: {status:#}");
    stage.run(&["resume", "ANTHROPIC_API_KEY"]).exits(0);
    let done = stage.result("marie/class").await;
    // The one attempt that it may cost is the second one.
    assert_eq!((&done["state"], &done["attempts"]), (&json!("done"), &json!(2)), "{done:#}");
    assert_eq!(stage.result("anga/page").await["state"], "done");
    assert!(account(&stage)["parked"].is_null());
    // The orchestrator's own call goes the same way.
    stage.run(&["run", "--approve", "never", "Write a letter to the parents."]).exits(0);
    assert!(stage.status()["money"]["orchestrator"]["calls"].as_u64().unwrap() >= 1);

    // The key was put on each of these calls, and is nowhere else.
    assert!(proxy.seen().iter().all(|seen| header(&seen.head, "x-api-key") == Some(KEY) && !seen.body.contains(KEY)));
    assert!(timeout(Duration::from_millis(50), trap.accept()).await.is_err(), "the repository's settings hold");
    stage.run(&["stop"]).exits(0);
    stage.left().await;
    assert!(!files_with("monthly threshold", stage.root.path()).is_empty(), "this does look");
    assert_eq!(files_with(KEY, stage.root.path()), Vec::<PathBuf>::new());
}

/// Waits until calls with this token are answered so.
async fn until_answered(gateway: SocketAddr, token: &str, status: &str) {
    let waited = timeout(common::PATIENCE, async {
        while asks(gateway, token).await.as_deref() != Some(status) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_late| panic!("no {status} for the token"));
}

/// What a call with this token is answered with.
async fn asks(gateway: SocketAddr, token: &str) -> Option<String> {
    let body = r#"{"model":"claude-haiku-5-5","messages":[{"role":"user","content":"x"}]}"#;
    let mut socket = TcpStream::connect(gateway).await.ok()?;
    let head = format!(
        "POST /v1/messages/count_tokens HTTP/1.1\r\nhost: {gateway}\r\nx-api-key: {token}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_outlives_the_core_and_ends_with_its_worker() {
    let Some(cli) = cli() else { return };
    let api = stand_in().await;
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let proxy = Proxy::start(api.addr(), move |number| {
        // From its second call on the CLI is in the middle of its work, and the API has a bad minute.
        if number == 1 || open.load(Relaxed) {
            return Does::Pass;
        }
        let error = json!({"type": "error", "error": {"type": "api_error", "message": "Internal server error"}});
        Does::Refuse("500 Internal Server Error", error)
    })
    .await;
    let mut stage = room(cli, proxy.addr, "");
    stage.serve().await;
    stage.run(&["submit", "--agent", "marie", "--id", "class", "Plan a junior class. [[rehearse:tool]]"]).exits(0);
    let (child, attempt) = stage.child("marie/class").await;
    // Empty for a moment whenever the process becomes another program.
    let environment = eventually("its environment", || {
        fs::read(format!("/proc/{child}/environ")).ok().filter(|environment| !environment.is_empty())
    })
    .await;
    let variable = |name: &str| {
        let text = environment.split(|b| *b == 0).find_map(|pair| pair.strip_prefix(format!("{name}=").as_bytes()));
        String::from_utf8(text.unwrap().to_vec()).unwrap()
    };
    let (token, url) = (variable("ANTHROPIC_API_KEY"), variable("ANTHROPIC_BASE_URL"));
    let gateway: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    assert!(token.starts_with("podium-") && !environment.windows(KEY.len()).any(|w| w == KEY.as_bytes()));
    assert_eq!(asks(gateway, &token).await.as_deref(), Some("200"));
    eventually("its second call", || (proxy.calls() > 1).then_some(())).await;

    let core = stage.core();
    common::kill(core);
    eventually("the next core", || (stage.core() != core).then_some(())).await;
    until_answered(gateway, &token, "200").await;
    gate.store(true, Relaxed);
    let done = stage.result("marie/class").await;
    assert_eq!((&done["state"], &done["attempts"]), (&json!("done"), &json!(attempt)), "it never noticed: {done:#}");

    // The worker ends: nobody has its token any more, and the next one has another.
    assert_eq!(asks(gateway, &token).await.as_deref(), Some("200"));
    let worker = stage.worker("marie").await;
    common::kill(worker);
    stage.worker_but("marie", worker).await;
    until_answered(gateway, &token, "401").await;
    stage.close().await;
}
