//! Stories of plans: repaired, mended, put before a person, changed by hand.

use super::*;
use crate::{model::plan::Maker, orchestrator::plan::Edit};

fn goal(story: &Story) -> &Goal {
    story.room.goals.get(&goal_id()).unwrap()
}

fn asked(approval: Approval) -> Story {
    let mut story = Story::staffed();
    story.order(Order::Goal { text: "Announce.".into(), approval, budget: None });
    story
}

/// What a round leads to: the faults that go back, or nothing.
fn repair(effects: &[Effect]) -> Option<&[Fault]> {
    match effects {
        [Effect::Plan { repair: Some((_, faults)), .. }] => Some(faults),
        _ => None,
    }
}

/// Carries out what edits ask to be kept, as the runtime does.
fn edit(story: &mut Story, edits: Vec<Edit>) -> Result<Vec<Effect>, String> {
    let base = goal(story).plan.as_ref().unwrap().hash();
    let mut rest = Vec::new();
    for effect in story.order(Order::EditPlan { goal: goal_id(), base, edits }) {
        if let Effect::Answer { answer: Answer::Refused { reason }, .. } = effect {
            return Err(reason);
        }
        if let Effect::Keep { fact } = effect {
            rest.extend(story.tell(*fact));
        }
    }
    Ok(rest)
}

fn change(story: &Story, id: &str, how: impl FnOnce(&mut PlanTask)) -> Edit {
    let mut to = goal(story).plan.as_ref().unwrap().task(id).unwrap().clone();
    how(&mut to);
    Edit::Change { task: id.into(), to: Box::new(to) }
}

fn title(story: &Story, id: &str) -> Edit {
    change(story, id, |task| task.title = "Another".into())
}

#[test]
fn a_faulty_plan_is_repaired_twice_and_then_one_task_is_offered() {
    let mut story = asked(Approval::Ask);
    let faulty = PLAN.replace("fabien", "stranger");
    for round in 1..=2 {
        let effects = story.tell(answered(round, &faulty));
        let found = repair(&effects).unwrap();
        assert!(found.iter().any(|f| f.code == "P04" && f.message.contains("stranger")), "{found:?}");
    }
    assert_eq!(story.tell(answered(3, &faulty)), []);
    let goal = goal(&story);
    assert!(goal.needs_approval());
    assert_eq!(goal.plan.as_ref().unwrap().tasks.len(), 1);
    assert!(!goal.faults.is_empty());
    let makers: Vec<Maker> = goal.revisions.iter().map(|r| r.by).collect();
    assert_eq!(makers, [Maker::Planner, Maker::Planner, Maker::Planner, Maker::Fallback]);
    assert_eq!(story.tell(answered(3, PLAN)), [], "an answer that comes twice changes nothing");
}

#[test]
fn a_second_repair_can_still_succeed_and_every_round_is_kept_with_its_cost() {
    let mut story = asked(Approval::Ask);
    for (round, text) in [(1, "I would rather talk."), (2, &*PLAN.replace("fabien", "stranger")), (3, PLAN)] {
        let mut event = answered(round, text);
        let Event::Goal(GoalEvent::Answered { spend, .. }) = &mut event else { panic!("{event:?}") };
        spend.cost = MicroUsd(100);
        story.tell(event);
    }
    let goal = goal(&story);
    assert!(goal.needs_approval() && goal.faults.is_empty(), "{:?}", goal.faults);
    assert_eq!((goal.revisions.len(), goal.planning_cost()), (3, MicroUsd(300)));
    let hash = goal.plan.as_ref().unwrap().hash();
    assert_eq!((&*goal.revisions[0].hash, &goal.revisions[2].hash), ("", &hash));
    assert_eq!(goal.revisions[0].faults[0].code, "P01");
}

