//! Money at the door: calls near the cap, the refusal that the engine hears, and what a call of an unknown model costs.

use super::stage::*;

#[tokio::test]
async fn a_budget_lets_calls_through_one_at_a_time_and_then_refuses_for_good() {
    let cap = MicroUsd(60_000);
    let mut stage = Stage::with(|settings| settings.caps.day = Some(cap)).await;
    // Each could cost far more than the cap, so the second waits for what the first comes to.
    let mut clients = vec![stage.post("/v1/messages", "", ASK).await, stage.post("/v1/messages", "", ASK).await];
    let mut upstream = Upstream::accept(&stage.listener).await;
    let early = timeout(Duration::from_millis(300), stage.listener.accept()).await;
    assert!(early.is_err(), "two at once could exceed the cap");
    let mut spent = 0;
    let answer = loop {
        upstream
            .whole("200 OK", "content-type: text/event-stream\r\nconnection: close\r\n", &format!("{START}{STOP}"))
            .await;
        let mut reached = None;
        // Whoever waited beside this one may have been refused meanwhile.
        loop {
            match stage.notices.recv().await.unwrap() {
                Notice::Budget(told) => {
                    assert_eq!((told.spent.0, told.cap), (spent, cap));
                    reached = Some(told);
                }
                Notice::Call(call) if call.end == (CallEnd::Refused { status: 429 }) => assert!(reached.is_some()),
                Notice::Call(call) => {
                    // 100 × 4 + 2,000 × 5 + 10,000 × 0.2 + 50 × 20
                    assert_eq!((call.end, call.cost.0, call.estimated), (CallEnd::Complete, 13_400, false));
                    break;
                }
                Notice::Levels(_) | Notice::Limited(_) | Notice::Opened { .. } => {}
            }
        }
        spent += 13_400;
        if let Some(reached) = reached {
            break reached.refusal();
        }
        clients.push(stage.post("/v1/messages", "", ASK).await);
        let refused = loop {
            tokio::select! {
                accepted = Upstream::accept(&stage.listener) => break Err(accepted),
                notice = stage.notices.recv() => match notice.unwrap() {
                    Notice::Budget(reached) => break Ok(reached),
                    Notice::Call(_) | Notice::Levels(_) | Notice::Limited(_) | Notice::Opened { .. } => {}
                },
            }
        };
        match refused {
            Err(accepted) => upstream = accepted,
            Ok(reached) => {
                assert_eq!((reached.spent.0, reached.cap), (spent, cap));
                break reached.refusal();
            }
        }
    };
    assert!((2..=4).contains(&(spent / 13_400)), "{spent}");
    // One of those who waited, or the last who came, is told so.
    let mut told = 0;
    for client in &mut clients {
        let (head, body) = read_sized(client).await;
        if head.starts_with("HTTP/1.1 200") {
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 429") && header(&head, "x-should-retry") == Some("false"), "{head}");
        assert!(header(&head, "retry-after").is_none(), "{head}");
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(error["error"]["type"], "billing_error", "{body}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("podium: the day's budget is used up: $0.0"), "{message}");
        assert!(message.ends_with("; it clears at 00:00 UTC") && answer.ends_with("; it clears at 00:00 UTC"));
        told += 1;
    }
    assert!(told >= 1);
    stage.assert_nothing_held();
}

#[tokio::test]
async fn a_model_that_nobody_knows_is_relayed_and_charged_the_dearest_price_as_an_estimate() {
    let mut stage = Stage::set().await;
    let mut client = stage.post("/v1/messages", "", r#"{"model":"claude-novel-9"}"#).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    let body = r#"{"type":"message","model":"claude-novel-9","usage":{"input_tokens":1000,"output_tokens":100}}"#;
    upstream.whole("200 OK", "content-type: application/json\r\n", body).await;
    assert_eq!(read_sized(&mut client).await.1, body);
    let call = stage.call().await;
    // 1,000 × 10 + 100 × 50, the dearest of the table.
    assert_eq!((call.end, call.cost, call.estimated), (CallEnd::Complete, MicroUsd(15_000), true));
    assert_eq!(stage.gateway.levels().buckets.first().map(|level| level.group.as_str()), Some("claude-novel-9"));
    stage.assert_nothing_held();
}
