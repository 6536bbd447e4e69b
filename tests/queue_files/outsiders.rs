//! Programs and people that share the folders: how they write, read, delete, and what they take the time for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
};

use jiff::SignedDuration;
use podium::{model::Spend, queue::QueueError};

use super::*;

/// A task whose text can be checked to be whole: its version, many times.
fn version(id: &str, n: usize) -> String {
    json(id, &format!("{n} ").repeat(2_000))
}

/// Which version a text is, where it is whole.
fn version_of(description: &str) -> usize {
    let words: Vec<&str> = description.split_whitespace().collect();
    assert_eq!(words.len(), 2_000, "half a text was read");
    assert!(words.iter().all(|word| *word == words[0]), "a mixture was read");
    words[0].parse().unwrap()
}

/// Rewrites one file in some way until told to stop.
fn rewriting(stop: &Arc<AtomicBool>, mut write: impl FnMut(usize) + Send + 'static) -> thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        for n in 1.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            write(n);
        }
    })
}

/// Writes a task's file in place, in two halves.
fn in_place(stage: &Stage) -> impl FnMut(usize) + Send + use<> {
    let path = stage.path("tasks/marie/a.json");
    move |n| {
        let whole = version("a", n);
        let (head, tail) = whole.split_at(whole.len() / 2);
        let mut file = File::create(&path).unwrap();
        file.write_all(head.as_bytes()).unwrap();
        file.write_all(tail.as_bytes()).unwrap();
    }
}