#[test]
fn a_requirement_that_stays_unserved_after_a_repair_is_only_said() {
    let mut story = asked(Approval::Ask);
    let lacking = PLAN.replace("[{\"id\":\"r1\"", "[{\"id\":\"r0\",\"text\":\"Something else\"},{\"id\":\"r1\"");
    assert!(repair(&story.tell(answered(1, &lacking))).is_some());
    story.tell(answered(2, &lacking));
    assert!(goal(&story).needs_approval());
    assert_eq!(
        goal(&story).faults.iter().map(|f| (&*f.code, f.severity)).collect::<Vec<_>>(),
        [("P11", Severity::Warn)]
    );
}

#[test]
fn a_loose_dependency_is_taken_out_at_the_end_and_a_person_must_agree() {
    let mut story = asked(Approval::Auto { ceiling: MicroUsd(1_000_000) });
    let loose = PLAN.replacen("\"dependencies\":[]", "\"dependencies\":[\"groundwork\"]", 1);
    for round in 1..=3 {
        story.tell(answered(round, &loose));
    }
    let goal = goal(&story);
    assert!(goal.needs_approval(), "{:?}", goal.phase);
    assert_eq!(goal.plan.as_ref().unwrap().tasks.len(), 2);
    assert_eq!(goal.revisions.last().unwrap().by, Maker::Salvage);
    assert!(goal.gates().any(|f| f.message.contains("groundwork")), "{:?}", goal.faults);
}

#[test]
fn what_cannot_be_taken_back_waits_for_a_person_however_much_was_allowed() {
    let mut story = asked(Approval::Auto { ceiling: MicroUsd(1_000_000_000) });
    let risky = PLAN.replace("Write one post about what marie found", "Publish one post about what marie found");
    assert_eq!(story.tell(answered(1, &risky)), []);
    assert!(goal(&story).needs_approval() && goal(&story).gates().count() == 1);
    let effects = story.order(Order::Approve { goal: goal_id(), ceiling: None });
    assert!(matches!(effects.last(), Some(Effect::Publish { .. })), "{effects:?}");
}

#[test]
fn an_approval_may_name_its_own_ceiling() {
    let mut story = asked(Approval::Ask);
    story.tell(answered(1, PLAN));
    story.order(Order::Approve { goal: goal_id(), ceiling: Some(MicroUsd(7)) });
    assert_eq!(goal(&story).approval, Approval::Auto { ceiling: MicroUsd(7) });
    assert_eq!(goal(&story).phase, GoalPhase::Running);
}

