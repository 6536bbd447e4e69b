//! The screen as a whole: pictures to be looked at, and keys that must or must not reach the room.

use crossterm::event::KeyEvent;
use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use std::sync::Arc;

mod acting;
mod attention;
mod long_text;
mod named_keys;
mod replying;
mod server;
mod sizes;
mod views;

use super::{
    keymap::Chord,
    popup::Popup,
    sample::{Stage, at},
    *,
};
use crate::{
    model::{
        Activity, Approval, Changes, EndState, Ending, Item, LogId, LogScope, Report, Standing, TaskRecord, TaskRef,
        TaskSpec, Terms,
        log::{LogFrom, LogLine, LogPart, LogSum, TimedLine},
        server::Holder,
        text::scrub,
    },
    room::{self, Answer, Event, State, TaskEvent, WorkerEvent},
};

mod planning;

fn fresh(size: (u16, u16)) -> App {
    let mut app = App::new(Settings::default());
    app.resize(size.0, size.1);
    app
}

pub(super) fn picture(state: &State, app: &App, now: Timestamp, size: (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(state, app, now, frame)).unwrap();
    terminal.backend().buffer().clone()
}

pub(super) fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let mut out = String::new();
    for row in buffer.content.chunks(width) {
        let mut skip = 0;
        let mut line = String::new();
        for cell in row {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            skip = text::width(cell.symbol()).saturating_sub(1);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn screen(state: &State, app: &App, now: Timestamp, size: (u16, u16)) -> String {
    text(&picture(state, app, now, size))
}

fn press(app: &mut App, state: &State, keys: &str) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for key in keys.split(' ') {
        let chord = Chord::parse(key).unwrap_or_else(|| panic!("{key}"));
        wishes.extend(app.key(KeyEvent::new(chord.code, chord.modifiers), state));
    }
    wishes
}

fn write(app: &mut App, state: &State, text: &str) {
    for c in text.chars() {
        let chord = Chord { code: crossterm::event::KeyCode::Char(c), modifiers: crossterm::event::KeyModifiers::NONE };
        app.key(KeyEvent::new(chord.code, chord.modifiers), state);
    }
}

fn orders(wishes: Vec<Wish>) -> Vec<Order> {
    wishes.into_iter().filter_map(|w| if let Wish::Order(order) = w { Some(order) } else { None }).collect()
}

/// A line of the log that the sample's screen shows.
fn said(offset: u64, s: i64, kind: Kind, depth: u8, text: &str) -> TimedLine {
    let attempt = "marie/eval-junior".parse::<TaskRef>().unwrap().attempt(1);
    let log = Arc::new(LogId::of(&attempt, "log/marie/eval-junior/1/out.log"));
    TimedLine { log, at: Some(at(s)), nth: 0, line: LogLine { kind, depth, text: text.into(), offset } }
}

/// All that there is of a log.
fn whole(lines: Vec<TimedLine>) -> LogPart {
    LogPart { lines, whole: true, starts: true, files: 1, ..LogPart::default() }
}

/// Answers what was asked for with these lines.
pub(super) fn read(app: &mut App, state: &State, wishes: &[Wish], lines: Vec<TimedLine>) {
    if let Some(Wish::ReadLog(Some(ask))) = wishes.iter().rev().find(|w| matches!(w, Wish::ReadLog(_))) {
        let here = matches!(ask.from, LogFrom::Around(_) | LogFrom::Hit(..)).then_some(0);
        app.log_read(ask.id, LogPart { here, ..whole(lines) }, state);
    }
}

pub(super) fn entries() -> Vec<TimedLine> {
    let entry = |s: i64, kind, depth, text: &str| said(s.unsigned_abs(), s, kind, depth, text);
    vec![
        entry(72, Kind::System, 0, "haiku, 12 tools, session 7f3a"),
        entry(73, Kind::Text, 0, "I will read last term's notes before writing the juniors' report."),
        entry(75, Kind::Tool, 0, "Read classes/junior/notes.md"),
        entry(81, Kind::Agent, 1, "choreography-reader: two routines compared, both shorter than last year's"),
        entry(90, Kind::Error, 0, "the notes of week three are missing"),
        entry(97, Kind::Tool, 0, "Write evaluations/junior.md"),
    ]
}

/// An app that has looked at the running room long enough to show its log.
fn looking(stage: &Stage, size: (u16, u16)) -> App {
    let mut app = fresh(size);
    let wishes = app.observe(&stage.state);
    read(&mut app, &stage.state, &wishes, entries());
    app
}

/// What a search for the last pattern finds in the sample's log.
fn search(app: &mut App, state: &State, wishes: &[Wish]) {
    let Some(Wish::Search(Some(asked))) = wishes.iter().rev().find(|w| matches!(w, Wish::Search(_))) else { return };
    let pattern = regex::Regex::new(&format!("(?i){}", asked.pattern)).unwrap();
    let hit = |l: TimedLine| LogHit {
        log: l.log,
        at: l.at,
        kind: l.line.kind,
        nested: l.line.depth > 0,
        offset: l.line.offset,
        nth: 0,
        text: l.line.text,
    };
    let hits: Vec<LogHit> = entries().into_iter().filter(|l| pattern.is_match(&l.line.text)).map(hit).collect();
    let sum = LogSum { files: 1, bytes: 400, hits: hits.len(), cut: false };
    app.found(asked.id, hits, state);
    app.search_ended(asked.id, sum);
}

const WIDE: (u16, u16) = (120, 40);
const SMALL: (u16, u16) = (80, 24);
const TINY: (u16, u16) = (50, 12);

#[test]
fn pictures_of_an_empty_room() {
    insta::assert_snapshot!("before_the_room_answers", screen(&State::default(), &fresh(WIDE), at(0), WIDE));
    let stage = Stage::open();
    insta::assert_snapshot!("empty_120x40", screen(&stage.state, &fresh(WIDE), at(5), WIDE));
    insta::assert_snapshot!("empty_80x24", screen(&stage.state, &fresh(SMALL), at(5), SMALL));
    insta::assert_snapshot!("empty_50x12", screen(&stage.state, &fresh(TINY), at(5), TINY));
    let mut app = fresh(WIDE);
    app.compose("Evaluate the hip-hop class and announce recital week.");
    insta::assert_snapshot!("composed_120x40", screen(&stage.state, &app, at(5), WIDE));
}

#[test]
fn pictures_of_limits_and_accounts() {
    let stage = sample::accounts();
    for size in [SMALL, WIDE, (200, 60)] {
        let mut app = looking(&stage, size);
        press(&mut app, &stage.state, "5");
        let name = format!("limits_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, screen(&stage.state, &app, at(150), size));
    }
    let mut app = looking(&stage, WIDE);
    insta::assert_snapshot!("limits_panel_120x40", screen(&stage.state, &app, at(150), WIDE));
    app = looking(&stage, (120, 60));
    insta::assert_snapshot!("limits_panel_120x60", screen(&stage.state, &app, at(150), (120, 60)));
    // The rest of a small screen is a key away, and so is an account.
    app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "5 end");
    insta::assert_snapshot!("limits_80x24_end", screen(&stage.state, &app, at(150), SMALL));
    let mut app = App::new(Settings { ascii: true, theme: Theme::plain(), ..Settings::default() });
    app.resize(WIDE.0, WIDE.1);
    press(&mut app, &stage.state, "5");
    let drawn = screen(&stage.state, &app, at(150), WIDE);
    assert!(drawn.is_ascii(), "{drawn}");
    insta::assert_snapshot!("limits_ascii_120x40", drawn);
}

#[test]
fn one_key_says_what_becomes_of_a_parked_account() {
    let mut stage = sample::accounts();
    let mut app = fresh(WIDE);
    press(&mut app, &stage.state, "5");
    // Nothing is parked here: it asks first.
    let mut rows = 0;
    let mut at_account = |app: &mut App, state: &State, name: &str| {
        press(app, state, "home");
        for _ in 0..40 {
            if screen(state, app, at(150), WIDE).lines().any(|l| l.contains('▌') && l.contains(name)) {
                return;
            }
            rows += 1;
            press(app, state, "down");
        }
        panic!("{name} is not found\n{}", screen(state, app, at(150), WIDE));
    };
    at_account(&mut app, &stage.state, "marie-login");
    assert_eq!(orders(press(&mut app, &stage.state, "p")), []);
    let park = Order::Park { account: "marie-login".parse().unwrap() };
    assert_eq!(orders(press(&mut app, &stage.state, "y")), [park]);
    // Before its reset a parked one is planned to go on, and that is taken back by the same key.
    at_account(&mut app, &stage.state, "fabien-login");
    let account = || "fabien-login".parse().unwrap();
    let planned = Order::Unpark { account: account(), when_clear: true };
    assert_eq!(orders(press(&mut app, &stage.state, "p")), std::slice::from_ref(&planned));
    stage.order(151, planned);
    assert_eq!(orders(press(&mut app, &stage.state, "p")), [Order::Park { account: account() }]);
    stage.order(152, Order::Park { account: account() });
    // After it, work goes on.
    stage.tell(4_300, Event::TimeCame);
    assert_eq!(orders(press(&mut app, &stage.state, "p")), [Order::Unpark { account: account(), when_clear: false }]);
    // And n finds it from anywhere.
    press(&mut app, &stage.state, "1 n");
    let found = screen(&stage.state, &app, at(4_300), WIDE);
    assert!(found.lines().any(|l| l.contains('▌') && l.contains("fabien-login")), "{found}");
}

#[test]
fn pictures_of_a_running_room() {
    let stage = sample::running();
    insta::assert_snapshot!("running_120x40", screen(&stage.state, &looking(&stage, WIDE), at(120), WIDE));
    insta::assert_snapshot!("running_160x50", screen(&stage.state, &looking(&stage, (160, 50)), at(120), (160, 50)));
    insta::assert_snapshot!("running_80x24", screen(&stage.state, &looking(&stage, SMALL), at(120), SMALL));
    insta::assert_snapshot!("running_50x12", screen(&stage.state, &looking(&stage, TINY), at(120), TINY));
    for (name, key) in
        [("agents", "tab tab tab tab"), ("log", "4"), ("limits", "5"), ("orchestrator", "shift-tab shift-tab")]
    {
        let mut app = looking(&stage, SMALL);
        press(&mut app, &stage.state, key);
        insta::assert_snapshot!(format!("running_80x24_{name}"), screen(&stage.state, &app, at(120), SMALL));
    }
}

#[test]
fn pictures_of_what_lies_over_the_stage() {
    let stage = sample::running();
    for (name, keys) in [
        ("help", "?"),
        ("palette", ": p l a n"),
        ("leave", "q"),
        ("cancel", "c"),
        ("task", "enter"),
        ("failed", "n"),
        ("agent", "shift-tab enter"),
    ] {
        let mut app = looking(&stage, WIDE);
        press(&mut app, &stage.state, keys);
        insta::assert_snapshot!(format!("over_{name}"), screen(&stage.state, &app, at(120), WIDE));
    }
    for (name, keys) in [("search", "4 / n o t e s"), ("find", "S n o t e s")] {
        for size in [WIDE, SMALL] {
            let mut app = looking(&stage, size);
            let wishes = press(&mut app, &stage.state, keys);
            search(&mut app, &stage.state, &wishes);
            press(&mut app, &stage.state, if name == "search" { "enter" } else { "down" });
            if let Some(hit) = app.listed(1).cloned() {
                app.beside_read(hit.place(), entries(), 4);
            }
            insta::assert_snapshot!(format!("over_{name}_{}", size.0), screen(&stage.state, &app, at(120), size));
        }
    }
    let stage = sample::planned();
    for (name, size) in [("wide", WIDE), ("small", SMALL)] {
        let mut app = looking(&stage, size);
        insta::assert_snapshot!(format!("plan_waits_{name}"), screen(&stage.state, &app, at(12), size));
        press(&mut app, &stage.state, "3 down");
        insta::assert_snapshot!(format!("plan_{name}"), screen(&stage.state, &app, at(12), size));
    }
    let stage = sample::reported();
    let report = Document::Path("results/goals/g1.md".into());
    let mut app = looking(&stage, WIDE);
    insta::assert_snapshot!("reported", screen(&stage.state, &app, at(95), WIDE));
    assert!(press(&mut app, &stage.state, "o").contains(&Wish::Read(report.clone())));
    let text = "# Recital week\n\nThe week is announced.\u{1b}[2J\n\n- two classes evaluated\n";
    app.document_read(&report, Ok(text));
    insta::assert_snapshot!("report", screen(&stage.state, &app, at(95), WIDE));
}

#[test]
fn a_thousand_tasks_are_a_list_with_a_hand_in_it() {
    let stage = sample::thousand();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "2 end");
    insta::assert_snapshot!("thousand", screen(&stage.state, &app, at(30), WIDE));
}

