//! Whether a folder can keep what the queue promises: tried at every start, in every folder, before anything is trusted.
//!
//! Knows folders, no tasks. Its one surprise: FUSE is one name for many file systems, so what is mounted is looked up in
//! the mount table; only those that are known to be local are let through.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::Path,
};

use super::{disk, owner};

/// What lies under a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystem {
    /// A disk of this machine, by its name.
    Local(&'static str),
    /// Memory of this machine: gone when it restarts.
    Volatile(&'static str),
    /// Another machine's, by the name of the protocol.
    Network(String),
}

/// Why no room can be opened on a stage.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Nothing can be written.
    #[error(
        "{0}/ cannot be written to ({1}): a room has to write there. `podium`, `podium status`, `podium show` and \
         `podium logs` read what is there"
    )]
    ReadOnly(String, &'static str),
    /// Locks and names there are another machine's word.
    #[error("{0}/ is on a network file system ({1}). Run the control room on that server")]
    Network(String, String),
    /// It does not do what a file system must.
    #[error("{0}/ is on a file system that {1}")]
    Weak(String, &'static str),
    /// It could not be found out.
    #[error("could not {action} in {folder}/: {source}")]
    Unknown {
        /// What was tried.
        action: &'static str,
        /// Where.
        folder: String,
        /// Why not.
        source: io::Error,
    },
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(name) | Self::Volatile(name) => f.write_str(name),
            Self::Network(name) => f.write_str(name),
        }
    }
}

impl FileSystem {
    /// The file system that a folder, which must be there, lies on.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let kind = rustix::fs::statfs(folder)?.f_type;
        #[expect(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a magic number of 32 bits, signed on some machines"
        )]
        let magic = kind as u32;
        Ok(Self::named(magic, || mounted(&folder.canonicalize().ok()?)))
    }

    /// By the kernel's number for it, and by its name in the mount table where the number stands for many.
    fn named(magic: u32, mounted: impl FnOnce() -> Option<String>) -> Self {
        match magic {
            0x6969 => Self::Network("nfs".to_owned()),
            0x517b | 0xff53_4d42 | 0xfe53_4d42 => Self::Network("cifs".to_owned()),
            0x0102_1997 => Self::Network("9p".to_owned()),
            0x00c3_6400 => Self::Network("ceph".to_owned()),
            0x5346_414f => Self::Network("afs".to_owned()),
            0x6573_5546 => match mounted().as_deref() {
                Some("fuseblk") => Self::Local("a block device by FUSE"),
                Some("fuse.fuse-overlayfs") => Self::Local("fuse-overlayfs"),
                Some("virtiofs") => Self::Local("virtiofs"),
                other => Self::Network(other.unwrap_or("fuse").to_owned()),
            },
            0x0102_1994 | 0x8584_58f6 => Self::Volatile("tmpfs"),
            0xef53 => Self::Local("ext4"),
            0x9123_683e => Self::Local("btrfs"),
            0x5846_5342 => Self::Local("xfs"),
            0x794c_7630 => Self::Local("overlay"),
            0x2fc1_2fc1 => Self::Local("zfs"),
            0xf2f5_2010 => Self::Local("f2fs"),
            0xca45_1a4e => Self::Local("bcachefs"),
            _ => Self::Local("of a kind unknown to podium"),
        }
    }
}

/// The type of the mount that `path` lies in, as `/proc/self/mountinfo` has it.
fn mounted(path: &Path) -> Option<String> {
    type_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, path)
}

fn type_in(table: &str, path: &Path) -> Option<String> {
    let rows = table.lines().filter_map(|row| {
        let (mount, kind) = row.split_once(" - ")?;
        // Blanks in names are written as \040.
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&point).then(|| (point.len(), kind.split(' ').next().unwrap_or_default().to_owned()))
    });
    // The deepest mount point counts; of several at one place the last.
    rows.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Tries in `folder` everything the queue relies on, with files of its own that it removes again. `shown` is what the
