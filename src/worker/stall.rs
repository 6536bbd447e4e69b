//! Silence: for how long an attempt has given no sign of life, and when it is ended for that.
//!
//! Owns what counts as a sign: bytes in a log, CPU time, a process that came or went. Must not know the child. Its one
//! surprise: a little CPU time is no sign, because the timers of an idle runtime use some for ever.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::engines::tree::Load;

/// CPU use, in percent of one core, from which on a tree is at work. The CLI that waits for an answer that never comes
/// shows a clock tick in every tenth second, and never two in one: 1 percent at the most.
const AT_WORK: f32 = 1.5;

/// One attempt's silence.
#[derive(Debug)]
pub(super) struct Silence {
    /// How long it may last; `None` = for ever.
    allowed: Option<Duration>,
    /// The last sign of life, or the end of a silence that was announced.
    since: Instant,
    /// A person gave it time until then.
    granted: Option<Instant>,
    /// When it ends as told to the room: by our clock and by the wall's.
    told: Option<(Instant, Timestamp)>,
}

impl Silence {
    /// Begins with the attempt.
    pub(super) fn new(allowed: Option<Duration>, now: Instant) -> Self {
        Self { allowed, since: now, granted: None, told: None }
    }

    /// Bytes came. `announced` is how long the engine said that it would be silent now.
    pub(super) fn heard(&mut self, now: Instant, announced: Duration) {
        self.since = self.since.max(now + announced);
    }

    /// The processes were looked at.
    pub(super) fn saw(&mut self, load: &Load, now: Instant) {
        if load.stirred || load.cpu_percent >= AT_WORK {
            self.heard(now, Duration::ZERO);
        }
    }

    /// A person puts the end off, whatever the attempt does until then.
    pub(super) fn extend(&mut self, by: Duration) {
        self.granted = self.ends().map(|end| end + by);
    }

    /// How long it may last.
    pub(super) fn allowed(&self) -> Duration {
        self.allowed.unwrap_or(Duration::MAX)
    }

    /// When it has lasted too long.
    pub(super) fn ends(&self) -> Option<Instant> {
        let end = self.since + self.allowed?;
        Some(self.granted.map_or(end, |granted| granted.max(end)))
    }

    /// When it has lasted too long, by the wall's clock; nothing in the first half of the time allowed.
    pub(super) fn countdown(&mut self, now: Instant, clock: Timestamp) -> Option<Timestamp> {
        let warned = self.since + self.allowed? / 2;
        let end = self.ends().filter(|_| now >= warned)?;
        let at = clock.checked_add(end.saturating_duration_since(now)).unwrap_or(Timestamp::MAX);
        // The same end is told in the same words, unless the wall's clock was set.
        let told = self.told.filter(|(of, then)| *of == end && at.duration_since(*then).abs().as_secs() < 1);
        let (_, at) = *self.told.insert(told.unwrap_or((end, at)));
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Duration = Duration::from_mins(10);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn clock(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000 + seconds).unwrap()
    }

    #[test]
    fn bytes_work_and_processes_that_come_or_go_are_signs_of_life_and_idle_timers_are_none() {
        let start = Instant::now();
        let mut silence = Silence::new(Some(ALLOWED), start);
        let mut end_after = |seconds, load: Option<Load>| {
            match load {
                Some(load) => silence.saw(&load, after(start, seconds)),
                None => silence.heard(after(start, seconds), Duration::ZERO),
            }
            silence.ends().unwrap().duration_since(start).as_secs()
        };
        assert_eq!(end_after(10, None), 610);
        assert_eq!(end_after(20, Some(Load { cpu_percent: 40.0, ..Load::default() })), 620);
        assert_eq!(end_after(30, Some(Load { stirred: true, ..Load::default() })), 630);
        assert_eq!(end_after(40, Some(Load { cpu_percent: 1.0, rss_bytes: 1 << 30, stirred: false })), 630);
    }

    #[test]
    fn the_countdown_begins_at_half_the_time_and_stays_the_same_until_something_happens() {
        let start = Instant::now();
        let mut silence = Silence::new(Some(ALLOWED), start);
        assert_eq!(silence.countdown(after(start, 299), clock(299)), None);
        assert_eq!(silence.countdown(after(start, 300), clock(300)), Some(clock(600)));
        let late = clock(301).checked_add(Duration::from_millis(700)).unwrap();
        assert_eq!(silence.countdown(after(start, 301), late), Some(clock(600)), "clocks that drift do not flicker");
        assert_eq!(silence.countdown(after(start, 302), clock(5_302)), Some(clock(5_600)), "a clock that was set does");
        silence.heard(after(start, 400), Duration::ZERO);
        assert_eq!(silence.countdown(after(start, 401), clock(401)), None);
        assert_eq!(Silence::new(None, start).countdown(after(start, 9_999), clock(9_999)), None);
    }

    #[test]
    fn a_person_s_extension_counts_from_the_end_and_outlives_a_sign_of_life() {
        let start = Instant::now();
        let mut silence = Silence::new(Some(ALLOWED), start);
        silence.extend(Duration::from_mins(15));
        silence.heard(after(start, 10), Duration::ZERO);
        assert_eq!(silence.ends(), Some(after(start, 1_500)));
        silence.heard(after(start, 1_000), Duration::ZERO);
        assert_eq!(silence.ends(), Some(after(start, 1_600)));
    }

    #[test]
    fn a_wait_that_the_engine_announces_is_no_silence() {
        let start = Instant::now();
        let mut silence = Silence::new(Some(ALLOWED), start);
        silence.heard(start, Duration::from_hours(1));
        silence.heard(after(start, 10), Duration::ZERO);
        assert_eq!(silence.ends(), Some(after(start, 4_200)));
    }
}
