//! Stories of goals whose tasks fail: they stop, go on, are planned anew, or ask.

use super::*;
use crate::room::failure::Failure;

const CEILING: MicroUsd = MicroUsd(1_000_000);

/// What a planner says could take the place of the post.
const INSTEAD: &str = r#"{"schema_version":2,"summary":"A shorter post.","synthesis":"","requirements":[{"id":"r1","text":"A note"}],
    "tasks":[
    {"id":"note","worker":"anga","title":"Note","objective":"Write a short note about what marie found in the notes.",
     "inputs":[{"dependency":"read","what":"the list"}],"output":"A text of 50 words.","boundaries":"No names.",
     "dependencies":["read"],"done_when":["a note"],"serves":["r1"],"effort":"medium","model_tier":"standard","side_effects":[],
     "idempotent":true,"can_wait":false,"review":false,
     "estimates":{"minutes":{"low":2,"high":4},"tokens":{"low":3000,"high":9000}}}]}"#;

/// That there is no other way.
const NOTHING: &str =
    r#"{"schema_version":2,"summary":"The image is gone.","synthesis":"","requirements":[],"tasks":[]}"#;

impl Story {
    fn failing(on_failure: OnFailure, replans: u32) -> Self {
        let mut story = Self::staffed();
        story.room.goals.orchestrator.failure = Failure { on_failure, replans };
        story.published(CEILING);
        story
    }

    /// read is done, post has failed.
    fn half_failed(on_failure: OnFailure, replans: u32) -> (Self, Vec<Effect>) {
        let mut story = Self::failing(on_failure, replans);
        story.started("marie/g1-read", 1);
        story.ended("marie/g1-read", EndState::Done);
        story.started("fabien/g1-post", 1);
        let effects = story.ended("fabien/g1-post", EndState::Dead);
        (story, effects)
    }

    /// The goal is planned anew: what is decided is kept, and the planner asked.
    fn planned_anew(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let Some(Effect::Keep { fact }) = effects.first() else { panic!("{effects:?}") };
        assert!(fact.is_fact());
        self.tell((**fact).clone())
    }

    fn said(&self, text: &str) -> bool {
        self.room.lines.iter().any(|line| line.text.contains(text))
    }

    fn plan_ids(&self) -> Vec<&str> {
        self.room.goals.get(&goal_id()).unwrap().plan.iter().flat_map(|p| &p.tasks).map(|t| t.id.as_str()).collect()
    }

    fn phase_of_goal(&self) -> &GoalPhase {
        &self.room.goals.get(&goal_id()).unwrap().phase
    }
}

