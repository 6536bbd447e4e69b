//! When a task may start, when it is tried again, and when it is too late for it.
//!
//! Its one surprise: the jitter of a wait is seeded by task and attempt, so that a run can be repeated and two tasks
//! that failed together do not return together.

use std::time::Duration;

use jiff::Timestamp;

use super::{AttemptRef, Standing, TaskRecord, TaskSpec, fnv};

/// The longest wait of a task that names its own.
pub const LONGEST_BACKOFF: Duration = Duration::from_hours(1);

/// How long to wait after `attempt` failed as the `counted`th that counts: the task's `own` wait, doubling up to an
/// hour; else one of the `usual` ones, of which the last repeats. Jittered by a fifth.
pub fn backoff(own: Option<Duration>, usual: &[Duration], attempt: &AttemptRef, counted: u32) -> Duration {
    let before = counted.saturating_sub(1);
    let base = if let Some(own) = own {
        own.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX)).min(LONGEST_BACKOFF)
    } else {
        let at = usize::try_from(before).unwrap_or(usize::MAX);
        usual.get(at).or(usual.last()).copied().unwrap_or_default()
    };
    base.mul_f64(jitter(attempt))
}

/// 0.8 to 1.2, by task and attempt.
pub fn jitter(attempt: &AttemptRef) -> f64 {
    let hash = fnv::fold(fnv::START, attempt.to_string().as_bytes());
    0.8 + 0.4 * ((hash >> 40) as f64 / (1_u64 << 24) as f64)
}

impl TaskSpec {
    /// When it is too late for a task that was first seen at `seen_at` and does not run, and why.
    pub fn expires_at(&self, seen_at: Timestamp, has_started: bool) -> Option<(Timestamp, String)> {
        let start_by = self.start_by.filter(|_| !has_started).and_then(|within| {
            let at = seen_at.checked_add(within).ok()?;
            Some((at, format!("not started within {} s", within.as_secs_f64())))
        });
        let deadline = self.deadline.map(|at| (at, format!("its deadline, {at}, has passed")));
        start_by.into_iter().chain(deadline).min_by_key(|(at, _)| *at)
    }
}

impl TaskRecord {
    /// Not started before this, as far as time goes; `None` = at once.
    pub fn startable_at(&self) -> Option<Timestamp> {
        let again = if let Standing::Retrying { not_before, .. } = self.standing { Some(not_before) } else { None };
        self.spec.not_before.max(again)
    }

    /// When it is too late for it, and why; `None` while it runs (its worker knows the deadline), once it has ended, and
    /// where it has all the time.
    pub fn expires_at(&self) -> Option<(Timestamp, String)> {
        match self.standing {
            Standing::Running { .. } | Standing::Ended => None,
            Standing::Waiting | Standing::Claimed | Standing::Retrying { .. } | Standing::Asking { .. } => {
                self.spec.expires_at(self.seen_at, !self.attempts.is_empty())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskRef;

    fn attempt(n: u32) -> AttemptRef {
        "anga/a".parse::<TaskRef>().unwrap().attempt(n)
    }

    #[test]
    fn a_task_s_own_wait_doubles_up_to_an_hour() {
        let own = Some(Duration::from_secs(15));
        for (counted, base) in [(1, 15.0), (2, 30.0), (3, 60.0), (8, 1920.0), (9, 3600.0), (40, 3600.0), (4000, 3600.0)]
        {
            let wait = backoff(own, &[], &attempt(counted), counted).as_secs_f64();
            assert!((0.8 * base..=1.2 * base).contains(&wait), "{counted}: {wait}");
        }
        assert_eq!(backoff(None, &[], &attempt(1), 1), Duration::ZERO);
    }

    #[test]
    fn what_comes_first_expires_a_task_and_a_start_answers_start_by() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut record = TaskRecord::new(TaskSpec::new("anga/a".parse().unwrap(), "x"), at(100));
        assert_eq!((record.expires_at(), record.startable_at()), (None, None));
        record.spec.start_by = Some(Duration::from_mins(1));
        record.spec.deadline = Some(at(1_000));
        assert_eq!(record.expires_at(), Some((at(160), "not started within 60 s".into())));
        assert_eq!(record.spec.expires_at(at(100), true).map(|(at, _)| at), Some(at(1_000)));
        record.standing = Standing::Running { attempt: 1 };
        assert_eq!(record.expires_at(), None);
        record.spec.not_before = Some(at(300));
        assert_eq!(record.startable_at(), Some(at(300)));
        record.standing = Standing::Retrying { attempt: 1, not_before: at(400) };
        assert_eq!(record.startable_at(), Some(at(400)));
    }
}
