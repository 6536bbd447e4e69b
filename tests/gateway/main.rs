//! The gateway against a scripted upstream on loopback: what goes in, what comes out, what is booked.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests sees neither methods nor helpers here")]
#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]

mod budget;
mod bytes;
mod cli;
#[expect(dead_code, reason = "tests/room.rs uses the rest")]
#[path = "../common/mod.rs"]
mod common;
mod elsewhere;
mod fuzz;
mod limits;
mod patience;
mod proxy;
mod stage;

use stage::*;

#[tokio::test]
async fn a_stream_passes_piece_by_piece_in_both_directions_and_is_booked() {
    let mut stage = Stage::set().await;
    let task: TaskRef = "marie/eval".parse().unwrap();
    let headers = "anthropic-version: 2023-06-01\r\nanthropic-beta: a-1,b-2\r\nx-claude-code-session-id: session-1\r\nx-claude-code-agent-id: sub-1\r\nx-own: kept\r\naccept-encoding: gzip\r\n";
    let mut client = stage.post("/v1/messages?beta=true", headers, ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    assert!(upstream.head.starts_with("POST /v1/messages?beta=true HTTP/1.1"), "{}", upstream.head);
    assert_eq!(upstream.body, ASK.as_bytes());
    for (name, value) in [
        ("x-api-key", REAL_KEY),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a-1,b-2"),
        ("x-claude-code-session-id", "session-1"),
        ("x-own", "kept"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(header(&upstream.head, name), Some(value), "{name}");
    }
    assert!(!upstream.head.contains(stage.token.expose_secret()));

    // The room may learn of the session while the call runs.
    stage.gateway.attribute("session-1", Purpose::Attempt(task.attempt(2)));
    upstream.begin_stream("request-id: req_7\r\nx-other: passes\r\n").await;
    let head = read_answer_head(&mut client).await;
    assert_eq!((header(&head, "request-id"), header(&head, "x-other")), (Some("req_7"), Some("passes")));
    for piece in [START, PING, DELTA, "event: mess", "age_delta\n"] {
        // The next piece is only sent once this one has come out at the other end.
        upstream.chunk(piece).await;
        assert_eq!(read_chunk(&mut client).await, piece);
    }
    upstream.chunk(STOP).await;
    assert_eq!(read_chunk(&mut client).await, STOP);
    upstream.say("0\r\n\r\n").await;
    assert_eq!(read_chunk(&mut client).await, "");

    let call = stage.call().await;
    let usage = Usage {
        input_tokens: 100,
        output_tokens: 50,
        cache_read_input_tokens: 10_000,
        cache_creation_input_tokens: 2_000,
        cache_creation_1h_input_tokens: 0,
    };
    assert_eq!((call.usage, call.end, call.estimated), (usage, CallEnd::Complete, false));
    // 100 × 4 + 50 × 20 + 10,000 × 0.20 + 2,000 × 5
    assert_eq!(call.cost, MicroUsd(400 + 1_000 + 2_000 + 10_000));
    assert_eq!(call.caller, Caller::Worker { agent: "marie".parse().unwrap(), attempt: Some(task.attempt(2)) });
    assert_eq!((call.session_id.as_deref(), call.subagent.as_deref()), (Some("session-1"), Some("sub-1")));
    assert_eq!((call.request_id.as_deref(), call.model.as_str()), (Some("req_7"), "claude-opus-5-5"));
    stage.assert_nothing_held();
    // Only uncached input counts: 100 + 2,000 of 100,000.
    let input = stage.bucket(Dimension::Input);
    assert!((97_900..98_500).contains(&input.level), "{input:?}");
}

#[tokio::test]
async fn an_answer_in_one_piece_is_metered_and_its_headers_teach_the_buckets() {
    let mut stage = Stage::set().await;
    let mut client = stage.post("/v1/messages", "", r#"{"model":"claude-opus-5-5"}"#).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    let body =
        r#"{"type":"message","model":"claude-opus-5-5","content":[],"usage":{"input_tokens":10,"output_tokens":5}}"#;
    let headers = "content-type: application/json\r\nanthropic-ratelimit-requests-limit: 4000\r\nanthropic-ratelimit-requests-remaining: 3999\r\nanthropic-ratelimit-input-tokens-limit: 50000\r\nanthropic-ratelimit-input-tokens-remaining: 7000\r\n";
    upstream.whole("200 OK", headers, body).await;
    let (head, got) = read_sized(&mut client).await;
    assert_eq!(got, body);
    assert_eq!(header(&head, "anthropic-ratelimit-input-tokens-remaining"), Some("7000"));
    let call = stage.call().await;
    assert_eq!((call.usage.input_tokens, call.usage.output_tokens, call.end), (10, 5, CallEnd::Complete));
    assert_eq!((call.cost, call.estimated), (MicroUsd(40 + 100), false));
    let input = stage.bucket(Dimension::Input);
    assert_eq!((input.limit, input.learned, input.server.map(|s| s.0)), (50_000, true, Some(7_000)));
    assert!(input.level < 10_000, "the server's word lowers the level: {input:?}");
    assert_eq!(stage.bucket(Dimension::Requests).limit, 4_000);
    let output = stage.bucket(Dimension::Output);
    assert_eq!((output.limit, output.learned), (20_000, false));
    stage.assert_nothing_held();
}

#[tokio::test]
async fn an_error_passes_word_for_word_and_holds_its_group() {
    let mut stage = Stage::with(|s| s.hold = Duration::ZERO).await;
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    let body =
        "{\"type\":\"error\",  \"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"},\"request_id\":\"r\"}\n";
    upstream.whole("429 Too Many Requests", "content-type: application/json\r\nretry-after: 20\r\n", body).await;
    let (head, got) = read_sized(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    assert_eq!((got.as_str(), header(&head, "retry-after")), (body, Some("20")));
    let call = stage.call().await;
    assert_eq!((call.end, call.cost, call.estimated), (CallEnd::Refused { status: 429 }, MicroUsd(0), false));
    assert_eq!(stage.gateway.levels().throttled, 1);

    // The next call does not even reach upstream, and hears how long it is to wait.
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let (head, got) = read_sized(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 429") && got.contains("rate_limit_error"), "{head}{got}");
    let wait: u64 = header(&head, "retry-after").unwrap().parse().unwrap();
    assert!((15..=20).contains(&wait), "{wait}");
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 429 });
    stage.assert_nothing_held();
}

#[tokio::test]
async fn strangers_are_refused_without_detail_and_never_reach_upstream() {
    let mut stage = Stage::set().await;
    let addr = stage.gateway.addr();
    let token = stage.token.expose_secret().to_owned();
    let request = |host: &str, key: &str, more: &str| {
        format!("POST /v1/messages HTTP/1.1\r\nhost: {host}\r\n{key}{more}content-length: {}\r\n\r\n{ASK}", ASK.len())
    };
    let good = format!("x-api-key: {token}\r\n");
    let local = addr.to_string();
    for (what, request, status) in [
        ("no token", request(&local, "", ""), "401"),
        ("a wrong token", request(&local, &format!("x-api-key: {token}x\r\n"), ""), "401"),
        ("the real key", request(&local, &format!("x-api-key: {REAL_KEY}\r\n"), ""), "401"),
        ("a browser", request(&local, &good, "origin: http://127.0.0.1\r\n"), "403"),
        ("another name", request("evil.example", &good, ""), "403"),
        ("another path", request(&local, &good, "").replace("/v1/messages", "/v1/files"), "404"),
        ("another method", request(&local, &good, "").replace("POST", "PUT"), "405"),
        (
            "not JSON",
            format!("POST /v1/messages HTTP/1.1\r\nhost: {local}\r\n{good}content-length: 3\r\n\r\nhi!"),
            "400",
        ),
        (
            "too large",
            format!("POST /v1/messages HTTP/1.1\r\nhost: {local}\r\n{good}content-length: 200000000\r\n\r\n"),
            "413",
        ),
    ] {
        let (head, body) = read_sized(&mut stage.send(&request).await).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        assert!(body.starts_with(r#"{"error":{"message":"#), "{what}: {body}");
        assert!(!body.contains(&token) && !body.contains(REAL_KEY) && !body.contains("marie"), "{what}: {body}");
        assert_eq!(header(&head, "x-should-retry"), Some("false"), "{what}");
    }
    let mut hello = stage.send(&format!("HEAD /api/hello HTTP/1.1\r\nhost: {local}\r\n\r\n")).await;
    let head = read_answer_head(&mut hello).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // Bearer works as well; the hash alone is enough to be known after a restart; a revoked token is a stranger's.
    stage.gateway.adopt_token(token_hash(&"old-token".into()), marie());
    let bearer = request(&local, "authorization: Bearer old-token\r\n", "");
    let client = stage.send(&bearer).await;
    let upstream = Upstream::accept(&stage.listener).await;
    assert_eq!((header(&upstream.head, "x-api-key"), header(&upstream.head, "authorization")), (Some(REAL_KEY), None));
    drop((client, upstream));
    stage.gateway.revoke(&marie());
    let (head, _) = read_sized(&mut stage.send(&bearer).await).await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    // Refusals of known callers have a row each (400, 413), strangers have none.
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 400 });
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 413 });
}