#[test]
fn what_is_missing_is_planned_anew_and_finished_tasks_stay_as_they_are() {
    let (mut story, effects) = Story::half_failed(OnFailure::Continue, 2);
    let effects = story.planned_anew(&effects);
    let [Effect::Replan { round: 1, repair: None, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(story.said("fabien/g1-post failed: what is missing is planned anew (1 of 2)"));
    let effects = story.tell(answered(1, INSTEAD));
    let Some(Effect::Publish { tasks, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(tasks.iter().map(|t| t.task.to_string()).collect::<Vec<_>>(), ["anga/g1-note"], "nothing runs again");
    assert_eq!(tasks[0].dependencies, ["marie/g1-read".parse().unwrap()]);
    assert_eq!(story.plan_ids(), ["read", "note"]);
    let record = TaskRecord::new(tasks[0].clone(), story.now);
    assert_eq!(story.seen(record), [assign("anga/g1-note")]);
    story.tell(Event::Goal(GoalEvent::Published { id: goal_id() }));
    story.started("anga/g1-note", 1);
    let effects = story.ended("anga/g1-note", EndState::Done);
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
    // What failed has been paid for.
    for (name, cost) in [("fabien/g1-post", 3), ("anga/g1-note", 4)] {
        story.room.money.tasks.insert(task(name), Spend { cost: MicroUsd(cost), calls: 1, ..Spend::default() });
    }
    assert_eq!(story.room.spend_of(story.room.goals.get(&goal_id()).unwrap()).cost, MicroUsd(7));
}

#[test]
fn a_goal_is_planned_anew_at_most_so_often_and_a_used_id_is_a_fault() {
    let (mut story, effects) = Story::half_failed(OnFailure::Continue, 1);
    story.planned_anew(&effects);
    let again = INSTEAD.replace(r#""id":"note""#, r#""id":"post""#);
    let effects = story.tell(answered(1, &again));
    let Some(Effect::Replan { round: 2, repair: Some((_, faults)), .. }) = effects.last() else {
        panic!("{effects:?}")
    };
    assert_eq!(faults[0].message, "`post` is the id of an earlier task of this goal; choose another");
    let effects = story.tell(answered(2, INSTEAD));
    let Some(Effect::Publish { tasks, .. }) = effects.last() else { panic!("{effects:?}") };
    let record = TaskRecord::new(tasks[0].clone(), story.now);
    story.seen(record);
    story.tell(Event::Goal(GoalEvent::Published { id: goal_id() }));
    story.started("anga/g1-note", 1);
    let effects = story.ended("anga/g1-note", EndState::Dead);
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
    assert!(story.said("g1 was planned anew 1 times: the report says what is missing"));
}

#[test]
fn a_planner_that_knows_no_other_way_or_gives_no_answer_brings_the_report() {
    let (mut story, effects) = Story::half_failed(OnFailure::Continue, 2);
    story.planned_anew(&effects);
    let effects = story.tell(answered(1, NOTHING));
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
    assert!(story.said("nothing can take its place: The image is gone; the report"));

    let (mut story, effects) = Story::half_failed(OnFailure::Continue, 2);
    story.planned_anew(&effects);
    let failed = GoalEvent::PlanFailed { id: goal_id(), round: 1, message: "overloaded".into() };
    let effects = story.tell(Event::Goal(failed));
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "{effects:?}");
}

#[test]
fn a_goal_that_stops_starts_nothing_more_and_one_that_goes_on_keeps_its_siblings() {
    let mut story = Story::failing(OnFailure::Stop, 2);
    story.started("marie/g1-read", 1);
    let effects = story.ended("marie/g1-read", EndState::Failed);
    let ended: Vec<_> = effects
        .iter()
        .filter_map(
            |e| if let Effect::EndTask { task, ending, .. } = e { Some((task, ending.sentence())) } else { None },
        )
        .collect();
    assert_eq!(ended, [(&task("fabien/g1-post"), "marie/g1-read did not end well".to_owned())]);
    assert!(story.said("nothing more of g1 starts (on_failure = stop)"));
    let effects = story.skipped("fabien/g1-post", "marie/g1-read");
    assert!(matches!(&effects[..], [Effect::Synthesise { .. }]), "it stops, and is not planned anew: {effects:?}");

    let story = Story::half_failed(OnFailure::Continue, 0).0;
    assert!(story.said("what needs it is skipped, the rest of g1 goes on"));
}

#[test]
fn a_goal_that_asks_waits_for_a_yes_a_no_or_a_retry() {
    let (mut story, effects) = Story::half_failed(OnFailure::Ask, 2);
    assert_eq!(effects, []);
    assert_eq!(story.phase_of_goal(), &GoalPhase::Deciding);
    assert!(story.room.needs_you().contains(&Need::Plan(goal_id())));
    let effects = story.order(Order::Approve { goal: goal_id(), ceiling: None });
    let keep = effects.iter().find(|e| matches!(e, Effect::Keep { .. })).cloned().unwrap();
    let effects = story.planned_anew(&[keep]);
    assert!(matches!(&effects[..], [Effect::Replan { .. }]), "{effects:?}");

    let (mut story, _) = Story::half_failed(OnFailure::Ask, 2);
    let effects = story.order(Order::Deny { goal: goal_id() });
    assert!(matches!(effects.last(), Some(Effect::Synthesise { .. })), "{effects:?}");

    let (mut story, _) = Story::half_failed(OnFailure::Ask, 2);
    let effects = story.order(Order::Retry { task: task("fabien/g1-post"), changes: Box::default() });
    let Some(Effect::RetryTask { id, .. }) = effects.first() else { panic!("{effects:?}") };
    let answer = Answer::Done { text: "again".into(), ids: vec!["fabien/g1-post".into()] };
    let effects = story.tell(Event::Task(TaskEvent::Answered { id: *id, answer }));
    story.planned_anew(&effects);
    assert_eq!(story.phase_of_goal(), &GoalPhase::Running);
}

#[test]
fn a_limit_is_no_failure_and_each_decision_is_a_line() {
    let mut story = Story::failing(OnFailure::Stop, 2);
    story.started("marie/g1-read", 1);
    let until = story.now + SignedDuration::from_mins(38);
    let attempt = task("marie/g1-read").attempt(1);
    let report = |ending: Ending, not_before| Report::Failed {
        attempt: attempt.clone(),
        ending,
        spend: Spend::default(),
        not_before,
        at: not_before - SignedDuration::from_mins(38),
    };
    let limit = report(Ending::Limit { message: "5 h window".into(), until: Some(until) }, until);
    let effects = story.report("marie", limit);
    assert!(!effects.iter().any(|e| matches!(e, Effect::EndTask { .. })), "{effects:?}");
    assert!(story.said("marie/g1-read, attempt 1: limit: 5 h window; waits 38 min for the limit, and has not failed"));
    assert_eq!(story.phase_of_goal(), &GoalPhase::Running);
}

#[test]
fn a_room_that_comes_back_while_a_goal_is_planned_anew_asks_again() {
    let (mut story, effects) = Story::half_failed(OnFailure::Continue, 2);
    story.planned_anew(&effects);
    let mut effects = Vec::new();
    story.room.resume_goals(&mut effects);
    assert!(matches!(&effects[..], [Effect::Replan { round: 1, .. }]), "{effects:?}");
}
