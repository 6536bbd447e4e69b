//! A task's own deadline, the one thing in a worker that goes by the wall clock.
//!
//! Owns when it counts. Must not know the child. Its one surprise: for a minute after the clock was set it does not, for
//! the clock may be set again; what was meant to end then ends a minute late.

use jiff::SignedDuration;
use tokio::time::Instant;

use crate::model::{
    TaskSpec,
    clock::{DOUBT, Reading},
};

/// Whether the wall clock can be believed.
#[derive(Debug)]
pub(super) struct Doubt {
    /// How far the clock had been set when it was last read.
    shift: SignedDuration,
    until: Option<Instant>,
}

impl Doubt {
    pub(super) fn new(reading: Reading) -> Self {
        Self { shift: reading.shift, until: None }
    }

    /// Why the task has no time left, where it has none and the clock can be believed.
    pub(super) fn expired(&mut self, spec: &TaskSpec, reading: Reading, now: Instant) -> Option<String> {
        if reading.shift != self.shift {
            self.shift = reading.shift;
            self.until = Some(now + DOUBT.unsigned_abs());
        }
        let (at, message) = spec.expires_at(reading.now, true)?;
        (at <= reading.now && self.until.is_none_or(|until| until <= now)).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn g13_a_deadline_counts_by_the_wall_clock_and_not_within_a_minute_after_that_was_set() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let read = |second, shift| Reading { now: at(second), shift: SignedDuration::from_secs(shift) };
        let mut spec = TaskSpec::new("anga/a".parse().unwrap(), "x");
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut doubt = Doubt::new(read(1_000, 0));
        assert_eq!(doubt.expired(&spec, read(9_000, 0), start), None, "it has all the time");
        spec.start_by = Some(Duration::from_secs(1));
        spec.deadline = Some(at(2_000));
        assert_eq!(doubt.expired(&spec, read(1_999, 0), start), None, "it has started: only the deadline is left");
        let said = doubt.expired(&spec, read(2_000, 0), start).unwrap();
        assert_eq!(said, "its deadline, 1970-01-01T00:33:20Z, has passed");
        // Set three hours ahead, and back again half a minute later.
        assert_eq!(doubt.expired(&spec, read(12_000, 10_800), after(10)), None);
        assert_eq!(doubt.expired(&spec, read(1_230, 0), after(40)), None);
        assert_eq!(doubt.expired(&spec, read(12_000, 10_800), after(50)), None);
        assert_eq!(doubt.expired(&spec, read(12_059, 10_800), after(109)), None);
        assert!(doubt.expired(&spec, read(12_060, 10_800), after(110)).is_some());
    }
}
