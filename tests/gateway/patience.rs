//! Those who let others wait: each comes to an end, leaves one row where a call was made, and holds nothing. Time is
//! pretended, so the sockets here are read without a deadline of the test's own.

use super::stage::*;

/// Everything that a socket still says, and how long that took.
async fn all(socket: &mut TcpStream) -> (String, Duration) {
    let began = tokio::time::Instant::now();
    let mut bytes = Vec::new();
    // A broken answer ends in an error as well as in an end.
    drop(socket.read_to_end(&mut bytes).await);
    (String::from_utf8(bytes).unwrap(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dribbles_is_refused_after_a_minute_with_one_row() {
    let mut stage = Stage::set().await;
    let token = stage.token.expose_secret();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {}\r\nx-api-key: {token}\r\nconnection: close\r\ncontent-length: 500\r\n\r\n{{\"model\":",
        stage.gateway.addr()
    );
    let mut client = stage.send(&head).await;
    let mut took = Duration::ZERO;
    // A byte now and then buys no more time.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        client.write_all(b" ").await.unwrap();
        took += Duration::from_secs(10);
    }
    let (answer, rest) = all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("timeout_error"), "{answer}");
    assert!((59..=61).contains(&(took + rest).as_secs()), "{:?}", took + rest);
    let call = stage.call().await;
    assert_eq!((call.end, call.cost), (CallEnd::Refused { status: 408 }, MicroUsd(0)));
    stage.assert_nothing_held();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_is_cut_off_and_makes_no_row() {
    let stage = Stage::set().await;
    let mut client = stage.send("POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-").await;
    let (answer, took) = all(&mut client).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!((299..=302).contains(&took.as_secs()), "{took:?}");
    let Stage { gateway, mut notices, .. } = stage;
    gateway.stop().await;
    while let Some(notice) = notices.recv().await {
        assert!(!matches!(notice, Notice::Call(_)), "{notice:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_never_answers_is_given_up_and_the_call_is_charged_as_a_guess() {
    let mut stage = Stage::set().await;
    let mut client = stage.post("/v1/messages", "connection: close\r\n", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    let (answer, took) = all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("timeout_error"), "{answer}");
    assert!((299..=302).contains(&took.as_secs()), "{took:?}");
    upstream.gone().await;
    let call = stage.call().await;
    assert!(call.end == CallEnd::Broken && call.estimated && call.cost > MicroUsd(0), "{call:?}");
    stage.assert_nothing_held();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_is_broken_off_where_the_engines_would_too() {
    let mut stage = Stage::set().await;
    let mut client = stage.post("/v1/messages", "connection: close\r\n", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.begin_stream("").await;
    upstream.chunk(START).await;
    // Four minutes of thought are no silence yet, and a ping begins them anew.
    tokio::time::sleep(Duration::from_mins(4)).await;
    upstream.chunk(PING).await;
    let (answer, took) = all(&mut client).await;
    assert!(answer.contains("message_start") && answer.contains("still here"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "a broken stream must not look whole");
    assert!((299..=302).contains(&took.as_secs()), "{took:?}");
    upstream.gone().await;
    let call = stage.call().await;
    assert_eq!((call.end, call.estimated, call.usage.cache_read_input_tokens), (CallEnd::Broken, true, 10_000));
    stage.assert_nothing_held();
}

#[tokio::test(start_paused = true)]
async fn a_call_is_held_for_45_seconds_at_most_and_then_told_when_to_come_again() {
    let mut stage = Stage::with(|s| s.limits.values_mut().for_each(|limit| limit.requests = 1)).await;
    let mut first = stage.post("/v1/messages", "connection: close\r\n", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    upstream.whole("200 OK", "content-type: application/json\r\n", "{}").await;
    drop(all(&mut first).await);
    assert_eq!(stage.call().await.end, CallEnd::Complete);
    let (answer, took) = all(&mut stage.post("/v1/messages", "connection: close\r\n", ASK).await).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("rate_limit_error"), "{answer}");
    assert!((44..=46).contains(&took.as_secs()), "{took:?}");
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let wait: u64 = header(head, "retry-after").unwrap().parse().unwrap();
    // The engine asks again by itself, so it must not be told to give up, nor to wait for longer than it would.
    assert!((1..=30).contains(&wait) && header(head, "x-should-retry").is_none(), "{head}");
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 429 });
    stage.assert_nothing_held();
}