// Keys.

#[test]
fn g_writes_a_goal_and_enter_sends_it() {
    let stage = Stage::open();
    let mut app = fresh(WIDE);
    press(&mut app, &stage.state, "g");
    write(&mut app, &stage.state, "Announce recital week");
    let sent = orders(press(&mut app, &stage.state, "enter"));
    assert_eq!(
        sent,
        [Order::Goal { text: "Announce recital week".into(), approval: Approval::Ask, terms: Terms::default() }]
    );
    assert!(app.composer().is_empty());
    assert!(!app.is_composing(), "the next key approves, it writes nothing");
}

#[test]
fn a_prefilled_goal_needs_one_enter() {
    let stage = Stage::open();
    let mut app = fresh(WIDE);
    app.compose("Announce recital week");
    assert_eq!(orders(press(&mut app, &stage.state, "enter")).len(), 1);
}

#[test]
fn a_task_can_be_given_to_one_agent() {
    let stage = Stage::open();
    let mut app = fresh(WIDE);
    app.compose("@anga Test the sign-up page, twice");
    let sent = orders(press(&mut app, &stage.state, "enter"));
    let [Order::Task { spec, rename: true }] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(spec.task.to_string(), "anga/test-the-sign-up-page-twice");
    assert_eq!(spec.description, "Test the sign-up page, twice");
}

