//! Orders while the end of an attempt is being written, which a full disk may make long.
//!
//! Owns what an order means once the child is gone and only its end is unwritten. Must not know what is written. Its two
//! surprises: without a room it waits on for the disk, since nobody else knows how the attempt ended; an order to go
//! leaves the attempt to be found lost. And a cancellation comes too late for an attempt that has ended: its result
//! stands, and where it failed the room ends the task once that is written. Given up here, neither would be on the disk.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Farewell, Order, Worker};
use crate::{
    engines::Gateway,
    model::{Activity, AttemptRef, Report, Spend},
    queue::{Queue, QueueError},
};

/// How long the queue may go on writing after an order to go: it is nearly always done at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// After so long the room is told what is waited for.
const NEWS: Duration = Duration::from_secs(1);

/// What is shown meanwhile.
const DOING: &str = "has ended; waits for room on the disk to write how";

/// What came of writing an end.
#[derive(Debug)]
pub(super) enum Heeded<T> {
    /// The queue has answered.
    Written(Result<T, QueueError>),
    /// The worker must go, and it is not written.
    Left,
}

/// Lets the queue write while it can, and does as it is told meanwhile. `leaving` says that the worker must go anyway.
pub(super) async fn heed<Q: Queue, T>(
    worker: &mut Worker<Q>,
    attempt: &AttemptRef,
    spend: Spend,
    leaving: &mut Option<Farewell>,
    writing: impl Future<Output = Result<T, QueueError>>,
) -> Heeded<T> {
    let mut writing = pin!(writing);
    let mut news = Some(Instant::now() + NEWS);
    let mut until = matches!(leaving, Some(Farewell::Stopped)).then(|| Instant::now() + PATIENCE);
    loop {
        let order = tokio::select! {
            biased;
            written = &mut writing => return Heeded::Written(written),
            () = at(until) => return Heeded::Left,
            order = worker.link.order() => order,
            () = at(news) => {
                news = None;
                let activity = Activity { doing: DOING.to_owned(), spend, ..Activity::default() };
                worker.post.send(Report::Active { attempt: attempt.clone(), activity });
                continue;
            }
        };
        match order {
            Order::Assign { task, .. } => {
                let reason = format!("this worker is busy with {attempt}");
                worker.post.send(Report::NotStarted { task, reason });
            }
            // Nothing of it runs any more, and it can be silent no more.
            Order::Cancel { .. }
            | Order::End { .. }
            | Order::Extend { .. }
            | Order::Permit { .. }
            | Order::Know { .. } => {}
            Order::Drain => worker.draining = true,
            Order::Stop | Order::Quit { .. } => *leaving = Some(Farewell::Stopped),
            Order::Room(there) => worker.room(there),
            Order::Gateway { url, token } => worker.settings.gateway = Some(Gateway { url, token }),
        }
        if until.is_none() && matches!(leaving, Some(Farewell::Stopped)) {
            until = Some(Instant::now() + PATIENCE);
        }
    }
}

/// Waits for a moment; for ever where there is none.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
