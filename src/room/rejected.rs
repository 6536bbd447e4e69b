//! Files that are no tasks, as the room remembers them: a bounded list and an exact count.
//!
//! Its one surprise: ten thousand bad files are one number and a few lines, never ten thousand lines.

use super::{State, Tasks, Voice};
use crate::model::Rejected;

/// So many are told of one by one in the orchestrator's pane.
const TOLD: usize = 20;

impl Tasks {
    /// Files that are remembered with their reasons; further ones are counted.
    pub const REJECTED: usize = 1_000;

    /// How many files are no tasks, remembered or not.
    pub fn rejected_in_all(&self) -> usize {
        self.rejected.len() + self.rejected_more
    }

    /// Notes a file; says whether it is a new one.
    fn note_rejected(&mut self, rejected: Rejected) -> bool {
        if self.rejected.contains_key(&rejected.path) {
            self.rejected.insert(rejected.path.clone(), rejected);
            return false;
        }
        if self.rejected.len() >= Self::REJECTED {
            self.rejected_more += 1;
            // What stays where it lies may still change its reason; what was moved is history.
            let moved = self.rejected.values().rev().find(|other| other.moved).map(|other| other.path.clone());
            let Some(moved) = moved.filter(|_| !rejected.moved) else { return true };
            self.rejected.remove(&moved);
        }
        self.rejected.insert(rejected.path.clone(), rejected);
        true
    }
}

impl State {
    pub(super) fn rejected(&mut self, rejected: Rejected) {
        let text = format!("{}: {}", rejected.path, rejected.reason);
        let quiet = rejected.duplicate;
        if !self.tasks.note_rejected(rejected) || quiet {
            return;
        }
        let count = self.tasks.rejected_in_all();
        if count <= TOLD {
            self.say(Voice::Room, None, text);
        } else if count >= 100 && count.ilog10() > (count - 1).ilog10() {
            self.say(Voice::Room, None, format!("{count} files are no tasks; `podium status` names some of them"));
        }
    }

    pub(super) fn rejected_gone(&mut self, path: &str) {
        if self.tasks.rejected.remove(path).is_none() {
            self.tasks.rejected_more = self.tasks.rejected_more.saturating_sub(1);
        }
    }
}
