//! A part of one log, or of many together by the time at which they were written, and what is written after it.
//!
//! Owns where reading stands in each file. Must not know how the lines are shown. Its one surprise: many logs are put in
//! order without being read: the times beside them cut them into parts, and only the parts that are wanted are decoded.

mod source;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use source::Source;

use super::catalog::{self, Extent};
use crate::model::{
    LogId, LogPlace, LogScope,
    log::{LogFrom, LogPart, LogReading, Show, TimedLine},
};

/// Bytes decoded before and after the wanted place at first; more when that makes too few lines.
const BESIDE: u64 = 384 * 1024;

/// Lines that a part should have before the wanted place.
const ENOUGH: usize = 400;

/// Lines of one part at most, and bytes of their text.
const MOST_LINES: usize = 8_000;
const MOST_TEXT: usize = 3 << 20;

/// Bytes of one file that are decoded before another one gets its turn.
const TURN: u64 = 64 * 1024;

/// So many bytes behind, the view goes to the end instead of reading its way there.
const BEHIND: u64 = 1 << 20;

/// Looks without news after which a file is looked at now and then only.
const QUIET: u32 = 100;

/// Quiet files that are looked at each time.
const QUIET_AT_ONCE: usize = 32;

/// Logs being read.
#[derive(Debug)]
pub struct Stream {
    stage: PathBuf,
    reading: LogReading,
    sources: Vec<Source>,
    known: HashSet<(u64, u64)>,
    folders: HashMap<PathBuf, i64>,
    /// What follows is read as it is written.
    follows: bool,
    /// Everything is read, however much it is.
    patient: bool,
    /// Where the round through quiet files stands.
    round: usize,
    below: u64,
}

impl Stream {
    /// Finds the logs.
    pub fn open(stage: impl Into<PathBuf>, reading: LogReading) -> Self {
        let mut stream = Self {
            stage: stage.into(),
            reading,
            sources: Vec::new(),
            known: HashSet::new(),
            folders: HashMap::new(),
            follows: false,
            patient: false,
            round: 0,
            below: 0,
        };
        stream.list();
        stream
    }

    /// What is read.
    pub fn reading(&self) -> &LogReading {
        &self.reading
    }

    /// Reads the part that `from` asks for; an empty one when `stop` said so.
    pub fn load(&mut self, from: &LogFrom, stop: &dyn Fn() -> bool) -> LogPart {
        self.look(true);
        self.follows = false;
        let (place, exact) = match from {
            LogFrom::Start => (vec![0; self.sources.len()], true),
            LogFrom::Around(place) | LogFrom::Hit(place, _) => (self.position(place), false),
            LogFrom::End => (self.sources.iter().map(|s| s.file.size).collect(), false),
        };
        let mut budget = BESIDE;
        loop {
            let mut position = place.clone();
            if !exact {
                self.back(&mut position, budget);
            }
            self.seek(&position);
            let mut lines = Vec::new();
            // Up to the wanted place everything is decoded, of which the last lines count; then on.
            let before: u64 = place.iter().zip(&position).map(|(to, from)| to.saturating_sub(*from)).sum();
            self.forward(&mut lines, before, MOST_LINES / 2, MOST_TEXT / 2, stop, true);
            let starts = position.iter().all(|at| *at == 0);
            if stop() {
                return LogPart::default();
            }
            if !(exact || starts || lines.len() >= ENOUGH) {
                budget = budget.saturating_mul(4);
                continue;
            }
            let cut = lines.len() > MOST_LINES / 2;
            lines.drain(..lines.len().saturating_sub(MOST_LINES / 2));
            self.forward(&mut lines, if exact { 2 * BESIDE } else { BESIDE }, MOST_LINES, MOST_TEXT, stop, false);
            // Where little is shown of what is written, more of it is needed to fill a screen.
            let mut more = BESIDE;
            while lines.len() < ENOUGH && !self.is_at_end() && !stop() {
                more = more.saturating_mul(4);
                self.forward(&mut lines, more, MOST_LINES, MOST_TEXT, stop, false);
            }
            self.follows = self.is_at_end();
            if self.follows {
                self.finish(&mut lines);
            }
            self.below = self.left();
            let here = match from {
                LogFrom::Start | LogFrom::End => None,
                LogFrom::Around(place) => locate(&lines, place, None),
                LogFrom::Hit(place, text) => locate(&lines, place, Some(text)),
            };
            return LogPart {
                lines,
                whole: true,
                here,
                starts: starts && !cut,
                skipped: 0,
                below: self.below,
                files: self.sources.len(),
            };
        }
    }

