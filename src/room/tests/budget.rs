//! Budgets: one warning, then nothing more starts, and what runs is ended.

use super::*;
use crate::model::{
    budget::{AtCap, Caps, Reached},
    gateway::{Call, CallEnd, Caller, EngineTotal},
};

fn caps(task: i64, day: i64) -> Caps {
    let cap = |dollars: i64| Some(MicroUsd(dollars * 1_000_000)).filter(|cap| cap.0 > 0);
    Caps { task: cap(task), goal: None, day: cap(day), at_cap: AtCap::End }
}

impl Story {
    fn with(caps: Caps) -> Self {
        let mut story = Self::staffed();
        story.room.budgets.caps = caps;
        story
    }

    /// A call of the task's first attempt that costs so many cents.
    pub(super) fn pays(&mut self, name: &str, cents: i64) -> Vec<Effect> {
        let attempt = task(name).attempt(1);
        let caller = Caller::Worker { agent: attempt.task.agent.clone(), attempt: Some(attempt) };
        let cost = MicroUsd(cents * 10_000);
        let call = Call { end: CallEnd::Complete, cost, ..Call::new(self.now.to_string(), self.now, caller) };
        self.tell(Event::Gateway(GatewayEvent::Called { call: Box::new(call), appraisal: None }))
    }

    fn lines(&self) -> Vec<&str> {
        self.room.lines.iter().map(|line| line.text.as_str()).collect()
    }
}

fn budget(effects: &[Effect]) -> Vec<(String, String)> {
    let ended = |effect: &Effect| {
        if let Effect::EndAttempt { attempt, ending, .. } = effect {
            Some((attempt.to_string(), ending.sentence()))
        } else if let Effect::EndTask { task, ending, .. } = effect {
            Some((task.to_string(), ending.sentence()))
        } else {
            None
        }
    };
    effects.iter().filter_map(ended).collect()
}

#[test]
fn a_person_is_warned_once_at_eighty_percent_and_the_attempt_is_ended_at_the_cap() {
    let mut story = Story::with(caps(2, 0));
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    assert_eq!(story.pays("marie/a", 159), []);
    assert!(story.lines().is_empty());
    assert_eq!((story.pays("marie/a", 1), story.pays("marie/a", 10)), (vec![], vec![]));
    assert_eq!(story.lines(), ["the budget of task marie/a: $1.60 of $2.00 spent (80 %)"]);
    let said = "the budget of task marie/a is used up: $2.01 of $2.00";
    assert_eq!(budget(&story.pays("marie/a", 31)), [("marie/a#1".to_owned(), said.to_owned())]);
    assert_eq!(story.pays("marie/a", 1), [], "told once");
    assert_eq!(story.lines().last(), Some(&said));
    let standing = &story.room.budgets()[0];
    assert_eq!((standing.percent(), standing.reached.is_some(), standing.clears_at), (101, true, None));
}

#[test]
fn a_task_that_is_retried_within_a_used_up_budget_ends_at_once_and_with_more_it_starts() {
    let mut story = Story::with(caps(2, 0));
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    story.pays("marie/a", 200);
    let mut record = story.room.tasks.get(&task("marie/a")).unwrap().record.clone();
    story.ended("marie/a", EndState::Failed);
    record.standing = Standing::Waiting;
    record.attempts.clear();
    let ended = story.seen(record.clone());
    assert_eq!(budget(&ended).len(), 1, "{ended:?}");
    assert_eq!(story.later(1), []);
    record.spec.budget = Some(MicroUsd(3_000_000));
    assert_eq!(story.seen(record), [assign("marie/a")]);
}

#[test]
fn when_the_days_budget_is_used_up_nothing_starts_before_midnight() {
    let mut story = Story::with(caps(0, 5));
    story.now = "2026-11-22T23:00:00Z".parse().unwrap();
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    story.dropped("marie/b", &[]);
    let said = "the day's budget is used up: $5.00 of $5.00; it clears at 00:00 UTC";
    assert_eq!(budget(&story.pays("marie/a", 500)), [("marie/a#1".to_owned(), said.to_owned())]);
    let ending = Ending::DayBudget { message: said.into() };
    assert_eq!((ending.counts(), ending.verdict(1, 1)), (false, Verdict::Retry));
    let report = Report::Failed {
        attempt: task("marie/a").attempt(1),
        ending,
        spend: Spend::default(),
        not_before: story.now,
        at: story.now,
    };
    assert_eq!(story.report("marie", report), []);
    assert_eq!((story.why("marie/a"), story.why("marie/b")), (said.to_owned(), said.to_owned()));
    let refused = story.order(Order::Goal { text: "More.".into(), approval: Approval::Ask, terms: Terms::default() });
    assert!(
        matches!(&refused[..], [Effect::Answer { answer: Answer::Refused { reason }, .. }, Effect::Keep { .. }] if reason == said)
    );
    assert_eq!(story.room.next_wake(), Some("2026-11-23T00:00:00Z".parse().unwrap()));
    assert_eq!(story.later(3_600), [assign("marie/a")]);
    assert_eq!(story.lines().last(), Some(&"a new day: its budget is whole, work goes on"));
    assert_eq!(story.room.money.today, Spend::default());
}