/// folder is called.
pub(super) fn folder(folder: &Path, shown: &str) -> Result<(), Unfit> {
    let unknown = |action| {
        move |source: io::Error| match read_only(&source) {
            Some(why) => Unfit::ReadOnly(shown.to_owned(), why),
            None => Unfit::Unknown { action, folder: shown.to_owned(), source },
        }
    };
    if let FileSystem::Network(name) = FileSystem::of(folder).map_err(unknown("ask for the file system"))? {
        return Err(Unfit::Network(shown.to_owned(), name));
    }
    let paths = [(); 2].map(|()| folder.join(owner::temporary(".probe")));
    let tried = try_files(&paths).map_err(unknown("write, lock or rename"));
    for path in &paths {
        disk::remove_quietly(path);
    }
    if let Some(weakness) = tried? {
        return Err(Unfit::Weak(shown.to_owned(), weakness));
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unknown("make a name last"))
}

/// Whether a folder can be written to at all, for whoever has not made its folders yet.
pub(super) fn writable(folder: &Path, shown: &str) -> Result<(), Unfit> {
    let path = folder.join(owner::temporary(".probe"));
    let made = File::create_new(&path);
    disk::remove_quietly(&path);
    match made {
        Ok(_) => Ok(()),
        // A full disk is no reason not to look after what is there.
        Err(error) => unwritable(shown, &error).map_or(Ok(()), Err),
    }
}

/// What an error says of a folder, where it says that nothing may be written there.
pub(super) fn unwritable(shown: &str, error: &io::Error) -> Option<Unfit> {
    read_only(error).map(|why| Unfit::ReadOnly(shown.to_owned(), why))
}

/// Why nothing may be written, where that is what an error says.
fn read_only(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Some("the file system is read-only"),
        io::ErrorKind::PermissionDenied => Some("permission denied"),
        _ => None,
    }
}

/// Locks and renames; says what does not work as it must.
fn try_files([one, other]: &[std::path::PathBuf; 2]) -> io::Result<Option<&'static str>> {
    let file = match File::create_new(one) {
        Ok(file) => file,
        // A full disk is no weak one; it is looked at elsewhere.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    file.lock()?;
    if File::open(one)?.try_lock().is_ok() {
        return Ok(Some("lets two hold one lock"));
    }
    drop(File::create_new(other)?);
    if disk::rename_new(one, other)? {
        return Ok(Some("renames over a file it was told to keep"));
    }
    disk::remove_quietly(other);
    if !disk::rename_new(one, other)? || one.exists() || !other.exists() {
        return Ok(Some("does not rename"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        let of = |magic, mounted: &str| FileSystem::named(magic, || Some(mounted.to_owned()));
        assert_eq!(of(0x6969, ""), FileSystem::Network("nfs".to_owned()));
        assert_eq!(of(0xff53_4d42, ""), FileSystem::Network("cifs".to_owned()));
        assert_eq!(of(0x0102_1997, ""), FileSystem::Network("9p".to_owned()));
        assert_eq!(of(0x6573_5546, "fuse.sshfs"), FileSystem::Network("fuse.sshfs".to_owned()));
        assert_eq!(FileSystem::named(0x6573_5546, || None), FileSystem::Network("fuse".to_owned()));
        assert_eq!(of(0x6573_5546, "fuse.fuse-overlayfs"), FileSystem::Local("fuse-overlayfs"));
        assert_eq!(of(0xef53, ""), FileSystem::Local("ext4"));
        assert_eq!(of(0x0102_1994, ""), FileSystem::Volatile("tmpfs"));
        let said = Unfit::Network("tasks/marie".to_owned(), "nfs".to_owned()).to_string();
        assert_eq!(said, "tasks/marie/ is on a network file system (nfs). Run the control room on that server");
    }

    #[test]
    fn the_deepest_mount_point_names_the_file_system() {
        let table = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 0:30 / /mnt/my\\040disk rw - fuse.sshfs host: rw\n";
        assert_eq!(type_in(table, Path::new("/home")).as_deref(), Some("ext4"));
        assert_eq!(type_in(table, Path::new("/mnt/my disk/stage")).as_deref(), Some("fuse.sshfs"));
    }

    #[test]
    fn a_good_folder_passes_and_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path(), "here").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