#[test]
fn a_task_for_nobody_stays_in_the_composer_and_says_who_there_is() {
    let stage = Stage::open();
    let mut app = fresh(WIDE);
    app.compose("@nobody do it");
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), []);
    assert_eq!(app.composer().text(), "@nobody do it");
    assert_eq!(app.message().unwrap().text, "there is no agent nobody; there are marie, anga, fabien");
}

#[test]
fn what_the_room_refused_is_not_lost() {
    let stage = Stage::open();
    let mut app = fresh(WIDE);
    app.compose("Announce recital week");
    let sent = orders(press(&mut app, &stage.state, "enter"));
    app.answered(&sent[0], &Answer::Refused { reason: "the room is closing".into() });
    assert_eq!(app.composer().text(), "Announce recital week");
    assert!(app.message().unwrap().bad);
}

#[test]
fn a_goal_is_not_lost_with_the_room() {
    let stage = Stage::open();
    let mut app = fresh(WIDE);
    app.connection(Connection::Lost { since: at(3), why: String::new() });
    app.compose("Announce recital week");
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), []);
    assert_eq!(app.composer().text(), "Announce recital week");
    app.connection(Connection::Connected);
    assert_eq!(orders(press(&mut app, &stage.state, "g enter")).len(), 1);
}

#[test]
fn cancel_names_the_task_and_asks_once() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    assert_eq!(orders(press(&mut app, &stage.state, "c")), []);
    let Some(Popup::Confirm { question, .. }) = app.popups().last() else { panic!() };
    assert!(question.contains("marie/eval-junior"), "{question}");
    assert_eq!(orders(press(&mut app, &stage.state, "x enter space")), [], "only y says yes");
    let sent = orders(press(&mut app, &stage.state, "y"));
    assert_eq!(sent, [Order::Cancel { task: "marie/eval-junior".parse().unwrap() }]);
    press(&mut app, &stage.state, "c n");
    assert!(app.popups().is_empty());
}

#[test]
fn a_failed_task_is_found_and_tried_again() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let sent = orders(press(&mut app, &stage.state, "n r"));
    assert_eq!(sent, [Order::Retry { task: "fabien/post-teaser".parse().unwrap(), changes: Box::default() }]);
}

#[test]
fn a_plan_is_approved_with_one_key_and_denied_with_two() {
    let stage = sample::planned();
    let goal = || "g1".parse().unwrap();
    let mut app = looking(&stage, WIDE);
    assert_eq!(orders(press(&mut app, &stage.state, "a")), [Order::Approve { goal: goal(), ceiling: None }]);
    assert_eq!(orders(press(&mut app, &stage.state, "d")), []);
    assert_eq!(orders(press(&mut app, &stage.state, "y")), [Order::Deny { goal: goal() }]);
    assert_eq!(orders(press(&mut app, &stage.state, "n a")), [Order::Approve { goal: goal(), ceiling: None }]);
    assert!(app.popups().is_empty());
}

#[test]
fn pause_is_about_the_agent_of_what_is_selected() {
    let mut stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let marie = || "marie".parse().unwrap();
    assert_eq!(orders(press(&mut app, &stage.state, "p")), [Order::Pause { agent: marie() }]);
    stage.order(121, Order::Pause { agent: marie() });
    assert_eq!(orders(press(&mut app, &stage.state, "p")), [Order::Resume { agent: marie() }]);
    let anga = "anga".parse().unwrap();
    assert_eq!(orders(press(&mut app, &stage.state, "shift-tab down p")), [Order::Pause { agent: anga }]);
}

