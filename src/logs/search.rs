//! A pattern through any number of logs, on threads of its own, hits as they are found.
//!
//! Owns the order (newest files first), the pieces that threads share, and what may be held at once. Must not know who asked.
//! Its one surprise: most of a log is never decoded. The bytes are looked through for what the pattern needs
//! (`Pattern::needed`), a line that has it is glanced at, and only what still matches is read as events.

use std::{
    fs::File,
    io,
    num::NonZero,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
};

use memchr::{memchr, memrchr};

use super::{LogFile, Pattern, times::Times};
use crate::{
    claude::readable::{glance, is_object, is_piece, readable},
    model::{
        log::{Kind, LogHit, LogSum},
        text,
    },
};

/// Bytes read at once.
const AT_ONCE: usize = 512 * 1024;

/// A longer line is looked at in pieces of this size, as text.
const LONGEST: usize = 8 * 1024 * 1024;

/// What one thread takes of a large file.
const SHARE: u64 = 16 * 1024 * 1024;

/// Threads at most: more would take the processor from the agents.
const THREADS: usize = 4;

/// Bytes kept of a line that matches, around the match.
const KEPT: usize = 400;

/// From so many bytes on a hole is passed over.
const HOLE: u64 = 64 * 1024;

/// What a search tells while it runs.
#[derive(Debug)]
pub enum Found {
    /// Lines that match, of one log, in its order.
    Hits(Vec<LogHit>),
    /// So many bytes of all have been looked at.
    Read(u64),
}

/// Looks through `files`, the newest first, until `most` lines match, `stop` is set, or `tell` says no.
pub fn search(
    mut files: Vec<LogFile>,
    pattern: &Pattern,
    most: usize,
    stop: &AtomicBool,
    tell: &(dyn Fn(Found) -> bool + Sync),
) -> LogSum {
    files.sort_by_key(|file| std::cmp::Reverse(file.modified));
    let all: Vec<Share<'_>> = files.iter().flat_map(shares).collect();
    run(&files, &all, pattern, most, stop, tell)
}

/// The same through everything that matches, and each log from its beginning to its end.
pub fn by_file(
    mut files: Vec<LogFile>,
    pattern: &Pattern,
    stop: &AtomicBool,
    tell: &(dyn Fn(Found) -> bool + Sync),
) -> LogSum {
    files.sort_by_key(|file| std::cmp::Reverse(file.modified));
    let all: Vec<Share<'_>> = files.iter().map(|file| Share { file, from: 0, to: file.size }).collect();
    run(&files, &all, pattern, usize::MAX, stop, tell)
}

fn run(
    files: &[LogFile],
    shares: &[Share<'_>],
    pattern: &Pattern,
    most: usize,
    stop: &AtomicBool,
    tell: &(dyn Fn(Found) -> bool + Sync),
) -> LogSum {
    let next = AtomicUsize::new(0);
    let work = Work {
        pattern,
        most,
        stop,
        tell,
        hits: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let scan = || {
        let mut scan = Scan::new(&work);
        while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !work.is_over()) {
            // A log that cannot be read has no hits; it may be gone.
            let _unread = scan.share(share);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS).min(shares.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(scan);
        }
        scan();
    });
    LogSum {
        files: files.len(),
        bytes: work.bytes.into_inner(),
        hits: work.hits.load(Ordering::Relaxed).min(most),
        cut: work.over.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed),
    }
}

/// A part of a file: the lines that start in it.
struct Share<'a> {
    file: &'a LogFile,
    from: u64,
    to: u64,
}

fn shares(file: &LogFile) -> impl Iterator<Item = Share<'_>> {
    let step = usize::try_from(SHARE).unwrap_or(usize::MAX);
    (0..file.size).step_by(step).map(|from| Share { file, from, to: (from + SHARE).min(file.size) })
}

