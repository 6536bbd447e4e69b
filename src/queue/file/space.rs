//! How much room the disk has: what may still begin, and the reserve that lets what has begun be finished.
//!
//! Knows folders, no tasks. Its one surprise: the limits shrink with the file system, so that a small one can be used
//! at all: nothing is started below 512 MiB or a twentieth of it, nothing accepted below 64 MiB or an eighth of that.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::FallocateFlags, io::Errno};

use super::disk::failed;
use crate::queue::QueueError;

const MIB: u64 = 1024 * 1024;

/// Files of the reserve: an end takes two or three names.
const PIECES: u64 = 8;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Files,
}

/// Something of which there is less than should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    unit: Unit,
    free: u64,
    /// Below this nothing is started.
    tight: u64,
    /// Below this nothing is accepted.
    full: u64,
}

impl Shortage {
    /// Whether even a submission is too much.
    pub(super) fn is_full(&self) -> bool {
        self.free < self.full
    }

    /// Why nothing is started, one sentence.
    pub(super) fn tight_sentence(&self) -> String {
        format!("{}; below {} nothing new is started", self.left(), self.unit.text(self.tight))
    }

    /// Why nothing is accepted, one sentence.
    pub(super) fn full_sentence(&self) -> String {
        format!("{}; below {} nothing is accepted", self.left(), self.unit.text(self.full))
    }

    fn left(&self) -> String {
        match self.unit {
            Unit::Bytes => format!("the disk has {} left", self.unit.text(self.free)),
            Unit::Files => format!("the disk has room for {} more", self.unit.text(self.free)),
        }
    }
}

impl Unit {
    fn text(self, amount: u64) -> String {
        match self {
            Self::Bytes if amount >= 10 * MIB => format!("{} MiB", amount / MIB),
            Self::Bytes if amount >= MIB => format!("{:.1} MiB", amount as f64 / MIB as f64),
            Self::Bytes => format!("{} KiB", amount / 1024),
            Self::Files => format!("{amount} files"),
        }
    }
}

/// What a file system says of itself.
#[derive(Debug, Clone, Copy)]
struct Size {
    bytes: u64,
    free_bytes: u64,
    /// 0 where files are not counted.
    files: u64,
    free_files: u64,
}

impl Size {
    fn of(folder: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(folder)?;
        Ok(Self {
            bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            files: disk.f_files,
            free_files: disk.f_favail,
        })
    }

    /// What it is short of, if anything; bytes first.
    fn shortage(&self) -> Option<Shortage> {
        let scaled = |unit, free, most: u64, all: u64| {
            let tight = most.min(all / 20);
            Shortage { unit, free, tight, full: tight / 8 }
        };
        let bytes = scaled(Unit::Bytes, self.free_bytes, 512 * MIB, self.bytes);
        let files = scaled(Unit::Files, self.free_files, 10_000, self.files);
        [bytes, files].into_iter().find(|short| short.free < short.tight)
    }

    /// How large the reserve is here.
    fn reserve(&self) -> u64 {
        MIB.min(self.bytes / 50)
    }
}

/// What a disk has, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Why nothing new is started, where it is not.
    pub tight: Option<String>,
    /// Why nothing is accepted, where it is not.
    pub full: Option<String>,
}

impl Measure {
    /// The file system that a folder, which must be there, lies on.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let size = Size::of(folder)?;
        let short = size.shortage();
        Ok(Self {
            free_bytes: size.free_bytes,
            tight: short.map(|short| short.tight_sentence()),
            full: short.filter(Shortage::is_full).map(|short| short.full_sentence()),
        })
    }
}

/// What the file systems of these folders are short of, the fullest first named; a folder that is not there says
/// nothing.
pub(super) fn shortage(folders: &[PathBuf]) -> Result<Option<Shortage>, QueueError> {
    let mut found: Option<Shortage> = None;
    for folder in folders {
        let size = match Size::of(folder) {
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("measure", folder)(error)),
        };
        match size.shortage() {
            Some(short) if found.is_none_or(|known| !known.is_full() && short.is_full()) => found = Some(short),
            Some(_) | None => {}
        }
    }
    Ok(found)
}

