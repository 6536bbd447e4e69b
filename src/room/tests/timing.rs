//! Stories of the times that task files name.

use super::*;

impl Story {
    /// A task whose file names times.
    fn timed(&mut self, name: &str, change: impl FnOnce(&mut TaskSpec)) -> Vec<Effect> {
        let mut spec = TaskSpec::new(task(name), "Do it.");
        change(&mut spec);
        let record = TaskRecord::new(spec, self.now);
        self.seen(record)
    }
}

fn expired(name: &str, message: &str) -> Effect {
    Effect::EndTask { id: None, task: task(name), ending: Ending::Expired { message: message.into() } }
}

#[test]
fn a_task_starts_not_before_its_time_and_then_at_once() {
    let mut story = Story::staffed();
    let at = story.now + SignedDuration::from_mins(38);
    assert_eq!(story.timed("marie/a", |spec| spec.not_before = Some(at)), []);
    assert_eq!(story.why("marie/a"), "starts in 38 min");
    assert_eq!(story.room.next_wake(), Some(at));
    assert_eq!(story.later(38 * 60 - 1), []);
    assert_eq!(story.later(1), [assign("marie/a")]);
    assert_eq!(story.room.next_wake(), None);
}

#[test]
fn c12_a_task_that_was_not_started_in_its_time_expires_once() {
    let mut story = Story::staffed();
    story.dropped("marie/busy", &[]);
    story.started("marie/busy", 1);
    assert_eq!(story.timed("marie/a", |spec| spec.start_by = Some(Duration::from_mins(1))), []);
    assert_eq!(story.later(59), []);
    assert_eq!(story.later(1), [expired("marie/a", "not started within 60 s")]);
    assert_eq!(story.later(1), [], "told once");
    assert_eq!(story.ended("marie/busy", EndState::Done), [], "and it starts no more");
}

#[test]
fn c12_a_deadline_ends_what_waits_and_not_what_runs() {
    let mut story = Story::staffed();
    let at = story.now + SignedDuration::from_mins(1);
    story.timed("marie/runs", |spec| spec.deadline = Some(at));
    story.timed("marie/waits", |spec| spec.deadline = Some(at));
    story.started("marie/runs", 1);
    let message = format!("its deadline, {at}, has passed");
    assert_eq!(story.later(60), [expired("marie/waits", &message)]);
    let report = Report::Failed {
        attempt: task("marie/runs").attempt(1),
        ending: Ending::NoResult { code: None },
        spend: Spend::default(),
        not_before: story.now,
        at: story.now,
    };
    assert_eq!(story.report("marie", report), [expired("marie/runs", &message)], "no second attempt");
}

#[test]
fn what_expired_while_no_room_ran_expires_when_one_opens() {
    let mut story = Story::staffed();
    let at = story.now - SignedDuration::from_secs(1);
    let effects = story.timed("marie/late", |spec| spec.deadline = Some(at));
    assert_eq!(effects, [expired("marie/late", &format!("its deadline, {at}, has passed"))]);
}
