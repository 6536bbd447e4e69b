//! Tells apart the refusals that look alike.
//!
//! Must not know where a refusal came from. Its one surprise: where the server names several ends, the latest counts,
//! and an end that is only guessed says so.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use super::{LimitKind, LimitNews, Window, WindowName, WindowStatus, Windows};

/// Two ends this close together are the same.
const SAME: SignedDuration = SignedDuration::from_mins(1);
/// The longest wait that a server is believed without a doubt.
const BELIEVED: SignedDuration = SignedDuration::from_hours(32 * 24);

/// A refusal, reduced to what tells its meaning.
#[derive(Debug, Clone, Copy, Default)]
pub struct Refusal<'a> {
    /// The HTTP status; `None` for an error event in a stream that began well.
    pub status: Option<u16>,
    /// `error.type`.
    pub kind: &'a str,
    /// `error.details.error_code`.
    pub code: Option<&'a str>,
    /// `error.message`.
    pub message: &'a str,
    /// The header of this name.
    pub retry_after: Option<Duration>,
    /// The windows that came with this answer.
    pub windows: Option<&'a Windows>,
    /// The account is known to be a subscription.
    pub subscription: bool,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The kind of limit.
    pub kind: LimitKind,
    /// When it ends, where that can be said.
    pub until: Option<Timestamp>,
    /// The end is a guess.
    pub estimated: bool,
}

/// What a refusal heard at `now` means; `None` if it is no limit at all.
pub fn meaning(refusal: &Refusal<'_>, now: Timestamp) -> Option<Meaning> {
    let plain = |kind| Some(Meaning { kind, until: refusal.end(now), estimated: false });
    match (refusal.status, refusal.kind) {
        (Some(529), _) | (_, "overloaded_error") => plain(LimitKind::Overloaded),
        (Some(402), _) | (_, "billing_error") => plain(LimitKind::Billing),
        (Some(400), _) if refusal.says("credit balance is too low") => plain(LimitKind::Billing),
        (Some(400 | 429), _) if refusal.says("specified api usage limits") => Some(refusal.cap(LimitKind::OwnCap, now)),
        (Some(401), _) | (None, "authentication_error") => plain(LimitKind::Auth),
        (Some(403), _) | (None, "permission_error") => plain(LimitKind::Forbidden),
        (Some(429), _) | (None, "rate_limit_error") => Some(refusal.rate(now)),
        _ => None,
    }
}

impl Refusal<'_> {
    fn says(&self, words: &str) -> bool {
        self.message.to_ascii_lowercase().contains(words)
    }

    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let wait = SignedDuration::try_from(self.retry_after?).ok()?;
        now.checked_add(wait).ok()
    }

    /// A 429, or what would have been one.
    fn rate(&self, now: Timestamp) -> Meaning {
        if self.code == Some("enforced_spend_limit_reached") {
            return self.cap(LimitKind::TierCap, now);
        }
        if let Some(windows) = self.windows
            && let Some(name) = rejected(windows)
        {
            return self.window(windows, name, now);
        }
        // A subscription that is used up says so in its windows; an account that is told no wait has met no quota.
        let kind = match self.retry_after {
            Some(_) if !self.subscription && self.windows.is_none() => LimitKind::Rate,
            _ => LimitKind::Throttle,
        };
        Meaning { kind, until: self.end(now), estimated: false }
    }

    /// A monthly cap: ends on the day that the message names, else with the month.
    fn cap(&self, kind: LimitKind, now: Timestamp) -> Meaning {
        let named = named_time(self.message).into_iter().chain(self.end(now)).max();
        believed(kind, named.or_else(|| next_month(now)), named.is_none(), now)
    }

    fn window(&self, windows: &Windows, name: WindowName, now: Timestamp) -> Meaning {
        let full = |window: Option<Window>| {
            window.filter(|w| w.status == Some(WindowStatus::Rejected)).and_then(|w| w.resets_at)
        };
        let ends = [windows.resets_at, full(windows.five_hour), full(windows.seven_day), self.end(now)];
        let (first, last) = (ends.iter().flatten().min(), ends.iter().flatten().max());
        let contradictory = first.zip(last).is_some_and(|(first, last)| last.duration_since(*first) > SAME);
        believed(LimitKind::Window(name), last.copied(), contradictory, now)
    }
}

/// An end that has passed, or that nobody lives to see, is only a guess; the one that has passed moves.
fn believed(kind: LimitKind, until: Option<Timestamp>, estimated: bool, now: Timestamp) -> Meaning {
    match until {
        Some(until) if until > now => {
            Meaning { kind, until: Some(until), estimated: estimated || until.duration_since(now) > BELIEVED }
        }
        _ => Meaning { kind, until: now.checked_add(LimitNews::LOOK_AGAIN).ok(), estimated: true },
    }
}

/// The window that is used up.
fn rejected(windows: &Windows) -> Option<WindowName> {
    let full = |window: Option<Window>| window.is_some_and(|w| w.status == Some(WindowStatus::Rejected));
    if windows.status == Some(WindowStatus::Rejected) && windows.claim.is_some() {
        return windows.claim;
    }
    match (full(windows.seven_day), full(windows.five_hour)) {
        (true, _) => Some(WindowName::SevenDay),
        (false, true) => Some(WindowName::FiveHour),
        (false, false) => (windows.status == Some(WindowStatus::Rejected)).then_some(WindowName::Other),
    }
}

/// The first moment of the next month, in UTC.
fn next_month(now: Timestamp) -> Option<Timestamp> {
    let first = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The time in UTC that a message names: `2026-12-01`, `2026-12-01T00:00:00Z` or `2026-12-01 at 00:00 UTC`.
fn named_time(message: &str) -> Option<Timestamp> {
    let mut words = message.split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '"'));
    let date = loop {
        let word = words.next()?.trim_end_matches(['.', ';', ':']);
        if let Ok(time) = word.parse::<Timestamp>() {
            return Some(time);
        }
        if let Ok(date) = word.parse::<Date>() {
            break date;
        }
    };
    let clock = words.take(2).find_map(|word| word.parse::<jiff::civil::Time>().ok());
    let time = date.to_datetime(clock.unwrap_or(jiff::civil::Time::midnight()));
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests;