    /// What has been written since; `None` when there is no news.
    pub fn more(&mut self, stop: &dyn Fn() -> bool) -> Option<LogPart> {
        let mut lines = self.look(false);
        let left = self.left();
        if !self.follows {
            let news = left != self.below || !lines.is_empty();
            self.below = left;
            let files = self.sources.len();
            return news.then(|| LogPart { lines, below: left, files, ..LogPart::default() });
        }
        if self.sources.iter().any(|s| s.finished && s.left() > 0) {
            // The last line went on after all: it is told again, whole.
            return (!self.patient).then(|| self.load(&LogFrom::End, stop));
        }
        let mut skipped = 0;
        if left > BEHIND && !self.patient {
            let before: Vec<u64> = self.sources.iter().map(|s| s.at).collect();
            let mut position: Vec<u64> = self.sources.iter().map(|s| s.file.size).collect();
            self.back(&mut position, BEHIND / 4);
            // What has been read already is not read again.
            for (at, before) in position.iter_mut().zip(&before) {
                *at = (*at).max(*before);
            }
            skipped = position.iter().zip(&before).map(|(at, before)| at - before).sum();
            self.seek_some(&position);
        }
        self.forward(&mut lines, u64::MAX, MOST_LINES, MOST_TEXT, stop, false);
        self.finish(&mut lines);
        self.below = self.left();
        let files = self.sources.len();
        (skipped > 0 || !lines.is_empty()).then(|| LogPart {
            lines,
            skipped,
            files,
            below: self.below,
            ..LogPart::default()
        })
    }

