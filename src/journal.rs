//! The journal: facts that the room decided, one JSON object per line, appended and never changed.
//!
//! Owns the file and its durability. Must not know what a fact means. Its two surprises: a torn last line, left by a
//! crash in the middle of a write, is cut off at the next opening; whoever was waiting for it was never told yes. And
//! after a failed sync nothing is written to that file again: its whole lines move to a new one first.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom, Write},
    marker::PhantomData,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system said no.
    #[error("could not {action} the journal {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line in the middle is not a fact of this version.
    #[error("line {line} of the journal {path} is unreadable: {message}")]
    Unreadable {
        /// Which line, from 1.
        line: usize,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// An open journal of facts of one type.
#[derive(Debug)]
pub struct Journal<Fact> {
    file: File,
    path: PathBuf,
    /// Bytes that are whole lines on disk.
    whole: u64,
    /// Lines that the disk would not take, oldest first.
    kept: VecDeque<Vec<u8>>,
    /// The file must not be written to again.
    spoilt: bool,
    fact: PhantomData<fn(Fact)>,
}

impl<Fact: Serialize + DeserializeOwned> Journal<Fact> {
    /// Opens the journal, making it where there is none, and gives every fact it holds.
    pub fn open(path: &Path) -> Result<(Self, Vec<Fact>), JournalError> {
        let fail = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(fail("make the folder of"))?;
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path).map_err(fail("open"))?;
        let (facts, whole) = Self::facts(&mut file, path)?;
        file.set_len(whole).map_err(fail("mend"))?;
        file.seek(SeekFrom::End(0)).map_err(fail("read"))?;
        sync_folder_of(path).map_err(fail("make the name last of"))?;
        let kept = VecDeque::new();
        Ok((Self { file, path: path.to_owned(), whole, kept, spoilt: false, fact: PhantomData }, facts))
    }

    /// Every fact that the journal holds; none where there is none. Changes nothing.
    pub fn read(path: &Path) -> Result<Vec<Fact>, JournalError> {
        match File::open(path) {
            Ok(mut file) => Ok(Self::facts(&mut file, path)?.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(JournalError::Io { action: "open", path: path.to_owned(), source }),
        }
    }

    /// The facts of its whole lines, and how many bytes those are.
    fn facts(file: &mut File, path: &Path) -> Result<(Vec<Fact>, u64), JournalError> {
        let mut reader = BufReader::new(file);
        let (mut facts, mut whole, mut number, mut line) = (Vec::new(), 0_u64, 0, Vec::new());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            let read = read.map_err(|source| JournalError::Io { action: "read", path: path.to_owned(), source })?;
            number += 1;
            if read == 0 || line.last() != Some(&b'\n') {
                return Ok((facts, whole));
            }
            match serde_json::from_slice(&line) {
                Ok(fact) => facts.push(fact),
                Err(error) => {
                    let message = error.to_string();
                    return Err(JournalError::Unreadable { line: number, path: path.to_owned(), message });
                }
            }
            whole += read as u64;
        }
    }

    /// Appends one fact, behind those that were kept; it is durable when this returns `Ok`, and not in the journal
    /// otherwise.
    pub fn append(&mut self, fact: &Fact) -> Result<(), JournalError> {
        let line = self.line(fact)?;
        self.write_kept()?;
        self.write(&line)
    }

    /// Appends one fact that has happened whether the disk takes it or not: where it does not, the fact is kept in
    /// memory and written before the next one.
    pub fn keep(&mut self, fact: &Fact) -> Result<(), JournalError> {
        let line = self.line(fact)?;
        self.kept.push_back(line);
        self.write_kept()
    }

    /// Facts that the disk has not taken yet.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Tries again to write what was kept.
    pub fn write_kept(&mut self) -> Result<(), JournalError> {
        while let Some(line) = self.kept.pop_front() {
            if let Err(error) = self.write(&line) {
                self.kept.push_front(line);
                return Err(error);
            }
        }
        Ok(())
    }

    fn line(&self, fact: &Fact) -> Result<Vec<u8>, JournalError> {
        let mut line = serde_json::to_vec(fact).map_err(|error| JournalError::Unreadable {
            line: 0,
            path: self.path.clone(),
            message: error.to_string(),
        })?;
        line.push(b'\n');
        Ok(line)
    }

    fn write(&mut self, line: &[u8]) -> Result<(), JournalError> {
        let written = self.renew().and_then(|()| {
            let written = self.file.write_all(line);
            if written.is_err() {
                // Half a line would swallow the next one.
                self.spoilt = self.file.set_len(self.whole).is_err();
                return written;
            }
            let synced = self.file.sync_data();
            // The kernel tells of lost pages once and then calls them clean.
            self.spoilt = synced.is_err();
            synced
        });
        match written {
            Ok(()) => {
                self.whole += line.len() as u64;
                Ok(())
            }
            Err(source) => Err(JournalError::Io { action: "append to", path: self.path.clone(), source }),
        }
    }

    /// Moves the whole lines to a new file where this one is not to be trusted any more.
    fn renew(&mut self) -> io::Result<()> {
        if !self.spoilt {
            return Ok(());
        }
        let beside = self.path.with_added_extension("new");
        let renewed = (|| {
            let mut options = OpenOptions::new();
            let mut new = options.append(true).create(true).mode(0o600).open(&beside)?;
            new.set_len(0)?;
            let copied = io::copy(&mut File::open(&self.path)?.take(self.whole), &mut new)?;
            if copied != self.whole {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            new.sync_all()?;
            fs::rename(&beside, &self.path)?;
            sync_folder_of(&self.path)?;
            Ok(new)
        })();
        match renewed {
            Ok(file) => {
                tracing::warn!(path = %self.path.display(), "the journal was moved to a new file after a failed sync");
                (self.file, self.spoilt) = (file, false);
                Ok(())
            }
            Err(error) => {
                let _left = fs::remove_file(&beside);
                Err(error)
            }
        }
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_in_order_and_a_torn_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/journal.jsonl");
        let (mut journal, facts) = Journal::<u32>::open(&path).unwrap();
        assert!(facts.is_empty());
        journal.append(&1).unwrap();
        journal.append(&2).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"3").unwrap();
        let (mut journal, facts) = Journal::<u32>::open(&path).unwrap();
        assert_eq!(facts, [1, 2]);
        journal.append(&4).unwrap();
        assert_eq!(Journal::<u32>::open(&path).unwrap().1, [1, 2, 4]);
    }

    #[test]
    fn after_a_failed_sync_the_lines_move_to_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, _) = Journal::<u32>::open(&path).unwrap();
        journal.append(&1).unwrap();
        // What a failed sync leaves: the line is in the file, nobody was told yes, and the file is not to be trusted.
        journal.file.write_all(b"2\n").unwrap();
        journal.spoilt = true;
        let old = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
        journal.append(&3).unwrap();
        assert_ne!(std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap()), old);
        assert_eq!(Journal::<u32>::open(&path).unwrap().1, [1, 3]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        fs::write(&path, "1\nx\n3\n").unwrap();
        assert!(matches!(Journal::<u32>::open(&path), Err(JournalError::Unreadable { line: 2, .. })));
    }
}
