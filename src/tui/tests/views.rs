//! The views: what each shows, and that its keys reach all of it.

use super::*;
use crate::{
    model::{Far, GoalId, Rejected, Removed},
    room::tasks::Phase,
    tui::views::{plan, tasks::Row},
};

/// A goal of so many tasks, in layers of ten, each needing two of the layer before; those of `done` have ended well.
fn layered(n: usize, done: usize, failed: Option<usize>) -> Stage {
    let mut stage = Stage::open();
    stage.order(2, Order::Goal { text: "A hundred things.".into(), approval: Approval::Ask, terms: Terms::default() });
    let id = |i: usize| format!("t{i:03}");
    let needs = |i: usize| -> Vec<String> {
        if i < 10 { Vec::new() } else { vec![id(i - 10), id((i / 10 - 1) * 10 + (i + 3) % 10)] }
    };
    let agents = ["marie", "anga", "fabien"];
    let tasks: Vec<_> = (0..n)
        .map(|i| {
            serde_json::json!({ "id": id(i), "worker": agents[i % 3], "title": format!("Thing {i}"), "minutes": 2.0,
                "dependencies": needs(i), "description": "Do it.", "done_when": ["it is done"] })
        })
        .collect();
    stage.patch(&serde_json::json!({ "phase": { "phase": "awaiting_approval" }, "plan": {
        "revision": 1, "summary": "", "model": "sonnet", "spend": crate::model::Spend::default(), "tasks": tasks } }));
    if done + failed.map_or(0, |_| 1) == 0 {
        return stage;
    }
    let goal = GoalId::new("g1").unwrap();
    let names: Vec<_> = (0..n).map(|i| format!("{}/g1-{}", agents[i % 3], id(i))).collect();
    stage.patch(&serde_json::json!({ "phase": { "phase": "running" }, "published": true, "approved_at": at(3), "tasks": names }));
    for (i, name) in names.iter().enumerate() {
        let mut spec = TaskSpec::new(name.parse().unwrap(), "Do it.");
        spec.goal = Some(goal.clone());
        spec.dependencies = needs(i).iter().map(|need| format!("g1-{need}").parse().unwrap()).collect();
        let mut record = TaskRecord::new(spec, at(4));
        let end = if Some(i) == failed { Some(EndState::Dead) } else { (i < done).then_some(EndState::Done) };
        if let Some(end) = end {
            record.standing = Standing::Ended;
            let ending = if end == EndState::Done { Ending::Done } else { Ending::Signal { signal: 9 } };
            let task = record.task().clone();
            record.outcome = Some(sample::outcome(&task, 1, 60, end, ending, "Well."));
            record.attempts = vec![crate::model::AttemptRecord {
                n: 1,
                started_at: at(5 + i64::try_from(i).unwrap()),
                ended_at: Some(at(30 + i64::try_from(i).unwrap())),
                ending: Some(Ending::Done),
                session_id: None,
                spend: crate::model::Spend::default(),
                log: String::new(),
            }];
        }
        stage.tell(4, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    }
    stage
}

/// A hundred tasks that need nothing, and one that needs them all.
fn fan() -> Stage {
    let mut stage = Stage::open();
    stage.order(2, Order::Goal { text: "A hundred things.".into(), approval: Approval::Ask, terms: Terms::default() });
    let task = |i: usize| {
        let needs: Vec<String> = if i == 99 { (0..99).map(|n| format!("t{n:03}")).collect() } else { Vec::new() };
        serde_json::json!({ "id": format!("t{i:03}"), "worker": "anga", "title": format!("Thing {i}"),
            "dependencies": needs, "description": "Do it.", "done_when": ["it is done"] })
    };
    let tasks: Vec<_> = (0..100).map(task).collect();
    stage.patch(&serde_json::json!({ "phase": { "phase": "awaiting_approval" }, "plan": {
        "revision": 1, "summary": "", "model": "sonnet", "spend": crate::model::Spend::default(), "tasks": tasks } }));
    stage
}

#[test]
fn a_graph_wider_than_the_screen_goes_with_the_hand_and_one_key_gives_it_the_page() {
    let stage = fan();
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "3 home");
    for wide in [false, true] {
        for n in 0..100 {
            let shown = screen(&stage.state, &app, at(12), SMALL);
            let here = shown.lines().find(|line| line.contains("│▌")).unwrap_or_else(|| panic!("no hand\n{shown}"));
            assert!(here.contains(&format!("t{n:03}")), "{n}: {here}");
            assert_eq!(here.chars().filter(|c| matches!(c, '○' | '●')).count(), 1, "{n}: its place is seen: {here}");
            press(&mut app, &stage.state, "down");
        }
        let picture = screen(&stage.state, &app, at(12), SMALL);
        insta::assert_snapshot!(format!("plan_fan_{}", if wide { "wide" } else { "beside" }), picture);
        press(&mut app, &stage.state, "home z");
    }
}

