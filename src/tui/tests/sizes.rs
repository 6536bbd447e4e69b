//! Every view in every size: empty, with ten thousand rows, with strings that are forty characters long. One picture book
//! per size; what must hold for all of them is checked for all of them.

use super::*;
use crate::model::{GoalId, Removed};

/// The views by the keys that lead there from the stage.
const VIEWS: [(&str, &str); 11] = [
    ("tasks", "2"),
    ("tasks in groups", "2 B"),
    ("a task", "2 enter"),
    ("its files", "2 enter o"),
    ("plan", "3"),
    ("plan over time", "3 t"),
    ("an agent", "shift-tab enter"),
    ("inbox", "I"),
    ("what was ordered", "H"),
    ("palette", ":"),
    ("help", "?"),
];

/// Draws a view and checks that nothing of it is broken.
fn drawn(stage: &Stage, keys: &str, size: (u16, u16)) -> String {
    let mut app = looking(stage, size);
    press(&mut app, &stage.state, keys);
    let buffer = picture(&stage.state, &app, at(120), size);
    assert_harmless(&buffer);
    let drawn = text(&buffer);
    let last = drawn.lines().last().unwrap_or_default();
    assert!(text::width(last) <= usize::from(size.0), "{keys}: {last}");
    // Every border that begins ends, on the same column where the window is the only one.
    for (n, line) in drawn.lines().enumerate() {
        let bars = line.chars().filter(|c| matches!(c, '│' | '┌' | '┐' | '└' | '┘')).count();
        assert!(bars != 1 || line.contains('│'), "{keys} at {size:?}, row {n}: {line}");
    }
    drawn
}

fn book(stage: &Stage, views: &[(&str, &str)], size: (u16, u16)) -> String {
    let page = |(name, keys): &(&str, &str)| format!("== {name} ({keys})\n{}", drawn(stage, keys, size));
    views.iter().map(page).collect::<Vec<_>>().join("\n")
}

const BIG: (u16, u16) = (200, 60);

/// Ten thousand tasks, most of them waiting, a goal of a hundred, and things in the trash.
fn ten_thousand() -> Stage {
    let mut stage = sample::planned();
    let goal = GoalId::new("g1").unwrap();
    for n in 0..10_000 {
        let agent = ["marie", "anga", "fabien"][n % 3];
        let task: TaskRef = format!("{agent}/task-{n:05}").parse().unwrap();
        let mut spec = TaskSpec::new(task.clone(), format!("Number {n}"));
        spec.goal = (n % 4 == 0).then(|| goal.clone());
        spec.dependencies = vec!["nobody-has-it".parse().unwrap()];
        let mut record = TaskRecord::new(spec, at(i64::try_from(n).unwrap() / 100));
        if n % 100 == 1 {
            record.standing = Standing::Ended;
            record.outcome = Some(sample::outcome(&task, 1, 90, EndState::Dead, Ending::Signal { signal: 9 }, ""));
        }
        stage.tell(100, Event::Task(TaskEvent::Changed { record: Box::new(record) }));
    }
    let removed = (0..100).map(|n| Removed {
        item: Item::Task(format!("marie/gone-{n:03}").parse().unwrap()),
        title: format!("Thrown away {n}"),
        at: at(n),
    });
    stage.tell(101, Event::Task(TaskEvent::Trash { removed: removed.collect() }));
    stage
}

#[test]
fn every_view_of_an_empty_room_in_every_size() {
    let stage = Stage::open();
    for size in [SMALL, WIDE, BIG] {
        for (_, keys) in VIEWS {
            drawn(&stage, keys, size);
        }
    }
    insta::assert_snapshot!("views_empty_80x24", book(&stage, &VIEWS[..9], SMALL));
    insta::assert_snapshot!("views_empty_50x12", book(&stage, &VIEWS[..1], TINY));
    insta::assert_snapshot!("views_empty_200x60", book(&stage, &VIEWS[7..8], BIG));
}

#[test]
fn every_view_of_ten_thousand_rows_in_every_size() {
    let stage = ten_thousand();
    for size in [SMALL, WIDE, BIG, TINY] {
        for (_, keys) in VIEWS {
            drawn(&stage, keys, size);
        }
    }
    let ends = [("tasks", "2 end"), ("tasks in groups", "2 B end"), ("inbox", "I end"), ("trash", "T end")];
    for size in [SMALL, WIDE] {
        insta::assert_snapshot!(format!("views_10000_{}x{}", size.0, size.1), book(&stage, &ends, size));
    }
    insta::assert_snapshot!("views_10000_200x60", book(&stage, &ends[1..3], BIG));
}

/// A room in which every name and every word is forty characters long.
fn forty() -> Stage {
    let long = |c: char| c.to_string().repeat(40);
    let mut stage = Stage::open();
    stage.order(2, Order::Goal { text: long('g'), approval: Approval::Ask, terms: Terms::default() });
    let task = |id: char, after: &[String]| {
        serde_json::json!({ "id": long(id), "worker": "marie", "title": long('t'), "minutes": 3.0, "dependencies": after,
            "description": long('d'), "done_when": [long('w')] })
    };
    let tasks = [task('a', &[]), task('b', &[long('a')]), task('c', &[long('a'), long('b')])];
    stage.patch(&serde_json::json!({ "phase": { "phase": "awaiting_approval" }, "plan": { "revision": 1,
        "summary": long('s'), "model": long('m'), "spend": crate::model::Spend::default(), "tasks": tasks } }));
    for (n, agent) in (0..).zip(["marie", "anga", "fabien"]) {
        let name = format!("{agent}/{}", long(['x', 'y', 'z'][n]));
        stage.task(3, &name, &long('d'), &[]);
        stage.start(4, &name, &long('d'));
    }
    let name = format!("fabien/{}", long('z'));
    let ending = Ending::ExitCode { code: 1, message: long('e') };
    stage.end(9, &name, EndState::Failed, ending, &long('s'));
    let rejected = crate::model::Rejected {
        path: format!("tasks/anga/{}.json", long('f')),
        reason: long('r'),
        at: at(9),
        moved: true,
        duplicate: false,
    };
    stage.tell(10, Event::Task(TaskEvent::Rejected { rejected }));
    stage
}

#[test]
fn with_every_string_forty_characters_long_nothing_breaks_at_80x24() {
    let stage = forty();
    for (_, keys) in VIEWS {
        drawn(&stage, keys, SMALL);
    }
    let views: Vec<_> =
        VIEWS.into_iter().filter(|(name, _)| ["tasks", "a task", "plan", "inbox"].contains(name)).collect();
    insta::assert_snapshot!("views_forty_80x24", book(&stage, &views, SMALL));
}
