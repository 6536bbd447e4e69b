//! Reading parts of logs: what is seen from any place, and what becomes of it while files change.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{copy::copy, *};
use crate::model::{
    AttemptRef, LogId, LogPlace, LogScope, TaskRef,
    log::{Kind, LogFrom, LogPart, LogRange, LogReading, Show},
};

struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, log: &str) -> PathBuf {
        let path = self.0.path().join("logs").join(log);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn append(&self, log: &str, text: &[u8]) {
        OpenOptions::new().create(true).append(true).open(self.path(log)).unwrap().write_all(text).unwrap();
    }

    fn reading(scope: LogScope) -> LogReading {
        LogReading { scope, raw: false, show: Show::All }
    }

    fn one(&self, log: &str) -> Stream {
        Stream::open(self.0.path(), Self::reading(LogScope::One(id(log))))
    }
}

/// `marie/a.1.log`.
fn id(log: &str) -> LogId {
    let (agent, name) = log.split_once('/').unwrap();
    let (task, n) = name.strip_suffix(".log").unwrap().rsplit_once('.').unwrap();
    let task: TaskRef = format!("{agent}/{task}").parse().unwrap();
    LogId::of(&AttemptRef { task, n: n.parse().unwrap() }, &format!("logs/{log}"))
}

fn go_on() -> bool {
    false
}

fn texts(part: &LogPart) -> Vec<&str> {
    part.lines.iter().map(|l| l.line.text.as_str()).collect()
}

fn numbered(from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|n| format!("line {n} {}\n", "x".repeat(n % 90)).into_bytes()).collect()
}

fn number(text: &str) -> usize {
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_end_is_shown_first_and_going_back_leaves_no_gap() {
    let stage = Stage::new();
    stage.append("marie/a.1.log", &numbered(0, 60_000));
    let mut stream = stage.one("marie/a.1.log");
    let end = stream.load(&LogFrom::End, &go_on);
    assert!(end.whole && !end.starts && end.below == 0, "{}", end.below);
    assert_eq!(number(texts(&end).last().unwrap()), 59_999);
    // Back to the beginning, a part at a time; each part is without a gap and holds where the former began.
    let mut first = end.lines.first().cloned().unwrap();
    for _ in 0..100 {
        let part = stream.load(&LogFrom::Around(first.place()), &go_on);
        let numbers: Vec<usize> = texts(&part).into_iter().map(number).collect();
        assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "a gap or a double");
        assert!(numbers.contains(&number(&first.line.text)), "the place that was asked for is in it");
        assert!(part.lines.len() <= 8_000 + 1_000, "{}", part.lines.len());
        first = part.lines.first().cloned().unwrap();
        if part.starts {
            assert_eq!(numbers[0], 0);
            let start = stream.load(&LogFrom::Start, &go_on);
            assert_eq!((number(texts(&start)[0]), start.starts, start.below > 0), (0, true, true));
            return;
        }
    }
    panic!("the beginning was never reached");
}

#[test]
fn whoever_comes_back_finds_what_was_written_meanwhile_without_a_gap() {
    let stage = Stage::new();
    let log = "marie/a.1.log";
    stage.append(log, &numbered(0, 1_000));
    let mut first = stage.one(log);
    let mut seen: Vec<usize> = texts(&first.load(&LogFrom::End, &go_on)).into_iter().map(number).collect();
    stage.append(log, &numbered(1_000, 1_010));
    seen.extend(texts(&first.more(&go_on).unwrap()).into_iter().map(number));
    assert_eq!(first.more(&go_on), None);
    let last = *seen.last().unwrap();
    drop(first);
    // Half a line is there when the next reader comes.
    stage.append(log, &numbered(1_010, 6_010));
    stage.append(log, b"line 60");
    let mut next = stage.one(log);
    let mut part = next.load(&LogFrom::End, &go_on);
    stage.append(log, b"10 whole\n");
    let mut again: Vec<usize> = texts(&next.more(&go_on).unwrap()).into_iter().map(number).collect();
    // Back by whole windows, as somebody does who holds the key for a page up.
    loop {
        let before: Vec<usize> = texts(&part).into_iter().map(number).collect();
        let first = part.lines[0].clone();
        let held = again[0];
        again.splice(0..0, before.into_iter().take_while(|n| *n < held));
        if part.starts {
            break;
        }
        part = next.load(&LogFrom::Around(first.place()), &go_on);
    }
    again.retain(|n| *n > last);
    assert!(again.iter().copied().eq(last + 1..=6_010), "a gap or a double: {:?}", again.len());
}

