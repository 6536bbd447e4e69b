//! F3, second half: disks that are really full, of bytes and of files; and a queue that is put on them.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use podium::{
    model::{Standing, TaskRef, TaskSpec},
    queue::{Change, Claimed, Finished, Queue as _, QueueError, Submitted, file::FileQueue},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    disks::{Mount, may_mount},
    law,
    life::{open, outcome, task, words},
};

const PATIENCE: Duration = Duration::from_mins(1);

/// Takes all the room there is.
fn fill(ballast: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(ballast.join("bytes")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

/// Takes all the names there are.
fn fill_names(ballast: &Path) {
    for n in 0.. {
        if fs::File::create(ballast.join(format!("{n}"))).is_err() {
            break;
        }
    }
}

/// Waits for the queue to say how the disk is.
async fn said(watch: &mut mpsc::Receiver<Change>, short: bool) -> Option<String> {
    let wait = async {
        loop {
            if let Change::Space(why) = watch.recv().await.expect("the watch ended")
                && why.is_some() == short
            {
                return why;
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("the queue says how the disk is")
}

async fn start(queue: &FileQueue, of: &TaskRef) -> (u32, podium::queue::file::FileLease) {
    match queue.claim(of).await.unwrap() {
        Claimed::Won(claim) => (claim.n, claim.lease),
        Claimed::Missed(why) => panic!("{why}"),
    }
}

/// Fills a disk in the middle of everything, then makes it larger.
async fn full_and_free_again(small: &str, large: &str, fill: impl Fn(&Path), unit: &str) {
    let mount = Mount::memory(small);
    let stage = mount.path().join("stage");
    let ballast = mount.path().join("ballast");
    for folder in [&stage, &ballast] {
        fs::create_dir(folder).unwrap();
    }
    let queue = open(&stage).unwrap();
    let mut watch = queue.watch().await.unwrap();
    let reserve = stage.join(".podium/reserve");
    timeout(PATIENCE, async {
        while !reserve.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a reserve");
    // Two attempts run when the disk becomes full.
    let (a, b) = (task("marie/a"), task("marie/b"));
    for of in [&a, &b] {
        assert_eq!(queue.submit(TaskSpec::new(of.clone(), "first")).await.unwrap(), Submitted::New);
    }
    let (first, second) = (start(&queue, &a).await, start(&queue, &b).await);

    // Accepted until it says no, and what it says is a sentence.
    let mut accepted = vec![a.clone(), b.clone()];
    let refused = loop {
        let of = task(&format!("marie/t{}", accepted.len()));
        match queue.submit(TaskSpec::new(of.clone(), "first")).await {
            Ok(Submitted::New) => accepted.push(of),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::NoSpace(_)), "{}", words(&refused));
    let sentence = refused.to_string();
    assert!(sentence.starts_with("the disk has ") && sentence.ends_with(" nothing is accepted"), "{sentence}");
    assert!(sentence.contains(unit), "{sentence}");

    // Nothing is started, and that is said.
    let why = said(&mut watch, true).await.unwrap();
    assert!(why.starts_with("the disk has ") && why.ends_with(" nothing new is started"), "{why}");
    match queue.claim(&accepted[2]).await.unwrap() {
        Claimed::Missed(why) => assert!(why.ends_with("nothing new is started"), "{why}"),
        Claimed::Won(_) => panic!("it was started"),
    }

    // What runs is finished: out of the reserve, and when that is gone too as soon as there is room.
    fill(&ballast);
    let others = [task("marie/late"), task("marie/later")];
    for of in &others {
        queue.submit(TaskSpec::new(of.clone(), "first")).await.unwrap_err();
    }
    let finished = timeout(PATIENCE, queue.finish(first.1, outcome(&a, first.0))).await;
    assert_eq!(finished.expect("there is a reserve").unwrap(), Finished::Committed);
    assert!(!reserve.exists());
    fill(&ballast);
    let (again, result) = (queue.clone(), outcome(&b, second.0));
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { again.finish(second.1, result).await });
    assert_eq!(queue.get(&b).await.unwrap().standing, Standing::Running { attempt: 1 });
    mount.remount(large);
    assert_eq!(
        timeout(PATIENCE, waiting.join_next()).await.expect("there is room").unwrap().unwrap().unwrap(),
        Finished::Committed
    );
    fs::remove_dir_all(&ballast).unwrap();
    said(&mut watch, false).await;

    // Everything goes on, each once.
    for of in &accepted[2..] {
        let (n, lease) = start(&queue, of).await;
        assert_eq!(n, 1);
        assert_eq!(queue.finish(lease, outcome(of, n)).await.unwrap(), Finished::Committed);
    }
    for of in &accepted {
        let record = queue.get(of).await.unwrap();
        assert_eq!((&record.standing, record.last_attempt()), (&Standing::Ended, 1), "{of}");
    }
    timeout(PATIENCE, async {
        while !reserve.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the reserve is back");
    drop(watch);
    assert_eq!(law::leftovers(&stage, true), Vec::<PathBuf>::new());
    println!("{} were accepted and ended", accepted.len());
}

/// F3 (G12, G15).
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_full_of_bytes_stops_what_is_new_finishes_what_runs_and_goes_on_later() {
    if may_mount() {
        full_and_free_again("size=1m", "size=32m", fill, "KiB").await;
    }
}

/// F3, the same with names: a file system may run out of those first.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_full_of_files_stops_what_is_new_finishes_what_runs_and_goes_on_later() {
    if may_mount() {
        full_and_free_again("size=16m,nr_inodes=400", "size=16m,nr_inodes=40000", fill_names, "files").await;
    }
}

/// G15, section 7: a stage that cannot be written to is not taken for one.
#[tokio::test]
async fn a_read_only_folder_is_told_from_a_good_one() {
    if !may_mount() {
        return;
    }
    let mount = Mount::memory("size=4m");
    let stage = mount.path().to_owned();
    let queue = open(&stage).unwrap();
    queue.probe().unwrap();
    FileQueue::fits(&stage).unwrap();
    assert_eq!(law::leftovers(&stage, true), Vec::<PathBuf>::new());
    mount.remount("ro");
    let said = queue.probe().unwrap_err().to_string();
    assert!(said.starts_with("tasks/marie/ cannot be written to (the file system is read-only)"), "{said}");
    let said = FileQueue::fits(&stage).unwrap_err().to_string();
    assert!(said.contains("/ cannot be written to (the file system is read-only)"), "{said}");
    mount.remount("rw");
}
