//! The journal: facts that the room decided, one JSON object per line, appended and never changed.
//!
//! Owns the file and its durability. Must not know what a fact means. Its one surprise: a torn last line, left by a
//! crash in the middle of a write, is cut off at the next opening; whoever was waiting for it was never told yes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
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
        let mut reader = BufReader::new(&mut file);
        let (mut facts, mut whole, mut number, mut line) = (Vec::new(), 0_u64, 0, Vec::new());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(fail("read"))?;
            number += 1;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
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
        drop(reader);
        file.set_len(whole).map_err(fail("mend"))?;
        file.seek(SeekFrom::End(0)).map_err(fail("read"))?;
        Ok((Self { file, path: path.to_owned(), whole, fact: PhantomData }, facts))
    }

    /// Appends one fact; it is durable when this returns.
    pub fn append(&mut self, fact: &Fact) -> Result<(), JournalError> {
        let mut line = serde_json::to_vec(fact).map_err(|error| JournalError::Unreadable {
            line: 0,
            path: self.path.clone(),
            message: error.to_string(),
        })?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.whole += line.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Half a line would swallow the next one. If even this fails, the next opening cuts it.
                let _mended = self.file.set_len(self.whole);
                Err(JournalError::Io { action: "append to", path: self.path.clone(), source })
            }
        }
    }
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
    fn a_broken_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        fs::write(&path, "1\nx\n3\n").unwrap();
        assert!(matches!(Journal::<u32>::open(&path), Err(JournalError::Unreadable { line: 2, .. })));
    }
}
