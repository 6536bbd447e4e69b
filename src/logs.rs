//! Logs on disk: which there are, read by offset through a bounded window, searched.
//!
//! Owns finding log files, the times beside them, decoding a part of one or of many together, and the search. Must not
//! know the room, the screen or who writes. Its one surprise: nothing here keeps a log; a part is read when it is asked
//! for, and what is held has a size that does not depend on any file's.

pub mod catalog;
pub mod copy;
pub mod pattern;
pub mod search;
pub mod stream;
#[cfg(test)]
mod tests;
mod times;

pub use catalog::{Extent, LogFile};
pub use pattern::Pattern;
pub use search::Found;
pub use stream::{Stream, context};
pub use times::written;
