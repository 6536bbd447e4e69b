//! Attempts that another machine carries: noted beside, running without a holder, taken up by the next.

use podium::{model::Spend, queue::QueueError};
use serde_json::json;

use super::*;

/// A queue whose agent of this name works elsewhere.
fn open_for(folder: &Path, elsewhere: &str) -> FileQueue {
    let agents: Vec<AgentName> = ["marie", "anga"].map(|name| name.parse().unwrap()).to_vec();
    let elsewhere = vec![elsewhere.parse().unwrap()];
    FileQueue::open(Settings { elsewhere, ..Settings::new(folder, agents, clock()) }).unwrap()
}

async fn won(queue: &FileQueue, task: &TaskRef) -> Claim<FileLease> {
    match queue.claim(task).await.unwrap() {
        Claimed::Won(claim) => *claim,
        Claimed::Missed(why) => panic!("missed: {why}"),
    }
}

#[tokio::test]
async fn an_attempt_that_is_carried_elsewhere_outlives_its_holder_and_is_taken_up_under_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let (t, agent): (TaskRef, AgentName) = ("anga/t".parse().unwrap(), "anga".parse().unwrap());
    let queue = open_for(folder.path(), "anga");
    queue.submit(TaskSpec::new(t.clone(), "Words.")).await.unwrap();
    // One that failed before, so that there is something to know of it.
    let first = won(&queue, &t).await;
    queue
        .fail(first.lease, Ending::ExitCode { code: 1, message: String::new() }, Spend::default(), clock().now())
        .await
        .unwrap();
    let second = won(&queue, &t).await;
    assert_eq!(queue.take_up(&agent).await.unwrap().map(|found| found.1), None, "nothing is noted");
    queue.entrust(&second.lease, json!({ "may_spend": 7 })).await.unwrap();
    assert_eq!(queue.take_up(&agent).await.unwrap().map(|found| found.1), None, "somebody holds it");
    drop(second);
    // A process that comes after.
    let next = open_for(folder.path(), "anga");
    assert_eq!(next.recover().await.unwrap(), vec![]);
    assert_eq!(next.get(&t).await.unwrap().standing, Standing::Running { attempt: 2 });
    assert!(matches!(next.claim(&t).await.unwrap(), Claimed::Missed(_)));
    assert!(matches!(next.end(&t, Ending::Cancelled).await, Err(QueueError::State { .. })));
    assert!(matches!(next.remove(&t).await, Err(QueueError::State { .. })));
    let (claim, note) = next.take_up(&agent).await.unwrap().expect("nobody holds it");
    assert_eq!((claim.n, claim.counted, note), (2, 1, json!({ "may_spend": 7 })));
    assert!(matches!(claim.previous, Some((Ending::ExitCode { code: 1, .. }, None))), "{:?}", claim.previous);
    assert_eq!(claim.spec.description, "Words.");
    assert_eq!(queue.take_up(&agent).await.unwrap().map(|found| found.1), None, "it is in other hands");
    assert_eq!(next.finish(claim.lease, plain(&t, 2, clock().now())).await.unwrap(), Finished::Committed);
    assert_eq!(next.take_up(&agent).await.unwrap().map(|found| found.1), None);
    let record = queue.get(&t).await.unwrap();
    assert_eq!((record.standing, record.attempts.len()), (Standing::Ended, 2));
}

#[tokio::test]
async fn an_attempt_that_nobody_began_is_not_counted_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let t: TaskRef = "anga/t".parse().unwrap();
    let queue = open_for(folder.path(), "anga");
    queue.submit(TaskSpec::new(t.clone(), "Words.")).await.unwrap();
    let log = folder.path().join("logs/anga/t.1.log");
    for _ in 0..3 {
        let claim = won(&queue, &t).await;
        assert_eq!((claim.n, claim.counted), (1, 0));
        queue.entrust(&claim.lease, json!({})).await.unwrap();
        assert!(log.exists());
        queue.uncount(claim.lease).await.unwrap();
        let record = queue.get(&t).await.unwrap();
        assert_eq!((record.standing, record.attempts), (Standing::Waiting, vec![]));
        assert!(!log.exists());
        assert_eq!(queue.recover().await.unwrap(), vec![]);
    }
    // One before it that did begin stays.
    let first = won(&queue, &t).await;
    let crash = Ending::ExitCode { code: 1, message: String::new() };
    queue.fail(first.lease, crash.clone(), Spend::default(), clock().now()).await.unwrap();
    let second = won(&queue, &t).await;
    queue.uncount(second.lease).await.unwrap();
    let record = queue.get(&t).await.unwrap();
    assert!(matches!(record.standing, Standing::Retrying { attempt: 1, .. }), "{record:#?}");
    let again = won(&queue, &t).await;
    assert_eq!((again.n, again.counted, again.previous), (2, 1, Some((crash, None))));
}

#[tokio::test]
async fn what_was_carried_by_an_agent_that_works_here_now_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let t: TaskRef = "anga/t".parse().unwrap();
    let queue = open_for(folder.path(), "anga");
    queue.submit(TaskSpec::new(t.clone(), "Words.")).await.unwrap();
    let claim = won(&queue, &t).await;
    queue.entrust(&claim.lease, json!({})).await.unwrap();
    // Not while somebody holds it.
    let other = open_for(folder.path(), "marie");
    assert_eq!(other.recover().await.unwrap(), vec![]);
    drop(claim);
    assert_eq!(other.recover().await.unwrap(), vec![t.clone()]);
    let record = other.get(&t).await.unwrap();
    assert!(matches!(record.attempts[0].ending, Some(Ending::Lost { .. })), "{record:#?}");
}
