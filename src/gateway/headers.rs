//! Which headers pass, and what the server's own say about limits.
//!
//! Everything passes unchanged except what belongs to one connection, what names the caller, and what would make the
//! answer unreadable for the meter. Must not know buckets beyond [`Readings`].

use std::time::Duration;

use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use jiff::Timestamp;

use crate::{
    limiter::{Reading, Readings},
    model::{
        AttemptRef, TaskRef,
        limit::{Window, WindowName, WindowStatus, Windows},
    },
};

/// Headers of one connection (RFC 9110, 7.6.1), never passed on.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Which attempt a call from another machine is for: `AGENT/TASK#N`.
pub(super) const ATTEMPT: HeaderName = HeaderName::from_static("x-podium-attempt");

/// Drops what belongs to the connection the headers came on, the headers it names itself included.
fn without_hops(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
    headers
}

/// A caller's headers as upstream gets them, with `key` in place of the caller's token.
pub(super) fn upstream(headers: HeaderMap, key: HeaderValue) -> HeaderMap {
    let mut headers = without_hops(headers);
    for name in [header::HOST, header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::EXPECT] {
        headers.remove(name);
    }
    headers.insert(API_KEY, key);
    // A compressed answer could not be metered.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// Upstream's headers as the caller gets them.
pub(super) fn downstream(headers: HeaderMap) -> HeaderMap {
    without_hops(headers)
}

/// The token a caller presents: `x-api-key`, else `authorization: Bearer`.
pub(super) fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
    };
    headers.get(API_KEY).map(HeaderValue::as_bytes).or_else(bearer)
}

/// The attempt that [`ATTEMPT`] names.
pub(super) fn attempt(value: &HeaderValue) -> Option<AttemptRef> {
    let (task, n) = value.to_str().ok()?.rsplit_once('#')?;
    Some(task.parse::<TaskRef>().ok()?.attempt(n.parse().ok().filter(|n| *n > 0)?))
}

/// Whether the request was meant for this machine by name: a page of another site cannot say so, whatever its name
/// resolves to.
pub(super) fn is_local_host(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|h| h.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return false,
        None => host,
    };
    name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost")
}

/// A header's text, where it is short and printable.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty() && text.len() <= 200)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// What the server says about the limits of the call's model.
pub(super) fn readings(headers: &HeaderMap) -> Readings {
    let reading = |dimension: &str| Reading {
        limit: number(headers, &format!("anthropic-ratelimit-{dimension}-limit")),
        remaining: number(headers, &format!("anthropic-ratelimit-{dimension}-remaining")),
    };
    Readings { requests: reading("requests"), input: reading("input-tokens"), output: reading("output-tokens") }
}

/// What the server says about the windows of a subscription; `None` for an account that has none.
pub(super) fn windows(headers: &HeaderMap, now: Timestamp) -> Option<Windows> {
    let said = |name: &str| text(headers, &format!("anthropic-ratelimit-unified-{name}"));
    let status = |name: &str| said(name).and_then(WindowStatus::read);
    let window = |name: &str| {
        let window = Window {
            used: said(&format!("{name}-utilization")).and_then(|n| Window::thousandths(n.parse().ok()?)),
            resets_at: said(&format!("{name}-reset")).and_then(time),
            status: status(&format!("{name}-status")),
        };
        (window != Window::default()).then_some(window)
    };
    let windows = Windows {
        status: status("status"),
        claim: said("representative-claim").map(WindowName::read),
        resets_at: said("reset").and_then(time),
        five_hour: window("5h"),
        seven_day: window("7d"),
        at: None,
    };
    (windows != Windows::default()).then_some(Windows { at: Some(now), ..windows })
}

/// A time as seconds since 1970, or as RFC 3339 has it.
fn time(text: &str) -> Option<Timestamp> {
    text.parse::<i64>().map_or_else(|_| text.parse().ok(), |seconds| Timestamp::from_second(seconds).ok())
}

