//! What things are called on the server: buckets, keys and subjects. `docs/queue-nats.md` has them as a table.
//!
//! Its one surprise: an id is in its key in lower case, so that ids which differ in capitals alone meet.

use crate::model::{AgentName, TaskId, TaskRef};

/// Where tasks stand.
pub const TASKS: &str = "podium-tasks";
/// Task files.
pub const SPECS: &str = "podium-specs";
/// What attempts came to.
pub const RESULTS: &str = "podium-results";
/// Who runs what.
pub const LEASES: &str = "podium-leases";

/// The object store of an agent's logs and artifacts.
pub fn files(agent: &AgentName) -> String {
    format!("podium-files-{agent}")
}

/// An id as one part of a key.
fn part(id: &TaskId) -> String {
    id.as_str().to_ascii_lowercase().replace('.', "=2E")
}

/// Where a task stands.
pub fn task(task: &TaskRef) -> String {
    format!("{}.{}", task.agent, part(&task.id))
}

/// A task file, by the hash of its content.
pub(super) fn spec(of: &TaskRef, sha256: &str) -> String {
    format!("{}.{}", task(of), sha256.get(..16).unwrap_or(sha256))
}

/// An attempt's lease, and what it came to: one nonce for both.
pub(super) fn attempt(of: &TaskRef, n: u32, nonce: &str) -> String {
    format!("{}.{n}-{nonce}", task(of))
}

/// A file of an attempt in the object store of its agent.
pub(super) fn file(of: &TaskRef, n: u32, nonce: &str, name: &str) -> String {
    format!("{}/{n}-{nonce}/{name}", of.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_in_capitals_alone_have_one_key_and_dots_do_not_split_it() {
        let of = |text: &str| text.parse::<TaskRef>().unwrap();
        assert_eq!(task(&of("marie/Build.1-a_B")), "marie.build=2E1-a_b");
        assert_eq!(task(&of("marie/x")), task(&of("marie/X")));
        assert_eq!(attempt(&of("marie/a.b"), 2, "0f"), "marie.a=2Eb.2-0f");
    }
}
