//! The file queue.
