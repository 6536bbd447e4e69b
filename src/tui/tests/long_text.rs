//! Texts that are longer than what the room knows of them.

use super::*;

fn task() -> TaskRef {
    teaser()
}

/// A stage in which a task with a long text has failed: the room has its beginning.
fn with_long_text() -> (Stage, String) {
    let mut stage = sample::running();
    let lines: Vec<String> = (1..=400).map(|n| format!("Line {n}: what is to be said about it.")).collect();
    let text = lines.join("\n") + "\n";
    let mut record = stage.state.tasks.get(&task()).unwrap().record.clone();
    record.spec.description = crate::model::text::clip(&text, TaskRecord::TEXT_LIMIT).into_owned();
    stage.tell(121, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    (stage, text)
}

#[test]
fn a_long_text_is_read_whole_edited_here_and_sent_whole() {
    let (stage, text) = with_long_text();
    let mut app = looking(&stage, SMALL);
    let wishes = press(&mut app, &stage.state, "n R e");
    assert!(wishes.contains(&Wish::ReadTask(task())), "{wishes:?}");
    assert!(!app.is_composing(), "not before it is there");
    app.task_read(&task(), Ok(&text));
    assert!(app.is_composing());
    let shown = screen(&stage.state, &app, at(122), SMALL);
    insta::assert_snapshot!("long_text_80x24", shown);
    app.paste(&"0123456789".repeat(10_000));
    assert_eq!(app.composer().text().len(), text.len() + 100_000, "all of the paste");
    let shown = screen(&stage.state, &app, at(122), SMALL);
    assert!(shown.contains("23456789012345"), "{shown}");
    write(&mut app, &stage.state, "!");
    let sent = orders(press(&mut app, &stage.state, "enter"));
    let [Order::Retry { changes, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    let said = changes.description.as_ref().unwrap();
    assert!(said.starts_with("Line 1:") && said.ends_with("789!") && said.len() == text.trim_end().len() + 1 + 100_001);
}

#[test]
fn a_text_that_comes_too_late_or_not_at_all_takes_nothing_away() {
    let (stage, text) = with_long_text();
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "n R e esc g");
    write(&mut app, &stage.state, "Something else");
    app.task_read(&task(), Ok(&text));
    assert_eq!(app.composer().text(), "Something else");
    assert!(app.message().is_some_and(|m| m.text.contains("is not edited")));
    press(&mut app, &stage.state, "esc n R e");
    app.task_read(&task(), Err("it is gone"));
    assert!(app.message().is_some_and(|m| m.bad && m.text == "its text could not be read: it is gone"));
    // Nobody waits for it any more.
    app.task_read(&task(), Ok(&text));
    assert!(!app.is_composing());
    press(&mut app, &stage.state, "n R e");
    app.task_read(&task(), Ok(&"x".repeat(crate::tui::composer::LIMIT + 1)));
    assert!(app.message().is_some_and(|m| m.text.contains("podium retry post-teaser --edit")));
}

#[test]
fn a_paste_beyond_the_limit_is_cut_and_said_to_be() {
    let stage = Stage::open();
    let mut app = fresh(SMALL);
    app.paste(&"é".repeat(crate::tui::composer::LIMIT + 7));
    assert_eq!(app.composer().text().chars().count(), crate::tui::composer::LIMIT);
    assert!(app.message().is_some_and(|m| m.bad && m.text.contains("the rest was left out")));
    let shown = screen(&stage.state, &app, at(5), SMALL);
    assert!(shown.contains("éééé"), "{shown}");
}
