//! Order: what may start, and what should start first.