    /// Reads everything from `from` to its end, a part at a time; what follows comes from [`Stream::more`], all of it,
    /// unless the reading `ends` here. `take` says whether to go on.
    pub fn everything(
        &mut self,
        from: &LogFrom,
        ends: bool,
        stop: &dyn Fn() -> bool,
        take: &mut dyn FnMut(TimedLine) -> bool,
    ) {
        self.look(true);
        let position = match from {
            LogFrom::Start => vec![0; self.sources.len()],
            LogFrom::Around(place) | LogFrom::Hit(place, _) => self.position(place),
            LogFrom::End => self.sources.iter().map(|s| s.file.size).collect(),
        };
        self.seek(&position);
        (self.follows, self.patient) = (true, true);
        let mut lines = Vec::new();
        loop {
            self.forward(&mut lines, 4 * TURN, MOST_LINES, MOST_TEXT, stop, false);
            let ended = self.is_at_end();
            if ended && ends {
                self.close(&mut lines);
            }
            if stop() || !lines.drain(..).all(&mut *take) || ended {
                return;
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.sources.iter().all(|s| s.left() == 0)
    }

    fn left(&self) -> u64 {
        self.sources.iter().map(Source::left).sum()
    }

    /// Takes in what is new on disk; all of it when `all`, else what is likely. Gives what is to be said about it.
    fn look(&mut self, all: bool) -> Vec<TimedLine> {
        let changed = self.folders.iter().any(|(folder, seen)| written(folder) != *seen);
        if changed {
            self.list();
        }
        let mut said = Vec::new();
        let n = self.sources.len();
        let round = self.round;
        self.round = if n == 0 { 0 } else { (round + QUIET_AT_ONCE) % n };
        let show = self.reading.show;
        for (at, source) in self.sources.iter_mut().enumerate() {
            let turn = (at + n - round) % n < QUIET_AT_ONCE;
            if all || turn || source.quiet < QUIET {
                said.extend(source.look());
            }
        }
        said.retain(|line| show.has(line.line.kind, line.line.depth));
        said
    }

    /// Lists the logs anew; those that are known stay where they are.
    fn list(&mut self) {
        for folder in catalog::folders(&self.stage, &self.reading.scope) {
            let at = written(&folder);
            self.folders.insert(folder, at);
        }
        for file in catalog::find(&self.stage, &self.reading.scope, Extent::Shown) {
            if self.known.insert(file.inode) && !self.sources.iter().any(|s| s.file.path == file.path) {
                self.sources.push(Source::new(file));
            }
        }
    }

    /// Where all logs stood when the line at `place` was written.
    fn position(&mut self, place: &LogPlace) -> Vec<u64> {
        let Some(here) = self.sources.iter().position(|s| s.file.id.path == place.path) else {
            return self.sources.iter().map(|s| s.file.size).collect();
        };
        let at = self.sources.get_mut(here).map_or(0, |s| s.time(place.offset));
        let mut position = Vec::with_capacity(self.sources.len());
        for (n, source) in self.sources.iter_mut().enumerate() {
            position.push(if n == here { place.offset.min(source.file.size) } else { source.after(at) });
        }
        position
    }

    /// Moves back by about so many bytes, the latest first, to where lines begin.
    fn back(&mut self, position: &mut [u64], mut budget: u64) {
        let mut heap: BinaryHeap<(i64, usize)> = BinaryHeap::new();
        for (n, source) in self.sources.iter().enumerate() {
            if position.get(n).is_some_and(|at| *at > 0) {
                // When a file was last written is late enough for all that is in it.
                heap.push((source.file.modified, n));
            }
        }
        let mut moved = HashSet::new();
        while budget > 0
            && let Some((at, n)) = heap.pop()
        {
            let (Some(source), Some(to)) = (self.sources.get_mut(n), position.get_mut(n)) else { continue };
            let really = source.time(*to - 1);
            if really < at && heap.peek().is_some_and(|(other, _)| *other > really) {
                heap.push((really, n));
                continue;
            }
            let begin = source.times().begin(*to - 1).max(to.saturating_sub(TURN));
            budget = budget.saturating_sub(*to - begin);
            *to = begin;
            moved.insert(n);
            if begin > 0 {
                heap.push((source.time(begin - 1), n));
            }
        }
        for n in moved {
            if let (Some(source), Some(at)) = (self.sources.get(n), position.get_mut(n)) {
                *at = source.line_start(*at);
            }
        }
    }

    /// Begins to read at `position`.
    fn seek(&mut self, position: &[u64]) {
        for (source, at) in self.sources.iter_mut().zip(position) {
            source.seek(*at);
        }
    }

    /// The same where it is another place than now.
    fn seek_some(&mut self, position: &[u64]) {
        for (source, at) in self.sources.iter_mut().zip(position).filter(|(source, at)| source.at != **at) {
            source.seek(*at);
        }
    }

    /// Decodes so many bytes in the order of their times, unless there are enough lines before. With `last` there may be
    /// any number of lines, of which the last are kept.
    fn forward(
        &mut self,
        lines: &mut Vec<TimedLine>,
        mut budget: u64,
        most: usize,
        text: usize,
        stop: &dyn Fn() -> bool,
        last: bool,
    ) {
        let mut heap = BinaryHeap::new();
        for (n, source) in self.sources.iter_mut().enumerate() {
            if source.left() > 0 {
                heap.push(Reverse((source.time(source.at), n)));
            }
        }
        let raw = self.reading.raw;
        let mut held: usize = lines.iter().map(|l| l.line.text.len()).sum();
        while budget > 0
            && (last || (lines.len() < most && held < text))
            && !stop()
            && let Some(Reverse((_, n))) = heap.pop()
        {
            let Some(source) = self.sources.get_mut(n) else { continue };
            let at = source.at;
            let end = source.times().next(at).unwrap_or(u64::MAX).min(at.saturating_add(TURN.min(budget)));
            let from = lines.len();
            source.feed(end, raw, lines);
            budget = budget.saturating_sub(source.at.saturating_sub(at).max(1));
            let show = self.reading.show;
            let mut index = 0;
            lines.retain(|line| {
                index += 1;
                index <= from || show.has(line.line.kind, line.line.depth)
            });
            held += lines.get(from..).unwrap_or_default().iter().map(|l| l.line.text.len()).sum::<usize>();
            if last && (lines.len() > 2 * most || held > 2 * text) {
                while lines.len() > most || held > text {
                    let gone = lines.len().div_ceil(4);
                    held -= lines.drain(..gone).map(|l| l.line.text.len()).sum::<usize>();
                }
            }
            if source.left() > 0 && source.at > at {
                heap.push(Reverse((source.time(source.at), n)));
            }
        }
    }

    /// Tells lines that were begun and not ended in files that nobody writes to any more.
    fn finish(&mut self, lines: &mut Vec<TimedLine>) {
        for source in &mut self.sources {
            if source.quiet > 25 && source.left() == 0 && !source.finished {
                source.close(lines);
            }
        }
        let show = self.reading.show;
        lines.retain(|line| show.has(line.line.kind, line.line.depth));
    }

    /// Tells lines that were begun and not ended.
    fn close(&mut self, lines: &mut Vec<TimedLine>) {
        for source in &mut self.sources {
            source.close(lines);
        }
        let show = self.reading.show;
        lines.retain(|line| show.has(line.line.kind, line.line.depth));
    }
}

/// Which of the lines is the one at `place`; where it is told in other pieces than it was found in, the one nearest to it
/// that has its text.
fn locate(lines: &[TimedLine], place: &LogPlace, text: Option<&str>) -> Option<usize> {
    let here = |line: &TimedLine| line.log.path == place.path;
    let core = text.map(|text| text.trim_matches('…').trim());
    let is_it = |line: &TimedLine| {
        let shown = line.line.text.trim();
        core.is_some_and(|core| shown.contains(core) || (shown.len() > 20 && core.contains(shown)))
    };
    let at: Vec<usize> =
        (0..lines.len()).filter(|n| lines.get(*n).is_some_and(|l| here(l) && l.line.offset == place.offset)).collect();
    if !at.is_empty() {
        let same = at.iter().find(|n| lines.get(**n).is_some_and(is_it));
        let nth = usize::try_from(place.nth).unwrap_or(usize::MAX).min(at.len() - 1);
        return same.or_else(|| at.get(nth)).copied();
    }
    let next = lines.iter().position(|l| here(l) && l.line.offset > place.offset);
    let before = next.unwrap_or(lines.len());
    let told =
        lines.get(before.saturating_sub(300)..before).unwrap_or_default().iter().rposition(|l| here(l) && is_it(l));
    told.map(|n| before.saturating_sub(300) + n).or(next).or_else(|| lines.iter().rposition(here))
}

/// The lines around one that was found: so many before it and after it, and which of them it is.
pub fn context(stage: &Path, log: &LogId, place: &LogPlace, text: &str, lines: usize) -> (Vec<TimedLine>, usize) {
    let reading = LogReading { scope: LogScope::One(log.clone()), raw: false, show: Show::All };
    let part = Stream::open(stage, reading).load(&LogFrom::Hit(place.clone(), text.to_owned()), &|| false);
    let Some(here) = part.here else { return (Vec::new(), 0) };
    let from = here.saturating_sub(lines);
    (part.lines.into_iter().skip(from).take(here - from + 1 + lines).collect(), here - from)
}

/// When a folder's list of names was last changed.
fn written(folder: &Path) -> i64 {
    fs::metadata(folder).map_or(0, |meta| meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec()))
}
