//! The one place that reads the wall clock.
//!
//! The time that podium goes by is the wall clock's at the start, carried on by the clock that counts since boot: waits
//! come out right whatever anybody does to the wall clock. Where the two part by more than a minute the new wall time is
//! taken over in one step, which is told through [`Reading::shift`].

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use crate::model::{Clock, clock::Reading};

/// The wall clock and ours may differ by this much before the wall clock's word is taken.
const DRIFT: SignedDuration = SignedDuration::from_secs(60);

/// The system's clock.
pub fn system() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "everybody else is handed this clock")]
    steady(Timestamp::now, since_boot)
}

/// Time since the machine started, sleep included.
fn since_boot() -> Duration {
    let at = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(at.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(at.tv_nsec).unwrap_or_default())
}

/// A clock that starts at `wall` and goes on by `steady`, which never steps.
pub fn steady(
    wall: impl Fn() -> Timestamp + Send + Sync + 'static,
    steady: impl Fn() -> Duration + Send + Sync + 'static,
) -> Clock {
    let begin = Anchor { wall: wall(), steady: steady(), shift: SignedDuration::ZERO };
    let anchor = Mutex::new(begin);
    Clock::reading(move || {
        // One reader after the other, so that nobody sees the time go back for another reason than a step.
        let mut anchor = anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall, steady) = (wall(), steady());
        let gone = SignedDuration::try_from(steady.saturating_sub(anchor.steady)).unwrap_or(SignedDuration::MAX);
        let expected = anchor.wall.saturating_add(gone).unwrap_or(Timestamp::MAX);
        let drift = wall.duration_since(expected);
        if drift.abs() <= DRIFT {
            return Reading { now: expected, shift: anchor.shift };
        }
        *anchor = Anchor { wall, steady, shift: anchor.shift.saturating_add(drift) };
        Reading { now: wall, shift: anchor.shift }
    })
}

/// Where the two clocks stood when they were last put together.
#[derive(Debug)]
struct Anchor {
    wall: Timestamp,
    steady: Duration,
    shift: SignedDuration,
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use super::*;

    /// A clock, and the seconds of the wall and of the steady one it goes by.
    fn clocks() -> (Clock, Arc<AtomicI64>, Arc<AtomicI64>) {
        let (wall, since) = (Arc::new(AtomicI64::new(1_800_000_000)), Arc::new(AtomicI64::new(500)));
        let (w, s) = (Arc::clone(&wall), Arc::clone(&since));
        let clock = steady(
            move || Timestamp::from_second(w.load(Ordering::Relaxed)).unwrap(),
            move || Duration::from_secs(s.load(Ordering::Relaxed).try_into().unwrap()),
        );
        (clock, wall, since)
    }

    #[test]
    fn f7_time_goes_on_evenly_while_the_wall_clock_is_moved_a_little() {
        let (clock, wall, since) = clocks();
        let begin = clock.now();
        for second in 1..=59 {
            since.fetch_add(1, Ordering::Relaxed);
            wall.fetch_sub(1, Ordering::Relaxed);
            if second < 30 {
                assert_eq!(clock.now().duration_since(begin), SignedDuration::from_secs(second));
            }
        }
        assert_eq!(clock.read().shift, SignedDuration::from_secs(-118), "backwards each second is followed in steps");
        assert_eq!(clock.now().as_second(), 1_800_000_000 - 59);
    }

    #[test]
    fn f7_a_jump_is_followed_once_and_its_size_is_told() {
        for jump in [3 * 3600, -3 * 3600, -1_800_000_000] {
            let (clock, wall, since) = clocks();
            let before = clock.read();
            wall.fetch_add(jump + 2, Ordering::Relaxed);
            since.fetch_add(2, Ordering::Relaxed);
            let after = clock.read();
            assert_eq!(after.shift, SignedDuration::from_secs(jump));
            let passed = after.now.duration_since(before.now).saturating_sub(after.shift);
            assert_eq!(passed, SignedDuration::from_secs(2), "what has really passed can be told");
            assert_eq!(clock.read(), after);
        }
    }
}
