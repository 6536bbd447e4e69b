//! Refusals: what they mean, whom they hold back, and what the callers hear.

use jiff::Timestamp;

use super::stage::*;

#[tokio::test]
async fn an_account_whose_cap_is_reached_makes_no_call_until_it_is_released() {
    let mut stage = Stage::set().await;
    let mut client = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"You have crossed your monthly threshold.","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
    upstream.whole("429 Too Many Requests", "content-type: application/json\r\n", body).await;
    assert_eq!(read_sized(&mut client).await.1, body, "the server's own words");
    let news = stage.limited().await;
    // The stage's clock stands at 2026-11-22: the cap ends with the month.
    let month = "2026-12-01T00:00:00Z".parse().ok();
    assert_eq!((news.kind, news.until, news.estimated), (LimitKind::TierCap, month, true));
    assert_eq!(
        (news.account.as_str(), news.group, news.message.as_str()),
        ("", None, "You have crossed your monthly threshold.")
    );
    assert_eq!(stage.call().await.end, CallEnd::Refused { status: 429 });
    let accounts = stage.gateway.levels().accounts;
    assert_eq!(accounts.first().and_then(|a| a.closed.as_ref()).map(|n| n.kind), Some(LimitKind::TierCap));

    // Nobody asks upstream any more, whatever the model; the engine is told not to ask again, and until when.
    for (path, ask) in
        [("/v1/messages", ASK), ("/v1/messages", r#"{"model":"claude-haiku-5-5"}"#), ("/v1/messages/count_tokens", ASK)]
    {
        let (answer, got) = read_sized(&mut stage.post(path, "", ask).await).await;
        assert!(
            answer.starts_with("HTTP/1.1 429") && got.contains("until about 2026-12-01 00:00 UTC"),
            "{answer}{got}"
        );
        assert_eq!(
            (header(&answer, "x-should-retry"), header(&answer, "retry-after")),
            (Some("false"), Some("734400"))
        );
    }
    for _ in 0..2 {
        assert_eq!(stage.call().await.end, CallEnd::Refused { status: 429 });
    }
    stage.gateway.release("somebody else's");
    stage.gateway.release("");
    let mut client = stage.post("/v1/messages", "", ASK).await;
    upstream.request().await;
    upstream.whole("200 OK", "content-type: application/json\r\n", "{}").await;
    assert!(read_sized(&mut client).await.0.starts_with("HTTP/1.1 200"));
    assert!(stage.gateway.levels().accounts.iter().all(|a| a.closed.is_none()));
    stage.assert_nothing_held();
}

#[tokio::test]
async fn a_call_that_waits_for_its_bucket_is_refused_at_once_when_its_account_closes() {
    let mut stage = Stage::with(|s| s.limits.values_mut().for_each(|limit| limit.requests = 1)).await;
    let mut first = stage.post("/v1/messages", "", ASK).await;
    let mut upstream = Upstream::accept(&stage.listener).await;
    let mut waiting = stage.post("/v1/messages", "", ASK).await;
    while stage.gateway.levels().queued == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let headers = "anthropic-ratelimit-unified-status: rejected\r\nanthropic-ratelimit-unified-representative-claim: five_hour\r\nanthropic-ratelimit-unified-reset: 1795356000\r\nanthropic-ratelimit-unified-5h-utilization: 1.0\r\n";
    upstream.whole("429 Too Many Requests", headers, "").await;
    let (head, _) = read_sized(&mut first).await;
    assert_eq!(header(&head, "anthropic-ratelimit-unified-status"), Some("rejected"), "the engine knows by them");
    let (head, got) = read_sized(&mut waiting).await;
    assert!(
        head.starts_with("HTTP/1.1 429") && got.contains("five-hour limit used up, until 2026-11-22 14:00"),
        "{head}{got}"
    );
    let news = stage.limited().await;
    assert_eq!(
        (news.kind, news.until.map(Timestamp::as_second)),
        (LimitKind::Window(WindowName::FiveHour), Some(1_795_356_000))
    );
    let windows = stage.gateway.levels().accounts.into_iter().find_map(|a| a.windows).expect("the windows are known");
    assert_eq!(windows.five_hour.and_then(|w| w.used), Some(1_000));
    stage.assert_nothing_held();
}

#[tokio::test]
async fn each_refusal_is_told_with_its_meaning_and_passes_word_for_word() {
    let mut stage = Stage::set().await;
    let mut upstream = None;
    for (status, error, kind) in [
        ("529 Overloaded", r#""type":"overloaded_error","message":"Overloaded""#, Some(LimitKind::Overloaded)),
        ("403 Forbidden", r#""type":"permission_error","message":"no""#, Some(LimitKind::Forbidden)),
        ("404 Not Found", r#""type":"not_found_error","message":"model: x""#, None),
        ("402 Payment Required", r#""type":"billing_error","message":"pay""#, Some(LimitKind::Billing)),
        ("401 Unauthorized", r#""type":"authentication_error","message":"invalid x-api-key""#, Some(LimitKind::Auth)),
        (
            "400 Bad Request",
            r#""type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.""#,
            Some(LimitKind::OwnCap),
        ),
        // No wait is named: no quota, only a moment's breath.
        ("429 Too Many Requests", r#""type":"rate_limit_error","message":"slow""#, Some(LimitKind::Throttle)),
    ] {
        let mut client = stage.post("/v1/messages", "", ASK).await;
        let mut open = match upstream.take() {
            None => Upstream::accept(&stage.listener).await,
            Some(mut open) => {
                Upstream::request(&mut open).await;
                open
            }
        };
        let body = format!(r#"{{"type":"error","error":{{{error}}}}}"#);
        open.whole(status, "content-type: application/json\r\n", &body).await;
        assert_eq!(read_sized(&mut client).await.1, body);
        upstream = Some(open);
        if let Some(kind) = kind {
            assert_eq!(stage.limited().await.kind, kind, "{status}");
        }
        assert!(matches!(stage.call().await.end, CallEnd::Refused { .. }));
        stage.gateway.release("");
    }
}
