//! The system calls of the file queue, one function each, in the order that survives a power cut.
//!
//! Knows paths and bytes, no tasks. Its one surprise: a failed sync is never tried again on the same descriptor, since
//! the kernel forgets the pages after reporting once; the file is removed and its bytes are written to a new one.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Advice, CWD, OFlags, RenameFlags},
    io::Errno,
};

use crate::queue::QueueError;

/// What tells one version of a file from another without reading it. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) mtime: i128,
    pub(super) ctime: i128,
    pub(super) inode: u64,
}

impl Stamp {
    pub(super) fn of(meta: &fs::Metadata) -> Self {
        Self {
            size: meta.size(),
            mtime: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            ctime: i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }

    /// All of it in one number, to be kept of very many files.
    pub(super) fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The stamp of what lies at `path` itself, a link not followed; `None` where there is nothing.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        Ok(absent_as_none(fs::symlink_metadata(path))?.map(|meta| Self::of(&meta)))
    }
}

/// What came of opening a path that anyone may have put there.
#[derive(Debug)]
pub(super) enum Opened {
    /// A regular file of at most the limit, its content and version; the file is still open.
    Whole { bytes: Vec<u8>, stamp: Stamp, file: File },
    /// Nothing there.
    Absent,
    /// A regular file over the limit, not read; its size in bytes.
    TooLarge(u64),
    /// A folder.
    Folder,
    /// Something that is not a file: `symlink to …`, `FIFO`, `socket`, `device`.
    Special(String),
}

/// Makes an error that names what was tried and on what.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> QueueError {
    let path = path.to_owned();
    move |source| QueueError::Io { action, path, source }
}

/// Whether the disk had no room for it.
pub(super) fn is_full(error: &QueueError) -> bool {
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(error, QueueError::Io { source, .. } if kinds.contains(&source.kind()))
}

/// Whether the disk failed in a way that it may not fail again.
pub(super) fn is_broken(error: &QueueError) -> bool {
    matches!(error, QueueError::Io { source, .. } if Errno::from_io_error(source) == Some(Errno::IO))
}

/// Turns "there is no such file" into `None`; every other error stays one.
pub(super) fn absent_as_none<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What kind of thing a non-regular path is, in words.
fn kind(path: &Path, meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).map_or_else(|_| "?".to_owned(), |t| t.to_string_lossy().into_owned());
        let target = crate::model::text::first_line(&target, 200);
        return format!("symlink to {target}");
    }
    match (kind.is_fifo(), kind.is_socket()) {
        (true, _) => "FIFO",
        (_, true) => "socket",
        _ => "device",
    }
    .to_owned()
}

/// Opens and reads a file without ever following a link or waiting for the other end of a FIFO.
pub(super) fn open_regular(path: &Path, limit: u64) -> io::Result<Opened> {
    let Some(meta) = absent_as_none(fs::symlink_metadata(path))? else { return Ok(Opened::Absent) };
    if meta.is_dir() {
        return Ok(Opened::Folder);
    }
    if !meta.is_file() {
        return Ok(Opened::Special(kind(path, &meta)));
    }
    // Between the look and the open somebody may swap the file: hence the flags, and the second look by descriptor.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let Some(file) = absent_as_none(opened)? else { return Ok(Opened::Absent) };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(Opened::Special(kind(path, &meta)));
    }
    if meta.len() > limit {
        return Ok(Opened::TooLarge(meta.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
    (&file).take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Ok(Opened::TooLarge(bytes.len() as u64));
    }
    Ok(Opened::Whole { bytes, stamp: Stamp::of(&meta), file })
}

/// Makes a folder and its parents; `private` ones are closed to others.
pub(super) fn make_folder(path: &Path, private: bool) -> Result<(), QueueError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    if private {
        builder.mode(0o700);
    }
    builder.create(path).map_err(failed("create", path))
}

/// Writes a new file without syncing it.
pub(super) fn write_unsynced(path: &Path, bytes: &[u8], private: bool) -> Result<File, QueueError> {
    let mode = if private { 0o600 } else { 0o666 };
    let attempt = || -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        Ok(file)
    };
    attempt().map_err(|error| {
        remove_quietly(path);
        failed("write", path)(error)
    })
}

