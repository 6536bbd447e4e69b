//! The life that is lived again and again: every transition of the queue, and one line for each yes.
//!
//! It runs in a process of its own with two threads: this one, and the only one that makes file calls. It goes on after
//! an error as a room and its workers would: mend, try again, and give up after some tries.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use podium::{
    model::{Changes, Clock, Ending, Outcome, Spend, TaskRef, TaskSpec},
    queue::{
        Claim, Claimed, Finished, Lease as _, Queue, QueueError, Spawned, Submitted,
        file::{FileLease, FileQueue, Settings},
    },
};

use crate::outcome::plain;

/// How often a step is tried.
const TRIES: u32 = 4;

#[expect(clippy::disallowed_methods, reason = "the one clock of these tests, handed to the queue as a value")]
pub(super) fn clock() -> Clock {
    Clock::new(Timestamp::now)
}

/// Opens the queue of a stage as every process here does.
pub(super) fn open(stage: &Path) -> Result<FileQueue, QueueError> {
    let agents = vec!["marie".parse().unwrap()];
    FileQueue::open(Settings { attempts: 12, backoff: Vec::new(), ..Settings::new(stage, agents, clock()) })
}

pub(super) fn task(text: &str) -> TaskRef {
    text.parse().unwrap()
}

/// A result that names the attempt it belongs to.
pub(super) fn outcome(of: &TaskRef, n: u32) -> Outcome {
    plain(of, n, clock().now())
}

/// An error with its cause.
pub(super) fn words(error: &QueueError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How an attempt ends.
#[derive(Clone, Copy)]
enum End {
    Well,
    Badly,
    /// Its holder lets go of the lease and says nothing.
    Lost,
}

/// A life and its diary.
pub(super) struct Life {
    pub(super) queue: FileQueue,
    diary: File,
    /// It waits for a line from outside after each of its own.
    in_steps: bool,
}

impl Life {
    pub(super) fn new(queue: FileQueue, diary: PathBuf) -> Self {
        let diary = OpenOptions::new().create(true).append(true).open(diary).unwrap();
        Self { queue, diary, in_steps: std::env::var_os("PODIUM_TEST_STEPS").is_some() }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.diary, "{line}").unwrap();
        if self.in_steps {
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
    }

    fn refused(&mut self, what: &str, error: &QueueError) {
        self.say(&format!("refused {what}: {}", words(error)));
    }

    /// Everything a task can go through, on four tasks.
    pub(super) async fn live(mut self) {
        let (a, b, c, d) = (task("marie/a"), task("marie/b"), task("marie/c"), task("marie/d"));
        self.submit(&a).await;
        self.attempt(&a, End::Badly).await;
        self.attempt(&a, End::Well).await;
        self.retry(&a).await;
        self.attempt(&a, End::Well).await;
        self.submit_many(&[&b, &c, &d]).await;
        self.end(&b).await;
        self.attempt(&c, End::Lost).await;
        self.recover().await;
        self.attempt(&c, End::Well).await;
        self.attempt(&d, End::Well).await;
        self.say("the end");
    }

    async fn submit(&mut self, of: &TaskRef) {
        for _ in 0..TRIES {
            match self.queue.submit(TaskSpec::new(of.clone(), "first")).await {
                Ok(Submitted::New | Submitted::Exists) => return self.say(&format!("submitted {of}")),
                Ok(other) => self.say(&format!("refused submit: {other:?}")),
                Err(error) => self.refused("submit", &error),
            }
        }
    }

    async fn submit_many(&mut self, of: &[&TaskRef]) {
        for _ in 0..TRIES {
            let specs = of.iter().map(|of| TaskSpec::new((*of).clone(), "first")).collect();
            match self.queue.submit_many(specs).await {
                Ok(answers) => {
                    for (of, answer) in of.iter().zip(answers) {
                        match answer {
                            Submitted::New | Submitted::Exists => self.say(&format!("submitted {of}")),
                            other => self.say(&format!("refused submit: {other:?}")),
                        }
                    }
                    return;
                }
                Err(error) => self.refused("submit", &error),
            }
        }
    }

    async fn claim(&mut self, of: &TaskRef) -> Option<Claim<FileLease>> {
        for _ in 0..TRIES {
            match self.queue.claim(of).await {
                Ok(Claimed::Won(claim)) => {
                    self.say(&format!("started {of} {}", claim.n));
                    return Some(*claim);
                }
                Ok(Claimed::Missed(why)) => {
                    self.say(&format!("missed {of}: {why}"));
                    if why.contains("has ended") {
                        return None;
                    }
                    self.recover().await;
                }
                Err(error) => {
                    self.refused("claim", &error);
                    self.recover().await;
                }
            }
        }
        None
    }

    async fn attempt(&mut self, of: &TaskRef, end: End) {
        for _ in 0..TRIES {
            let Some(claim) = self.claim(of).await else { return };
            let n = claim.n;
            let note = Spawned { pid: 1, start_ticks: 1, boot_id: String::new(), session_id: None };
            if let Err(error) = self.queue.spawned(&claim.lease, &note).await {
                // As a worker does: the child is ended again, and the attempt with it.
                self.refused("spawned", &error);
            }
            std::fs::write(claim.lease.folder().join("out.log"), "said\n").ok();
            let answer = match end {
                End::Lost => return drop(claim),
                End::Well => self.queue.finish(claim.lease, outcome(of, n)).await.map(|answer| match answer {
                    Finished::Committed => format!("finished {of} {n}"),
                    Finished::AlreadyCommitted => format!("missed {of}: finished already"),
                }),
                End::Badly => {
                    let ending = Ending::ExitCode { code: 1, message: "no".to_owned() };
                    let failed = self.queue.fail(claim.lease, ending, Spend::default(), clock().now()).await;
                    failed.map(|()| format!("failed {of} {n}"))
                }
            };
            match answer {
                Ok(line) => return self.say(&line),
                Err(error) => {
                    self.refused("end", &error);
                    self.recover().await;
                }
            }
        }
    }

    async fn retry(&mut self, of: &TaskRef) {
        for _ in 0..TRIES {
            match self.queue.retry(of, Changes { description: Some("again".to_owned()), ..Changes::default() }).await {
                Ok(()) => return self.say(&format!("retried {of}")),
                Err(error) => self.refused("retry", &error),
            }
        }
    }

    async fn end(&mut self, of: &TaskRef) {
        for _ in 0..TRIES {
            match self.queue.end(of, Ending::Cancelled).await {
                Ok(Finished::Committed) => return self.say(&format!("ended {of}")),
                Ok(Finished::AlreadyCommitted) => return,
                Err(error) => self.refused("end", &error),
            }
        }
    }

    /// Mends, as a room does, and again when it could not.
    pub(super) async fn recover(&mut self) {
        for _ in 0..TRIES {
            match self.queue.recover().await {
                Ok(_) => return self.say("recovered"),
                Err(error) => self.refused("recover", &error),
            }
        }
    }
}