/// What all threads share.
struct Work<'a> {
    pattern: &'a Pattern,
    most: usize,
    stop: &'a AtomicBool,
    tell: &'a (dyn Fn(Found) -> bool + Sync),
    hits: AtomicUsize,
    bytes: AtomicU64,
    over: AtomicBool,
}

impl Work<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed)
    }

    fn tell(&self, mut hits: Vec<LogHit>) {
        if hits.is_empty() || self.is_over() {
            return;
        }
        let before = self.hits.fetch_add(hits.len(), Ordering::Relaxed);
        hits.truncate(self.most.saturating_sub(before));
        if before + hits.len() >= self.most {
            self.over.store(true, Ordering::Relaxed);
        }
        if !hits.is_empty() && !(self.tell)(Found::Hits(hits)) {
            self.over.store(true, Ordering::Relaxed);
        }
    }

    fn read(&self, bytes: u64) {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !(self.tell)(Found::Read(all)) {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

/// One thread's hands.
struct Scan<'a> {
    work: &'a Work<'a>,
    held: Vec<u8>,
    piece: Vec<u8>,
    words: Vec<u8>,
    hits: Vec<LogHit>,
}

impl<'a> Scan<'a> {
    fn new(work: &'a Work<'a>) -> Self {
        Self { work, held: Vec::new(), piece: vec![0; AT_ONCE], words: Vec::new(), hits: Vec::new() }
    }

    fn share(&mut self, share: &Share<'_>) -> io::Result<()> {
        let file = File::open(&share.file.path)?;
        let mut times = None;
        // The byte before tells whether a line starts with the share.
        let mut at = share.from.saturating_sub(1);
        let (mut base, mut skipping) = (at, share.from > 0);
        // A line that has no end in sight belongs to the share it starts in, however far it goes.
        let mut endless = false;
        self.held.clear();
        while (base < share.to || endless) && !self.work.is_over() {
            let data = data_from(&file, at);
            if data.is_none_or(|data| data >= at + HOLE) {
                // What was begun before the hole is no line any more, nor is what ends after it.
                let Some(data) = data.filter(|data| *data < share.to) else { break };
                self.held.clear();
                (at, base, skipping, endless) = (data, data, true, false);
            }
            let n = file.read_at(&mut self.piece, at)?;
            self.held.extend_from_slice(self.piece.get(..n).unwrap_or_default());
            at += n as u64;
            if skipping {
                let Some(end) = memchr(b'\n', &self.held) else {
                    if n == 0 {
                        break;
                    }
                    base += self.held.len() as u64;
                    self.held.clear();
                    continue;
                };
                self.held.drain(..=end);
                base += end as u64 + 1;
                skipping = false;
            }
            let ended = n == 0 || at >= share.file.size;
            if endless {
                let end = memchr(b'\n', &self.held);
                if end.is_none() && !ended && self.held.len() <= LONGEST {
                    continue;
                }
                let held = std::mem::take(&mut self.held);
                let (piece, rest) = held.split_at(end.map_or(held.len(), |end| end + 1));
                self.long(piece, base, share.file, &mut times);
                base += piece.len() as u64;
                self.held.extend_from_slice(rest);
                endless = end.is_none() && !ended;
            }
            let whole = if ended { self.held.len() } else { memrchr(b'\n', &self.held).map_or(0, |end| end + 1) };
            let held = std::mem::take(&mut self.held);
            let (lines, rest) = held.split_at(whole);
            // Lines that start behind the share are somebody else's.
            let mine = starting_within(lines, share.to.saturating_sub(base));
            self.lines(mine, base, share.file, &mut times);
            base += whole as u64;
            if rest.len() > LONGEST {
                self.long(rest, base, share.file, &mut times);
                base += rest.len() as u64;
                endless = !ended;
            } else {
                self.held.extend_from_slice(rest);
            }
            self.work.tell(std::mem::take(&mut self.hits));
            self.work.read(n as u64);
            if ended {
                break;
            }
        }
        Ok(())
    }

    fn lines(&mut self, lines: &[u8], base: u64, file: &LogFile, times: &mut Option<Times>) {
        let mut at = 0;
        if let Some(needed) = self.work.pattern.needed() {
            while let Some(found) = needed.find_at(lines, at) {
                let (before, after) = lines.split_at(found.start());
                let start = memrchr(b'\n', before).map_or(0, |end| end + 1);
                let end = memchr(b'\n', after).map_or(lines.len(), |end| found.start() + end);
                self.line(lines.get(start..end).unwrap_or_default(), base + start as u64, file, times);
                at = end + 1;
                if at >= lines.len() {
                    break;
                }
            }
            return;
        }
        while at < lines.len() {
            let rest = lines.get(at..).unwrap_or_default();
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            self.line(rest.get(..end).unwrap_or_default(), base + at as u64, file, times);
            at += end + 1;
        }
    }

    fn line(&mut self, line: &[u8], offset: u64, file: &LogFile, times: &mut Option<Times>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_piece(line) {
            return;
        }
        let pattern = self.work.pattern;
        let may = if is_object(line) && glance(line, &mut self.words) {
            // What is needed must stand in the words and not only in the names around them. Where nothing is, the words
            // themselves tell; a tool's name and its argument, which are read as one line, hold something that is needed.
            let whole = || pattern.lines().is_match(&self.words);
            pattern.needed().map_or_else(whole, |needed| needed.is_match(&self.words))
        } else {
            pattern.lines().is_match(line) || is_object(line) || memchr(0x1b, line).is_some()
        };
        if !may {
            return;
        }
        let mut nth = 0;
        let hits = &mut self.hits;
        readable(line, |kind, nested, text| {
            let Some(found) = pattern.text().find(text) else { return };
            let at = times.get_or_insert_with(|| read_times(file)).at(offset);
            let text = around(text, found.start(), found.end());
            hits.push(LogHit { log: file.id.clone(), at, kind, nested, offset, nth, text });
            nth += 1;
        });
    }

    /// A line without an end in sight: looked at as text, one hit at most.
    fn long(&mut self, piece: &[u8], offset: u64, file: &LogFile, times: &mut Option<Times>) {
        let Some(found) = self.work.pattern.lines().find(piece) else { return };
        let from = found.start().saturating_sub(KEPT);
        let near = piece.get(from..(found.end().min(found.start() + KEPT) + KEPT).min(piece.len())).unwrap_or_default();
        let near = text::scrub(&String::from_utf8_lossy(near)).replace('\n', " ");
        let found = self.work.pattern.text().find(&near).map_or((0, 0), |m| (m.start(), m.end()));
        let at = times.get_or_insert_with(|| read_times(file)).at(offset);
        let text = around(&near, found.0, found.1);
        self.hits.push(LogHit { log: file.id.clone(), at, kind: Kind::Raw, nested: false, offset, nth: 0, text });
    }
}

/// Those of these lines that start within the first `left` bytes.
fn starting_within(lines: &[u8], left: u64) -> &[u8] {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    if lines.len() <= left {
        return lines;
    }
    let Some(last) = left.checked_sub(1) else { return &[] };
    let end = lines.get(last..).and_then(|rest| memchr(b'\n', rest)).map_or(lines.len(), |end| last + end + 1);
    lines.get(..end).unwrap_or(lines)
}

fn read_times(file: &LogFile) -> Times {
    let mut times = Times::beside(&file.path);
    times.read();
    times
}

/// Where the next bytes are that are no hole; `None` when there are none.
fn data_from(file: &File, at: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => Some(data),
        Err(rustix::io::Errno::NXIO) => None,
        // Where a file system knows nothing of holes everything is data.
        Err(_unknown) => Some(at),
    }
}

