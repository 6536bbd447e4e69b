//! A slot whose work is done on another machine: the room's queue in files, the NATS server, and the link to the room.
//!
//! Its one surprise: it calls the room only while a worker is there, so that the room hands nothing to nobody.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::worker::{Link, leave_on_signals};
use crate::{
    queue::{
        file::FileQueue,
        nats::{self, NatsQueue, Unfit},
    },
    supervisor::SlotLock,
    worker::{Farewell, deputy},
};

/// The wait before a server that is away is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Serves a slot until told to leave.
pub async fn run(
    settings: deputy::Settings,
    files: FileQueue,
    engine: nats::Settings,
    lock: SlotLock,
) -> anyhow::Result<Farewell> {
    let engine = loop {
        match NatsQueue::open(engine.clone()).await {
            Ok(engine) => break engine,
            Err(unfit @ Unfit::Unreachable(..)) => tracing::warn!("{unfit}"),
            Err(unfit) => return Err(unfit.into()),
        }
        tokio::time::sleep(AGAIN).await;
    };
    let (orders, inbox) = mpsc::channel(64);
    let (outbox, reports) = mpsc::unbounded_channel();
    let (seen, there) = watch::channel(false);
    let link = Link::new(settings.stage.clone(), settings.slot.clone(), lock, orders, reports).only_while(there);
    let (mut links, mut signals) = (JoinSet::new(), JoinSet::new());
    signals.spawn(leave_on_signals(link.orders.clone())?);
    links.spawn(link.keep());
    let farewell = deputy::run(settings, files, engine, inbox, outbox, seen).await?;
    // The last reports are still on their way; the results behind them are on disk already.
    let _late = tokio::time::timeout(Duration::from_secs(2), links.join_next()).await;
    Ok(farewell)
}
