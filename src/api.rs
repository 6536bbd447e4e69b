//! The Messages API: what is sent, what comes back, and a client that waits and repeats as the API asks.
//!
//! Owns the wire types, the SSE decoder, the client and its errors. Must not know goals, queues, screens or who calls.
//! Its one surprise: a call is never repeated once an event of its stream has been handed on, and a stream that ends
//! without `message_stop` is an error even where the connection was closed politely.

pub mod client;
pub mod error;
pub mod sse;
pub mod types;

pub use client::{Client, Heard, Retry, Settings};
pub use error::ApiError;
pub use types::{Event, Reply, Request, StopReason, full_id};
