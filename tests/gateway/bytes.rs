//! What goes in comes out, byte for byte, however it is cut and framed.

use proptest::prelude::*;

use super::stage::*;

/// How a body is framed on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Sized,
    Chunked,
    /// It ends where the connection does.
    UntilClosed,
}

/// A body as it is written: framed, and cut into pieces of at most `cut` bytes that are written apart.
async fn write_body(socket: &mut TcpStream, body: &[u8], framing: Framing, cut: usize) {
    // The other side may have refused and gone.
    for piece in body.chunks(cut.max(1)) {
        let mut framed = Vec::new();
        if framing == Framing::Chunked {
            framed.extend(format!("{:X};ext=1\r\n", piece.len()).bytes());
        }
        framed.extend(piece);
        if framing == Framing::Chunked {
            framed.extend(b"\r\n");
        }
        socket.write_all(&framed).await.unwrap();
        tokio::task::yield_now().await;
    }
    if framing == Framing::Chunked {
        socket.write_all(b"0\r\n\r\n").await.unwrap();
    }
}

fn framing_header(framing: Framing, length: usize) -> String {
    match framing {
        Framing::Sized => format!("content-length: {length}\r\n"),
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::UntilClosed => String::new(),
    }
}

/// One exchange; what upstream got and what the caller got.
async fn exchange(
    stage: &Stage,
    path: &str,
    (asked, asked_as, ask_cut): (&[u8], Framing, usize),
    kind: &str,
    (said, said_as, said_cut): (&[u8], Framing, usize),
) -> (Vec<u8>, Vec<u8>) {
    let token = stage.token.expose_secret();
    let framing = framing_header(asked_as, asked.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {token}\r\nconnection: close\r\nx-Unheard-Of: Kept As It Is\r\n{framing}\r\n",
        stage.gateway.addr()
    );
    let client = async {
        let mut socket = stage.send(&head).await;
        write_body(&mut socket, asked, asked_as, ask_cut).await;
        read_sized_bytes(&mut socket).await.1
    };
    let server = async {
        let mut upstream = Upstream::accept(&stage.listener).await;
        assert_eq!(header(&upstream.head, "x-unheard-of"), Some("Kept As It Is"));
        let framing = framing_header(said_as, said.len());
        upstream.say(&format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n{framing}\r\n")).await;
        write_body(&mut upstream.socket, said, said_as, said_cut).await;
        upstream.body
    };
    let (answer, got) = tokio::join!(client, server);
    (got, answer)
}

#[tokio::test]
async fn a_body_cut_at_every_size_comes_out_as_it_went_in() {
    let mut stage = Stage::set().await;
    let said = format!("{START}{PING}{DELTA}{STOP}");
    for cut in (1..ASK.len()).step_by(3) {
        let asked = (ASK.as_bytes(), if cut % 2 == 0 { Framing::Chunked } else { Framing::Sized }, cut);
        let said_as = [Framing::Sized, Framing::Chunked, Framing::UntilClosed].into_iter().nth(cut % 3).unwrap();
        let (got, answer) =
            exchange(&stage, "/v1/messages", asked, "text/event-stream", (said.as_bytes(), said_as, cut)).await;
        assert_eq!(got, ASK.as_bytes(), "{cut}");
        assert_eq!(String::from_utf8(answer).unwrap(), said, "{cut}");
        let call = stage.call().await;
        assert_eq!((call.end, call.usage.output_tokens), (CallEnd::Complete, 50), "{cut}");
    }
    stage.assert_nothing_held();
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::Sized), Just(Framing::Chunked)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(any::<u8>(), 0..60_000),
        // What looks like a stream and is none.
        prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd'), Just(b'{')], 0..300),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_in_any_framing_pass_unchanged_in_both_directions(
        asked in bytes(), asked_as in framing(), ask_cut in 1_usize..9_000,
        said in bytes(), said_as in prop_oneof![framing(), Just(Framing::UntilClosed)], said_cut in 1_usize..9_000,
        kind in prop_oneof![Just("text/event-stream"), Just("application/json"), Just("application/x-unknown")],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::set().await;
            // Any bytes at all are relayed where nothing has to be known of them.
            let path = "/v1/messages/count_tokens";
            let (got, answer) = exchange(&stage, path, (&asked, asked_as, ask_cut), kind, (&said, said_as, said_cut)).await;
            assert_eq!(got, asked);
            assert_eq!(answer, said);
            // A model call's body must be JSON; whatever is in it passes too, and so does whatever comes back.
            let odd = serde_json::json!({"model": "claude-opus-5-5", "unknown": String::from_utf8_lossy(&asked), "n": 1.0});
            let odd = format!(" {}\n", serde_json::to_string_pretty(&odd).unwrap());
            let (got, answer) =
                exchange(&stage, "/v1/messages", (odd.as_bytes(), asked_as, ask_cut), kind, (&said, said_as, said_cut)).await;
            assert_eq!(got, odd.as_bytes());
            assert_eq!(answer, said);
        });
    }
}

#[tokio::test]
async fn what_an_engine_asks_beside_calls_is_answered() {
    let stage = Stage::set().await;
    let token = stage.token.expose_secret().to_owned();
    let head = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{more}\r\n", stage.gateway.addr())
    };
    for path in ["/", "/api/hello"] {
        let answer = read_answer_head(&mut stage.send(&head("HEAD", path, "")).await).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let known = format!("x-api-key: {token}\r\nanthropic-version: 2023-06-01\r\n");
    for path in ["/v1/models?limit=1000", "/v1/models/claude-opus-5-5"] {
        let mut client = stage.send(&head("GET", path, &known)).await;
        let mut upstream = Upstream::accept(&stage.listener).await;
        assert!(upstream.head.starts_with(&format!("GET {path} HTTP/1.1")), "{}", upstream.head);
        assert_eq!(
            (header(&upstream.head, "x-api-key"), header(&upstream.head, "anthropic-version")),
            (Some(REAL_KEY), Some("2023-06-01"))
        );
        upstream.whole("200 OK", "content-type: application/json\r\nconnection: close\r\n", "{\"data\": []}").await;
        assert_eq!(read_sized(&mut client).await.1, "{\"data\": []}");
    }
    for (method, path, status) in
        [("GET", "/v1/models", "401"), ("GET", "/v1/messages", "401"), ("HEAD", "/v1/models", "401")]
    {
        let answer = read_answer_head(&mut stage.send(&head(method, path, "")).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
    }
    for (method, path, status) in
        [("POST", "/v1/models", "405"), ("GET", "/v1/messages", "405"), ("GET", "/v1/modelsx", "404")]
    {
        let answer = read_answer_head(&mut stage.send(&head(method, path, &known)).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
    }
    assert!(stage.gateway.levels().buckets.is_empty(), "none of it is a call");
}
