//! C23: a queue that is closed and opened again between any two calls.

use super::*;

#[derive(Debug, Clone)]
pub(crate) struct Reopening(pub(crate) Settings);

impl Reopening {
    fn open(&self) -> FileQueue {
        FileQueue::open(self.0.clone()).unwrap()
    }
}

impl Queue for Reopening {
    type Lease = FileLease;

    async fn submit(&self, task: TaskSpec) -> Result<Submitted, QueueError> {
        self.open().submit(task).await
    }
    async fn submit_many(&self, tasks: Vec<TaskSpec>) -> Result<Vec<Submitted>, QueueError> {
        self.open().submit_many(tasks).await
    }
    async fn claim(&self, task: &TaskRef) -> Result<Claimed<FileLease>, QueueError> {
        self.open().claim(task).await
    }
    async fn spawned(&self, lease: &FileLease, spawned: &Spawned) -> Result<(), QueueError> {
        self.open().spawned(lease, spawned).await
    }
    async fn finish(&self, lease: FileLease, outcome: Outcome) -> Result<Finished, QueueError> {
        self.open().finish(lease, outcome).await
    }
    async fn fail(&self, lease: FileLease, ending: Ending, spend: Spend, at: Timestamp) -> Result<(), QueueError> {
        self.open().fail(lease, ending, spend, at).await
    }
    async fn end(&self, task: &TaskRef, ending: Ending) -> Result<Finished, QueueError> {
        self.open().end(task, ending).await
    }
    async fn retry(&self, task: &TaskRef, changes: Changes) -> Result<(), QueueError> {
        self.open().retry(task, changes).await
    }
    async fn remove(&self, task: &TaskRef) -> Result<(), QueueError> {
        self.open().remove(task).await
    }
    async fn discard(&self, path: &str) -> Result<(), QueueError> {
        self.open().discard(path).await
    }
    async fn restore(&self, item: &Item) -> Result<(), QueueError> {
        self.open().restore(item).await
    }
    async fn removed(&self) -> Result<Vec<Removed>, QueueError> {
        self.open().removed().await
    }
    async fn purge(&self, older: Duration) -> Result<usize, QueueError> {
        self.open().purge(older).await
    }
    async fn request(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.open().request(task, request).await
    }
    async fn answered(&self, task: &TaskRef, request: Request) -> Result<(), QueueError> {
        self.open().answered(task, request).await
    }
    async fn get(&self, task: &TaskRef) -> Result<TaskRecord, QueueError> {
        self.open().get(task).await
    }
    async fn spec(&self, task: &TaskRef) -> Result<TaskSpec, QueueError> {
        self.open().spec(task).await
    }
    async fn result(&self, task: &TaskRef) -> Result<Option<Outcome>, QueueError> {
        self.open().result(task).await
    }
    async fn list(&self) -> Result<Vec<TaskRecord>, QueueError> {
        self.open().list().await
    }
    async fn recover(&self) -> Result<Vec<TaskRef>, QueueError> {
        self.open().recover().await
    }
    async fn watch(&self) -> Result<mpsc::Receiver<Change>, QueueError> {
        self.open().watch().await
    }
}
