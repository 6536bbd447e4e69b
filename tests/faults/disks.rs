//! Disks of our own: memory of a given size, and images that can be copied as a power cut would leave them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Whether we may mount. Without that a test is skipped at a desk and fails where CI is set.
pub(super) fn may_mount() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "mounting must be allowed in CI");
        println!("SKIPPED: needs root, to mount file systems");
    }
    may
}

/// Runs a tool to its end; what it says goes into the panic.
pub(super) fn run(tool: &str, args: &[&str]) {
    let ended = Command::new(tool).args(args).output().unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(ended.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// A mounted file system, gone with this value.
pub(super) struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// Mounts `source` with these options.
    pub(super) fn new(kind: &str, source: &str, options: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("podium-mount-").tempdir().unwrap();
        run("mount", &["-t", kind, "-o", options, source, folder.path().to_str().unwrap()]);
        Self { folder }
    }

    /// Memory.
    pub(super) fn memory(options: &str) -> Self {
        Self::new("tmpfs", "tmpfs", options)
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What its device counts of writes: how many have ended, and how many are under way.
    fn writes(&self) -> (u64, u64) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let place = self.path().to_str().unwrap();
        let device = mounts.lines().find_map(|line| line.split_once(' ').filter(|(_, rest)| rest.starts_with(place)));
        let name = device.unwrap().0.strip_prefix("/dev/").unwrap().to_owned();
        let counts = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        let counts: Vec<u64> = counts.split_whitespace().map(|count| count.parse().unwrap()).collect();
        (counts[4], counts[8])
    }

    /// Changes its options.
    pub(super) fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), self.path().to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that was killed a moment ago may still hold it.
        let path = self.path().to_str().unwrap();
        let ended = Command::new("umount").arg("-l").arg(path).status();
        assert!(std::thread::panicking() || ended.is_ok_and(|status| status.success()), "{path} stays mounted");
    }
}

/// A file that is a disk.
pub(super) struct Image {
    folder: tempfile::TempDir,
    kind: &'static str,
}

impl Image {
    /// An empty disk of this kind.
    pub(super) fn new(kind: &'static str) -> Self {
        let image = Self { folder: tempfile::Builder::new().prefix("podium-image-").tempdir().unwrap(), kind };
        let (size, quiet) = match kind {
            "ext4" => (32, "-q"),
            "btrfs" => (128, "-q"),
            _ => (320, "-q"),
        };
        fs::File::create(image.path()).unwrap().set_len(size << 20).unwrap();
        run(&format!("mkfs.{kind}"), &[quiet, image.path().to_str().unwrap()]);
        image
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Mounts it; what is not synced stays in memory for as long as the kernel lets it.
    pub(super) fn mount(&self) -> Mount {
        let options = if self.kind == "xfs" { "loop,nouuid" } else { "loop,commit=900" };
        Mount::new(self.kind, self.path().to_str().unwrap(), options)
    }

    /// What would be found after a power cut now: only what the disk was handed. Nobody may be writing; what the kernel
    /// still has under way for the last call is waited for, since a copy takes longer than a cut.
    pub(super) fn cut(&self, mount: &Mount) -> Self {
        let folder = tempfile::Builder::new().prefix("podium-image-").tempdir().unwrap();
        let copy = Self { folder, kind: self.kind };
        for _ in 0..1_000 {
            let before = mount.writes();
            run("cp", &["--sparse=always", self.path().to_str().unwrap(), copy.path().to_str().unwrap()]);
            if before.1 == 0 && mount.writes() == before {
                return copy;
            }
        }
        panic!("the disk is never at rest");
    }
}
