//! Files an attempt left behind.
//!
//! Owns the bounded walk of the workspace. Its one surprise: it goes by the inode's change time, which a child cannot
//! set, compared with that of a file made just before the child started.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use sha2::{Digest as _, Sha256};

use crate::model::Artifact;

/// Files looked at, at most.
const FILES: usize = 2_000;

/// Files listed, at most.
const LISTED: usize = 200;

/// Files above this are listed without being read.
const HASHED_BYTES: u64 = 50 * 1024 * 1024;

/// The largest file of which a copy is kept, and all copies of an attempt together.
const KEPT: (u64, u64) = (16 * 1024 * 1024, 64 * 1024 * 1024);

/// Folders that hold what tools make, not what agents leave.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];

/// A moment on the file system's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64, i64);

impl Moment {
    /// When this file last changed.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self(metadata.ctime(), metadata.ctime_nsec())
    }
}

/// Files below `workspace` that changed at or after `since`, oldest path first, named relative to `stage`.
pub(super) fn left(workspace: &Path, stage: &Path, since: Moment) -> Vec<Artifact> {
    let mut found = Vec::new();
    let mut folders = vec![workspace.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(kind) = entry.file_type() else { continue };
            // Links are not followed: they may lead out of the workspace.
            if kind.is_dir() {
                if !SKIPPED.iter().any(|name| entry.file_name() == *name) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                seen += 1;
                if seen > FILES {
                    return listed(found, stage);
                }
                if let Ok(metadata) = entry.metadata()
                    && Moment::of(&metadata) >= since
                {
                    found.push((entry.path(), metadata.len()));
                }
            }
        }
    }
    listed(found, stage)
}

fn listed(mut found: Vec<(PathBuf, u64)>, stage: &Path) -> Vec<Artifact> {
    found.sort();
    found.truncate(LISTED);
    let each = found.into_iter().filter_map(|(path, bytes)| {
        let sha256 = if bytes <= HASHED_BYTES { hash(&path).ok()? } else { String::new() };
        let shown = path.strip_prefix(stage).unwrap_or(&path);
        // A name that is no text, or tries to be more than a name, is shown harmless.
        let path = crate::model::text::scrub(&shown.to_string_lossy()).replace('\n', "?");
        Some(Artifact { path, bytes, sha256, kept: None })
    });
    each.collect()
}

/// Keeps a copy of each file under its hash in `folder` of the stage, so that whoever writes the file again takes nothing
/// from those who were told of it. What is too large, or has changed since it was listed, is not kept.
pub(super) fn keep(artifacts: &mut [Artifact], stage: &Path, folder: &str) -> io::Result<()> {
    let target = stage.join(folder);
    let mut left = KEPT.1;
    for artifact in artifacts.iter_mut().filter(|a| !a.sha256.is_empty() && a.bytes <= KEPT.0) {
        if artifact.bytes > left {
            continue;
        }
        left -= artifact.bytes;
        let place = target.join(&artifact.sha256);
        if let Ok(there) = File::options().append(true).open(&place) {
            // Kept as long as if it had come now.
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            futimens(&there, &Timestamps { last_access: now, last_modification: now })?;
        } else {
            fs::create_dir_all(&target)?;
            let mut copy = tempfile::Builder::new().prefix(".copy-").tempfile_in(&target)?;
            let mut source = File::open(stage.join(&artifact.path))?.take(KEPT.0 + 1);
            let mut tee = Tee { hash: Sha256::new(), to: copy.as_file_mut() };
            io::copy(&mut source, &mut tee)?;
            if format!("{:x}", tee.hash.finalize()) != artifact.sha256 {
                continue;
            }
            copy.as_file().sync_all()?;
            copy.persist(&place)?;
        }
        artifact.kept = Some(format!("{folder}/{}", artifact.sha256));
    }
    Ok(())
}

/// Hashes what is written through it.
struct Tee<'a> {
    hash: Sha256,
    to: &'a mut File,
}

impl io::Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn hash(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut file = File::open(path)?.take(HASHED_BYTES);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_since_is_listed_and_nothing_from_skipped_folders() {
        let stage = tempfile::tempdir().unwrap();
        let workspace = stage.path().join("workspaces/coding");
        for folder in ["src", ".git", "target"] {
            fs::create_dir_all(workspace.join(folder)).unwrap();
        }
        fs::write(workspace.join("old"), "old").unwrap();
        let marker = stage.path().join("marker");
        let old = Moment::of(&fs::metadata(workspace.join("old")).unwrap());
        // The file system's clock moves in ticks; wait for the next one.
        let since = loop {
            fs::write(&marker, "x").unwrap();
            let now = Moment::of(&fs::metadata(&marker).unwrap());
            if now > old {
                break now;
            }
        };
        fs::write(workspace.join("src/new.rs"), "hello").unwrap();
        fs::write(workspace.join(".git/index"), "x").unwrap();
        fs::write(workspace.join("target/out"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", workspace.join("link")).unwrap();
        let found = left(&workspace, stage.path(), since);
        assert_eq!(
            found,
            [Artifact {
                path: "workspaces/coding/src/new.rs".to_owned(),
                bytes: 5,
                sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".to_owned(),
                kept: None,
            }]
        );
    }

    #[test]
    fn a_file_that_is_written_again_takes_nothing_from_those_who_were_told_of_it() {
        let stage = tempfile::tempdir().unwrap();
        let workspace = stage.path().join("workspaces/dance");
        fs::create_dir_all(&workspace).unwrap();
        fs::write(workspace.join("quiz.md"), "ten questions").unwrap();
        fs::write(workspace.join("moved.md"), "as listed").unwrap();
        let since = Moment(i64::MIN, 0);
        let mut found = left(&workspace, stage.path(), since);
        fs::write(workspace.join("moved.md"), "as it is now").unwrap();
        keep(&mut found, stage.path(), ".podium/runs/g1").unwrap();
        keep(&mut found, stage.path(), ".podium/runs/g1").unwrap();
        fs::write(workspace.join("quiz.md"), "nothing").unwrap();
        let [moved, quiz] = &found[..] else { panic!("{found:?}") };
        assert_eq!(moved.kept, None, "what changed since it was listed is not what was told of");
        let kept = quiz.kept.as_ref().unwrap();
        assert_eq!(*kept, format!(".podium/runs/g1/{}", quiz.sha256));
        assert_eq!(fs::read_to_string(stage.path().join(kept)).unwrap(), "ten questions");
        assert_eq!(fs::read_dir(stage.path().join(".podium/runs/g1")).unwrap().count(), 1, "no half copy stays");
    }
}
