//! The bad-input table, row by row: what becomes of each file and the exact sentence about it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use super::*;

/// What becomes of a file that is dropped into `tasks/marie/`.
enum Fate {
    /// It lies in `rejected/` under this name, with this reason.
    Aside(&'static str, String),
    /// It is a task with this id.
    Task(&'static str),
}
use Fate::{Aside, Task};

struct Row {
    /// The row of the table, as a failure names it.
    about: &'static str,
    name: &'static [u8],
    content: Vec<u8>,
    fate: Fate,
}

fn row(about: &'static str, name: &'static str, content: impl Into<Vec<u8>>, fate: Fate) -> Row {
    Row { about, name: name.as_bytes(), content: content.into(), fate }
}

/// A task of exactly this many bytes.
fn of_size(id: &str, bytes: usize) -> String {
    let empty = format!("{{\"task_id\":\"{id}\",\"description\":\"\"}}");
    empty.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - empty.len())))
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

fn says(file: &'static str, sentence: impl Into<String>) -> Fate {
    Aside(file, sentence.into())
}

/// Rows that concern one file alone.
fn rows() -> Vec<Row> {
    const MIB: usize = 1024 * 1024;
    let still = "The file has not changed for 5 s.";
    let one = "Put one task in each file.";
    let id_rule = "Task ids use letters, digits, . _ - and start with a letter or digit; this task_id";
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!("{{\"task_id\":\"n{levels}\",\"description\":\"x\",\"context\":{open}{close}}}")
    };
    let mut rows = vec![
        row(
            "half-written",
            "half.json",
            "{\n \"a\": 1,\n \"bb\": \"x",
            says("half.json", format!("The JSON stops at line 3, column 9. {still}")),
        ),
        row(
            "truncated after a comma",
            "cut.json",
            "{\"a\": 1,",
            says("cut.json", format!("The JSON stops at line 1, column 8. {still}")),
        ),
        row(
            "truncated within a letter",
            "letter.json",
            b"{\"a\": \"\xc3".to_vec(),
            says("letter.json", "Not UTF-8: byte 0xC3 at offset 7. Save the file as UTF-8."),
        ),
        row("empty", "empty.json", "", says("empty.json", "The file is empty.")),
        row("empty but for spaces", "spaces.json", " \n\t\n", says("spaces.json", "The file is empty.")),
        row("empty but for a byte order mark", "mark.json", "\u{feff}", says("mark.json", "The file is empty.")),
        row(
            "not JSON",
            "words.json",
            "do the dishes",
            says("words.json", "Not JSON at line 1, column 1: expected value."),
        ),
        row(
            "not JSON: a comma too many",
            "comma.json",
            "{\"a\": 1,}",
            says("comma.json", "Not JSON at line 1, column 9: trailing comma."),
        ),
        row(
            "two values",
            "two.json",
            "{\"task_id\":\"a\"}\n{\"task_id\":\"b\"}\n",
            says("two.json", format!("Line 2 starts a second JSON value. {one}")),
        ),
        row(
            "trailing bytes",
            "rest.json",
            "{\"task_id\":\"a\"}]",
            says("rest.json", format!("Line 1 starts a second JSON value. {one}")),
        ),
        row(
            "array",
            "list.json",
            "[1,2,3,4,5,6,7,8,9,10,11,12]",
            says("list.json", format!("A task must be a JSON object {{ … }}, this is a list of 12. {one}")),
        ),
        row(
            "string",
            "text.json",
            "\"do it\"",
            says("text.json", format!("A task must be a JSON object {{ … }}, this is a text. {one}")),
        ),
        row(
            "number",
            "number.json",
            "42\n",
            says("number.json", format!("A task must be a JSON object {{ … }}, this is a number. {one}")),
        ),
        row(
            "null",
            "null.json",
            "null",
            says("null.json", format!("A task must be a JSON object {{ … }}, this is null. {one}")),
        ),
        row(
            "NaN",
            "nan.json",
            "{\"task_id\":\"nan\",\"context\":{\"score\": NaN}}",
            says("nan.json", "NaN is not JSON (Python: json.dumps(…, allow_nan=False))."),
        ),
        row(
            "Infinity",
            "inf.json",
            "{\"context\":[-Infinity]}",
            says("inf.json", "-Infinity is not JSON (Python: json.dumps(…, allow_nan=False))."),
        ),
        row("UTF-8 BOM", "bom.json", "\u{feff}{\"task_id\":\"bom\",\"description\":\"x\"}", Task("bom")),
        row(
            "UTF-16, little end first",
            "utf16le.json",
            utf16("{\"task_id\":\"a\"}", false),
            says("utf16le.json", "Not UTF-8: byte 0xFF at offset 0. Save the file as UTF-8."),
        ),
        row(
            "UTF-16, big end first",
            "utf16be.json",
            utf16("{\"task_id\":\"a\"}", true),
            says("utf16be.json", "Not UTF-8: byte 0xFE at offset 0. Save the file as UTF-8."),
        ),
        row(
            "bad UTF-8",
            "latin1.json",
            b"{\"task_id\":\"l\",\"description\":\"caf\xe9\"}".to_vec(),
            says("latin1.json", "Not UTF-8: byte 0xE9 at offset 33. Save the file as UTF-8."),
        ),
        row("nesting of 64", "n63.json", nested(63), Task("n63")),
        row(
            "nesting > 64",
            "n64.json",
            nested(64),
            says("n64.json", "Lists and objects lie more than 64 deep in each other."),
        ),
        row(
            "nesting > 64, far beyond",
            "n9.json",
            format!("{{\"a\":{}", "[".repeat(100_000)),
            says("n9.json", "Lists and objects lie more than 64 deep in each other."),
        ),
        row(
            "reserved key twice",
            "twice.json",
            "{\"task_id\":\"t\",\"priority\":1,\"priority\":2}",
            says("twice.json", "'priority' appears twice."),
        ),
        row(
            "worker differs from path",
            "other.json",
            "{\"worker\":\"anga\",\"description\":\"x\"}",
            says("other.json", "The file is in tasks/marie/ but its worker says anga."),
        ),
        row("id differs from path", "build-42.json", json("build-41", "x"), Task("build-41")),
        row("512 KiB", "fits.json", of_size("fits", MIB / 2), Task("fits")),
        row("512 KiB less one", "less.json", of_size("less", MIB / 2 - 1), Task("less")),
        row(
            "> 512 KiB by one",
            "more.json",
            of_size("more", MIB / 2 + 1),
            says("more.json", "0.5 MB is over the 512 KiB limit. Put the data in a file and pass its path."),
        ),
        row(
            "> 512 KiB",
            "big.json",
            "x".repeat(3_100_000),
            says("big.json", "3.1 MB is over the 512 KiB limit. Put the data in a file and pass its path."),
        ),
        row(
            "bad name: a space",
            "white space.json",
            "{}",
            says("white%20space.json", "Task ids use letters, digits, . _ -; this name has byte 0x20."),
        ),
        row(
            "bad name: non-ASCII",
            "café.json",
            "{}",
            says("caf%C3%A9.json", "Task ids use letters, digits, . _ -; this name has byte 0xC3."),
        ),
        row(
            "bad name: an escape sequence",
            "a\u{1b}[31m.json",
            "{}",
            says("a%1B%5B31m.json", "Task ids use letters, digits, . _ -; this name has byte 0x1B."),
        ),
        row(
            "bad name: a new line",
            "a\nb.json",
            "{}",
            says("a%0Ab.json", "Task ids use letters, digits, . _ -; this name has byte 0x0A."),
        ),
        row(
            "bad name: begins with a dash",
            "-rf.json",
            "{}",
            says("-rf.json", "Task ids start with a letter or digit; this name does not."),
        ),
        Row {
            about: "bad name: non-UTF-8",
            name: b"caf\xe9.json",
            content: b"{}".to_vec(),
            fate: says("caf%E9.json", "Task ids use letters, digits, . _ -; this name has byte 0xE9."),
        },
        row(
            "id inside: empty",
            "id0.json",
            "{\"task_id\":\" \"}",
            says("id0.json", "Task ids use letters, digits, . _ -; this task_id is empty."),
        ),
        row(
            "id inside: a path",
            "id1.json",
            "{\"task_id\":\"../../etc/passwd\"}",
            says("id1.json", format!("{id_rule} has . at position 0.")),
        ),
        row(
            "id inside: a slash",
            "id2.json",
            "{\"task_id\":\"a/b\"}",
            says("id2.json", format!("{id_rule} has / at position 1.")),
        ),
        row(
            "id inside: an escape sequence",
            "id3.json",
            "{\"task_id\":\"a\\u001b[2J\"}",
            says("id3.json", format!("{id_rule} has \\u{{1b}} at position 1.")),
        ),
        row(
            "id inside: 121 long",
            "id4.json",
            format!("{{\"task_id\":\"{}\"}}", "a".repeat(121)),
            says("id4.json", "Task ids are at most 120 characters long; this task_id has 121."),
        ),
        row("task without text", "bare.json", "{\"task_id\":\"bare\"}", Task("bare")),
    ];
    let fields = [
        ("priority", "\"hi\"", "a whole number from 0 to 9, found \"hi\""),
        ("priority", "10", "a whole number from 0 to 9, found 10"),
        ("priority", "-1", "a whole number from 0 to 9, found -1"),
        ("priority", "2.5", "a whole number from 0 to 9, found 2.5"),
        ("priority", "[1]", "a whole number from 0 to 9, found a list of 1"),
        ("description", "{\"a\":1}", "a text, found an object"),
        ("prompt", "7", "a text, found 7"),
        ("title", "true", "a text, found true"),
        ("task_id", "12", "a text, found 12"),
        ("worker", "[]", "a text, found a list of 0"),
        ("dependencies", "7", "a list of task ids, found 7"),
        ("dependencies", "[\"ok\",\"../x\"]", "a list of task ids, found \"../x\""),
        ("after", "[null]", "a list of task ids, found null"),
        ("if_failed", "\"maybe\"", "skip or run, found \"maybe\""),
        ("timeout", "0", "a number of seconds above 0, found 0"),
        ("timeout_seconds", "-3", "a number of seconds above 0, found -3"),
        ("timeout_s", "\"10m\"", "a number of seconds above 0, found \"10m\""),
        ("timeout", "1e300", "a number of seconds above 0, found 1e+300"),
        ("max_attempts", "0", "a whole number from 1 to 100, found 0"),
        ("max_attempts", "\"3\"", "a whole number from 1 to 100, found \"3\""),
        ("start_by", "0", "a number of seconds above 0, found 0"),
        ("stall_s", "\"x\"", "a number of seconds above 0, found \"x\""),
        ("backoff_s", "[1,2]", "a number of seconds above 0, found a list of 2"),
        ("deadline", "\"soon\"", "a time like 2025-11-22T18:00:00Z, found \"soon\""),
        ("deadline", "1763805600", "a time like 2025-11-22T18:00:00Z, found 1763805600"),
        ("not_before", "\"2025-13-01\"", "a time like 2025-11-22T18:00:00Z, found \"2025-13-01\""),
        ("on_lost", "\"cry\"", "retry or ask, found \"cry\""),
        ("goal_id", "\"../g\"", "a goal's id, like g1, found \"../g\""),
    ];
    for (n, (field, value, wrong)) in fields.into_iter().enumerate() {
        let name: &'static str = format!("field{n}.json").leak();
        let rest = if field == "description" { "" } else { ",\"description\":\"x\"" };
        let content = format!("{{\"{field}\":{value}{rest}}}");
        rows.push(row(
            "reserved field of wrong type or range",
            name,
            content,
            says(name, format!("{field} must be {wrong}.")),
        ));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_each_row_about_one_file_has_its_fate_and_its_exact_message() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    let rows = rows();
    for row in &rows {
        fs::write(stage.path("tasks/marie").join(OsStr::from_bytes(row.name)), &row.content).unwrap();
    }
    let mut fates = BTreeMap::new();
    let open = rows.iter().filter(|row| matches!(row.fate, Task(_))).count();
    let mut tasks = std::collections::BTreeSet::new();
    while fates.len() < rows.len() - open || tasks.len() < open {
        match watch.until(|_| true).await {
            Change::Rejected(rejected) => drop(fates.insert(rejected.path.clone(), rejected)),
            Change::Task(record) => drop(tasks.insert(record.task().to_string())),
            Change::Found(..)
            | Change::Gone(_)
            | Change::RejectedGone(_)
            | Change::Polling(_)
            | Change::Requested { .. }
            | Change::Trash(_)
            | Change::Space(_) => {}
        }
    }
    for Row { about: row, name, content, fate } in rows {
        let inbox = stage.path("tasks/marie").join(OsStr::from_bytes(name));
        match fate {
            Task(id) => {
                assert!(tasks.contains(&format!("marie/{id}")), "{row}");
                assert_eq!(fs::read(&inbox).unwrap(), content, "{row}");
                assert_eq!(won(&stage.queue, &format!("marie/{id}")).await.n, 1, "{row}");
            }
            Aside(file, sentence) => {
                let path = format!("tasks/marie/rejected/{file}");
                let rejected = fates.get(&path).unwrap_or_else(|| panic!("{row}: not set aside as {path}: {fates:#?}"));
                assert_eq!(rejected.reason, sentence, "{row}");
                assert!(rejected.moved && !rejected.duplicate, "{row}");
                assert!(!inbox.exists(), "{row}");
                assert!(fs::read(stage.path(&path)).unwrap() == content, "{row}: not byte for byte");
                let note: serde_json::Value =
                    serde_json::from_slice(&fs::read(stage.path(&format!("{path}.reason.json"))).unwrap()).unwrap();
                assert_eq!(note["reason"], sentence, "{row}");
                let arrived = std::str::from_utf8(name).map_or(file, |name| name);
                assert_eq!(note["name"], arrived, "{row}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_a_name_of_the_greatest_length_is_set_aside_with_its_reason() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    let name = format!("{}.json", "n".repeat(250));
    stage.drop_file(&format!("tasks/marie/{name}"), "{}");
    let fits = |change: &Change| matches!(change, Change::Rejected(_));
    let Change::Rejected(rejected) = watch.until(fits).await else { panic!("not rejected") };
    assert_eq!(rejected.reason, "Task ids are at most 120 characters long; this name has 250.");
    assert!(stage.path(&rejected.path).exists() && stage.path(&format!("{}.reason.json", rejected.path)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_same_id_and_content_is_a_duplicate_and_no_alarm() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    watch.stands("marie/a", Standing::Waiting).await;
    // Another spelling of the same.
    stage.drop_file("tasks/marie/copy.json", "{\"prompt\":\"x\",\"id\":\"a\",\"priority\":\"medium\"}");
    let copy = watch.rejected("tasks/marie/rejected/copy.json").await;
    assert_eq!((copy.reason.as_str(), copy.duplicate), ("Already accepted; it is waiting.", true));
    // A later watch reads it from the reason.
    assert!(stage.watch().await.rejected("tasks/marie/rejected/copy.json").await.duplicate);
    let note = fs::read_to_string(stage.path("tasks/marie/rejected/copy.json.reason.json")).unwrap();
    assert!(note.contains("\"duplicate\": true"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_same_id_and_other_content_while_it_waits_the_newest_file_wins() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/a.json", json("a", "first"));
    watch.stands("marie/a", Standing::Waiting).await;
    stage.drop_file("tasks/marie/b.json", json("a", "second"));
    let older = watch.rejected("tasks/marie/rejected/a.json").await;
    assert_eq!(older.reason, "a says something else in b.json, which is newer.");
    assert_eq!(fs::read_to_string(stage.path("tasks/marie/rejected/a.json")).unwrap(), json("a", "first"));
    let second = |change: &Change| matches!(change, Change::Task(r) if r.spec.description == "second");
    watch.until(second).await;
    let claim = won(&open(stage.folder.path()), "marie/a").await;
    assert_eq!(claim.spec.description, "second");
    // Once it is taken, no more.
    watch.stands("marie/a", Standing::Running { attempt: 1 }).await;
    stage.drop_file("tasks/marie/c.json", json("a", "third"));
    let late = watch.rejected("tasks/marie/rejected/c.json").await;
    assert_eq!(late.reason, "a was already accepted with other content. Use a new id.");
    drop(claim);
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_of_two_files_that_were_there_before_the_newer_one_wins() {
    let stage = Stage::new();
    stage.drop_file("tasks/marie/z.json", json("a", "older"));
    // The next tick of the file system's clock.
    let ctime = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(stage.path(name)).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    stage.drop_file("tasks/marie/b.json", json("a", "newer"));
    while ctime("tasks/marie/b.json") <= ctime("tasks/marie/z.json") {
        stage.drop_file("tasks/marie/b.json", json("a", "newer"));
    }
    let mut watch = stage.watch().await;
    watch.rejected("tasks/marie/rejected/z.json").await;
    let newer = |change: &Change| matches!(change, Change::Task(r) if r.spec.description == "newer");
    watch.until(newer).await;
    assert!(!stage.path("tasks/marie/rejected/b.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_a_broken_file_in_claimed_ends_its_task_and_keeps_what_was_there() {
    let stage = Stage::new();
    for id in ["a", "b"] {
        stage.drop_file(&format!("tasks/marie/{id}.json"), format!("{{\"task_id\":\"{id}\", \"description\":\"x\"}}"));
        drop(won(&stage.queue, &format!("marie/{id}")).await);
    }
    // One has no copy left that says more; of the other the claimed file alone is replaced.
    let claimed = |id: &str| stage.path(&format!("tasks/marie/.claimed/{id}.json"));
    fs::write(claimed("a"), "").unwrap();
    fs::remove_file(claimed("b")).unwrap();
    fs::write(claimed("b"), "{\"task_id\":").unwrap();
    let mut watch = stage.watch().await;
    stage.queue.recover().await.unwrap();
    let aside = watch.rejected("tasks/marie/rejected/a.json").await;
    assert_eq!(aside.reason, "a.json in .claimed is damaged (0 bytes).");
    let record = stage.queue.get(&task("marie/a")).await.unwrap();
    assert_eq!(record.outcome.unwrap().ending, Ending::Malformed { message: aside.reason });
    watch.rejected("tasks/marie/rejected/b.json").await;
    let record = stage.queue.get(&task("marie/b")).await.unwrap();
    assert_eq!(record.spec.description, "x");
    assert_eq!(won(&stage.queue, "marie/b").await.n, 2);
    assert!(stage.queue.recover().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_a_result_of_somebody_else_is_believed_when_it_parses_and_has_rested() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    watch.stands("marie/a", Standing::Waiting).await;
    stage.drop_file("results/marie/a.json", "{\"task_id\":\"a\",\"status\":\"complete\",\"summary\":\"no\"}");
    // Nothing may start meanwhile, and nobody takes it for the end.
    let rests =
        |c: &Change| matches!(c, Change::Task(r) if matches!(r.standing, Standing::Retrying { attempt: 0, .. }));
    watch.until(rests).await;
    assert!(matches!(stage.queue.claim(&task("marie/a")).await.unwrap(), Claimed::Missed(_)));
    // It was not the last word: the writer is at work again.
    stage.drop_file("results/marie/a.json", "{\"task_id\":\"a\",\"status\":\"running\"}");
    watch.stands("marie/a", Standing::Waiting).await;
    stage.drop_file("results/marie/a.json", "{\"task_id\":\"a\",\"status\":\"failed\",\"summary\":\"in the end\"}");
    let record = watch.stands("marie/a", Standing::Ended).await;
    assert_eq!(record.outcome.unwrap().summary, "in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_a_name_that_is_no_task_is_mentioned_after_an_hour() {
    let stage = Stage::new();
    for (name, hours) in
        [("notes.txt", 2), ("job.JSON", 2), ("new.txt", 0), ("x.json~", 2), ("x.tmp", 2), (".hidden", 2)]
    {
        let path = stage.path(&format!("tasks/marie/{name}"));
        let file = File::create(&path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_hours(hours)).unwrap();
    }
    let mut watch = stage.watch().await;
    let left = watch.rejected("tasks/marie").await;
    let said = "job.JSON and 1 more have lain here for over an hour; only names ending in .json are tasks.";
    assert_eq!((left.reason.as_str(), left.moved), (said, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn c30_ten_thousand_files_in_no_folder_are_one_line_and_a_number() {
    let stage = Stage::new();
    for i in 0..150 {
        stage.drop_file(&format!("tasks/{i}.json"), "{}");
    }
    let mut watch = stage.watch().await;
    let all = watch.rejected("tasks").await;
    assert_eq!(all.reason, "150 files lie in tasks/ and in no worker's folder (marie, anga, fabien).");
    for i in 0..149 {
        fs::remove_file(stage.path(&format!("tasks/{i}.json"))).unwrap();
    }
    watch.until(|change| *change == Change::RejectedGone("tasks".into())).await;
}

/// G8 for many at once: what is fit does not wait for what is not.
#[tokio::test(flavor = "multi_thread")]
async fn g8_a_flood_of_bad_files_is_set_aside_whole_and_a_task_passes_it() {
    const FLOOD: usize = 1_000;
    let stage = Stage::new();
    let bad = |i: usize| match i % 3 {
        0 => format!("[{i}]"),
        1 => format!("{{\"task_id\":\"{i}\",\"priority\":{i}00}}"),
        _ => format!("not json {i}"),
    };
    for i in 0..FLOOD {
        stage.drop_file(&format!("tasks/marie/bad{i}.json"), bad(i));
    }
    stage.drop_file("tasks/marie/good.json", json("good", "x"));
    let mut watch = stage.watch().await;
    let mut before = 0;
    loop {
        match watch.until(|_| true).await {
            Change::Rejected(_) => before += 1,
            Change::Task(record) if record.task().id.as_str() == "good" => break,
            Change::Task(_)
            | Change::Found(..)
            | Change::Gone(_)
            | Change::RejectedGone(_)
            | Change::Polling(_)
            | Change::Requested { .. }
            | Change::Trash(_)
            | Change::Space(_) => {}
        }
    }
    assert!(before < FLOOD, "it was last of all");
    while before < FLOOD {
        watch.until(|change| matches!(change, Change::Rejected(_))).await;
        before += 1;
    }
    for i in 0..FLOOD {
        let path = stage.path(&format!("tasks/marie/rejected/bad{i}.json"));
        assert_eq!(fs::read_to_string(&path).unwrap(), bad(i));
        assert!(path.with_extension("json.reason.json").exists());
    }
    assert_eq!(fs::read_dir(stage.path("tasks/marie/.tmp")).unwrap().count(), 0);
}
