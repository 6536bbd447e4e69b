//! What the CLI's stream says about limits: the windows of a subscription, and why a request was refused for good.
//!
//! Owns how both are read. Must not know what is done about them. Its one surprise: the unit of `resetsAt` is found from
//! its size, because wrappers write milliseconds where the CLI writes seconds.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::model::{
    limit::{LimitKind, LimitNews, LimitSource, Refusal, Window, WindowName, WindowStatus, Windows, meaning},
    text,
};

/// From here on a number of seconds would be later than the year 5000, so it is one of milliseconds.
const MILLISECONDS: f64 = 1e11;

/// `rate_limit_event`: what the subscription allows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RateLimit {
    /// What it allows; when that was said is for the reader to know.
    pub windows: Windows,
    /// The window it is about, by the engine's own name: `five_hour`, `seven_day_opus`, …
    pub window: Option<String>,
}

impl RateLimit {
    /// Reads `rate_limit_info`.
    pub(super) fn read(info: &Map<String, Value>) -> Self {
        let name = info.get("rateLimitType").and_then(Value::as_str);
        let claim = name.map(WindowName::read);
        let said = window(info);
        let all = info.get("unifiedWindows").and_then(Value::as_object);
        let of = |key: &str, this: WindowName| {
            let told = all.and_then(|all| all.get(key)?.as_object()).map(window);
            // Older versions tell only of the window that the event is about.
            let about = (claim == Some(this)).then_some(said);
            match (told, about) {
                (Some(told), Some(about)) => Some(Window {
                    used: told.used.or(about.used),
                    resets_at: told.resets_at.or(about.resets_at),
                    status: about.status.or(told.status),
                }),
                (told, about) => told.or(about),
            }
        };
        let windows = Windows {
            status: said.status,
            claim,
            resets_at: said.resets_at,
            five_hour: of("five_hour", WindowName::FiveHour),
            seven_day: of("seven_day", WindowName::SevenDay),
            at: None,
        };
        Self { windows, window: name.map(|name| text::first_line(name, 40)) }
    }

    /// What a person reads of it, and whether it is bad news; nothing while all is well.
    pub(super) fn line(&self) -> Option<(bool, String)> {
        let window = self.window.as_deref().unwrap_or("limit");
        match self.windows.status? {
            WindowStatus::Allowed => None,
            WindowStatus::Rejected => Some((true, format!("limit reached: {window}"))),
            WindowStatus::Warning => {
                let of = match self.windows.claim {
                    Some(WindowName::FiveHour) => self.windows.five_hour,
                    Some(WindowName::SevenDay) => self.windows.seven_day,
                    Some(WindowName::Other) | None => None,
                };
                let used = of.and_then(|w| w.used).map(|used| format!(", {} % used", used / 10)).unwrap_or_default();
                Some((false, format!("limit {window}: nearly used up{used}")))
            }
        }
    }
}

fn window(info: &Map<String, Value>) -> Window {
    Window {
        used: info.get("utilization").and_then(Value::as_f64).and_then(Window::thousandths),
        resets_at: info.get("resetsAt").and_then(moment),
        status: info.get("status").and_then(Value::as_str).and_then(WindowStatus::read),
    }
}

/// Seconds or milliseconds since 1970, or a time as text.
fn moment(value: &Value) -> Option<Timestamp> {
    if let Some(text) = value.as_str() {
        return text.parse().ok();
    }
    let number = value.as_f64().filter(|n| n.is_finite() && *n > 0.0)?;
    let milliseconds = if number >= MILLISECONDS { number } else { number * 1000.0 };
    #[expect(clippy::cast_possible_truncation, reason = "a float saturates, and what is out of range is no time")]
    Timestamp::from_millisecond(milliseconds as i64).ok()
}

/// Why the API said no to the last request of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status; `None` where no request was made.
    pub status: Option<u16>,
    /// The API's type of error, or the CLI's own word for it.
    pub kind: String,
    /// The API's code, where it gave one.
    pub code: Option<String>,
    /// What was said.
    pub message: String,
}

impl Refused {
    /// What it means for the account, heard at `now`; nothing where it is no limit.
    pub fn news(&self, windows: Option<&Windows>, now: Timestamp) -> Option<LimitNews> {
        // The CLI's words come where the API's do not.
        let (status, kind) = match self.kind.as_str() {
            "billing_error" => (None, "billing_error"),
            "authentication_failed" | "oauth_org_not_allowed" => (self.status, "authentication_error"),
            "rate_limit" => (self.status.or(Some(429)), "rate_limit_error"),
            "overloaded" => (self.status, "overloaded_error"),
            kind => (self.status, kind),
        };
        let subscription = windows.is_some();
        let code = self.code.as_deref();
        let refusal = Refusal { status, kind, code, message: &self.message, retry_after: None, windows, subscription };
        news(&refusal, now)
    }
}

/// The news that a window is used up, heard at `now`; nothing while it is not.
pub fn used_up(windows: &Windows, message: &str, now: Timestamp) -> Option<LimitNews> {
    let rejected = windows.status == Some(WindowStatus::Rejected);
    let refusal = Refusal {
        status: Some(429),
        kind: "rate_limit_error",
        message,
        windows: Some(windows),
        subscription: true,
        ..Refusal::default()
    };
    news(&refusal, now).filter(|news| rejected && matches!(news.kind, LimitKind::Window(_)))
}

