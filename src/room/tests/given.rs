//! Stories of workflows: judged by the rules of every plan, and refused where those are broken.

use super::*;
use crate::{
    model::{Plan, plan::Maker},
    orchestrator::workflow::{Values, Workflow, make},
};

fn file(estimates: &str) -> Plan {
    let text = format!(
        r#"{{"name": "Demo", "tasks": [{{"id": "a", "agent": "marie", "description": "Look at the class."{estimates}}},
            {{"id": "b", "agent": "fabien", "description": "Write the letter.", "inputs": ["a"]{estimates}}}]}}"#
    );
    make(&Workflow::read(&text).unwrap(), &Values::new()).unwrap().plan
}

const SAID: &str = r#", "estimates": {"minutes": 2, "tokens": 3000}"#;

fn give(story: &mut Story, plan: Plan, budget: Option<MicroUsd>) -> Vec<Effect> {
    let terms = Terms { budget, ..Terms::default() };
    let approval = Approval::Auto { ceiling: MicroUsd(10_000_000) };
    story.order(Order::Workflow { text: "Demo".into(), plan: Box::new(plan), approval, terms })
}

#[test]
fn a_workflow_starts_like_an_approved_plan_and_says_who_made_it() {
    let mut story = Story::staffed();
    let effects = give(&mut story, file(SAID), None);
    let [Effect::Answer { answer: Answer::Done { ids, .. }, .. }, Effect::Publish { tasks, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((&**ids, tasks.len()), (&["g1".to_owned()][..], 2));
    assert_eq!(tasks[1].dependencies.len(), 1);
    let goal = story.room.goals.get(&goal_id()).unwrap();
    assert_eq!((goal.revisions[0].by, goal.planning_cost()), (Maker::Workflow, MicroUsd(0)));
}

#[test]
fn where_nobody_says_what_it_takes_a_person_does_or_a_budget_of_its_own() {
    let mut story = Story::staffed();
    give(&mut story, file(""), None);
    assert!(story.room.goals.get(&goal_id()).unwrap().gates().any(|fault| fault.code == "P13"));
    let effects = give(&mut story, file(""), Some(MicroUsd(1_000_000)));
    assert!(matches!(effects.last(), Some(Effect::Publish { .. })), "{effects:?}");
    // No cap is no answer.
    give(&mut story, file(""), Some(MicroUsd(0)));
    assert!(story.room.goals.get(&"g3".parse().unwrap()).unwrap().needs_approval());
}

#[test]
fn a_workflow_that_breaks_a_rule_is_refused_and_is_no_goal() {
    let mut story = Story::staffed();
    let mut plan = file(SAID);
    plan.tasks[0].worker = "stranger".into();
    plan.tasks[0].dependencies = vec!["b".into()];
    let effects = give(&mut story, plan, None);
    let [Effect::Answer { answer: Answer::Refused { reason }, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(reason.contains("P04 tasks[0].worker") && reason.contains("P06"), "{reason}");
    assert_eq!(story.room.goals.iter().count(), 0);
}

#[test]
fn a_chain_longer_than_a_planners_is_a_workflow_all_the_same() {
    let mut story = Story::staffed();
    let mut plan = file(SAID);
    let task = plan.tasks[1].clone();
    for n in 0..20 {
        let before = plan.tasks.last().unwrap().id.clone();
        let mut next = task.clone();
        next.id = format!("b{n}");
        next.objective = format!("Write letter number {n}.");
        next.dependencies = vec![before.clone()];
        next.inputs[0].dependency = before;
        plan.tasks.push(next);
    }
    let effects = give(&mut story, plan, None);
    assert!(matches!(effects.last(), Some(Effect::Publish { tasks, .. }) if tasks.len() == 22), "{effects:?}");
    let faults = &story.room.goals.get(&goal_id()).unwrap().faults;
    let alike = |fault: &Fault| fault.code == "P10" && fault.severity == Severity::Suggest;
    assert!(faults.iter().all(alike) && faults.len() == 20, "{faults:?}");
}

#[test]
fn an_order_that_was_refused_for_what_a_replay_does_not_know_makes_no_goal_there_either() {
    let mut story = Story::staffed();
    story.room.budgets.caps.day = Some(MicroUsd(1));
    story.room.money.today.cost = MicroUsd(2);
    let effects = give(&mut story, file(SAID), None);
    let [Effect::Answer { answer: Answer::Refused { .. }, .. }, Effect::Keep { fact }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let fact = (**fact).clone();
    assert_eq!(story.tell(fact.clone()), []);
    // The journal tells the order, and then that it was refused.
    let mut replayed = Story::staffed();
    give(&mut replayed, file(SAID), None);
    replayed.tell(fact);
    assert_eq!(replayed.room.goals.iter().count(), 0);
}
