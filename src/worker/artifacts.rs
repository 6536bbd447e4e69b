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

use sha2::{Digest as _, Sha256};

use crate::model::Artifact;

/// Files looked at, at most.
const FILES: usize = 2_000;

/// Files listed, at most.
const LISTED: usize = 200;

/// Files above this are listed without being read.
const HASHED_BYTES: u64 = 50 * 1024 * 1024;

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
        Some(Artifact { path, bytes, sha256 })
    });
    each.collect()
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
            }]
        );
    }
}
