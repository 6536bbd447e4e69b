use super::{super::Remedy, *};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-28T12:00:00Z")
}

fn refused(status: u16, kind: &'static str, message: &'static str) -> Refusal<'static> {
    Refusal { status: Some(status), kind, message, ..Refusal::default() }
}

fn found(refusal: &Refusal<'_>) -> Option<(LimitKind, Option<String>, bool)> {
    meaning(refusal, now()).map(|m| (m.kind, m.until.map(|u| u.to_string()), m.estimated))
}

/// Both windows and the account as a whole, as `(status, resets at)`.
fn windows(five: (WindowStatus, &str), seven: (WindowStatus, &str), claim: Option<WindowName>) -> Windows {
    let window =
        |(status, resets): (_, &str)| Some(Window { used: None, resets_at: Some(at(resets)), status: Some(status) });
    let claimed = if claim == Some(WindowName::SevenDay) { seven } else { five };
    Windows {
        status: Some(claimed.0),
        claim,
        resets_at: Some(at(claimed.1)),
        five_hour: window(five),
        seven_day: window(seven),
        at: Some(now()),
    }
}

const SPENT: &str =
    "You have reached your API usage limits: your organization has crossed its monthly API usage threshold.";
const RATE: &str = "This request would exceed your organization's rate limit.";

#[test]
fn the_seven_look_alikes_are_told_apart_and_each_has_its_own_remedy() {
    use LimitKind::{Auth, Billing, Forbidden, Overloaded, OwnCap, Rate, Throttle, TierCap};
    let minute = Some(Duration::from_mins(1));
    let own = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 06:30 UTC.";
    let soon = Some("2026-11-28T12:01:00Z");
    let month = Some("2026-12-01T00:00:00Z");
    let wait = |refusal: Refusal<'static>| Refusal { retry_after: minute, ..refusal };
    let code = |refusal: Refusal<'static>| Refusal { code: Some("enforced_spend_limit_reached"), ..refusal };
    let event = |kind| Refusal { kind, ..Refusal::default() };
    let subscribed = |refusal: Refusal<'static>| Refusal { subscription: true, ..refusal };
    let rate = refused(429, "rate_limit_error", RATE);
    #[rustfmt::skip]
    let table = [
        ("a rate", wait(rate), Rate, soon, false, Remedy::HoldGroup),
        ("a tier's cap", code(refused(429, "rate_limit_error", SPENT)), TierCap, month, true, Remedy::ParkAccount),
        ("a tier's cap with its date", code(refused(429, "rate_limit_error", "Until 2026-12-05.")), TierCap, Some("2026-12-05T00:00:00Z"), false, Remedy::ParkAccount),
        ("a tier's cap with a wait", code(wait(rate)), TierCap, soon, false, Remedy::ParkAccount),
        ("an own cap", refused(400, "invalid_request_error", own), OwnCap, Some("2026-12-01T06:30:00Z"), false, Remedy::ParkAccount),
        ("an own cap as 429", refused(429, "rate_limit_error", own), OwnCap, Some("2026-12-01T06:30:00Z"), false, Remedy::ParkAccount),
        ("a throttle", rate, Throttle, None, false, Remedy::BackOff),
        ("a subscription's throttle", subscribed(wait(rate)), Throttle, soon, false, Remedy::BackOff),
        ("overload", refused(529, "overloaded_error", "Overloaded"), Overloaded, None, false, Remedy::FewerAtOnce),
        ("overload without a body", refused(529, "", ""), Overloaded, None, false, Remedy::FewerAtOnce),
        ("overload in a stream", event("overloaded_error"), Overloaded, None, false, Remedy::FewerAtOnce),
        ("a rate in a stream", event("rate_limit_error"), Throttle, None, false, Remedy::BackOff),
        ("no payment", refused(402, "billing_error", ""), Billing, None, false, Remedy::StopAccount),
        ("no credit", refused(400, "invalid_request_error", "Your credit balance is too low to access the API."), Billing, None, false, Remedy::StopAccount),
        ("another gateway's budget", wait(refused(429, "billing_error", "over budget")), Billing, soon, false, Remedy::StopAccount),
        ("a bad key", refused(401, "authentication_error", "invalid x-api-key"), Auth, None, false, Remedy::StopAccount),
        ("not permitted", refused(403, "permission_error", "Your API key does not have permission"), Forbidden, None, false, Remedy::NeverRetry),
    ];
    for (what, refusal, kind, until, estimated, remedy) in table {
        assert_eq!(found(&refusal), Some((kind, until.map(str::to_owned), estimated)), "{what}");
        assert_eq!(kind.remedy(), remedy, "{what}");
    }
}