/// Files that only take room, bytes and names, so that there is some when a result must be written.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve of a stage.
    pub(super) fn of(stage: &Path) -> Self {
        Self { path: stage.join(".podium/reserve") }
    }

    /// Gives its room away; says whether there was any.
    pub(super) fn free(&self) -> bool {
        let freed = fs::remove_dir_all(&self.path).is_ok();
        if freed {
            tracing::warn!("the disk is full: the reserve was given up to write results");
        }
        freed
    }

    /// Makes it where it is not there, but only out of plenty.
    pub(super) fn keep(&self) -> io::Result<()> {
        let Some(folder) = self.path.parent().filter(|_| !self.path.exists()) else { return Ok(()) };
        fs::create_dir_all(folder)?;
        let size = Size::of(folder)?;
        let (reserve, left) = (size.reserve(), size.free_bytes.saturating_sub(size.reserve()));
        if reserve == 0 || (Size { free_bytes: left, ..size }).shortage().is_some() {
            return Ok(());
        }
        let made = self.fill(reserve);
        if made.is_err() {
            // Half a reserve would be taken for a whole one.
            let _gone = fs::remove_dir_all(&self.path);
        }
        made
    }

    fn fill(&self, bytes: u64) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(&self.path)?;
        let each = bytes / PIECES;
        for piece in 0..PIECES {
            let path = self.path.join(piece.to_string());
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, each) {
                Err(Errno::OPNOTSUPP) => drop(io::copy(&mut io::repeat(1).take(each), &mut file)?),
                answer => answer?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(bytes: u64, free_bytes: u64, files: u64, free_files: u64) -> Size {
        Size { bytes, free_bytes, files, free_files }
    }

    #[test]
    fn a_large_disk_has_the_limits_of_the_design_and_a_small_one_its_share() {
        const GIB: u64 = 1024 * MIB;
        assert_eq!(size(100 * GIB, 512 * MIB, 1 << 20, 10_000).shortage(), None);
        let tight = size(100 * GIB, 300 * MIB, 1 << 20, 1 << 19).shortage().unwrap();
        assert_eq!(tight.tight_sentence(), "the disk has 300 MiB left; below 512 MiB nothing new is started");
        assert!(!tight.is_full());
        let full = size(100 * GIB, 12 * MIB, 1 << 20, 1 << 19).shortage().unwrap();
        assert!(full.is_full());
        assert_eq!(full.full_sentence(), "the disk has 12 MiB left; below 64 MiB nothing is accepted");
        let files = size(100 * GIB, 50 * GIB, 1 << 20, 900).shortage().unwrap();
        assert_eq!(
            files.tight_sentence(),
            "the disk has room for 900 files more; below 10000 files nothing new is started"
        );
        assert_eq!(size(2 * MIB, 200 * 1024, 100, 50).shortage(), None);
        assert!(size(2 * MIB, 80 * 1024, 100, 50).shortage().is_some_and(|short| !short.is_full()));
        assert!(size(2 * MIB, 8 * 1024, 100, 50).shortage().unwrap().is_full());
        // Some file systems do not count files.
        assert_eq!(size(GIB, GIB, 0, 0).shortage(), None);
    }

    #[test]
    fn the_reserve_takes_room_until_it_is_given_up() {
        let stage = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(stage.path());
        assert!(!reserve.free());
        reserve.keep().unwrap();
        let path = stage.path().join(".podium/reserve");
        let len: u64 = fs::read_dir(&path).unwrap().map(|piece| piece.unwrap().metadata().unwrap().len()).sum();
        assert!(len > 0 && len <= MIB, "{len}");
        assert!(reserve.free());
        assert!(!path.exists());
    }
}
