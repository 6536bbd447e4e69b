//! A stage as an older program left it, in `tests/data/queue/old-stage/`: every spelling, every kind of file.

use super::*;

/// Copies a folder with everything in it, as it was ten minutes ago.
fn copy(from: &Path, to: &Path) -> Vec<PathBuf> {
    let mut copied = Vec::new();
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let path = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied.extend(copy(&entry.path(), &path));
            continue;
        }
        fs::copy(entry.path(), &path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_mins(10)).unwrap();
        copied.push(path);
    }
    copied
}

/// An older stage, opened; and every file that was in it.
fn old_stage() -> (Stage, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/queue/old-stage");
    let files = copy(&data, folder.path());
    let queue = open(folder.path());
    (Stage { folder, queue }, files)
}

async fn records(stage: &Stage) -> BTreeMap<String, TaskRecord> {
    let list = stage.queue.list().await.unwrap();
    list.into_iter().map(|r| (r.task().to_string(), r)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_a_task_is_read() {
    let (stage, _) = old_stage();
    let all = records(&stage).await;
    let waiting: Vec<_> = all
        .iter()
        .filter(|(_, r)| r.standing == Standing::Waiting)
        .map(|(id, r)| {
            let seconds = r.spec.timeout.map(|t| t.as_secs());
            (id.as_str(), r.spec.title.as_str(), r.spec.description.as_str(), r.spec.priority.0, seconds)
        })
        .collect();
    assert_eq!(
        waiting,
        [
            ("anga/broadcast-001", "Clean up the workspace", "Clean up the workspace", 8, None),
            ("anga/critical", "Mend the server", "Mend the server", 0, Some(30)),
            ("anga/urgent", "Mend the build", "Mend the build", 1, None),
            ("fabien/again", "Write the post", "Write the post", 5, None),
            ("fabien/lettered", "Try once more", "Try once more", 5, None),
            ("fabien/smoke", "", "", 5, None),
            ("marie/aliases-1", "Write the timetable", "Write the timetable", 2, Some(300)),
            ("marie/from-1", "Say hello", "Say hello", 5, None),
            ("marie/juniors", "Evaluate the juniors", "Evaluate the juniors", 5, None),
            ("marie/task-1763805600-0a1b2c3d", "Timetable", "Check the timetable", 5, Some(60)),
        ]
    );
    assert_eq!(all["marie/juniors"].spec.dependencies, ["aliases-1".parse().unwrap()]);
    // Times without a zone are UTC.
    assert_eq!(all["fabien/again"].spec.not_before, Some("2025-11-22T10:00:00Z".parse().unwrap()));
    assert_eq!(all["fabien/again"].spec.deadline, Some("2099-01-01T00:00:00Z".parse().unwrap()));
    // What we do not know goes through to the agent.
    let claim = won(&stage.queue, "marie/juniors").await;
    assert_eq!(claim.spec.context["evaluation_type"], "monthly");
    assert_eq!(claim.spec.extra["expected_output"]["format"], "markdown");
    let claim = won(&stage.queue, "fabien/lettered").await;
    assert_eq!(claim.spec.extra["dlq_reason"], "max_retries_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_a_result_is_read() {
    let (stage, _) = old_stage();
    let all = records(&stage).await;
    let ended: Vec<_> = all
        .iter()
        .filter_map(|(id, r)| r.outcome.as_ref().map(|o| (id.as_str(), o)))
        .map(|(id, o)| (id, o.state, o.summary.as_str(), o.ending.sentence()))
        .collect();
    let done = |id, text| (id, EndState::Done, text, Ending::Done.sentence());
    let failed = |id, state, text: &'static str, said: &str| (id, state, text, said.to_owned());
    let process = "Input must be provided either through stdin or as a prompt argument";
    assert_eq!(
        ended,
        [
            failed("anga/s-dead", EndState::Dead, "given up", "given up"),
            failed("anga/s-errobj", EndState::Failed, "in full", "in full"),
            failed("anga/s-error", EndState::Failed, "no such file", "no such file"),
            failed("anga/s-errors", EndState::Failed, "first", "first"),
            done("anga/s-exit", "said on the way"),
            failed("anga/s-failed", EndState::Failed, "It broke", "It broke"),
            failed("anga/s-partial", EndState::Failed, "Half of it", "Half of it"),
            failed("anga/s-process", EndState::Failed, process, process),
            failed("anga/s-timeout", EndState::TimedOut, "", &Ending::Deadline { seconds: 600 }.sentence()),
            done("fabien/d-copy", "A post"),
            done("marie/old-1", "Put away"),
            failed("marie/old-2", EndState::Failed, "Put away as well", "Put away as well"),
            done("marie/r-dash", "By message"),
            done("marie/r-end", "All well"),
            done("marie/r-low", "By output"),
            done("marie/r-plain", "Twelve names"),
            done("marie/r-task", "One line"),
        ]
    );
    let outcome = |id: &str| all[id].outcome.clone().unwrap();
    assert_eq!(outcome("marie/r-plain").findings, ["Twelve names", "No gaps"]);
    assert_eq!(outcome("marie/r-end").findings, ["one", "two"]);
    assert_eq!(outcome("marie/r-task").findings, ["One line"]);
    let paths = |id: &str| outcome(id).artifacts.into_iter().map(|a| a.path).collect::<Vec<_>>();
    assert_eq!(paths("marie/r-plain"), ["results/marie/report.md", "/srv/stage/workspace/dance/plan.md"]);
    assert_eq!(paths("marie/r-end"), ["workspace/dance/report.md"]);
    assert_eq!(paths("fabien/d-copy"), ["workspace/marketing/post.md"]);
    for (id, at) in [
        ("marie/r-end", "2025-11-22T10:00:45Z"),
        ("marie/r-task", "2025-11-22T10:00:00.123456Z"),
        ("marie/r-dash", "2025-11-22T10:15:00Z"),
        ("marie/r-low", "2025-11-22T10:15:00Z"),
    ] {
        assert_eq!(outcome(id).completed_at, at.parse().unwrap(), "{id}");
    }
    assert_eq!(outcome("marie/r-end").started_at, "2025-11-22T10:00:00Z".parse().unwrap());
    assert!(all.values().all(|r| r.outcome.as_ref().is_none_or(|o| o.foreign)));
    assert!(!all.keys().any(|id| id.contains("still")), "a task still at work has no end");
    // They count as prerequisites, also those put away.
    let mut spec = TaskSpec::new(task("anga/next"), "x");
    spec.dependencies = ["marie/r-low", "old-1", "fabien/d-copy"].iter().map(|text| text.parse().unwrap()).collect();
    stage.queue.submit(spec).await.unwrap();
    assert_eq!(won(&stage.queue, "anga/next").await.prerequisites.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_an_older_program_left_is_let_be() {
    let (stage, files) = old_stage();
    let contents: Vec<(PathBuf, Vec<u8>)> =
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let mut watch = stage.watch().await;
    let mut said = BTreeMap::new();
    // Whatever it has to say is said once the last of everything has come: the folders of given-up tasks.
    while !said.contains_key("dlq/marie") || !said.contains_key("tasks/.dead_letter") {
        if let Change::Rejected(rejected) = watch.until(|c| matches!(c, Change::Rejected(_))).await {
            said.insert(rejected.path, rejected.reason);
        }
    }
    let said: Vec<(&str, &str)> = said.iter().map(|(path, reason)| (path.as_str(), reason.as_str())).collect();
    assert_eq!(
        said,
        [
            ("dlq/marie", "1 task that an older program gave up; move one to tasks/marie/ to run it again."),
            (
                "tasks/.dead_letter",
                "1 task that an older program gave up; move one to its worker's folder to run it again."
            ),
            ("tasks/marie/completed", "tasks/marie/completed/ is a folder and is ignored."),
            ("tasks/marie/pending", "tasks/marie/pending/ is a folder and is ignored."),
        ]
    );
    stage.queue.recover().await.unwrap();
    for (path, content) in contents {
        assert_eq!(fs::read(&path).unwrap(), content, "{}", path.display());
    }
}
