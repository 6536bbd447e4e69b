//! Plans: the prompt that asks for one, its schema, and the checks before any token is spent on workers.

/// Opens the user message of a request for a plan.
pub const HEADING: &str = "# Plan this goal";
