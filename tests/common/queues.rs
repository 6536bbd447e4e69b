//! What tests of a queue begin with: the agents, the one clock, a task's name, a claim that wins, a watch that is read until
//! something fits.

use std::time::Duration;

use jiff::Timestamp;
use podium::{
    model::{AgentName, Clock, Ending, TaskRef},
    queue::{Change, Claim, Claimed, Queue},
};
use tokio::{sync::mpsc, time::timeout};

/// How long any one thing may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn agents() -> Vec<AgentName> {
    ["marie", "anga", "fabien"].map(|name| name.parse().unwrap()).to_vec()
}

#[expect(clippy::disallowed_methods, reason = "the one clock of these tests, handed to the queue as a value")]
pub(crate) fn clock() -> Clock {
    Clock::new(Timestamp::now)
}

pub(crate) fn task(text: &str) -> TaskRef {
    text.parse().unwrap()
}

pub(crate) fn crash() -> Ending {
    Ending::Signal { signal: 9 }
}

pub(crate) async fn won<Q: Queue>(queue: &Q, of: &TaskRef) -> Claim<Q::Lease> {
    match queue.claim(of).await.unwrap() {
        Claimed::Won(claim) => *claim,
        Claimed::Missed(why) => panic!("missed: {why}"),
    }
}

/// Reads changes until one fits.
pub(crate) async fn change<T>(changes: &mut mpsc::Receiver<Change>, fits: impl Fn(&Change) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let change = changes.recv().await.expect("the watch ended");
            if let Some(found) = fits(&change) {
                return found;
            }
            seen.push(format!("{change:?}"));
        }
    };
    let found = timeout(PATIENCE, wait).await.ok();
    found.unwrap_or_else(|| panic!("nothing fits; seen: {seen:#?}"))
}