#[test]
fn leaving_lets_the_agents_go_on_unless_told_otherwise() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let keys = |app: &mut App, keys| press(app, &stage.state, keys);
    assert_eq!(keys(&mut app, "ctrl-c"), []);
    assert_eq!(keys(&mut app, "ctrl-c"), [Wish::Quit(Leave::Detach)]);
    keys(&mut app, "esc");
    assert_eq!(keys(&mut app, "q enter"), [Wish::Quit(Leave::Detach)]);
    keys(&mut app, "esc");
    assert_eq!(keys(&mut app, "q down enter"), [Wish::Quit(Leave::StopEverything)]);
    app.compose("");
    keys(&mut app, "esc g ctrl-c");
    assert!(matches!(app.popups(), [Popup::Leave { .. }]), "also out of the composer");
}

#[test]
fn the_palette_does_what_it_finds() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    assert_eq!(press(&mut app, &stage.state, ": r e d r a w enter"), [Wish::Redraw]);
    let Some(verb) = action::of(Action::Help) else { panic!() };
    write(&mut app, &stage.state, ":");
    write(&mut app, &stage.state, verb.name);
    press(&mut app, &stage.state, "enter");
    assert!(matches!(app.popups().last(), Some(Popup::Help { .. })), "{:?}", app.popups());
}

#[test]
fn a_paste_never_presses_keys() {
    let stage = sample::planned();
    let mut app = looking(&stage, WIDE);
    app.paste("a\nqs\u{1b}[201~y\r");
    assert!(app.is_composing());
    assert_eq!(app.composer().text(), "a\nqsy\n");
    assert!(app.popups().is_empty());
}

#[test]
fn a_scrolled_back_log_stays_with_its_task_when_others_begin() {
    let mut stage = sample::running();
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "4 up");
    let before = app.log().reading().cloned();
    stage.end(130, "marie/eval-junior", crate::model::EndState::Done, crate::model::Ending::Done, "Well.");
    assert_eq!(app.observe(&stage.state), []);
    assert_eq!(app.log().reading().cloned(), before);
}

#[test]
fn a_scrolled_back_log_is_not_taken_away_by_the_next_attempt() {
    let mut stage = sample::running();
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "4");
    let target = app.log().reading().cloned().unwrap();
    app.log_read(1, LogPart { whole: false, ..whole((0..10).flat_map(|_| entries()).collect()) }, &stage.state);
    press(&mut app, &stage.state, "pgup");
    stage.fail(130, "marie/eval-junior", crate::model::Ending::Signal { signal: 9 }, 1);
    stage.start(132, "marie/eval-senior", "thinking");
    stage.end(133, "marie/eval-senior", crate::model::EndState::Done, crate::model::Ending::Done, "Well.");
    stage.tell(134, room::Event::TimeCame);
    stage.start(135, "marie/eval-junior", "thinking");
    assert_eq!(app.observe(&stage.state), []);
    assert_eq!(app.log().reading(), Some(&target));
    let wishes = press(&mut app, &stage.state, "f");
    assert_eq!(scopes(&wishes), ["marie/eval-junior#2"]);
}

#[test]
fn a_message_goes_away_by_itself() {
    let mut stage = sample::running();
    let mut app = looking(&stage, WIDE);
    app.say("g1 is approved", false);
    app.observe(&stage.state);
    assert!(app.message().is_some());
    stage.tell(130, room::Event::TimeCame);
    app.observe(&stage.state);
    assert_eq!(app.message(), None);
}

/// Which logs were asked for.
fn scopes(wishes: &[Wish]) -> Vec<String> {
    let asked = wishes.iter().filter_map(|w| if let Wish::ReadLog(Some(ask)) = w { Some(ask) } else { None });
    asked
        .map(|ask| match &ask.reading.scope {
            LogScope::One(log) => log.to_string(),
            LogScope::Task(task) => format!("task {task}"),
            LogScope::Agent(agent) => format!("agent {agent}"),
            LogScope::All => "all".to_owned(),
        })
        .collect()
}

#[test]
fn lines_that_were_asked_for_before_are_dropped() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let before = app.log().len();
    app.log_read(0, whole(Vec::new()), &stage.state);
    assert_eq!(app.log().len(), before);
}

#[test]
fn one_key_reads_more_logs_together_and_two_go_from_attempt_to_attempt() {
    let mut stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let mut asked = Vec::new();
    press(&mut app, &stage.state, "4");
    for _ in 0..4 {
        asked.extend(scopes(&press(&mut app, &stage.state, "A")));
    }
    assert_eq!(asked, ["task marie/eval-junior", "agent marie", "all", "marie/eval-junior#1"]);
    stage.fail(130, "marie/eval-junior", Ending::Signal { signal: 9 }, 1);
    stage.start(132, "marie/eval-senior", "thinking");
    stage.end(133, "marie/eval-senior", EndState::Done, Ending::Done, "Well.");
    stage.tell(134, room::Event::TimeCame);
    stage.start(135, "marie/eval-junior", "thinking");
    assert_eq!(scopes(&app.observe(&stage.state)), ["marie/eval-junior#2"]);
    assert_eq!(scopes(&press(&mut app, &stage.state, "[")), ["marie/eval-junior#1"]);
    press(&mut app, &stage.state, "[");
    assert!(app.message().unwrap().text.contains("first attempt"));
    assert_eq!(scopes(&press(&mut app, &stage.state, "]")), ["marie/eval-junior#2"]);
}

