//! The client against a server that says exactly what a script tells it to, in pieces, with pauses and cuts.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::{net::SocketAddr, time::Duration};

use podium::api::{ApiError, Client, Event, Heard, Request, Settings, StopReason};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

/// What one connection does after it has read the whole request.
enum Step {
    Say(String),
    Pause(u64),
}

struct Script {
    addr: SocketAddr,
    requests: mpsc::UnboundedReceiver<String>,
    _server: JoinSet<()>,
}

/// Serves one connection per entry, in order; each is closed at its end.
async fn serve(connections: Vec<Vec<Step>>) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, requests) = mpsc::unbounded_channel();
    let mut server = JoinSet::new();
    server.spawn(async move {
        for steps in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            tell.send(read_request(&mut stream).await).unwrap();
            for step in steps {
                match step {
                    Step::Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                    Step::Pause(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                }
            }
        }
    });
    Script { addr, requests, _server: server }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).await.unwrap();
        text.extend_from_slice(&piece[..n]);
        let so_far = String::from_utf8_lossy(&text);
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return so_far.into_owned();
            }
        }
        assert!(n > 0, "the request ended early");
    }
}

fn client(script: &Script) -> Client {
    let mut settings = Settings::new(format!("http://{}/", script.addr), "a-token".to_owned().into());
    settings.first_wait = Duration::from_millis(1);
    settings.session_id = Some("session-1".into());
    Client::new(settings).unwrap()
}

fn say(text: impl Into<String>) -> Step {
    Step::Say(text.into())
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\nconnection: close\r\n\r\n";

const EVENTS: [&str; 7] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":900,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße, \"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Marie\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":12}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

