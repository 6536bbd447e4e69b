//! Acting: on one, on many, taken back; and that looking never changes anything, key by key.

use super::*;
use crate::{
    model::{Permit, Priority},
    room::tasks::Phase,
    tui::{
        action::{COMPOSER, VERBS},
        app::Stands,
    },
};

/// Whether a verb only looks: at most it moves eyes, or writes where it says so.
fn only_looks(action: Action) -> bool {
    match action {
        Action::FocusNext
        | Action::FocusPrevious
        | Action::Open
        | Action::Back
        | Action::Up
        | Action::Down
        | Action::PageUp
        | Action::PageDown
        | Action::Top
        | Action::Bottom
        | Action::Stage
        | Action::TasksView
        | Action::PlanView
        | Action::LogView
        | Action::LimitsView
        | Action::Zoom
        | Action::Palette
        | Action::Help
        | Action::Search
        | Action::SearchNext
        | Action::SearchPrevious
        | Action::SearchAll
        | Action::Follow
        | Action::Kinds
        | Action::Wrap
        | Action::Leftwards
        | Action::Rightwards
        | Action::Raw
        | Action::Broaden
        | Action::AttemptBefore
        | Action::AttemptAfter
        | Action::Range
        | Action::Mark
        | Action::NextMark
        | Action::Pager
        | Action::Editor
        | Action::NextNeed
        | Action::Inbox
        | Action::Snooze
        | Action::Unsnooze
        | Action::Choose
        | Action::OwnWords
        | Action::Blocker
        | Action::MarkTask
        | Action::MarkAll
        | Action::Acts
        | Action::Sort
        | Action::Group
        | Action::Fold
        | Action::Unfold
        | Action::HideEnded
        | Action::Timeline
        | Action::Files
        | Action::Report
        | Action::Dead
        | Action::Trash
        | Action::Copy
        | Action::Mouse
        | Action::Wider
        | Action::Narrower
        | Action::Taller
        | Action::Shorter
        | Action::Redraw
        | Action::Play
        | Action::StepOn
        | Action::StepBack
        | Action::AttachedUp
        | Action::AttachedDown
        | Action::SeekOn
        | Action::SeekBack
        | Action::Faster
        | Action::Slower
        | Action::TapeStart
        | Action::TapeEnd
        | Action::Leave => true,
        Action::Compose
        | Action::FollowUp
        | Action::Approve
        | Action::Deny
        | Action::Always
        | Action::ApproveUpTo
        | Action::EditPlanned
        | Action::AddPlanned
        | Action::MergePlanned
        | Action::Retry
        | Action::RetryHow
        | Action::Extend
        | Action::Sooner
        | Action::Later
        | Action::Remove
        | Action::Undo
        | Action::Cancel
        | Action::Pause
        | Action::Restart
        | Action::Attach
        | Action::CloseAttached
        | Action::PauseTask => false,
    }
}

/// Every key of the table, and some that only write.
pub(super) fn all_keys() -> Vec<&'static str> {
    let table = VERBS.iter().flat_map(|verb| verb.keys).copied();
    let composing = COMPOSER.iter().flat_map(|(keys, _)| keys.split(", "));
    let mut keys: Vec<_> = table.chain(composing).chain(["backspace", "(", "s", "ctrl-u"]).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The keys that only look, wherever they are pressed.