/// Writes a new file and syncs it. Where the sync fails the bytes go to another new file, once; a second failure is the
/// caller's to hear.
pub(super) fn write_synced(path: &Path, bytes: &[u8], private: bool) -> Result<(), QueueError> {
    write_and_sync(path, bytes, private).or_else(|error| match error {
        QueueError::Io { action: "sync", .. } => write_and_sync(path, bytes, private),
        other => Err(other),
    })
}

fn write_and_sync(path: &Path, bytes: &[u8], private: bool) -> Result<(), QueueError> {
    let file = write_unsynced(path, bytes, private)?;
    file.sync_all().map_err(|error| {
        remove_quietly(path);
        failed("sync", path)(error)
    })
}

/// A new file on its way to the disk, gone again unless it gets its name.
///
/// What is begun together reaches the disk together: the first one that is waited for carries the others along.
pub(super) struct Draft {
    path: PathBuf,
    bytes: Vec<u8>,
    private: bool,
    /// `None` once it is durable.
    file: Option<File>,
}

impl Draft {
    /// Writes the file and has the disk begin with it.
    pub(super) fn begin(path: PathBuf, bytes: Vec<u8>, private: bool) -> Result<Self, QueueError> {
        let file = write_unsynced(&path, &bytes, private)?;
        // Only a hint: pages that are not needed any more are written out at once.
        let _begun = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        Ok(Self { path, bytes, private, file: Some(file) })
    }

    /// Waits until it is durable, under the name it has.
    pub(super) fn sync(&mut self) -> Result<(), QueueError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.sync_all().or_else(|_| {
            // As everywhere: a failed sync is not tried again, a new file is.
            remove_quietly(&self.path);
            write_and_sync(&self.path, &self.bytes, self.private)
        })
    }

    /// Waits until it is durable and gives it its name, never over another file; says whether it was first.
    pub(super) fn publish(mut self, name: &Path) -> Result<bool, QueueError> {
        self.sync()?;
        publish(&std::mem::take(&mut self.path), name)
    }

    /// The same over whatever has that name.
    pub(super) fn replace(mut self, name: &Path) -> Result<(), QueueError> {
        self.sync()?;
        replace(&std::mem::take(&mut self.path), name)
    }

    /// It has its name already, in a folder that gets its own.
    pub(super) fn stays(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            remove_quietly(&self.path);
        }
    }
}

/// Removes a file of ours that may already be gone; recovery removes what is left.
pub(super) fn remove_quietly(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "could not remove a half-written file");
    }
}

/// Renames without replacing; says whether the name was free. `Err` with `NotFound` where `from` is gone.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_new_by_link(from, to),
        Err(errno) => Err(errno.into()),
    }
}

/// The same where the file system knows no such rename: a link refuses a taken name too. A folder's rename refuses a
/// folder that holds anything, and ours always do.
fn rename_new_by_link(from: &Path, to: &Path) -> io::Result<bool> {
    if fs::symlink_metadata(from)?.is_dir() {
        return match fs::rename(from, to) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Ok(false)
            }
            Err(error) => Err(error),
        };
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Publishes a finished temporary under its final name, never over another file; says whether it was first. The
/// temporary is gone either way.
pub(super) fn publish(temporary: &Path, name: &Path) -> Result<bool, QueueError> {
    match rename_new(temporary, name) {
        Ok(true) => Ok(true),
        Ok(false) => {
            remove_quietly(temporary);
            Ok(false)
        }
        Err(error) => {
            remove_quietly(temporary);
            Err(failed("publish", name)(error))
        }
    }
}

/// Renames a finished temporary over `path`; it is gone either way.
pub(super) fn replace(temporary: &Path, path: &Path) -> Result<(), QueueError> {
    fs::rename(temporary, path).map_err(|error| {
        remove_quietly(temporary);
        failed("publish", path)(error)
    })
}

