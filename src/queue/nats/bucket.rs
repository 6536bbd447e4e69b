//! One bucket: a value is read with its revision and written only where that is still the newest.
//!
//! Owns how the server's answers are understood. Must not know what values mean. Its one surprise: everything is read from
//! the stream's leader, never by the buckets' direct reads, which a replica may answer that has not heard of the last write.

use async_nats::{
    HeaderMap, HeaderValue,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{
        self, Context, ErrorCode,
        context::{PublishError, PublishErrorKind},
        response::Response,
        stream::{Info, LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use crate::queue::QueueError;

/// The header that says what a message does to a key, and its word for taking it away.
const OPERATION: (&str, &str) = ("KV-Operation", "DEL");

/// A bucket on the server.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    name: String,
    context: Context,
    pub(super) stream: Stream,
}

/// What lies under a key; no value where it was taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) revision: u64,
    /// When it was written, by the server's clock.
    pub(super) at: Timestamp,
    pub(super) value: Option<Bytes>,
}

/// The answer to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is there, as this revision.
    Stored(u64),
    /// Somebody wrote before us.
    Moved,
}

impl Bucket {
    pub(super) fn new(name: String, context: Context, stream: Stream) -> Self {
        Self { name, context, stream }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// What the stream's leader says of the bucket.
    pub(super) async fn info(&self) -> Result<Info, QueueError> {
        self.stream.get_info().await.map_err(|error| match told(&error) {
            Some(told) => self.refused(told),
            None => QueueError::Unreachable(format!("{} does not answer: {}", self.name, cause(&error))),
        })
    }

    /// What time it is for the stream's leader.
    pub(super) async fn now(&self) -> Result<Timestamp, QueueError> {
        #[derive(Deserialize)]
        struct Now {
            ts: Timestamp,
        }
        let asked = self.context.request(format!("STREAM.INFO.KV_{}", self.name), &()).await;
        match asked {
            Ok(Response::Ok(Now { ts })) => Ok(ts),
            Ok(Response::Err { error }) => Err(self.refused(&error)),
            Err(error) => Err(QueueError::Unreachable(format!("{} does not answer: {}", self.name, cause(&error)))),
        }
    }

    pub(super) fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// What lies under a key; `None` where nothing ever did.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Found>, QueueError> {
        match self.stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => {
                let is_gone = message.headers.get(OPERATION.0).is_some();
                let value = (!is_gone).then_some(message.payload);
                let at = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or(Timestamp::MIN);
                Ok(Some(Found { revision: message.sequence, at, value }))
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(told) => Err(self.refused(&told)),
                LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => {
                    Err(QueueError::Unreachable(format!("{} does not answer: {}", self.name, cause(&error))))
                }
            },
        }
    }

    /// Writes where `expected` is still the newest revision; 0 = nothing was there.
    pub(super) async fn put(&self, key: &str, value: Bytes, expected: u64) -> Result<Put, QueueError> {
        self.write(key, value, expected, HeaderMap::new()).await
    }

    /// Takes a key away where `expected` is still the newest revision.
    pub(super) async fn delete(&self, key: &str, expected: u64) -> Result<Put, QueueError> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION.0, OPERATION.1);
        self.write(key, Bytes::new(), expected, headers).await
    }

    async fn write(&self, key: &str, value: Bytes, expected: u64, mut headers: HeaderMap) -> Result<Put, QueueError> {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(expected));
        let bytes = value.len();
        let published = async { self.context.publish_with_headers(self.subject(key), headers, value).await?.await };
        match published.await {
            Ok(ack) => Ok(Put::Stored(ack.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Put::Moved),
            Err(error) => Err(self.unwritten(&error, bytes)),
        }
    }

    fn unwritten(&self, error: &PublishError, bytes: usize) -> QueueError {
        if let Some(told) = told(error) {
            return self.refused(told);
        }
        if error.kind() == PublishErrorKind::MaxPayloadExceeded {
            let limit = self.context.client().server_info().max_payload;
            return QueueError::TooLarge { bytes, limit };
        }
        QueueError::Unreachable(format!("{} does not answer: {}", self.name, cause(error)))
    }

    /// What it means that the server said no.
    fn refused(&self, told: &jetstream::Error) -> QueueError {
        let said = told.to_string();
        match told.error_code() {
            ErrorCode::STREAM_STORE_FAILED
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
                QueueError::NoSpace(format!("the NATS server has no room in {}: {said}", self.name))
            }
            ErrorCode::STREAM_NOT_FOUND => QueueError::Unsafe(format!(
                "{} is not on the NATS server any more; somebody deleted it, and what was in it is gone",
                self.name
            )),
            // Most others come and go with the election of a leader.
            _ => QueueError::Unreachable(format!("the NATS server cannot say what is in {}: {said}", self.name)),
        }
    }
}

/// What the server itself said, where an error comes from that.
fn told<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a jetstream::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(told) = error.downcast_ref() {
            return Some(told);
        }
        next = error.source();
    }
    None
}

/// The last cause of an error, which is the one that says something.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