#[test]
fn a_hit_in_another_log_is_gone_to_and_esc_leads_back() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let wishes = press(&mut app, &stage.state, "S n o t e s");
    let Some(Wish::Search(Some(asked))) = wishes.last() else { panic!("{wishes:?}") };
    assert_eq!((asked.scope.clone(), asked.pattern.as_str()), (LogScope::All, "notes"));
    let log = LogId { agent: "fabien".parse().unwrap(), task: Some("old".into()), attempt: Some(3), path: "x".into() };
    let hit = LogHit {
        log: Arc::new(log),
        at: None,
        kind: Kind::Text,
        nested: false,
        offset: 77,
        nth: 0,
        text: "old notes".into(),
    };
    app.found(asked.id - 1, vec![hit.clone()], &stage.state);
    assert!(app.finder().hits().is_empty(), "that was found for another pattern");
    app.found(asked.id, vec![hit.clone()], &stage.state);
    assert!(app.observe(&stage.state).contains(&Wish::Beside(Box::new(hit.clone()))));
    let wishes = press(&mut app, &stage.state, "enter");
    assert_eq!(scopes(&wishes), ["fabien/old#3"]);
    app.log_read(2, LogPart { here: Some(0), ..whole(vec![hit.line()]) }, &stage.state);
    let shown = screen(&stage.state, &app, at(120), WIDE);
    assert!(shown.contains("fabien · old · attempt 3") && shown.contains("old notes"), "{shown}");
    // A mark there is found again from anywhere.
    press(&mut app, &stage.state, "b");
    press(&mut app, &stage.state, "esc");
    assert_eq!(scopes(&press(&mut app, &stage.state, "esc")), ["marie/eval-junior#1"]);
    assert_eq!(scopes(&press(&mut app, &stage.state, "'")), ["fabien/old#3"]);
}

#[test]
fn a_range_is_copied_and_the_log_goes_to_the_operators_own_programs() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let wishes = press(&mut app, &stage.state, "4 y");
    let [Wish::CopyLog(seen)] = wishes.as_slice() else { panic!("{wishes:?}") };
    assert_eq!((seen.from.as_ref().map(|p| p.offset), seen.to.as_ref().map(|p| p.offset)), (Some(72), Some(97)));
    press(&mut app, &stage.state, "v k k");
    let shown = screen(&stage.state, &app, at(120), WIDE);
    assert!(shown.contains("a range, y copies") && shown.contains("▌13:31:21"), "{shown}");
    let wishes = press(&mut app, &stage.state, "y");
    let [Wish::CopyLog(range)] = wishes.as_slice() else { panic!("{wishes:?}") };
    assert_eq!((range.from.as_ref().map(|p| p.offset), range.to.as_ref().map(|p| p.offset)), (Some(81), Some(97)));
    app.copied(3, std::path::Path::new(".podium/copies/x.txt"), true, false);
    assert_eq!(app.message().unwrap().text, "copied 3 lines: in the clipboard and in .podium/copies/x.txt");
    for (key, program) in [("o", Guest::Pager), ("E", Guest::Editor)] {
        let wishes = press(&mut app, &stage.state, key);
        assert!(
            matches!(wishes.as_slice(), [Wish::OpenLog(range, guest)] if *guest == program && range.headed),
            "{wishes:?}"
        );
    }
}

#[test]
fn the_log_is_read_in_other_ways_where_it_stands() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let wishes = press(&mut app, &stage.state, "4 t");
    let Some(Wish::ReadLog(Some(ask))) = wishes.last() else { panic!("{wishes:?}") };
    assert_eq!((ask.reading.show, ask.reading.raw, &ask.from), (log::Show::Said, false, &LogFrom::End));
    app.log_read(ask.id, whole(vec![entries().remove(1)]), &stage.state);
    let shown = screen(&stage.state, &app, at(120), WIDE);
    assert!(shown.contains("only what is said") && !shown.contains("the notes of week three"), "{shown}");
    let wishes = press(&mut app, &stage.state, "J");
    assert!(matches!(wishes.as_slice(), [Wish::ReadLog(Some(ask))] if ask.reading.raw), "{wishes:?}");
    press(&mut app, &stage.state, "w");
    assert!(screen(&stage.state, &app, at(120), WIDE).contains("not wrapped"));

    // Where the log is not on screen it is said, or somebody would wonder later where its lines are.
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "2 t");
    assert!(screen(&stage.state, &app, at(120), SMALL).contains("the log (4) shows only what is said"));
}

#[test]
fn pictures_of_many_logs_at_once() {
    let stage = sample::running();
    for size in [SMALL, WIDE, (200, 60)] {
        let mut app = looking(&stage, size);
        let mut wishes = Vec::new();
        for key in ["4", "A", "A", "A"] {
            wishes = press(&mut app, &stage.state, key);
        }
        let mut lines = entries();
        let other = LogId {
            agent: "anga".parse().unwrap(),
            task: Some("api-tests".into()),
            attempt: Some(2),
            path: "y".into(),
        };
        for (n, text) in
            ["日本語のログ 👨‍👩‍👧‍👦 e\u{301}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd} and back", "Bash cargo test"].iter().enumerate()
        {
            let mut line = said(0, 74 + 7 * i64::try_from(n).unwrap(), Kind::Tool, u8::try_from(n).unwrap(), text);
            line.log = Arc::new(other.clone());
            lines.insert(2 * n + 1, line);
        }
        let Some(Wish::ReadLog(Some(ask))) = wishes.last() else { panic!("{wishes:?}") };
        app.log_read(ask.id, LogPart { files: 2, ..whole(lines) }, &stage.state);
        press(&mut app, &stage.state, "v up up");
        insta::assert_snapshot!(format!("logs_{}", size.0), screen(&stage.state, &app, at(120), size));
    }
}

#[test]
fn the_tasks_can_be_narrowed_and_widened_again() {
    let stage = sample::thousand();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "/ 0 9 9 enter");
    assert_eq!(app.rows(&stage.state).len(), 11);
    press(&mut app, &stage.state, "esc");
    assert_eq!(app.rows(&stage.state).len(), 1_000);
}