/// Makes the names in a folder durable. Unlike a file's bytes, names may be synced again after a failure: they lie in
/// the file system's own journal, which stops the whole file system when it loses one.
pub(super) fn sync_folder(path: &Path) -> Result<(), QueueError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// Makes a file that somebody has put there last, and its name; one that is gone needs nothing.
pub(super) fn make_last(path: &Path) -> Result<(), QueueError> {
    let Some(file) = absent_as_none(File::open(path)).map_err(failed("open", path))? else { return Ok(()) };
    file.sync_all().map_err(failed("sync", path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A file system that is to be synced after much was written to it. Opened before the first write: it hears only of
/// what fails from then on.
pub(super) struct FileSystem<'a> {
    path: &'a Path,
    folder: File,
}

impl<'a> FileSystem<'a> {
    /// The file system of a folder.
    pub(super) fn of(path: &'a Path) -> Result<Self, QueueError> {
        Ok(Self { path, folder: File::open(path).map_err(failed("open", path))? })
    }

    /// Makes everything written to it durable.
    pub(super) fn sync(&self) -> Result<(), QueueError> {
        rustix::fs::syncfs(&self.folder).map_err(|errno| failed("sync", self.path)(errno.into()))
    }
}

/// Names in a folder; none where there is no folder.
pub(super) fn names(path: &Path) -> Result<Vec<std::ffi::OsString>, QueueError> {
    let Some(entries) = absent_as_none(fs::read_dir(path)).map_err(failed("list", path))? else {
        return Ok(Vec::new());
    };
    entries.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<_>>().map_err(failed("list", path))
}

/// Names in a folder that are text; ours always are.
pub(super) fn text_names(path: &Path) -> Result<Vec<String>, QueueError> {
    Ok(names(path)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Locks a new lease for as long as the returned file is open. Whoever asks just now whether it [is held](is_held) is
/// waited for: nobody else can have it.
pub(super) fn new_lease(path: &Path) -> Result<File, QueueError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("create", path))?;
    file.lock().map_err(failed("lock", path))?;
    Ok(file)
}

/// Whether somebody holds the lease. A shared lock asks, so that two who ask at once do not take each other for the
/// holder.
pub(super) fn is_held(path: &Path) -> Result<bool, QueueError> {
    let Some(file) = absent_as_none(File::open(path)).map_err(failed("open", path))? else { return Ok(false) };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed("probe", path)(error)),
    }
}

/// Locks a lease again that its holder has let go; `None` while somebody holds it, or just asks whether it is held.
pub(super) fn take_lease(path: &Path) -> Result<Option<File>, QueueError> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    let Some(file) = absent_as_none(open).map_err(failed("open", path))? else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
    }
}

/// Whether there is a file; one that cannot be looked at is not there.
pub(super) fn is_there(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}

/// Waits for the lock on a folder; free again when the returned file is closed.
pub(super) fn lock_folder(path: &Path) -> Result<File, QueueError> {
    let folder = File::open(path).map_err(failed("open", path))?;
    folder.lock().map_err(failed("lock", path))?;
    Ok(folder)
}

/// A name made of safe bytes only: everything else becomes `%XX`, and it never starts with a dot.
pub(super) fn escaped(name: &OsStr) -> String {
    use std::{fmt::Write as _, os::unix::ffi::OsStrExt};
    let mut out = String::new();
    for (at, byte) in name.as_bytes().iter().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (at > 0 && *byte == b'.');
        if plain {
            out.push(char::from(*byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            break;
        }
    }
    // A name of 255 bytes would not leave room for the reason's suffix.
    out.truncate(200);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_never_replaces_and_says_so() {
        for rename in [rename_new, rename_new_by_link] {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            fs::write(path("a"), "a").unwrap();
            fs::write(path("b"), "b").unwrap();
            assert!(!rename(&path("a"), &path("b")).unwrap());
            assert_eq!(fs::read_to_string(path("b")).unwrap(), "b");
            assert!(rename(&path("a"), &path("c")).unwrap());
            assert_eq!(rename(&path("a"), &path("d")).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_lease_is_held_until_its_file_is_closed_and_asking_does_not_take_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        assert!(!is_held(&path).unwrap());
        let lease = new_lease(&path).unwrap();
        assert!(is_held(&path).unwrap() && is_held(&path).unwrap());
        drop(lease);
        assert!(!is_held(&path).unwrap());
    }

    #[test]
    fn a_new_lease_is_had_also_while_others_ask_for_it() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let (path, stop) = (dir.path().join("lease"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    is_held(&path).unwrap();
                }
            });
            let all: Result<(), QueueError> = (0..5_000).try_for_each(|_| {
                drop(new_lease(&path)?);
                fs::remove_file(&path).map_err(failed("remove", &path))
            });
            stop.store(true, Ordering::Relaxed);
            all.unwrap();
        });
    }

    #[test]
    fn an_escaped_name_leaves_no_byte_that_could_surprise() {
        assert_eq!(escaped(OsStr::new("caf\u{e9} 1.json")), "caf%C3%A9%201.json");
        assert_eq!(escaped(OsStr::new("..x")), "%2E.x");
    }
}