pub(super) fn looking_keys() -> Vec<&'static str> {
    let acts = |key: &&str| VERBS.iter().any(|verb| verb.keys.contains(key) && !only_looks(verb.action));
    let all = VERBS.iter().flat_map(|verb| verb.keys).copied();
    // What begins to write makes keys of letters, and the questions of leaving are answers.
    let mut keys: Vec<_> = all.filter(|key| !acts(key) && !["/", ":", "ctrl-c"].contains(key)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn asks_for(stage: &mut Stage, s: i64, name: &str, command: &str) {
    let task: TaskRef = name.parse().unwrap();
    let slot = stage.state.agents.holder(&task).unwrap().id.clone();
    let input = serde_json::json!({ "command": command, "description": "Clean up" });
    let line = format!("Bash {command}");
    let ask = Box::new(crate::model::Ask::new("r1", "Bash", &line, &input, "Clean up"));
    let report = Report::Asked { attempt: task.attempt(1), ask };
    stage.tell(s, Event::Worker(WorkerEvent::Reported { slot, report }));
}

#[test]
fn looking_changes_nothing_key_by_key_wherever_it_is_done() {
    let mut stage = sample::running();
    asks_for(&mut stage, 110, "marie/eval-junior", "rm -rf build");
    let places =
        ["1", "2", "4", "5", "tab", "shift-tab", "3", "enter", "n", "I", "H", "?", "shift-tab enter", "2 O B", "2 *"];
    for place in places {
        for verb in VERBS.iter().filter(|verb| only_looks(verb.action)) {
            for key in verb.keys {
                let mut app = looking(&stage, WIDE);
                press(&mut app, &stage.state, place);
                // Another verb of this place may have the same key; that one is not meant.
                let meant = app.settings().keys.action(Chord::parse(key).unwrap(), app.places());
                if meant.is_some_and(|action| !only_looks(action)) {
                    continue;
                }
                let wishes = press(&mut app, &stage.state, key);
                assert_eq!(orders(wishes), [], "{key} after {place}");
            }
        }
    }
}

#[test]
fn what_is_marked_is_acted_on_together_told_together_and_taken_back_together() {
    let stage = sample::thousand();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "/");
    write(&mut app, &stage.state, "is:waiting");
    press(&mut app, &stage.state, "enter");
    let waiting = app.rows(&stage.state).len();
    press(&mut app, &stage.state, "/ ctrl-u");
    write(&mut app, &stage.state, "task-00");
    press(&mut app, &stage.state, "enter *");
    let marked = app.marked();
    assert!(marked == 100 && waiting < 1_000, "{marked} {waiting}");
    assert_eq!(orders(press(&mut app, &stage.state, "c")), []);
    let Some(Popup::Confirm { question, .. }) = app.popups().last() else { panic!() };
    assert_eq!(question, "Cancel 50 marked tasks? The other 50 stay as they are.");
    let sent = orders(press(&mut app, &stage.state, "y"));
    assert_eq!(sent.len(), 50);
    assert!(app.acts().newest().all(|act| act.stands == Stands::Sent));
    for (n, order) in sent.iter().enumerate() {
        let answer = match n {
            7 => Answer::Refused { reason: "it is held by a worker".into() },
            _ => Answer::Done { text: "is ended".into(), ids: Vec::new() },
        };
        app.answered(order, &answer);
    }
    assert_eq!(app.message().unwrap().text, "cancel: 49 accepted, 1 refused: it is held by a worker");
    app.observe(&stage.state);
    let back = orders(press(&mut app, &stage.state, "u"));
    let running = sent.iter().enumerate().filter(|(n, o)| {
        let Order::Cancel { task } = o else { panic!() };
        *n != 7 && stage.state.tasks.phase(stage.state.tasks.get(task).unwrap()) == Phase::Running
    });
    assert_eq!(back.len(), 49 - running.count());
    assert!(back.iter().all(|order| matches!(order, Order::Retry { .. })));
    press(&mut app, &stage.state, "esc");
    assert_eq!(app.marked(), 0);
}

#[test]
fn a_changed_priority_and_a_pause_are_taken_back_as_they_were() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let task: TaskRef = "marie/eval-junior".parse().unwrap();
    let done = Answer::Done { text: "is high now".into(), ids: Vec::new() };
    for (key, back) in [
        ("+", Order::Prioritise { task: task.clone(), priority: Priority::NORMAL }),
        ("P", Order::ResumeTask { task: task.clone() }),
    ] {
        let sent = orders(press(&mut app, &stage.state, key));
        app.answered(&sent[0], &done);
        app.observe(&stage.state);
        assert_eq!(orders(press(&mut app, &stage.state, "u")), [back], "{key}");
    }
}