#[test]
fn the_mouse_moves_the_hand_and_scrolls_only_what_it_is_over() {
    use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    assert_eq!(press(&mut app, &stage.state, "m"), [Wish::Mouse(true)]);
    let at = |kind, column, row| MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
    let click = MouseEventKind::Down(MouseButton::Left);
    app.mouse(at(click, 60, 3), &stage.state);
    let wanted = app.wanted_logs(&stage.state).unwrap();
    assert!(matches!(wanted, LogScope::One(log) if log.to_string() == "fabien/post-teaser#1"));
    app.mouse(at(click, 5, 5), &stage.state);
    assert_eq!((app.focus(), app.selected_agent(&stage.state)), (layout::Pane::Agents, 1));
    app.mouse(at(click, 60, 37), &stage.state);
    assert!(app.is_composing());
    for (column, row) in [(0, 0), (65_535, 65_535), (119, 39)] {
        app.mouse(at(MouseEventKind::ScrollDown, column, row), &stage.state);
        app.mouse(at(click, column, row), &stage.state);
    }
}

// What must always hold.

/// Strings that break what can be broken: too long, wide, combining, invisible, controlling.
pub(super) fn hostile() -> Stage {
    let mut stage = Stage::open();
    let long = "x".repeat(40);
    let nasty = "\u{1b}[2J日本語日本語日本語日本語 e\u{301}\u{301}\u{200d}👨‍👩‍👧‍👦 \u{202e}ﾞﾟ\u{7}\u{9b}1m\nsecond line\ttab";
    stage.task(1, &format!("marie/{long}"), &nasty.repeat(20), &[]);
    stage.start(2, &format!("marie/{long}"), nasty);
    stage.task(3, &format!("anga/{}", "y".repeat(120)), nasty, &[&format!("fabien/{}", "z".repeat(120))]);
    stage.task(4, "fabien/bad", nasty, &[]);
    stage.start(5, "fabien/bad", nasty);
    let ending = crate::model::Ending::ExitCode { code: 1, message: nasty.into() };
    stage.end(6, "fabien/bad", crate::model::EndState::Failed, ending, &nasty.repeat(30));
    stage.order(7, Order::Goal { text: nasty.repeat(10), approval: Approval::Ask, terms: Terms::default() });
    stage
}

pub(super) fn assert_harmless(buffer: &Buffer) {
    for cell in &buffer.content {
        assert!(!cell.symbol().contains(char::is_control), "{:?}", cell.symbol());
        assert_eq!(scrub(cell.symbol()), cell.symbol());
    }
}

#[test]
fn long_and_wide_text_breaks_no_border() {
    let stage = hostile();
    let mut app = looking(&stage, WIDE);
    let nasty = "日本語 \u{1b}[31m👨‍👩‍👧‍👦".repeat(40);
    let lines = (0..30_u8).map(|n| said(n.into(), 1, Kind::Raw, n % 4, &scrub(&nasty))).collect();
    app.log_read(1, LogPart { whole: false, ..whole(lines) }, &stage.state);
    let buffer = picture(&stage.state, &app, at(60), WIDE);
    assert_harmless(&buffer);
    for y in 2..20 {
        let right = buffer[(119, y)].symbol();
        assert!(["│", "┐", "┘"].contains(&right), "row {y} ends in {right:?}\n{}", text(&buffer));
    }
    insta::assert_snapshot!("hostile_120x40", text(&buffer));
}

#[test]
fn the_ascii_screen_is_ascii() {
    let stage = hostile();
    for stage in [stage, sample::running(), sample::planned()] {
        let mut app = App::new(Settings { ascii: true, theme: Theme::plain(), ..Settings::default() });
        app.resize(120, 40);
        for keys in ["1", "?", "esc 3", "esc enter", "esc q", "esc 4 v", "S n"] {
            press(&mut app, &stage.state, keys);
            let buffer = picture(&stage.state, &app, at(60), WIDE);
            assert!(buffer.content.iter().all(|c| c.symbol().is_ascii()));
        }
    }
}

#[test]
fn without_colour_there_is_no_colour() {
    let stage = sample::running();
    let mut app = App::new(Settings { theme: Theme::plain(), ..Settings::default() });
    app.resize(120, 40);
    let plain = picture(&stage.state, &app, at(60), WIDE);
    let reset = ratatui::style::Color::Reset;
    assert!(plain.content.iter().all(|c| c.fg == reset && c.bg == reset));
    let coloured = picture(&stage.state, &looking(&stage, WIDE), at(60), WIDE);
    assert!(coloured.content.iter().any(|c| c.fg != reset), "the other way round it would prove nothing");
}

#[test]
fn colours_mean_what_the_words_say() {
    use ratatui::style::{Color, Modifier};
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    let cell = |app: &App, x, y| picture(&stage.state, app, at(120), WIDE)[(x, y)].clone();
    assert_eq!((cell(&app, 38, 3).symbol(), cell(&app, 38, 3).fg), ("!", Color::Red));
    assert_eq!((cell(&app, 38, 5).symbol(), cell(&app, 38, 5).fg), ("▶", Color::Green));
    assert!(cell(&app, 26, 0).modifier.contains(Modifier::REVERSED), "the rehearsal badge");
    assert!(cell(&app, 50, 5).modifier.contains(Modifier::REVERSED), "the hand, where the keys are");
    press(&mut app, &stage.state, "tab");
    assert!(!cell(&app, 50, 5).modifier.contains(Modifier::REVERSED), "the hand, where they are not");
    assert_eq!(cell(&app, 37, 5).symbol(), "▌");
}

#[test]
fn a_lost_room_is_said_and_since_when() {
    let stage = sample::running();
    let mut app = looking(&stage, SMALL);
    app.connection(Connection::Lost { since: at(100), why: "connection closed".into() });
    let screen = screen(&stage.state, &app, at(120), SMALL);
    assert!(screen.contains("no word from the room since 13:31:40 (connection closed)"), "{screen}");
}