#[test]
fn a_plan_that_waits_is_edited_whole_or_not_at_all() {
    let mut story = asked(Approval::Ask);
    story.tell(answered(1, PLAN));
    let base = goal(&story).plan.as_ref().unwrap().hash();
    let edits = vec![title(&story, "read"), change(&story, "post", |task| task.worker = "zoe".into())];
    assert!(edit(&mut story, edits).unwrap_err().contains("P04 tasks[1].worker: there is no agent `zoe`"));
    assert_eq!(goal(&story).plan.as_ref().unwrap().hash(), base, "nothing of it was applied");

    assert_eq!(edit(&mut story, vec![Edit::Drop { task: "read".into(), rewire: true }]), Ok(Vec::new()));
    let plan = goal(&story).plan.as_ref().unwrap();
    assert_eq!((plan.revision, plan.tasks.len()), (2, 1));
    assert_eq!(goal(&story).revisions.last().unwrap().by, Maker::Operator);

    let edits = vec![title(&story, "post")];
    let effects = story.order(Order::EditPlan { goal: goal_id(), base, edits });
    let [Effect::Answer { answer: Answer::Refused { reason }, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(reason.contains("has changed meanwhile, it is revision 2 now"), "{reason}");
    assert!(edit(&mut story, Vec::new()).is_err());
}

#[test]
fn an_edit_that_brings_in_a_risk_is_said_and_is_no_fault() {
    let mut story = asked(Approval::Ask);
    story.tell(answered(1, PLAN));
    let text = |story: &Story, words: &str| vec![change(story, "post", |task| task.objective = words.into())];
    let edits = text(&story, "Publish the post.");
    assert_eq!(edit(&mut story, edits), Ok(Vec::new()));
    assert_eq!(goal(&story).gates().map(|f| &*f.code).collect::<Vec<_>>(), ["P14"]);
    let edits = text(&story, "Do it as above.");
    assert!(edit(&mut story, edits).unwrap_err().contains("P08"));
}

#[test]
fn a_running_goal_is_edited_where_nothing_has_begun() {
    let mut story = Story::staffed();
    story.published(MicroUsd(1_000_000));
    story.started("marie/g1-read", 1);
    let edits = vec![title(&story, "read")];
    let stuck = edit(&mut story, edits).unwrap_err();
    assert!(stuck.contains("marie/g1-read runs or has ended"), "{stuck}");

    let mut added = goal(&story).plan.as_ref().unwrap().tasks[1].clone();
    (added.id, added.worker) = ("second-post".into(), "anga".into());
    added.objective = "Write another post, for the neighbours.".into();
    added.output = "Fifty words on a card.".into();
    let edits = vec![title(&story, "post"), Edit::Add { task: Box::new(added) }];
    let effects = edit(&mut story, edits).unwrap();
    let [Effect::Amend { withdraw, publish, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(withdraw, &[task("fabien/g1-post")]);
    let names: Vec<String> = publish.iter().map(|spec| spec.task.to_string()).collect();
    assert_eq!(names, ["anga/g1-second-post", "fabien/g1-post"]);
    let edits = vec![title(&story, "read")];
    assert!(edit(&mut story, edits).unwrap_err().contains("just being changed"));

    let specs = publish.clone();
    story.tell(Event::Task(TaskEvent::Withdrawn { task: task("fabien/g1-post") }));
    for spec in specs {
        let record = TaskRecord::new(spec, story.now);
        story.seen(record);
    }
    story.tell(Event::Goal(GoalEvent::Amended { id: goal_id() }));
    assert_eq!(goal(&story).tasks.len(), 3);
    assert_eq!(goal(&story).phase, GoalPhase::Running);
    assert!(story.ended("marie/g1-read", EndState::Done).contains(&assign("fabien/g1-post")));
}

#[test]
fn a_queue_that_cannot_follow_an_edit_leaves_the_plan_as_it_was() {
    let mut story = Story::staffed();
    story.published(MicroUsd(1_000_000));
    let before = goal(&story).plan.clone();
    let edits = vec![title(&story, "post")];
    edit(&mut story, edits).unwrap();
    story.tell(Event::Goal(GoalEvent::AmendFailed { id: goal_id(), message: "the disk is full".into() }));
    assert_eq!((&goal(&story).plan, goal(&story).published), (&before, true));
    assert_eq!(goal(&story).tasks.len(), 2);
}

#[test]
fn a_room_that_opens_in_the_middle_of_an_edit_asks_the_queue_again() {
    let mut story = Story::staffed();
    story.published(MicroUsd(1_000_000));
    let edits = vec![title(&story, "post")];
    let effects = edit(&mut story, edits).unwrap();
    let mut again = Vec::new();
    story.room.resume_goals(&mut again);
    assert_eq!(again, effects);
}

#[test]
fn an_answer_of_version_1_in_a_journal_is_judged_by_the_rules_of_then() {
    let old = r#"{"summary":"One.","tasks":[{"id":"read","worker":"marie","title":"Read","description":"Read it as above.",
        "dependencies":[],"done_when":["a list"],"minutes":2}]}"#;
    let line = format!(
        r#"{{"step":"answered","id":"g1","round":1,"text":{},"model":"opus","spend":{{"usage":{{}},"cost":0,"calls":1}}}}"#,
        serde_json::Value::from(old)
    );
    let event: GoalEvent = serde_json::from_str(&line).unwrap();
    let mut story = asked(Approval::Ask);
    assert_eq!(story.tell(Event::Goal(event)), []);
    assert!(goal(&story).needs_approval());
    assert_eq!(goal(&story).plan.as_ref().unwrap().tasks[0].objective, "Read it as above.");
}
