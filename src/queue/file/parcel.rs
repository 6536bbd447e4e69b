//! A task in one file, with all that its folders hold of it, and back to where each file lay.
//!
//! Owns what belongs to a task on disk: its file, attempts, results, markers, and the copies of what it made. Its one surprise:
//! times are kept to the nanosecond, because a task's age is its file's; archives as everybody knows them keep seconds.

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    FileQueue, attempts,
    derive::Place,
    disk::{self, failed},
    results,
    store::Store,
    trash::is_superseded,
};
use crate::{
    model::{Request, TaskRef},
    queue::QueueError,
};

/// The one shape there is so far.
const SCHEMA: u32 = 1;
/// The longest first line: as many files as any task has.
const LONGEST: u64 = 64 * 1024 * 1024;

/// The first line of a parcel; the files' bytes follow in this order.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    schema: u32,
    task: TaskRef,
    files: Vec<Packed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    /// Relative to the stage.
    path: PathBuf,
    bytes: u64,
    mode: u32,
    /// Since 1970.
    modified: Duration,
}

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parcel {
    /// How many files.
    pub files: usize,
    /// How many bytes they have.
    pub bytes: u64,
    /// Attempts up to this number are history.
    pub settled: u32,
}

impl FileQueue {
    /// Writes all that the folders hold of a task into one new file; `None` where they hold nothing of it.
    pub async fn pack(&self, task: &TaskRef, to: PathBuf) -> Result<Option<Parcel>, QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.pack(&task, &to)).await
    }

    /// Lays a parcel's files below `into`, each at its place relative to the stage.
    pub async fn unpack(&self, task: &TaskRef, parcel: PathBuf, into: PathBuf) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.unpack(&task, &parcel, &into)).await
    }

    /// Moves what was unpacked below `from` into the folders. What is there already was moved before.
    pub async fn put_in_place(&self, task: &TaskRef, from: PathBuf) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.put_in_place(&task, &from)).await
    }

    /// Moves all that the folders hold of a task below `aside`, each file at its place relative to that.
    pub async fn set_aside(&self, task: &TaskRef, aside: PathBuf) -> Result<(), QueueError> {
        let task = task.clone();
        self.blocking(move |store| store.take_aside(&task, &aside)).await
    }

    /// Makes everything written to the stage's disk durable.
    pub async fn sync(&self) -> Result<(), QueueError> {
        self.blocking(|store| disk::FileSystem::of(&store.layout.stage)?.sync()).await
    }
}

impl Store {
    /// The files of a task that are nobody else's.
    fn own_files(&self, task: &TaskRef) -> Result<Vec<PathBuf>, QueueError> {
        let mut files = Vec::new();
        walk(&self.layout.attempts(task), &mut files)?;
        let superseded = self.layout.superseded(&task.agent);
        let old = disk::text_names(&superseded)?;
        files.extend(old.iter().filter(|name| is_superseded(name, &task.id)).map(|name| superseded.join(name)));
        // When each line of a log was written lies beside its name for outsiders; the log itself is the attempt's.
        for n in attempts::numbers(&self.layout, task)? {
            let times = self.layout.stage.join(task.attempt(n).log()).with_extension("times");
            files.extend(Some(times).filter(|path| path.is_file()));
        }
        for name in results::names(&task.id) {
            if self.is_result_of(task, &name)? {
                files.push(self.layout.results(&task.agent).join(name));
            }
        }
        for request in [Request::Cancel, Request::Retry] {
            files.extend(Some(self.marker(task, request)).filter(|path| path.exists()));
        }
        // The task's own file last: while it lies there the task is known.
        files.extend(match self.place(task, true)? {
            Place::Inbox(name) => Some(self.layout.inbox(&task.agent).join(name)),
            Place::Claimed => Some(self.layout.claimed(task)),
            Place::Over(path) => Some(path),
            Place::Nowhere => None,
        });
        Ok(files)
    }

    /// Copies of what the task made; other tasks may have made the same.
    fn copies(&self, task: &TaskRef) -> Result<Vec<PathBuf>, QueueError> {
        let outcome = self.full_result_of(task)?;
        let kept = outcome.into_iter().flat_map(|outcome| outcome.artifacts).filter_map(|artifact| artifact.kept);
        let ours = kept.map(PathBuf::from).filter(|path| path.starts_with(".podium/runs") && is_plain(path));
        Ok(ours.map(|path| self.layout.stage.join(path)).filter(|path| path.is_file()).collect())
    }