/// `retry-after` in seconds; the form with a date is not used by this API.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    number(headers, "retry-after").map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_key_takes_the_tokens_place_and_everything_else_passes() {
        let sent = map(&[
            ("x-api-key", "podium-token"),
            ("authorization", "Bearer podium-token"),
            ("anthropic-beta", "a,b"),
            ("anthropic-version", "2023-06-01"),
            ("x-claude-code-session-id", "s"),
            ("user-agent", "claude-cli"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("host", "127.0.0.1:1"),
            ("content-length", "5"),
            ("accept-encoding", "gzip, br"),
        ]);
        let got = upstream(sent, HeaderValue::from_static("real"));
        let expected = map(&[
            ("x-api-key", "real"),
            ("anthropic-beta", "a,b"),
            ("anthropic-version", "2023-06-01"),
            ("x-claude-code-session-id", "s"),
            ("user-agent", "claude-cli"),
            ("accept-encoding", "identity"),
        ]);
        assert_eq!(got, expected);
    }

    #[test]
    fn an_attempt_is_read_as_it_is_written_and_nothing_else_is_one() {
        let read = |text: &'static str| attempt(&HeaderValue::from_static(text));
        let one = "anga/a.b-1".parse::<TaskRef>().unwrap().attempt(12);
        assert_eq!(attempt(&HeaderValue::from_str(&one.to_string()).unwrap()), Some(one));
        for bad in ["", "#1", "anga#1", "anga/x", "anga/x#", "anga/x#0", "anga/x#-1", "anga/../x#1", "Anga/x#1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_subscriptions_windows_are_read_and_an_api_key_has_none() {
        let headers = map(&[
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
            ("anthropic-ratelimit-unified-reset", "1795349598"),
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-utilization", "1.0042"),
            ("anthropic-ratelimit-unified-5h-reset", "2026-11-22T12:13:18Z"),
            ("anthropic-ratelimit-unified-7d-status", "allowed_warning"),
            ("anthropic-ratelimit-unified-7d-utilization", "lots"),
        ]);
        let found = windows(&headers, Timestamp::UNIX_EPOCH).unwrap();
        let reset = Timestamp::from_second(1_795_349_598).ok();
        let five = Window { used: Some(1_004), resets_at: reset, status: Some(WindowStatus::Rejected) };
        let seven = Window { used: None, resets_at: None, status: Some(WindowStatus::Warning) };
        assert_eq!((found.five_hour, found.seven_day), (Some(five), Some(seven)));
        assert_eq!((found.status, found.claim), (Some(WindowStatus::Rejected), Some(WindowName::FiveHour)));
        assert_eq!((found.resets_at, found.at), (reset, Some(Timestamp::UNIX_EPOCH)));
        assert_eq!(windows(&map(&[("anthropic-ratelimit-requests-limit", "50")]), Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        let is = |host: &'static str| is_local_host(Some(&HeaderValue::from_static(host)));
        assert!(is("127.0.0.1") && is("127.0.0.1:8080") && is("localhost:1") && is("LocalHost"));
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "127.0.0.1:80:x",
            "127.0.0.1@evil",
        ] {
            assert!(!is(host), "{host}");
        }
        assert!(!is_local_host(None));
    }

    #[test]
    fn limits_are_read_from_well_formed_headers_only() {
        let headers = map(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-input-tokens-limit", "30000"),
            ("anthropic-ratelimit-input-tokens-remaining", "-5"),
            ("anthropic-ratelimit-output-tokens-limit", "lots"),
            ("retry-after", "12"),
        ]);
        let found = readings(&headers);
        assert_eq!(found.requests, Reading { limit: Some(50), remaining: Some(49) });
        assert_eq!(found.input, Reading { limit: Some(30_000), remaining: None });
        assert_eq!(found.output, Reading::default());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(12)));
        assert_eq!(retry_after(&map(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")])), None);
    }
}
