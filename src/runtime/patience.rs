//! A server that is not ready yet is waited for, as long as it takes.
//!
//! Its one surprise: the log gets one line for each thing that is wrong, however often it is tried.

use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use crate::queue::nats::{NatsQueue, Settings, Unfit, shown};

/// The first wait before it is tried again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Opens a queue on a server once it is there and a room has made its buckets. `None` when this process was told to leave
/// meanwhile; an error for what waiting does not mend.
pub(super) async fn opened(settings: &Settings) -> anyhow::Result<Option<NatsQueue>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        queue = until_ready(settings) => Ok(Some(queue?)),
        _ = term.recv() => Ok(None),
        _ = int.recv() => Ok(None),
    }
}

/// The same for as long as it takes.
pub(super) async fn until_ready(settings: &Settings) -> Result<NatsQueue, Unfit> {
    let (mut wait, mut said) = (FIRST_WAIT, None);
    loop {
        let why = match NatsQueue::open(settings.clone()).await {
            Ok(queue) => {
                if said.is_some() {
                    tracing::info!("the NATS server at {} is ready", shown(&settings.address.url));
                }
                return Ok(queue);
            }
            Err(unfit @ Unfit::Unreachable(..)) => (false, format!("{unfit}; it is waited for")),
            Err(unfit @ Unfit::Missing(_)) => (true, format!("{unfit}; the room is waited for")),
            Err(
                unfit @ (Unfit::Url(_)
                | Unfit::File(_)
                | Unfit::Credentials(_)
                | Unfit::Old(..)
                | Unfit::Forgetful(_)
                | Unfit::Different(..)
                | Unfit::Unmade(..)),
            ) => return Err(unfit),
        };
        // The words may differ from try to try; what is wrong does not.
        if said.replace(why.0) != Some(why.0) {
            tracing::warn!("{}", why.1);
            wait = FIRST_WAIT;
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