/// The part of a line around a match.
fn around(line: &str, start: usize, end: usize) -> String {
    let line = line.trim_end();
    if line.len() <= KEPT {
        return line.to_owned();
    }
    // The match is what counts: of what stands before it a quarter of the room.
    let mut from = if end <= KEPT / 2 { 0 } else { start.saturating_sub(KEPT / 4).min(line.len()) };
    while !line.is_char_boundary(from) {
        from -= 1;
    }
    let (head, tail) = line.split_at(from);
    let tail = text::clip(tail, KEPT);
    if head.is_empty() { tail.into_owned() } else { format!("…{tail}") }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, path::Path, sync::Mutex};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        logs::{Extent, catalog},
        model::LogScope,
    };

    fn stage(logs: &[(&str, &[u8])]) -> tempfile::TempDir {
        let stage = tempfile::tempdir().unwrap();
        for (path, bytes) in logs {
            let path = stage.path().join("logs").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        stage
    }

    fn hits(stage: &Path, pattern: &str, most: usize) -> (Vec<LogHit>, LogSum) {
        let files = catalog::find(stage, &LogScope::All, Extent::Everything);
        let found = Mutex::new(Vec::new());
        let pattern = Pattern::new(pattern, false).unwrap();
        let sum = search(files, &pattern, most, &AtomicBool::new(false), &|news| {
            if let Found::Hits(hits) = news {
                found.lock().unwrap().extend(hits);
            }
            true
        });
        let mut hits = found.into_inner().unwrap();
        hits.sort_by(|a, b| (&a.log, a.offset, a.nth).cmp(&(&b.log, b.offset, b.nth)));
        (hits, sum)
    }

    fn texts(stage: &Path, pattern: &str) -> Vec<String> {
        hits(stage, pattern, 1_000)
            .0
            .into_iter()
            .map(|hit| format!("{} {} {}", hit.log, hit.offset, hit.text))
            .collect()
    }

    fn said(text: &str) -> String {
        serde_json::json!({"type": "assistant", "uuid": "needle", "message": {"content": [{"type": "text", "text": text}]}})
            .to_string()
    }

    #[test]
    fn words_are_found_as_they_are_read_whatever_the_file_makes_of_them() {
        let quoted = said("one\nhe said \"the needle\" twice\nneedle again\n\tcafé \\ x");
        let log = format!("{quoted}\n{}\nplain Needle\n{{\"broken needle\n", said("nothing here"));
        let stage = stage(&[("marie/a.1.log", log.as_bytes()), ("anga/b.2.log", b"a \x1b[31mneedle\x1b[0m\n")]);
        let at = quoted.len() as u64 + said("nothing here").len() as u64 + 2;
        let expected = [
            "anga/b#2 0 a needle".to_owned(),
            "marie/a#1 0 he said \"the needle\" twice".to_owned(),
            "marie/a#1 0 needle again".to_owned(),
            format!("marie/a#1 {at} plain Needle"),
            format!("marie/a#1 {} {{\"broken needle", at + 13),
        ];
        assert_eq!(texts(stage.path(), "needle"), expected, "and not in a name for machines");
        assert_eq!(texts(stage.path(), "\"the ne"), ["marie/a#1 0 he said \"the needle\" twice"]);
        assert_eq!(texts(stage.path(), r"^\s+caf. \\ x$"), ["marie/a#1 0   café \\ x"]);
        assert_eq!(texts(stage.path(), "^needle").len(), 1);
        assert_eq!(texts(stage.path(), "assistant|uuid"), Vec::<String>::new());
    }

    #[test]
    fn a_tool_and_its_argument_are_one_line_and_an_answer_is_searched_to_its_end() {
        let tool = serde_json::json!({"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "t", "name": "Bash",
            "input": {"command": "cargo test --all"}}]}});
        let long: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
        let answer = serde_json::json!({"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t",
            "content": long.join("\n")}]}});
        let piece = r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"text":"line 499"}}}"#;
        let stage = stage(&[("marie/a.1.log", format!("{tool}\n{piece}\n{answer}\n").as_bytes())]);
        assert_eq!(texts(stage.path(), "bash cargo"), ["marie/a#1 0 Bash cargo test --all"]);
        assert_eq!(texts(stage.path(), "line 499$").len(), 1, "and a piece of a message is not told twice");
    }

    #[test]
    fn shares_of_a_large_file_lose_nothing_and_tell_nothing_twice() {
        let mut log = Vec::new();
        let mut expected = Vec::new();
        for n in 0..700_000_u64 {
            if n % 9_973 == 0 {
                expected.push(log.len() as u64);
                writeln!(log, "the needle {n}").unwrap();
            } else {
                writeln!(log, "{n:>60} hay and more hay").unwrap();
            }
        }
        assert!(log.len() as u64 > 3 * SHARE / 2);
        let stage = stage(&[("marie/a.1.log", &log)]);
        for pattern in ["needle", "[n]eedl."] {
            let (found, sum) = hits(stage.path(), pattern, 10_000);
            assert_eq!(found.iter().map(|hit| hit.offset).collect::<Vec<_>>(), expected);
            assert_eq!((sum.hits, sum.cut), (expected.len(), false));
        }
        let (found, sum) = hits(stage.path(), "needle", 10);
        assert!(found.len() == 10 && sum.hits == 10 && sum.cut, "{sum:?}");
    }

    #[test]
    fn an_endless_line_and_a_hole_are_passed_through_with_bounded_hands() {
        let mut log = vec![b'x'; 20 << 20];
        log.extend_from_slice(b" the needle ");
        log.resize(40 << 20, b'y');
        log.extend_from_slice(b"\nanother needle\n");
        let stage = stage(&[("marie/a.1.log", &log)]);
        let path = stage.path().join("logs/anga/b.1.log");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(&path).unwrap();
        file.write_all_at(b"first needle\nbegun needl", 0).unwrap();
        file.write_all_at(b"e ended\nlast needle\n", 3 << 30).unwrap();
        let (found, sum) = hits(stage.path(), "needle", 100);
        let texts: Vec<&str> = found.iter().map(|hit| hit.text.get(..12).unwrap_or(&hit.text)).collect();
        assert_eq!((texts[0], texts[1], found.len()), ("first needle", "last needle", 4), "{texts:?}");
        assert!(found[2].text.contains("the needle") && found[3].text == "another needle");
        assert!(sum.bytes < 100 << 20, "the hole of 3 GB is not read: {}", sum.bytes);
    }

    #[test]
    fn a_search_that_is_stopped_ends_at_once() {
        let stage = stage(&[("marie/a.1.log", "needle\n".repeat(1_000_000).as_bytes())]);
        let files = catalog::find(stage.path(), &LogScope::All, Extent::Everything);
        let stop = AtomicBool::new(false);
        let sum = search(files, &Pattern::new("needle", false).unwrap(), usize::MAX, &stop, &|_| {
            stop.store(true, Ordering::Relaxed);
            true
        });
        assert!(sum.cut && sum.bytes <= 4 * AT_ONCE as u64, "{sum:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_quick_way_finds_what_reading_everything_finds(
            lines in proptest::collection::vec("[abAB\"\\\\é\n{ ]{0,12}", 1..12), json: bool,
            pattern in proptest::sample::select(vec!["a", "ab", "[ab]b", "é", "\"a", "(a|bb)+ ", "^b", "a$", r"\\a", "a b|ba"]),
        ) {
            let log: String = lines.iter().map(|l| if json { said(l) + "\n" } else { format!("{l}\n") }).collect();
            let stage = stage(&[("marie/a.1.log", log.as_bytes())]);
            let regex = Pattern::new(pattern, false).unwrap();
            let mut expected = Vec::new();
            for line in log.as_bytes().split(|b| *b == b'\n') {
                readable(line, |_, _, text| if regex.text().is_match(text) { expected.push(text.trim_end().to_owned()) });
            }
            let found: Vec<String> = hits(stage.path(), pattern, 1_000).0.into_iter().map(|hit| hit.text).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
