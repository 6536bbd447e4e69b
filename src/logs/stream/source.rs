//! One file of a stream: where reading stands in it, and its lines.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use jiff::Timestamp;
use memchr::{memchr, memmem, memrchr};

use super::TURN;
use crate::{
    claude::log::Reader,
    logs::{LogFile, catalog, times::Times},
    model::log::{Kind, LogLine, TimedLine},
};

/// A longer source line is not held; its beginning is shown.
const LONGEST: usize = 4 << 20;
/// The longest line handed out, in bytes.
const TOLD: usize = 4_000;
/// From so many bytes on a hole is not read.
const HOLE: u64 = 64 * 1024;
/// How far the part before the first line is looked through for sub-agents that began there.
const LEARN: u64 = 64 << 20;

/// One file of a stream.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: LogFile,
    pub(super) times: Option<Times>,
    pub(super) at: u64,
    pub(super) eyes: Option<Reader>,
    /// The source line told last, and how many lines it made.
    pub(super) last: (u64, u32),
    /// Looks without news.
    pub(super) quiet: u32,
    pub(super) gone: bool,
    /// The last line was told although it has not ended.
    pub(super) finished: bool,
}

impl Source {
    pub(super) fn new(file: LogFile) -> Self {
        Self { file, times: None, at: 0, eyes: None, last: (u64::MAX, 0), quiet: 0, gone: false, finished: false }
    }

    pub(super) fn left(&self) -> u64 {
        self.file.size.saturating_sub(self.at)
    }

    pub(super) fn times(&mut self) -> &Times {
        self.times.get_or_insert_with(|| {
            let mut times = Times::beside(&self.file.path);
            times.read();
            times
        })
    }

    /// When the byte at `offset` was written, in milliseconds since 1970.
    pub(super) fn time(&mut self, offset: u64) -> i64 {
        let modified = self.file.modified;
        self.times().millis(offset).unwrap_or(modified)
    }

    /// Where what was written after `at` begins.
    pub(super) fn after(&mut self, at: i64) -> u64 {
        let (size, modified) = (self.file.size, self.file.modified);
        if modified <= at {
            return size;
        }
        let times = self.times();
        if times.is_empty() { 0 } else { times.after(at).unwrap_or(size) }
    }

    /// Sees whether the file has grown, shrunk, or is another one.
    pub(super) fn look(&mut self) -> Option<TimedLine> {
        let meta = fs::metadata(&self.file.path).ok().filter(fs::Metadata::is_file);
        let Some(meta) = meta else {
            let news = !std::mem::replace(&mut self.gone, true);
            self.file.size = self.at;
            return news.then(|| self.note("this log was deleted; what was read of it stays until you leave it"));
        };
        let inode = (meta.dev(), meta.ino());
        let size = meta.len();
        let is_new = std::mem::take(&mut self.gone) || inode != self.file.inode;
        let news = if is_new {
            Some("the log was replaced; the new one begins")
        } else if size < self.file.size {
            Some("the log was made shorter; it begins anew")
        } else {
            None
        };
        self.quiet = if size == self.file.size && !is_new { self.quiet.saturating_add(1) } else { 0 };
        self.file.modified = catalog::modified(&meta);
        self.file.inode = inode;
        self.file.size = size;
        if news.is_some() {
            self.times = None;
            self.seek(0);
        } else if self.quiet == 0
            && let Some(times) = &mut self.times
        {
            times.read();
        }
        news.map(|text| self.note(text))
    }

    pub(super) fn note(&self, text: &str) -> TimedLine {
        let line = LogLine { kind: Kind::Error, depth: 0, text: text.to_owned(), offset: self.at };
        let at = Timestamp::from_millisecond(self.file.modified).ok();
        TimedLine { log: self.file.id.clone(), at, nth: 0, line }
    }

    pub(super) fn seek(&mut self, at: u64) {
        self.at = at;
        self.eyes = None;
        self.last = (u64::MAX, 0);
        self.finished = false;
    }

    /// Where the line that holds the byte before `at` begins; `at` itself when it is longer than any that is held.
    pub(super) fn line_start(&self, at: u64) -> u64 {
        let Ok(file) = File::open(&self.file.path) else { return at };
        let mut end = at;
        let mut bytes = vec![0; usize::try_from(TURN).unwrap_or(0)];
        while end > 0 && at - end < LONGEST as u64 {
            let from = end.saturating_sub(TURN);
            let part = bytes.get_mut(..usize::try_from(end - from).unwrap_or(0)).unwrap_or_default();
            if file.read_exact_at(part, from).is_err() {
                return at;
            }
            if let Some(found) = memrchr(b'\n', part) {
                return from + found as u64 + 1;
            }
            end = from;
        }
        if end == 0 { 0 } else { at }
    }

