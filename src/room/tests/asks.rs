//! What agents ask for: who answers, what follows, and what is left after a restart.

use super::*;

fn ask(request: &str, tool: &str) -> Ask {
    let input = serde_json::json!({ "command": "rm -rf build" });
    Ask::new(request, tool, &format!("{tool} rm -rf build"), &input, "")
}

fn asks(story: &mut Story, request: &str, tool: &str) -> Vec<Effect> {
    let report = Report::Asked { attempt: task("marie/a").attempt(1), ask: Box::new(ask(request, tool)) };
    story.report("marie", report)
}

/// The answers among effects, by the engine's own name.
fn answers(effects: &[Effect]) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    for effect in effects {
        if let Effect::Permit { request, permit, .. } = effect {
            found.push((request.as_str(), permit.is_allowed()));
        }
    }
    found
}

/// Applies what was kept.
fn keep(story: &mut Story, effects: Vec<Effect>) -> Vec<Effect> {
    let mut more = Vec::new();
    for effect in effects {
        if let Effect::Keep { fact } = effect {
            assert!(fact.is_fact(), "{fact:?}");
            more.extend(story.tell(*fact));
        } else {
            more.push(effect);
        }
    }
    more
}

fn running() -> Story {
    let mut story = Story::staffed();
    story.dropped("marie/a", &[]);
    story.started("marie/a", 1);
    story
}

#[test]
fn a_request_waits_for_a_person_and_their_word_goes_to_its_worker() {
    let mut story = running();
    assert_eq!(asks(&mut story, "r1", "Bash"), []);
    assert_eq!(story.why("marie/a"), "asks for Bash rm -rf build");
    assert_eq!(story.room.needs_you(), [Need::Permit(AskId(1))]);
    // The same again, after the connection broke, is the same request.
    assert_eq!(asks(&mut story, "r1", "Bash"), []);
    assert_eq!(story.room.asks.open().len(), 1);
    let effects = story.order(Order::Permit { ask: AskId(1), always: false });
    assert_eq!(answers(&effects), [("r1", true)]);
    keep(&mut story, effects);
    assert!(story.room.asks.open().is_empty() && story.room.needs_you().is_empty());
    // Its worker did not get the answer, and asks again.
    let again = asks(&mut story, "r1", "Bash");
    assert_eq!(answers(&again), [("r1", true)]);
    let late = story.order(Order::Forbid { ask: AskId(1) });
    assert!(matches!(&late[..], [Effect::Answer { answer: Answer::Refused { .. }, .. }]), "{late:?}");
}

#[test]
fn always_is_for_that_tool_and_that_task() {
    let mut story = running();
    asks(&mut story, "r1", "Bash");
    let effects = story.order(Order::Permit { ask: AskId(1), always: true });
    keep(&mut story, effects);
    let effects = asks(&mut story, "r2", "Bash");
    assert_eq!(answers(&effects), [("r2", true)], "asked for again, nobody is bothered");
    keep(&mut story, effects);
    assert_eq!(asks(&mut story, "r3", "Write"), []);
    assert_eq!(story.room.asks.open().len(), 1);
    let by: Vec<By> = story.room.asks.record().map(|(_, settled)| settled.by).collect();
    assert_eq!(by, [By::Always, By::Rule]);
    story.ended("marie/a", EndState::Done);
    assert!(story.room.asks.open().is_empty(), "nobody waits for an attempt that is over");
}

#[test]
fn what_nobody_answers_in_time_is_denied_and_recorded() {
    let mut story = running();
    asks(&mut story, "r1", "Bash");
    assert_eq!(story.room.next_wake(), Some(story.now + SignedDuration::from_mins(5)));
    assert_eq!(answers(&story.later(299)), []);
    let effects = story.later(1);
    assert_eq!(answers(&effects), [("r1", false)]);
    keep(&mut story, effects);
    assert!(story.room.lines.back().unwrap().text.ends_with("denied: nobody answered in time"));
    assert_eq!(story.room.asks.record().next().unwrap().1.by, By::Nobody);
}

#[test]
fn where_nobody_is_there_everything_is_denied_at_once() {
    let mut story = running();
    story.room.asks.asking.attended = false;
    let effects = asks(&mut story, "r1", "Bash");
    assert_eq!(answers(&effects), [("r1", false)]);
    keep(&mut story, effects);
    assert_eq!(story.room.asks.record().next().unwrap().1.by, By::Unattended);
    assert!(story.room.needs_you().is_empty());
}

