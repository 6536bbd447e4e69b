//! The report: what the orchestrator is asked to write, and what code adds to it.

/// Opens the user message of a request for a report.
pub const HEADING: &str = "# Report on this goal";