#[test]
fn the_room_of_another_stage_says_whose_it_is_and_is_left_without_being_stopped() {
    let stage = sample::running();
    let whose = Holder {
        room: "7f".into(),
        host: "studio-2.example.org".into(),
        stage: "/srv/companies/north/dance".into(),
        pid: 812,
        since: at(0),
    };
    for size in [WIDE, SMALL] {
        let mut app = looking(&stage, size);
        press(&mut app, &stage.state, "q");
        app.belongs(Some(whose.clone()));
        insta::assert_snapshot!(format!("abroad_{}", size.0), screen(&stage.state, &app, at(120), size));
        assert_eq!(press(&mut app, &stage.state, "q"), [Wish::Quit(Leave::Detach)]);
        press(&mut app, &stage.state, "?");
        press(&mut app, &stage.state, "end");
        let help = screen(&stage.state, &app, at(120), size);
        assert!(help.contains("the room on studio-2.example.org"), "{help}");
        press(&mut app, &stage.state, "esc");
        app.connection(Connection::Left { since: at(100), address: "nats.example:4222".into() });
        let left = screen(&stage.state, &app, at(120), size);
        assert!(left.contains("the room has left"), "{left}");
        app.compose("Announce recital week");
        assert_eq!(orders(press(&mut app, &stage.state, "enter")), []);
        assert_eq!(app.composer().text(), "Announce recital week");
    }
}

#[test]
fn f9_a_room_that_says_nothing_is_named_with_the_age_of_the_picture() {
    let stage = sample::running();
    let mut app = looking(&stage, SMALL);
    app.connection(Connection::Silent { since: at(100), pid: 1234 });
    let screen = screen(&stage.state, &app, at(160), SMALL);
    assert!(screen.contains("control room 1234 not responding for 60 s"), "{screen}");
    assert!(app.ticks(&stage.state));
    app.compose("Announce recital week");
    assert_eq!(orders(press(&mut app, &stage.state, "enter")), []);
}

#[test]
fn trouble_is_shown_with_its_remedy() {
    let mut stage = Stage::open();
    let trouble = "no key: set ANTHROPIC_API_KEY, or start with podium rehearse".to_owned();
    let setup = room::event::AgentSetup { settings: sample::agent("marie", 1), trouble: Some(trouble.clone()) };
    let mut opened = sample::opened(vec![setup]);
    opened.orchestrator.trouble = Some(trouble);
    stage.tell(2, room::Event::Opened(Box::new(opened)));
    for size in [WIDE, SMALL] {
        insta::assert_snapshot!(format!("trouble_{}", size.0), screen(&stage.state, &fresh(size), at(3), size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_size_and_no_keys_make_it_panic(
        keys in proptest::collection::vec(proptest::sample::select(acting::all_keys()), 0..40),
        sizes in proptest::collection::vec((1_u16..200, 1_u16..80), 1..6),
        pastes in proptest::collection::vec("\\PC{0,40}|[\\x00-\\x7f日é👩\u{200d}\u{301}ﾞ]{0,60}", 0..4),
        room in 0..4, ascii: bool,
    ) {
        let stage = match room {
            0 => Stage::open(),
            1 => sample::running(),
            2 => sample::planned(),
            _ => hostile(),
        };
        let mut app = App::new(Settings { ascii, ..Settings::default() });
        for (n, key) in keys.iter().enumerate() {
            let size = sizes[n % sizes.len()];
            app.resize(size.0, size.1);
            if let Some(paste) = pastes.get(n / 7).filter(|_| n % 7 == 0) {
                app.paste(paste);
            }
            let wishes = press(&mut app, &stage.state, key);
            if n % 3 > 0 {
                read(&mut app, &stage.state, &wishes, entries());
            }
            assert_harmless(&picture(&stage.state, &app, at(60), size));
        }
    }

    #[test]
    fn looking_orders_nothing(keys in proptest::collection::vec(proptest::sample::select(acting::looking_keys()), 0..60)) {
        let stage = sample::running();
        let mut app = looking(&stage, WIDE);
        for key in keys {
            // Leaving is asked, never done, by keys that only look: enter in that question is an answer.
            if matches!(app.popups().last(), Some(Popup::Leave { .. })) {
                press(&mut app, &stage.state, "esc");
            }
            let wishes = press(&mut app, &stage.state, key);
            let looking = wishes.iter().all(|w| {
                matches!(
                    w,
                    Wish::ReadLog(_)
                        | Wish::Search(_)
                        | Wish::Beside(_)
                        | Wish::CopyLog(_)
                        | Wish::OpenLog(..)
                        | Wish::Read(_)
                        | Wish::ReadLogin(_)
                        | Wish::Copy(_)
                        | Wish::Redraw
                        | Wish::Mouse(_)
                )
            });
            prop_assert!(looking, "{:?}", wishes);
        }
    }
}

// Starting again.

#[test]
fn a_task_starts_again_with_the_text_that_is_edited_and_the_draft_of_a_goal_comes_back() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    app.compose("Announce");
    press(&mut app, &stage.state, "esc n esc R");
    let shown = screen(&stage.state, &app, at(120), WIDE);
    assert!(shown.contains("Retry fabien/post-teaser") && shown.contains("on marie"), "{shown}");
    press(&mut app, &stage.state, "e");
    assert!(app.is_composing());
    assert_eq!(app.composer().text(), stage.state.tasks.get(&teaser()).unwrap().record.spec.description);
    write(&mut app, &stage.state, " Use last year's picture.");
    let text = app.composer().text();
    let sent = orders(press(&mut app, &stage.state, "enter"));
    let changes = Box::new(Changes { description: Some(text.clone()), ..Changes::default() });
    assert_eq!(sent, [Order::Retry { task: teaser(), changes }]);
    assert_eq!(app.composer().text(), "Announce");
    app.answered(&sent[0], &Answer::Refused { reason: "no".into() });
    assert_eq!(
        (app.composer().text(), app.editing()),
        (text, Some(&app::Editing::Task(teaser()))),
        "what was written is not lost"
    );
    press(&mut app, &stage.state, "esc");
    assert_eq!((app.composer().text().as_str(), app.editing()), ("Announce", None));
}

#[test]
fn a_task_is_given_to_another_agent_from_the_menu() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "n esc R");
    insta::assert_snapshot!("over_retry", screen(&stage.state, &app, at(120), WIDE));
    let sent = orders(press(&mut app, &stage.state, "down down enter"));
    assert_eq!(sent, [Order::RetryOn { task: teaser(), agent: "marie".parse().unwrap(), changes: Box::default() }]);
}

