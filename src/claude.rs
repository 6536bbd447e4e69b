//! The stream-json of the Claude Code CLI: its lines as types, what they say about an attempt, what a person reads.
//!
//! Owns the wire types, the decoder, the attempt's finding, log lines, and the CLI's arguments and environment. Must
//! not know processes, files or the worker. Its one surprise: `subtype: "success"` does not mean success; every failure
//! of the API arrives under that name with `is_error` set.

pub mod args;
pub mod decode;
pub mod limited;
pub mod log;
mod pretty;
pub mod readable;
pub mod verdict;
pub mod wire;

pub use decode::{Content, Decoder, Line};
pub use verdict::{Exit, Finding, Listener, Progress};
pub use wire::Event;
