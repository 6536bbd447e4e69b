//! A growing log, read as it grows, and the times at which it grew.
//!
//! Owns the read position and the sidecar file of times. Must not know what the bytes mean. Its one surprise: the
//! child writes the file itself; nothing here can slow the child down.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use jiff::Timestamp;

/// Bytes read at once, so that a flood cannot keep the worker from its orders.
pub(super) const AT_ONCE: usize = 1024 * 1024;

/// One log being followed.
#[derive(Debug)]
pub(super) struct Tail {
    log: File,
    times: Option<File>,
    offset: u64,
    buffer: Vec<u8>,
}

impl Tail {
    /// Follows `log` from `offset`; each batch of new bytes leaves a line `offset unix_millis` in `times`.
    pub(super) fn open(log: &Path, offset: u64, times: &Path) -> io::Result<Self> {
        let mut log = File::open(log)?;
        log.seek(SeekFrom::Start(offset))?;
        let times = OpenOptions::new().create(true).append(true).open(times);
        if let Err(error) = &times {
            tracing::warn!(%error, "the times of the log are not kept");
        }
        Ok(Self { log, times: times.ok(), offset, buffer: vec![0; 64 * 1024] })
    }

    /// Bytes read so far, counted from the start of the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Hands new bytes to `take`, at most [`AT_ONCE`]; returns how many.
    pub(super) fn read(&mut self, now: Timestamp, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        let from = self.offset;
        let mut sum = 0;
        while sum < AT_ONCE {
            let n = match self.log.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            take(self.buffer.get(..n).unwrap_or_default());
            sum += n;
            self.offset += n as u64;
        }
        if sum > 0
            && let Some(times) = &mut self.times
            && writeln!(times, "{from} {}", now.as_millisecond()).is_err()
        {
            self.times = None;
        }
        Ok(sum)
    }
}

/// The last `limit` bytes of a file, as text; empty when it cannot be read.
pub(super) fn end_of(path: &Path, limit: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(limit);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_batch_is_read_once_and_leaves_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let (log, times) = (dir.path().join("a.log"), dir.path().join("a.times"));
        fs::write(&log, "one\n").unwrap();
        let mut tail = Tail::open(&log, 0, &times).unwrap();
        let mut seen = Vec::new();
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert_eq!(tail.read(at(10), |b| seen.extend_from_slice(b)).unwrap(), 4);
        assert_eq!(tail.read(at(20), |b| seen.extend_from_slice(b)).unwrap(), 0);
        OpenOptions::new().append(true).open(&log).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(tail.read(at(30), |b| seen.extend_from_slice(b)).unwrap(), 4);
        assert_eq!(seen, b"one\ntwo\n");
        assert_eq!(fs::read_to_string(&times).unwrap(), "0 10\n4 30\n");
        assert_eq!((tail.offset(), end_of(&log, 4).as_str()), (8, "two\n"));
    }
}