#[test]
fn logs_are_put_together_by_the_time_at_which_they_were_written() {
    let stage = Stage::new();
    for (log, times, text) in [
        ("marie/a.1", "0 1000\n4 5000\n8 9000\n", "m 1\nm 5\nm 9\n"),
        ("anga/b.1", "0 2000\n4 6000\n", "a 2\na 6\n"),
        ("anga/b.2", "0 7000\n", "a 7\n"),
    ] {
        stage.append(&format!("{log}.log"), text.as_bytes());
        fs::write(stage.path(&format!("{log}.times")), times).unwrap();
    }
    let read = |scope| {
        let mut stream = Stream::open(stage.0.path(), Stage::reading(scope));
        let part = stream.load(&LogFrom::End, &go_on);
        texts(&part).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(read(LogScope::All), ["m 1", "a 2", "m 5", "a 6", "a 7", "m 9"]);
    assert_eq!(read(LogScope::Agent("anga".parse().unwrap())), ["a 2", "a 6", "a 7"]);
    assert_eq!(read(LogScope::Task("marie/a".parse().unwrap())), ["m 1", "m 5", "m 9"]);
    // From a line in the middle, and a log that appears meanwhile.
    let mut stream = Stream::open(stage.0.path(), Stage::reading(LogScope::All));
    let middle = LogPlace { path: "logs/marie/a.1.log".into(), offset: 4, nth: 0 };
    assert_eq!(texts(&stream.load(&LogFrom::Around(middle), &go_on)).len(), 6);
    stage.append("fabien/c.1.log", b"new\n");
    stage.append("marie/a.1.log", b"m 10\n");
    let part = stream.more(&go_on).unwrap();
    let mut news = texts(&part);
    news.sort_unstable();
    assert_eq!((news, part.files), (vec!["m 10", "new"], 4));
}

#[test]
fn a_flood_is_not_read_through_and_the_end_is_the_end() {
    let stage = Stage::new();
    let log = "marie/a.1.log";
    stage.append(log, b"line 0 \n");
    let mut stream = stage.one(log);
    stream.load(&LogFrom::End, &go_on);
    stage.append(log, &numbered(1, 200_000));
    let part = stream.more(&go_on).unwrap();
    let numbers: Vec<usize> = texts(&part).into_iter().map(number).collect();
    assert!(part.skipped > 8_000_000 && part.lines.len() < 20_000, "{} {}", part.skipped, part.lines.len());
    assert_eq!(*numbers.last().unwrap(), 199_999);
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1));
}

#[test]
fn what_is_wrong_with_a_log_is_said_and_reading_goes_on() {
    let stage = Stage::new();
    let log = "marie/a.1.log";
    let binary: Vec<u8> = (0..3_000_u32).map(|n| (n * 7 % 251) as u8).filter(|b| *b != b'\n').collect();
    stage.append(log, &binary);
    stage.append(log, b"\nplain\nbroken \xf0\x9f");
    let mut stream = stage.one(log);
    let part = stream.load(&LogFrom::End, &go_on);
    assert!(texts(&part)[0].starts_with("[binary, "), "{part:?}");
    assert_eq!(part.lines[0].line.kind, Kind::Raw);
    // The last line is told when nobody goes on with it, and again when somebody does.
    let told = (0..40).find_map(|_| stream.more(&go_on)).unwrap();
    assert_eq!(texts(&told), ["broken \u{fffd}"]);
    stage.append(log, b"\x98\x80 after all\n");
    let again = stream.more(&go_on).unwrap();
    assert!(again.whole);
    assert_eq!(texts(&again)[1..], ["plain", "broken 😀 after all"]);

    fs::write(stage.path(log), "short\n").unwrap();
    assert_eq!(texts(&stream.more(&go_on).unwrap()), ["the log was made shorter; it begins anew", "short"]);
    fs::remove_file(stage.path(log)).unwrap();
    let part = stream.more(&go_on).unwrap();
    assert!(texts(&part)[0].contains("deleted"), "{part:?}");
    assert_eq!(stream.more(&go_on), None, "it is said once");
    stage.append(log, b"another\n");
    assert_eq!(texts(&stream.more(&go_on).unwrap()), ["the log was replaced; the new one begins", "another"]);
    let other = stage.path("marie/other.log");
    fs::write(&other, "rotated in\n").unwrap();
    fs::rename(&other, stage.path(log)).unwrap();
    assert_eq!(texts(&stream.more(&go_on).unwrap())[1], "rotated in");
    // A log that was never there.
    assert_eq!(
        stage.one("marie/none.1.log").load(&LogFrom::End, &go_on),
        LogPart { whole: true, starts: true, ..LogPart::default() }
    );
}

#[test]
fn a_line_of_100_mb_and_a_hole_of_4_gb_are_read_with_small_hands() {
    let stage = Stage::new();
    let log = "marie/a.1.log";
    stage.append(log, b"before\n");
    for _ in 0..100 {
        stage.append(log, &vec![b'x'; 1 << 20]);
    }
    stage.append(log, b"\nafter\n");
    let mut stream = stage.one(log);
    let part = stream.load(&LogFrom::End, &go_on);
    let shown = texts(&part);
    assert_eq!((shown[0], shown[2], shown.len()), ("before", "after", 3));
    assert!(shown[1].starts_with("[a line too long to be shown whole] xxx") && shown[1].len() < 4_100);

    let file = File::create(stage.path("marie/b.1.log")).unwrap();
    file.write_all_at(b"head\nbegun", 0).unwrap();
    file.write_all_at(b"ended\ntail\n", 4 << 30).unwrap();
    let mut stream = stage.one("marie/b.1.log");
    let part = stream.load(&LogFrom::End, &go_on);
    assert_eq!(texts(&part), ["head", "[… 4294 MB cut …]", "tail"]);
    assert_eq!(texts(&stream.load(&LogFrom::Start, &go_on)), ["head", "[… 4294 MB cut …]", "tail"]);
}

