//! What only the file queue promises: how outsiders write, what becomes of bad files, what readers see.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "these are tests; what goes wrong must stop them"
)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use podium::{
    model::{
        AgentName, Changes, Clock, EndState, Ending, Outcome, Past, Rejected, Standing, TaskRecord, TaskRef, TaskSpec,
    },
    queue::{
        Change, Claim, Claimed, Finished, Lease, Queue, Submitted,
        file::{FileLease, FileQueue, Settings},
    },
};
use tokio::{sync::mpsc, time::timeout};

#[path = "queue_files/afar.rs"]
mod afar;
#[path = "queue_files/bad_input.rs"]
mod bad_input;
#[path = "queue_files/blocked.rs"]
mod blocked;
#[path = "queue_files/copies.rs"]
mod copies;
#[path = "queue_files/old_formats.rs"]
mod old_formats;
#[path = "common/outcome.rs"]
mod outcome;
#[path = "queue_files/outsiders.rs"]
mod outsiders;

use outcome::plain;

const PATIENCE: Duration = Duration::from_secs(40);

/// Says that a test could not be made here; where everything must be tested that is a failure.
fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "SKIPPED: {why}");
    eprintln!("SKIPPED: {why}");
}

#[expect(clippy::disallowed_methods, reason = "the one clock of these tests, handed to the queue as a value")]
fn clock() -> Clock {
    Clock::new(Timestamp::now)
}

struct Stage {
    folder: tempfile::TempDir,
    queue: FileQueue,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path());
        Self { folder, queue }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn drop_file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    async fn watch(&self) -> Watch {
        let mut watch = Watch { changes: self.queue.watch().await.unwrap() };
        let polling = watch.until(|change| matches!(change, Change::Polling(_))).await;
        assert_eq!(polling, Change::Polling(None));
        watch
    }
}

fn open(stage: &Path) -> FileQueue {
    let agents: Vec<AgentName> = ["marie", "anga", "fabien"].map(|name| name.parse().unwrap()).to_vec();
    FileQueue::open(Settings::new(stage, agents, clock())).unwrap()
}

struct Watch {
    changes: mpsc::Receiver<Change>,
}

impl Watch {
    async fn until(&mut self, fits: impl Fn(&Change) -> bool) -> Change {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let change = self.changes.recv().await.expect("the watch ended");
                if fits(&change) {
                    return change;
                }
                seen.push(format!("{change:?}"));
            }
        };
        let found = timeout(PATIENCE, wait).await.ok();
        found.unwrap_or_else(|| panic!("nothing fits; seen: {seen:#?}"))
    }

    async fn stands(&mut self, of: &str, standing: Standing) -> TaskRecord {
        let of = task(of);
        let fits = |change: &Change| matches!(change, Change::Task(r) if *r.task() == of && r.standing == standing);
        let Change::Task(record) = self.until(fits).await else { panic!("not a task") };
        *record
    }

    async fn rejected(&mut self, path: &str) -> Rejected {
        let fits = |change: &Change| matches!(change, Change::Rejected(rejected) if rejected.path == path);
        let Change::Rejected(rejected) = self.until(fits).await else { panic!("not rejected") };
        rejected
    }
}

fn task(text: &str) -> TaskRef {
    text.parse().unwrap()
}

fn json(id: &str, text: &str) -> String {
    format!("{{\"task_id\":\"{id}\",\"description\":\"{text}\"}}\n")
}

fn done(of: &TaskRef) -> Outcome {
    Outcome { summary: "well".into(), ..plain(of, 1, clock().now()) }
}

