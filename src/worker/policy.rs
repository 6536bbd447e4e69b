//! When a task is tried again.
//!
//! Owns the settings; how a wait is computed is the model's ([`timing`]), because the queue does it too for attempts that
//! were lost. Its one surprise: a limit that says when it clears is believed, with a second more.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{AttemptRef, Effort, EndState, Ending, TaskSpec, Verdict, timing};

/// How often and after what wait a task is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Starts allowed, where the task does not say.
    pub attempts: u32,
    /// Waits after the first, second, … failure; the last one repeats.
    pub backoff: Vec<Duration>,
    /// The first wait after a limit that does not say when it clears; doubles each time.
    pub limit: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 3, backoff: [1, 2, 4].map(Duration::from_secs).to_vec(), limit: Duration::from_secs(30) }
    }
}

/// The longest wait after a limit that does not say when it clears.
const LONGEST_PARK: Duration = Duration::from_mins(15);

impl Retries {
    /// What follows from `ending`, when `before` earlier attempts counted and the last of them ended as `previous`.
    pub(super) fn verdict(&self, spec: &TaskSpec, ending: &Ending, before: u32, previous: Option<&Ending>) -> Verdict {
        // One more try with more effort is worth its price; what that did not mend needs another plan.
        if let (Ending::Unproven { .. }, Some(Ending::Unproven { .. })) = (ending, previous) {
            return Verdict::End(EndState::Failed);
        }
        let allowed = spec.max_attempts.unwrap_or(self.attempts).max(1);
        ending.verdict(before.saturating_add(u32::from(ending.counts())), allowed)
    }

    /// When the next attempt may start after attempt `attempt` failed as the `counted`th that counts.
    pub(super) fn next(&self, spec: &TaskSpec, attempt: &AttemptRef, counted: u32, now: Timestamp) -> Timestamp {
        later(now, timing::backoff(spec.backoff, &self.backoff, attempt, counted))
    }

    /// When an attempt may start after a limit; `parked` earlier attempts ended in one.
    pub(super) fn unpark(
        &self,
        attempt: &AttemptRef,
        until: Option<Timestamp>,
        parked: u32,
        now: Timestamp,
    ) -> Timestamp {
        // A second more, so that the server's clock has passed it as well.
        let until = until.filter(|u| *u > now).map(|u| later(u, Duration::from_secs(1)));
        until.unwrap_or_else(|| {
            let base = self.limit.saturating_mul(1 << parked.min(10)).min(LONGEST_PARK);
            later(now, base.mul_f64(timing::jitter(attempt)))
        })
    }
}

/// What one more try of a task that was not done is given: more effort, or the next stronger model where there is no more
/// effort to give.
pub(super) fn stronger(effort: Option<Effort>, model: &str) -> (Option<Effort>, Option<&'static str>) {
    match effort {
        Some(Effort::High) => {
            let next = if model.contains("haiku") {
                Some("sonnet")
            } else if model.contains("sonnet") {
                Some("opus")
            } else {
                None
            };
            (effort, next)
        }
        Some(Effort::Low) => (Some(Effort::Medium), None),
        Some(Effort::Medium) | None => (Some(Effort::High), None),
    }
}

fn later(from: Timestamp, wait: Duration) -> Timestamp {
    from.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskRef;

    fn attempt(id: &str, n: u32) -> AttemptRef {
        format!("anga/{id}").parse::<TaskRef>().unwrap().attempt(n)
    }

    #[test]
    fn waits_grow_stay_in_bounds_and_are_the_same_each_time() {
        let retries = Retries::default();
        let spec = TaskSpec::new("anga/a".parse().unwrap(), "x");
        let now = Timestamp::UNIX_EPOCH;
        for (counted, base) in [(1, 1.0), (2, 2.0), (3, 4.0), (9, 4.0)] {
            for id in ["a", "b", "long-name"] {
                let found = retries.next(&spec, &attempt(id, counted), counted, now);
                let wait = found.duration_since(now).as_secs_f64();
                assert!((0.8 * base..=1.2 * base).contains(&wait), "{id} {counted}: {wait}");
                assert_eq!(found, retries.next(&spec, &attempt(id, counted), counted, now));
            }
        }
        let first = |id| retries.next(&spec, &attempt(id, 1), 1, now);
        assert_ne!(first("a"), first("b"), "two tasks that failed together do not return together");
    }

    #[test]
    fn a_limit_waits_for_its_own_end_where_it_has_one() {
        let retries = Retries::default();
        let now = Timestamp::from_second(1_000).unwrap();
        let until = Timestamp::from_second(5_000).unwrap();
        assert_eq!(retries.unpark(&attempt("a", 1), Some(until), 0, now), Timestamp::from_second(5_001).unwrap());
        let blind = |parked| retries.unpark(&attempt("a", 1), None, parked, now).duration_since(now).as_secs();
        assert!((24..=36).contains(&blind(0)) && (48..=72).contains(&blind(1)) && blind(30) <= 18 * 60);
    }

    #[test]
    fn what_was_not_done_is_tried_once_more_and_stronger() {
        let spec = TaskSpec::new("anga/a".parse().unwrap(), "x");
        let unproven = Ending::Unproven { message: "the file a is there: there is no such file".into() };
        let crash = Ending::Signal { signal: 9 };
        let verdict = |previous| Retries::default().verdict(&spec, &unproven, 1, previous);
        assert_eq!(verdict(None), Verdict::Retry);
        assert_eq!(verdict(Some(&crash)), Verdict::Retry);
        assert_eq!(verdict(Some(&unproven)), Verdict::End(EndState::Failed));
        assert_eq!(stronger(None, "sonnet"), (Some(Effort::High), None));
        assert_eq!(stronger(Some(Effort::Low), "sonnet"), (Some(Effort::Medium), None));
        assert_eq!(stronger(Some(Effort::High), "claude-haiku-5-5"), (Some(Effort::High), Some("sonnet")));
        assert_eq!(stronger(Some(Effort::High), "sonnet"), (Some(Effort::High), Some("opus")));
        assert_eq!(stronger(Some(Effort::High), "opus"), (Some(Effort::High), None));
    }

    #[test]
    fn the_task_s_own_number_of_attempts_wins() {
        let mut spec = TaskSpec::new("anga/a".parse().unwrap(), "x");
        let crash = Ending::Signal { signal: 9 };
        assert_eq!(Retries::default().verdict(&spec, &crash, 0, None), Verdict::Retry);
        spec.max_attempts = Some(1);
        assert_eq!(Retries::default().verdict(&spec, &crash, 0, None), Verdict::End(EndState::Dead));
    }
}
