//! The cap on an attempt's logs: a head and a tail stay, the middle is given back to the disk.
//!
//! Owns the cut. Must not know what the bytes mean. Its one surprise: the child writes the file itself and goes on while
//! its middle goes, so the cut is a hole; every offset stays what it was, and whoever reads there finds zeros.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate};

/// What file systems give and take back at once.
const BLOCK: u64 = 4_096;

/// A child that has written so many times the cap is ended: what it prints is not meant to be read.
const FLOOD: u64 = 20;

/// The same where the file system makes no holes.
const FLOOD_UNCUT: u64 = 2;

/// One log and what may be kept of it.
#[derive(Debug)]
pub(super) struct Capped {
    file: File,
    limit: u64,
    /// Where the tail that is kept begins.
    tail: u64,
    cuts: bool,
}

impl Capped {
    /// Keeps at most `limit` bytes of `log` on disk.
    pub(super) fn open(log: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(log)?;
        let mut capped = Self { file, limit, tail: 0, cuts: true };
        capped.tail = capped.head();
        Ok(capped)
    }

    /// Bytes kept of its beginning.
    fn head(&self) -> u64 {
        block(self.limit / 2)
    }

    /// Cuts the middle once the log has grown over its cap. `Err` with the log's size when it is a flood.
    pub(super) fn keep(&mut self) -> Result<u64, u64> {
        // A log that cannot be looked at is not written to either.
        let size = self.file.metadata().map_or(0, |m| m.len());
        if self.cuts && size.saturating_sub(self.tail) > self.limit / 2 {
            // Half of the tail goes at once, so that not every byte that follows makes another cut.
            let tail = block(size - self.limit / 4);
            match fallocate(
                &self.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                self.tail,
                tail.saturating_sub(self.tail),
            ) {
                Ok(()) => self.tail = tail,
                Err(error) => {
                    tracing::warn!(%error, "this file system cannot cut a log; a long one is ended sooner");
                    self.cuts = false;
                }
            }
        }
        let most = self.limit.saturating_mul(if self.cuts { FLOOD } else { FLOOD_UNCUT });
        if size > most { Err(size) } else { Ok(size) }
    }
}

/// The last whole block's end.
fn block(offset: u64) -> u64 {
    offset - offset % BLOCK
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn of_a_long_log_the_head_and_the_tail_stay_and_offsets_stay_what_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.log");
        let mut log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let limit = 256 * 1024;
        let mut capped = Capped::open(&path, limit).unwrap();
        let mut written = 0_u64;
        while written < 2 * 1024 * 1024 {
            let line = format!("{written:>1023}\n");
            log.write_all(line.as_bytes()).unwrap();
            written += 1_024;
            assert_eq!(capped.keep(), Ok(written));
            let on_disk = fs::metadata(&path).unwrap().blocks() * 512;
            assert!(on_disk <= limit + 2 * BLOCK, "{on_disk} bytes on disk after {written}");
        }
        let bytes = fs::read(&path).unwrap();
        let lines: Vec<u64> = bytes
            .chunks(1_024)
            .filter_map(|line| String::from_utf8_lossy(line).trim_matches(['\0', ' ', '\n']).parse().ok())
            .collect();
        assert_eq!((lines[0], *lines.last().unwrap()), (0, written - 1_024));
        assert!(lines.windows(2).filter(|w| w[1] - w[0] != 1_024).count() == 1, "one cut, in the middle: {lines:?}");
        let (head, tail) = (lines.iter().filter(|l| **l < limit).count() as u64, lines.len() as u64);
        assert_eq!(head * 1_024, limit / 2);
        assert!((tail - head) * 1_024 >= limit / 4, "{tail} lines are left");
    }

    #[test]
    fn a_flood_is_told_from_a_long_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.log");
        fs::write(&path, b"").unwrap();
        let mut capped = Capped::open(&path, 64 * 1024).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(20 * 64 * 1024).unwrap();
        assert_eq!(capped.keep(), Ok(20 * 64 * 1024));
        File::options().write(true).open(&path).unwrap().set_len(20 * 64 * 1024 + 1).unwrap();
        assert_eq!(capped.keep(), Err(20 * 64 * 1024 + 1));
    }
}
