//! A worker that the test plays itself: it says what it is told to say, and nothing else.

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use podium::{
    attach::far::{self, Hello, PROTOCOL, Says, Told, Welcome},
    queue::{Claim, Claimed, nats::NatsLease},
};

use super::*;

pub(super) fn agent() -> AgentName {
    "anga".parse().unwrap()
}

pub(super) struct StandIn {
    client: Client,
    worker: String,
    told: Subscriber,
    _folder: tempfile::TempDir,
    pub(super) queue: NatsQueue,
}

impl StandIn {
    /// Takes the place of anga's worker; its clock says `at`.
    pub(super) async fn arrive(scene: &Scene, at: Timestamp) -> Self {
        let client = async_nats::connect(scene.server.url()).await.unwrap();
        let worker = far::name().unwrap();
        let told = client.subscribe(far::told_subject(&agent(), &worker)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(scene.server.address(), "anga", folder.path().to_owned(), vec![agent()], clock());
        let queue = NatsQueue::open(settings).await.unwrap();
        let it = Self { client, worker, told, _folder: folder, queue };
        let hello = it.hello(at);
        let deputy = it.welcome(&hello).await;
        it.says(Says::Here { deputy, hello }).await;
        it
    }

    fn hello(&self, at: Timestamp) -> Hello {
        Hello {
            protocol: PROTOCOL,
            worker: self.worker.clone(),
            version: "9.9.9".into(),
            host: "loft".into(),
            pid: 9,
            at,
            running: None,
        }
    }

    /// Asks until a deputy offers its place; its name.
    async fn welcome(&self, hello: &Hello) -> String {
        for _ in 0..100 {
            if let Ok(answer) = self.client.request(far::hello_subject(&agent()), far::write(hello)).await
                && let Some(Welcome::Free(deputy)) = far::read(&answer)
            {
                return deputy;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nobody answers")
    }

    pub(super) async fn says(&self, says: Says) {
        self.client.publish(far::says_subject(&agent(), &self.worker), far::write(&says)).await.unwrap();
    }

    /// Says that it is there and has all orders up to this one.
    pub(super) async fn beats(&self, heard: u64) {
        self.says(Says::Beat { at: clock().now(), load: None, heard }).await;
    }

    /// The next order and its number.
    pub(super) async fn order(&mut self) -> (u64, Told) {
        self.order_within(Duration::from_secs(30)).await.expect("an order")
    }

    /// The same where one comes in this time.
    pub(super) async fn order_within(&mut self, time: Duration) -> Option<(u64, Told)> {
        let wait = async {
            loop {
                let message = self.told.next().await.unwrap();
                if let Some(Told::Order { n, told, .. }) = far::read(&message) {
                    return (n, *told);
                }
            }
        };
        tokio::time::timeout(time, wait).await.ok()
    }

    /// Takes the task, as a worker does that has heard its order.
    pub(super) async fn claim(&self, task: &str) -> Claim<NatsLease> {
        let Claimed::Won(claim) = self.queue.claim(&task.parse().unwrap()).await.unwrap() else { panic!("it is free") };
        *claim
    }
}
