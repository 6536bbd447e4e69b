//! The logs as they were at a moment: a folder that holds as much of each as had been written by then.
//!
//! Its one surprise: it is a folder like a stage's, so that everything which reads, follows and searches logs works on it
//! unchanged; the time comes from what the worker noted beside each log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::logs::written;

/// A folder with logs up to a moment.
#[derive(Debug)]
pub struct Reel {
    /// Where the run's own files are.
    from: PathBuf,
    dir: tempfile::TempDir,
    logs: Vec<PathBuf>,
}

impl Reel {
    /// The logs below `from`, none of them written yet.
    pub fn open(from: &Path) -> io::Result<Self> {
        let mut logs = Vec::new();
        for agent in entries(&from.join("logs")).into_iter().filter(|path| path.is_dir()) {
            logs.extend(entries(&agent).into_iter().filter(|path| path.extension().is_some_and(|end| end == "log")));
        }
        let logs: Vec<_> = logs.iter().filter_map(|log| Some(log.strip_prefix(from).ok()?.to_owned())).collect();
        let dir = tempfile::Builder::new().prefix("podium-replay-").tempdir()?;
        Ok(Self { from: from.to_owned(), dir, logs })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Begins anew, in another folder: whoever reads the former one never sees it shrink.
    pub fn rewound(&self) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("podium-replay-").tempdir()?;
        Ok(Self { from: self.from.clone(), dir, logs: self.logs.clone() })
    }

    /// Adds what was written until then.
    pub fn until(&self, at: Timestamp) -> io::Result<()> {
        for log in &self.logs {
            let (from, to) = (self.from.join(log), self.path().join(log));
            let wanted = written(&from, at)?;
            let there = fs::metadata(&to).map_or(0, |meta| meta.len());
            if wanted <= there {
                continue;
            }
            if there == 0 {
                if let Some(folder) = to.parent() {
                    fs::create_dir_all(folder)?;
                }
                // The times of what has not been written yet are of no harm.
                let times = from.with_extension("times");
                if times.is_file() {
                    fs::copy(&times, to.with_extension("times"))?;
                }
            }
            let mut source = File::open(&from)?;
            source.seek(SeekFrom::Start(there))?;
            let mut part = io::Read::take(source, wanted - there);
            io::copy(&mut part, &mut OpenOptions::new().append(true).create(true).open(&to)?)?;
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}
