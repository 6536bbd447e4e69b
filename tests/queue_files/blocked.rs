//! A file where the queue wants a folder: it is set aside with its reason, and the queue opens.

use super::*;

/// Everything the queue makes in an inbox.
const FOLDERS: [&str; 8] = ["rejected", ".claimed", ".attempts", ".requests", ".tmp", ".done", ".dead", ".trash"];

#[tokio::test(flavor = "multi_thread")]
async fn g8_what_has_the_name_of_a_folder_of_ours_is_set_aside_and_the_queue_opens() {
    for name in FOLDERS {
        let folder = tempfile::tempdir().unwrap();
        let inbox = folder.path().join("tasks/marie");
        fs::create_dir_all(&inbox).unwrap();
        fs::write(inbox.join(name), "mine").unwrap();
        let stage = Stage { queue: open(folder.path()), folder };
        let mut watch = stage.watch().await;
        let aside = format!("tasks/marie/rejected/{}", name.replacen('.', "%2E", 1));
        let reason = format!("tasks/marie/{name} is a folder of the queue; something else had its name.");
        assert_eq!(watch.rejected(&aside).await.reason, reason);
        assert_eq!(fs::read_to_string(stage.path(&aside)).unwrap(), "mine", "{name}");
        lives(&stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_link_to_nowhere_in_place_of_a_folder_is_set_aside_unopened() {
    for name in FOLDERS {
        let folder = tempfile::tempdir().unwrap();
        let inbox = folder.path().join("tasks/marie");
        fs::create_dir_all(&inbox).unwrap();
        symlink("/nowhere/at all", inbox.join(name)).unwrap();
        let stage = Stage { queue: open(folder.path()), folder };
        let aside = stage.path(&format!("tasks/marie/rejected/{}", name.replacen('.', "%2E", 1)));
        assert_eq!(fs::read_link(&aside).unwrap(), Path::new("/nowhere/at all"), "{name}");
        lives(&stage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_what_has_the_name_of_a_folder_of_results_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("results/marie")).unwrap();
    fs::write(folder.path().join("results/marie/.tmp"), "mine").unwrap();
    fs::write(folder.path().join("results/anga"), "mine too").unwrap();
    let stage = Stage { queue: open(folder.path()), folder };
    let mut watch = stage.watch().await;
    let listed = watch.rejected("results/marie/%2Etmp%1.json").await;
    assert!(!listed.moved && listed.reason.ends_with("is not valid JSON."), "{listed:?}");
    assert_eq!(fs::read_to_string(stage.path("results/anga%1.json")).unwrap(), "mine too");
    lives(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g8_a_folder_that_is_replaced_while_the_queue_is_open_is_made_again() {
    let stage = Stage::new();
    let mut watch = stage.watch().await;
    fs::remove_dir(stage.path("tasks/marie/rejected")).unwrap();
    fs::write(stage.path("tasks/marie/rejected"), "mine").unwrap();
    watch.rejected("tasks/marie/rejected/rejected").await;
    assert_eq!(fs::read_to_string(stage.path("tasks/marie/rejected/rejected")).unwrap(), "mine");
    lives(&stage).await;
}

/// A task goes from the inbox to its result.
async fn lives(stage: &Stage) {
    let of = task("marie/a");
    assert_eq!(stage.queue.submit(TaskSpec::new(of.clone(), "x")).await.unwrap(), Submitted::New);
    let claim = won(&stage.queue, "marie/a").await;
    assert_eq!(stage.queue.finish(claim.lease, done(&of)).await.unwrap(), Finished::Committed);
    stage.queue.remove(&of).await.unwrap();
}
