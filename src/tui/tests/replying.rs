//! What an agent wants to know, answered by keys.

use super::*;
use crate::model::{Ask, AskId, Question, Reply};

fn wants_to_know(stage: &mut Stage) {
    let task: TaskRef = "anga/api-tests".parse().unwrap();
    let slot = stage.state.agents.holder(&task).unwrap().id.clone();
    let input = serde_json::json!({ "questions": [
        { "question": "Which \u{1b}[2Jdatabase do the tests run against?", "header": "Database", "multiSelect": false,
          "options": [{ "label": "SQLite", "description": "In memory; nothing to start, but no advisory locks" },
                      { "label": "[bold]Postgres[/bold]", "description": "As in production" }] },
        { "question": "Which parts matter most?", "header": "Parts", "multiSelect": true,
          "options": [{ "label": "Sign-up" }, { "label": "Payments" }, { "label": "日本語のメール" }] },
    ] });
    let ask =
        Ask::new("r1", "AskUserQuestion", "AskUserQuestion Which database", &input, "").asking(Question::read(&input));
    let report = Report::Asked { attempt: task.attempt(1), ask: Box::new(ask) };
    stage.tell(110, Event::Worker(WorkerEvent::Reported { slot, report }));
}

fn reply(chosen: &[usize], words: &str) -> Reply {
    Reply { chosen: chosen.to_vec(), words: words.to_owned() }
}

fn answer(replies: &[Reply]) -> Order {
    Order::Reply { ask: AskId(1), replies: replies.to_vec() }
}

#[test]
fn a_question_is_in_the_inbox_shown_as_data_and_answered_by_key() {
    let mut stage = sample::running();
    wants_to_know(&mut stage);
    for size in [SMALL, WIDE] {
        let mut app = looking(&stage, size);
        press(&mut app, &stage.state, "I");
        let inbox = screen(&stage.state, &app, at(120), size);
        assert!(inbox.contains("asks you anga/api-tests") && inbox.contains("Which database do"), "{inbox}");
        press(&mut app, &stage.state, "enter down");
        insta::assert_snapshot!(format!("question_{}x{}", size.0, size.1), screen(&stage.state, &app, at(120), size));
        // Enter takes what is under the hand and goes on to the next question; the last enter sends.
        assert_eq!(orders(press(&mut app, &stage.state, "enter")), []);
        assert_eq!(orders(press(&mut app, &stage.state, "space down down space")), []);
        assert_eq!(orders(press(&mut app, &stage.state, "enter")), [answer(&[reply(&[1], ""), reply(&[0, 2], "")])]);
        assert!(app.popups().is_empty(), "it is gone from the screen");
    }
}

#[test]
fn one_choice_is_chosen_anew_and_several_come_and_go() {
    let mut stage = sample::running();
    wants_to_know(&mut stage);
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "n");
    assert_eq!(orders(press(&mut app, &stage.state, "a")), [], "nothing is answered yet");
    assert!(app.message().is_some_and(|m| m.text == "choose an answer first: space takes what is under the hand"));
    press(&mut app, &stage.state, "space down space");
    press(&mut app, &stage.state, "down down space down space up space");
    assert_eq!(orders(press(&mut app, &stage.state, "a")), [answer(&[reply(&[1], ""), reply(&[1], "")])]);
}

#[test]
fn own_words_are_an_answer_too_and_leaving_them_leads_back() {
    let mut stage = sample::running();
    wants_to_know(&mut stage);
    let mut app = looking(&stage, SMALL);
    app.compose("my goal");
    press(&mut app, &stage.state, "esc n o");
    write(&mut app, &stage.state, "MariaDB, o and q");
    assert!(screen(&stage.state, &app, at(120), SMALL).contains("answer p1"));
    press(&mut app, &stage.state, "esc");
    assert!(matches!(app.popups().last(), Some(Popup::Permit { .. })), "back where it was");
    assert_eq!(app.composer().text(), "my goal");
    // The row behind the choices is the one for own words.
    press(&mut app, &stage.state, "down down enter");
    write(&mut app, &stage.state, "MariaDB");
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), [], "the other question is open");
    let shown = screen(&stage.state, &app, at(120), SMALL);
    assert!(shown.contains("▌ [ ] Sign-up"), "{shown}");
    press(&mut app, &stage.state, "down space o");
    write(&mut app, &stage.state, "refunds");
    assert_eq!(
        orders(press(&mut app, &stage.state, "enter")),
        [answer(&[reply(&[], "MariaDB"), reply(&[1], "refunds")])]
    );
    assert_eq!(app.composer().text(), "my goal", "the draft is as it was");
}

#[test]
fn a_question_is_left_without_an_answer_by_a_no_and_one_that_was_taken_back_by_nothing() {
    let mut stage = sample::running();
    wants_to_know(&mut stage);
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "n");
    assert_eq!(orders(press(&mut app, &stage.state, "d")), [Order::Forbid { ask: AskId(1) }]);
    press(&mut app, &stage.state, "I enter o");
    write(&mut app, &stage.state, "Late");
    let task: TaskRef = "anga/api-tests".parse().unwrap();
    let slot = stage.state.agents.holder(&task).unwrap().id.clone();
    let report = Report::Withdrawn { attempt: task.attempt(1), request: "r1".into() };
    stage.tell(120, Event::Worker(WorkerEvent::Reported { slot, report }));
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), []);
    assert!(app.message().is_some_and(|m| m.bad && m.text.contains("does not wait")), "{:?}", app.message());
    assert_eq!(app.composer().text(), "Late", "what was written is not lost");
    press(&mut app, &stage.state, "esc I");
    assert!(!screen(&stage.state, &app, at(122), SMALL).contains("asks you"));
}