#[test]
fn every_task_of_a_hundred_is_reached_by_keys_on_a_small_screen() {
    let stage = layered(100, 0, None);
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "3 home");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let shown = screen(&stage.state, &app, at(12), SMALL);
        let here = shown.lines().find(|line| line.contains("│▌")).unwrap_or_else(|| panic!("no hand\n{shown}"));
        let name = here.split_whitespace().find(|word| word.starts_with('t') && word.len() == 4).unwrap().to_owned();
        seen.insert(name);
        press(&mut app, &stage.state, "down");
    }
    assert_eq!(seen.len(), 100);
    press(&mut app, &stage.state, "home");
    insta::assert_snapshot!("plan_hundred_80x24", screen(&stage.state, &app, at(12), SMALL));
    press(&mut app, &stage.state, "t");
    insta::assert_snapshot!("plan_hundred_timeline_80x24", screen(&stage.state, &app, at(12), SMALL));
}

#[test]
fn what_is_behind_a_failure_is_folded_and_a_key_goes_to_what_holds_a_task() {
    let stage = layered(40, 10, Some(12));
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "3");
    let goal = GoalId::new("g1").unwrap();
    let rows = plan::rows(&stage.state, &goal, app.plan_view());
    let folded = rows.iter().find(|row| row.task == 12).unwrap();
    assert!(folded.behind > 0 && rows.len() + folded.behind == 40, "{folded:?} {}", rows.len());
    let Some(Popup::Plan { selected, .. }) = app.popups().last() else { panic!() };
    assert_eq!(*selected, 12, "the failure is what matters most");
    insta::assert_snapshot!("plan_failed_120x40", screen(&stage.state, &app, at(90), WIDE));
    press(&mut app, &stage.state, "right end b");
    let Some(Popup::Plan { selected, .. }) = app.popups().last() else { panic!() };
    let found = stage
        .state
        .tasks
        .get(&format!("{}/g1-t{selected:03}", ["marie", "anga", "fabien"][selected % 3]).parse().unwrap());
    assert!(matches!(found.map(|t| stage.state.tasks.phase(t)), Some(Phase::Failed | Phase::Ready | Phase::Running)));
    press(&mut app, &stage.state, "f");
    assert_eq!(plan::rows(&stage.state, &goal, app.plan_view()).len(), 30, "ten are done");
}

#[test]
fn a_task_leads_to_what_holds_it_and_says_so() {
    let stage = sample::running();
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "/");
    write(&mut app, &stage.state, "newsletter");
    press(&mut app, &stage.state, "enter b");
    assert_eq!(
        app.message().unwrap().text,
        "fabien/newsletter waits for marie/eval-junior: Write evaluations/junior.md"
    );
    let rows = app.rows(&stage.state);
    let here = rows.get(app.selected_row(&rows)).unwrap();
    assert!(matches!(here, Row::Task(task, _) if task.record.task().id.as_str() == "eval-junior"), "{here:?}");
}

#[test]
fn the_tasks_are_sorted_and_grouped_and_groups_are_folded() {
    let mut stage = sample::running();
    let mut spec = TaskSpec::new("marie/of-a-goal".parse().unwrap(), "Do it.");
    spec.goal = Some(GoalId::new("g1").unwrap());
    stage.tell(98, Event::Task(TaskEvent::Changed { record: Box::new(TaskRecord::new(spec, at(98))) }));
    let mut app = looking(&stage, WIDE);
    let names = |app: &App| -> Vec<String> {
        let name = |row: Row<'_>| match row {
            Row::Task(task, _) => Some(task.record.task().id.to_string()),
            Row::Rejected(_) | Row::Removed(_) | Row::Heading { .. } => None,
        };
        app.rows(&stage.state).iter().filter_map(name).collect()
    };
    let whole = names(&app);
    let mut orders = vec![whole.clone()];
    for _ in 0..4 {
        press(&mut app, &stage.state, "O");
        let mut sorted = names(&app);
        orders.push(sorted.clone());
        sorted.sort();
        let mut all = whole.clone();
        all.sort();
        assert_eq!(sorted, all, "nothing is lost");
    }
    assert_eq!(orders[4].first().map(String::as_str), Some("announce"), "by name");
    assert_eq!(orders[2].first().map(String::as_str), Some("eval-mini"), "what came first");
    press(&mut app, &stage.state, "O B");
    assert_eq!(names(&app).len(), whole.len());
    insta::assert_snapshot!("tasks_by_goal_120x40", {
        press(&mut app, &stage.state, "2");
        screen(&stage.state, &app, at(120), WIDE)
    });
    press(&mut app, &stage.state, "home left");
    assert_eq!(names(&app).len(), whole.len() - 1, "the goal's one task is folded");
    press(&mut app, &stage.state, "enter");
    assert_eq!(names(&app).len(), whole.len());
}