#[tokio::test]
async fn a_session_is_believed_only_of_the_agent_whose_task_it_is() {
    let mut stage = Stage::set().await;
    let task: TaskRef = "anga/code".parse().unwrap();
    stage.gateway.attribute("of-anga", Purpose::Attempt(task.attempt(1)));
    stage.gateway.attribute("of-a-goal", Purpose::Goal("g1".parse().unwrap()));
    for session in ["of-anga", "of-a-goal", "unheard-of"] {
        let header = format!("x-claude-code-session-id: {session}\r\n");
        let mut client = stage.post("/v1/messages", &header, ASK).await;
        let mut upstream = Upstream::accept(&stage.listener).await;
        upstream.whole("200 OK", "content-type: application/json\r\nconnection: close\r\n", "{}").await;
        read_sized(&mut client).await;
        assert_eq!(stage.call().await.caller, Caller::Worker { agent: "marie".parse().unwrap(), attempt: None });
    }
    stage.token = stage.gateway.issue_token(Identity::Orchestrator).unwrap();
    let mut client = stage.post("/v1/messages", "x-claude-code-session-id: of-a-goal\r\n", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.whole("200 OK", "content-type: application/json\r\n", "{}").await;
    read_sized(&mut client).await;
    assert_eq!(stage.call().await.caller, Caller::Orchestrator { goal: Some("g1".parse().unwrap()) });
}

#[tokio::test]
async fn neither_key_nor_token_is_in_anything_that_can_be_printed() {
    let mut stage = Stage::set().await;
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    assert_eq!(header(&upstream.head, "x-api-key"), Some(REAL_KEY));
    upstream.whole("200 OK", "content-type: application/json\r\n", "{}").await;
    let answer = read_sized(&mut client).await;
    let call = stage.call().await;
    let settings = settings(stage.listener.local_addr().unwrap());
    let printed = format!(
        "{:?} {settings:?} {call:?} {} {answer:?} {:?}",
        stage.gateway,
        serde_json::to_string(&call).unwrap(),
        stage.gateway.levels()
    );
    assert!(!printed.contains(REAL_KEY) && !printed.contains(stage.token.expose_secret()), "{printed}");
}

#[tokio::test]
async fn without_a_key_the_caller_is_told_so() {
    let mut stage = Stage::with(|s| s.keys = Keys::default()).await;
    assert!(!stage.gateway.has_key(&marie()));
    let (head, body) = read_sized(&mut stage.post("/v1/messages", "", ASK).await).await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert!(body.contains("authentication_error") && body.contains("no API key for marie-0"), "{body}");
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 401 });
}

