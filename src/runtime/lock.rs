//! The lock that makes a room the only one of its stage.
//!
//! Owns `.podium/lock` and nothing else. Its one surprise: a lock belongs to a file and not to its name, so a file that
//! was deleted or replaced guards nothing any more; [`StageLock::check`] looks for that and takes the lock again.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::FlockOperation;

/// Where the lock of a stage lies.
pub fn path(stage: &Path) -> PathBuf {
    stage.join(".podium").join("lock")
}

/// Held for as long as the room is open: by its guardian, and by its core, which gets the open file from it.
#[derive(Debug)]
pub struct StageLock {
    path: PathBuf,
    file: File,
}

/// What became of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It holds.
    Still,
    /// Its file was gone or another one; it was taken again.
    Again,
    /// Another room has it.
    NoMore,
}

impl StageLock {
    /// Takes the lock of a stage; `None` when another room has it.
    pub fn take(stage: &Path) -> anyhow::Result<Option<Self>> {
        let folder = stage.join(".podium");
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let path = path(stage);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("could not open {}", path.display()))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error).with_context(|| format!("could not lock {}", path.display())),
            }
            let lock = Self { path: path.clone(), file };
            // Somebody may have replaced it between the two calls.
            if lock.is_at_its_name() {
                return Ok(Some(lock));
            }
        }
    }

    /// The lock that this process was given as its standard input.
    pub fn inherited(stage: &Path) -> anyhow::Result<Self> {
        let file = std::io::stdin().as_fd().try_clone_to_owned().context("could not keep the lock")?;
        Ok(Self { path: path(stage), file: file.into() })
    }

    /// The open file for another process, of a lock that guards the stage; an error when another room has it.
    pub fn shared(&mut self) -> io::Result<File> {
        match self.check().map_err(io::Error::other)? {
            Held::Still | Held::Again => self.file.try_clone(),
            Held::NoMore => Err(io::Error::other("another room has taken the stage")),
        }
    }

    /// Looks whether the lock still guards the stage, and takes it again where it does not.
    pub fn check(&mut self) -> anyhow::Result<Held> {
        if self.is_at_its_name() {
            return Ok(Held::Still);
        }
        let stage = self.path.parent().and_then(Path::parent).context("a lock lies in a stage")?;
        let Some(again) = Self::take(stage)? else { return Ok(Held::NoMore) };
        *self = again;
        Ok(Held::Again)
    }

    fn is_at_its_name(&self) -> bool {
        let (Ok(own), Ok(there)) = (self.file.metadata(), fs::symlink_metadata(&self.path)) else { return false };
        (own.dev(), own.ino()) == (there.dev(), there.ino())
    }
}

/// Whether some room holds a stage, also one that does not answer yet or any more. Looking takes nothing: a lock tried for
/// a moment would keep a room from opening in that moment.
pub fn is_held(stage: &Path) -> bool {
    let Ok(lock) = fs::metadata(path(stage)) else { return false };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return false };
    // 4: FLOCK  ADVISORY  WRITE 5082 fe:00:2541197 0 EOF
    let inode = lock.ino().to_string();
    let of = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1) == Some(&"FLOCK") && words.get(5).and_then(|file| file.rsplit(':').next()) == Some(inode.as_str())
    };
    locks.lines().any(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f9_a_deleted_or_replaced_lock_is_taken_again_unless_another_room_has_it() {
        let stage = tempfile::tempdir().unwrap();
        let mut lock = StageLock::take(stage.path()).unwrap().unwrap();
        assert!(StageLock::take(stage.path()).unwrap().is_none());
        assert_eq!(lock.check().unwrap(), Held::Still);
        fs::remove_file(stage.path().join(".podium/lock")).unwrap();
        assert_eq!(lock.check().unwrap(), Held::Again);
        assert!(StageLock::take(stage.path()).unwrap().is_none());
        fs::write(stage.path().join("other"), "").unwrap();
        fs::rename(stage.path().join("other"), stage.path().join(".podium/lock")).unwrap();
        assert_eq!(lock.check().unwrap(), Held::Again);
        fs::remove_dir_all(stage.path().join(".podium")).unwrap();
        let other = StageLock::take(stage.path()).unwrap().unwrap();
        assert_eq!(lock.check().unwrap(), Held::NoMore);
        drop(other);
        assert_eq!(lock.check().unwrap(), Held::Again);
        assert!(is_held(stage.path()));
        drop(lock);
        assert!(!is_held(stage.path()) && !is_held(Path::new("/there/is/no/stage")));
    }
}
