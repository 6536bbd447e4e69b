//! When one of an attempt's logs has grown: the kernel's word (inotify), where it gives one; otherwise looking now and then.
//!
//! Its one surprise: a log that grows without end is looked at as often as its reader can, but no more than every
//! [`PAUSE`]: what is written meanwhile is one word.

use std::{io, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(30);
/// The longest, where the kernel says nothing.
const BLIND: Duration = Duration::from_millis(100);

/// Hears when logs grow.
#[derive(Debug)]
pub(super) struct Growth {
    ear: Option<AsyncFd<OwnedFd>>,
}

impl Growth {
    /// Listens to these logs.
    pub(super) fn of(logs: &[&Path]) -> Self {
        let ear = listen(logs).inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not tell when a log grows: it is looked at now and then");
        });
        Self { ear: ear.ok() }
    }

    /// Waits until there may be something to read, and not much longer than `limit`. Safe to drop half-way.
    pub(super) async fn wait(&self, limit: Duration) {
        sleep(PAUSE.min(limit)).await;
        let rest = limit.saturating_sub(PAUSE);
        match &self.ear {
            None => sleep(rest.min(BLIND)).await,
            Some(ear) => tokio::select! {
                () = word(ear) => {}
                () = sleep(rest) => {}
            },
        }
    }
}

fn listen(logs: &[&Path]) -> io::Result<AsyncFd<OwnedFd>> {
    let ear = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    for log in logs {
        inotify::add_watch(&ear, *log, WatchFlags::MODIFY)?;
    }
    #[expect(
        deprecated,
        reason = "the other one is unsafe, for descriptors that somebody may close: this one is owned"
    )]
    AsyncFd::with_interest(ear, Interest::READABLE)
}

/// Waits for a word and takes in all that have come.
async fn word(ear: &AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = ear.readable().await else { return std::future::pending().await };
        let mut words = [0; 1024];
        match rustix::io::read(ear.get_ref(), &mut words) {
            Ok(_) => return,
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(_) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write as _};

    use tokio::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_line_is_heard_of_when_it_is_written_and_silence_lasts_as_long_as_was_asked() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = OpenOptions::new().append(true).open(log.path()).unwrap();
        let growth = Growth::of(&[log.path()]);
        assert!(growth.ear.is_some());
        for _ in 0..2 {
            let begun = Instant::now();
            let (write, wait) = (async { writeln!(child, "a line").unwrap() }, growth.wait(LONG));
            tokio::join!(wait, write);
            assert!(begun.elapsed() < LONG / 2);
        }
        let begun = Instant::now();
        growth.wait(Duration::from_millis(150)).await;
        assert!(begun.elapsed() >= Duration::from_millis(150), "nothing was written");
    }

    #[tokio::test]
    async fn without_the_kernels_word_it_is_looked_at_now_and_then() {
        let growth = Growth::of(&[Path::new("/there/is/no/such/log")]);
        let begun = Instant::now();
        growth.wait(LONG).await;
        assert!(begun.elapsed() < LONG / 2);
    }
}
