//! The kernel's messages about names in folders: inotify, with nothing in between.
//!
//! Knows folders by number, no tasks. Its one surprise: it does not ask for opens and reads, unlike the usual
//! libraries. We look at every file ourselves, and a hundred thousand messages about that would cost more than the looking.

use std::{
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};

/// What is asked for.
const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ONLYDIR);

/// Bytes of messages read at once.
const BUFFER: usize = 64 * 1024;

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Closed by its writer, or renamed in.
    Whole,
    /// Renamed away.
    Left,
    /// Its owner, mode or times were changed.
    Touched,
    /// Made, written to or removed.
    Changed,
}

/// What the kernel said.
#[derive(Debug)]
pub(super) enum Message<'a> {
    /// In the folder of this number, to this name.
    Name(usize, &'a OsStr, Heard),
    /// Messages were lost.
    Lost,
}

/// A watch on some folders; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ears {
    /// The thread ends when the other end of its pipe is closed.
    _alive: OwnedFd,
}

impl Ears {
    /// Listens to these folders; each is known by its place in the list.
    pub(super) fn open(folders: &[PathBuf], tell: impl Fn(Message<'_>) + Send + 'static) -> io::Result<Self> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut known = Vec::with_capacity(folders.len());
        for folder in folders {
            known.push(inotify::add_watch(&kernel, folder, WANTED)?);
        }
        let (ended, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        thread::Builder::new().name("queue-ears".into()).spawn(move || {
            if let Err(error) = listen(&kernel, &ended, &known, &tell) {
                // The folders are still looked at now and then.
                tracing::error!(%error, "the kernel's watch has ended");
                tell(Message::Lost);
            }
        })?;
        Ok(Self { _alive: alive })
    }
}

fn listen(kernel: &OwnedFd, ended: &OwnedFd, known: &[i32], tell: &impl Fn(Message<'_>)) -> io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    loop {
        let mut ends = [PollFd::new(kernel, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut ends, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if !ends[1].revents().is_empty() {
            return Ok(());
        }
        let mut reader = Reader::new(kernel, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let flags = event.events();
                    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                        tell(Message::Lost);
                    } else if let (Some(at), Some(name), Some(heard)) =
                        (known.iter().position(|wd| *wd == event.wd()), event.file_name(), heard(flags))
                    {
                        tell(Message::Name(at, OsStr::from_bytes(name.to_bytes()), heard));
                    }
                }
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn heard(flags: ReadFlags) -> Option<Heard> {
    if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
        Some(Heard::Whole)
    } else if flags.contains(ReadFlags::MOVED_FROM) {
        Some(Heard::Left)
    } else if flags.contains(ReadFlags::ATTRIB) {
        Some(Heard::Touched)
    } else {
        flags.intersects(ReadFlags::CREATE | ReadFlags::MODIFY | ReadFlags::DELETE).then_some(Heard::Changed)
    }
}
