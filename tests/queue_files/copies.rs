//! Copies of what attempts made: kept for as long as is said.

use super::*;

#[tokio::test]
async fn copies_go_when_they_are_old_and_stay_where_they_are_kept_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join(".podium/runs");
    let copy = |goal: &str, name: &str, days: u64| {
        fs::create_dir_all(runs.join(goal)).unwrap();
        let file = File::create(runs.join(goal).join(name)).unwrap();
        let now = std::time::SystemTime::from(clock().now());
        file.set_modified(now - Duration::from_hours(24 * days)).unwrap();
    };
    copy("g1", "old", 31);
    copy("g2", "old", 40);
    copy("g2", "new", 29);
    let open = |copies| {
        let settings = Settings { copies, ..Settings::new(folder.path(), vec!["marie".parse().unwrap()], clock()) };
        FileQueue::open(settings).unwrap()
    };
    let there = |path: &str| runs.join(path).exists();
    open(None).recover().await.unwrap();
    assert!(there("g1/old") && there("g2/old"));
    open(Some(30)).recover().await.unwrap();
    assert_eq!(["g1", "g2/old", "g2/new"].map(there), [false, false, true]);
}
