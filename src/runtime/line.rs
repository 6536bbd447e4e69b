//! Whether the terminal is still there.
//!
//! Its one surprise: a terminal that goes away without a hang-up signal, because it was never this session's own, reads
//! as empty for ever, and the key reader would turn round and round on that. The kernel tells of it through the descriptor.

use std::io::{self, Stdin};

use tokio::io::{Interest, unix::AsyncFd};

/// The terminal on standard input.
#[derive(Debug)]
pub(super) struct Line(Option<AsyncFd<Stdin>>);

impl Line {
    /// Watches it. What cannot be watched is never gone.
    pub(super) fn open() -> Self {
        #[expect(
            deprecated,
            reason = "the other one is unsafe, for descriptors that somebody may close: nobody closes this one"
        )]
        let line = AsyncFd::with_interest(io::stdin(), Interest::PRIORITY);
        Self(line.ok())
    }

    /// Waits until the terminal is gone.
    pub(super) async fn gone(&self) {
        let Some(line) = &self.0 else { return std::future::pending().await };
        while let Ok(mut ready) = line.ready(Interest::PRIORITY).await {
            if ready.ready().is_read_closed() {
                return;
            }
            ready.clear_ready();
        }
        std::future::pending::<()>().await;
    }
}