#[test]
fn three_denials_of_a_tool_pause_the_task_until_a_person_lets_it_go_on() {
    let mut story = running();
    for (n, tool) in (1..).zip(["Bash", "Write", "Bash", "Bash"]) {
        asks(&mut story, &format!("r{n}"), tool);
        let effects = story.order(Order::Forbid { ask: AskId(n) });
        let then = keep(&mut story, effects);
        let ends = then.iter().any(|e| matches!(e, Effect::EndAttempt { ending: Ending::Paused, .. }));
        assert_eq!(ends, n == 4, "after {n}: {then:?}");
    }
    let attempt = task("marie/a").attempt(1);
    let (ending, spend) = (Ending::Paused, Spend::default());
    let effects =
        story.report("marie", Report::Failed { attempt, ending, spend, not_before: story.now, at: story.now });
    assert_eq!(effects, [], "it does not start again");
    assert_eq!(story.room.needs_you(), [Need::Paused(task("marie/a"))]);
    assert_eq!(story.why("marie/a"), "paused: Bash was denied 3 times");
    let found = story.room.tasks.get(&task("marie/a")).unwrap();
    assert_eq!((story.room.tasks.phase(found), story.room.tasks.counts().paused), (Phase::Paused, 1));
    let effects = story.order(Order::ResumeTask { task: task("marie/a") });
    assert!(keep(&mut story, effects).contains(&assign("marie/a")), "it goes on");
    // And is forgiven: the next denial is the first.
    story.started("marie/a", 2);
    let report = Report::Asked { attempt: task("marie/a").attempt(2), ask: Box::new(ask("r9", "Bash")) };
    story.report("marie", report);
    let effects = story.order(Order::Forbid { ask: AskId(5) });
    keep(&mut story, effects);
    assert!(story.room.tasks.paused(&task("marie/a")).is_none());
}

#[test]
fn a_person_pauses_a_task_that_runs_one_that_waits_and_none_that_is_over() {
    let mut story = running();
    story.dropped("marie/b", &[]);
    let effects = story.order(Order::PauseTask { task: task("marie/b") });
    keep(&mut story, effects);
    assert_eq!(story.why("marie/b"), "paused by a person");
    assert!(story.room.needs_you().is_empty(), "whoever did it knows");
    assert_eq!(story.ended("marie/a", EndState::Done), [], "b would be next");
    let refused = story.order(Order::PauseTask { task: task("marie/a") });
    assert!(matches!(&refused[..], [Effect::Answer { answer: Answer::Refused { .. }, .. }]), "{refused:?}");
    let effects = story.order(Order::ResumeTask { task: task("marie/b") });
    assert!(keep(&mut story, effects).contains(&assign("marie/b")));
}

#[test]
fn a_new_room_knows_what_was_paused_and_what_was_allowed_before_it_knows_the_tasks() {
    let mut story = running();
    asks(&mut story, "r1", "Bash");
    let mut facts = Vec::new();
    for order in [Order::Permit { ask: AskId(1), always: true }, Order::PauseTask { task: task("marie/a") }] {
        for effect in story.order(order) {
            if let Effect::Keep { fact } = effect {
                facts.push(*fact.clone());
                story.tell(*fact);
            }
        }
    }
    let mut new = Story { room: State::default(), now: story.now, orders: 0 };
    for fact in facts {
        let line = serde_json::to_string(&fact).unwrap();
        drop(new.tell(serde_json::from_str(&line).unwrap()));
    }
    drop(new.tell(Event::Opened(Box::new(opened()))));
    for (pid, name) in (100..).zip(["marie", "anga", "fabien"]) {
        new.worker(WorkerEvent::Connected { slot: slot(name), pid, running: None });
    }
    assert_eq!(new.dropped("marie/a", &[]), [], "it stays paused");
    let effects = new.order(Order::ResumeTask { task: task("marie/a") });
    keep(&mut new, effects);
    new.started("marie/a", 1);
    let effects = asks(&mut new, "r2", "Bash");
    assert_eq!(answers(&effects), [("r2", true)]);
}

#[test]
fn an_agent_starts_anew_when_what_it_runs_has_ended() {
    let mut story = running();
    story.dropped("marie/b", &[]);
    let effects = story.order(Order::Restart { agent: agent("marie") });
    let leaves = Effect::StopWorker { slot: slot("marie"), drain: true };
    assert!(effects.contains(&leaves) && effects.len() == 2, "{effects:?}");
    assert_eq!(story.ended("marie/a", EndState::Done), [], "the one that leaves gets nothing more");
    let effects = story.worker(WorkerEvent::Exited { slot: slot("marie"), pid: 100, how: "exit 0".into() });
    assert_eq!(effects, [Effect::SpawnWorker { slot: slot("marie"), epoch: 2 }]);
    let effects = story.worker(WorkerEvent::Connected { slot: slot("marie"), pid: 200, running: None });
    assert_eq!(effects, [assign("marie/b")]);
}

fn question() -> Ask {
    let input = serde_json::json!({ "questions": [
        { "question": "Which one?", "options": [{ "label": "A" }, { "label": "B" }] },
        { "question": "Which of them?", "multiSelect": true, "options": [{ "label": "X" }, { "label": "Y" }] },
    ] });
    let asked = Question::read(&input);
    Ask::new("r1", "AskUserQuestion", "AskUserQuestion Which one?", &input, "").asking(asked)
}