    fn pack(&self, task: &TaskRef, to: &Path) -> Result<Option<Parcel>, QueueError> {
        self.known(&task.agent)?;
        let mut paths = self.own_files(task)?;
        if paths.is_empty() {
            return Ok(None);
        }
        paths.extend(self.copies(task)?);
        let mut files = Vec::with_capacity(paths.len());
        for path in &paths {
            let about = fs::symlink_metadata(path).map_err(failed("look at", path))?;
            let modified = about.modified().map_err(failed("look at", path))?;
            files.push(Packed {
                path: path.strip_prefix(&self.layout.stage).unwrap_or(path).to_owned(),
                bytes: about.len(),
                mode: about.permissions().mode() & 0o777,
                modified: modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            });
        }
        let parcel = Parcel {
            files: files.len(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            settled: attempts::load(&self.layout, task)?.settled,
        };
        let contents = Contents { schema: SCHEMA, task: task.clone(), files };
        disk::remove_quietly(to);
        let write = || -> io::Result<()> {
            let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
            serde_json::to_writer(&mut out, &contents)?;
            out.write_all(b"\n")?;
            for (path, file) in paths.iter().zip(&contents.files) {
                let copied = io::copy(&mut File::open(path)?.take(file.bytes), &mut out)?;
                if copied != file.bytes {
                    return Err(io::Error::other(format!("{} became shorter meanwhile", path.display())));
                }
            }
            Ok(())
        };
        write().map_err(failed("write", to))?;
        Ok(Some(parcel))
    }

    fn unpack(&self, task: &TaskRef, parcel: &Path, into: &Path) -> Result<(), QueueError> {
        let read = failed("read", parcel);
        let mut source = BufReader::new(File::open(parcel).map_err(failed("read", parcel))?);
        let mut line = Vec::new();
        source.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(failed("read", parcel))?;
        let contents: Contents = serde_json::from_slice(&line).map_err(|error| read(error.into()))?;
        let strange = |what: String| QueueError::Unsafe(format!("the parcel of {task} {what}"));
        if contents.schema != SCHEMA {
            return Err(strange(format!("was written by a newer podium (schema {})", contents.schema)));
        }
        if contents.task != *task {
            return Err(strange(format!("is {}'s", contents.task)));
        }
        for file in contents.files {
            if !self.may_hold(task, &file.path) {
                return Err(strange(format!("holds {}, which is no place of its own", file.path.display())));
            }
            let to = into.join(&file.path);
            if let Some(folder) = to.parent() {
                disk::make_folder(folder, true)?;
            }
            let mut write = || -> io::Result<()> {
                let mut out = OpenOptions::new().write(true).create_new(true).mode(file.mode & 0o777).open(&to)?;
                if io::copy(&mut source.by_ref().take(file.bytes), &mut out)? != file.bytes {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                // What the process's mask took away.
                out.set_permissions(fs::Permissions::from_mode(file.mode & 0o777))?;
                let modified = SystemTime::UNIX_EPOCH.checked_add(file.modified).unwrap_or(SystemTime::UNIX_EPOCH);
                out.set_times(FileTimes::new().set_modified(modified))
            };
            write().map_err(failed("write", &to))?;
        }
        Ok(())
    }

    /// Whether a parcel may bring such a file: a task's own places alone.
    fn may_hold(&self, task: &TaskRef, path: &Path) -> bool {
        let stage = &self.layout.stage;
        let relative = |full: PathBuf| PathBuf::from(self.layout.shown(&full));
        let logs = stage.join("logs").join(task.agent.as_str());
        let places =
            [self.layout.inbox(&task.agent), self.layout.results(&task.agent), logs, stage.join(".podium/runs")];
        is_plain(path) && places.into_iter().any(|place| path.starts_with(relative(place)))
    }

    fn put_in_place(&self, task: &TaskRef, from: &Path) -> Result<(), QueueError> {
        self.make_folders(&task.agent)?;
        let mut files = Vec::new();
        walk(from, &mut files)?;
        // What the room looks at first comes last.
        let inbox = from.join(self.layout.shown(&self.layout.inbox(&task.agent)));
        files.sort_by_key(|path| path.parent() == Some(&inbox));
        for path in files {
            let relative = path.strip_prefix(from).unwrap_or(&path);
            let to = self.layout.stage.join(relative);
            if let Some(folder) = to.parent() {
                disk::make_folder(folder, true)?;
            }
            let is_new = disk::rename_new(&path, &to).map_err(failed("move", &path))?;
            // A copy of the same content is as good.
            if !is_new && !relative.starts_with(".podium/runs") {
                return Err(QueueError::Unsafe(format!("{} is there already", self.layout.shown(&to))));
            }
        }
        for n in attempts::numbers(&self.layout, task)? {
            let attempt = task.attempt(n);
            let out = self.layout.attempt(&attempt).join("out.log");
            if out.exists() {
                attempts::show_log(&out, &self.layout.stage.join(attempt.log()));
            }
        }
        disk::absent_as_none(fs::remove_dir_all(from)).map_err(failed("remove", from)).map(drop)
    }

    fn take_aside(&self, task: &TaskRef, aside: &Path) -> Result<(), QueueError> {
        let numbers = attempts::numbers(&self.layout, task)?;
        for path in self.own_files(task)? {
            let to = aside.join(path.strip_prefix(&self.layout.stage).unwrap_or(&path));
            if let Some(folder) = to.parent() {
                disk::make_folder(folder, true)?;
            }
            self.forget(&path);
            disk::absent_as_none(fs::rename(&path, &to)).map_err(failed("move", &path))?;
        }
        for n in numbers {
            disk::remove_quietly(&self.layout.stage.join(task.attempt(n).log()));
        }
        let folder = self.layout.attempts(task);
        disk::absent_as_none(fs::remove_dir_all(&folder)).map_err(failed("remove", &folder)).map(drop)
    }
}

/// Every file below a folder, in order.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), QueueError> {
    let Some(entries) = disk::absent_as_none(fs::read_dir(folder)).map_err(failed("list", folder))? else {
        return Ok(());
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed("list", folder))?.path());
    }
    paths.sort();
    for path in paths {
        let about = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
        if about.is_dir() {
            walk(&path, files)?;
        } else if about.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a path stays below where it is joined to.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}