#[test]
fn what_is_no_limit_is_none() {
    for refusal in [
        refused(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        refused(404, "not_found_error", "model: x"),
        refused(413, "request_too_large", ""),
        refused(500, "api_error", RATE),
        refused(504, "timeout_error", ""),
        Refusal { kind: "api_error", ..Refusal::default() },
        Refusal::default(),
    ] {
        assert_eq!(found(&refusal), None, "{refusal:?}");
    }
}

#[test]
fn a_window_that_is_used_up_parks_until_its_reset() {
    use WindowName::{FiveHour, Other, SevenDay};
    use WindowStatus::{Allowed, Rejected, Warning};
    let (soon, late) = ("2026-11-28T14:00:00Z", "2026-12-02T09:00:00Z");
    let case = |windows: &Windows, wait: Option<u64>| {
        let refusal = Refusal {
            windows: Some(windows),
            retry_after: wait.map(Duration::from_secs),
            ..refused(429, "rate_limit_error", "")
        };
        found(&refusal).unwrap()
    };
    let until = |text: &str| Some(text.to_owned());
    let five = windows((Rejected, soon), (Allowed, late), Some(FiveHour));
    assert_eq!(case(&five, Some(7_200)), (LimitKind::Window(FiveHour), until(soon), false));
    let seven = windows((Warning, soon), (Rejected, late), Some(SevenDay));
    assert_eq!(case(&seven, None), (LimitKind::Window(SevenDay), until(late), false));
    // Both: the one that ends last decides, and they contradict each other.
    let both = windows((Rejected, soon), (Rejected, late), Some(FiveHour));
    assert_eq!(case(&both, None), (LimitKind::Window(FiveHour), until(late), true));
    // The header says later than the window: the safer of the two.
    assert_eq!(case(&five, Some(10_800)).1, until("2026-11-28T15:00:00Z"));
    // A reset that has passed, or none: soon again, as a guess.
    let past = windows((Rejected, "2026-11-28T11:59:00Z"), (Allowed, late), Some(FiveHour));
    assert_eq!(case(&past, None), (LimitKind::Window(FiveHour), until("2026-11-28T12:05:00Z"), true));
    let bare = Windows { status: Some(Rejected), ..Windows::default() };
    assert_eq!(case(&bare, None), (LimitKind::Window(Other), until("2026-11-28T12:05:00Z"), true));
    let absurd = windows((Rejected, "2226-11-28T11:59:00Z"), (Allowed, late), Some(FiveHour));
    assert_eq!(case(&absurd, None), (LimitKind::Window(FiveHour), until("2226-11-28T11:59:00Z"), true));
    // Windows that are open: the server is busy, the plan is not used up.
    let open = windows((Allowed, soon), (Warning, late), Some(FiveHour));
    assert_eq!(case(&open, Some(60)).0, LimitKind::Throttle);
}

#[test]
fn a_time_is_found_in_a_sentence() {
    for (text, time) in [
        ("access on 2026-12-01 at 00:00 UTC.", Some("2026-12-01T00:00:00Z")),
        ("until 2026-12-01T10:15:00Z, then again", Some("2026-12-01T10:15:00Z")),
        ("(2026-12-01)", Some("2026-12-01T00:00:00Z")),
        ("on 2026-13-01 or so", None),
        ("request 12345 at 10:00", None),
        ("", None),
    ] {
        assert_eq!(named_time(text).map(|t| t.to_string()).as_deref(), time, "{text}");
    }
    assert_eq!(next_month(at("2026-12-31T23:59:59Z")), Some(at("2027-01-01T00:00:00Z")));
}

#[test]
fn news_of_every_kind_survive_their_own_text() {
    use super::super::{LimitNews, LimitSource};
    for kind in [
        LimitKind::Rate,
        LimitKind::Window(WindowName::FiveHour),
        LimitKind::Window(WindowName::Other),
        LimitKind::Forbidden,
    ] {
        let news = LimitNews {
            account: String::new(),
            group: Some("opus".to_owned()),
            kind,
            until: Some(now()),
            estimated: false,
            source: LimitSource::Gateway,
            message: kind.words().to_owned(),
            at: now(),
        };
        let text = serde_json::to_string(&news).unwrap();
        assert_eq!(serde_json::from_str::<LimitNews>(&text).unwrap(), news, "{text}");
    }
    assert_eq!(Window::thousandths(0.4237), Some(424));
    assert_eq!((Window::thousandths(-0.1), Window::thousandths(f64::NAN)), (None, None));
}

#[test]
fn each_kind_of_limit_is_explained_to_operators_in_the_words_of_the_screen() {
    let page = include_str!("../../../../docs/limits.md");
    let windows = [WindowName::FiveHour, WindowName::SevenDay, WindowName::Other].map(LimitKind::Window);
    let others = [
        LimitKind::Rate,
        LimitKind::Overloaded,
        LimitKind::Throttle,
        LimitKind::TierCap,
        LimitKind::OwnCap,
        LimitKind::Billing,
        LimitKind::Auth,
        LimitKind::Forbidden,
    ];
    for kind in windows.into_iter().chain(others) {
        assert!(page.contains(kind.words()), "docs/limits.md does not say {:?}", kind.words());
    }
}
