//! To be described.

pub mod messages;
