//! When an operator last looked at a stage: a file that is written when they leave.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::model::Clock;

fn file(stage: &Path) -> PathBuf {
    stage.join(".podium/last-visit")
}

/// When somebody last looked; `None` where nobody has, or nobody can say.
pub(super) fn last(stage: &Path) -> Option<Timestamp> {
    fs::read_to_string(file(stage)).ok()?.trim().parse().ok()
}

/// A visit that lasts until it is dropped, however the screen is left.
pub(super) struct Visit {
    file: PathBuf,
    clock: Clock,
}

impl Visit {
    pub(super) fn begin(stage: &Path, clock: Clock) -> Self {
        Self { file: file(stage), clock }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // A stage that cannot be written to has no summary the next time; that is all.
        let _unwritten = fs::write(&self.file, format!("{}\n", self.clock.now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_visit_is_found_by_the_next_one() {
        let stage = tempfile::tempdir().unwrap();
        fs::create_dir(stage.path().join(".podium")).unwrap();
        assert_eq!(last(stage.path()), None);
        let at: Timestamp = "2026-11-22T13:30:00Z".parse().unwrap();
        drop(Visit::begin(stage.path(), Clock::new(move || at)));
        assert_eq!(last(stage.path()), Some(at));
        fs::write(file(stage.path()), "yesterday").unwrap();
        assert_eq!(last(stage.path()), None);
    }
}