#[test]
fn the_dead_letters_are_shown_alone_and_one_key_starts_one_again() {
    let mut stage = sample::running();
    let mut app = looking(&stage, WIDE);
    stage.tell(121, Event::Task(TaskEvent::Changed { record: Box::new(dead("marie/buried")) }));
    press(&mut app, &stage.state, "D");
    let shown = screen(&stage.state, &app, at(122), WIDE);
    assert!(shown.contains("Tasks holding \"is:dead\"") && shown.contains("marie"), "{shown}");
    let sent = orders(press(&mut app, &stage.state, "home r"));
    assert_eq!(sent, [Order::Retry { task: "marie/buried".parse().unwrap(), changes: Box::default() }]);
    press(&mut app, &stage.state, "D");
    assert_eq!(app.table().filter, "");
}

#[test]
fn a_task_that_asks_comes_first_and_says_what_it_wants() {
    let mut stage = sample::running();
    let mut record = dead("marie/lost");
    record.standing = Standing::Asking { attempt: 1 };
    record.outcome = None;
    stage.tell(121, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "n");
    let shown = screen(&stage.state, &app, at(122), WIDE);
    assert!(shown.contains("attempt 1 was lost: retry or cancel it"), "{shown}");
    let sent = orders(press(&mut app, &stage.state, "r"));
    assert_eq!(sent, [Order::Retry { task: "marie/lost".parse().unwrap(), changes: Box::default() }]);
}

fn teaser() -> TaskRef {
    "fabien/post-teaser".parse().unwrap()
}

/// A task whose attempts are used up.
fn dead(name: &str) -> TaskRecord {
    let task: TaskRef = name.parse().unwrap();
    let mut record = TaskRecord::new(TaskSpec::new(task.clone(), "Bury it."), at(1));
    record.standing = Standing::Ended;
    let ending = Ending::Signal { signal: 9 };
    record.outcome = Some(sample::outcome(&task, 3, 100, EndState::Dead, ending, ""));
    record
}

// Throwing away and taking back.

#[test]
fn what_was_removed_can_be_taken_back_by_one_key_for_thirty_seconds() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "n esc x");
    assert!(screen(&stage.state, &app, at(120), WIDE).contains("Remove fabien/post-teaser?"));
    let sent = orders(press(&mut app, &stage.state, "y"));
    let item = Item::Task(teaser());
    assert_eq!(sent, [Order::Remove { item: item.clone() }]);
    let done = Answer::Done { text: "removed fabien/post-teaser".into(), ids: Vec::new() };
    app.answered(&sent[0], &done);
    app.observe(&stage.state);
    let now = stage.state.now;
    let shown = screen(&stage.state, &app, now + jiff::SignedDuration::from_secs(6), WIDE);
    assert!(shown.contains("✓ removed fabien/post-teaser · u undoes (24 s)"), "{shown}");
    assert_eq!(orders(press(&mut app, &stage.state, "u")), [Order::Restore { item }]);
    assert_eq!(orders(press(&mut app, &stage.state, "u")), [], "once");

    app.answered(&sent[0], &done);
    app.observe(&stage.state);
    app.pass(now + jiff::SignedDuration::from_secs(31));
    assert_eq!(orders(press(&mut app, &stage.state, "u")), []);
    assert_eq!(app.message().unwrap().text, "there is nothing to undo");
}

#[test]
fn a_cancel_can_be_taken_back_where_nothing_ran_and_not_where_an_attempt_was_ended() {
    let stage = sample::running();
    let done = Answer::Done { text: "is ended".into(), ids: Vec::new() };
    for (name, expected) in [("marie/eval-senior", 1), ("marie/eval-junior", 0)] {
        let mut app = looking(&stage, WIDE);
        press(&mut app, &stage.state, "/");
        write(&mut app, &stage.state, name);
        press(&mut app, &stage.state, "enter home c");
        let sent = orders(press(&mut app, &stage.state, "y"));
        assert_eq!(sent, [Order::Cancel { task: name.parse().unwrap() }]);
        app.answered(&sent[0], &done);
        app.observe(&stage.state);
        let back = orders(press(&mut app, &stage.state, "u"));
        assert_eq!(back.len(), expected, "{name}");
        assert!(back.iter().all(|order| matches!(order, Order::Retry { .. })), "{back:?}");
    }
}

#[test]
fn silence_counts_down_on_screen_and_one_key_gives_it_more_time() {
    let mut stage = sample::running();
    let task: TaskRef = "marie/eval-junior".parse().unwrap();
    let slot = stage.state.agents.holder(&task).unwrap().id.clone();
    let activity = Activity { stalls_at: Some(at(419)), ..Activity::default() };
    let report = Report::Active { attempt: task.attempt(1), activity };
    stage.tell(119, Event::Worker(WorkerEvent::Reported { slot, report }));
    let mut app = looking(&stage, WIDE);
    let shown = screen(&stage.state, &app, at(120), WIDE);
    assert_eq!(shown.matches("silent, ended in 4:59").count(), 3, "agent, task and border: {shown}");
    let sent = orders(press(&mut app, &stage.state, "e"));
    assert_eq!(sent, [Order::Extend { task, by: std::time::Duration::from_mins(10) }]);
}

#[test]
fn the_screen_says_why_in_the_same_sentence_as_the_room() {
    for room::tests::why::Fixture { cause, story, sentence, .. } in room::tests::why::fixtures() {
        let shown = screen(&story.room, &fresh((240, 40)), story.now, (240, 40));
        assert!(shown.contains(sentence), "{cause}: {sentence}\n{shown}");
    }
}