/// A task file that changes while it is claimed: whole or not at all, and never lost.
/// Says what was claimed.
async fn is_claimed_once(of: &str, write: impl FnMut(usize) + Send + 'static, stage: &Stage) -> String {
    let stop = Arc::new(AtomicBool::new(false));
    let writer = rewriting(&stop, write);
    let worker = open(stage.folder.path());
    let end = tokio::time::Instant::now() + PATIENCE;
    let claim = loop {
        match worker.claim(&task(of)).await {
            Ok(Claimed::Won(claim)) => break *claim,
            // Half of it is there, or it changed meanwhile and was set aside as it was: it comes again.
            Ok(Claimed::Missed(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(tokio::time::Instant::now() < end, "it is never claimed");
    };
    let claimed = claim.spec.description.clone();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    // What the writer did afterwards concerns neither this attempt nor the next.
    worker.fail(claim.lease, Ending::Signal { signal: 9 }, Spend::default(), clock().now()).await.unwrap();
    let next = won(&worker, of).await;
    assert!(next.spec.description == claimed, "the text changed between two attempts");
    for entry in fs::read_dir(stage.path("tasks/marie/rejected")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".reason.json") {
            let reason = fs::read_to_string(&path).unwrap();
            assert!(reason.contains("The file changed while it was being read."), "{reason}");
        }
    }
    claimed
}

#[tokio::test(flavor = "multi_thread")]
async fn c31_a_file_rewritten_in_place_while_it_is_claimed_is_never_read_half() {
    let stage = Stage::new();
    version_of(&is_claimed_once("marie/a", in_place(&stage), &stage).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c31_a_file_written_over_without_being_emptied_does_not_change_any_more_once_it_is_claimed() {
    let stage = Stage::new();
    let path = stage.path("tasks/marie/a.json");
    let mut file = None;
    let write = move |n: usize| {
        use std::io::Seek;
        // The same open file for a while: also after the queue has taken it.
        if n % 50 == 1 {
            file = Some(File::options().write(true).create(true).truncate(false).open(&path).unwrap());
        }
        let file = file.as_mut().unwrap();
        file.rewind().unwrap();
        file.write_all(version("a", 1_000 + n % 9_000).as_bytes()).unwrap();
    };
    is_claimed_once("marie/a", write, &stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c31_a_file_that_is_being_written_anew_is_never_a_task_that_says_nothing() {
    let stage = Stage::new();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = rewriting(&stop, in_place(&stage));
    let mut seen = 0;
    for _ in 0..2_000 {
        // Between two versions it may be no task at all.
        match stage.queue.get(&task("marie/a")).await {
            Ok(record) => {
                assert!(!record.spec.description.is_empty(), "half a file was read");
                seen += 1;
            }
            Err(error) => assert!(matches!(error, QueueError::Unknown(_)), "{error}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(seen > 0, "it was never seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn c31_a_file_renamed_over_while_it_is_claimed_is_one_version_or_another() {
    let stage = Stage::new();
    let (new, path) = (stage.path("tasks/marie/.a.json.Xy12z"), stage.path("tasks/marie/a.json"));
    let write = move |n| {
        fs::write(&new, version("a", n)).unwrap();
        fs::rename(&new, &path).unwrap();
    };
    version_of(&is_claimed_once("marie/a", write, &stage).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c31_a_file_linked_in_is_ours_once_it_is_claimed() {
    let stage = Stage::new();
    stage.drop_file("template.json", version("a", 1));
    fs::hard_link(stage.path("template.json"), stage.path("tasks/marie/a.json")).unwrap();
    let claim = won(&stage.queue, "marie/a").await;
    stage.drop_file("template.json", "");
    stage.queue.fail(claim.lease, Ending::Signal { signal: 9 }, Spend::default(), clock().now()).await.unwrap();
    assert_eq!(version_of(&won(&stage.queue, "marie/a").await.spec.description), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c31_every_way_in_which_editors_and_copying_programs_save_is_one_task() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    let at = |name: &str| stage.path("tasks/marie").join(name);
    let told = async |watch: &mut Watch, text: &str| {
        let fits = |change: &Change| matches!(change, Change::Task(r) if r.spec.description == text);
        watch.until(fits).await;
    };
    fs::write(at("a.json"), json("a", "as dropped")).unwrap();
    told(&mut watch, "as dropped").await;

    // vim: a swap file, a probe, the old one kept aside, the new one in place.
    fs::write(at(".a.json.swp"), "swap").unwrap();
    drop(File::create(at("4913")).unwrap());
    fs::remove_file(at("4913")).unwrap();
    fs::rename(at("a.json"), at("a.json~")).unwrap();
    fs::write(at("a.json"), json("a", "by vim")).unwrap();
    fs::set_permissions(at("a.json"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(at("a.json~")).unwrap();
    fs::remove_file(at(".a.json.swp")).unwrap();
    told(&mut watch, "by vim").await;

    // rsync: a hidden name, times set, renamed over.
    fs::write(at(".a.json.k2Jx9Q"), json("a", "by rsync")).unwrap();
    let file = File::options().write(true).open(at(".a.json.k2Jx9Q")).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified - Duration::from_hours(48)).unwrap();
    fs::rename(at(".a.json.k2Jx9Q"), at("a.json")).unwrap();
    told(&mut watch, "by rsync").await;

    // Python's open(path, "w"): emptied, then written.
    let mut file = File::create(at("a.json")).unwrap();
    file.write_all(json("a", "by python").as_bytes()).unwrap();
    drop(file);
    told(&mut watch, "by python").await;

    // A browser's and scp's: a name in parts, then the whole.
    fs::write(at("b.json.part"), "{\"task_id\":").unwrap();
    fs::write(at("b.json.part"), json("b", "in parts")).unwrap();
    fs::rename(at("b.json.part"), at("b.json")).unwrap();
    told(&mut watch, "in parts").await;

    // Closed and opened again, and moved away.
    fs::set_permissions(at("b.json"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(at("b.json"), stage.path("b.json")).unwrap();
    watch.until(|change| *change == Change::Gone(task("marie/b"))).await;
    assert_eq!(fs::read_dir(at("rejected")).unwrap().count(), 0);
    assert_eq!(won(&stage.queue, "marie/a").await.spec.description, "by python");
}

/// What `ls` alone says of every task: its place, and the names in its attempts' folders.
fn by_ls(stage: &Path) -> BTreeMap<String, String> {
    let names = |path: PathBuf| -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let ids = |path: PathBuf| -> Vec<String> {
        names(path)
            .iter()
            .filter_map(|n| n.strip_suffix(".json").filter(|n| !n.starts_with('.')))
            .map(str::to_owned)
            .collect()
    };
    let mut states = BTreeMap::new();
    for agent in ["marie", "anga", "fabien"] {
        let tasks = stage.join("tasks").join(agent);
        let mut say = |id: String, state: &str| drop(states.insert(format!("{agent}/{id}"), state.to_owned()));
        for id in ids(tasks.clone()) {
            say(id, "waiting");
        }
        for id in ids(tasks.join(".claimed")) {
            let attempts = tasks.join(".attempts").join(&id);
            let newest = names(attempts.clone()).iter().filter_map(|n| n.parse::<u32>().ok()).max();
            let word = match newest {
                None => "claimed",
                Some(n) if names(attempts.join(n.to_string())).contains(&"exit.json".to_owned()) => "retrying",
                Some(_) => "running",
            };
            say(id, word);
        }
        for day in names(tasks.join(".done")) {
            for id in ids(tasks.join(".done").join(day)) {
                say(id, "ended");
            }
        }
        for id in ids(tasks.join(".dead")).into_iter().chain(ids(stage.join("results").join(agent))) {
            say(id, "ended");
        }
    }
    states
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Waiting => "waiting",
        Standing::Claimed => "claimed",
        Standing::Running { .. } => "running",
        Standing::Retrying { .. } | Standing::Asking { .. } => "retrying",
        Standing::Ended => "ended",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c36_what_ls_says_is_what_the_list_says_after_every_step() {
    let stage = Stage::new();
    let same = async |after: &str| {
        let list = stage.queue.list().await.unwrap();
        let list: BTreeMap<_, _> = list.iter().map(|r| (r.task().to_string(), word(&r.standing).to_owned())).collect();
        assert_eq!(by_ls(stage.folder.path()), list, "after {after}");
        list
    };
    let mut held = BTreeMap::new();
    // The same steps whenever it runs; each task another way through them.
    let steps = ["claim", "fail", "claim", "dead", "retry", "claim", "finish", "retry", "end"];
    for round in 0..steps.len() + 6 {
        let id = format!("marie/t{round}");
        stage.queue.submit(TaskSpec::new(task(&id), "x")).await.unwrap();
        stage.drop_file(&format!("tasks/anga/d{round}.json"), json(&format!("d{round}"), "x"));
        for n in 0..=round {
            let Some(step) = steps.get(round - n) else { continue };
            let id = task(&format!("marie/t{n}"));
            let lease = held.remove(&id);
            match (*step, lease) {
                ("claim", None) => drop(held.insert(id.clone(), won(&stage.queue, &id.to_string()).await.lease)),
                ("fail", Some(lease)) => {
                    let at = clock().now();
                    stage.queue.fail(lease, Ending::Signal { signal: 9 }, Spend::default(), at).await.unwrap();
                }
                ("dead", Some(lease)) => {
                    let outcome = Outcome { state: EndState::Dead, ..done(&id) };
                    stage.queue.finish(lease, outcome).await.unwrap();
                }
                ("finish", Some(lease)) => drop(stage.queue.finish(lease, done(&id)).await.unwrap()),
                ("retry", None) => stage.queue.retry(&id, Changes::default()).await.unwrap(),
                ("end", None) => drop(stage.queue.end(&id, Ending::Cancelled).await.unwrap()),
                (step, lease) => panic!("{step} of {id} with {lease:?}"),
            }
            same(&format!("{step} of {id}")).await;
        }
    }
    let all = same("all").await;
    let seen: std::collections::BTreeSet<&str> = all.values().map(String::as_str).collect();
    assert!(["waiting", "ended"].iter().all(|state| seen.contains(state)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c37_whenever_a_reader_deletes_a_result_its_task_never_runs_again() {
    const TASKS: usize = 60;
    let stage = Stage::new();
    let stop = Arc::new(AtomicBool::new(false));
    let results = stage.path("results/marie");
    let reader = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut taken = 0;
            while !stop.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&results).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().is_some_and(|e| e == "json") {
                        let bytes = fs::read(&path).unwrap();
                        let _whole: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                        fs::remove_file(&path).unwrap();
                        taken += 1;
                    }
                }
            }
            taken
        })
    };
    let mending = {
        let (stop, queue) = (Arc::clone(&stop), open(stage.folder.path()));
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            while !stop.load(Ordering::Relaxed) {
                runtime.block_on(queue.recover()).unwrap();
            }
        })
    };
    for i in 0..TASKS {
        let id = format!("marie/t{i}");
        stage.queue.submit(TaskSpec::new(task(&id), "x")).await.unwrap();
        // Whoever mends may give a task back between its claim's two halves, so a try may miss.
        let claim = loop {
            match stage.queue.claim(&task(&id)).await.unwrap() {
                Claimed::Won(claim) => break claim,
                Claimed::Missed(why) => assert!(!why.contains("ended"), "{why}"),
            }
        };
        stage.queue.finish(claim.lease, done(&task(&id))).await.unwrap();
    }
    for i in 0..TASKS {
        let id = task(&format!("marie/t{i}"));
        assert!(matches!(stage.queue.claim(&id).await.unwrap(), Claimed::Missed(_)), "{id}");
        let record = stage.queue.get(&id).await.unwrap();
        assert_eq!((record.standing, record.attempts.len()), (Standing::Ended, 1), "{id}");
    }
    stop.store(true, Ordering::Relaxed);
    mending.await.unwrap();
    assert!(reader.join().unwrap() > 0);
}

/// What a clock says at its nth reading.
type Jump = Box<dyn Fn(i64) -> i64 + Send + Sync>;

/// F7: what every step takes for the time goes forward, back, to 1970, and back each second.
#[tokio::test(flavor = "multi_thread")]
async fn f7_no_clock_loses_doubles_or_hangs_a_task() {
    let begin = clock().now().as_second();
    let hours = 3 * 3600;
    let jumps: [(&str, Jump); 5] = [
        ("forward", Box::new(move |n| begin + hours * n)),
        ("back", Box::new(move |n| begin - hours * n)),
        ("to and fro", Box::new(move |n| begin + if n % 2 == 0 { hours } else { -hours })),
        ("to 1970", Box::new(|n| n)),
        ("back each second", Box::new(move |n| begin - n)),
    ];
    for (how, jump) in jumps {
        let folder = tempfile::tempdir().unwrap();
        let reads = Arc::new(AtomicI64::new(0));
        let clock = Clock::new(move || Timestamp::from_second(jump(reads.fetch_add(1, Ordering::Relaxed))).unwrap());
        let queue =
            FileQueue::open(Settings::new(folder.path(), vec!["marie".parse().unwrap()], clock.clone())).unwrap();
        let mut watch = Watch { changes: queue.watch().await.unwrap() };
        for i in 0..6 {
            let id = format!("marie/t{i}");
            if i % 2 == 0 {
                queue.submit(TaskSpec::new(task(&id), "x")).await.unwrap();
            } else {
                fs::write(folder.path().join(format!("tasks/{id}.json")), json(&format!("t{i}"), "x")).unwrap();
            }
            watch.stands(&id, Standing::Waiting).await;
            let claim = won(&queue, &id).await;
            let wait = clock.now() + SignedDuration::from_secs(4);
            queue.fail(claim.lease, Ending::Signal { signal: 9 }, Spend::default(), wait).await.unwrap();
            drop(won(&queue, &id).await);
            assert_eq!(queue.recover().await.unwrap(), [task(&id)], "{how}");
            let claim = won(&queue, &id).await;
            assert_eq!(claim.n, 3, "{how}");
            assert_eq!(queue.finish(claim.lease, done(&task(&id))).await.unwrap(), Finished::Committed, "{how}");
            watch.stands(&id, Standing::Ended).await;
            assert!(matches!(queue.claim(&task(&id)).await.unwrap(), Claimed::Missed(_)), "{how}");
        }
        // What somebody else left is taken as well, and a bad file is set aside.
        fs::write(folder.path().join("results/marie/theirs.json"), "{\"task_id\":\"theirs\",\"status\":\"done\"}")
            .unwrap();
        watch.stands("marie/theirs", Standing::Ended).await;
        fs::write(folder.path().join("tasks/marie/half.json"), "{\"task_id\":").unwrap();
        watch.rejected("tasks/marie/rejected/half.json").await;
        assert!(queue.recover().await.unwrap().is_empty(), "{how}");
        assert_eq!(queue.list().await.unwrap().len(), 7, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_ids_that_differ_in_capitals_only_are_the_same_id_for_every_door() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    stage.queue.submit(TaskSpec::new(task("marie/build-42"), "x")).await.unwrap();
    watch.stands("marie/build-42", Standing::Waiting).await;
    assert_eq!(stage.queue.submit(TaskSpec::new(task("marie/Build-42"), "x")).await.unwrap(), Submitted::Conflict);
    // Another process that has seen nothing yet.
    let other = open(stage.folder.path());
    assert_eq!(other.submit(TaskSpec::new(task("marie/BUILD-42"), "x")).await.unwrap(), Submitted::Conflict);
    stage.drop_file("tasks/marie/Build-42.json", json("Build-42", "x"));
    let twin = watch.rejected("tasks/marie/rejected/Build-42.json").await;
    assert_eq!(twin.reason, "Build-42 and build-42 would collide.");
    assert!(matches!(stage.queue.get(&task("marie/Build-42")).await, Err(QueueError::Unknown(_))));
}
