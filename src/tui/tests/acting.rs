//! Acting: on one, on many, taken back; and that looking never changes anything, key by key.

use super::*;
use crate::{
    model::{Permit, Priority},
    room::tasks::Phase,
    tui::{
        action::{COMPOSER, VERBS},
        app::Stands,
        layout::Pane,
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
        | Action::WideGraph
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
        | Action::StartAgent
        | Action::StopAgent
        | Action::DrainAgent
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

#[test]
fn one_agent_is_drained_stopped_and_started_on_its_page_and_followed_to_the_end() {
    let mut stage = sample::running();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "tab");
    while app.focus() != Pane::Agents {
        press(&mut app, &stage.state, "tab");
    }
    let marie = || "marie".parse().unwrap();
    let wishes = press(&mut app, &stage.state, "enter");
    assert!(wishes.contains(&Wish::ReadLogin(marie())), "{wishes:?}");
    app.login_read(&marie(), &Err("max, expired 3 h ago and cannot renew itself".into()));
    let shown = screen(&stage.state, &app, at(120), WIDE);
    assert!(shown.contains("sandbox") && shown.contains("d drain · x stop · s start"), "{shown}");
    assert_eq!(orders(press(&mut app, &stage.state, "x")), [], "what runs is asked for first");
    let Some(Popup::Confirm { question, .. }) = app.popups().last() else { panic!() };
    assert_eq!(question, "Stop marie? eval-junior is ended, and taken up again when it starts.");
    press(&mut app, &stage.state, "esc");
    let order = Order::StopAgent { agent: marie(), drain: true };
    assert_eq!(orders(press(&mut app, &stage.state, "d")), std::slice::from_ref(&order));
    let stands = |app: &App| app.acts().newest().next().unwrap().stands.clone();
    assert_eq!(stands(&app), Stands::Sent);
    app.answered(&order, &Answer::Done { text: "marie is stopped when eval-junior has ended".into(), ids: Vec::new() });
    assert_eq!(stands(&app), Stands::Accepted);
    stage.order(121, order);
    app.observe(&stage.state);
    assert_eq!(stands(&app), Stands::Started);
    let page = screen(&stage.state, &app, at(122), WIDE);
    assert!(page.contains("draining") && page.contains("claims nothing more; s on its page starts it"), "{page}");
    stage.end(130, "marie/eval-junior", EndState::Done, Ending::Done, "Well.");
    let slot = stage.state.agents.get(&marie()).unwrap().slots[0].clone();
    let exited = WorkerEvent::Exited { slot: slot.id.clone(), pid: slot.pid().unwrap(), how: "exit 0".into() };
    stage.tell(131, Event::Worker(exited));
    app.observe(&stage.state);
    assert_eq!(stands(&app), Stands::Done("stopped".into()));
    // The palette leads there too, and undo takes it back.
    assert_eq!(orders(press(&mut app, &stage.state, "u")), [Order::StartAgent { agent: marie() }]);
    press(&mut app, &stage.state, ":");
    write(&mut app, &stage.state, "start agent");
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), [Order::StartAgent { agent: marie() }]);
    stage.order(132, Order::StartAgent { agent: marie() });
    // It was ordered twice.
    for _ in 0..2 {
        let starts = Answer::Done { text: "marie starts".into(), ids: Vec::new() };
        app.answered(&Order::StartAgent { agent: marie() }, &starts);
    }
    app.observe(&stage.state);
    assert_eq!(stands(&app), Stands::Started);
}

#[test]
fn files_that_were_set_aside_are_marked_discarded_together_and_brought_back_together() {
    let mut stage = sample::running();
    let file = |n: u8| crate::model::Rejected {
        path: format!("tasks/marie/.rejected/broken-{n}.json"),
        reason: "it is not JSON".into(),
        at: at(50),
        moved: true,
        duplicate: false,
    };
    for n in 1..=3 {
        stage.tell(50, Event::Task(TaskEvent::Rejected { rejected: file(n) }));
    }
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "2 /");
    write(&mut app, &stage.state, "is:rejected");
    press(&mut app, &stage.state, "enter home down space space");
    assert_eq!(app.marked(), 2);
    let shown = screen(&stage.state, &app, at(120), WIDE);
    assert_eq!(shown.matches("!*").count(), 2, "{shown}");
    assert_eq!(orders(press(&mut app, &stage.state, "c")), []);
    assert_eq!(app.message().unwrap().text, "only files are marked: x discards them, esc unmarks");
    assert_eq!(orders(press(&mut app, &stage.state, "x")), []);
    let Some(Popup::Confirm { question, .. }) = app.popups().last() else { panic!() };
    assert_eq!(question, "Remove 2 marked files?");
    let sent = orders(press(&mut app, &stage.state, "y"));
    let items = |orders: &[Order]| -> Vec<Item> {
        orders
            .iter()
            .filter_map(|o| match o {
                Order::Remove { item } | Order::Restore { item } => Some(item.clone()),
                _ => None,
            })
            .collect()
    };
    assert_eq!(items(&sent), [Item::File(file(1).path), Item::File(file(2).path)]);
    for order in &sent {
        app.answered(order, &Answer::Done { text: "is thrown away".into(), ids: Vec::new() });
    }
    for n in 1..=2 {
        stage.tell(121, Event::Task(TaskEvent::RejectedGone { path: file(n).path }));
    }
    app.observe(&stage.state);
    let back = orders(press(&mut app, &stage.state, "u"));
    assert!(back.iter().all(|order| matches!(order, Order::Restore { .. })));
    assert_eq!(items(&back), items(&sent), "both, by one key");
    // Marks of what is gone are gone; with a task marked too, both go together.
    press(&mut app, &stage.state, "/ ctrl-u enter *");
    assert!(app.marked() > 1);
    press(&mut app, &stage.state, "x");
    let Some(Popup::Confirm { question, .. }) = app.popups().last() else { panic!("{:?}", app.message()) };
    assert!(question.contains(" marked tasks and 2 marked files?"), "{question}");
}
