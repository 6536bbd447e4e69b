//! An attempt's log, read by offset while it grows: bytes of a file become lines for people, with their times.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::claude::log::{LogLine, Reader};

/// Bytes read at once: enough to outrun an agent, small enough to stop between two reads.
const AT_ONCE: u64 = 256 * 1024;

/// A line and when it was written, where that is known.
pub type TimedLine = (Option<Timestamp>, LogLine);

/// A log being read.
#[derive(Debug)]
pub struct Follow {
    file: File,
    offset: u64,
    reader: Reader,
    times: Times,
}

impl Follow {
    /// Opens a log at its start, or where its last `tail` bytes begin. Gives how many bytes were passed over.
    pub fn open(path: &Path, tail: Option<u64>) -> io::Result<(Self, u64)> {
        let mut file = File::open(path)?;
        let offset = tail.map_or(0, |tail| file.metadata().map_or(0, |m| m.len()).saturating_sub(tail));
        file.seek(SeekFrom::Start(offset))?;
        let reader = Reader::starting_at(offset, offset > 0);
        Ok((Self { file, offset, reader, times: Times::beside(path) }, offset))
    }

    /// Reads what is new, at most a good piece of it; empty when there is nothing new.
    pub fn read(&mut self) -> io::Result<Option<Vec<TimedLine>>> {
        let mut bytes = Vec::new();
        let read = self.file.by_ref().take(AT_ONCE).read_to_end(&mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.offset += read;
        self.times.read();
        let lines = self.reader.feed(&bytes);
        Ok(Some(lines.into_iter().map(|line| (self.times.at(line.offset), line)).collect()))
    }

    /// The line that was begun and not ended, once no more follows.
    pub fn finish(&mut self) -> Vec<TimedLine> {
        self.reader.finish().into_iter().map(|line| (self.times.at(line.offset), line)).collect()
    }
}

/// When which part of the log was written: the worker notes it beside the log.
#[derive(Debug)]
struct Times {
    path: PathBuf,
    read: u64,
    /// Offsets and when the bytes from there on were seen, ascending.
    marks: Vec<(u64, Timestamp)>,
}

impl Times {
    fn beside(log: &Path) -> Self {
        Self { path: log.with_extension("times"), read: 0, marks: Vec::new() }
    }

    fn read(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut text = String::new();
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_string(&mut text)).is_err() {
            return;
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        let lines = text.get(..whole).unwrap_or_default().lines();
        self.marks.extend(lines.filter_map(|line| {
            let (offset, millis) = line.split_once(' ')?;
            Some((offset.parse().ok()?, Timestamp::from_millisecond(millis.parse().ok()?).ok()?))
        }));
    }

    fn at(&self, offset: u64) -> Option<Timestamp> {
        let after = self.marks.partition_point(|(from, _)| *from <= offset);
        self.marks.get(after.checked_sub(1)?).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_growing_log_is_read_once_and_its_lines_carry_their_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.1.log");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntwo\nthr").unwrap();
        std::fs::write(folder.path().join("a.1.times"), "0 1000\n4 2000\n").unwrap();
        let (mut follow, skipped) = Follow::open(&path, None).unwrap();
        assert_eq!(skipped, 0);
        let texts = |lines: Vec<TimedLine>| {
            lines.into_iter().map(|(at, line)| (at.map(Timestamp::as_second), line.text)).collect::<Vec<_>>()
        };
        let lines = follow.read().unwrap().unwrap();
        assert_eq!(texts(lines), [(Some(1), "one".into()), (Some(2), "two".into())]);
        assert!(follow.read().unwrap().is_none());
        file.write_all(b"ee\n").unwrap();
        assert_eq!(texts(follow.read().unwrap().unwrap()), [(Some(2), "three".into())]);
    }

    #[test]
    fn the_tail_of_a_log_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.1.log");
        std::fs::write(&path, "first line\nsecond\nthird\n").unwrap();
        let (mut follow, skipped) = Follow::open(&path, Some(15)).unwrap();
        assert_eq!(skipped, 9);
        let lines = follow.read().unwrap().unwrap();
        assert_eq!(lines.into_iter().map(|(_, l)| l.text).collect::<Vec<_>>(), ["second", "third"]);
    }
}
