//! Calling the operator: what is put off, what is said once, what happened meanwhile.

use super::*;

#[test]
fn what_is_put_off_comes_back_by_itself_and_n_goes_past_it() {
    let mut stage = sample::running();
    stage.tell(121, Event::Task(TaskEvent::Changed { record: Box::new(dead("anga/buried")) }));
    let mut app = looking(&stage, SMALL);
    let names = |app: &App, stage: &Stage| -> Vec<String> {
        app.waiting(&stage.state).iter().map(|(need, _)| stage.state.named(need, stage.state.now).id).collect()
    };
    assert_eq!(names(&app, &stage), ["fabien/post-teaser", "anga/buried"]);
    press(&mut app, &stage.state, "I z");
    assert_eq!(names(&app, &stage), ["anga/buried"]);
    let shown = screen(&stage.state, &app, at(122), SMALL);
    assert!(shown.contains("Inbox · 1 thing · 1 put off"), "{shown}");
    assert!(app.ticks(&stage.state), "somebody must look when its time has come");
    stage.tell(121 + 15 * 60, Event::TimeCame);
    assert_eq!(names(&app, &stage).len(), 2);
    press(&mut app, &stage.state, "esc I z z");
    assert!(names(&app, &stage).is_empty());
    press(&mut app, &stage.state, "Z");
    assert_eq!(names(&app, &stage).len(), 2);
}

#[test]
fn the_operator_is_called_once_for_what_is_new_and_not_for_what_is_put_off() {
    let mut stage = sample::running();
    let mut app = looking(&stage, SMALL);
    assert_eq!(app.call(&stage.state, at(120)), None, "that was there before");
    for n in 0..200 {
        stage.tell(121, Event::Task(TaskEvent::Changed { record: Box::new(dead(&format!("anga/buried-{n:03}"))) }));
    }
    assert_eq!(app.call(&stage.state, at(121)), None);
    assert!(app.ticks(&stage.state), "it is said although nothing else happens");
    let notice = app.call(&stage.state, at(124)).unwrap();
    assert_eq!((notice.new, notice.text.as_str()), (200, "200 failed"));
    assert_eq!(app.call(&stage.state, at(130)), None);
    // What comes back after it was put off is worth a word again.
    press(&mut app, &stage.state, "I z");
    assert_eq!(app.call(&stage.state, at(131)), None);
    assert_eq!(app.call(&stage.state, at(121 + 15 * 60)), None);
    assert_eq!(app.call(&stage.state, at(124 + 15 * 60)).unwrap().new, 1);
}

#[test]
fn a_visit_begins_with_what_happened_since_the_last_one_and_it_stays_until_a_key() {
    let mut stage = sample::running();
    let mut app = looking(&stage, WIDE);
    app.welcome(&stage.state, at(10));
    let text = "since you last looked, 2 min ago: 1 done, 1 failed, 1 waiting for you";
    assert_eq!(app.message().unwrap().text, text.replace("2 min", "95 s"));
    stage.tell(500, Event::TimeCame);
    app.observe(&stage.state);
    assert!(app.message().is_some(), "nobody has seen it yet");
    press(&mut app, &stage.state, "down");
    assert_eq!(app.message(), None);
    app.welcome(&stage.state, at(400));
    assert_eq!(app.message(), None, "nothing happened");
}

#[test]
fn what_is_put_off_stays_so_for_the_next_screen_and_comes_back_by_itself() {
    let stage = sample::running();
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "I");
    let before = app.waiting(&stage.state).len();
    press(&mut app, &stage.state, "z");
    let kept = serde_json::to_string(&app.habits()).unwrap();
    let mut next = looking(&stage, SMALL);
    assert_eq!(next.waiting(&stage.state).len(), before);
    next.take_up(serde_json::from_str(&kept).unwrap(), "", Vec::new());
    assert_eq!((next.waiting(&stage.state).len(), next.snoozed(stage.state.now)), (before - 1, 1));
    let later = stage.state.now + jiff::SignedDuration::from_mins(16);
    assert_eq!(next.snoozed(later), 0);
    // What a former version has kept is read as well.
    let old: app::Habits = serde_json::from_str(r#"{"focus":"log","zoom":true}"#).unwrap();
    assert!(old.snoozed.is_empty() && old.zoom);
}
