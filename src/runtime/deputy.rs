//! A slot whose work is done on another machine: the room's queue in files, the NATS server, and the link to the room.
//!
//! Its one surprise: while no worker is there it calls the room all the same, as one that is absent, so that the room hands
//! nothing to nobody and yet hears who was refused.

use std::{path::PathBuf, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    lock, patience,
    worker::{Link, leave_on_signals},
};
use crate::{
    queue::{file::FileQueue, nats},
    supervisor::SlotLock,
    worker::{Farewell, Order, deputy},
};

/// How often it is seen whether a room holds the stage.
const LOOK: Duration = Duration::from_secs(5);

/// Serves a slot until told to leave, or until there was no room for `orphan_grace`.
pub async fn run(
    settings: deputy::Settings,
    files: FileQueue,
    engine: nats::Settings,
    lock: SlotLock,
    orphan_grace: Duration,
) -> anyhow::Result<Farewell> {
    let (orders, mut inbox) = mpsc::channel(64);
    let (outbox, reports) = mpsc::unbounded_channel();
    let mut signals = JoinSet::new();
    signals.spawn(leave_on_signals(orders.clone())?);
    let link = Link::new(settings.stage.clone(), settings.slot.clone(), lock, orders.clone(), reports);
    signals.spawn(leave_without_room(settings.stage.clone(), orphan_grace, orders, link.hears()));
    let engine = tokio::select! {
        engine = patience::until_ready(&engine) => engine?,
        // Nobody else orders anything yet.
        _leaves = inbox.recv() => return Ok(Farewell::Stopped),
    };
    let (duty, told) = watch::channel(deputy::Duty::default());
    let mut links = JoinSet::new();
    links.spawn(link.for_deputy(told).keep());
    let farewell = Box::pin(deputy::run(settings, files, engine, inbox, outbox, duty)).await?;
    // The last reports are still on their way; the results behind them are on disk already.
    let _late = tokio::time::timeout(Duration::from_secs(2), links.join_next()).await;
    Ok(farewell)
}

/// Leaves when no room has held the stage for so long. What runs elsewhere is found by the next one.
async fn leave_without_room(
    stage: PathBuf,
    grace: Duration,
    orders: mpsc::Sender<Order>,
    hears: watch::Receiver<bool>,
) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        // A look reads every lock of the machine; a thousand deputies of one room spare themselves a thousand times that.
        if *hears.borrow() || lock::is_held(&stage) {
            last = Instant::now();
        } else if last.elapsed() >= grace {
            let why = format!("there was no room for {} s", grace.as_secs());
            // It may be on its way already.
            let _gone = orders.send(Order::Quit { why }).await;
            return;
        }
    }
}
