//! Final logs and files of attempts in the object store.
//!
//! Owns what goes up when an attempt ends and how it comes down. Its one surprise: names carry the attempt's nonce, so that
//! whoever was taken for lost and comes late writes beside, never over.

use std::path::Path;

use async_nats::jetstream::object_store::ObjectStore;
use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::bucket::cause;
use crate::queue::QueueError;

/// The times at which an attempt's log grew, beside it.
pub const TIMES: &str = "out.times";

/// Bytes read at once.
const CHUNK: usize = 128 * 1024;

/// Sends a file up; what is there already stays.
pub(super) async fn put(store: &ObjectStore, name: &str, from: &Path) -> Result<(), QueueError> {
    let unread = |source| QueueError::Io { action: "read", path: from.to_owned(), source };
    let size = tokio::fs::metadata(from).await.map_err(unread)?.len();
    if let Ok(there) = store.info(name).await
        && u64::try_from(there.size) == Ok(size)
    {
        return Ok(());
    }
    let mut file = File::open(from).await.map_err(unread)?;
    store.put(name, &mut file).await.map(drop).map_err(|error| unsent(name, &cause(&error)))
}

/// Sends a file up under a name that is free; gives its SHA-256 in lower-case hex.
pub(super) async fn put_anew(store: &ObjectStore, name: &str, from: &Path) -> Result<String, QueueError> {
    let unread = |source| QueueError::Io { action: "read", path: from.to_owned(), source };
    let mut file = File::open(from).await.map_err(unread)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk).await.map_err(unread)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
    }
    let mut file = File::open(from).await.map_err(unread)?;
    store.put(name, &mut file).await.map_err(|error| unsent(name, &cause(&error)))?;
    Ok(hex(&hash.finalize()))
}

/// Brings a file down to `to`; gives its SHA-256 in lower-case hex, `None` where there is no such file.
pub(super) async fn get(store: &ObjectStore, name: &str, to: &Path) -> Result<Option<String>, QueueError> {
    use async_nats::jetstream::object_store::GetErrorKind;
    let mut object = match store.get(name).await {
        Ok(object) => object,
        Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unsent(name, &cause(&error))),
    };
    let failed = |action, source| QueueError::Io { action, path: to.to_owned(), source };
    let mut file = File::create(to).await.map_err(|error| failed("write", error))?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = object.read(&mut chunk).await.map_err(|error| unsent(name, &error.to_string()))?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        tokio::io::AsyncWriteExt::write_all(&mut file, bytes).await.map_err(|error| failed("write", error))?;
    }
    file.sync_all().await.map_err(|error| failed("sync", error))?;
    Ok(Some(hex(&hash.finalize())))
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn unsent(name: &str, why: &str) -> QueueError {
    QueueError::Unreachable(format!("{name} could not be carried by the NATS server: {why}"))
}