fn asked_something() -> Story {
    let mut story = running();
    let report = Report::Asked { attempt: task("marie/a").attempt(1), ask: Box::new(question()) };
    assert_eq!(story.report("marie", report), []);
    story
}

#[test]
fn a_question_takes_an_answer_to_each_part_and_nothing_else() {
    let mut story = asked_something();
    assert_eq!(story.why("marie/a"), "asks: Which one? Which of them?");
    let one = Reply { chosen: vec![1], words: String::new() };
    let both = Reply { chosen: vec![0, 1], words: "and Z".into() };
    let reply = |replies: Vec<Reply>| Order::Reply { ask: AskId(1), replies };
    for (order, why) in [
        (Order::Permit { ask: AskId(1), always: false }, "p1 is a question: choose an answer, or write one"),
        (Order::Permit { ask: AskId(1), always: true }, "p1 is a question: choose an answer, or write one"),
        (reply(vec![one.clone()]), "p1 has 2 questions, and this answers 1"),
        (reply(vec![both.clone(), one.clone()]), "`Which one?` takes one choice"),
        (reply(vec![one.clone(), Reply::default()]), "`Which of them?` is not answered"),
    ] {
        let effects = story.order(order);
        assert!(
            matches!(&effects[..], [Effect::Answer { answer: Answer::Refused { reason }, .. }] if reason == why),
            "{why}: {effects:?}"
        );
    }
    let effects = story.order(reply(vec![one.clone(), both.clone()]));
    let sent =
        effects.iter().find_map(|e| if let Effect::Permit { permit, .. } = e { Some(permit.clone()) } else { None });
    assert_eq!(sent, Some(Permit::Answered { replies: vec![one, both] }));
    keep(&mut story, effects);
    let said = &story.room.lines.back().unwrap().text;
    assert_eq!(said, "marie/a asked `Which one?`: B; asked `Which of them?`: X, Y, and Z");
    // The answer is found again where its way was cut.
    let report = Report::Asked { attempt: task("marie/a").attempt(1), ask: Box::new(question()) };
    assert_eq!(answers(&story.report("marie", report)), [("r1", true)]);
}

#[test]
fn nobody_there_to_answer_is_told_to_the_model_and_recorded() {
    let mut story = running();
    story.room.asks.asking.attended = false;
    let report = Report::Asked { attempt: task("marie/a").attempt(1), ask: Box::new(question()) };
    let effects = story.report("marie", report);
    let told = effects.iter().find_map(|e| {
        if let Effect::Permit { permit: Permit::Denied { why }, .. } = e { Some(why.clone()) } else { None }
    });
    let why = "nobody is there to be asked; decide as you think best, and say what you assumed";
    assert_eq!(told.as_deref(), Some(why));
    keep(&mut story, effects);
    assert_eq!(story.room.asks.record().next().unwrap().1.by, By::Unattended);
    let mut story = asked_something();
    let effects = story.later(300);
    assert_eq!(answers(&effects), [("r1", false)], "and nobody in time is the same");
}

#[test]
fn what_an_engine_takes_back_waits_no_more_and_a_late_answer_hears_why() {
    let mut story = running();
    asks(&mut story, "r1", "Bash");
    asks(&mut story, "r2", "Write");
    let back = |request: &str| Report::Withdrawn { attempt: task("marie/a").attempt(1), request: request.into() };
    assert_eq!(story.report("marie", back("r1")), []);
    assert_eq!(story.room.needs_you(), [Need::Permit(AskId(2))]);
    let said = &story.room.lines.back().unwrap().text;
    assert_eq!(said, "marie/a asked for Bash rm -rf build: taken back before anybody answered");
    let late = story.order(Order::Permit { ask: AskId(1), always: false });
    let why = "p1 does not wait for an answer any more: the agent's engine has taken it back";
    assert!(
        matches!(&late[..], [Effect::Answer { answer: Answer::Refused { reason }, .. }] if reason == why),
        "{late:?}"
    );
    // The answer and the word that it is not wanted any more may cross.
    let effects = story.order(Order::Permit { ask: AskId(2), always: false });
    keep(&mut story, effects);
    story.report("marie", back("r2"));
    let said = &story.room.lines.back().unwrap().text;
    assert!(said.ends_with("taken back before the answer had reached it"), "{said}");
    let lines = story.room.lines.len();
    story.report("marie", back("r7"));
    assert_eq!(story.room.lines.len(), lines, "what nobody knows of is nothing");
}

#[test]
fn a_sub_agents_request_names_it() {
    let mut story = running();
    let ask = Box::new(ask("r1", "Bash").by("general-purpose: Second look"));
    story.report("marie", Report::Asked { attempt: task("marie/a").attempt(1), ask });
    assert_eq!(story.why("marie/a"), "asks for Bash rm -rf build · general-purpose: Second look");
}
