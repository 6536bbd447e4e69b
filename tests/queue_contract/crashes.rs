//! The crash table, row by row: the stage as a crash would leave it, then recovery, twice.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::SignedDuration;

use super::*;

/// The name of a temporary whose process is no more.
const DEAD: &str = "0.4194305.7";

struct Stage {
    folder: tempfile::TempDir,
    queue: FileQueue,
}

impl Stage {
    fn new() -> Self {
        let (folder, queue) = files(100_000);
        Self { folder, queue }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Below marie's tasks.
    fn at(&self, name: &str) -> PathBuf {
        self.path("tasks/marie").join(name)
    }

    fn moved(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    /// The one folder of a day in `.done/`.
    fn day(&self) -> PathBuf {
        fs::read_dir(self.at(".done")).unwrap().next().unwrap().unwrap().path()
    }

    async fn waits(&self) -> TaskRef {
        self.queue.submit(spec("marie/t", "x")).await.unwrap();
        task("marie/t")
    }

    /// A task that has ended, was tried again, and has ended again.
    async fn ended_twice(&self) -> TaskRef {
        let t = self.waits().await;
        for n in 1..=2 {
            let claim = won(&self.queue, &t).await;
            assert_eq!(claim.n, n);
            self.queue.finish(claim.lease, done(&t)).await.unwrap();
            if n == 1 {
                self.queue.retry(&t, Changes::default()).await.unwrap();
            }
        }
        t
    }

    /// Opens the stage anew and recovers twice, which is once.
    async fn recovered(&self) -> (FileQueue, Vec<TaskRef>) {
        let queue = open(self.folder.path());
        let mended = queue.recover().await.unwrap();
        assert_eq!(queue.recover().await.unwrap(), vec![], "recovering twice is recovering once");
        (queue, mended)
    }
}

fn open(stage: &Path) -> FileQueue {
    FileQueue::open(settings(stage, 100_000)).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The file that a change lists.
fn set_aside(change: &Change) -> Option<Rejected> {
    if let Change::Rejected(rejected) = change { Some(rejected.clone()) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_submit_before_its_rename_leaves_nothing_and_the_writer_who_lives_is_left_alone() {
    let stage = Stage::new();
    let alive = format!("t.{}.7", std::process::id());
    for name in [format!("t.{DEAD}"), alive.clone()] {
        fs::write(stage.at(".tmp").join(name), "half").unwrap();
    }
    let (queue, mended) = stage.recovered().await;
    assert_eq!((mended, names(&stage.at(".tmp"))), (vec![], vec![alive]));
    assert_eq!(queue.list().await.unwrap(), vec![]);
    assert_eq!(queue.submit(spec("marie/t", "x")).await.unwrap(), Submitted::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_claim_after_its_rename_waits_again_and_starts_as_the_first() {
    let stage = Stage::new();
    let t = stage.waits().await;
    stage.moved("t.json", ".claimed/t.json");
    assert_eq!(stage.queue.get(&t).await.unwrap().standing, Standing::Claimed);
    let (queue, mended) = stage.recovered().await;
    assert_eq!((mended, queue.get(&t).await.unwrap().standing), (vec![t.clone()], Standing::Waiting));
    assert_eq!(won(&queue, &t).await.n, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_start_before_its_rename_is_removed_unless_its_lease_is_held() {
    let stage = Stage::new();
    let t = stage.waits().await;
    let claim = won(&stage.queue, &t).await;
    // The attempt as it looks before the rename, once with a holder and once without.
    stage.moved(".attempts/t/1", &format!(".attempts/.new-t.{DEAD}"));
    fs::create_dir(stage.at(".attempts/.new-t.0.4194305.8")).unwrap();
    fs::write(stage.at(".attempts/.new-t.0.4194305.8/lease"), "").unwrap();
    let (_, mended) = stage.recovered().await;
    assert_eq!(mended, vec![t.clone()], "it waits again");
    assert_eq!(names(&stage.at(".attempts")), [format!(".new-t.{DEAD}"), "t".into()]);
    drop(claim);
    let (queue, _) = stage.recovered().await;
    assert_eq!(names(&stage.at(".attempts")), ["t"]);
    assert_eq!(won(&queue, &t).await.n, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_g6_start_after_its_rename_is_lost_and_counted() {
    let stage = Stage::new();
    let t = stage.waits().await;
    drop(won(&stage.queue, &t).await);
    // Also cut short while the end was being written.
    fs::write(stage.at(&format!(".attempts/.exit-t.{DEAD}")), "half").unwrap();
    let (queue, mended) = stage.recovered().await;
    assert_eq!((mended, names(&stage.at(".attempts"))), (vec![t.clone()], vec!["t".into()]));
    let standing = queue.get(&t).await.unwrap().standing;
    assert!(matches!(standing, Standing::Retrying { attempt: 1, .. }), "{standing:?}");
    // The timer is what was written, whoever reads it.
    assert_eq!(open(stage.folder.path()).get(&t).await.unwrap().standing, standing);
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_g3_finish_at_any_point_publishes_what_was_found_and_runs_nothing_again() {
    for result_there in [false, true] {
        let stage = Stage::new();
        let t = stage.waits().await;
        let claim = won(&stage.queue, &t).await;
        stage.queue.finish(claim.lease, done(&t)).await.unwrap();
        let result = fs::read(stage.path("results/marie/t.json")).unwrap();
        fs::rename(stage.day().join("t.json"), stage.at(".claimed/t.json")).unwrap();
        if !result_there {
            fs::remove_file(stage.path("results/marie/t.json")).unwrap();
        }
        fs::write(stage.path(&format!("results/marie/.tmp/t.{DEAD}")), "half").unwrap();
        let (queue, mended) = stage.recovered().await;
        assert_eq!(mended, vec![t.clone()], "{result_there}");
        assert_eq!(fs::read(stage.path("results/marie/t.json")).unwrap(), result, "{result_there}");
        assert_eq!(names(&stage.path("results/marie/.tmp")), Vec::<String>::new());
        let record = queue.get(&t).await.unwrap();
        assert_eq!((record.standing, record.attempts.len()), (Standing::Ended, 1));
        missed(&queue, &t).await;
    }
}

/// A room that lives leaves alone what runs, and so does the next one: the lease says it, not the room.
#[tokio::test(flavor = "multi_thread")]
async fn g7_g5_a_room_that_dies_leaves_its_attempts_running() {
    let stage = Stage::new();
    let t = stage.waits().await;
    let claim = won(&stage.queue, &t).await;
    let (next, mended) = stage.recovered().await;
    assert_eq!((mended, next.get(&t).await.unwrap().standing), (vec![], Standing::Running { attempt: 1 }));
    missed(&next, &t).await;
    assert_eq!(next.finish(claim.lease, done(&t)).await.unwrap(), Finished::Committed);
}

/// F10.
#[tokio::test(flavor = "multi_thread")]
async fn f10_c22_an_attempt_of_another_boot_is_lost_and_no_foreign_process_is_touched() {
    let stage = Stage::new();
    let t = stage.waits().await;
    let mut bystander = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let claim = won(&stage.queue, &t).await;
    let boot_id = "00000000-0000-0000-0000-000000000000".to_owned();
    let child = Spawned { pid: bystander.id(), start_ticks: 1, boot_id: boot_id.clone(), session_id: None };
    stage.queue.spawned(&claim.lease, &child).await.unwrap();
    let start = stage.at(".attempts/t/1/start.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&start).unwrap()).unwrap();
    value["boot_id"] = boot_id.into();
    drop(claim);
    fs::write(&start, value.to_string()).unwrap();
    let (queue, mended) = stage.recovered().await;
    assert_eq!(mended, vec![t.clone()]);
    assert!(matches!(queue.get(&t).await.unwrap().attempts[0].ending, Some(Ending::Lost { .. })));
    assert!(bystander.try_wait().unwrap().is_none(), "it runs on");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_a_retry_cut_short_either_happened_or_is_still_asked_for() {
    // Settled; taken back; the old result aside.
    for cut in 0..3 {
        let stage = Stage::new();
        let t = stage.waits().await;
        let claim = won(&stage.queue, &t).await;
        stage.queue.finish(claim.lease, done(&t)).await.unwrap();
        let day = stage.day();
        stage.queue.retry(&t, Changes::default()).await.unwrap();
        fs::write(stage.at(".requests/t.retry"), "").unwrap();
        stage.moved("t.json", ".claimed/t.json");
        if cut < 2 {
            fs::rename(stage.path("results/marie/.superseded/t.1.json"), stage.path("results/marie/t.json")).unwrap();
        }
        if cut < 1 {
            fs::rename(stage.at(".claimed/t.json"), day.join("t.json")).unwrap();
        }
        let (queue, _) = stage.recovered().await;
        let wanted = if cut == 2 { Standing::Waiting } else { Standing::Ended };
        assert_eq!(queue.get(&t).await.unwrap().standing, wanted, "{cut}");
        let mut changes = queue.watch().await.unwrap();
        change(&mut changes, exactly(Change::Requested { task: t.clone(), request: Request::Retry })).await;
        if cut < 2 {
            queue.retry(&t, Changes::default()).await.unwrap();
            assert!(!stage.at(".requests/t.retry").exists());
        }
        let claim = won(&queue, &t).await;
        assert_eq!((claim.n, claim.counted), (2, 0), "{cut}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_a_removal_cut_short_is_finished_and_can_be_undone() {
    // The note; the task's file; the old result; the result; all but the hint.
    for cut in 0..5 {
        let stage = Stage::new();
        let t = stage.ended_twice().await;
        let (before, day) = (stage.queue.list().await.unwrap(), stage.day());
        stage.queue.remove(&t).await.unwrap();
        let trash = stage.path("results/marie/.trash/t.1");
        fs::write(stage.at(".trash/.open/t"), "").unwrap();
        if cut < 4 {
            stage.moved(".trash/t.1", ".attempts/t");
        }
        if cut < 3 {
            fs::rename(trash.join("t.json"), stage.path("results/marie/t.json")).unwrap();
        }
        if cut < 2 {
            let aside = stage.path("results/marie/.superseded/t.1.json");
            fs::rename(trash.join("superseded/t.1.json"), aside).unwrap();
        }
        if cut < 1 {
            fs::rename(stage.at(".attempts/t/task.json"), day.join("t.json")).unwrap();
        }
        let (queue, _) = stage.recovered().await;
        assert_eq!(queue.list().await.unwrap(), vec![], "{cut}");
        assert_eq!(names(&stage.at(".trash/.open")), Vec::<String>::new());
        assert_eq!(queue.removed().await.unwrap().len(), 1);
        queue.restore(&Item::Task(t)).await.unwrap();
        assert_eq!(queue.list().await.unwrap(), before, "{cut}");
        assert!(stage.path("results/marie/.superseded/t.1.json").is_file());
        assert!(stage.path("logs/marie/t.2.log").is_file());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_a_removal_cut_short_is_finished_before_anybody_uses_the_id_again() {
    let stage = Stage::new();
    let t = stage.waits().await;
    drop(won(&stage.queue, &t).await);
    stage.queue.remove(&t).await.unwrap();
    stage.moved(".trash/t.1", ".attempts/t");
    let queue = open(stage.folder.path());
    assert_eq!(queue.submit(spec("marie/t", "another")).await.unwrap(), Submitted::New);
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.spec.description.as_str()), (1, "another"));
    assert_eq!(queue.removed().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_a_restoring_cut_short_is_finished_or_may_be_asked_again() {
    // The other note; the folder; the results; the task's file.
    for cut in 0..4 {
        let stage = Stage::new();
        let t = stage.ended_twice().await;
        let (before, day) = (stage.queue.list().await.unwrap(), stage.day());
        stage.queue.remove(&t).await.unwrap();
        stage.moved(".trash/t.1/removed.json", ".trash/t.1/restored.json");
        fs::write(stage.at(".trash/.open/t"), "").unwrap();
        let trash = stage.path("results/marie/.trash/t.1");
        if cut > 0 {
            stage.moved(".trash/t.1", ".attempts/t");
        }
        if cut > 1 {
            fs::rename(trash.join("superseded/t.1.json"), stage.path("results/marie/.superseded/t.1.json")).unwrap();
            fs::rename(trash.join("t.json"), stage.path("results/marie/t.json")).unwrap();
        }
        if cut > 2 {
            fs::rename(stage.at(".attempts/t/task.json"), day.join("t.json")).unwrap();
        }
        let (queue, _) = stage.recovered().await;
        if cut == 0 {
            assert_eq!(queue.removed().await.unwrap().len(), 1);
            queue.restore(&Item::Task(t)).await.unwrap();
        }
        assert_eq!(queue.list().await.unwrap(), before, "{cut}");
        assert_eq!(queue.removed().await.unwrap(), vec![]);
        assert!(!stage.at(".attempts/t/restored.json").exists());
        assert_eq!(names(&stage.path("results/marie/.trash")), Vec::<String>::new());
    }
}

/// C6 and C7: somebody broke the lock, so that an attempt went on that was said to be lost.
#[tokio::test(flavor = "multi_thread")]
async fn c06_c07_a_stale_attempt_keeps_its_output_and_disturbs_no_newer_one() {
    let stage = Stage::new();
    let t = stage.waits().await;
    let first = won(&stage.queue, &t).await;
    let break_lock = |claim: &Claim<FileLease>| fs::remove_file(claim.lease.folder().join("lease")).unwrap();
    break_lock(&first);
    assert_eq!(stage.queue.recover().await.unwrap(), vec![t.clone()]);
    let second = won(&stage.queue, &t).await;
    assert_eq!(stage.queue.finish(first.lease, done(&t)).await.unwrap(), Finished::AlreadyCommitted);
    let kept = fs::read_to_string(stage.at(".attempts/t/1/late.json")).unwrap();
    assert!(kept.contains("about t"), "{kept}");
    assert_eq!(stage.queue.get(&t).await.unwrap().standing, Standing::Running { attempt: 2 });
    assert_eq!(stage.queue.result(&t).await.unwrap(), None);
    break_lock(&second);
    assert_eq!(stage.queue.recover().await.unwrap(), vec![t.clone()]);
    let third = won(&stage.queue, &t).await;
    stage.queue.fail(second.lease, crash(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(stage.queue.get(&t).await.unwrap().standing, Standing::Running { attempt: 3 });
    assert_eq!(stage.queue.finish(third.lease, done(&t)).await.unwrap(), Finished::Committed);
    assert_eq!(stage.queue.get(&t).await.unwrap().outcome.unwrap().attempt, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_two_weeks_ago_is_let_go_of_but_for_its_result_and_dead_letters() {
    let stage = Stage::new();
    let t = stage.ended_twice().await;
    let dead = task("marie/dead");
    stage.queue.submit(TaskSpec::new(dead.clone(), "x")).await.unwrap();
    let claim = won(&stage.queue, &dead).await;
    stage.queue.finish(claim.lease, outcome(&dead, EndState::Dead, crash())).await.unwrap();
    assert!(stage.at(".dead/dead.json").is_file() && stage.at(".attempts/dead/1/out.log").is_file());
    stage.queue.submit(spec("marie/thrown-away", "x")).await.unwrap();
    stage.queue.remove(&task("marie/thrown-away")).await.unwrap();
    let later = |days: i64| {
        let now = clock();
        let clock = Clock::new(move || now.now() + SignedDuration::from_hours(24 * days));
        FileQueue::open(Settings { clock, ..settings(stage.folder.path(), 100_000) }).unwrap()
    };
    let before = stage.queue.list().await.unwrap();
    let queue = later(13);
    assert_eq!(queue.recover().await.unwrap(), vec![]);
    assert_eq!((queue.list().await.unwrap(), queue.removed().await.unwrap().len()), (before, 1));
    // A result that a reader has deleted does not bring its task back while the id is kept.
    let queue = later(16);
    assert_eq!(queue.recover().await.unwrap(), vec![]);
    assert_eq!((names(&stage.at(".done")), queue.removed().await.unwrap()), (vec![], vec![]));
    assert!(!stage.at(".attempts/t").exists() && !stage.path("logs/marie/t.2.log").exists());
    let record = queue.get(&t).await.unwrap();
    assert_eq!((&record.standing, record.outcome.unwrap().state), (&Standing::Ended, EndState::Done));
    assert_eq!(queue.submit(spec("marie/t", "x")).await.unwrap(), Submitted::Conflict);
    // A dead letter waits for a person, who may bring it back; its numbers go on.
    queue.retry(&dead, Changes::default()).await.unwrap();
    let claim = won(&queue, &dead).await;
    assert_eq!((claim.n, claim.counted), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_set_aside_can_be_thrown_away_and_brought_back() {
    let stage = Stage::new();
    let mut changes = stage.queue.watch().await.unwrap();
    fs::write(stage.at("bad.json"), "[1]").unwrap();
    let path = "tasks/marie/rejected/bad.json";
    let known = |change: &Change| set_aside(change).filter(|rejected| rejected.path == path);
    let rejected = change(&mut changes, known).await;
    stage.queue.discard(path).await.unwrap();
    change(&mut changes, exactly(Change::RejectedGone(path.into()))).await;
    assert_eq!(names(&stage.at("rejected")), Vec::<String>::new());
    let trash = stage.queue.removed().await.unwrap();
    assert_eq!((&trash[0].item, &trash[0].title), (&Item::File(path.into()), &rejected.reason));
    stage.queue.restore(&trash[0].item).await.unwrap();
    assert_eq!(change(&mut changes, known).await, rejected, "exactly as it was");
    assert_eq!(fs::read_to_string(stage.path(path)).unwrap(), "[1]");
    stage.queue.discard(path).await.unwrap();
    assert_eq!(stage.queue.purge(Duration::ZERO).await.unwrap(), 1);
    for wrong in
        ["tasks/marie/rejected/bad.json", "tasks/marie/t.json", "tasks/marie/rejected/../t.json", "/etc/passwd"]
    {
        let answer = stage.queue.discard(wrong).await;
        assert!(matches!(answer, Err(QueueError::NoFile(_))), "{wrong}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_anyone_may_touch_a_request_also_while_nobody_looks() {
    let stage = Stage::new();
    let t = stage.waits().await;
    let mode = fs::metadata(stage.at(".requests")).unwrap().permissions().mode();
    assert_eq!(mode & 0o500, 0o500, "{mode:o}");
    fs::write(stage.at(".requests/t.cancel"), "").unwrap();
    let mut changes = stage.queue.watch().await.unwrap();
    change(&mut changes, exactly(Change::Requested { task: t.clone(), request: Request::Cancel })).await;
    for (name, said) in [("nobody.retry", "Nobody knows"), ("t.pause", "named ID.cancel or ID.retry")] {
        fs::write(stage.at(".requests").join(name), "").unwrap();
        let path = format!("tasks/marie/.requests/{name}");
        let listed = |change: &Change| set_aside(change).filter(|rejected| rejected.path == path);
        let reason = change(&mut changes, listed).await.reason;
        assert!(reason.contains(said), "{reason}");
    }
    // It is told once its task is there.
    stage.queue.submit(spec("marie/nobody", "x")).await.unwrap();
    let wanted = Change::Requested { task: task("marie/nobody"), request: Request::Retry };
    change(&mut changes, exactly(wanted)).await;
}

/// C36: what `ls` shows, said by the places alone.
#[tokio::test(flavor = "multi_thread")]
async fn c36_g14_what_ls_shows_is_what_the_list_says() {
    let stage = Stage::new();
    let tasks = one_of_each(&stage.queue).await;
    for record in stage.queue.list().await.unwrap() {
        let file = format!("{}.json", record.task().id);
        let done = names(&stage.at(".done")).iter().any(|day| stage.at(".done").join(day).join(&file).exists());
        let shown = match (stage.at(&file).exists(), stage.at(".claimed").join(&file).exists()) {
            (true, false) => Standing::Waiting,
            (false, true) => {
                let attempts = names(&stage.at(".attempts").join(record.task().id.as_str()));
                let last = attempts.iter().filter_map(|n| n.parse().ok()).max().unwrap();
                let folder = stage.at(".attempts").join(record.task().id.as_str()).join(format!("{last}/exit.json"));
                let not_before = record.startable_at().unwrap_or_default();
                if folder.exists() { Standing::Retrying { attempt: last, not_before } } else { Standing::Claimed }
            }
            _ if done || stage.at(".dead").join(&file).exists() => Standing::Ended,
            other => panic!("{file}: {other:?}"),
        };
        assert_eq!(record.standing, shown, "{file}");
        assert_eq!(stage.path("results/marie").join(&file).exists(), shown == Standing::Ended, "{file}");
    }
    assert_eq!(tasks.len(), stage.queue.list().await.unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn g15_a_read_error_is_never_taken_for_absent() {
    let stage = Stage::new();
    let t = stage.waits().await;
    let claim = won(&stage.queue, &t).await;
    stage.queue.fail(claim.lease, crash(), Spend::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    // A folder where a file should be: its reading fails, for root too.
    stage.moved(".attempts/t/1/exit.json", ".attempts/t/1/kept");
    fs::create_dir(stage.at(".attempts/t/1/exit.json")).unwrap();
    let queue = open(stage.folder.path());
    assert!(matches!(queue.claim(&t).await, Err(QueueError::Io { .. })));
    assert!(matches!(queue.get(&t).await, Err(QueueError::Io { .. })));
    assert!(matches!(queue.remove(&t).await, Err(QueueError::Io { .. })));
    assert!(queue.recover().await.is_err());
    fs::remove_dir(stage.at(".attempts/t/1/exit.json")).unwrap();
    stage.moved(".attempts/t/1/kept", ".attempts/t/1/exit.json");
    let claim = won(&queue, &t).await;
    assert_eq!((claim.n, claim.counted), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_file_set_aside_keeps_its_bytes_and_its_place_where_the_reason_was_not_written() {
    let stage = Stage::new();
    fs::write(stage.at("rejected/alone.json"), "[1]").unwrap();
    fs::write(stage.at("rejected/gone.json.reason.json"), "{}").unwrap();
    stage.recovered().await;
    let mut changes = stage.queue.watch().await.unwrap();
    let listed = change(&mut changes, set_aside).await;
    assert_eq!((listed.path.as_str(), listed.moved), ("tasks/marie/rejected/alone.json", true));
    assert_eq!(fs::read_to_string(stage.at("rejected/alone.json")).unwrap(), "[1]");
}

/// Not a test of its own: the process that [`g1_g2_what_was_accepted_survives_a_kill_and_is_whole`] kills.
#[tokio::test(flavor = "multi_thread")]
async fn process_that_submits() {
    let Some(stage) = std::env::var_os("PODIUM_TEST_SUBMIT") else { return };
    let queue = open(Path::new(&stage));
    for i in 0.. {
        let answer = queue.submit(spec(&format!("marie/t{i}"), "x")).await.unwrap();
        println!("accepted {i} {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_g2_what_was_accepted_survives_a_kill_and_is_whole() {
    let stage = Stage::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crashes::process_that_submits", "--exact", "--nocapture"])
        .env("PODIUM_TEST_SUBMIT", stage.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut accepted = 0;
    for line in lines.map_while(Result::ok) {
        accepted += usize::from(line.starts_with("accepted "));
        // Readers see whole tasks only, at any time.
        for name in
            names(&stage.path("tasks/marie")).iter().filter(|name| !name.starts_with('.') && *name != "rejected")
        {
            let bytes = fs::read(stage.at(name)).unwrap();
            assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(), "{name}");
        }
        if accepted == 30 {
            child.kill().unwrap();
            break;
        }
    }
    child.wait().unwrap();
    assert_eq!(accepted, 30);
    let (queue, _) = stage.recovered().await;
    for i in 0..accepted {
        assert_eq!(queue.get(&task(&format!("marie/t{i}"))).await.unwrap().standing, Standing::Waiting, "t{i}");
    }
    assert_eq!(names(&stage.at(".tmp")), Vec::<String>::new());
}
