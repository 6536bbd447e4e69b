//! Whose server it is: one key that goes away by itself, as a task's lease does.
//!
//! Owns the key `room` in `podium-leases`, which no worker may write. Must not know what a room does with it. Its one surprise:
//! a queue that was opened for a room looks at it before each step that another room could do too, so that somebody who was
//! cut off and does not know it yet disturbs nobody.

use bytes::Bytes;

use super::{NatsQueue, bucket::Put};
use crate::{model::server::Holder, queue::QueueError};

/// The key. A task's lease has four parts.
const KEY: &str = "room";

impl NatsQueue {
    /// Who holds the server, and the revision to write over.
    pub async fn owner(&self) -> Result<(Option<Holder>, u64), QueueError> {
        let Some(found) = self.0.buckets.leases.get(KEY).await? else { return Ok((None, 0)) };
        let holder = found.value.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        let holder =
            holder.map_err(|error| QueueError::Unsafe(format!("{KEY} in podium-leases names no room: {error}")))?;
        Ok((holder, found.revision))
    }

    /// Takes or keeps the server where `expected` is still the newest revision; gives the new one, `None` where somebody
    /// wrote before us or it ran out.
    pub async fn hold(&self, holder: &Holder, expected: u64) -> Result<Option<u64>, QueueError> {
        let bytes = serde_json::to_vec(holder).map_err(|error| QueueError::Unsafe(error.to_string()))?;
        Ok(match self.0.buckets.leases.put(KEY, Bytes::from(bytes), expected).await? {
            Put::Stored(revision) => Some(revision),
            Put::Moved => None,
        })
    }

    /// Gives the server up, where it is this room's.
    pub async fn let_go(&self, holder: &Holder) -> Result<(), QueueError> {
        loop {
            let (found, revision) = self.owner().await?;
            if found.is_none_or(|found| found.room != holder.room) {
                return Ok(());
            }
            // Else a beat was on its way when we were told to stop.
            if let Put::Stored(_) = self.0.buckets.leases.delete(KEY, revision).await? {
                return Ok(());
            }
        }
    }

    /// Refuses where the server is not the room's that this queue was opened for. A room whose lease ran out while the server
    /// was away takes it again at once; that is waited for.
    pub(super) async fn is_ours(&self) -> Result<(), QueueError> {
        let Some(room) = &self.0.settings.room else { return Ok(()) };
        let mut patience = self.patience();
        loop {
            let error = match self.owner().await {
                Ok((Some(found), _)) if found.room == *room => return Ok(()),
                Ok((Some(found), _)) => return Err(QueueError::Unsafe(format!("the NATS server belongs to {found}"))),
                Ok((None, _)) => QueueError::Unreachable("the NATS server is not this room's any more".into()),
                Err(error) => error,
            };
            if !patience.again(&error).await {
                return Err(error);
            }
        }
    }
}