fn error(status: &str, headers: &str, kind: &str, message: &str) -> Vec<Step> {
    let body = format!("{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"{message}\"}}}}");
    vec![say(format!(
        "HTTP/1.1 {status}\r\nrequest-id: req_e\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))]
}

fn good() -> Vec<Step> {
    vec![say(STREAM.to_owned() + &EVENTS.concat())]
}

/// Runs a streaming call; what was heard comes back as one word each.
async fn stream(script: &Script) -> (Result<podium::api::Reply, ApiError>, Vec<String>) {
    let mut heard = Vec::new();
    let answer = client(script)
        .stream(&Request::new("m", 100, "hello"), |one| {
            heard.push(match one {
                Heard::Retrying(retry) => format!("retry {} {:?}", retry.attempt, retry.error.status()),
                Heard::Event { event: Event::MessageStart { .. }, request_id, .. } => {
                    format!("start {}", request_id.unwrap_or("-"))
                }
                Heard::Event { data, .. } => data.len().to_string(),
            });
        })
        .await;
    (answer, heard)
}

#[tokio::test]
async fn an_answer_in_small_pieces_arrives_whole() {
    let text = EVENTS.concat();
    let mut steps = vec![say(STREAM)];
    let (first, second) = text.split_at(text.find("üße").unwrap() + "ü".len());
    steps.extend([say(first), Step::Pause(20), say(second)]);
    let mut script = serve(vec![steps]).await;
    let (answer, heard) = stream(&script).await;
    let reply = answer.unwrap();
    assert_eq!(reply.text(), "Grüße, Marie");
    assert_eq!(reply.stop_reason, Some(StopReason::EndTurn));
    assert_eq!(
        (reply.usage.input_tokens, reply.usage.cache_read_input_tokens, reply.usage.output_tokens),
        (3, 900, 12)
    );
    assert_eq!(reply.request_id.as_deref(), Some("req_1"));
    assert_eq!(heard.len(), EVENTS.len());
    assert_eq!(heard[0], "start req_1");

    let request = script.requests.recv().await.unwrap();
    assert!(request.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{request}");
    for line in ["x-api-key: a-token", "anthropic-version: 2023-06-01", "x-claude-code-session-id: session-1"] {
        assert!(request.contains(line), "{line} is missing in {request}");
    }
    assert!(request.contains("\"stream\":true"));
}

#[tokio::test]
async fn a_stream_cut_after_any_event_is_an_error_and_is_not_repeated() {
    for kept in 1..EVENTS.len() {
        let script = serve(vec![vec![say(STREAM.to_owned() + &EVENTS[..kept].concat())], good()]).await;
        let (answer, heard) = stream(&script).await;
        assert!(matches!(answer, Err(ApiError::Cut(_))), "{answer:?} after {kept} events");
        assert_eq!(heard.len(), kept);
    }
}

#[tokio::test]
async fn a_stream_cut_before_its_first_event_is_repeated() {
    let script = serve(vec![vec![say(STREAM)], vec![], good()]).await;
    let (answer, heard) = stream(&script).await;
    assert_eq!(answer.unwrap().text(), "Grüße, Marie");
    assert_eq!(heard[..2], ["retry 1 None", "retry 2 None"]);
}

#[tokio::test]
async fn a_429_is_waited_out_as_long_as_the_server_asks() {
    let script = serve(vec![error("429 Too Many", "retry-after: 0.3\r\n", "rate_limit_error", "slow"), good()]).await;
    let before = tokio::time::Instant::now();
    let (answer, heard) = stream(&script).await;
    assert_eq!(answer.unwrap().text(), "Grüße, Marie");
    assert_eq!(heard[0], "retry 1 Some(429)");
    assert!(before.elapsed() >= Duration::from_millis(300), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_server_that_asks_for_ten_minutes_gets_no_second_call() {
    let answers = vec![error("429 Too Many", "retry-after: 600\r\n", "rate_limit_error", "window used up"), good()];
    let script = serve(answers).await;
    let (answer, heard) = stream(&script).await;
    let error = answer.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_mins(10)));
    assert_eq!(error.to_string(), "get an answer: 429 rate_limit_error: window used up");
    assert_eq!(heard, [] as [&str; 0]);
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_model_fail_at_once() {
    for (status, kind) in [("401 No", "authentication_error"), ("404 No", "not_found_error")] {
        let script = serve(vec![error(status, "", kind, "no"), good()]).await;
        let (answer, heard) = stream(&script).await;
        assert!(answer.is_err());
        assert!(heard.is_empty(), "{status} was repeated");
    }
}

#[tokio::test]
async fn tries_end_when_the_allowance_is_used_up() {
    let answers = (0..3).map(|_| error("529 Overloaded", "", "overloaded_error", "busy")).collect();
    let script = serve(answers).await;
    let (answer, heard) = stream(&script).await;
    assert_eq!(answer.unwrap_err().status(), Some(529));
    assert_eq!(heard, ["retry 1 Some(529)", "retry 2 Some(529)"]);
}

#[tokio::test]
async fn an_error_inside_the_stream_ends_it_and_only_the_first_event_may_be_repeated() {
    let event =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let script = serve(vec![vec![say(format!("{STREAM}{}{event}", EVENTS[..4].concat()))]]).await;
    let (answer, heard) = stream(&script).await;
    assert_eq!(answer.unwrap_err().to_string(), "get the whole answer: overloaded_error: busy");
    assert_eq!(heard.len(), 4);

    let script = serve(vec![vec![say(format!("{STREAM}{event}"))], good()]).await;
    let (answer, _) = stream(&script).await;
    assert_eq!(answer.unwrap().text(), "Grüße, Marie");
}

#[tokio::test]
async fn an_error_page_of_a_proxy_is_told_in_one_harmless_line() {
    let body = "<html>\u{1b}[31mBad gateway\n</html>";
    let page = format!("HTTP/1.1 502 Bad\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let script = serve((0..3).map(|_| vec![say(page.clone())]).collect()).await;
    let (answer, _) = stream(&script).await;
    assert_eq!(answer.unwrap_err().to_string(), "get an answer: 502 : <html>Bad gateway");
}

#[tokio::test]
async fn a_dead_connection_is_noticed_by_its_silence() {
    let script = serve(vec![vec![say(STREAM), say(EVENTS[0]), Step::Pause(60_000)]]).await;
    let mut settings = Settings::new(format!("http://{}", script.addr), "t".to_owned().into());
    settings.silence = Duration::from_millis(100);
    let answer = Client::new(settings).unwrap().stream(&Request::new("m", 1, "x"), |_| ()).await;
    assert!(matches!(answer, Err(ApiError::Cut(_))), "{answer:?}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_says_where() {
    let script = serve(vec![]).await;
    let mut settings = Settings::new(format!("http://{}", script.addr), "t".to_owned().into());
    settings.retries = 0;
    drop(script);
    let error = Client::new(settings).unwrap().message(&Request::new("m", 1, "x")).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with("reach http://127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn an_answer_in_one_piece_is_read_and_a_broken_one_is_refused() {
    let whole = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nrequest-id: req_2\r\nconnection: close";
        vec![say(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))]
    };
    let body = "{\"id\":\"msg_2\",\"model\":\"m\",\"content\":[{\"type\":\"thinking\"},{\"type\":\"text\",\"text\":\"yes\"}],\
                \"stop_reason\":\"end_turn\",\"usage\":{\"input_tokens\":4,\"output_tokens\":2},\"new\":1}";
    let script = serve(vec![whole(body), whole("not json")]).await;
    let client = client(&script);
    let reply = client.message(&Request::new("m", 1, "x")).await.unwrap();
    assert_eq!((reply.text().as_str(), reply.usage.total()), ("yes", 6));
    let error = client.message(&Request::new("m", 1, "x")).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreadable(_)), "{error:?}");
}