#[test]
fn sub_agents_are_a_tree_wherever_reading_begins() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/claude/2.1.197");
    let run = fs::read(Path::new(folder).join("agent_foreground.jsonl")).unwrap();
    let started = run.windows(17).position(|w| w == b"\"LogPart 0. [[fake:").unwrap_or(0);
    let head = run[..started].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let stage = Stage::new();
    let log = "marie/a.1.log";
    // Between the start of the sub-agent and its words lies more than is read at once.
    stage.append(log, &run[..head]);
    let filler =
        serde_json::json!({"type": "system", "subtype": "status", "text": "x".repeat(1_000)}).to_string() + "\n";
    stage.append(log, filler.repeat(2_000).as_bytes());
    let noise = serde_json::json!({"type": "assistant", "message": {"content": [{"type": "text", "text": "noise"}]}});
    stage.append(log, format!("{noise}\n").repeat(5_000).as_bytes());
    stage.append(log, &run[head..]);
    let mut stream = stage.one(log);
    let part = stream.load(&LogFrom::End, &go_on);
    assert!(!part.starts);
    let nested: Vec<&str> = part.lines.iter().filter(|l| l.line.depth == 1).map(|l| l.line.text.as_str()).collect();
    assert!(nested.iter().any(|t| t.contains("Bash echo hi")), "{nested:?}");
}

#[test]
fn kinds_are_left_out_where_they_are_read_and_raw_lines_are_as_on_disk() {
    let stage = Stage::new();
    let log = "marie/a.1.log";
    let said = |text: &str| {
        serde_json::json!({"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}}).to_string()
    };
    let failed = serde_json::json!({"type": "result", "subtype": "success", "is_error": true, "result": "out of luck"})
        .to_string();
    stage.append(log, format!("{failed}\n").as_bytes());
    stage.append(log, (0..30_000).map(|n| said(&format!("word {n}")) + "\n").collect::<String>().as_bytes());
    let reading = LogReading { show: Show::Errors, ..Stage::reading(LogScope::One(id(log))) };
    let mut stream = Stream::open(stage.0.path(), reading.clone());
    let part = stream.load(&LogFrom::End, &go_on);
    assert_eq!(
        (texts(&part), part.starts),
        (vec!["ended with an error: out of luck"], true),
        "it is looked for up to the beginning"
    );
    let mut stream = Stream::open(stage.0.path(), LogReading { raw: true, show: Show::All, ..reading });
    let part = stream.load(&LogFrom::Start, &go_on);
    let head: Vec<(u8, &str)> = part.lines.iter().take(3).map(|l| (l.line.depth, l.line.text.as_str())).collect();
    assert_eq!(head, [(0, "{"), (1, "\"is_error\": true,"), (1, "\"result\": \"out of luck\",")]);
    assert_eq!(part.lines[2].nth, 2);
}

#[test]
fn a_range_is_copied_into_a_file_of_its_own_and_old_copies_go() {
    let stage = Stage::new();
    let log = "marie/a.1.log";
    stage.append(log, &numbered(0, 5_000));
    let mut stream = stage.one(log);
    let part = stream.load(&LogFrom::End, &go_on);
    let (from, here, to) = (&part.lines[10], &part.lines[12], &part.lines[20]);
    let folder = stage.0.path().join("copies");
    let range = LogRange {
        reading: stream.reading().clone(),
        from: Some(from.place()),
        to: Some(to.place()),
        here: Some(here.place()),
        headed: false,
    };
    let copied = copy(stage.0.path(), &range, &folder, &go_on).unwrap();
    let expected: String = part.lines[10..=20].iter().map(|l| l.line.text.clone() + "\n").collect();
    assert_eq!(fs::read_to_string(&copied.path).unwrap(), expected);
    assert_eq!((copied.lines, copied.here, copied.text, copied.cut), (11, 3, Some(expected), false));
    let all = LogRange { from: None, to: None, headed: true, ..range };
    for _ in 0..21 {
        let copied = copy(stage.0.path(), &all, &folder, &go_on).unwrap();
        assert_eq!((copied.lines, copied.text), (5_000, None));
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 20);
}

#[test]
fn reading_that_nobody_waits_for_any_more_ends() {
    let stage = Stage::new();
    let log = "marie/a.1.log";
    stage.append(log, &numbered(0, 400_000));
    let reading = LogReading { show: Show::Errors, ..Stage::reading(LogScope::One(id(log))) };
    let asked = Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) > 5;
    let part = Stream::open(stage.0.path(), reading).load(&LogFrom::End, &stop);
    assert_eq!((part, asked.get() < 50), (LogPart::default(), true));
}
