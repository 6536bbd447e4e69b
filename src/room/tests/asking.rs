//! Stories of questions: asked instead of a plan, answered, asked too often.

use super::*;

const ASKS: &str = r#"{"schema_version":2,"questions":["For whom?\nAnd when?"," "],"summary":"?","requirements":[],"synthesis":"","tasks":[]}"#;

fn asked(approval: Approval) -> Story {
    let mut story = Story::staffed();
    story.order(Order::Goal { text: "Announce.".into(), approval, terms: Terms::default() });
    story.tell(answered(1, ASKS));
    story
}

fn answer(story: &mut Story, text: &str) -> Vec<Effect> {
    story.order(Order::Answer { goal: goal_id(), text: text.into() })
}

#[test]
fn a_question_waits_for_a_person_and_its_answer_goes_into_the_next_request() {
    let mut story = asked(Approval::Auto { ceiling: MicroUsd(1_000_000) });
    let goal = story.room.goals.get(&goal_id()).unwrap();
    assert_eq!((goal.questions(), goal.needs_approval()), (&["For whom? And when?".to_owned()][..], false));
    assert_eq!(story.room.needs_you(), [Need::Question(goal_id())]);
    let effects = answer(&mut story, " Parents. ");
    let [Effect::Answer { .. }, Effect::Plan { text, round: 1, repair: None, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let want = "Announce.\n\nThe orchestrator asked:\n- For whom? And when?\nThe operator answered: Parents.";
    assert_eq!(text, want);
    let effects = story.tell(answered(1, PLAN));
    assert!(matches!(&effects[..], [Effect::Publish { .. }]), "{effects:?}");
    let goal = story.room.goals.get(&goal_id()).unwrap();
    assert_eq!((goal.revisions.len(), &*goal.text), (2, "Announce."), "the question has its price too");
}

#[test]
fn whoever_asks_for_ever_is_heard_twice_and_then_mends_a_plan_without_tasks() {
    let mut story = asked(Approval::Ask);
    answer(&mut story, "Parents.");
    story.tell(answered(1, ASKS));
    assert!(story.room.goals.get(&goal_id()).unwrap().asks());
    answer(&mut story, "Friday.");
    let effects = story.tell(answered(1, ASKS));
    let [Effect::Plan { text, repair: Some((_, faults)), round: 2, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(
        text.contains("Parents.") && text.contains("Friday.") && faults.iter().any(|f| f.code == "P02"),
        "{faults:?}"
    );
}

#[test]
fn an_answer_that_nobody_asked_for_or_that_is_blank_is_refused() {
    let mut story = asked(Approval::Ask);
    let refused =
        |effects: Vec<Effect>| matches!(&effects[..], [Effect::Answer { answer: Answer::Refused { .. }, .. }]);
    assert!(refused(answer(&mut story, " \n ")));
    answer(&mut story, "Parents.");
    assert!(refused(answer(&mut story, "Again.")));
    story.order(Order::CancelGoal { goal: goal_id() });
    assert!(refused(answer(&mut story, "Late.")));
}

#[test]
fn a_plan_with_questions_beside_its_tasks_is_a_plan() {
    let mut story = Story::staffed();
    story.order(Order::Goal { text: "Announce.".into(), approval: Approval::Ask, terms: Terms::default() });
    story.tell(answered(1, &PLAN.replacen('{', r#"{"questions":["Really?"],"#, 1)));
    assert!(story.room.goals.get(&goal_id()).unwrap().needs_approval());
}

#[test]
fn only_a_goal_with_a_report_is_followed_up_on() {
    let mut story = asked(Approval::Ask);
    let follow = |story: &mut Story, goal: &str| {
        let terms = Terms { follows: Some(goal.parse().unwrap()), ..Terms::default() };
        story.order(Order::Goal { text: "Shorten it.".into(), approval: Approval::Ask, terms })
    };
    for goal in ["g1", "g9"] {
        let effects = follow(&mut story, goal);
        assert!(matches!(&effects[..], [Effect::Answer { answer: Answer::Refused { .. }, .. }]), "{effects:?}");
    }
    answer(&mut story, "Parents.");
    story.tell(answered(1, PLAN));
    story.order(Order::Approve { goal: goal_id(), ceiling: None });
    story.tell(Event::Goal(GoalEvent::Reported {
        id: goal_id(),
        path: "results/goals/g1.md".into(),
        opening: "Done.".into(),
        end: GoalEnd::Done,
        done: 2,
        plain: None,
        spend: Spend::default(),
    }));
    let effects = follow(&mut story, "g1");
    let Some(Effect::Plan { follows, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(follows.as_ref(), Some(&goal_id()));
}
