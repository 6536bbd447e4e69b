//! When which part of a log was written: the worker notes it in a file beside the log.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// Marks closer to each other than this are one, in milliseconds.
const APART: i64 = 200;

/// Marks kept; of more, every second one goes.
const MOST: usize = 100_000;

/// Bytes read at once.
const AT_ONCE: u64 = 4 * 1024 * 1024;

/// Offsets and when the bytes from there on were seen, both ascending.
#[derive(Debug)]
pub(super) struct Times {
    path: PathBuf,
    read: u64,
    apart: i64,
    marks: Vec<(u64, i64)>,
}

impl Times {
    pub(super) fn beside(log: &Path) -> Self {
        Self { path: log.with_extension("times"), read: 0, apart: APART, marks: Vec::new() }
    }

    /// Takes what has been noted since.
    pub(super) fn read(&mut self) {
        while self.read_part().unwrap_or(0) > 0 {}
    }

    fn read_part(&mut self) -> io::Result<usize> {
        let mut file = File::open(&self.path)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.read))?;
        file.take(AT_ONCE).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default());
        for line in text.lines() {
            let mark = || {
                let (offset, millis) = line.split_once(' ')?;
                Some((offset.parse().ok()?, millis.parse().ok()?))
            };
            if let Some((offset, at)) = mark() {
                self.mark(offset, at);
            }
        }
        Ok(whole)
    }

    fn mark(&mut self, offset: u64, at: i64) {
        if let Some((last, before)) = self.marks.last() {
            // A clock that was set back makes no earlier part later.
            if offset <= *last || at < before.saturating_add(self.apart) {
                return;
            }
        }
        self.marks.push((offset, at));
        if self.marks.len() > MOST {
            self.apart *= 2;
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// When the byte at `offset` was seen.
    pub(super) fn at(&self, offset: u64) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.millis(offset)?).ok()
    }

    /// The same in milliseconds since 1970.
    pub(super) fn millis(&self, offset: u64) -> Option<i64> {
        let after = self.marks.partition_point(|(from, _)| *from <= offset);
        self.marks.get(after.checked_sub(1)?).map(|(_, at)| *at)
    }

    /// Where the part that holds `offset` begins.
    pub(super) fn begin(&self, offset: u64) -> u64 {
        let after = self.marks.partition_point(|(from, _)| *from <= offset);
        after.checked_sub(1).and_then(|at| self.marks.get(at)).map_or(0, |(from, _)| *from)
    }

    /// Where the part after the one that holds `offset` begins.
    pub(super) fn next(&self, offset: u64) -> Option<u64> {
        let after = self.marks.partition_point(|(from, _)| *from <= offset);
        self.marks.get(after).map(|(from, _)| *from)
    }

    /// Where the first part that was seen after `at` begins; `None` when all was seen before.
    pub(super) fn after(&self, at: i64) -> Option<u64> {
        let after = self.marks.partition_point(|(_, seen)| *seen <= at);
        self.marks.get(after).map(|(from, _)| *from)
    }

    /// Whether nothing was noted.
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

/// How much of a log had been written at a moment, in bytes; all of it where nobody noted when.
pub fn written(log: &Path, at: Timestamp) -> io::Result<u64> {
    let size = std::fs::metadata(log)?.len();
    let mut times = Times::beside(log);
    times.read();
    Ok(times.after(at.as_millisecond()).map_or(size, |offset| offset.min(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_offset_and_by_time_and_their_number_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.1.log");
        std::fs::write(folder.path().join("a.1.times"), "0 1000\n4 1001\n9 2000\n20 500\n30 3000\nhalf").unwrap();
        let mut times = Times::beside(&log);
        assert!(times.is_empty());
        times.read();
        assert_eq!(times.marks, [(0, 1_000), (9, 2_000), (30, 3_000)]);
        assert_eq!((times.begin(8), times.next(8), times.begin(9)), (0, Some(9), 9));
        assert_eq!((times.after(1_000), times.after(3_000)), (Some(9), None));
        assert_eq!(times.at(29).map(Timestamp::as_second), Some(2));
        for n in 1..1_000_000_u32 {
            times.mark(30 + u64::from(n), 3_000 + i64::from(n) * 250);
        }
        assert!(times.marks.len() <= MOST);
        assert!(times.millis(500_000).unwrap().abs_diff(3_000 + 499_970 * 250) < 10_000);
    }
}