    /// Whether a line starts at the place where reading begins.
    pub(super) fn starts_line(&self) -> bool {
        let mut before = [0];
        self.at == 0
            || File::open(&self.file.path).and_then(|f| f.read_exact_at(&mut before, self.at - 1)).is_ok()
                && before == [b'\n']
    }

    /// Decodes up to `end`.
    pub(super) fn feed(&mut self, end: u64, raw: bool, lines: &mut Vec<TimedLine>) {
        let _unread = self.try_feed(end.min(self.file.size), raw, lines).inspect_err(|_| {
            // What cannot be read now is not asked for again and again.
            self.at = self.at.max(end.min(self.file.size));
        });
    }

    pub(super) fn try_feed(&mut self, end: u64, raw: bool, lines: &mut Vec<TimedLine>) -> io::Result<()> {
        let file = File::open(&self.file.path)?;
        if self.eyes.is_none() {
            let mut reader = Reader::starting_at(self.at, !self.starts_line()).with_limits(LONGEST, TOLD);
            if raw {
                reader = reader.raw();
            } else {
                learn(&file, self.at, &mut reader)?;
            }
            self.eyes = Some(reader);
        }
        let Some(mut eyes) = self.eyes.take() else { return Ok(()) };
        // A hole is told without being read.
        if let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(self.at))
            && data >= self.at + HOLE
        {
            eyes.hole(data.min(self.file.size) - self.at);
            self.at = data.min(self.file.size);
            self.eyes = Some(eyes);
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(self.at)).unwrap_or(0)];
        let n = file.read_at(&mut bytes, self.at)?;
        if n == 0 {
            // It was made shorter just now; the next look says so.
            self.file.size = self.at;
        }
        self.at += n as u64;
        let told = eyes.feed(bytes.get(..n).unwrap_or_default());
        self.eyes = Some(eyes);
        self.tell(told, lines);
        Ok(())
    }

    /// Tells the line that was begun and not ended.
    pub(super) fn close(&mut self, lines: &mut Vec<TimedLine>) {
        let told = match &mut self.eyes {
            Some(eyes) if eyes.is_mid_line() => eyes.finish(),
            Some(_) | None => return,
        };
        self.finished = true;
        self.tell(told, lines);
    }

    pub(super) fn tell(&mut self, told: Vec<LogLine>, lines: &mut Vec<TimedLine>) {
        for line in told {
            let nth = if self.last.0 == line.offset { self.last.1 + 1 } else { 0 };
            self.last = (line.offset, nth);
            let at = self.times().at(line.offset);
            lines.push(TimedLine { log: self.file.id.clone(), at, nth, line });
        }
    }
}

/// Tells a reader what stands before the part that it reads: where the agent works, which sub-agents have begun.
fn learn(file: &File, before: u64, reader: &mut Reader) -> io::Result<()> {
    let finder = memmem::Finder::new(b"\"subagent_type\"");
    let mut bytes = vec![0; 1 << 20];
    let (mut at, mut first) = (before.saturating_sub(LEARN), before <= LEARN);
    while at < before {
        let most = usize::try_from(before - at).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.get_mut(..most).unwrap_or_default();
        let n = file.read_at(part, at)?;
        let part = part.get(..n).unwrap_or_default();
        // Only whole lines; one that is longer than a part tells of no sub-agent.
        let whole = memrchr(b'\n', part).map_or(part.len(), |end| end + 1);
        let part = part.get(..whole).unwrap_or_default();
        if std::mem::take(&mut first)
            && let Some(end) = memchr(b'\n', part)
        {
            reader.learn(part.get(..end).unwrap_or_default());
        }
        let mut seen = 0;
        while let Some(found) = finder.find(part.get(seen..).unwrap_or_default()).map(|found| seen + found) {
            let (head, tail) = part.split_at(found);
            let start = memrchr(b'\n', head).map_or(0, |end| end + 1);
            let end = memchr(b'\n', tail).map_or(part.len(), |end| found + end);
            reader.learn(part.get(start..end).unwrap_or_default());
            seen = end;
        }
        if n == 0 {
            break;
        }
        at += whole as u64;
    }
    Ok(())
}