#[test]
fn a_refused_call_closes_its_budget_although_a_little_is_left() {
    let mut story = Story::with(caps(0, 5));
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    story.pays("marie/a", 495);
    let (cap, spent) = (MicroUsd(5_000_000), MicroUsd(4_950_000));
    let reached = Reached { payer: Payer::Day, spent, cap, next: Some(MicroUsd(90_000)) };
    let effects = story.tell(Event::Gateway(GatewayEvent::Refused { reached: reached.clone() }));
    assert_eq!(budget(&effects), [("marie/a#1".to_owned(), reached.to_string())]);
    assert_eq!(story.dropped("anga/b", &[]), []);
    assert_eq!(story.why("anga/b"), reached.to_string());
    // A room with another cap knows nothing of it.
    story.room.budgets.caps.day = Some(MicroUsd(6_000_000));
    assert_eq!(story.later(1), [assign("anga/b")]);
}

#[test]
fn what_runs_may_finish_where_that_is_the_policy_and_nothing_more_starts() {
    let mut story = Story::with(Caps { at_cap: AtCap::Finish, ..caps(0, 5) });
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    assert_eq!(story.pays("marie/a", 600), []);
    assert_eq!(story.dropped("anga/b", &[]), []);
    assert_eq!(story.ended("marie/a", EndState::Done), []);
}

#[test]
fn a_goals_budget_counts_planning_and_all_its_tasks() {
    let mut story = Story::with(Caps { goal: Some(MicroUsd(1_000_000)), ..Caps::default() });
    story.order(Order::Goal { text: "Announce.".into(), approval: Approval::Ask, terms: Terms::default() });
    let caller = Caller::Orchestrator { goal: Some(goal_id()) };
    let call = Call { cost: MicroUsd(400_000), ..Call::new("1".into(), story.now, caller) };
    story.tell(Event::Gateway(GatewayEvent::Called { call: Box::new(call), appraisal: None }));
    story.tell(answered(1, PLAN));
    let effects = story.order(Order::Approve { goal: goal_id(), ceiling: None });
    let Some(Effect::Publish { tasks, .. }) = effects.last() else { panic!("{effects:?}") };
    for spec in tasks.clone() {
        let record = TaskRecord::new(spec, story.now);
        story.seen(record);
    }
    story.tell(Event::Goal(GoalEvent::Published { id: goal_id() }));
    story.started("marie/g1-read", 1);
    let ended = budget(&story.pays("marie/g1-read", 60));
    let names: Vec<&str> = ended.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fabien/g1-post", "marie/g1-read#1"]);
    assert_eq!(ended[0].1, "the budget of goal g1 is used up: $1.00 of $1.00");
}

#[test]
fn an_engine_whose_calls_do_not_pass_the_gateway_is_counted_by_its_own_word() {
    let mut story = Story::with(caps(0, 5));
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    let said = |cents: i64| {
        let spend = Spend { cost: MicroUsd(cents * 10_000), calls: 3, ..Spend::default() };
        let total = EngineTotal { at: story.now, attempt: task("marie/a").attempt(1), spend };
        Event::Gateway(GatewayEvent::EngineSaid { total })
    };
    let event = said(450);
    story.tell(event);
    assert_eq!(story.room.money.today.shown(), "~$4.50");
    assert_eq!(story.lines(), ["the day's budget: ~$4.50 of $5.00 spent (90 %)"]);
    // Another task's calls do pass: there the engine's word is only compared.
    story.dropped("anga/b", &[]);
    story.started("anga/b", 1);
    story.pays("anga/b", 10);
    let spend = Spend { cost: MicroUsd(200_000), calls: 3, ..Spend::default() };
    let total = EngineTotal { at: story.now, attempt: task("anga/b").attempt(1), spend };
    story.tell(Event::Gateway(GatewayEvent::EngineSaid { total }));
    assert_eq!(story.room.money.today.cost, MicroUsd(4_600_000));
    assert_eq!(story.room.money.drifts.back().unwrap().cost_percent(), Some(-100));
}
