//! The hands that read and search logs for the screen.
//!
//! Owns one thread that reads what the log view shows, and the search that runs. Must not know how either is shown. Its one
//! surprise: whoever asks anew ends what was asked before, in the middle of a file if need be; keys never wait.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    logs::{Extent, Found, Pattern, Stream, catalog, search},
    model::log::{LogHit, LogPart, LogSum},
    tui::{Ask, Search},
};

/// How often logs are looked at while they grow, and while they do not.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_SELDOM: Duration = Duration::from_millis(250);

/// Looks without news after which they are seldom.
const QUIET: u32 = 60;

/// Hits of one search at most.
const MOST_HITS: usize = 5_000;

/// A search tells how far it is each time it has read so much.
const TOLD: u64 = 16 << 20;

/// What a search tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    Hits(Vec<LogHit>),
    Read(u64),
    Ended(LogSum),
}

/// The thread that reads for the log view; it ends with this.
#[derive(Debug)]
pub(super) struct Eyes {
    asks: Sender<Option<Ask>>,
    newest: Arc<AtomicU64>,
}

impl Eyes {
    /// Starts the thread; `tell` is given what was read and says whether anybody listens.
    pub(super) fn open(stage: &Path, tell: impl Fn(u64, LogPart) -> bool + Send + 'static) -> std::io::Result<Self> {
        let (asks, asked) = channel();
        let newest = Arc::new(AtomicU64::new(0));
        let (stage, latest) = (stage.to_owned(), newest.clone());
        std::thread::Builder::new().name("logs".to_owned()).spawn(move || read(&stage, &asked, &latest, &tell))?;
        Ok(Self { asks, newest })
    }

    /// Reads this from now on, and nothing else.
    pub(super) fn read(&self, ask: Option<Ask>) {
        self.newest.store(ask.as_ref().map_or(0, |ask| ask.id), Ordering::Relaxed);
        // The thread ends after this does, unless it panicked; then the view stays as it is.
        let _gone = self.asks.send(ask);
    }
}

fn read(stage: &Path, asked: &Receiver<Option<Ask>>, newest: &AtomicU64, tell: &dyn Fn(u64, LogPart) -> bool) {
    let mut open: Option<(u64, Stream)> = None;
    let mut quiet = 0;
    loop {
        let wait = if quiet < QUIET { LOOK } else { LOOK_SELDOM };
        let next = match &open {
            Some(_) => asked.recv_timeout(wait),
            None => asked.recv().map_err(|_nobody| RecvTimeoutError::Disconnected),
        };
        let told = match next {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(None) => {
                open = None;
                continue;
            }
            Ok(Some(ask)) => {
                quiet = 0;
                if newest.load(Ordering::Relaxed) != ask.id {
                    continue;
                }
                let mut stream = match open.take() {
                    Some((_, stream)) if *stream.reading() == ask.reading => stream,
                    Some(_) | None => Stream::open(stage, ask.reading),
                };
                let part = stream.load(&ask.from, &|| newest.load(Ordering::Relaxed) != ask.id);
                open = Some((ask.id, stream));
                part.whole.then_some((ask.id, part))
            }
            Err(RecvTimeoutError::Timeout) => open.as_mut().and_then(|(id, stream)| {
                let part = stream.more(&|| newest.load(Ordering::Relaxed) != *id)?;
                Some((*id, part))
            }),
        };
        quiet = if told.is_some() { 0 } else { quiet.saturating_add(1) };
        if let Some((id, part)) = told
            && !tell(id, part)
        {
            return;
        }
    }
}

/// Searches until the end, until `stop`, or until nobody listens to `tell` any more.
pub(super) fn find(stage: &Path, asked: &Search, stop: &AtomicBool, tell: &(dyn Fn(News) -> bool + Sync)) {
    let Ok(pattern) = Pattern::new(&asked.pattern, false) else { return };
    let files = catalog::find(stage, &asked.scope, Extent::Everything);
    let told = AtomicU64::new(0);
    let sum = search::search(files, &pattern, MOST_HITS, stop, &|found| match found {
        Found::Hits(hits) => tell(News::Hits(hits)),
        Found::Read(bytes) => {
            let before = told.load(Ordering::Relaxed);
            let is_due = bytes >= before + TOLD;
            let mine = is_due && told.compare_exchange(before, bytes, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            !mine || tell(News::Read(bytes))
        }
    });
    if !stop.load(Ordering::Relaxed) {
        tell(News::Ended(sum));
    }
}
