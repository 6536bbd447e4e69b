//! Waits and the clock: a wait takes as long as it was meant to, whatever becomes of the wall clock.
//!
//! Everything here is kept by the room's own time. When that time is set anew, every moment that stands for a wait moves
//! with it; moments that a person named (`deadline`, `not_before` of a file) stay where they are.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{Process, State, Tasks, Voice, agents::Agent, why::span};
use crate::model::{Standing, TaskRecord, TaskRef, clock::DOUBT};

impl State {
    /// The clock was set by this much; `now` says the new time already.
    pub(super) fn clock_set(&mut self, by: SignedDuration) {
        self.tasks.shift(by, self.now);
        self.agents.shift(by);
        self.accounts.shift(by);
        // What was spent stays spent: another date begins no new day, only the calendar's own turn does.
        self.money.day = self.money.day.map(|_| self.now.to_zoned(TimeZone::UTC).date());
        self.doubted_until = Some(later(self.now, DOUBT));
        let way = if by.is_negative() { "back" } else { "forward" };
        let text = format!("the machine's clock was set {way} by {}; nothing expires for 60 s", span(by.abs()));
        self.say(Voice::Room, None, text);
    }

    /// Whether the time can be trusted enough to end something because of it.
    pub fn may_expire(&self) -> bool {
        self.doubted_until.is_none_or(|until| until <= self.now)
    }
}

impl Tasks {
    /// Begins the wait for a next attempt now: it was just said how long it is to be.
    pub(super) fn wait_anew(&mut self, task: &TaskRef, wait: SignedDuration, now: Timestamp) {
        self.amend(task, now, |entry| {
            if let Standing::Retrying { not_before, .. } = &mut entry.record.standing {
                *not_before = later(now, wait);
            }
        });
    }

    /// Moves every wait for a next attempt, and for the next try to hand a task out.
    fn shift(&mut self, by: SignedDuration, now: Timestamp) {
        let waits = |task: &&super::Task| {
            task.rests_until.is_some() || matches!(task.record.standing, Standing::Retrying { .. })
        };
        let tasks: Vec<_> = self.iter().filter(waits).map(|task| task.record.task().clone()).collect();
        for task in tasks {
            self.amend(&task, now, |entry| {
                if let Standing::Retrying { not_before, .. } = &mut entry.record.standing {
                    *not_before = later(*not_before, by);
                }
                entry.rests_until = entry.rests_until.map(|until| later(until, by));
            });
        }
    }
}

/// Shortens a wait for the next attempt to what it was meant to be: whoever began it may have had another idea of the
/// time, or the machine was started again with another one. A wait that is `known` already goes on.
pub(super) fn bound_wait(record: &mut TaskRecord, known: Option<&TaskRecord>, now: Timestamp) {
    let ended_at = record.attempts.last().and_then(|attempt| attempt.ended_at);
    let (Standing::Retrying { attempt, not_before }, Some(ended_at)) = (&mut record.standing, ended_at) else { return };
    match known.map(|known| &known.standing) {
        Some(Standing::Retrying { attempt: same, not_before: until }) if same == attempt => *not_before = *until,
        _ => {
            let full = not_before.duration_since(ended_at).max(SignedDuration::ZERO);
            *not_before = later(now, full).min(*not_before);
        }
    }
}

impl super::Agents {
    /// Moves every wait and every beginning.
    fn shift(&mut self, by: SignedDuration) {
        self.each(|agent| shift_agent(agent, by));
    }
}

fn shift_agent(agent: &mut Agent, by: SignedDuration) {
    let mut moments: Vec<&mut Timestamp> = Vec::new();
    for slot in &mut agent.slots {
        moments.extend(slot.up_since.as_mut());
        moments.extend(slot.held.as_mut().map(|held| &mut held.since));
        match &mut slot.process {
            Process::Starting { since, .. } | Process::Up { since, .. } => moments.push(since),
            Process::Backoff { until, .. } => moments.push(until),
            Process::Off | Process::Leaving { .. } => {}
        }
    }
    for moment in moments {
        *moment = later(*moment, by);
    }
}

pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            AttemptRecord, Ending, MicroUsd, Spend, TaskSpec,
            gateway::{Call, CallEnd, Caller},
        },
        room::{Event, Stamped, TaskEvent},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn hours(n: i64) -> SignedDuration {
        SignedDuration::from_hours(n)
    }

    /// A task whose attempt ended at `ended` and may be tried again at `not_before`.
    fn retrying(ended: i64, not_before: i64) -> Event {
        let mut record = TaskRecord::new(TaskSpec::new("marie/a".parse().unwrap(), "x"), at(0));
        record.attempts.push(AttemptRecord {
            n: 1,
            started_at: at(ended - 1),
            ended_at: Some(at(ended)),
            ending: Some(Ending::Signal { signal: 9 }),
            session_id: None,
            spend: Spend::default(),
            log: String::new(),
        });
        record.standing = Standing::Retrying { attempt: 1, not_before: at(not_before) };
        Event::Task(TaskEvent::Changed { record: Box::new(record) })
    }

    fn tell(state: &mut State, now: Timestamp, event: Event) {
        drop(state.update(Stamped { at: now, event }));
    }

    #[test]
    fn g13_a_wait_lasts_as_long_when_the_clock_is_set_forward_back_or_to_1970() {
        for by in [hours(3), hours(-3), hours(-500_000)] {
            let mut state = State::default();
            tell(&mut state, at(10), retrying(10, 14));
            assert_eq!(state.next_wake(), Some(at(14)));
            // A second has passed, and the clock was set.
            tell(&mut state, later(at(11), by), Event::ClockSet { by });
            assert_eq!(state.next_wake(), Some(later(at(14), by)), "{by}");
            assert!(!state.may_expire());
            tell(&mut state, later(at(14), by), Event::TimeCame);
            assert_eq!((state.next_wake(), state.tasks.counts().ready), (None, 1), "{by}");
            tell(&mut state, later(at(71), by), Event::TimeCame);
            assert!(state.may_expire());
        }
    }

    #[test]
    fn g13_a_task_that_could_not_be_handed_out_rests_no_longer_because_the_clock_was_set() {
        let mut state = State::default();
        let record = TaskRecord::new(TaskSpec::new("marie/a".parse().unwrap(), "x"), at(0));
        tell(&mut state, at(10), Event::Task(TaskEvent::Changed { record: Box::new(record) }));
        state.tasks.not_started(&"marie/a".parse().unwrap(), "busy".into(), Some(at(11)), at(10));
        let due = state.next_wake().unwrap();
        tell(&mut state, later(at(10), hours(-3)), Event::ClockSet { by: hours(-3) });
        assert_eq!(state.next_wake(), Some(later(due, hours(-3))));
    }

    #[test]
    fn g13_after_a_restart_a_wait_is_what_is_left_and_never_more_than_the_whole() {
        // Told by a clock that was three hours ahead: four seconds were meant.
        let mut state = State::default();
        tell(&mut state, at(10), retrying(10 + 3 * 3600, 14 + 3 * 3600));
        assert_eq!(state.next_wake(), Some(at(14)));
        // Told by the same clock a second ago: three are left.
        let mut state = State::default();
        tell(&mut state, at(11), retrying(10, 14));
        assert_eq!(state.next_wake(), Some(at(14)));
        // Told by a clock that was behind: over.
        let mut state = State::default();
        tell(&mut state, at(10), retrying(10 - 3 * 3600, 14 - 3 * 3600));
        assert_eq!(state.tasks.counts().ready, 1);
    }

    #[test]
    fn g13_a_day_does_not_begin_anew_because_the_clock_was_set() {
        let call = |second: i64| Call {
            millis: 1,
            model: "sonnet".into(),
            end: CallEnd::Complete,
            cost: MicroUsd(5),
            ..Call::new(second.to_string(), at(second), Caller::Orchestrator { goal: None })
        };
        let mut state = State::default();
        state.money.add(&call(0), None);
        let spent = state.money.today;
        tell(&mut state, later(at(1), hours(-24)), Event::ClockSet { by: hours(-24) });
        assert_eq!(state.money.today, spent);
        state.money.add(&call(1 - 24 * 3600), None);
        assert_eq!(state.money.today.calls, 2);
    }
}