#[test]
fn an_order_is_followed_from_sent_to_done_or_refused() {
    let mut stage = sample::running();
    let mut app = looking(&stage, SMALL);
    let stands = |app: &App| app.acts().newest().next().unwrap().stands.clone();
    let sent = orders(press(&mut app, &stage.state, "n r"));
    assert_eq!(stands(&app), Stands::Sent);
    app.answered(&sent[0], &Answer::Done { text: "fabien/post-teaser starts again".into(), ids: Vec::new() });
    assert_eq!(stands(&app), Stands::Accepted);
    let mut spec = TaskSpec::new(teaser(), "Post the teaser");
    spec.goal = None;
    let mut record = TaskRecord::new(spec, at(6));
    record.standing = Standing::Waiting;
    stage.tell(125, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    // Its account is parked: a person lets it go on.
    stage.order(126, Order::Resume { agent: "fabien".parse().unwrap() });
    stage.tell(127, Event::TimeCame);
    if stage.state.agents.holder(&teaser()).is_none() {
        stage.end(128, "fabien/post-dates", EndState::Done, Ending::Done, "Well.");
    }
    stage.start(129, "fabien/post-teaser", "thinking");
    app.observe(&stage.state);
    assert_eq!(stands(&app), Stands::Started);
    stage.end(140, "fabien/post-teaser", EndState::Done, Ending::Done, "Posted.");
    app.observe(&stage.state);
    assert_eq!(stands(&app), Stands::Done("done".into()));
    let sent = orders(press(&mut app, &stage.state, "esc esc 2 end p"));
    app.answered(&sent[0], &Answer::Refused { reason: "the room is closing".into() });
    assert!(app.message().is_some_and(|message| message.bad), "an error line where it was refused");
    press(&mut app, &stage.state, "H");
    let shown = screen(&stage.state, &app, at(150), SMALL);
    assert!(shown.contains("retry fabien/post-teaser") && shown.contains("refused: the room is closing"), "{shown}");
}

#[test]
fn a_task_that_has_not_ended_goes_to_another_agent_after_it_has_ended_here() {
    let mut stage = sample::running();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "/");
    write(&mut app, &stage.state, "eval-senior");
    press(&mut app, &stage.state, "enter home R");
    let sent = orders(press(&mut app, &stage.state, "enter"));
    let task: TaskRef = "marie/eval-senior".parse().unwrap();
    assert_eq!(sent, [Order::Cancel { task: task.clone() }], "anga is the first other one");
    app.answered(&sent[0], &Answer::Done { text: "is ended".into(), ids: Vec::new() });
    assert_eq!(orders(app.observe(&stage.state)), []);
    let mut record = TaskRecord::new(TaskSpec::new(task.clone(), "Write down how the seniors did"), at(72));
    record.standing = Standing::Ended;
    record.outcome = Some(sample::outcome(&task, 0, 122, EndState::Cancelled, Ending::Cancelled, ""));
    stage.tell(122, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    let agent = "anga".parse().unwrap();
    assert_eq!(orders(app.observe(&stage.state)), [Order::RetryOn { task, agent, changes: Box::default() }]);
    assert_eq!(orders(app.observe(&stage.state)), [], "once");
}

#[test]
fn what_an_agent_asks_for_is_on_top_shown_as_data_and_allowed_only_where_it_is_seen() {
    let mut stage = sample::running();
    asks_for(&mut stage, 110, "anga/api-tests", "printf '\u{1b}[2J' && rm -rf build");
    for size in [SMALL, WIDE] {
        let mut app = looking(&stage, size);
        let shown = screen(&stage.state, &app, at(120), size);
        let first = shown.lines().find(|line| line.contains("api-tests") && line.contains("running")).unwrap();
        assert!(first.contains("? api-tests") && first.contains("asks for Bash"), "{shown}");
        assert_eq!(orders(press(&mut app, &stage.state, "n")), []);
        insta::assert_snapshot!(format!("permit_{}x{}", size.0, size.1), screen(&stage.state, &app, at(120), size));
        let ask = crate::model::AskId(1);
        assert_eq!(orders(press(&mut app, &stage.state, "A")), [Order::Permit { ask, always: true }]);
    }
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "2 home");
    assert_eq!(orders(press(&mut app, &stage.state, "a")), [], "first it is shown");
    let ask = crate::model::AskId(1);
    assert_eq!(orders(press(&mut app, &stage.state, "d")), [Order::Forbid { ask }]);
    stage.order(121, Order::Forbid { ask });
    press(&mut app, &stage.state, "I");
    assert!(!screen(&stage.state, &app, at(122), WIDE).contains("may it"));
    let denied = stage.state.asks.record().next().unwrap();
    assert!(matches!(denied.1.permit, Permit::Denied { .. }));
}

#[test]
fn a_text_goes_through_the_operators_editor_and_back() {
    let stage = Stage::open();
    let mut app = fresh(WIDE);
    app.compose("Announce");
    assert_eq!(press(&mut app, &stage.state, "ctrl-o"), [Wish::EditText("Announce".into())]);
    app.text_edited("Announce recital week\n\u{1b}[2Jand evaluate\n");
    assert_eq!(app.composer().text(), "Announce recital week\nand evaluate");
    assert!(app.is_composing());
}