async fn won(queue: &FileQueue, of: &str) -> Claim<FileLease> {
    match queue.claim(&task(of)).await.unwrap() {
        Claimed::Won(claim) => *claim,
        Claimed::Missed(why) => panic!("missed: {why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_ways_of_writing_are_noticed() {
    let stage = Stage::new();
    stage.drop_file("tasks/marie/before.json", json("before", "was there"));
    let mut watch = stage.watch().await;
    watch.stands("marie/before", Standing::Waiting).await;

    // In place, slowly, in two pieces: not before it is whole.
    let whole = json("slow", "in place");
    let (head, tail) = whole.split_at(20);
    let mut file = File::create(stage.path("tasks/marie/slow.json")).unwrap();
    file.write_all(head.as_bytes()).unwrap();
    stage.drop_file("tasks/marie/quick.json", json("quick", "x"));
    watch.stands("marie/quick", Standing::Waiting).await;
    assert!(stage.queue.get(&task("marie/slow")).await.is_err());
    file.write_all(tail.as_bytes()).unwrap();
    drop(file);
    watch.stands("marie/slow", Standing::Waiting).await;

    // Renamed in, and linked in.
    stage.drop_file("tasks/marie/.new.json", json("renamed", "x"));
    fs::rename(stage.path("tasks/marie/.new.json"), stage.path("tasks/marie/renamed.json")).unwrap();
    watch.stands("marie/renamed", Standing::Waiting).await;
    stage.drop_file("tasks/anga/.x.json.tmp", json("linked", "x"));
    fs::hard_link(stage.path("tasks/anga/.x.json.tmp"), stage.path("tasks/anga/linked.json")).unwrap();
    fs::remove_file(stage.path("tasks/anga/.x.json.tmp")).unwrap();
    watch.stands("anga/linked", Standing::Waiting).await;

    // Edited and saved: in place, and by a rename over it.
    stage.drop_file("tasks/marie/quick.json", json("quick", "edited in place"));
    let record = watch.stands("marie/quick", Standing::Waiting).await;
    assert_eq!(record.spec.description, "edited in place");
    stage.drop_file("tasks/marie/quick.json.swp", json("quick", "saved by rename"));
    fs::rename(stage.path("tasks/marie/quick.json.swp"), stage.path("tasks/marie/quick.json")).unwrap();
    let record = watch.stands("marie/quick", Standing::Waiting).await;
    assert_eq!(record.spec.description, "saved by rename");
    assert_eq!(won(&stage.queue, "marie/quick").await.spec.description, "saved by rename");

    // Withdrawn.
    fs::remove_file(stage.path("tasks/marie/before.json")).unwrap();
    watch.until(|change| *change == Change::Gone(task("marie/before"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_file_is_set_aside_byte_for_byte_with_its_reason() {
    let stage = Stage::new();
    let long = format!("{}.json", "n".repeat(130));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "two.json",
            b"{\"task_id\":\"a\"}\n{\"task_id\":\"b\"}\n".to_vec(),
            "Line 2 starts a second JSON value. Put one task in each file.",
        ),
        (
            "list.json",
            b"[1,2,3]".to_vec(),
            "A task must be a JSON object { … }, this is a list of 3. Put one task in each file.",
        ),
        ("nan.json", b"{\"x\": NaN}".to_vec(), "NaN is not JSON (Python: json.dumps(…, allow_nan=False))."),
        ("utf16.json", b"\xff\xfe{\0}\0".to_vec(), "Not UTF-8: byte 0xFF at offset 0. Save the file as UTF-8."),
        ("twice.json", b"{\"priority\":1,\"priority\":2}".to_vec(), "'priority' appears twice."),
        (
            "range.json",
            b"{\"priority\":\"soonish\"}".to_vec(),
            "priority must be a whole number from 0 to 9, found \"soonish\".",
        ),
        ("other.json", b"{\"worker\":\"anga\"}".to_vec(), "The file is in tasks/marie/ but its worker says anga."),
        (
            "slash.json",
            b"{\"task_id\":\"a/b\"}".to_vec(),
            "Task ids use letters, digits, . _ - and start with a letter or digit; this task_id has / at position 1.",
        ),
        (
            "control.json",
            b"{\"task_id\":\"a\\u001b[2J\"}".to_vec(),
            "Task ids use letters, digits, . _ - and start with a letter or digit; this task_id has \\u{1b} at position 1.",
        ),
        ("deep.json", deep.into_bytes(), "Lists and objects lie more than 64 deep in each other."),
        ("white space.json", b"{}".to_vec(), "Task ids use letters, digits, . _ -; this name has byte 0x20."),
        (&long, b"{}".to_vec(), "Task ids are at most 120 characters long; this name has 130."),
    ];
    let mut watch = stage.watch().await;
    for (name, bytes, reason) in rows {
        stage.drop_file(&format!("tasks/marie/{name}"), &bytes);
        let path = format!("tasks/marie/rejected/{}", name.replace(' ', "%20"));
        let rejected = watch.rejected(&path).await;
        assert_eq!((rejected.reason.as_str(), rejected.moved), (reason, true), "{name}");
        assert_eq!(fs::read(stage.path(&path)).unwrap(), bytes, "{name}");
        assert!(!stage.path(&format!("tasks/marie/{name}")).exists(), "{name}");
        let note: serde_json::Value =
            serde_json::from_slice(&fs::read(stage.path(&format!("{path}.reason.json"))).unwrap()).unwrap();
        assert_eq!((note["reason"].as_str(), note["name"].as_str()), (Some(reason), Some(name)));
    }
    // The corrected file may come again under its name, and a second bad one does not replace the first.
    stage.drop_file("tasks/marie/list.json", "[1]");
    watch.rejected("tasks/marie/rejected/list.json.2").await;
    stage.drop_file("tasks/marie/list.json", "{\"description\":\"right now\"}");
    watch.stands("marie/list", Standing::Waiting).await;
    // A later watch tells of all that lies there; taking one out is told too.
    let mut again = stage.watch().await;
    again.rejected("tasks/marie/rejected/list.json").await;
    again.rejected("tasks/marie/rejected/white%20space.json").await;
    fs::remove_file(stage.path("tasks/marie/rejected/list.json")).unwrap();
    let gone = Change::RejectedGone("tasks/marie/rejected/list.json".into());
    again.until(|change| *change == gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_stops_half_way_is_waited_for_and_then_set_aside() {
    let stage = Stage::new();
    stage.drop_file("tasks/marie/empty.json", "");
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/half.json", "{\n  \"task_id\": \"half\",\n  \"description\": \"abc");
    stage.drop_file("tasks/marie/mended.json", "{\"task_id\": \"mended\", ");
    stage.drop_file("tasks/marie/other.json", json("other", "x"));
    watch.stands("marie/other", Standing::Waiting).await;
    assert!(stage.path("tasks/marie/mended.json").exists());
    stage.drop_file("tasks/marie/mended.json", json("mended", "whole at last"));
    watch.stands("marie/mended", Standing::Waiting).await;
    let empty = watch.rejected("tasks/marie/rejected/empty.json").await;
    assert_eq!(empty.reason, "The file is empty.");
    let half = watch.rejected("tasks/marie/rejected/half.json").await;
    assert_eq!(half.reason, "The JSON stops at line 3, column 21. The file has not changed for 5 s.");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_file_is_never_opened() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("secret", json("secret", "must not be read"));
    symlink("../../secret", stage.path("tasks/marie/link.json")).unwrap();
    assert_eq!(
        watch.rejected("tasks/marie/rejected/link.json").await.reason,
        "Not a regular file (symlink to ../../secret)."
    );
    assert!(stage.path("tasks/marie/rejected/link.json").is_symlink());
    let fifo = stage.path("tasks/marie/fifo.json");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(watch.rejected("tasks/marie/rejected/fifo.json").await.reason, "Not a regular file (FIFO).");
    assert!(fs::symlink_metadata(stage.path("tasks/marie/rejected/fifo.json")).unwrap().file_type().is_fifo());
    let big = File::create(stage.path("tasks/marie/.big")).unwrap();
    big.set_len(50_000_000).unwrap();
    fs::rename(stage.path("tasks/marie/.big"), stage.path("tasks/marie/big.json")).unwrap();
    assert_eq!(
        watch.rejected("tasks/marie/rejected/big.json").await.reason,
        "50.0 MB is over the 512 KiB limit. Put the data in a file and pass its path."
    );
    let socket = std::os::unix::net::UnixListener::bind(stage.path("tasks/marie/s.json")).unwrap();
    assert_eq!(watch.rejected("tasks/marie/rejected/s.json").await.reason, "Not a regular file (socket).");
    drop(socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_stay_is_listed_where_it_lies_and_taken_off_when_it_goes() {
    let stage = Stage::new();
    fs::create_dir(stage.path("tasks/nobody")).unwrap();
    for i in 0..3 {
        stage.drop_file(&format!("tasks/nobody/{i}.json"), "{}");
    }
    let mut watch = stage.watch().await;
    let nobody = watch.rejected("tasks/nobody").await;
    assert_eq!((nobody.reason.as_str(), nobody.moved), ("3 tasks waiting for 'nobody', no such worker", false));
    stage.drop_file("tasks/x.json", "{}");
    let stray = watch.rejected("tasks/x.json").await;
    assert_eq!(stray.reason, "tasks/x.json is not in a worker's folder (marie, anga, fabien).");
    assert!(stage.path("tasks/x.json").exists() && !stray.moved);
    for name in ["old", "folder.json"] {
        fs::create_dir(stage.path("tasks/marie").join(name)).unwrap();
        let folder = watch.rejected(&format!("tasks/marie/{name}")).await;
        assert_eq!(folder.reason, format!("tasks/marie/{name}/ is a folder and is ignored."));
    }
    fs::remove_file(stage.path("tasks/x.json")).unwrap();
    watch.until(|change| *change == Change::RejectedGone("tasks/x.json".into())).await;
    fs::remove_dir(stage.path("tasks/marie/old")).unwrap();
    watch.until(|change| *change == Change::RejectedGone("tasks/marie/old".into())).await;
    // Nobody's business.
    for name in [".hidden.json", "x.json~", "x.tmp", "x.part", "x.swp", "x.crdownload", "notes.txt", "x.json.lock"] {
        stage.drop_file(&format!("tasks/marie/{name}"), "{}");
    }
    stage.drop_file("tasks/marie/last.json", json("last", "x"));
    watch.stands("marie/last", Standing::Waiting).await;
    assert_eq!(fs::read_dir(stage.path("tasks/marie/rejected")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_file_stays_and_is_taken_once_it_can_be_read() {
    const NAME: &str = "an_unreadable_file_stays_and_is_taken_once_it_can_be_read";
    if rustix::process::geteuid().is_root() && std::env::var_os("PODIUM_TEST_UNPRIVILEGED").is_none() {
        // Once more by a process that may not read everything.
        let ran = std::process::Command::new("setpriv")
            .args(["--bounding-set=-dac_override,-dac_read_search", "--"])
            .arg(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env("PODIUM_TEST_UNPRIVILEGED", "1")
            .status();
        return match ran {
            Ok(status) => assert!(status.success(), "{status}"),
            Err(error) => skipped(&format!("this user may read everything, and setpriv: {error}")),
        };
    }
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/.closed", json("closed", "x"));
    fs::set_permissions(stage.path("tasks/marie/.closed"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::rename(stage.path("tasks/marie/.closed"), stage.path("tasks/marie/closed.json")).unwrap();
    if File::open(stage.path("tasks/marie/closed.json")).is_ok() {
        return skipped("this user may read everything");
    }
    let closed = watch.rejected("tasks/marie/closed.json").await;
    assert!(closed.reason.starts_with("Cannot read closed.json: permission denied (owner "), "{}", closed.reason);
    fs::set_permissions(stage.path("tasks/marie/closed.json"), fs::Permissions::from_mode(0o644)).unwrap();
    watch.stands("marie/closed", Standing::Waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_accepted_once() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    watch.stands("marie/a", Standing::Waiting).await;
    stage.drop_file("tasks/marie/copy.json", json("a", "x"));
    assert_eq!(watch.rejected("tasks/marie/rejected/copy.json").await.reason, "Already accepted; it is waiting.");
    stage.drop_file("tasks/marie/A.json", json("A", "x"));
    assert_eq!(watch.rejected("tasks/marie/rejected/A.json").await.reason, "A and a would collide.");
    let claim = won(&stage.queue, "marie/a").await;
    watch.stands("marie/a", Standing::Running { attempt: 1 }).await;
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    let again = watch.rejected("tasks/marie/rejected/a.json").await;
    assert_eq!(again.reason, "Already accepted; it is running (attempt 1).");
    stage.drop_file("tasks/marie/a.json", json("a", "y"));
    let other = watch.rejected("tasks/marie/rejected/a.json.2").await;
    assert_eq!(other.reason, "a was already accepted with other content. Use a new id.");
    stage.queue.finish(claim.lease, done(&task("marie/a"))).await.unwrap();
    watch.stands("marie/a", Standing::Ended).await;
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    let over = watch.rejected("tasks/marie/rejected/a.json.3").await;
    assert_eq!(over.reason, "results/marie/a.json exists. Use a new id or ask for a retry.");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_that_closes_a_cycle_is_set_aside() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    for (id, after) in [("a", "b"), ("b", "c")] {
        stage.drop_file(
            &format!("tasks/marie/{id}.json"),
            format!("{{\"task_id\":\"{id}\",\"description\":\"x\",\"dependencies\":[\"{after}\"]}}"),
        );
        watch.stands(&format!("marie/{id}"), Standing::Waiting).await;
    }
    stage.drop_file("tasks/anga/c.json", "{\"task_id\":\"c\",\"description\":\"x\",\"after\":[\"marie/a\"]}");
    assert_eq!(watch.rejected("tasks/anga/rejected/c.json").await.reason, "Cycle: c → a → b → c.");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_inside_wins_and_the_file_is_claimed_under_it() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/task-001.json", json("sec-001", "x"));
    let record = watch.stands("marie/sec-001", Standing::Waiting).await;
    assert_eq!(record.file.as_deref(), Some("task-001.json"));
    // A worker's own process has seen no listing.
    let claim = won(&open(stage.folder.path()), "marie/sec-001").await;
    let record = watch.stands("marie/sec-001", Standing::Running { attempt: 1 }).await;
    assert_eq!(record.file.as_deref(), Some("task-001.json"));
    assert!(stage.path("tasks/marie/.claimed/sec-001.json").is_file());
    assert_eq!(claim.lease.log(), "logs/marie/sec-001.1.log");
    fs::write(claim.lease.folder().join("out.log"), "said").unwrap();
    assert_eq!(fs::read_to_string(stage.path("logs/marie/sec-001.1.log")).unwrap(), "said");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_sees_every_step() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    let worker = open(stage.folder.path());
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    watch.stands("marie/a", Standing::Waiting).await;
    let claim = won(&worker, "marie/a").await;
    watch.stands("marie/a", Standing::Running { attempt: 1 }).await;
    let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    worker.fail(claim.lease, Ending::Signal { signal: 9 }, podium::model::Spend::default(), at).await.unwrap();
    watch.stands("marie/a", Standing::Retrying { attempt: 1, not_before: at }).await;
    let claim = won(&worker, "marie/a").await;
    watch.stands("marie/a", Standing::Running { attempt: 2 }).await;
    // Its holder vanishes without a word: the lock is free, and that is seen.
    drop(claim);
    let lost = watch.stands("marie/a", Standing::Claimed).await;
    assert_eq!((lost.last_attempt(), &lost.attempts[1].ending), (2, &None));
    assert_eq!(stage.queue.recover().await.unwrap(), vec![task("marie/a")]);
    let claim = won(&worker, "marie/a").await;
    assert_eq!((claim.n, claim.counted), (3, 2));
    worker.finish(claim.lease, done(&task("marie/a"))).await.unwrap();
    watch.stands("marie/a", Standing::Ended).await;
    worker.retry(&task("marie/a"), Changes::default()).await.unwrap();
    watch.stands("marie/a", Standing::Waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_older_programs_are_read() {
    let stage = Stage::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/queue");
    for (from, to) in [("old-tasks", "tasks/marie"), ("old-results", "results/fabien")] {
        for entry in fs::read_dir(data.join(from)).unwrap() {
            let entry = entry.unwrap();
            let path = stage.path(to).join(entry.file_name());
            fs::copy(entry.path(), &path).unwrap();
            // As they were left: a result of this moment is not believed before it has rested.
            let file = File::options().write(true).open(&path).unwrap();
            let now = file.metadata().unwrap().modified().unwrap();
            file.set_modified(now - Duration::from_mins(10)).unwrap();
        }
    }
    let mut watch = stage.watch().await;
    watch.stands("marie/t1", Standing::Waiting).await;
    let list = stage.queue.list().await.unwrap();
    let by_id: BTreeMap<String, TaskRecord> = list.into_iter().map(|r| (r.task().to_string(), r)).collect();
    let waiting: Vec<(&str, &str)> = by_id
        .iter()
        .filter(|(_, r)| r.standing == Standing::Waiting)
        .map(|(id, r)| (id.as_str(), r.spec.description.as_str()))
        .collect();
    assert_eq!(
        waiting,
        [
            ("marie/from-orchestrator-marie-20251122T101500", "No id inside"),
            ("marie/note", "Write it"),
            ("marie/sec-001", "Prepare the roster"),
            ("marie/t1", ""),
            ("marie/task-1763805600-1a2b3c4d", "Write the parent note"),
        ]
    );
    let ended: Vec<(&str, EndState, &str)> = by_id
        .iter()
        .filter_map(|(id, r)| r.outcome.as_ref().map(|o| (id.as_str(), o.state, o.summary.as_str())))
        .collect();
    assert_eq!(
        ended,
        [
            ("fabien/a", EndState::Done, "All well"),
            ("fabien/b", EndState::Failed, "Input must be provided"),
            ("fabien/c", EndState::TimedOut, "too slow"),
            ("fabien/d", EndState::Done, "By its name only"),
            ("fabien/sec-001", EndState::Done, "Twelve names"),
        ]
    );
    // They count as prerequisites.
    let mut spec = TaskSpec::new(task("anga/next"), "x");
    spec.dependencies = ["a", "fabien/d"].iter().map(|text| text.parse().unwrap()).collect();
    stage.queue.submit(spec).await.unwrap();
    assert_eq!(won(&stage.queue, "anga/next").await.prerequisites.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_written_by_somebody_else_ends_the_task() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    watch.stands("marie/a", Standing::Waiting).await;
    stage.drop_file("results/marie/a.json", "{\"task_id\":\"a\",\"status\":\"comp");
    stage.drop_file("results/marie/a.json", "{\"task_id\":\"a\",\"status\":\"complete\",\"summary\":\"by hand\"}");
    let record = watch.stands("marie/a", Standing::Ended).await;
    assert!(record.outcome.unwrap().foreign);
    stage.drop_file("results/marie/broken.json", "{\"task_id\":");
    let broken = watch.rejected("results/marie/broken.json").await;
    assert_eq!(broken.reason, "results/marie/broken.json was not written by the control room and is not valid JSON.");
    assert!(stage.path("results/marie/broken.json").exists());
    assert!(!stage.path("tasks/marie/a.json").exists(), "it is put to rest with the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_a_reader_deletes_does_not_bring_the_task_back() {
    let stage = Stage::new();
    stage.queue.submit(TaskSpec::new(task("marie/a"), "x")).await.unwrap();
    let claim = won(&stage.queue, "marie/a").await;
    stage.queue.finish(claim.lease, done(&task("marie/a"))).await.unwrap();
    fs::remove_file(stage.path("results/marie/a.json")).unwrap();
    let queue = open(stage.folder.path());
    assert!(queue.recover().await.unwrap().is_empty());
    let record = queue.get(&task("marie/a")).await.unwrap();
    assert_eq!((record.standing, record.outcome.map(|o| o.state)), (Standing::Ended, Some(EndState::Done)));
    assert!(matches!(queue.claim(&task("marie/a")).await.unwrap(), Claimed::Missed(_)));
    assert_eq!(queue.submit(TaskSpec::new(task("marie/a"), "x")).await.unwrap(), Submitted::Exists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_keeps_the_old_result_aside() {
    let stage = Stage::new();
    stage.queue.submit(TaskSpec::new(task("marie/a"), "x")).await.unwrap();
    for k in 1..=2 {
        let claim = won(&stage.queue, "marie/a").await;
        stage.queue.finish(claim.lease, done(&task("marie/a"))).await.unwrap();
        stage.queue.retry(&task("marie/a"), Changes::default()).await.unwrap();
        assert!(stage.path(&format!("results/marie/.superseded/a.{k}.json")).is_file());
        assert!(!stage.path("results/marie/a.json").exists());
    }
}

/// C23: the queue is closed and opened again between any two calls of a life.
#[tokio::test(flavor = "multi_thread")]
async fn a_life_goes_on_through_reopening_between_any_two_steps() {
    let folder = tempfile::tempdir().unwrap();
    let t = task("marie/a");
    assert_eq!(open(folder.path()).submit(TaskSpec::new(t.clone(), "x")).await.unwrap(), Submitted::New);
    assert_eq!(open(folder.path()).get(&t).await.unwrap().standing, Standing::Waiting);
    let claim = won(&open(folder.path()), "marie/a").await;
    let other = open(folder.path());
    assert!(other.recover().await.unwrap().is_empty());
    assert_eq!(other.get(&t).await.unwrap().standing, Standing::Running { attempt: 1 });
    assert_eq!(open(folder.path()).finish(claim.lease, done(&t)).await.unwrap(), Finished::Committed);
    let queue = open(folder.path());
    assert!(queue.recover().await.unwrap().is_empty());
    assert_eq!(queue.get(&t).await.unwrap().standing, Standing::Ended);
}

/// Rows of the crash table, made by hand as a crash would leave them.
#[tokio::test(flavor = "multi_thread")]
async fn recovery_finishes_what_was_cut_short() {
    let stage = Stage::new();
    let ids = ["taken", "committed", "published", "retried"];
    for id in ids {
        stage.queue.submit(TaskSpec::new(task(&format!("marie/{id}")), "x")).await.unwrap();
    }
    let at = |name: &str| stage.path(&format!("tasks/marie/{name}"));
    // After the claim's rename.
    fs::rename(at("taken.json"), at(".claimed/taken.json")).unwrap();
    // After exit.json, before the result; and after the result, before the move.
    for id in ["committed", "published"] {
        let claim = won(&stage.queue, &format!("marie/{id}")).await;
        stage.queue.finish(claim.lease, done(&task(&format!("marie/{id}")))).await.unwrap();
        let day = fs::read_dir(at(".done")).unwrap().next().unwrap().unwrap().path();
        fs::rename(day.join(format!("{id}.json")), at(&format!(".claimed/{id}.json"))).unwrap();
    }
    fs::remove_file(stage.path("results/marie/committed.json")).unwrap();
    // In the middle of a person's retry: settled and taken back, the old result still there.
    let claim = won(&stage.queue, "marie/retried").await;
    stage.queue.finish(claim.lease, done(&task("marie/retried"))).await.unwrap();
    stage.queue.retry(&task("marie/retried"), Changes::default()).await.unwrap();
    fs::rename(at("retried.json"), at(".claimed/retried.json")).unwrap();
    // Half-written things of a process that is no more, and one of a process that lives.
    let dead = "0.4194305.7";
    for path in [
        format!("tasks/marie/.tmp/x.{dead}"),
        format!("results/marie/.tmp/x.{dead}"),
        format!("tasks/marie/.attempts/.exit-x.{dead}"),
    ] {
        stage.drop_file(&path, "half");
    }
    fs::create_dir(at(&format!(".attempts/.new-x.{dead}"))).unwrap();
    stage.drop_file(&format!("tasks/marie/.attempts/.new-x.{dead}/lease"), "");
    let alive = format!("tasks/marie/.tmp/x.{}.7", std::process::id());
    stage.drop_file(&alive, "half");

    let queue = open(stage.folder.path());
    let mut mended: Vec<String> = queue.recover().await.unwrap().into_iter().map(|t| t.id.to_string()).collect();
    mended.sort();
    assert_eq!(mended, ["committed", "published", "retried", "taken"]);
    assert!(queue.recover().await.unwrap().is_empty());
    for (id, standing) in [
        ("taken", Standing::Waiting),
        ("committed", Standing::Ended),
        ("published", Standing::Ended),
        ("retried", Standing::Waiting),
    ] {
        assert_eq!(queue.get(&task(&format!("marie/{id}"))).await.unwrap().standing, standing, "{id}");
    }
    assert!(stage.path("results/marie/committed.json").is_file());
    assert!(stage.path(&alive).is_file());
    fs::remove_file(stage.path(&alive)).unwrap();
    for folder in ["tasks/marie/.tmp", "results/marie/.tmp"] {
        assert_eq!(fs::read_dir(stage.path(folder)).unwrap().count(), 0, "{folder}");
    }
    let attempts: Vec<String> = fs::read_dir(at(".attempts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(attempts.is_empty(), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_half_written_is_removed_also_before_anybody_has_reaped_it() {
    let stage = Stage::new();
    let mut writer = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let half = ["results/anga/.tmp/t.PID.1", "tasks/anga/.tmp/t.PID.2", "tasks/anga/.attempts/.exit-t.PID.3"];
    let half: Vec<PathBuf> = half.map(|name| stage.path(&name.replace("PID", &writer.id().to_string()))).to_vec();
    for path in &half {
        fs::write(path, "{\"task_id\":").unwrap();
    }
    stage.queue.recover().await.unwrap();
    assert!(half.iter().all(|path| path.exists()), "it may still be writing");
    writer.kill().unwrap();
    let row = format!("/proc/{}/stat", writer.id());
    let dead = async {
        while !fs::read_to_string(&row).unwrap().contains(") Z ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, dead).await.unwrap();
    stage.queue.recover().await.unwrap();
    assert!(!half.iter().any(|path| path.exists()));
    writer.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_ours_is_shown_and_recovery_goes_on_without_it() {
    let stage = Stage::new();
    stage.queue.submit(TaskSpec::new(task("marie/a"), "x")).await.unwrap();
    stage.queue.submit(TaskSpec::new(task("marie/b"), "x")).await.unwrap();
    drop(won(&stage.queue, "marie/a").await);
    drop(won(&stage.queue, "marie/b").await);
    stage.drop_file("tasks/marie/.attempts/a/1/start.json", "");
    stage.drop_file("tasks/marie/.attempts/a/1/exit.json", "{");
    let mut watch = stage.watch().await;
    let shown = watch.rejected("tasks/marie/.attempts/a/1/exit.json").await;
    assert_eq!((shown.reason.as_str(), shown.moved), ("exit.json of attempt 1 is damaged (1 bytes).", false));
    assert_eq!(stage.queue.recover().await.unwrap().len(), 2);
    let record = stage.queue.get(&task("marie/a")).await.unwrap();
    assert!(matches!(record.standing, Standing::Retrying { attempt: 1, .. }), "{record:?}");
    let aside = watch.rejected("tasks/marie/rejected/exit.json").await;
    assert_eq!(aside.reason, "marie/a: exit.json of attempt 1 is damaged (1 bytes).");
    assert_eq!(won(&stage.queue, "marie/a").await.n, 2);
}

/// Not a test of its own: the process that [`a_killed_process_frees_its_lease_and_only_then_it_is_lost`] kills.
#[tokio::test(flavor = "multi_thread")]
async fn process_that_holds_a_lease() {
    let Some(stage) = std::env::var_os("PODIUM_TEST_HOLD") else { return };
    let claim = won(&open(Path::new(&stage)), "marie/a").await;
    println!("held");
    std::future::pending::<()>().await;
    drop(claim);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_frees_its_lease_and_only_then_it_is_lost() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.queue.submit(TaskSpec::new(task("marie/a"), "x")).await.unwrap();
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["process_that_holds_a_lease", "--exact", "--nocapture"])
        .env("PODIUM_TEST_HOLD", stage.folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    watch.stands("marie/a", Standing::Running { attempt: 1 }).await;
    assert!(stage.queue.recover().await.unwrap().is_empty());
    assert!(matches!(stage.queue.claim(&task("marie/a")).await.unwrap(), Claimed::Missed(_)));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(stage.queue.recover().await.unwrap(), vec![task("marie/a")]);
    let record = stage.queue.get(&task("marie/a")).await.unwrap();
    assert_eq!(record.attempts[0].ending, Some(Ending::Lost { message: "the worker of attempt 1 vanished".into() }));
}

/// C34.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_does_not_inherit_the_lease() {
    let stage = Stage::new();
    stage.queue.submit(TaskSpec::new(task("marie/a"), "x")).await.unwrap();
    let claim = won(&stage.queue, "marie/a").await;
    let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    drop(claim);
    // The kernel lets a parent go on a moment before it closes the child's copies.
    let freed = async {
        while stage.queue.recover().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.expect("the lock went with its holder");
    assert!(child.try_wait().unwrap().is_none(), "the child is alive");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_never_see_half_a_result() {
    let stage = Stage::new();
    let results = stage.path("results/marie");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (results, stop) = (results.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut whole = 0_u32;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for entry in fs::read_dir(&results).unwrap() {
                        let path = entry.unwrap().path();
                        if path.extension().is_some_and(|e| e == "json") {
                            let bytes = fs::read(&path).unwrap();
                            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                            assert_eq!(value["status"], "complete");
                            whole += 1;
                        }
                    }
                }
                whole
            })
        })
        .collect();
    for i in 0..40 {
        let name = format!("marie/t{i}");
        stage.queue.submit(TaskSpec::new(task(&name), "x")).await.unwrap();
        let claim = won(&stage.queue, &name).await;
        let mut outcome = done(&task(&name));
        outcome.summary = "a long answer ".repeat(20_000);
        stage.queue.finish(claim.lease, outcome).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_says_what_it_said_while_it_ends_and_starts_again() {
    let stage = Stage::new();
    let watched = task("marie/t");
    stage.queue.submit(TaskSpec::new(watched.clone(), "x")).await.unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (queue, task, stop) = (stage.queue.clone(), watched.clone(), stop.clone());
        readers.spawn(async move {
            let mut looks = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(queue.get(&task).await.unwrap().spec.description, "x");
                looks += 1;
            }
            looks
        });
    }
    for _ in 0..60 {
        let claim = won(&stage.queue, "marie/t").await;
        stage.queue.finish(claim.lease, done(&watched)).await.unwrap();
        stage.queue.retry(&watched, Changes::default()).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(readers.join_all().await.iter().all(|looks| *looks > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_dropped_vanishes() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    let mut dropped = BTreeMap::new();
    for i in 0..60 {
        let content = match i % 3 {
            0 => json(&format!("t{i}"), "fine"),
            1 => format!("[{i}]"),
            _ => format!("{{\"task_id\":\"t{i}\",\"description\":\"fine\",\"timeout\":\"{i}\"}}"),
        };
        stage.drop_file(&format!("tasks/anga/f{i}.json"), &content);
        dropped.insert(format!("f{i}.json"), content);
    }
    let mut open: Vec<String> = dropped.keys().cloned().collect();
    while !open.is_empty() {
        let change = watch.until(|change| matches!(change, Change::Task(_) | Change::Rejected(_))).await;
        let name = match change {
            Change::Task(record) => record.file.unwrap(),
            Change::Rejected(rejected) => rejected.path.rsplit('/').next().unwrap().to_owned(),
            Change::Found(..)
            | Change::Gone(_)
            | Change::Requested { .. }
            | Change::Trash(_)
            | Change::RejectedGone(_)
            | Change::Polling(_)
            | Change::Space(_) => continue,
        };
        open.retain(|other| *other != name);
    }
    for (name, content) in dropped {
        let waiting = stage.path(&format!("tasks/anga/{name}"));
        let aside = stage.path(&format!("tasks/anga/rejected/{name}"));
        let found = if waiting.exists() { waiting } else { aside };
        assert_eq!(fs::read_to_string(found).unwrap(), content, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_removed_come_back_and_are_watched_again() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    fs::remove_dir_all(stage.path("tasks/marie")).unwrap();
    fs::remove_dir_all(stage.path("results/marie")).unwrap();
    watch.until(|change| *change == Change::Polling(None)).await;
    stage.drop_file("tasks/marie/a.json", json("a", "x"));
    watch.stands("marie/a", Standing::Waiting).await;
    let claim = won(&stage.queue, "marie/a").await;
    fs::remove_dir_all(stage.path("results/marie")).unwrap();
    assert_eq!(stage.queue.finish(claim.lease, done(&task("marie/a"))).await.unwrap(), Finished::Committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_of_a_killed_watch_is_gone_with_the_next_one() {
    let stage = Stage::new();
    let folders = ["tasks", "tasks/marie", "tasks/anga/.attempts", "tasks/fabien/rejected", "results/marie"];
    for folder in folders {
        stage.drop_file(&format!("{folder}/.canary"), "");
    }
    let watch = stage.watch().await;
    for folder in folders {
        let left: Vec<_> = fs::read_dir(stage.path(folder)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("canary")), "{folder}: {left:?}");
    }
    drop(watch);
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_finds_everything_too_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(folder.path(), vec!["marie".parse().unwrap()], clock());
    settings.polling = true;
    let queue = FileQueue::open(settings).unwrap();
    let mut watch = Watch { changes: queue.watch().await.unwrap() };
    watch.until(|change| matches!(change, Change::Polling(Some(_)))).await;
    let inbox = folder.path().join("tasks/marie");
    fs::write(inbox.join("a.json"), json("a", "x")).unwrap();
    watch.stands("marie/a", Standing::Waiting).await;
    fs::write(inbox.join("a.json"), json("a", "edited in place")).unwrap();
    let edited = watch.stands("marie/a", Standing::Waiting).await;
    assert_eq!(edited.spec.description, "edited in place");
    fs::write(inbox.join("bad.json"), "[]").unwrap();
    watch.rejected("tasks/marie/rejected/bad.json").await;
    let worker = FileQueue::open(Settings::new(folder.path(), vec!["marie".parse().unwrap()], clock())).unwrap();
    let claim = won(&worker, "marie/a").await;
    watch.stands("marie/a", Standing::Running { attempt: 1 }).await;
    worker.finish(claim.lease, done(&task("marie/a"))).await.unwrap();
    watch.stands("marie/a", Standing::Ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_takes_more_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(folder.path(), vec!["marie".parse().unwrap()], clock());
    settings.waiting_limit = 2;
    let queue = FileQueue::open(settings).unwrap();
    for id in ["a", "b"] {
        assert_eq!(queue.submit(TaskSpec::new(task(&format!("marie/{id}")), "x")).await.unwrap(), Submitted::New);
    }
    let full = Submitted::Full { waiting: 2, limit: 2 };
    assert_eq!(queue.submit(TaskSpec::new(task("marie/c"), "x")).await.unwrap(), full);
    let claim = won(&queue, "marie/a").await;
    assert_eq!(queue.submit(TaskSpec::new(task("marie/c"), "x")).await.unwrap(), Submitted::New);
    drop(claim);
}

#[tokio::test]
async fn our_folders_are_closed_to_others() {
    let stage = Stage::new();
    for folder in [".claimed", ".attempts", ".tmp", ".done", ".dead"] {
        let mode = fs::metadata(stage.path("tasks/marie").join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

/// What a watch has told of ended tasks, whole or in short; each may be told once.
#[derive(Default)]
struct Ended(BTreeMap<TaskRef, bool>);

impl Ended {
    fn take(&mut self, change: &Change) {
        match change {
            Change::Task(record) if record.standing == Standing::Ended => {
                assert_eq!(self.0.insert(record.task().clone(), true), None, "{} was told twice", record.task());
            }
            Change::Found(tasks, _) => {
                for (of, past) in tasks {
                    assert_eq!(past.state(), EndState::Done);
                    assert_eq!(past.title(), format!("Look at {}.", of.id));
                    assert_eq!(self.0.insert(of.clone(), false), None, "{of} was told twice");
                }
            }
            Change::Task(_)
            | Change::Gone(_)
            | Change::Rejected(_)
            | Change::RejectedGone(_)
            | Change::Polling(_)
            | Change::Requested { .. }
            | Change::Trash(_)
            | Change::Space(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_work_is_told_before_what_has_ended_and_of_that_the_newest_whole_and_the_rest_in_short_each_once() {
    let stage = Stage::new();
    let many = Past::WHOLE + 300;
    let finished = stage.path("tasks/marie/.done/2026-11-22");
    fs::create_dir_all(&finished).unwrap();
    for i in 0..many {
        let id = format!("t{i:04}");
        fs::write(finished.join(format!("{id}.json")), json(&id, &format!("Look at {id}.\\nThen rest."))).unwrap();
        let path = stage.path(&format!("results/marie/{id}.json"));
        fs::write(&path, format!("{{\"task_id\":\"{id}\",\"status\":\"complete\",\"summary\":\"fine\"}}")).unwrap();
        let written = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + u64::try_from(i).unwrap());
        File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    }
    // Its result was taken away; it is over all the same.
    fs::write(finished.join("gone.json"), json("gone", "x")).unwrap();
    stage.drop_file("tasks/anga/open.json", json("open", "x"));
    // Written a while ago, so that nobody has to wait whether more comes.
    let written = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::options().write(true).open(stage.path("tasks/anga/open.json")).unwrap().set_modified(written).unwrap();
    let mut watch = stage.watch().await;
    let mut ended = Ended::default();
    let mut open_after = None;
    while ended.0.len() < many + 1 {
        let change = watch.until(|_| true).await;
        ended.take(&change);
        if matches!(&change, Change::Task(record) if *record.task() == task("anga/open")) {
            open_after = Some(ended.0.len());
        }
    }
    assert_eq!(open_after, Some(0), "open work waits for nothing that has ended");
    let short = |i: usize| ended.0.get(&task(&format!("marie/t{i:04}"))) == Some(&false);
    assert!((0..300).all(short) && !(300..many).any(short), "the newest are whole");

    // From here on an ended task is like any other.
    fs::remove_file(stage.path("tasks/marie/.done/2026-11-22/t0007.json")).unwrap();
    fs::remove_file(stage.path("results/marie/t0007.json")).unwrap();
    watch.until(|change| *change == Change::Gone(task("marie/t0007"))).await;
    stage.drop_file("tasks/marie/again.json", json("t0008", "other"));
    watch.rejected("tasks/marie/rejected/again.json").await;
}