fn news(refusal: &Refusal<'_>, now: Timestamp) -> Option<LimitNews> {
    let meaning = meaning(refusal, now)?;
    Some(LimitNews {
        account: String::new(),
        group: None,
        kind: meaning.kind,
        until: meaning.until,
        estimated: meaning.estimated,
        source: LimitSource::Engine,
        message: text::first_line(refusal.message, 200),
        at: now,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(info: &Value) -> RateLimit {
        RateLimit::read(info.as_object().unwrap())
    }

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    #[test]
    fn a_reset_is_read_in_seconds_in_milliseconds_and_as_text() {
        let at = second(1_795_349_598);
        for value in [json!(1_795_349_598), json!(1_795_349_598_000_i64), json!(1_795_349_598.0), json!(at.to_string())]
        {
            assert_eq!(moment(&value), Some(at), "{value}");
        }
        for value in [json!(null), json!(0), json!(-5), json!("soon"), json!(1e300), json!({})] {
            assert_eq!(moment(&value), None, "{value}");
        }
    }

    #[test]
    fn an_event_tells_of_all_windows_or_of_the_one_it_is_about() {
        let old = read(
            &json!({"status": "allowed_warning", "resetsAt": 100, "rateLimitType": "seven_day", "utilization": 0.85}),
        );
        assert_eq!(old.windows.five_hour, None);
        let window = Window { used: Some(850), resets_at: Some(second(100)), status: Some(WindowStatus::Warning) };
        assert_eq!(old.windows.seven_day, Some(window));
        assert_eq!(old.line(), Some((false, "limit seven_day: nearly used up, 85 % used".to_owned())));
        let new =
            read(&json!({"status": "rejected", "resetsAt": 100, "rateLimitType": "five_hour", "unifiedWindows": {
                "five_hour": {"utilization": 1, "resetsAt": 100, "status": "rejected"},
                "seven_day": {"utilization": 0.5, "resetsAt": 900, "status": "allowed"},
            }}));
        assert_eq!(new.windows.claim, Some(WindowName::FiveHour));
        assert_eq!(new.windows.seven_day.and_then(|w| w.used), Some(500));
        assert_eq!(new.line(), Some((true, "limit reached: five_hour".to_owned())));
        assert_eq!(read(&json!({"status": "?"})).windows, Windows::default());
    }

    /// Every recorded run that says anything of limits, and what: the windows' status, and the kind of limit that ended it.
    #[test]
    fn every_recorded_run_tells_of_limits_what_it_met() {
        use std::{collections::BTreeMap, fs, path::Path};

        use crate::claude::{Decoder, Exit, Listener};

        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/claude");
        for version in ["2.1.197", "2.1.330"] {
            let mut found: BTreeMap<String, String> = BTreeMap::new();
            for entry in fs::read_dir(folder.join(version)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|e| e != "jsonl") {
                    continue;
                }
                let (mut decoder, mut listener) = (Decoder::default(), Listener::default());
                for line in decoder.feed(&fs::read(&path).unwrap()) {
                    listener.hear(&line);
                }
                let windows = listener.take_windows().pop();
                let status = windows.as_ref().and_then(|w| w.status).map(|status| format!("{status:?} "));
                let refused = listener.finding(Exit::Code(1), "").refused;
                let now = second(1_790_000_000);
                let news = refused.and_then(|refused| refused.news(windows.as_ref(), now));
                let kind = news.map(|news| format!("{:?}", news.kind));
                let said = status.unwrap_or_default() + &kind.unwrap_or_default();
                if !said.is_empty() {
                    found.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), said.trim().to_owned());
                }
            }
            // Only the newer version tells the API's code.
            let spend_cap = if version == "2.1.330" { "TierCap" } else { "Throttle" };
            let expected = [
                ("error_401", "Auth"),
                ("error_403", "Forbidden"),
                ("error_429_exhausted", "Throttle"),
                ("error_429_long_retry_after", "Throttle"),
                ("error_429_spend_cap", spend_cap),
                ("error_529_exhausted", "Overloaded"),
                ("error_credit", "Billing"),
                ("error_no_credentials", "Auth"),
                ("rate_limit_event_allowed", "Allowed"),
                ("rate_limit_event_rejected", "Rejected Window(FiveHour)"),
                ("rate_limit_event_warning", "Warning"),
            ];
            let expected: BTreeMap<_, _> = expected.map(|(name, said)| (name.to_owned(), said.to_owned())).into();
            assert_eq!(found, expected, "{version}");
        }
    }

    #[test]
    fn a_window_is_used_up_only_where_the_server_says_so() {
        let now = second(50);
        let said =
            |status: &str| read(&json!({"status": status, "resetsAt": 100, "rateLimitType": "five_hour"})).windows;
        assert_eq!(used_up(&said("allowed"), "", now), None);
        assert_eq!(used_up(&said("allowed_warning"), "", now), None);
        let news = used_up(&said("rejected"), "hit", now).unwrap();
        assert_eq!((news.kind, news.until), (LimitKind::Window(WindowName::FiveHour), Some(second(100))));
        let late = used_up(&said("rejected"), "hit", second(200)).unwrap();
        assert!(late.estimated && late.until > Some(second(200)), "an end that has passed is a guess: {late:?}");
    }
}
