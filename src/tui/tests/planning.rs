//! Keys of the plan's review and of the talk with the orchestrator: what each sends, and what it never sends unasked.

use super::*;
use crate::{
    model::{Exchange, MicroUsd},
    orchestrator::plan::Edit,
};

/// The plan on top, the hand on its second task.
fn open(stage: &Stage) -> App {
    let mut app = looking(stage, WIDE);
    assert_eq!(orders(press(&mut app, &stage.state, "3 down")), []);
    app
}

fn edits(sent: Vec<Order>, stage: &Stage) -> Vec<Edit> {
    let hash = stage.state.goals.iter().next().unwrap().plan.as_ref().unwrap().hash();
    match <[Order; 1]>::try_from(sent).unwrap() {
        [Order::EditPlan { goal, base, edits }] if goal.as_str() == "g1" && base == hash => edits,
        [other] => panic!("{other:?}"),
    }
}

#[test]
fn e_changes_the_task_under_the_hand_as_a_text() {
    let stage = sample::planned();
    let mut app = open(&stage);
    press(&mut app, &stage.state, "E");
    let text = app.composer().text();
    assert!(app.is_composing() && text.contains("id: eval-junior\n") && text.contains("agent: marie\n"), "{text}");
    write(&mut app, &stage.state, "- it is one page");
    let sent = edits(orders(press(&mut app, &stage.state, "enter")), &stage);
    let [Edit::Change { task, to }] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((&**task, to.done_when.len(), &*to.worker), ("eval-junior", 2, "marie"));
    assert!(!app.is_composing() && matches!(app.popups(), [Popup::Plan { .. }]), "the plan is shown again");
}

#[test]
fn a_adds_a_task_m_joins_two_and_x_leaves_one_out_after_a_yes() {
    let stage = sample::planned();
    let mut app = open(&stage);
    press(&mut app, &stage.state, "A");
    assert!(app.composer().text().starts_with("id: new-task\n"));
    write(&mut app, &stage.state, "- it is there");
    let sent = edits(orders(press(&mut app, &stage.state, "enter")), &stage);
    assert!(
        matches!(&sent[..], [Edit::Add { task }] if task.id == "new-task" && task.done_when.len() == 1),
        "{sent:?}"
    );

    let mut app = open(&stage);
    assert_eq!(orders(press(&mut app, &stage.state, "M")), [], "asks once");
    let sent = edits(orders(press(&mut app, &stage.state, "y")), &stage);
    assert_eq!(sent, [Edit::Merge { tasks: vec!["eval-mini".into(), "eval-junior".into()] }]);
    // The first has none above it.
    let mut app = looking(&stage, WIDE);
    assert_eq!(orders(press(&mut app, &stage.state, "3 M y")), []);

    let mut app = open(&stage);
    assert_eq!(orders(press(&mut app, &stage.state, "x n x")), [], "asks each time");
    let sent = edits(orders(press(&mut app, &stage.state, "y")), &stage);
    assert_eq!(sent, [Edit::Drop { task: "eval-junior".into(), rewire: true }]);
}

#[test]
fn dollar_approves_up_to_a_sum_that_is_written() {
    let stage = sample::planned();
    let mut app = open(&stage);
    press(&mut app, &stage.state, "$ ctrl-u");
    write(&mut app, &stage.state, "much");
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), [], "no sum");
    press(&mut app, &stage.state, "ctrl-u");
    write(&mut app, &stage.state, "2.50");
    let ceiling = Some(MicroUsd::from_dollars(2.5));
    assert_eq!(
        orders(press(&mut app, &stage.state, "enter")),
        [Order::Approve { goal: "g1".parse().unwrap(), ceiling }]
    );
}

/// A goal whose planner asks something.
fn asking() -> Stage {
    asking_for(&["Who will read it?", "By when?"])
}

fn asking_for(questions: &[&str]) -> Stage {
    let mut stage = Stage::open();
    stage.order(2, Order::Goal { text: "Write a letter.".into(), approval: Approval::Ask, terms: Terms::default() });
    let questions = questions.iter().map(|question| (*question).to_owned()).collect();
    let talk = [Exchange { questions, answer: None }];
    stage.patch(&serde_json::json!({ "phase": { "phase": "asking", "round": 1 }, "talk": talk }));
    stage
}

#[test]
fn a_question_is_shown_where_approvals_are_and_the_same_key_answers_it() {
    let stage = asking();
    let mut app = looking(&stage, WIDE);
    insta::assert_snapshot!("plan_asks", screen(&stage.state, &app, at(12), WIDE));
    assert_eq!(orders(press(&mut app, &stage.state, "n a")), []);
    assert!(app.is_composing());
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), [], "nothing is no answer");
    write(&mut app, &stage.state, "The parents.");
    let order = Order::Answer { goal: "g1".parse().unwrap(), text: "The parents.".into() };
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), std::slice::from_ref(&order));
    // What the room did not take comes back as an answer, not as a goal.
    app.answered(&order, &Answer::Refused { reason: "the room is closing".into() });
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), [order]);
    let mut app = looking(&stage, WIDE);
    assert_eq!(orders(press(&mut app, &stage.state, "d y")), [Order::Deny { goal: "g1".parse().unwrap() }]);
}

#[test]
fn f_follows_up_on_the_goal_with_a_report_and_a_question_mark_only_asks() {
    let stage = sample::reported();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "F");
    write(&mut app, &stage.state, "Shorten it.");
    let terms = Terms { follows: Some("g1".parse().unwrap()), ..Terms::default() };
    let follow = Order::Goal { text: "Shorten it.".into(), approval: Approval::Ask, terms };
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), [follow]);
    press(&mut app, &stage.state, "g");
    write(&mut app, &stage.state, "? Fix the page");
    let who = Order::Goal { text: "Fix the page".into(), approval: Approval::Never, terms: Terms::default() };
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), [who]);
    let stage = sample::planned();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "F");
    assert!(!app.is_composing(), "nothing has a report");
}

#[test]
fn a_planners_question_has_the_width_that_there_is() {
    let long =
        "Which of the two recital weeks is meant, the one in the spring with the juniors or the one before Christmas?";
    let stage = asking_for(&[long]);
    for (size, wide) in [(SMALL, 40), (WIDE, 78), ((200, 60), long.len())] {
        let app = fresh(size);
        let shown = screen(&stage.state, &app, at(20), size);
        let line = shown.lines().find(|line| line.contains("asks: ")).unwrap();
        let head: String = long.chars().take(wide).collect();
        assert!(line.contains(&head) && line.contains("a answer · d leave it"), "{shown}");
    }
}