#[tokio::test]
async fn a_client_that_leaves_closes_upstream_at_once_and_is_charged_a_guess() {
    let mut stage = Stage::set().await;
    // In mid-stream, while upstream is silent.
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.begin_stream("").await;
    upstream.chunk(START).await;
    upstream.chunk(&DELTA.replace("h\u{e9}llo", &"word ".repeat(80))).await;
    read_answer_head(&mut client).await;
    read_chunk(&mut client).await;
    read_chunk(&mut client).await;
    drop(client);
    upstream.gone().await;
    let call = stage.call().await;
    assert_eq!((call.end, call.estimated, call.usage.input_tokens), (CallEnd::Aborted, true, 100));
    assert!((80..130).contains(&call.usage.output_tokens), "{:?}", call.usage);
    // Before upstream has answered.
    let client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    drop(client);
    upstream.gone().await;
    let call = stage.call().await;
    assert!(call.end == CallEnd::Aborted && call.estimated && call.usage.input_tokens > 0, "{call:?}");
    stage.assert_nothing_held();
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_leaves_nothing_behind() {
    let mut stage = Stage::with(|s| s.limits.values_mut().for_each(|limit| limit.requests = 1)).await;
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.whole("200 OK", "content-type: application/json\r\n", "{}").await;
    read_sized(&mut client).await;
    assert_eq!(stage.call().await.end, CallEnd::Complete);
    let second = stage.post("/v1/messages", "", ASK).await;
    loop {
        match timeout(SOON, stage.notices.recv()).await.expect("levels arrive").unwrap() {
            Notice::Levels(Levels { queued: 1, .. }) => break,
            Notice::Levels(_) | Notice::Limited(_) | Notice::Opened { .. } => {}
            Notice::Call(call) => panic!("{call:?}"),
            Notice::Budget(reached) => panic!("{reached}"),
        }
    }
    drop(second);
    let call = stage.call().await;
    assert_eq!((call.end, call.cost, call.estimated), (CallEnd::Aborted, MicroUsd(0), false));
    stage.assert_nothing_held();
}

#[tokio::test]
async fn what_breaks_upstream_breaks_for_the_caller_too_and_is_told_apart() {
    let mut stage = Stage::set().await;
    // The stream is cut.
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.begin_stream("").await;
    upstream.chunk(START).await;
    read_answer_head(&mut client).await;
    assert_eq!(read_chunk(&mut client).await, START);
    drop(upstream);
    let mut rest = Vec::new();
    timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a broken stream must not look whole");
    let call = stage.call().await;
    assert_eq!((call.end, call.estimated, call.usage.cache_read_input_tokens), (CallEnd::Broken, true, 10_000));
    // It ends neatly, but without its last event.
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.begin_stream("").await;
    upstream.chunk(START).await;
    upstream.say("0\r\n\r\n").await;
    assert_eq!(read_sized(&mut client).await.1, START);
    assert_eq!(stage.call().await.end, CallEnd::Broken);
    // An error event after a good beginning.
    let error =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"o\"}}\n\n";
    let mut client = stage.post("/v1/messages", "", ASK).await;
    upstream.request().await;
    upstream.begin_stream("").await;
    upstream.chunk(error).await;
    upstream.say("0\r\n\r\n").await;
    assert_eq!(read_sized(&mut client).await.1, error);
    assert_eq!(stage.call().await.end, CallEnd::Broken);
    assert_eq!(stage.gateway.levels().overloaded, 1);
    // Garbage instead of HTTP.
    let mut client = stage.post("/v1/messages", "", ASK).await;
    upstream.request().await;
    upstream.say("\u{1b}[2Jthis is no HTTP\r\n\r\n").await;
    let (head, body) = read_sized(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 502") && body.contains("api_error"), "{head}{body}");
    assert_eq!(stage.call().await.end, CallEnd::Broken);
    // Nobody there at all.
    let addr = stage.listener.local_addr().unwrap();
    drop((upstream, std::mem::replace(&mut stage.listener, TcpListener::bind("127.0.0.1:0").await.unwrap())));
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let (head, body) = read_sized(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 502") && !body.contains(&addr.port().to_string()), "{head}{body}");
    let call = stage.call().await;
    assert_eq!((call.end, call.cost), (CallEnd::Unreachable, MicroUsd(0)));
    stage.assert_nothing_held();
}

#[tokio::test]
async fn counting_tokens_is_relayed_and_neither_admitted_nor_booked() {
    let stage = Stage::set().await;
    let mut client = stage.post("/v1/messages/count_tokens?beta=true", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    assert!(upstream.head.starts_with("POST /v1/messages/count_tokens?beta=true "), "{}", upstream.head);
    assert_eq!((header(&upstream.head, "x-api-key"), upstream.body.as_slice()), (Some(REAL_KEY), ASK.as_bytes()));
    upstream.whole("200 OK", "content-type: application/json\r\n", "{\"input_tokens\": 7}").await;
    assert_eq!(read_sized(&mut client).await.1, "{\"input_tokens\": 7}");
    assert!(stage.gateway.levels().buckets.is_empty());
    let Stage { gateway, mut notices, .. } = stage;
    gateway.stop().await;
    assert_eq!(notices.recv().await, None, "no row and no levels");
}

#[tokio::test]
async fn an_agents_own_key_has_its_own_buckets_and_equal_keys_share() {
    let mut stage = Stage::with(|s| {
        s.keys.agents.insert("marie".parse().unwrap(), "sk-own".into());
        s.keys.agents.insert("anga".parse().unwrap(), REAL_KEY.into());
    })
    .await;
    let token = |agent: &str| {
        stage.gateway.issue_token(Identity::Worker(SlotId { agent: agent.parse().unwrap(), index: 0 })).unwrap()
    };
    for (token, key) in [(token("marie"), "sk-own"), (token("anga"), REAL_KEY), (token("fabien"), REAL_KEY)] {
        stage.token = token;
        let mut client = stage.post("/v1/messages", "", ASK).await;
        let mut upstream = Upstream::accept(&stage.listener).await;
        assert_eq!(header(&upstream.head, "x-api-key"), Some(key));
        upstream.whole("200 OK", "content-type: application/json\r\nconnection: close\r\n", "{}").await;
        read_sized(&mut client).await;
    }
    let groups: Vec<_> = stage.gateway.levels().buckets.into_iter().map(|b| b.group).collect();
    assert_eq!(groups, ["opus", "opus", "opus", "opus (marie)", "opus (marie)", "opus (marie)"]);
}

#[tokio::test]
async fn stopping_breaks_calls_off_and_each_leaves_its_row() {
    let stage = Stage::set().await;
    let mut clients = Vec::new();
    let mut upstreams = Vec::new();
    for _ in 0..4 {
        clients.push(stage.post("/v1/messages", "", ASK).await);
        upstreams.push(Upstream::accept(&stage.listener).await);
    }
    let Stage { gateway, mut notices, .. } = stage;
    timeout(SOON, gateway.stop()).await.expect("the gateway stops");
    let mut ends = Vec::new();
    while let Some(notice) = notices.recv().await {
        if let Notice::Call(call) = notice {
            ends.push(call.end);
        }
    }
    assert_eq!(ends, [CallEnd::Aborted; 4]);
}

#[tokio::test]
async fn levels_are_told_at_most_five_times_a_second_and_not_at_rest() {
    // So many that whatever a call takes is back at once.
    let plenty = Limit { requests: 600_000_000, input: 600_000_000, output: 600_000_000 };
    let mut stage = Stage::with(|s| s.limits.values_mut().for_each(|limit| *limit = plenty)).await;
    let listener = std::mem::replace(&mut stage.listener, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        for _ in 0..100 {
            let mut upstream = Upstream::accept(&listener).await;
            let body = r#"{"model":"claude-opus-5-5","usage":{"input_tokens":1,"output_tokens":1}}"#;
            upstream.whole("200 OK", "content-type: application/json\r\nconnection: close\r\n", body).await;
        }
    });
    let began = tokio::time::Instant::now();
    for _ in 0..100 {
        read_sized(&mut stage.post("/v1/messages", "", ASK).await).await;
    }
    let (mut calls, mut told) = (0, 0);
    while calls < 100 {
        match timeout(SOON, stage.notices.recv()).await.expect("every call is booked").unwrap() {
            Notice::Call(_) => calls += 1,
            Notice::Levels(_) => told += 1,
            Notice::Limited(_) | Notice::Opened { .. } => panic!("nobody met a limit"),
            Notice::Budget(reached) => panic!("{reached}"),
        }
    }
    let allowed = began.elapsed().as_millis() / 200 + 2;
    assert!(told >= 1 && told <= allowed, "{told} notices of levels, {allowed} allowed");
    // The last change is told, and then nothing.
    while let Ok(notice) = timeout(Duration::from_millis(1_500), stage.notices.recv()).await {
        told += 1;
        assert!(told <= allowed + 3, "still talking: {notice:?}");
    }
    stage.assert_nothing_held();
}

#[tokio::test]
async fn only_loopback_and_usable_settings_are_started() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let good = settings("127.0.0.1:9".parse().unwrap());
    let start = async |change: fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        let clock = Clock::fixed("2026-11-22T12:00:00Z".parse().unwrap());
        Gateway::start(settings, Prices::embedded(), clock, drop).await.map(drop).map_err(|e| e.to_string())
    };
    assert!(start(|_| {}).await.is_ok());
    let refused = [
        start(|s| s.listen = "0.0.0.0:0".parse().unwrap()).await,
        start(|s| s.upstream = "rehearsal:".to_owned()).await,
        start(|s| s.upstream = "nonsense".to_owned()).await,
        start(|s| s.keys.default = Some("line\nbreak".into())).await,
        start(|s| s.keys.default = Some(" ".into())).await,
    ];
    for (at, answer) in refused.iter().enumerate() {
        let why = answer.as_ref().expect_err("must be refused");
        assert!(!why.contains("break"), "{at}: {why}");
    }
}