#[test]
fn the_picture_of_the_directories_has_the_trash_and_what_is_foreign() {
    let mut stage = sample::running();
    let removed = |item, title: &str, s| Removed { item, title: title.into(), at: at(s) };
    let trash = vec![
        removed(Item::Task("marie/old".parse().unwrap()), "Write what was", 50),
        removed(Item::File("tasks/anga/what.json".into()), "no description", 20),
    ];
    stage.tell(110, Event::Task(TaskEvent::Trash { removed: trash }));
    let rejected = Rejected {
        path: "tasks/anga/notes.txt".into(),
        reason: "not a task: its name does not end in .json".into(),
        at: at(98),
        moved: false,
        duplicate: false,
    };
    stage.tell(111, Event::Task(TaskEvent::Rejected { rejected }));
    let mut app = looking(&stage, SMALL);
    insta::assert_snapshot!("tasks_foreign_80x24", screen(&stage.state, &app, at(120), SMALL));
    press(&mut app, &stage.state, "T");
    insta::assert_snapshot!("tasks_trash_80x24", screen(&stage.state, &app, at(120), SMALL));
    let item = Item::File("tasks/anga/what.json".into());
    assert_eq!(orders(press(&mut app, &stage.state, "end r")), [Order::Restore { item }]);
    press(&mut app, &stage.state, "T");
    assert_eq!(app.table().filter, "");
}

#[test]
fn the_inbox_says_what_waits_why_and_since_when_and_leads_there() {
    let mut stage = sample::running();
    let mut record = dead("marie/lost");
    record.standing = Standing::Asking { attempt: 1 };
    record.outcome = None;
    stage.tell(121, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    stage.tell(122, Event::Task(TaskEvent::Changed { record: Box::new(dead("anga/buried")) }));
    for size in [SMALL, WIDE] {
        let mut app = looking(&stage, size);
        press(&mut app, &stage.state, "I");
        insta::assert_snapshot!(format!("inbox_{}x{}", size.0, size.1), screen(&stage.state, &app, at(300), size));
        press(&mut app, &stage.state, "end enter");
        let shown = screen(&stage.state, &app, at(300), size);
        assert!(shown.contains("anga/buried") && shown.contains("Attempts"), "{shown}");
    }
}

#[test]
fn the_files_of_a_task_are_read_where_they_lie() {
    let stage = sample::running();
    let mut app = looking(&stage, SMALL);
    press(&mut app, &stage.state, "/");
    write(&mut app, &stage.state, "eval-mini");
    press(&mut app, &stage.state, "enter enter o");
    insta::assert_snapshot!("files_80x24", screen(&stage.state, &app, at(120), SMALL));
    let wishes = press(&mut app, &stage.state, "down down enter");
    let made = Document::Path("work/notes/evaluation.md".into());
    assert!(wishes.contains(&Wish::Read(made.clone())), "{wishes:?}");
    app.document_read(&made, Err("no text: 12 bytes"));
    assert!(screen(&stage.state, &app, at(120), SMALL).contains("no text: 12 bytes"));
}

#[test]
fn no_hint_is_cut_in_the_middle_on_a_small_screen() {
    let all: std::collections::BTreeSet<String> = action::VERBS.iter().map(|verb| verb.name.to_owned()).collect();
    let keys: std::collections::BTreeSet<&str> = action::VERBS.iter().flat_map(|verb| verb.keys).copied().collect();
    for (stage, views) in [
        (sample::running(), vec!["1", "2", "3", "4", "5", "tab", "enter", "I", "n"]),
        (sample::planned(), vec!["1", "3", "3 t"]),
        (sample::reported(), vec!["1", "3", "o"]),
    ] {
        for width in [60, 72, 80, 93] {
            for view in &views {
                let mut app = looking(&stage, (width, 24));
                press(&mut app, &stage.state, view);
                let shown = screen(&stage.state, &app, at(120), (width, 24));
                for line in shown.lines().filter(|line| line.contains("esc back")) {
                    assert!(!line.trim_end_matches(['│', ' ']).ends_with('…'), "{width} {view}: {line}");
                }
                let last = shown.lines().last().unwrap();
                for hint in last.split("  ").map(str::trim).filter(|hint| !hint.is_empty()) {
                    let (key, name) = hint.split_once(' ').unwrap_or((hint, ""));
                    assert!(!keys.contains(key) || all.contains(name), "{width} {view}: {hint:?} of {last:?}");
                }
                if let Some(report) = shown.lines().find(|line| line.contains(" — o ")) {
                    assert!(report.ends_with("report"), "{report}");
                }
            }
        }
    }
}

#[test]
fn an_agents_page_says_on_which_machine_its_work_is_done() {
    let mut stage = sample::running();
    let slot = stage.state.agents.get(&"marie".parse().unwrap()).unwrap().slots[0].id.clone();
    let far = Far {
        host: "builder".into(),
        version: "0.1.0".into(),
        pid: 4_711,
        offset_ms: -2_000,
        load: Some(53),
        heard_at: at(115),
    };
    let report = Report::Far { far: Box::new(far) };
    stage.tell(116, Event::Worker(WorkerEvent::Reported { slot, report }));
    let mut app = looking(&stage, WIDE);
    press(&mut app, &stage.state, "1 tab tab tab tab enter");
    let shown = screen(&stage.state, &app, at(120), WIDE);
    let line = "on builder: podium 0.1.0, pid 4711 · load 0.53 · its clock is 2 s behind · last heard 5 s ago";
    assert!(shown.contains(line), "{shown}");
}
